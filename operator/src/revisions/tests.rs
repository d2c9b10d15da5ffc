//! Which set runs: first, changed, waiting for a person, rolled back.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use operator_api::{Ja4PipelineStatus, Revisions};

use super::*;

fn pipeline(generation: i64, approval: &str, revisions: impl Into<Option<Revisions>>) -> Ja4Pipeline {
    let mut pipeline: Ja4Pipeline = serde_json::from_value(json!({
        "apiVersion": "ja4platform.io/v1alpha1", "kind": "Ja4Pipeline",
        "metadata": {"name": "shop", "namespace": "edge", "generation": generation},
        "spec": {"store": {"embedded": {}}, "rollout": {"approval": approval, "progressDeadlineSeconds": 600}},
    }))
    .unwrap();
    pipeline.status = Some(Ja4PipelineStatus {
        revisions: revisions.into(),
        ..Ja4PipelineStatus::default()
    });
    pipeline
}

fn record(number: i64, hash: &str) -> Record {
    Record {
        name: format!("shop-set-{number}"),
        number,
        hash: hash.to_owned(),
        generation: number,
        version: "0.1.0".to_owned(),
    }
}

const START: u64 = 1_800_000_000;

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(START + seconds)
}

fn state(current: i64, last_good: Option<i64>, rolled_back: Option<&str>) -> Revisions {
    Revisions {
        current,
        last_good,
        rolled_back: rolled_back.map(ToOwned::to_owned),
        since: Some(Time(
            jiff::Timestamp::from_second(i64::try_from(START).unwrap()).unwrap(),
        )),
    }
}

#[test]
fn the_first_set_is_recorded_and_then_current() {
    let first = pipeline(1, "Automatic", None);
    assert_eq!(choose(&first, "a", &[], at(0)), Choice::New(1));
    assert_eq!(
        choose(&first, "a", &[record(1, "a")], at(0)),
        Choice::Current(record(1, "a"))
    );
}

#[test]
fn a_change_is_a_new_set() {
    let changed = pipeline(2, "Automatic", state(1, Some(1), None));
    assert_eq!(choose(&changed, "b", &[record(1, "a")], at(0)), Choice::New(2));
}

#[test]
fn going_back_to_an_older_spec_is_a_new_set_too() {
    let changed = pipeline(3, "Automatic", state(2, Some(2), None));
    assert_eq!(
        choose(&changed, "a", &[record(1, "a"), record(2, "b")], at(0)),
        Choice::New(3)
    );
}

#[test]
fn a_change_waits_for_a_person_where_the_spec_says_so() {
    let mut changed = pipeline(2, "Manual", state(1, Some(1), None));
    let waiting = Choice::Awaiting {
        hash: "b".to_owned(),
        running: record(1, "a"),
    };
    assert_eq!(choose(&changed, "b", &[record(1, "a")], at(0)), waiting);
    // Somebody agreed to another change.
    changed.metadata.annotations = Some([(labels::APPROVED.to_owned(), "c".to_owned())].into());
    assert_eq!(choose(&changed, "b", &[record(1, "a")], at(0)), waiting);
    changed.metadata.annotations = Some([(labels::APPROVED.to_owned(), "b".to_owned())].into());
    assert_eq!(choose(&changed, "b", &[record(1, "a")], at(0)), Choice::New(2));
}

#[test]
fn the_first_set_waits_for_nobody() {
    assert_eq!(
        choose(&pipeline(1, "Manual", None), "a", &[], at(0)),
        Choice::New(1)
    );
}

#[test]
fn a_set_that_is_not_ready_in_time_gives_way_to_the_last_good_one() {
    let sets = [record(1, "a"), record(2, "b")];
    let late = pipeline(2, "Automatic", state(2, Some(1), None));
    assert_eq!(
        choose(&late, "b", &sets, at(599)),
        Choice::Current(record(2, "b"))
    );
    let Choice::RolledBack { good, why } = choose(&late, "b", &sets, at(601)) else {
        panic!("it is not rolled back");
    };
    assert_eq!(good, record(1, "a"));
    assert!(why.contains("generation 2") && why.contains("600 s"), "{why}");
}

#[test]
fn a_set_that_was_rolled_back_is_not_tried_again_and_the_next_one_is() {
    let sets = [record(1, "a"), record(2, "b")];
    let again = pipeline(2, "Automatic", state(1, Some(1), Some("b")));
    assert!(matches!(
        choose(&again, "b", &sets, at(0)),
        Choice::RolledBack { .. }
    ));
    let next = pipeline(3, "Automatic", state(1, Some(1), Some("b")));
    assert_eq!(choose(&next, "c", &sets, at(9999)), Choice::New(3));
    // Back to the good one: that is what runs.
    let back = pipeline(4, "Automatic", state(1, Some(1), Some("b")));
    assert_eq!(choose(&back, "a", &sets, at(9999)), Choice::New(3));
}

#[test]
fn the_newest_records_and_the_good_one_stay() {
    let sets: Vec<Record> = (1..=6).map(|number| record(number, "x")).collect();
    let names: Vec<i64> = superfluous(&sets, Some(2))
        .iter()
        .map(|record| record.number)
        .collect();
    assert_eq!(names, [1, 3]);
}

#[test]
fn nobody_goes_back_to_a_release_that_may_not_write_the_tables() {
    let sets = [record(1, "a"), record(2, "b")];
    let mut late = pipeline(2, "Automatic", state(2, Some(1), None));
    let schema = operator_api::SchemaStatus {
        min_writer: Some("0.2.0".into()),
        ..operator_api::SchemaStatus::default()
    };
    late.status.as_mut().unwrap().schema = Some(schema);
    assert_eq!(
        choose(&late, "b", &sets, at(601)),
        Choice::Current(record(2, "b"))
    );
}
