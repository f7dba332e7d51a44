//! File locks and shared pages of the operating system between real processes: what is released
//! when a process dies, and what a forked child has of its parent.
//!
//! `flock` belongs to the open file description, which a forked child shares: an idle child would
//! keep the locks of a parent that was killed, and other processes would wait for them forever.
//! So a fork closes lock files in the child, whatever the other threads do meanwhile.
//!
//! This program starts itself for each other process. It has no test harness, so that a process
//! that forks has one thread, except where its threads are the subject of the test.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails loudly, also without a harness"
)]

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, PipeReader, Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use eventbraid_engine::vfs::os::OsVfs;
use eventbraid_engine::vfs::{Hold, LockFile, OpenMode, SharedPage, Vfs};
use rustix::process::{Pid, WaitOptions, waitpid};

/// Far more than any step of these tests takes.
const LIMIT: Duration = Duration::from_mins(1);
/// A timeout that no test reaches: a wait that ends was ended by a wake-up.
const HOUR: Duration = Duration::from_hours(1);
/// The variable with the name of the program that a child process runs.
const PROGRAM: &str = "EVENTBRAID_TEST_PROGRAM";

/// A test, or the program of a child process. Both work in a directory.
type Named = (&'static str, fn(&Path));

macro_rules! named {
    ($($function:ident)*) => { &[$((stringify!($function), $function)),*] };
}

const TESTS: &[Named] = named! {
    a_lock_is_released_when_its_process_dies
    a_forked_idle_child_keeps_no_lock_of_a_dead_parent
    a_forked_child_that_drops_the_lock_of_its_parent_does_not_release_it
    a_child_without_fork_handlers_neither_releases_nor_keeps_the_locks_of_its_parent
    a_started_program_keeps_no_lock_of_its_parent
    repeated_forks_leak_no_descriptor
    a_fork_misses_no_lock_file_that_a_thread_is_opening
    words_are_shared_between_processes
    words_outlive_the_process_that_wrote_them
    a_wake_up_ends_the_waits_of_all_processes
    a_page_that_cannot_be_created_completely_is_removed
};

const PROGRAMS: &[Named] = named! {
    holds_exclusive_lock
    holds_shared_lock
    forks_an_idle_child
    forks_a_child_that_drops_the_lock
    clones_a_child_without_handlers
    starts_a_program
    idles
    forks_repeatedly
    forks_among_openers
    answers_turns
    writes_words
    waits_for_a_wake_up
    has_a_file_size_limit
};

fn main() {
    let mut arguments = std::env::args().skip(1);
    if let Ok(name) = std::env::var(PROGRAM) {
        let (_, program) = PROGRAMS
            .iter()
            .find(|(program, _)| *program == name)
            .unwrap();
        set_time_limit();
        return program(&PathBuf::from(arguments.next().unwrap()));
    }
    let filter = arguments.find(|argument| !argument.starts_with('-'));
    let filter = filter.unwrap_or_default();
    for (name, test) in TESTS.iter().filter(|(name, _)| name.contains(&filter)) {
        print_line(name);
        test(tempfile::tempdir().unwrap().path());
    }
}

// --- child processes, as the test uses them ---

/// A child process. It is killed when the test ends, also by a failure.
struct Peer {
    process: Child,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
}

impl Peer {
    fn start(program: &str, dir: &Path) -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .arg(dir)
            .env(PROGRAM, program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            let mut lines = output.lines().map_while(Result::ok);
            lines.try_for_each(|line| sender.send(line))
        });
        Self {
            input: process.stdin.take(),
            process,
            lines,
        }
    }

    fn id(&self) -> u32 {
        self.process.id()
    }

    /// Wait until the process and its children have printed these lines, in any order.
    #[track_caller]
    fn expect_lines<const N: usize>(&self, mut expected: [&str; N]) {
        let mut printed = expected.map(|_| self.lines.recv_timeout(LIMIT).unwrap());
        printed.sort_unstable();
        expected.sort_unstable();
        assert_eq!(printed, expected);
    }

    /// Signal the process to continue.
    fn resume(&mut self) {
        self.input.as_mut().unwrap().write_all(b"\n").unwrap();
    }

    /// Kill the process and none of its children.
    fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Close the input, upon which the process and its children end.
    fn close_input(&mut self) {
        drop(self.input.take());
    }

    /// End the process, which must print no further line and succeed.
    #[track_caller]
    fn assert_success(mut self) {
        self.close_input();
        let rest = self.lines.recv_timeout(LIMIT);
        assert_eq!(rest, Err(RecvTimeoutError::Disconnected));
        assert!(self.process.wait().unwrap().success());
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.close_input();
        let _ended_before = self.process.kill();
        let _reaped_before = self.process.wait();
    }
}

fn open_lock(path: &Path) -> Arc<dyn LockFile> {
    OsVfs::new().open_lock(path, true).unwrap()
}

fn exclusive_lock(path: &Path) -> Arc<dyn LockFile> {
    let lock = open_lock(path);
    assert!(lock.try_lock(Hold::Exclusive).unwrap());
    lock
}

fn is_free(path: &Path) -> bool {
    open_lock(path).try_lock(Hold::Exclusive).unwrap()
}

fn create_page(dir: &Path) -> Arc<dyn SharedPage> {
    let path = dir.join("page");
    OsVfs::new().open_page(&path, OpenMode::CreateNew).unwrap()
}

fn open_page(dir: &Path) -> Arc<dyn SharedPage> {
    let path = dir.join("page");
    OsVfs::new().open_page(&path, OpenMode::ReadWrite).unwrap()
}

#[track_caller]
fn wait_until(mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < LIMIT, "the condition never holds");
        std::thread::yield_now();
    }
}

// --- what a child process prints and waits for ---

/// Print a line and flush it: a fork would duplicate buffered bytes.
fn print_line(line: &str) {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}").unwrap();
    out.flush().unwrap();
}

/// Set a timer that ends a hung process, also after the test has ended.
fn set_time_limit() {
    let seconds = u32::try_from(2 * LIMIT.as_secs()).unwrap();
    // SAFETY: the signal ends the process and has no handler.
    unsafe { libc::alarm(seconds) };
}

fn wait_for_resume() {
    io::stdin().read_exact(&mut [0]).unwrap();
}

fn wait_for_end_of_input() {
    io::stdin().read_to_end(&mut Vec::new()).unwrap();
}

/// Wait until no process has the other end of the pipe.
fn wait_until_closed(mut pipe: PipeReader) {
    pipe.read_to_end(&mut Vec::new()).unwrap();
}

/// Fork. Return the child, or `None` in the child.
fn fork() -> Option<Pid> {
    // SAFETY: the child of a process with several threads calls `fstat` and `_exit` only.
    Pid::from_raw(checked(unsafe { libc::fork() }))
}

/// As [`fork`], by a direct system call, so that the C library runs no fork handlers.
#[cfg(target_os = "linux")]
fn clone_without_handlers() -> Option<Pid> {
    const NONE: libc::c_long = 0;
    let signal = libc::c_long::from(libc::SIGCHLD);
    // SAFETY: a child with a copy of all memory, which has one thread only, as its parent has.
    let child = unsafe { libc::syscall(libc::SYS_clone, signal, NONE, NONE, NONE, NONE) };
    Pid::from_raw(checked(libc::pid_t::try_from(child).unwrap()))
}

#[cfg(not(target_os = "linux"))]
fn clone_without_handlers() -> Option<Pid> {
    fork()
}

fn checked(child: libc::pid_t) -> libc::pid_t {
    assert!(child >= 0, "{}", io::Error::last_os_error());
    child
}

/// Run `body` in a forked child, and exit without returning to the parent's code.
fn in_child(body: impl FnOnce()) -> ! {
    set_time_limit();
    let outcome = catch_unwind(AssertUnwindSafe(body));
    exit(i32::from(outcome.is_err()))
}

fn exit(code: i32) -> ! {
    // SAFETY: a forked process may end itself without a clean-up.
    unsafe { libc::_exit(code) }
}

#[track_caller]
fn reap(child: Pid) {
    let (_, status) = waitpid(Some(child), WaitOptions::empty()).unwrap().unwrap();
    assert_eq!(status.exit_status(), Some(0));
}

fn is_refused<T>(outcome: io::Result<T>) -> bool {
    outcome.is_err_and(|e| e.raw_os_error() == Some(libc::EBADF))
}

#[track_caller]
fn assert_useless(lock: &Arc<dyn LockFile>) {
    assert!(is_refused(lock.try_lock(Hold::Exclusive)));
    assert!(is_refused(lock.try_lock(Hold::Shared)));
    assert!(is_refused(lock.unlock()));
    assert!(is_refused(lock.is_in_place()));
}

// --- locks ---

fn a_lock_is_released_when_its_process_dies(dir: &Path) {
    let file = dir.join("lock");
    drop(open_lock(&file));
    for path in [&file, dir] {
        let ours = open_lock(path);
        for part in ["holds_exclusive_lock", "holds_shared_lock"] {
            let mut holder = Peer::start(part, path);
            holder.expect_lines(["held"]);
            assert!(!ours.try_lock(Hold::Exclusive).unwrap());
            holder.kill();
            assert!(ours.try_lock(Hold::Exclusive).unwrap());
            ours.unlock().unwrap();
        }
    }
}

fn holds_exclusive_lock(path: &Path) {
    let _lock = exclusive_lock(path);
    print_line("held");
    wait_for_end_of_input();
}

fn holds_shared_lock(path: &Path) {
    let lock = open_lock(path);
    assert!(lock.try_lock(Hold::Shared).unwrap());
    print_line("held");
    wait_for_end_of_input();
}

fn a_forked_idle_child_keeps_no_lock_of_a_dead_parent(dir: &Path) {
    let mut parent = Peer::start("forks_an_idle_child", dir);
    parent.expect_lines(["the child idles", "the parent holds"]);
    assert!(!is_free(&dir.join("lock")) && !is_free(dir));
    parent.kill();
    assert!(is_free(&dir.join("lock")) && is_free(dir));
    parent.close_input();
    parent.expect_lines(["the child ends"]);
}

fn forks_an_idle_child(dir: &Path) {
    let _locks = [exclusive_lock(&dir.join("lock")), exclusive_lock(dir)];
    if fork().is_none() {
        in_child(|| {
            print_line("the child idles");
            wait_for_end_of_input();
            print_line("the child ends");
        });
    }
    print_line("the parent holds");
    wait_for_end_of_input();
}

fn a_forked_child_that_drops_the_lock_of_its_parent_does_not_release_it(dir: &Path) {
    let mut parent = Peer::start("forks_a_child_that_drops_the_lock", dir);
    parent.expect_lines(["the child has dropped it"]);
    assert!(!is_free(&dir.join("lock")));
    parent.kill();
    parent.expect_lines(["the child has it"]);
}

fn forks_a_child_that_drops_the_lock(dir: &Path) {
    let lock = exclusive_lock(&dir.join("lock"));
    let (gone, alive) = io::pipe().unwrap();
    if fork().is_none() {
        in_child(|| {
            drop(alive);
            assert_useless(&lock);
            // One of these has the number that the lock file had.
            let files = [(); 16].map(|()| File::open("/dev/null").unwrap());
            assert_useless(&lock);
            drop(lock);
            assert!(files.iter().all(|file| file.metadata().is_ok()));

            let own = open_lock(&dir.join("lock"));
            assert!(own.is_in_place().unwrap());
            assert!(!own.try_lock(Hold::Shared).unwrap());
            print_line("the child has dropped it");
            wait_until_closed(gone);
            wait_until(|| own.try_lock(Hold::Exclusive).unwrap());
            print_line("the child has it");
        });
    }
    wait_for_end_of_input();
}

fn a_child_without_fork_handlers_neither_releases_nor_keeps_the_locks_of_its_parent(dir: &Path) {
    let paths = ["dropped", "kept"].map(|name| dir.join(name));
    let mut parent = Peer::start("clones_a_child_without_handlers", dir);
    parent.expect_lines(["the child has dropped one"]);
    assert!(paths.iter().all(|path| !is_free(path)));
    parent.resume();
    parent.expect_lines(["the parent has dropped both"]);
    assert!(paths.iter().all(|path| is_free(path)));
    parent.assert_success();
}

/// The child has the files of its parent open for its whole life, and outlives their closing.
fn clones_a_child_without_handlers(dir: &Path) {
    let [dropped, kept] = ["dropped", "kept"].map(|name| exclusive_lock(&dir.join(name)));
    let (gone, alive) = io::pipe().unwrap();
    let Some(child) = clone_without_handlers() else {
        in_child(|| {
            drop(alive);
            assert_useless(&dropped);
            assert_useless(&kept);
            drop(dropped);
            let own = open_lock(&dir.join("dropped"));
            assert!(!own.try_lock(Hold::Exclusive).unwrap());
            drop(own);
            print_line("the child has dropped one");
            wait_until_closed(gone);
            assert_useless(&kept);
        })
    };
    wait_for_resume();
    drop((dropped, kept));
    print_line("the parent has dropped both");
    wait_for_end_of_input();
    drop(alive);
    reap(child);
}

fn a_started_program_keeps_no_lock_of_its_parent(dir: &Path) {
    let mut parent = Peer::start("starts_a_program", dir);
    parent.expect_lines(["the parent holds", "the program idles"]);
    assert!(!is_free(&dir.join("lock")));
    parent.kill();
    assert!(is_free(&dir.join("lock")));
    parent.close_input();
    parent.expect_lines(["the program ends"]);
}

fn starts_a_program(dir: &Path) {
    let _lock = exclusive_lock(&dir.join("lock"));
    let program = std::env::current_exe().unwrap();
    let mut started = Command::new(program);
    let mut started = started.arg(dir).env(PROGRAM, "idles").spawn().unwrap();
    print_line("the parent holds");
    started.wait().unwrap();
}

fn idles(_dir: &Path) {
    print_line("the program idles");
    wait_for_end_of_input();
    print_line("the program ends");
}

fn repeated_forks_leak_no_descriptor(dir: &Path) {
    let parent = Peer::start("forks_repeatedly", dir);
    parent.expect_lines(["forked"]);
    parent.assert_success();
}

fn forks_repeatedly(dir: &Path) {
    let locks = ["a", "b", "c"].map(|name| exclusive_lock(&dir.join(name)));
    let before = descriptors();
    for _ in 0..200 {
        if let Some(child) = fork() {
            reap(child);
            continue;
        }
        in_child(|| {
            assert_eq!(descriptors(), before - locks.len());
            // No other process holds the lock of the previous child.
            let own = exclusive_lock(&dir.join("child"));
            match fork() {
                Some(grandchild) => reap(grandchild),
                None => in_child(|| {
                    assert_useless(&own);
                    locks.iter().for_each(assert_useless);
                }),
            }
            assert!(own.is_in_place().unwrap());
            drop((own, locks));
            assert_eq!(descriptors(), before - 3);
        });
    }
    assert_eq!(descriptors(), before);
    for (name, lock) in ["a", "b", "c"].iter().zip(locks) {
        assert!(!is_free(&dir.join(name)));
        drop(lock);
        assert!(is_free(&dir.join(name)));
    }
    assert_eq!(descriptors(), before - 3);
    print_line("forked");
    wait_for_end_of_input();
}

/// Return the number of open descriptors of this process.
fn descriptors() -> usize {
    fs::read_dir("/dev/fd").unwrap().count()
}

fn a_fork_misses_no_lock_file_that_a_thread_is_opening(dir: &Path) {
    let parent = Peer::start("forks_among_openers", dir);
    parent.expect_lines(["forked"]);
    parent.assert_success();
}

fn forks_among_openers(dir: &Path) {
    let paths = ["a", "b", "c"].map(|name| dir.join(name));
    let files = paths.each_ref().map(|path| {
        drop(open_lock(path));
        let found = fs::metadata(path).unwrap();
        (found.dev(), found.ino())
    });
    let has_ended = AtomicBool::new(false);
    let opened = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for path in &paths {
            let (has_ended, opened) = (&has_ended, &opened);
            scope.spawn(move || {
                while !has_ended.load(Ordering::SeqCst) {
                    // Fails if a forked child holds the lock.
                    let lock = exclusive_lock(path);
                    opened.fetch_add(1, Ordering::SeqCst);
                    drop(lock);
                }
            });
        }
        let forkers = [(); 2].map(|()| {
            scope.spawn(|| {
                for _ in 0..200 {
                    match fork() {
                        Some(child) => reap(child),
                        None => exit(i32::from(has_any(&files))),
                    }
                }
            })
        });
        let ends = forkers.map(std::thread::ScopedJoinHandle::join);
        has_ended.store(true, Ordering::SeqCst);
        assert!(ends.iter().all(Result::is_ok), "a child has a lock file");
    });
    assert!(opened.load(Ordering::SeqCst) > 0);
    print_line("forked");
    wait_for_end_of_input();
}

/// Whether this process has one of the files open. Calls only `fstat`, which the forked child of a
/// process with several threads may call.
fn has_any(files: &[(u64, u64)]) -> bool {
    (0..256).any(|descriptor| {
        let mut found = std::mem::MaybeUninit::<libc::stat>::zeroed();
        // SAFETY: the buffer has the size of a `stat`, for which all zeros are valid, too.
        let found = unsafe {
            libc::fstat(descriptor, found.as_mut_ptr());
            found.assume_init()
        };
        files.contains(&(found.st_dev, found.st_ino))
    })
}

// --- pages ---

const TURN: usize = 10;

fn words_are_shared_between_processes(dir: &Path) {
    const TURNS: u64 = 2_000;
    let page = create_page(dir);
    let other = Peer::start("answers_turns", dir);
    let start = Instant::now();
    for turn in (1..TURNS).step_by(2) {
        page.store(TURN, turn);
        page.wake(TURN);
        while page.load(TURN) == turn {
            assert!(start.elapsed() < LIMIT, "turn {turn}");
            page.wait(TURN, turn, LIMIT);
        }
        assert_eq!(page.load(TURN), turn + 1);
        // Its earlier writes are visible, too.
        assert_eq!(page.load(TURN + 1), turn);
    }
    page.store(TURN, u64::MAX);
    page.wake(TURN);
    other.assert_success();
}

/// Add 1 to every odd number.
fn answers_turns(dir: &Path) {
    let page = open_page(dir);
    loop {
        let turn = page.load(TURN);
        match turn {
            u64::MAX => return,
            _ if turn % 2 == 1 => {
                page.raise(TURN + 1, turn);
                assert!(page.exchange(TURN, turn, turn + 1));
                page.wake(TURN);
            }
            _ => page.wait(TURN, turn, HOUR),
        }
    }
}

fn words_outlive_the_process_that_wrote_them(dir: &Path) {
    let mut writer = Peer::start("writes_words", dir);
    writer.expect_lines(["written"]);
    writer.kill();
    let page = open_page(dir);
    assert_eq!([0, 1, 2].map(|word| page.load(word)), [7, 0, u64::MAX]);
    assert!(page.is_in_place().unwrap());
    fs::remove_file(dir.join("page")).unwrap();
    assert!(!page.is_in_place().unwrap());
}

fn writes_words(dir: &Path) {
    let page = create_page(dir);
    page.store(0, 7);
    page.store(2, u64::MAX);
    print_line("written");
    wait_for_end_of_input();
}

const START: usize = 20;
const WOKEN: usize = 30;

fn a_wake_up_ends_the_waits_of_all_processes(dir: &Path) {
    let page = create_page(dir);
    let waiters = [(); 4].map(|()| Peer::start("waits_for_a_wake_up", dir));
    for waiter in &waiters {
        waiter.expect_lines(["waiting"]);
        wait_until(|| is_asleep(waiter));
    }
    page.store(START, 1);
    page.wake(START);
    wait_until(|| page.load(WOKEN) == 4);
    waiters.into_iter().for_each(Peer::assert_success);
}

/// Whether a process of one thread sleeps. True where `/proc` does not exist.
fn is_asleep(player: &Peer) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", player.id()));
    stat.map_or(true, |stat| stat.contains(") S "))
}

fn waits_for_a_wake_up(dir: &Path) {
    let page = open_page(dir);
    print_line("waiting");
    while page.load(START) == 0 {
        page.wait(START, 0, HOUR);
    }
    page.add(WOKEN, 1);
}

fn a_page_that_cannot_be_created_completely_is_removed(dir: &Path) {
    let other = Peer::start("has_a_file_size_limit", dir);
    other.expect_lines(["refused"]);
    other.assert_success();
    assert!(!dir.join("page").exists());
}

/// Limits the size of a file to half a page.
fn has_a_file_size_limit(dir: &Path) {
    use rustix::process::{Resource, getrlimit, setrlimit};
    // SAFETY: no handler is installed. The signal that accompanies the error is ignored.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
    let mut limit = getrlimit(Resource::Fsize);
    limit.current = Some(32 * 1024);
    setrlimit(Resource::Fsize, limit).unwrap();
    let path = dir.join("page");
    let refused = OsVfs::new().open_page(&path, OpenMode::CreateNew);
    assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::FileTooLarge);
    assert!(!path.exists());
    print_line("refused");
    wait_for_end_of_input();
}
