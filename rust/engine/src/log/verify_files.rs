//! What `verify` compares in the small files and the segment headers of an open store.

use std::time::Duration;

use super::identity::Identity;
use super::manifest::Manifest;
use super::segments::{RELOADS, Segments};
use crate::error::{Error, Result};
use crate::options::Mode;

impl Segments {
    /// Compare IDENTITY, CURRENT, the manifest and the segments' headers on the disk with what the
    /// store was opened with and has created since.
    pub(crate) fn verify_files(&self) -> Result<()> {
        let layout = &self.layout;
        if Identity::read(layout)? != Some(self.identity) {
            let reason = "it is not the identity that the store was opened with";
            return Err(Error::corrupt(&layout.identity(), 0, reason));
        }
        self.verify_manifest()?;
        for segment in self.all() {
            if !segment.has_its_header(self.identity.uuid)? {
                let reason = "its header is not the one that the segment was created with";
                return Err(Error::corrupt(&segment.path, 0, reason));
            }
        }
        Ok(())
    }

    fn verify_manifest(&self) -> Result<()> {
        if self.may_be_written_by_others() {
            return self.verify_successor();
        }
        let _guard = self.maintenance.acquire()?;
        let mut manifest = self.manifest.lock();
        self.reload_shared(&mut manifest)?;
        // After a failed rename it is unknown which manifest is the live one.
        if self.layout.is_unsure() || Manifest::live(&self.layout)?.as_ref() == Some(&*manifest) {
            return Ok(());
        }
        let reason = "it does not name the manifest of the open log; \
                      the next session that writes creates a new one";
        Err(Error::corrupt(&self.layout.current(), 0, reason))
    }

    /// Whether a writer may change the store while this session has it open. A read-only session
    /// that holds no lock excludes no writer.
    fn may_be_written_by_others(&self) -> bool {
        self.is_read_only() && self.options.mode == Mode::Shared && !self.maintenance.is_joinable()
    }

    /// Compare the manifest that this session has read with the live one, which another session may
    /// have published since. The live manifest must list all segments of the former, and may list
    /// further ones.
    fn verify_successor(&self) -> Result<()> {
        let opened = self.manifest.lock().clone();
        for _ in 0..RELOADS {
            match Manifest::live(&self.layout)? {
                Some(live) if live.segments.starts_with(&opened.segments) => return Ok(()),
                Some(_) => break,
                // Another session may be replacing the manifest at this moment.
                None => self.layout.vfs.pause(Duration::from_millis(1)),
            }
        }
        let reason = "it names no manifest that lists the segments of the log";
        Err(Error::corrupt(&self.layout.current(), 0, reason))
    }

    /// Return the number of files in `quarantine/`.
    pub(crate) fn quarantined(&self) -> Result<u64> {
        let directory = self.layout.quarantine();
        match self.layout.vfs.list(&directory) {
            Ok(names) => Ok(names.len() as u64),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(0),
            Err(e) => Err(Error::io(&directory, "list", &e)),
        }
    }
}
