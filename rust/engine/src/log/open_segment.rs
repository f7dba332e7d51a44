//! How a segment is opened. Its header determines its place in the log.

use super::directory_layout::Layout;
use super::identity::Identity;
use super::segment::Segment;
use super::segment_header::{SegmentEntry, SegmentHeader};
use crate::error::{Error, Result};
use crate::vfs::OpenMode;

/// Open a segment that a manifest lists. Its header must have the values that are listed.
pub(crate) fn open_listed(
    layout: &Layout,
    identity: &Identity,
    entry: SegmentEntry,
    is_writable: bool,
) -> Result<Segment> {
    open_segment(layout, identity, entry.ordinal, is_writable)?
        .filter(|segment| segment.entry == entry)
        .ok_or_else(|| {
            let path = layout.segment(entry.ordinal);
            Error::corrupt(
                &path,
                0,
                "its header is not the one that the manifest lists",
            )
        })
}

/// Open a segment; `None` if the file has no valid header, or one of another store or another
/// segment.
pub(crate) fn open_segment(
    layout: &Layout,
    identity: &Identity,
    ordinal: u64,
    is_writable: bool,
) -> Result<Option<Segment>> {
    let path = layout.segment(ordinal);
    let opened = layout.files.open(&path, OpenMode::Read);
    let file = opened.map_err(|e| Error::io(&path, "open", &e))?;
    let bytes = SegmentHeader::read(&*file).map_err(|e| Error::io(&path, "read", &e))?;
    if let Some(found) = SegmentHeader::newer_format(&bytes) {
        return Err(Error::newer(&path, found));
    }
    match SegmentHeader::decode(&bytes) {
        Some(header) if header.store == identity.uuid && header.entry.ordinal == ordinal => {
            Segment::of(layout, &header, is_writable, file).map(Some)
        }
        _ => Ok(None),
    }
}
