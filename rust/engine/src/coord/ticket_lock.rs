//! The write lock in ticket order: sessions that wait for it acquire it in the order of their
//! arrival.
//!
//! The shared page has the next ticket, the ticket that is served, and the wait slots, on which the
//! waiting sessions sleep. A ticket's number selects its slot, so the release of the lock wakes
//! only the sessions whose turn may have come.

use std::time::{Duration, Instant};

use super::lock_timeout::RECHECK;
use super::page::{
    AT_NEXT_TICKET, AT_SERVING, AT_WAIT_SLOTS, CoordPage, WAIT_SLOT_WORDS, WAIT_SLOTS,
};
use super::process_locks::{Lock, LockGuard};
use crate::error::Result;

/// The write lock, acquired in ticket order.
#[derive(Debug)]
pub(crate) struct TicketGuard {
    page: CoordPage,
    ticket: u64,
    guard: Option<LockGuard>,
    /// Whether the lock was not free at the first attempt.
    pub(crate) waited: bool,
}

impl TicketGuard {
    /// Wait for the write lock. Return `None` if it is not free before the deadline.
    ///
    /// The served ticket can't be trusted: a process may die with its ticket, and any program may
    /// write to the page. So the tickets only order the waiting sessions, and the kernel's lock
    /// decides which session writes.
    pub(crate) fn acquire(
        lock: &Lock,
        page: &CoordPage,
        deadline: Instant,
    ) -> Result<Option<Self>> {
        let ticket = page.draw_ticket();
        let mut waited = false;
        let now = || lock.uptime_micros();
        let (mut last, mut since) = (page.serving(), now());
        loop {
            let seen = page.wait_slot_value(ticket);
            let serving = page.serving();
            if serving != last {
                (last, since) = (serving, now());
            }
            // The session with the served ticket may be dead, so other sessions wait for it at most
            // `RECHECK`.
            let is_overdue = || u128::from(now() - since) >= RECHECK.as_micros();
            let left = deadline.saturating_duration_since(Instant::now());
            // The lock is also tried at the deadline, because the session with an earlier ticket
            // may be dead.
            if (serving >= ticket || left.is_zero() || is_overdue())
                && let Some(guard) = lock.try_acquire()?
            {
                page.serve(ticket);
                return Ok(Some(Self {
                    page: page.clone(),
                    ticket,
                    guard: Some(guard),
                    waited,
                }));
            }
            waited = true;
            if left.is_zero() {
                // Release the ticket. If this ticket is being served, serve the next one, because
                // no other session would do so.
                if page.serving() == ticket {
                    page.serve(ticket.wrapping_add(1));
                }
                return Ok(None);
            }
            page.wait_for_turn(ticket, seen, RECHECK.min(left));
        }
    }
}

impl Drop for TicketGuard {
    fn drop(&mut self) {
        // The lock is released before the next ticket is served, so that the session with that
        // ticket finds the lock free.
        drop(self.guard.take());
        self.page.serve(self.ticket.wrapping_add(1));
    }
}

impl CoordPage {
    pub(crate) fn draw_ticket(&self) -> u64 {
        self.words.add(AT_NEXT_TICKET, 1)
    }

    pub(crate) fn serving(&self) -> u64 {
        self.words.load(AT_SERVING)
    }

    /// Serve a ticket and wake the session that has it. Do nothing if this ticket or a later one
    /// has been served already.
    pub(crate) fn serve(&self, ticket: u64) {
        if self.words.raise(AT_SERVING, ticket) >= ticket {
            return;
        }
        let wait_slot = wait_slot(ticket);
        self.words.add(wait_slot, 1);
        // The ordering is the same as in `CoordPage::notify`: the session is counted before it
        // reads the first word.
        if self.words.load(wait_slot + 1) > 0 {
            self.words.wake(wait_slot);
        }
    }

    /// Return the value for [`CoordPage::wait_for_turn`]. Read it before [`CoordPage::serving`]: if
    /// the slot changes between the two reads, `wait_for_turn` returns at once.
    pub(crate) fn wait_slot_value(&self, ticket: u64) -> u64 {
        self.words.load(wait_slot(ticket))
    }

    pub(crate) fn wait_for_turn(&self, ticket: u64, seen: u64, timeout: Duration) {
        let wait_slot = wait_slot(ticket);
        self.words.add(wait_slot + 1, 1);
        self.words.wait(wait_slot, seen, timeout);
        self.words.add(wait_slot + 1, u64::MAX);
    }
}

fn wait_slot(ticket: u64) -> usize {
    AT_WAIT_SLOTS
        + usize::try_from(ticket % WAIT_SLOTS as u64).unwrap_or_default() * WAIT_SLOT_WORDS
}
