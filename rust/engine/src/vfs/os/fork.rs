//! Lock files that are closed in forked children, and the number of forks.
//!
//! A forked child shares the open file descriptions of its parent, and a `flock` belongs to the
//! description. If the parent died, its locks would stay held as long as the child runs, even if
//! the child never uses them. So this module keeps a table of all files that are open to be locked,
//! and `pthread_atfork` handlers close them in the child before `fork` returns there.
//! them in the child before `fork` returns there.
//!
//! The child has only the thread that forked. The parent's other threads don't exist there, and may
//! have held any lock at the fork. So the handler in the child may only call what POSIX allows
//! after `fork` in a process with threads: no lock of the standard library, no allocation.
//! Therefore the table is an array of atomics of fixed size, and a spin lock makes opening, closing
//! and forking exclude each other. The handler before the fork acquires the spin lock. So no other
//! thread holds it at the fork, and every open lock file is in the table.
//!
//! All atomics here use `SeqCst`. They are accessed when a file is opened or closed and at a
//! fork, never on the path of a commit, so a weaker ordering would gain nothing.
//!
//! The handlers also count the forks. If the count has changed since an object was created, the
//! object belongs to the parent. The comparison costs no system call, unlike a comparison of
//! process ids, and a count is never used twice.

#![allow(unsafe_code, reason = "pthread_atfork and close take no safe types")]

use std::fs::File;
use std::io;
use std::os::fd::{BorrowedFd, FromRawFd as _, IntoRawFd as _, RawFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, AtomicUsize, Ordering};

/// The maximum number of lock files that a process has open: about ten for each store.
const SLOTS: usize = 16 * 1024;
/// The value of an unused slot.
const FREE: i32 = -1;
/// The value of a slot in a child after the parent's file in it was closed.
const CLOSED: i32 = -2;

/// The descriptors of the open lock files, or [`FREE`], or [`CLOSED`].
static FILES: [AtomicI32; SLOTS] = [const { AtomicI32::new(FREE) }; SLOTS];
/// The number of slots, from the first, that have ever been used. The handler in the child reads
/// only these.
static USED: AtomicUsize = AtomicUsize::new(0);
/// The spin lock: true while a thread opens or closes a lock file, or forks.
static IS_LOCKED: AtomicBool = AtomicBool::new(false);
/// The number of forks between the process that registered the handlers and this one.
static FORKS: AtomicU64 = AtomicU64::new(0);
/// The result of registering the handlers: 0 or an error number.
static REGISTERED: OnceLock<i32> = OnceLock::new();

/// Return the number of forks between this process and its first ancestor that called this
/// function. The number in a forked child differs from the one in its parent.
pub fn forks() -> u64 {
    // If the handlers can't be registered, no lock file can be opened, so no store either.
    let _registered = register();
    FORKS.load(Ordering::SeqCst)
}

fn register() -> io::Result<()> {
    // SAFETY: the three handlers are `extern "C"`, never unwind, and use only atomics,
    // `sched_yield` and `close`, all of which are async-signal-safe, as POSIX requires of calls
    // in the child of a process with threads.
    let registered = REGISTERED.get_or_init(|| unsafe {
        libc::pthread_atfork(Some(before_fork), Some(in_parent), Some(in_child))
    });
    match *registered {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

/// A file that is closed in every forked child of the process that opened it.
#[derive(Debug)]
pub(super) struct ForkClosedFile {
    slot: usize,
    fd: RawFd,
    /// The id of the process that opened the file. A child that was created by a raw `clone` runs
    /// no handlers and has the same table as its parent; only the id differs.
    owner: u32,
}

impl ForkClosedFile {
    /// Open a file and add it to the table.
    pub(super) fn open(open: impl FnOnce() -> io::Result<File>) -> io::Result<Self> {
        register()?;
        // The lock is held from before the file is open until it is in the table. A fork in between
        // would leave the file open in the child.
        let _lock = SpinLock::acquire();
        let is_free = |slot: &AtomicI32| slot.load(Ordering::SeqCst) == FREE;
        let slot = FILES.iter().position(is_free);
        let slot = slot.ok_or_else(|| io::Error::other("too many lock files are open"))?;
        let fd = open()?.into_raw_fd();
        USED.fetch_max(slot + 1, Ordering::SeqCst);
        if let Some(place) = FILES.get(slot) {
            place.store(fd, Ordering::SeqCst);
        }
        Ok(Self {
            slot,
            fd,
            owner: std::process::id(),
        })
    }

    /// Return the file, or an error in a child of the process that opened it.
    pub(super) fn get(&self) -> io::Result<BorrowedFd<'_>> {
        let is_open = FILES
            .get(self.slot)
            .is_some_and(|slot| slot.load(Ordering::SeqCst) == self.fd);
        if !is_open || self.owner != std::process::id() {
            return Err(rustix::io::Errno::BADF.into());
        }
        // SAFETY: the slot contains the descriptor, so it is open. Only `drop` closes it in this
        // process, and the borrow outlives no drop. A fork closes it in the child alone, where
        // only the forking thread exists, and that thread is in `fork` and not in this function.
        Ok(unsafe { BorrowedFd::borrow_raw(self.fd) })
    }
}

impl Drop for ForkClosedFile {
    fn drop(&mut self) {
        let _lock = SpinLock::acquire();
        let Some(slot) = FILES.get(self.slot) else {
            return;
        };
        if slot.swap(FREE, Ordering::SeqCst) == self.fd {
            // SAFETY: the slot contained the descriptor, so it is open and belongs to this value.
            // The swap has removed it, so it is closed once.
            drop(unsafe { File::from_raw_fd(self.fd) });
        }
    }
}

/// The spin lock while it is held. No other thread forks, opens or closes a lock file meanwhile.
struct SpinLock;

impl SpinLock {
    fn acquire() -> Self {
        acquire();
        Self
    }
}

impl Drop for SpinLock {
    fn drop(&mut self) {
        release();
    }
}

fn acquire() {
    while IS_LOCKED.swap(true, Ordering::SeqCst) {
        rustix::thread::sched_yield();
    }
}

fn release() {
    IS_LOCKED.store(false, Ordering::SeqCst);
}

extern "C" fn before_fork() {
    acquire();
}

extern "C" fn in_parent() {
    release();
}

extern "C" fn in_child() {
    // The thread that acquired the lock before the fork is the one that runs here.
    FORKS.fetch_add(1, Ordering::SeqCst);
    for slot in FILES.iter().take(USED.load(Ordering::SeqCst)) {
        let fd = slot.load(Ordering::SeqCst);
        if fd >= 0 {
            slot.store(CLOSED, Ordering::SeqCst);
            // SAFETY: this is the child's copy of a descriptor that the parent had open. The slot
            // has been changed, so no `ForkClosedFile` uses or closes it again. An error can't be
            // reported, because no caller exists here.
            unsafe { libc::close(fd) };
        }
    }
    release();
}

#[cfg(test)]
mod tests {
    //! Each test runs in a process of its own, because the tests of one process share the table.

    use super::super::test_process::run_alone;
    use super::*;

    fn opened() -> ForkClosedFile {
        ForkClosedFile::open(|| File::open("/dev/null")).unwrap()
    }

    fn in_use() -> usize {
        let is_used = |slot: &&AtomicI32| slot.load(Ordering::SeqCst) != FREE;
        FILES.iter().filter(is_used).count()
    }

    #[test]
    fn a_full_table_refuses_the_next_file() {
        run_alone(
            "vfs::os::fork::tests::a_full_table_refuses_the_next_file",
            || {
                let file = opened();
                for slot in &FILES {
                    let _used =
                        slot.compare_exchange(FREE, CLOSED, Ordering::SeqCst, Ordering::SeqCst);
                }
                let mut is_opened = false;
                let refused = ForkClosedFile::open(|| {
                    is_opened = true;
                    File::open("/dev/null")
                });
                assert_eq!(
                    refused.unwrap_err().to_string(),
                    "too many lock files are open"
                );
                assert!(!is_opened);
                drop(file);
                assert!(opened().get().is_ok());
            },
        );
    }

    #[test]
    fn a_file_that_is_closed_or_never_opened_leaves_its_slot_free() {
        run_alone(
            "vfs::os::fork::tests::a_file_that_is_closed_or_never_opened_leaves_its_slot_free",
            || {
                let kept = opened();
                for _ in 0..100 {
                    assert!(ForkClosedFile::open(|| Err(io::ErrorKind::NotFound.into())).is_err());
                    assert!(opened().get().is_ok());
                }
                assert_eq!((in_use(), USED.load(Ordering::SeqCst)), (1, 2));
                drop(kept);
                assert_eq!(in_use(), 0);
            },
        );
    }

    #[test]
    fn a_fork_uses_up_no_slot() {
        run_alone("vfs::os::fork::tests::a_fork_uses_up_no_slot", || {
            let kept = [(); 3].map(|()| opened());
            for _ in 0..200 {
                // SAFETY: the child uses atomics only, closes its own descriptors and ends. It has
                // no other threads.
                let child = unsafe { libc::fork() };
                assert!(child >= 0);
                if child == 0 {
                    let is_closed = |slot: &AtomicI32| slot.load(Ordering::SeqCst) < 0;
                    let are_closed = FILES.iter().all(is_closed) && in_use() == kept.len();
                    let are_refused = kept.iter().all(|file| file.get().is_err());
                    drop(kept);
                    let is_ok = are_closed && are_refused && in_use() == 0;
                    // SAFETY: the child needs no clean-up.
                    unsafe { libc::_exit(i32::from(!is_ok)) };
                }
                let mut status = -1;
                // SAFETY: `status` has room for the result.
                assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
                assert_eq!(status, 0);
                drop(opened());
            }
            assert_eq!((in_use(), USED.load(Ordering::SeqCst)), (3, 4));
            assert!(kept.iter().all(|file| file.get().is_ok()));
        });
    }
}
