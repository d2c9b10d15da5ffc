//! The folder of segments.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use crate::file::{self, CorruptSegment, HEADER_BYTES, Header};

/// Most ids that are ever given: a million a second for a hundred thousand years.
const MAX_ID: u64 = u64::MAX / 4;

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
    /// Another version of this program wrote a segment; nothing was touched.
    #[error(
        "segment {path:?} has version {version} of the layout: let the program that wrote it empty the spool, or set another folder"
    )]
    Version {
        /// The segment.
        path: PathBuf,
        /// Its version.
        version: u8,
    },
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
    /// The segment whose meta is kept though it was removed.
    marks: Option<SegmentId>,
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
        if config.fsync
            && let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty())
        {
            File::open(parent)
                .and_then(|parent| parent.sync_all())
                .map_err(io_error)?;
        }
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
            marks: None,
            recovery: Recovery::default(),
            counters: Counters::default(),
            _lock: lock,
        };
        spool.recover().map_err(|error| match error {
            RecoverError::Version(path, version) => OpenError::Version { path, version },
            RecoverError::Io(source) => io_error(source),
        })?;
        Ok(spool)
    }

    fn recover(&mut self) -> Result<(), RecoverError> {
        // Read to the end first: what is put aside below would come by again.
        let entries: Vec<_> = std::fs::read_dir(&self.dir)?.collect::<io::Result<_>>()?;
        let mut marks = Vec::new();
        for entry in entries {
            let name = entry.file_name();
            let Some((stem, kind)) = name.to_str().and_then(|name| name.split_once('.')) else {
                continue;
            };
            if kind == "tmp" {
                std::fs::remove_file(entry.path())?;
                self.recovery.temps_removed += 1;
                continue;
            }
            let Some(id) = id_of(stem) else { continue };
            self.next_id = self.next_id.max(id.0.saturating_add(1));
            match kind {
                "seg" => match read_meta_of(&self.path(id))? {
                    Ok((_, length)) => {
                        self.segments.insert(id, length);
                    }
                    Err(corrupt) => self.put_aside_at_start(&self.path(id), corrupt)?,
                },
                "marks" => marks.push(id),
                _ => {}
            }
        }
        self.bytes = self.segments.values().sum();
        marks.sort_unstable();
        self.take_up_marks(marks)?;
        self.take_up_newest()?;
        self.recovery.segments = self.segments.len();
        self.recovery.bytes = self.bytes;
        self.recovery.quarantined = usize::try_from(self.counters.quarantined).unwrap_or(usize::MAX);
        Ok(())
    }

    /// The newest sound marks count, older ones are left over from a crash.
    fn take_up_marks(&mut self, mut ascending: Vec<SegmentId>) -> Result<(), RecoverError> {
        while let Some(id) = ascending.pop() {
            let path = self.marks_path(id);
            match read_meta_of(&path)? {
                Ok((meta, _)) => {
                    self.last_meta = Some(meta);
                    self.newest = Some(id);
                    self.marks = Some(id);
                    break;
                }
                Err(corrupt) => self.put_aside_at_start(&path, corrupt)?,
            }
        }
        for id in ascending {
            std::fs::remove_file(self.marks_path(id))?;
        }
        Ok(())
    }

    /// The newest sound segment says more than the marks, if those are older. A damaged one says nothing:
    /// what it held is to come again from its producers, if they still have it.
    fn take_up_newest(&mut self) -> Result<(), RecoverError> {
        let ids: Vec<_> = self.segments.keys().rev().copied().collect();
        for id in ids {
            if self.newest.is_some_and(|newest| newest >= id) {
                break;
            }
            match self.read(id) {
                Ok(segment) => {
                    self.last_meta = Some(segment.meta);
                    self.newest = Some(id);
                    break;
                }
                Err(ReadError::Corrupt(_) | ReadError::Missing) => {}
                Err(ReadError::Io(error)) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn put_aside_at_start(&mut self, path: &Path, corrupt: CorruptSegment) -> Result<(), RecoverError> {
        if let CorruptSegment::Version(version) = corrupt {
            return Err(RecoverError::Version(path.to_owned(), version));
        }
        self.put_aside(path, corrupt)?;
        Ok(())
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

    /// The budget.
    pub fn max_bytes(&self) -> u64 {
        self.config.max_bytes
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
            if is_full(&error) {
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
        let header = file::header(meta, payload)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the meta has 4 GiB or more"))?;
        let temporary = path.with_extension("tmp");
        let write = || -> io::Result<()> {
            let mut file = OpenOptions::new()
                .create(true)
                .write(true)
                .truncate(true)
                .mode(0o600)
                .open(&temporary)?;
            file.write_all(&header)?;
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
                let path = self.path(id);
                self.put_aside(&path, corrupt).map_err(ReadError::Io)?;
                if let Some(bytes) = self.segments.remove(&id) {
                    self.bytes -= bytes;
                }
                Err(ReadError::Corrupt(corrupt))
            }
        }
    }

    /// Reads the meta alone and checks it; the payload is checked by [`Spool::read`] only.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn read_meta(&self, id: SegmentId) -> Result<Vec<u8>, ReadError> {
        match read_meta_of(&self.path(id)) {
            Ok(Ok((meta, _))) => Ok(meta),
            Ok(Err(corrupt)) => Err(ReadError::Corrupt(corrupt)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(ReadError::Missing),
            Err(error) => Err(ReadError::Io(error)),
        }
    }

    /// Renames a damaged file, so that a person can look at it, and says so.
    fn put_aside(&mut self, path: &Path, corrupt: CorruptSegment) -> io::Result<()> {
        let aside = path.with_extension("corrupt");
        std::fs::rename(path, &aside)?;
        self.counters.quarantined += 1;
        tracing::error!(
            "spool: {path:?} is damaged ({corrupt}) and was put aside as {aside:?}: check the disk, then remove the file"
        );
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
        if self.newest == Some(id) {
            self.turn_into_marks(id)?;
        } else {
            std::fs::remove_file(self.path(id))?;
        }
        self.segments.remove(&id);
        self.bytes -= bytes;
        self.counters.removed += 1;
        Ok(())
    }

    /// Keeps the meta of the newest segment and removes the rest of it. On a full disk there is no room for
    /// another file: then the segment itself becomes the marks, and its space is free when the next ones come.
    fn turn_into_marks(&mut self, id: SegmentId) -> io::Result<()> {
        let (path, marks) = (self.path(id), self.marks_path(id));
        let meta = self.last_meta.as_deref().unwrap_or_default();
        match self.write_whole(&marks, meta, &[]) {
            Ok(()) => std::fs::remove_file(&path)?,
            Err(error) if is_full(&error) => std::fs::rename(&path, &marks)?,
            Err(error) => return Err(error),
        }
        if let Some(older) = self.marks.replace(id)
            && older != id
            && let Err(error) = std::fs::remove_file(self.marks_path(older))
        {
            tracing::debug!(
                "older marks of spool {:?} stay until the next start: {error}",
                self.dir
            );
        }
        Ok(())
    }

    fn marks_path(&self, id: SegmentId) -> PathBuf {
        self.path(id).with_extension("marks")
    }

    fn path(&self, id: SegmentId) -> PathBuf {
        self.dir.join(format!("{:020}.seg", id.0))
    }
}

/// Why a start failed.
enum RecoverError {
    Version(PathBuf, u8),
    Io(io::Error),
}

impl From<io::Error> for RecoverError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// The id in a name that this program gave; of other files nothing is known.
fn id_of(stem: &str) -> Option<SegmentId> {
    let id = stem.parse().ok().filter(|id| *id <= MAX_ID)?;
    (stem == format!("{id:020}")).then_some(SegmentId(id))
}

fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

/// Meta and length of a segment, if what it begins with is sound and it is as long as it says.
fn read_meta_of(path: &Path) -> io::Result<Result<(Vec<u8>, u64), CorruptSegment>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    let mut start = Vec::with_capacity(HEADER_BYTES);
    (&mut file).take(HEADER_BYTES as u64).read_to_end(&mut start)?;
    let header = match Header::parse(&start).and_then(|header| header.check_length(length).map(|()| header)) {
        Ok(header) => header,
        Err(corrupt) => return Ok(Err(corrupt)),
    };
    // The file is that long, so the length is no lie that costs memory.
    let mut meta = Vec::with_capacity(header.meta_bytes as usize);
    file.take(header.meta_bytes.into()).read_to_end(&mut meta)?;
    Ok(header.check_meta(&meta).map(|()| (meta, length)))
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
            Err(SealError::Full { needed: 78, free: 22 })
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
            bytes: 33,
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
