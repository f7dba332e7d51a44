//! A log that goes from file to file keeps every acknowledged commit.
//!
//! The next segment is made ahead of need and listed before its first frame, while the tail
//! still stands in the one before: exactly at its end, or short of a frame that is too large
//! for the segment that was prepared. Disks are full and processes die in between.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails loudly"
)]

mod support;

use eventbraid_engine::vfs::OpenMode;
use eventbraid_engine::vfs::Vfs;
use eventbraid_engine::vfs::sim::{Call, Failure, Fault, Persist, SimVfs};
use eventbraid_engine::{Depth, Error, Store};
use support::hook::until;
use support::{append, bodies, log, open, open_with, options, threaded};

const SEGMENT: u64 = 16 << 10;

/// A store, closed, of one event, whose second segment is made and empty.
fn with_a_segment_prepared() -> SimVfs {
    let vfs = SimVfs::tracked(1);
    let store = open_with(vfs.clone(), threaded()).unwrap();
    append(&store, &[("a", &[b'x'; 9000])]).unwrap();
    until("the next segment", || store.stats().segments == 2);
    store.close().unwrap();
    vfs
}

/// Lengths of the bodies.
fn lengths(store: &Store) -> Vec<usize> {
    log(store).iter().map(|event| event.data().len()).collect()
}

/// Appends a body that ends the log exactly where its first segment ends.
fn fill_to_the_end(store: &Store) {
    // What a frame costs beyond its body.
    let probe = open(SimVfs::tracked(2)).unwrap();
    append(&probe, &[("a", b"")]).unwrap();
    let begin = probe.stats().bytes;
    append(&probe, &[("a", &[0; 800])]).unwrap();
    let overhead = probe.stats().bytes - begin - 800;
    let room = SEGMENT - store.stats().bytes - overhead;
    append(store, &[("a", &vec![b'y'; room.try_into().unwrap()])]).unwrap();
    assert_eq!(store.stats().bytes, SEGMENT, "exactly full");
}

#[test]
fn a_log_that_ends_exactly_with_its_segment_goes_on() {
    for vfs in [with_a_segment_prepared(), {
        let vfs = SimVfs::tracked(1);
        append(&open(vfs.clone()).unwrap(), &[("a", &[b'x'; 9000])]).unwrap();
        vfs
    }] {
        let store = open(vfs.clone()).unwrap();
        fill_to_the_end(&store);
        store.close().unwrap();
        for round in 0..3 {
            let store = open(vfs.clone()).unwrap();
            append(&store, &[("a", b"after")]).unwrap();
            store.close().unwrap();
            let cut = open(vfs.power_cut(Persist::Nothing)).unwrap();
            assert_eq!(log(&cut).len(), 3 + round);
            assert_eq!(cut.verify(Depth::Full).unwrap().events, 3 + round as u64);
        }
    }
}

#[test]
fn a_disk_too_full_for_a_large_segment_costs_no_later_commit() {
    let prepared = with_a_segment_prepared();
    for (path, call) in [
        ("MANIFEST", Call::Write),
        ("MANIFEST", Call::Create),
        ("CURRENT", Call::Write),
        (".hot.tmp", Call::Write),
        (".hot.tmp", Call::Create),
    ] {
        let vfs = prepared.process_crash();
        let store = open(vfs.clone()).unwrap();
        vfs.fail_on(path, Fault::once(call, 1, Failure::ENOSPC));
        let full = append(&store, &[("big", &vec![b'b'; 60_000])]);
        let context = format!("{call:?} of {path}");
        assert!(
            matches!(full, Err(Error::StorageFull { .. })),
            "{context}: {full:?}"
        );
        for n in 1..=4 {
            append(&store, &[("a", &[b'z'; 6000])]).unwrap();
            assert_eq!(log(&store).len(), 1 + n, "{context}: visible at once");
        }
        append(&store, &[("big", &vec![b'b'; 60_000])]).unwrap();
        let expected = [9000, 6000, 6000, 6000, 6000, 60_000];
        assert_eq!(lengths(&store), expected, "{context}");
        store.close().unwrap();
        let again =
            open(vfs.power_cut(Persist::Nothing)).unwrap_or_else(|e| panic!("{context}: {e}"));
        assert_eq!(lengths(&again), expected, "{context}");
        assert_eq!(again.verify(Depth::Full).unwrap().events, 6, "{context}");
    }
}

#[test]
fn a_crash_while_a_large_segment_is_made_loses_nothing() {
    let prepared = with_a_segment_prepared();
    let big = |vfs: &SimVfs, crash: Option<u64>| {
        let store = open(vfs.clone()).unwrap();
        let begin = vfs.steps();
        if let Some(step) = crash {
            vfs.crash_at(begin + step);
        }
        let acknowledged = append(&store, &[("big", &vec![b'b'; 60_000])]).is_ok();
        (acknowledged, vfs.steps() - begin)
    };
    let (whole, steps) = big(&prepared.process_crash(), None);
    assert!(whole && steps > 10, "{steps} steps");
    for step in 1..=steps {
        let vfs = prepared.process_crash();
        let (acknowledged, _) = big(&vfs, Some(step));
        let mut choices = vec![Persist::Nothing, Persist::Everything];
        choices.extend((0..8).map(|seed| Persist::Seeded(step * 8 + seed)));
        for persist in choices {
            let context = format!("step {step}, {persist:?}");
            let store = open(vfs.power_cut(persist)).unwrap_or_else(|e| panic!("{context}: {e}"));
            let kept = lengths(&store);
            let is_whole = kept == [9000, 60_000];
            assert!(
                is_whole || !acknowledged && kept == [9000],
                "{context}: {kept:?}"
            );
            append(&store, &[("a", &[b'z'; 12_000])]).unwrap();
            assert_eq!(lengths(&store).len(), kept.len() + 1, "{context}");
        }
    }
}

#[test]
fn any_sizes_of_segments_and_cache_hold_a_log() {
    for (first, max, cache) in [
        (0, 0, 0),
        (1, 1, 1),
        (4096, 4096, 0),
        (4097, 0, 0),
        (4100, 4100, 1),
        (5001, 7777, 1 << 20),
        (SEGMENT, SEGMENT, u64::MAX),
    ] {
        let vfs = SimVfs::tracked(1);
        let mut options = options();
        (options.first_segment, options.max_segment, options.cache) = (first, max, cache);
        for round in 1..=5 {
            let store = open_with(vfs.clone(), options).unwrap();
            for n in 0..20 {
                append(&store, &[("a", &vec![b'x'; (n * 137) % 3000])]).unwrap();
            }
            assert_eq!(log(&store).len(), round * 20, "{first} {max} {cache}");
            store.verify(Depth::Full).unwrap();
            store.close().unwrap();
        }
    }
}

#[test]
fn a_file_that_is_no_segment_of_the_log_is_set_aside() {
    for name in [
        "7.hot",
        "1.hot",
        "0000000007.hot",
        "18446744073709551615.hot",
        "99999999999999999999999.hot",
        "+000000002.hot",
        "README",
    ] {
        let vfs = SimVfs::tracked(1);
        let store = open(vfs.clone()).unwrap();
        append(&store, &[("a", b"one")]).unwrap();
        store.close().unwrap();
        let stray = format!("/store/log/{name}");
        vfs.open(stray.as_ref(), OpenMode::CreateNew).unwrap();
        vfs.write_outside(&stray, b"a stranger's").unwrap();
        let store = open(vfs.clone()).unwrap_or_else(|e| panic!("{name}: {e}"));
        append(&store, &[("a", &vec![b'x'; 20_000])]).unwrap();
        assert_eq!(lengths(&store), [3, 20_000], "{name}");
        let aside = vfs.read_file(format!("/store/quarantine/{name}")).unwrap();
        assert_eq!(aside, b"a stranger's", "{name}");
    }
}

#[test]
fn a_strange_number_of_a_manifest_is_no_number_to_go_on_from() {
    let vfs = SimVfs::tracked(1);
    let store = open(vfs.clone()).unwrap();
    append(&store, &[("a", b"one")]).unwrap();
    store.close().unwrap();
    vfs.remove("/store/CURRENT".as_ref()).unwrap();
    let stray = format!("/store/MANIFEST-{}", u64::MAX);
    vfs.open(stray.as_ref(), OpenMode::CreateNew).unwrap();
    for round in 1..3 {
        let store = open(vfs.clone()).unwrap();
        append(&store, &[("a", &vec![b'x'; 20_000])]).unwrap();
        assert_eq!(log(&store).len(), 1 + round);
        store.close().unwrap();
    }
    assert_eq!(bodies(&log(&open(vfs).unwrap()))[0], "one");
}
