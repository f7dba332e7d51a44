//! The decoding of a frame. No length is used before it has been checked.

use std::str;

use super::checksums::{Seed, chain, payload_hash};
use super::encode::{EVENT, STREAM, TRAILER, TRAILER_MAGIC};
use super::header::{ALIGN, HEADER, Header};
use crate::append::Appended;
use crate::bytes::{array, u16_at, u32_at, u64_at, u128_at};

/// What the header of a frame is validated against: the secret of the store, and the address from
/// which the frame was read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FrameOrigin {
    pub(crate) seed: Seed,
    pub(crate) address: u64,
}

/// A valid frame, borrowed from its bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FrameView<'a> {
    bytes: &'a [u8],
    header: Header,
}

/// One entry of the streams directory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StreamView<'a> {
    pub(crate) base_version: u64,
    pub(crate) count: u32,
    pub(crate) name: &'a str,
}

/// The bytes of one event, for a reader that copies them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EventBytes<'a> {
    pub(crate) version: u64,
    pub(crate) event_id: [u8; 16],
    pub(crate) stream: &'a [u8],
    /// Type, metadata and data, in this order.
    pub(crate) body: &'a [u8],
    pub(crate) type_length: u16,
    pub(crate) metadata_length: u32,
}

/// One event.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EventView<'a> {
    /// The number of its stream in the streams directory.
    pub(crate) stream: u32,
    /// The number of events of this commit that precede it in its stream.
    pub(crate) offset: u32,
    pub(crate) event_type: &'a str,
    pub(crate) event_id: [u8; 16],
    pub(crate) metadata: &'a [u8],
    pub(crate) data: &'a [u8],
}

impl<'a> FrameView<'a> {
    /// Return the result for an append that repeats this frame's append with the same idempotency
    /// key.
    pub(crate) fn replayed(&self) -> Appended {
        let header = self.header();
        let has_events = header.events > 0;
        let version = |stream: StreamView<'_>| {
            (
                stream.name.into(),
                stream.base_version + u64::from(stream.count),
            )
        };
        Appended {
            first_position: has_events.then_some(header.first_position),
            last_position: has_events.then(|| header.next_position() - 1),
            versions: self.streams().map(version).collect(),
            replayed: true,
        }
    }

    /// Validate the frame at the beginning of `bytes`: header, payload, chain and every directory
    /// entry. The error is the reason why it is invalid.
    pub(crate) fn check(bytes: &'a [u8], origin: FrameOrigin) -> Result<Self, &'static str> {
        let header = Header::read(bytes, origin.seed, origin.address).ok_or("no frame header")?;
        Self::check_after(header, bytes)
    }

    /// Validate a frame whose header is already validated, as [`FrameView::check`] does.
    pub(crate) fn check_after(header: Header, bytes: &'a [u8]) -> Result<Self, &'static str> {
        let bytes = bytes
            .get(..header.length as usize)
            .ok_or("the frame is cut short")?;
        let frame = Self { bytes, header };
        frame.check_body()?;
        Ok(frame)
    }

    /// Return the view of a frame that was validated before.
    pub(crate) fn trusted(bytes: &'a [u8]) -> Option<Self> {
        let header = Header::decode(bytes)?;
        Some(Self {
            bytes: bytes.get(..header.length as usize)?,
            header,
        })
    }

    fn check_body(&self) -> Result<(), &'static str> {
        let payload_at = HEADER + self.header.streams_length as usize;
        let end = self
            .bytes
            .len()
            .checked_sub(TRAILER)
            .ok_or("the frame has no trailer")?;
        let payload = self
            .bytes
            .get(payload_at..end)
            .ok_or("the directories exceed the frame")?;
        let length = u32_at(self.bytes, end + 8);
        let magic = u32_at(self.bytes, end + 12);
        if length != Some(self.header.length) || magic != Some(TRAILER_MAGIC) {
            return Err("the trailer is not the frame's own");
        }
        if payload_hash(payload) != self.header.payload_hash {
            return Err("the payload's hash does not match");
        }
        if chain(self.bytes, 0..payload_at) != self.chain() {
            return Err("the chain does not match the frame's own header");
        }
        self.check_directories()
            .ok_or("the directories contradict each other")
    }

    /// Validate the entries of the directories. A frame with a valid hash has valid entries unless
    /// a faulty writer produced it. This check ensures that later reads can't panic even then, and
    /// that all of them return the same events with the same versions.
    fn check_directories(&self) -> Option<()> {
        for i in 0..self.header.streams {
            self.stream(i)?;
        }
        if self.header.key_length > 0 {
            self.key()?;
        }
        self.check_events()
    }

    /// Check that the events of each stream are numbered from 0 without a gap, that there are as many
    /// as the streams directory counts, and that this directory is in the order of the streams' first
    /// events. The index relies on that order: it records the first events of the streams of a
    /// category with ascending positions.
    fn check_events(&self) -> Option<()> {
        let mut begun = 0;
        let (mut one, mut several) = ([0], Vec::new());
        let reached: &mut [u32] = if self.header.streams == 1 {
            &mut one
        } else {
            several.resize(self.header.streams as usize, 0);
            &mut several
        };
        for i in 0..self.header.events {
            let event = self.event(i)?;
            let offset = reached.get_mut(event.stream as usize)?;
            (event.offset == *offset).then_some(())?;
            if *offset == 0 {
                (event.stream == begun).then_some(())?;
                begun += 1;
            }
            *offset += 1;
        }
        let counts = self.heads().map(|(_, _, count)| count);
        counts.eq(reached.iter().copied()).then_some(())
    }

    pub(crate) fn header(&self) -> &Header {
        &self.header
    }

    /// Whether the frame is a sync marker.
    pub(crate) fn is_sync_marker(&self) -> bool {
        self.header.flags & Header::SYNC_MARKER != 0
    }

    pub(crate) fn chain(&self) -> u64 {
        u64_at(self.bytes, self.bytes.len().saturating_sub(TRAILER)).unwrap_or_default()
    }

    pub(crate) fn stream(&self, i: u32) -> Option<StreamView<'a>> {
        let at = HEADER + i as usize * STREAM;
        Some(StreamView {
            base_version: u64_at(self.bytes, at + 16)?,
            count: u32_at(self.bytes, at + 24)?,
            name: str::from_utf8(self.stream_name(i)?).ok()?,
        })
    }

    fn stream_name(&self, i: u32) -> Option<&'a [u8]> {
        let at = HEADER + i as usize * STREAM;
        let names_at = HEADER + self.header.streams as usize * STREAM;
        let from = if i == 0 {
            0
        } else {
            u32_at(self.bytes, at - STREAM + 28)? as usize
        };
        let to = u32_at(self.bytes, at + 28)? as usize;
        self.bytes.get(names_at + from..names_at + to)
    }

    pub(crate) fn streams(&self) -> impl Iterator<Item = StreamView<'a>> {
        let frame = *self;
        (0..self.header.streams).filter_map(move |i| frame.stream(i))
    }

    /// The streams without their names: each stream's hash, its version before the frame, and its
    /// number of events.
    pub(crate) fn heads(&self) -> impl Iterator<Item = (u128, u64, u32)> {
        let bytes = self.bytes;
        (0..self.header.streams as usize).filter_map(move |i| {
            let at = HEADER + i * STREAM;
            let stream_hash = u128_at(bytes, at)?;
            let (base_version, count) = (u64_at(bytes, at + 16)?, u32_at(bytes, at + 24)?);
            Some((stream_hash, base_version, count))
        })
    }

    fn key_at(&self) -> usize {
        HEADER + self.header.streams_length as usize
    }

    /// The idempotency key, and the digest of the content that the key identifies.
    pub(crate) fn key(&self) -> Option<(&'a str, u128)> {
        let length = self.header.key_length as usize;
        if length == 0 {
            return None;
        }
        let text = self.bytes.get(self.key_at()..self.key_at() + length)?;
        Some((
            str::from_utf8(text).ok()?,
            u128_at(self.bytes, self.key_at() + length)?,
        ))
    }

    fn entries_at(&self) -> usize {
        let key = self.header.key_length as usize;
        self.key_at() + if key == 0 { 0 } else { key + 16 }
    }

    /// The number of the stream of event `i`.
    pub(crate) fn event_stream(&self, i: u32) -> Option<u32> {
        u32_at(self.bytes, self.entries_at() + i as usize * EVENT)
    }

    /// Event `i` as [`FrameView::event`] returns it, without a check that its texts are UTF-8.
    pub(crate) fn event_bytes(&self, i: u32) -> Option<EventBytes<'a>> {
        if i >= self.header.events {
            return None;
        }
        let entries_at = self.entries_at();
        let at = entries_at + i as usize * EVENT;
        let entry: &[u8; EVENT] = self.bytes.get(at..at + EVENT)?.try_into().ok()?;
        let stream = u32_at(entry, 0)?;
        let type_length = u16_at(entry, 20)?;
        let metadata_length = u32_at(entry, 12)?;
        let bodies_at = entries_at + self.header.events as usize * EVENT;
        let begin = bodies_at.checked_add(u32_at(entry, 8)? as usize)?;
        let length =
            usize::from(type_length) + metadata_length as usize + u32_at(entry, 16)? as usize;
        let end = begin + length;
        if end > self.bytes.len().checked_sub(TRAILER)? {
            return None;
        }
        let base = u64_at(self.bytes, HEADER + stream as usize * STREAM + 16)?;
        Some(EventBytes {
            version: base + 1 + u64::from(u32_at(entry, 4)?),
            event_id: array(entry, 24)?,
            stream: self.stream_name(stream)?,
            body: self.bytes.get(begin..end)?,
            type_length,
            metadata_length,
        })
    }

    pub(crate) fn event(&self, i: u32) -> Option<EventView<'a>> {
        if i >= self.header.events {
            return None;
        }
        let at = self.entries_at() + i as usize * EVENT;
        let bodies_at = self.entries_at() + self.header.events as usize * EVENT;
        let type_at = bodies_at.checked_add(u32_at(self.bytes, at + 8)? as usize)?;
        let metadata_at = type_at + u16_at(self.bytes, at + 20)? as usize;
        let data_at = metadata_at + u32_at(self.bytes, at + 12)? as usize;
        let end = data_at + u32_at(self.bytes, at + 16)? as usize;
        if end > self.bytes.len().checked_sub(TRAILER)? {
            return None;
        }
        Some(EventView {
            stream: u32_at(self.bytes, at)?,
            offset: u32_at(self.bytes, at + 4)?,
            event_type: str::from_utf8(self.bytes.get(type_at..metadata_at)?).ok()?,
            event_id: array(self.bytes, at + 24)?,
            metadata: self.bytes.get(metadata_at..data_at)?,
            data: self.bytes.get(data_at..end)?,
        })
    }
}

const _: () = assert!(HEADER.is_multiple_of(ALIGN) && STREAM.is_multiple_of(ALIGN));
const _: () = assert!(TRAILER.is_multiple_of(ALIGN));
