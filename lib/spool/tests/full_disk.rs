//! A disk of one mebibyte that fills up: the error says so, what was sealed stays, and it goes on when there is
//! space again.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking and says what it skips"
)]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use ja4_spool::{SealError, Spool, SpoolConfig};

/// Set for the process that has a disk of its own; says its folder.
const SMALL_DISK: &str = "JA4_TEST_SMALL_DISK";

const CONFIG: SpoolConfig = SpoolConfig {
    max_bytes: 1 << 30,
    fsync: true,
};

#[test]
fn a_full_disk_is_reported_and_loses_nothing() {
    let own_mounts = ["--user", "--map-root-user", "--mount"];
    let may = |args: &[&str]| {
        let status = Command::new("unshare").args(own_mounts).args(args).status();
        status.is_ok_and(|status| status.success())
    };
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().to_str().unwrap();
    if !may(&["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder]) {
        println!(
            "skipped: this user may not mount a tmpfs in a namespace of its own (needs unshare and user namespaces)"
        );
        return;
    }
    let status = Command::new("unshare")
        .args(own_mounts)
        .args([
            "sh",
            "-ec",
            "mount -t tmpfs -o size=1m tmpfs \"$JA4_TEST_SMALL_DISK\"; exec \"$0\" \"$@\"",
        ])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "helper_on_a_small_disk", "--nocapture"])
        .env(SMALL_DISK, dir.path())
        .status()
        .unwrap();
    assert!(status.success(), "see above");
}

/// Takes all the space that is left.
fn fill(dir: &Path) -> PathBuf {
    let path = dir.join("filler");
    let mut file = std::fs::File::create(&path).unwrap();
    let mut length = 64 << 10;
    while length > 0 {
        if file.write_all(&vec![b'x'; length]).is_err() {
            length /= 2;
        }
    }
    path
}

#[test]
fn helper_on_a_small_disk() {
    let Some(disk) = std::env::var_os(SMALL_DISK).map(PathBuf::from) else {
        return;
    };
    let dir = disk.join("spool");
    let payload = |n: u8| vec![n; 100_000];
    let mut spool = Spool::open(&dir, CONFIG).unwrap();
    let mut sealed = Vec::new();
    let error = loop {
        let n = u8::try_from(sealed.len()).unwrap();
        match spool.seal(&[n], &[&payload(n)]) {
            Ok(id) => sealed.push(id),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, SealError::NoSpace), "{error:?}");
    assert_eq!(error.to_string(), "no space on the disk of the spool: free some");
    assert!(sealed.len() >= 8, "{}", sealed.len());
    // Again and again: nothing piles up and nothing is lost.
    for _ in 0..5 {
        assert!(matches!(
            spool.seal(b"again", &[&payload(99)]),
            Err(SealError::NoSpace)
        ));
    }
    assert_eq!(
        (spool.counters().no_space, spool.counters().sealed),
        (6, sealed.len() as u64)
    );
    assert_eq!(spool.n_segments(), sealed.len());
    let names = std::fs::read_dir(&dir)
        .unwrap()
        .flatten()
        .map(|entry| entry.file_name());
    assert!(
        names
            .into_iter()
            .all(|name| !name.to_string_lossy().ends_with(".tmp"))
    );
    let verify = |spool: &mut Spool| {
        for (n, id) in (0..).zip(&sealed) {
            assert_eq!(spool.read(*id).unwrap().payload, payload(n));
        }
    };
    verify(&mut spool);
    drop(spool);
    let filler = fill(&disk);
    let mut spool = Spool::open(&dir, CONFIG).unwrap();
    verify(&mut spool);
    assert_eq!(
        spool.last_meta(),
        Some(&[u8::try_from(sealed.len() - 1).unwrap()][..])
    );

    // Space returns by what the store has taken, and sealing goes on under new ids.
    spool.remove(sealed[0]).unwrap();
    let next = spool.seal(b"next", &[&payload(50)]).unwrap();
    assert!(next > *sealed.last().unwrap());

    // Everything is taken while somebody else fills the disk: the marks need no space of their own.
    let ids: Vec<_> = spool.ids().collect();
    let (last, rest) = ids.split_last().unwrap();
    for id in rest {
        spool.remove(*id).unwrap();
    }
    std::fs::remove_file(filler).unwrap();
    let filler = fill(&disk);
    assert!(matches!(
        spool.seal(b"more", &[&[0; 5000]]),
        Err(SealError::NoSpace)
    ));
    spool.remove(*last).unwrap();
    assert_eq!((spool.n_segments(), spool.bytes()), (0, 0));
    drop(spool);
    let mut spool = Spool::open(&dir, CONFIG).unwrap();
    assert_eq!((spool.n_segments(), spool.last_meta()), (0, Some(&b"next"[..])));
    assert_eq!(spool.recovery().quarantined, 0);

    // Space returns from outside.
    std::fs::remove_file(filler).unwrap();
    let id = spool.seal(b"after", &[&payload(51)]).unwrap();
    assert!(id > *last);
    spool.remove(id).unwrap();
    drop(spool);
    let kept: Vec<_> = std::fs::read_dir(&dir)
        .unwrap()
        .flatten()
        .map(|entry| entry.file_name())
        .collect();
    assert_eq!(kept.len(), 2, "a lock and the newest marks: {kept:?}");
    assert_eq!(
        Spool::open(&dir, CONFIG).unwrap().last_meta(),
        Some(&b"after"[..])
    );
    println!("{} segments of 100 kB on a disk of 1 MiB", sealed.len());
}
