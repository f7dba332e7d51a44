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
use support::hook::{Flag, HookedVfs, Op};
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

/// The lock timeout also applies to a store that another session is creating. That may take long: on
/// a slow disk, or if the process is suspended meanwhile.
#[test]
fn an_open_waits_for_a_session_that_creates_the_store() {
    let disk = SimVfs::memory();
    let is_creating = Flag::default();
    let slow = HookedVfs::new(disk.clone(), {
        let is_creating = is_creating.clone();
        move |call| {
            if call.is(Op::Create, "IDENTITY") {
                is_creating.set();
                std::thread::sleep(Duration::from_millis(800));
            }
            Ok(())
        }
    });
    let mut patient = shared(options());
    patient.lock_timeout = Duration::from_mins(1);
    let first = std::thread::spawn(move || open_with(slow, patient));
    is_creating.wait("the first file");
    let second = open_with(disk, patient).unwrap();
    append(&second, &[("s", b"event")]).unwrap();
    let first = first.join().unwrap().unwrap();
    append(&first, &[("s", b"event")]).unwrap();
}

/// The report of an exclusive session tells it from a session that is creating the store.
#[test]
fn an_open_of_a_store_that_is_open_exclusively_fails_soon() {
    let disk = SimVfs::memory();
    let _exclusive = open_with(disk.clone(), options()).unwrap();
    let mut patient = shared(options());
    patient.lock_timeout = Duration::from_mins(1);
    let began = Instant::now();
    let refused = open_with(disk, patient);
    assert!(
        matches!(refused, Err(Error::StoreBusy { .. })),
        "{refused:?}"
    );
    assert!(began.elapsed() < Duration::from_secs(30));
}
