//! Reads and writes classic pcap files, and leaves out what the sensor does not read. Pure.
//!
//! Kept of a connection: SYN, SYN-ACK, the client's bytes up to the whole hello, the server's first answer, the
//! client's next data, and FIN or RST. The payload of what is not the client's is cut off, its lengths with it. A few
//! bytes of a page are no loss: the site reports its requests itself.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use anyhow::{Context as _, ensure};

use super::stretch::Key;

const MAGIC_NANOSECONDS: u32 = 0xa1b2_3c4d;
const LINK_ETHERNET: u32 = 1;
const ETHERNET_BYTES: usize = 14;
const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;

/// A frame with its time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Packet {
    pub(super) ts_ns: i64,
    pub(super) bytes: Vec<u8>,
}

/// What is needed of the headers.
#[derive(Debug, Clone, Copy)]
struct Head {
    src: Key,
    dst: Key,
    flags: u8,
    /// Where the payload begins.
    payload_at: usize,
    /// As the IP header says, however much was captured.
    payload_len: usize,
}

/// Reads a file of Ethernet frames with times in nanoseconds, in this machine's byte order: tcpdump's.
pub(super) fn read(file: &[u8]) -> anyhow::Result<Vec<Packet>> {
    let word = |at: usize| -> Option<u32> {
        let bytes = file.get(at..at + 4)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?))
    };
    ensure!(
        word(0) == Some(MAGIC_NANOSECONDS) && word(20) == Some(LINK_ETHERNET),
        "the capture is no little-endian pcap of Ethernet frames in nanoseconds"
    );
    let mut packets = Vec::new();
    let mut at = 24;
    while let (Some(seconds), Some(nanos), Some(len)) = (word(at), word(at + 4), word(at + 8)) {
        at += 16;
        let bytes = file
            .get(at..at + len as usize)
            .context("the capture ends inside a packet")?;
        at += len as usize;
        packets.push(Packet {
            ts_ns: i64::from(seconds) * 1_000_000_000 + i64::from(nanos),
            bytes: bytes.to_vec(),
        });
    }
    Ok(packets)
}

/// The file of these packets.
pub(super) fn write(packets: &[Packet]) -> Vec<u8> {
    let mut file = Vec::new();
    for word in [MAGIC_NANOSECONDS, 0x0004_0002, 0, 0, 262_144, LINK_ETHERNET] {
        file.extend(word.to_le_bytes());
    }
    for packet in packets {
        let seconds = u32::try_from(packet.ts_ns / 1_000_000_000).unwrap_or(0);
        let nanos = u32::try_from(packet.ts_ns % 1_000_000_000).unwrap_or(0);
        let len = u32::try_from(packet.bytes.len()).unwrap_or(u32::MAX);
        for word in [seconds, nanos, len, len] {
            file.extend(word.to_le_bytes());
        }
        file.extend(&packet.bytes);
    }
    file
}

/// Client of a packet between a client and the server.
pub(super) fn client_of(packet: &Packet, server_port: u16) -> Key {
    let nobody = Key {
        ip: Ipv4Addr::UNSPECIFIED,
        port: 0,
    };
    head(&packet.bytes).map_or(nobody, |head| {
        if head.dst.port == server_port {
            head.src
        } else {
            head.dst
        }
    })
}

/// How far a connection has come.
#[derive(Debug)]
struct Flow {
    number: usize,
    /// Bytes of the hello that are still to come; unknown before the first.
    hello_left: Option<usize>,
    server_answered: bool,
    client_went_on: bool,
}

/// What is kept, and the connection of each packet, numbered in the order of their SYN.
pub(super) fn trim(packets: Vec<Packet>, server_port: u16) -> (Vec<Packet>, Vec<usize>) {
    let mut flows: BTreeMap<Key, Flow> = BTreeMap::new();
    let (mut kept, mut owners) = (Vec::new(), Vec::new());
    let mut n_flows = 0;
    for mut packet in packets {
        let Some(head) = head(&packet.bytes) else { continue };
        let from_client = head.dst.port == server_port;
        let client = if from_client { head.src } else { head.dst };
        if head.flags & (SYN | ACK) == SYN && from_client {
            let flow = Flow {
                number: n_flows,
                hello_left: None,
                server_answered: false,
                client_went_on: false,
            };
            flows.insert(client, flow);
            n_flows += 1;
        }
        let Some(flow) = flows.get_mut(&client) else {
            continue;
        };
        let payload = packet.bytes.get(head.payload_at..).unwrap_or_default();
        let keep_payload = if from_client && head.payload_len > 0 {
            let left = flow.hello_left.unwrap_or_else(|| record_len(payload));
            let is_hello = left > 0;
            flow.hello_left = Some(left.saturating_sub(head.payload_len));
            let goes_on = !is_hello && flow.server_answered && !flow.client_went_on;
            flow.client_went_on |= goes_on;
            is_hello || goes_on
        } else {
            false
        };
        let is_answer = !from_client && flow.hello_left == Some(0) && !flow.server_answered;
        flow.server_answered |= is_answer;
        let is_frame_of_it = head.flags & (SYN | FIN | RST) != 0;
        if !(keep_payload || is_answer || is_frame_of_it) {
            continue;
        }
        if !keep_payload {
            cut_payload(&mut packet.bytes, head.payload_at);
        }
        owners.push(flow.number);
        kept.push(packet);
    }
    (kept, owners)
}

/// Length of the first TLS record with its header; 1 if it is none, so that one segment is kept.
fn record_len(payload: &[u8]) -> usize {
    match *payload {
        [22, _, _, high, low, ..] => 5 + (usize::from(high) << 8 | usize::from(low)),
        _ => 1,
    }
}

/// Ethernet, IPv4, TCP.
fn head(frame: &[u8]) -> Option<Head> {
    if frame.get(12..14)? != [8, 0] {
        return None;
    }
    let ip = frame.get(ETHERNET_BYTES..)?;
    let ip_len = usize::from(*ip.first()? & 15) * 4;
    if ip.get(9)? != &6 {
        return None;
    }
    let total = usize::from(u16::from_be_bytes([*ip.get(2)?, *ip.get(3)?]));
    let tcp = ip.get(ip_len..)?;
    let tcp_len = usize::from(*tcp.get(12)? >> 4) * 4;
    let address = |at: usize| -> Option<Ipv4Addr> {
        let bytes: [u8; 4] = ip.get(at..at + 4)?.try_into().ok()?;
        Some(Ipv4Addr::from(bytes))
    };
    let port = |at: usize| -> Option<u16> { Some(u16::from_be_bytes([*tcp.get(at)?, *tcp.get(at + 1)?])) };
    Some(Head {
        src: Key {
            ip: address(12)?,
            port: port(0)?,
        },
        dst: Key {
            ip: address(16)?,
            port: port(2)?,
        },
        flags: *tcp.get(13)?,
        payload_at: ETHERNET_BYTES + ip_len + tcp_len,
        payload_len: total.checked_sub(ip_len + tcp_len)?,
    })
}

/// The IP header's total length goes with it. Checksums are none on loopback: the kernel leaves them to hardware.
fn cut_payload(frame: &mut Vec<u8>, payload_at: usize) {
    frame.truncate(payload_at);
    let total = u16::try_from(payload_at - ETHERNET_BYTES).unwrap_or(u16::MAX);
    frame[ETHERNET_BYTES + 2..ETHERNET_BYTES + 4].copy_from_slice(&total.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVER: u16 = 8443;

    fn packet(from_client: bool, flags: u8, payload: &[u8]) -> Packet {
        let mut bytes = vec![0; 12];
        bytes.extend([8, 0, 0x45, 0]);
        bytes.extend(u16::try_from(40 + payload.len()).unwrap().to_be_bytes());
        bytes.extend([0, 0, 0, 0, 64, 6, 0, 0]);
        let (client, server) = ([127, 10, 0, 1], [127, 0, 0, 1]);
        bytes.extend(
            if from_client {
                [client, server]
            } else {
                [server, client]
            }
            .concat(),
        );
        let ports = if from_client {
            [50_000, SERVER]
        } else {
            [SERVER, 50_000]
        };
        bytes.extend(ports.iter().flat_map(|port| port.to_be_bytes()));
        bytes.extend([0; 8]);
        bytes.extend([0x50, flags, 0, 0, 0, 0, 0, 0]);
        bytes.extend(payload);
        Packet {
            ts_ns: 1_000_000_007,
            bytes,
        }
    }

    #[test]
    fn a_file_is_read_as_it_was_written() {
        let packets = vec![packet(true, SYN, b""), packet(false, SYN | ACK, b"")];
        assert_eq!(read(&write(&packets)).unwrap(), packets);
        assert!(read(&write(&packets)[..60]).is_err());
    }

    #[test]
    fn the_hello_stays_whole_and_pages_go() {
        let hello = [&[22, 3, 1, 0, 6][..], b"hello!"].concat();
        let packets = vec![
            packet(true, SYN, b""),
            packet(false, SYN | ACK, b""),
            packet(true, ACK, b""),
            packet(true, ACK, &hello[..8]),
            packet(true, ACK, &hello[8..]),
            packet(false, ACK, b"server hello and a certificate"),
            packet(false, ACK, b"more of it"),
            packet(true, ACK, b"finished"),
            packet(true, ACK, b"a request"),
            packet(false, ACK, b"a page"),
            packet(false, FIN | ACK, b""),
            packet(true, FIN | ACK, b""),
            packet(true, SYN, b""),
        ];
        let (kept, owners) = trim(packets, SERVER);
        let payloads: Vec<_> = kept.iter().map(|packet| packet.bytes[54..].to_vec()).collect();
        let expected: [&[u8]; 9] = [
            b"",
            b"",
            &hello[..8],
            &hello[8..],
            b"",
            b"finished",
            b"",
            b"",
            b"",
        ];
        assert_eq!(payloads, expected);
        assert_eq!(owners, [0, 0, 0, 0, 0, 0, 0, 0, 1]);
        let answer = head(&kept[4].bytes).unwrap();
        assert_eq!((answer.payload_len, answer.payload_at), (0, 54));
    }

    #[test]
    fn damaged_packets_never_panic() {
        let whole = packet(true, SYN, b"xyz");
        for len in 0..whole.bytes.len() {
            let cut = Packet {
                ts_ns: 0,
                bytes: whole.bytes[..len].to_vec(),
            };
            trim(vec![cut], SERVER);
        }
    }
}
