//! A simulated file system in memory, which can lose power, tear writes and fail calls on demand.
//!
//! [`SimVfs::memory`] is plain and fast; stores in memory use it. [`SimVfs::tracked`] records what
//! is durable and what is not:
//!
//! ```
//! use std::io::IoSlice;
//! use std::path::Path;
//! use eventbraid_engine::vfs::sim::{Persist, SimVfs};
//! use eventbraid_engine::vfs::{OpenMode, Vfs};
//!
//! # fn main() -> std::io::Result<()> {
//! let vfs = SimVfs::tracked(1);
//! let file = vfs.open(Path::new("/f"), OpenMode::CreateNew)?;
//! vfs.sync_dir(Path::new("/"))?;
//! file.write_vectored_at(&[IoSlice::new(b"kept")], 0)?;
//! file.sync_data()?;
//! file.write_vectored_at(&[IoSlice::new(b", lost")], 4)?;
//!
//! let after = vfs.power_cut(Persist::Nothing);
//! assert_eq!(after.read_file(Path::new("/f"))?, b"kept");
//! # Ok(())
//! # }
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::mutex::{Mutex, MutexGuard};
use rustix::io::Errno;

mod content;
mod faults;
mod inode;
mod lock_holders;
mod locks_and_pages;
mod lying_vfs;
mod name_tree;
mod open_file;
mod page_waiters;
mod power_cut;
mod random;
mod recorder;
#[cfg(test)]
mod tests;
mod world;

pub use faults::{Call, Failure, Fault, Then};
pub use lying_vfs::{Lie, LyingVfs};
pub use power_cut::Persist;
pub use recorder::{Operation, Phase, Record, RecordingVfs};

use self::content::Content;
use self::inode::Inode;
use self::locks_and_pages::{Opened, SimLockFile, SimPage};
use self::name_tree::Node;
use self::open_file::SimFile;
use self::power_cut::PowerCut;
use self::world::{HeldDirectory, State, World};
use super::{Entry, LockFile, OpenMode, PAGE_WORDS, SharedPage, Vfs, VfsFile, os, write_all_at};

/// The number of the kernel of all simulated machines.
const KERNEL: u64 = 7;

/// A file system in memory. Clones are handles to the same file system.
#[derive(Clone)]
pub struct SimVfs {
    world: Arc<World>,
    held: Option<Held>,
}

/// A directory that is held open, and its subdirectories that have been used.
#[derive(Clone)]
struct Held {
    /// The path that it had when it was opened.
    path: String,
    /// The open directories by their path below this one, whose own path is empty.
    directories: Arc<Mutex<BTreeMap<String, HeldDirectory>>>,
}

impl SimVfs {
    /// A plain file system: fast, with the system's clock and randomness. Nothing in it is durable.
    pub fn memory() -> Self {
        Self::new(World::new(false, 0))
    }

    /// A file system that records what is durable. The same calls in the same order with the same
    /// `seed` give the same results.
    pub fn tracked(seed: u64) -> Self {
        Self::new(World::new(true, seed))
    }

    /// Return the file system that a machine would have after a power cut now. This file system is
    /// left unchanged, so that many power cuts can be tried. A power cut leaves nothing of a plain
    /// file system.
    #[must_use]
    pub fn power_cut(&self, persist: Persist) -> Self {
        let state = self.world.state.lock();
        let tree = state.tree.after_power_cut(&mut PowerCut::new(persist));
        Self::new(self.world.successor(&state, tree))
    }

    /// Return the file system that a new process would have after this process was killed: it
    /// contains everything that was written, synced or not, including the words of shared pages,
    /// and no lock is held. This file system is left unchanged; the two share nothing.
    #[must_use]
    pub fn process_crash(&self) -> Self {
        let state = self.world.state.lock();
        Self::new(self.world.successor(&state, state.tree.copy()))
    }

    /// Return the number of units that [`SimVfs::power_cut`] keeps or loses: sectors and sizes by
    /// file, in the order of the files' creation, then names in the order of their changes.
    pub fn unsynced_units(&self) -> usize {
        self.world.state.lock().tree.unsynced_units()
    }

    /// Crash at this step, counted from 1: the step is not carried out, except for a part of a
    /// write, and every later call fails. Only in a tracked file system.
    pub fn crash_at(&self, step: u64) {
        self.world.state.lock().script.crash_at(step);
    }

    /// Whether the crash has happened.
    pub fn crashed(&self) -> bool {
        self.world.state.lock().script.crashed()
    }

    /// Return the number of steps so far: calls that change something, successful or not, and named
    /// moments. A plain file system counts none.
    pub fn steps(&self) -> u64 {
        self.world.state.lock().script.steps()
    }

    /// Return the steps so far, one line each.
    pub fn trace(&self) -> Vec<String> {
        self.world.state.lock().script.trace().to_vec()
    }

    /// Make calls fail. If several faults apply to a call, the one that was added first takes
    /// effect. Only in a tracked file system.
    pub fn fail(&self, fault: Fault) {
        self.fail_on("", fault);
    }

    /// Make calls fail, as [`SimVfs::fail`] does, on paths that contain the text `path` only.
    pub fn fail_on(&self, path: &str, fault: Fault) {
        self.world.state.lock().script.add_fault(fault, path);
    }

    /// Remove all faults.
    pub fn heal(&self) {
        self.world.state.lock().script.clear_faults();
    }

    /// Set the clock of a tracked file system. It advances by a microsecond at each read. The time
    /// since boot is not changed.
    pub fn set_clock(&self, micros: u64) {
        let mut state = self.world.state.lock();
        let change = micros.wrapping_sub(state.clock);
        state.set_by = state.set_by.wrapping_add(change);
        state.clock = micros;
    }

    /// Set the capacity of the disk in bytes; `None` for no limit. On a full disk, a write into new
    /// blocks is short or fails. A write into blocks that were written before, even with zeros,
    /// needs no room. A file without a name takes no room. Only in a tracked file system.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.world.state.lock().capacity = bytes;
    }

    /// Return the bytes of all allocated blocks.
    pub fn allocated(&self) -> u64 {
        self.world.state.lock().tree.blocks() * inode::BLOCK
    }

    /// Set whether non-blocking reads find nothing, as if no page were cached. Only in a tracked
    /// file system.
    pub fn set_cold(&self, cold: bool) {
        self.world.state.lock().cold = cold;
    }

    /// Return the bytes of a file. The call is neither a step nor subject to faults.
    pub fn read_file(&self, path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
        Ok(self.inode(path.as_ref())?.content().to_bytes())
    }

    /// Return the paths of all files, in ascending order.
    pub fn files(&self) -> Vec<PathBuf> {
        let files = self.world.state.lock().tree.files();
        files
            .into_iter()
            .map(|path| Path::new("/").join(path))
            .collect()
    }

    /// Flip the bits of `mask` in the byte at `offset`, in memory and on the disk.
    pub fn corrupt(&self, path: impl AsRef<Path>, offset: u64, mask: u8) -> io::Result<()> {
        let inode = self.inode(path.as_ref())?;
        if offset >= inode.size() {
            return Err(Errno::INVAL.into());
        }
        inode.tamper(|content| {
            let mut byte = [0];
            content.read(&mut byte, offset);
            content.write(&byte.map(|byte| byte ^ mask), offset);
        });
        Ok(())
    }

    /// Truncate a file to `len` bytes, in memory and on the disk.
    pub fn truncate_outside(&self, path: impl AsRef<Path>, len: u64) -> io::Result<()> {
        self.inode(path.as_ref())?
            .tamper(|content| content.set_len(content.len().min(len)));
        Ok(())
    }

    /// Replace the bytes of an existing file, in memory and on the disk.
    pub fn write_outside(&self, path: impl AsRef<Path>, bytes: &[u8]) -> io::Result<()> {
        self.inode(path.as_ref())?
            .tamper(|content| *content = Content::from_bytes(bytes));
        Ok(())
    }

    fn new(world: World) -> Self {
        Self {
            world: Arc::new(world),
            held: None,
        }
    }

    /// Return the same file system, in which everything below `directory` is reached through the
    /// directory that is there now; see [`Vfs::hold`].
    pub fn holding(&self, directory: &Path) -> io::Result<Self> {
        let opened = self
            .world
            .state
            .lock()
            .hold(&name_tree::normalized(directory)?)?;
        let directories = Mutex::new(BTreeMap::from([(String::new(), opened)]));
        Ok(Self {
            world: Arc::clone(&self.world),
            held: Some(Held {
                path: name_tree::normalized(directory)?,
                directories: Arc::new(directories),
            }),
        })
    }

    /// Rename a directory with everything in it, as another program would, in memory and on the
    /// disk. The call is neither a step nor subject to faults.
    pub fn move_outside(&self, from: impl AsRef<Path>, to: impl AsRef<Path>) -> io::Result<()> {
        let (from, to) = (
            name_tree::normalized(from.as_ref())?,
            name_tree::normalized(to.as_ref())?,
        );
        self.world.state.lock().move_directory(&from, &to)
    }

    /// Return the present path of the file or directory that a path names. The directory that
    /// contains it may be held open and may have been moved.
    fn current_path(&self, path: &Path) -> io::Result<String> {
        let key = name_tree::normalized(path)?;
        Ok(match self.below(&key) {
            Some((_, "")) => self.current_directory(path)?,
            Some((held, below)) => {
                let (parent, name) = below.rsplit_once('/').unwrap_or(("", below));
                name_tree::join(&self.directory(held, parent), name)
            }
            None => key,
        })
    }

    /// Return the present path of a directory that may be held open and may have been moved.
    fn current_directory(&self, path: &Path) -> io::Result<String> {
        let key = name_tree::normalized(path)?;
        Ok(match self.below(&key) {
            Some((held, below)) => self.directory(held, below),
            None => key,
        })
    }

    fn below<'a>(&self, key: &'a str) -> Option<(&Held, &'a str)> {
        let held = self.held.as_ref()?;
        Some((held, name_tree::below(key, &held.path)?))
    }

    /// Return the present path of a directory below the held one; it is held from its first use.
    fn directory(&self, held: &Held, below: &str) -> String {
        if let Some(directory) = held.directories.lock().get(below) {
            return directory.path();
        }
        let (parent, name) = below.rsplit_once('/').unwrap_or(("", below));
        let path = name_tree::join(&self.directory(held, parent), name);
        // A missing directory is looked up again each time.
        let opened = self.world.state.lock().hold(&path);
        if let Ok(opened) = opened {
            held.directories.lock().insert(below.to_owned(), opened);
        }
        path
    }

    fn inode(&self, path: &Path) -> io::Result<Arc<Inode>> {
        let key = self.current_path(path)?;
        self.world.state.lock().tree.file(&key)
    }

    /// Begin a call that transfers no bytes. Return an error if a fault makes the call fail.
    fn enter(&self, call: Call, path: &Path) -> io::Result<(MutexGuard<'_, State>, String)> {
        let key = self.current_path(path)?;
        let (state, outcome) = self.world.begin(call, &key, format_args!(""), 0);
        outcome.error.map_or(Ok((state, key)), Err)
    }

    fn create(&self, path: &Path) -> io::Result<(Arc<Inode>, String)> {
        let (mut state, key) = self.enter(Call::Create, path)?;
        Ok((state.create(&key)?, key))
    }

    /// Create a file of zeros in two steps, as on the operating system. A process that is killed
    /// between them leaves a file of the wrong size. After a failed step no file is left.
    fn create_page(&self, path: &Path) -> io::Result<(Arc<Inode>, String)> {
        let (inode, key) = self.create(path)?;
        let file = SimFile {
            inode: Arc::clone(&inode),
            world: Arc::clone(&self.world),
            path: key.clone(),
            writable: true,
        };
        let zeros = vec![0; PAGE_WORDS * 8];
        write_all_at(&file, &[io::IoSlice::new(&zeros)], 0)
            .inspect_err(|_| drop(self.remove(path)))?;
        Ok((inode, key))
    }

    fn existing(&self, path: &Path) -> io::Result<(Arc<Inode>, String)> {
        let (state, key) = self.enter(Call::Open, path)?;
        Ok((state.tree.file(&key)?, key))
    }
}

impl fmt::Debug for SimVfs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimVfs")
            .field("tracked", &self.world.tracked)
            .finish_non_exhaustive()
    }
}

impl Vfs for SimVfs {
    fn hold(&self, directory: &Path) -> io::Result<Arc<dyn Vfs>> {
        Ok(Arc::new(self.holding(directory)?))
    }

    fn is_in_place(&self, directory: &Path) -> io::Result<bool> {
        Ok(name_tree::normalized(directory)? == self.current_directory(directory)?)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let (mut state, key) = self.enter(Call::CreateDir, path)?;
        state.tree.create(&key, Node::Directory)
    }

    fn entry(&self, path: &Path) -> io::Result<Option<Entry>> {
        let (state, key) = self.enter(Call::Entry, path)?;
        Ok(state.tree.entry(&key))
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let key = self.current_directory(path)?;
        let (state, outcome) = self.world.begin(Call::List, &key, format_args!(""), 0);
        outcome.error.map_or(Ok(()), Err)?;
        state.tree.list(&key)
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn VfsFile>> {
        let (inode, path) = match mode {
            OpenMode::CreateNew => self.create(path)?,
            OpenMode::Read | OpenMode::ReadWrite => self.existing(path)?,
        };
        let world = Arc::clone(&self.world);
        Ok(Arc::new(SimFile {
            inode,
            world,
            path,
            writable: mode != OpenMode::Read,
        }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (from, to) = (self.current_path(from)?, self.current_path(to)?);
        let (mut state, outcome) =
            self.world
                .begin(Call::Rename, &from, format_args!(" -> {to}"), 0);
        outcome.error.map_or(Ok(()), Err)?;
        state.tree.rename(&from, &to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let (mut state, key) = self.enter(Call::Remove, path)?;
        state.tree.remove(&key)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let key = self.current_directory(path)?;
        let (mut state, outcome) = self.world.begin(Call::SyncDir, &key, format_args!(""), 0);
        if outcome.lose {
            state.tree.lose_unsynced(&key);
        }
        outcome.error.map_or(Ok(()), Err)?;
        state.tree.require_dir(&key)?;
        state.tree.sync(&key);
        Ok(())
    }

    fn open_lock(&self, path: &Path, create: bool) -> io::Result<Arc<dyn LockFile>> {
        let (mut state, key) = self.enter(Call::Entry, path)?;
        let opened = match state.tree.entry(&key) {
            Some(Entry::Directory) => Opened::Directory(state.hold(&key)?),
            None if create => {
                self.world.continue_with(&mut state, Call::Create, &key)?;
                Opened::File(state.create(&key)?.id)
            }
            _ => {
                self.world.continue_with(&mut state, Call::Open, &key)?;
                Opened::File(state.tree.file(&key)?.id)
            }
        };
        state.lock_files += 1;
        Ok(Arc::new(SimLockFile {
            world: Arc::clone(&self.world),
            path: key,
            opened,
            holder: state.lock_files,
        }))
    }

    fn open_page(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn SharedPage>> {
        let (inode, path) = match mode {
            OpenMode::CreateNew => self.create_page(path)?,
            OpenMode::Read | OpenMode::ReadWrite => self.existing(path)?,
        };
        if inode.size() != PAGE_WORDS as u64 * 8 {
            return Err(io::ErrorKind::InvalidData.into());
        }
        inode.map();
        Ok(Arc::new(SimPage {
            world: Arc::clone(&self.world),
            path,
            inode,
        }))
    }

    fn unshareable(&self, _directory: &Path) -> io::Result<Option<String>> {
        Ok(None)
    }

    fn kernel(&self) -> u64 {
        KERNEL
    }

    fn now_micros(&self) -> u64 {
        if !self.world.tracked {
            return os::now_micros();
        }
        let mut state = self.world.state.lock();
        state.clock += 1;
        state.clock
    }

    fn since_boot_micros(&self) -> u64 {
        if !self.world.tracked {
            return os::uptime_micros();
        }
        let mut state = self.world.state.lock();
        state.clock += 1;
        state.clock.wrapping_sub(state.set_by)
    }

    fn random(&self, buf: &mut [u8]) -> io::Result<()> {
        if !self.world.tracked {
            return os::random(buf);
        }
        self.world.state.lock().random.fill(buf);
        Ok(())
    }

    fn at(&self, moment: &'static str) {
        if self.world.tracked {
            self.world.state.lock().script.moment(moment);
        }
    }
}
