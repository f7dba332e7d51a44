//! The path of an append from the caller to the acknowledged commit.
//!
//! | file | content |
//! |---|---|
//! | `prepare` | the work that needs no lock, done in the caller's thread |
//! | `append_limits` | the maximum sizes of one append |
//! | `request`, `answer` | queued appends and their answers |
//! | `queue`, `reservations` | appends that wait to be written, or for the end of a reservation |
//! | `batch_limits` | how many threads commit at the same time, and from which queue size on |
//! | `shared_writer` | the write lock, among threads and among sessions |
//! | `write_phase`, `validate`, `plan`, `clock` | validate, plan and write a batch, or roll it back |
//! | `refused_write` | whether the kernel refused a write, or the disk failed |
//! | `preallocation` | zeros after the tail, and the next segment file |
//! | `sync` | the sync of the log: one thread of one session syncs for all sessions |
//! | `written`, `follow`, `publication` | which frames are written, durable and visible |
//! | `poison` | the stop of all writing after a failed sync |
//! | `background`, `watcher` | the background threads |
//! | `idle_marker` | the sync marker at the end of an idle log |
//! | `committer` | the assembly of these parts |

mod answer;
mod append_limits;
mod background;
mod batch_limits;
mod clock;
mod committer;
mod follow;
mod idle_marker;
mod plan;
mod poison;
mod preallocation;
mod prepare;
mod publication;
mod queue;
mod refused_write;
mod request;
mod reservations;
mod shared_writer;
mod sync;
mod validate;
mod watcher;
mod write_phase;
mod written;

pub(crate) use committer::{Committer, StartingPoint};
pub use prepare::{Prepared, prepare};
pub use request::Ticket;
pub(crate) use request::{AnswerCallback, Request};
pub(crate) use written::Tail;
