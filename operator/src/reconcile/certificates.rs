//! The step that makes and renews certificates, tokens and keys of a pipeline.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use k8s_openapi::ByteString;
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Api, ResourceExt as _};
use operator_api::conditions::reasons;
use operator_api::{Ja4Pipeline, labels};
use operator_manifests::ValidPipeline;
use serde_json::json;

use super::{FORBIDDEN_PATIENCE, Pass, ReconcileError};
use crate::apply::{ApplyError, forbidden_remedy, sort};
use crate::conditions::{ApplyFault, Certificates};
use crate::kinds::Kind;
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
                self.faults.push(ApplyFault {
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
            self.faults.push(ApplyFault {
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
        let kind = if part.is_config_map() {
            "ConfigMap"
        } else {
            "Secret"
        };
        let mut object = json!({
            "apiVersion": "v1",
            "kind": kind,
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
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("", "v1", kind));
        let api: Api<DynamicObject> =
            Api::namespaced_with(self.ctx.client.clone(), &valid.namespace, &resource);
        if is_new {
            self.ctx.metrics.requested("get");
            let found = api
                .get_opt(&name)
                .await
                .map_err(|error| sort(kind, &name, error))?;
            let kind = kind.to_owned();
            match found {
                None => {}
                // A key or a token that is there is never replaced by a new one.
                Some(found) if found.labels().get(labels::PIPELINE) == Some(&valid.name) => {
                    return Err(ApplyError::Stale { kind, name });
                }
                Some(_) => return Err(ApplyError::NotOurs { kind, name }),
            }
        }
        self.sender.must_lead()?;
        self.ctx.metrics.requested("apply");
        let params = PatchParams::apply(labels::OPERATOR).force();
        let sent = api
            .patch(&name, &params, &Patch::Apply(&object))
            .await
            .map_err(|error| sort(kind, &name, error))?;
        if part.is_config_map() {
            let kind = Kind::of("v1", "ConfigMap").expect("it is a known kind");
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
