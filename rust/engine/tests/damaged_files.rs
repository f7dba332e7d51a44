//! A store with a damaged file returns its complete log, or an error that names file and offset.
//!
//! A store of several segments, with sync markers among its commits, was closed, so its whole log
//! is proven durable. Each file in turn is truncated, loses blocks, has blocks exchanged, is
//! replaced by an older copy or by another file, is removed or duplicated. The log is then as it
//! was before, or the open names the damaged file and the offset. It is never shorter and never
//! contains other events.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test fails loudly and prints its counts"
)]

mod support;

use std::path::{Path, PathBuf};

use eventbraid_engine::vfs::sim::{Persist, SimVfs};
use eventbraid_engine::vfs::{OpenMode, Vfs};
use eventbraid_engine::{Depth, Error, LogQuery, SnapshotQuery, Store, StreamQuery};
use support::frames::{FRAME_HEADER, SEGMENT_HEADER, frames};
use support::hook::wait_until;
use support::{append, append_expecting, log, open, open_with, options, threaded};
use xxhash_rust::xxh3::xxh3_64;

const CURRENT: &str = "/store/CURRENT";
const LAST: &str = "/store/log/0000000003.hot";

/// Files as they were at earlier times.
type Copies = Vec<(PathBuf, Vec<u8>)>;

/// A closed, undamaged store, its log, and earlier copies of its files.
struct Sample {
    vfs: SimVfs,
    events: Vec<Content>,
    copies: Copies,
}

type Content = (String, u64, Vec<u8>);

fn content(store: &Store) -> Vec<Content> {
    let events = log(store);
    let of =
        |e: &eventbraid_engine::Recorded| (e.stream().to_owned(), e.version(), e.data().to_vec());
    events.iter().map(of).collect()
}

/// Return the files of a store, without the one that names its holder.
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

/// Append with background threads, and wait until the log ends with a sync marker.
fn append_and_idle(vfs: &SimVfs, body: &[u8]) {
    let mut options = threaded();
    options.zero_fill = false;
    let store = open_with(vfs.clone(), options).unwrap();
    append(&store, &[("idle", body)]).unwrap();
    let bytes = store.stats().bytes;
    wait_until("a sync marker", || store.stats().bytes > bytes);
    store.close().unwrap();
}

fn sample() -> Sample {
    let vfs = SimVfs::tracked(1);
    let mut copies = Copies::new();
    append_and_idle(&vfs, b"first");
    append_and_idle(&vfs, b"second");
    for session in 0..3u8 {
        let store = open(vfs.clone()).unwrap();
        for n in 0..4u8 {
            let body = vec![b'a' + 4 * session + n; 300 + 1000 * usize::from(n)];
            let key = format!("key-{session}-{n}");
            append_expecting(&store, &[("a", &body), ("b", b"second")], &[], Some(&key)).unwrap();
            copy_all(&vfs, &mut copies);
        }
        let big = vec![b'A' + session; 12_000];
        append(&store, &[("big", &big)]).unwrap();
        copy_all(&vfs, &mut copies);
        store.close().unwrap();
        copy_all(&vfs, &mut copies);
    }
    let store = open(vfs.process_crash()).unwrap();
    let events = content(&store);
    assert_eq!(store.stats().segments, 3, "a store of several segments");
    Sample {
        vfs,
        events,
        copies,
    }
}

/// Return the offsets at and near the beginning and the end of every frame.
fn offsets(bytes: &[u8]) -> Vec<usize> {
    let mut offsets = vec![0, 1, 7, 8, 40, 55, 60, 64, 511, 512, 513];
    offsets.extend([
        SEGMENT_HEADER - 1,
        SEGMENT_HEADER,
        SEGMENT_HEADER + 1,
        bytes.len() - 1,
    ]);
    for frame in frames(bytes) {
        let at = [0, 1, 8, FRAME_HEADER - 1, FRAME_HEADER, FRAME_HEADER + 1];
        offsets.extend(at.map(|n| frame.offset + n));
        let before = [1, 8, 16, 17, frame.length / 2];
        offsets.extend(before.map(|n| frame.end() - n));
    }
    offsets.retain(|offset| *offset < bytes.len());
    offsets.sort_unstable();
    offsets.dedup();
    offsets
}

/// Assert that a damaged store opens with its complete log, or that an error names a damaged file.
/// Return whether there was an error.
fn is_reported(sample: &Sample, vfs: SimVfs, damaged: &[&Path], context: &str) -> bool {
    let opened = open(vfs.clone());
    match opened {
        Ok(store) => {
            assert!(
                content(&store) == sample.events,
                "{context}: {} events",
                log(&store).len()
            );
            let verified = store
                .verify(Depth::Full)
                .unwrap_or_else(|e| panic!("{context}: {e}"));
            assert_eq!(verified.events, sample.events.len() as u64, "{context}");
            append(&store, &[("z", b"continues")]).unwrap_or_else(|e| panic!("{context}: {e}"));
            store.close().unwrap_or_else(|e| panic!("{context}: {e}"));
            let again = open(vfs).unwrap_or_else(|e| panic!("{context}: {e}"));
            assert_eq!(log(&again).len(), sample.events.len() + 1, "{context}");
            false
        }
        Err(Error::CorruptStore { file, offset, .. }) => {
            assert!(
                damaged.contains(&file.as_path()),
                "{context}: named {} at {offset}",
                file.display()
            );
            let is_manifests = damaged.iter().all(|file| is_manifest(file));
            assert!(!is_manifests, "{context}: a manifest loses no segment");
            true
        }
        Err(Error::NotAStore { .. } | Error::IncompatibleFormat { .. }) => {
            let is_identitys = damaged.iter().all(|file| file.ends_with("IDENTITY"));
            assert!(is_identitys, "{context}: no longer a store");
            true
        }
        Err(e) => panic!("{context}: {e}"),
    }
}

/// Replace the bytes of each file in turn. Both outcomes must occur.
fn each_file(what: &str, damage: impl Fn(&[u8]) -> Vec<(String, Vec<u8>)>) {
    let sample = sample();
    let (mut reported, mut harmless) = (0, 0);
    for file in files(&sample.vfs) {
        let bytes = sample.vfs.read_file(&file).unwrap();
        for (how, other) in damage(&bytes)
            .into_iter()
            .filter(|(_, other)| *other != bytes)
        {
            let vfs = sample.vfs.process_crash();
            vfs.write_outside(&file, &other).unwrap();
            let context = format!("{} {what} {how}", file.display());
            let previous = previous_if_empty(&file, &other);
            let damaged: Vec<&Path> = previous
                .iter()
                .chain([&file])
                .map(PathBuf::as_path)
                .collect();
            if is_reported(&sample, vfs, &damaged, &context) {
                reported += 1;
            } else {
                harmless += 1;
            }
        }
    }
    assert!(
        reported > 0 && harmless > 0,
        "{reported} reported, {harmless} harmless"
    );
    println!("{what}: {reported} reported, {harmless} harmless");
}

/// Return the previous segment if this one has no frame left. A log that ended there and a log that
/// lost the end of the previous segment then have the same bytes, so the previous one is reported.
fn previous_if_empty(file: &Path, bytes: &[u8]) -> Option<PathBuf> {
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
fn a_truncated_file_is_reported_or_harmless() {
    each_file("cut", |bytes| {
        let cut = |offset: usize| (format!("to {offset}"), bytes[..offset].to_vec());
        offsets(bytes).into_iter().map(cut).collect()
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
fn a_zeroed_block_is_reported_or_harmless() {
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
fn two_exchanged_blocks_are_reported_or_harmless() {
    each_file("exchanged", |bytes| {
        let mut others = vec![("a byte at its end".to_owned(), with_an_extra_byte(bytes))];
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

/// Append a byte. A byte beyond the end of a segment is harmless, so the test has this outcome,
/// too.
fn with_an_extra_byte(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().copied().chain([0]).collect()
}

#[test]
fn a_flipped_byte_in_the_list_of_segments_is_harmless() {
    let sample = sample();
    for file in files(&sample.vfs).iter().filter(|file| is_manifest(file)) {
        for offset in 0..sample.vfs.read_file(file).unwrap().len() as u64 {
            let vfs = sample.vfs.process_crash();
            vfs.corrupt(file, offset, 0x11).unwrap();
            let context = format!("{} flipped at {offset}", file.display());
            assert!(!is_reported(&sample, vfs, &[file], &context), "{context}");
        }
    }
}

/// Other tests flip each byte of a small store. This one checks the offset that is reported.
#[test]
fn a_flipped_byte_is_reported_with_its_frame() {
    let sample = sample();
    let segments = files(&sample.vfs)
        .into_iter()
        .filter(|file| is_segment(file));
    for segment in segments {
        let bytes = sample.vfs.read_file(&segment).unwrap();
        for frame in frames(&bytes) {
            for at in [0, 8, 40, FRAME_HEADER, frame.length / 2, frame.length - 1] {
                let vfs = sample.vfs.process_crash();
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
fn an_older_copy_of_a_file_is_reported_or_harmless() {
    let sample = sample();
    let (mut reported, mut harmless) = (0, 0);
    for (file, older) in &sample.copies {
        let vfs = sample.vfs.process_crash();
        restore(&vfs, file, older);
        if is_reported(
            &sample,
            vfs,
            &[file],
            &format!("older copy of {}", file.display()),
        ) {
            assert!(is_segment(file), "{}", file.display());
            reported += 1;
        } else {
            harmless += 1;
        }
    }
    assert!(
        reported > 0 && harmless > 0,
        "{reported} reported, {harmless} harmless"
    );
}

/// Write the bytes of a file. Create the file first if it was removed.
fn restore(vfs: &SimVfs, file: &Path, bytes: &[u8]) {
    if vfs.entry(file).unwrap().is_none() {
        vfs.open(file, OpenMode::CreateNew).unwrap();
    }
    vfs.write_outside(file, bytes).unwrap();
}

#[test]
fn an_older_manifest_with_its_current_is_harmless() {
    let sample = sample();
    let manifests = |(file, _): &&(PathBuf, Vec<u8>)| file.to_string_lossy().contains("MANIFEST");
    let mut tried = 0;
    for (manifest, older) in sample.copies.iter().filter(manifests) {
        let name = manifest.file_name().unwrap().to_string_lossy();
        let vfs = sample.vfs.process_crash();
        restore(&vfs, manifest, older);
        restore(&vfs, Path::new(CURRENT), format!("{name}\n").as_bytes());
        let context = format!("{name} and CURRENT");
        let damaged = [manifest.as_path(), Path::new(CURRENT)];
        assert!(!is_reported(&sample, vfs, &damaged, &context), "{context}");
        tried += 1;
    }
    assert!(tried > 5, "{tried} manifests");
}

#[test]
fn a_missing_file_is_reported_or_harmless() {
    let sample = sample();
    for file in files(&sample.vfs) {
        let vfs = sample.vfs.process_crash();
        vfs.remove(&file).unwrap();
        let context = format!("{} removed", file.display());
        let reported = is_reported(&sample, vfs, &[&file], &context);
        assert_eq!(reported, !is_manifest(&file), "{context}");
    }
}

#[test]
fn a_segment_in_the_place_of_another_is_reported() {
    let sample = sample();
    let segments: Vec<_> = files(&sample.vfs)
        .into_iter()
        .filter(|file| is_segment(file))
        .collect();
    for one in &segments {
        for other in segments.iter().filter(|other| *other != one) {
            let vfs = sample.vfs.process_crash();
            let (first, second) = (vfs.read_file(one).unwrap(), vfs.read_file(other).unwrap());
            vfs.write_outside(one, &second).unwrap();
            let context = format!("{} over {}", other.display(), one.display());
            assert!(
                is_reported(&sample, vfs.process_crash(), &[one], &context),
                "{context}"
            );
            vfs.write_outside(other, &first).unwrap();
            assert!(
                is_reported(&sample, vfs, &[one, other], &context),
                "exchanged: {context}"
            );
        }
    }
}

#[test]
fn a_second_copy_of_a_segment_is_set_aside() {
    let sample = sample();
    let segments = files(&sample.vfs)
        .into_iter()
        .filter(|file| is_segment(file));
    for segment in segments {
        let vfs = sample.vfs.process_crash();
        let bytes = vfs.read_file(&segment).unwrap();
        let copy = Path::new("/store/log/0000000004.hot");
        restore(&vfs, copy, &bytes);
        let context = format!("{} copied", segment.display());
        assert!(
            !is_reported(&sample, vfs.clone(), &[copy], &context),
            "{context}"
        );
        let aside = vfs.read_file("/store/quarantine/0000000004.hot").unwrap();
        assert!(aside == bytes, "{context}: kept unchanged");
    }
}

/// The limit of detection: no byte of this store proves that the log was longer. After a close the
/// manifest proves it, and the same copy is reported.
#[test]
fn an_older_copy_of_the_last_segment_is_undetectable_before_a_sync_marker_or_a_close() {
    let vfs = SimVfs::tracked(1);
    let store = open(vfs.clone()).unwrap();
    append(&store, &[("a", b"one")]).unwrap();
    let segment = Path::new("/store/log/0000000001.hot");
    let older = vfs.read_file(segment).unwrap();
    append(&store, &[("a", b"two")]).unwrap();
    let cut = vfs.power_cut(Persist::Everything);
    cut.write_outside(segment, &older).unwrap();
    let undetected = open(cut).unwrap();
    assert_eq!(log(&undetected).len(), 1, "a shorter, consistent log");
    store.close().unwrap();
    vfs.write_outside(segment, &older).unwrap();
    assert!(matches!(open(vfs), Err(Error::CorruptStore { .. })));
}

/// A frame of a later segment is such a proof, so only the last segment has this limit.
#[test]
fn an_older_copy_of_an_earlier_segment_is_reported_without_a_close() {
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
        panic!("opened with a gap")
    };
    assert_eq!((file.as_path(), offset), (segment, older.len() as u64));
}

#[test]
fn the_sample_store_has_sync_markers_and_segments() {
    let sample = sample();
    let mut markers = 0;
    for file in files(&sample.vfs)
        .into_iter()
        .filter(|file| is_segment(file))
    {
        let all = frames(&sample.vfs.read_file(file).unwrap());
        markers += all.iter().filter(|frame| frame.is_sync_marker).count();
        assert!(all.iter().any(|frame| frame.events > 0));
    }
    assert!(markers >= 2, "{markers} sync markers");
    assert!(sample.vfs.read_file(LAST).is_ok());
}

/// The checksums do not protect from a faulty writer. Without a check of the name, this event would
/// be read with the log but not with its stream.
#[test]
fn a_stream_with_the_hash_of_another_name_is_reported() {
    let vfs = SimVfs::tracked(1);
    let store = open(vfs.clone()).unwrap();
    append(&store, &[("a", b"one")]).unwrap();
    append(&store, &[("b", b"two")]).unwrap();
    let vfs = vfs.process_crash();
    let segment = Path::new("/store/log/0000000001.hot");
    let mut bytes = vfs.read_file(segment).unwrap();
    let frame = frames(&bytes)[1];
    bytes[frame.offset + FRAME_HEADER] ^= 1;
    let (chain_at, directory_length) = (frame.end() - 16, 32 + "b".len().next_multiple_of(8));
    let directory_end = frame.offset + FRAME_HEADER + directory_length;
    let chain = xxh3_64(&bytes[frame.offset + 8..directory_end]);
    bytes[chain_at..chain_at + 8].copy_from_slice(&chain.to_le_bytes());
    vfs.write_outside(segment, &bytes).unwrap();
    assert_eq!(
        named(open(vfs), "the hash of another name"),
        (segment.to_path_buf(), frame.offset as u64)
    );
}

/// Return the file and the offset that an error names as damaged.
fn named<T: std::fmt::Debug>(answer: Result<T, Error>, context: &str) -> (PathBuf, u64) {
    match answer {
        Err(Error::CorruptStore { file, offset, .. }) => (file, offset),
        other => panic!("{context}: {other:?}"),
    }
}

/// Open the store without a cache, so that every read reads the files.
fn open_uncached(sample: &Sample) -> (SimVfs, Store) {
    let vfs = sample.vfs.process_crash();
    let mut options = options();
    options.cache = 0;
    let store = open_with(vfs.clone(), options).unwrap();
    (vfs, store)
}

#[test]
fn damage_to_an_open_store_is_reported_by_every_read_and_by_verify() {
    let sample = sample();
    let (vfs, store) = open_uncached(&sample);
    let damaged = Path::new(LAST);
    let bytes = vfs.read_file(damaged).unwrap();
    let frame = frames(&bytes).into_iter().rfind(|frame| frame.events > 0);
    let frame = frame.unwrap();
    let at = (frame.offset + frame.length / 2) as u64;
    vfs.corrupt(damaged, at, 1).unwrap();
    let (last, ..) = sample.events.last().unwrap();
    let streams = [(last.as_str(), 0)];
    let snapshot = SnapshotQuery::all(&streams);
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
        first.events[0].data() == sample.events[0].2,
        "the rest is read"
    );
}

#[test]
fn a_file_truncated_under_an_open_store_is_reported_by_reads_and_by_verify() {
    let sample = sample();
    let (vfs, store) = open_uncached(&sample);
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
fn without_a_manifest_the_segments_must_be_contiguous() {
    let sample = sample();
    let vfs = sample.vfs.process_crash();
    vfs.remove(CURRENT.as_ref()).unwrap();
    vfs.remove("/store/log/0000000002.hot".as_ref()).unwrap();
    let (file, _) = named(open(vfs), "a gap");
    assert_eq!(file, Path::new(LAST));
}
