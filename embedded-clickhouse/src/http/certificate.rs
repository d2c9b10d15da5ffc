//! The certificate that the store shows: read again when its files change, so that renewing it needs no restart.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio_rustls::TlsAcceptor;

use crate::config::TlsConfig;

/// The files are looked at for a handshake, but not more often.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Why TLS cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read as PEM.
    #[error("tls: cannot read {path}: {reason}")]
    Read {
        /// Which.
        path: String,
        /// Why.
        reason: String,
    },
    /// Certificate and key do not fit.
    #[error("tls: certificate and key cannot be used: {0}")]
    Pair(rustls::Error),
}

/// Reads certificate and key, and reads them again when they change.
///
/// # Errors
/// [`TlsError`] names the file.
pub fn tls_acceptor(config: &TlsConfig) -> Result<TlsAcceptor, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let shown = Shown::read(config, Arc::clone(&provider))?;
    let mut server = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Pair)?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(shown));
    server.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(server)))
}

/// The pair that is shown now.
#[derive(Debug)]
struct Shown {
    files: TlsConfig,
    provider: Arc<CryptoProvider>,
    now: Mutex<Now>,
}

#[derive(Debug)]
struct Now {
    pair: Arc<CertifiedKey>,
    stamp: Option<[FileStamp; 2]>,
    looked: Instant,
}

/// Tells one content of a file from the next; Kubernetes puts new content behind a symbolic link.
type FileStamp = (u64, u64, i64, i64);

impl Shown {
    fn read(files: &TlsConfig, provider: Arc<CryptoProvider>) -> Result<Self, TlsError> {
        let stamp = stamps(files);
        let pair = pair(files, &provider)?;
        Ok(Self {
            files: files.clone(),
            provider,
            now: Mutex::new(Now {
                pair: Arc::new(pair),
                stamp,
                looked: Instant::now(),
            }),
        })
    }

    /// The pair, read again when its files have changed; the old one while the new one is of no use.
    fn current(&self) -> Arc<CertifiedKey> {
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        if now.looked.elapsed() < LOOK_EVERY {
            return Arc::clone(&now.pair);
        }
        now.looked = Instant::now();
        let stamp = stamps(&self.files);
        if stamp.is_none() || stamp == now.stamp {
            return Arc::clone(&now.pair);
        }
        match pair(&self.files, &self.provider) {
            Ok(pair) => {
                tracing::info!("certificate {} was read again", self.files.certificate.display());
                now.pair = Arc::new(pair);
                now.stamp = stamp;
            }
            // Half of a pair that is being replaced: looked at again with the next handshake.
            Err(error) => tracing::warn!("{error}: the certificate of before is shown on"),
        }
        Arc::clone(&now.pair)
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current())
    }
}

fn pair(files: &TlsConfig, provider: &CryptoProvider) -> Result<CertifiedKey, TlsError> {
    let failed = |path: &Path, reason: String| TlsError::Read {
        path: path.display().to_string(),
        reason,
    };
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(&files.certificate)
        .and_then(Iterator::collect)
        .map_err(|error| failed(&files.certificate, error.to_string()))?;
    let key =
        PrivateKeyDer::from_pem_file(&files.key).map_err(|error| failed(&files.key, error.to_string()))?;
    CertifiedKey::from_der(chain, key, provider).map_err(TlsError::Pair)
}

fn stamps(files: &TlsConfig) -> Option<[FileStamp; 2]> {
    let stamp = |path: &Path| {
        let metadata = std::fs::metadata(path).ok()?;
        Some((
            metadata.ino(),
            metadata.len(),
            metadata.mtime(),
            metadata.mtime_nsec(),
        ))
    };
    Some([stamp(&files.certificate)?, stamp(&files.key)?])
}
