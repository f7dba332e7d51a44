//! Waits for events that match a filter: a commit wakes the waiters that it matches, and no event
//! is missed between a read of the log and the registration of a wait.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails loudly"
)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use eventbraid_engine::vfs::os::OsVfs;
use eventbraid_engine::vfs::sim::{Call, Failure, Fault, SimVfs};
use eventbraid_engine::{
    Error, LogQuery, Mode, Options, OwnedFilter, ReadMode, Store, WaitGuard, prepare,
};
use support::hook::{Flag, HookedVfs, Op, run_within_limit, wait_until};
use support::{append, bodies, event, log, open, open_with, threaded};

fn of_category(category: &str) -> Arc<OwnedFilter> {
    Arc::new(OwnedFilter {
        category: Some(category.to_owned()),
        ..OwnedFilter::default()
    })
}

fn of_type(event_type: &str) -> Arc<OwnedFilter> {
    Arc::new(OwnedFilter {
        types: Some(vec![event_type.to_owned()]),
        ..OwnedFilter::default()
    })
}

/// A wait, and the position that its wake-up was called with.
struct Wait {
    guard: WaitGuard,
    woken: Arc<AtomicU64>,
}

const NOT_WOKEN: u64 = u64::MAX;

impl Wait {
    fn begin(store: &Store, position: u64, filter: &Arc<OwnedFilter>) -> Self {
        let woken = Arc::new(AtomicU64::new(NOT_WOKEN));
        let inner = Arc::clone(&woken);
        let wake = move |passed| inner.store(passed, Ordering::SeqCst);
        let guard = store.on_match(position, filter, Box::new(wake));
        Self { guard, woken }
    }

    fn woken(&self) -> Option<u64> {
        let woken = self.woken.load(Ordering::SeqCst);
        (woken != NOT_WOKEN).then_some(woken)
    }
}

#[test]
fn a_commit_wakes_the_waiters_that_it_matches() {
    let store = open(SimVfs::tracked(1)).unwrap();
    let idle: Vec<_> = (0..100)
        .map(|i| Wait::begin(&store, 0, &of_category(&format!("other{i}"))))
        .collect();
    let other_type = Wait::begin(&store, 0, &of_type("has not happened"));
    let concerned = Wait::begin(&store, 0, &of_category("order"));
    append(&store, &[("item-1", b"one"), ("order-1", b"two")]).unwrap();
    append(&store, &[("order-2", b"three")]).unwrap();
    assert_eq!(concerned.woken(), Some(0));
    assert_eq!(concerned.guard.passed(), None);
    for wait in idle.iter().chain([&other_type]) {
        assert_eq!(wait.woken(), None);
        assert_eq!(wait.guard.passed(), Some(3));
    }
    append(&store, &[("other7-1", b"four")]).unwrap();
    let woken: Vec<_> = (0..100).filter(|i| idle[*i].woken().is_some()).collect();
    assert_eq!(woken, [7]);
    assert_eq!(idle[7].woken(), Some(3));
}

#[test]
fn an_empty_filter_wakes_at_every_commit() {
    let store = open(SimVfs::tracked(1)).unwrap();
    let hides_system = Arc::new(OwnedFilter {
        hides_system: true,
        ..OwnedFilter::default()
    });
    let waits = [Arc::default(), hides_system].map(|filter| Wait::begin(&store, 0, &filter));
    append(&store, &[("order-1", b"one")]).unwrap();
    assert!(waits.iter().all(|wait| wait.woken() == Some(0)));
}

#[test]
fn an_event_present_at_registration_wakes_at_once() {
    let store = open(SimVfs::tracked(1)).unwrap();
    append(&store, &[("order-1", b"one")]).unwrap();
    assert_eq!(
        Wait::begin(&store, 0, &of_category("order")).woken(),
        Some(0)
    );
    let next = Wait::begin(&store, 1, &of_category("order"));
    assert_eq!((next.woken(), next.guard.passed()), (None, Some(1)));
}

#[test]
fn a_commit_larger_than_the_scan_limit_wakes_all_waiters() {
    let store = open(SimVfs::tracked(1)).unwrap();
    let wait = Wait::begin(&store, 0, &of_category("order"));
    let events = vec![event("item-1", b""); 20_000];
    let many = eventbraid_engine::Append {
        events: &events,
        ..eventbraid_engine::Append::default()
    };
    store.append(prepare(&many).unwrap()).unwrap();
    assert_eq!(wait.woken(), Some(0));
    let wait = Wait::begin(&store, 20_000, &of_category("order"));
    append(&store, &[("item-1", &vec![0; 2 << 20])]).unwrap();
    assert_eq!(wait.woken(), Some(20_000));
}

#[test]
fn a_commit_that_cannot_be_read_back_wakes_all_waiters() {
    let sim = SimVfs::tracked(1);
    let store = open(sim.clone()).unwrap();
    let wait = Wait::begin(&store, 0, &of_category("order"));
    sim.fail_on(
        "0000000001.hot",
        Fault::forever(Call::Read, 1, Failure::EIO),
    );
    append(&store, &[("item-1", b"one")]).unwrap();
    assert_eq!(wait.woken(), Some(0));
}

#[test]
fn closing_the_store_wakes_all_waiters() {
    let store = open(SimVfs::tracked(1)).unwrap();
    let waits = [of_category("order"), of_type("none")].map(|f| Wait::begin(&store, 7, &f));
    assert!(waits.iter().all(|wait| wait.woken().is_none()));
    store.close().unwrap();
    assert!(waits.iter().all(|wait| wait.woken().is_some()));
}

#[test]
fn a_filtered_wake_up_may_append_wait_and_close() {
    for close in [false, true] {
        let store = open(SimVfs::tracked(1)).unwrap();
        let (appending, waking, woken) = (store.clone(), store.clone(), Flag::default());
        let inner = woken.clone();
        let wake = move |_| {
            if close {
                waking.close().unwrap();
            } else {
                drop(Wait::begin(&waking, 1, &of_category("order")));
                append(&waking, &[("item-1", b"woken")]).unwrap();
            }
            inner.set();
        };
        let guard = store.on_match(0, &of_category("order"), Box::new(wake));
        run_within_limit(move || append(&appending, &[("order-1", b"one")])).unwrap();
        assert!(woken.is_set());
        if !close {
            assert_eq!(bodies(&log(&store)), ["one", "woken"]);
        }
        drop(guard);
    }
}

#[test]
fn a_panic_in_a_filtered_wake_up_stops_no_other_wake_up() {
    let store = open_with(SimVfs::tracked(1), threaded()).unwrap();
    let panics = |_| panic!("on purpose, in a wake-up");
    let first = store.on_match(0, &of_category("order"), Box::new(panics));
    let second = Wait::begin(&store, 0, &of_category("order"));
    append(&store, &[("order-1", b"one")]).unwrap();
    wait_until("the second wake-up", || second.woken().is_some());
    append(&store, &[("order-1", b"two")]).unwrap();
    drop((first, second));
    store.close().unwrap();
}

/// A scan covers only the events that it has read. Events that become durable during the scan are
/// covered by the next one, which begins at the end of this scan.
#[test]
fn an_event_that_becomes_durable_during_a_scan_is_scanned_by_the_next() {
    let [armed, scanning, visible, done] = [(); 4].map(|()| Flag::default());
    let vfs = {
        let [armed, scanning, visible, done] =
            [&armed, &scanning, &visible, &done].map(Flag::clone);
        HookedVfs::new(SimVfs::tracked(1), move |call| {
            if !armed.is_set() {
                return Ok(());
            }
            if call.is(Op::Read, ".hot") && !scanning.is_set() {
                scanning.set();
                visible.wait("the second commit");
            } else if call.is(Op::Moment, "visible") && scanning.is_set() && !visible.is_set() {
                visible.set();
                done.wait("the first delivery");
            }
            Ok(())
        })
    };
    let store = open(vfs).unwrap();
    let wait = Wait::begin(&store, 0, &of_category("order"));
    armed.set();
    let (one, two) = (store.clone(), store.clone());
    let first = thread::spawn(move || append(&one, &[("item-1", b"one")]).unwrap());
    scanning.wait("the scan of the first commit");
    let second = thread::spawn(move || append(&two, &[("order-1", b"two")]).unwrap());
    first.join().unwrap();
    // The head is after the second commit, and the scan ended before it.
    assert_eq!((wait.woken(), wait.guard.passed()), (None, Some(1)));
    done.set();
    second.join().unwrap();
    assert!(wait.woken().is_some());
}

const CATEGORIES: usize = 4;
const COMMITS: usize = 400;
const WRITERS: usize = 2;

/// Read one category until it has all its events, and wait for more after each page.
fn follow(store: &Store, category: usize, expected: usize, waits: &AtomicUsize) -> Vec<u64> {
    let filter = of_category(&format!("c{category}"));
    let (mut after, mut positions) = (0, Vec::new());
    while positions.len() < expected {
        let page = filter.lend(|filter| {
            store.read_log(&LogQuery {
                after,
                filter,
                mode: ReadMode::Blocking,
                ..LogQuery::all()
            })
        });
        let page = page.unwrap();
        positions.extend(
            page.events
                .iter()
                .map(eventbraid_engine::Recorded::position),
        );
        after = page.next;
        if page.more || positions.len() >= expected {
            continue;
        }
        let (woken, passed) = (Flag::default(), Arc::new(AtomicU64::new(0)));
        let wake = {
            let (woken, passed) = (woken.clone(), Arc::clone(&passed));
            move |position| {
                passed.store(position, Ordering::SeqCst);
                woken.set();
            }
        };
        let guard = store.on_match(after, &filter, Box::new(wake));
        if let Some(position) = guard.passed() {
            assert!(position >= after);
            // The next read begins there and must miss no event.
            after = position;
        }
        waits.fetch_add(1, Ordering::SeqCst);
        woken.wait("a wake-up for an event that matches");
        after = after.max(passed.load(Ordering::SeqCst));
    }
    positions
}

/// Run writers and followers at the same time. Every follower gets each event of its category once.
fn race(stores: &[Store]) {
    let waits = AtomicUsize::new(0);
    let of_category = COMMITS * WRITERS / CATEGORIES;
    let followed: Vec<Vec<u64>> = thread::scope(|scope| {
        let waits = &waits;
        let followers: Vec<_> = (0..CATEGORIES * 2)
            .map(|i| {
                let store = &stores[i % stores.len()];
                scope.spawn(move || follow(store, i / 2, of_category, waits))
            })
            .collect();
        // Each follower has read the empty log, so each waits at least once.
        wait_until("all followers", || {
            waits.load(Ordering::SeqCst) == CATEGORIES * 2
        });
        for writer in 0..WRITERS {
            let store = &stores[writer % stores.len()];
            scope.spawn(move || {
                for commit in 0..COMMITS {
                    let stream = format!("c{}-{writer}", commit % CATEGORIES);
                    append(store, &[(&stream, b"")]).unwrap();
                    if commit % 7 == 0 {
                        // Time for the followers to wait again.
                        thread::yield_now();
                    }
                }
            });
        }
        followers.into_iter().map(|f| f.join().unwrap()).collect()
    });
    let mut all: Vec<u64> = followed.iter().step_by(2).flatten().copied().collect();
    all.sort_unstable();
    let head = (COMMITS * WRITERS) as u64;
    assert_eq!(all, (1..=head).collect::<Vec<_>>());
    for twins in followed.chunks(2) {
        assert_eq!(twins[0], twins[1]);
        assert!(twins[0].is_sorted());
    }
}

#[test]
fn no_event_is_missed_between_a_read_and_a_wait() {
    for background in [false, true] {
        for round in 0..5 {
            let mut options = support::options();
            options.background = background;
            let store = open_with(SimVfs::tracked(round), options).unwrap();
            race(&[store]);
        }
    }
}

fn open_shared(root: &std::path::Path) -> Result<Store, Error> {
    let mut options = Options::default();
    options.mode = Mode::Shared;
    Store::open(Arc::new(OsVfs::new()), root, options)
}

#[test]
fn no_event_of_another_session_is_missed() {
    for _ in 0..3 {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("store");
        let stores = [open_shared(&root).unwrap(), open_shared(&root).unwrap()];
        race(&stores);
    }
}

#[test]
fn a_commit_of_another_session_wakes_the_waiters_that_it_matches() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("store");
    let (own, other) = (open_shared(&root).unwrap(), open_shared(&root).unwrap());
    let idle = Wait::begin(&own, 0, &of_category("item"));
    let concerned = Wait::begin(&own, 0, &of_category("order"));
    append(&other, &[("order-1", b"one")]).unwrap();
    wait_until("the wake-up", || concerned.woken().is_some());
    wait_until("the scan", || idle.guard.passed() == Some(1));
    assert_eq!(idle.woken(), None);
    append(&other, &[("item-1", b"two")]).unwrap();
    wait_until("the other wake-up", || idle.woken() == Some(1));
    let timeout = Duration::from_secs(1);
    assert_eq!(own.wait_beyond(1, timeout).unwrap(), 2);
}
