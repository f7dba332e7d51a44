//! Whether a directory contains a store, and which one.

use crate::error::{Error, Result};
use crate::format_version::FORMAT;
use crate::log::{Identity, Layout};
use crate::vfs::Entry;

/// Return the identity of the store. In an empty directory, create one if `create` allows it.
pub(super) fn identify(layout: &Layout, create: bool) -> Result<Identity> {
    if let Some(identity) = Identity::read(layout)? {
        return Ok(identity);
    }
    let absent = "it has no IDENTITY file; leave out create=False to create a new store";
    let absent = (!create).then(|| absent.to_owned());
    if let Some(reason) = foreign(layout)?.or(absent) {
        return Err(Error::NotAStore {
            path: layout.root.clone(),
            reason,
        });
    }
    Identity::create(layout)
}

/// Names that file systems and desktops create in the root of a volume.
const OF_VOLUMES: [&str; 5] = ["lost+found", ".snapshot", ".snapshots", ".zfs", ".DS_Store"];
/// Maximum number of names that an error lists.
const LISTED: usize = 3;

/// Return the names because of which the directory does not count as empty. Ignore names that the
/// volume has created or that an interrupted creation of a store has left.
fn foreign(layout: &Layout) -> Result<Option<String>> {
    let root = &layout.root;
    let names = layout
        .vfs
        .list(root)
        .map_err(|e| Error::io(root, "list", &e))?;
    let is_ours = |name: &str| name == "IDENTITY.tmp" || OF_VOLUMES.contains(&name);
    let foreign: Vec<&String> = names.iter().filter(|name| !is_ours(name)).collect();
    if foreign.is_empty() {
        return Ok(None);
    }
    let listed: Vec<String> = foreign
        .iter()
        .take(LISTED)
        .map(|name| format!("{name:?}"))
        .collect();
    let more = match foreign.len().saturating_sub(LISTED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    Ok(Some(format!(
        "it is not empty (it contains {}{more}) and has no IDENTITY file of format {FORMAT}; \
         give an empty or a new directory, such as one in it",
        listed.join(", ")
    )))
}

/// Whether the directory exists. Return an error if the path is not a directory.
pub(super) fn exists(layout: &Layout) -> Result<bool> {
    let root = &layout.root;
    match layout
        .vfs
        .entry(root)
        .map_err(|e| Error::io(root, "look up", &e))?
    {
        Some(Entry::Directory) => Ok(true),
        None => Ok(false),
        Some(_) => Err(Error::NotAStore {
            path: root.clone(),
            reason: "it is a file; give a directory".to_owned(),
        }),
    }
}
