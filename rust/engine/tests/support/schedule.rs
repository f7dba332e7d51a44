//! One schedule of several simulated processes that share a store, and the checks of it.
//!
//! The processes of one simulated machine take turns, drawn from a seed, at every word of
//! shared memory, every lock and every call on a file (see `machine.rs`). They open the store,
//! read, append under expectations and close it. In every order, and wherever a process dies:
//!
//! * the other processes continue, and get only the results of their own appends;
//! * a read returns everything that was acknowledged before it began;
//! * no expectation is checked against an outdated version, and no commit is torn or written twice;
//! * every acknowledged commit is in the log at the end, also after a loss of power.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use eventbraid_engine::mutex::Mutex;
use eventbraid_engine::vfs::sim::{Call, Failure, Fault, Persist, SimVfs};
use eventbraid_engine::{
    Append, CategoryStreams, Depth, Error, Expectation, LogQuery, Mode, Options, Recorded, Store,
    prepare,
};

use super::machine::{Machine, SeededRandom};
use super::{bodies, category, event, log, open_with, options};

/// Return options with small segments, no threads, and a long lock timeout.
fn shared() -> Options {
    let mut options = options();
    options.mode = Mode::Shared;
    options.lock_timeout = Duration::from_mins(5);
    options
}

/// The events of a commit: stream, and a text that names commit and version.
type Commit = Vec<(String, String)>;

/// The results that the processes got.
#[derive(Clone, Debug, Default)]
struct Journal {
    /// Acknowledged commits, by the position of their first event.
    acknowledged: BTreeMap<u64, Commit>,
    /// Commits that may be in the log: they have begun, and their process has no result yet.
    uncertain: BTreeSet<String>,
}

/// The parameters of one schedule.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) processes: usize,
    pub(crate) appends: usize,
    /// The process that is killed, and its step at which that happens.
    pub(crate) kill: Option<(usize, u64)>,
    /// The sync of a segment, counted from 1, that fails and loses its bytes.
    pub(crate) lost_sync: Option<u64>,
    /// Whether each process has background threads. The first session is then the only one until
    /// the next one sends a join request.
    pub(crate) threads: bool,
    /// Whether some sessions are exclusive and some read-only.
    pub(crate) mixed: bool,
}

impl Plan {
    /// Whether a process may get this error after a lost sync.
    fn allows(&self, error: &Error) -> bool {
        let is_expected = matches!(error, Error::Poisoned { .. } | Error::OutcomeUnknown { .. });
        self.lost_sync.is_some() && is_expected
    }
}

/// The microseconds for which an open waits for a session without a shared page, which may be
/// creating one. The open measures them in real time. If they pass before they have passed in
/// simulated time, the real machine kept that session from running, and the refusal is right.
const GRACE_PERIOD: u64 = 250_000;

const STREAMS: [&str; 3] = ["a", "b", "c"];

/// The category in which the processes create streams. The name of such a stream begins with the
/// number of streams that the category had when its creator read it, so two creators that both
/// append at one version of the category leave two streams with one number.
const CATEGORY: &str = "m";

/// Run one process: two sessions, or four if they are mixed.
fn run_process(machine: &Machine, number: usize, plan: Plan, journal: &Mutex<Journal>) {
    let mut random = SeededRandom::new(plan.seed ^ (number as u64 + 1) << 32);
    for session in 0..if plan.mixed { 4 } else { 2 } {
        let mut options = shared();
        options.background = plan.threads;
        let kind = if plan.mixed { random.below(6) } else { 0 };
        if kind == 1 {
            options.mode = Mode::Exclusive;
        }
        options.read_only = kind == 2;
        if plan.mixed {
            options.lock_timeout = Duration::from_mins(5);
        }
        let began = machine.clock();
        let store = match open_with(machine.process(number), options) {
            Ok(store) => store,
            Err(_) if machine.is_killed(number) => return,
            Err(e) if plan.allows(&e) => continue,
            Err(Error::StoreBusy { .. }) if plan.mixed => continue,
            // With threads, waits take real time, and the simulated clock says little of them.
            Err(Error::StoreBusy { .. })
                if !plan.threads && machine.clock() - began < GRACE_PERIOD =>
            {
                continue;
            }
            Err(Error::NotAStore { .. }) if options.read_only => continue,
            Err(e) => panic!("process {number} can't open: {e}"),
        };
        for i in 0..plan.appends {
            if machine.is_killed(number) {
                break;
            }
            if options.read_only {
                check_read_only(machine, number, &store);
                continue;
            }
            check_reads(machine, number, &store, journal);
            let name = format!("p{number}.{session}.{i}");
            if !write(machine, number, plan, &store, journal, &name, &mut random) {
                break;
            }
            if random.below(8) == 0 {
                cut_power(machine, &journal.lock(), random.next());
            }
        }
        if random.below(3) == 0 {
            let verified = store.verify(Depth::Full);
            let is_expected = matches!(&verified, Err(e) if plan.allows(e));
            assert!(
                verified.is_ok() || is_expected || machine.is_killed(number),
                "process {number} finds damage: {verified:?}"
            );
        }
        if random.below(4) > 0 {
            let closed = store.close();
            let is_expected = matches!(&closed, Err(e) if plan.allows(e));
            assert!(
                closed.is_ok() || is_expected || machine.is_killed(number),
                "process {number} can't close: {closed:?}"
            );
        }
    }
}

/// Assert that a read-only session reads a prefix of the log without gaps.
fn check_read_only(machine: &Machine, number: usize, store: &Store) {
    match store.read_log(&LogQuery::all()) {
        _ if machine.is_killed(number) => {}
        read => {
            let positions: Vec<u64> = read
                .unwrap()
                .events
                .iter()
                .map(Recorded::position)
                .collect();
            let expected: Vec<u64> = (1..=positions.len() as u64).collect();
            assert_eq!(positions, expected, "process {number} is read-only");
        }
    }
}

/// Assert that a read returns everything that was acknowledged before it began.
fn check_reads(machine: &Machine, number: usize, store: &Store, journal: &Mutex<Journal>) {
    let before = journal.lock().acknowledged.clone();
    let events = match store.read_log(&LogQuery::all()) {
        _ if machine.is_killed(number) => return,
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

/// Append one commit under expectations. Return `false` if the process must stop.
fn write(
    machine: &Machine,
    number: usize,
    plan: Plan,
    store: &Store,
    journal: &Mutex<Journal>,
    name: &str,
    random: &mut SeededRandom,
) -> bool {
    let chosen = 1 + random.below(7);
    let is_chosen = |i: &usize| chosen & (1 << i) != 0;
    let streams: Vec<&str> = (0..3).filter(is_chosen).map(|i| STREAMS[i]).collect();
    let keyed = random.below(3) == 0;
    let creates = random.below(3) == 0;
    let key = keyed.then(|| format!("key-{name}"));
    for _attempt in 0..50 {
        let mut events = Vec::new();
        let mut expectations = Vec::new();
        for stream in &streams {
            let version = match store.version(stream) {
                _ if machine.is_killed(number) => return false,
                version => version.unwrap(),
            };
            expectations.push((*stream, Expectation::Exact(version)));
            let size = [10, 300, 3000][usize::try_from(random.below(3)).unwrap()];
            let body = format!("{name} v{} {}", version + 1, "x".repeat(size));
            events.push(((*stream).to_owned(), body));
        }
        let mut category_expectations = Vec::new();
        if creates {
            let members = match category(store, CATEGORY) {
                _ if machine.is_killed(number) => return false,
                members => members.unwrap(),
            };
            check_members(&members, &format!("process {number}"));
            category_expectations.push((CATEGORY, Expectation::Exact(members.version)));
            let member = format!("{CATEGORY}-{}-{name}", members.version);
            events.push((member, format!("{name} v1")));
        }
        let inputs: Vec<_> = events
            .iter()
            .map(|(stream, body)| event(stream, body.as_bytes()))
            .collect();
        let append = Append {
            events: &inputs,
            expectations: &expectations,
            category_expectations: &category_expectations,
            idempotency_key: key.as_deref(),
            ..Append::default()
        };
        journal.lock().uncertain.insert(name.to_owned());
        let result = store.append(prepare(&append).unwrap());
        let mut journal = journal.lock();
        if machine.is_killed(number) {
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
                    assert!(old.is_none(), "position {first} was assigned twice");
                }
                return true;
            }
            Err(Error::VersionConflict { .. }) => {}
            Err(e) if plan.allows(&e) => return false,
            Err(e) => panic!("process {number} can't append: {e}"),
        }
    }
    panic!("process {number} never appends");
}

/// Assert that the streams of the category were created one at a time, each at the version of the
/// category that its creator had read.
fn check_members(members: &CategoryStreams, context: &str) {
    let number = |name: &str| name.split('-').nth(1).unwrap().parse::<u64>().unwrap();
    let numbers: Vec<u64> = members.names.iter().map(|name| number(name)).collect();
    let expected: Vec<u64> = (0..members.version).collect();
    assert_eq!(numbers, expected, "{context}: {:?}", members.names);
}

/// Assert that the log is undamaged and contains every acknowledged commit and no refused one.
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
        let version_text = text.split(' ').nth(1);
        assert_eq!(
            version_text,
            Some(expected.as_str()),
            "{context}: {}",
            event.stream()
        );
        assert_eq!(event.version(), *version, "{context}");
    }
    let members = category(store, CATEGORY).unwrap();
    check_members(&members, context);
    let firsts = events.iter().filter(|event| event.version() == 1);
    let created: Vec<&str> = firsts
        .map(Recorded::stream)
        .filter(|stream| stream.starts_with("m-"))
        .collect();
    assert!(
        members.names.iter().map(|name| &**name).eq(created),
        "{context}"
    );
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
            "{context}: {name} was refused and is in the log"
        );
    }
    let verified = store
        .verify(Depth::Full)
        .unwrap_or_else(|e| panic!("{context}: {e}"));
    assert_eq!(verified.events, events.len() as u64, "{context}");
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

/// Run one schedule. Return the number of steps of the first process.
pub(crate) fn run(plan: Plan) -> u64 {
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
                Box::new(move || run_process(machine, number, plan, journal))
                    as Box<dyn FnOnce() + Send>
            })
            .collect();
        machine.run(bodies);
        let journal = journal.lock();
        let survivor = open_with(machine.disk.clone(), shared()).unwrap();
        check(&survivor, &journal, "at the end");
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

pub(crate) fn schedules(default: u64) -> u64 {
    let wanted = std::env::var("EVENTBRAID_PROCESS_SCHEDULES");
    wanted.map_or(default, |n| n.parse().unwrap())
}
