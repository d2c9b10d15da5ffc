//! The life of connections: what is reported of each, and what forged packets cannot do.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{ACK, FIN, RST, Rig, SYN, Segment, Talk, hello, hello_message, hellos, records, words};
use sensor_flow::{Confirmed, FlowEvent, FlowFlags, FlowSettings, FrameDrop, Loss};

fn rig() -> Rig {
    Rig::new(FlowSettings::default())
}

#[test]
fn a_connection_is_reported_confirmed_and_closed() {
    let (mut rig, mut talk) = (rig(), Talk::new(40_000));
    let events = rig.connect(&mut talk);
    assert_eq!(words(&events), ["hello0", "acked0", "followed0"]);
    let reported = hellos(&events)[0];
    assert_eq!(reported.conn.pair.client.port, 40_000);
    assert_eq!(reported.conn.pair.server.port, 443);
    assert_eq!((reported.frame, reported.conn.confirmed), (4, Confirmed::None));
    assert_eq!(reported.conn.flags, FlowFlags::default());
    assert_eq!(reported.conn.syn_to_hello_us, Some(3000));
    let syn = reported.conn.syn.unwrap();
    assert_eq!(
        (syn.ttl, syn.window, syn.options.mss, syn.options.window_scale),
        (64, 64240, Some(1460), Some(7))
    );
    assert_eq!(reported.hello.sni.as_deref(), Some(&b"a.bc"[..]));
    assert_eq!((rig.table.n_opening(), rig.table.n_tracked()), (0, 1));
    let end = [talk.client(FIN | ACK, &[]), talk.server(FIN | ACK, &[])];
    assert_eq!(words(&rig.feed_all(&end)), ["fin0"]);
    assert_eq!(rig.table.n_tracked(), 0);
}

#[test]
fn half_a_close_is_no_close() {
    let (mut rig, mut talk) = (rig(), Talk::new(40_000));
    rig.connect(&mut talk);
    let end = [
        talk.client(FIN | ACK, &[]),
        talk.server(ACK, &[5; 1000]),
        talk.server(ACK, &[5; 1000]),
    ];
    assert!(rig.feed_all(&end).is_empty());
    assert_eq!(words(&rig.feed(&talk.server(FIN | ACK, &[]))), ["fin0"]);
}

#[test]
fn a_reset_counts_only_at_the_exact_number() {
    let (mut rig, mut talk) = (rig(), Talk::new(40_000));
    rig.connect(&mut talk);
    for distance in [1_u32, 100, 60_000, u32::MAX, u32::MAX - 1000] {
        let mut forged = talk.clone();
        forged.client_next = talk.client_next.wrapping_add(distance);
        forged.server_next = talk.server_next.wrapping_add(distance);
        assert!(rig.feed(&forged.client(RST, &[])).is_empty(), "client {distance}");
        assert!(rig.feed(&forged.server(RST, &[])).is_empty(), "server {distance}");
    }
    assert!(rig.table.counters().lost(Loss::RstIgnored) > 0);
    assert_eq!(words(&rig.feed(&talk.server(RST, &[]))), ["rst0"]);
}

#[test]
fn a_reset_before_the_confirmation_closes_too() {
    let (mut rig, mut talk) = (rig(), Talk::new(40_000));
    rig.feed_all(&talk.handshake());
    assert_eq!(words(&rig.feed(&talk.client(ACK, &hello(1)))), ["hello0"]);
    assert_eq!(words(&rig.feed(&talk.client(RST, &[]))), ["rst0"]);
}

#[test]
fn forged_data_does_not_move_the_numbers() {
    let (mut rig, mut talk) = (rig(), Talk::new(40_000));
    rig.connect(&mut talk);
    // Inside the window, but with an acknowledgement that an attacker off the path has to guess.
    let mut forged = talk.clone();
    forged.client_next = talk.client_next.wrapping_add(5000);
    forged.server_next = talk.server_next.wrapping_add(77_777);
    assert!(rig.feed(&forged.client(ACK, &[1; 100])).is_empty());
    assert!(rig.feed(&forged.client(RST, &[])).is_empty());
    assert_eq!(words(&rig.feed(&talk.client(RST, &[]))), ["rst0"]);
}

#[test]
fn a_forged_syn_replaces_nothing() {
    let (mut rig, mut talk) = (rig(), Talk::new(40_000));
    rig.connect(&mut talk);
    let mut forged = Talk::new(40_000);
    forged.client_next = 12_345;
    assert!(rig.feed(&forged.syn()).is_empty());
    // The server answers a SYN within a connection with an ACK (RFC 5961 section 4), the client goes on.
    assert!(rig.feed(&talk.server(ACK, &[])).is_empty());
    assert!(rig.feed(&talk.client(ACK, b"more")).is_empty());
    assert!(rig.feed(&forged.client(ACK, &hello(9))).len() <= 1);
    let end = [talk.client(FIN | ACK, &[]), talk.server(FIN | ACK, &[])];
    let closes = words(&rig.feed_all(&end));
    assert!(
        closes.contains(&"fin0".to_owned()) && !closes.contains(&"replaced0".to_owned()),
        "{closes:?}"
    );
}

#[test]
fn a_forged_hello_is_not_confirmed() {
    let (mut rig, talk) = (rig(), Talk::new(40_000));
    let mut forged = talk.clone();
    let events = rig.feed_all(&[forged.syn(), forged.client(ACK, &hello(9))]);
    assert_eq!(words(&events), ["hello0"]);
    assert_eq!(hellos(&events)[0].conn.confirmed, Confirmed::None);
    // A server without that connection answers with a RST, which confirms nothing.
    let refusal = Segment {
        flags: RST,
        ..forged.server(RST | ACK, &[])
    };
    assert!(
        !words(&rig.feed(&refusal))
            .iter()
            .any(|word| word.starts_with("acked"))
    );
}

#[test]
fn a_confirmed_syn_replaces_the_old_connection() {
    let (mut rig, mut talk) = (rig(), Talk::new(40_000));
    rig.connect(&mut talk);
    let mut newer = Talk::new(40_000);
    newer.client_next = 999_999_999;
    newer.server_next = 555_555_555;
    assert!(rig.feed(&newer.syn()).is_empty());
    assert!(rig.feed(&newer.server(SYN | ACK, &[])).is_empty());
    let replaced = rig.feed(&newer.client(ACK, &[]));
    assert_eq!(words(&replaced), ["replaced0"]);
    assert!(matches!(&replaced[0], FlowEvent::Close { pair: Some(pair), .. } if pair.client.port == 40_000));
    assert_eq!(words(&rig.feed(&newer.client(ACK, &hello(2)))), ["hello0"]);
    assert_eq!(rig.table.n_tracked(), 0);
}

#[test]
fn two_undecided_connections_on_one_key_keep_apart() {
    let (mut rig, mut real) = (rig(), Talk::new(40_000));
    let mut forged = real.clone();
    forged.client_next = 1_000_000;
    rig.feed(&forged.syn());
    let events = rig.connect(&mut real);
    assert_eq!(words(&events), ["hello0", "acked0", "followed0"]);
    assert_eq!(rig.table.counters().lost(Loss::Superseded), 1);
}

#[test]
fn a_hello_without_syn_is_picked_up_and_said_so() {
    let (mut rig, mut talk) = (rig(), Talk::new(40_000));
    let events = rig.feed_all(&talk.clone().client_pieces(&hello(1), &[3, 40]));
    assert_eq!(words(&events), ["hello0"]);
    assert!(hellos(&events)[0].conn.flags.has(FlowFlags::MIDSTREAM));
    assert_eq!(hellos(&events)[0].conn.syn, None);
    talk.client(ACK, &hello(1));
    let rest = [
        talk.server(ACK, &[2]),
        talk.client(ACK, &[3]),
        talk.client(RST, &[]),
    ];
    assert_eq!(words(&rig.feed_all(&rest)), ["acked0", "followed0", "rst0"]);
}

#[test]
fn a_second_hello_is_a_second_event_of_one_connection() {
    for pieces in [&[][..], &[6], &[7, 100], &[1]] {
        let (mut rig, mut talk) = (rig(), Talk::new(40_000));
        let mut segments = talk.handshake();
        segments.push(talk.client(ACK, &hello(1)));
        segments.push(talk.server(ACK, &[22, 3, 3, 0, 2, 2, 0]));
        let stream = [&[20, 3, 3, 0, 1, 1][..], &records(&hello_message(2), 64)].concat();
        segments.extend(talk.client_pieces(&stream, pieces));
        let events = rig.feed_all(&segments);
        let reported = hellos(&events);
        assert_eq!(reported.len(), 2, "{pieces:?}");
        assert_eq!((reported[0].hello_index, reported[1].hello_index), (0, 1));
        assert_eq!((reported[0].hello.random[0], reported[1].hello.random[0]), (1, 2));
        assert_eq!(reported[0].conn.conn, reported[1].conn.conn);
        rig.feed_all(&[talk.server(ACK, &[9]), talk.client(ACK, &[23, 3, 3])]);
        assert_eq!(
            (
                rig.table.n_opening(),
                rig.table.n_tracked(),
                rig.table.reassembly_bytes()
            ),
            (0, 1, 0)
        );
    }
}

#[test]
fn fast_open_data_count_once() {
    let (mut rig, mut talk) = (rig(), Talk::new(40_000));
    let mut syn = talk.syn();
    syn.payload = hello(1);
    let events = rig.feed_all(&[syn, talk.server(SYN | ACK, &[]), talk.client(ACK, &[])]);
    assert_eq!(words(&events), ["hello0"]);
    // The server did not take the data: they come again.
    assert!(rig.feed(&talk.client(ACK, &hello(1))).is_empty());
    assert_eq!(words(&rig.feed(&talk.server(ACK, &[2]))), ["acked0"]);
}

#[test]
fn overlapping_bytes_that_differ_are_flagged_and_the_first_win() {
    let (mut rig, mut talk) = (rig(), Talk::new(40_000));
    rig.feed_all(&talk.handshake());
    let stream = hello(1);
    let whole = talk.clone().client_pieces(&stream, &[100]);
    let mut conflict = whole[0].clone();
    conflict.payload[20] ^= 0xff;
    let events = rig.feed_all(&[whole[0].clone(), conflict, whole[1].clone()]);
    let reported = hellos(&events)[0];
    assert!(reported.conn.flags.has(FlowFlags::OVERLAP_CONFLICT));
    assert_eq!(reported.hello.random, [1; 32]);
}

#[test]
fn the_accepting_side_may_be_the_tls_client() {
    let (mut rig, mut talk) = (rig(), Talk::new(40_000));
    rig.feed_all(&talk.handshake());
    let events = rig.feed(&talk.server(ACK, &hello(1)));
    assert_eq!(hellos(&events)[0].conn.pair.client.port, 443);
    assert_eq!(hellos(&events)[0].conn.syn, None, "the SYN is the other side's");
}

#[test]
fn other_protocols_leave_nothing_behind() {
    let (mut rig, mut talk) = (rig(), Talk::new(40_000));
    rig.feed_all(&talk.handshake());
    assert!(rig.feed(&talk.client(ACK, b"GET / HTTP/1.1\r\n\r\n")).is_empty());
    assert_eq!(
        (rig.table.n_opening(), rig.table.counters().lost(Loss::NotTls)),
        (0, 1)
    );
}

#[test]
fn a_plain_port_gives_open_and_the_same_life() {
    let settings = FlowSettings {
        plain_ports: vec![80],
        ..FlowSettings::default()
    };
    let (mut rig, mut talk) = (Rig::new(settings), Talk::new(40_000));
    talk.server.1 = 80;
    let mut segments = talk.handshake();
    segments.push(talk.client(ACK, b"GET / HTTP/1.1\r\n\r\n"));
    segments.push(talk.server(ACK, b"HTTP/1.1 200 OK\r\n\r\n"));
    segments.push(talk.client(ACK, b"GET /2 HTTP/1.1\r\n\r\n"));
    segments.push(talk.client(FIN | ACK, &[]));
    segments.push(talk.server(FIN | ACK, &[]));
    assert_eq!(
        words(&rig.feed_all(&segments)),
        ["open", "acked0", "followed0", "fin0"]
    );
}

#[test]
fn a_gap_in_the_capture_does_not_lose_the_end() {
    let (mut rig, mut talk) = (rig(), Talk::new(40_000));
    rig.connect(&mut talk);
    talk.server(ACK, &[1; 10_000]);
    assert!(rig.feed(&talk.client(ACK, &[])).is_empty());
    let end = [talk.client(FIN | ACK, &[]), talk.server(FIN | ACK, &[])];
    assert_eq!(words(&rig.feed_all(&end)), ["fin0"]);
}

#[test]
fn silence_is_let_go_after_the_timeouts() {
    let (mut rig, mut talk) = (rig(), Talk::new(40_000));
    rig.connect(&mut talk);
    rig.feed(&Talk::new(40_001).syn());
    rig.feed_all(&Talk::new(40_002).handshake());
    assert!(rig.pass(29).is_empty());
    assert_eq!(rig.table.n_opening(), 2);
    assert!(rig.pass(60).is_empty());
    assert_eq!(rig.table.n_opening(), 0);
    assert_eq!(rig.table.counters().lost(Loss::HandshakeTimeout), 1);
    assert_eq!(rig.table.counters().lost(Loss::HelloTimeout), 1);
    assert_eq!(words(&rig.pass(3600 + 300)), ["idle0"]);
    assert_eq!(rig.table.next_deadline(), None);
}

#[test]
fn an_unconfirmed_hello_is_tracked_and_may_rise_later() {
    let (mut rig, mut talk) = (rig(), Talk::new(40_000));
    let mut segments = talk.handshake();
    segments.push(talk.client(ACK, &hello(1)));
    assert_eq!(words(&rig.feed_all(&segments)), ["hello0"]);
    rig.pass(20);
    assert_eq!((rig.table.n_opening(), rig.table.n_tracked()), (0, 1));
    let late = [talk.server(ACK, &[2; 10]), talk.client(ACK, &[3; 10])];
    assert_eq!(words(&rig.feed_all(&late)), ["acked0", "followed0"]);
}

#[test]
fn the_same_packets_on_a_second_interface_count_as_another_view() {
    let (mut rig, mut talk) = (rig(), Talk::new(40_000));
    let mut segments = talk.handshake();
    segments.push(talk.client(ACK, &hello(1)));
    let mut events = Vec::new();
    for segment in &segments {
        for interface in [0, 1] {
            rig.interface = interface;
            events.extend(rig.feed(segment));
        }
    }
    assert_eq!(words(&events), ["hello0"]);
    assert_eq!(hellos(&events)[0].conn.flags, FlowFlags::default());
    assert_eq!(rig.table.counters().dropped(FrameDrop::OtherView), 4);
}

#[test]
fn forged_bytes_of_a_hello_are_ignored() {
    let (mut rig, mut talk) = (rig(), Talk::new(40_000));
    rig.feed_all(&talk.handshake());
    let pieces = talk.client_pieces(&hello(1), &[100]);
    // The number is guessed right, what the server sent is not.
    for distance in [2 << 20, 1 << 30, u32::MAX / 2] {
        let mut forged = pieces[1].clone();
        forged.payload.fill(0xee);
        forged.ack = forged.ack.wrapping_add(distance);
        assert!(rig.feed(&forged).is_empty());
    }
    assert_eq!(rig.table.counters().lost(Loss::ForeignData), 3);
    let events = rig.feed_all(&pieces);
    assert_eq!(words(&events), ["hello0"]);
    assert_eq!(hellos(&events)[0].conn.flags, FlowFlags::default());
}

/// A message of `n` bytes: the extension behind the others is a key share of the right length.
fn long_hello(n: usize) -> Vec<u8> {
    let mut message = hello_message(1);
    let n_extension = n - message.len() - 4;
    let add = |at: std::ops::Range<usize>, message: &mut Vec<u8>| {
        let n = u16::from_be_bytes([message[at.start], message[at.start + 1]]);
        let longer = usize::from(n) + n_extension + 4;
        message[at].copy_from_slice(&u16::try_from(longer).unwrap().to_be_bytes());
    };
    add(2..4, &mut message);
    add(49..51, &mut message);
    message.extend([0, 51]);
    message.extend(u16::try_from(n_extension).unwrap().to_be_bytes());
    message.extend(vec![7; n_extension]);
    message
}

#[test]
fn a_hello_longer_than_a_record_is_read_however_it_comes() {
    for n in [16_384, 16_500, 20_000, 32 * 1024] {
        let stream = records(&long_hello(n), 16_384);
        let mut expected = None;
        for (size, reverse) in [(1448, false), (1448, true), (9, false), (65_000, false)] {
            let (mut rig, mut talk) = (rig(), Talk::new(40_000));
            rig.feed_all(&talk.handshake());
            let sizes = vec![size; stream.len() / size];
            let mut pieces = talk.client_pieces(&stream, &sizes);
            if reverse {
                pieces.reverse();
            }
            let events = rig.feed_all(&pieces);
            assert_eq!(words(&events), ["hello0"], "{n} bytes in segments of {size}");
            let hello = &hellos(&events)[0].hello;
            assert_eq!(hello.message_bytes as usize, n);
            assert_eq!(expected.get_or_insert_with(|| hello.clone()), hello);
        }
    }
}

#[test]
fn a_hello_over_the_limit_is_given_up_and_counted() {
    let (mut rig, mut talk) = (rig(), Talk::new(40_000));
    rig.feed_all(&talk.handshake());
    let stream = records(&long_hello(32 * 1024 + 1), 16_384);
    assert!(rig.feed_all(&talk.client_pieces(&stream, &[1448; 30])).is_empty());
    assert_eq!(rig.table.counters().lost(Loss::HelloTooLong), 1);
    assert_eq!((rig.table.n_opening(), rig.table.reassembly_bytes()), (0, 0));
}

#[test]
fn numbers_wrap_inside_the_hello_on_both_sides() {
    for before in [0, 1, 3, 57, 200] {
        let (mut rig, mut talk) = (rig(), Talk::new(40_000));
        talk.client_next = 0_u32.wrapping_sub(before + 1);
        talk.server_next = 0_u32.wrapping_sub(1);
        let mut segments = talk.handshake();
        segments.extend(talk.client_pieces(&hello(1), &[50, 50, 50]));
        segments.swap(3, 5);
        segments.extend([talk.server(ACK, &[2; 9]), talk.client(ACK, &[3])]);
        segments.extend([talk.client(FIN | ACK, &[]), talk.server(FIN | ACK, &[])]);
        let events = rig.feed_all(&segments);
        assert_eq!(
            words(&events),
            ["hello0", "acked0", "followed0", "fin0"],
            "{before}"
        );
    }
}

#[test]
fn a_close_has_the_time_of_its_packet_though_the_clock_is_ahead() {
    let (mut rig, mut talk) = (rig(), Talk::new(40_000));
    rig.connect(&mut talk);
    let real = rig.now;
    // One damaged time stamp, a year ahead.
    rig.now += 365 * 86_400 * common::SECOND;
    rig.feed(&Talk::new(40_001).syn());
    rig.now = real;
    let events = rig.feed(&talk.client(RST, &[]));
    assert!(
        matches!(events[..], [FlowEvent::Close { at, .. }] if at == real + 1_000_000),
        "{events:?}"
    );
}

#[test]
fn timers_run_again_after_the_clock_was_set_back() {
    let (mut rig, mut talk) = (rig(), Talk::new(40_000));
    rig.connect(&mut talk);
    rig.feed(&Talk::new(40_001).syn());
    rig.now -= 30 * 86_400 * common::SECOND;
    for n in 0..1100 {
        rig.feed(&Talk::new(41_000 + n).syn());
    }
    assert_eq!(rig.table.n_opening(), 1101);
    rig.pass(31);
    assert_eq!(rig.table.n_opening(), 0);
    assert_eq!(words(&rig.pass(3600 + 300)), ["idle0"]);
}

/// A bond may spread the directions of a connection over its members.
#[test]
fn each_direction_may_come_on_its_own_interface() {
    for with_copies in [false, true] {
        let (mut rig, mut talk) = (rig(), Talk::new(40_000));
        let mut segments: Vec<(u16, Segment)> = [0, 1, 0].into_iter().zip(talk.handshake()).collect();
        segments.push((0, talk.client(ACK, &hello(1))));
        segments.push((1, talk.server(ACK, &[22, 3, 3, 0, 1, 2])));
        segments.push((0, talk.client(ACK, &[23, 3, 3, 0, 1, 1])));
        segments.push((0, talk.client(FIN | ACK, &[])));
        segments.push((1, talk.server(FIN | ACK, &[])));
        let mut events = Vec::new();
        for (interface, segment) in &segments {
            rig.interface = *interface;
            events.extend(rig.feed(segment));
            if with_copies {
                rig.interface = 1 - *interface;
                events.extend(rig.feed(segment));
            }
        }
        assert_eq!(words(&events), ["hello0", "acked0", "followed0", "fin0"]);
        assert_eq!(hellos(&events)[0].conn.flags, FlowFlags::default());
        // The copy of the last segment finds nothing that is followed.
        let n_copies = if with_copies { segments.len() as u64 - 1 } else { 0 };
        assert_eq!(rig.table.counters().dropped(FrameDrop::OtherView), n_copies);
    }
}

#[test]
fn a_hello_in_single_bytes_is_read_in_any_order() {
    for n in [400, 1900] {
        let stream = records(&long_hello(n), 16_384);
        for order in ["forward", "reverse", "odd first"] {
            let (mut rig, mut talk) = (rig(), Talk::new(40_000));
            rig.feed_all(&talk.handshake());
            let mut pieces = talk.client_pieces(&stream, &vec![1; stream.len()]);
            match order {
                "reverse" => pieces.reverse(),
                "odd first" => pieces.sort_by_key(|piece| piece.seq.wrapping_sub(talk.client_next) % 2),
                _ => {}
            }
            let events = rig.feed_all(&pieces);
            assert_eq!(words(&events), ["hello0"], "{n} bytes, {order}");
            assert_eq!(hellos(&events)[0].hello.message_bytes as usize, n);
            assert_eq!(rig.table.reassembly_bytes(), 0);
        }
    }
}
