//! Open a store that other sessions have open.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Beginning, LockedStore, OpenLog, View, random_word};
use crate::commit::Tail;
use crate::coord::{Coord, CoordPage, Locks, SessionSlot, SharedSession};
use crate::error::{Error, Result};
use crate::log::{Manifest, Segment, SegmentLocks};
use crate::recovery::{self, Scan};

/// Maximum wait for a manifest that another session is replacing.
const REPLACED: Duration = Duration::from_secs(1);

impl LockedStore {
    /// Join the sessions of the store. Their log needs no recovery: it is read up to the durable
    /// end that the shared page records.
    pub(super) fn join(self, locks: Locks, page: CoordPage) -> Result<OpenLog> {
        let is_read_only = self.options.read_only;
        let live = locks.live.clone();
        let slot = SessionSlot::acquire(&self.layout, &page, is_read_only)?;
        let damaged = || Error::detached(&self.layout.page(), "its records are damaged");
        let durable = page.durable().ok_or_else(damaged)?;
        let (segments, manifest) = self.listed(durable.ordinal)?;
        let segment_locks = self.segment_locks(&segments, durable.ordinal)?;
        let mut scan = Scan::new(self.identity.seed(), self.identity.hasher());
        scan.run(&segments, durable.end)?;
        if scan.tail != durable.end && durable.next_position > 1 {
            return Err(scan.damage(&segments, durable.end));
        }
        if scan.chain != durable.chain || scan.next_position != durable.next_position {
            let reason = "its record of the durable end does not match the log";
            return Err(Error::detached(&self.layout.page(), reason));
        }
        let epoch = random_word(&*self.layout.vfs)?;
        let session = SharedSession { page, locks, slot };
        let coord = Coord::new(&self.layout, Some(session), true, self.options.lock_timeout);
        let coord = Arc::new(coord);
        let segments = self.segments(&coord, segment_locks, (segments, manifest));
        let tail = Tail {
            segment: segments.of_ordinal(durable.ordinal).ok_or(Error::Closed)?,
            address: durable.address,
            next_position: durable.next_position,
            chain: durable.chain,
        };
        if !is_read_only {
            tail.segment.activate()?;
        }
        let beginning = Beginning {
            index: scan.index,
            tail,
            durable,
            epoch: Some(epoch),
            live,
            view: is_read_only.then(View::default),
        };
        Ok(self.live_log(segments, coord, beginning))
    }

    /// Lock the segments that this session may append to.
    fn segment_locks(&self, segments: &[Arc<Segment>], first: u64) -> Result<SegmentLocks> {
        if self.options.read_only {
            return Ok(SegmentLocks::none(&self.layout));
        }
        let segment_locks = SegmentLocks::joined(&self.layout)?;
        let writable = segments.iter().filter(|s| s.entry.ordinal >= first);
        for segment in writable {
            segment_locks.add(segment.entry.ordinal, &segment.path)?;
        }
        Ok(segment_locks)
    }

    /// Return the segments up to the one that the page names. CURRENT may name a manifest that
    /// another session is replacing at this moment, so it is read again until it lists that
    /// segment.
    fn listed(&self, ordinal: u64) -> Result<(Vec<Arc<Segment>>, Manifest)> {
        let is_writable = !self.options.read_only;
        let deadline = Instant::now() + REPLACED;
        loop {
            let (segments, manifest, missing) =
                recovery::view(&self.layout, &self.identity, is_writable)?;
            if manifest.generation > 0 && segments.iter().any(|s| s.entry.ordinal == ordinal) {
                return Ok((segments, manifest));
            }
            if Instant::now() >= deadline {
                let reason = "it does not list the segments of the log";
                let unlisted = Error::corrupt(&self.layout.current(), 0, reason);
                return Err(missing.unwrap_or(unlisted));
            }
            self.layout.vfs.pause(Duration::from_millis(1));
        }
    }
}
