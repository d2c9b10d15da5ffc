//! Values that attackers choose: markup, control characters, formulas, 64 KB, right-to-left marks, bytes that are no text.

use serde_json::Value;

use crate::support::{Browser, Dashboard, TestStore, encoded};

/// SQL expressions of hostile texts; none may break an answer, a page's limit or a file.
const TEXTS: [&str; 9] = [
    "'<script>alert(1)</script>\"\\'>'",
    "'a\\0b\\nc\\rd\\te\\x1b[31m'",
    "'=HYPERLINK(\"http://evil.example\")'",
    "'\"\"=1+1'",
    "'abc\\xe2\\x80\\xaedef\\xe2\\x80\\xa6'",
    "'\\xff\\xfe\\x80abc\\xc3'",
    "repeat('A', 65536)",
    "repeat('\"', 65536)",
    "'AND OR NOT ( ) * \" \\\\ {filter} {f0:String} %_'",
];

/// One client for each text, with it wherever a client's words are kept.
fn statements() -> Vec<String> {
    let mut statements = Vec::new();
    for (i, text) in TEXTS.iter().enumerate() {
        statements.push(format!(
            "INSERT INTO {{logs}}.http_logs (ts, recv_ts, boot, seq, src_ip, src_port, method, host, path, path_template, query, user_agent, ua_family,
                referer, ja4, ja4_norm, sni, h2_fp, header_order, header_order_hash, request_id, contradictions, headers, status, scheme, match, conn_uid, confirmed)
             SELECT now64(6) - INTERVAL 1 MINUTE, now64(6) - INTERVAL 1 MINUTE, 7, {i}, toIPv6('::ffff:192.0.2.{i}'), 1, text, text, text, text, text, text, text,
                text, text, text, text, text, text, cityHash64(text), text, text, map(text, text), 200, 'https', 'exact', 5, 'acked'
             FROM (SELECT {text} AS text)"
        ));
        statements.push(format!(
            "INSERT INTO {{processing}}.ml_all_scores (window_end, model_name, model_version, src_ip, ja4, host, score, evidence_bits, verdict, reasons)
             SELECT now(), 'browser/1h', 1, toIPv6('::ffff:192.0.2.{i}'), text, text, 0.9, 9, 'alert', [('consistency', 'user_agent', nan, nan, nan, 9, text, text, text)]
             FROM (SELECT {text} AS text)"
        ));
        statements.push(format!(
            "INSERT INTO {{processing}}.soc_labels (src_ip, ja4, host, version, label, note, author)
             SELECT toIPv6('::ffff:192.0.2.{i}'), text, text, toUnixTimestamp(now()) * 1000000, 'bot', text, text FROM (SELECT {text} AS text)"
        ));
        statements.push(format!(
            "INSERT INTO {{processing}}.soc_audit (at, user_name, act, object, detail) SELECT now64(6), text, 'label', text, text FROM (SELECT {text} AS text)"
        ));
    }
    statements.push("INSERT INTO {logs}.source_status (recv_ts, ts, source, node, boot, next_seq, received, lost, dropped) VALUES (now64(6), now64(6), '<b>', '=1', 1, 10, 7, 1, map('\\xff', 2))".to_owned());
    statements.push("INSERT INTO {processing}.ml_cycles (started_at, window_end, state, error) VALUES (now64(6), now(), 'armed', '<b>\\xff')".to_owned());
    statements
}

#[tokio::test]
async fn hostile_values_break_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let Some(store) = TestStore::start(folder.path()).await else {
        return;
    };
    for statement in statements() {
        store
            .store
            .execute(&statement)
            .await
            .unwrap_or_else(|error| panic!("{error}: {:?}", error.source));
    }
    let dashboard = Dashboard::start(folder.path(), &store, "");
    let browser = dashboard.admin_browser().await;
    let requests = browser.ok("/api/v1/requests?limit=1000").await;
    let rows = requests["requests"].as_array().unwrap();
    assert_eq!(rows.len(), TEXTS.len());
    for row in rows {
        for key in ["host", "path", "query", "user_agent", "method"] {
            assert!(
                row[key].as_str().unwrap().chars().count() <= 512,
                "{key} is not cut"
            );
        }
    }
    let is_cut = |row: &Value| {
        row["cut"]
            .as_array()
            .unwrap()
            .iter()
            .any(|cut| cut == "user_agent")
    };
    assert_eq!(rows.iter().filter(|row| is_cut(row)).count(), 2);
    assert!(
        rows.iter()
            .any(|row| row["path"].as_str().unwrap().contains('\u{fffd}'))
    );
    let clients = browser.ok("/api/v1/clients").await;
    assert_eq!(clients["clients"].as_array().unwrap().len(), TEXTS.len());
    for path in [
        "/api/v1/overview",
        "/api/v1/facets",
        "/api/v1/facets?q=status:200",
        "/api/v1/labels",
        "/api/v1/audit",
        "/api/v1/status",
        "/api/v1/values?field=host",
        "/api/v1/values?field=path&q=status:200",
        "/api/v1/values?field=user_agent",
    ] {
        let answer = browser.get(path).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        // A browser never takes it for a page.
        assert_eq!(answer.header("content-type"), "application/json", "{path}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
    }
    every_request_and_client_opens(&browser, rows).await;
    every_value_can_be_filtered_by(&browser, rows).await;
    files_are_harmless(&browser).await;
    let log = dashboard.log();
    assert!(!log.contains("ERROR") && !log.contains("panicked"), "{log}");
}

async fn every_request_and_client_opens(browser: &Browser, rows: &[Value]) {
    for row in rows {
        let text = |name: &str| encoded(row[name].as_str().unwrap());
        let request = browser
            .ok(&format!(
                "/api/v1/request?ts={}&src_ip={}&boot={}&seq={}",
                text("ts"),
                text("src_ip"),
                text("boot"),
                text("seq")
            ))
            .await;
        assert!(request["columns"].as_array().unwrap().len() > 70);
        // Values that are cut in a list, or are no text, are no address of a page.
        let ja4 = row["ja4"].as_str().unwrap();
        if ja4.len() > 256 || ja4.contains('\u{fffd}') {
            continue;
        }
        let key = format!(
            "src_ip={}&ja4={}&host={}",
            text("src_ip"),
            text("ja4"),
            text("host")
        );
        let client = browser.ok(&format!("/api/v1/client?{key}")).await;
        assert_eq!(client["client"]["requests"], 1, "{ja4:?}");
        assert_eq!(client["client"]["label"]["label"], "bot", "{ja4:?}");
        assert_eq!(client["client"]["verdict"], "alert", "{ja4:?}");
        assert_eq!(
            client["facts"]["user_agents"][0]["value"], row["user_agent"],
            "{ja4:?}"
        );
        assert!(!client["matrix"]["cells"].as_array().unwrap().is_empty());
        browser.ok(&format!("/api/v1/client/timeline?{key}")).await;
        browser.ok(&format!("/api/v1/client/scores?{key}")).await;
        let requests = browser.ok(&format!("/api/v1/client/requests?{key}")).await;
        assert_eq!(requests["requests"].as_array().unwrap().len(), 1, "{ja4:?}");
        for kind in ["ja4", "host", "user_agent"] {
            let group = browser
                .ok(&format!("/api/v1/group?kind={kind}&value={}", text("ja4")))
                .await;
            assert_eq!(group["totals"]["requests"], 1, "{kind} {ja4:?}");
        }
    }
}

async fn every_value_can_be_filtered_by(browser: &Browser, rows: &[Value]) {
    let values = browser
        .ok("/api/v1/values?field=path&q=status:200&limit=100")
        .await;
    for value in values["values"].as_array().unwrap() {
        let (text, written) = (
            value["value"].as_str().unwrap(),
            value["written"].as_str().unwrap(),
        );
        if text.chars().count() > 500 || text.contains('\u{fffd}') {
            continue;
        }
        let found = browser
            .ok(&format!(
                "/api/v1/requests?q={}",
                encoded(&format!("path:{written}"))
            ))
            .await;
        assert_eq!(found["requests"].as_array().unwrap().len(), 1, "{written}");
        let others = browser
            .ok(&format!(
                "/api/v1/requests?q={}",
                encoded(&format!("-path:{written}"))
            ))
            .await;
        assert_eq!(
            others["requests"].as_array().unwrap().len(),
            rows.len() - 1,
            "{written}"
        );
    }
}

async fn files_are_harmless(browser: &Browser) {
    for what in ["requests", "clients"] {
        let csv = browser.get(&format!("/api/v1/export/{what}?format=csv")).await;
        assert_eq!(csv.status, 200);
        assert!(csv.header("content-type").starts_with("text/csv"));
        let mut reader = csv::Reader::from_reader(&csv.body[..]);
        let records: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
        assert_eq!(records.len(), TEXTS.len(), "{what}");
        for field in records.iter().flatten() {
            let first = field.trim_start_matches(['"', ' ']).chars().next().unwrap_or('a');
            assert!(
                !"=+@\t\r".contains(first),
                "{what}: {}",
                &field[..field.len().min(50)]
            );
            assert!(
                !field.chars().any(|c| c.is_control() || c == '\u{202e}'),
                "{what}"
            );
        }
        let ndjson = browser.get(&format!("/api/v1/export/{what}?format=ndjson")).await;
        assert!(!ndjson.text().contains('\u{202e}'));
        let lines: Vec<Value> = ndjson
            .text()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(lines.len(), TEXTS.len(), "{what}");
        // Exactly what was sent, whatever it looks like.
        let hosts: Vec<&str> = lines.iter().map(|line| line["host"].as_str().unwrap()).collect();
        assert!(
            hosts.contains(&"abc\u{202e}def\u{2026}") && hosts.contains(&"<script>alert(1)</script>\"'>")
        );
        assert!(hosts.iter().any(|host| host.len() == 65_536));
    }
}

/// Wrong filters point at the character; wrong parameters are named. Nothing of it reaches the store.
pub(crate) async fn filters_and_parameters(browser: &Browser) {
    for (q, offset, length, remedy) in [
        ("statsu:404", 0, 6, "status"),
        ("host:a AND", 10, 0, "status:404"),
        ("héllo status:abc", 13, 3, "status"),
        ("host:\"abc", 5, 4, "close it"),
        ("src_ip:10.0.*", 7, 6, "10.0.0.0/16"),
    ] {
        for path in [
            "/api/v1/clients",
            "/api/v1/requests",
            "/api/v1/overview",
            "/api/v1/facets",
            "/api/v1/export/clients?format=csv",
        ] {
            let sign = if path.contains('?') { '&' } else { '?' };
            let problem = browser
                .refused(&format!("{path}{sign}q={}", encoded(q)), 400)
                .await;
            assert_eq!(problem["code"], "bad_filter", "{q}");
            assert_eq!(problem["position"]["offset"], offset, "{q}: {problem}");
            assert_eq!(problem["position"]["length"], length, "{q}: {problem}");
            assert!(
                problem["remedy"].as_str().unwrap().contains(remedy),
                "{q}: {problem}"
            );
        }
    }
    for q in [
        "path:\"'; DROP TABLE x; --\"",
        "path:\"\\\\'; DROP TABLE x; --\"",
        "user_agent:{f0:String}",
        "path:*%_\\**",
        "host:\"\u{0}\"",
        "path:\"a\nb\tc\rd\"",
    ] {
        let histogram = browser.ok(&format!("/api/v1/histogram?q={}", encoded(q))).await;
        assert_eq!(histogram["total"], 0, "{q}");
    }
    let terms = vec!["host:a"; 128].join(" OR ");
    browser
        .ok(&format!("/api/v1/requests?q={}", encoded(&terms)))
        .await;
    browser
        .refused(
            &format!("/api/v1/requests?q={}", encoded(&(terms + " OR host:a"))),
            400,
        )
        .await;
    browser
        .refused(&format!("/api/v1/requests?q={}", encoded(&"a".repeat(4097))), 400)
        .await;
    browser
        .ok(&format!(
            "/api/v1/requests?q={}",
            encoded(&format!("path:\"{}\"", "é".repeat(4089)))
        ))
        .await;
    for path in [
        "/api/v1/clients?limit=0",
        "/api/v1/clients?limit=501",
        "/api/v1/clients?limit=x",
        "/api/v1/clients?sort=evil",
        "/api/v1/clients?from=yesterday",
        "/api/v1/clients?from=now&to=now-1h",
        "/api/v1/clients?from=now-999d",
        "/api/v1/histogram?step=0",
        "/api/v1/requests?cursor=1-2",
        "/api/v1/client?host=a",
        "/api/v1/client?src_ip=x&host=a",
        "/api/v1/group?kind=evil&value=x",
        "/api/v1/group?kind=prefix&value=10.0.0.0/99",
        "/api/v1/group?kind=header_order&value=x",
        "/api/v1/request?ts=x&src_ip=1.1.1.1&boot=1&seq=1",
        "/api/v1/request?ts=2026-05-01T00:00:00Z&src_ip=1.1.1.1&boot=-1&seq=1",
        "/api/v1/export/clients?format=exe",
        "/api/v1/values?field=host&limit=1000",
        "/api/v1/audit?limit=100000",
    ] {
        let problem = browser.refused(path, 400).await;
        assert_eq!(problem["code"], "bad_parameter", "{path}");
        assert_eq!(problem["position"], Value::Null);
    }
}
