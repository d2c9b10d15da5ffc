//! Waiting for what must come: by watching objects, or by asking again. Never by sleeping for a guess.
//!
//! Whoever waits in vain gets one error with what was seen last, the events and the ends of the pods' logs.

use std::fmt::Debug;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use futures_util::{StreamExt as _, pin_mut};
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::watcher;
use kube::{Api, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::case::{Case, PATIENCE};
use crate::evidence;

/// Between two questions of [`until`].
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// Asks again until there is an answer.
///
/// # Errors
/// At the deadline, with what was asked.
pub async fn until<T>(
    describe: &str,
    deadline: Duration,
    mut ask: impl AsyncFnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let end = Instant::now() + deadline;
    loop {
        let last_error = match ask().await {
            Ok(Some(answer)) => return Ok(answer),
            Ok(None) => None,
            // A component that is being killed on purpose answers with errors for a while.
            Err(error) => Some(error),
        };
        if Instant::now() >= end {
            let why =
                last_error.map_or_else(String::new, |error| format!("; the last answer was: {error:#}"));
            return Err(anyhow!(
                "waited {} s in vain: {describe}{why}",
                deadline.as_secs()
            ));
        }
        tokio::time::sleep(ASK_AGAIN).await;
    }
}

/// What an object's state means to who waits for it.
#[derive(Debug)]
pub enum State<T> {
    /// What was waited for.
    Reached(T),
    /// Not yet; where it stands.
    Waiting(String),
    /// It can no longer come, and why.
    Never(String),
}

/// Watches one object until `judge` says that it reached its state. It gets `None` while the object is not there.
///
/// # Errors
/// When the state can no longer come or does not come in time, with what was seen last, events and logs.
pub async fn object<K, T>(
    case: &Case,
    api: Api<K>,
    name: &str,
    deadline: Duration,
    judge: impl Fn(Option<&K>) -> State<T>,
) -> anyhow::Result<T>
where
    K: kube::Resource + Clone + DeserializeOwned + Debug + Send + 'static,
    K::DynamicType: Default,
{
    let kind = K::kind(&K::DynamicType::default()).into_owned();
    let mut last = "nothing was seen of it".to_owned();
    let reached = tokio::time::timeout(deadline, async {
        let changes = watcher::watch_object(api, name);
        pin_mut!(changes);
        while let Some(change) = changes.next().await {
            match change.map(|seen| judge(seen.as_ref())) {
                Ok(State::Reached(value)) => return Ok(value),
                Ok(State::Waiting(now)) => last = now,
                Ok(State::Never(why)) => return Err(why),
                // The watcher tries again by itself, with back-off.
                Err(error) => last = format!("watching failed: {error}"),
            }
        }
        Err("the watch ended".to_owned())
    })
    .await;
    let why = match reached {
        Ok(Ok(value)) => return Ok(value),
        Ok(Err(why)) => why,
        Err(_) => format!("not in {} s; last seen: {last}", deadline.as_secs()),
    };
    let seen = evidence::describe(case).await;
    Err(anyhow!("{kind} {name}: {why}\n{seen}"))
}

/// Waits until an object is there.
///
/// # Errors
/// As [`object`].
pub async fn found<K>(case: &Case, api: Api<K>, name: &str) -> anyhow::Result<K>
where
    K: kube::Resource + Clone + DeserializeOwned + Debug + Send + 'static,
    K::DynamicType: Default,
{
    object(case, api, name, PATIENCE, |seen| match seen {
        Some(found) => State::Reached(found.clone()),
        None => State::Waiting("it is not there".to_owned()),
    })
    .await
}

/// How a Job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobEnd {
    /// It completed.
    Complete,
    /// It failed for good.
    Failed,
}

impl Case {
    /// Waits until a Deployment's newest version is available in full.
    ///
    /// # Errors
    /// As [`object`]; at once when its progress deadline has passed.
    pub async fn deployment_available(&self, name: &str) -> anyhow::Result<Deployment> {
        object(self, self.api(), name, PATIENCE, |seen: Option<&Deployment>| {
            let Some((found, status)) = seen.and_then(|found| Some((found, found.status.as_ref()?))) else {
                return State::Waiting("no status yet".to_owned());
            };
            let conditions = status.conditions.iter().flatten();
            if let Some(stuck) = conditions
                .clone()
                .find(|c| c.type_ == "Progressing" && c.reason.as_deref() == Some("ProgressDeadlineExceeded"))
            {
                return State::Never(stuck.message.clone().unwrap_or_default());
            }
            let wanted = found.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
            let is_current = status.observed_generation >= found.metadata.generation;
            let is_whole = [
                status.updated_replicas,
                status.available_replicas,
                status.replicas,
            ]
            .iter()
            .all(|n| n.unwrap_or(0) == wanted);
            judged(is_current && is_whole, found, status)
        })
        .await
    }

    /// Waits until a `DaemonSet` has a ready pod of its newest version on every node it is for, and it is for one at least.
    ///
    /// # Errors
    /// As [`object`].
    pub async fn daemon_set_ready(&self, name: &str) -> anyhow::Result<DaemonSet> {
        object(self, self.api(), name, PATIENCE, |seen: Option<&DaemonSet>| {
            let Some((found, status)) = seen.and_then(|found| Some((found, found.status.as_ref()?))) else {
                return State::Waiting("no status yet".to_owned());
            };
            let wanted = status.desired_number_scheduled;
            let is_current = status.observed_generation >= found.metadata.generation;
            let is_whole = wanted > 0
                && status.number_ready == wanted
                && status.updated_number_scheduled == Some(wanted);
            judged(is_current && is_whole, found, status)
        })
        .await
    }

    /// Waits until a `StatefulSet`'s pods are ready, all of the newest version.
    ///
    /// # Errors
    /// As [`object`].
    pub async fn stateful_set_ready(&self, name: &str) -> anyhow::Result<StatefulSet> {
        object(self, self.api(), name, PATIENCE, |seen: Option<&StatefulSet>| {
            let Some((found, status)) = seen.and_then(|found| Some((found, found.status.as_ref()?))) else {
                return State::Waiting("no status yet".to_owned());
            };
            let wanted = found.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
            let is_current = status.observed_generation >= found.metadata.generation;
            let is_whole = status.ready_replicas.unwrap_or(0) == wanted
                && status.update_revision == status.current_revision;
            judged(is_current && is_whole, found, status)
        })
        .await
    }

    /// Waits until a Job has ended, and says how.
    ///
    /// # Errors
    /// As [`object`].
    pub async fn job_ended(&self, name: &str) -> anyhow::Result<JobEnd> {
        object(self, self.api(), name, PATIENCE, |seen: Option<&Job>| {
            let Some(status) = seen.and_then(|found| found.status.as_ref()) else {
                return State::Waiting("no status yet".to_owned());
            };
            let is = |kind: &str| {
                let mut conditions = status.conditions.iter().flatten();
                conditions.any(|c| c.type_ == kind && c.status == "True")
            };
            if is("Complete") {
                State::Reached(JobEnd::Complete)
            } else if is("Failed") {
                State::Reached(JobEnd::Failed)
            } else {
                State::Waiting(shown(status))
            }
        })
        .await
    }

    /// Waits until a pod is ready.
    ///
    /// # Errors
    /// As [`object`]; at once when it has ended.
    pub async fn pod_ready(&self, name: &str) -> anyhow::Result<Pod> {
        object(self, self.api(), name, PATIENCE, |seen: Option<&Pod>| {
            let Some((found, status)) = seen.and_then(|found| Some((found, found.status.as_ref()?))) else {
                return State::Waiting("no status yet".to_owned());
            };
            if matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")) {
                return State::Never(format!("it has ended: {}", shown(status)));
            }
            let mut conditions = status.conditions.iter().flatten();
            let is_ready = conditions.any(|c| c.type_ == "Ready" && c.status == "True");
            judged(is_ready, found, status)
        })
        .await
    }

    /// Waits until a pod that is not restarted has ended, and says whether it succeeded.
    ///
    /// # Errors
    /// As [`object`].
    pub async fn pod_ended(&self, name: &str) -> anyhow::Result<bool> {
        object(self, self.api(), name, PATIENCE, |seen: Option<&Pod>| {
            let Some(status) = seen.and_then(|found| found.status.as_ref()) else {
                return State::Waiting("no status yet".to_owned());
            };
            match status.phase.as_deref() {
                Some("Succeeded") => State::Reached(true),
                Some("Failed") => State::Reached(false),
                _ => State::Waiting(shown(status)),
            }
        })
        .await
    }

    /// The ready pods behind a label selector, by name.
    ///
    /// # Errors
    /// When the API server does not answer.
    pub async fn pods(&self, selector: &str) -> anyhow::Result<Vec<Pod>> {
        let params = kube::api::ListParams::default().labels(selector);
        let mut pods = self
            .api::<Pod>()
            .list(&params)
            .await
            .context("could not list pods")?
            .items;
        pods.sort_by_key(Pod::name_any);
        Ok(pods)
    }
}

fn judged<K: Clone, S: Serialize>(is_reached: bool, found: &K, status: &S) -> State<K> {
    if is_reached {
        State::Reached(found.clone())
    } else {
        State::Waiting(shown(status))
    }
}

/// A status in one line, without the lists of managed fields and such that nobody reads.
fn shown<S: Serialize>(status: &S) -> String {
    serde_json::to_string(status).unwrap_or_else(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build();
        runtime.unwrap().block_on(future)
    }

    #[test]
    fn an_answer_ends_the_wait_and_errors_before_it_do_not() {
        let mut n_asked = 0;
        let answer = block_on(until("three", Duration::from_mins(1), async || {
            n_asked += 1;
            match n_asked {
                1 => Err(anyhow!("not reachable")),
                2 => Ok(None),
                _ => Ok(Some(n_asked)),
            }
        }));
        assert_eq!(answer.unwrap(), 3);
    }

    #[test]
    fn who_waits_in_vain_learns_what_for_and_the_last_error() {
        let waited = block_on(until("rain", Duration::ZERO, async || {
            Err::<Option<()>, _>(anyhow!("blue sky"))
        }));
        let error = format!("{:#}", waited.unwrap_err());
        assert!(error.contains("rain") && error.contains("blue sky"), "{error}");
    }
}
