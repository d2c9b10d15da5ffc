//! What the detector reads from the store and writes into it, as values of its own.
//!
//! Reading: one stream for each shard of a window, small answers as text. Writing: one insert for each table, window and shard,
//! under a token made of the cycle's id, so that a cycle that is repeated after a crash writes nothing twice.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use ja4_common::clickhouse::StoreConfig;
use ja4_schema::queries::Query;
use ja4_schema::rows::detection::DetectionRow;
use ja4_schema::{Names, StatementError, Store};
use serde::Serialize;

use crate::budget::{Key, Known};
use crate::consistency::Consistency;
use crate::features::columns::{DecodeError, Decoder};
use crate::features::context::Outside;
use crate::labels::Verdicts;
use crate::population::Population;
use crate::segments::Window;

/// Longest time for one statement: features of a day of a large site take some seconds.
const STATEMENT_TIMEOUT: Duration = Duration::from_mins(2);
/// Most labels, list entries, addresses, clients, incidents, models that are read: each a hundred bytes.
const MANY: &str = "200000";
/// Rows are sent in one insert up to this size; more follow under a token of their own.
const INSERT_BYTES: usize = 8 << 20;

/// Why the store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// The configuration.
    #[error("no client of the store can be made")]
    Client(#[from] ja4_common::clickhouse::ClientError),
    /// Names of databases.
    #[error("the store's databases cannot be used")]
    Names(#[from] ja4_schema::names::InvalidName),
    /// A statement.
    #[error(transparent)]
    Statement(#[from] StatementError),
    /// Reading features.
    #[error("features of {window} cannot be read")]
    Read {
        /// Which window.
        window: &'static str,
        /// Why.
        #[source]
        source: clickhouse::error::Error,
    },
    /// Features of another schema.
    #[error("features of {window} cannot be understood")]
    Decode {
        /// Which window.
        window: &'static str,
        /// Why.
        #[source]
        source: DecodeError,
    },
    /// The store does not answer.
    #[error("the store did not answer {what} within {} s", STATEMENT_TIMEOUT.as_secs())]
    Timeout {
        /// What was asked.
        what: &'static str,
    },
    /// An answer with something else than expected.
    #[error(
        "the store's answer to {query} has {value:?} where a number was expected: its schema is of another version, run `ja4 schema apply`"
    )]
    Answer {
        /// Which query.
        query: &'static str,
        /// What it has.
        value: String,
    },
}

/// A saved model as the store lists it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ListedModel {
    /// `segment/window`.
    pub name: String,
    /// From 1.
    pub version: u32,
    /// When, seconds since the epoch.
    pub trained_s: i64,
    /// Rows trained on.
    pub n_rows: u64,
    /// Rows left out.
    pub n_excluded: u64,
    /// List of features.
    pub feature_set: String,
    /// What the gate measured, JSON.
    pub metrics: String,
    /// It is the active one.
    pub is_active: bool,
    /// And flags.
    pub is_armed: bool,
    /// Why it is active.
    pub reason: String,
}

/// A client as a label names it: address (IPv4 as `::ffff:a.b.c.d`), JA4, host.
pub type LabelledClient = ([u8; 16], String, String);

/// What a cycle goes on from.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LastCycle {
    /// Ids of the cycles that succeeded lately.
    pub done: Vec<String>,
    /// End of the newest window that was scored, seconds since the epoch; 0 for none.
    pub end_s: i64,
    /// When it began, microseconds since the epoch; 0 for none.
    pub started_us: u64,
    /// State of the whole; empty for none.
    pub state: String,
    /// What it counted.
    pub progress: BTreeMap<String, f64>,
}

/// The current state of a flagged client and model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlaggedState {
    /// First detection, microseconds since the epoch.
    pub first_us: i64,
    /// Newest detection.
    pub last_us: i64,
    /// Cycles that flagged it.
    pub cycles: u32,
}

/// An incident as the store has it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[allow(missing_docs, reason = "each is a column of soc_incidents, documented there")]
pub struct Incident {
    pub id: u128,
    pub opened_us: i64,
    pub last_us: i64,
    pub version: u64,
    pub status: String,
    pub severity: String,
    pub title: String,
    pub assignee: String,
    pub note: String,
}

/// The newest score of a client by one model.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs, reason = "each is a column of ml_all_scores, documented there")]
pub struct LastScore {
    pub model: String,
    pub version: u32,
    pub state: String,
    pub segment: String,
    pub end_s: i64,
    pub requests: u64,
    pub score: f64,
    pub evidence_bits: f64,
    pub verdict: String,
    pub voices: String,
    pub feature_set: String,
    pub features: String,
    pub reasons: String,
}

/// The store's tables.
#[derive(Debug, Clone)]
pub struct Tables {
    store: Store,
}

impl Tables {
    /// The tables of a configured store; nothing is asked yet.
    ///
    /// # Errors
    /// If the token's file cannot be read or a name is no identifier.
    pub fn new(config: &StoreConfig) -> Result<Self, TableError> {
        let names = Names::new(&config.logs_database, &config.processing_database)?;
        Ok(Self {
            store: Store::with_client(config.client()?, names),
        })
    }

    /// Reads the clients of the window that ends at `to_s`, shard by shard.
    ///
    /// # Errors
    /// If the store does not answer or with another schema.
    pub async fn population(
        &self,
        window: Window,
        to_s: i64,
        shards: u8,
        consistency: &mut Consistency,
    ) -> Result<Population, TableError> {
        let mut population = Population::new(window);
        for shard in 0..shards {
            let read = self.shard(&mut population, to_s, (shards, shard), consistency);
            tokio::time::timeout(STATEMENT_TIMEOUT, read)
                .await
                .map_err(|_| TableError::Timeout {
                    what: "features_window",
                })??;
            population.end_shard();
        }
        Ok(population)
    }

    async fn shard(
        &self,
        population: &mut Population,
        to_s: i64,
        (shards, shard): (u8, u8),
        consistency: &mut Consistency,
    ) -> Result<(), TableError> {
        let window = population.window;
        let sql = named("features_window").sql(self.store.names());
        let read = |source| TableError::Read {
            window: window.name(),
            source,
        };
        let decode = |source| TableError::Decode {
            window: window.name(),
            source,
        };
        let mut cursor = self
            .store
            .client()
            .query_raw(&sql)
            .param("from", Raw(&(to_s - window.seconds()).to_string()))
            .param("to", Raw(&to_s.to_string()))
            .param("shards", Raw(&shards.to_string()))
            .param("shard", Raw(&shard.to_string()))
            .fetch_bytes("RowBinaryWithNamesAndTypes")
            .map_err(read)?;
        let mut decoder = Decoder::default();
        while let Some(piece) = cursor.next().await.map_err(read)? {
            decoder
                .feed(&piece, |row| population.push(row, consistency))
                .map_err(decode)?;
        }
        decoder.finish().map_err(decode)
    }

    /// What the store knows beyond a window. `rare_shards` parts for the rare paths.
    ///
    /// # Errors
    /// If the store does not answer.
    pub async fn outside(&self, window: Window, to_s: i64, rare_shards: u8) -> Result<Outside, TableError> {
        let mut outside = Outside::default();
        let (from, to) = ((to_s - window.seconds()).to_string(), to_s.to_string());
        for shard in 0..rare_shards {
            let params = [
                ("from", from.as_str()),
                ("to", to.as_str()),
                ("shards", &rare_shards.to_string()),
                ("shard", &shard.to_string()),
                ("limit", "2000000"),
            ];
            for row in self.rows("feature_context_paths", &params).await? {
                let (entity, n) = (
                    number("feature_context_paths", &row, 0)?,
                    number::<f32>("feature_context_paths", &row, 1)?,
                );
                *outside.rare_paths.entry(entity).or_default() += n;
            }
        }
        // Whole hours: the first hour of the window counts as a whole.
        let params = [("from", from.as_str()), ("to", to.as_str()), ("limit", MANY)];
        for row in self.rows("ja4_ages", &params).await? {
            outside
                .ja4_first_s
                .insert(text(&row, 0).to_owned(), number("ja4_ages", &row, 1)?);
        }
        let today = to_s.div_euclid(86_400) * 86_400;
        let params = [
            ("from", (today - 6 * 86_400).to_string()),
            ("to", today.to_string()),
            ("limit", MANY.to_owned()),
        ];
        let params: Vec<(&str, &str)> = params
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        for row in self.rows("flagged_addresses", &params).await? {
            if let Some(address) = address(text(&row, 0)) {
                outside
                    .days_flagged
                    .insert(address, number("flagged_addresses", &row, 1)?);
            }
        }
        Ok(outside)
    }

    /// Minutes with traffic in the 7 days before `to_s`.
    ///
    /// # Errors
    /// If the store does not answer.
    pub async fn minutes(&self, to_s: i64) -> Result<u64, TableError> {
        let params = [
            ("from", (to_s - 7 * 86_400).to_string()),
            ("to", to_s.to_string()),
        ];
        let params: Vec<(&str, &str)> = params
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let rows = self.rows("feature_context_progress", &params).await?;
        rows.first()
            .map_or(Ok(0), |row| number("feature_context_progress", row, 0))
    }

    /// Labels and lists that hold; entries that cannot be understood are said in the log.
    ///
    /// # Errors
    /// If the store does not answer.
    pub async fn verdicts(&self) -> Result<Verdicts, TableError> {
        let mut verdicts = Verdicts::default();
        // Columns of labels.sql: src_ip, ja4, host, version, label, reason, note, author, …
        for row in self.rows("labels", &[("limit", MANY)]).await? {
            let Some(address) = address(text(&row, 0)) else {
                continue;
            };
            let version: u64 = number("labels", &row, 3)?;
            let who = (address, text(&row, 1).to_owned(), text(&row, 2).to_owned());
            verdicts.add_label(
                who,
                text(&row, 4),
                by(text(&row, 7), version, text(&row, 6)),
                version,
            );
        }
        for row in self.rows("active_lists", &[("limit", MANY)]).await? {
            let version: u64 = number("active_lists", &row, 5)?;
            let by = by(text(&row, 4), version, text(&row, 3));
            if let Err(why) = verdicts.add_entry(text(&row, 0), text(&row, 1), text(&row, 2), by) {
                tracing::debug!("a list entry is left out: {why}");
            }
        }
        Ok(verdicts)
    }

    /// Clients whose label has changed since `since_us`, microseconds since the epoch.
    ///
    /// # Errors
    /// If the store does not answer.
    pub async fn labels_changed(&self, since_us: u64) -> Result<HashSet<LabelledClient>, TableError> {
        let since = since_us.to_string();
        let rows = self
            .rows("labels_changed", &[("since_us", &since), ("limit", MANY)])
            .await?;
        Ok(rows
            .iter()
            .filter_map(|row| {
                let address = address(text(row, 0))?;
                Some((address, text(row, 1).to_owned(), text(row, 2).to_owned()))
            })
            .collect())
    }

    /// Clients flagged in the day before `to_s`, by client and model.
    ///
    /// # Errors
    /// If the store does not answer.
    pub async fn flagged(
        &self,
        to_s: i64,
        seconds: i64,
    ) -> Result<HashMap<(u64, String), FlaggedState>, TableError> {
        const QUERY: &str = "flagged_clients";
        let params = [
            ("from", (to_s - seconds).to_string()),
            ("to", to_s.to_string()),
            ("limit", "2000000".to_owned()),
        ];
        let params: Vec<(&str, &str)> = params
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        self.rows(QUERY, &params)
            .await?
            .iter()
            .map(|row| {
                let state = FlaggedState {
                    first_us: number(QUERY, row, 2)?,
                    last_us: number(QUERY, row, 3)?,
                    cycles: number(QUERY, row, 4)?,
                };
                Ok(((number(QUERY, row, 0)?, text(row, 1).to_owned()), state))
            })
            .collect()
    }

    /// Incidents with an alert or an opening in the day before `to_s`; of several with one key the newest.
    ///
    /// # Errors
    /// If the store does not answer.
    pub async fn incidents(&self, to_s: i64) -> Result<BTreeMap<Key, Incident>, TableError> {
        const QUERY: &str = "recent_incidents";
        let from = (to_s - 86_400).to_string();
        let mut incidents = BTreeMap::new();
        for row in self.rows(QUERY, &[("from", &from), ("limit", MANY)]).await? {
            let incident = Incident {
                id: uuid::Uuid::parse_str(text(&row, 0)).map_or(0, |id| id.as_u128()),
                opened_us: number(QUERY, &row, 1)?,
                last_us: number(QUERY, &row, 2)?,
                version: number(QUERY, &row, 3)?,
                status: text(&row, 4).to_owned(),
                severity: text(&row, 5).to_owned(),
                title: text(&row, 6).to_owned(),
                assignee: text(&row, 9).to_owned(),
                note: text(&row, 10).to_owned(),
            };
            let key = Key {
                kind: text(&row, 7).to_owned(),
                value: text(&row, 8).to_owned(),
            };
            incidents.entry(key).or_insert(incident);
        }
        Ok(incidents)
    }

    /// What the last cycles left.
    ///
    /// # Errors
    /// If the store does not answer.
    pub async fn last_cycle(&self, to_s: i64) -> Result<LastCycle, TableError> {
        const QUERY: &str = "last_cycles";
        let from = (to_s - 7 * 86_400).to_string();
        let mut last = LastCycle::default();
        for row in self.rows(QUERY, &[("from", &from), ("limit", "200")]).await? {
            if !text(&row, 5).is_empty() {
                continue;
            }
            last.done.push(text(&row, 1).to_owned());
            let end_s: i64 = number(QUERY, &row, 2)?;
            if end_s > last.end_s {
                last.end_s = end_s;
                last.started_us = number(QUERY, &row, 0)?;
                text(&row, 4).clone_into(&mut last.state);
                last.progress = serde_json::from_str(text(&row, 3)).map_err(|_| TableError::Answer {
                    query: QUERY,
                    value: text(&row, 3).to_owned(),
                })?;
            }
        }
        Ok(last)
    }

    /// All saved models.
    ///
    /// # Errors
    /// If the store does not answer.
    pub async fn models(&self) -> Result<Vec<ListedModel>, TableError> {
        const QUERY: &str = "models";
        self.rows(QUERY, &[("limit", "10000")])
            .await?
            .iter()
            .map(|row| {
                Ok(ListedModel {
                    name: text(row, 0).to_owned(),
                    version: number(QUERY, row, 1)?,
                    trained_s: number(QUERY, row, 2)?,
                    n_rows: number(QUERY, row, 3)?,
                    n_excluded: number(QUERY, row, 4)?,
                    feature_set: text(row, 5).to_owned(),
                    metrics: text(row, 7).to_owned(),
                    is_active: text(row, 8) == "1",
                    is_armed: text(row, 9) == "1",
                    reason: text(row, 10).to_owned(),
                })
            })
            .collect()
    }

    /// The bytes of a saved model; None if it is not there.
    ///
    /// # Errors
    /// If the store does not answer.
    pub async fn model_bytes(&self, name: &str, version: u32) -> Result<Option<Vec<u8>>, TableError> {
        let params = [("model_name", name), ("model_version", &version.to_string())];
        let rows = self.rows("model_blob", &params).await?;
        Ok(rows.first().and_then(|row| from_hex(text(row, 0))))
    }

    /// The newest scores of one client, at most one for each model.
    ///
    /// # Errors
    /// If the store does not answer.
    pub async fn last_scores(
        &self,
        src_ip: &str,
        ja4: &str,
        host: &str,
        from_s: i64,
    ) -> Result<Vec<LastScore>, TableError> {
        const QUERY: &str = "client_last_scores";
        let params = [
            ("src_ip", src_ip),
            ("ja4", ja4),
            ("host", host),
            ("from", &from_s.to_string()),
        ];
        self.rows(QUERY, &params)
            .await?
            .iter()
            .map(|row| {
                Ok(LastScore {
                    model: text(row, 0).to_owned(),
                    version: number(QUERY, row, 1)?,
                    state: text(row, 2).to_owned(),
                    segment: text(row, 3).to_owned(),
                    end_s: number(QUERY, row, 4)?,
                    requests: number(QUERY, row, 5)?,
                    score: number(QUERY, row, 6)?,
                    evidence_bits: number(QUERY, row, 7)?,
                    verdict: text(row, 8).to_owned(),
                    voices: text(row, 9).to_owned(),
                    feature_set: text(row, 10).to_owned(),
                    features: text(row, 11).to_owned(),
                    reasons: text(row, 12).to_owned(),
                })
            })
            .collect()
    }

    /// Sends rows under tokens made of `token`. No rows, no insert.
    ///
    /// # Errors
    /// If the store refuses or does not answer.
    pub async fn write<R: DetectionRow>(
        &self,
        rows: impl IntoIterator<Item = R>,
        token: &str,
    ) -> Result<u64, TableError> {
        let sql = R::insert_sql(self.store.names().processing());
        let (mut block, mut part, mut n) = (Vec::new(), 0, 0);
        for row in rows {
            row.write(&mut block);
            n += 1;
            if block.len() >= INSERT_BYTES {
                self.send(&sql, std::mem::take(&mut block), token, R::TABLE, part)
                    .await?;
                part += 1;
            }
        }
        if !block.is_empty() {
            self.send(&sql, block, token, R::TABLE, part).await?;
        }
        Ok(n)
    }

    async fn send(
        &self,
        sql: &str,
        block: Vec<u8>,
        token: &str,
        table: &'static str,
        part: u32,
    ) -> Result<(), TableError> {
        let token = format!("{token}-{table}-{part}");
        tokio::time::timeout(
            STATEMENT_TIMEOUT,
            self.store.insert_block(sql, block, Some(&token)),
        )
        .await
        .map_err(|_| TableError::Timeout { what: table })??;
        Ok(())
    }

    async fn rows(
        &self,
        query: &'static str,
        params: &[(&str, &str)],
    ) -> Result<Vec<Vec<String>>, TableError> {
        let ask = self.store.rows(named(query).text(), params);
        Ok(tokio::time::timeout(STATEMENT_TIMEOUT, ask)
            .await
            .map_err(|_| TableError::Timeout { what: query })??)
    }
}

fn named(query: &str) -> Query {
    Query::named(query).expect("a test runs every query that is named here")
}

fn text(row: &[String], column: usize) -> &str {
    row.get(column).map_or("", String::as_str)
}

fn number<T: std::str::FromStr>(query: &'static str, row: &[String], column: usize) -> Result<T, TableError> {
    let value = text(row, column);
    value.parse().map_err(|_| TableError::Answer {
        query,
        value: value.to_owned(),
    })
}

fn address(text: &str) -> Option<[u8; 16]> {
    Some(match text.parse::<std::net::IpAddr>().ok()? {
        std::net::IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        std::net::IpAddr::V6(v6) => v6.octets(),
    })
}

/// Who, when, and what was noted.
fn by(author: &str, version_us: u64, note: &str) -> String {
    let when = crate::time::minute(i64::try_from(version_us / 1_000_000).unwrap_or(i64::MAX));
    if note.is_empty() {
        format!("by {author} at {when}")
    } else {
        format!("by {author} at {when}: {note}")
    }
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    text.as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect()
}

/// A parameter that is text already.
struct Raw<'t>(&'t str);

impl Serialize for Raw<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0)
    }
}

/// What the budget needs of incidents.
pub fn known(incidents: &BTreeMap<Key, Incident>) -> BTreeMap<Key, Known> {
    incidents
        .iter()
        .map(|(key, incident)| {
            (
                key.clone(),
                Known {
                    opened_us: incident.opened_us,
                    last_us: incident.last_us,
                },
            )
        })
        .collect()
}
