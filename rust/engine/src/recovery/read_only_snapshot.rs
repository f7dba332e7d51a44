//! A snapshot of a log, taken without a change to any file.
//!
//! It ends at the highest address that is proven durable, which no loss of power can take
//! back. What follows may be on the disk or only in a cache; to find out takes a write.

use std::sync::Arc;

use super::repair_tail::last_non_zero;
use super::scan::Scan;
use super::{segment_catalogue, verdict};
use crate::error::{Error, Result};
use crate::index::MemoryIndex;
use crate::log::{Found, Identity, Layout, Manifest, Marker, Segment, limits};

/// The part of a log that is proven durable.
#[derive(Debug)]
pub(crate) struct LogSnapshot {
    pub(crate) segments: Vec<Arc<Segment>>,
    pub(crate) manifest: Manifest,
    pub(crate) index: MemoryIndex,
    pub(crate) tail: u64,
    pub(crate) next_position: u64,
    pub(crate) chain: u64,
    /// Bytes of log after it.
    pub(crate) unproven: u64,
    /// Damage for which an opening to write would be refused.
    pub(crate) damage: Option<Error>,
}

/// Reads the log of a store whose identity is known. The caller holds the store's lock.
pub(crate) fn snapshot(layout: &Layout, identity: &Identity) -> Result<LogSnapshot> {
    let (segments, manifest, missing) = segment_catalogue::view(layout, identity, false)?;
    if segments.is_empty() {
        return Err(missing.unwrap_or_else(|| half_made(layout)));
    }
    let marked = match Marker::find(layout, identity.uuid)? {
        Found::Whole(marker) => marker.durable.address,
        Found::Absent | Found::Unreadable => 0,
    };
    let known = manifest.durable.max(marked);
    let mut scan = Scan::new(identity.seed(), identity.hasher());
    let broken = damage(scan.run(&segments, u64::MAX))?;
    let judged = match &broken {
        None => damage(verdict::judge_tail(
            &segments,
            &scan,
            known,
            identity.seed(),
        ))?,
        Some(_) => None,
    };
    // Where evidence stands beyond the tail, all below the tail was durable.
    let proven = match &judged {
        None => known.max(scan.hint).max(scan.sealed),
        Some(_) => scan.tail,
    };
    let damage = broken.or(judged).or(missing);
    let scan = up_to(proven, scan, &segments, identity, damage.is_some())?;
    Ok(LogSnapshot {
        unproven: bytes_beyond(&segments, scan.tail)?,
        segments,
        manifest,
        index: scan.index,
        tail: scan.tail,
        next_position: scan.next_position,
        chain: scan.chain,
        damage,
    })
}

fn half_made(layout: &Layout) -> Error {
    Error::NotAStore {
        path: layout.root.clone(),
        reason: "its making was cut off; open it without read_only to finish it".to_owned(),
    }
}

/// What is wrong, if that is damage; other errors are errors.
fn damage(outcome: Result<()>) -> Result<Option<Error>> {
    match outcome {
        Ok(()) => Ok(None),
        Err(damage @ Error::CorruptStore { .. }) => Ok(Some(damage)),
        Err(e) => Err(e),
    }
}

/// The same scan without what it found from `proven` on.
fn up_to(
    proven: u64,
    scan: Scan,
    segments: &[Arc<Segment>],
    identity: &Identity,
    damaged: bool,
) -> Result<Scan> {
    if scan.tail <= proven {
        return Ok(scan);
    }
    let mut shown = Scan::new(identity.seed(), identity.hasher());
    match shown.run(segments, proven) {
        Err(Error::CorruptStore { .. }) if damaged => {}
        outcome => outcome?,
    }
    Ok(shown)
}

/// Bytes from an address to the last one that isn't zero, in the files that hold the log.
fn bytes_beyond(segments: &[Arc<Segment>], tail: u64) -> Result<u64> {
    let mut bytes = 0;
    for (segment, limit) in segments.iter().zip(limits(segments)) {
        let from = tail.max(segment.first_frame());
        if limit > from {
            let from = segment.offset(from);
            let end = last_non_zero(segment, from).map_err(|e| segment.error("read", &e))?;
            bytes += end.min(segment.offset(limit)).saturating_sub(from);
        }
    }
    Ok(bytes)
}
