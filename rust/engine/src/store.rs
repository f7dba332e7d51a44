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
use crate::read::{LogQuery, Page, Snapshot, SnapshotQuery, StreamNames, StreamQuery};
use crate::stats::Stats;
use crate::verify::{Depth, Verified, verify};
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
    /// Opens the store in a directory, recovering it if it was not closed, or makes one.
    ///
    /// # Errors
    /// [`Error::StoreBusy`], [`Error::NotAStore`], [`Error::IncompatibleFormat`],
    /// [`Error::CorruptStore`], [`Error::Moved`] where [`Options::identity`] names another
    /// store, or [`Error::Io`] with the path.
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
            reason: "the store was opened with read_only; open it without to append".to_owned(),
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
        let done: AnswerCallback = done;
        match self.writable() {
            Ok(log) => {
                prepared.bind(&log.hasher);
                self.open.committer.submit(Request::new(prepared, done));
            }
            Err(e) => done(Err(e)),
        }
    }

    /// Reserves streams for a time, at most [`crate::LONGEST_RESERVATION`]: appends of others that
    /// write them wait until it ends, in this process and in others, and those made
    /// [`Prepared::under`] it don't. `None` if a reservation is in force already.
    ///
    /// It is advice to those who would win a race otherwise, and guards nothing: it may end at
    /// any time, and ends with this process. Further streams than 16 are not reserved.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for what is no stream name; [`Error::Closed`]; [`Error::Io`] for
    /// a store that is only read.
    pub fn reserve(&self, streams: &[&str], time: Duration) -> Result<Option<u64>> {
        let log = self.writable()?;
        for stream in streams {
            names::check_stream(stream)?;
        }
        let hashes = streams.iter().map(|stream| log.hasher.stream(stream));
        self.open.committer.reserve(hashes, time)
    }

    /// End a reservation, if it is still recorded.
    pub fn release(&self, reservation: u64) {
        self.open.committer.release(reservation);
    }

    /// The durable result of an earlier append under this key; with `content`, only if that
    /// was its content.
    ///
    /// # Errors
    /// [`Error::IdempotencyMismatch`] when the content differs; [`Error::WouldBlock`] for an
    /// non-blocking read.
    pub fn committed(
        &self,
        key: &str,
        content: Option<&[u8]>,
        mode: ReadMode,
    ) -> Result<Option<Appended>> {
        self.current(mode)?.committed(key, content, mode)
    }

    /// Makes visible what other sessions have made durable, as every read does by itself.
    ///
    /// # Errors
    /// As [`Store::read_stream`]; [`Error::WouldBlock`] where an inline read would answer that.
    pub fn catch_up(&self, mode: ReadMode) -> Result<()> {
        self.current(mode).map(drop)
    }

    /// Position of the last durable event, 0 when there is none.
    ///
    /// # Errors
    /// As [`Store::read_stream`]: no head is better than one that others are beyond.
    pub fn head(&self) -> Result<u64> {
        Ok(self.current(ReadMode::Blocking)?.watch.head())
    }

    /// How many events a stream has.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for what is no stream name.
    pub fn version(&self, stream: &str) -> Result<u64> {
        let log = self.current(ReadMode::Blocking)?;
        names::check_stream(stream)?;
        Ok(log.index.read().version(log.hasher.stream(stream)))
    }

    /// A page of one stream.
    ///
    /// # Errors
    /// [`Error::CorruptStore`], [`Error::Io`], [`Error::WouldBlock`] for an non-blocking read.
    pub fn read_stream(&self, query: &StreamQuery<'_>) -> Result<Page> {
        self.current(query.mode)?.read_stream(query)
    }

    /// Several streams as of one position.
    ///
    /// # Errors
    /// As [`Store::read_stream`].
    pub fn read_streams(&self, query: &SnapshotQuery<'_>) -> Result<Snapshot> {
        self.current(query.mode)?.read_streams(query)
    }

    /// A page of the log in global order.
    ///
    /// # Errors
    /// As [`Store::read_stream`].
    pub fn read_log(&self, query: &LogQuery<'_>) -> Result<Page> {
        self.current(query.mode)?.read_log(query)
    }

    /// Begins a listing of the streams whose names begin with `prefix`: those that have events
    /// now; without `system`, none whose name begins with `$`.
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub fn streams(&self, prefix: &str, system: bool) -> Result<StreamNames> {
        Ok(self
            .current(ReadMode::Blocking)?
            .stream_names(prefix, system))
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

    /// Refuses a wait for more than `position` that would be in vain, since nothing more comes.
    ///
    /// # Errors
    /// [`Error::Poisoned`] or [`Error::Detached`] once the store has stopped and shows no
    /// more; [`Error::Closed`].
    pub fn grows_beyond(&self, position: u64) -> Result<()> {
        let log = self.log()?;
        if log.watch.head() > position {
            return Ok(());
        }
        log.health()
    }

    /// Calls `wake` once, when the head is beyond `position`, or the store ends. What holds
    /// for the callback of [`Store::submit`] holds for it.
    pub fn on_beyond(&self, position: u64, wake: Box<dyn FnOnce() + Send>) -> WaitGuard {
        let registered = self.open.committer.log.watch.on_beyond(position, wake);
        self.deliver_from_others();
        registered
    }

    /// As [`Store::on_beyond`], for an event beyond `position` that matches a filter. A
    /// wake-up without such an event is possible, where a look for it would take long; `wake`
    /// takes the position up to which no event matches. While the wake-up is registered,
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

    /// Deliver what other processes had made durable before the watcher thread followed them. That
    /// thread delivers everything later. Called after a waiter has been registered.
    fn deliver_from_others(&self) {
        let committer = &self.open.committer;
        committer.listen();
        committer.catch_up_soon();
        committer.log.deliver(ReadMode::NonBlocking);
    }

    /// What the store holds and has done.
    pub fn stats(&self) -> Stats {
        // If the store can't catch up, the numbers are those of what it shows.
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

    /// The sessions that have the store open, this one included; none for a store that is opened
    /// exclusively.
    ///
    /// # Errors
    /// [`Error::Closed`], and [`Error::Io`] for a lock file that can't be looked at.
    pub fn sessions(&self) -> Result<Vec<Session>> {
        let log = self.log()?;
        let Some(session) = log.coord.session() else {
            return Ok(Vec::new());
        };
        session.slot.publish(log.counters.read());
        sessions(&log.segments.layout, &session.slot)
    }

    /// Starts the heartbeat of this session, for all sessions of the store to see, until the
    /// store is closed or the process dies. Returns the id of the session, which is the same
    /// each time and which no other session ever had.
    ///
    /// # Errors
    /// [`Error::Closed`], and [`Error::Io`] where no thread can be started or the store was
    /// opened to be read only.
    pub fn start_heartbeat(&self) -> Result<String> {
        self.writable()?;
        self.open.heartbeat.start_heartbeat()
    }

    /// Registers an event loop whose tasks hold leases, and returns its number. From now on
    /// others see this opening as silent since the last [`Store::tick`] of its slowest loop.
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub fn register_loop(&self) -> Result<u64> {
        self.log()?;
        Ok(self.open.heartbeat.register_loop())
    }

    /// Record that a registered event loop runs. Ignore an unknown number.
    pub fn tick(&self, number: u64) {
        self.open.heartbeat.tick(number);
    }

    /// Unregister an event loop.
    pub fn unregister_loop(&self, number: u64) {
        self.open.heartbeat.unregister_loop(number);
    }

    /// All sessions that send heartbeats, of this process and of others.
    ///
    /// # Errors
    /// [`Error::Closed`], and [`Error::Io`] for a lock file that can't be looked at.
    pub fn live_sessions(&self) -> Result<Vec<LiveSession>> {
        self.log()?;
        self.open.heartbeat.live_sessions()
    }

    /// Reads the store's files again and holds them against all that they promise.
    ///
    /// # Errors
    /// [`Error::CorruptStore`] with the file and the offset of the first damage.
    pub fn verify(&self, depth: Depth) -> Result<Verified> {
        let log = self.current(ReadMode::Blocking)?;
        let view = self.open.view.as_ref();
        if let Some(damage) = view.and_then(|view| view.damage.as_ref()) {
            return Err(damage.clone());
        }
        verify(log, &*self.open.committer, depth)
    }

    /// The id that the store was given when it was made, which no other store has.
    pub fn identity(&self) -> [u8; 16] {
        self.open.committer.log.segments.identity.uuid
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
        // Other sessions begin only under `boot`. If `live` is not free, some are still there.
        *boot = among.locks.boot.acquire_by(Instant::now() + LEAVE)?;
        if boot.is_none() || !among.locks.live.try_lock(Hold::Exclusive)? {
            return Ok(());
        }
        session.page.set_phase(Phase::Idle);
        match self.committer.end_of_all(among) {
            Some(end) => self.committer.record_durable(end),
            None => Ok(()),
        }
    }
}

/// Maximum wait for sessions that begin while this one ends.
const LEAVE: Duration = Duration::from_secs(1);

impl Drop for Open {
    fn drop(&mut self) {
        // A destructor can't report an error; the next open recovers whatever is unfinished.
        let _closed = self.close();
    }
}
