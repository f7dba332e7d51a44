//! The open log: what readers, the committer and subscriptions share.
//!
//! * `live_log`: its state. `loader`: chunks from the cache or the file.
//! * `keyed`: the result under an idempotency key. `stretch`: new events for waiters.

mod keyed;
mod live_log;
mod loader;
mod stretch;

pub(crate) use live_log::{LiveLog, LogEnd};
pub(crate) use loader::Loader;
