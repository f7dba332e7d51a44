//! Open a store that no other session has open: recover its log first.

use std::sync::Arc;

use super::{Beginning, LockedStore, OpenLog, durable_point, random_word};
use crate::commit::Tail;
use crate::coord::{
    Coord, CoordPage, Lock, LockGuard, LockNumbers, Locks, Phase, SessionSlot, SharedSession,
};
use crate::error::{Error, Result};
use crate::log::{PoisonMarker, Segments};
use crate::recovery::{self, Recovered};
use crate::vfs::{Hold, OpenMode};

impl LockedStore {
    /// Open the log so that other sessions can join later. None of them acquires `boot` before the
    /// shared page is complete, because this session holds it until then.
    pub(super) fn first(self, locks: Locks, boot: LockGuard) -> Result<OpenLog> {
        let live = locks.live.clone();
        let session = match self.create_page(locks.numbers, live.number().unwrap_or(0)) {
            Ok(page) => {
                let slot = SessionSlot::acquire(&self.layout, &page, false)?;
                Some(SharedSession { page, locks, slot })
            }
            // On a full disk the store can still be read, by one process.
            Err(Error::StorageFull { .. }) => None,
            Err(e) => return Err(e),
        };
        let opened = self.recover(live, session)?;
        drop(boot);
        Ok(opened)
    }

    fn create_page(&self, locks: LockNumbers, root: u64) -> Result<CoordPage> {
        let path = self.layout.page();
        self.layout.remove_if_there(&path)?;
        let words = self.layout.vfs.open_page(&path, OpenMode::CreateNew);
        let words = words.map_err(|e| Error::io(&path, "create", &e))?;
        let session = random_word(&*self.layout.vfs)?;
        let kernel = self.layout.vfs.kernel();
        let page = CoordPage::create(words, session, self.identity.uuid, kernel, locks, root);
        page.map_err(|e| Error::io(&path, "inspect", &e))
    }

    /// Recover the log and open it. The caller holds `live` exclusively.
    pub(super) fn recover(self, live: Lock, session: Option<SharedSession>) -> Result<OpenLog> {
        let recovered = recovery::recover(&self.layout, &self.identity)?;
        // Without a thread that answers join requests, the store is shared from the beginning.
        let is_shared = session.is_some() && !self.options.background;
        let coord = Arc::new(Coord::new(
            &self.layout,
            session,
            is_shared,
            self.options.lock_timeout,
        ));
        let Recovered {
            segment_locks,
            segments,
            manifest,
            listed,
            poisoned,
            cut,
            index,
            tail: end,
            next_position,
            chain,
            last_commit_time,
        } = recovered;
        let epoch = random_word(&*self.layout.vfs)?;
        let segments = self.segments(&coord, segment_locks, (segments, manifest));
        let mut address = end;
        if let Some(cut) = cut {
            address = segments.create_continuation(cut)?.first_frame();
        } else if segments.all().is_empty() {
            segments.create_first()?;
        } else {
            segments.settle(listed)?;
        }
        if poisoned {
            // Remove the poison marker now that the log has a new end. With the marker, the next
            // recovery would cut off what this session writes.
            PoisonMarker::remove(&segments.layout)?;
        }
        let tail = Tail {
            segment: segments.of_tail(address).ok_or(Error::Closed)?,
            address,
            next_position,
            chain,
        };
        tail.segment.activate()?;
        segments.release_before(&tail.segment);
        let durable = durable_point(&tail, address, last_commit_time);
        if let Some(session) = coord.session() {
            session.page.publish_tail(&durable);
            session.page.publish_durable(&durable);
            session.page.set_generation(segments.generation());
        }
        segments.share()?;
        if let Some(session) = coord.session() {
            set_phase(&segments, session, is_shared)?;
        }
        let beginning = Beginning {
            index,
            tail,
            durable,
            epoch: Some(epoch),
            live,
            view: None,
        };
        Ok(self.live_log(segments, coord, beginning))
    }
}

/// Publish that the page is complete, so that other sessions can join.
fn set_phase(segments: &Segments, session: &SharedSession, is_shared: bool) -> Result<()> {
    // The conversion of the lock from exclusive to shared is not atomic: a session that opens the
    // store exclusively may acquire it between the two states.
    if is_shared && !session.locks.live.try_lock(Hold::Shared)? {
        return Err(Error::StoreBusy {
            path: segments.layout.root.clone(),
            holder: "another process, which has opened it exclusively".to_owned(),
        });
    }
    session.page.set_phase(if is_shared {
        Phase::Shared
    } else {
        Phase::Sole
    });
    Ok(())
}
