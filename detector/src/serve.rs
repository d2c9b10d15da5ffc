//! `serve`: a cycle each interval, and an HTTP endpoint that says how it goes.
//!
//! `/healthz`, `/readyz`, `/metrics`, `/ledger` as every process; `/state` and `/why?src_ip=&ja4=&host=` as JSON. It changes
//! nothing and has no secret, but it names clients: it belongs on loopback or a cluster's own network. A store that is away is
//! said in `/readyz`, `/state` and the log once; the same windows are tried again until the next are due.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use axum::Router;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use ja4_common::admin::{self, Admin, AdminListen};
use ja4_common::ledger::{Ledger, Stage};
use ja4_common::{Shutdown, exit};
use prometheus::Encoder as _;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::config::DetectorConfig;
use crate::cycle::{self, Memory, Report};
use crate::metrics::Metrics;
use crate::tables::Tables;
use crate::time::rfc3339;
use crate::why;

/// Pause before a failed cycle is tried again.
const RETRY: Duration = Duration::from_secs(2);
/// How far back a client's newest score may lie, seconds.
const WHY_BACK_S: i64 = 7 * 86_400;
/// Longest value of a parameter, bytes: far beyond a JA4 or a host.
const MAX_PARAM_BYTES: usize = 1024;

/// What `/state` shows.
#[derive(Debug, Clone, Default, Serialize)]
struct Shown {
    state: String,
    model_states: serde_json::Map<String, serde_json::Value>,
    progress: serde_json::Map<String, serde_json::Value>,
    thresholds: serde_json::Map<String, serde_json::Value>,
    last_cycle: Option<serde_json::Value>,
    last_error: Option<serde_json::Value>,
    budget: u32,
    budget_used: u32,
    events: Vec<String>,
}

/// Most events kept for `/state`.
const MAX_EVENTS: usize = 50;

struct Shared {
    config: DetectorConfig,
    tables: Tables,
    admin: Arc<Admin>,
    registry: prometheus::Registry,
    memory: tokio::sync::Mutex<Memory>,
    shown: Mutex<Shown>,
    counted: Arc<Mutex<Counted>>,
}

/// What the ledger is made of.
#[derive(Debug, Default)]
struct Counted {
    seen: u64,
    scored: u64,
    cycles: u64,
    failures: u64,
    state: String,
}

fn ledger(counted: &Counted) -> Ledger {
    let mut stage = Stage::new("detector.clients");
    stage.received = counted.seen;
    stage.passed = counted.scored;
    stage.drop_for("inactive", counted.seen - counted.scored);
    let mut ledger = Ledger {
        stages: vec![stage],
        ..Ledger::default()
    };
    ledger
        .facts
        .insert("detector.cycles".to_owned(), counted.cycles.into());
    ledger
        .facts
        .insert("detector.failures".to_owned(), counted.failures.into());
    ledger
        .facts
        .insert("detector.state".to_owned(), counted.state.clone().into());
    ledger
}

/// Seconds and microseconds since the epoch.
pub fn wall_clock() -> (i64, i64) {
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    (
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        i64::try_from(since.as_micros()).unwrap_or(i64::MAX),
    )
}

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// If the address is taken, or the process cannot be set up.
pub fn serve(config: &DetectorConfig) -> anyhow::Result<()> {
    let shutdown = Shutdown::install().context("signals cannot be caught")?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("the runtime cannot be started")?;
    let registry = prometheus::Registry::new();
    let metrics = Metrics::register(&registry)?;
    let counted = Arc::new(Mutex::new(Counted::default()));
    let shown = Arc::clone(&counted);
    let admin = Admin::new(registry.clone(), &["store"], move || {
        ledger(&shown.lock().unwrap_or_else(PoisonError::into_inner))
    });
    if let Some(path) = &config.process.ledger_file {
        admin::write_ledger_each_second(path.clone(), Arc::clone(&admin), shutdown.clone())
            .context("the ledger's thread cannot be started")?;
    }
    let shared = Arc::new(Shared {
        config: config.clone(),
        tables: Tables::new(&config.store)?,
        admin: Arc::clone(&admin),
        registry,
        memory: tokio::sync::Mutex::default(),
        shown: Mutex::new(Shown {
            state: "learning".to_owned(),
            budget: config.alert_budget_per_day,
            ..Shown::default()
        }),
        counted,
    });
    let result = runtime.block_on(async {
        if let Some(listen) = &config.process.admin {
            listen_on(listen, Arc::clone(&shared), shutdown.clone()).await?;
        }
        cycles(&shared, &metrics, &shutdown).await;
        Ok(())
    });
    // A statement that still runs is the store's to end.
    runtime.shutdown_timeout(Duration::from_secs(1));
    if let Some(path) = &config.process.ledger_file {
        ja4_common::ledger::write_file(path, &admin.ledger()).context("the ledger cannot be written")?;
    }
    result
}

async fn cycles(shared: &Shared, metrics: &Metrics, shutdown: &Shutdown) {
    let config = &shared.config;
    let mut done = None;
    let mut has_failed = false;
    loop {
        let (now_s, now_us) = wall_clock();
        let due = cycle::due_end(now_s, config.interval.0, config.settle.0);
        let pause = if done == Some(due) {
            let interval = i64::try_from(config.interval.0.as_secs()).unwrap_or(i64::MAX);
            let settle = i64::try_from(config.settle.0.as_secs()).unwrap_or(0);
            Duration::from_secs(u64::try_from(due + interval + settle - now_s).unwrap_or(0).max(1))
        } else {
            let run = async {
                let mut memory = shared.memory.lock().await;
                cycle::run(config, &shared.tables, &mut memory, due, now_us).await
            };
            let result = tokio::select! {
                result = run => result,
                () = shutdown.requested() => return,
            };
            match result {
                Ok(report) => {
                    done = Some(due);
                    if has_failed {
                        tracing::info!("cycles succeed again");
                    }
                    has_failed = false;
                    shared.admin.set_ready("store");
                    if !report.was_done {
                        metrics.follow(&report);
                    }
                    shared.follow(&report);
                    continue;
                }
                Err(error) => {
                    let why = exit::chain(&error);
                    if !has_failed {
                        tracing::error!("the cycle of {} failed: {why}", rfc3339(due));
                    }
                    has_failed = true;
                    metrics.failed();
                    shared.failed(due, &why);
                    // Not recorded when the store itself is away: the log and /state have it.
                    if let Err(error) = cycle::record_failure(&shared.tables, due, now_us, &why).await {
                        tracing::debug!("the failure cannot be recorded: {}", exit::chain(&error));
                    }
                    RETRY
                }
            }
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = shutdown.requested() => return,
        }
    }
}

impl Shared {
    fn follow(&self, report: &Report) {
        if report.was_done {
            return;
        }
        let row = &report.row;
        {
            let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
            counted.seen += row.entities;
            counted.scored += row.scored;
            counted.cycles += 1;
            counted.state.clone_from(&row.state);
        }
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        shown.state.clone_from(&row.state);
        shown.model_states = row
            .model_states
            .iter()
            .map(|(name, state)| (name.clone(), json!(state)))
            .collect();
        shown.progress = row
            .progress
            .iter()
            .map(|(name, value)| (name.clone(), json!(value)))
            .collect();
        shown.thresholds = row
            .thresholds
            .iter()
            .map(|(name, bits)| (name.clone(), json!(bits)))
            .collect();
        shown.budget_used = row.budget_used;
        shown.last_error = None;
        shown.last_cycle = Some(json!({
            "cycle_id": uuid::Uuid::from_u128(row.cycle_id).to_string(),
            "window_end": rfc3339(i64::from(row.window_end_s)),
            "finished_at": rfc3339(wall_clock().0),
            "duration_ms": row.duration_ms, "cpu_ms": row.cpu_ms,
            "entities": row.entities, "scored": row.scored, "flagged": row.flagged, "alerts": row.alerts,
            "suppressed": row.suppressed, "suppressed_by_label": row.suppressed_by_label, "labels_seen": row.labels_seen.to_string(),
        }));
        shown.events.extend(report.events.iter().cloned());
        let too_many = shown.events.len().saturating_sub(MAX_EVENTS);
        shown.events.drain(..too_many);
    }

    fn failed(&self, due: i64, why: &str) {
        self.counted
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .failures += 1;
        self.admin.set_unready("store", why);
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        shown.last_error =
            Some(json!({"window_end": rfc3339(due), "at": rfc3339(wall_clock().0), "error": why}));
    }
}

async fn listen_on(listen: &AdminListen, shared: Arc<Shared>, shutdown: Shutdown) -> anyhow::Result<()> {
    let router = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route(
            "/ledger",
            get(|State(shared): State<Arc<Shared>>| async move { json_of(&shared.admin.ledger()) }),
        )
        .route("/state", get(state))
        .route("/why", get(why_now))
        .fallback(|| async {
            (
                StatusCode::NOT_FOUND,
                "here are /healthz, /readyz, /metrics, /ledger, /state and /why?src_ip=&ja4=&host=\n",
            )
        })
        .with_state(shared);
    let stop = async move { shutdown.requested().await };
    let taken = || {
        format!(
            "the detector cannot listen on {listen}: is another process there? set process.admin to a free address"
        )
    };
    match listen {
        AdminListen::Tcp(address) => {
            let listener = tokio::net::TcpListener::bind(address).await.with_context(taken)?;
            tracing::info!("listening on {}", listener.local_addr()?);
            tokio::spawn(async move { axum::serve(listener, router).with_graceful_shutdown(stop).await });
        }
        AdminListen::Unix(path) => {
            // A socket that nobody answers is left over from a killed process.
            let refused = |error: std::io::Error| error.kind() == std::io::ErrorKind::ConnectionRefused;
            if std::os::unix::net::UnixStream::connect(path).is_err_and(refused) {
                std::fs::remove_file(path).with_context(taken)?;
            }
            let listener = tokio::net::UnixListener::bind(path).with_context(taken)?;
            tokio::spawn(async move { axum::serve(listener, router).with_graceful_shutdown(stop).await });
        }
    }
    Ok(())
}

async fn readyz(State(shared): State<Arc<Shared>>) -> Response {
    let unready = shared.admin.unready();
    if unready.is_empty() {
        return "ready\n".into_response();
    }
    let lines = unready.iter().fold(String::new(), |lines, (name, why)| {
        lines
            + name
            + ": "
            + why
            + "
"
    });
    (StatusCode::SERVICE_UNAVAILABLE, lines).into_response()
}

async fn metrics(State(shared): State<Arc<Shared>>) -> Response {
    let encoder = prometheus::TextEncoder::new();
    let mut text = Vec::new();
    match encoder.encode(&shared.registry.gather(), &mut text) {
        Ok(()) => ([(header::CONTENT_TYPE, encoder.format_type().to_owned())], text).into_response(),
        Err(error) => problem(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

async fn state(State(shared): State<Arc<Shared>>) -> Response {
    let shown = shared
        .shown
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone();
    json_of(&shown)
}

#[derive(Debug, Deserialize)]
struct WhyParams {
    src_ip: String,
    #[serde(default)]
    ja4: String,
    host: String,
}

async fn why_now(
    State(shared): State<Arc<Shared>>,
    params: Result<Query<WhyParams>, axum::extract::rejection::QueryRejection>,
) -> Response {
    let params = match params {
        Ok(Query(params)) => params,
        Err(error) => return problem(StatusCode::BAD_REQUEST, &error.body_text()),
    };
    if params.src_ip.parse::<std::net::IpAddr>().is_err() {
        return problem(StatusCode::BAD_REQUEST, "src_ip is no address");
    }
    if params.ja4.len() > MAX_PARAM_BYTES || params.host.len() > MAX_PARAM_BYTES {
        return problem(StatusCode::BAD_REQUEST, "ja4 and host have at most 1024 bytes");
    }
    let src_ip = match params.src_ip.parse() {
        Ok(std::net::IpAddr::V4(v4)) => v4.to_ipv6_mapped().to_string(),
        _ => params.src_ip.clone(),
    };
    let from = wall_clock().0 - WHY_BACK_S;
    match shared
        .tables
        .last_scores(&src_ip, &params.ja4, &params.host, from)
        .await
    {
        Ok(scores) if scores.is_empty() => problem(
            StatusCode::NOT_FOUND,
            "this client has no score of the last 7 days",
        ),
        Ok(scores) => {
            let memory = shared.memory.lock().await;
            json_of(&json!({
                "src_ip": params.src_ip, "ja4": params.ja4, "host": params.host,
                "models": why::answer(&scores, &memory, &params.host),
            }))
        }
        Err(error) => problem(StatusCode::SERVICE_UNAVAILABLE, &exit::chain(&error)),
    }
}

fn json_of(value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(body) => ([(header::CONTENT_TYPE, "application/json")], body).into_response(),
        Err(error) => problem(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

fn problem(status: StatusCode, detail: &str) -> Response {
    let body = json!({"status": status.as_u16(), "title": status.canonical_reason().unwrap_or(""), "detail": detail});
    (
        status,
        [(header::CONTENT_TYPE, "application/problem+json")],
        body.to_string(),
    )
        .into_response()
}
