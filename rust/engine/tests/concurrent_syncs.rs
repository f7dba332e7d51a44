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
use support::appends::{appending, durable, is_unknown};
use support::hook::{
    Asked, Flag, HookedVfs, MAINTAINER, Op, eio, lose_unsynced, temptation, until,
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
        HookedVfs::new(sim.clone(), move |asked| {
            if !armed.is_up() || !asked.is(Op::SyncData, FIRST) {
                return Ok(());
            }
            if syncs.fetch_add(1, Ordering::SeqCst) > 0 {
                return Ok(());
            }
            begun.raise();
            go.wait("the second append");
            lose_unsynced(&sim, asked.path);
            Err(eio())
        })
    };
    let store = open(vfs).unwrap();
    armed.raise();
    let first = appending(&store, "first", b"one");
    begun.wait("the first append's sync");
    let second = appending(&store, "second", b"two");
    until("both to be written", || store.stats().session.commits == 2);
    temptation();
    go.raise();
    let answers = [first.join().unwrap(), second.join().unwrap()];
    assert!(answers.iter().all(is_unknown), "{answers:?}");
    assert_eq!(
        syncs.load(Ordering::SeqCst),
        1,
        "a second sync succeeds without the data"
    );
    assert!(durable(&sim).is_empty());
}

#[test]
fn no_sync_follows_a_failed_sync() {
    for round in 0..250u32 {
        let failed = Flag::default();
        let (syncs, late) = (AtomicU64::new(0), Arc::new(AtomicU64::new(0)));
        let vfs = {
            let (failed, late) = (failed.clone(), Arc::clone(&late));
            HookedVfs::new(SimVfs::memory(), move |asked| {
                if !asked.is(Op::SyncData, FIRST) {
                    return Ok(());
                }
                if failed.is_up() {
                    late.fetch_add(1, Ordering::SeqCst);
                } else if syncs.fetch_add(1, Ordering::SeqCst) == 12 {
                    for _ in 0..(round % 50) * 20 {
                        std::hint::spin_loop();
                    }
                    failed.raise();
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
fn a_write_back_error_found_while_writing_zeros_fails_the_append_that_it_concerns() {
    // The kernel writes the pages of the append back on behalf of the other sync, and fails. It
    // reports the error once for each open file description.
    let sim = SimVfs::tracked(1);
    let [armed, written, failed] = [(); 3].map(|()| Flag::default());
    let heard = Arc::new(AtomicU64::new(0));
    let vfs = {
        let (sim, armed) = (sim.clone(), armed.clone());
        HookedVfs::new(sim.clone(), move |asked| {
            if !armed.is_up() {
                return Ok(());
            }
            let ahead = Asked::by(MAINTAINER);
            if asked.is(Op::Write, FIRST) && !ahead {
                written.raise();
            }
            if !asked.is(Op::SyncData, FIRST) {
                return Ok(());
            }
            if ahead && !failed.is_up() {
                written.wait("the append's write");
                lose_unsynced(&sim, asked.path);
                heard.store(asked.opening, Ordering::SeqCst);
                failed.raise();
                temptation();
                return Err(eio());
            }
            failed.wait("the failure");
            if heard.load(Ordering::SeqCst) == asked.opening {
                return Ok(());
            }
            Err(eio())
        })
    };
    let store = open_with(vfs, Options::default()).unwrap();
    armed.raise();
    let answer = append(&store, &[("a", b"one")]);
    assert!(is_unknown(&answer), "{answer:?}");
    assert!(durable(&sim).is_empty());
}

#[test]
fn rolling_back_a_write_consumes_no_error_of_another_append() {
    let sim = SimVfs::tracked(1);
    let [armed, leading, refused, zeroed] = [(); 4].map(|()| Flag::default());
    let in_sync = Arc::new(AtomicU64::new(0));
    let together = Flag::default();
    let vfs = {
        let (sim, armed, leading, together) = (
            sim.clone(),
            armed.clone(),
            leading.clone(),
            together.clone(),
        );
        HookedVfs::new(sim.clone(), move |asked| {
            if !armed.is_up() || !asked.path.ends_with(FIRST) {
                return Ok(());
            }
            if asked.op == Op::Write && Asked::by("second") {
                if refused.is_up() {
                    zeroed.raise();
                    return Ok(());
                }
                refused.raise();
                return Err(eio());
            }
            if asked.op != Op::SyncData {
                return Ok(());
            }
            if Asked::by("first") {
                in_sync.store(asked.opening, Ordering::SeqCst);
                leading.raise();
                zeroed.wait("the second append to undo its write");
                temptation();
                in_sync.store(0, Ordering::SeqCst);
                return Ok(());
            }
            if in_sync.load(Ordering::SeqCst) == asked.opening {
                together.raise();
                lose_unsynced(&sim, asked.path);
                return Err(eio());
            }
            Ok(())
        })
    };
    let store = open(vfs).unwrap();
    armed.raise();
    let first = appending(&store, "first", b"one");
    leading.wait("the first append's sync");
    let second = appending(&store, "second", b"two");
    let (first, second) = (first.join().unwrap(), second.join().unwrap());
    assert!(!together.is_up(), "two syncs of the file at a time");
    assert!(first.is_ok(), "{first:?}");
    assert!(matches!(second, Err(Error::Io { .. })), "{second:?}");
    assert_eq!(durable(&sim), ["one"]);
}

/// Hold the syncing thread at `moment`, and meanwhile request an answer that depends on the same
/// sync. Return whether the answer came early, and whether the head was below its version.
fn answered_while_held_at(moment: &'static str) -> (bool, bool) {
    let [armed, held, go] = [(); 3].map(|()| Flag::default());
    let vfs = {
        let [armed, held, go] = [&armed, &held, &go].map(Flag::clone);
        HookedVfs::new(SimVfs::tracked(1), move |asked| {
            if armed.is_up() && !held.is_up() && asked.is(Op::Moment, moment) {
                held.raise();
                go.wait("permission to continue");
            }
            Ok(())
        })
    };
    let store = open(vfs).unwrap();
    append(&store, &[("a", b"one")]).unwrap();
    armed.raise();
    let appending = appending(&store, "appending", b"two");
    held.wait(moment);
    let asking = {
        let store = store.clone();
        std::thread::spawn(move || {
            let expected = [("a", Expectation::NoStream)];
            let refused = append_expecting(&store, &[], &expected, None);
            let Err(Error::VersionConflict { failures }) = refused else {
                panic!("{refused:?}")
            };
            store.head().unwrap() < failures[0].actual
        })
    };
    temptation();
    let early = asking.is_finished();
    let behind_early = early.then(|| asking.join().unwrap());
    go.raise();
    assert_eq!(appending.join().unwrap().unwrap().last_position, Some(2));
    assert_eq!(store.head().unwrap(), 2);
    (early, behind_early.unwrap_or_default())
}

#[test]
fn the_head_is_never_below_an_answered_position() {
    for moment in ["durable", "indexed", "shown"] {
        let (_, behind) = answered_while_held_at(moment);
        assert!(!behind, "an answer at the moment {moment}");
    }
}

#[test]
fn no_answer_precedes_the_sync_that_it_depends_on() {
    for moment in ["durable", "indexed", "shown"] {
        let (early, _) = answered_while_held_at(moment);
        assert!(!early, "an answer at the moment {moment}");
    }
}
