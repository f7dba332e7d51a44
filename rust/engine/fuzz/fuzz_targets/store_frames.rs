//! Frames that no writer would produce, with valid checksums, at the end of a log. Whatever
//! recovery does with them, nothing panics, hangs or allocates without limit, and every kind of
//! read returns the same events.
#![no_main]

use std::path::Path;
use std::sync::LazyLock;

use eventbraid_engine::vfs::sim::SimVfs;
use eventbraid_engine_fuzz::forge::{self, Tie};
use eventbraid_engine_fuzz::{allocator::Limited, stores, take};
use libfuzzer_sys::fuzz_target;

#[global_allocator]
static ALLOCATOR: Limited = Limited;

const SEGMENT: &str = "/store/log/0000000002.hot";

static DIED: LazyLock<(SimVfs, Tie, usize)> = LazyLock::new(|| {
    let vfs = stores::small(false);
    let (tie, end) = stores::end_of_log(&vfs, Path::new(SEGMENT));
    (vfs, tie, end)
});

fuzz_target!(|bytes: &[u8]| {
    let (vfs, tie, end) = &*DIED;
    let (mut bytes, mut tie) = (bytes, *tie);
    let vfs = vfs.process_crash();
    let mut segment = vfs.read_file(SEGMENT).unwrap();
    segment.truncate(*end);
    while !bytes.is_empty() && segment.len() < 7000 {
        let length = usize::from(u16::from_le_bytes(take(&mut bytes))) % 1024;
        let (body, rest) = bytes.split_at(bytes.len().min(length));
        bytes = rest;
        let mut frame = body.to_vec();
        forge::next_frame(&mut frame, tie);
        tie = forge::after(&frame, tie);
        segment.extend_from_slice(&frame);
    }
    vfs.write_outside(SEGMENT, &segment).unwrap();
    if let Ok(store) = stores::open(&vfs)
        && stores::read(&store).is_ok()
    {
        let _may_be_refused = stores::append(&store, &[("z", b"continues")], None);
        let _may_fail = stores::read(&store);
    }
});
