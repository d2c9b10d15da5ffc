//! Addresses in the one form in which they are compared: 16 bytes, IPv4 as `::ffff:a.b.c.d`, no zone.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// Transport protocol.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum Transport {
    /// TCP.
    #[default]
    Tcp,
    /// UDP: QUIC.
    Udp,
}

/// One end of a connection.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Endpoint {
    /// Address: 16 bytes, IPv4 mapped into IPv6. All zero if unknown.
    pub ip: [u8; 16],
    /// Port, host order. 0 if unknown.
    pub port: u16,
}

impl Endpoint {
    /// True if it can be a key: neither address nor port is unknown.
    pub fn is_usable(&self) -> bool {
        self.port != 0 && self.ip != [0; 16] && self.ip != Self::V4_UNSPECIFIED
    }

    /// `0.0.0.0` in canonical form.
    const V4_UNSPECIFIED: [u8; 16] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0];
}

impl From<SocketAddr> for Endpoint {
    fn from(addr: SocketAddr) -> Self {
        let ip = match addr.ip() {
            IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
            IpAddr::V6(v6) => v6.octets(),
        };
        Self {
            ip,
            port: addr.port(),
        }
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let v6 = Ipv6Addr::from(self.ip);
        let ip = v6.to_ipv4_mapped().map_or(IpAddr::V6(v6), IpAddr::V4);
        SocketAddr::new(ip, self.port).fmt(f)
    }
}

/// Both ends of a connection. The client is who sent the ClientHello or the request.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Pair {
    /// Who opened it.
    pub client: Endpoint,
    /// Who accepted it.
    pub server: Endpoint,
}
