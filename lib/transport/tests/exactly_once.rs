//! The receiver is killed, again and again, while a producer sends: what was acknowledged is on disk once,
//! what comes again is known by its number, and the producer's counts balance.
//!
//! The process that is killed writes a journal: a line for each event, synced before it acknowledges.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking and says what it measured"
)]

mod common;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::*;
use ja4_emit::StopReport;
use ja4_model::{BootId, Event, EventKind};
use ja4_transport::{AckWindow, Input, OriginId, Receiver, SocketKind};

/// Set for the process that receives; says its folder.
const RECEIVE: &str = "JA4_TEST_RECEIVE";

/// How many times it is killed in `cargo test`; `JA4_SOAK_KILLS` sets another number.
const KILLS: u64 = 10;

/// The marks of the receiving process are that many events old, as those of a process that seals batches are.
const MARKS_AGE: u64 = 50;

const BOOT: BootId = BootId(0xb007);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Line {
    /// An event with its number and what it says about itself.
    Event(u64, u64),
    /// One that is in the journal already.
    Again(u64),
    /// The producer's next number, what it dropped, and whether it is its last word.
    Status(u64, u64, bool),
}

fn parse(line: &str) -> Option<Line> {
    let mut words = line.split(' ');
    let number = |words: &mut std::str::Split<'_, char>| words.next()?.parse::<u64>().ok();
    match words.next()? {
        "E" => Some(Line::Event(number(&mut words)?, number(&mut words)?)),
        "A" => Some(Line::Again(number(&mut words)?)),
        "S" => Some(Line::Status(
            number(&mut words)?,
            number(&mut words)?,
            number(&mut words)? == 1,
        )),
        _ => None,
    }
}

/// The whole lines of a journal, and their length; kill -9 may cut the last one.
fn journal(path: &Path) -> (Vec<Line>, usize) {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let whole = text.rfind('\n').map_or(0, |end| end + 1);
    let lines = text[..whole]
        .lines()
        .map(|line| parse(line).unwrap_or_else(|| panic!("{line}")));
    (lines.collect(), whole)
}

fn journal_path(dir: &Path) -> PathBuf {
    dir.join("journal")
}

#[test]
fn helper_that_receives() {
    let Some(dir) = helper_of(RECEIVE) else { return };
    let (lines, whole) = journal(&journal_path(&dir));
    let mut known: HashSet<u64> = HashSet::new();
    for line in lines {
        if let Line::Event(seq, _) = line {
            known.insert(seq);
        }
    }
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(journal_path(&dir))
        .unwrap();
    file.set_len(whole as u64).unwrap();
    std::io::Seek::seek(&mut file, std::io::SeekFrom::End(0)).unwrap();
    let marks = known
        .iter()
        .max()
        .map_or(0, |newest| (newest + 1).saturating_sub(MARKS_AGE));
    let mut config = config(vec![stream(&dir), seqpacket(&dir)]);
    config.next_unsettled = Arc::new(move |_, _, boot| if boot == BOOT { marks } else { 0 });
    receive(&Receiver::start(config).unwrap(), &mut file, &mut known);
}

fn receive(receiver: &Receiver, file: &mut File, known: &mut HashSet<u64>) {
    let mut windows: HashMap<OriginId, AckWindow> = HashMap::new();
    // Acknowledgements lag behind by a batch, so that a kill finds settled events that are not acknowledged.
    let mut late: Option<(OriginId, u64)> = None;
    loop {
        let batch = match receiver.next(Duration::from_millis(5)) {
            Some(Input::Batch(batch)) => batch,
            Some(_) => continue,
            None => {
                if let Some((origin, ack)) = late.take() {
                    receiver.ack(origin, ack);
                }
                continue;
            }
        };
        let window = windows
            .entry(batch.peer.origin)
            .or_insert_with(|| AckWindow::new(batch.peer.base));
        let mut text = Vec::new();
        for frame in batch.frames() {
            let seq = frame.id.seq;
            if frame.kind == EventKind::Status {
                let Event::Status(status) = ja4_model::decode::event(frame.bytes).unwrap().1 else {
                    unreachable!("the kind was looked at")
                };
                let dropped: u64 = status.dropped.iter().map(|(_, n)| n).sum();
                writeln!(text, "S {} {dropped} {}", status.next_seq, u8::from(status.last)).unwrap();
                continue;
            }
            if known.insert(seq) {
                writeln!(text, "E {seq} {}", number_of(frame.bytes)).unwrap();
            } else {
                writeln!(text, "A {seq}").unwrap();
            }
            window.received(seq);
        }
        file.write_all(&text).unwrap();
        file.sync_data().unwrap();
        if let Some((origin, ack)) = late.take() {
            receiver.ack(origin, ack);
        }
        for frame in batch.frames() {
            window.settled(frame.id.seq);
        }
        late = Some((batch.peer.origin, window.ack()));
    }
}

fn wanted_kills() -> u64 {
    std::env::var("JA4_SOAK_KILLS").map_or(KILLS, |n| n.parse().expect("JA4_SOAK_KILLS is a number"))
}

/// Lets a producer send while the receiver is killed; gives what the producer says and the journal.
fn kill_in_a_loop(kind: SocketKind) -> (StopReport, Vec<Line>) {
    let dir = tempfile::tempdir().unwrap();
    let path = listener(dir.path(), kind).path;
    let journal_file = journal_path(dir.path());
    let start = || {
        Process::start(&mut this_test_as_a_process(
            "helper_that_receives",
            RECEIVE,
            dir.path(),
        ))
    };
    let journal_len = || std::fs::metadata(&journal_file).map_or(0, |meta| meta.len());
    let over = AtomicBool::new(false);
    let emitter = emitter(&path, kind, BOOT.0);
    let mut receiver = None;
    std::thread::scope(|scope| {
        let _over = Over(&over);
        scope.spawn(|| {
            let mut n = 0;
            while !over.load(Ordering::Relaxed) {
                for _ in 0..30 {
                    assert_eq!(emitter.send(1, &event(n)).seq(), n);
                    n += 1;
                }
                // Not more than its buffer holds until it has connected again, so that nothing need be dropped.
                std::thread::sleep(Duration::from_millis(5));
                while emitter.counters().buffered_bytes > 4 << 20 && !over.load(Ordering::Relaxed) {
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
        });
        for round in 0..wanted_kills() {
            let process = start();
            let before = journal_len();
            wait_for("the receiver records", || (journal_len() > before).then_some(()));
            // A different moment each time: at once, in the middle of a batch, between two.
            std::thread::sleep(Duration::from_micros(round * 7919 % 20_000));
            drop(process);
        }
        receiver = Some(start());
        let before = journal_len();
        wait_for("the last receiver records", || {
            (journal_len() > before).then_some(())
        });
    });
    let report = emitter.stop(DEADLINE);
    // The last status of SEQPACKET is not acknowledged: it may still be on its way.
    let lines = wait_for("the last word is recorded", || {
        let (lines, _) = journal(&journal_file);
        lines
            .iter()
            .any(|line| matches!(line, Line::Status(_, _, true)))
            .then_some(lines)
    });
    drop(receiver);
    (report, lines)
}

/// Every recorded event, once, with its own content.
fn recorded(lines: &[Line]) -> BTreeSet<u64> {
    let mut times: BTreeMap<u64, u64> = BTreeMap::new();
    for line in lines {
        if let Line::Event(seq, n) = line {
            assert_eq!(seq, n, "a number belongs to one event for ever");
            *times.entry(*seq).or_default() += 1;
        }
    }
    assert!(times.values().all(|n| *n == 1));
    times.into_keys().collect()
}

#[test]
fn stream_loses_nothing_and_doubles_nothing_when_the_receiver_is_killed() {
    let (report, lines) = kill_in_a_loop(SocketKind::Stream);
    let counters = &report.counters;
    let events = recorded(&lines);
    let again = lines.iter().filter(|line| matches!(line, Line::Again(_))).count();
    println!(
        "{} kills, {} events, {} sent again, {again} of them known",
        counters.connects - 1,
        events.len(),
        counters.resent
    );
    assert_eq!((report.unacknowledged, counters.pending), (0, 0), "{report:?}");
    assert_eq!(
        (counters.acked, counters.dropped_total()),
        (counters.next_seq, 0),
        "{report:?}"
    );
    assert!(
        events.iter().copied().eq(0..counters.next_seq),
        "{} events",
        events.len()
    );
    assert!(again > 0, "some were settled and not acknowledged");
    assert!(counters.resent >= again as u64, "{counters:?}");
    assert_eq!(lines.last(), Some(&Line::Status(counters.next_seq, 0, true)));
}

#[test]
fn seqpacket_doubles_nothing_and_shows_what_is_lost_when_the_receiver_is_killed() {
    let (report, lines) = kill_in_a_loop(SocketKind::Seqpacket);
    let counters = &report.counters;
    let events = recorded(&lines);
    assert_eq!((report.unacknowledged, counters.pending), (0, 0), "{report:?}");
    assert_eq!(
        counters.next_seq,
        counters.sent + counters.dropped_total(),
        "{report:?}"
    );
    assert!(
        !lines.iter().any(|line| matches!(line, Line::Again(_))),
        "nothing is sent twice"
    );
    // next_seq = received + dropped + lost, from the producer's last word alone.
    let Some(Line::Status(next_seq, dropped, true)) = lines.last() else {
        panic!("{:?}", lines.last())
    };
    assert_eq!(
        (*next_seq, *dropped),
        (counters.next_seq, counters.dropped_total())
    );
    let lost = next_seq - dropped - events.len() as u64;
    assert!(events.last() < Some(next_seq));
    println!(
        "{} kills, {} events, {lost} lost in the kernel",
        counters.connects - 1,
        events.len()
    );
}
