//! When a recorded input begins: the first packet of a capture, the earliest request of a file.
//!
//! Both are moved to now by one offset, so that retention, windows and "the last hour" treat them like live input,
//! and so that their distance from each other, which the join reads, stays as it was.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read};
use std::path::Path;
use std::time::SystemTime;

use anyhow::{Context as _, bail};

use super::layout::write_private;

/// Loopback traffic of the demo and the requests that its site reported meanwhile; see `testdata/demo/README.md`.
const RECORDED_PACKETS: &[u8] = include_bytes!("../../../testdata/demo/demo.pcap");
const RECORDED_REQUESTS: &[u8] = include_bytes!("../../../testdata/demo/http.jsonl");

/// Longer blocks before the first packet of a pcapng file are no capture: names and comments are far shorter.
const BLOCK_MAX_BYTES: usize = 16 * 1024 * 1024;
/// Blocks looked at before the first packet: section, interfaces, names, statistics.
const BLOCKS_MAX: usize = 10_000;
/// An event is at most 128 KiB; a line twice that is none.
const LINE_MAX_BYTES: u64 = 256 * 1024;

/// How far the inputs must be moved to begin now, in nanoseconds; `None` when neither has a packet or a request.
///
/// # Errors
/// When a file cannot be read or is of another kind.
pub(crate) fn offset_to_now_ns(
    pcap: &Path,
    http: Option<&Path>,
    now: SystemTime,
) -> anyhow::Result<Option<i64>> {
    let first_packet = first_packet_ns(pcap)?;
    let first_request = http.map(first_request_ns).transpose()?.flatten();
    let Some(first) = first_packet.into_iter().chain(first_request).min() else {
        return Ok(None);
    };
    let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let now_ns = i64::try_from(now.as_nanos()).context("the clock is beyond the year 2262")?;
    Ok(Some(now_ns - first))
}

/// Writes the recording that comes with us into the data folder: its capture and its requests.
///
/// # Errors
/// When the folder cannot be written.
pub(crate) fn unpack(packets: &Path, requests: &Path) -> anyhow::Result<()> {
    write_private(packets, RECORDED_PACKETS)?;
    write_private(requests, RECORDED_REQUESTS)
}

fn first_packet_ns(path: &Path) -> anyhow::Result<Option<i64>> {
    let file = File::open(path).with_context(|| format!("could not read {}", path.display()))?;
    read_first_packet_ns(&mut BufReader::new(file))
        .with_context(|| format!("{} is no capture that can be read", path.display()))
}

/// Time of the first packet of a pcap or pcapng stream, nanoseconds since the epoch; `None` when it has none.
fn read_first_packet_ns(reader: &mut impl Read) -> anyhow::Result<Option<i64>> {
    let mut magic = [0; 4];
    if !read_whole(reader, &mut magic)? {
        bail!("the file is shorter than a header");
    }
    match u32::from_le_bytes(magic) {
        0xa1b2_c3d4 => pcap_first_ns(reader, u32::from_le_bytes, 1000),
        0xa1b2_3c4d => pcap_first_ns(reader, u32::from_le_bytes, 1),
        0xd4c3_b2a1 => pcap_first_ns(reader, u32::from_be_bytes, 1000),
        0x4d3c_b2a1 => pcap_first_ns(reader, u32::from_be_bytes, 1),
        0x0a0d_0d0a => pcapng_first_ns(reader),
        other => bail!("{other:#010x} is neither pcap's nor pcapng's first word"),
    }
}

/// Classic pcap: 20 more bytes of file header, then a record header that begins with seconds and a fraction.
fn pcap_first_ns(
    reader: &mut impl Read,
    word: fn([u8; 4]) -> u32,
    fraction_ns: i64,
) -> anyhow::Result<Option<i64>> {
    let mut bytes = [0; 28];
    if !read_whole(reader, &mut bytes)? {
        return Ok(None);
    }
    let [.., s0, s1, s2, s3, f0, f1, f2, f3] = bytes;
    let seconds = i64::from(word([s0, s1, s2, s3]));
    Ok(Some(
        seconds * 1_000_000_000 + i64::from(word([f0, f1, f2, f3])) * fraction_ns,
    ))
}

/// pcapng: blocks of type, length and body; the first enhanced packet block has a time in its interface's unit.
fn pcapng_first_ns(reader: &mut impl Read) -> anyhow::Result<Option<i64>> {
    const INTERFACE: u32 = 1;
    const ENHANCED_PACKET: u32 = 6;
    let mut head = [0; 8];
    if !read_whole(reader, &mut head)? {
        return Ok(None);
    }
    let [l0, l1, l2, l3, order @ ..] = head;
    let word: fn([u8; 4]) -> u32 = if order == [0x4d, 0x3c, 0x2b, 0x1a] {
        u32::from_le_bytes
    } else {
        u32::from_be_bytes
    };
    // The section block's type, length and byte order are read; its rest follows.
    skip(reader, word([l0, l1, l2, l3]).saturating_sub(12))?;
    let mut units = Vec::new();
    for _ in 0..BLOCKS_MAX {
        if !read_whole(reader, &mut head)? {
            return Ok(None);
        }
        let [t0, t1, t2, t3, l0, l1, l2, l3] = head;
        let len = word([l0, l1, l2, l3]) as usize;
        let Some(body_len) = len.checked_sub(12).filter(|len| *len <= BLOCK_MAX_BYTES) else {
            bail!("a block of {len} bytes");
        };
        let mut body = vec![0; body_len];
        if !read_whole(reader, &mut body)? {
            return Ok(None);
        }
        skip(reader, 4)?;
        match word([t0, t1, t2, t3]) {
            INTERFACE => units.push(interface_unit(&body, word)),
            ENHANCED_PACKET => return Ok(packet_ns(&body, word, &units)),
            _ => {}
        }
    }
    bail!("no packet in the first {BLOCKS_MAX} blocks")
}

/// Ticks of an interface's clock in a second: option 9 (`if_tsresol`), a million without.
fn interface_unit(body: &[u8], word: fn([u8; 4]) -> u32) -> u64 {
    const DEFAULT: u64 = 1_000_000;
    const IF_TSRESOL: u32 = 9;
    let mut options = body.get(8..).unwrap_or_default();
    while let [a, b, c, d, rest @ ..] = options {
        // Code and length are 16 bits each; widened so that one reader of words serves both orders.
        let is_little = word([1, 0, 0, 0]) == 1;
        let half = |x: u8, y: u8| {
            if is_little {
                word([x, y, 0, 0])
            } else {
                word([0, 0, x, y])
            }
        };
        let (code, len) = (half(*a, *b), half(*c, *d) as usize);
        if code == IF_TSRESOL {
            return match rest.first() {
                Some(&exponent) if exponent & 0x80 == 0 => {
                    10_u64.checked_pow(u32::from(exponent)).unwrap_or(DEFAULT)
                }
                Some(&exponent) => 2_u64.checked_pow(u32::from(exponent & 0x7f)).unwrap_or(DEFAULT),
                None => DEFAULT,
            };
        }
        options = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    DEFAULT
}

/// Interface, then the time's high and low half.
fn packet_ns(body: &[u8], word: fn([u8; 4]) -> u32, units: &[u64]) -> Option<i64> {
    let read = |idx: usize| Some(word(body.get(idx..idx + 4)?.try_into().ok()?));
    let unit = *units.get(read(0)? as usize)?;
    let ticks = u64::from(read(4)?) << 32 | u64::from(read(8)?);
    let ns = u128::from(ticks) * 1_000_000_000 / u128::from(unit.max(1));
    i64::try_from(ns).ok()
}

/// Whether the buffer could be filled; `false` at the end of the stream.
fn read_whole(reader: &mut impl Read, buffer: &mut [u8]) -> anyhow::Result<bool> {
    match reader.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn skip(reader: &mut impl Read, n_bytes: u32) -> anyhow::Result<()> {
    std::io::copy(&mut reader.take(u64::from(n_bytes)), &mut std::io::sink())?;
    Ok(())
}

/// The earliest `ts_ns` of a file of events, one JSON object a line.
fn first_request_ns(path: &Path) -> anyhow::Result<Option<i64>> {
    let file = File::open(path).with_context(|| format!("could not read {}", path.display()))?;
    let mut reader = BufReader::new(file);
    let mut earliest = None;
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        let n = reader
            .by_ref()
            .take(LINE_MAX_BYTES)
            .read_until(b'\n', &mut line)?;
        if n == 0 {
            break;
        }
        let place = || format!("{}:{number} is no event", path.display());
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let event: serde_json::Value = serde_json::from_slice(&line).with_context(place)?;
        let ts_ns = event_ns(&event).with_context(place)?;
        earliest = Some(earliest.map_or(ts_ns, |earliest: i64| earliest.min(ts_ns)));
    }
    Ok(earliest)
}

/// `ts_ns` is a number or a string of digits.
fn event_ns(event: &serde_json::Value) -> anyhow::Result<i64> {
    let ts_ns = event.get("ts_ns").context("it has no ts_ns")?;
    ts_ns
        .as_i64()
        .or_else(|| ts_ns.as_str()?.parse().ok())
        .context("its ts_ns is no whole number")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn pcap(magic: u32, seconds: u32, fraction: u32) -> Vec<u8> {
        let mut bytes = magic.to_le_bytes().to_vec();
        bytes.extend([0; 20]);
        bytes.extend(seconds.to_le_bytes());
        bytes.extend(fraction.to_le_bytes());
        bytes
    }

    #[test]
    fn a_pcap_begins_with_its_first_packet_in_both_units_and_orders() {
        let read = |bytes: &[u8]| read_first_packet_ns(&mut &*bytes).unwrap();
        assert_eq!(read(&pcap(0xa1b2_c3d4, 7, 5)), Some(7_000_005_000));
        assert_eq!(read(&pcap(0xa1b2_3c4d, 7, 5)), Some(7_000_000_005));
        let mut big = 0xa1b2_c3d4_u32.to_be_bytes().to_vec();
        big.extend([0; 20]);
        big.extend(7_u32.to_be_bytes());
        big.extend(5_u32.to_be_bytes());
        assert_eq!(read(&big), Some(7_000_005_000));
        assert_eq!(read(&big[..24]), None);
    }

    /// A little-endian block with its length at both ends.
    fn block(kind: u32, body: &[u8]) -> Vec<u8> {
        let len = u32::try_from(body.len() + 12).unwrap().to_le_bytes();
        [&kind.to_le_bytes()[..], &len, body, &len].concat()
    }

    #[test]
    fn a_pcapng_is_read_in_its_interfaces_unit() {
        let section = block(
            0x0a0d_0d0a,
            &[&[0x4d, 0x3c, 0x2b, 0x1a][..], &[1, 0, 0, 0], &[0xff; 8]].concat(),
        );
        let packet = |ticks: u64| {
            let high = u32::try_from(ticks >> 32).unwrap().to_le_bytes();
            let low = u32::try_from(ticks & 0xffff_ffff).unwrap().to_le_bytes();
            block(6, &[&0_u32.to_le_bytes()[..], &high, &low, &[0; 8]].concat())
        };
        let plain = [
            section.clone(),
            block(1, &[1, 0, 0, 0, 0, 0, 4, 0]),
            packet(7_000_005),
        ]
        .concat();
        assert_eq!(
            read_first_packet_ns(&mut &plain[..]).unwrap(),
            Some(7_000_005_000)
        );
        let nanoseconds = [9, 0, 1, 0, 9, 0, 0, 0];
        let interface = block(1, &[&[1, 0, 0, 0, 0, 0, 4, 0][..], &nanoseconds].concat());
        let fine = [section, interface, packet(7_000_000_005)].concat();
        assert_eq!(read_first_packet_ns(&mut &fine[..]).unwrap(), Some(7_000_000_005));
    }

    #[test]
    fn what_is_no_capture_is_said_to_be_none() {
        let error = read_first_packet_ns(&mut &b"GIF89a"[..]).unwrap_err();
        assert!(
            error.to_string().contains("neither pcap's nor pcapng's"),
            "{error}"
        );
        assert!(read_first_packet_ns(&mut &b"ab"[..]).is_err());
    }

    #[test]
    fn cut_captures_never_panic() {
        let whole = pcap(0xa1b2_c3d4, 1, 2);
        for len in 0..whole.len() {
            read_first_packet_ns(&mut &whole[..len]).ok();
        }
        for byte in 0..=255_u8 {
            read_first_packet_ns(&mut &[&[0x0a, 0x0d, 0x0d, 0x0a][..], &[byte; 64]].concat()[..]).ok();
        }
    }

    #[test]
    fn one_offset_moves_the_earlier_of_both_inputs_to_now() {
        let dir = tempfile::tempdir().unwrap();
        let (capture, requests) = (dir.path().join("a.pcap"), dir.path().join("a.jsonl"));
        std::fs::write(&capture, pcap(0xa1b2_c3d4, 100, 0)).unwrap();
        std::fs::write(
            &requests,
            "{\"ts_ns\":\"99000000000\"}\n\n{\"ts_ns\":101000000000}\n",
        )
        .unwrap();
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
        assert_eq!(
            offset_to_now_ns(&capture, Some(&requests), now).unwrap(),
            Some(901_000_000_000)
        );
        assert_eq!(
            offset_to_now_ns(&capture, None, now).unwrap(),
            Some(900_000_000_000)
        );
        std::fs::write(&requests, "{\"ts_ns\":1}\n{\"event\":\"request\"}\n").unwrap();
        let error = format!(
            "{:#}",
            offset_to_now_ns(&capture, Some(&requests), now).unwrap_err()
        );
        assert!(
            error.contains("a.jsonl:2 is no event: it has no ts_ns"),
            "{error}"
        );
    }
}
