//! The extension module `eventbraid._native`: Eventbraid's engine for Python.
//!
//! The crate contains conversions, the handling of the GIL, the delivery of results to event loops,
//! and exceptions, but no policy. A function here converts its arguments, detaches from the
//! interpreter, calls the engine, and converts the result. `python/eventbraid/_native.pyi`
//! documents each class.
#![deny(unsafe_code)]
#![allow(
    clippy::doc_markdown,
    clippy::doc_link_with_quotes,
    reason = "doc comments of classes and functions are Python docstrings, not Markdown"
)]

mod append;
mod appended;
mod completion;
mod engine;
mod error;
mod event_buffer;
mod fork;
mod interrupt;
mod log_filter;
mod metadata;
mod new_event;
mod once;
mod open_request;
mod page;
mod pending_append;
mod query;
mod read;
mod reader_pool;
mod recorded_event;
mod report;
mod snapshot;
mod store;
mod stream_names;
mod text;
mod time;
mod uuid;
mod waiter;

/// The compiled half of Eventbraid: bytes and numbers only, no policy.
#[pyo3::pymodule(gil_used = false)]
mod _native {
    use pyo3::prelude::*;

    #[pymodule_export]
    use crate::append::mark_interrupted;
    #[pymodule_export]
    use crate::appended::Appended;
    #[pymodule_export]
    use crate::completion::CompletionPort;
    #[pymodule_export]
    use crate::event_buffer::EventBuffer;
    #[pymodule_export]
    use crate::fork::forks;
    #[pymodule_export]
    use crate::log_filter::LogFilter;
    #[pymodule_export]
    use crate::new_event::{NewEvent, system_event, traced_event};
    #[pymodule_export]
    use crate::page::Page;
    #[pymodule_export]
    use crate::pending_append::PendingAppend;
    #[pymodule_export]
    use crate::query::Query;
    #[pymodule_export]
    use crate::recorded_event::RecordedEvent;
    #[pymodule_export]
    use crate::snapshot::StreamsSnapshot;
    #[pymodule_export]
    use crate::store::Store;
    #[pymodule_export]
    use crate::stream_names::StreamNames;
    #[pymodule_export]
    use crate::uuid::{EventId, uuid7};
    #[pymodule_export]
    use crate::waiter::LogWaiter;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        crate::once::prepare(module.py())
    }
}
