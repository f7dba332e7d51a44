//! The result that an idempotency key stands for; stream names.

use super::query::Effort;
use super::recorded::Recorded;
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
        let loaded = self.load(chunk, effort)?;
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

    /// Stream names with a prefix, in ascending order of their bytes.
    pub(crate) fn stream_names(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Box<str>>> {
        let mut first_positions = self.index.read().first_positions();
        first_positions.sort_unstable();
        let mut names = Vec::new();
        for position in first_positions {
            let recorded = self.event_at(position)?;
            let name = recorded.stream();
            if name.starts_with(prefix) && after.is_none_or(|after| name > after) {
                names.push(name.into());
            }
        }
        names.sort_unstable();
        names.truncate(limit);
        Ok(names)
    }

    fn event_at(&self, position: u64) -> Result<Recorded> {
        let chunk = {
            let index = self.index.read();
            let chunks = index.chunks();
            chunks.of_position(position).and_then(|i| chunks.get(i))
        };
        let chunk = chunk.ok_or(Error::Closed)?;
        let loaded = self.load(chunk, Effort::Blocking)?;
        let (frame, event) = loaded
            .locate(position)
            .ok_or_else(|| self.lost(position, chunk))?;
        Ok(Recorded::new(loaded, frame, event))
    }
}

fn replayed(frame: &FrameView<'_>) -> Appended {
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
