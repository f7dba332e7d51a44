//! Chains of appends that build on each other, in several sessions, with faults and kills.
//!
//! Each session submits appends without waiting for the results of the previous ones, and decides
//! each of them on the events that it expects in the log afterwards. The body of an event names the
//! events on which it was decided: the one before it in its own stream, and the last one of a stream
//! that was only read. So the log itself shows whether an append was accepted on events that don't
//! exist, or missed events that do:
//!
//! * an event directly follows the event that its body names, and the streams that its append has
//!   only read end with the events that it names;
//! * every acknowledged append is in the log, with all those that it builds on, also after a loss
//!   of power;
//! * no refused append is in the log.
//!
//! `EVENTBRAID_PROCESS_SCHEDULES=100000` runs that many schedules instead of the default.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test fails loudly and prints its counts"
)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use eventbraid_engine::mutex::Mutex;
use eventbraid_engine::vfs::sim::{Call, Failure, Fault, Persist, SimVfs};
use eventbraid_engine::{
    Append, Appended, Error, Expectation, LogQuery, PendingAppend, Prepared, Recorded, Store,
    prepare,
};
use support::hook::LIMIT;
use support::machine::{Machine, SeededRandom};
use support::schedule::schedules;
use support::{bodies, event, log, open_with, options};

const STREAMS: [&str; 3] = ["a", "b", "c"];

/// The name of the event before the first one of a stream.
const NOTHING: &str = "nothing";

const ROUNDS: u64 = 6;

/// Maximum number of appends that a session submits before it waits for their results.
const LONGEST_CHAIN: u64 = 8;

#[derive(Clone, Copy, Debug)]
struct Plan {
    seed: u64,
    processes: usize,
    /// Whether the sessions have background threads, which write several appends as one batch.
    threads: bool,
    /// The process that is killed, and its step at which that happens.
    kill: Option<(usize, u64)>,
    /// A call on a segment that fails.
    fault: Option<Fault>,
}

/// The results that the sessions got.
#[derive(Debug, Default)]
struct Journal {
    /// The appends that must be in the log.
    acknowledged: BTreeSet<String>,
    /// The appends that may be in the log: their outcome isn't known.
    uncertain: BTreeSet<String>,
    conflicts: u64,
}

/// The end of a stream after the appends that a session has submitted.
#[derive(Clone, Debug)]
struct Head {
    version: u64,
    /// The append with the last event.
    last: String,
    /// That append, if it is one of those that the session waits for.
    pending: Option<PendingAppend>,
}

/// An append that is ready to be submitted.
struct Link {
    name: String,
    prepared: Prepared,
    /// The appends whose events must be in the log if this one is acknowledged.
    decided_on: Vec<String>,
}

type Results = Arc<Mutex<BTreeMap<String, Result<Appended, Error>>>>;

struct Session<'a> {
    machine: &'a Machine,
    number: usize,
    plan: Plan,
    store: &'a Store,
    journal: &'a Arc<Mutex<Journal>>,
    random: SeededRandom,
}

impl Session<'_> {
    /// Read the end of each stream. Return `None` if the session can't continue.
    fn heads(&self) -> Option<BTreeMap<&'static str, Head>> {
        let read = self.store.read_log(&LogQuery::all());
        if self.machine.is_killed(self.number) {
            return None;
        }
        let events = read.unwrap().events;
        let head = |stream: &'static str| {
            let of_stream = || events.iter().filter(|event| event.stream() == stream);
            let last = of_stream().next_back().map(|event| parts(event)[0].clone());
            let head = Head {
                version: of_stream().count() as u64,
                last: last.unwrap_or_else(|| NOTHING.to_owned()),
                pending: None,
            };
            (stream, head)
        };
        Some(STREAMS.into_iter().map(head).collect())
    }

    /// Decide an append on the heads, and change them as if it was accepted.
    fn link(&mut self, name: String, heads: &mut BTreeMap<&'static str, Head>) -> Link {
        // One stream is never chosen, one is only read with some probability, and some appends
        // write nothing: they check what they build on.
        let offset = usize::try_from(self.random.below(3)).unwrap();
        let order = [0, 1, 2].map(|i| STREAMS[(i + offset) % 3]);
        let counts = [0, 1, 1, 1, 2, 2];
        let count = counts[usize::try_from(self.random.below(6)).unwrap()];
        let (written, others) = order.split_at(count);
        let reads = written.is_empty() || self.random.below(2) == 0;
        let read = reads.then(|| others[0]);
        let claim = read.map_or(String::new(), |stream| {
            format!(" reads {stream} {}", heads[stream].last)
        });
        let texts: Vec<_> = written
            .iter()
            .map(|stream| format!("{name} after {}{claim}", heads[stream].last))
            .collect();
        let events: Vec<_> = written
            .iter()
            .zip(&texts)
            .map(|(stream, text)| event(stream, text.as_bytes()))
            .collect();
        let used = || written.iter().copied().chain(read);
        let expectations: Vec<_> = used()
            .map(|stream| (stream, Expectation::Exact(heads[stream].version)))
            .collect();
        let own = PendingAppend::default();
        let prepared = prepare(&Append {
            events: &events,
            expectations: &expectations,
            ..Append::default()
        })
        .unwrap()
        .as_pending(own.clone())
        .building_on(used().filter_map(|s| heads[s].pending.clone()).collect());
        let decided_on = used().map(|stream| heads[stream].last.clone()).collect();
        for stream in written {
            let head = heads.get_mut(stream).unwrap();
            head.version += 1;
            head.last.clone_from(&name);
            head.pending = Some(own.clone());
        }
        Link {
            name,
            prepared,
            decided_on,
        }
    }

    fn submit(&self, link: Link, results: &Results) {
        let Link {
            name,
            prepared,
            decided_on,
        } = link;
        let (machine, number) = (self.machine.clone(), self.number);
        let (journal, results) = (Arc::clone(self.journal), Arc::clone(results));
        let writes = prepared_writes(&prepared);
        journal.lock().uncertain.insert(name.clone());
        let done = move |result: Result<Appended, Error>| {
            let mut journal = journal.lock();
            if !machine.is_killed(number) {
                match &result {
                    Ok(_) => {
                        journal.acknowledged.extend(decided_on);
                        if writes {
                            journal.acknowledged.insert(name.clone());
                        }
                    }
                    Err(Error::OutcomeUnknown { .. }) => {}
                    Err(error) => {
                        let is_conflict = matches!(error, Error::VersionConflict { .. });
                        journal.conflicts += u64::from(is_conflict);
                        journal.uncertain.remove(&name);
                    }
                }
            }
            results.lock().insert(name, result);
        };
        self.store.submit(prepared, Box::new(done));
    }

    /// Submit a chain and wait for its results. Return `false` if the session must stop.
    fn append_chain(&mut self, round: u64) -> bool {
        let Some(mut heads) = self.heads() else {
            return false;
        };
        let results = Results::default();
        let length = 1 + self.random.below(LONGEST_CHAIN);
        let mut held = Vec::new();
        for number in 0..length {
            let name = format!("p{}.{round}.{number}", self.number);
            let link = self.link(name, &mut heads);
            // Some appends are submitted after those that build on them.
            if self.random.below(8) == 0 {
                held.push(link);
                continue;
            }
            self.submit(link, &results);
            if self.random.below(4) == 0 {
                held.drain(..).for_each(|link| self.submit(link, &results));
            }
        }
        held.drain(..).for_each(|link| self.submit(link, &results));
        let began = Instant::now();
        while results.lock().len() < usize::try_from(length).unwrap() {
            if self.machine.is_killed(self.number) {
                return false;
            }
            assert!(began.elapsed() < LIMIT, "an append gets no result");
            std::thread::sleep(Duration::from_micros(50));
        }
        let results = results.lock();
        let errors = results.values().filter_map(|result| result.as_ref().err());
        let others = errors.filter(|error| !matches!(error, Error::VersionConflict { .. }));
        for error in others {
            if self.machine.is_killed(self.number) {
                return false;
            }
            assert!(self.plan.fault.is_some(), "{error}");
            if matches!(error, Error::Poisoned { .. } | Error::OutcomeUnknown { .. }) {
                return false;
            }
        }
        true
    }

    fn run(&mut self) {
        for round in 0..ROUNDS {
            if self.machine.is_killed(self.number) || !self.append_chain(round) {
                return;
            }
            if self.random.below(8) == 0 {
                let seed = self.random.next();
                cut_power(self.machine, &self.journal.lock(), seed);
            }
        }
        if self.random.below(2) == 0 {
            let closed = self.store.close();
            let is_expected = self.machine.is_killed(self.number) || self.plan.fault.is_some();
            assert!(closed.is_ok() || is_expected, "{closed:?}");
        }
    }
}

fn prepared_writes(prepared: &Prepared) -> bool {
    prepared.event_ids().next().is_some()
}

/// Split the body of an event into its words.
fn parts(event: &Recorded) -> Vec<String> {
    let text = String::from_utf8_lossy(event.data());
    text.split(' ').map(str::to_owned).collect()
}

fn check(store: &Store, journal: &Journal, context: &str) {
    let events = log(store);
    let mut last: BTreeMap<String, String> = BTreeMap::new();
    let mut before = last.clone();
    let mut in_log = BTreeSet::from([NOTHING.to_owned()]);
    for event in &events {
        let words = parts(event);
        let (name, after) = (&words[0], &words[2]);
        if in_log.insert(name.clone()) {
            // The first event of an append: what it has read is the state before it.
            before.clone_from(&last);
        }
        let of = |state: &BTreeMap<String, String>, stream: &str| {
            state.get(stream).map_or(NOTHING, String::as_str).to_owned()
        };
        let log = || bodies(&events);
        assert_eq!(&of(&last, event.stream()), after, "{context}: {:?}", log());
        if let [_, _, _, _, stream, read] = &words[..] {
            assert_eq!(&of(&before, stream), read, "{context}: {:?}", log());
        }
        last.insert(event.stream().to_owned(), name.clone());
        assert!(
            journal.acknowledged.contains(name) || journal.uncertain.contains(name),
            "{context}: {name} was refused and is in the log: {:?}",
            log()
        );
    }
    let missing: Vec<_> = journal.acknowledged.difference(&in_log).collect();
    assert!(missing.is_empty(), "{context}: {missing:?}");
}

/// Check the files as a loss of power at this moment would leave them.
fn cut_power(machine: &Machine, journal: &Journal, seed: u64) {
    let persist = match seed % 3 {
        0 => Persist::Nothing,
        1 => Persist::Everything,
        _ => Persist::Seeded(seed),
    };
    let store = open_with(machine.disk.power_cut(persist), options()).unwrap();
    check(&store, journal, "after a loss of power in the middle");
}

/// Run one schedule. Return the number of conflicts.
fn run(plan: Plan) -> u64 {
    let disk = SimVfs::tracked(plan.seed);
    let machine = Machine::new(disk, plan.processes, plan.seed, !plan.threads);
    if let Some((process, step)) = plan.kill {
        machine.kill_at(process, step);
    }
    if let Some(fault) = plan.fault {
        machine.disk.fail_on(".hot", fault);
    }
    let journal = Arc::new(Mutex::new(Journal::default()));
    let run_process = |number: usize| {
        let mut options = support::shared::shared(options());
        options.background = plan.threads;
        options.lock_timeout = Duration::from_mins(5);
        let store = match open_with(machine.process(number), options) {
            Ok(store) => store,
            Err(_) if machine.is_killed(number) || plan.fault.is_some() => return,
            Err(error) => panic!("process {number} can't open: {error}"),
        };
        let mut session = Session {
            machine: &machine,
            number,
            plan,
            store: &store,
            journal: &journal,
            random: SeededRandom::new(plan.seed ^ (number as u64 + 1) << 32),
        };
        session.run();
    };
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let bodies = (0..plan.processes)
            .map(|number| {
                let run_process = &run_process;
                Box::new(move || run_process(number)) as Box<dyn FnOnce() + Send>
            })
            .collect();
        machine.run(bodies);
        let journal = journal.lock();
        for persist in [
            Persist::Everything,
            Persist::Nothing,
            Persist::Seeded(plan.seed),
        ] {
            let store = open_with(machine.disk.power_cut(persist), options()).unwrap();
            check(&store, &journal, "after a loss of power");
        }
    }));
    if let Err(panic) = outcome {
        for line in machine.trace() {
            println!("{line}");
        }
        println!("failed: {plan:?}");
        std::panic::resume_unwind(panic);
    }
    journal.lock().conflicts
}

fn plan(seed: u64, threads: bool) -> Plan {
    Plan {
        seed,
        processes: 2 + usize::try_from(seed % 2).unwrap(),
        threads,
        kill: None,
        fault: None,
    }
}

fn run_all(wanted: u64, plan: impl Fn(u64) -> Plan) {
    let conflicts: u64 = (0..wanted).map(|seed| run(plan(seed))).sum();
    assert!(conflicts > wanted, "only {conflicts} conflicts");
    println!("{wanted} schedules, {conflicts} conflicts");
}

#[test]
fn chains_of_appends_are_accepted_on_the_events_that_they_were_decided_on() {
    run_all(schedules(200), |seed| plan(seed, false));
}

#[test]
fn chains_in_shared_batches_are_accepted_on_the_events_that_they_were_decided_on() {
    run_all(schedules(120), |seed| plan(seed, true));
}

#[test]
fn chains_survive_the_kill_of_a_session() {
    run_all(schedules(150), |seed| Plan {
        kill: Some((0, 1 + SeededRandom::new(seed).below(2500))),
        ..plan(seed, seed % 2 == 0)
    });
}

#[test]
fn chains_survive_failed_writes_and_syncs() {
    let failures = [Failure::EIO, Failure::ENOSPC, Failure::Short];
    run_all(schedules(200), |seed| {
        let mut random = SeededRandom::new(seed);
        let nth = 1 + random.below(30);
        let failure = failures[usize::try_from(random.below(3)).unwrap()];
        let fault = match random.below(3) {
            0 => Fault::once(Call::SyncData, nth, Failure::EIO),
            1 => Fault::once(Call::SyncData, nth, Failure::EIO).losing(),
            _ => Fault::once(Call::Write, nth, failure),
        };
        Plan {
            fault: Some(fault),
            ..plan(seed, seed % 2 == 0)
        }
    });
}
