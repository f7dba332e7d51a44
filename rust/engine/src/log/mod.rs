//! The log on disk: identity, manifests, segments.

mod claims;
mod files;
mod holder;
mod identity;
mod maintenance;
mod manifest;
mod open_files;
mod open_segment;
mod poisoned;
mod scanner;
mod segment;
mod segment_header;
mod segments;

pub(crate) use claims::Claims;
pub(crate) use files::{Layout, read_file};
pub(crate) use holder::{Holder, shown as shown_holder};
pub(crate) use identity::Identity;
pub(crate) use maintenance::{Maintenance, MaintenanceGuard};
pub(crate) use manifest::Manifest;
pub(crate) use open_segment::{open_listed, open_segment};
pub(crate) use poisoned::{Found, Marker};
pub(crate) use scanner::FrameScanner;
pub(crate) use segment::{Segment, fill_zeros};
#[cfg(fuzzing)]
pub(crate) use segment_header::SegmentHeader;
pub(crate) use segment_header::{SEGMENT_HEADER, Seal, SegmentEntry};
pub(crate) use segments::{Segments, bytes_below, fill_step, limits};
