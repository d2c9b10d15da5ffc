//! A certificate authority of this process and the site's certificate under it.

use std::path::Path;

use anyhow::Context as _;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

/// Server settings for TLS 1.2 and 1.3 with `h2` and `http/1.1`, and the authority's certificate as PEM.
///
/// # Errors
/// A name that is none.
pub fn make(names: &[String]) -> anyhow::Result<(ServerConfig, String)> {
    let mut ca_params = CertificateParams::new(Vec::new()).context("cannot make an authority")?;
    ca_params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca_params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    ca_params
        .distinguished_name
        .push(DnType::CommonName, "ja4-demo authority");
    let ca_key = KeyPair::generate().context("cannot make a key")?;
    let ca = ca_params
        .self_signed(&ca_key)
        .context("cannot sign the authority")?;
    let issuer = Issuer::new(ca_params, ca_key);
    let mut params = CertificateParams::new(names.to_vec())
        .with_context(|| format!("names {names:?} are not fit for a certificate"))?;
    params.distinguished_name.push(
        DnType::CommonName,
        names.first().map_or("demo.test", String::as_str),
    );
    let key = KeyPair::generate().context("cannot make a key")?;
    let leaf = params
        .signed_by(&key, &issuer)
        .context("cannot sign the site's certificate")?;
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .context("cannot set up TLS")?
        .with_no_client_auth()
        .with_single_cert(
            vec![leaf.der().clone()],
            PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der())),
        )
        .context("cannot use the site's certificate")?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok((config, ca.pem()))
}

/// Writes the authority's certificate to `folder/ca.pem`.
///
/// # Errors
/// The folder cannot be written.
pub fn write(folder: &Path, ca_pem: &str) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let path = folder.join("ca.pem");
    std::fs::write(&path, ca_pem).with_context(|| format!("cannot write {}", path.display()))
}
