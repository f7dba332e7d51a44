//! Stop all writing after a failed sync, or when the shared page can't be trusted.

use std::sync::Arc;

use super::publication::{Publication, Unindexed};
use crate::coord::{LockGuard, SharedSession, WaitBudget};
use crate::error::{Error, Result};
use crate::live::LiveLog;
use crate::log::{CutPoint, PoisonMarker};
use crate::mutex::Mutex;
use crate::options::ReadMode;

/// Stops the writing of this session, or of all sessions.
#[derive(Debug)]
pub(super) struct Poison {
    log: Arc<LiveLog>,
    publication: Arc<Publication>,
    /// Whether this session must no longer write a poison marker. Locked while a marker is written.
    no_marker: Mutex<bool>,
}

impl Poison {
    pub(super) fn new(log: Arc<LiveLog>, publication: Arc<Publication>) -> Self {
        Self {
            log,
            publication,
            no_marker: Mutex::new(false),
        }
    }

    /// Stop all writing if `outcome` is the error of a page that can't be trusted, or of a lock
    /// file that was deleted or replaced. The page is invalidated, so that the other sessions stop
    /// too.
    pub(super) fn stop_if_detached<T>(&self, outcome: Result<T>) -> Result<T> {
        if let Err(lost @ Error::Detached { .. }) = &outcome {
            let is_first = self.stop(lost.clone());
            if is_first && let Some(session) = self.log.coord.session() {
                session.page.invalidate();
            }
        }
        outcome
    }

    /// Stop all writing of this session. Return `false` if the session had stopped before.
    pub(super) fn stop(&self, reason: Error) -> bool {
        self.publication.stop(reason).is_some()
    }

    /// Stop all writing in every session until the store is reopened, and write a poison marker for
    /// the next recovery.
    pub(super) fn poison(&self, reason: String) {
        self.poison_with(reason, false);
    }

    /// Like [`Poison::poison`], for the thread that leads a sync. In a shared store that thread
    /// already holds the sync lock.
    pub(super) fn poison_leading(&self, reason: String) {
        self.poison_with(reason, true);
    }

    fn poison_with(&self, reason: String, leads: bool) {
        let no_marker = self.no_marker.lock();
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
                // The store may have become shared a moment ago. The page then still records an
                // earlier durable end.
                Some((cut, lead)) if cut.address < durable.address => (durable, lead),
                Some(agreed) => agreed,
            },
        };
        if !*no_marker {
            self.place_marker(durable, reason);
        }
    }

    /// Stop all writing in every session. Return the durable end of the log, and the sync lock
    /// unless the caller already holds it. The lock prevents other sessions from writing a
    /// different marker. Return `None` if the lock can't be acquired or the page's record of the
    /// durable end is damaged.
    fn poison_all(
        &self,
        session: &SharedSession,
        leads: bool,
    ) -> Option<(CutPoint, Option<LockGuard>)> {
        session.page.poison();
        session.page.notify();
        // Wait for the sync lock, because its holder may be about to publish a later durable end. A
        // marker with the earlier end would cut off frames that were acknowledged.
        let guard = if leads {
            None
        } else {
            session
                .locks
                .sync
                .acquire_by(self.log.coord.deadline(WaitBudget::Full))
                .ok()?
        };
        if !leads && guard.is_none() {
            return None;
        }
        let durable = session.page.durable()?;
        let cut = CutPoint {
            address: durable.end,
            chain: durable.chain,
        };
        Some((cut, guard))
    }

    fn place_marker(&self, durable: CutPoint, reason: String) {
        let segments = &self.log.segments;
        let marker = PoisonMarker {
            store: segments.identity.uuid,
            durable,
            reason,
        };
        // Ignore a failure: the disk that failed to sync may also fail to store the marker. Without
        // a marker, recovery works as after a crash: it keeps every frame that it can read and
        // writes the same bytes again.
        let _best_effort = marker.place(&segments.layout);
    }

    /// Wait until no marker is being written, and prevent this session from writing one later.
    /// Another session may open the directory next, and a late marker would cut off the commits of
    /// that session.
    pub(super) fn end(&self) {
        *self.no_marker.lock() = true;
    }

    /// Make visible the frames that other sessions have made durable. A page that contradicts the
    /// log stops this session. A frame that can't be indexed poisons the store.
    pub(super) fn catch_up(&self, session: &SharedSession, mode: ReadMode) -> Result<()> {
        let caught_up = self.publication.catch_up(session, mode);
        self.poison_if_unindexed(self.stop_if_detached(caught_up)?);
        Ok(())
    }

    /// Poison the store if a durable frame could not be indexed.
    pub(super) fn poison_if_unindexed(&self, outcome: std::result::Result<(), Unindexed>) {
        if let Err(Unindexed(reason)) = outcome {
            self.poison(reason);
        }
    }

    /// Return an error, and stop this session, if the page can't be trusted or another session has
    /// poisoned the store.
    pub(super) fn check_page(&self, session: &SharedSession) -> Result<()> {
        self.stop_if_detached(self.log.coord.check_page(session))?;
        if session.page.is_poisoned() {
            self.stop(Error::Poisoned {
                reason: "a sync by another process failed".to_owned(),
            });
        }
        self.log.health()
    }

    /// Poison the store if a rename or the sync of a directory has failed. After a loss of power,
    /// files of that directory may be missing.
    pub(super) fn poison_if_unsure(&self, error: &Error) {
        if self.log.segments.layout.is_unsure() {
            self.poison(error.to_string());
        }
    }
}
