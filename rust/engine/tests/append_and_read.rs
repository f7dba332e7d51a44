//! Appends with expectations and idempotency keys, and reads with every cursor and limit, on one
//! store, before and after it is reopened.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails loudly"
)]

mod support;

use eventbraid_engine::vfs::sim::SimVfs;
use eventbraid_engine::{
    Append, ConflictedStream, Error, EventInput, Expectation, Filter, LogQuery, ReadMode,
    SnapshotQuery, StreamQuery, prepare,
};
use support::{append, append_expecting, bodies, log, open, stream};

#[test]
fn versions_and_positions_are_dense() {
    let store = open(SimVfs::tracked(1)).unwrap();
    let first = append(&store, &[("a", b"1"), ("b", b"2"), ("a", b"3")]).unwrap();
    assert_eq!(
        (first.first_position, first.last_position),
        (Some(1), Some(3))
    );
    assert_eq!(first.versions, [("a".into(), 2), ("b".into(), 1)]);
    let second = append(&store, &[("b", b"4")]).unwrap();
    assert_eq!(second.versions, [("b".into(), 2)]);
    let a = stream(&store, "a");
    assert_eq!(
        a.iter()
            .map(|e| (e.version(), e.position()))
            .collect::<Vec<_>>(),
        [(1, 1), (2, 3)]
    );
    assert_eq!(bodies(&log(&store)), ["1", "2", "3", "4"]);
}

#[test]
fn an_event_keeps_only_its_own_bytes_in_memory() {
    let store = open(SimVfs::tracked(1)).unwrap();
    let (bulk, large) = (vec![b'x'; 1024], vec![b'y'; 1 << 20]);
    let mut events = vec![("small", &b"1"[..])];
    events.extend((0..4096).map(|_| ("bulk", &bulk[..])));
    append(&store, &events).unwrap();
    append(&store, &[("small", b"2"), ("large", &large)]).unwrap();
    for recorded in stream(&store, "small").iter().chain(&log(&store)) {
        let own = recorded.data().len() + 64 + 8;
        let held = recorded.bytes_held();
        assert!(held <= 2 * own, "{recorded:?} holds {held} bytes");
    }
}

#[test]
fn a_read_batch_is_limited_by_the_bytes_that_it_keeps_in_memory() {
    let store = open(SimVfs::tracked(1)).unwrap();
    let metadata = vec![b'm'; 60 << 10];
    let event = EventInput {
        stream: "s",
        event_type: "t",
        event_id: None,
        metadata: &metadata,
        library_metadata: b"",
        data: b"",
        content: None,
    };
    let events = [event; 100];
    let append = Append {
        events: &events,
        ..Append::default()
    };
    store.append(prepare(&append).unwrap()).unwrap();
    let page = store
        .read_log(&LogQuery {
            max_bytes: 256 << 10,
            ..LogQuery::all()
        })
        .unwrap();
    assert!((1..10).contains(&page.events.len()) && page.more);
    let page = store
        .read_stream(&StreamQuery {
            max_bytes: 256 << 10,
            ..StreamQuery::all("s")
        })
        .unwrap();
    assert!((1..10).contains(&page.events.len()) && page.more);
}

#[test]
fn every_failing_stream_is_reported_and_nothing_is_written() {
    let store = open(SimVfs::tracked(1)).unwrap();
    append(&store, &[("a", b"1")]).unwrap();
    let expectations = [
        ("a", Expectation::NoStream),
        ("b", Expectation::Exists),
        ("c", Expectation::Exact(3)),
        ("d", Expectation::Any),
    ];
    let refused = append_expecting(&store, &[("e", b"x")], &expectations, None).unwrap_err();
    let Error::VersionConflict { mut failures, .. } = refused else {
        panic!("{refused}")
    };
    failures.sort_by(|x, y| x.stream.cmp(&y.stream));
    let failing = |stream: &str, expected, actual| ConflictedStream {
        stream: stream.to_owned(),
        expected,
        actual,
    };
    let expected = [
        failing("a", Expectation::NoStream, 1),
        failing("b", Expectation::Exists, 0),
        failing("c", Expectation::Exact(3), 0),
    ];
    assert_eq!(failures, expected);
    assert_eq!((store.head().unwrap(), store.version("e").unwrap()), (1, 0));
}

#[test]
fn a_stream_expected_twice_is_refused_before_anything_is_written() {
    let store = open(SimVfs::tracked(1)).unwrap();
    for second in [Expectation::Any, Expectation::NoStream] {
        let expectations = [("a", Expectation::NoStream), ("a", second)];
        let refused = append_expecting(&store, &[("a", b"1")], &expectations, Some("k"));
        assert!(
            matches!(&refused, Err(Error::InvalidArgument { what: "stream", value, .. }) if value == "a"),
            "{refused:?}"
        );
    }
    assert_eq!(
        (store.head().unwrap(), store.stats().session.appends),
        (0, 0)
    );
    assert!(
        store
            .committed("k", None, ReadMode::Blocking)
            .unwrap()
            .is_none()
    );
}

#[test]
fn a_repeated_key_returns_the_first_result_after_a_restart() {
    let vfs = SimVfs::tracked(1);
    let store = open(vfs.clone()).unwrap();
    let keyed = |store: &_, body: &[u8]| {
        append_expecting(
            store,
            &[("a", body)],
            &[("a", Expectation::NoStream)],
            Some("k"),
        )
    };
    let first = keyed(&store, b"1").unwrap();
    append(&store, &[("a", b"2")]).unwrap();
    let again = keyed(&store, b"1").unwrap();
    assert!(again.replayed && !first.replayed);
    assert_eq!(
        (again.first_position, &again.versions),
        (Some(1), &first.versions)
    );
    assert!(matches!(
        keyed(&store, b"other"),
        Err(Error::IdempotencyMismatch { .. })
    ));
    store.close().unwrap();
    let store = open(vfs).unwrap();
    assert_eq!(keyed(&store, b"1").unwrap(), again);
    assert_eq!(
        store.committed("k", None, ReadMode::NonBlocking).unwrap(),
        Some(again)
    );
    assert_eq!(
        store
            .committed("unknown", None, ReadMode::NonBlocking)
            .unwrap(),
        None
    );
    assert_eq!(store.head().unwrap(), 2);
}

#[test]
fn a_keyed_append_without_events_is_recorded() {
    let vfs = SimVfs::tracked(1);
    let store = open(vfs.clone()).unwrap();
    let first = append_expecting(&store, &[], &[], Some("k")).unwrap();
    assert_eq!((first.first_position, first.replayed), (None, false));
    drop(store);
    let store = open(vfs).unwrap();
    assert!(
        append_expecting(&store, &[], &[], Some("k"))
            .unwrap()
            .replayed
    );
    assert_eq!(store.head().unwrap(), 0);
}

#[test]
fn read_batches_continue_in_both_directions() {
    let store = open(SimVfs::tracked(1)).unwrap();
    let names: Vec<String> = (0..100).map(|n| n.to_string()).collect();
    for name in &names {
        append(&store, &[("a", name.as_bytes()), ("b-1", b"x")]).unwrap();
    }
    let mut query = StreamQuery {
        limit: 7,
        backward: true,
        before: Some(50),
        ..StreamQuery::all("a")
    };
    let mut seen = Vec::new();
    loop {
        let page = store.read_stream(&query).unwrap();
        seen.extend(bodies(&page.events));
        query.before = Some(page.next);
        if !page.more {
            break;
        }
    }
    let expected: Vec<String> = (0..49).rev().map(|n| n.to_string()).collect();
    assert_eq!(seen, expected);
    for backward in [false, true] {
        let filter = Filter {
            category: Some("b"),
            ..Filter::default()
        };
        let mut query = LogQuery {
            limit: 9,
            backward,
            filter,
            after: 10,
            ..LogQuery::all()
        };
        let mut positions = Vec::new();
        loop {
            let page = store.read_log(&query).unwrap();
            positions.extend(
                page.events
                    .iter()
                    .map(eventbraid_engine::Recorded::position),
            );
            if backward {
                query.before = Some(page.next);
            } else {
                query.after = page.next;
            }
            if !page.more {
                break;
            }
        }
        let mut expected: Vec<u64> = (11..=200).filter(|p| p % 2 == 0).collect();
        if backward {
            expected.reverse();
        }
        assert_eq!(positions, expected);
    }
}

#[test]
fn a_snapshot_reads_all_streams_as_of_one_position() {
    let store = open(SimVfs::tracked(1)).unwrap();
    for body in [b"1", b"2", b"3"] {
        append(&store, &[("a", body), ("b", body)]).unwrap();
    }
    let query = SnapshotQuery {
        at: Some(4),
        mode: ReadMode::NonBlocking,
        ..SnapshotQuery::all(&[("b", 1), ("a", 0), ("none", 0)])
    };
    let snapshot = store.read_streams(&query).unwrap();
    assert_eq!((snapshot.position, snapshot.versions), (4, vec![2, 2, 0]));
    let positions: Vec<u64> = snapshot
        .events
        .iter()
        .map(eventbraid_engine::Recorded::position)
        .collect();
    assert_eq!(positions, [1, 3, 4]);
}

#[test]
fn a_limited_snapshot_has_the_first_events_of_its_streams() {
    let store = open(SimVfs::tracked(1)).unwrap();
    let large = vec![b'x'; 4096];
    for body in [&b"1"[..], b"2", &large] {
        append(&store, &[("a", body), ("b", body)]).unwrap();
    }
    for mode in [ReadMode::Blocking, ReadMode::NonBlocking] {
        for (limit, max_bytes, expected) in [
            (0, usize::MAX, &[][..]),
            (2, usize::MAX, &[1, 3]),
            (4, usize::MAX, &[1, 2, 3, 5]),
            (usize::MAX, usize::MAX, &[1, 2, 3, 4, 5, 6]),
            (usize::MAX, 1, &[1]),
            (usize::MAX, 4096, &[1, 2, 3, 4]),
        ] {
            let snapshot = store.read_streams(&SnapshotQuery {
                limit,
                max_bytes,
                mode,
                ..SnapshotQuery::all(&[("a", 0), ("b", 0)])
            });
            let snapshot = snapshot.unwrap();
            assert_eq!((snapshot.position, snapshot.versions), (6, vec![3, 3]));
            let positions = snapshot
                .events
                .iter()
                .map(eventbraid_engine::Recorded::position);
            assert_eq!(positions.collect::<Vec<_>>(), expected);
        }
    }
}

/// Call `ask` with every combination of bounds of a log of three events, at and beyond the limits
/// of the integers.
fn every_page(mut ask: impl FnMut(u64, Option<u64>, Option<u64>, usize, bool)) {
    for after in [0, 1, 2, 3, u64::MAX - 1, u64::MAX] {
        for before in [None, Some(0), Some(1), Some(3), Some(u64::MAX)] {
            for at in [None, Some(0), Some(2), Some(u64::MAX)] {
                for limit in [0, 1, 2, usize::MAX] {
                    ask(after, before, at, limit, false);
                    ask(after, before, at, limit, true);
                }
            }
        }
    }
}

/// Return the numbers of the events that a page must contain.
fn page_of_three(
    after: u64,
    before: Option<u64>,
    at: Option<u64>,
    limit: usize,
    backward: bool,
) -> Vec<u64> {
    let mut wanted: Vec<u64> = (1..=3)
        .filter(|n| *n > after && before.is_none_or(|b| *n < b) && at.is_none_or(|a| *n <= a))
        .collect();
    if backward {
        wanted.reverse();
    }
    wanted.truncate(limit);
    wanted
}

#[test]
fn every_cursor_and_limit_selects_the_events_it_names() {
    let store = open(SimVfs::memory()).unwrap();
    for body in [b"1", b"2", b"3"] {
        append(&store, &[("a", body)]).unwrap();
    }
    let positions = |events: &[eventbraid_engine::Recorded]| -> Vec<u64> {
        events
            .iter()
            .map(eventbraid_engine::Recorded::position)
            .collect()
    };
    every_page(|after, before, at, limit, backward| {
        let expected = page_of_three(after, before, at, limit, backward);
        let query = StreamQuery {
            after,
            before,
            at,
            limit,
            backward,
            ..StreamQuery::all("a")
        };
        let page = store.read_stream(&query).unwrap();
        assert_eq!(positions(&page.events), expected, "{query:?}");
        let query = LogQuery {
            after,
            before,
            at,
            limit,
            backward,
            ..LogQuery::all()
        };
        let page = store.read_log(&query).unwrap();
        assert_eq!(positions(&page.events), expected, "{query:?}");
        let streams = [("a", after)];
        let query = SnapshotQuery {
            at,
            ..SnapshotQuery::all(&streams)
        };
        let snapshot = store.read_streams(&query).unwrap();
        let expected = page_of_three(after, None, at, usize::MAX, false);
        assert_eq!(positions(&snapshot.events), expected, "{query:?}");
        assert_eq!(snapshot.versions, [at.unwrap_or(3).min(3)], "{query:?}");
    });
    assert_eq!(store.wait_beyond(2, std::time::Duration::MAX).unwrap(), 3);
}

#[test]
fn an_empty_read_batch_leaves_the_cursor_unchanged() {
    let store = open(SimVfs::memory()).unwrap();
    append(&store, &[("a", b"1"), ("a", b"2")]).unwrap();
    let query = LogQuery {
        limit: 0,
        after: 1,
        ..LogQuery::all()
    };
    let page = store.read_log(&query).unwrap();
    assert_eq!((page.events.len(), page.next), (0, 1));
    let query = LogQuery {
        limit: 0,
        before: Some(2),
        backward: true,
        ..LogQuery::all()
    };
    let page = store.read_log(&query).unwrap();
    assert_eq!((page.events.len(), page.next), (0, 2));
    let query = StreamQuery {
        limit: 0,
        after: 1,
        ..StreamQuery::all("a")
    };
    let page = store.read_stream(&query).unwrap();
    assert_eq!((page.events.len(), page.next), (0, 1));
}

#[test]
fn a_truncated_read_batch_reports_that_there_are_more_events() {
    let mut options = support::options();
    options.max_segment = 32 << 20;
    let store = support::open_with(SimVfs::memory(), options).unwrap();
    let body = vec![0; 1 << 20];
    for _ in 0..20 {
        append(&store, &[("a", &body)]).unwrap();
    }
    for backward in [false, true] {
        let mut query = LogQuery {
            backward,
            ..LogQuery::all()
        };
        let (mut positions, mut pages) = (Vec::new(), 0);
        loop {
            let page = store.read_log(&query).unwrap();
            positions.extend(
                page.events
                    .iter()
                    .map(eventbraid_engine::Recorded::position),
            );
            pages += 1;
            if !page.more {
                break;
            }
            if backward {
                query.before = Some(page.next);
            } else {
                query.after = page.next;
            }
        }
        if backward {
            positions.reverse();
        }
        assert_eq!(positions, (1..=20).collect::<Vec<_>>());
        assert!(pages > 1, "twenty megabytes in one page");
    }
}

#[test]
fn events_and_expectations_of_equal_text_have_different_content() {
    let store = open(SimVfs::memory()).unwrap();
    let input = |stream, event_type, metadata, data| EventInput {
        stream,
        event_type,
        event_id: None,
        metadata,
        library_metadata: b"",
        data,
        content: None,
    };
    // Three events of four parts each and four expectations of three parts each: the same twelve
    // texts in the same order.
    let expectations = ["s1", "s2", "s3", "s4"].map(|name| (name, Expectation::NoStream));
    let events = [
        input("expects", "s1", b"not to exist", b"expects"),
        input("s2", "not to exist", b"expects", b"s3"),
        input("not to exist", "expects", b"s4", b"not to exist"),
    ];
    let expecting = Append {
        expectations: &expectations,
        idempotency_key: Some("k"),
        ..Append::default()
    };
    let spelling = Append {
        events: &events,
        idempotency_key: Some("k"),
        ..Append::default()
    };
    store.append(prepare(&expecting).unwrap()).unwrap();
    let refused = store.append(prepare(&spelling).unwrap());
    assert!(
        matches!(refused, Err(Error::IdempotencyMismatch { .. })),
        "{refused:?}"
    );
    let again = store.append(prepare(&expecting).unwrap()).unwrap();
    assert!(again.replayed);
}

#[test]
fn the_content_of_an_event_replaces_its_data_for_a_key() {
    let store = open(SimVfs::memory()).unwrap();
    let append = |data: &[u8], content| {
        let event = EventInput {
            stream: "s",
            event_type: "t",
            event_id: None,
            metadata: b"",
            library_metadata: b"",
            data,
            content,
        };
        let append = Append {
            events: &[event],
            idempotency_key: Some("k"),
            ..Append::default()
        };
        store.append(prepare(&append).unwrap())
    };
    append(b"cipher 1", Some(b"plain")).unwrap();
    assert!(append(b"cipher 2", Some(b"plain")).unwrap().replayed);
    // A plain body is its own content.
    assert!(append(b"plain", None).unwrap().replayed);
    for refused in [
        append(b"cipher 1", Some(b"other")),
        append(b"cipher 1", None),
    ] {
        assert!(
            matches!(refused, Err(Error::IdempotencyMismatch { .. })),
            "{refused:?}"
        );
    }
    assert_eq!(stream(&store, "s")[0].data(), b"cipher 1");
}
