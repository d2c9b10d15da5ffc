//! What a pipeline's correlator says of itself and of its nodes: `GET /report` over mutual TLS, and its typed form.
//!
//! The other side may be older or newer than the operator. So fields that are not known are ignored, a part that cannot
//! be read is a part that is not there, and only text that is no JSON object at all is an error. Counts grow from the
//! beginning of a process or of its spool: what happens now is the difference of two reports, see [`Joined::since`] and
//! [`Passage::since`].

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt as _, Empty, LengthLimitError, Limited};
use hyper::body::Bytes;
use hyper::{Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use ja4_common::exit;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde::de::{DeserializeOwned, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

/// Longest time for all of it: name, connection, handshake, answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// Longest report, bytes: a node with a hundred interfaces takes some 5 KB, and there may be a thousand.
const MAX_BYTES: usize = 8 << 20;
/// How much of an answer that is no report is told, characters.
const MAX_TOLD: usize = 120;

/// Where a correlator answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// Name or address to connect to.
    pub(crate) host: String,
    /// Its port.
    pub(crate) port: u16,
    /// Name that its certificate must have.
    pub(crate) server_name: String,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// Whom to believe, and who asks; all PEM.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Credentials {
    /// Bundle of authorities of the correlator's certificate.
    pub(crate) trust: Vec<u8>,
    /// The operator's certificate.
    pub(crate) certificate: Vec<u8>,
    /// Its key.
    pub(crate) key: Vec<u8>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").finish_non_exhaustive()
    }
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReportError {
    /// The Secret does not hold what it should.
    #[error("the operator's certificate for the report cannot be used: {0}")]
    Credentials(String),
    /// Nothing listens, or the name is not known.
    #[error("the correlator at {address} cannot be reached")]
    Connect {
        /// Where.
        address: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The correlator's certificate is not believed, or it speaks no TLS.
    #[error("the correlator at {address} does not pass the TLS handshake")]
    Handshake {
        /// Where.
        address: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The connection ended; it does so when our certificate is refused.
    #[error("the correlator at {address} ended the connection")]
    Ended {
        /// Where.
        address: String,
        /// Why.
        #[source]
        source: hyper::Error,
    },
    /// It answered something else.
    #[error("the correlator answers {status}: {text}")]
    Status {
        /// The status.
        status: StatusCode,
        /// The beginning of the answer.
        text: String,
    },
    /// The report is too long.
    #[error("the correlator's report is longer than {MAX_BYTES} bytes")]
    TooLong,
    /// The answer was cut off.
    #[error("the correlator's report was cut off: {0}")]
    Cut(String),
    /// The report is no JSON object.
    #[error("the correlator's report cannot be read")]
    Malformed(#[source] serde_json::Error),
    /// It took too long.
    #[error("the correlator at {address} does not answer within {patience:?}")]
    TimedOut {
        /// Where.
        address: String,
        /// How long was waited.
        patience: Duration,
    },
}

impl ReportError {
    /// The error and its causes on one line.
    pub(crate) fn line(&self) -> String {
        exit::chain(self)
    }
}

/// Asks for a report.
///
/// # Errors
/// See [`ReportError`].
pub(crate) async fn fetch(endpoint: &Endpoint, credentials: &Credentials) -> Result<Report, ReportError> {
    fetch_within(endpoint, credentials, PATIENCE).await
}

async fn fetch_within(
    endpoint: &Endpoint,
    credentials: &Credentials,
    patience: Duration,
) -> Result<Report, ReportError> {
    let config = client_config(credentials).map_err(ReportError::Credentials)?;
    let body = tokio::time::timeout(patience, ask(endpoint, config))
        .await
        .map_err(|_| ReportError::TimedOut {
            address: endpoint.to_string(),
            patience,
        })??;
    parse(&body).map_err(ReportError::Malformed)
}

fn parse(body: &[u8]) -> Result<Report, serde_json::Error> {
    // A list would do for serde, with every part in its place or missing.
    if body.trim_ascii_start().starts_with(b"[") {
        return Err(serde::de::Error::custom("it is a list"));
    }
    serde_json::from_slice(body)
}

fn client_config(credentials: &Credentials) -> Result<ClientConfig, String> {
    let certificates = |pem: &[u8], what: &str| -> Result<Vec<CertificateDer<'static>>, String> {
        let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
        match found {
            Ok(found) if !found.is_empty() => Ok(found),
            Ok(_) => Err(format!("{what} holds no certificate")),
            Err(error) => Err(format!("{what} cannot be read ({error})")),
        }
    };
    let mut roots = RootCertStore::empty();
    for authority in certificates(&credentials.trust, "ca.crt")? {
        roots
            .add(authority)
            .map_err(|error| format!("ca.crt holds no authority ({error})"))?;
    }
    let chain = certificates(&credentials.certificate, "tls.crt")?;
    // What is wrong with a key is not told: it might be told with a part of it.
    let key =
        PrivateKeyDer::from_pem_slice(&credentials.key).map_err(|_| "tls.key cannot be read".to_owned())?;
    let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .map_err(|error| format!("tls.crt and tls.key do not fit ({error})"))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    Ok(config)
}

/// One request; the body of its answer.
async fn ask(endpoint: &Endpoint, config: ClientConfig) -> Result<Bytes, ReportError> {
    let address = endpoint.to_string();
    let ended = |source| ReportError::Ended {
        address: address.clone(),
        source,
    };
    let name = ServerName::try_from(endpoint.server_name.clone()).map_err(|error| {
        ReportError::Credentials(format!("{:?} is no name ({error})", endpoint.server_name))
    })?;
    let tcp = TcpStream::connect((endpoint.host.as_str(), endpoint.port))
        .await
        .map_err(|source| ReportError::Connect {
            address: address.clone(),
            source,
        })?;
    let tls = TlsConnector::from(Arc::new(config))
        .connect(name, tcp)
        .await
        .map_err(|source| ReportError::Handshake {
            address: address.clone(),
            source,
        })?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(tls))
        .await
        .map_err(ended)?;
    // Ends with this function, whatever becomes of it.
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    let request = Request::get("/report")
        .header(header::HOST, &endpoint.server_name)
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| ReportError::Credentials(error.to_string()))?;
    let answer = match sender.send_request(request).await {
        Ok(answer) => answer,
        Err(error) => {
            // The connection knows better why: that our certificate is refused comes as its first words.
            return Err(ended(match driver.join_next().await {
                Some(Ok(Err(cause))) => cause,
                _ => error,
            }));
        }
    };
    let status = answer.status();
    let body = match Limited::new(answer.into_body(), MAX_BYTES).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => return Err(ReportError::TooLong),
        Err(error) => return Err(ReportError::Cut(exit::chain(&*error))),
    };
    if status == StatusCode::OK {
        return Ok(body);
    }
    let text = String::from_utf8_lossy(&body);
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    Err(ReportError::Status {
        status,
        text: text.chars().take(MAX_TOLD).collect(),
    })
}

/// How a pipeline is, as its correlator sees it.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct Report {
    /// Version of the correlator.
    #[serde(deserialize_with = "lenient")]
    pub(crate) version: Option<String>,
    /// When it was made, nanoseconds since 1970 by the correlator's clock.
    #[serde(deserialize_with = "lenient")]
    pub(crate) made_ns: Option<i64>,
    /// All nodes that have connected since the correlator began.
    #[serde(deserialize_with = "lenient_list")]
    pub(crate) nodes: Vec<Node>,
    /// The store; nothing before the first batch was sent.
    #[serde(deserialize_with = "lenient")]
    pub(crate) store: Option<StoreState>,
    /// Counts; nothing in the first second.
    #[serde(deserialize_with = "lenient")]
    pub(crate) counts: Option<Counts>,
    /// The store's tables; nothing from a correlator that does not look at them.
    #[serde(deserialize_with = "lenient")]
    pub(crate) schema: Option<SchemaState>,
}

/// A node that forwards.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
#[expect(clippy::struct_field_names, reason = "the report's own words")]
pub(crate) struct Node {
    /// The host.
    pub(crate) node: String,
    /// It has a stream.
    pub(crate) connected: bool,
    /// Name and version of the forwarder.
    pub(crate) software: String,
    /// How old its facts are, milliseconds.
    pub(crate) age_ms: Option<u64>,
    /// What it says of itself; nothing before it has.
    #[serde(deserialize_with = "lenient")]
    pub(crate) facts: Option<NodeFacts>,
}

impl Node {
    /// What the sensor has received and dropped, by stage such as `sensor.frames`; empty if it is not known.
    pub(crate) fn sensor_passages(&self) -> BTreeMap<&str, Passage> {
        let sensor = self.facts.as_ref().and_then(|facts| facts.sensor.as_ref());
        let stages = sensor.map_or(&[][..], |sensor| &sensor.stages);
        stages
            .iter()
            .map(|stage| (stage.name.as_str(), stage.passage()))
            .collect()
    }

    /// Events that the forwarder has dropped, by reason over all sources.
    pub(crate) fn dropped_events(&self) -> BTreeMap<&str, u64> {
        let mut by_reason = BTreeMap::new();
        for (reason, n) in self.facts.iter().flat_map(|facts| facts.drops.values()).flatten() {
            let sum: &mut u64 = by_reason.entry(reason.as_str()).or_default();
            *sum = sum.saturating_add(*n);
        }
        by_reason
    }

    /// Interfaces and whether they are captured on; nothing if the sensor does not answer.
    pub(crate) fn interfaces(&self) -> Option<&BTreeMap<String, bool>> {
        self.facts.as_ref()?.sensor.as_ref()?.interfaces.as_ref()
    }
}

/// What a node says of itself.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct NodeFacts {
    /// What waits on its disk.
    #[serde(deserialize_with = "lenient")]
    pub(crate) spool: Option<Spool>,
    /// Events dropped, by source and reason.
    #[serde(deserialize_with = "lenient")]
    pub(crate) drops: BTreeMap<String, BTreeMap<String, u64>>,
    /// Its way to the correlator.
    #[serde(deserialize_with = "lenient")]
    pub(crate) link: Option<Link>,
    /// The sensor beside it; nothing if it is to ask none.
    #[serde(deserialize_with = "lenient")]
    pub(crate) sensor: Option<Sensor>,
}

/// What waits on a disk.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct Spool {
    /// Segments.
    pub(crate) segments: u64,
    /// Their bytes.
    pub(crate) bytes: u64,
    /// The budget; nothing for the correlator's own.
    pub(crate) max_bytes: Option<u64>,
    /// Age of the oldest, milliseconds.
    #[serde(deserialize_with = "lenient")]
    pub(crate) oldest_age_ms: Option<i64>,
    /// Segments that the disk has damaged.
    pub(crate) damaged: u64,
}

/// A node's way to the correlator.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct Link {
    /// Streams opened.
    pub(crate) connects: u64,
    /// Tries and streams that failed, by reason.
    pub(crate) failures: BTreeMap<String, u64>,
}

/// A sensor, as the forwarder beside it sees it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct Sensor {
    /// False if it has never answered.
    pub(crate) answers: bool,
    /// How old this is, milliseconds; it grows while the sensor does not answer.
    pub(crate) age_ms: Option<u64>,
    /// Its ledger.
    #[serde(deserialize_with = "lenient_list")]
    pub(crate) stages: Vec<Stage>,
    /// Interfaces and whether they are captured on.
    #[serde(deserialize_with = "lenient")]
    pub(crate) interfaces: Option<BTreeMap<String, bool>>,
}

impl Default for Sensor {
    fn default() -> Self {
        Self {
            answers: true,
            age_ms: None,
            stages: Vec::new(),
            interfaces: None,
        }
    }
}

/// A stage of a ledger.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Stage {
    /// Such as `sensor.frames`.
    pub(crate) name: String,
    /// What came in.
    pub(crate) received: u64,
    /// What was let go, by reason.
    pub(crate) dropped: BTreeMap<String, u64>,
}

impl Stage {
    /// Received and dropped.
    pub(crate) fn passage(&self) -> Passage {
        let dropped = self.dropped.values().fold(0_u64, |sum, n| sum.saturating_add(*n));
        Passage {
            received: self.received,
            dropped,
        }
    }
}

/// How much came in at a stage, and how much of it was let go.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Passage {
    /// What came in.
    pub(crate) received: u64,
    /// What was let go.
    pub(crate) dropped: u64,
}

impl Passage {
    /// What came since an earlier report; all of it if the process began anew between them.
    pub(crate) fn since(self, earlier: Self) -> Self {
        let received = self.received.checked_sub(earlier.received);
        match (received, self.dropped.checked_sub(earlier.dropped)) {
            (Some(received), Some(dropped)) => Self { received, dropped },
            _ => self,
        }
    }

    /// The share that was let go, 0 to 1; nothing if nothing came in.
    pub(crate) fn share_dropped(self) -> Option<f64> {
        (self.received > 0).then(|| self.dropped as f64 / self.received as f64)
    }
}

/// How the store is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct StoreState {
    /// Class of the error, such as `WrongPassword`; nothing if it takes batches.
    pub(crate) error: Option<String>,
    /// The store's own words.
    pub(crate) reason: String,
    /// How long it has been so, milliseconds.
    pub(crate) since_ms: Option<u64>,
    /// When it was last asked, milliseconds ago.
    pub(crate) age_ms: Option<u64>,
}

/// How the store's tables are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct SchemaState {
    /// The first difference to what the migrations left; nothing if there is none.
    pub(crate) drift: Option<String>,
    /// When it was last looked at, milliseconds ago.
    pub(crate) age_ms: Option<u64>,
}

/// What the correlator has counted.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct Counts {
    /// How old this is, milliseconds.
    pub(crate) age_ms: Option<u64>,
    /// Its ledger.
    #[serde(deserialize_with = "lenient_list")]
    pub(crate) stages: Vec<Stage>,
    /// Requests by whether their connection was found.
    #[serde(deserialize_with = "lenient")]
    pub(crate) joined: Option<Joined>,
    /// Share that was found since the beginning, 0 to 1.
    #[serde(deserialize_with = "lenient")]
    pub(crate) join_rate: Option<f64>,
    /// Requests.
    #[serde(deserialize_with = "lenient")]
    pub(crate) requests: Option<u64>,
    /// Connections with a hello.
    #[serde(deserialize_with = "lenient")]
    pub(crate) hellos: Option<u64>,
    /// What waits for the store.
    #[serde(deserialize_with = "lenient")]
    pub(crate) spool: Option<Spool>,
    /// Its listeners: that for nodes, then that for sources with a token.
    #[serde(deserialize_with = "lenient_list")]
    pub(crate) listeners: Vec<Listener>,
}

/// Requests by whether their connection was found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Joined {
    /// Found by both addresses.
    pub(crate) exact: u64,
    /// Found by the time.
    pub(crate) asof: u64,
    /// Several would do.
    pub(crate) ambiguous: u64,
    /// Not found, by reason.
    pub(crate) none: BTreeMap<String, u64>,
}

impl Joined {
    /// Requests that came over TLS.
    pub(crate) fn over_tls(&self) -> u64 {
        let none = self
            .none
            .iter()
            .filter(|(reason, _)| *reason != "plaintext")
            .map(|(_, n)| *n);
        [self.exact, self.asof, self.ambiguous]
            .into_iter()
            .chain(none)
            .fold(0, u64::saturating_add)
    }

    /// What came since an earlier report; all of it if the counts began anew between them.
    pub(crate) fn since(&self, earlier: &Self) -> Self {
        let difference = || {
            let mut none = self.none.clone();
            for (reason, n) in &earlier.none {
                let now = none.entry(reason.clone()).or_default();
                *now = now.checked_sub(*n)?;
            }
            none.retain(|_, n| *n > 0);
            Some(Self {
                exact: self.exact.checked_sub(earlier.exact)?,
                asof: self.asof.checked_sub(earlier.asof)?,
                ambiguous: self.ambiguous.checked_sub(earlier.ambiguous)?,
                none,
            })
        };
        difference().unwrap_or_else(|| self.clone())
    }
}

/// One listener.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Listener {
    /// Where it listens.
    pub(crate) name: String,
    /// Connections now.
    pub(crate) open: u64,
    /// Connections that were taken.
    pub(crate) accepted: u64,
    /// Connections that were refused, by reason such as `certificate_untrusted`.
    pub(crate) refused: BTreeMap<String, u64>,
}

/// A part that cannot be read is not there.
fn lenient<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: DeserializeOwned + Default,
{
    let Lenient(part) = Lenient::deserialize(deserializer)?;
    Ok(part.unwrap_or_default())
}

/// Members that cannot be read are left out; what is no list has none. It is never held as a whole in JSON's own form.
fn lenient_list<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: DeserializeOwned,
{
    deserializer.deserialize_any(List(PhantomData))
}

struct List<T>(PhantomData<T>);

impl<'de, T: DeserializeOwned> Visitor<'de> for List<T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut members: A) -> Result<Vec<T>, A::Error> {
        let mut list = Vec::new();
        while let Some(Lenient(member)) = members.next_element()? {
            list.extend(member);
        }
        Ok(list)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Vec<T>, A::Error> {
        while entries.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Vec::new())
    }

    fn visit_unit<E>(self) -> Result<Vec<T>, E> {
        Ok(Vec::new())
    }

    fn visit_bool<E>(self, _: bool) -> Result<Vec<T>, E> {
        Ok(Vec::new())
    }

    fn visit_i64<E>(self, _: i64) -> Result<Vec<T>, E> {
        Ok(Vec::new())
    }

    fn visit_u64<E>(self, _: u64) -> Result<Vec<T>, E> {
        Ok(Vec::new())
    }

    fn visit_f64<E>(self, _: f64) -> Result<Vec<T>, E> {
        Ok(Vec::new())
    }

    fn visit_str<E>(self, _: &str) -> Result<Vec<T>, E> {
        Ok(Vec::new())
    }
}

struct Lenient<T>(Option<T>);

impl<'de, T: DeserializeOwned> Deserialize<'de> for Lenient<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = serde_json::Value::deserialize(deserializer)?;
        // A list would do for a struct, each part of it missing.
        if value.is_array() {
            return Ok(Self(None));
        }
        Ok(Self(serde_json::from_value(value).ok()))
    }
}

#[cfg(test)]
mod tests;
