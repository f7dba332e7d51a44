//! Blocks of bytes that are made once and never given back, in pages that never move.

use crate::bytes::put;

/// Blocks begin at multiples of this, and are numbered by it.
const UNIT: usize = 4;
/// Bytes of a page. A block does not span pages.
const PAGE: usize = 256 << 10;
const PAGE_UNITS: usize = PAGE / UNIT;

/// Where a block begins, in units.
pub(super) type BlockAt = u32;

/// Pages whose units a [`BlockAt`] can name: 16 GiB.
const PAGES: usize = 1 << (BlockAt::BITS - PAGE_UNITS.ilog2());

/// All blocks.
#[derive(Debug)]
pub(super) struct Arena {
    pages: Vec<Vec<u8>>,
    limit: usize,
}

impl Default for Arena {
    fn default() -> Self {
        Self::limited(PAGES)
    }
}

impl Arena {
    /// An arena of this many pages, at most.
    pub(super) fn limited(pages: usize) -> Self {
        Self {
            pages: Vec::new(),
            limit: pages.min(PAGES),
        }
    }

    /// Makes a block of zeros; `None` when all pages are in use.
    pub(super) fn make(&mut self, bytes: usize) -> Option<BlockAt> {
        let bytes = bytes.next_multiple_of(UNIT);
        let has_room = |page: &Vec<u8>| page.len() + bytes <= PAGE;
        if !self.pages.last().is_some_and(has_room) {
            if self.pages.len() >= self.limit {
                return None;
            }
            // A small store's only page grows with it; every later one is made whole.
            let room = if self.pages.is_empty() { 0 } else { PAGE };
            self.pages.push(Vec::with_capacity(room));
        }
        let number = self.pages.len() - 1;
        let page = self.pages.last_mut()?;
        let at = BlockAt::try_from(number * PAGE_UNITS + page.len() / UNIT).ok()?;
        page.resize(page.len() + bytes, 0);
        Some(at)
    }

    /// Whether so few pages are left that nothing new should be begun.
    pub(super) fn is_nearly_full(&self) -> bool {
        self.pages.len() >= self.limit - self.limit / 64
    }

    /// The bytes from a block's beginning to the end of its page.
    pub(super) fn bytes(&self, at: BlockAt) -> &[u8] {
        let (page, offset) = place(at);
        self.pages
            .get(page)
            .and_then(|page| page.get(offset..))
            .unwrap_or_default()
    }

    /// Overwrites bytes of a block.
    pub(super) fn put(&mut self, at: BlockAt, offset: usize, bytes: &[u8]) {
        let (page, begin) = place(at);
        if let Some(page) = self.pages.get_mut(page) {
            put(page, begin + offset, bytes);
        }
    }
}

fn place(at: BlockAt) -> (usize, usize) {
    let unit = at as usize;
    (unit / PAGE_UNITS, unit % PAGE_UNITS * UNIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_keep_apart() {
        let mut arena = Arena::default();
        let sizes = [16, 48, 4096, 8, 24];
        let blocks: Vec<_> = (0..2000usize)
            .map(|i| (arena.make(sizes[i % 5]).unwrap(), sizes[i % 5], i))
            .collect();
        for (at, size, i) in &blocks {
            arena.put(*at, 0, &vec![u8::try_from(i % 251).unwrap(); *size]);
        }
        for (at, size, i) in blocks {
            assert!(
                arena.bytes(at)[..size]
                    .iter()
                    .all(|b| usize::from(*b) == i % 251)
            );
        }
    }
}
