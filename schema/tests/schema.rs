//! Migrations, views and queries on a real store.

mod common;

use common::{drop_databases, empty_store, migrated_store};
use ja4_schema::{RetentionDays, apply, migrations, plan, status, verify};

#[tokio::test]
async fn schema_applies_from_empty_and_then_has_nothing_to_do() {
    let Some(store) = empty_store("apply") else { return };
    let before = plan(&store, &migrations(), &RetentionDays::default()).await.unwrap();
    let n_steps: usize = migrations().iter().map(|migration| migration.steps.len()).sum();
    assert_eq!(before.steps.len(), n_steps);
    let applied = apply(&store, &migrations(), &RetentionDays::default()).await.unwrap();
    assert_eq!(applied.steps.len(), n_steps);
    let again = apply(&store, &migrations(), &RetentionDays::default()).await.unwrap();
    assert!(again.steps.is_empty() && again.retention.is_empty(), "{again:?}");
    assert!(status(&store).await.unwrap().migrations.iter().all(|migration| migration.is_complete()));
    drop_databases(&store).await;
}

#[tokio::test]
async fn schema_verify_finds_the_exact_values() {
    let Some(store) = migrated_store("verify").await else { return };
    match verify(&store, &migrations()).await {
        Ok(verified) => println!("{verified:?}"),
        Err(error) => panic!("{error}: {:?}", std::error::Error::source(&error)),
    }
    drop_databases(&store).await;
}
