//! The part of unsynced writes and names that survives a power cut.

use super::content::{SECTOR, Sector};
use super::random::Random;

/// The part of the unsynced writes and names that survives a power cut. They are numbered as units.
/// Words of shared pages are not numbered: [`Persist::Everything`] keeps them, [`Persist::Seeded`]
/// keeps a part, and the others leave them as they were when the page was created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Persist {
    /// All of it.
    Everything,
    /// The i-th unsynced unit if bit i is set; nothing after the 64th. With it a test can try every
    /// subset: see [`super::SimVfs::unsynced_units`].
    Mask(u64),
    /// None of it.
    Nothing,
    /// A random subset, with torn sectors, older versions of sectors, sizes between the old and
    /// the new one, and garbage in the last sector.
    Seeded(u64),
}

/// Decides which unsynced units a power cut keeps, one after another.
#[derive(Debug)]
pub(super) struct PowerCut {
    persist: Persist,
    unit: u32,
    random: Random,
    keep_percent: u64,
}

impl PowerCut {
    pub(super) fn new(persist: Persist) -> Self {
        let seed = if let Persist::Seeded(seed) = persist {
            seed
        } else {
            0
        };
        let mut random = Random::new(seed);
        // With even odds alone, a power cut would hardly ever keep or lose almost everything.
        let keep_percent = [5, 50, 95]
            .into_iter()
            .nth(random.below(3))
            .unwrap_or_default();
        Self {
            persist,
            unit: 0,
            random,
            keep_percent,
        }
    }

    /// Whether the next unit is kept.
    pub(super) fn keep(&mut self) -> bool {
        let unit = self.unit;
        self.unit = unit.saturating_add(1);
        match self.persist {
            Persist::Everything => true,
            Persist::Mask(mask) => mask.checked_shr(unit).unwrap_or_default() & 1 == 1,
            Persist::Nothing => false,
            Persist::Seeded(_) => self.random.chance(self.keep_percent),
        }
    }

    /// Return what the next sector contains. `versions` were written since `old` was synced, the
    /// newest last.
    pub(super) fn sector(&mut self, old: &Sector, versions: &[Sector], last: bool) -> Sector {
        let keep = self.keep();
        let newest = versions.last().unwrap_or(old);
        if !matches!(self.persist, Persist::Seeded(_)) {
            return if keep { *newest } else { *old };
        }
        if last && self.random.chance(25) {
            return self.garbage(old, versions);
        }
        if self.random.chance(15) {
            return self.torn(old, newest);
        }
        match versions.get(self.random.below(versions.len().max(1))) {
            _ if !keep => *old,
            Some(version) if self.random.chance(30) => *version,
            _ => *newest,
        }
    }

    /// Return what a sector of shared memory contains. The kernel may have written it at any time.
    pub(super) fn mapped(&mut self, old: &Sector, new: &Sector) -> Sector {
        match self.persist {
            Persist::Everything => *new,
            Persist::Seeded(_) if old == new => *old,
            Persist::Seeded(_) if self.random.chance(15) => self.garbage(old, &[*new]),
            Persist::Seeded(_) if self.random.chance(15) => self.torn(old, new),
            Persist::Seeded(_) if self.random.chance(self.keep_percent) => *new,
            Persist::Mask(_) | Persist::Nothing | Persist::Seeded(_) => *old,
        }
    }

    /// Return a size that the file may have if `old` is durable and `new` is not.
    pub(super) fn size(&mut self, old: u64, new: u64) -> u64 {
        let keep = self.keep();
        if matches!(self.persist, Persist::Seeded(_)) && old < new && self.random.chance(25) {
            let between = old + self.random.next() % (new - old);
            return between.next_multiple_of(SECTOR as u64).min(new);
        }
        if keep { new } else { old }
    }

    fn torn(&mut self, old: &Sector, new: &Sector) -> Sector {
        let (head, tail) = if self.random.chance(50) {
            (old, new)
        } else {
            (new, old)
        };
        let mut torn = *tail;
        let cut = self.random.below(SECTOR);
        torn.split_at_mut(cut)
            .0
            .copy_from_slice(head.split_at(cut).0);
        torn
    }

    /// Return a sector with garbage in the bytes that were being changed. The other bytes are kept:
    /// like `SQLite`, the engine relies on a disk to leave bytes unchanged that it isn't asked to
    /// write ("powersafe overwrite").
    fn garbage(&mut self, old: &Sector, versions: &[Sector]) -> Sector {
        let mut noise = [0; SECTOR];
        self.random.fill(&mut noise);
        let mut sector = *old;
        for version in versions {
            for (((byte, old), new), noise) in sector.iter_mut().zip(old).zip(version).zip(&noise) {
                if old != new {
                    *byte = *noise;
                }
            }
        }
        sector
    }
}
