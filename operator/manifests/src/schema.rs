//! The Job that makes or migrates the store's tables. A Job cannot be changed, so its name says what it is for.

use operator_api::Component;
use serde_json::{Value, json};

use crate::Observed;
use crate::config::{self, Client};
use crate::names;
use crate::object::{Desired, Head, Stage, finish, hash};
use crate::pod::{self, Pod};
use crate::validate::ValidPipeline;

/// The Job's deadline; the program's own is 20 s before, or its last word would be lost.
const DEADLINE_SECONDS: u32 = 900;

/// The Job.
pub(crate) fn objects(pipeline: &ValidPipeline, observed: &Observed) -> Vec<Desired> {
    let mut args: Vec<Value> = vec![
        json!("schema"),
        json!("apply"),
        json!(format!("--url={}", config::store_url(pipeline))),
        json!(format!("--token-file={}/migrator", config::TOKENS)),
        json!(format!("--deadline={}s", DEADLINE_SECONDS - 20)),
        json!("--termination-message=/dev/termination-log"),
    ];
    if config::has_store_trust(pipeline) {
        args.push(json!(format!("--ca-file={}/ca.crt", config::STORE_TRUST)));
    }
    if let Some(external) = &pipeline.spec.store.external {
        args.push(json!(format!("--user={}", external.users.migrator.user)));
        args.push(json!(format!("--logs-database={}", external.logs_database)));
        args.push(json!(format!(
            "--processing-database={}",
            external.processing_database
        )));
    }
    for (setting, days) in pipeline.spec.retention.settings() {
        args.push(json!(format!("--retention={setting}={days}")));
    }
    let (volumes, mounts) = store_access(pipeline, Client::Migrator);
    let container = json!({
        "name": "schema",
        "image": pipeline.image("ja4-cli", ""),
        "imagePullPolicy": pipeline.spec.images.pull_policy.as_str(),
        "args": args,
        "resources": pod::resources(None, "50m", "64Mi", "256Mi"),
        "securityContext": pod::no_rights(),
        "volumeMounts": mounts,
    });
    let template = pod::template(
        pipeline,
        Pod {
            component: Component::Schema,
            more_labels: [].into(),
            config_hash: String::new(),
            placing: None,
            tolerations: Vec::new(),
            spec: json!({"restartPolicy": "Never", "containers": [container], "volumes": volumes}),
        },
    );
    let what = json!({"template": template, "attempt": observed.schema_attempt, "retry": observed.retry});
    let name = format!("{}-{}", pipeline.name_of(Component::Schema), &hash(&what)[..10]);
    let head = Head {
        api_version: "batch/v1",
        kind: "Job",
        name: &name,
        component: Component::Schema.as_str(),
    };
    let body = json!({"spec": {
        // Another try is another Job: the operator decides when.
        "backoffLimit": 1,
        "activeDeadlineSeconds": DEADLINE_SECONDS,
        "podFailurePolicy": {"rules": [
            // Another pod cannot help: a changed migration, a newer store, a wrong setting.
            {"action": "FailJob", "onExitCodes": {"containerName": "schema", "operator": "In", "values": [2]}},
            {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        ]},
        "template": template,
    }});
    vec![finish(pipeline, Stage::Schema, &head, body, true)]
}

/// Volumes and mounts of a client of the store: whom to believe, and its own token.
pub(crate) fn store_access(pipeline: &ValidPipeline, client: Client) -> (Vec<Value>, Vec<Value>) {
    let mut volumes = Vec::new();
    let mut mounts = Vec::new();
    match &pipeline.spec.store.external {
        None => volumes.push(pod::config_volume("store", &names::trust(&pipeline.name), &[])),
        Some(external) => {
            if let Some(ca) = &external.ca {
                volumes.push(pod::config_volume(
                    "store",
                    ca.name.as_str(),
                    &[(ca.key.as_str(), "ca.crt")],
                ));
            }
        }
    }
    if !volumes.is_empty() {
        mounts.push(pod::reads("store", config::STORE_TRUST));
    }
    let own = names::secret(&pipeline.name, "store-tokens");
    let (secret, key) = client
        .user(pipeline)
        .map_or((own.as_str(), client.as_str()), |user| {
            (user.password.name.as_str(), user.password.key.as_str())
        });
    volumes.push(pod::secret_volume("tokens", secret, &[(key, client.as_str())]));
    mounts.push(pod::reads("tokens", config::TOKENS));
    (volumes, mounts)
}
