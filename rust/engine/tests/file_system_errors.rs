//! A failing call of the file system returns a typed error, acknowledges nothing, and leaves a
//! store that opens again.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails loudly"
)]

mod support;

use eventbraid_engine::vfs::sim::{Call, Failure, Fault, Persist, SimVfs};
use eventbraid_engine::{Depth, Error};
use support::{append, bodies, log, open, open_with, options, threaded};

const SEGMENT: &str = "0000000001.hot";

#[test]
fn a_write_that_cannot_be_rolled_back_poisons_the_store() {
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
fn interrupted_and_short_calls_are_continued() {
    let vfs = SimVfs::tracked(1);
    let store = open(vfs.clone()).unwrap();
    vfs.fail(Fault::once(Call::Write, 1, Failure::EINTR));
    vfs.fail(Fault::once(Call::Write, 2, Failure::Short));
    vfs.fail(Fault::once(Call::Read, 1, Failure::EINTR));
    append(&store, &[("a", b"one"), ("b", b"two")]).unwrap();
    assert_eq!(bodies(&log(&store)), ["one", "two"]);
}

#[test]
fn every_failing_call_returns_a_typed_error_and_leaves_a_store_that_reopens() {
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
                let continues = match failure {
                    Failure::Short => true,
                    Failure::EINTR => matches!(call, Call::Read | Call::Write),
                    _ => false,
                };
                assert!(
                    !(continues && of_one.refused),
                    "{call:?} {nth}, {failure:?}"
                );
            }
        }
        assert!(fired > 50, "{failure:?}: only {fired} calls failed");
        assert!(
            failure == Failure::Short || refused > 50,
            "{failure:?}: only {refused} reported"
        );
    }
}

/// Errors at the limits of a process, of the system and of a quota.
const LIMITS: [i32; 5] = [
    libc::EMFILE,
    libc::ENFILE,
    libc::ENOMEM,
    libc::ENOSPC,
    libc::EDQUOT,
];

/// Append across several segments while one kind of call fails. Only a failed sync may stop the
/// store. Return whether a call failed.
fn appends_with_an_exhausted_limit(fault: Fault, zero_fill: bool, background: bool) -> bool {
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
                    failed += u32::from(appends_with_an_exhausted_limit(
                        fault, zero_fill, background,
                    ));
                    if call != Call::Write {
                        // A write that always fails cannot be rolled back, so it is not tried.
                        let fault = Fault::forever(call, nth, Failure::Errno(errno));
                        appends_with_an_exhausted_limit(fault, zero_fill, background);
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

/// The effect of a call that was to fail.
struct OneFailure {
    /// The call was made: a step in the trace of the file system failed, or an error was returned.
    /// A short read is neither.
    fired: bool,
    /// An open or an append was refused.
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
