//! An allocator that ends the process if an input makes it allocate more than any input justifies.
//!
//! The limit of libFuzzer counts touched pages, and a buffer that was allocated for an unchecked
//! length may never be touched.

use std::alloc::{GlobalAlloc, Layout, System};

/// The largest buffer of the engine: the complete frame of a header with a valid checksum.
const LARGEST: usize = 33 << 20;

/// The system's allocator, with a limit on each allocation.
pub struct Limited;

fn check(size: usize) {
    if size > LARGEST {
        // A panic would have to allocate for its message.
        std::process::abort();
    }
}

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Limited {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        check(layout.size());
        // SAFETY: the caller guarantees what the system's allocator requires.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        check(layout.size());
        // SAFETY: the caller guarantees what the system's allocator requires.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        check(size);
        // SAFETY: the caller guarantees what the system's allocator requires.
        unsafe { System.realloc(old, layout, size) }
    }

    unsafe fn dealloc(&self, old: *mut u8, layout: Layout) {
        // SAFETY: the caller guarantees what the system's allocator requires.
        unsafe { System.dealloc(old, layout) }
    }
}
