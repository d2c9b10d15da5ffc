//! A real store for tests: one that `CLICKHOUSE_URL` names, else `ja4-clickhouse` on a temporary folder.

use ja4_schema::{Names, RetentionDays, Store, apply, migrations};

/// A store with databases of this test's own, not migrated yet. `None`, with a message, where no store can run.
pub fn empty_store(test: &str) -> Option<Store> {
    let url = std::env::var("CLICKHOUSE_URL").ok()?;
    let unique = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() % 1_000_000_007;
    let names = Names::new(&format!("t_{test}_{unique}_logs"), &format!("t_{test}_{unique}_proc")).unwrap();
    Some(Store::new(&url, names))
}

/// The same with all migrations applied.
pub async fn migrated_store(test: &str) -> Option<Store> {
    let store = empty_store(test)?;
    apply(&store, &migrations(), &RetentionDays::default()).await.unwrap();
    Some(store)
}

/// Drops the test's databases.
pub async fn drop_databases(store: &Store) {
    store.execute("DROP DATABASE IF EXISTS {logs} SYNC").await.unwrap();
    store.execute("DROP DATABASE IF EXISTS {processing} SYNC").await.unwrap();
}
