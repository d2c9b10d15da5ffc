//! From what was seen to the conditions of the status. Pure.
//!
//! A condition is `True` when all is well (but for `Reconciling`, `Stalled`, `Suspended`, `AwaitingApproval` and `RolledBack`, which
//! are `True` when the word holds). What is not known is `Unknown`, never the old value. The message of a failing condition names the
//! thing, the place and the remedy.

use std::time::{Duration, SystemTime};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use operator_api::Ja4Pipeline;
use operator_api::conditions::{reasons, types};
use operator_manifests::{Invalid, Stage, ValidPipeline};

use crate::bands::{dropping, join_rate};
use crate::observe::{DetectorState, JobState, Pods, Trouble, one_line};

/// Below this share of TLS requests that find their connection something is wrong with the path, not with single clients.
pub(crate) const JOIN_FLOOR: f64 = 0.8;
/// From this share of packets or events on, dropping is trouble.
pub(crate) const DROP_LIMIT: f64 = 0.001;
/// A certificate that ends within this time should have been renewed long ago.
const EXPIRES_SOON: Duration = Duration::from_hours(7 * 24);
/// What a detector may be late beyond its schedule: starting a pod takes some of it.
const DETECTOR_GRACE: Duration = Duration::from_mins(5);

/// What the correlator and its nodes said.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Told {
    /// Class of the store's error; `None` if rows go in.
    pub(crate) store: Option<String>,
    /// True if the correlator has a word on the store at all.
    pub(crate) knows_store: bool,
    /// Requests over TLS in the last while, and the share of them that found their connection.
    pub(crate) join_rate: Option<f64>,
    /// Why requests do not find theirs, most frequent first, and an example.
    pub(crate) join_reason: Option<String>,
    /// True if some web server sends requests.
    pub(crate) has_http_source: bool,
    /// The highest share of packets or events dropped on a node, and that node.
    pub(crate) worst_drop: Option<(f64, String)>,
    /// Nodes whose forwarder has dropped events, with the reasons: `node1 (spool_full)`.
    pub(crate) lost: Vec<String>,
    /// Nodes with an interface that is asked for and not there: `node: eth7`.
    pub(crate) missing_interfaces: Vec<String>,
    /// First difference of the store's tables from the migrations.
    pub(crate) drift: Option<String>,
}

/// Certificates, as far as the operator makes them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Certificates {
    pub(crate) earliest_expiry: Option<SystemTime>,
    pub(crate) rotation: Option<String>,
}

/// Everything that conditions are made of.
#[derive(Debug)]
pub(crate) struct Seen<'a> {
    pub(crate) pipeline: &'a Ja4Pipeline,
    pub(crate) valid: Result<&'a ValidPipeline, &'a Invalid>,
    /// What could not be sent, or may not be.
    pub(crate) faults: &'a [Trouble],
    pub(crate) store: Pods,
    pub(crate) schema: JobState,
    pub(crate) schema_trouble: Option<Trouble>,
    pub(crate) next_attempt: Option<SystemTime>,
    pub(crate) correlator: Pods,
    pub(crate) dashboard: Pods,
    pub(crate) sensor: Pods,
    pub(crate) uncovered: &'a [String],
    pub(crate) detectors: &'a [DetectorState],
    /// The first stage that is not ready, which holds back those after it.
    pub(crate) held: Option<Stage>,
    /// Nothing when the correlator does not answer or is not there.
    pub(crate) told: Option<&'a Told>,
    pub(crate) certificates: &'a Certificates,
    /// Changes that wait for a person, and the hash to agree to.
    pub(crate) awaiting: Option<(usize, String)>,
    /// Why the last good set runs instead of the spec's.
    pub(crate) rolled_back: Option<String>,
    pub(crate) now: SystemTime,
}

/// Status, reason, message.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Verdict {
    status: &'static str,
    reason: String,
    message: String,
    is_stuck: bool,
}

fn verdict(status: &'static str, reason: &str, message: impl Into<String>) -> Verdict {
    Verdict {
        status,
        reason: reason.to_owned(),
        message: one_line(&message.into()),
        is_stuck: false,
    }
}

fn good(message: impl Into<String>) -> Verdict {
    verdict("True", reasons::OK, message)
}

fn bad(reason: &str, message: impl Into<String>) -> Verdict {
    verdict("False", reason, message)
}

fn unknown(message: impl Into<String>) -> Verdict {
    verdict("Unknown", reasons::UNKNOWN, message)
}

fn stuck(trouble: &Trouble) -> Verdict {
    Verdict {
        is_stuck: trouble.is_stuck,
        ..bad(trouble.reason, trouble.message.clone())
    }
}

/// All conditions, in their order. The time of a transition is kept where the status has not changed.
pub(crate) fn conditions(seen: &Seen<'_>) -> Vec<Condition> {
    let before = seen
        .pipeline
        .status
        .as_ref()
        .map(|status| status.conditions.as_slice())
        .unwrap_or_default();
    let generation = seen.pipeline.metadata.generation;
    let spec_valid = spec_valid(seen);
    let parts = match seen.valid {
        Ok(valid) => vec![
            (types::STORE_REACHABLE, store(seen, valid)),
            (types::SCHEMA_IN_SYNC, schema(seen, valid)),
            (types::SENSORS_COVERED, sensors(seen, valid)),
            (types::JOIN_HEALTHY, join(seen, valid)),
            (types::DETECTORS_HEALTHY, detectors(seen, valid)),
            (types::CERTIFICATES_VALID, certificates(seen, valid)),
        ],
        Err(_) => [
            types::STORE_REACHABLE,
            types::SCHEMA_IN_SYNC,
            types::SENSORS_COVERED,
            types::JOIN_HEALTHY,
            types::DETECTORS_HEALTHY,
            types::CERTIFICATES_VALID,
        ]
        .map(|kind| {
            (
                kind,
                unknown("the spec cannot be used; what ran before is left as it is"),
            )
        })
        .into(),
    };
    let ready = ready(seen, &spec_valid, &parts);
    let stalled = stalled(&spec_valid, seen, &parts);
    let reconciling = reconciling(seen, &ready, &stalled);
    let mut all = vec![
        (types::READY, ready),
        (types::RECONCILING, reconciling),
        (types::STALLED, stalled),
        (types::SPEC_VALID, spec_valid),
    ];
    all.extend(parts);
    all.push((types::SUSPENDED, suspended(seen)));
    all.push((types::AWAITING_APPROVAL, awaiting(seen)));
    all.push((
        types::ROLLED_BACK,
        match &seen.rolled_back {
            Some(why) => verdict("True", reasons::PROGRESS_DEADLINE, why.clone()),
            None => verdict("False", reasons::OK, "the spec's set runs"),
        },
    ));
    all.into_iter()
        .map(|(kind, verdict)| {
            let old = before
                .iter()
                .find(|old| old.type_ == kind && old.status == verdict.status);
            Condition {
                type_: kind.to_owned(),
                status: verdict.status.to_owned(),
                reason: verdict.reason,
                message: verdict.message,
                observed_generation: generation,
                last_transition_time: old
                    .map_or_else(|| time(seen.now), |old| old.last_transition_time.clone()),
            }
        })
        .collect()
}

/// A time as statuses hold it: whole seconds.
pub(crate) fn time(at: SystemTime) -> Time {
    let seconds = at
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    Time(jiff::Timestamp::from_second(i64::try_from(seconds).unwrap_or(0)).unwrap_or_default())
}

fn spec_valid(seen: &Seen<'_>) -> Verdict {
    match seen.valid {
        Ok(_) => good("the spec can be used"),
        Err(invalid) => Verdict {
            is_stuck: true,
            ..bad(invalid.reason, invalid.to_string())
        },
    }
}

fn is_suspended(seen: &Seen<'_>) -> bool {
    seen.pipeline.spec.suspend
}

fn store(seen: &Seen<'_>, valid: &ValidPipeline) -> Verdict {
    if valid.is_embedded() && !seen.store.is_done() {
        return pods("the store", &seen.store);
    }
    // The schema Job and the correlator speak to it, each with its own user.
    if let JobState::Failed { reason, message, .. } = &seen.schema
        && let Some(class) = store_class(reason)
    {
        return bad(
            class,
            format!("the schema Job: {message}; {}", store_remedy(class)),
        );
    }
    match seen.told {
        Some(told) if told.knows_store => match told.store.as_deref() {
            None => good("rows go in"),
            Some(class) => {
                let class = store_class(class).unwrap_or(reasons::STORE_FAILED);
                bad(
                    class,
                    format!(
                        "the correlator cannot write to the store; {}",
                        store_remedy(class)
                    ),
                )
            }
        },
        _ if is_suspended(seen) || valid.joins_on_nodes() || valid.spec.correlator.suspend => {
            match &seen.schema {
                JobState::Complete => good("the schema Job reached it"),
                _ => unknown("nobody has spoken to it yet"),
            }
        }
        _ => match &seen.schema {
            JobState::Complete if !seen.correlator.is_done() => good("the schema Job reached it"),
            JobState::Complete => {
                unknown("the correlator does not say; see SchemaInSync for the last word of the schema Job")
            }
            _ => unknown("nobody has spoken to it yet"),
        },
    }
}

/// A reason of the store, if a program's word is one.
fn store_class(word: &str) -> Option<&'static str> {
    [
        reasons::UNREACHABLE,
        reasons::WRONG_PASSWORD,
        reasons::NOT_ALLOWED,
        reasons::READ_ONLY,
        reasons::DISK_FULL,
        reasons::TLS_FAILED,
        reasons::SCHEMA_MISSING,
        reasons::BUSY,
        reasons::STORE_FAILED,
    ]
    .into_iter()
    .find(|class| *class == word)
}

fn store_remedy(class: &str) -> &'static str {
    match class {
        reasons::UNREACHABLE => "see whether it runs and spec.store.external.url is its address",
        reasons::WRONG_PASSWORD => {
            "put the right password in the Secret that spec.store.external.users names; it is taken up without a restart"
        }
        reasons::NOT_ALLOWED => "grant the user what docs/operator.md lists for it",
        reasons::READ_ONLY => "take the server out of read-only mode, or name one that takes rows",
        reasons::DISK_FULL => "raise the volume's size, or shorten spec.retention",
        reasons::TLS_FAILED => "name the certificate of its authority in spec.store.external.ca",
        reasons::SCHEMA_MISSING => "the schema Job makes the tables; see SchemaInSync",
        reasons::BUSY => "give the store more processor or memory",
        _ => "see its log",
    }
}

fn schema(seen: &Seen<'_>, valid: &ValidPipeline) -> Verdict {
    if let Some(drift) = seen.told.and_then(|told| told.drift.as_ref()) {
        return bad(
            reasons::DRIFTED,
            format!("{drift}; `ja4 schema status` shows all, `apply` mends what is missing"),
        );
    }
    match &seen.schema {
        JobState::Complete => good(format!("the tables are those of {}", valid.version)),
        JobState::Missing => bad(reasons::PENDING, "the schema Job waits for the store"),
        JobState::Running => match &seen.schema_trouble {
            Some(trouble) => stuck(trouble),
            None => bad(reasons::APPLYING, "the schema Job runs"),
        },
        JobState::Failed { reason, message, .. } => {
            let when = seen.next_attempt.map_or_else(
                || ", and is tried again now".to_owned(),
                // A time that stays what it is, so that the status is written once.
                |next| format!(", and is tried again at {}", time(next).0),
            );
            let is_refused = reason == "Refused";
            let reason = if is_refused {
                reasons::TOO_OLD
            } else {
                reasons::FAILED
            };
            Verdict {
                is_stuck: is_refused,
                ..bad(
                    reason,
                    format!(
                        "the schema Job failed{when}; annotate ja4platform.io/retry to try now: {message}"
                    ),
                )
            }
        }
    }
}

fn sensors(seen: &Seen<'_>, valid: &ValidPipeline) -> Verdict {
    if valid.spec.suspend || valid.spec.sensor.suspend {
        return verdict("True", reasons::SUSPENDED, "no sensor is asked for");
    }
    let state = &seen.sensor;
    if !state.is_applied {
        return held_back(seen, "the sensors");
    }
    if state.is_current && state.wanted == 0 {
        return Verdict {
            is_stuck: false,
            ..bad(
                reasons::NO_NODE_MATCHES,
                "no node has the labels of spec.sensor.placing.nodeSelector and no taint that its tolerations leave out; see `kubectl get nodes --show-labels`",
            )
        };
    }
    if let Some(missing) = seen
        .told
        .map(|told| &told.missing_interfaces)
        .filter(|missing| !missing.is_empty())
    {
        return bad(
            reasons::NO_INTERFACE,
            format!(
                "an interface is not there: {}; see spec.sensor.interfaces, or use auto",
                missing.join(", ")
            ),
        );
    }
    if !state.is_done_but(i32::from(valid.spec.rollout.max_unavailable)) {
        let nodes = if seen.uncovered.is_empty() {
            String::new()
        } else {
            format!("; {}", seen.uncovered.join(", "))
        };
        let found = pods("the sensors", state);
        return Verdict {
            message: one_line(&format!("{}{nodes}", found.message)),
            ..found
        };
    }
    if let Some((share, node)) = seen.told.and_then(|told| told.worst_drop.as_ref())
        && *share > DROP_LIMIT
    {
        return bad(
            reasons::DROPPING,
            format!(
                "{} of what came are dropped on {node}; raise spec.sensor.buffer or its processor, see docs/runbooks/Ja4SensorDropping.md",
                dropping(Some(*share))
            ),
        );
    }
    if let Some(lost) = seen.told.map(|told| &told.lost).filter(|lost| !lost.is_empty()) {
        return bad(
            reasons::DROPPING,
            format!(
                "events are dropped on {}; raise spec.sensor.spool, or see why the correlator does not take them",
                lost.join(", ")
            ),
        );
    }
    good(format!(
        "{} of {} nodes have a sensor that captures",
        state.ready, state.wanted
    ))
}

fn join(seen: &Seen<'_>, valid: &ValidPipeline) -> Verdict {
    if is_suspended(seen) || valid.spec.correlator.suspend {
        return verdict("Unknown", reasons::SUSPENDED, "nothing is joined");
    }
    if valid.joins_on_nodes() {
        return unknown("each node joins for itself; see the metric correlator_joined_total of its pod");
    }
    let Some(told) = seen.told else {
        return unknown("the correlator does not answer");
    };
    match told.join_rate {
        None if !told.has_http_source => verdict(
            "Unknown",
            reasons::NO_HTTP_SOURCE,
            "no web server sends requests; see docs/operator.md for how one is connected",
        ),
        None => unknown("no request over TLS was seen in the last while"),
        Some(rate) if rate >= JOIN_FLOOR => good("requests find their connections"),
        Some(rate) => {
            let why = told.join_reason.as_deref().unwrap_or("no reason is known");
            let reason = match why {
                _ if why.contains("addresses") => reasons::ADDRESSES_REWRITTEN,
                _ if why.contains("sensor") => reasons::SENSOR_GAP,
                _ => reasons::LOW_JOIN_RATE,
            };
            bad(
                reason,
                format!(
                    "{} of requests over TLS find their connection: {why}; see docs/kubernetes-paths.md",
                    join_rate(Some(rate))
                ),
            )
        }
    }
}

fn detectors(seen: &Seen<'_>, valid: &ValidPipeline) -> Verdict {
    if valid.detectors.is_empty() {
        return verdict("True", reasons::NOT_USED, "no detector is asked for");
    }
    if is_suspended(seen) {
        return verdict("True", reasons::SUSPENDED, "no detector is asked for");
    }
    let mut learning = Vec::new();
    for detector in &valid.detectors {
        if detector.spec.suspend {
            continue;
        }
        let name = &detector.spec.name;
        let Some(state) = seen.detectors.iter().find(|state| state.name == *name) else {
            continue;
        };
        if let Some((reason, message)) = &state.failure {
            let reason = store_class(reason).unwrap_or(reasons::FAILED);
            return bad(reason, format!("detector {name}: {message}"));
        }
        let Some(since) = state.since else {
            return held_back(seen, "the detectors");
        };
        // Nothing ran while it was suspended.
        let resumed = resumed_at(seen).unwrap_or(since);
        let last = state.last_success.unwrap_or(since).max(resumed).max(since);
        let limit = detector.periods.longest + DETECTOR_GRACE;
        if seen.now.duration_since(last).is_ok_and(|passed| passed > limit) {
            return bad(
                reasons::OVERDUE,
                format!(
                    "detector {name} has not succeeded for {} minutes; see `kubectl get jobs -l ja4platform.io/detector={name}`",
                    limit.as_secs() / 60
                ),
            );
        }
        if state.last_success.is_none() {
            return match &state.trouble {
                Some(trouble) => stuck(trouble),
                None => bad(
                    reasons::PROGRESSING,
                    format!("the first cycle of detector {name} has not ended yet"),
                ),
            };
        }
        if state.state.as_deref() == Some("learning") {
            learning.push(name.as_str());
        }
    }
    if learning.is_empty() {
        good("every detector ran within its schedule")
    } else {
        verdict(
            "True",
            reasons::LEARNING,
            format!("{} has not seen enough traffic yet", learning.join(", ")),
        )
    }
}

/// When the pipeline or a part of it was last resumed.
fn resumed_at(seen: &Seen<'_>) -> Option<SystemTime> {
    let conditions = &seen.pipeline.status.as_ref()?.conditions;
    let suspended = conditions
        .iter()
        .find(|c| c.type_ == types::SUSPENDED && c.status == "False")?;
    Some(SystemTime::from(suspended.last_transition_time.0))
}

fn certificates(seen: &Seen<'_>, valid: &ValidPipeline) -> Verdict {
    if !valid.has_correlator() && !valid.is_embedded() {
        return verdict(
            "True",
            reasons::NOT_USED,
            "no certificate of the operator's is needed",
        );
    }
    if let Some(phase) = &seen.certificates.rotation {
        return verdict(
            "True",
            reasons::ROTATING,
            format!("the authority is being replaced: {phase}"),
        );
    }
    // They are renewed with a third of their life left: half of that is late.
    let life = Duration::from_hours(24 * u64::from(valid.spec.tls.certificate_days));
    let soon = EXPIRES_SOON.min(life / 6);
    match seen.certificates.earliest_expiry {
        None => unknown("certificates are not made yet"),
        Some(end) if end.duration_since(seen.now).map_or(true, |left| left < soon) => bad(
            reasons::EXPIRING,
            "a certificate ends soon and could not be renewed; see the operator's log",
        ),
        Some(_) => good("no certificate ends soon"),
    }
}

fn suspended(seen: &Seen<'_>) -> Verdict {
    let spec = &seen.pipeline.spec;
    let mut parts: Vec<String> = Vec::new();
    if spec.suspend {
        parts.push("everything but the store".to_owned());
    } else {
        for (is_suspended, part) in [
            (spec.sensor.suspend, "the sensors"),
            (spec.correlator.suspend, "the correlator"),
            (spec.dashboard.suspend, "the dashboard"),
        ] {
            if is_suspended {
                parts.push(part.to_owned());
            }
        }
        for detector in spec.detectors.iter().filter(|detector| detector.suspend) {
            parts.push(format!("detector {}", detector.name));
        }
    }
    if parts.is_empty() {
        verdict("False", reasons::OK, "nothing is suspended")
    } else {
        verdict(
            "True",
            reasons::SUSPENDED,
            format!("{} stopped, as the spec says", parts.join(", ")),
        )
    }
}

fn awaiting(seen: &Seen<'_>) -> Verdict {
    match &seen.awaiting {
        Some((n, hash)) => verdict(
            "True",
            reasons::APPROVAL_NEEDED,
            format!(
                "{n} changes wait, see status.plannedChanges; agree by `kubectl annotate ja4p {} ja4platform.io/approved={hash} --overwrite`",
                seen.pipeline.metadata.name.as_deref().unwrap_or_default()
            ),
        ),
        None => verdict("False", reasons::OK, "nothing waits"),
    }
}

/// The first thing that fails, in the order of the stages.
fn ready(seen: &Seen<'_>, spec_valid: &Verdict, parts: &[(&str, Verdict)]) -> Verdict {
    if spec_valid.status != "True" {
        return spec_valid.clone();
    }
    if let Some(fault) = seen.faults.first() {
        return bad(fault.reason, fault.message.clone());
    }
    if let Some(why) = &seen.rolled_back {
        return bad(reasons::PROGRESS_DEADLINE, why.clone());
    }
    if let Some(why) = seen.awaiting.as_ref().map(|_| awaiting(seen)) {
        return bad(reasons::APPROVAL_NEEDED, why.message);
    }
    if is_suspended(seen) {
        return bad(reasons::SUSPENDED, "the spec says suspend");
    }
    let part = |kind: &str| {
        parts
            .iter()
            .find(|(found, _)| *found == kind)
            .map(|(_, verdict)| verdict)
    };
    let failing = |kind: &str| part(kind).filter(|verdict| verdict.status == "False").cloned();
    let valid = seen.valid.ok();
    if let Some(failing) = failing(types::STORE_REACHABLE).or_else(|| failing(types::SCHEMA_IN_SYNC)) {
        return failing;
    }
    if let Some(valid) = valid {
        let parts = [
            (
                valid.has_correlator() && !valid.spec.correlator.suspend,
                "the correlator",
                &seen.correlator,
            ),
            (
                valid.spec.dashboard.enabled && !valid.spec.dashboard.suspend,
                "the dashboard",
                &seen.dashboard,
            ),
        ];
        for (is_asked, name, state) in parts {
            if is_asked && !state.is_done() {
                return if state.is_applied {
                    pods(name, state)
                } else {
                    held_back(seen, name)
                };
            }
        }
    }
    for kind in [
        types::SENSORS_COVERED,
        types::DETECTORS_HEALTHY,
        types::CERTIFICATES_VALID,
    ] {
        if let Some(failing) = failing(kind) {
            return failing;
        }
    }
    good("every part runs as the spec asks")
}

fn stalled(spec_valid: &Verdict, seen: &Seen<'_>, parts: &[(&str, Verdict)]) -> Verdict {
    let fault = seen
        .faults
        .iter()
        .find(|fault| fault.is_stuck)
        .map(|fault| (fault.reason.to_owned(), fault.message.clone()));
    let of_parts = std::iter::once(spec_valid)
        .chain(parts.iter().map(|(_, verdict)| verdict))
        .find(|verdict| verdict.is_stuck)
        .map(|verdict| (verdict.reason.clone(), verdict.message.clone()))
        .or_else(|| {
            seen.rolled_back
                .clone()
                .map(|why| (reasons::PROGRESS_DEADLINE.to_owned(), why))
        });
    let of_pods = [&seen.correlator, &seen.dashboard].into_iter().find_map(|pods| {
        let trouble = pods.trouble.as_ref().filter(|trouble| trouble.is_stuck)?;
        Some((trouble.reason.to_owned(), trouble.message.clone()))
    });
    match fault.or(of_parts).or(of_pods) {
        Some((reason, message)) => verdict("True", &reason, message),
        None => verdict("False", reasons::OK, "nothing keeps it from going on"),
    }
}

fn reconciling(seen: &Seen<'_>, ready: &Verdict, stalled: &Verdict) -> Verdict {
    let works = stalled.status == "False"
        && (seen.held.is_some()
            || [
                reasons::PROGRESSING,
                reasons::PENDING,
                reasons::APPLYING,
                reasons::WAITING,
            ]
            .contains(&ready.reason.as_str()));
    if works {
        verdict("True", &ready.reason, ready.message.clone())
    } else {
        verdict("False", reasons::OK, "nothing is being changed")
    }
}

fn pods(what: &str, state: &Pods) -> Verdict {
    if !state.is_applied {
        return bad(reasons::PROGRESSING, format!("{what} is not made yet"));
    }
    match &state.trouble {
        Some(trouble) => stuck(trouble),
        None => bad(
            reasons::PROGRESSING,
            format!(
                "{what}: {} of {} ready, {} of the newest set",
                state.ready, state.wanted, state.updated
            ),
        ),
    }
}

fn held_back(seen: &Seen<'_>, what: &str) -> Verdict {
    let before = match seen.held {
        Some(Stage::Store) => "the store",
        Some(Stage::Schema) => "the schema",
        Some(Stage::Correlator) => "correlator and dashboard",
        _ => return bad(reasons::PROGRESSING, format!("{what}: being made")),
    };
    bad(reasons::WAITING, format!("{what} wait for {before}"))
}

#[cfg(test)]
mod tests;
