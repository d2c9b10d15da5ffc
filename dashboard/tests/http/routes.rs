//! Every route of the `OpenAPI` document answers 200 on an empty and on a full store, and says what is wrong otherwise.

use serde_json::{Value, json};

use crate::support::{Browser, Dashboard, TestStore, encoded, run};

/// Values for the parameters that a route needs.
fn value(name: &str, known: &Value) -> String {
    match name {
        "kind" => "ja4".to_owned(),
        "field" => "host".to_owned(),
        "format" => "csv".to_owned(),
        "value" => known["ja4"].as_str().unwrap().to_owned(),
        name => known[name]
            .as_str()
            .unwrap_or_else(|| panic!("no value for parameter {name}"))
            .to_owned(),
    }
}

fn document() -> Value {
    let (status, out, _) = run(&["openapi"], "");
    assert_eq!(status, 0);
    serde_json::from_str(&out).unwrap()
}

#[test]
fn the_committed_document_is_not_stale() {
    let committed = include_str!("../../web/openapi.json");
    let (_, printed, _) = run(&["openapi"], "");
    assert!(
        printed == committed,
        "run: ja4-dashboard openapi > dashboard/web/openapi.json, then generate the client's types again"
    );
}

/// Asks every GET route with only what it needs.
async fn every_route_answers(browser: &Browser, known: &Value, absent: &[&str]) {
    let document = document();
    let mut n_asked = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        let Some(operation) = item.get("get") else {
            continue;
        };
        let none = Vec::new();
        let params = operation["parameters"].as_array().unwrap_or(&none);
        let query: Vec<String> = params
            .iter()
            .filter(|param| param["required"] == true)
            .map(|param| {
                let name = param["name"].as_str().unwrap();
                format!("{name}={}", encoded(&value(name, known)))
            })
            .collect();
        let url = format!("{path}?{}", query.join("&"));
        let answer = browser.get(&url).await;
        n_asked += 1;
        if absent.contains(&path.as_str()) {
            assert_eq!(answer.status, 404, "{url}: {}", answer.text());
            continue;
        }
        assert_eq!(answer.status, 200, "{url}: {}", answer.text());
        assert!(
            answer
                .header("content-security-policy")
                .contains("default-src 'none'"),
            "{url}"
        );
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{url}");
        assert_eq!(answer.header("cache-control"), "no-store", "{url}");
        assert!(!answer.header("x-request-id").is_empty(), "{url}");
        let is_list = answer.header("content-type").starts_with("application/json")
            && !path.starts_with("/api/v1/auth/")
            && !["/api/v1/status", "/api/v1/fields", "/api/v1/truth"].contains(&path.as_str());
        if is_list {
            let json = answer.json();
            for key in ["truncated", "took_ms", "as_of"] {
                assert!(json.get(key).is_some(), "{url} has no {key}");
            }
            // A completion is of the first few by design; whether there are more depends on what other tests put there.
            if path != "/api/v1/values" {
                assert_eq!(json["truncated"], Value::Null, "{url}");
            }
        }
        // A parameter that nobody knows is a mistake, not something to be left out silently.
        if !params.is_empty() {
            let problem = browser.refused(&format!("{url}&nonsense=1"), 400).await;
            assert_eq!(problem["code"], "bad_parameter", "{url}");
        }
    }
    assert!(n_asked >= 20, "{n_asked}");
}

#[tokio::test]
async fn every_route_answers_on_an_empty_store() {
    let folder = tempfile::tempdir().unwrap();
    let Some(store) = TestStore::start(folder.path()).await else {
        return;
    };
    let dashboard = Dashboard::start(folder.path(), &store, "");
    let browser = dashboard.admin_browser().await;
    let nobody = json!({
        "src_ip": "192.0.2.1", "ja4": "t13d", "host": "a.example",
        "ts": "2026-05-01T00:00:00Z", "boot": "1", "seq": "1",
    });
    every_route_answers(
        &browser,
        &nobody,
        &["/api/v1/request", "/api/v1/truth", "/api/v1/client/why"],
    )
    .await;
    let status = browser.ok("/api/v1/status").await;
    assert_eq!(status["state"], "waiting");
    assert_eq!(status["store"]["state"], "ok");
    assert_eq!(status["data"], Value::Null);
    let overview = browser.ok("/api/v1/overview").await;
    assert_eq!(overview["totals"]["requests"], 0);
    assert_eq!(overview["joins"]["rate"], Value::Null);
    assert_eq!(overview["novelties"], Value::Null);
    let problem = browser.refused("/api/v1/nonsense", 404).await;
    assert_eq!(problem["code"], "not_found");
    // The first page, and any address of the application.
    for path in ["/", "/clients?q=x", "/login"] {
        let page = browser.get(path).await;
        assert_eq!(page.status, 200, "{path}");
        assert!(page.header("content-type").starts_with("text/html"), "{path}");
        assert!(
            page.header("content-security-policy")
                .contains("script-src 'self'"),
            "{path}"
        );
    }
    assert_eq!(browser.get("/assets/gone.0123.js").await.status, 404);
}

#[tokio::test]
async fn every_route_answers_on_a_full_store() {
    let folder = tempfile::tempdir().unwrap();
    let Some(store) = TestStore::start(folder.path()).await else {
        return;
    };
    store.fill(20_000).await;
    let truth = folder.path().join("truth.json");
    std::fs::write(&truth, r#"{"bots": []}"#).unwrap();
    let dashboard = Dashboard::start(
        folder.path(),
        &store,
        &format!("truth_file: {}\n", truth.display()),
    );
    let browser = dashboard.admin_browser().await;
    let requests = browser.ok("/api/v1/requests?limit=1&q=ja4:*").await;
    let known = requests["requests"][0].clone();
    every_route_answers(&browser, &known, &["/api/v1/client/why"]).await;
    crate::pages::on_a_full_store(&browser, &store).await;
    crate::acts::on_a_full_store(&browser, &dashboard).await;
    crate::hostile::filters_and_parameters(&browser).await;
    let metrics = Browser {
        address: dashboard.admin.clone(),
        ..dashboard.browser()
    };
    let text = metrics.get("/metrics").await.text();
    assert!(
        text.contains(
            "dashboard_http_requests_total{method=\"GET\",route=\"/api/v1/clients\",status=\"2xx\"}"
        ),
        "{text}"
    );
    assert!(
        text.contains("dashboard_queries_total{outcome=\"ok\",query=\"triage_scored\"}"),
        "{text}"
    );
    assert_eq!(metrics.get("/readyz").await.status, 200);
    let log = dashboard.log();
    assert!(!log.contains("ERROR") && !log.contains("panicked"), "{log}");
}
