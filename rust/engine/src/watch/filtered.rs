//! Waiters for events that match a filter, indexed by the streams and types that their filters
//! name.

use std::borrow::Borrow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::Hash;
use std::sync::Arc;

use crate::chunk::Sources;
use crate::filter::OwnedFilter;
use crate::names;

/// Receives the position up to which no event matches.
pub(super) type Wake = Box<dyn FnOnce(u64) + Send>;
type Ids = HashSet<u64>;

/// One registered waiter.
pub(super) struct Waiter {
    /// Only events after this position can match.
    pub(super) position: u64,
    pub(super) filter: Arc<OwnedFilter>,
    pub(super) wake: Wake,
}

impl Waiter {
    /// Call the wake-up. No event after the waiter's position and up to `passed` matches its
    /// filter.
    pub(super) fn wake(self, passed: u64) {
        (self.wake)(passed.max(self.position));
    }
}

/// The waiters with selective filters, indexed by type and stream.
///
/// Invariant: no event after a waiter's position and up to `scanned` matches its filter. A waiter
/// registers only at or beyond the head, `scanned` never passes the head, and `scanned` moves only
/// after the matching waiters have been removed.
#[derive(Default)]
pub(super) struct FilteredWaiters {
    waiters: HashMap<u64, Waiter>,
    any_type: Scopes,
    by_type: HashMap<String, Scopes>,
    scanned: u64,
}

/// Waiters by stream. If a filter has several conditions on the stream, the most selective one
/// determines the index. A lookup that finds a waiter compares its whole filter.
#[derive(Default)]
struct Scopes {
    by_stream: HashMap<String, Ids>,
    by_category: HashMap<String, Ids>,
    /// By the length of the prefix first, so that a stream name is looked up once per length in
    /// use.
    by_prefix: BTreeMap<usize, HashMap<String, Ids>>,
    any_stream: Ids,
}

/// Remove an id, and the entry if it was the last one.
fn remove_id<K, Q>(ids: &mut HashMap<K, Ids>, key: &Q, id: u64)
where
    K: Borrow<Q> + Hash + Eq,
    Q: Hash + Eq + ?Sized,
{
    if let Some(of_key) = ids.get_mut(key) {
        of_key.remove(&id);
        if of_key.is_empty() {
            ids.remove(key);
        }
    }
}

impl Scopes {
    fn insert(&mut self, filter: &OwnedFilter, id: u64) {
        let ids = if let Some(stream) = &filter.stream {
            self.by_stream.entry(stream.clone()).or_default()
        } else if let Some(category) = &filter.category {
            self.by_category.entry(category.clone()).or_default()
        } else if let Some(prefix) = &filter.prefix {
            let of_length = self.by_prefix.entry(prefix.len()).or_default();
            of_length.entry(prefix.clone()).or_default()
        } else {
            &mut self.any_stream
        };
        ids.insert(id);
    }

    fn remove(&mut self, filter: &OwnedFilter, id: u64) {
        if let Some(stream) = &filter.stream {
            remove_id(&mut self.by_stream, stream.as_str(), id);
        } else if let Some(category) = &filter.category {
            remove_id(&mut self.by_category, category.as_str(), id);
        } else if let Some(prefix) = &filter.prefix {
            if let Some(of_length) = self.by_prefix.get_mut(&prefix.len()) {
                remove_id(of_length, prefix.as_str(), id);
                if of_length.is_empty() {
                    self.by_prefix.remove(&prefix.len());
                }
            }
        } else {
            self.any_stream.remove(&id);
        }
    }

    fn is_empty(&self) -> bool {
        self.by_stream.is_empty()
            && self.by_category.is_empty()
            && self.by_prefix.is_empty()
            && self.any_stream.is_empty()
    }

    /// Return the waiters that an event of this stream may match.
    fn candidates(&self, stream: &str) -> impl Iterator<Item = u64> {
        let prefixes = self.by_prefix.iter().filter_map(|(length, ids)| {
            // A prefix of this length only matches if it ends at a character boundary.
            ids.get(stream.get(..*length)?)
        });
        [
            self.by_stream.get(stream),
            self.by_category.get(names::category(stream)),
            Some(&self.any_stream),
        ]
        .into_iter()
        .flatten()
        .chain(prefixes)
        .flatten()
        .copied()
    }
}

impl FilteredWaiters {
    pub(super) fn is_empty(&self) -> bool {
        self.waiters.is_empty()
    }

    /// The position after which the next scan begins.
    pub(super) fn scanned(&self) -> u64 {
        self.scanned
    }

    /// Add a waiter. Its position is not below `head`, the current head.
    pub(super) fn insert(&mut self, id: u64, waiter: Waiter, head: u64) {
        if self.waiters.is_empty() {
            // No waiter needs a scan of the events up to the head.
            self.scanned = self.scanned.max(head);
        }
        let filter = &waiter.filter;
        match &filter.types {
            None => self.any_type.insert(filter, id),
            Some(types) => {
                for event_type in types {
                    let of_type = self.by_type.entry(event_type.clone()).or_default();
                    of_type.insert(filter, id);
                }
            }
        }
        self.waiters.insert(id, waiter);
    }

    pub(super) fn remove(&mut self, id: u64) -> Option<Waiter> {
        let waiter = self.waiters.remove(&id)?;
        let filter = &waiter.filter;
        match &filter.types {
            None => self.any_type.remove(filter, id),
            Some(types) => {
                for event_type in types {
                    if let Some(of_type) = self.by_type.get_mut(event_type) {
                        of_type.remove(filter, id);
                        if of_type.is_empty() {
                            self.by_type.remove(event_type);
                        }
                    }
                }
            }
        }
        Some(waiter)
    }

    /// Return the position up to which no event matches the filter of this waiter.
    pub(super) fn passed(&self, id: u64) -> Option<u64> {
        let waiter = self.waiters.get(&id)?;
        Some(waiter.position.max(self.scanned))
    }

    /// Remove and return the waiters whose filters match an event after their position. `sources`
    /// contains all events up to `head` from an earlier value of [`Self::scanned`].
    pub(super) fn take_matching(&mut self, sources: &Sources<'_>, head: u64) -> Vec<Waiter> {
        let mut matching = Vec::new();
        for (&(stream, event_type), &last) in sources {
            let of_type = self.by_type.get(event_type);
            for scopes in [Some(&self.any_type), of_type].into_iter().flatten() {
                matching.extend(scopes.candidates(stream).filter(|id| {
                    self.waiters.get(id).is_some_and(|waiter| {
                        waiter.position < last && waiter.filter.matches(stream, event_type)
                    })
                }));
            }
        }
        // Another source may have matched the same waiter.
        let removed = matching.into_iter().filter_map(|id| self.remove(id));
        let removed = removed.collect();
        self.scanned = self.scanned.max(head);
        removed
    }

    /// Remove and return the waiters with a position below `head`, without regard to their filters.
    pub(super) fn take_before(&mut self, head: u64) -> Vec<Waiter> {
        let before = self.waiters.iter();
        let before: Vec<u64> = before
            .filter_map(|(id, waiter)| (waiter.position < head).then_some(*id))
            .collect();
        let removed = before.into_iter().filter_map(|id| self.remove(id));
        let removed = removed.collect();
        self.scanned = self.scanned.max(head);
        removed
    }

    /// Remove and return all waiters.
    pub(super) fn take_all(&mut self) -> Vec<Waiter> {
        self.any_type = Scopes::default();
        self.by_type = HashMap::new();
        self.waiters.drain().map(|(_, waiter)| waiter).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails loudly")]

    use std::sync::Mutex;

    use super::*;

    type Woken = Arc<Mutex<Vec<(u64, u64)>>>;

    fn waiter(id: u64, position: u64, filter: OwnedFilter, woken: &Woken) -> Waiter {
        let woken = Arc::clone(woken);
        Waiter {
            position,
            filter: Arc::new(filter),
            wake: Box::new(move |passed| woken.lock().unwrap().push((id, passed))),
        }
    }

    fn filters() -> Vec<OwnedFilter> {
        let streams = [None, Some("order-1"), Some("order"), Some("$lease-a")];
        let prefixes = [None, Some(""), Some("ord"), Some("order-1"), Some("é")];
        let categories = [None, Some("order"), Some("é"), Some("")];
        let types = [None, Some(&[][..]), Some(&["a"]), Some(&["a", "b", "b"])];
        let mut filters = Vec::new();
        for stream in streams {
            for prefix in prefixes {
                for category in categories {
                    for types in types {
                        for hides_system in [false, true] {
                            filters.push(OwnedFilter {
                                stream: stream.map(str::to_owned),
                                prefix: prefix.map(str::to_owned),
                                category: category.map(str::to_owned),
                                types: types
                                    .map(|types| types.iter().map(|t| (*t).to_owned()).collect()),
                                hides_system,
                            });
                        }
                    }
                }
            }
        }
        filters
    }

    const STREAMS: [&str; 7] = [
        "order-1", "order-10", "order", "$lease-a", "é-1", "è-1", "-x",
    ];

    #[test]
    fn a_scan_removes_exactly_the_waiters_whose_filter_matches() {
        let filters = filters();
        for stream in STREAMS {
            for event_type in ["a", "b", "c"] {
                let (mut all, woken) = (FilteredWaiters::default(), Woken::default());
                for (id, filter) in filters.iter().enumerate() {
                    let id = id as u64;
                    all.insert(id, waiter(id, 5, filter.clone(), &woken), 5);
                }
                let sources = Sources::from([((stream, event_type), 7)]);
                for waiter in all.take_matching(&sources, 8) {
                    waiter.wake(0);
                }
                let mut woken_ids = std::mem::take(&mut *woken.lock().unwrap());
                woken_ids.sort_unstable();
                let expected: Vec<(u64, u64)> = filters
                    .iter()
                    .enumerate()
                    .filter(|(_, filter)| {
                        filter.lend(|filter| {
                            filter.wants_stream(stream) && filter.wants_type(event_type)
                        })
                    })
                    .map(|(id, _)| (id as u64, 5))
                    .collect();
                assert_eq!(woken_ids, expected, "{stream} {event_type}");
                // The indexes contain the remaining waiters and no others.
                let waiting: Vec<u64> = all.waiters.keys().copied().collect();
                assert_eq!(waiting.len() + woken_ids.len(), filters.len());
                for id in waiting {
                    assert_eq!(all.passed(id), Some(8));
                    all.remove(id).unwrap();
                    assert_eq!(all.passed(id), None);
                }
                assert!(all.any_type.is_empty() && all.by_type.is_empty());
            }
        }
    }

    #[test]
    fn an_event_at_or_below_its_position_does_not_wake_a_waiter() {
        let (mut all, woken) = (FilteredWaiters::default(), Woken::default());
        let category = OwnedFilter {
            category: Some("order".to_owned()),
            ..OwnedFilter::default()
        };
        all.insert(1, waiter(1, 7, category, &woken), 7);
        let sources = Sources::from([(("order-1", "a"), 7)]);
        assert!(all.take_matching(&sources, 7).is_empty());
        assert!(all.take_before(7).is_empty());
        assert_eq!(all.take_before(8).len(), 1);
    }

    #[test]
    fn a_scan_that_ends_late_decreases_no_position_of_a_waiter() {
        let (mut all, woken) = (FilteredWaiters::default(), Woken::default());
        let category = OwnedFilter {
            category: Some("order".to_owned()),
            ..OwnedFilter::default()
        };
        all.insert(1, waiter(1, 5, category, &woken), 5);
        assert!(all.take_matching(&Sources::new(), 30).is_empty());
        assert!(all.take_matching(&Sources::new(), 20).is_empty());
        assert_eq!(all.passed(1), Some(30));
    }
}
