//! Rows on their way to the store: collected by table, sealed together with what a restart must know.

use ja4_model::{Correction, Head, JoinedRequest, Status, TlsRecord};
use ja4_schema::native::Block;
use ja4_schema::rows::{
    HttpLogsBlock, JoinCorrectionsBlock, SourceStatusBlock, SourceStatusRow, TlsLogsBlock,
};
use serde::{Deserialize, Serialize};

use crate::payload::Origin;
use crate::settlement::{Mark, Producer};
use crate::totals::Totals;

/// What a sealed segment says of itself. A new field needs a default: after an upgrade the segments of the version
/// before are read.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct SegmentMeta {
    /// Producers, as of the sealing.
    pub(crate) marks: Vec<Mark>,
    /// Counts, as of the sealing.
    pub(crate) totals: Totals,
    /// The blocks, in the order in which they lie in the payload.
    pub(crate) blocks: Vec<BlockMeta>,
}

/// One block of a segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BlockMeta {
    pub(crate) table: String,
    /// Deduplication token: the same block goes with the same token however often it is sent.
    pub(crate) token: String,
    /// The statement that takes the block as its body.
    pub(crate) sql: String,
    pub(crate) rows: u64,
    pub(crate) bytes: usize,
}

/// Rows that are not sealed yet.
#[derive(Debug)]
pub(crate) struct Batch {
    logs_database: String,
    http: HttpLogsBlock,
    tls: TlsLogsBlock,
    corrections: JoinCorrectionsBlock,
    status: SourceStatusBlock,
    origins: Vec<Origin>,
    /// When the first row or event of the batch came, on the monotonic clock.
    opened_mono_ns: Option<u64>,
}

impl Batch {
    /// An empty batch for tables in `logs_database`.
    pub(crate) fn new(logs_database: &str) -> Self {
        Self {
            logs_database: logs_database.to_owned(),
            http: HttpLogsBlock::new(),
            tls: TlsLogsBlock::new(),
            corrections: JoinCorrectionsBlock::new(),
            status: SourceStatusBlock::new(),
            origins: Vec::new(),
            opened_mono_ns: None,
        }
    }

    pub(crate) fn request(&mut self, row: &JoinedRequest<'_>) {
        self.http.push(row);
    }

    pub(crate) fn hello(&mut self, row: &TlsRecord<'_>) {
        self.tls.push(row);
    }

    pub(crate) fn correction(&mut self, row: &Correction<'_>) {
        self.corrections.push(row);
    }

    pub(crate) fn status(&mut self, head: &Head<'_>, status: &Status<'_>, producer: &Producer) {
        self.status.push(&SourceStatusRow {
            head,
            status,
            received: producer.received(),
            lost: producer.lost(),
            duplicates: producer.duplicates,
        });
    }

    pub(crate) fn settle(&mut self, origin: Origin) {
        self.origins.push(origin);
    }

    /// Notes that the batch has something in it since now.
    pub(crate) fn touch(&mut self, mono_ns: u64) {
        if self.opened_mono_ns.is_none() && !self.is_empty() {
            self.opened_mono_ns = Some(mono_ns);
        }
    }

    pub(crate) fn opened_mono_ns(&self) -> Option<u64> {
        self.opened_mono_ns
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.origins.is_empty() && self.n_rows() == 0
    }

    /// Rows of all tables.
    pub(crate) fn n_rows(&self) -> usize {
        self.http.n_rows() + self.tls.n_rows() + self.corrections.n_rows() + self.status.n_rows()
    }

    pub(crate) fn n_requests(&self) -> u64 {
        self.http.n_rows() as u64
    }

    pub(crate) fn n_hellos(&self) -> u64 {
        self.tls.n_rows() as u64
    }

    /// Bytes of all tables.
    pub(crate) fn bytes(&self) -> usize {
        self.http.approx_bytes()
            + self.tls.approx_bytes()
            + self.corrections.approx_bytes()
            + self.status.approx_bytes()
            + self.origins.len() * size_of::<Origin>()
    }

    /// Turns the rows into blocks and empties the batch. `token` is unique for ever.
    pub(crate) fn finish(&mut self, token: &str) -> (Vec<BlockMeta>, Vec<u8>, Vec<Origin>) {
        let mut metas = Vec::new();
        let mut payload = Vec::new();
        let logs = &self.logs_database;
        finish_block(&mut self.http, logs, token, &mut metas, &mut payload);
        finish_block(&mut self.tls, logs, token, &mut metas, &mut payload);
        finish_block(&mut self.corrections, logs, token, &mut metas, &mut payload);
        finish_block(&mut self.status, logs, token, &mut metas, &mut payload);
        self.opened_mono_ns = None;
        (metas, payload, std::mem::take(&mut self.origins))
    }
}

fn finish_block<B: Block>(
    block: &mut B,
    logs: &str,
    token: &str,
    metas: &mut Vec<BlockMeta>,
    payload: &mut Vec<u8>,
) {
    let rows = block.n_rows() as u64;
    if rows == 0 {
        return;
    }
    let start = payload.len();
    block.finish(payload);
    metas.push(BlockMeta {
        table: B::TABLE.to_owned(),
        token: format!("{token}-{}", B::TABLE),
        sql: B::insert_sql(logs),
        rows,
        bytes: payload.len() - start,
    });
}
