//! The sockets' files at the start, and what an orderly end keeps.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking and says what it skips"
)]

mod common;

use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use common::*;
use ja4_transport::{Input, Receiver, SocketKind, StartError};

const KINDS: [SocketKind; 2] = [SocketKind::Stream, SocketKind::Seqpacket];

/// Set for the process that holds the sockets of a folder until it is killed.
const HOLD: &str = "JA4_TEST_HOLD_SOCKETS";

#[test]
fn helper_that_holds_sockets() {
    let Some(dir) = helper_of(HOLD) else { return };
    let receiver = start(vec![stream(&dir), seqpacket(&dir)]);
    loop {
        receiver.next(DEADLINE);
    }
}

fn mode_of(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().mode() & 0o7777
}

#[test]
fn the_file_of_a_killed_process_is_replaced_and_that_of_a_living_one_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let holder = Process::start(&mut this_test_as_a_process(
        "helper_that_holds_sockets",
        HOLD,
        dir.path(),
    ));
    let paths = [dir.path().join("s.sock"), dir.path().join("p.sock")];
    wait_for("the other process has made both", || {
        paths.iter().all(|path| path.exists()).then_some(())
    });
    for (path, kind) in paths.iter().zip(KINDS) {
        let error = Receiver::start(config(vec![listener(dir.path(), kind)])).unwrap_err();
        assert!(matches!(error, StartError::InUse(_)), "{error}");
        let line = error.to_string();
        assert!(
            line.contains(&path.display().to_string())
                && line.contains("stop that process or set another path"),
            "{line}"
        );
    }
    // A living socket of the other type is just as alive.
    let mut other = stream(dir.path());
    other.path.clone_from(&paths[1]);
    assert!(matches!(
        Receiver::start(config(vec![other])),
        Err(StartError::InUse(_))
    ));
    drop(holder);
    assert!(paths.iter().all(|path| path.exists()), "kill -9 leaves the files");
    // Also if it was of another type before.
    std::fs::rename(&paths[0], dir.path().join("t")).unwrap();
    std::fs::rename(&paths[1], &paths[0]).unwrap();
    std::fs::rename(dir.path().join("t"), &paths[1]).unwrap();
    let receiver = start(vec![stream(dir.path()), seqpacket(dir.path())]);
    for (path, kind) in paths.iter().zip(KINDS) {
        serves(&receiver, path, kind);
    }
    receiver.shutdown();
    assert!(
        paths.iter().all(|path| !path.exists()),
        "an orderly end removes them"
    );
}

#[test]
fn a_peer_that_the_receiver_cannot_see_among_its_processes_is_served() {
    let dir = tempfile::tempdir().unwrap();
    let alone = ["--pid", "--fork", "--kill-child"];
    if !std::process::Command::new("unshare")
        .args(alone)
        .arg("true")
        .status()
        .is_ok_and(|status| status.success())
    {
        println!("skipped: this user may not make a PID namespace (needs unshare and SYS_ADMIN)");
        return;
    }
    let helper = this_test_as_a_process("helper_that_holds_sockets", HOLD, dir.path());
    let mut holder = std::process::Command::new("unshare");
    holder
        .args(alone)
        .arg(helper.get_program())
        .args(helper.get_args())
        .env(HOLD, dir.path());
    let _holder = Process::start(holder.stdout(std::process::Stdio::null()));
    let path = dir.path().join("s.sock");
    let peer = wait_for("it serves", || Raw::try_connect(&path, SocketKind::Stream).ok());
    peer.send_frame(&hello("sensor", NODE, 1));
    let mut said = Vec::new();
    wait_for("it is welcome", || {
        said.extend(peer.read_now());
        said.starts_with(b"{\"welcome\":1,").then_some(())
    });
}

#[test]
fn a_receiver_without_descriptors_waits_until_others_are_closed() {
    let dir = tempfile::tempdir().unwrap();
    let helper = this_test_as_a_process("helper_that_holds_sockets", HOLD, dir.path());
    let mut holder = std::process::Command::new("sh");
    holder
        .args(["-c", "ulimit -n 40; exec \"$0\" \"$@\""])
        .arg(helper.get_program())
        .args(helper.get_args());
    let mut holder = Process::start(holder.env(HOLD, dir.path()).stdout(std::process::Stdio::null()));
    let path = dir.path().join("s.sock");
    let first = wait_for("it serves", || Raw::try_connect(&path, SocketKind::Stream).ok());
    let mut peers: Vec<Raw> = (0..100)
        .map(|_| Raw::connect(&path, SocketKind::Stream))
        .collect();
    peers.push(first);
    let late = Raw::connect(&path, SocketKind::Stream);
    late.send_frame(&hello("sensor", NODE, 1));
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(late.read_now(), b"", "it waits its turn");
    drop(peers);
    let mut said = Vec::new();
    wait_for("it is welcome", || {
        said.extend(late.read_now());
        said.starts_with(b"{\"welcome\":1,").then_some(())
    });
    assert!(holder.is_running());
}

#[test]
fn a_file_that_is_no_socket_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let config_of = stream(dir.path());
    std::fs::write(&config_of.path, b"precious").unwrap();
    let error = Receiver::start(config(vec![config_of.clone()])).unwrap_err();
    assert!(
        error.to_string().contains("remove it or set another path"),
        "{error}"
    );
    assert_eq!(std::fs::read(&config_of.path).unwrap(), b"precious");
    std::fs::remove_file(&config_of.path).unwrap();
    std::os::unix::fs::symlink("/nowhere", &config_of.path).unwrap();
    assert!(matches!(
        Receiver::start(config(vec![config_of])),
        Err(StartError::NotASocket(_))
    ));
}

#[test]
fn paths_that_cannot_be_used_are_named_with_the_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let mut too_long = stream(dir.path());
    too_long.path = dir.path().join("x".repeat(100));
    let error = Receiver::start(config(vec![seqpacket(dir.path()), too_long])).unwrap_err();
    let line = error.to_string();
    assert!(
        line.contains("103 bytes at most") && line.contains("set another path"),
        "{line}"
    );
    assert!(
        !dir.path().join("p.sock").exists(),
        "the first socket goes when the second fails"
    );
    let mut nested = stream(dir.path());
    nested.path = dir.path().join("no/such/dir/s.sock");
    let line = Receiver::start(config(vec![nested])).unwrap_err().to_string();
    assert!(line.contains("make its directory"), "{line}");
}

#[test]
fn nothing_is_open_wider_than_configured_whatever_the_umask() {
    let old = rustix::process::umask(rustix::fs::Mode::empty());
    let check = |mode, dir_mode| {
        let dir = tempfile::tempdir().unwrap();
        let made = dir.path().join("made");
        let mut listeners = vec![stream(&made), seqpacket(&made)];
        for listener in &mut listeners {
            listener.mode = mode;
            listener.dir_mode = dir_mode;
        }
        let receiver = start(listeners);
        assert_eq!(mode_of(&made), dir_mode);
        for name in ["s.sock", "p.sock"] {
            let meta = std::fs::symlink_metadata(made.join(name)).unwrap();
            assert!(meta.file_type().is_socket());
            assert_eq!(meta.mode() & 0o7777, mode);
        }
        assert_eq!(
            std::fs::read_dir(&made).unwrap().count(),
            2,
            "nothing else is left there"
        );
        receiver.shutdown();
    };
    check(0o660, 0o750);
    check(0o600, 0o700);
    check(0o666, 0o755);
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    check(0o660, 0o750);
    rustix::process::umask(old);
    // A directory that is there is its owner's business.
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
    let _receiver = start(vec![stream(dir.path())]);
    assert_eq!(mode_of(dir.path()), 0o711);
}

/// Takes all that comes after `stop_reading` and gives the numbers.
fn drain(receiver: &Receiver) -> Vec<u64> {
    let mut numbers = Vec::new();
    wait_for("reading has stopped and all is taken", || {
        match receiver.next(Duration::from_millis(20)) {
            Some(Input::Batch(batch)) => numbers.extend(batch.frames().map(|frame| number_of(frame.bytes))),
            Some(_) => {}
            None => return receiver.reading_has_stopped().then_some(()),
        }
        None
    });
    assert!(receiver.next(Duration::ZERO).is_none());
    numbers
}

#[test]
fn a_stop_takes_all_that_seqpacket_peers_have_sent_even_if_it_was_never_accepted() {
    const PEERS: u64 = 50;
    const EVENTS: u64 = 100;
    let dir = tempfile::tempdir().unwrap();
    let mut listener = seqpacket(dir.path());
    // Less than what waits: it stays in the kernel until the consumer has taken what was before.
    listener.quotas.queue_bytes = 20_000;
    let path = listener.path.clone();
    let mut config = config(vec![listener]);
    // The receiver's thread stands still in its first look at the clock while all the rest happens.
    let gate = Arc::new((Mutex::new(false), Condvar::new()));
    let waits = Arc::clone(&gate);
    config.clock = Arc::new(move || {
        let open = waits.0.lock().unwrap();
        drop(waits.1.wait_while(open, |open| !*open).unwrap());
        1
    });
    let receiver = Receiver::start(config).unwrap();
    let first = Raw::connect(&path, SocketKind::Seqpacket);
    first.send_frame(&hello("sensor", NODE, 1_000_000));
    wait_for("it is accepted", || {
        (receiver.counters().listeners[0].accepted == 1).then_some(())
    });
    let peers: Vec<Raw> = (0..PEERS)
        .map(|_| Raw::connect(&path, SocketKind::Seqpacket))
        .collect();
    for (boot, peer) in (0..).zip(&peers) {
        peer.send_frame(&hello("sensor", NODE, boot));
        for seq in 0..EVENTS {
            assert!(peer.send_frame(&frame(boot, boot * 1000 + seq)));
        }
    }
    receiver.stop_reading();
    assert_eq!(
        receiver.counters().listeners[0].accepted,
        1,
        "the others wait in the backlog"
    );
    *gate.0.lock().unwrap() = true;
    gate.1.notify_all();
    let mut taken = drain(&receiver);
    taken.sort_unstable();
    let sent: Vec<u64> = (0..PEERS)
        .flat_map(|boot| (0..EVENTS).map(move |seq| boot * 1000 + seq))
        .collect();
    assert!(taken == sent, "{} of {}", taken.len(), sent.len());
    assert!(!peers[0].send_frame(b"{}"), "who sends now is told");
    assert!(
        Raw::try_connect(&path, SocketKind::Seqpacket).is_err(),
        "nobody can connect any more"
    );
    assert_eq!(receiver.counters().identities[0].dropped_total(), 0);
    assert_balanced(&receiver);
}

#[test]
fn restarts_in_good_order_lose_nothing_of_a_seqpacket_producer() {
    const RESTARTS: u64 = 5;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("p.sock");
    let over = AtomicBool::new(false);
    let mut taken = Vec::new();
    let counters = std::thread::scope(|scope| {
        let _over = Over(&over);
        let producer = scope.spawn(|| {
            let emitter = emitter(&path, SocketKind::Seqpacket, 1);
            let mut n = 0;
            while !over.load(Ordering::Relaxed) {
                for _ in 0..50 {
                    emitter.send(1, &event(n));
                    n += 1;
                }
                // Slow enough that its buffer holds what comes until it has connected again.
                std::thread::sleep(Duration::from_millis(5));
            }
            emitter.stop(DEADLINE).counters
        });
        for round in 0..=RESTARTS {
            let receiver = start(vec![seqpacket(dir.path())]);
            let mut before = 0;
            wait_for("some events come", || {
                if let Some(Input::Batch(batch)) = receiver.next(Duration::from_millis(20)) {
                    let events = batch
                        .frames()
                        .filter(|frame| frame.kind != ja4_model::EventKind::Status);
                    let numbers: Vec<u64> = events.map(|frame| number_of(frame.bytes)).collect();
                    before += numbers.len();
                    taken.extend(numbers);
                    if round == RESTARTS && before > 500 {
                        over.store(true, Ordering::Relaxed);
                    }
                }
                (before > 500 && (round < RESTARTS || producer.is_finished())).then_some(())
            });
            receiver.stop_reading();
            let mut rest = |receiver: &Receiver| {
                while let Some(input) = receiver.next(Duration::from_millis(20)) {
                    if let Input::Batch(batch) = input {
                        let events = batch
                            .frames()
                            .filter(|frame| frame.kind != ja4_model::EventKind::Status);
                        taken.extend(events.map(|frame| number_of(frame.bytes)));
                    }
                }
            };
            wait_for("reading has stopped", || {
                rest(&receiver);
                receiver.reading_has_stopped().then_some(())
            });
            rest(&receiver);
            assert_balanced(&receiver);
            receiver.shutdown();
        }
        producer.join().unwrap()
    });
    assert_eq!(
        (counters.sent, counters.dropped_total()),
        (counters.next_seq, 0),
        "{counters:?}"
    );
    assert!(counters.connects > RESTARTS, "{counters:?}");
    let expected: Vec<u64> = (0..counters.next_seq).collect();
    assert_eq!(taken.len(), expected.len());
    assert!(taken == expected, "in order, each once");
}

#[test]
fn a_stop_leaves_unread_stream_events_with_their_producer_and_says_the_last_acknowledgement() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.sock");
    let receiver = start(vec![stream(dir.path())]);
    let emitter = emitter(&path, SocketKind::Stream, 1);
    for n in 0..100 {
        emitter.send(1, &event(n));
    }
    wait_for("all are read", || {
        (receiver.counters().identities.first()?.pending == 100).then_some(())
    });
    receiver.stop_reading();
    wait_for("reading stops", || receiver.reading_has_stopped().then_some(()));
    for n in 100..150 {
        emitter.send(1, &event(n));
    }
    let mut origin = None;
    let mut taken = 0;
    while let Some(input) = receiver.next(Duration::from_millis(20)) {
        if let Input::Batch(batch) = input {
            taken += batch.len();
            origin = Some(batch.peer.origin);
        }
    }
    assert_eq!(taken, 100);
    receiver.ack(origin.unwrap(), 100);
    receiver.shutdown();
    wait_for("the last acknowledgement arrives", || {
        (emitter.counters().acked == 100).then_some(())
    });
    // The next process gets exactly the rest.
    let mut next = config(vec![stream(dir.path())]);
    next.next_unsettled = Arc::new(|_, _, _| 100);
    let receiver = Receiver::start(next).unwrap();
    let numbers: Vec<u64> = take_frames(&receiver, 50).iter().map(|(_, seq)| *seq).collect();
    assert_eq!(numbers, (100..150).collect::<Vec<_>>());
    let report = emitter.stop(DEADLINE);
    assert_eq!(
        (report.counters.acked, report.unacknowledged),
        (150, 0),
        "{report:?}"
    );
}
