//! Sessions that are killed lose no acknowledged commit, and the other sessions continue.
//!
//! Simulated processes are killed at each of their steps (see `support/schedule.rs`), and real
//! processes with background threads are stopped and killed at random moments.
//!
//! `EVENTBRAID_PROCESS_SCHEDULES=100000` runs that many schedules instead of the default, and
//! `EVENTBRAID_KILL_SECONDS=600` runs the real processes for that long.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "a test fails loudly, and its children report on their output"
)]

mod support;

use support::machine::SeededRandom;
use support::schedule::{Plan, run, schedules};

#[test]
fn a_session_killed_at_any_step_loses_no_acknowledged_commit() {
    let wanted = schedules(600);
    let mut done = 0;
    let mut seed = 0;
    while done < wanted {
        let plan = Plan {
            seed,
            processes: 2 + usize::try_from(seed % 2).unwrap(),
            appends: 3,
            kill: None,
            lost_sync: None,
            threads: false,
            mixed: false,
        };
        let steps = run(plan);
        let stride = 1 + steps / 60;
        let mut step = 1 + seed % stride;
        while step <= steps && done < wanted {
            run(Plan {
                kill: Some((0, step)),
                ..plan
            });
            step += stride;
            done += 1;
        }
        seed += 1;
    }
    println!("{done} schedules");
}

#[test]
fn a_session_with_threads_killed_at_any_step_loses_no_acknowledged_commit() {
    let wanted = schedules(100);
    for seed in 0..wanted {
        let mut random = SeededRandom::new(seed);
        run(Plan {
            seed,
            processes: 2 + usize::try_from(seed % 2).unwrap(),
            appends: 5,
            kill: Some((0, 1 + random.below(3000))),
            lost_sync: None,
            threads: true,
            mixed: false,
        });
    }
    println!("{wanted} schedules");
}

/// Processes of the operating system. This test program starts itself for each of them.
#[cfg(target_os = "linux")]
mod real_processes {
    use std::collections::{BTreeMap, BTreeSet};
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::path::Path;
    use std::process::{Child, Command, Stdio};
    use std::sync::Arc;
    use std::thread::JoinHandle;
    use std::time::{Duration, Instant};

    use eventbraid_engine::vfs::os::OsVfs;
    use eventbraid_engine::{Depth, Error, Expectation, Mode, Options, Store};

    use crate::support::machine::SeededRandom;
    use crate::support::{append_expecting, bodies, log, threaded};

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

    fn print_line(line: &str) {
        let mut out = std::io::stdout().lock();
        writeln!(out, "\n{line}").unwrap();
        out.flush().unwrap();
    }

    /// The program of a child process: three sessions, unless it is killed.
    #[test]
    fn child() {
        let Ok(directory) = std::env::var(DIRECTORY) else {
            return;
        };
        let me = std::process::id();
        let mut random = SeededRandom::new(u64::from(me));
        for session in 0..3 {
            let store = match open(&directory, shared()) {
                Ok(store) => store,
                Err(e) => return print_line(&format!("ERROR open: {e}")),
            };
            let rounds = 20 + random.below(200);
            for i in 0..rounds {
                let stream = ["a", "b", "c"][usize::try_from(random.below(3)).unwrap()];
                let version = match store.version(stream) {
                    Ok(version) => version,
                    Err(e) => return print_line(&format!("ERROR version: {e}")),
                };
                let size = [10, 300, 6000][usize::try_from(random.below(3)).unwrap()];
                let body = format!("{me}.{session}.{i} v{} {}", version + 1, "x".repeat(size));
                let key = (random.below(3) == 0).then(|| format!("{me}.{session}.{i}"));
                print_line(&format!("TRY {me}.{session}.{i}"));
                let expectations = [(stream, Expectation::Exact(version))];
                let events = [(stream, body.as_bytes())];
                match append_expecting(&store, &events, &expectations, key.as_deref()) {
                    Ok(done) => print_line(&format!(
                        "DONE {} {me}.{session}.{i}",
                        done.first_position.unwrap()
                    )),
                    Err(Error::VersionConflict { failures, .. }) => {
                        let seen = store.version(stream).unwrap();
                        let reported = failures[0].actual;
                        if seen < reported {
                            return print_line(&format!(
                                "ERROR conflict at {reported}, read {seen}"
                            ));
                        }
                        print_line(&format!("REFUSED {me}.{session}.{i}"));
                    }
                    Err(e) => return print_line(&format!("ERROR append: {e}")),
                }
                if random.below(20) == 0 {
                    let waited = store
                        .head()
                        .and_then(|head| store.wait_beyond(head, Duration::from_millis(20)));
                    if let Err(e) = waited {
                        return print_line(&format!("ERROR wait: {e}"));
                    }
                }
                if random.below(100) == 0
                    && let Err(e) = store.verify(Depth::Full)
                {
                    return print_line(&format!("ERROR verify: {e}"));
                }
            }
            if random.below(4) > 0
                && let Err(e) = store.close()
            {
                return print_line(&format!("ERROR close: {e}"));
            }
        }
    }

    /// The results that a process reported.
    #[derive(Debug, Default)]
    struct Results {
        done: BTreeMap<u64, String>,
        refused: BTreeSet<String>,
        errors: Vec<String>,
    }

    struct Running {
        process: Child,
        reader: JoinHandle<Results>,
    }

    fn spawn(directory: &Path) -> Running {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "real_processes::child", "--nocapture"])
            .env(DIRECTORY, directory)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let output = process.stdout.take().unwrap();
        let reader = std::thread::spawn(move || {
            let mut results = Results::default();
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let mut words = line.split(' ');
                match words.next() {
                    Some("DONE") => {
                        let position = words.next().unwrap().parse().unwrap();
                        results
                            .done
                            .insert(position, words.next().unwrap().to_owned());
                    }
                    Some("REFUSED") => {
                        results.refused.insert(words.next().unwrap().to_owned());
                    }
                    Some("ERROR") => results.errors.push(line.clone()),
                    _ => {}
                }
            }
            results
        });
        Running { process, reader }
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
    fn killed_processes_lose_no_acknowledged_commit() {
        let seconds = std::env::var("EVENTBRAID_KILL_SECONDS");
        let seconds = seconds.map_or(5, |n| n.parse().unwrap());
        let directory = tempfile::tempdir().unwrap();
        let store = directory.path().join("store");
        let mut random = SeededRandom::new(u64::from(std::process::id()));
        let mut results = Results::default();
        let mut running: Vec<Running> = Vec::new();
        let deadline = Instant::now() + Duration::from_secs(seconds);
        let mut kills = 0;
        let mut busy = 0;
        let mut alone = 0;
        let end = |one: Running, results: &mut Results| {
            let mut one = one;
            one.process.wait().unwrap();
            let own = one.reader.join().unwrap();
            for (position, name) in own.done {
                let old = results.done.insert(position, name);
                assert!(old.is_none(), "{position} twice: {old:?}");
            }
            results.refused.extend(own.refused);
            assert!(own.errors.is_empty(), "{:?}", own.errors);
        };
        while Instant::now() < deadline {
            while running.len() < 3 {
                running.push(spawn(&store));
            }
            std::thread::sleep(Duration::from_millis(random.below(120)));
            let at = usize::try_from(random.below(3)).unwrap();
            match random.below(4) {
                0 => {
                    if running[at].process.try_wait().unwrap().is_none() {
                        signal(&running[at].process, 19);
                        std::thread::sleep(Duration::from_millis(random.below(200)));
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
                    let all = n == 2 && random.below(3) == 0;
                    let number = if all { running.len() } else { 1 };
                    for _ in 0..number {
                        let mut one = running.remove(at.min(running.len() - 1));
                        one.process.kill().unwrap();
                        kills += 1;
                        end(one, &mut results);
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
                end(one, &mut results);
            }
            running = on.into_iter().map(|(_, one)| one).collect();
        }
        for mut one in running {
            one.process.kill().unwrap();
            end(one, &mut results);
        }
        let survivor = open(store.to_str().unwrap(), threaded()).unwrap();
        let verified = survivor.verify(Depth::Full).unwrap();
        let events = log(&survivor);
        assert_eq!(verified.events, events.len() as u64);
        let texts = bodies(&events);
        let mut versions: BTreeMap<&str, u64> = BTreeMap::new();
        for (event, text) in events.iter().zip(&texts) {
            let version = versions.entry(event.stream()).or_default();
            *version += 1;
            let mut words = text.split(' ');
            let name = words.next().unwrap();
            assert_eq!(words.next().unwrap(), format!("v{version}"));
            assert!(!results.refused.contains(name), "{name} was refused");
        }
        for (position, name) in &results.done {
            let text = texts.get(usize::try_from(position - 1).unwrap());
            let is_there = text.is_some_and(|text| text.starts_with(&format!("{name} ")));
            assert!(is_there, "{name} at {position}, of {}", texts.len());
        }
        println!(
            "{kills} kills, {alone} times alone, {busy} times busy, {} acknowledged, {} events",
            results.done.len(),
            texts.len()
        );
    }
}
