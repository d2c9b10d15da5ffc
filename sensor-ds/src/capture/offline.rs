//! Reads pcap and pcapng files.

use std::path::{Path, PathBuf};

use pcap::{Capture, Offline, Precision};
use sensor_flow::TimeNs;
use sensor_wire::link;
use sensor_wire::registry::LinkType;

use super::nanoseconds;

/// Why a file cannot be read at all.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    /// Missing, not allowed, or a directory.
    #[error("cannot open {}: {source}", .path.display())]
    Unreadable { path: PathBuf, source: std::io::Error },
    /// libpcap does not know the format.
    #[error("cannot read {}: not a pcap or pcapng file ({reason})", .path.display())]
    NotACapture { path: PathBuf, reason: String },
    /// Nothing in the file could be read further.
    #[error("cannot read {}: link type {number} ({name}) is not supported; Ethernet, raw IP, NULL, LOOP, SLL and SLL2 are", .path.display())]
    UnsupportedLink {
        path: PathBuf,
        number: i32,
        name: String,
    },
    /// libpcap reads files of one link type only.
    #[error("cannot read {} further: its interfaces have different link types; split it by interface first, such as with `tshark -r FILE -Y 'frame.interface_id == 0' -w PART`", .path.display())]
    MixedLinks { path: PathBuf },
}

/// A packet of a file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OfflinePacket<'a> {
    pub(crate) at: TimeNs,
    pub(crate) bytes: &'a [u8],
    pub(crate) wire_len: u32,
}

/// What comes next in a file.
#[derive(Debug)]
pub(crate) enum Next<'a> {
    /// A packet.
    Packet(OfflinePacket<'a>),
    /// The regular end.
    End,
    /// The file is damaged here; nothing behind can be read.
    Damaged(String),
}

/// An open capture file.
pub(crate) struct OfflineCapture {
    capture: Capture<Offline>,
    path: PathBuf,
    link: LinkType,
}

impl OfflineCapture {
    /// Opens a file whose link type is one that is read here.
    pub(crate) fn open(path: &Path) -> Result<Self, OpenError> {
        let opened = Self::open_any_link(path)?;
        if link::is_supported(opened.link) {
            return Ok(opened);
        }
        let number = opened.link.0;
        let name = pcap::Linktype(number)
            .get_name()
            .unwrap_or_else(|_| "unknown".to_owned());
        Err(OpenError::UnsupportedLink {
            path: path.to_owned(),
            number,
            name,
        })
    }

    fn open_any_link(path: &Path) -> Result<Self, OpenError> {
        check_readable(path).map_err(|source| OpenError::Unreadable {
            path: path.to_owned(),
            source,
        })?;
        let capture = Capture::from_file_with_precision(path, Precision::Nano).map_err(|error| {
            OpenError::NotACapture {
                path: path.to_owned(),
                reason: reason_of(&error),
            }
        })?;
        let link = LinkType(capture.get_datalink().0);
        Ok(Self {
            capture,
            path: path.to_owned(),
            link,
        })
    }

    /// Link type of all packets.
    pub(crate) const fn link(&self) -> LinkType {
        self.link
    }

    /// The next packet.
    ///
    /// # Errors
    /// A pcapng file with interfaces of different link types ([`OpenError::MixedLinks`]).
    pub(crate) fn next(&mut self) -> Result<Next<'_>, OpenError> {
        match self.capture.next_packet() {
            Ok(packet) => Ok(Next::Packet(OfflinePacket {
                at: nanoseconds(packet.header),
                bytes: packet.data,
                wire_len: packet.header.len,
            })),
            Err(pcap::Error::NoMorePackets) => Ok(Next::End),
            Err(error) => {
                let reason = reason_of(&error);
                if reason.contains("different from the type of the first interface") {
                    return Err(OpenError::MixedLinks {
                        path: self.path.clone(),
                    });
                }
                Ok(Next::Damaged(reason))
            }
        }
    }
}

/// libpcap's own message for a missing file does not tell it from a bad format. `-` is standard input, as
/// libpcap has it; a pipe must be opened once only.
fn check_readable(path: &Path) -> std::io::Result<()> {
    if path == Path::new("-") {
        return Ok(());
    }
    let metadata = std::fs::metadata(path)?;
    if metadata.is_dir() {
        return Err(std::io::ErrorKind::IsADirectory.into());
    }
    if metadata.is_file() {
        std::fs::File::open(path)?;
    }
    Ok(())
}

/// libpcap's words without the crate's prefix.
pub(crate) fn reason_of(error: &pcap::Error) -> String {
    match error {
        pcap::Error::PcapError(reason) => reason.clone(),
        other => other.to_string(),
    }
}
