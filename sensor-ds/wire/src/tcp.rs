//! Reads a TCP header and the options of a SYN.

use crate::reader::Reader;
use crate::registry::TcpOption;

/// Most option kinds kept of one SYN: 40 bytes hold 20 options of two bytes; longer lists are padding.
pub const MAX_OPTION_KINDS: usize = 20;

/// A TCP segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TcpSegment<'a> {
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// Sequence number of the first payload byte, or of the SYN.
    pub seq: SeqNum,
    /// Acknowledgement number; means something only with [`TcpFlags::ACK`].
    pub ack: SeqNum,
    /// Control bits.
    pub flags: TcpFlags,
    /// Window as it stands on the wire, unscaled.
    pub window: u16,
    /// Option bytes.
    pub options: &'a [u8],
    /// Payload that was captured.
    pub payload: &'a [u8],
    /// Bytes behind `payload` that were sent but not captured.
    pub cut_bytes: u32,
}

impl TcpSegment<'_> {
    /// Sequence number behind this segment: SYN and FIN count as one byte each.
    #[inline]
    pub fn end(&self) -> SeqNum {
        let control =
            u32::from(self.flags.has(TcpFlags::SYN)).wrapping_add(u32::from(self.flags.has(TcpFlags::FIN)));
        let len = u32::try_from(self.payload.len()).unwrap_or(u32::MAX);
        self.seq
            .add(len.wrapping_add(self.cut_bytes).wrapping_add(control))
    }
}

/// A sequence number: arithmetic is modulo 2^32 (RFC 9293 section 3.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct SeqNum(pub u32);

impl SeqNum {
    /// The number `n` bytes on.
    #[inline]
    #[must_use]
    pub const fn add(self, n: u32) -> Self {
        Self(self.0.wrapping_add(n))
    }

    /// Signed distance from `earlier` to `self`.
    #[inline]
    #[expect(
        clippy::cast_possible_wrap,
        reason = "serial number arithmetic is the signed reading of the difference"
    )]
    pub const fn since(self, earlier: Self) -> i32 {
        self.0.wrapping_sub(earlier.0) as i32
    }
}

/// Control bits of a segment.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct TcpFlags(pub u8);

impl TcpFlags {
    /// No more data from the sender.
    pub const FIN: Self = Self(0x01);
    /// Synchronise sequence numbers.
    pub const SYN: Self = Self(0x02);
    /// Reset the connection.
    pub const RST: Self = Self(0x04);
    /// Push.
    pub const PSH: Self = Self(0x08);
    /// The acknowledgement number means something.
    pub const ACK: Self = Self(0x10);

    /// True if all bits of `other` are set.
    #[inline]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl std::fmt::Debug for TcpFlags {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names = [
            (Self::SYN, 'S'),
            (Self::FIN, 'F'),
            (Self::RST, 'R'),
            (Self::PSH, 'P'),
            (Self::ACK, '.'),
        ];
        for (flag, name) in names {
            if self.has(flag) {
                write!(f, "{name}")?;
            }
        }
        Ok(())
    }
}

/// Why a segment cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseTcpError {
    /// The segment ends inside the header.
    #[error("segment ends inside the TCP header")]
    Truncated,
    /// The header length is below five words.
    #[error("malformed TCP header")]
    Malformed,
}

/// Reads the TCP header of `bytes`. The checksum is not verified: captures on the sending machine
/// hold segments whose checksum the network card has yet to write.
///
/// `cut_bytes` is how many bytes of the packet the capture left out at its end.
///
/// # Errors
/// See [`ParseTcpError`].
#[inline]
pub fn parse_tcp(bytes: &[u8], cut_bytes: u32) -> Result<TcpSegment<'_>, ParseTcpError> {
    let header: &[u8; 20] = bytes.first_chunk().ok_or(ParseTcpError::Truncated)?;
    let [
        s0,
        s1,
        d0,
        d1,
        q0,
        q1,
        q2,
        q3,
        a0,
        a1,
        a2,
        a3,
        offset,
        flags,
        w0,
        w1,
        ..,
    ] = *header;
    let header_len = usize::from(offset >> 4) << 2;
    if header_len < 20 {
        return Err(ParseTcpError::Malformed);
    }
    let (header_bytes, payload) = bytes
        .split_at_checked(header_len)
        .ok_or(ParseTcpError::Truncated)?;
    Ok(TcpSegment {
        src_port: u16::from_be_bytes([s0, s1]),
        dst_port: u16::from_be_bytes([d0, d1]),
        seq: SeqNum(u32::from_be_bytes([q0, q1, q2, q3])),
        ack: SeqNum(u32::from_be_bytes([a0, a1, a2, a3])),
        flags: TcpFlags(flags),
        window: u16::from_be_bytes([w0, w1]),
        options: header_bytes.get(20..).unwrap_or_default(),
        payload,
        cut_bytes,
    })
}

/// What the options of a SYN say about the stack that sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SynOptions {
    kinds: [u8; MAX_OPTION_KINDS],
    n_kinds: u8,
    /// Maximum segment size in bytes.
    pub mss: Option<u16>,
    /// Window scale as a power of two.
    pub window_scale: Option<u8>,
    /// True if timestamps were offered.
    pub timestamps: bool,
}

impl SynOptions {
    /// Option kinds in wire order, padding included.
    pub fn kinds(&self) -> &[u8] {
        self.kinds.get(..usize::from(self.n_kinds)).unwrap_or_default()
    }

    /// Reads option bytes; stops at the end of the list or at an option whose length cannot be true.
    pub fn parse(options: &[u8]) -> Self {
        let mut read = Self::default();
        let mut reader = Reader::new(options);
        while let Some(kind) = reader.u8() {
            let kind = TcpOption(kind);
            let body = match kind {
                TcpOption::END | TcpOption::NOP => &[][..],
                _ => {
                    let len = reader.u8().and_then(|len| usize::from(len).checked_sub(2));
                    let Some(body) = len.and_then(|len| reader.take(len)) else {
                        break;
                    };
                    body
                }
            };
            read.note(kind, body);
            if kind == TcpOption::END {
                break;
            }
        }
        read
    }

    fn note(&mut self, kind: TcpOption, body: &[u8]) {
        if let Some(slot) = self.kinds.get_mut(usize::from(self.n_kinds)) {
            *slot = kind.0;
            self.n_kinds = self.n_kinds.saturating_add(1);
        }
        match (kind, body) {
            (TcpOption::MSS, &[hi, lo]) => self.mss = Some(u16::from_be_bytes([hi, lo])),
            (TcpOption::WINDOW_SCALE, &[shift]) => self.window_scale = Some(shift),
            (TcpOption::TIMESTAMPS, _) => self.timestamps = true,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(offset: u8, flags: u8, tail: &[u8]) -> Vec<u8> {
        let mut bytes = vec![
            0x9c,
            0x40,
            0x01,
            0xbb,
            0,
            0,
            0,
            5,
            0,
            0,
            0,
            9,
            offset << 4,
            flags,
            0xfa,
            0xf0,
            0,
            0,
            0,
            0,
        ];
        bytes.extend(tail);
        bytes
    }

    #[test]
    fn header_options_and_payload_are_split() {
        let bytes = segment(6, 0x12, &[1, 1, 1, 0, 7, 8]);
        let read = parse_tcp(&bytes, 0).unwrap();
        assert_eq!((read.src_port, read.dst_port, read.window), (40000, 443, 64240));
        assert_eq!((read.options, read.payload), (&[1, 1, 1, 0][..], &[7, 8][..]));
        assert!(read.flags.has(TcpFlags::SYN) && read.flags.has(TcpFlags::ACK));
        assert_eq!(read.end(), SeqNum(8));
    }

    #[test]
    fn short_and_lying_headers_are_errors() {
        assert_eq!(parse_tcp(&segment(4, 0, &[]), 0), Err(ParseTcpError::Malformed));
        assert_eq!(
            parse_tcp(&segment(6, 0, &[0, 0]), 0),
            Err(ParseTcpError::Truncated)
        );
        assert_eq!(parse_tcp(&[0; 19], 0), Err(ParseTcpError::Truncated));
    }

    #[test]
    fn sequence_numbers_wrap() {
        assert_eq!(SeqNum(u32::MAX).add(2), SeqNum(1));
        assert_eq!(SeqNum(1).since(SeqNum(u32::MAX)), 2);
        assert_eq!(SeqNum(u32::MAX).since(SeqNum(1)), -2);
    }

    #[test]
    fn linux_syn_options_are_read_in_order() {
        let bytes = [2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7];
        let read = SynOptions::parse(&bytes);
        assert_eq!(read.kinds(), &[2, 4, 8, 1, 3]);
        assert_eq!(
            (read.mss, read.window_scale, read.timestamps),
            (Some(1460), Some(7), true)
        );
    }

    #[test]
    fn options_with_impossible_lengths_end_the_list() {
        assert_eq!(SynOptions::parse(&[2, 0, 5, 5]).kinds(), &[] as &[u8]);
        assert_eq!(SynOptions::parse(&[1, 3, 9, 1]).kinds(), &[1]);
        assert_eq!(SynOptions::parse(&[1; 40]).kinds().len(), MAX_OPTION_KINDS);
    }
}
