//! How long tables keep their rows: reconciled after migrations from a setting, never part of a checksum.
//!
//! Tables are partitioned by day and drop whole parts: expect the days set, one more, and the merge interval.

use std::collections::BTreeMap;

use crate::migration::{Migration, RetentionRule};
use crate::store::{StatementError, Store};

/// Days by setting, such as `http_logs_days`; what is absent has its default. 0 keeps rows for ever.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RetentionDays(pub BTreeMap<String, u32>);

/// A table whose retention is not as set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Database and table.
    pub table: String,
    /// Days as set, 0 for ever.
    pub days: u32,
    /// The statement that sets it.
    pub statement: String,
}

/// Why retention cannot be set.
#[derive(Debug, thiserror::Error)]
pub enum RetentionError {
    /// No table has such a setting.
    #[error("retention has no setting {name:?}; there are {known}")]
    UnknownSetting {
        /// As given.
        name: String,
        /// Those that exist.
        known: String,
    },
    /// A statement failed.
    #[error(transparent)]
    Statement(#[from] StatementError),
}

/// Every setting with its default, by name.
pub fn defaults(migrations: &[Migration]) -> BTreeMap<&str, u32> {
    rules(migrations)
        .map(|rule| (rule.setting.as_str(), rule.default_days))
        .collect()
}

fn rules(migrations: &[Migration]) -> impl Iterator<Item = &RetentionRule> {
    migrations
        .iter()
        .flat_map(|migration| &migration.steps)
        .filter_map(|step| step.retention.as_ref())
}

/// Tables whose retention is not as set. A table that is not there yet counts as one without retention.
///
/// # Errors
/// If a setting is unknown or a query fails.
pub async fn changes(
    store: &Store,
    migrations: &[Migration],
    days: &RetentionDays,
) -> Result<Vec<Change>, RetentionError> {
    let known = defaults(migrations);
    if let Some(name) = days.0.keys().find(|name| !known.contains_key(name.as_str())) {
        let known = known.keys().copied().collect::<Vec<_>>().join(", ");
        return Err(RetentionError::UnknownSetting {
            name: name.clone(),
            known,
        });
    }
    let engines = engines(store).await?;
    let mut changes = Vec::new();
    for rule in rules(migrations) {
        let table = store.names().expand(&format!("{}{{local}}", rule.table));
        let wanted = days.0.get(&rule.setting).copied().unwrap_or(rule.default_days);
        let expression = format!("{} + toIntervalDay({wanted})", rule.since);
        let engine = engines.get(&table).map_or("", String::as_str);
        let is_set = match wanted {
            0 => !engine.contains(" TTL "),
            _ => engine.contains(&format!(" TTL {expression}")),
        };
        if !is_set {
            let change = if wanted == 0 {
                "REMOVE TTL".to_owned()
            } else {
                format!("MODIFY TTL {expression}")
            };
            let statement = store
                .names()
                .expand(&format!("ALTER TABLE {table}{{on_cluster}} {change}"));
            changes.push(Change {
                table,
                days: wanted,
                statement,
            });
        }
    }
    Ok(changes)
}

async fn engines(store: &Store) -> Result<BTreeMap<String, String>, StatementError> {
    let rows = store
        .rows(
            "SELECT concat(database, '.', name), engine_full FROM system.tables WHERE database IN ({logs_database:String}, {processing_database:String})",
            &[("logs_database", store.names().logs()), ("processing_database", store.names().processing())],
        )
        .await?;
    Ok(rows
        .into_iter()
        .filter_map(|row| <[String; 2]>::try_from(row).ok())
        .map(|[name, engine]| (name, engine))
        .collect())
}

/// Sets what is not as set, and says what.
///
/// # Errors
/// If a setting is unknown or a statement fails.
pub async fn reconcile(
    store: &Store,
    migrations: &[Migration],
    days: &RetentionDays,
) -> Result<Vec<Change>, RetentionError> {
    let changes = changes(store, migrations, days).await?;
    for change in &changes {
        store.execute(&change.statement).await?;
    }
    Ok(changes)
}
