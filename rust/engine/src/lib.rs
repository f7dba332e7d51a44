//! Eventbraid's storage engine: an append-only log of many streams in one directory.
//!
//! One append contains any number of events for any number of streams, with expectations on any
//! number of streams. It is durable as a whole or not at all. Every event that was acknowledged,
//! read or delivered survives a loss of power. Readers see one global order without gaps.
//!
//! It is not a server, a query engine or a codec. It handles bytes, names and numbers; types,
//! commands and sagas are layers above it.
//!
//! ```
//! use std::sync::Arc;
//! use eventbraid_engine::{Append, EventInput, Expectation, Options, Store, prepare};
//! use eventbraid_engine::vfs::sim::SimVfs;
//!
//! let store = Store::open(Arc::new(SimVfs::memory()), "/shop".as_ref(), Options::default())?;
//! let withdrawn = EventInput {
//!     stream: "account-alice",
//!     event_type: "withdrawn",
//!     data: b"{\"amount\":100}",
//!     content: None,
//!     event_id: None,
//!     metadata: b"",
//!     library_metadata: b"",
//! };
//! let done = store.append(prepare(&Append {
//!     events: &[withdrawn],
//!     expectations: &[("account-alice", Expectation::NoStream)],
//!     ..Append::default()
//! })?)?;
//! assert_eq!(done.first_position, Some(1));
//! # Ok::<(), eventbraid_engine::Error>(())
//! ```
#![deny(unsafe_code)]

mod append;
mod bytes;
mod chunk;
mod commit;
mod coord;
mod error;
mod filter;
mod format_version;
mod frame;
#[cfg(fuzzing)]
pub mod fuzzing;
mod heartbeat;
mod index;
mod live;
mod log;
pub mod mutex;
mod names;
mod open;
mod options;
mod read;
mod recovery;
mod stats;
mod store;
mod uuid7;
mod verify;
pub mod vfs;
mod watch;

pub use append::{Append, Appended, EventInput, Expectation};
pub use commit::{PendingAppend, Prepared, Ticket, prepare};
pub use coord::{LONGEST_RESERVATION, Session};
pub use error::{ConflictedCategory, ConflictedStream, Error, Result};
pub use filter::{Filter, OwnedFilter};
pub use heartbeat::LiveSession;
pub use names::{check_category, check_stream, is_system};
pub use options::{Mode, Options, ReadMode};
pub use read::{
    CategoryQuery, CategoryStreams, LogQuery, ReadBatch, Recorded, Snapshot, SnapshotQuery,
    StreamNames, StreamQuery,
};
pub use stats::{LocalCounts, SessionCounts, Stats};
pub use store::Store;
pub use uuid7::uuid7;
pub use verify::{Depth, VerifyReport};
pub use watch::WaitGuard;
