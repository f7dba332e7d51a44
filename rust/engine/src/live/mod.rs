//! The open log: the state that readers, the committer and subscriptions share.
//!
//! It owns the durable index, the chunk cache, the counters and the reason for which writing has
//! stopped. It doesn't write to the log; `commit` does.
//!
//! * `live_log`: its state. `loader`: chunks from the cache or the file.
//! * `keyed_result`: the result under an idempotency key. `deliver_new_events`: waiters are woken.

mod deliver_new_events;
mod keyed_result;
mod live_log;
mod loader;

pub(crate) use live_log::{LiveLog, LogEnd};
pub(crate) use loader::Loader;
