//! From what was seen to the numbers of the status. Numbers are bands, so that a status changes seldom. Pure.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use operator_api::{
    CorrelatorStatus, DetectorStatus, Ja4Pipeline, Ja4PipelineStatus, PlannedChanges, Release, Revisions,
    SchemaStatus, SensorsStatus,
};
use operator_manifests::ValidPipeline;

use crate::bands::{dropping, join_rate};
use crate::conditions::{Seen, time};

/// Lines of planned changes that are shown.
const CHANGES_SHOWN: usize = 20;

/// The status of a spec that cannot be used: what ran before is left as it is, and so are its numbers.
pub(crate) fn invalid(pipeline: &Ja4Pipeline, conditions: Vec<Condition>) -> Ja4PipelineStatus {
    Ja4PipelineStatus {
        observed_generation: pipeline.metadata.generation.unwrap_or(0),
        conditions,
        ..pipeline.status.clone().unwrap_or_default()
    }
}

/// The status of a pipeline.
pub(crate) fn whole(
    seen: &Seen<'_>,
    valid: &ValidPipeline,
    conditions: Vec<Condition>,
    schema: SchemaStatus,
    revisions: Revisions,
    awaiting: Option<&(Vec<String>, String)>,
) -> Ja4PipelineStatus {
    let detectors: Vec<DetectorStatus> = seen
        .detectors
        .iter()
        .map(|state| DetectorStatus {
            name: state.name.clone(),
            last_success: state.last_success.map(time),
            state: state.state.clone(),
            clients: state.clients,
            flagged: state.flagged,
            failure: state.failure.as_ref().map(|(reason, _)| reason.clone()),
        })
        .collect();
    Ja4PipelineStatus {
        observed_generation: seen.pipeline.metadata.generation.unwrap_or(0),
        conditions,
        version: Some(running(seen, valid)),
        sensors: Some(SensorsStatus {
            summary: format!("{}/{}", seen.sensor.ready, seen.sensor.wanted),
            scheduled: seen.sensor.wanted,
            ready: seen.sensor.ready,
            updated: seen.sensor.updated,
            dropping: seen.told.map_or_else(
                || "unknown".to_owned(),
                |told| dropping(told.worst_drop.as_ref().map(|(share, _)| *share)),
            ),
            uncovered: seen.uncovered.to_vec(),
        }),
        correlator: valid.has_correlator().then(|| CorrelatorStatus {
            ready: seen.correlator.is_applied && seen.correlator.wanted > 0 && seen.correlator.is_done(),
            join_rate: seen
                .told
                .map_or_else(|| "unknown".to_owned(), |told| join_rate(told.join_rate)),
            store: match seen.told {
                Some(told) if told.knows_store => told.store.clone().unwrap_or_else(|| "Ok".to_owned()),
                _ => "unknown".to_owned(),
            },
        }),
        detectors_summary: (!detectors.is_empty()).then(|| summary(&detectors)),
        detectors,
        schema: Some(schema),
        certificates_expire: seen.certificates.earliest_expiry.map(time),
        planned_changes: awaiting.map(|(changes, hash)| PlannedChanges {
            hash: hash.clone(),
            changes: changes.iter().take(CHANGES_SHOWN).cloned().collect(),
            more: u32::try_from(changes.len().saturating_sub(CHANGES_SHOWN)).unwrap_or(u32::MAX),
        }),
        revisions: Some(revisions),
        foreign_fields: Vec::new(),
        dashboard: dashboard(valid),
    }
}

/// The release that runs: while a change waits or was taken back, the one before.
fn running(seen: &Seen<'_>, valid: &ValidPipeline) -> Release {
    let before = seen
        .pipeline
        .status
        .as_ref()
        .and_then(|status| status.version.clone());
    match before {
        Some(before) if seen.awaiting.is_some() || seen.rolled_back.is_some() => before,
        _ => valid.version.clone(),
    }
}

/// `armed`, or `main armed, night learning` for several.
fn summary(detectors: &[DetectorStatus]) -> String {
    let word = |detector: &DetectorStatus| match (&detector.failure, &detector.state) {
        (Some(failure), _) => failure.clone(),
        (None, Some(state)) => state.clone(),
        (None, None) => "starting".to_owned(),
    };
    if let [only] = detectors {
        return word(only);
    }
    let words: Vec<String> = detectors
        .iter()
        .map(|detector| format!("{} {}", detector.name, word(detector)))
        .collect();
    words.join(", ")
}

/// How people reach the pages.
fn dashboard(valid: &ValidPipeline) -> Option<String> {
    let spec = &valid.spec.dashboard;
    if !spec.enabled {
        return None;
    }
    let host = spec
        .ingress
        .as_ref()
        .map(|ingress| &ingress.host)
        .or_else(|| spec.http_route.as_ref().map(|route| &route.host));
    Some(match host {
        Some(host) => format!("https://{host}"),
        None => format!(
            "kubectl -n {} port-forward deployment/{} 8000",
            valid.namespace,
            valid.name_of(operator_api::Component::Dashboard)
        ),
    })
}
