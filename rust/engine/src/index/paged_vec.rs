//! An array that grows without moving its items.
//!
//! A `Vec` that doubles copies all its items while readers wait for the index's lock, and needs
//! three times their memory until the copy is done. An array in pages copies no items, and wastes
//! at most the memory of one page.

/// The number of items in a page.
const PAGE: usize = 4096;

/// An array in pages of [`PAGE`] items.
#[derive(Debug)]
pub(super) struct PagedVec<T> {
    pages: Vec<Vec<T>>,
    len: usize,
}

impl<T> Default for PagedVec<T> {
    fn default() -> Self {
        let pages = Vec::new();
        Self { pages, len: 0 }
    }
}

impl<T> PagedVec<T> {
    pub(super) fn push(&mut self, item: T) {
        if self.len.is_multiple_of(PAGE) {
            // The first page starts empty and grows, so that a small store takes little memory.
            // Every later page is allocated whole.
            let capacity = if self.pages.is_empty() { 0 } else { PAGE };
            self.pages.push(Vec::with_capacity(capacity));
        }
        if let Some(page) = self.pages.last_mut() {
            page.push(item);
            self.len += 1;
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn get(&self, i: usize) -> Option<&T> {
        self.pages.get(i / PAGE)?.get(i % PAGE)
    }

    pub(super) fn get_mut(&mut self, i: usize) -> Option<&mut T> {
        self.pages.get_mut(i / PAGE)?.get_mut(i % PAGE)
    }

    pub(super) fn last_mut(&mut self) -> Option<&mut T> {
        self.pages.last_mut()?.last_mut()
    }

    /// Return the number of the first item for which `before` is false, as `slice::partition_point`
    /// does. All items for which `before` is true must precede the others.
    pub(super) fn partition_point(&self, before: impl Fn(&T) -> bool) -> usize {
        let page = self
            .pages
            .partition_point(|page| page.last().is_some_and(&before));
        let within = self
            .pages
            .get(page)
            .map_or(0, |items| items.partition_point(&before));
        (page * PAGE + within).min(self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_paged_vec_returns_what_a_vec_returns(
            len in 0usize..3 * PAGE,
            probe in 0usize..4 * PAGE,
        ) {
            let mut vec = PagedVec::default();
            (0..len).for_each(|i| vec.push(i));
            prop_assert_eq!(vec.len(), len);
            prop_assert_eq!(vec.get(probe).copied(), (probe < len).then_some(probe));
            prop_assert_eq!(vec.partition_point(|i| *i < probe), probe.min(len));
        }
    }
}
