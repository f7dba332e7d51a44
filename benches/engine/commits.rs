//! The rate at which commits become durable.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use eventbraid_engine::vfs::os::OsVfs;
use eventbraid_engine::{Options, Store};

use crate::Outcome;
use crate::disk::{Growing, ZeroFilled};
use crate::row::{Row, Target};
use crate::shop::{EVENTS_A_COMMIT, Shop};

/// Commits of one event in a round.
const ROUND: usize = 50;
/// The maximum number of batches, whatever the duration of the row.
const BATCHES: usize = 2_000;

pub(crate) fn open(directory: &Path) -> Outcome<Store> {
    let vfs = Arc::new(OsVfs::new());
    Ok(Store::open(vfs, directory, Options::default())?)
}

/// One writer, one event a commit.
pub(crate) fn single(directory: &Path, time: Duration) -> Outcome<Vec<Row>> {
    std::fs::create_dir(directory)?;
    let store = open(&directory.join("store"))?;
    let mut raw = ZeroFilled::create(&directory.join("raw"))?;
    let mut shop = Shop::new();
    store.append(shop.single()?)?;
    let frame = vec![0x5a; usize::try_from(store.stats().bytes - 4096)?];
    let (mut engine, mut disk) = (Vec::new(), Vec::new());
    let begun = Instant::now();
    while begun.elapsed() < time {
        for _ in 0..ROUND {
            let begun = Instant::now();
            store.append(shop.single()?)?;
            engine.push(begun.elapsed());
        }
        for _ in 0..ROUND {
            disk.push(raw.commit(&frame)?);
        }
    }
    store.close()?;
    let of = |times: &mut Vec<Duration>, share| percentile(times, share).as_secs_f64() * 1e6;
    let name = "pwrite + fdatasync";
    let row = |label: &str, engine, disk| {
        Row::new(format!("one event a commit, {label}"), engine, "us").compared_with(name, disk)
    };
    let p50 = row("p50", of(&mut engine, 50), of(&mut disk, 50));
    let p99 = row("p99", of(&mut engine, 99), of(&mut disk, 99));
    Ok(vec![p50.with_target(Target::RatioAtMost(1.3)), p99])
}

fn percentile(times: &mut [Duration], share: usize) -> Duration {
    times.sort_unstable();
    let i = (times.len() * share / 100).min(times.len().saturating_sub(1));
    times.get(i).copied().unwrap_or_default()
}

/// Commits of a thousand events over ten of ten thousand streams.
pub(crate) fn batch(directory: &Path, time: Duration) -> Outcome<Vec<Row>> {
    std::fs::create_dir(directory)?;
    let store = open(&directory.join("store"))?;
    let mut raw = Growing::create(&directory.join("raw"))?;
    let mut shop = Shop::new();
    let (mut engine, mut disk) = (Duration::ZERO, Duration::ZERO);
    let (mut commits, mut bytes) = (0, store.stats().bytes);
    let begun = Instant::now();
    while begun.elapsed() < time && commits < BATCHES {
        let streams = shop.draw_batch();
        let begun = Instant::now();
        store.append(shop.batch(&streams)?)?;
        engine += begun.elapsed();
        let end = store.stats().bytes;
        disk += raw.commit(&vec![0x5a; usize::try_from(end - bytes)?])?;
        (commits, bytes) = (commits + 1, end);
    }
    store.close()?;
    std::fs::remove_dir_all(directory)?;
    #[expect(clippy::cast_precision_loss, reason = "a number for people")]
    let rate = |time: Duration| (commits * EVENTS_A_COMMIT) as f64 / time.as_secs_f64();
    let row = Row::new("commits of 1,000 events", rate(engine), "events/s");
    Ok(vec![
        row.compared_with("write + fdatasync", rate(disk))
            .with_target(Target::RatioAtLeast(0.5)),
    ])
}
