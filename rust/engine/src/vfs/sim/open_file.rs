//! An open file of the simulation.

use std::io::{self, IoSlice};
use std::sync::Arc;

use rustix::io::Errno;

use super::content::LARGEST_FILE;
use super::faults::Call;
use super::inode::Inode;
use super::world::World;
use crate::vfs::VfsFile;

#[derive(Debug)]
pub(super) struct SimFile {
    pub(super) inode: Arc<Inode>,
    pub(super) world: Arc<World>,
    /// The path by which it was opened.
    pub(super) path: String,
    pub(super) writable: bool,
}

impl SimFile {
    fn sync(&self, call: Call) -> io::Result<()> {
        if !self.world.tracked {
            return Ok(());
        }
        let (_state, outcome) = self.world.begin(call, &self.path, format_args!(""), 0);
        if outcome.lose {
            self.inode.lose_unsynced();
        }
        outcome.error.map_or(Ok(()), Err)?;
        self.inode.sync();
        Ok(())
    }
}

impl VfsFile for SimFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        if !self.world.tracked {
            return Ok(self.inode.read(buf, offset));
        }
        let (_state, outcome) =
            self.world
                .begin(Call::Read, &self.path, format_args!(""), buf.len());
        outcome.error.map_or(Ok(()), Err)?;
        Ok(self.inode.read(buf.split_at_mut(outcome.allowed).0, offset))
    }

    fn read_at_nowait(&self, buf: &mut [u8], offset: u64) -> io::Result<Option<usize>> {
        if self.world.tracked && self.world.state.lock().cold {
            return Ok(None);
        }
        self.read_at(buf, offset).map(Some)
    }

    fn write_vectored_at(&self, bufs: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        if !self.writable {
            return Err(Errno::BADF.into());
        }
        let len: usize = bufs.iter().map(|buf| buf.len()).sum();
        if offset.saturating_add(len as u64) > LARGEST_FILE {
            return Err(Errno::FBIG.into());
        }
        if !self.world.tracked {
            return Ok(self.inode.write(bufs, offset));
        }
        let detail = format_args!(" @{offset} +{len}");
        let (state, outcome) = self.world.begin(Call::Write, &self.path, detail, len);
        let free = state.free_blocks();
        let room = self.inode.allocate(offset, outcome.allowed, free);
        let written = self.inode.write_unsynced(bufs, offset, room);
        match outcome.error {
            Some(error) => Err(error),
            None if written == 0 && len > 0 => Err(Errno::NOSPC.into()),
            None => Ok(written),
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        self.sync(Call::SyncData)
    }

    fn sync_all(&self) -> io::Result<()> {
        self.sync(Call::SyncAll)
    }

    fn size(&self) -> io::Result<u64> {
        if !self.world.tracked {
            return Ok(self.inode.size());
        }
        let (_state, outcome) = self
            .world
            .begin(Call::Size, &self.path, format_args!(""), 0);
        outcome.error.map_or_else(|| Ok(self.inode.size()), Err)
    }

    fn drop_cache(&self, offset: u64, len: u64) -> io::Result<()> {
        if !self.world.tracked {
            return Ok(());
        }
        let detail = format_args!("");
        let (_state, outcome) = self.world.begin(Call::DropCache, &self.path, detail, 0);
        outcome.error.map_or(Ok(()), Err)?;
        self.inode.drop_cache(offset, len);
        Ok(())
    }
}
