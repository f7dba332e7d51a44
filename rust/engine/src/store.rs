//! The face of the engine: open, append, read, subscribe, verify, close.

use std::fmt;
use std::io::{ErrorKind, IoSlice};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::lock::Mutex;

use crate::commit::{Appended, Committer, Done, Opening, Prepared, Request, Tail, Ticket};
use crate::error::{Error, Result};
use crate::index::Index;
use crate::live::LiveLog;
use crate::log::{Identity, Layout, Marker, Segments, bytes_below, read_file, shown_holder};
use crate::names;
use crate::read::{
    Cache, Effort, LogQuery, Page, Snapshot, SnapshotQuery, StreamNames, StreamQuery,
};
use crate::recovery::{self, Recovered};
use crate::verify::{Depth, Verified, verify};
use crate::vfs::{OpenMode, Vfs, VfsLock, write_all_at};
use crate::watch::WaitGuard;

/// How a store is opened.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each switches something of its own"
)]
pub struct Options {
    /// Bytes of the first segment file of a new store; each next one is twice as large.
    pub first_segment: u64,
    /// Bytes of a segment file, at most (but for frames that need more).
    pub max_segment: u64,
    /// Bytes of verified log that are kept in memory.
    pub cache: u64,
    /// Whether threads of its own may zero-fill ahead and commit; without them all happens in
    /// the callers' threads, in an order that a test can repeat.
    pub background: bool,
    /// Whether segments are filled with zeros ahead of the tail, which makes syncs cheaper on
    /// a real disk.
    pub zero_fill: bool,
    /// Whether a store is made where nothing is.
    pub create: bool,
    /// Whether the store is only looked at: nothing is created, written, moved or synced, and
    /// the log is shown as far as it is proven durable.
    pub read_only: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            first_segment: 1 << 20,
            max_segment: 128 << 20,
            cache: 64 << 20,
            background: true,
            zero_fill: true,
            create: true,
            read_only: false,
        }
    }
}

/// What a store holds and has done since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Position of the last event.
    pub head: u64,
    /// Streams that have events.
    pub streams: u64,
    /// Bytes of log, frames and headers.
    pub bytes: u64,
    /// Segment files.
    pub segments: u64,
    /// Appends asked for since open.
    pub appends: u64,
    /// Commits written since open.
    pub commits: u64,
    /// Events written since open.
    pub events: u64,
    /// Groups of frames written with one call since open.
    pub groups: u64,
    /// Syncs of the log since open.
    pub fsyncs: u64,
    /// Appends refused by an expectation or a key since open.
    pub conflicts: u64,
    /// Appends answered from an earlier one with the same key since open.
    pub replays: u64,
    /// Chunk loads answered from memory since open.
    pub cache_hits: u64,
    /// Chunk loads that read the file since open.
    pub cache_misses: u64,
    /// Whether a sync has failed, so that nothing more is written until the store is closed
    /// and opened again.
    pub poisoned: bool,
    /// Bytes of log after what a store shows that was opened to be read only. They may be
    /// commits, acknowledged ones among them; an opening to write finds out.
    pub unproven: u64,
}

/// An open store; clones share it. It closes with the last of them, or by [`Store::close`].
#[derive(Clone, Debug)]
pub struct Store {
    open: Arc<Open>,
}

struct Open {
    committer: Arc<Committer>,
    closed: AtomicBool,
    lock: Mutex<Option<Box<dyn VfsLock>>>,
    /// Of a store that is only looked at.
    view: Option<View>,
}

/// What there is to know of a store that is only looked at.
#[derive(Debug)]
struct View {
    unproven: u64,
    damage: Option<Error>,
}

impl fmt::Debug for Open {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let root = &self.committer.log.segments.layout.root;
        f.debug_struct("Open")
            .field("root", root)
            .field("closed", &self.closed)
            .finish_non_exhaustive()
    }
}

impl Store {
    /// Opens the store in a directory, recovering it if it was not closed, or makes one.
    ///
    /// # Errors
    /// [`Error::StoreBusy`], [`Error::NotAStore`], [`Error::IncompatibleFormat`],
    /// [`Error::CorruptStore`], or [`Error::Io`] with the path.
    pub fn open(vfs: Arc<dyn Vfs>, directory: &Path, options: Options) -> Result<Self> {
        let layout = Layout::new(vfs, directory.to_path_buf());
        if !recovery::directory(&layout)? {
            if !options.create || options.read_only {
                let reason = "there is no such directory".to_owned();
                return Err(Error::NotAStore {
                    path: layout.root,
                    reason,
                });
            }
            layout.ensure_dir(directory)?;
        }
        let lock = lock(&layout)?;
        let create = options.create && !options.read_only;
        let identity = recovery::identify(&layout, create)?;
        if options.read_only {
            return Self::look(layout, identity, options, lock);
        }
        let recovered = recovery::recover(&layout, &identity)?;
        let Recovered {
            segments,
            manifest,
            listed,
            poisoned,
            seal,
            index,
            ..
        } = recovered;
        let Recovered {
            mut tail,
            next_position,
            chain,
            last_commit_time,
            ..
        } = recovered;
        tell_holder(&layout);
        let vfs = Arc::clone(&layout.vfs);
        let segments = Segments::new(layout, identity, options, segments, manifest);
        if let Some(seal) = seal {
            tail = segments.create_sealing(seal)?.first_frame();
        } else if segments.all().is_empty() {
            segments.create_first()?;
        } else {
            segments.settle(listed)?;
        }
        if poisoned {
            Marker::lift(&segments.layout)?;
        }
        let segment = segments.of_tail(tail).ok_or(Error::Closed)?;
        let tail = Tail {
            segment,
            address: tail,
            next_position,
            chain,
        };
        let opening = Opening {
            epoch: epoch(&*vfs)?,
            background: options.background,
            last_commit_time,
        };
        let cache = Cache::of_bytes(options.cache);
        let log = LiveLog::new(segments, index, cache, identity.seed(), identity.hasher());
        Ok(Self::new(log, tail, opening, lock, None))
    }

    /// Opens a store without a change to anything.
    fn look(
        layout: Layout,
        identity: Identity,
        options: Options,
        lock: Box<dyn VfsLock>,
    ) -> Result<Self> {
        let shown = recovery::look(&layout, &identity)?;
        let segments = Segments::new(layout, identity, options, shown.segments, shown.manifest);
        let tail = Tail {
            segment: segments.of_tail(shown.tail).ok_or(Error::Closed)?,
            address: shown.tail,
            next_position: shown.next_position,
            chain: shown.chain,
        };
        let opening = Opening {
            epoch: 0,
            background: false,
            last_commit_time: 0,
        };
        let view = View {
            unproven: shown.unproven,
            damage: shown.damage,
        };
        let cache = Cache::of_bytes(options.cache);
        let (seed, hasher) = (identity.seed(), identity.hasher());
        let log = LiveLog::new(segments, shown.index, cache, seed, hasher);
        Ok(Self::new(log, tail, opening, lock, Some(view)))
    }

    fn new(
        log: LiveLog,
        tail: Tail,
        opening: Opening,
        lock: Box<dyn VfsLock>,
        view: Option<View>,
    ) -> Self {
        Self {
            open: Arc::new(Open {
                committer: Committer::new(Arc::new(log), tail, opening),
                closed: AtomicBool::new(false),
                lock: Mutex::new(Some(lock)),
                view,
            }),
        }
    }

    /// The log, if appends may be made to it.
    fn writable(&self) -> Result<&LiveLog> {
        let log = self.log()?;
        if self.open.view.is_none() {
            return Ok(log);
        }
        Err(Error::Io {
            path: log.segments.layout.root.clone(),
            operation: "append to",
            kind: ErrorKind::ReadOnlyFilesystem,
            reason: "the store was opened with read_only; open it without to append".to_owned(),
        })
    }

    fn log(&self) -> Result<&LiveLog> {
        if self.open.closed.load(Ordering::Acquire) {
            return Err(Error::Closed);
        }
        Ok(&self.open.committer.log)
    }

    /// Appends and returns once the outcome is durable.
    ///
    /// # Errors
    /// [`Error::VersionConflict`], [`Error::IdempotencyMismatch`], [`Error::StorageFull`],
    /// [`Error::Poisoned`] and [`Error::Closed`] say that nothing was written;
    /// [`Error::OutcomeUnknown`] says just that.
    pub fn append(&self, prepared: Prepared) -> Result<Appended> {
        let ticket = self.begin(prepared)?;
        loop {
            if let Some(result) = ticket.wait(Duration::MAX) {
                return result;
            }
        }
    }

    /// As [`Store::append`], to be waited for in slices. The calling thread may do the
    /// commit itself, for others too.
    ///
    /// # Errors
    /// [`Error::Closed`]; every other outcome is the ticket's.
    pub fn begin(&self, mut prepared: Prepared) -> Result<Ticket> {
        prepared.bind(&self.writable()?.hasher);
        let (ticket, done) = Ticket::new();
        self.open.committer.append(Request::new(prepared, done));
        Ok(ticket)
    }

    /// As [`Store::append`]; `done` is called exactly once with the outcome, on a thread of
    /// the engine or of another caller. It may call back into the store, and must not block:
    /// others wait for the same thread. A panic in it is caught.
    pub fn submit(&self, mut prepared: Prepared, done: Box<dyn FnOnce(Result<Appended>) + Send>) {
        let done: Done = done;
        match self.writable() {
            Ok(log) => {
                prepared.bind(&log.hasher);
                self.open.committer.submit(Request::new(prepared, done));
            }
            Err(e) => done(Err(e)),
        }
    }

    /// The durable result of an earlier append under this key; with `content`, only if that
    /// was its content.
    ///
    /// # Errors
    /// [`Error::IdempotencyMismatch`] when the content differs; [`Error::WouldBlock`] for an
    /// inline read.
    pub fn committed(
        &self,
        key: &str,
        content: Option<&[u8]>,
        effort: Effort,
    ) -> Result<Option<Appended>> {
        self.log()?.committed(key, content, effort)
    }

    /// Position of the last durable event, 0 when there is none.
    pub fn head(&self) -> u64 {
        self.open.committer.log.watch.head()
    }

    /// How many events a stream has.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for what is no stream name.
    pub fn version(&self, stream: &str) -> Result<u64> {
        let log = self.log()?;
        names::check_stream(stream)?;
        Ok(log.index.read().version(log.hasher.stream(stream)))
    }

    /// A page of one stream.
    ///
    /// # Errors
    /// [`Error::CorruptStore`], [`Error::Io`], [`Error::WouldBlock`] for an inline read.
    pub fn read_stream(&self, query: &StreamQuery<'_>) -> Result<Page> {
        self.log()?.read_stream(query)
    }

    /// Several streams as of one position.
    ///
    /// # Errors
    /// As [`Store::read_stream`].
    pub fn read_streams(&self, query: &SnapshotQuery<'_>) -> Result<Snapshot> {
        self.log()?.read_streams(query)
    }

    /// A page of the log in global order.
    ///
    /// # Errors
    /// As [`Store::read_stream`].
    pub fn read_log(&self, query: &LogQuery<'_>) -> Result<Page> {
        self.log()?.read_log(query)
    }

    /// Begins a listing of the streams whose names begin with `prefix`: those that have events
    /// now.
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub fn streams(&self, prefix: &str) -> Result<StreamNames> {
        Ok(self.log()?.stream_names(prefix))
    }

    /// Reads some of what a listing still needs; answers whether it is complete.
    ///
    /// # Errors
    /// As [`Store::read_stream`].
    pub fn gather(&self, names: &mut StreamNames) -> Result<bool> {
        self.log()?.gather(names)
    }

    /// Waits until the head is beyond `position` or the time is over; answers the head.
    ///
    /// # Errors
    /// [`Error::Closed`], and [`Error::Poisoned`] where nothing more can come.
    pub fn wait_beyond(&self, position: u64, timeout: Duration) -> Result<u64> {
        let head = self.log()?.watch.wait_beyond(position, timeout);
        let log = self.log()?;
        if head <= position {
            log.health()?;
        }
        Ok(head)
    }

    /// Calls `wake` once, when the head is beyond `position`, or the store ends. What holds
    /// for the callback of [`Store::submit`] holds for it.
    pub fn on_beyond(&self, position: u64, wake: Box<dyn FnOnce() + Send>) -> WaitGuard {
        self.open.committer.log.watch.on_beyond(position, wake)
    }

    /// What the store holds and has done.
    pub fn stats(&self) -> Stats {
        let log = &self.open.committer.log;
        let segments = log.segments.all();
        let counters = &log.counters;
        let index = log.index.read();
        let chunks = index.chunks();
        Stats {
            head: index.head(),
            streams: index.streams(),
            bytes: chunks
                .len()
                .checked_sub(1)
                .and_then(|i| chunks.get(i))
                .map_or(0, |last| bytes_below(&segments, last.end())),
            segments: segments.len() as u64,
            appends: counters.appends.value(),
            commits: counters.commits.value(),
            events: counters.events.value(),
            groups: counters.groups.value(),
            fsyncs: counters.syncs.value(),
            conflicts: counters.conflicts.value(),
            replays: counters.replays.value(),
            cache_hits: counters.cache_hits.value(),
            cache_misses: counters.cache_misses.value(),
            poisoned: log.is_poisoned(),
            unproven: self.open.view.as_ref().map_or(0, |view| view.unproven),
        }
    }

    /// Reads the store's files again and holds them against all that they promise.
    ///
    /// # Errors
    /// [`Error::CorruptStore`] with the file and the offset of the first damage.
    pub fn verify(&self, depth: Depth) -> Result<Verified> {
        let log = self.log()?;
        let view = self.open.view.as_ref();
        if let Some(damage) = view.and_then(|view| view.damage.as_ref()) {
            return Err(damage.clone());
        }
        verify(log, &self.open.committer, depth)
    }

    /// Finishes queued appends, records the durable end of the log, and lets go of the
    /// directory. Every clone of the handle is closed; closing again does nothing.
    ///
    /// # Errors
    /// [`Error::Poisoned`], or the failure to record the end; the store is closed all the
    /// same, and the next opening finds the end by itself.
    pub fn close(&self) -> Result<()> {
        self.open.close()
    }
}

impl Open {
    fn close(&self) -> Result<()> {
        if self.closed.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        let finished = self.committer.close();
        let closed = finished.and_then(|durable| match self.view {
            Some(_) => Ok(()),
            None => self.committer.record_durable(durable),
        });
        self.committer.end();
        drop(self.lock.lock().take());
        closed
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        // A destructor can't report; the next opening recovers whatever this did not finish.
        let _closed = self.close();
    }
}

fn lock(layout: &Layout) -> Result<Box<dyn VfsLock>> {
    let root = &layout.root;
    let taken = layout
        .vfs
        .try_lock_dir(root)
        .map_err(|e| Error::io(root, "lock", &e))?;
    match taken {
        Some(lock) => Ok(lock),
        None => Err(Error::StoreBusy {
            path: root.clone(),
            holder: holder(layout),
        }),
    }
}

fn holder(layout: &Layout) -> String {
    match read_file(&*layout.vfs, &layout.holder()) {
        Ok(Some(bytes)) => shown_holder(&bytes),
        _ => "unknown".to_owned(),
    }
}

/// Tells others who holds the store: a help for people, never trusted and never synced. A
/// disk that is full keeps nobody from opening a store to read it.
fn tell_holder(layout: &Layout) {
    let program = std::env::args_os().next().unwrap_or_default();
    let text = format!(
        "process {} running {}",
        std::process::id(),
        program.to_string_lossy()
    );
    let padded: Vec<u8> = text
        .into_bytes()
        .into_iter()
        .chain([b' '; 256])
        .take(256)
        .collect();
    let path = layout.holder();
    let file = match layout.vfs.open(&path, OpenMode::ReadWrite) {
        Err(e) if e.kind() == ErrorKind::NotFound => layout.vfs.open(&path, OpenMode::CreateNew),
        opened => opened,
    };
    let _told = file.and_then(|file| write_all_at(&*file, &[IoSlice::new(&padded)], 0));
}

fn epoch(vfs: &dyn Vfs) -> Result<u64> {
    let mut bytes = [0; 8];
    vfs.random(&mut bytes)
        .map_err(|e| Error::io(Path::new(""), "draw randomness for", &e))?;
    Ok(u64::from_le_bytes(bytes))
}
