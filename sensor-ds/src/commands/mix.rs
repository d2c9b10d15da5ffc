//! Makes the mixed capture that packet rates are compared on: every capture of a corpus, many times over,
//! each copy with addresses of its own.
//!
//! Deterministic, so that a checksum tells whether two machines measure the same thing. Frames of the NULL
//! link get an Ethernet header. Addresses are changed by exclusive-or with the number of the copy, and
//! checksums follow by RFC 1624: one that was wrong stays wrong by as much.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use ja4_model::connection::Hex;
use sensor_wire::registry::LinkType;
use sha2::{Digest as _, Sha256};

use crate::capture::offline::{Next, OfflineCapture};

/// Time of the first frame: 14 November 2023.
const START_US: i64 = 1_700_000_000_000_000;
/// Distance of two repetitions.
const REPETITION_US: i64 = 250_000;
/// Distance of two files in a repetition.
const FILE_US: i64 = 3_000;
/// Longer captures are squeezed into this.
const DURATION_MAX_US: i64 = 20_000_000;

/// What was written.
#[derive(Debug)]
pub(crate) struct Made {
    pub(crate) n_packets: u64,
    pub(crate) n_bytes: u64,
    pub(crate) sha256: String,
}

struct SourceFrame {
    at_us: i64,
    wire_len: u32,
    bytes: Vec<u8>,
}

/// Reads the captures of `folders`, in that order, and writes `repetitions` copies of them to `out`.
pub(crate) fn make(folders: &[PathBuf], out: &Path, repetitions: u32) -> anyhow::Result<Made> {
    let mut paths = Vec::new();
    for folder in folders {
        let found = captures_in(folder)?;
        anyhow::ensure!(
            !found.is_empty(),
            "{} holds no capture (*.pcap, *.pcapng, *.cap)",
            folder.display()
        );
        paths.extend(found);
    }
    let files = paths
        .iter()
        .map(|path| read_frames(path))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let mut order = Vec::new();
    for repetition in 0..repetitions {
        for (file_idx, frames) in files.iter().enumerate() {
            let key = repetition as usize * files.len() + file_idx + 1;
            let key = u16::try_from(key).context("more copies than a 16-bit number tells apart")?;
            let base = START_US + i64::from(repetition) * REPETITION_US + i64::try_from(file_idx)? * FILE_US;
            let first = frames.first().map_or(0, |frame| frame.at_us);
            let duration = frames.last().map_or(0, |frame| frame.at_us) - first;
            for (frame_idx, frame) in frames.iter().enumerate() {
                let since = frame.at_us - first;
                let since = if duration > DURATION_MAX_US {
                    since * DURATION_MAX_US / duration
                } else {
                    since
                };
                order.push((base + since, key, file_idx, frame_idx));
            }
        }
    }
    order.sort_by_key(|(at_us, ..)| *at_us);
    let mut writer = PcapWriter::create(out)?;
    for (at_us, key, file_idx, frame_idx) in order {
        let source = &files[file_idx][frame_idx];
        let mut bytes = source.bytes.clone();
        change_addresses(&mut bytes, key);
        writer.write(at_us, source.wire_len, &bytes)?;
    }
    writer.finish()
}

fn captures_in(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    let mut paths = entries
        .map(|entry| Ok(entry?.path()))
        .collect::<anyhow::Result<Vec<_>>>()?;
    paths.retain(|path| {
        path.extension()
            .is_some_and(|extension| ["pcap", "pcapng", "cap"].iter().any(|known| extension == *known))
    });
    paths.sort();
    Ok(paths)
}

fn read_frames(path: &Path) -> anyhow::Result<Vec<SourceFrame>> {
    let mut capture = OfflineCapture::open(path)?;
    let mut frames = Vec::new();
    while let Next::Packet(packet) = capture.next()? {
        let is_null = packet.link == LinkType::NULL;
        anyhow::ensure!(
            is_null || packet.link == LinkType::ETHERNET,
            "{} has link type {}; a mixed capture is made of Ethernet and NULL",
            path.display(),
            packet.link.0
        );
        let (bytes, wire_len) = if is_null {
            (ethernet_of_null(packet.bytes), packet.wire_len + 10)
        } else {
            (packet.bytes.to_vec(), packet.wire_len)
        };
        frames.push(SourceFrame {
            at_us: packet.at.div_euclid(1000),
            wire_len,
            bytes,
        });
    }
    Ok(frames)
}

/// Family 2 is IPv4 everywhere; whatever else a NULL link carries here is IPv6.
fn ethernet_of_null(frame: &[u8]) -> Vec<u8> {
    let ethertype: [u8; 2] = if frame.starts_with(&[2, 0, 0, 0]) {
        [0x08, 0x00]
    } else {
        [0x86, 0xdd]
    };
    let addresses = [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];
    [&addresses[..], &ethertype, frame.get(4..).unwrap_or_default()].concat()
}

fn change_addresses(frame: &mut [u8], key: u16) {
    let mut at = 12;
    while matches!(frame.get(at..at + 2), Some([0x81, 0x00] | [0x88, 0xa8])) {
        at += 4;
    }
    match frame.get(at..at + 2) {
        Some([0x08, 0x00]) => change_ipv4(&mut frame[at + 2..], key),
        Some([0x86, 0xdd]) => change_ipv6(&mut frame[at + 2..], key),
        _ => {}
    }
}

fn change_ipv4(packet: &mut [u8], key: u16) {
    if packet.len() < 20 {
        return;
    }
    let before = packet[12..20].to_vec();
    for at in [12, 16] {
        if packet[at] != 0 && packet[at] < 224 {
            xor_at(packet, at + 1, key);
        }
    }
    let after = packet[12..20].to_vec();
    fix_checksum(packet, 10, &before, &after, false);
    let header_len = usize::from(packet[0] & 15) * 4;
    let is_later_fragment = u16::from_be_bytes([packet[6], packet[7]]) & 0x1fff != 0;
    if !is_later_fragment && packet.len() > header_len {
        let protocol = packet[9];
        fix_transport(&mut packet[header_len..], protocol, &before, &after);
    }
}

fn change_ipv6(packet: &mut [u8], key: u16) {
    if packet.len() < 40 {
        return;
    }
    let before = packet[8..40].to_vec();
    for at in [8, 24] {
        if packet[at] != 0 && packet[at] != 0xff {
            xor_at(packet, at + 4, key);
        }
    }
    let after = packet[8..40].to_vec();
    let protocol = packet[6];
    fix_transport(&mut packet[40..], protocol, &before, &after);
}

fn xor_at(packet: &mut [u8], at: usize, key: u16) {
    let [hi, lo] = key.to_be_bytes();
    packet[at] ^= hi;
    packet[at + 1] ^= lo;
}

/// TCP, UDP and `ICMPv6` sum up the addresses too. A UDP checksum of zero stands for none.
fn fix_transport(segment: &mut [u8], protocol: u8, before: &[u8], after: &[u8]) {
    match protocol {
        6 => fix_checksum(segment, 16, before, after, false),
        17 if segment.get(6..8) != Some(&[0, 0]) => fix_checksum(segment, 6, before, after, true),
        58 => fix_checksum(segment, 2, before, after, false),
        _ => {}
    }
}

/// RFC 1624 equation 3 over all words that changed.
fn fix_checksum(bytes: &mut [u8], at: usize, before: &[u8], after: &[u8], is_udp: bool) {
    let Some([hi, lo]) = bytes.get(at..at + 2) else {
        return;
    };
    let words = |bytes: &[u8]| bytes.as_chunks::<2>().0.to_vec();
    let mut sum = u64::from(!u16::from_be_bytes([*hi, *lo]));
    for (old, new) in words(before)
        .into_iter()
        .zip(words(after))
        .filter(|(old, new)| old != new)
    {
        sum += u64::from(!u16::from_be_bytes(old)) + u64::from(u16::from_be_bytes(new));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let [.., hi, lo] = (!sum).to_be_bytes();
    let fixed = if is_udp && [hi, lo] == [0, 0] {
        [0xff, 0xff]
    } else {
        [hi, lo]
    };
    bytes[at..at + 2].copy_from_slice(&fixed);
}

/// Writes a classic pcap file with microseconds, little-endian, and its checksum.
struct PcapWriter {
    out: BufWriter<File>,
    hash: Sha256,
    made: Made,
}

impl PcapWriter {
    fn create(path: &Path) -> anyhow::Result<Self> {
        let file = File::create(path).with_context(|| format!("cannot create {}", path.display()))?;
        let made = Made {
            n_packets: 0,
            n_bytes: 0,
            sha256: String::new(),
        };
        let mut writer = Self {
            out: BufWriter::with_capacity(1 << 20, file),
            hash: Sha256::new(),
            made,
        };
        // Magic, version 2.4, no zone, no accuracy, snapshot length, Ethernet.
        let header: [u32; 6] = [0xa1b2_c3d4, 0x0004_0002, 0, 0, 262_144, 1];
        writer.put(&header.map(u32::to_le_bytes).concat())?;
        Ok(writer)
    }

    fn write(&mut self, at_us: i64, wire_len: u32, bytes: &[u8]) -> anyhow::Result<()> {
        let seconds = u32::try_from(at_us.div_euclid(1_000_000))?;
        let micros = u32::try_from(at_us.rem_euclid(1_000_000))?;
        let header = [seconds, micros, u32::try_from(bytes.len())?, wire_len];
        self.put(&header.map(u32::to_le_bytes).concat())?;
        self.put(bytes)?;
        self.made.n_packets += 1;
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.hash.update(bytes);
        self.made.n_bytes += bytes.len() as u64;
        self.out
            .write_all(bytes)
            .context("cannot write the mixed capture")
    }

    fn finish(mut self) -> anyhow::Result<Made> {
        self.out.flush().context("cannot write the mixed capture")?;
        self.made.sha256 = Hex(&self.hash.finalize()).to_string();
        Ok(self.made)
    }
}
