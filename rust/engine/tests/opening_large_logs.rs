//! Real processes that open a store whose log takes long to read, all at once.
//!
//! The hazard: a process that recovers a large log holds the lock of those that open, and the
//! others give up while it makes progress, or name a process that is dead.
#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails loudly, and its children report on their output"
)]

mod support;

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use eventbraid_engine::vfs::os::OsVfs;
use eventbraid_engine::{Mode, Options, Store};
use support::append;
use support::hook::{HookedVfs, Op};

const DIRECTORY: &str = "EVENTBRAID_CHILD_DIRECTORY";
/// Milliseconds that a read of the log takes in a child.
const PAUSE: &str = "EVENTBRAID_CHILD_PAUSE";
const READ_ONLY: &str = "EVENTBRAID_CHILD_READ_ONLY";
/// Far more than anything here takes.
const LIMIT: Duration = Duration::from_mins(1);
/// Less than the log takes to be read, and more than it takes to the next report.
const TIMEOUT: Duration = Duration::from_millis(1500);
/// Events of a mebibyte.
const EVENTS: usize = 96;

fn options() -> Options {
    let mut options = Options::default();
    options.mode = Mode::Shared;
    options.first_segment = 32 << 20;
    options.lock_timeout = TIMEOUT;
    options
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "\n{line}").unwrap();
    out.flush().unwrap();
}

fn number(name: &str) -> u64 {
    std::env::var(name).unwrap().parse().unwrap()
}

/// What another process does: it opens the store, through slow reads, and stays.
#[test]
fn child() {
    let Ok(directory) = std::env::var(DIRECTORY) else {
        return;
    };
    let pause = Duration::from_millis(number(PAUSE));
    let vfs = HookedVfs::new(OsVfs::new(), move |asked| {
        if asked.is(Op::Read, ".hot") && asked.opening > 2 {
            say("reads");
            std::thread::sleep(pause);
        }
        Ok(())
    });
    let mut options = options();
    options.read_only = number(READ_ONLY) == 1;
    match Store::open(Arc::new(vfs), Path::new(&directory), options) {
        Ok(store) => {
            say(&format!("open at {}", store.head().unwrap()));
            std::io::stdin().read_line(&mut String::new()).unwrap();
        }
        Err(e) => say(&format!("refused: {e}")),
    }
}

struct Opener {
    process: Child,
    lines: Receiver<String>,
}

impl Opener {
    fn new(directory: &Path, pause: u64, read_only: bool) -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child", "--nocapture", "--test-threads=1"])
            .env(DIRECTORY, directory)
            .env(PAUSE, pause.to_string())
            .env(READ_ONLY, u64::from(read_only).to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        let (heard, lines) = channel();
        std::thread::spawn(move || {
            let mut lines = output.lines().map_while(Result::ok);
            lines.try_for_each(|line| heard.send(line))
        });
        Self { process, lines }
    }

    /// Waits for a line that begins so.
    #[track_caller]
    fn hear(&self, beginning: &[&str]) -> String {
        loop {
            let line = self.lines.recv_timeout(LIMIT).unwrap();
            if beginning.iter().any(|text| line.starts_with(text)) {
                return line;
            }
        }
    }

    #[track_caller]
    fn outcome(&self) -> String {
        self.hear(&["open at", "refused"])
    }

    fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Opener {
    fn drop(&mut self) {
        let _ended_before = self.process.kill();
        let _reaped_before = self.process.wait();
    }
}

/// A store of a log that takes some time to read.
fn store(directory: &Path) {
    let store = Store::open(Arc::new(OsVfs::new()), directory, options()).unwrap();
    let body = vec![b'x'; 1 << 20];
    for _ in 0..EVENTS {
        append(&store, &[("s", &body)]).unwrap();
    }
    store.close().unwrap();
}

fn everything() -> String {
    format!("open at {EVENTS}")
}

#[test]
fn all_processes_that_open_a_large_log_at_once_get_in() {
    let root = tempfile::tempdir().unwrap();
    store(root.path());
    let openers = [(); 4].map(|()| Opener::new(root.path(), 60, false));
    for opener in &openers {
        assert_eq!(opener.outcome(), everything());
    }
}

#[test]
fn a_recovery_that_stands_still_is_named_with_its_progress() {
    let root = tempfile::tempdir().unwrap();
    store(root.path());
    // Whatever process was there before.
    let holder = root.path().join("locks/live.holder");
    std::fs::write(&holder, "process 1 running a dead program").unwrap();
    let recovering = Opener::new(root.path(), 100, false);
    // The file is made anew, so for a moment it is not there.
    let report = || std::fs::read_to_string(&holder).unwrap_or_default();
    support::hook::until("a report of the recovery", || {
        report().contains("recovering")
    });
    let pid = recovering.process.id().to_string();
    let stopped = Command::new("kill").args(["-STOP", &pid]).status().unwrap();
    assert!(stopped.success());
    let begun = Instant::now();
    let refused = Opener::new(root.path(), 0, false).outcome();
    assert!(begun.elapsed() >= TIMEOUT);
    for text in [&format!("process {pid} (recovering"), "bytes are read"] {
        assert!(refused.contains(text), "{refused}");
    }
    let resumed = Command::new("kill").args(["-CONT", &pid]).status().unwrap();
    assert!(resumed.success());
    assert_eq!(recovering.outcome(), everything());
    assert!(!report().contains("recovering"));
}

#[test]
fn the_next_process_takes_over_from_one_that_was_killed_in_a_recovery() {
    let root = tempfile::tempdir().unwrap();
    store(root.path());
    let mut first = Opener::new(root.path(), 60_000, false);
    first.hear(&["reads"]);
    let next = Opener::new(root.path(), 0, false);
    first.kill();
    assert_eq!(next.outcome(), everything());
}

#[test]
fn a_read_only_opening_of_a_large_log_keeps_no_writer_waiting() {
    let root = tempfile::tempdir().unwrap();
    store(root.path());
    let reading = Opener::new(root.path(), 150, true);
    reading.hear(&["reads"]);
    reading.hear(&["reads"]);
    let writing = Opener::new(root.path(), 0, false);
    assert_eq!(writing.outcome(), everything());
    assert!(
        reading
            .lines
            .try_iter()
            .all(|line| !line.starts_with("open"))
    );
    assert_eq!(reading.outcome(), everything());
}
