//! Copies a table into another shape and swaps the two, for what ALTER cannot do: a shorter sorting key, another partition key.
//!
//! The step's statement is `CREATE TABLE … {db}.table__rebuilt …` of the new shape. Then, in order: drop what an earlier
//! try left, create, copy, compare counts, EXCHANGE, compare again, drop the old one. Materialized views follow the name and
//! go on by themselves.
//!
//! Invariants: the old table is dropped only while its rows are all in the new one, counted after the swap; the new table's
//! comment carries the migration's number, so that a process killed after the swap finds it done. Writers must be stopped:
//! rows that arrive between copy and swap are found by the second count, and then nothing is dropped.

use crate::migration::Step;
use crate::store::{StatementError, Store};

/// Ending of the name of the table under construction.
const SHADOW: &str = "__rebuilt";

/// Why a rebuild stopped.
#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    /// The step is not of the form that a rebuild needs.
    #[error(
        "a rebuild's statement must begin with CREATE TABLE IF NOT EXISTS {{database}}.table__rebuilt{{local}}"
    )]
    Malformed,
    /// Rows arrived meanwhile.
    #[error(
        "{table} had {copied} rows when it was copied and {found} when it was swapped; stop the writers and apply again (the old rows are in {table}{SHADOW}, nothing was dropped)"
    )]
    Moved {
        /// The table.
        table: String,
        /// Rows copied.
        copied: u64,
        /// Rows found.
        found: u64,
    },
    /// A statement failed.
    #[error(transparent)]
    Statement(#[from] StatementError),
}

/// Runs one rebuild, from wherever an earlier try left it.
///
/// # Errors
/// If rows arrive meanwhile or a statement fails.
pub async fn run(store: &Store, version: u32, step: &Step) -> Result<(), RebuildError> {
    let table = rebuilt_table(&step.sql).ok_or(RebuildError::Malformed)?;
    let on_cluster = "{on_cluster}";
    let shadow = format!("{table}{SHADOW}{{local}}");
    let table = format!("{table}{{local}}");
    let mark = format!("rebuilt by migration {version:04}");
    let has_mark = comment(store, &table)
        .await?
        .is_some_and(|comment| comment.ends_with(&mark));
    if !has_mark {
        store
            .execute(&format!("DROP TABLE IF EXISTS {shadow}{on_cluster} SYNC"))
            .await?;
        store.execute(&step.sql).await?;
        let old_comment = comment(store, &table).await?.unwrap_or_default();
        let new_comment = crate::names::quoted(format!("{old_comment}; {mark}").trim_start_matches("; "));
        store
            .execute(&format!(
                "ALTER TABLE {shadow}{on_cluster} MODIFY COMMENT {new_comment}"
            ))
            .await?;
        let columns = common_columns(store, &table, &shadow).await?;
        store
            .execute(&format!(
                "INSERT INTO {shadow} ({columns}) SELECT {columns} FROM {table}"
            ))
            .await?;
        compare(store, &table, &shadow).await?;
        store
            .execute(&format!("EXCHANGE TABLES {table} AND {shadow}{on_cluster}"))
            .await?;
    }
    // The names have changed sides: what is under the shadow's name is the old table, if it was not dropped yet.
    if comment(store, &shadow).await?.is_some() {
        compare(store, &shadow, &table).await?;
        store
            .execute(&format!("DROP TABLE IF EXISTS {shadow}{on_cluster} SYNC"))
            .await?;
    }
    Ok(())
}

fn rebuilt_table(sql: &str) -> Option<&str> {
    let rest = sql.strip_prefix("CREATE TABLE IF NOT EXISTS ")?;
    let end = rest.find("{local}")?;
    rest[..end].strip_suffix(SHADOW)
}

/// The table's comment; none if there is no such table.
async fn comment(store: &Store, table: &str) -> Result<Option<String>, StatementError> {
    let (database, name) = split(store, table);
    store
        .value(
            "SELECT comment FROM system.tables WHERE database = {database:String} AND name = {name:String}",
            &[("database", &database), ("name", &name)],
        )
        .await
}

/// Columns that both tables have and that are stored, in the old table's order.
async fn common_columns(store: &Store, from: &str, to: &str) -> Result<String, StatementError> {
    let ((from_database, from_name), (to_database, to_name)) = (split(store, from), split(store, to));
    let rows = store
        .rows(
            "SELECT name FROM system.columns
             WHERE database = {from_database:String} AND table = {from_name:String} AND default_kind NOT IN ('ALIAS', 'MATERIALIZED')
                 AND name IN (SELECT name FROM system.columns WHERE database = {to_database:String} AND table = {to_name:String} AND default_kind NOT IN ('ALIAS', 'MATERIALIZED'))
             ORDER BY position",
            &[("from_database", &from_database), ("from_name", &from_name), ("to_database", &to_database), ("to_name", &to_name)],
        )
        .await?;
    Ok(rows
        .into_iter()
        .flatten()
        .map(|name| format!("`{name}`"))
        .collect::<Vec<_>>()
        .join(", "))
}

async fn compare(store: &Store, old: &str, new: &str) -> Result<(), RebuildError> {
    let count = async |table: &str| -> Result<u64, StatementError> {
        let n = store.value(&format!("SELECT count() FROM {table}"), &[]).await?;
        Ok(n.and_then(|n| n.parse().ok()).unwrap_or(0))
    };
    let (found, copied) = (count(old).await?, count(new).await?);
    // Rows that reach the new table after the swap are no loss; rows that only the old one has are.
    if found <= copied {
        return Ok(());
    }
    Err(RebuildError::Moved {
        table: store.names().expand(old),
        copied,
        found,
    })
}

fn split(store: &Store, table: &str) -> (String, String) {
    let expanded = store.names().expand(table);
    let (database, name) = expanded.split_once('.').unwrap_or(("", &expanded));
    (database.to_owned(), name.to_owned())
}
