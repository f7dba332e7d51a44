//! The path of an append from the caller to the acknowledged commit.
//!
//! | file | content |
//! |---|---|
//! | `prepare` | the work that needs no lock, done in the caller's thread |
//! | `append_limits` | the maximum sizes of one append |
//! | `request`, `answer` | queued appends and their answers |
//! | `pending` | appends that build on appends whose outcome isn't known yet |
//! | `queue`, `deferred_appends` | appends that wait to be written, or for the end of a reservation |
//! | `concurrent_batches` | how many threads commit at a time, and when one more begins |
//! | `shared_writer` | the write lock, among threads and among sessions |
//! | `write_phase`, `plan` | write the frames of a batch, or roll it back |
//! | `validate` | whether the expectations and the idempotency key allow an append |
//! | `commit_time` | the time of a commit |
//! | `refused_write` | whether the kernel refused a write, or the disk failed |
//! | `preallocation` | zeros after the tail, and the next segment file |
//! | `sync` | the sync of the log: one thread of one session syncs for all sessions |
//! | `written_log`, `follow`, `publication` | which frames are written, durable and visible |
//! | `poison` | the stop of all writing after a failed sync |
//! | `background_tasks`, `notification_listener` | the background threads |
//! | `idle_marker` | the sync marker at the end of an idle log |
//! | `committer` | the assembly of these parts |

mod answer;
mod append_limits;
mod background_tasks;
mod commit_time;
mod committer;
mod concurrent_batches;
mod deferred_appends;
mod follow;
mod idle_marker;
mod notification_listener;
mod pending;
mod plan;
mod poison;
mod preallocation;
mod prepare;
mod publication;
mod queue;
mod refused_write;
mod request;
mod shared_writer;
mod sync;
mod validate;
mod write_phase;
mod written_log;

pub(crate) use committer::{Committer, StartingPoint};
pub use pending::PendingAppend;
pub use prepare::{Prepared, prepare};
pub use request::Ticket;
pub(crate) use request::{AnswerCallback, Request};
pub(crate) use written_log::Tail;
