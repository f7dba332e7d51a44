//! The parsers of the small records: the header of a segment, a manifest, IDENTITY, CURRENT and
//! POISONED.
#![no_main]

use eventbraid_engine::fuzzing;
use eventbraid_engine_fuzz::{allocator::Limited, forge, take};
use libfuzzer_sys::fuzz_target;

#[global_allocator]
static ALLOCATOR: Limited = Limited;

fuzz_target!(|bytes: &[u8]| {
    let mut bytes = bytes;
    let [parser, forged] = take(&mut bytes);
    let (mut record, forged) = (bytes.to_vec(), forged != 0);
    match parser % 5 {
        0 => {
            if forged {
                forge::segment_header(&mut record);
            }
            fuzzing::segment_header(&record);
        }
        1 => {
            if forged {
                forge::manifest(&mut record);
            }
            fuzzing::manifest(&record);
        }
        2 => {
            if forged {
                forge::identity(&mut record);
            }
            fuzzing::identity(&record);
        }
        3 => {
            if forged {
                forge::poisoned(&mut record);
            }
            fuzzing::poisoned(&record);
        }
        _ => {
            let (current, mut manifest) = bytes.split_at(bytes.len().min(24));
            let generation = u64::from_le_bytes(take(&mut manifest));
            let mut manifest = manifest.to_vec();
            if forged {
                forge::manifest(&mut manifest);
            }
            fuzzing::current(current, generation, &manifest);
        }
    }
});
