//! A real store for tests: one that `CLICKHOUSE_URL` names, else `ja4-clickhouse` on a temporary folder.

#![allow(dead_code, reason = "each test binary uses some of it")]

use ja4_schema::{Names, RetentionDays, Store, apply, migrations};

/// A store with databases of this test's own, not migrated yet. `None`, with a message, where no store can run.
pub(crate) fn empty_store(test: &str) -> Option<Store> {
    let url = store_url()?;
    let unique = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_nanos()
        % 1_000_000_007;
    let names = Names::new(
        &format!("t_{test}_{unique}_logs"),
        &format!("t_{test}_{unique}_proc"),
    )
    .unwrap();
    Some(Store::new(&url, names))
}

/// Address of the store; `None`, with a message, where none can run.
pub(crate) fn store_url() -> Option<String> {
    if let Ok(url) = std::env::var("CLICKHOUSE_URL") {
        return Some(url);
    }
    println!("skipped: no store: set CLICKHOUSE_URL");
    None
}

/// The same with all migrations applied.
pub(crate) async fn migrated_store(test: &str) -> Option<Store> {
    let store = empty_store(test)?;
    apply(&store, &migrations(), &RetentionDays::default())
        .await
        .unwrap();
    Some(store)
}

/// Drops the test's databases.
pub(crate) async fn drop_databases(store: &Store) {
    store
        .execute("DROP DATABASE IF EXISTS {logs} SYNC")
        .await
        .unwrap();
    store
        .execute("DROP DATABASE IF EXISTS {processing} SYNC")
        .await
        .unwrap();
}

/// Puts synthetic requests of the last day and something into every other table.
pub(crate) async fn fill(store: &Store, rows: u64) {
    let end = store
        .value("SELECT toString(toDateTime(now(), 'UTC'))", &[])
        .await
        .unwrap()
        .unwrap();
    let sql = [
        ("first", "0"),
        ("rows", &rows.to_string()),
        ("total", &rows.to_string()),
        ("days", "1"),
        ("end", &format!("'{end}'")),
    ]
    .iter()
    .fold(ja4_schema::generate_sql().to_owned(), |sql, (name, value)| {
        let start = format!("{{{name}:");
        let mut out = String::new();
        let mut rest = sql.as_str();
        while let Some((before, after)) = rest.split_once(&start) {
            out.push_str(before);
            out.push_str(value);
            rest = after.split_once('}').unwrap().1;
        }
        out + rest
    });
    store.execute(&sql).await.unwrap();
    for statement in include_str!("fill.sql")
        .split(";\n")
        .map(str::trim)
        .filter(|statement| !statement.is_empty())
    {
        store.execute(statement).await.unwrap();
    }
}
