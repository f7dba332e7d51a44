//! The write phase: validate the queued appends and write their frames with one call.

use std::io;
use std::sync::Arc;

use super::answer::{Answer, WriteBatch};
use super::commit_time::Clocks;
use super::plan::{PlannedBatch, SharedFields};
use super::poison::Poison;
use super::preallocation::Preallocation;
use super::prepare::{Prepared, PreparedStream};
use super::publication::Publication;
use super::queue::AppendQueue;
use super::refused_write::is_refusal;
use super::request::Request;
use super::shared_writer::Writer;
use super::sync::Syncer;
use super::validate::{BaseVersions, Decision, ValidationState};
use crate::append::Appended;
use crate::coord::{CoordPage, Reserved};
use crate::error::{Error, Result};
use crate::live::LiveLog;
use crate::names::NameHasher;

/// Validates and writes the queued appends.
#[derive(Debug)]
pub(super) struct WritePhase {
    pub(super) log: Arc<LiveLog>,
    pub(super) queue: Arc<AppendQueue>,
    pub(super) publication: Arc<Publication>,
    pub(super) poison: Arc<Poison>,
    pub(super) syncer: Arc<Syncer>,
    pub(super) preallocation: Arc<Preallocation>,
    /// A random number that identifies this session in the frames that it writes.
    pub(super) epoch: u64,
}

/// The result of a write phase, and the work that it leaves to other threads.
pub(super) struct Outcome {
    pub(super) batch: WriteBatch,
    /// Whether appends were deferred until a reservation ends.
    pub(super) has_deferred: bool,
    /// Whether frames were written.
    pub(super) has_grown: bool,
}

impl WritePhase {
    /// Validate the queued appends that fit into the segment, and write their frames. The caller
    /// holds the write lock. Appends to streams that another writer has reserved are deferred, by
    /// themselves or by their category.
    pub(super) fn run(&self, writer: &mut Writer, reserved: Option<&Reserved>) -> Outcome {
        let durable_hint = self.publication.durable_end();
        writer.unsynced_state.forget_durable(durable_hint);
        let now = self.commit_time(writer);
        let seed = self.log.seed;
        let stamp = SharedFields {
            seed,
            durable_hint,
            commit_time: now,
            epoch: self.epoch,
        };
        let requests = self.queue.take();
        let mut plan = PlannedBatch::new(&writer.tail, stamp, requests.len());
        let mut requests = requests.into_iter();
        let mut has_deferred = false;
        while let Some(mut request) = requests.next() {
            if let Some(reserved) = reserved
                && is_excluded(&request, reserved, &self.log.hasher)
            {
                request.was_deferred = true;
                self.queue.defer(request, reserved);
                has_deferred = true;
                continue;
            }
            match self.admit(writer, &mut plan, &mut request.prepared) {
                Ok(Some(answer)) => plan.answers.push((request, answer)),
                Ok(None) => {
                    let rest = std::iter::once(request).chain(requests.by_ref()).collect();
                    self.queue.put_back(rest);
                }
                Err(e) => {
                    let is_busy = matches!(e, Error::StoreBusy { .. });
                    plan.answers
                        .push((request, Answer::Unwritten(Err(e.clone()))));
                    // Refuse the remaining requests too: each of them would wait for the same
                    // process until the lock timeout is over.
                    if is_busy {
                        let refuse = |request| (request, Answer::Unwritten(Err(e.clone())));
                        plan.answers.extend(requests.by_ref().map(refuse));
                    }
                }
            }
        }
        let (batch, has_grown) = self.write(writer, plan);
        Outcome {
            batch,
            has_deferred,
            has_grown,
        }
    }

    /// Return the commit time of the next batch. Record in the shared page the clock difference
    /// that was accepted for this time.
    fn commit_time(&self, writer: &mut Writer) -> u64 {
        let vfs = &self.log.segments.layout.vfs;
        let clocks = Clocks {
            wall: vfs.now_micros(),
            since_boot: vfs.since_boot_micros(),
        };
        let page = self.log.coord.session().map(|session| &session.page);
        let shared = page.and_then(CoordPage::clock);
        let commit_time = writer.clock.stamp(clocks, writer.last_commit_time, shared);
        self.log
            .local
            .clock_jumps
            .add(u64::from(commit_time.has_jumped));
        if let Some(page) = page.filter(|_| shared != Some(commit_time.accepted)) {
            page.set_clock(commit_time.accepted);
        }
        commit_time.time
    }

    /// Validate one append and add its frame to the batch. Return `None` if the frame does not fit
    /// into the segment and the batch already has frames: the batch is written first.
    fn admit(
        &self,
        writer: &mut Writer,
        plan: &mut PlannedBatch,
        prepared: &mut Prepared,
    ) -> Result<Option<Answer>> {
        self.log.health()?;
        if prepared.is_sync_marker() && writer.ends_in_marker && plan.entries.is_empty() {
            // The log already ends in a sync marker, for example of another session.
            return Ok(Some(Answer::Unwritten(Ok(empty_result()))));
        }
        let length = prepared.frame.len() as u64;
        let (decision, base_versions) = self.decide(writer, plan, prepared);
        Ok(Some(match decision {
            Decision::Write => {
                if plan.tail.address + length > plan.tail.segment.end() {
                    if !plan.entries.is_empty() {
                        return Ok(None);
                    }
                    self.roll(writer, length)?;
                    plan.restart(&writer.tail);
                }
                if let Some(pending) = &prepared.pending {
                    pending.accept();
                }
                Answer::Written(plan.add(prepared, &base_versions))
            }
            Decision::Checked(appended) => Answer::Unwritten(Ok(appended)),
            Decision::Durable(address) => Answer::Durable(address),
            Decision::Replay(appended) => {
                self.log.counters.replays.add(1);
                Answer::Replayed(appended)
            }
            Decision::Refuse(error) => {
                self.log.counters.conflicts.add(1);
                Answer::Unwritten(Err(error))
            }
        }))
    }

    /// Return the decision on one append, and the versions that the decision is based on.
    fn decide(
        &self,
        writer: &Writer,
        plan: &PlannedBatch,
        prepared: &Prepared,
    ) -> (Decision, BaseVersions) {
        let index = self.log.index.read();
        let state = ValidationState {
            index: &*index,
            written: &writer.unsynced_state,
            batch: &plan.unsynced_state,
        };
        let base_versions = state.base_versions(prepared, &self.log.hasher);
        (state.decide(prepared), base_versions)
    }

    /// Move the tail to the next segment. The old segment is synced first: the first frame of a
    /// segment proves to recovery that everything before that segment was durable.
    fn roll(&self, writer: &mut Writer, length: u64) -> Result<()> {
        self.syncer.sync_to(writer.tail.address)?;
        let next = self
            .preallocation
            .prepare_after(&writer.tail.segment, length)?;
        next.activate()?;
        writer.tail.address = next.first_frame();
        writer.tail.segment = next;
        let before = self.publication.end_point();
        let last = (before.end, before.commit_time, before.ends_in_marker);
        self.publication.publish(&writer.tail, last, None);
        self.log.segments.release_before(&writer.tail.segment);
        Ok(())
    }

    /// Write the frames of the batch with one call. Return the answers, and whether frames were
    /// written.
    fn write(&self, writer: &mut Writer, mut plan: PlannedBatch) -> (WriteBatch, bool) {
        let has_frames = !plan.entries.is_empty();
        if has_frames {
            let preallocation = self
                .preallocation
                .ensure_allocated(&plan.begin.segment, plan.tail.address);
            if let Err(error) = preallocation {
                return (self.refuse(plan, &error), false);
            }
            self.begin_write(&plan);
            if let Err((e, written)) = plan.write() {
                return (self.roll_back(writer, plan, &e, written), false);
            }
            let commits = plan.commits;
            let last = (plan.tail.address, plan.commit_time(), plan.ends_in_marker);
            self.publication
                .publish(&plan.tail, last, plan.entries.drain(..));
            self.end_write();
            writer.unsynced_state.absorb(&mut plan.unsynced_state);
            writer.last_commit_time = plan.commit_time();
            writer.ends_in_marker = plan.ends_in_marker;
            writer.tail = plan.tail;
            // A batch that has only a sync marker is not counted.
            self.log.counters.write_batches.add(u64::from(commits > 0));
            self.log.counters.commits.add(commits);
            self.log.counters.events.add(plan.events);
            if let Some(session) = self.log.coord.shared() {
                session.slot.publish(self.log.counters.read());
            }
        }
        let is_awaited = !plan.answers.is_empty();
        let batch = WriteBatch {
            validated_against: if is_awaited { writer.tail.address } else { 0 },
            answers: plan.answers,
        };
        (batch, has_frames)
    }

    /// Record in the shared page where this write will end. If the process dies during the write,
    /// the next writer zeroes the bytes up to that address.
    fn begin_write(&self, plan: &PlannedBatch) {
        if let Some(session) = self.log.coord.shared() {
            session.page.set_dirty(plan.tail.address);
            self.log.segments.layout.vfs.at("dirty");
        }
    }

    fn end_write(&self) {
        if let Some(session) = self.log.coord.shared() {
            session.page.set_dirty(0);
        }
    }

    /// Refuse with `error` the appends of the batch that had frames, and queue the other requests
    /// again. Unless `error` is [`Error::OutcomeUnknown`], none of the frames is in the file, and
    /// none can appear after a crash.
    fn refuse(&self, plan: PlannedBatch, error: &Error) -> WriteBatch {
        let (answers, others) = plan.refuse(error);
        self.queue.put_back(others);
        WriteBatch {
            validated_against: 0,
            answers,
        }
    }

    /// Roll back a failed write. Parts of the batch may be on disk, including whole frames. They
    /// are zeroed and the zeros are synced before any caller gets the answer that nothing was
    /// written. If the rollback fails too, the outcome is unknown and the store is poisoned.
    fn roll_back(
        &self,
        writer: &Writer,
        plan: PlannedBatch,
        error: &io::Error,
        written: usize,
    ) -> WriteBatch {
        let segment = &writer.tail.segment;
        let refusal = segment.error("write", error);
        self.preallocation
            .note_full(matches!(refusal, Error::StorageFull { .. }));
        let written = written as u64;
        // If the kernel refused the write and the file has only zeros after the counted bytes,
        // exactly those bytes were written. Zero only those, because the kernel would refuse to
        // write further zeros. After any other error, any part of the batch may have been written.
        let is_counted = is_refusal(error) && plan.is_zero_after(written).unwrap_or(false);
        let touched = if is_counted { written } else { plan.length() };
        if touched == 0 {
            self.end_write();
            return self.refuse(plan, &refusal);
        }
        let zeroed = plan.zero_written(touched);
        let zeroed = zeroed.map_err(|e| segment.error("zero", &e));
        let answer = match zeroed.and_then(|()| self.syncer.sync_one_segment(segment)) {
            Ok(()) => {
                self.end_write();
                refusal
            }
            Err(e) => {
                let path = segment.path.display();
                let reason =
                    format!("writing {path} failed ({error}), and so did the rollback ({e})");
                self.poison.poison(reason.clone());
                Error::OutcomeUnknown { reason }
            }
        };
        self.refuse(plan, &answer)
    }
}

/// Whether an append has to wait because it writes a stream that another writer has reserved, or a
/// stream of a reserved category.
fn is_excluded(request: &Request, reserved: &Reserved, hasher: &NameHasher) -> bool {
    let prepared = &request.prepared;
    let is_of_other_writer = !request.was_deferred && prepared.reservation != reserved.id;
    let is_reserved = |stream: &PreparedStream| {
        reserved.has(stream.hash) || reserved.has(hasher.category_of(&stream.name))
    };
    is_of_other_writer && prepared.written().iter().any(is_reserved)
}

/// The answer to a sync marker that is no longer needed.
fn empty_result() -> Appended {
    Appended {
        first_position: None,
        last_position: None,
        versions: Vec::new(),
        replayed: false,
    }
}
