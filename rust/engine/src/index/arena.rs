//! An arena of byte blocks that are allocated once and never freed.
//!
//! The blocks are in pages that never move, so an allocation never copies earlier blocks while
//! readers wait. A block is identified by 32 bits instead of a pointer, which halves the size of
//! the links between blocks.

use crate::bytes::put;

/// The alignment of blocks in bytes, and the unit of a [`BlockOffset`].
const UNIT: usize = 4;
/// Bytes of an arena page. A block does not span pages.
const PAGE: usize = 256 << 10;
const PAGE_UNITS: usize = PAGE / UNIT;

/// The offset of a block from the start of the arena, in units.
pub(super) type BlockOffset = u32;

/// The number of pages that a [`BlockOffset`] can address: 16 GiB.
const MAX_PAGES: usize = 1 << (BlockOffset::BITS - PAGE_UNITS.ilog2());

/// All blocks.
#[derive(Debug)]
pub(super) struct Arena {
    pages: Vec<Vec<u8>>,
    max_pages: usize,
}

impl Default for Arena {
    fn default() -> Self {
        Self::limited(MAX_PAGES)
    }
}

impl Arena {
    /// An empty arena of at most `max_pages` pages.
    pub(super) fn limited(max_pages: usize) -> Self {
        Self {
            pages: Vec::new(),
            max_pages: max_pages.min(MAX_PAGES),
        }
    }

    /// Allocate a block of zeros; `None` when all pages are in use.
    pub(super) fn allocate(&mut self, bytes: usize) -> Option<BlockOffset> {
        let bytes = bytes.next_multiple_of(UNIT);
        let has_room = |page: &Vec<u8>| page.len() + bytes <= PAGE;
        if !self.pages.last().is_some_and(has_room) {
            if self.pages.len() >= self.max_pages {
                return None;
            }
            // The first page starts empty and grows, so that a small store takes little memory.
            // Every later page is allocated whole, so that no page with blocks ever moves.
            let capacity = if self.pages.is_empty() { 0 } else { PAGE };
            self.pages.push(Vec::with_capacity(capacity));
        }
        let number = self.pages.len() - 1;
        let page = self.pages.last_mut()?;
        let block = BlockOffset::try_from(number * PAGE_UNITS + page.len() / UNIT).ok()?;
        page.resize(page.len() + bytes, 0);
        Some(block)
    }

    /// Whether less than a 64th of the pages is free. From then on new commits are refused, so that
    /// all commits that are already written can be indexed.
    pub(super) fn is_nearly_full(&self) -> bool {
        self.pages.len() >= self.max_pages - self.max_pages / 64
    }

    /// The bytes from a block's beginning to the end of its page.
    pub(super) fn bytes(&self, block: BlockOffset) -> &[u8] {
        let (page, offset) = page_and_offset(block);
        self.pages
            .get(page)
            .and_then(|page| page.get(offset..))
            .unwrap_or_default()
    }

    /// Overwrite bytes of a block.
    pub(super) fn put(&mut self, block: BlockOffset, offset: usize, bytes: &[u8]) {
        let (page, begin) = page_and_offset(block);
        if let Some(page) = self.pages.get_mut(page) {
            put(page, begin + offset, bytes);
        }
    }
}

/// The number of a block's page, and the byte offset in that page.
fn page_and_offset(block: BlockOffset) -> (usize, usize) {
    let unit = block as usize;
    (unit / PAGE_UNITS, unit % PAGE_UNITS * UNIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_do_not_overlap() {
        let mut arena = Arena::default();
        let sizes = [16, 48, 4096, 8, 24];
        let blocks: Vec<_> = (0..2000usize)
            .map(|i| (arena.allocate(sizes[i % 5]).unwrap(), sizes[i % 5], i))
            .collect();
        for (block, size, i) in &blocks {
            arena.put(*block, 0, &vec![u8::try_from(i % 251).unwrap(); *size]);
        }
        for (block, size, i) in blocks {
            assert!(
                arena.bytes(block)[..size]
                    .iter()
                    .all(|b| usize::from(*b) == i % 251)
            );
        }
    }
}
