//! Certificates, keys and trust bundles: read from files, and again when the files change.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{CertificateError, ClientConfig, RootCertStore, ServerConfig};

use crate::counters::RefuseReason;

/// Longest of these files, bytes: a bundle of some hundred issuers.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Where a certificate and its key are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CertificateFiles {
    /// The chain, PEM, the own certificate first.
    pub certificate: PathBuf,
    /// Its key, PEM.
    pub key: PathBuf,
}

/// Why files cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{path:?} cannot be read")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file is not what it should be.
    #[error("{path:?} holds no {what}: {reason}")]
    Content {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
        /// Why it does not.
        reason: String,
    },
    /// Key and certificate do not fit, or the bundle is empty.
    #[error("certificate, key and trust bundle cannot be used together: {0}")]
    Unfit(String),
}

/// The bytes of some files, to see when one has changed.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct FileBytes(Vec<Vec<u8>>);

impl FileBytes {
    pub(crate) fn read<'p>(paths: impl IntoIterator<Item = &'p Path>) -> Result<Self, TlsError> {
        let read = |path: &'p Path| {
            let failed = |source| TlsError::Read {
                path: path.to_owned(),
                source,
            };
            let length = std::fs::metadata(path).map_err(failed)?.len();
            if length > MAX_FILE_BYTES {
                return Err(failed(std::io::Error::other("it is longer than a mebibyte")));
            }
            std::fs::read(path).map_err(failed)
        };
        Ok(Self(paths.into_iter().map(read).collect::<Result<_, _>>()?))
    }

    pub(crate) fn get(&self, idx: usize) -> &[u8] {
        &self.0[idx]
    }
}

impl std::fmt::Debug for FileBytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // A key may be among them.
        f.debug_struct("FileBytes").finish_non_exhaustive()
    }
}

fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let content = |reason: String| TlsError::Content {
        path: path.to_owned(),
        what: "certificate",
        reason,
    };
    let found: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| content(error.to_string()))?;
    if found.is_empty() {
        return Err(content("no block of PEM".to_owned()));
    }
    Ok(found)
}

fn private_key(path: &Path, pem: &[u8]) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|error| TlsError::Content {
        path: path.to_owned(),
        what: "private key",
        reason: error.to_string(),
    })
}

fn trust(path: &Path, pem: &[u8]) -> Result<Arc<RootCertStore>, TlsError> {
    let mut roots = RootCertStore::empty();
    for issuer in certificates(path, pem)? {
        roots.add(issuer).map_err(|error| TlsError::Content {
            path: path.to_owned(),
            what: "issuer",
            reason: error.to_string(),
        })?;
    }
    Ok(Arc::new(roots))
}

fn unfit(error: impl std::fmt::Display) -> TlsError {
    TlsError::Unfit(error.to_string())
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Only what both ends of our own have: TLS 1.3.
const VERSIONS: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS13];

/// A server's side, as of the files' bytes.
#[derive(Clone, Debug)]
pub(crate) struct ServerSide {
    pub(crate) config: Arc<ServerConfig>,
    /// Judges clients' certificates; none where clients have none.
    pub(crate) verifier: Option<Arc<dyn ClientCertVerifier>>,
}

/// Certificate, key and, for mutual TLS, the bundle of the clients' issuers.
pub(crate) fn server_files<'p>(
    files: &'p CertificateFiles,
    client_trust: Option<&'p Path>,
) -> impl Iterator<Item = &'p Path> {
    [&*files.certificate, &*files.key].into_iter().chain(client_trust)
}

/// Makes the server's side of the bytes of [`server_files`].
pub(crate) fn server_side(
    files: &CertificateFiles,
    client_trust: Option<&Path>,
    bytes: &FileBytes,
) -> Result<ServerSide, TlsError> {
    let chain = certificates(&files.certificate, bytes.get(0))?;
    let key = private_key(&files.key, bytes.get(1))?;
    let builder = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(VERSIONS)
        .map_err(unfit)?;
    let verifier = client_trust
        .map(|path| {
            let roots = trust(path, bytes.get(2))?;
            WebPkiClientVerifier::builder_with_provider(roots, provider())
                .build()
                .map_err(unfit)
        })
        .transpose()?;
    let builder = match &verifier {
        Some(verifier) => builder.with_client_cert_verifier(Arc::clone(verifier)),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_single_cert(chain, key).map_err(unfit)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    // A resumed session would skip the look at the client's certificate.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(ServerSide {
        config: Arc::new(config),
        verifier,
    })
}

/// Makes the client's side of the bytes of bundle and, for mutual TLS, certificate and key, in this order.
pub(crate) fn client_side(
    trust_path: &Path,
    own: Option<&CertificateFiles>,
    bytes: &FileBytes,
) -> Result<Arc<ClientConfig>, TlsError> {
    let roots = trust(trust_path, bytes.get(0))?;
    let verifier: Arc<dyn ServerCertVerifier> =
        rustls::client::WebPkiServerVerifier::builder_with_provider(roots, provider())
            .build()
            .map_err(unfit)?;
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(VERSIONS)
        .map_err(unfit)?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match own {
        None => builder.with_no_client_auth(),
        Some(own) => {
            let chain = certificates(&own.certificate, bytes.get(1))?;
            let key = private_key(&own.key, bytes.get(2))?;
            builder.with_client_auth_cert(chain, key).map_err(unfit)?
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    Ok(Arc::new(config))
}

/// Why a handshake failed, as a reason and a text for the log.
pub(crate) fn refusal_of(error: &std::io::Error) -> (RefuseReason, String) {
    match rustls_error(error) {
        Some(rustls::Error::NoCertificatesPresented) => {
            (RefuseReason::NoCertificate, "shows no certificate".to_owned())
        }
        Some(rustls::Error::InvalidCertificate(error)) => certificate_refusal(error),
        Some(error) => (
            RefuseReason::Handshake,
            format!("does not speak TLS as it must ({error})"),
        ),
        None => (RefuseReason::Handshake, format!("ended its handshake ({error})")),
    }
}

/// What TLS says of a connection that broke, if it was TLS.
pub(crate) fn rustls_error(error: &std::io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

fn certificate_refusal(error: &CertificateError) -> (RefuseReason, String) {
    match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => (
            RefuseReason::CertificateExpired,
            "shows a certificate that has expired".to_owned(),
        ),
        CertificateError::UnknownIssuer => (
            RefuseReason::CertificateUntrusted,
            "shows a certificate of an issuer that is not in the trust bundle".to_owned(),
        ),
        CertificateError::BadSignature => (
            RefuseReason::CertificateUntrusted,
            "shows a certificate that was signed with another key than the issuer of that name in the trust bundle has"
                .to_owned(),
        ),
        error => (
            RefuseReason::CertificateUntrusted,
            format!("shows a certificate that is not accepted ({error})"),
        ),
    }
}

/// Judges a chain again, as of now. Nothing if it is still good.
pub(crate) fn judge_again(
    verifier: &dyn ClientCertVerifier,
    chain: &[CertificateDer<'_>],
) -> Option<(RefuseReason, String)> {
    let (own, rest) = chain.split_first()?;
    match verifier.verify_client_cert(own, rest, rustls::pki_types::UnixTime::now()) {
        Ok(_) => None,
        Err(rustls::Error::InvalidCertificate(error)) => Some(certificate_refusal(&error)),
        Err(error) => Some((
            RefuseReason::CertificateUntrusted,
            format!("is not accepted any more ({error})"),
        )),
    }
}
