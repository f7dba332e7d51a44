//! A read-only session changes no file, returns only events that no loss of power can remove, and
//! reports the number of bytes that it ignores.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test fails loudly and prints why it was skipped"
)]

mod support;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use eventbraid_engine::vfs::os::OsVfs;
use eventbraid_engine::vfs::sim::{Call, Failure, Fault, Persist, SimVfs};
use eventbraid_engine::vfs::{OpenMode, Vfs};
use eventbraid_engine::{Depth, Error, Mode, Options, ReadMode, Store};
use support::hook::{run_within_limit, wait_until};
use support::shared::{DIRTY, page, shared};
use support::{append, append_expecting, bodies, event, log, open, open_with, options};

const SEGMENT: &str = "/store/log/0000000001.hot";

fn read_only_options() -> Options {
    let mut options = options();
    options.read_only = true;
    options
}

fn open_read_only(vfs: &SimVfs) -> Result<Store, Error> {
    open_with(vfs.clone(), read_only_options())
}

fn appended(vfs: &SimVfs, bodies: &[&str]) -> Store {
    let store = open(vfs.clone()).unwrap();
    for body in bodies {
        append(&store, &[("a", body.as_bytes())]).unwrap();
    }
    store
}

/// Return all files with their bytes.
fn files(vfs: &SimVfs) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let all = vfs.files().into_iter();
    all.map(|file| (file.clone(), vfs.read_file(file).unwrap()))
        .collect()
}

/// Open the store read-only, read and verify it, and assert that no file was changed.
fn open_and_read(vfs: &SimVfs) -> Result<Store, Error> {
    let (before, steps) = (files(vfs), vfs.steps());
    let store = open_read_only(vfs);
    if let Ok(store) = &store {
        let _may_fail = store.verify(Depth::Full);
        let _may_fail = store.verify(Depth::Quick);
        log(store);
    }
    assert_eq!(vfs.steps(), steps, "{:?}", vfs.trace().last());
    assert!(files(vfs) == before);
    store
}

#[test]
fn a_closed_store_is_read_completely() {
    let vfs = SimVfs::tracked(1);
    appended(&vfs, &["one", "two", "three"]).close().unwrap();
    let store = open_and_read(&vfs).unwrap();
    assert_eq!(bodies(&log(&store)), ["one", "two", "three"]);
    assert_eq!(store.stats().unproven, 0);
    for depth in [Depth::Quick, Depth::Full] {
        assert_eq!(store.verify(depth).unwrap().events, 3, "{depth:?}");
    }
    let steps = vfs.steps();
    store.close().unwrap();
    assert_eq!(vfs.steps(), steps);
    assert_eq!(bodies(&log(&open(vfs).unwrap())).len(), 3);
}

#[test]
fn unproven_events_are_hidden_and_their_bytes_are_counted() {
    let vfs = SimVfs::tracked(1);
    let store = appended(&vfs, &["one", "two"]);
    drop_without_closing(store, &vfs);
    let crashed = vfs.process_crash();
    // Nothing proves that the last frame is durable: it may be cached and not on the disk.
    let opened = open_and_read(&crashed).unwrap();
    assert_eq!(bodies(&log(&opened)), ["one"]);
    let unproven = opened.stats().unproven;
    assert!(unproven > 100, "{unproven}");
    drop(opened);
    assert_eq!(bodies(&log(&open(crashed).unwrap())), ["one", "two"]);
}

/// End the process, so that the files stay as they were before the store could be closed.
fn drop_without_closing(store: Store, vfs: &SimVfs) {
    vfs.crash_at(vfs.steps() + 1);
    drop(store);
}

#[test]
fn a_read_only_open_after_any_crash_changes_nothing_and_shows_only_durable_events() {
    let script = |vfs: &SimVfs| {
        let Ok(store) = open(vfs.clone()) else { return };
        for n in 0..8 {
            if append(&store, &[("a", &vec![b'x'; 300 + n * 900])]).is_err() {
                return;
            }
        }
        let _crashed = store.close();
    };
    let probe = SimVfs::tracked(0);
    script(&probe);
    let mut visible = 0;
    for step in 1..=probe.steps() {
        let vfs = SimVfs::tracked(step);
        vfs.crash_at(step);
        script(&vfs);
        for left in [vfs.process_crash(), vfs.power_cut(Persist::Seeded(step))] {
            let context = format!("step {step}");
            let opened = match open_and_read(&left) {
                Ok(store) => bodies(&log(&store)),
                // The creation of the store was interrupted.
                Err(Error::NotAStore { .. }) => Vec::new(),
                Err(e) => panic!("{context}: {e}"),
            };
            visible += opened.len();
            let cut = open(left.power_cut(Persist::Nothing));
            let kept = bodies(&log(&cut.unwrap_or_else(|e| panic!("{context}: {e}"))));
            assert!(
                kept.starts_with(&opened),
                "{context}: {} of {}",
                kept.len(),
                opened.len()
            );
        }
    }
    assert!(visible > 100, "{visible}");
}

#[test]
fn a_store_with_a_failed_sync_is_read_up_to_its_durable_end() {
    let vfs = SimVfs::tracked(1);
    let store = appended(&vfs, &["one", "two"]);
    vfs.fail_on(
        ".hot",
        Fault::once(Call::SyncData, 1, Failure::EIO).losing(),
    );
    append(&store, &[("a", b"unknown")]).unwrap_err();
    drop(store);
    let vfs = vfs.process_crash();
    let opened = open_and_read(&vfs).unwrap();
    assert_eq!(bodies(&log(&opened)), ["one", "two"]);
    assert!(opened.stats().unproven > 0);
    drop(opened);
    drop(open(vfs.clone()).unwrap());
    let opened = open_and_read(&vfs).unwrap();
    assert_eq!(bodies(&log(&opened)), ["one", "two"]);
    assert_eq!(
        opened.stats().unproven,
        0,
        "a void frame counts as unproven"
    );
}

#[test]
fn events_before_damage_are_read_and_verify_reports_the_damage() {
    let vfs = SimVfs::tracked(1);
    appended(&vfs, &["one", "two", "three"]).close().unwrap();
    let bytes = vfs.read_file(SEGMENT).unwrap();
    let at = bytes.windows(5).position(|text| text == b"three").unwrap();
    vfs.corrupt(SEGMENT, at as u64, 1).unwrap();
    assert!(matches!(open(vfs.clone()), Err(Error::CorruptStore { .. })));
    let store = open_and_read(&vfs).unwrap();
    assert_eq!(bodies(&log(&store)), ["one", "two"]);
    assert!(store.stats().unproven > 0);
    for depth in [Depth::Quick, Depth::Full] {
        let verified = store.verify(depth);
        let Err(Error::CorruptStore { file, .. }) = verified else {
            panic!("{depth:?}: {verified:?}")
        };
        assert_eq!(file.to_str(), Some(SEGMENT));
    }
}

#[test]
fn events_before_a_missing_segment_are_read() {
    let vfs = SimVfs::tracked(1);
    let body = "x".repeat(9000);
    appended(&vfs, &[body.as_str(); 6]).close().unwrap();
    let gone = "/store/log/0000000002.hot";
    vfs.remove(gone.as_ref()).unwrap();
    for manifest in [true, false] {
        if !manifest {
            vfs.corrupt("/store/CURRENT", 3, 0xff).unwrap();
        }
        let store = open_and_read(&vfs).unwrap();
        // Without a manifest nothing proves the first event: its hint covers only earlier bytes.
        let visible = usize::from(manifest);
        assert_eq!(log(&store).len(), visible);
        assert_eq!(store.stats().unproven > 0, !manifest);
        let verified = store.verify(Depth::Full);
        assert!(
            matches!(verified, Err(Error::CorruptStore { .. })),
            "{verified:?}"
        );
    }
}

#[test]
fn a_flipped_byte_shows_a_prefix_of_the_log_or_a_typed_error() {
    let vfs = SimVfs::tracked(1);
    let store = appended(&vfs, &["one", "two", "three"]);
    append_expecting(&store, &[("b", b"four")], &[], Some("key")).unwrap();
    store.close().unwrap();
    let expected = ["one", "two", "three", "four"];
    for file in vfs.files() {
        let size = vfs.read_file(&file).unwrap().len().min(5200);
        for offset in (0..size as u64).filter(|at| *at < 100 || *at >= 4096) {
            let damaged = vfs.process_crash();
            damaged.corrupt(&file, offset, 0x10).unwrap();
            match open_read_only(&damaged) {
                Ok(store) => {
                    let visible = bodies(&log(&store));
                    assert!(
                        expected.iter().zip(&visible).all(|(e, s)| e == s),
                        "{file:?} {offset}"
                    );
                    let is_reported =
                        store.verify(Depth::Full).is_err() || store.stats().unproven > 0;
                    assert!(visible.len() == 4 || is_reported, "{file:?} at {offset}");
                }
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
fn appends_are_refused_with_an_error_that_names_read_only() {
    let vfs = SimVfs::tracked(1);
    let store = appended(&vfs, &["one"]);
    append_expecting(&store, &[("a", b"k")], &[], Some("key")).unwrap();
    store.close().unwrap();
    let store = open_read_only(&vfs).unwrap();
    let refused = append(&store, &[("a", b"two")]).unwrap_err();
    let Error::Io { kind, .. } = &refused else {
        panic!("{refused:?}")
    };
    assert_eq!(*kind, std::io::ErrorKind::ReadOnlyFilesystem);
    let message = refused.to_string();
    assert!(
        message.contains("could not append to /store") && message.contains("read_only"),
        "{message}"
    );
    let (sender, receiver) = std::sync::mpsc::channel();
    let one = [event("a", b"two")];
    let prepared = eventbraid_engine::prepare(&eventbraid_engine::Append {
        events: &one,
        ..eventbraid_engine::Append::default()
    });
    store.submit(
        prepared.unwrap(),
        Box::new(move |done| sender.send(done.is_err()).unwrap()),
    );
    assert!(receiver.recv().unwrap());
    assert!(
        store
            .committed("key", None, ReadMode::Blocking)
            .unwrap()
            .is_some()
    );
}

#[test]
fn a_wait_for_more_events_ends_when_the_store_closes() {
    let vfs = SimVfs::tracked(1);
    appended(&vfs, &["one"]).close().unwrap();
    let store = open_read_only(&vfs).unwrap();
    assert_eq!(store.wait_beyond(0, Duration::from_secs(9)).unwrap(), 1);
    assert_eq!(store.wait_beyond(1, Duration::from_millis(20)).unwrap(), 1);
    let waiting = store.clone();
    let waiter = std::thread::spawn(move || waiting.wait_beyond(1, Duration::from_mins(1)));
    wait_until("it to wait", || !waiter.is_finished());
    store.close().unwrap();
    let ended = run_within_limit(move || waiter.join().unwrap());
    assert!(matches!(ended, Err(Error::Closed)), "{ended:?}");
}

#[test]
fn a_read_only_session_keeps_the_store_busy() {
    let vfs = SimVfs::tracked(1);
    appended(&vfs, &["one"]).close().unwrap();
    let store = open_read_only(&vfs).unwrap();
    assert!(matches!(open(vfs.clone()), Err(Error::StoreBusy { .. })));
    assert!(matches!(open_read_only(&vfs), Err(Error::StoreBusy { .. })));
    drop(store);
    open(vfs).unwrap();
}

#[test]
fn a_read_only_open_creates_no_store() {
    let vfs = SimVfs::tracked(1);
    assert!(matches!(open_and_read(&vfs), Err(Error::NotAStore { .. })));
    vfs.create_dir("/store".as_ref()).unwrap();
    assert!(matches!(open_and_read(&vfs), Err(Error::NotAStore { .. })));
    let file = SimVfs::tracked(1);
    file.open("/store".as_ref(), OpenMode::CreateNew).unwrap();
    assert!(matches!(open_and_read(&file), Err(Error::NotAStore { .. })));
}

#[test]
fn an_interrupted_creation_is_completed_by_the_next_open() {
    let probe = SimVfs::tracked(0);
    drop(open(probe.clone()).unwrap());
    for step in 1..=probe.steps() {
        let vfs = SimVfs::tracked(step);
        vfs.crash_at(step);
        drop(open(vfs.clone()));
        for left in [
            vfs.process_crash(),
            vfs.power_cut(Persist::Nothing),
            vfs.power_cut(Persist::Everything),
            vfs.power_cut(Persist::Seeded(step)),
        ] {
            match open_and_read(&left) {
                Ok(store) => assert!(log(&store).is_empty()),
                Err(Error::NotAStore { reason, .. }) => assert!(!reason.is_empty()),
                Err(e) => panic!("step {step}: {e}"),
            }
            let store = open(left).unwrap_or_else(|e| panic!("step {step}: {e}"));
            append(&store, &[("a", b"one")]).unwrap();
            assert_eq!(bodies(&log(&store)), ["one"]);
        }
    }
}

/// Increase the format version in a file, and update its checksum.
fn raise_format(bytes: &mut [u8], checked: usize, hash: impl Fn(&[u8]) -> Vec<u8>) {
    bytes[8] += 1;
    let sum = hash(&bytes[..checked]);
    bytes[checked..checked + sum.len()].copy_from_slice(&sum);
}

#[test]
fn a_newer_format_is_reported_for_every_kind_of_file() {
    let vfs = SimVfs::tracked(1);
    let store = appended(&vfs, &["one"]);
    vfs.fail_on(".hot", Fault::once(Call::SyncData, 1, Failure::EIO));
    append(&store, &[("a", b"unknown")]).unwrap_err();
    drop(store);
    let vfs = vfs.process_crash();
    let crc = |bytes: &[u8]| crc32c::crc32c(bytes).to_le_bytes().to_vec();
    let xxh3 = |bytes: &[u8]| xxhash_rust::xxh3::xxh3_64(bytes).to_le_bytes().to_vec();
    let manifest = vfs
        .files()
        .into_iter()
        .find(|f| f.to_string_lossy().contains("MANIFEST"));
    for path in [
        Path::new("/store/IDENTITY"),
        &manifest.unwrap(),
        Path::new(SEGMENT),
        Path::new("/store/POISONED"),
    ] {
        let newer = vfs.process_crash();
        let mut bytes = newer.read_file(path).unwrap();
        let length = bytes.len();
        match path.to_str().unwrap() {
            "/store/IDENTITY" => raise_format(&mut bytes, 60, crc),
            SEGMENT => raise_format(&mut bytes, 56, crc),
            _ => raise_format(&mut bytes, length - 8, xxh3),
        }
        newer.write_outside(path, &bytes).unwrap();
        for opened in [open(newer.clone()), open_and_read(&newer)] {
            let Err(Error::IncompatibleFormat {
                path: named,
                found: 2,
                supported: 1,
            }) = opened
            else {
                panic!("{path:?}: {opened:?}")
            };
            assert_eq!(named, path);
        }
    }
}

#[test]
fn a_read_only_session_changes_no_file_of_a_real_store() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("store");
    let open = |read_only| {
        let mut options = Options::default();
        options.read_only = read_only;
        Store::open(Arc::new(OsVfs::new()), &root, options)
    };
    let store = open(false).unwrap();
    append(&store, &[("a", b"one")]).unwrap();
    store.close().unwrap();
    let times = || {
        let mut times = Vec::new();
        for directory in [root.clone(), root.join("log"), root.join("locks")] {
            times.push(std::fs::metadata(&directory).unwrap().modified().unwrap());
            for entry in std::fs::read_dir(directory).unwrap() {
                times.push(entry.unwrap().metadata().unwrap().modified().unwrap());
            }
        }
        times
    };
    let before = times();
    let store = open(true).unwrap();
    assert_eq!(bodies(&log(&store)), ["one"]);
    store.verify(Depth::Full).unwrap();
    store.close().unwrap();
    assert_eq!(times(), before);
}

/// Other sessions may open the store next to a read-only one. Their appends are no damage.
#[test]
fn a_read_only_session_verifies_while_other_sessions_append() {
    let mut small = options();
    small.mode = Mode::Shared;
    small.first_segment = 16 << 10;
    small.max_segment = 16 << 10;
    let vfs = SimVfs::memory();
    let store = open_with(vfs.clone(), small).unwrap();
    append(&store, &[("a", b"seen")]).unwrap();
    store.close().unwrap();
    let mut read_only = small;
    read_only.read_only = true;
    let reader = open_with(vfs.clone(), read_only).unwrap();
    let later = open_with(vfs.clone(), small).unwrap();
    for _ in 0..8 {
        append(&later, &[("a", &[7; 4000])]).unwrap();
    }
    assert!(later.stats().segments > 1);
    for depth in [Depth::Quick, Depth::Full] {
        assert_eq!(reader.verify(depth).unwrap().events, 1, "while they write");
    }
    later.close().unwrap();
    for depth in [Depth::Quick, Depth::Full] {
        assert_eq!(reader.verify(depth).unwrap().events, 1, "after they wrote");
    }
    let current = Path::new("/store/CURRENT");
    vfs.write_outside(current, b"MANIFEST-77\n").unwrap();
    let damaged = reader.verify(Depth::Quick);
    assert!(
        matches!(&damaged, Err(Error::CorruptStore { file, .. }) if file == current),
        "{damaged:?}"
    );
}

#[test]
fn a_read_only_session_verifies_a_log_with_bytes_of_a_dead_writer() {
    let disk = SimVfs::memory();
    let store = open_with(disk.clone(), shared(options())).unwrap();
    append(&store, &[("s", b"first")]).unwrap();
    let mut read_only = shared(options());
    read_only.read_only = true;
    let reader = open_with(disk.clone(), read_only).unwrap();
    page(&disk).store(DIRTY, 8192);
    disk.corrupt("/store/log/0000000001.hot", 8000, 0x40)
        .unwrap();
    assert_eq!(reader.verify(Depth::Full).unwrap().events, 1);
    let left = disk.read_file("/store/log/0000000001.hot").unwrap();
    assert_eq!(left[8000], 0x40, "the read-only session wrote");
    append(&store, &[("s", b"second")]).unwrap();
    assert_eq!(store.verify(Depth::Full).unwrap().events, 2);
}
