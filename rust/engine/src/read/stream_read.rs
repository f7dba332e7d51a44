//! Reads of one stream, and of several streams as of one position.

use super::chunk_reader::ChunkReader;
use super::query::{ReadBatch, Snapshot, SnapshotQuery, StreamQuery};
use super::recorded_event::{Recorded, batch_bytes};
use crate::error::{Error, Result};
use crate::index::{Chunk, Index};
use crate::live::{LiveLog, Loader};
use crate::names;
use crate::options::ReadMode;

/// The maximum number of events that a non-blocking snapshot returns. More would delay the event
/// loop.
const NON_BLOCKING_EVENTS: usize = 2_048;
/// The approximate maximum number of bytes of these events.
const NON_BLOCKING_BYTES: usize = 1 << 20;

/// The positions of events to fetch, each with the chunk that contains it.
pub(super) type Locations = Vec<(u64, Chunk)>;

impl LiveLog {
    /// Read a batch of one stream.
    pub(crate) fn read_stream(&self, query: &StreamQuery<'_>) -> Result<ReadBatch> {
        names::check_stream(query.stream)?;
        let stream_hash = self.hasher.stream(query.stream);
        let limit = query.limit as u64;
        let (at, first, last, locations) = {
            let index = self.index.read();
            let at = query.at.map_or(index.head(), |at| at.min(index.head()));
            let newest = query
                .before
                .map_or(u64::MAX, |before| before.saturating_sub(1));
            let newest = newest.min(index.version_at(stream_hash, at));
            let oldest = query.after.saturating_add(1);
            let (first, last) = if query.backward {
                (
                    oldest.max(newest.saturating_sub(limit.saturating_sub(1))),
                    newest,
                )
            } else {
                (
                    oldest,
                    newest.min(oldest.saturating_add(limit.saturating_sub(1))),
                )
            };
            let mut positions = Vec::new();
            if limit > 0 {
                index.positions(stream_hash, first, last, &mut positions);
            }
            if query.backward {
                positions.reverse();
            }
            (at, first, last, locate(&*index, &positions))
        };
        let wanted = locations.len();
        let events = self.fetch(&locations, query.max_bytes, query.mode)?;
        let count = events.len() as u64;
        let (next, bounded) = if query.backward {
            (
                (last + 1).saturating_sub(count),
                first > query.after.saturating_add(1),
            )
        } else {
            (query.after.saturating_add(count), {
                let version = self.index.read().version_at(stream_hash, at);
                version.min(query.before.map_or(u64::MAX, |b| b.saturating_sub(1))) > last
            })
        };
        Ok(ReadBatch {
            more: count > 0 && (bounded || events.len() < wanted),
            events,
            next,
            at,
        })
    }

    /// Read several streams as of one position.
    pub(crate) fn read_streams(&self, query: &SnapshotQuery<'_>) -> Result<Snapshot> {
        for (stream, _) in query.streams {
            names::check_stream(stream)?;
        }
        let stream_hashes: Vec<_> = query
            .streams
            .iter()
            .map(|(name, after)| (self.hasher.stream(name), *after))
            .collect();
        let (position, versions, locations) = {
            let index = self.index.read();
            let position = query.at.map_or(index.head(), |at| at.min(index.head()));
            let mut positions = Vec::new();
            let mut versions = Vec::with_capacity(stream_hashes.len());
            for (stream_hash, after) in stream_hashes {
                let version = index.version_at(stream_hash, position);
                let first = after.saturating_add(1);
                // Without this limit, each page of a long stream would list all events of the rest.
                let left = query.limit.saturating_sub(positions.len()) as u64;
                if left > 0 {
                    let last = version.min(first.saturating_add(left - 1));
                    index.positions(stream_hash, first, last, &mut positions);
                }
                versions.push(version);
            }
            if query.mode == ReadMode::NonBlocking && positions.len() > NON_BLOCKING_EVENTS {
                return Err(Error::WouldBlock);
            }
            positions.sort_unstable();
            positions.dedup();
            (position, versions, locate(&*index, &positions))
        };
        // Of the limit of bytes and the maximum of a non-blocking read, the smaller one counts. If
        // the events exceed the maximum, nothing is returned, because the limit allows more.
        let exceeds = query.mode == ReadMode::NonBlocking && query.max_bytes > NON_BLOCKING_BYTES;
        let max_bytes = if exceeds {
            NON_BLOCKING_BYTES
        } else {
            query.max_bytes
        };
        let wanted = locations.len();
        let events = self.fetch(&locations, max_bytes, query.mode)?;
        if exceeds && events.len() < wanted {
            return Err(Error::WouldBlock);
        }
        Ok(Snapshot {
            position,
            versions,
            events,
        })
    }

    /// Load events up to about `max_bytes`, and at least one.
    pub(super) fn fetch(
        &self,
        locations: &Locations,
        max_bytes: usize,
        mode: ReadMode,
    ) -> Result<Vec<Recorded>> {
        let mut events = Vec::with_capacity(locations.len());
        let mut bytes = 0;
        let mut chunks = Loader::new(self, mode);
        for in_one_chunk in locations.chunk_by(|one, next| one.1.address == next.1.address) {
            let Some((_, chunk)) = in_one_chunk.first() else {
                break;
            };
            let mut reader = ChunkReader::new(chunks.chunk(*chunk)?);
            for (position, chunk) in in_one_chunk {
                let event = reader.event(*position);
                let recorded = event.ok_or_else(|| self.missing_event(*position, *chunk))?;
                bytes += batch_bytes(&recorded);
                if bytes > max_bytes && !events.is_empty() {
                    return Ok(events);
                }
                events.push(recorded);
            }
        }
        Ok(events)
    }
}

impl LiveLog {
    /// The error for an event that is missing in the chunk to which the index assigns it.
    pub(super) fn missing_event(&self, position: u64, chunk: Chunk) -> Error {
        let Some(segment) = self.segments.of_address(chunk.address) else {
            return Error::Closed;
        };
        let reason = format!("the event at position {position} is missing");
        Error::corrupt(&segment.path, segment.offset(chunk.address), reason)
    }
}

/// Look up the chunks of events.
pub(super) fn locate(index: &dyn Index, positions: &[u64]) -> Locations {
    let chunks = index.chunks();
    positions
        .iter()
        .filter_map(|position| {
            let chunk = chunks.get(chunks.of_position(*position)?)?;
            Some((*position, chunk))
        })
        .collect()
}
