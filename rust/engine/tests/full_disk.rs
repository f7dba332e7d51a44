//! A full disk refuses appends before a byte of them is written. Everything else continues, and
//! appends succeed again when there is space.
//!
//! The simulated disk has a limited number of blocks: zeros that were written ahead occupy
//! theirs, and a removed file frees its own.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test fails loudly and prints why it was skipped"
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
use support::hook::{Flag, HookedVfs, Op, run_within_limit, wait_until};
use support::{append, append_expecting, bodies, log, open, open_with, options, threaded};

const SEGMENT: &str = "/store/log/0000000001.hot";
const BALLAST: &str = "/store/ballast";

/// Return options with segments of one size, large enough for a ballast.
fn large(mut options: Options) -> Options {
    (options.first_segment, options.max_segment) = (16 << 20, 16 << 20);
    options
}

/// Fill the disk, and leave `free` bytes.
fn fill_disk(vfs: &SimVfs, free: u64) {
    vfs.set_capacity(Some(vfs.allocated() + free));
}

/// Append until the disk is full. Return the number of acknowledged appends.
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
fn a_store_survives_a_disk_that_fills_up_and_is_freed() {
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
            // No byte of a refused append is written, and calls that need no space succeed.
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
fn an_exceeded_quota_is_a_full_disk_and_a_read_only_disk_is_named() {
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
                // A full disk can still roll a write back, a read-only one cannot.
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

/// Size of the body, expectations, and key.
type Request = (
    usize,
    &'static [(&'static str, Expectation)],
    Option<&'static str>,
);

#[test]
fn appends_that_need_no_space_succeed_next_to_a_refused_one() {
    let sim = SimVfs::tracked(1);
    let (armed, blocked, go) = (Flag::default(), Flag::default(), Flag::default());
    let vfs = {
        let (armed, blocked, go) = (armed.clone(), blocked.clone(), go.clone());
        HookedVfs::new(sim.clone(), move |call| {
            if armed.is_set() && call.is(Op::Write, ".hot") {
                armed.clear();
                blocked.set();
                go.wait("the queued appends");
            }
            Ok(())
        })
    };
    let mut options = threaded();
    options.zero_fill = false;
    (options.first_segment, options.max_segment) = (1 << 20, 1 << 20);
    let store = open_with(vfs, options).unwrap();
    append_expecting(&store, &[("a", b"one")], &[], Some("old")).unwrap();
    armed.set();
    let first = std::thread::spawn({
        let store = store.clone();
        move || append(&store, &[("a", b"two")])
    });
    blocked.wait("the first write");
    let requests: [Request; 4] = [
        (100_000, &[], Some("new")),
        (0, &[("a", Expectation::Exact(2))], None),
        (0, &[("b", Expectation::Exists)], None),
        (100_000, &[], Some("new")),
    ];
    let threads = requests.map(|(size, expected, key)| {
        let (store, before) = (store.clone(), store.stats().session.appends);
        let thread = std::thread::spawn({
            let store = store.clone();
            move || {
                let body = vec![b'x'; size];
                let events: &[(&str, &[u8])] = if size > 0 { &[("c", &body)] } else { &[] };
                append_expecting(&store, events, expected, key)
            }
        });
        wait_until("it to be queued", || store.stats().session.appends > before);
        thread
    });
    fill_disk(&sim, 8192);
    go.set();
    run_within_limit(move || first.join().unwrap().unwrap());
    let [big, held, failed, again] = threads.map(|t| run_within_limit(move || t.join().unwrap()));
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
    wait_until("the ballast", || {
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
    wait_until("the next segment", || store.stats().segments == 2);
    store.close().unwrap();
    assert!(small.read_file(BALLAST).is_err());
}

/// Open a store with a ballast on a disk without any other space.
fn without_space() -> (SimVfs, Store) {
    let vfs = SimVfs::tracked(1);
    let store = open_with(vfs.clone(), large(threaded())).unwrap();
    append(&store, &[("a", b"one")]).unwrap();
    wait_until("the ballast and zeros ahead", || {
        vfs.allocated() >= (4 << 20) + (16 << 20)
    });
    fill_disk(&vfs, 0);
    (vfs, store)
}

#[test]
fn a_full_disk_does_not_prevent_a_clean_close() {
    let (vfs, store) = without_space();
    store.close().unwrap();
    assert!(vfs.read_file(BALLAST).is_err(), "its space was needed");
    // Only the manifest proves that this event is durable.
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
fn a_full_disk_does_not_prevent_the_poison_marker() {
    let (vfs, store) = without_space();
    vfs.fail_on(
        ".hot",
        Fault::forever(Call::SyncData, 1, Failure::EIO).losing(),
    );
    append(&store, &[("a", b"unknown")]).unwrap_err();
    drop(store);
    assert!(vfs.read_file("/store/POISONED").is_ok());
    assert!(vfs.read_file(BALLAST).is_err(), "its space was needed");
}

#[test]
fn the_ballast_is_created_again_when_there_is_space() {
    let (vfs, store) = without_space();
    store.close().unwrap();
    assert!(vfs.read_file(BALLAST).is_err());
    vfs.set_capacity(None);
    let store = open_with(vfs.clone(), large(threaded())).unwrap();
    append(&store, &[("a", b"two")]).unwrap();
    wait_until("the ballast", || {
        vfs.read_file(BALLAST)
            .is_ok_and(|bytes| bytes.len() == 4 << 20)
    });
}

#[test]
fn a_ballast_without_space_is_no_error_and_leaves_no_file() {
    let vfs = SimVfs::tracked(1);
    let mut options = large(threaded());
    options.zero_fill = false;
    let store = open_with(vfs.clone(), options).unwrap();
    fill_disk(&vfs, 1 << 20);
    for _ in 0..5 {
        append(&store, &[("a", b"one")]).unwrap();
    }
    let tried = |line: &String| line.contains("Create store/ballast");
    wait_until("the attempt", || vfs.trace().iter().any(tried));
    store.close().unwrap();
    assert!(vfs.read_file(BALLAST).is_err());
}

#[test]
fn a_file_that_could_not_be_written_is_removed_at_once() {
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
fn the_simulated_disk_counts_written_blocks() {
    let vfs = SimVfs::tracked(1);
    let file = vfs.open("/f".as_ref(), OpenMode::CreateNew).unwrap();
    let write =
        |bytes: &[u8], offset| write_all_at(&*file, &[std::io::IoSlice::new(bytes)], offset);
    vfs.set_capacity(Some(3 * 4096));
    write(b"x", 100 * 4096).unwrap();
    assert_eq!(vfs.allocated(), 4096, "a hole occupies no block");
    write(&[0; 8192], 0).unwrap();
    write(&[7; 8192], 0).unwrap();
    assert_eq!(
        vfs.allocated(),
        3 * 4096,
        "zeros do, and bytes written over them no further one"
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

/// A file system of 3 MiB that is unmounted when the value is dropped.
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
fn a_small_real_file_system_fills_up_and_is_freed() {
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

/// Close a store. A small one has no ballast: zeros may occupy the space of its manifest.
fn close(store: &Store) {
    let closed = store.close();
    assert!(
        matches!(closed, Ok(()) | Err(Error::StorageFull { .. })),
        "{closed:?}"
    );
}

/// A quota or a limit on the size of files may refuse a write of one process and not of others.
#[test]
fn a_write_refused_to_one_session_does_not_affect_the_others() {
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

/// If every write of a process is refused, the zeros of a rollback are refused, too.
#[test]
fn a_session_that_may_write_nothing_blocks_no_other_session() {
    let vfs = SimVfs::tracked(1);
    let limited = Flag::default();
    let mut options = options();
    options.mode = Mode::Shared;
    let refused = {
        let limited = limited.clone();
        HookedVfs::new(vfs.clone(), move |call| {
            if limited.is_set() && call.is(Op::Write, ".hot") {
                return Err(std::io::ErrorKind::FileTooLarge.into());
            }
            Ok(())
        })
    };
    let refused = open_with(refused, options).unwrap();
    let other = open_with(vfs.clone(), options).unwrap();
    append(&refused, &[("a", b"one")]).unwrap();
    limited.set();
    for _ in 0..3 {
        let answer = append(&refused, &[("a", b"refused")]);
        assert!(
            matches!(&answer, Err(Error::Io { kind, .. }) if *kind == std::io::ErrorKind::FileTooLarge),
            "{answer:?}"
        );
        append(&other, &[("a", b"continues")]).unwrap();
    }
    limited.clear();
    append(&refused, &[("a", b"again")]).unwrap();
    let expected = ["one", "continues", "continues", "continues", "again"];
    for store in [&refused, &other] {
        assert_eq!(bodies(&log(store)), expected);
        store.verify(Depth::Full).unwrap();
    }
}

/// Some network file systems store the bytes, and report afterwards that there is no space.
#[test]
fn a_write_that_fails_after_its_bytes_were_stored_is_rolled_back() {
    const STORED: u64 = 6000;
    let vfs = SimVfs::tracked(1);
    let armed = Flag::default();
    let storing = {
        let (vfs, armed) = (vfs.clone(), armed.clone());
        HookedVfs::new(vfs.clone(), move |call| {
            if armed.is_set() && call.is(Op::Write, ".hot") {
                armed.clear();
                vfs.corrupt(SEGMENT, STORED, 0x40)?;
                return Err(std::io::ErrorKind::StorageFull.into());
            }
            Ok(())
        })
    };
    let mut options = options();
    options.mode = Mode::Shared;
    let store = open_with(storing, options).unwrap();
    append(&store, &[("a", b"one")]).unwrap();
    armed.set();
    let refused = append(&store, &[("a", &[b'x'; 5000])]);
    assert!(
        matches!(refused, Err(Error::StorageFull { .. })),
        "{refused:?}"
    );
    for after in [vfs.clone(), vfs.power_cut(Persist::Everything)] {
        let bytes = after.read_file(SEGMENT).unwrap();
        assert_eq!(bytes[usize::try_from(STORED).unwrap()], 0);
    }
    append(&store, &[("a", b"two")]).unwrap();
    assert_eq!(bodies(&log(&store)), ["one", "two"]);
}

/// After a process died during a sync, its bytes must be written again. A session whose writes are
/// refused leaves this to another session.
#[test]
fn a_session_that_may_not_rewrite_unsynced_bytes_leaves_it_to_another() {
    const SYNC_BUSY: usize = 64;
    let vfs = SimVfs::tracked(1);
    let armed = Flag::default();
    let written = Arc::new(AtomicU64::new(0));
    let limited = {
        let (armed, written) = (armed.clone(), Arc::clone(&written));
        HookedVfs::new(vfs.clone(), move |call| {
            let counts = armed.is_set() && call.is(Op::Write, ".hot");
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
    armed.set();
    let unsure = append(&limited, &[("a", b"unsure")]);
    assert!(
        matches!(unsure, Err(Error::OutcomeUnknown { .. })),
        "{unsure:?}"
    );
    assert_eq!(
        page.load(SYNC_BUSY),
        1,
        "the rewrite is left to another session"
    );
    append(&other, &[("a", b"two")]).unwrap();
    assert_eq!(page.load(SYNC_BUSY), 0);
    for store in [&limited, &other] {
        assert_eq!(bodies(&log(store)), ["one", "unsure", "two"]);
    }
    let after = open(vfs.power_cut(Persist::Nothing)).unwrap();
    assert_eq!(bodies(&log(&after)), ["one", "unsure", "two"]);
}

#[test]
fn a_full_disk_refuses_an_append_and_accepts_a_later_one() {
    let vfs = SimVfs::tracked(1);
    let store = open(vfs.clone()).unwrap();
    append(&store, &[("a", b"one")]).unwrap();
    // Part of the frame is written before the disk is full.
    vfs.fail_on(".hot", Fault::once(Call::Write, 1, Failure::Short));
    vfs.fail_on(".hot", Fault::once(Call::Write, 2, Failure::ENOSPC));
    let full = append(&store, &[("a", b"two")]);
    assert!(matches!(full, Err(Error::StorageFull { .. })), "{full:?}");
    let everything = vfs.power_cut(Persist::Everything);
    assert_eq!(bodies(&log(&open(everything).unwrap())), ["one"]);
    let expected = [("a", Expectation::Exact(1))];
    append_expecting(&store, &[("a", b"two again")], &expected, None).unwrap();
    assert_eq!(bodies(&log(&store)), ["one", "two again"]);
    assert_eq!(store.verify(Depth::Full).unwrap().events, 2);
}

#[test]
fn a_store_on_a_full_disk_opens_and_is_read() {
    let vfs = SimVfs::tracked(1);
    let store = open(vfs.clone()).unwrap();
    append(&store, &[("a", b"one")]).unwrap();
    store.close().unwrap();
    for holder in [true, false] {
        if !holder {
            vfs.remove("/store/locks/live.holder".as_ref()).unwrap();
        }
        for call in [Call::Write, Call::Create] {
            vfs.fail(Fault::forever(call, 1, Failure::ENOSPC));
        }
        let store = open(vfs.clone()).unwrap();
        assert_eq!(bodies(&log(&store)), ["one"]);
        let full = append(&store, &[("a", &vec![b'x'; 20_000])]);
        assert!(matches!(full, Err(Error::StorageFull { .. })), "{full:?}");
        store.close().unwrap();
        vfs.heal();
    }
}
