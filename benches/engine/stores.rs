//! A store of many events: opened after a clean close, opened after a kill, read, and listed.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::Outcome;
use crate::child::{self, Answer};
use crate::commits::open;
use crate::disk;
use crate::row::{Row, Target};
use crate::shop::{EVENTS_A_COMMIT, Shop};

/// The number of openings of each kind; their median counts.
const OPENINGS: usize = 3;
/// The maximum number of single commits in flight, while a store is filled.
const IN_FLIGHT: u64 = 2_000;

/// How the events were committed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Shape {
    Batches,
    Singles,
    Streams,
}

impl Shape {
    pub(crate) const ALL: [Self; 3] = [Self::Batches, Self::Singles, Self::Streams];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Batches => "batches",
            Self::Singles => "singles",
            Self::Streams => "streams",
        }
    }

    pub(crate) fn of_name(name: &str) -> Outcome<Self> {
        match name {
            "batches" => Ok(Self::Batches),
            "singles" => Ok(Self::Singles),
            "streams" => Ok(Self::Streams),
            _ => {
                Err(format!("{name:?} is not a shape: expected batches, singles or streams").into())
            }
        }
    }

    fn label(self) -> &'static str {
        match self {
            Self::Batches => "1,000 a commit",
            Self::Singles => "one a commit",
            Self::Streams => "one a stream",
        }
    }
}

/// Fills a store in a child, and measures it in other children.
pub(crate) fn rows(shape: Shape, store: &Path, events: u64) -> Outcome<Vec<Row>> {
    child::killed_while_writing(shape, store, events)?;
    let killed = median(store, "open-killed")?;
    let clean = median(store, "open")?;
    let replay = median(store, "replay")?;
    let list = median(store, "list")?;
    let (bytes, time) = disk::read_all(&store.join("log"))?;
    let name = |what: &str| format!("{what}, {}", shape.label());
    let plain = time.as_secs_f64();
    let seconds = Target::AtMost(0.5);
    let mut reading = Row::new(name("replay"), replay.rate(), "events/s");
    if matches!(shape, Shape::Batches) {
        reading = reading.with_target(Target::AtLeast(4e6));
    }
    #[expect(clippy::cast_precision_loss, reason = "a number for people")]
    let per_event = replay.events as f64 / plain;
    Ok(vec![
        Row::new(name("open after a kill"), killed.seconds, "s")
            .compared_with("plain read", plain)
            .with_target(seconds),
        Row::new(name("open after a clean close"), clean.seconds, "s")
            .compared_with("plain read", plain)
            .with_target(seconds),
        Row::new(name("processor time of the open"), clean.busy, "s"),
        reading.compared_with("plain read", per_event),
        Row::new(
            name("replay by processor time"),
            replay.rate_if_idle(),
            "events/s",
        ),
        Row::new(
            name("peak memory of open + replay"),
            replay.mebibytes,
            "MiB",
        )
        .with_target(Target::AtMost(250.0)),
        Row::new(name("list the streams"), list.seconds, "s").with_target(Target::AtMost(2.0)),
        Row::new(name("bytes an event"), ratio(bytes, replay.events), "bytes"),
    ])
}

#[expect(clippy::cast_precision_loss, reason = "a number for people")]
fn ratio(a: u64, b: u64) -> f64 {
    a as f64 / b.max(1) as f64
}

fn median(store: &Path, what: &str) -> Outcome<Answer> {
    let mut answers = Vec::new();
    for _ in 0..OPENINGS {
        answers.push(child::measured(what, store)?);
    }
    answers.sort_unstable_by(|a, b| a.seconds.total_cmp(&b.seconds));
    answers
        .into_iter()
        .nth(OPENINGS / 2)
        .ok_or_else(|| "nothing was measured".into())
}

/// Appends `events` events, prints their number, and continues until it is killed.
pub(crate) fn write_until_killed(shape: Shape, store: &Path, events: u64) -> Outcome<()> {
    let store = open(store)?;
    let mut shop = Shop::new();
    let in_flight = Arc::new(AtomicU64::new(0));
    let mut appended = 0;
    let mut is_reported = false;
    loop {
        match shape {
            Shape::Batches => {
                let streams = shop.draw_batch();
                store.append(shop.batch(&streams)?)?;
                appended += EVENTS_A_COMMIT as u64;
            }
            Shape::Streams => {
                store.append(shop.openings(appended)?)?;
                appended += EVENTS_A_COMMIT as u64;
            }
            Shape::Singles => {
                while in_flight.load(Ordering::Acquire) >= IN_FLIGHT {
                    std::thread::yield_now();
                }
                in_flight.fetch_add(1, Ordering::AcqRel);
                let arrived = Arc::clone(&in_flight);
                let done = move |_| {
                    arrived.fetch_sub(1, Ordering::AcqRel);
                };
                store.submit(shop.single()?, Box::new(done));
                appended += 1;
            }
        }
        if appended >= events && !is_reported {
            is_reported = true;
            println!("{appended}");
        }
    }
}
