//! Prepare an append without any lock: validate the arguments, encode the frame, hash the content.

use hashbrown::HashMap;

use super::append_limits;
use super::pending::PendingAppend;
use crate::append::{Append, EventInput, Expectation, append_digest, content_digest};
use crate::error::{Error, Result};
use crate::frame::{self, Encoder, EncoderEvent, FrameBytes};
use crate::names::{self, NameHasher};
use crate::uuid7::Uuids;

/// A validated, encoded and hashed append that owns its bytes.
#[derive(Debug)]
pub struct Prepared {
    pub(crate) frame: FrameBytes,
    /// The written streams in the order of the frame, then the streams that are only checked.
    pub(crate) streams: Vec<PreparedStream>,
    /// Number of written streams, which are first in `streams`.
    pub(crate) written: usize,
    pub(crate) events: u64,
    /// The categories that are checked. A pointer, because few appends check a category, and each
    /// append is moved several times.
    categories: Option<Box<PreparedCategories>>,
    pub(crate) key: Option<PreparedKey>,
    /// For each written stream in turn, the ordinals of its events within the frame.
    pub(crate) ordinals: Vec<u32>,
    /// The id of the reservation that the append is made under, or 0 for none.
    pub(crate) reservation: u64,
    /// What other appends have to know of this one, if any of them may build on it.
    pub(crate) pending: Option<PendingAppend>,
    /// The appends that this one builds on.
    pub(crate) builds_on: Vec<PendingAppend>,
    event_ids: Vec<[u8; 16]>,
}

#[derive(Debug)]
pub(crate) struct PreparedStream {
    pub(crate) name: Box<str>,
    pub(crate) hash: u128,
    pub(crate) count: u32,
    pub(crate) expectation: Expectation,
}

#[derive(Debug)]
struct PreparedCategories(Vec<PreparedCategory>);

#[derive(Debug)]
pub(crate) struct PreparedCategory {
    pub(crate) name: Box<str>,
    pub(crate) hash: u128,
    pub(crate) expectation: Expectation,
}

#[derive(Debug)]
pub(crate) struct PreparedKey {
    pub(crate) text: Box<str>,
    pub(crate) hash: u128,
    pub(crate) digest: u128,
}

/// Validate and encode an append. This needs no store and acquires no lock.
///
/// # Errors
///
/// [`Error::InvalidArgument`] or [`Error::LimitExceeded`] with the invalid argument.
pub fn prepare(append: &Append<'_>) -> Result<Prepared> {
    let has_no_content = append.events.is_empty()
        && append.expectations.is_empty()
        && append.category_expectations.is_empty();
    if has_no_content && append.idempotency_key.is_none() {
        return Err(Error::argument(
            "append",
            "",
            "has no events, no expectations and no idempotency key; give it at least one of them",
        ));
    }
    let bodies = append_limits::check(append)?;
    let expectations = expectations(append.expectations)?;
    let categories = if append.category_expectations.is_empty() {
        None
    } else {
        Some(Box::new(categories(append.category_expectations)?))
    };
    let key = append
        .idempotency_key
        .map(|text| prepare_key(text, append))
        .transpose()?;
    let directory = Directory::of(append.events)?;
    let missing = append.events.iter().filter(|e| e.event_id.is_none());
    let mut ids = Uuids::new(missing.count());
    let event_ids: Vec<_> = append
        .events
        .iter()
        .map(|e| e.event_id.unwrap_or_else(|| ids.next_id()))
        .collect();
    let frame = encode(append, &directory, key.as_ref(), &event_ids, bodies);
    append_limits::check_frame(frame.len())?;
    let written = directory.streams.len();
    Ok(Prepared {
        frame,
        ordinals: directory.ordinals(),
        streams: merge(&directory, expectations),
        written,
        events: append.events.len() as u64,
        categories,
        key,
        reservation: 0,
        pending: None,
        builds_on: Vec::new(),
        event_ids,
    })
}

impl Prepared {
    /// Iterate over the ids of the events, in order.
    pub fn event_ids(&self) -> impl Iterator<Item = [u8; 16]> + '_ {
        self.event_ids.iter().copied()
    }

    /// Assign the append to the reservation whose id [`crate::Store::reserve`] returned.
    #[must_use]
    pub fn under(mut self, reservation: u64) -> Self {
        self.reservation = reservation;
        self
    }

    /// Let other appends of this session build on this one.
    #[must_use]
    pub fn as_pending(mut self, pending: PendingAppend) -> Self {
        self.pending = Some(pending);
        self
    }

    /// Accept the append only if all of these appends were accepted before. Otherwise the result is
    /// [`Error::VersionConflict`], even if the streams have the expected versions.
    #[must_use]
    pub fn building_on(mut self, builds_on: Vec<PendingAppend>) -> Self {
        self.builds_on = builds_on;
        self
    }

    /// Set the hashes of the names of streams and categories, and of the key. Each store has its own
    /// hasher.
    pub(crate) fn bind(&mut self, hasher: &NameHasher) {
        for stream in &mut self.streams {
            stream.hash = hasher.stream(&stream.name);
        }
        for category in self
            .categories
            .iter_mut()
            .flat_map(|checked| &mut checked.0)
        {
            category.hash = hasher.category(&category.name);
        }
        if let Some(key) = &mut self.key {
            key.hash = hasher.idempotency_key(&key.text);
        }
    }

    pub(crate) fn written(&self) -> &[PreparedStream] {
        self.streams.get(..self.written).unwrap_or_default()
    }

    /// Return the categories that are checked.
    pub(crate) fn categories(&self) -> &[PreparedCategory] {
        self.categories.as_ref().map_or(&[], |checked| &checked.0)
    }

    /// Build a sync marker: a frame without events. Its header contains the address up to which the
    /// log is durable (the durable hint).
    pub(crate) fn sync_marker() -> Self {
        Self {
            frame: frame::sync_marker(),
            streams: Vec::new(),
            written: 0,
            events: 0,
            categories: None,
            key: None,
            ordinals: Vec::new(),
            reservation: 0,
            pending: None,
            builds_on: Vec::new(),
            event_ids: Vec::new(),
        }
    }

    /// Whether this is a sync marker.
    pub(crate) fn is_sync_marker(&self) -> bool {
        self.frame.is_sync_marker()
    }

    /// Whether the append adds a frame to the log. An append that has only expectations adds none.
    pub(crate) fn is_recorded(&self) -> bool {
        self.events > 0 || self.key.is_some() || self.is_sync_marker()
    }
}

fn expectations<'a>(
    expectations: &[(&'a str, Expectation)],
) -> Result<HashMap<&'a str, Expectation, foldhash::fast::RandomState>> {
    let mut by_stream = HashMap::with_capacity_and_hasher(
        expectations.len(),
        foldhash::fast::RandomState::default(),
    );
    for (name, expectation) in expectations {
        names::check_stream(name)?;
        if by_stream.insert(*name, *expectation).is_some() {
            return Err(Error::argument(
                "stream",
                name,
                "has two expectations; give it one",
            ));
        }
    }
    Ok(by_stream)
}

/// Validate the expectations on categories. They are few, so a repetition is found by comparing
/// all names after they have been sorted.
#[cold]
fn categories(expectations: &[(&str, Expectation)]) -> Result<PreparedCategories> {
    let mut categories = Vec::with_capacity(expectations.len());
    for (name, expectation) in expectations {
        names::check_category(name)?;
        categories.push(PreparedCategory {
            name: (*name).into(),
            hash: 0,
            expectation: *expectation,
        });
    }
    categories.sort_unstable_by(|one, other| one.name.cmp(&other.name));
    let mut pairs = categories.windows(2);
    let repeated = pairs.find_map(|pair| match pair {
        [one, other] if one.name == other.name => Some(&one.name),
        _ => None,
    });
    match repeated {
        Some(name) => Err(Error::argument(
            "category",
            name,
            "has two expectations; give it one",
        )),
        None => Ok(PreparedCategories(categories)),
    }
}

fn prepare_key(text: &str, append: &Append<'_>) -> Result<PreparedKey> {
    names::check("idempotency key", text)?;
    let digest = append
        .content
        .map_or_else(|| append_digest(append), content_digest);
    Ok(PreparedKey {
        text: text.into(),
        hash: 0,
        digest,
    })
}

/// The streams of a commit in the order of their first event.
struct Directory<'a> {
    streams: Vec<(&'a str, u32)>,
    /// For each event, its stream and the number of earlier events of that stream in this commit.
    events: Vec<(u32, u32)>,
}

impl<'a> Directory<'a> {
    fn of(events: &[EventInput<'a>]) -> Result<Self> {
        // All streams but the last one. So an append to one stream inserts nothing, and the map
        // allocates nothing: 550 of a commit's 11,500 instructions.
        let mut earlier_streams: HashMap<&str, usize, foldhash::fast::RandomState> =
            HashMap::default();
        let mut directory = Self {
            streams: Vec::new(),
            events: Vec::with_capacity(events.len()),
        };
        for event in events {
            let streams = &mut directory.streams;
            let last = streams.last().map(|(name, _)| *name);
            let index = if last == Some(event.stream) {
                streams.len() - 1
            } else if let Some(index) = earlier_streams.get(event.stream) {
                *index
            } else {
                names::check_stream(event.stream)?;
                let index = streams.len();
                append_limits::check_streams(index + 1)?;
                if let Some(last) = last {
                    earlier_streams.insert(last, index - 1);
                }
                streams.push((event.stream, 0));
                index
            };
            if let Some((_, count)) = streams.get_mut(index) {
                let stream = u32::try_from(index).unwrap_or(u32::MAX);
                directory.events.push((stream, *count));
                *count += 1;
            }
        }
        Ok(directory)
    }

    // Inline: a call of its own costs each append 45 of a commit's 11,500 instructions.
    #[inline]
    fn ordinals(&self) -> Vec<u32> {
        if self.streams.len() == 1 {
            // The general case allocates another vector: 200 of a commit's 11,500 instructions.
            return (0u32..).take(self.events.len()).collect();
        }
        let mut begins = Vec::with_capacity(self.streams.len());
        let mut begin = 0usize;
        for (_, count) in &self.streams {
            begins.push(begin);
            begin += *count as usize;
        }
        let mut ordinals = vec![0; self.events.len()];
        for (ordinal, (stream, offset)) in (0u32..).zip(&self.events) {
            let slot = begins
                .get(*stream as usize)
                .map(|begin| begin + *offset as usize);
            if let Some(to) = slot.and_then(|slot| ordinals.get_mut(slot)) {
                *to = ordinal;
            }
        }
        ordinals
    }
}

fn encode(
    append: &Append<'_>,
    directory: &Directory<'_>,
    key: Option<&PreparedKey>,
    event_ids: &[[u8; 16]],
    bodies: usize,
) -> FrameBytes {
    let key = key.map(|key| (&*key.text, key.digest));
    let mut encoder = Encoder::new(&directory.streams, key, append.events.len(), bodies);
    let mut joined = Vec::new();
    for ((event, (stream, offset)), event_id) in
        append.events.iter().zip(&directory.events).zip(event_ids)
    {
        let metadata = if event.library_metadata.is_empty() {
            event.metadata
        } else {
            joined.clear();
            joined.extend_from_slice(event.metadata);
            joined.extend_from_slice(event.library_metadata);
            &joined
        };
        encoder.push(&EncoderEvent {
            stream: *stream,
            offset: *offset,
            event_type: event.event_type,
            event_id: *event_id,
            metadata,
            data: event.data,
        });
    }
    encoder.finish()
}

// Inline: a call of its own costs each append 50 of a commit's 11,500 instructions.
#[inline]
fn merge<'a>(
    directory: &Directory<'a>,
    mut expectations: HashMap<&'a str, Expectation, foldhash::fast::RandomState>,
) -> Vec<PreparedStream> {
    let mut streams = Vec::with_capacity(directory.streams.len() + expectations.len());
    for (name, count) in &directory.streams {
        let expectation = expectations.remove(name).unwrap_or(Expectation::Any);
        streams.push(PreparedStream {
            name: (*name).into(),
            hash: 0,
            count: *count,
            expectation,
        });
    }
    let mut checked: Vec<_> = expectations.into_iter().collect();
    checked.sort_unstable_by_key(|(name, _)| *name);
    for (name, expectation) in checked {
        streams.push(PreparedStream {
            name: name.into(),
            hash: 0,
            count: 0,
            expectation,
        });
    }
    streams
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory<'a>(streams: &[&'a str]) -> Result<Directory<'a>> {
        let event = |stream: &&'a str| EventInput {
            stream,
            event_type: "happened",
            event_id: None,
            metadata: b"",
            library_metadata: b"",
            data: b"",
            content: None,
        };
        Directory::of(&streams.iter().map(event).collect::<Vec<_>>())
    }

    #[test]
    fn a_stream_that_returns_after_others_is_the_same_stream() {
        let found = directory(&["a", "a", "b", "a", "c", "b", "a"]).unwrap();
        assert_eq!(found.streams, [("a", 4), ("b", 2), ("c", 1)]);
        let events = [(0, 0), (0, 1), (1, 0), (0, 2), (2, 0), (1, 1), (0, 3)];
        assert_eq!(found.events, events);
        assert_eq!(found.ordinals(), [0, 1, 3, 6, 2, 5, 4]);
    }

    #[test]
    fn the_events_of_one_stream_are_in_its_directory_in_order() {
        let found = directory(&["a", "a", "a"]).unwrap();
        assert_eq!(found.streams, [("a", 3)]);
        assert_eq!(found.events, [(0, 0), (0, 1), (0, 2)]);
        assert_eq!(found.ordinals(), [0, 1, 2]);
    }

    #[test]
    fn each_name_is_checked_wherever_it_stands() {
        for streams in [&["", "a"][..], &["a", ""], &["a", "b", "", "a"]] {
            assert!(directory(streams).is_err(), "{streams:?}");
        }
    }
}
