//! Canonical addresses: 16 bytes, IPv4 as `::ffff:a.b.c.d`, zone dropped, so that equal peers compare equal.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

/// An IP address in canonical form.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct CanonicalAddr(pub [u8; 16]);

impl CanonicalAddr {
    /// `::`, which stands for "unknown" in events that carry no address.
    pub const UNSPECIFIED: Self = Self([0; 16]);

    /// Canonical form of an IPv4 address.
    pub const fn from_v4(octets: [u8; 4]) -> Self {
        let [a, b, c, d] = octets;
        Self([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d])
    }

    /// The address as the standard library has it: IPv4 where it is mapped.
    pub fn to_ip(self) -> IpAddr {
        let v6 = Ipv6Addr::from(self.0);
        v6.to_ipv4_mapped().map_or(IpAddr::V6(v6), IpAddr::V4)
    }

    /// True for an IPv4 address.
    pub fn is_v4(self) -> bool {
        matches!(self.to_ip(), IpAddr::V4(_))
    }
}

impl From<IpAddr> for CanonicalAddr {
    fn from(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(v4) => Self::from_v4(v4.octets()),
            IpAddr::V6(v6) => Self(v6.octets()),
        }
    }
}

impl From<Ipv4Addr> for CanonicalAddr {
    fn from(ip: Ipv4Addr) -> Self {
        Self::from_v4(ip.octets())
    }
}

/// A text that is not an IP address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidAddr;

impl fmt::Display for InvalidAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not an IP address")
    }
}

impl std::error::Error for InvalidAddr {}

impl FromStr for CanonicalAddr {
    type Err = InvalidAddr;

    /// Reads `1.2.3.4`, `::ffff:1.2.3.4`, `fe80::1%eth0` (zone dropped) and `[::1]`.
    fn from_str(text: &str) -> Result<Self, InvalidAddr> {
        let text = text
            .strip_prefix('[')
            .and_then(|t| t.strip_suffix(']'))
            .unwrap_or(text);
        let text = text.split_once('%').map_or(text, |(addr, _zone)| addr);
        text.parse::<IpAddr>().map(Self::from).map_err(|_| InvalidAddr)
    }
}

impl fmt::Display for CanonicalAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.to_ip() {
            // Every record has several addresses, and the library's general way costs 100 ns each.
            IpAddr::V4(v4) if f.width().is_none() => f.write_str(Dotted::default().write(v4.octets())),
            ip => ip.fmt(f),
        }
    }
}

/// An IPv4 address as text: at most four numbers of three digits and three dots.
#[derive(Default)]
struct Dotted {
    text: [u8; 15],
    length: usize,
}

impl Dotted {
    fn write(&mut self, octets: [u8; 4]) -> &str {
        for (idx, octet) in octets.into_iter().enumerate() {
            if idx > 0 {
                self.push(b'.');
            }
            if octet >= 100 {
                self.push(b'0' + octet / 100);
            }
            if octet >= 10 {
                self.push(b'0' + octet / 10 % 10);
            }
            self.push(b'0' + octet % 10);
        }
        std::str::from_utf8(&self.text[..self.length]).expect("digits and dots are ASCII")
    }

    fn push(&mut self, byte: u8) {
        self.text[self.length] = byte;
        self.length += 1;
    }
}

impl fmt::Debug for CanonicalAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_ip().fmt(f)
    }
}

/// One end of a connection.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Endpoint {
    /// Address, canonical.
    pub ip: CanonicalAddr,
    /// Port, host order.
    pub port: u16,
}

impl Endpoint {
    /// An endpoint from its parts.
    pub const fn new(ip: CanonicalAddr, port: u16) -> Self {
        Self { ip, port }
    }
}

impl From<SocketAddr> for Endpoint {
    fn from(addr: SocketAddr) -> Self {
        Self::new(addr.ip().into(), addr.port())
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        SocketAddr::new(self.ip.to_ip(), self.port).fmt(f)
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Both ends of a connection. The client is who sent the ClientHello.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Pair {
    /// Who opened it.
    pub client: Endpoint,
    /// Who accepted it.
    pub server: Endpoint,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        assert_eq!(text.parse::<CanonicalAddr>().unwrap().to_string(), expected);
    }

    #[test]
    fn mapped_and_plain_ipv4_are_one_address() {
        check("1.2.3.4", "1.2.3.4");
        check("::ffff:1.2.3.4", "1.2.3.4");
        check("255.100.99.0", "255.100.99.0");
        check("9.10.200.255", "9.10.200.255");
        assert_eq!("1.2.3.4".parse::<CanonicalAddr>(), "::ffff:102:304".parse());
    }

    #[test]
    fn zone_and_brackets_are_dropped() {
        check("fe80::1%eth0", "fe80::1");
        check("[2001:db8::1]", "2001:db8::1");
    }

    #[test]
    fn garbage_is_refused() {
        assert_eq!("1.2.3".parse::<CanonicalAddr>(), Err(InvalidAddr));
        assert_eq!("".parse::<CanonicalAddr>(), Err(InvalidAddr));
        assert_eq!("%eth0".parse::<CanonicalAddr>(), Err(InvalidAddr));
    }
}
