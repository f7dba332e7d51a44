//! Validation of idempotency keys and expectations against one state. This module does no I/O and
//! reads no clock.

use hashbrown::HashMap;

use super::pending::PendingAppend;
use super::prepare::{Prepared, PreparedStream};
use crate::append::{Appended, Expectation};
use crate::error::{ConflictedCategory, ConflictedStream, Error};
use crate::frame::FrameView;
use crate::index::{FrameEntry, Index, MemoryIndex};
use crate::mutex::RwLock;
use crate::names::NameHasher;

/// Versions of streams and categories, and keyed results, of frames that are written but may not be
/// durable yet. Only validation uses them; readers never see them.
#[derive(Debug, Default)]
pub(crate) struct UnsyncedState {
    /// The written streams, and the categories in which these frames create streams. One map is
    /// enough, because no stream and no category have the same hash, and a second map would cost
    /// each append 200 of a commit's 11,500 instructions.
    heads: HashMap<u128, Versioned, foldhash::fast::RandomState>,
    keys: HashMap<u128, KeyedResult, foldhash::fast::RandomState>,
}

/// The version of a stream or a category after the frame that ends at address `end`.
#[derive(Clone, Copy, Debug)]
struct Versioned {
    version: u64,
    end: u64,
}

/// The versions that the written streams of an append have before it, and the streams that it
/// creates.
#[derive(Debug)]
pub(crate) struct BaseVersions {
    /// The version of each written stream.
    pub(crate) streams: Vec<u64>,
    /// The created streams, in the order of the frame.
    pub(crate) created: Vec<CreatedStream>,
}

/// A stream that an append creates.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CreatedStream {
    /// The hash of the stream's category.
    pub(crate) category: u128,
    /// The version of the category after the stream was created.
    pub(crate) version: u64,
}

/// The result of a keyed append whose frame ends at address `end`.
#[derive(Clone, Debug)]
struct KeyedResult {
    digest: u128,
    appended: Appended,
    end: u64,
}

/// The decision on one append.
#[derive(Debug)]
pub(crate) enum Decision {
    /// Write a frame.
    Write,
    /// Write nothing: the append only had expectations, and they hold.
    Checked(Appended),
    /// Write nothing: an append with the same key and content was written and may not be durable
    /// yet.
    Replay(Appended),
    /// Write nothing: the key belongs to the durable frame at this address. The frame has to be
    /// read to compare the content.
    Durable(u64),
    /// Write nothing and return this error.
    Refuse(Error),
}

impl UnsyncedState {
    fn version(&self, index: &dyn Index, stream: u128) -> u64 {
        self.heads
            .get(&stream)
            .map_or_else(|| index.version(stream), |head| head.version)
    }

    /// Return the version of a category.
    ///
    /// The map may have a lower version than the index: when another session creates a stream, its
    /// frame may become durable and indexed before this session validates again, and then the frame
    /// is never noted here. The index never has a frame that the caller must not count yet, because
    /// the caller has the write lock and validates against all written frames. A version never
    /// decreases, so the higher of the two is right.
    fn category_version(&self, index: &dyn Index, category: u128) -> u64 {
        let noted = self.heads.get(&category);
        let indexed = index.category_version(category);
        noted.map_or(indexed, |noted| noted.version.max(indexed))
    }

    /// Record a frame that is about to be written.
    // Inline: the caller may be in another codegen unit, and this runs for each batch or append.
    #[inline]
    pub(crate) fn note(
        &mut self,
        prepared: &Prepared,
        created: &[CreatedStream],
        appended: &Appended,
        end: u64,
    ) {
        // The last stream of a category has the highest version, and replaces the others.
        for CreatedStream { category, version } in created {
            let version = *version;
            self.heads.insert(*category, Versioned { version, end });
        }
        for (stream, (_, version)) in prepared.written().iter().zip(&appended.versions) {
            self.heads.insert(
                stream.hash,
                Versioned {
                    version: *version,
                    end,
                },
            );
        }
        if let Some(key) = &prepared.key {
            let appended = Appended {
                replayed: true,
                ..appended.clone()
            };
            self.keys.insert(
                key.hash,
                KeyedResult {
                    digest: key.digest,
                    appended,
                    end,
                },
            );
        }
    }

    /// Record a frame that another session has written.
    /// The index is locked only if the frame creates streams.
    pub(crate) fn note_frame(
        &mut self,
        frame: &FrameView<'_>,
        entry: &FrameEntry,
        index: &RwLock<MemoryIndex>,
    ) {
        let end = entry.end();
        if !entry.created_categories.is_empty() {
            // A frame records the versions of its streams and not those of categories, so the
            // streams are counted.
            let index = index.read();
            for category in entry.created_categories.as_slice() {
                let version = self.category_version(&*index, *category) + 1;
                self.heads.insert(*category, Versioned { version, end });
            }
        }
        for stream in &entry.streams {
            let version = stream.base_version + u64::from(stream.count);
            self.heads
                .insert(stream.stream_hash, Versioned { version, end });
        }
        if let (Some(hash), Some((_, digest))) = (entry.key_hash, frame.key()) {
            let appended = frame.replayed();
            self.keys.insert(
                hash,
                KeyedResult {
                    digest,
                    appended,
                    end,
                },
            );
        }
    }

    /// Move all entries of `newer` to this state, where they replace older entries.
    pub(crate) fn absorb(&mut self, newer: &mut Self) {
        self.heads.extend(newer.heads.drain());
        self.keys.extend(newer.keys.drain());
    }

    /// Remove the entries of frames that end at or below `durable`, because the index contains
    /// those frames.
    pub(crate) fn forget_durable(&mut self, durable: u64) {
        self.heads.retain(|_, head| head.end > durable);
        self.keys.retain(|_, key| key.end > durable);
    }
}

/// The state that a batch is validated against. A stream or key is looked up in the frames of this
/// batch, then in the written frames, then in the index of durable frames.
#[derive(Debug)]
pub(crate) struct ValidationState<'a> {
    pub(crate) index: &'a dyn Index,
    pub(crate) written: &'a UnsyncedState,
    pub(crate) batch: &'a UnsyncedState,
}

impl ValidationState<'_> {
    fn version(&self, stream: u128) -> u64 {
        match self.batch.heads.get(&stream) {
            Some(head) => head.version,
            None => self.written.version(self.index, stream),
        }
    }

    /// Return the version of a category. The batch has an entry only for a category in which one of
    /// its frames creates a stream, and no later frame has been written.
    fn category_version(&self, category: u128) -> u64 {
        match self.batch.heads.get(&category) {
            Some(head) => head.version,
            None => self.written.category_version(self.index, category),
        }
    }

    /// Return the decision on one append. The key is checked before the expectations: a retry must
    /// get the original result even if its expectations no longer hold.
    pub(crate) fn decide(&self, prepared: &Prepared) -> Decision {
        if let Some(decision) = self.decide_by_key(prepared) {
            return decision;
        }
        let mut failures = self.conflicts(prepared, |expected, actual| !expected.holds(actual));
        let categories = self.failing_categories(prepared);
        let builds_on_accepted = prepared.builds_on.iter().all(PendingAppend::is_accepted);
        if !builds_on_accepted && failures.is_empty() {
            // The versions are right by chance: other events took the place of those of the refused
            // append.
            failures = self.conflicts(prepared, |expected, _| expected != Expectation::Any);
        }
        if !failures.is_empty() || !categories.is_empty() || !builds_on_accepted {
            return Decision::Refuse(Error::VersionConflict {
                failures,
                categories,
            });
        }
        if prepared.is_recorded() {
            return match self.index.nearly_full() {
                Some(full) if !prepared.is_sync_marker() => Decision::Refuse(full.error()),
                _ => Decision::Write,
            };
        }
        Decision::Checked(Appended {
            first_position: None,
            last_position: None,
            versions: Vec::new(),
            replayed: false,
        })
    }

    fn failing_categories(&self, prepared: &Prepared) -> Vec<ConflictedCategory> {
        let expected = prepared.categories();
        let failing = expected.iter().filter_map(|category| {
            let actual = self.category_version(category.hash);
            (!category.expectation.holds(actual)).then(|| ConflictedCategory {
                category: category.name.to_string(),
                expected: category.expectation,
                actual,
            })
        });
        failing.collect()
    }

    /// Return the streams whose expected and actual versions are selected.
    fn conflicts(
        &self,
        prepared: &Prepared,
        is_conflict: impl Fn(Expectation, u64) -> bool,
    ) -> Vec<ConflictedStream> {
        let conflict = |stream: &PreparedStream| {
            let actual = self.version(stream.hash);
            is_conflict(stream.expectation, actual).then(|| ConflictedStream {
                stream: stream.name.to_string(),
                expected: stream.expectation,
                actual,
            })
        };
        prepared.streams.iter().filter_map(conflict).collect()
    }

    fn decide_by_key(&self, prepared: &Prepared) -> Option<Decision> {
        let key = prepared.key.as_ref()?;
        let pending = self
            .batch
            .keys
            .get(&key.hash)
            .or_else(|| self.written.keys.get(&key.hash));
        match pending {
            Some(earlier) if earlier.digest == key.digest => {
                Some(Decision::Replay(earlier.appended.clone()))
            }
            Some(_) => Some(Decision::Refuse(Error::IdempotencyMismatch {
                key: key.text.to_string(),
            })),
            None => self.index.keyed_frame(key.hash).map(Decision::Durable),
        }
    }

    /// Return the versions of the written streams before this append, and the streams that it
    /// creates.
    pub(crate) fn base_versions(&self, prepared: &Prepared, hasher: &NameHasher) -> BaseVersions {
        let streams: Vec<_> = prepared
            .written()
            .iter()
            .map(|stream| self.version(stream.hash))
            .collect();
        let created = if streams.contains(&0) {
            self.created(prepared, &streams, hasher)
        } else {
            Vec::new()
        };
        BaseVersions { streams, created }
    }

    /// Return the streams that an append creates. The category of a stream is hashed here and not
    /// in the caller's thread, because most appends create no stream.
    fn created(
        &self,
        prepared: &Prepared,
        streams: &[u64],
        hasher: &NameHasher,
    ) -> Vec<CreatedStream> {
        let mut created: Vec<CreatedStream> = Vec::new();
        // The versions of all categories but the last one. So the map allocates nothing for an
        // append that creates streams of one category.
        let mut earlier_categories: HashMap<u128, u64, foldhash::fast::RandomState> =
            HashMap::default();
        for (stream, base) in prepared.written().iter().zip(streams) {
            if *base > 0 {
                continue;
            }
            let category = hasher.category_of(&stream.name);
            let before = match created.last() {
                Some(last) if last.category == category => last.version,
                last => {
                    if let Some(last) = last {
                        earlier_categories.insert(last.category, last.version);
                    }
                    let earlier = earlier_categories.get(&category).copied();
                    earlier.unwrap_or_else(|| self.category_version(category))
                }
            };
            created.push(CreatedStream {
                category,
                version: before + 1,
            });
        }
        created
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::append::{Append, EventInput};
    use crate::commit::prepare;
    use crate::index::MemoryIndex;

    fn decision(index: &MemoryIndex, append: &Append<'_>) -> Decision {
        let nothing = UnsyncedState::default();
        let state = ValidationState {
            index,
            written: &nothing,
            batch: &nothing,
        };
        state.decide(&prepare(append).unwrap())
    }

    #[test]
    fn a_nearly_full_index_refuses_writes_and_still_checks_expectations() {
        let event = EventInput {
            stream: "a",
            event_type: "happened",
            event_id: None,
            metadata: b"",
            library_metadata: b"",
            data: b"",
            content: None,
        };
        let written = Append {
            events: &[event],
            ..Append::default()
        };
        let checked = Append {
            expectations: &[("a", Expectation::NoStream)],
            ..Append::default()
        };
        let roomy = MemoryIndex::limited(64, 64);
        assert!(matches!(decision(&roomy, &written), Decision::Write));
        for full in [MemoryIndex::limited(0, 64), MemoryIndex::limited(64, 0)] {
            let refused = decision(&full, &written);
            let Decision::Refuse(Error::LimitExceeded { .. }) = refused else {
                panic!("{refused:?}");
            };
            assert!(matches!(decision(&full, &checked), Decision::Checked(_)));
        }
    }
}
