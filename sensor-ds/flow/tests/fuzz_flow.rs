//! Hostile input through the whole table: no panic, budgets kept, every frame accounted for; and the same
//! hello however its bytes arrive.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::time::Duration;

use common::{ACK, FIN, RST, Rig, SYN, Segment, Talk, hello, hello_message, hellos, records};
use sensor_flow::{FlowSettings, FrameDrop, Loss};

const TEST_TIME: Duration = Duration::from_secs(10);

fn small_budgets() -> FlowSettings {
    FlowSettings {
        n_opening_max: 8,
        reassembly_bytes_max: 4096,
        n_tracked_max: 8,
        ..FlowSettings::default()
    }
}

/// What must hold after any input.
fn check_accounts(rig: &Rig) {
    let counters = rig.table.counters();
    let dropped: u64 = FrameDrop::ALL
        .iter()
        .map(|reason| counters.dropped(*reason))
        .sum();
    assert_eq!(
        counters.frames,
        counters.frames_tracked + counters.frames_untracked + dropped
    );
    let lost: u64 = Loss::ALL
        .iter()
        .filter(|reason| reason.ends_connection())
        .map(|reason| counters.lost(*reason))
        .sum();
    let n_unreported = rig.table.n_unreported();
    assert_eq!(counters.opened, counters.reported + lost + n_unreported as u64);
    let n_followed = rig.table.n_opening() - n_unreported + rig.table.n_tracked();
    assert_eq!(counters.reported, counters.closed + n_followed as u64);
    assert!(rig.table.n_opening() <= 8 && rig.table.n_tracked() <= 8);
    assert!(
        rig.table.reassembly_bytes() <= 4096 + 512,
        "{}",
        rig.table.reassembly_bytes()
    );
}

#[test]
fn fuzz_frames() {
    bolero::check!()
        .with_test_time(TEST_TIME)
        .with_type::<Vec<Vec<u8>>>()
        .for_each(|frames| {
            let mut rig = Rig::new(small_budgets());
            for frame in frames {
                rig.feed_bytes(frame);
                rig.feed_bytes(&[&[2; 12][..], &[8, 0, 0x45], frame].concat());
            }
            rig.pass(10_000);
            check_accounts(&rig);
        });
}

/// A segment chosen by a few bytes: near the right numbers more often than not.
fn segment_of(talk: &mut Talk, [kind, a, b, c]: [u8; 4]) -> Segment {
    let stream = [hello(a), vec![20, 3, 3, 0, 1, 1], hello(b), vec![23, 3, 3, 0, 9]].concat();
    let at = usize::from(a) * usize::from(b) % stream.len();
    let piece = &stream[at..(at + usize::from(c)).min(stream.len())];
    let mut segment = match kind % 12 {
        0 => talk.syn(),
        1 => talk.server(SYN | ACK, &[]),
        2 => talk.client(ACK, &[]),
        3 => talk.client(ACK, &stream[..usize::from(c) % stream.len()]),
        4 => talk.client(ACK, &hello(a)),
        5 => talk.server(ACK, piece),
        6 => talk.client(FIN | ACK, &[]),
        7 => talk.server(FIN | ACK, &[]),
        8 => talk.client(RST, &[]),
        9 => talk.server(RST | ACK, &[]),
        10 => talk.client(a, piece),
        _ => talk.clone().client(ACK, piece),
    };
    if kind > 128 {
        segment.seq = segment.seq.wrapping_add(u32::from(b)).wrapping_sub(u32::from(c));
    }
    segment
}

#[test]
fn fuzz_conversations() {
    bolero::check!()
        .with_test_time(TEST_TIME)
        .with_type::<Vec<[u8; 5]>>()
        .for_each(|steps| {
            let mut rig = Rig::new(small_budgets());
            let mut talks: Vec<Talk> = (0..4).map(|n| Talk::new(40_000 + n % 3)).collect();
            talks[3].client_next = 1_000_000;
            for &[who, kind, a, b, c] in steps {
                let segment = segment_of(&mut talks[usize::from(who % 4)], [kind, a, b, c]);
                rig.interface = u16::from(who > 250);
                rig.feed(&segment);
                if who == 200 {
                    rig.pass(i64::from(a));
                }
                check_accounts(&rig);
            }
            rig.pass(10_000);
            assert_eq!(
                (
                    rig.table.n_opening(),
                    rig.table.n_tracked(),
                    rig.table.reassembly_bytes()
                ),
                (0, 0, 0)
            );
        });
}

#[test]
fn fuzz_flipped_bits() {
    let mut talk = Talk::new(40_000);
    let mut segments = talk.handshake();
    segments.extend(talk.client_pieces(&records(&hello_message(3), 50), &[3, 40, 100]));
    segments.extend([
        talk.server(ACK, &[1]),
        talk.client(ACK, &[1]),
        talk.client(FIN | ACK, &[]),
    ]);
    let frames: Vec<Vec<u8>> = segments.iter().map(Segment::frame).collect();
    bolero::check!()
        .with_test_time(TEST_TIME)
        .with_type::<Vec<(u8, u16, u8)>>()
        .for_each(|flips| {
            let mut frames = frames.clone();
            for (which, at, bit) in flips {
                let frame = &mut frames[usize::from(*which) % segments.len()];
                let at = usize::from(*at) % frame.len();
                if bit % 9 == 8 {
                    frame.truncate(at.max(1));
                } else {
                    frame[at] ^= 1 << (bit % 8);
                }
            }
            let mut rig = Rig::new(small_budgets());
            for frame in &frames {
                rig.feed_bytes(frame);
            }
            check_accounts(&rig);
        });
}

/// Cuts, swaps, record size, whether the SYN is seen.
type Input = (Vec<u8>, Vec<(u8, u8)>, u8, bool);

/// Cuts the hello anywhere, repeats and shuffles the pieces: the fingerprint stays, and no proper part of
/// the bytes gives one.
#[test]
fn prop_order_and_cuts_do_not_change_the_hello() {
    let expected = {
        let (mut rig, mut talk) = (Rig::new(FlowSettings::default()), Talk::new(40_000));
        rig.feed_all(&talk.handshake());
        let events = rig.feed(&talk.client(ACK, &hello(5)));
        hellos(&events)[0].hello.clone()
    };
    bolero::check!()
        .with_test_time(TEST_TIME)
        .with_type::<Input>()
        .for_each(|(cuts, swaps, record, has_syn)| {
            let stream = records(&hello_message(5), usize::from(*record).max(1));
            let (mut rig, mut talk) = (Rig::new(FlowSettings::default()), Talk::new(40_000));
            let handshake = talk.handshake();
            // Without the SYN the start of the stream is only known from its first segment, three bytes or more.
            let first = if *has_syn {
                vec![]
            } else {
                vec![3 + usize::from(*record)]
            };
            let cuts: Vec<usize> = first
                .iter()
                .copied()
                .chain(cuts.iter().take(60).map(|n| usize::from(*n) + 1))
                .collect();
            let mut pieces = talk.client_pieces(&stream, &cuts);
            let n = pieces.len();
            let start = usize::from(!has_syn);
            for (from, to) in swaps.iter().take(100) {
                let (from, to) = (usize::from(*from) % n, usize::from(*to) % n);
                if from >= start && to >= start {
                    pieces.swap(from, to);
                }
                if from % 3 == 0 {
                    pieces.push(pieces[from].clone());
                }
            }
            if *has_syn {
                rig.feed_all(&handshake);
            }
            // Leave one piece out: the bytes are not whole.
            let missing = pieces
                .iter()
                .rposition(|piece| !piece.payload.is_empty())
                .unwrap();
            let left_out = pieces[missing].clone();
            let others: Vec<Segment> = pieces
                .iter()
                .filter(|piece| piece.seq != left_out.seq)
                .cloned()
                .collect();
            let early = rig.feed_all(&others);
            assert!(hellos(&early).is_empty(), "a part of the bytes gave a hello");
            if !has_syn && others.is_empty() {
                return;
            }
            if !has_syn && left_out.seq == pieces[0].seq {
                return;
            }
            let mut events = rig.feed(&left_out);
            events.extend(rig.feed_all(&pieces));
            assert_eq!(hellos(&events).len(), 1, "pieces {n}");
            assert_eq!(hellos(&events)[0].hello, expected);
        });
}
