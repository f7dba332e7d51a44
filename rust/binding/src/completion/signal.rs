//! A descriptor that is readable while it is set.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

/// On Linux an eventfd: one descriptor, a counter in the kernel.
#[cfg(target_os = "linux")]
pub(super) struct Signal(OwnedFd);

#[cfg(target_os = "linux")]
impl Signal {
    pub(super) fn new() -> io::Result<Self> {
        use rustix::event::{EventfdFlags, eventfd};
        Ok(Self(eventfd(
            0,
            EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK,
        )?))
    }

    /// Makes it readable. Can only fail if it is set 2^64 - 2 times over: it is readable then.
    pub(super) fn set(&self) {
        // The kernel adds this number to its counter; any but 0 will do, in any byte order.
        let _full = rustix::io::write(&self.0, &1_u64.to_le_bytes());
    }

    /// Makes it unreadable. Fails if it isn't set: that is the aim.
    pub(super) fn clear(&self) {
        let _clear = rustix::io::read(&self.0, &mut [0; 8]);
    }

    fn readable(&self) -> &OwnedFd {
        &self.0
    }
}

/// Elsewhere a pair of connected sockets.
#[cfg(not(target_os = "linux"))]
pub(super) struct Signal {
    reader: OwnedFd,
    writer: OwnedFd,
}

#[cfg(not(target_os = "linux"))]
impl Signal {
    pub(super) fn new() -> io::Result<Self> {
        let (reader, writer) = std::os::unix::net::UnixStream::pair()?;
        reader.set_nonblocking(true)?;
        writer.set_nonblocking(true)?;
        Ok(Self {
            reader: reader.into(),
            writer: writer.into(),
        })
    }

    /// Makes it readable. Can only fail if the buffer is full: it is readable then.
    pub(super) fn set(&self) {
        let _full = rustix::io::write(&self.writer, &[1]);
    }

    /// Makes it unreadable. It is set once for each time that it is cleared, so that one
    /// read empties it.
    pub(super) fn clear(&self) {
        let _clear = rustix::io::read(&self.reader, &mut [0; 64]);
    }

    fn readable(&self) -> &OwnedFd {
        &self.reader
    }
}

impl AsRawFd for Signal {
    fn as_raw_fd(&self) -> RawFd {
        self.readable().as_raw_fd()
    }
}
