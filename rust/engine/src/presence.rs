//! Signs of life: which openings of a store are alive, and which have fallen silent.
//!
//! An opening that has something to lose, such as a role, has a number that no other ever
//! had, and a word in the page that a thread sets to the time every so often. Its death is
//! known by the lock of its entry, which the system frees whatever kills the process; that it
//! was stopped is known by the age of the word.
//!
//! A thread of the engine runs on while an event loop hangs, so it can't speak for what lives in
//! that loop. A loop whose tasks hold leases registers here and ticks; the word is then never
//! newer than the last tick of the slowest registered loop.
//!
//! All this protects nothing. It tells others when they may take over what an opening did;
//! that the opening then does nothing more is for the store's expectations to enforce.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crate::coord::{Coord, Joint, sightings};
use crate::error::{Error, Result};
use crate::live::LiveLog;
use crate::lock::{Condvar, Mutex};
use crate::log::Layout;

/// How often an opening gives a sign of life.
const BEAT: Duration = Duration::from_millis(200);

/// An opening that gives signs of life, as others see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// Its id, which no other opening ever had.
    pub id: String,
    /// How long ago its last sign of life was.
    pub silence: Duration,
}

/// The signs of life of one opening.
pub(crate) struct Presence {
    layout: Layout,
    coord: Arc<Coord>,
    background: bool,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// 0 until somebody wants others to know of this opening.
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

    /// Gives a sign of life now, and others from now on; answers the id of this opening.
    pub(crate) fn appear(self: &Arc<Self>) -> Result<String> {
        let mut state = self.state.lock();
        if state.ended {
            return Err(Error::Closed);
        }
        if state.number == 0 {
            state.number = self.draw()?;
        }
        if let Some(joint) = self.coord.joint() {
            self.beat(joint, &state);
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

    /// All openings that give signs of life, this one included.
    pub(crate) fn sightings(&self) -> Result<Vec<Sighting>> {
        let own = self.state.lock().number;
        let mut seen = match self.coord.joint() {
            None => Vec::new(),
            Some(joint) => {
                let now = self.layout.vfs.uptime_micros();
                sightings(&self.layout, &joint.entry, now)?
            }
        };
        // Who asks is not stopped.
        seen.retain(|(number, _)| *number != own);
        seen.extend((own != 0).then_some((own, Duration::ZERO)));
        let shown = |(number, silence)| Sighting {
            id: id_of(number),
            silence,
        };
        Ok(seen.into_iter().map(shown).collect())
    }

    /// Gives no more signs of life. The entry is still this opening's.
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
        let Some(joint) = self.coord.joint() else {
            return;
        };
        let mut state = self.state.lock();
        while !state.ended {
            self.beat(joint, &state);
            self.changed.wait_for(&mut state, BEAT);
        }
    }

    /// Writes the time of the last moment at which the process and all its registered loops
    /// were seen to run.
    fn beat(&self, joint: &Joint, state: &State) {
        let now = self.layout.vfs.uptime_micros();
        let slowest = state.loops.values().copied().min().unwrap_or(now);
        joint.entry.beat(state.number, now.min(slowest));
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
