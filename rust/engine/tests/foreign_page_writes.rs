//! Writes of other programs into the page that the sessions of a store share.
//!
//! Each word of the page is overwritten while two sessions have the store open, one of which
//! has not yet read the other's last commit. Whatever the page contains then, every
//! acknowledged commit is in the log, every read that succeeds returns all of them, and a
//! refused call returns an error of its own kind.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails loudly"
)]

mod support;

use std::time::{Duration, Instant};

use eventbraid_engine::vfs::sim::SimVfs;
use eventbraid_engine::{Depth, Error, Store};
use support::pair::{self, Pair};
use support::shared::{COORDINATION, DURABLE_SEQUENCE, TAIL_SEQUENCE, assert_kept, page, shared};
use support::{append, bodies, log, open_with, options};

/// The words to change: all of them, except that one session slot stands for all session slots and
/// two wait slots stand for all wait slots.
const WORDS: std::ops::Range<usize> = 0..208;
const FIRST_MEMBER: std::ops::Range<usize> = 512..544;

#[test]
fn overwritten_words_of_a_real_page_lose_no_commit() {
    let dir = tempfile::tempdir().unwrap();
    let mut pair = Pair::open(&dir.path().join("store"), Vec::new());
    let mut refused = 0;
    let mut is_changed = false;
    for word in WORDS.chain(FIRST_MEMBER) {
        for (n, change) in CHANGES.into_iter().enumerate() {
            let name = format!("word {word}, change {n}");
            // The session `behind` has not read this commit yet.
            let first = pair.append(false, name.clone());
            if is_changed && matches!(first, Err(Error::Detached { .. })) {
                // The listener thread looks at the page twice a second: it has found the previous
                // change after the calls that followed that change.
                refused += 1;
                pair = pair.open_again();
                pair.append(false, name.clone()).unwrap();
            } else {
                first.unwrap();
            }
            pair.page.store(word, change(pair.page.load(word)));
            is_changed = !pair.is_any_refused(&name);
            if !is_changed {
                refused += 1;
                pair = pair.open_again();
            }
        }
    }
    assert!(refused > 20, "the page is not checked: {refused}");
    let pair = pair.open_again();
    assert_eq!(
        pair.ahead.verify(Depth::Full).unwrap().events,
        pair.ahead.head().unwrap()
    );
}

/// A page as it was before the last commit is consistent in itself. A session that has not read
/// that commit cannot detect the old page by reading it, but must not overwrite the commit.
#[test]
fn an_older_copy_of_the_page_is_detected_before_the_next_write() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("store");
    let mut pair = Pair::open(&root, Vec::new());
    for n in 0..3 {
        pair.append(false, format!("one {n}")).unwrap();
        pair.check(&pair.behind).unwrap();
        let copy: Vec<_> = WORDS.map(|word| pair.page.load(word)).collect();
        pair.append(false, format!("two {n}")).unwrap();
        for (word, value) in copy.into_iter().enumerate() {
            pair.page.store(word, value);
        }
        let refused = pair.append(true, format!("over {n}"));
        assert!(
            matches!(refused, Err(Error::Detached { .. })),
            "{refused:?}"
        );
        pair = pair.open_again();
    }
    assert_eq!(pair.ahead.verify(Depth::Full).unwrap().events, 6);
}

/// A session that joined through a copy would use the durable end at the time of the copy as the
/// present one.
#[test]
fn a_copy_of_the_page_is_not_joined() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("store");
    let mut pair = Pair::open(&root, Vec::new());
    let page = root.join("coord.shm");
    let copy = root.join("copy");
    std::fs::copy(&page, &copy).unwrap();
    pair.append(false, "one".to_owned()).unwrap();
    std::fs::remove_file(&page).unwrap();
    std::fs::rename(&copy, &page).unwrap();
    let third = pair::open(&root);
    assert!(matches!(third, Err(Error::StoreBusy { .. })), "{third:?}");
    let refused = pair.append(true, "two".to_owned());
    assert!(
        matches!(refused, Err(Error::Detached { .. })),
        "{refused:?}"
    );
    pair = pair.open_again();
    assert_eq!(pair.ahead.head().unwrap(), 1);
}

/// The session that detects the deletion stops all others, including one that only waits.
#[test]
fn all_sessions_are_stopped_by_a_deleted_page() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("store");
    let mut pair = Pair::open(&root, Vec::new());
    let waiting = pair.behind.clone();
    let waits = std::thread::spawn(move || waiting.wait_beyond(0, Duration::from_mins(1)));
    std::fs::remove_file(root.join("coord.shm")).unwrap();
    let refused = pair.append(false, "one".to_owned());
    assert!(
        matches!(refused, Err(Error::Detached { .. })),
        "{refused:?}"
    );
    for refused in [
        waits.join().unwrap().map(drop),
        pair.behind.grows_beyond(0).map(drop),
    ] {
        assert!(
            matches!(refused, Err(Error::Detached { .. })),
            "{refused:?}"
        );
    }
}

const CHANGES: [fn(u64) -> u64; 5] = [
    |_| 0,
    |word| word.wrapping_sub(1),
    |word| word.wrapping_sub(2),
    |word| word.wrapping_add(1),
    |word| word ^ 0x5eed_5eed_5eed_5eed,
];

#[test]
fn a_tail_record_that_was_set_back_loses_no_commit() {
    let disk = SimVfs::memory();
    let a = open_with(disk.clone(), shared(options())).unwrap();
    let b = open_with(disk.clone(), shared(options())).unwrap();
    append(&a, &[("s", b"first")]).unwrap();
    append(&b, &[("s", b"second")]).unwrap();
    append(&a, &[("s", b"third")]).unwrap();
    let page = page(&disk);
    page.store(TAIL_SEQUENCE, page.load(TAIL_SEQUENCE) - 1);
    let refused = append(&b, &[("s", b"fourth")]);
    assert!(
        matches!(refused, Err(Error::Detached { .. })),
        "{refused:?}"
    );
    drop((a, b));
    let acknowledged = ["first", "second", "third"].map(str::to_owned);
    assert_kept(&disk, &acknowledged, "afterwards");
}

/// Whatever a word of the page contains, no call hangs, no acknowledged commit is lost, and every
/// error is one of the documented kinds.
#[test]
fn no_changed_word_of_the_page_loses_a_commit() {
    for word in (0..COORDINATION).filter(|word| word % 8 < 2 || (80..144).contains(word)) {
        for change in 0..6 {
            let context = format!("word {word}, change {change}");
            let disk = SimVfs::memory();
            let a = open_with(disk.clone(), shared(options())).unwrap();
            let b = open_with(disk.clone(), shared(options())).unwrap();
            let mut acknowledged = Vec::new();
            let mut append_to =
                |store: &Store, body: &str| match append(store, &[("s", body.as_bytes())]) {
                    Ok(_) => acknowledged.push(body.to_owned()),
                    Err(
                        Error::Detached { .. }
                        | Error::Poisoned { .. }
                        | Error::StoreBusy { .. }
                        | Error::OutcomeUnknown { .. },
                    ) => {}
                    Err(e) => panic!("{context}: {e:?}"),
                };
            append_to(&a, "first");
            append_to(&b, "second");
            append_to(&a, "third");
            let page = page(&disk);
            let now = page.load(word);
            let value = match change {
                0 => 0,
                1 => 1,
                2 => u64::MAX,
                3 => now.wrapping_add(1),
                4 => now.wrapping_sub(1),
                _ => 0x5555_5555_5555_5555,
            };
            page.store(word, value);
            let began = Instant::now();
            append_to(&b, "fourth");
            append_to(&a, "fifth");
            if change == 4 {
                let joined = open_with(disk.clone(), shared(options()));
                if let Ok(c) = joined {
                    append_to(&c, "sixth");
                }
            }
            append_to(&b, "seventh");
            assert!(began.elapsed() < Duration::from_secs(10), "{context}");
            drop((a, b));
            assert_kept(&disk, &acknowledged, &context);
        }
    }
}

/// The number of a record was set back, and the next publication counts up to the old number.
#[test]
fn a_repeated_record_number_hides_no_commit() {
    let disk = SimVfs::memory();
    let a = open_with(disk.clone(), shared(options())).unwrap();
    let b = open_with(disk.clone(), shared(options())).unwrap();
    append(&a, &[("s", b"first")]).unwrap();
    append(&b, &[("s", b"second")]).unwrap();
    assert_eq!(log(&a).len(), 2);
    let words = page(&disk);
    words.store(DURABLE_SEQUENCE, words.load(DURABLE_SEQUENCE) - 1);
    let c = open_with(disk.clone(), shared(options())).unwrap();
    assert_eq!((c.head().unwrap(), log(&c).len()), (2, 2));
    let (done, append_ends) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let appended = append(&b, &[("s", b"third")]);
        // The receiver is gone if the append took longer than its timeout.
        let _sent = done.send((appended, b));
    });
    let (appended, _b) = append_ends.recv_timeout(Duration::from_secs(20)).unwrap();
    appended.unwrap();
    assert_eq!((log(&a).len(), log(&c).len()), (3, 3));
}

/// The number points to a record that is overwritten by now, so no older record may be returned.
#[test]
fn an_unknown_record_number_returns_no_older_record() {
    let disk = SimVfs::memory();
    let a = open_with(disk.clone(), shared(options())).unwrap();
    let b = open_with(disk.clone(), shared(options())).unwrap();
    append(&a, &[("s", b"first")]).unwrap();
    assert_eq!(b.head().unwrap(), 1);
    while page(&disk).load(DURABLE_SEQUENCE) < 3 {
        append(&a, &[("s", b"another")]).unwrap();
    }
    let words = page(&disk);
    words.store(DURABLE_SEQUENCE, words.load(DURABLE_SEQUENCE) - 2);
    let refused = b.head();
    assert!(
        matches!(refused, Err(Error::Detached { .. })),
        "{refused:?}"
    );
}

/// An older copy of the page names an older end of the log, perhaps in an earlier segment. A write
/// at that end, or at the beginning of the next segment, would overwrite acknowledged frames.
#[test]
fn an_older_copy_of_the_page_is_detected_across_segments() {
    for (size, is_listed) in [(10, false), (10, true), (3000, false), (3000, true)] {
        let context = format!("{size} bytes, next segment listed: {is_listed}");
        let disk = SimVfs::memory();
        let mut small = shared(options());
        (small.first_segment, small.max_segment) = (8 << 10, 8 << 10);
        let a = open_with(disk.clone(), small).unwrap();
        append(&a, &[("s", &[b'1'; 2000])]).unwrap();
        let mut acknowledged = bodies(&log(&a));
        if is_listed {
            // The prepared segment is too small for the next frame and stays empty.
            append(&a, &[("s", &[b'2'; 3000])]).unwrap();
            acknowledged = bodies(&log(&a));
        }
        let b = open_with(disk.clone(), small).unwrap();
        assert_eq!(bodies(&log(&b)), acknowledged, "{context}");
        let words = page(&disk);
        let copy: Vec<u64> = (0..COORDINATION).map(|word| words.load(word)).collect();
        append(&a, &[("s", &[b'3'; 6000])]).unwrap();
        acknowledged.push("3".repeat(6000));
        for (word, value) in copy.into_iter().enumerate() {
            words.store(word, value);
        }
        let over = append(&b, &[("s", &vec![b'x'; size])]);
        assert!(
            matches!(over, Err(Error::Detached { .. })),
            "{context}: {over:?}"
        );
        drop((a, b));
        assert_kept(&disk, &acknowledged, &context);
    }
}
