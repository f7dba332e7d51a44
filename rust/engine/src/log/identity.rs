//! The file IDENTITY: the id and the secret of a store. It is written once, before any other file.

use super::atomic_file::read_file;
use super::directory_layout::Layout;
use crate::bytes::{array, u32_at};
use crate::error::{Error, Result};
use crate::format_version::FORMAT;
use crate::frame::Seed;
use crate::names::NameHasher;

const MAGIC: &[u8; 8] = b"EBSTORE\n";
const LENGTH: usize = 64;

/// The id and the secret of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) uuid: [u8; 16],
    /// Seeds the CRC of frame headers and the hashes of names. Without it, the payload of an event
    /// could imitate a frame, and a client could choose names whose hashes collide.
    secret: [u8; 16],
    created_at: u64,
}

impl Layout {
    /// Return an error if the directory doesn't contain the store with this id.
    pub(crate) fn refuse_other_store(&self, id: Option<[u8; 16]>) -> Result<()> {
        let Some(expected) = id else {
            return Ok(());
        };
        let found = Identity::read(self);
        let reason = match found {
            Ok(Some(identity)) if identity.uuid == expected => return Ok(()),
            Ok(Some(_)) => "it contains another store than the one that was opened",
            Ok(None) | Err(Error::NotAStore { .. }) => {
                "it no longer contains the store that was opened"
            }
            Err(e) => return Err(e),
        };
        Err(Error::Moved {
            path: self.root.clone(),
            reason: reason.to_owned(),
        })
    }
}

impl Identity {
    pub(crate) fn create(layout: &Layout) -> Result<Self> {
        let path = layout.identity();
        let (mut uuid, mut secret) = ([0; 16], [0; 16]);
        for bytes in [&mut uuid, &mut secret] {
            layout
                .vfs
                .random(bytes)
                .map_err(|e| Error::io(&path, "draw random bytes for", &e))?;
        }
        let identity = Self {
            uuid,
            secret,
            created_at: layout.vfs.now_micros(),
        };
        layout.write_bytes_atomically(&path, &identity.encode())?;
        Ok(identity)
    }

    /// Read the file; `None` when there is none.
    pub(crate) fn read(layout: &Layout) -> Result<Option<Self>> {
        let path = layout.identity();
        let Some(bytes) = read_file(layout, &path)? else {
            return Ok(None);
        };
        if bytes.get(..8) != Some(MAGIC) {
            return Err(Error::NotAStore {
                path: layout.root.clone(),
                reason: "its IDENTITY file is not that of an event store".to_owned(),
            });
        }
        let found = u32_at(&bytes, 8).unwrap_or_default();
        if found > FORMAT {
            return Err(Error::newer(&path, found));
        }
        let identity = Self::decode(&bytes);
        let damaged = || Error::corrupt(&path, 0, "its checksum does not match");
        identity.ok_or_else(damaged).map(Some)
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(LENGTH);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&FORMAT.to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&self.uuid);
        bytes.extend_from_slice(&self.secret);
        bytes.extend_from_slice(&self.created_at.to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        let crc = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let crc = u32_at(bytes, LENGTH - 4)?;
        if bytes.len() != LENGTH || crc != crc32c::crc32c(bytes.get(..LENGTH - 4)?) {
            return None;
        }
        Some(Self {
            uuid: array(bytes, 16)?,
            secret: array(bytes, 32)?,
            created_at: array(bytes, 48).map(u64::from_le_bytes)?,
        })
    }

    pub(crate) fn seed(&self) -> Seed {
        Seed::new(&self.secret)
    }

    pub(crate) fn hasher(&self) -> NameHasher {
        NameHasher::new(&self.secret)
    }
}
