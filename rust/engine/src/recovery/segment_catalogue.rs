//! The catalogue of a log's segments: what the manifest lists, compared with the directory.
//!
//! The live manifest lists every segment that ever got a frame. If it doesn't list a segment, the
//! process died while it created that segment. Such a segment is adopted if it continues the log,
//! and is moved to `quarantine/` otherwise. After a failed sync it is always moved there. Without a
//! valid manifest the directory itself is the list, and its segments must form one unbroken chain.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::log::{Identity, Layout, Manifest, Segment, SegmentEntry, open_listed, open_segment};

/// The segments in order, and the manifest that lists them.
#[derive(Debug)]
pub(super) struct Catalogue {
    pub(super) segments: Vec<Arc<Segment>>,
    pub(super) manifest: Manifest,
    /// Whether the manifest on the disk lists exactly these segments.
    pub(super) listed: bool,
}

/// Find the segments of a log; adopt or quarantine files that the manifest does not list. After a
/// failed sync (`poisoned`) nothing is adopted, because a name that programs see may not be on the
/// disk.
pub(super) fn catalogue(layout: &Layout, identity: &Identity, poisoned: bool) -> Result<Catalogue> {
    let live = Manifest::live(layout)?;
    let mut found = tidy_ordinals(layout)?;
    let mut manifest = match &live {
        Some(manifest) => manifest.clone(),
        None => Manifest {
            generation: newest_generation(layout)?,
            ..Manifest::default()
        },
    };
    let mut segments = Vec::new();
    for entry in &manifest.segments {
        let path = layout.segment(entry.ordinal);
        if !found.contains(&entry.ordinal) {
            return Err(Error::corrupt(
                &path,
                0,
                "it is missing, but the manifest lists it",
            ));
        }
        found.retain(|ordinal| ordinal != &entry.ordinal);
        let segment = open_listed(layout, identity, *entry, true)?;
        segments.push(Arc::new(segment));
    }
    if live.is_none() && found.is_empty() && manifest.generation > 0 {
        return Err(no_segment(layout));
    }
    let adopted = if live.is_some() && poisoned {
        found
            .iter()
            .try_for_each(|ordinal| quarantine(layout, &layout.segment(*ordinal)))?;
        false
    } else {
        adopt(layout, identity, &mut segments, &found, live.is_some())?
    };
    manifest.segments = segments.iter().map(|segment| segment.entry).collect();
    Ok(Catalogue {
        segments,
        manifest,
        listed: live.is_some() && !adopted,
    })
}

/// Open the segments of a log up to the first one that is missing or invalid, and return the error
/// for that one. No file is changed. A segment that no manifest lists has no frames and is ignored.
pub(crate) fn view(
    layout: &Layout,
    identity: &Identity,
    is_writable: bool,
) -> Result<(Vec<Arc<Segment>>, Manifest, Option<Error>)> {
    let live = Manifest::live(layout)?;
    let found = ordinals(layout)?;
    let listed: Vec<u64> = match &live {
        Some(manifest) => manifest
            .segments
            .iter()
            .map(|entry| entry.ordinal)
            .collect(),
        None => found.clone(),
    };
    if live.is_none() && found.is_empty() && newest_generation(layout)? > 0 {
        return Err(no_segment(layout));
    }
    let manifest = live.clone().unwrap_or_default();
    let mut segments: Vec<Arc<Segment>> = Vec::new();
    for (i, ordinal) in listed.into_iter().enumerate() {
        let segment = if found.contains(&ordinal) {
            open_segment(layout, identity, ordinal, is_writable)?
        } else {
            None
        };
        let before = segments.last().map(|last| last.entry);
        let is_next = |entry| match &live {
            Some(manifest) => manifest.segments.get(i) == Some(&entry),
            None => follows(before, entry),
        };
        let Some(segment) = segment.filter(|segment| is_next(segment.entry)) else {
            let reason = "it is missing, or is not the segment that continues the log";
            let damage = Error::corrupt(&layout.segment(ordinal), 0, reason);
            return Ok((segments, manifest, Some(damage)));
        };
        segments.push(Arc::new(segment));
    }
    Ok((segments, manifest, None))
}

fn no_segment(layout: &Layout) -> Error {
    let reason = "it contains no segment, but the store has had a manifest";
    Error::corrupt(&layout.log(), 0, reason)
}

/// Adopt the segments that no manifest lists, as far as they continue the log. Return whether there
/// was any.
fn adopt(
    layout: &Layout,
    identity: &Identity,
    segments: &mut Vec<Arc<Segment>>,
    found: &[u64],
    has_manifest: bool,
) -> Result<bool> {
    let mut adopted = false;
    for ordinal in found {
        let last = segments.last().map(|last| last.entry);
        match open_segment(layout, identity, *ordinal, true)? {
            Some(segment) if follows(last, segment.entry) => {
                segments.push(Arc::new(segment));
                adopted = true;
            }
            _ if has_manifest => quarantine(layout, &layout.segment(*ordinal))?,
            _ => {
                let reason = "it does not continue the segment before it, and no valid manifest \
                              lists it";
                return Err(Error::corrupt(&layout.segment(*ordinal), 0, reason));
            }
        }
    }
    Ok(adopted)
}

/// Whether a segment is the next one after `before`, or the first one.
fn follows(before: Option<SegmentEntry>, entry: SegmentEntry) -> bool {
    match before {
        None => entry.ordinal == 1 && entry.base == 0,
        Some(before) => {
            entry.ordinal == before.ordinal + 1 && entry.base == before.base + before.capacity
        }
    }
}

/// Return the ordinals of all files with the name of a segment, ascending. Delete unfinished
/// temporary files and quarantine all others.
fn tidy_ordinals(layout: &Layout) -> Result<Vec<u64>> {
    let log = layout.log();
    let names = layout
        .vfs
        .list(&log)
        .map_err(|e| Error::io(&log, "list", &e))?;
    let mut ordinals = Vec::new();
    for name in names {
        if let Some(ordinal) = ordinal_of(&name) {
            ordinals.push(ordinal);
        } else if name.strip_suffix(".tmp").is_some() {
            layout.remove_if_there(&log.join(name))?;
        } else {
            quarantine(layout, &log.join(name))?;
        }
    }
    ordinals.sort_unstable();
    Ok(ordinals)
}

/// Return the ordinals of all files with the name of a segment, ascending.
fn ordinals(layout: &Layout) -> Result<Vec<u64>> {
    let log = layout.log();
    let mut ordinals: Vec<u64> = match layout.vfs.list(&log) {
        Ok(names) => names.iter().filter_map(|name| ordinal_of(name)).collect(),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(e) => return Err(Error::io(&log, "list", &e)),
    };
    ordinals.sort_unstable();
    Ok(ordinals)
}

/// Parse the ordinal in the name of a segment. The name must have exactly ten digits, so that no
/// two names have the same ordinal.
fn ordinal_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".hot")?;
    let is_canonical = digits.len() == 10 && digits.bytes().all(|digit| digit.is_ascii_digit());
    if is_canonical {
        digits.parse().ok()
    } else {
        None
    }
}

/// Return the highest generation of the manifest files; 0 if there is none.
fn newest_generation(layout: &Layout) -> Result<u64> {
    let root = &layout.root;
    let names = layout
        .vfs
        .list(root)
        .map_err(|e| Error::io(root, "list", &e))?;
    let generations = names
        .iter()
        .filter_map(|name| name.strip_prefix("MANIFEST-")?.parse::<u32>().ok());
    Ok(generations.max().map_or(0, u64::from))
}

/// Move a file to `quarantine/`, where it is kept. `verify` reports the number of files there.
fn quarantine(layout: &Layout, from: &Path) -> Result<()> {
    let directory = layout.quarantine();
    layout.ensure_dir(&directory)?;
    let to = free_name(
        layout,
        &directory.join(from.file_name().unwrap_or_default()),
    )?;
    layout
        .vfs
        .rename(from, &to)
        .map_err(|e| Error::io(from, "quarantine", &e))?;
    layout.sync_parent(&to)?;
    layout.sync_parent(from)
}

/// Return a path at which there is no file: `wanted`, or `wanted` with a number added.
fn free_name(layout: &Layout, wanted: &Path) -> Result<PathBuf> {
    let mut candidate = wanted.to_path_buf();
    for n in 1u32.. {
        let taken = layout
            .vfs
            .entry(&candidate)
            .map_err(|e| Error::io(wanted, "look up", &e))?;
        if taken.is_none() {
            break;
        }
        candidate = wanted.with_extension(format!("hot.{n}"));
    }
    Ok(candidate)
}
