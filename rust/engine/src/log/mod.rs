//! The log on disk: identity, manifests, segments.

mod claims;
mod files;
mod holder;
mod identity;
mod manifest;
mod open_files;
mod poisoned;
mod segment;
mod segments;

pub(crate) use claims::Claims;
pub(crate) use files::{Layout, read_file};
pub(crate) use holder::{Holder, shown as shown_holder};
pub(crate) use identity::Identity;
pub(crate) use manifest::{Manifest, SegmentEntry};
pub(crate) use poisoned::{Found, Marker};
pub(crate) use segment::{SEGMENT_HEADER, Seal, Segment, SegmentHeader, fill_zeros};
pub(crate) use segments::{Segments, bytes_below, fill_step, limits};

/// The newest format of store that this build writes and reads.
pub(crate) const FORMAT: u32 = 1;
