//! Identifiers: of a producer process, of a connection, of an event.

use std::fmt;
use std::str::FromStr;

use crate::connection::Hex;

/// A text that is not the hexadecimal form of an identifier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidId;

impl fmt::Display for InvalidId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a hexadecimal identifier of the right length")
    }
}

impl std::error::Error for InvalidId {}

/// Random id of one producer process; 16 hexadecimal digits on the wire.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct BootId(pub u64);

impl fmt::Display for BootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&Hex(&self.0.to_be_bytes()), f)
    }
}

impl fmt::Debug for BootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for BootId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let value = parse_hex(text, 16)?;
        u64::try_from(value).map(Self).map_err(|_| InvalidId)
    }
}

/// The sensor's id of a connection: boot in the upper, counter in the lower 64 bits; 32 hexadecimal
/// digits on the wire.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ConnUid(pub u128);

impl ConnUid {
    /// The id of connection number `counter` of process `boot`.
    pub fn new(boot: BootId, counter: u64) -> Self {
        Self(u128::from(boot.0) << 64 | u128::from(counter))
    }
}

impl fmt::Display for ConnUid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&Hex(&self.0.to_be_bytes()), f)
    }
}

impl fmt::Debug for ConnUid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for ConnUid {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        parse_hex(text, 32).map(Self)
    }
}

/// Identity of an event: which process, which number. Written `boot-seq`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct EventId {
    /// The producer process.
    pub boot: BootId,
    /// Counts from 0.
    pub seq: u64,
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.boot, self.seq)
    }
}

fn parse_hex(text: &str, digits: usize) -> Result<u128, InvalidId> {
    if text.len() != digits || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(InvalidId);
    }
    u128::from_str_radix(text, 16).map_err(|_| InvalidId)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_survive_the_round_trip() {
        let uid = ConnUid::new(BootId(0xdead_beef), 7);
        assert_eq!(uid.to_string(), "00000000deadbeef0000000000000007");
        assert_eq!(uid.to_string().parse(), Ok(uid));
        assert_eq!("00000000deadbeef".parse(), Ok(BootId(0xdead_beef)));
    }

    #[test]
    fn wrong_length_sign_and_digit_are_refused() {
        for text in [
            "",
            "1",
            "+000000deadbeef0",
            "00000000deadbeeg",
            "00000000deadbeef0",
        ] {
            assert_eq!(text.parse::<BootId>(), Err(InvalidId), "{text}");
        }
    }
}
