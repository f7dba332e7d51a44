//! Whatever befalls a file of a store, the store tells the truth or says what is wrong where.
//!
//! A store of several segments, with marks among its commits, was closed: all of its log is
//! proven. Each file of it in turn is cut, loses blocks, has blocks exchanged, is replaced by
//! an older copy or by another file, is removed or doubled. Then the log is as it was, or
//! opening it names the damaged file and the place. It is never shorter and never other.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test fails loudly, and tells how much it did"
)]

mod support;

use std::path::{Path, PathBuf};

use eventbraid_engine::vfs::sim::{Persist, SimVfs};
use eventbraid_engine::vfs::{OpenMode, Vfs};
use eventbraid_engine::{Depth, Error, LogQuery, ReadMode, SnapshotQuery, Store, StreamQuery};
use support::frames::{FRAME_HEADER, SEGMENT_HEADER, frames};
use support::hook::until;
use support::{append, append_expecting, log, open, open_with, options, threaded};

const CURRENT: &str = "/store/CURRENT";
const LAST: &str = "/store/log/0000000003.hot";

/// A file as it was at some time.
type Copies = Vec<(PathBuf, Vec<u8>)>;

/// A closed store, its log, and what its files held at earlier times.
struct Whole {
    vfs: SimVfs,
    truth: Vec<Shown>,
    copies: Copies,
}

type Shown = (String, u64, Vec<u8>);

fn shown(store: &Store) -> Vec<Shown> {
    let events = log(store);
    let of =
        |e: &eventbraid_engine::Recorded| (e.stream().to_owned(), e.version(), e.data().to_vec());
    events.iter().map(of).collect()
}

/// The files that make up a store: not who holds it.
fn files(vfs: &SimVfs) -> Vec<PathBuf> {
    let mut files = vfs.files();
    files.retain(|file| !file.ends_with("live.holder"));
    files
}

fn is_segment(file: &Path) -> bool {
    file.extension().is_some_and(|extension| extension == "hot")
}

fn is_manifest(file: &Path) -> bool {
    file.ends_with("CURRENT") || file.to_string_lossy().contains("MANIFEST")
}

fn copy_all(vfs: &SimVfs, copies: &mut Copies) {
    for file in files(vfs) {
        let bytes = vfs.read_file(&file).unwrap();
        copies.push((file, bytes));
    }
}

/// Appends with the engine's own threads until the log ends in a mark.
fn append_and_rest(vfs: &SimVfs, body: &[u8]) {
    let mut options = threaded();
    options.zero_fill = false;
    let store = open_with(vfs.clone(), options).unwrap();
    append(&store, &[("rested", body)]).unwrap();
    let bytes = store.stats().bytes;
    until("a mark", || store.stats().bytes > bytes);
    store.close().unwrap();
}

fn whole() -> Whole {
    let vfs = SimVfs::tracked(1);
    let mut copies = Copies::new();
    append_and_rest(&vfs, b"first");
    append_and_rest(&vfs, b"second");
    for life in 0..3u8 {
        let store = open(vfs.clone()).unwrap();
        for n in 0..4u8 {
            let body = vec![b'a' + 4 * life + n; 300 + 1000 * usize::from(n)];
            let key = format!("key-{life}-{n}");
            append_expecting(&store, &[("a", &body), ("b", b"beside")], &[], Some(&key)).unwrap();
            copy_all(&vfs, &mut copies);
        }
        let big = vec![b'A' + life; 12_000];
        append(&store, &[("big", &big)]).unwrap();
        copy_all(&vfs, &mut copies);
        store.close().unwrap();
        copy_all(&vfs, &mut copies);
    }
    let store = open(vfs.process_crash()).unwrap();
    let truth = shown(&store);
    assert_eq!(store.stats().segments, 3, "a store of several segments");
    Whole { vfs, truth, copies }
}

/// Every frame's beginning and end, and what is near them.
fn places(bytes: &[u8]) -> Vec<usize> {
    let mut places = vec![0, 1, 7, 8, 40, 55, 60, 64, 511, 512, 513];
    places.extend([
        SEGMENT_HEADER - 1,
        SEGMENT_HEADER,
        SEGMENT_HEADER + 1,
        bytes.len() - 1,
    ]);
    for frame in frames(bytes) {
        let at = [0, 1, 8, FRAME_HEADER - 1, FRAME_HEADER, FRAME_HEADER + 1];
        places.extend(at.map(|n| frame.offset + n));
        let before = [1, 8, 16, 17, frame.length / 2];
        places.extend(before.map(|n| frame.end() - n));
    }
    places.retain(|place| *place < bytes.len());
    places.sort_unstable();
    places.dedup();
    places
}

/// Opens a damaged store: the truth, or an error that names a damaged file. Answers whether it
/// was told.
fn judge(whole: &Whole, vfs: SimVfs, damaged: &[&Path], context: &str) -> bool {
    let opened = open(vfs.clone());
    match opened {
        Ok(store) => {
            assert!(
                shown(&store) == whole.truth,
                "{context}: {} events",
                log(&store).len()
            );
            let verified = store
                .verify(Depth::Full)
                .unwrap_or_else(|e| panic!("{context}: {e}"));
            assert_eq!(verified.events, whole.truth.len() as u64, "{context}");
            append(&store, &[("z", b"goes on")]).unwrap_or_else(|e| panic!("{context}: {e}"));
            store.close().unwrap_or_else(|e| panic!("{context}: {e}"));
            let again = open(vfs).unwrap_or_else(|e| panic!("{context}: {e}"));
            assert_eq!(log(&again).len(), whole.truth.len() + 1, "{context}");
            false
        }
        Err(Error::CorruptStore { file, offset, .. }) => {
            assert!(
                damaged.contains(&file.as_path()),
                "{context}: named {} at {offset}",
                file.display()
            );
            let is_manifests = damaged.iter().all(|file| is_manifest(file));
            assert!(!is_manifests, "{context}: no manifest costs a segment");
            true
        }
        Err(Error::NotAStore { .. } | Error::IncompatibleFormat { .. }) => {
            let is_identitys = damaged.iter().all(|file| file.ends_with("IDENTITY"));
            assert!(is_identitys, "{context}: not a store any more");
            true
        }
        Err(e) => panic!("{context}: {e}"),
    }
}

/// Puts other bytes into each file in turn. Both kinds of end must have been seen.
fn each_file(what: &str, damage: impl Fn(&[u8]) -> Vec<(String, Vec<u8>)>) {
    let whole = whole();
    let (mut told, mut harmless) = (0, 0);
    for file in files(&whole.vfs) {
        let bytes = whole.vfs.read_file(&file).unwrap();
        for (how, other) in damage(&bytes)
            .into_iter()
            .filter(|(_, other)| *other != bytes)
        {
            let vfs = whole.vfs.process_crash();
            vfs.write_outside(&file, &other).unwrap();
            let context = format!("{} {what} {how}", file.display());
            let before = before_if_emptied(&file, &other);
            let damaged: Vec<&Path> = before.iter().chain([&file]).map(PathBuf::as_path).collect();
            if judge(&whole, vfs, &damaged, &context) {
                told += 1;
            } else {
                harmless += 1;
            }
        }
    }
    assert!(told > 0 && harmless > 0, "{told} told, {harmless} harmless");
    println!("{what}: {told} told, {harmless} harmless");
}

/// Of a segment with no frame left nobody can say whether the log had gone on in it, or is
/// lost at the end of the one before.
fn before_if_emptied(file: &Path, bytes: &[u8]) -> Option<PathBuf> {
    let log = bytes.get(SEGMENT_HEADER..).unwrap_or_default();
    if !is_segment(file)
        || log
            .chunks(8)
            .filter(|chunk| chunk.starts_with(b"EBF1"))
            .count()
            > 1
    {
        return None;
    }
    let ordinal: u64 = file.file_stem()?.to_str()?.parse().ok()?;
    Some(PathBuf::from(format!("/store/log/{:010}.hot", ordinal - 1)))
}

#[test]
fn a_file_cut_anywhere_is_told_or_harmless() {
    each_file("cut", |bytes| {
        let cut = |place: usize| (format!("to {place}"), bytes[..place].to_vec());
        places(bytes).into_iter().map(cut).collect()
    });
}

fn blocks(bytes: &[u8], size: usize) -> std::ops::Range<usize> {
    let used = bytes
        .iter()
        .rposition(|byte| *byte != 0)
        .map_or(0, |last| last + 1);
    0..used.div_ceil(size)
}

fn block(bytes: &[u8], number: usize, size: usize) -> std::ops::Range<usize> {
    (number * size).min(bytes.len())..((number + 1) * size).min(bytes.len())
}

#[test]
fn a_block_of_zeros_is_told_or_harmless() {
    each_file("zeroed", |bytes| {
        let mut others = Vec::new();
        for size in [512, 4096] {
            for number in blocks(bytes, size) {
                let mut other = bytes.to_vec();
                other[block(bytes, number, size)].fill(0);
                others.push((format!("block {number} of {size}"), other));
            }
        }
        others
    });
}

#[test]
fn two_blocks_exchanged_are_told_or_harmless() {
    each_file("exchanged", |bytes| {
        let mut others = vec![("a byte at its end".to_owned(), with_a_byte_more(bytes))];
        for size in [512, 4096] {
            let blocks = blocks(bytes, size);
            let pairs = blocks
                .clone()
                .flat_map(|i| (i + 1..blocks.end).map(move |j| (i, j)));
            for (i, j) in pairs {
                let (one, two) = (block(bytes, i, size), block(bytes, j, size));
                if one.len() == two.len() {
                    let mut other = bytes.to_vec();
                    other[one.clone()].copy_from_slice(&bytes[two.clone()]);
                    other[two].copy_from_slice(&bytes[one]);
                    others.push((format!("blocks {i} and {j} of {size}"), other));
                }
            }
        }
        others
    });
}

/// Harmless beyond a segment's end: so the test sees that side too.
fn with_a_byte_more(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().copied().chain([0]).collect()
}

#[test]
fn any_flipped_byte_of_what_lists_the_segments_is_harmless() {
    let whole = whole();
    for file in files(&whole.vfs).iter().filter(|file| is_manifest(file)) {
        for offset in 0..whole.vfs.read_file(file).unwrap().len() as u64 {
            let vfs = whole.vfs.process_crash();
            vfs.corrupt(file, offset, 0x11).unwrap();
            let context = format!("{} flipped at {offset}", file.display());
            assert!(!judge(&whole, vfs, &[file], &context), "{context}");
        }
    }
}

/// Each byte of a small store has its turn elsewhere; here it is the place that is told.
#[test]
fn a_flipped_byte_is_told_with_its_frame() {
    let whole = whole();
    let segments = files(&whole.vfs)
        .into_iter()
        .filter(|file| is_segment(file));
    for segment in segments {
        let bytes = whole.vfs.read_file(&segment).unwrap();
        for frame in frames(&bytes) {
            for at in [0, 8, 40, FRAME_HEADER, frame.length / 2, frame.length - 1] {
                let vfs = whole.vfs.process_crash();
                vfs.corrupt(&segment, (frame.offset + at) as u64, 4)
                    .unwrap();
                let context = format!("{} at {} + {at}", segment.display(), frame.offset);
                let Err(Error::CorruptStore { file, offset, .. }) = open(vfs) else {
                    panic!("{context}: opened")
                };
                assert_eq!(
                    (file, offset),
                    (segment.clone(), frame.offset as u64),
                    "{context}"
                );
            }
        }
    }
}

#[test]
fn an_older_copy_of_a_file_is_told_or_harmless() {
    let whole = whole();
    let (mut told, mut harmless) = (0, 0);
    for (file, older) in &whole.copies {
        let vfs = whole.vfs.process_crash();
        put(&vfs, file, older);
        if judge(
            &whole,
            vfs,
            &[file],
            &format!("older copy of {}", file.display()),
        ) {
            assert!(is_segment(file), "{}", file.display());
            told += 1;
        } else {
            harmless += 1;
        }
    }
    assert!(told > 0 && harmless > 0, "{told} told, {harmless} harmless");
}

/// Puts a file where it was, if only its name is gone, else its bytes.
fn put(vfs: &SimVfs, file: &Path, bytes: &[u8]) {
    if vfs.entry(file).unwrap().is_none() {
        vfs.open(file, OpenMode::CreateNew).unwrap();
    }
    vfs.write_outside(file, bytes).unwrap();
}

#[test]
fn an_older_manifest_with_its_current_is_harmless() {
    let whole = whole();
    let manifests = |(file, _): &&(PathBuf, Vec<u8>)| file.to_string_lossy().contains("MANIFEST");
    let mut tried = 0;
    for (manifest, older) in whole.copies.iter().filter(manifests) {
        let name = manifest.file_name().unwrap().to_string_lossy();
        let vfs = whole.vfs.process_crash();
        put(&vfs, manifest, older);
        put(&vfs, Path::new(CURRENT), format!("{name}\n").as_bytes());
        let context = format!("{name} and CURRENT");
        let damaged = [manifest.as_path(), Path::new(CURRENT)];
        assert!(!judge(&whole, vfs, &damaged, &context), "{context}");
        tried += 1;
    }
    assert!(tried > 5, "{tried} manifests");
}

#[test]
fn a_file_that_is_gone_is_told_or_harmless() {
    let whole = whole();
    for file in files(&whole.vfs) {
        let vfs = whole.vfs.process_crash();
        vfs.remove(&file).unwrap();
        let context = format!("{} removed", file.display());
        let told = judge(&whole, vfs, &[&file], &context);
        assert_eq!(told, !is_manifest(&file), "{context}");
    }
}

#[test]
fn a_segment_in_the_place_of_another_is_told() {
    let whole = whole();
    let segments: Vec<_> = files(&whole.vfs)
        .into_iter()
        .filter(|file| is_segment(file))
        .collect();
    for one in &segments {
        for other in segments.iter().filter(|other| *other != one) {
            let vfs = whole.vfs.process_crash();
            let (first, second) = (vfs.read_file(one).unwrap(), vfs.read_file(other).unwrap());
            vfs.write_outside(one, &second).unwrap();
            let context = format!("{} over {}", other.display(), one.display());
            assert!(
                judge(&whole, vfs.process_crash(), &[one], &context),
                "{context}"
            );
            vfs.write_outside(other, &first).unwrap();
            assert!(
                judge(&whole, vfs, &[one, other], &context),
                "exchanged: {context}"
            );
        }
    }
}

#[test]
fn a_second_copy_of_a_segment_is_set_aside() {
    let whole = whole();
    let segments = files(&whole.vfs)
        .into_iter()
        .filter(|file| is_segment(file));
    for segment in segments {
        let vfs = whole.vfs.process_crash();
        let bytes = vfs.read_file(&segment).unwrap();
        let copy = Path::new("/store/log/0000000004.hot");
        put(&vfs, copy, &bytes);
        let context = format!("{} copied", segment.display());
        assert!(!judge(&whole, vfs.clone(), &[copy], &context), "{context}");
        let aside = vfs.read_file("/store/quarantine/0000000004.hot").unwrap();
        assert!(aside == bytes, "{context}: kept as it was");
    }
}

/// What a store can't notice: nothing that it holds says that there had been more. The same
/// copy in a store that was closed is told, as another test shows.
#[test]
fn an_older_copy_of_the_last_segment_has_no_witness_before_a_mark_or_a_close() {
    let vfs = SimVfs::tracked(1);
    let store = open(vfs.clone()).unwrap();
    append(&store, &[("a", b"one")]).unwrap();
    let segment = Path::new("/store/log/0000000001.hot");
    let older = vfs.read_file(segment).unwrap();
    append(&store, &[("a", b"two")]).unwrap();
    let cut = vfs.power_cut(Persist::Everything);
    cut.write_outside(segment, &older).unwrap();
    let unnoticed = open(cut).unwrap();
    assert_eq!(log(&unnoticed).len(), 1, "a shorter log, and a whole one");
    store.close().unwrap();
    vfs.write_outside(segment, &older).unwrap();
    assert!(matches!(open(vfs), Err(Error::CorruptStore { .. })));
}

/// A frame of a later segment is such a witness, so that it is only the last one's matter.
#[test]
fn an_older_copy_of_an_earlier_segment_is_told_without_a_close() {
    let vfs = SimVfs::tracked(1);
    let mut options = options();
    options.zero_fill = false;
    let store = open_with(vfs.clone(), options).unwrap();
    append(&store, &[("a", b"one")]).unwrap();
    let segment = Path::new("/store/log/0000000001.hot");
    let older = vfs.read_file(segment).unwrap();
    append(&store, &[("a", b"two")]).unwrap();
    append(&store, &[("a", &[b'x'; 14_000])]).unwrap();
    assert_eq!(store.stats().segments, 2);
    let cut = vfs.power_cut(Persist::Everything);
    cut.write_outside(segment, &older).unwrap();
    let Err(Error::CorruptStore { file, offset, .. }) = open(cut) else {
        panic!("opened with a hole")
    };
    assert_eq!((file.as_path(), offset), (segment, older.len() as u64));
}

#[test]
fn the_store_under_test_has_marks_and_segments() {
    let whole = whole();
    let mut marks = 0;
    for file in files(&whole.vfs)
        .into_iter()
        .filter(|file| is_segment(file))
    {
        let all = frames(&whole.vfs.read_file(file).unwrap());
        marks += all.iter().filter(|frame| frame.is_mark).count();
        assert!(all.iter().any(|frame| frame.events > 0));
    }
    assert!(marks >= 2, "{marks} marks");
    assert!(whole.vfs.read_file(LAST).is_ok());
}

/// The file and the offset that an answer names as damaged.
fn named<T: std::fmt::Debug>(answer: Result<T, Error>, context: &str) -> (PathBuf, u64) {
    match answer {
        Err(Error::CorruptStore { file, offset, .. }) => (file, offset),
        other => panic!("{context}: {other:?}"),
    }
}

/// A store that is open, keeps nothing in memory, and has its files in reach.
fn open_uncached(whole: &Whole) -> (SimVfs, Store) {
    let vfs = whole.vfs.process_crash();
    let mut options = options();
    options.cache = 0;
    let store = open_with(vfs.clone(), options).unwrap();
    (vfs, store)
}

#[test]
fn damage_under_an_open_store_is_told_by_every_read_and_by_verify() {
    let whole = whole();
    let (vfs, store) = open_uncached(&whole);
    let damaged = Path::new(LAST);
    let bytes = vfs.read_file(damaged).unwrap();
    let frame = frames(&bytes).into_iter().rfind(|frame| frame.events > 0);
    let frame = frame.unwrap();
    let at = (frame.offset + frame.length / 2) as u64;
    vfs.corrupt(damaged, at, 1).unwrap();
    let (last, ..) = whole.truth.last().unwrap();
    let streams = [(last.as_str(), 0)];
    let snapshot = SnapshotQuery {
        streams: &streams,
        at: None,
        mode: ReadMode::Blocking,
    };
    let here = (damaged.to_path_buf(), frame.offset as u64);
    assert_eq!(named(store.verify(Depth::Full), "verify"), here);
    assert_eq!(named(store.read_log(&LogQuery::all()), "log"), here);
    let stream = store.read_stream(&StreamQuery::all(last));
    assert_eq!(named(stream, "stream"), here);
    assert_eq!(named(store.read_streams(&snapshot), "snapshot"), here);
    let page = LogQuery {
        limit: 1,
        ..LogQuery::all()
    };
    let first = store.read_log(&page).unwrap();
    assert!(
        first.events[0].data() == whole.truth[0].2,
        "the rest is read"
    );
}

#[test]
fn a_file_cut_under_an_open_store_is_told_by_reads_and_by_verify() {
    let whole = whole();
    let (vfs, store) = open_uncached(&whole);
    let damaged = Path::new(LAST);
    let frame = frames(&vfs.read_file(damaged).unwrap())[0];
    let end = (frame.end() - 8) as u64;
    vfs.truncate_outside(damaged, end).unwrap();
    let (file, offset) = named(store.read_log(&LogQuery::all()), "log");
    assert_eq!((file.as_path(), offset), (damaged, end));
    let (file, offset) = named(store.verify(Depth::Full), "verify");
    assert_eq!((file.as_path(), offset), (damaged, frame.offset as u64));
}

#[test]
fn without_a_manifest_the_segments_must_form_one_row() {
    let whole = whole();
    let vfs = whole.vfs.process_crash();
    vfs.remove(CURRENT.as_ref()).unwrap();
    vfs.remove("/store/log/0000000002.hot".as_ref()).unwrap();
    let (file, _) = named(open(vfs), "a hole");
    assert_eq!(file, Path::new(LAST));
}
