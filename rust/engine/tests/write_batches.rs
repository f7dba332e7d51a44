//! Appends that wait for the disk at the same time are written in one batch.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails loudly"
)]

mod support;

use eventbraid_engine::vfs::sim::SimVfs;
use support::hook::{Flag, HookedVfs, Op, wait_until};
use support::{append, bodies, log, open};

const SEGMENT: &str = "0000000001.hot";
const THREADS: u64 = 40;

/// Above the expected number, for threads that are late, and far below one batch for each thread.
const FEW: u64 = 20;

#[test]
fn appends_that_wait_for_the_disk_share_write_batches() {
    let (armed, go) = (Flag::default(), Flag::default());
    let vfs = {
        let (armed, go) = (armed.clone(), go.clone());
        HookedVfs::new(SimVfs::tracked(1), move |call| {
            if armed.is_set() && call.is(Op::SyncData, SEGMENT) {
                go.wait("all appends to be requested");
            }
            Ok(())
        })
    };
    let store = open(vfs).unwrap();
    armed.set();
    let threads: Vec<_> = (0..THREADS)
        .map(|_| {
            let store = store.clone();
            std::thread::spawn(move || append(&store, &[("a", b"x")]).map(drop))
        })
        .collect();
    wait_until("all to be requested", || {
        store.stats().session.appends == THREADS
    });
    go.set();
    for thread in threads {
        thread.join().unwrap().unwrap();
    }
    let stats = store.stats();
    assert_eq!(bodies(&log(&store)).len() as u64, THREADS);
    assert_eq!(stats.session.commits, THREADS);
    assert!(
        stats.session.write_batches <= FEW,
        "{} batches",
        stats.session.write_batches
    );
}
