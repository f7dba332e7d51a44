//! Opening a store: where, and how.

use eventbraid_engine::vfs::Vfs;
use eventbraid_engine::vfs::os::OsVfs;
use eventbraid_engine::vfs::sim::SimVfs;
use eventbraid_engine::{Error, Mode, Options, Store};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// What is to be opened; owned, so that any thread may do it.
pub(crate) struct Opening {
    location: Option<PathBuf>,
    base: Option<PathBuf>,
    options: Options,
}

impl Opening {
    /// Notes the arguments; no location means a fresh store in memory, which nobody else can
    /// open.
    #[expect(clippy::too_many_arguments, reason = "an opening has so many options")]
    pub(crate) fn new(
        location: Option<PathBuf>,
        create: bool,
        first_segment: u64,
        max_segment: u64,
        cache: u64,
        read_only: bool,
        shared: bool,
        lock_timeout: Duration,
        identity: Option<[u8; 16]>,
        base: Option<PathBuf>,
    ) -> Self {
        let mut options = Options::default();
        options.create = create;
        options.first_segment = first_segment;
        options.max_segment = max_segment;
        options.cache = cache;
        options.read_only = read_only;
        options.lock_timeout = lock_timeout;
        options.identity = identity;
        if shared && location.is_some() {
            options.mode = Mode::Shared;
        }
        Self {
            location,
            base,
            options,
        }
    }

    /// Where it is, for people.
    pub(crate) fn path(&self) -> String {
        let path = self.location.as_ref();
        path.map_or_else(|| "memory:".to_owned(), |path| path.display().to_string())
    }

    /// Opens it; takes as long as recovery takes.
    pub(crate) fn run(self) -> Result<Store, Error> {
        let (vfs, directory): (Arc<dyn Vfs>, _) = match &self.location {
            Some(directory) => {
                let vfs = self.base.map_or_else(OsVfs::new, OsVfs::relative_to);
                (Arc::new(vfs), directory.as_path())
            }
            None => (Arc::new(SimVfs::memory()), Path::new("/memory")),
        };
        Store::open(vfs, directory, self.options)
    }
}
