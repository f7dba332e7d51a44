//! How many write batches are committed at the same time: the maximum number of threads that
//! commit, and the minimum size of the queue for which one more thread begins while all of these
//! threads wait for the disk. The size of a batch has no limit of its own: a thread takes the whole
//! queue.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::queue::AppendQueue;

/// Maximum number of threads that write or sync at the same time. A further thread would only wait
/// for the next sync, so its append stays queued and is written in a batch with others.
const MAX_COMMITTING: usize = 4;

/// Minimum size, in bytes, of a queue that is written although `MAX_COMMITTING` threads already
/// wait for the disk.
const MIN_OVERLAPPING_BYTES: usize = 64 * 1024;

/// Decides which thread may begin a write batch, and when.
#[derive(Debug, Default)]
pub(super) struct ConcurrentBatches {
    /// Whether a thread is in the write phase, so that only one thread at a time takes the queue.
    writing: AtomicBool,
    /// Number of threads that write or sync a batch. Each of these threads checks the queue again
    /// afterwards.
    ///
    /// Each access to `writing` and `committing` is sequentially consistent. Together with the
    /// queue's lock, this ensures that no append is left in the queue. A thread queues its append
    /// before it reads the two values. A committing thread resets `writing` and decrements
    /// `committing` before it checks the queue again. So either the queueing thread sees the new
    /// values, or the committing thread sees the append. With a weaker ordering both threads could
    /// miss the change, and the append would stay in the queue until another append arrives.
    committing: AtomicUsize,
}

impl ConcurrentBatches {
    /// Begin a batch in this thread. Return `false` if the queue is too small, or if another thread
    /// is writing: that thread checks the queue again after its write.
    pub(super) fn try_begin(&self, queue: &AppendQueue) -> bool {
        let min_bytes = self.min_batch_bytes();
        if !queue.holds(min_bytes) || self.writing.swap(true, Ordering::SeqCst) {
            return false;
        }
        self.committing.fetch_add(1, Ordering::SeqCst);
        true
    }

    /// Return the minimum number of queued bytes for which a batch is written now instead of after
    /// the next sync.
    pub(super) fn min_batch_bytes(&self) -> usize {
        let is_crowded = self.committing.load(Ordering::SeqCst) >= MAX_COMMITTING;
        if is_crowded { MIN_OVERLAPPING_BYTES } else { 0 }
    }

    /// End the write phase of this thread, so that another thread can take the queue.
    pub(super) fn end_write(&self) {
        self.writing.store(false, Ordering::SeqCst);
    }

    /// End the batch of this thread.
    pub(super) fn end_batch(&self) {
        self.committing.fetch_sub(1, Ordering::SeqCst);
    }
}
