//! Which simulated sessions hold a lock.

use std::collections::BTreeSet;

use crate::vfs::Hold;

/// What a lock belongs to: a directory, or a file whatever its name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Lockable {
    Directory(String),
    File(u64),
}

/// The sessions that hold a lock.
#[derive(Debug, Default)]
pub(super) struct Holders {
    alone: Option<u64>,
    shared: BTreeSet<u64>,
}

impl Holders {
    pub(super) fn take(&mut self, opening: u64, hold: Hold) -> bool {
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

    pub(super) fn free(&mut self, opening: u64) {
        self.alone.take_if(|holder| *holder == opening);
        self.shared.remove(&opening);
    }
}
