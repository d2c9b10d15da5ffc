//! Fills a store with something of everything. The dashboard's tests have the same.

use ja4_schema::Store;
use ja4_schema::synthetic::SyntheticRequests;

/// Puts synthetic requests of the last day and something into every other table.
pub(crate) async fn fill(store: &Store, rows: u64) {
    let end = store
        .value("SELECT toString(toDateTime(now(), 'UTC'))", &[])
        .await
        .unwrap()
        .unwrap();
    let requests = SyntheticRequests {
        first: 0,
        rows,
        total: rows,
        days: 1,
        end: &end,
    };
    store.execute(&requests.sql()).await.unwrap();
    for statement in include_str!("fill.sql")
        .split(";\n")
        .map(str::trim)
        .filter(|statement| !statement.is_empty())
    {
        store.execute(statement).await.unwrap();
    }
}
