//! Real processes on one store of the operating system: they come, append, are stopped and
//! killed, each with the engine's own threads.
//!
//! `EVENTBRAID_KILL_SECONDS=600` runs as long as that.
#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "a test fails loudly, and its children tell on their output what they did"
)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use eventbraid_engine::vfs::os::OsVfs;
use eventbraid_engine::{Depth, Error, Expectation, LogQuery, Mode, Options, Recorded, Store};
use support::machine::Draw;
use support::{append_expecting, bodies, threaded};

const DIRECTORY: &str = "EVENTBRAID_CHILD_DIRECTORY";

fn shared() -> Options {
    let mut options = threaded();
    options.mode = Mode::Shared;
    options.lock_timeout = Duration::from_secs(20);
    options
}

fn open(directory: &str, options: Options) -> Result<Store, Error> {
    Store::open(Arc::new(OsVfs::new()), Path::new(directory), options)
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "\n{line}").unwrap();
    out.flush().unwrap();
}

/// What a child does, until it is killed or has had enough.
#[test]
fn child() {
    let Ok(directory) = std::env::var(DIRECTORY) else {
        return;
    };
    let me = std::process::id();
    let mut draw = Draw::new(u64::from(me));
    for life in 0..3 {
        let store = match open(&directory, shared()) {
            Ok(store) => store,
            Err(e) => return say(&format!("ERROR open: {e}")),
        };
        let rounds = 20 + draw.below(200);
        for i in 0..rounds {
            let stream = ["a", "b", "c"][usize::try_from(draw.below(3)).unwrap()];
            let version = match store.version(stream) {
                Ok(version) => version,
                Err(e) => return say(&format!("ERROR version: {e}")),
            };
            let size = [10, 300, 6000][usize::try_from(draw.below(3)).unwrap()];
            let body = format!("{me}.{life}.{i} v{} {}", version + 1, "x".repeat(size));
            let key = (draw.below(3) == 0).then(|| format!("{me}.{life}.{i}"));
            say(&format!("TRY {me}.{life}.{i}"));
            let expectations = [(stream, Expectation::Exact(version))];
            let events = [(stream, body.as_bytes())];
            match append_expecting(&store, &events, &expectations, key.as_deref()) {
                Ok(done) => say(&format!(
                    "DONE {} {me}.{life}.{i}",
                    done.first_position.unwrap()
                )),
                Err(Error::VersionConflict { failures }) => {
                    let seen = store.version(stream).unwrap();
                    let told = failures[0].actual;
                    if seen < told {
                        return say(&format!("ERROR conflict at {told}, seen {seen}"));
                    }
                    say(&format!("REFUSED {me}.{life}.{i}"));
                }
                Err(e) => return say(&format!("ERROR append: {e}")),
            }
            if draw.below(20) == 0 {
                let waited = store
                    .head()
                    .and_then(|head| store.wait_beyond(head, Duration::from_millis(20)));
                if let Err(e) = waited {
                    return say(&format!("ERROR wait: {e}"));
                }
            }
            if draw.below(100) == 0
                && let Err(e) = store.verify(Depth::Full)
            {
                return say(&format!("ERROR verify: {e}"));
            }
        }
        if draw.below(4) > 0
            && let Err(e) = store.close()
        {
            return say(&format!("ERROR close: {e}"));
        }
    }
}

#[derive(Debug, Default)]
struct Told {
    done: BTreeMap<u64, String>,
    refused: BTreeSet<String>,
    errors: Vec<String>,
}

struct Running {
    process: Child,
    listener: JoinHandle<Told>,
}

fn spawn(directory: &Path) -> Running {
    let mut process = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture"])
        .env(DIRECTORY, directory)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let output = process.stdout.take().unwrap();
    let listener = std::thread::spawn(move || {
        let mut told = Told::default();
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            let mut words = line.split(' ');
            match words.next() {
                Some("DONE") => {
                    let position = words.next().unwrap().parse().unwrap();
                    told.done.insert(position, words.next().unwrap().to_owned());
                }
                Some("REFUSED") => {
                    told.refused.insert(words.next().unwrap().to_owned());
                }
                Some("ERROR") => told.errors.push(line.clone()),
                _ => {}
            }
        }
        told
    });
    Running { process, listener }
}

fn all_events(store: &Store) -> Vec<Recorded> {
    let mut query = LogQuery::all();
    let mut events = Vec::new();
    loop {
        let page = store.read_log(&query).unwrap();
        events.extend(page.events);
        if !page.more {
            return events;
        }
        query.after = page.next;
    }
}

fn signal(process: &Child, signal: i32) {
    let sent = Command::new("kill")
        .arg(format!("-{signal}"))
        .arg(process.id().to_string())
        .status()
        .unwrap();
    assert!(sent.success());
}

#[test]
fn what_killed_processes_were_told_is_there() {
    let seconds = std::env::var("EVENTBRAID_KILL_SECONDS");
    let seconds = seconds.map_or(5, |n| n.parse().unwrap());
    let directory = tempfile::tempdir().unwrap();
    let store = directory.path().join("store");
    let mut draw = Draw::new(u64::from(std::process::id()));
    let mut told = Told::default();
    let mut running: Vec<Running> = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(seconds);
    let mut kills = 0;
    let mut busy = 0;
    let mut alone = 0;
    let end = |one: Running, told: &mut Told| {
        let mut one = one;
        one.process.wait().unwrap();
        let own = one.listener.join().unwrap();
        for (position, name) in own.done {
            let old = told.done.insert(position, name);
            assert!(old.is_none(), "{position} twice: {old:?}");
        }
        told.refused.extend(own.refused);
        assert!(own.errors.is_empty(), "{:?}", own.errors);
    };
    while Instant::now() < deadline {
        while running.len() < 3 {
            running.push(spawn(&store));
        }
        std::thread::sleep(Duration::from_millis(draw.below(120)));
        let at = usize::try_from(draw.below(3)).unwrap();
        match draw.below(4) {
            0 => {
                if running[at].process.try_wait().unwrap().is_none() {
                    signal(&running[at].process, 19);
                    std::thread::sleep(Duration::from_millis(draw.below(200)));
                    signal(&running[at].process, 18);
                }
            }
            1 => {
                let mut exclusive = threaded();
                exclusive.create = false;
                match open(store.to_str().unwrap(), exclusive) {
                    Ok(_) => alone += 1,
                    Err(Error::StoreBusy { .. } | Error::NotAStore { .. }) => busy += 1,
                    Err(e) => panic!("alone: {e}"),
                }
            }
            n => {
                let all = n == 2 && draw.below(3) == 0;
                let number = if all { running.len() } else { 1 };
                for _ in 0..number {
                    let mut one = running.remove(at.min(running.len() - 1));
                    one.process.kill().unwrap();
                    kills += 1;
                    end(one, &mut told);
                }
                if running.is_empty() && open(store.to_str().unwrap(), threaded()).is_ok() {
                    alone += 1;
                }
            }
        }
        let (over, on) = running
            .into_iter()
            .map(|mut one| (one.process.try_wait().unwrap().is_some(), one))
            .partition::<Vec<_>, _>(|(is_over, _)| *is_over);
        for (_, one) in over {
            end(one, &mut told);
        }
        running = on.into_iter().map(|(_, one)| one).collect();
    }
    for mut one in running {
        one.process.kill().unwrap();
        end(one, &mut told);
    }
    let survivor = open(store.to_str().unwrap(), threaded()).unwrap();
    let verified = survivor.verify(Depth::Full).unwrap();
    let events = all_events(&survivor);
    assert_eq!(verified.events, events.len() as u64);
    let texts = bodies(&events);
    let mut versions: BTreeMap<&str, u64> = BTreeMap::new();
    for (event, text) in events.iter().zip(&texts) {
        let version = versions.entry(event.stream()).or_default();
        *version += 1;
        let mut words = text.split(' ');
        let name = words.next().unwrap();
        assert_eq!(words.next().unwrap(), format!("v{version}"));
        assert!(!told.refused.contains(name), "{name} was refused");
    }
    for (position, name) in &told.done {
        let text = texts.get(usize::try_from(position - 1).unwrap());
        let is_there = text.is_some_and(|text| text.starts_with(&format!("{name} ")));
        assert!(is_there, "{name} at {position}, of {}", texts.len());
    }
    println!(
        "{kills} kills, {alone} times alone, {busy} times busy, {} told, {} events",
        told.done.len(),
        texts.len()
    );
}
