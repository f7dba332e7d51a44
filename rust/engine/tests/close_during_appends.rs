//! No lost, late or doubled answer, whoever runs when.
//!
//! Appenders, the two background threads, wake-ups and `close` share the log's end. Here they
//! are held in the order in which one could overtake another: a sync that fails while others
//! wait for it, an error that the kernel tells only one of them, zeros that are still being
//! written when the store is given to the next opener, a callback that calls back. Where no
//! call of the file system stands between the two, many rounds are run instead.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails loudly"
)]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use eventbraid_engine::lock::Mutex;
use eventbraid_engine::vfs::sim::{Call, Failure, Fault, Persist, SimVfs};
use eventbraid_engine::{Appended, Depth, Error, Expectation, Options, Store};
use support::hook::{
    Asked, Flag, HookedVfs, LIMIT, MAINTAINER, Op, eio, lose_unsynced, must_end, temptation, until,
};
use support::{
    append, append_expecting, bodies, log, open, open_with, options, prepared, threaded,
};

const FIRST: &str = "0000000001.hot";
const SECOND: &str = "0000000002.hot";
const THIRD: &str = "0000000003.hot";

type Answer = Result<Appended, Error>;

/// What submitted appends were answered, by their numbers.
#[derive(Clone, Debug, Default)]
struct Answers(Arc<Mutex<BTreeMap<u64, Vec<Answer>>>>);

impl Answers {
    fn submit(&self, store: &Store, number: u64, stream: &str, data: &[u8]) {
        let answers = self.clone();
        let done = move |answer| {
            answers.0.lock().entry(number).or_default().push(answer);
        };
        store.submit(prepared(stream, data), Box::new(done));
    }

    fn count(&self) -> usize {
        self.0.lock().values().map(Vec::len).sum()
    }

    fn taken(&self) -> BTreeMap<u64, Vec<Answer>> {
        std::mem::take(&mut *self.0.lock())
    }
}

fn appending(store: &Store, name: &str, body: &'static [u8]) -> JoinHandle<Answer> {
    let store = store.clone();
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || append(&store, &[("a", body)]))
        .unwrap()
}

fn closing(store: &Store) -> JoinHandle<Result<(), Error>> {
    let store = store.clone();
    std::thread::spawn(move || store.close())
}

/// The log's bodies after a loss of power that took all that was not synced.
fn durable(sim: &SimVfs) -> Vec<String> {
    bodies(&log(&open(sim.power_cut(Persist::Nothing)).unwrap()))
}

fn is_unknown(answer: &Answer) -> bool {
    matches!(answer, Err(Error::OutcomeUnknown { .. }))
}

#[test]
fn who_waited_for_a_sync_that_fails_does_not_sync_again() {
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
fn no_sync_follows_a_failed_one_whoever_comes_when() {
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
fn an_error_that_filling_ahead_hears_of_stops_the_append_that_it_concerns() {
    // The kernel writes the append's pages out on behalf of the other sync, and fails. It
    // tells each opening of the file once.
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
fn undoing_a_write_takes_no_error_that_another_append_should_hear() {
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

#[test]
fn no_thread_touches_a_file_after_close() {
    let sim = SimVfs::tracked(1);
    let [begun, go, closed, late] = [(); 4].map(|()| Flag::default());
    let vfs = {
        let (begun, go, closed, late) = (begun.clone(), go.clone(), closed.clone(), late.clone());
        HookedVfs::new(sim.clone(), move |asked| {
            if asked.is(Op::Write, FIRST) && Asked::by(MAINTAINER) {
                begun.raise();
                go.wait("leave to write zeros");
            }
            if closed.is_up() {
                late.raise();
            }
            Ok(())
        })
    };
    let store = open_with(vfs, Options::default()).unwrap();
    append(&store, &[("a", b"one")]).unwrap();
    begun.wait("zeros to be written ahead");
    let closing = closing(&store);
    temptation();
    let waited = !closing.is_finished();
    if waited {
        go.raise();
    }
    closing.join().unwrap().unwrap();
    closed.raise();
    // Beyond what was filled at the time of the close.
    let next = open(sim).unwrap();
    let body = vec![b'y'; 9000];
    for _ in 0..40 {
        append(&next, &[("a", &body)]).unwrap();
    }
    go.raise();
    drop(store);
    temptation();
    assert!(waited, "closed while zeros were being written");
    assert!(!late.is_up(), "a file was touched after the close");
    assert_eq!(next.verify(Depth::Full).unwrap().events, 41);
}

/// Closes the store while a group rolls to the next segment and puts back what that has no
/// room for either.
fn close_during_a_roll(background: bool) {
    let sim = SimVfs::tracked(1);
    let [armed, writing, write, rolling] = [(); 4].map(|()| Flag::default());
    let [roll, closed, late] = [(); 3].map(|()| Flag::default());
    let vfs = {
        let [armed, writing, write, rolling] =
            [&armed, &writing, &write, &rolling].map(Flag::clone);
        let [roll, closed, late] = [&roll, &closed, &late].map(Flag::clone);
        HookedVfs::new(sim.clone(), move |asked| {
            if closed.is_up() {
                late.raise();
            }
            if !armed.is_up() || Asked::by(MAINTAINER) {
                return Ok(());
            }
            if asked.is(Op::Write, FIRST) && !writing.is_up() {
                writing.raise();
                write.wait("the appends to be queued");
            }
            if asked.is(Op::Create, SECOND) {
                rolling.raise();
                roll.wait("the close to begin");
            }
            if asked.is(Op::SyncData, SECOND) || asked.is(Op::Write, THIRD) {
                temptation();
            }
            Ok(())
        })
    };
    let mut options = options();
    (options.background, options.zero_fill) = (background, false);
    options.max_segment = 32 << 10;
    let store = open_with(vfs, options).unwrap();
    append(&store, &[("a", b"zero")]).unwrap();
    armed.raise();
    let first = appending(&store, "first", b"one");
    writing.wait("the first append's write");
    let answers = Answers::default();
    for number in [2, 3] {
        answers.submit(&store, number, "a", &vec![b'x'; 20_000]);
    }
    write.raise();
    rolling.wait("the roll");
    let closing = closing(&store);
    temptation();
    roll.raise();
    closing.join().unwrap().unwrap();
    closed.raise();
    assert_eq!(first.join().unwrap().unwrap().first_position, Some(2));
    until("both answers", || answers.count() == 2);
    drop(store);
    temptation();
    assert!(!late.is_up(), "a file was touched after the close");
    for (number, mut answers) in answers.taken() {
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
fn what_a_roll_puts_back_is_committed_before_the_store_closes() {
    close_during_a_roll(true);
}

#[test]
fn what_a_roll_puts_back_is_committed_before_the_store_closes_without_threads() {
    close_during_a_roll(false);
}

#[test]
fn a_closing_store_answers_each_append_once_and_truly() {
    for round in 0..60u64 {
        let sim = SimVfs::tracked(round);
        let mut options = options();
        options.background = round % 2 == 0;
        let store = open_with(sim.clone(), options).unwrap();
        let (answers, asked) = (Answers::default(), AtomicU64::new(0));
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let (store, answers, asked) = (&store, &answers, &asked);
                scope.spawn(move || {
                    for number in (thread..).step_by(4) {
                        let size = usize::try_from(number * 997 % 7000).unwrap();
                        let mut body = format!("{number}|").into_bytes();
                        body.resize(body.len() + size, b'x');
                        asked.fetch_add(1, Ordering::SeqCst);
                        if thread == 0 {
                            answers.submit(store, number, "a", &body);
                            if number > 400 || store.version("a").is_err() {
                                return;
                            }
                            continue;
                        }
                        let answer = append(store, &[("a", &body)]);
                        let over = answer.is_err();
                        answers.0.lock().entry(number).or_default().push(answer);
                        if over {
                            return;
                        }
                    }
                });
            }
            std::thread::sleep(Duration::from_micros(round * 150));
            store.close().unwrap();
        });
        let asked = usize::try_from(asked.load(Ordering::SeqCst)).unwrap();
        until("every answer", || answers.count() == asked);
        let kept = bodies(&log(&open(sim).unwrap()));
        let kept: Vec<&str> = kept.iter().map(|b| b.split('|').next().unwrap()).collect();
        let mut acknowledged = 0;
        for (number, answers) in answers.taken() {
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
fn nobody_opens_a_store_that_is_still_closing() {
    let sim = SimVfs::tracked(1);
    let [armed, recording, go] = [(); 3].map(|()| Flag::default());
    let vfs = {
        let (armed, recording, go) = (armed.clone(), recording.clone(), go.clone());
        HookedVfs::new(sim.clone(), move |asked| {
            if armed.is_up() && asked.is(Op::Create, "MANIFEST") {
                recording.raise();
                go.wait("leave to record the end");
            }
            Ok(())
        })
    };
    let store = open(vfs).unwrap();
    append(&store, &[("a", b"one")]).unwrap();
    armed.raise();
    let first = closing(&store);
    recording.wait("the close to record the end");
    let again = {
        let store = store.clone();
        must_end(move || store.close())
    };
    let appended = append(&store, &[("a", b"two")]);
    let opened = open(sim.clone());
    go.raise();
    first.join().unwrap().unwrap();
    again.unwrap();
    assert!(matches!(appended, Err(Error::Closed)), "{appended:?}");
    assert!(matches!(opened, Err(Error::StoreBusy { .. })), "{opened:?}");
    assert_eq!(bodies(&log(&open(sim).unwrap())), ["one"]);
}

/// Holds whoever syncs at a moment of it, and asks meanwhile for an answer that stands on the
/// same sync. Answers whether there was one, and whether the head was behind it.
fn answered_while_held_at(moment: &'static str) -> (bool, bool) {
    let [armed, held, go] = [(); 3].map(|()| Flag::default());
    let vfs = {
        let [armed, held, go] = [&armed, &held, &go].map(Flag::clone);
        HookedVfs::new(SimVfs::tracked(1), move |asked| {
            if armed.is_up() && !held.is_up() && asked.is(Op::Moment, moment) {
                held.raise();
                go.wait("leave to go on");
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
fn the_head_is_not_behind_an_answer() {
    for moment in ["durable", "indexed", "shown"] {
        let (_, behind) = answered_while_held_at(moment);
        assert!(!behind, "an answer at the moment {moment}");
    }
}

#[test]
fn no_answer_overtakes_the_sync_that_it_stands_on() {
    for moment in ["durable", "indexed", "shown"] {
        let (early, _) = answered_while_held_at(moment);
        assert!(!early, "an answer at the moment {moment}");
    }
}

#[test]
fn a_wake_up_may_append() {
    let store = open(SimVfs::tracked(1)).unwrap();
    let (appending, waking) = (store.clone(), store.clone());
    let wake = move || drop(append(&waking, &[("b", b"woken")]).unwrap());
    let guard = store.on_beyond(0, Box::new(wake));
    must_end(move || append(&appending, &[("a", b"one")])).unwrap();
    assert_eq!(bodies(&log(&store)), ["one", "woken"]);
    drop(guard);
}

#[test]
fn a_wake_up_may_close_the_store() {
    let store = open(SimVfs::tracked(1)).unwrap();
    let (appending, waking, woken) = (store.clone(), store.clone(), Flag::default());
    let wake = {
        let woken = woken.clone();
        move || {
            waking.close().unwrap();
            woken.raise();
        }
    };
    let guard = store.on_beyond(0, Box::new(wake));
    let appended = must_end(move || append(&appending, &[("a", b"one")]));
    assert_eq!(appended.unwrap().first_position, Some(1));
    assert!(woken.is_up());
    assert!(matches!(store.version("a"), Err(Error::Closed)));
    drop(guard);
}

#[test]
fn a_wake_up_of_a_failing_store_may_close_it() {
    let sim = SimVfs::tracked(1);
    let store = open(sim.clone()).unwrap();
    let (appending, waking, closed) = (store.clone(), store.clone(), Arc::new(Mutex::new(None)));
    let wake = {
        let closed = Arc::clone(&closed);
        move || *closed.lock() = Some(waking.close())
    };
    let guard = store.on_beyond(0, Box::new(wake));
    sim.fail_on(FIRST, Fault::forever(Call::Write, 1, Failure::EIO));
    let answer = must_end(move || append(&appending, &[("a", b"one")]));
    assert!(is_unknown(&answer), "{answer:?}");
    let closed = closed.lock().take();
    assert!(
        matches!(closed, Some(Err(Error::Poisoned { .. }))),
        "{closed:?}"
    );
    drop(guard);
}

#[test]
fn a_cancelled_wake_up_may_own_another() {
    let store = open(SimVfs::tracked(1)).unwrap();
    must_end(move || {
        let inner = store.on_beyond(0, Box::new(|| ()));
        let outer = store.on_beyond(0, Box::new(move || drop(inner)));
        drop(outer);
    });
}

#[test]
fn a_cancelled_wake_up_may_own_the_store() {
    let sim = SimVfs::tracked(1);
    let store = open(sim.clone()).unwrap();
    let owned = store.clone();
    must_end(move || {
        let guard = store.on_beyond(0, Box::new(move || drop(owned)));
        drop(store);
        drop(guard);
    });
    // The last handle went with the wake-up.
    open(sim).unwrap();
}

/// What must end, with the engine's threads and without.
fn either_way(test: impl Fn(Store, Store) + Send + Copy + 'static) {
    for options in [options(), threaded()] {
        let store = open_with(SimVfs::tracked(1), options).unwrap();
        must_end(move || test(store.clone(), store));
    }
}

#[test]
fn an_answer_may_append_and_be_answered_in_turn() {
    either_way(|store, own| {
        let answers = Answers::default();
        let inner = answers.clone();
        let done = move |answer: Answer| {
            answer.unwrap();
            append(&own, &[("a", b"within")]).unwrap();
            inner.submit(&own, 1, "a", b"submitted within");
        };
        store.submit(prepared("a", b"outer"), Box::new(done));
        until("the inner answer", || answers.count() == 1);
        let kept = bodies(&log(&store));
        assert_eq!(kept, ["outer", "within", "submitted within"]);
    });
}

#[test]
fn an_answer_may_close_the_store() {
    either_way(|store, own| {
        let closed = Flag::default();
        let inner = closed.clone();
        let done = move |answer: Answer| {
            answer.unwrap();
            own.close().unwrap();
            inner.raise();
        };
        store.submit(prepared("a", b"x"), Box::new(done));
        closed.wait("the close");
        assert!(matches!(store.version("a"), Err(Error::Closed)));
    });
}

#[test]
fn a_panic_in_an_answer_costs_nobody_else_theirs() {
    either_way(|store, _| {
        let answers = Answers::default();
        store.submit(
            prepared("a", b"one"),
            Box::new(|_| panic!("on purpose, in an answer")),
        );
        until("the first append", || store.head().unwrap() == 1);
        answers.submit(&store, 1, "a", b"two");
        append(&store, &[("a", b"three")]).unwrap();
        until("the second answer", || answers.count() == 1);
        assert!(answers.taken().remove(&1).unwrap().remove(0).is_ok());
        store.close().unwrap();
    });
}

#[test]
fn a_panic_in_a_wake_up_costs_nobody_an_answer() {
    either_way(|store, _| {
        let woken = Flag::default();
        let inner = woken.clone();
        let first = store.on_beyond(0, Box::new(|| panic!("on purpose, in a wake-up")));
        let second = store.on_beyond(0, Box::new(move || inner.raise()));
        append(&store, &[("a", b"one")]).unwrap();
        woken.wait("the second wake-up");
        append(&store, &[("a", b"two")]).unwrap();
        assert_eq!(store.head().unwrap(), 2);
        drop((first, second));
        store.close().unwrap();
    });
}

/// A store whose file system panics at a call, once it is armed.
fn panicking_at(
    options: Options,
    at: impl Fn(Asked<'_>) -> bool + Send + Sync + 'static,
) -> (SimVfs, Store, Flag, Flag) {
    let sim = SimVfs::tracked(1);
    let [armed, panicked] = [(); 2].map(|()| Flag::default());
    let vfs = {
        let (armed, panicked) = (armed.clone(), panicked.clone());
        HookedVfs::new(sim.clone(), move |asked| {
            if armed.is_up() && !panicked.is_up() && at(asked) {
                panicked.raise();
                panic!("on purpose, in a call of the file system");
            }
            Ok(())
        })
    };
    let store = open_with(vfs, options).unwrap();
    (sim, store, armed, panicked)
}

/// Whoever asks is told that the store is poisoned, and what is left is a whole log.
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
        append(&again, &[("a", b"goes on")]).unwrap_or_else(|e| panic!("{context}: {e}"));
        again
            .verify(Depth::Full)
            .unwrap_or_else(|e| panic!("{context}: {e}"));
    }
}

/// A panic while an append is under way, by its own thread or by the engine's: that append
/// and one that waits beside it are answered, and nothing is written after it.
fn panic_in_the_commit(op: Op, path: &'static str) {
    for options in [options(), threaded()] {
        let context = format!("{op:?} {path}, threads {}", options.background);
        let by_anyone_else = move |asked: Asked<'_>| asked.is(op, path) && !Asked::by(MAINTAINER);
        let (sim, store, armed, panicked) = panicking_at(options, by_anyone_else);
        append(&store, &[("a", b"one")]).unwrap();
        armed.raise();
        let answers = Answers::default();
        answers.submit(&store, 2, "a", b"two");
        let beside = {
            let store = store.clone();
            must_end(move || append(&store, &[("a", b"three")]))
        };
        until("the submitted append's answer", || answers.count() == 1);
        assert!(panicked.is_up(), "{context}");
        let answer = answers.taken().remove(&2).unwrap().remove(0);
        for answer in [answer, beside] {
            let is_honest = matches!(
                answer,
                Err(Error::OutcomeUnknown { .. } | Error::Poisoned { .. })
            );
            assert!(is_honest, "{context}: {answer:?}");
        }
        is_poisoned_and_whole(&sim, &store, &context);
    }
}

#[test]
fn a_panic_in_the_write_phase_poisons_and_leaves_nobody_waiting() {
    panic_in_the_commit(Op::Write, FIRST);
    panic_in_the_commit(Op::Moment, "publish");
}

#[test]
fn a_panic_in_the_sync_phase_poisons_and_leaves_nobody_waiting() {
    panic_in_the_commit(Op::SyncData, FIRST);
    for moment in ["durable", "indexed", "shown"] {
        panic_in_the_commit(Op::Moment, moment);
    }
}

#[test]
fn a_panic_in_a_roll_poisons_and_leaves_nobody_waiting() {
    for (op, path) in [
        (Op::Create, SECOND),
        (Op::Rename, SECOND),
        (Op::Rename, "CURRENT"),
    ] {
        let context = format!("{op:?} {path}");
        let (sim, store, armed, panicked) =
            panicking_at(options(), move |asked| asked.is(op, path));
        append(&store, &[("a", b"one")]).unwrap();
        armed.raise();
        let answer = {
            let store = store.clone();
            must_end(move || append(&store, &[("a", &[b'x'; 14_000])]))
        };
        assert!(
            panicked.is_up() && is_unknown(&answer),
            "{context}: {answer:?}"
        );
        is_poisoned_and_whole(&sim, &store, &context);
    }
}

#[test]
fn a_panic_of_who_looks_after_the_files_costs_nobody_an_answer() {
    let calls = [
        (Op::Write, FIRST),
        (Op::SyncData, FIRST),
        (Op::Create, SECOND),
    ];
    for (op, path) in calls {
        let ahead = move |asked: Asked<'_>| asked.is(op, path) && Asked::by(MAINTAINER);
        let mut options = Options::default();
        (options.first_segment, options.max_segment) = (2 << 20, 2 << 20);
        let (sim, store, armed, panicked) = panicking_at(options, ahead);
        armed.raise();
        must_end(move || {
            let fill = || append(&store, &[("a", &vec![b'x'; 700 << 10])]).unwrap();
            for _ in 0..2 {
                fill();
            }
            until("the panic", || panicked.is_up());
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
fn a_panic_while_a_mark_is_written_poisons_and_leaves_nobody_waiting() {
    let mark = |asked: Asked<'_>| asked.is(Op::Write, FIRST) && Asked::by(MAINTAINER);
    let mut options = threaded();
    options.zero_fill = false;
    let (sim, store, armed, panicked) = panicking_at(options, mark);
    append(&store, &[("a", b"one")]).unwrap();
    armed.raise();
    until("the mark", || panicked.is_up());
    until("the poison", || {
        store.wait_beyond(1, Duration::ZERO).is_err()
    });
    is_poisoned_and_whole(&sim, &store, "a mark");
}
