//! The sync marker at the end of an idle log.

use std::time::Duration;

use super::background_tasks::BackgroundTasks;
use super::preallocation::Preallocation;
use super::prepare::Prepared;
use super::request::Request;
use super::shared_writer::SharedWriter;
use crate::append::Appended;
use crate::error::Result;

/// Time for which the log must be idle before a sync marker is written at its end.
const IDLE_TIME: Duration = Duration::from_millis(50);

/// Append a sync marker once the log is idle. The durable hint of the marker covers all commits
/// before it, so that the next recovery needs no other proof that those commits are durable.
pub(super) fn append_when_idle(
    tasks: &BackgroundTasks,
    writer: &SharedWriter,
    preallocation: &Preallocation,
    append: impl Fn(Request),
) {
    let mut before = None;
    while writer.may_need_marker() && tasks.pause(IDLE_TIME) {
        let now = writer.unmarked_end();
        // The log was idle only if its end is the same as before the pause.
        if now.is_some() && now == before {
            let answered = Box::new(|_: Result<Appended>| ());
            append(Request::new(Prepared::sync_marker(), answered));
        }
        if preallocation.preallocate().is_err() {
            return;
        }
        before = now;
    }
}
