//! The networks that are our own, for the direction of a connection.

use std::net::IpAddr;
use std::str::FromStr;

use sensor_wire::ip::IpAddress;

/// A network in CIDR notation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    addr: u128,
    mask: u128,
}

/// A text that is not a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidNetwork(String);

impl std::fmt::Display for InvalidNetwork {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{:?} is not a network such as 10.0.0.0/8 or 2001:db8::/32",
            self.0
        )
    }
}

impl std::error::Error for InvalidNetwork {}

impl FromStr for Network {
    type Err = InvalidNetwork;

    /// Reads `ADDRESS/BITS`, or an address alone. Bits behind the prefix are ignored.
    fn from_str(text: &str) -> Result<Self, InvalidNetwork> {
        let invalid = || InvalidNetwork(text.to_owned());
        let (addr, bits) = text
            .split_once('/')
            .map_or((text, None), |(addr, bits)| (addr, Some(bits)));
        let addr: IpAddr = addr.parse().map_err(|_| invalid())?;
        let (width, shift) = if addr.is_ipv4() { (32, 96) } else { (128, 0) };
        let bits: u32 = bits.map_or(Ok(width), str::parse).map_err(|_| invalid())?;
        if bits > width {
            return Err(invalid());
        }
        let mask = u128::MAX.checked_shl(128 - (bits + shift)).unwrap_or(0);
        Ok(Self {
            addr: bits_of(addr) & mask,
            mask,
        })
    }
}

/// Own networks. Empty: every connection is `ingress`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OwnNetworks(pub Vec<Network>);

impl OwnNetworks {
    /// True if an own network holds the address.
    pub fn contains(&self, addr: IpAddress) -> bool {
        let bits = addr.to_bits();
        self.0.iter().any(|network| bits & network.mask == network.addr)
    }
}

/// IPv4 as `::ffff:a.b.c.d`, so that both families share one comparison.
fn bits_of(addr: IpAddr) -> u128 {
    match addr {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(network: &str, addr: &str, expected: bool) {
        let own = OwnNetworks(vec![network.parse().unwrap()]);
        assert_eq!(
            own.contains(IpAddress(bits_of(addr.parse().unwrap()).to_be_bytes())),
            expected,
            "{addr} in {network}"
        );
    }

    #[test]
    fn prefixes_of_both_families_match() {
        check("10.0.0.0/8", "10.255.0.1", true);
        check("10.0.0.0/8", "11.0.0.1", false);
        check("127.0.0.1", "127.0.0.1", true);
        check("127.0.0.1", "127.0.0.2", false);
        check("0.0.0.0/0", "203.0.113.9", true);
        check("0.0.0.0/0", "2001:db8::1", false);
        check("::/0", "2001:db8::1", true);
        check("2001:db8::/32", "2001:db8:1::1", true);
        check("10.1.2.3/8", "10.9.9.9", true);
    }

    #[test]
    fn other_texts_are_refused() {
        for text in ["", "10.0.0.0/33", "::/129", "10.0.0.0/x", "eth0"] {
            assert!(text.parse::<Network>().is_err(), "{text}");
        }
    }
}
