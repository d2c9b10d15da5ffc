//! Sealed segments between the engine's thread and the one that speaks to the store.
//!
//! In the mode `spool` a segment is on disk (fsync) before its events are acknowledged; in the mode
//! `memory` it is not, and its events are acknowledged when the store has it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ja4_common::exit;
use ja4_spool::{ReadError, SealError, SegmentId, Spool};
use serde::de::DeserializeOwned;

use crate::batch::SegmentMeta;

/// A segment on its way to the store.
#[derive(Debug, Clone)]
pub(crate) struct Outgoing {
    pub(crate) id: SegmentId,
    pub(crate) meta: Arc<SegmentMeta>,
    pub(crate) payload: Arc<Vec<u8>>,
}

/// Why a segment could not be sealed. Nothing of it is left.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OutboxError {
    /// The disk is full or broken.
    #[error("spool cannot take a batch")]
    Spool(#[source] SealError),
    /// The batch alone is larger than the whole budget.
    #[error("a batch of {bytes} bytes does not fit into the budget of {max_bytes}: raise spool.max_bytes")]
    TooLarge { bytes: u64, max_bytes: u64 },
    /// The meta is no JSON.
    #[error("segment cannot be described")]
    Meta(#[source] serde_json::Error),
}

/// Counts of one table, as far as this process knows them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct TableCounts {
    /// Rows in segments that the store has not acknowledged.
    pub(crate) pending: u64,
    /// Rows that this process has brought into the store.
    pub(crate) inserted: u64,
    /// Rows given up, by reason, that no sealed totals hold yet.
    pub(crate) dropped: BTreeMap<String, u64>,
}

/// Why a segment was not read.
enum Unread {
    /// It is damaged or gone, for good.
    Lost(String),
    /// The disk failed or descriptors ran out; it is still there.
    Now(String),
}

enum Store {
    Disk(Spool),
    Memory {
        segments: VecDeque<Outgoing>,
        bytes: u64,
        max_bytes: u64,
        next_id: u64,
    },
}

struct State {
    store: Store,
    /// Meta of what is on disk, so that counts and drops need not read it again.
    metas: BTreeMap<SegmentId, Arc<SegmentMeta>>,
    sending: Option<SegmentId>,
    tables: BTreeMap<String, TableCounts>,
    /// Segments that the store has or that were given up, for the engine's thread.
    completed: Vec<SegmentId>,
    /// Segments that are done and could not be removed: a full disk has no room for the marks either.
    to_remove: BTreeSet<SegmentId>,
    /// Segments of an earlier process that cannot be read; how many rows they had is not known.
    damaged: usize,
    /// The segment that was last said not to be readable now, so that it is said once.
    unread: Option<SegmentId>,
    closed: bool,
}

/// The queue of sealed segments. Clones share it.
#[derive(Clone)]
pub(crate) struct Outbox(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl std::fmt::Debug for Outbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outbox").finish_non_exhaustive()
    }
}

impl Outbox {
    /// An outbox on disk; segments of an earlier process are sent first.
    pub(crate) fn on_disk(spool: Spool) -> (Self, Option<SegmentMeta>) {
        let (metas, damaged) = read_metas(&spool);
        let last = spool.last_meta().and_then(|meta| match parse_meta(meta) {
            Ok(meta) => Some(meta),
            Err(error) => {
                tracing::error!(
                    "marks of the spool cannot be read, events that come again may be stored twice: {error}"
                );
                None
            }
        });
        let outbox = Self::new(Store::Disk(spool), metas);
        outbox.lock().damaged = damaged;
        (outbox, last)
    }

    /// An outbox in memory, at most `max_bytes`.
    pub(crate) fn in_memory(max_bytes: u64) -> Self {
        Self::new(
            Store::Memory {
                segments: VecDeque::new(),
                bytes: 0,
                max_bytes,
                next_id: 1,
            },
            BTreeMap::new(),
        )
    }

    fn new(store: Store, metas: BTreeMap<SegmentId, Arc<SegmentMeta>>) -> Self {
        let mut tables: BTreeMap<String, TableCounts> = BTreeMap::new();
        for block in metas.values().flat_map(|meta| &meta.blocks) {
            tables.entry(block.table.clone()).or_default().pending += block.rows;
        }
        let state = State {
            store,
            metas,
            sending: None,
            tables,
            completed: Vec::new(),
            to_remove: BTreeSet::new(),
            damaged: 0,
            unread: None,
            closed: false,
        };
        Self(Arc::new(Shared {
            state: Mutex::new(state),
            changed: Condvar::new(),
        }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Seals a segment; over the budget the oldest ones that nobody is sending are dropped and counted.
    ///
    /// # Errors
    /// If it cannot be kept; the caller still has the rows.
    pub(crate) fn seal(&self, meta: SegmentMeta, payload: &[u8]) -> Result<SegmentId, OutboxError> {
        let mut state = self.lock();
        state.remove_rest();
        let meta_json = serde_json::to_vec(&meta).map_err(OutboxError::Meta)?;
        let id = loop {
            match state.store.seal(&meta, &meta_json, payload) {
                Ok(id) => break id,
                Err(OutboxError::Spool(SealError::Full { .. }) | OutboxError::TooLarge { .. })
                    if state.drop_oldest() => {}
                Err(error) => return Err(error),
            }
        };
        for block in &meta.blocks {
            state.tables.entry(block.table.clone()).or_default().pending += block.rows;
        }
        state.metas.insert(id, Arc::new(meta));
        self.0.changed.notify_all();
        Ok(id)
    }

    /// The oldest segment, as soon as there is one; nothing after `timeout` or when the outbox is closed and empty.
    pub(crate) fn next(&self, timeout: Duration) -> Option<Outgoing> {
        let mut state = self.lock();
        if state.metas.is_empty() && !state.closed {
            state = self
                .0
                .changed
                .wait_timeout(state, timeout)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        loop {
            let (&id, meta) = state.metas.first_key_value()?;
            let meta = Arc::clone(meta);
            match state.store.read(id) {
                Ok(payload) => {
                    state.sending = Some(id);
                    return Some(Outgoing { id, meta, payload });
                }
                Err(Unread::Lost(error)) => {
                    tracing::error!(
                        "segment {id} of the spool cannot be read, its rows are counted as dropped: {error}"
                    );
                    state.forget(id, Some("spool_corrupt"));
                }
                Err(Unread::Now(error)) => {
                    if state.unread != Some(id) {
                        tracing::error!(
                            "segment {id} of the spool cannot be read now, it is tried again: {error}"
                        );
                        state.unread = Some(id);
                    }
                    drop(self.0.changed.wait_timeout(state, timeout));
                    return None;
                }
            }
        }
    }

    /// The store has the segment. `refused` are its rows that went to quarantine, by table.
    pub(crate) fn done(&self, id: SegmentId, refused: &BTreeMap<String, u64>) {
        let mut state = self.lock();
        state.sending = None;
        if let Some(meta) = state.metas.get(&id).cloned() {
            for block in &meta.blocks {
                state.tables.entry(block.table.clone()).or_default().inserted += block.rows;
            }
        }
        for (table, rows) in refused {
            let counts = state.tables.entry(table.clone()).or_default();
            counts.inserted = counts.inserted.saturating_sub(*rows);
            *counts.dropped.entry("quarantined".to_owned()).or_insert(0) += rows;
        }
        state.remove_rest();
        state.forget(id, None);
        state.completed.push(id);
        self.0.changed.notify_all();
    }

    /// The sender gave up for now; the segment stays the oldest.
    pub(crate) fn release(&self) {
        self.lock().sending = None;
    }

    /// Segments that were done since the last call.
    pub(crate) fn take_completed(&self) -> Vec<SegmentId> {
        std::mem::take(&mut self.lock().completed)
    }

    /// Counts by table.
    pub(crate) fn tables(&self) -> BTreeMap<String, TableCounts> {
        self.lock().tables.clone()
    }

    /// Moves what was dropped into the caller's totals: from now on those hold it.
    pub(crate) fn take_dropped(&self) -> BTreeMap<String, BTreeMap<String, u64>> {
        let mut state = self.lock();
        state
            .tables
            .iter_mut()
            .map(|(table, counts)| (table.clone(), std::mem::take(&mut counts.dropped)))
            .collect()
    }

    /// Undoes [`Outbox::take_dropped`]: the totals were not kept.
    pub(crate) fn put_back_dropped(&self, dropped: BTreeMap<String, BTreeMap<String, u64>>) {
        let mut state = self.lock();
        for (table, reasons) in dropped {
            let counts = state.tables.entry(table).or_default();
            for (reason, n) in reasons {
                *counts.dropped.entry(reason).or_insert(0) += n;
            }
        }
    }

    /// Segments and bytes that wait.
    pub(crate) fn backlog(&self) -> (usize, u64) {
        let state = self.lock();
        (state.metas.len(), state.store.bytes())
    }

    /// True if what waits survives the process.
    pub(crate) fn is_on_disk(&self) -> bool {
        matches!(self.lock().store, Store::Disk(_))
    }

    /// Segments of an earlier process that cannot be read.
    pub(crate) fn damaged(&self) -> usize {
        self.lock().damaged
    }

    /// No segment follows: the sender ends when it has sent all.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.0.changed.notify_all();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.lock().closed
    }
}

impl State {
    fn drop_oldest(&mut self) -> bool {
        let oldest = self.metas.keys().copied().find(|id| Some(*id) != self.sending);
        let Some(id) = oldest else { return false };
        tracing::warn!(
            "spool is over its budget: its oldest batch {id} is dropped and counted; \
             see why the store is slow or away, or raise spool.max_bytes"
        );
        self.forget(id, Some("spool_full"));
        // Where nothing can be removed, dropping more makes no room.
        !self.to_remove.contains(&id)
    }

    /// Removes a segment; with a reason its rows are counted as dropped.
    fn forget(&mut self, id: SegmentId, reason: Option<&str>) {
        let Some(meta) = self.metas.remove(&id) else {
            return;
        };
        for block in &meta.blocks {
            let counts = self.tables.entry(block.table.clone()).or_default();
            counts.pending = counts.pending.saturating_sub(block.rows);
            if let Some(reason) = reason {
                *counts.dropped.entry(reason.to_owned()).or_insert(0) += block.rows;
            }
        }
        if reason.is_some() {
            // Given up for good: its events must not be held back for ever.
            self.completed.push(id);
        }
        if let Err(error) = self.store.remove(id) {
            tracing::warn!(
                "segment {id} of the spool cannot be removed, that is tried again with each batch: {error}"
            );
            self.to_remove.insert(id);
        }
    }

    /// Removes what could not be removed. If the process ends before, the same batch goes out again with the same
    /// token and is ignored; much later its token would be forgotten there, so it must not stay for long.
    fn remove_rest(&mut self) {
        while let Some(id) = self.to_remove.first().copied() {
            if self.store.remove(id).is_err() {
                return;
            }
            self.to_remove.remove(&id);
        }
    }
}

impl Store {
    fn seal(
        &mut self,
        meta: &SegmentMeta,
        meta_json: &[u8],
        payload: &[u8],
    ) -> Result<SegmentId, OutboxError> {
        match self {
            Self::Disk(spool) => spool.seal(meta_json, &[payload]).map_err(OutboxError::Spool),
            Self::Memory {
                segments,
                bytes,
                max_bytes,
                next_id,
            } => {
                let length = (payload.len() + meta_json.len()) as u64;
                if *bytes + length > *max_bytes {
                    return Err(OutboxError::TooLarge {
                        bytes: length,
                        max_bytes: *max_bytes,
                    });
                }
                let id = SegmentId(*next_id);
                *next_id += 1;
                *bytes += length;
                segments.push_back(Outgoing {
                    id,
                    meta: Arc::new(meta.clone()),
                    payload: Arc::new(payload.to_vec()),
                });
                Ok(id)
            }
        }
    }

    fn read(&mut self, id: SegmentId) -> Result<Arc<Vec<u8>>, Unread> {
        match self {
            Self::Disk(spool) => match spool.read(id) {
                Ok(segment) => Ok(Arc::new(segment.payload)),
                Err(error @ ReadError::Io(_)) => Err(Unread::Now(exit::chain(&error))),
                Err(error @ (ReadError::Missing | ReadError::Corrupt(_))) => {
                    Err(Unread::Lost(exit::chain(&error)))
                }
            },
            Self::Memory { segments, .. } => segments
                .iter()
                .find(|segment| segment.id == id)
                .map(|segment| Arc::clone(&segment.payload))
                .ok_or_else(|| Unread::Lost("it is not there".to_owned())),
        }
    }

    fn remove(&mut self, id: SegmentId) -> std::io::Result<()> {
        match self {
            Self::Disk(spool) => spool.remove(id),
            Self::Memory { segments, bytes, .. } => {
                segments.retain(|segment| segment.id != id);
                // Metas are small beside their payload; what is counted in is counted out in one sum.
                *bytes = segments.iter().map(|segment| segment.payload.len() as u64).sum();
                Ok(())
            }
        }
    }

    fn bytes(&self) -> u64 {
        match self {
            Self::Disk(spool) => spool.bytes(),
            Self::Memory { bytes, .. } => *bytes,
        }
    }
}

/// What the segments in a spool say of themselves, and how many cannot be read.
pub(crate) fn read_metas<M: DeserializeOwned>(spool: &Spool) -> (BTreeMap<SegmentId, Arc<M>>, usize) {
    let mut metas = BTreeMap::new();
    let mut damaged = spool.recovery().quarantined;
    for id in spool.ids() {
        let meta = spool.read_meta(id).map_err(|error| error.to_string());
        match meta.and_then(|meta| parse_meta(&meta)) {
            Ok(meta) => {
                metas.insert(id, Arc::new(meta));
            }
            Err(error) => {
                damaged += 1;
                tracing::error!(
                    "segment {id} of the spool cannot be read, it stays there and is not sent; \
                     let the version that wrote it send it, or remove it: {error}"
                );
            }
        }
    }
    (metas, damaged)
}

/// A segment's meta, or why it is none.
pub(crate) fn parse_meta<M: DeserializeOwned>(bytes: &[u8]) -> Result<M, String> {
    serde_json::from_slice(bytes).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use ja4_spool::SpoolConfig;

    use super::*;
    use crate::batch::BlockMeta;

    fn meta(rows: u64) -> SegmentMeta {
        SegmentMeta {
            blocks: vec![BlockMeta {
                table: "http_logs".to_owned(),
                token: "t".to_owned(),
                sql: String::new(),
                rows,
                bytes: 100,
            }],
            ..SegmentMeta::default()
        }
    }

    #[track_caller]
    fn check(outbox: &Outbox, pending: u64, inserted: u64, dropped: &[(&str, u64)]) {
        let counts = outbox.tables().remove("http_logs").unwrap_or_default();
        let dropped = dropped
            .iter()
            .map(|(reason, n)| ((*reason).to_owned(), *n))
            .collect();
        let expected = TableCounts {
            pending,
            inserted,
            dropped,
        };
        assert_eq!(counts, expected);
    }

    #[test]
    fn over_the_budget_the_oldest_is_dropped_counted_and_no_longer_waited_for() {
        let outbox = Outbox::in_memory(2_000);
        let first = outbox.seal(meta(3), &[0; 1_000]).unwrap();
        let second = outbox.seal(meta(4), &[0; 1_000]).unwrap();
        check(&outbox, 4, 0, &[("spool_full", 3)]);
        assert_eq!(outbox.take_completed(), [first]);
        assert_eq!(outbox.next(Duration::ZERO).unwrap().id, second);
        // What is being sent is not dropped: the new one does not fit then.
        assert!(matches!(
            outbox.seal(meta(1), &[0; 1_500]),
            Err(OutboxError::TooLarge { .. })
        ));
        outbox.done(second, &BTreeMap::from([("http_logs".to_owned(), 1)]));
        check(&outbox, 0, 3, &[("quarantined", 1), ("spool_full", 3)]);
    }

    #[test]
    fn segments_of_an_earlier_process_are_sent_first_and_damaged_ones_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let config = SpoolConfig {
            max_bytes: 1 << 20,
            fsync: false,
        };
        let (outbox, last) = Outbox::on_disk(Spool::open(dir.path(), config).unwrap());
        assert_eq!((last, outbox.damaged()), (None, 0));
        let ids: Vec<_> = (1..=3)
            .map(|rows| outbox.seal(meta(rows), b"block").unwrap())
            .collect();
        drop(outbox);
        let path = dir.path().join(format!("{:020}.seg", ids[1].0));
        let mut bytes = std::fs::read(&path).unwrap();
        // In the meta, which every start reads.
        bytes[40] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        let (outbox, last) = Outbox::on_disk(Spool::open(dir.path(), config).unwrap());
        assert_eq!(last.unwrap().blocks, meta(3).blocks);
        assert_eq!(outbox.damaged(), 1);
        check(&outbox, 4, 0, &[]);
        assert_eq!(outbox.next(Duration::ZERO).unwrap().id, ids[0]);
    }

    #[test]
    fn a_segment_that_cannot_be_read_now_is_kept_and_read_later() {
        let dir = tempfile::tempdir().unwrap();
        let config = SpoolConfig {
            max_bytes: 1 << 20,
            fsync: false,
        };
        let (outbox, _) = Outbox::on_disk(Spool::open(dir.path(), config).unwrap());
        let id = outbox.seal(meta(2), b"block").unwrap();
        let path = dir.path().join(format!("{:020}.seg", id.0));
        let aside = dir.path().join("aside");
        std::fs::rename(&path, &aside).unwrap();
        // Reading a folder fails as a broken disk does.
        std::fs::create_dir(&path).unwrap();
        assert!(outbox.next(Duration::ZERO).is_none());
        std::fs::remove_dir(&path).unwrap();
        std::fs::rename(&aside, &path).unwrap();
        assert_eq!(outbox.next(Duration::ZERO).unwrap().id, id);
        check(&outbox, 2, 0, &[]);
    }
}
