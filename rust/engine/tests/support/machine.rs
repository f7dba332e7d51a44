//! Several processes on one simulated machine, of which one runs at a time: the next one is
//! drawn at each word of shared memory, each lock, each call on a file. One may be killed at
//! any of these: its locks are free from then on, and nothing that it still does counts.
//!
//! Processes with threads of their own don't take turns: they run as they come, held up now
//! and then.

use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use eventbraid_engine::lock::{Condvar, Mutex};
use eventbraid_engine::vfs::os::OsVfs;
use eventbraid_engine::vfs::sim::{Call, Failure, Fault, SimVfs};
use eventbraid_engine::vfs::{Entry, Hold, LockFile, OpenMode, SharedPage, Vfs, VfsFile};

use super::hook::LIMIT;

/// Numbers that look random and follow from a seed.
#[derive(Debug)]
pub(crate) struct Draw(u64);

impl Draw {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x1234_5678_9abc_def1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

/// One machine.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    pub(crate) disk: SimVfs,
    turns: Arc<Turns>,
}

/// Whose turn it is.
#[derive(Debug)]
struct Turns {
    state: Mutex<State>,
    changed: Condvar,
    /// One step in so many is followed by another process's.
    patience: u64,
    /// Whether one process runs at a time.
    one_at_a_time: bool,
}

#[derive(Debug)]
struct State {
    draw: Draw,
    current: usize,
    processes: Vec<Process>,
    clock: u64,
    trace: Option<Vec<String>>,
}

#[derive(Debug, Default)]
struct Process {
    is_running: bool,
    is_dead: bool,
    steps: u64,
    dies_at: Option<u64>,
    locks: Vec<Arc<dyn LockFile>>,
}

impl Machine {
    pub(crate) fn new(disk: SimVfs, processes: usize, seed: u64, one_at_a_time: bool) -> Self {
        let mut draw = Draw::new(seed);
        let patience = 1 + draw.below(12);
        let state = State {
            draw,
            current: 0,
            processes: (0..processes).map(|_| Process::default()).collect(),
            clock: 1,
            trace: std::env::var_os("EVENTBRAID_TRACE").map(|_| Vec::new()),
        };
        Self {
            disk,
            turns: Arc::new(Turns {
                state: Mutex::new(state),
                changed: Condvar::new(),
                patience,
                one_at_a_time,
            }),
        }
    }

    /// The file system as one process has it.
    pub(crate) fn process(&self, number: usize) -> ProcessVfs {
        ProcessVfs {
            disk: self.disk.clone(),
            me: Me {
                number,
                turns: Arc::clone(&self.turns),
            },
        }
    }

    /// Kills a process at its step of this number, counted from 1.
    pub(crate) fn kill_at(&self, process: usize, step: u64) {
        self.turns.state.lock().processes[process].dies_at = Some(step);
    }

    pub(crate) fn is_dead(&self, process: usize) -> bool {
        self.turns.state.lock().processes[process].is_dead
    }

    pub(crate) fn steps(&self, process: usize) -> u64 {
        self.turns.state.lock().processes[process].steps
    }

    pub(crate) fn trace(&self) -> Vec<String> {
        self.turns.state.lock().trace.clone().unwrap_or_default()
    }

    /// Runs what each process does, to the end of all.
    pub(crate) fn run<'a>(&self, bodies: Vec<Box<dyn FnOnce() + Send + 'a>>) {
        {
            let mut state = self.turns.state.lock();
            for process in state.processes.iter_mut().take(bodies.len()) {
                process.is_running = true;
            }
            state.current = state.pick(None);
        }
        std::thread::scope(|scope| {
            for (number, body) in bodies.into_iter().enumerate() {
                let me = Me {
                    number,
                    turns: Arc::clone(&self.turns),
                };
                scope.spawn(move || {
                    let _ends = Ends(&me);
                    if me.turns.one_at_a_time {
                        me.wait_for_turn();
                    }
                    body();
                });
            }
        });
    }
}

/// A process has come to its end, or its test has failed.
struct Ends<'a>(&'a Me);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        let mut state = self.0.turns.state.lock();
        state.processes[self.0.number].is_running = false;
        state.current = state.pick(None);
        drop(state);
        self.0.turns.changed.notify_all();
    }
}

impl State {
    /// A process that runs; not this one, if there is another.
    fn pick(&mut self, but: Option<usize>) -> usize {
        let running = |(i, process): (usize, &Process)| process.is_running.then_some(i);
        let all: Vec<usize> = self
            .processes
            .iter()
            .enumerate()
            .filter_map(running)
            .collect();
        let others: Vec<usize> = all.iter().copied().filter(|i| Some(*i) != but).collect();
        let from = if others.is_empty() { &all } else { &others };
        match from.len() as u64 {
            0 => 0,
            n => from[usize::try_from(self.draw.below(n)).unwrap()],
        }
    }
}

/// A process, as all that it has open knows it.
#[derive(Clone, Debug)]
struct Me {
    number: usize,
    turns: Arc<Turns>,
}

impl Me {
    fn wait_for_turn(&self) {
        let mut state = self.turns.state.lock();
        while state.current != self.number {
            self.turns.changed.wait(&mut state);
        }
    }

    /// Whether the next step is the one at which the process is killed.
    fn dies_next(&self) -> bool {
        let state = self.turns.state.lock();
        let me = &state.processes[self.number];
        !me.is_dead && me.dies_at == Some(me.steps + 1)
    }

    /// One more step, after which somebody else may have gone on; an error for the dead.
    fn step(&self, what: &dyn std::fmt::Display) -> io::Result<()> {
        self.go_on(what, false)
    }

    /// Lets another process go on.
    fn rest(&self, what: &dyn std::fmt::Display) -> io::Result<()> {
        self.go_on(what, true)
    }

    fn go_on(&self, what: &dyn std::fmt::Display, rests: bool) -> io::Result<()> {
        let mut state = self.turns.state.lock();
        let me = &mut state.processes[self.number];
        if me.is_dead {
            return Err(dead());
        }
        if !me.is_running && self.turns.one_at_a_time {
            return Ok(());
        }
        me.steps += 1;
        state.clock += if rests { 500 } else { 1 };
        let me = &mut state.processes[self.number];
        let dies = me.dies_at == Some(me.steps);
        let line = (self.number, me.steps);
        if let Some(trace) = &mut state.trace {
            let end = if dies { " dies" } else { "" };
            trace.push(format!("{}:{} {what}{end}", line.0, line.1));
        }
        if dies {
            let me = &mut state.processes[self.number];
            me.is_dead = true;
            me.is_running = false;
            for lock in me.locks.drain(..) {
                lock.unlock()?;
            }
            state.current = state.pick(None);
            self.turns.changed.notify_all();
            return Err(dead());
        }
        let patience = self.turns.patience;
        if !self.turns.one_at_a_time {
            let delay = state.draw.below(20 * patience);
            drop(state);
            match delay {
                0 => std::thread::sleep(Duration::from_micros(50)),
                1..=3 => std::thread::yield_now(),
                _ => {}
            }
            return Ok(());
        }
        if rests || state.draw.below(patience) == 0 {
            let next = state.pick(rests.then_some(self.number));
            if next != self.number {
                state.current = next;
                self.turns.changed.notify_all();
                while state.current != self.number {
                    let late = self.turns.changed.wait_for(&mut state, LIMIT).timed_out();
                    assert!(!late, "a process does not go on");
                }
            }
        }
        Ok(())
    }
}

fn dead() -> io::Error {
    io::Error::other("the process is dead")
}

/// The machine's file system, as one process has it.
#[derive(Clone, Debug)]
pub(crate) struct ProcessVfs {
    disk: SimVfs,
    me: Me,
}

impl ProcessVfs {
    fn step(&self, call: &str, path: &Path) -> io::Result<()> {
        self.me.step(&format_args!("{call} {}", path.display()))
    }
}

impl Vfs for ProcessVfs {
    fn hold(&self, directory: &Path) -> io::Result<Arc<dyn Vfs>> {
        Ok(Arc::new(Self {
            disk: self.disk.holding(directory)?,
            me: self.me.clone(),
        }))
    }

    fn is_in_place(&self, directory: &Path) -> io::Result<bool> {
        self.disk.is_in_place(directory)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.step("mkdir", path)?;
        self.disk.create_dir(path)
    }

    fn entry(&self, path: &Path) -> io::Result<Option<Entry>> {
        self.step("stat", path)?;
        self.disk.entry(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        self.step("list", path)?;
        self.disk.list(path)
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn VfsFile>> {
        self.step("open", path)?;
        Ok(Arc::new(ProcessFile {
            disk: self.disk.clone(),
            file: self.disk.open(path, mode)?,
            path: path.display().to_string(),
            me: self.me.clone(),
        }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step("rename to", to)?;
        self.disk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.step("remove", path)?;
        self.disk.remove(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.step("sync directory", path)?;
        self.disk.sync_dir(path)
    }

    fn open_lock(&self, path: &Path, create: bool) -> io::Result<Arc<dyn LockFile>> {
        self.step("open lock", path)?;
        let lock = self.disk.open_lock(path, create)?;
        let mut state = self.me.turns.state.lock();
        state.processes[self.me.number]
            .locks
            .push(Arc::clone(&lock));
        Ok(Arc::new(ProcessLock {
            lock,
            path: path.display().to_string(),
            me: self.me.clone(),
        }))
    }

    fn open_page(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn SharedPage>> {
        self.step("map", path)?;
        Ok(Arc::new(ProcessPage {
            page: self.disk.open_page(path, mode)?,
            me: self.me.clone(),
        }))
    }

    fn unshareable(&self, directory: &Path) -> io::Result<Option<String>> {
        self.disk.unshareable(directory)
    }

    fn kernel(&self) -> u64 {
        self.disk.kernel()
    }

    fn since_boot_micros(&self) -> u64 {
        self.disk.since_boot_micros()
    }
    fn now_micros(&self) -> u64 {
        self.disk.now_micros()
    }

    /// The machine's clock goes on by a microsecond a step, and by more where one waits. The
    /// dead, who wait for nothing, see it race.
    fn uptime_micros(&self) -> u64 {
        if !self.me.turns.one_at_a_time {
            return OsVfs::new().uptime_micros();
        }
        let mut state = self.me.turns.state.lock();
        let me = &mut state.processes[self.me.number];
        if me.is_dead {
            me.steps += 1_000_000;
            return me.steps;
        }
        state.clock
    }

    fn pause(&self, time: Duration) {
        // The dead wait for nothing.
        if self.me.rest(&"pause").is_ok() && !self.me.turns.one_at_a_time {
            std::thread::sleep(time);
        }
    }

    fn random(&self, buf: &mut [u8]) -> io::Result<()> {
        self.disk.random(buf)
    }

    fn at(&self, moment: &'static str) {
        // Who dies here finds it out at the next call.
        let _dead = self.me.step(&moment);
        self.disk.at(moment);
    }
}

#[derive(Debug)]
struct ProcessFile {
    disk: SimVfs,
    file: Arc<dyn VfsFile>,
    path: String,
    me: Me,
}

impl ProcessFile {
    fn step(&self, call: &str, offset: u64) -> io::Result<()> {
        self.me
            .step(&format_args!("{call} {} @{offset}", self.path))
    }
}

impl VfsFile for ProcessFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.step("read", offset)?;
        self.file.read_at(buf, offset)
    }

    fn read_at_nowait(&self, buf: &mut [u8], offset: u64) -> io::Result<Option<usize>> {
        self.step("read", offset)?;
        self.file.read_at_nowait(buf, offset)
    }

    /// Who dies in a write has written some of it, and so has who is only interrupted.
    fn write_vectored_at(&self, bufs: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        self.step("begin to write", offset)?;
        let all: Vec<u8> = bufs.iter().flat_map(|buf| buf.iter().copied()).collect();
        let first = {
            let mut state = self.me.turns.state.lock();
            usize::try_from(state.draw.below(all.len() as u64 + 1)).unwrap()
        };
        let (first, rest) = all.split_at(first);
        let mut done = 0;
        for piece in [first, rest].into_iter().filter(|piece| !piece.is_empty()) {
            let at = offset + done as u64;
            match self.file.write_vectored_at(&[IoSlice::new(piece)], at) {
                Err(e) if done == 0 => return Err(e),
                Err(_) => return Ok(done),
                Ok(n) => done += n,
            }
            self.step("wrote", at)?;
        }
        Ok(done)
    }

    /// Who is about to die after it may take the report of its failure along: the disk has
    /// lost what was to be synced, and later syncs succeed.
    fn sync_data(&self) -> io::Result<()> {
        self.step("sync", 0)?;
        if self.me.dies_next() {
            let lost = Fault::once(Call::SyncData, 1, Failure::EIO).losing();
            self.disk.fail(lost);
        }
        let outcome = self.file.sync_data();
        self.step("synced", 0)?;
        outcome
    }

    fn sync_all(&self) -> io::Result<()> {
        self.step("sync all", 0)?;
        self.file.sync_all()?;
        self.step("synced all", 0)
    }

    fn size(&self) -> io::Result<u64> {
        self.step("size", 0)?;
        self.file.size()
    }

    fn drop_cache(&self, offset: u64, len: u64) -> io::Result<()> {
        self.file.drop_cache(offset, len)
    }
}

#[derive(Debug)]
struct ProcessLock {
    lock: Arc<dyn LockFile>,
    path: String,
    me: Me,
}

impl LockFile for ProcessLock {
    fn try_lock(&self, hold: Hold) -> io::Result<bool> {
        self.me
            .step(&format_args!("try {hold:?} of {}", self.path))?;
        let taken = self.lock.try_lock(hold)?;
        if taken {
            self.me.step(&format_args!("has {}", self.path))?;
        } else {
            self.me.rest(&format_args!("no {}", self.path))?;
        }
        Ok(taken)
    }

    fn unlock(&self) -> io::Result<()> {
        self.me.step(&format_args!("free {}", self.path))?;
        self.lock.unlock()
    }

    fn is_in_place(&self) -> io::Result<bool> {
        self.me.step(&format_args!("look for {}", self.path))?;
        self.lock.is_in_place()
    }

    fn number(&self) -> io::Result<u64> {
        self.lock.number()
    }
}

impl Drop for ProcessLock {
    fn drop(&mut self) {
        let mut state = self.me.turns.state.lock();
        let locks = &mut state.processes[self.me.number].locks;
        locks.retain(|lock| !Arc::ptr_eq(lock, &self.lock));
    }
}

#[derive(Debug)]
struct ProcessPage {
    page: Arc<dyn SharedPage>,
    me: Me,
}

impl ProcessPage {
    /// Whether the process lives on to do it.
    fn lives(&self, call: &str, word: usize) -> bool {
        self.me.step(&format_args!("{call} word {word}")).is_ok()
    }
}

impl SharedPage for ProcessPage {
    fn load(&self, word: usize) -> u64 {
        if self.lives("load", word) {
            self.page.load(word)
        } else {
            0
        }
    }

    fn store(&self, word: usize, value: u64) {
        if self.lives("store", word) {
            self.page.store(word, value);
        }
    }

    fn add(&self, word: usize, n: u64) -> u64 {
        if self.lives("add", word) {
            self.page.add(word, n)
        } else {
            0
        }
    }

    fn raise(&self, word: usize, value: u64) -> u64 {
        if self.lives("raise", word) {
            self.page.raise(word, value)
        } else {
            0
        }
    }

    fn exchange(&self, word: usize, current: u64, value: u64) -> bool {
        self.lives("exchange", word) && self.page.exchange(word, current, value)
    }

    /// A wait is over at once, without a reason: the others go on meanwhile.
    fn wait(&self, word: usize, seen: u64, timeout: Duration) {
        // The dead wait for nothing.
        let lives = self.me.rest(&format_args!("wait at word {word}")).is_ok();
        if lives && !self.me.turns.one_at_a_time {
            self.page.wait(word, seen, timeout);
        }
    }

    fn wake(&self, word: usize) {
        if self.lives("wake", word) {
            self.page.wake(word);
        }
    }

    fn is_in_place(&self) -> io::Result<bool> {
        self.me.step(&"look for the page")?;
        self.page.is_in_place()
    }

    fn number(&self) -> io::Result<u64> {
        self.me.step(&"look at the page")?;
        self.page.number()
    }

    fn device(&self) -> io::Result<u64> {
        self.page.device()
    }
}
