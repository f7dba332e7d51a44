//! From a directory to a log that can be appended to.
//!
//! 1. `catalogue`: which segments there are, by the manifest and by the directory.
//! 2. `scan`: every frame in order, checked against everything a frame promises.
//! 3. `verdict`: at the first bad frame, is it a torn tail or damaged history?
//! 4. cut the torn tail, write the kept but not provably durable end again, sync.
//!
//! After a failed sync (POISONED says so) what is cached proves nothing, and what a second
//! sync says neither. The log is then cut at the end that was durable before, its files are
//! left as they are, and it goes on in a new segment.
//!
//! No step deletes a log file, and every step can be cut off by a crash and run again.

mod read_only_snapshot;
mod repair_tail;
mod scan;
mod segment_catalogue;
mod verdict;

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::index::{FrameEntry, MemoryIndex};
use crate::log::{
    Claims, Found, Holder, Identity, Layout, Manifest, Marker, SEGMENT_HEADER, Seal, Segment,
};

pub(crate) use read_only_snapshot::{LogSnapshot, snapshot};
pub(crate) use scan::{Scan, describe};
use segment_catalogue::Catalogue;
pub(crate) use segment_catalogue::view;

/// A recovered log.
#[derive(Debug)]
pub(crate) struct Recovered {
    /// On the segments that the log may go on in, still exclusive.
    pub(crate) claims: Claims,
    pub(crate) segments: Vec<Arc<Segment>>,
    pub(crate) manifest: Manifest,
    /// Whether the manifest on disk says so already.
    pub(crate) listed: bool,
    /// There is a POISONED file, to be removed once the log can go on.
    pub(crate) poisoned: bool,
    /// Where the log was cut, to go on in a new segment.
    pub(crate) seal: Option<Seal>,
    pub(crate) index: MemoryIndex,
    /// Address after the last frame.
    pub(crate) tail: u64,
    pub(crate) next_position: u64,
    pub(crate) chain: u64,
    pub(crate) last_commit_time: u64,
}

/// Recovers the log of a store whose identity is known. The caller holds the store's lock.
pub(crate) fn recover(layout: &Layout, identity: &Identity) -> Result<Recovered> {
    layout.ensure_dir(&layout.log())?;
    layout.ensure_dir(&layout.locks())?;
    // Names that are there may be cached only, made by a process that died before it synced
    // them. Nothing is built on a name that a loss of power could take back.
    layout.sync_parent_if_allowed(&layout.root)?;
    layout.sync_dir(&layout.log())?;
    layout.sync_dir(&layout.root)?;
    let claims = Claims::alone(layout)?;
    let mut holder = Holder::begin(layout);
    let found = Marker::find(layout, identity.uuid)?;
    let Catalogue {
        mut segments,
        manifest,
        listed,
    } = segment_catalogue::catalogue(layout, identity, found != Found::Absent)?;
    let marked = match &found {
        Found::Whole(marker) => Some(marker.durable),
        Found::Absent | Found::Unreadable => None,
    };
    let known = manifest.durable.max(marked.map_or(0, |seal| seal.address));
    if segments.is_empty() && known > 0 {
        let reason = "the log was durable once, and no segment of it is left";
        return Err(Error::corrupt(&layout.log(), 0, reason));
    }
    if marked.is_some() {
        for segment in &segments {
            segment.drop_cache();
        }
    }
    claims.own(identity, &mut segments)?;
    let mut scan = Scan::new(identity.seed(), identity.hasher());
    let end = segments
        .last()
        .map_or(0, |last| last.entry.base + last.filled());
    let mut report = |_: &Segment, frame: &FrameEntry| {
        holder.progress(frame.end(), end);
        Ok(())
    };
    scan.run_with(&segments, u64::MAX, &mut report)?;
    verdict::judge_tail(&segments, &scan, known, identity.seed())?;
    let proven = manifest.durable.max(scan.hint).max(scan.sealed);
    // A log that is known to have gone on after the marker was written has left it behind.
    let seal = marked.filter(|seal| seal.address >= proven);
    match seal {
        Some(seal) => scan = cut_at(seal, &segments, scan, identity)?,
        None => repair_tail::settle_tail(&segments, proven, scan.tail)?,
    }
    holder.end();
    Ok(Recovered {
        claims,
        segments,
        manifest,
        listed: listed && found == Found::Absent,
        poisoned: found != Found::Absent,
        seal,
        index: scan.index,
        tail: scan.tail,
        next_position: scan.next_position,
        chain: scan.chain,
        last_commit_time: scan.last_commit_time,
    })
}

/// The log as it was when it was last known to be durable, before a sync failed. Nothing of
/// its files is changed.
fn cut_at(seal: Seal, segments: &[Arc<Segment>], scan: Scan, identity: &Identity) -> Result<Scan> {
    let mut kept = scan;
    if kept.tail > seal.address {
        kept = Scan::new(identity.seed(), identity.hasher());
        kept.run(segments, seal.address)?;
    }
    if kept.tail == seal.address && kept.chain == seal.chain {
        return Ok(kept);
    }
    kept.stopped = "the log does not end there as it did when a sync failed";
    Err(kept.damage(segments, seal.address))
}

const _: () = assert!(SEGMENT_HEADER.is_multiple_of(8));
