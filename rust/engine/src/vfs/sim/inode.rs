//! One file of the simulation: its content as programs see it, and as the disk has it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::IoSlice;

use crate::mutex::{Mutex, RwLock};

use super::content::{Content, SECTOR, Sector};
use super::page_waiters::PageWaiters;
use super::power_cut::PowerCut;

/// The unit in which a disk allocates room, in bytes.
pub(super) const BLOCK: u64 = 4096;
/// Bytes of a word of memory.
const WORD: u64 = 8;

/// A file, independent of its name. If both are needed, `live` is locked before `disk`.
#[derive(Debug)]
pub(super) struct Inode {
    pub(super) id: u64,
    /// The content as programs see it: the page cache.
    live: RwLock<Content>,
    /// The content as the disk has it. It always belongs to the same moment as `live`, because in a
    /// tracked file system every call holds the lock on the machine's state.
    disk: Mutex<DiskImage>,
    /// The numbers of the blocks that were ever written, even with zeros.
    allocated: Mutex<BTreeSet<u64>>,
    waiters: PageWaiters,
}

impl Inode {
    pub(super) fn new(id: u64) -> Self {
        Self::of(id, Content::default(), DiskImage::default())
    }

    /// A file whose whole content is durable.
    pub(super) fn durable(id: u64, content: Content) -> Self {
        let disk = DiskImage {
            content: content.clone(),
            ..DiskImage::default()
        };
        Self::of(id, content, disk)
    }

    fn of(id: u64, live: Content, disk: DiskImage) -> Self {
        Self {
            id,
            live: RwLock::new(live),
            disk: Mutex::new(disk),
            allocated: Mutex::default(),
            waiters: PageWaiters::default(),
        }
    }

    pub(super) fn blocks(&self) -> u64 {
        self.allocated.lock().len() as u64
    }

    /// Allocate the blocks for a write of `len` bytes, as far as there are free ones. Return the
    /// number of bytes for which there is room.
    pub(super) fn allocate(&self, offset: u64, len: usize, mut free: u64) -> usize {
        let mut allocated = self.allocated.lock();
        let end = offset + len as u64;
        for block in offset / BLOCK..end.div_ceil(BLOCK) {
            if allocated.contains(&block) {
                continue;
            }
            if free == 0 {
                let room = (block * BLOCK).saturating_sub(offset);
                return usize::try_from(room).unwrap_or(len).min(len);
            }
            free -= 1;
            allocated.insert(block);
        }
        len
    }

    fn with_blocks_of(self, other: &Self) -> Self {
        self.allocated.lock().clone_from(&other.allocated.lock());
        self
    }

    pub(super) fn read(&self, buf: &mut [u8], offset: u64) -> usize {
        self.live.read().read(buf, offset)
    }

    pub(super) fn size(&self) -> u64 {
        self.live.read().len()
    }

    pub(super) fn content(&self) -> Content {
        self.live.read().clone()
    }

    /// Write in an untracked file system, where nothing becomes durable.
    pub(super) fn write(&self, bufs: &[IoSlice<'_>], offset: u64) -> usize {
        write(&mut self.live.write(), bufs, offset, usize::MAX)
    }

    /// Write the first `allowed` bytes of `bufs` and record that they are not synced.
    pub(super) fn write_unsynced(
        &self,
        bufs: &[IoSlice<'_>],
        offset: u64,
        allowed: usize,
    ) -> usize {
        let mut live = self.live.write();
        let written = write(&mut live, bufs, offset, allowed);
        self.disk.lock().note(&live, offset, written);
        written
    }

    /// Record that processes have mapped the file as memory.
    pub(super) fn map(&self) {
        self.disk.lock().is_mapped = true;
    }

    /// A word of memory; 0 past the end.
    pub(super) fn word(&self, word: usize) -> u64 {
        word_of(&self.live.read(), word).unwrap_or_default()
    }

    /// Set a word of memory to the result of `change`, if it returns one. Return the previous
    /// value.
    pub(super) fn change_word(&self, word: usize, change: impl FnOnce(u64) -> Option<u64>) -> u64 {
        let mut live = self.live.write();
        let Some(was) = word_of(&live, word) else {
            return 0;
        };
        if let Some(value) = change(was) {
            live.write(&value.to_le_bytes(), word as u64 * WORD);
        }
        was
    }

    pub(super) fn waiters(&self) -> &PageWaiters {
        &self.waiters
    }

    pub(super) fn sync(&self) {
        let size = self.size();
        self.disk.lock().sync(size);
    }

    /// Mark everything as clean without writing it, as Linux does after a failed sync. The disk
    /// never gets these bytes, and no later sync reports the loss.
    pub(super) fn lose_unsynced(&self) {
        let mut disk = self.disk.lock();
        let lost = std::mem::take(&mut disk.unsynced);
        disk.lost.extend(lost.into_keys());
    }

    /// Where writes were lost, replace the content that programs see by the content of the disk.
    pub(super) fn drop_cache(&self, offset: u64, len: u64) {
        let mut live = self.live.write();
        let mut disk = self.disk.lock();
        let sector = SECTOR as u64;
        let dropped = offset / sector..offset.saturating_add(len).div_ceil(sector);
        let lost: Vec<u64> = disk.lost.range(dropped).copied().collect();
        for number in lost {
            disk.lost.remove(&number);
            let left = live.len().saturating_sub(number * sector);
            let image = disk.content.sector(number);
            let visible = image.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            live.write(image.split_at(visible).0, number * sector);
        }
    }

    pub(super) fn unsynced_units(&self) -> usize {
        let size = self.size();
        let disk = self.disk.lock();
        disk.unsynced.len() + usize::from(disk.content.len() != size)
    }

    pub(super) fn after_power_cut(&self, power_cut: &mut PowerCut) -> Self {
        let live = self.live.read();
        let content = self.disk.lock().after_power_cut(&live, power_cut);
        Self::durable(self.id, content).with_blocks_of(self)
    }

    pub(super) fn copy(&self) -> Self {
        let live = self.live.read();
        Self::of(self.id, live.clone(), self.disk.lock().clone()).with_blocks_of(self)
    }

    /// Change the file both in memory and on the disk, as damage or another program would.
    pub(super) fn tamper(&self, change: impl Fn(&mut Content)) {
        let mut live = self.live.write();
        let mut disk = self.disk.lock();
        change(&mut live);
        change(&mut disk.content);
        for (number, versions) in &mut disk.unsynced {
            *versions = vec![live.sector(*number)];
        }
    }
}

/// What the disk certainly has, and what it may have.
#[derive(Clone, Debug, Default)]
struct DiskImage {
    content: Content,
    /// By sector number: all contents that the sector had since it was last synced. The disk may
    /// have any of them, because the kernel may write a page at any time.
    unsynced: BTreeMap<u64, Vec<Sector>>,
    /// Sectors that a failed sync marked as clean: their content as programs see it isn't on the
    /// disk.
    lost: BTreeSet<u64>,
    /// Whether processes have mapped the file as memory. The kernel may then write changes at any
    /// time, and they are not recorded in `unsynced`.
    is_mapped: bool,
}

impl DiskImage {
    fn note(&mut self, live: &Content, offset: u64, written: usize) {
        let sector = SECTOR as u64;
        let end = (offset + written as u64).div_ceil(sector);
        for number in offset / sector..end {
            let image = live.sector(number);
            self.lost.remove(&number);
            // If the sector already has this content, the write can't be lost.
            if self.unsynced.contains_key(&number) || image != self.content.sector(number) {
                self.unsynced.entry(number).or_default().push(image);
            }
        }
    }

    fn sync(&mut self, size: u64) {
        for (number, versions) in std::mem::take(&mut self.unsynced) {
            if let Some(newest) = versions.last() {
                self.content.write(newest, number * SECTOR as u64);
            }
        }
        self.content.set_len(size);
    }

    fn after_power_cut(&self, live: &Content, power_cut: &mut PowerCut) -> Content {
        let mut content = self.content.clone();
        let last = self.unsynced.keys().next_back();
        for (number, versions) in &self.unsynced {
            let old = self.content.sector(*number);
            let kept = power_cut.sector(&old, versions, Some(number) == last);
            content.write(&kept, number * SECTOR as u64);
        }
        let (durable, size) = (self.content.len(), live.len());
        content.set_len(if durable == size {
            size
        } else {
            power_cut.size(durable, size)
        });
        if self.is_mapped {
            for number in 0..content.len() / SECTOR as u64 {
                let kept = power_cut.mapped(&content.sector(number), &live.sector(number));
                content.write(&kept, number * SECTOR as u64);
            }
        }
        content
    }
}

fn word_of(content: &Content, word: usize) -> Option<u64> {
    let mut bytes = [0; size_of::<u64>()];
    let read = content.read(&mut bytes, (word as u64).saturating_mul(WORD));
    (read == bytes.len()).then(|| u64::from_le_bytes(bytes))
}

fn write(content: &mut Content, bufs: &[IoSlice<'_>], offset: u64, allowed: usize) -> usize {
    let mut done = 0;
    for buf in bufs {
        let part = buf.split_at(buf.len().min(allowed - done)).0;
        content.write(part, offset + done as u64);
        done += part.len();
    }
    done
}

#[cfg(test)]
mod tests {
    use super::super::power_cut::Persist;
    use super::*;

    fn inode(durable: &[u8], unsynced: &[u8], offset: u64) -> Inode {
        let inode = Inode::durable(1, Content::from_bytes(durable));
        inode.write_unsynced(&[IoSlice::new(unsynced)], offset, usize::MAX);
        inode
    }

    fn cut(inode: &Inode, persist: Persist) -> Vec<u8> {
        inode
            .after_power_cut(&mut PowerCut::new(persist))
            .content()
            .to_bytes()
    }

    #[test]
    fn sectors_and_the_size_are_kept_or_lost_independently() {
        let inode = inode(&[1; 600], &[2; 1000], 100);
        assert_eq!(inode.unsynced_units(), 4);
        assert_eq!(cut(&inode, Persist::Nothing), [1; 600]);
        assert_eq!(
            cut(&inode, Persist::Everything),
            [[1; 100].as_slice(), &[2; 1000]].concat()
        );
        let second_sector = cut(&inode, Persist::Mask(0b0010));
        assert_eq!(second_sector, [[1; 512].as_slice(), &[2; 88]].concat());
        let size = cut(&inode, Persist::Mask(0b1000));
        assert_eq!(size, [[1; 600].as_slice(), &[0; 500]].concat());
    }

    #[test]
    fn a_sync_makes_the_whole_file_durable() {
        let inode = inode(&[1; 600], &[2; 1000], 100);
        inode.sync();
        assert_eq!(inode.unsynced_units(), 0);
        assert_eq!(cut(&inode, Persist::Nothing), inode.content().to_bytes());
    }

    #[test]
    fn a_write_of_the_same_content_can_not_be_lost() {
        assert_eq!(inode(&[1; 600], &[1; 300], 200).unsynced_units(), 0);
    }

    #[test]
    fn a_reverted_change_is_unsynced_as_well() {
        let inode = inode(&[1; 600], &[2; 300], 200);
        inode.write_unsynced(&[IoSlice::new(&[1; 300])], 200, usize::MAX);
        assert_eq!(inode.unsynced_units(), 1);
        assert_eq!(cut(&inode, Persist::Everything), [1; 600]);
    }

    #[test]
    fn zeros_past_the_end_change_only_the_size() {
        assert_eq!(inode(&[1; 512], &[0; 4096], 512).unsynced_units(), 1);
    }

    #[test]
    fn lost_pages_are_visible_and_never_synced() {
        let inode = inode(&[1; 600], &[2; 600], 0);
        inode.lose_unsynced();
        inode.sync();
        assert_eq!(inode.content().to_bytes(), [2; 600]);
        assert_eq!(cut(&inode, Persist::Everything), [1; 600]);
    }

    #[test]
    fn lost_pages_are_visible_until_the_cache_is_dropped() {
        let inode = inode(&[1; 600], &[2; 900], 0);
        inode.lose_unsynced();
        inode.drop_cache(512, 1);
        let half = [[2; 512].as_slice(), &[1; 88], &[0; 300]].concat();
        assert_eq!(inode.content().to_bytes(), half);
        inode.drop_cache(0, u64::MAX);
        let disk = [[1; 600].as_slice(), &[0; 300]].concat();
        assert_eq!(inode.content().to_bytes(), disk);
    }

    #[test]
    fn dropping_the_cache_keeps_unsynced_bytes() {
        let inode = inode(&[1; 600], &[2; 600], 0);
        inode.drop_cache(0, 600);
        assert_eq!(inode.content().to_bytes(), [2; 600]);
        inode.lose_unsynced();
        inode.write_unsynced(&[IoSlice::new(&[3; 600])], 0, usize::MAX);
        inode.drop_cache(0, 600);
        assert_eq!(inode.content().to_bytes(), [3; 600]);
    }

    #[test]
    fn lost_pages_written_again_are_synced() {
        let inode = inode(&[1; 600], &[2; 600], 0);
        inode.lose_unsynced();
        inode.write_unsynced(&[IoSlice::new(&[2; 600])], 0, usize::MAX);
        inode.sync();
        assert_eq!(cut(&inode, Persist::Nothing), [2; 600]);
    }

    #[test]
    fn a_power_cut_leaves_unwritten_bytes_unchanged() {
        for written in [100, 700] {
            let inode = inode(&[1; 700], &vec![2; written], 700);
            for seed in 0..500 {
                let left = cut(&inode, Persist::Seeded(seed));
                assert_eq!(left.get(..700), Some([1; 700].as_slice()), "seed {seed}");
            }
        }
    }

    #[test]
    fn garbage_is_in_the_last_sector_only() {
        let inode = inode(&[1; 1024], &[2; 1024], 0);
        for seed in 0..500 {
            let left = cut(&inode, Persist::Seeded(seed));
            assert!(left.iter().take(512).all(|byte| *byte <= 2), "seed {seed}");
        }
    }

    #[test]
    fn units_after_the_64th_are_lost_with_a_mask() {
        let inode = inode(&vec![1; 100 * SECTOR], &vec![2; 100 * SECTOR], 0);
        let left = cut(&inode, Persist::Mask(u64::MAX));
        assert!(left.iter().take(64 * SECTOR).all(|byte| *byte == 2));
        assert!(left.iter().skip(64 * SECTOR).all(|byte| *byte == 1));
    }

    #[test]
    fn seeds_lead_to_every_kind_of_damage() {
        let inode = inode(&[1; 1024], &[2; 2048], 512);
        inode.write_unsynced(&[IoSlice::new(&[3; 512])], 512, usize::MAX);
        let outcomes: Vec<_> = (0..500)
            .map(|seed| cut(&inode, Persist::Seeded(seed)))
            .collect();
        let seen = |what: fn(&[u8]) -> bool| outcomes.iter().any(|bytes| what(bytes));
        assert!(seen(|bytes| bytes == [1; 1024]), "nothing kept");
        assert!(
            seen(|bytes| bytes.len() == 2560 && bytes.ends_with(&[2; 512])),
            "all kept"
        );
        assert!(seen(|bytes| bytes.get(512) == Some(&2)), "an older version");
        assert!(seen(|bytes| bytes.len() == 1536), "a size in between");
        assert!(
            seen(|bytes| bytes.get(600) == Some(&1) && bytes.get(1000) == Some(&3)),
            "torn"
        );
        assert!(seen(|bytes| bytes.iter().any(|byte| *byte > 3)), "garbage");
        assert!(
            seen(|bytes| bytes.ends_with(&[0; 512])),
            "a sector dropped, the size kept"
        );
    }

    #[test]
    fn a_copy_has_its_own_unsynced_bytes() {
        let copy = inode(&[1; 600], &[2; 600], 0).copy();
        assert_eq!(copy.content().to_bytes(), [2; 600]);
        assert_eq!(cut(&copy, Persist::Nothing), [1; 600]);
    }
}
