//! Acquire the locks of a store.
//!
//! The first session finds `live` free: it locks `live` exclusively, recovers the log and creates
//! the shared page. A session that finds `live` locked sends a join request through the page. The
//! holder then converts its lock to a shared one, and both hold it. If the holder does not answer,
//! because it opened the store exclusively or is suspended, the store is busy.

use std::io::ErrorKind;
use std::path::Path;
use std::time::Instant;

use super::identify_store;
use super::open_timeout::{OpenTimeout, Pause, grace_deadline};
use crate::coord::{
    CoordPage, Lock, LockGuard, Locks, PROTOCOL, Phase, Unjoinable, has_live_session,
    live_session_names,
};
use crate::error::{Error, Result};
use crate::log::{Identity, Layout, printable_holder, read_file};
use crate::options::{Mode, Options};
use crate::vfs::{Entry, Hold, OpenMode};

/// Maximum number of sessions that an error names.
const MAX_NAMED: usize = 4;

/// How the store is held.
#[derive(Debug)]
pub(super) enum Access {
    /// Exclusively, until the session ends.
    Exclusive(Lock),
    /// Exclusively, with everything that is needed to share the store later. No other session joins
    /// while the second field, `boot`, is held.
    First(Locks, LockGuard),
    /// Together with other sessions, which may have ended by now.
    Joined(Locks, CoordPage),
}

/// A store whose locks are held, and its identity.
#[derive(Debug)]
pub(super) struct Acquired {
    pub(super) identity: Identity,
    pub(super) access: Access,
}

/// A request for the locks of a store.
#[derive(Debug)]
pub(super) struct Request<'a> {
    pub(super) layout: &'a Layout,
    pub(super) options: &'a Options,
}

impl Request<'_> {
    /// Acquire the locks, or return an error that names the holder.
    pub(super) fn acquire(&self) -> Result<Acquired> {
        match self.options.mode {
            Mode::Exclusive => self.acquire_exclusive(),
            Mode::Shared => self.acquire_shared(),
        }
    }

    fn creates(&self) -> bool {
        self.options.create && !self.options.read_only
    }

    fn identify(&self) -> Result<Identity> {
        identify_store::identify(self.layout, self.creates())
    }

    fn live(&self) -> Result<Lock> {
        Lock::open(&self.layout.vfs, self.layout.root.clone(), false)
    }

    /// Acquire `live` exclusively, under `boot` if the store has lock files. When a process
    /// converts `live` from exclusive to shared, the lock is free for a moment. The joining session
    /// holds `boot` during the conversion, so `boot` prevents this session from acquiring `live` in
    /// that moment.
    fn acquire_exclusive(&self) -> Result<Acquired> {
        let grace = grace_deadline(self.options.lock_timeout);
        let mut pause = Pause::default();
        loop {
            let has_locks = self.has_locks()?;
            let boot = if has_locks { self.boot()? } else { None };
            if boot.is_some() || !has_locks {
                let live = self.live()?;
                if !live.try_lock(Hold::Exclusive)? {
                    return Err(self.busy());
                }
                // If the lock files have been created meanwhile, another session may have joined
                // through them before `live` was acquired.
                if boot.is_some() || !self.has_locks()? {
                    return self.exclusive(live);
                }
                live.release();
            }
            if Instant::now() >= grace {
                return Err(self.busy());
            }
            pause.sleep(&*self.layout.vfs);
        }
    }

    fn exclusive(&self, live: Lock) -> Result<Acquired> {
        let identity = self.identify()?;
        // Remove the page of sessions that have ended. Otherwise a later session could send its
        // join request through that page.
        if !self.options.read_only {
            self.layout.remove_if_there(&self.layout.page())?;
        }
        Ok(Acquired {
            identity,
            access: Access::Exclusive(live),
        })
    }

    fn acquire_shared(&self) -> Result<Acquired> {
        self.refuse_where_unsafe()?;
        let mut timeout = OpenTimeout::begin(self.options.lock_timeout, self.holder());
        let grace = grace_deadline(self.options.lock_timeout);
        let mut pause = Pause::default();
        loop {
            if !self.has_locks()? {
                if let Some(acquired) = self.create_locks()? {
                    return Ok(acquired);
                }
                if self.has_locks()? {
                    continue;
                }
                // A session that holds `live` is creating the lock files, or has opened the store
                // exclusively. An exclusive session reports itself, unless it is read-only. In a
                // new store, a session that creates the lock files has not reported itself yet, so
                // it is waited for until the lock timeout.
                if Instant::now() >= grace && self.holder().is_some() {
                    return Err(self.busy());
                }
            } else if let Some(boot) = self.boot()?
                && let Some(acquired) = self.acquire_live(boot, timeout.deadline, grace)?
            {
                return Ok(acquired);
            }
            if timeout.is_over(|| self.holder()) {
                return Err(self.busy());
            }
            pause.sleep(&*self.layout.vfs);
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

    /// Create the lock files of a store that has none, while `live` is held. `live` is a lock on
    /// the directory itself, which exists before any file. A read-only session creates no file and
    /// holds the store exclusively.
    fn create_locks(&self) -> Result<Option<Acquired>> {
        let live = self.live()?;
        if !live.try_lock(Hold::Exclusive)? {
            return Ok(None);
        }
        if self.options.read_only {
            return self.exclusive(live).map(Some);
        }
        self.identify()?;
        self.layout.ensure_dir(&self.layout.locks())?;
        Lock::open(&self.layout.vfs, self.layout.boot(), true)?;
        live.release();
        Ok(None)
    }

    /// Acquire the lock under which sessions begin and end. Return `None` while another session
    /// holds it.
    fn boot(&self) -> Result<Option<(Lock, LockGuard)>> {
        let boot = match Lock::open(&self.layout.vfs, self.layout.boot(), false) {
            Err(Error::Io {
                kind: ErrorKind::NotFound,
                ..
            }) => return Ok(None),
            opened => opened?,
        };
        match boot.try_acquire() {
            Ok(guard) => Ok(guard.map(|guard| (boot, guard))),
            // The file was deleted after it was opened and before it was locked.
            Err(Error::Detached { .. }) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Acquire `live` exclusively or shared. The caller holds `boot`, so no other session acquires
    /// it at the same time.
    fn acquire_live(
        &self,
        (boot, guard): (Lock, LockGuard),
        deadline: Instant,
        grace: Instant,
    ) -> Result<Option<Acquired>> {
        let live = self.live()?;
        let mut pause = Pause::default();
        let mut has_requested = false;
        loop {
            if live.try_lock(Hold::Exclusive)? {
                return self.first(boot, guard, live);
            }
            if live.try_lock(Hold::Shared)? {
                match self.page(&live)? {
                    Some(page) if page.phase() == Phase::Shared => {
                        if has_live_session(self.layout, &page)? {
                            return self.joined(boot, live, page).map(Some);
                        }
                        // No listed session is alive, but a read-only session may have no slot. If
                        // it holds `live`, it has held it since the page was created, and the page
                        // is valid.
                        if live.try_lock(Hold::Exclusive)? {
                            return self.first(boot, guard, live);
                        }
                        if live.try_lock(Hold::Shared)? {
                            return self.joined(boot, live, page).map(Some);
                        }
                    }
                    // The session that held the store has ended.
                    _ => live.release(),
                }
            } else {
                match self.page(&live)? {
                    Some(page)
                        if page.phase() == Phase::Sole
                            && !std::mem::replace(&mut has_requested, true) =>
                    {
                        page.request_join();
                    }
                    None if Instant::now() >= grace => return Err(self.busy()),
                    Some(_) | None => {}
                }
            }
            if Instant::now() >= deadline {
                return Err(self.busy());
            }
            pause.sleep(&*self.layout.vfs);
        }
    }

    /// Open the other locks of the first session, which holds `live` exclusively. Return `None` if
    /// `boot` was replaced and has to be acquired again.
    fn first(&self, boot: Lock, guard: LockGuard, live: Lock) -> Result<Option<Acquired>> {
        if self.options.read_only {
            return self.exclusive(live).map(Some);
        }
        let identity = self.identify()?;
        if self.replace_linked_locks()? {
            live.release();
            return Ok(None);
        }
        let locks = self.locks(boot, live, true)?;
        Ok(Some(Acquired {
            identity,
            access: Access::First(locks, guard),
        }))
    }

    /// Replace lock files that have several hard links. In a copy of the directory made of hard
    /// links, the sessions of the copy and of the original would block each other. Return whether
    /// `boot` was replaced. The caller holds `boot`, and `live` exclusively, so no session of this
    /// directory uses the files.
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
            // The new file is renamed over the old one, so that the store always has the lock file.
            let beside = path.with_extension("lock.tmp");
            self.layout.remove_if_there(&beside)?;
            Lock::open(vfs, beside.clone(), true)?;
            let renamed = vfs.rename(&beside, &path);
            renamed.map_err(|e| Error::io(&path, "rename", &e))?;
            has_new_boot = true;
        }
        Ok(has_new_boot)
    }

    /// Open the other locks of a session that joins.
    fn joined(&self, boot: Lock, live: Lock, page: CoordPage) -> Result<Acquired> {
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
        Ok(Acquired {
            identity,
            access: Access::Joined(locks, page),
        })
    }

    /// Open the lock files. Only the first session creates them: if a later session replaced one,
    /// the earlier sessions would still use the old file.
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

    /// Return the shared page of the sessions that hold the store, if there is one and this session
    /// can use it.
    fn page(&self, live: &Lock) -> Result<Option<CoordPage>> {
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
        match CoordPage::of(words, identity.uuid, live.number().unwrap_or(0)) {
            Ok(page) if !page.is_foreign_to(self.layout.vfs.kernel()) => Ok(Some(page)),
            // The locks of those sessions are visible to this kernel, but their memory is not. If
            // none of them is alive, the page dates from before the machine was started.
            Ok(page) if has_live_session(self.layout, &page)? => Err(Error::Unshareable {
                path: root.clone(),
                reason: "a process under another kernel has it open, on another machine or \
                         outside of this virtual one"
                    .to_owned(),
            }),
            Ok(_) | Err(Unjoinable::Foreign) => Ok(None),
            Err(Unjoinable::Protocol(found)) => Err(Error::StoreBusy {
                path: root.clone(),
                holder: format!(
                    "another version of eventbraid (it uses version {found} of the sharing \
                     protocol, this one uses version {PROTOCOL})"
                ),
            }),
        }
    }

    /// Read the report of the process that opened the store first or is opening it.
    fn holder(&self) -> Option<Vec<u8>> {
        read_file(self.layout, &self.layout.holder()).ok()?
    }

    /// Return the names of the live sessions of a shared store for an error message.
    fn live_sessions(&self) -> Option<String> {
        let page = self.page(&self.live().ok()?).ok()??;
        if page.phase() != Phase::Shared {
            return None;
        }
        let alive = live_session_names(self.layout, &page).ok()?;
        let names = alive
            .iter()
            .take(MAX_NAMED)
            .cloned()
            .collect::<Vec<_>>()
            .join(", ");
        match alive.len().checked_sub(MAX_NAMED) {
            None | Some(0) => (!names.is_empty()).then_some(names),
            Some(more) => Some(format!("{names} and {more} more")),
        }
    }

    fn busy(&self) -> Error {
        let holder = self.live_sessions().or_else(|| {
            let holder = self.holder().map(|bytes| printable_holder(&bytes));
            holder.filter(|holder| !holder.is_empty())
        });
        let holder = holder.unwrap_or_else(|| "an unknown process".to_owned());
        Error::StoreBusy {
            path: self.layout.root.clone(),
            holder,
        }
    }
}
