//! Reads IPv4 and IPv6 headers with options and extension headers. Fragments are flagged, not put together.

use crate::reader::Reader;
use crate::registry::{EtherType, IpProtocol};

/// Most IPv6 extension headers before the transport: RFC 8200 orders eight, each at most twice.
pub const MAX_EXTENSION_HEADERS: usize = 12;

/// An address as 16 bytes, IPv4 as `::ffff:a.b.c.d`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct IpAddress(pub [u8; 16]);

impl IpAddress {
    /// The mapped form of an IPv4 address.
    #[inline]
    pub const fn from_v4(octets: [u8; 4]) -> Self {
        let [a, b, c, d] = octets;
        Self([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d])
    }

    /// The address as one number, for ordering and hashing.
    #[inline]
    pub const fn to_bits(self) -> u128 {
        u128::from_be_bytes(self.0)
    }

    /// The address as the standard library has it, IPv4 where it is mapped.
    pub fn to_std(self) -> std::net::IpAddr {
        let v6 = std::net::Ipv6Addr::from(self.0);
        v6.to_ipv4_mapped()
            .map_or(std::net::IpAddr::V6(v6), std::net::IpAddr::V4)
    }
}

impl std::fmt::Debug for IpAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.to_std().fmt(f)
    }
}

/// An IP packet's header and what it carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IpPacket<'a> {
    /// Source address.
    pub src: IpAddress,
    /// Destination address.
    pub dst: IpAddress,
    /// Transport protocol, behind any extension headers.
    pub protocol: IpProtocol,
    /// Time to live or hop limit.
    pub ttl: u8,
    /// True if this is one piece of a larger packet; `payload` is then that piece.
    pub is_fragment: bool,
    /// Bytes of `payload` that the capture left out; zero unless its snapshot length was too short.
    pub cut_bytes: u32,
    /// Bytes of the transport layer, without link padding.
    pub payload: &'a [u8],
}

/// Why a packet has no readable IP header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseIpError {
    /// Neither IPv4 nor IPv6.
    #[error("neither IPv4 nor IPv6")]
    NotIp,
    /// The packet ends inside a header.
    #[error("packet ends inside the IP header")]
    Truncated,
    /// A version or length field that cannot be true.
    #[error("malformed IP header")]
    Malformed,
    /// More IPv6 extension headers than [`MAX_EXTENSION_HEADERS`].
    #[error("more than {MAX_EXTENSION_HEADERS} extension headers")]
    TooManyExtensions,
}

/// Reads the IP header of `packet`.
///
/// # Errors
/// See [`ParseIpError`].
#[inline]
pub fn parse_ip(ethertype: EtherType, packet: &[u8]) -> Result<IpPacket<'_>, ParseIpError> {
    match ethertype {
        EtherType::IPV4 => parse_ipv4(packet),
        EtherType::IPV6 => parse_ipv6(packet),
        _ => Err(ParseIpError::NotIp),
    }
}

#[inline]
fn parse_ipv4(packet: &[u8]) -> Result<IpPacket<'_>, ParseIpError> {
    let header: &[u8; 20] = packet.first_chunk().ok_or(ParseIpError::Truncated)?;
    let [
        version_ihl,
        _,
        len0,
        len1,
        _,
        _,
        frag0,
        frag1,
        ttl,
        protocol,
        _,
        _,
        addresses @ ..,
    ] = header;
    let [s0, s1, s2, s3, d0, d1, d2, d3] = addresses;
    let header_len = usize::from(version_ihl & 0x0f) << 2;
    if version_ihl >> 4 != 4 || header_len < 20 {
        return Err(ParseIpError::Malformed);
    }
    // Offloaded segments are captured with a total length of zero: the packet is then what was captured.
    let total_len = match usize::from(u16::from_be_bytes([*len0, *len1])) {
        0 => packet.len(),
        n => n,
    };
    let payload_len = total_len.checked_sub(header_len).ok_or(ParseIpError::Malformed)?;
    let rest = packet.get(header_len..).ok_or(ParseIpError::Truncated)?;
    // Bits: reserved, don't fragment, more fragments, 13 of offset.
    let is_fragment = u16::from_be_bytes([*frag0, *frag1]) & 0x3fff != 0;
    Ok(IpPacket {
        src: IpAddress::from_v4([*s0, *s1, *s2, *s3]),
        dst: IpAddress::from_v4([*d0, *d1, *d2, *d3]),
        protocol: IpProtocol(*protocol),
        ttl: *ttl,
        is_fragment,
        cut_bytes: cut_bytes(rest, payload_len),
        payload: rest.get(..payload_len).unwrap_or(rest),
    })
}

fn parse_ipv6(packet: &[u8]) -> Result<IpPacket<'_>, ParseIpError> {
    let mut reader = Reader::new(packet);
    let [version, _, _, _, len0, len1, next_header, ttl] = reader.array().ok_or(ParseIpError::Truncated)?;
    if version >> 4 != 6 {
        return Err(ParseIpError::Malformed);
    }
    let src = IpAddress(reader.array().ok_or(ParseIpError::Truncated)?);
    let dst = IpAddress(reader.array().ok_or(ParseIpError::Truncated)?);
    // Zero is a jumbogram or an offloaded segment: the packet is then what was captured.
    let payload_len = match usize::from(u16::from_be_bytes([len0, len1])) {
        0 => reader.rest().len(),
        n => n,
    };
    let rest = reader.rest();
    let (protocol, is_fragment, payload) =
        skip_extensions(IpProtocol(next_header), rest.get(..payload_len).unwrap_or(rest))?;
    Ok(IpPacket {
        src,
        dst,
        protocol,
        ttl,
        is_fragment,
        cut_bytes: cut_bytes(rest, payload_len),
        payload,
    })
}

/// How many of `declared` bytes are missing; at most 65 535, the range of the length field.
fn cut_bytes(captured: &[u8], declared: usize) -> u32 {
    u32::try_from(declared.saturating_sub(captured.len())).unwrap_or(u32::MAX)
}

/// Walks to the transport header; stops at a fragment that does not hold it.
fn skip_extensions(first: IpProtocol, bytes: &[u8]) -> Result<(IpProtocol, bool, &[u8]), ParseIpError> {
    let mut protocol = first;
    let mut is_fragment = false;
    let mut reader = Reader::new(bytes);
    for _ in 0..MAX_EXTENSION_HEADERS {
        // Lengths: in units of 8 bytes beyond the first 8 (RFC 8200), AH in units of 4 beyond 8 (RFC 4302).
        let unit = match protocol {
            IpProtocol::HOP_BY_HOP
            | IpProtocol::ROUTING
            | IpProtocol::DESTINATION_OPTIONS
            | IpProtocol::MOBILITY => 8_usize,
            IpProtocol::AUTHENTICATION => 4,
            IpProtocol::FRAGMENT => {
                let [next, _, off0, off1, ..] = reader.array::<8>().ok_or(ParseIpError::Truncated)?;
                let word = u16::from_be_bytes([off0, off1]);
                // An atomic fragment (RFC 6946: offset 0, no more) is a whole packet.
                is_fragment |= word & 0xfff9 != 0;
                protocol = IpProtocol(next);
                if word & 0xfff8 != 0 {
                    return Ok((protocol, true, reader.rest()));
                }
                continue;
            }
            _ => return Ok((protocol, is_fragment, reader.rest())),
        };
        let [next, len] = reader.array().ok_or(ParseIpError::Truncated)?;
        let body = usize::from(len).saturating_mul(unit).saturating_add(6);
        reader.take(body).ok_or(ParseIpError::Truncated)?;
        protocol = IpProtocol(next);
    }
    Err(ParseIpError::TooManyExtensions)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ipv4(ihl: u8, total: u16, fragment: u16, tail: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0x40 | ihl, 0];
        bytes.extend(total.to_be_bytes());
        bytes.extend([0, 0]);
        bytes.extend(fragment.to_be_bytes());
        bytes.extend([64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        bytes.extend(tail);
        bytes
    }

    fn ipv6(next: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0x60, 0, 0, 0];
        bytes.extend(u16::try_from(payload.len()).unwrap().to_be_bytes());
        bytes.extend([next, 57]);
        bytes.extend([1; 16]);
        bytes.extend([2; 16]);
        bytes.extend(payload);
        bytes
    }

    #[test]
    fn link_padding_behind_ipv4_is_not_payload() {
        let packet = ipv4(5, 22, 0, &[1, 2, 0, 0, 0, 0]);
        let read = parse_ip(EtherType::IPV4, &packet).unwrap();
        assert_eq!((read.payload, read.ttl, read.cut_bytes), (&[1, 2][..], 64, 0));
        assert_eq!(read.src.to_std().to_string(), "10.0.0.1");
    }

    #[test]
    fn ipv4_options_are_skipped() {
        let packet = ipv4(6, 25, 0, &[9, 9, 9, 9, 7]);
        assert_eq!(parse_ip(EtherType::IPV4, &packet).unwrap().payload, &[7]);
    }

    #[test]
    fn total_length_zero_means_what_was_captured() {
        let packet = ipv4(5, 0, 0, &[1, 2, 3]);
        assert_eq!(parse_ip(EtherType::IPV4, &packet).unwrap().payload, &[1, 2, 3]);
    }

    #[test]
    fn a_short_capture_is_flagged() {
        let packet = ipv4(5, 100, 0, &[1]);
        let read = parse_ip(EtherType::IPV4, &packet).unwrap();
        assert_eq!(read.cut_bytes, 79);
        assert_eq!(read.payload, &[1]);
    }

    #[test]
    fn ipv4_fragments_are_flagged_and_dont_fragment_is_not_one() {
        for (word, expected) in [(0x4000, false), (0x2000, true), (0x0001, true), (0x8000, false)] {
            let packet = ipv4(5, 21, word, &[1]);
            assert_eq!(
                parse_ip(EtherType::IPV4, &packet).unwrap().is_fragment,
                expected,
                "{word:#x}"
            );
        }
    }

    #[test]
    fn lying_ipv4_lengths_are_malformed() {
        assert_eq!(
            parse_ip(EtherType::IPV4, &ipv4(4, 20, 0, &[])),
            Err(ParseIpError::Malformed)
        );
        assert_eq!(
            parse_ip(EtherType::IPV4, &ipv4(5, 19, 0, &[])),
            Err(ParseIpError::Malformed)
        );
        assert_eq!(
            parse_ip(EtherType::IPV4, &ipv4(15, 60, 0, &[])),
            Err(ParseIpError::Truncated)
        );
    }

    #[test]
    fn ipv6_extension_headers_are_walked() {
        let payload = [
            &[43, 0, 0, 0, 0, 0, 0, 0][..],
            &[51, 0, 0, 0, 0, 0, 0, 0],
            &[6, 1, 0, 0, 0, 0, 0, 0],
            &[0; 4],
            &[5],
        ];
        let packet = ipv6(0, &payload.concat());
        let read = parse_ip(EtherType::IPV6, &packet).unwrap();
        assert_eq!(
            (read.protocol, read.payload, read.is_fragment),
            (IpProtocol::TCP, &[5][..], false)
        );
    }

    #[test]
    fn ipv6_fragments_are_flagged_and_atomic_ones_are_whole() {
        for (word, expected) in [(0_u16, false), (1, true), (8, true)] {
            let [hi, lo] = word.to_be_bytes();
            let packet = ipv6(44, &[6, 0, hi, lo, 0, 0, 0, 0, 9]);
            let read = parse_ip(EtherType::IPV6, &packet).unwrap();
            assert_eq!((read.is_fragment, read.payload), (expected, &[9][..]), "{word}");
        }
    }

    #[test]
    fn a_chain_without_end_is_refused() {
        let packet = ipv6(60, &[60, 0, 0, 0, 0, 0, 0, 0].repeat(13));
        assert_eq!(
            parse_ip(EtherType::IPV6, &packet),
            Err(ParseIpError::TooManyExtensions)
        );
    }
}
