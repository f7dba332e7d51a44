//! Any program writes to the page of a shared store, between what its openings do: no panic,
//! no hang, a typed error at most. What was read was a beginning of the log, and in the end
//! all is there that was acknowledged, in its order.
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

/// The words before the members' table, and the entries of the first members.
const WORDS: usize = 512 + 3 * 32;
const MOST_MOVES: usize = 64;

static EMPTY: LazyLock<SimVfs> = LazyLock::new(|| {
    let vfs = SimVfs::memory();
    stores::open(&vfs).unwrap().close().unwrap();
    vfs.process_crash()
});

struct Game {
    vfs: SimVfs,
    openings: [Option<Store>; 2],
    copy: Vec<u64>,
    asked: u32,
    acknowledged: Vec<String>,
    read: Vec<Vec<String>>,
}

/// Who waits for nobody is told at once, so that no move takes its time.
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

fn told<T>(outcome: Result<T, Error>) -> Option<T> {
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

impl Game {
    fn page(&self) -> Option<Arc<dyn SharedPage>> {
        let path = Path::new(stores::ROOT).join("coord.shm");
        self.vfs.open_page(&path, OpenMode::ReadWrite).ok()
    }

    fn append(&mut self, who: usize) {
        self.asked += 1;
        let body = format!("{}", self.asked);
        if let Some(store) = &self.openings[who]
            && told(stores::append(store, &[("s", body.as_bytes())], None)).is_some()
        {
            self.acknowledged.push(body);
        }
    }

    fn look(&mut self, who: usize) {
        if let Some(store) = &self.openings[who]
            && let Some(read) = told(bodies(store))
        {
            self.read.push(read);
        }
    }

    fn open_or_close(&mut self, who: usize) {
        self.openings[who] = match self.openings[who].take() {
            None => told(open(&self.vfs)),
            Some(store) => {
                told(store.close());
                None
            }
        };
    }

    fn scribble(&self, word: u16, how: u8, value: u64) {
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

    fn copy_page(&mut self, back: bool) {
        let Some(page) = self.page() else { return };
        if !back {
            self.copy = (0..WORDS).map(|word| page.load(word)).collect();
            return;
        }
        for (word, value) in self.copy.iter().enumerate() {
            page.store(word, *value);
        }
    }

    /// All have gone; who comes then finds the log whole.
    fn end(self) {
        drop(self.openings);
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
    let mut game = Game {
        openings: [open(&vfs).ok(), open(&vfs).ok()],
        vfs,
        copy: Vec::new(),
        asked: 0,
        acknowledged: Vec::new(),
        read: Vec::new(),
    };
    assert!(game.openings.iter().all(Option::is_some), "two are in");
    for _ in 0..MOST_MOVES {
        if bytes.is_empty() {
            break;
        }
        let [what, who] = take(&mut bytes);
        let who = usize::from(who % 2);
        match what % 8 {
            0 | 1 => game.append(who),
            2 => game.look(who),
            3 => game.open_or_close(who),
            4 => game.copy_page(who == 1),
            _ => {
                let [how] = take(&mut bytes);
                let word = u16::from_le_bytes(take(&mut bytes));
                game.scribble(word, how, u64::from_le_bytes(take(&mut bytes)));
            }
        }
    }
    game.end();
});
