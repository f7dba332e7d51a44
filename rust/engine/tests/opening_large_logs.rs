//! Several real processes open a store at once whose log takes long to read, and all succeed.
//!
//! The hazard: a process that recovers a large log holds the lock that every open needs. The other
//! processes could give up while it makes progress, or report a dead process as the holder.
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
/// The variable with the milliseconds that each read of the log takes in a child.
const PAUSE: &str = "EVENTBRAID_CHILD_PAUSE";
const READ_ONLY: &str = "EVENTBRAID_CHILD_READ_ONLY";
/// Far more than any step of these tests takes.
const LIMIT: Duration = Duration::from_mins(1);
/// Less than the log takes to be read, and more than the interval between two progress reports,
/// also if a busy machine stops the process in between.
const TIMEOUT: Duration = Duration::from_secs(4);
/// The number of events, each of one mebibyte.
const EVENTS: usize = 96;

fn options() -> Options {
    let mut options = Options::default();
    options.mode = Mode::Shared;
    options.first_segment = 32 << 20;
    options.lock_timeout = TIMEOUT;
    options
}

fn print_line(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "\n{line}").unwrap();
    out.flush().unwrap();
}

fn number_from(name: &str) -> u64 {
    std::env::var(name).unwrap().parse().unwrap()
}

/// The program of a child process: it opens the store through slow reads, and keeps it open.
#[test]
fn child() {
    let Ok(directory) = std::env::var(DIRECTORY) else {
        return;
    };
    let pause = Duration::from_millis(number_from(PAUSE));
    let vfs = HookedVfs::new(OsVfs::new(), move |call| {
        if call.is(Op::Read, ".hot") && call.open_file > 2 {
            print_line("reads");
            std::thread::sleep(pause);
        }
        Ok(())
    });
    let mut options = options();
    options.read_only = number_from(READ_ONLY) == 1;
    match Store::open(Arc::new(vfs), Path::new(&directory), options) {
        Ok(store) => {
            print_line(&format!("open at {}", store.head().unwrap()));
            std::io::stdin().read_line(&mut String::new()).unwrap();
        }
        Err(e) => print_line(&format!("refused: {e}")),
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
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            let mut lines = output.lines().map_while(Result::ok);
            lines.try_for_each(|line| sender.send(line))
        });
        Self { process, lines }
    }

    /// Wait for a line with one of these prefixes.
    #[track_caller]
    fn wait_for_line(&self, prefixes: &[&str]) -> String {
        loop {
            let line = self.lines.recv_timeout(LIMIT).unwrap();
            if prefixes.iter().any(|text| line.starts_with(text)) {
                return line;
            }
        }
    }

    #[track_caller]
    fn outcome(&self) -> String {
        self.wait_for_line(&["open at", "refused"])
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

/// Create a store with a log that takes some time to read.
fn store(directory: &Path) {
    let store = Store::open(Arc::new(OsVfs::new()), directory, options()).unwrap();
    let body = vec![b'x'; 1 << 20];
    for _ in 0..EVENTS {
        append(&store, &[("s", &body)]).unwrap();
    }
    store.close().unwrap();
}

fn complete_log() -> String {
    format!("open at {EVENTS}")
}

#[test]
fn all_processes_that_open_a_large_log_at_once_succeed() {
    let root = tempfile::tempdir().unwrap();
    store(root.path());
    let openers = [(); 4].map(|()| Opener::new(root.path(), 100, false));
    for opener in &openers {
        assert_eq!(opener.outcome(), complete_log());
    }
}

#[test]
fn a_stopped_recovery_is_reported_with_its_progress() {
    let root = tempfile::tempdir().unwrap();
    store(root.path());
    // The report of an earlier holder.
    let holder = root.path().join("locks/live.holder");
    std::fs::write(&holder, "process 1 running a dead program").unwrap();
    let recovering = Opener::new(root.path(), 100, false);
    // The file is replaced, so it may be missing for a moment.
    let report = || std::fs::read_to_string(&holder).unwrap_or_default();
    support::hook::wait_until("a report of the recovery", || {
        report().contains("recovering")
    });
    let pid = recovering.process.id().to_string();
    let stopped = Command::new("kill").args(["-STOP", &pid]).status().unwrap();
    assert!(stopped.success());
    let begun = Instant::now();
    let refused = Opener::new(root.path(), 0, false).outcome();
    assert!(begun.elapsed() >= TIMEOUT);
    for text in [&format!("process {pid} (recovering"), "has read"] {
        assert!(refused.contains(text), "{refused}");
    }
    let resumed = Command::new("kill").args(["-CONT", &pid]).status().unwrap();
    assert!(resumed.success());
    assert_eq!(recovering.outcome(), complete_log());
    assert!(!report().contains("recovering"));
}

#[test]
fn the_next_process_completes_the_recovery_of_a_killed_one() {
    let root = tempfile::tempdir().unwrap();
    store(root.path());
    let mut first = Opener::new(root.path(), 60_000, false);
    first.wait_for_line(&["reads"]);
    let next = Opener::new(root.path(), 0, false);
    first.kill();
    assert_eq!(next.outcome(), complete_log());
}

#[test]
fn a_read_only_open_of_a_large_log_blocks_no_writer() {
    let root = tempfile::tempdir().unwrap();
    store(root.path());
    let reading = Opener::new(root.path(), 150, true);
    reading.wait_for_line(&["reads"]);
    reading.wait_for_line(&["reads"]);
    let writing = Opener::new(root.path(), 0, false);
    assert_eq!(writing.outcome(), complete_log());
    assert!(
        reading
            .lines
            .try_iter()
            .all(|line| !line.starts_with("open"))
    );
    assert_eq!(reading.outcome(), complete_log());
}
