//! All segments of a log: which one holds an address, and how the next one comes to be.

use std::io::IoSlice;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::lock::{Mutex, RwLock};

use super::claims::Claims;
use super::identity::Identity;
use super::layout::Layout;
use super::maintenance::Maintenance;
use super::manifest::Manifest;
use super::open_segment::open_listed;
use super::segment::{Segment, fill_zeros};
use super::segment_header::{SEGMENT_HEADER, Seal, SegmentEntry, SegmentHeader};
use crate::error::{Error, Result};
use crate::options::{Mode, Options};
use crate::vfs::{Entry, OpenMode, VfsFile, write_all_at};

/// How often a manifest is read again that is being replaced.
const RELOADS: u32 = 200;
/// Bytes of the reserve: one step of filling ahead.
const BALLAST: u64 = 4 << 20;
/// Smaller segments are those of tests and of small stores.
const LEAST_WITH_BALLAST: u64 = 16 << 20;

/// The log's files.
#[derive(Debug)]
pub(crate) struct Segments {
    pub(crate) layout: Layout,
    pub(crate) identity: Identity,
    options: Options,
    maintenance: Arc<dyn Maintenance>,
    claims: Claims,
    open: RwLock<Vec<Arc<Segment>>>,
    manifest: Mutex<Manifest>,
}

impl Segments {
    pub(crate) fn new(
        layout: Layout,
        identity: Identity,
        options: Options,
        maintenance: Arc<dyn Maintenance>,
        claims: Claims,
        (open, manifest): (Vec<Arc<Segment>>, Manifest),
    ) -> Self {
        let (open, manifest) = (RwLock::new(open), Mutex::new(manifest));
        Self {
            layout,
            identity,
            options,
            maintenance,
            claims,
            open,
            manifest,
        }
    }

    /// Lets further sessions of the same store directory write to the log's files.
    pub(crate) fn share(&self) -> Result<()> {
        self.claims.share()
    }

    /// Frees the locks on the files of the log. The caller writes nothing more.
    pub(crate) fn release(&self) {
        self.claims.release();
    }

    /// The generation of the manifest that this process knows.
    pub(crate) fn generation(&self) -> u64 {
        self.manifest.lock().generation
    }

    /// Opens the segments that other sessions have made, up to one that they have published.
    pub(crate) fn refresh(&self, ordinal: u64) -> Result<Arc<Segment>> {
        self.reload(&mut self.manifest.lock(), Some(ordinal))?;
        self.of_ordinal(ordinal).ok_or_else(|| {
            self.maintenance
                .contradiction("it names a segment that the manifest does not list")
        })
    }

    /// Reads the manifest again if other sessions may have made a newer one. The caller holds
    /// the maintenance lock, so no session is making one now.
    ///
    /// A manifest whose generation is not published is that of a process which died before it
    /// could publish: what it names is there, but may be gone after a loss of power.
    fn reload_shared(&self, manifest: &mut Manifest) -> Result<()> {
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

    /// Reads the manifest again, until it lists a segment: CURRENT may name one that is being
    /// replaced in this moment.
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

    fn open_new(&self, live: &Manifest) -> Result<()> {
        for entry in &live.segments {
            if self.of_ordinal(entry.ordinal).is_none() {
                let is_writable = !self.is_read_only();
                let segment = open_listed(&self.layout, &self.identity, *entry, is_writable)?;
                self.claims.add(entry.ordinal, &segment.path)?;
                let mut open = self.open.write();
                // Another thread may have been faster.
                if open
                    .iter()
                    .all(|known| known.entry.ordinal != entry.ordinal)
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

    /// The segments after one of this ordinal, also those that only other processes know of.
    pub(crate) fn after(&self, ordinal: u64) -> Result<Vec<Arc<Segment>>> {
        let last = self.open.read().last().map_or(0, |last| last.entry.ordinal);
        let next = self.layout.segment(last + 1);
        let entry = self.layout.vfs.entry(&next);
        if entry
            .map_err(|e| Error::io(&next, "look up", &e))?
            .is_some()
        {
            // What no manifest lists yet has no frames.
            self.reload(&mut self.manifest.lock(), None)?;
        }
        let open = self.open.read();
        let later = open
            .iter()
            .filter(|segment| segment.entry.ordinal > ordinal);
        Ok(later.cloned().collect())
    }

    /// The segment in which the log goes on at `tail`: of two that meet there, the one whose
    /// end it is.
    pub(crate) fn of_tail(&self, tail: u64) -> Option<Arc<Segment>> {
        self.open
            .read()
            .iter()
            .rfind(|segment| segment.first_frame() <= tail)
            .cloned()
    }

    /// The segment that holds an address.
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

    /// A later segment with room for a frame of `length` bytes: the one prepared, or a new
    /// one, durably listed before its first frame is written. A prepared one that is too
    /// small stays empty; a segment file is never replaced.
    pub(crate) fn prepare_after(&self, segment: &Segment, length: u64) -> Result<Arc<Segment>> {
        let _guard = self.maintenance.acquire()?;
        let mut manifest = self.manifest.lock();
        self.refuse_if_unsure()?;
        self.reload_shared(&mut manifest)?;
        let needed = (SEGMENT_HEADER + length.max(1)).next_multiple_of(SEGMENT_HEADER);
        let mut last = segment.entry;
        while let Some(next) = self.of_ordinal(last.ordinal + 1) {
            if next.entry.capacity >= needed {
                return Ok(next);
            }
            last = next.entry;
        }
        let next = Arc::new(self.create(self.entry_after(Some(last), needed), None)?);
        self.list(&mut manifest, Arc::clone(&next))?;
        Ok(next)
    }

    fn refuse_if_unsure(&self) -> Result<()> {
        if !self.layout.is_unsure() {
            return Ok(());
        }
        let reason = "a rename or the sync of a directory failed".to_owned();
        Err(Error::Poisoned { reason })
    }

    /// Makes the first segment of a new log.
    pub(crate) fn create_first(&self) -> Result<Arc<Segment>> {
        let mut manifest = self.manifest.lock();
        let first = Arc::new(self.create(self.entry_after(None, 2 * SEGMENT_HEADER), None)?);
        self.list(&mut manifest, Arc::clone(&first))?;
        Ok(first)
    }

    /// Makes the segment in which the log goes on after a failed sync, and lists it. All
    /// before it is as durable as the seal says, and no earlier file is written again.
    pub(crate) fn create_sealing(&self, seal: Seal) -> Result<Arc<Segment>> {
        let mut manifest = self.manifest.lock();
        let last = manifest.segments.last().copied();
        let entry = self.entry_after(last, 2 * SEGMENT_HEADER);
        let sealing = Arc::new(self.create(entry, Some(seal))?);
        (manifest.durable, manifest.chain) = (sealing.first_frame(), seal.chain);
        self.list(&mut manifest, Arc::clone(&sealing))?;
        Ok(sealing)
    }

    /// Each segment is twice as large as the one before, up to the configured size.
    fn entry_after(&self, before: Option<SegmentEntry>, needed: u64) -> SegmentEntry {
        let Options {
            first_segment,
            max_segment,
            ..
        } = self.options;
        let (ordinal, base, usual) = match before {
            None => (1, 0, first_segment),
            Some(before) => (
                before.ordinal + 1,
                before.base + before.capacity,
                before.capacity.saturating_mul(2).min(max_segment),
            ),
        };
        SegmentEntry {
            ordinal,
            base,
            capacity: usual.max(needed),
        }
    }

    fn create(&self, entry: SegmentEntry, continues_from: Option<Seal>) -> Result<Segment> {
        let path = self.layout.segment(entry.ordinal);
        let header = SegmentHeader {
            store: self.identity.uuid,
            entry,
            continues_from,
        };
        let bytes = header.encode();
        let filled = if self.options.zero_fill {
            fill_step(entry.capacity).max(SEGMENT_HEADER)
        } else {
            SEGMENT_HEADER
        };
        let write = |file: &dyn VfsFile| {
            write_all_at(file, &[IoSlice::new(&bytes)], 0)?;
            fill_zeros(file, SEGMENT_HEADER, filled)
        };
        let claim = |beside: &Path| self.claims.add_new(entry.ordinal, beside);
        self.layout.place(&path, write, claim)?;
        let opened = self.layout.files.open(&path, OpenMode::Read);
        let opened = opened.map_err(|e| Error::io(&path, "open", &e))?;
        let segment = Segment::of(&self.layout, &header, true, opened)?;
        // Where no descriptor is left the segment is made, and opened by the append that needs
        // it.
        let _opened = segment.activate();
        Ok(segment)
    }

    /// Closes the segments before one, as far as they were open to be written to.
    pub(crate) fn release_before(&self, segment: &Segment) {
        let open = self.open.read();
        let before = |known: &&Arc<Segment>| known.entry.ordinal < segment.entry.ordinal;
        open.iter().filter(before).for_each(|known| known.release());
    }

    pub(crate) fn is_read_only(&self) -> bool {
        self.options.read_only
    }

    pub(crate) fn zero_fill(&self) -> bool {
        self.options.zero_fill
    }

    fn list(&self, manifest: &mut Manifest, segment: Arc<Segment>) -> Result<()> {
        let mut next = manifest.clone();
        next.generation += 1;
        next.segments.push(segment.entry);
        next.publish(&self.layout)?;
        self.maintenance.publish_generation(next.generation);
        *manifest = next;
        self.open.write().push(segment);
        Ok(())
    }

    /// Keeps a reserve for the small files that must be written even when the disk is full, in
    /// stores that have come to full-size segments.
    pub(crate) fn keep_ballast(&self) {
        let Ok(_guard) = self.maintenance.acquire() else {
            return;
        };
        let full_size = self.options.max_segment.max(LEAST_WITH_BALLAST);
        let is_grown = |last: &Arc<Segment>| last.entry.capacity >= full_size;
        let layout = &self.layout;
        if layout.ballasted.load(Ordering::SeqCst) || !self.open.read().last().is_some_and(is_grown)
        {
            return;
        }
        let path = layout.ballast();
        if !matches!(layout.vfs.entry(&path), Ok(Some(Entry::File(BALLAST))))
            && make_ballast(layout).is_err()
        {
            // No store needs it before the disk is full. Half of it helps nobody.
            let _removed = layout.remove_if_there(&path);
            return;
        }
        layout.ballasted.store(true, Ordering::SeqCst);
    }

    /// Records in a new manifest that everything below `durable` is durable.
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

    /// Holds IDENTITY, CURRENT, the manifest and the headers on the disk against what the
    /// store was opened with and has made since.
    pub(crate) fn verify_files(&self) -> Result<()> {
        let layout = &self.layout;
        if Identity::read(layout)? != Some(self.identity) {
            let reason = "it is not the identity that the store was opened with";
            return Err(Error::corrupt(&layout.identity(), 0, reason));
        }
        self.verify_manifest()?;
        for segment in self.all() {
            if !segment.has_its_header(self.identity.uuid)? {
                let reason = "its header is not the one it was given";
                return Err(Error::corrupt(&segment.path, 0, reason));
            }
        }
        Ok(())
    }

    fn verify_manifest(&self) -> Result<()> {
        if self.is_left_to_others() {
            return self.verify_successor();
        }
        let _guard = self.maintenance.acquire()?;
        let mut manifest = self.manifest.lock();
        self.reload_shared(&mut manifest)?;
        // Of a rename that failed it isn't known which manifest is the live one.
        if self.layout.is_unsure() || Manifest::live(&self.layout)?.as_ref() == Some(&*manifest) {
            return Ok(());
        }
        let reason = "it does not name the manifest that the log has; \
                      the next opening to write makes a new one";
        Err(Error::corrupt(&self.layout.current(), 0, reason))
    }

    /// Whether others may have the store, and change it, without this opening.
    fn is_left_to_others(&self) -> bool {
        self.is_read_only() && self.options.mode == Mode::Shared && !self.maintenance.is_joinable()
    }

    /// Holds the live manifest, which others may have made since, against the one that this
    /// opening was shown: the log goes on in further segments, and no listed one ever leaves it.
    fn verify_successor(&self) -> Result<()> {
        let shown = self.manifest.lock().clone();
        for _ in 0..RELOADS {
            match Manifest::live(&self.layout)? {
                Some(live) if live.segments.starts_with(&shown.segments) => return Ok(()),
                Some(_) => break,
                // Being replaced in this moment, perhaps.
                None => self.layout.vfs.pause(Duration::from_millis(1)),
            }
        }
        let reason = "it names no manifest that lists the segments of the log";
        Err(Error::corrupt(&self.layout.current(), 0, reason))
    }

    /// How many files were set aside.
    pub(crate) fn quarantined(&self) -> Result<u64> {
        let aside = self.layout.quarantine();
        match self.layout.vfs.list(&aside) {
            Ok(names) => Ok(names.len() as u64),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(0),
            Err(e) => Err(Error::io(&aside, "list", &e)),
        }
    }

    /// Publishes the manifest as recovery found the log, if that differs.
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

fn make_ballast(layout: &Layout) -> Result<()> {
    let path = layout.ballast();
    layout.check_attached(&layout.root)?;
    layout.remove_if_there(&path)?;
    let file = layout.vfs.open(&path, OpenMode::CreateNew);
    file.and_then(|file| fill_zeros(&*file, 0, BALLAST))
        .map_err(|e| Error::io(&path, "zero-fill", &e))
}

/// For each segment the address up to which it holds the log: its end, or where a later
/// segment goes on from, which may lie before its first frame.
pub(crate) fn limits(segments: &[Arc<Segment>]) -> Vec<u64> {
    let mut limit = u64::MAX;
    let mut limits: Vec<u64> = segments
        .iter()
        .rev()
        .map(|segment| {
            let own = segment.end().min(limit);
            limit = segment
                .continues_from
                .map_or(limit, |seal| limit.min(seal.address));
            own
        })
        .collect();
    limits.reverse();
    limits
}

/// Bytes of log below an address: what was cut off before a sealing segment isn't counted.
pub(crate) fn bytes_below(segments: &[Arc<Segment>], address: u64) -> u64 {
    let void = |segment: &Arc<Segment>| {
        let seal = segment.continues_from?;
        (segment.entry.base < address).then(|| segment.entry.base - seal.address)
    };
    address.saturating_sub(segments.iter().filter_map(void).sum())
}

/// By how much zeros are written ahead of the tail at a time; less in small segments.
pub(crate) fn fill_step(capacity: u64) -> u64 {
    (capacity / 4).clamp(256 << 10, 4 << 20).min(capacity)
}
