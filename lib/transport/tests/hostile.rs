//! Peers that speak nonsense, too much or to the wrong socket: refused or dropped with a reason, one log
//! line that says what to do, and everybody else is served.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking and says what it skips"
)]

mod common;

use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use common::*;
use ja4_model::limits::MAX_MESSAGE_BYTES;
use ja4_transport::{DropReason, IdentityCounters, Receiver, RefuseReason, SocketKind};

/// A user that is not ours.
const NOBODY: u32 = 65_534;

const KINDS: [SocketKind; 2] = [SocketKind::Stream, SocketKind::Seqpacket];

/// Sends `first` as the first frame on both kinds of socket, ten times.
#[track_caller]
fn refuses(first: &[u8], reason: RefuseReason, remedy: &str) {
    for kind in KINDS {
        let dir = tempfile::tempdir().unwrap();
        let receiver = start(vec![listener(dir.path(), kind)]);
        let path = receiver.counters().listeners[0].path.clone();
        for _ in 0..10 {
            let peer = Raw::connect(&path, kind);
            peer.send_frame(first);
            assert_eq!(peer.read_to_end(), b"", "nothing is said to it");
        }
        assert_eq!(
            refused(&receiver, reason),
            10,
            "{kind:?} {:?}",
            receiver.counters()
        );
        let log = log_of(dir.path());
        assert_eq!(log.len(), 1, "{log:?}");
        assert!(
            log[0].contains(remedy) && log[0].len() < 800,
            "{} should say {remedy}",
            log[0]
        );
        serves(&receiver, &path, kind);
        wait_for("the last one has gone", || {
            (receiver.counters().listeners[0].open == 0).then_some(())
        });
        assert_balanced(&receiver);
    }
}

#[test]
fn garbage_is_no_greeting() {
    refuses(
        b"\x00\xff garbage",
        RefuseReason::Greeting,
        "send the greeting first",
    );
    refuses(&frame(1, 0), RefuseReason::Greeting, "send the greeting first");
}

#[test]
fn a_greeting_that_never_ends_is_refused() {
    refuses(&[b'x'; 9000], RefuseReason::Greeting, "send the greeting first");
}

#[test]
fn what_a_greeting_says_cannot_break_the_log() {
    let event = format!(
        "{{\"event\":\"a\\nFAKE LINE {}\",\"versions\":[1],\"source\":\"s\",\"node\":\"n\",\"boot\":\"0000000000000001\"}}",
        "y".repeat(5000)
    );
    refuses(
        event.as_bytes(),
        RefuseReason::Greeting,
        "send the greeting first",
    );
    let versions = b"{\"event\":\"hello\",\"versions\":\"1\\u000aFAKE LINE\"}";
    refuses(versions, RefuseReason::Greeting, "send the greeting first");
}

#[test]
fn an_unknown_version_is_named() {
    let hello = String::from_utf8(hello("sensor", NODE, 1)).unwrap();
    let newer = hello.replace("\"versions\":[1]", "\"versions\":[2,3]");
    assert_ne!(hello, newer);
    refuses(
        newer.as_bytes(),
        RefuseReason::Version,
        "has version 2, only 1 is known): update the older",
    );
}

#[test]
fn an_unknown_source_is_named_with_those_that_are_taken() {
    refuses(
        &hello("apache", NODE, 1),
        RefuseReason::Source,
        "calls itself \"apache\", this socket takes sensor: add it to the sources",
    );
}

#[test]
fn another_host_is_refused() {
    refuses(
        &hello("sensor", "web-2", 1),
        RefuseReason::Node,
        "calls its host \"web-2\", this one is \"web-1\": give both the same host name",
    );
}

#[test]
fn a_user_that_may_not_is_refused_by_what_the_kernel_says() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root can connect as somebody else");
        return;
    }
    for kind in KINDS {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let mut config = listener(dir.path(), kind);
        // The file lets everybody in, so that it is the credentials that keep them out.
        config.mode = 0o666;
        config.uids = vec![0];
        let path = config.path.clone();
        let receiver = start(vec![config]);
        // The kernel keeps the credentials of the thread that connects; only this one changes its own.
        let peer = std::thread::spawn({
            let path = path.clone();
            move || {
                use rustix::thread::{Gid, Uid, set_thread_res_gid, set_thread_res_uid};
                let (uid, gid) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
                set_thread_res_gid(gid, gid, gid).unwrap();
                set_thread_res_uid(uid, uid, uid).unwrap();
                let peer = Raw::connect(&path, kind);
                peer.send_frame(&hello("sensor", NODE, 1));
                peer
            }
        })
        .join()
        .unwrap();
        assert_eq!(peer.read_to_end(), b"");
        assert_eq!(refused(&receiver, RefuseReason::Peer), 1);
        let log = log_of(dir.path());
        assert!(
            log.len() == 1 && log[0].contains("user 65534") && log[0].contains("uids or its group to gids"),
            "{log:?}"
        );
        serves(&receiver, &path, kind);
    }
}

/// Greets, sends frames of which one is bad, and expects the good ones and one reason.
#[track_caller]
fn drops(bad: &[u8], reason: DropReason, remedy: &str) {
    for kind in KINDS {
        let dir = tempfile::tempdir().unwrap();
        let receiver = start(vec![listener(dir.path(), kind)]);
        let path = receiver.counters().listeners[0].path.clone();
        let peer = Raw::connect(&path, kind);
        peer.send_frame(&hello("sensor", NODE, 7));
        for seq in 0..20 {
            assert!(peer.send_frame(bad) && peer.send_frame(&frame(7, seq)));
        }
        let taken = take_frames(&receiver, 20);
        let expected: Vec<_> = (0..20).map(|seq| (ja4_model::BootId(7), seq)).collect();
        assert_eq!(taken, expected);
        assert_eq!(dropped(&receiver, reason), 20, "{:?}", receiver.counters());
        let log = log_of(dir.path());
        assert_eq!(log.len(), 1, "{log:?}");
        assert!(log[0].contains(remedy), "{} should say {remedy}", log[0]);
        assert_balanced(&receiver);
        serves(&receiver, &path, kind);
    }
}

#[test]
fn garbage_after_the_greeting_costs_only_itself() {
    drops(b"\x00garbage}{", DropReason::Malformed, "one JSON object");
}

#[test]
fn an_oversized_frame_costs_only_itself() {
    let mut long = b"{\"x\":\"".to_vec();
    long.resize(MAX_MESSAGE_BYTES + 1, b'x');
    drops(&long, DropReason::TooLong, "cut events to 131072 bytes");
    // Cut to the limit it would be an event: the kernel's length tells.
    let mut padded = frame(7, 1000);
    padded.resize(MAX_MESSAGE_BYTES, b' ');
    padded.extend_from_slice(b" trailing");
    drops(&padded, DropReason::TooLong, "cut events to 131072 bytes");
}

#[test]
fn a_packet_that_would_be_an_event_if_it_were_cut_is_too_long() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = start(vec![seqpacket(dir.path())]);
    let path = dir.path().join("p.sock");
    let peer = Raw::connect(&path, SocketKind::Seqpacket);
    peer.send_frame(&hello("sensor", NODE, 7));
    let mut packet = frame(7, 0);
    packet.resize(MAX_MESSAGE_BYTES, b' ');
    assert!(peer.send_frame(&packet), "the longest is taken");
    packet = frame(7, 1);
    packet.resize(MAX_MESSAGE_BYTES, b' ');
    packet.extend_from_slice(b"\nmore");
    assert!(peer.send_frame(&packet));
    assert!(peer.send_frame(&frame(7, 2)));
    let taken: Vec<u64> = take_frames(&receiver, 2).iter().map(|(_, seq)| *seq).collect();
    assert_eq!(taken, [0, 2]);
    assert_eq!(dropped(&receiver, DropReason::TooLong), 1);
}

#[test]
fn a_process_that_connects_again_takes_its_old_place_and_what_it_repeats_is_known() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = start(vec![stream(dir.path())]);
    let path = dir.path().join("s.sock");
    let first = Raw::connect(&path, SocketKind::Stream);
    first.send_frame(&hello("sensor", NODE, 7));
    assert!(first.send(&lines((0..10).map(|seq| frame(7, seq)))));
    wait_for("they are read", || {
        (receiver.counters().identities.first()?.pending == 10).then_some(())
    });
    let second = Raw::connect(&path, SocketKind::Stream);
    second.send_frame(&hello("sensor", NODE, 7));
    first.read_to_end();
    assert!(second.send(&lines((0..20).map(|seq| frame(7, seq)))));
    let taken: Vec<u64> = take_frames(&receiver, 20).iter().map(|(_, seq)| *seq).collect();
    assert_eq!(taken, (0..20).collect::<Vec<_>>());
    assert_eq!(dropped(&receiver, DropReason::Duplicate), 10);
    assert!(log_of(dir.path()).is_empty(), "nothing is lost, nothing is said");
    let origin = receiver.origins().pop().unwrap();
    assert_eq!((origin.received, origin.lost, origin.connections), (20, 0, 1));
    wait_for("the acknowledgement goes to the new connection", || {
        second.read_now().ends_with(b"{\"ack\":20}\n").then_some(())
    });
    assert_balanced(&receiver);
}

#[test]
fn a_later_version_a_later_kind_a_wrong_role_and_a_false_claim_are_named() {
    let good = String::from_utf8(frame(7, 1000)).unwrap();
    let check = |from: &str, to: &str, reason, remedy| {
        let bad = good.replacen(from, to, 1);
        assert_ne!(good, bad);
        drops(bad.as_bytes(), reason, remedy);
    };
    check("\"v\":1", "\"v\":2", DropReason::Version, "update the older");
    check(
        "\"confirm\"",
        "\"confirmed\"",
        DropReason::UnknownKind,
        "update the receiver",
    );
    check(
        "\"sensor\"",
        "\"apache\"",
        DropReason::Claim,
        "those of the greeting",
    );
    check("web-1", "web-2", DropReason::Claim, "those of the greeting");
    // Its own numbers would be used up by what the role forbids.
    let request = good.replacen("\"confirm\"", "\"request\"", 1);
    let dir = tempfile::tempdir().unwrap();
    let receiver = start(vec![seqpacket(dir.path())]);
    let peer = Raw::connect(&dir.path().join("p.sock"), SocketKind::Seqpacket);
    peer.send_frame(&hello("sensor", NODE, 7));
    peer.send_frame(request.as_bytes());
    wait_for("the request is dropped", || {
        (dropped(&receiver, DropReason::Role) == 1).then_some(())
    });
    assert!(log_of(dir.path())[0].contains("socket of its role"));
    let origin = receiver.origins().pop().unwrap();
    assert_eq!((origin.received, origin.next_seq, origin.lost), (1, 1001, 1000));
}

#[test]
fn half_a_line_is_counted_when_its_peer_goes() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = start(vec![stream(dir.path())]);
    let path = dir.path().join("s.sock");
    let peer = Raw::connect(&path, SocketKind::Stream);
    peer.send_frame(&hello("sensor", NODE, 7));
    peer.send_frame(&frame(7, 0));
    peer.send(b"{\"v\":1,\"event\":\"conf");
    drop(peer);
    wait_for("the connection ends", || {
        let identities = receiver.counters().identities;
        (identities.first()?.unfinished == 1).then_some(())
    });
    assert_eq!(take_frames(&receiver, 1).len(), 1);
    assert_balanced(&receiver);
    serves(&receiver, &path, SocketKind::Stream);
}

#[test]
fn half_lines_of_many_connections_have_a_limit() {
    const PEERS: u64 = 60;
    let dir = tempfile::tempdir().unwrap();
    let mut config = stream(dir.path());
    config.quotas.queue_bytes = 1;
    let path = config.path.clone();
    let receiver = start(vec![config]);
    let half = vec![b'x'; 100_000];
    let peers: Vec<Raw> = (0..PEERS)
        .map(|n| {
            let peer = Raw::connect(&path, SocketKind::Stream);
            peer.send_frame(&hello("sensor", NODE, n));
            peer.send(&half);
            peer
        })
        .collect();
    // The consumer must take the notices of connections, or nothing is read.
    wait_for("most are closed", || {
        receiver.next(Duration::from_millis(1));
        (refused(&receiver, RefuseReason::HalfFrames) > PEERS / 2).then_some(())
    });
    assert!(log_of(dir.path())[0].contains("half_frames"));
    assert!(receiver.counters().listeners[0].open >= 1, "the first ones stay");
    drop(peers);
    wait_for("all have gone", || {
        receiver.next(Duration::from_millis(1));
        (receiver.counters().listeners[0].open == 0).then_some(())
    });
    serves(&receiver, &path, SocketKind::Stream);
}

#[test]
fn a_producer_that_sends_and_goes_without_listening_loses_nothing() {
    for default_source in [None, Some("sensor".to_owned())] {
        let dir = tempfile::tempdir().unwrap();
        let mut config = stream(dir.path());
        let greets = default_source.is_none();
        config.default_source = default_source;
        let path = config.path.clone();
        let receiver = start(vec![config]);
        for boot in 0..50 {
            let peer = Raw::connect(&path, SocketKind::Stream);
            let first = if greets {
                hello("sensor", NODE, boot)
            } else {
                Vec::new()
            };
            let plain = b"{\"v\":1,\"event\":\"close\",\"ts_ns\":1}".to_vec();
            let frames = (0..20).map(|seq| if greets { frame(boot, seq) } else { plain.clone() });
            assert!(peer.send(&lines(std::iter::once(first).chain(frames))));
            // Unread replies make its end a reset.
            drop(peer);
        }
        assert_eq!(take_frames(&receiver, 1000).len(), 1000);
        assert_balanced(&receiver);
    }
}

#[test]
fn where_greetings_are_optional_both_kinds_of_producers_are_understood() {
    for kind in KINDS {
        let dir = tempfile::tempdir().unwrap();
        let mut config = listener(dir.path(), kind);
        config.sources.push("nginx".to_owned());
        config.default_source = Some("nginx".to_owned());
        let path = config.path.clone();
        let receiver = start(vec![config]);
        let plain = Raw::connect(&path, kind);
        for _ in 0..3 {
            plain.send_frame(b"{\"v\":1,\"event\":\"close\",\"ts_ns\":1}");
        }
        let numbers = take_frames(&receiver, 3);
        assert_eq!(numbers.iter().map(|(_, seq)| *seq).collect::<Vec<_>>(), [0, 1, 2]);
        serves(&receiver, &path, kind);
        let sources: Vec<_> = receiver
            .counters()
            .identities
            .iter()
            .map(|i| i.source.to_string())
            .collect();
        assert_eq!(sources, ["nginx", "sensor"]);
        assert_eq!(
            receiver
                .counters()
                .identities
                .iter()
                .map(IdentityCounters::dropped_total)
                .sum::<u64>(),
            0
        );
    }
}

#[test]
fn names_made_up_by_one_user_do_not_use_up_the_table() {
    let dir = tempfile::tempdir().unwrap();
    let (mut any, known) = (stream(dir.path()), seqpacket(dir.path()));
    any.sources = Vec::new();
    let (any_path, known_path) = (any.path.clone(), known.path.clone());
    let receiver = start(vec![any, known]);
    let peers: Vec<Raw> = (0..100)
        .map(|n| {
            let peer = Raw::connect(&any_path, SocketKind::Stream);
            peer.send_frame(&hello(&format!("name-{n}"), NODE, n));
            peer
        })
        .collect();
    wait_for("the rest is refused", || {
        (refused(&receiver, RefuseReason::Origins) == 68).then_some(())
    });
    serves(&receiver, &known_path, SocketKind::Seqpacket);
    drop(peers);
}

#[test]
fn connections_of_one_user_and_notices_of_them_have_a_limit() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = stream(dir.path());
    config.quotas.connections_per_uid = 3;
    config.quotas.queue_bytes = 1000;
    let path = config.path.clone();
    let receiver = start(vec![config]);
    let held: Vec<Raw> = (0..3).map(|_| Raw::connect(&path, SocketKind::Stream)).collect();
    assert_eq!(Raw::connect(&path, SocketKind::Stream).read_to_end(), b"");
    assert_eq!(refused(&receiver, RefuseReason::Connections), 1);
    drop(held);
    // The same process comes and goes while nobody takes the notices.
    wait_for("the notices reach their limit", || {
        let peer = Raw::connect(&path, SocketKind::Stream);
        peer.send_frame(&hello("sensor", NODE, 1));
        (refused(&receiver, RefuseReason::QueueFull) > 0).then_some(())
    });
    let queue_bytes = receiver.counters().identities[0].queue_bytes;
    assert!(queue_bytes < 100_000, "{queue_bytes}");
    serves_after_draining(&receiver, &path);
}

fn serves_after_draining(receiver: &Receiver, path: &std::path::Path) {
    while receiver.next(Duration::from_millis(100)).is_some() {}
    wait_for("the last ones have gone", || {
        (receiver.counters().listeners[0].open == 0).then_some(())
    });
    serves(receiver, path, SocketKind::Stream);
}
