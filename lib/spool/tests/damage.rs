//! Bits that flip on the disk, files cut short, files of another version: noticed, put aside, said and counted.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::cell::RefCell;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Once;

use ja4_spool::{CorruptSegment, OpenError, ReadError, SegmentId, Spool, SpoolConfig};

const CONFIG: SpoolConfig = SpoolConfig {
    max_bytes: 1 << 20,
    fsync: false,
};

/// What the closure logs, as lines.
fn log_of(work: impl FnOnce()) -> Vec<String> {
    thread_local! {
        static LINES: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    }
    struct Lines;
    impl std::io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            LINES.with_borrow_mut(|lines| lines.extend_from_slice(bytes));
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    // One for the whole process: where a line is first met while another test has none, it may stay silent.
    static SUBSCRIBER: Once = Once::new();
    SUBSCRIBER.call_once(|| {
        tracing_subscriber::fmt()
            .with_ansi(false)
            .with_writer(|| Lines)
            .init();
    });
    LINES.take();
    work();
    String::from_utf8(LINES.take())
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect()
}

fn file(dir: &Path, id: SegmentId, kind: &str) -> PathBuf {
    dir.join(format!("{:020}.{kind}", id.0))
}

/// In place: a file that is written anew would be waited for by some file systems.
fn flip(path: &Path, bit: usize) {
    let file = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, (bit / 8) as u64).unwrap();
    byte[0] ^= 1 << (bit % 8);
    file.write_all_at(&byte, (bit / 8) as u64).unwrap();
}

/// Three small segments; gives their ids.
fn filled(dir: &Path) -> [SegmentId; 3] {
    let mut spool = Spool::open(dir, CONFIG).unwrap();
    [b"one", b"two", b"six"].map(|word| spool.seal(word, &[word, b"payload"]).unwrap())
}

#[test]
fn every_flipped_bit_of_every_segment_is_noticed_and_costs_that_segment_only() {
    let dir = tempfile::tempdir().unwrap();
    for damaged in 0..3 {
        let length = 28 + 3 + 10;
        for bit in 0..length * 8 {
            let path = dir.path().join(format!("{damaged}-{bit}"));
            let ids = filled(&path);
            let victim = file(&path, ids[damaged], "seg");
            assert_eq!(std::fs::metadata(&victim).unwrap().len(), length as u64);
            flip(&victim, bit);
            let mut found = Vec::new();
            let mut quarantined = 0;
            let mut version = None;
            let log = log_of(|| match Spool::open(&path, CONFIG) {
                Ok(mut spool) => {
                    for id in ids {
                        match spool.read(id) {
                            Ok(segment) => found.push((id, segment.meta.clone(), segment.payload)),
                            Err(error) => assert!(
                                matches!(error, ReadError::Corrupt(_) | ReadError::Missing),
                                "{error}"
                            ),
                        }
                    }
                    quarantined = spool.counters().quarantined;
                    let next = spool.seal(b"next", &[]).unwrap();
                    assert!(next > ids[2], "an id is never given twice");
                }
                Err(OpenError::Version { path, version: found }) => {
                    assert_eq!(path, victim);
                    version = Some(found);
                }
                Err(error) => panic!("{error}"),
            });
            if (56..64).contains(&bit) {
                // It may be of another program version: nothing is touched.
                assert_eq!(version, Some(2 ^ (1 << (bit % 8))));
                assert!(victim.exists() && log.is_empty());
            } else {
                let words = [b"one", b"two", b"six"];
                let expected: Vec<_> = (0..3)
                    .filter(|n| *n != damaged)
                    .map(|n| (ids[n], words[n].to_vec(), [&words[n][..], b"payload"].concat()))
                    .collect();
                assert_eq!(found, expected, "bit {bit}");
                assert_eq!(quarantined, 1);
                assert!(!victim.exists() && file(&path, ids[damaged], "corrupt").exists());
                assert_eq!(log.len(), 1, "{log:?}");
                assert!(
                    log[0].contains("is damaged") && log[0].contains("check the disk, then remove the file"),
                    "{log:?}"
                );
            }
            std::fs::remove_dir_all(&path).unwrap();
        }
    }
}

#[test]
fn a_segment_cut_short_or_grown_is_put_aside_at_the_start() {
    for change in [0, 10, 27, 30, 40, 45] {
        let dir = tempfile::tempdir().unwrap();
        let ids = filled(dir.path());
        let victim = file(dir.path(), ids[1], "seg");
        std::fs::OpenOptions::new()
            .write(true)
            .open(victim)
            .unwrap()
            .set_len(change)
            .unwrap();
        let mut spool = Spool::open(dir.path(), CONFIG).unwrap();
        assert_eq!(
            (spool.recovery().segments, spool.recovery().quarantined),
            (2, 1),
            "{change}"
        );
        assert_eq!(spool.bytes(), 2 * 41, "the budget is free again");
        assert!(matches!(spool.read(ids[1]), Err(ReadError::Missing)));
    }
}

#[test]
fn damage_while_it_is_open_is_noticed_when_it_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(dir.path(), CONFIG).unwrap();
    let id = spool.seal(b"meta", &[b"payload"]).unwrap();
    let path = file(dir.path(), id, "seg");
    let mut bytes = std::fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 4;
    std::fs::write(&path, bytes).unwrap();
    assert_eq!(
        spool.read_meta(id).unwrap(),
        b"meta",
        "the meta has a checksum of its own"
    );
    assert!(matches!(
        spool.read(id),
        Err(ReadError::Corrupt(CorruptSegment::Checksum))
    ));
    assert!(matches!(spool.read(id), Err(ReadError::Missing)));
    assert_eq!(
        (spool.counters().quarantined, spool.n_segments(), spool.bytes()),
        (1, 0, 0)
    );
}

#[test]
fn damaged_marks_are_put_aside_and_ids_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let id = {
        let mut spool = Spool::open(dir.path(), CONFIG).unwrap();
        let id = spool.seal(b"marks", &[]).unwrap();
        spool.remove(id).unwrap();
        id
    };
    let marks = file(dir.path(), id, "marks");
    let mut bytes = std::fs::read(&marks).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&marks, bytes).unwrap();
    let log = log_of(|| {
        let mut spool = Spool::open(dir.path(), CONFIG).unwrap();
        assert_eq!((spool.last_meta(), spool.recovery().quarantined), (None, 1));
        assert!(spool.seal(b"", &[]).unwrap() > id);
    });
    assert!(log.len() == 1 && log[0].contains("is damaged"), "{log:?}");
}

#[test]
fn a_segment_of_another_version_stops_the_start_with_the_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let ids = filled(dir.path());
    let path = file(dir.path(), ids[0], "seg");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[7] = 3;
    std::fs::write(&path, bytes).unwrap();
    let error = Spool::open(dir.path(), CONFIG).unwrap_err().to_string();
    assert!(
        error.contains(&path.display().to_string())
            && error.contains("let the program that wrote it empty the spool"),
        "{error}"
    );
}
