//! The encoding of a commit, in two steps, and the sizes of the parts of a frame.
//!
//! [`Encoder`] runs in the caller's thread, without a lock, and does everything that doesn't depend
//! on the log: bodies, directories, the hash of the payload. [`FrameBytes::complete`] runs under
//! the write lock and fills in the fields that are known only there: versions, position, chain. The
//! duration of the second step doesn't depend on the size of the bodies.

use super::checksums::{Seed, chain, payload_hash};
use super::header::{ALIGN, HEADER, Header};
use crate::bytes::put;

// The lengths of the parts after the header. This file writes the fields of an entry at fixed
// offsets, and `decode` reads them at the same offsets.

/// The length of an entry of the streams directory in bytes.
pub(super) const STREAM: usize = 32;
/// The length of an entry of the events directory in bytes.
pub(crate) const EVENT: usize = 40;
/// The length of the trailer after the bodies: chain, length, magic number.
pub(super) const TRAILER: usize = 16;
pub(super) const TRAILER_MAGIC: u32 = u32::from_le_bytes(*b"EBT1");

/// The encoder's input for one event.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EncoderEvent<'a> {
    /// The number of its stream in the streams directory.
    pub(crate) stream: u32,
    /// The number of events of this commit that precede it in its stream.
    pub(crate) offset: u32,
    pub(crate) event_type: &'a str,
    pub(crate) event_id: [u8; 16],
    pub(crate) metadata: &'a [u8],
    pub(crate) data: &'a [u8],
}

/// Builds the bytes of a frame.
#[derive(Debug)]
pub(crate) struct Encoder {
    bytes: Vec<u8>,
    streams: u32,
    events: u32,
    key_length: u16,
    streams_length: usize,
    /// The offset of the next entry in the events directory.
    entry_at: usize,
    /// The offset of the first body.
    bodies_at: usize,
}

impl Encoder {
    /// Begin a frame. `streams` has the name and the number of events of each stream; `key` is the
    /// text of the idempotency key and the digest of its content. `events` is the number of events,
    /// and `bodies` the number of their bytes, that will be pushed.
    pub(crate) fn new(
        streams: &[(&str, u32)],
        key: Option<(&str, u128)>,
        events: usize,
        bodies: usize,
    ) -> Self {
        let names: usize = streams.iter().map(|(name, _)| name.len()).sum();
        let streams_length = (streams.len() * STREAM + names).next_multiple_of(ALIGN);
        let key_length = key.map_or(0, |(text, _)| text.len());
        let key_section = if key_length == 0 { 0 } else { key_length + 16 };
        let entry_at = HEADER + streams_length + key_section;
        let bodies_at = entry_at + events * EVENT;
        let unpadded = bodies_at + bodies;
        let mut bytes = Vec::with_capacity(unpadded.next_multiple_of(ALIGN) + TRAILER);
        bytes.resize(bodies_at, 0);
        let mut encoder = Self {
            bytes,
            streams: narrow(streams.len()),
            events: 0,
            key_length: u16::try_from(key_length).unwrap_or(u16::MAX),
            streams_length,
            entry_at,
            bodies_at,
        };
        encoder.directory(streams);
        if let Some((text, digest)) = key {
            let at = HEADER + streams_length;
            put(&mut encoder.bytes, at, text.as_bytes());
            put(&mut encoder.bytes, at + key_length, &digest.to_le_bytes());
        }
        encoder
    }

    fn directory(&mut self, streams: &[(&str, u32)]) {
        let names_at = HEADER + streams.len() * STREAM;
        let mut end = 0;
        for (i, (name, count)) in streams.iter().enumerate() {
            let at = HEADER + i * STREAM;
            put(&mut self.bytes, names_at + end, name.as_bytes());
            end += name.len();
            put(&mut self.bytes, at + 24, &count.to_le_bytes());
            put(&mut self.bytes, at + 28, &narrow(end).to_le_bytes());
        }
    }

    pub(crate) fn push(&mut self, event: &EncoderEvent<'_>) {
        let at = self.entry_at;
        let body_at = narrow(self.bytes.len() - self.bodies_at);
        let type_length = u16::try_from(event.event_type.len()).unwrap_or(u16::MAX);
        let mut entry = [0; EVENT];
        put(&mut entry, 0, &event.stream.to_le_bytes());
        put(&mut entry, 4, &event.offset.to_le_bytes());
        put(&mut entry, 8, &body_at.to_le_bytes());
        put(&mut entry, 12, &narrow(event.metadata.len()).to_le_bytes());
        put(&mut entry, 16, &narrow(event.data.len()).to_le_bytes());
        put(&mut entry, 20, &type_length.to_le_bytes());
        put(&mut entry, 24, &event.event_id);
        put(&mut self.bytes, at, &entry);
        self.entry_at += EVENT;
        self.events += 1;
        self.bytes.extend_from_slice(event.event_type.as_bytes());
        self.bytes.extend_from_slice(event.metadata);
        self.bytes.extend_from_slice(event.data);
    }

    pub(crate) fn finish(mut self) -> FrameBytes {
        let padded = self.bytes.len().next_multiple_of(ALIGN);
        self.bytes.resize(padded, 0);
        let payload_at = HEADER + self.streams_length;
        let payload_hash = payload_hash(self.bytes.get(payload_at..).unwrap_or_default());
        self.bytes.resize(padded + TRAILER, 0);
        FrameBytes {
            bytes: self.bytes,
            streams: self.streams,
            events: self.events,
            streams_length: self.streams_length,
            key_length: self.key_length,
            payload_hash,
            flags: 0,
        }
    }
}

/// Return a sync marker: a frame without events that only contains a durable hint.
pub(crate) fn sync_marker() -> FrameBytes {
    let mut frame = Encoder::new(&[], None, 0, 0).finish();
    frame.flags = Header::SYNC_MARKER;
    frame
}

impl Header {
    /// The flag of a sync marker, which the engine appends by itself.
    pub(crate) const SYNC_MARKER: u32 = 1;
}

/// The fields of a stream that are known only under the write lock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StreamHead {
    pub(crate) stream_hash: u128,
    /// The stream's version before the commit.
    pub(crate) base_version: u64,
}

/// The fields of a frame that are known only under the write lock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FrameFields {
    pub(crate) address: u64,
    pub(crate) first_position: u64,
    pub(crate) previous_chain: u64,
    pub(crate) durable_hint: u64,
    pub(crate) commit_time: u64,
    pub(crate) writer_epoch: u64,
}

/// The bytes of a frame, complete except for the fields that are known only under the write lock.
#[derive(Debug)]
pub(crate) struct FrameBytes {
    bytes: Vec<u8>,
    streams: u32,
    events: u32,
    streams_length: usize,
    key_length: u16,
    payload_hash: u64,
    flags: u32,
}

impl FrameBytes {
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn is_sync_marker(&self) -> bool {
        self.flags & Header::SYNC_MARKER != 0
    }

    /// Fill in the fields that are known under the write lock. Return the chain of this frame.
    pub(crate) fn complete(
        &mut self,
        heads: impl Iterator<Item = StreamHead>,
        s: &FrameFields,
        seed: Seed,
    ) -> u64 {
        for (i, head) in heads.enumerate() {
            let at = HEADER + i * STREAM;
            put(&mut self.bytes, at, &head.stream_hash.to_le_bytes());
            put(&mut self.bytes, at + 16, &head.base_version.to_le_bytes());
        }
        let length = self.bytes.len();
        let header = Header {
            length: narrow(length),
            flags: self.flags,
            events: self.events,
            streams: self.streams,
            streams_length: narrow(self.streams_length),
            key_length: self.key_length,
            first_position: s.first_position,
            previous_chain: s.previous_chain,
            durable_hint: s.durable_hint,
            commit_time: s.commit_time,
            payload_hash: self.payload_hash,
            writer_epoch: s.writer_epoch,
        };
        header.write(&mut self.bytes, seed, s.address);
        let chain = chain(&self.bytes, 0..HEADER + self.streams_length);
        put(&mut self.bytes, length - TRAILER, &chain.to_le_bytes());
        put(&mut self.bytes, length - 8, &narrow(length).to_le_bytes());
        put(&mut self.bytes, length - 4, &TRAILER_MAGIC.to_le_bytes());
        chain
    }
}

/// Convert a length, which the caller has compared with the limits of a commit.
fn narrow(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
