//! What the consumer gets: peers, and frames of one connection in batches.

use std::sync::Arc;

use ja4_model::{BootId, EventId, EventKind, IdKind, WallNs};

use crate::config::Role;

/// Number of a producer process (source, node, boot) in this receiver; ascends with first greetings.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct OriginId(pub u64);

/// Who is at the other end of a connection, checked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Peer {
    /// The producer process. A process that reconnects keeps it.
    pub origin: OriginId,
    /// Number of the connection, never reused.
    pub conn: u64,
    /// Index of the listener in the configuration.
    pub listener: usize,
    /// What it may send.
    pub role: Role,
    /// Kind of producer.
    pub source: Arc<str>,
    /// Its host.
    pub node: Arc<str>,
    /// Its process id, random; made by the receiver for a peer that did not greet.
    pub boot: BootId,
    /// First number that was not settled at the greeting.
    pub base: u64,
    /// User, from the kernel; of a node's stream a number that no user has.
    pub uid: u32,
    /// Primary group, from the kernel.
    pub gid: u32,
    /// Process, from the kernel; it may have been reused since.
    pub pid: i32,
}

/// What happened, in order for each connection.
#[derive(Debug)]
pub enum Input {
    /// A peer greeted.
    Opened(Arc<Peer>),
    /// Frames arrived.
    Batch(Batch),
    /// The connection ended; no batch of it follows.
    Closed(Arc<Peer>),
}

/// Frames of one connection, in order of arrival.
#[derive(Debug)]
pub struct Batch {
    /// Who sent them.
    pub peer: Arc<Peer>,
    /// Beginnings of connections that are still open, told again to a receiver that may have forgotten them. They
    /// were settled before: nothing is acknowledged and nothing written for them.
    pub announced: bool,
    pub(crate) bytes: Vec<u8>,
    pub(crate) frames: Vec<FrameMeta>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct FrameMeta {
    pub(crate) start: u32,
    pub(crate) len: u32,
    pub(crate) seq: u64,
    pub(crate) recv_ns: WallNs,
    pub(crate) kind: EventKind,
    pub(crate) id_kind: IdKind,
}

/// One event, not decoded. Kind, id and arrival are checked or stamped here and overrule what the bytes say.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// The JSON object.
    pub bytes: &'a [u8],
    /// Its kind, which fits the socket's role.
    pub kind: EventKind,
    /// Its identity; the number of a status is 0 and means nothing.
    pub id: EventId,
    /// Who gave the number.
    pub id_kind: IdKind,
    /// When it arrived.
    pub recv_ns: WallNs,
}

impl Batch {
    /// The frames.
    pub fn frames(&self) -> impl ExactSizeIterator<Item = Frame<'_>> {
        self.frames.iter().map(|frame| Frame {
            bytes: &self.bytes[frame.start as usize..][..frame.len as usize],
            kind: frame.kind,
            id: EventId {
                boot: self.peer.boot,
                seq: frame.seq,
            },
            id_kind: frame.id_kind,
            recv_ns: frame.recv_ns,
        })
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.frames.len()
    }

    /// Never true for a batch that the receiver hands out.
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Memory that it holds, for the queue's limit.
    pub(crate) fn cost(&self) -> usize {
        self.bytes.capacity() + self.frames.capacity() * size_of::<FrameMeta>() + size_of::<Input>()
    }
}
