//! Reads a PROXY protocol header, which a load balancer puts before the bytes that it passes on (`proxy-protocol.txt` of `HAProxy`,
//! version 1 and 2).
//!
//! What it says is the sender's claim. Anybody may send one to a server that expects none.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::reader::Reader;

/// First bytes of version 2.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// First bytes of version 1.
const WORD: &[u8] = b"PROXY ";
/// Longest line of version 1, with its end.
const MAX_LINE_BYTES: usize = 107;
/// Longest header of version 2 that is read: addresses and extensions. Load balancers send some hundred bytes.
pub const MAX_HEADER_BYTES: usize = 4096;

/// What the first bytes of a stream are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyHeader {
    /// No such header.
    Absent,
    /// They fit the start of one; more are needed.
    NeedMore,
    /// A whole header.
    Whole {
        /// Its length in bytes; the stream that is passed on begins behind it.
        bytes: usize,
        /// The client of the load balancer; absent where it speaks for itself (`UNKNOWN`, `LOCAL`) or of what is no TCP.
        client: Option<SocketAddr>,
    },
    /// Starts like one and is none.
    Malformed,
}

impl ProxyHeader {
    /// Reads the header at the start of `stream`: all bytes from the start that are known without a gap.
    pub fn read(stream: &[u8]) -> Self {
        if starts(stream, WORD) {
            line(stream)
        } else if starts(stream, &SIGNATURE) {
            binary(stream)
        } else {
            Self::Absent
        }
    }
}

/// True if `stream` has at least one byte and all of it that can be compared is as `expected`.
fn starts(stream: &[u8], expected: &[u8]) -> bool {
    !stream.is_empty() && stream.iter().zip(expected).all(|(got, expected)| got == expected)
}

/// `PROXY TCP4 192.0.2.1 198.51.100.2 51234 443\r\n`
fn line(stream: &[u8]) -> ProxyHeader {
    let head = stream.get(..MAX_LINE_BYTES).unwrap_or(stream);
    let Some(end) = head.windows(2).position(|pair| pair == b"\r\n") else {
        return if head.len() < MAX_LINE_BYTES && !head.contains(&b'\n') {
            ProxyHeader::NeedMore
        } else {
            ProxyHeader::Malformed
        };
    };
    let bytes = end.saturating_add(2);
    let words = head
        .get(WORD.len()..end)
        .and_then(|words| std::str::from_utf8(words).ok());
    let Some(words) = words else {
        return ProxyHeader::Malformed;
    };
    let mut words = words.split(' ');
    let whole = |client| ProxyHeader::Whole { bytes, client };
    let family = words.next();
    if family == Some("UNKNOWN") {
        return whole(None);
    }
    let mut next = || words.next();
    let (Some(source), Some(_), Some(port), Some(_), None) = (next(), next(), next(), next(), next()) else {
        return ProxyHeader::Malformed;
    };
    let ip = match family {
        Some("TCP4") => source.parse().map(IpAddr::V4),
        Some("TCP6") => source.parse().map(IpAddr::V6),
        _ => return ProxyHeader::Malformed,
    };
    match (ip, port.parse()) {
        (Ok(ip), Ok(port)) => whole(Some(SocketAddr::new(ip, port))),
        _ => ProxyHeader::Malformed,
    }
}

/// Signature, version and command, family, length, addresses, extensions.
fn binary(stream: &[u8]) -> ProxyHeader {
    let mut reader = Reader::new(stream.get(SIGNATURE.len()..).unwrap_or_default());
    let Some([command, family, hi, lo]) = reader.array() else {
        return ProxyHeader::NeedMore;
    };
    let length = usize::from(u16::from_be_bytes([hi, lo]));
    let bytes = length.saturating_add(16);
    if !matches!(command, 0x20 | 0x21) || bytes > MAX_HEADER_BYTES {
        return ProxyHeader::Malformed;
    }
    let Some(body) = reader.take(length) else {
        return ProxyHeader::NeedMore;
    };
    let whole = |client| ProxyHeader::Whole { bytes, client };
    if command == 0x20 {
        return whole(None);
    }
    let mut body = Reader::new(body);
    let client = match family {
        0x11 => v2_client::<4, _>(&mut body, Ipv4Addr::from),
        0x21 => v2_client::<16, _>(&mut body, Ipv6Addr::from),
        // Unspecified, datagrams, unix sockets: no client that a TCP connection could have.
        _ => return whole(None),
    };
    match client {
        Some(client) => whole(Some(client)),
        None => ProxyHeader::Malformed,
    }
}

/// Source and destination address, source and destination port.
fn v2_client<const N: usize, A: Into<IpAddr>>(
    body: &mut Reader<'_>,
    address: impl Fn([u8; N]) -> A,
) -> Option<SocketAddr> {
    let source = body.array::<N>()?;
    body.array::<N>()?;
    let port = body.u16()?;
    body.u16()?;
    Some(SocketAddr::new(address(source).into(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    const V1: &[u8] = b"PROXY TCP4 192.0.2.1 198.51.100.2 51234 443\r\n\x16\x03\x01";

    fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(body.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[command, family], &length, body, b"\x16\x03"].concat()
    }

    /// What is read of a whole stream; of each start of it the answer must be that more is needed.
    fn read(stream: &[u8], header_bytes: usize) -> ProxyHeader {
        for n in 1..header_bytes {
            assert_eq!(
                ProxyHeader::read(stream.get(..n).unwrap()),
                ProxyHeader::NeedMore,
                "{n} bytes"
            );
        }
        ProxyHeader::read(stream)
    }

    #[test]
    fn both_versions_say_the_client_however_they_are_cut() {
        let client = Some("192.0.2.1:51234".parse().unwrap());
        let bytes = V1.len() - 3;
        assert_eq!(read(V1, bytes), ProxyHeader::Whole { bytes, client });

        let body = [192, 0, 2, 1, 198, 51, 100, 2, 0xc8, 0x22, 1, 187, 3, 0, 1, 9];
        let stream = v2(0x21, 0x11, &body);
        assert_eq!(read(&stream, 32), ProxyHeader::Whole { bytes: 32, client });

        let six: SocketAddr = "[2001:db8::1]:51234".parse().unwrap();
        let line = b"PROXY TCP6 2001:db8::1 2001:db8::2 51234 443\r\n";
        let bytes = line.len();
        assert_eq!(
            read(line, bytes),
            ProxyHeader::Whole {
                bytes,
                client: Some(six)
            }
        );
        let mut body = [0; 36];
        body[..4].copy_from_slice(&[0x20, 1, 0x0d, 0xb8]);
        body[15] = 1;
        body[32..34].copy_from_slice(&51234_u16.to_be_bytes());
        assert_eq!(
            read(&v2(0x21, 0x21, &body), 52),
            ProxyHeader::Whole {
                bytes: 52,
                client: Some(six)
            }
        );
    }

    #[test]
    fn a_balancer_that_speaks_for_itself_names_no_client() {
        let unknown = b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n";
        let bytes = unknown.len();
        assert_eq!(read(unknown, bytes), ProxyHeader::Whole { bytes, client: None });
        assert_eq!(
            read(&v2(0x20, 0, &[]), 16),
            ProxyHeader::Whole {
                bytes: 16,
                client: None
            }
        );
        // A unix socket.
        assert_eq!(
            ProxyHeader::read(&v2(0x21, 0x31, &[0; 216])),
            ProxyHeader::Whole {
                bytes: 232,
                client: None
            }
        );
    }

    #[test]
    fn what_only_starts_like_one_is_refused_and_anything_else_is_not_touched() {
        for stream in [
            &b"PROXY TCP4 192.0.2.1 198.51.100.2 51234\r\n"[..],
            b"PROXY TCP4 2001:db8::1 ::1 51234 443\r\n",
            b"PROXY TCP4 192.0.2.1 198.51.100.2 99999 443\r\n",
            b"PROXY UDP4 192.0.2.1 198.51.100.2 51234 443\r\n",
            b"PROXY TCP4 192.0.2.1 198.51.100.2 51234 443\n",
            b"PROXY \xff\r\n",
            &[b"PROXY ".as_slice(), &[b'x'; 200]].concat(),
            &v2(0x31, 0x11, &[0; 12]),
            &v2(0x21, 0x11, &[0; 11]),
            &v2(0x21, 0x11, &[0; 4096]),
        ] {
            assert_eq!(ProxyHeader::read(stream), ProxyHeader::Malformed, "{stream:?}");
        }
        for stream in [
            &b""[..],
            b"\x16\x03\x01",
            b"GET / HTTP/1.1\r\n",
            b"PROPFIND /",
            b"\r\nGET /",
        ] {
            assert_eq!(ProxyHeader::read(stream), ProxyHeader::Absent, "{stream:?}");
        }
    }
}
