//! Puts the bytes of one direction in order. The first copy of a byte wins; a later one that differs is
//! reported, because a sensor and a server that disagree about it see different hellos.

use sensor_wire::tls::MAX_STREAM_BYTES;

use crate::event::FlowFlags;

/// Most pieces kept behind a gap. The largest hello of a browser is 2 kB: so many pieces hold it in segments
/// of one byte that arrive in reverse. Each costs a move of at most 48 kB, five microseconds.
pub(crate) const MAX_PIECES: usize = 2048;

/// What a piece costs beside its bytes: offset, pointer, length, allocator's header.
const PIECE_OVERHEAD_BYTES: usize = 48;

/// Bytes of a stream from its start, with pieces behind gaps.
#[derive(Debug, Default)]
pub(crate) struct Assembly {
    bytes: Vec<u8>,
    /// Sorted by offset, disjoint, all behind `bytes` with a gap.
    pieces: Vec<(usize, Box<[u8]>)>,
    /// What the pieces cost, kept up to date: it is asked for with every segment.
    piece_bytes: usize,
}

/// What came of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Inserted {
    /// What was odd about its place in the stream.
    pub(crate) flags: FlowFlags,
    /// Some bytes were not kept: too many pieces.
    pub(crate) refused: bool,
}

impl Assembly {
    /// The bytes known without a gap.
    pub(crate) fn contiguous(&self) -> &[u8] {
        &self.bytes
    }

    /// Bytes of memory held.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.bytes.capacity() + self.piece_bytes
    }

    /// Adds a segment that starts at `offset`. Bytes beyond [`MAX_STREAM_BYTES`] are left out: the
    /// scanner gives up before it needs them.
    pub(crate) fn insert(&mut self, offset: usize, segment: &[u8]) -> Inserted {
        let room = MAX_STREAM_BYTES.saturating_sub(offset);
        let mut rest = segment.get(..room).unwrap_or(segment);
        let mut at = offset;
        let mut done = Inserted::default();
        if at > self.bytes.len() {
            done.flags.insert(FlowFlags::OUT_OF_ORDER);
        }
        if let Some(known) = self.bytes.get(at..) {
            let n = known.len().min(rest.len());
            done.compare(&known[..n], &rest[..n]);
            at += n;
            rest = &rest[n..];
        }
        let mut idx = self
            .pieces
            .partition_point(|(start, bytes)| start + bytes.len() <= at);
        // Terminates: each turn takes bytes from `rest` or steps over a piece.
        while !rest.is_empty() {
            let free = self
                .pieces
                .get(idx)
                .map_or(usize::MAX, |(start, _)| start.saturating_sub(at));
            if free > 0 {
                let n = free.min(rest.len());
                if self.pieces.len() >= MAX_PIECES && at != self.bytes.len() {
                    done.refused = true;
                    return done;
                }
                idx += usize::from(self.keep(at, idx, &rest[..n]));
                at += n;
                rest = &rest[n..];
            } else {
                let (start, bytes) = &self.pieces[idx];
                let known = &bytes[at - start..];
                let n = known.len().min(rest.len());
                done.compare(&known[..n], &rest[..n]);
                at += n;
                rest = &rest[n..];
                idx += 1;
            }
        }
        self.close_gaps();
        done
    }

    /// Keeps new bytes; true if that made a piece.
    fn keep(&mut self, at: usize, idx: usize, bytes: &[u8]) -> bool {
        if at == self.bytes.len() {
            self.bytes.extend_from_slice(bytes);
            return false;
        }
        self.pieces.insert(idx, (at, bytes.into()));
        self.piece_bytes += bytes.len() + PIECE_OVERHEAD_BYTES;
        true
    }

    fn close_gaps(&mut self) {
        let mut n_joined = 0;
        for (start, bytes) in &self.pieces {
            if *start != self.bytes.len() {
                break;
            }
            self.bytes.extend_from_slice(bytes);
            self.piece_bytes -= bytes.len() + PIECE_OVERHEAD_BYTES;
            n_joined += 1;
        }
        self.pieces.drain(..n_joined);
    }
}

impl Inserted {
    fn compare(&mut self, known: &[u8], new: &[u8]) {
        if known.is_empty() {
            return;
        }
        let flag = if known == new {
            FlowFlags::RETRANSMITTED
        } else {
            FlowFlags::OVERLAP_CONFLICT
        };
        self.flags.insert(flag);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_in_reverse_close_their_gaps() {
        let mut assembly = Assembly::default();
        assert_eq!(assembly.insert(4, b"ef").flags, FlowFlags::OUT_OF_ORDER);
        assert_eq!(assembly.insert(2, b"cd").flags, FlowFlags::OUT_OF_ORDER);
        assert_eq!(assembly.contiguous(), b"");
        assert_eq!(assembly.insert(0, b"ab"), Inserted::default());
        assert_eq!(assembly.contiguous(), b"abcdef");
    }

    #[test]
    fn memory_follows_pieces() {
        let mut assembly = Assembly::default();
        assembly.insert(10, b"abc");
        assembly.insert(20, b"de");
        assert_eq!(assembly.memory_bytes(), 5 + 2 * PIECE_OVERHEAD_BYTES);
        assembly.insert(0, b"0123456789");
        assert_eq!(
            assembly.memory_bytes(),
            assembly.bytes.capacity() + 2 + PIECE_OVERHEAD_BYTES
        );
        assembly.insert(13, b"3456789");
        assert_eq!(assembly.memory_bytes(), assembly.bytes.capacity());
    }

    #[test]
    fn the_first_copy_wins_and_differences_are_told() {
        let mut assembly = Assembly::default();
        assembly.insert(0, b"abc");
        assert_eq!(assembly.insert(1, b"bcd").flags, FlowFlags::RETRANSMITTED);
        assert_eq!(assembly.insert(0, b"aXcde").flags, FlowFlags::OVERLAP_CONFLICT);
        assert_eq!(assembly.contiguous(), b"abcde");
    }

    #[test]
    fn a_segment_over_several_pieces_fills_only_the_gaps() {
        let mut assembly = Assembly::default();
        assembly.insert(2, b"C");
        assembly.insert(4, b"E");
        let over = assembly.insert(0, b"abcdefg");
        assert_eq!(over.flags, FlowFlags::OVERLAP_CONFLICT);
        assert_eq!(assembly.contiguous(), b"abCdEfg");
    }

    #[test]
    fn pieces_are_limited_and_the_next_bytes_still_fit() {
        let mut assembly = Assembly::default();
        for n in 0..MAX_PIECES {
            assert!(!assembly.insert(2 + 2 * n, b"x").refused);
        }
        assert!(assembly.insert(4 + 2 * MAX_PIECES, b"x").refused);
        assert!(!assembly.insert(0, b"ab").refused);
        assert_eq!(assembly.contiguous(), b"abx");
    }

    #[test]
    fn bytes_beyond_the_limit_are_left_out() {
        let mut assembly = Assembly::default();
        assembly.insert(MAX_STREAM_BYTES - 1, b"ab");
        assembly.insert(MAX_STREAM_BYTES + 5, b"ab");
        assert_eq!(assembly.pieces.len(), 1);
        assert_eq!(assembly.pieces[0].1.len(), 1);
    }
}
