//! A ClickHouse server with the names of our databases on it: runs statements and reads small answers.

use ::clickhouse::{Client, Compression};
use serde::Serialize;

use crate::names::Names;

/// Where the schema is, and as whom.
#[derive(Clone)]
pub struct Store {
    client: Client,
    names: Names,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Store({:?})", self.names)
    }
}

/// A statement failed: which, and what the server said.
#[derive(Debug, thiserror::Error)]
#[error("statement `{statement}` failed")]
pub struct StatementError {
    /// First characters of the statement.
    pub statement: String,
    /// What the client or the server said.
    #[source]
    pub source: ::clickhouse::error::Error,
}

/// A query's parameter, `{name:Type}`, as text.
pub type Param<'p> = (&'p str, &'p str);

impl Store {
    /// A store at `url`, `http://127.0.0.1:8123`, without authentication.
    pub fn new(url: &str, names: Names) -> Self {
        Self::with_client(Client::default().with_url(url), names)
    }

    /// A store behind a client that already knows address and credentials.
    pub fn with_client(client: Client, names: Names) -> Self {
        // Statements and answers are small and mostly on the loopback interface.
        Self {
            client: client.with_compression(Compression::None),
            names,
        }
    }

    /// The same server with other databases.
    #[must_use]
    pub fn with_names(&self, names: Names) -> Self {
        Self {
            client: self.client.clone(),
            names,
        }
    }

    /// The databases.
    pub fn names(&self) -> &Names {
        &self.names
    }

    /// The client.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Runs a statement, placeholders expanded.
    ///
    /// # Errors
    /// If the server cannot be reached or refuses the statement.
    pub async fn execute(&self, sql: &str) -> Result<(), StatementError> {
        let sql = self.names.expand(sql);
        let mut query = self.client.query_raw(&sql);
        if self.names.cluster().is_some() {
            // An append that another server does not see yet must not be overlooked: the lock relies on it.
            query = query
                .with_setting("insert_quorum", "auto")
                .with_setting("insert_quorum_parallel", "0");
        }
        query.execute().await.map_err(|source| failed(&sql, source))
    }

    /// Rows of a query, every value as the server writes it into text; placeholders expanded.
    ///
    /// # Errors
    /// If the server cannot be reached, refuses the query or answers with something else.
    pub async fn rows(&self, sql: &str, params: &[Param<'_>]) -> Result<Vec<Vec<String>>, StatementError> {
        let sql = self.names.expand(sql);
        let mut query = self.client.query_raw(&sql);
        for (name, value) in params {
            query = query.param(name, Raw(value));
        }
        if self.names.cluster().is_some() {
            query = query.with_setting("select_sequential_consistency", "1");
        }
        let bytes = async { query.fetch_bytes("JSONCompactStringsEachRow")?.collect().await }
            .await
            .map_err(|source| failed(&sql, source))?;
        serde_json::Deserializer::from_slice(&bytes)
            .into_iter()
            .collect::<Result<_, _>>()
            .map_err(|source| failed(&sql, ::clickhouse::error::Error::Other(Box::new(source))))
    }

    /// The single value of a query that gives one.
    ///
    /// # Errors
    /// As [`Self::rows`]; a query without rows gives `None`.
    pub async fn value(&self, sql: &str, params: &[Param<'_>]) -> Result<Option<String>, StatementError> {
        Ok(self
            .rows(sql, params)
            .await?
            .into_iter()
            .next()
            .and_then(|row| row.into_iter().next()))
    }

    /// Inserts a few rows into a table of the processing database, each a map of columns; those left out get their default.
    ///
    /// # Errors
    /// If a row has no JSON form, the server cannot be reached or refuses a row.
    pub async fn insert_rows<T: Serialize>(&self, table: &str, rows: &[T]) -> Result<(), StatementError> {
        let sql = format!(
            "INSERT INTO `{}`.`{table}` FORMAT JSONEachRow",
            self.names.processing()
        );
        let mut body = Vec::new();
        for row in rows {
            serde_json::to_writer(&mut body, row)
                .map_err(|source| failed(&sql, ::clickhouse::error::Error::Other(Box::new(source))))?;
            body.push(b'\n');
        }
        self.insert_block(&sql, body, None).await
    }

    /// Sends a finished Native block as the body of `insert_sql`, with a deduplication token where one is given.
    ///
    /// # Errors
    /// If the server cannot be reached or refuses the block.
    pub async fn insert_block(
        &self,
        insert_sql: &str,
        block: Vec<u8>,
        token: Option<&str>,
    ) -> Result<(), StatementError> {
        let mut insert = self.client.insert_formatted_with(insert_sql.to_owned());
        insert = insert.with_setting("async_insert", "0");
        if let Some(token) = token {
            insert = insert
                .with_setting("insert_deduplication_token", token)
                .with_setting("deduplicate_insert", "enable")
                .with_setting("deduplicate_blocks_in_dependent_materialized_views", "1");
        }
        async {
            insert.send(block.into()).await?;
            insert.end().await
        }
        .await
        .map_err(|source| failed(insert_sql, source))
    }
}

fn failed(sql: &str, source: ::clickhouse::error::Error) -> StatementError {
    // Enough to find the statement: its head names the object.
    const SHOWN: usize = 100;
    let mut statement: String = sql
        .chars()
        .take(SHOWN)
        .map(|c| if c.is_whitespace() { ' ' } else { c })
        .collect();
    if sql.chars().nth(SHOWN).is_some() {
        statement.push('…');
    }
    StatementError { statement, source }
}

/// A parameter that is already text.
struct Raw<'t>(&'t str);

impl Serialize for Raw<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0)
    }
}
