//! A store that goes away is said soon, everywhere, and the pages recover by themselves.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{Browser, Dashboard, TestStore};

#[tokio::test]
async fn a_store_that_goes_away_is_said_and_the_pages_recover() {
    let folder = tempfile::tempdir().unwrap();
    let Some(mut store) = TestStore::start(folder.path()).await else {
        return;
    };
    let dashboard = Dashboard::start(folder.path(), &store, "");
    let browser = dashboard.admin_browser().await;
    let admin = Browser {
        address: dashboard.admin.clone(),
        ..dashboard.browser()
    };
    browser.ok("/api/v1/clients").await;
    store.kill();
    for path in [
        "/api/v1/clients",
        "/api/v1/overview",
        "/api/v1/requests",
        "/api/v1/export/requests?format=csv",
    ] {
        let problem = browser.refused(path, 503).await;
        assert_eq!(problem["code"], "store_unreachable", "{path}");
        assert!(
            problem["detail"]
                .as_str()
                .unwrap()
                .contains("the store does not answer")
        );
        let shown = problem.to_string();
        assert!(
            !shown.contains("127.0.0.1") && !shown.contains("os error"),
            "{shown}"
        );
    }
    let label = json!({ "clients": [{ "src_ip": "192.0.2.1", "ja4": "", "host": "a" }], "label": "bot" });
    assert_eq!(browser.post("/api/v1/labels", &label).await.status, 503);
    // What needs no store still works, and says so.
    browser.ok("/api/v1/auth/me").await;
    browser.ok("/api/v1/fields").await;
    assert_eq!(browser.get("/").await.status, 200);
    until("the strip says it", || async {
        let status = browser.ok("/api/v1/status").await;
        status["store"]["state"] == "unreachable" && status["store"]["detail"].is_string()
    })
    .await;
    until("readiness says it", || async {
        let ready = admin.get("/readyz").await;
        ready.status == 503 && ready.text().contains("store:")
    })
    .await;
    assert_eq!(admin.get("/healthz").await.status, 200);

    store.restart();
    until("the pages recover", || async {
        browser.get("/api/v1/clients").await.status == 200
    })
    .await;
    until("the strip recovers", || async {
        browser.ok("/api/v1/status").await["store"]["state"] == "ok"
    })
    .await;
    until("readiness recovers", || async {
        admin.get("/readyz").await.status == 200
    })
    .await;
    let log = dashboard.log();
    assert_eq!(log.matches("the store does not answer").count(), 1, "{log}");
    assert!(log.contains("the store answers again"), "{log}");
}

#[tokio::test]
async fn a_store_without_our_tables_is_said_with_the_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let Some(store) = TestStore::start(folder.path()).await else {
        return;
    };
    let dashboard = Dashboard::start(folder.path(), &store, "");
    let browser = dashboard.admin_browser().await;
    store
        .store
        .execute("DROP TABLE {processing}.ml_all_scores SYNC")
        .await
        .unwrap();
    let problem = browser.refused("/api/v1/clients", 503).await;
    assert_eq!(problem["code"], "store_not_migrated");
    assert!(problem["remedy"].as_str().unwrap().contains("ja4 schema apply"));
}

async fn until<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let deadline = Instant::now() + Duration::from_mins(1);
    while !holds().await {
        assert!(Instant::now() < deadline, "{what}: not within a minute");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
