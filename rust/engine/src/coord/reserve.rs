//! Reservations: for a short time, one writer alone appends to some streams.
//!
//! A writer that reads streams and then appends on condition of their versions can lose to
//! faster writers for ever. Under a reservation, the appends of all others to its streams wait,
//! whichever process they are made in.
//!
//! A reservation is no protection; expectations are. So it may be lost at any time at the cost
//! of one more conflict: it ends at a fixed time, 5 seconds ahead at most, and it ends with its
//! process, whose session lock the kernel frees. No writer waits for a holder that can't run.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::lock::Mutex;

/// How long a reservation lasts at most.
pub const LONGEST_RESERVATION: Duration = Duration::from_secs(5);

/// How many streams are reserved at once; further ones are not.
pub(crate) const STREAMS: usize = 16;

/// One reservation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reserved {
    /// What the holder's appends carry; never 0.
    pub(crate) id: u64,
    /// The session that holds it, counted from 1.
    pub(crate) session: u64,
    /// Its end, by the clock that all processes share.
    pub(crate) until: u64,
    /// A part of each stream's hash, 0 where there are fewer streams. Others that share it wait
    /// in vain, which costs them some time.
    pub(crate) streams: [u64; STREAMS],
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

    /// Whether it still counts. No honest one ends later than `LONGEST_RESERVATION` from now.
    pub(crate) fn is_in_force(&self, now: u64) -> bool {
        let longest = u64::try_from(LONGEST_RESERVATION.as_micros()).unwrap_or(u64::MAX);
        self.id != 0 && self.until > now && self.until - now <= longest
    }

    pub(crate) fn has(&self, stream: u128) -> bool {
        self.streams.contains(&part(stream))
    }
}

fn part(stream: u128) -> u64 {
    // 0 stands for no stream.
    u64::try_from(stream & u128::from(u64::MAX))
        .unwrap_or_default()
        .max(1)
}

/// Where the reservation of a store is recorded: in the shared page, or in this process if no
/// other one can open the store meanwhile.
#[derive(Debug, Default)]
pub(crate) struct LocalReservation {
    /// Looked at before each group of appends.
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
