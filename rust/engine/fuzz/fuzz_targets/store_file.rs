//! One file of a small store holds other bytes: the store tells the truth, or a typed error.
//!
//! Of a store that was closed, the truth is all of its log. After a mere death of the process
//! the last frames have no witness, so that a shorter log, cut between two commits, is the
//! truth as well.
#![no_main]

use std::path::PathBuf;
use std::sync::LazyLock;

use eventbraid_engine::Error;
use eventbraid_engine::vfs::sim::SimVfs;
use eventbraid_engine_fuzz::stores::{self, Shown};
use eventbraid_engine_fuzz::{allocator::Limited, forge, take};
use libfuzzer_sys::fuzz_target;

#[global_allocator]
static ALLOCATOR: Limited = Limited;

struct Template {
    vfs: SimVfs,
    files: Vec<PathBuf>,
    truth: Vec<Shown>,
}

fn template(closed: bool) -> Template {
    let vfs = stores::small(closed);
    let store = stores::open(&vfs.process_crash()).unwrap();
    let truth = stores::read(&store).unwrap();
    Template {
        files: stores::files(&vfs),
        vfs,
        truth,
    }
}

static CLOSED: LazyLock<Template> = LazyLock::new(|| template(true));
static DIED: LazyLock<Template> = LazyLock::new(|| template(false));

/// The file's new bytes: the input itself, or the old ones with the input laid over a place,
/// ended there or not, with checksums that were made to fit or not.
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

/// Records that say, under a checksum that fits, what was never written are forged, not
/// damaged: they may be believed, but must do no harm.
fn forged(name: &str, bytes: &mut Vec<u8>) {
    match name {
        name if name.ends_with(".hot") => forge::segment_header(bytes),
        name if name.contains("MANIFEST") => forge::manifest(bytes),
        name if name.contains("IDENTITY") => forge::identity(bytes),
        _ => {}
    }
}

fn is_told(error: &Error) -> bool {
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
        stores::append(&store, &[("z", b"goes on")], None)?;
        stores::read(&store)?;
        Ok(found)
    });
    match read {
        Ok(found) if closed && !forge => assert_eq!(found, template.truth, "{path:?}"),
        Ok(found) => assert!(template.truth.starts_with(&found), "{path:?}: {found:?}"),
        Err(error) => assert!(is_told(&error), "{path:?}: {error}"),
    }
});
