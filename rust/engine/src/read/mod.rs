//! Reads: of one stream, of several streams as one snapshot, and of the log.
//!
//! A reader sees durable events only, up to the position to which it is pinned. While it holds the
//! read lock of the index, it pins the position and looks up the chunks. After that it holds no
//! lock: it loads the chunks from the cache or the file, and copies the events. So reads and
//! commits wait for each other only during the look-up.
//!
//! A read with [`crate::ReadMode::NonBlocking`] is made on a thread that runs an event loop. It
//! returns [`crate::Error::WouldBlock`] instead of waiting for the disk, and limits the work that
//! it does to well below a millisecond.
//!
//! | file | contents |
//! |---|---|
//! | `query` | the parameters of reads, and their results |
//! | `stream_read` | reads of one stream, and of several as one snapshot |
//! | `log_read` | reads of the log by position, with a filter |
//! | `category_read` | the streams of a category |
//! | `stream_names` | the listing of streams |
//! | `chunk_reader` | events read from one chunk |
//! | `recorded_event` | one event as a reader gets it |

mod category_read;
mod chunk_reader;
mod log_read;
mod query;
mod recorded_event;
mod stream_names;
mod stream_read;

pub use query::{
    CategoryQuery, CategoryStreams, LogQuery, ReadBatch, Snapshot, SnapshotQuery, StreamQuery,
};
pub use recorded_event::Recorded;
pub use stream_names::StreamNames;
