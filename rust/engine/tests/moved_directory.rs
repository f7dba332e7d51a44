//! A store whose directory is moved or replaced while it is open.
//!
//! The store writes nothing to the directory that the path names afterwards: acknowledged commits
//! are in the directory that was opened, and a new file is refused.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

mod support;

use std::path::Path;
use std::sync::Arc;

use eventbraid_engine::vfs::sim::{Persist, SimVfs};
use eventbraid_engine::vfs::{OpenMode, Vfs as _};
use eventbraid_engine::{Depth, Error, Store};
use support::{ROOT, append, bodies, log, open, options};

const AWAY: &str = "/away";
/// The bytes of an event: a few fill a segment.
const BODY: usize = 3000;

fn body(name: &str, i: usize) -> Vec<u8> {
    let mut body = format!("{name} {i} ").into_bytes();
    body.resize(BODY, b'.');
    body
}

/// Append until `count` appends have succeeded or one fails. Return the number of appends and the
/// error.
fn append_many(store: &Store, name: &str, count: usize) -> (usize, Option<Error>) {
    for i in 0..count {
        if let Err(e) = append(store, &[(name, &body(name, i))]) {
            return (i, Some(e));
        }
    }
    (count, None)
}

fn expected(name: &str, count: usize) -> Vec<String> {
    (0..count)
        .map(|i| String::from_utf8(body(name, i)).unwrap())
        .collect()
}

fn open_at(vfs: &SimVfs, path: &str) -> Result<Store, Error> {
    Store::open(Arc::new(vfs.clone()), Path::new(path), options())
}

/// Build a file system with a closed store at [`ROOT`], and an open one that was moved from there
/// to [`AWAY`] after one event.
fn replaced() -> (SimVfs, Store) {
    let sim = SimVfs::tracked(1);
    let backup = open(sim.clone()).unwrap();
    append_many(&backup, "backup", 5);
    backup.close().unwrap();
    sim.move_outside(ROOT, "/backup").unwrap();
    let store = open(sim.clone()).unwrap();
    append_many(&store, "own", 1);
    sim.move_outside(ROOT, AWAY).unwrap();
    sim.move_outside("/backup", ROOT).unwrap();
    (sim, store)
}

fn files_of(sim: &SimVfs, root: &str) -> Vec<(String, Vec<u8>)> {
    let files = sim
        .files()
        .into_iter()
        .filter(|path| path.starts_with(root));
    files
        .map(|path| (path.display().to_string(), sim.read_file(&path).unwrap()))
        .collect()
}

#[test]
fn the_store_in_the_place_of_a_moved_one_is_not_written() {
    let (sim, store) = replaced();
    let before = files_of(&sim, ROOT);
    let (_, refused) = append_many(&store, "more", 100);
    assert!(matches!(refused, Some(Error::Moved { .. })), "{refused:?}");
    assert!(matches!(store.close(), Err(Error::Moved { .. })));
    assert_eq!(files_of(&sim, ROOT), before);
    assert_eq!(bodies(&log(&open(sim).unwrap())), expected("backup", 5));
}

#[test]
fn commits_of_a_moved_store_are_in_the_directory_that_was_opened() {
    for persist in [Persist::Nothing, Persist::Everything] {
        let (sim, store) = replaced();
        let (done, _) = append_many(&store, "more", 100);
        assert!(done > 0);
        let after = sim.power_cut(persist);
        let found = bodies(&log(&open_at(&after, AWAY).unwrap()));
        assert_eq!(found, [expected("own", 1), expected("more", done)].concat());
    }
}

#[test]
fn a_store_that_is_moved_back_continues() {
    let (sim, store) = replaced();
    let (done, refused) = append_many(&store, "more", 100);
    assert!(matches!(refused, Some(Error::Moved { .. })), "{refused:?}");
    sim.move_outside(ROOT, "/backup").unwrap();
    sim.move_outside(AWAY, ROOT).unwrap();
    let rest = append_many(&store, "rest", 20);
    assert!(matches!(rest, (20, None)), "{rest:?}");
    store.verify(Depth::Full).unwrap();
    store.close().unwrap();
    let all = [
        expected("own", 1),
        expected("more", done),
        expected("rest", 20),
    ]
    .concat();
    assert_eq!(bodies(&log(&open(sim).unwrap())), all);
}

#[test]
fn a_replaced_log_directory_gets_no_segment() {
    let sim = SimVfs::tracked(1);
    let store = open(sim.clone()).unwrap();
    sim.move_outside("/store/log", "/log").unwrap();
    sim.create_dir(Path::new("/store/log")).unwrap();
    let (done, refused) = append_many(&store, "own", 100);
    assert!(matches!(&refused, Some(Error::Moved { path, .. }) if path.ends_with("log")));
    assert!(sim.list(Path::new("/store/log")).unwrap().is_empty());
    drop(store);
    drop(sim.move_outside("/store/log", "/empty"));
    sim.move_outside("/log", "/store/log").unwrap();
    assert_eq!(bodies(&log(&open(sim).unwrap())), expected("own", done));
}

#[test]
fn a_moved_store_can_be_read_and_verified() {
    let (sim, store) = replaced();
    assert_eq!(bodies(&log(&store)), expected("own", 1));
    store.verify(Depth::Full).unwrap();
    store.verify(Depth::Quick).unwrap();
    drop(sim);
}

#[test]
fn a_store_of_another_identity_is_refused_unchanged() {
    let (sim, store) = replaced();
    let mut expecting = options();
    expecting.identity = Some(store.identity());
    let before = files_of(&sim, ROOT);
    let open_at = |path: &str| Store::open(Arc::new(sim.clone()), Path::new(path), expecting);
    assert!(matches!(open_at(ROOT), Err(Error::Moved { .. })));
    assert_eq!(files_of(&sim, ROOT), before);
    sim.create_dir(Path::new("/empty")).unwrap();
    assert!(matches!(open_at("/empty"), Err(Error::Moved { .. })));
    assert!(sim.list(Path::new("/empty")).unwrap().is_empty());
    drop(store);
    open_at(AWAY).unwrap();
}

#[test]
fn a_moved_store_writes_its_poison_marker_to_its_own_directory() {
    use eventbraid_engine::vfs::sim::{Call, Failure, Fault};
    let (sim, store) = replaced();
    sim.fail(Fault::once(Call::SyncData, 1, Failure::EIO));
    append(&store, &[("own", b"lost")]).unwrap_err();
    assert!(sim.read_file("/away/POISONED").is_ok());
    assert!(
        sim.open(Path::new("/store/POISONED"), OpenMode::Read)
            .is_err()
    );
}
