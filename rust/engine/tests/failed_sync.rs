//! A failed sync poisons the store. The next open cuts the log at its durable end and continues
//! it in a new file. Events after the cut are never restored, whatever the disk kept of them.
//!
//! A failed sync leaves pages that programs can read and the disk does not have, and a later sync
//! of the same file succeeds without them. So the old file is neither written nor synced again.
//! Here the repair is interrupted at each of its steps, and each of its calls fails.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test fails loudly and prints its counts"
)]

mod support;

use std::io::IoSlice;

use eventbraid_engine::vfs::sim::{Call, Failure, Fault, Persist, SimVfs};
use eventbraid_engine::vfs::{OpenMode, Vfs, write_all_at};
use eventbraid_engine::{Depth, Error, Store};
use support::hook::{
    Flag, HookedCall, HookedVfs, MAINTAINER, Op, eio, let_other_threads_run, run_within_limit,
    wait_until,
};
use support::schedule::{Plan, run, schedules};
use support::{append, append_expecting, bodies, log, open, open_with, threaded};

const OLD: &str = "/store/log/0000000001.hot";
const NEW: &str = "/store/log/0000000002.hot";
const MARKER: &str = "/store/POISONED";

fn lost_sync() -> Fault {
    Fault::once(Call::SyncData, 1, Failure::EIO).losing()
}

/// Fail the sync of the next append in the segment of this name.
fn poison(vfs: &SimVfs, store: &Store, segment: &str, fault: Fault) {
    vfs.fail_on(segment.trim_start_matches('/'), fault);
    let unknown = append(store, &[("a", b"unknown"), ("b", &[b'u'; 3000])]);
    assert!(
        matches!(unknown, Err(Error::OutcomeUnknown { .. })),
        "{unknown:?}"
    );
    vfs.heal();
}

/// Acknowledge two events, fail the sync of a third append, and end the process.
fn poisoned(fault: Fault) -> SimVfs {
    let vfs = SimVfs::tracked(1);
    let store = open(vfs.clone()).unwrap();
    for body in [b"one", b"two"] {
        append(&store, &[("a", body)]).unwrap();
    }
    poison(&vfs, &store, OLD, fault);
    assert!(store.stats().poisoned);
    drop(store);
    vfs.process_crash()
}

fn has(vfs: &SimVfs, path: &str) -> bool {
    vfs.read_file(path).is_ok()
}

fn persistences(seed: u64) -> Vec<Persist> {
    let mut all = vec![Persist::Nothing, Persist::Everything];
    all.extend((0..6).map(|i| Persist::Seeded(seed * 6 + i)));
    all
}

/// Assert that the log has these bodies, passes verification, and continues with an append.
fn check(vfs: &SimVfs, expected: &[&str], context: &str) {
    let store = open(vfs.clone()).unwrap_or_else(|e| panic!("{context}: {e}"));
    assert_eq!(bodies(&log(&store)), expected, "{context}");
    assert!(!has(vfs, MARKER), "{context}: the marker was not removed");
    let verified = store
        .verify(Depth::Full)
        .unwrap_or_else(|e| panic!("{context}: {e}"));
    assert_eq!(verified.events, expected.len() as u64, "{context}");
    store
        .verify(Depth::Quick)
        .unwrap_or_else(|e| panic!("{context}: {e}"));
    let next = append(&store, &[("a", b"next")]).unwrap_or_else(|e| panic!("{context}: {e}"));
    assert_eq!(
        next.first_position,
        Some(expected.len() as u64 + 1),
        "{context}"
    );
    drop(store);
    let with_next = [expected, &["next"]].concat();
    for persist in [Persist::Nothing, Persist::Everything] {
        let cut = open(vfs.power_cut(persist)).unwrap_or_else(|e| panic!("{context}: {e}"));
        assert_eq!(bodies(&log(&cut)), with_next, "{context}, then {persist:?}");
    }
}

#[test]
fn the_log_continues_in_a_new_file_and_the_old_file_is_not_touched() {
    let vfs = poisoned(lost_sync());
    assert!(has(&vfs, MARKER));
    let store = open(vfs.clone()).unwrap();
    assert_eq!(bodies(&log(&store)), ["one", "two"]);
    assert!(!store.stats().poisoned && !has(&vfs, MARKER));
    append(&store, &[("a", b"three")]).unwrap();
    store.close().unwrap();
    let touched = |line: &&String| line.contains("log/0000000001.hot");
    let trace = vfs.trace();
    assert_eq!(trace.iter().find(touched), None);
    let in_new = vfs.read_file(NEW).unwrap();
    assert!(in_new.windows(5).any(|bytes| bytes == b"three"));
    check(&vfs, &["one", "two", "three"], "after a close");
}

#[test]
fn events_after_the_cut_are_never_restored() {
    // Check with and without the lost pages: the disk may have kept all of them.
    for fault in [
        lost_sync(),
        Fault {
            lose: false,
            ..lost_sync()
        },
    ] {
        let vfs = poisoned(fault);
        for persist in persistences(7) {
            let cut = vfs.power_cut(persist);
            check(&cut, &["one", "two"], &format!("{persist:?}"));
            let again = cut.power_cut(Persist::Nothing);
            // This also holds if the segments must be listed from the directory, without a
            // manifest.
            again.corrupt("/store/CURRENT", 3, 0xff).unwrap();
            check(
                &again,
                &["one", "two", "next"],
                &format!("{persist:?}, no manifest"),
            );
        }
    }
}

#[test]
fn a_key_of_a_cut_commit_is_unknown_and_can_be_used_again() {
    let vfs = SimVfs::tracked(1);
    let store = open(vfs.clone()).unwrap();
    let keyed = |store: &Store| append_expecting(store, &[("a", b"paid")], &[], Some("k"));
    vfs.fail_on(
        "0000000001.hot",
        Fault {
            lose: false,
            ..lost_sync()
        },
    );
    assert!(matches!(keyed(&store), Err(Error::OutcomeUnknown { .. })));
    drop(store);
    let store = open(vfs.power_cut(Persist::Everything)).unwrap();
    assert!(bodies(&log(&store)).is_empty());
    assert!(!keyed(&store).unwrap().replayed);
    assert!(keyed(&store).unwrap().replayed);
    assert_eq!(bodies(&log(&store)), ["paid"]);
}

#[test]
fn a_crash_at_every_step_of_the_repair_loses_and_restores_nothing() {
    let mut ran = 0;
    for fault in [
        lost_sync(),
        Fault {
            lose: false,
            ..lost_sync()
        },
    ] {
        let before = poisoned(fault);
        let probe = before.process_crash();
        drop(open(probe.clone()).unwrap());
        assert!(probe.steps() > 15, "{} steps", probe.steps());
        for step in 1..=probe.steps() {
            let vfs = before.process_crash();
            vfs.crash_at(step);
            drop(open(vfs.clone()));
            let context = format!("crash at step {step}");
            check(&vfs.process_crash(), &["one", "two"], &context);
            for persist in persistences(step) {
                let context = format!("{context}, {persist:?}");
                check(&vfs.power_cut(persist), &["one", "two"], &context);
                ran += 1;
            }
        }
    }
    println!("{ran} schedules");
}

#[test]
fn two_crashes_during_the_repair_lose_and_restore_nothing() {
    let before = poisoned(lost_sync());
    let probe = before.process_crash();
    drop(open(probe.clone()).unwrap());
    for step in 1..=probe.steps() {
        let first = before.process_crash();
        first.crash_at(step);
        drop(open(first.clone()));
        let first = first.power_cut(Persist::Seeded(step));
        for second in (1 + step % 4..=probe.steps()).step_by(4) {
            let vfs = first.process_crash();
            vfs.crash_at(second);
            drop(open(vfs.clone()));
            for persist in [
                Persist::Nothing,
                Persist::Everything,
                Persist::Seeded(second),
            ] {
                let context = format!("steps {step} and {second}, {persist:?}");
                check(&vfs.power_cut(persist), &["one", "two"], &context);
            }
        }
    }
}

#[test]
fn every_failing_call_of_the_repair_leaves_a_store_that_reopens() {
    let calls = [
        Call::Create,
        Call::CreateDir,
        Call::DropCache,
        Call::Entry,
        Call::List,
        Call::Open,
        Call::Read,
        Call::Remove,
        Call::Rename,
        Call::Size,
        Call::SyncAll,
        Call::SyncData,
        Call::SyncDir,
        Call::Write,
    ];
    let before = poisoned(lost_sync());
    let mut refused = 0;
    for call in calls {
        for nth in 1..25 {
            for lose in [false, true] {
                let vfs = before.process_crash();
                let fault = Fault {
                    lose,
                    ..Fault::once(call, nth, Failure::EIO)
                };
                vfs.fail(fault);
                refused += u64::from(open(vfs.clone()).is_err());
                vfs.heal();
                let context = format!("{call:?} {nth}, losing: {lose}");
                check(&vfs.process_crash(), &["one", "two"], &context);
                check(&vfs.power_cut(Persist::Nothing), &["one", "two"], &context);
            }
        }
    }
    assert!(refused > 50, "only {refused} calls failed");
}

#[test]
fn a_store_can_be_poisoned_repeatedly() {
    let vfs = poisoned(lost_sync());
    let mut expected = vec!["one", "two"];
    for (ordinal, more) in [(2, false), (3, true), (4, true), (5, false)] {
        let store = open(vfs.clone()).unwrap();
        if more {
            append(&store, &[("a", b"more")]).unwrap();
            expected.push("more");
        }
        let segment = format!("{ordinal:010}.hot");
        poison(
            &vfs,
            &store,
            &segment,
            Fault {
                lose: ordinal % 2 == 0,
                ..lost_sync()
            },
        );
        drop(store);
        for persist in persistences(ordinal) {
            let context = format!("poisoned in {segment}, {persist:?}");
            check(&vfs.power_cut(persist), &expected, &context);
        }
    }
    check(&vfs.process_crash(), &expected, "at last");
    let store = open(vfs).unwrap();
    let live = store.stats().bytes;
    let whole = store.stats().segments * (16 << 10);
    assert!(live < whole, "{live} of {whole} bytes belong to the log");
}

#[test]
fn a_prepared_segment_stays_empty() {
    let vfs = SimVfs::tracked(1);
    let store = open_with(vfs.clone(), threaded()).unwrap();
    append(&store, &[("a", &[b'x'; 9000])]).unwrap();
    wait_until("the next segment", || store.stats().segments == 2);
    vfs.fail_on(
        "0000000001.hot",
        Fault::forever(Call::SyncData, 1, Failure::EIO).losing(),
    );
    append(&store, &[("a", b"unknown")]).unwrap_err();
    drop(store);
    let vfs = vfs.process_crash();
    let store = open(vfs.clone()).unwrap();
    assert_eq!(store.stats().segments, 3);
    append(&store, &[("a", b"after")]).unwrap();
    assert_eq!(log(&store).len(), 2);
    let prepared = vfs.read_file(NEW).unwrap();
    assert!(prepared[4096..].iter().all(|byte| *byte == 0));
    assert_eq!(store.verify(Depth::Full).unwrap().events, 2);
    store.close().unwrap();
    assert_eq!(
        log(&open(vfs.power_cut(Persist::Nothing)).unwrap()).len(),
        2
    );
}

#[test]
fn a_failed_directory_sync_poisons_the_store_with_a_marker() {
    for (n, directory) in ["store/log", "store"].into_iter().enumerate() {
        let vfs = SimVfs::tracked(1);
        let store = open(vfs.clone()).unwrap();
        append(&store, &[("a", b"one")]).unwrap();
        // The first sync of the log's directory, or the first of the root: a rollover needs both.
        let fault = Fault::once(Call::SyncDir, 1 + n as u64, Failure::EIO).losing();
        vfs.fail_on(directory, fault);
        let refused = append(&store, &[("a", &vec![b'x'; 20_000])]);
        assert!(
            matches!(refused, Err(Error::Io { .. } | Error::Poisoned { .. })),
            "{refused:?}"
        );
        assert!(store.stats().poisoned, "{directory}");
        drop(store);
        vfs.heal();
        assert!(has(&vfs, MARKER), "{directory}");
        for persist in persistences(n as u64) {
            check(
                &vfs.power_cut(persist),
                &["one"],
                &format!("{directory}, {persist:?}"),
            );
        }
        check(&vfs.process_crash(), &["one"], directory);
    }
}

#[test]
fn a_failed_sync_of_zeros_poisons_the_store_with_a_marker() {
    let sim = SimVfs::tracked(1);
    let armed = Flag::default();
    let vfs = {
        let armed = armed.clone();
        HookedVfs::new(sim.clone(), move |call| {
            let fails = armed.is_set() && call.is(Op::SyncData, ".hot");
            if fails && HookedCall::is_in_thread(MAINTAINER) {
                Err(eio())
            } else {
                Ok(())
            }
        })
    };
    let mut options = threaded();
    options.first_segment = 4 << 20;
    options.max_segment = 4 << 20;
    let store = open_with(vfs, options).unwrap();
    append(&store, &[("a", b"one")]).unwrap();
    armed.set();
    let mut acknowledged = vec!["one"];
    let big = "x".repeat(200_000);
    let mut may_have_more = false;
    while !store.stats().poisoned {
        match append(&store, &[("a", big.as_bytes())]) {
            Ok(_) => acknowledged.push(&big),
            Err(Error::OutcomeUnknown { .. }) => may_have_more = true,
            Err(e) => assert!(matches!(e, Error::Poisoned { .. }), "{e}"),
        }
    }
    drop(store);
    assert!(has(&sim, MARKER));
    for persist in persistences(3) {
        // The append's own sync may have succeeded just before the sync of the zeros failed.
        let recovered = log(&open(sim.power_cut(persist)).unwrap()).len();
        let mut expected = acknowledged.clone();
        if may_have_more && recovered > expected.len() {
            expected.push(&big);
        }
        check(&sim.power_cut(persist), &expected, &format!("{persist:?}"));
    }
}

#[test]
fn a_commit_that_becomes_durable_after_the_marker_is_neither_acknowledged_nor_visible() {
    let sim = SimVfs::tracked(1);
    let (armed, marked) = (Flag::default(), Flag::default());
    let vfs = {
        let (armed, marked) = (armed.clone(), marked.clone());
        HookedVfs::new(sim.clone(), move |call| {
            if !armed.is_set() {
                return Ok(());
            }
            if call.is(Op::SyncDir, "/store/log") && HookedCall::is_in_thread(MAINTAINER) {
                return Err(eio());
            }
            // The frames are synced and not published yet when the directory sync fails.
            if call.is(Op::Moment, "durable") {
                marked.wait("the marker");
            }
            if call.is(Op::SyncDir, "/store") && has_marker(&call) {
                marked.set();
            }
            Ok(())
        })
    };
    let store = open_with(vfs, threaded()).unwrap();
    append(&store, &[("a", b"one")]).unwrap();
    armed.set();
    let answer = {
        let store = store.clone();
        run_within_limit(move || append(&store, &[("a", &[b'x'; 9000])]))
    };
    assert!(
        matches!(answer, Err(Error::OutcomeUnknown { .. })),
        "{answer:?}"
    );
    // Readers do not see it either: a reader could rely on the event as on an answer.
    assert_eq!(bodies(&log(&store)), ["one"]);
    assert_eq!(store.head().unwrap(), 1);
    drop(store);
    check(
        &sim.power_cut(Persist::Everything),
        &["one"],
        "after the race",
    );
}

/// Whether this is the sync of the marker: the maintenance thread syncs the root for nothing else
/// in this test.
fn has_marker(call: &HookedCall<'_>) -> bool {
    call.path.ends_with("store") && HookedCall::is_in_thread(MAINTAINER)
}

#[test]
fn a_stale_poison_marker_changes_nothing() {
    let vfs = poisoned(lost_sync());
    let marker = vfs.read_file(MARKER).unwrap();
    let put_back = |vfs: &SimVfs| {
        vfs.open(MARKER.as_ref(), OpenMode::CreateNew).unwrap();
        vfs.write_outside(MARKER, &marker).unwrap();
    };
    let store = open(vfs.clone()).unwrap();
    drop(store);
    put_back(&vfs);
    // The continuation segment is empty, and proves nevertheless that the repair was completed.
    let store = open(vfs.clone()).unwrap();
    assert_eq!(store.stats().segments, 2);
    append(&store, &[("a", b"three")]).unwrap();
    drop(store);
    put_back(&vfs);
    check(
        &vfs.power_cut(Persist::Everything),
        &["one", "two", "three"],
        "crashed",
    );
    let store = open(vfs.clone()).unwrap();
    append(&store, &[("a", b"four")]).unwrap();
    store.close().unwrap();
    put_back(&vfs);
    check(&vfs, &["one", "two", "three", "four"], "closed");
}

#[test]
fn a_poison_marker_below_a_durable_hint_is_void() {
    let vfs = SimVfs::tracked(1);
    let store = open(vfs.clone()).unwrap();
    append(&store, &[("a", b"one")]).unwrap();
    let early = vfs.process_crash();
    let doomed = open(early.clone()).unwrap();
    poison(&early, &doomed, OLD, lost_sync());
    let marker = early.read_file(MARKER).unwrap();
    for body in [b"two", b"3rd", b"4th"] {
        append(&store, &[("a", body)]).unwrap();
    }
    drop(store);
    // A marker of the same store, but of another history.
    let vfs = vfs.power_cut(Persist::Everything);
    vfs.open(MARKER.as_ref(), OpenMode::CreateNew).unwrap();
    vfs.write_outside(MARKER, &marker).unwrap();
    check(&vfs, &["one", "two", "3rd", "4th"], "hints");
}

#[test]
fn a_damaged_poison_marker_loses_no_acknowledged_commit() {
    let whole = poisoned(lost_sync());
    for offset in 0..whole.read_file(MARKER).unwrap().len() as u64 {
        let vfs = whole.power_cut(Persist::Nothing);
        vfs.corrupt(MARKER, offset, 0x10).unwrap();
        check(&vfs, &["one", "two"], &format!("byte {offset}"));
    }
    let vfs = whole.power_cut(Persist::Nothing);
    vfs.write_outside(MARKER, b"").unwrap();
    check(&vfs, &["one", "two"], "empty");
}

#[test]
fn damage_below_the_poison_marker_is_reported() {
    let vfs = poisoned(lost_sync());
    let bytes = vfs.read_file(OLD).unwrap();
    let at = bytes.windows(3).position(|text| text == b"two").unwrap();
    vfs.corrupt(OLD, at as u64, 1).unwrap();
    for _ in 0..2 {
        let opened = open(vfs.clone());
        let Err(Error::CorruptStore { file, .. }) = opened else {
            panic!("{opened:?}")
        };
        assert_eq!(file.to_str(), Some(OLD));
        assert!(has(&vfs, MARKER));
    }
}

#[test]
fn recovery_after_a_failed_sync_reads_the_disk_and_not_the_cache() {
    let vfs = poisoned(lost_sync());
    let good = vfs.read_file(OLD).unwrap();
    let file = vfs.open(OLD.as_ref(), OpenMode::ReadWrite).unwrap();
    let write = |bytes: &[u8]| write_all_at(&*file, &[IoSlice::new(bytes)], 4096).unwrap();
    // The acknowledged frames are in the page cache and no longer on the disk.
    write(&[0; 512]);
    file.sync_data().unwrap();
    write(&good[4096..4608]);
    vfs.fail(lost_sync());
    file.sync_data().unwrap_err();
    vfs.heal();
    assert!(vfs.read_file(OLD).unwrap() == good);
    let opened = open(vfs.clone());
    let Err(Error::CorruptStore { file, offset, .. }) = opened else {
        panic!("{opened:?}")
    };
    assert_eq!((file.to_str(), offset), (Some(OLD), 4096));
}

#[test]
fn damage_below_a_continuation_segment_is_reported() {
    let vfs = poisoned(lost_sync());
    let store = open(vfs.clone()).unwrap();
    append(&store, &[("a", b"three")]).unwrap();
    store.close().unwrap();
    let bytes = vfs.read_file(OLD).unwrap();
    let at = bytes.windows(3).position(|text| text == b"two").unwrap();
    for (path, offset) in [(OLD, at as u64), (NEW, 12), (NEW, 66), (NEW, 74), (NEW, 82)] {
        for manifest in [true, false] {
            let damaged = vfs.process_crash();
            damaged.corrupt(path, offset, 1).unwrap();
            if !manifest {
                damaged.corrupt("/store/CURRENT", 3, 0xff).unwrap();
            }
            let opened = open(damaged);
            let Err(Error::CorruptStore { file, .. }) = opened else {
                panic!("{path} at {offset}: {opened:?}")
            };
            assert_eq!(file.to_str(), Some(path), "{offset}");
        }
    }
}

#[test]
fn an_unlisted_segment_is_set_aside_after_a_failed_sync() {
    let vfs = SimVfs::tracked(1);
    let store = open(vfs.clone()).unwrap();
    append(&store, &[("a", b"one")]).unwrap();
    // The segment was created, but its directory entry may not be on the disk.
    vfs.fail_on(
        "store/log",
        Fault::once(Call::SyncDir, 1, Failure::EIO).losing(),
    );
    append(&store, &[("a", &vec![b'x'; 20_000])]).unwrap_err();
    drop(store);
    vfs.heal();
    assert!(has(&vfs, NEW));
    let vfs = vfs.process_crash();
    check(&vfs, &["one"], "set aside");
    assert!(has(&vfs, "/store/quarantine/0000000002.hot"));
    assert!(has(&vfs, NEW), "the log continues under the same number");
}

#[test]
fn a_failed_sync_poisons_the_store() {
    let vfs = SimVfs::tracked(1);
    let store = open(vfs.clone()).unwrap();
    append(&store, &[("a", b"one")]).unwrap();
    vfs.fail_on(
        "0000000001.hot",
        Fault::once(Call::SyncData, 1, Failure::EIO).losing(),
    );
    let unknown = append(&store, &[("a", b"two")]);
    assert!(
        matches!(unknown, Err(Error::OutcomeUnknown { .. })),
        "{unknown:?}"
    );
    for _ in 0..2 {
        // A later sync would succeed without the lost pages, so no thread may try.
        let refused = append(&store, &[("a", b"three")]);
        assert!(
            matches!(refused, Err(Error::Poisoned { .. })),
            "{refused:?}"
        );
    }
    assert_eq!(bodies(&log(&store)), ["one"]);
    assert!(matches!(store.close(), Err(Error::Poisoned { .. })));
    vfs.heal();
    let cut = open(vfs.power_cut(Persist::Nothing)).unwrap();
    assert_eq!(bodies(&log(&cut)), ["one"]);
}

#[test]
fn a_store_reopened_after_a_lost_sync_contains_only_durable_events() {
    let vfs = SimVfs::tracked(1);
    let store = open(vfs.clone()).unwrap();
    append(&store, &[("a", b"one")]).unwrap();
    vfs.fail_on(
        "0000000001.hot",
        Fault::once(Call::SyncData, 1, Failure::EIO).losing(),
    );
    vfs.fail_on("POISONED", Fault::once(Call::Create, 1, Failure::EIO));
    append(&store, &[("a", b"two")]).unwrap_err();
    drop(store);
    // The pages are clean and cached: recovery must write the events again before it shows them.
    let reopened = open(vfs.process_crash());
    let reopened_log = bodies(&log(reopened.as_ref().unwrap()));
    let vfs_after = vfs;
    drop(reopened);
    let crashed = vfs_after.process_crash();
    let reopened = open(crashed.clone()).unwrap();
    assert_eq!(bodies(&log(&reopened)), reopened_log);
    assert_eq!(reopened_log, ["one", "two"]);
    let cut = open(crashed.power_cut(Persist::Nothing)).unwrap();
    assert_eq!(bodies(&log(&cut)), reopened_log);
}

/// Fail the sync of a commit with the key "k" while two other appends use the same key. Return
/// the files that the process leaves.
fn after_a_keyed_commit_whose_sync_fails(with_marker: bool) -> SimVfs {
    let sim = SimVfs::tracked(1);
    let (armed, go) = (Flag::default(), Flag::default());
    let vfs = {
        let (armed, go) = (armed.clone(), go.clone());
        HookedVfs::new(sim.clone(), move |call| {
            if armed.is_set() && call.is(Op::SyncData, "0000000001.hot") {
                go.wait("the second append");
                return Err(eio());
            }
            if !with_marker && call.is(Op::Create, "POISONED") {
                return Err(eio());
            }
            Ok(())
        })
    };
    let store = open(vfs).unwrap();
    armed.set();
    let keyed = |body: &'static [u8]| {
        let store = store.clone();
        std::thread::spawn(move || append_expecting(&store, &[("a", body)], &[], Some("k")))
    };
    let first = keyed(b"x");
    wait_until("the first to be written", || {
        store.stats().session.commits == 1
    });
    let others = [keyed(b"x"), keyed(b"something else")];
    wait_until("all to be validated", || {
        let stats = store.stats();
        (stats.session.replays, stats.session.conflicts) == (1, 1)
    });
    let_other_threads_run();
    go.set();
    let first = first.join().unwrap();
    let [retried, mismatched] = others.map(|other| other.join().unwrap());
    for answer in [first, retried] {
        assert!(
            matches!(answer, Err(Error::OutcomeUnknown { .. })),
            "{answer:?}"
        );
    }
    assert!(
        matches!(mismatched, Err(Error::Poisoned { .. })),
        "{mismatched:?}"
    );
    drop(store);
    sim.process_crash()
}

#[test]
fn no_replay_is_answered_from_a_commit_whose_sync_failed() {
    let vfs = after_a_keyed_commit_whose_sync_fails(true);
    // The next open cuts off the commit, which was not proven durable, together with its key.
    let store = open(vfs.clone()).unwrap();
    assert!(bodies(&log(&store)).is_empty());
    for replayed in [false, true] {
        let again = append_expecting(&store, &[("a", b"x")], &[], Some("k")).unwrap();
        assert_eq!(again.replayed, replayed);
    }
    store.close().unwrap();
    let cut = open(vfs.power_cut(Persist::Everything)).unwrap();
    assert_eq!(bodies(&log(&cut)), ["x"]);
}

#[test]
fn without_a_poison_marker_a_readable_commit_of_a_failed_sync_is_kept() {
    let vfs = after_a_keyed_commit_whose_sync_fails(false);
    let store = open(vfs.clone()).unwrap();
    // The next open has the key in its index.
    let again = append_expecting(&store, &[("a", b"x")], &[], Some("k")).unwrap();
    assert!(again.replayed);
    assert_eq!(bodies(&log(&store)), ["x"]);
    let cut = open(vfs.power_cut(Persist::Nothing)).unwrap();
    assert_eq!(bodies(&log(&cut)), ["x"]);
}

/// All processes stop, independent of which one gets the error, and the next open has every
/// acknowledged commit.
#[test]
fn a_lost_sync_stops_all_sessions() {
    let wanted = schedules(200);
    for seed in 0..wanted {
        run(Plan {
            seed,
            processes: 2 + usize::try_from(seed % 2).unwrap(),
            appends: 4,
            kill: None,
            lost_sync: Some(1 + seed % 17),
            threads: false,
            mixed: false,
        });
    }
    println!("{wanted} schedules");
}
