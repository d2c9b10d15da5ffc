//! What pages show is what the store has.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::support::{Browser, TestStore, encoded};

async fn count(store: &TestStore, condition: &str) -> u64 {
    store
        .store
        .value(
            &format!("SELECT count() FROM {{logs}}.http_logs WHERE {condition}"),
            &[],
        )
        .await
        .unwrap()
        .unwrap()
        .parse()
        .unwrap()
}

fn array<'v>(value: &'v Value, key: &str) -> &'v Vec<Value> {
    value[key]
        .as_array()
        .unwrap_or_else(|| panic!("no list {key} in {value}"))
}

/// All checks that one filled store allows.
pub(crate) async fn on_a_full_store(browser: &Browser, store: &TestStore) {
    filters_count_what_the_store_counts(browser, store).await;
    pages_of_requests_leave_nothing_out(browser, store).await;
    the_triage_list_ranks_by_evidence_and_goes_on(browser).await;
    a_client_and_its_groups_can_be_opened(browser).await;
    facets_and_completion_agree(browser, store).await;
    exports_are_exactly_what_is_filtered(browser, store).await;
}

async fn filters_count_what_the_store_counts(browser: &Browser, store: &TestStore) {
    for (q, condition) in [
        ("", "1"),
        ("host:shop0.example", "host = 'shop0.example'"),
        ("-host:shop0.example", "host != 'shop0.example'"),
        ("status:>=400", "status >= 400"),
        ("status:4xx", "status BETWEEN 400 AND 499"),
        (
            "src_ip:10.1.0.0/16",
            "isIPAddressInRange(toString(src_ip), '::ffff:10.1.0.0/112')",
        ),
        ("ua:*chrome*", "user_agent ILIKE '%chrome%'"),
        ("path:/catalog/*", "path LIKE '/catalog/%'"),
        ("match:none", "match = 'none'"),
        (
            "method:(GET OR POST) -status:404",
            "method IN ('GET', 'POST') AND status != 404",
        ),
        ("has_header:cookie", "bitTest(header_flags, 3)"),
        (
            "catalog",
            "user_agent ILIKE '%catalog%' OR path ILIKE '%catalog%' OR host ILIKE '%catalog%'",
        ),
        ("ja4:\"\"", "ja4 = ''"),
        (
            "bytes:>1k duration:<1s",
            "bytes_sent > 1000 AND duration_us < 1000000",
        ),
        (
            "label:legitimate",
            "(src_ip, ja4, host) IN (SELECT src_ip, ja4, host FROM {processing}.soc_labels)",
        ),
        (
            "label:none",
            "(src_ip, ja4, host) NOT IN (SELECT src_ip, ja4, host FROM {processing}.soc_labels)",
        ),
        (
            "evidence:>=10",
            "(src_ip, ja4, host) IN (SELECT src_ip, ja4, host FROM {processing}.ml_all_scores)",
        ),
        (
            "verdict:unscored",
            "(src_ip, ja4, host) NOT IN (SELECT src_ip, ja4, host FROM {processing}.ml_all_scores)",
        ),
        (
            "reason:requests",
            "(src_ip, ja4, host) IN (SELECT src_ip, ja4, host FROM {processing}.ml_all_scores)",
        ),
        (
            "model:web/1h -reason:nothing*",
            "(src_ip, ja4, host) IN (SELECT src_ip, ja4, host FROM {processing}.ml_all_scores)",
        ),
    ] {
        // The window is wider than the rows, so that a second does not matter.
        let url = format!("/api/v1/histogram?from=now-3d&step=3600&q={}", encoded(q));
        let histogram = browser.ok(&url).await;
        let expected = count(store, condition).await;
        assert_eq!(histogram["total"], expected, "{q}");
        let sum: u64 = array(&histogram, "points")
            .iter()
            .map(|p| p["requests"].as_u64().unwrap())
            .sum();
        assert_eq!(sum, expected, "{q}");
        let by_the_second = browser
            .ok(&format!("/api/v1/histogram?from=now-3d&q={}", encoded(q)))
            .await;
        assert_eq!(by_the_second["total"], expected, "{q}");
    }
}

async fn pages_of_requests_leave_nothing_out(browser: &Browser, store: &TestStore) {
    let q = encoded("status:404");
    let mut seen = BTreeSet::new();
    let mut last = String::new();
    let mut cursor = String::new();
    loop {
        let page = browser
            .ok(&format!("/api/v1/requests?from=now-3d&limit=100&q={q}{cursor}"))
            .await;
        for request in array(&page, "requests") {
            assert_eq!(request["status"], 404);
            let ts = request["ts"].as_str().unwrap().to_owned();
            assert!(last.is_empty() || ts <= last, "newest first");
            last = ts;
            assert!(
                seen.insert((
                    request["boot"].clone().to_string(),
                    request["seq"].clone().to_string()
                )),
                "twice"
            );
        }
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(seen.len() as u64, count(store, "status = 404").await);
}

async fn the_triage_list_ranks_by_evidence_and_goes_on(browser: &Browser) {
    let mut seen = BTreeSet::new();
    let mut cursor = String::new();
    let mut scored_are_over = false;
    // Beyond the 500 that have a score.
    for _ in 0..3 {
        let page = browser
            .ok(&format!("/api/v1/clients?from=now-3d&limit=300{cursor}"))
            .await;
        for client in array(&page, "clients") {
            let key = format!("{} {} {}", client["src_ip"], client["ja4"], client["host"]);
            assert!(seen.insert(key.clone()), "{key} twice");
            assert!(client["requests"].as_u64().unwrap() > 0, "{client}");
            if client["evidence_bits"].is_null() {
                scored_are_over = true;
                assert_eq!(client["verdict"], "unscored");
                assert!(array(client, "models").is_empty());
            } else {
                assert!(!scored_are_over, "clients with a score come first");
                let reasons = array(client, "reasons");
                assert!(
                    reasons[0]["text"].as_str().unwrap().contains("4 037"),
                    "{}",
                    reasons[0]
                );
                let sum: f64 = reasons.iter().map(|r| r["contribution"].as_f64().unwrap()).sum();
                assert!((sum - client["evidence_bits"].as_f64().unwrap()).abs() < 0.01);
            }
        }
        cursor = format!("&cursor={}", page["next_cursor"].as_str().unwrap());
    }
    assert_eq!(seen.len(), 900);
    assert!(scored_are_over);
    for (sort, key) in [("requests", "requests"), ("errors", "errors")] {
        let page = browser
            .ok(&format!("/api/v1/clients?from=now-3d&limit=50&sort={sort}"))
            .await;
        let values: Vec<u64> = array(&page, "clients")
            .iter()
            .map(|c| c[key].as_u64().unwrap())
            .collect();
        assert!(values.is_sorted_by(|a, b| a >= b), "{sort}: {values:?}");
    }
    let filtered = browser
        .ok(&format!(
            "/api/v1/clients?from=now-3d&limit=500&q={}",
            encoded("label:legitimate")
        ))
        .await;
    assert_eq!(array(&filtered, "clients").len(), 1);
    assert_eq!(filtered["clients"][0]["label"]["label"], "legitimate");
    let problem = browser.refused("/api/v1/clients?cursor=x", 400).await;
    assert_eq!(problem["code"], "bad_parameter");
}

async fn a_client_and_its_groups_can_be_opened(browser: &Browser) {
    let page = browser
        .ok(&format!(
            "/api/v1/clients?from=now-3d&limit=1&q={}",
            encoded("ja4:* evidence:>1")
        ))
        .await;
    let client = &page["clients"][0];
    let (ip, ja4, host) = (
        client["src_ip"].as_str().unwrap(),
        client["ja4"].as_str().unwrap(),
        client["host"].as_str().unwrap(),
    );
    assert!(!ip.contains("ffff"), "{ip}");
    let key = format!(
        "from=now-3d&src_ip={}&ja4={}&host={}",
        encoded(ip),
        encoded(ja4),
        encoded(host)
    );
    let opened = browser.ok(&format!("/api/v1/client?{key}")).await;
    assert_eq!(opened["client"]["entity_id"], client["entity_id"]);
    assert_eq!(opened["client"]["requests"], client["requests"]);
    assert!(!array(&opened["facts"], "user_agents").is_empty());
    assert!(!array(&opened["matrix"], "cells").is_empty());
    let waterfall = &opened["waterfalls"][0];
    assert_eq!(
        waterfall["steps"].as_array().unwrap().last().unwrap()["sum"],
        waterfall["total"]
    );
    let numbers = &opened["numbers"][0];
    assert_eq!(numbers["features"][0]["feature"], "requests");
    assert_eq!(numbers["features"][0]["median"], 1.0);
    assert_eq!(numbers["features"][0]["percentile"], 100.0);
    let timeline = browser
        .ok(&format!("/api/v1/client/timeline?{key}&step=3600"))
        .await;
    let sum: u64 = array(&timeline, "points")
        .iter()
        .map(|p| p["requests"].as_u64().unwrap())
        .sum();
    assert_eq!(sum, client["requests"].as_u64().unwrap());
    assert!(
        array(&timeline, "events")
            .iter()
            .any(|e| e["kind"] == "detection")
    );
    let requests = browser
        .ok(&format!("/api/v1/client/requests?{key}&limit=1000"))
        .await;
    assert_eq!(array(&requests, "requests").len() as u64, sum);
    let scores = browser.ok(&format!("/api/v1/client/scores?{key}")).await;
    assert_eq!(scores["scores"][0]["evidence_bits"], 12.0);
    let first = &requests["requests"][0];
    let detail = browser
        .ok(&format!(
            "/api/v1/request?ts={}&src_ip={}&boot={}&seq={}",
            encoded(first["ts"].as_str().unwrap()),
            encoded(ip),
            first["boot"].as_str().unwrap(),
            first["seq"].as_str().unwrap()
        ))
        .await;
    let columns = array(&detail, "columns");
    let column = |name: &str| {
        columns
            .iter()
            .find(|c| c["name"] == name)
            .unwrap_or_else(|| panic!("no {name}"))
    };
    assert_eq!(column("src_ip")["value"], ip);
    assert!(column("ts")["comment"].as_str().unwrap().contains("UTC"));
    assert_eq!(column("conn_uid")["value"].as_str().unwrap().len(), 32);
    let order = column("header_order_hash")["value"].to_string().replace('"', "");
    let orders = array(&opened["facts"], "header_orders");
    assert!(
        orders.iter().any(|shown| shown["hash"] == *order),
        "{order} is none of {orders:?}"
    );
    assert!(opened["facts"]["user_agents"][0]["hash"].is_null());
    let agent = column("user_agent")["value"].as_str().unwrap();
    for (kind, value) in [
        ("ja4", ja4),
        ("host", host),
        ("prefix", &format!("{ip}/24")),
        ("header_order", &order),
        ("user_agent", agent),
    ] {
        let group = browser
            .ok(&format!(
                "/api/v1/group?from=now-3d&kind={kind}&value={}",
                encoded(value)
            ))
            .await;
        assert!(
            group["totals"]["requests"].as_u64().unwrap() >= 1,
            "{kind}: {group}"
        );
        assert!(!array(&group, "clients").is_empty(), "{kind}");
        let q = encoded(group["filter"].as_str().unwrap());
        let histogram = browser.ok(&format!("/api/v1/histogram?from=now-3d&q={q}")).await;
        assert_eq!(
            histogram["total"], group["totals"]["requests"],
            "{kind}: its filter gives the same requests"
        );
    }
}

async fn facets_and_completion_agree(browser: &Browser, store: &TestStore) {
    for q in ["", "status:<900"] {
        let facets = browser
            .ok(&format!("/api/v1/facets?from=now-3d&q={}", encoded(q)))
            .await;
        let methods = array(&facets, "facets")
            .iter()
            .find(|f| f["field"] == "method")
            .unwrap();
        let get = array(methods, "values")
            .iter()
            .find(|v| v["value"] == "GET")
            .unwrap();
        assert_eq!(get["requests"], count(store, "method = 'GET'").await, "{q:?}");
    }
    let values = browser
        .ok("/api/v1/values?from=now-3d&field=host&prefix=shop&limit=5")
        .await;
    let values = array(&values, "values");
    assert_eq!(values.len(), 5);
    assert!(
        values
            .iter()
            .all(|v| v["value"].as_str().unwrap().starts_with("shop"))
    );
    let filtered = browser
        .ok(&format!(
            "/api/v1/values?from=now-3d&field=path&prefix=/&q={}",
            encoded("status:404")
        ))
        .await;
    assert!(!array(&filtered, "values").is_empty());
    let labels = browser.ok("/api/v1/values?field=label").await;
    assert_eq!(array(&labels, "values").len(), 5);
    browser.refused("/api/v1/values?field=nonsense", 400).await;
}

async fn exports_are_exactly_what_is_filtered(browser: &Browser, store: &TestStore) {
    let q = encoded("status:404");
    let expected = count(store, "status = 404").await;
    let csv = browser
        .get(&format!("/api/v1/export/requests?format=csv&from=now-3d&q={q}"))
        .await;
    assert_eq!(csv.header("x-rows"), expected.to_string());
    assert_eq!(csv.header("x-truncated"), "");
    assert!(
        csv.header("content-disposition")
            .starts_with("attachment; filename=\"ja4-requests-")
    );
    let mut reader = csv::Reader::from_reader(&csv.body[..]);
    let status = reader
        .headers()
        .unwrap()
        .iter()
        .position(|name| name == "status")
        .unwrap();
    let records: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
    assert_eq!(records.len() as u64, expected);
    assert!(records.iter().all(|record| &record[status] == "404"));
    let ndjson = browser
        .get(&format!(
            "/api/v1/export/requests?format=ndjson&from=now-3d&q={q}"
        ))
        .await;
    let lines: Vec<Value> = ndjson
        .text()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len() as u64, expected);
    assert!(
        lines
            .iter()
            .all(|line| line["status"] == 404 && !line["src_ip"].as_str().unwrap().contains("ffff"))
    );
    let q = encoded("evidence:>1");
    let clients = browser
        .get(&format!("/api/v1/export/clients?format=ndjson&from=now-3d&q={q}"))
        .await;
    let lines: Vec<Value> = clients
        .text()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 500);
    assert_eq!(clients.header("x-rows"), "500");
    assert!(lines[0]["reasons"].as_str().unwrap().contains("4 037"));
}
