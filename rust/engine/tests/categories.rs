//! Expectations on categories, and the streams of a category.
//!
//! The version of a category is the number of its streams. An append that expects a version is
//! refused if a stream was created since, also by an append of the same write batch, and by one
//! that is written but not durable yet.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails loudly"
)]

mod support;

use std::sync::Barrier;

use eventbraid_engine::vfs::sim::SimVfs;
use eventbraid_engine::{
    Append, CategoryQuery, ConflictedCategory, Error, Expectation, ReadMode, Store, prepare,
};
use support::{append, append_expecting_categories, category, event, open, open_with, threaded};

fn names(store: &Store, name: &str) -> Vec<String> {
    let streams = category(store, name).unwrap();
    assert_eq!(streams.version, streams.names.len() as u64);
    streams.names.iter().map(ToString::to_string).collect()
}

#[test]
fn a_category_lists_its_streams_in_the_order_of_their_first_events() {
    let vfs = SimVfs::tracked(1);
    let store = open(vfs.clone()).unwrap();
    append(&store, &[("b-2", b""), ("a-1", b""), ("b-1", b"")]).unwrap();
    append(
        &store,
        &[("b-1", b""), ("b", b""), ("ab-1", b""), ("b-0", b"")],
    )
    .unwrap();
    let check = |store: &Store| {
        assert_eq!(names(store, "b"), ["b-2", "b-1", "b", "b-0"]);
        assert_eq!(names(store, "a"), ["a-1"]);
        assert_eq!(names(store, "ab"), ["ab-1"]);
        assert_eq!(names(store, "c"), [""; 0]);
    };
    check(&store);
    store.close().unwrap();
    check(&open(vfs).unwrap());
}

#[test]
fn a_category_is_read_as_of_a_position_and_in_parts() {
    let store = open(SimVfs::tracked(1)).unwrap();
    for number in 1..=9 {
        append(&store, &[(&format!("a-{number}"), b""), ("a-1", b"")]).unwrap();
    }
    let read = |after, limit, at| {
        let query = CategoryQuery {
            category: "a",
            after,
            limit,
            at,
            mode: ReadMode::Blocking,
        };
        let found = store.category_streams(&query).unwrap();
        let names: Vec<_> = found.names.iter().map(ToString::to_string).collect();
        (found.position, found.version, names.join(" "))
    };
    assert_eq!(read(7, 9, None), (18, 9, "a-8 a-9".to_owned()));
    assert_eq!(read(1, 2, Some(9)), (9, 5, "a-2 a-3".to_owned()));
    assert_eq!(read(0, 9, Some(2)), (2, 1, "a-1".to_owned()));
    assert_eq!(read(0, 9, Some(0)), (0, 0, String::new()));
    assert_eq!(read(u64::MAX, usize::MAX, Some(99)), (18, 9, String::new()));
    assert_eq!(read(0, 0, None), (18, 9, String::new()));
}

#[test]
fn every_failing_category_is_reported_with_the_failing_streams() {
    let store = open(SimVfs::tracked(1)).unwrap();
    append(&store, &[("a-1", b""), ("a-2", b"")]).unwrap();
    let events = [event("e-1", b"")];
    let refused = store.append(
        prepare(&Append {
            events: &events,
            expectations: &[("a-1", Expectation::NoStream)],
            category_expectations: &[
                ("a", Expectation::Exact(1)),
                ("b", Expectation::Exists),
                ("c", Expectation::NoStream),
                ("d", Expectation::Any),
            ],
            ..Append::default()
        })
        .unwrap(),
    );
    let Err(Error::VersionConflict {
        failures,
        categories,
    }) = refused
    else {
        panic!("{refused:?}")
    };
    let failing = |category: &str, expected, actual| ConflictedCategory {
        category: category.to_owned(),
        expected,
        actual,
    };
    assert_eq!(
        categories,
        [
            failing("a", Expectation::Exact(1), 2),
            failing("b", Expectation::Exists, 0),
        ]
    );
    assert_eq!(failures.len(), 1);
    assert_eq!(store.head().unwrap(), 2);
}

#[test]
fn an_expectation_is_compared_with_the_category_before_the_append() {
    let store = open(SimVfs::tracked(1)).unwrap();
    let events: [(&str, &[u8]); 4] = [("a-1", b""), ("b-1", b""), ("a-2", b""), ("b-1", b"")];
    let expectations = [("a", Expectation::NoStream), ("b", Expectation::Exact(0))];
    append_expecting_categories(&store, &events, &expectations, None).unwrap();
    let expectations = [("a", Expectation::Exact(2)), ("b", Expectation::Exact(1))];
    // A further event of a known stream changes no category, and a check alone is legal.
    append_expecting_categories(&store, &[("a-1", b"")], &expectations, None).unwrap();
    append_expecting_categories(&store, &[], &expectations, None).unwrap();
}

#[test]
fn the_expectations_on_categories_belong_to_the_content_of_a_key() {
    let store = open(SimVfs::tracked(1)).unwrap();
    let send = |expectation| {
        append_expecting_categories(&store, &[("a-1", b"")], &[("a", expectation)], Some("k"))
    };
    assert!(!send(Expectation::NoStream).unwrap().replayed);
    assert!(send(Expectation::NoStream).unwrap().replayed);
    for other in [Expectation::Any, Expectation::Exact(1), Expectation::Exists] {
        let refused = send(other);
        assert!(
            matches!(refused, Err(Error::IdempotencyMismatch { .. })),
            "{refused:?}"
        );
    }
    // An expectation on the stream of the same name is another one.
    let stream = support::append_expecting(
        &store,
        &[("a-1", b"")],
        &[("a", Expectation::NoStream)],
        Some("k"),
    );
    assert!(matches!(stream, Err(Error::IdempotencyMismatch { .. })));
}

#[test]
fn an_invalid_or_repeated_category_is_refused_before_anything_is_written() {
    let store = open(SimVfs::tracked(1)).unwrap();
    let any = Expectation::Any;
    let long = "x".repeat(256);
    for invalid in ["", "a-", "a-1", "a\n", long.as_str()] {
        let refused = append_expecting_categories(&store, &[("a", b"")], &[(invalid, any)], None);
        assert!(
            matches!(refused, Err(Error::InvalidArgument { .. })),
            "{invalid:?}"
        );
        assert!(category(&store, invalid).is_err());
    }
    let twice = [("a", any), ("b", any), ("a", any)];
    let refused = append_expecting_categories(&store, &[("a", b"")], &twice, None);
    assert!(matches!(refused, Err(Error::InvalidArgument { .. })));
    let names: Vec<String> = (0..10_001).map(|i| format!("c{i}")).collect();
    let many: Vec<_> = names.iter().map(|name| (name.as_str(), any)).collect();
    let refused = append_expecting_categories(&store, &[("a", b"")], &many, None);
    assert!(matches!(
        refused,
        Err(Error::LimitExceeded {
            actual: 10_001,
            limit: 10_000,
            ..
        })
    ));
    assert_eq!(store.head().unwrap(), 0);
}

#[test]
fn a_commit_counts_all_streams_that_it_creates() {
    let store = open(SimVfs::tracked(1)).unwrap();
    let names: Vec<String> = (0..3000)
        .map(|i| format!("{}-{i}", ["a", "b", "c"][i % 3]))
        .collect();
    for half in names.chunks(1500) {
        let events: Vec<(&str, &[u8])> =
            half.iter().map(|name| (name.as_str(), &b""[..])).collect();
        append(&store, &events).unwrap();
    }
    for (name, count) in [("a", 1000), ("b", 1000), ("c", 1000)] {
        let expected = [(name, Expectation::Exact(count))];
        append_expecting_categories(&store, &[], &expected, None).unwrap();
        assert_eq!(category(&store, name).unwrap().version, count);
    }
    store.verify(eventbraid_engine::Depth::Full).unwrap();
}

/// Threads create streams, each at the version of the category that it has read. Their appends are
/// written in batches, and validated while earlier batches are still being synced.
#[test]
fn exactly_one_thread_creates_the_next_stream_of_a_category() {
    let store = open_with(SimVfs::memory(), threaded()).unwrap();
    let (threads, each) = (8u64, 60);
    let barrier = Barrier::new(8);
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let (store, barrier) = (&store, &barrier);
            scope.spawn(move || {
                barrier.wait();
                for _ in 0..each {
                    loop {
                        let version = category(store, "a").unwrap().version;
                        let stream = format!("a-{version}-{thread}");
                        let expected = [("a", Expectation::Exact(version))];
                        let events: [(&str, &[u8]); 2] = [("other", b""), (&stream, b"")];
                        match append_expecting_categories(store, &events, &expected, None) {
                            Ok(_) => break,
                            Err(Error::VersionConflict { categories, .. }) => {
                                assert!(categories[0].actual > version);
                                // The conflict is durable, so a read finds the new streams.
                                let actual = category(store, "a").unwrap().version;
                                assert!(actual >= categories[0].actual);
                            }
                            Err(e) => panic!("{e}"),
                        }
                    }
                }
            });
        }
    });
    let numbers: Vec<u64> = names(&store, "a")
        .iter()
        .map(|name| name.split('-').nth(1).unwrap().parse().unwrap())
        .collect();
    assert_eq!(numbers, (0..threads * each).collect::<Vec<_>>());
}
