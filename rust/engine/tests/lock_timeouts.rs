//! How long a session waits for a lock that a suspended process holds: until the lock timeout is
//! over, and only once for all queued appends.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails loudly"
)]

mod support;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use eventbraid_engine::Error;
use eventbraid_engine::vfs::sim::SimVfs;
use eventbraid_engine::vfs::{Hold, LockFile, Vfs};
use support::shared::{WRITER, page, shared};
use support::{ROOT, append, open_with, options, prepared, threaded};

/// Acquire a lock of the store as a process that is then stopped.
fn stopped_holder(disk: &SimVfs, name: &str) -> Arc<dyn LockFile> {
    let path = Path::new(ROOT).join("locks").join(name);
    let lock = disk.open_lock(&path, false).unwrap();
    assert!(lock.try_lock(Hold::Exclusive).unwrap());
    lock
}

#[test]
fn appends_wait_for_a_stopped_writer_until_the_timeout() {
    for number in [0, 1, 240, 241, u64::MAX / 32, u64::MAX - 1, u64::MAX] {
        let disk = SimVfs::memory();
        let store = open_with(disk.clone(), shared(options())).unwrap();
        page(&disk).store(WRITER, number);
        let stopped = stopped_holder(&disk, "write.lock");
        let refused = append(&store, &[("s", b"first")]);
        assert!(
            matches!(refused, Err(Error::StoreBusy { .. })),
            "{number}: {refused:?}"
        );
        drop(stopped);
        append(&store, &[("s", b"first")]).unwrap();
    }
}

/// The queue waits for a stopped process once, however many appends need the next segment.
#[test]
fn queued_appends_wait_for_a_stopped_process_once() {
    const APPENDS: usize = 200;
    let disk = SimVfs::memory();
    let _other = open_with(disk.clone(), shared(options())).unwrap();
    let store = open_with(disk.clone(), shared(threaded())).unwrap();
    append(&store, &[("s", &[b'x'; 9000])]).unwrap();
    let _stopped = stopped_holder(&disk, "sync.lock");
    let (sender, answers) = std::sync::mpsc::channel();
    let began = Instant::now();
    for _ in 0..APPENDS {
        let sender = sender.clone();
        let done = move |result| sender.send(result).unwrap();
        store.submit(prepared("s", &[b'x'; 9000]), Box::new(done));
    }
    for _ in 0..APPENDS {
        let answer = answers.recv_timeout(Duration::from_mins(1)).unwrap();
        assert!(
            matches!(
                answer,
                Err(Error::StoreBusy { .. } | Error::OutcomeUnknown { .. })
            ),
            "{answer:?}"
        );
    }
    let waited = began.elapsed();
    // One wait for each of them would take twice as long.
    assert!(waited < Duration::from_secs(20), "{waited:?}");
}

#[test]
fn zero_timeout_still_acquires_a_free_lock() {
    let disk = SimVfs::memory();
    let mut without_timeout = shared(options());
    without_timeout.lock_timeout = Duration::ZERO;
    let a = open_with(disk.clone(), without_timeout).unwrap();
    let b = open_with(disk.clone(), without_timeout).unwrap();
    append(&a, &[("s", b"first")]).unwrap();
    let stopped = stopped_holder(&disk, "write.lock");
    for store in [&a, &b] {
        let refused = append(store, &[("s", b"second")]);
        assert!(
            matches!(refused, Err(Error::StoreBusy { .. })),
            "{refused:?}"
        );
    }
    drop(stopped);
    append(&b, &[("s", b"second")]).unwrap();
    append(&a, &[("s", b"third")]).unwrap();
}
