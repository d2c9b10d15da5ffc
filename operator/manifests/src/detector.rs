//! Detectors: a `CronJob` each, and one Job at the beginning, so that one knows at once whether it works.

use std::time::Duration;

use operator_api::{Component, labels};
use serde_json::{Value, json};

use crate::config::{self, Client};
use crate::names;
use crate::object::{Desired, Head, Stage, finish};
use crate::pod::{self, Pod};
use crate::schema::store_access;
use crate::validate::{ValidDetector, ValidPipeline};

/// A cycle takes seconds; one that takes longer than this is stuck.
const LONGEST: Duration = Duration::from_mins(30);
/// What the Job's deadline is later than the program's own: at its deadline a pod is deleted, and its last word is lost.
const MARGIN: Duration = Duration::from_secs(20);

/// Their objects.
pub(crate) fn objects(pipeline: &ValidPipeline) -> Vec<Desired> {
    pipeline
        .detectors
        .iter()
        .flat_map(|detector| one(pipeline, detector))
        .collect()
}

fn one(pipeline: &ValidPipeline, detector: &ValidDetector) -> Vec<Desired> {
    let spec = &detector.spec;
    let name = names::cron_job(&pipeline.name, &spec.name);
    let head = |api_version, kind, name| Head {
        api_version,
        kind,
        name,
        component: Component::Detector.as_str(),
    };
    let (data, config_hash) = pod::data([("detector.yaml", config::detector(pipeline, detector))]);
    // It must be over before the next one begins.
    let deadline = detector
        .periods
        .shortest
        .min(LONGEST)
        .saturating_sub(Duration::from_secs(5));
    let own = deadline.saturating_sub(MARGIN);

    let (mut volumes, mut mounts) = store_access(pipeline, Client::Detector);
    volumes.push(pod::config_volume("config", &name, &[]));
    mounts.push(pod::reads("config", config::CONFIG));
    let container = json!({
        "name": "detector",
        "image": pipeline.image("ja4-detector", ""),
        "imagePullPolicy": pipeline.spec.images.pull_policy.as_str(),
        "args": [
            "run",
            format!("--config={}/detector.yaml", config::CONFIG),
            format!("--deadline={}s", own.as_secs()),
            "--termination-message=/dev/termination-log",
        ],
        "resources": pod::resources(spec.resources.as_ref(), "100m", "128Mi", "512Mi"),
        "securityContext": pod::no_rights(),
        "volumeMounts": mounts,
    });
    let own_label = || [(labels::DETECTOR.to_owned(), spec.name.clone())];
    let template = pod::template(
        pipeline,
        Pod {
            component: Component::Detector,
            more_labels: own_label().into(),
            config_hash,
            placing: spec.placing.as_ref(),
            tolerations: Vec::new(),
            spec: json!({"restartPolicy": "Never", "containers": [container], "volumes": volumes}),
        },
    );
    let job_spec = json!({
        "backoffLimit": 1,
        "activeDeadlineSeconds": deadline.as_secs(),
        "podFailurePolicy": {"rules": [
            {"action": "FailJob", "onExitCodes": {"containerName": "detector", "operator": "In", "values": [2]}},
        ]},
        "template": template,
    });
    let more = json!({"labels": own_label().into_iter().collect::<std::collections::BTreeMap<_, _>>()});
    let is_stopped = pipeline.spec.suspend || spec.suspend;
    let mut job_labels = pipeline.labels(Component::Detector.as_str());
    job_labels.extend(own_label());
    let cron_job = json!({
        "metadata": more,
        "spec": {
            "schedule": spec.schedule,
            "timeZone": "Etc/UTC",
            "suspend": is_stopped,
            "concurrencyPolicy": "Forbid",
            // One that is later than this waits for its next time.
            "startingDeadlineSeconds": 120,
            "successfulJobsHistoryLimit": 2,
            "failedJobsHistoryLimit": 2,
            "jobTemplate": {"metadata": {"labels": job_labels}, "spec": job_spec},
        },
    });
    let mut objects = vec![
        finish(
            pipeline,
            Stage::Detectors,
            &head("v1", "ConfigMap", &name),
            json!({"metadata": more, "data": data}),
            true,
        ),
        finish(
            pipeline,
            Stage::Detectors,
            &head("batch/v1", "CronJob", &name),
            cron_job,
            true,
        ),
    ];
    if !is_stopped {
        objects.push(first(pipeline, spec.name.as_str(), &more, &job_spec, &head));
    }
    objects
}

/// The Job at the beginning. It is made once: its template stays what it was.
fn first<'a>(
    pipeline: &ValidPipeline,
    detector: &'a str,
    more: &Value,
    job_spec: &Value,
    head: &impl Fn(&'static str, &'static str, &'a str) -> Head<'a>,
) -> Desired {
    let name = names::first_job(&pipeline.name, detector);
    let base = head("batch/v1", "Job", detector);
    let head = Head { name: &name, ..base };
    finish(
        pipeline,
        Stage::Detectors,
        &head,
        json!({"metadata": more, "spec": job_spec}),
        true,
    )
}
