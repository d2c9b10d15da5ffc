//! Strips the link layer: Ethernet with VLAN tags, raw IP, BSD loopback, Linux cooked capture 1 and 2.

use crate::reader::Reader;
use crate::registry::{EtherType, LinkType};

/// Most VLAN tags on one frame: `QinQ` has two, some operators stack a third.
pub const MAX_VLAN_TAGS: usize = 4;

/// A frame without its link header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkFrame<'a> {
    /// What `payload` is.
    pub ethertype: EtherType,
    /// VLAN tags, outermost first.
    pub vlan: VlanTags,
    /// Bytes of the network layer and any link trailer behind them.
    pub payload: &'a [u8],
}

/// VLAN ids of a frame, outermost first; 12 bits each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct VlanTags {
    ids: [u16; 2],
    n: u8,
}

impl VlanTags {
    /// The outermost id, if the frame had a tag.
    pub const fn outer(self) -> Option<u16> {
        if self.n > 0 { Some(self.ids[0]) } else { None }
    }

    /// The second id, if the frame had two tags. Deeper ones are not kept.
    pub const fn inner(self) -> Option<u16> {
        if self.n > 1 { Some(self.ids[1]) } else { None }
    }

    fn push(&mut self, id: u16) {
        if let Some(slot) = self.ids.get_mut(usize::from(self.n)) {
            *slot = id;
        }
        self.n = self.n.saturating_add(1);
    }
}

/// Why a frame has no readable network layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseLinkError {
    /// The frame ends inside the link header.
    #[error("frame ends inside the link header")]
    Truncated,
    /// The link type is not one that is read here.
    #[error("link type {} is not supported", .0.0)]
    UnsupportedLink(LinkType),
    /// The address family of a loopback header or the version of a raw packet is neither IPv4 nor IPv6.
    #[error("neither IPv4 nor IPv6")]
    UnknownFamily,
    /// More VLAN tags than [`MAX_VLAN_TAGS`].
    #[error("more than {MAX_VLAN_TAGS} VLAN tags")]
    TooManyTags,
}

/// True if frames of this link type can be read.
pub const fn is_supported(link: LinkType) -> bool {
    matches!(
        link,
        LinkType::NULL
            | LinkType::ETHERNET
            | LinkType::RAW
            | LinkType::RAW_OPENBSD
            | LinkType::RAW_FILE
            | LinkType::LOOP
            | LinkType::LINUX_SLL
            | LinkType::IPV4
            | LinkType::IPV6
            | LinkType::LINUX_SLL2
    )
}

/// Strips the link header of `frame`.
///
/// # Errors
/// See [`ParseLinkError`]. A frame of a protocol other than IP is no error: its `ethertype` says so.
#[inline]
pub fn parse_link(link: LinkType, frame: &[u8]) -> Result<LinkFrame<'_>, ParseLinkError> {
    let mut reader = Reader::new(frame);
    let ethertype = match link {
        LinkType::ETHERNET => {
            reader.take(12).ok_or(ParseLinkError::Truncated)?;
            reader.u16().ok_or(ParseLinkError::Truncated)?
        }
        LinkType::LINUX_SLL => {
            reader.take(14).ok_or(ParseLinkError::Truncated)?;
            reader.u16().ok_or(ParseLinkError::Truncated)?
        }
        LinkType::LINUX_SLL2 => {
            let ethertype = reader.u16().ok_or(ParseLinkError::Truncated)?;
            reader.take(18).ok_or(ParseLinkError::Truncated)?;
            ethertype
        }
        LinkType::NULL | LinkType::LOOP => {
            let family = reader.array().ok_or(ParseLinkError::Truncated)?;
            return Ok(untagged(ethertype_of_family(family)?, reader.rest()));
        }
        LinkType::RAW | LinkType::RAW_OPENBSD | LinkType::RAW_FILE | LinkType::IPV4 | LinkType::IPV6 => {
            return Ok(untagged(ethertype_of_version(frame)?, frame));
        }
        other => return Err(ParseLinkError::UnsupportedLink(other)),
    };
    strip_vlan(EtherType(ethertype), reader)
}

fn untagged(ethertype: EtherType, payload: &[u8]) -> LinkFrame<'_> {
    LinkFrame {
        ethertype,
        vlan: VlanTags::default(),
        payload,
    }
}

#[inline]
fn strip_vlan(mut ethertype: EtherType, mut reader: Reader<'_>) -> Result<LinkFrame<'_>, ParseLinkError> {
    let mut vlan = VlanTags::default();
    while ethertype.is_vlan() {
        if usize::from(vlan.n) >= MAX_VLAN_TAGS {
            return Err(ParseLinkError::TooManyTags);
        }
        let tag = reader.u16().ok_or(ParseLinkError::Truncated)?;
        vlan.push(tag & 0x0fff);
        ethertype = EtherType(reader.u16().ok_or(ParseLinkError::Truncated)?);
    }
    Ok(LinkFrame {
        ethertype,
        vlan,
        payload: reader.rest(),
    })
}

/// `AF_INET` is 2 everywhere; `AF_INET6` is 10 on Linux, 24 on NetBSD and OpenBSD, 28 on FreeBSD, 30 on macOS.
fn ethertype_of_family(family: [u8; 4]) -> Result<EtherType, ParseLinkError> {
    let ([0, 0, 0, value] | [value, 0, 0, 0]) = family else {
        return Err(ParseLinkError::UnknownFamily);
    };
    match value {
        2 => Ok(EtherType::IPV4),
        10 | 24 | 28 | 30 => Ok(EtherType::IPV6),
        _ => Err(ParseLinkError::UnknownFamily),
    }
}

fn ethertype_of_version(packet: &[u8]) -> Result<EtherType, ParseLinkError> {
    match packet.first().ok_or(ParseLinkError::Truncated)? >> 4 {
        4 => Ok(EtherType::IPV4),
        6 => Ok(EtherType::IPV6),
        _ => Err(ParseLinkError::UnknownFamily),
    }
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn ethernet(tail: &[u8]) -> Vec<u8> {
        [&[2; 12], tail].concat()
    }

    #[track_caller]
    fn check(
        link: LinkType,
        frame: &[u8],
        ethertype: EtherType,
        vlan: (Option<u16>, Option<u16>),
        payload: &[u8],
    ) {
        let read = parse_link(link, frame).unwrap();
        assert_eq!(read.ethertype, ethertype);
        assert_eq!((read.vlan.outer(), read.vlan.inner()), vlan);
        assert_eq!(read.payload, payload);
    }

    #[test]
    fn ethernet_without_tags() {
        check(
            LinkType::ETHERNET,
            &ethernet(&[8, 0, 0x45]),
            EtherType::IPV4,
            (None, None),
            &[0x45],
        );
    }

    #[test]
    fn vlan_tag_is_stripped_and_priority_bits_are_not_part_of_the_id() {
        let frame = ethernet(&[0x81, 0, 0xe0, 100, 0x86, 0xdd, 0x60]);
        check(
            LinkType::ETHERNET,
            &frame,
            EtherType::IPV6,
            (Some(100), None),
            &[0x60],
        );
    }

    #[test]
    fn qinq_keeps_both_ids_for_each_outer_tag() {
        for outer in [[0x88, 0xa8], [0x91, 0x00], [0x81, 0x00]] {
            let frame = ethernet(&[&outer[..], &[0, 7, 0x81, 0, 0, 9, 8, 0, 1]].concat());
            check(
                LinkType::ETHERNET,
                &frame,
                EtherType::IPV4,
                (Some(7), Some(9)),
                &[1],
            );
        }
    }

    #[test]
    fn five_tags_are_refused() {
        let frame = ethernet(&[&[0x81, 0, 0, 1].repeat(5)[..], &[8, 0]].concat());
        assert_eq!(
            parse_link(LinkType::ETHERNET, &frame),
            Err(ParseLinkError::TooManyTags)
        );
    }

    #[test]
    fn loopback_family_is_read_in_both_byte_orders() {
        check(
            LinkType::NULL,
            &[2, 0, 0, 0, 0x45],
            EtherType::IPV4,
            (None, None),
            &[0x45],
        );
        check(
            LinkType::LOOP,
            &[0, 0, 0, 24, 0x60],
            EtherType::IPV6,
            (None, None),
            &[0x60],
        );
        check(
            LinkType::NULL,
            &[30, 0, 0, 0, 0x60],
            EtherType::IPV6,
            (None, None),
            &[0x60],
        );
        assert_eq!(
            parse_link(LinkType::NULL, &[7, 0, 0, 0]),
            Err(ParseLinkError::UnknownFamily)
        );
    }

    #[test]
    fn raw_packets_say_their_version() {
        check(
            LinkType::RAW,
            &[0x45, 1],
            EtherType::IPV4,
            (None, None),
            &[0x45, 1],
        );
        check(
            LinkType::RAW_FILE,
            &[0x60, 1],
            EtherType::IPV6,
            (None, None),
            &[0x60, 1],
        );
        assert_eq!(parse_link(LinkType::RAW, &[]), Err(ParseLinkError::Truncated));
    }

    #[test]
    fn cooked_captures_are_read() {
        check(
            LinkType::LINUX_SLL,
            &[&[0; 14][..], &[8, 0, 0x45]].concat(),
            EtherType::IPV4,
            (None, None),
            &[0x45],
        );
        let sll2 = [&[0x86, 0xdd][..], &[0; 18], &[0x60]].concat();
        check(
            LinkType::LINUX_SLL2,
            &sll2,
            EtherType::IPV6,
            (None, None),
            &[0x60],
        );
    }

    #[test]
    fn every_short_frame_is_truncated_or_empty() {
        let frame = ethernet(&[0x81, 0, 0, 1, 8, 0]);
        for n in 0..frame.len() {
            assert_eq!(
                parse_link(LinkType::ETHERNET, &frame[..n]),
                Err(ParseLinkError::Truncated),
                "{n}"
            );
        }
    }

    #[test]
    fn other_links_are_refused_by_number() {
        let error = parse_link(LinkType(127), &[0; 64]).unwrap_err();
        assert_eq!(error.to_string(), "link type 127 is not supported");
    }
}
