//! Issuers and certificates of tests, as files.

use std::path::{Path, PathBuf};

use ja4_transport::remote::{CertificateFiles, CredentialFiles};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose, SanType,
};

/// An authority.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, name);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// Writes its certificate as a bundle, behind those that are given.
    pub fn write_bundle(authorities: &[&Self], path: &Path) {
        let pem: String = authorities.iter().map(|authority| authority.0.pem()).collect();
        replace(path, &pem);
    }

    /// A certificate and its key with this URI; `params` changes it.
    pub fn issue_with(
        &self,
        uri: &str,
        at: &Path,
        change: impl FnOnce(&mut CertificateParams),
    ) -> CertificateFiles {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        if !uri.is_empty() {
            params
                .subject_alt_names
                .push(SanType::URI(uri.try_into().unwrap()));
        }
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        let files = CertificateFiles {
            certificate: with_ending(at, "crt"),
            key: with_ending(at, "key"),
        };
        replace(&files.certificate, &certificate.pem());
        replace(&files.key, &key.serialize_pem());
        files
    }

    pub fn issue(&self, uri: &str, at: &Path) -> CertificateFiles {
        self.issue_with(uri, at, |_| {})
    }
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    path.with_extension(ending)
}

/// As a mounted Secret is replaced: whole or not at all.
pub fn replace(path: &Path, text: &str) {
    let new = path.with_extension("new");
    std::fs::write(&new, text).unwrap();
    std::fs::rename(new, path).unwrap();
}

/// What a peer proves itself with.
pub fn credentials(trust: &Path, own: Option<CertificateFiles>) -> CredentialFiles {
    CredentialFiles {
        trust: trust.to_owned(),
        own,
        token: None,
    }
}
