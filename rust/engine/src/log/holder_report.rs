//! The file `live.holder`: which process has the store open, and how far its recovery is.
//!
//! The content is text for error messages and is never trusted. A process that waits for the store
//! shows the text, and continues to wait while the text changes.

use std::io::{self, IoSlice};
use std::sync::Arc;

use super::directory_layout::Layout;
use crate::vfs::{OpenMode, VfsFile, write_all_at};

/// The number of bytes of log between two reports of progress.
const INTERVAL: u64 = 16 << 20;

/// The report of this process.
///
/// It is never synced, and a failure to write it is not an error: a store on a full disk must
/// still open for reading.
#[derive(Debug)]
pub(crate) struct HolderReport {
    file: Option<Arc<dyn VfsFile>>,
    program: String,
    /// The address that was reported last.
    reported: u64,
}

impl HolderReport {
    /// Begin the report of this process. The file of an earlier process is overwritten, because a
    /// full disk may have no room for a new file. A file with a second name is replaced instead,
    /// because the second name is part of a copy of the store by hard links. A file that can't be
    /// opened is replaced, too.
    pub(crate) fn begin(layout: &Layout) -> Self {
        let path = layout.holder();
        let (vfs, has_one_name) = (&layout.vfs, Self::has_one_name(layout));
        let existing = has_one_name.then(|| vfs.open(&path, OpenMode::ReadWrite));
        let file = existing.and_then(io::Result::ok).or_else(|| {
            let _removed = layout.remove_if_there(&path);
            vfs.open(&path, OpenMode::CreateNew).ok()
        });
        let program = std::env::args_os().next().unwrap_or_default();
        let program = program.to_string_lossy();
        let report = Self {
            file,
            program: program.into_owned(),
            reported: 0,
        };
        report.write("");
        report
    }

    /// Whether the file exists and has no second name.
    fn has_one_name(layout: &Layout) -> bool {
        let file = layout.vfs.open_lock(&layout.holder(), false);
        file.and_then(|file| file.links())
            .is_ok_and(|links| links == 1)
    }

    /// Report that the log has been read up to the address `done` of about `total`. At most one
    /// report is written for every [`INTERVAL`] bytes.
    pub(crate) fn progress(&mut self, done: u64, total: u64) {
        if done.saturating_sub(self.reported) >= INTERVAL {
            self.reported = done;
            let total = total.max(done);
            self.write(&format!(
                " (recovering the log, has read {done} of {total} bytes)"
            ));
        }
    }

    /// Report that the recovery has ended.
    pub(crate) fn end(&self) {
        if self.reported > 0 {
            self.write("");
        }
    }

    /// Write the report. The state is written before the program: a report that exceeds the limit
    /// is cut at its end, and the program's path may be long.
    fn write(&self, state: &str) {
        let (pid, program) = (std::process::id(), &self.program);
        let text = format!("process {pid}{state} running {program}");
        let padding = std::iter::repeat_n(b' ', LIMIT);
        let padded: Vec<u8> = text.bytes().chain(padding).take(LIMIT).collect();
        if let Some(file) = &self.file {
            let _written = write_all_at(&**file, &[IoSlice::new(&padded)], 0);
        }
    }
}

/// The maximum length of a report in bytes.
const LIMIT: usize = 256;

/// Return a report in a form that is safe to print: the first [`LIMIT`] bytes, on one line, without
/// characters that control a terminal.
pub(crate) fn printable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes.get(..LIMIT).unwrap_or(bytes));
    let replace = |c: char| match c {
        c if c.is_control() => char::REPLACEMENT_CHARACTER,
        // These characters change the direction of text, and could make a report look like another
        // text.
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => char::REPLACEMENT_CHARACTER,
        c => c,
    };
    text.trim().chars().map(replace).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_printed_as_it_was_written() {
        let padded = format!("{:256}", "process 7 running /usr/bin/pythön");
        assert_eq!(
            printable(padded.as_bytes()),
            "process 7 running /usr/bin/pythön"
        );
        assert_eq!(printable(b""), "");
    }

    #[test]
    fn a_damaged_report_is_printed_short_and_without_control_characters() {
        for junk in [
            [0xff; 4096].as_slice(),
            &b"\x1b[2J\n".repeat(100),
            &[0; 300],
            "\u{202e}\u{85}".repeat(100).as_bytes(),
        ] {
            let text = printable(junk);
            assert!(text.chars().count() <= LIMIT, "{text:?}");
            assert!(!text.contains(char::is_control), "{text:?}");
            assert!(!text.contains('\u{202e}'), "{text:?}");
        }
    }
}
