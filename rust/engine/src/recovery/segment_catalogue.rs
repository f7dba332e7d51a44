//! Which segments a log has.
//!
//! The live manifest lists every segment that ever took a frame. A segment that it doesn't
//! list was being made when the process died: it is adopted when it continues the log, else
//! set aside, as it always is after a failed sync. Without a valid manifest the directory itself is the list, and must be whole.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::log::{Identity, Layout, Manifest, Segment, SegmentEntry, open_listed, open_segment};

/// The segments in order, and the manifest that describes them.
#[derive(Debug)]
pub(super) struct Catalogue {
    pub(super) segments: Vec<Arc<Segment>>,
    pub(super) manifest: Manifest,
    pub(super) listed: bool,
}

/// `poisoned`: a name may be known to programs and not to the disk, after a failed sync.
pub(super) fn catalogue(layout: &Layout, identity: &Identity, poisoned: bool) -> Result<Catalogue> {
    let live = Manifest::live(layout)?;
    let mut found = files(layout)?;
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
                "the manifest lists this segment, it is missing",
            ));
        }
        found.retain(|ordinal| ordinal != &entry.ordinal);
        let segment = open_listed(layout, identity, *entry, true)?;
        segments.push(Arc::new(segment));
    }
    if live.is_none() && found.is_empty() && manifest.generation > 0 {
        let reason = "there are manifests but no segment; the log itself is gone";
        return Err(Error::corrupt(&layout.log(), 0, reason));
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

/// As far as the segments are there and sound; and what is wrong with the next one. What no
/// manifest lists has no frames, and is left alone.
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
        let reason = "there are manifests but no segment; the log itself is gone";
        return Err(Error::corrupt(&layout.log(), 0, reason));
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
            let reason = "it is missing, or not the segment that the log goes on in";
            let damage = Error::corrupt(&layout.segment(ordinal), 0, reason);
            return Ok((segments, manifest, Some(damage)));
        };
        segments.push(Arc::new(segment));
    }
    Ok((segments, manifest, None))
}

/// Takes in the segments that no manifest lists, as far as they continue the log.
fn adopt(
    layout: &Layout,
    identity: &Identity,
    segments: &mut Vec<Arc<Segment>>,
    found: &[u64],
    has_manifest: bool,
) -> Result<bool> {
    let mut adopted = false;
    for ordinal in found {
        let next = segments.last().map(|last| last.entry);
        match open_segment(layout, identity, *ordinal, true)? {
            Some(segment) if follows(next, segment.entry) => {
                segments.push(Arc::new(segment));
                adopted = true;
            }
            _ if has_manifest => quarantine(layout, &layout.segment(*ordinal))?,
            _ => {
                let reason = "there is no valid manifest, and this segment does not continue \
                              the one before it";
                return Err(Error::corrupt(&layout.segment(*ordinal), 0, reason));
            }
        }
    }
    Ok(adopted)
}

fn follows(before: Option<SegmentEntry>, entry: SegmentEntry) -> bool {
    match before {
        None => entry.ordinal == 1 && entry.base == 0,
        Some(before) => {
            entry.ordinal == before.ordinal + 1 && entry.base == before.base + before.capacity
        }
    }
}

/// The ordinals of all files that are named as segments, ascending.
fn files(layout: &Layout) -> Result<Vec<u64>> {
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

/// The ordinals of what is named as a segment, ascending.
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

/// The ordinal in the name of a segment: ten digits, no other spelling.
fn ordinal_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".hot")?;
    let is_canonical = digits.len() == 10 && digits.bytes().all(|digit| digit.is_ascii_digit());
    if is_canonical {
        digits.parse().ok()
    } else {
        None
    }
}

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

/// Moves a segment aside; it is kept, and `verify` tells of it.
fn quarantine(layout: &Layout, from: &Path) -> Result<()> {
    let aside = layout.quarantine();
    layout.ensure_dir(&aside)?;
    let to = free_name(layout, &aside.join(from.file_name().unwrap_or_default()))?;
    layout
        .vfs
        .rename(from, &to)
        .map_err(|e| Error::io(from, "move aside", &e))?;
    layout.sync_parent(&to)?;
    layout.sync_parent(from)
}

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
