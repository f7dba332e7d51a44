//! Locks and shared memory among real processes: what dies with one, and what a forked child
//! has of its parent's.
//!
//! `flock` belongs to the open file, which a forked child has too: an idle child would keep
//! the locks of a parent that was killed, and whoever waits for them would wait for ever.
//! So a fork closes lock files in the child, whatever other threads are doing meanwhile.
//!
//! This program starts itself again to play the part of each other process. There is no test
//! harness: a process that forks has one thread here, but where its threads are the point.
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

/// Far more than anything here takes.
const LIMIT: Duration = Duration::from_mins(1);
/// A wait that is over sooner was ended by something else.
const HOUR: Duration = Duration::from_hours(1);
/// Names the part that this process plays.
const PART: &str = "EVENTBRAID_TEST_PART";

/// A test, or the part of another process in one; both work in a directory.
type Named = (&'static str, fn(&Path));

macro_rules! named {
    ($($function:ident)*) => { &[$((stringify!($function), $function)),*] };
}

const TESTS: &[Named] = named! {
    a_lock_dies_with_its_process
    a_forked_idle_child_keeps_no_lock_of_a_dead_parent
    a_forked_child_that_drops_its_parents_lock_does_not_free_it
    a_child_without_handlers_neither_frees_nor_keeps_its_parents_locks
    a_program_that_was_started_keeps_no_lock_of_its_parent
    forks_in_a_row_leak_no_descriptor
    forks_miss_no_lock_file_that_a_thread_is_opening
    words_are_shared_between_processes
    words_outlive_the_process_that_wrote_them
    a_wake_ends_the_waits_of_all_processes
    a_page_that_cant_be_made_whole_is_not_there
};

const PARTS: &[Named] = named! {
    holds_alone
    holds_shared
    forks_an_idle_child
    forks_a_child_that_drops
    clones_a_child_without_handlers
    starts_a_program
    idles
    forks_in_a_row
    forks_among_openers
    answers
    writes_words
    sleeps
    has_no_room
};

fn main() {
    let mut arguments = std::env::args().skip(1);
    if let Ok(name) = std::env::var(PART) {
        let (_, part) = PARTS.iter().find(|(part, _)| *part == name).unwrap();
        end_in_time();
        return part(&PathBuf::from(arguments.next().unwrap()));
    }
    let filter = arguments.find(|argument| !argument.starts_with('-'));
    let filter = filter.unwrap_or_default();
    for (name, test) in TESTS.iter().filter(|(name, _)| name.contains(&filter)) {
        say(name);
        test(tempfile::tempdir().unwrap().path());
    }
}

// --- the other processes, seen from the test ---

/// A process that plays a part. It is killed when the test is over, however it ends.
struct Player {
    process: Child,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
}

impl Player {
    fn of(part: &str, dir: &Path) -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .arg(dir)
            .env(PART, part)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        let (heard, lines) = channel();
        std::thread::spawn(move || {
            let mut lines = output.lines().map_while(Result::ok);
            lines.try_for_each(|line| heard.send(line))
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

    /// Waits until it, and who it started, have said this, in any order.
    #[track_caller]
    fn hear<const N: usize>(&self, mut expected: [&str; N]) {
        let mut heard = expected.map(|_| self.lines.recv_timeout(LIMIT).unwrap());
        heard.sort_unstable();
        expected.sort_unstable();
        assert_eq!(heard, expected);
    }

    /// Tells it to go on.
    fn cue(&mut self) {
        self.input.as_mut().unwrap().write_all(b"\n").unwrap();
    }

    /// Kills it, and none of those that it started.
    fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Lets it, and all that it started, come to an end.
    fn end(&mut self) {
        drop(self.input.take());
    }

    /// Lets it end, well.
    #[track_caller]
    fn must_end(mut self) {
        self.end();
        let rest = self.lines.recv_timeout(LIMIT);
        assert_eq!(rest, Err(RecvTimeoutError::Disconnected));
        assert!(self.process.wait().unwrap().success());
    }
}

impl Drop for Player {
    fn drop(&mut self) {
        self.end();
        let _ended_before = self.process.kill();
        let _reaped_before = self.process.wait();
    }
}

fn open_lock(path: &Path) -> Arc<dyn LockFile> {
    OsVfs::new().open_lock(path, true).unwrap()
}

fn held_alone(path: &Path) -> Arc<dyn LockFile> {
    let lock = open_lock(path);
    assert!(lock.try_lock(Hold::Exclusive).unwrap());
    lock
}

fn is_free(path: &Path) -> bool {
    open_lock(path).try_lock(Hold::Exclusive).unwrap()
}

fn make_page(dir: &Path) -> Arc<dyn SharedPage> {
    let path = dir.join("page");
    OsVfs::new().open_page(&path, OpenMode::CreateNew).unwrap()
}

fn found_page(dir: &Path) -> Arc<dyn SharedPage> {
    let path = dir.join("page");
    OsVfs::new().open_page(&path, OpenMode::ReadWrite).unwrap()
}

#[track_caller]
fn until(mut what: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !what() {
        assert!(begun.elapsed() < LIMIT, "it never comes to that");
        std::thread::yield_now();
    }
}

// --- what a part says and waits for ---

/// Nothing is kept back that a fork would double.
fn say(line: &str) {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}").unwrap();
    out.flush().unwrap();
}

/// A part that hangs ends by itself, also when the test is gone.
fn end_in_time() {
    let seconds = u32::try_from(2 * LIMIT.as_secs()).unwrap();
    // SAFETY: a signal that ends the process, and has no handler.
    unsafe { libc::alarm(seconds) };
}

fn until_cue() {
    io::stdin().read_exact(&mut [0]).unwrap();
}

fn until_end() {
    io::stdin().read_to_end(&mut Vec::new()).unwrap();
}

/// Waits until no process has the other end.
fn until_closed(mut pipe: PipeReader) {
    pipe.read_to_end(&mut Vec::new()).unwrap();
}

/// The child, or `None` in the child.
fn fork() -> Option<Pid> {
    // SAFETY: the child of a process with several threads calls `fstat` and `_exit` only.
    Pid::from_raw(checked(unsafe { libc::fork() }))
}

/// As [`fork`], by a bare system call, of which the C library knows nothing.
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

/// What a child does: nothing of its parent's goes on in it.
fn in_child(body: impl FnOnce()) -> ! {
    end_in_time();
    let outcome = catch_unwind(AssertUnwindSafe(body));
    exit(i32::from(outcome.is_err()))
}

fn exit(code: i32) -> ! {
    // SAFETY: a forked process may end itself, and owes nobody a clean-up.
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

fn a_lock_dies_with_its_process(dir: &Path) {
    let file = dir.join("lock");
    drop(open_lock(&file));
    for path in [&file, dir] {
        let ours = open_lock(path);
        for part in ["holds_alone", "holds_shared"] {
            let mut holder = Player::of(part, path);
            holder.hear(["held"]);
            assert!(!ours.try_lock(Hold::Exclusive).unwrap());
            holder.kill();
            assert!(ours.try_lock(Hold::Exclusive).unwrap());
            ours.unlock().unwrap();
        }
    }
}

fn holds_alone(path: &Path) {
    let _lock = held_alone(path);
    say("held");
    until_end();
}

fn holds_shared(path: &Path) {
    let lock = open_lock(path);
    assert!(lock.try_lock(Hold::Shared).unwrap());
    say("held");
    until_end();
}

fn a_forked_idle_child_keeps_no_lock_of_a_dead_parent(dir: &Path) {
    let mut parent = Player::of("forks_an_idle_child", dir);
    parent.hear(["the child idles", "the parent holds"]);
    assert!(!is_free(&dir.join("lock")) && !is_free(dir));
    parent.kill();
    assert!(is_free(&dir.join("lock")) && is_free(dir));
    parent.end();
    parent.hear(["the child ends"]);
}

fn forks_an_idle_child(dir: &Path) {
    let _locks = [held_alone(&dir.join("lock")), held_alone(dir)];
    if fork().is_none() {
        in_child(|| {
            say("the child idles");
            until_end();
            say("the child ends");
        });
    }
    say("the parent holds");
    until_end();
}

fn a_forked_child_that_drops_its_parents_lock_does_not_free_it(dir: &Path) {
    let mut parent = Player::of("forks_a_child_that_drops", dir);
    parent.hear(["the child has dropped it"]);
    assert!(!is_free(&dir.join("lock")));
    parent.kill();
    parent.hear(["the child has it"]);
}

fn forks_a_child_that_drops(dir: &Path) {
    let lock = held_alone(&dir.join("lock"));
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
            say("the child has dropped it");
            until_closed(gone);
            until(|| own.try_lock(Hold::Exclusive).unwrap());
            say("the child has it");
        });
    }
    until_end();
}

fn a_child_without_handlers_neither_frees_nor_keeps_its_parents_locks(dir: &Path) {
    let paths = ["dropped", "kept"].map(|name| dir.join(name));
    let mut parent = Player::of("clones_a_child_without_handlers", dir);
    parent.hear(["the child has dropped one"]);
    assert!(paths.iter().all(|path| !is_free(path)));
    parent.cue();
    parent.hear(["the parent has dropped both"]);
    assert!(paths.iter().all(|path| is_free(path)));
    parent.must_end();
}

/// The child has its parent's files open as long as it lives, which is longer.
fn clones_a_child_without_handlers(dir: &Path) {
    let [dropped, kept] = ["dropped", "kept"].map(|name| held_alone(&dir.join(name)));
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
            say("the child has dropped one");
            until_closed(gone);
            assert_useless(&kept);
        })
    };
    until_cue();
    drop((dropped, kept));
    say("the parent has dropped both");
    until_end();
    drop(alive);
    reap(child);
}

fn a_program_that_was_started_keeps_no_lock_of_its_parent(dir: &Path) {
    let mut parent = Player::of("starts_a_program", dir);
    parent.hear(["the parent holds", "the program idles"]);
    assert!(!is_free(&dir.join("lock")));
    parent.kill();
    assert!(is_free(&dir.join("lock")));
    parent.end();
    parent.hear(["the program ends"]);
}

fn starts_a_program(dir: &Path) {
    let _lock = held_alone(&dir.join("lock"));
    let program = std::env::current_exe().unwrap();
    let mut started = Command::new(program);
    let mut started = started.arg(dir).env(PART, "idles").spawn().unwrap();
    say("the parent holds");
    started.wait().unwrap();
}

fn idles(_dir: &Path) {
    say("the program idles");
    until_end();
    say("the program ends");
}

fn forks_in_a_row_leak_no_descriptor(dir: &Path) {
    let parent = Player::of("forks_in_a_row", dir);
    parent.hear(["forked"]);
    parent.must_end();
}

fn forks_in_a_row(dir: &Path) {
    let locks = ["a", "b", "c"].map(|name| held_alone(&dir.join(name)));
    let before = descriptors();
    for _ in 0..200 {
        if let Some(child) = fork() {
            reap(child);
            continue;
        }
        in_child(|| {
            assert_eq!(descriptors(), before - locks.len());
            // Of the child before nobody keeps it.
            let own = held_alone(&dir.join("child"));
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
    say("forked");
    until_end();
}

/// How many descriptors are open in this process.
fn descriptors() -> usize {
    fs::read_dir("/dev/fd").unwrap().count()
}

fn forks_miss_no_lock_file_that_a_thread_is_opening(dir: &Path) {
    let parent = Player::of("forks_among_openers", dir);
    parent.hear(["forked"]);
    parent.must_end();
}

fn forks_among_openers(dir: &Path) {
    let paths = ["a", "b", "c"].map(|name| dir.join(name));
    let files = paths.each_ref().map(|path| {
        drop(open_lock(path));
        let found = fs::metadata(path).unwrap();
        (found.dev(), found.ino())
    });
    let is_over = AtomicBool::new(false);
    let opened = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for path in &paths {
            let (is_over, opened) = (&is_over, &opened);
            scope.spawn(move || {
                while !is_over.load(Ordering::SeqCst) {
                    // No child has kept it.
                    let lock = held_alone(path);
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
        is_over.store(true, Ordering::SeqCst);
        assert!(ends.iter().all(Result::is_ok), "a child has a lock file");
    });
    assert!(opened.load(Ordering::SeqCst) > 0);
    say("forked");
    until_end();
}

/// Whether this process has one of the files open; fit for the child of many threads.
fn has_any(files: &[(u64, u64)]) -> bool {
    (0..256).any(|descriptor| {
        let mut found = std::mem::MaybeUninit::<libc::stat>::zeroed();
        // SAFETY: there is room for what `fstat` writes, and all zeros are a `stat` too.
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
    let page = make_page(dir);
    let other = Player::of("answers", dir);
    let begun = Instant::now();
    for turn in (1..TURNS).step_by(2) {
        page.store(TURN, turn);
        page.wake(TURN);
        while page.load(TURN) == turn {
            assert!(begun.elapsed() < LIMIT, "turn {turn}");
            page.wait(TURN, turn, LIMIT);
        }
        assert_eq!(page.load(TURN), turn + 1);
        // What else it did before it answered is there too.
        assert_eq!(page.load(TURN + 1), turn);
    }
    page.store(TURN, u64::MAX);
    page.wake(TURN);
    other.must_end();
}

/// Adds 1 to every odd number.
fn answers(dir: &Path) {
    let page = found_page(dir);
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
    let mut writer = Player::of("writes_words", dir);
    writer.hear(["written"]);
    writer.kill();
    let page = found_page(dir);
    assert_eq!([0, 1, 2].map(|word| page.load(word)), [7, 0, u64::MAX]);
    assert!(page.is_in_place().unwrap());
    fs::remove_file(dir.join("page")).unwrap();
    assert!(!page.is_in_place().unwrap());
}

fn writes_words(dir: &Path) {
    let page = make_page(dir);
    page.store(0, 7);
    page.store(2, u64::MAX);
    say("written");
    until_end();
}

const GO: usize = 20;
const WOKEN: usize = 30;

fn a_wake_ends_the_waits_of_all_processes(dir: &Path) {
    let page = make_page(dir);
    let sleepers = [(); 4].map(|()| Player::of("sleeps", dir));
    for sleeper in &sleepers {
        sleeper.hear(["good night"]);
        until(|| is_asleep(sleeper));
    }
    page.store(GO, 1);
    page.wake(GO);
    until(|| page.load(WOKEN) == 4);
    sleepers.into_iter().for_each(Player::must_end);
}

/// Whether a process of one thread sleeps, where that can be seen.
fn is_asleep(player: &Player) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", player.id()));
    stat.map_or(true, |stat| stat.contains(") S "))
}

fn sleeps(dir: &Path) {
    let page = found_page(dir);
    say("good night");
    while page.load(GO) == 0 {
        page.wait(GO, 0, HOUR);
    }
    page.add(WOKEN, 1);
}

fn a_page_that_cant_be_made_whole_is_not_there(dir: &Path) {
    let other = Player::of("has_no_room", dir);
    other.hear(["refused"]);
    other.must_end();
    assert!(!dir.join("page").exists());
}

/// A file may have half the size of a page.
fn has_no_room(dir: &Path) {
    use rustix::process::{Resource, getrlimit, setrlimit};
    // SAFETY: no handler is installed; the signal that comes with the error is ignored.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
    let mut limit = getrlimit(Resource::Fsize);
    limit.current = Some(32 * 1024);
    setrlimit(Resource::Fsize, limit).unwrap();
    let path = dir.join("page");
    let refused = OsVfs::new().open_page(&path, OpenMode::CreateNew);
    assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::FileTooLarge);
    assert!(!path.exists());
    say("refused");
    until_end();
}
