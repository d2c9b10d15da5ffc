//! Gives rows to every sink, and seals batches for the store.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use correlator_engine::Now;
use ja4_common::ledger::Stage;
use ja4_model::{Correction, Head, JoinedRequest, Status, TlsRecord};
use ja4_spool::SegmentId;

use crate::batch::{Batch, BlockMeta, SegmentMeta};
use crate::core::{Core, Rows};
use crate::outbox::{Outbox, OutboxError};
use crate::payload::Origin;
use crate::settlement::Producer;
use crate::sinks::lines::Lines;
use crate::totals::{Flow, Totals};

/// Pause between tries to seal while the spool's disk is full or broken.
const RESEAL_PAUSE: Duration = Duration::from_secs(1);

/// With more sealed batches than this before it the store lags behind.
const LAGGING_BATCHES: usize = 10;

/// While the store lags behind, a batch of fewer bytes waits this many times as long: an insert costs the store tens of
/// milliseconds however small it is. Producers keep 8 MiB, so that a batch of a mebibyte must not wait.
const SMALL_BATCH_BYTES: usize = 1 << 20;
const LAGGING_FACTOR: u32 = 5;

/// While nothing can be sealed this is said again so often.
const SAY_AGAIN: Duration = Duration::from_secs(30);

/// How often the batch limit a batch may outgrow while nothing can be sealed, before it is dropped and counted.
const UNSEALED_FACTOR: usize = 4;

/// Most rows of a batch, whatever is configured: the store keeps an insert exact only as one block, and its largest
/// has 1 048 576 rows.
pub(crate) const BATCH_ROWS_MAX: usize = 1_000_000;

/// When a batch is sealed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SealPolicy {
    pub(crate) rows: usize,
    pub(crate) bytes: usize,
    pub(crate) age: Duration,
    /// True: events are safe when sealed. False: when the store has them.
    pub(crate) sealed_is_safe: bool,
}

/// A batch that could not be sealed yet.
#[derive(Debug)]
struct Stuck {
    blocks: Vec<BlockMeta>,
    payload: Vec<u8>,
    origins: Vec<Origin>,
    retry_mono_ns: u64,
}

/// That nothing can be sealed, as it was said last.
#[derive(Debug, Default)]
struct Trouble {
    said_mono_ns: Option<u64>,
}

/// All sinks of the process.
#[derive(Debug)]
pub(crate) struct Writer {
    store: Option<StoreSink>,
    lines: Vec<Lines>,
    /// Events that are settled at once because no store is written.
    unsealed: Vec<Origin>,
}

#[derive(Debug)]
struct StoreSink {
    batch: Batch,
    outbox: Outbox,
    policy: SealPolicy,
    token_prefix: String,
    n_sealed: u64,
    stuck: Option<Stuck>,
    trouble: Trouble,
    /// Events of segments that the store does not have yet, when only that makes them safe.
    awaiting: HashMap<SegmentId, Vec<Origin>>,
    /// Rows that earlier processes brought into the store, by table.
    inserted_before: BTreeMap<String, u64>,
}

impl Writer {
    /// A writer without a store.
    pub(crate) fn lines_only(lines: Vec<Lines>) -> Self {
        Self {
            store: None,
            lines,
            unsealed: Vec::new(),
        }
    }

    /// A writer to a store through `outbox`. `token_prefix` is unique for ever.
    pub(crate) fn to_store(
        batch: Batch,
        outbox: Outbox,
        policy: SealPolicy,
        token_prefix: String,
        lines: Vec<Lines>,
        before: &Totals,
    ) -> Self {
        let pending = outbox.tables();
        let inserted = |(table, flow): (&String, &Flow)| {
            let counts = pending.get(table);
            let waits = counts.map_or(0, |counts| counts.pending + counts.dropped.values().sum::<u64>());
            (
                table.clone(),
                flow.passed
                    .saturating_sub(flow.dropped_total())
                    .saturating_sub(waits),
            )
        };
        let inserted_before = before.tables.iter().map(inserted).collect();
        let store = StoreSink {
            batch,
            outbox,
            policy,
            token_prefix,
            n_sealed: 0,
            stuck: None,
            trouble: Trouble::default(),
            awaiting: HashMap::new(),
            inserted_before,
        };
        Self {
            store: Some(store),
            lines,
            unsealed: Vec::new(),
        }
    }

    /// Requests and hellos that are given out and not sealed.
    pub(crate) fn unsealed(&self) -> (u64, u64) {
        let Some(store) = &self.store else { return (0, 0) };
        let stuck_rows = |table: &str| {
            let blocks = store.stuck.iter().flat_map(|stuck| &stuck.blocks);
            blocks
                .filter(|block| block.table == table)
                .map(|block| block.rows)
                .sum::<u64>()
        };
        (
            store.batch.n_requests() + stuck_rows("http_logs"),
            store.batch.n_hellos() + stuck_rows("tls_logs"),
        )
    }

    /// Rows of a table that earlier processes brought into the store.
    pub(crate) fn inserted_before(&self, table: &str) -> u64 {
        self.store
            .as_ref()
            .and_then(|store| store.inserted_before.get(table))
            .copied()
            .unwrap_or(0)
    }

    pub(crate) fn outbox(&self) -> Option<&Outbox> {
        self.store.as_ref().map(|store| &store.outbox)
    }

    /// The sinks of lines as stages of the ledger.
    pub(crate) fn line_stages(&self) -> impl Iterator<Item = Stage> {
        self.lines.iter().map(Lines::stage)
    }

    /// When sealing is due, on the monotonic clock.
    pub(crate) fn next_deadline(&self) -> Option<u64> {
        let store = self.store.as_ref()?;
        if let Some(stuck) = &store.stuck {
            return Some(stuck.retry_mono_ns);
        }
        let opened = store.batch.opened_mono_ns()?;
        Some(opened.saturating_add(nanos(store.age())))
    }

    /// Seals what is due, and settles what has become safe. True if any event was settled.
    pub(crate) fn tend(&mut self, now: Now, core: &mut Core) -> bool {
        let Some(store) = &mut self.store else {
            let origins = std::mem::take(&mut self.unsealed);
            core.count_settled(&origins);
            core.settlement_mut().settle_all(&origins);
            return !origins.is_empty();
        };
        store.batch.touch(now.mono_ns);
        let mut settled = store.settle_completed(core);
        if store.is_due(now.mono_ns) {
            settled |= store.seal(now, core);
        }
        settled | store.shed(core)
    }

    /// Seals whatever there is, due or not: for the end. False if it cannot be kept.
    pub(crate) fn finish(&mut self, now: Now, core: &mut Core) -> bool {
        for lines in &mut self.lines {
            lines.flush();
        }
        if self.store.is_none() {
            self.tend(now, core);
            return true;
        }
        let Some(store) = &mut self.store else { return true };
        store.settle_completed(core);
        store.seal_even_empty(now, core);
        store.stuck.is_none()
    }

    /// Settles the last events that the store has taken.
    pub(crate) fn settle_completed(&mut self, core: &mut Core) {
        if let Some(store) = &mut self.store {
            store.settle_completed(core);
        }
    }

    /// Ends the sinks of lines.
    pub(crate) fn stop_lines(&mut self) {
        for lines in self.lines.drain(..) {
            lines.stop();
        }
    }

    pub(crate) fn flush_lines(&mut self) {
        self.lines.iter_mut().for_each(Lines::flush);
    }
}

impl StoreSink {
    fn is_due(&self, mono_ns: u64) -> bool {
        // What comes after a batch that cannot be sealed waits for it, full or not.
        if let Some(stuck) = &self.stuck {
            return mono_ns >= stuck.retry_mono_ns;
        }
        let aged = self
            .batch
            .opened_mono_ns()
            .is_some_and(|opened| mono_ns.saturating_sub(opened) >= nanos(self.age()));
        aged || self.batch.n_rows() >= self.policy.rows || self.batch.bytes() >= self.policy.bytes
    }

    /// Age after which the batch is sealed.
    fn age(&self) -> Duration {
        let lags = self.outbox.backlog().0 > LAGGING_BATCHES;
        if lags && self.batch.bytes() < SMALL_BATCH_BYTES {
            self.policy.age.saturating_mul(LAGGING_FACTOR)
        } else {
            self.policy.age
        }
    }

    fn settle_completed(&mut self, core: &mut Core) -> bool {
        let mut any = false;
        for id in self.outbox.take_completed() {
            for origin in self.awaiting.remove(&id).into_iter().flatten() {
                core.settlement_mut().settle(origin);
                any = true;
            }
        }
        any
    }

    fn seal(&mut self, now: Now, core: &mut Core) -> bool {
        if self.batch.is_empty() && self.stuck.is_none() {
            return false;
        }
        self.seal_even_empty(now, core)
    }

    fn seal_even_empty(&mut self, now: Now, core: &mut Core) -> bool {
        if let Some(stuck) = self.stuck.take()
            && !self.seal_blocks(stuck.blocks, stuck.payload, stuck.origins, now, core)
        {
            return false;
        }
        self.n_sealed += 1;
        let token = format!("{}-{}", self.token_prefix, self.n_sealed);
        let (blocks, payload, origins) = self.batch.finish(&token);
        self.seal_blocks(blocks, payload, origins, now, core)
    }

    /// True if it is sealed; otherwise it is kept as stuck.
    fn seal_blocks(
        &mut self,
        blocks: Vec<BlockMeta>,
        payload: Vec<u8>,
        origins: Vec<Origin>,
        now: Now,
        core: &mut Core,
    ) -> bool {
        let before = core.totals.clone();
        core.count_settled(&origins);
        for block in &blocks {
            core.totals.tables.entry(block.table.clone()).or_default().passed += block.rows;
        }
        let dropped = self.outbox.take_dropped();
        for (table, reasons) in &dropped {
            let flow = core.totals.tables.entry(table.clone()).or_default();
            for (reason, n) in reasons {
                flow.drop_for(reason, *n);
            }
        }
        let meta = SegmentMeta {
            marks: core.settlement().marks_after(&origins),
            totals: core.totals_now(),
            blocks: blocks.clone(),
        };
        match self.outbox.seal(meta, &payload) {
            Ok(id) => {
                if self.trouble.said_mono_ns.take().is_some() {
                    tracing::info!("the spool takes batches again");
                }
                if self.policy.sealed_is_safe {
                    core.settlement_mut().settle_all(&origins);
                } else {
                    self.awaiting.insert(id, origins);
                }
                true
            }
            Err(error) => {
                core.totals = before;
                self.outbox.put_back_dropped(dropped);
                self.trouble.say(now.mono_ns, &error);
                let retry_mono_ns = now.mono_ns.saturating_add(nanos(RESEAL_PAUSE));
                self.stuck = Some(Stuck {
                    blocks,
                    payload,
                    origins,
                    retry_mono_ns,
                });
                false
            }
        }
    }

    /// While nothing can be sealed memory must not grow without end: the newest rows are dropped and counted.
    /// True if any event was settled.
    fn shed(&mut self, core: &mut Core) -> bool {
        let is_full = self.batch.bytes() >= UNSEALED_FACTOR.saturating_mul(self.policy.bytes)
            || self.batch.n_rows() >= BATCH_ROWS_MAX;
        if self.stuck.is_none() || !is_full {
            return false;
        }
        let (blocks, _, origins) = self.batch.finish("dropped");
        core.count_settled(&origins);
        for block in &blocks {
            let flow = core.totals.tables.entry(block.table.clone()).or_default();
            flow.passed += block.rows;
            flow.drop_for("no_space", block.rows);
        }
        core.settlement_mut().settle_all(&origins);
        let n_rows: u64 = blocks.iter().map(|block| block.rows).sum();
        tracing::error!("{n_rows} rows are dropped and counted: nothing can be sealed and memory is full");
        true
    }
}

impl Trouble {
    /// Says that nothing can be sealed, at first and then now and again.
    fn say(&mut self, mono_ns: u64, error: &OutboxError) {
        let is_news = self
            .said_mono_ns
            .is_none_or(|said| mono_ns.saturating_sub(said) >= nanos(SAY_AGAIN));
        if is_news {
            self.said_mono_ns = Some(mono_ns);
            tracing::error!(
                "a batch cannot be sealed, it waits in memory and nothing of it is acknowledged; \
                 free space where spool.dir is, or set another folder: {}",
                ja4_common::exit::chain(error)
            );
        }
    }
}

impl Rows for Writer {
    fn request(&mut self, row: &JoinedRequest<'_>) {
        if let Some(store) = &mut self.store {
            store.batch.request(row);
        }
        for lines in &mut self.lines {
            lines.push(|out| row.write_json(out));
        }
    }

    fn hello(&mut self, row: &TlsRecord<'_>) {
        if let Some(store) = &mut self.store {
            store.batch.hello(row);
        }
    }

    fn correction(&mut self, row: &Correction<'_>) {
        if let Some(store) = &mut self.store {
            store.batch.correction(row);
        }
        for lines in &mut self.lines {
            lines.push(|out| row.write_json(out));
        }
    }

    fn status(&mut self, head: &Head<'_>, status: &Status<'_>, producer: &Producer) {
        if let Some(store) = &mut self.store {
            store.batch.status(head, status, producer);
        }
    }

    fn settle(&mut self, origin: Origin) {
        match &mut self.store {
            Some(store) => store.batch.settle(origin),
            None => self.unsealed.push(origin),
        }
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sink() -> StoreSink {
        StoreSink {
            batch: Batch::new("ja4_logs"),
            outbox: Outbox::in_memory(1 << 20),
            policy: SealPolicy {
                rows: 100,
                bytes: 32 << 20,
                age: Duration::from_secs(1),
                sealed_is_safe: true,
            },
            token_prefix: String::new(),
            n_sealed: 0,
            stuck: None,
            trouble: Trouble::default(),
            awaiting: HashMap::new(),
            inserted_before: BTreeMap::new(),
        }
    }

    #[test]
    fn small_batches_wait_longer_while_the_store_lags_behind() {
        const SECOND: u64 = 1_000_000_000;
        let mut sink = sink();
        sink.batch.settle(Origin { boot: 0, seq: 0 });
        sink.batch.touch(7);
        assert!(!sink.is_due(7 + SECOND - 1) && sink.is_due(7 + SECOND));
        for _ in 0..=LAGGING_BATCHES {
            sink.outbox.seal(SegmentMeta::default(), b"x").unwrap();
        }
        assert!(!sink.is_due(7 + 5 * SECOND - 1) && sink.is_due(7 + 5 * SECOND));
        // A large one does not: its producers cannot keep much more.
        for seq in 0..(SMALL_BATCH_BYTES / size_of::<Origin>()) as u64 {
            sink.batch.settle(Origin { boot: 0, seq });
        }
        assert!(sink.is_due(7 + SECOND));
    }

    #[test]
    fn behind_a_batch_that_cannot_be_sealed_nothing_is_due_before_the_next_try() {
        let mut sink = sink();
        sink.batch.settle(Origin { boot: 0, seq: 0 });
        sink.batch.touch(0);
        sink.stuck = Some(Stuck {
            blocks: Vec::new(),
            payload: Vec::new(),
            origins: Vec::new(),
            retry_mono_ns: 9_000_000_000,
        });
        assert!(!sink.is_due(8_999_999_999) && sink.is_due(9_000_000_000));
    }
}
