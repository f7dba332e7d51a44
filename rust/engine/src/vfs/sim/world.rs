//! The state of one simulated machine, shared by all handles of its file system.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::{Arc, Weak};

use crate::mutex::{Mutex, MutexGuard};

use super::faults::{Call, CallOutcome, Script};
use super::inode::{BLOCK, Inode};
use super::lock_holders::{Holders, Lockable};
use super::name_tree::{Node, Tree, moved};
use super::random::Random;

/// The first time of the simulated clock in microseconds: a day in 2023.
const FIRST_INSTANT: u64 = 1_700_000_000_000_000;

/// A directory that is held open. Its path may have changed since it was opened.
#[derive(Clone, Debug)]
pub(super) struct HeldDirectory(Arc<Mutex<String>>);

impl HeldDirectory {
    pub(super) fn path(&self) -> String {
        self.0.lock().clone()
    }
}

#[derive(Debug)]
pub(super) struct World {
    pub(super) tracked: bool,
    /// In a tracked world every call holds this lock from its beginning to its end, so that the
    /// order of calls is the order of steps and a power cut never falls into the middle of a call.
    pub(super) state: Mutex<State>,
}

impl World {
    pub(super) fn new(tracked: bool, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let state = State {
            tree: Tree::new(tracked),
            script: Script::new(Random::new(random.next())),
            holders: BTreeMap::new(),
            held: Vec::new(),
            lock_files: 0,
            random,
            clock: FIRST_INSTANT,
            set_by: 0,
            files_created: 0,
            cold: false,
            capacity: None,
        };
        Self {
            tracked,
            state: Mutex::new(state),
        }
    }

    /// The world after a crash: the files in `tree`, without locks, open directories or planned
    /// faults.
    pub(super) fn successor(&self, state: &State, tree: Tree) -> Self {
        let mut successor = Self::new(self.tracked, state.random.clone().next());
        let next = successor.state.get_mut();
        next.tree = tree;
        next.clock = state.clock;
        next.set_by = state.set_by;
        next.files_created = state.files_created;
        next.capacity = state.capacity;
        successor
    }

    /// Begin a call on `path` that is about to transfer `len` bytes: lock the state and decide the
    /// outcome.
    pub(super) fn begin(
        &self,
        call: Call,
        path: &str,
        detail: fmt::Arguments<'_>,
        len: usize,
    ) -> (MutexGuard<'_, State>, CallOutcome) {
        let mut state = self.state.lock();
        if !self.tracked {
            return (state, CallOutcome::success(len));
        }
        let outcome = state.script.decide(call, path, detail, len);
        (state, outcome)
    }

    /// Continue with a second call in the same step sequence, without releasing the state.
    pub(super) fn continue_with(
        &self,
        state: &mut State,
        call: Call,
        path: &str,
    ) -> io::Result<()> {
        if !self.tracked {
            return Ok(());
        }
        let outcome = state.script.decide(call, path, format_args!(""), 0);
        outcome.error.map_or(Ok(()), Err)
    }
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) tree: Tree,
    pub(super) script: Script,
    /// The holders of each lock.
    pub(super) holders: BTreeMap<Lockable, Holders>,
    /// The paths of the directories that programs hold open.
    held: Vec<Weak<Mutex<String>>>,
    /// The number of lock files that were opened so far. It numbers the holders of locks.
    pub(super) lock_files: u64,
    pub(super) random: Random,
    pub(super) clock: u64,
    /// The sum of all changes of the clock by `set_clock`.
    pub(super) set_by: u64,
    /// The number of files that were created; numbers the inodes.
    pub(super) files_created: u64,
    /// Whether reads that may not wait find nothing in the cache.
    pub(super) cold: bool,
    /// The capacity of the disk in bytes; `None` for no limit.
    pub(super) capacity: Option<u64>,
}

impl State {
    /// Create an empty file.
    pub(super) fn create(&mut self, path: &str) -> io::Result<Arc<Inode>> {
        self.files_created += 1;
        let inode = Arc::new(Inode::new(self.files_created));
        self.tree.create(path, Node::File(Arc::clone(&inode)))?;
        Ok(inode)
    }

    /// Open a directory.
    pub(super) fn hold(&mut self, path: &str) -> io::Result<HeldDirectory> {
        self.tree.require_dir(path)?;
        let held = Arc::new(Mutex::new(path.to_owned()));
        self.held.retain(|held| held.strong_count() > 0);
        self.held.push(Arc::downgrade(&held));
        Ok(HeldDirectory(held))
    }

    /// Move a directory with everything in it to another path.
    pub(super) fn move_directory(&mut self, from: &str, to: &str) -> io::Result<()> {
        self.tree.move_directory(from, to)?;
        let holders = std::mem::take(&mut self.holders);
        let moved_lockable = |lockable| match lockable {
            Lockable::Directory(path) => Lockable::Directory(moved(&path, from, to)),
            file @ Lockable::File(_) => file,
        };
        self.holders = holders
            .into_iter()
            .map(|(lockable, holders)| (moved_lockable(lockable), holders))
            .collect();
        for held in self.held.iter().filter_map(Weak::upgrade) {
            let mut path = held.lock();
            *path = moved(&path, from, to);
        }
        Ok(())
    }

    /// The number of blocks that can still be allocated.
    pub(super) fn free_blocks(&self) -> u64 {
        self.capacity.map_or(u64::MAX, |capacity| {
            (capacity / BLOCK).saturating_sub(self.tree.blocks())
        })
    }
}
