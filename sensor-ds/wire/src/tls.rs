//! Finds a ClientHello in the first bytes of a TLS stream (RFC 8446 sections 4.1.2 and 5.1) and reads it.
//!
//! [`HelloScanner`] follows TLS records as bytes of a stream become known and says when the handshake
//! message is whole; [`collect_message`] takes it out of its records; [`ClientHello::parse`] reads it.

use std::borrow::Cow;
use std::net::SocketAddr;

use crate::proxy::ProxyHeader;
use crate::reader::{Reader, u16_values};
use crate::registry::{ContentType, ExtensionType, HandshakeType, NamedGroup, TlsVersion, is_grease};

/// Longest ClientHello that is read, in bytes with its 4-byte header. Browsers with post-quantum key
/// shares and Encrypted ClientHello send 2 kB; 32 KiB leaves room for larger keys and bounds memory.
pub const MAX_HELLO_BYTES: usize = 32 * 1024;

/// Most stream bytes searched for one ClientHello: the hello and as much again for record headers.
pub const MAX_STREAM_BYTES: usize = 2 * MAX_HELLO_BYTES;

/// Longest record that is accepted: 2^14 bytes of plaintext and 2^11 of expansion (TLS 1.2, the laxest).
pub const MAX_RECORD_BYTES: usize = 16_384 + 2_048;

/// Length of a record header: type, version, length.
pub const RECORD_HEADER_BYTES: usize = 5;

/// Length of a handshake header: type and 24-bit length.
pub const HANDSHAKE_HEADER_BYTES: usize = 4;

/// What is known after scanning the bytes so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scan {
    /// All bytes fit the start of a ClientHello; more are needed.
    NeedMore,
    /// The message is whole.
    Complete {
        /// Bytes of the stream before the first record: a PROXY header, or none.
        preamble_bytes: usize,
        /// Bytes of the handshake message with its header.
        message_bytes: usize,
        /// Bytes of the stream up to the end of the message.
        stream_bytes: usize,
    },
    /// This stream does not start with a ClientHello.
    NotHello(NotHello),
}

/// Why a stream does not start with a ClientHello that can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotHello {
    /// Not TLS, or TLS that starts with another message.
    #[error("not a TLS ClientHello")]
    OtherProtocol,
    /// A record length that the protocol does not allow.
    #[error("TLS record length not allowed")]
    BadRecord,
    /// Longer than [`MAX_HELLO_BYTES`] or spread over more than [`MAX_STREAM_BYTES`].
    #[error("ClientHello longer than {MAX_HELLO_BYTES} bytes")]
    TooLong,
}

/// Follows the records of a stream. Each byte is looked at once, however the stream is cut.
#[derive(Debug, Clone, Copy, Default)]
pub struct HelloScanner {
    /// What may stand before the first record.
    preamble: Preamble,
    /// Offset of the first record that is not wholly scanned.
    next_record: usize,
    /// Handshake bytes in the records before it.
    message_bytes: usize,
    /// The first bytes of the message, as far as known.
    header: Header,
    /// A dummy change-cipher-spec may stand before the hello (RFC 8446 appendix D.4).
    skips_change_cipher_spec: bool,
}

#[derive(Debug, Clone, Copy, Default)]
enum Preamble {
    /// A PROXY header may.
    #[default]
    Possible,
    /// Nothing, or what was there was read.
    Known {
        bytes: usize,
        client: Option<SocketAddr>,
    },
}

#[derive(Debug, Clone, Copy, Default)]
struct Header {
    bytes: [u8; HANDSHAKE_HEADER_BYTES],
    n: usize,
}

impl Header {
    fn extend(&mut self, body: &[u8]) {
        for (slot, byte) in self.bytes.iter_mut().skip(self.n).zip(body) {
            *slot = *byte;
            self.n = self.n.saturating_add(1);
        }
    }

    fn is_other_message(&self) -> bool {
        self.n > 0 && HandshakeType(self.bytes[0]) != HandshakeType::CLIENT_HELLO
    }

    /// Length of the message with its header, once the header is whole.
    fn message_bytes(&self) -> Option<usize> {
        let [_, hi, mid, lo] = self.bytes;
        let len = u32::from_be_bytes([0, hi, mid, lo]);
        (self.n == HANDSHAKE_HEADER_BYTES).then(|| {
            usize::try_from(len)
                .unwrap_or(usize::MAX)
                .saturating_add(HANDSHAKE_HEADER_BYTES)
        })
    }
}

impl HelloScanner {
    /// A scanner for the second hello of a connection, which a dummy change-cipher-spec may precede.
    pub fn second() -> Self {
        Self {
            preamble: Preamble::Known {
                bytes: 0,
                client: None,
            },
            skips_change_cipher_spec: true,
            ..Self::default()
        }
    }

    /// The client that a PROXY header before the hello has named.
    pub const fn proxy_client(&self) -> Option<SocketAddr> {
        match self.preamble {
            Preamble::Possible => None,
            Preamble::Known { client, .. } => client,
        }
    }

    /// Length of what stands before the first record, once that is known.
    fn read_preamble(&mut self, stream: &[u8]) -> Result<Option<usize>, NotHello> {
        if let Preamble::Known { bytes, .. } = self.preamble {
            return Ok(Some(bytes));
        }
        let (bytes, client) = match ProxyHeader::read(stream) {
            ProxyHeader::Absent if stream.is_empty() => return Ok(None),
            ProxyHeader::NeedMore => return Ok(None),
            ProxyHeader::Malformed => return Err(NotHello::OtherProtocol),
            ProxyHeader::Absent => (0, None),
            ProxyHeader::Whole { bytes, client } => (bytes, client),
        };
        self.preamble = Preamble::Known { bytes, client };
        self.next_record = bytes;
        Ok(Some(bytes))
    }

    /// Scans `stream`: all bytes from its start that are known without a gap. Each call must be given
    /// the same bytes as the one before, and possibly more behind them.
    pub fn advance(&mut self, stream: &[u8]) -> Scan {
        let preamble_bytes = match self.read_preamble(stream) {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return Scan::NeedMore,
            Err(reason) => return Scan::NotHello(reason),
        };
        // Terminates: every turn moves `next_record` by at least six bytes or returns.
        loop {
            let rest = stream.get(self.next_record..).unwrap_or_default();
            let record = match self.read_record(rest) {
                Ok(Some(record)) => record,
                Ok(None) => return Scan::NeedMore,
                Err(reason) => return Scan::NotHello(reason),
            };
            if self.next_record.saturating_add(record.declared) > MAX_STREAM_BYTES {
                return Scan::NotHello(NotHello::TooLong);
            }
            if record.content == ContentType::HANDSHAKE {
                let mut header = self.header;
                header.extend(record.body);
                if header.is_other_message() {
                    return Scan::NotHello(NotHello::OtherProtocol);
                }
                if let Some(message_bytes) = header.message_bytes() {
                    if message_bytes > MAX_HELLO_BYTES {
                        return Scan::NotHello(NotHello::TooLong);
                    }
                    let missing = message_bytes.saturating_sub(self.message_bytes);
                    if record.body.len() >= missing {
                        let stream_bytes = self
                            .next_record
                            .saturating_add(RECORD_HEADER_BYTES)
                            .saturating_add(missing);
                        return Scan::Complete {
                            preamble_bytes,
                            message_bytes,
                            stream_bytes,
                        };
                    }
                }
                if record.body.len() < record.declared {
                    return Scan::NeedMore;
                }
                self.header = header;
                self.message_bytes = self.message_bytes.saturating_add(record.declared);
            } else if record.body.len() < record.declared {
                return Scan::NeedMore;
            }
            self.next_record = self
                .next_record
                .saturating_add(RECORD_HEADER_BYTES)
                .saturating_add(record.declared);
        }
    }

    /// The record at the start of `rest`, `None` if its header is not whole yet.
    fn read_record<'a>(&self, rest: &'a [u8]) -> Result<Option<Record<'a>>, NotHello> {
        let may_skip = self.skips_change_cipher_spec && self.message_bytes == 0;
        let content = match rest.first().map(|&byte| ContentType(byte)) {
            None => return Ok(None),
            Some(ContentType::CHANGE_CIPHER_SPEC) if may_skip => ContentType::CHANGE_CIPHER_SPEC,
            Some(ContentType::HANDSHAKE) => ContentType::HANDSHAKE,
            Some(_) => return Err(NotHello::OtherProtocol),
        };
        // The record version of a hello is 3.0 to 3.4 in practice and means nothing else.
        if rest.get(1).is_some_and(|&major| major != 3) || rest.get(2).is_some_and(|&minor| minor > 4) {
            return Err(NotHello::OtherProtocol);
        }
        let Some(record) = Record::split(rest) else {
            return Ok(None);
        };
        let allowed = if content == ContentType::HANDSHAKE {
            1..=MAX_RECORD_BYTES
        } else {
            1..=1
        };
        if !allowed.contains(&record.declared) {
            return Err(NotHello::BadRecord);
        }
        Ok(Some(record))
    }
}

/// A record, as much of it as is known.
#[derive(Debug, Clone, Copy)]
struct Record<'a> {
    content: ContentType,
    declared: usize,
    body: &'a [u8],
}

impl<'a> Record<'a> {
    fn split(bytes: &'a [u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        let [content, _, _, hi, lo] = reader.array()?;
        let declared = usize::from(u16::from_be_bytes([hi, lo]));
        let rest = reader.rest();
        Some(Self {
            content: ContentType(content),
            declared,
            body: rest.get(..declared).unwrap_or(rest),
        })
    }
}

/// Takes the handshake message of `message_bytes` bytes out of the records at the start of `stream`, which a scanner
/// has found [`Scan::Complete`]; without the preamble. Borrows where the message lies in one record.
pub fn collect_message(stream: &[u8], message_bytes: usize) -> Cow<'_, [u8]> {
    let mut message: Cow<'_, [u8]> = Cow::Borrowed(&[]);
    let mut at = 0_usize;
    // Terminates: `at` grows by at least the record header each turn.
    while let Some(record) = stream.get(at..).and_then(Record::split) {
        at = at
            .saturating_add(RECORD_HEADER_BYTES)
            .saturating_add(record.declared);
        if record.content != ContentType::HANDSHAKE {
            continue;
        }
        let missing = message_bytes.saturating_sub(message.len());
        let piece = record.body.get(..missing).unwrap_or(record.body);
        if message.is_empty() {
            message = Cow::Borrowed(piece);
        } else {
            message.to_mut().extend_from_slice(piece);
        }
        if message.len() >= message_bytes {
            break;
        }
    }
    message
}

/// A ClientHello. List fields are the bytes as they stand on the wire; the iterators below read them.
#[derive(Debug, Clone, Copy)]
pub struct ClientHello<'a> {
    /// Version field of the message itself; TLS 1.3 says 1.2 here.
    pub legacy_version: TlsVersion,
    /// Client random.
    pub random: [u8; 32],
    /// Legacy session id, at most 32 bytes.
    pub session_id: &'a [u8],
    /// Length of the message in bytes, header included.
    pub message_bytes: usize,
    /// True if a length inside does not fit its surroundings. Servers refuse such a hello.
    pub is_damaged: bool,
    cipher_suites: &'a [u8],
    extensions: &'a [u8],
}

/// Why a handshake message is not a ClientHello.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed ClientHello")]
pub struct MalformedHello;

/// One extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extension<'a> {
    /// Its type.
    pub kind: ExtensionType,
    /// Its body.
    pub body: &'a [u8],
}

impl<'a> ClientHello<'a> {
    /// Reads a handshake message with its 4-byte header.
    ///
    /// # Errors
    /// The message ends before its compression methods do, or its session id is longer than 32 bytes.
    pub fn parse(message: &'a [u8]) -> Result<Self, MalformedHello> {
        Self::parse_opt(message).ok_or(MalformedHello)
    }

    fn parse_opt(message: &'a [u8]) -> Option<Self> {
        let mut reader = Reader::new(message);
        let [kind, hi, mid, lo] = reader.array()?;
        if HandshakeType(kind) != HandshakeType::CLIENT_HELLO {
            return None;
        }
        let declared = usize::try_from(u32::from_be_bytes([0, hi, mid, lo])).ok()?;
        let mut reader = Reader::new(reader.take(declared)?);
        let legacy_version = TlsVersion(reader.u16()?);
        let random = reader.array()?;
        let session_id = reader.vec8().filter(|id| id.len() <= 32)?;
        let cipher_suites = reader.vec16()?;
        let _compression_methods = reader.vec8()?;
        let (extensions, mut is_damaged) = read_extension_block(reader);
        let mut walk = ExtensionIter {
            rest: Reader::new(extensions),
        };
        walk.by_ref().for_each(drop);
        is_damaged |= !walk.rest.is_empty() || cipher_suites.len() % 2 != 0;
        Some(Self {
            legacy_version,
            random,
            session_id,
            message_bytes: declared.saturating_add(HANDSHAKE_HEADER_BYTES),
            is_damaged,
            cipher_suites,
            extensions,
        })
    }

    /// Cipher suites in wire order, GREASE included.
    pub fn cipher_suites(&self) -> impl Iterator<Item = u16> + 'a {
        u16_values(self.cipher_suites)
    }

    /// Extensions in wire order, GREASE included.
    pub fn extensions(&self) -> impl Iterator<Item = Extension<'a>> + 'a {
        ExtensionIter {
            rest: Reader::new(self.extensions),
        }
    }

    /// The first extension of a type.
    pub fn extension(&self, kind: ExtensionType) -> Option<&'a [u8]> {
        self.extensions()
            .find(|extension| extension.kind == kind)
            .map(|extension| extension.body)
    }

    /// True if an extension of the type is present.
    pub fn has(&self, kind: ExtensionType) -> bool {
        self.extension(kind).is_some()
    }

    /// Signature algorithms in wire order, GREASE included.
    pub fn signature_algorithms(&self) -> impl Iterator<Item = u16> + 'a {
        list16(self.extension(ExtensionType::SIGNATURE_ALGORITHMS))
    }

    /// Supported groups in wire order, GREASE included.
    pub fn supported_groups(&self) -> impl Iterator<Item = u16> + 'a {
        list16(self.extension(ExtensionType::SUPPORTED_GROUPS))
    }

    /// Elliptic-curve point formats in wire order.
    pub fn ec_point_formats(&self) -> &'a [u8] {
        self.extension(ExtensionType::EC_POINT_FORMATS)
            .and_then(|body| Reader::new(body).vec8())
            .unwrap_or_default()
    }

    /// Versions of the `supported_versions` extension in wire order, GREASE included.
    pub fn supported_versions(&self) -> impl Iterator<Item = TlsVersion> + 'a {
        let list = self
            .extension(ExtensionType::SUPPORTED_VERSIONS)
            .and_then(|body| Reader::new(body).vec8());
        u16_values(list.unwrap_or_default()).map(TlsVersion)
    }

    /// The highest version offered: the highest of `supported_versions` without GREASE, else the
    /// message's own; never the record's.
    pub fn version(&self) -> TlsVersion {
        self.supported_versions()
            .filter(|version| !is_grease(version.0))
            .max()
            .unwrap_or(self.legacy_version)
    }

    /// The first host name of the server name extension. Bytes as sent, usually ASCII.
    pub fn server_name(&self) -> Option<&'a [u8]> {
        let mut list = Reader::new(Reader::new(self.extension(ExtensionType::SERVER_NAME)?).vec16()?);
        // Terminates: each turn takes at least three bytes.
        loop {
            let kind = list.u8()?;
            let name = list.vec16()?;
            // Name type 0 is host_name (RFC 6066 section 3), the only one there is.
            if kind == 0 {
                return Some(name);
            }
        }
    }

    /// ALPN values in wire order; stops at one that runs over the list.
    pub fn alpn(&self) -> impl Iterator<Item = &'a [u8]> + 'a {
        let list = self
            .extension(ExtensionType::ALPN)
            .and_then(|body| Reader::new(body).vec16());
        let mut reader = Reader::new(list.unwrap_or_default());
        std::iter::from_fn(move || reader.vec8())
    }

    /// True if a group is offered that a quantum computer is not known to break.
    pub fn offers_post_quantum(&self) -> bool {
        self.supported_groups()
            .any(|group| NamedGroup(group).is_post_quantum())
    }
}

/// The extension block behind the compression methods, and whether its length is wrong.
fn read_extension_block(mut reader: Reader<'_>) -> (&[u8], bool) {
    if reader.is_empty() {
        // SSL 3.0 and TLS 1.0 hellos may end here.
        return (&[], false);
    }
    let Some(declared) = reader.u16().map(usize::from) else {
        return (&[], true);
    };
    let rest = reader.rest();
    (rest.get(..declared).unwrap_or(rest), rest.len() != declared)
}

/// The 16-bit values of a list whose length stands before it in two bytes.
fn list16(body: Option<&[u8]>) -> impl Iterator<Item = u16> + '_ {
    u16_values(
        body.and_then(|body| Reader::new(body).vec16())
            .unwrap_or_default(),
    )
}

#[derive(Debug, Clone)]
struct ExtensionIter<'a> {
    rest: Reader<'a>,
}

impl<'a> Iterator for ExtensionIter<'a> {
    type Item = Extension<'a>;

    /// Leaves the reader where it stands if the next extension does not fit.
    #[inline]
    fn next(&mut self) -> Option<Extension<'a>> {
        let mut ahead = self.rest;
        let kind = ExtensionType(ahead.u16()?);
        let body = ahead.vec16()?;
        self.rest = ahead;
        Some(Extension { kind, body })
    }
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "a test fails by panicking")]
mod tests;
