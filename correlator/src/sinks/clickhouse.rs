//! Sends sealed segments to ClickHouse, each block with its token, again until it is there.
//!
//! A block that the store refuses for its content is halved until the bad rows are alone; those go
//! to `quarantine` with the store's words, the rest goes on. Halves have tokens made from the
//! block's, so that the same halving after a crash is recognised too.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use clickhouse::Client;
use ja4_common::Shutdown;
use ja4_common::admin::Admin;
use ja4_model::EventId;
use ja4_schema::native::{self, Block};
use ja4_schema::rows::{QuarantineBlock, QuarantinedRow};

use crate::batch::BlockMeta;
use crate::metrics::Metrics;
use crate::outbox::{Outbox, Outgoing};

/// First and longest pause between tries while the store is away.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(5);

/// Longest time for one insert: 100 000 rows through all views take about a second on one core.
const INSERT_TIMEOUT: Duration = Duration::from_mins(1);

/// Errors of the store that are about the rows themselves. Source: `ErrorCodes.cpp` of ClickHouse.
const CONTENT_ERRORS: [u32; 16] = [
    6,   // CANNOT_PARSE_TEXT
    26,  // CANNOT_PARSE_QUOTED_STRING
    27,  // CANNOT_PARSE_INPUT_ASSERTION_FAILED
    32,  // ATTEMPT_TO_READ_AFTER_EOF
    33,  // CANNOT_READ_ALL_DATA
    36,  // BAD_ARGUMENTS
    38,  // CANNOT_PARSE_DATE
    41,  // CANNOT_PARSE_DATETIME
    53,  // TYPE_MISMATCH
    69,  // ARGUMENT_OUT_OF_BOUND
    70,  // CANNOT_CONVERT_TYPE
    117, // INCORRECT_DATA
    131, // TOO_LARGE_STRING_SIZE
    321, // VALUE_IS_OUT_OF_RANGE_OF_DATA_TYPE
    395, // FUNCTION_THROW_IF_VALUE_IS_NON_ZERO
    469, // VIOLATED_CONSTRAINT
];

/// What the store said to an insert.
#[derive(Debug)]
enum Refusal {
    /// The rows are at fault.
    Content(String),
    /// Anything else: it may pass.
    Other(String),
}

/// The sender's surroundings.
pub(crate) struct Sender {
    pub(crate) client: Client,
    pub(crate) logs_database: String,
    pub(crate) outbox: Outbox,
    pub(crate) admin: Arc<Admin>,
    pub(crate) metrics: Metrics,
    /// Asked for by the process: from then on a store that is away ends the sending.
    pub(crate) shutdown: Shutdown,
    /// Called when a segment is done.
    pub(crate) notify: Box<dyn Fn() + Send>,
}

impl std::fmt::Debug for Sender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sender")
            .field("outbox", &self.outbox)
            .finish_non_exhaustive()
    }
}

impl Sender {
    /// Sends until the outbox is closed and empty, or the store is away after shutdown was asked for.
    pub(crate) async fn run(&self) {
        while let Some(outgoing) = self.next().await {
            if let Some(refused) = self.send(&outgoing).await {
                self.outbox.done(outgoing.id, &refused);
                (self.notify)();
            } else {
                self.outbox.release();
                return;
            }
        }
    }

    /// The next segment; while there is none, whether the store answers.
    async fn next(&self) -> Option<Outgoing> {
        loop {
            if !self.store_is_ready() && self.client.query("SELECT 1").execute().await.is_ok() {
                self.admin.set_ready("store");
            }
            if let Some(outgoing) = self.outbox.next(Duration::from_millis(200)) {
                return Some(outgoing);
            }
            if self.outbox.is_closed() {
                return None;
            }
        }
    }

    fn store_is_ready(&self) -> bool {
        self.admin
            .unready()
            .iter()
            .all(|(condition, _)| *condition != "store")
    }

    /// Rows that were refused, by table; nothing if the sending was given up.
    async fn send(&self, outgoing: &Outgoing) -> Option<BTreeMap<String, u64>> {
        let mut refused = BTreeMap::new();
        let mut rest = Bytes::from(outgoing.payload.to_vec());
        for block in &outgoing.meta.blocks {
            if block.bytes > rest.len() {
                tracing::error!(
                    "segment {} is shorter than it says: its block of {} is left out",
                    outgoing.id,
                    block.table
                );
                *refused.entry(block.table.clone()).or_insert(0) += block.rows;
                continue;
            }
            let body = rest.split_to(block.bytes);
            let n_refused = self.send_block(block, body).await?;
            if n_refused > 0 {
                *refused.entry(block.table.clone()).or_insert(0) += n_refused;
            }
        }
        Some(refused)
    }

    /// Sends a block, halving it where the store refuses its content. Gives the number of refused rows.
    async fn send_block(&self, block: &BlockMeta, body: Bytes) -> Option<u64> {
        let mut n_refused = 0;
        // Depth first; the path of halves is part of the token. At most 17 levels for 100 000 rows.
        let mut todo = vec![(body, block.token.clone(), 0_u32)];
        while let Some((body, token, first_row)) = todo.pop() {
            let Err(reason) = self.insert_until_decided(&block.sql, &token, &body).await? else {
                continue;
            };
            match native::n_rows(&body) {
                Ok(n_rows) if n_rows > 1 => {
                    let half = n_rows / 2;
                    match (native::cut(&body, 0..half), native::cut(&body, half..n_rows)) {
                        (Ok(left), Ok(right)) => {
                            let offset = u32::try_from(half).unwrap_or(u32::MAX);
                            todo.push((
                                right.into(),
                                format!("{token}/1"),
                                first_row.saturating_add(offset),
                            ));
                            todo.push((left.into(), format!("{token}/0"), first_row));
                        }
                        (Err(error), _) | (_, Err(error)) => {
                            tracing::error!(
                                "block {token} cannot be cut, its {n_rows} rows are refused: {error}"
                            );
                            n_refused += n_rows as u64;
                        }
                    }
                }
                Ok(_) => {
                    self.quarantine(block, &token, first_row, &body, &reason).await?;
                    n_refused += 1;
                }
                Err(error) => {
                    tracing::error!(
                        "block {token} is malformed, its {} rows are refused: {error}",
                        block.rows
                    );
                    return Some(block.rows);
                }
            }
        }
        if n_refused > 0 {
            tracing::warn!(
                "{n_refused} of {} rows for {} were refused by the store and are in quarantine",
                block.rows,
                block.table
            );
        }
        Some(n_refused)
    }

    async fn quarantine(
        &self,
        block: &BlockMeta,
        token: &str,
        row_idx: u32,
        body: &[u8],
        reason: &str,
    ) -> Option<()> {
        let row_json = native::row_json(body, 0)
            .unwrap_or_else(|error| format!("{{\"unreadable\":\"{error}\"}}").into());
        let mut quarantine = QuarantineBlock::new();
        quarantine.push(&QuarantinedRow {
            refused_ns: crate::clock::wall_ns(),
            table: &block.table,
            batch: token,
            row_idx,
            event_id: EventId::default(),
            reason,
            row_json: &row_json,
        });
        let mut bytes = Vec::new();
        quarantine.finish(&mut bytes);
        let sql = QuarantineBlock::insert_sql(&self.logs_database);
        let token = format!("{token}-quarantine");
        if let Err(reason) = self.insert_until_decided(&sql, &token, &bytes.into()).await? {
            tracing::error!("quarantine refuses a row too, it is only counted: {reason}");
        }
        Some(())
    }

    /// Inserts, again while the store is away. `Some(Err)` if it refuses the content, nothing if given up.
    async fn insert_until_decided(&self, sql: &str, token: &str, body: &Bytes) -> Option<Result<(), String>> {
        let mut pause = RETRY_FIRST;
        loop {
            match self.insert(sql, token, body.clone()).await {
                Ok(()) => {
                    self.admin.set_ready("store");
                    self.metrics.inserts.inc();
                    return Some(Ok(()));
                }
                Err(Refusal::Content(reason)) => return Some(Err(reason)),
                Err(Refusal::Other(reason)) => {
                    if self
                        .admin
                        .unready()
                        .iter()
                        .all(|(condition, _)| *condition != "store")
                    {
                        tracing::warn!("store does not take a batch, it is kept and sent again: {reason}");
                    }
                    self.admin.set_unready("store", &reason);
                    self.metrics.insert_retries.inc();
                    if self.shutdown.is_requested() {
                        tracing::warn!("store is away at the end: what is not sent stays in the spool");
                        return None;
                    }
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(RETRY_MAX);
                }
            }
        }
    }

    async fn insert(&self, sql: &str, token: &str, body: Bytes) -> Result<(), Refusal> {
        let mut insert = self
            .client
            .insert_formatted_with(sql)
            .with_timeouts(Some(INSERT_TIMEOUT), Some(INSERT_TIMEOUT))
            .with_setting("insert_deduplication_token", token)
            .with_setting("deduplicate_blocks_in_dependent_materialized_views", "1")
            .with_setting("deduplicate_insert", "enable")
            .with_setting("async_insert", "0")
            // One block a batch, the same one each time.
            .with_setting("max_insert_block_size", "1048576")
            .with_setting("min_insert_block_size_rows", "1048576")
            .with_setting("min_insert_block_size_bytes", "1073741824");
        let sent = insert.send(body).await;
        let ended = insert.end().await;
        match ended.and(sent) {
            Ok(()) => Ok(()),
            Err(error) => Err(classify(&error)),
        }
    }
}

fn classify(error: &clickhouse::error::Error) -> Refusal {
    let text = ja4_common::exit::chain(error);
    match error {
        clickhouse::error::Error::BadResponse(answer)
            if error_code(answer).is_some_and(|code| CONTENT_ERRORS.contains(&code)) =>
        {
            Refusal::Content(text)
        }
        _ => Refusal::Other(text),
    }
}

/// The number in `Code: 117. DB::Exception: …`.
fn error_code(answer: &str) -> Option<u32> {
    let rest = &answer[answer.find("Code: ")? + 6..];
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest[..end].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_errors_about_the_rows_lead_to_quarantine() {
        let classify = |text: &str| {
            matches!(
                classify(&clickhouse::error::Error::BadResponse(text.into())),
                Refusal::Content(_)
            )
        };
        assert!(classify("Code: 117. DB::Exception: bad row"));
        assert!(!classify("Code: 60. DB::Exception: no such table"));
        assert!(!classify("Code: 241. DB::Exception: memory limit"));
        assert!(!classify("gateway timeout"));
    }
}
