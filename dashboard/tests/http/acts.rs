//! What analysts do: labels, undo, rules; and that it is all in the audit.

use serde_json::{Value, json};

use crate::support::{Browser, Dashboard, encoded};

/// Checks on the filled store.
pub(crate) async fn on_a_full_store(browser: &Browser, dashboard: &Dashboard) {
    let page = browser
        .ok(&format!(
            "/api/v1/clients?from=now-3d&limit=5&q={}",
            encoded("label:none evidence:>1 ja4:*")
        ))
        .await;
    let clients: Vec<Value> = page["clients"].as_array().unwrap().iter().map(key).collect();
    assert_eq!(clients.len(), 5);
    labels_hold_and_can_be_taken_back(browser, &clients).await;
    what_cannot_be_labelled_is_refused(browser, &clients).await;
    rules_say_what_they_would_hit(browser, &clients).await;
    every_act_is_in_the_audit(browser, dashboard).await;
}

fn key(client: &Value) -> Value {
    json!({ "src_ip": client["src_ip"], "ja4": client["ja4"], "host": client["host"] })
}

async fn label_of(browser: &Browser, client: &Value) -> Value {
    let text = |name: &str| encoded(client[name].as_str().unwrap());
    let page = browser
        .ok(&format!(
            "/api/v1/client?from=now-3d&src_ip={}&ja4={}&host={}",
            text("src_ip"),
            text("ja4"),
            text("host")
        ))
        .await;
    page["client"]["label"]["label"].clone()
}

async fn labels_hold_and_can_be_taken_back(browser: &Browser, clients: &[Value]) {
    let body = json!({ "clients": clients, "label": "bot", "note": " asks like one \u{202e}<b>" });
    let first = browser.done("/api/v1/labels", &body).await;
    assert_eq!(first["changed"], 5);
    for client in clients {
        assert_eq!(label_of(browser, client).await, "bot");
    }
    let listed = browser
        .ok(&format!("/api/v1/clients?from=now-3d&q={}", encoded("label:bot")))
        .await;
    assert_eq!(listed["clients"].as_array().unwrap().len(), 5);
    let overview = browser.ok("/api/v1/overview?from=now-3d").await;
    assert_eq!(overview["clients"]["bot"], 5);
    let label = &listed["clients"][0]["label"];
    assert_eq!(label["note"], "asks like one \u{202e}<b>");
    assert_eq!(label["act_id"], first["act_id"]);
    // Another verdict on one of them: the first act can then be taken back for the others only.
    let second = browser
        .done(
            "/api/v1/labels",
            &json!({ "clients": [clients[0]], "label": "legitimate" }),
        )
        .await;
    let undone = browser
        .done("/api/v1/labels/undo", &json!({ "act_id": first["act_id"] }))
        .await;
    assert_eq!(undone["changed"], 4);
    assert_eq!(undone["left_alone"], json!([clients[0]]));
    assert_eq!(label_of(browser, &clients[0]).await, "legitimate");
    assert_eq!(label_of(browser, &clients[1]).await, Value::Null);
    // Taking the second back brings the first verdict back, note and all.
    browser
        .done("/api/v1/labels/undo", &json!({ "act_id": second["act_id"] }))
        .await;
    assert_eq!(label_of(browser, &clients[0]).await, "bot");
    let history = browser.ok("/api/v1/labels").await;
    let entries = history["labels"].as_array().unwrap();
    assert_eq!(entries[0]["undoes"], second["act_id"]);
    assert_eq!(entries[0]["before"], "legitimate");
    assert_eq!(entries[0]["note"], "asks like one \u{202e}<b>");
    let of_second = entries.iter().find(|e| e["act_id"] == second["act_id"]).unwrap();
    assert_eq!(of_second["undone"], true);
    // The vector that was judged is frozen with it.
    assert_eq!(of_second["model_name"], "web/1h");
    assert_eq!(of_second["model_version"], 1);
    for act in [&first["act_id"], &second["act_id"]] {
        let again = browser
            .post("/api/v1/labels/undo", &json!({ "act_id": act }))
            .await;
        assert_eq!(again.status, 409, "{}", again.text());
    }
    let expiring =
        json!({ "clients": [clients[1]], "label": "unsure", "expires_at": "2099-01-01T00:00:00Z" });
    browser.done("/api/v1/labels", &expiring).await;
    let page = browser
        .ok(&format!(
            "/api/v1/clients?from=now-3d&q={}",
            encoded("label:unsure")
        ))
        .await;
    assert_eq!(page["clients"][0]["label"]["expires_at"], "2099-01-01T00:00:00Z");
}

async fn what_cannot_be_labelled_is_refused(browser: &Browser, clients: &[Value]) {
    let one = &clients[..1];
    for (body, with) in [
        (json!({ "clients": [], "label": "bot" }), "1 to 500"),
        (json!({ "clients": one, "label": "evil" }), "label"),
        (
            json!({ "clients": one, "label": "bot", "note": "x".repeat(2001) }),
            "2000",
        ),
        (
            json!({ "clients": one, "label": "bot", "expires_at": "2000-01-01T00:00:00Z" }),
            "passed",
        ),
        (
            json!({ "clients": one, "label": "bot", "expires_at": "tomorrow" }),
            "time",
        ),
        (
            json!({ "clients": [{ "src_ip": "x", "ja4": "", "host": "" }], "label": "bot" }),
            "address",
        ),
        (
            json!({ "clients": one, "label": "bot", "nonsense": 1 }),
            "nonsense",
        ),
    ] {
        let answer = browser.post("/api/v1/labels", &body).await;
        assert_eq!(answer.status, 400, "{body}: {}", answer.text());
        assert!(
            answer.json()["detail"].as_str().unwrap().contains(with),
            "{}",
            answer.text()
        );
    }
    let long = json!({ "clients": one, "label": "bot", "note": "x".repeat(2 << 20) });
    let answer = browser.post("/api/v1/labels", &long).await;
    assert_eq!(
        (answer.status.as_u16(), &answer.json()["code"]),
        (413, &json!("too_large"))
    );
    let answer = browser
        .post("/api/v1/labels/undo", &json!({ "act_id": "x" }))
        .await;
    assert_eq!(answer.status, 400);
    let nobody = json!({ "act_id": "123e4567-e89b-12d3-a456-426614174000" });
    assert_eq!(browser.post("/api/v1/labels/undo", &nobody).await.status, 404);
}

async fn rules_say_what_they_would_hit(browser: &Browser, clients: &[Value]) {
    let legitimate = browser
        .ok(&format!(
            "/api/v1/clients?from=now-3d&q={}",
            encoded("label:legitimate")
        ))
        .await;
    let legitimate = key(&legitimate["clients"][0]);
    let mut both = clients.to_vec();
    both.push(legitimate.clone());
    for format in ["nginx_map", "nftables_set", "haproxy_map", "crowdsec"] {
        let rules = browser
            .done("/api/v1/rules", &json!({ "format": format, "clients": both }))
            .await;
        let text = rules["text"].as_str().unwrap();
        assert!(text.contains(clients[0]["src_ip"].as_str().unwrap()), "{text}");
        assert!(!text.contains("::ffff:"), "{text}");
        let hit = &rules["would_hit"];
        assert!(hit["requests"].as_u64().unwrap() >= hit["clients"].as_u64().unwrap());
        assert!(hit["legitimate_clients"].as_u64().unwrap() >= 1, "{hit}");
        assert!(
            hit["legitimate_examples"]
                .as_array()
                .unwrap()
                .contains(&legitimate),
            "{hit}"
        );
    }
    // By JA4 everybody with the same program is hit.
    let by = |by: &str| json!({ "format": "nginx_map", "match": by, "clients": [clients[0]] });
    let address = browser.done("/api/v1/rules", &by("address")).await;
    let both = browser.done("/api/v1/rules", &by("address_host")).await;
    let ja4 = browser.done("/api/v1/rules", &by("ja4")).await;
    let hits = |rules: &Value| rules["would_hit"]["requests"].as_u64().unwrap();
    assert!(hits(&both) >= 1 && hits(&both) <= hits(&address) && hits(&ja4) > hits(&both));
    let hostile = json!({ "src_ip": "192.0.2.1", "ja4": "x", "host": "\"; return 200; #" });
    let rules = browser
        .done(
            "/api/v1/rules",
            &json!({ "format": "nginx_map", "match": "address_host", "clients": [hostile] }),
        )
        .await;
    assert_eq!(
        (&rules["n_rules"], rules["skipped"].as_array().unwrap().len()),
        (&json!(0), 1)
    );
    let wrong = json!({ "format": "crowdsec", "match": "ja4", "clients": clients });
    assert_eq!(browser.post("/api/v1/rules", &wrong).await.status, 400);
}

async fn every_act_is_in_the_audit(browser: &Browser, _dashboard: &Dashboard) {
    // Filters that were asked with are written together, a little later.
    let mut acts: Vec<String> = Vec::new();
    for _ in 0..100 {
        let audit = browser.ok("/api/v1/audit?limit=1000").await;
        acts = audit["entries"]
            .as_array()
            .unwrap()
            .iter()
            .map(|entry| entry["act"].as_str().unwrap().to_owned())
            .collect();
        if acts.iter().any(|act| act == "query") {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    for act in ["login", "label", "label_undo", "export", "rules", "query"] {
        assert!(acts.iter().any(|found| found == act), "no {act} in {acts:?}");
    }
    let audit = browser.ok("/api/v1/audit?limit=1000").await;
    let label = audit["entries"]
        .as_array()
        .unwrap()
        .iter()
        .find(|entry| entry["act"] == "label")
        .unwrap()
        .clone();
    assert_eq!(label["user"], "admin");
    assert_eq!(label["remote_ip"], "127.0.0.1");
    assert!(label["detail"]["clients"].is_number(), "{label}");
    let times: Vec<&str> = audit["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["at"].as_str().unwrap())
        .collect();
    assert!(times.is_sorted_by(|a, b| a >= b));
}
