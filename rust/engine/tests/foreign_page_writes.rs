//! Any program may write to the page that the processes of a store share.
//!
//! Each of its words is overwritten while two openings have the store, one of which does not
//! yet know what the other has committed. Whatever the page says then: what was acknowledged
//! is there, and is read by whoever reads at all; and who is refused is told why.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails loudly"
)]

mod support;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use eventbraid_engine::vfs::os::OsVfs;
use eventbraid_engine::vfs::{OpenMode, SharedPage, Vfs};
use eventbraid_engine::{Depth, Error, LogQuery, Mode, Options, Store};
use support::{append, bodies, threaded};

/// All words but those of members, of whom one is enough, and of seats, of whom two are.
const WORDS: std::ops::Range<usize> = 0..208;
const FIRST_MEMBER: std::ops::Range<usize> = 512..544;

fn options() -> Options {
    let mut options = threaded();
    options.mode = Mode::Shared;
    options.lock_timeout = Duration::from_millis(100);
    options
}

fn open(root: &Path) -> Result<Store, Error> {
    Store::open(Arc::new(OsVfs::new()), root, options())
}

/// Two openings of a store, and their page.
struct Pair {
    root: PathBuf,
    ahead: Store,
    behind: Store,
    page: Arc<dyn SharedPage>,
    acknowledged: Vec<String>,
}

impl Pair {
    fn open(root: &Path, acknowledged: Vec<String>) -> Self {
        let ahead = open(root).unwrap();
        let behind = open(root).unwrap();
        let page = root.join("coord.shm");
        let page = OsVfs::new().open_page(&page, OpenMode::ReadWrite).unwrap();
        let pair = Self {
            root: root.to_owned(),
            ahead,
            behind,
            page,
            acknowledged,
        };
        pair.check(&pair.ahead).unwrap();
        pair
    }

    fn append(&mut self, behind: bool, name: String) -> Result<(), Error> {
        let store = if behind { &self.behind } else { &self.ahead };
        append(store, &[("a", name.as_bytes())])?;
        self.acknowledged.push(name);
        Ok(())
    }

    /// Who reads at all reads all that was acknowledged.
    fn check(&self, store: &Store) -> Result<(), Error> {
        let head = store.head();
        let events = store.read_log(&LogQuery::all())?.events;
        let mut expected = self.acknowledged.iter();
        let mut wanted = expected.next();
        let mut last = 0;
        for (body, event) in bodies(&events).iter().zip(&events) {
            if Some(body) == wanted {
                wanted = expected.next();
                last = event.position();
            } else {
                assert!(!self.acknowledged.contains(body), "{body} is out of place");
            }
        }
        assert_eq!(wanted, None, "it was acknowledged and is not read");
        assert!(head? >= last, "the head is behind what was acknowledged");
        Ok(())
    }

    /// Everyone asks for everything; answers whether anyone was refused.
    fn is_refused(&mut self, name: &str) -> bool {
        let outcomes = [
            self.check(&self.behind),
            self.append(true, format!("{name} behind")),
            self.check(&self.behind),
            self.append(false, format!("{name} ahead")),
            self.check(&self.ahead),
            open(&self.root).and_then(|third| {
                self.check(&third)?;
                third.close()
            }),
        ];
        let mut is_refused = false;
        for outcome in outcomes {
            is_refused |= outcome.is_err();
            assert!(is_typed(&outcome), "{name}: {outcome:?}");
        }
        is_refused
    }

    /// Begins a new session, whatever the old one says in the end.
    fn open_again(self) -> Self {
        for store in [self.behind, self.ahead] {
            let closed = store.close();
            assert!(is_typed(&closed), "{closed:?}");
        }
        Self::open(&self.root, self.acknowledged)
    }
}

fn is_typed(outcome: &Result<(), Error>) -> bool {
    matches!(
        outcome,
        Ok(())
            | Err(Error::Detached { .. }
                | Error::StoreBusy { .. }
                | Error::Unshareable { .. }
                | Error::Poisoned { .. }
                | Error::OutcomeUnknown { .. })
    )
}

#[test]
fn any_word_of_the_page_may_be_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let mut pair = Pair::open(&dir.path().join("store"), Vec::new());
    let mut refused = 0;
    for word in WORDS.chain(FIRST_MEMBER) {
        for (n, change) in CHANGES.into_iter().enumerate() {
            let name = format!("word {word}, change {n}");
            // Who is behind has yet to learn of this.
            pair.append(false, name.clone()).unwrap();
            pair.page.store(word, change(pair.page.load(word)));
            if pair.is_refused(&name) {
                refused += 1;
                pair = pair.open_again();
            }
        }
    }
    assert!(refused > 20, "the page is not looked at: {refused}");
    let pair = pair.open_again();
    assert_eq!(
        pair.ahead.verify(Depth::Full).unwrap().events,
        pair.ahead.head().unwrap()
    );
}

/// The page as it was before the last commit has everything in its place. Who does not know
/// that commit can't see what is wrong with the page, but must not write over it.
#[test]
fn an_older_copy_of_the_page_is_found_out_before_the_next_write() {
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

/// Who came in by a copy would take what was durable when it was made for all that is.
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
    let third = open(&root);
    assert!(matches!(third, Err(Error::StoreBusy { .. })), "{third:?}");
    let refused = pair.append(true, "two".to_owned());
    assert!(
        matches!(refused, Err(Error::Detached { .. })),
        "{refused:?}"
    );
    pair = pair.open_again();
    assert_eq!(pair.ahead.head().unwrap(), 1);
}

/// Of whoever found out that the page is not what it was, all learn, also who only waits.
#[test]
fn all_are_told_of_a_page_that_is_gone() {
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
    let told = waits.join().unwrap();
    assert!(matches!(told, Err(Error::Detached { .. })), "{told:?}");
    let in_vain = pair.behind.grows_beyond(0);
    assert!(
        matches!(in_vain, Err(Error::Detached { .. })),
        "{in_vain:?}"
    );
}

/// Nobody writes, and so nobody looks but who waits.
#[test]
fn who_waits_finds_out_by_itself_that_a_lock_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("store");
    let pair = Pair::open(&root, Vec::new());
    std::fs::remove_file(root.join("locks/write.lock")).unwrap();
    let told = pair.behind.wait_beyond(0, Duration::from_mins(1));
    assert!(matches!(told, Err(Error::Detached { .. })), "{told:?}");
}

/// Who came in by other lock files would be kept apart from nobody who is in.
#[test]
fn nobody_comes_in_by_other_lock_files() {
    for name in ["boot", "write", "sync", "maint"] {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("store");
        let pair = Pair::open(&root, Vec::new());
        let lock = root.join(format!("locks/{name}.lock"));
        std::fs::remove_file(&lock).unwrap();
        std::fs::File::create(&lock).unwrap();
        let third = open(&root);
        // Busy, where who is in has found out just before.
        assert!(
            matches!(third, Err(Error::Detached { .. } | Error::StoreBusy { .. })),
            "{name}: {third:?}"
        );
        // Nobody writes, and all are told nevertheless.
        for store in [&pair.ahead, &pair.behind] {
            let told = store.wait_beyond(0, Duration::from_mins(1));
            assert!(
                matches!(told, Err(Error::Detached { .. })),
                "{name}: {told:?}"
            );
        }
        pair.open_again();
    }
}

const CHANGES: [fn(u64) -> u64; 5] = [
    |_| 0,
    |word| word.wrapping_sub(1),
    |word| word.wrapping_sub(2),
    |word| word.wrapping_add(1),
    |word| word ^ 0x5eed_5eed_5eed_5eed,
];
