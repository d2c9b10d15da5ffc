//! Our own client: TLS by rustls in three settings, HTTP/2 by `h2`, HTTP/1.1 by hand, from a chosen address.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::client::TlsStream;

use super::{Shared, with_cid};

/// Longest wait for a connection or an answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Largest answer: twice the site's largest download.
const MAX_ANSWER_BYTES: usize = 2 << 20;

/// TLS settings that give different hellos.
#[derive(Debug)]
pub struct Stacks(Vec<Arc<ClientConfig>>);

impl Stacks {
    /// Modern with HTTP/2; TLS 1.3 alone with HTTP/1.1; TLS 1.2 alone with few suites.
    pub(crate) fn new() -> Self {
        let modern = ring::default_provider();
        let mut old = ring::default_provider();
        old.cipher_suites
            .retain(|suite| suite.version().version == rustls::ProtocolVersion::TLSv1_2);
        old.kx_groups.truncate(2);
        let versions: [&[&rustls::SupportedProtocolVersion]; 3] = [
            rustls::ALL_VERSIONS,
            &[&rustls::version::TLS13],
            &[&rustls::version::TLS12],
        ];
        let alpn: [&[&[u8]]; 3] = [&[b"h2", b"http/1.1"], &[b"http/1.1"], &[b"http/1.1"]];
        let providers = [modern.clone(), modern, old];
        let configs = providers.into_iter().zip(versions).zip(alpn);
        Self(
            configs
                .map(|((provider, versions), alpn)| Arc::new(client_config(provider, versions, alpn)))
                .collect(),
        )
    }

    /// Which of them a client of this number has; most have the first, as most libraries are modern.
    pub(crate) const fn index(n: u32) -> usize {
        match n % 6 {
            4 => 1,
            5 => 2,
            _ => 0,
        }
    }

    /// The one of [`Stacks::index`].
    pub(crate) fn choose(&self, n: u32) -> Arc<ClientConfig> {
        Arc::clone(&self.0[Self::index(n)])
    }
}

fn client_config(
    provider: CryptoProvider,
    versions: &[&'static rustls::SupportedProtocolVersion],
    alpn: &[&[u8]],
) -> ClientConfig {
    let provider = Arc::new(provider);
    let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions)
        .expect("every provider here has suites for its versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Unchecked(provider)))
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    config
}

/// Takes any certificate: the site makes its own at each start, and only what goes over the wire matters.
#[derive(Debug)]
struct Unchecked(Arc<CryptoProvider>);

impl ServerCertVerifier for Unchecked {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// What came back.
#[derive(Debug, Clone, Default)]
pub struct Reply {
    /// Status.
    pub status: u16,
    /// Lower-case names.
    pub headers: Vec<(String, String)>,
    /// Body.
    pub body: Vec<u8>,
}

impl Reply {
    /// First value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        let known = self.headers.iter().find(|(known, _)| known == name);
        known.map(|(_, value)| value.as_str())
    }
}

/// A connection that has not failed yet.
#[derive(Debug)]
pub struct Session {
    cid: String,
    host: String,
    wire: Wire,
}

#[derive(Debug)]
enum Wire {
    Http1(Box<TlsStream<TcpStream>>),
    Http2(h2::client::SendRequest<Bytes>),
}

impl Session {
    /// Connects from `address`.
    ///
    /// # Errors
    /// The name of the step that failed.
    pub(crate) async fn open(
        shared: &Shared,
        address: IpAddr,
        tls: Arc<ClientConfig>,
    ) -> Result<Self, &'static str> {
        let config = &shared.config;
        let name = ServerName::try_from(config.server_name.clone()).map_err(|_| "server_name")?;
        let connecting = async {
            let socket = TcpSocket::new_v4().map_err(|_| "socket")?;
            socket.bind(SocketAddr::new(address, 0)).map_err(|_| "bind")?;
            let tcp = socket.connect(config.server).await.map_err(|_| "connect")?;
            let connector = tokio_rustls::TlsConnector::from(tls);
            connector.connect(name, tcp).await.map_err(|_| "tls")
        };
        let stream = tokio::time::timeout(TIMEOUT, connecting)
            .await
            .unwrap_or(Err("connect_timeout"))?;
        let wire = if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
            let (send, connection) = h2::client::Builder::new()
                .enable_push(false)
                .initial_window_size(1 << 20)
                .initial_connection_window_size(4 << 20)
                .handshake(stream)
                .await
                .map_err(|_| "h2")?;
            // Ends with its last handle; what it ends with shows at the requests.
            tokio::spawn(async move { connection.await.is_ok() });
            Wire::Http2(send)
        } else {
            Wire::Http1(Box::new(stream))
        };
        Ok(Self {
            cid: shared.next_cid(),
            host: format!("{}:{}", config.server_name, config.server.port()),
            wire,
        })
    }

    /// A handle for a parallel request on the same connection, where the protocol has that.
    pub(crate) fn share(&self) -> Option<Self> {
        match &self.wire {
            Wire::Http1(_) => None,
            Wire::Http2(send) => Some(Self {
                cid: self.cid.clone(),
                host: self.host.clone(),
                wire: Wire::Http2(send.clone()),
            }),
        }
    }

    /// Sends one request and waits for its answer. After an error the session must not be used.
    ///
    /// # Errors
    /// The reason.
    pub(crate) async fn request(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(&str, String)],
        body: &str,
    ) -> Result<Reply, &'static str> {
        let target = with_cid(target, &self.cid);
        let exchange = async {
            match &mut self.wire {
                Wire::Http1(stream) => http1(stream, &self.host, method, &target, headers, body).await,
                Wire::Http2(send) => http2(send, &self.host, method, &target, headers, body).await,
            }
        };
        tokio::time::timeout(TIMEOUT, exchange)
            .await
            .unwrap_or(Err("answer_timeout"))
    }
}

async fn http1(
    stream: &mut TlsStream<TcpStream>,
    host: &str,
    method: &str,
    target: &str,
    headers: &[(&str, String)],
    body: &str,
) -> Result<Reply, &'static str> {
    let mut text = format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n");
    for (name, value) in headers {
        write!(text, "{name}: {value}\r\n").expect("writing to a String does not fail");
    }
    if method == "POST" {
        write!(text, "Content-Length: {}\r\n", body.len()).expect("writing to a String does not fail");
    }
    text += "\r\n";
    text += body;
    stream.write_all(text.as_bytes()).await.map_err(|_| "send")?;
    stream.flush().await.map_err(|_| "send")?;
    let mut bytes = Vec::new();
    let (mut reply, at, length) = loop {
        if stream.read_buf(&mut bytes).await.map_err(|_| "reset")? == 0 {
            return Err("closed");
        }
        if let Some(parsed) = parse_head(&bytes)? {
            break parsed;
        }
    };
    while bytes.len() < at + length {
        if stream.read_buf(&mut bytes).await.map_err(|_| "reset")? == 0 {
            return Err("closed");
        }
    }
    reply.body = bytes.split_off(at);
    Ok(reply)
}

/// Head, where the body begins, and its length.
fn parse_head(bytes: &[u8]) -> Result<Option<(Reply, usize, usize)>, &'static str> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut response = httparse::Response::new(&mut headers);
    let at = match response.parse(bytes) {
        Ok(httparse::Status::Complete(at)) => at,
        Ok(httparse::Status::Partial) if bytes.len() < MAX_ANSWER_BYTES => return Ok(None),
        _ => return Err("malformed_answer"),
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let reply = Reply {
        status: response.code.unwrap_or(0),
        headers: response
            .headers
            .iter()
            .map(|header| (header.name.to_ascii_lowercase(), text(header.value)))
            .collect(),
        body: Vec::new(),
    };
    let length = reply.header("content-length").map_or(Ok(0), str::parse);
    let length = length.map_err(|_| "malformed_answer")?;
    if length > MAX_ANSWER_BYTES {
        return Err("answer_too_large");
    }
    Ok(Some((reply, at, length)))
}

async fn http2(
    send: &mut h2::client::SendRequest<Bytes>,
    host: &str,
    method: &str,
    target: &str,
    headers: &[(&str, String)],
    body: &str,
) -> Result<Reply, &'static str> {
    let mut request = http::Request::builder()
        .method(method)
        .version(http::Version::HTTP_2)
        .uri(format!("https://{host}{target}"));
    for (name, value) in headers {
        request = request.header(name.to_ascii_lowercase(), value);
    }
    let request = request.body(()).map_err(|_| "malformed_request")?;
    let mut send = send.clone().ready().await.map_err(|_| "closed")?;
    let (response, mut stream) = send.send_request(request, body.is_empty()).map_err(|_| "send")?;
    if !body.is_empty() {
        stream
            .send_data(Bytes::from(body.to_owned()), true)
            .map_err(|_| "send")?;
    }
    let (parts, mut incoming) = response.await.map_err(|_| "reset")?.into_parts();
    let mut reply = Reply {
        status: parts.status.as_u16(),
        headers: parts
            .headers
            .iter()
            .filter_map(|(name, value)| Some((name.to_string(), value.to_str().ok()?.to_owned())))
            .collect(),
        body: Vec::new(),
    };
    while let Some(part) = incoming.data().await {
        let part = part.map_err(|_| "reset")?;
        if reply.body.len() + part.len() > MAX_ANSWER_BYTES {
            return Err("answer_too_large");
        }
        reply.body.extend_from_slice(&part);
        incoming
            .flow_control()
            .release_capacity(part.len())
            .map_err(|_| "reset")?;
    }
    Ok(reply)
}
