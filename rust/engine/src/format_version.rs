//! The version of the format on disk.

/// The format that this build writes, and the newest that it reads. To be increased with every
/// change of `docs/format.md` that an older build would misread.
pub(crate) const FORMAT: u32 = 1;
