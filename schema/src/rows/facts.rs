//! What several tables share: times, names of enums as their numbers, texts joined by commas, bits of flags.

use ja4_model::{
    ClientHello, Confirmed, ConnFacts, ConnFlags, Direction, IdKind, Match, TcpFacts, Text, Transport,
    TsKind, WallNs,
};

/// Microseconds since the epoch, rounded down.
pub(super) fn micros(ns: WallNs) -> i64 {
    ns.div_euclid(1000)
}

pub(super) fn ts_kind(kind: TsKind) -> i8 {
    match kind {
        TsKind::Start => 1,
        TsKind::Derived => 2,
    }
}

pub(super) fn id_kind(kind: IdKind) -> i8 {
    match kind {
        IdKind::Producer => 1,
        IdKind::Receiver => 2,
    }
}

pub(super) fn transport(transport: Transport) -> i8 {
    match transport {
        Transport::Tcp => 1,
        Transport::Udp => 2,
    }
}

/// 0 stands for "no connection is known".
pub(super) fn direction(direction: Option<Direction>) -> i8 {
    match direction {
        None => 0,
        Some(Direction::Ingress) => 1,
        Some(Direction::Egress) => 2,
        Some(Direction::Internal) => 3,
    }
}

pub(super) fn confirmed(confirmed: Confirmed) -> i8 {
    match confirmed {
        Confirmed::None => 0,
        Confirmed::Acked => 1,
        Confirmed::Followed => 2,
    }
}

pub(super) fn verdict(verdict: Match) -> i8 {
    match verdict {
        Match::Exact => 1,
        Match::Asof => 2,
        Match::Ambiguous => 3,
        Match::None(_) => 4,
    }
}

/// The share of connections as the table holds it.
pub(super) fn sample_rate(rate: f64) -> f32 {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a share needs no more than single precision"
    )]
    let rate = rate as f32;
    rate
}

/// `items` joined by commas, in `scratch`.
pub(super) fn join_texts<'s>(scratch: &'s mut Vec<u8>, items: &[Text<'_>]) -> &'s [u8] {
    scratch.clear();
    for (idx, item) in items.iter().enumerate() {
        if idx > 0 {
            scratch.push(b',');
        }
        scratch.extend_from_slice(item.as_bytes());
    }
    scratch
}

/// Option kinds joined by commas, in `scratch`.
pub(super) fn join_numbers<'s>(scratch: &'s mut Vec<u8>, numbers: &[u8]) -> &'s [u8] {
    scratch.clear();
    for (idx, &number) in numbers.iter().enumerate() {
        if idx > 0 {
            scratch.push(b',');
        }
        push_number(scratch, u64::from(number));
    }
    scratch
}

/// Appends a number in decimal digits.
pub(super) fn push_number(out: &mut Vec<u8>, number: u64) {
    ja4_model::json::write_int(out, i128::from(number));
}

/// Bits of `tls_flags` that a hello gives.
pub(super) fn hello_flags(hello: &ClientHello<'_>) -> u16 {
    u16::from(hello.tls.ech) << 1
        | u16::from(hello.tls.psk) << 2
        | u16::from(hello.tls.pq) << 3
        | u16::from(hello.conn.flags.contains(ConnFlags::EARLY_DATA)) << 4
        | u16::from(!hello.sni.is_empty()) << 5
}

/// `tls_flags`, bit 0: the server says that the session was resumed.
pub(super) const RESUMED: u16 = 1;

/// TTL, window, maximum segment size and window scale of the SYN, with the values that stand for "not seen".
pub(super) fn syn_facts(conn: Option<&ConnFacts<'_>>) -> (u8, u16, u16, u8) {
    conn.and_then(|conn| conn.tcp.as_ref())
        .map_or((0, 0, 0, u8::MAX), |tcp| {
            (
                tcp.ttl,
                tcp.window,
                tcp.mss.unwrap_or(0),
                tcp.wscale.unwrap_or(u8::MAX),
            )
        })
}

/// TCP options of the SYN.
pub(super) fn syn_options<'c>(conn: Option<&'c ConnFacts<'_>>) -> &'c [u8] {
    conn.and_then(|conn| conn.tcp.as_ref())
        .map_or(&[], |tcp: &TcpFacts| &tcp.options)
}

/// A stable hash of a text: FNV-1a with 64 bits. 0 for the empty text.
pub(super) fn text_hash(text: &[u8]) -> u64 {
    if text.is_empty() {
        return 0;
    }
    text.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
    })
}
