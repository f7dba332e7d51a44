//! The end of the log: a torn tail is cut off, and what is kept is made durable.

use std::io;
use std::sync::Arc;

use crate::error::Result;
use crate::log::{Segment, fill_zeros};
use crate::vfs::{VfsFile as _, read_full, write_all_at};

/// Cuts off a torn tail, and makes sure of what is kept.
pub(super) fn settle_tail(segments: &[Arc<Segment>], proven: u64, tail: u64) -> Result<()> {
    cut(segments, tail)?;
    rewrite(segments, proven, tail)
}

/// Zeroes what stands after the tail, in the segment that holds it and in later ones.
fn cut(segments: &[Arc<Segment>], tail: u64) -> Result<()> {
    for segment in segments.iter().filter(|segment| segment.end() > tail) {
        let from = segment.offset(tail.max(segment.first_frame()));
        let end = last_non_zero(segment, from).map_err(|e| segment.error("read", &e))?;
        if end > from {
            fill_zeros(&segment.file, from, end).map_err(|e| segment.error("zero", &e))?;
            segment
                .file
                .sync_data()
                .map_err(|e| segment.error("sync", &e))?;
        }
    }
    Ok(())
}

/// The offset after the last byte at or beyond `from` that is not zero.
pub(super) fn last_non_zero(segment: &Segment, from: u64) -> io::Result<u64> {
    let mut end = from;
    let mut buffer = vec![0; 1 << 20];
    let mut at = from;
    loop {
        let n = read_full(&segment.file, &mut buffer, at)?;
        let read = buffer.get(..n).unwrap_or_default();
        if let Some(i) = read.iter().rposition(|byte| *byte != 0) {
            end = at + i as u64 + 1;
        }
        if n < buffer.len() {
            return Ok(end);
        }
        at += n as u64;
    }
}

/// Writes the kept end of the log again with the same bytes: after a mere process crash its
/// pages may be cached and clean and yet not on the disk, the error swallowed by the dead.
fn rewrite(segments: &[Arc<Segment>], proven: u64, tail: u64) -> Result<()> {
    if proven >= tail {
        return Ok(());
    }
    let kept = |segment: &&Arc<Segment>| segment.entry.base < tail && segment.end() > proven;
    for segment in segments.iter().filter(kept) {
        let mut at = segment.offset(proven.max(segment.first_frame()));
        let end = segment
            .offset(tail.min(segment.end()))
            .min(segment.filled());
        let mut buffer = vec![0; 1 << 20];
        while at < end {
            let wanted = usize::try_from(end - at)
                .unwrap_or(usize::MAX)
                .min(buffer.len());
            let piece = buffer.get_mut(..wanted).unwrap_or_default();
            let n = read_full(&segment.file, piece, at).map_err(|e| segment.error("read", &e))?;
            let read = piece.get(..n).unwrap_or_default();
            write_all_at(&segment.file, &[io::IoSlice::new(read)], at)
                .map_err(|e| segment.error("write", &e))?;
            if n < wanted {
                break;
            }
            at += n as u64;
        }
        segment
            .file
            .sync_data()
            .map_err(|e| segment.error("sync", &e))?;
    }
    Ok(())
}
