//! The life of the process: lock, repair, boot, serve, drain, close.

use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use ja4_common::Shutdown;
use ja4_common::admin::{Admin, AdminListen};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::config::Settings;
use crate::credentials::Credentials;
use crate::engine::{Engine, engine_directory};
use crate::execute::Executor;
use crate::ffi;
use crate::http::certificate::tls_acceptor;
use crate::http::server::Server;
use crate::http::service::{Service, ServiceParts};
use crate::metrics::Metrics;
use crate::repair;

/// Exit code after an insert error that may have reached a commit: start the process again, it repairs itself.
/// (`EX_TEMPFAIL` of `sysexits.h`.)
pub const EXIT_RESTART: u8 = 75;

/// Threads beyond the statements: kills, the dictionary timer.
const SPARE_BLOCKING_THREADS: usize = 16;

/// Connections that wait to be accepted; the kernel takes at most its own `net.core.somaxconn`.
const LISTEN_BACKLOG: i32 = 4096;

/// Descriptors that the engine wants for itself: parts of wide tables have a file a column.
const ENGINE_DESCRIPTORS: u64 = 4096;

/// Runs the store until it is told to stop. Gives the exit code.
///
/// # Errors
/// One line: what failed, where, and what mends it.
pub fn run(settings: &Settings, admin_listen: Option<&AdminListen>) -> anyhow::Result<ExitCode> {
    let shutdown = Shutdown::install().context("cannot install signal handlers")?;
    let mut http = settings.http.clone();
    http.connections_max = connections_within_descriptors(http.connections_max);
    let data = prepare_data(&settings.data)?;
    let _lock = lock(&data)?;
    let credentials = match &settings.tokens {
        Some(folder) => Credentials::read(folder)?,
        None => Credentials::open(&data.join("tokens"))?,
    };
    let tls = settings.tls.as_ref().map(tls_acceptor).transpose()?;
    // Before the engine boots, which takes a while: a port in use is said at once.
    let listener = std::net::TcpListener::bind(settings.listen).with_context(|| {
        format!(
            "cannot listen on {}: set listen to a free address",
            settings.listen
        )
    })?;
    // The standard library's 128 are full in a burst of clients, who then wait a second for their next try.
    rustix::net::listen(&listener, LISTEN_BACKLOG)?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;

    let registry = prometheus::Registry::new();
    let metrics = Arc::new(Metrics::new(&registry)?);
    let admin = Admin::new(registry, &["engine"], {
        let metrics = Arc::clone(&metrics);
        move || metrics.ledger()
    });
    let _admin_server = admin_listen
        .map(|listen| ja4_common::admin::Server::start(listen, Arc::clone(&admin)))
        .transpose()?;

    let started = Instant::now();
    let report = repair::repair_store(&engine_directory(&data))?;
    metrics
        .repaired_records
        .set(i64::try_from(report.n_orphans).unwrap_or(i64::MAX));
    metrics
        .repaired_lines
        .set(i64::try_from(report.n_cut).unwrap_or(i64::MAX));
    if report.n_orphans + report.n_cut > 0 {
        tracing::info!(
            "repaired the deduplication logs of {} tables: {} records without a part dropped, {} torn lines cut",
            report.n_tables,
            report.n_orphans,
            report.n_cut
        );
    }
    let engine = Arc::new(Engine::boot(&settings.library, &data, &settings.engine)?);
    tracing::info!("engine {} is up after {:?}", engine.version(), started.elapsed());

    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(http.statements_max + SPARE_BLOCKING_THREADS)
        .thread_name("http")
        .enable_all()
        .build()
        .context("cannot start threads")?;
    let executor = Arc::new(Executor::new(
        Arc::clone(&engine),
        settings.rules.clone(),
        http.result_max_bytes,
    ));
    let (fatal, mut fatal_reason) = mpsc::unbounded_channel();
    let service = Arc::new(Service::new(ServiceParts {
        executor: Arc::clone(&executor),
        credentials,
        settings: http.clone(),
        data: data.clone(),
        disk_free_min_bytes: settings.disk_free_min_bytes,
        metrics: Arc::clone(&metrics),
        fatal,
    }));
    let server = Server {
        service,
        settings: http,
        metrics: Arc::clone(&metrics),
    };
    let reload = settings.dictionary_reload;
    let failure = runtime.block_on(async {
        let listener = TcpListener::from_std(listener).context("cannot listen")?;
        let reloading = tokio::spawn(reload_dictionaries(executor, metrics, reload));
        announce(&data, address)?;
        admin.set_ready("engine");
        tracing::info!("listening on {address}");
        let stop = shutdown.requested();
        let serving = server.serve(listener, tls, stop);
        let failure = tokio::select! {
            () = serving => None,
            reason = fatal_reason.recv() => reason,
        };
        reloading.abort();
        anyhow::Ok(failure)
    })?;
    if let Some(reason) = failure {
        tracing::error!(
            "ending with code {EXIT_RESTART} to repair and start again: an insert may have failed in its commit: {reason}"
        );
        // Like a kill: the repair before the next boot is what mends this, and with a broken disk an orderly end could hang.
        ffi::exit_now(EXIT_RESTART);
    }
    close(runtime, &engine, settings.http.drain_timeout);
    Ok(ExitCode::SUCCESS)
}

/// Ends what still runs, closes the engine. The engine crashes when the process ends under open sessions, so a
/// session that does not end in time means leaving without its exit handlers.
fn close(runtime: tokio::runtime::Runtime, engine: &Arc<Engine>, timeout: Duration) {
    runtime.shutdown_timeout(timeout);
    if Arc::strong_count(engine) > 1 {
        tracing::warn!("statements still ran after {timeout:?}; leaving them as a kill would");
        ffi::exit_now(0);
    }
    engine.close();
    tracing::info!("closed");
}

fn prepare_data(data: &Path) -> anyhow::Result<PathBuf> {
    let create = || {
        format!(
            "cannot create {}: set data to a directory of this user",
            data.display()
        )
    };
    fs::create_dir_all(data).with_context(create)?;
    // The engine changes the working directory; relative paths must not follow it.
    data.canonicalize().with_context(create)
}

/// One process a directory; held as long as the file is open.
fn lock(data: &Path) -> anyhow::Result<fs::File> {
    let path = data.join("lock");
    let file = fs::File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive)
        .with_context(|| format!("another ja4-clickhouse runs on {}", data.display()))?;
    Ok(file)
}

/// Writes the bound address to `DATA/listen`, whole or not at all: with port 0 this is how others find it.
fn announce(data: &Path, address: SocketAddr) -> anyhow::Result<()> {
    let path = data.join("listen");
    let temporary = data.join("listen.tmp");
    let write = || -> std::io::Result<()> {
        let mut file = fs::File::create(&temporary)?;
        writeln!(file, "{address}")?;
        drop(file);
        fs::rename(&temporary, &path)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

async fn reload_dictionaries(executor: Arc<Executor>, metrics: Arc<Metrics>, interval: Duration) {
    // A reload more often than each second would be all the engine does.
    let mut timer = tokio::time::interval(interval.max(Duration::from_secs(1)));
    timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    // The first tick comes at once, when dictionaries are as fresh as the boot.
    timer.tick().await;
    loop {
        timer.tick().await;
        let executor = Arc::clone(&executor);
        let outcome = tokio::task::spawn_blocking(move || executor.reload_dictionaries()).await;
        let label = match outcome {
            Ok(Ok(())) => "ok",
            Ok(Err(exception)) => {
                tracing::warn!("cannot reload dictionaries: {}", exception.text);
                "error"
            }
            Err(_) => "error",
        };
        metrics.dictionary_reloads.with_label_values(&[label]).inc();
    }
}

/// Raises the soft limit of descriptors for `wanted` connections beside the engine. Where the hard limit is too low
/// it says so, and gives the number of connections that leaves the engine its share: a part that cannot be opened
/// would be an error in a commit.
fn connections_within_descriptors(wanted: usize) -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let needed = wanted as u64 + ENGINE_DESCRIPTORS;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < needed) {
        let raised = Rlimit {
            current: Some(limit.maximum.map_or(needed, |maximum| maximum.min(needed))),
            maximum: limit.maximum,
        };
        // What is allowed is read again below.
        let _refused = setrlimit(Resource::Nofile, raised);
    }
    let Some(allowed) = getrlimit(Resource::Nofile)
        .current
        .filter(|&allowed| allowed < needed)
    else {
        return wanted;
    };
    let connections = connections_for(allowed).min(wanted);
    tracing::warn!(
        "only {allowed} files may be open, so {connections} connections are taken at once instead of {wanted}: \
         raise ulimit -n to {needed} or lower http.connections_max"
    );
    connections
}

/// Connections beside the engine within `allowed` descriptors, at least one.
fn connections_for(allowed: u64) -> usize {
    let rest = allowed.saturating_sub(ENGINE_DESCRIPTORS).max(allowed / 4).max(1);
    usize::try_from(rest).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engine_keeps_its_descriptors() {
        assert_eq!(connections_for(16_384), 12_288);
        assert_eq!(connections_for(4_196), 1_049);
        assert_eq!(connections_for(1_024), 256);
        assert_eq!(connections_for(0), 1);
    }
}
