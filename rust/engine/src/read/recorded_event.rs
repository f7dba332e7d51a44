//! One event as a reader gets it.
//!
//! An event must keep alive its own bytes and not the log around them, because an application may
//! keep one event of each chunk for as long as it runs. So the event is copied out of its chunk,
//! unless the chunk contains little else.

use std::fmt;
use std::sync::Arc;

use crate::bytes::{array, put, u16_at, u32_at, u64_at};
use crate::chunk::LoadedChunk;
use crate::frame::{EventBytes, EventView, FrameView, StreamView};

/// A durable event. It owns its bytes, or shares the bytes of a chunk that contains little else.
#[derive(Clone)]
pub struct Recorded(Bytes);

#[derive(Clone)]
enum Bytes {
    Copied(Copied),
    Shared {
        chunk: Arc<LoadedChunk>,
        frame: u32,
        event: u32,
    },
}

/// A copied event in a single allocation: the numbers at the offsets below, then stream, type,
/// metadata and data. Reads create and drop such a copy for each event, so the copy is a single
/// pointer to move and a single block to free.
#[derive(Clone)]
struct Copied(Box<[u8]>);

const POSITION: usize = 0;
const VERSION: usize = 8;
const RECORDED_AT: usize = 16;
const EVENT_ID: usize = 24;
const METADATA_LENGTH: usize = 40;
const STREAM_LENGTH: usize = 44;
const TYPE_LENGTH: usize = 46;
const STREAM_AT: usize = 48;

/// An event shares its chunk instead of being copied if the chunk is at most this many times as
/// large as the event.
const SHARED_TIMES: usize = 2;

impl Recorded {
    /// Read an event from a chunk; `view` is the frame at the offset `frame`, which contains the
    /// event. `None` if the frame's directories contradict each other.
    pub(super) fn new(
        chunk: &Arc<LoadedChunk>,
        frame: u32,
        view: &FrameView<'_>,
        event: u32,
    ) -> Option<Self> {
        let bytes = view.event_bytes(event)?;
        let length = bytes.stream.len() + bytes.body.len();
        if length.saturating_mul(SHARED_TIMES) >= chunk.bytes().len() {
            return Some(Self(Bytes::Shared {
                chunk: Arc::clone(chunk),
                frame,
                event,
            }));
        }
        Some(Self(Bytes::Copied(Copied::new(view, event, &bytes)?)))
    }

    /// The number of bytes on the heap that the event keeps alive.
    pub fn bytes_held(&self) -> usize {
        match &self.0 {
            Bytes::Copied(copied) => copied.0.len(),
            Bytes::Shared { chunk, .. } => chunk.bytes().len(),
        }
    }

    /// The event's place in the global order.
    pub fn position(&self) -> u64 {
        match &self.0 {
            Bytes::Copied(copied) => copied.number(POSITION),
            Bytes::Shared { event, .. } => self
                .frame()
                .map_or(0, |f| f.header().first_position + u64::from(*event)),
        }
    }

    /// The version of its stream with this event: the number of events up to and including it.
    pub fn version(&self) -> u64 {
        match &self.0 {
            Bytes::Copied(copied) => copied.number(VERSION),
            Bytes::Shared { .. } => {
                let offset = self.view().map_or(0, |event| event.offset);
                self.stream_view()
                    .map_or(0, |s| s.base_version + 1 + u64::from(offset))
            }
        }
    }

    /// The name of the event's stream.
    pub fn stream(&self) -> &str {
        match &self.0 {
            Bytes::Copied(copied) => text(copied.part(STREAM_AT, copied.type_at())),
            Bytes::Shared { .. } => self.stream_view().map_or("", |stream| stream.name),
        }
    }

    /// The name of the event's type.
    pub fn event_type(&self) -> &str {
        match &self.0 {
            Bytes::Copied(copied) => text(copied.part(copied.type_at(), copied.metadata_at())),
            Bytes::Shared { .. } => self.view().map_or("", |event| event.event_type),
        }
    }

    /// The event's UUID, in network order.
    pub fn event_id(&self) -> [u8; 16] {
        match &self.0 {
            Bytes::Copied(copied) => array(&copied.0, EVENT_ID).unwrap_or_default(),
            Bytes::Shared { .. } => self.view().map_or([0; 16], |event| event.event_id),
        }
    }

    /// The time of the event's commit, in microseconds since the Unix epoch.
    pub fn recorded_at_micros(&self) -> u64 {
        match &self.0 {
            Bytes::Copied(copied) => copied.number(RECORDED_AT),
            Bytes::Shared { .. } => self.frame().map_or(0, |frame| frame.header().commit_time),
        }
    }

    /// The event's metadata, as appended.
    pub fn metadata(&self) -> &[u8] {
        match &self.0 {
            Bytes::Copied(copied) => copied.part(copied.metadata_at(), copied.data_at()),
            Bytes::Shared { .. } => self.view().map_or(&[], |event| event.metadata),
        }
    }

    /// The event's body, as appended.
    pub fn data(&self) -> &[u8] {
        match &self.0 {
            Bytes::Copied(copied) => copied.part(copied.data_at(), copied.0.len()),
            Bytes::Shared { .. } => self.view().map_or(&[], |event| event.data),
        }
    }

    fn frame(&self) -> Option<FrameView<'_>> {
        match &self.0 {
            Bytes::Copied(_) => None,
            Bytes::Shared { chunk, frame, .. } => chunk.frame_from(*frame),
        }
    }

    fn view(&self) -> Option<EventView<'_>> {
        match &self.0 {
            Bytes::Copied(_) => None,
            Bytes::Shared { event, .. } => self.frame()?.event(*event),
        }
    }

    fn stream_view(&self) -> Option<StreamView<'_>> {
        self.frame()?.stream(self.view()?.stream)
    }
}

impl Copied {
    fn new(view: &FrameView<'_>, event: u32, event_bytes: &EventBytes<'_>) -> Option<Self> {
        let mut numbers = [0; STREAM_AT];
        let position = view.header().first_position + u64::from(event);
        put(&mut numbers, POSITION, &position.to_le_bytes());
        put(&mut numbers, VERSION, &event_bytes.version.to_le_bytes());
        let recorded_at = view.header().commit_time;
        put(&mut numbers, RECORDED_AT, &recorded_at.to_le_bytes());
        put(&mut numbers, EVENT_ID, &event_bytes.event_id);
        let metadata_length = event_bytes.metadata_length.to_le_bytes();
        put(&mut numbers, METADATA_LENGTH, &metadata_length);
        let (stream, body) = (event_bytes.stream, event_bytes.body);
        let stream_length = u16::try_from(stream.len()).ok()?;
        put(&mut numbers, STREAM_LENGTH, &stream_length.to_le_bytes());
        let type_length = event_bytes.type_length.to_le_bytes();
        put(&mut numbers, TYPE_LENGTH, &type_length);
        let mut bytes = Vec::with_capacity(STREAM_AT + stream.len() + body.len());
        bytes.extend_from_slice(&numbers);
        bytes.extend_from_slice(stream);
        bytes.extend_from_slice(body);
        Some(Self(bytes.into_boxed_slice()))
    }

    fn number(&self, at: usize) -> u64 {
        u64_at(&self.0, at).unwrap_or_default()
    }

    fn length(&self, at: usize) -> usize {
        u16_at(&self.0, at).unwrap_or_default().into()
    }

    fn part(&self, begin: usize, end: usize) -> &[u8] {
        self.0.get(begin..end).unwrap_or_default()
    }

    fn type_at(&self) -> usize {
        STREAM_AT + self.length(STREAM_LENGTH)
    }

    fn metadata_at(&self) -> usize {
        self.type_at() + self.length(TYPE_LENGTH)
    }

    fn data_at(&self) -> usize {
        self.metadata_at() + u32_at(&self.0, METADATA_LENGTH).unwrap_or_default() as usize
    }
}

/// The text in these bytes, which were valid UTF-8 when the frame was verified.
fn text(bytes: &[u8]) -> &str {
    str::from_utf8(bytes).unwrap_or_default()
}

/// The number of bytes that an event adds to a read batch: all bytes that it keeps alive.
pub(super) fn batch_bytes(recorded: &Recorded) -> usize {
    size_of::<Recorded>() + recorded.bytes_held()
}

impl fmt::Debug for Recorded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorded")
            .field("position", &self.position())
            .field("stream", &self.stream())
            .field("version", &self.version())
            .field("event_type", &self.event_type())
            .finish_non_exhaustive()
    }
}
