//! A descriptor that is readable while it is set.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

/// An eventfd where there is one: one descriptor, a counter in the kernel. Elsewhere, and
/// where a sandbox refuses it, a pair of connected sockets.
pub(super) struct Signal {
    reader: OwnedFd,
    /// The other end; what is read is written too if there is none.
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

    /// Makes it readable. Can only fail if it is full of what was written before: it is
    /// readable then.
    pub(super) fn set(&self) {
        let writer = self.writer.as_ref().unwrap_or(&self.reader);
        // The kernel adds this number to a counter; any but 0 will do, in any byte order.
        let _full = rustix::io::write(writer, &1_u64.to_le_bytes());
    }

    /// Makes it unreadable. Fails if it isn't set: that is the aim. It is set once for each
    /// time that it is cleared, so that one read empties a socket too.
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
