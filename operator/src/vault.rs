//! The Secrets that the operator makes, kept by a watch in each namespace that has a pipeline.
//!
//! The operator has rights on Secrets only where a Role says so, so there is no watch over all namespaces. Only Secrets with the label of
//! a pipeline are asked for: nobody else's content comes here.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::StreamExt as _;
use k8s_openapi::api::core::v1::Secret;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, ResourceExt as _};
use operator_api::labels;
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::AbortHandle;

use crate::pki::{Data, Stored};
use crate::world::Key;

/// What is known of the Secrets of a namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Known {
    /// Nothing yet.
    NotYet,
    /// The operator may not read them; the API server's words.
    Forbidden(String),
    /// All of a pipeline's, by name.
    All(BTreeMap<String, Stored>),
}

#[derive(Default)]
struct Room {
    secrets: BTreeMap<Key, BTreeMap<String, Stored>>,
    is_synced: bool,
    forbidden: Option<String>,
    task: Option<AbortHandle>,
}

/// The cache of all namespaces.
pub(crate) struct Vault {
    rooms: Mutex<BTreeMap<String, Room>>,
    client: Client,
    changed: UnboundedSender<Key>,
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Vault")
    }
}

impl Vault {
    pub(crate) fn new(client: Client, changed: UnboundedSender<Key>) -> Self {
        Self {
            rooms: Mutex::default(),
            client,
            changed,
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Room>> {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A pipeline's Secrets. The first question for a namespace starts its watch.
    pub(crate) fn of(self: &Arc<Self>, key: &Key) -> Known {
        let mut rooms = self.lock();
        let room = rooms.entry(key.0.clone()).or_default();
        if room.task.is_none() {
            let task = tokio::spawn(Arc::clone(self).watch(key.0.clone()));
            room.task = Some(task.abort_handle());
        }
        match &room.forbidden {
            Some(words) => Known::Forbidden(words.clone()),
            None if !room.is_synced => Known::NotYet,
            None => Known::All(room.secrets.get(key).cloned().unwrap_or_default()),
        }
    }

    /// Ends the watch of a namespace that has no pipeline any more.
    pub(crate) fn leave(&self, namespace: &str) {
        if let Some(room) = self.lock().remove(namespace)
            && let Some(task) = room.task
        {
            task.abort();
        }
    }

    /// Puts what was written into the cache.
    pub(crate) fn note(&self, key: &Key, name: &str, stored: Stored) {
        if let Some(room) = self.lock().get_mut(&key.0) {
            room.secrets
                .entry(key.clone())
                .or_default()
                .insert(name.to_owned(), stored);
        }
    }

    async fn watch(self: Arc<Self>, namespace: String) {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &namespace);
        let config = watcher::Config::default().labels(labels::PIPELINE);
        let mut events = watcher::watcher(api, config).default_backoff().boxed();
        let mut fresh: BTreeMap<Key, BTreeMap<String, Stored>> = BTreeMap::new();
        while let Some(event) = events.next().await {
            let mut told = Vec::new();
            {
                let mut rooms = self.lock();
                let Some(room) = rooms.get_mut(&namespace) else {
                    return;
                };
                match event {
                    Ok(Event::Init) => fresh.clear(),
                    Ok(Event::InitApply(secret)) => {
                        if let Some((key, name, stored)) = read(secret) {
                            fresh.entry(key).or_default().insert(name, stored);
                        }
                    }
                    Ok(Event::InitDone) => {
                        told.extend(room.secrets.keys().chain(fresh.keys()).cloned());
                        room.secrets = std::mem::take(&mut fresh);
                        room.is_synced = true;
                        room.forbidden = None;
                        // Whoever waited for it, with Secrets or without.
                        told.push((namespace.clone(), String::new()));
                    }
                    Ok(Event::Apply(secret)) => {
                        if let Some((key, name, stored)) = read(secret) {
                            room.secrets.entry(key.clone()).or_default().insert(name, stored);
                            told.push(key);
                        }
                    }
                    Ok(Event::Delete(secret)) => {
                        if let Some((key, name, _)) = read(secret) {
                            if let Some(secrets) = room.secrets.get_mut(&key) {
                                secrets.remove(&name);
                            }
                            told.push(key);
                        }
                    }
                    Err(error) => {
                        let words = ja4_common::exit::chain(&error);
                        if words.contains("forbidden") && room.forbidden.is_none() {
                            room.forbidden = Some(words);
                            told.push((namespace.clone(), String::new()));
                        }
                    }
                }
            }
            for key in told {
                // Nobody listens any more when the process ends.
                drop(self.changed.send(key));
            }
        }
    }
}

fn read(secret: Secret) -> Option<(Key, String, Stored)> {
    let key = (
        secret.namespace()?,
        secret.labels().get(labels::PIPELINE)?.clone(),
    );
    let name = secret.name_any();
    let annotations = secret.annotations().clone();
    let data = secret
        .data
        .unwrap_or_default()
        .into_iter()
        .map(|(key, bytes)| (key, bytes.0))
        .collect();
    Some((
        key,
        name,
        Stored {
            data: Data(data),
            annotations,
        },
    ))
}
