//! From a directory to a log that can be appended to.
//!
//! 1. `catalogue`: which segments there are, by the manifest and by the directory.
//! 2. `scan`: every frame in order, checked against everything a frame promises.
//! 3. `verdict`: at the first bad frame, is it a torn tail or damaged history?
//! 4. cut the torn tail, write the kept but not provably durable end again, sync.
//!
//! After a failed sync (POISONED says so) what is cached proves nothing, and what a second
//! sync says neither. The log is then cut at the end that was durable before, its files are
//! left as they are, and it goes on in a new segment.
//!
//! No step deletes a log file, and every step can be cut off by a crash and run again.

mod catalogue;
mod look;
mod scan;
mod verdict;

use std::io;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::index::{FrameEntry, MemoryIndex};
use crate::log::{
    Claims, FORMAT, Found, Holder, Identity, Layout, Manifest, Marker, SEGMENT_HEADER, Seal,
    Segment, fill_zeros,
};
use crate::vfs::{Entry, VfsFile as _, read_full, write_all_at};

use catalogue::Catalogue;
pub(crate) use catalogue::{open_listed, view};
pub(crate) use look::{Shown, look};
pub(crate) use scan::{FrameScanner, Scan, describe};

/// A recovered log.
#[derive(Debug)]
pub(crate) struct Recovered {
    /// On the segments that the log may go on in, still exclusive.
    pub(crate) claims: Claims,
    pub(crate) segments: Vec<Arc<Segment>>,
    pub(crate) manifest: Manifest,
    /// Whether the manifest on disk says so already.
    pub(crate) listed: bool,
    /// There is a POISONED file, to be removed once the log can go on.
    pub(crate) poisoned: bool,
    /// Where the log was cut, to go on in a new segment.
    pub(crate) seal: Option<Seal>,
    pub(crate) index: MemoryIndex,
    /// Address after the last frame.
    pub(crate) tail: u64,
    pub(crate) next_position: u64,
    pub(crate) chain: u64,
    pub(crate) last_commit_time: u64,
}

/// Finds the store's identity, or makes a new store where nothing is.
pub(crate) fn identify(layout: &Layout, create: bool) -> Result<Identity> {
    if let Some(identity) = Identity::read(layout)? {
        return Ok(identity);
    }
    let absent = "it has no IDENTITY file; leave out create=False to make a new store";
    let absent = (!create).then(|| absent.to_owned());
    if let Some(reason) = foreign(layout)?.or(absent) {
        return Err(Error::NotAStore {
            path: layout.root.clone(),
            reason,
        });
    }
    Identity::create(layout)
}

/// Names that file systems and desktops put into the root of a volume by themselves.
const VOLUMES_OWN: [&str; 5] = ["lost+found", ".snapshot", ".snapshots", ".zfs", ".DS_Store"];
/// How many names are listed in an error.
const LISTED: usize = 3;

/// What in the directory is neither from a creation that was cut off nor the volume's own.
fn foreign(layout: &Layout) -> Result<Option<String>> {
    let root = &layout.root;
    let names = layout
        .vfs
        .list(root)
        .map_err(|e| Error::io(root, "list", &e))?;
    let is_ours = |name: &str| name == "IDENTITY.tmp" || VOLUMES_OWN.contains(&name);
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
        "it is not empty (it holds {}{more}) and has no IDENTITY file of format {FORMAT}; \
         give an empty or a new directory, such as one in it",
        listed.join(", ")
    )))
}

/// Recovers the log of a store whose identity is known. The caller holds the store's lock.
pub(crate) fn recover(layout: &Layout, identity: &Identity) -> Result<Recovered> {
    layout.ensure_dir(&layout.log())?;
    layout.ensure_dir(&layout.locks())?;
    // Names that are there may be cached only, made by a process that died before it synced
    // them. Nothing is built on a name that a loss of power could take back.
    layout.sync_parent_if_allowed(&layout.root)?;
    layout.sync_dir(&layout.log())?;
    layout.sync_dir(&layout.root)?;
    let claims = Claims::alone(layout)?;
    let mut holder = Holder::begin(layout);
    let found = Marker::find(layout, identity.uuid)?;
    let Catalogue {
        mut segments,
        manifest,
        listed,
    } = catalogue::catalogue(layout, identity, found != Found::Absent)?;
    let marked = match &found {
        Found::Whole(marker) => Some(marker.durable),
        Found::Absent | Found::Unreadable => None,
    };
    let known = manifest.durable.max(marked.map_or(0, |seal| seal.address));
    if segments.is_empty() && known > 0 {
        let reason = "the log was durable once, and no segment of it is left";
        return Err(Error::corrupt(&layout.log(), 0, reason));
    }
    if marked.is_some() {
        for segment in &segments {
            segment.drop_cache();
        }
    }
    claims.own(identity, &mut segments)?;
    let mut scan = Scan::new(identity.seed(), identity.hasher());
    let end = segments
        .last()
        .map_or(0, |last| last.entry.base + last.filled());
    let mut report = |_: &Segment, frame: &FrameEntry| {
        holder.progress(frame.end(), end);
        Ok(())
    };
    scan.run_with(&segments, u64::MAX, &mut report)?;
    verdict::judge_tail(&segments, &scan, known, identity.seed())?;
    let proven = manifest.durable.max(scan.hint).max(scan.sealed);
    // A log that is known to have gone on after the marker was written has left it behind.
    let seal = marked.filter(|seal| seal.address >= proven);
    match seal {
        Some(seal) => scan = cut_at(seal, &segments, scan, identity)?,
        None => settle_tail(&segments, proven, scan.tail)?,
    }
    holder.end();
    Ok(Recovered {
        claims,
        segments,
        manifest,
        listed: listed && found == Found::Absent,
        poisoned: found != Found::Absent,
        seal,
        index: scan.index,
        tail: scan.tail,
        next_position: scan.next_position,
        chain: scan.chain,
        last_commit_time: scan.last_commit_time,
    })
}

/// The log as it was when it was last known to be durable, before a sync failed. Nothing of
/// its files is changed.
fn cut_at(seal: Seal, segments: &[Arc<Segment>], scan: Scan, identity: &Identity) -> Result<Scan> {
    let mut kept = scan;
    if kept.tail > seal.address {
        kept = Scan::new(identity.seed(), identity.hasher());
        kept.run(segments, seal.address)?;
    }
    if kept.tail == seal.address && kept.chain == seal.chain {
        return Ok(kept);
    }
    kept.stopped = "the log does not end there as it did when a sync failed";
    Err(kept.damage(segments, seal.address))
}

/// Cuts off a torn tail, and makes sure of what is kept.
fn settle_tail(segments: &[Arc<Segment>], proven: u64, tail: u64) -> Result<()> {
    cut(segments, tail)?;
    rewrite(segments, proven, tail)
}

/// Zeroes what stands after the tail, in the segment that holds it and in later ones.
fn cut(segments: &[Arc<Segment>], tail: u64) -> Result<()> {
    for segment in segments.iter().filter(|segment| segment.end() > tail) {
        let from = segment.offset(tail.max(segment.first_frame()));
        let end = last_non_zero(segment, from).map_err(|e| segment.error("read", &e))?;
        if end > from {
            fill_zeros(&segment.file, from, end).map_err(|e| segment.error("zero", &e))?;
            segment
                .file
                .sync_data()
                .map_err(|e| segment.error("sync", &e))?;
        }
    }
    Ok(())
}

/// The offset after the last byte at or beyond `from` that is not zero.
fn last_non_zero(segment: &Segment, from: u64) -> io::Result<u64> {
    let mut end = from;
    let mut buffer = vec![0; 1 << 20];
    let mut at = from;
    loop {
        let n = read_full(&segment.file, &mut buffer, at)?;
        let read = buffer.get(..n).unwrap_or_default();
        if let Some(i) = read.iter().rposition(|byte| *byte != 0) {
            end = at + i as u64 + 1;
        }
        if n < buffer.len() {
            return Ok(end);
        }
        at += n as u64;
    }
}

/// Writes the kept end of the log again with the same bytes: after a mere process crash its
/// pages may be cached and clean and yet not on the disk, the error swallowed by the dead.
fn rewrite(segments: &[Arc<Segment>], proven: u64, tail: u64) -> Result<()> {
    if proven >= tail {
        return Ok(());
    }
    let kept = |segment: &&Arc<Segment>| segment.entry.base < tail && segment.end() > proven;
    for segment in segments.iter().filter(kept) {
        let mut at = segment.offset(proven.max(segment.first_frame()));
        let end = segment
            .offset(tail.min(segment.end()))
            .min(segment.filled());
        let mut buffer = vec![0; 1 << 20];
        while at < end {
            let wanted = usize::try_from(end - at)
                .unwrap_or(usize::MAX)
                .min(buffer.len());
            let piece = buffer.get_mut(..wanted).unwrap_or_default();
            let n = read_full(&segment.file, piece, at).map_err(|e| segment.error("read", &e))?;
            let read = piece.get(..n).unwrap_or_default();
            write_all_at(&segment.file, &[io::IoSlice::new(read)], at)
                .map_err(|e| segment.error("write", &e))?;
            if n < wanted {
                break;
            }
            at += n as u64;
        }
        segment
            .file
            .sync_data()
            .map_err(|e| segment.error("sync", &e))?;
    }
    Ok(())
}

/// Whether a path is a directory; `None` when nothing is there.
pub(crate) fn directory(layout: &Layout) -> Result<bool> {
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

const _: () = assert!(SEGMENT_HEADER.is_multiple_of(8));
