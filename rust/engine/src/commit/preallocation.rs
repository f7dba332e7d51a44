//! Preallocation: zeros after the tail of the active segment, and the next segment file.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::poison::Poison;
use super::publication::Publication;
use super::written::Tail;
use crate::error::{Error, Result};
use crate::live::LiveLog;
use crate::log::{Segment, fill_step};

/// Allocates disk space for frames, before they are written where possible.
#[derive(Debug)]
pub(super) struct Preallocation {
    log: Arc<LiveLog>,
    publication: Arc<Publication>,
    poison: Arc<Poison>,
    /// Whether the disk was full at the last attempt. Relaxed: the flag only decides whether the
    /// next write allocates its space first. A thread that reads an old value gets an error from
    /// the write itself and rolls it back.
    full: AtomicBool,
}

impl Preallocation {
    pub(super) fn new(
        log: Arc<LiveLog>,
        publication: Arc<Publication>,
        poison: Arc<Poison>,
    ) -> Self {
        Self {
            log,
            publication,
            poison,
            full: AtomicBool::new(false),
        }
    }

    /// Ensure that the file has space up to `end`. Once the disk has been full, no byte of a frame
    /// is written before all of its space is allocated.
    pub(super) fn ensure_allocated(&self, segment: &Segment, end: u64) -> Result<()> {
        let error = |e: io::Error| segment.error("make room in", &e);
        let end = segment.offset(end);
        if self.log.coord.shared().is_some() && end > segment.filled() && end > segment.measure()? {
            // Another session may be filling the file with zeros right now, and would overwrite the
            // frames of this write. The maintenance lock waits for it.
            let _guard = self.log.coord.maintain()?;
            if end > segment.measure()? {
                segment.fill_room(end).map_err(error)?;
            }
        }
        if !self.full.load(Ordering::Relaxed) {
            return Ok(());
        }
        let _guard = self.log.coord.maintain()?;
        segment.measure()?;
        segment.fill_room(end).map_err(error)?;
        if segment
            .fill_ahead(fill_step(segment.entry.capacity))
            .is_ok()
        {
            self.note_full(false);
        }
        Ok(())
    }

    pub(super) fn note_full(&self, full: bool) {
        self.full.store(full, Ordering::Relaxed);
    }

    /// Return the segment after this one, created with space for a frame of `length` bytes.
    pub(super) fn prepare_after(&self, segment: &Segment, length: u64) -> Result<Arc<Segment>> {
        let next = self.log.segments.prepare_after(segment, length);
        next.inspect_err(|e| self.poison.poison_if_unsure(e))
    }

    /// Sync preallocated zeros. A failure poisons the store like any failed sync.
    fn sync_ahead(&self, segment: &Segment) -> Result<()> {
        segment.sync_ahead().map_err(|e| {
            let error = segment.error("sync", &e);
            self.poison.poison(error.to_string());
            error
        })
    }

    /// Keep zeros allocated after the tail, and create the next segment before this one is full.
    pub(super) fn preallocate(&self) -> Result<()> {
        let segments = &self.log.segments;
        let Tail {
            segment, address, ..
        } = self.publication.published();
        let used = segment.offset(address);
        let step = fill_step(segment.entry.capacity);
        while segments.zero_fill() && segment.filled() < used + 4 * step {
            let filled = self.fill_ahead(&segment, step);
            self.note_full(matches!(filled, Err(Error::StorageFull { .. })));
            if !filled? {
                break;
            }
            // The kernel reports a failed write only once. In a shared store the holder of the sync
            // lock must get that report, so the zeros are flushed by the next sync of frames.
            if self.log.coord.shared().is_none() {
                self.sync_ahead(&segment)?;
            }
        }
        if used > segment.entry.capacity / 2 {
            self.prepare_after(&segment, 0)?;
        }
        segments.keep_ballast();
        Ok(())
    }

    fn fill_ahead(&self, segment: &Segment, step: u64) -> Result<bool> {
        let _guard = self.log.coord.maintain()?;
        if self.log.coord.shared().is_some() {
            segment.measure()?;
        }
        segment
            .fill_ahead(step)
            .map_err(|e| segment.error("zero-fill", &e))
    }
}
