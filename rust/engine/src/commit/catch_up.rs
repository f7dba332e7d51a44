//! What other processes have written: read from the log, frame after frame.

use super::sync::Syncer;
use super::{Known, Tail, Written};
use crate::coord::Mark;
use crate::error::{Error, Result};
use crate::frame::FrameView;
use crate::index::FrameEntry;
use crate::log::{FrameScanner, Segment};
use crate::recovery::describe;

/// Shown each frame that is caught up on.
pub(super) type EachFrame<'a> = dyn FnMut(&FrameView<'_>, &FrameEntry) + 'a;

impl Syncer {
    /// Learns of all frames below a mark that another process has published.
    pub(super) fn follow(
        &self,
        known: &mut Known,
        to: &Mark,
        each: &mut EachFrame<'_>,
    ) -> Result<()> {
        if self.log.segments.of_ordinal(to.ordinal).is_none() {
            self.log.segments.refresh(to.ordinal)?;
        }
        while known.tail.address < to.address {
            let segment = std::sync::Arc::clone(&known.tail.segment);
            self.follow_segment(known, &segment, to, each)?;
            if known.tail.address < to.address {
                known.tail = self.go_on(known, to)?;
            }
        }
        if known.mark() != *to {
            return Err(self.contradiction(known, "it names another end of the log"));
        }
        Ok(())
    }

    /// Learns of the frames in one segment, up to the mark or to where no frame follows.
    fn follow_segment(
        &self,
        known: &mut Known,
        segment: &Segment,
        to: &Mark,
        each: &mut EachFrame<'_>,
    ) -> Result<()> {
        let end = to.address.min(segment.end());
        let mut scanner = FrameScanner::up_to(segment, end);
        let mut address = known.tail.address;
        while address < end {
            let read = scanner.frame(address, self.log.seed);
            let Ok(frame) = read.map_err(|e| segment.error("read", &e))? else {
                return Ok(());
            };
            let header = *frame.header();
            if header.previous_chain != known.tail.chain
                || header.first_position != known.tail.next_position
            {
                return Ok(());
            }
            let mut entry = FrameEntry::default();
            describe(&frame, address, &self.log.hasher, &mut entry);
            each(&frame, &entry);
            known.is_marked = frame.is_mark() && header.durable_hint == address;
            address = entry.end();
            known.tail.address = address;
            known.tail.next_position = header.next_position();
            known.tail.chain = frame.chain();
            known.end = address;
            known.commit_time = header.commit_time;
            let chain = frame.chain();
            known.unsynced.push_back(Written { entry, chain });
        }
        Ok(())
    }

    /// The beginning of the next segment, if the log can go on there.
    fn go_on(&self, known: &Known, to: &Mark) -> Result<Tail> {
        let next = known.tail.segment.entry.ordinal + 1;
        match self.log.segments.of_ordinal(next) {
            Some(segment) if segment.first_frame() <= to.address => Ok(Tail {
                address: segment.first_frame(),
                segment,
                ..known.tail
            }),
            _ => Err(self.contradiction(known, "it names frames that the log does not have")),
        }
    }

    fn contradiction(&self, known: &Known, reason: &str) -> Error {
        let address = known.tail.address;
        let reason = format!("{reason} (the log was followed to address {address})");
        self.log.coord.detached(&reason)
    }
}
