//! The log on disk: identity, manifests, segments.

mod claims;
mod frame_scanner;
mod holder_report;
mod identity;
mod layout;
mod maintenance;
mod manifest;
mod open_segment;
mod poison_marker;
mod segment;
mod segment_file;
mod segment_header;
mod segments;

pub(crate) use claims::Claims;
pub(crate) use frame_scanner::FrameScanner;
pub(crate) use holder_report::{Holder, shown as shown_holder};
pub(crate) use identity::Identity;
pub(crate) use layout::{Layout, read_file};
pub(crate) use maintenance::{Maintenance, MaintenanceGuard};
pub(crate) use manifest::Manifest;
pub(crate) use open_segment::{open_listed, open_segment};
pub(crate) use poison_marker::{Found, Marker};
pub(crate) use segment::{Segment, fill_zeros};
#[cfg(fuzzing)]
pub(crate) use segment_header::SegmentHeader;
pub(crate) use segment_header::{SEGMENT_HEADER, Seal, SegmentEntry};
pub(crate) use segments::{Segments, bytes_below, fill_step, limits};
