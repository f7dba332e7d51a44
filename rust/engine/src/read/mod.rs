//! Reads: by stream, over several streams as one snapshot, over the log.
//!
//! A reader sees durable events only, up to the position that it is pinned to. The log is
//! loaded in chunks of whole frames, which are verified when they are loaded and then kept.

mod chunk_reader;
mod log_read;
mod query;
mod recorded_event;
mod stream_names;
mod stream_read;

pub use query::{LogQuery, Page, Snapshot, SnapshotQuery, StreamQuery};
pub use recorded_event::Recorded;
pub use stream_names::StreamNames;
