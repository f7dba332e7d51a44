//! A store that is only looked at: nothing is changed, nothing is shown that a loss of power
//! could take back, and nothing is kept quiet.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test fails loudly, and says why it was skipped"
)]

mod support;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use eventbraid_engine::vfs::os::OsVfs;
use eventbraid_engine::vfs::sim::{Call, Failure, Fault, Persist, SimVfs};
use eventbraid_engine::vfs::{OpenMode, Vfs};
use eventbraid_engine::{Depth, Error, Mode, Options, ReadMode, Store};
use support::hook::{must_end, until};
use support::{append, append_expecting, bodies, event, log, open, open_with, options};

const SEGMENT: &str = "/store/log/0000000001.hot";

fn looking() -> Options {
    let mut options = options();
    options.read_only = true;
    options
}

fn look(vfs: &SimVfs) -> Result<Store, Error> {
    open_with(vfs.clone(), looking())
}

fn appended(vfs: &SimVfs, bodies: &[&str]) -> Store {
    let store = open(vfs.clone()).unwrap();
    for body in bodies {
        append(&store, &[("a", body.as_bytes())]).unwrap();
    }
    store
}

/// All files and what they hold.
fn files(vfs: &SimVfs) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let all = vfs.files().into_iter();
    all.map(|file| (file.clone(), vfs.read_file(file).unwrap()))
        .collect()
}

/// Looks, and makes sure that the look left no trace.
fn look_in_passing(vfs: &SimVfs) -> Result<Store, Error> {
    let (before, steps) = (files(vfs), vfs.steps());
    let store = look(vfs);
    if let Ok(store) = &store {
        let _sound_or_not = store.verify(Depth::Full);
        let _sound_or_not = store.verify(Depth::Quick);
        log(store);
    }
    assert_eq!(vfs.steps(), steps, "{:?}", vfs.trace().last());
    assert!(files(vfs) == before);
    store
}

#[test]
fn a_closed_store_is_shown_whole() {
    let vfs = SimVfs::tracked(1);
    appended(&vfs, &["one", "two", "three"]).close().unwrap();
    let store = look_in_passing(&vfs).unwrap();
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
fn nothing_is_shown_that_a_loss_of_power_could_take_back_and_nothing_kept_quiet() {
    let vfs = SimVfs::tracked(1);
    let store = appended(&vfs, &["one", "two"]);
    drop_without_closing(store, &vfs);
    let crashed = vfs.process_crash();
    // The last frame is proven by nothing: it may be cached and on no disk.
    let looked = look_in_passing(&crashed).unwrap();
    assert_eq!(bodies(&log(&looked)), ["one"]);
    let unproven = looked.stats().unproven;
    assert!(unproven > 100, "{unproven}");
    drop(looked);
    assert_eq!(bodies(&log(&open(crashed).unwrap())), ["one", "two"]);
}

/// The process dies: the file system is as it was before the store could be closed.
fn drop_without_closing(store: Store, vfs: &SimVfs) {
    vfs.crash_at(vfs.steps() + 1);
    drop(store);
}

#[test]
fn whatever_a_crash_left_is_looked_at_without_a_change_and_stays_when_power_is_lost() {
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
    let mut shown = 0;
    for step in 1..=probe.steps() {
        let vfs = SimVfs::tracked(step);
        vfs.crash_at(step);
        script(&vfs);
        for left in [vfs.process_crash(), vfs.power_cut(Persist::Seeded(step))] {
            let context = format!("step {step}");
            let looked = match look_in_passing(&left) {
                Ok(store) => bodies(&log(&store)),
                // The store itself was still being made.
                Err(Error::NotAStore { .. }) => Vec::new(),
                Err(e) => panic!("{context}: {e}"),
            };
            shown += looked.len();
            let cut = open(left.power_cut(Persist::Nothing));
            let kept = bodies(&log(&cut.unwrap_or_else(|e| panic!("{context}: {e}"))));
            assert!(
                kept.starts_with(&looked),
                "{context}: {} of {}",
                kept.len(),
                looked.len()
            );
        }
    }
    assert!(shown > 100, "{shown}");
}

#[test]
fn a_store_whose_sync_failed_is_shown_as_far_as_it_was_durable() {
    let vfs = SimVfs::tracked(1);
    let store = appended(&vfs, &["one", "two"]);
    vfs.fail_on(
        ".hot",
        Fault::once(Call::SyncData, 1, Failure::EIO).losing(),
    );
    append(&store, &[("a", b"unknown")]).unwrap_err();
    drop(store);
    let vfs = vfs.process_crash();
    let looked = look_in_passing(&vfs).unwrap();
    assert_eq!(bodies(&log(&looked)), ["one", "two"]);
    assert!(looked.stats().unproven > 0);
    drop(looked);
    drop(open(vfs.clone()).unwrap());
    let looked = look_in_passing(&vfs).unwrap();
    assert_eq!(bodies(&log(&looked)), ["one", "two"]);
    assert_eq!(looked.stats().unproven, 0, "void is not unproven");
}

#[test]
fn what_stands_below_damage_is_shown_and_verification_tells_of_it() {
    let vfs = SimVfs::tracked(1);
    appended(&vfs, &["one", "two", "three"]).close().unwrap();
    let bytes = vfs.read_file(SEGMENT).unwrap();
    let at = bytes.windows(5).position(|text| text == b"three").unwrap();
    vfs.corrupt(SEGMENT, at as u64, 1).unwrap();
    assert!(matches!(open(vfs.clone()), Err(Error::CorruptStore { .. })));
    let store = look_in_passing(&vfs).unwrap();
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
fn what_stands_before_a_missing_segment_is_shown() {
    let vfs = SimVfs::tracked(1);
    let body = "x".repeat(9000);
    appended(&vfs, &[body.as_str(); 6]).close().unwrap();
    let gone = "/store/log/0000000002.hot";
    vfs.remove(gone.as_ref()).unwrap();
    for manifest in [true, false] {
        if !manifest {
            vfs.corrupt("/store/CURRENT", 3, 0xff).unwrap();
        }
        let store = look_in_passing(&vfs).unwrap();
        // Without a manifest nothing proves the first event, whose hint names what was before.
        let shown = usize::from(manifest);
        assert_eq!(log(&store).len(), shown);
        assert_eq!(store.stats().unproven > 0, !manifest);
        let verified = store.verify(Depth::Full);
        assert!(
            matches!(verified, Err(Error::CorruptStore { .. })),
            "{verified:?}"
        );
    }
}

#[test]
fn any_flipped_byte_shows_the_beginning_of_the_truth_or_a_typed_error() {
    let vfs = SimVfs::tracked(1);
    let store = appended(&vfs, &["one", "two", "three"]);
    append_expecting(&store, &[("b", b"four")], &[], Some("key")).unwrap();
    store.close().unwrap();
    let truth = ["one", "two", "three", "four"];
    for file in vfs.files() {
        let size = vfs.read_file(&file).unwrap().len().min(5200);
        for offset in (0..size as u64).filter(|at| *at < 100 || *at >= 4096) {
            let damaged = vfs.process_crash();
            damaged.corrupt(&file, offset, 0x10).unwrap();
            match look(&damaged) {
                Ok(store) => {
                    let shown = bodies(&log(&store));
                    assert!(
                        truth.iter().zip(&shown).all(|(t, s)| t == s),
                        "{file:?} {offset}"
                    );
                    let is_told = store.verify(Depth::Full).is_err() || store.stats().unproven > 0;
                    assert!(shown.len() == 4 || is_told, "{file:?} at {offset}");
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
fn appends_are_refused_and_say_how_to_open_the_store() {
    let vfs = SimVfs::tracked(1);
    let store = appended(&vfs, &["one"]);
    append_expecting(&store, &[("a", b"k")], &[], Some("key")).unwrap();
    store.close().unwrap();
    let store = look(&vfs).unwrap();
    let refused = append(&store, &[("a", b"two")]).unwrap_err();
    let Error::Io { kind, .. } = &refused else {
        panic!("{refused:?}")
    };
    assert_eq!(*kind, std::io::ErrorKind::ReadOnlyFilesystem);
    let told = refused.to_string();
    assert!(
        told.contains("could not append to /store") && told.contains("read_only"),
        "{told}"
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
fn who_waits_for_more_waits_until_the_store_is_closed() {
    let vfs = SimVfs::tracked(1);
    appended(&vfs, &["one"]).close().unwrap();
    let store = look(&vfs).unwrap();
    assert_eq!(store.wait_beyond(0, Duration::from_secs(9)).unwrap(), 1);
    assert_eq!(store.wait_beyond(1, Duration::from_millis(20)).unwrap(), 1);
    let waiting = store.clone();
    let waiter = std::thread::spawn(move || waiting.wait_beyond(1, Duration::from_mins(1)));
    until("it to wait", || !waiter.is_finished());
    store.close().unwrap();
    let ended = must_end(move || waiter.join().unwrap());
    assert!(matches!(ended, Err(Error::Closed)), "{ended:?}");
}

#[test]
fn a_store_that_is_looked_at_is_in_use() {
    let vfs = SimVfs::tracked(1);
    appended(&vfs, &["one"]).close().unwrap();
    let store = look(&vfs).unwrap();
    assert!(matches!(open(vfs.clone()), Err(Error::StoreBusy { .. })));
    assert!(matches!(look(&vfs), Err(Error::StoreBusy { .. })));
    drop(store);
    open(vfs).unwrap();
}

#[test]
fn no_store_is_made_by_looking_for_one() {
    let vfs = SimVfs::tracked(1);
    assert!(matches!(
        look_in_passing(&vfs),
        Err(Error::NotAStore { .. })
    ));
    vfs.create_dir("/store".as_ref()).unwrap();
    assert!(matches!(
        look_in_passing(&vfs),
        Err(Error::NotAStore { .. })
    ));
    let file = SimVfs::tracked(1);
    file.open("/store".as_ref(), OpenMode::CreateNew).unwrap();
    assert!(matches!(
        look_in_passing(&file),
        Err(Error::NotAStore { .. })
    ));
}

#[test]
fn a_store_whose_making_was_cut_off_is_finished_by_the_next_opening() {
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
            match look_in_passing(&left) {
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

/// Raises the format of a file that is whole, and makes it whole again.
fn of_a_newer_format(bytes: &mut [u8], checked: usize, hash: impl Fn(&[u8]) -> Vec<u8>) {
    bytes[8] += 1;
    let sum = hash(&bytes[..checked]);
    bytes[checked..checked + sum.len()].copy_from_slice(&sum);
}

#[test]
fn a_newer_format_is_named_wherever_it_stands() {
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
            "/store/IDENTITY" => of_a_newer_format(&mut bytes, 60, crc),
            SEGMENT => of_a_newer_format(&mut bytes, 56, crc),
            _ => of_a_newer_format(&mut bytes, length - 8, xxh3),
        }
        newer.write_outside(path, &bytes).unwrap();
        for opened in [open(newer.clone()), look_in_passing(&newer)] {
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
fn a_real_store_is_looked_at_without_a_change() {
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

/// Who only looks lets others in meanwhile. What they make of the log is no damage.
#[test]
fn a_look_verifies_a_log_that_others_go_on_with() {
    let mut small = options();
    small.mode = Mode::Shared;
    small.first_segment = 16 << 10;
    small.max_segment = 16 << 10;
    let vfs = SimVfs::memory();
    let store = open_with(vfs.clone(), small).unwrap();
    append(&store, &[("a", b"seen")]).unwrap();
    store.close().unwrap();
    let mut looking = small;
    looking.read_only = true;
    let look = open_with(vfs.clone(), looking).unwrap();
    let later = open_with(vfs.clone(), small).unwrap();
    for _ in 0..8 {
        append(&later, &[("a", &[7; 4000])]).unwrap();
    }
    assert!(later.stats().segments > 1);
    for depth in [Depth::Quick, Depth::Full] {
        assert_eq!(look.verify(depth).unwrap().events, 1, "while they write");
    }
    later.close().unwrap();
    for depth in [Depth::Quick, Depth::Full] {
        assert_eq!(look.verify(depth).unwrap().events, 1, "after they wrote");
    }
    let current = Path::new("/store/CURRENT");
    vfs.write_outside(current, b"MANIFEST-77\n").unwrap();
    let damaged = look.verify(Depth::Quick);
    assert!(
        matches!(&damaged, Err(Error::CorruptStore { file, .. }) if file == current),
        "{damaged:?}"
    );
}
