//! A crash at every write, sync, rename and publication, and then in recovery itself.
//!
//! A scripted workload runs on the simulated file system, which numbers every mutating call. For
//! each number the workload stops exactly there. Then power is lost, and every subset of the
//! unsynced changes survives if they are few, or random subsets if they are many. In each case the
//! store must open and contain every acknowledged commit. It must contain the interrupted commit
//! completely or not at all.
//!
//! A process that dies leaves its writes in the page cache. The store is opened from there, after
//! a crash with background threads and without, continues, and loses power only then: nothing
//! that was read or acknowledged since the restart may be lost.
//!
//! `EVENTBRAID_CRASH_SCHEDULES=1000000` runs that many schedules instead of the default.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test fails loudly and prints its counts"
)]

mod support;

use eventbraid_engine::vfs::sim::{Persist, SimVfs};
use eventbraid_engine::vfs::{OpenMode, Vfs, write_all_at};
use eventbraid_engine::{Depth, Error, Expectation, Options, ReadMode, Store};
use std::io::IoSlice;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use support::{
    append, append_expecting, category, log, open, open_with, options, stream, threaded,
};

/// One append of the script: streams with body sizes, and whether it has a key.
struct Scripted {
    events: &'static [(&'static str, usize)],
    keyed: bool,
}

const SCRIPT: &[Scripted] = &[
    Scripted {
        events: &[("a-1", 40)],
        keyed: false,
    },
    Scripted {
        events: &[("a-1", 700), ("b-1", 900), ("a-1", 30)],
        keyed: true,
    },
    Scripted {
        events: &[],
        keyed: true,
    },
    Scripted {
        events: &[("c-1", 5000)],
        keyed: false,
    },
    Scripted {
        events: &[("b-1", 4000), ("c-1", 3000)],
        keyed: false,
    },
    Scripted {
        events: &[("a-1", 6000)],
        keyed: true,
    },
    Scripted {
        events: &[("b-1", 9000), ("a-1", 10)],
        keyed: false,
    },
    Scripted {
        events: &[("a-1", 20_000)],
        keyed: false,
    },
    // Larger than any segment of the usual size.
    Scripted {
        events: &[("c-1", 66_000)],
        keyed: false,
    },
    // An append of expectations alone.
    Scripted {
        events: &[],
        keyed: false,
    },
    Scripted {
        events: &[("d-1", 1)],
        keyed: true,
    },
    Scripted {
        events: &[("d-1", 300), ("a-1", 300)],
        keyed: false,
    },
];

/// Before the append of this number the store is closed, a foreign file is added to its segments,
/// and the store is opened again, which sets the file aside.
const STRAY_BEFORE: usize = 5;
const STRAY: &str = "0000000009.hot";
const FOREIGN: &[u8] = b"not a segment of this store";

/// Before the append of this number the store is closed and its CURRENT file is removed, so that
/// the next open reads the directory for the list of segments.
const UNLISTED_BEFORE: usize = 8;

/// Time after which an idle log has its sync marker.
const UNTIL_MARKED: Duration = Duration::from_millis(130);

/// The part of the script that was completed before the crash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Progress {
    acknowledged: usize,
    begun: usize,
    /// The foreign file was durable.
    strayed: bool,
}

fn body(append: usize, event: usize, size: usize) -> Vec<u8> {
    let mut bytes = format!("{append}.{event}.").into_bytes();
    bytes.resize(size.max(bytes.len()), b'x');
    bytes
}

fn run_scripted(store: &Store, number: usize) -> Result<(), Error> {
    let scripted = &SCRIPT[number];
    let bodies: Vec<_> = scripted
        .events
        .iter()
        .enumerate()
        .map(|(i, (_, size))| body(number, i, *size))
        .collect();
    let events: Vec<(&str, &[u8])> = scripted
        .events
        .iter()
        .zip(&bodies)
        .map(|((s, _), b)| (*s, b.as_slice()))
        .collect();
    let key = format!("key-{number}");
    let expectations = match scripted.events.first() {
        Some((stream, _)) => vec![(*stream, Expectation::Exact(store.version(stream)?))],
        None => vec![("a-1", Expectation::Exists)],
    };
    append_expecting(
        store,
        &events,
        &expectations,
        scripted.keyed.then_some(&*key),
    )
    .map(|_| ())
}

fn run(vfs: &SimVfs) -> Progress {
    run_with(vfs, options())
}

fn run_with(vfs: &SimVfs, options: Options) -> Progress {
    let mut progress = Progress::default();
    let mut store = None;
    for number in 0..SCRIPT.len() {
        if number == STRAY_BEFORE {
            drop(store.take());
            if create_stray_file(vfs).is_err() {
                return progress;
            }
            progress.strayed = true;
        }
        if number == UNLISTED_BEFORE {
            drop(store.take());
            if vfs.remove("/store/CURRENT".as_ref()).is_err() {
                return progress;
            }
        }
        if store.is_none() {
            match open_with(vfs.clone(), options) {
                Ok(opened) => store = Some(opened),
                Err(_) => return progress,
            }
        }
        progress.begun = number + 1;
        match run_scripted(store.as_ref().unwrap(), number) {
            Ok(()) => progress.acknowledged = number + 1,
            Err(_) => return progress,
        }
    }
    if let Some(store) = store {
        if options.background {
            std::thread::sleep(UNTIL_MARKED);
        }
        let _crashed_while_closing = store.close();
    }
    progress
}

fn create_stray_file(vfs: &SimVfs) -> std::io::Result<()> {
    let log = Path::new("/store/log");
    let file = vfs.open(&log.join(STRAY), OpenMode::CreateNew)?;
    write_all_at(&*file, &[IoSlice::new(FOREIGN)], 0)?;
    file.sync_all()?;
    vfs.sync_dir(log)
}

/// Assert that the foreign file was set aside completely.
fn check_stray(vfs: &SimVfs, progress: Progress, context: &str) {
    if progress.strayed {
        let aside = vfs.read_file(format!("/store/quarantine/{STRAY}"));
        assert!(
            aside.is_ok_and(|bytes| bytes == FOREIGN),
            "{context}: {STRAY}"
        );
    }
}

/// Return the (stream, body) of every event of the first `appends` appends.
fn history(appends: usize) -> Vec<(&'static str, Vec<u8>)> {
    let of = |number: usize| {
        let events = SCRIPT[number].events.iter().enumerate();
        events.map(move |(i, (stream, size))| (*stream, body(number, i, *size)))
    };
    (0..appends).flat_map(of).collect()
}

/// Return the (stream, body) of every event in the log.
fn content(store: &Store) -> Vec<(String, Vec<u8>)> {
    log(store)
        .iter()
        .map(|e| (e.stream().to_owned(), e.data().to_vec()))
        .collect()
}

fn check(vfs: &SimVfs, progress: Progress, context: &str) {
    let store = open(vfs.clone()).unwrap_or_else(|e| panic!("{context}: {e}"));
    check_stray(vfs, progress, context);
    check_open(&store, progress, context);
}

fn check_open(store: &Store, progress: Progress, context: &str) {
    let events = log(store);
    let found = content(store);
    let is = |appends: usize| {
        let expected = history(appends);
        expected.len() == found.len()
            && expected
                .iter()
                .zip(&found)
                .all(|(e, f)| e.0 == f.0 && e.1 == f.1)
    };
    let whole = (progress.acknowledged..=progress.begun).find(|appends| is(*appends));
    assert!(
        whole.is_some(),
        "{context}: {progress:?}, found {} events",
        found.len()
    );
    for (i, event) in events.iter().enumerate() {
        assert_eq!(event.position(), i as u64 + 1, "{context}");
    }
    for name in ["a-1", "b-1", "c-1", "d-1"] {
        let versions: Vec<u64> = stream(store, name)
            .iter()
            .map(eventbraid_engine::Recorded::version)
            .collect();
        assert_eq!(
            versions,
            (1..=store.version(name).unwrap()).collect::<Vec<_>>(),
            "{context}"
        );
    }
    for name in ["a", "b", "c", "d"] {
        let created = events.iter().any(|event| event.stream().starts_with(name));
        let expected = if created {
            vec![format!("{name}-1")]
        } else {
            Vec::new()
        };
        let streams = category(store, name).unwrap();
        assert_eq!(streams.version, expected.len() as u64, "{context}: {name}");
        assert!(
            streams.names.iter().map(ToString::to_string).eq(expected),
            "{context}: {name}"
        );
    }
    for number in (0..progress.acknowledged).filter(|n| SCRIPT[*n].keyed) {
        let key = format!("key-{number}");
        assert!(
            store
                .committed(&key, None, ReadMode::NonBlocking)
                .unwrap()
                .is_some(),
            "{context}: {key}"
        );
    }
    let verified = store
        .verify(Depth::Full)
        .unwrap_or_else(|e| panic!("{context}: {e}"));
    assert_eq!(verified.events, found.len() as u64, "{context}");
    // The log continues from its end.
    let next = store.head().unwrap() + 1;
    let appended = append_expecting(store, &[("z", b"after")], &[], None)
        .unwrap_or_else(|e| panic!("{context}: {e}"));
    assert_eq!(appended.first_position, Some(next), "{context}");
}

/// Return every subset of the unsynced changes if they are few, and random subsets otherwise.
fn persistences(vfs: &SimVfs, random: u64, seed: u64) -> Vec<Persist> {
    let mut choices = vec![Persist::Nothing, Persist::Everything];
    let units = vfs.unsynced_units();
    let most = if schedules() < 1_000_000 { 4 } else { 8 };
    if units > 0 && units <= most {
        choices.extend((0..1 << units).map(Persist::Mask));
    }
    choices.extend((0..random).map(|i| Persist::Seeded(seed.wrapping_mul(1009) + i)));
    choices
}

fn crashed_at(step: u64, seed: u64) -> (SimVfs, Progress) {
    let vfs = SimVfs::tracked(seed);
    vfs.crash_at(step);
    let progress = run(&vfs);
    (vfs, progress)
}

fn script_steps() -> u64 {
    let vfs = SimVfs::tracked(0);
    assert_eq!(run(&vfs).acknowledged, SCRIPT.len());
    vfs.steps()
}

fn schedules() -> u64 {
    let wanted = std::env::var("EVENTBRAID_CRASH_SCHEDULES");
    wanted.ok().and_then(|n| n.parse().ok()).unwrap_or(10_000)
}

#[test]
fn a_crash_at_every_step_loses_and_tears_nothing() {
    let steps = script_steps();
    let random = (schedules() / 2 / steps).max(4);
    let mut ran = 0;
    for step in 1..=steps {
        let (vfs, progress) = crashed_at(step, step);
        check(
            &vfs.process_crash(),
            progress,
            &format!("process crash at step {step}"),
        );
        for persist in persistences(&vfs, random, step) {
            let context = format!("power cut at step {step} of seed {step}, {persist:?}");
            check(&vfs.power_cut(persist), progress, &context);
            ran += 1;
        }
    }
    println!("{ran} schedules over {steps} steps");
}

#[test]
fn a_crash_at_every_step_of_recovery_loses_and_tears_nothing() {
    let steps = script_steps();
    let per_step = (schedules() / 2 / steps).max(8);
    let mut ran = 0;
    for step in 1..=steps {
        let (vfs, progress) = crashed_at(step, step);
        for i in 0..per_step.div_ceil(8) {
            let first = vfs.power_cut(Persist::Seeded(step * 31 + i));
            let probe = first.process_crash();
            drop(open(probe.clone()));
            // Steps of recovery, spread over the schedules that the budget allows.
            let stride = (probe.steps() / 4).max(1);
            for recovery_step in
                (1 + i % stride..=probe.steps()).step_by(usize::try_from(stride).unwrap())
            {
                let again = first.process_crash();
                again.crash_at(recovery_step);
                drop(open(again.clone()));
                for persist in [Persist::Nothing, Persist::Seeded(recovery_step)] {
                    let context =
                        format!("step {step}, cut {i}, recovery step {recovery_step}, {persist:?}");
                    check(&again.power_cut(persist), progress, &context);
                    ran += 1;
                }
            }
        }
    }
    println!("{ran} schedules");
}

/// Crash the process at a step, restart, append, and cut the power only then. Return the number
/// of schedules.
fn restart_after(step: u64, options: Options) -> u64 {
    let vfs = SimVfs::tracked(step);
    vfs.crash_at(step);
    let progress = run_with(&vfs, options);
    let restarted = vfs.process_crash();
    let context = format!("restart after step {step}, threads {}", options.background);
    let store = open(restarted.clone()).unwrap_or_else(|e| panic!("{context}: {e}"));
    check_open(&store, progress, &context);
    append(&store, &[("z", &[b'z'; 3000])]).unwrap_or_else(|e| panic!("{context}: {e}"));
    let acknowledged = content(&store);
    let choices = persistences(&restarted, 4, step);
    for persist in &choices {
        let context = format!("{context}, {persist:?}");
        let cut = open(restarted.power_cut(*persist)).unwrap_or_else(|e| panic!("{context}: {e}"));
        assert!(
            content(&cut) == acknowledged,
            "{context}: {} of {} events",
            log(&cut).len(),
            acknowledged.len()
        );
        cut.verify(Depth::Full)
            .unwrap_or_else(|e| panic!("{context}: {e}"));
    }
    choices.len() as u64
}

#[test]
fn a_restart_after_a_crash_depends_on_no_unsynced_byte() {
    let steps = script_steps();
    let ran: u64 = (1..=steps).map(|step| restart_after(step, options())).sum();
    println!("{ran} schedules over {steps} steps");
}

#[test]
fn a_restart_after_a_crash_with_background_threads_depends_on_no_unsynced_byte() {
    let vfs = SimVfs::tracked(0);
    assert_eq!(run_with(&vfs, threaded()).acknowledged, SCRIPT.len());
    let steps = vfs.steps();
    let (next, ran) = (AtomicU64::new(1), AtomicU64::new(0));
    // The log is idle most of the time, so that its sync marker is among the steps.
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                loop {
                    let step = next.fetch_add(1, Ordering::SeqCst);
                    if step > steps {
                        return;
                    }
                    ran.fetch_add(restart_after(step, threaded()), Ordering::SeqCst);
                }
            });
        }
    });
    println!("{} schedules over {steps} steps", ran.into_inner());
}
