//! Threads that append or close, and the results of submitted appends.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::JoinHandle;

use eventbraid_engine::mutex::Mutex;
use eventbraid_engine::vfs::sim::{Persist, SimVfs};
use eventbraid_engine::{Appended, Error, Store};

use super::hook::run_within_limit;
use super::{append, bodies, log, open, open_with, options, prepared, threaded};

pub(crate) type Answer = Result<Appended, Error>;

/// The results of submitted appends, by the numbers that the test gave them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answers(Arc<Mutex<BTreeMap<u64, Vec<Answer>>>>);

impl Answers {
    pub(crate) fn submit(&self, store: &Store, number: u64, stream: &str, data: &[u8]) {
        let answers = self.clone();
        let done = move |answer| answers.record(number, answer);
        store.submit(prepared(stream, data), Box::new(done));
    }

    pub(crate) fn record(&self, number: u64, answer: Answer) {
        self.0.lock().entry(number).or_default().push(answer);
    }

    pub(crate) fn count(&self) -> usize {
        self.0.lock().values().map(Vec::len).sum()
    }

    pub(crate) fn take(&self) -> BTreeMap<u64, Vec<Answer>> {
        std::mem::take(&mut *self.0.lock())
    }
}

pub(crate) fn spawn_append(store: &Store, name: &str, body: &'static [u8]) -> JoinHandle<Answer> {
    let store = store.clone();
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || append(&store, &[("a", body)]))
        .unwrap()
}

pub(crate) fn spawn_close(store: &Store) -> JoinHandle<Result<(), Error>> {
    let store = store.clone();
    std::thread::spawn(move || store.close())
}

/// Return the bodies in the log after a loss of power that removed all unsynced bytes.
pub(crate) fn durable_bodies(sim: &SimVfs) -> Vec<String> {
    bodies(&log(&open(sim.power_cut(Persist::Nothing)).unwrap()))
}

pub(crate) fn is_unknown(answer: &Answer) -> bool {
    matches!(answer, Err(Error::OutcomeUnknown { .. }))
}

/// Run a test that must end, with background threads and without.
pub(crate) fn with_and_without_threads(test: impl Fn(Store, Store) + Send + Copy + 'static) {
    for options in [options(), threaded()] {
        let store = open_with(SimVfs::tracked(1), options).unwrap();
        run_within_limit(move || test(store.clone(), store));
    }
}
