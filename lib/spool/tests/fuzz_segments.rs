//! Any bytes in the folder: a start and a read never panic, and what is read is what was sealed.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::time::Duration;

use ja4_spool::{OpenError, ReadError, Spool, SpoolConfig};

/// It runs this long in `cargo test`; a coverage-guided engine takes its own time.
const TEST_TIME: Duration = Duration::from_secs(10);

const CONFIG: SpoolConfig = SpoolConfig {
    max_bytes: 1 << 20,
    fsync: false,
};

const NAMES: [&str; 10] = [
    "00000000000000000001.seg",
    "00000000000000000002.seg",
    "00000000000000000002.marks",
    "00000000000000000003.marks",
    "00000000000000000001.corrupt",
    "00000000000000000004.tmp",
    "18446744073709551614.seg",
    "7.seg",
    "x.seg",
    "seg",
];

#[test]
fn fuzz_a_folder_of_any_files() {
    let root = tempfile::tempdir().unwrap();
    bolero::check!()
        .with_test_time(TEST_TIME)
        .with_type::<(Vec<(u8, Vec<u8>)>, u8, Vec<(u8, u8)>, u8)>()
        .for_each(|(files, n_sealed, edits, cut)| {
            let dir = tempfile::tempdir_in(root.path()).unwrap();
            let mut sealed = BTreeMap::new();
            {
                let mut spool = Spool::open(dir.path(), CONFIG).unwrap();
                for n in 0..n_sealed % 4 {
                    let id = spool.seal(&[n], &[&[n; 3], b"payload"]).unwrap();
                    sealed.insert(id, ([n].to_vec(), [&[n; 3][..], b"payload"].concat()));
                }
            }
            if let Some(id) = sealed.keys().next() {
                let path = dir.path().join(format!("{:020}.seg", id.0));
                let mut bytes = std::fs::read(&path).unwrap();
                for (at, value) in edits {
                    let at = usize::from(*at) % bytes.len();
                    bytes[at] = *value;
                }
                bytes.truncate(bytes.len() - usize::from(cut % 8) / 7);
                std::fs::write(&path, bytes).unwrap();
            }
            for (pick, bytes) in files {
                let name = NAMES[usize::from(*pick) % NAMES.len()];
                // A sealed one is overwritten only by the edits above.
                let id = name
                    .strip_suffix(".seg")
                    .and_then(|id| id.parse().ok())
                    .map(ja4_spool::SegmentId);
                if !id.is_some_and(|id| sealed.contains_key(&id)) {
                    std::fs::write(dir.path().join(name), bytes).unwrap();
                }
            }
            let mut spool = match Spool::open(dir.path(), CONFIG) {
                Ok(spool) => spool,
                Err(OpenError::Version { .. }) => return,
                Err(error) => panic!("{error}"),
            };
            let ids: Vec<_> = spool.ids().collect();
            for id in ids {
                match spool.read(id) {
                    Ok(segment) => {
                        let expected = sealed.get(&id).expect("only what was sealed is a segment");
                        assert_eq!((&segment.meta, &segment.payload), (&expected.0, &expected.1));
                    }
                    Err(ReadError::Corrupt(_) | ReadError::Missing) => {}
                    Err(error) => panic!("{error}"),
                }
            }
            let newest = spool.seal(b"next", &[b"good"]).unwrap();
            assert_eq!(spool.read(newest).unwrap().payload, b"good");
            spool.remove(newest).unwrap();
            assert_eq!(spool.last_meta(), Some(&b"next"[..]));
        });
}
