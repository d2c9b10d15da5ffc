//! The store behind TLS: who believes it, what the programs' own client says when it does not, and a renewed certificate.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use ja4_common::clickhouse::{StoreConfig, Trouble};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

use crate::common::{Place, library_or_skip};

/// An authority; the store's certificate and key, and its own, go to files.
fn write_pair(folder: &Path, authority: &str) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let issuer = Issuer::new(params, key);
    let store_key = KeyPair::generate().unwrap();
    let store = CertificateParams::new(vec!["127.0.0.1".to_owned()])
        .unwrap()
        .signed_by(&store_key, &issuer)
        .unwrap();
    fs::write(folder.join(authority), certificate.pem()).unwrap();
    fs::write(folder.join("key.pem"), store_key.serialize_pem()).unwrap();
    fs::write(folder.join("chain.pem"), store.pem()).unwrap();
}

/// What comes of a statement by the client that all programs use.
async fn ask(config: &StoreConfig) -> Result<(), Trouble> {
    let answer = config.client().unwrap().query("SELECT 1").execute().await;
    answer.map_err(|error| Trouble::of(&error))
}

#[test]
fn programs_believe_the_authority_they_were_given_and_a_renewed_certificate_needs_no_restart() {
    let library = library_or_skip!();
    let folder = tempfile::tempdir().unwrap();
    write_pair(folder.path(), "first.pem");
    let pair = |name: &str| folder.path().join(name).display().to_string();
    let place = Place::new(library).with(&format!(
        "tls: {{certificate: {}, key: {}}}\n",
        pair("chain.pem"),
        pair("key.pem")
    ));
    let store = place.start();
    let of = |scheme: &str, authority: &str, user: &str, token: &str| StoreConfig {
        url: format!("{scheme}://{}", place.address().unwrap()),
        ca_file: Some(folder.path().join(authority)),
        user: user.to_owned(),
        token_file: Some(place.data.join("tokens").join(token)),
        ..StoreConfig::default()
    };
    let first = of("https", "first.pem", "migrator", "migrator");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        assert_eq!(ask(&first).await, Ok(()));
        assert_eq!(
            ask(&of("https", "first.pem", "migrator", "writer")).await,
            Err(Trouble::Credentials)
        );
        assert_eq!(
            ask(&of("http", "first.pem", "migrator", "migrator")).await,
            Err(Trouble::Away),
            "plain text to a port of TLS"
        );

        write_pair(folder.path(), "second.pem");
        let second = of("https", "second.pem", "migrator", "migrator");
        let deadline = Instant::now() + Duration::from_secs(30);
        while ask(&second).await.is_err() {
            assert!(
                Instant::now() < deadline,
                "the new certificate is not shown: {}",
                place.log()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(ask(&first).await, Err(Trouble::Tls));

        // Half of a pair: the one of before is shown on.
        fs::write(folder.path().join("chain.pem"), "no certificate\n").unwrap();
        let deadline = Instant::now() + Duration::from_secs(30);
        while !place.log().contains("of before is shown on") {
            assert_eq!(ask(&second).await, Ok(()));
            assert!(Instant::now() < deadline, "nothing is said: {}", place.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    assert!(store.stop().success());
}
