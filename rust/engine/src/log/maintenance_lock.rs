//! The interface between the files of the log and the coordination of sessions.

use std::fmt::Debug;

use crate::error::{Error, Result};

/// Coordinates the maintenance of the log's files: only one thread of one session at a time
/// creates, fills or lists them.
pub(crate) trait Maintenance: Debug + Send + Sync {
    /// Acquire the maintenance lock: among the threads of this session, and among all sessions if
    /// the store is shared.
    fn acquire(&self) -> Result<Box<dyn MaintenanceGuard + '_>>;

    /// The generation of the manifest that was published last by any session; `None` while no other
    /// session can have the store open.
    fn shared_generation(&self) -> Option<u64>;

    /// Publish the generation of a new manifest, if the store is shared.
    fn publish_generation(&self, generation: u64);

    /// Whether other sessions can join this one.
    fn is_joinable(&self) -> bool;

    /// The error for a shared page that contradicts the log.
    fn contradiction(&self, reason: &str) -> Error;
}

/// The maintenance lock while it is held; dropping it releases the lock.
pub(crate) trait MaintenanceGuard: Debug {}
