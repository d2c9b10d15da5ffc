//! The UNIX socket calls of the writer: none of them waits, none raises SIGPIPE.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::net::{self, AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType};

use crate::config::{EmitConfig, SocketKind};

/// Connects, or fails at once.
pub(crate) fn connect(config: &EmitConfig) -> io::Result<OwnedFd> {
    let address = address(&config.path)?;
    let kind = match config.kind {
        SocketKind::Stream => SocketType::STREAM,
        SocketKind::Seqpacket => SocketType::SEQPACKET,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = net::socket_with(AddressFamily::UNIX, kind, flags, None)?;
    if config.kind == SocketKind::Seqpacket {
        net::sockopt::set_socket_send_buffer_size(&socket, config.send_buffer_bytes)?;
    }
    net::connect(&socket, &address)?;
    Ok(socket)
}

pub(crate) fn address(path: &Path) -> io::Result<SocketAddrUnix> {
    SocketAddrUnix::new(path).map_err(|_| {
        io::Error::new(
            io::ErrorKind::InvalidInput,
            format!(
                "socket path {} is empty, has a zero byte or is longer than 107 bytes",
                path.display()
            ),
        )
    })
}

/// Outcome of a call that does not wait.
pub(crate) enum Io {
    /// So many bytes; for a read, 0 is the end.
    Done(usize),
    /// Not now.
    WouldBlock,
    /// The packet is larger than the kernel takes.
    TooLarge,
    /// The connection is over.
    Failed(io::Error),
}

pub(crate) fn send(socket: &OwnedFd, bytes: &[u8]) -> Io {
    outcome(net::send(
        socket,
        bytes,
        SendFlags::DONTWAIT | SendFlags::NOSIGNAL,
    ))
}

pub(crate) fn recv(socket: &OwnedFd, buffer: &mut [u8]) -> Io {
    outcome(net::recv(socket, buffer, RecvFlags::DONTWAIT).map(|(n, _)| n))
}

fn outcome(result: rustix::io::Result<usize>) -> Io {
    match result {
        Ok(n) => Io::Done(n),
        Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR | rustix::io::Errno::NOBUFS) => Io::WouldBlock,
        Err(rustix::io::Errno::MSGSIZE) => Io::TooLarge,
        Err(error) => Io::Failed(error.into()),
    }
}
