//! Measurements that are made in a process of their own.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use eventbraid_engine::{LogQuery, Store};
use serde_json::{Value, json};

use crate::Outcome;
use crate::commits::open;
use crate::stores::{self, Shape};

/// The first argument of a child.
pub(crate) const FLAG: &str = "--child";
/// The number of events in a page.
const PAGE: usize = 4_096;
/// How long a writer continues after it has reported its number of events, until it is killed.
const MORE: Duration = Duration::from_millis(20);

/// The measurement of a child.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) seconds: f64,
    /// The processor time of the measured work in seconds, which other programs don't change.
    pub(crate) busy: f64,
    pub(crate) events: u64,
    /// The peak memory of the process.
    pub(crate) mebibytes: f64,
}

impl Answer {
    #[expect(clippy::cast_precision_loss, reason = "a number for people")]
    pub(crate) fn rate(&self) -> f64 {
        self.events as f64 / self.seconds
    }

    /// Return the number of events per second of processor time.
    #[expect(clippy::cast_precision_loss, reason = "a number for people")]
    pub(crate) fn rate_if_idle(&self) -> f64 {
        self.events as f64 / self.busy
    }
}

/// Starts a child that writes a store, and kills it during an append.
pub(crate) fn killed_while_writing(shape: Shape, store: &Path, events: u64) -> Outcome<()> {
    let arguments = ["write", shape.name(), &events.to_string()];
    let mut child = command(store)?
        .args(arguments)
        .stdout(Stdio::piped())
        .spawn()?;
    let output = child.stdout.take().ok_or("the child has no output")?;
    let mut line = String::new();
    let read = BufReader::new(output).read_line(&mut line);
    std::thread::sleep(MORE);
    child.kill()?;
    child.wait()?;
    if read? == 0 {
        return Err("the writing child ended by itself".into());
    }
    Ok(())
}

/// Starts a child that measures a store.
pub(crate) fn measured(what: &str, store: &Path) -> Outcome<Answer> {
    let output = command(store)?
        .arg(what)
        .stderr(Stdio::inherit())
        .output()?;
    if !output.status.success() {
        return Err(format!("the child that should {what} failed: {}", output.status).into());
    }
    let answer: Value = serde_json::from_slice(&output.stdout)?;
    let number = |name: &str| {
        let value = answer.get(name).and_then(Value::as_f64);
        value.ok_or_else(|| format!("the child did not report its {name}"))
    };
    let events = answer.get("events").and_then(Value::as_u64);
    Ok(Answer {
        seconds: number("seconds")?,
        busy: number("busy")?,
        events: events.ok_or("the child did not report its events")?,
        mebibytes: number("mebibytes")?,
    })
}

fn command(store: &Path) -> Outcome<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(FLAG).arg(store);
    Ok(command)
}

/// Runs the child's side.
pub(crate) fn run(arguments: &[String]) -> Outcome<()> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        [store, "write", shape, events] => {
            stores::write_until_killed(Shape::of_name(shape)?, Path::new(store), events.parse()?)
        }
        [store, what] => measure(Path::new(store), what),
        _ => Err(format!("{arguments:?} are not valid arguments of a child").into()),
    }
}

fn measure(directory: &Path, what: &str) -> Outcome<()> {
    let mut begun = (Instant::now(), busy()?);
    let store = open(directory)?;
    let mut ended = (Instant::now(), busy()?);
    let events = match what {
        "replay" | "list" => {
            begun = ended;
            let events = if what == "list" {
                list(&store)?
            } else {
                replay(&store)?
            };
            ended = (Instant::now(), busy()?);
            events
        }
        _ => store.head()?,
    };
    let answer = json!({
        "seconds": (ended.0 - begun.0).as_secs_f64(),
        "busy": ended.1 - begun.1,
        "events": events,
        "mebibytes": peak_mebibytes()?,
    });
    println!("{answer}");
    if what == "open-killed" {
        // Ends without closing the store, as the writer before it did.
        std::process::exit(0);
    }
    Ok(store.close()?)
}

/// Lists every stream; returns their number.
fn list(store: &Store) -> Outcome<u64> {
    let mut names = store.streams("", true)?;
    while !store.gather(&mut names)? {}
    let mut listed = 0;
    loop {
        let page = names.page(PAGE).len();
        if page == 0 {
            return Ok(listed);
        }
        listed += page as u64;
    }
}

/// Reads every event; returns their number.
fn replay(store: &Store) -> Outcome<u64> {
    let mut query = LogQuery::all();
    query.limit = PAGE;
    let (mut events, mut bytes) = (0, 0);
    loop {
        let page = store.read_log(&query)?;
        for event in &page.events {
            events += 1;
            bytes += event.data().len();
        }
        if !page.more {
            break;
        }
        query.after = page.next;
    }
    std::hint::black_box(bytes);
    Ok(events)
}

/// Return the processor time of this thread in seconds; all measured work runs in this thread.
fn busy() -> Outcome<f64> {
    let times = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanoseconds = times.split_whitespace().next();
    let nanoseconds: f64 = nanoseconds.ok_or("the kernel reports no times")?.parse()?;
    Ok(nanoseconds / 1e9)
}

/// Returns `VmHWM` of this process.
fn peak_mebibytes() -> Outcome<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .and_then(|rest| rest.trim().strip_suffix(" kB"))
        .ok_or("the kernel does not report the peak memory")?;
    Ok(peak.trim().parse::<f64>()? / 1024.0)
}
