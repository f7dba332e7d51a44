//! What the engine says about a store, as Python collections.

use eventbraid_engine::{Error, Member, Sighting, Stats, Verified};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

use crate::error::exception;

/// Shows the engine's counters by name.
pub(crate) fn stats<'py>(py: Python<'py>, stats: &Stats) -> PyResult<Bound<'py, PyDict>> {
    by_name(
        py,
        &[
            ("head", stats.head),
            ("streams", stats.streams),
            ("bytes", stats.bytes),
            ("segments", stats.segments),
            ("appends", stats.appends),
            ("commits", stats.commits),
            ("events", stats.events),
            ("groups", stats.groups),
            ("fsyncs", stats.fsyncs),
            ("conflicts", stats.conflicts),
            ("replays", stats.replays),
            ("waits", stats.waits),
            ("clock_jumps", stats.clock_jumps),
            ("cache_hits", stats.cache_hits),
            ("cache_misses", stats.cache_misses),
            ("poisoned", u64::from(stats.poisoned)),
            ("unproven", stats.unproven),
        ],
    )
}

/// Shows who has a store open, each as its program and its numbers by name.
pub(crate) fn members(
    py: Python<'_>,
    members: Result<Vec<Member>, Error>,
) -> PyResult<Bound<'_, PyList>> {
    let members = members.map_err(|error| exception(py, error))?;
    let shown = members
        .iter()
        .map(|member| Ok((&*member.program, member_numbers(py, member)?)))
        .collect::<PyResult<Vec<_>>>()?;
    PyList::new(py, shown)
}

fn member_numbers<'py>(py: Python<'py>, member: &Member) -> PyResult<Bound<'py, PyDict>> {
    by_name(
        py,
        &[
            ("pid", member.pid),
            ("since_micros", member.since_micros),
            ("read_only", u64::from(member.read_only)),
            ("is_self", u64::from(member.is_self)),
            ("appends", member.appends),
            ("commits", member.commits),
            ("events", member.events),
            ("groups", member.groups),
            ("fsyncs", member.fsyncs),
            ("conflicts", member.conflicts),
            ("replays", member.replays),
            ("waits", member.waits),
        ],
    )
}

/// Shows by name what a check of the log has counted.
pub(crate) fn verified(
    py: Python<'_>,
    verified: Result<Verified, Error>,
) -> PyResult<Bound<'_, PyDict>> {
    let verified = verified.map_err(|error| exception(py, error))?;
    by_name(
        py,
        &[
            ("frames", verified.frames),
            ("events", verified.events),
            ("streams", verified.streams),
            ("bytes", verified.bytes),
            ("quarantined", verified.quarantined),
        ],
    )
}

/// Converts the live sessions: id, and seconds since the last heartbeat.
pub(crate) fn heartbeat_ages(
    py: Python<'_>,
    sessions: Result<Vec<Sighting>, Error>,
) -> PyResult<Vec<(String, f64)>> {
    let sessions = sessions.map_err(|error| exception(py, error))?;
    let age = |session: Sighting| (session.id, session.silence.as_secs_f64());
    Ok(sessions.into_iter().map(age).collect())
}

fn by_name<'py>(py: Python<'py>, counts: &[(&str, u64)]) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    for (name, count) in counts {
        dict.set_item(name, count)?;
    }
    Ok(dict)
}
