//! A parser of segment files, written from `docs/format.md` independently of the engine.

/// The bytes of a segment's header.
pub(crate) const SEGMENT_HEADER: usize = 4096;
/// The bytes of a frame's header.
pub(crate) const FRAME_HEADER: usize = 80;

/// One frame in a segment's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) offset: usize,
    pub(crate) length: usize,
    pub(crate) is_sync_marker: bool,
    pub(crate) events: u32,
    pub(crate) durable_hint: u64,
}

impl Frame {
    pub(crate) fn end(&self) -> usize {
        self.offset + self.length
    }
}

/// Return the frames of an undamaged segment, in order.
pub(crate) fn frames(segment: &[u8]) -> Vec<Frame> {
    let mut found = Vec::new();
    let mut at = SEGMENT_HEADER;
    while segment.get(at..at + 4) == Some(b"EBF1") {
        let frame = Frame {
            offset: at,
            length: u32_at(segment, at + 8) as usize,
            is_sync_marker: u32_at(segment, at + 12) & 1 != 0,
            events: u32_at(segment, at + 16),
            durable_hint: u64::from_le_bytes(segment[at + 48..at + 56].try_into().unwrap()),
        };
        at = frame.end();
        found.push(frame);
    }
    found
}

/// Return the address of the first byte of a segment.
pub(crate) fn base(segment: &[u8]) -> u64 {
    u64::from_le_bytes(segment[40..48].try_into().unwrap())
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}
