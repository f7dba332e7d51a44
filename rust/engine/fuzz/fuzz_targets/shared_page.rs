//! A foreign program writes to the shared page between the calls of two sessions: no panic, no
//! hang, only typed errors. Each read returned a prefix of the log, and at the end the log contains
//! every acknowledged commit in its order.
#![no_main]

use std::path::Path;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use eventbraid_engine::vfs::sim::SimVfs;
use eventbraid_engine::vfs::{OpenMode, SharedPage, Vfs};
use eventbraid_engine::{Depth, Error, LogQuery, Mode, Store};
use eventbraid_engine_fuzz::{allocator::Limited, stores, take};
use libfuzzer_sys::fuzz_target;

#[global_allocator]
static ALLOCATOR: Limited = Limited;

/// The words before the table of sessions, and the slots of the first sessions.
const WORDS: usize = 512 + 3 * 32;
const MAXIMUM_STEPS: usize = 64;

static EMPTY: LazyLock<SimVfs> = LazyLock::new(|| {
    let vfs = SimVfs::memory();
    stores::open(&vfs).unwrap().close().unwrap();
    vfs.process_crash()
});

/// One run: two sessions that are open or closed, and the results of their calls.
struct Run {
    vfs: SimVfs,
    sessions: [Option<Store>; 2],
    copy: Vec<u64>,
    appends: u32,
    acknowledged: Vec<String>,
    read: Vec<Vec<String>>,
}

/// Open a session without a lock timeout, so that no step of the run waits.
fn open(vfs: &SimVfs) -> Result<Store, Error> {
    let mut options = stores::options();
    options.mode = Mode::Shared;
    options.lock_timeout = Duration::ZERO;
    Store::open(Arc::new(vfs.clone()), Path::new(stores::ROOT), options)
}

fn bodies(store: &Store) -> Result<Vec<String>, Error> {
    let page = store.read_log(&LogQuery::all())?;
    let body = |data: &[u8]| String::from_utf8_lossy(data).into_owned();
    Ok(page.events.iter().map(|event| body(event.data())).collect())
}

/// Return the value, or `None` for an error of an expected kind.
fn expected<T>(outcome: Result<T, Error>) -> Option<T> {
    match outcome {
        Ok(value) => Some(value),
        Err(
            Error::Closed
            | Error::Detached { .. }
            | Error::StoreBusy { .. }
            | Error::Unshareable { .. }
            | Error::Poisoned { .. }
            | Error::OutcomeUnknown { .. },
        ) => None,
        Err(e) => panic!("{e:?}"),
    }
}

impl Run {
    fn page(&self) -> Option<Arc<dyn SharedPage>> {
        let path = Path::new(stores::ROOT).join("coord.shm");
        self.vfs.open_page(&path, OpenMode::ReadWrite).ok()
    }

    fn append(&mut self, session: usize) {
        self.appends += 1;
        let body = format!("{}", self.appends);
        if let Some(store) = &self.sessions[session]
            && expected(stores::append(store, &[("s", body.as_bytes())], None)).is_some()
        {
            self.acknowledged.push(body);
        }
    }

    fn read(&mut self, session: usize) {
        if let Some(store) = &self.sessions[session]
            && let Some(read) = expected(bodies(store))
        {
            self.read.push(read);
        }
    }

    fn open_or_close(&mut self, session: usize) {
        self.sessions[session] = match self.sessions[session].take() {
            None => expected(open(&self.vfs)),
            Some(store) => {
                expected(store.close());
                None
            }
        };
    }

    fn overwrite(&self, word: u16, how: u8, value: u64) {
        let Some(page) = self.page() else { return };
        let word = usize::from(word) % WORDS;
        let other = usize::try_from(value % WORDS as u64).unwrap();
        let old = page.load(word);
        let new = match how % 5 {
            0 => value,
            1 => old.wrapping_add(value % 8),
            2 => old.wrapping_sub(value % 8),
            3 => old ^ (1 << (value % 64)),
            _ => page.load(other),
        };
        page.store(word, new);
    }

    fn copy_page(&mut self, restore: bool) {
        let Some(page) = self.page() else { return };
        if !restore {
            self.copy = (0..WORDS).map(|word| page.load(word)).collect();
            return;
        }
        for (word, value) in self.copy.iter().enumerate() {
            page.store(word, *value);
        }
    }

    /// Drop both sessions, and check the log with a new one.
    fn finish(self) {
        drop(self.sessions);
        let store = stores::open(&self.vfs).unwrap();
        let log = bodies(&store).unwrap();
        let mut rest = log.iter();
        for body in &self.acknowledged {
            assert!(rest.any(|other| other == body), "{body} is lost: {log:?}");
        }
        for read in &self.read {
            assert!(log.starts_with(read), "{read:?} was read of {log:?}");
        }
        assert_eq!(store.verify(Depth::Full).unwrap().events, log.len() as u64);
    }
}

fuzz_target!(|bytes: &[u8]| {
    let mut bytes = bytes;
    let vfs = EMPTY.process_crash();
    let mut run = Run {
        sessions: [open(&vfs).ok(), open(&vfs).ok()],
        vfs,
        copy: Vec::new(),
        appends: 0,
        acknowledged: Vec::new(),
        read: Vec::new(),
    };
    assert!(run.sessions.iter().all(Option::is_some), "two sessions");
    for _ in 0..MAXIMUM_STEPS {
        if bytes.is_empty() {
            break;
        }
        let [step, session] = take(&mut bytes);
        let session = usize::from(session % 2);
        match step % 8 {
            0 | 1 => run.append(session),
            2 => run.read(session),
            3 => run.open_or_close(session),
            4 => run.copy_page(session == 1),
            _ => {
                let [how] = take(&mut bytes);
                let word = u16::from_le_bytes(take(&mut bytes));
                run.overwrite(word, how, u64::from_le_bytes(take(&mut bytes)));
            }
        }
    }
    run.finish();
});
