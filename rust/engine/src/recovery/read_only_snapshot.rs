//! A snapshot of a log for a read-only session. It changes no file.
//!
//! It ends at the highest address that is proven durable, so a power cut can't remove any part of
//! it. The bytes after that address may be on the disk or only in the page cache. To make them
//! durable takes a write and a sync, which a read-only session must not do.

use std::sync::Arc;

use super::repair_tail::non_zero_end;
use super::scan::Scan;
use super::{segment_catalogue, verdict};
use crate::error::{Error, Result};
use crate::index::MemoryIndex;
use crate::log::{Identity, Layout, Manifest, PoisonMarker, PoisonMarkerState, Segment, limits};

/// The part of a log that is proven durable.
#[derive(Debug)]
pub(crate) struct LogSnapshot {
    pub(crate) segments: Vec<Arc<Segment>>,
    pub(crate) manifest: Manifest,
    pub(crate) index: MemoryIndex,
    pub(crate) tail: u64,
    pub(crate) next_position: u64,
    pub(crate) chain: u64,
    /// Bytes of log after the snapshot, which are not proven durable.
    pub(crate) unproven: u64,
    /// Damage that would make an open for writing fail.
    pub(crate) damage: Option<Error>,
}

/// Read the log of a store up to the end that is proven durable. The caller holds the store's lock,
/// or accepts that a writer may change the log at the same time; apparent damage must then be
/// confirmed by a second read.
pub(crate) fn snapshot(layout: &Layout, identity: &Identity) -> Result<LogSnapshot> {
    let (segments, manifest, missing) = segment_catalogue::view(layout, identity, false)?;
    if segments.is_empty() {
        return Err(missing.unwrap_or_else(|| incomplete_store(layout)));
    }
    let recorded_cut = match PoisonMarker::find(layout, identity.uuid)? {
        PoisonMarkerState::Whole(marker) => marker.durable.address,
        PoisonMarkerState::Absent | PoisonMarkerState::Unreadable => 0,
    };
    let recorded_end = manifest.durable.max(recorded_cut);
    let mut scan = Scan::new(identity.seed(), identity.hasher());
    let scan_damage = damage_only(scan.run(&segments, u64::MAX))?;
    let tail_damage = match &scan_damage {
        None => damage_only(verdict::check_tail(
            &segments,
            &scan,
            recorded_end,
            identity.seed(),
        ))?,
        Some(_) => None,
    };
    // Evidence beyond the tail proves everything below the tail durable.
    let proven = match &tail_damage {
        None => recorded_end.max(scan.proven_end()),
        Some(_) => scan.tail,
    };
    let damage = scan_damage.or(tail_damage).or(missing);
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

fn incomplete_store(layout: &Layout) -> Error {
    Error::NotAStore {
        path: layout.root.clone(),
        reason: "its creation was interrupted; open it without read_only to complete it".to_owned(),
    }
}

/// Return damage as a value, because a snapshot reports it. Every other error ends the snapshot.
fn damage_only(outcome: Result<()>) -> Result<Option<Error>> {
    match outcome {
        Ok(()) => Ok(None),
        Err(damage @ Error::CorruptStore { .. }) => Ok(Some(damage)),
        Err(e) => Err(e),
    }
}

/// Return the scan as if it had ended at `proven`.
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
    let mut shorter = Scan::new(identity.seed(), identity.hasher());
    match shorter.run(segments, proven) {
        Err(Error::CorruptStore { .. }) if damaged => {}
        outcome => outcome?,
    }
    Ok(shorter)
}

/// Return the number of bytes from an address to the last non-zero byte of the log's files.
fn bytes_beyond(segments: &[Arc<Segment>], tail: u64) -> Result<u64> {
    let mut bytes = 0;
    for (segment, limit) in segments.iter().zip(limits(segments)) {
        let from = tail.max(segment.first_frame());
        if limit > from {
            let from = segment.offset(from);
            let end = non_zero_end(segment, from).map_err(|e| segment.error("read", &e))?;
            bytes += end.min(segment.offset(limit)).saturating_sub(from);
        }
    }
    Ok(bytes)
}
