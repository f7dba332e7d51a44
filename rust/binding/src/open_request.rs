//! The request to open a store: its location and its options.

use eventbraid_engine::vfs::Vfs;
use eventbraid_engine::vfs::os::OsVfs;
use eventbraid_engine::vfs::sim::SimVfs;
use eventbraid_engine::{self as engine, Error, Mode, Store};
use pyo3::prelude::*;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::text::seconds;

/// The location of a store, read from `eventbraid.store._location.Location`.
#[derive(FromPyObject)]
pub(crate) struct Location {
    /// The directory; `None` for a new store in memory, which no other session can open.
    path: Option<PathBuf>,
    /// The directory at which a relative path begins.
    base: Option<PathBuf>,
}

/// The options of the store, read from `eventbraid.store._open_options.OpenOptions`, which validates
/// them.
#[derive(FromPyObject)]
pub(crate) struct Options {
    create: bool,
    segment_size: u64,
    max_segment_size: u64,
    cache_size: u64,
    read_only: bool,
    mode: String,
    lock_timeout: f64,
}

/// A request to open a store. It owns its arguments, so any thread may run it.
pub(crate) struct OpenRequest {
    location: Location,
    options: engine::Options,
}

impl OpenRequest {
    /// Convert the arguments.
    ///
    /// `identity` is the id that the store must have; any other store is refused.
    pub(crate) fn new(
        location: Location,
        options: &Options,
        identity: Option<[u8; 16]>,
    ) -> PyResult<Self> {
        let mut converted = engine::Options::default();
        converted.create = options.create;
        converted.first_segment = options.segment_size;
        converted.max_segment = options.max_segment_size;
        converted.cache = options.cache_size;
        converted.read_only = options.read_only;
        converted.lock_timeout = seconds("lock_timeout", options.lock_timeout)?;
        converted.identity = identity;
        if options.mode == "shared" && location.path.is_some() {
            converted.mode = Mode::Shared;
        }
        Ok(Self {
            location,
            options: converted,
        })
    }

    /// Return the location as text for messages.
    pub(crate) fn path(&self) -> String {
        let path = self.location.path.as_ref();
        path.map_or_else(|| "memory:".to_owned(), |path| path.display().to_string())
    }

    /// Open the store. If the store needs a recovery, the call lasts until the recovery has ended.
    pub(crate) fn run(self) -> Result<Store, Error> {
        let Location { path, base } = self.location;
        let (vfs, directory): (Arc<dyn Vfs>, _) = match &path {
            Some(directory) => {
                let vfs = base.map_or_else(OsVfs::new, OsVfs::relative_to);
                (Arc::new(vfs), directory.as_path())
            }
            None => (Arc::new(SimVfs::memory()), Path::new("/memory")),
        };
        Store::open(vfs, directory, self.options)
    }
}
