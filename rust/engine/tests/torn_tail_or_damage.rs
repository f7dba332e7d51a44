//! Recovery distinguishes damage from a torn tail: it cuts a torn tail, reports damage, and never
//! reads other events than were appended.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails loudly"
)]

mod support;

use eventbraid_engine::vfs::sim::{Persist, SimVfs};
use eventbraid_engine::vfs::{OpenMode, Vfs};
use eventbraid_engine::{Depth, Error, Store};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use support::frames::frames;
use support::hook::{Flag, HookedVfs, Op, let_other_threads_run, wait_until};
use support::{append, append_expecting, bodies, log, open, open_with, threaded};

const SEGMENT: &str = "/store/log/0000000001.hot";

fn appended(vfs: &SimVfs, bodies: &[&str]) -> Store {
    let store = open(vfs.clone()).unwrap();
    for body in bodies {
        append(&store, &[("a", body.as_bytes())]).unwrap();
    }
    store
}

fn find(vfs: &SimVfs, text: &str) -> u64 {
    let bytes = vfs.read_file(SEGMENT).unwrap();
    bytes
        .windows(text.len())
        .position(|w| w == text.as_bytes())
        .unwrap() as u64
}

#[test]
fn every_flipped_byte_is_reported_or_harmless() {
    let vfs = SimVfs::tracked(1);
    let store = appended(&vfs, &["one", "two", "three"]);
    append_expecting(&store, &[("b", b"four")], &[], Some("key")).unwrap();
    store.close().unwrap();
    let expected = ["one", "two", "three", "four"];
    let length = vfs
        .read_file(SEGMENT)
        .unwrap()
        .iter()
        .rposition(|b| *b != 0)
        .unwrap()
        + 64;
    for file in vfs.files() {
        let size = vfs.read_file(&file).unwrap().len().min(length);
        for offset in 0..size as u64 {
            let damaged = vfs.process_crash();
            damaged.corrupt(&file, offset, 0x10).unwrap();
            // Expect the complete log or a typed error, never another event and never a shorter
            // log.
            match open(damaged) {
                Ok(store) => assert_eq!(bodies(&log(&store)), expected, "{file:?} at {offset}"),
                Err(
                    Error::CorruptStore { .. }
                    | Error::IncompatibleFormat { .. }
                    | Error::NotAStore { .. },
                ) => {}
                Err(e) => panic!("{file:?} at {offset}: {e}"),
            }
        }
    }
}

#[test]
fn a_flip_in_the_last_frame_of_a_closed_store_is_damage() {
    let vfs = SimVfs::tracked(1);
    appended(&vfs, &["one", "last"]).close().unwrap();
    vfs.corrupt(SEGMENT, find(&vfs, "last"), 1).unwrap();
    let Err(Error::CorruptStore { file, offset, .. }) = open(vfs.clone()) else {
        panic!("opened a damaged store")
    };
    assert_eq!(file.to_str(), Some(SEGMENT));
    assert!(offset > 4096 && offset < find(&vfs, "ast"));
}

#[test]
fn a_flip_below_a_later_durable_hint_is_damage_without_a_clean_close() {
    let vfs = SimVfs::tracked(1);
    let store = appended(&vfs, &["one", "two", "three", "four"]);
    let crashed = vfs.power_cut(Persist::Everything);
    drop(store);
    crashed.corrupt(SEGMENT, find(&crashed, "two"), 1).unwrap();
    assert!(matches!(open(crashed), Err(Error::CorruptStore { .. })));
}

#[test]
fn a_torn_last_frame_is_cut() {
    let vfs = SimVfs::tracked(1);
    let store = appended(&vfs, &["one", "two"]);
    let crashed = vfs.power_cut(Persist::Everything);
    drop(store);
    crashed.corrupt(SEGMENT, find(&crashed, "two"), 1).unwrap();
    let store = open(crashed).unwrap();
    assert_eq!(bodies(&log(&store)), ["one"]);
    append(&store, &[("a", b"two again")]).unwrap();
    assert_eq!(bodies(&log(&store)), ["one", "two again"]);
}

#[test]
fn a_frame_of_another_history_is_not_restored() {
    // Two histories of equal lengths diverge after "one". The last frame of the first history has
    // the position, length, address and checksum to follow the frames of the second one.
    let common = SimVfs::tracked(1);
    let store = appended(&common, &["one"]);
    let (first, second) = (common.process_crash(), common.process_crash());
    drop(store);
    let ghost = {
        let store = appended(&first, &["AAA", "ghost"]);
        let crashed = first.process_crash();
        drop(store);
        crashed.read_file(SEGMENT).unwrap()
    };
    let store = appended(&second, &["BBB"]);
    let crashed = second.process_crash();
    drop(store);
    let mut bytes = crashed.read_file(SEGMENT).unwrap();
    let tail = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    let tail = tail.next_multiple_of(8);
    bytes[tail..].copy_from_slice(&ghost[tail..]);
    crashed.write_outside(SEGMENT, &bytes).unwrap();
    let store = open(crashed).unwrap();
    assert_eq!(bodies_of(&store), ["one", "BBB"]);
    let kept = store.verify(Depth::Full).unwrap();
    assert_eq!(kept.events, 2);
}

fn bodies_of(store: &Store) -> Vec<String> {
    bodies(&log(store))
}

#[test]
fn frames_copied_into_an_event_body_are_not_frames() {
    let vfs = SimVfs::tracked(1);
    let store = appended(&vfs, &["one", "two"]);
    let copied = vfs.read_file(SEGMENT).unwrap()[4096..5000].to_vec();
    append(&store, &[("a", &copied)]).unwrap();
    let crashed = vfs.power_cut(Persist::Everything);
    drop(store);
    // The frame with the copies is torn. Frames in its body prove nothing about the log.
    let at = find(&crashed, "happened") + 1;
    let bytes = crashed.read_file(SEGMENT).unwrap();
    let copy = bytes
        .windows(copied.len())
        .rposition(|w| w == copied)
        .unwrap() as u64;
    assert!(copy > at);
    crashed
        .corrupt(SEGMENT, copy + copied.len() as u64 - 1, 1)
        .unwrap();
    let store = open(crashed).unwrap();
    assert_eq!(bodies_of(&store), ["one", "two"]);
}

#[test]
fn a_missing_segment_is_reported_by_name() {
    let vfs = SimVfs::tracked(1);
    let body = "x".repeat(9000);
    appended(&vfs, &[body.as_str(); 6]).close().unwrap();
    let gone = "/store/log/0000000002.hot";
    assert!(vfs.read_file(gone).is_ok());
    vfs.remove(gone.as_ref()).unwrap();
    let Err(Error::CorruptStore { file, .. }) = open(vfs) else {
        panic!("opened with a gap")
    };
    assert_eq!(file.to_str(), Some(gone));
}

#[test]
fn a_log_without_any_segment_is_damaged_and_not_new() {
    let vfs = SimVfs::tracked(1);
    appended(&vfs, &["one"]).close().unwrap();
    vfs.remove(SEGMENT.as_ref()).unwrap();
    vfs.remove("/store/CURRENT".as_ref()).unwrap();
    let opened = open(vfs);
    let Err(Error::CorruptStore { file, .. }) = opened else {
        panic!("{opened:?}")
    };
    assert_eq!(file.to_str(), Some("/store/log"));
}

#[test]
fn an_idle_log_proves_its_last_event_on_a_slow_disk() {
    let sim = SimVfs::tracked(1);
    let (opened, looked, syncs) = (Flag::default(), Flag::default(), AtomicU64::new(0));
    let vfs = {
        let (opened, looked) = (opened.clone(), looked.clone());
        HookedVfs::new(sim.clone(), move |call| {
            if call.is(Op::SyncData, ".hot") {
                // The first sync is that of the append, the next one that of the marker.
                if opened.is_set() && syncs.fetch_add(1, Ordering::SeqCst) > 0 {
                    looked.wait("a look at the log before it is idle");
                }
                std::thread::sleep(Duration::from_millis(150));
            }
            Ok(())
        })
    };
    let mut options = threaded();
    options.zero_fill = false;
    let store = open_with(vfs, options).unwrap();
    opened.set();
    append(&store, &[("a", b"rotten")]).unwrap();
    let is_proven = || {
        let damaged = sim.power_cut(Persist::Nothing);
        damaged
            .corrupt(SEGMENT, find(&damaged, "rotten"), 1)
            .unwrap();
        matches!(open(damaged), Err(Error::CorruptStore { .. }))
    };
    assert!(!is_proven(), "proven before the log is idle");
    looked.set();
    wait_until("a sync marker that proves the event", is_proven);
    assert_eq!(store.stats().session.events, 1);
}

/// Write the first frame of a second segment with an outdated durable hint. Only the presence of
/// that frame then proves the end of the first segment. Return `None` if the hint was up to date.
fn rollover_with_a_stale_hint() -> Option<SimVfs> {
    let sim = SimVfs::tracked(1);
    let [armed, begun, go] = [(); 3].map(|()| Flag::default());
    let vfs = {
        let (armed, begun, go) = (armed.clone(), begun.clone(), go.clone());
        HookedVfs::new(sim.clone(), move |call| {
            if armed.is_set() && call.is(Op::SyncData, "0000000001.hot") {
                begun.set();
                go.wait("the rollover");
            }
            Ok(())
        })
    };
    let store = open(vfs).unwrap();
    append(&store, &[("a", b"one")]).unwrap();
    armed.set();
    std::thread::scope(|scope| {
        let rotten = scope.spawn(|| append(&store, &[("a", b"rotten")]));
        begun.wait("the sync of the first segment");
        let rolling = scope.spawn(|| append(&store, &[("a", &[b'x'; 14_000])]));
        // Time for the write batch of the append to begin. The batch then waits for the sync.
        let_other_threads_run();
        go.set();
        rotten.join().unwrap().unwrap();
        rolling.join().unwrap().unwrap();
    });
    let cut = sim.power_cut(Persist::Everything);
    let second = cut.read_file("/store/log/0000000002.hot").unwrap();
    let first_end = frames(&cut.read_file(SEGMENT).unwrap()).last()?.end() as u64;
    (frames(&second).first()?.durable_hint < first_end).then_some(cut)
}

#[test]
fn the_first_frame_of_a_segment_proves_the_previous_segment() {
    let cut = (0..50).find_map(|_| rollover_with_a_stale_hint()).unwrap();
    cut.corrupt(SEGMENT, find(&cut, "rotten"), 1).unwrap();
    let Err(Error::CorruptStore { file, offset, .. }) = open(cut.clone()) else {
        panic!("opened a damaged store")
    };
    let damaged = *frames(&cut.read_file(SEGMENT).unwrap()).last().unwrap();
    assert_eq!(
        (file.to_str(), offset),
        (Some(SEGMENT), damaged.offset as u64)
    );
}

#[test]
fn a_first_frame_with_a_torn_body_proves_nothing() {
    let cut = (0..50).find_map(|_| rollover_with_a_stale_hint()).unwrap();
    let second = "/store/log/0000000002.hot";
    let bytes = cut.read_file(second).unwrap();
    let torn = frames(&bytes)[0].end() as u64 - 100;
    cut.corrupt(second, torn, 1).unwrap();
    assert_eq!(bodies_of(&open(cut).unwrap()), ["one", "rotten"]);
}

#[test]
fn a_damaged_manifest_loses_no_segment() {
    let vfs = SimVfs::tracked(1);
    let body = "x".repeat(9000);
    appended(&vfs, &[body.as_str(); 6]).close().unwrap();
    let manifests: Vec<_> = vfs
        .files()
        .into_iter()
        .filter(|f| f.to_string_lossy().contains("MANIFEST") || f.ends_with("CURRENT"))
        .collect();
    assert_eq!(manifests.len(), 2);
    for manifest in manifests {
        let damaged = vfs.process_crash();
        damaged.corrupt(&manifest, 3, 0xff).unwrap();
        assert_eq!(log(&open(damaged).unwrap()).len(), 6);
    }
}

#[test]
fn a_segment_that_does_not_continue_the_log_is_set_aside() {
    let vfs = SimVfs::tracked(1);
    appended(&vfs, &["one"]).close().unwrap();
    let stray = "/store/log/0000000007.hot";
    vfs.open(stray.as_ref(), OpenMode::CreateNew).unwrap();
    vfs.write_outside(stray, b"what is this").unwrap();
    let store = open(vfs.clone()).unwrap();
    assert_eq!(bodies_of(&store), ["one"]);
    let kept: Vec<_> = vfs
        .files()
        .into_iter()
        .filter(|f| f.to_string_lossy().contains("quarantine"))
        .collect();
    assert_eq!(kept.len(), 1);
    assert_eq!(vfs.read_file(&kept[0]).unwrap(), b"what is this");
}
