//! The file system of the operating system, its clocks and its randomness.
//!
//! | file | contents |
//! |---|---|
//! | `mod` | [`OsVfs`]: the implementation of [`Vfs`], clocks, randomness |
//! | `file` | reads, writes and syncs of one file |
//! | `held_directory` | files reached relative to open directories; owner and access rights |
//! | `flock` | lock files, locked with the system call `flock` |
//! | `fork` | lock files that are closed in forked children |
//! | `shared_page` | mapped memory and futex waits |
//! | `network_file_systems` | file systems on which processes can't share a store |
//! | `same_file` | whether a path still names an open file |

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{Dir, FileType, Mode, OFlags};
use xxhash_rust::xxh3::xxh3_64;

use super::{Entry, LockFile, OpenMode, SharedPage, Vfs, VfsFile};

mod file;
mod flock;
mod fork;
mod held_directory;
mod network_file_systems;
mod same_file;
mod shared_page;
#[cfg(test)]
mod test_process;

use file::OsFile;
pub use fork::forks;
use held_directory::{HeldDirectory, PathAt};

/// The file system of the operating system.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct OsVfs {
    /// The directory to which relative paths are relative; the working directory of the process if
    /// there is none.
    base: Option<PathBuf>,
    /// The directory that is held open: paths in it are resolved relative to its descriptor.
    held: Option<Arc<HeldDirectory>>,
}

impl OsVfs {
    /// A file system whose paths the kernel resolves, relative to the working directory of the
    /// process.
    pub fn new() -> Self {
        Self::default()
    }

    /// A file system whose paths are relative to `base`, even if the process changes its working
    /// directory. Errors contain the paths as the caller gave them.
    pub fn relative_to(base: PathBuf) -> Self {
        Self {
            base: Some(base),
            held: None,
        }
    }

    /// Return a path in the form in which the kernel gets it.
    fn resolved(&self, path: &Path) -> PathBuf {
        let base = self.base.as_ref();
        base.map_or_else(|| path.to_path_buf(), |base| base.join(path))
    }

    fn at(&self, path: &Path) -> io::Result<PathAt> {
        let held = self.held.as_ref().map_or(Ok(None), |held| held.at(path));
        Ok(held?.unwrap_or_else(|| PathAt::path(&self.resolved(path))))
    }

    /// The path by which other processes find a file.
    fn public_path(&self, path: &Path) -> PathBuf {
        let held = self.held.as_ref().and_then(|held| held.absolute(path));
        held.unwrap_or_else(|| self.resolved(path))
    }

    fn held_directory(&self, path: &Path) -> io::Result<Option<Arc<File>>> {
        self.held
            .as_ref()
            .map_or(Ok(None), |held| held.of_path(path))
    }
}

impl Vfs for OsVfs {
    fn hold(&self, directory: &Path) -> io::Result<Arc<dyn Vfs>> {
        let absolute = std::path::absolute(self.resolved(directory))?;
        Ok(Arc::new(Self {
            base: self.base.clone(),
            held: Some(Arc::new(HeldDirectory::open(directory, absolute)?)),
        }))
    }

    fn is_in_place(&self, directory: &Path) -> io::Result<bool> {
        self.held
            .as_ref()
            .map_or(Ok(true), |held| held.is_in_place(directory))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.at(path)?.create_dir()
    }

    fn entry(&self, path: &Path) -> io::Result<Option<Entry>> {
        let found = match self.at(path).and_then(|at| at.stat()) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            found => found?,
        };
        Ok(Some(match FileType::from_raw_mode(found.st_mode) {
            FileType::Directory => Entry::Directory,
            FileType::RegularFile => Entry::File(found.st_size.unsigned_abs()),
            _ => Entry::Other,
        }))
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let entries = match self.held_directory(path)? {
            Some(held) => Dir::read_from(&held)?,
            None => Dir::new(self.at(path)?.open_dir()?)?,
        };
        let mut names = Vec::new();
        for entry in entries {
            // The engine creates only names that are UTF-8. Another name is converted with loss, so
            // that it still appears in reports.
            let name = entry?.file_name().to_string_lossy().into_owned();
            if name != "." && name != ".." {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn VfsFile>> {
        let at = self.at(path)?;
        let file = match mode {
            OpenMode::CreateNew => at.create()?,
            OpenMode::Read => at.open(OFlags::RDONLY, Mode::empty())?,
            OpenMode::ReadWrite => at.open(OFlags::RDWR, Mode::empty())?,
        };
        Ok(Arc::new(OsFile::new(file)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (from, to) = (self.at(from)?, self.at(to)?);
        let renamed = rustix::fs::renameat(from.directory(), &from.name, to.directory(), &to.name);
        Ok(renamed?)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.at(path)?.remove()
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        match self.held_directory(path)? {
            Some(held) => file::sync_all(&held),
            None => file::sync_all(&self.at(path)?.open_dir()?),
        }
    }

    fn open_lock(&self, path: &Path, create: bool) -> io::Result<Arc<dyn LockFile>> {
        Ok(Arc::new(flock::OsLockFile::open(
            &self.at(path)?,
            self.public_path(path),
            create,
        )?))
    }

    fn open_page(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn SharedPage>> {
        Ok(Arc::new(shared_page::OsPage::open(
            &self.at(path)?,
            self.public_path(path),
            mode,
        )?))
    }

    #[cfg(target_os = "linux")]
    fn unshareable(&self, directory: &Path) -> io::Result<Option<String>> {
        let found = match self.held_directory(directory)? {
            Some(held) => rustix::fs::fstatfs(&held)?,
            None => rustix::fs::statfs(self.resolved(directory))?,
        };
        Ok(network_file_systems::why_not(lower_half(
            found.f_type.to_le_bytes(),
        )))
    }

    #[cfg(not(target_os = "linux"))]
    fn unshareable(&self, _directory: &Path) -> io::Result<Option<String>> {
        Ok(None)
    }

    fn kernel(&self) -> u64 {
        kernel()
    }

    fn now_micros(&self) -> u64 {
        now_micros()
    }

    fn uptime_micros(&self) -> u64 {
        uptime_micros()
    }

    #[cfg(target_os = "linux")]
    fn since_boot_micros(&self) -> u64 {
        micros_of(rustix::time::ClockId::Boottime)
    }

    fn random(&self, buf: &mut [u8]) -> io::Result<()> {
        random(buf)
    }
}

/// Microseconds since the Unix epoch; 0 if the clock is set to a time before it.
pub(super) fn now_micros() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// Return a number for the running kernel: the hash of the random id that Linux generates at boot.
fn kernel() -> u64 {
    fs::read("/proc/sys/kernel/random/boot_id").map_or(0, |number| xxh3_64(number.trim_ascii()))
}

/// Microseconds of the system's monotonic clock.
pub(super) fn uptime_micros() -> u64 {
    micros_of(rustix::time::ClockId::Monotonic)
}

fn micros_of(clock: rustix::time::ClockId) -> u64 {
    let now = rustix::time::clock_gettime(clock);
    let (seconds, nanos) = (now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs());
    seconds
        .saturating_mul(1_000_000)
        .saturating_add(nanos / 1_000)
}

/// Fill `buf` from the kernel's random generator.
#[cfg(target_os = "linux")]
pub(super) fn random(mut buf: &mut [u8]) -> io::Result<()> {
    use rustix::rand::{GetRandomFlags, getrandom};
    while !buf.is_empty() {
        match getrandom(&mut *buf, GetRandomFlags::empty()) {
            Ok(n) => buf = buf.split_at_mut(n).1,
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

/// Fill `buf` from the kernel's random generator.
#[cfg(not(target_os = "linux"))]
pub(super) fn random(buf: &mut [u8]) -> io::Result<()> {
    io::Read::read_exact(&mut File::open("/dev/urandom")?, buf)
}

/// The lower 32 bits of a number whose type differs between machines.
#[cfg(target_os = "linux")]
fn lower_half<const BYTES: usize>(little_endian: [u8; BYTES]) -> u32 {
    let half = little_endian.first_chunk::<4>().copied();
    half.map_or(0, u32::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use tempfile::TempDir;

    use std::io::IoSlice;

    use super::*;
    use crate::vfs::Hold;
    use crate::vfs::{read_full, write_all_at};

    fn dir() -> TempDir {
        tempfile::tempdir().unwrap()
    }

    fn permissions(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_read_returns_what_was_written() {
        let dir = dir();
        let file = OsVfs::new()
            .open(&dir.path().join("f"), OpenMode::CreateNew)
            .unwrap();
        let bufs = [IoSlice::new(b"ab"), IoSlice::new(b""), IoSlice::new(b"cd")];
        write_all_at(&*file, &bufs, 3).unwrap();
        file.sync_data().unwrap();
        file.sync_all().unwrap();
        let mut buf = [9; 16];
        assert_eq!(read_full(&*file, &mut buf, 0).unwrap(), 7);
        assert_eq!(&buf[..7], b"\0\0\0abcd");
        assert_eq!(file.size().unwrap(), 7);
        assert_eq!(file.read_at(&mut buf, 7).unwrap(), 0);
    }

    #[test]
    fn more_slices_than_the_limit_of_a_call_are_written_by_several_calls() {
        let dir = dir();
        let file = OsVfs::new()
            .open(&dir.path().join("f"), OpenMode::CreateNew)
            .unwrap();
        let bufs = vec![IoSlice::new(b"xy"); 3 * 1024 + 1];
        assert_eq!(file.write_vectored_at(&bufs, 0).unwrap(), 2 * 1024);
        write_all_at(&*file, &bufs, 0).unwrap();
        assert_eq!(file.size().unwrap(), 6 * 1024 + 2);
    }

    #[test]
    fn a_nonblocking_read_returns_the_content_or_none() {
        let dir = dir();
        let file = OsVfs::new()
            .open(&dir.path().join("f"), OpenMode::CreateNew)
            .unwrap();
        write_all_at(&*file, &[IoSlice::new(b"hello")], 0).unwrap();
        let mut buf = [0; 8];
        if let Some(n) = file.read_at_nowait(&mut buf, 0).unwrap() {
            assert_eq!(&buf[..n], b"hello");
        }
    }

    #[test]
    fn files_and_directories_are_accessible_by_their_owner_only() {
        let dir = dir();
        let store = dir.path().join("store");
        let vfs = OsVfs::new();
        vfs.create_dir(&store).unwrap();
        let _file = vfs.open(&store.join("f"), OpenMode::CreateNew).unwrap();
        assert_eq!(permissions(&store), 0o700);
        assert_eq!(permissions(&store.join("f")), 0o600);
    }

    #[test]
    fn each_open_mode_creates_or_requires_the_file() {
        let dir = dir();
        let path = dir.path().join("f");
        let vfs = OsVfs::new();
        let kind = |mode| vfs.open(&path, mode).unwrap_err().kind();
        assert_eq!(kind(OpenMode::Read), io::ErrorKind::NotFound);
        assert_eq!(kind(OpenMode::ReadWrite), io::ErrorKind::NotFound);
        vfs.open(&path, OpenMode::CreateNew).unwrap();
        assert_eq!(kind(OpenMode::CreateNew), io::ErrorKind::AlreadyExists);
        let reader = vfs.open(&path, OpenMode::Read).unwrap();
        assert!(reader.write_vectored_at(&[IoSlice::new(b"x")], 0).is_err());
    }

    #[test]
    fn files_are_listed_renamed_and_removed() {
        let dir = dir();
        let vfs = OsVfs::new();
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        vfs.create_dir(&dir.path().join("sub")).unwrap();
        vfs.open(&b, OpenMode::CreateNew).unwrap();
        assert_eq!(vfs.list(dir.path()).unwrap(), ["b", "sub"]);
        vfs.rename(&b, &a).unwrap();
        vfs.sync_dir(dir.path()).unwrap();
        assert_eq!(vfs.entry(&b).unwrap(), None);
        assert_eq!(vfs.entry(&a).unwrap(), Some(Entry::File(0)));
        assert_eq!(vfs.entry(dir.path()).unwrap(), Some(Entry::Directory));
        vfs.remove(&a).unwrap();
        assert_eq!(vfs.list(dir.path()).unwrap(), ["sub"]);
    }

    #[test]
    fn an_exclusive_lock_on_a_directory_excludes_every_other_lock() {
        let dir = dir();
        let vfs = OsVfs::new();
        let open = || vfs.open_lock(dir.path(), false).unwrap();
        let (one, other) = (open(), open());
        assert!(one.try_lock(Hold::Exclusive).unwrap());
        assert!(!other.try_lock(Hold::Exclusive).unwrap());
        assert!(!other.try_lock(Hold::Shared).unwrap());
        drop(one);
        assert!(other.try_lock(Hold::Exclusive).unwrap());
    }

    #[test]
    fn the_monotonic_clock_never_goes_back() {
        let vfs = OsVfs::new();
        let before = vfs.uptime_micros();
        assert!(before > 0 && vfs.uptime_micros() >= before);
    }

    #[test]
    fn randomness_fills_the_whole_buffer() {
        let (mut a, mut b) = ([0; 1000], [0; 1000]);
        OsVfs::new().random(&mut a).unwrap();
        OsVfs::new().random(&mut b).unwrap();
        assert_ne!(a, b);
        assert!(a[900..].iter().any(|byte| *byte != 0));
    }

    #[test]
    fn the_clock_is_past_2020() {
        assert!(OsVfs::new().now_micros() > 1_577_836_800_000_000);
    }
}
