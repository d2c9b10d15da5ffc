//! Sealed segments between the thread that reads sockets and the one that speaks to the correlator.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use ja4_common::exit;
use ja4_spool::{ReadError, SealError, SegmentId, Spool};
use tokio::sync::Notify;

use super::segment::{ForwardMeta, ForwardTotals, ProducerName};
use crate::clock;
use crate::outbox::{parse_meta, read_metas};

/// Why a segment could not be sealed. Nothing of it is left.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OutboxError {
    /// The disk is full or broken, or the segment is larger than the budget.
    #[error("spool cannot take a batch")]
    Spool(#[source] SealError),
    /// The meta is no JSON.
    #[error("segment cannot be described")]
    Meta(#[source] serde_json::Error),
}

/// Reason of what was never sent when it was dropped.
pub(crate) const SPOOL_FULL: &str = "spool_full";
/// Reason of what was sent and not acknowledged when it was dropped: it may have arrived.
pub(crate) const SPOOL_FULL_SENT: &str = "spool_full_sent";
/// Reason of what the disk has damaged.
const SPOOL_CORRUPT: &str = "spool_corrupt";

/// A segment that waits.
#[derive(Debug)]
struct Entry {
    meta: Arc<ForwardMeta>,
    /// It was sent at least once, by this process or perhaps by one before.
    was_sent: bool,
    /// It is on its way now.
    is_sent: bool,
}

#[derive(Debug)]
struct State {
    spool: Spool,
    entries: BTreeMap<SegmentId, Entry>,
    totals: ForwardTotals,
    /// Connections of each producer process to our sockets.
    connected: BTreeMap<ProducerName, u32>,
    /// Segments that are done and could not be removed.
    to_remove: Vec<SegmentId>,
    damaged: usize,
    /// That segments are being dropped was said at this moment, on the monotonic clock.
    said_dropping: Option<u64>,
    closed: bool,
}

/// How often it is said again that segments are dropped.
const SAY_AGAIN_NS: u64 = 60_000_000_000;

/// The queue of sealed segments. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Outbox(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Notify,
}

/// A segment to be sent.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) id: SegmentId,
    pub(crate) meta: Arc<ForwardMeta>,
    pub(crate) payload: Bytes,
}

/// How much waits.
#[derive(Debug, Clone, Default)]
pub(crate) struct Backlog {
    pub(crate) segments: usize,
    pub(crate) bytes: u64,
    pub(crate) max_bytes: u64,
    /// Age of the oldest segment, nanoseconds.
    pub(crate) oldest_age_ns: i64,
    pub(crate) damaged: usize,
    /// Numbered events by source.
    pub(crate) pending: BTreeMap<String, u64>,
}

impl Outbox {
    /// Takes up what is in the spool; gives also what the newest segment said.
    pub(crate) fn open(spool: Spool) -> (Self, ForwardMeta) {
        let (metas, damaged) = read_metas(&spool);
        let entry = |(id, meta)| {
            let entry = Entry {
                meta,
                was_sent: true,
                is_sent: false,
            };
            (id, entry)
        };
        let entries = metas.into_iter().map(entry).collect();
        let last = match spool.last_meta().map(parse_meta) {
            Some(Ok(meta)) => meta,
            None => ForwardMeta::default(),
            Some(Err(error)) => {
                tracing::error!(
                    "marks of the spool cannot be read; events that producers send again are told apart by the \
                     correlator only: {error}"
                );
                ForwardMeta::default()
            }
        };
        let state = State {
            spool,
            entries,
            totals: last.totals.clone(),
            connected: BTreeMap::new(),
            to_remove: Vec::new(),
            damaged,
            said_dropping: None,
            closed: false,
        };
        let shared = Shared {
            state: Mutex::new(state),
            changed: Notify::new(),
        };
        (Self(Arc::new(shared)), last)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Seals a segment; over the budget the oldest ones are dropped and counted, those that are on their way last.
    /// The totals go into the segment.
    ///
    /// # Errors
    /// If it cannot be kept; the caller still has the events.
    pub(crate) fn seal(&self, mut meta: ForwardMeta, payload: &[u8]) -> Result<(), OutboxError> {
        let mut state = self.lock();
        state.remove_rest();
        let events: Vec<(String, u64)> = meta
            .events_by_source()
            .into_iter()
            .map(|(source, n)| (source.to_owned(), n))
            .collect();
        let id = loop {
            meta.totals = state.totals.clone();
            for (source, n) in &events {
                meta.totals.input.entry(source.clone()).or_default().passed += n;
            }
            let meta_json = serde_json::to_vec(&meta).map_err(OutboxError::Meta)?;
            match state.spool.seal(&meta_json, &[payload]) {
                Ok(id) => break id,
                Err(SealError::Full { .. }) if state.drop_oldest() => {}
                Err(error) => return Err(OutboxError::Spool(error)),
            }
        };
        state.totals = meta.totals.clone();
        let entry = Entry {
            meta: Arc::new(meta),
            was_sent: false,
            is_sent: false,
        };
        state.entries.insert(id, entry);
        drop(state);
        self.0.changed.notify_one();
        Ok(())
    }

    /// Counts events that were refused before they were sealed.
    pub(crate) fn count_dropped(&self, source: &str, reason: &str, n: u64) {
        let mut state = self.lock();
        let flow = state.totals.input.entry(source.to_owned()).or_default();
        flow.drop_for(reason, n);
    }

    /// Returns when something was sealed, a producer has left, or the outbox was closed.
    pub(crate) async fn changed(&self) {
        self.0.changed.notified().await;
    }

    /// The first segment that is not on its way; from now on it is. A damaged one is given up and counted.
    pub(crate) fn next(&self) -> Option<Outgoing> {
        let mut state = self.lock();
        loop {
            let (&id, entry) = state.entries.iter().find(|(_, entry)| !entry.is_sent)?;
            let meta = Arc::clone(&entry.meta);
            match state.spool.read(id) {
                Ok(segment) => {
                    if let Some(entry) = state.entries.get_mut(&id) {
                        (entry.is_sent, entry.was_sent) = (true, true);
                    }
                    return Some(Outgoing {
                        id,
                        meta,
                        payload: segment.payload.into(),
                    });
                }
                Err(error @ ReadError::Io(_)) => {
                    tracing::error!(
                        "segment {id} of the spool cannot be read now, it is tried again: {}",
                        exit::chain(&error)
                    );
                    return None;
                }
                Err(error @ (ReadError::Missing | ReadError::Corrupt(_))) => {
                    tracing::error!(
                        "segment {id} of the spool cannot be read, its events are counted as dropped: {}",
                        exit::chain(&error)
                    );
                    state.give_up(id, SPOOL_CORRUPT);
                }
            }
        }
    }

    /// The connection is gone: nothing is on its way.
    pub(crate) fn none_is_sent(&self) {
        self.lock()
            .entries
            .values_mut()
            .for_each(|entry| entry.is_sent = false);
    }

    /// The correlator has settled all of the segment.
    pub(crate) fn done(&self, id: SegmentId) {
        let mut state = self.lock();
        if state.entries.remove(&id).is_some() {
            state.remove(id);
        }
    }

    /// True if the segment still waits: it was not dropped meanwhile.
    pub(crate) fn holds(&self, id: SegmentId) -> bool {
        self.lock().entries.contains_key(&id)
    }

    /// Lowest number of each producer that waits, with its role.
    pub(crate) fn waiting(&self) -> BTreeMap<ProducerName, (u64, u32)> {
        let state = self.lock();
        let mut waiting = BTreeMap::new();
        for producer in state.entries.values().flat_map(|entry| &entry.meta.producers) {
            let first = waiting
                .entry(producer.name())
                .or_insert((producer.first, producer.role));
            first.0 = first.0.min(producer.first);
        }
        waiting
    }

    /// Notes that a producer process has connected.
    pub(crate) fn opened(&self, producer: ProducerName) {
        *self.lock().connected.entry(producer).or_insert(0) += 1;
    }

    /// Notes that a connection of a producer process has ended.
    pub(crate) fn closed(&self, producer: &ProducerName) {
        let mut state = self.lock();
        if let Some(n) = state.connected.get_mut(producer) {
            *n -= 1;
            if *n == 0 {
                state.connected.remove(producer);
            }
        }
        drop(state);
        self.0.changed.notify_one();
    }

    /// True if the producer process is connected here.
    pub(crate) fn is_connected(&self, producer: &ProducerName) -> bool {
        self.lock().connected.contains_key(producer)
    }

    /// How much waits.
    pub(crate) fn backlog(&self) -> Backlog {
        let state = self.lock();
        let mut pending = BTreeMap::new();
        for (source, n) in state
            .entries
            .values()
            .flat_map(|entry| entry.meta.events_by_source())
        {
            *pending.entry(source.to_owned()).or_insert(0) += n;
        }
        let oldest = state.entries.values().next();
        Backlog {
            segments: state.entries.len(),
            bytes: state.spool.bytes(),
            max_bytes: state.spool.max_bytes(),
            oldest_age_ns: oldest.map_or(0, |entry| {
                clock::wall_ns().saturating_sub(entry.meta.sealed_ns).max(0)
            }),
            damaged: state.damaged,
            pending,
        }
    }

    /// Counts as of now.
    pub(crate) fn totals(&self) -> ForwardTotals {
        self.lock().totals.clone()
    }

    /// No segment follows: the sender ends when all is settled.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.0.changed.notify_one();
    }

    /// True if no segment follows.
    pub(crate) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Segments that wait.
    pub(crate) fn n_segments(&self) -> usize {
        self.lock().entries.len()
    }

    /// True if no segment follows and none waits.
    pub(crate) fn is_finished(&self) -> bool {
        let state = self.lock();
        state.closed && state.entries.is_empty()
    }
}

impl State {
    fn drop_oldest(&mut self) -> bool {
        let oldest = self
            .entries
            .iter()
            .find(|(_, entry)| !entry.is_sent)
            .or_else(|| self.entries.first_key_value());
        let Some((&id, entry)) = oldest else { return false };
        let reason = if entry.was_sent {
            SPOOL_FULL_SENT
        } else {
            SPOOL_FULL
        };
        let now = clock::mono_ns();
        if self
            .said_dropping
            .is_none_or(|said| now.saturating_sub(said) >= SAY_AGAIN_NS)
        {
            self.said_dropping = Some(now);
            tracing::warn!(
                "spool is over its budget: its oldest events are dropped and counted, from segment {id} on; \
                 see why the correlator is slow or away, or raise spool.max_bytes"
            );
        }
        self.give_up(id, reason);
        // Where nothing can be removed, dropping more makes no room.
        !self.to_remove.contains(&id)
    }

    fn give_up(&mut self, id: SegmentId, reason: &str) {
        let Some(entry) = self.entries.remove(&id) else {
            return;
        };
        for (source, n) in entry.meta.events_by_source() {
            let flow = self.totals.spool.entry(source.to_owned()).or_default();
            flow.drop_for(reason, n);
        }
        self.remove(id);
    }

    fn remove(&mut self, id: SegmentId) {
        if let Err(error) = self.spool.remove(id) {
            tracing::warn!(
                "segment {id} of the spool cannot be removed, that is tried again with each batch: {error}"
            );
            self.to_remove.push(id);
        }
    }

    /// Removes what could not be removed. If the process ends before, it is sent again, and the correlator knows it.
    fn remove_rest(&mut self) {
        let spool = &mut self.spool;
        self.to_remove.retain(|id| spool.remove(*id).is_err());
    }
}
