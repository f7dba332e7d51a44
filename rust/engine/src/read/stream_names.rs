//! The listing of streams: the names of all streams as of one moment, sorted.
//!
//! The index contains only hashes of names, so a listing reads the first event of each stream, in
//! the order of the log. The chunks are not added to the cache, because they would evict the chunks
//! that readers of events use. The names are sorted after all have been read. The work is done in
//! slices, so that a caller can be interrupted between two slices.

use std::fmt;
use std::sync::Arc;

use crate::chunk::LoadedChunk;
use crate::error::{Error, Result};
use crate::index::{Chunk, Index};
use crate::live::LiveLog;
use crate::names::is_system;
use crate::options::ReadMode;

/// The approximate number of bytes of log that a slice loads.
const SLICE_BYTES: u64 = 8 << 20;
/// The maximum number of streams that a slice reads.
const SLICE_STREAMS: usize = 1 << 16;
/// The number of bits of a span that contain the name's length: no name has more than 255 bytes.
const LENGTH_BITS: u32 = 8;

/// A listing of streams: gathered by [`crate::Store::gather`], and then returned in parts.
#[derive(Clone)]
pub struct StreamNames {
    prefix: Box<str>,
    system: bool,
    /// The number of streams whose names have been read, in the order of their first events.
    gathered: u64,
    /// The number of streams when the listing began.
    total: u64,
    /// All names, one after another.
    text: String,
    /// For each name its offset in `text` and its length, in one number.
    spans: Vec<u64>,
    is_sorted: bool,
    /// The number of names that have been returned.
    returned: usize,
}

impl StreamNames {
    /// Return the next names, at most `limit`, in ascending order of their bytes. Return none after
    /// the last name, and none until all names have been gathered.
    pub fn page(&mut self, limit: usize) -> Vec<&str> {
        if !self.is_sorted {
            return Vec::new();
        }
        let begin = self.returned;
        let end = begin.saturating_add(limit).min(self.spans.len());
        self.returned = end;
        let spans = self.spans.get(begin..end).unwrap_or_default();
        spans.iter().map(|span| name(&self.text, *span)).collect()
    }

    fn add(&mut self, name: &str) {
        if name.starts_with(&*self.prefix) && (self.system || !is_system(name)) {
            let span = (self.text.len() as u64) << LENGTH_BITS | name.len() as u64;
            self.spans.push(span);
            self.text.push_str(name);
        }
    }

    fn sort(&mut self) {
        let text = &self.text;
        self.spans
            .sort_unstable_by(|a, b| name(text, *a).cmp(name(text, *b)));
        self.is_sorted = true;
    }
}

impl fmt::Debug for StreamNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamNames")
            .field("prefix", &self.prefix)
            .field("gathered", &self.gathered)
            .field("total", &self.total)
            .field("names", &self.spans.len())
            .field("returned", &self.returned)
            .finish_non_exhaustive()
    }
}

fn name(text: &str, span: u64) -> &str {
    let begin = usize::try_from(span >> LENGTH_BITS).unwrap_or(usize::MAX);
    let length = usize::from(span.to_le_bytes()[0]);
    text.get(begin..begin + length).unwrap_or_default()
}

impl LiveLog {
    /// Begin a listing of the streams that exist now.
    pub(crate) fn stream_names(&self, prefix: &str, system: bool) -> StreamNames {
        StreamNames {
            prefix: prefix.into(),
            system,
            gathered: 0,
            total: self.index.read().streams(),
            text: String::new(),
            spans: Vec::new(),
            is_sorted: false,
            returned: 0,
        }
    }

    /// Gather another slice. Return whether all names have been gathered.
    pub(crate) fn gather(&self, names: &mut StreamNames) -> Result<bool> {
        if names.is_sorted {
            return Ok(true);
        }
        if names.gathered == names.total {
            names.sort();
            return Ok(true);
        }
        let mut current = None;
        let mut loaded_bytes = 0;
        for (position, chunk) in self.first_events(names)? {
            if loaded_bytes > SLICE_BYTES {
                break;
            }
            loaded_bytes += self.load_into(&mut current, chunk)?;
            let first = current
                .as_ref()
                .and_then(|(_, loaded)| loaded.stream_of(position));
            names.add(first.ok_or_else(|| self.missing_event(position, chunk))?);
            names.gathered += 1;
        }
        Ok(false)
    }

    /// Return the positions of the first events of the next streams, with their chunks.
    fn first_events(&self, names: &StreamNames) -> Result<Vec<(u64, Chunk)>> {
        let left = usize::try_from(names.total - names.gathered).unwrap_or(usize::MAX);
        let mut positions = Vec::new();
        let index = self.index.read();
        index.first_positions(names.gathered, left.min(SLICE_STREAMS), &mut positions);
        let chunks = index.chunks();
        let locate = |position: u64| Some((position, chunks.get(chunks.of_position(position)?)?));
        let located = positions.into_iter().map(locate);
        located.collect::<Option<_>>().ok_or(Error::Closed)
    }

    /// Load a chunk into `current`, unless it is there already. Return the number of bytes loaded.
    fn load_into(
        &self,
        current: &mut Option<(u64, Arc<LoadedChunk>)>,
        chunk: Chunk,
    ) -> Result<u64> {
        if current.as_ref().is_some_and(|(at, _)| *at == chunk.address) {
            return Ok(0);
        }
        let loaded = self.load_aside(chunk, ReadMode::Blocking)?;
        *current = Some((chunk.address, loaded));
        Ok(chunk.length)
    }
}
