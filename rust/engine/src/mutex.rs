//! The engine's locks: those of `std::sync` without poisoning, usable after `fork()`.
//!
//! `parking_lot` keeps all waiting threads of a process in one global table. A child that was
//! forked while another thread held a bucket of that table waits for the bucket forever, even in
//! locks that it has created itself. The locks of the standard library share no state.
//!
//! A panic while a lock is held doesn't poison the lock. Code that catches a panic stops the
//! affected work explicitly.

use std::ops::{Deref, DerefMut};
use std::sync::{self, PoisonError, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

/// Mutual exclusion.
#[derive(Debug, Default)]
pub struct Mutex<T>(sync::Mutex<T>);

impl<T> Mutex<T> {
    /// An unlocked mutex with this value.
    pub const fn new(value: T) -> Self {
        Self(sync::Mutex::new(value))
    }

    /// Acquire the lock; wait until it is free.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        MutexGuard(Some(self.0.lock().unwrap_or_else(PoisonError::into_inner)))
    }

    /// Acquire the lock if it is free.
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        match self.0.try_lock() {
            Ok(guard) => Some(MutexGuard(Some(guard))),
            Err(sync::TryLockError::Poisoned(guard)) => Some(MutexGuard(Some(guard.into_inner()))),
            Err(sync::TryLockError::WouldBlock) => None,
        }
    }

    /// The value. No lock is needed, because the caller has the only reference.
    pub fn get_mut(&mut self) -> &mut T {
        self.0.get_mut().unwrap_or_else(PoisonError::into_inner)
    }

    /// Consume the mutex and return its value.
    pub fn into_inner(self) -> T {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A held [`Mutex`].
#[derive(Debug)]
pub struct MutexGuard<'a, T>(Option<sync::MutexGuard<'a, T>>);

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        match &self.0 {
            Some(guard) => guard,
            // `Condvar::wait` takes the inner guard out and puts it back before it returns.
            None => unreachable!("only a waiting condition variable takes the guard"),
        }
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        match &mut self.0 {
            Some(guard) => guard,
            None => unreachable!("only a waiting condition variable takes the guard"),
        }
    }
}

/// Many readers or one writer.
#[derive(Debug, Default)]
pub struct RwLock<T>(sync::RwLock<T>);

impl<T> RwLock<T> {
    /// An unlocked lock with this value.
    pub const fn new(value: T) -> Self {
        Self(sync::RwLock::new(value))
    }

    /// Acquire the lock together with other readers; wait while a writer has it.
    pub fn read(&self) -> RwLockReadGuard<'_, T> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Acquire the lock exclusively; wait while a reader or a writer has it.
    pub fn write(&self) -> RwLockWriteGuard<'_, T> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A condition variable: threads wait for a change of what a [`Mutex`] protects.
#[derive(Debug, Default)]
pub struct Condvar(sync::Condvar);

impl Condvar {
    /// A condition variable without waiting threads.
    pub const fn new() -> Self {
        Self(sync::Condvar::new())
    }

    /// Wake one of the waiting threads.
    pub fn notify_one(&self) {
        self.0.notify_one();
    }

    /// Wake all waiting threads.
    pub fn notify_all(&self) {
        self.0.notify_all();
    }

    /// Release the lock, wait for a wake-up, and acquire the lock again. It may return without a
    /// wake-up, so the caller checks its condition in a loop.
    pub fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
        guard.0 = guard
            .0
            .take()
            .map(|held| self.0.wait(held).unwrap_or_else(PoisonError::into_inner));
    }

    /// Wait as [`Condvar::wait`] does, at most until `deadline`.
    pub fn wait_until<T>(&self, guard: &mut MutexGuard<'_, T>, deadline: Instant) -> WaitResult {
        self.wait_for(guard, deadline.saturating_duration_since(Instant::now()))
    }

    /// Wait as [`Condvar::wait`] does, at most for `timeout`.
    pub fn wait_for<T>(&self, guard: &mut MutexGuard<'_, T>, timeout: Duration) -> WaitResult {
        let mut timed_out = false;
        guard.0 = guard.0.take().map(|held| {
            let waited = self.0.wait_timeout(held, timeout);
            let (held, result) = waited.unwrap_or_else(PoisonError::into_inner);
            timed_out = result.timed_out();
            held
        });
        WaitResult { timed_out }
    }
}

/// The result of a wait with a time limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitResult {
    timed_out: bool,
}

impl WaitResult {
    /// Whether the time limit passed without a wake-up.
    pub fn timed_out(self) -> bool {
        self.timed_out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::Arc;

    #[test]
    fn a_panic_frees_the_lock() {
        let lock = Mutex::new(1);
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            let _held = lock.lock();
            panic!("while holding it");
        }));
        assert!(panicked.is_err());
        assert_eq!(*lock.lock(), 1);
    }

    #[test]
    fn a_waiter_is_woken_or_times_out() {
        let pair = Arc::new((Mutex::new(false), Condvar::new()));
        let own = Arc::clone(&pair);
        let thread = std::thread::spawn(move || {
            *own.0.lock() = true;
            own.1.notify_all();
        });
        let mut done = pair.0.lock();
        while !*done {
            pair.1.wait(&mut done);
        }
        assert!(
            pair.1
                .wait_for(&mut done, Duration::from_millis(5))
                .timed_out()
        );
        drop(done);
        thread.join().unwrap();
    }
}
