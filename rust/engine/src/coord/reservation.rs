//! Reservations: for a short time, only one writer appends to certain streams.
//!
//! A writer that reads streams and then appends with expectations can lose to faster writers again
//! and again. While the writer holds a reservation, the appends of all other writers to the
//! reserved streams wait, in every process.
//!
//! Correctness depends on the expectations, not on reservations. A reservation may be lost at any
//! time, which costs one more conflict. It ends after at most 5 seconds. It also ends with the
//! process of its holder: the kernel then releases the lock of the holder's session, and the
//! waiting sessions check that lock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::page::{AT_RESERVED, CoordPage, MAX_RESERVED_STREAMS};
use crate::mutex::Mutex;

/// Maximum duration of a reservation, and so the maximum time for which it delays an append.
///
/// `Reservations::reserve` shortens a longer request without a report. So Python's
/// `LONGEST_SECONDS` (`store/_reservation.py`) has to be equal, because a command derives from it
/// when its reservation ends; a test compares the two. The executor computes the requested duration
/// (`RESERVATION_SECONDS` in `command/_execution.py`), which may be longer than this limit.
///
/// Each session also ignores a reservation in the shared page that would last longer. Sessions with
/// another limit would disagree on the reservations in force, so a change of this value is a change
/// of the page's format.
pub const LONGEST_RESERVATION: Duration = Duration::from_secs(5);

/// A reservation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reserved {
    /// The id of the reservation, which the holder's appends carry. 0 if there is no reservation.
    pub(crate) id: u64,
    /// The number of the session that holds the reservation, counted from 1.
    pub(crate) session: u64,
    /// The end of the reservation in microseconds, by the clock that all processes share.
    pub(crate) until: u64,
    /// A part of the hash of each stream or category, or 0 for an unused entry. If the hash of another stream has the
    /// same part, appends to that stream wait, too. This only costs time.
    pub(crate) streams: [u64; MAX_RESERVED_STREAMS],
}

impl Reserved {
    pub(crate) fn new(
        id: u64,
        session: u64,
        until: u64,
        streams: impl Iterator<Item = u128>,
    ) -> Self {
        let mut reserved = Self {
            id,
            session,
            until,
            ..Self::default()
        };
        for (to, stream) in reserved.streams.iter_mut().zip(streams) {
            *to = part(stream);
        }
        reserved
    }

    /// Whether the reservation is in force at the time `now`. A reservation that would end more than
    /// `LONGEST_RESERVATION` after `now` is invalid.
    pub(crate) fn is_in_force(&self, now: u64) -> bool {
        let longest = u64::try_from(LONGEST_RESERVATION.as_micros()).unwrap_or(u64::MAX);
        self.id != 0 && self.until > now && self.until - now <= longest
    }

    pub(crate) fn has(&self, stream: u128) -> bool {
        self.streams.contains(&part(stream))
    }
}

/// Return the low half of a stream hash; 1 instead of 0, because 0 marks an unused entry.
fn part(stream: u128) -> u64 {
    u64::try_from(stream & u128::from(u64::MAX))
        .unwrap_or_default()
        .max(1)
}

/// The reservation of a store that no other process can open while this session is open. In all
/// other cases the shared page records the reservation.
#[derive(Debug, Default)]
pub(crate) struct LocalReservation {
    /// The id of the reservation, or 0 for none. Changed only while the mutex is held. Read without
    /// the mutex before each write batch, so that a store without reservations does not acquire it.
    id: AtomicU64,
    reserved: Mutex<Reserved>,
}

impl LocalReservation {
    pub(crate) fn get(&self) -> Option<Reserved> {
        if self.id.load(Ordering::SeqCst) == 0 {
            return None;
        }
        Some(*self.reserved.lock())
    }

    pub(super) fn set(&self, new: Reserved, now: u64) -> bool {
        let mut reserved = self.reserved.lock();
        if reserved.is_in_force(now) {
            return false;
        }
        *reserved = new;
        self.id.store(new.id, Ordering::SeqCst);
        true
    }

    pub(super) fn clear(&self, id: u64) {
        let mut reserved = self.reserved.lock();
        if reserved.id == id {
            *reserved = Reserved::default();
            self.id.store(0, Ordering::SeqCst);
        }
    }
}

impl CoordPage {
    /// Return the recorded reservation, even if it is no longer in force. If another session
    /// records a reservation at the same time, the result may mix the words of both. The only
    /// effect is that some appends wait for a short time.
    pub(crate) fn reserved(&self) -> Option<Reserved> {
        let id = self.words.load(AT_RESERVED);
        if id == 0 {
            return None;
        }
        Some(Reserved {
            id,
            session: self.words.load(AT_RESERVED + 1),
            until: self.words.load(AT_RESERVED + 2),
            streams: std::array::from_fn(|i| self.words.load(AT_RESERVED + 3 + i)),
        })
    }

    /// Put `new` in place of the reservation whose id is `previous` (0 if there is none). Return
    /// `false` if another reservation has been recorded meanwhile.
    pub(crate) fn reserve(&self, previous: u64, new: &Reserved) -> bool {
        if !self.words.exchange(AT_RESERVED, previous, new.id) {
            return false;
        }
        // The end is 0 until all other words are stored, so the reservation is not in force before.
        self.words.store(AT_RESERVED + 2, 0);
        self.words.store(AT_RESERVED + 1, new.session);
        for (i, stream) in new.streams.iter().enumerate() {
            self.words.store(AT_RESERVED + 3 + i, *stream);
        }
        self.words.store(AT_RESERVED + 2, new.until);
        true
    }

    pub(crate) fn release(&self, id: u64) {
        self.words.exchange(AT_RESERVED, id, 0);
    }
}
