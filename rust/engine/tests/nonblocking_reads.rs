//! Reads on an event loop return `WouldBlock` before they open a segment or read a large page.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails loudly"
)]

mod support;

use eventbraid_engine::vfs::sim::SimVfs;
use eventbraid_engine::{Error, LogQuery, ReadMode, SnapshotQuery};
use support::shared::shared;
use support::{append, log, open, open_with, options};

#[test]
fn a_nonblocking_read_opens_no_segment() {
    let disk = SimVfs::memory();
    let a = open_with(disk.clone(), shared(options())).unwrap();
    let b = open_with(disk.clone(), shared(options())).unwrap();
    let mut non_blocking = LogQuery::all();
    non_blocking.mode = ReadMode::NonBlocking;
    append(&a, &[("s", &[b'x'; 9000])]).unwrap();
    assert_eq!(b.read_log(&non_blocking).unwrap().events.len(), 1);
    append(&a, &[("s", &[b'x'; 9000])]).unwrap();
    let result = b.read_log(&non_blocking);
    assert!(matches!(result, Err(Error::WouldBlock)), "{result:?}");
    b.catch_up(ReadMode::Blocking).unwrap();
    assert_eq!(b.read_log(&non_blocking).unwrap().events.len(), 2);
}

#[test]
fn a_nonblocking_read_refuses_a_large_read_batch() {
    let store = open(SimVfs::tracked(1)).unwrap();
    let body = vec![b'x'; 1024];
    for _ in 0..2 {
        append(&store, &vec![("bulk", &body[..]); 4096]).unwrap();
    }
    let page = store.read_log(&LogQuery {
        mode: ReadMode::NonBlocking,
        limit: 16,
        ..LogQuery::all()
    });
    assert!(matches!(page, Err(Error::WouldBlock)), "{page:?}");
    assert_eq!(log(&store).len(), 8192);
    let snapshot = SnapshotQuery {
        mode: ReadMode::NonBlocking,
        ..SnapshotQuery::all(&[("bulk", 7000)])
    };
    let found = store.read_streams(&snapshot);
    assert!(matches!(found, Err(Error::WouldBlock)), "{found:?}");
    let first = store.read_streams(&SnapshotQuery {
        limit: 64,
        ..snapshot
    });
    assert_eq!(first.unwrap().events.len(), 64);
}
