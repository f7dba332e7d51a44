//! From an append to an acknowledged commit.
//!
//! | file | job |
//! |---|---|
//! | `prepare` | everything that needs no lock, in the caller's thread |
//! | `request`, `answer` | what a caller waits for, and what it gets |
//! | `queue`, `reservations` | appends that wait |
//! | `shared_writer` | the right to write, among threads and among sessions |
//! | `write_phase`, `validate`, `plan`, `clock` | validate, plan and write a batch, or undo it |
//! | `preallocation` | zeros ahead of the tail, and the next segment |
//! | `sync` | one thread of one session syncs for all |
//! | `written`, `follow`, `publication` | what is written, durable and visible |
//! | `poison` | the end of all writing |
//! | `background`, `watcher` | the threads |
//! | `committer` | puts the parts together |

mod answer;
mod background;
mod clock;
mod committer;
mod follow;
mod plan;
mod poison;
mod preallocation;
mod prepare;
mod publication;
mod queue;
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
