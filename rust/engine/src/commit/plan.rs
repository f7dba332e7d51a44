//! A batch of frames before it is written.

use std::io::{self, IoSlice};

use super::answer::Answer;
use super::prepare::Prepared;
use super::request::Request;
use super::validate::{BaseVersions, UnsyncedState};
use super::written_log::{Tail, WrittenFrame};
use crate::append::Appended;
use crate::error::Error;
use crate::frame::{FrameFields, Seed, StreamHead};
use crate::index::{FrameEntry, StreamEntry};
use crate::log::fill_zeros;
use crate::vfs::{VfsFile as _, read_full};

/// The header fields that all frames of a batch share.
#[derive(Clone, Copy, Debug)]
pub(super) struct SharedFields {
    pub(super) seed: Seed,
    pub(super) durable_hint: u64,
    pub(super) commit_time: u64,
    pub(super) epoch: u64,
}

/// A batch in preparation: its appends are validated and their frames are completed. All changes
/// stay in this value until the write of the batch has succeeded.
pub(super) struct PlannedBatch {
    stamp: SharedFields,
    /// The tail of the log before the batch, where its first frame is written.
    pub(super) begin: Tail,
    /// The end of the batch, where the next batch will start.
    pub(super) tail: Tail,
    pub(super) unsynced_state: UnsyncedState,
    pub(super) entries: Vec<WrittenFrame>,
    pub(super) answers: Vec<(Request, Answer)>,
    pub(super) events: u64,
    /// Number of commits: all frames of the batch except sync markers.
    pub(super) commits: u64,
    pub(super) ends_in_marker: bool,
}

impl PlannedBatch {
    /// Begin a batch for at most `requests` appends. Its lists get exactly that capacity.
    /// Otherwise a list would begin with space for four elements. A block of that size does not come
    /// from the allocator's per-thread cache, so its allocation is slow: for one append, it takes
    /// 360 of the commit's 11,500 instructions.
    // Inline: the caller may be in another codegen unit, and this runs for each batch or append.
    #[inline]
    pub(super) fn new(tail: &Tail, stamp: SharedFields, requests: usize) -> Self {
        Self {
            stamp,
            begin: tail.clone(),
            tail: tail.clone(),
            unsynced_state: UnsyncedState::default(),
            entries: Vec::with_capacity(requests),
            answers: Vec::with_capacity(requests),
            events: 0,
            commits: 0,
            ends_in_marker: false,
        }
    }

    pub(super) fn commit_time(&self) -> u64 {
        self.stamp.commit_time
    }

    /// Move an empty batch to `tail`, which is in another segment.
    pub(super) fn restart(&mut self, tail: &Tail) {
        (self.begin, self.tail) = (tail.clone(), tail.clone());
    }

    /// Complete the frame of an append and add the frame to the end of the batch.
    // Inline: the caller may be in another codegen unit, and this runs for each batch or append.
    #[inline]
    pub(super) fn add(&mut self, prepared: &mut Prepared, base: &BaseVersions) -> Appended {
        let address = self.tail.address;
        let first_position = self.tail.next_position;
        let heads = prepared
            .streams
            .iter()
            .zip(&base.streams)
            .map(|(stream, base)| StreamHead {
                stream_hash: stream.hash,
                base_version: *base,
            });
        let fields = FrameFields {
            address,
            first_position,
            previous_chain: self.tail.chain,
            durable_hint: self.stamp.durable_hint,
            commit_time: self.stamp.commit_time,
            writer_epoch: self.stamp.epoch,
        };
        self.tail.chain = prepared.frame.complete(heads, &fields, self.stamp.seed);
        self.tail.address += prepared.frame.len() as u64;
        self.tail.next_position += prepared.events;
        self.events += prepared.events;
        self.commits += u64::from(!prepared.is_sync_marker());
        // A sync marker whose durable hint is below its own address does not cover the frames
        // between the hint and the marker.
        self.ends_in_marker = prepared.is_sync_marker() && self.stamp.durable_hint == address;
        let appended = appended(prepared, &base.streams, first_position);
        self.unsynced_state
            .note(prepared, &base.created, &appended, self.tail.address);
        self.entries.push(WrittenFrame {
            entry: entry(prepared, base, address, first_position),
            chain: self.tail.chain,
        });
        appended
    }

    /// Write all frames of the batch with one call. An error contains the number of bytes that were
    /// written before it.
    pub(super) fn write(&self) -> Result<(), (io::Error, usize)> {
        let frames: Vec<_> = self
            .answers
            .iter()
            .filter(|(_, answer)| matches!(answer, Answer::Written(_)))
            .map(|(request, _)| IoSlice::new(request.prepared.frame.bytes()))
            .collect();
        self.begin.segment.write(&frames, self.begin.address)
    }

    /// Zero the first `bytes` bytes of a batch whose write failed. These bytes may contain whole
    /// frames.
    pub(super) fn zero_written(&self, bytes: u64) -> io::Result<()> {
        let segment = &self.begin.segment;
        let from = segment.offset(self.begin.address);
        let to = (from + bytes).min(segment.file.size()?);
        fill_zeros(&segment.file, from, to)
    }

    /// Whether the file contains only zeros from byte `bytes` of the batch to the end of the batch.
    pub(super) fn is_zero_after(&self, bytes: u64) -> io::Result<bool> {
        let segment = &self.begin.segment;
        let mut at = segment.offset(self.begin.address) + bytes;
        let to = segment.offset(self.tail.address);
        let mut buffer = vec![0; 64 << 10];
        while at < to {
            let wanted = usize::try_from(to - at).map_or(buffer.len(), |n| n.min(buffer.len()));
            let piece = buffer.get_mut(..wanted).unwrap_or_default();
            let n = read_full(&segment.file, piece, at)?;
            if piece.iter().take(n).any(|byte| *byte != 0) {
                return Ok(false);
            }
            if n < wanted {
                break;
            }
            at += n as u64;
        }
        Ok(true)
    }

    /// The size of the batch in bytes.
    pub(super) fn length(&self) -> u64 {
        self.tail.address - self.begin.address
    }

    /// Split the batch after a failed write. Return the appends that had frames, refused with
    /// `error`, and the other requests. The other requests have to be validated again, because
    /// their decisions may depend on frames that were not written. The caller holds the write lock,
    /// so no append can build on one of these frames before it is refused.
    pub(super) fn refuse(self, error: &Error) -> (Vec<(Request, Answer)>, Vec<Request>) {
        let (written, others): (Vec<_>, Vec<_>) = self
            .answers
            .into_iter()
            .partition(|(_, answer)| matches!(answer, Answer::Written(_)));
        let refuse = |(request, _): (Request, Answer)| {
            if let Some(pending) = &request.prepared.pending {
                pending.refuse();
            }
            (request, Answer::Unwritten(Err(error.clone())))
        };
        (
            written.into_iter().map(refuse).collect(),
            others.into_iter().map(|(request, _)| request).collect(),
        )
    }
}

fn appended(prepared: &Prepared, base_versions: &[u64], first_position: u64) -> Appended {
    let has_events = prepared.events > 0;
    let versions = prepared
        .written()
        .iter()
        .zip(base_versions)
        .map(|(stream, base)| (stream.name.clone(), base + u64::from(stream.count)));
    Appended {
        first_position: has_events.then_some(first_position),
        last_position: has_events.then(|| first_position + prepared.events - 1),
        versions: versions.collect(),
        replayed: false,
    }
}

fn entry(
    prepared: &mut Prepared,
    base: &BaseVersions,
    address: u64,
    first_position: u64,
) -> FrameEntry {
    let streams = prepared
        .written()
        .iter()
        .zip(&base.streams)
        .map(|(stream, base)| StreamEntry {
            stream_hash: stream.hash,
            base_version: *base,
            count: stream.count,
        });
    FrameEntry {
        address,
        length: prepared.frame.len() as u64,
        first_position,
        streams: streams.collect(),
        created_categories: base
            .created
            .iter()
            .map(|created| created.category)
            .collect(),
        key_hash: prepared.key.as_ref().map(|key| key.hash),
        ordinals: std::mem::take(&mut prepared.ordinals),
    }
}
