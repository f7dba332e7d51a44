//! Reservations of streams, and the appends that reservations defer.

use std::sync::Arc;
use std::time::Duration;

use super::background_tasks::BackgroundTasks;
use super::queue::AppendQueue;
use crate::coord::{LONGEST_RESERVATION, Reserved};
use crate::error::{Error, Result};
use crate::live::LiveLog;

/// Reserves streams, and queues deferred appends again when a reservation ends.
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

    /// Reserve streams for at most `time`. During that time, the appends of other writers to these
    /// streams wait. Return the id of the reservation, or `None` if another reservation is in
    /// force.
    pub(super) fn reserve(
        &self,
        streams: impl Iterator<Item = u128>,
        time: Duration,
    ) -> Result<Option<u64>> {
        let layout = &self.log.segments.layout;
        let mut bytes = [0; 8];
        let filled = layout.vfs.random(&mut bytes);
        filled.map_err(|e| Error::io(&layout.root, "get random bytes for", &e))?;
        let id = u64::from_le_bytes(bytes).max(1);
        let now = layout.vfs.uptime_micros();
        let time = time.min(LONGEST_RESERVATION);
        let until = now.saturating_add(u64::try_from(time.as_micros()).unwrap_or_default());
        let coord = &self.log.coord;
        let session = coord.session().map_or(0, |session| session.slot.number());
        let new = Reserved::new(id, session, until, streams);
        Ok(coord.reserve(layout, new, now).then_some(id))
    }

    /// Return the reservation that appends have to respect, if there is one. Ignore a reservation
    /// if the session has no background thread, because no thread would queue the deferred appends
    /// again. Ignore it also after the store has begun to close.
    pub(super) fn in_force(&self) -> Option<Reserved> {
        let reserved = self.log.coord.reserved()?;
        let now = self.log.segments.layout.vfs.uptime_micros();
        let is_respected = reserved.is_in_force(now) && self.tasks.has_threads();
        (is_respected && !self.queue.is_closed()).then_some(reserved)
    }

    /// Queue the deferred appends again if their reservation has ended or the holder of the
    /// reservation has died. In the second case, end the reservation.
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
