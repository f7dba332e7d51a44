//! Checksums that fit, so that a fuzzer gets past them: written from `docs/format.md`, apart
//! from the engine's own code.

use xxhash_rust::xxh3::xxh3_64;

/// Bytes of a frame's header, and of its trailer.
pub const HEADER: usize = 80;
const TRAILER: usize = 16;

/// What of a frame's header ties it to its place in the log.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tie {
    pub secret: [u8; 16],
    pub address: u64,
    pub position: u64,
    pub previous_chain: u64,
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

pub fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

pub fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

/// Makes a frame of `bytes`: magic, length, payload's hash, chain and CRC fit, all else is as
/// it was. Where its directories lie wrong, nothing else can be right.
pub fn frame(bytes: &mut Vec<u8>, secret: [u8; 16], address: u64) {
    let length = bytes.len().max(HEADER + TRAILER).next_multiple_of(8);
    bytes.resize(length, 0);
    let streams = u32_at(bytes, 24) as usize;
    let streams = streams.min(length - HEADER - TRAILER);
    put(bytes, 0, b"EBF1");
    put(bytes, 8, &(length as u32).to_le_bytes());
    put(bytes, 24, &(streams as u32).to_le_bytes());
    let payload = xxh3_64(&bytes[HEADER + streams..length - TRAILER]);
    put(bytes, 64, &payload.to_le_bytes());
    let seeded = crc32c::crc32c_append(crc32c::crc32c(&secret), &address.to_le_bytes());
    let crc = crc32c::crc32c_append(seeded, &bytes[8..HEADER]);
    put(bytes, 4, &crc.to_le_bytes());
    let chain = xxh3_64(&bytes[8..HEADER + streams]);
    put(bytes, length - 16, &chain.to_le_bytes());
    put(bytes, length - 8, &(length as u32).to_le_bytes());
    put(bytes, length - 4, b"EBT1");
}

/// As [`frame`], and it continues the log.
pub fn next_frame(bytes: &mut Vec<u8>, tie: Tie) {
    bytes.resize(bytes.len().max(HEADER), 0);
    put(bytes, 32, &tie.position.to_le_bytes());
    put(bytes, 40, &tie.previous_chain.to_le_bytes());
    frame(bytes, tie.secret, tie.address);
}

/// Where the frame after this one stands, and what it must say.
pub fn after(frame: &[u8], tie: Tie) -> Tie {
    let length = u32_at(frame, 8) as usize;
    Tie {
        address: tie.address + length as u64,
        position: u64_at(frame, 32).saturating_add(u64::from(u32_at(frame, 16))),
        previous_chain: u64_at(frame, length - 16),
        ..tie
    }
}

/// A segment's header with its magic and CRCs, if there are enough bytes for one.
pub fn segment_header(bytes: &mut [u8]) {
    if bytes.len() >= 60 {
        put(bytes, 0, b"EBSEGMT\n");
        let crc = crc32c::crc32c(&bytes[..56]);
        put(bytes, 56, &crc.to_le_bytes());
    }
    if bytes.len() >= 84 {
        let crc = crc32c::crc32c(&bytes[..80]);
        put(bytes, 80, &crc.to_le_bytes());
    }
}

/// A POISONED with its magic, length and hash, if there are enough bytes for one.
pub fn poisoned(bytes: &mut [u8]) {
    if bytes.len() >= 56 {
        let end = bytes.len() - 8;
        put(bytes, 0, b"EBPOISN\n");
        put(bytes, 12, &((end - 48) as u32).to_le_bytes());
        let hash = xxh3_64(&bytes[..end]);
        put(bytes, end, &hash.to_le_bytes());
    }
}

/// A manifest with its magic, count and hash, if there are enough bytes for one.
pub fn manifest(bytes: &mut Vec<u8>) {
    if bytes.len() >= 56 {
        let count = (bytes.len() - 56) / 24;
        bytes.truncate(56 + 24 * count);
        put(bytes, 0, b"EBMANIF\n");
        put(bytes, 12, &(count as u32).to_le_bytes());
        let end = bytes.len() - 8;
        let hash = xxh3_64(&bytes[..end]);
        put(bytes, end, &hash.to_le_bytes());
    }
}

/// An IDENTITY with its magic and CRC, if there are enough bytes for one.
pub fn identity(bytes: &mut Vec<u8>) {
    if bytes.len() >= 64 {
        bytes.truncate(64);
        put(bytes, 0, b"EBSTORE\n");
        let crc = crc32c::crc32c(&bytes[..60]);
        put(bytes, 60, &crc.to_le_bytes());
    }
}
