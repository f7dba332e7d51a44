//! The limits of one append: the size of its events and the numbers of its streams and
//! expectations.

use crate::append::Append;
use crate::error::{Error, Result};
use crate::frame::{EVENT, FRAME_LIMIT};
use crate::names;

/// Maximum number of bytes of an event's data.
const DATA_LIMIT: usize = 8 << 20;
/// Maximum number of bytes of an event's `metadata` and `library_metadata` together.
const METADATA_LIMIT: usize = 64 << 10;
/// Maximum number of bytes of the data, metadata and types of all events of one append.
const COMMIT_LIMIT: usize = 16 << 20;
/// Maximum number of streams that one append writes.
const STREAMS_LIMIT: usize = 10_000;
/// Maximum number of expectations of one append.
const EXPECTATIONS_LIMIT: usize = 10_000;

/// Check the names of the event types, and all limits that can be checked before the frame is
/// encoded. Return the total number of bytes of the event types, the metadata and the data.
pub(super) fn check(append: &Append<'_>) -> Result<usize> {
    limit(
        "the expectations of a commit",
        append.expectations.len() + append.category_expectations.len(),
        EXPECTATIONS_LIMIT,
    )?;
    let mut bodies = 0;
    for event in append.events {
        names::check("event type", event.event_type)?;
        limit("the bytes of an event's data", event.data.len(), DATA_LIMIT)?;
        let metadata = event.metadata.len() + event.library_metadata.len();
        limit("the bytes of an event's metadata", metadata, METADATA_LIMIT)?;
        bodies += event.event_type.len() + metadata + event.data.len();
    }
    limit("the bytes of a commit", bodies, COMMIT_LIMIT)?;
    let entries = append.events.len().saturating_mul(EVENT);
    limit(
        "the bytes of a commit with its directories",
        bodies + entries,
        FRAME_LIMIT,
    )?;
    Ok(bodies)
}

/// Check the number of streams that a commit writes.
pub(super) fn check_streams(count: usize) -> Result<()> {
    limit("the streams of a commit", count, STREAMS_LIMIT)
}

/// Check the size of an encoded frame.
pub(super) fn check_frame(bytes: usize) -> Result<()> {
    limit(
        "the bytes of a commit with its directories",
        bytes,
        FRAME_LIMIT,
    )
}

fn limit(what: &'static str, actual: usize, limit: usize) -> Result<()> {
    if actual <= limit {
        return Ok(());
    }
    Err(Error::LimitExceeded {
        what,
        actual: actual as u64,
        limit: limit as u64,
    })
}
