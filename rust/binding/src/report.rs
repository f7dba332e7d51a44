//! Converts the counters and reports of the engine to Python collections.

use eventbraid_engine::{
    Error, LiveSession, LocalCounts, Session, SessionCounts, Stats, VerifyReport,
};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

use crate::error::exception;

/// Convert the engine's counters to a dict with a value for each name.
pub(crate) fn stats<'py>(py: Python<'py>, stats: &Stats) -> PyResult<Bound<'py, PyDict>> {
    let Stats {
        head,
        streams,
        bytes,
        segments,
        ref session,
        ref local,
        poisoned,
        unproven,
        ..
    } = *stats;
    let of_store = [
        ("head", head),
        ("streams", streams),
        ("bytes", bytes),
        ("segments", segments),
        ("poisoned", u64::from(poisoned)),
        ("unproven", unproven),
    ];
    let of_session = SessionCounts::NAMES.into_iter().zip(session.values());
    let observed = LocalCounts::NAMES.into_iter().zip(local.values());
    by_name(py, of_store.into_iter().chain(of_session).chain(observed))
}

/// Convert the sessions of a store: each session's program, and its counters by name.
pub(crate) fn sessions(
    py: Python<'_>,
    sessions: Result<Vec<Session>, Error>,
) -> PyResult<Bound<'_, PyList>> {
    let sessions = sessions.map_err(|error| exception(py, error))?;
    let converted = sessions
        .iter()
        .map(|session| Ok((&*session.program, session_counters(py, session)?)))
        .collect::<PyResult<Vec<_>>>()?;
    PyList::new(py, converted)
}

fn session_counters<'py>(py: Python<'py>, session: &Session) -> PyResult<Bound<'py, PyDict>> {
    let of_session = [
        ("pid", session.pid),
        ("since_micros", session.since_micros),
        ("read_only", u64::from(session.read_only)),
        ("is_self", u64::from(session.is_self)),
    ];
    let counts = SessionCounts::NAMES
        .into_iter()
        .zip(session.counts.values());
    by_name(py, of_session.into_iter().chain(counts))
}

/// Convert the counts of a verification to a dict with a value for each name.
pub(crate) fn verify_report(
    py: Python<'_>,
    verified: Result<VerifyReport, Error>,
) -> PyResult<Bound<'_, PyDict>> {
    let verified = verified.map_err(|error| exception(py, error))?;
    by_name(
        py,
        [
            ("frames", verified.frames),
            ("events", verified.events),
            ("streams", verified.streams),
            ("bytes", verified.bytes),
            ("quarantined", verified.quarantined),
        ],
    )
}

/// Convert the live sessions: id, and seconds since the last heartbeat.
pub(crate) fn heartbeat_ages(
    py: Python<'_>,
    sessions: Result<Vec<LiveSession>, Error>,
) -> PyResult<Vec<(String, f64)>> {
    let sessions = sessions.map_err(|error| exception(py, error))?;
    let age = |session: LiveSession| (session.id, session.heartbeat_age.as_secs_f64());
    Ok(sessions.into_iter().map(age).collect())
}

fn by_name(
    py: Python<'_>,
    counts: impl IntoIterator<Item = (&'static str, u64)>,
) -> PyResult<Bound<'_, PyDict>> {
    let dict = PyDict::new(py);
    for (name, count) in counts {
        dict.set_item(name, count)?;
    }
    Ok(dict)
}
