//! `ja4-dashboard run`: puts the parts together and ends in order.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use ja4_common::admin::{self, Admin};
use ja4_common::exit::Failure;
use ja4_common::ledger::{self, Ledger, Stage};
use ja4_common::{Shutdown, logging};
use ja4_schema::Names;
use tokio::net::TcpListener;

use crate::audit::{self, AuditQueue};
use crate::auth::link;
use crate::auth::origin::Origins;
use crate::auth::passwords::Passwords;
use crate::auth::sessions::Sessions;
use crate::auth::throttle::Throttle;
use crate::config::DashboardConfig;
use crate::detector::Detector;
use crate::metrics::Metrics;
use crate::server;
use crate::state::{App, Cache, Parts};
use crate::store;
use crate::store::read::Reader;
use crate::store::write::Writer;

/// How often the store is looked at, for readiness.
const PROBE_EVERY: Duration = Duration::from_secs(2);

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// When it cannot begin; once it runs it goes on, whatever the store does.
pub(crate) fn run(config: &DashboardConfig) -> Result<(), Failure> {
    logging::init(&config.process.log).map_err(Failure::wrong_use)?;
    config.validate().map_err(Failure::wrong_use)?;
    let shutdown = Shutdown::install().map_err(Failure::failed)?;
    let registry = prometheus::Registry::new();
    let metrics = Metrics::register(&registry).map_err(Failure::failed)?;
    let counted = metrics.clone();
    let admin = Admin::new(registry, &["listen", "store"], move || counts(&counted));
    if let Some(listen) = &config.process.admin {
        admin::Server::start(listen, Arc::clone(&admin)).map_err(Failure::failed)?;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .thread_name("dashboard")
        .build()
        .map_err(Failure::failed)?;
    runtime.block_on(async {
        let (listener, app) = begin(config, metrics).await?;
        admin.set_ready("listen");
        if let Some(path) = &config.process.ledger_file {
            admin::write_ledger_each_second(path.clone(), Arc::clone(&admin), shutdown.clone())
                .map_err(Failure::failed)?;
        }
        warm_up();
        tokio::spawn(probe(app.clone(), Arc::clone(&admin)));
        tokio::spawn(flush_audit(app.clone()));
        server::serve(listener, app.clone(), shutdown.clone()).await;
        app.queue.flush(&app.writer).await;
        Ok::<_, Failure>(())
    })?;
    if let Some(path) = &config.process.ledger_file {
        ledger::write_file(path, &admin.ledger()).map_err(Failure::failed)?;
    }
    Ok(())
}

async fn begin(config: &DashboardConfig, metrics: Metrics) -> Result<(TcpListener, App), Failure> {
    let listener = TcpListener::bind(config.listen)
        .await
        .with_context(|| {
            format!(
                "could not listen on {}: is another process there? set listen to a free address",
                config.listen
            )
        })
        .map_err(Failure::failed)?;
    let address = listener.local_addr().map_err(Failure::failed)?;
    link::make_folder(&config.data).map_err(Failure::failed)?;
    link::write_private(&config.data.join("listen"), &format!("{address}\n")).map_err(Failure::failed)?;
    let app = app(config, metrics).map_err(Failure::wrong_use)?;
    write_link(config, &app.origins, address).map_err(Failure::failed)?;
    if dashboard_ui::IS_STUB {
        tracing::warn!("built without pages: the first page says how to build them");
    }
    tracing::info!("pages on {}", app.origins.base(address));
    Ok((listener, app))
}

/// The parts that need nothing to listen on.
pub(crate) fn app(config: &DashboardConfig, metrics: Metrics) -> anyhow::Result<App> {
    let names = Names::new(&config.store.logs_database, &config.store.processing_database)?;
    let client = store::client(&config.store)?;
    let passwords =
        Passwords::new().map_err(|error| anyhow::anyhow!("{}", error.log.unwrap_or(error.detail)))?;
    Ok(App::new(Parts {
        reader: Reader::new(
            client.clone(),
            names.clone(),
            config.limits.clone(),
            metrics.clone(),
        ),
        detector: config.detector_url.as_deref().map(Detector::new),
        writer: Writer::new(client, names, metrics.clone()),
        queue: AuditQueue::new(metrics.clone()),
        sessions: Sessions::new(
            config.sessions.clone(),
            config.is_https(),
            metrics.sessions.clone(),
        ),
        passwords,
        throttle: Throttle::default(),
        origins: Origins::new(config.public_url.as_deref()),
        metrics,
        cache: Cache::default(),
        config: config.clone(),
    }))
}

fn write_link(config: &DashboardConfig, origins: &Origins, address: SocketAddr) -> anyhow::Result<()> {
    let Some(path) = &config.local_admin_link_file else {
        return Ok(());
    };
    let link = link::make(config, &origins.base(address))?;
    link::write_private(path, &format!("{link}\n"))?;
    tracing::info!(
        "a link for the local administrator is in {}; it can be used once, within {} minutes",
        path.display(),
        link::LIFETIME_S / 60
    );
    Ok(())
}

/// The catalogue of identities is parsed at its first use: not at the first analyst's.
fn warm_up() {
    tokio::task::spawn_blocking(|| ja4_identity::Catalogue::embedded().lines().len());
}

/// Says whether the store answers, and says it once when that changes.
async fn probe(app: App, admin: Arc<Admin>) {
    let mut was_there = None;
    loop {
        match app.reader.ping().await {
            Ok(()) => {
                admin.set_ready("store");
                if was_there == Some(false) {
                    tracing::info!("the store answers again");
                }
                was_there = Some(true);
            }
            Err(error) => {
                let why = error.log.unwrap_or(error.detail);
                if was_there != Some(false) {
                    tracing::warn!("the store does not answer: {why}");
                }
                admin.set_unready("store", why);
                was_there = Some(false);
            }
        }
        tokio::time::sleep(PROBE_EVERY).await;
    }
}

async fn flush_audit(app: App) {
    loop {
        tokio::time::sleep(audit::EVERY).await;
        app.queue.flush(&app.writer).await;
    }
}

/// What came in and went out: requests by class of status.
fn counts(metrics: &Metrics) -> Ledger {
    let mut stage = Stage::new("dashboard.requests");
    for family in prometheus::core::Collector::collect(&metrics.requests) {
        for metric in family.get_metric() {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a counter of whole things"
            )]
            let n = metric.get_counter().get_value() as u64;
            let is_failed = metric
                .get_label()
                .iter()
                .any(|label| label.name() == "status" && label.value() == "5xx");
            stage.received += n;
            if is_failed {
                stage.drop_for("failed", n);
            } else {
                stage.passed += n;
            }
        }
    }
    Ledger {
        stages: vec![stage],
        ..Ledger::default()
    }
}
