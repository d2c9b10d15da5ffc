//! Configuration of the dashboard: one documented struct, every key with its default.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use ja4_common::clickhouse::StoreConfig;
use ja4_common::config::ProcessConfig;
use ja4_common::ip_filter::IpFilter;
use ja4_common::units::{Bytes, Span};
use serde::{Deserialize, Serialize};

use crate::api::types::Recorded;
use crate::window;

/// Everything that can be set.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct DashboardConfig {
    /// Log, admin endpoint, ledger file.
    pub(crate) process: ProcessConfig,
    /// Address of the pages, default `127.0.0.1:8000`; port 0 takes a free one, which `DATA/listen` names. Addresses
    /// that others can reach need a `public_url` that begins with `https://`.
    pub(crate) listen: SocketAddr,
    /// What people type to get here, `https://dashboard.example`, where a proxy stands in front. Default: the address.
    pub(crate) public_url: Option<String>,
    /// The store, as user `dashboard`.
    pub(crate) store: StoreConfig,
    /// Folder for what must survive a restart, for this user only: the hash of the one-time link.
    pub(crate) data: PathBuf,
    /// Where the one-time link of the local administrator is written at each start, readable by this user only; nothing
    /// for not at all. `ja4-dashboard login-link` makes another.
    pub(crate) local_admin_link_file: Option<PathBuf>,
    /// Address of the detector, `http://127.0.0.1:8080`, which is asked why a client has its score now; nothing for not.
    pub(crate) detector_url: Option<String>,
    /// A span whose rows were recorded earlier and replayed: pages mark them. Nothing for none.
    pub(crate) recorded: Option<Recorded>,
    /// A JSON file that says what was which in a demo; nothing for none.
    pub(crate) truth_file: Option<PathBuf>,
    /// Networks of proxies whose `X-Forwarded-For` is believed.
    pub(crate) trusted_proxies: IpFilter,
    /// What a query, an export and a request may cost.
    pub(crate) limits: LimitsConfig,
    /// Sessions of users.
    pub(crate) sessions: SessionsConfig,
}

/// What a query, an export and a request may cost.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct LimitsConfig {
    /// Time of one query in the store, default `10s`; what was read until then is shown, and that it is not all.
    pub(crate) query_time: Span,
    /// Rows that one query may read, default 200 million; beyond it as with time.
    pub(crate) query_rows: u64,
    /// Bytes that one query may read, default `16GiB`; beyond it as with time.
    pub(crate) query_bytes: Bytes,
    /// Queries at once, default 8; more wait. Raising it takes the store's memory, up to 500 MB each.
    pub(crate) queries_at_once: usize,
    /// Time of one export in the store, default `2m`.
    pub(crate) export_time: Span,
    /// Requests of one export, default 200000; more are cut, and the file says so in its name.
    pub(crate) export_requests: u64,
    /// Clients of one export, default 10000.
    pub(crate) export_clients: u64,
    /// Time until an answer begins, default `30s`.
    pub(crate) answer_time: Span,
    /// Longest body of a request, default `1MiB`.
    pub(crate) body: Bytes,
    /// Connections at once, default 1024.
    pub(crate) connections: usize,
}

/// Sessions of users. They live in memory: a restart ends them.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct SessionsConfig {
    /// A session ends after so long without a request, default `8h`.
    pub(crate) idle: Span,
    /// It ends after so long whatever happens, default `7d`.
    pub(crate) lifetime: Span,
    /// Sessions at once, default 10000; one more ends the one that was idle longest.
    pub(crate) max: usize,
}

impl Default for DashboardConfig {
    fn default() -> Self {
        Self {
            process: ProcessConfig::default(),
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8000),
            public_url: None,
            store: StoreConfig {
                user: "dashboard".to_owned(),
                ..StoreConfig::default()
            },
            data: PathBuf::from("/var/lib/ja4-platform/dashboard"),
            local_admin_link_file: None,
            detector_url: None,
            recorded: None,
            truth_file: None,
            trusted_proxies: IpFilter::default(),
            limits: LimitsConfig::default(),
            sessions: SessionsConfig::default(),
        }
    }
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            query_time: Span::seconds(10),
            query_rows: 200_000_000,
            query_bytes: Bytes::mib(16 * 1024),
            queries_at_once: 8,
            export_time: Span::seconds(120),
            export_requests: 200_000,
            export_clients: 10_000,
            answer_time: Span::seconds(30),
            body: Bytes::mib(1),
            connections: 1024,
        }
    }
}

impl Default for SessionsConfig {
    fn default() -> Self {
        Self {
            idle: Span::seconds(8 * 3600),
            lifetime: Span::seconds(7 * 86400),
            max: 10_000,
        }
    }
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum ConfigError {
    /// Sessions would travel in the clear.
    #[error(
        "listen is {0}, which others can reach: set public_url to the https:// address of the proxy in front of it, or listen on 127.0.0.1"
    )]
    NotLoopback(SocketAddr),
    /// Not an address of pages.
    #[error("public_url is {0:?}: write http:// or https://, a host and perhaps a port, without a path")]
    PublicUrl(String),
    /// Not an address of a service.
    #[error("detector_url is {0:?}: write http://, a host and a port, as in http://127.0.0.1:8080")]
    DetectorUrl(String),
    /// Not times.
    #[error("recorded.{0} is {1:?}: write a time such as 2026-05-01T00:00:00Z")]
    Recorded(&'static str, String),
    /// A limit of nothing.
    #[error("{0} is 0: nothing could be shown; leave it out for the default")]
    Zero(&'static str),
}

impl DashboardConfig {
    /// Checks what the types do not.
    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        if let Some(url) = &self.public_url {
            Origin::parse(url).ok_or_else(|| ConfigError::PublicUrl(url.clone()))?;
        }
        if !self.listen.ip().is_loopback() && !self.is_https() {
            return Err(ConfigError::NotLoopback(self.listen));
        }
        if let Some(url) = &self.detector_url
            && Origin::parse(url).is_none_or(|origin| origin.is_https)
        {
            return Err(ConfigError::DetectorUrl(url.clone()));
        }
        if let Some(recorded) = &self.recorded {
            for (name, text) in [("from", &recorded.from), ("to", &recorded.to)] {
                window::parse_rfc3339(text).ok_or_else(|| ConfigError::Recorded(name, text.clone()))?;
            }
        }
        let limits = &self.limits;
        let zero = [
            ("limits.query_time", limits.query_time.0.is_zero()),
            ("limits.query_rows", limits.query_rows == 0),
            ("limits.query_bytes", limits.query_bytes.0 == 0),
            ("limits.queries_at_once", limits.queries_at_once == 0),
            ("limits.export_time", limits.export_time.0.is_zero()),
            ("limits.export_requests", limits.export_requests == 0),
            ("limits.export_clients", limits.export_clients == 0),
            ("limits.answer_time", limits.answer_time.0.is_zero()),
            ("limits.body", limits.body.0 == 0),
            ("limits.connections", limits.connections == 0),
            ("sessions.idle", self.sessions.idle.0.is_zero()),
            ("sessions.lifetime", self.sessions.lifetime.0.is_zero()),
            ("sessions.max", self.sessions.max == 0),
        ];
        match zero.iter().find(|(_, is_zero)| *is_zero) {
            Some((name, _)) => Err(ConfigError::Zero(name)),
            None => Ok(()),
        }
    }

    /// Pages travel encrypted: a proxy in front of us sees to it.
    pub(crate) fn is_https(&self) -> bool {
        self.public_url
            .as_deref()
            .and_then(Origin::parse)
            .is_some_and(|origin| origin.is_https)
    }
}

/// Scheme, host and port of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Origin {
    /// By https.
    pub(crate) is_https: bool,
    /// Host, with the port where it is not the scheme's.
    pub(crate) authority: String,
}

impl Origin {
    /// Reads `https://host[:port]`, a slash at the end allowed.
    pub(crate) fn parse(url: &str) -> Option<Self> {
        let url = url.strip_suffix('/').unwrap_or(url);
        let (is_https, authority) = match url.strip_prefix("https://") {
            Some(rest) => (true, rest),
            None => (false, url.strip_prefix("http://")?),
        };
        let parsed: http::uri::Authority = authority.parse().ok()?;
        (!parsed.host().is_empty() && !authority.contains('@')).then(|| Self {
            is_https,
            authority: without_default_port(authority, is_https).to_ascii_lowercase(),
        })
    }
}

/// `host:443` of https is `host`.
pub(crate) fn without_default_port(authority: &str, is_https: bool) -> &str {
    authority
        .strip_suffix(if is_https { ":443" } else { ":80" })
        .unwrap_or(authority)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn parse(text: &str) -> DashboardConfig {
        ja4_common::config::parse(text, Path::new("x.yaml")).unwrap()
    }

    #[test]
    fn the_sample_shows_every_key_with_its_default() {
        let sample = parse(include_str!("../../docs/samples/dashboard.yaml"));
        let default = DashboardConfig::default();
        let mut shown = sample.clone();
        // What has no default is shown by example.
        shown.store.token_file = None;
        shown.process = default.process.clone();
        assert_eq!(
            ja4_common::config::print(&shown).unwrap(),
            ja4_common::config::print(&default).unwrap()
        );
        sample.validate().unwrap();
        for key in ja4_common::config::print(&default)
            .unwrap()
            .lines()
            .filter_map(|line| line.trim().split_once(':').map(|(key, _)| key.to_owned()))
        {
            assert!(
                include_str!("../../docs/samples/dashboard.yaml").contains(&key),
                "{key} is not in the sample"
            );
        }
    }

    #[track_caller]
    fn refused(text: &str, with: &str) {
        let error = parse(text).validate().unwrap_err().to_string();
        assert!(error.contains(with), "{error}");
    }

    #[test]
    fn what_others_can_reach_needs_https() {
        refused("listen: 0.0.0.0:8000", "public_url");
        refused("listen: 0.0.0.0:8000\npublic_url: http://x.example", "https://");
        parse("listen: 0.0.0.0:8000\npublic_url: https://x.example")
            .validate()
            .unwrap();
        parse("listen: '[::1]:8000'").validate().unwrap();
    }

    #[test]
    fn wrong_values_are_refused_with_the_remedy() {
        refused("public_url: x.example", "http://");
        refused("public_url: https://x.example/path", "without a path");
        refused("public_url: https://a@b", "public_url");
        refused("detector_url: 127.0.0.1:8080", "http://");
        refused(
            "recorded: {from: yesterday, to: 2026-05-01T00:00:00Z, what: x}",
            "recorded.from",
        );
        refused("limits: {query_rows: 0}", "limits.query_rows is 0");
        refused("sessions: {max: 0}", "sessions.max");
    }

    #[test]
    fn origins_know_their_default_port() {
        let origin = |url| Origin::parse(url).unwrap().authority;
        assert_eq!(origin("https://A.example:443/"), "a.example");
        assert_eq!(origin("http://a.example:443"), "a.example:443");
        assert_eq!(origin("http://[::1]:8000"), "[::1]:8000");
    }
}
