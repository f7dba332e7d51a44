//! How a store is opened: from a directory to an open log.
//!
//! [`open`] is the only entry point. It finds or creates the store, acquires its locks, and then
//! opens the log in one of the ways below. Its guarantees:
//!
//! * Nothing in the directory is changed before the store is identified and its lock is held.
//! * Exactly one session recovers the log; no other session joins before that is complete.
//! * A read-only session changes no file and keeps no writer waiting.
//!
//! | file | contents |
//! |---|---|
//! | `identify_store` | whether the directory contains a store, and which one |
//! | `acquire_locks` | the locks: exclusive, as the first of several sessions, or joined to others |
//! | `open_timeout` | how long an open waits for another process |
//! | `first_session` | recover the log, exclusively or as the first session |
//! | `join_sessions` | open a log that other sessions have open |
//! | `read_only` | open a snapshot of the log without a change to any file |
//!
//! Every way of opening ends in [`LockedStore::live_log`], the one place where an open log is
//! assembled.

mod acquire_locks;
mod first_session;
mod identify_store;
mod join_sessions;
mod open_timeout;
mod read_only;

use std::path::Path;
use std::sync::Arc;

use crate::chunk::ChunkCache;
use crate::commit::{StartingPoint, Tail};
use crate::coord::{Coord, Lock, LogPoint};
use crate::error::{Error, Result};
use crate::index::MemoryIndex;
use crate::live::LiveLog;
use crate::log::{Identity, Layout, Manifest, Segment, SegmentLocks, Segments};
use crate::options::Options;
use crate::vfs::Vfs;

use acquire_locks::{Access, Acquired, Request};

/// An open log, and the locks and reports of its session.
#[derive(Debug)]
pub(crate) struct OpenLog {
    pub(crate) log: LiveLog,
    pub(crate) tail: Tail,
    pub(crate) start: StartingPoint,
    /// The lock on the directory, held until the session ends.
    pub(crate) live: Lock,
    /// Set for a read-only session.
    pub(crate) view: Option<View>,
}

/// The findings of a read-only open.
#[derive(Debug, Default)]
pub(crate) struct View {
    /// Bytes of log after the proven durable end.
    pub(crate) unproven: u64,
    /// Damage that would prevent an open for writing.
    pub(crate) damage: Option<Error>,
}

/// Open the log in a directory. If there is no store, create one if the options allow it.
pub(crate) fn open(vfs: Arc<dyn Vfs>, directory: &Path, options: Options) -> Result<OpenLog> {
    let layout = Layout::new(vfs, directory.to_path_buf());
    if !identify_store::exists(&layout)? {
        if !options.create || options.read_only {
            return Err(Error::NotAStore {
                path: layout.root,
                reason: "there is no such directory".to_owned(),
            });
        }
        layout.ensure_dir(&layout.root)?;
    }
    let layout = layout.hold()?;
    layout.refuse_other_store(options.identity)?;
    let request = Request {
        layout: &layout,
        options: &options,
    };
    let Acquired { identity, access } = request.acquire()?;
    let store = LockedStore {
        layout,
        identity,
        options,
    };
    match access {
        Access::Exclusive(live) if options.read_only => store.read_only(live),
        Access::Exclusive(live) => store.recover(live, None),
        Access::First(locks, boot) => store.first(locks, boot),
        Access::Joined(locks, page) => store.join(locks, page),
    }
}

/// A store whose locks are held, and whose log is about to be opened.
#[derive(Debug)]
struct LockedStore {
    layout: Layout,
    identity: Identity,
    options: Options,
}

/// The state in which a session begins. Everything below the tail is durable and indexed.
#[derive(Debug)]
struct Beginning {
    index: MemoryIndex,
    tail: Tail,
    durable: LogPoint,
    /// Identifies the session in the frames that it writes. `None` for a snapshot, which also needs
    /// no threads.
    epoch: Option<u64>,
    live: Lock,
    view: Option<View>,
}

impl LockedStore {
    /// Build the list of segments, as found by recovery or in the manifest.
    fn segments(
        &self,
        coord: &Arc<Coord>,
        segment_locks: SegmentLocks,
        listed: (Vec<Arc<Segment>>, Manifest),
    ) -> Segments {
        Segments::new(
            self.layout.clone(),
            self.identity,
            self.options,
            Arc::<Coord>::clone(coord),
            segment_locks,
            listed,
        )
    }

    /// Assemble the open log from its parts.
    fn live_log(self, segments: Segments, coord: Arc<Coord>, beginning: Beginning) -> OpenLog {
        let Beginning {
            index,
            tail,
            durable,
            epoch,
            live,
            view,
        } = beginning;
        let log = LiveLog::new(
            segments,
            coord,
            index,
            ChunkCache::of_bytes(self.options.cache),
            self.identity.seed(),
            self.identity.hasher(),
        );
        OpenLog {
            log,
            tail,
            start: StartingPoint {
                epoch: epoch.unwrap_or(0),
                background: self.options.background && epoch.is_some(),
                durable,
            },
            live,
            view,
        }
    }
}

/// Return the point at which a session begins. Everything below it is durable and indexed.
fn durable_point(tail: &Tail, end: u64, commit_time: u64) -> LogPoint {
    LogPoint {
        address: tail.address,
        end,
        next_position: tail.next_position,
        chain: tail.chain,
        ordinal: tail.segment.entry.ordinal,
        commit_time,
        // A log that was only opened needs no sync marker at its end.
        ends_in_marker: true,
    }
}

fn random_word(vfs: &dyn Vfs) -> Result<u64> {
    let mut bytes = [0; 8];
    vfs.random(&mut bytes)
        .map_err(|e| Error::io(Path::new(""), "get random bytes for", &e))?;
    Ok(u64::from_le_bytes(bytes))
}
