//! The state behind all handles of one simulated file system.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::{Arc, Weak};

use crate::lock::{Mutex, MutexGuard};

use super::faults::{Call, Script, Verdict};
use super::inode::{BLOCK, Inode};
use super::lock_holders::{Holders, Lockable};
use super::name_tree::{Node, Tree, moved};
use super::random::Random;

/// Some day in 2023, in microseconds.
const FIRST_INSTANT: u64 = 1_700_000_000_000_000;

/// A directory that is open, whatever its path is by now.
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
    /// In a tracked world each call holds it from beginning to end.
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
            openings: 0,
            random,
            clock: FIRST_INSTANT,
            set_by: 0,
            files_made: 0,
            cold: false,
            capacity: None,
        };
        Self {
            tracked,
            state: Mutex::new(state),
        }
    }

    /// The world after a crash: what is in `tree`, and nothing that was held or planned.
    pub(super) fn successor(&self, state: &State, tree: Tree) -> Self {
        let mut successor = Self::new(self.tracked, state.random.clone().next());
        let next = successor.state.get_mut();
        next.tree = tree;
        next.clock = state.clock;
        next.set_by = state.set_by;
        next.files_made = state.files_made;
        next.capacity = state.capacity;
        successor
    }

    /// Decides what becomes of a call on `path` that is about to move `len` bytes.
    pub(super) fn judge(
        &self,
        call: Call,
        path: &str,
        detail: fmt::Arguments<'_>,
        len: usize,
    ) -> (MutexGuard<'_, State>, Verdict) {
        let mut state = self.state.lock();
        if !self.tracked {
            return (state, Verdict::go(len));
        }
        let verdict = state.script.judge(call, path, detail, len);
        (state, verdict)
    }

    /// Judges a call that is the second half of another one, in one go with the first.
    pub(super) fn go_on(&self, state: &mut State, call: Call, path: &str) -> io::Result<()> {
        if !self.tracked {
            return Ok(());
        }
        let verdict = state.script.judge(call, path, format_args!(""), 0);
        verdict.error.map_or(Ok(()), Err)
    }
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) tree: Tree,
    pub(super) script: Script,
    /// Who holds which lock.
    pub(super) holders: BTreeMap<Lockable, Holders>,
    /// The directories that programs have open.
    held: Vec<Weak<Mutex<String>>>,
    /// How many files were opened to be locked.
    pub(super) openings: u64,
    pub(super) random: Random,
    pub(super) clock: u64,
    /// By how much the clock was set, all in all.
    pub(super) set_by: u64,
    pub(super) files_made: u64,
    pub(super) cold: bool,
    /// Bytes that the disk has room for; `None` for as many as are asked for.
    pub(super) capacity: Option<u64>,
}

impl State {
    /// Makes an empty file.
    pub(super) fn create(&mut self, path: &str) -> io::Result<Arc<Inode>> {
        self.files_made += 1;
        let inode = Arc::new(Inode::new(self.files_made));
        self.tree.create(path, Node::File(Arc::clone(&inode)))?;
        Ok(inode)
    }

    /// Opens a directory.
    pub(super) fn hold(&mut self, path: &str) -> io::Result<HeldDirectory> {
        self.tree.require_dir(path)?;
        let held = Arc::new(Mutex::new(path.to_owned()));
        self.held.retain(|held| held.strong_count() > 0);
        self.held.push(Arc::downgrade(&held));
        Ok(HeldDirectory(held))
    }

    /// Gives a directory another path, and all that is in it.
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

    /// Blocks that can still be allocated.
    pub(super) fn free_blocks(&self) -> u64 {
        self.capacity.map_or(u64::MAX, |capacity| {
            (capacity / BLOCK).saturating_sub(self.tree.blocks())
        })
    }
}
