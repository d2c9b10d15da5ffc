//! The detector against the real store: cold start, a population that arms, labels, budget, models, crashes, hostile texts.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::float_cmp,
    reason = "a test fails by panicking, says what it skips, and counts what the store counted"
)]

mod common;

use common::{Detector, Kind, PEOPLE, some_time_ago};
use serde_json::Value;

/// What the newest cycle said of the clients of one kind: `model: bits, verdict, reasons`.
fn newest(store: &common::Store, network: u8, columns: &str) -> String {
    store.sql(&format!(
        "SELECT {columns} FROM (SELECT * FROM ja4_processing.ml_all_scores WHERE startsWith(toString(src_ip), '::ffff:127.{network}.') \
         AND window_end = (SELECT max(window_end) FROM ja4_processing.ml_all_scores) ORDER BY model_name, src_ip)"
    ))
}

#[track_caller]
fn field(report: &Value, name: &str) -> i64 {
    report[name]
        .as_i64()
        .unwrap_or_else(|| panic!("{name} of {report}"))
}

/// Every stored row's reasons add up to its evidence, by voice and in all.
#[track_caller]
fn reasons_add_up(store: &common::Store) {
    let wrong = store.number(
        "SELECT count() FROM ja4_processing.ml_all_scores WHERE abs(arraySum(r -> r.contribution, reasons) - evidence_bits) > 1e-3 \
         OR abs(arraySum(v -> v.contribution, voices) - evidence_bits) > 1e-3 OR abs(score - (1 - exp2(-evidence_bits))) > 1e-4",
    );
    assert_eq!(wrong, 0.0, "rows whose reasons do not add up");
}

#[test]
fn cold_start_says_learning_and_flags_liars_by_consistency_alone() {
    let folder = tempfile::tempdir().unwrap();
    let store = store_or_skip!(folder.path());
    let detector = Detector::configure(folder.path(), &store, "shards: 2\n");
    let to = some_time_ago();

    // Nobody yet.
    let empty = detector.run(to - 300);
    assert_eq!(
        (empty["state"].as_str(), field(&empty, "entities")),
        (Some("learning"), 0)
    );

    // One minute of traffic.
    store.traffic(&PEOPLE, 60, to - 60, to);
    store.traffic(&Kind::liar(), 1, to - 60, to);
    store.traffic(&Kind::fake_googlebot(), 1, to - 60, to);
    let report = detector.run(to);
    assert_eq!(report["state"], "learning", "{report}");
    assert_eq!(
        (
            field(&report, "scored"),
            field(&report, "flagged"),
            field(&report, "alerts")
        ),
        (62, 2, 2),
        "{report}"
    );
    let voices = store.sql("SELECT DISTINCT reasons[1].voice FROM ja4_processing.ml_detection_events");
    assert_eq!(voices, "consistency");
    assert_eq!(
        newest(&store, 21, "any(reasons[1].feature)").replace('\n', ""),
        "address"
    );
    assert_eq!(
        store.number("SELECT count() FROM ja4_processing.soc_incidents FINAL"),
        2.0
    );
    // The most evidence is theirs.
    let top = store.sql(
        "SELECT toString(src_ip) FROM ja4_processing.ml_all_scores WHERE window_end > toDateTime(0) GROUP BY src_ip ORDER BY max(evidence_bits) DESC LIMIT 2",
    );
    assert!(top.contains("127.20.") && top.contains("127.21."), "{top}");
    reasons_add_up(&store);

    // The same cycle again is done already. After a crash before its last row it is repeated, and nothing is written twice.
    assert_eq!(detector.run(to)["was_done"], true);
    let count = |table: &str| store.number(&format!("SELECT count() FROM ja4_processing.{table}"));
    let before: Vec<f64> = ["ml_all_scores", "ml_detection_events", "ml_group_scores"]
        .map(&count)
        .to_vec();
    store.sql("ALTER TABLE ja4_processing.ml_cycles DELETE WHERE 1 SETTINGS mutations_sync = 2");
    let again = detector.run(to);
    assert_eq!(
        (again["was_done"].as_bool(), field(&again, "flagged")),
        (Some(false), 2)
    );
    let after: Vec<f64> = ["ml_all_scores", "ml_detection_events", "ml_group_scores"]
        .map(&count)
        .to_vec();
    assert_eq!(before, after);
    assert_eq!(
        store.number("SELECT count() FROM ja4_processing.soc_incidents FINAL"),
        2.0
    );
}

#[test]
fn a_population_arms_and_then_labels_budget_and_models_do_what_they_say() {
    let folder = tempfile::tempdir().unwrap();
    let store = store_or_skip!(folder.path());
    let config = "shards: 2\nalert_budget_per_day: 1\nstate:\n  stable_clients: 20\n";
    let detector = Detector::configure(folder.path(), &store, config);
    let to = some_time_ago();
    store.traffic(&PEOPLE, 1200, to - 3600, to + 3600);

    // A model at once: enough clients and minutes. It ranks.
    let first = detector.run(to);
    assert_eq!(first["state"], "provisional", "{first}");
    store.traffic(&Kind::scanner(), 1, to, to + 300);
    let provisional = detector.run(to + 300);
    assert_eq!(
        (provisional["state"].as_str(), field(&provisional, "flagged")),
        (Some("provisional"), 0),
        "{provisional}"
    );
    let rank = store.sql(&format!(
        "SELECT toString(src_ip) FROM ja4_processing.ml_all_scores WHERE window_end = {} GROUP BY src_ip ORDER BY max(evidence_bits) DESC LIMIT 1",
        to + 300
    ));
    assert!(
        rank.contains("127.22."),
        "the scanner ranks first though nothing is flagged: {rank}"
    );

    // Calibration holds for some cycles: armed.
    let mut armed = Value::Null;
    for step in 2..8 {
        armed = detector.run(to + 300 * step);
        if armed["state"] == "armed" {
            break;
        }
    }
    assert_eq!(armed["state"], "armed", "{armed}");
    let to = armed["window_end"]
        .as_str()
        .map(|text| detector::time::parse(text).unwrap())
        .unwrap();

    // Two bots, one new incident a day: the stronger gets it, the other is flagged and counted.
    store.traffic(&Kind::scanner(), 1, to, to + 300);
    store.traffic(&Kind::scraper(), 1, to, to + 300);
    let both = detector.run(to + 300);
    let reasons = |network: u8| {
        newest(
            &store,
            network,
            "arrayMap(r -> r.feature, arraySlice(reasons, 1, 3))",
        )
    };
    assert_eq!(
        field(&both, "flagged"),
        2,
        "{both}\n{}\n{}",
        newest(&store, 22, "model_name, evidence_bits, voices"),
        newest(&store, 23, "model_name, evidence_bits, voices")
    );
    assert_eq!(
        (field(&both, "budget_used"), field(&both, "suppressed") > 0),
        (1, true),
        "{both}"
    );
    let scanner = [
        "dotfile_count",
        "suspicious_count",
        "count_404",
        "ratio_404",
        "ratio_4xx",
        "rare_paths",
    ];
    assert!(
        scanner.iter().filter(|name| reasons(22).contains(**name)).count() >= 1,
        "{}",
        reasons(22)
    );
    let scraper = [
        "requests",
        "paths_distinct",
        "path_entropy",
        "transition_entropy",
        "rare_paths",
        "bytes_total",
        "max_per_minute",
        "requests_per_minute",
        "path_novelty",
        "static_ratio",
        "requests_per_hour",
    ];
    assert!(
        scraper.iter().any(|name| reasons(23).contains(name)),
        "{}",
        reasons(23)
    );
    assert_eq!(store.number("SELECT count() FROM ja4_processing.ml_detection_events WHERE startsWith(toString(src_ip), '::ffff:127.10.')"), 0.0, "people");
    reasons_add_up(&store);

    // Labels change the next cycle; who and when is in the reason; the score stays.
    let label = |network: u8, label: &str| {
        store.sql(&format!(
            "INSERT INTO ja4_processing.soc_labels (src_ip, ja4, host, version, label, author, note) SELECT src_ip, ja4, host, toUnixTimestamp64Micro(now64(6)), '{label}', 'alice', 'seen it' \
             FROM ja4_processing.ml_all_scores WHERE startsWith(toString(src_ip), '::ffff:127.{network}.') ORDER BY window_end DESC, src_ip LIMIT 1"
        ));
    };
    label(22, "legitimate");
    label(10, "bot");
    let to = to + 300;
    store.traffic(&Kind::scanner(), 1, to, to + 300);
    // Few enough that no model is trained anew: a benign verdict would then have become part of what is normal.
    store.traffic(&PEOPLE, 400, to, to + 300);
    let labelled = detector.run(to + 300);
    assert!(field(&labelled, "suppressed_by_label") >= 1, "{labelled}");
    assert_eq!(newest(&store, 22, "max(verdict)").replace('\n', ""), "normal");
    assert!(
        newest(&store, 22, "max(evidence_bits)").parse::<f32>().unwrap() >= 10.0,
        "still scored"
    );
    let flagged = newest(
        &store,
        10,
        "countIf(verdict = 'flagged') > 0, any(arrayExists(r -> r.voice = 'label' AND r.declared = 'bot' AND r.observed LIKE 'by alice at 20%: seen it', reasons) AND verdict = 'flagged')",
    );
    assert!(flagged.starts_with("1\t"), "{flagged}");
    let said = store.sql("SELECT DISTINCT reasons[-1].observed FROM ja4_processing.ml_detection_events WHERE startsWith(toString(src_ip), '::ffff:127.10.')");
    assert!(
        said.starts_with("by alice at 20") && said.ends_with(": seen it"),
        "{said}"
    );

    // A label shows in the next cycle though its client has not asked since, and so does its being taken back.
    let relabelled = detector.run(to + 600);
    assert_eq!(field(&relabelled, "suppressed_by_label"), 0, "{relabelled}");
    label(23, "legitimate");
    detector.run(to + 900);
    assert_eq!(newest(&store, 23, "max(verdict != 'normal')"), "0");
    store.sql("INSERT INTO ja4_processing.soc_labels (src_ip, ja4, host, version, deleted) SELECT src_ip, ja4, host, toUnixTimestamp64Micro(now64(6)), 1 FROM ja4_processing.soc_labels WHERE startsWith(toString(src_ip), '::ffff:127.23.')");
    detector.run(to + 1200);
    assert_eq!(newest(&store, 23, "max(verdict != 'normal')"), "1");

    // Nobody asks: the models are what they were.
    detector.run(to + 5400);
    let quiet = detector.run(to + 5700);
    assert_eq!(
        (field(&quiet, "scored"), quiet["state"].as_str()),
        (0, Some("armed")),
        "{quiet}"
    );

    // Models can be listed, and rolled back by name.
    let listed = detector.output(&["models"]);
    assert!(listed.contains("all/24h") && listed.contains("armed"), "{listed}");
    let unknown = detector.command(&["rollback", "all/1h", "99"]).output().unwrap();
    assert_eq!(unknown.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("all/1h has no version 99, known are: 1"));
    detector.output(&["rollback", "all/1h", "1", "--reason", "test"]);
    assert!(detector.output(&["models"]).contains("test"));
}

#[test]
fn a_model_that_would_alert_twice_as_often_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let store = store_or_skip!(folder.path());
    let config = "shards: 1\nmultiwindow: false\nevidence_floor_bits: 6\nstate:\n  minutes: 5\n  entities: 100\ntraining:\n  retrain_after: 1h\n";
    let detector = Detector::configure(folder.path(), &store, config);
    let to = some_time_ago();
    store.traffic(&PEOPLE, 600, to - 3600, to);
    assert_eq!(detector.run(to)["state"], "provisional");
    // Later only a health check of many probes is there: one request a minute, always the same. A model of those would call
    // people strange, all of whom are far beyond the floor. The rows that are asked are 192 people whom the first model
    // remembers and 80 probes, so the new one alerts more than twice as often even if the old one calls every probe strange.
    let probes = Kind {
        network: 30,
        requests: "40",
        visit_s: "3500",
        at_ms: "k * 87000",
        path: "'/health'",
        path_flags: "0",
        status: "200",
        ..PEOPLE
    };
    store.traffic(&probes, 150, to, to + 3600);
    let later = detector.run(to + 3600);
    let events = later["events"].to_string();
    assert!(events.contains("all/1h 2 refused"), "{later}");
    let models = detector.output(&["models"]);
    assert!(
        models.contains("\"refused\":1"),
        "the refusal is recorded: {models}"
    );
    let active =
        store.sql("SELECT argMax(model_version, activated_at) FROM ja4_processing.ml_model_activations");
    assert_eq!(active, "1");
    // It is not tried again at once.
    assert_eq!(detector.run(to + 3900)["events"], serde_json::json!([]));
}

#[test]
fn hostile_texts_are_scored_and_stored() {
    let folder = tempfile::tempdir().unwrap();
    let store = store_or_skip!(folder.path());
    let detector = Detector::configure(folder.path(), &store, "");
    let to = some_time_ago();
    let hostile = "<script>\u{202e}'\\\0\r\n=cmd()";
    let kind = Kind {
        agent: hostile,
        host: hostile,
        ja4: hostile,
        ja4_norm: hostile,
        h2_fp: hostile,
        header_order: hostile,
        ..Kind::liar()
    };
    store.traffic(&kind, 3, to - 60, to);
    store.sql("INSERT INTO ja4_processing.soc_lists (kind, value, version, action) VALUES ('prefix', 'nonsense', 1, 'deny'), ('color', '<b>', 1, 'deny')");
    let report = detector.run(to);
    assert_eq!(field(&report, "scored"), 3);
    assert_eq!(
        store.number("SELECT count() FROM ja4_processing.ml_all_scores WHERE startsWith(host, '<script>')"),
        6.0
    );
    reasons_add_up(&store);
}

#[test]
fn wrong_use_is_said_in_one_line_with_status_2() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("d.yaml");
    let run = |text: &str| {
        std::fs::write(&path, text).unwrap();
        std::process::Command::new(env!("CARGO_BIN_EXE_ja4-detector"))
            .args(["run", "--config"])
            .arg(&path)
            .output()
            .unwrap()
    };
    let output = run("intervall: 5m\n");
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("did you mean \"interval\"?"));
    let output = run("shards: 0\n");
    assert_eq!(output.status.code(), Some(2));
    // A store that is not there: status 1, and the place.
    let output = run("store:\n  url: http://127.0.0.1:9\n  user: detector\n");
    assert_eq!(output.status.code(), Some(1));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(
        errors
            .lines()
            .filter(|line| line.starts_with("ja4-detector: "))
            .count(),
        1,
        "{errors}"
    );
}
