//! The holders of a simulated lock.

use std::collections::BTreeSet;

use crate::vfs::Hold;

/// The object that a lock protects: a directory, or a file independent of its name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Lockable {
    Directory(String),
    File(u64),
}

/// The numbers of the lock files that hold one lock.
#[derive(Debug, Default)]
pub(super) struct Holders {
    exclusive: Option<u64>,
    shared: BTreeSet<u64>,
}

impl Holders {
    /// Acquire the lock if it is free. Like `flock`, first release the lock if this holder
    /// already has it.
    pub(super) fn try_acquire(&mut self, holder: u64, hold: Hold) -> bool {
        self.release(holder);
        let is_free = match hold {
            Hold::Exclusive => self.exclusive.is_none() && self.shared.is_empty(),
            Hold::Shared => self.exclusive.is_none(),
        };
        match hold {
            _ if !is_free => {}
            Hold::Exclusive => self.exclusive = Some(holder),
            Hold::Shared => {
                self.shared.insert(holder);
            }
        }
        is_free
    }

    pub(super) fn release(&mut self, holder: u64) {
        self.exclusive.take_if(|current| *current == holder);
        self.shared.remove(&holder);
    }
}
