//! What a person runs at a desk: `validate`, `diff`, `status`, `support-bundle`, and the check after an installation.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, bail};
use ja4_common::exit::Failure;
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::api::{DynamicObject, ListParams, LogParams, Patch, PatchParams};
use kube::{Api, Client, ResourceExt as _};
use operator_api::conditions::types;
use operator_api::{Ja4Pipeline, labels};
use operator_manifests::{Apis, Facts, Observed, covers, desired, validate as resolve};
use serde_json::{Value, json};

use crate::kinds::{KINDS, Kind};

/// Longest file of pipelines.
const MAX_FILE: u64 = 4 << 20;
/// Lines of each log in a support bundle.
const LOG_LINES: i64 = 500;

/// Checks files as the cluster would.
pub(crate) fn validate(files: &[PathBuf]) -> Result<(), Failure> {
    let mut n_faults = 0;
    let mut out = std::io::stdout().lock();
    for file in files {
        let text = read(file).map_err(Failure::wrong_use)?;
        let documents = documents(&text)
            .with_context(|| file.display().to_string())
            .map_err(Failure::wrong_use)?;
        if documents.is_empty() {
            return Err(Failure::wrong_use(anyhow!(
                "{}: no Ja4Pipeline in it",
                file.display()
            )));
        }
        for document in documents {
            let name = document["metadata"]["name"].as_str().unwrap_or("?");
            let faults: Vec<String> = match operator_api::check(&document) {
                Ok(mut pipeline) => {
                    pipeline
                        .metadata
                        .namespace
                        .get_or_insert_with(|| "default".to_owned());
                    resolve(&pipeline, &facts(ALL_APIS))
                        .err()
                        .map(|invalid| invalid.to_string())
                        .into_iter()
                        .collect()
                }
                Err(faults) => faults.iter().map(ToString::to_string).collect(),
            };
            n_faults += faults.len();
            let lines = if faults.is_empty() {
                vec!["valid".to_owned()]
            } else {
                faults
            };
            for line in lines {
                writeln!(out, "{}: {name}: {line}", file.display()).map_err(Failure::failed)?;
            }
        }
    }
    if n_faults > 0 {
        return Err(Failure::failed(anyhow!(
            "{n_faults} faults; nothing was sent anywhere"
        )));
    }
    Ok(())
}

/// A cluster of which nothing is known has everything.
const ALL_APIS: Apis = Apis {
    monitoring: true,
    gateway: true,
};

fn facts(apis: Apis) -> Facts {
    Facts {
        operator_version: env!("CARGO_PKG_VERSION").to_owned(),
        registry: "localhost".to_owned(),
        runbook_base: String::new(),
        apis,
        ports: Vec::new(),
    }
}

/// The text of a file, or of standard input.
fn read(file: &Path) -> anyhow::Result<String> {
    let mut text = String::new();
    if file == Path::new("-") {
        std::io::stdin().lock().take(MAX_FILE).read_to_string(&mut text)?;
    } else {
        let opened =
            std::fs::File::open(file).with_context(|| format!("{} cannot be read", file.display()))?;
        opened
            .take(MAX_FILE)
            .read_to_string(&mut text)
            .with_context(|| format!("{} cannot be read", file.display()))?;
    }
    Ok(text)
}

/// The pipelines of a file; other objects in it are passed over.
fn documents(text: &str) -> anyhow::Result<Vec<Value>> {
    let all: Vec<Value> = serde_saphyr::from_multiple(text).map_err(|error| anyhow!("{error}"))?;
    Ok(all
        .into_iter()
        .filter(|document| document["kind"] == operator_api::KIND)
        .collect())
}

/// Shows what a file would change.
pub(crate) async fn diff(file: &Path, registry: &str) -> Result<(), Failure> {
    diff_inner(file, registry).await.map_err(Failure::failed)
}

async fn diff_inner(file: &Path, registry: &str) -> anyhow::Result<()> {
    let documents = documents(&read(file)?)?;
    let [document] = documents.as_slice() else {
        bail!(
            "{}: {} pipelines are in it; diff takes one",
            file.display(),
            documents.len()
        );
    };
    let client = Client::try_default().await.context("find the cluster")?;
    let faults = |faults: Vec<operator_api::Fault>| {
        anyhow!(
            faults
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join("\n")
        )
    };
    let mut pipeline = operator_api::check(document).map_err(faults)?;
    let namespace = pipeline
        .namespace()
        .unwrap_or_else(|| client.default_namespace().to_owned());
    let name = pipeline.name_any();
    pipeline.metadata.namespace = Some(namespace.clone());
    let api: Api<Ja4Pipeline> = Api::namespaced(client.clone(), &namespace);
    if let Some(live) = api.get_opt(&name).await.context("read the pipeline")? {
        operator_api::check_update(document, &serde_json::to_value(&live)?).map_err(faults)?;
        pipeline.metadata.uid = live.metadata.uid;
        pipeline.status = live.status;
    }
    let mut facts = facts(ALL_APIS);
    registry.clone_into(&mut facts.registry);
    let valid = resolve(&pipeline, &facts)?;
    let attempt = pipeline
        .status
        .as_ref()
        .and_then(|status| status.schema.as_ref())
        .map_or(0, |schema| schema.attempt);
    let retry = pipeline
        .annotations()
        .get(labels::RETRY)
        .cloned()
        .unwrap_or_default();
    let wanted = desired(
        &valid,
        &Observed {
            schema_attempt: attempt,
            retry,
        },
    );
    let mut out = std::io::stdout().lock();
    let mut n = 0;
    for object in &wanted {
        let Some(kind) = Kind::of(object.api_version(), object.kind()) else {
            continue;
        };
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), &namespace, &kind.resource());
        let live = match api.get_opt(object.name()).await {
            Ok(live) => live,
            // A kind that the cluster does not have: the operator passes over it too.
            Err(kube::Error::Api(status)) if status.code == 404 => continue,
            Err(error) => {
                return Err(error).with_context(|| format!("read {} {}", object.kind(), object.name()));
            }
        };
        match live {
            None => writeln!(out, "create {} {}", object.kind(), object.name())?,
            Some(live) => {
                let live = serde_json::to_value(&live)?;
                if kind.name == "Job" || covers(&live, &without_head(&object.object)) {
                    continue;
                }
                let mut paths = Vec::new();
                lacks(&live, &without_head(&object.object), "", &mut paths);
                paths.retain(|path| !path.contains(labels::APPLIED_HASH));
                if paths.is_empty() {
                    continue;
                }
                writeln!(
                    out,
                    "change {} {}: {}",
                    object.kind(),
                    object.name(),
                    paths.join(", ")
                )?;
            }
        }
        n += 1;
    }
    if n == 0 {
        writeln!(out, "nothing would change")?;
    }
    Ok(())
}

fn without_head(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(fields) = object.as_object_mut() {
        fields.remove("apiVersion");
        fields.remove("kind");
    }
    if let Some(metadata) = object["metadata"].as_object_mut() {
        // The registry of images is the operator's own setting, so hashes differ.
        metadata.remove("annotations");
        metadata.remove("ownerReferences");
    }
    object
}

/// Paths of what is wanted and not there.
fn lacks(live: &Value, wanted: &Value, path: &str, into: &mut Vec<String>) {
    if covers(live, wanted) {
        return;
    }
    match (live, wanted) {
        (Value::Object(live), Value::Object(wanted)) => {
            for (key, wanted) in wanted {
                let path = if path.is_empty() {
                    key.clone()
                } else {
                    format!("{path}.{key}")
                };
                lacks(live.get(key).unwrap_or(&Value::Null), wanted, &path, into);
            }
        }
        (Value::Array(live), Value::Array(wanted)) if live.len() == wanted.len() => {
            for (i, (live, wanted)) in live.iter().zip(wanted).enumerate() {
                lacks(live, wanted, &format!("{path}[{i}]"), into);
            }
        }
        _ => into.push(path.to_owned()),
    }
}

/// Shows conditions, worst first.
pub(crate) async fn status(namespace: Option<&str>, name: Option<&str>) -> Result<(), Failure> {
    status_inner(namespace, name).await.map_err(Failure::failed)
}

async fn status_inner(namespace: Option<&str>, name: Option<&str>) -> anyhow::Result<()> {
    let client = Client::try_default().await.context("find the cluster")?;
    let namespace = namespace.unwrap_or_else(|| client.default_namespace()).to_owned();
    let api: Api<Ja4Pipeline> = Api::namespaced(client, &namespace);
    let pipelines = match name {
        Some(name) => vec![
            api.get(name)
                .await
                .with_context(|| format!("read pipeline {namespace}/{name}"))?,
        ],
        None => {
            api.list(&ListParams::default())
                .await
                .context("list pipelines")?
                .items
        }
    };
    let mut out = std::io::stdout().lock();
    if pipelines.is_empty() {
        writeln!(out, "no pipeline in namespace {namespace}")?;
    }
    for pipeline in pipelines {
        write!(out, "{}", page(&pipeline))?;
    }
    Ok(())
}

/// One pipeline's state as text.
fn page(pipeline: &Ja4Pipeline) -> String {
    use std::fmt::Write as _;
    let mut text = String::new();
    let status = pipeline.status.clone().unwrap_or_default();
    let generation = pipeline.metadata.generation.unwrap_or(0);
    // A String takes everything.
    let mut line = |words: std::fmt::Arguments<'_>| writeln!(text, "{words}").unwrap_or(());
    line(format_args!(
        "{}/{}, release {}",
        pipeline.namespace().unwrap_or_default(),
        pipeline.name_any(),
        status
            .version
            .as_ref()
            .map_or("unknown", |version| version.as_str())
    ));
    if status.observed_generation < generation {
        line(format_args!(
            "  the operator has not seen generation {generation} yet (it is at {})",
            status.observed_generation
        ));
    }
    for condition in &status.conditions {
        line(format_args!(
            "  {:<18} {:<8} {:<22} {}",
            condition.type_, condition.status, condition.reason, condition.message
        ));
    }
    if let Some(sensors) = &status.sensors {
        line(format_args!(
            "  sensors {}, dropping: {}",
            sensors.summary, sensors.dropping
        ));
        for node in &sensors.uncovered {
            line(format_args!("    {node}"));
        }
    }
    if let Some(correlator) = &status.correlator {
        line(format_args!(
            "  join rate: {}, store: {}",
            correlator.join_rate, correlator.store
        ));
    }
    for detector in &status.detectors {
        line(format_args!(
            "  detector {}: {}, {} clients, {} flagged, last success {}",
            detector.name,
            detector
                .failure
                .as_deref()
                .or(detector.state.as_deref())
                .unwrap_or("no cycle yet"),
            detector.clients.unwrap_or(0),
            detector.flagged.unwrap_or(0),
            detector
                .last_success
                .as_ref()
                .map_or_else(|| "never".to_owned(), |time| time.0.to_string())
        ));
    }
    if let Some(planned) = &status.planned_changes {
        line(format_args!("  waits for approval of {}:", planned.hash));
        for change in &planned.changes {
            line(format_args!("    {change}"));
        }
        if planned.more > 0 {
            line(format_args!("    and {} more", planned.more));
        }
    }
    if let Some(dashboard) = &status.dashboard {
        line(format_args!("  dashboard: {dashboard}"));
    }
    text
}

/// Writes a support bundle.
pub(crate) async fn support_bundle(namespace: &str, name: &str, out: &Path) -> Result<(), Failure> {
    support_bundle_inner(namespace, name, out)
        .await
        .map_err(Failure::failed)
}

async fn support_bundle_inner(namespace: &str, name: &str, out: &Path) -> anyhow::Result<()> {
    let client = Client::try_default().await.context("find the cluster")?;
    let api: Api<Ja4Pipeline> = Api::namespaced(client.clone(), namespace);
    let pipeline = api
        .get(name)
        .await
        .with_context(|| format!("read pipeline {namespace}/{name}"))?;
    let selector = ListParams::default().labels(&format!("{}={name}", labels::PIPELINE));
    let mut bundle = json!({
        "made_by": format!("ja4-operator {}", env!("CARGO_PKG_VERSION")),
        "pipeline": pipeline,
    });
    for kind in KINDS {
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &kind.resource());
        match api.list(&selector).await {
            Ok(found) => {
                let objects: Vec<Value> = found
                    .items
                    .into_iter()
                    .filter_map(|object| serde_json::to_value(object).ok())
                    .map(redacted)
                    .collect();
                bundle["objects"][kind.plural] = json!(objects);
            }
            // Not there, or not allowed: what could be had is worth having.
            Err(error) => bundle["objects"][kind.plural] = json!(error.to_string()),
        }
    }
    let events: Api<Event> = Api::namespaced(client.clone(), namespace);
    bundle["events"] = match events.list(&ListParams::default()).await {
        Ok(found) => json!(found.items),
        Err(error) => json!(error.to_string()),
    };
    let pods: Api<Pod> = Api::namespaced(client, namespace);
    let found = pods.list(&selector).await.context("list pods")?;
    for pod in found.items {
        let pod_name = pod.name_any();
        for container in pod.spec.iter().flat_map(|spec| &spec.containers) {
            for previous in [false, true] {
                let params = LogParams {
                    container: Some(container.name.clone()),
                    previous,
                    tail_lines: Some(LOG_LINES),
                    ..LogParams::default()
                };
                if let Ok(log) = pods.logs(&pod_name, &params).await {
                    let key = format!(
                        "{pod_name}/{}{}",
                        container.name,
                        if previous { "/previous" } else { "" }
                    );
                    bundle["logs"][key] = json!(log.lines().collect::<Vec<_>>());
                }
            }
        }
    }
    let text = serde_json::to_string_pretty(&bundle)?;
    std::fs::write(out, text).with_context(|| format!("write {}", out.display()))?;
    writeln!(
        std::io::stdout(),
        "wrote {}; it holds no Secret, but names of nodes, hosts and images: look before you send it",
        out.display()
    )?;
    Ok(())
}

/// Without what may hold a secret: values of environment variables, and what kubectl keeps of earlier versions.
fn redacted(mut object: Value) -> Value {
    fn walk(value: &mut Value) {
        match value {
            Value::Object(fields) => {
                fields.remove("kubectl.kubernetes.io/last-applied-configuration");
                fields.remove("managedFields");
                if let Some(Value::Array(variables)) = fields.get_mut("env") {
                    for variable in variables {
                        if variable["value"].is_string() {
                            variable["value"] = json!("(left out)");
                        }
                    }
                }
                fields.values_mut().for_each(walk);
            }
            Value::Array(items) => items.iter_mut().for_each(walk),
            _ => {}
        }
    }
    walk(&mut object);
    object
}

/// Checks an installation: the resource is there, and a pipeline would be taken.
pub(crate) async fn check_install() -> Result<(), Failure> {
    check_install_inner().await.map_err(Failure::failed)
}

async fn check_install_inner() -> anyhow::Result<()> {
    let client = Client::try_default().await.context("find the cluster")?;
    let namespace = client.default_namespace().to_owned();
    let api: Api<Ja4Pipeline> = Api::namespaced(client, &namespace);
    let sample = json!({
        "apiVersion": format!("{}/{}", operator_api::GROUP, operator_api::VERSION),
        "kind": operator_api::KIND,
        "metadata": {"name": "check-install", "namespace": namespace},
        "spec": {"store": {"embedded": {}}},
    });
    let params = PatchParams::apply("ja4-operator-check").dry_run();
    let made = api
        .patch("check-install", &params, &Patch::Apply(&sample))
        .await
        .context("the cluster takes no Ja4Pipeline; install the chart ja4-platform")?;
    let observed = made.status.map_or(-1, |status| status.observed_generation);
    if observed != -1 {
        bail!(
            "the definition of Ja4Pipeline is not the one of this release: a new resource says observedGeneration {observed}"
        );
    }
    writeln!(
        std::io::stdout(),
        "the cluster takes a Ja4Pipeline; {} is what to wait for",
        types::READY
    )?;
    Ok(())
}
