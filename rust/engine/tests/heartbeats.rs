//! Which openings of a store are alive, and how long each was silent.
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
    seen.into_iter().map(|sighting| sighting.id).collect()
}

fn heartbeat_age(store: &Store, id: &str) -> Option<Duration> {
    let seen = store.live_sessions().unwrap();
    seen.into_iter()
        .find(|sighting| sighting.id == id)
        .map(|sighting| sighting.heartbeat_age)
}

#[test]
fn an_opening_is_seen_by_all_from_its_first_sign_of_life_to_its_end() {
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
fn a_store_that_is_one_openings_alone_shows_that_one() {
    let vfs: Arc<dyn Vfs> = Arc::new(SimVfs::memory());
    let store = open(&vfs, Options::default());
    assert!(ids(&store).is_empty());
    let id = store.start_heartbeat().unwrap();
    assert_eq!(heartbeat_age(&store, &id), Some(Duration::ZERO));
}

#[test]
fn signs_of_life_come_from_a_thread_and_stop_with_it() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("shop");
    let vfs: Arc<dyn Vfs> = Arc::new(OsVfs::new());
    let watching = Store::open(Arc::clone(&vfs), &path, shared(true)).unwrap();
    let beating = Store::open(Arc::clone(&vfs), &path, shared(true)).unwrap();
    // Without threads of its own an opening gives a sign of life only when it is asked to.
    let still = Store::open(Arc::clone(&vfs), &path, shared(false)).unwrap();
    let (alive, stopped) = (
        beating.start_heartbeat().unwrap(),
        still.start_heartbeat().unwrap(),
    );
    let deadline = Instant::now() + Duration::from_secs(20);
    while heartbeat_age(&watching, &stopped).unwrap() < Duration::from_secs(2) {
        assert!(Instant::now() < deadline, "it is never silent");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(
        heartbeat_age(&watching, &alive).unwrap() < heartbeat_age(&watching, &stopped).unwrap()
    );
    still.start_heartbeat().unwrap();
    assert!(heartbeat_age(&watching, &stopped).unwrap() < Duration::from_secs(2));
}

#[test]
fn who_only_looks_gives_no_signs_of_life() {
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
fn a_session_is_silent_since_the_last_tick_of_its_slowest_event_loop() {
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
    let deadline = Instant::now() + Duration::from_secs(20);
    while heartbeat_age(&watching, &id).unwrap() < Duration::from_secs(1) {
        assert!(Instant::now() < deadline, "a hung event loop isn't noticed");
        looping.tick(fast);
        std::thread::sleep(Duration::from_millis(20));
    }
    // Without the hung one, the session is as alive as the other one.
    looping.unregister_loop(hung);
    while heartbeat_age(&watching, &id).unwrap() >= Duration::from_secs(1) {
        assert!(Instant::now() < deadline, "the session stays silent");
        looping.tick(fast);
        std::thread::sleep(Duration::from_millis(20));
    }
    looping.tick(hung);
}
