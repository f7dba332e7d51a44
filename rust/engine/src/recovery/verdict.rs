//! At the first bad frame: a torn tail, or damage to what had been acknowledged?
//!
//! Evidence that an address had been durable: the manifest of a clean close; the durable hint
//! of any later valid frame; the first frame of a later segment, which is written only after
//! everything before it was synced. A bad frame below the highest evidence is damage.
//!
//! Where the log was cut off after a failed sync, the scan ends or goes on in the sealing
//! segment; what the earlier files hold beyond is neither history nor evidence.

use std::io;
use std::sync::Arc;

use super::scan::Scan;
use crate::error::{Error, Result};
use crate::frame::{Header, Seed};
use crate::log::{FrameScanner, Segment};

/// Refuses when the log is proven to have reached beyond the tail that the scan found;
/// `known` is an address that it is known to have reached.
pub(super) fn judge_tail(
    segments: &[Arc<Segment>],
    scan: &Scan,
    known: u64,
    seed: Seed,
) -> Result<()> {
    let tail = scan.tail;
    let mut proven = known;
    for segment in segments.iter().filter(|segment| segment.end() > tail) {
        let found = evidence(segment, tail, scan, seed);
        proven = proven.max(found.map_err(|e| segment.error("read", &e))?);
    }
    if proven <= tail {
        return Ok(());
    }
    match later_break(segments, scan, seed)? {
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

/// The later segment in which the log is seen to go on, so that only that segment's first
/// frame is bad; `None` where the log breaks off at its tail.
fn later_break<'a>(
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

/// The highest address that a frame beyond the tail proves durable.
fn evidence(segment: &Segment, tail: u64, scan: &Scan, seed: Seed) -> io::Result<u64> {
    let first = segment.first_frame();
    let position = scan.next_position;
    let mut scanner = FrameScanner::new(segment);
    let mut proven = 0;
    if first > tail
        && let Some(header) = scanner.header(first, seed)?
        // One that continues the log as scanned lost nothing before it, only its own body.
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
