//! The engine is compared with a model made of plain lists and maps, which executes the same
//! commands.
//!
//! The commands are appends to several streams with every kind of expectation and with keys, every
//! kind of read, reopening, and crashes of the process and losses of power, between appends and
//! during one. An interrupted append may have happened or not: the model keeps both outcomes, and
//! the next open of the store decides between them.
//!
//! A failing case is shrunk, printed with its seed, and kept in `model.regressions`, whose cases
//! run first from then on. `PROPTEST_CASES=10000` runs that many cases instead of 256.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails loudly"
)]

mod support;

use std::collections::BTreeMap;

use eventbraid_engine::vfs::sim::{Persist, SimVfs};
use eventbraid_engine::{
    Append, Appended, CategoryQuery, ConflictedCategory, ConflictedStream, Depth, Error,
    EventInput, Expectation, Filter, LogQuery, ReadMode, Recorded, Snapshot, SnapshotQuery, Store,
    StreamQuery, prepare,
};
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use support::open;

const STREAMS: [&str; 5] = ["a-1", "a-2", "ab-1", "b", "b-1-x"];
const CATEGORIES: [&str; 3] = ["a", "ab", "b"];
const TYPES: [&str; 2] = ["made", "moved"];
const KEYS: [&str; 3] = ["key-1", "key-2", "key-3"];

/// The expectation on a stream or a category, relative to its version.
#[derive(Clone, Copy, Debug)]
enum Demand {
    Any,
    Exists,
    NoStream,
    /// The version plus this number.
    Exact(u64),
}

#[derive(Clone, Debug)]
struct Appending {
    /// Stream, type, bytes.
    events: Vec<(usize, usize, usize)>,
    demands: BTreeMap<usize, Demand>,
    category_demands: BTreeMap<usize, Demand>,
    key: Option<usize>,
}

/// The bounds of a read, relative to the number of events.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    after: u64,
    before: Option<u64>,
    at: Option<u64>,
    limit: usize,
    backward: bool,
}

#[derive(Clone, Copy, Debug)]
enum End {
    ProcessCrash,
    PowerCut(u64),
}

#[derive(Clone, Debug)]
enum Command {
    Append(Appending),
    /// Repeat an earlier append with the same key and content.
    Retry(usize),
    ReadStream(usize, Bounds),
    ReadLog(
        Bounds,
        Option<&'static str>,
        Option<&'static str>,
        Option<usize>,
    ),
    Snapshot(BTreeMap<usize, u64>, Option<u64>),
    /// Read a category: the number of streams that are left out, the limit, and the position.
    ReadCategory(usize, u64, usize, Option<u64>),
    Reopen,
    End(End),
    /// The process ends at this step of an append, or right after it.
    EndDuring(Appending, u64, End),
    Verify,
}

fn appending() -> impl Strategy<Value = Appending> {
    let size = prop_oneof![8 => 0usize..200, 2 => 200usize..4000, 1 => 4000usize..20_000];
    let event = (0..STREAMS.len(), 0..TYPES.len(), size);
    let demand = prop_oneof![
        2 => Just(Demand::Any),
        2 => Just(Demand::Exists),
        1 => Just(Demand::NoStream),
        4 => Just(Demand::Exact(0)),
        1 => Just(Demand::Exact(1)),
    ];
    (
        vec(event, 0..4),
        btree_map(0..STREAMS.len(), demand.clone(), 0..3),
        prop_oneof![
            3 => Just(BTreeMap::new()),
            1 => btree_map(0..CATEGORIES.len(), demand, 1..3),
        ],
        option::weighted(0.4, 0..KEYS.len()),
    )
        .prop_map(|(events, demands, category_demands, key)| Appending {
            events,
            demands,
            category_demands,
            key,
        })
}

fn bounds() -> impl Strategy<Value = Bounds> {
    let far = 0u64..30;
    (
        prop_oneof![Just(0), far.clone()],
        option::of(far.clone()),
        option::of(far),
        1usize..6,
        any::<bool>(),
    )
        .prop_map(|(after, before, at, limit, backward)| Bounds {
            after,
            before,
            at,
            limit,
            backward,
        })
}

fn end() -> impl Strategy<Value = End> {
    prop_oneof![
        Just(End::ProcessCrash),
        any::<u64>().prop_map(End::PowerCut)
    ]
}

fn command() -> impl Strategy<Value = Command> {
    let prefix = option::of(prop_oneof![Just("a"), Just("a-"), Just("b-1"), Just("%")]);
    let category = option::of(prop_oneof![Just("a"), Just("ab"), Just("b")]);
    let streams = btree_map(0..STREAMS.len(), 0u64..5, 0..4);
    prop_oneof![
        10 => appending().prop_map(Command::Append),
        2 => (0usize..20).prop_map(Command::Retry),
        3 => (0..STREAMS.len(), bounds()).prop_map(|(s, b)| Command::ReadStream(s, b)),
        3 => (bounds(), prefix, category, option::of(0..TYPES.len()))
            .prop_map(|(b, p, c, t)| Command::ReadLog(b, p, c, t)),
        2 => (streams, option::of(0u64..30)).prop_map(|(s, at)| Command::Snapshot(s, at)),
        3 => (0..CATEGORIES.len(), 0u64..4, 0usize..4, option::of(0u64..30))
            .prop_map(|(c, after, limit, at)| Command::ReadCategory(c, after, limit, at)),
        1 => Just(Command::Reopen),
        1 => end().prop_map(Command::End),
        2 => (appending(), 1u64..16, end()).prop_map(|(a, n, e)| Command::EndDuring(a, n, e)),
        1 => Just(Command::Verify),
    ]
}

/// An append with its bytes and versions.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Request {
    events: Vec<Event>,
    expectations: Vec<(&'static str, Expectation)>,
    category_expectations: Vec<(&'static str, Expectation)>,
    key: Option<&'static str>,
}

type Expectations = Vec<(&'static str, Expectation)>;

impl Request {
    /// The content that a key identifies. `Any` is equal to no expectation.
    fn content(&self) -> (&[Event], [Expectations; 2]) {
        let mut demands = [&self.expectations, &self.category_expectations].map(Clone::clone);
        for demands in &mut demands {
            demands.retain(|(_, expectation)| *expectation != Expectation::Any);
        }
        (&self.events, demands)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Event {
    stream: &'static str,
    kind: &'static str,
    body: Vec<u8>,
}

/// The expected result of an append.
#[derive(Clone, Debug, PartialEq)]
enum Outcome {
    Done(Appended),
    Conflict(Vec<ConflictedStream>, Vec<ConflictedCategory>),
    Mismatch,
    Nothing,
}

/// The expected content of a store.
#[derive(Clone, Debug, Default)]
struct Model {
    log: Vec<Event>,
    keys: BTreeMap<&'static str, (Request, Appended)>,
}

/// An event with its position and version.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Numbered {
    position: u64,
    version: u64,
    event: Event,
}

impl Model {
    fn version(&self, stream: &str) -> u64 {
        self.log.iter().filter(|e| e.stream == stream).count() as u64
    }

    /// The streams of a category, in the order of their first events up to a position.
    fn members(&self, category: &str, at: u64) -> Vec<&'static str> {
        let mut members = Vec::new();
        for event in self
            .log
            .iter()
            .take(usize::try_from(at).unwrap_or(usize::MAX))
        {
            let is_member = event.stream.split('-').next() == Some(category);
            if is_member && !members.contains(&event.stream) {
                members.push(event.stream);
            }
        }
        members
    }

    fn head(&self) -> u64 {
        self.log.len() as u64
    }

    fn numbered(&self) -> Vec<Numbered> {
        let mut versions: BTreeMap<&str, u64> = BTreeMap::new();
        let number = |(event, position): (&Event, u64)| {
            let version = versions.entry(event.stream).or_default();
            *version += 1;
            Numbered {
                position,
                version: *version,
                event: event.clone(),
            }
        };
        self.log.iter().zip(1..).map(number).collect()
    }

    /// Execute an append, and return its result.
    fn append(&mut self, request: &Request) -> Outcome {
        if let Some((earlier, appended)) = request.key.and_then(|key| self.keys.get(key)) {
            return if earlier.content() == request.content() {
                let replayed = true;
                Outcome::Done(Appended {
                    replayed,
                    ..appended.clone()
                })
            } else {
                Outcome::Mismatch
            };
        }
        let nothing = request.events.is_empty()
            && request.expectations.is_empty()
            && request.category_expectations.is_empty();
        if nothing && request.key.is_none() {
            return Outcome::Nothing;
        }
        let (failures, categories) = self.failures(request);
        if !failures.is_empty() || !categories.is_empty() {
            return Outcome::Conflict(failures, categories);
        }
        Outcome::Done(self.commit(request))
    }

    fn failures(&self, request: &Request) -> (Vec<ConflictedStream>, Vec<ConflictedCategory>) {
        let holds = |expected: &Expectation, actual| match expected {
            Expectation::Any => true,
            Expectation::Exists => actual > 0,
            Expectation::NoStream => actual == 0,
            Expectation::Exact(version) => actual == *version,
        };
        let failure = |(stream, expected): &(&'static str, Expectation)| {
            let actual = self.version(stream);
            (!holds(expected, actual)).then(|| ConflictedStream {
                stream: (*stream).to_owned(),
                expected: *expected,
                actual,
            })
        };
        let failures = request.expectations.iter().filter_map(failure).collect();
        let failure = |(category, expected): &(&'static str, Expectation)| {
            let actual = self.members(category, self.head()).len() as u64;
            (!holds(expected, actual)).then(|| ConflictedCategory {
                category: (*category).to_owned(),
                expected: *expected,
                actual,
            })
        };
        let categories = &request.category_expectations;
        (failures, categories.iter().filter_map(failure).collect())
    }

    fn commit(&mut self, request: &Request) -> Appended {
        let first = self.head() + 1;
        self.log.extend(request.events.iter().cloned());
        let has_events = !request.events.is_empty();
        let written: BTreeMap<&str, u64> = request
            .events
            .iter()
            .map(|e| (e.stream, self.version(e.stream)))
            .collect();
        let appended = Appended {
            first_position: has_events.then_some(first),
            last_position: has_events.then_some(self.head()),
            versions: written.into_iter().map(|(s, v)| (s.into(), v)).collect(),
            replayed: false,
        };
        if let Some(key) = request.key {
            self.keys.insert(key, (request.clone(), appended.clone()));
        }
        appended
    }
}

/// A store and its possible states: more than one only between a crash during an append and the
/// next open.
struct Machine {
    vfs: SimVfs,
    store: Store,
    model: Model,
    requests: Vec<Request>,
    bodies: usize,
}

impl Machine {
    fn new() -> Self {
        let vfs = SimVfs::tracked(7);
        Self {
            store: open(vfs.clone()).unwrap(),
            vfs,
            model: Model::default(),
            requests: Vec::new(),
            bodies: 0,
        }
    }

    fn run(&mut self, command: &Command) {
        match command {
            Command::Append(appending) => {
                let request = self.request(appending);
                self.append(&request);
            }
            Command::Retry(back) => {
                if let Some(request) = self.requests.iter().rev().nth(*back).cloned() {
                    self.append(&request);
                }
            }
            Command::ReadStream(stream, bounds) => self.read_stream(STREAMS[*stream], *bounds),
            Command::ReadLog(bounds, prefix, category, kind) => {
                let types = kind.map(|kind| [TYPES[kind]]);
                let filter = Filter {
                    prefix: *prefix,
                    category: *category,
                    types: types.as_ref().map(<[_; 1]>::as_slice),
                    ..Filter::default()
                };
                self.read_log(*bounds, filter);
            }
            Command::Snapshot(streams, at) => self.snapshot(streams, *at),
            Command::ReadCategory(category, after, limit, at) => {
                self.read_category(CATEGORIES[*category], *after, *limit, *at);
            }
            Command::Reopen => {
                self.store.close().unwrap();
                self.reopen_after(self.vfs.clone(), vec![self.model.clone()]);
            }
            Command::End(end) => self.end(*end, vec![self.model.clone()]),
            Command::EndDuring(appending, step, end) => self.end_during(appending, *step, *end),
            Command::Verify => self.verify(),
        }
        assert_eq!(self.store.head().unwrap(), self.model.head());
    }

    fn request(&mut self, appending: &Appending) -> Request {
        let mut event = |(stream, kind, size): &(usize, usize, usize)| {
            self.bodies += 1;
            let mut body = format!("{}|", self.bodies).into_bytes();
            body.resize(body.len() + size, b'x');
            Event {
                stream: STREAMS[*stream],
                kind: TYPES[*kind],
                body,
            }
        };
        let events = appending.events.iter().map(&mut event).collect();
        let expectation = |(stream, demand): (&usize, &Demand)| {
            let stream = STREAMS[*stream];
            let expectation = match demand {
                Demand::Any => Expectation::Any,
                Demand::Exists => Expectation::Exists,
                Demand::NoStream => Expectation::NoStream,
                Demand::Exact(more) => Expectation::Exact(self.model.version(stream) + more),
            };
            (stream, expectation)
        };
        let expectations = appending.demands.iter().map(expectation).collect();
        let category_expectation = |(category, demand): (&usize, &Demand)| {
            let category = CATEGORIES[*category];
            let version = self.model.members(category, u64::MAX).len() as u64;
            let expectation = match demand {
                Demand::Any => Expectation::Any,
                Demand::Exists => Expectation::Exists,
                Demand::NoStream => Expectation::NoStream,
                Demand::Exact(more) => Expectation::Exact(version + more),
            };
            (category, expectation)
        };
        let category_demands = appending.category_demands.iter();
        let request = Request {
            events,
            expectations,
            category_expectations: category_demands.map(category_expectation).collect(),
            key: appending.key.map(|key| KEYS[key]),
        };
        self.requests.push(request.clone());
        request
    }

    fn send(&self, request: &Request) -> Result<Appended, Error> {
        let input = |e: &'_ Event| -> (&'static str, &'static str) { (e.stream, e.kind) };
        let events: Vec<_> = request
            .events
            .iter()
            .map(|e| EventInput {
                stream: input(e).0,
                event_type: input(e).1,
                event_id: None,
                metadata: b"",
                library_metadata: b"",
                data: &e.body,
                content: None,
            })
            .collect();
        let mut appended = self.store.append(prepare(&Append {
            events: &events,
            expectations: &request.expectations,
            category_expectations: &request.category_expectations,
            idempotency_key: request.key,
            content: None,
        })?)?;
        appended.versions.sort();
        Ok(appended)
    }

    fn append(&mut self, request: &Request) {
        let found = outcome(self.send(request));
        assert_eq!(found, self.model.append(request), "{request:?}");
    }

    /// Append, and crash the file system at a step of the append.
    fn end_during(&mut self, appending: &Appending, step: u64, end: End) {
        let request = self.request(appending);
        self.vfs.crash_at(self.vfs.steps() + step);
        let answer = self.send(&request);
        let mut after = self.model.clone();
        let expected = after.append(&request);
        let allowed = match answer {
            Err(Error::OutcomeUnknown { .. } | Error::Io { .. } | Error::Poisoned { .. })
                if self.vfs.crashed() =>
            {
                vec![self.model.clone(), after]
            }
            answer => {
                assert_eq!(outcome(answer), expected, "{request:?}");
                vec![after]
            }
        };
        self.end(end, allowed);
    }

    fn end(&mut self, end: End, allowed: Vec<Model>) {
        let left = match end {
            End::ProcessCrash => self.vfs.process_crash(),
            End::PowerCut(seed) => self.vfs.power_cut(Persist::Seeded(seed)),
        };
        self.reopen_after(left, allowed);
    }

    /// Open the remaining files, which must be in one of the possible states.
    fn reopen_after(&mut self, left: SimVfs, allowed: Vec<Model>) {
        self.store = open(left.clone()).unwrap();
        self.vfs = left;
        let log = events(&self.store.read_log(&LogQuery::all()).unwrap().events);
        let mut it = allowed.into_iter().filter(|model| {
            let keys = KEYS.map(|key| model.keys.contains_key(key));
            model.numbered() == log && keys == KEYS.map(|key| self.has_key(key))
        });
        let found = it.next();
        drop(it);
        self.model = found.unwrap_or_else(|| panic!("no state that is allowed: {log:?}"));
        self.verify();
    }

    fn has_key(&self, key: &str) -> bool {
        let committed = self.store.committed(key, None, ReadMode::Blocking).unwrap();
        committed.is_some()
    }

    fn verify(&self) {
        assert_eq!(
            self.store.verify(Depth::Full).unwrap().events,
            self.model.head()
        );
        for stream in STREAMS {
            let version = self.store.version(stream).unwrap();
            assert_eq!(version, self.model.version(stream), "{stream}");
        }
        for category in CATEGORIES {
            self.read_category(category, 0, usize::MAX, None);
        }
    }

    fn read_category(&self, category: &str, after: u64, limit: usize, at: Option<u64>) {
        let query = CategoryQuery {
            category,
            after,
            limit,
            at,
            mode: ReadMode::Blocking,
        };
        let found = self.store.category_streams(&query).unwrap();
        let position = at.unwrap_or(u64::MAX).min(self.model.head());
        let members = self.model.members(category, position);
        assert_eq!(found.position, position);
        assert_eq!(found.version, members.len() as u64);
        let after = usize::try_from(after).unwrap();
        let expected = members.into_iter().skip(after).take(limit);
        assert!(
            found.names.iter().map(|name| &**name).eq(expected),
            "{query:?}"
        );
    }

    /// Read all events within the bounds, page by page.
    fn read_stream(&self, stream: &str, bounds: Bounds) {
        let at = bounds.at.unwrap_or(u64::MAX);
        let mut expected: Vec<_> = self.model.numbered();
        expected.retain(|e| {
            let is_between =
                e.version > bounds.after && bounds.before.is_none_or(|before| e.version < before);
            e.event.stream == stream && e.position <= at && is_between
        });
        let found = self.pages(bounds, |bounds| {
            self.store.read_stream(&StreamQuery {
                after: bounds.after,
                before: bounds.before,
                limit: bounds.limit,
                backward: bounds.backward,
                at: bounds.at,
                ..StreamQuery::all(stream)
            })
        });
        assert_eq!(found, in_direction(expected, bounds), "{stream} {bounds:?}");
    }

    fn read_log(&self, bounds: Bounds, filter: Filter<'_>) {
        let at = bounds.at.unwrap_or(u64::MAX);
        let mut expected = self.model.numbered();
        expected.retain(|e| {
            let Event { stream, kind, .. } = e.event;
            let category = stream.split('-').next();
            let is_between =
                e.position > bounds.after && bounds.before.is_none_or(|before| e.position < before);
            is_between
                && e.position <= at
                && filter
                    .prefix
                    .is_none_or(|prefix| stream.starts_with(prefix))
                && (filter.category.is_none() || filter.category == category)
                && filter.types.is_none_or(|types| types.contains(&kind))
        });
        let found = self.pages(bounds, |bounds| {
            self.store.read_log(&LogQuery {
                after: bounds.after,
                before: bounds.before,
                limit: bounds.limit,
                backward: bounds.backward,
                at: bounds.at,
                filter,
                ..LogQuery::all()
            })
        });
        assert_eq!(
            found,
            in_direction(expected, bounds),
            "{filter:?} {bounds:?}"
        );
    }

    fn pages(
        &self,
        mut bounds: Bounds,
        read: impl Fn(Bounds) -> Result<eventbraid_engine::ReadBatch, Error>,
    ) -> Vec<Numbered> {
        let mut found = Vec::new();
        // One page more than the events can fill: this detects a cursor that does not advance.
        for _ in 0..=self.model.log.len() + 1 {
            let page = read(bounds).unwrap();
            assert!(page.events.len() <= bounds.limit);
            assert_eq!(
                page.at,
                bounds.at.unwrap_or(u64::MAX).min(self.model.head())
            );
            found.extend(events(&page.events));
            if !page.more {
                return found;
            }
            bounds.at = Some(page.at);
            if bounds.backward {
                bounds.before = Some(page.next);
            } else {
                bounds.after = page.next;
            }
        }
        panic!("pages without end: {bounds:?}");
    }

    fn snapshot(&self, streams: &BTreeMap<usize, u64>, at: Option<u64>) {
        let wanted: Vec<_> = streams
            .iter()
            .map(|(s, after)| (STREAMS[*s], *after))
            .collect();
        let query = SnapshotQuery {
            at,
            ..SnapshotQuery::all(&wanted)
        };
        let found = self.store.read_streams(&query).unwrap();
        let position = at.unwrap_or(u64::MAX).min(self.model.head());
        assert_eq!(found.position, position);
        let mut expected = self.model.numbered();
        expected.retain(|e| e.position <= position);
        let version = |(stream, _): &(&str, u64)| {
            expected
                .iter()
                .filter(|e| e.event.stream == *stream)
                .count() as u64
        };
        assert_eq!(
            found.versions,
            wanted.iter().map(version).collect::<Vec<_>>()
        );
        expected.retain(|e| {
            let after = wanted.iter().find(|(stream, _)| *stream == e.event.stream);
            after.is_some_and(|(_, after)| e.version > *after)
        });
        assert_eq!(events(&found.events), expected);
        self.snapshot_in_pages(wanted, &found);
    }

    /// Read the events of a snapshot again in pages of two events.
    fn snapshot_in_pages(&self, mut after: Vec<(&str, u64)>, whole: &Snapshot) {
        let mut read = Vec::new();
        loop {
            let query = SnapshotQuery {
                at: Some(whole.position),
                limit: 2,
                ..SnapshotQuery::all(&after)
            };
            let page = self.store.read_streams(&query).unwrap();
            assert_eq!(page.versions, whole.versions);
            if page.events.is_empty() {
                break;
            }
            assert!(page.events.len() <= 2);
            for event in &page.events {
                let stream = after.iter_mut().find(|(name, _)| *name == event.stream());
                let (_, last) = stream.unwrap();
                *last += 1;
                assert_eq!(event.version(), *last, "a gap in {}", event.stream());
            }
            read.extend(page.events);
        }
        read.sort_unstable_by_key(Recorded::position);
        assert_eq!(events(&read), events(&whole.events));
    }
}

fn outcome(answer: Result<Appended, Error>) -> Outcome {
    match answer {
        Ok(appended) => Outcome::Done(appended),
        Err(Error::VersionConflict {
            mut failures,
            categories,
        }) => {
            failures.sort_by(|a, b| a.stream.cmp(&b.stream));
            Outcome::Conflict(failures, categories)
        }
        Err(Error::IdempotencyMismatch { .. }) => Outcome::Mismatch,
        Err(Error::InvalidArgument { .. }) => Outcome::Nothing,
        Err(e) => panic!("{e}"),
    }
}

fn events(found: &[Recorded]) -> Vec<Numbered> {
    let name = |names: &[&'static str], name: &str| *names.iter().find(|n| **n == name).unwrap();
    let of = |e: &Recorded| Numbered {
        position: e.position(),
        version: e.version(),
        event: Event {
            stream: name(&STREAMS, e.stream()),
            kind: name(&TYPES, e.event_type()),
            body: e.data().to_vec(),
        },
    };
    found.iter().map(of).collect()
}

fn in_direction(mut events: Vec<Numbered>, bounds: Bounds) -> Vec<Numbered> {
    if bounds.backward {
        events.reverse();
    }
    events
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct("tests/model.regressions"))),
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_engine_agrees_with_the_model(commands in vec(command(), 1..60)) {
        let mut machine = Machine::new();
        for command in &commands {
            machine.run(command);
        }
    }
}
