//! Appends that wait to be written: in the queue, or for the end of a reservation.

use std::time::Duration;

use super::request::Request;
use crate::coord::Reserved;
use crate::error::{Error, Result};
use crate::lock::Mutex;

/// How often a waiting thread checks whether a reservation has ended. Its holder may be another
/// process, which doesn't wake this one.
const DEFERRED_CHECK: Duration = Duration::from_millis(1);

/// How often it is checked whether the session that holds a reservation is alive.
const HOLDER_CHECK_MICROS: u64 = 20_000;

/// The appends of this session that are not written yet.
///
/// The lock of the deferred requests is acquired before that of the queue.
#[derive(Debug, Default)]
pub(super) struct AppendQueue {
    queue: Mutex<Queue>,
    /// Appends to streams that are reserved, until the reservation ends.
    deferred: Mutex<Deferred>,
}

#[derive(Default)]
struct Queue {
    requests: Vec<Request>,
    /// The size of their frames.
    bytes: usize,
    closed: bool,
}

#[derive(Default)]
struct Deferred {
    requests: Vec<Request>,
    /// The reservation whose end they wait for.
    reservation: u64,
    /// When it is next checked whether the holder is alive.
    next_check: u64,
}

impl AppendQueue {
    /// Adds a request, unless the queue is closed or `health` refuses; returns whether it was
    /// added. A refused one is answered here. `health` is checked under the lock: a thread that
    /// poisons the store takes all requests afterwards, and misses none.
    pub(super) fn push(&self, request: Request, health: impl FnOnce() -> Result<()>) -> bool {
        let mut queue = self.queue.lock();
        let refused = if queue.closed {
            Err(Error::Closed)
        } else {
            health()
        };
        if let Err(e) = refused {
            // Outside the lock: the callback may call back into the store.
            drop(queue);
            request.answer(Err(e));
            return false;
        }
        queue.push(request);
        true
    }

    /// Takes all requests that don't wait for a reservation.
    pub(super) fn take(&self) -> Vec<Request> {
        self.queue.lock().take()
    }

    /// Puts requests back before all that were queued meanwhile.
    pub(super) fn put_back(&self, requests: Vec<Request>) {
        self.queue.lock().put_back(requests);
    }

    /// Whether there are requests, of at least so many bytes.
    pub(super) fn holds(&self, bytes: usize) -> bool {
        self.queue.lock().holds(bytes)
    }

    /// Refuses all further requests.
    pub(super) fn close(&self) {
        self.queue.lock().closed = true;
    }

    pub(super) fn is_closed(&self) -> bool {
        self.queue.lock().closed
    }

    /// Whether there are requests, deferred ones included.
    pub(super) fn is_empty(&self) -> bool {
        !self.has_deferred() && self.queue.lock().requests.is_empty()
    }

    /// Takes all requests, deferred ones included.
    pub(super) fn take_all(&self) -> Vec<Request> {
        let mut requests = std::mem::take(&mut self.deferred.lock().requests);
        requests.extend(self.take());
        requests
    }

    /// Defers a request until a reservation ends.
    pub(super) fn defer(&self, request: Request, reserved: &Reserved) {
        let mut deferred = self.deferred.lock();
        if deferred.reservation != reserved.id {
            deferred.reservation = reserved.id;
            deferred.next_check = 0;
        }
        deferred.requests.push(request);
    }

    pub(super) fn has_deferred(&self) -> bool {
        !self.deferred.lock().requests.is_empty()
    }

    /// The time after which [`AppendQueue::restore`] is to be called again.
    pub(super) fn deferred_check(&self) -> Option<Duration> {
        self.has_deferred().then_some(DEFERRED_CHECK)
    }

    /// Queues the deferred requests, unless the reservation that they wait for is in force and
    /// its holder alive; `is_alive` finds that out. Returns a reservation whose holder is dead.
    pub(super) fn restore(
        &self,
        reserved: impl FnOnce() -> Option<Reserved>,
        now: u64,
        is_alive: impl FnOnce(&Reserved) -> bool,
    ) -> Option<Reserved> {
        let mut deferred = self.deferred.lock();
        if deferred.requests.is_empty() {
            return None;
        }
        let awaited = reserved().filter(|reserved| reserved.id == deferred.reservation);
        if let Some(reserved) = &awaited {
            if now < deferred.next_check {
                return None;
            }
            if is_alive(reserved) {
                deferred.next_check = now + HOLDER_CHECK_MICROS;
                return None;
            }
        }
        let requests = std::mem::take(&mut deferred.requests);
        self.put_back(requests);
        awaited
    }
}

impl Queue {
    fn push(&mut self, request: Request) {
        self.bytes += request.prepared.frame.len();
        self.requests.push(request);
    }

    fn take(&mut self) -> Vec<Request> {
        self.bytes = 0;
        std::mem::take(&mut self.requests)
    }

    fn put_back(&mut self, requests: Vec<Request>) {
        let later = self.take();
        requests
            .into_iter()
            .chain(later)
            .for_each(|request| self.push(request));
    }

    fn holds(&self, bytes: usize) -> bool {
        !self.requests.is_empty() && self.bytes >= bytes
    }
}

impl std::fmt::Debug for Deferred {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Deferred")
            .field("requests", &self.requests.len())
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue")
            .field("requests", &self.requests.len())
            .finish_non_exhaustive()
    }
}
