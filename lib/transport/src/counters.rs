//! What the receiver counts, as snapshots and by reason.

use std::path::PathBuf;
use std::sync::Arc;

use ja4_model::BootId;

use crate::batch::OriginId;

macro_rules! reasons {
    ($(#[$meta:meta])* $name:ident { $($(#[$vmeta:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum $name { $($(#[$vmeta])* $variant,)* }
        impl $name {
            /// All reasons, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];
            /// The name in counters.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }
    };
}

reasons! {
    /// Why a frame was dropped.
    DropReason {
        /// Longer than `ja4_model::limits::MAX_MESSAGE_BYTES`.
        TooLong = "too_long",
        /// Not a JSON object with the fields that every event has.
        Malformed = "malformed",
        /// Another version of the wire.
        Version = "version",
        /// A kind that this version does not know.
        UnknownKind = "unknown_kind",
        /// A kind that this socket may not carry.
        Role = "role",
        /// Source, node or boot differ from the greeting.
        Claim = "claim",
        /// Seen before by this process: sent again after a reconnect (STREAM).
        Duplicate = "duplicate",
        /// Over the identity's rate (SEQPACKET).
        Quota = "quota",
        /// The consumer has not taken what came before (SEQPACKET).
        QueueFull = "queue_full",
    }
}

reasons! {
    /// Why a connection was closed by the receiver.
    RefuseReason {
        /// The user and group may not use this socket, or are not known.
        Peer = "peer",
        /// Too many connections, of all or of this user.
        Connections = "connections",
        /// No greeting in time.
        GreetingTimeout = "greeting_timeout",
        /// The first frame is no greeting.
        Greeting = "greeting",
        /// The greeting offers no version of the wire that this receiver reads.
        Version = "version",
        /// The greeting names a source that this socket may not carry.
        Source = "source",
        /// The greeting names another host.
        Node = "node",
        /// Too many identities, or too many producer processes that are connected.
        Origins = "origins",
        /// Too many new processes in an hour.
        Boots = "boots",
        /// Another user's process has this boot id.
        BootTaken = "boot_taken",
        /// The consumer takes nothing, and notices of connections alone have filled the queue.
        QueueFull = "queue_full",
        /// Lines of this identity that have begun and not ended hold too much memory.
        HalfFrames = "half_frames",
        /// The peer does not speak TLS as it must, or left in the middle.
        Handshake = "handshake",
        /// No certificate was shown.
        NoCertificate = "no_certificate",
        /// The certificate has expired.
        CertificateExpired = "certificate_expired",
        /// No issuer in the bundle has signed the certificate, or it is not in order.
        CertificateUntrusted = "certificate_untrusted",
        /// The certificate does not say who its owner is.
        CertificateName = "certificate_name",
        /// The certificate's role does not allow what was asked for.
        CertificateRole = "certificate_role",
        /// No token, or one that is not known.
        Token = "token",
        /// What came is no frame, or not in its place.
        Protocol = "protocol",
        /// Nothing was said for too long.
        Idle = "idle",
    }
}

macro_rules! tally {
    ($(#[$meta:meta])* $name:ident of $reason:ident) => {
        $(#[$meta])*
        #[derive(Clone, Debug, Default)]
        pub(crate) struct $name([u64; $reason::ALL.len()]);
        impl $name {
            pub(crate) fn add(&mut self, reason: $reason) {
                self.0[reason as usize] += 1;
            }
            pub(crate) fn list(&self) -> Vec<($reason, u64)> {
                let counts = $reason::ALL.iter().copied().zip(self.0);
                counts.filter(|(_, n)| *n > 0).collect()
            }
        }
    };
}

tally! {
    /// Dropped frames by reason.
    Drops of DropReason
}
tally! {
    /// Closed connections by reason.
    Refusals of RefuseReason
}

/// Everything that is counted, at one moment.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    /// By socket.
    pub listeners: Vec<ListenerCounters>,
    /// By identity, in the order of their first greeting.
    pub identities: Vec<IdentityCounters>,
}

/// One socket.
#[derive(Clone, Debug, Default)]
pub struct ListenerCounters {
    /// Where it is.
    pub path: PathBuf,
    /// Connections taken.
    pub accepted: u64,
    /// Connections that the receiver closed, by reason; reasons with none are left out.
    pub refused: Vec<(RefuseReason, u64)>,
    /// Connections now.
    pub open: u64,
    /// Times that accepting paused because the process had no descriptors or memory left.
    pub accept_paused: u64,
}

/// One identity: `received = passed + dropped + pending`, in frames.
#[derive(Clone, Debug)]
pub struct IdentityCounters {
    /// Index of the listener.
    pub listener: usize,
    /// Kind of producer.
    pub source: Arc<str>,
    /// Its host.
    pub node: Arc<str>,
    /// Its user.
    pub uid: u32,
    /// Frames that arrived whole, or were too long.
    pub received: u64,
    /// Frames that the consumer took.
    pub passed: u64,
    /// Frames dropped, by reason; reasons with none are left out.
    pub dropped: Vec<(DropReason, u64)>,
    /// Frames that wait for the consumer.
    pub pending: u64,
    /// Bytes of the frames received.
    pub bytes: u64,
    /// Memory of the frames that wait.
    pub queue_bytes: usize,
    /// Times that a STREAM connection was not read because of the queue or the rate.
    pub pauses: u64,
    /// Lines that a connection left unfinished.
    pub unfinished: u64,
}

impl IdentityCounters {
    /// Dropped frames of all reasons.
    pub fn dropped_total(&self) -> u64 {
        self.dropped.iter().map(|(_, n)| n).sum()
    }
}

/// One producer process: `next_seq - base = received + lost`, in numbered events.
#[derive(Clone, Debug)]
pub struct OriginCounters {
    /// Its number here.
    pub origin: OriginId,
    /// Kind of producer.
    pub source: Arc<str>,
    /// Its host.
    pub node: Arc<str>,
    /// The process.
    pub boot: BootId,
    /// First number that was expected: what was settled when it first greeted.
    pub base: u64,
    /// Different numbers that arrived, whether passed or dropped by us.
    pub received: u64,
    /// The highest number that arrived, plus one; `base` before the first.
    pub next_seq: u64,
    /// Numbers that did not arrive: dropped by the producer (its status says how many) or lost.
    pub lost: u64,
    /// First number that the consumer has not settled (STREAM).
    pub acked: u64,
    /// Connections now.
    pub connections: u32,
}
