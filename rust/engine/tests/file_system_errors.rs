//! A disk that fails: nothing is acknowledged, nothing is hidden, nobody is left waiting.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails loudly"
)]

mod support;

use eventbraid_engine::vfs::Vfs;
use eventbraid_engine::vfs::sim::{Call, Failure, Fault, Persist, SimVfs};
use eventbraid_engine::{Depth, Error, Expectation};
use support::hook::{Flag, HookedVfs, Op, eio, temptation, until};
use support::{append, append_expecting, bodies, log, open, open_with, options, threaded};

const SEGMENT: &str = "0000000001.hot";

#[test]
fn a_failed_sync_poisons_the_store() {
    let vfs = SimVfs::tracked(1);
    let store = open(vfs.clone()).unwrap();
    append(&store, &[("a", b"one")]).unwrap();
    vfs.fail_on(
        SEGMENT,
        Fault::once(Call::SyncData, 1, Failure::EIO).losing(),
    );
    let unknown = append(&store, &[("a", b"two")]);
    assert!(
        matches!(unknown, Err(Error::OutcomeUnknown { .. })),
        "{unknown:?}"
    );
    for _ in 0..2 {
        // A later sync would succeed without the lost pages; nobody may try.
        let refused = append(&store, &[("a", b"three")]);
        assert!(
            matches!(refused, Err(Error::Poisoned { .. })),
            "{refused:?}"
        );
    }
    assert_eq!(bodies(&log(&store)), ["one"]);
    assert!(matches!(store.close(), Err(Error::Poisoned { .. })));
    vfs.heal();
    let cut = open(vfs.power_cut(Persist::Nothing)).unwrap();
    assert_eq!(bodies(&log(&cut)), ["one"]);
}

#[test]
fn what_a_reopened_store_shows_is_durable_even_after_a_lost_sync() {
    let vfs = SimVfs::tracked(1);
    let store = open(vfs.clone()).unwrap();
    append(&store, &[("a", b"one")]).unwrap();
    vfs.fail_on(
        SEGMENT,
        Fault::once(Call::SyncData, 1, Failure::EIO).losing(),
    );
    vfs.fail_on("POISONED", Fault::once(Call::Create, 1, Failure::EIO));
    append(&store, &[("a", b"two")]).unwrap_err();
    drop(store);
    // The pages are clean and cached; recovery writes what it keeps again before it shows it.
    let reopened = open(vfs.process_crash());
    let reopened_log = bodies(&log(reopened.as_ref().unwrap()));
    let vfs_after = vfs;
    drop(reopened);
    let crashed = vfs_after.process_crash();
    let shown = open(crashed.clone()).unwrap();
    assert_eq!(bodies(&log(&shown)), reopened_log);
    assert_eq!(reopened_log, ["one", "two"]);
    let cut = open(crashed.power_cut(Persist::Nothing)).unwrap();
    assert_eq!(bodies(&log(&cut)), reopened_log);
}

#[test]
fn a_full_disk_refuses_and_recovers() {
    let vfs = SimVfs::tracked(1);
    let store = open(vfs.clone()).unwrap();
    append(&store, &[("a", b"one")]).unwrap();
    // Part of the frame is written before the disk is full.
    vfs.fail_on(SEGMENT, Fault::once(Call::Write, 1, Failure::Short));
    vfs.fail_on(SEGMENT, Fault::once(Call::Write, 2, Failure::ENOSPC));
    let full = append(&store, &[("a", b"two")]);
    assert!(matches!(full, Err(Error::StorageFull { .. })), "{full:?}");
    let everything = vfs.power_cut(Persist::Everything);
    assert_eq!(bodies(&log(&open(everything).unwrap())), ["one"]);
    let expected = [("a", Expectation::Exact(1))];
    append_expecting(&store, &[("a", b"two again")], &expected, None).unwrap();
    assert_eq!(bodies(&log(&store)), ["one", "two again"]);
    assert_eq!(store.verify(Depth::Full).unwrap().events, 2);
}

#[test]
fn a_full_disk_keeps_nobody_from_reading() {
    let vfs = SimVfs::tracked(1);
    let store = open(vfs.clone()).unwrap();
    append(&store, &[("a", b"one")]).unwrap();
    store.close().unwrap();
    for holder in [true, false] {
        if !holder {
            vfs.remove("/store/locks/live.holder".as_ref()).unwrap();
        }
        for call in [Call::Write, Call::Create] {
            vfs.fail(Fault::forever(call, 1, Failure::ENOSPC));
        }
        let store = open(vfs.clone()).unwrap();
        assert_eq!(bodies(&log(&store)), ["one"]);
        let full = append(&store, &[("a", &vec![b'x'; 20_000])]);
        assert!(matches!(full, Err(Error::StorageFull { .. })), "{full:?}");
        store.close().unwrap();
        vfs.heal();
    }
}

/// A commit under the key "k" whose sync fails, while others ask for the same key; what the
/// process leaves.
fn after_a_keyed_commit_whose_sync_fails(with_marker: bool) -> SimVfs {
    let sim = SimVfs::tracked(1);
    let (armed, go) = (Flag::default(), Flag::default());
    let vfs = {
        let (armed, go) = (armed.clone(), go.clone());
        HookedVfs::new(sim.clone(), move |asked| {
            if armed.is_up() && asked.is(Op::SyncData, SEGMENT) {
                go.wait("the second append");
                return Err(eio());
            }
            if !with_marker && asked.is(Op::Create, "POISONED") {
                return Err(eio());
            }
            Ok(())
        })
    };
    let store = open(vfs).unwrap();
    armed.raise();
    let keyed = |body: &'static [u8]| {
        let store = store.clone();
        std::thread::spawn(move || append_expecting(&store, &[("a", body)], &[], Some("k")))
    };
    let first = keyed(b"x");
    until("the first to be written", || {
        store.stats().session.commits == 1
    });
    let others = [keyed(b"x"), keyed(b"something else")];
    until("all to be judged", || {
        let stats = store.stats();
        (stats.session.replays, stats.session.conflicts) == (1, 1)
    });
    temptation();
    go.raise();
    let first = first.join().unwrap();
    let [retried, mismatched] = others.map(|other| other.join().unwrap());
    for answer in [first, retried] {
        assert!(
            matches!(answer, Err(Error::OutcomeUnknown { .. })),
            "{answer:?}"
        );
    }
    assert!(
        matches!(mismatched, Err(Error::Poisoned { .. })),
        "{mismatched:?}"
    );
    drop(store);
    sim.process_crash()
}

#[test]
fn nobody_is_answered_from_a_commit_whose_sync_fails() {
    let vfs = after_a_keyed_commit_whose_sync_fails(true);
    // The next opening leaves out what was not known to be durable, and the key with it.
    let store = open(vfs.clone()).unwrap();
    assert!(bodies(&log(&store)).is_empty());
    for replayed in [false, true] {
        let again = append_expecting(&store, &[("a", b"x")], &[], Some("k")).unwrap();
        assert_eq!(again.replayed, replayed);
    }
    store.close().unwrap();
    let cut = open(vfs.power_cut(Persist::Everything)).unwrap();
    assert_eq!(bodies(&log(&cut)), ["x"]);
}

#[test]
fn without_a_marker_a_commit_whose_sync_failed_is_kept_if_it_can_be_read() {
    let vfs = after_a_keyed_commit_whose_sync_fails(false);
    let store = open(vfs.clone()).unwrap();
    // The key tells after the next opening.
    let again = append_expecting(&store, &[("a", b"x")], &[], Some("k")).unwrap();
    assert!(again.replayed);
    assert_eq!(bodies(&log(&store)), ["x"]);
    let cut = open(vfs.power_cut(Persist::Nothing)).unwrap();
    assert_eq!(bodies(&log(&cut)), ["x"]);
}

#[test]
fn a_write_that_can_not_be_undone_poisons() {
    let vfs = SimVfs::tracked(1);
    let store = open(vfs.clone()).unwrap();
    vfs.fail_on(SEGMENT, Fault::forever(Call::Write, 1, Failure::EIO));
    let unknown = append(&store, &[("a", b"one")]);
    assert!(
        matches!(unknown, Err(Error::OutcomeUnknown { .. })),
        "{unknown:?}"
    );
    assert!(matches!(
        append(&store, &[("a", b"two")]),
        Err(Error::Poisoned { .. })
    ));
}

#[test]
fn interrupts_and_short_writes_are_gone_on_with() {
    let vfs = SimVfs::tracked(1);
    let store = open(vfs.clone()).unwrap();
    vfs.fail(Fault::once(Call::Write, 1, Failure::EINTR));
    vfs.fail(Fault::once(Call::Write, 2, Failure::Short));
    vfs.fail(Fault::once(Call::Read, 1, Failure::EINTR));
    append(&store, &[("a", b"one"), ("b", b"two")]).unwrap();
    assert_eq!(bodies(&log(&store)), ["one", "two"]);
}

#[test]
fn every_single_failing_call_gives_a_typed_answer_and_a_store_that_reopens() {
    let calls = [
        Call::Create,
        Call::CreateDir,
        Call::Entry,
        Call::List,
        Call::Open,
        Call::Read,
        Call::Remove,
        Call::Rename,
        Call::SyncAll,
        Call::SyncData,
        Call::SyncDir,
        Call::Write,
    ];
    let failures = [
        Failure::EIO,
        Failure::ENOSPC,
        Failure::EINTR,
        Failure::Short,
    ];
    for failure in failures {
        let (mut fired, mut refused) = (0, 0);
        for call in calls {
            for nth in 1..40 {
                let of_one = with_one_failing_call(call, nth, failure);
                fired += u32::from(of_one.fired);
                refused += u32::from(of_one.refused);
                let goes_on = match failure {
                    Failure::Short => true,
                    Failure::EINTR => matches!(call, Call::Read | Call::Write),
                    _ => false,
                };
                assert!(!(goes_on && of_one.refused), "{call:?} {nth}, {failure:?}");
            }
        }
        assert!(fired > 50, "{failure:?}: only {fired} calls failed");
        assert!(
            failure == Failure::Short || refused > 50,
            "{failure:?}: only {refused} told of"
        );
    }
}

/// The limits of a process, of the system and of a quota.
const LIMITS: [i32; 5] = [
    libc::EMFILE,
    libc::ENFILE,
    libc::ENOMEM,
    libc::ENOSPC,
    libc::EDQUOT,
];

/// Appends across several segments while one kind of call fails; only a failed sync may stop
/// the store. Returns whether a call failed.
fn appends_beside_an_exhausted_limit(fault: Fault, zero_fill: bool, background: bool) -> bool {
    let context = format!("{fault:?}, zeros ahead: {zero_fill}, threads: {background}");
    let vfs = SimVfs::tracked(fault.nth);
    let mut options = if background { threaded() } else { options() };
    options.zero_fill = zero_fill;
    let store = open_with(vfs.clone(), options).unwrap();
    append(&store, &[("a", b"first")]).unwrap();
    vfs.fail(fault);
    let mut acknowledged = 1;
    let mut refused = false;
    for _ in 0..8 {
        match append(&store, &[("a", &[b'x'; 12_000])]) {
            Ok(_) => acknowledged += 1,
            Err(Error::Io { .. } | Error::StorageFull { .. }) => refused = true,
            Err(e) => panic!("{context}: {e}"),
        }
    }
    assert!(!store.stats().poisoned, "{context}");
    let failed = refused || vfs.trace().iter().any(|line| line.ends_with(" fails"));
    vfs.heal();
    append(&store, &[("a", b"last")]).unwrap_or_else(|e| panic!("{context}: {e}"));
    acknowledged += 1;
    assert_eq!(log(&store).len(), acknowledged, "{context}");
    store.verify(Depth::Full).unwrap();
    store.close().unwrap_or_else(|e| panic!("{context}: {e}"));
    let cut = open(vfs.power_cut(Persist::Nothing)).unwrap();
    assert_eq!(log(&cut).len(), acknowledged, "{context}");
    failed
}

#[test]
fn an_exhausted_limit_of_open_files_memory_or_space_poisons_no_store() {
    for errno in LIMITS {
        // A rename opens no file.
        let opens = matches!(errno, libc::EMFILE | libc::ENFILE);
        let renames = (!opens).then_some(Call::Rename);
        for call in [Call::Create, Call::Open, Call::Write]
            .into_iter()
            .chain(renames)
        {
            let mut failed = 0;
            for nth in 1..6 {
                for (zero_fill, background) in
                    [(true, false), (false, false), (true, true), (false, true)]
                {
                    let fault = Fault::once(call, nth, Failure::Errno(errno));
                    failed += u32::from(appends_beside_an_exhausted_limit(
                        fault, zero_fill, background,
                    ));
                    if call != Call::Write {
                        // A write that fails for ever can't be undone.
                        let fault = Fault::forever(call, nth, Failure::Errno(errno));
                        appends_beside_an_exhausted_limit(fault, zero_fill, background);
                    }
                }
            }
            assert!(
                failed > 0 || call == Call::Open,
                "{errno}: {call:?} never failed"
            );
        }
    }
}

/// What became of a call that was to fail.
struct OneFailure {
    /// It was made: a step of the file system's trace failed, or the failure was told of. A
    /// short read is neither.
    fired: bool,
    /// An opening or an append was refused for it.
    refused: bool,
}

fn with_one_failing_call(call: Call, nth: u64, failure: Failure) -> OneFailure {
    let vfs = SimVfs::tracked(nth);
    vfs.fail(Fault::once(call, nth, failure));
    let (mut acknowledged, mut refused) = (0, true);
    if let Ok(store) = open(vfs.clone()) {
        let appended = |_: &u32| append(&store, &[("a", &[b'x'; 6000])]).is_ok();
        acknowledged = (0..6).take_while(appended).count();
        refused = acknowledged < 6;
    }
    let fired = refused || vfs.trace().iter().any(|line| line.ends_with(" fails"));
    vfs.heal();
    let cut = open(vfs.power_cut(Persist::Nothing));
    let kept = log(&cut.unwrap_or_else(|e| panic!("{call:?} {nth}, {failure:?}: {e}"))).len();
    assert!(
        kept == acknowledged,
        "{call:?} {nth}, {failure:?}: {kept} of {acknowledged}"
    );
    OneFailure { fired, refused }
}
