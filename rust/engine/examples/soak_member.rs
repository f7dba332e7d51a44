//! A process of the soak that is no Python: it asks a shared store at random, and tells.
//!
//! ```text
//! soak_member '{"name": "r1", "path": "/a/store", "seed": 7, "threads": 2, "streams": 5, ...}'
//! ```
//!
//! It takes the same orders and writes the same lines as `tests/histories/program.py`, whose
//! words describe both: a line of JSON before and after each append and after each read, with
//! times of the clock that all processes share. When its standard input ends, it closes the
//! store and says so. An error of the store that is no answer is told of as trouble and ends
//! the process with code 3.
#![expect(clippy::print_stderr, reason = "an error is told to whoever runs it")]

use std::collections::HashMap;
use std::error::Error as StdError;
use std::io::{Read, Write, stdin, stdout};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use eventbraid_engine::vfs::os::OsVfs;
use eventbraid_engine::{
    Append, Appended, Error, EventInput, Expectation, LogQuery, Mode, Options, Recorded,
    SnapshotQuery, Store, StreamQuery, prepare,
};
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Map, Value, json};

const EPOCH: u64 = 2_000_000_000;
const RARE_READ: u64 = 200;

type Outcome<T> = Result<T, Box<dyn StdError + Send + Sync>>;

/// What it was told to do.
#[derive(Debug)]
struct Orders {
    name: String,
    path: PathBuf,
    seed: u64,
    threads: u64,
    streams: u64,
    pause: Duration,
    options: Options,
}

impl Orders {
    fn of(given: &Value) -> Outcome<Self> {
        let number = |name: &str| given.get(name).and_then(Value::as_u64).ok_or("no number");
        let text = |name: &str| given.get(name).and_then(Value::as_str).ok_or("no text");
        let pause = given.get("pause").and_then(Value::as_f64).unwrap_or(0.0);
        Ok(Self {
            name: text("name")?.to_owned(),
            path: PathBuf::from(text("path")?),
            seed: number("seed")?,
            threads: number("threads")?,
            streams: number("streams")?,
            pause: Duration::from_secs_f64(pause),
            options: options(given.get("options").unwrap_or(&Value::Null)),
        })
    }
}

fn main() -> ExitCode {
    match work() {
        Ok(false) => ExitCode::SUCCESS,
        Ok(true) => ExitCode::from(3),
        Err(error) => {
            eprintln!("soak_member: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Works until it is told to end; answers whether there was trouble.
fn work() -> Outcome<bool> {
    let given = std::env::args().nth(1).ok_or("no orders")?;
    let orders = Arc::new(Orders::of(&serde_json::from_str(&given)?)?);
    let shared = Arc::new(Shared {
        store: opened(&orders)?,
        stopping: AtomicBool::new(false),
        troubled: AtomicBool::new(false),
        numbers: AtomicU64::new(0),
    });
    tell(&json!({"line": "opened", "at": now()}))?;
    let mut threads = vec![];
    for number in 0..orders.threads {
        let mut asker = Asker::new(&orders, &shared, number);
        threads.push(thread::spawn(move || asker.ask_on()));
    }
    let follower = Arc::clone(&shared);
    threads.push(thread::spawn(move || follower.settled(follow(&follower))));
    let ended = Arc::clone(&shared);
    thread::spawn(move || {
        let mut rest = Vec::new();
        // Whatever ends the input ends the work.
        let _ = stdin().read_to_end(&mut rest);
        ended.stopping.store(true, Ordering::Relaxed);
    });
    for thread in threads {
        thread.join().map_err(|_| "a thread panicked")??;
    }
    let troubled = shared.troubled.load(Ordering::Relaxed);
    match shared.store.close() {
        Err(error @ Error::StoreBusy { .. }) => tell(&trouble_line(&error))?,
        Err(error) if !troubled => return Err(error.into()),
        _ => {}
    }
    tell(&json!({"line": "closed", "at": now()}))?;
    Ok(troubled)
}

/// Opens the store, however long others keep it.
fn opened(orders: &Orders) -> Outcome<Store> {
    loop {
        match Store::open(Arc::new(OsVfs::new()), &orders.path, orders.options) {
            Err(error @ Error::StoreBusy { .. }) => tell(&trouble_line(&error))?,
            outcome => return Ok(outcome?),
        }
    }
}

/// What the store is opened with: for each number that is given, as Python names it.
fn options(given: &Value) -> Options {
    let mut options = Options::default();
    options.mode = Mode::Shared;
    for (name, size) in [
        ("segment_size", &mut options.first_segment),
        ("max_segment_size", &mut options.max_segment),
        ("cache_size", &mut options.cache),
    ] {
        *size = given.get(name).and_then(Value::as_u64).unwrap_or(*size);
    }
    if let Some(seconds) = given.get("lock_timeout").and_then(Value::as_f64) {
        options.lock_timeout = Duration::from_secs_f64(seconds);
    }
    options
}

/// What its threads have in common.
#[derive(Debug)]
struct Shared {
    store: Store,
    stopping: AtomicBool,
    troubled: AtomicBool,
    numbers: AtomicU64,
}

impl Shared {
    fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// Takes an error of the store for trouble; any other is a mistake of this program.
    fn settled(&self, outcome: Outcome<()>) -> Outcome<()> {
        let Err(error) = outcome else {
            return Ok(());
        };
        self.trouble(&*error.downcast::<Error>()?)
    }

    /// Tells of an error that is no answer, and lets the process end, unless others only kept
    /// it from writing for a while.
    fn trouble(&self, error: &Error) -> Outcome<()> {
        if !matches!(error, Error::StoreBusy { .. }) {
            self.troubled.store(true, Ordering::Relaxed);
            self.stopping.store(true, Ordering::Relaxed);
        }
        tell(&trouble_line(error))
    }
}

/// One thread's work.
#[derive(Debug)]
struct Asker {
    orders: Arc<Orders>,
    shared: Arc<Shared>,
    thread: u64,
    random: u64,
    epoch: u64,
    seen: HashMap<String, u64>,
}

impl Asker {
    fn new(orders: &Arc<Orders>, shared: &Arc<Shared>, thread: u64) -> Self {
        Self {
            orders: Arc::clone(orders),
            shared: Arc::clone(shared),
            thread,
            random: orders.seed ^ (thread << 32) ^ 0x9e37_79b9_7f4a_7c15,
            epoch: 0,
            seen: HashMap::new(),
        }
    }

    fn ask_on(&mut self) -> Outcome<()> {
        while !self.shared.is_stopping() {
            if !self.orders.pause.is_zero() {
                thread::sleep(self.orders.pause);
            }
            let epoch = now() / EPOCH;
            if epoch != self.epoch {
                self.epoch = epoch;
                self.seen.clear();
            }
            let asked = self.ask();
            self.shared.settled(asked)?;
        }
        Ok(())
    }

    fn ask(&mut self) -> Outcome<()> {
        match self.below(10) {
            0..=2 => {
                let streams = self.some_streams();
                self.append(&streams, &[], false)
            }
            3..=4 => {
                let streams = self.some_streams();
                let versions = self.read_snapshot(&streams)?;
                let written = if self.below(2) == 0 { 1 } else { streams.len() };
                let expect: Vec<_> = streams
                    .iter()
                    .zip(versions)
                    .map(|(stream, version)| (stream.clone(), Expectation::Exact(version)))
                    .collect();
                let streams: Vec<_> = streams.into_iter().take(written).collect();
                self.append(&streams, &expect, false)
            }
            5 => {
                let number = self.below(40);
                let stream = format!("list-{}-{number}-new", self.epoch);
                let expect = [(stream.clone(), Expectation::NoStream)];
                self.append(&[stream], &expect, false)
            }
            6 => {
                let streams = self.some_streams();
                self.append(&streams, &[], true)
            }
            7 => {
                let streams = self.some_streams();
                self.read_snapshot(&streams).map(drop)
            }
            8 => self.read_stream(),
            _ => self.read_version_and_head(),
        }
    }

    fn append(
        &mut self,
        streams: &[String],
        expect: &[(String, Expectation)],
        keyed: bool,
    ) -> Outcome<()> {
        let number = self.shared.number();
        let mut places = Vec::new();
        for stream in streams {
            for _ in 0..=self.below(2) {
                places.push(stream.clone());
            }
        }
        let count = places.len();
        let events: Vec<_> = places
            .into_iter()
            .enumerate()
            .map(|(at, stream)| {
                (
                    stream,
                    format!("{}.{number} {at}/{count}", self.orders.name),
                )
            })
            .collect();
        let key = keyed.then(|| format!("key-{}-{number}", self.orders.name));
        self.append_events(number, &events, expect, key.as_deref())?;
        if keyed {
            let again = self.shared.number();
            self.append_events(again, &events, expect, key.as_deref())?;
        }
        Ok(())
    }

    fn append_events(
        &mut self,
        number: u64,
        events: &[(String, String)],
        expect: &[(String, Expectation)],
        key: Option<&str>,
    ) -> Outcome<()> {
        let told: Map<_, _> = expect
            .iter()
            .map(|(stream, expected)| (stream.clone(), expectation(*expected)))
            .collect();
        tell(&json!({
            "line": "begun", "number": number, "thread": self.thread, "at": now(),
            "events": events, "expect": told, "key": key,
        }))?;
        match self.shared.store.append(prepared(events, expect, key)?) {
            Ok(done) => {
                tell(&told_done(number, &done))?;
                for (stream, version) in done.versions {
                    self.seen.insert(stream.into(), version);
                }
                Ok(())
            }
            Err(Error::VersionConflict { failures }) => {
                let failures: Vec<_> = failures
                    .into_iter()
                    .map(|one| json!([one.stream, expectation(one.expected), one.actual]))
                    .collect();
                tell(&json!({
                    "line": "refused", "number": number, "at": now(),
                    "kind": "VersionConflict", "failures": failures,
                }))
            }
            Err(Error::OutcomeUnknown { reason }) => {
                tell(&json!({"line": "unclear", "number": number, "at": now(), "why": reason}))
            }
            Err(error) => {
                let kind = kind_of(&error);
                tell(&json!({"line": "refused", "number": number, "at": now(), "kind": kind}))?;
                Err(error.into())
            }
        }
    }

    fn read_snapshot(&mut self, streams: &[String]) -> Outcome<Vec<u64>> {
        let wanted: Vec<_> = streams
            .iter()
            .map(|stream| (stream.as_str(), self.known(stream)))
            .collect();
        let query = SnapshotQuery {
            streams: &wanted,
            at: None,
            mode: eventbraid_engine::ReadMode::Blocking,
        };
        let invoked = now();
        let snapshot = self.shared.store.read_streams(&query)?;
        let returned = now();
        let versions: Map<_, _> = streams
            .iter()
            .zip(&snapshot.versions)
            .map(|(stream, version)| (stream.clone(), json!(version)))
            .collect();
        tell(&json!({
            "line": "snapshot", "thread": self.thread, "invoked": invoked, "returned": returned,
            "position": snapshot.position, "versions": versions,
            "entries": entries(&snapshot.events),
        }))?;
        for (stream, version) in streams.iter().zip(&snapshot.versions) {
            self.seen.insert(stream.clone(), *version);
        }
        Ok(snapshot.versions)
    }

    fn read_stream(&mut self) -> Outcome<()> {
        let stream = self.stream();
        let after = self.known(&stream);
        let query = StreamQuery {
            after,
            ..StreamQuery::all(&stream)
        };
        let invoked = now();
        let page = self.shared.store.read_stream(&query)?;
        let returned = now();
        tell(&json!({
            "line": "stream", "thread": self.thread, "invoked": invoked, "returned": returned,
            "stream": stream, "after": after, "entries": entries(&page.events),
        }))
    }

    fn read_version_and_head(&mut self) -> Outcome<()> {
        let stream = self.stream();
        let invoked = now();
        let version = self.shared.store.version(&stream)?;
        let between = now();
        tell(&json!({
            "line": "version", "thread": self.thread, "invoked": invoked, "returned": between,
            "stream": stream, "version": version,
        }))?;
        let invoked = now();
        let head = self.shared.store.head()?;
        tell(&json!({
            "line": "head", "thread": self.thread, "invoked": invoked, "returned": now(),
            "position": head,
        }))
    }

    /// The version after which a stream is read: all of it while it is short.
    fn known(&self, stream: &str) -> u64 {
        let known = self.seen.get(stream).copied().unwrap_or(0);
        if known > RARE_READ { known } else { 0 }
    }

    fn stream(&mut self) -> String {
        let number = self.below(self.orders.streams);
        format!("list-{}-{number}", self.epoch)
    }

    fn some_streams(&mut self) -> Vec<String> {
        let mut streams = vec![];
        for _ in 0..=self.below(2) {
            let stream = self.stream();
            if !streams.contains(&stream) {
                streams.push(stream);
            }
        }
        streams
    }

    /// A number below another: splitmix64.
    fn below(&mut self, bound: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

/// Follows the log, and tells of each event.
fn follow(shared: &Shared) -> Outcome<()> {
    let after = shared.store.head()?;
    tell(&json!({"line": "following", "subscriber": 1, "after": after, "since": now()}))?;
    let followed = follow_after(shared, after);
    tell(&json!({"line": "unfollowed", "subscriber": 1, "at": now()}))?;
    followed
}

fn follow_after(shared: &Shared, mut after: u64) -> Outcome<()> {
    while !shared.is_stopping() {
        shared.store.wait_beyond(after, Duration::from_millis(50))?;
        loop {
            let page = shared.store.read_log(&LogQuery {
                after,
                limit: 1_000,
                ..LogQuery::all()
            })?;
            for event in &page.events {
                tell(&json!({
                    "line": "delivered", "subscriber": 1, "at": now(), "entry": entry(event),
                }))?;
            }
            after = page.next;
            if !page.more {
                break;
            }
        }
    }
    Ok(())
}

fn prepared(
    events: &[(String, String)],
    expect: &[(String, Expectation)],
    key: Option<&str>,
) -> eventbraid_engine::Result<eventbraid_engine::Prepared> {
    let events: Vec<_> = events
        .iter()
        .map(|(stream, value)| EventInput {
            stream,
            event_type: "appended",
            event_id: None,
            metadata: b"",
            library_metadata: b"",
            data: value.as_bytes(),
        })
        .collect();
    let expectations: Vec<_> = expect
        .iter()
        .map(|(stream, expected)| (stream.as_str(), *expected))
        .collect();
    prepare(&Append {
        events: &events,
        expectations: &expectations,
        idempotency_key: key,
        content: None,
    })
}

fn told_done(number: u64, done: &Appended) -> Value {
    let versions: Map<_, _> = done
        .versions
        .iter()
        .map(|(stream, version)| (stream.to_string(), json!(version)))
        .collect();
    json!({
        "line": "done", "number": number, "at": now(), "first": done.first_position,
        "last": done.last_position, "versions": versions, "replayed": done.replayed,
    })
}

fn expectation(expected: Expectation) -> Value {
    match expected {
        Expectation::Any => json!("any"),
        Expectation::Exists => json!("exists"),
        Expectation::NoStream => json!("no_stream"),
        Expectation::Exact(version) => json!(version),
    }
}

fn entries(events: &[Recorded]) -> Vec<Value> {
    events.iter().map(entry).collect()
}

fn entry(event: &Recorded) -> Value {
    let value = String::from_utf8_lossy(event.data());
    json!([event.position(), event.stream(), event.version(), value])
}

fn trouble_line(error: &Error) -> Value {
    json!({"line": "trouble", "at": now(), "kind": kind_of(error), "text": error.to_string()})
}

/// The name of an error's kind, as far as it matters to the checks.
fn kind_of(error: &Error) -> String {
    let text = format!("{error:?}");
    text.split([' ', '{', '(']).next().unwrap_or("").to_owned()
}

/// Writes a line, whole.
fn tell(line: &Value) -> Outcome<()> {
    let mut text = serde_json::to_vec(line)?;
    text.push(b'\n');
    let mut out = stdout().lock();
    out.write_all(&text)?;
    out.flush()?;
    Ok(())
}

/// Nanoseconds of the clock that all processes of the machine share.
fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}
