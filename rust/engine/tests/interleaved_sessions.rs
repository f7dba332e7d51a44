//! Several processes on one store, each of them killed at each of its steps.
//!
//! The processes of one simulated machine take turns, drawn from a seed, at every word of
//! shared memory, every lock and every call on a file (see `support/machine.rs`). They open
//! the store, read, append under expectations, and close it, as others come and go. Whatever
//! the order, and whoever dies in the middle of what:
//!
//! * the others go on, and are told of nothing but what their own appends came to;
//! * what was acknowledged before a read begins is in what it answers;
//! * no expectation is fooled, no commit is torn, none is there twice;
//! * all that was acknowledged is there afterwards, and after a loss of power too.
//!
//! `EVENTBRAID_PROCESS_SCHEDULES=100000` runs that many schedules instead of the default.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test fails loudly, and tells how many schedules it ran"
)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use eventbraid_engine::lock::Mutex;
use eventbraid_engine::vfs::sim::{Call, Failure, Fault, Persist, SimVfs};
use eventbraid_engine::{Depth, Error, Expectation, LogQuery, Mode, Options, Recorded, Store};
use support::machine::{Draw, Machine};
use support::{append_expecting, bodies, log, open_with, options};

/// Small segments, no threads, and patience with whoever has a lock.
fn shared() -> Options {
    let mut options = options();
    options.mode = Mode::Shared;
    options.lock_timeout = Duration::from_secs(15);
    options
}

/// One event of a commit: its stream, and a text that names commit, version and size.
type Written = Vec<(String, String)>;

/// What the processes were told.
#[derive(Clone, Debug, Default)]
struct Journal {
    /// Acknowledged commits, by the position of their first event.
    acknowledged: BTreeMap<u64, Written>,
    /// Commits that may be in the log: they are under way, or their process was not told.
    uncertain: BTreeSet<String>,
}

#[derive(Clone, Copy, Debug)]
struct Plan {
    seed: u64,
    processes: usize,
    appends: usize,
    kill: Option<(usize, u64)>,
    /// The sync of a segment, counted from 1, that fails and loses what it was for.
    lost_sync: Option<u64>,
    /// Whether each process has the engine's own threads. The first one to come has the store
    /// to itself then, until the next one knocks.
    threads: bool,
    /// Whether some want the store to themselves, and some only to look.
    mixed: bool,
}

impl Plan {
    /// Whether an error is what a process may be told after a lost sync.
    fn allows(&self, error: &Error) -> bool {
        let is_told = matches!(error, Error::Poisoned { .. } | Error::OutcomeUnknown { .. });
        self.lost_sync.is_some() && is_told
    }
}

const STREAMS: [&str; 3] = ["a", "b", "c"];

/// What one process does.
fn live(machine: &Machine, number: usize, plan: Plan, journal: &Mutex<Journal>) {
    let mut draw = Draw::new(plan.seed ^ (number as u64 + 1) << 32);
    for life in 0..if plan.mixed { 4 } else { 2 } {
        let mut options = shared();
        options.background = plan.threads;
        let wish = if plan.mixed { draw.below(6) } else { 0 };
        if wish == 1 {
            options.mode = Mode::Exclusive;
        }
        options.read_only = wish == 2;
        if plan.mixed {
            options.lock_timeout = Duration::from_millis(300);
        }
        let store = match open_with(machine.process(number), options) {
            Ok(store) => store,
            Err(_) if machine.is_dead(number) => return,
            Err(e) if plan.allows(&e) => continue,
            Err(Error::StoreBusy { .. }) if plan.mixed => continue,
            Err(Error::NotAStore { .. }) if options.read_only => continue,
            Err(e) => panic!("process {number} can't open: {e}"),
        };
        for i in 0..plan.appends {
            if machine.is_dead(number) {
                break;
            }
            if options.read_only {
                look(machine, number, &store);
                continue;
            }
            check_reads(machine, number, &store, journal);
            let name = format!("p{number}.{life}.{i}");
            if !write(machine, number, plan, &store, journal, &name, &mut draw) {
                break;
            }
            if draw.below(8) == 0 {
                cut_power(machine, &journal.lock(), draw.next());
            }
        }
        if draw.below(3) == 0 {
            let verified = store.verify(Depth::Full);
            let is_told = matches!(&verified, Err(e) if plan.allows(e));
            assert!(
                verified.is_ok() || is_told || machine.is_dead(number),
                "process {number} finds damage: {verified:?}"
            );
        }
        if draw.below(4) > 0 {
            let closed = store.close();
            let is_told = matches!(&closed, Err(e) if plan.allows(e));
            assert!(
                closed.is_ok() || is_told || machine.is_dead(number),
                "process {number} can't close: {closed:?}"
            );
        }
    }
}

/// What is only looked at is whole as far as it is shown.
fn look(machine: &Machine, number: usize, store: &Store) {
    match store.read_log(&LogQuery::all()) {
        _ if machine.is_dead(number) => {}
        read => {
            let positions: Vec<u64> = read
                .unwrap()
                .events
                .iter()
                .map(Recorded::position)
                .collect();
            let expected: Vec<u64> = (1..=positions.len() as u64).collect();
            assert_eq!(positions, expected, "process {number} only looks");
        }
    }
}

/// All that was acknowledged before is in what is read now.
fn check_reads(machine: &Machine, number: usize, store: &Store, journal: &Mutex<Journal>) {
    let before = journal.lock().acknowledged.clone();
    let events = match store.read_log(&LogQuery::all()) {
        _ if machine.is_dead(number) => return,
        read => read.unwrap().events,
    };
    for (first, written) in before {
        let at = usize::try_from(first - 1).unwrap();
        let read: Vec<_> = events.get(at..).unwrap_or_default().iter().collect();
        for (event, (stream, body)) in read.iter().zip(&written) {
            assert_eq!(event.stream(), stream);
            assert_eq!(&String::from_utf8_lossy(event.data()), body);
        }
        assert!(
            read.len() >= written.len(),
            "process {number} misses position {first} of {}",
            events.len()
        );
    }
}

/// Writes one commit; `false` where the process has to give up.
fn write(
    machine: &Machine,
    number: usize,
    plan: Plan,
    store: &Store,
    journal: &Mutex<Journal>,
    name: &str,
    draw: &mut Draw,
) -> bool {
    let chosen = 1 + draw.below(7);
    let is_chosen = |i: &usize| chosen & (1 << i) != 0;
    let streams: Vec<&str> = (0..3).filter(is_chosen).map(|i| STREAMS[i]).collect();
    let keyed = draw.below(3) == 0;
    let key = keyed.then(|| format!("key-{name}"));
    for _attempt in 0..50 {
        let mut events = Vec::new();
        let mut expectations = Vec::new();
        for stream in &streams {
            let version = match store.version(stream) {
                _ if machine.is_dead(number) => return false,
                version => version.unwrap(),
            };
            expectations.push((*stream, Expectation::Exact(version)));
            let size = [10, 300, 3000][usize::try_from(draw.below(3)).unwrap()];
            let body = format!("{name} v{} {}", version + 1, "x".repeat(size));
            events.push(((*stream).to_owned(), body));
        }
        let given: Vec<(&str, &[u8])> = events
            .iter()
            .map(|(stream, body)| (stream.as_str(), body.as_bytes()))
            .collect();
        journal.lock().uncertain.insert(name.to_owned());
        let result = append_expecting(store, &given, &expectations, key.as_deref());
        let mut journal = journal.lock();
        if machine.is_dead(number) {
            return false;
        }
        if matches!(result, Err(Error::OutcomeUnknown { .. })) && plan.lost_sync.is_some() {
            return false;
        }
        journal.uncertain.remove(name);
        match result {
            Ok(done) => {
                if let Some(first) = done.first_position {
                    let old = journal.acknowledged.insert(first, events);
                    assert!(old.is_none(), "position {first} was given out twice");
                }
                return true;
            }
            Err(Error::VersionConflict { .. }) => {}
            Err(e) if plan.allows(&e) => return false,
            Err(e) => panic!("process {number} can't append: {e}"),
        }
    }
    panic!("process {number} never comes to write");
}

/// The log is whole, holds what was acknowledged, and nothing that was never asked for.
fn check(store: &Store, journal: &Journal, context: &str) {
    let events = log(store);
    let texts = bodies(&events);
    for (first, written) in &journal.acknowledged {
        let at = usize::try_from(first - 1).unwrap();
        let found: Vec<_> = texts.iter().skip(at).take(written.len()).collect();
        let expected: Vec<_> = written.iter().map(|(_, body)| body).collect();
        assert_eq!(found, expected, "{context}: the commit at {first}");
    }
    let mut versions: BTreeMap<&str, u64> = BTreeMap::new();
    for (event, text) in events.iter().zip(&texts) {
        let version = versions.entry(event.stream()).or_default();
        *version += 1;
        let expected = format!("v{version}");
        let told = text.split(' ').nth(1);
        assert_eq!(
            told,
            Some(expected.as_str()),
            "{context}: {}",
            event.stream()
        );
        assert_eq!(event.version(), *version, "{context}");
    }
    let acknowledged: BTreeSet<&str> = journal
        .acknowledged
        .values()
        .flatten()
        .filter_map(|(_, body)| body.split(' ').next())
        .collect();
    for text in &texts {
        let name = text.split(' ').next().unwrap();
        assert!(
            acknowledged.contains(name) || journal.uncertain.contains(name),
            "{context}: {name} was refused, and is there"
        );
    }
    let verified = store
        .verify(Depth::Full)
        .unwrap_or_else(|e| panic!("{context}: {e}"));
    assert_eq!(verified.events, events.len() as u64, "{context}");
}

/// The machine loses power now, while each process is where it is.
fn cut_power(machine: &Machine, journal: &Journal, seed: u64) {
    let persist = match seed % 3 {
        0 => Persist::Nothing,
        1 => Persist::Everything,
        _ => Persist::Seeded(seed),
    };
    let store = open_with(machine.disk.power_cut(persist), options()).unwrap();
    check(&store, journal, "after a loss of power in the middle");
}

/// Runs one schedule; answers how many steps the first process took.
fn run(plan: Plan) -> u64 {
    let disk = SimVfs::tracked(plan.seed);
    let machine = Machine::new(disk, plan.processes, plan.seed, !plan.threads);
    if let Some((process, step)) = plan.kill {
        machine.kill_at(process, step);
    }
    if let Some(nth) = plan.lost_sync {
        let lost = Fault::once(Call::SyncData, nth, Failure::EIO).losing();
        machine.disk.fail_on(".hot", lost);
    }
    let journal = Mutex::new(Journal::default());
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let bodies = (0..plan.processes)
            .map(|number| {
                let (machine, journal) = (&machine, &journal);
                Box::new(move || live(machine, number, plan, journal)) as Box<dyn FnOnce() + Send>
            })
            .collect();
        machine.run(bodies);
        let journal = journal.lock();
        let survivor = open_with(machine.disk.clone(), shared()).unwrap();
        check(&survivor, &journal, "afterwards");
        drop(survivor);
        for persist in [Persist::Nothing, Persist::Seeded(plan.seed)] {
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
    machine.steps(0)
}

fn schedules(default: u64) -> u64 {
    let wanted = std::env::var("EVENTBRAID_PROCESS_SCHEDULES");
    wanted.map_or(default, |n| n.parse().unwrap())
}

#[test]
fn processes_share_a_store_in_any_order() {
    let wanted = schedules(300);
    for seed in 0..wanted {
        run(Plan {
            seed,
            processes: 2 + usize::try_from(seed % 3).unwrap(),
            appends: 4,
            kill: None,
            lost_sync: None,
            threads: false,
            mixed: false,
        });
    }
    println!("{wanted} schedules");
}

#[test]
fn a_process_may_die_at_each_of_its_steps() {
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

/// Whoever hears of it, all stop; what was acknowledged is there when the store is opened anew.
#[test]
fn a_lost_sync_stops_all_processes() {
    let wanted = schedules(200);
    for seed in 0..wanted {
        run(Plan {
            seed,
            processes: 2 + usize::try_from(seed % 2).unwrap(),
            appends: 4,
            kill: None,
            lost_sync: Some(1 + seed % 17),
            threads: false,
            mixed: false,
        });
    }
    println!("{wanted} schedules");
}

#[test]
fn processes_with_threads_of_their_own_share_a_store() {
    let wanted = schedules(100);
    for seed in 0..wanted {
        run(Plan {
            seed,
            processes: 2 + usize::try_from(seed % 3).unwrap(),
            appends: 6,
            kill: None,
            lost_sync: (seed % 5 == 4).then_some(1 + seed % 23),
            threads: true,
            mixed: false,
        });
    }
    println!("{wanted} schedules");
}

/// Who finds the store in use is told so, and nobody else is disturbed.
#[test]
fn some_want_a_store_to_themselves_and_some_only_look() {
    let wanted = schedules(150);
    for seed in 0..wanted {
        let mut draw = Draw::new(seed);
        run(Plan {
            seed,
            processes: 3 + usize::try_from(seed % 2).unwrap(),
            appends: 3,
            kill: (seed % 3 == 2).then(|| (0, 1 + draw.below(2500))),
            lost_sync: None,
            threads: seed % 2 == 1,
            mixed: true,
        });
    }
    println!("{wanted} schedules");
}

#[test]
fn a_process_with_threads_of_its_own_may_die_at_any_step() {
    let wanted = schedules(100);
    for seed in 0..wanted {
        let mut draw = Draw::new(seed);
        run(Plan {
            seed,
            processes: 2 + usize::try_from(seed % 2).unwrap(),
            appends: 5,
            kill: Some((0, 1 + draw.below(3000))),
            lost_sync: None,
            threads: true,
            mixed: false,
        });
    }
    println!("{wanted} schedules");
}
