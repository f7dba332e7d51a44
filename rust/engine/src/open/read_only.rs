//! The opening that changes nothing.

use std::sync::Arc;

use super::{Beginning, OpenLog, Opening, View, durable_point};
use crate::commit::Tail;
use crate::coord::{Coord, Lock};
use crate::error::{Error, Result};
use crate::log::Claims;
use crate::options::Mode;
use crate::recovery::{self, LogSnapshot};
use crate::vfs::Hold;

/// How often a log is read that looks damaged while other sessions may write to it.
const READS: u32 = 8;

impl Opening {
    /// Opens a snapshot of the log: it never changes, so that a writer that may open the store
    /// meanwhile need not wait for the end of this session.
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
        let claims = Claims::none(&self.layout);
        let segments = self.segments(&coord, claims, (segments, manifest));
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

    /// Reads the log without keeping writers waiting, which may take long: nothing below what
    /// is proven durable ever changes. A writer that opens the store meanwhile may be seen in
    /// the middle of a write, so apparent damage counts only if no writer has the store, or if
    /// a second read finds the same.
    fn snapshot_beside_writers(&self, live: &Lock) -> Result<LogSnapshot> {
        live.free();
        let read = || recovery::snapshot(&self.layout, &self.identity);
        let mut snapshot = read();
        for _ in 0..READS {
            let Some(before) = damage_of(&snapshot) else {
                break;
            };
            let is_alone = live.try_take(Hold::Exclusive)?;
            snapshot = read();
            live.free();
            if is_alone || damage_of(&snapshot) == Some(before) {
                break;
            }
        }
        snapshot
    }
}

/// The damage or failure that a read of the log found, in words.
fn damage_of(snapshot: &Result<LogSnapshot>) -> Option<String> {
    match snapshot {
        Ok(snapshot) => snapshot.damage.as_ref().map(Error::to_string),
        Err(e) => Some(e.to_string()),
    }
}
