//! Tests in a process of their own.

#![allow(unsafe_code, reason = "an alarm takes no safe types")]

use std::process::Command;

const ALONE: &str = "EVENTBRAID_TEST_ALONE";
/// Seconds, far more than anything takes.
const LIMIT: u32 = 60;

/// Runs the test with this path in a process that runs no other, and fails if that hangs.
pub(super) fn alone(path: &str, test: fn()) {
    if std::env::var_os(ALONE).is_some() {
        // SAFETY: a signal that ends the process, and has no handler.
        unsafe { libc::alarm(LIMIT) };
        return test();
    }
    let mut program = Command::new(std::env::current_exe().unwrap());
    let output = program.args(["--exact", path]).env(ALONE, path).output();
    let output = output.unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && printed.contains("1 passed"),
        "{}: {printed}",
        output.status
    );
}
