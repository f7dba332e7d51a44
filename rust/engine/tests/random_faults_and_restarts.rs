//! Many restarts of one store after random faults, crashes and closes: each session finds every
//! acknowledged commit once, complete and in order, and random damage to a file is reported.
//!
//! Several threads append under random faults of the disk, with the background threads of the
//! engine, so no schedule can be repeated exactly. The seed in the message of a failure selects
//! the same calls and the same moments to crash.
//!
//! `EVENTBRAID_LIVES=N` runs N sessions of each kind instead of a few.
//! `EVENTBRAID_SEED=S` begins with that seed.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test fails loudly and prints its counts"
)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use eventbraid_engine::mutex::Mutex;
use eventbraid_engine::vfs::os::OsVfs;
use eventbraid_engine::vfs::sim::{Call, Failure, Fault, Persist, SimVfs};
use eventbraid_engine::{
    Append, Depth, Error, Expectation, LogQuery, Options, ReadMode, Recorded, Store, StreamQuery,
    prepare,
};
use support::hook::wait_until;
use support::{append, event, log, open, open_with, options, prepared};

fn from_environment(name: &str, default: u64) -> u64 {
    let given = std::env::var(name).ok();
    given.and_then(|n| n.parse().ok()).unwrap_or(default)
}

fn session_count(default: u64) -> u64 {
    from_environment("EVENTBRAID_LIVES", default)
}

fn first_seed() -> u64 {
    from_environment("EVENTBRAID_SEED", 1)
}

/// A xorshift generator: the seed determines all numbers.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn draw(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11
    }

    fn below(&mut self, n: u64) -> u64 {
        self.draw() % n
    }

    fn size(&mut self, n: u64) -> usize {
        usize::try_from(self.below(n)).unwrap()
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        let i = self.size(of.len() as u64);
        of[i]
    }
}

fn random_options(random: &mut Random) -> Options {
    let mut options = options();
    options.background = !random.one_in(4);
    options.zero_fill = random.one_in(2);
    options
}

/// Build the bodies of one append. Each contains the append's name, its own number and their count.
fn append_bodies(random: &mut Random, name: &str) -> Vec<Vec<u8>> {
    let count = 1 + random.below(3);
    let body = |i| {
        let mut body = format!("{name}|{i}|{count}|").into_bytes();
        let more = match random.below(40) {
            0 => 20_000 + random.size(40_000),
            1..=4 => random.size(6000),
            _ => random.size(300),
        };
        body.resize(body.len() + more, b'x');
        body
    };
    (0..count).map(body).collect()
}

/// Append one to three events, and check that the key and the first event can be read.
fn append_named(store: &Store, random: &mut Random, name: &str) -> Result<(), Error> {
    let bodies = append_bodies(random, name);
    let streams: Vec<String> = bodies
        .iter()
        .map(|_| format!("s-{}", random.below(5)))
        .collect();
    let events: Vec<_> = streams
        .iter()
        .zip(&bodies)
        .map(|(stream, body)| event(stream, body))
        .collect();
    let keyed = random.one_in(3);
    let mut expectations = Vec::new();
    if random.one_in(4) {
        let version = store.version(&streams[0])?;
        expectations.push((streams[0].as_str(), Expectation::Exact(version)));
    }
    let append = Append {
        events: &events,
        expectations: &expectations,
        idempotency_key: keyed.then_some(name),
        ..Append::default()
    };
    let appended = store.append(prepare(&append)?)?;
    if keyed && let Ok(known) = store.committed(name, None, ReadMode::Blocking) {
        assert!(known.is_some(), "{name}: its key is missing");
    }
    let query = LogQuery {
        after: appended.first_position.unwrap() - 1,
        limit: 1,
        ..LogQuery::all()
    };
    if let Ok(page) = store.read_log(&query) {
        assert!(page.events[0].data() == bodies[0], "{name}: not read");
    }
    Ok(())
}

/// Return the name, the number and the count in a body.
fn parsed(event: &Recorded) -> (String, u64, u64) {
    let text = String::from_utf8_lossy(event.data()).into_owned();
    let mut parts = text.split('|');
    let name = parts.next().unwrap().to_owned();
    let mut number = || parts.next().unwrap().parse().unwrap();
    (name, number(), number())
}

/// Return the names of all appends in the log, each of which must be complete.
fn names_of_whole_appends(store: &Store, context: &str) -> BTreeSet<String> {
    let events = log(store);
    let mut names: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    let mut versions: BTreeMap<&str, u64> = BTreeMap::new();
    for (event, position) in events.iter().zip(1u64..) {
        assert_eq!(event.position(), position, "{context}");
        let version = versions.entry(event.stream()).or_default();
        *version += 1;
        assert_eq!(event.version(), *version, "{context}");
        let (name, number, count) = parsed(event);
        let (found, _) = names.entry(name.clone()).or_insert((0, count));
        assert_eq!(*found, number, "{context}: {name}");
        *found += 1;
    }
    for (name, (found, count)) in &names {
        assert_eq!(found, count, "{context}: {name} is torn");
    }
    for (stream, version) in versions {
        assert_eq!(store.version(stream).unwrap(), version, "{context}");
        let page = store.read_stream(&StreamQuery::all(stream)).unwrap();
        assert_eq!(page.events.len() as u64, version, "{context}");
    }
    let verified = store
        .verify(Depth::Full)
        .unwrap_or_else(|e| panic!("{context}: {e}"));
    assert_eq!(verified.events, events.len() as u64, "{context}");
    names.into_keys().collect()
}

/// Open the remaining files, and check that every acknowledged append is in the log.
fn open_and_check(
    vfs: &SimVfs,
    known: &BTreeSet<String>,
    context: &str,
) -> (Store, BTreeSet<String>) {
    let store = open(vfs.clone()).unwrap_or_else(|e| panic!("{context}: {e}"));
    let found = names_of_whole_appends(&store, context);
    let lost: Vec<_> = known.difference(&found).collect();
    assert!(lost.is_empty(), "{context}: lost {lost:?}");
    (store, found)
}

fn arm_faults(vfs: &SimVfs, random: &mut Random) {
    for _ in 0..=random.below(2) {
        let call = random.pick(&[
            Call::Write,
            Call::SyncData,
            Call::SyncAll,
            Call::SyncDir,
            Call::Rename,
            Call::Create,
            Call::Open,
            Call::Remove,
        ]);
        let failure = random.pick(&[Failure::EIO, Failure::ENOSPC]);
        let fault = Fault::once(call, 1 + random.below(60), failure);
        let loses = call == Call::SyncData && random.one_in(2);
        vfs.fail(if loses { fault.losing() } else { fault });
    }
}

/// Append in three threads until the session ends. Return the names of the acknowledged appends.
fn append_in_threads(store: &Store, seed: u64, session: &str, with_faults: bool) -> Vec<String> {
    let acknowledged = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for thread in 0..3 {
            let acknowledged = &acknowledged;
            scope.spawn(move || {
                let mut random = Random::new(seed.wrapping_add(thread));
                for n in 0..60 {
                    let name = format!("{session}.{thread}.{n}");
                    match append_named(store, &mut random, &name) {
                        Ok(()) => acknowledged.lock().push(name),
                        Err(Error::VersionConflict { .. }) => {}
                        Err(Error::StorageFull { .. } | Error::Io { .. }) if with_faults => {}
                        Err(_) => return,
                    }
                    if random.one_in(30) {
                        std::thread::sleep(Duration::from_millis(random.below(60)));
                    }
                }
            });
        }
    });
    acknowledged.into_inner()
}

/// Run five sessions of one store. Return the number of acknowledged appends.
fn simulated_sessions(seed: u64, with_faults: bool) -> usize {
    let mut random = Random::new(seed);
    let mut vfs = SimVfs::tracked(seed);
    let (mut known, mut count) = (BTreeSet::new(), 0);
    for session in 0..5 {
        let context = format!("seed {seed}, session {session}, faults {with_faults}");
        if !random.one_in(5) {
            vfs.crash_at(vfs.steps() + 5 + random.below(400));
        }
        if with_faults {
            arm_faults(&vfs, &mut random);
        }
        match open_with(vfs.clone(), random_options(&mut random)) {
            Ok(store) => {
                let acknowledged = append_in_threads(
                    &store,
                    random.draw(),
                    &format!("{seed}.{session}"),
                    with_faults,
                );
                count += acknowledged.len();
                known.extend(acknowledged);
                if random.one_in(2) {
                    let _crashed_or_failed = store.close();
                }
            }
            Err(e) => assert!(vfs.crashed() || with_faults, "{context}: {e}"),
        }
        vfs.heal();
        let seeded = Persist::Seeded(random.draw());
        for persist in [Persist::Nothing, Persist::Everything, seeded] {
            open_and_check(
                &vfs.power_cut(persist),
                &known,
                &format!("{context}, {persist:?}"),
            );
        }
        let next = match random.below(4) {
            0 => vfs.process_crash(),
            1 => vfs.power_cut(Persist::Nothing),
            _ => vfs.power_cut(Persist::Seeded(random.draw())),
        };
        let (store, found) = open_and_check(&next, &known, &context);
        // Events that one session has read must be in the log of all later sessions.
        known = found;
        if random.one_in(2) {
            store.close().unwrap();
        }
        drop(store);
        vfs = next.process_crash();
    }
    count
}

#[test]
fn no_restart_loses_an_acknowledged_commit() {
    let (stores, from) = (session_count(60).div_ceil(5), first_seed());
    let count: usize = (from..from + stores)
        .map(|seed| simulated_sessions(seed, false))
        .sum();
    assert!(count > 0);
    println!("{count} appends in {} sessions", stores * 5);
}

#[test]
fn no_restart_on_a_failing_disk_loses_an_acknowledged_commit() {
    let (stores, from) = (session_count(60).div_ceil(5), first_seed());
    let count: usize = (from..from + stores)
        .map(|seed| simulated_sessions(seed, true))
        .sum();
    assert!(count > 0);
    println!("{count} appends in {} sessions", stores * 5);
}

/// Append until the store closes. The last of the four threads submits with callbacks.
fn append_until_closed(
    store: &Store,
    seed: u64,
    thread: u64,
    session: u64,
    acknowledged: &Arc<Mutex<Vec<(String, u64)>>>,
    pending: &Arc<AtomicU64>,
) {
    let mut random = Random::new(seed.wrapping_add(thread));
    for n in 0..2000 {
        let name = format!("{session}.{thread}.{n}");
        let mut body = format!("{name}|").into_bytes();
        let more = match random.below(20) {
            0 => random.size(60_000),
            1..=6 => random.size(9000),
            _ => random.size(200),
        };
        body.resize(body.len() + more, b'x');
        let append = prepared("s", &body);
        if thread == 3 {
            let (acknowledged, pending) = (Arc::clone(acknowledged), Arc::clone(pending));
            pending.fetch_add(1, Ordering::SeqCst);
            let done = move |answer: Result<eventbraid_engine::Appended, Error>| {
                if let Ok(appended) = answer {
                    let position = appended.first_position.unwrap();
                    acknowledged.lock().push((name, position));
                }
                pending.fetch_sub(1, Ordering::SeqCst);
            };
            store.submit(append, Box::new(done));
            if random.one_in(4) {
                std::thread::sleep(Duration::from_micros(300));
            }
            if store.version("s").is_err() {
                return;
            }
            continue;
        }
        match store.append(append) {
            Ok(appended) => {
                let position = appended.first_position.unwrap();
                match store.head() {
                    Ok(head) => assert!(head >= position, "{name}: the head is behind"),
                    Err(Error::Closed) => {}
                    Err(e) => panic!("{name}: {e}"),
                }
                acknowledged.lock().push((name, position));
            }
            Err(Error::Closed) => return,
            Err(e) => panic!("{name}: {e}"),
        }
    }
}

/// Read the log forward, and a few events backward at each step, until the store closes.
fn follow(store: &Store) -> Result<(), Error> {
    let mut after = store.head()?;
    loop {
        store.wait_beyond(after, Duration::from_millis(200))?;
        let query = LogQuery {
            after,
            ..LogQuery::all()
        };
        let page = store.read_log(&query)?;
        for event in &page.events {
            assert_eq!(event.position(), after + 1);
            after += 1;
        }
        assert_eq!(page.next, after);
        let query = LogQuery {
            backward: true,
            limit: 7,
            before: Some(after + 1),
            ..LogQuery::all()
        };
        for (event, position) in store.read_log(&query)?.events.iter().zip((0..=after).rev()) {
            assert_eq!(event.position(), position);
        }
    }
}

/// Return the name and the position of each append.
fn positions(store: &Store) -> BTreeMap<String, u64> {
    let (mut found, mut after) = (BTreeMap::new(), 0);
    loop {
        let query = LogQuery {
            after,
            ..LogQuery::all()
        };
        let page = store.read_log(&query).unwrap();
        for event in &page.events {
            let body = String::from_utf8_lossy(event.data()).into_owned();
            let name = body.split('|').next().unwrap().to_owned();
            found.insert(name, event.position());
        }
        after = page.next;
        if !page.more {
            return found;
        }
    }
}

fn real_session(
    root: &Path,
    session: u64,
    random: &mut Random,
    context: &str,
    known: &mut BTreeMap<String, u64>,
) {
    let mut options = random_options(random);
    (options.max_segment, options.cache) = (256 << 10, 256 << 10);
    let store = Store::open(Arc::new(OsVfs::new()), root, options)
        .unwrap_or_else(|e| panic!("{context}: {e}"));
    store
        .verify(Depth::Full)
        .unwrap_or_else(|e| panic!("{context}: {e}"));
    let found = positions(&store);
    for (name, position) in &*known {
        assert_eq!(found.get(name), Some(position), "{context}: {name}");
    }
    let (acknowledged, pending) = (Arc::default(), Arc::default());
    let (seed, rest) = (random.draw(), random.below(40));
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (store, acknowledged, pending) = (&store, &acknowledged, &pending);
            scope.spawn(move || {
                append_until_closed(store, seed, thread, session, acknowledged, pending);
            });
        }
        let following = scope.spawn(|| follow(&store));
        std::thread::sleep(Duration::from_millis(rest));
        store.close().unwrap_or_else(|e| panic!("{context}: {e}"));
        let ended = following.join().unwrap();
        assert!(matches!(ended, Err(Error::Closed)), "{context}: {ended:?}");
    });
    wait_until("every submitted append's answer", || {
        pending.load(Ordering::SeqCst) == 0
    });
    known.extend(acknowledged.lock().drain(..));
}

#[test]
fn a_store_closed_during_appends_reopens_with_every_acknowledged_commit() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("store");
    let (sessions, seed) = (session_count(35), first_seed());
    let mut random = Random::new(seed);
    let mut known = BTreeMap::new();
    for session in 0..sessions {
        let context = format!("seed {seed}, session {session}");
        real_session(&root, session, &mut random, &context, &mut known);
        if known.len() > 8000 {
            std::fs::remove_dir_all(&root).unwrap();
            known.clear();
        }
    }
}

/// Build a store by three sessions, all of them closed.
fn store_to_damage() -> SimVfs {
    let vfs = SimVfs::tracked(9);
    let mut random = Random::new(77);
    for session in 0..3 {
        let mut options = options();
        options.zero_fill = session % 2 == 0;
        let store = open_with(vfs.clone(), options).unwrap();
        for n in 0..25 {
            match append_named(&store, &mut random, &format!("{session}.{n}")) {
                Ok(()) | Err(Error::VersionConflict { .. }) => {}
                Err(e) => panic!("{e}"),
            }
        }
        store.close().unwrap();
    }
    vfs
}

/// Select a random range in a file of `length` bytes.
fn random_range(random: &mut Random, length: usize, longest: u64) -> std::ops::Range<usize> {
    let begin = random.size(length as u64);
    begin..(begin + 1 + random.size(longest)).min(length)
}

/// Truncate, zero, randomize, copy within, replace or extend one of the files of the store.
fn damage(vfs: &SimVfs, random: &mut Random) -> String {
    // The file with the name of the store's holder is not part of the log.
    let files: Vec<PathBuf> = vfs
        .files()
        .into_iter()
        .filter(|file| !file.ends_with("live.holder"))
        .collect();
    let file = &files[random.size(files.len() as u64)];
    let mut bytes = vfs.read_file(file).unwrap();
    let length = bytes.len();
    let what = match random.below(6) {
        0 => {
            bytes.truncate(random.size(length as u64 + 1));
            "truncated"
        }
        1 => {
            let range = random_range(random, length, 4096);
            bytes[range].fill(0);
            "zeroed"
        }
        2 => {
            let range = random_range(random, length, 600);
            bytes[range].fill_with(|| random.draw().to_le_bytes()[0]);
            "randomized"
        }
        3 if length > 4096 => {
            let sectors = length as u64 / 512 - 4;
            let [from, to] = [(); 2].map(|()| random.size(sectors) * 512);
            bytes.copy_within(from..from + 512 * (1 + random.size(4)), to);
            "copied within"
        }
        4 => {
            bytes = vfs.read_file(random_file(random, &files)).unwrap();
            "replaced by another"
        }
        _ => {
            let more = random.size(9000);
            bytes.resize_with(length + more, || random.draw().to_le_bytes()[0]);
            "extended"
        }
    };
    vfs.write_outside(file, &bytes).unwrap();
    format!("{} {what}", file.display())
}

fn random_file<'a>(random: &mut Random, files: &'a [PathBuf]) -> &'a Path {
    &files[random.size(files.len() as u64)]
}

#[test]
fn random_damage_to_a_file_is_reported_or_harmless() {
    let undamaged = store_to_damage();
    let (store, expected) =
        open_and_check(&undamaged.process_crash(), &BTreeSet::new(), "undamaged");
    drop(store);
    let (mut refused, mut harmless) = (0, 0);
    let from = first_seed();
    for seed in from..from + session_count(1000) {
        let vfs = undamaged.process_crash();
        let context = format!("seed {seed}: {}", damage(&vfs, &mut Random::new(seed)));
        let opened = catch_unwind(AssertUnwindSafe(|| open(vfs)));
        match opened.unwrap_or_else(|_| panic!("{context}: a panic")) {
            Ok(store) => {
                let found = names_of_whole_appends(&store, &context);
                assert_eq!(found, expected, "{context}");
                append(&store, &[("z", b"z|0|1|")]).unwrap();
                store
                    .verify(Depth::Full)
                    .unwrap_or_else(|e| panic!("{context}: {e}"));
                harmless += 1;
            }
            Err(
                Error::CorruptStore { .. }
                | Error::NotAStore { .. }
                | Error::IncompatibleFormat { .. },
            ) => refused += 1,
            Err(e) => panic!("{context}: {e}"),
        }
    }
    assert!(refused > 0 && harmless > 0);
    println!("{refused} reported, {harmless} harmless");
}
