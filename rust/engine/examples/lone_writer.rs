//! One process that appends, without any other session, so that two builds of the engine can be
//! compared.
//!
//! ```text
//! cargo run --release -p eventbraid-engine --example lone_writer -- DIRECTORY COMMITS EVENTS [--no-threads]
//! ```
//!
//! It creates a store in a new directory, appends COMMITS commits of EVENTS events each, one after
//! another, and closes the store. `benches/cost_of_a_commit.py` counts its instructions and system
//! calls. With `--no-threads` all work is done in the caller's thread, and the counts of two runs
//! differ by less than a thousandth.

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;

use eventbraid_engine::vfs::os::OsVfs;
use eventbraid_engine::{Append, EventInput, Options, Store, prepare};

const STREAMS: u64 = 100;
const BODY: [u8; 200] = [b'x'; 200];

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut next = || {
        arguments
            .next()
            .ok_or("DIRECTORY COMMITS EVENTS are needed")
    };
    let directory = PathBuf::from(next()?);
    let commits: u64 = next()?.parse()?;
    let events: u64 = next()?.parse()?;
    let mut options = Options::default();
    options.background = arguments.next().as_deref() != Some("--no-threads");
    let store = Store::open(Arc::new(OsVfs::new()), &directory, options)?;
    for commit in 0..commits {
        append(&store, commit, events)?;
    }
    store.close()?;
    Ok(())
}

/// Appends one commit to a stream; the next one goes to the next of them.
fn append(store: &Store, commit: u64, events: u64) -> eventbraid_engine::Result<()> {
    let stream = format!("account-{:03}", commit % STREAMS);
    let event = EventInput {
        stream: &stream,
        event_type: "account.deposited",
        event_id: None,
        metadata: b"",
        library_metadata: b"",
        data: &BODY,
        content: None,
    };
    let events: Vec<EventInput<'_>> = (0..events).map(|_| event).collect();
    store.append(prepare(&Append {
        events: &events,
        ..Append::default()
    })?)?;
    Ok(())
}
