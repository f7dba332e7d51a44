//! What the fuzz targets share: a limit on memory, forged checksums, and a store to damage.

pub mod allocator;
pub mod forge;
pub mod stores;

/// Takes `n` bytes off the front, zeros where there are none left.
pub fn take<const N: usize>(bytes: &mut &[u8]) -> [u8; N] {
    let n = bytes.len().min(N);
    let (front, rest) = bytes.split_at(n);
    let mut taken = [0; N];
    taken[..n].copy_from_slice(front);
    *bytes = rest;
    taken
}
