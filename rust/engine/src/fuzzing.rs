//! The parsers of bytes from disk, as functions for the fuzz targets in `rust/engine/fuzz`. This
//! module exists only under `--cfg fuzzing`.
//!
//! Each function returns whether the bytes are valid. For no input may it panic, hang or allocate
//! more memory than the length of the input justifies.
#![expect(
    clippy::missing_panics_doc,
    reason = "a panic is what a fuzzer looks for"
)]

use std::path::PathBuf;
use std::sync::Arc;

use crate::frame::{
    Encoder, EncoderEvent, FrameFields, FrameOrigin, FrameView, Header, Seed, StreamHead,
};
use crate::log::{Identity, Layout, Manifest, PoisonMarker, PoisonMarkerState, SegmentHeader};
use crate::vfs::sim::SimVfs;
use crate::vfs::{OpenMode, Vfs};

/// The store and the address that the checksum of a frame depends on.
#[derive(Clone, Copy, Debug)]
pub struct FrameLocation {
    /// The secret of the store.
    pub secret: [u8; 16],
    /// The address of the frame's first byte.
    pub address: u64,
}

/// Validate a frame and read all its parts. Return the number of its events.
pub fn frame(bytes: &[u8], location: FrameLocation) -> Option<u32> {
    let origin = FrameOrigin {
        seed: Seed::new(&location.secret),
        address: location.address,
    };
    let header = Header::read(bytes, origin.seed, origin.address);
    let frame = FrameView::check(bytes, origin).ok()?;
    assert_eq!(
        header.as_ref(),
        Some(frame.header()),
        "both readers must return the same header"
    );
    assert!(
        frame.header().length as usize <= bytes.len(),
        "the length must not exceed the input"
    );
    read_all(&frame);
    let trusted = FrameView::trusted(bytes).map(|trusted| trusted.chain());
    assert_eq!(
        trusted,
        Some(frame.chain()),
        "a checked frame must be readable as a trusted one"
    );
    Some(frame.header().events)
}

/// Check that every part of a valid frame can be read.
fn read_all(frame: &FrameView<'_>) {
    let header = frame.header();
    let counted: u64 = frame.streams().map(|stream| u64::from(stream.count)).sum();
    assert_eq!(frame.streams().count(), header.streams as usize, "streams");
    assert_eq!(counted, u64::from(header.events), "events of all streams");
    assert_eq!(frame.key().is_some(), header.key_length > 0, "key");
    for i in 0..header.events {
        let event = frame.event(i).map(|event| event.stream);
        assert_eq!(event, frame.event_stream(i), "event {i}");
        assert!(
            event.is_some_and(|stream| stream < header.streams),
            "event {i}"
        );
    }
    assert!(
        frame.event(header.events).is_none(),
        "no event after the last one"
    );
}

/// One event of a frame to be encoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The index of its stream.
    pub stream: u32,
    /// Its type.
    pub event_type: String,
    /// Its metadata.
    pub metadata: Vec<u8>,
    /// Its data.
    pub data: Vec<u8>,
}

/// The content of a frame to be encoded.
#[derive(Clone, Debug, Default)]
pub struct Content {
    /// The names of the streams.
    pub streams: Vec<String>,
    /// Its events.
    pub events: Vec<Event>,
    /// The idempotency key; empty if there is none.
    pub key: String,
}

/// Return the bytes of a frame with this content.
pub fn encode(content: &Content, location: FrameLocation) -> Vec<u8> {
    let count = |stream: usize| {
        let own = |event: &&Event| event.stream as usize == stream;
        u32::try_from(content.events.iter().filter(own).count()).unwrap_or(u32::MAX)
    };
    let names = content.streams.iter().enumerate();
    let streams: Vec<_> = names.map(|(i, name)| (name.as_str(), count(i))).collect();
    let key = (!content.key.is_empty()).then_some((content.key.as_str(), 7));
    let bodies = |event: &Event| event.event_type.len() + event.metadata.len() + event.data.len();
    let bodies = content.events.iter().map(bodies).sum();
    let mut encoder = Encoder::new(&streams, key, content.events.len(), bodies);
    let mut offsets = vec![0; streams.len()];
    for event in &content.events {
        let next = offsets.get_mut(event.stream as usize);
        encoder.push(&EncoderEvent {
            stream: event.stream,
            offset: next.map_or(0, |next| std::mem::replace(next, *next + 1)),
            event_type: &event.event_type,
            event_id: [7; 16],
            metadata: &event.metadata,
            data: &event.data,
        });
    }
    let mut frame = encoder.finish();
    let fields = FrameFields {
        address: location.address,
        first_position: 1,
        previous_chain: 0,
        durable_hint: 0,
        commit_time: 0,
        writer_epoch: 0,
    };
    let heads = streams.iter().map(|_| StreamHead {
        stream_hash: 7,
        base_version: 0,
    });
    frame.complete(heads, &fields, Seed::new(&location.secret));
    frame.bytes().to_vec()
}

/// Return the content of a frame; `None` if the bytes are not a valid frame.
pub fn decode(bytes: &[u8], location: FrameLocation) -> Option<Content> {
    frame(bytes, location)?;
    let frame = FrameView::trusted(bytes)?;
    let event = |i| {
        let event = frame.event(i)?;
        Some(Event {
            stream: event.stream,
            event_type: event.event_type.to_owned(),
            metadata: event.metadata.to_owned(),
            data: event.data.to_owned(),
        })
    };
    Some(Content {
        streams: frame
            .streams()
            .map(|stream| stream.name.to_owned())
            .collect(),
        events: (0..frame.header().events)
            .map(event)
            .collect::<Option<_>>()?,
        key: frame
            .key()
            .map_or_else(String::new, |(text, _)| text.to_owned()),
    })
}

/// Whether the bytes are a valid header of a segment.
pub fn segment_header(bytes: &[u8]) -> bool {
    let header = SegmentHeader::decode(bytes);
    if let Some(header) = &header {
        let again = SegmentHeader::decode(&header.encode());
        assert_eq!(again.as_ref(), Some(header), "encoded and decoded");
    }
    header.is_some()
}

/// Whether the bytes are a valid manifest.
pub fn manifest(bytes: &[u8]) -> bool {
    let manifest = Manifest::decode(bytes);
    if let Some(manifest) = &manifest {
        let again = Manifest::decode(&manifest.encode());
        assert_eq!(again.as_ref(), Some(manifest), "encoded and decoded");
    }
    manifest.is_some()
}

/// Whether the bytes are a valid CURRENT that names the given manifest.
pub fn current(bytes: &[u8], generation: u64, manifest: &[u8]) -> bool {
    let layout = layout(&[
        ("CURRENT", bytes),
        (&format!("MANIFEST-{generation}"), manifest),
    ]);
    let live = Manifest::live(&layout).unwrap_or_default();
    live.is_some_and(|live| live.generation == generation)
}

/// Whether the bytes are a valid IDENTITY.
pub fn identity(bytes: &[u8]) -> bool {
    let layout = layout(&[("IDENTITY", bytes)]);
    matches!(Identity::read(&layout), Ok(Some(_)))
}

/// Whether the bytes are a valid POISONED. Its reason is converted to text with loss, so the file
/// is not compared with a second encoding.
pub fn poisoned(bytes: &[u8]) -> bool {
    let store = bytes.get(16..32).and_then(|store| store.try_into().ok());
    let layout = layout(&[("POISONED", bytes)]);
    match PoisonMarker::find(&layout, store.unwrap_or_default()) {
        Ok(PoisonMarkerState::Whole(marker)) => {
            assert!(marker.reason.len() <= 3 * bytes.len(), "of these bytes");
            true
        }
        Ok(PoisonMarkerState::Absent) => unreachable!("it was just written"),
        Ok(PoisonMarkerState::Unreadable) | Err(_) => false,
    }
}

/// Return the layout of a directory with these files.
fn layout(files: &[(&str, &[u8])]) -> Layout {
    let vfs = SimVfs::tracked(1);
    for (name, bytes) in files {
        let path = PathBuf::from("/").join(name);
        let created = vfs.open(&path, OpenMode::CreateNew).map(|_| ());
        assert!(
            created.is_ok() && vfs.write_outside(&path, bytes).is_ok(),
            "the file must be created"
        );
    }
    Layout::new(Arc::new(vfs), PathBuf::from("/"))
}
