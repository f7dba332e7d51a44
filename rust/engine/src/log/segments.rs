//! All segments of a log: which one holds an address, and how the next one comes to be.

use std::io::IoSlice;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};

use super::files::Layout;
use super::identity::Identity;
use super::manifest::{Manifest, SegmentEntry};
use super::segment::{SEGMENT_HEADER, Segment, SegmentHeader, fill_zeros};
use crate::error::{Error, Result};
use crate::store::Options;
use crate::vfs::{OpenMode, write_all_at};

/// The log's files.
#[derive(Debug)]
pub(crate) struct Segments {
    pub(crate) layout: Layout,
    pub(crate) identity: Identity,
    options: Options,
    open: RwLock<Vec<Arc<Segment>>>,
    manifest: Mutex<Manifest>,
}

impl Segments {
    pub(crate) fn new(
        layout: Layout,
        identity: Identity,
        options: Options,
        open: Vec<Arc<Segment>>,
        manifest: Manifest,
    ) -> Self {
        let (open, manifest) = (RwLock::new(open), Mutex::new(manifest));
        Self {
            layout,
            identity,
            options,
            open,
            manifest,
        }
    }

    pub(crate) fn all(&self) -> Vec<Arc<Segment>> {
        self.open.read().clone()
    }

    /// The segment that holds an address.
    pub(crate) fn of_address(&self, address: u64) -> Option<Arc<Segment>> {
        let open = self.open.read();
        let i = open
            .partition_point(|segment| segment.entry.base <= address)
            .checked_sub(1)?;
        open.get(i).cloned()
    }

    /// The segment after this one, if it was made.
    pub(crate) fn after(&self, segment: &Segment) -> Option<Arc<Segment>> {
        let open = self.open.read();
        open.iter()
            .find(|next| next.entry.ordinal == segment.entry.ordinal + 1)
            .cloned()
    }

    /// The segment after this one, with room for a frame of `length` bytes: the one prepared,
    /// or a new one, durably listed before its first frame is written.
    pub(crate) fn prepare_after(&self, segment: &Segment, length: u64) -> Result<Arc<Segment>> {
        let mut manifest = self.manifest.lock();
        let needed = (SEGMENT_HEADER + length).next_multiple_of(SEGMENT_HEADER);
        if let Some(next) = self.after(segment) {
            if next.entry.capacity >= needed {
                return Ok(next);
            }
            return self.enlarge(&mut manifest, &next, needed);
        }
        let entry = self.entry_after(Some(segment.entry), needed);
        let next = Arc::new(self.create(entry)?);
        self.list(&mut manifest, Arc::clone(&next))?;
        Ok(next)
    }

    /// Makes the first segment of a new log.
    pub(crate) fn create_first(&self) -> Result<Arc<Segment>> {
        let mut manifest = self.manifest.lock();
        let first = Arc::new(self.create(self.entry_after(None, SEGMENT_HEADER))?);
        self.list(&mut manifest, Arc::clone(&first))?;
        Ok(first)
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

    fn create(&self, entry: SegmentEntry) -> Result<Segment> {
        let path = self.layout.segment(entry.ordinal);
        let header = SegmentHeader {
            store: self.identity.uuid,
            entry,
        }
        .encode();
        let filled = if self.options.zero_fill {
            fill_step(entry.capacity).max(SEGMENT_HEADER)
        } else {
            SEGMENT_HEADER
        };
        self.layout.place(&path, |file| {
            write_all_at(file, &[IoSlice::new(&header)], 0)?;
            fill_zeros(file, SEGMENT_HEADER, filled)
        })?;
        let open = self.layout.vfs.open(&path, OpenMode::ReadWrite);
        let file = open.map_err(|e| Error::io(&path, "open", &e))?;
        Segment::new(path, file, entry)
    }

    pub(crate) fn zero_fill(&self) -> bool {
        self.options.zero_fill
    }

    fn list(&self, manifest: &mut Manifest, segment: Arc<Segment>) -> Result<()> {
        let mut next = manifest.clone();
        next.generation += 1;
        next.segments.push(segment.entry);
        next.publish(&self.layout)?;
        *manifest = next;
        self.open.write().push(segment);
        Ok(())
    }

    /// A prepared segment that holds no frame yet is made anew, larger.
    fn enlarge(
        &self,
        manifest: &mut Manifest,
        small: &Arc<Segment>,
        needed: u64,
    ) -> Result<Arc<Segment>> {
        let entry = SegmentEntry {
            capacity: needed,
            ..small.entry
        };
        let large = Arc::new(self.create(entry)?);
        let replace = |entries: &mut Vec<SegmentEntry>| {
            entries.retain(|known| known.ordinal != entry.ordinal);
            entries.push(entry);
        };
        let mut next = manifest.clone();
        next.generation += 1;
        replace(&mut next.segments);
        next.publish(&self.layout)?;
        *manifest = next;
        let mut open = self.open.write();
        open.retain(|known| known.entry.ordinal != entry.ordinal);
        open.push(Arc::clone(&large));
        Ok(large)
    }

    /// Records in a new manifest that everything below `durable` is durable.
    pub(crate) fn record_durable(&self, durable: u64, chain: u64) -> Result<()> {
        let mut manifest = self.manifest.lock();
        if manifest.durable == durable {
            return Ok(());
        }
        let mut next = manifest.clone();
        next.generation += 1;
        (next.durable, next.chain) = (durable, chain);
        next.publish(&self.layout)?;
        *manifest = next;
        Ok(())
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

/// By how much zeros are written ahead of the tail at a time; less in small segments.
pub(crate) fn fill_step(capacity: u64) -> u64 {
    (capacity / 4).clamp(256 << 10, 4 << 20).min(capacity)
}
