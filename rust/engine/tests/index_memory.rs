//! The index costs at most 60 bytes a stream, 12 an event and 40 a keyed commit; 40 a category, and
//! if the category has more than one stream, 60 more and 12 for each of its streams.
//!
//! A store of many streams must fit into the memory of the program that embeds it, also in
//! the moment just after a table has grown. The bytes are those that the allocator is asked
//! for, at their highest, after every frame. The module is compiled into this program because
//! no public function builds an index alone. There is no test harness, whose threads would
//! allocate, too.
#![expect(
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test without a harness is a program to the linter"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

#[path = "../src/bytes.rs"]
#[expect(dead_code, reason = "the index uses part of it")]
mod bytes;
#[path = "../src/index/mod.rs"]
#[expect(
    dead_code,
    unused_imports,
    reason = "this program asks for less than the engine, and its unit tests run elsewhere"
)]
mod index;

/// The part of the engine that the index uses.
mod error {
    pub(crate) use eventbraid_engine::Error;
}

use index::{FrameEntry, Index as _, MemoryIndex, StreamEntry};

/// Counts the bytes in use.
struct Counting;

static IN_USE: AtomicUsize = AtomicUsize::new(0);
static HIGHEST: AtomicUsize = AtomicUsize::new(0);

fn grown(bytes: usize) {
    let in_use = IN_USE.fetch_add(bytes, Relaxed) + bytes;
    HIGHEST.fetch_max(in_use, Relaxed);
}

// SAFETY: every call goes to the system's allocator unchanged; the counters allocate nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        grown(layout.size());
        // SAFETY: what the caller promises of the layout is what the system asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the pointer came from `alloc` above, with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Partly filled pages of streams, keys, postings and chunks, and empty tables.
const BEGUN: usize = (192 + 96 + 256 + 96 + 96 + 192 + 16) << 10;
const CHUNK_BYTES: u64 = 16 << 10;

/// An index under measurement.
#[derive(Default)]
struct Measured {
    index: MemoryIndex,
    frame: FrameEntry,
    versions: Vec<u32>,
    position: u64,
    address: u64,
    streams: usize,
    events: usize,
    keys: usize,
    /// Maximum number of streams of a category.
    streams_a_category: usize,
    categories: usize,
    categories_of_several: usize,
    /// Bytes that do not belong to the index.
    other: usize,
    /// The largest excess over the limit for streams, events and keys.
    excess: isize,
    highest: usize,
}

impl Measured {
    fn with_streams(streams: usize, streams_a_category: usize) -> Self {
        let mut measured = Self {
            versions: vec![0; streams],
            streams_a_category,
            position: 1,
            ..Self::default()
        };
        measured.frame.streams.reserve(1);
        measured.frame.created_categories.replace([0]);
        measured.frame.ordinals.reserve(1024);
        drop(std::mem::take(&mut measured.index));
        measured.other = IN_USE.load(Relaxed);
        measured.index = MemoryIndex::default();
        measured
    }

    /// Add one commit of `count` events in one stream.
    fn commit(&mut self, stream: usize, count: u32, key: Option<u128>) {
        let version = self.versions[stream];
        self.streams += usize::from(version == 0 && count > 0);
        self.events += count as usize;
        self.keys += usize::from(key.is_some());
        let frame = &mut self.frame;
        frame.streams.clear();
        frame.created_categories.replace([]);
        if count > 0 {
            if version == 0 {
                let number = (self.streams - 1) / self.streams_a_category;
                let within = (self.streams - 1) % self.streams_a_category;
                let category = hashed(!0 - number as u64);
                frame.created_categories.replace([category]);
                self.categories += usize::from(within == 0);
                self.categories_of_several += usize::from(within == 1);
            }
            frame.streams.push(StreamEntry {
                stream_hash: hashed(stream as u64),
                base_version: version.into(),
                count,
            });
        }
        frame.ordinals.clear();
        frame.ordinals.extend(0..count);
        frame.first_position = self.position;
        frame.address = self.address;
        frame.length = 96 + 240 * u64::from(count);
        frame.key_hash = key;
        HIGHEST.store(IN_USE.load(Relaxed), Relaxed);
        self.index.apply(&self.frame).unwrap();
        self.versions[stream] += count;
        self.address = self.frame.end();
        self.position += u64::from(count);
        self.compare_with_limit();
    }

    /// Skip positions, as commits to other streams do.
    fn skip(&mut self, positions: u64) {
        self.position += positions;
    }

    fn compare_with_limit(&mut self) {
        let used = HIGHEST.load(Relaxed) - self.other;
        let chunks = usize::try_from(self.address / CHUNK_BYTES).unwrap() * 24;
        let own = 60 * self.streams + 12 * self.events + 40 * self.keys + chunks;
        let of_several = 60 * self.categories_of_several
            + 12 * self.streams * usize::from(self.streams_a_category > 1);
        let allowed = own + 40 * self.categories + of_several;
        self.excess = self.excess.max(used.cast_signed() - allowed.cast_signed());
        self.highest = self.highest.max(used);
    }

    fn report(&self, shape: &str) {
        let streams = self.streams;
        let line = format!(
            "{shape:44} {streams:8} streams {:8} categories {:8} events {:8} keys {:9} KiB, \
             {:+6} KiB beside",
            self.categories,
            self.events,
            self.keys,
            self.highest >> 10,
            self.excess >> 10
        );
        println!("{line}");
        assert!(self.excess <= BEGUN.cast_signed(), "{line}");
    }
}

/// Return the `n`th key, distributed like a hash.
fn hashed(n: u64) -> u128 {
    let mut z = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut half = || {
        z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let y = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let y = (y ^ (y >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        u128::from(y ^ (y >> 31))
    };
    half() << 64 | half()
}

/// Add `each` events to each stream, one stream after the other or in turn, with at least `apart`
/// positions between two events of a stream.
fn uniform(shape: &str, streams: usize, each: u32, in_turn: bool, apart: u64) {
    let mut measured = Measured::with_streams(streams, 1000);
    let rounds = if in_turn { each } else { 1 };
    let apart = if in_turn {
        apart.div_ceil(streams as u64)
    } else {
        apart
    };
    for _ in 0..rounds {
        for stream in 0..streams {
            for _ in 0..each / rounds {
                measured.skip(apart);
                measured.commit(stream, 1, None);
            }
        }
    }
    measured.report(shape);
}

/// Add events of which a few streams have most: stream `k` has 1/k of the first one's.
fn zipf(shape: &str, streams: usize, events: u64) {
    let mut measured = Measured::with_streams(streams, streams);
    let mut state = 0x853c_49e6_748f_ea9b_u64;
    for _ in 0..events {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation)]
        #[expect(clippy::cast_sign_loss, reason = "a draw between 1 and `streams`")]
        let stream = (streams as f64).powf((state >> 11) as f64 / (1u64 << 53) as f64) as usize;
        measured.commit(stream.min(streams - 1), 1, None);
    }
    measured.report(shape);
}

/// Create streams, `each` of a category, with `apart` positions between two of them.
fn of_categories(shape: &str, streams: usize, each: usize, apart: u64) {
    let mut measured = Measured::with_streams(streams, each);
    for stream in 0..streams {
        measured.skip(apart);
        measured.commit(stream, 1, None);
    }
    measured.report(shape);
}

fn keyed(shape: &str, commits: usize, events: u32) {
    let mut measured = Measured::with_streams(1, 1);
    for n in 0..commits {
        measured.commit(0, events, Some(hashed(!0 - n as u64)));
    }
    measured.report(shape);
}

fn main() {
    // Sparse: five bytes a delta, as with 2^28 other events between two events of a stream.
    let sparse = 1 << 28;
    uniform("one event a stream", 1_000_000, 1, false, 0);
    uniform("two events a stream", 500_000, 2, true, 0);
    uniform("three events a stream", 300_000, 3, true, 0);
    uniform("three events a stream, sparse", 300_000, 3, false, sparse);
    uniform("eleven events a stream, sparse", 120_000, 11, true, sparse);
    uniform("a hundred events a stream", 10_000, 100, true, 0);
    uniform(
        "a hundred events a stream, sparse",
        10_000,
        100,
        true,
        sparse,
    );
    uniform("one stream", 1, 1_000_000, false, 0);
    uniform("one stream, sparse", 1, 1_000_000, false, sparse);
    zipf("Zipf", 500_000, 1_000_000);
    of_categories("one stream a category", 500_000, 1, 0);
    of_categories("two streams a category", 500_000, 2, 0);
    of_categories("three streams a category, sparse", 300_000, 3, sparse);
    of_categories("one category", 500_000, 500_000, 0);
    of_categories("one category, sparse", 500_000, 500_000, sparse);
    keyed("keyed commits of one event", 1_000_000, 1);
    keyed("keyed commits without events", 1_000_000, 0);
}
