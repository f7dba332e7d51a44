//! The repair of the log's end: a torn tail is zeroed, and the part that is kept is made durable.

use std::io;
use std::sync::Arc;

use crate::error::Result;
use crate::log::{Segment, fill_zeros};
use crate::vfs::{VfsFile as _, read_full, write_all_at};

/// Zero everything after `tail`, and make everything between `proven` and `tail` durable.
///
/// The bytes after the tail must be durably zero before a frame is appended. Otherwise, after a
/// crash, an old frame could follow the new one and count as evidence that the log had been longer.
pub(super) fn repair_tail(segments: &[Arc<Segment>], proven: u64, tail: u64) -> Result<()> {
    zero_after(segments, tail)?;
    rewrite(segments, proven, tail)
}

/// Zero and sync everything after the tail, in its segment and in later ones.
fn zero_after(segments: &[Arc<Segment>], tail: u64) -> Result<()> {
    for segment in segments.iter().filter(|segment| segment.end() > tail) {
        let from = segment.offset(tail.max(segment.first_frame()));
        let end = non_zero_end(segment, from).map_err(|e| segment.error("read", &e))?;
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

/// Return the offset after the last non-zero byte of a segment; `from` if all bytes from there on
/// are zero.
pub(super) fn non_zero_end(segment: &Segment, from: u64) -> io::Result<u64> {
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

/// Write the kept end of the log again with the same bytes, and sync it.
///
/// The write looks redundant and is not. Suppose that a sync failed in the process that wrote these
/// bytes, and that the process then died. The kernel may have marked the pages clean without
/// writing them, and has reported the error only to that process. A sync alone would then succeed
/// and write nothing. Writing the pages makes them dirty again, so the sync has to write them.
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
            let part = buffer.get_mut(..wanted).unwrap_or_default();
            let n = read_full(&segment.file, part, at).map_err(|e| segment.error("read", &e))?;
            let read = part.get(..n).unwrap_or_default();
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
