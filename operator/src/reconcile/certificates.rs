//! The step that makes and renews certificates, tokens and keys of a pipeline.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use k8s_openapi::ByteString;
use kube::ResourceExt as _;
use operator_api::conditions::reasons;
use operator_api::{Ja4Pipeline, labels};
use operator_manifests::ValidPipeline;
use serde_json::json;

use super::{FORBIDDEN_PATIENCE, Pass, ReconcileError};
use crate::apply::{ApplyError, forbidden_remedy};
use crate::conditions::Certificates;
use crate::kinds::{CONFIG_MAP, SECRET};
use crate::observe::Trouble;
use crate::pki::{self, Part, Stored};
use crate::vault::Known;

impl Pass<'_> {
    /// Makes and renews certificates and tokens; nothing when it is not known yet which there are.
    pub(super) async fn certificates(
        &mut self,
        valid: &ValidPipeline,
    ) -> Result<Option<Certificates>, ReconcileError> {
        let secrets = match self.ctx.vault.of(&self.key) {
            Known::NotYet => return Ok(None),
            Known::Forbidden(words) => {
                self.faults.push(Trouble {
                    reason: reasons::FORBIDDEN,
                    message: format!("{words}; {}", forbidden_remedy("Secret")),
                    // A binding that was made a moment ago is not known everywhere yet.
                    is_stuck: self.is_older_than(FORBIDDEN_PATIENCE),
                });
                return Ok(Some(Certificates::default()));
            }
            Known::All(secrets) => secrets,
        };
        let needs = needs(valid, self.pipeline);
        let mut existing = pki::Existing::new();
        for part in Part::ALL {
            let name = part.name(&valid.name);
            let found = if part.is_config_map() {
                self.trust(&name)
            } else {
                secrets.get(&name).cloned()
            };
            if let Some(found) = found {
                existing.insert(part, found);
            }
        }
        let plan = pki::plan(&existing, &needs, self.now, &mut getrandom::fill)?;
        for write in &plan.writes {
            let is_new = !existing.contains_key(&write.part);
            if let Err(error) = self.write_part(valid, write.part, &write.content, is_new).await {
                self.keep_fault(error)?;
                // Those after it may rest on it: trust comes before leaves.
                break;
            }
            tracing::info!(
                pipeline.namespace = self.key.0,
                pipeline.name = self.key.1,
                "wrote {} of {}/{}: {}",
                write.part.suffix(),
                self.key.0,
                self.key.1,
                write.why
            );
        }
        for fault in plan.faults {
            self.faults.push(Trouble {
                reason: reasons::CONFIG_MISSING,
                message: fault,
                is_stuck: true,
            });
        }
        self.next = self.next.min(plan.next_check);
        self.ctx
            .metrics
            .set_cert_expiry(&self.key.0, &self.key.1, plan.earliest_expiry);
        Ok(Some(Certificates {
            earliest_expiry: plan.earliest_expiry,
            rotation: plan.rotation.map(|phase| phase.name().to_owned()),
        }))
    }

    fn trust(&self, name: &str) -> Option<Stored> {
        let children = self.children();
        let found = children.find("ConfigMap", name)?;
        let data = found.object["data"].as_object().into_iter().flatten();
        Some(Stored {
            data: pki::Data(
                data.map(|(key, value)| {
                    (
                        key.clone(),
                        value.as_str().unwrap_or_default().as_bytes().to_vec(),
                    )
                })
                .collect(),
            ),
            annotations: BTreeMap::new(),
        })
    }

    async fn write_part(
        &self,
        valid: &ValidPipeline,
        part: Part,
        content: &Stored,
        is_new: bool,
    ) -> Result<(), ApplyError> {
        let name = part.name(&valid.name);
        let kind = if part.is_config_map() { CONFIG_MAP } else { SECRET };
        let mut object = json!({
            "apiVersion": kind.api_version(),
            "kind": kind.name,
            "metadata": {
                "name": name,
                "namespace": valid.namespace,
                "labels": valid.labels("pki"),
                "annotations": content.annotations,
            },
        });
        // Tokens and key belong to the data: who keeps the volume needs them again.
        let outlives = keeps_data(valid) && matches!(part, Part::StoreTokens | Part::RedactionKey);
        if !outlives {
            object["metadata"]["ownerReferences"] = valid.owner();
        }
        if part.is_config_map() {
            let data: BTreeMap<&String, String> = content
                .data
                .0
                .iter()
                .map(|(key, value)| (key, String::from_utf8_lossy(value).into_owned()))
                .collect();
            object["data"] = json!(data);
        } else {
            let data: BTreeMap<&String, ByteString> = content
                .data
                .0
                .iter()
                .map(|(key, value)| (key, ByteString(value.clone())))
                .collect();
            object["type"] = json!(part.secret_type());
            object["data"] = json!(data);
        }
        if is_new && let Some(found) = self.sender.find(kind, &valid.namespace, &name).await? {
            let is_ours = found.labels().get(labels::PIPELINE) == Some(&valid.name);
            let kind = kind.name.to_owned();
            // A key or a token that is there is never replaced by a new one.
            return Err(if is_ours {
                ApplyError::Stale { kind, name }
            } else {
                ApplyError::NotOurs { kind, name }
            });
        }
        let sent = self.sender.put(kind, &valid.namespace, &name, &object).await?;
        if part.is_config_map() {
            self.ctx.world.note(kind, sent);
        } else {
            self.ctx.vault.note(&self.key, &name, content.clone());
        }
        Ok(())
    }
}

/// True if the store's volume outlives the pipeline.
fn keeps_data(valid: &ValidPipeline) -> bool {
    let store = valid.spec.store.embedded.as_ref();
    store.is_some_and(|store| store.deletion_policy == operator_api::DeletionPolicy::Retain)
}

/// Which certificates and tokens a pipeline needs.
fn needs(valid: &ValidPipeline, pipeline: &Ja4Pipeline) -> pki::Needs {
    let mut parts = BTreeSet::new();
    let spec = &valid.spec;
    if valid.has_correlator() || valid.is_embedded() {
        parts.extend([Part::Ca, Part::Trust]);
    }
    if valid.has_correlator() {
        parts.extend([Part::CorrelatorTls, Part::ForwardTls, Part::OperatorTls]);
    }
    if valid.is_embedded() {
        parts.extend([Part::StoreTls, Part::StoreTokens]);
    }
    if spec
        .sources
        .ingest
        .as_ref()
        .is_some_and(|sources| !sources.is_empty())
    {
        parts.insert(Part::IngestTls);
    }
    if spec.privacy.redaction_key.is_none() {
        parts.insert(Part::RedactionKey);
    }
    pki::Needs {
        namespace: valid.namespace.clone(),
        pipeline: valid.name.clone(),
        parts,
        rotate: pipeline.annotations().get(pki::ROTATE).cloned(),
        times: pki::Times::of_leaf(Duration::from_hours(24 * u64::from(spec.tls.certificate_days))),
    }
}
