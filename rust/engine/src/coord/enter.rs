//! How a process comes into a store.
//!
//! The first one finds `live` free: it takes it alone, recovers the log and makes the page.
//! One that finds it taken knocks, and is let in: `live` is then held shared by both. Where
//! the holder doesn't answer, because it wants the store to itself or was stopped, the store
//! is busy.

use std::io::ErrorKind;
use std::path::Path;
use std::time::{Duration, Instant};

use super::Locks;
use super::locks::{Held as HeldLock, Lock};
use super::member::{alive, is_anyone_alive};
use super::page::{PROTOCOL, Page, Phase, Stranger};
use crate::error::{Error, Result};
use crate::log::{Identity, Layout, read_file, shown_holder};
use crate::recovery;
use crate::store::{Mode, Options};
use crate::vfs::{Entry, Hold, OpenMode, Vfs};

/// How long who holds the store without a page to knock at is waited for: it may be making one.
const GRACE: Duration = Duration::from_millis(250);

/// How many processes that share a store are named in an error.
const SHOWN: usize = 4;

/// How often the report of a process that is waited for is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// How the store is held.
#[derive(Debug)]
pub(crate) enum Held {
    /// Alone, until it is closed.
    Alone(Lock),
    /// Alone, with what it takes to let others in. Nobody comes in while `boot` is held.
    First(Locks, HeldLock),
    /// With others, who may be gone by now.
    Among(Locks, Page),
}

/// A store that is held, and who it is.
#[derive(Debug)]
pub(crate) struct Entered {
    pub(crate) identity: Identity,
    pub(crate) held: Held,
}

/// A store that is to be entered.
#[derive(Debug)]
pub(crate) struct Door<'a> {
    pub(crate) layout: &'a Layout,
    pub(crate) options: &'a Options,
}

/// Comes into the store, or says who is in the way.
pub(crate) fn enter(door: &Door<'_>) -> Result<Entered> {
    match door.options.mode {
        Mode::Exclusive => door.enter_alone(),
        Mode::Shared => door.enter_shared(),
    }
}

impl Door<'_> {
    fn creates(&self) -> bool {
        self.options.create && !self.options.read_only
    }

    fn identify(&self) -> Result<Identity> {
        recovery::identify(self.layout, self.creates())
    }

    fn live(&self) -> Result<Lock> {
        Lock::open(&self.layout.vfs, self.layout.root.clone(), false)
    }

    /// Comes in through `boot` like everybody else, if there are locks: a process that lets
    /// another one in has no hold on `live` for a moment, and `boot` is held meanwhile.
    fn enter_alone(&self) -> Result<Entered> {
        let grace = Instant::now() + GRACE.min(self.options.lock_timeout);
        let mut pause = Pause::default();
        loop {
            let has_locks = self.has_locks()?;
            let boot = if has_locks { self.boot()? } else { None };
            if boot.is_some() || !has_locks {
                let live = self.live()?;
                if !live.try_take(Hold::Exclusive)? {
                    return Err(self.busy());
                }
                // Made by now, others may have come in through them before.
                if boot.is_some() || !self.has_locks()? {
                    return self.enter_with(live);
                }
                live.free();
            }
            if Instant::now() >= grace {
                return Err(self.busy());
            }
            pause.rest(&*self.layout.vfs);
        }
    }

    fn enter_with(&self, live: Lock) -> Result<Entered> {
        let identity = self.identify()?;
        // Nobody is to knock at the page of a session that is over.
        if !self.options.read_only {
            self.layout.remove_if_there(&self.layout.page())?;
        }
        Ok(Entered {
            identity,
            held: Held::Alone(live),
        })
    }

    fn enter_shared(&self) -> Result<Entered> {
        self.refuse_where_unsafe()?;
        let mut wait = Wait::begin(self);
        let grace = Instant::now() + GRACE.min(self.options.lock_timeout);
        let mut pause = Pause::default();
        loop {
            if !self.has_locks()? {
                if let Some(entered) = self.make_locks()? {
                    return Ok(entered);
                }
                if self.has_locks()? {
                    continue;
                }
                if Instant::now() >= grace {
                    return Err(self.busy());
                }
            } else if let Some(boot) = self.boot()?
                && let Some(entered) = self.through(boot, wait.deadline, grace)?
            {
                return Ok(entered);
            }
            if wait.is_over(self) {
                return Err(self.busy());
            }
            pause.rest(&*self.layout.vfs);
        }
    }

    fn refuse_where_unsafe(&self) -> Result<()> {
        let root = &self.layout.root;
        let reason = self.layout.vfs.unshareable(root);
        match reason.map_err(|e| Error::io(root, "look up", &e))? {
            None => Ok(()),
            Some(reason) => Err(Error::Unshareable {
                path: root.clone(),
                reason,
            }),
        }
    }

    fn has_locks(&self) -> Result<bool> {
        let path = self.layout.boot();
        let entry = self.layout.vfs.entry(&path);
        let entry = entry.map_err(|e| Error::io(&path, "look up", &e))?;
        Ok(matches!(entry, Some(Entry::File(_))))
    }

    /// Makes the lock files of a store that has none yet, under its `live` lock, which is
    /// there before any file is. A look makes no file, and has the store to itself.
    fn make_locks(&self) -> Result<Option<Entered>> {
        let live = self.live()?;
        if !live.try_take(Hold::Exclusive)? {
            return Ok(None);
        }
        if self.options.read_only {
            return self.enter_with(live).map(Some);
        }
        self.identify()?;
        self.layout.ensure_dir(&self.layout.locks())?;
        Lock::open(&self.layout.vfs, self.layout.boot(), true)?;
        live.free();
        Ok(None)
    }

    /// The lock of those who come and go; `None` while somebody else has it.
    fn boot(&self) -> Result<Option<(Lock, HeldLock)>> {
        let boot = match Lock::open(&self.layout.vfs, self.layout.boot(), false) {
            Err(Error::Io {
                kind: ErrorKind::NotFound,
                ..
            }) => return Ok(None),
            opened => opened?,
        };
        match boot.try_hold() {
            Ok(held) => Ok(held.map(|held| (boot, held))),
            // Deleted between the opening and the lock.
            Err(Error::Detached { .. }) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// In front of `live`, with nobody else beside.
    fn through(
        &self,
        (boot, held): (Lock, HeldLock),
        deadline: Instant,
        grace: Instant,
    ) -> Result<Option<Entered>> {
        let live = self.live()?;
        let mut pause = Pause::default();
        let mut has_knocked = false;
        loop {
            if live.try_take(Hold::Exclusive)? {
                return self.first(boot, held, live);
            }
            if live.try_take(Hold::Shared)? {
                match self.page(&live)? {
                    Some(page) if page.phase() == Phase::Shared => {
                        if is_anyone_alive(self.layout, &page)? {
                            return self.among(boot, live, page).map(Some);
                        }
                        // A session that only reads may have no entry. It holds `live`, and has
                        // held it since the page was made: otherwise there would be another.
                        if live.try_take(Hold::Exclusive)? {
                            return self.first(boot, held, live);
                        }
                        if live.try_take(Hold::Shared)? {
                            return self.among(boot, live, page).map(Some);
                        }
                    }
                    // Who held the store, alone or the last of several, is gone by now.
                    _ => live.free(),
                }
            } else {
                match self.page(&live)? {
                    Some(page)
                        if page.phase() == Phase::Sole
                            && !std::mem::replace(&mut has_knocked, true) =>
                    {
                        page.knock();
                    }
                    None if Instant::now() >= grace => return Err(self.busy()),
                    Some(_) | None => {}
                }
            }
            if Instant::now() >= deadline {
                return Err(self.busy());
            }
            pause.rest(&*self.layout.vfs);
        }
    }

    /// With `live` held alone; `None` where `boot` was replaced and has to be taken again.
    fn first(&self, boot: Lock, held: HeldLock, live: Lock) -> Result<Option<Entered>> {
        if self.options.read_only {
            return self.enter_with(live).map(Some);
        }
        let identity = self.identify()?;
        if self.replace_linked_locks()? {
            live.free();
            return Ok(None);
        }
        let locks = self.locks(boot, live, true)?;
        Ok(Some(Entered {
            identity,
            held: Held::First(locks, held),
        }))
    }

    /// Replaces the lock files that have further names: with a copy of the directory by hard
    /// links, its sessions would be kept waiting by those of the original, and the other way
    /// round. Returns whether `boot` was among them. The caller holds `boot` and `live` alone,
    /// so that no session of this directory has any of the files open.
    fn replace_linked_locks(&self) -> Result<bool> {
        let (vfs, directory) = (&self.layout.vfs, self.layout.locks());
        let names = vfs.list(&directory);
        let names = names.map_err(|e| Error::io(&directory, "list", &e))?;
        let is_lock = |name: &&String| Path::new(name).extension().is_some_and(|e| e == "lock");
        let mut has_new_boot = false;
        for path in names
            .iter()
            .filter(is_lock)
            .map(|name| directory.join(name))
        {
            let lock = match Lock::open(vfs, path.clone(), false) {
                Err(Error::Io {
                    kind: ErrorKind::PermissionDenied,
                    ..
                }) => continue,
                opened => opened?,
            };
            if lock.links()? <= 1 {
                continue;
            }
            if path != self.layout.boot() {
                self.layout.remove_if_there(&path)?;
                continue;
            }
            // Renamed over the old one: at no time is the store without the file.
            let beside = path.with_extension("lock.tmp");
            self.layout.remove_if_there(&beside)?;
            Lock::open(vfs, beside.clone(), true)?;
            let renamed = vfs.rename(&beside, &path);
            renamed.map_err(|e| Error::io(&path, "rename", &e))?;
            has_new_boot = true;
        }
        Ok(has_new_boot)
    }

    fn among(&self, boot: Lock, live: Lock, page: Page) -> Result<Entered> {
        if page.is_poisoned() {
            return Err(Error::Poisoned {
                reason: "the processes that have the store open have stopped writing".to_owned(),
            });
        }
        let identity = self.identify()?;
        let locks = self.locks(boot, live, false)?;
        if page.locks() != locks.numbers {
            let reason = "a lock file was replaced while other processes have the store open";
            return Err(Error::detached(&self.layout.locks(), reason));
        }
        Ok(Entered {
            identity,
            held: Held::Among(locks, page),
        })
    }

    /// Only who is alone makes a lock file: the others would go on with the one that is gone.
    fn locks(&self, boot: Lock, live: Lock, create: bool) -> Result<Locks> {
        let open = |name: &str| {
            let path = self.layout.locks().join(name);
            match Lock::open(&self.layout.vfs, path.clone(), create) {
                Err(Error::Io {
                    kind: ErrorKind::NotFound,
                    ..
                }) => Err(Error::detached(&path, "it is missing")),
                opened => opened,
            }
        };
        let [write, sync, maint] = [open("write.lock")?, open("sync.lock")?, open("maint.lock")?];
        let numbers = [
            boot.number()?,
            write.number()?,
            sync.number()?,
            maint.number()?,
        ];
        Ok(Locks {
            boot,
            live,
            write,
            sync,
            maint,
            numbers,
        })
    }

    /// The page of those who have the store, if there is one that we can talk through.
    fn page(&self, live: &Lock) -> Result<Option<Page>> {
        let (root, path) = (&self.layout.root, self.layout.page());
        let words = match self.layout.vfs.open_page(&path, OpenMode::ReadWrite) {
            Ok(words) => words,
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::InvalidData) => {
                return Ok(None);
            }
            Err(e) => return Err(Error::io(&path, "open", &e)),
        };
        let Some(identity) = Identity::read(self.layout)? else {
            return Ok(None);
        };
        match Page::of(words, identity.uuid, live.number().unwrap_or(0)) {
            Ok(page) if !page.is_foreign_to(self.layout.vfs.kernel()) => Ok(Some(page)),
            // Its locks reach this kernel, and its memory does not. Without anybody alive it
            // is left from before this machine was started.
            Ok(page) if is_anyone_alive(self.layout, &page)? => Err(Error::Unshareable {
                path: root.clone(),
                reason: "a process under another kernel has it open, on another machine or \
                         outside of this virtual one"
                    .to_owned(),
            }),
            Ok(_) | Err(Stranger::Foreign) => Ok(None),
            Err(Stranger::Protocol(found)) => Err(Error::StoreBusy {
                path: root.clone(),
                holder: format!(
                    "another version of eventbraid (it shares stores by protocol {found}, this \
                     one by {PROTOCOL})"
                ),
            }),
        }
    }

    /// What the process that opened the store first, or opens it now, reports of itself.
    fn holder(&self) -> Option<Vec<u8>> {
        read_file(self.layout, &self.layout.holder()).ok()?
    }

    /// The live members of a store that is shared, for people: the one that was the first may
    /// have left.
    fn members(&self) -> Option<String> {
        let page = self.page(&self.live().ok()?).ok()??;
        if page.phase() != Phase::Shared {
            return None;
        }
        let alive = alive(self.layout, &page).ok()?;
        let shown = alive
            .iter()
            .take(SHOWN)
            .cloned()
            .collect::<Vec<_>>()
            .join(", ");
        match alive.len().checked_sub(SHOWN) {
            None | Some(0) => (!shown.is_empty()).then_some(shown),
            Some(more) => Some(format!("{shown} and {more} more")),
        }
    }

    fn busy(&self) -> Error {
        let holder = self.members().or_else(|| {
            let holder = self.holder().map(|bytes| shown_holder(&bytes));
            holder.filter(|holder| !holder.is_empty())
        });
        let holder = holder.unwrap_or_else(|| "an unknown process".to_owned());
        Error::StoreBusy {
            path: self.layout.root.clone(),
            holder,
        }
    }
}

/// A wait for another process that opens the store: it may take long to recover a large log, and
/// is waited for as long as it reports progress.
struct Wait {
    deadline: Instant,
    timeout: Duration,
    /// What was reported last, and when it was looked at.
    report: Option<Vec<u8>>,
    looked: Instant,
}

impl Wait {
    fn begin(door: &Door<'_>) -> Self {
        let (now, timeout) = (Instant::now(), door.options.lock_timeout);
        Self {
            deadline: now + timeout,
            timeout,
            report: door.holder(),
            looked: now,
        }
    }

    /// Whether the time is over that another process may take without progress.
    fn is_over(&mut self, door: &Door<'_>) -> bool {
        let now = Instant::now();
        if now < self.deadline && now - self.looked < LOOK {
            return false;
        }
        self.looked = now;
        let report = door.holder();
        if report != self.report {
            self.report = report;
            self.deadline = now + self.timeout;
        }
        now >= self.deadline
    }
}

/// Waits that grow.
struct Pause(Duration);

impl Default for Pause {
    fn default() -> Self {
        Self(Duration::from_micros(200))
    }
}

impl Pause {
    fn rest(&mut self, vfs: &dyn Vfs) {
        vfs.pause(self.0);
        self.0 = (self.0 * 2).min(Duration::from_millis(20));
    }
}
