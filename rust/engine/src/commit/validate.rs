//! Keys and expectations against one state. No I/O, no clock.

use hashbrown::HashMap;

use super::prepare::Prepared;
use crate::append::Appended;
use crate::error::{ConflictedStream, Error};
use crate::frame::FrameView;
use crate::index::{FrameEntry, Index};

/// What is written but perhaps not yet durable: seen by the commit's checks only.
#[derive(Debug, Default)]
pub(crate) struct Overlay {
    heads: HashMap<u128, Versioned, foldhash::fast::RandomState>,
    keys: HashMap<u128, KeyedResult, foldhash::fast::RandomState>,
}

/// A stream's version after the frame that ends at `end`.
#[derive(Clone, Copy, Debug)]
struct Versioned {
    version: u64,
    end: u64,
}

/// The result that a key stands for, in the frame that ends at `end`.
#[derive(Clone, Debug)]
struct KeyedResult {
    digest: u128,
    appended: Appended,
    end: u64,
}

/// What becomes of one append.
#[derive(Debug)]
pub(crate) enum Decision {
    /// Write a frame.
    Write,
    /// Nothing to write: the checks held.
    Checked(Appended),
    /// The key is known from a commit that is not durable yet, with the same content.
    Replay(Appended),
    /// The key belongs to the durable frame at this address, which has to be read.
    Known(u64),
    /// Refused.
    Refuse(Error),
}

impl Overlay {
    fn version(&self, index: &dyn Index, stream: u128) -> u64 {
        self.heads
            .get(&stream)
            .map_or_else(|| index.version(stream), |head| head.version)
    }

    /// Notes a frame that is about to be written.
    pub(crate) fn note(&mut self, prepared: &Prepared, appended: &Appended, end: u64) {
        for (stream, (_, version)) in prepared.written().iter().zip(&appended.versions) {
            self.heads.insert(
                stream.key,
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

    /// Notes a frame that another process has written.
    pub(crate) fn note_frame(&mut self, frame: &FrameView<'_>, entry: &FrameEntry) {
        let end = entry.end();
        for stream in &entry.streams {
            let version = stream.base_version + u64::from(stream.count);
            self.heads.insert(stream.key, Versioned { version, end });
        }
        if let (Some(hash), Some((_, digest))) = (entry.key, frame.key()) {
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

    /// Takes over all that `newer` notes.
    pub(crate) fn absorb(&mut self, newer: &mut Self) {
        self.heads.extend(newer.heads.drain());
        self.keys.extend(newer.keys.drain());
    }

    /// Forgets what the durable index knows by now.
    pub(crate) fn forget_durable(&mut self, durable: u64) {
        self.heads.retain(|_, head| head.end > durable);
        self.keys.retain(|_, key| key.end > durable);
    }
}

/// The state that one group is judged against: durable, written, and noted in this group.
#[derive(Debug)]
pub(crate) struct State<'a> {
    pub(crate) index: &'a dyn Index,
    pub(crate) written: &'a Overlay,
    pub(crate) group: &'a Overlay,
}

impl State<'_> {
    fn version(&self, stream: u128) -> u64 {
        match self.group.heads.get(&stream) {
            Some(head) => head.version,
            None => self.written.version(self.index, stream),
        }
    }

    /// Keys come before expectations: a replay is answered however much has happened since.
    pub(crate) fn decide(&self, prepared: &Prepared) -> Decision {
        if let Some(decision) = self.decide_by_key(prepared) {
            return decision;
        }
        let failures: Vec<_> = prepared
            .streams
            .iter()
            .filter_map(|stream| {
                let actual = self.version(stream.key);
                (!stream.expectation.holds(actual)).then(|| ConflictedStream {
                    stream: stream.name.to_string(),
                    expected: stream.expectation,
                    actual,
                })
            })
            .collect();
        if !failures.is_empty() {
            return Decision::Refuse(Error::VersionConflict { failures });
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

    fn decide_by_key(&self, prepared: &Prepared) -> Option<Decision> {
        let key = prepared.key.as_ref()?;
        let pending = self
            .group
            .keys
            .get(&key.hash)
            .or_else(|| self.written.keys.get(&key.hash));
        match pending {
            Some(known) if known.digest == key.digest => {
                Some(Decision::Replay(known.appended.clone()))
            }
            Some(_) => Some(Decision::Refuse(Error::IdempotencyMismatch {
                key: key.text.to_string(),
            })),
            None => self.index.keyed_frame(key.hash).map(Decision::Known),
        }
    }

    /// The versions that the written streams have before this commit.
    pub(crate) fn base_versions(&self, prepared: &Prepared) -> Vec<u64> {
        prepared
            .written()
            .iter()
            .map(|stream| self.version(stream.key))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::append::{Append, EventInput, Expectation};
    use crate::commit::prepare;
    use crate::index::MemoryIndex;

    fn decision(index: &MemoryIndex, append: &Append<'_>) -> Decision {
        let nothing = Overlay::default();
        let state = State {
            index,
            written: &nothing,
            group: &nothing,
        };
        state.decide(&prepare(append).unwrap())
    }

    #[test]
    fn an_index_that_is_nearly_full_takes_no_more_but_is_still_checked() {
        let event = EventInput {
            stream: "a",
            event_type: "happened",
            event_id: None,
            metadata: b"",
            library_metadata: b"",
            data: b"",
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
