//! The store as a setting, the client made from it, and why it may not do what it is asked.

mod trouble;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde::{Deserialize, Serialize};

pub use self::trouble::{Trouble, error_code};
use crate::secret::{self, SecretError};

/// Where the store is and as whom to speak to it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StoreConfig {
    /// Address of the HTTP interface; default `http://127.0.0.1:8123`.
    pub url: String,
    /// Certificates (PEM) of whom to believe that an `https` address is the store; default: those of the system.
    pub ca_file: Option<PathBuf>,
    /// User; the embedded store knows `writer`, `detector`, `dashboard`, `migrator`.
    pub user: String,
    /// File with the password or token; nothing for none.
    pub token_file: Option<PathBuf>,
    /// Database of what happened; default `ja4_logs`.
    pub logs_database: String,
    /// Database of what was made of it; default `ja4_processing`.
    pub processing_database: String,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self {
            url: "http://127.0.0.1:8123".to_owned(),
            ca_file: None,
            user: "writer".to_owned(),
            token_file: None,
            logs_database: "ja4_logs".to_owned(),
            processing_database: "ja4_processing".to_owned(),
        }
    }
}

/// Why a client of the store cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The token.
    #[error(transparent)]
    Token(#[from] SecretError),
    /// The file of certificates.
    #[error("ca_file {path:?} cannot be used: {why}")]
    Certificates {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// There is no file, and the system has none either.
    #[error("the store's address is https and this system has no certificates to check it with: set ca_file")]
    NoCertificates,
    /// The TLS library.
    #[error("TLS cannot be set up")]
    Tls(#[from] rustls::Error),
}

/// How long a client's connections may take and lie idle.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// To a connection; nothing: as long as the kernel tries.
    pub connect: Option<Duration>,
    /// Idle connections are closed after it, before the server does.
    pub idle: Duration,
}

impl Default for Patience {
    /// Servers out of the box close a connection that was idle for 3 s.
    fn default() -> Self {
        Self {
            connect: None,
            idle: Duration::from_secs(2),
        }
    }
}

impl StoreConfig {
    /// A client that speaks as the configured user.
    ///
    /// # Errors
    /// If the token's file cannot be read or is open to everybody, or the certificates cannot be read.
    pub fn client(&self) -> Result<clickhouse::Client, ClientError> {
        self.client_with(Patience::default())
    }

    /// The same with other limits of time.
    ///
    /// # Errors
    /// As [`Self::client`].
    pub fn client_with(&self, patience: Patience) -> Result<clickhouse::Client, ClientError> {
        let http = hyper_util::client::legacy::Client::builder(TokioExecutor::new())
            .pool_idle_timeout(patience.idle)
            .build(self.connector(patience.connect)?);
        let mut client = clickhouse::Client::with_http_client(http)
            .with_url(&self.url)
            .with_user(&self.user)
            // On loopback compression costs more than it saves (measured: 114 000 rows/s plain, 63 000 with lz4).
            .with_compression(clickhouse::Compression::None);
        if let Some(path) = &self.token_file {
            client = client.with_password(secret::read_file(path)?.expose());
        }
        Ok(client)
    }

    fn connector(&self, connect: Option<Duration>) -> Result<HttpsConnector<HttpConnector>, ClientError> {
        /// Idle connections over which nothing came for so long are asked whether the other side is still there.
        const KEEPALIVE: Duration = Duration::from_mins(1);
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_nodelay(true);
        http.set_keepalive(Some(KEEPALIVE));
        http.set_connect_timeout(connect);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(self.roots()?)
            .with_no_client_auth();
        Ok(HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(http))
    }

    /// Nobody is believed where nothing is encrypted: then there is nothing to read.
    fn roots(&self) -> Result<rustls::RootCertStore, ClientError> {
        let mut roots = rustls::RootCertStore::empty();
        if !self.url.starts_with("https://") {
            return Ok(roots);
        }
        let Some(path) = &self.ca_file else {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            return if roots.is_empty() {
                Err(ClientError::NoCertificates)
            } else {
                Ok(roots)
            };
        };
        let unusable = |why: String| ClientError::Certificates {
            path: path.clone(),
            why,
        };
        let found = CertificateDer::pem_file_iter(path).map_err(|error| unusable(error.to_string()))?;
        for certificate in found {
            let certificate = certificate.map_err(|error| unusable(error.to_string()))?;
            roots
                .add(certificate)
                .map_err(|error| unusable(error.to_string()))?;
        }
        if roots.is_empty() {
            return Err(unusable("it holds no certificate".to_owned()));
        }
        Ok(roots)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(config: &StoreConfig) -> String {
        let Err(error) = config.client() else {
            panic!("{config:?} was taken");
        };
        error.to_string()
    }

    #[test]
    fn certificates_are_read_for_https_only_and_must_be_some() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        let of = |url: &str| StoreConfig {
            url: url.to_owned(),
            ca_file: Some(path.clone()),
            ..StoreConfig::default()
        };
        assert!(of("http://127.0.0.1:1").client().is_ok());
        assert!(refused(&of("https://127.0.0.1:1")).contains("ca.pem"));
        std::fs::write(&path, "nothing of the kind\n").unwrap();
        assert!(refused(&of("https://127.0.0.1:1")).contains("no certificate"));
    }
}
