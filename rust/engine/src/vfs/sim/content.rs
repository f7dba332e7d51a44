//! The bytes of one file: sparse, grown without copying, and cheap to copy whole.

use std::fmt;
use std::sync::Arc;

/// The unit of memory in bytes. A chunk that was never written takes no memory, and copies of a
/// file share the chunks that neither has changed since.
const CHUNK: usize = 64 * 1024;
const ZEROS: [u8; 4096] = [0; 4096];

/// The unit in bytes that a disk writes as a whole.
pub(super) const SECTOR: usize = 512;
pub(super) type Sector = [u8; SECTOR];

/// The maximum size of a file.
pub(super) const LARGEST_FILE: u64 = 1 << 36;

/// The bytes of a file. The bytes of the last chunk after `len` are zero, so that no old bytes
/// appear when the file grows.
#[derive(Clone, Default)]
pub(super) struct Content {
    chunks: Vec<Option<Arc<Vec<u8>>>>,
    len: u64,
}

impl Content {
    pub(super) fn from_bytes(bytes: &[u8]) -> Self {
        let mut content = Self::default();
        content.write(bytes, 0);
        content
    }

    /// Write at `offset`, growing the file as needed.
    pub(super) fn write(&mut self, mut bytes: &[u8], mut offset: u64) {
        while !bytes.is_empty() {
            let (index, start) = locate(offset);
            let (now, later) = bytes.split_at(bytes.len().min(CHUNK - start));
            self.write_chunk(index, start, now);
            bytes = later;
            offset += now.len() as u64;
        }
        self.len = self.len.max(offset);
    }

    /// Truncate the file, or extend it with zeros.
    pub(super) fn set_len(&mut self, len: u64) {
        let (index, start) = locate(len);
        self.chunks.truncate(index + 1);
        if let Some(Some(last)) = self.chunks.get_mut(index) {
            Arc::make_mut(last).split_at_mut(start).1.fill(0);
        }
        self.len = len;
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Read up to the end of the file. Return the number of bytes read.
    pub(super) fn read(&self, buf: &mut [u8], offset: u64) -> usize {
        let left = usize::try_from(self.len.saturating_sub(offset)).unwrap_or(usize::MAX);
        let buf = buf.split_at_mut(left.min(buf.len())).0;
        self.fill(buf, offset);
        buf.len()
    }

    /// The sector with this number; zeros past the end of the file.
    pub(super) fn sector(&self, number: u64) -> Sector {
        let mut sector = [0; SECTOR];
        self.fill(&mut sector, number * SECTOR as u64);
        sector
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(self.len).unwrap_or(usize::MAX)];
        self.fill(&mut bytes, 0);
        bytes
    }

    fn fill(&self, mut buf: &mut [u8], mut offset: u64) {
        while !buf.is_empty() {
            let (index, start) = locate(offset);
            let (now, later) = buf.split_at_mut(buf.len().min(CHUNK - start));
            match self.chunks.get(index) {
                Some(Some(chunk)) => {
                    now.copy_from_slice(chunk.split_at(start).1.split_at(now.len()).0);
                }
                _ => now.fill(0),
            }
            offset += now.len() as u64;
            buf = later;
        }
    }

    fn write_chunk(&mut self, index: usize, start: usize, bytes: &[u8]) {
        if self.chunks.len() <= index {
            self.chunks.resize(index + 1, None);
        }
        #[expect(clippy::indexing_slicing, reason = "made long enough just above")]
        let slot = &mut self.chunks[index];
        if slot.is_none() && is_zero(bytes) {
            return;
        }
        let chunk = Arc::make_mut(slot.get_or_insert_with(|| Arc::new(vec![0; CHUNK])));
        let target = chunk.split_at_mut(start).1.split_at_mut(bytes.len()).0;
        target.copy_from_slice(bytes);
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Content")
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}

/// The number of the chunk that contains `offset`, and the offset within it.
fn locate(offset: u64) -> (usize, usize) {
    let chunk = CHUNK as u64;
    let within = usize::try_from(offset % chunk).unwrap_or_default();
    (
        usize::try_from(offset / chunk).unwrap_or(usize::MAX),
        within,
    )
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes
        .chunks(ZEROS.len())
        .all(|part| ZEROS.starts_with(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hole_reads_as_zeros() {
        let mut content = Content::default();
        content.write(b"end", 3 * CHUNK as u64 - 1);
        let bytes = content.to_bytes();
        assert_eq!(content.len(), 3 * CHUNK as u64 + 2);
        assert!(bytes.ends_with(b"\0end"));
        assert_eq!(bytes.iter().filter(|byte| **byte != 0).count(), 3);
    }

    #[test]
    fn zeros_over_nothing_take_no_memory() {
        let mut content = Content::default();
        content.write(&vec![0; 4 * CHUNK], 7);
        assert_eq!(content.len(), 4 * CHUNK as u64 + 7);
        assert!(content.chunks.iter().all(Option::is_none));
    }

    #[test]
    fn zeros_over_bytes_clear_them() {
        let mut content = Content::from_bytes(&[7; 100]);
        content.write(&[0; 50], 25);
        assert_eq!(
            content.to_bytes(),
            [[7; 25], [0; 25], [0; 25], [7; 25]].concat()
        );
    }

    #[test]
    fn a_truncated_file_is_extended_with_zeros() {
        let mut content = Content::from_bytes(&vec![7; 2 * CHUNK]);
        content.set_len(10);
        content.set_len(2 * CHUNK as u64);
        let (kept, new) = (&content.to_bytes()[..10], &content.to_bytes()[10..]);
        assert!(kept.iter().all(|byte| *byte == 7) && is_zero(new));
    }

    #[test]
    fn a_read_ends_with_the_file() {
        let content = Content::from_bytes(b"0123456789");
        let mut buf = [9; 8];
        assert_eq!(content.read(&mut buf, 6), 4);
        assert_eq!(&buf, b"6789\x09\x09\x09\x09");
        assert_eq!(content.read(&mut buf, 10), 0);
        assert_eq!(content.read(&mut buf, u64::MAX), 0);
    }

    #[test]
    fn a_copy_does_not_change_with_its_original() {
        let mut content = Content::from_bytes(b"one");
        let copy = content.clone();
        content.write(b"two", 0);
        assert_eq!(copy.to_bytes(), b"one");
    }
}
