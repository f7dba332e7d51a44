//! The face of the engine: open, append, read, subscribe, verify, close.

use std::fmt;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::commit::{Appended, Committer, Done, Opening, Prepared, Request, Tail, Ticket};
use crate::coord::{
    Booting, Coord, Door, Entered, Entry as Entrant, Held, Joint, Lock, LockNumbers, Locks, Mark,
    Member, Page as SharedPage, Phase, enter, members,
};
use crate::error::{Error, Result};
use crate::index::Index;
use crate::live::LiveLog;
use crate::log::{Claims, Identity, Layout, Manifest, Marker, Segment, Segments, bytes_below};
use crate::names;
use crate::presence::{Presence, Sighting};
use crate::read::{
    Cache, Effort, LogQuery, OwnedFilter, Page, Snapshot, SnapshotQuery, StreamNames, StreamQuery,
};
use crate::recovery::{self, Recovered, Scan, Shown};
use crate::verify::{Depth, Verified, verify};
use crate::vfs::{Hold, OpenMode, Vfs};
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
    /// Who else may open the store meanwhile.
    pub mode: Mode,
    /// How long another process is waited for that has the store or one of its locks.
    pub lock_timeout: Duration,
    /// The id of the store that must be in the directory, if it is known: any other is refused
    /// before anything in it is changed.
    pub identity: Option<[u8; 16]>,
}

/// Who else may open a store while it is open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mode {
    /// Nobody.
    #[default]
    Exclusive,
    /// Any number of processes of this machine, and openings of this process.
    Shared,
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
            mode: Mode::Exclusive,
            lock_timeout: Duration::from_secs(10),
            identity: None,
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
    /// Times that another process was waited for since open.
    pub waits: u64,
    /// Times since open that the wall clock of this machine was found to have been set, by more
    /// than ten seconds. A jump ahead by more than a day is not recorded in commits.
    pub clock_jumps: u64,
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
    live: Lock,
    presence: Arc<Presence>,
    /// Of a store that is only looked at.
    view: Option<View>,
}

/// What there is to know of a store that is only looked at.
#[derive(Debug, Default)]
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
    /// [`Error::CorruptStore`], [`Error::Moved`] where [`Options::identity`] names another
    /// store, or [`Error::Io`] with the path.
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
            layout.ensure_dir(&layout.root)?;
        }
        let layout = layout.hold()?;
        layout.refuse_other_store(options.identity)?;
        let door = Door {
            layout: &layout,
            options: &options,
        };
        let Entered { identity, held } = enter(&door)?;
        let opening = Opened {
            layout,
            identity,
            options,
        };
        match held {
            Held::Alone(live) if options.read_only => opening.look(live),
            Held::Alone(live) => opening.recover(live, None),
            Held::First(locks, boot) => opening.recover_first(locks, boot),
            Held::Among(locks, page) => opening.join(locks, page),
        }
    }

    fn new(log: LiveLog, tail: Tail, opening: Opening, live: Lock, view: Option<View>) -> Self {
        let presence = Presence::new(&log, opening.background);
        Self {
            open: Arc::new(Open {
                presence,
                committer: Committer::new(Arc::new(log), tail, opening),
                closed: AtomicBool::new(false),
                live,
                view,
            }),
        }
    }

    /// Begins to listen for other processes, if there can be any.
    fn attended(self, options: &Options) -> Result<Self> {
        if options.background && self.open.committer.log.coord.joint().is_some() {
            self.open.committer.watch_others()?;
        }
        Ok(self)
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
            code: None,
            reason: "the store was opened with read_only; open it without to append".to_owned(),
        })
    }

    /// The log, with all that is durable by now, whoever wrote it.
    fn current(&self, effort: Effort) -> Result<&LiveLog> {
        let log = self.log()?;
        self.open.committer.catch_up(effort)?;
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
        let done: Done = done;
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

    /// Ends a reservation, unless it has ended.
    pub fn release(&self, reservation: u64) {
        self.open.committer.release(reservation);
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
        self.current(effort)?.committed(key, content, effort)
    }

    /// Learns of what other processes have made durable, as every read does by itself.
    ///
    /// # Errors
    /// As [`Store::read_stream`]; [`Error::WouldBlock`] where an inline read would answer that.
    pub fn catch_up(&self, effort: Effort) -> Result<()> {
        self.current(effort).map(drop)
    }

    /// Position of the last durable event, 0 when there is none.
    ///
    /// # Errors
    /// As [`Store::read_stream`]: no head is better than one that others are beyond.
    pub fn head(&self) -> Result<u64> {
        Ok(self.current(Effort::Blocking)?.watch.head())
    }

    /// How many events a stream has.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for what is no stream name.
    pub fn version(&self, stream: &str) -> Result<u64> {
        let log = self.current(Effort::Blocking)?;
        names::check_stream(stream)?;
        Ok(log.index.read().version(log.hasher.stream(stream)))
    }

    /// A page of one stream.
    ///
    /// # Errors
    /// [`Error::CorruptStore`], [`Error::Io`], [`Error::WouldBlock`] for an inline read.
    pub fn read_stream(&self, query: &StreamQuery<'_>) -> Result<Page> {
        self.current(query.effort)?.read_stream(query)
    }

    /// Several streams as of one position.
    ///
    /// # Errors
    /// As [`Store::read_stream`].
    pub fn read_streams(&self, query: &SnapshotQuery<'_>) -> Result<Snapshot> {
        self.current(query.effort)?.read_streams(query)
    }

    /// A page of the log in global order.
    ///
    /// # Errors
    /// As [`Store::read_stream`].
    pub fn read_log(&self, query: &LogQuery<'_>) -> Result<Page> {
        self.current(query.effort)?.read_log(query)
    }

    /// Begins a listing of the streams whose names begin with `prefix`: those that have events
    /// now; without `system`, none whose name begins with `$`.
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub fn streams(&self, prefix: &str, system: bool) -> Result<StreamNames> {
        Ok(self.current(Effort::Blocking)?.stream_names(prefix, system))
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
        self.open.committer.attend();
        self.current(Effort::Blocking)?;
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
        self.hear_of_others();
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
        self.hear_of_others();
        registered
    }

    /// Delivers what other processes made durable before the watcher thread listened to them;
    /// that thread delivers the rest. Called after the registration of a waiter.
    fn hear_of_others(&self) {
        let committer = &self.open.committer;
        committer.attend();
        committer.catch_up_soon();
        committer.log.deliver(Effort::Inline);
    }

    /// What the store holds and has done.
    pub fn stats(&self) -> Stats {
        // Of a store that can't catch up, the numbers are those of what it shows.
        let _caught_up = self.open.committer.catch_up(Effort::Blocking);
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
            waits: counters.waits.value(),
            clock_jumps: counters.clock_jumps.value(),
            cache_hits: counters.cache_hits.value(),
            cache_misses: counters.cache_misses.value(),
            poisoned: log.is_poisoned(),
            unproven: self.open.view.as_ref().map_or(0, |view| view.unproven),
        }
    }

    /// Who has the store open, this opening included; nobody but it where no other may.
    ///
    /// # Errors
    /// [`Error::Closed`], and [`Error::Io`] for a lock file that can't be looked at.
    pub fn members(&self) -> Result<Vec<Member>> {
        let log = self.log()?;
        let Some(joint) = log.coord.joint() else {
            return Ok(Vec::new());
        };
        joint.entry.tell(&log.counters);
        members(&log.segments.layout, joint)
    }

    /// Has this opening give signs of life from now on, for all who share the store to see,
    /// until the store is closed or the process dies. Answers its id, which is the same each
    /// time and which no other opening ever had.
    ///
    /// # Errors
    /// [`Error::Closed`], and [`Error::Io`] where no thread can be started or the store was
    /// opened to be read only.
    pub fn appear(&self) -> Result<String> {
        self.writable()?;
        self.open.presence.appear()
    }

    /// Registers an event loop whose tasks hold leases, and returns its number. From now on
    /// others see this opening as silent since the last [`Store::tick`] of its slowest loop.
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub fn register_loop(&self) -> Result<u64> {
        self.log()?;
        Ok(self.open.presence.register_loop())
    }

    /// Records that a registered event loop runs. A number that isn't registered is ignored.
    pub fn tick(&self, number: u64) {
        self.open.presence.tick(number);
    }

    /// Ends the registration of an event loop.
    pub fn unregister_loop(&self, number: u64) {
        self.open.presence.unregister_loop(number);
    }

    /// All openings that give signs of life, of this process and of others.
    ///
    /// # Errors
    /// [`Error::Closed`], and [`Error::Io`] for a lock file that can't be looked at.
    pub fn sightings(&self) -> Result<Vec<Sighting>> {
        self.log()?;
        self.open.presence.sightings()
    }

    /// Reads the store's files again and holds them against all that they promise.
    ///
    /// # Errors
    /// [`Error::CorruptStore`] with the file and the offset of the first damage.
    pub fn verify(&self, depth: Depth) -> Result<Verified> {
        let log = self.current(Effort::Blocking)?;
        let view = self.open.view.as_ref();
        if let Some(damage) = view.and_then(|view| view.damage.as_ref()) {
            return Err(damage.clone());
        }
        verify(log, &self.open.committer, depth)
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
        self.presence.end();
        self.committer.log.segments.release();
        if let Some(joint) = self.committer.log.coord.joint() {
            joint.entry.leave();
        }
        self.live.free();
        // Nobody comes in before this opening is gone, which may hold `live` no more.
        drop(boot);
        closed
    }

    /// Records where the log ends, if nobody else can write to it. What is put into `boot`
    /// keeps others from coming in.
    fn record_end(&self, durable: (u64, u64), boot: &mut Option<Booting>) -> Result<()> {
        if self.view.is_some() || self.committer.log.segments.is_read_only() {
            return Ok(());
        }
        let coord = &self.committer.log.coord;
        let Some(joint) = coord.joint() else {
            return self.committer.record_durable(durable);
        };
        let Some(among) = coord.shared() else {
            joint.page.set_phase(Phase::Idle);
            return self.committer.record_durable(durable);
        };
        // Others come in only through `boot`, and they are still here if `live` is not free.
        *boot = among.locks.boot.hold_by(Instant::now() + LEAVE)?;
        if boot.is_none() || !among.locks.live.try_take(Hold::Exclusive)? {
            return Ok(());
        }
        joint.page.set_phase(Phase::Idle);
        match self.committer.end_of_all(among) {
            Some(end) => self.committer.record_durable(end),
            None => Ok(()),
        }
    }
}

/// How often a log is read that looks damaged while others may write to it.
const LOOKS: u32 = 8;

/// How long who leaves waits for those who come.
const LEAVE: Duration = Duration::from_secs(1);

impl Drop for Open {
    fn drop(&mut self) {
        // A destructor can't report; the next opening recovers whatever this did not finish.
        let _closed = self.close();
    }
}

/// A store that was entered, and is about to be opened.
struct Opened {
    layout: Layout,
    identity: Identity,
    options: Options,
}

impl Opened {
    fn cache(&self) -> Cache {
        Cache::of_bytes(self.options.cache)
    }

    /// Opens a store without a change to anything. What is shown of it changes no more, so
    /// that where others may come in they need not wait for the end of the look.
    fn look(self, live: Lock) -> Result<Store> {
        let shown = match self.options.mode {
            Mode::Exclusive => recovery::look(&self.layout, &self.identity)?,
            Mode::Shared => self.look_beside_writers(&live)?,
        };
        let cache = self.cache();
        let (seed, hasher) = (self.identity.seed(), self.identity.hasher());
        let coord = Arc::new(Coord::alone(&self.layout));
        let claims = Claims::none(&self.layout);
        let segments = Segments::new(
            self.layout,
            self.identity,
            self.options,
            Arc::clone(&coord),
            claims,
            (shown.segments, shown.manifest),
        );
        let tail = Tail {
            segment: segments.of_tail(shown.tail).ok_or(Error::Closed)?,
            address: shown.tail,
            next_position: shown.next_position,
            chain: shown.chain,
        };
        let opening = Opening {
            epoch: 0,
            background: false,
            durable: mark(&tail, tail.address, 0),
        };
        let view = View {
            unproven: shown.unproven,
            damage: shown.damage,
        };
        let log = LiveLog::new(segments, coord, shown.index, cache, seed, hasher);
        Ok(Store::new(log, tail, opening, live, Some(view)))
    }

    /// Reads the log without keeping writers waiting, which may take long: nothing below what is
    /// proven durable ever changes. A writer that comes meanwhile may be seen amid a write, so
    /// what looks like damage counts only if no writer is there, or if it is the same again.
    fn look_beside_writers(&self, live: &Lock) -> Result<Shown> {
        live.free();
        let look = || recovery::look(&self.layout, &self.identity);
        let mut shown = look();
        for _ in 0..LOOKS {
            let before = match &shown {
                Ok(Shown { damage: None, .. }) => break,
                Ok(Shown {
                    damage: Some(damage),
                    ..
                }) => damage.to_string(),
                Err(e) => e.to_string(),
            };
            let is_alone = live.try_take(Hold::Exclusive)?;
            shown = look();
            live.free();
            let same = match &shown {
                Ok(found) => found
                    .damage
                    .as_ref()
                    .is_some_and(|e| e.to_string() == before),
                Err(e) => e.to_string() == before,
            };
            if is_alone || same {
                break;
            }
        }
        shown
    }

    /// Opens a store that nobody else has, so that others may come in later.
    fn recover_first(self, locks: Locks, boot: Booting) -> Result<Store> {
        let live = locks.live.clone();
        let joint = match self.make_page(locks.numbers, live.number().unwrap_or(0)) {
            Ok(page) => {
                let entry = Entrant::take(&self.layout, &page, false)?;
                Some(Joint { page, locks, entry })
            }
            // On a full disk the store can still be read, by one process.
            Err(Error::StorageFull { .. }) => None,
            Err(e) => return Err(e),
        };
        let opened = self.recover(live, joint)?;
        drop(boot);
        Ok(opened)
    }

    fn make_page(&self, locks: LockNumbers, root: u64) -> Result<SharedPage> {
        let path = self.layout.page();
        self.layout.remove_if_there(&path)?;
        let words = self.layout.vfs.open_page(&path, OpenMode::CreateNew);
        let words = words.map_err(|e| Error::io(&path, "create", &e))?;
        let session = random_word(&*self.layout.vfs)?;
        let kernel = self.layout.vfs.kernel();
        let made = SharedPage::make(words, session, self.identity.uuid, kernel, locks, root);
        made.map_err(|e| Error::io(&path, "look at", &e))
    }

    /// Opens the store after making sure of its log, with `live` held alone.
    fn recover(self, live: Lock, joint: Option<Joint>) -> Result<Store> {
        let recovered = recovery::recover(&self.layout, &self.identity)?;
        // Without a thread that hears a knock, the store is open to others from the first.
        let is_shared = joint.is_some() && !self.options.background;
        let coord = Arc::new(Coord::new(
            &self.layout,
            joint,
            is_shared,
            self.options.lock_timeout,
        ));
        let Recovered {
            claims,
            segments,
            manifest,
            listed,
            poisoned,
            seal,
            index,
            ..
        } = recovered;
        let Recovered {
            tail: end,
            next_position,
            chain,
            last_commit_time,
            ..
        } = recovered;
        let cache = self.cache();
        let epoch = random_word(&*self.layout.vfs)?;
        let segments = Segments::new(
            self.layout,
            self.identity,
            self.options,
            Arc::clone(&coord),
            claims,
            (segments, manifest),
        );
        let mut address = end;
        if let Some(seal) = seal {
            address = segments.create_sealing(seal)?.first_frame();
        } else if segments.all().is_empty() {
            segments.create_first()?;
        } else {
            segments.settle(listed)?;
        }
        if poisoned {
            Marker::lift(&segments.layout)?;
        }
        let tail = Tail {
            segment: segments.of_tail(address).ok_or(Error::Closed)?,
            address,
            next_position,
            chain,
        };
        tail.segment.activate()?;
        segments.release_before(&tail.segment);
        let durable = mark(&tail, address, last_commit_time);
        if let Some(joint) = coord.joint() {
            joint.page.publish_tail(&durable);
            joint.page.publish_durable(&durable);
            joint.page.set_generation(segments.generation());
        }
        segments.share()?;
        if let Some(joint) = coord.joint() {
            // Who wants the store alone may come between the two states of the lock.
            if is_shared && !joint.locks.live.try_take(Hold::Shared)? {
                return Err(Error::StoreBusy {
                    path: segments.layout.root.clone(),
                    holder: "another process, which took it for itself alone".to_owned(),
                });
            }
            joint.page.set_phase(if is_shared {
                Phase::Shared
            } else {
                Phase::Sole
            });
        }
        let opening = Opening {
            epoch,
            background: self.options.background,
            durable,
        };
        let (seed, hasher) = (self.identity.seed(), self.identity.hasher());
        let log = LiveLog::new(segments, coord, index, cache, seed, hasher);
        Store::new(log, tail, opening, live, None).attended(&self.options)
    }

    /// Joins the processes that have the store. What they have written is theirs to make sure
    /// of; it is read as far as they say it is durable.
    fn join(self, locks: Locks, page: SharedPage) -> Result<Store> {
        let live = locks.live.clone();
        let entry = Entrant::take(&self.layout, &page, self.options.read_only)?;
        let lost = || Error::detached(&self.layout.page(), "its records are damaged");
        let durable = page.durable().ok_or_else(lost)?;
        let (segments, manifest) = self.listed(durable.ordinal)?;
        let claims = if self.options.read_only {
            Claims::none(&self.layout)
        } else {
            Claims::joined(&self.layout)?
        };
        for segment in &segments {
            if !self.options.read_only && segment.entry.ordinal >= durable.ordinal {
                claims.add(segment.entry.ordinal, &segment.path)?;
            }
        }
        let mut scan = Scan::new(self.identity.seed(), self.identity.hasher());
        scan.run(&segments, durable.end)?;
        if scan.tail != durable.end && durable.next_position > 1 {
            return Err(scan.damage(&segments, durable.end));
        }
        if scan.chain != durable.chain || scan.next_position != durable.next_position {
            let reason = "its record of what is durable is not that of the log";
            return Err(Error::detached(&self.layout.page(), reason));
        }
        let cache = self.cache();
        let epoch = random_word(&*self.layout.vfs)?;
        let joint = Joint { page, locks, entry };
        let coord = Coord::new(&self.layout, Some(joint), true, self.options.lock_timeout);
        let coord = Arc::new(coord);
        let segments = Segments::new(
            self.layout,
            self.identity,
            self.options,
            Arc::clone(&coord),
            claims,
            (segments, manifest),
        );
        let tail = Tail {
            segment: segments.of_ordinal(durable.ordinal).ok_or(Error::Closed)?,
            address: durable.address,
            next_position: durable.next_position,
            chain: durable.chain,
        };
        if !self.options.read_only {
            tail.segment.activate()?;
        }
        let opening = Opening {
            epoch,
            background: self.options.background,
            durable,
        };
        let (seed, hasher) = (self.identity.seed(), self.identity.hasher());
        let log = LiveLog::new(segments, coord, scan.index, cache, seed, hasher);
        let view = self.options.read_only.then(View::default);
        Store::new(log, tail, opening, live, view).attended(&self.options)
    }

    /// The segments up to one that is known to be there. CURRENT may name a manifest that is
    /// being replaced in this moment.
    fn listed(&self, ordinal: u64) -> Result<(Vec<Arc<Segment>>, Manifest)> {
        let is_writable = !self.options.read_only;
        let deadline = Instant::now() + LEAVE;
        loop {
            let (segments, manifest, missing) =
                recovery::view(&self.layout, &self.identity, is_writable)?;
            if manifest.generation > 0 && segments.iter().any(|s| s.entry.ordinal == ordinal) {
                return Ok((segments, manifest));
            }
            if Instant::now() >= deadline {
                let reason = "it does not list the segments of the log";
                let unlisted = Error::corrupt(&self.layout.current(), 0, reason);
                return Err(missing.unwrap_or(unlisted));
            }
            self.layout.vfs.pause(Duration::from_millis(1));
        }
    }
}

/// A place in the log all below which is durable and known.
fn mark(tail: &Tail, end: u64, commit_time: u64) -> Mark {
    Mark {
        address: tail.address,
        end,
        next_position: tail.next_position,
        chain: tail.chain,
        ordinal: tail.segment.entry.ordinal,
        commit_time,
        // A log that was only opened needs no mark of its end.
        is_marked: true,
    }
}

fn random_word(vfs: &dyn Vfs) -> Result<u64> {
    let mut bytes = [0; 8];
    vfs.random(&mut bytes)
        .map_err(|e| Error::io(Path::new(""), "draw randomness for", &e))?;
    Ok(u64::from_le_bytes(bytes))
}
