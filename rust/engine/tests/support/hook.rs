//! A file system that calls the test before each call, so that the test can record, delay or fail
//! it; and helpers that bring threads into a chosen order.

use std::fmt;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use eventbraid_engine::mutex::{Condvar, Mutex};
use eventbraid_engine::vfs::forward::ForwardingFile;
use eventbraid_engine::vfs::sim::{Call, Failure, Fault, SimVfs};
use eventbraid_engine::vfs::{Entry, LockFile, OpenMode, SharedPage, Vfs, VfsFile};

/// The limit of every wait: a test that reaches it hangs.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// The name of the maintenance thread.
pub(crate) const MAINTAINER: &str = "braid-maintain";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Create,
    Read,
    Rename,
    Remove,
    SyncDir,
    Write,
    SyncData,
    SyncAll,
    /// A moment without I/O. The path is its name.
    Moment,
}

/// A call to the file system that is about to be made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HookedCall<'a> {
    pub(crate) op: Op,
    pub(crate) path: &'a Path,
    /// The number of the open file, counted from 1; 0 for a call without an open file.
    pub(crate) open_file: u64,
}

impl HookedCall<'_> {
    /// Whether this is a call `op` on a path that contains a text.
    pub(crate) fn is(&self, op: Op, path: &str) -> bool {
        self.op == op && self.path.to_string_lossy().contains(path)
    }

    /// Whether the calling thread has this name.
    pub(crate) fn is_in_thread(thread: &str) -> bool {
        std::thread::current().name() == Some(thread)
    }
}

type Hook = Arc<dyn Fn(HookedCall<'_>) -> io::Result<()> + Send + Sync>;

/// The file system. An error of the hook is the error of the call.
#[derive(Clone)]
pub(crate) struct HookedVfs {
    inner: Arc<dyn Vfs>,
    hook: Hook,
    opened: Arc<AtomicU64>,
}

impl HookedVfs {
    pub(crate) fn new(
        inner: impl Vfs,
        hook: impl Fn(HookedCall<'_>) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        Self {
            inner: Arc::new(inner),
            hook: Arc::new(hook),
            opened: Arc::default(),
        }
    }

    fn call_hook(&self, op: Op, path: &Path) -> io::Result<()> {
        (self.hook)(HookedCall {
            op,
            path,
            open_file: 0,
        })
    }
}

impl fmt::Debug for HookedVfs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HookedVfs").finish_non_exhaustive()
    }
}

impl Vfs for HookedVfs {
    fn hold(&self, directory: &Path) -> io::Result<Arc<dyn Vfs>> {
        Ok(Arc::new(Self {
            inner: self.inner.hold(directory)?,
            ..self.clone()
        }))
    }
    fn is_in_place(&self, directory: &Path) -> io::Result<bool> {
        self.inner.is_in_place(directory)
    }
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.inner.create_dir(path)
    }
    fn entry(&self, path: &Path) -> io::Result<Option<Entry>> {
        self.inner.entry(path)
    }
    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        self.inner.list(path)
    }
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn VfsFile>> {
        if mode == OpenMode::CreateNew {
            self.call_hook(Op::Create, path)?;
        }
        Ok(Arc::new(HookedFile {
            inner: self.inner.open(path, mode)?,
            path: path.to_path_buf(),
            open_file: self.opened.fetch_add(1, Ordering::SeqCst) + 1,
            hook: Arc::clone(&self.hook),
        }))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.call_hook(Op::Rename, to)?;
        self.inner.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.call_hook(Op::Remove, path)?;
        self.inner.remove(path)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.call_hook(Op::SyncDir, path)?;
        self.inner.sync_dir(path)
    }
    fn open_lock(&self, path: &Path, create: bool) -> io::Result<Arc<dyn LockFile>> {
        self.inner.open_lock(path, create)
    }

    fn open_page(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn SharedPage>> {
        self.inner.open_page(path, mode)
    }

    fn unshareable(&self, directory: &Path) -> io::Result<Option<String>> {
        self.inner.unshareable(directory)
    }

    fn kernel(&self) -> u64 {
        self.inner.kernel()
    }

    fn since_boot_micros(&self) -> u64 {
        self.inner.since_boot_micros()
    }
    fn now_micros(&self) -> u64 {
        self.inner.now_micros()
    }
    fn uptime_micros(&self) -> u64 {
        self.inner.uptime_micros()
    }
    fn pause(&self, time: Duration) {
        self.inner.pause(time);
    }
    fn random(&self, buf: &mut [u8]) -> io::Result<()> {
        self.inner.random(buf)
    }
    fn at(&self, moment: &'static str) {
        let _nothing_to_fail = self.call_hook(Op::Moment, Path::new(moment));
        self.inner.at(moment);
    }
}

struct HookedFile {
    inner: Arc<dyn VfsFile>,
    path: PathBuf,
    open_file: u64,
    hook: Hook,
}

impl HookedFile {
    fn call_hook(&self, op: Op) -> io::Result<()> {
        (self.hook)(HookedCall {
            op,
            path: &self.path,
            open_file: self.open_file,
        })
    }
}

impl fmt::Debug for HookedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HookedFile")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl ForwardingFile for HookedFile {
    fn inner(&self) -> &dyn VfsFile {
        &*self.inner
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.call_hook(Op::Read)?;
        self.inner.read_at(buf, offset)
    }
    fn write_vectored_at(&self, bufs: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        self.call_hook(Op::Write)?;
        self.inner.write_vectored_at(bufs, offset)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.call_hook(Op::SyncData)?;
        self.inner.sync_data()
    }
    fn sync_all(&self) -> io::Result<()> {
        self.call_hook(Op::SyncAll)?;
        self.inner.sync_all()
    }
}

/// Return the error of a failed disk.
pub(crate) fn eio() -> io::Error {
    io::Error::from_raw_os_error(5)
}

/// Lose the unsynced bytes of a file, as a failed write-back of the kernel does, before any caller
/// has got the error.
pub(crate) fn lose_unsynced(sim: &SimVfs, path: &Path) {
    let name = path.file_name().unwrap().to_string_lossy();
    let failure = Fault::once(Call::SyncData, 1, Failure::EIO).losing();
    sim.fail_on(&name, failure);
    sim.open(path, OpenMode::ReadWrite)
        .unwrap()
        .sync_data()
        .unwrap_err();
}

/// A condition that one thread sets and others wait for. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Flag {
    state: Arc<(Mutex<bool>, Condvar)>,
}

impl Flag {
    pub(crate) fn set(&self) {
        *self.state.0.lock() = true;
        self.state.1.notify_all();
    }

    pub(crate) fn clear(&self) {
        *self.state.0.lock() = false;
    }

    pub(crate) fn is_set(&self) -> bool {
        *self.state.0.lock()
    }

    /// Wait until the flag is set, at most for [`LIMIT`].
    pub(crate) fn wait(&self, what: &str) {
        let deadline = Instant::now() + LIMIT;
        let mut is_set = self.state.0.lock();
        while !*is_set {
            let is_late = self.state.1.wait_until(&mut is_set, deadline).timed_out();
            assert!(
                !is_late || *is_set,
                "{what} did not happen within the limit"
            );
        }
    }
}

/// Poll until a condition holds, at most for [`LIMIT`].
pub(crate) fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(
            begin.elapsed() < LIMIT,
            "{what} did not happen within the limit"
        );
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Run a closure in a thread of its own, which must end within [`LIMIT`]. Its panic is passed on.
pub(crate) fn run_within_limit<T: Send + 'static>(what: impl FnOnce() -> T + Send + 'static) -> T {
    let thread = std::thread::spawn(what);
    wait_until("the end of the thread", || thread.is_finished());
    thread.join().unwrap()
}

/// Sleep, so that another thread has time for a call that it must not make.
pub(crate) fn let_other_threads_run() {
    std::thread::sleep(Duration::from_millis(50));
}
