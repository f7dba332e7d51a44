//! An array that grows without moving what it holds.
//!
//! A `Vec` that doubles copies all it has while readers wait, and for a moment needs three
//! times the room. Pages cost at most one page more than their items.

/// Items of a page.
const PAGE: usize = 4096;

/// Items by number, in pages of [`PAGE`].
#[derive(Debug)]
pub(super) struct Paged<T> {
    pages: Vec<Vec<T>>,
    len: usize,
}

impl<T> Default for Paged<T> {
    fn default() -> Self {
        let pages = Vec::new();
        Self { pages, len: 0 }
    }
}

impl<T> Paged<T> {
    pub(super) fn push(&mut self, item: T) {
        if self.len.is_multiple_of(PAGE) {
            // A small store's only page grows with it; every later one is made whole.
            let room = if self.pages.is_empty() { 0 } else { PAGE };
            self.pages.push(Vec::with_capacity(room));
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

    /// The number of the first item for which `before` is false; those for which it is true
    /// stand before all others.
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
        fn pages_answer_as_one_array_does(len in 0usize..3 * PAGE, probe in 0usize..4 * PAGE) {
            let mut paged = Paged::default();
            (0..len).for_each(|i| paged.push(i));
            prop_assert_eq!(paged.len(), len);
            prop_assert_eq!(paged.get(probe).copied(), (probe < len).then_some(probe));
            prop_assert_eq!(paged.partition_point(|i| *i < probe), probe.min(len));
        }
    }
}
