//! Verification reports every byte that the disk has changed, with its file, and reports nothing
//! else.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails loudly"
)]

mod support;

use std::sync::atomic::{AtomicBool, Ordering};

use eventbraid_engine::vfs::sim::{Call, Failure, Fault, SimVfs};
use eventbraid_engine::vfs::{OpenMode, Vfs};
use eventbraid_engine::{Depth, Error, Store};
use support::{append, append_expecting, open, open_with, options, threaded};

const SEGMENT: &str = "/store/log/0000000001.hot";

fn sample(vfs: &SimVfs) -> Store {
    let store = open(vfs.clone()).unwrap();
    append(&store, &[("a", b"one"), ("b", b"two"), ("a", b"three")]).unwrap();
    append_expecting(&store, &[("a", b"four")], &[], Some("key")).unwrap();
    store
}

/// Return the file that a verification reports as damaged.
fn damaged(store: &Store, depth: Depth) -> Option<String> {
    match store.verify(depth) {
        Ok(_) => None,
        Err(Error::CorruptStore { file, .. }) => Some(file.to_str().unwrap().to_owned()),
        Err(e) => panic!("{e}"),
    }
}

#[test]
fn an_undamaged_store_passes_and_is_counted() {
    let vfs = SimVfs::tracked(1);
    let store = sample(&vfs);
    for depth in [Depth::Quick, Depth::Full] {
        let verified = store.verify(depth).unwrap();
        assert_eq!(verified.depth, depth);
        let counted = (verified.frames, verified.events, verified.streams);
        assert_eq!(counted, (2, 4, 2), "{depth:?}");
        assert_eq!(verified.quarantined, 0);
    }
    let empty = open(SimVfs::tracked(2)).unwrap();
    for depth in [Depth::Quick, Depth::Full] {
        assert_eq!(empty.verify(depth).unwrap().events, 0);
    }
}

#[test]
fn a_file_set_aside_is_counted() {
    let vfs = SimVfs::tracked(1);
    sample(&vfs).close().unwrap();
    vfs.open("/store/log/README".as_ref(), OpenMode::CreateNew)
        .unwrap();
    let store = open(vfs).unwrap();
    for depth in [Depth::Quick, Depth::Full] {
        assert_eq!(store.verify(depth).unwrap().quarantined, 1, "{depth:?}");
    }
}

#[test]
fn every_flipped_byte_of_an_open_store_is_reported_with_its_file() {
    let vfs = SimVfs::tracked(1);
    let store = sample(&vfs);
    let end = store.stats().bytes;
    for file in vfs.files() {
        let name = file.to_str().unwrap();
        let size = vfs.read_file(&file).unwrap().len() as u64;
        let checked: Vec<u64> = match name {
            SEGMENT => (0..60).chain(4096..end + 100).collect(),
            _ if name.contains("locks") => continue,
            _ => (0..size).collect(),
        };
        for offset in checked {
            for depth in [Depth::Quick, Depth::Full] {
                if depth == Depth::Quick && name == SEGMENT && offset >= end {
                    continue;
                }
                vfs.corrupt(&file, offset, 0x10).unwrap();
                let verified = store.verify(depth);
                vfs.corrupt(&file, offset, 0x10).unwrap();
                assert!(
                    matches!(
                        verified,
                        Err(Error::CorruptStore { .. }
                            | Error::IncompatibleFormat { .. }
                            | Error::NotAStore { .. })
                    ),
                    "{name} at {offset}, {depth:?}: {verified:?}"
                );
                if let Err(Error::CorruptStore { file, .. }) = verified {
                    let named = file.to_str().unwrap();
                    let is_named = named == name || name.contains("MANIFEST");
                    assert!(is_named, "{name} at {offset}: {named}");
                }
            }
        }
    }
    for depth in [Depth::Quick, Depth::Full] {
        assert_eq!(damaged(&store, depth), None, "{depth:?}");
    }
}

#[test]
fn a_quick_verification_reads_only_the_newest_frames() {
    let vfs = SimVfs::tracked(1);
    let mut options = options();
    options.max_segment = 1 << 20;
    let store = open_with(vfs.clone(), options).unwrap();
    for _ in 0..60 {
        append(&store, &[("a", &vec![b'x'; 60_000])]).unwrap();
    }
    let quick = store.verify(Depth::Quick).unwrap();
    assert!((17..=20).contains(&quick.frames), "{quick:?}");
    assert!(quick.bytes > 1_000_000 && quick.bytes < 1_200_000);
    assert_eq!(store.verify(Depth::Full).unwrap().events, 60);
    // The first segment is too small for any of these frames.
    let oldest = "/store/log/0000000002.hot";
    vfs.corrupt(oldest, 4096 + 200, 1).unwrap();
    assert_eq!(damaged(&store, Depth::Quick), None);
    assert!(damaged(&store, Depth::Full).is_some());
    let newest = format!("/store/log/{:010}.hot", store.stats().segments);
    let bytes = vfs.read_file(&newest).unwrap();
    let in_the_last = bytes.iter().rposition(|byte| *byte == b'x').unwrap();
    vfs.corrupt(&newest, in_the_last as u64, 1).unwrap();
    assert_eq!(damaged(&store, Depth::Quick).unwrap(), newest);
}

/// Build two histories of equal length of one store. The first is open, and its log is replaced by
/// that of the second.
fn swapped(first: impl Fn(&Store), second: impl Fn(&Store)) -> Store {
    let vfs = SimVfs::tracked(1);
    open(vfs.clone()).unwrap().close().unwrap();
    let other = vfs.process_crash();
    let store = open(vfs.clone()).unwrap();
    first(&store);
    let other_store = open(other.clone()).unwrap();
    second(&other_store);
    assert_eq!(store.stats().bytes, other_store.stats().bytes);
    let bytes = other.read_file(SEGMENT).unwrap();
    vfs.write_outside(SEGMENT, &bytes).unwrap();
    store
}

#[test]
fn a_valid_log_that_differs_from_the_index_is_reported() {
    let one = |stream: &'static str, key: Option<&'static str>, data: &'static [u8]| {
        move |store: &Store| {
            append_expecting(store, &[(stream, data)], &[], key).unwrap();
        }
    };
    let same = swapped(one("a", None, b"x"), one("a", None, b"y"));
    assert_eq!(damaged(&same, Depth::Full), None);
    let stores = [
        swapped(one("a", None, b"x"), one("b", None, b"x")),
        swapped(one("a", Some("k"), b"x"), one("a", Some("l"), b"x")),
        // A key with its digest occupies as many bytes as the longer data.
        swapped(
            one("a", Some("k"), b"0"),
            one("a", None, b"0123456789abcdefgh"),
        ),
        swapped(
            one("a", None, b"0123456789abcdefgh"),
            one("a", Some("k"), b"0"),
        ),
        swapped(
            |store| {
                append(store, &[("a", b"x"), ("b", b"y")]).unwrap();
            },
            |store| {
                append(store, &[("a", b"x"), ("c", b"y")]).unwrap();
            },
        ),
        swapped(
            |store| {
                append(store, &[("a", b"x"), ("b", b"y"), ("a", b"z")]).unwrap();
            },
            |store| {
                append(store, &[("a", b"x"), ("a", b"y"), ("b", b"z")]).unwrap();
            },
        ),
    ];
    for (i, store) in stores.iter().enumerate() {
        assert!(damaged(store, Depth::Full).is_some(), "case {i}");
    }
}

#[test]
fn a_store_in_use_is_never_reported_as_damaged() {
    let vfs = SimVfs::memory();
    let mut options = threaded();
    options.max_segment = 256 << 10;
    let store = open_with(vfs, options).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for thread in 0..3 {
            let (store, done) = (&store, &done);
            scope.spawn(move || {
                let stream = format!("s-{thread}");
                for n in 0..400 {
                    append(store, &[(&stream, &vec![b'x'; (n * 97) % 3000])]).unwrap();
                }
                done.store(true, Ordering::SeqCst);
            });
        }
        let mut rounds = 0;
        while !done.load(Ordering::SeqCst) || rounds < 4 {
            for depth in [Depth::Quick, Depth::Full] {
                store.verify(depth).unwrap();
            }
            rounds += 1;
        }
    });
    assert_eq!(store.verify(Depth::Full).unwrap().events, 1200);
}

#[test]
fn a_poisoned_store_can_be_verified() {
    let vfs = SimVfs::tracked(1);
    let store = sample(&vfs);
    vfs.fail(Fault::once(Call::SyncData, 1, Failure::EIO));
    append(&store, &[("a", b"unknown")]).unwrap_err();
    for depth in [Depth::Quick, Depth::Full] {
        assert_eq!(store.verify(depth).unwrap().events, 4, "{depth:?}");
    }
}

#[test]
fn damage_names_the_file_and_the_offset() {
    let vfs = SimVfs::tracked(1);
    let store = sample(&vfs);
    vfs.corrupt(SEGMENT, 4096, 1).unwrap();
    let text = store.verify(Depth::Full).unwrap_err().to_string();
    let expected = format!("{SEGMENT} is damaged at byte 4096");
    assert!(text.contains(&expected), "{text}");
    vfs.corrupt("/store/IDENTITY", 20, 1).unwrap();
    let text = store.verify(Depth::Quick).unwrap_err().to_string();
    assert!(text.contains("/store/IDENTITY is damaged"), "{text}");
}
