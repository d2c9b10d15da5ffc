//! A node's side of the hop: files of credentials, a connection, its stream.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use http::uri::PathAndQuery;
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::pki_types::ServerName;
use rustls::{AlertDescription, ClientConfig};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::body::Body;

use tonic::{Request, Streaming};

use super::proto::{self, ClientFrame, ServerFrame};
use super::tls::{self, CertificateFiles, FileBytes, TlsError};

/// Frames that wait for the network; what is behind them waits in the spool.
const FRAMES: usize = 8;

/// What the correlator may send ahead: acknowledgements are small.
const WINDOW_BYTES: u32 = 256 << 10;

/// A correlator that has vanished is found out within twice this.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// Files that a node proves itself with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CredentialFiles {
    /// Bundle of the issuers of the server's certificate, PEM.
    pub trust: PathBuf,
    /// Own certificate, for mutual TLS.
    pub own: Option<CertificateFiles>,
    /// Token of the source, where tokens decide.
    pub token: Option<PathBuf>,
}

/// What the files held.
#[derive(Clone)]
pub struct Credentials {
    files: CredentialFiles,
    bytes: FileBytes,
    tls: Arc<ClientConfig>,
    authorization: Option<http::HeaderValue>,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials")
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}

impl CredentialFiles {
    fn paths(&self) -> impl Iterator<Item = &Path> {
        let own = self.own.iter().flat_map(|own| [&*own.certificate, &*own.key]);
        std::iter::once(&*self.trust)
            .chain(own)
            .chain(self.token.as_deref())
    }

    /// Reads them.
    ///
    /// # Errors
    /// See [`TlsError`].
    pub fn load(&self) -> Result<Credentials, TlsError> {
        let bytes = FileBytes::read(self.paths())?;
        let tls = tls::client_side(&self.trust, self.own.as_ref(), &bytes)?;
        let authorization = self
            .token
            .as_ref()
            .map(|path| {
                let at = self.paths().count() - 1;
                let value = [b"Bearer ", bytes.get(at).trim_ascii()].concat();
                let mut value = http::HeaderValue::from_bytes(&value).map_err(|error| TlsError::Content {
                    path: path.clone(),
                    what: "token",
                    reason: error.to_string(),
                })?;
                value.set_sensitive(true);
                Ok(value)
            })
            .transpose()?;
        Ok(Credentials {
            files: self.clone(),
            bytes,
            tls,
            authorization,
        })
    }
}

impl Credentials {
    /// The credentials of now, if the files have changed.
    ///
    /// # Errors
    /// If they have and cannot be used; those from before stay good.
    pub fn reloaded(&self) -> Result<Option<Self>, TlsError> {
        if FileBytes::read(self.files.paths())? == self.bytes {
            return Ok(None);
        }
        self.files.load().map(Some)
    }
}

/// Where to connect.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LinkConfig {
    /// `HOST:PORT`; a name is looked up at each connection.
    pub address: String,
    /// Name in the server's certificate; default: the host of `address`.
    pub server_name: Option<String>,
    /// Longest time for connecting and for the handshake, each.
    pub connect_timeout: Duration,
}

/// Why there is no link.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The address is none.
    #[error("{0:?} is no address such as correlator.example:9443")]
    Address(String),
    /// Nobody listens, or the network is away.
    #[error("cannot connect")]
    Connect(#[source] std::io::Error),
    /// Not in time.
    #[error("no answer in time")]
    Timeout,
    /// TLS failed: one of both does not trust the other.
    #[error("TLS handshake failed")]
    Handshake(#[source] std::io::Error),
    /// The correlator does not accept our certificate. In TLS 1.3 it says so when the handshake is over on our side.
    #[error("{}", alert_words(*.0))]
    Alert(AlertDescription),
    /// HTTP/2 failed.
    #[error("connection broke")]
    Http(#[source] hyper::Error),
    /// The correlator refused, or ended the stream.
    #[error("{} ({:?})", .0.message(), .0.code())]
    Ended(Box<tonic::Status>),
}

impl LinkError {
    /// True if waiting will not mend it: the correlator refuses who we are.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Ended(status) => matches!(
                status.code(),
                tonic::Code::PermissionDenied
                    | tonic::Code::Unauthenticated
                    | tonic::Code::InvalidArgument
                    | tonic::Code::FailedPrecondition
            ),
            Self::Handshake(_) | Self::Alert(_) | Self::Address(_) => true,
            Self::Connect(_) | Self::Timeout | Self::Http(_) => false,
        }
    }
}

fn alert_words(alert: AlertDescription) -> String {
    match alert {
        AlertDescription::CertificateExpired => "it says that our certificate has expired".to_owned(),
        AlertDescription::UnknownCA => {
            "it says that the issuer of our certificate is not in its trust bundle".to_owned()
        }
        AlertDescription::CertificateRequired => "it wants a certificate and we have none".to_owned(),
        AlertDescription::DecryptError => {
            "it says that our certificate was signed with another key than the issuer of that name in its trust bundle has"
                .to_owned()
        }
        other => format!("it does not accept our certificate (alert {other:?})"),
    }
}

/// An open stream.
#[derive(Debug)]
pub struct Link {
    /// Frames to the correlator; it waits when the correlator does not read.
    pub frames: mpsc::Sender<ClientFrame>,
    replies: Streaming<ServerFrame>,
    alert: Alert,
    connection: JoinHandle<()>,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Link {
    /// Connects and opens the stream. Nothing is sent on it yet.
    ///
    /// # Errors
    /// See [`LinkError`].
    pub async fn open(config: &LinkConfig, credentials: &Credentials) -> Result<Self, LinkError> {
        let bad_address = || LinkError::Address(config.address.clone());
        let (host, _) = config.address.rsplit_once(':').ok_or_else(bad_address)?;
        let name = config
            .server_name
            .as_deref()
            .unwrap_or_else(|| host.trim_matches(['[', ']']));
        let server_name = ServerName::try_from(name.to_owned()).map_err(|_| bad_address())?;
        let tcp = tokio::time::timeout(config.connect_timeout, TcpStream::connect(&config.address))
            .await
            .map_err(|_| LinkError::Timeout)?
            .map_err(LinkError::Connect)?;
        // Frames are whole when they are written; waiting for more only delays them.
        let _best_effort = tcp.set_nodelay(true);
        let connector = TlsConnector::from(Arc::clone(&credentials.tls));
        let tls = tokio::time::timeout(config.connect_timeout, connector.connect(server_name, tcp))
            .await
            .map_err(|_| LinkError::Timeout)?
            .map_err(LinkError::Handshake)?;
        let alert = Alert::default();
        let tls = Watched {
            tls,
            alert: Arc::clone(&alert),
        };
        let handshake = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(2 * WINDOW_BYTES)
            .max_header_list_size(16 << 10)
            .keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE)
            .keep_alive_while_idle(true)
            .handshake(TokioIo::new(tls));
        let (requests, connection) = tokio::time::timeout(config.connect_timeout, handshake)
            .await
            .map_err(|_| LinkError::Timeout)?
            .map_err(|error| or_alert(&alert, LinkError::Http(error)))?;
        let connection = tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!("the connection to the correlator ended: {error}");
            }
        });
        let origin: Uri = format!("https://{}", config.address)
            .parse()
            .map_err(|_| bad_address())?;
        let mut grpc = tonic::client::Grpc::with_origin(Http2(requests), origin)
            .max_decoding_message_size(proto::MAX_MESSAGE);
        let (frames, outgoing) = mpsc::channel(FRAMES);
        let mut request = Request::new(ReceiverStream::new(outgoing));
        if let Some(value) = &credentials.authorization
            && let Ok(value) = tonic::metadata::MetadataValue::try_from(value.as_bytes())
        {
            request.metadata_mut().insert("authorization", value);
        }
        let codec = tonic_prost::ProstCodec::<ClientFrame, ServerFrame>::default();
        let opened = async {
            grpc.ready().await.map_err(LinkError::Http)?;
            grpc.streaming(request, PathAndQuery::from_static(proto::METHOD), codec)
                .await
                .map_err(|status| LinkError::Ended(Box::new(status)))
        };
        let result = tokio::time::timeout(config.connect_timeout, opened).await;
        let replies = match result {
            Ok(Ok(response)) => response.into_inner(),
            Ok(Err(error)) => {
                connection.abort();
                return Err(or_alert(&alert, error));
            }
            Err(_) => {
                connection.abort();
                return Err(LinkError::Timeout);
            }
        };
        Ok(Self {
            frames,
            replies,
            alert,
            connection,
        })
    }

    /// The next reply; nothing when the correlator has ended the stream in order. May be dropped before it is there.
    ///
    /// # Errors
    /// If the stream broke or was refused.
    pub async fn reply(&mut self) -> Result<Option<ServerFrame>, LinkError> {
        self.replies
            .message()
            .await
            .map_err(|status| or_alert(&self.alert, LinkError::Ended(Box::new(status))))
    }
}

/// What the server's TLS said at the end, if it said why.
type Alert = Arc<OnceLock<AlertDescription>>;

/// The error, or the alert that was its cause.
fn or_alert(alert: &Alert, error: LinkError) -> LinkError {
    alert.get().map_or(error, |alert| LinkError::Alert(*alert))
}

/// The connection, from which an alert is kept: HTTP/2 only says that the connection broke.
struct Watched {
    tls: TlsStream<TcpStream>,
    alert: Alert,
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let read = Pin::new(&mut self.tls).poll_read(context, buffer);
        if let Poll::Ready(Err(error)) = &read
            && let Some(rustls::Error::AlertReceived(alert)) = tls::rustls_error(error)
        {
            let _first = self.alert.set(*alert);
        }
        read
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.tls).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.tls).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.tls).poll_shutdown(context)
    }
}

/// The connection as tonic wants it.
struct Http2(SendRequest<Body>);

impl tower::Service<http::Request<Body>> for Http2 {
    type Response = http::Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}
