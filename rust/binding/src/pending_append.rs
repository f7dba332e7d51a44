//! `PendingAppend`: an append whose outcome isn't known yet, and on which others may build.

use eventbraid_engine as engine;
use pyo3::prelude::*;

/// An append on which later appends of the process may build before its outcome is known.
#[pyclass(frozen, module = "eventbraid._native")]
pub(crate) struct PendingAppend {
    own: engine::PendingAppend,
    builds_on: Vec<engine::PendingAppend>,
}

#[pymethods]
impl PendingAppend {
    #[new]
    #[pyo3(signature = (builds_on = Vec::new(), /))]
    fn new(builds_on: Vec<Bound<'_, Self>>) -> Self {
        let earlier = |one: Bound<'_, Self>| one.get().own.clone();
        Self {
            own: engine::PendingAppend::default(),
            // A durable append can't fail any more.
            builds_on: (builds_on.into_iter().map(earlier))
                .filter(|one| !one.is_durable())
                .collect(),
        }
    }

    /// Whether the append was committed and is durable.
    #[getter]
    fn is_durable(&self) -> bool {
        self.own.is_durable()
    }

    /// Whether the append was written; it may not be durable yet.
    #[getter]
    fn is_accepted(&self) -> bool {
        self.own.is_accepted()
    }

    /// Whether the append failed, or its outcome is unknown.
    #[getter]
    fn is_refused(&self) -> bool {
        self.own.is_refused()
    }
}

impl PendingAppend {
    /// Make an append the pending one, and let it build on the others.
    pub(crate) fn link(&self, prepared: engine::Prepared) -> engine::Prepared {
        prepared
            .as_pending(self.own.clone())
            .building_on(self.builds_on.clone())
    }
}
