//! The folder of segments.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use crate::file::{self, CorruptSegment, HEADER_BYTES};

/// Number of a segment; ascends for ever.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SegmentId(pub u64);

impl fmt::Display for SegmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Settings.
#[derive(Debug, Clone, Copy)]
pub struct SpoolConfig {
    /// Most bytes of all segments together.
    pub max_bytes: u64,
    /// Wait for the disk. Without it a segment survives a crash of the process only.
    pub fsync: bool,
}

/// A segment as it was sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Its number.
    pub id: SegmentId,
    /// What the caller said of it.
    pub meta: Vec<u8>,
    /// Its parts, joined.
    pub payload: Vec<u8>,
}

/// What a start found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Recovery {
    /// Sealed segments.
    pub segments: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Unfinished ones, removed: nobody was told that they are safe.
    pub temps_removed: usize,
    /// Damaged ones, put aside.
    pub quarantined: usize,
}

/// Counts since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Segments sealed.
    pub sealed: u64,
    /// Segments removed.
    pub removed: u64,
    /// Damaged segments put aside.
    pub quarantined: u64,
    /// Seals refused for the budget.
    pub full: u64,
    /// Seals that failed for lack of disk space.
    pub no_space: u64,
}

/// Why a spool cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process uses the folder.
    #[error("spool {0:?} is in use by another process: stop that one or set another folder")]
    Locked(PathBuf),
    /// The folder cannot be used.
    #[error("spool {dir:?} cannot be used: give the process the right to write there, or set another folder")]
    Io {
        /// The folder.
        dir: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Why a segment was not sealed; nothing of it is left.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// It does not fit into the budget.
    #[error("the segment needs {needed} bytes, {free} of the budget are free")]
    Full {
        /// Bytes that it needs.
        needed: u64,
        /// Bytes of the budget that are free.
        free: u64,
    },
    /// The disk is full.
    #[error("no space on the disk of the spool: free some")]
    NoSpace,
    /// The disk failed.
    #[error("the segment cannot be written")]
    Io(#[source] io::Error),
}

/// Why a segment cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// There is no such segment.
    #[error("there is no such segment")]
    Missing,
    /// It is damaged; it was put aside.
    #[error("the segment is damaged and was put aside")]
    Corrupt(#[source] CorruptSegment),
    /// The disk failed.
    #[error("the segment cannot be read")]
    Io(#[source] io::Error),
}

/// An open spool; its folder is locked until it is dropped.
#[derive(Debug)]
pub struct Spool {
    dir: PathBuf,
    config: SpoolConfig,
    /// Bytes of each segment.
    segments: BTreeMap<SegmentId, u64>,
    bytes: u64,
    next_id: u64,
    last_meta: Option<Vec<u8>>,
    newest: Option<SegmentId>,
    recovery: Recovery,
    counters: Counters,
    _lock: File,
}

impl Spool {
    /// Opens the folder, making it (mode 0700) if need be, and takes up what is there.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(dir: impl AsRef<Path>, config: SpoolConfig) -> Result<Self, OpenError> {
        let dir = dir.as_ref().to_owned();
        let io_error = |source| OpenError::Io {
            dir: dir.clone(),
            source,
        };
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&dir)
            .map_err(io_error)?;
        let lock = OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(false)
            .mode(0o600)
            .open(dir.join("lock"))
            .map_err(io_error)?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(OpenError::Locked(dir)),
            Err(errno) => return Err(io_error(errno.into())),
        }
        let mut spool = Self {
            dir: dir.clone(),
            config,
            segments: BTreeMap::new(),
            bytes: 0,
            next_id: 1,
            last_meta: None,
            newest: None,
            recovery: Recovery::default(),
            counters: Counters::default(),
            _lock: lock,
        };
        spool.recover().map_err(io_error)?;
        Ok(spool)
    }

    fn recover(&mut self) -> io::Result<()> {
        for entry in std::fs::read_dir(&self.dir)? {
            let entry = entry?;
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            let Some((stem, kind)) = name.split_once('.') else {
                continue;
            };
            if kind == "tmp" {
                std::fs::remove_file(entry.path())?;
                self.recovery.temps_removed += 1;
                continue;
            }
            let Ok(id) = stem.parse::<u64>() else { continue };
            self.next_id = self.next_id.max(id.saturating_add(1));
            if kind == "seg" {
                self.segments.insert(SegmentId(id), entry.metadata()?.len());
            }
        }
        self.bytes = self.segments.values().sum();
        if let Some((id, meta)) = self.read_marks() {
            self.next_id = self.next_id.max(id.saturating_add(1));
            self.last_meta = Some(meta);
            self.newest = Some(SegmentId(id));
        }
        // The newest sound segment says more than the marks, which were written before it.
        let ids: Vec<_> = self.segments.keys().rev().copied().collect();
        for id in ids {
            if self.newest.is_some_and(|newest| newest >= id) {
                break;
            }
            if let Ok(segment) = self.read(id) {
                self.last_meta = Some(segment.meta);
                self.newest = Some(id);
                break;
            }
        }
        self.recovery.segments = self.segments.len();
        self.recovery.bytes = self.bytes;
        self.recovery.quarantined = usize::try_from(self.counters.quarantined).unwrap_or(usize::MAX);
        Ok(())
    }

    /// The marks file: the id as eight bytes and the meta, in the form of a segment.
    fn read_marks(&self) -> Option<(u64, Vec<u8>)> {
        let bytes = std::fs::read(self.dir.join("marks")).ok()?;
        match file::parse(&bytes) {
            Ok((meta, payload)) => Some((u64::from_le_bytes(payload.try_into().ok()?), meta.to_vec())),
            Err(error) => {
                tracing::error!("marks of spool {:?} are damaged: {error}", self.dir);
                None
            }
        }
    }

    /// What the start found.
    pub fn recovery(&self) -> Recovery {
        self.recovery
    }

    /// Counts since the start.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Ids of the sealed segments, ascending.
    pub fn ids(&self) -> impl Iterator<Item = SegmentId> {
        self.segments.keys().copied()
    }

    /// The oldest sealed segment.
    pub fn oldest(&self) -> Option<SegmentId> {
        self.segments.keys().next().copied()
    }

    /// Sealed segments.
    pub fn n_segments(&self) -> usize {
        self.segments.len()
    }

    /// Their bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Meta of the newest segment ever sealed, also when it is removed and after a restart.
    pub fn last_meta(&self) -> Option<&[u8]> {
        self.last_meta.as_deref()
    }

    /// Seals a segment: when this returns it is on disk, whole.
    ///
    /// # Errors
    /// See [`SealError`]; nothing of the segment is left then.
    pub fn seal(&mut self, meta: &[u8], payload: &[&[u8]]) -> Result<SegmentId, SealError> {
        let payload_bytes: u64 = payload.iter().map(|part| part.len() as u64).sum();
        let needed = HEADER_BYTES as u64 + meta.len() as u64 + payload_bytes;
        let free = self.config.max_bytes.saturating_sub(self.bytes);
        if needed > free {
            self.counters.full += 1;
            return Err(SealError::Full { needed, free });
        }
        let id = SegmentId(self.next_id);
        self.write_whole(&self.path(id), meta, payload).map_err(|error| {
            if error.kind() == io::ErrorKind::StorageFull || error.kind() == io::ErrorKind::QuotaExceeded {
                self.counters.no_space += 1;
                SealError::NoSpace
            } else {
                SealError::Io(error)
            }
        })?;
        self.next_id += 1;
        self.segments.insert(id, needed);
        self.bytes += needed;
        self.last_meta = Some(meta.to_vec());
        self.newest = Some(id);
        self.counters.sealed += 1;
        Ok(id)
    }

    /// Temporary file, fsync, rename, fsync of the folder; nothing is left on failure.
    fn write_whole(&self, path: &Path, meta: &[u8], payload: &[&[u8]]) -> io::Result<()> {
        let temporary = path.with_extension("tmp");
        let write = || -> io::Result<()> {
            let mut file = OpenOptions::new()
                .create(true)
                .write(true)
                .truncate(true)
                .mode(0o600)
                .open(&temporary)?;
            file.write_all(&file::header(meta, payload))?;
            file.write_all(meta)?;
            payload.iter().try_for_each(|part| file.write_all(part))?;
            if self.config.fsync {
                file.sync_data()?;
            }
            std::fs::rename(&temporary, path)?;
            if self.config.fsync
                && let Err(error) = File::open(&self.dir).and_then(|dir| dir.sync_all())
            {
                // The name may not survive: nobody may be told that it does.
                std::fs::remove_file(path)?;
                return Err(error);
            }
            Ok(())
        };
        let result = write();
        if result.is_err() {
            // The next start removes what cannot be removed now.
            std::fs::remove_file(&temporary).unwrap_or(());
        }
        result
    }

    /// Reads a segment; a damaged one is put aside as `*.corrupt` and counted.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn read(&mut self, id: SegmentId) -> Result<Segment, ReadError> {
        let bytes = match std::fs::read(self.path(id)) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(ReadError::Missing),
            Err(error) => return Err(ReadError::Io(error)),
        };
        match file::parse(&bytes) {
            Ok((meta, payload)) => Ok(Segment {
                id,
                meta: meta.to_vec(),
                payload: payload.to_vec(),
            }),
            Err(corrupt) => {
                self.put_aside(id).map_err(ReadError::Io)?;
                Err(ReadError::Corrupt(corrupt))
            }
        }
    }

    /// Reads the meta alone; its checksum is checked by [`Spool::read`] only.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn read_meta(&self, id: SegmentId) -> Result<Vec<u8>, ReadError> {
        let read = || -> io::Result<Result<Vec<u8>, CorruptSegment>> {
            let mut file = File::open(self.path(id))?;
            let mut header = [0; HEADER_BYTES];
            file.read_exact(&mut header)?;
            let length = match file::meta_bytes(&header) {
                Ok(length) => length,
                Err(corrupt) => return Ok(Err(corrupt)),
            };
            if length as u64 > file.metadata()?.len() {
                return Ok(Err(CorruptSegment::Header));
            }
            let mut meta = vec![0; length];
            file.read_exact(&mut meta)?;
            Ok(Ok(meta))
        };
        match read() {
            Ok(Ok(meta)) => Ok(meta),
            Ok(Err(corrupt)) => Err(ReadError::Corrupt(corrupt)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(ReadError::Missing),
            Err(error) => Err(ReadError::Io(error)),
        }
    }

    fn put_aside(&mut self, id: SegmentId) -> io::Result<()> {
        let path = self.path(id);
        std::fs::rename(&path, path.with_extension("corrupt"))?;
        if let Some(bytes) = self.segments.remove(&id) {
            self.bytes -= bytes;
        }
        self.counters.quarantined += 1;
        Ok(())
    }

    /// Removes a segment that is not needed any more. Before the newest one goes its meta is kept.
    ///
    /// # Errors
    /// If the disk fails; the segment is then still there.
    pub fn remove(&mut self, id: SegmentId) -> io::Result<()> {
        let Some(&bytes) = self.segments.get(&id) else {
            return Ok(());
        };
        if self.newest == Some(id)
            && let Some(meta) = &self.last_meta
        {
            self.write_whole(&self.dir.join("marks"), meta, &[&id.0.to_le_bytes()])?;
        }
        std::fs::remove_file(self.path(id))?;
        self.segments.remove(&id);
        self.bytes -= bytes;
        self.counters.removed += 1;
        Ok(())
    }

    fn path(&self, id: SegmentId) -> PathBuf {
        self.dir.join(format!("{:020}.seg", id.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: SpoolConfig = SpoolConfig {
        max_bytes: 1 << 20,
        fsync: true,
    };

    fn open(dir: &Path) -> Spool {
        Spool::open(dir, CONFIG).unwrap()
    }

    #[test]
    fn segments_come_back_in_order_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let mut spool = open(dir.path());
        for n in 0_u8..3 {
            spool.seal(&[n], &[b"a", &[n]]).unwrap();
        }
        drop(spool);
        let mut spool = open(dir.path());
        let ids: Vec<_> = spool.ids().collect();
        assert_eq!(ids, [SegmentId(1), SegmentId(2), SegmentId(3)]);
        assert_eq!(
            spool.read(ids[1]).unwrap(),
            Segment {
                id: ids[1],
                meta: vec![1],
                payload: vec![b'a', 1]
            }
        );
        assert_eq!(
            (spool.last_meta(), spool.read_meta(ids[2]).unwrap()),
            (Some(&[2][..]), vec![2])
        );
    }

    #[test]
    fn ids_and_the_last_meta_outlive_their_segments() {
        let dir = tempfile::tempdir().unwrap();
        let mut spool = open(dir.path());
        let id = spool.seal(b"marks", &[]).unwrap();
        spool.remove(id).unwrap();
        drop(spool);
        let mut spool = open(dir.path());
        assert_eq!((spool.n_segments(), spool.last_meta()), (0, Some(&b"marks"[..])));
        assert!(spool.seal(b"next", &[]).unwrap() > id);
    }

    #[test]
    fn the_budget_is_kept_and_says_what_is_free() {
        let dir = tempfile::tempdir().unwrap();
        let mut spool = Spool::open(
            dir.path(),
            SpoolConfig {
                max_bytes: 100,
                fsync: false,
            },
        )
        .unwrap();
        let first = spool.seal(b"", &[&[0; 50]]).unwrap();
        assert!(matches!(
            spool.seal(b"", &[&[0; 50]]),
            Err(SealError::Full { needed: 74, free: 26 })
        ));
        spool.remove(first).unwrap();
        assert_eq!(spool.bytes(), 0);
        spool.seal(b"", &[&[0; 50]]).unwrap();
    }

    #[test]
    fn a_damaged_segment_is_put_aside_and_an_unfinished_one_removed() {
        let dir = tempfile::tempdir().unwrap();
        let mut spool = open(dir.path());
        let (good, bad) = (
            spool.seal(b"m", &[b"good"]).unwrap(),
            spool.seal(b"n", &[b"bad"]).unwrap(),
        );
        let path = spool.path(bad);
        drop(spool);
        let mut bytes = std::fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(&path, bytes).unwrap();
        std::fs::write(dir.path().join("00000000000000000009.tmp"), b"half").unwrap();
        let mut spool = open(dir.path());
        let expected = Recovery {
            segments: 1,
            bytes: 29,
            temps_removed: 1,
            quarantined: 1,
        };
        assert_eq!((spool.recovery(), spool.last_meta()), (expected, Some(&b"m"[..])));
        assert!(path.with_extension("corrupt").exists());
        assert_eq!(spool.read(good).unwrap().payload, b"good");
        assert!(spool.seal(b"", &[]).unwrap() > bad, "an id is never given twice");
    }

    #[test]
    fn a_second_process_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let _spool = open(dir.path());
        assert!(matches!(
            Spool::open(dir.path(), CONFIG),
            Err(OpenError::Locked(_))
        ));
    }
}
