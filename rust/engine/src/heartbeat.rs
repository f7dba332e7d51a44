//! Heartbeats: which sessions of a store are alive, and which have stopped working.
//!
//! A session that holds a lease has a unique id, and one of its threads records the time in a word
//! of the shared page at an interval. If the process dies for any reason, the system releases the
//! lock of its slot, and other sessions see that the lock is free. If the process is suspended,
//! other sessions see the age of the recorded time.
//!
//! A thread of the engine continues to run while an event loop hangs, so its heartbeat alone would
//! not show that the tasks of that loop have stopped. An event loop whose tasks hold leases
//! therefore registers here and ticks. The recorded time is never later than the last tick of the
//! slowest registered loop.
//!
//! Heartbeats protect nothing. They only show other sessions when they may take over a lease. The
//! expectations of the store ensure that the former holder writes nothing afterwards.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crate::coord::{Coord, SharedSession, live_sessions};
use crate::error::{Error, Result};
use crate::live::LiveLog;
use crate::log::Layout;
use crate::mutex::{Condvar, Mutex};

/// The interval between heartbeats.
const HEARTBEAT_INTERVAL: Duration = Duration::from_millis(200);

/// A session that sends heartbeats.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveSession {
    /// Its unique id.
    pub id: String,
    /// The age of its last heartbeat.
    pub heartbeat_age: Duration,
}

/// The heartbeat of one session.
pub(crate) struct Heartbeat {
    layout: Layout,
    coord: Arc<Coord>,
    background: bool,
    state: Mutex<HeartbeatState>,
    changed: Condvar,
}

#[derive(Default)]
struct HeartbeatState {
    /// 0 until the first heartbeat.
    number: u64,
    thread: Option<JoinHandle<()>>,
    /// The time of the last tick of each registered event loop, in microseconds of uptime.
    loops: BTreeMap<u64, u64>,
    registered: u64,
    ended: bool,
}

impl Heartbeat {
    pub(crate) fn new(log: &LiveLog, background: bool) -> Arc<Self> {
        Arc::new(Self {
            layout: log.segments.layout.clone(),
            coord: Arc::clone(&log.coord),
            background,
            state: Mutex::default(),
            changed: Condvar::new(),
        })
    }

    /// Send a heartbeat now and at each interval. Return the id of this session.
    pub(crate) fn start_heartbeat(self: &Arc<Self>) -> Result<String> {
        let mut state = self.state.lock();
        if state.ended {
            return Err(Error::Closed);
        }
        if state.number == 0 {
            state.number = self.random_id()?;
        }
        if let Some(session) = self.coord.session() {
            self.record_heartbeat(session, &state);
            if self.background && state.thread.is_none() {
                state.thread = Some(self.start()?);
            }
        }
        Ok(id_of(state.number))
    }

    /// Register an event loop, which must tick from now on. Return its number.
    pub(crate) fn register_loop(&self) -> u64 {
        let mut state = self.state.lock();
        state.registered += 1;
        let number = state.registered;
        let now = self.layout.vfs.uptime_micros();
        state.loops.insert(number, now);
        number
    }

    /// Record that a registered event loop runs. An unknown number is ignored.
    pub(crate) fn tick(&self, number: u64) {
        let now = self.layout.vfs.uptime_micros();
        if let Some(last) = self.state.lock().loops.get_mut(&number) {
            *last = now;
        }
    }

    /// Unregister an event loop.
    pub(crate) fn unregister_loop(&self, number: u64) {
        self.state.lock().loops.remove(&number);
    }

    /// Return all sessions that send heartbeats, including this one.
    pub(crate) fn live_sessions(&self) -> Result<Vec<LiveSession>> {
        let own = self.state.lock().number;
        let mut sessions = match self.coord.session() {
            None => Vec::new(),
            Some(session) => {
                let now = self.layout.vfs.uptime_micros();
                live_sessions(&self.layout, &session.slot, now)?
            }
        };
        // The calling session is running, so its age is zero.
        sessions.retain(|(number, _)| *number != own);
        sessions.extend((own != 0).then_some((own, Duration::ZERO)));
        let report = |(number, heartbeat_age)| LiveSession {
            id: id_of(number),
            heartbeat_age,
        };
        Ok(sessions.into_iter().map(report).collect())
    }

    /// Stop the heartbeat. The session keeps its slot.
    pub(crate) fn end(&self) {
        let thread = {
            let mut state = self.state.lock();
            state.ended = true;
            state.thread.take()
        };
        self.changed.notify_all();
        // The result is ignored: a thread that panicked has ended, too.
        let _ended = thread.map(JoinHandle::join);
    }

    fn random_id(&self) -> Result<u64> {
        let mut bytes = [0; 8];
        let drawn = self.layout.vfs.random(&mut bytes);
        drawn.map_err(|e| Error::io(&self.layout.root, "get random bytes for", &e))?;
        Ok(u64::from_le_bytes(bytes).max(1))
    }

    fn start(self: &Arc<Self>) -> Result<JoinHandle<()>> {
        let heartbeat = Arc::clone(self);
        let thread = std::thread::Builder::new().name("braid-beat".to_owned());
        thread
            .spawn(move || heartbeat.run())
            .map_err(|e| Error::io(&self.layout.root, "start a thread for", &e))
    }

    fn run(&self) {
        let Some(session) = self.coord.session() else {
            return;
        };
        let mut state = self.state.lock();
        while !state.ended {
            self.record_heartbeat(session, &state);
            self.changed.wait_for(&mut state, HEARTBEAT_INTERVAL);
        }
    }

    /// Record the last time at which the process and all registered loops were known to run.
    fn record_heartbeat(&self, session: &SharedSession, state: &HeartbeatState) {
        let now = self.layout.vfs.uptime_micros();
        let slowest = state.loops.values().copied().min().unwrap_or(now);
        session
            .slot
            .record_heartbeat(state.number, now.min(slowest));
    }
}

impl fmt::Debug for Heartbeat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let root = &self.layout.root;
        f.debug_struct("Heartbeat")
            .field("root", root)
            .finish_non_exhaustive()
    }
}

fn id_of(number: u64) -> String {
    format!("{number:016x}")
}
