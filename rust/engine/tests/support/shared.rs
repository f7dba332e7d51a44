//! Shared sessions on a simulated disk, and the words of the page that they share.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use eventbraid_engine::vfs::sim::SimVfs;
use eventbraid_engine::vfs::{OpenMode, SharedPage, Vfs};
use eventbraid_engine::{Mode, Options};

use super::{ROOT, bodies, log, open};

/// The word that counts the publications of the log's end.
pub(crate) const TAIL_SEQUENCE: usize = 80;

/// The word that counts the publications of the durable end.
pub(crate) const DURABLE_SEQUENCE: usize = 112;

/// The words with the end of a write in progress, and with the number of its writer.
pub(crate) const DIRTY: usize = 56;

pub(crate) const WRITER: usize = 57;

/// The word with the version of the protocol.
pub(crate) const PROTOCOL: usize = 1;

/// The word with the kernel under which the page was created.
pub(crate) const KERNEL: usize = 7;

/// The word with the device of the page's file.
pub(crate) const DEVICE: usize = 9;

/// The number of words before the table of sessions.
pub(crate) const COORDINATION: usize = 512;

pub(crate) fn shared(mut options: Options) -> Options {
    options.mode = Mode::Shared;
    options.lock_timeout = Duration::from_millis(200);
    options
}

pub(crate) fn page(disk: &SimVfs) -> Arc<dyn SharedPage> {
    let path = Path::new(ROOT).join("coord.shm");
    disk.open_page(&path, OpenMode::ReadWrite).unwrap()
}

/// Assert that the log contains the acknowledged bodies in this order.
pub(crate) fn assert_kept(disk: &SimVfs, acknowledged: &[String], context: &str) {
    let store = open(disk.clone()).unwrap_or_else(|e| panic!("{context}: {e}"));
    let found = bodies(&log(&store));
    let mut rest = found.iter();
    for body in acknowledged {
        assert!(
            rest.any(|other| other == body),
            "{context}: {body} of {acknowledged:?} is not in {found:?}"
        );
    }
}
