//! Rebuilds of tables on a real store: killed at any moment, beside writers, beyond a query's memory.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test fails by panicking and says what it skips"
)]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::{
    TestStore, aggregates_equal_their_recomputation, drop_databases, empty_store, fill, migrated_store,
};
use ja4_schema::synthetic::SyntheticRequests;
use ja4_schema::{Migration, RetentionDays, Store, apply, drift, migrations};

/// Migrations before the one that sorts `agg_facet_1h` by value.
const BEFORE_FACETS_BY_VALUE: usize = 11;

const REBUILD: &str = "-- A shorter sorting key.\n-- kind: rebuild\n-- min_writer: 0.1.0\n\n-- step: quarantine\nCREATE TABLE IF NOT EXISTS {logs}.quarantine__rebuilt{local}{on_cluster} AS {logs}.quarantine\nENGINE = {replicated}MergeTree PARTITION BY toDate(recv_ts) ORDER BY recv_ts SETTINGS {dedup_window} = 10000;\n";

fn with_rebuild() -> Vec<Migration> {
    let mut all = migrations();
    let number = all.len() + 1;
    all.push(Migration::parse(&format!("{number:04}_shorter_key.sql"), REBUILD).unwrap());
    all
}

#[tokio::test]
async fn rebuild_keeps_rows_and_is_resumed_from_every_state() {
    let Some(store) = migrated_store("rebuild").await else {
        return;
    };
    let insert = "INSERT INTO {logs}.quarantine (recv_ts, table_name, row_idx) SELECT now64(6), 'http_logs', number FROM numbers(1000)";
    store.execute(insert).await.unwrap();
    let sorting_key = async || {
        let sql = format!(
            "SELECT sorting_key FROM system.tables WHERE database = '{}' AND name = 'quarantine'",
            store.names().logs()
        );
        store.value(&sql, &[]).await.unwrap().unwrap()
    };
    let count = async || {
        store
            .value("SELECT count(), sum(row_idx) FROM {logs}.quarantine", &[])
            .await
            .unwrap()
            .unwrap()
    };
    // A copy that was cut off half way.
    store
        .execute("CREATE TABLE {logs}.quarantine__rebuilt AS {logs}.quarantine")
        .await
        .unwrap();
    store
        .execute("INSERT INTO {logs}.quarantine__rebuilt (row_idx) VALUES (1)")
        .await
        .unwrap();
    apply(&store, &with_rebuild(), &RetentionDays::default())
        .await
        .unwrap();
    assert_eq!(
        (sorting_key().await.as_str(), count().await.as_str()),
        ("recv_ts", "1000")
    );
    let retention = apply(&store, &with_rebuild(), &RetentionDays::default())
        .await
        .unwrap();
    assert!(retention.steps.is_empty());
    // Killed after the swap and before the record: the old table is still there under the shadow's name.
    store
        .execute("CREATE TABLE {logs}.quarantine__rebuilt AS {logs}.quarantine")
        .await
        .unwrap();
    store
        .execute("ALTER TABLE {logs}.quarantine__rebuilt MODIFY COMMENT 'old'")
        .await
        .unwrap();
    let version = migrations().len() + 1;
    store.execute(&format!("ALTER TABLE {{processing}}.schema_steps DELETE WHERE version = {version} AND state = 'done' SETTINGS mutations_sync = 1")).await.unwrap();
    let applied = apply(&store, &with_rebuild(), &RetentionDays::default())
        .await
        .unwrap();
    assert_eq!(applied.steps.len(), 1);
    assert_eq!(count().await, "1000");
    let left = store
        .value(
            &format!(
                "SELECT count() FROM system.tables WHERE database = '{}' AND name = 'quarantine__rebuilt'",
                store.names().logs()
            ),
            &[],
        )
        .await
        .unwrap();
    assert_eq!(left.as_deref(), Some("0"));
    drop_databases(&store).await;
}

#[tokio::test]
async fn rebuild_of_a_view_s_source_keeps_the_view_going() {
    let Some(store) = migrated_store("rebuildmv").await else {
        return;
    };
    let text = "-- Other granularity.\n-- kind: rebuild\n-- min_writer: 0.1.0\n\n-- step: http_logs\nCREATE TABLE IF NOT EXISTS {logs}.http_logs__rebuilt{local}{on_cluster} AS {logs}.http_logs\nENGINE = {replicated}MergeTree PARTITION BY toDate(recv_ts) ORDER BY (toStartOfHour(ts), src_ip) SETTINGS {dedup_window} = 10000;\n";
    fill(&store, 5_000).await;
    let mut all = migrations();
    all.push(Migration::parse(&format!("{:04}_x.sql", all.len() + 1), text).unwrap());
    apply(&store, &all, &RetentionDays::default()).await.unwrap();
    fill(&store, 5_000).await;
    assert_eq!(
        store
            .value("SELECT count() FROM {logs}.http_logs", &[])
            .await
            .unwrap()
            .as_deref(),
        Some("10000")
    );
    assert_eq!(
        store
            .value("SELECT sum(requests) FROM {processing}.agg_traffic_1m", &[])
            .await
            .unwrap()
            .as_deref(),
        Some("10000")
    );
    drop_databases(&store).await;
}

/// Runs in a process of its own, for the test below.
#[tokio::test]
async fn child_that_applies() {
    common::apply_as_child().await;
}

/// Killed at any moment while a writer goes on: every request is in every aggregate once.
#[tokio::test]
async fn rebuild_loses_nothing_while_it_is_killed_and_rows_arrive() {
    let Some(store) = store_before("live").await else {
        return;
    };
    // Several days, so that there are partitions that are done.
    let end = store
        .value("SELECT toString(toDateTime(now(), 'UTC'))", &[])
        .await
        .unwrap()
        .unwrap();
    let requests = SyntheticRequests {
        first: 0,
        rows: N_BEFORE,
        total: N_BEFORE,
        days: 6,
        end: &end,
    };
    store.execute(&requests.sql()).await.unwrap();
    let writer = Writer::start(&store).await;
    let n_killed = common::kill_appliers(&store, 25).await;
    apply(&store, &migrations(), &RetentionDays::default())
        .await
        .unwrap();
    let written = writer.stop().await;
    println!("{n_killed} appliers killed; {written:?}");
    assert!(n_killed >= 3, "the kills came too late to prove anything");
    assert_eq!(drift(&store, &migrations()).await.unwrap(), None);
    let n_rows = number(&store, "SELECT count() FROM {logs}.http_logs").await;
    assert_eq!(n_rows, N_BEFORE + written.n_rows);
    aggregates_equal_their_recomputation(&store).await;
    let of_states = "SELECT uniqHLL12Merge(clients) FROM {processing}.agg_facet_1h WHERE dim = 'method'";
    let of_rows = "SELECT uniqHLL12(src_ip) FROM {logs}.http_logs";
    assert_eq!(number(&store, of_states).await, number(&store, of_rows).await);
    drop_databases(&store).await;
}

/// 220 000 states of 2.6 kB: more than a statement may have in memory.
#[tokio::test]
async fn rebuild_copies_states_beyond_a_statement_s_memory() {
    let Some(store) = store_before("states").await else {
        return;
    };
    for first in (0..220_000).step_by(20_000) {
        store
            .execute(&format!(
                "INSERT INTO {{processing}}.agg_facet_1h (hour, dim, value, requests, clients)
                 SELECT toStartOfDay(now()) AS hour, 'path' AS dim, toString({first} + intDiv(number, 20)) AS value, count() AS requests,
                     uniqHLL12State(toIPv6(IPv4NumToString(toUInt32(number)))) AS clients
                 FROM numbers(400000) GROUP BY hour, dim, value SETTINGS optimize_on_insert = 0"
            ))
            .await
            .unwrap();
    }
    let what = "SELECT concat(toString(count()), ' ', toString(sum(requests)), ' ', toString(uniqHLL12Merge(clients))) FROM {processing}.agg_facet_1h";
    let before = store.value(what, &[]).await.unwrap();
    apply(&store, &migrations(), &RetentionDays::default())
        .await
        .unwrap();
    assert_eq!(store.value(what, &[]).await.unwrap(), before);
    assert_eq!(drift(&store, &migrations()).await.unwrap(), None);
    drop_databases(&store).await;
}

/// Rows in the old table that are not those that were copied: it stays.
#[tokio::test]
async fn rebuild_keeps_an_old_table_that_changed_after_its_copy() {
    let Some(store) = migrated_store("changed").await else {
        return;
    };
    let version = migrations().len();
    for statement in [
        "CREATE TABLE {processing}.agg_facet_1h__rebuilt AS {processing}.agg_facet_1h",
        "INSERT INTO {processing}.agg_facet_1h__rebuilt (hour, dim, value, requests) VALUES (now(), 'host', 'a', 1)",
        "ALTER TABLE {processing}.agg_facet_1h__rebuilt MODIFY COMMENT 'x; copied: 0 rows, total 0'",
        &format!(
            "ALTER TABLE {{processing}}.schema_steps DELETE WHERE version = {version} AND state = 'done' SETTINGS mutations_sync = 1"
        ),
    ] {
        store.execute(statement).await.unwrap();
    }
    let error = apply(&store, &migrations(), &RetentionDays::default())
        .await
        .unwrap_err();
    let said = std::error::Error::source(&error).unwrap().to_string();
    assert!(
        said.contains("had 0 rows") && said.contains("and 1 when"),
        "{said}"
    );
    let kept = "SELECT sum(requests) FROM {processing}.agg_facet_1h__rebuilt";
    assert_eq!(number(&store, kept).await, 1);
    drop_databases(&store).await;
}

/// A table that merges rows cannot be compared under another set of keys: it is said before anything is copied.
#[tokio::test]
async fn rebuild_refuses_what_it_cannot_compare() {
    let Some(store) = migrated_store("unlike").await else {
        return;
    };
    let text = "-- A shorter key.\n-- kind: rebuild\n-- min_writer: 0.1.0\n\n-- step: x\nCREATE TABLE IF NOT EXISTS {logs}.source_status__rebuilt{local}{on_cluster} AS {logs}.source_status\nENGINE = {replicated}ReplacingMergeTree(recv_ts) ORDER BY (source, node);\n";
    let mut all = migrations();
    all.push(Migration::parse(&format!("{:04}_x.sql", all.len() + 1), text).unwrap());
    let error = apply(&store, &all, &RetentionDays::default()).await.unwrap_err();
    let said = std::error::Error::source(&error).unwrap().to_string();
    assert!(said.contains("columns of its sorting key change"), "{said}");
    drop_databases(&store).await;
}

/// Requests before the writer begins.
const N_BEFORE: u64 = 60_000;

async fn store_before(test: &str) -> Option<TestStore> {
    let store = empty_store(test)?;
    let before = &migrations()[..BEFORE_FACETS_BY_VALUE];
    apply(&store, before, &RetentionDays::default()).await.unwrap();
    Some(store)
}

async fn number(store: &Store, sql: &str) -> u64 {
    store.value(sql, &[]).await.unwrap().unwrap().parse().unwrap()
}

/// What a writer did.
#[derive(Debug, Default)]
struct Written {
    n_rows: u64,
    /// Inserts that the store was too busy for, and that were sent again with their tokens.
    n_refused: u64,
}

/// Inserts as the correlator does: a block with a token, again until it is taken.
struct Writer {
    ending: Arc<AtomicBool>,
    inserting: tokio::task::JoinHandle<Written>,
}

impl Writer {
    /// Sends the rows that are stored once more, so that every day gets some.
    async fn start(store: &Store) -> Self {
        const BLOCK_ROWS: u64 = 150;
        const PAUSE: Duration = Duration::from_millis(20);
        let mut blocks = Vec::new();
        for n in 0..20 {
            let sql = format!(
                "SELECT * FROM {{logs}}.http_logs ORDER BY cityHash64(seq) LIMIT {BLOCK_ROWS} OFFSET {}",
                n * BLOCK_ROWS
            );
            let sql = store.names().expand(&sql);
            let mut cursor = store.client().query_raw(&sql).fetch_bytes("Native").unwrap();
            blocks.push(cursor.collect().await.unwrap().to_vec());
        }
        let ending = Arc::new(AtomicBool::new(false));
        let (stop, store) = (Arc::clone(&ending), store.clone());
        let inserting = tokio::spawn(async move {
            let sql = store.names().expand("INSERT INTO {logs}.http_logs FORMAT Native");
            let mut written = Written::default();
            for (n, block) in blocks.iter().cycle().enumerate() {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                while let Err(error) = store
                    .insert_block(&sql, block.clone(), Some(&format!("w-{n}")))
                    .await
                {
                    let said = error.source.to_string();
                    assert!(said.contains("Code: 252"), "{said}");
                    written.n_refused += 1;
                    tokio::time::sleep(PAUSE).await;
                }
                written.n_rows += BLOCK_ROWS;
                tokio::time::sleep(PAUSE).await;
            }
            written
        });
        Self { ending, inserting }
    }

    async fn stop(self) -> Written {
        self.ending.store(true, Ordering::Relaxed);
        self.inserting.await.unwrap()
    }
}
