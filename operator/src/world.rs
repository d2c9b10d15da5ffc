//! What the operator knows of the cluster without asking: every child and pod, kept by watches.
//!
//! A pass over a pipeline reads here and sends nothing when nothing has to change. What it sends comes back into the cache at once,
//! so that the next pass does not act on what was before. One map, by pipeline; a watch that begins anew replaces what it knew.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use futures_util::StreamExt as _;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use kube::Api;
use kube::api::DynamicObject;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event};
use operator_api::labels;
use serde_json::Value;
use tokio::sync::mpsc::UnboundedSender;

use crate::kinds::Kind;
use crate::metrics::Metrics;

/// A pipeline's namespace and name.
pub(crate) type Key = (String, String);

/// An object as it is in the cluster.
#[derive(Debug, Clone)]
pub(crate) struct Child {
    pub(crate) kind: Kind,
    /// Without what others manage of it in detail.
    pub(crate) object: Value,
    /// Fields that are managed by others than the operator and the cluster's own controllers.
    pub(crate) foreign: Vec<String>,
}

impl Child {
    fn new(kind: Kind, mut object: DynamicObject) -> Self {
        let foreign = foreign_fields(
            object
                .metadata
                .managed_fields
                .take()
                .as_deref()
                .unwrap_or_default(),
        );
        let mut object = serde_json::to_value(&object).unwrap_or(Value::Null);
        object["apiVersion"] = Value::from(kind.api_version());
        object["kind"] = Value::from(kind.name);
        if kind.name == "ControllerRevision" {
            // A whole set of objects, which is fetched when it is needed.
            object["data"] = Value::Null;
        }
        Self {
            kind,
            object,
            foreign,
        }
    }

    pub(crate) fn name(&self) -> &str {
        self.object["metadata"]["name"].as_str().unwrap_or_default()
    }

    pub(crate) fn uid(&self) -> &str {
        self.object["metadata"]["uid"].as_str().unwrap_or_default()
    }

    pub(crate) fn is_going(&self) -> bool {
        self.object["metadata"]["deletionTimestamp"].is_string()
    }

    /// Uid of the owner that controls it.
    pub(crate) fn controller(&self) -> Option<&str> {
        let owners = self.object["metadata"]["ownerReferences"].as_array()?;
        owners.iter().find(|owner| owner["controller"] == true)?["uid"].as_str()
    }

    pub(crate) fn label(&self, name: &str) -> Option<&str> {
        self.object["metadata"]["labels"][name].as_str()
    }

    pub(crate) fn annotation(&self, name: &str) -> Option<&str> {
        self.object["metadata"]["annotations"][name].as_str()
    }

    /// The pipeline that it belongs to.
    fn pipeline(&self) -> Option<Key> {
        let namespace = self.object["metadata"]["namespace"].as_str()?;
        Some((namespace.to_owned(), self.label(labels::PIPELINE)?.to_owned()))
    }
}

/// Managers of fields that are the cluster's own or ours.
const KNOWN_MANAGERS: [&str; 4] = [
    labels::OPERATOR,
    "kube-controller-manager",
    "kubelet",
    "kube-scheduler",
];
/// What the cluster's own controllers write, whatever name they go by.
const KNOWN_FIELDS: [&str; 7] = [
    "kubectl.kubernetes.io/",
    "deployment.kubernetes.io/",
    "deprecated.daemonset.",
    "pv.kubernetes.io/",
    "volume.kubernetes.io/",
    "volume.beta.kubernetes.io/",
    "spec.volumeName",
];

/// `kubectl-edit: spec.replicas`, for each field that somebody else manages; three of a manager at most.
fn foreign_fields(entries: &[ManagedFieldsEntry]) -> Vec<String> {
    let mut found = Vec::new();
    for entry in entries {
        let manager = entry.manager.as_deref().unwrap_or("unknown");
        if KNOWN_MANAGERS.contains(&manager) || entry.subresource.as_deref() == Some("status") {
            continue;
        }
        let mut paths = Vec::new();
        if let Some(fields) = &entry.fields_v1 {
            leaves(&fields.0, "", &mut paths);
        }
        paths.retain(|path| !KNOWN_FIELDS.iter().any(|known| path.contains(known)));
        found.extend(paths.into_iter().take(3).map(|path| format!("{manager}: {path}")));
    }
    found
}

fn leaves(fields: &Value, path: &str, into: &mut Vec<String>) {
    let Some(fields) = fields.as_object() else { return };
    for (key, below) in fields {
        let Some(name) = key.strip_prefix("f:").or_else(|| key.strip_prefix("k:")) else {
            continue;
        };
        let path = if path.is_empty() {
            name.to_owned()
        } else {
            format!("{path}.{name}")
        };
        if below
            .as_object()
            .is_none_or(|below| below.keys().all(|key| key == "."))
        {
            into.push(path);
        } else {
            leaves(below, &path, into);
        }
    }
}

type Name = (Kind, String);

#[derive(Default)]
struct Inner {
    children: BTreeMap<Key, BTreeMap<Name, Arc<Child>>>,
    /// Watches that have seen everything once.
    synced: BTreeSet<(Kind, Option<String>)>,
    expected: BTreeSet<(Kind, Option<String>)>,
}

/// The cache, and whom to tell of changes.
pub(crate) struct World {
    inner: Mutex<Inner>,
    changed: UnboundedSender<Key>,
    metrics: Arc<Metrics>,
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("World")
    }
}

impl World {
    pub(crate) fn new(changed: UnboundedSender<Key>, metrics: Arc<Metrics>) -> Self {
        Self {
            inner: Mutex::default(),
            changed,
            metrics,
        }
    }

    /// Whoever panicked left a whole map: each change is one call.
    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All objects of a pipeline.
    pub(crate) fn of(&self, key: &Key) -> Vec<Arc<Child>> {
        self.lock()
            .children
            .get(key)
            .map(|children| children.values().cloned().collect())
            .unwrap_or_default()
    }

    /// Puts what the API server answered into the cache, unless it knows a newer one.
    pub(crate) fn note(&self, kind: Kind, object: DynamicObject) {
        self.put(Child::new(kind, object));
    }

    /// Forgets what was deleted.
    pub(crate) fn forget(&self, key: &Key, kind: Kind, name: &str) {
        if let Some(children) = self.lock().children.get_mut(key) {
            children.remove(&(kind, name.to_owned()));
        }
    }

    /// True when every watch has seen everything once.
    pub(crate) fn is_synced(&self) -> bool {
        let inner = self.lock();
        !inner.expected.is_empty() && inner.expected.is_subset(&inner.synced)
    }

    /// Objects in the cache.
    pub(crate) fn n_objects(&self) -> usize {
        self.lock().children.values().map(BTreeMap::len).sum()
    }

    fn put(&self, child: Child) -> bool {
        let Some(key) = child.pipeline() else { return false };
        let name = (child.kind, child.name().to_owned());
        let mut inner = self.lock();
        let children = inner.children.entry(key).or_default();
        if let Some(known) = children.get(&name)
            && is_newer(known, &child)
        {
            return false;
        }
        children.insert(name, Arc::new(child));
        true
    }

    fn tell(&self, child: &Child) {
        if let Some(key) = child.pipeline() {
            // Nobody listens any more when the process ends.
            drop(self.changed.send(key));
        }
    }

    /// Counts a watch that is about to begin among those that must have seen everything.
    pub(crate) fn expect(&self, kind: Kind, scope: Option<String>) {
        self.lock().expected.insert((kind, scope));
    }

    /// Keeps objects of a kind up to date until the process ends. `scope` is a namespace, or nothing for all.
    pub(crate) async fn watch(self: Arc<Self>, client: kube::Client, kind: Kind, scope: Option<String>) {
        let resource = kind.resource();
        let api: Api<DynamicObject> = match &scope {
            Some(namespace) => Api::namespaced_with(client, namespace, &resource),
            None => Api::all_with(client, &resource),
        };
        let config = watcher::Config::default().labels(labels::PIPELINE);
        let mut events = watcher::watcher(api, config).default_backoff().boxed();
        let mut seen: BTreeSet<(Key, String)> = BTreeSet::new();
        let mut was_failing = false;
        while let Some(event) = events.next().await {
            match event {
                Ok(event) => {
                    was_failing = false;
                    self.metrics.watched(kind.name, SystemTime::now());
                    self.take(event, kind, scope.as_ref(), &mut seen);
                }
                Err(error) => {
                    self.metrics.watch_failed(kind.name);
                    // Once; the watcher tries again by itself with back-off.
                    if !was_failing {
                        tracing::warn!(kind = kind.name, error = %ja4_common::exit::chain(&error), "a watch of {}s fails and is tried again", kind.name);
                    }
                    was_failing = true;
                }
            }
        }
    }

    fn take(
        &self,
        event: Event<DynamicObject>,
        kind: Kind,
        scope: Option<&String>,
        seen: &mut BTreeSet<(Key, String)>,
    ) {
        match event {
            Event::Init => seen.clear(),
            Event::InitApply(object) => {
                let child = Child::new(kind, object);
                if let Some(key) = child.pipeline() {
                    seen.insert((key, child.name().to_owned()));
                }
                self.tell(&child);
                self.put(child);
            }
            Event::InitDone => {
                let mut gone = Vec::new();
                {
                    let mut inner = self.lock();
                    for (key, children) in &mut inner.children {
                        if scope.is_some_and(|scope| *scope != key.0) {
                            continue;
                        }
                        let before = children.len();
                        children.retain(|(other, name), _| {
                            *other != kind || seen.contains(&(key.clone(), name.clone()))
                        });
                        if children.len() != before {
                            gone.push(key.clone());
                        }
                    }
                    inner.synced.insert((kind, scope.cloned()));
                }
                for key in gone {
                    drop(self.changed.send(key));
                }
                seen.clear();
            }
            Event::Apply(object) => {
                let child = Child::new(kind, object);
                self.tell(&child);
                self.put(child);
            }
            Event::Delete(object) => {
                let child = Child::new(kind, object);
                if let Some(key) = child.pipeline() {
                    let name = (kind, child.name().to_owned());
                    let mut inner = self.lock();
                    if let Some(children) = inner.children.get_mut(&key) {
                        children.remove(&name);
                    }
                }
                self.tell(&child);
            }
        }
    }
}

/// True if what is known has a higher version of the same object. Versions are numbers where they can be compared at all.
fn is_newer(known: &Child, other: &Child) -> bool {
    let version = |child: &Child| {
        child.object["metadata"]["resourceVersion"]
            .as_str()?
            .parse::<u64>()
            .ok()
    };
    known.uid() == other.uid()
        && matches!((version(known), version(other)), (Some(known), Some(other)) if known > other)
}
