//! A shared store among others that don't keep its rules: programs that write to its page,
//! locks that slip away while they change hands, a page from before a loss of power.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails loudly"
)]

mod support;

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use eventbraid_engine::lock::Mutex;
use eventbraid_engine::vfs::sim::{Persist, SimVfs};
use eventbraid_engine::vfs::{
    Entry, Hold, LockFile, OpenMode, PAGE_WORDS, SharedPage, Vfs, VfsFile,
};
use eventbraid_engine::{Depth, Error, LogQuery, Mode, Options, ReadMode, Store};
use support::{ROOT, append, bodies, log, open, open_with, options, prepared, threaded};

/// Where the page says how often the end of the log was published.
const TAIL_TURN: usize = 80;
/// Where it says how often what is durable was.
const DURABLE_TURN: usize = 112;
/// Where the page says how far a write that is under way will go, and whose it is.
const DIRTY: usize = 56;
const WRITER: usize = 57;
/// Where it says how its processes share the store.
const PROTOCOL: usize = 1;
/// Where it says under which kernel it was made.
const KERNEL: usize = 7;
/// And on which device.
const DEVICE: usize = 9;
/// The words before the members' table.
const COORDINATION: usize = 512;

fn shared(mut options: Options) -> Options {
    options.mode = Mode::Shared;
    options.lock_timeout = Duration::from_millis(200);
    options
}

fn page(disk: &SimVfs) -> Arc<dyn SharedPage> {
    let path = Path::new(ROOT).join("coord.shm");
    disk.open_page(&path, OpenMode::ReadWrite).unwrap()
}

/// All that was acknowledged is there, in this order.
fn assert_kept(disk: &SimVfs, acknowledged: &[String], context: &str) {
    let store = open(disk.clone()).unwrap_or_else(|e| panic!("{context}: {e}"));
    let found = bodies(&log(&store));
    let mut rest = found.iter();
    for body in acknowledged {
        assert!(
            rest.any(|other| other == body),
            "{context}: {body} of {acknowledged:?} is not in {found:?}"
        );
    }
}

type Hook = Arc<dyn Fn(&dyn LockFile, Hold) -> Option<bool> + Send + Sync>;

/// A file system whose lock on the store is asked about first: the answer of a hook is that
/// of the lock.
#[derive(Clone)]
struct LockedVfs {
    disk: SimVfs,
    hook: Hook,
}

impl LockedVfs {
    fn new(
        disk: &SimVfs,
        hook: impl Fn(&dyn LockFile, Hold) -> Option<bool> + Send + Sync + 'static,
    ) -> Self {
        Self {
            disk: disk.clone(),
            hook: Arc::new(hook),
        }
    }
}

impl fmt::Debug for LockedVfs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockedVfs").finish_non_exhaustive()
    }
}

impl Vfs for LockedVfs {
    fn hold(&self, directory: &Path) -> io::Result<Arc<dyn Vfs>> {
        Ok(Arc::new(Self {
            disk: self.disk.holding(directory)?,
            hook: Arc::clone(&self.hook),
        }))
    }
    fn is_in_place(&self, directory: &Path) -> io::Result<bool> {
        self.disk.is_in_place(directory)
    }
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.disk.create_dir(path)
    }
    fn entry(&self, path: &Path) -> io::Result<Option<Entry>> {
        self.disk.entry(path)
    }
    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        self.disk.list(path)
    }
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn VfsFile>> {
        self.disk.open(path, mode)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove(path)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.disk.sync_dir(path)
    }
    fn open_lock(&self, path: &Path, create: bool) -> io::Result<Arc<dyn LockFile>> {
        let lock = self.disk.open_lock(path, create)?;
        if path != Path::new(ROOT) {
            return Ok(lock);
        }
        let hook = Arc::clone(&self.hook);
        Ok(Arc::new(AskedLock { lock, hook }))
    }
    fn open_page(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn SharedPage>> {
        self.disk.open_page(path, mode)
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
    fn random(&self, buf: &mut [u8]) -> io::Result<()> {
        self.disk.random(buf)
    }
}

struct AskedLock {
    lock: Arc<dyn LockFile>,
    hook: Hook,
}

impl fmt::Debug for AskedLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AskedLock").finish_non_exhaustive()
    }
}

impl LockFile for AskedLock {
    fn try_lock(&self, hold: Hold) -> io::Result<bool> {
        match (self.hook)(&*self.lock, hold) {
            Some(answer) => Ok(answer),
            None => self.lock.try_lock(hold),
        }
    }
    fn unlock(&self) -> io::Result<()> {
        self.lock.unlock()
    }
    fn is_in_place(&self) -> io::Result<bool> {
        self.lock.is_in_place()
    }
    fn number(&self) -> io::Result<u64> {
        self.lock.number()
    }
}

#[test]
fn a_page_whose_tail_was_set_back_costs_no_commit() {
    let disk = SimVfs::memory();
    let a = open_with(disk.clone(), shared(options())).unwrap();
    let b = open_with(disk.clone(), shared(options())).unwrap();
    append(&a, &[("s", b"first")]).unwrap();
    append(&b, &[("s", b"second")]).unwrap();
    append(&a, &[("s", b"third")]).unwrap();
    let page = page(&disk);
    page.store(TAIL_TURN, page.load(TAIL_TURN) - 1);
    let refused = append(&b, &[("s", b"fourth")]);
    assert!(
        matches!(refused, Err(Error::Detached { .. })),
        "{refused:?}"
    );
    drop((a, b));
    let acknowledged = ["first", "second", "third"].map(str::to_owned);
    assert_kept(&disk, &acknowledged, "afterwards");
}

/// Whatever stands in the page, nobody hangs, nothing acknowledged is lost, and errors are
/// of the kinds that there are.
#[test]
fn no_word_of_the_page_costs_a_commit() {
    for word in (0..COORDINATION).filter(|word| word % 8 < 2 || (80..144).contains(word)) {
        for change in 0..6 {
            let context = format!("word {word}, change {change}");
            let disk = SimVfs::memory();
            let a = open_with(disk.clone(), shared(options())).unwrap();
            let b = open_with(disk.clone(), shared(options())).unwrap();
            let mut acknowledged = Vec::new();
            let mut tell =
                |store: &Store, body: &str| match append(store, &[("s", body.as_bytes())]) {
                    Ok(_) => acknowledged.push(body.to_owned()),
                    Err(
                        Error::Detached { .. }
                        | Error::Poisoned { .. }
                        | Error::StoreBusy { .. }
                        | Error::OutcomeUnknown { .. },
                    ) => {}
                    Err(e) => panic!("{context}: {e:?}"),
                };
            tell(&a, "first");
            tell(&b, "second");
            tell(&a, "third");
            let page = page(&disk);
            let now = page.load(word);
            let value = match change {
                0 => 0,
                1 => 1,
                2 => u64::MAX,
                3 => now.wrapping_add(1),
                4 => now.wrapping_sub(1),
                _ => 0x5555_5555_5555_5555,
            };
            page.store(word, value);
            let began = Instant::now();
            tell(&b, "fourth");
            tell(&a, "fifth");
            if change == 4 {
                let joined = open_with(disk.clone(), shared(options()));
                if let Ok(c) = joined {
                    tell(&c, "sixth");
                }
            }
            tell(&b, "seventh");
            assert!(began.elapsed() < Duration::from_secs(10), "{context}");
            drop((a, b));
            assert_kept(&disk, &acknowledged, &context);
        }
    }
}

/// `flock` changes from one hold to the other in two steps, and somebody who wants the store
/// alone may come between.
#[test]
fn who_loses_the_store_while_letting_others_in_writes_no_more() {
    let disk = SimVfs::memory();
    let stranger: Arc<Mutex<Option<Arc<dyn LockFile>>>> = Arc::default();
    let (theirs, sim) = (Arc::clone(&stranger), disk.clone());
    let slipping = LockedVfs::new(&disk, move |own, hold| {
        if hold == Hold::Shared && theirs.lock().is_none() {
            own.unlock().unwrap();
            let lock = sim.open_lock(Path::new(ROOT), false).unwrap();
            assert!(lock.try_lock(Hold::Exclusive).unwrap());
            *theirs.lock() = Some(lock);
        }
        None
    });
    let a = open_with(slipping, shared(threaded())).unwrap();
    append(&a, &[("s", b"first")]).unwrap();
    let knocked = open_with(disk.clone(), shared(options()));
    assert!(
        matches!(knocked, Err(Error::StoreBusy { .. })),
        "{knocked:?}"
    );
    assert!(stranger.lock().is_some(), "the store was not to be shared");
    let refused = append(&a, &[("s", b"second")]);
    assert!(
        matches!(refused, Err(Error::Detached { .. })),
        "{refused:?}"
    );
    assert_eq!(bodies(&log(&a)), ["first"]);
}

#[test]
fn who_loses_the_store_while_opening_it_does_not_have_it() {
    let disk = SimVfs::memory();
    let stranger: Arc<Mutex<Option<Arc<dyn LockFile>>>> = Arc::default();
    let (theirs, sim) = (Arc::clone(&stranger), disk.clone());
    let slipping = LockedVfs::new(&disk, move |own, hold| {
        if hold == Hold::Shared && theirs.lock().is_none() {
            own.unlock().unwrap();
            let lock = sim.open_lock(Path::new(ROOT), false).unwrap();
            assert!(lock.try_lock(Hold::Exclusive).unwrap());
            *theirs.lock() = Some(lock);
        }
        None
    });
    let opened = open_with(slipping, shared(options()));
    assert!(matches!(opened, Err(Error::StoreBusy { .. })), "{opened:?}");
}

/// The file of the page is on the disk, and a loss of power may bring an old state of it back.
/// Somebody who only looks at the store leaves it there, and is gone between the two attempts
/// of the next one to get the lock.
#[test]
fn a_page_that_nobody_is_behind_is_not_joined() {
    let disk = SimVfs::memory();
    let store = open_with(disk.clone(), shared(options())).unwrap();
    append(&store, &[("s", b"first")]).unwrap();
    let old: Vec<u64> = (0..PAGE_WORDS).map(|word| page(&disk).load(word)).collect();
    append(&store, &[("s", b"second")]).unwrap();
    drop(store);
    let found = page(&disk);
    for (word, value) in old.into_iter().enumerate() {
        found.store(word, value);
    }
    let looking = Mutex::new(true);
    let late = LockedVfs::new(&disk, move |_, hold| {
        let is_looked_at = hold == Hold::Exclusive && std::mem::take(&mut *looking.lock());
        is_looked_at.then_some(false)
    });
    let store = open_with(late, shared(options())).unwrap();
    assert_eq!(bodies(&log(&store)), ["first", "second"]);
    append(&store, &[("s", b"third")]).unwrap();
    drop(store);
    let acknowledged = ["first", "second", "third"].map(str::to_owned);
    assert_kept(&disk, &acknowledged, "afterwards");
}

/// A lock of the store, in the hands of a process that was stopped.
fn stopped_holder(disk: &SimVfs, name: &str) -> Arc<dyn LockFile> {
    let path = Path::new(ROOT).join("locks").join(name);
    let lock = disk.open_lock(&path, false).unwrap();
    assert!(lock.try_lock(Hold::Exclusive).unwrap());
    lock
}

#[test]
fn a_stopped_writer_of_any_number_keeps_others_waiting_and_no_longer() {
    for number in [0, 1, 240, 241, u64::MAX / 32, u64::MAX - 1, u64::MAX] {
        let disk = SimVfs::memory();
        let store = open_with(disk.clone(), shared(options())).unwrap();
        page(&disk).store(WRITER, number);
        let stopped = stopped_holder(&disk, "write.lock");
        let refused = append(&store, &[("s", b"first")]);
        assert!(
            matches!(refused, Err(Error::StoreBusy { .. })),
            "{number}: {refused:?}"
        );
        drop(stopped);
        append(&store, &[("s", b"first")]).unwrap();
    }
}

/// One process is waited for once, however many appends want the next segment.
#[test]
fn a_queue_does_not_wait_for_a_stopped_process_once_an_append() {
    const APPENDS: usize = 40;
    let disk = SimVfs::memory();
    let _other = open_with(disk.clone(), shared(options())).unwrap();
    let store = open_with(disk.clone(), shared(threaded())).unwrap();
    append(&store, &[("s", &[b'x'; 9000])]).unwrap();
    let _stopped = stopped_holder(&disk, "sync.lock");
    let (sender, answers) = std::sync::mpsc::channel();
    let began = Instant::now();
    for _ in 0..APPENDS {
        let sender = sender.clone();
        let told = move |result| sender.send(result).unwrap();
        store.submit(prepared("s", &[b'x'; 9000]), Box::new(told));
    }
    for _ in 0..APPENDS {
        let answer = answers.recv_timeout(Duration::from_secs(20)).unwrap();
        assert!(
            matches!(
                answer,
                Err(Error::StoreBusy { .. } | Error::OutcomeUnknown { .. })
            ),
            "{answer:?}"
        );
    }
    let waited = began.elapsed();
    assert!(waited < Duration::from_secs(4), "{waited:?}");
}

#[test]
fn a_read_on_an_event_loop_opens_no_segment() {
    let disk = SimVfs::memory();
    let a = open_with(disk.clone(), shared(options())).unwrap();
    let b = open_with(disk.clone(), shared(options())).unwrap();
    let mut inline = LogQuery::all();
    inline.mode = ReadMode::NonBlocking;
    append(&a, &[("s", &[b'x'; 9000])]).unwrap();
    assert_eq!(b.read_log(&inline).unwrap().events.len(), 1);
    append(&a, &[("s", &[b'x'; 9000])]).unwrap();
    let asked = b.read_log(&inline);
    assert!(matches!(asked, Err(Error::WouldBlock)), "{asked:?}");
    b.catch_up(ReadMode::Blocking).unwrap();
    assert_eq!(b.read_log(&inline).unwrap().events.len(), 2);
}

#[test]
fn who_only_looks_verifies_a_log_that_a_dead_process_left_bytes_in() {
    let disk = SimVfs::memory();
    let store = open_with(disk.clone(), shared(options())).unwrap();
    append(&store, &[("s", b"first")]).unwrap();
    let mut looking = shared(options());
    looking.read_only = true;
    let look = open_with(disk.clone(), looking).unwrap();
    page(&disk).store(DIRTY, 8192);
    disk.corrupt("/store/log/0000000001.hot", 8000, 0x40)
        .unwrap();
    assert_eq!(look.verify(Depth::Full).unwrap().events, 1);
    let left = disk.read_file("/store/log/0000000001.hot").unwrap();
    assert_eq!(left[8000], 0x40, "it wrote");
    append(&store, &[("s", b"second")]).unwrap();
    assert_eq!(store.verify(Depth::Full).unwrap().events, 2);
}

#[test]
fn who_waits_for_nobody_gets_what_nobody_has() {
    let disk = SimVfs::memory();
    let mut impatient = shared(options());
    impatient.lock_timeout = Duration::ZERO;
    let a = open_with(disk.clone(), impatient).unwrap();
    let b = open_with(disk.clone(), impatient).unwrap();
    append(&a, &[("s", b"first")]).unwrap();
    let stopped = stopped_holder(&disk, "write.lock");
    for store in [&a, &b] {
        let refused = append(store, &[("s", b"second")]);
        assert!(
            matches!(refused, Err(Error::StoreBusy { .. })),
            "{refused:?}"
        );
    }
    drop(stopped);
    append(&b, &[("s", b"second")]).unwrap();
    append(&a, &[("s", b"third")]).unwrap();
}

/// Two builds that share stores in different ways never do: the later one is told, and the
/// one that finds the page changed under it writes no more.
#[test]
fn a_build_with_another_protocol_is_refused() {
    let disk = SimVfs::memory();
    let store = open_with(disk.clone(), shared(options())).unwrap();
    append(&store, &[("s", b"first")]).unwrap();
    let words = page(&disk);
    let own = words.load(PROTOCOL);
    words.store(PROTOCOL, own + 1);
    let refused = open_with(disk.clone(), shared(options()));
    let Err(Error::StoreBusy { holder, .. }) = refused else {
        panic!("{refused:?}");
    };
    assert!(holder.contains("another version"), "{holder}");
    let stopped = append(&store, &[("s", b"second")]);
    assert!(
        matches!(stopped, Err(Error::Detached { .. })),
        "{stopped:?}"
    );
    drop(store);
    assert_kept(&disk, &["first".to_owned()], "afterwards");
}

/// Locks may reach another kernel through a folder that it shares; memory does not.
#[test]
fn a_page_of_another_kernel_is_not_shared() {
    let disk = SimVfs::memory();
    let store = open_with(disk.clone(), shared(options())).unwrap();
    append(&store, &[("s", b"first")]).unwrap();
    let words = page(&disk);
    words.store(KERNEL, disk.kernel() + 1);
    // A container is shown a number of its own, and shares the memory all the same.
    drop(open_with(disk.clone(), shared(options())).unwrap());
    words.store(DEVICE, words.device().unwrap() + 1);
    let refused = open_with(disk.clone(), shared(options()));
    let Err(Error::Unshareable { reason, .. }) = refused else {
        panic!("{refused:?}");
    };
    assert!(reason.contains("another kernel"), "{reason}");
    append(&store, &[("s", b"second")]).unwrap();
    store.close().unwrap();
    let kept = ["first".to_owned(), "second".to_owned()];
    assert_kept(&disk, &kept, "afterwards");
}

/// A machine that was started again finds the page of its life before.
#[test]
fn a_page_from_before_a_restart_keeps_nobody_out() {
    let disk = SimVfs::tracked(1);
    let store = open_with(disk.clone(), shared(options())).unwrap();
    append(&store, &[("s", b"first")]).unwrap();
    let restarted = disk.power_cut(Persist::Everything);
    for word in [KERNEL, DEVICE] {
        let words = page(&restarted);
        words.store(word, words.load(word) + 1);
    }
    let mut look = options();
    look.read_only = true;
    let looking = open_with(restarted.clone(), look).unwrap();
    let busy = open_with(restarted.clone(), shared(options()));
    assert!(matches!(busy, Err(Error::StoreBusy { .. })), "{busy:?}");
    drop(looking);
    let a = open_with(restarted.clone(), shared(options())).unwrap();
    let b = open_with(restarted.clone(), shared(options())).unwrap();
    append(&a, &[("s", b"second")]).unwrap();
    append(&b, &[("s", b"third")]).unwrap();
}

/// The number of a record was set back, and counted on to what it was.
#[test]
fn a_number_that_comes_again_hides_no_commit() {
    let disk = SimVfs::memory();
    let a = open_with(disk.clone(), shared(options())).unwrap();
    let b = open_with(disk.clone(), shared(options())).unwrap();
    append(&a, &[("s", b"first")]).unwrap();
    append(&b, &[("s", b"second")]).unwrap();
    assert_eq!(log(&a).len(), 2);
    let words = page(&disk);
    words.store(DURABLE_TURN, words.load(DURABLE_TURN) - 1);
    let c = open_with(disk.clone(), shared(options())).unwrap();
    assert_eq!((c.head().unwrap(), log(&c).len()), (2, 2));
    let (done, append_ends) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let appended = append(&b, &[("s", b"third")]);
        // Nobody listens where this came too late.
        let _told = done.send((appended, b));
    });
    let (appended, _b) = append_ends.recv_timeout(Duration::from_secs(20)).unwrap();
    appended.unwrap();
    assert_eq!((log(&a).len(), log(&c).len()), (3, 3));
}

/// The number of the second record became that of none: the first is no longer to be had.
#[test]
fn a_number_of_no_record_shows_no_older_one() {
    let disk = SimVfs::memory();
    let a = open_with(disk.clone(), shared(options())).unwrap();
    let b = open_with(disk.clone(), shared(options())).unwrap();
    append(&a, &[("s", b"first")]).unwrap();
    assert_eq!(b.head().unwrap(), 1);
    while page(&disk).load(DURABLE_TURN) < 3 {
        append(&a, &[("s", b"another")]).unwrap();
    }
    let words = page(&disk);
    words.store(DURABLE_TURN, words.load(DURABLE_TURN) - 2);
    let told = b.head();
    assert!(matches!(told, Err(Error::Detached { .. })), "{told:?}");
}

/// Of the page's older copy the log may have left the segment: what is written at the old end,
/// or first in the next segment, would be written over it.
#[test]
fn an_older_copy_of_the_page_is_found_out_across_segments() {
    for (size, is_known) in [(10, false), (10, true), (3000, false), (3000, true)] {
        let context = format!("{size} bytes, next segment known: {is_known}");
        let disk = SimVfs::memory();
        let mut small = shared(options());
        (small.first_segment, small.max_segment) = (8 << 10, 8 << 10);
        let a = open_with(disk.clone(), small).unwrap();
        append(&a, &[("s", &[b'1'; 2000])]).unwrap();
        let mut acknowledged = bodies(&log(&a));
        if is_known {
            // A segment that is too small for the next frame stays empty.
            append(&a, &[("s", &[b'2'; 3000])]).unwrap();
            acknowledged = bodies(&log(&a));
        }
        let b = open_with(disk.clone(), small).unwrap();
        assert_eq!(bodies(&log(&b)), acknowledged, "{context}");
        let words = page(&disk);
        let copy: Vec<u64> = (0..COORDINATION).map(|word| words.load(word)).collect();
        append(&a, &[("s", &[b'3'; 6000])]).unwrap();
        acknowledged.push("3".repeat(6000));
        for (word, value) in copy.into_iter().enumerate() {
            words.store(word, value);
        }
        let over = append(&b, &[("s", &vec![b'x'; size])]);
        assert!(
            matches!(over, Err(Error::Detached { .. })),
            "{context}: {over:?}"
        );
        drop((a, b));
        assert_kept(&disk, &acknowledged, &context);
    }
}
