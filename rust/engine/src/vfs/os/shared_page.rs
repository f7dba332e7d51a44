//! The shared page: words in a file that several processes have mapped, and waiting for a change
//! of a word.
//!
//! An access to mapped memory has no way to report an error: if the file has no byte or no block at
//! the address, the process gets SIGBUS and ends. So the engine allocates all blocks of the file
//! before it maps the file, and never truncates it. If another program truncates the file, the next
//! access ends the process; nothing in user space can prevent that.
//!
//! Every word is accessed atomically and with `SeqCst`. The protocol of `coord` relies on one order
//! of all accesses to several words: a session sets its own word and then reads those of the
//! others, and with acquire and release alone two sessions could both read the old values. `SeqCst`
//! holds across processes, because they map the same physical memory and the processor itself
//! guarantees the order.

#![allow(
    unsafe_code,
    clippy::cast_ptr_alignment,
    reason = "words of mapped memory, which is aligned to a page, are accessed by a pointer"
)]

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use memmap2::{MmapOptions, MmapRaw};
use rustix::fs::{Mode, OFlags};

use super::held_directory::PathAt;
use crate::vfs::{OpenMode, PAGE_WORDS, SharedPage};

const BYTES: usize = PAGE_WORDS * size_of::<u64>();

#[derive(Debug)]
pub(super) struct OsPage {
    map: MmapRaw,
    file: File,
    path: PathBuf,
}

impl OsPage {
    /// Open the file at `at`, which other processes find by `path`.
    pub(super) fn open(at: &PathAt, path: PathBuf, mode: OpenMode) -> io::Result<Self> {
        let mut file = match mode {
            OpenMode::CreateNew => at.create()?,
            OpenMode::Read | OpenMode::ReadWrite => at.open(OFlags::RDWR, Mode::empty())?,
        };
        if mode == OpenMode::CreateNew {
            let zeroed = file.write_all(&vec![0; BYTES]);
            let allocated = zeroed.and_then(|()| allocate(&file));
            // The page is incomplete. It is removed so that no other process finds it.
            allocated.inspect_err(|_| drop(at.remove()))?;
        }
        if file.metadata()?.len() != BYTES as u64 {
            let reason = "its size is not that of a shared page";
            return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
        }
        let map = MmapOptions::new().len(BYTES).map_raw(&file)?;
        Ok(Self { map, file, path })
    }

    fn word(&self, word: usize) -> Option<&AtomicU64> {
        if word >= PAGE_WORDS {
            return None;
        }
        let first = self.map.as_mut_ptr().cast::<u64>();
        // SAFETY: the map has `PAGE_WORDS` words, is aligned to a page of memory, and lives as long
        // as `self`. Every process accesses the words as atomics only, so there is no data race.
        Some(unsafe { AtomicU64::from_ptr(first.add(word)) })
    }
}

/// Allocate a block for every byte. Writing zeros is not enough: a file system that compresses data
/// or defers allocation may have no block for a written byte.
#[cfg(target_os = "linux")]
fn allocate(file: &File) -> io::Result<()> {
    use rustix::fs::{FallocateFlags, fallocate};
    use rustix::io::Errno;
    loop {
        match fallocate(file, FallocateFlags::empty(), 0, BYTES as u64) {
            Err(Errno::INTR) => {}
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => return Ok(()),
            outcome => return Ok(outcome?),
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn allocate(file: &File) -> io::Result<()> {
    file.sync_data()
}

impl SharedPage for OsPage {
    fn load(&self, word: usize) -> u64 {
        self.word(word)
            .map_or(0, |word| word.load(Ordering::SeqCst))
    }

    fn store(&self, word: usize, value: u64) {
        if let Some(word) = self.word(word) {
            word.store(value, Ordering::SeqCst);
        }
    }

    fn add(&self, word: usize, n: u64) -> u64 {
        self.word(word)
            .map_or(0, |word| word.fetch_add(n, Ordering::SeqCst))
    }

    fn raise(&self, word: usize, value: u64) -> u64 {
        self.word(word)
            .map_or(0, |word| word.fetch_max(value, Ordering::SeqCst))
    }

    fn exchange(&self, word: usize, current: u64, value: u64) -> bool {
        self.word(word).is_some_and(|word| {
            word.compare_exchange(current, value, Ordering::SeqCst, Ordering::SeqCst)
                .is_ok()
        })
    }

    fn wait(&self, word: usize, seen: u64, timeout: Duration) {
        if let Some(word) = self.word(word) {
            waiting::wait(word, seen, timeout);
        }
    }

    fn wake(&self, word: usize) {
        if let Some(word) = self.word(word) {
            waiting::wake(word);
        }
    }

    fn is_in_place(&self) -> io::Result<bool> {
        super::same_file::names(&self.path, &self.file)
    }

    fn number(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.ino())
    }

    fn device(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.dev())
    }
}

#[cfg(target_os = "linux")]
mod waiting {
    use std::sync::atomic::{AtomicU32, AtomicU64};
    use std::time::Duration;

    use rustix::thread::futex;
    use rustix::time::Timespec;

    /// The lower half of a word, because a futex has 32 bits.
    fn lower_half(word: &AtomicU64) -> &AtomicU32 {
        let at = usize::from(cfg!(target_endian = "big"));
        // SAFETY: both halves of an aligned u64 are aligned u32s that live as long as it. Only the
        // kernel reads through this reference, as part of the futex call; no access of mixed size
        // happens in this program.
        unsafe { AtomicU32::from_ptr(word.as_ptr().cast::<u32>().add(at)) }
    }

    pub(super) fn wait(word: &AtomicU64, seen: u64, timeout: Duration) {
        let seen = u32::try_from(seen & u64::from(u32::MAX)).unwrap_or_default();
        let timeout = Timespec {
            tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: timeout.subsec_nanos().into(),
        };
        // The kernel compares the word with `seen` and sleeps in one step, so no change after the
        // caller's last read is missed. The result is ignored, because the caller reads the word
        // again in any case: after a wake-up, a change, the timeout or a signal. The futex is not
        // private, because another process may wake the thread.
        let _reads_again = futex::wait(
            lower_half(word),
            futex::Flags::empty(),
            seen,
            Some(&timeout),
        );
    }

    pub(super) fn wake(word: &AtomicU64) {
        // The only possible error is an invalid address, and this one is valid.
        let all = i32::MAX.unsigned_abs();
        let _woken = futex::wake(lower_half(word), futex::Flags::empty(), all);
    }
}

#[cfg(not(target_os = "linux"))]
use polling as waiting;

/// A wait for kernels that have none across processes: the word is polled, at first every
/// millisecond and then less often.
#[cfg(any(test, not(target_os = "linux")))]
mod polling {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::{Duration, Instant};

    const BUSY: Duration = Duration::from_millis(1);
    const IDLE: Duration = Duration::from_millis(20);

    pub(super) fn wait(word: &AtomicU64, seen: u64, timeout: Duration) {
        let begun = Instant::now();
        let mut pause = BUSY;
        while (word.load(Ordering::SeqCst) ^ seen) & u64::from(u32::MAX) == 0 {
            let left = timeout.saturating_sub(begun.elapsed());
            if left.is_zero() {
                return;
            }
            std::thread::sleep(pause.min(left));
            pause = (pause * 2).min(IDLE);
        }
    }

    pub(super) fn wake(_word: &AtomicU64) {}
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    use std::path::Path;
    use std::time::Instant;

    use super::*;

    fn open(path: &Path, mode: OpenMode) -> io::Result<OsPage> {
        OsPage::open(&PathAt::path(path), path.to_path_buf(), mode)
    }

    #[test]
    fn a_page_is_accessible_by_its_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("page");
        open(&path, OpenMode::CreateNew).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    /// On a full disk, an access to a word without a block would end the process.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_new_page_has_all_its_blocks() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("page");
        open(&path, OpenMode::CreateNew).unwrap();
        // Not every file system keeps blocks for zeros. So the expected number of blocks is that of
        // a reference file, for which they were requested in the same way.
        let reference = File::create_new(dir.path().join("reference")).unwrap();
        (&reference).write_all(&vec![0; BYTES]).unwrap();
        let _unsupported = rustix::fs::fallocate(
            &reference,
            rustix::fs::FallocateFlags::empty(),
            0,
            BYTES as u64,
        );
        reference.sync_all().unwrap();
        let blocks = fs::metadata(&path).unwrap().blocks();
        assert!(blocks >= reference.metadata().unwrap().blocks());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_pipe_is_refused_as_a_page() {
        use rustix::fs::{CWD, FileType, Mode, mknodat};
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pipe");
        mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let (done, opened) = std::sync::mpsc::channel();
        std::thread::spawn(move || done.send(open(&path, OpenMode::ReadWrite)));
        let refused = opened.recv_timeout(Duration::from_mins(1)).unwrap();
        assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    /// The wait of systems whose kernel has none across processes.
    #[test]
    fn a_change_of_a_polled_word_ends_the_wait() {
        const TIME: Duration = Duration::from_millis(50);
        let word = AtomicU64::new(7 << 32 | 9);
        for seen in [8, 7 << 32] {
            polling::wait(&word, seen, Duration::MAX);
        }
        for seen in [9, 7 << 32 | 9] {
            let begun = Instant::now();
            polling::wait(&word, seen, TIME);
            assert!(begun.elapsed() >= TIME);
        }
        let limit = Duration::from_mins(1);
        let begun = Instant::now();
        std::thread::scope(|scope| {
            scope.spawn(|| polling::wait(&word, 9, limit));
            word.store(10, Ordering::SeqCst);
            polling::wake(&word);
        });
        assert!(begun.elapsed() < limit);
    }
}
