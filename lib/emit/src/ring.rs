//! The events that are kept: bytes, order, positions and the accounting of every number.
//!
//! ```text
//!  acked          oldest kept         sent up to            next_seq
//!    | unkept (in flight, copy gone) |  kept, sent  |  kept, unsent  |
//! ```
//!
//! Pure: no sockets, no clock. The invariant, checked by the tests after every step:
//! `next_seq = settled + dropped + pending`.

use std::collections::VecDeque;

use crate::config::SocketKind;
use crate::counters::{DropReason, Dropped};

/// Memory that an event needs besides its bytes.
const FRAME_COST: usize = size_of::<Frame>();

/// Most ranges of numbers that are in flight without a copy. A range ends only where an event was
/// dropped before it was sent, so one or two are usual; over it the oldest range counts as dropped.
const MAX_UNKEPT_RANGES: usize = 1024;

/// Capacity that is kept when the ring is empty: one write's worth.
const MIN_CAPACITY: usize = 64 << 10;

struct Frame {
    seq: u64,
    /// With the line end.
    len: u32,
}

/// See the module.
pub(crate) struct Ring {
    kind: SocketKind,
    budget: usize,
    bytes: VecDeque<u8>,
    frames: VecDeque<Frame>,
    /// How many of `frames` and of `bytes` the writer has taken on this connection (STREAM).
    sent_frames: usize,
    sent_bytes: usize,
    /// Numbers in flight whose copy was given up, as ascending half-open ranges (STREAM).
    unkept: VecDeque<(u64, u64)>,
    /// Events that the writer holds and has not sent (SEQPACKET).
    taken: u64,
    next_seq: u64,
    /// Numbers below were handed out on some connection (STREAM).
    ever_sent: u64,
    /// Numbers below were sent or dropped before the last welcome (STREAM): what may be acknowledged.
    reached: u64,
    pub(crate) connected: bool,
    pub(crate) dropped: Dropped,
    pub(crate) acked: u64,
    pub(crate) sent: u64,
    pub(crate) resent: u64,
}

/// An acknowledgement of an event that was never sent.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct AckBeyond;

impl Ring {
    pub(crate) fn new(kind: SocketKind, budget: usize) -> Self {
        Self {
            kind,
            budget,
            bytes: VecDeque::new(),
            frames: VecDeque::new(),
            sent_frames: 0,
            sent_bytes: 0,
            unkept: VecDeque::new(),
            taken: 0,
            next_seq: 0,
            ever_sent: 0,
            reached: 0,
            connected: false,
            dropped: Dropped::default(),
            acked: 0,
            sent: 0,
            resent: 0,
        }
    }

    pub(crate) fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// Number of the first event that the writer has not taken on this connection.
    pub(crate) fn position(&self) -> u64 {
        self.frames
            .get(self.sent_frames)
            .map_or(self.next_seq, |frame| frame.seq)
    }

    pub(crate) fn unsent_bytes(&self) -> usize {
        self.bytes.len() - self.sent_bytes
    }

    pub(crate) fn used_bytes(&self) -> usize {
        self.bytes.len() + self.frames.len() * FRAME_COST
    }

    /// Events in flight: taken on this connection and not acknowledged.
    pub(crate) fn in_flight(&self) -> u64 {
        self.sent_frames as u64 + self.unkept_total()
    }

    fn unkept_total(&self) -> u64 {
        self.unkept.iter().map(|(first, end)| end - first).sum()
    }

    pub(crate) fn pending(&self) -> u64 {
        self.frames.len() as u64 + self.taken + self.unkept_total()
    }

    /// Gives the next number to an event that is dropped at once.
    pub(crate) fn refuse(&mut self, reason: DropReason) -> u64 {
        self.dropped.add(reason, 1);
        self.next_seq += 1;
        self.next_seq - 1
    }

    /// Keeps the event `before number after ⏎`; makes room by dropping the oldest.
    pub(crate) fn push(&mut self, before: &[u8], after: &[u8]) -> Result<u64, (u64, DropReason)> {
        let mut digits = Digits::default();
        let number = digits.write(self.next_seq);
        let len = before.len() + number.len() + after.len() + 1;
        let frame_len = match u32::try_from(len) {
            Ok(n) if len + FRAME_COST <= self.budget => n,
            _ => return Err((self.refuse(DropReason::Oversize), DropReason::Oversize)),
        };
        while self.used_bytes() + len + FRAME_COST > self.budget {
            self.evict_oldest();
        }
        self.bytes.extend(before);
        self.bytes.extend(number);
        self.bytes.extend(after);
        self.bytes.push_back(b'\n');
        let seq = self.next_seq;
        self.frames.push_back(Frame { seq, len: frame_len });
        self.next_seq += 1;
        Ok(seq)
    }

    fn evict_oldest(&mut self) {
        let was_sent = self.sent_frames > 0;
        let Some(frame) = self.pop_front() else { return };
        if was_sent {
            self.unkeep(frame.seq);
        } else {
            let reason = if self.connected {
                DropReason::Overflow
            } else {
                DropReason::NoReceiver
            };
            self.dropped.add(reason, 1);
        }
    }

    fn pop_front(&mut self) -> Option<Frame> {
        let frame = self.frames.pop_front()?;
        self.bytes.drain(..frame.len as usize);
        if self.sent_frames > 0 {
            self.sent_frames -= 1;
            self.sent_bytes -= frame.len as usize;
        }
        Some(frame)
    }

    fn unkeep(&mut self, seq: u64) {
        if let Some(last) = self.unkept.back_mut()
            && last.1 == seq
        {
            last.1 = seq + 1;
            return;
        }
        if self.unkept.len() == MAX_UNKEPT_RANGES
            && let Some((first, end)) = self.unkept.pop_front()
        {
            self.dropped.add(DropReason::Overflow, end - first);
        }
        self.unkept.push_back((seq, seq + 1));
    }

    /// Appends unsent events to `out`, at most `max_bytes` unless one alone is longer, and the end
    /// of each to `ends`. STREAM keeps them, SEQPACKET hands them over.
    pub(crate) fn take(&mut self, out: &mut Vec<u8>, ends: &mut Vec<usize>, max_bytes: usize) {
        let (mut n, mut len) = (0, 0);
        for frame in self.frames.range(self.sent_frames..) {
            if n > 0 && len + frame.len as usize > max_bytes {
                break;
            }
            n += 1;
            len += frame.len as usize;
            ends.push(out.len() + len);
            if self.kind == SocketKind::Stream {
                if frame.seq < self.ever_sent {
                    self.resent += 1;
                } else {
                    self.ever_sent = frame.seq + 1;
                    self.sent += 1;
                }
            }
        }
        append_range(&self.bytes, self.sent_bytes, len, out);
        match self.kind {
            SocketKind::Stream => {
                self.sent_frames += n;
                self.sent_bytes += len;
            }
            SocketKind::Seqpacket => {
                self.frames.drain(..n);
                self.bytes.drain(..len);
                self.taken += n as u64;
            }
        }
    }

    /// SEQPACKET: the kernel took a packet that was handed over.
    pub(crate) fn packet_sent(&mut self) {
        self.taken -= 1;
        self.sent += 1;
    }

    /// SEQPACKET: a packet that was handed over is given up.
    pub(crate) fn packet_dropped(&mut self, reason: DropReason) {
        self.taken -= 1;
        self.dropped.add(reason, 1);
    }

    /// STREAM: the events below `ack` are settled.
    pub(crate) fn ack(&mut self, ack: u64) -> Result<(), AckBeyond> {
        // A status may have said of dropped numbers that nothing more comes of them.
        if ack > self.reached.max(self.position()) {
            return Err(AckBeyond);
        }
        while let Some(range) = self.unkept.front_mut() {
            let end = range.1.min(ack);
            self.acked += end.saturating_sub(range.0);
            if range.1 > ack {
                range.0 = range.0.max(ack);
                break;
            }
            self.unkept.pop_front();
        }
        while self.frames.front().is_some_and(|frame| frame.seq < ack) {
            self.pop_front();
            self.acked += 1;
        }
        Ok(())
    }

    /// STREAM: a receiver welcomed us and has everything below `ack`; what is kept goes again.
    pub(crate) fn welcome(&mut self, ack: u64) -> Result<(), AckBeyond> {
        self.ack(ack)?;
        // What is kept counts as unsent again, and may be acknowledged all the same.
        self.reached = self.reached.max(self.position());
        let gone = self.unkept_total();
        self.unkept.clear();
        self.dropped.add(DropReason::Overflow, gone);
        self.sent_frames = 0;
        self.sent_bytes = 0;
        Ok(())
    }

    /// Drops what was never taken, when the stop's deadline has passed.
    pub(crate) fn drop_unsent(&mut self, reason: DropReason) {
        let unsent = self.frames.len() - self.sent_frames;
        self.frames.truncate(self.sent_frames);
        self.bytes.truncate(self.sent_bytes);
        self.dropped.add(reason, unsent as u64);
    }

    /// Gives memory back after a burst.
    pub(crate) fn shrink(&mut self) {
        if self.bytes.capacity() > MIN_CAPACITY.max(self.bytes.len() * 4) {
            self.bytes.shrink_to(MIN_CAPACITY.max(self.bytes.len() * 2));
            self.frames.shrink_to(self.frames.len() * 2);
        }
    }
}

fn append_range(bytes: &VecDeque<u8>, start: usize, len: usize, out: &mut Vec<u8>) {
    let (head, tail) = bytes.as_slices();
    let from_head = head.get(start..).unwrap_or_default();
    let from_head = &from_head[..from_head.len().min(len)];
    out.extend_from_slice(from_head);
    let tail_start = start.saturating_sub(head.len());
    let rest = len - from_head.len();
    out.extend_from_slice(&tail[tail_start..tail_start + rest]);
}

/// Decimal digits without an allocation, written inside the lock.
#[derive(Default)]
struct Digits([u8; 20]);

impl Digits {
    fn write(&mut self, mut value: u64) -> &[u8] {
        let mut at = self.0.len();
        loop {
            at -= 1;
            self.0[at] = b'0' + u8::try_from(value % 10).expect("a remainder of ten fits a byte");
            value /= 10;
            if value == 0 {
                return &self.0[at..];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn balance(ring: &Ring) -> bool {
        let settled = match ring.kind {
            SocketKind::Stream => ring.acked,
            SocketKind::Seqpacket => ring.sent,
        };
        ring.next_seq == settled + ring.dropped.total() + ring.pending()
    }

    fn take_all(ring: &mut Ring) -> String {
        let (mut out, mut ends) = (Vec::new(), Vec::new());
        ring.take(&mut out, &mut ends, usize::MAX);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_number_is_written_between_the_two_parts() {
        let mut ring = Ring::new(SocketKind::Stream, 1000);
        for _ in 0..11 {
            ring.push(b"<", b">").unwrap();
        }
        assert_eq!(
            take_all(&mut ring),
            "<0>\n<1>\n<2>\n<3>\n<4>\n<5>\n<6>\n<7>\n<8>\n<9>\n<10>\n"
        );
        assert_eq!(Digits::default().write(u64::MAX), b"18446744073709551615");
    }

    #[test]
    fn what_is_unacknowledged_goes_again_after_a_welcome() {
        let mut ring = Ring::new(SocketKind::Stream, 1000);
        for _ in 0..4 {
            ring.push(b"", b"").unwrap();
        }
        assert_eq!(take_all(&mut ring), "0\n1\n2\n3\n");
        ring.ack(1).unwrap();
        ring.welcome(2).unwrap();
        assert_eq!(take_all(&mut ring), "2\n3\n");
        assert_eq!((ring.sent, ring.resent, ring.acked, ring.pending()), (4, 2, 2, 2));
    }

    #[test]
    fn an_evicted_event_in_flight_is_dropped_only_if_the_receiver_lacks_it() {
        let mut ring = Ring::new(SocketKind::Stream, 2 * (2 + FRAME_COST));
        ring.connected = true;
        ring.push(b"", b"").unwrap();
        ring.push(b"", b"").unwrap();
        assert_eq!(take_all(&mut ring), "0\n1\n");
        ring.push(b"", b"").unwrap();
        ring.push(b"", b"").unwrap();
        assert_eq!((ring.dropped.total(), ring.pending()), (0, 4));
        ring.welcome(1).unwrap();
        assert_eq!(
            (ring.acked, ring.dropped.total(), ring.pending()),
            (1, 1, 2),
            "0 arrived, 1 is gone"
        );
        assert_eq!(take_all(&mut ring), "2\n3\n");
    }

    #[test]
    fn the_reason_of_an_eviction_says_whether_somebody_listened() {
        let mut ring = Ring::new(SocketKind::Seqpacket, 2 + FRAME_COST);
        ring.push(b"", b"").unwrap();
        ring.push(b"", b"").unwrap();
        ring.connected = true;
        ring.push(b"", b"").unwrap();
        let dropped: Vec<_> = ring.dropped.iter().collect();
        assert_eq!(dropped, [(DropReason::Overflow, 1), (DropReason::NoReceiver, 1)]);
    }

    #[test]
    fn an_acknowledgement_of_the_future_is_refused() {
        let mut ring = Ring::new(SocketKind::Stream, 1000);
        ring.push(b"", b"").unwrap();
        assert_eq!(ring.ack(1), Err(AckBeyond), "it was not sent");
        take_all(&mut ring);
        assert_eq!(ring.ack(2), Err(AckBeyond));
        assert_eq!(ring.welcome(u64::MAX), Err(AckBeyond));
        ring.ack(1).unwrap();
    }

    #[test]
    fn what_was_sent_before_a_reconnect_may_be_acknowledged_before_it_goes_again() {
        let mut ring = Ring::new(SocketKind::Stream, 1000);
        for _ in 0..3 {
            ring.push(b"", b"").unwrap();
        }
        take_all(&mut ring);
        ring.refuse(DropReason::Oversize);
        // The receiver knows from a status that 3 never comes.
        ring.welcome(0).unwrap();
        ring.push(b"", b"").unwrap();
        assert_eq!(ring.ack(5), Err(AckBeyond));
        ring.ack(2).unwrap();
        assert_eq!(take_all(&mut ring), "2\n4\n");
        ring.welcome(4).unwrap();
        assert_eq!((ring.acked, ring.pending()), (3, 1));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Push(usize),
        Refuse,
        Take(usize),
        Ack(u64),
        Welcome(u64),
        PacketSent,
        PacketDropped,
        DropUnsent,
        Shrink,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            8 => (0_usize..80).prop_map(Step::Push),
            1 => Just(Step::Refuse),
            4 => (0_usize..300).prop_map(Step::Take),
            3 => (0_u64..60).prop_map(Step::Ack),
            1 => (0_u64..60).prop_map(Step::Welcome),
            3 => Just(Step::PacketSent),
            1 => Just(Step::PacketDropped),
            1 => Just(Step::DropUnsent),
            1 => Just(Step::Shrink),
        ];
        proptest::collection::vec(step, 0..200)
    }

    proptest! {
        #[test]
        fn prop_every_number_is_accounted_for_and_order_is_kept(seqpacket: bool, steps in steps()) {
            let kind = if seqpacket { SocketKind::Seqpacket } else { SocketKind::Stream };
            let mut ring = Ring::new(kind, 400);
            let mut last_on_connection = None;
            for step in steps {
                match step {
                    Step::Push(len) => drop(ring.push(&vec![b'x'; len], b"")),
                    Step::Refuse => drop(ring.refuse(DropReason::Oversize)),
                    Step::Take(max) => {
                        let (mut out, mut ends) = (Vec::new(), Vec::new());
                        ring.take(&mut out, &mut ends, max);
                        for line in out.split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
                            let digits: Vec<u8> = line.iter().copied().filter(u8::is_ascii_digit).collect();
                            let seq: u64 = std::str::from_utf8(&digits).unwrap().parse().unwrap();
                            prop_assert!(last_on_connection.is_none_or(|last| seq > last));
                            last_on_connection = Some(seq);
                        }
                    }
                    Step::Ack(ack) if !seqpacket => drop(ring.ack(ack)),
                    Step::Welcome(ack) if !seqpacket && ring.welcome(ack).is_ok() => last_on_connection = None,
                    Step::PacketSent if ring.taken > 0 => ring.packet_sent(),
                    Step::PacketDropped if ring.taken > 0 => ring.packet_dropped(DropReason::Refused),
                    Step::DropUnsent => ring.drop_unsent(DropReason::Stopped),
                    Step::Shrink => ring.shrink(),
                    _ => {}
                }
                prop_assert!(balance(&ring));
                prop_assert!(ring.used_bytes() <= 400);
                prop_assert_eq!(ring.frames.iter().map(|f| f.len as usize).sum::<usize>(), ring.bytes.len());
                let sent: usize = ring.frames.iter().take(ring.sent_frames).map(|f| f.len as usize).sum();
                prop_assert_eq!(sent, ring.sent_bytes);
            }
        }
    }
}
