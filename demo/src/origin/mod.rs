//! The site: accepts, serves, and reports every request to the receiver.
//!
//! ```text
//! accept -> TLS -> HTTP/1 decoder, or h2 under an observer -> site
//!                     `-- head with order, case, duplicates --> emitter -> http.socket
//! ```

pub mod certificate;
pub mod config;
pub mod counts;
pub mod report;
pub mod serve;
pub mod site;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use ja4_common::Shutdown;
use ja4_common::ledger::{Ledger, Stage};
use ja4_emit::{EmitConfig, Emitter};
use ja4_model::Text;
use ja4_model::address::Pair;
use ja4_model::request::ServerTls;
use ppp::{HeaderResult, PartialResult as _, v1, v2};
use socket2::{Domain, Socket, Type};
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use config::OriginConfig;
use counts::Counts;
use report::{Connection, Reporter};
use site::Site;

/// Connections that the kernel holds for us: a burst of a few thousand clients.
const BACKLOG: i32 = 1024;

/// What all connections share.
#[derive(Debug)]
pub struct Shared {
    config: OriginConfig,
    site: Site,
    reporter: Reporter,
    requests: Counts,
    connections: Counts,
    shutdown: Shutdown,
    next_id: std::sync::atomic::AtomicU64,
    next_session: std::sync::atomic::AtomicU64,
    sessions: std::hash::RandomState,
}

impl Shared {
    /// Number of a session that nobody had, in this run or another.
    fn new_session(&self) -> u64 {
        let number = self
            .next_session
            .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        std::hash::BuildHasher::hash_one(&self.sessions, number)
    }

    /// Connections, requests and events, each with its equation.
    pub fn ledger(&self) -> Ledger {
        let counters = self.reporter.emitter().counters();
        let is_stream = self.config.socket_kind == config::SocketType::Stream;
        let mut events = Stage {
            received: counters.next_seq,
            passed: if is_stream { counters.acked } else { counters.sent },
            pending: counters.pending,
            ..Stage::new("demo.events")
        };
        for (reason, n) in &counters.dropped {
            events.drop_for(reason.name(), *n);
        }
        Ledger {
            stages: vec![self.connections.stage(), self.requests.stage(), events],
            facts: BTreeMap::new(),
        }
    }

    /// True while the receiver listens.
    pub fn is_connected(&self) -> bool {
        self.reporter.emitter().counters().connected
    }
}

/// A site that listens.
#[derive(Debug)]
pub struct Origin {
    shared: Arc<Shared>,
    secure: TcpListener,
    plain: Option<TcpListener>,
    acceptor: Arc<rustls::ServerConfig>,
}

impl Origin {
    /// Listens and connects to the receiver. Needs a tokio runtime.
    ///
    /// # Errors
    /// An address that is taken, a name that is none, a folder that cannot be written.
    pub fn bind(config: OriginConfig, node: String, shutdown: Shutdown) -> anyhow::Result<Self> {
        let (server, ca_pem) = certificate::make(&config.names)?;
        if let Some(folder) = &config.data {
            certificate::write(folder, &ca_pem)?;
        }
        let secure = listen(config.listen, "listen")?;
        let plain = config
            .listen_plain
            .map(|address| listen(address, "listen_plain"))
            .transpose()?;
        let boot = ja4_emit::random_boot().context("cannot get random numbers")?;
        let emitter = Emitter::start(EmitConfig {
            buffer_bytes: config.buffer.as_usize(),
            ..EmitConfig::new(
                &config.socket,
                config.socket_kind.into(),
                &config.source,
                node,
                boot,
            )
        })?;
        let shared = Shared {
            site: Site::new(config.seed),
            reporter: Reporter::new(emitter, config.emit),
            requests: Counts::new("demo.requests"),
            connections: Counts::new("demo.connections"),
            shutdown,
            next_id: std::sync::atomic::AtomicU64::new(0),
            next_session: std::sync::atomic::AtomicU64::new(0),
            sessions: std::hash::RandomState::new(),
            config,
        };
        Ok(Self {
            shared: Arc::new(shared),
            secure,
            plain,
            acceptor: Arc::new(server),
        })
    }

    /// For the ledger and readiness.
    pub fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    /// Where HTTPS is served, with the real port.
    ///
    /// # Errors
    /// The kernel does not know.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.secure.local_addr()
    }

    /// Where plain HTTP is served, if anywhere.
    pub fn plain_address(&self) -> Option<SocketAddr> {
        self.plain.as_ref().and_then(|plain| plain.local_addr().ok())
    }

    /// Serves until the shutdown is requested, then lets answers and events go out.
    pub async fn run(self) {
        let places = Arc::new(Semaphore::new(self.shared.config.max_connections));
        let acceptor = TlsAcceptor::from(self.acceptor);
        let secure = accept_all(self.secure, Some(acceptor), &places, &self.shared);
        let plain = async {
            if let Some(plain) = self.plain {
                accept_all(plain, None, &places, &self.shared).await;
            }
        };
        tokio::join!(secure, plain);
        let deadline = tokio::time::Instant::now() + self.shared.config.drain_timeout.0;
        let all = u32::try_from(self.shared.config.max_connections).unwrap_or(u32::MAX);
        if tokio::time::timeout_at(deadline, places.acquire_many(all))
            .await
            .is_err()
        {
            tracing::warn!("connections are left after drain_timeout: closing them");
        }
        let shared = Arc::clone(&self.shared);
        let stopping = tokio::task::spawn_blocking(move || {
            shared.reporter.emitter().stop(shared.config.drain_timeout.0);
        });
        if stopping.await.is_err() {
            tracing::error!("the emitter did not stop in order");
        }
    }
}

fn listen(address: SocketAddr, key: &str) -> anyhow::Result<TcpListener> {
    let open = || -> std::io::Result<TcpListener> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        TcpListener::from_std(socket.into())
    };
    open().with_context(|| format!("cannot listen on {address}; stop what listens there or change {key}"))
}

async fn accept_all(
    listener: TcpListener,
    acceptor: Option<TlsAcceptor>,
    places: &Arc<Semaphore>,
    shared: &Arc<Shared>,
) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shared.shutdown.requested() => return,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!("cannot accept: {error}");
                // Out of descriptors: others must close theirs first.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(places).try_acquire_owned() else {
            shared.connections.begin().fail("max_connections");
            continue;
        };
        let (acceptor, shared) = (acceptor.clone(), Arc::clone(shared));
        tokio::spawn(async move {
            let pending = shared.connections.begin();
            match converse(stream, peer, acceptor, &shared).await {
                "closed" | "idle" | "stopped" => pending.pass(),
                reason => pending.fail(reason),
            }
            drop(place);
        });
    }
}

/// Longest PROXY header that is read: addresses and extensions. Load balancers send some hundred bytes.
const PROXY_HEADER_MAX: usize = 4096;

/// Takes the PROXY header off the stream, and gives the client that it names.
async fn proxy_client(stream: &mut TcpStream) -> std::io::Result<Option<SocketAddr>> {
    /// Between two looks at a header that came in part, which load balancers do not send.
    const LOOK_AGAIN: Duration = Duration::from_millis(1);
    let mut start = [0; PROXY_HEADER_MAX];
    loop {
        let n = stream.peek(&mut start).await?;
        let header = HeaderResult::parse(&start[..n]);
        if header.is_incomplete() && (1..PROXY_HEADER_MAX).contains(&n) {
            tokio::time::sleep(LOOK_AGAIN).await;
            continue;
        }
        let (length, client) = match header {
            HeaderResult::V1(Ok(header)) => (header.header.len(), client_of_line(header.addresses)),
            HeaderResult::V2(Ok(header)) => (header.len(), client_of_binary(&header)),
            HeaderResult::V1(Err(_)) | HeaderResult::V2(Err(_)) => {
                return Err(std::io::ErrorKind::InvalidData.into());
            }
        };
        stream.read_exact(&mut start[..length]).await?;
        return Ok(client);
    }
}

fn client_of_line(addresses: v1::Addresses) -> Option<SocketAddr> {
    match addresses {
        v1::Addresses::Unknown => None,
        v1::Addresses::Tcp4(pair) => Some((pair.source_address, pair.source_port).into()),
        v1::Addresses::Tcp6(pair) => Some((pair.source_address, pair.source_port).into()),
    }
}

/// None where the balancer speaks for itself.
fn client_of_binary(header: &v2::Header<'_>) -> Option<SocketAddr> {
    match header.addresses {
        _ if header.command == v2::Command::Local => None,
        v2::Addresses::IPv4(pair) => Some((pair.source_address, pair.source_port).into()),
        v2::Addresses::IPv6(pair) => Some((pair.source_address, pair.source_port).into()),
        v2::Addresses::Unspecified | v2::Addresses::Unix(_) => None,
    }
}

async fn converse(
    mut stream: TcpStream,
    peer: SocketAddr,
    acceptor: Option<TlsAcceptor>,
    shared: &Arc<Shared>,
) -> &'static str {
    let Ok(local) = stream.local_addr() else {
        return "client_gone";
    };
    // Answers are written whole; without it the last segment waits for an acknowledgement.
    if stream.set_nodelay(true).is_err() {
        return "client_gone";
    }
    let mut connection = Connection {
        pair: Pair {
            client: peer.into(),
            server: local.into(),
        },
        proxy_client: None,
        id: shared.next_id.fetch_add(1, std::sync::atomic::Ordering::Relaxed),
        tls: None,
    };
    if shared.config.proxy_protocol {
        match timeout(shared.config.request_timeout.0, proxy_client(&mut stream)).await {
            Ok(Ok(client)) => connection.proxy_client = client.map(Into::into),
            Ok(Err(_)) => return "proxy_header",
            Err(_) => return "proxy_timeout",
        }
    }
    let Some(acceptor) = acceptor else {
        return serve::http1(stream, &connection, shared).await;
    };
    let stream = match timeout(shared.config.request_timeout.0, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(_)) => return "tls_handshake",
        Err(_) => return "tls_timeout",
    };
    let session = stream.get_ref().1;
    connection.tls = Some(tls_facts(session));
    if session.alpn_protocol() == Some(b"h2") {
        serve::http2(stream, &Arc::new(connection), shared).await
    } else {
        serve::http1(stream, &connection, shared).await
    }
}

fn tls_facts(session: &rustls::ServerConnection) -> ServerTls<'static> {
    let version = match session.protocol_version() {
        Some(rustls::ProtocolVersion::TLSv1_2) => "TLSv1.2",
        Some(rustls::ProtocolVersion::TLSv1_3) => "TLSv1.3",
        _ => "",
    };
    let cipher = session
        .negotiated_cipher_suite()
        .and_then(|suite| suite.suite().as_str())
        .map(|name| name.replace("TLS13_", "TLS_"));
    ServerTls {
        version: Text::from(version),
        cipher: Text::from(cipher.unwrap_or_default()),
        sni: Text::from(session.server_name().unwrap_or_default().to_owned()),
        resumed: session.handshake_kind() == Some(rustls::HandshakeKind::Resumed),
        ..ServerTls::default()
    }
}
