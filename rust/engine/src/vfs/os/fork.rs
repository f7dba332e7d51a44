//! Locks don't outlive their process in its forked children.
//!
//! A child shares the open files of its parent, and `flock` belongs to the open file: an idle
//! child would keep each lock of a dead parent held. So every file that is opened to be locked
//! is written down, and in a child the C library closes them all before `fork` returns.
//! Opening, closing and forking exclude each other, so that no file is missed.
//!
//! The same handlers count the forks: a number that differs from an earlier one says that what
//! was made then is the parent's. It costs no system call, and comes never again, which a
//! process id does.

#![allow(unsafe_code, reason = "pthread_atfork and close take no safe types")]

use std::fs::File;
use std::io;
use std::os::fd::{BorrowedFd, FromRawFd as _, IntoRawFd as _, RawFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, AtomicUsize, Ordering};

/// Files that may be open to be locked in a process: ten a store.
const SLOTS: usize = 16 * 1024;
/// What a slot holds that is nobody's.
const FREE: i32 = -1;
/// What a slot holds in a child, of which the parent's file was closed.
const CLOSED: i32 = -2;

static FILES: [AtomicI32; SLOTS] = [const { AtomicI32::new(FREE) }; SLOTS];
/// No slot from here on was ever used.
static USED: AtomicUsize = AtomicUsize::new(0);
static CHANGING: AtomicBool = AtomicBool::new(false);
/// Forks between the first process that registered the handlers and this one.
static FORKS: AtomicU64 = AtomicU64::new(0);
/// What registering the handlers came to.
static REGISTERED: OnceLock<i32> = OnceLock::new();

/// How many forks lie between this process and the first of its line that asked: a number that
/// is another in a forked child than it was in its parent.
pub fn forks() -> u64 {
    // Where the handlers can't be registered no lock file opens, and so no store on a disk.
    let _registered = register();
    FORKS.load(Ordering::SeqCst)
}

fn register() -> io::Result<()> {
    // SAFETY: the three handlers are `extern "C"`, never unwind, and use only atomics,
    // `sched_yield` and `close`, all of which may be called in a forked child.
    let registered = REGISTERED.get_or_init(|| unsafe {
        libc::pthread_atfork(Some(before_fork), Some(in_parent), Some(in_child))
    });
    match *registered {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

/// A file that is open in this process alone.
#[derive(Debug)]
pub(super) struct OwnFile {
    slot: usize,
    fd: RawFd,
    /// The process that opened it. A child that was made without handlers has the file too,
    /// and nothing in the table tells it from its parent.
    owner: u32,
}

impl OwnFile {
    /// Opens a file and writes it down.
    pub(super) fn open(open: impl FnOnce() -> io::Result<File>) -> io::Result<Self> {
        register()?;
        let _changing = Changing::begin();
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

    /// The file, unless this is a child of the process that opened it.
    pub(super) fn get(&self) -> io::Result<BorrowedFd<'_>> {
        let is_open = FILES
            .get(self.slot)
            .is_some_and(|slot| slot.load(Ordering::SeqCst) == self.fd);
        if !is_open || self.owner != std::process::id() {
            return Err(rustix::io::Errno::BADF.into());
        }
        // SAFETY: the slot says that the descriptor is open, only `drop` closes it, and the
        // borrow keeps this value from being dropped. A fork while it is used closes it in the
        // child, where nothing but the forking thread goes on.
        Ok(unsafe { BorrowedFd::borrow_raw(self.fd) })
    }
}

impl Drop for OwnFile {
    fn drop(&mut self) {
        let _changing = Changing::begin();
        let Some(slot) = FILES.get(self.slot) else {
            return;
        };
        if slot.swap(FREE, Ordering::SeqCst) == self.fd {
            // SAFETY: the descriptor is this value's own, and is closed once: the slot said so.
            drop(unsafe { File::from_raw_fd(self.fd) });
        }
    }
}

/// Nobody forks, opens or closes meanwhile.
struct Changing;

impl Changing {
    fn begin() -> Self {
        take();
        Self
    }
}

impl Drop for Changing {
    fn drop(&mut self) {
        CHANGING.store(false, Ordering::SeqCst);
    }
}

fn take() {
    while CHANGING.swap(true, Ordering::SeqCst) {
        rustix::thread::sched_yield();
    }
}

extern "C" fn before_fork() {
    take();
}

extern "C" fn in_parent() {
    CHANGING.store(false, Ordering::SeqCst);
}

extern "C" fn in_child() {
    FORKS.fetch_add(1, Ordering::SeqCst);
    for slot in FILES.iter().take(USED.load(Ordering::SeqCst)) {
        let fd = slot.load(Ordering::SeqCst);
        if fd >= 0 {
            slot.store(CLOSED, Ordering::SeqCst);
            // SAFETY: the child's copy of a descriptor that its parent had open; whoever holds
            // on to it finds the slot changed. An error has nobody to go to.
            unsafe { libc::close(fd) };
        }
    }
    CHANGING.store(false, Ordering::SeqCst);
}

#[cfg(test)]
mod tests {
    //! Each in a process of its own: all tests of one would share the table.

    use super::super::test_process::alone;
    use super::*;

    fn opened() -> OwnFile {
        OwnFile::open(|| File::open("/dev/null")).unwrap()
    }

    fn in_use() -> usize {
        let is_used = |slot: &&AtomicI32| slot.load(Ordering::SeqCst) != FREE;
        FILES.iter().filter(is_used).count()
    }

    #[test]
    fn a_full_table_refuses_the_next_file() {
        alone(
            "vfs::os::fork::tests::a_full_table_refuses_the_next_file",
            || {
                let file = opened();
                for slot in &FILES {
                    let _used =
                        slot.compare_exchange(FREE, CLOSED, Ordering::SeqCst, Ordering::SeqCst);
                }
                let mut is_opened = false;
                let refused = OwnFile::open(|| {
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
        alone(
            "vfs::os::fork::tests::a_file_that_is_closed_or_never_opened_leaves_its_slot_free",
            || {
                let kept = opened();
                for _ in 0..100 {
                    assert!(OwnFile::open(|| Err(io::ErrorKind::NotFound.into())).is_err());
                    assert!(opened().get().is_ok());
                }
                assert_eq!((in_use(), USED.load(Ordering::SeqCst)), (1, 2));
                drop(kept);
                assert_eq!(in_use(), 0);
            },
        );
    }

    #[test]
    fn forks_use_no_slot_up() {
        alone("vfs::os::fork::tests::forks_use_no_slot_up", || {
            let kept = [(); 3].map(|()| opened());
            for _ in 0..200 {
                // SAFETY: the child touches atomics, closes nothing but what is its own, and
                // ends: the threads of the test harness are not with it.
                let child = unsafe { libc::fork() };
                assert!(child >= 0);
                if child == 0 {
                    let is_closed = |slot: &AtomicI32| slot.load(Ordering::SeqCst) < 0;
                    let are_closed = FILES.iter().all(is_closed) && in_use() == kept.len();
                    let are_refused = kept.iter().all(|file| file.get().is_err());
                    drop(kept);
                    let is_well = are_closed && are_refused && in_use() == 0;
                    // SAFETY: it owes nobody a clean-up.
                    unsafe { libc::_exit(i32::from(!is_well)) };
                }
                let mut status = -1;
                // SAFETY: there is room for what it writes.
                assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
                assert_eq!(status, 0);
                drop(opened());
            }
            assert_eq!((in_use(), USED.load(Ordering::SeqCst)), (3, 4));
            assert!(kept.iter().all(|file| file.get().is_ok()));
        });
    }
}
