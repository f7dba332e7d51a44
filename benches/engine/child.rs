//! What is measured in a process of its own.

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
/// Events of a page.
const PAGE: usize = 4_096;
/// A writer that was told to be killed is given this long to write some more.
const MORE: Duration = Duration::from_millis(20);

/// What a child has measured.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) seconds: f64,
    /// Of these, on a processor: what a busy machine does not change.
    pub(crate) busy: f64,
    pub(crate) events: u64,
    /// The most memory that the process ever had.
    pub(crate) mebibytes: f64,
}

impl Answer {
    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    pub(crate) fn rate(&self) -> f64 {
        self.events as f64 / self.seconds
    }

    /// The rate by the time on a processor.
    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    pub(crate) fn rate_if_idle(&self) -> f64 {
        self.events as f64 / self.busy
    }
}

/// Has a child write a store, and kills it in the middle of an append.
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

/// Has a child measure a store.
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
        value.ok_or_else(|| format!("the child did not tell its {name}"))
    };
    let events = answer.get("events").and_then(Value::as_u64);
    Ok(Answer {
        seconds: number("seconds")?,
        busy: number("busy")?,
        events: events.ok_or("the child did not tell its events")?,
        mebibytes: number("mebibytes")?,
    })
}

fn command(store: &Path) -> Outcome<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(FLAG).arg(store);
    Ok(command)
}

/// The child's side.
pub(crate) fn run(arguments: &[String]) -> Outcome<()> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        [store, "write", shape, events] => {
            stores::write_for_ever(Shape::of_name(shape)?, Path::new(store), events.parse()?)
        }
        [store, what] => measure(Path::new(store), what),
        _ => Err(format!("a child can't {arguments:?}").into()),
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
        // Dies as it found the store: not closed.
        std::process::exit(0);
    }
    Ok(store.close()?)
}

/// Lists every stream; answers how many.
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

/// Reads every event; answers how many.
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

/// Seconds that this thread was on a processor; all that is measured runs in it.
fn busy() -> Outcome<f64> {
    let told = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanoseconds = told.split_whitespace().next();
    let nanoseconds: f64 = nanoseconds.ok_or("the kernel tells no times")?.parse()?;
    Ok(nanoseconds / 1e9)
}

/// `VmHWM` of this process.
fn peak_mebibytes() -> Outcome<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .and_then(|rest| rest.trim().strip_suffix(" kB"))
        .ok_or("the kernel does not tell the peak of memory")?;
    Ok(peak.trim().parse::<f64>()? / 1024.0)
}
