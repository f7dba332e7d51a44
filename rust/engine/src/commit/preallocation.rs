//! Room on the disk for the frames to come: zeros ahead of the tail, and the next segment.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::poison::Poison;
use super::publication::Publication;
use super::written::Tail;
use crate::error::{Error, Result};
use crate::live::LiveLog;
use crate::log::{Segment, fill_step};

/// Makes room for frames, ahead of the tail where possible.
#[derive(Debug)]
pub(super) struct Room {
    log: Arc<LiveLog>,
    publication: Arc<Publication>,
    poison: Arc<Poison>,
    /// Whether the disk was full at the last attempt. Relaxed: it only decides whether the next
    /// write makes sure of its room first, and a late reader still fails safely.
    full: AtomicBool,
}

impl Room {
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

    /// Makes sure of room in a segment up to an address: once the disk was full, no byte of a
    /// frame is written where there might be no room.
    pub(super) fn make_room(&self, segment: &Segment, end: u64) -> Result<()> {
        let error = |e: io::Error| segment.error("make room in", &e);
        let end = segment.offset(end);
        if self.log.coord.shared().is_some() && end > segment.filled() && end > segment.measure()? {
            // Another session may be filling the file ahead, with zeros over this write.
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

    /// The segment after this one, with room for a frame of `length` bytes.
    pub(super) fn prepare_after(&self, segment: &Segment, length: u64) -> Result<Arc<Segment>> {
        let next = self.log.segments.prepare_after(segment, length);
        next.inspect_err(|e| self.poison.poison_if_unsure(e))
    }

    /// Makes zeros that were written ahead durable.
    fn sync_ahead(&self, segment: &Segment) -> Result<()> {
        segment.sync_ahead().map_err(|e| {
            let error = segment.error("sync", &e);
            self.poison.poison(error.to_string());
            error
        })
    }

    /// Keeps zeros ahead of the tail, and the next segment ready before this one is full.
    pub(super) fn prepare_room(&self) -> Result<()> {
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
            // In a shared store only the holder of the sync lock may get the report of a failed
            // write, so the zeros go to the disk with the next sync of frames.
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
