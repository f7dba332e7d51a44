//! The recorded times of events ascend, and a clock that jumps by years moves none of them.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails loudly"
)]

mod support;

use eventbraid_engine::vfs::Vfs as _;
use eventbraid_engine::vfs::sim::SimVfs;
use support::{append, log, open};

/// Ten years in microseconds.
const DECADE: u64 = 3650 * 24 * 3600 * 1_000_000;

fn times(store: &eventbraid_engine::Store) -> Vec<u64> {
    let recorded = log(store);
    recorded
        .iter()
        .map(eventbraid_engine::Recorded::recorded_at_micros)
        .collect()
}

#[test]
fn a_clock_jump_of_years_is_counted_and_not_recorded() {
    let vfs = SimVfs::tracked(1);
    let start = vfs.now_micros();
    let store = open(vfs.clone()).unwrap();
    append(&store, &[("a", b"1")]).unwrap();
    assert_eq!(store.stats().local.clock_jumps, 0);
    vfs.set_clock(start + DECADE);
    append(&store, &[("a", b"2")]).unwrap();
    append(&store, &[("a", b"3")]).unwrap();
    assert_eq!(store.stats().local.clock_jumps, 1);
    vfs.set_clock(start + 1_000_000);
    append(&store, &[("a", b"4")]).unwrap();
    assert_eq!(store.stats().local.clock_jumps, 2);
    let times = times(&store);
    assert!(times.is_sorted(), "{times:?}");
    assert!(
        times.iter().all(|time| *time < start + 2_000_000),
        "{times:?}"
    );
}

#[test]
fn a_log_that_ends_years_ahead_continues_at_the_present_time() {
    let vfs = SimVfs::tracked(1);
    let start = vfs.now_micros();
    vfs.set_clock(start + DECADE);
    let ahead = open(vfs.clone()).unwrap();
    append(&ahead, &[("a", b"1")]).unwrap();
    // The first commit of a log has no earlier time to compare with.
    assert!(times(&ahead).iter().all(|time| *time >= start + DECADE));
    ahead.close().unwrap();
    vfs.set_clock(start);
    let store = open(vfs.clone()).unwrap();
    append(&store, &[("a", b"2")]).unwrap();
    append(&store, &[("a", b"3")]).unwrap();
    assert_eq!(store.stats().local.clock_jumps, 1);
    assert!(
        times(&store)[1..]
            .iter()
            .all(|time| *time < start + 1_000_000)
    );
    assert!(times(&store)[1..].is_sorted());
}

#[test]
fn a_session_with_a_wrong_clock_is_corrected_by_the_other_sessions() {
    let vfs = SimVfs::tracked(1);
    let mut options = support::options();
    options.mode = eventbraid_engine::Mode::Shared;
    let start = vfs.now_micros();
    let right = support::open_with(vfs.clone(), options).unwrap();
    append(&right, &[("a", b"1")]).unwrap();
    let wrong = support::open_with(vfs.clone(), options).unwrap();
    vfs.set_clock(start + DECADE);
    append(&wrong, &[("a", b"2")]).unwrap();
    assert_eq!(wrong.stats().local.clock_jumps, 1);
    vfs.set_clock(start + 1_000_000);
    append(&right, &[("a", b"3")]).unwrap();
    let times = times(&right);
    assert!(times.is_sorted(), "{times:?}");
    assert!(
        times.iter().all(|time| *time < start + 2_000_000),
        "{times:?}"
    );
}

#[test]
fn a_clock_set_back_keeps_event_times_ascending() {
    let vfs = SimVfs::tracked(1);
    vfs.set_clock(1_000_000);
    let store = open(vfs.clone()).unwrap();
    append(&store, &[("a", b"1")]).unwrap();
    vfs.set_clock(2000);
    append(&store, &[("a", b"2")]).unwrap();
    store.close().unwrap();
    vfs.set_clock(1000);
    let store = open(vfs.clone()).unwrap();
    append(&store, &[("a", b"3")]).unwrap();
    let times: Vec<_> = log(&store)
        .iter()
        .map(eventbraid_engine::Recorded::recorded_at_micros)
        .collect();
    assert!(times.is_sorted(), "{times:?}");
    assert!(times[0] >= 1_000_000);
}
