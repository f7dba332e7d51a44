//! The streams of a category as of one position.
//!
//! The index has the positions of the streams' first events, and these events have the names. The
//! order of the streams is that of their first events, so it never changes, and a stream never
//! leaves its category. A caller that has the first `n` streams therefore reads only the later ones.

use super::query::{CategoryQuery, CategoryStreams};
use super::stream_read::locate;
use crate::error::{Error, Result};
use crate::index::Index;
use crate::live::{LiveLog, Loader};
use crate::names;
use crate::options::ReadMode;

/// The maximum number of names that a non-blocking read returns. More would delay the event loop.
const NON_BLOCKING_NAMES: usize = 2_048;

impl LiveLog {
    /// Read the names of the streams of a category.
    pub(crate) fn category_streams(&self, query: &CategoryQuery<'_>) -> Result<CategoryStreams> {
        names::check_category(query.category)?;
        let category = self.hasher.category(query.category);
        let (position, version, locations) = {
            let index = self.index.read();
            let position = query.at.map_or(index.head(), |at| at.min(index.head()));
            let version = index.category_version_at(category, position);
            let last = version.min(query.after.saturating_add(query.limit as u64));
            let mut positions = Vec::new();
            if query.limit > 0 {
                let first = query.after.saturating_add(1);
                index.category_positions(category, first, last, &mut positions);
            }
            if query.mode == ReadMode::NonBlocking && positions.len() > NON_BLOCKING_NAMES {
                return Err(Error::WouldBlock);
            }
            (position, version, locate(&*index, &positions))
        };
        let mut chunks = Loader::new(self, query.mode);
        let names = locations.into_iter().map(|(position, chunk)| {
            let name = chunks.chunk(chunk)?.stream_of(position).map(Into::into);
            name.ok_or_else(|| self.missing_event(position, chunk))
        });
        Ok(CategoryStreams {
            position,
            version,
            names: names.collect::<Result<_>>()?,
        })
    }
}
