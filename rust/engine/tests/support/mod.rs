//! Helpers of the engine's tests.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "every test file uses some of them"
)]

pub(crate) mod appends;
pub(crate) mod frames;
pub(crate) mod hook;
pub(crate) mod lock_hook;
pub(crate) mod machine;
pub(crate) mod pair;
pub(crate) mod schedule;
pub(crate) mod shared;

use std::path::Path;
use std::sync::Arc;

use eventbraid_engine::vfs::Vfs;
use eventbraid_engine::{
    Append, Appended, CategoryQuery, CategoryStreams, Error, EventInput, Expectation, LogQuery,
    Options, Prepared, ReadMode, Recorded, Store, StreamQuery, prepare,
};

pub(crate) const ROOT: &str = "/store";

/// Return options with small segments and no threads, so that every schedule can be repeated.
pub(crate) fn options() -> Options {
    let mut options = Options::default();
    options.first_segment = 16 << 10;
    options.max_segment = 64 << 10;
    options.background = false;
    options
}

/// As [`options`], with background threads.
pub(crate) fn threaded() -> Options {
    let mut options = options();
    options.background = true;
    options
}

pub(crate) fn open(vfs: impl Vfs) -> Result<Store, Error> {
    open_with(vfs, options())
}

pub(crate) fn open_with(vfs: impl Vfs, options: Options) -> Result<Store, Error> {
    Store::open(Arc::new(vfs), Path::new(ROOT), options)
}

pub(crate) fn event<'a>(stream: &'a str, data: &'a [u8]) -> EventInput<'a> {
    EventInput {
        stream,
        event_type: "happened",
        event_id: None,
        metadata: b"",
        library_metadata: b"",
        data,
        content: None,
    }
}

/// Prepare an append of one event.
pub(crate) fn prepared(stream: &str, data: &[u8]) -> Prepared {
    let events = [event(stream, data)];
    let append = Append {
        events: &events,
        ..Append::default()
    };
    prepare(&append).unwrap()
}

pub(crate) fn append(store: &Store, events: &[(&str, &[u8])]) -> Result<Appended, Error> {
    append_expecting(store, events, &[], None)
}

pub(crate) fn append_expecting(
    store: &Store,
    events: &[(&str, &[u8])],
    expectations: &[(&str, Expectation)],
    idempotency_key: Option<&str>,
) -> Result<Appended, Error> {
    let events: Vec<_> = events
        .iter()
        .map(|(stream, data)| event(stream, data))
        .collect();
    let append = Append {
        events: &events,
        expectations,
        idempotency_key,
        ..Append::default()
    };
    store.append(prepare(&append)?)
}

/// Append under expectations on categories.
pub(crate) fn append_expecting_categories(
    store: &Store,
    events: &[(&str, &[u8])],
    category_expectations: &[(&str, Expectation)],
    idempotency_key: Option<&str>,
) -> Result<Appended, Error> {
    let events: Vec<_> = events
        .iter()
        .map(|(stream, data)| event(stream, data))
        .collect();
    let append = Append {
        events: &events,
        category_expectations,
        idempotency_key,
        ..Append::default()
    };
    store.append(prepare(&append)?)
}

/// Return the streams of a category as of the head.
pub(crate) fn category(store: &Store, name: &str) -> Result<CategoryStreams, Error> {
    store.category_streams(&CategoryQuery {
        category: name,
        after: 0,
        limit: usize::MAX,
        at: None,
        mode: ReadMode::Blocking,
    })
}

pub(crate) fn stream(store: &Store, name: &str) -> Vec<Recorded> {
    store.read_stream(&StreamQuery::all(name)).unwrap().events
}

/// Read the complete log, page by page: one page is limited in bytes.
pub(crate) fn log(store: &Store) -> Vec<Recorded> {
    let mut query = LogQuery::all();
    let mut events = Vec::new();
    loop {
        let page = store.read_log(&query).unwrap();
        events.extend(page.events);
        if !page.more {
            return events;
        }
        query.after = page.next;
    }
}

pub(crate) fn bodies(events: &[Recorded]) -> Vec<String> {
    events
        .iter()
        .map(|e| String::from_utf8_lossy(e.data()).into_owned())
        .collect()
}

/// Return the names of all streams with a prefix.
pub(crate) fn streams(store: &Store, prefix: &str) -> Result<Vec<String>, Error> {
    let mut names = store.streams(prefix, true)?;
    while !store.gather(&mut names)? {}
    let mut all = Vec::new();
    loop {
        let page = names.page(3);
        if page.is_empty() {
            return Ok(all);
        }
        all.extend(page.into_iter().map(str::to_owned));
    }
}
