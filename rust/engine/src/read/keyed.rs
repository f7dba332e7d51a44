//! The result that an idempotency key stands for.

use super::chunk::Loader;
use super::query::Effort;
use crate::commit::{Appended, content_digest};
use crate::error::{Error, Result};
use crate::frame::FrameView;
use crate::index::Index;
use crate::live::LiveLog;
use crate::names;

impl LiveLog {
    /// The durable result under a key, if there is one.
    pub(crate) fn committed(
        &self,
        key: &str,
        content: Option<&[u8]>,
        effort: Effort,
    ) -> Result<Option<Appended>> {
        names::check("idempotency key", key)?;
        let address = self
            .index
            .read()
            .keyed_frame(self.hasher.idempotency_key(key));
        let digest = content.map(content_digest);
        address
            .map(|address| self.committed_at(address, key, digest, effort))
            .transpose()
    }

    /// The result of the durable frame at an address, which was appended under `key`.
    pub(crate) fn committed_at(
        &self,
        address: u64,
        key: &str,
        digest: Option<u128>,
        effort: Effort,
    ) -> Result<Appended> {
        let chunk = self
            .index
            .read()
            .chunks()
            .of_address(address)
            .ok_or(Error::Closed)?;
        let mut chunks = Loader::new(self, effort);
        let loaded = chunks.chunk(chunk)?;
        let frame = loaded.frame_at(address).ok_or(Error::Closed)?;
        match frame.key() {
            Some((text, known)) if text == key && digest.is_none_or(|digest| digest == known) => {
                Ok(replayed(&frame))
            }
            _ => Err(Error::IdempotencyMismatch {
                key: key.to_owned(),
            }),
        }
    }
}

pub(crate) fn replayed(frame: &FrameView<'_>) -> Appended {
    let header = frame.header();
    let has_events = header.events > 0;
    let version = |stream: crate::frame::StreamView<'_>| {
        (
            stream.name.into(),
            stream.base_version + u64::from(stream.count),
        )
    };
    Appended {
        first_position: has_events.then_some(header.first_position),
        last_position: has_events.then(|| header.next_position() - 1),
        versions: frame.streams().map(version).collect(),
        replayed: true,
    }
}
