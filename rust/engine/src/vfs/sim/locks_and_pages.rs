//! Simulated locks and shared pages.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::faults::Call;
use super::inode::Inode;
use super::lock_holders::Lockable;
use super::world::{HeldDirectory, World};
use crate::vfs::{Hold, LockFile, PAGE_WORDS, SharedPage};

/// The number of the only file system of a simulated machine.
const DEVICE: u64 = 1;

/// A file or directory that was opened to be locked.
#[derive(Debug)]
pub(super) struct SimLockFile {
    pub(super) world: Arc<World>,
    pub(super) path: String,
    pub(super) opened: Opened,
    pub(super) holder: u64,
}

/// The object that was opened.
#[derive(Debug)]
pub(super) enum Opened {
    Directory(HeldDirectory),
    File(u64),
}

impl SimLockFile {
    fn lockable(&self) -> Lockable {
        match &self.opened {
            Opened::Directory(held) => Lockable::Directory(held.path()),
            Opened::File(id) => Lockable::File(*id),
        }
    }
}

impl LockFile for SimLockFile {
    fn try_lock(&self, hold: Hold) -> io::Result<bool> {
        let (mut state, outcome) = self
            .world
            .begin(Call::Lock, &self.path, format_args!(""), 0);
        outcome.error.map_or(Ok(()), Err)?;
        let holders = state.holders.entry(self.lockable()).or_default();
        Ok(holders.try_acquire(self.holder, hold))
    }

    fn unlock(&self) -> io::Result<()> {
        let mut state = self.world.state.lock();
        if let Some(holders) = state.holders.get_mut(&self.lockable()) {
            holders.release(self.holder);
        }
        Ok(())
    }

    fn is_in_place(&self) -> io::Result<bool> {
        let state = self.world.state.lock();
        Ok(match &self.opened {
            Opened::Directory(held) => held.path() == self.path,
            Opened::File(id) => {
                let file = state.tree.file(&self.path);
                file.is_ok_and(|inode| inode.id == *id)
            }
        })
    }

    fn number(&self) -> io::Result<u64> {
        match self.opened {
            Opened::Directory(_) => Err(io::ErrorKind::IsADirectory.into()),
            Opened::File(id) => Ok(id),
        }
    }
}

impl Drop for SimLockFile {
    fn drop(&mut self) {
        let _freed = self.unlock();
    }
}

/// A shared page that a process has mapped.
#[derive(Debug)]
pub(super) struct SimPage {
    pub(super) world: Arc<World>,
    pub(super) path: String,
    pub(super) inode: Arc<Inode>,
}

impl SimPage {
    /// Set a word to the result of `change`, if it returns one. Return the previous value. After a
    /// simulated crash nothing is changed: the process is dead.
    fn change(&self, word: usize, change: impl FnOnce(u64) -> Option<u64>) -> u64 {
        if word >= PAGE_WORDS {
            return 0;
        }
        if !self.world.tracked {
            return self.inode.change_word(word, change);
        }
        let state = self.world.state.lock();
        let is_dead = state.script.crashed();
        self.inode
            .change_word(word, |was| change(was).filter(|_| !is_dead))
    }
}

impl SharedPage for SimPage {
    fn load(&self, word: usize) -> u64 {
        if word >= PAGE_WORDS {
            return 0;
        }
        self.inode.word(word)
    }

    fn store(&self, word: usize, value: u64) {
        self.change(word, |_| Some(value));
    }

    fn add(&self, word: usize, n: u64) -> u64 {
        self.change(word, |was| Some(was.wrapping_add(n)))
    }

    fn raise(&self, word: usize, value: u64) -> u64 {
        self.change(word, |was| Some(value.max(was)))
    }

    fn exchange(&self, word: usize, current: u64, value: u64) -> bool {
        word < PAGE_WORDS && self.change(word, |was| (was == current).then_some(value)) == current
    }

    fn wait(&self, word: usize, seen: u64, timeout: Duration) {
        let waiters = self.inode.waiters();
        let mut before_sleep = waiters.before_sleep.lock();
        let has_changed = (self.load(word) ^ seen) & u64::from(u32::MAX) != 0;
        if word < PAGE_WORDS && !has_changed {
            waiters.woken.wait_for(&mut before_sleep, timeout);
        }
    }

    fn wake(&self, _word: usize) {
        let waiters = self.inode.waiters();
        let _no_thread_is_between = waiters.before_sleep.lock();
        waiters.woken.notify_all();
    }

    fn is_in_place(&self) -> io::Result<bool> {
        let state = self.world.state.lock();
        let file = state.tree.file(&self.path);
        Ok(file.is_ok_and(|inode| inode.id == self.inode.id))
    }

    fn number(&self) -> io::Result<u64> {
        Ok(self.inode.id)
    }

    fn device(&self) -> io::Result<u64> {
        Ok(DEVICE)
    }
}
