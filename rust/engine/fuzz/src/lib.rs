//! Parts that the fuzz targets share: a limit on memory, forged checksums, and a store to damage.

pub mod allocator;
pub mod forge;
pub mod stores;

/// Remove `N` bytes from the front of the input, filled with zeros if it is shorter.
pub fn take<const N: usize>(bytes: &mut &[u8]) -> [u8; N] {
    let n = bytes.len().min(N);
    let (front, rest) = bytes.split_at(n);
    let mut taken = [0; N];
    taken[..n].copy_from_slice(front);
    *bytes = rest;
    taken
}
