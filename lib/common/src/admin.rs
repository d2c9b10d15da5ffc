//! The admin endpoint of every process: `/healthz`, `/readyz`, `/metrics`, `/ledger` on one address.
//!
//! One thread with a single-threaded runtime, so that a synchronous process has it too. The
//! endpoint has no secret and no way to change anything; it belongs on loopback, a UNIX socket or
//! a pod's own network.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus::Encoder as _;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::ledger::{Ledger, LedgerFile};

/// Most connections at once: a scraper, a probe, a person, and room for stale ones.
const MAX_CONNECTIONS: usize = 64;
/// Longest time for a request's head to arrive.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest life of a connection.
const CONNECTION_TIMEOUT: Duration = Duration::from_mins(1);

/// Where an admin endpoint listens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum AdminListen {
    /// `127.0.0.1:9101`; port 0 takes a free one.
    Tcp(SocketAddr),
    /// `unix:/run/ja4/admin.sock`.
    Unix(PathBuf),
}

impl FromStr for AdminListen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix("unix:") {
            Some(path) if path.starts_with('/') => Ok(Self::Unix(path.into())),
            Some(_) => Err(format!("{text:?}: the path after unix: must be absolute")),
            None => text
                .parse()
                .map(Self::Tcp)
                .map_err(|_| format!("{text:?} is neither an address such as 127.0.0.1:9101 nor unix:/path")),
        }
    }
}

impl fmt::Display for AdminListen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(addr) => addr.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl TryFrom<String> for AdminListen {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<AdminListen> for String {
    fn from(listen: AdminListen) -> Self {
        listen.to_string()
    }
}

/// What a process shows: readiness by condition, metrics, its ledger.
pub struct Admin {
    registry: prometheus::Registry,
    conditions: Mutex<BTreeMap<&'static str, Option<String>>>,
    ledger: Box<dyn Fn() -> Ledger + Send + Sync>,
    more_metrics: OnceLock<Box<MoreMetrics>>,
}

/// Metrics of another process, as text.
type MoreMetrics = dyn Fn() -> Option<String> + Send + Sync;

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin")
            .field("conditions", &self.conditions)
            .finish_non_exhaustive()
    }
}

impl Admin {
    /// A process that is not ready for any of `conditions` yet. `ledger` is called for each look at it.
    pub fn new(
        registry: prometheus::Registry,
        conditions: &[&'static str],
        ledger: impl Fn() -> Ledger + Send + Sync + 'static,
    ) -> Arc<Self> {
        let conditions = conditions
            .iter()
            .map(|name| (*name, Some("starting".to_owned())))
            .collect();
        Arc::new(Self {
            registry,
            conditions: Mutex::new(conditions),
            ledger: Box::new(ledger),
            more_metrics: OnceLock::new(),
        })
    }

    /// Serves the metrics of another process behind our own, when it answers. The first call counts.
    pub fn add_metrics(&self, more: impl Fn() -> Option<String> + Send + Sync + 'static) {
        // A second one is a mistake of the caller and changes nothing.
        self.more_metrics.set(Box::new(more)).unwrap_or(());
    }

    /// Says that a condition holds.
    pub fn set_ready(&self, condition: &'static str) {
        self.conditions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(condition, None);
    }

    /// Says that a condition does not hold, and why.
    pub fn set_unready(&self, condition: &'static str, why: impl Into<String>) {
        self.conditions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(condition, Some(why.into()));
    }

    /// The conditions that do not hold.
    pub fn unready(&self) -> Vec<(&'static str, String)> {
        let conditions = self.conditions.lock().unwrap_or_else(PoisonError::into_inner);
        conditions
            .iter()
            .filter_map(|(name, why)| Some((*name, why.clone()?)))
            .collect()
    }

    /// The ledger as of now.
    pub fn ledger(&self) -> Ledger {
        (self.ledger)()
    }

    fn answer(&self, path: &str) -> Response<Full<Bytes>> {
        match path {
            "/healthz" => respond(StatusCode::OK, "text/plain", "ok\n"),
            "/readyz" => match self.unready() {
                unready if unready.is_empty() => respond(StatusCode::OK, "text/plain", "ready\n"),
                unready => {
                    let lines = unready.iter().fold(String::new(), |lines, (name, why)| {
                        lines + name + ": " + why + "\n"
                    });
                    respond(StatusCode::SERVICE_UNAVAILABLE, "text/plain", lines)
                }
            },
            "/metrics" => {
                let mut text = Vec::new();
                let encoder = prometheus::TextEncoder::new();
                match encoder.encode(&self.registry.gather(), &mut text) {
                    Ok(()) => {
                        if let Some(more) = self.more_metrics.get().and_then(|more| more()) {
                            text.extend_from_slice(more.as_bytes());
                        }
                        respond(StatusCode::OK, encoder.format_type(), text)
                    }
                    Err(error) => respond(
                        StatusCode::INTERNAL_SERVER_ERROR,
                        "text/plain",
                        format!("{error}\n"),
                    ),
                }
            }
            "/ledger" => match serde_json::to_vec(&self.ledger()) {
                Ok(json) => respond(StatusCode::OK, "application/json", json),
                Err(error) => respond(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "text/plain",
                    format!("{error}\n"),
                ),
            },
            _ => respond(
                StatusCode::NOT_FOUND,
                "text/plain",
                "here are /healthz, /readyz, /metrics and /ledger\n",
            ),
        }
    }
}

fn respond(status: StatusCode, content_type: &str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    Response::builder()
        .status(status)
        .header(hyper::header::CONTENT_TYPE, content_type)
        .body(Full::new(body.into()))
        .expect("status and content type are constants")
}

/// Why an admin endpoint cannot listen.
#[derive(Debug, thiserror::Error)]
#[error(
    "admin endpoint cannot listen on {listen}: is another process there? set process.admin to a free address"
)]
pub struct ListenError {
    /// The address.
    pub listen: AdminListen,
    /// Why.
    #[source]
    pub source: std::io::Error,
}

enum Listener {
    Tcp(tokio::net::TcpListener),
    Unix(tokio::net::UnixListener),
}

/// A running admin endpoint. It ends with its process.
#[derive(Debug)]
pub struct Server {
    address: AdminListen,
}

impl Server {
    /// Starts listening; answers come from a thread of their own.
    ///
    /// # Errors
    /// If the address is taken or not ours.
    pub fn start(listen: &AdminListen, admin: Arc<Admin>) -> Result<Self, ListenError> {
        let refuse = |source| ListenError {
            listen: listen.clone(),
            source,
        };
        let (said, result) = std::sync::mpsc::channel();
        let listen_there = listen.clone();
        // Everything happens on its own thread: a runtime must not be dropped inside another one, as the
        // caller may be.
        std::thread::Builder::new()
            .name("admin".into())
            .spawn(move || {
                let open = || -> std::io::Result<_> {
                    let runtime = tokio::runtime::Builder::new_current_thread()
                        .enable_all()
                        .build()?;
                    let context = runtime.enter();
                    let listener = bind(&listen_there)?;
                    drop(context);
                    let address = match &listener {
                        Listener::Tcp(tcp) => AdminListen::Tcp(tcp.local_addr()?),
                        Listener::Unix(_) => listen_there.clone(),
                    };
                    Ok((runtime, listener, address))
                };
                match open() {
                    Ok((runtime, listener, address)) => {
                        said.send(Ok(address)).ok();
                        runtime.block_on(serve(listener, admin));
                    }
                    Err(error) => {
                        said.send(Err(error)).ok();
                    }
                }
            })
            .map_err(refuse)?;
        let address = result
            .recv()
            .unwrap_or_else(|_| Err(std::io::Error::other("its thread ended")))
            .map_err(refuse)?;
        Ok(Self { address })
    }

    /// Where it listens; the real port if 0 was asked for.
    pub fn address(&self) -> &AdminListen {
        &self.address
    }
}

fn bind(listen: &AdminListen) -> std::io::Result<Listener> {
    match listen {
        AdminListen::Tcp(addr) => {
            let std = std::net::TcpListener::bind(addr)?;
            std.set_nonblocking(true)?;
            Ok(Listener::Tcp(tokio::net::TcpListener::from_std(std)?))
        }
        AdminListen::Unix(path) => {
            // A socket that nobody answers is left over from a killed process. Anything else is somebody's file.
            let is_socket = std::fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket());
            let refused = |error: std::io::Error| error.kind() == std::io::ErrorKind::ConnectionRefused;
            if is_socket && std::os::unix::net::UnixStream::connect(path).is_err_and(refused) {
                std::fs::remove_file(path)?;
            }
            let listener = tokio::net::UnixListener::bind(path)?;
            // Its group may ask too, whatever the mask of the process is: in a pod that is who forwards the sensor's metrics.
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
            Ok(Listener::Unix(listener))
        }
    }
}

async fn serve(listener: Listener, admin: Arc<Admin>) {
    let places = Arc::new(tokio::sync::Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        let admin = Arc::clone(&admin);
        let accepted = match &listener {
            Listener::Tcp(tcp) => tcp.accept().await.map(|(stream, _)| {
                tokio::spawn(async move {
                    converse(stream, admin).await;
                    drop(place);
                });
            }),
            Listener::Unix(unix) => unix.accept().await.map(|(stream, _)| {
                tokio::spawn(async move {
                    converse(stream, admin).await;
                    drop(place);
                });
            }),
        };
        if let Err(error) = accepted {
            tracing::debug!("admin endpoint: {error}");
            // Out of descriptors: others must close theirs first.
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

async fn converse(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, admin: Arc<Admin>) {
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let admin = Arc::clone(&admin);
        async move { Ok::<_, Infallible>(admin.answer(request.uri().path())) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(16 * 1024)
        .serve_connection(TokioIo::new(stream), service);
    match tokio::time::timeout(CONNECTION_TIMEOUT, connection).await {
        Ok(Ok(())) | Err(_) => {}
        Ok(Err(error)) => tracing::debug!("admin endpoint: {error}"),
    }
}

/// Writes the ledger to `path` once a second until the process ends; the last one is the caller's.
///
/// # Errors
/// If no thread can be started.
pub fn write_ledger_each_second(
    path: PathBuf,
    admin: Arc<Admin>,
    shutdown: crate::Shutdown,
) -> std::io::Result<()> {
    std::thread::Builder::new().name("ledger".into()).spawn(move || {
        let mut file = LedgerFile::new(path);
        while !shutdown.wait_for(Duration::from_secs(1)) {
            file.refresh(&admin.ledger());
        }
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use super::*;

    fn get(addr: SocketAddr, path: &str) -> String {
        let mut stream = std::net::TcpStream::connect(addr).unwrap();
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    fn start() -> (Arc<Admin>, SocketAddr) {
        let registry = prometheus::Registry::new();
        let counter = prometheus::IntCounter::new("sample_events_total", "events").unwrap();
        registry.register(Box::new(counter.clone())).unwrap();
        counter.inc();
        let admin = Admin::new(registry, &["store"], || Ledger {
            stages: vec![crate::ledger::Stage::new("a.b")],
            ..Ledger::default()
        });
        let server = Server::start(&"127.0.0.1:0".parse().unwrap(), Arc::clone(&admin)).unwrap();
        let AdminListen::Tcp(addr) = *server.address() else {
            panic!("asked for TCP")
        };
        (admin, addr)
    }

    #[test]
    fn readiness_names_what_is_missing() {
        let (admin, addr) = start();
        assert!(get(addr, "/healthz").starts_with("HTTP/1.1 200"));
        let unready = get(addr, "/readyz");
        assert!(
            unready.starts_with("HTTP/1.1 503") && unready.contains("store: starting"),
            "{unready}"
        );
        admin.set_ready("store");
        assert!(get(addr, "/readyz").starts_with("HTTP/1.1 200"));
    }

    #[test]
    fn metrics_and_ledger_are_served_and_the_rest_is_not() {
        let (_admin, addr) = start();
        assert!(get(addr, "/metrics").contains("sample_events_total 1"));
        assert!(get(addr, "/ledger").contains(r#""name":"a.b""#));
        assert!(get(addr, "/etc/passwd").starts_with("HTTP/1.1 404"));
    }

    #[test]
    fn a_taken_port_is_said_with_the_remedy() {
        let (admin, addr) = start();
        let refusal = Server::start(&AdminListen::Tcp(addr), admin)
            .unwrap_err()
            .to_string();
        assert!(refusal.contains("process.admin"), "{refusal}");
    }

    #[test]
    fn a_file_that_is_no_socket_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("admin.sock");
        std::fs::write(&path, "precious").unwrap();
        let admin = Admin::new(prometheus::Registry::new(), &[], Ledger::default);
        let refusal = Server::start(&AdminListen::Unix(path.clone()), admin).unwrap_err();
        assert!(refusal.to_string().contains("process.admin"), "{refusal}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    }

    #[test]
    fn a_socket_left_over_is_taken_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("admin.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let admin = Admin::new(prometheus::Registry::new(), &[], Ledger::default);
        Server::start(&AdminListen::Unix(path.clone()), admin).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(
            mode & 0o777,
            0o660,
            "its group may connect, which takes the right to write"
        );
        let mut stream = std::os::unix::net::UnixStream::connect(&path).unwrap();
        stream
            .write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"));
    }
}
