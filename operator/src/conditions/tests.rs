//! Conditions of worlds that are made up: what is said, in which order, and what is kept.

use operator_manifests::{Apis, Facts, validate};
use serde_json::json;

use super::*;

const NOW: u64 = 1_800_000_000;

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(NOW)
}

fn facts() -> Facts {
    Facts {
        operator_version: "0.1.0".to_owned(),
        registry: "localhost".to_owned(),
        runbook_base: String::new(),
        apis: Apis::default(),
        ports: Vec::new(),
    }
}

/// Pods that are as they should be.
fn up(n: i32) -> Pods {
    Pods {
        is_applied: true,
        wanted: n,
        ready: n,
        updated: n,
        is_current: true,
        trouble: None,
    }
}

fn pipeline(spec: &serde_json::Value) -> Ja4Pipeline {
    operator_api::check(&json!({
        "apiVersion": "ja4platform.io/v1alpha1", "kind": "Ja4Pipeline",
        "metadata": {"name": "shop", "namespace": "edge", "generation": 3},
        "spec": spec,
    }))
    .unwrap()
}

/// A world in which all is well, changed; the conditions as `Type=Status/Reason`.
fn said(spec: &serde_json::Value, change: impl FnOnce(&mut Seen<'_>)) -> Vec<Condition> {
    let pipeline = pipeline(spec);
    let valid = validate(&pipeline, &facts()).unwrap();
    let detectors = [DetectorState {
        name: "main".to_owned(),
        last_success: Some(now() - Duration::from_mins(1)),
        state: Some("armed".to_owned()),
        since: Some(now() - Duration::from_hours(1)),
        ..DetectorState::default()
    }];
    let told = Told {
        knows_store: true,
        join_rate: Some(0.999),
        has_http_source: true,
        ..Told::default()
    };
    let certificates = Certificates {
        earliest_expiry: Some(now() + Duration::from_hours(60 * 24)),
        rotation: None,
    };
    let mut seen = Seen {
        pipeline: &pipeline,
        valid: Ok(&valid),
        faults: &[],
        store: up(1),
        schema: JobState::Complete,
        schema_trouble: None,
        next_attempt: None,
        correlator: up(1),
        dashboard: up(1),
        sensor: up(3),
        uncovered: &[],
        detectors: &detectors,
        held: None,
        told: Some(&told),
        certificates: &certificates,
        awaiting: None,
        rolled_back: None,
        now: now(),
    };
    change(&mut seen);
    conditions(&seen)
}

fn small() -> serde_json::Value {
    json!({"store": {"embedded": {}}})
}

#[track_caller]
fn expect(conditions: &[Condition], kind: &str, status: &str, reason: &str) {
    let found = conditions.iter().find(|c| c.type_ == kind).unwrap();
    assert_eq!(
        (found.status.as_str(), found.reason.as_str()),
        (status, reason),
        "{kind}: {}",
        found.message
    );
    assert_eq!(found.observed_generation, Some(3));
}

#[test]
fn all_is_well() {
    let all = said(&small(), |_| {});
    let kinds: Vec<&str> = all.iter().map(|c| c.type_.as_str()).collect();
    assert_eq!(kinds, types::ALL);
    for kind in [
        types::READY,
        types::SPEC_VALID,
        types::STORE_REACHABLE,
        types::SCHEMA_IN_SYNC,
        types::SENSORS_COVERED,
        types::JOIN_HEALTHY,
    ] {
        expect(&all, kind, "True", reasons::OK);
    }
    for kind in [
        types::RECONCILING,
        types::STALLED,
        types::SUSPENDED,
        types::AWAITING_APPROVAL,
        types::ROLLED_BACK,
    ] {
        expect(&all, kind, "False", reasons::OK);
    }
}

#[test]
fn ready_names_the_first_stage_that_fails() {
    let all = said(&small(), |seen| {
        seen.store.ready = 0;
        seen.schema = JobState::Missing;
        seen.correlator = Pods::default();
        seen.held = Some(Stage::Store);
    });
    expect(&all, types::READY, "False", reasons::PROGRESSING);
    expect(&all, types::RECONCILING, "True", reasons::PROGRESSING);
    expect(&all, types::STALLED, "False", reasons::OK);
    expect(&all, types::SCHEMA_IN_SYNC, "False", reasons::PENDING);
}

#[test]
fn what_will_not_pass_by_itself_is_stalled() {
    let all = said(&small(), |seen| {
        seen.correlator.ready = 0;
        seen.correlator.trouble = Some(Trouble {
            reason: reasons::IMAGE_PULL_FAILED,
            message: "pod x cannot fetch y".to_owned(),
            is_stuck: true,
        });
    });
    expect(&all, types::READY, "False", reasons::IMAGE_PULL_FAILED);
    expect(&all, types::STALLED, "True", reasons::IMAGE_PULL_FAILED);
    expect(&all, types::RECONCILING, "False", reasons::OK);
}

#[test]
fn a_correlator_that_does_not_answer_is_unknown_and_nothing_old_is_kept() {
    let all = said(&small(), |seen| seen.told = None);
    expect(&all, types::JOIN_HEALTHY, "Unknown", reasons::UNKNOWN);
    expect(&all, types::STORE_REACHABLE, "Unknown", reasons::UNKNOWN);
}

#[test]
fn the_store_says_why() {
    for class in [
        reasons::WRONG_PASSWORD,
        reasons::READ_ONLY,
        reasons::DISK_FULL,
        reasons::TLS_FAILED,
        reasons::UNREACHABLE,
    ] {
        let told = Told {
            knows_store: true,
            store: Some(class.to_owned()),
            ..Told::default()
        };
        let pipeline = pipeline(&small());
        let valid = validate(&pipeline, &facts()).unwrap();
        let all = said(&small(), |seen| {
            // The test's own outlive the world of `said`.
            let told: &'static Told = Box::leak(Box::new(told.clone()));
            seen.told = Some(told);
        });
        expect(&all, types::STORE_REACHABLE, "False", class);
        expect(&all, types::READY, "False", class);
        assert!(valid.is_embedded());
    }
}

#[test]
fn a_failed_migration_says_when_it_is_tried_again() {
    let all = said(&small(), |seen| {
        seen.schema = JobState::Failed {
            reason: "Failed".to_owned(),
            message: "statement 3: no such column".to_owned(),
            at: now(),
        };
        seen.next_attempt = Some(now() + Duration::from_secs(20));
        seen.held = Some(Stage::Schema);
    });
    expect(&all, types::SCHEMA_IN_SYNC, "False", reasons::FAILED);
    let schema = all.iter().find(|c| c.type_ == types::SCHEMA_IN_SYNC).unwrap();
    assert!(
        schema.message.contains("2027-01-15T08:00:20Z") && schema.message.contains("no such column"),
        "{}",
        schema.message
    );
}

#[test]
fn a_store_that_is_newer_is_stalled() {
    let all = said(&small(), |seen| {
        seen.schema = JobState::Failed {
            reason: "Refused".to_owned(),
            message: "needs writer 0.2.0".to_owned(),
            at: now(),
        };
        seen.held = Some(Stage::Schema);
    });
    expect(&all, types::SCHEMA_IN_SYNC, "False", reasons::TOO_OLD);
    expect(&all, types::STALLED, "True", reasons::TOO_OLD);
}

#[test]
fn one_node_may_be_away_and_two_may_not() {
    let away = |n: i32| said(&small(), |seen| seen.sensor.ready -= n);
    expect(&away(1), types::READY, "True", reasons::OK);
    expect(&away(2), types::SENSORS_COVERED, "False", reasons::PROGRESSING);
    expect(&away(2), types::READY, "False", reasons::PROGRESSING);
}

#[test]
fn no_node_has_the_labels() {
    let all = said(&small(), |seen| seen.sensor = up(0));
    expect(&all, types::SENSORS_COVERED, "False", reasons::NO_NODE_MATCHES);
    expect(&all, types::READY, "False", reasons::NO_NODE_MATCHES);
}

#[test]
fn a_detector_that_is_late_is_overdue_and_one_that_was_suspended_is_not() {
    let late = |seen: &mut Seen<'_>| seen.now += Duration::from_hours(1);
    expect(
        &said(&small(), late),
        types::DETECTORS_HEALTHY,
        "False",
        reasons::OVERDUE,
    );
    let spec = json!({"store": {"embedded": {}}, "detectors": [{"name": "main", "suspend": true}]});
    expect(&said(&spec, late), types::DETECTORS_HEALTHY, "True", reasons::OK);
}

#[test]
fn a_low_join_rate_keeps_nothing_from_being_ready() {
    let all = said(&small(), |seen| {
        let told: &'static Told = Box::leak(Box::new(Told {
            knows_store: true,
            join_rate: Some(0.2),
            join_reason: Some("no connection has the addresses of the requests".to_owned()),
            has_http_source: true,
            ..Told::default()
        }));
        seen.told = Some(told);
    });
    expect(&all, types::JOIN_HEALTHY, "False", reasons::ADDRESSES_REWRITTEN);
    expect(&all, types::READY, "True", reasons::OK);
}

#[test]
fn certificates_that_end_soon_are_said() {
    let all = said(&small(), |seen| {
        let soon: &'static Certificates = Box::leak(Box::new(Certificates {
            earliest_expiry: Some(now() + Duration::from_hours(24)),
            rotation: None,
        }));
        seen.certificates = soon;
    });
    expect(&all, types::CERTIFICATES_VALID, "False", reasons::EXPIRING);
}

#[test]
fn suspended_is_not_ready_and_alerts_of_nothing_else() {
    let all = said(&json!({"store": {"embedded": {}}, "suspend": true}), |seen| {
        seen.correlator = up(0);
        seen.dashboard = up(0);
        seen.sensor = up(0);
        seen.told = None;
    });
    expect(&all, types::READY, "False", reasons::SUSPENDED);
    for condition in all.iter().filter(|c| {
        ![
            types::READY,
            types::RECONCILING,
            types::STALLED,
            types::AWAITING_APPROVAL,
            types::ROLLED_BACK,
        ]
        .contains(&c.type_.as_str())
    }) {
        assert_ne!(
            condition.status, "False",
            "{}: {}",
            condition.type_, condition.message
        );
    }
}

#[test]
fn a_spec_that_cannot_be_used_is_stalled_and_all_else_unknown() {
    let invalid = Invalid {
        reason: reasons::INVALID_SCHEDULE,
        field: "spec.detectors[main].schedule".to_owned(),
        message: "never comes".to_owned(),
    };
    let all = said(&small(), |seen| {
        let invalid: &'static Invalid = Box::leak(Box::new(invalid.clone()));
        seen.valid = Err(invalid);
    });
    expect(&all, types::SPEC_VALID, "False", reasons::INVALID_SCHEDULE);
    expect(&all, types::READY, "False", reasons::INVALID_SCHEDULE);
    expect(&all, types::STALLED, "True", reasons::INVALID_SCHEDULE);
    expect(&all, types::STORE_REACHABLE, "Unknown", reasons::UNKNOWN);
}

#[test]
fn the_time_of_a_transition_stays_while_the_status_does() {
    let first = said(&small(), |_| {});
    let mut pipeline = pipeline(&small());
    pipeline.status = Some(operator_api::Ja4PipelineStatus {
        conditions: first.clone(),
        ..operator_api::Ja4PipelineStatus::default()
    });
    let pipeline: &'static Ja4Pipeline = Box::leak(Box::new(pipeline));
    let later = said(&small(), |seen| {
        seen.pipeline = pipeline;
        seen.now += Duration::from_mins(1);
    });
    assert_eq!(first, later);
}

#[test]
fn a_rollback_is_stalled_and_says_why() {
    let all = said(&small(), |seen| {
        seen.rolled_back = Some("generation 3 did not become ready".to_owned());
    });
    expect(&all, types::READY, "False", reasons::PROGRESS_DEADLINE);
    expect(&all, types::ROLLED_BACK, "True", reasons::PROGRESS_DEADLINE);
    expect(&all, types::STALLED, "True", reasons::PROGRESS_DEADLINE);
}
