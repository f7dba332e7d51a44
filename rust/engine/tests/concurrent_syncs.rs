//! Appends that wait for a sync of another thread: no result precedes the sync that it depends
//! on, and a failed sync fails every append that it covered.
//!
//! The kernel reports a write-back error once for each open file, so a second sync of the same
//! file succeeds without the lost data. Threads are held at chosen calls of the file system to
//! produce the orders in which one thread could consume an error that concerns another one.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails loudly"
)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use eventbraid_engine::vfs::sim::SimVfs;
use eventbraid_engine::{Error, Expectation, Options};
use support::appends::{durable_bodies, is_unknown, spawn_append};
use support::hook::{
    Flag, HookedCall, HookedVfs, MAINTAINER, Op, eio, let_other_threads_run, lose_unsynced,
    wait_until,
};
use support::{append, append_expecting, open, open_with, options};

const FIRST: &str = "0000000001.hot";

#[test]
fn an_append_that_waited_for_a_failed_sync_does_not_sync_again() {
    let sim = SimVfs::tracked(1);
    let [armed, begun, go] = [(); 3].map(|()| Flag::default());
    let syncs = Arc::new(AtomicU64::new(0));
    let vfs = {
        let (sim, armed, begun, go) = (sim.clone(), armed.clone(), begun.clone(), go.clone());
        let syncs = Arc::clone(&syncs);
        HookedVfs::new(sim.clone(), move |call| {
            if !armed.is_set() || !call.is(Op::SyncData, FIRST) {
                return Ok(());
            }
            if syncs.fetch_add(1, Ordering::SeqCst) > 0 {
                return Ok(());
            }
            begun.set();
            go.wait("the second append");
            lose_unsynced(&sim, call.path);
            Err(eio())
        })
    };
    let store = open(vfs).unwrap();
    armed.set();
    let first = spawn_append(&store, "first", b"one");
    begun.wait("the first append's sync");
    let second = spawn_append(&store, "second", b"two");
    wait_until("both to be written", || store.stats().session.commits == 2);
    let_other_threads_run();
    go.set();
    let answers = [first.join().unwrap(), second.join().unwrap()];
    assert!(answers.iter().all(is_unknown), "{answers:?}");
    assert_eq!(
        syncs.load(Ordering::SeqCst),
        1,
        "a second sync succeeds without the data"
    );
    assert!(durable_bodies(&sim).is_empty());
}

#[test]
fn no_sync_follows_a_failed_sync() {
    for round in 0..250u32 {
        let failed = Flag::default();
        let (syncs, late) = (AtomicU64::new(0), Arc::new(AtomicU64::new(0)));
        let vfs = {
            let (failed, late) = (failed.clone(), Arc::clone(&late));
            HookedVfs::new(SimVfs::memory(), move |call| {
                if !call.is(Op::SyncData, FIRST) {
                    return Ok(());
                }
                if failed.is_set() {
                    late.fetch_add(1, Ordering::SeqCst);
                } else if syncs.fetch_add(1, Ordering::SeqCst) == 12 {
                    for _ in 0..(round % 50) * 20 {
                        std::hint::spin_loop();
                    }
                    failed.set();
                    return Err(eio());
                }
                Ok(())
            })
        };
        let mut options = options();
        (options.first_segment, options.zero_fill) = (1 << 20, false);
        let store = open_with(vfs, options).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| while append(&store, &[("a", b"x")]).is_ok() {});
            }
        });
        let late = late.load(Ordering::SeqCst);
        assert_eq!(late, 0, "syncs after the failed one in round {round}");
    }
}

#[test]
fn a_write_back_error_reported_to_the_maintenance_thread_fails_the_append_that_it_concerns() {
    // The kernel writes the pages of the append back on behalf of the other sync, and fails. It
    // reports the error once for each open file description.
    let sim = SimVfs::tracked(1);
    let [armed, written, failed] = [(); 3].map(|()| Flag::default());
    let reported_to = Arc::new(AtomicU64::new(0));
    let vfs = {
        let (sim, armed) = (sim.clone(), armed.clone());
        HookedVfs::new(sim.clone(), move |call| {
            if !armed.is_set() {
                return Ok(());
            }
            let ahead = HookedCall::is_in_thread(MAINTAINER);
            if call.is(Op::Write, FIRST) && !ahead {
                written.set();
            }
            if !call.is(Op::SyncData, FIRST) {
                return Ok(());
            }
            if ahead && !failed.is_set() {
                written.wait("the append's write");
                lose_unsynced(&sim, call.path);
                reported_to.store(call.open_file, Ordering::SeqCst);
                failed.set();
                let_other_threads_run();
                return Err(eio());
            }
            failed.wait("the failure");
            if reported_to.load(Ordering::SeqCst) == call.open_file {
                return Ok(());
            }
            Err(eio())
        })
    };
    let store = open_with(vfs, Options::default()).unwrap();
    armed.set();
    let answer = append(&store, &[("a", b"one")]);
    assert!(is_unknown(&answer), "{answer:?}");
    assert!(durable_bodies(&sim).is_empty());
}

#[test]
fn rolling_back_a_write_consumes_no_error_of_another_append() {
    let sim = SimVfs::tracked(1);
    let [armed, leading, refused, zeroed] = [(); 4].map(|()| Flag::default());
    let in_sync = Arc::new(AtomicU64::new(0));
    let is_concurrent = Flag::default();
    let vfs = {
        let (sim, armed, leading, is_concurrent) = (
            sim.clone(),
            armed.clone(),
            leading.clone(),
            is_concurrent.clone(),
        );
        HookedVfs::new(sim.clone(), move |call| {
            if !armed.is_set() || !call.path.ends_with(FIRST) {
                return Ok(());
            }
            if call.op == Op::Write && HookedCall::is_in_thread("second") {
                if refused.is_set() {
                    zeroed.set();
                    return Ok(());
                }
                refused.set();
                return Err(eio());
            }
            if call.op != Op::SyncData {
                return Ok(());
            }
            if HookedCall::is_in_thread("first") {
                in_sync.store(call.open_file, Ordering::SeqCst);
                leading.set();
                zeroed.wait("the rollback of the second append");
                let_other_threads_run();
                in_sync.store(0, Ordering::SeqCst);
                return Ok(());
            }
            if in_sync.load(Ordering::SeqCst) == call.open_file {
                is_concurrent.set();
                lose_unsynced(&sim, call.path);
                return Err(eio());
            }
            Ok(())
        })
    };
    let store = open(vfs).unwrap();
    armed.set();
    let first = spawn_append(&store, "first", b"one");
    leading.wait("the first append's sync");
    let second = spawn_append(&store, "second", b"two");
    let (first, second) = (first.join().unwrap(), second.join().unwrap());
    assert!(!is_concurrent.is_set(), "two syncs of the file at a time");
    assert!(first.is_ok(), "{first:?}");
    assert!(matches!(second, Err(Error::Io { .. })), "{second:?}");
    assert_eq!(durable_bodies(&sim), ["one"]);
}

/// Hold the syncing thread at `moment`, and meanwhile request an answer that depends on the same
/// sync. Return whether the answer came early, and whether the head was below its version.
fn answer_while_paused_at(moment: &'static str) -> (bool, bool) {
    let [armed, held, go] = [(); 3].map(|()| Flag::default());
    let vfs = {
        let [armed, held, go] = [&armed, &held, &go].map(Flag::clone);
        HookedVfs::new(SimVfs::tracked(1), move |call| {
            if armed.is_set() && !held.is_set() && call.is(Op::Moment, moment) {
                held.set();
                go.wait("permission to continue");
            }
            Ok(())
        })
    };
    let store = open(vfs).unwrap();
    append(&store, &[("a", b"one")]).unwrap();
    armed.set();
    let appending = spawn_append(&store, "appending", b"two");
    held.wait(moment);
    let asking = {
        let store = store.clone();
        std::thread::spawn(move || {
            let expected = [("a", Expectation::NoStream)];
            let refused = append_expecting(&store, &[], &expected, None);
            let Err(Error::VersionConflict { failures, .. }) = refused else {
                panic!("{refused:?}")
            };
            store.head().unwrap() < failures[0].actual
        })
    };
    let_other_threads_run();
    let early = asking.is_finished();
    let behind_early = early.then(|| asking.join().unwrap());
    go.set();
    assert_eq!(appending.join().unwrap().unwrap().last_position, Some(2));
    assert_eq!(store.head().unwrap(), 2);
    (early, behind_early.unwrap_or_default())
}

#[test]
fn the_head_is_never_below_an_answered_position() {
    for moment in ["durable", "indexed", "visible"] {
        let (_, behind) = answer_while_paused_at(moment);
        assert!(!behind, "an answer at the moment {moment}");
    }
}

#[test]
fn no_answer_precedes_the_sync_that_it_depends_on() {
    for moment in ["durable", "indexed", "visible"] {
        let (early, _) = answer_while_paused_at(moment);
        assert!(!early, "an answer at the moment {moment}");
    }
}
