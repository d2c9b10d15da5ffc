//! Sequence numbers of both directions, believed only as far as a segment proves that it belongs.
//!
//! A segment *continues* its direction if it starts at the expected number or before it and does not lie
//! wholly too far back. After a loss in the capture, a segment ahead of the expected number is believed
//! if it acknowledges exactly what the other side sent last; and what a believed segment acknowledges
//! moves the other side on. An attacker off the path knows neither number, so forged segments move
//! nothing (RFC 5961 gives the server the same protection).

use sensor_wire::tcp::{SeqNum, TcpFlags, TcpSegment};

use crate::key::Side;

/// How far from the expected number a segment may lie to belong to a connection at all: the largest
/// receive window that common systems grow to (16 MiB).
pub(crate) const WINDOW_BYTES: i32 = 16 * 1024 * 1024;

/// How far the acknowledgement of a segment that is not next may lie from what the other side sent last: what
/// can be in flight within one retransmission time at 100 Mbit/s.
const REPEATED_ACK_BYTES: u32 = 1024 * 1024;

/// The next number of each side, where known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Numbers {
    pub(crate) next: [SeqNum; 2],
    pub(crate) known: [bool; 2],
    pub(crate) fin: [bool; 2],
}

/// What a segment proved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Observed {
    /// It started exactly at the expected number.
    pub(crate) exact: bool,
    /// It is believed to come from the side it says.
    pub(crate) believed: bool,
}

impl Numbers {
    /// The expected number of a side, if known.
    pub(crate) fn expected(&self, side: Side) -> Option<SeqNum> {
        self.known[side.idx()].then_some(self.next[side.idx()])
    }

    pub(crate) const fn learn(&mut self, side: Side, next: SeqNum) {
        self.next[side.idx()] = next;
        self.known[side.idx()] = true;
    }

    /// True if the segment can belong to this connection.
    pub(crate) fn fits(&self, side: Side, segment: &TcpSegment<'_>) -> bool {
        let near = |number: SeqNum, expected: SeqNum| {
            number.since(expected).unsigned_abs() <= WINDOW_BYTES.unsigned_abs()
        };
        match (self.expected(side), self.expected(side.other())) {
            (Some(expected), _) => near(segment.seq, expected),
            (None, Some(other)) if segment.flags.has(TcpFlags::ACK) => near(segment.ack, other),
            _ => true,
        }
    }

    /// True if the segment starts exactly at the expected number.
    pub(crate) fn continues(&self, side: Side, segment: &TcpSegment<'_>) -> bool {
        self.expected(side) == Some(segment.seq)
    }

    /// True if a RST of `side` counts: exactly at the expected number.
    pub(crate) fn is_valid_reset(&self, side: Side, segment: &TcpSegment<'_>) -> bool {
        self.expected(side) == Some(segment.seq)
    }

    /// Takes in a segment without SYN or RST.
    #[inline]
    pub(crate) fn observe(&mut self, side: Side, segment: &TcpSegment<'_>) -> Observed {
        let (own, other) = (side.idx(), side.other().idx());
        let has_ack = segment.flags.has(TcpFlags::ACK);
        if !self.known[own] {
            self.learn(side, segment.end());
            if has_ack && !self.known[other] {
                self.learn(side.other(), segment.ack);
            }
            return Observed {
                exact: false,
                believed: false,
            };
        }
        let ahead = segment.seq.since(self.next[own]);
        let acks_exactly = has_ack && self.known[other] && segment.ack == self.next[other];
        let believed = match ahead.signum() {
            0 => true,
            1 => ahead <= WINDOW_BYTES && acks_exactly,
            _ => ahead >= -WINDOW_BYTES && self.acks_recently(side, segment),
        };
        if believed {
            let end = segment.end();
            if end.since(self.next[own]) > 0 {
                self.next[own] = end;
            }
            self.fin[own] |= segment.flags.has(TcpFlags::FIN) && end == self.next[own];
            if has_ack {
                self.follow_ack(side.other(), segment.ack, ahead);
            }
        }
        Observed {
            exact: ahead == 0,
            believed,
        }
    }

    /// True if a segment of `side` acknowledges about what the other side sent last, as far as that is
    /// known.
    pub(crate) fn acks_recently(&self, side: Side, segment: &TcpSegment<'_>) -> bool {
        let other = side.other().idx();
        !self.known[other]
            || segment.flags.has(TcpFlags::ACK)
                && segment.ack.since(self.next[other]).unsigned_abs() <= REPEATED_ACK_BYTES
    }

    /// Moves the other side on to what a believed segment acknowledges, if that segment starts exactly
    /// at the expected number.
    fn follow_ack(&mut self, side: Side, ack: SeqNum, ahead: i32) {
        if !self.known[side.idx()] {
            self.learn(side, ack);
        } else if ahead == 0 && (1..=WINDOW_BYTES).contains(&ack.since(self.next[side.idx()])) {
            self.next[side.idx()] = ack;
        }
    }
}
