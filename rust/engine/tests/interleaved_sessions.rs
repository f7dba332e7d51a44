//! Several sessions append to one store in every order: in turns drawn from a seed, with
//! threads of their own, and next to exclusive and read-only sessions.
//!
//! `support/schedule.rs` documents what each schedule checks.
//! `EVENTBRAID_PROCESS_SCHEDULES=100000` runs that many schedules instead of the default.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test fails loudly and prints its counts"
)]

mod support;

use support::machine::SeededRandom;
use support::schedule::{Plan, run, schedules};

#[test]
fn sessions_append_in_turns_in_any_order() {
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
fn sessions_with_threads_append_at_the_same_time() {
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

/// A session that can't open the store because it is in use gets an error. The other sessions
/// continue.
#[test]
fn exclusive_and_read_only_sessions_do_not_disturb_shared_ones() {
    let wanted = schedules(150);
    for seed in 0..wanted {
        let mut random = SeededRandom::new(seed);
        run(Plan {
            seed,
            processes: 3 + usize::try_from(seed % 2).unwrap(),
            appends: 3,
            kill: (seed % 3 == 2).then(|| (0, 1 + random.below(2500))),
            lost_sync: None,
            threads: seed % 2 == 1,
            mixed: true,
        });
    }
    println!("{wanted} schedules");
}
