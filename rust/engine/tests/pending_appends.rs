//! Appends that build on appends whose outcome isn't known yet.
//!
//! The hazard: the first append is refused, other events take the place of its events, and the
//! second append finds the version that it expects, although it was decided on other events.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails loudly"
)]

mod support;

use eventbraid_engine::vfs::sim::{Call, Failure, Fault, SimVfs};
use eventbraid_engine::{
    Append, Appended, Error, Expectation, PendingAppend, Prepared, Store, prepare,
};
use support::{append, bodies, event, log, open, open_with, threaded};

/// Prepare an event for the stream `a`, which the append expects at a version.
fn prepared(data: &[u8], version: u64, own: &PendingAppend, on: &[&PendingAppend]) -> Prepared {
    let events = [event("a", data)];
    let expectations = [("a", Expectation::Exact(version))];
    prepare(&Append {
        events: &events,
        expectations: &expectations,
        ..Append::default()
    })
    .unwrap()
    .as_pending(own.clone())
    .building_on(on.iter().copied().cloned().collect())
}

fn append_on(
    store: &Store,
    (data, version): (&[u8], u64),
    on: &[&PendingAppend],
) -> (PendingAppend, Result<Appended, Error>) {
    let own = PendingAppend::default();
    let result = store.append(prepared(data, version, &own, on));
    (own, result)
}

fn conflict(result: Result<Appended, Error>) -> Vec<(Expectation, u64)> {
    let Err(Error::VersionConflict { failures, .. }) = result else {
        panic!("{result:?}")
    };
    failures.iter().map(|f| (f.expected, f.actual)).collect()
}

#[test]
fn an_append_on_an_accepted_one_is_accepted() {
    let store = open(SimVfs::tracked(1)).unwrap();
    let (first, result) = append_on(&store, (b"one", 0), &[]);
    result.unwrap();
    assert!(first.is_durable() && !first.is_refused());
    let (second, result) = append_on(&store, (b"two", 1), &[&first]);
    result.unwrap();
    let (_, result) = append_on(&store, (b"three", 2), &[&first, &second]);
    result.unwrap();
    assert_eq!(bodies(&log(&store)), ["one", "two", "three"]);
}

#[test]
fn an_append_on_a_refused_one_is_refused_although_the_version_is_the_expected_one() {
    let store = open(SimVfs::tracked(1)).unwrap();
    append(&store, &[("a", b"one")]).unwrap();
    let (first, result) = append_on(&store, (b"mine", 0), &[]);
    assert_eq!(conflict(result), [(Expectation::Exact(0), 1)]);
    assert!(first.is_refused() && !first.is_durable());
    // The stream has version 1, but its event isn't the one that the append builds on.
    let (second, result) = append_on(&store, (b"also mine", 1), &[&first]);
    assert_eq!(conflict(result), [(Expectation::Exact(1), 1)]);
    let (_, result) = append_on(&store, (b"third", 1), &[&second]);
    assert_eq!(conflict(result), [(Expectation::Exact(1), 1)]);
    assert_eq!(bodies(&log(&store)), ["one"]);
}

#[test]
fn an_append_on_one_that_was_not_begun_is_refused() {
    let store = open(SimVfs::tracked(1)).unwrap();
    let (_, result) = append_on(&store, (b"one", 0), &[&PendingAppend::default()]);
    assert_eq!(conflict(result), [(Expectation::Exact(0), 0)]);
}

#[test]
fn appends_on_a_write_that_is_rolled_back_are_refused() {
    let vfs = SimVfs::tracked(1);
    let store = open(vfs.clone()).unwrap();
    append(&store, &[("a", b"one")]).unwrap();
    vfs.fail(Fault::once(Call::Write, 1, Failure::EIO));
    let (first, result) = append_on(&store, (b"lost", 1), &[]);
    assert!(result.is_err(), "{result:?}");
    assert!(first.is_refused());
    append(&store, &[("a", b"another")]).unwrap();
    let (_, result) = append_on(&store, (b"on the lost one", 2), &[&first]);
    assert_eq!(conflict(result), [(Expectation::Exact(2), 2)]);
    assert_eq!(bodies(&log(&store)), ["one", "another"]);
}

#[test]
fn an_append_with_a_failed_sync_counts_as_refused() {
    let vfs = SimVfs::tracked(1);
    let store = open(vfs.clone()).unwrap();
    vfs.fail(Fault::once(Call::SyncData, 1, Failure::EIO));
    let (first, result) = append_on(&store, (b"one", 0), &[]);
    assert!(matches!(result, Err(Error::OutcomeUnknown { .. })));
    assert!(first.is_refused() && !first.is_durable());
}

#[test]
fn a_chain_of_appends_is_accepted_as_a_whole_in_few_write_batches() {
    let store = open_with(SimVfs::tracked(1), threaded()).unwrap();
    let (sender, receiver) = std::sync::mpsc::channel();
    let mut last = PendingAppend::default();
    for version in 0..200 {
        let own = PendingAppend::default();
        let on = [&last];
        let on = if version == 0 { &[][..] } else { &on[..] };
        let sender = sender.clone();
        let done = Box::new(move |result: Result<Appended, Error>| {
            sender.send(result).unwrap();
        });
        store.submit(prepared(b"x", version, &own, on), done);
        last = own;
    }
    drop(sender);
    let results: Vec<_> = receiver.into_iter().collect();
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    assert_eq!(store.version("a").unwrap(), 200);
    assert!(last.is_durable());
}

#[test]
fn a_chain_of_appends_is_refused_as_a_whole() {
    let store = open_with(SimVfs::tracked(1), threaded()).unwrap();
    append(&store, &[("a", b"another")]).unwrap();
    let (sender, receiver) = std::sync::mpsc::channel();
    let mut last = PendingAppend::default();
    for version in 0..200 {
        let own = PendingAppend::default();
        let on = [&last];
        let on = if version == 0 { &[][..] } else { &on[..] };
        let sender = sender.clone();
        let done = Box::new(move |result: Result<Appended, Error>| {
            sender.send(result).unwrap();
        });
        // The second one expects the version that the stream has.
        store.submit(prepared(b"x", version, &own, on), done);
        last = own;
    }
    drop(sender);
    for result in receiver {
        conflict(result);
    }
    assert_eq!(bodies(&log(&store)), ["another"]);
}
