//! Which sessions of a store are live, and how old the heartbeat of each is.
#![allow(
    clippy::unwrap_used,
    reason = "a test fails loudly, and says why it was skipped"
)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use eventbraid_engine::vfs::Vfs;
use eventbraid_engine::vfs::os::OsVfs;
use eventbraid_engine::vfs::sim::SimVfs;
use eventbraid_engine::{Error, Mode, Options, Store};

fn shared(background: bool) -> Options {
    let mut options = Options::default();
    options.mode = Mode::Shared;
    options.background = background;
    options
}

fn open(vfs: &Arc<dyn Vfs>, options: Options) -> Store {
    Store::open(Arc::clone(vfs), "/shop".as_ref(), options).unwrap()
}

fn ids(store: &Store) -> Vec<String> {
    let seen = store.live_sessions().unwrap();
    seen.into_iter().map(|session| session.id).collect()
}

fn heartbeat_age(store: &Store, id: &str) -> Option<Duration> {
    let seen = store.live_sessions().unwrap();
    seen.into_iter()
        .find(|session| session.id == id)
        .map(|session| session.heartbeat_age)
}

#[test]
fn a_session_is_listed_from_its_first_heartbeat_until_it_closes() {
    let vfs: Arc<dyn Vfs> = Arc::new(SimVfs::memory());
    let (a, b) = (open(&vfs, shared(true)), open(&vfs, shared(true)));
    assert!(ids(&a).is_empty() && ids(&b).is_empty());
    let id = a.start_heartbeat().unwrap();
    assert_eq!(id, a.start_heartbeat().unwrap());
    let other = b.start_heartbeat().unwrap();
    assert_ne!(id, other);
    for store in [&a, &b] {
        let mut seen = ids(store);
        seen.sort();
        let mut all = vec![id.clone(), other.clone()];
        all.sort();
        assert_eq!(seen, all);
    }
    a.close().unwrap();
    assert_eq!(ids(&b), std::slice::from_ref(&other));
    assert!(matches!(a.start_heartbeat(), Err(Error::Closed)));
    let c = open(&vfs, shared(true));
    assert_ne!(c.start_heartbeat().unwrap(), id);
}

#[test]
fn an_exclusive_session_lists_itself() {
    let vfs: Arc<dyn Vfs> = Arc::new(SimVfs::memory());
    let store = open(&vfs, Options::default());
    assert!(ids(&store).is_empty());
    let id = store.start_heartbeat().unwrap();
    assert_eq!(heartbeat_age(&store, &id), Some(Duration::ZERO));
}

#[test]
fn heartbeats_come_from_a_thread_and_stop_with_it() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("shop");
    let vfs: Arc<dyn Vfs> = Arc::new(OsVfs::new());
    let watching = Store::open(Arc::clone(&vfs), &path, shared(true)).unwrap();
    let beating = Store::open(Arc::clone(&vfs), &path, shared(true)).unwrap();
    // Without background threads, a session records a heartbeat only when the test calls for one.
    let still = Store::open(Arc::clone(&vfs), &path, shared(false)).unwrap();
    let (alive, stopped) = (
        beating.start_heartbeat().unwrap(),
        still.start_heartbeat().unwrap(),
    );
    let deadline = Instant::now() + Duration::from_mins(1);
    while heartbeat_age(&watching, &stopped).unwrap() < Duration::from_secs(2) {
        assert!(Instant::now() < deadline, "its heartbeat never ages");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(
        heartbeat_age(&watching, &alive).unwrap() < heartbeat_age(&watching, &stopped).unwrap()
    );
    let began = Instant::now();
    still.start_heartbeat().unwrap();
    let age = heartbeat_age(&watching, &stopped).unwrap();
    // The clock of heartbeats has a resolution of milliseconds.
    assert!(
        age <= began.elapsed() + Duration::from_millis(100),
        "{age:?}"
    );
}

#[test]
fn a_read_only_session_has_no_heartbeat() {
    let vfs: Arc<dyn Vfs> = Arc::new(SimVfs::memory());
    let store = open(&vfs, shared(true));
    let id = store.start_heartbeat().unwrap();
    let mut options = shared(true);
    options.read_only = true;
    let looking = open(&vfs, options);
    assert!(matches!(looking.start_heartbeat(), Err(Error::Io { .. })));
    assert_eq!(ids(&looking), [id]);
}

#[test]
fn a_heartbeat_is_as_old_as_the_last_tick_of_the_slowest_event_loop() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("shop");
    let vfs: Arc<dyn Vfs> = Arc::new(OsVfs::new());
    let watching = Store::open(Arc::clone(&vfs), &path, shared(true)).unwrap();
    let looping = Store::open(Arc::clone(&vfs), &path, shared(true)).unwrap();
    let id = looping.start_heartbeat().unwrap();
    let (fast, hung) = (
        looping.register_loop().unwrap(),
        looping.register_loop().unwrap(),
    );
    let deadline = Instant::now() + Duration::from_mins(1);
    while heartbeat_age(&watching, &id).unwrap() < Duration::from_secs(1) {
        assert!(Instant::now() < deadline, "a hung event loop isn't noticed");
        looping.tick(fast);
        std::thread::sleep(Duration::from_millis(20));
    }
    // Without the hung loop, the heartbeat of the session is as young as that of the other loop.
    looping.unregister_loop(hung);
    while heartbeat_age(&watching, &id).unwrap() >= Duration::from_secs(1) {
        assert!(Instant::now() < deadline, "the heartbeat stays old");
        looping.tick(fast);
        std::thread::sleep(Duration::from_millis(20));
    }
    looping.tick(hung);
}
