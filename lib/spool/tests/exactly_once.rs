//! A process that seals is killed, again and again: nothing that it was told is sealed is lost or torn, and
//! the order stands.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking and says what it measured"
)]

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ja4_spool::{Spool, SpoolConfig};

/// Set for the process that seals; says its folder.
const SEAL: &str = "JA4_TEST_SEAL";

/// How many times it is killed in `cargo test`; `JA4_SOAK_KILLS` sets another number.
const KILLS: u64 = 60;

/// Segments that are kept; older ones are removed, as by a sender whose store takes them.
const KEPT: usize = 12;

const CONFIG: SpoolConfig = SpoolConfig {
    max_bytes: 1 << 30,
    fsync: true,
};

/// What segment number `n` holds: nothing, some, or so much in so many parts that a kill finds it half written.
fn payload(n: u64) -> Vec<u8> {
    let words = match n % 4 {
        0 => 0,
        1 => usize::try_from(n * 7919 % 20_000).unwrap(),
        _ => 300_000,
    };
    n.to_le_bytes().repeat(words)
}

/// Bytes of one part: thousands of writes for a large segment.
const PART_BYTES: usize = 500;

fn meta(n: u64) -> Vec<u8> {
    format!("{{\"n\":{n}}}").into_bytes()
}

fn number(meta: &[u8]) -> u64 {
    let text = std::str::from_utf8(meta).unwrap();
    text.strip_prefix("{\"n\":")
        .and_then(|text| text.strip_suffix('}'))
        .unwrap()
        .parse()
        .unwrap()
}

fn spool_dir(dir: &Path) -> PathBuf {
    dir.join("spool")
}

/// Writes a line at once; kill -9 does not take back what the kernel has.
fn say(file: &mut File, line: &str) {
    file.write_all(format!("{line}\n").as_bytes()).unwrap();
}

#[test]
fn helper_that_seals() {
    let Some(dir) = std::env::var_os(SEAL).map(PathBuf::from) else {
        return;
    };
    let mut said = OpenOptions::new()
        .create(true)
        .append(true)
        .open(dir.join("said"))
        .unwrap();
    let mut spool = Spool::open(spool_dir(&dir), CONFIG).unwrap();
    let mut n = spool.last_meta().map_or(0, |meta| number(meta) + 1);
    loop {
        let bytes = payload(n);
        let parts: Vec<&[u8]> = bytes.chunks(PART_BYTES).collect();
        spool.seal(&meta(n), &parts).unwrap();
        say(&mut said, &format!("sealed {n}"));
        n += 1;
        // Now and then all of them, so that only the meta of the newest is left.
        let keep = if n.is_multiple_of(15) { 0 } else { KEPT };
        while spool.n_segments() > keep {
            let oldest = spool.oldest().unwrap();
            let removed = number(&spool.read_meta(oldest).unwrap());
            say(&mut said, &format!("remove {removed}"));
            spool.remove(oldest).unwrap();
        }
    }
}

fn start(dir: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "helper_that_seals", "--nocapture"])
        .env(SEAL, dir)
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

/// The numbers that were said to be sealed, and those that were about to be removed.
fn said(dir: &Path) -> (BTreeSet<u64>, BTreeSet<u64>) {
    let text = std::fs::read_to_string(dir.join("said")).unwrap();
    // The last line may be cut.
    let whole = &text[..text.rfind('\n').map_or(0, |end| end + 1)];
    let of = |what: &str| {
        let lines = whole.lines().filter_map(|line| line.strip_prefix(what));
        lines.map(|n| n.trim().parse().unwrap()).collect()
    };
    (of("sealed "), of("remove "))
}

/// Opens what the killed process has left and compares it with what it had said.
fn check(dir: &Path) -> (usize, bool) {
    let (sealed, removed) = said(dir);
    let mut spool = Spool::open(spool_dir(dir), CONFIG).unwrap();
    let recovery = spool.recovery();
    assert_eq!(recovery.quarantined, 0, "nothing is ever torn");
    assert!(recovery.temps_removed <= 1, "{recovery:?}");
    let ids: Vec<_> = spool.ids().collect();
    let mut found = Vec::new();
    for id in ids {
        let segment = spool.read(id).unwrap();
        let n = number(&segment.meta);
        assert!(
            segment.payload == payload(n),
            "segment {n} has {} bytes",
            segment.payload.len()
        );
        found.push(n);
    }
    assert!(
        found.is_sorted_by(|a, b| a + 1 == *b),
        "in the order of sealing, without a gap: {found:?}"
    );
    let missing: Vec<_> = sealed
        .difference(&removed)
        .filter(|n| !found.contains(n))
        .collect();
    assert!(missing.is_empty(), "{missing:?} were sealed and are lost");
    // One may be sealed whose maker was killed before it could say so.
    let newest = number(spool.last_meta().unwrap());
    let last_said = sealed.last().copied().unwrap();
    assert!(
        newest == last_said || newest == last_said + 1,
        "{newest} after {last_said}"
    );
    assert_eq!(found.last().copied().unwrap_or(newest), newest);
    let left: Vec<_> = std::fs::read_dir(spool_dir(dir))
        .unwrap()
        .flatten()
        .map(|e| e.file_name())
        .collect();
    let other = left
        .iter()
        .filter(|name| !name.to_string_lossy().ends_with(".seg"))
        .count();
    assert!(other <= 2, "a lock and marks at most: {left:?}");
    (found.len(), recovery.temps_removed > 0)
}

#[test]
fn a_process_that_is_killed_while_it_seals_loses_nothing_sealed() {
    let kills =
        std::env::var("JA4_SOAK_KILLS").map_or(KILLS, |n| n.parse().expect("JA4_SOAK_KILLS is a number"));
    let dir = tempfile::tempdir().unwrap();
    let (mut halves, mut empty) = (0, 0);
    for round in 0..kills {
        let before = std::fs::metadata(dir.path().join("said")).map_or(0, |meta| meta.len());
        let mut process = start(dir.path());
        let deadline = Instant::now() + Duration::from_mins(1);
        while std::fs::metadata(dir.path().join("said")).map_or(0, |meta| meta.len()) <= before {
            assert!(Instant::now() < deadline, "it seals nothing");
            assert!(process.try_wait().unwrap().is_none(), "it ended by itself");
            std::thread::sleep(Duration::from_millis(1));
        }
        // A different moment each time.
        std::thread::sleep(Duration::from_micros(round * 4001 % 30_000));
        process.kill().unwrap();
        process.wait().unwrap();
        let (found, half) = check(dir.path());
        halves += u64::from(half);
        empty += u64::from(found == 0);
    }
    let (sealed, removed) = said(dir.path());
    println!(
        "{kills} kills, {} segments sealed, {} removed, {halves} kills in the middle of one, {empty} with none left",
        sealed.len(),
        removed.len()
    );
}
