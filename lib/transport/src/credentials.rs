//! Who is at the other end of a connection, as the kernel says.
#![expect(
    unsafe_code,
    reason = "SO_PEERCRED gives process 0 for a peer of another PID namespace, which the safe wrappers cannot hold"
)]

use std::io;
use std::os::fd::{AsFd, AsRawFd as _};

/// The peer as it was when it connected.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Credentials {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// 0 for a process that this PID namespace does not see.
    pub(crate) pid: i32,
}

/// Asks the kernel.
pub(crate) fn of_peer(socket: impl AsFd) -> io::Result<Credentials> {
    let mut found = libc::ucred {
        pid: 0,
        uid: u32::MAX,
        gid: u32::MAX,
    };
    let mut length = libc::socklen_t::try_from(size_of::<libc::ucred>()).expect("twelve bytes");
    // SAFETY: the descriptor is open for the call; the kernel writes at most `length` bytes, which is the
    // size of `found`, and any bytes are a valid `ucred`.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut found).cast(),
            &raw mut length,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(Credentials {
        uid: found.uid,
        gid: found.gid,
        pid: found.pid,
    })
}
