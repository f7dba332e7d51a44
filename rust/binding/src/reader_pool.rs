//! A few threads for the reads of event loops that have to wait for the disk.
//!
//! All state is under one mutex. The condition variable signals a new job or the end of the pool
//! to the idle threads.

use eventbraid_engine::mutex::{Condvar, Mutex};
use pyo3::prelude::*;
use std::collections::VecDeque;
use std::sync::Arc;

use crate::interrupt::spawn;

const THREADS: usize = 2;

type Job = Box<dyn FnOnce() + Send>;

/// Threads that are started when they are first needed and end with their store.
pub(crate) struct ReaderPool(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    threads: usize,
    idle: usize,
    ended: bool,
}

impl ReaderPool {
    pub(crate) fn new() -> Self {
        Self(Arc::default())
    }

    /// Run a job on one of the threads; jobs start in the order of arrival. If there is no thread
    /// and none can be started, the calling thread does the job.
    pub(crate) fn run(&self, job: impl FnOnce() + Send + 'static) {
        let mut state = self.0.state.lock();
        state.jobs.push_back(Box::new(job));
        if state.idle < state.jobs.len() && state.threads < THREADS {
            let shared = Arc::clone(&self.0);
            match spawn("reader", move || shared.work()) {
                Ok(()) => state.threads += 1,
                Err(no_thread) if state.threads == 0 => {
                    let job = state.jobs.pop_front();
                    drop((state, no_thread));
                    if let Some(job) = job {
                        Python::attach(|py| py.detach(job));
                    }
                    return;
                }
                // An existing thread does the job later.
                Err(_) => {}
            }
        }
        drop(state);
        self.0.changed.notify_one();
    }
}

impl Drop for ReaderPool {
    fn drop(&mut self) {
        self.0.state.lock().ended = true;
        self.0.changed.notify_all();
    }
}

impl Shared {
    fn work(&self) {
        while let Some(job) = self.next() {
            job();
        }
    }

    fn next(&self) -> Option<Job> {
        let mut state = self.state.lock();
        loop {
            if let Some(job) = state.jobs.pop_front() {
                return Some(job);
            }
            if state.ended {
                return None;
            }
            state.idle += 1;
            self.changed.wait(&mut state);
            state.idle -= 1;
        }
    }
}
