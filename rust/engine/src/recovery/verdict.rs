//! The verdict on the first invalid frame: a torn tail, or damage of acknowledged data.
//!
//! A crash during a write leaves an invalid frame at the end of the log. That frame was never
//! acknowledged and may be cut off. A damaged bit in the middle of the log also makes a frame
//! invalid, but the frames after it were acknowledged. Recovery distinguishes the two cases by
//! evidence of how far the log had been durable (as in "Protocol-Aware Recovery for Consensus-Based
//! Storage", FAST 2018, for a single node):
//!
//! * the manifest that a clean close writes, and the file POISONED;
//! * the durable hint of any valid frame after the invalid one;
//! * the first frame of a later segment, which is written only after everything before it was
//!   synced.
//!
//! An invalid frame below the highest proven address is damage. Otherwise it is a torn tail.
//!
//! If the log was cut after a failed sync, the scan continues in the continuation segment. The
//! bytes of earlier files beyond the cut are neither part of the log nor evidence.

use std::io;
use std::sync::Arc;

use super::scan::Scan;
use crate::error::{Error, Result};
use crate::frame::{Header, Seed};
use crate::log::{FrameScanner, Segment};

/// Return an error if the log is proven durable beyond the tail that the scan found. `recorded_end`
/// is the durable end according to the manifest or the file POISONED.
pub(super) fn check_tail(
    segments: &[Arc<Segment>],
    scan: &Scan,
    recorded_end: u64,
    seed: Seed,
) -> Result<()> {
    let tail = scan.tail;
    let mut proven = recorded_end;
    for segment in segments.iter().filter(|segment| segment.end() > tail) {
        let found = proven_beyond(segment, tail, scan, seed);
        proven = proven.max(found.map_err(|e| segment.error("read", &e))?);
    }
    if proven <= tail {
        return Ok(());
    }
    match segment_with_bad_first_frame(segments, scan, seed)? {
        Some(segment) => {
            let first = segment.first_frame();
            let reason = format!(
                "{}, though the log was durable up to address {proven} (this is {first})",
                scan.stopped
            );
            let offset = segment.offset(first);
            Err(Error::corrupt(&segment.path, offset, reason))
        }
        None => Err(scan.damage(segments, proven)),
    }
}

/// Return the later segment in which the log continues if only the first frame of that segment is
/// damaged; the error then names this frame. `None` if the damage is at the tail.
fn segment_with_bad_first_frame<'a>(
    segments: &'a [Arc<Segment>],
    scan: &Scan,
    seed: Seed,
) -> Result<Option<&'a Segment>> {
    for segment in segments.iter().filter(|s| s.first_frame() > scan.tail) {
        let first = segment.first_frame();
        let mut scanner = FrameScanner::new(segment);
        let found = scanner.next_header(first, written_end(segment), scan.next_position, seed);
        match found.map_err(|e| segment.error("read", &e))? {
            Some((at, header)) if at == first && !continues(&header, scan) => return Ok(None),
            Some(_) => return Ok(Some(segment)),
            None => {}
        }
    }
    Ok(None)
}

fn continues(header: &Header, scan: &Scan) -> bool {
    header.previous_chain == scan.chain && header.first_position == scan.next_position
}

/// The address after the last byte of the segment's file.
fn written_end(segment: &Segment) -> u64 {
    segment.entry.base + segment.filled().min(segment.entry.capacity)
}

/// Return the highest address that the frames of a segment beyond the tail prove durable.
///
/// The frames are found by their headers alone, at every 8 bytes. A payload can't imitate a header,
/// because the header's CRC is seeded with the store's secret and the address. A frame whose
/// position is below the next position of the log can't continue this log, so it proves nothing.
fn proven_beyond(segment: &Segment, tail: u64, scan: &Scan, seed: Seed) -> io::Result<u64> {
    let first = segment.first_frame();
    let position = scan.next_position;
    let mut scanner = FrameScanner::new(segment);
    let mut proven = 0;
    if first > tail
        && let Some(header) = scanner.header(first, seed)?
        // A valid header that continues the scanned log proves nothing: the frame is invalid
        // because only its body was torn.
        && !continues(&header, scan)
        && header.first_position >= position
    {
        proven = first;
    }
    let end = written_end(segment);
    let mut from = tail.max(first);
    while let Some((address, header)) = scanner.next_header(from, end, position, seed)? {
        proven = proven.max(header.durable_hint);
        from = address + u64::from(header.length);
    }
    Ok(proven)
}
