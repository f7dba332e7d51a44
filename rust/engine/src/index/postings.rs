//! The positions of one stream's events: ascending numbers, delta-coded.

/// A skip entry stands at every so many postings.
const STRIDE: u64 = 32;

/// Ascending positions; a stream of one event, the most common kind, allocates nothing.
#[derive(Debug, Default)]
pub(super) struct Postings {
    count: u64,
    first: u64,
    last: u64,
    rest: Option<Box<Rest>>,
}

/// All postings after the first, as varint deltas.
#[derive(Debug, Default)]
struct Rest {
    deltas: Vec<u8>,
    /// Entry `k`: the posting of version `1 + (k + 1) * STRIDE` and where its successor's
    /// delta begins.
    skips: Vec<(u64, u32)>,
}

impl Postings {
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    pub(super) fn first(&self) -> u64 {
        self.first
    }

    pub(super) fn push(&mut self, position: u64) {
        if self.count == 0 {
            self.first = position;
        } else {
            let rest = self.rest.get_or_insert_default();
            write_varint(&mut rest.deltas, position.saturating_sub(self.last));
            if self.count.is_multiple_of(STRIDE) {
                let end = u32::try_from(rest.deltas.len()).unwrap_or(u32::MAX);
                rest.skips.push((position, end));
            }
        }
        self.count += 1;
        self.last = position;
    }

    /// How many postings are at or below `position`.
    pub(super) fn count_at(&self, position: u64) -> u64 {
        if position >= self.last {
            return self.count;
        }
        if self.count == 0 || position < self.first {
            return 0;
        }
        let skips = self.rest.as_ref().map_or(&[][..], |rest| &rest.skips);
        let passed = skips.partition_point(|(at, _)| *at <= position);
        let mut cursor = self.cursor(passed);
        while cursor.advance().is_some_and(|at| at <= position) {}
        cursor.before
    }

    /// Appends the postings of versions `first..=last` (from 1) to `into`.
    pub(super) fn range(&self, first: u64, last: u64, into: &mut Vec<u64>) {
        let last = last.min(self.count);
        if first > last {
            return;
        }
        let skipped = usize::try_from(first.saturating_sub(1) / STRIDE).unwrap_or(usize::MAX);
        let mut cursor = self.cursor(skipped);
        while let Some(position) = cursor.advance() {
            // `before` counts the postings that the cursor has left behind.
            let version = cursor.before + 1;
            if version > last {
                break;
            }
            if version >= first {
                into.push(position);
            }
        }
    }

    /// A cursor that first answers the posting of version `1 + skipped * STRIDE`.
    fn cursor(&self, skipped: usize) -> Cursor<'_> {
        let deltas = self.rest.as_ref().map_or(&[][..], |rest| &rest.deltas);
        let skip = skipped
            .checked_sub(1)
            .and_then(|i| self.rest.as_ref().and_then(|rest| rest.skips.get(i)));
        match skip {
            Some((position, offset)) => Cursor {
                deltas: deltas.get(*offset as usize..).unwrap_or_default(),
                current: *position,
                started: false,
                before: skipped as u64 * STRIDE,
            },
            None => Cursor {
                deltas,
                current: self.first,
                started: false,
                before: 0,
            },
        }
    }
}

struct Cursor<'a> {
    deltas: &'a [u8],
    current: u64,
    started: bool,
    /// How many postings come before the one answered last.
    before: u64,
}

impl Cursor<'_> {
    /// The next posting. At the end `before` is the number of all postings.
    fn advance(&mut self) -> Option<u64> {
        if self.started {
            self.before += 1;
            self.current += read_varint(&mut self.deltas)?;
        }
        self.started = true;
        Some(self.current)
    }
}

fn write_varint(into: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        into.push(0x80 | low_bits(value));
        value >>= 7;
    }
    into.push(low_bits(value));
}

fn low_bits(value: u64) -> u8 {
    value.to_le_bytes()[0] & 0x7f
}

fn read_varint(from: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = from.split_first()?;
        *from = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn postings_answer_as_a_plain_list_does(
            deltas in proptest::collection::vec(1u64..1000, 0..200),
            probe in 0u64..60_000,
            a in 0u64..210,
            b in 0u64..210,
        ) {
            let list: Vec<u64> = deltas.iter().scan(0, |sum, d| { *sum += d; Some(*sum) }).collect();
            let mut postings = Postings::default();
            for position in &list {
                postings.push(*position);
            }
            prop_assert_eq!(postings.count(), list.len() as u64);
            let below = list.iter().filter(|p| **p <= probe).count() as u64;
            prop_assert_eq!(postings.count_at(probe), below);
            let mut range = Vec::new();
            postings.range(a, b, &mut range);
            let expected: Vec<u64> = (1u64..).zip(&list)
                .filter(|(v, _)| *v >= a && *v <= b).map(|(_, p)| *p).collect();
            prop_assert_eq!(range, expected);
        }
    }
}
