//! A signal: a descriptor that is readable while the signal is set.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

/// An eventfd on Linux, which is one descriptor and a counter in the kernel. On other systems, and
/// where a sandbox refuses it, a pair of connected sockets.
pub(super) struct Signal {
    reader: OwnedFd,
    /// The other socket; `None` for an eventfd, which is read and written by one descriptor.
    writer: Option<OwnedFd>,
}

impl Signal {
    pub(super) fn new() -> io::Result<Self> {
        match event_counter() {
            Some(counter) => Ok(Self {
                reader: counter,
                writer: None,
            }),
            None => Self::of_sockets(),
        }
    }

    fn of_sockets() -> io::Result<Self> {
        let (reader, writer) = UnixStream::pair()?;
        reader.set_nonblocking(true)?;
        writer.set_nonblocking(true)?;
        Ok(Self {
            reader: reader.into(),
            writer: Some(writer.into()),
        })
    }

    /// Make the descriptor readable. The write fails only if the buffer is full of earlier writes,
    /// and then the descriptor is readable.
    pub(super) fn set(&self) {
        let writer = self.writer.as_ref().unwrap_or(&self.reader);
        // The kernel adds this number to the counter. Any number but 0 has the same effect, so its
        // byte order doesn't matter.
        let _full = rustix::io::write(writer, &1_u64.to_le_bytes());
    }

    /// Make the descriptor unreadable. The read fails if the signal is not set, which is the same
    /// state. A signal is set at most a few times before it is cleared, so that one read empties a
    /// socket, too.
    pub(super) fn clear(&self) {
        let _clear = rustix::io::read(&self.reader, &mut [0; 64]);
    }
}

#[cfg(target_os = "linux")]
fn event_counter() -> Option<OwnedFd> {
    use rustix::event::{EventfdFlags, eventfd};
    eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).ok()
}

#[cfg(not(target_os = "linux"))]
fn event_counter() -> Option<OwnedFd> {
    None
}

impl AsRawFd for Signal {
    fn as_raw_fd(&self) -> RawFd {
        self.reader.as_raw_fd()
    }
}
