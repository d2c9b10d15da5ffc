//! What the children's state says of each component. Pure: children in, states out.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::{ContainerStatus, PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use operator_api::conditions::reasons;
use operator_api::{Component, labels};
use operator_manifests::names;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::world::Child;

/// How long a claim may wait for its volume, and a pod for a node, before that is called trouble: longer than a volume takes to be made.
const PATIENCE: Duration = Duration::from_secs(45);

/// What keeps pods from running or objects from being sent, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Trouble {
    pub(crate) reason: &'static str,
    pub(crate) message: String,
    /// True if it will not pass without a change.
    pub(crate) is_stuck: bool,
}

/// How a component's pods are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Pods {
    /// The object that makes them is there.
    pub(crate) is_applied: bool,
    pub(crate) wanted: i32,
    pub(crate) ready: i32,
    pub(crate) updated: i32,
    /// The cluster has acted on the newest template.
    pub(crate) is_current: bool,
    pub(crate) trouble: Option<Trouble>,
}

impl Pods {
    /// True when so many of the newest template are ready that not more than `away` are missing, and one at least.
    pub(crate) fn is_done_but(&self, away: i32) -> bool {
        let enough = (self.wanted - away).max(self.wanted.min(1));
        self.is_applied && self.is_current && self.ready >= enough && self.updated >= self.wanted
    }

    /// True when all pods are of the newest template and ready.
    pub(crate) fn is_done(&self) -> bool {
        self.is_applied && self.is_current && self.ready >= self.wanted && self.updated >= self.wanted
    }
}

/// How a Job ended, or that it has not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum JobState {
    Missing,
    Running,
    Complete,
    /// Reason and message of the program's last word, or of what kept it from one; and when.
    Failed {
        reason: String,
        message: String,
        at: SystemTime,
    },
}

/// A detector's last cycles.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct DetectorState {
    pub(crate) name: String,
    pub(crate) last_success: Option<SystemTime>,
    pub(crate) state: Option<String>,
    pub(crate) clients: Option<i64>,
    pub(crate) flagged: Option<i64>,
    /// Reason and message of the last cycle, if it failed.
    pub(crate) failure: Option<(String, String)>,
    pub(crate) trouble: Option<Trouble>,
    /// Its `CronJob` is there since.
    pub(crate) since: Option<SystemTime>,
}

/// A program's last word, as it stands in a pod's termination message.
#[derive(Debug, Deserialize)]
struct LastWord {
    outcome: String,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    message: String,
    #[serde(default)]
    detail: serde_json::Value,
}

/// Everything that children say.
#[derive(Debug, Clone)]
pub(crate) struct Children(pub(crate) Vec<Arc<Child>>);

impl Children {
    fn typed<K: DeserializeOwned>(&self, kind: &str, name: &str) -> Option<K> {
        let child = self.find(kind, name)?;
        serde_json::from_value(child.object.clone()).ok()
    }

    /// A child by kind and name.
    pub(crate) fn find(&self, kind: &str, name: &str) -> Option<&Arc<Child>> {
        self.0
            .iter()
            .find(|child| child.kind.name == kind && child.name() == name)
    }

    /// Pods with a label, newest first.
    fn pods(&self, label: &str, value: &str) -> Vec<Pod> {
        let pods = self
            .0
            .iter()
            .filter(|child| child.kind.name == "Pod" && child.label(label) == Some(value));
        let mut pods: Vec<Pod> = pods
            .filter_map(|child| serde_json::from_value(child.object.clone()).ok())
            .collect();
        pods.sort_by(|a, b| b.metadata.creation_timestamp.cmp(&a.metadata.creation_timestamp));
        pods
    }

    /// The pods of a store, correlator, dashboard or sensor.
    pub(crate) fn component(&self, pipeline: &str, component: Component, now: SystemTime) -> Pods {
        let name = names::of(pipeline, component);
        let mut pods = match component {
            Component::Sensor => self.daemon_set(&name),
            Component::Store => self.stateful_set(&name),
            _ => self.deployment(&name),
        };
        if pods.is_applied && (pods.ready < pods.wanted || pods.updated < pods.wanted) {
            let found = self.pods(labels::COMPONENT, component.as_str());
            let of_pods = found.iter().find_map(|pod| pod_trouble(pod, now));
            let of_object = pods.trouble.take();
            pods.trouble = of_pods
                .or_else(|| self.claim_trouble(&name, now))
                .or(of_object)
                .or_else(|| nobody_starts(&name, component, &pods, found.len()));
        } else {
            pods.trouble = None;
        }
        pods
    }

    fn deployment(&self, name: &str) -> Pods {
        let Some(found) = self.typed::<Deployment>("Deployment", name) else {
            return Pods::default();
        };
        let status = found.status.unwrap_or_default();
        let failure = status
            .conditions
            .iter()
            .flatten()
            .find(|c| c.type_ == "ReplicaFailure" && c.status == "True");
        Pods {
            is_applied: true,
            wanted: found.spec.and_then(|spec| spec.replicas).unwrap_or(1),
            ready: status.ready_replicas.unwrap_or(0),
            updated: status.updated_replicas.unwrap_or(0),
            is_current: status.observed_generation >= found.metadata.generation,
            trouble: failure.map(|condition| refused(condition.message.as_deref().unwrap_or_default())),
        }
    }

    fn stateful_set(&self, name: &str) -> Pods {
        let Some(found) = self.typed::<StatefulSet>("StatefulSet", name) else {
            return Pods::default();
        };
        let status = found.status.unwrap_or_default();
        let wanted = found.spec.and_then(|spec| spec.replicas).unwrap_or(1);
        let is_rolled = status.update_revision == status.current_revision;
        Pods {
            is_applied: true,
            wanted,
            ready: status.ready_replicas.unwrap_or(0),
            updated: if is_rolled {
                wanted
            } else {
                status.updated_replicas.unwrap_or(0)
            },
            is_current: status.observed_generation >= found.metadata.generation,
            trouble: None,
        }
    }

    fn daemon_set(&self, name: &str) -> Pods {
        let Some(found) = self.typed::<DaemonSet>("DaemonSet", name) else {
            return Pods::default();
        };
        let status = found.status.unwrap_or_default();
        Pods {
            is_applied: true,
            wanted: status.desired_number_scheduled,
            ready: status.number_ready,
            updated: status.updated_number_scheduled.unwrap_or(0),
            is_current: status.observed_generation >= found.metadata.generation,
            trouble: None,
        }
    }

    fn claim_trouble(&self, name: &str, now: SystemTime) -> Option<Trouble> {
        let claim = self.typed::<PersistentVolumeClaim>("PersistentVolumeClaim", name)?;
        let phase = claim.status.and_then(|status| status.phase)?;
        let is_late = older_than(claim.metadata.creation_timestamp.as_ref(), PATIENCE, now);
        (phase != "Bound" && is_late).then(|| Trouble {
            reason: reasons::VOLUME_UNBOUND,
            message: format!(
                "claim {name} has no volume ({phase}); see `kubectl describe pvc {name}`, and give the spec a storageClassName that makes volumes"
            ),
            is_stuck: true,
        })
    }

    /// Nodes whose sensor is not ready, with the reason; ten at most.
    pub(crate) fn uncovered(&self, now: SystemTime) -> Vec<String> {
        let pods = self.pods(labels::COMPONENT, Component::Sensor.as_str());
        let mut nodes: Vec<String> = pods
            .iter()
            .filter(|pod| !is_ready(pod))
            .map(|pod| {
                let node = node_of(pod).unwrap_or_else(|| "no node yet".to_owned());
                let why = pod_trouble(pod, now)
                    .map_or_else(|| "starting".to_owned(), |trouble| trouble.reason.to_owned());
                format!("{node}: {why}")
            })
            .collect();
        nodes.sort();
        nodes.dedup();
        nodes.truncate(10);
        nodes
    }

    /// Fields of children that somebody else manages, such as a person with kubectl; ten at most.
    pub(crate) fn foreign_fields(&self) -> Vec<String> {
        // Records of sets, ours and those of the cluster's controllers, and Jobs of CronJobs are nobody's to edit.
        let ours = self
            .0
            .iter()
            .filter(|child| child.kind.is_ours && !["ControllerRevision", "Job"].contains(&child.kind.name));
        ours.flat_map(|child| {
            child
                .foreign
                .iter()
                .map(|field| format!("{} {}: {field}", child.kind.name, child.name()))
        })
        .take(10)
        .collect()
    }

    /// How a Job is.
    pub(crate) fn job(&self, name: &str, now: SystemTime) -> (JobState, Option<Trouble>) {
        let Some(job) = self.typed::<Job>("Job", name) else {
            return (JobState::Missing, None);
        };
        let pods = self.pods("batch.kubernetes.io/job-name", name);
        let trouble = pods
            .iter()
            .find_map(|pod| pod_trouble(pod, now))
            .filter(|trouble| trouble.reason != reasons::CRASH_LOOPING);
        (job_state(&job, &pods), trouble)
    }

    /// The oldest release that may write to the tables, as a schema Job that succeeded has said.
    pub(crate) fn min_writer(&self, job: &str) -> Option<String> {
        let pods = self.pods("batch.kubernetes.io/job-name", job);
        let word = pods
            .iter()
            .filter_map(last_word)
            .find(|word| word.outcome == "succeeded")?;
        word.detail["min_writer"].as_str().map(ToOwned::to_owned)
    }

    /// How a detector's cycles went.
    pub(crate) fn detector(&self, pipeline: &str, detector: &str, now: SystemTime) -> DetectorState {
        let cron = self.typed::<CronJob>("CronJob", &names::cron_job(pipeline, detector));
        let mut state = DetectorState {
            name: detector.to_owned(),
            since: cron
                .as_ref()
                .and_then(|cron| at(cron.metadata.creation_timestamp.as_ref())),
            ..DetectorState::default()
        };
        if let Some(status) = cron.and_then(|cron| cron.status) {
            state.last_success = at(status.last_successful_time.as_ref());
        }
        let first = self.typed::<Job>("Job", &names::first_job(pipeline, detector));
        if let Some(done) = first
            .and_then(|job| job.status)
            .filter(|status| status.succeeded.unwrap_or(0) > 0)
        {
            state.last_success = state.last_success.max(at(done.completion_time.as_ref()));
        }
        let pods = self.pods(labels::DETECTOR, detector);
        // The newest pod that has ended says how the last cycle went, the newest that succeeded what it found.
        if let Some(word) = pods.iter().find_map(last_word)
            && word.outcome != "succeeded"
        {
            state.failure = Some((word.reason, word.message));
        }
        if let Some(word) = pods
            .iter()
            .filter_map(last_word)
            .find(|word| word.outcome == "succeeded")
        {
            state.state = word.detail["state"].as_str().map(ToOwned::to_owned);
            state.clients = word.detail["entities"].as_i64();
            state.flagged = word.detail["flagged"].as_i64();
        }
        state.trouble = pods.first().and_then(|pod| pod_trouble(pod, now));
        state
    }
}

/// A template of which no pod is made, or whose pods nobody says anything of.
fn nobody_starts(name: &str, component: Component, pods: &Pods, n_pods: usize) -> Option<Trouble> {
    (n_pods == 0 && pods.wanted > 0 && component == Component::Sensor && pods.is_current).then(|| Trouble {
        reason: reasons::POD_SECURITY,
        message: format!(
            "no pod of DaemonSet {name} is let in; sensors need the node's network: label the namespace pod-security.kubernetes.io/enforce=privileged, or see `kubectl describe daemonset {name}`"
        ),
        is_stuck: false,
    })
}

/// What the API server says when it refuses a pod.
fn refused(message: &str) -> Trouble {
    let (reason, remedy) = if message.contains("exceeded quota") || message.contains("LimitRange") {
        (
            reasons::QUOTA_EXCEEDED,
            "raise the namespace's quota or lower the resources in the spec",
        )
    } else if message.contains("violates PodSecurity") {
        (
            reasons::POD_SECURITY,
            "label the namespace pod-security.kubernetes.io/enforce=privileged",
        )
    } else {
        (reasons::APPLY_FAILED, "see the message")
    };
    Trouble {
        reason,
        message: format!("{}; {remedy}", one_line(message)),
        is_stuck: reason != reasons::APPLY_FAILED,
    }
}

/// What keeps a pod from running.
fn pod_trouble(pod: &Pod, now: SystemTime) -> Option<Trouble> {
    if pod.metadata.deletion_timestamp.is_some() || is_ready(pod) {
        return None;
    }
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let status = pod.status.as_ref()?;
    let scheduled = status
        .conditions
        .iter()
        .flatten()
        .find(|c| c.type_ == "PodScheduled");
    if let Some(condition) =
        scheduled.filter(|c| c.status == "False" && c.reason.as_deref() == Some("Unschedulable"))
    {
        let message = one_line(condition.message.as_deref().unwrap_or_default());
        if message.contains("free ports") {
            return Some(Trouble {
                reason: reasons::PORT_IN_USE,
                message: format!("{message}; give spec.sensor.metricsPort a port that is free on every node"),
                is_stuck: true,
            });
        }
        if message.contains("PersistentVolumeClaim") || message.contains("volume") {
            return older_than(pod.metadata.creation_timestamp.as_ref(), PATIENCE, now).then(|| Trouble {
                reason: reasons::VOLUME_UNBOUND,
                message: format!(
                    "pod {name}: {message}; give the volume in the spec a storageClassName that makes volumes"
                ),
                is_stuck: true,
            });
        }
        return Some(Trouble {
            reason: reasons::UNSCHEDULABLE,
            message: format!("pod {name}: {message}"),
            is_stuck: false,
        });
    }
    let containers = status
        .init_container_statuses
        .iter()
        .chain(&status.container_statuses)
        .flatten();
    containers
        .into_iter()
        .find_map(|container| container_trouble(name, container))
}

fn container_trouble(pod: &str, container: &ContainerStatus) -> Option<Trouble> {
    let waiting = container.state.as_ref()?.waiting.as_ref()?;
    let message = one_line(waiting.message.as_deref().unwrap_or_default());
    match waiting.reason.as_deref()? {
        "ErrImagePull"
        | "ImagePullBackOff"
        | "InvalidImageName"
        | "ErrImageNeverPull"
        | "RegistryUnavailable" => Some(Trouble {
            reason: reasons::IMAGE_PULL_FAILED,
            message: format!(
                "pod {pod} cannot fetch {}: {message}; see spec.images (registry, pullSecrets) and spec.version",
                container.image
            ),
            is_stuck: true,
        }),
        "CreateContainerConfigError" | "CreateContainerError" => Some(Trouble {
            reason: reasons::CONFIG_MISSING,
            message: format!("pod {pod}: {message}; make what it names in this namespace"),
            is_stuck: false,
        }),
        "CrashLoopBackOff" => {
            let ended = container
                .last_state
                .as_ref()
                .and_then(|last| last.terminated.as_ref());
            let why = ended.map_or_else(String::new, |ended| {
                let said = one_line(ended.message.as_deref().unwrap_or_default());
                format!(
                    " with status {}{}{said}",
                    ended.exit_code,
                    if said.is_empty() { "" } else { ": " }
                )
            });
            Some(Trouble {
                reason: reasons::CRASH_LOOPING,
                message: format!(
                    "container {} of pod {pod} ends again and again{why}; see `kubectl logs --previous {pod} -c {}`",
                    container.name, container.name
                ),
                is_stuck: false,
            })
        }
        _ => None,
    }
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.is_some_and(|all| all.iter().any(|c| c.type_ == "Ready" && c.status == "True"))
}

/// The node that a pod is on, or the one that a `DaemonSet`'s pod is for.
fn node_of(pod: &Pod) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    if let Some(node) = &spec.node_name {
        return Some(node.clone());
    }
    let terms = &spec
        .affinity
        .as_ref()?
        .node_affinity
        .as_ref()?
        .required_during_scheduling_ignored_during_execution
        .as_ref()?
        .node_selector_terms;
    terms.iter().find_map(|term| {
        let field = term
            .match_fields
            .as_ref()?
            .iter()
            .find(|field| field.key == "metadata.name")?;
        field.values.as_ref()?.first().cloned()
    })
}

fn job_state(job: &Job, pods: &[Pod]) -> JobState {
    let status = job.status.clone().unwrap_or_default();
    let holds = |kind: &str| {
        status
            .conditions
            .iter()
            .flatten()
            .find(|c| c.type_ == kind && c.status == "True")
    };
    if holds("Complete").is_some() || holds("SuccessCriteriaMet").is_some() {
        return JobState::Complete;
    }
    let Some(failed) = holds("Failed").or_else(|| holds("FailureTarget")) else {
        return JobState::Running;
    };
    let at = at(failed.last_transition_time.as_ref()).unwrap_or(SystemTime::UNIX_EPOCH);
    match pods
        .iter()
        .find_map(last_word)
        .filter(|word| word.outcome != "succeeded")
    {
        Some(word) => JobState::Failed {
            reason: word.reason,
            message: word.message,
            at,
        },
        None => JobState::Failed {
            reason: failed
                .reason
                .clone()
                .unwrap_or_else(|| reasons::FAILED.to_owned()),
            message: one_line(failed.message.as_deref().unwrap_or_default()),
            at,
        },
    }
}

/// What the program of a pod said at its end.
fn last_word(pod: &Pod) -> Option<LastWord> {
    let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
    let ended = statuses
        .iter()
        .find_map(|status| status.state.as_ref()?.terminated.as_ref())?;
    serde_json::from_str(ended.message.as_deref()?).ok()
}

fn at(time: Option<&Time>) -> Option<SystemTime> {
    time.map(|time| SystemTime::from(time.0))
}

fn older_than(time: Option<&Time>, age: Duration, now: SystemTime) -> bool {
    at(time).is_some_and(|then| now.duration_since(then).is_ok_and(|passed| passed >= age))
}

/// A message on one line, short enough for a status.
pub(crate) fn one_line(text: &str) -> String {
    let flat: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if flat.chars().count() <= 600 {
        return flat;
    }
    flat.chars().take(597).chain("...".chars()).collect()
}
