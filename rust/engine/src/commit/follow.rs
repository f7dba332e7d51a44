//! Read the frames that other sessions have written, in log order.

use std::sync::Arc;

use super::written_log::{Tail, WrittenFrame, WrittenLog};
use crate::coord::LogPoint;
use crate::error::{Error, Result};
use crate::frame::FrameView;
use crate::index::FrameEntry;
use crate::live::LiveLog;
use crate::log::{FrameScanner, Segment};
use crate::recovery::describe;

/// Called with each frame and its index entry.
pub(super) type EachFrame<'a> = dyn FnMut(&FrameView<'_>, &FrameEntry) + 'a;

/// Read all frames up to `to`, an end of the log that another session has published in the shared
/// page. Return an error if the frames do not lead to that end.
pub(super) fn follow(
    log: &LiveLog,
    written: &mut WrittenLog,
    to: &LogPoint,
    each: &mut EachFrame<'_>,
) -> Result<()> {
    if log.segments.of_ordinal(to.ordinal).is_none() {
        log.segments.refresh(to.ordinal)?;
    }
    while written.tail.address < to.address {
        let segment = Arc::clone(&written.tail.segment);
        follow_segment(log, written, &segment, to, each)?;
        if written.tail.address < to.address {
            written.tail = next_segment_start(log, written, to)?;
        }
    }
    if written.end_point() != *to {
        return Err(contradiction(
            log,
            written,
            "the end of the log that it records does not match the last frame",
        ));
    }
    Ok(())
}

/// Read the frames of one segment. Stop at `to`, or earlier at the first frame that does not
/// continue the chain.
fn follow_segment(
    log: &LiveLog,
    written: &mut WrittenLog,
    segment: &Segment,
    to: &LogPoint,
    each: &mut EachFrame<'_>,
) -> Result<()> {
    let end = to.address.min(segment.end());
    let mut scanner = FrameScanner::up_to(segment, end);
    let mut address = written.tail.address;
    while address < end {
        let read = scanner.frame(address, log.seed);
        let Ok(frame) = read.map_err(|e| segment.error("read", &e))? else {
            return Ok(());
        };
        let header = *frame.header();
        if header.previous_chain != written.tail.chain
            || header.first_position != written.tail.next_position
        {
            return Ok(());
        }
        let mut entry = FrameEntry::default();
        describe(&frame, address, &log.hasher, &mut entry);
        each(&frame, &entry);
        written.ends_in_marker = frame.is_sync_marker() && header.durable_hint == address;
        address = entry.end();
        written.tail.address = address;
        written.tail.next_position = header.next_position();
        written.tail.chain = frame.chain();
        written.end = address;
        written.commit_time = header.commit_time;
        let chain = frame.chain();
        written.unsynced.push_back(WrittenFrame { entry, chain });
    }
    Ok(())
}

/// Return the start of the next segment. Return an error if this session finds no next segment, or
/// if that segment begins after `to`.
fn next_segment_start(log: &LiveLog, written: &WrittenLog, to: &LogPoint) -> Result<Tail> {
    let next = written.tail.segment.entry.ordinal + 1;
    match log.segments.of_ordinal(next) {
        Some(segment) if segment.first_frame() <= to.address => Ok(Tail {
            address: segment.first_frame(),
            segment,
            ..written.tail
        }),
        _ => Err(contradiction(
            log,
            written,
            "the end of the log that it records is beyond the last frame",
        )),
    }
}

fn contradiction(log: &LiveLog, written: &WrittenLog, reason: &str) -> Error {
    let address = written.tail.address;
    let reason = format!("{reason} (the frames were read up to address {address})");
    log.coord.detached(&reason)
}
