//! Benchmarks of the engine, each with a baseline measured in the same run.
//!
//! ```text
//! cargo bench -p eventbraid-engine -- [DIRECTORY] [--seconds N] [--events N] [--rows A,B] [--json]
//! ```
//!
//! Rounds of the engine alternate with rounds of the raw disk, so that a busy machine slows
//! both. Memory and openings are measured in child processes, whose pages are their own.
//! Without `--bench`, as under `cargo test --all-targets`, the rows are tiny and only shown to
//! work. The reasons are in `docs/decisions/0021-figures-of-the-engine.md`.
#![expect(clippy::print_stdout, reason = "a benchmark prints its results")]

#[path = "engine/child.rs"]
mod child;
#[path = "engine/commits.rs"]
mod commits;
#[path = "engine/disk.rs"]
mod disk;
#[path = "engine/row.rs"]
mod row;
#[path = "engine/shop.rs"]
mod shop;
#[path = "engine/stores.rs"]
mod stores;

use std::path::{Path, PathBuf};
use std::time::Duration;

use row::Row;

/// An error ends the benchmark.
type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// The size of the measurements.
struct Scale {
    directory: PathBuf,
    /// The duration of each row that is timed by the clock.
    time: Duration,
    events: u64,
    rows: Vec<String>,
    json: bool,
}

impl Scale {
    fn of_arguments(arguments: &[String]) -> Outcome<Self> {
        let is_benchmark = arguments.iter().any(|argument| argument == "--bench");
        let mut scale = Self {
            directory: std::env::temp_dir(),
            time: Duration::from_millis(50),
            events: 10_000,
            rows: Vec::new(),
            json: false,
        };
        if is_benchmark {
            scale.directory = std::env::current_dir()?;
            scale.time = Duration::from_secs(5);
            scale.events = 1_000_000;
        }
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let mut value = || {
                rest.next()
                    .ok_or_else(|| format!("{argument} takes a value"))
            };
            match argument.as_str() {
                "--seconds" => scale.time = Duration::from_secs_f64(value()?.parse()?),
                "--events" => scale.events = value()?.parse()?,
                "--rows" => scale.rows = value()?.split(',').map(str::to_owned).collect(),
                "--json" => scale.json = true,
                flag if flag.starts_with('-') => {}
                directory => scale.directory = Path::new(directory).to_path_buf(),
            }
        }
        Ok(scale)
    }

    fn wants(&self, row: &str) -> bool {
        self.rows.is_empty() || self.rows.iter().any(|wanted| wanted == row)
    }
}

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [first, rest @ ..] = arguments.as_slice()
        && first == child::FLAG
    {
        return child::run(rest);
    }
    let scale = Scale::of_arguments(&arguments)?;
    let directory = tempfile::Builder::new()
        .prefix("eventbraid-bench-")
        .tempdir_in(&scale.directory)?;
    let rows = measure(&scale, directory.path())?;
    if scale.json {
        println!("{}", row::json(&rows));
    } else {
        println!("{}", row::table(&rows));
    }
    Ok(())
}

fn measure(scale: &Scale, directory: &Path) -> Outcome<Vec<Row>> {
    let mut rows = Vec::new();
    if scale.wants("single") {
        rows.extend(commits::single(&directory.join("single"), scale.time)?);
    }
    if scale.wants("batch") {
        rows.extend(commits::batch(&directory.join("batch"), scale.time)?);
    }
    for shape in stores::Shape::ALL {
        if scale.wants(shape.name()) {
            let store = directory.join(shape.name());
            rows.extend(stores::rows(shape, &store, scale.events)?);
            std::fs::remove_dir_all(&store)?;
        }
    }
    Ok(rows)
}
