//! A store that is closed while threads append: each append gets one true result, no file is
//! touched after the close, and no other session opens the store before the close has ended.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails loudly"
)]

mod support;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use eventbraid_engine::vfs::sim::SimVfs;
use eventbraid_engine::{Depth, Error, Options};
use support::appends::{Answers, spawn_append, spawn_close};
use support::hook::{
    Flag, HookedCall, HookedVfs, MAINTAINER, Op, let_other_threads_run, run_within_limit,
    wait_until,
};
use support::{append, bodies, log, open, open_with, options};

const FIRST: &str = "0000000001.hot";
const SECOND: &str = "0000000002.hot";
const THIRD: &str = "0000000003.hot";

#[test]
fn no_thread_touches_a_file_after_close() {
    let sim = SimVfs::tracked(1);
    let [begun, go, closed, late] = [(); 4].map(|()| Flag::default());
    let vfs = {
        let (begun, go, closed, late) = (begun.clone(), go.clone(), closed.clone(), late.clone());
        HookedVfs::new(sim.clone(), move |call| {
            if call.is(Op::Write, FIRST) && HookedCall::is_in_thread(MAINTAINER) {
                begun.set();
                go.wait("permission to write zeros");
            }
            if closed.is_set() {
                late.set();
            }
            Ok(())
        })
    };
    let store = open_with(vfs, Options::default()).unwrap();
    append(&store, &[("a", b"one")]).unwrap();
    begun.wait("zeros to be written ahead");
    let closing = spawn_close(&store);
    let_other_threads_run();
    let waited = !closing.is_finished();
    if waited {
        go.set();
    }
    closing.join().unwrap().unwrap();
    closed.set();
    // Beyond the zeros that were written before the close.
    let next = open(sim).unwrap();
    let body = vec![b'y'; 9000];
    for _ in 0..40 {
        append(&next, &[("a", &body)]).unwrap();
    }
    go.set();
    drop(store);
    let_other_threads_run();
    assert!(waited, "closed while zeros were being written");
    assert!(!late.is_set(), "a file was touched after the close");
    assert_eq!(next.verify(Depth::Full).unwrap().events, 41);
}

/// Close the store while a write batch rolls over to the next segment and requeues the appends
/// that do not fit into that segment either.
fn close_during_a_rollover(background: bool) {
    let sim = SimVfs::tracked(1);
    let [armed, writing, write, rolling] = [(); 4].map(|()| Flag::default());
    let [roll, closed, late] = [(); 3].map(|()| Flag::default());
    let vfs = {
        let [armed, writing, write, rolling] =
            [&armed, &writing, &write, &rolling].map(Flag::clone);
        let [roll, closed, late] = [&roll, &closed, &late].map(Flag::clone);
        HookedVfs::new(sim.clone(), move |call| {
            if closed.is_set() {
                late.set();
            }
            if !armed.is_set() || HookedCall::is_in_thread(MAINTAINER) {
                return Ok(());
            }
            if call.is(Op::Write, FIRST) && !writing.is_set() {
                writing.set();
                write.wait("the appends to be queued");
            }
            if call.is(Op::Create, SECOND) {
                rolling.set();
                roll.wait("the close to begin");
            }
            if call.is(Op::SyncData, SECOND) || call.is(Op::Write, THIRD) {
                let_other_threads_run();
            }
            Ok(())
        })
    };
    let mut options = options();
    (options.background, options.zero_fill) = (background, false);
    options.max_segment = 32 << 10;
    let store = open_with(vfs, options).unwrap();
    append(&store, &[("a", b"zero")]).unwrap();
    armed.set();
    let first = spawn_append(&store, "first", b"one");
    writing.wait("the first append's write");
    let answers = Answers::default();
    for number in [2, 3] {
        answers.submit(&store, number, "a", &vec![b'x'; 20_000]);
    }
    write.set();
    rolling.wait("the roll");
    let closing = spawn_close(&store);
    let_other_threads_run();
    roll.set();
    closing.join().unwrap().unwrap();
    closed.set();
    assert_eq!(first.join().unwrap().unwrap().first_position, Some(2));
    wait_until("both answers", || answers.count() == 2);
    drop(store);
    let_other_threads_run();
    assert!(!late.is_set(), "a file was touched after the close");
    for (number, mut answers) in answers.take() {
        assert_eq!(answers.len(), 1);
        assert_eq!(
            answers.remove(0).unwrap().first_position,
            Some(number + 1),
            "append {number}"
        );
    }
    assert_eq!(log(&open(sim).unwrap()).len(), 4);
}

#[test]
fn appends_requeued_by_a_rollover_are_committed_before_the_store_closes() {
    close_during_a_rollover(true);
}

#[test]
fn appends_requeued_by_a_rollover_are_committed_before_the_store_closes_without_threads() {
    close_during_a_rollover(false);
}

#[test]
fn a_closing_store_answers_each_append_once_and_correctly() {
    for round in 0..60u64 {
        let sim = SimVfs::tracked(round);
        let mut options = options();
        options.background = round % 2 == 0;
        let store = open_with(sim.clone(), options).unwrap();
        let (answers, requested) = (Answers::default(), AtomicU64::new(0));
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let (store, answers, requested) = (&store, &answers, &requested);
                scope.spawn(move || {
                    for number in (thread..).step_by(4) {
                        let size = usize::try_from(number * 997 % 7000).unwrap();
                        let mut body = format!("{number}|").into_bytes();
                        body.resize(body.len() + size, b'x');
                        requested.fetch_add(1, Ordering::SeqCst);
                        if thread == 0 {
                            answers.submit(store, number, "a", &body);
                            if number > 400 || store.version("a").is_err() {
                                return;
                            }
                            continue;
                        }
                        let answer = append(store, &[("a", &body)]);
                        let over = answer.is_err();
                        answers.record(number, answer);
                        if over {
                            return;
                        }
                    }
                });
            }
            std::thread::sleep(Duration::from_micros(round * 150));
            store.close().unwrap();
        });
        let requested = usize::try_from(requested.load(Ordering::SeqCst)).unwrap();
        wait_until("every answer", || answers.count() == requested);
        let kept = bodies(&log(&open(sim).unwrap()));
        let kept: Vec<&str> = kept.iter().map(|b| b.split('|').next().unwrap()).collect();
        let mut acknowledged = 0;
        for (number, answers) in answers.take() {
            assert_eq!(answers.len(), 1, "round {round}, append {number}");
            match &answers[0] {
                Ok(appended) => {
                    let position = usize::try_from(appended.first_position.unwrap()).unwrap();
                    assert_eq!(kept[position - 1], number.to_string(), "round {round}");
                    acknowledged += 1;
                }
                Err(Error::Closed) => {}
                Err(e) => panic!("round {round}, append {number}: {e}"),
            }
        }
        assert_eq!(kept.len(), acknowledged, "round {round}");
    }
}

#[test]
fn a_store_cannot_be_opened_while_it_is_closing() {
    let sim = SimVfs::tracked(1);
    let [armed, recording, go] = [(); 3].map(|()| Flag::default());
    let vfs = {
        let (armed, recording, go) = (armed.clone(), recording.clone(), go.clone());
        HookedVfs::new(sim.clone(), move |call| {
            if armed.is_set() && call.is(Op::Create, "MANIFEST") {
                recording.set();
                go.wait("permission to record the end");
            }
            Ok(())
        })
    };
    let store = open(vfs).unwrap();
    append(&store, &[("a", b"one")]).unwrap();
    armed.set();
    let first = spawn_close(&store);
    recording.wait("the close to record the end");
    let again = {
        let store = store.clone();
        run_within_limit(move || store.close())
    };
    let appended = append(&store, &[("a", b"two")]);
    let opened = open(sim.clone());
    go.set();
    first.join().unwrap().unwrap();
    again.unwrap();
    assert!(matches!(appended, Err(Error::Closed)), "{appended:?}");
    assert!(matches!(opened, Err(Error::StoreBusy { .. })), "{opened:?}");
    assert_eq!(bodies(&log(&open(sim).unwrap())), ["one"]);
}
