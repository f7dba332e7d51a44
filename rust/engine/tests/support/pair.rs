//! Two sessions of one store on the operating system's file system, and their shared page.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use eventbraid_engine::vfs::os::OsVfs;
use eventbraid_engine::vfs::{OpenMode, SharedPage, Vfs};
use eventbraid_engine::{Error, LogQuery, Mode, Options, Store};

use super::hook::LIMIT;
use super::{append, bodies, threaded};

fn options() -> Options {
    let mut options = threaded();
    options.mode = Mode::Shared;
    options.lock_timeout = Duration::from_millis(100);
    options
}

pub(crate) fn open(root: &Path) -> Result<Store, Error> {
    Store::open(Arc::new(OsVfs::new()), root, options())
}

/// Open a session. On a busy machine the other session may answer the join request after the short
/// lock timeout, so try again if the store is busy.
fn open_with_retries(root: &Path) -> Store {
    let begin = Instant::now();
    loop {
        match open(root) {
            Err(Error::StoreBusy { .. }) if begin.elapsed() < LIMIT => {}
            opened => return opened.unwrap(),
        }
    }
}

/// Two sessions of a store: `behind` has not read every commit of `ahead`.
pub(crate) struct Pair {
    pub(crate) root: PathBuf,
    pub(crate) ahead: Store,
    pub(crate) behind: Store,
    pub(crate) page: Arc<dyn SharedPage>,
    pub(crate) acknowledged: Vec<String>,
}

impl Pair {
    pub(crate) fn open(root: &Path, acknowledged: Vec<String>) -> Self {
        let ahead = open_with_retries(root);
        let behind = open_with_retries(root);
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

    pub(crate) fn append(&mut self, behind: bool, name: String) -> Result<(), Error> {
        let store = if behind { &self.behind } else { &self.ahead };
        append(store, &[("a", name.as_bytes())])?;
        self.acknowledged.push(name);
        Ok(())
    }

    /// Assert that a read that succeeds returns every acknowledged event.
    pub(crate) fn check(&self, store: &Store) -> Result<(), Error> {
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
        assert_eq!(wanted, None, "an acknowledged event is not read");
        assert!(head? >= last, "the head is below an acknowledged position");
        Ok(())
    }

    /// Read and append in both sessions and in a third one. Return whether any call was refused.
    pub(crate) fn is_any_refused(&mut self, name: &str) -> bool {
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

    /// Close both sessions, with or without an error, and open two new ones.
    pub(crate) fn open_again(self) -> Self {
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
