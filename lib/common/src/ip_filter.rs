//! Sets of networks: own addresses, allowed peers.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// One network, such as `10.0.0.0/8` or `2001:db8::/32`; a lone address is a network of one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Network {
    base: u128,
    prefix_len: u8,
    v4: bool,
}

impl Network {
    /// True if the address is in the network. IPv4 and IPv4-mapped IPv6 are the same.
    pub fn contains(&self, ip: IpAddr) -> bool {
        (to_bits(ip) ^ self.base) & mask(self.prefix_len) == 0
    }
}

fn to_bits(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

/// The first `prefix_len` of 128 bits.
fn mask(prefix_len: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(prefix_len)).unwrap_or(0)
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let invalid = || format!("{text:?} is not a network such as 10.0.0.0/8 or 2001:db8::/32");
        let (addr, prefix_len) = match text.split_once('/') {
            Some((addr, len)) => (addr, Some(len.parse::<u8>().map_err(|_| invalid())?)),
            None => (text, None),
        };
        let ip: IpAddr = addr.parse().map_err(|_| invalid())?;
        let (v4, longest) = match ip {
            IpAddr::V4(_) => (true, 32),
            IpAddr::V6(_) => (false, 128),
        };
        let prefix_len = prefix_len.unwrap_or(longest);
        if prefix_len > longest {
            return Err(invalid());
        }
        let prefix_len = prefix_len + (128 - longest);
        Ok(Self {
            base: to_bits(ip) & mask(prefix_len),
            prefix_len,
            v4,
        })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let base = Ipv6Addr::from_bits(self.base);
        match base.to_ipv4_mapped() {
            Some(v4) if self.v4 => write!(f, "{v4}/{}", self.prefix_len - 96),
            _ => write!(f, "{base}/{}", self.prefix_len),
        }
    }
}

impl TryFrom<String> for Network {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Network> for String {
    fn from(network: Network) -> Self {
        network.to_string()
    }
}

/// A set of networks. A list of tens is searched one by one: that beats a tree at this size.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct IpFilter(pub Vec<Network>);

impl IpFilter {
    /// True if any network holds the address.
    pub fn contains(&self, ip: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(ip))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(network: &str, ip: &str, expected: bool) {
        assert_eq!(
            network.parse::<Network>().unwrap().contains(ip.parse().unwrap()),
            expected
        );
    }

    #[test]
    fn membership_follows_the_prefix() {
        check("10.0.0.0/8", "10.255.1.2", true);
        check("10.0.0.0/8", "11.0.0.0", false);
        check("10.1.2.3", "10.1.2.3", true);
        check("10.1.2.3", "10.1.2.4", false);
        check("0.0.0.0/0", "8.8.8.8", true);
        check("0.0.0.0/0", "2001:db8::1", false);
        check("::/0", "8.8.8.8", true);
        check("2001:db8::/32", "2001:db8:ffff::1", true);
        check("10.0.0.0/8", "::ffff:10.0.0.1", true);
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "10.0.0.0/33", "10.0.0/8", "::/129", "a/8", "1.2.3.4/-1"] {
            assert!(text.parse::<Network>().is_err(), "{text}");
        }
    }

    #[test]
    fn networks_print_as_they_are_read() {
        for text in ["10.0.0.0/8", "2001:db8::/32", "127.0.0.1/32"] {
            assert_eq!(text.parse::<Network>().unwrap().to_string(), text);
        }
    }
}
