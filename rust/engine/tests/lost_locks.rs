//! A session that loses a lock of the store, or whose lock files were deleted or replaced,
//! writes no more. No session joins with other lock files than those of the open sessions.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails loudly"
)]

mod support;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use eventbraid_engine::Error;
use eventbraid_engine::mutex::Mutex;
use eventbraid_engine::vfs::sim::SimVfs;
use eventbraid_engine::vfs::{Hold, LockFile, Vfs};
use support::lock_hook::LockedVfs;
use support::pair::{self, Pair};
use support::shared::shared;
use support::{ROOT, append, bodies, log, open_with, options, threaded};

/// `flock` converts an exclusive lock into a shared one in two steps, and an exclusive session may
/// get the lock between them.
#[test]
fn a_session_that_loses_its_lock_while_it_admits_another_writes_no_more() {
    let disk = SimVfs::memory();
    let intruder: Arc<Mutex<Option<Arc<dyn LockFile>>>> = Arc::default();
    let (taken, sim) = (Arc::clone(&intruder), disk.clone());
    let losing = LockedVfs::new(&disk, move |own, hold| {
        if hold == Hold::Shared && taken.lock().is_none() {
            own.unlock().unwrap();
            let lock = sim.open_lock(Path::new(ROOT), false).unwrap();
            assert!(lock.try_lock(Hold::Exclusive).unwrap());
            *taken.lock() = Some(lock);
        }
        None
    });
    let a = open_with(losing, shared(threaded())).unwrap();
    append(&a, &[("s", b"first")]).unwrap();
    let joined = open_with(disk.clone(), shared(options()));
    assert!(matches!(joined, Err(Error::StoreBusy { .. })), "{joined:?}");
    assert!(intruder.lock().is_some(), "the store was not to be shared");
    let refused = append(&a, &[("s", b"second")]);
    assert!(
        matches!(refused, Err(Error::Detached { .. })),
        "{refused:?}"
    );
    assert_eq!(bodies(&log(&a)), ["first"]);
}

#[test]
fn a_session_that_loses_its_lock_while_it_opens_is_refused() {
    let disk = SimVfs::memory();
    let intruder: Arc<Mutex<Option<Arc<dyn LockFile>>>> = Arc::default();
    let (taken, sim) = (Arc::clone(&intruder), disk.clone());
    let losing = LockedVfs::new(&disk, move |own, hold| {
        if hold == Hold::Shared && taken.lock().is_none() {
            own.unlock().unwrap();
            let lock = sim.open_lock(Path::new(ROOT), false).unwrap();
            assert!(lock.try_lock(Hold::Exclusive).unwrap());
            *taken.lock() = Some(lock);
        }
        None
    });
    let opened = open_with(losing, shared(options()));
    assert!(matches!(opened, Err(Error::StoreBusy { .. })), "{opened:?}");
}

/// No session writes, so only the waiting session checks the lock files.
#[test]
fn a_waiting_session_detects_a_deleted_lock_file() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("store");
    let pair = Pair::open(&root, Vec::new());
    std::fs::remove_file(root.join("locks/write.lock")).unwrap();
    let refused = pair.behind.wait_beyond(0, Duration::from_mins(1));
    assert!(
        matches!(refused, Err(Error::Detached { .. })),
        "{refused:?}"
    );
}

/// The locks of a session that opened other lock files would exclude none of the open sessions.
#[test]
fn a_session_with_other_lock_files_is_refused() {
    for name in ["boot", "write", "sync", "maint"] {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("store");
        let pair = Pair::open(&root, Vec::new());
        let lock = root.join(format!("locks/{name}.lock"));
        std::fs::remove_file(&lock).unwrap();
        std::fs::File::create(&lock).unwrap();
        let third = pair::open(&root);
        // The store is busy if an open session has already detected the replacement.
        assert!(
            matches!(third, Err(Error::Detached { .. } | Error::StoreBusy { .. })),
            "{name}: {third:?}"
        );
        // No session writes, and every session detects it nevertheless.
        for store in [&pair.ahead, &pair.behind] {
            let refused = store.wait_beyond(0, Duration::from_mins(1));
            assert!(
                matches!(refused, Err(Error::Detached { .. })),
                "{name}: {refused:?}"
            );
        }
        pair.open_again();
    }
}
