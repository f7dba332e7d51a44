//! The recorded result of an append with an idempotency key.

use super::live_log::LiveLog;
use super::loader::Loader;
use crate::append::{Appended, content_digest};
use crate::error::{Error, Result};
use crate::index::Index;
use crate::names;
use crate::options::ReadMode;

impl LiveLog {
    /// Return the durable result of a key, if it exists.
    pub(crate) fn committed(
        &self,
        key: &str,
        content: Option<&[u8]>,
        mode: ReadMode,
    ) -> Result<Option<Appended>> {
        names::check("idempotency key", key)?;
        let address = self
            .index
            .read()
            .keyed_frame(self.hasher.idempotency_key(key));
        let digest = content.map(content_digest);
        address
            .map(|address| self.committed_at(address, key, digest, mode))
            .transpose()
    }

    /// Return the result of the durable frame at this address, which was appended with `key`.
    pub(crate) fn committed_at(
        &self,
        address: u64,
        key: &str,
        digest: Option<u128>,
        mode: ReadMode,
    ) -> Result<Appended> {
        let chunk = self
            .index
            .read()
            .chunks()
            .of_address(address)
            .ok_or(Error::Closed)?;
        let mut chunks = Loader::new(self, mode);
        let loaded = chunks.chunk(chunk)?;
        let frame = loaded.frame_at(address).ok_or(Error::Closed)?;
        match frame.key() {
            Some((text, stored)) if text == key && digest.is_none_or(|digest| digest == stored) => {
                Ok(frame.replayed())
            }
            _ => Err(Error::IdempotencyMismatch {
                key: key.to_owned(),
            }),
        }
    }
}
