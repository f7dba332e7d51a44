//! How large the next segment is, and how it is created and listed.
//!
//! A segment gets its name only after its file is complete and durable, and its first frame only
//! after the manifest lists it. So a segment that no manifest lists has no frames, and recovery can
//! distinguish a segment whose creation was interrupted from a missing one.

use std::io::IoSlice;
use std::path::Path;
use std::sync::Arc;

use super::manifest::Manifest;
use super::segment::{Segment, fill_zeros};
use super::segment_header::{CutPoint, SEGMENT_HEADER, SegmentEntry, SegmentHeader};
use super::segments::Segments;
use crate::error::{Error, Result};
use crate::options::Options;
use crate::vfs::{OpenMode, VfsFile, write_all_at};

impl Segments {
    /// Return a segment after `segment` with room for a frame of `length` bytes: the prepared one,
    /// or a new one. A prepared segment that is too small stays empty, because a segment's file is
    /// never replaced.
    pub(crate) fn prepare_after(&self, segment: &Segment, length: u64) -> Result<Arc<Segment>> {
        let _guard = self.maintenance.acquire()?;
        let mut manifest = self.manifest.lock();
        self.refuse_if_unsure()?;
        self.reload_shared(&mut manifest)?;
        let needed = (SEGMENT_HEADER + length.max(1)).next_multiple_of(SEGMENT_HEADER);
        let mut last = segment.entry;
        while let Some(next) = self.of_ordinal(last.ordinal + 1) {
            if next.entry.capacity >= needed {
                return Ok(next);
            }
            last = next.entry;
        }
        let next = Arc::new(self.create(self.entry_after(Some(last), needed), None)?);
        self.list(&mut manifest, Arc::clone(&next))?;
        Ok(next)
    }

    /// Create the first segment of a new log.
    pub(crate) fn create_first(&self) -> Result<Arc<Segment>> {
        let mut manifest = self.manifest.lock();
        let first = Arc::new(self.create(self.entry_after(None, 2 * SEGMENT_HEADER), None)?);
        self.list(&mut manifest, Arc::clone(&first))?;
        Ok(first)
    }

    /// Create and list the segment in which the log continues after a failed sync. The log before
    /// the cut is durable, and no earlier file is written again.
    pub(crate) fn create_continuation(&self, cut: CutPoint) -> Result<Arc<Segment>> {
        let mut manifest = self.manifest.lock();
        let last = manifest.segments.last().copied();
        let entry = self.entry_after(last, 2 * SEGMENT_HEADER);
        let continuation = Arc::new(self.create(entry, Some(cut))?);
        (manifest.durable, manifest.chain) = (continuation.first_frame(), cut.chain);
        self.list(&mut manifest, Arc::clone(&continuation))?;
        Ok(continuation)
    }

    /// Plan the segment after another one: twice as large, up to the configured maximum, or as
    /// large as is needed.
    fn entry_after(&self, before: Option<SegmentEntry>, needed: u64) -> SegmentEntry {
        let Options {
            first_segment,
            max_segment,
            ..
        } = self.options;
        let (ordinal, base, capacity) = match before {
            None => (1, 0, first_segment),
            Some(before) => (
                before.ordinal + 1,
                before.base + before.capacity,
                before.capacity.saturating_mul(2).min(max_segment),
            ),
        };
        SegmentEntry {
            ordinal,
            base,
            capacity: capacity.max(needed),
        }
    }

    /// Create the file of a segment, durable and locked by this session before it has its name.
    fn create(&self, entry: SegmentEntry, continues_from: Option<CutPoint>) -> Result<Segment> {
        let path = self.layout.segment(entry.ordinal);
        let header = SegmentHeader {
            store: self.identity.uuid,
            entry,
            continues_from,
        };
        let bytes = header.encode();
        let filled = if self.options.zero_fill {
            fill_step(entry.capacity).max(SEGMENT_HEADER)
        } else {
            SEGMENT_HEADER
        };
        let write = |file: &dyn VfsFile| {
            write_all_at(file, &[IoSlice::new(&bytes)], 0)?;
            fill_zeros(file, SEGMENT_HEADER, filled)
        };
        let lock = |temporary: &Path| self.segment_locks.add_new(entry.ordinal, temporary);
        self.layout.write_atomically(&path, write, lock)?;
        let opened = self.layout.files.open(&path, OpenMode::Read);
        let opened = opened.map_err(|e| Error::io(&path, "open", &e))?;
        let segment = Segment::of(&self.layout, &header, true, opened)?;
        // The process may have no descriptor left. Then the append that needs the segment opens it.
        let _opened = segment.activate();
        Ok(segment)
    }

    /// Publish a manifest that also lists `segment`, and make the segment part of the log.
    fn list(&self, manifest: &mut Manifest, segment: Arc<Segment>) -> Result<()> {
        let mut next = manifest.clone();
        next.generation += 1;
        next.segments.push(segment.entry);
        next.publish(&self.layout)?;
        self.maintenance.publish_generation(next.generation);
        *manifest = next;
        self.open.write().push(segment);
        Ok(())
    }
}

/// The number of bytes that are filled with zeros ahead of the tail at a time; fewer in small
/// segments.
pub(crate) fn fill_step(capacity: u64) -> u64 {
    (capacity / 4).clamp(256 << 10, 4 << 20).min(capacity)
}
