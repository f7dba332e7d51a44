//! The frame parser, on arbitrary bytes and on bytes with corrected checksums.
#![no_main]

use eventbraid_engine::fuzzing::{self, FrameLocation};
use eventbraid_engine_fuzz::{allocator::Limited, forge, take};
use libfuzzer_sys::fuzz_target;

#[global_allocator]
static ALLOCATOR: Limited = Limited;

fuzz_target!(|bytes: &[u8]| {
    let mut bytes = bytes;
    let [forged] = take(&mut bytes);
    let address = u64::from_le_bytes(take(&mut bytes));
    let secret = [7; 16];
    let mut frame = bytes.to_vec();
    if forged != 0 {
        forge::frame(&mut frame, secret, address);
    }
    fuzzing::frame(&frame, FrameLocation { secret, address });
});
