//! Reservations of streams: which appends wait for a reservation, and the maximum time of the wait.
//!
//! The hazard: an append that is delayed and never resumed, or delayed for a holder that has
//! ended.
#![allow(clippy::unwrap_used, reason = "a test fails loudly")]

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use eventbraid_engine::vfs::Vfs;
use eventbraid_engine::vfs::os::OsVfs;
use eventbraid_engine::{LONGEST_RESERVATION, Mode, Options, Store, Ticket};

/// The limit of every wait in this file. Without a fault, no wait comes close to it.
const SOON: Duration = Duration::from_secs(4);
const SHORT: Duration = Duration::from_millis(150);

fn options(mode: Mode) -> Options {
    let mut options = Options::default();
    options.mode = mode;
    options
}

/// Open two sessions of one store in a directory, as two processes would.
fn two_sessions() -> (tempfile::TempDir, Store, Store) {
    let root = tempfile::tempdir().unwrap();
    let vfs: Arc<dyn Vfs> = Arc::new(OsVfs::new());
    let path = root.path().join("shop");
    let open = || Store::open(Arc::clone(&vfs), &path, options(Mode::Shared)).unwrap();
    let (a, b) = (open(), open());
    (root, a, b)
}

/// Open one exclusive session.
fn exclusive_session() -> (tempfile::TempDir, Store) {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("shop");
    let store = Store::open(Arc::new(OsVfs::new()), &path, options(Mode::Exclusive)).unwrap();
    (root, store)
}

fn begin(store: &Store, stream: &str) -> Ticket {
    store.begin(support::prepared(stream, b"x")).unwrap()
}

fn is_done(ticket: &Ticket, within: Duration) -> bool {
    ticket.wait(within).is_some_and(|answer| {
        answer.unwrap();
        true
    })
}

#[test]
fn appends_of_other_sessions_wait_for_a_reservation_and_its_holder_does_not() {
    let (_root, a, b) = two_sessions();
    let (_own, c) = exclusive_session();
    for (holder, other) in [(&a, &b), (&b, &a), (&a, &a), (&c, &c)] {
        let reserved = holder.reserve(&["order-1"], &[], SOON).unwrap().unwrap();
        assert_eq!(other.reserve(&["order-2"], &[], SOON).unwrap(), None);
        let waiting = begin(other, "order-1");
        assert!(!is_done(&waiting, SHORT));
        assert!(is_done(&begin(other, "order-2"), SOON), "not reserved");
        let own = support::prepared("order-1", b"own").under(reserved);
        assert!(is_done(&holder.begin(own).unwrap(), SOON));
        holder.release(reserved);
        assert!(is_done(&waiting, SOON));
        assert!(is_done(&begin(other, "order-1"), SOON));
    }
}

#[test]
fn a_reserved_category_delays_appends_to_each_of_its_streams() {
    let (_root, a, b) = two_sessions();
    for (holder, other) in [(&a, &b), (&b, &a), (&a, &a)] {
        let reserved = holder.reserve(&[], &["order"], SOON).unwrap().unwrap();
        let waiting = [begin(other, "order-1"), begin(other, "order-2")];
        assert!(!is_done(&waiting[0], SHORT));
        assert!(!is_done(&waiting[1], Duration::ZERO));
        for unreserved in ["orders-1", "ord-1", "customer-1"] {
            assert!(is_done(&begin(other, unreserved), SOON), "{unreserved}");
        }
        let own = support::prepared("order-3", b"own").under(reserved);
        assert!(is_done(&holder.begin(own).unwrap(), SOON));
        holder.release(reserved);
        assert!(waiting.iter().all(|ticket| is_done(ticket, SOON)));
    }
    assert!(a.reserve(&[], &["order-1"], SOON).is_err());
}

#[test]
fn a_reservation_ends_at_its_deadline_and_at_the_longest_duration() {
    let (_root, a, b) = two_sessions();
    let (_own, c) = exclusive_session();
    for (holder, other) in [(&a, &b), (&c, &c)] {
        assert!(holder.reserve(&["order-1"], &[], SHORT).unwrap().is_some());
        let began = Instant::now();
        assert!(is_done(&begin(other, "order-1"), SOON));
        assert!(began.elapsed() > SHORT / 2);
        // The first reservation has ended, so the stream can be reserved again.
        let forever = holder.reserve(&["order-1"], &[], Duration::MAX).unwrap();
        let began = Instant::now();
        assert!(is_done(
            &begin(other, "order-1"),
            LONGEST_RESERVATION + SOON
        ));
        assert!(began.elapsed() < LONGEST_RESERVATION + SOON);
        holder.release(forever.unwrap());
    }
}

#[test]
fn a_reservation_ends_with_its_session() {
    let (_root, a, b) = two_sessions();
    let reserved = a.reserve(&["order-1"], &[], Duration::MAX).unwrap();
    assert!(reserved.is_some());
    let waiting = begin(&b, "order-1");
    assert!(!is_done(&waiting, SHORT));
    a.close().unwrap();
    assert!(is_done(&waiting, SOON));
    assert!(b.reserve(&["order-1"], &[], SHORT).unwrap().is_some());
}

#[test]
fn an_append_waits_for_one_reservation_and_not_for_the_next() {
    let (_root, a, b) = two_sessions();
    let first = a.reserve(&["order-1"], &[], SOON).unwrap().unwrap();
    let waiting = begin(&b, "order-1");
    assert!(!is_done(&waiting, SHORT));
    a.release(first);
    let second = a.reserve(&["order-1"], &[], Duration::MAX).unwrap();
    let began = Instant::now();
    assert!(is_done(&waiting, SOON));
    assert!(began.elapsed() + SHORT < LONGEST_RESERVATION);
    a.release(second.unwrap());
}

/// The append of another caller is deferred by the second reservation before the background thread
/// has noticed that the first one has ended.
#[test]
fn a_further_append_does_not_extend_the_wait_of_an_earlier_one() {
    let (_root, a, b) = two_sessions();
    for _ in 0..20 {
        let first = a.reserve(&["order-1"], &[], SOON).unwrap().unwrap();
        let waiting = begin(&b, "order-1");
        assert!(!is_done(&waiting, Duration::from_millis(2)));
        a.release(first);
        let second = a.reserve(&["order-1"], &[], SOON).unwrap().unwrap();
        let further = begin(&b, "order-1");
        assert!(is_done(&waiting, SOON / 2));
        assert!(!is_done(&further, Duration::ZERO));
        a.release(second);
        assert!(is_done(&further, SOON));
    }
}

#[test]
fn appends_that_wait_for_a_reservation_are_written_before_a_close() {
    let (_root, a, b) = two_sessions();
    let (_own, c) = exclusive_session();
    for (holder, other) in [(&a, &b), (&c, &c)] {
        let reserved = holder.reserve(&["order-1"], &[], Duration::MAX).unwrap();
        let waiting: Vec<_> = (0..10).map(|_| begin(other, "order-1")).collect();
        let began = Instant::now();
        other.close().unwrap();
        assert!(waiting.iter().all(|ticket| is_done(ticket, SOON)));
        assert!(began.elapsed() + SHORT < LONGEST_RESERVATION);
        holder.release(reserved.unwrap());
    }
}

#[test]
fn a_release_of_an_ended_reservation_ends_no_other_one() {
    let (_root, a, b) = two_sessions();
    let ended = a
        .reserve(&["order-1"], &[], Duration::ZERO)
        .unwrap()
        .unwrap();
    let current = b.reserve(&["order-1"], &[], SOON).unwrap().unwrap();
    a.release(ended);
    assert_eq!(a.reserve(&["order-1"], &[], SOON).unwrap(), None);
    b.release(current);
    assert!(a.reserve(&["order-1"], &[], SOON).unwrap().is_some());
}

#[test]
fn an_invalid_stream_name_is_not_reserved() {
    let (_root, store) = exclusive_session();
    assert!(store.reserve(&[""], &[], SOON).is_err());
    let many: Vec<_> = (0..100).map(|n| format!("order-{n}")).collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    let reserved = store.reserve(&many, &[], SOON).unwrap();
    assert!(
        is_done(&begin(&store, "order-99"), SOON),
        "beyond the limit"
    );
    store.release(reserved.unwrap());
}
