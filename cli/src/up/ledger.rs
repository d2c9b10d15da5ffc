//! Adds the ledgers of all processes and their incarnations to one, checks every equation of it, and writes the summary.
//!
//! Pure: ledgers, counts and usage come in, a [`Summary`] and a list of imbalances go out.
//!
//! An incarnation that ended by itself wrote its last ledger while stopping; nothing of it is pending any more,
//! or it says so. One that was killed is known by the last ledger it wrote (at most a second old): what was
//! pending then is booked as dropped for [`KILLED`]. Its producers have no acknowledgement for it, so they send
//! it again and the next incarnation counts it again as received.

use std::collections::BTreeMap;

use ja4_common::ledger::{Ledger, Stage};
use serde::Serialize;
use serde_json::Value;

use super::detection::{Detection, Outcome};

/// The reason under which the pending items of a killed incarnation are booked.
pub(crate) const KILLED: &str = "killed";

/// Adds `more` to the stages of the same names; new ones go to the end.
fn add_stages(stages: &mut Vec<Stage>, more: &[Stage]) {
    for stage in more {
        match stages.iter_mut().find(|known| known.name == stage.name) {
            Some(known) => known.add(stage),
            None => stages.push(stage.clone()),
        }
    }
}

/// What a process whose counts outlive it did since an earlier ledger of it. What was pending then was received
/// again by this run: it is added, so that the equation holds.
pub(crate) fn since(ledger: &Ledger, base: &Ledger) -> Ledger {
    let mut ledger = ledger.clone();
    for stage in &mut ledger.stages {
        let Some(before) = base.stages.iter().find(|before| before.name == stage.name) else {
            continue;
        };
        stage.received = (stage.received + before.pending).saturating_sub(before.received);
        stage.passed = stage.passed.saturating_sub(before.passed);
        for (reason, n) in &mut stage.dropped {
            *n = n.saturating_sub(before.dropped.get(reason).copied().unwrap_or(0));
        }
        stage.dropped.retain(|_, n| *n > 0);
    }
    for (name, fact) in &mut ledger.facts {
        subtract_values(fact, base.facts.get(name).unwrap_or(&Value::Null));
    }
    ledger
}

fn subtract_values(value: &mut Value, less: &Value) {
    match (&mut *value, less) {
        (Value::Number(a), Value::Number(b)) => {
            if let (Some(a), Some(b)) = (a.as_u64(), b.as_u64()) {
                *value = Value::from(a.saturating_sub(b));
            }
        }
        (Value::Object(a), Value::Object(b)) => {
            for (key, value) in a {
                subtract_values(value, b.get(key).unwrap_or(&Value::Null));
            }
        }
        _ => {}
    }
}

/// How far a process had come; of two ledgers of one incarnation the one further on is the later.
pub(crate) fn progress(ledger: &Ledger) -> u64 {
    ledger
        .stages
        .iter()
        .map(|stage| stage.received + stage.passed)
        .sum()
}

/// Books what is pending as dropped: the last word of an incarnation that did not stop by itself.
pub(crate) fn book_killed(ledger: &mut Ledger) {
    for stage in &mut ledger.stages {
        let pending = std::mem::take(&mut stage.pending);
        stage.drop_for(KILLED, pending);
    }
}

/// Adds the next incarnation of the same process: numbers add up, other facts are the later's.
pub(crate) fn add_incarnation(sum: &mut Ledger, later: &Ledger) {
    add_stages(&mut sum.stages, &later.stages);
    for (name, fact) in &later.facts {
        add_values(sum.facts.entry(name.clone()).or_insert(Value::Null), fact);
    }
}

fn add_values(slot: &mut Value, more: &Value) {
    match (&mut *slot, more) {
        (Value::Number(a), Value::Number(b)) => {
            if let (Some(a), Some(b)) = (a.as_u64(), b.as_u64()) {
                *slot = Value::from(a + b);
            }
        }
        (Value::Object(a), Value::Object(b)) => {
            for (key, value) in b {
                add_values(a.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (slot, more) => *slot = more.clone(),
    }
}

/// A number among the facts, 0 where it is absent: what never happened is not listed.
pub(crate) fn number(ledger: &Ledger, name: &str) -> u64 {
    ledger.facts.get(name).and_then(Value::as_u64).unwrap_or(0)
}

/// Join results by match kind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Joined {
    pub(crate) exact: u64,
    pub(crate) asof: u64,
    pub(crate) ambiguous: u64,
    /// Requests without a connection, by reason.
    pub(crate) none: BTreeMap<String, u64>,
}

impl Joined {
    /// Reads the facts of the correlator's ledger.
    pub(crate) fn read(ledger: &Ledger) -> Self {
        let joined = ledger.facts.get("joined").unwrap_or(&Value::Null);
        let number = |kind: &str| joined[kind].as_u64().unwrap_or(0);
        let none = joined["none"].as_object().into_iter().flatten();
        Self {
            exact: number("exact"),
            asof: number("asof"),
            ambiguous: number("ambiguous"),
            none: none
                .filter_map(|(reason, n)| Some((reason.clone(), n.as_u64()?)))
                .collect(),
        }
    }

    /// Requests decided.
    pub(crate) fn total(&self) -> u64 {
        self.exact + self.asof + self.ambiguous + self.none.values().sum::<u64>()
    }
}

/// The sums over the whole run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Totals {
    /// Frames that the sensor took from the kernel or a file.
    pub(crate) packets: u64,
    pub(crate) hellos: u64,
    pub(crate) requests: u64,
    pub(crate) joined: Joined,
    /// Connections whose `_cid` ids are not one-to-one with `conn_uid`; null without clients that send one.
    pub(crate) wrong: Option<u64>,
    /// Rows that this run added, by table.
    pub(crate) rows: BTreeMap<String, u64>,
    /// Clients that the last cycle scored and flagged; 0 while no detector runs.
    pub(crate) scored: u64,
    pub(crate) flagged: u64,
}

/// What a process used, over all its incarnations.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(crate) struct ProcessUsage {
    pub(crate) name: String,
    pub(crate) anon_bytes_max: u64,
    pub(crate) cpu_seconds: f64,
    pub(crate) restarts: u64,
}

/// The ledger of a run as `ja4 up --summary` writes it.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(crate) struct Summary {
    pub(crate) stages: Vec<Stage>,
    pub(crate) totals: Totals,
    pub(crate) processes: Vec<ProcessUsage>,
    /// What the detector made of the clients.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) detection: Option<Detection>,
    /// The demo's truth beside it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) truth: Option<Outcome>,
}

/// What the store itself says at the end, for the rows of this run.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct StoreCounts {
    /// Rows added by table.
    pub(crate) rows: BTreeMap<String, u64>,
    /// Rows of `http_logs` beyond one for each event id.
    pub(crate) duplicates: u64,
    /// As in [`Totals::wrong`].
    pub(crate) wrong: Option<u64>,
    /// What the detector did; absent when none ran.
    pub(crate) detection: Option<Detection>,
    /// Beside the demo's truth.
    pub(crate) truth: Option<Outcome>,
}

/// The ledger of each process over all its incarnations, and how often it had to be started again.
#[derive(Debug, Clone, Default)]
pub(crate) struct ProcessRecord {
    pub(crate) ledger: Ledger,
    pub(crate) usage: ProcessUsage,
}

/// Makes the summary. The store's own counts win over those of a writer that was killed between an insert
/// and its next ledger: rows found beyond the counted ones are added to the stage on both sides.
pub(crate) fn summarise(processes: &[ProcessRecord], store: &StoreCounts) -> Summary {
    let mut stages = Vec::new();
    let mut correlator = Ledger::default();
    for process in processes {
        add_stages(&mut stages, &process.ledger.stages);
        if process.usage.name == "ja4-correlator" {
            correlator = process.ledger.clone();
        }
    }
    if writer_restarted(processes) {
        for stage in &mut stages {
            let Some(table) = stage.name.strip_prefix("store.") else {
                continue;
            };
            let Some(stored) = store.rows.get(table) else {
                continue;
            };
            let uncounted = stored.saturating_sub(stage.passed);
            stage.received += uncounted;
            stage.passed += uncounted;
        }
    }
    let find = |name: &str| stages.iter().find(|stage| stage.name == name);
    let totals = Totals {
        packets: find("sensor.frames").map_or(0, |stage| stage.received),
        hellos: number(&correlator, "hellos"),
        requests: find("correlator.requests").map_or(0, |stage| stage.received),
        joined: Joined::read(&correlator),
        wrong: store.wrong,
        rows: store.rows.clone(),
        scored: store.detection.as_ref().map_or(0, |detection| detection.scored),
        flagged: store.detection.as_ref().map_or(0, |detection| detection.flagged),
    };
    let processes = processes.iter().map(|process| process.usage.clone()).collect();
    Summary {
        stages,
        totals,
        processes,
        detection: store.detection.clone(),
        truth: store.truth.clone(),
    }
}

/// Rows that a writer's ledger says the store has acknowledged, and those still on their way.
pub(crate) fn store_rows(ledger: &Ledger) -> (u64, u64) {
    ledger
        .stages
        .iter()
        .filter(|stage| stage.name.starts_with("store."))
        .fold((0, 0), |(passed, pending), stage| {
            (passed + stage.passed, pending + stage.pending)
        })
}

fn writer_restarted(processes: &[ProcessRecord]) -> bool {
    processes
        .iter()
        .any(|process| process.usage.name == "ja4-correlator" && process.usage.restarts > 0)
}

/// Every equation that does not hold, one line each; empty when the ledger balances.
pub(crate) fn imbalances(summary: &Summary, processes: &[ProcessRecord], store: &StoreCounts) -> Vec<String> {
    let mut found = Vec::new();
    for stage in &summary.stages {
        if stage.imbalance() != 0 {
            found.push(format!(
                "{}: received {} but passed {} + dropped {} + pending {}, a difference of {}",
                stage.name,
                stage.received,
                stage.passed,
                stage.dropped_total(),
                stage.pending,
                stage.imbalance()
            ));
        }
        let Some(table) = stage.name.strip_prefix("store.") else {
            continue;
        };
        // Only tables that keep every row can be compared: one that replaces rows holds fewer than it was sent.
        let Some(&stored) = store.rows.get(table) else {
            continue;
        };
        // What was sent and not acknowledged when the run ended may be in the table or not; it is still in the spool.
        let possible = stage.passed..=stage.passed + stage.pending;
        if !possible.contains(&stored) {
            found.push(format!(
                "{}: {} rows were acknowledged and {} were under way but the table has {stored}",
                stage.name, stage.passed, stage.pending
            ));
        }
    }
    let find = |name: &str| summary.stages.iter().find(|stage| stage.name == name);
    // A killed correlator takes the results of what it had decided but not sealed with it; the next
    // incarnation decides the same requests again.
    if !writer_restarted(processes) {
        if let Some(stage) = find("correlator.requests")
            && stage.passed != summary.totals.joined.total()
        {
            found.push(format!(
                "correlator.requests: passed {} but the join results add up to {}",
                stage.passed,
                summary.totals.joined.total()
            ));
        }
        if let (Some(requests), Some(rows)) = (find("correlator.requests"), find("store.http_logs"))
            && requests.passed != rows.received
        {
            found.push(format!(
                "requests: the engine passed {} but {} rows were made for http_logs",
                requests.passed, rows.received
            ));
        }
    }
    if store.duplicates > 0 {
        found.push(format!(
            "store.http_logs: {} rows are stored more than once",
            store.duplicates
        ));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stage(name: &str, received: u64, passed: u64, dropped: &[(&str, u64)], pending: u64) -> Stage {
        let dropped = dropped
            .iter()
            .map(|(reason, n)| ((*reason).to_owned(), *n))
            .collect();
        Stage {
            name: name.to_owned(),
            received,
            passed,
            dropped,
            pending,
        }
    }

    fn record(name: &str, restarts: u64, stages: Vec<Stage>, facts: Value) -> ProcessRecord {
        ProcessRecord {
            ledger: Ledger {
                stages,
                facts: serde_json::from_value(facts).unwrap(),
            },
            usage: ProcessUsage {
                name: name.to_owned(),
                restarts,
                ..ProcessUsage::default()
            },
        }
    }

    fn balanced() -> (Vec<ProcessRecord>, StoreCounts) {
        let correlator = record(
            "ja4-correlator",
            0,
            vec![
                stage("correlator.requests", 10, 9, &[("overflow", 1)], 0),
                stage("store.http_logs", 9, 8, &[("quarantine", 1)], 0),
            ],
            serde_json::json!({"hellos": 4, "joined": {"exact": 5, "asof": 2, "ambiguous": 1, "none": {"plaintext": 1}}}),
        );
        let sensor = record(
            "ja4-sensor",
            0,
            vec![stage("sensor.frames", 100, 98, &[("malformed", 2)], 0)],
            serde_json::json!({}),
        );
        let rows = BTreeMap::from([("http_logs".to_owned(), 8)]);
        (
            vec![correlator, sensor],
            StoreCounts {
                rows,
                duplicates: 0,
                wrong: Some(0),
                ..StoreCounts::default()
            },
        )
    }

    #[track_caller]
    fn check(processes: &[ProcessRecord], store: &StoreCounts, expected: &[&str]) {
        let summary = summarise(processes, store);
        let found = imbalances(&summary, processes, store);
        assert_eq!(found.len(), expected.len(), "{found:#?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.contains(expected), "{found:?} does not say {expected:?}");
        }
    }

    #[test]
    fn a_ledger_in_which_every_item_is_accounted_for_balances() {
        let (processes, store) = balanced();
        check(&processes, &store, &[]);
    }

    #[test]
    fn an_item_that_nobody_accounts_for_is_named_with_its_stage() {
        let (mut processes, store) = balanced();
        processes[1].ledger.stages[0].received += 1;
        check(
            &processes,
            &store,
            &["sensor.frames: received 101 but passed 98 + dropped 2 + pending 0, a difference of 1"],
        );
    }

    #[test]
    fn a_row_that_was_under_way_at_the_end_may_be_stored_or_not() {
        let (mut processes, mut store) = balanced();
        let rows = processes
            .iter_mut()
            .flat_map(|process| &mut process.ledger.stages)
            .find(|stage| stage.name == "store.http_logs")
            .unwrap();
        rows.passed -= 2;
        rows.pending += 2;
        for stored in 6..=8 {
            store.rows.insert("http_logs".to_owned(), stored);
            check(&processes, &store, &[]);
        }
        for stored in [5, 9] {
            store.rows.insert("http_logs".to_owned(), stored);
            let line = format!("6 rows were acknowledged and 2 were under way but the table has {stored}");
            check(&processes, &store, &[&line]);
        }
    }

    #[test]
    fn a_row_that_was_acknowledged_and_is_not_stored_is_named() {
        let (processes, mut store) = balanced();
        store.rows.insert("http_logs".to_owned(), 7);
        check(
            &processes,
            &store,
            &["8 rows were acknowledged and 0 were under way but the table has 7"],
        );
    }

    #[test]
    fn a_row_stored_twice_is_named() {
        let (processes, mut store) = balanced();
        store.duplicates = 3;
        check(&processes, &store, &["3 rows are stored more than once"]);
    }

    #[test]
    fn join_results_must_add_up_to_the_requests_passed() {
        let (mut processes, store) = balanced();
        processes[0].ledger.facts.get_mut("joined").unwrap()["exact"] = 4.into();
        check(&processes, &store, &["join results add up to 8"]);
    }

    fn with_stages(stages: Vec<Stage>) -> Ledger {
        Ledger {
            stages,
            ..Ledger::default()
        }
    }

    #[test]
    fn what_was_pending_in_a_killed_process_is_dropped_and_the_stage_still_balances() {
        let mut sum = with_stages(vec![stage("a", 10, 7, &[("late", 1)], 2)]);
        book_killed(&mut sum);
        add_incarnation(
            &mut sum,
            &with_stages(vec![stage("a", 5, 4, &[], 1), stage("b", 1, 1, &[], 0)]),
        );
        assert_eq!(
            sum.stages,
            [
                stage("a", 15, 11, &[("killed", 2), ("late", 1)], 1),
                stage("b", 1, 1, &[], 0)
            ]
        );
        assert_eq!(sum.stages[0].imbalance(), 0);
    }

    #[test]
    fn rows_stored_after_the_last_ledger_of_a_killed_writer_are_added_to_its_stage() {
        let (mut processes, mut store) = balanced();
        processes[0].usage.restarts = 1;
        store.rows.insert("http_logs".to_owned(), 11);
        check(&processes, &store, &[]);
        let summary = summarise(&processes, &store);
        assert_eq!(
            summary.stages[1],
            stage("store.http_logs", 12, 11, &[("quarantine", 1)], 0)
        );
    }

    #[test]
    fn rows_lost_across_a_restart_are_still_named() {
        let (mut processes, mut store) = balanced();
        processes[0].usage.restarts = 1;
        store.rows.insert("http_logs".to_owned(), 7);
        check(
            &processes,
            &store,
            &["8 rows were acknowledged and 0 were under way but the table has 7"],
        );
    }

    #[test]
    fn what_was_pending_at_the_start_of_a_run_counts_as_received_by_it() {
        let mut base = with_stages(vec![stage("a", 10, 7, &[("late", 1)], 2)]);
        base.facts.insert(
            "joined".to_owned(),
            serde_json::json!({"exact": 5, "none": {"late": 1}}),
        );
        let mut now = with_stages(vec![stage("a", 30, 25, &[("late", 1), ("full", 3)], 1)]);
        now.facts.insert(
            "joined".to_owned(),
            serde_json::json!({"exact": 9, "none": {"late": 1, "no_conn": 2}}),
        );
        let since = since(&now, &base);
        assert_eq!(since.stages, [stage("a", 22, 18, &[("full", 3)], 1)]);
        assert_eq!(since.stages[0].imbalance(), 0);
        assert_eq!(
            since.facts["joined"],
            serde_json::json!({"exact": 4, "none": {"late": 0, "no_conn": 2}})
        );
    }

    #[test]
    fn facts_of_incarnations_add_up_number_by_number() {
        let read = |text: &str| serde_json::from_str::<Ledger>(text).unwrap();
        let mut sum = read(
            r#"{"stages":[],"facts":{"hellos":3,"joined":{"exact":1,"none":{"late":1}},"state":"warm"}}"#,
        );
        add_incarnation(
            &mut sum,
            &read(
                r#"{"stages":[],"facts":{"hellos":4,"joined":{"exact":2,"none":{"no_conn":5}},"state":"cold"}}"#,
            ),
        );
        assert_eq!((number(&sum, "hellos"), number(&sum, "absent")), (7, 0));
        let none = BTreeMap::from([("late".to_owned(), 1), ("no_conn".to_owned(), 5)]);
        assert_eq!(
            Joined::read(&sum),
            Joined {
                exact: 3,
                none,
                ..Joined::default()
            }
        );
        assert_eq!(sum.facts["state"], "cold");
    }

    #[test]
    fn the_summary_has_the_shape_that_scripts_read() {
        let (mut processes, store) = balanced();
        processes[0].usage.anon_bytes_max = 1024;
        processes[0].usage.cpu_seconds = 1.5;
        let summary = summarise(&processes, &store);
        let expected = serde_json::json!({
            "stages": [
                {"name": "correlator.requests", "received": 10, "passed": 9, "dropped": {"overflow": 1}, "pending": 0},
                {"name": "store.http_logs", "received": 9, "passed": 8, "dropped": {"quarantine": 1}, "pending": 0},
                {"name": "sensor.frames", "received": 100, "passed": 98, "dropped": {"malformed": 2}, "pending": 0},
            ],
            "totals": {
                "packets": 100, "hellos": 4, "requests": 10,
                "joined": {"exact": 5, "asof": 2, "ambiguous": 1, "none": {"plaintext": 1}},
                "wrong": 0, "rows": {"http_logs": 8}, "scored": 0, "flagged": 0,
            },
            "processes": [
                {"name": "ja4-correlator", "anon_bytes_max": 1024, "cpu_seconds": 1.5, "restarts": 0},
                {"name": "ja4-sensor", "anon_bytes_max": 0, "cpu_seconds": 0.0, "restarts": 0},
            ],
        });
        assert_eq!(serde_json::to_value(summary).unwrap(), expected);
    }
}
