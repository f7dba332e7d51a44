//! The read-only open, which changes nothing on disk.

use std::sync::Arc;

use super::{Beginning, LockedStore, OpenLog, View, durable_point};
use crate::commit::Tail;
use crate::coord::{Coord, Lock};
use crate::error::{Error, Result};
use crate::log::SegmentLocks;
use crate::options::Mode;
use crate::recovery::{self, LogSnapshot};
use crate::vfs::Hold;

/// Maximum number of reads of a log that looks damaged while other sessions may write to it.
const READS: u32 = 8;

impl LockedStore {
    /// Open a snapshot of the log. The snapshot never changes, so a writer that opens the store
    /// meanwhile does not have to wait for the end of this session.
    pub(super) fn read_only(self, live: Lock) -> Result<OpenLog> {
        let snapshot = match self.options.mode {
            Mode::Exclusive => recovery::snapshot(&self.layout, &self.identity)?,
            Mode::Shared => self.snapshot_beside_writers(&live)?,
        };
        let LogSnapshot {
            segments,
            manifest,
            index,
            tail,
            next_position,
            chain,
            unproven,
            damage,
        } = snapshot;
        let coord = Arc::new(Coord::alone(&self.layout));
        let segment_locks = SegmentLocks::none(&self.layout);
        let segments = self.segments(&coord, segment_locks, (segments, manifest));
        let tail = Tail {
            segment: segments.of_tail(tail).ok_or(Error::Closed)?,
            address: tail,
            next_position,
            chain,
        };
        let beginning = Beginning {
            index,
            durable: durable_point(&tail, tail.address, 0),
            tail,
            epoch: None,
            live,
            view: Some(View { unproven, damage }),
        };
        Ok(self.live_log(segments, coord, beginning))
    }

    /// Read the log without blocking writers. Nothing below the proven durable end ever changes,
    /// but the read may see the middle of another session's write. Apparent damage therefore only
    /// counts if no writer has the store open, or if a second read finds the same.
    fn snapshot_beside_writers(&self, live: &Lock) -> Result<LogSnapshot> {
        live.release();
        let read = || recovery::snapshot(&self.layout, &self.identity);
        let mut snapshot = read();
        for _ in 0..READS {
            let Some(before) = damage_of(&snapshot) else {
                break;
            };
            let is_alone = live.try_lock(Hold::Exclusive)?;
            snapshot = read();
            live.release();
            if is_alone || damage_of(&snapshot) == Some(before) {
                break;
            }
        }
        snapshot
    }
}

/// Return a description of the damage or failure that a read of the log found.
fn damage_of(snapshot: &Result<LogSnapshot>) -> Option<String> {
    match snapshot {
        Ok(snapshot) => snapshot.damage.as_ref().map(Error::to_string),
        Err(e) => Some(e.to_string()),
    }
}
