//! The public interface of the engine: open, append, read, subscribe, verify, close.

use std::fmt;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::append::Appended;
use crate::commit::{AnswerCallback, Committer, Prepared, Request, Ticket};
use crate::coord::{Lock, LockGuard, Phase, Session, sessions};
use crate::error::{Error, Result};
use crate::filter::OwnedFilter;
use crate::heartbeat::{Heartbeat, LiveSession};
use crate::index::Index;
use crate::live::LiveLog;
use crate::log::bytes_below;
use crate::names;
use crate::open::{OpenLog, View, open};
use crate::options::{Options, ReadMode};
use crate::read::{
    CategoryQuery, CategoryStreams, LogQuery, ReadBatch, Snapshot, SnapshotQuery, StreamNames,
    StreamQuery,
};
use crate::stats::Stats;
use crate::verify::{Depth, VerifyReport, verify};
use crate::vfs::{Hold, Vfs};
use crate::watch::WaitGuard;

/// An open store. Clones share it. It is closed with the last clone, or by [`Store::close`].
#[derive(Clone, Debug)]
pub struct Store {
    open: Arc<Open>,
}

struct Open {
    committer: Arc<Committer>,
    closed: AtomicBool,
    live: Lock,
    heartbeat: Arc<Heartbeat>,
    /// Set for a read-only session.
    view: Option<View>,
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
    /// Open the store in a directory. Recover it if it was not closed, or create it if the options
    /// allow that.
    ///
    /// # Errors
    ///
    /// [`Error::StoreBusy`], [`Error::NotAStore`], [`Error::IncompatibleFormat`] or
    /// [`Error::CorruptStore`]; [`Error::Moved`] if [`Options::identity`] names another store;
    /// [`Error::Io`] with the path.
    pub fn open(vfs: Arc<dyn Vfs>, directory: &Path, options: Options) -> Result<Self> {
        let store = Self::new(open(vfs, directory, options)?);
        let committer = &store.open.committer;
        if options.background && committer.log.coord.session().is_some() {
            committer.watch_others()?;
        }
        Ok(store)
    }

    fn new(opened: OpenLog) -> Self {
        let OpenLog {
            log,
            tail,
            start,
            live,
            view,
        } = opened;
        let heartbeat = Heartbeat::new(&log, start.background);
        Self {
            open: Arc::new(Open {
                heartbeat,
                committer: Committer::new(Arc::new(log), tail, start),
                closed: AtomicBool::new(false),
                live,
                view,
            }),
        }
    }

    /// Return the log if this session may append to it.
    fn writable(&self) -> Result<&LiveLog> {
        let log = self.log()?;
        if self.open.view.is_none() {
            return Ok(log);
        }
        Err(Error::Io {
            path: log.segments.layout.root.clone(),
            operation: "append to",
            kind: ErrorKind::ReadOnlyFilesystem,
            code: None,
            reason: "the store was opened read-only; open it without read_only to append"
                .to_owned(),
        })
    }

    /// Return the log with everything that is durable, including what other sessions have written.
    fn current(&self, mode: ReadMode) -> Result<&LiveLog> {
        let log = self.log()?;
        self.open.committer.catch_up(mode)?;
        Ok(log)
    }

    fn log(&self) -> Result<&LiveLog> {
        if self.open.closed.load(Ordering::Acquire) {
            return Err(Error::Closed);
        }
        Ok(&self.open.committer.log)
    }

    /// Append and return once the outcome is durable.
    ///
    /// # Errors
    ///
    /// After [`Error::VersionConflict`], [`Error::IdempotencyMismatch`], [`Error::StorageFull`],
    /// [`Error::Poisoned`] and [`Error::Closed`] nothing was written. After
    /// [`Error::OutcomeUnknown`] the append may or may not be in the log.
    pub fn append(&self, prepared: Prepared) -> Result<Appended> {
        let ticket = self.begin(prepared)?;
        loop {
            if let Some(result) = ticket.wait(Duration::MAX) {
                return result;
            }
        }
    }

    /// Start an append and return a ticket to wait on. The calling thread may commit the append
    /// itself, together with those of other callers.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`]. The ticket returns every other outcome.
    pub fn begin(&self, mut prepared: Prepared) -> Result<Ticket> {
        prepared.bind(&self.writable()?.hasher);
        let (ticket, done) = Ticket::new();
        self.open.committer.append(Request::new(prepared, done));
        Ok(ticket)
    }

    /// Queue an append for the background thread, and return a ticket to wait on. When this returns,
    /// an append that builds on this one can be queued behind it.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`]. The ticket returns every other outcome.
    pub fn queue(&self, mut prepared: Prepared) -> Result<Ticket> {
        prepared.bind(&self.writable()?.hasher);
        let (ticket, done) = Ticket::new();
        self.open.committer.submit(Request::new(prepared, done));
        Ok(ticket)
    }

    /// Start an append. `done` is called exactly once with the outcome, on a thread of the engine
    /// or of another caller. It may call the store, but it must not block, because other callers
    /// wait for the same thread. A panic in it is caught.
    pub fn submit(&self, mut prepared: Prepared, done: Box<dyn FnOnce(Result<Appended>) + Send>) {
        let done: AnswerCallback = done;
        match self.writable() {
            Ok(log) => {
                prepared.bind(&log.hasher);
                self.open.committer.submit(Request::new(prepared, done));
            }
            Err(e) => done(Err(e)),
        }
    }

    /// Reserve streams for at most [`crate::LONGEST_RESERVATION`]: single streams, and all streams
    /// of categories. Until the reservation ends, appends to these streams wait, in every process, unless they are made [`Prepared::under`]
    /// it. Return the id of the reservation, or `None` if another one is in force.
    ///
    /// A reservation only delays writers that would otherwise win a race. It guarantees nothing: it
    /// may end at any time, and it ends with this process. Only the first 16 categories and streams
    /// are reserved.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] for an invalid name; [`Error::Closed`]; [`Error::Io`] for a
    /// read-only store.
    pub fn reserve(
        &self,
        streams: &[&str],
        categories: &[&str],
        time: Duration,
    ) -> Result<Option<u64>> {
        let log = self.writable()?;
        for stream in streams {
            names::check_stream(stream)?;
        }
        for category in categories {
            names::check_category(category)?;
        }
        let of_streams = streams.iter().map(|stream| log.hasher.stream(stream));
        let of_categories = categories.iter().map(|name| log.hasher.category(name));
        let hashes = of_categories.chain(of_streams);
        self.open.committer.reserve(hashes, time)
    }

    /// End a reservation, if it is still recorded.
    pub fn release(&self, reservation: u64) {
        self.open.committer.release(reservation);
    }

    /// Return the durable result of an earlier append with this key. If `content` is given, it must
    /// be the content of that append.
    ///
    /// # Errors
    ///
    /// [`Error::IdempotencyMismatch`] if the content differs; [`Error::WouldBlock`] for a
    /// non-blocking read.
    pub fn committed(
        &self,
        key: &str,
        content: Option<&[u8]>,
        mode: ReadMode,
    ) -> Result<Option<Appended>> {
        self.current(mode)?.committed(key, content, mode)
    }

    /// Make the durable commits of other sessions visible. Every read does this itself.
    ///
    /// # Errors
    ///
    /// As [`Store::read_stream`]; [`Error::WouldBlock`] where a non-blocking read would return it.
    pub fn catch_up(&self, mode: ReadMode) -> Result<()> {
        self.current(mode).map(drop)
    }

    /// Return the position of the last durable event, or 0 if there is none.
    ///
    /// # Errors
    ///
    /// As [`Store::read_stream`]. If the store can't catch up, an error and not an outdated head is
    /// returned.
    pub fn head(&self) -> Result<u64> {
        Ok(self.current(ReadMode::Blocking)?.watch.head())
    }

    /// Return the number of events in a stream.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] for an invalid stream name.
    pub fn version(&self, stream: &str) -> Result<u64> {
        let log = self.current(ReadMode::Blocking)?;
        names::check_stream(stream)?;
        Ok(log.index.read().version(log.hasher.stream(stream)))
    }

    /// Read a batch of one stream.
    ///
    /// # Errors
    ///
    /// [`Error::CorruptStore`], [`Error::Io`], or [`Error::WouldBlock`] for a non-blocking read.
    pub fn read_stream(&self, query: &StreamQuery<'_>) -> Result<ReadBatch> {
        self.current(query.mode)?.read_stream(query)
    }

    /// Read several streams as of one position.
    ///
    /// # Errors
    ///
    /// As [`Store::read_stream`].
    pub fn read_streams(&self, query: &SnapshotQuery<'_>) -> Result<Snapshot> {
        self.current(query.mode)?.read_streams(query)
    }

    /// Read the names of the streams of a category as of one position.
    ///
    /// # Errors
    ///
    /// As [`Store::read_stream`].
    pub fn category_streams(&self, query: &CategoryQuery<'_>) -> Result<CategoryStreams> {
        self.current(query.mode)?.category_streams(query)
    }

    /// Read a batch of the log in global order.
    ///
    /// # Errors
    ///
    /// As [`Store::read_stream`].
    pub fn read_log(&self, query: &LogQuery<'_>) -> Result<ReadBatch> {
        self.current(query.mode)?.read_log(query)
    }

    /// Start to list the streams that have events now and whose names begin with `prefix`. Without
    /// `system`, names that begin with `$` are left out.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`].
    pub fn streams(&self, prefix: &str, system: bool) -> Result<StreamNames> {
        Ok(self
            .current(ReadMode::Blocking)?
            .stream_names(prefix, system))
    }

    /// Read the names of further streams into a listing. Return whether the listing is complete.
    ///
    /// # Errors
    ///
    /// As [`Store::read_stream`].
    pub fn gather(&self, names: &mut StreamNames) -> Result<bool> {
        self.log()?.gather(names)
    }

    /// Wait until the head is beyond `position` or the timeout is over. Return the head.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`], or [`Error::Poisoned`] if no further events can appear.
    pub fn wait_beyond(&self, position: u64, timeout: Duration) -> Result<u64> {
        let watch = &self.open.committer.log.watch;
        let _waiting = watch.begin_to_wait();
        self.open.committer.listen();
        self.current(ReadMode::Blocking)?;
        let head = watch.wait_beyond(position, timeout);
        let log = self.log()?;
        if head <= position {
            log.health()?;
        }
        Ok(head)
    }

    /// Return an error if a wait for events beyond `position` can't succeed, because no further
    /// events can appear.
    ///
    /// # Errors
    ///
    /// [`Error::Poisoned`] or [`Error::Detached`] if the store has stopped and has no events beyond
    /// `position`; [`Error::Closed`].
    pub fn grows_beyond(&self, position: u64) -> Result<()> {
        let log = self.log()?;
        if log.watch.head() > position {
            return Ok(());
        }
        log.health()
    }

    /// Call `wake` once, when the head is beyond `position` or the store ends. The conditions for
    /// the callback of [`Store::submit`] apply.
    pub fn on_beyond(&self, position: u64, wake: Box<dyn FnOnce() + Send>) -> WaitGuard {
        let registered = self.open.committer.log.watch.on_beyond(position, wake);
        self.deliver_from_others();
        registered
    }

    /// Call `wake` once, when an event beyond `position` matches a filter or the store ends. If the
    /// search for such an event would take long, `wake` may be called without such an event. It
    /// receives the position up to which no event matches. While the wake-up is registered,
    /// [`WaitGuard::passed`] returns that position.
    pub fn on_match(
        &self,
        position: u64,
        filter: &Arc<OwnedFilter>,
        wake: Box<dyn FnOnce(u64) + Send>,
    ) -> WaitGuard {
        let watch = &self.open.committer.log.watch;
        let registered = if filter.is_selective() {
            watch.on_match(position, Arc::clone(filter), wake)
        } else {
            watch.on_beyond(position, Box::new(move || wake(position)))
        };
        self.deliver_from_others();
        registered
    }

    /// Deliver the commits of other processes that were durable before the notification listener began to
    /// follow them. That thread delivers all later commits. Called after a waiter has been
    /// registered.
    fn deliver_from_others(&self) {
        let committer = &self.open.committer;
        committer.listen();
        committer.catch_up_soon();
        committer.log.deliver(ReadMode::NonBlocking);
    }

    /// Return the size of the store and the counters of this session.
    pub fn stats(&self) -> Stats {
        // If the store can't catch up, the numbers describe the commits that are visible.
        let _caught_up = self.open.committer.catch_up(ReadMode::Blocking);
        let log = &self.open.committer.log;
        let segments = log.segments.all();
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
            session: log.counters.read(),
            local: log.local.read(),
            poisoned: log.is_poisoned(),
            unproven: self.open.view.as_ref().map_or(0, |view| view.unproven),
        }
    }

    /// Return the sessions that have the store open, including this one. Empty for a store that is
    /// opened exclusively.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`], or [`Error::Io`] for a lock file that can't be opened.
    pub fn sessions(&self) -> Result<Vec<Session>> {
        let log = self.log()?;
        let Some(session) = log.coord.session() else {
            return Ok(Vec::new());
        };
        session.slot.publish(log.counters.read());
        sessions(&log.segments.layout, &session.slot)
    }

    /// Start the heartbeat of this session. All sessions of the store see it until the store is
    /// closed or the process dies. Return the unique id of the session, the same on each call.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`]; [`Error::Io`] if no thread can be started or the store is read-only.
    pub fn start_heartbeat(&self) -> Result<String> {
        self.writable()?;
        self.open.heartbeat.start_heartbeat()
    }

    /// Register an event loop whose tasks hold leases, and return its number. From now on, the
    /// heartbeat age that other sessions see is at least the time since the last [`Store::tick`] of
    /// the slowest registered loop.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`].
    pub fn register_loop(&self) -> Result<u64> {
        self.log()?;
        Ok(self.open.heartbeat.register_loop())
    }

    /// Record that a registered event loop runs. An unknown number is ignored.
    pub fn tick(&self, number: u64) {
        self.open.heartbeat.tick(number);
    }

    /// Unregister an event loop.
    pub fn unregister_loop(&self, number: u64) {
        self.open.heartbeat.unregister_loop(number);
    }

    /// Return all sessions that send heartbeats, of this process and of others.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`], or [`Error::Io`] for a lock file that can't be opened.
    pub fn live_sessions(&self) -> Result<Vec<LiveSession>> {
        self.log()?;
        self.open.heartbeat.live_sessions()
    }

    /// Read the files of the store again and verify them.
    ///
    /// # Errors
    ///
    /// [`Error::CorruptStore`] with the file and the offset of the first damage.
    pub fn verify(&self, depth: Depth) -> Result<VerifyReport> {
        let log = self.current(ReadMode::Blocking)?;
        let view = self.open.view.as_ref();
        if let Some(damage) = view.and_then(|view| view.damage.as_ref()) {
            return Err(damage.clone());
        }
        verify(log, &*self.open.committer, depth)
    }

    /// Return the unique id that the store received when it was created.
    pub fn identity(&self) -> [u8; 16] {
        self.open.committer.log.segments.identity.uuid
    }

    /// Commit the queued appends, record the durable end of the log and release the directory.
    /// Every clone of the handle is closed. Closing again has no effect.
    ///
    /// # Errors
    ///
    /// [`Error::Poisoned`], or the failure to record the end. The store is closed nevertheless; the
    /// next open finds the end of the log itself.
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
        let mut boot = None;
        let closed = finished.and_then(|durable| self.record_end(durable, &mut boot));
        self.committer.end();
        self.heartbeat.end();
        self.committer.log.segments.release();
        if let Some(session) = self.committer.log.coord.session() {
            session.slot.leave();
        }
        self.live.release();
        // `boot` is released last, so that no session begins while this one still holds `live`.
        drop(boot);
        closed
    }

    /// Record the end of the log in the manifest, if no other session can write to it. While `boot`
    /// contains the lock, no session begins.
    fn record_end(&self, durable: (u64, u64), boot: &mut Option<LockGuard>) -> Result<()> {
        if self.view.is_some() || self.committer.log.segments.is_read_only() {
            return Ok(());
        }
        let coord = &self.committer.log.coord;
        let Some(session) = coord.session() else {
            return self.committer.record_durable(durable);
        };
        let Some(among) = coord.shared() else {
            session.page.set_phase(Phase::Idle);
            return self.committer.record_durable(durable);
        };
        // Other sessions begin only under `boot`. If `live` is not free, some of them are still
        // open.
        *boot = among.locks.boot.acquire_by(Instant::now() + LEAVE)?;
        if boot.is_none() || !among.locks.live.try_lock(Hold::Exclusive)? {
            return Ok(());
        }
        session.page.set_phase(Phase::Idle);
        match self.committer.durable_end_of_log(among) {
            Some(end) => self.committer.record_durable(end),
            None => Ok(()),
        }
    }
}

/// Maximum wait for sessions that begin while this one ends.
const LEAVE: Duration = Duration::from_secs(1);

impl Drop for Open {
    fn drop(&mut self) {
        // A destructor can't report an error. If the close is incomplete, the next open recovers
        // the log.
        let _closed = self.close();
    }
}
