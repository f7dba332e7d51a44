//! No answer is given, and no event is visible, before the bytes that it depends on are synced.
//!
//! Killing a process proves nothing about fsync, since the page cache survives it. Here the
//! operating system's file system runs under a recorder: for each acknowledgement, delivery,
//! conflict and replay, a sync of the right file must have begun after the bytes were written
//! and have returned without an error.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails loudly"
)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use eventbraid_engine::mutex::Mutex;
use eventbraid_engine::vfs::os::OsVfs;
use eventbraid_engine::vfs::sim::{Call, Operation, RecordingVfs, SimVfs};
use eventbraid_engine::{Error, Expectation, LogQuery, Options, SnapshotQuery, Store, StreamQuery};
use support::hook::{Flag, HookedVfs, Op};
use support::{append, append_expecting, bodies, log, open, options};

/// Return the unsynced operations whose loss would make an answer false. A removed manifest that
/// reappears does no harm, and the file with the name of the store's holder is only information.
fn harmful_if_lost(recorder: &RecordingVfs, answer: u64) -> Vec<Operation> {
    let mut operations = recorder.unsynced_at(answer);
    operations.retain(|o| o.call != Call::Remove && !o.path.ends_with("live.holder"));
    operations
}

#[test]
fn every_answer_follows_the_sync_of_its_bytes() {
    let directory = tempfile::tempdir().unwrap();
    let recorder = RecordingVfs::new(Arc::new(OsVfs::new()));
    let root = directory.path().join("store");
    let store = Store::open(Arc::new(recorder.clone()), &root, options()).unwrap();
    let body = vec![b'x'; 3000];
    let mut answers = Vec::new();
    for n in 0..40u32 {
        let key = format!("key-{n}");
        append_expecting(&store, &[("a", &body)], &[], Some(&key)).unwrap();
        answers.push(recorder.answer("committed"));
        let refused = append_expecting(&store, &[], &[("a", Expectation::NoStream)], None);
        assert!(matches!(refused, Err(Error::VersionConflict { .. })));
        answers.push(recorder.answer("conflict"));
        assert!(
            append_expecting(&store, &[("a", &body)], &[], Some(&key))
                .unwrap()
                .replayed
        );
        answers.push(recorder.answer("replay"));
        assert_eq!(log(&store).len() as u64, u64::from(n) + 1);
        answers.push(recorder.answer("delivered"));
    }
    assert!(
        store.stats().segments > 2,
        "the log must have several segments"
    );
    for answer in answers {
        let unsynced = harmful_if_lost(&recorder, answer);
        assert!(
            unsynced.is_empty(),
            "answer {answer} before the sync of {unsynced:?}"
        );
    }
}

#[test]
fn concurrent_appends_are_acknowledged_after_their_sync() {
    let directory = tempfile::tempdir().unwrap();
    let recorder = RecordingVfs::new(Arc::new(OsVfs::new()));
    let root = directory.path().join("store");
    let store = Store::open(Arc::new(recorder.clone()), &root, Options::default()).unwrap();
    let done = AtomicBool::new(false);
    let answers = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut seen = 0;
            loop {
                let ending = done.load(Ordering::SeqCst);
                let page = store
                    .read_log(&LogQuery {
                        after: seen,
                        ..LogQuery::all()
                    })
                    .unwrap();
                let at = recorder.answer("delivered");
                answers
                    .lock()
                    .extend(bodies(&page.events).into_iter().map(|body| (at, body)));
                seen = page.next;
                if ending {
                    return;
                }
                store.wait_beyond(seen, Duration::from_millis(10)).unwrap();
            }
        });
        let writers: Vec<_> = (0..6u32)
            .map(|thread| {
                let (store, recorder, answers) = (&store, &recorder, &answers);
                scope.spawn(move || {
                    for n in 0..25u32 {
                        let body = format!("<thread {thread} event {n}>");
                        append(store, &[(&format!("s-{}", n % 3), body.as_bytes())]).unwrap();
                        answers.lock().push((recorder.answer("committed"), body));
                    }
                })
            })
            .collect();
        for writer in writers {
            writer.join().unwrap();
        }
        done.store(true, Ordering::SeqCst);
        reader.join().unwrap();
    });
    let answers = answers.into_inner();
    assert_eq!(answers.len(), 300);
    for (at, body) in answers {
        assert!(recorder.write_of(body.as_bytes()).is_some());
        let unsynced = recorder.unsynced_at(at);
        let early = unsynced.iter().any(|o| {
            o.bytes
                .windows(body.len())
                .any(|window| window == body.as_bytes())
        });
        assert!(!early, "{body} was acknowledged before its sync");
    }
}

#[test]
fn a_commit_that_is_not_durable_is_visible_to_no_reader() {
    // Every sync waits while this flag is clear.
    let gate = Flag::default();
    gate.set();
    let vfs = {
        let gate = gate.clone();
        HookedVfs::new(SimVfs::tracked(1), move |call| {
            if call.op == Op::SyncData {
                gate.wait("permission to sync");
            }
            Ok(())
        })
    };
    let store = &open(vfs).unwrap();
    append(store, &[("a", b"durable")]).unwrap();
    gate.clear();
    std::thread::scope(|scope| {
        let writing = scope.spawn(|| append(store, &[("a", b"written")]));
        while store.stats().session.commits < 2 {
            std::thread::yield_now();
        }
        // Validated against the event that is not durable yet, so its answer must wait, too.
        let expected = [("a", Expectation::Exact(1))];
        let refused = scope.spawn(move || append_expecting(store, &[], &expected, None));
        std::thread::sleep(Duration::from_millis(50));
        let answered = writing.is_finished() || refused.is_finished();
        let query = SnapshotQuery::all(&[("a", 0)]);
        let seen = [
            store.head().unwrap(),
            store.version("a").unwrap(),
            log(store).len() as u64,
            store
                .read_stream(&StreamQuery::all("a"))
                .unwrap()
                .events
                .len() as u64,
            store.read_streams(&query).unwrap().events.len() as u64,
            store.wait_beyond(1, Duration::from_millis(20)).unwrap(),
        ];
        // Raised before the assertions: a failed assertion must not leave the threads waiting.
        gate.set();
        assert_eq!(seen, [1; 6]);
        assert!(!answered, "an answer came before its state was durable");
        assert_eq!(writing.join().unwrap().unwrap().first_position, Some(2));
        let refused = refused.join().unwrap();
        assert!(
            matches!(refused, Err(Error::VersionConflict { .. })),
            "{refused:?}"
        );
        assert_eq!(store.version("a").unwrap(), 2);
    });
}
