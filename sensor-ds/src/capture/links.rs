//! Which interfaces there are, for `capture.interfaces: [auto]`: physical ones and the host's ends of pods' interfaces.
//!
//! Asked of the kernel by netlink, whose answers are of this process's network namespace. A second socket says when
//! something changed; what it says is not looked at, since a burst of changes may overrun it: the list is asked for anew.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};

/// What stands for all interfaces that are found here.
pub(crate) const AUTO: &str = "auto";

/// `RTNLGRP_LINK` of linux/rtnetlink.h.
const LINK_GROUP: u32 = 1;

/// Least time between two lists while interfaces come and go: a list of 250 interfaces takes a millisecond.
const LIST_PAUSE: Duration = Duration::from_millis(50);

/// Messages of changes taken out in one turn.
const CHANGES_PER_TURN: usize = 1024;

/// Parts of one list: each holds at least one interface, and more are not captured on anyway.
const LIST_PARTS_MAX: usize = 16 * 1024;

/// Watches the interfaces of this network namespace.
pub(crate) struct Links {
    changes: Socket,
    is_stale: bool,
    listed_at: Instant,
}

impl Links {
    /// Begins to watch.
    pub(crate) fn watch() -> anyhow::Result<Self> {
        let mut changes = Socket::new(NETLINK_ROUTE).context("cannot ask the kernel for interfaces")?;
        changes.bind_auto().context("cannot bind a netlink socket")?;
        changes
            .add_membership(LINK_GROUP)
            .context("cannot watch interfaces")?;
        changes
            .set_non_blocking(true)
            .context("cannot watch interfaces without waiting")?;
        Ok(Self {
            changes,
            is_stale: true,
            listed_at: Instant::now()
                .checked_sub(LIST_PAUSE)
                .unwrap_or_else(Instant::now),
        })
    }

    /// What to poll.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.changes.as_fd()
    }

    /// The interfaces to capture on, if something changed since the last call.
    pub(crate) fn changed(&mut self) -> anyhow::Result<Option<BTreeMap<String, Found>>> {
        for _ in 0..CHANGES_PER_TURN {
            match self.changes.recv_from_full() {
                Ok(_) => self.is_stale = true,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
                // Overrun: what was missed is in the list.
                Err(_) => {
                    self.is_stale = true;
                    break;
                }
            }
        }
        if !self.is_stale || self.listed_at.elapsed() < LIST_PAUSE {
            return Ok(None);
        }
        let names = wanted(&list()?);
        self.is_stale = false;
        self.listed_at = Instant::now();
        Ok(Some(names))
    }
}

/// What a wanted interface is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    /// A network card.
    Hardware,
    /// One end of a pair whose other end is in another namespace.
    Pod,
}

/// Whether frames of others pass an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Up,
    Down,
    Loopback,
}

/// What is known of an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Link {
    name: String,
    state: State,
    is_ethernet: bool,
    /// Such as `bridge`; none for hardware.
    kind: Option<String>,
    /// Its other end lies in another network namespace.
    has_peer_elsewhere: bool,
}

/// Hardware, and ends of pairs whose other end is in another namespace: a pod's, or the node's own where it is itself in
/// one. Not bridges, tunnels, bonds and VLANs: their frames pass an interface that is captured on.
fn found(link: &Link) -> Option<Found> {
    if link.state != State::Up {
        return None;
    }
    match link.kind.as_deref() {
        None => link.is_ethernet.then_some(Found::Hardware),
        Some("veth" | "netkit") => link.has_peer_elsewhere.then_some(Found::Pod),
        Some(_) => None,
    }
}

fn wanted(links: &[Link]) -> BTreeMap<String, Found> {
    links
        .iter()
        .filter_map(|link| Some((link.name.clone(), found(link)?)))
        .collect()
}

fn list() -> anyhow::Result<Vec<Link>> {
    let mut socket = Socket::new(NETLINK_ROUTE).context("cannot ask the kernel for interfaces")?;
    socket.bind_auto().context("cannot bind a netlink socket")?;
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    let mut request = NetlinkMessage::new(
        header,
        NetlinkPayload::from(RouteNetlinkMessage::GetLink(LinkMessage::default())),
    );
    request.finalize();
    let mut bytes = vec![0; request.buffer_len()];
    request.serialize(&mut bytes);
    socket
        .send_to(&bytes, &SocketAddr::new(0, 0), 0)
        .context("cannot ask the kernel for interfaces")?;
    let mut links = Vec::new();
    for _ in 0..LIST_PARTS_MAX {
        let (part, _) = socket
            .recv_from_full()
            .context("cannot read the list of interfaces")?;
        let mut rest = &part[..];
        while !rest.is_empty() {
            let Some(n) = message_bytes(rest) else { break };
            match NetlinkMessage::<RouteNetlinkMessage>::deserialize(&rest[..n]) {
                Ok(message) => match message.payload {
                    NetlinkPayload::Done(_) => return Ok(links),
                    NetlinkPayload::Error(error) => {
                        bail!("the kernel refused the list of interfaces: {error:?}")
                    }
                    NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) => {
                        links.extend(link_of(&link));
                    }
                    _ => {}
                },
                // A newer kernel says what is not known here: the others are listed all the same.
                Err(error) => tracing::debug!("an interface cannot be read: {error}"),
            }
            rest = rest.get(n.next_multiple_of(4)..).unwrap_or_default();
        }
    }
    bail!("the list of interfaces has no end")
}

/// Length of the first message in a buffer, if it is whole.
fn message_bytes(buffer: &[u8]) -> Option<usize> {
    let (length, _) = buffer.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_ne_bytes(*length)).ok()?;
    // A header has 16 bytes.
    (16..=buffer.len()).contains(&length).then_some(length)
}

fn link_of(message: &LinkMessage) -> Option<Link> {
    let flags = message.header.flags;
    let mut link = Link {
        name: String::new(),
        state: if flags.contains(LinkFlags::Loopback) {
            State::Loopback
        } else if flags.contains(LinkFlags::Up) {
            State::Up
        } else {
            State::Down
        },
        is_ethernet: message.header.link_layer_type == LinkLayerType::Ether,
        kind: None,
        has_peer_elsewhere: false,
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::LinkNetNsId(_) => link.has_peer_elsewhere = true,
            LinkAttribute::LinkInfo(infos) => {
                for info in infos {
                    if let LinkInfo::Kind(kind) = info {
                        link.kind = Some(kind.to_string());
                    }
                }
            }
            _ => {}
        }
    }
    (!link.name.is_empty()).then_some(link)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(kind: Option<&str>, has_peer_elsewhere: bool, expected: Option<Found>) {
        let link = Link {
            name: "x".to_owned(),
            state: State::Up,
            is_ethernet: true,
            kind: kind.map(str::to_owned),
            has_peer_elsewhere,
        };
        assert_eq!(found(&link), expected, "{kind:?}");
        let down = Link {
            state: State::Down,
            ..link.clone()
        };
        assert_eq!(found(&down), None, "one that is down");
        let loopback = Link {
            state: State::Loopback,
            ..link
        };
        assert_eq!(found(&loopback), None, "loopback");
    }

    #[test]
    fn hardware_and_pods_are_wanted_and_what_carries_their_frames_again_is_not() {
        check(None, false, Some(Found::Hardware));
        check(Some("veth"), true, Some(Found::Pod));
        check(Some("netkit"), true, Some(Found::Pod));
        check(Some("veth"), false, None);
        for kind in ["bridge", "vxlan", "dummy", "bond", "vlan", "tun", "wireguard"] {
            check(Some(kind), false, None);
        }
    }

    #[test]
    fn a_cut_message_is_not_read() {
        assert_eq!(message_bytes(&[16, 0, 0]), None);
        assert_eq!(
            message_bytes(&[200, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
            None
        );
        assert_eq!(message_bytes(&[3; 400]), None);
    }

    #[test]
    fn the_kernel_lists_the_loopback() {
        let links = list().unwrap();
        let loopback = links.iter().find(|link| link.name == "lo").unwrap();
        assert!(loopback.state == State::Loopback && loopback.kind.is_none());
        assert!(!wanted(&links).contains_key("lo"));
    }
}
