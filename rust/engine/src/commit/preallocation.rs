//! Preallocation: zeros after the tail of the active segment, and the next segment file.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::poison::Poison;
use super::publication::Publication;
use super::written_log::Tail;
use crate::error::{Error, Result};
use crate::live::LiveLog;
use crate::log::{Segment, fill_step};

/// Allocates disk space for frames, where possible before the frames are written.
#[derive(Debug)]
pub(super) struct Preallocation {
    log: Arc<LiveLog>,
    publication: Arc<Publication>,
    poison: Arc<Poison>,
    /// Whether the disk was full at the last attempt. Relaxed: the flag only decides whether the
    /// next write allocates its space first. A thread that reads an outdated value gets an error
    /// from its write instead, and rolls that write back.
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

    /// Ensure that the segment's file has space up to the log address `end`. If the disk was full
    /// at the last attempt, allocate all of this space before the first byte of a frame is written.
    pub(super) fn ensure_allocated(&self, segment: &Segment, end: u64) -> Result<()> {
        let error = |e: io::Error| segment.error("allocate space in", &e);
        let end = segment.offset(end);
        if self.log.coord.shared().is_some() && end > segment.filled() && end > segment.measure()? {
            // Another session may be filling this part of the file with zeros, and would overwrite
            // the frames of this write. That session holds the maintenance lock until it has
            // finished, so acquire this lock before the write.
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

    /// Return the segment after this one, with space for a frame of `length` bytes. Create that
    /// segment, unless a prepared one is large enough.
    pub(super) fn prepare_after(&self, segment: &Segment, length: u64) -> Result<Arc<Segment>> {
        let next = self.log.segments.prepare_after(segment, length);
        next.inspect_err(|e| self.poison.poison_if_unsure(e))
    }

    /// Sync preallocated zeros. Poison the store if the sync fails, as after any failed sync.
    fn sync_ahead(&self, segment: &Segment) -> Result<()> {
        segment.sync_ahead().map_err(|e| {
            let error = segment.error("sync", &e);
            self.poison.poison(error.to_string());
            error
        })
    }

    /// Preallocate zeros after the tail, and create the next segment before this one is full.
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
            // lock must receive that report. So this thread does not sync the zeros: the next sync
            // of frames flushes them.
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

    /// Fill the next `step` bytes of the segment's file with zeros. Return `false` if the file is
    /// filled to its end.
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
