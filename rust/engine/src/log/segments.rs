//! All segments of an open log, and the manifest that lists them.
//!
//! Sessions that share a store add segments independently. Each keeps its own list, and reads the
//! manifest again when the shared page names a segment or a generation that it doesn't have.
//! Every change of the manifest happens under the maintenance lock, which is common to all
//! sessions.

use std::sync::Arc;
use std::time::Duration;

use crate::mutex::{Mutex, RwLock};

use super::directory_layout::Layout;
use super::identity::Identity;
use super::maintenance_lock::Maintenance;
use super::manifest::Manifest;
use super::open_segment::open_listed;
use super::segment::Segment;
use super::segment_locks::SegmentLocks;
use crate::error::{Error, Result};
use crate::options::Options;

/// The maximum number of times that a manifest is read again while another session replaces it, at
/// intervals of a millisecond.
pub(super) const RELOADS: u32 = 200;

/// The segments and the manifest of an open log.
#[derive(Debug)]
pub(crate) struct Segments {
    pub(crate) layout: Layout,
    pub(crate) identity: Identity,
    pub(super) options: Options,
    /// Serialises changes of the manifest among all threads of all sessions. Acquired before
    /// `manifest`, which is acquired before `open`.
    pub(super) maintenance: Arc<dyn Maintenance>,
    pub(super) segment_locks: SegmentLocks,
    /// The segments in order. Readers look up an address in this list for every chunk that they
    /// load. So the write lock is held only for a moment, to add a segment, and no file is opened
    /// under it.
    pub(super) open: RwLock<Vec<Arc<Segment>>>,
    /// The manifest as this session has read or published it last. Locked during the whole of a
    /// publication, so that two threads never publish the same generation.
    pub(super) manifest: Mutex<Manifest>,
}

impl Segments {
    pub(crate) fn new(
        layout: Layout,
        identity: Identity,
        options: Options,
        maintenance: Arc<dyn Maintenance>,
        segment_locks: SegmentLocks,
        (open, manifest): (Vec<Arc<Segment>>, Manifest),
    ) -> Self {
        let (open, manifest) = (RwLock::new(open), Mutex::new(manifest));
        Self {
            layout,
            identity,
            options,
            maintenance,
            segment_locks,
            open,
            manifest,
        }
    }

    /// Let further sessions of the same store directory write to the segments.
    pub(crate) fn share(&self) -> Result<()> {
        self.segment_locks.share()
    }

    /// Release the locks on the segments. The caller must not write any more.
    pub(crate) fn release(&self) {
        self.segment_locks.release();
    }

    /// The generation of the manifest that this session has read or published last.
    pub(crate) fn generation(&self) -> u64 {
        self.manifest.lock().generation
    }

    /// Open the segments that other sessions have created, at least up to this ordinal, and return
    /// that segment.
    pub(crate) fn refresh(&self, ordinal: u64) -> Result<Arc<Segment>> {
        self.reload(&mut self.manifest.lock(), Some(ordinal))?;
        self.of_ordinal(ordinal).ok_or_else(|| {
            self.maintenance
                .contradiction("it records a segment that the manifest does not list")
        })
    }

    /// Read the manifest again if other sessions may have published a newer one. The caller holds
    /// the maintenance lock, so no session is writing one now.
    ///
    /// If the manifest's generation is not the one in the shared page, a process died after it had
    /// renamed the files and before it published the generation. That process may not have synced
    /// the directories, so a loss of power could remove the names. This session syncs the
    /// directories before it relies on the names.
    pub(super) fn reload_shared(&self, manifest: &mut Manifest) -> Result<()> {
        if self.maintenance.shared_generation().is_none() {
            return Ok(());
        }
        self.reload(manifest, None)?;
        if self.maintenance.shared_generation() == Some(manifest.generation) || self.is_read_only()
        {
            return Ok(());
        }
        self.layout.sync_dir(&self.layout.log())?;
        self.layout.sync_dir(&self.layout.root)?;
        self.maintenance.publish_generation(manifest.generation);
        Ok(())
    }

    /// Read the manifest until it is valid and lists the `wanted` segment: CURRENT may name a
    /// manifest that another session is replacing at this moment.
    fn reload(&self, manifest: &mut Manifest, wanted: Option<u64>) -> Result<()> {
        let lists = |manifest: &Manifest, ordinal| {
            let mut listed = manifest.segments.iter();
            listed.any(|entry| entry.ordinal == ordinal)
        };
        for _ in 0..RELOADS {
            match Manifest::live(&self.layout)? {
                Some(live) if wanted.is_none_or(|ordinal| lists(&live, ordinal)) => {
                    self.open_new(&live)?;
                    *manifest = live;
                    return Ok(());
                }
                _ => self.layout.vfs.pause(Duration::from_millis(1)),
            }
        }
        let reason = "it names no manifest that lists the segments of the log";
        Err(Error::corrupt(&self.layout.current(), 0, reason))
    }

    /// Open the segments of `live` that this session doesn't have yet.
    fn open_new(&self, live: &Manifest) -> Result<()> {
        for entry in &live.segments {
            if self.of_ordinal(entry.ordinal).is_none() {
                let is_writable = !self.is_read_only();
                let segment = open_listed(&self.layout, &self.identity, *entry, is_writable)?;
                self.segment_locks.add(entry.ordinal, &segment.path)?;
                let mut open = self.open.write();
                // Another thread may have added it meanwhile.
                if open
                    .iter()
                    .all(|other| other.entry.ordinal != entry.ordinal)
                {
                    open.push(Arc::new(segment));
                }
            }
        }
        Ok(())
    }

    pub(crate) fn all(&self) -> Vec<Arc<Segment>> {
        self.open.read().clone()
    }

    /// The segments after this ordinal, including new ones of other sessions.
    pub(crate) fn after(&self, ordinal: u64) -> Result<Vec<Arc<Segment>>> {
        let last = self.open.read().last().map_or(0, |last| last.entry.ordinal);
        let next = self.layout.segment(last + 1);
        let entry = self.layout.vfs.entry(&next);
        if entry
            .map_err(|e| Error::io(&next, "look up", &e))?
            .is_some()
        {
            // If no manifest lists the next segment yet, it has no frames and is not needed.
            self.reload(&mut self.manifest.lock(), None)?;
        }
        let open = self.open.read();
        let later = open
            .iter()
            .filter(|segment| segment.entry.ordinal > ordinal);
        Ok(later.cloned().collect())
    }

    /// The segment in which the log ends, when its end is `tail`. Frames begin after a segment's
    /// header, so if `tail` is the end of one segment and the start of the next, this is the first
    /// of the two. The log continues in the second one only with its first frame.
    pub(crate) fn of_tail(&self, tail: u64) -> Option<Arc<Segment>> {
        self.open
            .read()
            .iter()
            .rfind(|segment| segment.first_frame() <= tail)
            .cloned()
    }

    /// The segment that contains an address.
    pub(crate) fn of_address(&self, address: u64) -> Option<Arc<Segment>> {
        let open = self.open.read();
        let i = open
            .partition_point(|segment| segment.entry.base <= address)
            .checked_sub(1)?;
        open.get(i).cloned()
    }

    pub(crate) fn of_ordinal(&self, ordinal: u64) -> Option<Arc<Segment>> {
        self.open
            .read()
            .iter()
            .find(|segment| segment.entry.ordinal == ordinal)
            .cloned()
    }

    pub(super) fn refuse_if_unsure(&self) -> Result<()> {
        if !self.layout.is_unsure() {
            return Ok(());
        }
        let reason = "a rename or the sync of a directory failed".to_owned();
        Err(Error::Poisoned { reason })
    }

    /// Close the descriptors for writing of all segments before `segment`.
    pub(crate) fn release_before(&self, segment: &Segment) {
        let open = self.open.read();
        let before = |other: &&Arc<Segment>| other.entry.ordinal < segment.entry.ordinal;
        open.iter().filter(before).for_each(|other| other.release());
    }

    pub(crate) fn is_read_only(&self) -> bool {
        self.options.read_only
    }

    pub(crate) fn zero_fill(&self) -> bool {
        self.options.zero_fill
    }

    /// Record in a new manifest that everything below `durable` is durable.
    pub(crate) fn record_durable(&self, durable: u64, chain: u64) -> Result<()> {
        let _guard = self.maintenance.acquire()?;
        let mut manifest = self.manifest.lock();
        self.reload_shared(&mut manifest)?;
        if manifest.durable == durable {
            return Ok(());
        }
        self.refuse_if_unsure()?;
        let mut next = manifest.clone();
        next.generation += 1;
        (next.durable, next.chain) = (durable, chain);
        next.publish(&self.layout)?;
        self.maintenance.publish_generation(next.generation);
        *manifest = next;
        Ok(())
    }

    /// Publish the manifest of a recovered log, unless the one on the disk has the same content
    /// (`listed`).
    pub(crate) fn settle(&self, listed: bool) -> Result<()> {
        if listed {
            return Ok(());
        }
        let mut manifest = self.manifest.lock();
        let mut next = manifest.clone();
        next.generation += 1;
        next.publish(&self.layout)?;
        *manifest = next;
        Ok(())
    }
}

/// For each segment, the address at which its part of the log ends: the segment's end, or the cut
/// that a later segment continues from. The cut may be before the segment's first frame.
pub(crate) fn limits(segments: &[Arc<Segment>]) -> Vec<u64> {
    let mut limit = u64::MAX;
    let mut limits: Vec<u64> = segments
        .iter()
        .rev()
        .map(|segment| {
            let own = segment.end().min(limit);
            limit = segment
                .continues_from
                .map_or(limit, |cut| limit.min(cut.address));
            own
        })
        .collect();
    limits.reverse();
    limits
}

/// The number of bytes of log below an address, without those that were cut off before a
/// continuation segment.
pub(crate) fn bytes_below(segments: &[Arc<Segment>], address: u64) -> u64 {
    let cut_off = |segment: &Arc<Segment>| {
        let cut = segment.continues_from?;
        (segment.entry.base < address).then(|| segment.entry.base - cut.address)
    };
    address.saturating_sub(segments.iter().filter_map(cut_off).sum())
}
