//! Builds frames of TCP conversations and runs them through a flow table.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::net::Ipv4Addr;

use sensor_flow::{FlowEvent, FlowSettings, FlowTable, Frame, HelloEvent, Seed, TimeNs};
use sensor_wire::registry::LinkType;

pub(crate) const SECOND: TimeNs = 1_000_000_000;
pub(crate) const SEED: Seed = Seed([1, 2, 3, 4]);

pub(crate) const FIN: u8 = 0x01;
pub(crate) const SYN: u8 = 0x02;
pub(crate) const RST: u8 = 0x04;
pub(crate) const ACK: u8 = 0x10;

/// A TCP segment to be wrapped in IPv4 and Ethernet.
#[derive(Debug, Clone)]
pub(crate) struct Segment {
    pub(crate) src: (Ipv4Addr, u16),
    pub(crate) dst: (Ipv4Addr, u16),
    pub(crate) seq: u32,
    pub(crate) ack: u32,
    pub(crate) flags: u8,
    pub(crate) options: Vec<u8>,
    pub(crate) payload: Vec<u8>,
}

impl Segment {
    pub(crate) fn frame(&self) -> Vec<u8> {
        let header_len = 20 + self.options.len();
        let total = u16::try_from(20 + header_len + self.payload.len()).unwrap();
        let mut bytes = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0, 0x45, 0];
        bytes.extend(total.to_be_bytes());
        bytes.extend([0, 0, 0x40, 0, 64, 6, 0, 0]);
        bytes.extend(self.src.0.octets());
        bytes.extend(self.dst.0.octets());
        bytes.extend(self.src.1.to_be_bytes());
        bytes.extend(self.dst.1.to_be_bytes());
        bytes.extend(self.seq.to_be_bytes());
        bytes.extend(self.ack.to_be_bytes());
        bytes.extend([
            u8::try_from(header_len / 4).unwrap() << 4,
            self.flags,
            0xfa,
            0xf0,
            0,
            0,
            0,
            0,
        ]);
        bytes.extend(&self.options);
        bytes.extend(&self.payload);
        bytes
    }
}

/// A conversation between one client and one server, with their sequence numbers.
#[derive(Debug, Clone)]
pub(crate) struct Talk {
    pub(crate) client: (Ipv4Addr, u16),
    pub(crate) server: (Ipv4Addr, u16),
    pub(crate) client_next: u32,
    pub(crate) server_next: u32,
}

impl Talk {
    pub(crate) fn new(client_port: u16) -> Self {
        Self {
            client: (Ipv4Addr::new(10, 0, 0, 9), client_port),
            server: (Ipv4Addr::new(10, 0, 0, 1), 443),
            // Close to the end, so that every test crosses the wrap of sequence numbers.
            client_next: u32::MAX - 100,
            server_next: u32::MAX - 5,
        }
    }

    fn segment(&self, from_client: bool, flags: u8, payload: &[u8]) -> Segment {
        let (src, dst, seq, ack) = if from_client {
            (self.client, self.server, self.client_next, self.server_next)
        } else {
            (self.server, self.client, self.server_next, self.client_next)
        };
        let ack = if flags & ACK == 0 { 0 } else { ack };
        Segment {
            src,
            dst,
            seq,
            ack,
            flags,
            options: Vec::new(),
            payload: payload.to_vec(),
        }
    }

    /// A segment of the client; moves its number on.
    pub(crate) fn client(&mut self, flags: u8, payload: &[u8]) -> Segment {
        let segment = self.segment(true, flags, payload);
        self.client_next = self.client_next.wrapping_add(length(flags, payload));
        segment
    }

    /// A segment of the server; moves its number on.
    pub(crate) fn server(&mut self, flags: u8, payload: &[u8]) -> Segment {
        let segment = self.segment(false, flags, payload);
        self.server_next = self.server_next.wrapping_add(length(flags, payload));
        segment
    }

    /// The SYN with the options of a Linux client.
    pub(crate) fn syn(&mut self) -> Segment {
        let mut syn = self.client(SYN, &[]);
        syn.options = vec![2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7];
        syn
    }

    /// The three segments of the handshake.
    pub(crate) fn handshake(&mut self) -> Vec<Segment> {
        vec![self.syn(), self.server(SYN | ACK, &[]), self.client(ACK, &[])]
    }

    /// `stream` of the client from its next number, cut at the given lengths; the rest is one segment.
    pub(crate) fn client_pieces(&mut self, stream: &[u8], lengths: &[usize]) -> Vec<Segment> {
        let mut pieces = Vec::new();
        let mut rest = stream;
        for &n in lengths {
            let (head, tail) = rest.split_at(n.min(rest.len()));
            if !head.is_empty() {
                pieces.push(self.client(ACK, head));
            }
            rest = tail;
        }
        if !rest.is_empty() {
            pieces.push(self.client(ACK, rest));
        }
        pieces
    }
}

fn length(flags: u8, payload: &[u8]) -> u32 {
    u32::try_from(payload.len()).unwrap() + u32::from(flags & SYN != 0) + u32::from(flags & FIN != 0)
}

/// A ClientHello message whose random is filled with `mark`.
pub(crate) fn hello_message(mark: u8) -> Vec<u8> {
    let extensions = [
        &[0, 0, 0, 9, 0, 7, 0, 0, 4, b'a', b'.', b'b', b'c'][..],
        &[0, 10, 0, 4, 0, 2, 0, 29],
        &[0, 16, 0, 5, 0, 3, 2, b'h', b'2'],
        &[0, 13, 0, 4, 0, 2, 4, 3],
        &[0, 43, 0, 3, 2, 3, 4],
        // Padding makes it as long as a browser's, so that it can be cut in many ways.
        &[0, 21, 1, 0],
        &[0; 256],
    ]
    .concat();
    let mut body = vec![3, 3];
    body.extend([mark; 32]);
    body.extend([0, 0, 4, 0x13, 0x01, 0x13, 0x02, 1, 0]);
    body.extend(u16::try_from(extensions.len()).unwrap().to_be_bytes());
    body.extend(extensions);
    let mut message = vec![1, 0];
    message.extend(u16::try_from(body.len()).unwrap().to_be_bytes());
    message.extend(body);
    message
}

/// The message in records of at most `size` bytes.
pub(crate) fn records(message: &[u8], size: usize) -> Vec<u8> {
    let record = |piece: &[u8]| {
        [
            &[22, 3, 1][..],
            &u16::try_from(piece.len()).unwrap().to_be_bytes(),
            piece,
        ]
        .concat()
    };
    message.chunks(size).flat_map(record).collect()
}

/// A hello in one record.
pub(crate) fn hello(mark: u8) -> Vec<u8> {
    records(&hello_message(mark), 16_384)
}

/// A table with the time and the frame number of the next frame.
#[derive(Debug)]
pub(crate) struct Rig {
    pub(crate) table: FlowTable,
    pub(crate) now: TimeNs,
    pub(crate) number: u64,
    pub(crate) interface: u16,
}

impl Rig {
    pub(crate) fn new(settings: FlowSettings) -> Self {
        Self {
            table: FlowTable::new(settings, SEED),
            now: 1_700_000_000 * SECOND,
            number: 0,
            interface: 0,
        }
    }

    pub(crate) fn feed_bytes(&mut self, bytes: &[u8]) -> Vec<FlowEvent> {
        self.number += 1;
        self.now += 1_000_000;
        let frame = Frame {
            link: LinkType::ETHERNET,
            interface: self.interface,
            number: self.number,
            bytes,
        };
        self.table.handle_packet(self.now, &frame);
        self.take()
    }

    pub(crate) fn feed(&mut self, segment: &Segment) -> Vec<FlowEvent> {
        self.feed_bytes(&segment.frame())
    }

    pub(crate) fn feed_all(&mut self, segments: &[Segment]) -> Vec<FlowEvent> {
        segments.iter().flat_map(|segment| self.feed(segment)).collect()
    }

    /// Lets time pass and runs all timers.
    pub(crate) fn pass(&mut self, seconds: i64) -> Vec<FlowEvent> {
        let until = self.now + seconds * SECOND;
        let mut events = Vec::new();
        while let Some(deadline) = self.table.next_deadline().filter(|deadline| *deadline <= until) {
            self.now = self.now.max(deadline);
            self.table.handle_timeout(self.now);
            events.extend(self.take());
        }
        self.now = until;
        events
    }

    fn take(&mut self) -> Vec<FlowEvent> {
        std::iter::from_fn(|| self.table.poll_event()).collect()
    }

    /// A whole connection up to its confirmed hello.
    pub(crate) fn connect(&mut self, talk: &mut Talk) -> Vec<FlowEvent> {
        let mut segments = talk.handshake();
        segments.push(talk.client(ACK, &hello(7)));
        segments.push(talk.server(ACK, &[22, 3, 3, 0, 1, 2]));
        segments.push(talk.client(ACK, &[20, 3, 3, 0, 1, 1, 23, 3, 3]));
        self.feed_all(&segments)
    }
}

pub(crate) fn hellos(events: &[FlowEvent]) -> Vec<&HelloEvent> {
    let mut found = Vec::new();
    for event in events {
        if let FlowEvent::Hello(_, hello) = event {
            found.push(hello.as_ref());
        }
    }
    found
}

/// Events as short words: `hello`, `acked`, `followed`, `fin` …
pub(crate) fn words(events: &[FlowEvent]) -> Vec<String> {
    let word = |event: &FlowEvent| match event {
        FlowEvent::Open(..) => "open".to_owned(),
        FlowEvent::Hello(_, hello) => format!("hello{}", hello.hello_index),
        FlowEvent::Confirm { conn, confirmed, .. } => format!("{confirmed:?}{}", conn.0).to_lowercase(),
        FlowEvent::Close { conn, reason, .. } => format!("{reason:?}{}", conn.0).to_lowercase(),
    };
    events.iter().map(word).collect()
}
