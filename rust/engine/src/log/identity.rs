//! IDENTITY: who the store is. Written once, before anything else of the store.

use super::layout::{Layout, read_file};
use crate::bytes::{array, u32_at};
use crate::error::{Error, Result};
use crate::format::FORMAT;
use crate::frame::Seed;
use crate::names::Hasher128Keyed;

const MAGIC: &[u8; 8] = b"EBSTORE\n";
const LENGTH: usize = 64;

/// The store's name and secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) uuid: [u8; 16],
    /// Seeds frame checks and name hashes, so that no payload can imitate a frame and no
    /// choice of names can make two streams collide.
    secret: [u8; 16],
    created_at: u64,
}

impl Layout {
    /// Refuses a directory that holds another store than the one of this id, or none.
    pub(crate) fn refuse_other_store(&self, id: Option<[u8; 16]>) -> Result<()> {
        let Some(expected) = id else {
            return Ok(());
        };
        let found = Identity::read(self);
        let reason = match found {
            Ok(Some(identity)) if identity.uuid == expected => return Ok(()),
            Ok(Some(_)) => "another store is there now than the one that was opened",
            Ok(None) | Err(Error::NotAStore { .. }) => {
                "the store that was opened there is there no more"
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
                .map_err(|e| Error::io(&path, "draw a secret for", &e))?;
        }
        let identity = Self {
            uuid,
            secret,
            created_at: layout.vfs.now_micros(),
        };
        layout.place_bytes(&path, &identity.encode())?;
        Ok(identity)
    }

    /// Reads IDENTITY; `None` when there is no such file.
    pub(crate) fn read(layout: &Layout) -> Result<Option<Self>> {
        let path = layout.identity();
        let Some(bytes) = read_file(layout, &path)? else {
            return Ok(None);
        };
        if bytes.get(..8) != Some(MAGIC) {
            return Err(Error::NotAStore {
                path: layout.root.clone(),
                reason: "its IDENTITY is no event store's".to_owned(),
            });
        }
        let found = u32_at(&bytes, 8).unwrap_or_default();
        if found > FORMAT {
            return Err(Error::newer(&path, found));
        }
        let identity = Self::decode(&bytes);
        let damaged = || Error::corrupt(&path, 0, "the store's identity fails its checksum");
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

    pub(crate) fn hasher(&self) -> Hasher128Keyed {
        Hasher128Keyed::new(&self.secret)
    }
}
