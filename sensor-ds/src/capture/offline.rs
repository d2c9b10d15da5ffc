//! Reads pcap and pcapng files.

use std::fs::File;
use std::io::{BufReader, Read as _, Seek as _};
use std::path::{Path, PathBuf};

use pcap::{Capture, Offline, Precision};
use sensor_flow::TimeNs;
use sensor_wire::link;
use sensor_wire::registry::LinkType;

use super::nanoseconds;
use super::pcapng::{self, PcapngReader};

/// Bytes of a pcapng file read at once.
const READ_BYTES: usize = 256 << 10;

/// Why a file cannot be read at all.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    /// Missing, not allowed, or a directory.
    #[error("cannot open {}: {source}", .path.display())]
    Unreadable { path: PathBuf, source: std::io::Error },
    /// libpcap does not know the format.
    #[error("cannot read {}: not a pcap or pcapng file ({reason})", .path.display())]
    NotACapture { path: PathBuf, reason: String },
    /// No packet of the file is of a link type that is read.
    #[error("cannot read {}: link type {number} ({name}) is not supported; Ethernet, raw IP, NULL, LOOP, SLL and SLL2 are", .path.display())]
    UnsupportedLink {
        path: PathBuf,
        number: i32,
        name: String,
    },
}

/// A packet of a file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OfflinePacket<'a> {
    pub(crate) link: LinkType,
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
    path: PathBuf,
    source: Source,
    /// A packet was of a link type that is read.
    has_supported: bool,
    /// The first link type that is not.
    unsupported: Option<LinkType>,
}

enum Source {
    /// Classic pcap, and whatever comes by a pipe.
    Libpcap {
        capture: Capture<Offline>,
        link: LinkType,
    },
    /// Regular pcapng files.
    Pcapng(PcapngReader<BufReader<File>>),
}

impl OfflineCapture {
    /// Opens a file. In one of the classic format the link type must be one that is read here.
    pub(crate) fn open(path: &Path) -> Result<Self, OpenError> {
        let unreadable = |source| OpenError::Unreadable {
            path: path.to_owned(),
            source,
        };
        let source = match open_pcapng(path).map_err(unreadable)? {
            Some(file) => Source::Pcapng(PcapngReader::new(BufReader::with_capacity(READ_BYTES, file))),
            None => open_libpcap(path)?,
        };
        if let Source::Libpcap { link, .. } = source
            && !link::is_supported(link)
        {
            return Err(unsupported(path, link));
        }
        Ok(Self {
            path: path.to_owned(),
            source,
            has_supported: false,
            unsupported: None,
        })
    }

    /// The next packet. Those of link types that are not read are given too: the flow table counts them.
    ///
    /// # Errors
    /// At the end, if no packet was of a link type that is read.
    pub(crate) fn next(&mut self) -> Result<Next<'_>, OpenError> {
        let end = |next| match self.unsupported {
            Some(link) if !self.has_supported => Err(unsupported(&self.path, link)),
            _ => Ok(next),
        };
        let packet = match &mut self.source {
            Source::Libpcap { capture, link } => match capture.next_packet() {
                Ok(packet) => OfflinePacket {
                    link: *link,
                    at: nanoseconds(packet.header),
                    bytes: packet.data,
                    wire_len: packet.header.len,
                },
                Err(pcap::Error::NoMorePackets) => return end(Next::End),
                Err(error) => return end(Next::Damaged(reason_of(&error))),
            },
            Source::Pcapng(reader) => match reader.next() {
                Ok(Some(packet)) => OfflinePacket {
                    link: packet.link,
                    at: packet.at,
                    bytes: packet.bytes,
                    wire_len: packet.wire_len,
                },
                Ok(None) => return end(Next::End),
                Err(error) => return end(Next::Damaged(error.to_string())),
            },
        };
        if link::is_supported(packet.link) {
            self.has_supported = true;
        } else {
            self.unsupported.get_or_insert(packet.link);
        }
        Ok(Next::Packet(packet))
    }
}

fn unsupported(path: &Path, link: LinkType) -> OpenError {
    let name = pcap::Linktype(link.0)
        .get_name()
        .unwrap_or_else(|_| "unknown".to_owned());
    OpenError::UnsupportedLink {
        path: path.to_owned(),
        number: link.0,
        name,
    }
}

/// The file at its start if it is a regular one in pcapng format.
fn open_pcapng(path: &Path) -> std::io::Result<Option<File>> {
    check_readable(path)?;
    if path == Path::new("-") || !std::fs::metadata(path)?.is_file() {
        return Ok(None);
    }
    let mut file = File::open(path)?;
    let mut magic = [0; 4];
    let is_pcapng = match file.read_exact(&mut magic) {
        Ok(()) => magic == pcapng::MAGIC,
        // Shorter than that: libpcap has the words for it.
        Err(_) => false,
    };
    file.rewind()?;
    Ok(is_pcapng.then_some(file))
}

fn open_libpcap(path: &Path) -> Result<Source, OpenError> {
    let capture =
        Capture::from_file_with_precision(path, Precision::Nano).map_err(|error| OpenError::NotACapture {
            path: path.to_owned(),
            reason: reason_of(&error),
        })?;
    let link = LinkType(capture.get_datalink().0);
    Ok(Source::Libpcap { capture, link })
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
        File::open(path)?;
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
