//! Reads pcapng files (draft-ietf-opsawg-pcapng) whose interfaces differ in link type or snapshot length, as
//! merged captures do; libpcap refuses those.
//!
//! In: blocks. Out: packets with link type and time. Blocks of other kinds are skipped. Everything that cannot be
//! true ends the file with a reason; nothing is allocated beyond [`MAX_BLOCK_BYTES`].

use std::io::{self, Read};

use sensor_flow::TimeNs;
use sensor_wire::registry::LinkType;

/// First four bytes of a file, the same in both byte orders.
pub(crate) const MAGIC: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];

/// Longest block that is read; libpcap's limit.
const MAX_BLOCK_BYTES: usize = 16 << 20;

/// Most interfaces of a section: a merged file has one for each of its parts.
const MAX_INTERFACES: usize = 65_536;

const INTERFACE: u32 = 1;
/// Obsolete, written by old programs.
const PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
const ENHANCED_PACKET: u32 = 6;

/// Options of an interface.
const OPTION_END: u16 = 0;
const IF_TSRESOL: u16 = 9;
const IF_TSOFFSET: u16 = 14;

/// A packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PcapngPacket<'a> {
    pub(crate) link: LinkType,
    pub(crate) at: TimeNs,
    pub(crate) bytes: &'a [u8],
    pub(crate) wire_len: u32,
}

/// Why nothing further can be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PcapngError {
    /// The file ends inside a block.
    #[error("the file ends inside a block")]
    Truncated,
    /// Something that cannot be true.
    #[error("{0}")]
    Malformed(&'static str),
    /// The operating system.
    #[error(transparent)]
    Io(#[from] io::Error),
}

#[derive(Debug, Clone, Copy)]
struct Interface {
    link: LinkType,
    snaplen: u32,
    resolution: Resolution,
    offset_s: i64,
}

/// Parts of a second that a time stamp counts.
#[derive(Debug, Clone, Copy)]
enum Resolution {
    /// 10^n.
    Decimal(u32),
    /// 2^n.
    Binary(u32),
}

impl Resolution {
    fn of(value: u8) -> Option<Self> {
        let n = u32::from(value & 0x7f);
        // Ticks are 64 bits: finer ones would hold no second.
        match value & 0x80 {
            0 => (n <= 19).then_some(Self::Decimal(n)),
            _ => (n <= 63).then_some(Self::Binary(n)),
        }
    }

    fn nanoseconds(self, ticks: u64) -> i128 {
        let ticks = i128::from(ticks);
        match self {
            Self::Decimal(n) if n <= 9 => ticks * 10_i128.pow(9 - n),
            Self::Decimal(n) => ticks / 10_i128.pow(n - 9),
            Self::Binary(n) => (ticks * 1_000_000_000) >> n,
        }
    }
}

/// Reads packets one after the other.
pub(crate) struct PcapngReader<R> {
    source: R,
    big_endian: bool,
    interfaces: Vec<Interface>,
    body: Vec<u8>,
}

impl<R: Read> PcapngReader<R> {
    /// A reader at the start of a file.
    pub(crate) const fn new(source: R) -> Self {
        Self {
            source,
            big_endian: false,
            interfaces: Vec::new(),
            body: Vec::new(),
        }
    }

    /// The next packet; `None` at the regular end.
    pub(crate) fn next(&mut self) -> Result<Option<PcapngPacket<'_>>, PcapngError> {
        loop {
            let Some(kind) = self.read_block()? else {
                return Ok(None);
            };
            match kind {
                INTERFACE => self.add_interface()?,
                PACKET | SIMPLE_PACKET | ENHANCED_PACKET => return self.packet(kind).map(Some),
                _ => {}
            }
        }
    }

    /// Reads a block into `body`, without its kind and lengths; returns its kind.
    fn read_block(&mut self) -> Result<Option<u32>, PcapngError> {
        let mut head = [0; 8];
        match read_full(&mut self.source, &mut head)? {
            0 => return Ok(None),
            8 => {}
            _ => return Err(PcapngError::Truncated),
        }
        let [k0, k1, k2, k3, l0, l1, l2, l3] = head;
        let mut n_before = 8;
        self.body.clear();
        if [k0, k1, k2, k3] == MAGIC {
            let mut order = [0; 4];
            if read_full(&mut self.source, &mut order)? != 4 {
                return Err(PcapngError::Truncated);
            }
            self.big_endian = match order {
                [0x1a, 0x2b, 0x3c, 0x4d] => true,
                [0x4d, 0x3c, 0x2b, 0x1a] => false,
                _ => return Err(PcapngError::Malformed("a section has no byte order")),
            };
            // Interfaces belong to their section.
            self.interfaces.clear();
            n_before = 12;
        }
        let kind = self.u32([k0, k1, k2, k3]);
        let length = usize::try_from(self.u32([l0, l1, l2, l3])).unwrap_or(usize::MAX);
        if length % 4 != 0 || length < n_before + 4 {
            return Err(PcapngError::Malformed("a block has a length that cannot be true"));
        }
        if length > MAX_BLOCK_BYTES {
            return Err(PcapngError::Malformed("a block is longer than 16 MiB"));
        }
        self.body.resize(length - n_before, 0);
        if read_full(&mut self.source, &mut self.body)? != self.body.len() {
            return Err(PcapngError::Truncated);
        }
        if !self.body.ends_with(&[l0, l1, l2, l3]) {
            return Err(PcapngError::Malformed("the two lengths of a block differ"));
        }
        self.body.truncate(self.body.len() - 4);
        Ok(Some(kind))
    }

    fn add_interface(&mut self) -> Result<(), PcapngError> {
        const SHORT: PcapngError = PcapngError::Malformed("an interface block is too short");
        if self.interfaces.len() >= MAX_INTERFACES {
            return Err(PcapngError::Malformed("a section has more than 65536 interfaces"));
        }
        let mut interface = Interface {
            link: LinkType(i32::from(self.u16_at(0).ok_or(SHORT)?)),
            snaplen: self.u32_at(4).ok_or(SHORT)?,
            resolution: Resolution::Decimal(6),
            offset_s: 0,
        };
        let mut at = 8;
        // Terminates: each turn moves on by four bytes at least.
        while let (Some(option), Some(length)) = (self.u16_at(at), self.u16_at(at + 2)) {
            let length = usize::from(length);
            let Some(value) = self.body.get(at + 4..at + 4 + length) else {
                break;
            };
            match (option, value) {
                (OPTION_END, _) => break,
                (IF_TSRESOL, [value]) => {
                    interface.resolution = Resolution::of(*value)
                        .ok_or(PcapngError::Malformed("an interface has times too fine to read"))?;
                }
                (IF_TSOFFSET, _) => {
                    if let Some(bytes) = value.first_chunk::<8>() {
                        interface.offset_s = if self.big_endian {
                            i64::from_be_bytes(*bytes)
                        } else {
                            i64::from_le_bytes(*bytes)
                        };
                    }
                }
                _ => {}
            }
            at += 4 + length.next_multiple_of(4);
        }
        self.interfaces.push(interface);
        Ok(())
    }

    fn packet(&self, kind: u32) -> Result<PcapngPacket<'_>, PcapngError> {
        const SHORT: PcapngError = PcapngError::Malformed("a packet block is too short");
        let (number, data_at) = match kind {
            ENHANCED_PACKET => (self.u32_at(0).ok_or(SHORT)?, 20),
            PACKET => (u32::from(self.u16_at(0).ok_or(SHORT)?), 20),
            _ => (0, 4),
        };
        let interface = usize::try_from(number)
            .ok()
            .and_then(|number| self.interfaces.get(number))
            .ok_or(PcapngError::Malformed(
                "a packet is of an interface that is not described",
            ))?;
        let (at, captured, wire_len) = if kind == SIMPLE_PACKET {
            let wire_len = self.u32_at(0).ok_or(SHORT)?;
            let limit = if interface.snaplen == 0 {
                u32::MAX
            } else {
                interface.snaplen
            };
            (0, wire_len.min(limit), wire_len)
        } else {
            let (high, low) = (self.u32_at(4).ok_or(SHORT)?, self.u32_at(8).ok_or(SHORT)?);
            let ticks = u64::from(high) << 32 | u64::from(low);
            let at = interface.resolution.nanoseconds(ticks) + i128::from(interface.offset_s) * 1_000_000_000;
            let at = TimeNs::try_from(at).unwrap_or(if at < 0 { TimeNs::MIN } else { TimeNs::MAX });
            (at, self.u32_at(12).ok_or(SHORT)?, self.u32_at(16).ok_or(SHORT)?)
        };
        let captured = usize::try_from(captured).unwrap_or(usize::MAX);
        let rest = self.body.get(data_at..).ok_or(SHORT)?;
        let bytes = rest
            .get(..captured)
            .ok_or(PcapngError::Malformed("a packet is longer than its block"))?;
        Ok(PcapngPacket {
            link: interface.link,
            at,
            bytes,
            wire_len,
        })
    }

    fn u16_at(&self, at: usize) -> Option<u16> {
        let bytes = *self.body.get(at..)?.first_chunk()?;
        Some(if self.big_endian {
            u16::from_be_bytes(bytes)
        } else {
            u16::from_le_bytes(bytes)
        })
    }

    fn u32_at(&self, at: usize) -> Option<u32> {
        Some(self.u32(*self.body.get(at..)?.first_chunk()?))
    }

    const fn u32(&self, bytes: [u8; 4]) -> u32 {
        if self.big_endian {
            u32::from_be_bytes(bytes)
        } else {
            u32::from_le_bytes(bytes)
        }
    }
}

/// Reads until the buffer is full or the source ends; returns how much there was.
fn read_full(source: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut n = 0;
    while n < buffer.len() {
        match source.read(&mut buffer[n..]) {
            Ok(0) => break,
            Ok(read) => n += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(n)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Writer {
        big_endian: bool,
        out: Vec<u8>,
    }

    impl Writer {
        fn new(big_endian: bool) -> Self {
            let mut writer = Self {
                big_endian,
                out: Vec::new(),
            };
            let body = [
                writer.u32(0x1a2b_3c4d),
                writer.u16(1),
                writer.u16(0),
                vec![0xff; 8],
            ]
            .concat();
            writer.block(u32::from_be_bytes(MAGIC), &body);
            writer
        }

        fn u16(&self, n: u16) -> Vec<u8> {
            if self.big_endian {
                n.to_be_bytes()
            } else {
                n.to_le_bytes()
            }
            .to_vec()
        }

        fn u32(&self, n: u32) -> Vec<u8> {
            if self.big_endian {
                n.to_be_bytes()
            } else {
                n.to_le_bytes()
            }
            .to_vec()
        }

        fn block(&mut self, kind: u32, body: &[u8]) {
            let padded = body.len().next_multiple_of(4);
            let length = self.u32(u32::try_from(padded + 12).unwrap());
            self.out.extend([self.u32(kind), length.clone()].concat());
            self.out.extend(body);
            self.out.resize(self.out.len() + padded - body.len(), 0);
            self.out.extend(length);
        }

        fn interface(&mut self, link: u16, snaplen: u32, options: &[(u16, &[u8])]) {
            let mut body = [self.u16(link), self.u16(0), self.u32(snaplen)].concat();
            for (kind, value) in options {
                body.extend([self.u16(*kind), self.u16(u16::try_from(value.len()).unwrap())].concat());
                body.extend(*value);
                body.resize(body.len().next_multiple_of(4), 0);
            }
            self.block(INTERFACE, &body);
        }

        fn packet(&mut self, interface: u32, ticks: u64, bytes: &[u8], wire_len: u32) {
            let captured = u32::try_from(bytes.len()).unwrap();
            let [high, low] =
                [ticks >> 32, ticks & u64::from(u32::MAX)].map(|half| u32::try_from(half).unwrap());
            let head = [interface, high, low, captured, wire_len].map(|n| self.u32(n));
            self.block(ENHANCED_PACKET, &[head.concat(), bytes.to_vec()].concat());
        }
    }

    /// Link type, time, bytes, length on the wire.
    type Read = (i32, TimeNs, Vec<u8>, u32);

    fn read(bytes: &[u8]) -> (Vec<Read>, Option<String>) {
        let mut reader = PcapngReader::new(bytes);
        let mut packets = Vec::new();
        loop {
            match reader.next() {
                Ok(Some(packet)) => {
                    packets.push((packet.link.0, packet.at, packet.bytes.to_vec(), packet.wire_len));
                }
                Ok(None) => return (packets, None),
                Err(error) => return (packets, Some(error.to_string())),
            }
        }
    }

    #[test]
    fn interfaces_may_differ_in_everything() {
        for big_endian in [false, true] {
            let mut writer = Writer::new(big_endian);
            writer.interface(1, 65_535, &[]);
            writer.interface(113, 262_144, &[(2, b"eth0"), (IF_TSRESOL, &[9])]);
            writer.interface(101, 0, &[(IF_TSRESOL, &[0x8a])]);
            writer.block(5, &[0; 20]);
            writer.packet(0, 1_500_000, b"abc", 3);
            writer.packet(1, 1_500_000_001, b"defgh", 90);
            writer.packet(2, 1024 + 512, b"", 0);
            let expected = vec![
                (1, 1_500_000_000, b"abc".to_vec(), 3),
                (113, 1_500_000_001, b"defgh".to_vec(), 90),
                (101, 1_500_000_000, Vec::new(), 0),
            ];
            assert_eq!(read(&writer.out), (expected, None), "{big_endian}");
        }
    }

    #[test]
    fn a_section_has_its_own_order_and_interfaces() {
        let mut first = Writer::new(false);
        first.interface(1, 0, &[(IF_TSOFFSET, &(-10_i64).to_le_bytes())]);
        first.packet(0, 0, b"a", 1);
        let mut second = Writer::new(true);
        second.interface(276, 0, &[]);
        second.packet(0, 1, b"b", 1);
        second.packet(1, 1, b"c", 1);
        let (packets, error) = read(&[first.out, second.out].concat());
        assert_eq!(packets.len(), 2);
        assert_eq!((packets[0].0, packets[0].1), (1, -10_000_000_000));
        assert_eq!((packets[1].0, packets[1].1), (276, 1000));
        assert_eq!(
            error.as_deref(),
            Some("a packet is of an interface that is not described")
        );
    }

    #[test]
    fn old_and_simple_packets_are_read() {
        let mut writer = Writer::new(false);
        writer.interface(1, 3, &[]);
        let old = [
            writer.u16(0),
            writer.u16(7),
            writer.u32(0),
            writer.u32(5),
            writer.u32(2),
            writer.u32(2),
        ];
        writer.block(PACKET, &[old.concat(), b"ab".to_vec()].concat());
        let simple = writer.u32(9);
        writer.block(SIMPLE_PACKET, &[simple, b"xyz".to_vec()].concat());
        let expected = vec![(1, 5000, b"ab".to_vec(), 2), (1, 0, b"xyz".to_vec(), 9)];
        assert_eq!(read(&writer.out), (expected, None));
    }

    #[test]
    fn fuzz_pcapng() {
        bolero::check!()
            .with_test_time(std::time::Duration::from_secs(10))
            .with_type::<(bool, Vec<(u8, Vec<u8>)>, Vec<u8>)>()
            .for_each(|(big_endian, blocks, tail)| {
                let mut writer = Writer::new(*big_endian);
                writer.interface(1, 0, &[]);
                for (kind, body) in blocks {
                    writer.block(u32::from(kind % 8), body);
                }
                writer.out.extend(tail);
                let (packets, _) = read(&writer.out);
                assert!(packets.len() <= writer.out.len() / 12);
                read(tail);
            });
    }

    /// Whatever the bytes, it ends with packets or a reason; what came before a fault stays.
    #[test]
    fn cut_and_changed_files_end_with_a_reason() {
        let mut writer = Writer::new(false);
        writer.interface(1, 0, &[(IF_TSRESOL, &[6])]);
        writer.packet(0, 1, b"abcd", 4);
        writer.packet(0, 2, b"efgh", 4);
        let (whole, _) = read(&writer.out);
        let last_block = writer.out.len() - 36;
        for n in 0..writer.out.len() {
            let (packets, error) = read(&writer.out[..n]);
            assert!(whole.starts_with(&packets), "{n}");
            assert_eq!(
                error.is_none(),
                [0, 28, 28 + 28, last_block].contains(&n),
                "{n}: {error:?}"
            );
        }
        for bit in 0..writer.out.len() * 8 {
            let mut flipped = writer.out.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(read(&flipped).0.len() <= 2);
        }
    }
}
