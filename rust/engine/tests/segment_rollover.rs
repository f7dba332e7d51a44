//! A log that continues in a next segment keeps every acknowledged commit.
//!
//! The next segment is created and listed before its first frame, while the tail is still in the
//! previous one: exactly at its end, or before a frame that is too large for the prepared segment.
//! In some tests the disk is full, or the process crashes, between these steps.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails loudly"
)]

mod support;

use std::path::Path;
use std::sync::Arc;

use eventbraid_engine::vfs::OpenMode;
use eventbraid_engine::vfs::Vfs;
use eventbraid_engine::vfs::os::OsVfs;
use eventbraid_engine::vfs::sim::{Call, Failure, Fault, Persist, SimVfs};
use eventbraid_engine::{Depth, Error, Store};
use support::hook::wait_until;
use support::{append, bodies, log, open, open_with, options, stream, threaded};

const SEGMENT: u64 = 16 << 10;

/// Create a closed store with one event and an empty second segment.
fn with_a_prepared_segment() -> SimVfs {
    let vfs = SimVfs::tracked(1);
    let store = open_with(vfs.clone(), threaded()).unwrap();
    append(&store, &[("a", &[b'x'; 9000])]).unwrap();
    wait_until("the next segment", || store.stats().segments == 2);
    store.close().unwrap();
    vfs
}

/// Return the lengths of the bodies.
fn lengths(store: &Store) -> Vec<usize> {
    log(store).iter().map(|event| event.data().len()).collect()
}

/// Append a body that ends exactly at the end of the first segment.
fn fill_to_the_end(store: &Store) {
    // The number of bytes of a frame without its body.
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
fn a_log_that_fills_its_segment_exactly_continues() {
    for vfs in [with_a_prepared_segment(), {
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
fn a_disk_too_full_for_a_large_segment_fails_no_later_append() {
    let prepared = with_a_prepared_segment();
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
fn a_crash_while_a_large_segment_is_created_loses_nothing() {
    let prepared = with_a_prepared_segment();
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
fn every_size_of_segments_and_cache_stores_the_log() {
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
fn a_file_that_is_not_a_segment_is_set_aside() {
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
        vfs.write_outside(&stray, b"a foreign file").unwrap();
        let store = open(vfs.clone()).unwrap_or_else(|e| panic!("{name}: {e}"));
        append(&store, &[("a", &vec![b'x'; 20_000])]).unwrap();
        assert_eq!(lengths(&store), [3, 20_000], "{name}");
        let aside = vfs.read_file(format!("/store/quarantine/{name}")).unwrap();
        assert_eq!(aside, b"a foreign file", "{name}");
    }
}

#[test]
fn an_invalid_manifest_number_is_not_continued() {
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

#[test]
fn the_log_continues_across_segments_and_restarts() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("shop.braid");
    let body = vec![b'x'; 3000];
    for round in 0..5u64 {
        let mut options = support::options();
        options.background = round % 2 == 1;
        let store = eventbraid_engine::Store::open(Arc::new(OsVfs::new()), &path, options).unwrap();
        assert_eq!(store.head().unwrap(), round * 40);
        for n in 0..40u64 {
            let stream = format!("s-{}", n % 7);
            append(&store, &[(&stream, &body)]).unwrap();
        }
        assert_eq!(store.verify(Depth::Full).unwrap().events, (round + 1) * 40);
        store.close().unwrap();
    }
    let store = eventbraid_engine::Store::open(
        Arc::new(OsVfs::new()),
        Path::new(&path),
        support::options(),
    )
    .unwrap();
    assert_eq!(log(&store).len(), 200);
    assert!(store.stats().segments > 3);
    assert_eq!(support::streams(&store, "s-").unwrap().len(), 7);
}

#[test]
fn a_large_frame_gets_a_segment_of_its_own_size() {
    let vfs = SimVfs::tracked(1);
    let store = open(vfs.clone()).unwrap();
    append(&store, &[("a", b"small")]).unwrap();
    append(&store, &[("a", &vec![b'x'; 1 << 20])]).unwrap();
    append(&store, &[("a", b"after")]).unwrap();
    drop(store);
    let store = open(vfs).unwrap();
    let sizes: Vec<_> = stream(&store, "a").iter().map(|e| e.data().len()).collect();
    assert_eq!(sizes, [5, 1 << 20, 5]);
}
