//! `UUIDv7` event ids (RFC 9562): time first, so that they sort by creation.

use std::time::{SystemTime, UNIX_EPOCH};

/// Makes the ids of one append: one draw of randomness, then counted upwards
/// (RFC 9562, 6.2, method 2), so that a large append costs one system call.
#[derive(Debug)]
pub(crate) struct EventIds {
    millis: u64,
    tail: u128,
}

const TAIL_BITS: u32 = 74;

impl EventIds {
    pub(crate) fn draw() -> Self {
        let mut seed = [0; 16];
        // The kernel's generator survives fork(), which a generator in this process would not.
        if getrandom::fill(&mut seed).is_err() {
            seed = clock_seed();
        }
        let millis = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX));
        // The top bit stays clear so that counting upwards doesn't wrap.
        Self {
            millis,
            tail: u128::from_le_bytes(seed) & ((1 << (TAIL_BITS - 1)) - 1),
        }
    }

    pub(crate) fn next_id(&mut self) -> [u8; 16] {
        let tail = self.tail;
        self.tail += 1;
        let rand_a = (tail >> 62) & 0xfff;
        let rand_b = tail & ((1 << 62) - 1);
        let id = (u128::from(self.millis & 0xffff_ffff_ffff) << 80)
            | (0x7 << 76)
            | (rand_a << 64)
            | (0b10 << 62)
            | rand_b;
        network_order(id)
    }
}

/// A UUID's bytes stand most significant first, whatever the machine.
fn network_order(id: u128) -> [u8; 16] {
    id.swap_bytes().to_le_bytes()
}

fn clock_seed() -> [u8; 16] {
    let nanos = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_nanos());
    xxhash_rust::xxh3::xxh3_128(&nanos.to_le_bytes()).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_version_7_and_ascend() {
        let mut ids = EventIds::draw();
        let first = ids.next_id();
        let second = ids.next_id();
        assert_eq!(first[6] >> 4, 7);
        assert_eq!(first[8] >> 6, 0b10);
        assert!(first < second);
    }
}
