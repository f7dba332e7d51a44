//! Deliver new events: load them for the waiters that have a filter, and wake the waiters that are
//! due.

use super::live_log::LiveLog;
use crate::chunk::NewEvents;
use crate::index::Index as _;
use crate::options::ReadMode;

/// Maximum number of events that are scanned.
const MAX_EVENTS: u64 = 16 << 10;
/// Maximum number of bytes of log that are read for the scan.
const MAX_BYTES: u64 = 1 << 20;

impl LiveLog {
    /// Load the events between two positions. Return `None` if they are too many or the read fails;
    /// the next read of these events reports the error.
    pub(crate) fn load_new_events(
        &self,
        after: u64,
        head: u64,
        mode: ReadMode,
    ) -> Option<NewEvents> {
        if head.saturating_sub(after) > MAX_EVENTS {
            return None;
        }
        let mut events = NewEvents {
            after,
            head,
            chunks: Vec::new(),
        };
        if head <= after {
            return Some(events);
        }
        let (first, last) = {
            let index = self.index.read();
            if index.head() < head {
                return None;
            }
            let chunks = index.chunks();
            (chunks.of_position(after + 1)?, chunks.of_position(head)?)
        };
        let mut left = MAX_BYTES;
        for i in first..=last {
            let chunk = self.chunk(i)?;
            left = left.checked_sub(self.missing(chunk))?;
            events.chunks.push(self.load(chunk, mode).ok()?);
        }
        Some(events)
    }

    /// Wake the waiters that are due. The caller must hold no lock of the store. `mode` states
    /// whether this thread may wait for the disk.
    pub(crate) fn deliver(&self, mode: ReadMode) {
        self.watch
            .deliver(|after, head| self.load_new_events(after, head, mode));
    }
}
