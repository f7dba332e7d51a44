//! A session's locks on the files of the log themselves. They also exclude sessions that reach the
//! same files through another directory.
//!
//! The other locks of a store belong to its directory. A copy by hard links, a bind mount or a
//! symbolic link reaches the same files through another directory, whose locks are free. Two
//! sessions would then append to one file and overwrite each other's frames. So a session that
//! writes also locks the directory `log/` and each segment that it may append to:
//!
//! * The sessions of one store directory hold these locks shared.
//! * The first of them, while it is alone in the store directory, acquires them exclusively. It
//!   fails if a session of another directory has the same files open. It converts the locks to
//!   shared ones before other sessions may join.
//!
//! A segment that may be appended to and has a second name is copied first. The other name keeps
//! the old file, so neither side sees what the other appends. Segments before the end of the log
//! are never written again and may have any number of names.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::directory_layout::Layout;
use super::frame_scanner::FrameScanner;
use super::identity::Identity;
use super::open_segment::open_listed;
use super::segment::Segment;
use crate::error::{Error, Result};
use crate::mutex::Mutex;
use crate::vfs::{Hold, LockFile, VfsFile, read_full, write_all_at};

/// The maximum time for which the acquisition of a shared lock is repeated. A session of another
/// directory may hold the lock exclusively for a moment: until it finds that another lock of the
/// same log is taken, and releases its own.
const WAIT: Duration = Duration::from_secs(5);
/// The maximum number of segments that are kept locked: the one with the end of the log, the one
/// prepared after it, and two more in case a prepared one was too small.
const LOCKED_SEGMENTS: usize = 4;
/// Bytes that are copied at a time.
const BLOCK: usize = 64 << 10;
/// The maximum number of reads of a block that changes while it is copied.
const READS: u32 = 10_000;

/// The locks of one session on the files that it writes to.
#[derive(Debug)]
pub(crate) struct SegmentLocks {
    layout: Layout,
    /// `None` for a session that doesn't write, and on a network file system, where locks don't
    /// exclude other machines that have the same files.
    directory: Option<Arc<dyn LockFile>>,
    /// The locked segments by ordinal, ascending.
    segments: Mutex<VecDeque<(u64, Arc<dyn LockFile>)>>,
}

impl SegmentLocks {
    /// The locks of a session that doesn't write: none.
    pub(crate) fn none(layout: &Layout) -> Self {
        Self {
            layout: layout.clone(),
            directory: None,
            segments: Mutex::default(),
        }
    }

    /// The locks of the only session in a store directory. They exclude the sessions of every
    /// other directory with the same files, until [`SegmentLocks::share`].
    pub(crate) fn alone(layout: &Layout) -> Result<Self> {
        let locks = Self::open(layout)?;
        let held = |file: &Arc<dyn LockFile>| file.try_lock(Hold::Exclusive);
        match locks.directory.as_ref().map_or(Ok(true), held) {
            Ok(true) => Ok(locks),
            Ok(false) => Err(locks.busy()),
            Err(e) => Err(Error::io(&layout.log(), "lock", &e)),
        }
    }

    /// The locks of a session that joins other sessions of the same store directory.
    pub(crate) fn joined(layout: &Layout) -> Result<Self> {
        let locks = Self::open(layout)?;
        if let Some(directory) = &locks.directory {
            locks.take_shared(&**directory, &layout.log())?;
        }
        Ok(locks)
    }

    fn open(layout: &Layout) -> Result<Self> {
        let root = &layout.root;
        let reason = layout.vfs.unshareable(root);
        let has_locks = reason
            .map_err(|e| Error::io(root, "look up", &e))?
            .is_none();
        let directory = if has_locks {
            let log = layout.log();
            let opened = layout.vfs.open_lock(&log, false);
            Some(opened.map_err(|e| Error::io(&log, "lock", &e))?)
        } else {
            None
        };
        Ok(Self {
            directory,
            ..Self::none(layout)
        })
    }

    /// Lock exclusively the segments that may be appended to, and copy each that has a second name.
    /// The caller must not have written to any of them yet.
    pub(crate) fn own(&self, identity: &Identity, segments: &mut [Arc<Segment>]) -> Result<()> {
        let first = last_with_frames(identity, segments)?;
        // The loop goes from the last segment to the first, because a session of another directory
        // may be appending to these files now. If the copy of a later segment contains frames, the
        // copy of the segment before it must contain all earlier frames. So the earlier segment
        // must be copied after the later one.
        for segment in segments.iter_mut().skip(first).rev() {
            let path = &segment.path;
            let file = self.layout.vfs.open_lock(path, false);
            let file = file.map_err(|e| Error::io(path, "lock", &e))?;
            let links = file.links().map_err(|e| segment.error("look up", &e))?;
            if links > 1 {
                let own = self.copy(segment)?;
                let entry = segment.entry;
                let copied = open_listed(&self.layout, identity, entry, true)?;
                *segment = Arc::new(copied);
                self.segments
                    .lock()
                    .extend(own.map(|own| (entry.ordinal, own)));
                continue;
            }
            if self.directory.is_none() {
                continue;
            }
            let held = file.try_lock(Hold::Exclusive);
            if !held.map_err(|e| segment.error("lock", &e))? {
                return Err(self.busy());
            }
            self.segments
                .lock()
                .push_back((segment.entry.ordinal, file));
        }
        self.segments
            .lock()
            .make_contiguous()
            .sort_by_key(|(ordinal, _)| *ordinal);
        Ok(())
    }

    /// Convert the locks to shared, so that further sessions of the same store directory can join.
    pub(crate) fn share(&self) -> Result<()> {
        let segments = self.segments.lock();
        let files = segments.iter().map(|(_, file)| file).chain(&self.directory);
        for file in files {
            let held = file.try_lock(Hold::Shared);
            if !held.map_err(|e| Error::io(&self.layout.log(), "lock", &e))? {
                return Err(self.busy());
            }
        }
        Ok(())
    }

    /// Lock a segment that another session of this store directory has created.
    pub(crate) fn add(&self, ordinal: u64, path: &Path) -> Result<()> {
        if self.directory.is_none() {
            return Ok(());
        }
        let file = self.layout.vfs.open_lock(path, false);
        let file = file.map_err(|e| Error::io(path, "lock", &e))?;
        self.take_shared(&*file, path)?;
        self.keep(ordinal, file);
        Ok(())
    }

    /// Lock a new segment by its temporary path, before it gets its name: a session of another
    /// directory must never find it without the lock.
    pub(crate) fn add_new(&self, ordinal: u64, temporary: &Path) -> Result<()> {
        self.add(ordinal, temporary)
    }

    fn keep(&self, ordinal: u64, file: Arc<dyn LockFile>) {
        let mut segments = self.segments.lock();
        segments.push_back((ordinal, file));
        while segments.len() > LOCKED_SEGMENTS {
            segments.pop_front();
        }
    }

    /// Release all locks.
    pub(crate) fn release(&self) {
        let segments = std::mem::take(&mut *self.segments.lock());
        for file in segments.iter().map(|(_, file)| file).chain(&self.directory) {
            // `unlock` fails only in a forked child, where the file is closed and has no lock.
            let _freed = file.unlock();
        }
    }

    fn take_shared(&self, file: &dyn LockFile, path: &Path) -> Result<()> {
        let deadline = Instant::now() + WAIT;
        loop {
            let held = file.try_lock(Hold::Shared);
            if held.map_err(|e| Error::io(path, "lock", &e))? {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(self.busy());
            }
            self.layout.vfs.pause(Duration::from_millis(1));
        }
    }

    fn busy(&self) -> Error {
        Error::StoreBusy {
            path: self.layout.root.clone(),
            holder: "a process that has the same log open through another directory (a copy by \
                     hard links, a bind mount, or this store before it was moved here)"
                .to_owned(),
        }
    }

    /// Replace a segment with a copy that has one name, and lock the copy.
    fn copy(&self, segment: &Segment) -> Result<Option<Arc<dyn LockFile>>> {
        let lock = |temporary: &Path| {
            if self.directory.is_none() {
                return Ok(None);
            }
            let error = |e: io::Error| Error::io(temporary, "lock", &e);
            let file = self.layout.vfs.open_lock(temporary, false).map_err(error)?;
            // The file is new, so no other session can have locked it.
            if file.try_lock(Hold::Exclusive).map_err(error)? {
                Ok(Some(file))
            } else {
                Err(self.busy())
            }
        };
        let size = segment
            .file
            .size()
            .map_err(|e| segment.error("measure", &e))?;
        let write = |to: &dyn VfsFile| copy_backward(&segment.file, to, size);
        self.layout.write_atomically(&segment.path, write, lock)
    }
}

/// Copy a file to which another session may append at the same time. The copy is a prefix of the
/// log, perhaps with a torn end: if it contains a byte, it contains all bytes that were written
/// before that one.
///
/// Frames are written in order, and the blocks are copied from the last to the first. So the copy
/// of a block contains everything that was written before the blocks after it. Within a block the
/// order of a single read is not defined. Two equal reads in a row prove that nothing was written
/// between the first and the second one, so the block is as it was at one moment.
fn copy_backward(from: &dyn VfsFile, to: &dyn VfsFile, size: u64) -> io::Result<()> {
    let (mut earlier, mut latest) = (vec![0; BLOCK], vec![0; BLOCK]);
    let mut end = size;
    while end > 0 {
        let start = (end - 1) / BLOCK as u64 * BLOCK as u64;
        let length = usize::try_from(end - start).unwrap_or(BLOCK);
        let (earlier, latest) = (
            earlier.split_at_mut(length).0,
            latest.split_at_mut(length).0,
        );
        let mut reads = 0;
        read_full(from, latest, start)?;
        while earlier != latest {
            if reads == READS {
                return Err(io::ErrorKind::ResourceBusy.into());
            }
            reads += 1;
            earlier.copy_from_slice(latest);
            read_full(from, latest, start)?;
        }
        write_all_at(to, &[IoSlice::new(latest)], start)?;
        end = start;
    }
    Ok(())
}

/// Return the index of the last segment that begins with a frame, or 0.
fn last_with_frames(identity: &Identity, segments: &[Arc<Segment>]) -> Result<usize> {
    for (i, segment) in segments.iter().enumerate().rev() {
        let mut scanner = FrameScanner::new(segment);
        let header = scanner.header(segment.first_frame(), identity.seed());
        if header.map_err(|e| segment.error("read", &e))?.is_some() {
            return Ok(i);
        }
    }
    Ok(0)
}
