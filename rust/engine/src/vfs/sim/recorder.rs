//! A record of all calls to a file system. With it, a test checks that the store reported a result
//! only after the syncs that the result depends on.

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::mutex::Mutex;

use super::Call;
use crate::vfs::forward::ForwardingFile;
use crate::vfs::{Entry, LockFile, OpenMode, SharedPage, Vfs, VfsFile};

/// A call that changes something.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Operation {
    /// Which call.
    pub call: Call,
    /// The path: that by which the file was opened, or the source of a rename.
    pub path: PathBuf,
    /// The target of a rename.
    pub to: Option<PathBuf>,
    /// The offset of a write.
    pub offset: u64,
    /// The bytes of a write; empty for other calls.
    pub bytes: Vec<u8>,
}

impl Operation {
    fn on(call: Call, path: &Path) -> Self {
        Self {
            call,
            path: path.to_owned(),
            to: None,
            offset: 0,
            bytes: Vec::new(),
        }
    }

    fn is_sync(&self) -> bool {
        matches!(self.call, Call::SyncAll | Call::SyncData | Call::SyncDir)
    }

    /// Whether `sync` makes the effects of this operation durable.
    fn is_covered_by(&self, sync: &Self) -> bool {
        match self.call {
            Call::Write => {
                matches!(sync.call, Call::SyncData | Call::SyncAll) && sync.path == self.path
            }
            Call::Create | Call::CreateDir | Call::Remove | Call::Rename => {
                let path = self.to.as_ref().unwrap_or(&self.path);
                sync.call == Call::SyncDir && Some(sync.path.as_path()) == path.parent()
            }
            _ => true,
        }
    }
}

/// An event in the record.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Phase {
    /// The store reported something to the test: a commit, a conflict, an event.
    Answer(String),
    /// A call began.
    Begin(Operation),
    /// The call that began with this sequence number returned.
    End {
        /// The sequence number of its beginning.
        began: u64,
        /// Whether it succeeded.
        ok: bool,
    },
}

/// One line of the record.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Record {
    /// The number in the order of events, counted from 0.
    pub sequence: u64,
    /// What happened.
    pub phase: Phase,
}

/// A file system that records the calls of another one. Clones share the record.
///
/// ```
/// use std::io::IoSlice;
/// use std::path::{Path, PathBuf};
/// use std::sync::Arc;
/// use eventbraid_engine::vfs::sim::{RecordingVfs, SimVfs};
/// use eventbraid_engine::vfs::{OpenMode, Vfs};
///
/// # fn main() -> std::io::Result<()> {
/// let vfs = RecordingVfs::new(Arc::new(SimVfs::memory()));
/// let file = vfs.open(Path::new("/f"), OpenMode::CreateNew)?;
/// vfs.sync_dir(Path::new("/"))?;
/// file.write_vectored_at(&[IoSlice::new(b"an event")], 0)?;
/// let too_early = vfs.answer("committed");
/// file.sync_data()?;
/// let in_time = vfs.answer("committed");
///
/// assert_eq!(vfs.unsynced_at(too_early).len(), 1);
/// assert_eq!(vfs.unsynced_at(in_time), []);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct RecordingVfs {
    inner: Arc<dyn Vfs>,
    log: Arc<Log>,
}

impl RecordingVfs {
    /// Record the calls of `inner` from now on.
    pub fn new(inner: Arc<dyn Vfs>) -> Self {
        Self {
            inner,
            log: Arc::default(),
        }
    }

    /// Record that the store has reported something. Return the sequence number.
    pub fn answer(&self, label: &str) -> u64 {
        self.log.push(Phase::Answer(label.to_owned()))
    }

    /// All records.
    pub fn records(&self) -> Vec<Record> {
        let phases = self.log.0.lock();
        (0..)
            .zip(phases.iter().cloned())
            .map(|(sequence, phase)| Record { sequence, phase })
            .collect()
    }

    /// Return the operations that a power cut just before `sequence` could undo. These are the
    /// operations that began before `sequence` and are not covered by a sync. A sync of the file or
    /// directory covers an operation if it began after the operation had ended, and succeeded
    /// before `sequence`. A failed call may have done its work, so it counts. The creation of a
    /// directory is an operation of its own.
    pub fn unsynced_at(&self, sequence: u64) -> Vec<Operation> {
        let phases = self.log.0.lock();
        let mut unsynced: Vec<Change<'_>> = Vec::new();
        for (at, phase) in (0..sequence).zip(phases.iter()) {
            match phase {
                Phase::Begin(operation) if !operation.is_sync() => {
                    unsynced.push(Change {
                        operation,
                        began: at,
                        ended: None,
                    });
                }
                Phase::End { began, ok } => match operation(&phases, *began) {
                    Some(sync) if sync.is_sync() && *ok => {
                        unsynced.retain(|change| !change.is_covered_by(sync, *began));
                    }
                    _ => end(&mut unsynced, *began, at),
                },
                Phase::Answer(_) | Phase::Begin(_) => {}
            }
        }
        unsynced
            .into_iter()
            .map(|change| change.operation.clone())
            .collect()
    }

    /// Return the sequence number of the first write that contains `bytes`. With a text that no
    /// other event contains, a test finds the write of an event.
    pub fn write_of(&self, bytes: &[u8]) -> Option<u64> {
        let phases = self.log.0.lock();
        let holds = |phase: &Phase| match phase {
            Phase::Begin(operation) => {
                operation.call == Call::Write && contains(&operation.bytes, bytes)
            }
            _ => false,
        };
        (0..)
            .zip(phases.iter())
            .find_map(|(sequence, phase)| holds(phase).then_some(sequence))
    }

    fn record<T>(
        &self,
        operation: Operation,
        call: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<T> {
        self.log.record(operation, call)
    }
}

impl Vfs for RecordingVfs {
    fn hold(&self, directory: &Path) -> io::Result<Arc<dyn Vfs>> {
        let held = self.inner.hold(directory)?;
        Ok(Arc::new(Self {
            inner: held,
            log: Arc::clone(&self.log),
        }))
    }

    fn is_in_place(&self, directory: &Path) -> io::Result<bool> {
        self.inner.is_in_place(directory)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.record(Operation::on(Call::CreateDir, path), || {
            self.inner.create_dir(path)
        })
    }

    fn entry(&self, path: &Path) -> io::Result<Option<Entry>> {
        self.inner.entry(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        self.inner.list(path)
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn VfsFile>> {
        let open = || self.inner.open(path, mode);
        let inner = match mode {
            OpenMode::CreateNew => self.record(Operation::on(Call::Create, path), open)?,
            OpenMode::Read | OpenMode::ReadWrite => open()?,
        };
        let log = Arc::clone(&self.log);
        Ok(Arc::new(RecordingFile {
            inner,
            log,
            path: path.to_owned(),
        }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let operation = Operation {
            to: Some(to.to_owned()),
            ..Operation::on(Call::Rename, from)
        };
        self.record(operation, || self.inner.rename(from, to))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.record(Operation::on(Call::Remove, path), || {
            self.inner.remove(path)
        })
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.record(Operation::on(Call::SyncDir, path), || {
            self.inner.sync_dir(path)
        })
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
        self.inner.at(moment);
    }
}

#[derive(Debug)]
struct RecordingFile {
    inner: Arc<dyn VfsFile>,
    log: Arc<Log>,
    path: PathBuf,
}

impl ForwardingFile for RecordingFile {
    fn inner(&self) -> &dyn VfsFile {
        &*self.inner
    }

    fn write_vectored_at(&self, bufs: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        let bytes = bufs.iter().flat_map(|buf| buf.iter().copied()).collect();
        let operation = Operation {
            offset,
            bytes,
            ..Operation::on(Call::Write, &self.path)
        };
        self.log
            .record(operation, || self.inner.write_vectored_at(bufs, offset))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.log
            .record(Operation::on(Call::SyncData, &self.path), || {
                self.inner.sync_data()
            })
    }

    fn sync_all(&self) -> io::Result<()> {
        self.log
            .record(Operation::on(Call::SyncAll, &self.path), || {
                self.inner.sync_all()
            })
    }
}

/// All phases; the index of a phase is its sequence number.
#[derive(Debug, Default)]
struct Log(Mutex<Vec<Phase>>);

impl Log {
    fn push(&self, phase: Phase) -> u64 {
        let mut phases = self.0.lock();
        phases.push(phase);
        phases.len() as u64 - 1
    }

    fn record<T>(
        &self,
        operation: Operation,
        call: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<T> {
        let began = self.push(Phase::Begin(operation));
        let result = call();
        self.push(Phase::End {
            began,
            ok: result.is_ok(),
        });
        result
    }
}

/// A changing call that a power cut may still undo.
#[derive(Debug)]
struct Change<'a> {
    operation: &'a Operation,
    began: u64,
    ended: Option<u64>,
}

impl Change<'_> {
    fn is_covered_by(&self, sync: &Operation, began: u64) -> bool {
        self.ended.is_some_and(|ended| ended < began) && self.operation.is_covered_by(sync)
    }
}

/// Record the end of the change that began with the number `began`. Calls that change nothing are
/// not in `changes`.
fn end(changes: &mut [Change<'_>], began: u64, at: u64) {
    if let Some(change) = changes
        .iter_mut()
        .rev()
        .find(|change| change.began == began)
    {
        change.ended = Some(at);
    }
}

fn operation(phases: &[Phase], began: u64) -> Option<&Operation> {
    match phases.get(usize::try_from(began).ok()?)? {
        Phase::Begin(operation) => Some(operation),
        Phase::Answer(_) | Phase::End { .. } => None,
    }
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    !part.is_empty() && bytes.windows(part.len()).any(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::super::{Failure, Fault, Lie, LyingVfs, SimVfs};
    use super::*;

    fn recording() -> (SimVfs, RecordingVfs) {
        let sim = SimVfs::tracked(1);
        (sim.clone(), RecordingVfs::new(Arc::new(sim)))
    }

    fn write(file: &dyn VfsFile, bytes: &[u8]) {
        file.write_vectored_at(&[IoSlice::new(bytes)], 0).unwrap();
    }

    fn unsynced(vfs: &RecordingVfs) -> Vec<Call> {
        vfs.unsynced_at(vfs.answer("now"))
            .into_iter()
            .map(|operation| operation.call)
            .collect()
    }

    #[test]
    fn a_sync_of_another_file_covers_no_write() {
        let (_, vfs) = recording();
        let a = vfs.open(Path::new("/a"), OpenMode::CreateNew).unwrap();
        let b = vfs.open(Path::new("/b"), OpenMode::CreateNew).unwrap();
        vfs.sync_dir(Path::new("/")).unwrap();
        write(&*a, b"x");
        b.sync_data().unwrap();
        assert_eq!(unsynced(&vfs), [Call::Write]);
        a.sync_data().unwrap();
        assert_eq!(unsynced(&vfs), []);
    }

    #[test]
    fn a_failed_sync_covers_no_write() {
        let (sim, vfs) = recording();
        let file = vfs.open(Path::new("/a"), OpenMode::CreateNew).unwrap();
        vfs.sync_dir(Path::new("/")).unwrap();
        write(&*file, b"x");
        sim.fail(Fault::once(Call::SyncData, 1, Failure::EIO));
        assert!(file.sync_data().is_err());
        assert_eq!(unsynced(&vfs), [Call::Write]);
    }

    #[test]
    fn a_sync_that_began_before_the_end_of_a_write_does_not_cover_it() {
        let (_, vfs) = recording();
        let on = |call| Phase::Begin(Operation::on(call, Path::new("/a")));
        let write = vfs.log.push(on(Call::Write));
        let sync = vfs.log.push(on(Call::SyncData));
        vfs.log.push(Phase::End {
            began: write,
            ok: true,
        });
        vfs.log.push(Phase::End {
            began: sync,
            ok: true,
        });
        assert_eq!(unsynced(&vfs), [Call::Write]);
    }

    #[test]
    fn a_sync_that_has_not_ended_covers_no_write() {
        let (_, vfs) = recording();
        let on = |call| Phase::Begin(Operation::on(call, Path::new("/a")));
        let write = vfs.log.push(on(Call::Write));
        vfs.log.push(Phase::End {
            began: write,
            ok: true,
        });
        let sync = vfs.log.push(on(Call::SyncData));
        assert_eq!(unsynced(&vfs), [Call::Write]);
        vfs.log.push(Phase::End {
            began: sync,
            ok: true,
        });
        assert_eq!(unsynced(&vfs), []);
    }

    #[test]
    fn a_sync_covers_only_the_writes_that_ended_before_it() {
        let (_, vfs) = recording();
        let on = |call, offset| {
            let operation = Operation {
                offset,
                ..Operation::on(call, Path::new("/a"))
            };
            vfs.log.push(Phase::Begin(operation))
        };
        let (ended, _pending) = (on(Call::Write, 1), on(Call::Write, 2));
        vfs.log.push(Phase::End {
            began: ended,
            ok: true,
        });
        let sync = on(Call::SyncData, 0);
        vfs.log.push(Phase::End {
            began: sync,
            ok: true,
        });
        let left = vfs.unsynced_at(vfs.answer("now"));
        assert_eq!(
            left.iter()
                .map(|operation| operation.offset)
                .collect::<Vec<_>>(),
            [2]
        );
    }

    #[test]
    fn a_name_is_unsynced_until_its_directory_is_synced() {
        let (_, vfs) = recording();
        vfs.create_dir(Path::new("/d")).unwrap();
        vfs.open(Path::new("/t"), OpenMode::CreateNew).unwrap();
        vfs.rename(Path::new("/t"), Path::new("/d/f")).unwrap();
        vfs.sync_dir(Path::new("/")).unwrap();
        assert_eq!(unsynced(&vfs), [Call::Rename]);
        vfs.sync_dir(Path::new("/d")).unwrap();
        vfs.remove(Path::new("/d/f")).unwrap();
        assert_eq!(unsynced(&vfs), [Call::Remove]);
    }

    #[test]
    fn a_sync_that_an_outer_file_system_skips_covers_no_write() {
        let (_, vfs) = recording();
        let liar = LyingVfs::new(Arc::new(vfs.clone()), Lie::Files);
        let file = liar.open(Path::new("/a"), OpenMode::CreateNew).unwrap();
        liar.sync_dir(Path::new("/")).unwrap();
        write(&*file, b"x");
        file.sync_data().unwrap();
        assert_eq!(unsynced(&vfs), [Call::Write]);
    }

    #[test]
    fn write_of_returns_the_first_write_with_the_bytes() {
        let (_, vfs) = recording();
        let file = vfs.open(Path::new("/a"), OpenMode::CreateNew).unwrap();
        write(&*file, b"some event");
        let began = vfs.write_of(b"event").unwrap();
        let found = vfs
            .records()
            .into_iter()
            .find(|record| record.sequence == began)
            .unwrap();
        assert!(matches!(found.phase, Phase::Begin(operation) if operation.bytes == b"some event"));
        assert_eq!(vfs.write_of(b"other"), None);
    }
}
