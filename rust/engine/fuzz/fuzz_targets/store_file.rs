//! One file of a small store has other bytes: the store returns its log, or a typed error.
//!
//! A store that was closed must return its complete log. After the death of a process nothing
//! proves that its last frames are durable, so a log that is shorter by whole commits is correct,
//! too.
#![no_main]

use std::path::PathBuf;
use std::sync::LazyLock;

use eventbraid_engine::Error;
use eventbraid_engine::vfs::sim::SimVfs;
use eventbraid_engine_fuzz::stores::{self, Content};
use eventbraid_engine_fuzz::{allocator::Limited, forge, take};
use libfuzzer_sys::fuzz_target;

#[global_allocator]
static ALLOCATOR: Limited = Limited;

struct Template {
    vfs: SimVfs,
    files: Vec<PathBuf>,
    events: Vec<Content>,
}

fn template(closed: bool) -> Template {
    let vfs = stores::small(closed);
    let store = stores::open(&vfs.process_crash()).unwrap();
    let events = stores::read(&store).unwrap();
    Template {
        files: stores::files(&vfs),
        vfs,
        events,
    }
}

static CLOSED: LazyLock<Template> = LazyLock::new(|| template(true));
static DIED: LazyLock<Template> = LazyLock::new(|| template(false));

/// Return the new bytes of the file: the input itself, or the old bytes with the input written
/// over, appended at or inserted at an offset.
fn damaged(old: &[u8], how: u8, at: u16, input: &[u8]) -> Vec<u8> {
    let mut bytes = old.to_vec();
    let at = usize::from(at) % (bytes.len() + 1);
    match how % 4 {
        0 => bytes = input.to_vec(),
        1 => {
            let end = bytes.len().min(at + input.len());
            bytes[at..end].copy_from_slice(&input[..end - at]);
        }
        2 => {
            bytes.truncate(at);
            bytes.extend_from_slice(input);
        }
        _ => bytes.splice(at..at, input.iter().copied()).for_each(drop),
    }
    bytes
}

/// Correct the checksums, which makes the file forged instead of damaged: the engine may accept
/// it, but must not panic or lose commits between the ones it returns.
fn forged(name: &str, bytes: &mut Vec<u8>) {
    match name {
        name if name.ends_with(".hot") => forge::segment_header(bytes),
        name if name.contains("MANIFEST") => forge::manifest(bytes),
        name if name.contains("IDENTITY") => forge::identity(bytes),
        _ => {}
    }
}

fn is_expected(error: &Error) -> bool {
    matches!(
        error,
        Error::CorruptStore { .. } | Error::NotAStore { .. } | Error::IncompatibleFormat { .. }
    )
}

fuzz_target!(|bytes: &[u8]| {
    let mut bytes = bytes;
    let [closed, file, how, forge] = take(&mut bytes);
    let at = u16::from_le_bytes(take(&mut bytes));
    let closed = closed % 2 == 0;
    let template: &Template = if closed { &CLOSED } else { &DIED };
    let path = &template.files[usize::from(file) % template.files.len()];
    let vfs = template.vfs.process_crash();
    let mut content = damaged(&vfs.read_file(path).unwrap(), how, at, bytes);
    let forge = forge % 4 == 3;
    if forge {
        forged(&path.to_string_lossy(), &mut content);
    }
    vfs.write_outside(path, &content).unwrap();
    let read = stores::open(&vfs).and_then(|store| {
        let found = stores::read(&store)?;
        stores::append(&store, &[("z", b"continues")], None)?;
        stores::read(&store)?;
        Ok(found)
    });
    match read {
        Ok(found) if closed && !forge => assert_eq!(found, template.events, "{path:?}"),
        Ok(found) => assert!(template.events.starts_with(&found), "{path:?}: {found:?}"),
        Err(error) => assert!(is_expected(&error), "{path:?}: {error}"),
    }
});
