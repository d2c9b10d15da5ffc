//! Makes the sockets: directory, mode, group, and a name that appears only when all of it is right.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::net::{self, AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::config::{ListenerConfig, SocketKind};
use crate::receiver::StartError;

/// Connections that wait to be accepted; the kernel caps it at `net.core.somaxconn`, usually 4096.
const BACKLOG: i32 = 1024;

/// A bound socket; its file is removed with it, unless somebody else has replaced it.
pub(crate) struct Bound {
    pub(crate) socket: OwnedFd,
    path: PathBuf,
    file: (u64, u64),
}

impl Drop for Bound {
    fn drop(&mut self) {
        if file_id(&self.path).is_ok_and(|id| id == self.file) {
            // The next start replaces what cannot be removed now.
            std::fs::remove_file(&self.path).unwrap_or(());
        }
    }
}

fn file_id(path: &Path) -> io::Result<(u64, u64)> {
    let meta = std::fs::symlink_metadata(path)?;
    Ok((meta.dev(), meta.ino()))
}

/// Binds one listener.
pub(crate) fn bind(config: &ListenerConfig) -> Result<Bound, StartError> {
    let failed = |step: &'static str| {
        let path = config.path.clone();
        move |source: io::Error| StartError::Bind { path, step, source }
    };
    make_dir(config).map_err(failed("make its directory"))?;
    refuse_if_served(&config.path, config.kind)?;
    // Bound under another name, so that nobody connects before mode and group are right.
    let mut temp = OsString::from(&config.path);
    temp.push(".new");
    let temp = PathBuf::from(temp);
    match std::fs::remove_file(&temp) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(failed("remove an old socket")(error));
        }
        _ => {}
    }
    let socket = new_socket(config.kind).map_err(failed("create"))?;
    let address = SocketAddrUnix::new(&temp).map_err(|e| failed("name (103 bytes at most)")(e.into()))?;
    net::bind(&socket, &address).map_err(|e| failed("bind")(e.into()))?;
    let finish = || -> io::Result<(u64, u64)> {
        std::fs::set_permissions(&temp, std::fs::Permissions::from_mode(config.mode))?;
        if config.group.is_some() {
            std::os::unix::fs::chown(&temp, None, config.group)?;
        }
        net::listen(&socket, BACKLOG)?;
        let id = file_id(&temp)?;
        std::fs::rename(&temp, &config.path)?;
        Ok(id)
    };
    let file = finish().map_err(|error| {
        std::fs::remove_file(&temp).unwrap_or(());
        failed("set mode and group")(error)
    })?;
    Ok(Bound {
        socket,
        path: config.path.clone(),
        file,
    })
}

fn new_socket(kind: SocketKind) -> io::Result<OwnedFd> {
    let kind = match kind {
        SocketKind::Stream => SocketType::STREAM,
        SocketKind::Seqpacket => SocketType::SEQPACKET,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(net::socket_with(AddressFamily::UNIX, kind, flags, None)?)
}

fn make_dir(config: &ListenerConfig) -> io::Result<()> {
    let Some(dir) = config.path.parent().filter(|dir| !dir.as_os_str().is_empty()) else {
        return Ok(());
    };
    if dir.is_dir() {
        return Ok(());
    }
    std::fs::DirBuilder::new().mode(config.dir_mode).create(dir)?;
    // Past the process's umask.
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(config.dir_mode))?;
    if config.group.is_some() {
        std::os::unix::fs::chown(dir, None, config.group)?;
    }
    Ok(())
}

/// A file that is no socket, or a socket with somebody behind it, is left alone.
fn refuse_if_served(path: &Path, kind: SocketKind) -> Result<(), StartError> {
    let failed = |source: io::Error| StartError::Bind {
        path: path.to_owned(),
        step: "look at",
        source,
    };
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
        Ok(meta) if !meta.file_type().is_socket() => return Err(StartError::NotASocket(path.to_owned())),
        Ok(_) => {}
    }
    let probe = new_socket(kind).map_err(failed)?;
    let address = SocketAddrUnix::new(path).map_err(|error| failed(error.into()))?;
    match net::connect(&probe, &address) {
        Err(rustix::io::Errno::CONNREFUSED) => Ok(()),
        // Full backlog, another type, no permission: somebody has it.
        Ok(()) | Err(_) => Err(StartError::InUse(path.to_owned())),
    }
}
