//! An encoded frame is decoded to the same commit, and with one changed bit it is refused.
#![no_main]

use eventbraid_engine::fuzzing::{self, Content, Event, FrameLocation};
use eventbraid_engine_fuzz::{allocator::Limited, take};
use libfuzzer_sys::fuzz_target;

#[global_allocator]
static ALLOCATOR: Limited = Limited;

fn text(bytes: &mut &[u8]) -> String {
    let [length] = take(bytes);
    let length = usize::from(length).min(bytes.len());
    let (text, rest) = bytes.split_at(length);
    *bytes = rest;
    String::from_utf8_lossy(text).into_owned()
}

/// A commit whose streams and events are read from the input. The streams are in the order of their
/// first events, as in every frame.
fn content(bytes: &mut &[u8]) -> Content {
    let [streams, events] = take(bytes);
    let streams: Vec<_> = (0..streams % 9).map(|_| text(bytes)).collect();
    let mut begun = 0;
    let event = |_| {
        let [drawn] = take(bytes);
        let stream = u32::from(drawn) % (begun + 1).min(streams.len() as u32);
        begun = begun.max(stream + 1);
        Event {
            stream,
            event_type: text(bytes),
            metadata: text(bytes).into_bytes(),
            data: text(bytes).into_bytes(),
        }
    };
    let count = if streams.is_empty() { 0 } else { events % 17 };
    let events = (0..count).map(event).collect();
    let mut key = text(bytes);
    key.truncate(key.floor_char_boundary(255));
    Content {
        streams,
        events,
        key,
    }
}

fuzz_target!(|bytes: &[u8]| {
    let mut bytes = bytes;
    let flip = u32::from_le_bytes(take(&mut bytes)) as usize;
    let location = FrameLocation {
        secret: take(&mut bytes),
        address: u64::from_le_bytes(take(&mut bytes)),
    };
    let content = content(&mut bytes);
    let mut frame = fuzzing::encode(&content, location);
    let decoded = fuzzing::decode(&frame, location).expect("a frame that was just encoded");
    assert_eq!(decoded.streams, content.streams);
    assert_eq!(decoded.events, content.events);
    assert_eq!(decoded.key, content.key);
    let bit = flip % (frame.len() * 8);
    frame[bit / 8] ^= 1 << (bit % 8);
    assert_eq!(fuzzing::frame(&frame, location), None, "bit {bit} is flipped");
});
