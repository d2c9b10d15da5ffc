//! What became of every frame and of every connection that was not reported.
//!
//! Three equations: frames received = tracked + untracked + dropped by reason; connections opened = reported +
//! lost by reason ([`Loss::ends_connection`]) + not reported yet; reported = closed + still followed.

use sensor_wire::{ParseIpError, ParseLinkError, ParseTcpError};

macro_rules! reasons {
    ($(#[$doc:meta])* $name:ident { $($(#[$item:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$item])* $variant,)* }

        impl $name {
            /// All reasons, in the order of their numbers.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The name in the ledger and in metrics.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }
    };
}

reasons! {
    /// Why a frame was not looked at further.
    FrameDrop {
        /// The frame ends inside the link header.
        LinkTruncated = "link_truncated",
        /// A link type that is not read.
        LinkUnsupported = "link_unsupported",
        /// A link header that cannot be true.
        LinkMalformed = "link_malformed",
        /// Neither IPv4 nor IPv6.
        NotIp = "not_ip",
        /// The packet ends inside the IP header.
        IpTruncated = "ip_truncated",
        /// An IP header that cannot be true.
        IpMalformed = "ip_malformed",
        /// A piece of a packet.
        IpFragment = "ip_fragment",
        /// Not TCP: UDP, ICMP and the rest.
        NotTcp = "not_tcp",
        /// The segment ends inside the TCP header.
        TcpTruncated = "tcp_truncated",
        /// A TCP header that cannot be true.
        TcpMalformed = "tcp_malformed",
        /// A connection that is followed on another interface.
        OtherView = "other_view",
    }
}

reasons! {
    /// Why a connection was let go without a report, or something on it was not used.
    Loss {
        /// The first bytes were no ClientHello.
        NotTls = "not_tls",
        /// The ClientHello could not be read.
        MalformedHello = "malformed_hello",
        /// The ClientHello was too long or spread over too many records.
        HelloTooLong = "hello_too_long",
        /// A TLS record with a length that is not allowed.
        BadRecord = "bad_record",
        /// Ended before its hello.
        ClosedBeforeHello = "closed_before_hello",
        /// The handshake did not end in time.
        HandshakeTimeout = "handshake_timeout",
        /// No whole hello in time.
        HelloTimeout = "hello_timeout",
        /// Out of the budget for connections being set up.
        OpeningEvicted = "opening_evicted",
        /// Out of the budget for parts of hellos.
        ReassemblyEvicted = "reassembly_evicted",
        /// A connection of our own to somebody else's server, where those are left out.
        Egress = "egress",
        /// A confirmed connection took its addresses.
        Superseded = "superseded",
        /// Too many pieces of one hello out of order; a segment was not kept.
        TooManyPieces = "too_many_pieces",
        /// A RST that was not at the expected sequence number.
        RstIgnored = "rst_ignored",
        /// Data near the hello that acknowledge nothing the other side sent: not of this connection.
        ForeignData = "foreign_data",
        /// A reported connection out of the budget for tracked ones.
        TrackedEvicted = "tracked_evicted",
    }
}

impl Loss {
    /// True if a connection was let go without a report; false if it goes on, or had been reported.
    pub const fn ends_connection(self) -> bool {
        !matches!(
            self,
            Self::TooManyPieces | Self::RstIgnored | Self::ForeignData | Self::TrackedEvicted
        )
    }
}

/// Counters since the start; they only grow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counters {
    /// Frames handed in.
    pub frames: u64,
    /// Bytes captured in them.
    pub frame_bytes: u64,
    /// Frames that belong to a connection that is followed.
    pub frames_tracked: u64,
    /// TCP segments of no interest: no hello, no followed connection.
    pub frames_untracked: u64,
    /// Frames whose end was not captured (snapshot length); counted beside, not instead.
    pub frames_cut: u64,
    /// Hellos reported.
    pub hellos: u64,
    /// Plain-HTTP connections reported.
    pub opens: u64,
    /// SYNs that opened state.
    pub syns: u64,
    /// Connections for which state was opened, by a SYN or by the start of a hello.
    pub opened: u64,
    /// Connections reported.
    pub reported: u64,
    /// Reported connections whose end, or the end of our interest, was reported.
    pub closed: u64,
    frames_dropped: [u64; FrameDrop::ALL.len()],
    losses: [u64; Loss::ALL.len()],
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            frames: 0,
            frame_bytes: 0,
            frames_tracked: 0,
            frames_untracked: 0,
            frames_cut: 0,
            hellos: 0,
            opens: 0,
            syns: 0,
            opened: 0,
            reported: 0,
            closed: 0,
            frames_dropped: [0; FrameDrop::ALL.len()],
            losses: [0; Loss::ALL.len()],
        }
    }
}

impl Counters {
    /// Frames dropped for a reason.
    pub const fn dropped(&self, reason: FrameDrop) -> u64 {
        self.frames_dropped[reason as usize]
    }

    /// Losses for a reason.
    pub const fn lost(&self, reason: Loss) -> u64 {
        self.losses[reason as usize]
    }

    pub(crate) const fn drop_frame(&mut self, reason: FrameDrop) {
        self.frames_dropped[reason as usize] += 1;
    }

    pub(crate) const fn lose(&mut self, reason: Loss) {
        self.losses[reason as usize] += 1;
    }
}

impl From<ParseLinkError> for FrameDrop {
    fn from(error: ParseLinkError) -> Self {
        match error {
            ParseLinkError::Truncated => Self::LinkTruncated,
            ParseLinkError::UnsupportedLink(_) => Self::LinkUnsupported,
            ParseLinkError::UnknownFamily => Self::NotIp,
            ParseLinkError::TooManyTags => Self::LinkMalformed,
        }
    }
}

impl From<ParseIpError> for FrameDrop {
    fn from(error: ParseIpError) -> Self {
        match error {
            ParseIpError::NotIp => Self::NotIp,
            ParseIpError::Truncated => Self::IpTruncated,
            ParseIpError::Malformed | ParseIpError::TooManyExtensions => Self::IpMalformed,
        }
    }
}

impl From<ParseTcpError> for FrameDrop {
    fn from(error: ParseTcpError) -> Self {
        match error {
            ParseTcpError::Truncated => Self::TcpTruncated,
            ParseTcpError::Malformed => Self::TcpMalformed,
        }
    }
}
