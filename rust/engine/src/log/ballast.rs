//! The ballast: a reserved file, deleted when the disk is full.
//!
//! Its room lets the store write the small files that it must write even then: CURRENT, the
//! manifest and POISONED. `atomic_file` deletes it when a write fails for lack of room.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::directory_layout::Layout;
use super::segment::{Segment, fill_zeros};
use super::segments::Segments;
use crate::error::{Error, Result};
use crate::vfs::{Entry, OpenMode};

/// The size of the ballast in bytes.
const BALLAST: u64 = 4 << 20;
/// The minimum size of segments in a store that keeps a ballast. Only tests and small stores have
/// smaller segments, and a ballast would make such a store several times as large.
const MIN_SEGMENT: u64 = 16 << 20;

impl Segments {
    /// Create the ballast if it is missing and the last segment has reached its full size.
    pub(crate) fn keep_ballast(&self) {
        let Ok(_guard) = self.maintenance.acquire() else {
            return;
        };
        let full_size = self.options.max_segment.max(MIN_SEGMENT);
        let is_grown = |last: &Arc<Segment>| last.entry.capacity >= full_size;
        let layout = &self.layout;
        if layout.has_ballast.load(Ordering::SeqCst)
            || !self.open.read().last().is_some_and(is_grown)
        {
            return;
        }
        let path = layout.ballast();
        if !matches!(layout.vfs.entry(&path), Ok(Some(Entry::File(BALLAST))))
            && create_ballast(layout).is_err()
        {
            // Not an error: the store works without a ballast until the disk is full. An incomplete
            // ballast is removed, because it would only take room.
            let _removed = layout.remove_if_there(&path);
            return;
        }
        layout.has_ballast.store(true, Ordering::SeqCst);
    }
}

fn create_ballast(layout: &Layout) -> Result<()> {
    let path = layout.ballast();
    layout.check_attached(&layout.root)?;
    layout.remove_if_there(&path)?;
    let file = layout.vfs.open(&path, OpenMode::CreateNew);
    file.and_then(|file| fill_zeros(&*file, 0, BALLAST))
        .map_err(|e| Error::io(&path, "zero-fill", &e))
}
