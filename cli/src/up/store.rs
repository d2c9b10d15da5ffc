//! What `ja4 up` asks of the store: migrations at the start, and at the end what it really has.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use ja4_schema::Store;
use ja4_schema::queries::Query;

use super::detection::{self, Client, Detection};
use super::ledger::StoreCounts;

/// Clients that are ranked at most: the demo has some hundreds.
const CLIENTS_MAX: u32 = 5_000;

/// The store of this pipeline, spoken to with the migrator's token.
pub(crate) struct StoreAccess {
    runtime: tokio::runtime::Runtime,
    store: Store,
    started: SystemTime,
    /// Rows by table before this run wrote any.
    rows_before: BTreeMap<String, u64>,
}

impl StoreAccess {
    /// Makes what is needed to speak; nothing is sent yet.
    ///
    /// # Errors
    /// When the operating system has no means for it.
    pub(crate) fn new(store: Store) -> anyhow::Result<Self> {
        Ok(Self {
            runtime: crate::schema::runtime()?,
            store,
            started: SystemTime::now(),
            rows_before: BTreeMap::new(),
        })
    }

    /// Applies the migrations; how many steps were applied.
    ///
    /// # Errors
    /// When a migration fails, with what to do.
    pub(crate) fn migrate(&self) -> anyhow::Result<usize> {
        crate::schema::apply(&self.runtime, &self.store)
    }

    /// Counts what is there: what comes from now on is this run's.
    ///
    /// # Errors
    /// When the store does not answer.
    pub(crate) fn begin_counting(&mut self) -> anyhow::Result<()> {
        self.rows_before = self.rows()?;
        self.started = SystemTime::now();
        Ok(())
    }

    /// What this run added, and whether each event is there once and on its own connection.
    ///
    /// # Errors
    /// When the store does not answer.
    pub(crate) fn counts(&self) -> anyhow::Result<StoreCounts> {
        let mut rows = self.rows()?;
        for (table, n) in &mut rows {
            *n = n.saturating_sub(self.rows_before.get(table).copied().unwrap_or(0));
        }
        let started = self.started_s();
        let from: [(&str, &str); 1] = [("from", &started)];
        let duplicates = number(&self.query("ledger_duplicates", &from)?, 0)?;
        let pairs = self.query("ledger_wrong", &from)?;
        let wrong = if number(&pairs, 0)? == 0 {
            None
        } else {
            Some(number(&pairs, 1)?)
        };
        Ok(StoreCounts {
            rows,
            duplicates,
            wrong,
            ..StoreCounts::default()
        })
    }

    /// What the detector made of the clients since this run began: the summary's part, and all clients in order.
    ///
    /// # Errors
    /// When the store does not answer.
    pub(crate) fn detection(&self) -> anyhow::Result<(Detection, Vec<Client>)> {
        let started = self.started_s();
        let cycles = self.query("summary_cycles", &[("from", &started)])?;
        let limit = CLIENTS_MAX.to_string();
        let clients = self.query("summary_clients", &[("from", &started), ("limit", &limit)])?;
        detection::read(&cycles, &clients)
    }

    fn started_s(&self) -> String {
        let since = self.started.duration_since(UNIX_EPOCH).unwrap_or_default();
        since.as_secs().to_string()
    }

    fn rows(&self) -> anyhow::Result<BTreeMap<String, u64>> {
        let rows = self.query("ledger_rows", &[])?;
        rows.iter()
            .map(|row| {
                let [table, n] = &row[..] else {
                    anyhow::bail!("ledger_rows answered a row of {} columns", row.len())
                };
                Ok((
                    table.clone(),
                    n.parse()
                        .with_context(|| format!("ledger_rows counted {n:?} rows"))?,
                ))
            })
            .collect()
    }

    fn query(&self, name: &str, params: &[(&str, &str)]) -> anyhow::Result<Vec<Vec<String>>> {
        let query = Query::named(name).with_context(|| format!("there is no query {name}"))?;
        self.runtime
            .block_on(self.store.rows(query.text(), params))
            .with_context(|| format!("the store did not answer {name}"))
    }
}

/// A number in the first row of an answer.
fn number(rows: &[Vec<String>], column: usize) -> anyhow::Result<u64> {
    let text = rows
        .first()
        .and_then(|row| row.get(column))
        .context("the store answered no row")?;
    text.parse()
        .with_context(|| format!("the store answered {text:?} where a number belongs"))
}
