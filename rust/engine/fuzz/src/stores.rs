//! A small store, and every kind of read of one.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use eventbraid_engine::vfs::sim::{Call, Failure, Fault, SimVfs};
use eventbraid_engine::{
    Append, Depth, Error, EventInput, Expectation, Filter, LogQuery, Options, ReadMode, Recorded,
    SnapshotQuery, Store, StreamQuery, prepare,
};

use crate::forge::{self, HEADER, Tie};

pub const ROOT: &str = "/store";
/// The bytes of a segment's header.
pub const FIRST_FRAME: usize = 4096;
const STREAMS: [&str; 3] = ["a-1", "a-2", "b"];

/// Return options with small segments and no threads, so that an input always does the same.
pub fn options() -> Options {
    let mut options = Options::default();
    options.first_segment = 8 << 10;
    options.max_segment = 8 << 10;
    options.background = false;
    options.zero_fill = false;
    options
}

pub fn open(vfs: &SimVfs) -> Result<Store, Error> {
    Store::open(Arc::new(vfs.clone()), Path::new(ROOT), options())
}

fn event<'a>(stream: &'a str, data: &'a [u8]) -> EventInput<'a> {
    EventInput {
        stream,
        event_type: "happened",
        event_id: Some([7; 16]),
        metadata: b"{}",
        library_metadata: b"",
        data,
        content: None,
    }
}

pub fn append(
    store: &Store,
    events: &[(&str, &[u8])],
    key: Option<&str>,
) -> Result<eventbraid_engine::Appended, Error> {
    let events: Vec<_> = events
        .iter()
        .map(|(stream, data)| event(stream, data))
        .collect();
    store.append(prepare(&Append {
        events: &events,
        expectations: &[("nobody", Expectation::NoStream)],
        idempotency_key: key,
        ..Append::default()
    })?)
}

/// Build a store with a few commits in two segments, that was closed or whose process died.
pub fn small(closed: bool) -> SimVfs {
    let vfs = SimVfs::tracked(1);
    let store = open(&vfs).unwrap();
    append(&store, &[("a-1", b"one")], None).unwrap();
    append(&store, &[("a-2", &[b'x'; 3500])], None).unwrap();
    append(
        &store,
        &[("a-1", b"two"), ("b", b"three"), ("a-1", b"four")],
        Some("key"),
    )
    .unwrap();
    append(&store, &[], Some("empty")).unwrap();
    append(&store, &[("a-2", b"five")], None).unwrap();
    assert_eq!(store.stats().segments, 2, "two segments");
    if closed {
        store.close().unwrap();
    }
    vfs.process_crash()
}

/// Build the files that a process leaves after a failed sync.
pub fn poisoned() -> SimVfs {
    let vfs = SimVfs::tracked(1);
    let store = open(&vfs).unwrap();
    append(&store, &[("a-1", b"one")], None).unwrap();
    vfs.fail(Fault::once(Call::SyncData, 1, Failure::EIO).losing());
    append(&store, &[("a-1", b"two")], None).unwrap_err();
    vfs.process_crash()
}

/// Return the files that recovery reads: not the one that names the holder.
pub fn files(vfs: &SimVfs) -> Vec<PathBuf> {
    let mut files = vfs.files();
    files.retain(|file| !file.ends_with("live.holder"));
    files
}

/// Return the secret of the store.
pub fn secret(vfs: &SimVfs) -> [u8; 16] {
    vfs.read_file("/store/IDENTITY").unwrap()[32..48]
        .try_into()
        .unwrap()
}

/// Return the tie and the offset of the frame that follows the last one of a segment.
pub fn end_of_log(vfs: &SimVfs, segment: &Path) -> (Tie, usize) {
    let bytes = vfs.read_file(segment).unwrap();
    let mut tie = Tie {
        secret: secret(vfs),
        address: forge::u64_at(&bytes, 40) + FIRST_FRAME as u64,
        position: 1,
        previous_chain: 0,
    };
    let mut at = FIRST_FRAME;
    while at + HEADER <= bytes.len() && bytes[at..at + 4] == *b"EBF1" {
        tie = forge::after(&bytes[at..], tie);
        at += forge::u32_at(&bytes[at..], 8) as usize;
    }
    (tie, at)
}

/// An event's stream, version and body.
pub type Content = (String, u64, Vec<u8>);

fn content(events: &[Recorded]) -> Vec<Content> {
    let of = |e: &Recorded| (e.stream().to_owned(), e.version(), e.data().to_vec());
    events.iter().map(of).collect()
}

/// Read a store by every kind of read. Return its log, or the error of a read.
pub fn read(store: &Store) -> Result<Vec<Content>, Error> {
    let all = store.read_log(&LogQuery::all())?;
    let backward = store.read_log(&LogQuery {
        backward: true,
        ..LogQuery::all()
    })?;
    let mut reversed = content(&backward.events);
    reversed.reverse();
    assert_eq!(reversed, content(&all.events), "the log read backward");
    let filter = Filter {
        prefix: Some("a"),
        category: Some("a"),
        types: Some(&["happened"]),
        ..Filter::default()
    };
    store.read_log(&LogQuery {
        filter,
        limit: 2,
        ..LogQuery::all()
    })?;
    let mut names = store.streams("", true)?;
    while !store.gather(&mut names)? {}
    let mut in_streams = 0;
    for stream in names.page(usize::MAX) {
        let own = store.read_stream(&StreamQuery::all(stream))?;
        in_streams += own.events.len();
        let versions: Vec<u64> = own.events.iter().map(Recorded::version).collect();
        let count = store.version(stream).unwrap_or(versions.len() as u64);
        assert_eq!(
            versions,
            (1..=count).collect::<Vec<_>>(),
            "versions of {stream}"
        );
    }
    assert_eq!(in_streams, all.events.len(), "events in all streams");
    let streams = STREAMS.map(|stream| (stream, 0));
    let query = SnapshotQuery {
        at: Some(2),
        ..SnapshotQuery::all(&streams)
    };
    store.read_streams(&query)?;
    for key in ["key", "empty", "unknown"] {
        store.committed(key, None, ReadMode::NonBlocking)?;
    }
    let _stats = store.stats();
    store.verify(Depth::Quick)?;
    let verified = store.verify(Depth::Full)?;
    assert_eq!(verified.events, all.events.len() as u64, "verified events");
    Ok(content(&all.events))
}
