//! The frames of one segment, read in order.

use std::io;

use super::segment::Segment;
use crate::frame::{ALIGN, FRAME_LIMIT, FrameView, HEADER, Header, Seed};
use crate::vfs::read_full;

/// Bytes of the file that are read at a time.
const WINDOW: usize = 4 << 20;
/// The distance between the offsets at which a frame can begin.
const STEP: u64 = ALIGN as u64;

/// Reads a segment's frames through a buffer that moves over the file.
#[derive(Debug)]
pub(crate) struct FrameScanner<'a> {
    segment: &'a Segment,
    window: Vec<u8>,
    /// The offset of the window in the file.
    window_at: u64,
    /// The offset up to which the file is read. `None` means the length that [`Segment::filled`]
    /// returns.
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

    /// A scanner of the segment's frames below the address `end`. The file may have grown up to
    /// there since this session measured it.
    pub(crate) fn up_to(segment: &'a Segment, end: u64) -> Self {
        Self {
            end: Some(segment.offset(end)),
            ..Self::new(segment)
        }
    }

    /// Return `length` bytes at an address, or fewer if the file ends earlier.
    fn bytes(&mut self, address: u64, length: usize) -> io::Result<&[u8]> {
        let offset = self.segment.offset(address);
        let end = self.window_at + self.window.len() as u64;
        if offset < self.window_at || offset + length as u64 > end {
            // The window is no larger than the rest of the file: zeroing a whole window would take
            // longer than reading a small file.
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

    /// Return the header at an address, if a frame of this store was written there.
    pub(crate) fn header(&mut self, address: u64, seed: Seed) -> io::Result<Option<Header>> {
        Ok(Header::read(self.bytes(address, HEADER)?, seed, address))
    }

    /// Return the validated frame at an address, or what is wrong there.
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

    /// Return the first frame header in `from..to` whose position is not below `position`, and its
    /// address. The frames themselves may be damaged.
    pub(crate) fn next_header(
        &mut self,
        from: u64,
        to: u64,
        position: u64,
        seed: Seed,
    ) -> io::Result<Option<(u64, Header)>> {
        let mut address = from;
        while address < to {
            let skipped = self.bytes_without_magic(address)?;
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

    /// Return the number of bytes from an address to the end of the window that can be skipped
    /// because no frame begins in them; one step at the end of the file.
    fn bytes_without_magic(&mut self, address: u64) -> io::Result<u64> {
        if self.bytes(address, HEADER)?.len() < HEADER {
            return Ok(STEP);
        }
        let at = usize::try_from(self.segment.offset(address) - self.window_at);
        let rest = at.ok().and_then(|at| self.window.get(at..));
        let steps = rest.unwrap_or_default().chunks_exact(ALIGN);
        let skipped = steps.take_while(|step| !Header::begins(step));
        Ok(skipped.count() as u64 * STEP)
    }
}
