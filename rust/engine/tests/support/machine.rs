//! Several processes on one simulated machine, of which one runs at a time: at each access to a
//! word of shared memory, a lock or a file, a seed determines which process runs next. A process
//! may be killed at each of these steps: its locks are then released, and its later calls fail.
//!
//! Processes with threads of their own do not take turns: they run at the same time, with random
//! delays.

use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use eventbraid_engine::mutex::{Condvar, Mutex};
use eventbraid_engine::vfs::forward::ForwardingFile;
use eventbraid_engine::vfs::os::OsVfs;
use eventbraid_engine::vfs::sim::{Call, Failure, Fault, SimVfs};
use eventbraid_engine::vfs::{Entry, Hold, LockFile, OpenMode, SharedPage, Vfs, VfsFile};

use super::hook::LIMIT;

/// A generator of pseudorandom numbers (`SplitMix64`), so that a seed repeats a schedule.
#[derive(Debug)]
pub(crate) struct SeededRandom(u64);

impl SeededRandom {
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

/// A machine: its disk, and the turns of its processes.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    pub(crate) disk: SimVfs,
    turns: Arc<Turns>,
}

/// The turns of the processes.
#[derive(Debug)]
struct Turns {
    state: Mutex<State>,
    changed: Condvar,
    /// The mean number of steps of a process before another one runs.
    switch_interval: u64,
    /// Whether one process runs at a time.
    one_at_a_time: bool,
}

#[derive(Debug)]
struct State {
    random: SeededRandom,
    current: usize,
    processes: Vec<Process>,
    clock: u64,
    trace: Option<Vec<String>>,
}

#[derive(Debug, Default)]
struct Process {
    is_running: bool,
    is_killed: bool,
    steps: u64,
    killed_at: Option<u64>,
    locks: Vec<Arc<dyn LockFile>>,
}

impl Machine {
    pub(crate) fn new(disk: SimVfs, processes: usize, seed: u64, one_at_a_time: bool) -> Self {
        let mut random = SeededRandom::new(seed);
        let switch_interval = 1 + random.below(12);
        let state = State {
            random,
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
                switch_interval,
                one_at_a_time,
            }),
        }
    }

    /// Return the file system of one process.
    pub(crate) fn process(&self, number: usize) -> ProcessVfs {
        ProcessVfs {
            disk: self.disk.clone(),
            process: ProcessHandle {
                number,
                turns: Arc::clone(&self.turns),
            },
        }
    }

    /// Kill a process at the step with this number, counted from 1.
    pub(crate) fn kill_at(&self, process: usize, step: u64) {
        self.turns.state.lock().processes[process].killed_at = Some(step);
    }

    pub(crate) fn is_killed(&self, process: usize) -> bool {
        self.turns.state.lock().processes[process].is_killed
    }

    pub(crate) fn steps(&self, process: usize) -> u64 {
        self.turns.state.lock().processes[process].steps
    }

    /// Return the microseconds of the simulated clock.
    pub(crate) fn clock(&self) -> u64 {
        self.turns.state.lock().clock
    }

    pub(crate) fn trace(&self) -> Vec<String> {
        self.turns.state.lock().trace.clone().unwrap_or_default()
    }

    /// Run the body of each process, until all have ended.
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
                let process = ProcessHandle {
                    number,
                    turns: Arc::clone(&self.turns),
                };
                scope.spawn(move || {
                    let _ends = EndGuard(&process);
                    if process.turns.one_at_a_time {
                        process.wait_for_turn();
                    }
                    body();
                });
            }
        });
    }
}

/// Selects another process when a process ends, also when it ends by a panic of its test.
struct EndGuard<'a>(&'a ProcessHandle);

impl Drop for EndGuard<'_> {
    fn drop(&mut self) {
        let mut state = self.0.turns.state.lock();
        state.processes[self.0.number].is_running = false;
        state.current = state.pick(None);
        drop(state);
        self.0.turns.changed.notify_all();
    }
}

impl State {
    /// Select a running process, other than `excluded` if there is another one.
    fn pick(&mut self, excluded: Option<usize>) -> usize {
        let running = |(i, process): (usize, &Process)| process.is_running.then_some(i);
        let all: Vec<usize> = self
            .processes
            .iter()
            .enumerate()
            .filter_map(running)
            .collect();
        let others: Vec<usize> = all
            .iter()
            .copied()
            .filter(|i| Some(*i) != excluded)
            .collect();
        let from = if others.is_empty() { &all } else { &others };
        match from.len() as u64 {
            0 => 0,
            n => from[usize::try_from(self.random.below(n)).unwrap()],
        }
    }
}

/// The process to which a file, a lock or a page belongs.
#[derive(Clone, Debug)]
struct ProcessHandle {
    number: usize,
    turns: Arc<Turns>,
}

impl ProcessHandle {
    fn wait_for_turn(&self) {
        let mut state = self.turns.state.lock();
        while state.current != self.number {
            self.turns.changed.wait(&mut state);
        }
    }

    /// Whether the process is killed at its next step.
    fn is_killed_next(&self) -> bool {
        let state = self.turns.state.lock();
        let process = &state.processes[self.number];
        !process.is_killed && process.killed_at == Some(process.steps + 1)
    }

    /// Count a step, after which another process may run. Fails if the process was killed.
    fn step(&self, what: &dyn std::fmt::Display) -> io::Result<()> {
        self.advance(what, false)
    }

    /// Count a step, and let another process run, if there is one.
    fn yield_turn(&self, what: &dyn std::fmt::Display) -> io::Result<()> {
        self.advance(what, true)
    }

    fn advance(&self, what: &dyn std::fmt::Display, yields: bool) -> io::Result<()> {
        let mut state = self.turns.state.lock();
        let process = &mut state.processes[self.number];
        if process.is_killed {
            return Err(killed());
        }
        if !process.is_running && self.turns.one_at_a_time {
            return Ok(());
        }
        process.steps += 1;
        state.clock += if yields { 500 } else { 1 };
        let process = &mut state.processes[self.number];
        let is_killed_now = process.killed_at == Some(process.steps);
        let line = (self.number, process.steps);
        if let Some(trace) = &mut state.trace {
            let suffix = if is_killed_now { " is killed" } else { "" };
            trace.push(format!("{}:{} {what}{suffix}", line.0, line.1));
        }
        if is_killed_now {
            let process = &mut state.processes[self.number];
            process.is_killed = true;
            process.is_running = false;
            for lock in process.locks.drain(..) {
                lock.unlock()?;
            }
            state.current = state.pick(None);
            self.turns.changed.notify_all();
            return Err(killed());
        }
        let switch_interval = self.turns.switch_interval;
        if !self.turns.one_at_a_time {
            let delay = state.random.below(20 * switch_interval);
            drop(state);
            match delay {
                0 => std::thread::sleep(Duration::from_micros(50)),
                1..=3 => std::thread::yield_now(),
                _ => {}
            }
            return Ok(());
        }
        if yields || state.random.below(switch_interval) == 0 {
            let next = state.pick(yields.then_some(self.number));
            if next != self.number {
                state.current = next;
                self.turns.changed.notify_all();
                while state.current != self.number {
                    let late = self.turns.changed.wait_for(&mut state, LIMIT).timed_out();
                    assert!(!late, "a process does not continue");
                }
            }
        }
        Ok(())
    }
}

fn killed() -> io::Error {
    io::Error::other("the process was killed")
}

/// The file system of the machine, for one process.
#[derive(Clone, Debug)]
pub(crate) struct ProcessVfs {
    disk: SimVfs,
    process: ProcessHandle,
}

impl ProcessVfs {
    fn step(&self, call: &str, path: &Path) -> io::Result<()> {
        self.process
            .step(&format_args!("{call} {}", path.display()))
    }
}

impl Vfs for ProcessVfs {
    fn hold(&self, directory: &Path) -> io::Result<Arc<dyn Vfs>> {
        Ok(Arc::new(Self {
            disk: self.disk.holding(directory)?,
            process: self.process.clone(),
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
            process: self.process.clone(),
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
        let mut state = self.process.turns.state.lock();
        state.processes[self.process.number]
            .locks
            .push(Arc::clone(&lock));
        Ok(Arc::new(ProcessLock {
            lock,
            path: path.display().to_string(),
            process: self.process.clone(),
        }))
    }

    fn open_page(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn SharedPage>> {
        self.step("map", path)?;
        Ok(Arc::new(ProcessPage {
            page: self.disk.open_page(path, mode)?,
            process: self.process.clone(),
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

    /// The clock of the machine advances by a microsecond a step, and by more during a wait. For a
    /// killed process it runs fast, so that its remaining waits end at once.
    fn uptime_micros(&self) -> u64 {
        if !self.process.turns.one_at_a_time {
            return OsVfs::new().uptime_micros();
        }
        let mut state = self.process.turns.state.lock();
        let process = &mut state.processes[self.process.number];
        if process.is_killed {
            process.steps += 1_000_000;
            return process.steps;
        }
        state.clock
    }

    fn pause(&self, time: Duration) {
        // A killed process does not wait.
        if self.process.yield_turn(&"pause").is_ok() && !self.process.turns.one_at_a_time {
            std::thread::sleep(time);
        }
    }

    fn random(&self, buf: &mut [u8]) -> io::Result<()> {
        self.disk.random(buf)
    }

    fn at(&self, moment: &'static str) {
        // A process that is killed here fails at its next call.
        let _may_be_killed = self.process.step(&moment);
        self.disk.at(moment);
    }
}

#[derive(Debug)]
struct ProcessFile {
    disk: SimVfs,
    file: Arc<dyn VfsFile>,
    path: String,
    process: ProcessHandle,
}

impl ProcessFile {
    fn step(&self, call: &str, offset: u64) -> io::Result<()> {
        self.process
            .step(&format_args!("{call} {} @{offset}", self.path))
    }
}

impl ForwardingFile for ProcessFile {
    fn inner(&self) -> &dyn VfsFile {
        &*self.file
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.step("read", offset)?;
        self.file.read_at(buf, offset)
    }

    fn read_at_nowait(&self, buf: &mut [u8], offset: u64) -> io::Result<Option<usize>> {
        self.step("read", offset)?;
        self.file.read_at_nowait(buf, offset)
    }

    /// Write in two pieces, with steps between them. A process that is killed there has written a
    /// part, and other processes run between the pieces.
    fn write_vectored_at(&self, bufs: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        self.step("begin to write", offset)?;
        let all: Vec<u8> = bufs.iter().flat_map(|buf| buf.iter().copied()).collect();
        let first = {
            let mut state = self.process.turns.state.lock();
            usize::try_from(state.random.below(all.len() as u64 + 1)).unwrap()
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
            if offset + (done as u64) < at + piece.len() as u64 {
                return Ok(done);
            }
        }
        Ok(done)
    }

    /// If the process is killed right after the sync, the sync fails and its error is lost with the
    /// process: the disk has lost the bytes, and later syncs succeed.
    fn sync_data(&self) -> io::Result<()> {
        self.step("sync", 0)?;
        if self.process.is_killed_next() {
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
}

#[derive(Debug)]
struct ProcessLock {
    lock: Arc<dyn LockFile>,
    path: String,
    process: ProcessHandle,
}

impl LockFile for ProcessLock {
    fn try_lock(&self, hold: Hold) -> io::Result<bool> {
        self.process
            .step(&format_args!("try {hold:?} of {}", self.path))?;
        let taken = self.lock.try_lock(hold)?;
        if taken {
            self.process.step(&format_args!("locked {}", self.path))?;
        } else {
            self.process
                .yield_turn(&format_args!("busy {}", self.path))?;
        }
        Ok(taken)
    }

    fn unlock(&self) -> io::Result<()> {
        self.process.step(&format_args!("unlock {}", self.path))?;
        self.lock.unlock()
    }

    fn is_in_place(&self) -> io::Result<bool> {
        self.process.step(&format_args!("find {}", self.path))?;
        self.lock.is_in_place()
    }

    fn number(&self) -> io::Result<u64> {
        self.lock.number()
    }
}

impl Drop for ProcessLock {
    fn drop(&mut self) {
        let mut state = self.process.turns.state.lock();
        let locks = &mut state.processes[self.process.number].locks;
        locks.retain(|lock| !Arc::ptr_eq(lock, &self.lock));
    }
}

#[derive(Debug)]
struct ProcessPage {
    page: Arc<dyn SharedPage>,
    process: ProcessHandle,
}

impl ProcessPage {
    /// Count a step. Return whether the process still runs.
    fn step(&self, call: &str, word: usize) -> bool {
        self.process
            .step(&format_args!("{call} word {word}"))
            .is_ok()
    }
}

impl SharedPage for ProcessPage {
    fn load(&self, word: usize) -> u64 {
        if self.step("load", word) {
            self.page.load(word)
        } else {
            0
        }
    }

    fn store(&self, word: usize, value: u64) {
        if self.step("store", word) {
            self.page.store(word, value);
        }
    }

    fn add(&self, word: usize, n: u64) -> u64 {
        if self.step("add", word) {
            self.page.add(word, n)
        } else {
            0
        }
    }

    fn raise(&self, word: usize, value: u64) -> u64 {
        if self.step("raise", word) {
            self.page.raise(word, value)
        } else {
            0
        }
    }

    fn exchange(&self, word: usize, current: u64, value: u64) -> bool {
        self.step("exchange", word) && self.page.exchange(word, current, value)
    }

    /// Return at once, as after a spurious wake-up, and let the other processes run.
    fn wait(&self, word: usize, seen: u64, timeout: Duration) {
        // A killed process does not wait.
        let is_alive = self
            .process
            .yield_turn(&format_args!("wait at word {word}"))
            .is_ok();
        if is_alive && !self.process.turns.one_at_a_time {
            self.page.wait(word, seen, timeout);
        }
    }

    fn wake(&self, word: usize) {
        if self.step("wake", word) {
            self.page.wake(word);
        }
    }

    fn is_in_place(&self) -> io::Result<bool> {
        self.process.step(&"find the page")?;
        self.page.is_in_place()
    }

    fn number(&self) -> io::Result<u64> {
        self.process.step(&"stat the page")?;
        self.page.number()
    }

    fn device(&self) -> io::Result<u64> {
        self.page.device()
    }
}
