//! A listing of streams names each stream once, in byte order, as of its start, and evicts no
//! chunk from the cache that serves reads of events.
#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "the linter does not recognize a test's helper functions as tests"
)]

mod support;

use eventbraid_engine::vfs::sim::SimVfs;
use eventbraid_engine::{Error, Store, StreamQuery};
use support::{append, open, open_with, options, streams};

fn filled(store: &Store, count: usize) -> Vec<String> {
    let mut names: Vec<String> = (0..count)
        .map(|n| format!("{}-{}", ["b", "a", "é", "B"][n % 4], n * 7919 % 10_000))
        .collect();
    for pair in names.chunks(2) {
        let twice: Vec<(&str, &[u8])> = pair
            .iter()
            .chain(pair)
            .map(|name| (name.as_str(), &b"body"[..]))
            .collect();
        append(store, &twice).unwrap();
    }
    names.sort_unstable();
    names
}

#[test]
fn every_stream_is_listed_once_in_byte_order() {
    let store = open(SimVfs::memory()).unwrap();
    assert_eq!(streams(&store, "").unwrap(), [""; 0]);
    let names = filled(&store, 1_000);
    assert_eq!(streams(&store, "").unwrap(), names);
    for prefix in ["a", "a-1", "é", "B-", "none"] {
        let wanted: Vec<_> = names.iter().filter(|n| n.starts_with(prefix)).collect();
        assert!(
            streams(&store, prefix).unwrap().iter().eq(wanted),
            "{prefix}"
        );
    }
}

#[test]
fn a_listing_is_complete_as_of_its_start() {
    let store = open(SimVfs::memory()).unwrap();
    let names = filled(&store, 10);
    let mut listing = store.streams("", true).unwrap();
    append(&store, &[("aaa", b"late")]).unwrap();
    assert!(!store.gather(&mut listing).unwrap());
    assert_eq!(listing.page(100), [""; 0]);
    while !store.gather(&mut listing).unwrap() {}
    assert_eq!(listing.page(4), names[..4]);
    assert_eq!(listing.page(100), names[4..]);
    assert_eq!(listing.page(100), [""; 0]);
}

#[test]
fn a_listing_evicts_nothing_from_the_cache() {
    let mut options = options();
    options.cache = 64 << 10;
    let store = open_with(SimVfs::memory(), options).unwrap();
    append(&store, &[("hot", b"read often")]).unwrap();
    let body = vec![b'x'; 20_000];
    for n in 0..50 {
        append(&store, &[(&format!("cold-{n}"), &body)]).unwrap();
    }
    let read = || {
        store
            .read_stream(&StreamQuery::all("hot"))
            .unwrap()
            .events
            .len()
    };
    assert_eq!(read(), 1);
    let before = store.stats().local.cache_hits;
    assert_eq!(streams(&store, "cold-").unwrap().len(), 50);
    let listed = store.stats();
    assert!(listed.local.cache_misses >= 50, "{listed:?}");
    assert_eq!(read(), 1);
    let after = store.stats();
    assert_eq!(after.local.cache_misses, listed.local.cache_misses);
    assert!(after.local.cache_hits > before);
}

#[test]
fn a_closed_store_lists_nothing() {
    let store = open(SimVfs::memory()).unwrap();
    filled(&store, 10);
    let mut listing = store.streams("", true).unwrap();
    store.close().unwrap();
    assert!(matches!(store.gather(&mut listing), Err(Error::Closed)));
    assert!(matches!(store.streams("", true), Err(Error::Closed)));
}
