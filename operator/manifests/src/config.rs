//! The configuration files of the programs, as YAML. Each program refuses keys that it does not know.

use operator_api::{Component, StoreUser};
use serde_json::{Value, json};

use crate::names;
use crate::pod::bytes;
use crate::validate::{ValidDetector, ValidPipeline};

/// Folder of configuration files in every container.
pub(crate) const CONFIG: &str = "/etc/ja4/config";
/// Folder of a container's own certificate.
pub(crate) const TLS: &str = "/etc/ja4/tls";
/// Folder of certificates by which the store is believed.
pub(crate) const STORE_TRUST: &str = "/etc/ja4/store";
/// Folder of the store's tokens or passwords.
pub(crate) const TOKENS: &str = "/etc/ja4/tokens";
/// Folder of the redaction key.
pub(crate) const REDACTION: &str = "/etc/ja4/redaction";
/// Port of the store.
pub(crate) const STORE_PORT: u16 = 8123;
/// Port of the correlator for nodes and for the report.
pub const CORRELATOR_PORT: u16 = 9443;
/// Port of the correlator for sources with a token.
pub(crate) const INGEST_PORT: u16 = 9444;
/// Port of the pages.
pub(crate) const DASHBOARD_PORT: u16 = 8000;

/// A program that has metrics, and the port of its admin endpoint.
pub(crate) fn admin_port(component: Component) -> u16 {
    match component {
        Component::Store => 9104,
        Component::Dashboard => 9105,
        _ => 9102,
    }
}

/// A client of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Client {
    Writer,
    Detector,
    Dashboard,
    Migrator,
}

impl Client {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Writer => "writer",
            Self::Detector => "detector",
            Self::Dashboard => "dashboard",
            Self::Migrator => "migrator",
        }
    }

    /// The user in somebody's ClickHouse.
    pub(crate) fn user(self, pipeline: &ValidPipeline) -> Option<&StoreUser> {
        let users = &pipeline.spec.store.external.as_ref()?.users;
        Some(match self {
            Self::Writer => &users.writer,
            Self::Detector => &users.detector,
            Self::Dashboard => &users.dashboard,
            Self::Migrator => &users.migrator,
        })
    }
}

/// Address of the store.
pub(crate) fn store_url(pipeline: &ValidPipeline) -> String {
    if let Some(external) = &pipeline.spec.store.external {
        return external.url.clone();
    }
    let host = names::service_host(&pipeline.namespace, &pipeline.name_of(Component::Store));
    format!("https://{host}:{STORE_PORT}")
}

/// True if the store's certificate is checked with one that is mounted.
pub(crate) fn has_store_trust(pipeline: &ValidPipeline) -> bool {
    pipeline
        .spec
        .store
        .external
        .as_ref()
        .is_none_or(|external| external.ca.is_some())
}

/// The section that tells a program of the store.
fn store(pipeline: &ValidPipeline, client: Client) -> Value {
    let mut section = json!({
        "url": store_url(pipeline),
        "user": client.user(pipeline).map_or(client.as_str(), |user| user.user.as_str()),
        "token_file": format!("{TOKENS}/{}", client.as_str()),
    });
    if has_store_trust(pipeline) {
        section["ca_file"] = json!(format!("{STORE_TRUST}/ca.crt"));
    }
    if let Some(external) = &pipeline.spec.store.external {
        section["logs_database"] = json!(external.logs_database);
        section["processing_database"] = json!(external.processing_database);
    }
    section
}

fn process(pipeline: &ValidPipeline, admin: Option<String>) -> Value {
    let mut process = json!({"log": {"format": "json", "level": pipeline.spec.log_level.as_str()}});
    if let Some(admin) = admin {
        process["admin"] = json!(admin);
    }
    process
}

fn redaction(pipeline: &ValidPipeline) -> Value {
    let privacy = &pipeline.spec.privacy;
    let mut section = json!({"key_file": format!("{REDACTION}/key")});
    if let Some(keys) = &privacy.query_keys {
        section["query_keys"] = json!(keys);
    }
    if let Some(cookies) = &privacy.session_cookies {
        section["session_cookies"] = json!(cookies);
    }
    section
}

/// A size as our programs read it.
fn size(text: &str) -> Value {
    json!(format!("{}B", bytes(text)))
}

/// Of the embedded store.
pub(crate) fn clickhouse(pipeline: &ValidPipeline) -> String {
    yaml(&json!({
        "process": process(pipeline, Some(format!("0.0.0.0:{}", admin_port(Component::Store)))),
        "data": "/data/store",
        "tokens": TOKENS,
        "listen": format!("0.0.0.0:{STORE_PORT}"),
        "tls": {"certificate": format!("{TLS}/tls.crt"), "key": format!("{TLS}/tls.key")},
    }))
}

/// Of the correlator of all nodes.
pub(crate) fn correlator(pipeline: &ValidPipeline) -> String {
    let spec = &pipeline.spec.correlator;
    let mut config = json!({
        "process": process(pipeline, Some(format!("0.0.0.0:{}", admin_port(Component::Correlator)))),
        "mode": "join",
        "sources": [],
        "remote": {
            "listen": format!("0.0.0.0:{CORRELATOR_PORT}"),
            "certificate": format!("{TLS}/tls.crt"),
            "key": format!("{TLS}/tls.key"),
            "client_trust": format!("{TLS}/ca.crt"),
            "pipeline": names::identity(&pipeline.namespace, &pipeline.name),
        },
        "join": join(pipeline),
        "redaction": redaction(pipeline),
        "store": {"connection": store(pipeline, Client::Writer)},
        // A tenth of the disk stays free: what is written while the oldest is dropped needs room too.
        "spool": {"dir": "/var/lib/ja4/spool", "max_bytes": format!("{}B", bytes(spec.spool.size.as_str()) / 10 * 9)},
    });
    let ingest: Vec<Value> = pipeline
        .spec
        .sources
        .ingest
        .iter()
        .flatten()
        .map(|source| json!({"name": source.name, "token_file": format!("/etc/ja4/ingest/{}", source.name)}))
        .collect();
    if !ingest.is_empty() {
        config["ingest"] = json!({
            "listen": format!("0.0.0.0:{INGEST_PORT}"),
            "certificate": "/etc/ja4/ingest-tls/tls.crt",
            "key": "/etc/ja4/ingest-tls/tls.key",
            "sources": ingest,
        });
    }
    yaml(&config)
}

fn join(pipeline: &ValidPipeline) -> Value {
    let spec = &pipeline.spec.correlator;
    json!({
        "connection_memory": size(spec.connection_memory.as_str()),
        "pending_memory": size(spec.pending_memory.as_str()),
    })
}

/// Of the sensor on a node.
pub(crate) fn sensor(pipeline: &ValidPipeline) -> String {
    let spec = &pipeline.spec.sensor;
    let mut config = json!({
        "process": process(pipeline, Some("unix:/run/admin/sensor.sock".to_owned())),
        "capture": {
            "interfaces": spec.interfaces,
            "buffer": size(spec.buffer.as_str()),
            "pod_buffer": size(spec.pod_buffer.as_str()),
        },
        "flow": {"plain_http_ports": spec.plain_http_ports},
        "networks": {"egress": spec.egress},
        "output": {"socket": "/var/run/ja4/network.socket"},
    });
    if let Some(filter) = &spec.filter {
        config["capture"]["filter"] = json!(filter);
    }
    if let Some(own) = &spec.own_networks {
        config["networks"]["own"] = json!(own);
    }
    yaml(&config)
}

/// Of what takes events on a node: a forwarder, or a correlator with placement `Node`.
pub(crate) fn node(pipeline: &ValidPipeline) -> String {
    let spec = &pipeline.spec.sensor;
    // The node's network is everybody's: the port is for metrics and health, nothing else answers there.
    let admin = format!("0.0.0.0:{}", spec.metrics_port);
    let sensor_uid = crate::sensor::uid(pipeline);
    let web = &pipeline.spec.sources.web_server_uids;
    let mut config = json!({
        "process": process(pipeline, Some(admin)),
        "sources": [
            {"path": "/var/run/ja4/network.socket", "kind": "stream", "role": "network", "uids": [sensor_uid]},
            {"path": "/var/run/ja4/http.socket", "kind": "seqpacket", "role": "http", "uids": web},
            {"path": "/var/run/ja4/http.stream", "kind": "stream", "role": "http", "uids": web},
        ],
        "redaction": redaction(pipeline),
    });
    let max_bytes = size(spec.spool.as_str());
    if pipeline.joins_on_nodes() {
        config["mode"] = json!("join");
        config["join"] = join(pipeline);
        config["store"] = json!({"connection": store(pipeline, Client::Writer)});
        config["spool"] = json!({"dir": "/var/lib/ja4/spool", "max_bytes": max_bytes});
    } else {
        let host = names::service_host(&pipeline.namespace, &pipeline.name_of(Component::Correlator));
        config["mode"] = json!("forward");
        config["spool"] = json!({"dir": "/var/lib/ja4/forward", "max_bytes": max_bytes});
        config["forward"] = json!({
            "address": format!("{host}:{CORRELATOR_PORT}"),
            "trust": format!("{TLS}/ca.crt"),
            "certificate": format!("{TLS}/tls.crt"),
            "key": format!("{TLS}/tls.key"),
            "sensor_admin": "unix:/run/admin/sensor.sock",
        });
    }
    yaml(&config)
}

/// Of a detector.
pub(crate) fn detector(pipeline: &ValidPipeline, detector: &ValidDetector) -> String {
    let spec = &detector.spec;
    yaml(&json!({
        "process": process(pipeline, None),
        "store": store(pipeline, Client::Detector),
        "interval": format!("{}s", detector.periods.shortest.as_secs()),
        "multiwindow": spec.multiwindow,
        "alert_budget_per_day": spec.alert_budget_per_day,
        "explain_max": spec.explain_max,
    }))
}

/// Of the dashboard.
pub(crate) fn dashboard(pipeline: &ValidPipeline) -> String {
    let spec = &pipeline.spec.dashboard;
    let mut config = json!({
        "process": process(pipeline, Some(format!("0.0.0.0:{}", admin_port(Component::Dashboard)))),
        "store": store(pipeline, Client::Dashboard),
        "data": "/var/lib/ja4",
    });
    match public_url(pipeline) {
        Some(url) => {
            config["listen"] = json!(format!("0.0.0.0:{DASHBOARD_PORT}"));
            config["public_url"] = json!(url);
        }
        // Without TLS in front it listens where only `kubectl port-forward` comes.
        None => config["listen"] = json!(format!("127.0.0.1:{DASHBOARD_PORT}")),
    }
    if let Some(proxies) = &spec.trusted_proxies {
        config["trusted_proxies"] = json!(proxies);
    }
    yaml(&config)
}

/// What people type to get to the pages; nothing without a proxy in front.
pub(crate) fn public_url(pipeline: &ValidPipeline) -> Option<String> {
    let spec = &pipeline.spec.dashboard;
    let host = match (&spec.ingress, &spec.http_route) {
        (Some(ingress), _) => &ingress.host,
        (None, Some(route)) => &route.host,
        (None, None) => return None,
    };
    Some(format!("https://{host}"))
}

fn yaml(config: &Value) -> String {
    serde_saphyr::to_string(config).expect("a tree of texts and numbers is YAML")
}
