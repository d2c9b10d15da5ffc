//! The correlator of the plain manifests, and the secrets of a pipeline.

use k8s_openapi::api::core::v1::Secret;
use serde_json::json;

use crate::authority::Authority;
use crate::case::Case;
use crate::manifests;
use crate::store;
use crate::volume;

/// Starts the correlator of all nodes on `node`, with certificates for it and for forwarders. Gives who made them.
///
/// # Errors
/// When it does not become ready in time.
pub async fn correlator(case: &Case, node: &str) -> anyhow::Result<Authority> {
    case.image("ja4-correlator")?;
    let authority = Authority::new()?;
    certificates(case, &authority, &authority.pem).await?;
    volume::make(case, "correlator", node, "2Gi").await?;
    case.apply_manifest(manifests::CORRELATOR, |object| {
        if object["kind"] == "PersistentVolumeClaim" {
            object["spec"]["storageClassName"] = json!(volume::name(case, "correlator"));
        }
    })
    .await?;
    case.deployment_available("correlator").await?;
    Ok(authority)
}

/// Writes certificates of both ends of the hop, made by `authority`; `bundle` is whom both believe.
///
/// # Errors
/// When the API server refuses them.
pub async fn certificates(case: &Case, authority: &Authority, bundle: &str) -> anyhow::Result<()> {
    let names = [
        "correlator".to_owned(),
        format!("correlator.{}.svc", case.namespace),
    ];
    let server = authority.server(&names)?;
    let forward = authority.client("ja4://demo/forward/*")?;
    for (name, (certificate, key)) in [("correlator-tls", server), ("forward-tls", forward)] {
        let data = json!({"tls.crt": certificate, "tls.key": key, "ca.crt": bundle});
        case.apply::<Secret>(json!({"metadata": {"name": name}, "stringData": data}))
            .await?;
    }
    Ok(())
}

/// The key under which secrets in requests are hashed.
///
/// # Errors
/// When the API server refuses it.
pub async fn redaction_key(case: &Case) -> anyhow::Result<()> {
    // 32 characters are 32 bytes.
    let key: String = store::token()?.chars().take(32).collect();
    case.apply::<Secret>(json!({"metadata": {"name": "redaction-key"}, "stringData": {"key": key}}))
        .await
        .map(drop)
}
