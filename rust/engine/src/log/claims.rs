//! Locks on the files of the log themselves, whatever directory they are reached through.
//!
//! The locks of a store belong to its directory. A snapshot by hard links, a bind mount or a
//! symbolic link reaches the same files through another directory, whose locks are free: two
//! sessions would append to one file, each over the frames of the other. So a session that
//! writes holds a lock on the directory `log/` and on each segment that it may append to.
//! The sessions of one store directory share these locks. The first of them, which has the
//! directory to itself, tries them exclusively and so finds the sessions of any other.
//!
//! A segment that is to be appended to and has a further name is copied first: the other name
//! keeps the file, and neither side sees what the other appends. Segments before the end of
//! the log are never written again and may be linked without limit.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::frame_scanner::FrameScanner;
use super::identity::Identity;
use super::layout::Layout;
use super::open_segment::open_listed;
use super::segment::Segment;
use crate::error::{Error, Result};
use crate::lock::Mutex;
use crate::vfs::{Hold, LockFile, VfsFile, read_full, write_all_at};

/// How long a lock is tried again that is held while another store looks at the file.
const WAIT: Duration = Duration::from_secs(5);
/// The segment with the end of the log, the one prepared after it, and two more where one that
/// was prepared was too small.
const KEPT: usize = 4;
/// Bytes that are copied at a time.
const PIECE: usize = 64 << 10;
/// How often a piece is read that changes while it is copied.
const READS: u32 = 10_000;

/// The locks of one session on the files that it writes to.
#[derive(Debug)]
pub(crate) struct Claims {
    layout: Layout,
    /// `None` for a session that writes nothing, and where locks say nothing of other machines
    /// that have the same files.
    directory: Option<Arc<dyn LockFile>>,
    segments: Mutex<VecDeque<(u64, Arc<dyn LockFile>)>>,
}

impl Claims {
    /// The claims of a session that writes nothing.
    pub(crate) fn none(layout: &Layout) -> Self {
        Self {
            layout: layout.clone(),
            directory: None,
            segments: Mutex::default(),
        }
    }

    /// Begins the claims of the only session in a store directory. They exclude every other
    /// session until [`Claims::share`].
    pub(crate) fn alone(layout: &Layout) -> Result<Self> {
        let claims = Self::open(layout)?;
        let held = |file: &Arc<dyn LockFile>| file.try_lock(Hold::Exclusive);
        match claims.directory.as_ref().map_or(Ok(true), held) {
            Ok(true) => Ok(claims),
            Ok(false) => Err(claims.busy()),
            Err(e) => Err(Error::io(&layout.log(), "lock", &e)),
        }
    }

    /// The claims of a session that joins others of the same store directory.
    pub(crate) fn joined(layout: &Layout) -> Result<Self> {
        let claims = Self::open(layout)?;
        if let Some(directory) = &claims.directory {
            claims.take_shared(&**directory, &layout.log())?;
        }
        Ok(claims)
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

    /// Claims the segments that the log may be appended to, exclusively, and copies each that
    /// has a further name. The caller has written to none of them yet.
    pub(crate) fn own(&self, identity: &Identity, segments: &mut [Arc<Segment>]) -> Result<()> {
        let first = last_with_frames(identity, segments)?;
        // From the end: a segment that has frames proves that the one before it is complete,
        // so the one before it must be copied later.
        for segment in segments.iter_mut().skip(first).rev() {
            let path = &segment.path;
            let file = self.layout.vfs.open_lock(path, false);
            let file = file.map_err(|e| Error::io(path, "lock", &e))?;
            let links = file.links().map_err(|e| segment.error("look at", &e))?;
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

    /// Lets further sessions of the same store directory claim the same files.
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

    /// Claims a segment that another session of this store directory has made.
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

    /// Claims a new segment by the path that it has before it gets its name: no other session
    /// may find it unclaimed.
    pub(crate) fn add_new(&self, ordinal: u64, beside: &Path) -> Result<()> {
        self.add(ordinal, beside)
    }

    fn keep(&self, ordinal: u64, file: Arc<dyn LockFile>) {
        let mut segments = self.segments.lock();
        segments.push_back((ordinal, file));
        while segments.len() > KEPT {
            segments.pop_front();
        }
    }

    /// Frees all locks: another session may write.
    pub(crate) fn release(&self) {
        let segments = std::mem::take(&mut *self.segments.lock());
        for file in segments.iter().map(|(_, file)| file).chain(&self.directory) {
            // It can fail only for a file that isn't open, which has no lock.
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

    /// Replaces a segment with a copy that has one name, and claims the copy.
    fn copy(&self, segment: &Segment) -> Result<Option<Arc<dyn LockFile>>> {
        let claim = |beside: &Path| {
            if self.directory.is_none() {
                return Ok(None);
            }
            let error = |e: io::Error| Error::io(beside, "lock", &e);
            let file = self.layout.vfs.open_lock(beside, false).map_err(error)?;
            // A new file, which no other session can have.
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
        self.layout.place(&segment.path, write, claim)
    }
}

/// Copies a file that may be appended to meanwhile, so that the copy has every byte that was
/// written before any byte that it has.
///
/// Frames are written in order, so the pieces are read from the end: a piece that is read later
/// has what was written before the pieces behind it. Within a piece two equal reads prove the
/// same: what the first one missed was written before the second.
fn copy_backward(from: &dyn VfsFile, to: &dyn VfsFile, size: u64) -> io::Result<()> {
    let (mut piece, mut again) = (vec![0; PIECE], vec![0; PIECE]);
    let mut end = size;
    while end > 0 {
        let start = (end - 1) / PIECE as u64 * PIECE as u64;
        let length = usize::try_from(end - start).unwrap_or(PIECE);
        let (piece, again) = (piece.split_at_mut(length).0, again.split_at_mut(length).0);
        let mut reads = 0;
        read_full(from, again, start)?;
        while piece != again {
            if reads == READS {
                return Err(io::ErrorKind::ResourceBusy.into());
            }
            reads += 1;
            piece.copy_from_slice(again);
            read_full(from, again, start)?;
        }
        write_all_at(to, &[IoSlice::new(piece)], start)?;
        end = start;
    }
    Ok(())
}

/// The index of the last segment that begins with a frame; of the first where none does.
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
