//! `forks`: whether what was made earlier was made in this process.

use eventbraid_engine::vfs::os;
use pyo3::prelude::*;

/// Count the forks between this process and the first of its line that asked.
#[pyfunction]
pub(crate) fn forks() -> u64 {
    os::forks()
}
