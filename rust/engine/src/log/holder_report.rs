//! Which process holds a store and how far its recovery is, in words: bytes for people, which
//! are never trusted. A process that waits for the store only looks whether they change.

use std::io::{self, IoSlice};
use std::sync::Arc;

use super::layout::Layout;
use crate::vfs::{OpenMode, VfsFile, write_all_at};

/// Bytes of log between two reports of a recovery.
const REPORTED: u64 = 16 << 20;

/// The report of the process that holds a store.
///
/// It is never synced, and no failure to write it is an error: a full disk keeps nobody from
/// opening a store to read it.
#[derive(Debug)]
pub(crate) struct Holder {
    file: Option<Arc<dyn VfsFile>>,
    program: String,
    reported: u64,
}

impl Holder {
    /// Begins the report of this process. The file of an earlier process is written over: a full
    /// disk may have no room for another one. A file that has a further name is replaced instead,
    /// because the other name is that of a copy of the store; so is one that can't be opened.
    pub(crate) fn begin(layout: &Layout) -> Self {
        let path = layout.holder();
        let (vfs, is_own) = (&layout.vfs, Self::is_own(layout));
        let kept = is_own.then(|| vfs.open(&path, OpenMode::ReadWrite));
        let file = kept.and_then(io::Result::ok).or_else(|| {
            let _removed = layout.remove_if_there(&path);
            vfs.open(&path, OpenMode::CreateNew).ok()
        });
        let program = std::env::args_os().next().unwrap_or_default();
        let program = program.to_string_lossy();
        let holder = Self {
            file,
            program: program.into_owned(),
            reported: 0,
        };
        holder.write("");
        holder
    }

    /// Whether the file is there and has no other name.
    fn is_own(layout: &Layout) -> bool {
        let file = layout.vfs.open_lock(&layout.holder(), false);
        file.and_then(|file| file.links())
            .is_ok_and(|links| links == 1)
    }

    /// Reports that the log is read up to the address `done` of about `total`, from time to
    /// time.
    pub(crate) fn progress(&mut self, done: u64, total: u64) {
        if done.saturating_sub(self.reported) >= REPORTED {
            self.reported = done;
            let total = total.max(done);
            self.write(&format!(
                " (recovering the log, {done} of {total} bytes are read)"
            ));
        }
    }

    /// Reports that the recovery is over.
    pub(crate) fn end(&self) {
        if self.reported > 0 {
            self.write("");
        }
    }

    /// The state comes before the program, whose path may be longer than all that is shown.
    fn write(&self, state: &str) {
        let (pid, program) = (std::process::id(), &self.program);
        let text = format!("process {pid}{state} running {program}");
        let padding = std::iter::repeat_n(b' ', SHOWN);
        let padded: Vec<u8> = text.bytes().chain(padding).take(SHOWN).collect();
        if let Some(file) = &self.file {
            let _written = write_all_at(&**file, &[IoSlice::new(&padded)], 0);
        }
    }
}

/// As many bytes as a process writes of itself.
const SHOWN: usize = 256;

/// What is shown of them: their first 256, on one line, without what a terminal would obey.
pub(crate) fn shown(bytes: &[u8]) -> String {
    let told = String::from_utf8_lossy(bytes.get(..SHOWN).unwrap_or(bytes));
    let printable = |c: char| match c {
        c if c.is_control() => char::REPLACEMENT_CHARACTER,
        // What turns the direction of a text would show another one.
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => char::REPLACEMENT_CHARACTER,
        c => c,
    };
    told.trim().chars().map(printable).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_process_wrote_is_shown_as_it_is() {
        let padded = format!("{:256}", "process 7 running /usr/bin/pythön");
        assert_eq!(
            shown(padded.as_bytes()),
            "process 7 running /usr/bin/pythön"
        );
        assert_eq!(shown(b""), "");
    }

    #[test]
    fn junk_is_shown_short_on_one_line_and_moves_no_cursor() {
        for junk in [
            [0xff; 4096].as_slice(),
            &b"\x1b[2J\n".repeat(100),
            &[0; 300],
            "\u{202e}\u{85}".repeat(100).as_bytes(),
        ] {
            let told = shown(junk);
            assert!(told.chars().count() <= SHOWN, "{told:?}");
            assert!(!told.contains(char::is_control), "{told:?}");
            assert!(!told.contains('\u{202e}'), "{told:?}");
        }
    }
}
