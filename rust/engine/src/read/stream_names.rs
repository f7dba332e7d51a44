//! The names of all streams, in order, as of one moment.
//!
//! A name stands in the log alone, so each stream's first event is read, once: in the order
//! of the log, past the cache, whose chunks are worth more to those who read events. The names
//! are sorted when all are there. It is done in slices, so that whoever waits for it can be
//! called away in between.

use std::fmt;
use std::sync::Arc;

use crate::chunk::LoadedChunk;
use crate::error::{Error, Result};
use crate::index::{Chunk, Index};
use crate::live::LiveLog;
use crate::names::is_system;
use crate::options::ReadMode;

/// Bytes of log that a slice loads, about.
const SLICE_BYTES: u64 = 8 << 20;
/// Streams that a slice looks at, at most.
const SLICE_STREAMS: usize = 1 << 16;
/// Bits of a span that hold a name's length: no name has more than 255 bytes.
const LENGTH_BITS: u32 = 8;

/// A listing of streams: first gathered by [`crate::Store::gather`], then handed out.
#[derive(Clone)]
pub struct StreamNames {
    prefix: Box<str>,
    system: bool,
    /// The streams looked at, and all that there were, in the order in which they began.
    seen: u64,
    all: u64,
    text: String,
    /// Where each name begins in `text`, and its length.
    spans: Vec<u64>,
    sorted: bool,
    shown: usize,
}

impl StreamNames {
    /// The next names, at most `limit`, in ascending order of their bytes. None when all were
    /// handed out, or before all were gathered.
    pub fn page(&mut self, limit: usize) -> Vec<&str> {
        if !self.sorted {
            return Vec::new();
        }
        let begin = self.shown;
        let end = begin.saturating_add(limit).min(self.spans.len());
        self.shown = end;
        let page = self.spans.get(begin..end).unwrap_or_default();
        page.iter().map(|span| name(&self.text, *span)).collect()
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
        self.sorted = true;
    }
}

impl fmt::Debug for StreamNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamNames")
            .field("prefix", &self.prefix)
            .field("seen", &self.seen)
            .field("all", &self.all)
            .field("found", &self.spans.len())
            .field("shown", &self.shown)
            .finish_non_exhaustive()
    }
}

fn name(text: &str, span: u64) -> &str {
    let begin = usize::try_from(span >> LENGTH_BITS).unwrap_or(usize::MAX);
    let length = usize::from(span.to_le_bytes()[0]);
    text.get(begin..begin + length).unwrap_or_default()
}

impl LiveLog {
    /// Begins a listing of the streams there are now.
    pub(crate) fn stream_names(&self, prefix: &str, system: bool) -> StreamNames {
        StreamNames {
            prefix: prefix.into(),
            system,
            seen: 0,
            all: self.index.read().streams(),
            text: String::new(),
            spans: Vec::new(),
            sorted: false,
            shown: 0,
        }
    }

    /// Gathers another slice; answers whether all names are there.
    pub(crate) fn gather(&self, names: &mut StreamNames) -> Result<bool> {
        if names.sorted {
            return Ok(true);
        }
        if names.seen == names.all {
            names.sort();
            return Ok(true);
        }
        let mut current = None;
        let mut loaded_bytes = 0;
        for (position, chunk) in self.first_events(names)? {
            if loaded_bytes > SLICE_BYTES {
                break;
            }
            loaded_bytes += self.step_to(chunk, &mut current)?;
            let first = current
                .as_ref()
                .and_then(|(_, loaded)| loaded.stream_of(position));
            names.add(first.ok_or_else(|| self.lost(position, chunk))?);
            names.seen += 1;
        }
        Ok(false)
    }

    /// The first events of the streams to look at next, with the chunks that hold them.
    fn first_events(&self, names: &StreamNames) -> Result<Vec<(u64, Chunk)>> {
        let left = usize::try_from(names.all - names.seen).unwrap_or(usize::MAX);
        let mut positions = Vec::new();
        let index = self.index.read();
        index.first_positions(names.seen, left.min(SLICE_STREAMS), &mut positions);
        let chunks = index.chunks();
        let place = |position: u64| Some((position, chunks.get(chunks.of_position(position)?)?));
        let placed = positions.into_iter().map(place);
        placed.collect::<Option<_>>().ok_or(Error::Closed)
    }

    /// Makes `current` the chunk; answers how many bytes had to be read for it.
    fn step_to(&self, chunk: Chunk, current: &mut Option<(u64, Arc<LoadedChunk>)>) -> Result<u64> {
        if current.as_ref().is_some_and(|(at, _)| *at == chunk.address) {
            return Ok(0);
        }
        let loaded = self.load_aside(chunk, ReadMode::Blocking)?;
        *current = Some((chunk.address, loaded));
        Ok(chunk.length)
    }
}
