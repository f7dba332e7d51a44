//! Frames whose checksums are valid and whose directories contradict each other.

use super::checksums::{chain, payload_hash};
use super::encode::{STREAM, TRAILER};
use super::*;
use crate::bytes::put;

const SECRET: [u8; 16] = [3; 16];
const ADDRESS: u64 = 4096;

/// The offset of the first event's entry in [`frame`]: after two streams, whose names take one byte
/// each, and padding.
const ENTRIES: usize = HEADER + 2 * STREAM + 8;

/// Return a frame with events in the streams `a`, `b` and `a`.
fn frame() -> Vec<u8> {
    let mut encoder = Encoder::new(&[("a", 2), ("b", 1)], None, 3, 3);
    for (stream, offset) in [(0, 0), (1, 0), (0, 1)] {
        encoder.push(&EncoderEvent {
            stream,
            offset,
            event_type: "t",
            event_id: [7; 16],
            metadata: b"",
            data: b"",
        });
    }
    let mut frame = encoder.finish();
    let fields = FrameFields {
        address: ADDRESS,
        first_position: 1,
        previous_chain: 0,
        durable_hint: 0,
        commit_time: 0,
        writer_epoch: 0,
    };
    let head = |stream_hash| StreamHead {
        stream_hash,
        base_version: 0,
    };
    frame.complete([head(1), head(2)].into_iter(), &fields, seed());
    frame.bytes().to_vec()
}

fn seed() -> Seed {
    Seed::new(&SECRET)
}

/// Overwrite four bytes of the frame, and make all its checksums valid again.
fn forged(at: usize, value: u32) -> Vec<u8> {
    let mut bytes = frame();
    put(&mut bytes, at, &value.to_le_bytes());
    let end = bytes.len() - TRAILER;
    let mut header = Header::decode(&bytes).unwrap();
    header.payload_hash = payload_hash(&bytes[HEADER + header.streams_length as usize..end]);
    header.write(&mut bytes, seed(), ADDRESS);
    let chain = chain(&bytes, 0..HEADER + header.streams_length as usize);
    put(&mut bytes, end, &chain.to_le_bytes());
    bytes
}

fn check(bytes: &[u8]) -> Result<(), &'static str> {
    let origin = FrameOrigin {
        seed: seed(),
        address: ADDRESS,
    };
    FrameView::check(bytes, origin).map(|_| ())
}

#[test]
fn a_frame_is_valid_after_its_checksums_are_computed_again() {
    check(&frame()).unwrap();
    check(&forged(ENTRIES, 0)).unwrap();
}

#[test]
fn an_event_that_skips_or_repeats_a_version_is_refused() {
    let contradiction = Err("the directories contradict each other");
    for (event, offset) in [(0, 12_544), (0, 1), (1, 1), (2, 0), (2, 2), (2, u32::MAX)] {
        let bytes = forged(ENTRIES + event * EVENT + 4, offset);
        assert_eq!(check(&bytes), contradiction, "event {event} with {offset}");
    }
}

#[test]
fn an_event_in_another_stream_than_was_counted_is_refused() {
    let contradiction = Err("the directories contradict each other");
    for (event, stream) in [(0, 1), (1, 0), (2, 1), (2, 2), (2, u32::MAX)] {
        let bytes = forged(ENTRIES + event * EVENT, stream);
        assert_eq!(check(&bytes), contradiction, "event {event} in {stream}");
    }
}

#[test]
fn a_count_that_differs_from_the_events_is_refused() {
    let contradiction = Err("the directories contradict each other");
    for (stream, count) in [(0, 1), (0, 3), (1, 0), (1, 2), (1, u32::MAX)] {
        let bytes = forged(HEADER + stream * STREAM + 24, count);
        assert_eq!(check(&bytes), contradiction, "{count} events in {stream}");
    }
}
