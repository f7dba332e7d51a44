//! A full disk refuses appends before a byte of them is written; all else goes on, and so do
//! appends once there is room again.
//!
//! The simulated disk has so many blocks and no more: zeros that were written ahead have
//! theirs, a removed file gives its own back.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test fails loudly, and says why it was skipped"
)]

mod support;

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use eventbraid_engine::vfs::os::OsVfs;
use eventbraid_engine::vfs::sim::{Call, Failure, Fault, Persist, RecordingVfs, SimVfs};
use eventbraid_engine::vfs::{OpenMode, Vfs, write_all_at};
use eventbraid_engine::{Depth, Error, Expectation, Mode, Options, Store};
use support::hook::{Flag, HookedVfs, Op, must_end, until};
use support::{append, append_expecting, bodies, log, open, open_with, options, threaded};

const SEGMENT: &str = "/store/log/0000000001.hot";
const BALLAST: &str = "/store/ballast";

/// Segments of one size, large enough for a ballast.
fn large(mut options: Options) -> Options {
    (options.first_segment, options.max_segment) = (16 << 20, 16 << 20);
    options
}

/// Takes all the room that is left but for so many bytes.
fn fill_disk(vfs: &SimVfs, but: u64) {
    vfs.set_capacity(Some(vfs.allocated() + but));
}

/// Appends until the disk is full; answers how many appends were acknowledged.
fn append_until_full(store: &Store, size: usize) -> usize {
    for n in 0..10_000 {
        match append(store, &[("a", &vec![b'a'; size])]) {
            Ok(_) => {}
            Err(Error::StorageFull { .. }) => return n,
            Err(e) => panic!("{e}"),
        }
    }
    panic!("the disk is never full")
}

#[test]
fn a_store_lives_through_a_disk_that_is_full_and_has_room_again() {
    for (i, (threads, zero_fill)) in [(false, true), (false, false), (true, true), (true, false)]
        .into_iter()
        .enumerate()
    {
        let context = format!("threads: {threads}, zeros ahead: {zero_fill}");
        let vfs = SimVfs::tracked(i as u64);
        let mut options = if threads { threaded() } else { options() };
        options.zero_fill = zero_fill;
        options.max_segment = 1 << 20;
        let recording = RecordingVfs::new(Arc::new(vfs.clone()));
        let store = open_with(recording.clone(), options).unwrap();
        append_expecting(&store, &[("k", b"keyed")], &[], Some("key")).unwrap();
        fill_disk(&vfs, 700_000);
        let mut acknowledged = 1 + append_until_full(&store, 5000);
        for _ in 0..3 {
            // Nothing of what is refused is written, and all that needs no room goes on.
            let refused = append(&store, &[("a", &b"refused".repeat(3000))]);
            assert!(
                matches!(refused, Err(Error::StorageFull { .. })),
                "{context}: {refused:?}"
            );
            assert_eq!(recording.write_of(b"refusedrefused"), None, "{context}");
            assert_eq!(log(&store).len(), acknowledged, "{context}");
            let held = [("k", Expectation::Exact(1))];
            append_expecting(&store, &[], &held, None).unwrap();
            let failed = append_expecting(&store, &[], &[("k", Expectation::NoStream)], None);
            assert!(matches!(failed, Err(Error::VersionConflict { .. })));
            let again = append_expecting(&store, &[("k", b"keyed")], &[], Some("key")).unwrap();
            assert!(again.replayed, "{context}");
        }
        for persist in [Persist::Nothing, Persist::Everything, Persist::Seeded(3)] {
            let cut = vfs.power_cut(persist);
            cut.set_capacity(None);
            let cut = open(cut).unwrap();
            assert_eq!(log(&cut).len(), acknowledged, "{context}, {persist:?}");
        }
        assert!(!store.stats().poisoned, "{context}");
        vfs.set_capacity(Some(vfs.allocated() + (2 << 20)));
        for _ in 0..40 {
            append(&store, &[("a", &[b'b'; 6000])]).unwrap_or_else(|e| panic!("{context}: {e}"));
            acknowledged += 1;
        }
        assert_eq!(log(&store).len(), acknowledged, "{context}");
        store.verify(Depth::Full).unwrap();
        store.close().unwrap();
        let reopened = open(vfs.power_cut(Persist::Nothing)).unwrap();
        assert_eq!(log(&reopened).len(), acknowledged, "{context}");
    }
}

#[test]
fn quotas_are_full_disks_and_a_read_only_disk_is_called_so() {
    for (errno, is_full) in [(28, true), (122, true), (30, false)] {
        for zero_fill in [true, false] {
            let vfs = SimVfs::tracked(1);
            let mut options = options();
            options.zero_fill = zero_fill;
            let store = open_with(vfs.clone(), options).unwrap();
            append(&store, &[("a", b"one")]).unwrap();
            for call in [Call::Write, Call::Create] {
                vfs.fail(Fault::forever(call, 1, Failure::Errno(errno)));
            }
            if !is_full {
                // A disk that is full can still undo.
                vfs.fail(Fault::forever(Call::SyncData, 1, Failure::Errno(errno)));
            }
            let refused = append(&store, &[("a", &vec![b'x'; 20_000])]);
            match refused {
                Err(Error::StorageFull { .. }) if is_full => {}
                Err(Error::Io { kind, .. }) if !is_full => {
                    assert_eq!(kind, std::io::ErrorKind::ReadOnlyFilesystem);
                }
                other => panic!("{errno}: {other:?}"),
            }
            if !is_full {
                append(&store, &[("a", b"two")]).unwrap_err();
            }
            assert!(!store.stats().poisoned, "{errno}");
            assert_eq!(bodies(&log(&store)), ["one"], "{errno}");
            vfs.heal();
            append(&store, &[("a", b"two")]).unwrap();
            assert_eq!(bodies(&log(&store)), ["one", "two"], "{errno}");
        }
    }
}

/// Bytes, expectations, key.
type Asked = (
    usize,
    &'static [(&'static str, Expectation)],
    Option<&'static str>,
);

#[test]
fn who_needs_no_room_is_answered_beside_one_who_finds_none() {
    let sim = SimVfs::tracked(1);
    let (armed, blocked, go) = (Flag::default(), Flag::default(), Flag::default());
    let vfs = {
        let (armed, blocked, go) = (armed.clone(), blocked.clone(), go.clone());
        HookedVfs::new(sim.clone(), move |asked| {
            if armed.is_up() && asked.is(Op::Write, ".hot") {
                armed.lower();
                blocked.raise();
                go.wait("the group");
            }
            Ok(())
        })
    };
    let mut options = threaded();
    options.zero_fill = false;
    (options.first_segment, options.max_segment) = (1 << 20, 1 << 20);
    let store = open_with(vfs, options).unwrap();
    append_expecting(&store, &[("a", b"one")], &[], Some("old")).unwrap();
    armed.raise();
    let first = std::thread::spawn({
        let store = store.clone();
        move || append(&store, &[("a", b"two")])
    });
    blocked.wait("the first write");
    let group: [Asked; 4] = [
        (100_000, &[], Some("new")),
        (0, &[("a", Expectation::Exact(2))], None),
        (0, &[("b", Expectation::Exists)], None),
        (100_000, &[], Some("new")),
    ];
    let threads = group.map(|(size, expected, key)| {
        let (store, before) = (store.clone(), store.stats().session.appends);
        let thread = std::thread::spawn({
            let store = store.clone();
            move || {
                let body = vec![b'x'; size];
                let events: &[(&str, &[u8])] = if size > 0 { &[("c", &body)] } else { &[] };
                append_expecting(&store, events, expected, key)
            }
        });
        until("it to be queued", || store.stats().session.appends > before);
        thread
    });
    fill_disk(&sim, 8192);
    go.raise();
    must_end(move || first.join().unwrap().unwrap());
    let [big, held, failed, again] = threads.map(|t| must_end(move || t.join().unwrap()));
    assert!(matches!(big, Err(Error::StorageFull { .. })), "{big:?}");
    assert!(held.is_ok(), "{held:?}");
    assert!(
        matches!(failed, Err(Error::VersionConflict { .. })),
        "{failed:?}"
    );
    assert!(matches!(again, Err(Error::StorageFull { .. })), "{again:?}");
}

#[test]
fn a_store_of_full_size_segments_keeps_a_ballast_and_a_small_one_none() {
    let vfs = SimVfs::tracked(1);
    let store = open_with(vfs.clone(), large(threaded())).unwrap();
    append(&store, &[("a", b"one")]).unwrap();
    until("the ballast", || {
        vfs.read_file(BALLAST)
            .is_ok_and(|bytes| bytes.len() == 4 << 20)
    });
    assert!(
        vfs.read_file(BALLAST)
            .unwrap()
            .iter()
            .all(|byte| *byte == 0)
    );
    drop(store);
    let small = SimVfs::tracked(1);
    let store = open_with(small.clone(), threaded()).unwrap();
    append(&store, &[("a", &[b'x'; 9000])]).unwrap();
    until("the next segment", || store.stats().segments == 2);
    store.close().unwrap();
    assert!(small.read_file(BALLAST).is_err());
}

/// A store with a ballast on a disk without any other room.
fn without_room() -> (SimVfs, Store) {
    let vfs = SimVfs::tracked(1);
    let store = open_with(vfs.clone(), large(threaded())).unwrap();
    append(&store, &[("a", b"one")]).unwrap();
    until("the ballast and zeros ahead", || {
        vfs.allocated() >= (4 << 20) + (16 << 20)
    });
    fill_disk(&vfs, 0);
    (vfs, store)
}

#[test]
fn a_full_disk_does_not_keep_the_end_of_the_log_from_being_recorded() {
    let (vfs, store) = without_room();
    store.close().unwrap();
    assert!(vfs.read_file(BALLAST).is_err(), "its room was needed");
    // Only the manifest proves this event.
    let at = find(&vfs, b"one");
    vfs.corrupt(SEGMENT, at, 1).unwrap();
    let opened = open_with(vfs, large(options()));
    assert!(
        matches!(opened, Err(Error::CorruptStore { .. })),
        "{opened:?}"
    );
}

fn find(vfs: &SimVfs, text: &[u8]) -> u64 {
    let bytes = vfs.read_file(SEGMENT).unwrap();
    let at = bytes.windows(text.len()).position(|window| window == text);
    at.unwrap() as u64
}

#[test]
fn a_full_disk_does_not_keep_a_failed_sync_from_leaving_its_marker() {
    let (vfs, store) = without_room();
    vfs.fail_on(
        ".hot",
        Fault::forever(Call::SyncData, 1, Failure::EIO).losing(),
    );
    append(&store, &[("a", b"unknown")]).unwrap_err();
    drop(store);
    assert!(vfs.read_file("/store/POISONED").is_ok());
    assert!(vfs.read_file(BALLAST).is_err(), "its room was needed");
}

#[test]
fn the_ballast_is_made_again_when_there_is_room() {
    let (vfs, store) = without_room();
    store.close().unwrap();
    assert!(vfs.read_file(BALLAST).is_err());
    vfs.set_capacity(None);
    let store = open_with(vfs.clone(), large(threaded())).unwrap();
    append(&store, &[("a", b"two")]).unwrap();
    until("the ballast", || {
        vfs.read_file(BALLAST)
            .is_ok_and(|bytes| bytes.len() == 4 << 20)
    });
}

#[test]
fn a_ballast_that_finds_no_room_is_no_error_and_leaves_nothing() {
    let vfs = SimVfs::tracked(1);
    let mut options = large(threaded());
    options.zero_fill = false;
    let store = open_with(vfs.clone(), options).unwrap();
    fill_disk(&vfs, 1 << 20);
    for _ in 0..5 {
        append(&store, &[("a", b"one")]).unwrap();
    }
    let tried = |line: &String| line.contains("Create store/ballast");
    until("the attempt", || vfs.trace().iter().any(tried));
    store.close().unwrap();
    assert!(vfs.read_file(BALLAST).is_err());
}

#[test]
fn a_file_that_could_not_be_made_is_removed_at_once() {
    let vfs = SimVfs::tracked(1);
    let store = open(vfs.clone()).unwrap();
    append(&store, &[("a", b"one")]).unwrap();
    fill_disk(&vfs, 8192);
    let full = append(&store, &[("a", &vec![b'x'; 60_000])]);
    assert!(matches!(full, Err(Error::StorageFull { .. })), "{full:?}");
    let left: Vec<_> = vfs
        .files()
        .into_iter()
        .filter(|f| f.extension() == Some("tmp".as_ref()))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn the_simulated_disk_counts_blocks_that_were_written() {
    let vfs = SimVfs::tracked(1);
    let file = vfs.open("/f".as_ref(), OpenMode::CreateNew).unwrap();
    let write =
        |bytes: &[u8], offset| write_all_at(&*file, &[std::io::IoSlice::new(bytes)], offset);
    vfs.set_capacity(Some(3 * 4096));
    write(b"x", 100 * 4096).unwrap();
    assert_eq!(vfs.allocated(), 4096, "a hole takes no room");
    write(&[0; 8192], 0).unwrap();
    write(&[7; 8192], 0).unwrap();
    assert_eq!(
        vfs.allocated(),
        3 * 4096,
        "zeros do, and bytes over them no more"
    );
    let short = file
        .write_vectored_at(&[std::io::IoSlice::new(&[1; 8192])], 4096)
        .unwrap();
    assert_eq!(short, 4096);
    let full = write(&[1], 8192).unwrap_err();
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    drop(vfs.open("/g".as_ref(), OpenMode::CreateNew).unwrap());
    vfs.remove("/f".as_ref()).unwrap();
    assert_eq!(vfs.allocated(), 0);
}

/// A file system of 3 MiB, unmounted at the end.
struct Mounted(tempfile::TempDir);

impl Mounted {
    fn new() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=3m", "tmpfs"])
            .arg(dir.path())
            .output();
        match mount {
            Ok(done) if done.status.success() => Some(Self(dir)),
            refused => {
                println!("skipped: no file system could be mounted: {refused:?}");
                None
            }
        }
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg(self.0.path()).status();
        assert!(
            unmounted.is_ok_and(|status| status.success()),
            "not unmounted"
        );
    }
}

#[test]
fn a_real_small_file_system_fills_up_and_has_room_again() {
    let Some(disk) = Mounted::new() else { return };
    let filler = disk.path().join("filler");
    std::fs::write(&filler, vec![1; 1 << 20]).unwrap();
    let directory = disk.path().join("store");
    let open = || Store::open(Arc::new(OsVfs::new()), &directory, Options::default());
    let store = open().unwrap();
    let mut acknowledged = append_until_full(&store, 20_000);
    assert!(acknowledged > 10, "{acknowledged}");
    assert_eq!(log(&store).len(), acknowledged);
    std::fs::remove_file(&filler).unwrap();
    append(&store, &[("a", &[b'b'; 9000])]).unwrap();
    acknowledged += 1;
    close(&store);
    let store = open().unwrap();
    assert_eq!(log(&store).len(), acknowledged);
    store.verify(Depth::Full).unwrap();
    close(&store);
    drop(store);
}

/// A small store has no ballast: zeros ahead may have taken the room of its manifest.
fn close(store: &Store) {
    let closed = store.close();
    assert!(
        matches!(closed, Ok(()) | Err(Error::StorageFull { .. })),
        "{closed:?}"
    );
}

/// A process may be refused what others may do: by a quota, or a limit on the size of files.
#[test]
fn a_write_that_is_refused_to_one_process_is_no_matter_of_the_others() {
    for (begun, errno) in [
        (false, 27),
        (true, 27),
        (false, 28),
        (true, 28),
        (true, 122),
    ] {
        let context = format!("begun: {begun}, errno: {errno}");
        let vfs = SimVfs::tracked(1);
        let mut options = options();
        options.mode = Mode::Shared;
        let refused = open_with(vfs.clone(), options).unwrap();
        let other = open_with(vfs.clone(), options).unwrap();
        append(&refused, &[("a", b"one")]).unwrap();
        if begun {
            vfs.fail_on(".hot", Fault::once(Call::Write, 1, Failure::Short));
        }
        let nth = if begun { 2 } else { 1 };
        vfs.fail_on(".hot", Fault::once(Call::Write, nth, Failure::Errno(errno)));
        append(&refused, &[("a", &[b'x'; 5000])]).unwrap_err();
        vfs.heal();
        append(&other, &[("a", b"two")]).unwrap();
        append(&refused, &[("a", b"three")]).unwrap();
        for store in [&refused, &other] {
            assert_eq!(bodies(&log(store)), ["one", "two", "three"], "{context}");
            store.verify(Depth::Full).unwrap();
        }
        let after = open(vfs.power_cut(Persist::Everything)).unwrap();
        assert_eq!(bodies(&log(&after)), ["one", "two", "three"], "{context}");
    }
}

/// Where every write is refused to a process, so are the zeros that would undo one.
#[test]
fn a_process_that_may_write_nothing_stops_nobody() {
    let vfs = SimVfs::tracked(1);
    let limited = Flag::default();
    let mut options = options();
    options.mode = Mode::Shared;
    let refused = {
        let limited = limited.clone();
        HookedVfs::new(vfs.clone(), move |asked| {
            if limited.is_up() && asked.is(Op::Write, ".hot") {
                return Err(std::io::ErrorKind::FileTooLarge.into());
            }
            Ok(())
        })
    };
    let refused = open_with(refused, options).unwrap();
    let other = open_with(vfs.clone(), options).unwrap();
    append(&refused, &[("a", b"one")]).unwrap();
    limited.raise();
    for _ in 0..3 {
        let told = append(&refused, &[("a", b"refused")]);
        assert!(
            matches!(&told, Err(Error::Io { kind, .. }) if *kind == std::io::ErrorKind::FileTooLarge),
            "{told:?}"
        );
        append(&other, &[("a", b"goes on")]).unwrap();
    }
    limited.lower();
    append(&refused, &[("a", b"again")]).unwrap();
    let expected = ["one", "goes on", "goes on", "goes on", "again"];
    for store in [&refused, &other] {
        assert_eq!(bodies(&log(store)), expected);
        store.verify(Depth::Full).unwrap();
    }
}

/// Some network file systems take the bytes, and then say that there is no room for them.
#[test]
fn a_write_that_was_refused_after_it_was_taken_is_undone() {
    const TAKEN: u64 = 6000;
    let vfs = SimVfs::tracked(1);
    let armed = Flag::default();
    let taking = {
        let (vfs, armed) = (vfs.clone(), armed.clone());
        HookedVfs::new(vfs.clone(), move |asked| {
            if armed.is_up() && asked.is(Op::Write, ".hot") {
                armed.lower();
                vfs.corrupt(SEGMENT, TAKEN, 0x40)?;
                return Err(std::io::ErrorKind::StorageFull.into());
            }
            Ok(())
        })
    };
    let mut options = options();
    options.mode = Mode::Shared;
    let store = open_with(taking, options).unwrap();
    append(&store, &[("a", b"one")]).unwrap();
    armed.raise();
    let refused = append(&store, &[("a", &[b'x'; 5000])]);
    assert!(
        matches!(refused, Err(Error::StorageFull { .. })),
        "{refused:?}"
    );
    for after in [vfs.clone(), vfs.power_cut(Persist::Everything)] {
        let bytes = after.read_file(SEGMENT).unwrap();
        assert_eq!(bytes[usize::try_from(TAKEN).unwrap()], 0);
    }
    append(&store, &[("a", b"two")]).unwrap();
    assert_eq!(bodies(&log(&store)), ["one", "two"]);
}

/// Who may not make up for a sync that a process died in leaves that to another one.
#[test]
fn a_process_that_may_not_write_again_leaves_it_to_another() {
    const SYNC_BUSY: usize = 64;
    let vfs = SimVfs::tracked(1);
    let armed = Flag::default();
    let written = Arc::new(AtomicU64::new(0));
    let limited = {
        let (armed, written) = (armed.clone(), Arc::clone(&written));
        HookedVfs::new(vfs.clone(), move |asked| {
            let counts = armed.is_up() && asked.is(Op::Write, ".hot");
            if counts && written.fetch_add(1, Ordering::SeqCst) > 0 {
                return Err(std::io::ErrorKind::FileTooLarge.into());
            }
            Ok(())
        })
    };
    let mut options = options();
    options.mode = Mode::Shared;
    let limited = open_with(limited, options).unwrap();
    let other = open_with(vfs.clone(), options).unwrap();
    append(&limited, &[("a", b"one")]).unwrap();
    let page = vfs.open_page(Path::new("/store/coord.shm"), OpenMode::ReadWrite);
    let page = page.unwrap();
    page.store(SYNC_BUSY, 1);
    armed.raise();
    let unsure = append(&limited, &[("a", b"unsure")]);
    assert!(
        matches!(unsure, Err(Error::OutcomeUnknown { .. })),
        "{unsure:?}"
    );
    assert_eq!(page.load(SYNC_BUSY), 1, "it is left to be made up for");
    append(&other, &[("a", b"two")]).unwrap();
    assert_eq!(page.load(SYNC_BUSY), 0);
    for store in [&limited, &other] {
        assert_eq!(bodies(&log(store)), ["one", "unsure", "two"]);
    }
    let after = open(vfs.power_cut(Persist::Nothing)).unwrap();
    assert_eq!(bodies(&log(&after)), ["one", "unsure", "two"]);
}
