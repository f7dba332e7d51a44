//! What simulated processes share: locks, and words in memory.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::faults::Call;
use super::world::World;
use crate::lock::{Condvar, Mutex};
use crate::vfs::{Hold, LockFile, PAGE_WORDS, SharedPage};

/// What a lock belongs to: a directory, or a file whatever its name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Lockable {
    Directory(String),
    File(u64),
}

/// The openings that hold a lock.
#[derive(Debug, Default)]
pub(super) struct Holders {
    alone: Option<u64>,
    shared: BTreeSet<u64>,
}

impl Holders {
    fn take(&mut self, opening: u64, hold: Hold) -> bool {
        self.free(opening);
        let is_free = match hold {
            Hold::Exclusive => self.alone.is_none() && self.shared.is_empty(),
            Hold::Shared => self.alone.is_none(),
        };
        match hold {
            _ if !is_free => {}
            Hold::Exclusive => self.alone = Some(opening),
            Hold::Shared => {
                self.shared.insert(opening);
            }
        }
        is_free
    }

    fn free(&mut self, opening: u64) {
        self.alone.take_if(|holder| *holder == opening);
        self.shared.remove(&opening);
    }
}

/// A file or directory that was opened to be locked.
#[derive(Debug)]
pub(super) struct SimLockFile {
    pub(super) world: Arc<World>,
    pub(super) path: String,
    pub(super) lockable: Lockable,
    pub(super) opening: u64,
}

impl LockFile for SimLockFile {
    fn try_lock(&self, hold: Hold) -> io::Result<bool> {
        let (mut state, verdict) = self
            .world
            .judge(Call::Lock, &self.path, format_args!(""), 0);
        verdict.error.map_or(Ok(()), Err)?;
        let holders = state.holders.entry(self.lockable.clone()).or_default();
        Ok(holders.take(self.opening, hold))
    }

    fn unlock(&self) -> io::Result<()> {
        let mut state = self.world.state.lock();
        if let Some(holders) = state.holders.get_mut(&self.lockable) {
            holders.free(self.opening);
        }
        Ok(())
    }

    fn is_in_place(&self) -> io::Result<bool> {
        let state = self.world.state.lock();
        Ok(match &self.lockable {
            Lockable::Directory(path) => state.tree.require_dir(path).is_ok(),
            Lockable::File(id) => {
                let file = state.tree.file(&self.path);
                file.is_ok_and(|inode| inode.id == *id)
            }
        })
    }
}

impl Drop for SimLockFile {
    fn drop(&mut self) {
        let _freed = self.unlock();
    }
}

/// The words of a shared page.
pub(super) struct Words {
    words: Mutex<Vec<u64>>,
    woken: Condvar,
}

impl Default for Words {
    fn default() -> Self {
        Self {
            words: Mutex::new(vec![0; PAGE_WORDS]),
            woken: Condvar::new(),
        }
    }
}

impl fmt::Debug for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Words").finish_non_exhaustive()
    }
}

/// A shared page as one opening has it.
#[derive(Debug)]
pub(super) struct SimPage {
    pub(super) world: Arc<World>,
    pub(super) path: String,
    pub(super) inode: u64,
    pub(super) words: Arc<Words>,
}

impl SimPage {
    fn with<T: Default>(&self, word: usize, change: impl FnOnce(&mut u64) -> T) -> T {
        let mut words = self.words.words.lock();
        words.get_mut(word).map(change).unwrap_or_default()
    }
}

impl SharedPage for SimPage {
    fn load(&self, word: usize) -> u64 {
        self.with(word, |word| *word)
    }

    fn store(&self, word: usize, value: u64) {
        self.with(word, |word| *word = value);
    }

    fn add(&self, word: usize, n: u64) -> u64 {
        self.with(word, |word| std::mem::replace(word, word.wrapping_add(n)))
    }

    fn raise(&self, word: usize, value: u64) -> u64 {
        self.with(word, |word| std::mem::replace(word, value.max(*word)))
    }

    fn exchange(&self, word: usize, current: u64, value: u64) -> bool {
        self.with(word, |word| {
            let is_current = *word == current;
            if is_current {
                *word = value;
            }
            is_current
        })
    }

    fn wait(&self, word: usize, seen: u64, timeout: Duration) {
        let mut words = self.words.words.lock();
        if words.get(word).is_some_and(|now| *now == seen) {
            self.words.woken.wait_for(&mut words, timeout);
        }
    }

    fn wake(&self, _word: usize) {
        self.words.woken.notify_all();
    }

    fn is_in_place(&self) -> io::Result<bool> {
        let state = self.world.state.lock();
        let file = state.tree.file(&self.path);
        Ok(file.is_ok_and(|inode| inode.id == self.inode))
    }
}
