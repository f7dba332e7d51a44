//! `UUIDv7` (RFC 9562): time first, so that the ids sort by the time of their generation.
//!
//! The 12 bits after the milliseconds are a counter (section 6.2, method 1). All threads of the
//! process share it, and it may run ahead of the clock, so the ids of a process are always in
//! order. The other bits are random.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

const COUNTER_BITS: u32 = 12;
const RANDOM_BITS: u32 = 62;

/// Generate a `UUIDv7`, in network order.
///
/// # Errors
/// The operating system has no randomness.
pub fn uuid7() -> io::Result<[u8; 16]> {
    let random = draw().map_err(|e| io::Error::other(e.to_string()))?;
    Ok(Uuids::reserve(1, random).next_id())
}

/// The ids of one append. The random bits are drawn once and incremented for each id. So a large
/// append costs one system call, and none if its events have ids already.
#[derive(Debug)]
pub(crate) struct Uuids {
    /// The milliseconds and the counter.
    tick: u64,
    random: u64,
}

impl Uuids {
    /// Reserve `count` ids.
    pub(crate) fn new(count: usize) -> Self {
        let random = if count == 0 {
            0
        } else {
            // Without random bytes, the clock is the seed: a lack of them must not make an append
            // fail.
            draw().unwrap_or_else(|_| clock_seed())
        };
        Self::reserve(count as u64, random)
    }

    fn reserve(count: u64, random: u64) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let now = millis() << COUNTER_BITS;
        // `Relaxed`: no other data depends on this number. The closure always returns `Some`.
        let reserved = NEXT.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |next| {
            Some(next.max(now) + count)
        });
        let next = reserved.unwrap_or_default();
        Self {
            tick: next.max(now),
            random,
        }
    }

    /// Return the next of the reserved ids.
    pub(crate) fn next_id(&mut self) -> [u8; 16] {
        let (millis, counter) = (
            self.tick >> COUNTER_BITS,
            self.tick & ((1 << COUNTER_BITS) - 1),
        );
        let random = self.random & ((1 << RANDOM_BITS) - 1);
        self.tick += 1;
        self.random = self.random.wrapping_add(1);
        let id = (u128::from(millis) << 80)
            | (7 << 76)
            | (u128::from(counter) << 64)
            | (0b10 << 62)
            | u128::from(random);
        // The bytes of a UUID are most significant first, on machines of either byte order.
        id.swap_bytes().to_le_bytes()
    }
}

/// Draw random bits from the kernel. After `fork()`, a generator in this process would repeat its
/// numbers in the child.
fn draw() -> Result<u64, getrandom::Error> {
    let mut random = [0; 8];
    getrandom::fill(&mut random)?;
    Ok(u64::from_le_bytes(random))
}

fn millis() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |now| u64::try_from(now.as_millis()).unwrap_or(0))
}

fn clock_seed() -> u64 {
    let nanos = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |now| now.as_nanos());
    xxhash_rust::xxh3::xxh3_64(&nanos.to_le_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_version_7_and_ascend() {
        let mut ids = Uuids::new(2);
        let first = ids.next_id();
        let second = ids.next_id();
        assert_eq!(first[6] >> 4, 7);
        assert_eq!(first[8] >> 6, 0b10);
        assert!(first < second);
    }

    #[test]
    fn all_ids_of_a_process_ascend() {
        let mut last = [0; 16];
        for count in [1, 5_000, 1, 3, 1] {
            let mut ids = Uuids::new(count);
            for _ in 0..count {
                let id = ids.next_id();
                assert!(last < id);
                last = id;
            }
            let id = uuid7().unwrap();
            assert!(last < id);
            last = id;
        }
    }

    #[test]
    fn an_id_contains_the_time_of_its_creation() {
        let before = millis();
        let id = uuid7().unwrap();
        let time = id
            .iter()
            .take(6)
            .fold(0, |time, byte| time << 8 | u64::from(*byte));
        // The counter may run ahead of the clock by what other tests have reserved.
        assert!((before..before + 60_000).contains(&time));
    }
}
