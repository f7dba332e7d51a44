//! Appends that wait to be written, or that wait for the end of a reservation.

use std::time::Duration;

use super::request::Request;
use crate::coord::Reserved;
use crate::error::{Error, Result};
use crate::mutex::Mutex;

/// Interval at which the background thread checks whether a reservation has ended. The holder of
/// the reservation may be another process, which does not wake this thread.
const DEFERRED_CHECK: Duration = Duration::from_millis(1);

/// Interval, in microseconds, at which the liveness of the session that holds a reservation is
/// checked.
const HOLDER_CHECK_MICROS: u64 = 20_000;

/// The appends of this session that have not been written yet.
///
/// Lock order: `deferred` before `queue`. [`AppendQueue::restore`] holds both locks while it moves
/// requests. Otherwise the requests would be in neither list for a moment, and `is_empty` and
/// `take_all` would miss them.
#[derive(Debug, Default)]
pub(super) struct AppendQueue {
    queue: Mutex<Queue>,
    /// Appends to reserved streams, until the reservation ends.
    deferred: Mutex<Deferred>,
}

#[derive(Default)]
struct Queue {
    requests: Vec<Request>,
    /// The total size of the requests' frames.
    bytes: usize,
    closed: bool,
}

#[derive(Default)]
struct Deferred {
    requests: Vec<Request>,
    /// The id of the reservation that the requests wait for.
    reservation: u64,
    /// The uptime at which the liveness of the holder is checked next.
    next_check: u64,
}

impl AppendQueue {
    /// Add a request and return `true`. If the queue is closed or `health` returns an error, answer
    /// the request with that error and return `false`.
    ///
    /// `health` is called while the queue is locked. A thread that poisons the store after a panic
    /// takes all requests afterwards. So each request is either refused here or taken by that
    /// thread, and none stays unanswered.
    pub(super) fn push(&self, request: Request, health: impl FnOnce() -> Result<()>) -> bool {
        let mut queue = self.queue.lock();
        let refused = if queue.closed {
            Err(Error::Closed)
        } else {
            health()
        };
        if let Err(e) = refused {
            // Answer without the lock: the callback may call the store.
            drop(queue);
            request.answer(Err(e));
            return false;
        }
        queue.push(request);
        true
    }

    /// Take all requests that do not wait for a reservation.
    pub(super) fn take(&self) -> Vec<Request> {
        self.queue.lock().take()
    }

    /// Put requests back, before the requests that were queued since they were taken.
    pub(super) fn put_back(&self, requests: Vec<Request>) {
        self.queue.lock().put_back(requests);
    }

    /// Whether the queue is non-empty and its frames have at least `bytes` bytes in total.
    pub(super) fn holds(&self, bytes: usize) -> bool {
        self.queue.lock().holds(bytes)
    }

    /// Refuse all further requests.
    pub(super) fn close(&self) {
        self.queue.lock().closed = true;
    }

    pub(super) fn is_closed(&self) -> bool {
        self.queue.lock().closed
    }

    /// Whether no request is queued or deferred.
    pub(super) fn is_empty(&self) -> bool {
        !self.has_deferred() && self.queue.lock().requests.is_empty()
    }

    /// Take all requests, including the deferred ones.
    pub(super) fn take_all(&self) -> Vec<Request> {
        let mut requests = std::mem::take(&mut self.deferred.lock().requests);
        requests.extend(self.take());
        requests
    }

    /// Defer a request until a reservation ends.
    pub(super) fn defer(&self, request: Request, reserved: &Reserved) {
        let mut deferred = self.deferred.lock();
        if deferred.reservation != reserved.id {
            deferred.reservation = reserved.id;
            deferred.next_check = 0;
            // The earlier requests waited for a reservation that has ended. If they stayed, they
            // would wait for this one, too, and possibly for many more.
            let restored = std::mem::take(&mut deferred.requests);
            self.put_back(restored);
        }
        deferred.requests.push(request);
    }

    pub(super) fn has_deferred(&self) -> bool {
        !self.deferred.lock().requests.is_empty()
    }

    /// Return the time after which [`AppendQueue::restore`] should be called again, or `None` if no
    /// request is deferred.
    pub(super) fn deferred_check(&self) -> Option<Duration> {
        self.has_deferred().then_some(DEFERRED_CHECK)
    }

    /// Queue the deferred requests again if their reservation has ended, or if `is_alive` reports
    /// that the reservation's holder is dead. In the second case, return the reservation.
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
        if self.requests.capacity() == 0 {
            // By itself a vector would begin with room for four requests. A block of this size is
            // not in the allocator's cache of small blocks, and most commits have one request.
            self.requests.reserve_exact(1);
        }
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
