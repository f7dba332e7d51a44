//! The baselines: the disk without the engine.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::Outcome;

/// The size in bytes of the file that is overwritten again and again.
const AREA: usize = 16 << 20;

/// A file of zeros that is written in place and synced.
#[derive(Debug)]
pub(crate) struct ZeroFilled {
    file: File,
    at: usize,
}

impl ZeroFilled {
    pub(crate) fn create(path: &Path) -> Outcome<Self> {
        let mut file = new_file(path)?;
        file.write_all(&vec![0; AREA])?;
        file.sync_all()?;
        Ok(Self { file, at: 0 })
    }

    /// Writes once and syncs: an append without the engine.
    pub(crate) fn commit(&mut self, bytes: &[u8]) -> Outcome<Duration> {
        if self.at + bytes.len() > AREA {
            self.at = 0;
        }
        let begun = Instant::now();
        self.file.write_all_at(bytes, self.at as u64)?;
        self.file.sync_data()?;
        self.at += bytes.len();
        Ok(begun.elapsed())
    }
}

/// A file that grows with each write.
#[derive(Debug)]
pub(crate) struct Growing {
    file: File,
}

impl Growing {
    pub(crate) fn create(path: &Path) -> Outcome<Self> {
        let file = new_file(path)?;
        Ok(Self { file })
    }

    /// Writes once and syncs.
    pub(crate) fn commit(&mut self, bytes: &[u8]) -> Outcome<Duration> {
        let begun = Instant::now();
        self.file.write_all(bytes)?;
        self.file.sync_data()?;
        Ok(begun.elapsed())
    }
}

fn new_file(path: &Path) -> Outcome<File> {
    let mut options = OpenOptions::new();
    Ok(options.read(true).write(true).create_new(true).open(path)?)
}

/// Reads all files of a directory from end to end; returns the bytes and the time.
pub(crate) fn read_all(directory: &Path) -> Outcome<(u64, Duration)> {
    let mut buffer = vec![0; 1 << 20];
    let mut bytes = 0;
    let begun = Instant::now();
    for entry in std::fs::read_dir(directory)? {
        let mut file = File::open(entry?.path())?;
        loop {
            let read = file.read(&mut buffer)?;
            if read == 0 {
                break;
            }
            bytes += read as u64;
        }
    }
    Ok((bytes, begun.elapsed()))
}
