//! The log on disk: the files of a store, and the segments that contain its frames.
//!
//! This module owns every file in a store's directory except the shared page and the lock files
//! of `coord`. Recovery, the committer and readers reach the files through it alone. Its
//! invariants:
//!
//! * A small file is replaced whole: written under a temporary name, synced, renamed, and the
//!   directory synced. A crash leaves the old content or the new one, never a mixture.
//! * A segment is durably listed in the manifest before its first frame is written.
//! * No log file is deleted. None is written again after the log has continued in a later one.
//! * A name or a directory whose sync failed is not trusted again until the store is reopened.
//!
//! | file | contents |
//! |---|---|
//! | `directory_layout` | the paths of the files in a store, and its directories |
//! | `atomic_file` | how a small file is replaced without a torn state |
//! | `identity` | IDENTITY: the store's id and secret |
//! | `manifest` | MANIFEST-n and CURRENT: the list of segments |
//! | `poison_marker` | POISONED: how far the log was durable when a sync failed |
//! | `holder_report` | `live.holder`: which process has the store open, as text for errors |
//! | `ballast` | the reserve that keeps small files writable on a full disk |
//! | `segment_header` | the header of a segment's file |
//! | `segment` | one segment: addresses, writes, zero-filling ahead of the tail |
//! | `segment_file` | the descriptors of one segment's file |
//! | `open_files` | the bounded number of descriptors for segments that are only read |
//! | `open_segment` | how a segment is opened and validated |
//! | `segments` | all segments of an open log, and the current manifest |
//! | `create_segment` | how large the next segment is, and how it is created and listed |
//! | `verify_files` | what `verify` compares in IDENTITY, the manifest and the headers |
//! | `segment_locks` | locks on `log/` and on segments, against sessions of another directory |
//! | `frame_scanner` | the frames of one segment, read in order |
//! | `maintenance_lock` | the interface to the lock that serialises changes of the list of segments |

mod atomic_file;
mod ballast;
mod create_segment;
mod directory_layout;
mod frame_scanner;
mod holder_report;
mod identity;
mod maintenance_lock;
mod manifest;
mod open_files;
mod open_segment;
mod poison_marker;
mod segment;
mod segment_file;
mod segment_header;
mod segment_locks;
mod segments;
mod verify_files;

pub(crate) use atomic_file::read_file;
pub(crate) use create_segment::fill_step;
pub(crate) use directory_layout::Layout;
pub(crate) use frame_scanner::FrameScanner;
pub(crate) use holder_report::{HolderReport, printable as printable_holder};
pub(crate) use identity::Identity;
pub(crate) use maintenance_lock::{Maintenance, MaintenanceGuard};
pub(crate) use manifest::Manifest;
pub(crate) use open_segment::{open_listed, open_segment};
pub(crate) use poison_marker::{PoisonMarker, PoisonMarkerState};
pub(crate) use segment::{Segment, fill_zeros};
#[cfg(fuzzing)]
pub(crate) use segment_header::SegmentHeader;
pub(crate) use segment_header::{CutPoint, SEGMENT_HEADER, SegmentEntry};
pub(crate) use segment_locks::SegmentLocks;
pub(crate) use segments::{Segments, bytes_below, limits};
