//! Sends what should be and takes away what should not: only where the cache says that something differs.

use std::collections::BTreeSet;
use std::sync::Arc;

use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, Preconditions, PropagationPolicy};
use kube::core::Status;
use kube::{Api, Client, ResourceExt as _};
use operator_api::conditions::reasons;
use operator_api::labels;
use operator_manifests::{Desired, covers};
use serde_json::Value;

use crate::election::Term;
use crate::kinds::Kind;
use crate::metrics::{Applied, Metrics};
use crate::observe::Trouble;
use crate::world::{Child, Key, World};

/// Why an object could not be sent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApplyError {
    /// The API server refuses it, and will again.
    #[error("the API server refuses {kind} {name}: {}", .status.message)]
    Refused {
        kind: String,
        name: String,
        status: Box<Status>,
    },
    /// Somebody else has an object of that name.
    #[error("{kind} {name} is there and does not belong to this pipeline; rename it or the pipeline")]
    NotOurs { kind: String, name: String },
    /// It may work in a moment.
    #[error("could not send {kind} {name}")]
    Transient {
        kind: String,
        name: String,
        #[source]
        source: kube::Error,
    },
    /// The cache has not seen yet what is there: to write now could take its place.
    #[error("{kind} {name} is there already; it is looked at again")]
    Stale { kind: String, name: String },
    /// The namespace is being deleted: nothing can be made in it any more.
    #[error("the namespace is being deleted")]
    NamespaceGoing,
    /// Another process leads by now.
    #[error("this process does not lead any more")]
    NotLeader,
}

impl ApplyError {
    /// Class for the metric of errors.
    pub(crate) fn category(&self) -> &'static str {
        match self {
            Self::Refused { status, .. } if status.code == 403 => "forbidden",
            Self::Refused { .. } => "refused",
            Self::NotOurs { .. } => "not_ours",
            Self::Transient { .. } => "transient",
            Self::NamespaceGoing => "namespace_going",
            Self::NotLeader => "not_leader",
            Self::Stale { .. } => "stale",
        }
    }

    /// What a condition says of it; nothing for what passes by itself.
    pub(crate) fn fault(&self) -> Option<Trouble> {
        match self {
            Self::Refused { kind, name, status } => {
                let message = &status.message;
                let (reason, remedy) = if message.contains("exceeded quota") {
                    (
                        reasons::QUOTA_EXCEEDED,
                        "raise the namespace's quota or lower the resources in the spec".to_owned(),
                    )
                } else if status.code == 403 {
                    (reasons::FORBIDDEN, forbidden_remedy(kind))
                } else {
                    (
                        reasons::APPLY_FAILED,
                        "change what the message names in the spec".to_owned(),
                    )
                };
                Some(Trouble {
                    reason,
                    message: format!("{kind} {name}: {message}; {remedy}"),
                    is_stuck: true,
                })
            }
            Self::NotOurs { .. } => Some(Trouble {
                reason: reasons::APPLY_FAILED,
                message: self.to_string(),
                is_stuck: true,
            }),
            Self::Transient { .. } | Self::Stale { .. } | Self::NamespaceGoing | Self::NotLeader => None,
        }
    }
}

/// What to do when the operator may not touch a kind.
pub(crate) fn forbidden_remedy(kind: &str) -> String {
    if kind == "Secret" {
        "let the operator make this pipeline's certificates: install the chart ja4-pipeline in this namespace, or bind the Role of docs/operator.md#rights"
            .to_owned()
    } else {
        "install the operator's chart again, its rights are incomplete".to_owned()
    }
}

/// Sorts an error of the API server.
fn sort(kind: &str, name: &str, error: kube::Error) -> ApplyError {
    match error {
        kube::Error::Api(status) => match status.code {
            404 if status.message.contains("namespaces") => ApplyError::NamespaceGoing,
            403 if status.message.contains("being terminated")
                || status.message.contains("is being deleted") =>
            {
                ApplyError::NamespaceGoing
            }
            // Conflicts, too many requests, and what is wrong inside the server.
            408 | 409 | 410 | 429 | 500.. => ApplyError::Transient {
                kind: kind.to_owned(),
                name: name.to_owned(),
                source: kube::Error::Api(status),
            },
            _ => ApplyError::Refused {
                kind: kind.to_owned(),
                name: name.to_owned(),
                status,
            },
        },
        source => ApplyError::Transient {
            kind: kind.to_owned(),
            name: name.to_owned(),
            source,
        },
    }
}

/// Who sends, and where what it learns goes.
#[derive(Clone)]
pub(crate) struct Sender {
    pub(crate) client: Client,
    pub(crate) world: Arc<World>,
    pub(crate) metrics: Arc<Metrics>,
    /// Looked at right before each write.
    pub(crate) term: Term,
}

impl std::fmt::Debug for Sender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sender")
    }
}

impl Sender {
    /// # Errors
    /// When another process may lead.
    pub(crate) fn must_lead(&self) -> Result<(), ApplyError> {
        if self.term.holds() {
            Ok(())
        } else {
            Err(ApplyError::NotLeader)
        }
    }

    fn api(&self, kind: Kind, namespace: &str) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), namespace, &kind.resource())
    }

    /// An object as the API server has it, past the caches.
    pub(crate) async fn find(
        &self,
        kind: Kind,
        namespace: &str,
        name: &str,
    ) -> Result<Option<DynamicObject>, ApplyError> {
        self.metrics.requested("get");
        let found = self.api(kind, namespace).get_opt(name).await;
        found.map_err(|error| sort(kind.name, name, error))
    }

    /// Writes an object, whatever the caches say: ours is what it says.
    pub(crate) async fn put(
        &self,
        kind: Kind,
        namespace: &str,
        name: &str,
        object: &Value,
    ) -> Result<DynamicObject, ApplyError> {
        self.must_lead()?;
        self.metrics.requested("apply");
        let params = PatchParams::apply(labels::OPERATOR).force();
        let sent = self
            .api(kind, namespace)
            .patch(name, &params, &Patch::Apply(object))
            .await;
        sent.map_err(|error| sort(kind.name, name, error))
    }

    /// Sends an object unless the cluster has it as it should be.
    pub(crate) async fn apply(
        &self,
        namespace: &str,
        wanted: &Desired,
        live: Option<&Child>,
    ) -> Result<Applied, ApplyError> {
        let kind = Kind::of(wanted.api_version(), wanted.kind()).expect("builders make known kinds only");
        let result = self.apply_inner(kind, namespace, wanted, live).await;
        match &result {
            Ok(applied) => self.metrics.applied(kind.name, *applied),
            Err(ApplyError::Transient {
                source: kube::Error::Api(status),
                ..
            }) if status.code == 409 => {
                self.metrics.applied(kind.name, Applied::Conflict);
            }
            Err(_) => {}
        }
        result
    }

    async fn apply_inner(
        &self,
        kind: Kind,
        namespace: &str,
        wanted: &Desired,
        live: Option<&Child>,
    ) -> Result<Applied, ApplyError> {
        if let Some(live) = live {
            // What is being deleted comes again when it is gone.
            if live.is_going() || is_as_wanted(live, wanted) {
                return Ok(Applied::Unchanged);
            }
            if live.annotation(labels::APPLIED_HASH) == Some(wanted.hash()) {
                self.metrics.drift_corrected(kind.name);
                tracing::info!(
                    pipeline.namespace = namespace,
                    kind = kind.name,
                    name = wanted.name(),
                    "somebody changed {} {namespace}/{}; it is put back",
                    kind.name,
                    wanted.name()
                );
            }
        } else {
            self.is_free(kind, namespace, wanted).await?;
        }
        let sent = self.put(kind, namespace, wanted.name(), &wanted.object).await?;
        tracing::debug!(
            pipeline.namespace = namespace,
            kind = kind.name,
            name = wanted.name(),
            "applied {} {namespace}/{}",
            kind.name,
            wanted.name()
        );
        self.world.note(kind, sent);
        Ok(if live.is_some() {
            Applied::Changed
        } else {
            Applied::Created
        })
    }

    /// An object that the cache does not know may be somebody else's: it is not taken over.
    async fn is_free(&self, kind: Kind, namespace: &str, wanted: &Desired) -> Result<(), ApplyError> {
        let found = self.find(kind, namespace, wanted.name()).await?;
        let Some(found) = found else { return Ok(()) };
        let has_label = found.labels().get(labels::PIPELINE).map(String::as_str)
            == wanted.object["metadata"]["labels"][labels::PIPELINE].as_str();
        // Somebody may have taken the label away.
        let owner = wanted.object["metadata"]["ownerReferences"][0]["uid"].as_str();
        let has_owner = found
            .owner_references()
            .iter()
            .any(|found| Some(found.uid.as_str()) == owner);
        if has_label || has_owner {
            Ok(())
        } else {
            Err(ApplyError::NotOurs {
                kind: kind.name.to_owned(),
                name: wanted.name().to_owned(),
            })
        }
    }

    /// Takes away a child.
    pub(crate) async fn delete(&self, key: &Key, child: &Child) -> Result<(), ApplyError> {
        let params = DeleteParams {
            propagation_policy: Some(PropagationPolicy::Background),
            preconditions: Some(Preconditions {
                uid: Some(child.uid().to_owned()),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        self.must_lead()?;
        self.metrics.requested("delete");
        match self.api(child.kind, &key.0).delete(child.name(), &params).await {
            Ok(_) => {
                self.metrics.pruned(child.kind.name);
                tracing::info!(
                    pipeline.namespace = key.0,
                    kind = child.kind.name,
                    name = child.name(),
                    "removed {} {}/{}",
                    child.kind.name,
                    key.0,
                    child.name()
                );
            }
            // Gone already, or another of the same name.
            Err(kube::Error::Api(status)) if [404, 409].contains(&status.code) => {}
            Err(error) => return Err(sort(child.kind.name, child.name(), error)),
        }
        self.world.forget(key, child.kind, child.name());
        Ok(())
    }
}

/// True if the live object has the hash of the wanted one, and nobody changed what it says.
fn is_as_wanted(live: &Child, wanted: &Desired) -> bool {
    // A Job cannot be changed, and what it was made of is in its name.
    if wanted.kind() == "Job" {
        return true;
    }
    live.annotation(labels::APPLIED_HASH) == Some(wanted.hash()) && covers(&live.object, &wanted.object)
}

/// Children of a pipeline that should not be any more: of its own, of a kind that it makes, and not among `kept`.
pub(crate) fn orphans<'c>(
    children: &'c [Arc<Child>],
    uid: &str,
    kept: &BTreeSet<(String, String)>,
) -> Vec<&'c Arc<Child>> {
    let newest_schema = children
        .iter()
        .filter(|child| {
            is_schema_job(child) && !kept.contains(&(child.kind.name.to_owned(), child.name().to_owned()))
        })
        .max_by_key(|child| {
            child.object["metadata"]["creationTimestamp"]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        })
        .map(|child| child.name().to_owned());
    children
        .iter()
        .filter(|child| child.kind.is_ours && child.kind.name != "ControllerRevision")
        .filter(|child| child.controller() == Some(uid) && !child.is_going())
        .filter(|child| !kept.contains(&(child.kind.name.to_owned(), child.name().to_owned())))
        // The last schema Job before the present one stays: its log says how it went.
        .filter(|child| !(is_schema_job(child) && newest_schema.as_deref() == Some(child.name())))
        .collect()
}

fn is_schema_job(child: &Child) -> bool {
    child.kind.name == "Job" && child.label(labels::COMPONENT) == Some("schema")
}
