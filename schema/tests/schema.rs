//! Migrations, views and queries on a real store.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking and says what it skips"
)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use common::{aggregates_equal_their_recomputation, drop_databases, empty_store, fill, migrated_store};
use ja4_schema::lock::{Lock, Timing};
use ja4_schema::migration::MigrationKind;
use ja4_schema::native::Block;
use ja4_schema::queries::{self, Query};
use ja4_schema::rows::detection::{self, DetectionRow};
use ja4_schema::rows::{
    HttpLogsBlock, JoinCorrectionsBlock, QuarantineBlock, SourceStatusBlock, TlsLogsBlock,
};
use ja4_schema::{
    ApplyError, Migration, Names, PlanError, RetentionDays, Store, apply, drift, migrations, plan, status,
    verify,
};

#[tokio::test]
async fn schema_applies_from_empty_and_then_has_nothing_to_do() {
    let Some(store) = empty_store("apply") else { return };
    let before = plan(&store, &migrations(), &RetentionDays::default())
        .await
        .unwrap();
    let n_steps: usize = migrations().iter().map(|migration| migration.steps.len()).sum();
    assert_eq!(before.steps.len(), n_steps);
    let applied = apply(&store, &migrations(), &RetentionDays::default())
        .await
        .unwrap();
    assert_eq!(applied.steps.len(), n_steps);
    let again = apply(&store, &migrations(), &RetentionDays::default())
        .await
        .unwrap();
    assert!(again.steps.is_empty() && again.retention.is_empty(), "{again:?}");
    assert!(
        status(&store)
            .await
            .unwrap()
            .migrations
            .iter()
            .all(apply::RecordedMigration::is_complete)
    );
    drop_databases(&store).await;
}

#[tokio::test]
async fn schema_verify_finds_the_exact_values() {
    let Some(store) = migrated_store("verify").await else {
        return;
    };
    let verified = verify(&store, &migrations()).await.unwrap();
    assert!(
        verified.values.len() > 20 && verified.n_objects > 35,
        "{verified:?}"
    );
    drop_databases(&store).await;
}

/// What only reads shares one store: to migrate an empty one is most of such a test's time.
#[tokio::test]
async fn schema_of_a_fresh_store() {
    let Some(store) = migrated_store("fresh").await else {
        return;
    };
    schema_table_columns_match_the_builders(&store).await;
    every_column_and_table_has_a_comment(&store).await;
    every_table_that_an_insert_reaches_remembers_tokens(&store).await;
    schema_queries_run_on_an_empty_store(&store).await;
    what_every_filter_reads_is_quick_to_unpack(&store).await;
    database_schema_document_is_not_stale(&store).await;
    drop_databases(&store).await;
}

#[tokio::test]
async fn schema_of_a_full_store() {
    let Some(store) = migrated_store("full").await else {
        return;
    };
    fill(&store, 40_000).await;
    aggregates_equal_their_recomputation(&store).await;
    max_requests_per_sec_is_always_0(&store).await;
    schema_queries_answer_on_a_full_store(&store).await;
    drop_databases(&store).await;
}

/// Migrations whose statements may each run twice: what a kill between statement and record leads to.
#[tokio::test]
async fn schema_statements_may_run_twice() {
    let Some(store) = migrated_store("twice").await else {
        return;
    };
    // A rebuild is more than its statement: tests of its own kill it.
    let is_forward = |migration: &&Migration| migration.kind == MigrationKind::Forward;
    for step in migrations()
        .iter()
        .filter(is_forward)
        .flat_map(|migration| &migration.steps)
    {
        for statement in step.statements(store.names()) {
            store.execute(&statement).await.unwrap();
        }
    }
    assert_eq!(drift(&store, &migrations()).await.unwrap(), None);
    drop_databases(&store).await;
}

/// A request that was stored before its table kept the client's number has it all the same, when read and when merged.
#[tokio::test]
async fn a_request_from_before_has_its_clients_number() {
    let Some(store) = empty_store("number") else {
        return;
    };
    let all = migrations();
    let n_before = all.iter().position(|migration| migration.version == 10).unwrap();
    let retention = RetentionDays::default();
    apply(&store, &all[..n_before], &retention).await.unwrap();
    let insert = |seq: u32| {
        format!(
            "INSERT INTO {{logs}}.http_logs (ts, recv_ts, seq, src_ip, ja4, host) VALUES (now(), now(), {seq}, '::ffff:192.0.2.{seq}', 'j', 'h.test')"
        )
    };
    let fill = |sql: String| sql.replace("{logs}", store.names().logs());
    store.execute(&fill(insert(1))).await.unwrap();
    apply(&store, &all, &retention).await.unwrap();
    store.execute(&fill(insert(2))).await.unwrap();
    let wrong = fill(
        "SELECT toString(countIf(entity_id != cityHash64(src_ip, ja4, host) OR entity_id = 0)), toString(count()) FROM {logs}.http_logs".to_owned(),
    );
    let merge = fill("OPTIMIZE TABLE {logs}.http_logs FINAL".to_owned());
    for _ in 0..2 {
        let rows = store.rows(&wrong, &[]).await.unwrap();
        assert_eq!(rows, [["0", "2"]]);
        store.execute(&merge).await.unwrap();
    }
    drop_databases(&store).await;
}

/// Runs in a process of its own, for the test below.
#[tokio::test]
async fn child_that_applies() {
    common::apply_as_child().await;
}

#[tokio::test]
async fn schema_is_resumed_after_kills_at_any_statement() {
    let Some(store) = empty_store("kill") else { return };
    let n_killed = common::kill_appliers(&store, 12).await;
    assert!(n_killed >= 3, "the kills came too late to prove anything");
    apply(&store, &migrations(), &RetentionDays::default())
        .await
        .unwrap();
    assert_eq!(drift(&store, &migrations()).await.unwrap(), None);
    let recorded = status(&store).await.unwrap();
    assert!(
        recorded
            .migrations
            .iter()
            .all(|migration| migration.is_complete() && migration.steps_open.is_empty()),
        "{recorded:?}"
    );
    drop_databases(&store).await;
}

#[tokio::test]
async fn lock_is_held_by_one_and_runs_out_when_its_holder_is_gone() {
    let Some(store) = migrated_store("lock").await else {
        return;
    };
    let quick = Timing {
        lease: Duration::from_millis(900),
        patience: Duration::from_millis(200),
    };
    let first = Lock::acquire(&store, "first", quick).await.unwrap();
    let refused = Lock::acquire(&store, "second", quick).await.unwrap_err();
    assert!(refused.to_string().contains("held by first"), "{refused}");
    // Dropped without release: like a process that was killed.
    drop(first);
    let patient = Timing {
        patience: Duration::from_secs(10),
        ..quick
    };
    let second = Lock::acquire(&store, "second", patient).await.unwrap();
    second.release().await.unwrap();
    let third = Lock::acquire(&store, "third", quick).await.unwrap();
    third.release().await.unwrap();
    drop_databases(&store).await;
}

#[tokio::test]
async fn lock_is_never_held_by_two_of_many() {
    let Some(store) = migrated_store("locks").await else {
        return;
    };
    let timing = Timing {
        lease: Duration::from_secs(5),
        patience: Duration::from_secs(30),
    };
    let holders = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(0));
    let tasks: Vec<_> = (0..6)
        .map(|idx| {
            let (store, holders) = (store.clone(), holders.clone());
            tokio::spawn(async move {
                let lock = Lock::acquire(&store, &format!("owner-{idx}"), timing)
                    .await
                    .unwrap();
                assert_eq!(holders.fetch_add(1, std::sync::atomic::Ordering::SeqCst), 0);
                tokio::time::sleep(Duration::from_millis(30)).await;
                holders.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                lock.release().await.unwrap();
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    drop_databases(&store).await;
}

#[tokio::test]
async fn schema_refuses_an_edited_migration() {
    let Some(store) = migrated_store("edited").await else {
        return;
    };
    let mut edited = migrations();
    edited[2].checksum = "0".repeat(64);
    let error = apply(&store, &edited, &RetentionDays::default())
        .await
        .unwrap_err();
    assert!(
        matches!(&error, ApplyError::Plan(PlanError::ChecksumChanged { label, .. }) if label == "0003_logs"),
        "{error}"
    );
    drop_databases(&store).await;
}

#[tokio::test]
async fn drift_names_the_first_difference() {
    let Some(store) = migrated_store("drift").await else {
        return;
    };
    for (statement, object, what) in [
        (
            "ALTER TABLE {logs}.http_logs ADD COLUMN extra UInt8",
            "http_logs",
            "column extra",
        ),
        (
            "ALTER TABLE {logs}.http_logs DROP COLUMN extra, MODIFY COLUMN status UInt32",
            "http_logs",
            "column status type",
        ),
        ("ALTER TABLE {logs}.http_logs MODIFY COLUMN status UInt16", "", ""),
        (
            "DROP VIEW {processing}.mv_first_seen",
            "mv_first_seen",
            "the object",
        ),
    ] {
        store.execute(statement).await.unwrap();
        let difference = drift(&store, &migrations()).await.unwrap();
        match (difference, object) {
            (None, "") => {}
            (Some(difference), object) => {
                assert!(
                    difference.object.ends_with(object) && difference.what.starts_with(what),
                    "{difference}"
                );
            }
            (None, object) => panic!("no difference found in {object} after {statement}"),
        }
    }
    drop_databases(&store).await;
}

#[tokio::test]
async fn retention_follows_the_setting_and_0_keeps_for_ever() {
    let Some(store) = migrated_store("retention").await else {
        return;
    };
    let ttl = async |table: &str| {
        let sql = format!(
            "SELECT extract(engine_full, 'TTL (.*) SETTINGS') FROM system.tables WHERE database = '{}' AND name = '{table}'",
            store.names().logs()
        );
        store.value(&sql, &[]).await.unwrap().unwrap()
    };
    assert_eq!(ttl("http_logs").await, "toDateTime(recv_ts) + toIntervalDay(30)");
    let mut days = RetentionDays(BTreeMap::from([
        ("http_logs_days".to_owned(), 3),
        ("tls_logs_days".to_owned(), 0),
    ]));
    let changed = apply(&store, &migrations(), &days).await.unwrap();
    assert_eq!(changed.retention.len(), 3, "{changed:?}");
    assert_eq!(ttl("http_logs").await, "toDateTime(recv_ts) + toIntervalDay(3)");
    assert_eq!(ttl("tls_logs").await, "");
    days.0.insert("http_log_days".to_owned(), 1);
    let error = plan(&store, &migrations(), &days).await.unwrap_err().to_string();
    assert!(
        error.contains("http_log_days") && error.contains("http_logs_days"),
        "{error}"
    );
    drop_databases(&store).await;
}

/// Values that fit the rows of `fill` for each parameter.
fn param_value(name: &str, now: i64) -> String {
    let client = "::ffff:10.0.0.49";
    match name {
        "from" => return (now - 86_400 - 3_600).to_string(),
        "to" => return (now + 3_600).to_string(),
        "limit" | "n" => "100",
        "step_s" => "300",
        "seconds" => "86400",
        "prefix" => "t13",
        "contains" | "ja4" => "",
        "user_agent" => "%Chrome%",
        "before_us" | "to_us" => return ((now + 3_600) * 1_000_000).to_string(),
        "boot" | "seq" | "from_us" | "since_us" | "before_boot" | "before_seq" | "offset" | "value_id" => "0",
        "sort" => "requests",
        "ips" => "['::ffff:10.0.0.49']",
        "ids" => "[1]",
        "incident_ids" => "['00000000-0000-0000-0000-000000000000']",
        "act_id" => "11111111-1111-1111-1111-111111111111",
        "value" => "t13d1512h2_8daaf6152771_c6ef3620",
        "status_class" => "4",
        "path" => "/catalog",
        "kind" | "dim" => "ja4",
        "group_kind" => "host",
        "group_value" | "host" => "shop0.example",
        "shards" => "2",
        "shard" | "model_version" | "with_scored" => "1",
        "status" => "open",
        "user_name" => "ada",
        "page" => "overview",
        "model" | "model_name" => "web/1h",
        "src_ip" => client,
        "ts" => "1970-01-01 00:00:00",
        other => panic!("no value for parameter {other}"),
    }
    .to_owned()
}

async fn run(store: &Store, query: Query, overrides: &[(&str, &str)]) -> usize {
    let now: i64 = store
        .value("SELECT toString(toUnixTimestamp(now()))", &[])
        .await
        .unwrap()
        .unwrap()
        .parse()
        .unwrap();
    let values: Vec<(&str, String)> = query
        .params()
        .iter()
        .map(|(name, _)| {
            let given = overrides.iter().find(|(known, _)| known == name);
            (
                *name,
                given.map_or_else(|| param_value(name, now), |(_, value)| (*value).to_owned()),
            )
        })
        .collect();
    let params: Vec<(&str, &str)> = values
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    // A list is not a text: it stands in the statement itself here.
    let mut sql = query.sql(store.names());
    for ((name, kind), (_, value)) in query.params().iter().zip(&values) {
        if kind.starts_with("Array(") {
            sql = sql.replace(&format!("{{{name}:{kind}}}"), &format!("CAST({value}, '{kind}')"));
        }
    }
    store
        .rows(&sql, &params)
        .await
        .unwrap_or_else(|error| panic!("{}: {error}: {:?}", query.name, error.source))
        .len()
}

async fn schema_queries_run_on_an_empty_store(store: &Store) {
    for query in queries::all() {
        run(store, query, &[]).await;
    }
}

async fn schema_queries_answer_on_a_full_store(store: &Store) {
    let client = store
        .rows(
            "SELECT toString(src_ip), ja4, host, toString(boot), toString(seq), toString(ts), toString(entity_id), toString(header_order_hash)
             FROM {logs}.http_logs WHERE (src_ip, ja4, host) IN (SELECT src_ip, ja4, host FROM {processing}.soc_labels) LIMIT 1",
            &[],
        )
        .await
        .unwrap();
    let [src_ip, ja4, host, boot, seq, ts, id, order] = <[String; 8]>::try_from(client[0].clone()).unwrap();
    let incident = store
        .value(
            "SELECT toString(incident_id) FROM {processing}.soc_incidents LIMIT 1",
            &[],
        )
        .await
        .unwrap()
        .unwrap();
    let (ips, ids) = (format!("['{src_ip}']"), format!("[{id}]"));
    let incident_ids = format!("['{incident}']");
    let one = [
        ("src_ip", src_ip.as_str()),
        ("boot", &boot),
        ("seq", &seq),
        ("ts", &ts),
        ("ips", &ips),
        ("ids", &ids),
        ("incident_ids", &incident_ids),
        ("value_id", &order),
        ("value", &ja4),
    ];
    for query in queries::all() {
        let mut overrides = one.to_vec();
        // Others ask for a JA4 or a host of their own.
        if query.name.starts_with("client_") {
            overrides.extend([("ja4", ja4.as_str()), ("host", &host)]);
        }
        let n_rows = run(store, query, &overrides).await;
        assert!(n_rows > 0, "{} has no rows on a full store", query.name);
    }
}

#[test]
fn no_view_exists_that_nothing_reads() {
    let migrations = migrations();
    let steps: Vec<_> = migrations.iter().flat_map(|migration| &migration.steps).collect();
    let readers: Vec<&str> = queries::all().map(|query| query.text()).collect();
    for step in steps
        .iter()
        .filter(|step| step.sql.starts_with("CREATE OR REPLACE VIEW"))
    {
        let reads = |text: &&str| {
            text.contains(&format!(".{}", step.name))
                && !text.starts_with(&format!("CREATE OR REPLACE VIEW {{processing}}.{}{{", step.name))
        };
        let views = steps.iter().map(|other| other.sql.as_str());
        assert!(
            readers.iter().copied().chain(views).any(|text| reads(&text)),
            "{} is read by nothing",
            step.name
        );
    }
}

#[test]
fn every_table_is_read_by_a_query_or_view_and_explains_its_key() {
    let migrations = migrations();
    let is_forward = |migration: &&Migration| migration.kind == MigrationKind::Forward;
    let forward = migrations.iter().filter(is_forward);
    let steps: Vec<_> = forward.flat_map(|migration| &migration.steps).collect();
    for step in steps.iter().filter(|step| step.sql.starts_with("CREATE TABLE")) {
        assert!(
            step.key.as_ref().is_some_and(|key| key.len() > 10),
            "{} does not say which query its key serves",
            step.name
        );
        assert!(
            step.sharding.is_some(),
            "{} has no sharding expression",
            step.name
        );
        let name = format!(".{}", step.name);
        let read = queries::all().any(|query| query.text().contains(&name))
            || steps.iter().any(|other| {
                other.name != step.name
                    && (other.sql.contains(&name) || other.sql.contains(&format!("'{}'", step.name)))
            });
        assert!(read, "{} is read by nothing", step.name);
    }
}

async fn every_column_and_table_has_a_comment(store: &Store) {
    let names = store.names();
    let databases = format!("('{}', '{}')", names.logs(), names.processing());
    let bare = store
        .rows(&format!("SELECT table, name FROM system.columns WHERE database IN {databases} AND comment = '' AND table IN (SELECT name FROM system.tables WHERE database IN {databases} AND engine LIKE '%MergeTree')"), &[])
        .await
        .unwrap();
    assert!(bare.is_empty(), "columns without comment: {bare:?}");
    let bare = store
        .rows(&format!("SELECT name FROM system.tables WHERE database IN {databases} AND comment = '' AND engine != 'MaterializedView'"), &[])
        .await
        .unwrap();
    assert!(bare.is_empty(), "tables without comment: {bare:?}");
}

async fn every_table_that_an_insert_reaches_remembers_tokens(store: &Store) {
    let names = store.names();
    let without = store
        .rows(
            &format!(
                "SELECT name FROM system.tables WHERE database IN ('{}', '{}') AND engine LIKE '%MergeTree'
                 AND engine_full NOT LIKE '%non_replicated_deduplication_window = 10000%' AND name NOT IN ('schema_steps', 'schema_lock')",
                names.logs(),
                names.processing()
            ),
            &[],
        )
        .await
        .unwrap();
    assert!(without.is_empty(), "{without:?}");
}

async fn what_every_filter_reads_is_quick_to_unpack(store: &Store) {
    let sql = format!(
        "SELECT name, compression_codec FROM system.columns
         WHERE database = '{}' AND table = 'http_logs' AND name IN ('ts', 'path') ORDER BY name",
        store.names().logs()
    );
    let codecs = store.rows(&sql, &[]).await.unwrap();
    assert_eq!(codecs, [["path", "CODEC(LZ4)"], ["ts", "CODEC(T64, LZ4)"]]);
}

async fn max_requests_per_sec_is_always_0(store: &Store) {
    let found = store
        .value(
            "SELECT max(max_requests_per_sec) FROM {processing}.view_ai_features_24h(shards = 1, shard = 0)",
            &[],
        )
        .await
        .unwrap();
    assert_eq!(found.as_deref(), Some("0"));
}

async fn assert_columns<B: Block>(store: &Store) {
    let rows = store
        .rows(
            &format!(
                "SELECT name, type, default_kind FROM system.columns WHERE database = '{}' AND table = '{}'",
                store.names().logs(),
                B::TABLE
            ),
            &[],
        )
        .await
        .unwrap();
    // The server writes LowCardinality keys of a map itself.
    let wire = |type_name: &str| type_name.replace("Map(LowCardinality(String), ", "Map(String, ");
    let table: BTreeSet<(String, String)> = rows
        .iter()
        .filter(|row| !matches!(row[2].as_str(), "ALIAS" | "MATERIALIZED" | "DEFAULT"))
        .map(|row| (row[0].clone(), wire(&row[1])))
        .collect();
    let builder: BTreeSet<(String, String)> = B::COLUMNS
        .iter()
        .map(|(name, type_name)| ((*name).to_owned(), (*type_name).to_owned()))
        .collect();
    assert_eq!(builder, table, "{}", B::TABLE);
}

async fn schema_table_columns_match_the_builders(store: &Store) {
    assert_columns::<HttpLogsBlock>(store).await;
    assert_columns::<TlsLogsBlock>(store).await;
    assert_columns::<JoinCorrectionsBlock>(store).await;
    assert_columns::<SourceStatusBlock>(store).await;
    assert_columns::<QuarantineBlock>(store).await;
    assert_has_columns::<detection::ScoreRow<'_>>(store).await;
    assert_has_columns::<detection::DetectionEventRow<'_>>(store).await;
    assert_has_columns::<detection::AnomalyRow<'_>>(store).await;
    assert_has_columns::<detection::GroupScoreRow>(store).await;
    assert_has_columns::<detection::CycleRow>(store).await;
    assert_has_columns::<detection::IncidentRow>(store).await;
    assert_has_columns::<detection::ModelRow>(store).await;
    assert_has_columns::<detection::ActivationRow>(store).await;
}

/// Every column that the detector writes is one of its table's. That values arrive is the detector's own tests' to show.
async fn assert_has_columns<R: DetectionRow>(store: &Store) {
    let table: Vec<String> = store
        .rows(
            "SELECT name FROM system.columns WHERE database = '{processing}' AND table = {table:String}",
            &[("table", R::TABLE)],
        )
        .await
        .unwrap()
        .into_iter()
        .flatten()
        .collect();
    let unknown: Vec<&&str> = R::COLUMNS
        .iter()
        .filter(|name| !table.iter().any(|column| column == **name))
        .collect();
    assert!(unknown.is_empty(), "{}: {unknown:?}", R::TABLE);
}

#[test]
fn cluster_mode_replicates_and_distributes() {
    let names = Names::new("ja4_logs", "ja4_processing")
        .unwrap()
        .on_cluster("main")
        .unwrap();
    let text: String = migrations()
        .iter()
        .flat_map(|migration| migration.steps.iter().map(move |step| (migration.label(), step)))
        .flat_map(|(label, step)| {
            step.statements(&names)
                .into_iter()
                .map(move |statement| format!("-- {label}/{}\n{statement};\n\n", step.name))
        })
        .collect();
    assert!(!text.contains("{local}") && !text.contains("{replicated}") && !text.contains("{on_cluster}"));
    insta::assert_snapshot!(text);
}

#[test]
fn file_lists_are_those_of_the_folders() {
    let root = env!("CARGO_MANIFEST_DIR");
    let files = |folder: &str| -> Vec<String> {
        let mut files: Vec<String> = std::fs::read_dir(format!("{root}/{folder}"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        files.sort();
        files
    };
    let migrations: Vec<String> = migrations()
        .iter()
        .map(|migration| format!("{}.sql", migration.label()))
        .collect();
    assert_eq!(files("migrations"), migrations);
    let queries: Vec<String> = queries::all()
        .map(|query| format!("{}.sql", query.name))
        .collect();
    assert_eq!(files("queries"), queries);
}

async fn database_schema_document_is_not_stale(store: &Store) {
    let text = ja4_schema::doc::database_schema(store, &migrations())
        .await
        .unwrap();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/database-schema.md");
    let on_disk = std::fs::read_to_string(path).unwrap();
    let first = on_disk.lines().zip(text.lines()).find(|(old, new)| old != new);
    assert!(
        on_disk == text,
        "docs/database-schema.md is stale: run `cargo run -p ja4-schema --bin schema-doc -- --write`; first difference: {first:?}"
    );
}
