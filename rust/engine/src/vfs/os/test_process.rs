//! Runs a unit test in a process of its own.

#![allow(unsafe_code, reason = "`alarm` takes no safe types")]

use std::process::Command;

/// The environment variable that is set in the inner process.
const ALONE: &str = "EVENTBRAID_TEST_ALONE";
/// The time limit in seconds; far more than any of the tests takes.
const LIMIT: u32 = 60;

/// Run the test with this path in a new process that runs no other test. Fail if the test fails or
/// exceeds the time limit.
pub(super) fn run_alone(path: &str, test: fn()) {
    if std::env::var_os(ALONE).is_some() {
        // SAFETY: the signal has no handler and ends the process.
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
