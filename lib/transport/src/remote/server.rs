//! The listener: TLS, who it is, what is asked for. Each connection is a task; all run on one thread.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use http::{Method, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulConnection;
use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;
use tonic::body::Body;

use super::certificate::{CertifiedPeer, NameError, PeerRole, certified_peer};
use super::config::{Admission, RemoteConfig};
use super::lock;
use super::proto::{self, ClientFrame, ServerFrame};
use super::stream;
use super::tls::{self, FileBytes, ServerSide, TlsError};
use super::tokens::Tokens;
use crate::complaints::Complaints;
use crate::config::{Clock, NextUnsettled};
use crate::counters::RefuseReason;
use crate::receiver::{Shared, StartError};

/// Pause of accepting when the process is out of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Requests at once on one connection: a stream, its successor, a report, and one more.
const MAX_STREAMS: u32 = 4;

/// Longest head of a request: a token, a path, and what HTTP clients add.
const MAX_HEADER_BYTES: u32 = 16 << 10;

/// What a peer may send ahead on a stream and on a connection: a few batches. It waits here at most.
const WINDOW_BYTES: u32 = 512 << 10;

/// A peer that has vanished is found out within twice this.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// How long a connection that is being ended may take to write its last frames.
const END_WAIT: Duration = Duration::from_secs(2);

/// Every so many looks at the files open connections are judged again though nothing has changed: certificates expire.
const JUDGE_EVERY: u32 = 12;

/// What is still read of a peer that is refused, so that it gets to read why.
const LINGER_BYTES: usize = 64 << 10;

/// What the listener does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Phase {
    /// Takes connections and events.
    Serve,
    /// Takes nothing more, still acknowledges.
    Drain,
    /// Writes the last acknowledgements and closes.
    End,
}

/// A running listener.
#[derive(Debug)]
pub(crate) struct Remote {
    pub(crate) address: SocketAddr,
    phase: watch::Sender<Phase>,
    thread: Option<JoinHandle<()>>,
}

/// What the listener needs of its receiver.
pub(crate) struct Surroundings {
    pub(crate) shared: Arc<Shared>,
    pub(crate) clock: Arc<Clock>,
    pub(crate) next_unsettled: Arc<NextUnsettled>,
    /// Number of the listener.
    pub(crate) listener: usize,
}

impl Remote {
    pub(crate) fn start(config: RemoteConfig, around: Surroundings) -> Result<Self, StartError> {
        let listen = config.listen;
        let failed = |source| StartError::Listen { listen, source };
        let socket = std::net::TcpListener::bind(listen).map_err(failed)?;
        socket.set_nonblocking(true).map_err(failed)?;
        let address = socket.local_addr().map_err(failed)?;
        let (phase, watched) = watch::channel(Phase::Serve);
        let context = Context::new(config, around, address, watched).map_err(StartError::Tls)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(StartError::System)?;
        let thread = std::thread::Builder::new()
            .name("nodes".into())
            .spawn(move || {
                runtime.block_on(serve(socket, Arc::new(context)));
                runtime.shutdown_timeout(Duration::from_millis(10));
            })
            .map_err(StartError::System)?;
        Ok(Self {
            address,
            phase,
            thread: Some(thread),
        })
    }

    /// Takes no more connections and events; acknowledgements are still written.
    pub(crate) fn stop_reading(&self) {
        self.phase.send_if_modified(|phase| {
            *phase < Phase::Drain && {
                *phase = Phase::Drain;
                true
            }
        });
    }

    /// Writes the last acknowledgements and closes.
    pub(crate) fn end(&mut self) {
        self.phase.send_replace(Phase::End);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that listens for nodes ended badly");
        }
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        self.end();
    }
}

/// What all connections of a listener share.
pub(crate) struct Context {
    pub(crate) config: RemoteConfig,
    pub(crate) listener: usize,
    pub(crate) shared: Arc<Shared>,
    pub(crate) clock: Arc<Clock>,
    pub(crate) next_unsettled: Arc<NextUnsettled>,
    pub(crate) phase: watch::Receiver<Phase>,
    name: String,
    current: Mutex<Current>,
    complaints: Mutex<Complaints>,
    live: Mutex<BTreeMap<u64, Arc<Conn>>>,
    next_conn: AtomicU64,
}

/// What the files said last.
struct Current {
    bytes: FileBytes,
    side: ServerSide,
    tokens: Tokens,
}

/// One connection, judged.
pub(crate) struct Conn {
    pub(crate) context: Arc<Context>,
    pub(crate) address: SocketAddr,
    /// By certificate; none where tokens decide.
    certified: Option<Result<CertifiedPeer, NameError>>,
    chain: Vec<CertificateDer<'static>>,
    /// Sources whose tokens were shown on it, with the tokens' hashes.
    shown: Mutex<BTreeMap<usize, [u8; 32]>>,
    active: AtomicUsize,
    idle_since: Mutex<Instant>,
    /// Why it is to end.
    pub(crate) end: watch::Sender<Option<&'static str>>,
}

/// Who speaks on a stream.
#[derive(Clone, Debug)]
pub(crate) enum Speaker {
    /// A node's forwarder.
    Node(CertifiedPeer),
    /// A source with a token.
    Source {
        /// Its name.
        name: String,
    },
}

impl std::fmt::Display for Speaker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Node(peer) => peer.fmt(f),
            Self::Source { name } => write!(f, "source/{name}"),
        }
    }
}

fn paths(config: &RemoteConfig) -> Vec<&std::path::Path> {
    match &config.admission {
        Admission::Certificates { client_trust, .. } => {
            tls::server_files(&config.tls, Some(client_trust.as_path())).collect()
        }
        Admission::Tokens(sources) => tls::server_files(&config.tls, None)
            .chain(sources.iter().map(|source| &*source.token_file))
            .collect(),
    }
}

fn read_current(config: &RemoteConfig, bytes: FileBytes) -> Result<Current, TlsError> {
    let (client_trust, tokens) = match &config.admission {
        Admission::Certificates { client_trust, .. } => {
            (Some(client_trust.as_path()), Tokens::of(&[], &bytes, 0)?)
        }
        Admission::Tokens(sources) => (None, Tokens::of(sources, &bytes, 2)?),
    };
    let side = tls::server_side(&config.tls, client_trust, &bytes)?;
    Ok(Current { bytes, side, tokens })
}

impl Context {
    fn new(
        config: RemoteConfig,
        around: Surroundings,
        address: SocketAddr,
        phase: watch::Receiver<Phase>,
    ) -> Result<Self, TlsError> {
        let bytes = FileBytes::read(paths(&config))?;
        let current = read_current(&config, bytes)?;
        Ok(Self {
            config,
            listener: around.listener,
            shared: around.shared,
            clock: around.clock,
            next_unsettled: around.next_unsettled,
            phase,
            name: format!("listener {address}"),
            current: Mutex::new(current),
            complaints: Mutex::default(),
            live: Mutex::default(),
            next_conn: AtomicU64::new(0),
        })
    }

    fn side(&self) -> ServerSide {
        lock(&self.current).side.clone()
    }

    /// Counts a refusal and says it, now and then.
    pub(crate) fn refuse(&self, peer: &str, reason: RefuseReason, detail: &str) {
        self.shared.lock().refused(self.listener, reason);
        lock(&self.complaints).refused_remote(&self.name, peer, reason, detail, Instant::now());
    }

    /// Says that an event was dropped, now and then.
    pub(crate) fn say_dropped(&self, peer: &str, reason: crate::counters::DropReason) {
        lock(&self.complaints).dropped_remote(&self.name, peer, reason, Instant::now());
    }

    /// Looks at the files; with `judge` open connections are judged again though nothing has changed.
    fn look_at_files(&self, judge: bool) {
        let changed = FileBytes::read(paths(&self.config)).and_then(|bytes| {
            if bytes == lock(&self.current).bytes {
                return Ok(false);
            }
            let read = read_current(&self.config, bytes)?;
            *lock(&self.current) = read;
            Ok(true)
        });
        match changed {
            Ok(true) => {
                tracing::info!("{}: certificate, trust bundle or tokens were replaced", self.name);
                self.judge_all();
            }
            Ok(false) if judge => self.judge_all(),
            Ok(false) => {}
            Err(error) => {
                let line = source_chain(&error);
                lock(&self.complaints).not_reloaded(&self.name, &line, Instant::now());
            }
        }
    }

    /// Ends connections whose certificate or token does not count any more.
    fn judge_all(&self) {
        let verifier = self.side().verifier;
        let live: Vec<_> = lock(&self.live).values().cloned().collect();
        for conn in live {
            let refusal = verifier
                .as_ref()
                .and_then(|verifier| tls::judge_again(&**verifier, &conn.chain));
            if let Some((reason, why)) = refusal {
                self.refuse(&conn.name(), reason, &why);
                conn.end
                    .send_replace(Some("its certificate is not accepted any more"));
            } else if self.token_replaced(&conn) {
                self.refuse(
                    &conn.name(),
                    RefuseReason::Token,
                    "showed a token that was replaced",
                );
                conn.end.send_replace(Some("its token was replaced"));
            }
        }
    }

    fn token_replaced(&self, conn: &Conn) -> bool {
        let current = lock(&self.current);
        lock(&conn.shown)
            .iter()
            .any(|(idx, hash)| current.tokens.hash(*idx) != Some(hash))
    }
}

/// An error with its causes, as one line.
fn source_chain(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        line = format!("{line}: {error}");
        cause = error.source();
    }
    line
}

async fn serve(socket: std::net::TcpListener, context: Arc<Context>) {
    let listener = match TcpListener::from_std(socket) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!("{}: cannot listen: {error}", context.name);
            return;
        }
    };
    let places = Arc::new(Semaphore::new(context.config.max_connections));
    let mut phase = context.phase.clone();
    let mut looks = tokio::time::interval(context.config.reload_interval);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut n_looks = 0_u32;
    let mut connections = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            () = stream::reaches(&mut phase, Phase::Drain) => break,
            _ = looks.tick() => {
                n_looks = n_looks.wrapping_add(1);
                context.look_at_files(n_looks.is_multiple_of(JUDGE_EVERY));
            }
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, address)) => {
                    let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                        context.refuse(&address.to_string(), RefuseReason::Connections, "is one connection too many");
                        continue;
                    };
                    let context = Arc::clone(&context);
                    connections.spawn(async move {
                        context.shared.lock().accepted(context.listener);
                        converse(&context, stream, address).await;
                        context.shared.lock().closed(context.listener);
                        drop(place);
                    });
                }
                Err(error) => {
                    context.shared.lock().accept_paused(context.listener);
                    tracing::debug!("{}: accepting pauses: {error}", context.name);
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    stream::reaches(&mut phase, Phase::End).await;
    let all = async { while connections.join_next().await.is_some() {} };
    // Who does not read its last acknowledgement in time gets it with the next greeting.
    let _in_time = tokio::time::timeout(END_WAIT, all).await;
}

async fn converse(context: &Arc<Context>, tcp: TcpStream, address: SocketAddr) {
    // Frames are whole when they are written; waiting for more only delays them.
    let _best_effort = tcp.set_nodelay(true);
    let acceptor = TlsAcceptor::from(context.side().config);
    let handshake = acceptor.accept(tcp).into_fallible();
    let tls = match tokio::time::timeout(context.config.greeting_timeout, handshake).await {
        Ok(Ok(tls)) => tls,
        Ok(Err((error, tcp))) => {
            let (reason, why) = tls::refusal_of(&error);
            context.refuse(&address.to_string(), reason, &why);
            linger(tcp).await;
            return;
        }
        Err(_) => {
            let why = "did not finish its handshake in time";
            context.refuse(&address.to_string(), RefuseReason::GreetingTimeout, why);
            return;
        }
    };
    let (_, session) = tls.get_ref();
    let speaks_http2 = session.alpn_protocol() == Some(b"h2");
    let chain: Vec<CertificateDer<'static>> = session
        .peer_certificates()
        .unwrap_or_default()
        .iter()
        .map(|certificate| certificate.clone().into_owned())
        .collect();
    let certified = match &context.config.admission {
        Admission::Tokens(_) => None,
        Admission::Certificates { pipeline, .. } => {
            let own = chain.first().map_or(&[][..], |own| own.as_ref());
            Some(certified_peer(own, pipeline))
        }
    };
    let conn = Arc::new(Conn {
        context: Arc::clone(context),
        address,
        certified,
        chain,
        shown: Mutex::default(),
        active: AtomicUsize::new(0),
        idle_since: Mutex::new(Instant::now()),
        end: watch::Sender::new(None),
    });
    let Some(_registered) = Registered::new(&conn) else {
        context.refuse(
            &conn.name(),
            RefuseReason::Connections,
            "has too many connections",
        );
        return;
    };
    conn.drive(TokioIo::new(tls), speaks_http2).await;
}

/// Closes a connection so that the last words on it arrive: one that is closed while the peer still sends is reset, and
/// the peer may then never read why.
async fn linger(mut tcp: TcpStream) {
    let last_words = async {
        if tcp.shutdown().await.is_err() {
            return;
        }
        let mut buffer = [0; 4096];
        let mut left = LINGER_BYTES;
        while let Ok(n @ 1..) = tcp.read(&mut buffer).await {
            left = left.saturating_sub(n);
            if left == 0 {
                return;
            }
        }
    };
    let _in_time = tokio::time::timeout(END_WAIT, last_words).await;
}

/// Takes the connection out of the list at its end.
struct Registered(u64, Arc<Context>);

impl Registered {
    /// None if its subject has too many.
    fn new(conn: &Arc<Conn>) -> Option<Self> {
        let context = &conn.context;
        let number = context.next_conn.fetch_add(1, Ordering::Relaxed);
        let mut live = lock(&context.live);
        let of_peer = live.values().filter(|other| other.is_of_peer(conn)).count();
        if of_peer >= context.config.max_connections_per_peer {
            return None;
        }
        live.insert(number, Arc::clone(conn));
        Some(Self(number, Arc::clone(context)))
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        lock(&self.1.live).remove(&self.0);
    }
}

/// Counts a request or stream as running.
pub(crate) struct Active(Arc<Conn>);

impl Drop for Active {
    fn drop(&mut self) {
        *lock(&self.0.idle_since) = Instant::now();
        self.0.active.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Conn {
    /// As it is called in the log.
    pub(crate) fn name(&self) -> String {
        match &self.certified {
            Some(Ok(peer)) => format!("{peer} at {}", self.address),
            Some(Err(_)) | None => self.address.to_string(),
        }
    }

    /// True if both are one peer's. A certificate of many nodes, or none, is told apart by its address.
    fn is_of_peer(&self, other: &Self) -> bool {
        let names_its_node = matches!(&self.certified, Some(Ok(peer)) if peer.node.is_some());
        self.certified == other.certified && (names_its_node || self.address.ip() == other.address.ip())
    }

    pub(crate) fn enter(self: &Arc<Self>) -> Active {
        self.active.fetch_add(1, Ordering::Relaxed);
        Active(Arc::clone(self))
    }

    async fn drive<I>(self: Arc<Self>, io: I, speaks_http2: bool)
    where
        I: hyper::rt::Read + hyper::rt::Write + Unpin + 'static,
    {
        let conn = Arc::clone(&self);
        let service = hyper::service::service_fn(move |request| {
            let conn = Arc::clone(&conn);
            async move { Ok::<_, Infallible>(conn.answer(request).await) }
        });
        if speaks_http2 {
            let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .max_concurrent_streams(MAX_STREAMS)
                .max_header_list_size(MAX_HEADER_BYTES)
                .initial_stream_window_size(WINDOW_BYTES)
                .initial_connection_window_size(2 * WINDOW_BYTES)
                .max_send_buf_size(64 << 10)
                .max_pending_accept_reset_streams(16)
                .max_local_error_reset_streams(16)
                .keep_alive_interval(KEEP_ALIVE)
                .keep_alive_timeout(KEEP_ALIVE)
                .serve_connection(io, service);
            self.to_its_end(connection).await;
        } else {
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(self.context.config.greeting_timeout)
                .max_buf_size(MAX_HEADER_BYTES as usize)
                .serve_connection(io, service);
            self.to_its_end(connection).await;
        }
    }

    /// Lets a connection run until it ends or is to end. Whatever ends it, its streams have counted and said what is to be
    /// said.
    async fn to_its_end(&self, connection: impl GracefulConnection) {
        let mut connection = std::pin::pin!(connection);
        tokio::select! {
            _ended = connection.as_mut() => return,
            () = self.until_end() => {}
        }
        connection.as_mut().graceful_shutdown();
        let _in_time = tokio::time::timeout(END_WAIT, connection).await;
    }

    /// Returns when the connection is to end: for its age, its silence, or because it was told to.
    async fn until_end(&self) {
        let config = &self.context.config;
        let age = config.max_connection_age;
        // Spread, so that nodes that connected together do not come again together.
        let spread = age.mul_f64(f64::from(u8::try_from(self.address.port() % 101).unwrap_or(0)) / 1000.0);
        let mut end = self.end.subscribe();
        let mut phase = self.context.phase.clone();
        let mut looks =
            tokio::time::interval(config.greeting_timeout.div_f64(2.0).max(Duration::from_millis(1)));
        let old = tokio::time::sleep(age + spread);
        tokio::pin!(old);
        loop {
            tokio::select! {
                () = &mut old => {
                    self.end.send_if_modified(|why| {
                        let is_first = why.is_none();
                        why.get_or_insert("its age");
                        is_first
                    });
                    return;
                }
                is_over = async { end.wait_for(Option::is_some).await.is_ok() } => {
                    tracing::trace!("{} is told to end: {is_over}", self.name());
                    return;
                }
                () = stream::reaches(&mut phase, Phase::End) => return,
                _ = looks.tick() => {
                    let silent = lock(&self.idle_since).elapsed() >= config.greeting_timeout;
                    if silent && self.active.load(Ordering::Relaxed) == 0 {
                        return;
                    }
                }
            }
        }
    }

    async fn answer(self: &Arc<Self>, request: http::Request<Incoming>) -> http::Response<Body> {
        let _active = self.enter();
        match (request.method(), request.uri().path()) {
            (&Method::POST, proto::METHOD) => self.events(request).await,
            (&Method::GET, "/report") => self.report(),
            _ => text(StatusCode::NOT_FOUND, "here are ja4.v1.Events and /report\n"),
        }
    }

    async fn events(self: &Arc<Self>, request: http::Request<Incoming>) -> http::Response<Body> {
        let speaker = match self.speaker(&request) {
            Ok(speaker) => speaker,
            Err((reason, why, status)) => {
                self.context.refuse(&self.name(), reason, &why);
                return status.into_http();
            }
        };
        let conn = Arc::clone(self);
        let service = tower::service_fn(move |request: tonic::Request<tonic::Streaming<ClientFrame>>| {
            let frames = request.into_inner();
            let replies = stream::begin(Arc::clone(&conn), speaker.clone(), frames);
            std::future::ready(Ok::<_, tonic::Status>(tonic::Response::new(replies)))
        });
        let codec = tonic_prost::ProstCodec::<ServerFrame, ClientFrame>::default();
        tonic::server::Grpc::new(codec)
            .max_decoding_message_size(proto::MAX_MESSAGE)
            .streaming(service, request)
            .await
    }

    /// Who may send events on a stream that begins now.
    fn speaker(
        &self,
        request: &http::Request<Incoming>,
    ) -> Result<Speaker, (RefuseReason, String, tonic::Status)> {
        let denied = |reason, why: String| {
            let status = tonic::Status::permission_denied(format!("refused: {why}"));
            Err((reason, why, status))
        };
        match &self.certified {
            Some(Ok(peer)) if peer.role == PeerRole::Forward => return Ok(Speaker::Node(peer.clone())),
            Some(Ok(peer)) => {
                let why = format!("has the role {}, events need forward", peer.role.name());
                return denied(RefuseReason::CertificateRole, why);
            }
            Some(Err(error)) => {
                return denied(RefuseReason::CertificateName, format!("is not known: {error}"));
            }
            None => {}
        }
        let Admission::Tokens(sources) = &self.context.config.admission else {
            let why = "shows no certificate".to_owned();
            return Err((
                RefuseReason::NoCertificate,
                why.clone(),
                tonic::Status::unauthenticated(why),
            ));
        };
        let token = request
            .headers()
            .get(header::AUTHORIZATION)
            .and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
        let current = lock(&self.context.current);
        let found = token.and_then(|token| current.tokens.find(token.trim_ascii()));
        let Some(idx) = found else {
            let why = if token.is_some() {
                "shows a token that is not known"
            } else {
                "shows no token"
            };
            return Err((
                RefuseReason::Token,
                why.to_owned(),
                tonic::Status::unauthenticated(why),
            ));
        };
        if let Some(hash) = current.tokens.hash(idx) {
            lock(&self.shown).insert(idx, *hash);
        }
        drop(current);
        Ok(Speaker::Source {
            name: sources[idx].name.clone(),
        })
    }

    fn report(&self) -> http::Response<Body> {
        let Some(report) = &self.context.config.report else {
            return text(StatusCode::NOT_FOUND, "no report is made here\n");
        };
        let peer = match &self.certified {
            Some(Ok(peer)) if peer.role.may_read() => peer,
            Some(Err(error)) => {
                let why = format!("asked for the report and is not known: {error}");
                self.context
                    .refuse(&self.name(), RefuseReason::CertificateName, &why);
                return text(
                    StatusCode::FORBIDDEN,
                    "the report needs a certificate of this pipeline\n",
                );
            }
            Some(Ok(_)) | None => {
                let why = "asked for the report, which needs the role operator or reader";
                self.context
                    .refuse(&self.name(), RefuseReason::CertificateRole, why);
                return text(
                    StatusCode::FORBIDDEN,
                    "the report needs the role operator or reader\n",
                );
            }
        };
        tracing::debug!("report for {peer}");
        let json = report(self.context.shared.hub().facts());
        respond(StatusCode::OK, "application/json", json)
    }
}

fn text(status: StatusCode, body: &'static str) -> http::Response<Body> {
    respond(status, "text/plain", body.as_bytes().to_vec())
}

fn respond(status: StatusCode, content_type: &'static str, body: Vec<u8>) -> http::Response<Body> {
    http::Response::builder()
        .status(status)
        .header(header::CONTENT_TYPE, content_type)
        .header(header::CACHE_CONTROL, "no-store")
        .body(Body::new(Full::new(bytes::Bytes::from(body))))
        .expect("status and content type are constants")
}
