//! Callbacks of appends and of waits may call the store again: append, submit, wait, close it,
//! or hold the last reference to it.
//!
//! The hazard: the thread that runs a callback still holds a lock of the engine, so that the
//! inner call waits for its own thread.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails loudly"
)]

mod support;

use std::sync::Arc;

use eventbraid_engine::Error;
use eventbraid_engine::mutex::Mutex;
use eventbraid_engine::vfs::sim::{Call, Failure, Fault, SimVfs};
use support::appends::{Answer, Answers, is_unknown, with_and_without_threads};
use support::hook::{Flag, run_within_limit, wait_until};
use support::{append, bodies, log, open, prepared};

const FIRST: &str = "0000000001.hot";

#[test]
fn a_wake_up_may_append() {
    let store = open(SimVfs::tracked(1)).unwrap();
    let (appending, waking) = (store.clone(), store.clone());
    let wake = move || drop(append(&waking, &[("b", b"woken")]).unwrap());
    let guard = store.on_beyond(0, Box::new(wake));
    run_within_limit(move || append(&appending, &[("a", b"one")])).unwrap();
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
            woken.set();
        }
    };
    let guard = store.on_beyond(0, Box::new(wake));
    let appended = run_within_limit(move || append(&appending, &[("a", b"one")]));
    assert_eq!(appended.unwrap().first_position, Some(1));
    assert!(woken.is_set());
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
    let answer = run_within_limit(move || append(&appending, &[("a", b"one")]));
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
    run_within_limit(move || {
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
    run_within_limit(move || {
        let guard = store.on_beyond(0, Box::new(move || drop(owned)));
        drop(store);
        drop(guard);
    });
    // The wake-up held the last handle of the store.
    open(sim).unwrap();
}

#[test]
fn an_append_callback_may_append_and_submit() {
    with_and_without_threads(|store, own| {
        let answers = Answers::default();
        let inner = answers.clone();
        let done = move |answer: Answer| {
            answer.unwrap();
            append(&own, &[("a", b"within")]).unwrap();
            inner.submit(&own, 1, "a", b"submitted within");
        };
        store.submit(prepared("a", b"outer"), Box::new(done));
        wait_until("the inner answer", || answers.count() == 1);
        let kept = bodies(&log(&store));
        assert_eq!(kept, ["outer", "within", "submitted within"]);
    });
}

#[test]
fn an_append_callback_may_close_the_store() {
    with_and_without_threads(|store, own| {
        let closed = Flag::default();
        let inner = closed.clone();
        let done = move |answer: Answer| {
            answer.unwrap();
            own.close().unwrap();
            inner.set();
        };
        store.submit(prepared("a", b"x"), Box::new(done));
        closed.wait("the close");
        assert!(matches!(store.version("a"), Err(Error::Closed)));
    });
}
