//! The version of the format on disk.

/// The newest format of store that this build writes and reads.
pub(crate) const FORMAT: u32 = 1;
