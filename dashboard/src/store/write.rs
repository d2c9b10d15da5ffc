//! The one module that writes to the store: labels, the audit, users.

use std::net::IpAddr;
use std::time::Duration;

use clickhouse::Client;
use ja4_schema::Store;
use serde::Serialize;

use crate::error::ApiError;
use crate::metrics::Metrics;
use crate::store::{api_error, unreachable};
use crate::window::now_us;

/// How long a write may take.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// Writes.
#[derive(Debug, Clone)]
pub(crate) struct Writer {
    store: Store,
    metrics: Metrics,
}

/// A label as the store has it.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct LabelWrite {
    pub(crate) src_ip: String,
    pub(crate) ja4: String,
    pub(crate) host: String,
    /// Microseconds since the epoch.
    pub(crate) version: u64,
    pub(crate) label: String,
    pub(crate) note: String,
    pub(crate) author: String,
    /// Seconds since the epoch; 0 for ever.
    pub(crate) expires_at: i64,
    pub(crate) deleted: u8,
    pub(crate) model_name: String,
    pub(crate) model_version: u32,
    pub(crate) feature_set: String,
    /// NaN is written as null, which the column makes 0 of: vectors keep it as the text `nan`.
    #[serde(serialize_with = "numbers")]
    pub(crate) features: Vec<f64>,
    pub(crate) act_id: String,
    pub(crate) undoes: String,
    pub(crate) before_label: String,
}

/// JSON has no NaN; the store reads it from a text.
fn numbers<S: serde::Serializer>(numbers: &[f64], serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    #[serde(untagged)]
    enum Number {
        Plain(f64),
        Text(&'static str),
    }
    serializer.collect_seq(numbers.iter().map(|number| match number {
        number if number.is_nan() => Number::Text("nan"),
        number if number.is_infinite() => Number::Text(if *number > 0.0 { "inf" } else { "-inf" }),
        number => Number::Plain(*number),
    }))
}

/// An act of a user.
#[derive(Debug, Clone)]
pub(crate) struct Act {
    /// Who.
    pub(crate) user: String,
    /// What: one of the column's list.
    pub(crate) act: &'static str,
    /// On what.
    pub(crate) object: String,
    /// The rest.
    pub(crate) detail: serde_json::Value,
    /// From where.
    pub(crate) remote: IpAddr,
}

#[derive(Serialize)]
struct AuditWrite<'a> {
    /// Seconds since the epoch, with microseconds behind the point.
    at: String,
    user_name: &'a str,
    act: &'a str,
    object: &'a str,
    detail: String,
    remote_ip: String,
}

/// A user as the store has it.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct UserWrite {
    pub(crate) user_name: String,
    /// Microseconds since the epoch.
    pub(crate) version: u64,
    pub(crate) role: String,
    pub(crate) password_hash: String,
    pub(crate) disabled: u8,
    pub(crate) deleted: u8,
}

impl Writer {
    /// Writes with this client.
    pub(crate) fn new(client: Client, names: ja4_schema::Names, metrics: Metrics) -> Self {
        Self {
            store: Store::with_client(client, names),
            metrics,
        }
    }

    /// Labels, and by the store itself their history.
    ///
    /// # Errors
    /// If the store is away or refuses.
    pub(crate) async fn labels(&self, rows: &[LabelWrite]) -> Result<(), ApiError> {
        self.insert("soc_labels", rows).await
    }

    /// An act, into the audit.
    ///
    /// # Errors
    /// If the store is away or refuses: an act that cannot be recorded is not done.
    pub(crate) async fn audit(&self, act: &Act) -> Result<(), ApiError> {
        self.audit_all(std::slice::from_ref(act), &[now_us()]).await
    }

    /// Acts with their times.
    ///
    /// # Errors
    /// As [`Self::audit`].
    pub(crate) async fn audit_all(&self, acts: &[Act], at_us: &[i64]) -> Result<(), ApiError> {
        for act in acts {
            self.metrics.acts.with_label_values(&[act.act]).inc();
        }
        let rows: Vec<AuditWrite<'_>> = acts
            .iter()
            .zip(at_us)
            .map(|(act, at)| AuditWrite {
                at: format!("{}.{:06}", at.div_euclid(1_000_000), at.rem_euclid(1_000_000)),
                user_name: &act.user,
                act: act.act,
                object: &act.object,
                detail: act.detail.to_string(),
                remote_ip: match act.remote {
                    IpAddr::V4(v4) => v4.to_ipv6_mapped().to_string(),
                    IpAddr::V6(v6) => v6.to_string(),
                },
            })
            .collect();
        self.insert("soc_audit", &rows).await
    }

    /// A user.
    ///
    /// # Errors
    /// If the store is away or refuses.
    pub(crate) async fn user(&self, user: &UserWrite) -> Result<(), ApiError> {
        self.insert("soc_users", std::slice::from_ref(user)).await
    }

    async fn insert<T: Serialize>(&self, table: &'static str, rows: &[T]) -> Result<(), ApiError> {
        let insert = self.store.insert_rows(table, rows);
        match tokio::time::timeout(WRITE_TIMEOUT, insert).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(api_error(table, &error.source)),
            Err(_) => Err(unreachable(&format!("insert into {table}: no answer in time"))),
        }
    }
}
