//! The frames of one segment, read in order.

use std::io;

use super::segment::Segment;
use crate::frame::{ALIGN, FRAME_LIMIT, FrameView, HEADER, Header, Seed};
use crate::vfs::read_full;

const WINDOW: usize = 4 << 20;
/// Frames begin at multiples of this.
const STEP: u64 = ALIGN as u64;

/// Reads a segment's frames through a window.
#[derive(Debug)]
pub(crate) struct FrameScanner<'a> {
    segment: &'a Segment,
    window: Vec<u8>,
    window_at: u64,
    /// The offset up to which there is something to read.
    end: Option<u64>,
}

impl<'a> FrameScanner<'a> {
    pub(crate) fn new(segment: &'a Segment) -> Self {
        Self {
            segment,
            window: Vec::new(),
            window_at: 0,
            end: None,
        }
    }

    /// Of a segment's frames below an address, to which the file may have grown meanwhile.
    pub(crate) fn up_to(segment: &'a Segment, end: u64) -> Self {
        Self {
            end: Some(segment.offset(end)),
            ..Self::new(segment)
        }
    }

    /// The bytes at an address, as many as there are up to `length`.
    fn bytes(&mut self, address: u64, length: usize) -> io::Result<&[u8]> {
        let offset = self.segment.offset(address);
        let end = self.window_at + self.window.len() as u64;
        if offset < self.window_at || offset + length as u64 > end {
            // Clearing a window that is larger than the file takes longer than reading it.
            let end = self.end.unwrap_or_else(|| self.segment.filled());
            let left = end.saturating_sub(offset);
            let window = WINDOW.min(usize::try_from(left).unwrap_or(WINDOW));
            self.window.resize(length.max(window), 0);
            let n = read_full(&self.segment.file, &mut self.window, offset)?;
            self.window.truncate(n);
            self.window_at = offset;
        }
        let at = usize::try_from(offset - self.window_at).unwrap_or(usize::MAX);
        let have = self.window.len().saturating_sub(at).min(length);
        Ok(self.window.get(at..at + have).unwrap_or_default())
    }

    /// The header at an address, if a frame of this store was written there.
    pub(crate) fn header(&mut self, address: u64, seed: Seed) -> io::Result<Option<Header>> {
        Ok(Header::read(self.bytes(address, HEADER)?, seed, address))
    }

    /// The checked frame at an address, or what is wrong there.
    pub(crate) fn frame(
        &mut self,
        address: u64,
        seed: Seed,
    ) -> io::Result<std::result::Result<FrameView<'_>, &'static str>> {
        let Some(header) = self.header(address, seed)? else {
            return Ok(Err("no frame header"));
        };
        let length = (header.length as usize).min(FRAME_LIMIT);
        Ok(FrameView::check_after(header, self.bytes(address, length)?))
    }

    /// The lowest address in `from..to` with a frame header whose position is not below
    /// `position`, and that header.
    pub(crate) fn next_header(
        &mut self,
        from: u64,
        to: u64,
        position: u64,
        seed: Seed,
    ) -> io::Result<Option<(u64, Header)>> {
        let mut address = from;
        while address < to {
            let skipped = self.blank(address)?;
            address += skipped;
            if skipped > 0 {
                continue;
            }
            if let Some(header) = self.header(address, seed)?
                && header.first_position >= position
            {
                return Ok(Some((address, header)));
            }
            address += STEP;
        }
        Ok(None)
    }

    /// How many bytes of the window, from an address on, can't begin a frame; at the end of
    /// the file, one step.
    fn blank(&mut self, address: u64) -> io::Result<u64> {
        if self.bytes(address, HEADER)?.len() < HEADER {
            return Ok(STEP);
        }
        let at = usize::try_from(self.segment.offset(address) - self.window_at);
        let rest = at.ok().and_then(|at| self.window.get(at..));
        let steps = rest.unwrap_or_default().chunks_exact(ALIGN);
        let blank = steps.take_while(|step| !Header::begins(step));
        Ok(blank.count() as u64 * STEP)
    }
}
