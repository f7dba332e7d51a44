//! A panic in any part of a commit poisons the store, and every waiting append gets a result.
//!
//! One thread commits for all. If it panics, the other threads are waiting for it: each of them
//! must get `OutcomeUnknown`, no later append may be accepted, and the files must open again. A
//! panic in a callback of the caller, or in the maintenance thread, stops nothing.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails loudly"
)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use eventbraid_engine::vfs::sim::{Persist, SimVfs};
use eventbraid_engine::{Depth, Error, Options, Store};
use support::appends::{Answers, is_unknown, with_and_without_threads};
use support::hook::{
    Flag, HookedCall, HookedVfs, LIMIT, MAINTAINER, Op, run_within_limit, wait_until,
};
use support::{append, bodies, log, open, open_with, options, prepared, threaded};

const FIRST: &str = "0000000001.hot";
const SECOND: &str = "0000000002.hot";
const SEGMENT: &str = ".hot";

/// Open a store with one commit, in which the next call `op` of a commit panics.
fn about_to_panic(sim: &SimVfs, op: Op, options: Options) -> Store {
    let armed = Arc::new(AtomicBool::new(false));
    let trap = Arc::clone(&armed);
    let vfs = HookedVfs::new(sim.clone(), move |call: HookedCall<'_>| {
        let commits = call.is(op, SEGMENT) && !HookedCall::is_in_thread(MAINTAINER);
        assert!(
            !(commits && trap.swap(false, Ordering::SeqCst)),
            "on purpose, during a commit"
        );
        Ok(())
    });
    let store = open_with(vfs, options).unwrap();
    append(&store, &[("a", b"before")]).unwrap();
    armed.store(true, Ordering::SeqCst);
    store
}

fn every_case(test: impl Fn(&SimVfs, Store) + Send + Copy + 'static) {
    for op in [Op::Write, Op::SyncData] {
        for options in [options(), threaded()] {
            let sim = SimVfs::tracked(1);
            let store = about_to_panic(&sim, op, options);
            run_within_limit(move || test(&sim, store));
        }
    }
}

fn is_stopped(error: &Error) -> bool {
    matches!(error, Error::OutcomeUnknown { .. } | Error::Poisoned { .. })
}

/// Append until the store refuses. One append may still succeed: the maintenance thread does not
/// panic, and may commit it together with the sync marker of an idle log.
fn refusal(store: &Store) -> Error {
    loop {
        if let Err(error) = append(store, &[("a", b"during")]) {
            return error;
        }
    }
}

#[test]
fn a_panic_during_a_commit_answers_every_append_and_stops_the_store() {
    every_case(|sim, store| {
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let store = store.clone();
                std::thread::spawn(move || refusal(&store))
            })
            .collect();
        for thread in threads {
            let error = thread.join().unwrap();
            assert!(is_stopped(&error), "{error}");
        }
        let error = append(&store, &[("a", b"after")]).unwrap_err();
        assert!(matches!(error, Error::Poisoned { .. }), "{error}");
        assert_eq!(bodies(&log(&store))[0], "before", "reads continue");
        let _poisoned = store.close();
        drop(store);
        let kept = bodies(&log(&open(sim.clone()).unwrap()));
        assert_eq!(kept[0], "before");
        assert!(kept[1..].iter().all(|body| body == "during"), "{kept:?}");
    });
}

#[test]
fn a_panic_during_a_commit_answers_every_submitted_append() {
    every_case(|_, store| {
        let mut stopped = false;
        while !stopped {
            let (sender, answers) = std::sync::mpsc::channel();
            for _ in 0..4 {
                let sender = sender.clone();
                let done = move |answer| sender.send(answer).unwrap();
                store.submit(prepared("a", b"during"), Box::new(done));
            }
            drop(sender);
            let answers: Vec<_> = answers.iter().collect();
            assert_eq!(answers.len(), 4);
            let mut errors = answers.iter().filter_map(|answer| answer.as_ref().err());
            stopped = errors.clone().next().is_some();
            assert!(errors.all(is_stopped));
        }
    });
}

#[test]
fn a_panic_in_an_append_callback_fails_no_other_append() {
    with_and_without_threads(|store, _| {
        let answers = Answers::default();
        store.submit(
            prepared("a", b"one"),
            Box::new(|_| panic!("on purpose, in an answer")),
        );
        wait_until("the first append", || store.head().unwrap() == 1);
        answers.submit(&store, 1, "a", b"two");
        append(&store, &[("a", b"three")]).unwrap();
        wait_until("the second answer", || answers.count() == 1);
        assert!(answers.take().remove(&1).unwrap().remove(0).is_ok());
        store.close().unwrap();
    });
}

#[test]
fn a_panic_in_a_wake_up_fails_no_append() {
    with_and_without_threads(|store, _| {
        let woken = Flag::default();
        let inner = woken.clone();
        let first = store.on_beyond(0, Box::new(|| panic!("on purpose, in a wake-up")));
        let second = store.on_beyond(0, Box::new(move || inner.set()));
        append(&store, &[("a", b"one")]).unwrap();
        woken.wait("the second wake-up");
        append(&store, &[("a", b"two")]).unwrap();
        assert_eq!(store.head().unwrap(), 2);
        drop((first, second));
        store.close().unwrap();
    });
}

/// Open a store whose file system panics once at a call that `at` selects, after it is armed.
fn panicking_at(
    options: Options,
    at: impl Fn(HookedCall<'_>) -> bool + Send + Sync + 'static,
) -> (SimVfs, Store, Flag, Flag) {
    let sim = SimVfs::tracked(1);
    let [armed, panicked] = [(); 2].map(|()| Flag::default());
    let vfs = {
        let (armed, panicked) = (armed.clone(), panicked.clone());
        HookedVfs::new(sim.clone(), move |call| {
            if armed.is_set() && !panicked.is_set() && at(call) {
                panicked.set();
                panic!("on purpose, in a call of the file system");
            }
            Ok(())
        })
    };
    let store = open_with(vfs, options).unwrap();
    (sim, store, armed, panicked)
}

/// Assert that every call reports the poison, and that the files contain a complete log.
fn is_poisoned_and_whole(sim: &SimVfs, store: &Store, context: &str) {
    let refused = append(store, &[("a", b"late")]);
    assert!(
        matches!(refused, Err(Error::Poisoned { .. })),
        "{context}: {refused:?}"
    );
    let waited = store.wait_beyond(99, LIMIT);
    assert!(
        matches!(waited, Err(Error::Poisoned { .. })),
        "{context}: {waited:?}"
    );
    let closed = store.close();
    assert!(
        matches!(closed, Err(Error::Poisoned { .. })),
        "{context}: {closed:?}"
    );
    for left in [sim.process_crash(), sim.power_cut(Persist::Nothing)] {
        let again = open(left).unwrap_or_else(|e| panic!("{context}: {e}"));
        let found = bodies(&log(&again));
        let whole = ["one", "two", "three"];
        assert!(
            !found.is_empty()
                && whole.starts_with(&found.iter().map(String::as_str).collect::<Vec<_>>()),
            "{context}: {found:?}"
        );
        append(&again, &[("a", b"continues")]).unwrap_or_else(|e| panic!("{context}: {e}"));
        again
            .verify(Depth::Full)
            .unwrap_or_else(|e| panic!("{context}: {e}"));
    }
}

/// Panic during an append, in its own thread or in one of the engine's: that append and one that
/// waits next to it get a result, and nothing is written afterwards.
fn panic_in_the_commit(op: Op, path: &'static str) {
    for options in [options(), threaded()] {
        let context = format!("{op:?} {path}, threads {}", options.background);
        let in_other_threads =
            move |call: HookedCall<'_>| call.is(op, path) && !HookedCall::is_in_thread(MAINTAINER);
        let (sim, store, armed, panicked) = panicking_at(options, in_other_threads);
        append(&store, &[("a", b"one")]).unwrap();
        armed.set();
        let answers = Answers::default();
        answers.submit(&store, 2, "a", b"two");
        let beside = {
            let store = store.clone();
            run_within_limit(move || append(&store, &[("a", b"three")]))
        };
        wait_until("the submitted append's answer", || answers.count() == 1);
        assert!(panicked.is_set(), "{context}");
        let answer = answers.take().remove(&2).unwrap().remove(0);
        for answer in [answer, beside] {
            let is_correct = matches!(
                answer,
                Err(Error::OutcomeUnknown { .. } | Error::Poisoned { .. })
            );
            assert!(is_correct, "{context}: {answer:?}");
        }
        is_poisoned_and_whole(&sim, &store, &context);
    }
}

#[test]
fn a_panic_in_the_write_phase_poisons_the_store_and_answers_every_append() {
    panic_in_the_commit(Op::Write, FIRST);
    panic_in_the_commit(Op::Moment, "publish");
}

#[test]
fn a_panic_in_the_sync_phase_poisons_the_store_and_answers_every_append() {
    panic_in_the_commit(Op::SyncData, FIRST);
    for moment in ["durable", "indexed", "visible"] {
        panic_in_the_commit(Op::Moment, moment);
    }
}

#[test]
fn a_panic_in_a_rollover_poisons_the_store_and_answers_every_append() {
    for (op, path) in [
        (Op::Create, SECOND),
        (Op::Rename, SECOND),
        (Op::Rename, "CURRENT"),
    ] {
        let context = format!("{op:?} {path}");
        let (sim, store, armed, panicked) = panicking_at(options(), move |call| call.is(op, path));
        append(&store, &[("a", b"one")]).unwrap();
        armed.set();
        let answer = {
            let store = store.clone();
            run_within_limit(move || append(&store, &[("a", &[b'x'; 14_000])]))
        };
        assert!(
            panicked.is_set() && is_unknown(&answer),
            "{context}: {answer:?}"
        );
        is_poisoned_and_whole(&sim, &store, &context);
    }
}

#[test]
fn a_panic_in_the_maintenance_thread_fails_no_append() {
    let calls = [
        (Op::Write, FIRST),
        (Op::SyncData, FIRST),
        (Op::Create, SECOND),
    ];
    for (op, path) in calls {
        let ahead =
            move |call: HookedCall<'_>| call.is(op, path) && HookedCall::is_in_thread(MAINTAINER);
        let mut options = Options::default();
        (options.first_segment, options.max_segment) = (2 << 20, 2 << 20);
        let (sim, store, armed, panicked) = panicking_at(options, ahead);
        armed.set();
        run_within_limit(move || {
            let fill = || append(&store, &[("a", &vec![b'x'; 700 << 10])]).unwrap();
            for _ in 0..2 {
                fill();
            }
            wait_until("the panic", || panicked.is_set());
            for _ in 0..4 {
                fill();
            }
            assert_eq!(store.stats().segments, 3, "{op:?} {path}");
            store.close().unwrap();
        });
        assert_eq!(log(&open(sim).unwrap()).len(), 6, "{op:?} {path}");
    }
}

#[test]
fn a_panic_while_a_sync_marker_is_written_poisons_the_store() {
    let marker =
        |call: HookedCall<'_>| call.is(Op::Write, FIRST) && HookedCall::is_in_thread(MAINTAINER);
    let mut options = threaded();
    options.zero_fill = false;
    let (sim, store, armed, panicked) = panicking_at(options, marker);
    append(&store, &[("a", b"one")]).unwrap();
    armed.set();
    wait_until("the sync marker", || panicked.is_set());
    wait_until("the poison", || {
        store.wait_beyond(1, Duration::ZERO).is_err()
    });
    is_poisoned_and_whole(&sim, &store, "a sync marker");
}
