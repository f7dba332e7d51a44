//! A panic amid a commit stops the store, and nobody waits in vain.
//!
//! Where the thread that commits for all panics, others wait for it: they must be told that
//! nobody knows, no later append may be taken, and what is on disk must open again.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails loudly"
)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use eventbraid_engine::vfs::sim::SimVfs;
use eventbraid_engine::{Error, Options, Store};
use support::hook::{Asked, HookedVfs, MAINTAINER, Op, must_end};
use support::{append, bodies, log, open, open_with, options, prepared, threaded};

const SEGMENT: &str = ".hot";

/// A store with one commit, whose next call of this kind for a commit panics.
fn about_to_panic(sim: &SimVfs, op: Op, options: Options) -> Store {
    let armed = Arc::new(AtomicBool::new(false));
    let trap = Arc::clone(&armed);
    let vfs = HookedVfs::new(sim.clone(), move |asked: Asked<'_>| {
        let commits = asked.is(op, SEGMENT) && !Asked::by(MAINTAINER);
        assert!(
            !(commits && trap.swap(false, Ordering::SeqCst)),
            "on purpose, amid a commit"
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
            must_end(move || test(&sim, store));
        }
    }
}

fn is_stopped(error: &Error) -> bool {
    matches!(error, Error::OutcomeUnknown { .. } | Error::Poisoned { .. })
}

/// Appends until the store refuses: the thread that looks after the files is spared, and
/// may commit for others while it marks a log that has rested.
fn refusal(store: &Store) -> Error {
    loop {
        if let Err(error) = append(store, &[("a", b"amid")]) {
            return error;
        }
    }
}

#[test]
fn a_panic_amid_a_commit_leaves_nobody_waiting_and_stops_the_store() {
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
        assert_eq!(bodies(&log(&store))[0], "before", "reads go on");
        let _poisoned = store.close();
        drop(store);
        let kept = bodies(&log(&open(sim.clone()).unwrap()));
        assert_eq!(kept[0], "before");
        assert!(kept[1..].iter().all(|body| body == "amid"), "{kept:?}");
    });
}

#[test]
fn a_panic_amid_a_commit_answers_what_was_submitted() {
    every_case(|_, store| {
        let mut stopped = false;
        while !stopped {
            let (told, answers) = std::sync::mpsc::channel();
            for _ in 0..4 {
                let told = told.clone();
                let done = move |answer| told.send(answer).unwrap();
                store.submit(prepared("a", b"amid"), Box::new(done));
            }
            drop(told);
            let answers: Vec<_> = answers.iter().collect();
            assert_eq!(answers.len(), 4);
            let mut errors = answers.iter().filter_map(|answer| answer.as_ref().err());
            stopped = errors.clone().next().is_some();
            assert!(errors.all(is_stopped));
        }
    });
}
