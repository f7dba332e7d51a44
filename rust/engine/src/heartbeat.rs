//! Heartbeats: which sessions of a store are alive, and which have stopped.
//!
//! A session that holds a lease has a number that no other session ever had, and a word in the
//! page in which a thread records the time at an interval. Its death is known by the lock of its
//! slot, which the system frees whatever kills the process; that it was stopped is known by the
//! age of the word.
//!
//! A thread of the engine runs on while an event loop hangs, so it can't speak for what lives in
//! that loop. A loop whose tasks hold leases registers here and ticks; the word is then never
//! newer than the last tick of the slowest registered loop.
//!
//! Heartbeats protect nothing. They only show other sessions when they may take over a lease;
//! the expectations of the store enforce that the former holder then writes nothing more.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crate::coord::{Coord, SharedSession, live_sessions};
use crate::error::{Error, Result};
use crate::live::LiveLog;
use crate::lock::{Condvar, Mutex};
use crate::log::Layout;

/// The interval of the heartbeat.
const BEAT: Duration = Duration::from_millis(200);

/// A session that sends heartbeats, as others see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveSession {
    /// Its id, which no other session ever had.
    pub id: String,
    /// How long ago its last heartbeat was.
    pub heartbeat_age: Duration,
}

/// The heartbeat of one session.
pub(crate) struct Presence {
    layout: Layout,
    coord: Arc<Coord>,
    background: bool,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// 0 until the heartbeat is started.
    number: u64,
    thread: Option<JoinHandle<()>>,
    /// When each registered event loop ticked last, in microseconds of uptime.
    loops: BTreeMap<u64, u64>,
    registered: u64,
    ended: bool,
}

impl Presence {
    pub(crate) fn new(log: &LiveLog, background: bool) -> Arc<Self> {
        Arc::new(Self {
            layout: log.segments.layout.clone(),
            coord: Arc::clone(&log.coord),
            background,
            state: Mutex::default(),
            changed: Condvar::new(),
        })
    }

    /// Sends a heartbeat now and at each interval; returns the id of this session.
    pub(crate) fn start_heartbeat(self: &Arc<Self>) -> Result<String> {
        let mut state = self.state.lock();
        if state.ended {
            return Err(Error::Closed);
        }
        if state.number == 0 {
            state.number = self.draw()?;
        }
        if let Some(session) = self.coord.session() {
            self.beat(session, &state);
            if self.background && state.thread.is_none() {
                state.thread = Some(self.start()?);
            }
        }
        Ok(id_of(state.number))
    }

    /// Registers an event loop, which has to tick from now on. Returns its number.
    pub(crate) fn register_loop(&self) -> u64 {
        let mut state = self.state.lock();
        state.registered += 1;
        let number = state.registered;
        let now = self.layout.vfs.uptime_micros();
        state.loops.insert(number, now);
        number
    }

    /// Records that a registered event loop runs; does nothing for another one.
    pub(crate) fn tick(&self, number: u64) {
        let now = self.layout.vfs.uptime_micros();
        if let Some(last) = self.state.lock().loops.get_mut(&number) {
            *last = now;
        }
    }

    /// Ends the registration of an event loop.
    pub(crate) fn unregister_loop(&self, number: u64) {
        self.state.lock().loops.remove(&number);
    }

    /// All sessions that send heartbeats, this one included.
    pub(crate) fn live_sessions(&self) -> Result<Vec<LiveSession>> {
        let own = self.state.lock().number;
        let mut seen = match self.coord.session() {
            None => Vec::new(),
            Some(session) => {
                let now = self.layout.vfs.uptime_micros();
                live_sessions(&self.layout, &session.slot, now)?
            }
        };
        // The session that asks is not stopped.
        seen.retain(|(number, _)| *number != own);
        seen.extend((own != 0).then_some((own, Duration::ZERO)));
        let shown = |(number, heartbeat_age)| LiveSession {
            id: id_of(number),
            heartbeat_age,
        };
        Ok(seen.into_iter().map(shown).collect())
    }

    /// Ends the heartbeat. The session keeps its slot.
    pub(crate) fn end(&self) {
        let thread = {
            let mut state = self.state.lock();
            state.ended = true;
            state.thread.take()
        };
        self.changed.notify_all();
        // A thread that panicked has ended as well.
        let _ended = thread.map(JoinHandle::join);
    }

    fn draw(&self) -> Result<u64> {
        let mut bytes = [0; 8];
        let drawn = self.layout.vfs.random(&mut bytes);
        drawn.map_err(|e| Error::io(&self.layout.root, "draw randomness for", &e))?;
        Ok(u64::from_le_bytes(bytes).max(1))
    }

    fn start(self: &Arc<Self>) -> Result<JoinHandle<()>> {
        let presence = Arc::clone(self);
        let thread = std::thread::Builder::new().name("braid-beat".to_owned());
        thread
            .spawn(move || presence.run())
            .map_err(|e| Error::io(&self.layout.root, "start a thread for", &e))
    }

    fn run(&self) {
        let Some(session) = self.coord.session() else {
            return;
        };
        let mut state = self.state.lock();
        while !state.ended {
            self.beat(session, &state);
            self.changed.wait_for(&mut state, BEAT);
        }
    }

    /// Writes the time of the last moment at which the process and all its registered loops
    /// were seen to run.
    fn beat(&self, session: &SharedSession, state: &State) {
        let now = self.layout.vfs.uptime_micros();
        let slowest = state.loops.values().copied().min().unwrap_or(now);
        session.slot.beat(state.number, now.min(slowest));
    }
}

impl fmt::Debug for Presence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let root = &self.layout.root;
        f.debug_struct("Presence")
            .field("root", root)
            .finish_non_exhaustive()
    }
}

fn id_of(number: u64) -> String {
    format!("{number:016x}")
}
