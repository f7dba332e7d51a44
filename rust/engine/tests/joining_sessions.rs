//! Which sessions may join a store that is open, and which are refused: another protocol,
//! another kernel, a page that no live session owns.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails loudly"
)]

mod support;

use std::sync::Arc;

use eventbraid_engine::Error;
use eventbraid_engine::mutex::Mutex;
use eventbraid_engine::vfs::os::OsVfs;
use eventbraid_engine::vfs::sim::{Persist, SimVfs};
use eventbraid_engine::vfs::{Hold, PAGE_WORDS, Vfs};
use support::lock_hook::LockedVfs;
use support::shared::{DEVICE, KERNEL, PROTOCOL, assert_kept, page, shared};
use support::{append, bodies, log, open_with, options};

/// The page is a file, so a loss of power may restore an old state of it. A read-only session keeps
/// that file, and may close between the two attempts of the next session to get the lock.
#[test]
fn a_page_without_a_live_session_is_not_joined() {
    let disk = SimVfs::memory();
    let store = open_with(disk.clone(), shared(options())).unwrap();
    append(&store, &[("s", b"first")]).unwrap();
    let old: Vec<u64> = (0..PAGE_WORDS).map(|word| page(&disk).load(word)).collect();
    append(&store, &[("s", b"second")]).unwrap();
    drop(store);
    let found = page(&disk);
    for (word, value) in old.into_iter().enumerate() {
        found.store(word, value);
    }
    let is_read = Mutex::new(true);
    let late = LockedVfs::new(&disk, move |_, hold| {
        let refuses = hold == Hold::Exclusive && std::mem::take(&mut *is_read.lock());
        refuses.then_some(false)
    });
    let store = open_with(late, shared(options())).unwrap();
    assert_eq!(bodies(&log(&store)), ["first", "second"]);
    append(&store, &[("s", b"third")]).unwrap();
    drop(store);
    let acknowledged = ["first", "second", "third"].map(str::to_owned);
    assert_kept(&disk, &acknowledged, "afterwards");
}

/// Two builds with different protocols never share a store: the later build is refused. If the page
/// of an open session is changed to another protocol, the session writes no more.
#[test]
fn a_session_with_another_protocol_is_refused() {
    let disk = SimVfs::memory();
    let store = open_with(disk.clone(), shared(options())).unwrap();
    append(&store, &[("s", b"first")]).unwrap();
    let words = page(&disk);
    let own = words.load(PROTOCOL);
    words.store(PROTOCOL, own + 1);
    let refused = open_with(disk.clone(), shared(options()));
    let Err(Error::StoreBusy { holder, .. }) = refused else {
        panic!("{refused:?}");
    };
    assert!(holder.contains("another version"), "{holder}");
    let stopped = append(&store, &[("s", b"second")]);
    assert!(
        matches!(stopped, Err(Error::Detached { .. })),
        "{stopped:?}"
    );
    drop(store);
    assert_kept(&disk, &["first".to_owned()], "afterwards");
}

/// A shared folder may carry file locks to another kernel, but no shared memory.
#[test]
fn a_session_under_another_kernel_is_refused() {
    let disk = SimVfs::memory();
    let store = open_with(disk.clone(), shared(options())).unwrap();
    append(&store, &[("s", b"first")]).unwrap();
    let words = page(&disk);
    words.store(KERNEL, disk.kernel() + 1);
    // A container sees another boot id than its host, and shares the memory nevertheless.
    drop(open_with(disk.clone(), shared(options())).unwrap());
    words.store(DEVICE, words.device().unwrap() + 1);
    let refused = open_with(disk.clone(), shared(options()));
    let Err(Error::Unshareable { reason, .. }) = refused else {
        panic!("{refused:?}");
    };
    assert!(reason.contains("another kernel"), "{reason}");
    append(&store, &[("s", b"second")]).unwrap();
    store.close().unwrap();
    let kept = ["first".to_owned(), "second".to_owned()];
    assert_kept(&disk, &kept, "afterwards");
}

/// A restarted machine finds the page of the kernel that ran before.
#[test]
fn a_page_from_before_a_restart_refuses_no_session() {
    let disk = SimVfs::tracked(1);
    let store = open_with(disk.clone(), shared(options())).unwrap();
    append(&store, &[("s", b"first")]).unwrap();
    let restarted = disk.power_cut(Persist::Everything);
    for word in [KERNEL, DEVICE] {
        let words = page(&restarted);
        words.store(word, words.load(word) + 1);
    }
    let mut read_only = options();
    read_only.read_only = true;
    let reader = open_with(restarted.clone(), read_only).unwrap();
    let busy = open_with(restarted.clone(), shared(options()));
    assert!(matches!(busy, Err(Error::StoreBusy { .. })), "{busy:?}");
    drop(reader);
    let a = open_with(restarted.clone(), shared(options())).unwrap();
    let b = open_with(restarted.clone(), shared(options())).unwrap();
    append(&a, &[("s", b"second")]).unwrap();
    append(&b, &[("s", b"third")]).unwrap();
}

#[test]
fn a_second_exclusive_open_is_refused_and_names_the_holder() {
    let directory = tempfile::tempdir().unwrap();
    let open = || {
        eventbraid_engine::Store::open(Arc::new(OsVfs::new()), directory.path(), support::options())
    };
    let store = open().unwrap();
    let Err(Error::StoreBusy { holder, .. }) = open() else {
        panic!("opened twice")
    };
    assert!(holder.contains(&std::process::id().to_string()));
    store.close().unwrap();
    open().unwrap();
}
