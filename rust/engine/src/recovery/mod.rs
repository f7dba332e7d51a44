//! Recovery: from the files of a log to a log that can be appended to.
//!
//! [`recover`] is called by the first session that opens a store to write, while it holds the
//! store's lock exclusively. A read-only session calls [`snapshot`], which reads the same
//! evidence and changes no file. The steps of a recovery:
//!
//! 1. `segment_catalogue`: find the segments, by the manifest and by the directory.
//! 2. `scan`: read every frame in order, validate it, and build the index.
//! 3. `verdict`: at the first invalid frame, decide whether it is a torn tail or damage of
//!    acknowledged data.
//! 4. `repair_tail`: zero the torn tail. Write the part of the log again that is kept but not
//!    proven durable, and sync it.
//!
//! The invariants:
//!
//! * Acknowledged data is never cut off. If it is damaged, the store is not opened, and the error
//!   names the file and the offset.
//! * No step deletes a log file. A file that has no place in the log is moved to `quarantine/`.
//! * Each step can be interrupted by a crash and repeated. A recovery relies on nothing that an
//!   interrupted one has done.
//!
//! After a failed sync (recorded in the file POISONED) neither the page cache nor a second sync
//! proves that data is on the disk: the kernel may have marked pages clean that it never wrote.
//! The log is then cut at the end that was durable before the failure, its files are left as
//! they are, and it continues in a new segment.

mod read_only_snapshot;
mod repair_tail;
mod scan;
mod segment_catalogue;
mod verdict;

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::index::{FrameEntry, MemoryIndex};
use crate::log::{
    CutPoint, HolderReport, Identity, Layout, Manifest, PoisonMarker, PoisonMarkerState,
    SEGMENT_HEADER, Segment, SegmentLocks,
};

pub(crate) use read_only_snapshot::{LogSnapshot, snapshot};
pub(crate) use scan::{Scan, describe};
use segment_catalogue::Catalogue;
pub(crate) use segment_catalogue::view;

/// A recovered log.
#[derive(Debug)]
pub(crate) struct Recovered {
    /// The locks, still exclusive, on the segments in which the log may continue.
    pub(crate) segment_locks: SegmentLocks,
    pub(crate) segments: Vec<Arc<Segment>>,
    pub(crate) manifest: Manifest,
    /// Whether the manifest on the disk has the same content as `manifest`.
    pub(crate) listed: bool,
    /// Whether there is a POISONED file. It must not be removed before the log can continue: until
    /// then the next recovery needs it.
    pub(crate) poisoned: bool,
    /// Where the log was cut after a failed sync; it must continue in a new segment.
    pub(crate) cut: Option<CutPoint>,
    pub(crate) index: MemoryIndex,
    /// The address after the last frame.
    pub(crate) tail: u64,
    pub(crate) next_position: u64,
    pub(crate) chain: u64,
    pub(crate) last_commit_time: u64,
}

/// Recover the log of a store. The caller holds the store's lock exclusively.
pub(crate) fn recover(layout: &Layout, identity: &Identity) -> Result<Recovered> {
    layout.ensure_dir(&layout.log())?;
    layout.ensure_dir(&layout.locks())?;
    // A process that died may have created names without a sync of their directory. This process
    // sees the names, but a loss of power could remove them. So the directories are synced before
    // anything is appended to a file that is found only by such a name.
    layout.sync_parent_if_allowed(&layout.root)?;
    layout.sync_dir(&layout.log())?;
    layout.sync_dir(&layout.root)?;
    let segment_locks = SegmentLocks::alone(layout)?;
    let mut report = HolderReport::begin(layout);
    let found = PoisonMarker::find(layout, identity.uuid)?;
    let Catalogue {
        mut segments,
        manifest,
        listed,
    } = segment_catalogue::catalogue(layout, identity, found != PoisonMarkerState::Absent)?;
    let recorded_cut = match &found {
        PoisonMarkerState::Whole(marker) => Some(marker.durable),
        PoisonMarkerState::Absent | PoisonMarkerState::Unreadable => None,
    };
    let recorded_end = manifest
        .durable
        .max(recorded_cut.map_or(0, |cut| cut.address));
    if segments.is_empty() && recorded_end > 0 {
        let reason =
            format!("it contains no segment, but the log was durable up to address {recorded_end}");
        return Err(Error::corrupt(&layout.log(), 0, reason));
    }
    if recorded_cut.is_some() {
        for segment in &segments {
            segment.drop_cache();
        }
    }
    segment_locks.own(identity, &mut segments)?;
    let mut scan = Scan::new(identity.seed(), identity.hasher());
    let end = segments
        .last()
        .map_or(0, |last| last.entry.base + last.filled());
    let mut progress = |_: &Segment, frame: &FrameEntry| {
        report.progress(frame.end(), end);
        Ok(())
    };
    scan.run_with(&segments, u64::MAX, &mut progress)?;
    verdict::check_tail(&segments, &scan, recorded_end, identity.seed())?;
    let proven = scan.proven_end().max(manifest.durable);
    // If the log is proven durable beyond the recorded cut, it has continued after the failed sync,
    // and the file POISONED is obsolete.
    let cut = recorded_cut.filter(|cut| cut.address >= proven);
    match cut {
        Some(cut) => scan = cut_at(cut, &segments, scan, identity)?,
        None => repair_tail::repair_tail(&segments, proven, scan.tail)?,
    }
    report.end();
    Ok(Recovered {
        segment_locks,
        segments,
        manifest,
        listed: listed && found == PoisonMarkerState::Absent,
        poisoned: found != PoisonMarkerState::Absent,
        cut,
        index: scan.index,
        tail: scan.tail,
        next_position: scan.next_position,
        chain: scan.chain,
        last_commit_time: scan.last_commit_time,
    })
}

/// Return the log up to the cut: the end that was known to be durable before a sync failed. Change
/// no file.
fn cut_at(
    cut: CutPoint,
    segments: &[Arc<Segment>],
    scan: Scan,
    identity: &Identity,
) -> Result<Scan> {
    let mut kept = scan;
    if kept.tail > cut.address {
        kept = Scan::new(identity.seed(), identity.hasher());
        kept.run(segments, cut.address)?;
    }
    if kept.tail == cut.address && kept.chain == cut.chain {
        return Ok(kept);
    }
    kept.stopped = "the log does not contain the frame that was the last durable one when a \
                    sync failed";
    Err(kept.damage(segments, cut.address))
}

const _: () = assert!(SEGMENT_HEADER.is_multiple_of(8));
