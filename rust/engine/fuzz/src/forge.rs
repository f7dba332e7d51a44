//! Valid checksums, so that the fuzzer reaches the code after the checks. Written from
//! `docs/format.md`, independently of the engine's code.

use xxhash_rust::xxh3::xxh3_64;

/// The bytes of a frame's header.
pub const HEADER: usize = 80;
/// The bytes of a frame's trailer.
const TRAILER: usize = 16;

/// The fields of a frame's header that bind it to its place in the log.
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

/// Turn `bytes` into a frame with valid magic, length, payload hash, chain and CRC, and leave all
/// other bytes. If the directories do not fit into the frame, the other fields are not valid.
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

/// As [`frame`], for a frame that continues the log.
pub fn next_frame(bytes: &mut Vec<u8>, tie: Tie) {
    bytes.resize(bytes.len().max(HEADER), 0);
    put(bytes, 32, &tie.position.to_le_bytes());
    put(bytes, 40, &tie.previous_chain.to_le_bytes());
    frame(bytes, tie.secret, tie.address);
}

/// Return the tie of the frame after this one.
pub fn after(frame: &[u8], tie: Tie) -> Tie {
    let length = u32_at(frame, 8) as usize;
    Tie {
        address: tie.address + length as u64,
        position: u64_at(frame, 32).saturating_add(u64::from(u32_at(frame, 16))),
        previous_chain: u64_at(frame, length - 16),
        ..tie
    }
}

/// Write the magic and the CRCs of a segment header, if there are enough bytes for one.
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

/// Write the magic, length and hash of a POISONED file, if there are enough bytes for one.
pub fn poisoned(bytes: &mut [u8]) {
    if bytes.len() >= 56 {
        let end = bytes.len() - 8;
        put(bytes, 0, b"EBPOISN\n");
        put(bytes, 12, &((end - 48) as u32).to_le_bytes());
        let hash = xxh3_64(&bytes[..end]);
        put(bytes, end, &hash.to_le_bytes());
    }
}

/// Write the magic, count and hash of a manifest, if there are enough bytes for one.
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

/// Write the magic and the CRC of an IDENTITY file, if there are enough bytes for one.
pub fn identity(bytes: &mut Vec<u8>) {
    if bytes.len() >= 64 {
        bytes.truncate(64);
        put(bytes, 0, b"EBSTORE\n");
        let crc = crc32c::crc32c(&bytes[..60]);
        put(bytes, 60, &crc.to_le_bytes());
    }
}
