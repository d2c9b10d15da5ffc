//! The key of a connection: both ends in canonical order, so that both directions meet in one place.

use sensor_wire::ip::IpAddress;
use sensor_wire::link::VlanTags;

use crate::event::{Encap, Endpoint, Pair};

/// Which end of the canonical order sent a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub(crate) enum Side {
    /// The end with the lower address and port.
    Low = 0,
    /// The other end.
    High = 1,
}

impl Side {
    pub(crate) const fn idx(self) -> usize {
        self as usize
    }

    pub(crate) const fn other(self) -> Self {
        match self {
            Self::Low => Self::High,
            Self::High => Self::Low,
        }
    }
}

/// On which interface the segments of each side are taken: the one that showed them first. The sides may
/// differ, as where a bond spreads directions over its members.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Views([u8; 2]);

impl Views {
    /// Most interfaces that are told apart: one byte, where zero stands for none.
    pub(crate) const INTERFACES_MAX: u16 = 255;

    pub(crate) const fn from_bytes(bytes: [u8; 2]) -> Self {
        Self(bytes)
    }

    pub(crate) const fn to_bytes(self) -> [u8; 2] {
        self.0
    }

    /// True if a segment of `side` on `interface` is not the copy of one that was taken elsewhere.
    #[inline]
    pub(crate) fn admits(self, side: Side, interface: u16) -> bool {
        let known = self.0[side.idx()];
        known == 0 || known == Self::code(interface)
    }

    pub(crate) fn see(&mut self, side: Side, interface: u16) {
        if self.0[side.idx()] == 0 {
            self.0[side.idx()] = Self::code(interface);
        }
    }

    fn code(interface: u16) -> u8 {
        u8::try_from(interface.saturating_add(1)).unwrap_or(u8::MAX)
    }
}

/// Key of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct FlowKey {
    low_ip: u128,
    high_ip: u128,
    /// Low port, high port, outer VLAN id + 1, inner VLAN id + 1; zero stands for no tag. 16 bits each.
    ports_and_tags: u64,
}

impl FlowKey {
    /// The key of a segment and the side that sent it.
    #[inline]
    pub(crate) fn of(src: Endpoint, dst: Endpoint, vlan: VlanTags) -> (Self, Side) {
        let (src_ip, dst_ip) = (src.ip.to_bits(), dst.ip.to_bits());
        let side = if (src_ip, src.port) <= (dst_ip, dst.port) {
            Side::Low
        } else {
            Side::High
        };
        let (low_ip, low_port, high_ip, high_port) = match side {
            Side::Low => (src_ip, src.port, dst_ip, dst.port),
            Side::High => (dst_ip, dst.port, src_ip, src.port),
        };
        let tag = |id: Option<u16>| id.map_or(0, |id| u64::from(id) + 1);
        let ports_and_tags = u64::from(low_port) << 48
            | u64::from(high_port) << 32
            | tag(vlan.outer()) << 16
            | tag(vlan.inner());
        (
            Self {
                low_ip,
                high_ip,
                ports_and_tags,
            },
            side,
        )
    }

    /// The end on a side.
    pub(crate) const fn endpoint(&self, side: Side) -> Endpoint {
        let (ip, shift) = match side {
            Side::Low => (self.low_ip, 48),
            Side::High => (self.high_ip, 32),
        };
        let [.., hi, lo] = (self.ports_and_tags >> shift).to_be_bytes();
        Endpoint {
            ip: IpAddress(ip.to_be_bytes()),
            port: u16::from_be_bytes([hi, lo]),
        }
    }

    /// VLAN ids of the frames, outer and inner.
    pub(crate) const fn vlan(&self) -> (Option<u16>, Option<u16>) {
        let [.., o1, o0, i1, i0] = self.ports_and_tags.to_be_bytes();
        (
            u16::from_be_bytes([o1, o0]).checked_sub(1),
            u16::from_be_bytes([i1, i0]).checked_sub(1),
        )
    }

    /// Both ends, with the client on `side`.
    pub(crate) const fn pair(&self, side: Side) -> Pair {
        Pair {
            client: self.endpoint(side),
            server: self.endpoint(side.other()),
        }
    }
}

/// The VLAN tags as an event has them.
pub(crate) fn encap_of((outer, inner): (Option<u16>, Option<u16>)) -> Option<Encap> {
    outer.map(|outer| Encap::Vlan { outer, inner })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(last: u8, port: u16) -> Endpoint {
        Endpoint {
            ip: IpAddress::from_v4([10, 0, 0, last]),
            port,
        }
    }

    #[test]
    fn both_directions_have_one_key() {
        let (key, side) = FlowKey::of(end(9, 40000), end(1, 443), VlanTags::default());
        let (back, other) = FlowKey::of(end(1, 443), end(9, 40000), VlanTags::default());
        assert_eq!((key, side), (back, other.other()));
        assert_eq!(
            key.pair(side),
            Pair {
                client: end(9, 40000),
                server: end(1, 443)
            }
        );
    }

    #[test]
    fn ports_order_ends_with_one_address() {
        let (key, side) = FlowKey::of(end(1, 443), end(1, 80), VlanTags::default());
        assert_eq!(side, Side::High);
        assert_eq!(key.endpoint(Side::Low), end(1, 80));
    }
}
