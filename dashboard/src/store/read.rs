//! Reads the store: every question is a file of `schema/queries`, bounded in time, rows and bytes.
//!
//! Limits do not fail a query but end it early (`break`); what was cut is found by comparing what the store says it did
//! with what it was allowed, and goes into the answer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use clickhouse::Client;
use clickhouse::query::BytesCursor;
use ja4_schema::Names;
use ja4_schema::queries::Query;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use crate::api::types::{Meta, Truncated, TruncatedBy};
use crate::config::LimitsConfig;
use crate::error::ApiError;
use crate::filter::Compiled;
use crate::metrics::Metrics;
use crate::store::{api_error, unreachable};
use crate::window::{Span, now_us, rfc3339_us};

/// Beyond the time that a query has in the store, until we stop to wait: the store looks at its limit now and then.
const PATIENCE: Duration = Duration::from_secs(3);

/// Answers made whole in memory are at most so long: the embedded store has the same limit.
const MAX_RESULT_BYTES: u64 = 64 << 20;

/// Reads.
#[derive(Debug, Clone)]
pub(crate) struct Reader {
    client: Client,
    names: Names,
    limits: LimitsConfig,
    metrics: Metrics,
    turns: Arc<Semaphore>,
}

/// A question.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    query: &'static str,
    expression: String,
    params: Vec<(String, Param)>,
    max_rows: Option<u64>,
}

/// A parameter's value. Texts of a list are quoted in it, a lone text is not.
#[derive(Debug, Clone)]
enum Param {
    Text(String),
    Texts(Vec<String>),
}

impl Serialize for Param {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(text) => serializer.serialize_str(text),
            Self::Texts(texts) => serializer.collect_seq(texts),
        }
    }
}

impl Ask {
    /// The file `queries/<query>.sql`.
    pub(crate) fn new(query: &'static str) -> Self {
        Self {
            query,
            expression: "1".to_owned(),
            params: Vec::new(),
            max_rows: None,
        }
    }

    /// With a parameter, as the store takes it in text.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "numbers and texts alike, without a sign for each"
    )]
    pub(crate) fn with(mut self, name: &str, value: impl ToString) -> Self {
        self.params
            .push((name.to_owned(), Param::Text(value.to_string())));
        self
    }

    /// With a list of texts, as an array of anything that is written like a text.
    pub(crate) fn with_texts(mut self, name: &str, texts: impl IntoIterator<Item = String>) -> Self {
        self.params
            .push((name.to_owned(), Param::Texts(texts.into_iter().collect())));
        self
    }

    /// With `from` and `to`.
    pub(crate) fn during(self, span: Span) -> Self {
        self.with("from", span.from).with("to", span.to)
    }

    /// With `limit`. If so many rows come, there may be more: the answer says so.
    pub(crate) fn limit(mut self, limit: u64) -> Self {
        self.max_rows = Some(limit);
        self.with("limit", limit)
    }

    /// With an expression where the file has `{filter}`.
    pub(crate) fn filter(mut self, filter: &Compiled) -> Self {
        self.expression.clone_from(&filter.sql);
        self.params.extend(
            filter
                .params
                .iter()
                .map(|(name, value)| (name.clone(), Param::Text(value.clone()))),
        );
        self
    }
}

/// Rows, and how they came about.
#[derive(Debug)]
pub(crate) struct Answer<T> {
    /// The rows.
    pub(crate) rows: Vec<T>,
    /// What was cut.
    pub(crate) truncated: Option<Truncated>,
}

impl<T> Answer<T> {
    /// The first row, if there is one.
    pub(crate) fn first(self) -> Option<T> {
        self.rows.into_iter().next()
    }
}

/// Adds up how an answer of several questions came about.
#[derive(Debug)]
pub(crate) struct Tally {
    started: Instant,
    as_of_us: i64,
    truncated: Option<Truncated>,
}

impl Tally {
    /// Begins now.
    pub(crate) fn new() -> Self {
        Self {
            started: Instant::now(),
            as_of_us: now_us(),
            truncated: None,
        }
    }

    /// Takes the rows of an answer, and keeps what was cut of it. `Rows` is kept only where the caller says that the
    /// list is what the user asked for: a facet of ten values is not a cut list.
    pub(crate) fn take<T>(&mut self, answer: Answer<T>) -> Vec<T> {
        self.note(answer.truncated.filter(|cut| cut.by != TruncatedBy::Rows));
        answer.rows
    }

    /// The same, and rows count.
    pub(crate) fn take_list<T>(&mut self, answer: Answer<T>) -> Vec<T> {
        self.note(answer.truncated);
        answer.rows
    }

    /// Keeps a cut; the first one stays.
    pub(crate) fn note(&mut self, truncated: Option<Truncated>) {
        self.truncated = self.truncated.or(truncated);
    }

    /// For the answer.
    pub(crate) fn meta(&self) -> Meta {
        Meta {
            truncated: self.truncated,
            took_ms: u32::try_from(self.started.elapsed().as_millis()).unwrap_or(u32::MAX),
            as_of: rfc3339_us(self.as_of_us),
        }
    }
}

/// What the store says about a query: the JSON format's frame.
#[derive(Deserialize)]
struct Frame<T> {
    data: Vec<T>,
    statistics: Statistics,
}

#[derive(Deserialize)]
struct Statistics {
    #[serde(default)]
    elapsed: f64,
    #[serde(default)]
    rows_read: u64,
    #[serde(default)]
    bytes_read: u64,
}

impl Reader {
    /// Reads with this client, within these limits.
    pub(crate) fn new(client: Client, names: Names, limits: LimitsConfig, metrics: Metrics) -> Self {
        let turns = Arc::new(Semaphore::new(limits.queries_at_once));
        Self {
            client,
            names,
            limits,
            metrics,
            turns,
        }
    }

    /// Asks, and takes all rows.
    ///
    /// # Errors
    /// If the store is away, has too much to do, or refuses the query.
    pub(crate) async fn rows<T: DeserializeOwned>(&self, ask: Ask) -> Result<Answer<T>, ApiError> {
        let name = ask.query;
        let started = Instant::now();
        let result = self.ask(ask).await;
        let outcome = match &result {
            Ok(answer) if answer.truncated.is_some_and(|cut| cut.by != TruncatedBy::Rows) => "cut",
            Ok(_) => "ok",
            Err(_) => "error",
        };
        self.metrics.queries.with_label_values(&[name, outcome]).inc();
        self.metrics
            .query_seconds
            .with_label_values(&[name])
            .observe(started.elapsed().as_secs_f64());
        result
    }

    async fn ask<T: DeserializeOwned>(&self, ask: Ask) -> Result<Answer<T>, ApiError> {
        let name = ask.query;
        let max_rows = ask.max_rows;
        let _turn = self
            .turns
            .acquire()
            .await
            .map_err(|_| ApiError::internal("the queue of queries is closed"))?;
        let limit = self.limits.query_time.0;
        let query = self
            .statement(ask, limit)?
            .with_setting("max_result_bytes", MAX_RESULT_BYTES.to_string());
        let whole = async { query.fetch_bytes("JSON")?.collect().await };
        let bytes = tokio::time::timeout(limit + PATIENCE, whole)
            .await
            .map_err(|_| unreachable(&format!("{name}: no answer in time")))?
            .map_err(|error| api_error(name, &error))?;
        let frame: Frame<T> = serde_json::from_slice(&bytes).map_err(|error| {
            ApiError::internal(format!("{name}: an answer that is not as expected: {error}"))
        })?;
        let truncated = self.truncated(&frame.statistics, frame.data.len() as u64, max_rows);
        Ok(Answer {
            rows: frame.data,
            truncated,
        })
    }

    fn truncated(&self, did: &Statistics, n_rows: u64, max_rows: Option<u64>) -> Option<Truncated> {
        let limits = &self.limits;
        let cut = |by, limit| Some(Truncated { by, limit });
        let query_time = limits.query_time.0;
        if did.elapsed >= query_time.as_secs_f64() {
            cut(
                TruncatedBy::Time,
                u64::try_from(query_time.as_millis()).unwrap_or(u64::MAX),
            )
        } else if did.rows_read > limits.query_rows {
            cut(TruncatedBy::RowsRead, limits.query_rows)
        } else if did.bytes_read > limits.query_bytes.0 {
            cut(TruncatedBy::BytesRead, limits.query_bytes.0)
        } else {
            max_rows
                .filter(|max| n_rows >= *max)
                .and_then(|max| cut(TruncatedBy::Rows, max))
        }
    }

    /// Asks for a stream of JSON objects, one a line: for exports, which may be long.
    ///
    /// # Errors
    /// If the statement cannot be made; what the store says comes with the first bytes.
    pub(crate) fn stream(&self, ask: Ask) -> Result<BytesCursor, ApiError> {
        let name = ask.query;
        self.metrics.queries.with_label_values(&[name, "stream"]).inc();
        self.statement(ask, self.limits.export_time.0)?
            .fetch_bytes("JSONEachRow")
            .map_err(|error| api_error(name, &error))
    }

    #[expect(clippy::needless_pass_by_value, reason = "a question is asked once")]
    fn statement(&self, ask: Ask, time: Duration) -> Result<clickhouse::query::Query, ApiError> {
        let name = ask.query;
        let query =
            Query::named(name).ok_or_else(|| ApiError::internal(format!("there is no query {name}")))?;
        let sql = query.sql_where(&self.names, &ask.expression);
        let limits = &self.limits;
        let mut statement = self.client.query_raw(&sql);
        for (setting, value) in [
            ("max_execution_time", time.as_secs_f64().to_string()),
            ("timeout_overflow_mode", "break".to_owned()),
            ("max_rows_to_read", limits.query_rows.to_string()),
            ("max_bytes_to_read", limits.query_bytes.0.to_string()),
            ("read_overflow_mode", "break".to_owned()),
            // Times with their zone, numbers as numbers, what is no text as the sign for that.
            ("date_time_output_format", "iso".to_owned()),
            ("output_format_json_quote_64bit_integers", "0".to_owned()),
            ("output_format_json_quote_denormals", "0".to_owned()),
            ("output_format_json_validate_utf8", "1".to_owned()),
            ("output_format_json_escape_forward_slashes", "0".to_owned()),
            // Sets of clients are made once, also on a cluster.
            ("distributed_product_mode", "global".to_owned()),
        ] {
            statement = statement.with_setting(setting, value);
        }
        for (name, value) in &ask.params {
            statement = statement.param(name, value);
        }
        Ok(statement)
    }

    /// True if the store answers at all.
    ///
    /// # Errors
    /// Why it does not.
    pub(crate) async fn ping(&self) -> Result<(), ApiError> {
        let query = self.client.query_raw("SELECT 1");
        match tokio::time::timeout(Duration::from_secs(3), query.execute()).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(api_error("ping", &error)),
            Err(_) => Err(unreachable("ping: no answer in 3 s")),
        }
    }
}

/// Numbers as the store reads an array.
pub(crate) fn array<T: ToString>(values: impl IntoIterator<Item = T>) -> String {
    let values: Vec<String> = values.into_iter().map(|value| value.to_string()).collect();
    format!("[{}]", values.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_are_written_as_the_store_reads_them() {
        assert_eq!(array([1, 2]), "[1,2]");
        assert_eq!(array::<u8>([]), "[]");
    }

    #[test]
    fn what_was_cut_is_found() {
        let reader = Reader::new(
            Client::default(),
            Names::default(),
            LimitsConfig::default(),
            Metrics::register(&prometheus::Registry::new()).unwrap(),
        );
        let did = |elapsed, rows_read, bytes_read| Statistics {
            elapsed,
            rows_read,
            bytes_read,
        };
        let by = |did: &Statistics, n, max| reader.truncated(did, n, max).map(|cut| cut.by);
        assert_eq!(by(&did(0.1, 10, 10), 5, None), None);
        assert_eq!(by(&did(0.1, 10, 10), 5, Some(6)), None);
        assert_eq!(by(&did(0.1, 10, 10), 6, Some(6)), Some(TruncatedBy::Rows));
        assert_eq!(by(&did(10.0, 10, 10), 6, Some(6)), Some(TruncatedBy::Time));
        assert_eq!(
            by(&did(0.1, 200_000_001, 10), 1, None),
            Some(TruncatedBy::RowsRead)
        );
        assert_eq!(by(&did(0.1, 1, u64::MAX), 1, None), Some(TruncatedBy::BytesRead));
    }
}
