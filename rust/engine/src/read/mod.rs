//! Reads: by stream, over several streams as one snapshot, over the log.
//!
//! A reader sees durable events only, up to the position that it is pinned to. The log is
//! loaded in chunks of whole frames, which are verified when they are loaded and then kept.

mod chunk;
mod keyed;
mod log_read;
mod names;
mod query;
mod recorded;
mod sources;
mod stream_read;

pub(crate) use chunk::Cache;
pub(crate) use keyed::replayed;
pub use names::StreamNames;
pub use query::{
    Effort, Filter, LogQuery, OwnedFilter, Page, Snapshot, SnapshotQuery, StreamQuery,
};
pub use recorded::Recorded;
pub(crate) use sources::{Sources, Stretch};
