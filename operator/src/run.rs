//! `ja4-operator run`: caches, election, passes, admin endpoint, and the order in which they end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use futures_util::{StreamExt as _, pin_mut};
use ja4_common::admin::{self, Admin, AdminListen};
use ja4_common::ledger::Ledger;
use kube::runtime::controller::{Action, Config as Concurrency, applier};
use kube::runtime::events::{Recorder, Reporter};
use kube::runtime::reflector::{self, ObjectRef};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, ResourceExt as _};
use operator_api::Ja4Pipeline;
use operator_manifests::Apis;
use tokio::sync::{mpsc, watch};

use crate::apply::Sender;
use crate::context::Context;
use crate::election::{self, Candidate, Term};
use crate::kinds::KINDS;
use crate::metrics::Metrics;
use crate::reconcile::{ReconcileError, reconcile};
use crate::told::Reports;
use crate::vault::Vault;
use crate::world::{Key, World};

/// Passes at once.
const CONCURRENCY: u16 = 8;
/// Name of the lease.
const LEASE: &str = "ja4-operator";
/// First and longest pause after a pass that failed.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(1));
/// How long passes that are under way may take when the process is asked to end.
const DRAIN: Duration = Duration::from_secs(5);

/// What `run` is given.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct RunOptions {
    /// Namespaces to look after; none for the whole cluster.
    #[arg(
        long,
        env = "JA4_OPERATOR_NAMESPACES",
        value_delimiter = ',',
        value_name = "NAME"
    )]
    namespaces: Vec<String>,
    /// Registry and path of the pipelines' images, where their specs name none.
    #[arg(
        long,
        env = "JA4_OPERATOR_IMAGE_REGISTRY",
        default_value = "localhost",
        value_name = "REGISTRY"
    )]
    image_registry: String,
    /// What is written before docs/runbooks/ in the addresses of alerts; none for the bare path.
    #[arg(
        long,
        env = "JA4_OPERATOR_RUNBOOK_BASE",
        default_value = "",
        value_name = "URL"
    )]
    runbook_base: String,
    /// Address for health and metrics.
    #[arg(
        long,
        env = "JA4_OPERATOR_ADMIN",
        default_value = "0.0.0.0:8080",
        value_name = "ADDRESS"
    )]
    admin: AdminListen,
    /// Name of this process in the election; default: the host's name.
    #[arg(long, env = "POD_NAME", value_name = "NAME", hide_env_values = true)]
    identity: Option<String>,
    /// Namespace of the operator itself, where its lease is.
    #[arg(
        long,
        env = "POD_NAMESPACE",
        default_value = "ja4-system",
        value_name = "NAME"
    )]
    own_namespace: String,
}

/// Runs until SIGTERM.
pub(crate) async fn run(options: RunOptions) -> anyhow::Result<()> {
    let client = Client::try_default().await.context("find the API server")?;
    let registry = prometheus::Registry::new();
    let metrics = Arc::new(Metrics::register(&registry).context("register metrics")?);
    let admin = Admin::new(registry, &["caches"], Ledger::default);
    let _server =
        admin::Server::start(&options.admin, Arc::clone(&admin)).context("start the admin endpoint")?;
    let apis = discover(&client).await;
    tracing::info!(
        monitoring = apis.monitoring,
        gateway = apis.gateway,
        "ja4-operator {} looks after {}",
        env!("CARGO_PKG_VERSION"),
        if options.namespaces.is_empty() {
            "the whole cluster".to_owned()
        } else {
            options.namespaces.join(", ")
        }
    );

    let (changed, mut changes) = mpsc::unbounded_channel::<Key>();
    let world = Arc::new(World::new(changed.clone(), Arc::clone(&metrics)));
    let scopes: Vec<Option<String>> = if options.namespaces.is_empty() {
        vec![None]
    } else {
        options.namespaces.iter().cloned().map(Some).collect()
    };
    for scope in &scopes {
        for kind in KINDS.into_iter().filter(|kind| kind.is_served(apis)) {
            world.expect(kind, scope.clone());
            tokio::spawn(Arc::clone(&world).watch(client.clone(), kind, scope.clone()));
        }
    }

    let term = Term::default();
    let (leader, leads) = watch::channel(false);
    let mut stores = Vec::new();
    let mut queues = BTreeMap::new();
    let mut receivers = Vec::new();
    for scope in &scopes {
        let (store, writer) = reflector::store::<Ja4Pipeline>();
        let (queue, receiver) = mpsc::unbounded_channel::<ObjectRef<Ja4Pipeline>>();
        let api = match scope {
            Some(namespace) => Api::<Ja4Pipeline>::namespaced(client.clone(), namespace),
            None => Api::all(client.clone()),
        };
        tokio::spawn(watch_pipelines(
            api,
            writer,
            changed.clone(),
            Arc::clone(&metrics),
        ));
        stores.push(store.clone());
        queues.insert(scope.clone(), queue);
        receivers.push((store, receiver));
    }
    let reporter = Reporter {
        controller: "ja4platform.io/operator".to_owned(),
        instance: options.identity.clone(),
    };
    let ctx = Arc::new(Context {
        sender: Sender {
            client: client.clone(),
            world: Arc::clone(&world),
            metrics: Arc::clone(&metrics),
            term: term.clone(),
        },
        vault: Arc::new(Vault::new(client.clone(), changed.clone())),
        reports: Arc::new(Reports::default()),
        recorder: Recorder::new(client.clone(), reporter),
        world: Arc::clone(&world),
        metrics: Arc::clone(&metrics),
        term: term.clone(),
        apis,
        registry: options.image_registry.clone(),
        runbook_base: options.runbook_base.clone(),
        pipelines: stores.clone(),
        memories: std::sync::Mutex::default(),
        client: client.clone(),
    });

    // Ready: everything was seen once. A follower is ready too, it could lead at once.
    for store in &stores {
        store.wait_until_ready().await.context("see the pipelines")?;
    }
    while !world.is_synced() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    admin.set_ready("caches");
    tracing::info!(objects = world.n_objects(), "caches are filled");

    let identity = options.identity.clone().unwrap_or_else(host_name);
    let (stop_election, election_stopped) = tokio::sync::oneshot::channel::<()>();
    let election = tokio::spawn(election::run(
        client.clone(),
        Candidate {
            namespace: options.own_namespace.clone(),
            lease: LEASE.to_owned(),
            identity,
        },
        leader,
        term,
        async move {
            // A sender that is dropped ends it too.
            drop(election_stopped.await);
        },
    ));

    let dispatcher = {
        let ctx = Arc::clone(&ctx);
        let mut leads = leads.clone();
        async move {
            loop {
                tokio::select! {
                    key = changes.recv() => match key {
                        Some((namespace, name)) if name.is_empty() => {
                            for pipeline in ctx.all_pipelines().iter().filter(|pipeline| pipeline.namespace().as_ref() == Some(&namespace)) {
                                enqueue(&queues, &namespace, &pipeline.name_any());
                            }
                        }
                        Some((namespace, name)) => {
                            if !ctx.all_pipelines().iter().any(|other| other.namespace().as_ref() == Some(&namespace) && other.name_any() == name) {
                                ctx.forget(&(namespace.clone(), name.clone()));
                            }
                            enqueue(&queues, &namespace, &name);
                        }
                        None => return,
                    },
                    changed = leads.changed() => {
                        if changed.is_err() {
                            return;
                        }
                        let is_leader = *leads.borrow_and_update();
                        ctx.metrics.set_leader(is_leader);
                        tracing::info!(leader = is_leader, "this process {}", if is_leader { "leads" } else { "follows" });
                        if is_leader {
                            for pipeline in ctx.all_pipelines() {
                                enqueue(&queues, &pipeline.namespace().unwrap_or_default(), &pipeline.name_any());
                            }
                        } else {
                            ctx.forget_all();
                        }
                    }
                }
            }
        }
    };
    let reports = crate::poll::poll(Arc::clone(&ctx), leads.clone(), changed.clone());

    let mut appliers = Vec::new();
    for (store, receiver) in receivers {
        appliers.push(tokio::spawn(passes(Arc::clone(&ctx), store, receiver)));
    }
    let dispatcher = tokio::spawn(dispatcher);
    let reports = tokio::spawn(reports);

    terminated().await?;
    tracing::info!("asked to end");
    // No pass begins any more; those under way may end.
    dispatcher.abort();
    reports.abort();
    tokio::time::sleep(Duration::ZERO).await;
    for applier in &mut appliers {
        if tokio::time::timeout(DRAIN, &mut *applier).await.is_err() {
            applier.abort();
        }
    }
    drop(stop_election);
    if tokio::time::timeout(DRAIN, election).await.is_err() {
        tracing::warn!("the lease could not be released in time; the next leader waits until it ends");
    }
    Ok(())
}

fn enqueue(
    queues: &BTreeMap<Option<String>, mpsc::UnboundedSender<ObjectRef<Ja4Pipeline>>>,
    namespace: &str,
    name: &str,
) {
    let queue = queues
        .get(&Some(namespace.to_owned()))
        .or_else(|| queues.get(&None));
    if let Some(queue) = queue {
        // Nobody listens any more when the process ends.
        drop(queue.send(ObjectRef::new(name).within(namespace)));
    }
}

/// Passes over the pipelines of a scope until its queue is closed.
async fn passes(
    ctx: Arc<Context>,
    store: reflector::Store<Ja4Pipeline>,
    receiver: mpsc::UnboundedReceiver<ObjectRef<Ja4Pipeline>>,
) {
    let queue = futures_util::stream::unfold(receiver, async |mut receiver| {
        receiver
            .recv()
            .await
            .map(|reference| (Ok::<_, std::convert::Infallible>(reference), receiver))
    });
    let passes = applier(
        |pipeline, ctx| Box::pin(reconcile(pipeline, ctx)),
        |pipeline: Arc<Ja4Pipeline>, error: &ReconcileError, ctx: Arc<Context>| {
            let key = (pipeline.namespace().unwrap_or_default(), pipeline.name_any());
            let pause = ctx.memory(&key, |memory| {
                memory.failures.pause(pipeline.metadata.generation, RETRY)
            });
            tracing::warn!(
                pipeline.namespace = key.0, pipeline.name = key.1, error = %ja4_common::exit::chain(error),
                "a pass over {}/{} failed and is tried again in {} s", key.0, key.1, pause.as_secs()
            );
            Action::requeue(pause)
        },
        Arc::clone(&ctx),
        store,
        Box::pin(queue),
        Concurrency::default().concurrency(CONCURRENCY),
    );
    pin_mut!(passes);
    while let Some(pass) = passes.next().await {
        if let Ok((reference, _)) = pass {
            let key = (reference.namespace.unwrap_or_default(), reference.name);
            ctx.memory(&key, |memory| memory.failures.clear());
        }
    }
}

/// Keeps the cache of pipelines. A change of the status alone, which is our own, begins no pass.
async fn watch_pipelines(
    api: Api<Ja4Pipeline>,
    writer: reflector::store::Writer<Ja4Pipeline>,
    changed: mpsc::UnboundedSender<Key>,
    metrics: Arc<Metrics>,
) {
    let events = watcher(api, watcher::Config::default())
        .default_backoff()
        .reflect(writer);
    pin_mut!(events);
    let mut known: BTreeMap<Key, Asked> = BTreeMap::new();
    let mut was_failing = false;
    while let Some(event) = events.next().await {
        let (pipeline, is_gone) = match event {
            Ok(watcher::Event::Apply(pipeline) | watcher::Event::InitApply(pipeline)) => (pipeline, false),
            Ok(watcher::Event::Delete(pipeline)) => (pipeline, true),
            Ok(watcher::Event::Init | watcher::Event::InitDone) => {
                // Those that were deleted meanwhile are found by who asks the cache.
                for key in known.keys() {
                    drop(changed.send(key.clone()));
                }
                continue;
            }
            Err(error) => {
                metrics.watch_failed("Ja4Pipeline");
                if !was_failing {
                    tracing::warn!(error = %ja4_common::exit::chain(&error), "the watch of pipelines fails and is tried again");
                }
                was_failing = true;
                continue;
            }
        };
        was_failing = false;
        metrics.watched("Ja4Pipeline", std::time::SystemTime::now());
        let key = (pipeline.namespace().unwrap_or_default(), pipeline.name_any());
        if is_gone {
            known.remove(&key);
            drop(changed.send(key));
            continue;
        }
        let now = (
            pipeline.metadata.generation,
            pipeline.metadata.annotations.clone(),
            pipeline.metadata.deletion_timestamp.is_some(),
        );
        if known.insert(key.clone(), now.clone()) != Some(now) {
            drop(changed.send(key));
        }
    }
}

/// What a pass depends on of a resource: generation, annotations, whether it is being deleted.
type Asked = (Option<i64>, Option<BTreeMap<String, String>>, bool);

/// What the cluster has beyond Kubernetes itself. Asks again until the API server answers.
async fn discover(client: &Client) -> Apis {
    let mut was_said = false;
    loop {
        match ask(client).await {
            Ok(apis) => return apis,
            Err(error) => {
                if !was_said {
                    tracing::warn!(error = %ja4_common::exit::chain(&error), "the API server does not answer and is asked again");
                }
                was_said = true;
                tokio::time::sleep(Duration::from_secs(2)).await;
            }
        }
    }
}

async fn ask(client: &Client) -> Result<Apis, kube::Error> {
    let groups = client.list_api_groups().await?;
    let mut apis = Apis::default();
    for (group, kinds, has) in [
        (
            "monitoring.coreos.com",
            &["PodMonitor", "PrometheusRule"][..],
            &mut apis.monitoring,
        ),
        ("gateway.networking.k8s.io", &["HTTPRoute"][..], &mut apis.gateway),
    ] {
        let is_there = groups
            .groups
            .iter()
            .any(|found| found.name == group && found.versions.iter().any(|found| found.version == "v1"));
        if is_there {
            let found = client.list_api_group_resources(&format!("{group}/v1")).await?;
            // A group may be there without one of its kinds.
            *has = kinds
                .iter()
                .all(|kind| found.resources.iter().any(|found| found.kind == *kind));
        }
    }
    Ok(apis)
}

fn host_name() -> String {
    std::fs::read_to_string("/etc/hostname")
        .map_or_else(|_| "ja4-operator".to_owned(), |name| name.trim().to_owned())
}

/// Ends with SIGTERM or ctrl-C.
async fn terminated() -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut term = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
    tokio::select! {
        _ = term.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
