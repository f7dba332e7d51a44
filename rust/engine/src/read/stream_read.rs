//! Reads by stream.

use super::chunk_reader::Picker;
use super::query::{Page, Snapshot, SnapshotQuery, StreamQuery};
use super::recorded_event::{Recorded, page_bytes};
use crate::error::{Error, Result};
use crate::index::{Chunk, Index};
use crate::live::{LiveLog, Loader};
use crate::names;
use crate::options::ReadMode;

/// Events that an inline snapshot may hold, and about how many bytes: more would keep an event
/// loop from its work.
const EVENTS_INLINE: usize = 2_048;
const BYTES_INLINE: usize = 1 << 20;

/// Events to fetch: each with the chunk that holds it.
pub(super) type Places = Vec<(u64, Chunk)>;

impl LiveLog {
    /// A page of one stream.
    pub(crate) fn read_stream(&self, query: &StreamQuery<'_>) -> Result<Page> {
        names::check_stream(query.stream)?;
        let key = self.hasher.stream(query.stream);
        let limit = query.limit as u64;
        let (at, first, last, places) = {
            let index = self.index.read();
            let at = query.at.map_or(index.head(), |at| at.min(index.head()));
            let newest = query
                .before
                .map_or(u64::MAX, |before| before.saturating_sub(1));
            let newest = newest.min(index.version_at(key, at));
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
                index.positions(key, first, last, &mut positions);
            }
            if query.backward {
                positions.reverse();
            }
            (at, first, last, places(&*index, &positions))
        };
        let wanted = places.len();
        let events = self.fetch(&places, query.max_bytes, query.mode)?;
        let count = events.len() as u64;
        let (next, bounded) = if query.backward {
            (
                (last + 1).saturating_sub(count),
                first > query.after.saturating_add(1),
            )
        } else {
            (query.after.saturating_add(count), {
                let version = self.index.read().version_at(key, at);
                version.min(query.before.map_or(u64::MAX, |b| b.saturating_sub(1))) > last
            })
        };
        Ok(Page {
            more: count > 0 && (bounded || events.len() < wanted),
            events,
            next,
            at,
        })
    }

    /// Several streams as of one position.
    pub(crate) fn read_streams(&self, query: &SnapshotQuery<'_>) -> Result<Snapshot> {
        for (stream, _) in query.streams {
            names::check_stream(stream)?;
        }
        let keys: Vec<_> = query
            .streams
            .iter()
            .map(|(name, after)| (self.hasher.stream(name), *after))
            .collect();
        let (position, versions, places) = {
            let index = self.index.read();
            let position = query.at.map_or(index.head(), |at| at.min(index.head()));
            let mut positions = Vec::new();
            let mut versions = Vec::with_capacity(keys.len());
            for (key, after) in keys {
                let version = index.version_at(key, position);
                index.positions(key, after.saturating_add(1), version, &mut positions);
                versions.push(version);
            }
            if query.mode == ReadMode::NonBlocking && positions.len() > EVENTS_INLINE {
                return Err(Error::WouldBlock);
            }
            positions.sort_unstable();
            positions.dedup();
            (position, versions, places(&*index, &positions))
        };
        let max_bytes = match query.mode {
            ReadMode::Blocking => usize::MAX,
            ReadMode::NonBlocking => BYTES_INLINE,
        };
        let wanted = places.len();
        let events = self.fetch(&places, max_bytes, query.mode)?;
        if events.len() < wanted {
            return Err(Error::WouldBlock);
        }
        Ok(Snapshot {
            position,
            versions,
            events,
        })
    }

    /// Loads events, about as many as `max_bytes` allow, and at least one.
    pub(super) fn fetch(
        &self,
        places: &Places,
        max_bytes: usize,
        mode: ReadMode,
    ) -> Result<Vec<Recorded>> {
        let mut events = Vec::with_capacity(places.len());
        let mut bytes = 0;
        let mut chunks = Loader::new(self, mode);
        for neighbours in places.chunk_by(|one, next| one.1.address == next.1.address) {
            let Some((_, chunk)) = neighbours.first() else {
                break;
            };
            let mut picker = Picker::new(chunks.chunk(*chunk)?);
            for (position, chunk) in neighbours {
                let found = picker.event(*position);
                let recorded = found.ok_or_else(|| self.lost(*position, *chunk))?;
                bytes += page_bytes(&recorded);
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
    /// The index names an event that its chunk does not hold.
    pub(super) fn lost(&self, position: u64, chunk: Chunk) -> Error {
        let Some(segment) = self.segments.of_address(chunk.address) else {
            return Error::Closed;
        };
        let reason = format!("the event at position {position} is not where it was");
        Error::corrupt(&segment.path, segment.offset(chunk.address), reason)
    }
}

pub(super) fn places(index: &dyn Index, positions: &[u64]) -> Places {
    let chunks = index.chunks();
    positions
        .iter()
        .filter_map(|position| {
            let chunk = chunks.get(chunks.of_position(*position)?)?;
            Some((*position, chunk))
        })
        .collect()
}
