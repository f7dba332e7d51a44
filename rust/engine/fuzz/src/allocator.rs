//! An allocator that ends the process when one input asks for more than any input justifies.
//!
//! libFuzzer's own limit counts pages that were touched, and a buffer that was asked for by a
//! length nobody checked need not be touched.

use std::alloc::{GlobalAlloc, Layout, System};

/// The engine's largest buffer: the whole frame of a header whose checksum holds.
const LARGEST: usize = 33 << 20;

/// The system's allocator, with a limit on each allocation.
pub struct Limited;

fn check(size: usize) {
    if size > LARGEST {
        // A panic would have to allocate for its message.
        std::process::abort();
    }
}

// SAFETY: every call is handed to the system's allocator as it came.
unsafe impl GlobalAlloc for Limited {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        check(layout.size());
        // SAFETY: as promised by the caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        check(layout.size());
        // SAFETY: as promised by the caller.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        check(size);
        // SAFETY: as promised by the caller.
        unsafe { System.realloc(old, layout, size) }
    }

    unsafe fn dealloc(&self, old: *mut u8, layout: Layout) {
        // SAFETY: as promised by the caller.
        unsafe { System.dealloc(old, layout) }
    }
}
