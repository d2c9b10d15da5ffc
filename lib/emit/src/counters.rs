//! What became of the events, by number and by reason.

/// Why an event was dropped.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum DropReason {
    /// The buffer was full: the receiver is connected but slower than the producer.
    Overflow,
    /// The buffer was full and nobody listened.
    NoReceiver,
    /// Longer than `ja4_model::limits::MAX_MESSAGE_BYTES`.
    Oversize,
    /// The kernel refused the packet (SEQPACKET, larger than the send buffer).
    Refused,
    /// Given to `send` after the stop began, or not sent when its deadline passed.
    Stopped,
    /// A status given to `send`: the emitter writes its own.
    ForeignStatus,
}

impl DropReason {
    /// All reasons, in the order of their numbers.
    pub const ALL: [Self; 6] = [
        Self::Overflow,
        Self::NoReceiver,
        Self::Oversize,
        Self::Refused,
        Self::Stopped,
        Self::ForeignStatus,
    ];

    /// The name in counters and in the status event.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Overflow => "overflow",
            Self::NoReceiver => "no_receiver",
            Self::Oversize => "oversize",
            Self::Refused => "refused",
            Self::Stopped => "stopped",
            Self::ForeignStatus => "foreign_status",
        }
    }
}

/// Counts by [`DropReason`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Dropped([u64; DropReason::ALL.len()]);

impl Dropped {
    pub(crate) fn add(&mut self, reason: DropReason, n: u64) {
        self.0[reason as usize] += n;
    }

    #[cfg(test)]
    pub(crate) fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (DropReason, u64)> {
        DropReason::ALL.into_iter().zip(self.0).filter(|(_, n)| *n > 0)
    }
}

/// Counts of events since the start, at one moment.
///
/// On STREAM `next_seq = acked + dropped + pending`, on SEQPACKET `next_seq = sent + dropped + pending`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Events given to `send`: the number that the next one takes.
    pub next_seq: u64,
    /// Events handed to the kernel at least once.
    pub sent: u64,
    /// Repeats of those after a reconnect (STREAM).
    pub resent: u64,
    /// Events that the receiver acknowledged (STREAM).
    pub acked: u64,
    /// Dropped events by reason; reasons with none are left out.
    pub dropped: Vec<(DropReason, u64)>,
    /// Events neither acknowledged (STREAM) or sent (SEQPACKET) nor dropped.
    pub pending: u64,
    /// Memory that the buffer uses now, bytes.
    pub buffered_bytes: usize,
    /// True while the receiver listens (and has answered the greeting, on STREAM).
    pub connected: bool,
    /// Connections made.
    pub connects: u64,
    /// Connections that ended because the receiver broke the protocol.
    pub protocol_errors: u64,
    /// Why the last attempt to connect failed or the last connection ended; empty if none has.
    pub last_error: String,
}

impl Counters {
    /// Dropped events of all reasons.
    pub fn dropped_total(&self) -> u64 {
        self.dropped.iter().map(|(_, n)| n).sum()
    }
}

/// What was left when the emitter stopped.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct StopReport {
    /// The final counts.
    pub counters: Counters,
    /// Events that were sent but not acknowledged by the deadline (STREAM): the receiver may or may
    /// not have them.
    pub unacknowledged: u64,
}
