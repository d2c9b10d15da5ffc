//! Full state of one connection that is being set up: handshake, search for the hello, confirmation.

use sensor_wire::tcp::SeqNum;
use sensor_wire::tls::HelloScanner;

use crate::assembly::Assembly;
use crate::event::{Confirmed, ConnId, FlowFlags, SynFacts, TimeNs};
use crate::key::{FlowKey, Side, Views};
use crate::numbers::Numbers;
use crate::store::{FlowIdx, Links};

/// How far the TCP handshake went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Handshake {
    /// The SYN was not seen.
    Midstream,
    /// A SYN of `opener`.
    Syn {
        /// Who sent the SYN.
        opener: Side,
    },
    /// A SYN and the other side's answer to it.
    SynAck {
        /// Who sent the SYN.
        opener: Side,
    },
    /// The opener acknowledged that answer: it receives what is sent to its address.
    Established {
        /// Who sent the SYN.
        opener: Side,
    },
}

impl Handshake {
    pub(crate) const fn opener(self) -> Option<Side> {
        match self {
            Self::Midstream => None,
            Self::Syn { opener } | Self::SynAck { opener } | Self::Established { opener } => Some(opener),
        }
    }
}

/// Search for a ClientHello among the bytes of one side.
#[derive(Debug)]
pub(crate) struct Search {
    /// Number of the first byte of the stream that is searched.
    pub(crate) base: SeqNum,
    pub(crate) scanner: HelloScanner,
    /// Bytes kept because a hello was not whole in its first segment.
    pub(crate) assembly: Option<Box<Assembly>>,
}

impl Search {
    pub(crate) fn at(base: SeqNum) -> Self {
        Self {
            base,
            scanner: HelloScanner::default(),
            assembly: None,
        }
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        self.assembly
            .as_ref()
            .map_or(0, |assembly| assembly.memory_bytes())
    }
}

/// A connection that is being set up.
#[derive(Debug)]
pub(crate) struct Flow {
    pub(crate) hash: u64,
    pub(crate) key: FlowKey,
    pub(crate) links: Links,
    /// The next connection with the same key, an older one.
    pub(crate) older: Option<FlowIdx>,
    /// Interface on which it was seen first.
    pub(crate) interface: u16,
    pub(crate) views: Views,
    pub(crate) handshake: Handshake,
    pub(crate) numbers: Numbers,
    /// Number of the opener's SYN.
    pub(crate) isn: SeqNum,
    pub(crate) open_at: TimeNs,
    pub(crate) syn: Option<SynFacts>,
    /// Searches of the low and the high side; `None` where there is nothing to find.
    pub(crate) search: [Option<Box<Search>>; 2],
    pub(crate) flags: FlowFlags,
    /// Set once the connection has been reported.
    pub(crate) reported: Option<Reported>,
}

/// What is known of a connection that has been reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reported {
    pub(crate) conn: ConnId,
    pub(crate) client: Side,
    /// Number behind the hello, or behind the first data of a plain connection.
    pub(crate) end: SeqNum,
    pub(crate) confirmed: Confirmed,
    pub(crate) n_hellos: u8,
}

impl Flow {
    pub(crate) fn memory_bytes(&self) -> usize {
        self.search
            .iter()
            .flatten()
            .map(|search| search.memory_bytes())
            .sum()
    }

    pub(crate) fn is_searching(&self) -> bool {
        self.search.iter().any(Option::is_some)
    }

    /// True if the client proved that it receives what is sent to it, so that forging is out of question.
    pub(crate) fn is_proven(&self) -> bool {
        matches!(self.handshake, Handshake::Established { .. })
            || self
                .reported
                .is_some_and(|reported| reported.confirmed > Confirmed::None)
    }
}
