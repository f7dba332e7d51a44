//! Reservations of streams, and the appends that they defer.

use std::sync::Arc;
use std::time::Duration;

use super::background::BackgroundTasks;
use super::queue::AppendQueue;
use crate::coord::{LONGEST_RESERVATION, Reserved};
use crate::error::{Error, Result};
use crate::live::LiveLog;

/// Reserves streams, and queues deferred appends when a reservation ends.
#[derive(Debug)]
pub(super) struct Reservations {
    log: Arc<LiveLog>,
    queue: Arc<AppendQueue>,
    tasks: Arc<BackgroundTasks>,
}

impl Reservations {
    pub(super) fn new(
        log: Arc<LiveLog>,
        queue: Arc<AppendQueue>,
        tasks: Arc<BackgroundTasks>,
    ) -> Self {
        Self { log, queue, tasks }
    }

    /// Reserves streams for at most `time`: other appends to them wait. Returns the id of the
    /// reservation; `None` if another one is in force.
    pub(super) fn reserve(
        &self,
        streams: impl Iterator<Item = u128>,
        time: Duration,
    ) -> Result<Option<u64>> {
        let layout = &self.log.segments.layout;
        let mut bytes = [0; 8];
        let drawn = layout.vfs.random(&mut bytes);
        drawn.map_err(|e| Error::io(&layout.root, "draw randomness for", &e))?;
        let id = u64::from_le_bytes(bytes).max(1);
        let now = layout.vfs.uptime_micros();
        let time = time.min(LONGEST_RESERVATION);
        let until = now.saturating_add(u64::try_from(time.as_micros()).unwrap_or_default());
        let coord = &self.log.coord;
        let member = coord.session().map_or(0, |session| session.slot.number());
        let new = Reserved::new(id, member, until, streams);
        Ok(coord.reserve(layout, new, now).then_some(id))
    }

    /// The reservation that appends have to respect, if one is in force. It counts only while the
    /// session has a thread that would later queue the deferred appends, and ends when the store
    /// is closed.
    pub(super) fn in_force(&self) -> Option<Reserved> {
        let reserved = self.log.coord.reserved()?;
        let now = self.log.segments.layout.vfs.uptime_micros();
        let counts = reserved.is_in_force(now) && self.tasks.has_threads();
        (counts && !self.queue.is_closed()).then_some(reserved)
    }

    /// Queues what was deferred, if the reservation that it waits for has ended.
    pub(super) fn restore_deferred(&self) {
        if !self.queue.has_deferred() {
            return;
        }
        let layout = &self.log.segments.layout;
        let now = layout.vfs.uptime_micros();
        let is_alive =
            |reserved: &Reserved| self.log.coord.is_session_alive(layout, reserved.session);
        if let Some(orphaned) = self.queue.restore(|| self.in_force(), now, is_alive) {
            self.log.coord.release(orphaned.id);
        }
    }
}
