//! The end of all writing: after a failed sync, or when the shared page is lost.

use std::sync::Arc;

use super::publication::{Publication, Unindexed};
use crate::coord::{LockGuard, SharedSession};
use crate::error::{Error, Result};
use crate::live::LiveLog;
use crate::lock::Mutex;
use crate::log::{Marker, Seal};
use crate::options::ReadMode;

/// Stops a session, or all of them.
#[derive(Debug)]
pub(super) struct Poison {
    log: Arc<LiveLog>,
    publication: Arc<Publication>,
    /// Held while the marker of a poisoned store is written; true once none may be.
    marking: Mutex<bool>,
}

impl Poison {
    pub(super) fn new(log: Arc<LiveLog>, publication: Arc<Publication>) -> Self {
        Self {
            log,
            publication,
            marking: Mutex::new(false),
        }
    }

    /// Stops all writing where an outcome says that the means of coordination are lost.
    pub(super) fn stopping<T>(&self, outcome: Result<T>) -> Result<T> {
        if let Err(lost @ Error::Detached { .. }) = &outcome {
            let is_first = self.stop(lost.clone());
            if is_first && let Some(session) = self.log.coord.session() {
                session.page.condemn();
            }
        }
        outcome
    }

    /// Stops all writing of this session; returns whether nothing had stopped it before.
    pub(super) fn stop(&self, reason: Error) -> bool {
        self.publication.stop(reason).is_some()
    }

    /// Stops all writing for good, in every session, and leaves a marker for the next recovery.
    pub(super) fn poison(&self, reason: String) {
        self.poison_with(reason, false);
    }

    /// As [`Poison::poison`], for the thread that leads the syncs: it holds the sync lock if the
    /// store is shared.
    pub(super) fn poison_leading(&self, reason: String) {
        self.poison_with(reason, true);
    }

    fn poison_with(&self, reason: String, leads: bool) {
        let marking = self.marking.lock();
        let poisoned = Error::Poisoned {
            reason: reason.clone(),
        };
        let Some(durable) = self.publication.stop(poisoned) else {
            return;
        };
        let (durable, _lead) = match self.log.coord.shared() {
            None => (durable, None),
            Some(session) => match self.poison_all(session, leads) {
                None => return,
                // The page has an earlier end where the store was shared in this moment.
                Some((seal, lead)) if seal.address < durable.address => (durable, lead),
                Some(agreed) => agreed,
            },
        };
        if !*marking {
            self.leave_marker(durable, reason);
        }
    }

    /// Stops all writing in every session. Returns how far the log is durable, and the sync lock
    /// unless the caller holds it: other sessions may leave a marker, too.
    fn poison_all(
        &self,
        session: &SharedSession,
        leads: bool,
    ) -> Option<(Seal, Option<LockGuard>)> {
        session.page.poison();
        session.page.notify();
        // The holder of the sync lock may be about to record that more is durable.
        let held = if leads {
            None
        } else {
            session.locks.sync.hold_by(self.log.coord.deadline()).ok()?
        };
        if !leads && held.is_none() {
            return None;
        }
        let durable = session.page.durable()?;
        let seal = Seal {
            address: durable.end,
            chain: durable.chain,
        };
        Some((seal, held))
    }

    fn leave_marker(&self, durable: Seal, reason: String) {
        let segments = &self.log.segments;
        let marker = Marker {
            store: segments.identity.uuid,
            durable,
            reason,
        };
        // The disk that failed may well refuse this too. Without the marker recovery does as
        // after a crash: it keeps what it reads and writes the same bytes again.
        let _best_mode = marker.place(&segments.layout);
    }

    /// Returns once no marker is being written, and none will be: the directory is about to
    /// belong to another session, whose commits a late marker would cut off.
    pub(super) fn end(&self) {
        *self.marking.lock() = true;
    }

    /// Makes visible what other sessions have made durable. A page that contradicts the log
    /// stops this session; a frame that the index can't take poisons the store.
    pub(super) fn catch_up(&self, session: &SharedSession, mode: ReadMode) -> Result<()> {
        let caught_up = self.publication.catch_up(session, mode);
        self.indexed(self.stopping(caught_up)?);
        Ok(())
    }

    /// Poisons the store if a durable frame could not be indexed.
    pub(super) fn indexed(&self, outcome: std::result::Result<(), Unindexed>) {
        if let Err(Unindexed(reason)) = outcome {
            self.poison(reason);
        }
    }

    /// Refuses if another session has poisoned the store, and stops this one then.
    pub(super) fn check_page(&self, session: &SharedSession) -> Result<()> {
        self.stopping(self.log.coord.check_page(session))?;
        if session.page.is_poisoned() {
            self.stop(Error::Poisoned {
                reason: "another process of the store could not sync what it had written"
                    .to_owned(),
            });
        }
        self.log.health()
    }

    /// Poisons the store if the sync of a directory has failed: what it names may be gone after
    /// a loss of power.
    pub(super) fn poison_if_unsure(&self, error: &Error) {
        if self.log.segments.layout.is_unsure() {
            self.poison(error.to_string());
        }
    }
}
