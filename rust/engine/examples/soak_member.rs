//! A process of the soak test in Rust: it calls a shared store at random, and writes the results.
//!
//! ```text
//! soak_member '{"name": "r1", "path": "/a/store", "seed": 7, "threads": 2, "streams": 5, ...}'
//! ```
//!
//! It has the same workloads and writes the same lines as `tests/histories/program.py`, which
//! describes both: a line of JSON before and after each append and after each read, with times
//! of the clock that all processes share. When its standard input ends, it closes the store. An
//! error of the store that is no result is written as a failure and ends the process with code 3.
#![expect(clippy::print_stderr, reason = "a program reports its error")]

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

/// The operations of the process.
#[derive(Debug)]
struct Workload {
    name: String,
    path: PathBuf,
    seed: u64,
    threads: u64,
    streams: u64,
    pause: Duration,
    options: Options,
}

impl Workload {
    fn of(arguments: &Value) -> Outcome<Self> {
        let number = |name: &str| {
            arguments
                .get(name)
                .and_then(Value::as_u64)
                .ok_or("no number")
        };
        let text = |name: &str| arguments.get(name).and_then(Value::as_str).ok_or("no text");
        let pause = arguments
            .get("pause")
            .and_then(Value::as_f64)
            .unwrap_or(0.0);
        Ok(Self {
            name: text("name")?.to_owned(),
            path: PathBuf::from(text("path")?),
            seed: number("seed")?,
            threads: number("threads")?,
            streams: number("streams")?,
            pause: Duration::from_secs_f64(pause),
            options: options(arguments.get("options").unwrap_or(&Value::Null)),
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

/// Work until standard input ends. Return whether the store failed.
fn work() -> Outcome<bool> {
    let arguments = std::env::args().nth(1).ok_or("no workload")?;
    let workload = Arc::new(Workload::of(&serde_json::from_str(&arguments)?)?);
    let shared = Arc::new(Shared {
        store: opened(&workload)?,
        stopping: AtomicBool::new(false),
        failed: AtomicBool::new(false),
        numbers: AtomicU64::new(0),
    });
    write_line(&json!({"line": "opened", "at": now()}))?;
    let mut threads = vec![];
    for number in 0..workload.threads {
        let mut worker = Worker::new(&workload, &shared, number);
        threads.push(thread::spawn(move || worker.run()));
    }
    let follower = Arc::clone(&shared);
    threads.push(thread::spawn(move || {
        follower.record_failure(follow(&follower))
    }));
    let ended = Arc::clone(&shared);
    thread::spawn(move || {
        let mut rest = Vec::new();
        // The work ends with the input, also if reading it fails.
        let _ = stdin().read_to_end(&mut rest);
        ended.stopping.store(true, Ordering::Relaxed);
    });
    for thread in threads {
        thread.join().map_err(|_| "a thread panicked")??;
    }
    let failed = shared.failed.load(Ordering::Relaxed);
    match shared.store.close() {
        Err(error @ Error::StoreBusy { .. }) => write_line(&failure_line(&error))?,
        Err(error) if !failed => return Err(error.into()),
        _ => {}
    }
    write_line(&json!({"line": "closed", "at": now()}))?;
    Ok(failed)
}

/// Open the store, and try again while other processes keep it busy.
fn opened(workload: &Workload) -> Outcome<Store> {
    loop {
        match Store::open(Arc::new(OsVfs::new()), &workload.path, workload.options) {
            Err(error @ Error::StoreBusy { .. }) => write_line(&failure_line(&error))?,
            outcome => return Ok(outcome?),
        }
    }
}

/// Return the options of the store, with the names that Python gives them.
fn options(arguments: &Value) -> Options {
    let mut options = Options::default();
    options.mode = Mode::Shared;
    for (name, size) in [
        ("segment_size", &mut options.first_segment),
        ("max_segment_size", &mut options.max_segment),
        ("cache_size", &mut options.cache),
    ] {
        *size = arguments.get(name).and_then(Value::as_u64).unwrap_or(*size);
    }
    if let Some(seconds) = arguments.get("lock_timeout").and_then(Value::as_f64) {
        options.lock_timeout = Duration::from_secs_f64(seconds);
    }
    options
}

/// The state that all threads share.
#[derive(Debug)]
struct Shared {
    store: Store,
    stopping: AtomicBool,
    failed: AtomicBool,
    numbers: AtomicU64,
}

impl Shared {
    fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// Record an error of the store as a failure. Any other error is a fault of this program.
    fn record_failure(&self, outcome: Outcome<()>) -> Outcome<()> {
        let Err(error) = outcome else {
            return Ok(());
        };
        self.fail(&*error.downcast::<Error>()?)
    }

    /// Write an error that is no result, and stop the process, unless the store was only busy.
    fn fail(&self, error: &Error) -> Outcome<()> {
        if !matches!(error, Error::StoreBusy { .. }) {
            self.failed.store(true, Ordering::Relaxed);
            self.stopping.store(true, Ordering::Relaxed);
        }
        write_line(&failure_line(error))
    }
}

/// The work of one thread.
#[derive(Debug)]
struct Worker {
    workload: Arc<Workload>,
    shared: Arc<Shared>,
    thread: u64,
    random: u64,
    epoch: u64,
    seen: HashMap<String, u64>,
}

impl Worker {
    fn new(workload: &Arc<Workload>, shared: &Arc<Shared>, thread: u64) -> Self {
        Self {
            workload: Arc::clone(workload),
            shared: Arc::clone(shared),
            thread,
            random: workload.seed ^ (thread << 32) ^ 0x9e37_79b9_7f4a_7c15,
            epoch: 0,
            seen: HashMap::new(),
        }
    }

    fn run(&mut self) -> Outcome<()> {
        while !self.shared.is_stopping() {
            if !self.workload.pause.is_zero() {
                thread::sleep(self.workload.pause);
            }
            let epoch = now() / EPOCH;
            if epoch != self.epoch {
                self.epoch = epoch;
                self.seen.clear();
            }
            let asked = self.run_one();
            self.shared.record_failure(asked)?;
        }
        Ok(())
    }

    fn run_one(&mut self) -> Outcome<()> {
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
                    format!("{}.{number} {at}/{count}", self.workload.name),
                )
            })
            .collect();
        let key = keyed.then(|| format!("key-{}-{number}", self.workload.name));
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
        let expectations: Map<_, _> = expect
            .iter()
            .map(|(stream, expected)| (stream.clone(), expectation(*expected)))
            .collect();
        write_line(&json!({
            "line": "begun", "number": number, "thread": self.thread, "at": now(),
            "events": events, "expect": expectations, "key": key,
        }))?;
        match self.shared.store.append(prepared(events, expect, key)?) {
            Ok(done) => {
                write_line(&done_line(number, &done))?;
                for (stream, version) in done.versions {
                    self.seen.insert(stream.into(), version);
                }
                Ok(())
            }
            Err(Error::VersionConflict { failures, .. }) => {
                let failures: Vec<_> = failures
                    .into_iter()
                    .map(|one| json!([one.stream, expectation(one.expected), one.actual]))
                    .collect();
                write_line(&json!({
                    "line": "refused", "number": number, "at": now(),
                    "kind": "VersionConflict", "failures": failures,
                }))
            }
            Err(Error::OutcomeUnknown { reason }) => write_line(
                &json!({"line": "unclear", "number": number, "at": now(), "why": reason}),
            ),
            Err(error) => {
                let kind = kind_of(&error);
                write_line(
                    &json!({"line": "refused", "number": number, "at": now(), "kind": kind}),
                )?;
                Err(error.into())
            }
        }
    }

    fn read_snapshot(&mut self, streams: &[String]) -> Outcome<Vec<u64>> {
        let wanted: Vec<_> = streams
            .iter()
            .map(|stream| (stream.as_str(), self.read_cursor(stream)))
            .collect();
        let query = SnapshotQuery::all(&wanted);
        let invoked = now();
        let snapshot = self.shared.store.read_streams(&query)?;
        let returned = now();
        let versions: Map<_, _> = streams
            .iter()
            .zip(&snapshot.versions)
            .map(|(stream, version)| (stream.clone(), json!(version)))
            .collect();
        write_line(&json!({
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
        let after = self.read_cursor(&stream);
        let query = StreamQuery {
            after,
            ..StreamQuery::all(&stream)
        };
        let invoked = now();
        let page = self.shared.store.read_stream(&query)?;
        let returned = now();
        write_line(&json!({
            "line": "stream", "thread": self.thread, "invoked": invoked, "returned": returned,
            "stream": stream, "after": after, "entries": entries(&page.events),
        }))
    }

    fn read_version_and_head(&mut self) -> Outcome<()> {
        let stream = self.stream();
        let invoked = now();
        let version = self.shared.store.version(&stream)?;
        let between = now();
        write_line(&json!({
            "line": "version", "thread": self.thread, "invoked": invoked, "returned": between,
            "stream": stream, "version": version,
        }))?;
        let invoked = now();
        let head = self.shared.store.head()?;
        write_line(&json!({
            "line": "head", "thread": self.thread, "invoked": invoked, "returned": now(),
            "position": head,
        }))
    }

    /// Return the version after which a stream is read: 0 while the stream is short.
    fn read_cursor(&self, stream: &str) -> u64 {
        let last_version = self.seen.get(stream).copied().unwrap_or(0);
        if last_version > RARE_READ {
            last_version
        } else {
            0
        }
    }

    fn stream(&mut self) -> String {
        let number = self.below(self.workload.streams);
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

    /// Return a random number below `bound` (`SplitMix64`).
    fn below(&mut self, bound: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

/// Follow the log, and write each event.
fn follow(shared: &Shared) -> Outcome<()> {
    let after = shared.store.head()?;
    write_line(&json!({"line": "following", "subscriber": 1, "after": after, "since": now()}))?;
    let followed = follow_after(shared, after);
    write_line(&json!({"line": "unfollowed", "subscriber": 1, "at": now()}))?;
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
                write_line(&json!({
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
            content: None,
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
        ..Append::default()
    })
}

fn done_line(number: u64, done: &Appended) -> Value {
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

fn failure_line(error: &Error) -> Value {
    json!({"line": "trouble", "at": now(), "kind": kind_of(error), "text": error.to_string()})
}

/// Return the name of an error as far as the checks use it.
fn kind_of(error: &Error) -> String {
    let text = format!("{error:?}");
    text.split([' ', '{', '(']).next().unwrap_or("").to_owned()
}

/// Write a complete line.
fn write_line(line: &Value) -> Outcome<()> {
    let mut text = serde_json::to_vec(line)?;
    text.push(b'\n');
    let mut out = stdout().lock();
    out.write_all(&text)?;
    out.flush()?;
    Ok(())
}

/// Return the time in nanoseconds of the clock that all processes share.
fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}
