//! `forks`: distinguishes a forked child from its parent.

use eventbraid_engine::vfs::os;
use pyo3::prelude::*;

/// Count the forks between this process and its first ancestor that called this function.
#[pyfunction]
pub(crate) fn forks() -> u64 {
    os::forks()
}
