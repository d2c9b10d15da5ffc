//! Sends sealed segments to ClickHouse, each block with its token, again until it is there.
//!
//! A block that the store refuses for its content is halved until the bad rows are alone; those go
//! to `quarantine` with the store's words, the rest goes on. Halves have tokens made from the
//! block's, so that the same halving after a crash is recognised too.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use clickhouse::Client;
use ja4_common::Shutdown;
use ja4_common::admin::Admin;
use ja4_common::clickhouse::{ClientError, StoreConfig, Trouble, error_code};
use ja4_model::EventId;
use ja4_schema::native::{self, Block};
use ja4_schema::rows::{QuarantineBlock, QuarantinedRow};

use crate::batch::BlockMeta;
use crate::metrics::Metrics;
use crate::outbox::{Outbox, Outgoing};
use crate::report::Reporter;

/// First and longest pause between tries while the store is away.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(5);

/// Longest time for one insert: 100 000 rows through all views take about a second on one core.
const INSERT_TIMEOUT: Duration = Duration::from_mins(1);

/// Longest time for an answer to no question at all.
const ASK_TIMEOUT: Duration = Duration::from_secs(5);

/// While the store takes nothing for one and the same reason, that is said again so often.
const SAY_AGAIN: Duration = Duration::from_mins(1);

/// A store that is busy for less is none of anybody's business.
const BUSY_AT_LEAST: Duration = Duration::from_secs(10);

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
    Other(Trouble, String),
}

/// Makes [`Sender`].
pub(crate) struct SenderParts {
    pub(crate) store: StoreConfig,
    pub(crate) outbox: Outbox,
    pub(crate) admin: Arc<Admin>,
    pub(crate) metrics: Metrics,
    /// Told how the store is.
    pub(crate) report: Reporter,
    /// Asked for by the process: from then on a store that is away ends the sending.
    pub(crate) shutdown: Shutdown,
    /// Called when a segment is done.
    pub(crate) notify: Box<dyn Fn() + Send>,
}

/// Sends what the outbox holds.
pub(crate) struct Sender {
    parts: SenderParts,
    client: RefCell<Client>,
    trouble: Cell<Option<Lasting>>,
}

/// A trouble that lasts.
#[derive(Debug, Clone, Copy)]
struct Lasting {
    trouble: Trouble,
    since: Instant,
    /// When it was said last.
    said: Option<Instant>,
}

impl std::fmt::Debug for Sender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sender")
            .field("outbox", &self.parts.outbox)
            .finish_non_exhaustive()
    }
}

impl Sender {
    /// A sender with the token as it is in its file now.
    ///
    /// # Errors
    /// If the file cannot be read or is open to everybody.
    pub(crate) fn new(parts: SenderParts) -> Result<Self, ClientError> {
        Ok(Self {
            client: RefCell::new(parts.store.client()?),
            parts,
            trouble: Cell::new(None),
        })
    }

    /// Sends until the outbox is closed and empty, or the store is away after shutdown was asked for.
    pub(crate) async fn run(&self) {
        while let Some(outgoing) = self.next().await {
            if let Some(refused) = self.send(&outgoing).await {
                self.parts.outbox.done(outgoing.id, &refused);
                (self.parts.notify)();
            } else {
                self.parts.outbox.release();
                return;
            }
        }
    }

    /// The next segment; while there is none, whether the store answers.
    async fn next(&self) -> Option<Outgoing> {
        loop {
            if !self.store_is_ready() {
                self.ask().await;
            }
            if let Some(outgoing) = self.parts.outbox.next(Duration::from_millis(200)) {
                return Some(outgoing);
            }
            if self.parts.outbox.is_closed() {
                return None;
            }
        }
    }

    /// Asks the store for nothing: it answers if it is there and knows us.
    async fn ask(&self) {
        let client = self.client.borrow().clone();
        let Ok(answer) = tokio::time::timeout(ASK_TIMEOUT, client.query("SELECT 1").execute()).await else {
            self.say(Trouble::Away, "it takes connections and does not answer");
            return;
        };
        match answer {
            Ok(()) => self.settle_trouble(),
            Err(error) => match classify(&error) {
                Refusal::Content(reason) => self.say(Trouble::Other, &reason),
                Refusal::Other(trouble, reason) => {
                    self.say(trouble, &reason);
                    if matches!(trouble, Trouble::Credentials | Trouble::Tls) {
                        self.read_files_again();
                    }
                }
            },
        }
    }

    fn store_is_ready(&self) -> bool {
        self.parts
            .admin
            .unready()
            .iter()
            .all(|(condition, _)| *condition != "store")
    }

    fn settle_trouble(&self) {
        self.parts.admin.set_ready("store");
        self.parts.report.store(None, "");
        if self.trouble.take().is_some_and(|lasting| lasting.said.is_some()) {
            tracing::info!("store {} takes batches again", self.parts.store.url);
        }
    }

    /// Says why the store takes nothing and what mends it: once for each trouble, and then now and again.
    fn say(&self, trouble: Trouble, reason: &str) {
        self.parts.admin.set_unready("store", reason);
        self.parts.report.store(Some(trouble.name()), reason);
        let now = Instant::now();
        let mut lasting = match self.trouble.get() {
            Some(lasting) if lasting.trouble == trouble => lasting,
            before => Lasting {
                trouble,
                since: now,
                // What was said of another trouble ends with one line too.
                said: before
                    .and_then(|before| before.said)
                    .filter(|_| trouble == Trouble::Busy),
            },
        };
        let is_due = match lasting.said {
            Some(said) => now.duration_since(said) >= SAY_AGAIN,
            None => trouble != Trouble::Busy || now.duration_since(lasting.since) >= BUSY_AT_LEAST,
        };
        if is_due {
            lasting.said = Some(now);
        }
        self.trouble.set(Some(lasting));
        if !is_due {
            return;
        }
        let store = &self.parts.store;
        let remedy = match trouble {
            Trouble::Away => "see that it runs, or set store.connection.url".to_owned(),
            Trouble::Tls => "put the certificate of its issuer into store.connection.ca_file".to_owned(),
            Trouble::Credentials => match &store.token_file {
                Some(path) => format!(
                    "put the token of user {:?} into {}, it is read again at each try",
                    store.user,
                    path.display()
                ),
                None => format!("set store.connection.token_file for user {:?}", store.user),
            },
            Trouble::Rights => format!(
                "give user {:?} the right to insert into {}",
                store.user, store.logs_database
            ),
            Trouble::Schema => format!("run `ja4 schema apply --url {}`", store.url),
            Trouble::ReadOnly => "let it or its table take rows again".to_owned(),
            Trouble::Space => "free space on the store's disk".to_owned(),
            Trouble::Busy => "if this stays, give it more memory or processors".to_owned(),
            Trouble::Other => "see the store's log".to_owned(),
        };
        tracing::warn!(
            "store {} takes no batches, they are kept and sent again; {remedy}: {}",
            store.url,
            reason.trim_end()
        );
    }

    /// After a refusal of the credentials, ours or the store's: they may have been mended meanwhile.
    fn read_files_again(&self) {
        match self.parts.store.client() {
            Ok(client) => *self.client.borrow_mut() = client,
            Err(error) => self.say(Trouble::Credentials, &ja4_common::exit::chain(&error)),
        }
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
            event_id: event_id(&row_json),
            reason,
            row_json: &row_json,
        });
        let mut bytes = Vec::new();
        quarantine.finish(&mut bytes);
        let sql = QuarantineBlock::insert_sql(&self.parts.store.logs_database);
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
                    self.settle_trouble();
                    self.parts.metrics.inserts.inc();
                    return Some(Ok(()));
                }
                Err(Refusal::Content(reason)) => return Some(Err(reason)),
                Err(Refusal::Other(trouble, reason)) => {
                    self.say(trouble, &reason);
                    self.parts.metrics.insert_retries.inc();
                    if self.parts.shutdown.is_requested() {
                        return None;
                    }
                    if matches!(trouble, Trouble::Credentials | Trouble::Tls) {
                        self.read_files_again();
                    }
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(RETRY_MAX);
                }
            }
        }
    }

    async fn insert(&self, sql: &str, token: &str, body: Bytes) -> Result<(), Refusal> {
        let client = self.client.borrow().clone();
        let mut insert = client
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
        _ => Refusal::Other(Trouble::of(error), text),
    }
}

/// Identity of the event that a row came from, all zero if the row has none.
fn event_id(row_json: &[u8]) -> EventId {
    #[derive(Default, serde::Deserialize)]
    #[serde(default)]
    struct Id {
        boot: Number,
        seq: Number,
    }
    /// A number, or a number in quotes as large ones are written.
    #[derive(serde::Deserialize)]
    #[serde(untagged)]
    enum Number {
        Plain(u64),
        Quoted(String),
    }
    impl Default for Number {
        fn default() -> Self {
            Self::Plain(0)
        }
    }
    let number = |number: Number| match number {
        Number::Plain(n) => n,
        Number::Quoted(text) => text.parse().unwrap_or(0),
    };
    // A row that cannot be read is in quarantine all the same; its identity is only a convenience.
    let id: Id = serde_json::from_slice(row_json).unwrap_or_default();
    EventId {
        boot: ja4_model::BootId(number(id.boot)),
        seq: number(id.seq),
    }
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
