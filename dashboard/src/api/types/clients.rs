//! The triage list and the page of one client.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{ClientKey, LabelEntry, LabelKind, Meta, ModelState, RequestRow, Window};

/// What the detector makes of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ClientVerdict {
    /// Above a threshold, and let through by the budget.
    Alert,
    /// Above the threshold of an armed model, or consistency evidence above its floor.
    Flagged,
    /// Scored, and below.
    Normal,
    /// Not scored in this window.
    Unscored,
}

/// One reason: structured, and as a sentence.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct Reason {
    /// forest, `robust_z`, consistency or group.
    pub(crate) voice: String,
    /// Feature; `~rest` holds what is not listed.
    pub(crate) feature: String,
    /// The reason as a sentence.
    pub(crate) text: String,
    /// Value of the client, in the feature's unit; null where there is none.
    #[schema(required)]
    pub(crate) value: Option<f64>,
    /// Median of the segment; null where there is none.
    #[schema(required)]
    pub(crate) median: Option<f64>,
    /// Share of the segment at or below the value, percent; null where it is not known.
    #[schema(required)]
    pub(crate) percentile: Option<f64>,
    /// Part of `evidence_bits`, bits.
    pub(crate) contribution: f64,
    /// What the client says; empty unless it is a contradiction.
    pub(crate) declared: String,
    /// What was seen; empty unless it is a contradiction.
    pub(crate) observed: String,
    /// Line of the catalogue that says so; empty without.
    pub(crate) source: String,
}

/// One voice of a model.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct Voice {
    /// forest, `robust_z`, consistency or group.
    pub(crate) voice: String,
    /// Raw score, in the voice's own scale; null where it has none.
    #[schema(required)]
    pub(crate) raw: Option<f64>,
    /// Share of the reference sample at least as extreme, 0 to 1; null where it has none.
    #[schema(required)]
    pub(crate) p_value: Option<f64>,
    /// Part of `evidence_bits`, bits.
    pub(crate) contribution: f64,
}

/// What one model says of a client.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct ModelScore {
    /// `segment/window`.
    pub(crate) model_name: String,
    /// Version of the model.
    pub(crate) model_version: u32,
    /// Population that the client was compared with: browser, api, `declared_bot`, `no_tls` or all.
    pub(crate) segment: String,
    /// Window: 1h or 24h.
    pub(crate) window: String,
    /// How far the model is; null when it is not said.
    #[schema(required)]
    pub(crate) state: Option<ModelState>,
    /// End of the window scored, RFC 3339.
    #[schema(format = DateTime)]
    pub(crate) window_end: String,
    /// Requests in that window.
    pub(crate) requests: u64,
    /// Combined score, 0 to 1.
    pub(crate) score: f64,
    /// The same before it is squeezed, bits: the sum of the reasons' contributions.
    pub(crate) evidence_bits: f64,
    /// Threshold of that cycle, 0 to 1; null where the client was not flagged.
    #[schema(required)]
    pub(crate) threshold: Option<f64>,
    /// What threshold and budget made of it.
    pub(crate) verdict: ClientVerdict,
    /// Every voice.
    pub(crate) voices: Vec<Voice>,
    /// Strongest first.
    pub(crate) reasons: Vec<Reason>,
}

/// The incident of a client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Incident {
    /// Id.
    pub(crate) id: String,
    /// One line.
    pub(crate) title: String,
    /// open, acknowledged or closed.
    pub(crate) status: String,
    /// low, medium, high or critical.
    pub(crate) severity: String,
    /// First alert, RFC 3339.
    #[schema(format = DateTime)]
    pub(crate) opened_at: String,
    /// Last alert, RFC 3339.
    #[schema(format = DateTime)]
    pub(crate) last_alert_at: String,
}

/// The label of a client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Label {
    /// The verdict.
    pub(crate) label: LabelKind,
    /// Why, in the analyst's words.
    pub(crate) note: String,
    /// Who.
    pub(crate) author: String,
    /// When, RFC 3339.
    #[schema(format = DateTime)]
    pub(crate) at: String,
    /// Until when it holds, RFC 3339; null for ever.
    #[schema(required, format = DateTime)]
    pub(crate) expires_at: Option<String>,
    /// The act, for undo; null for a label that did not come from here.
    #[schema(required)]
    pub(crate) act_id: Option<String>,
}

/// One client with all its models and windows.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct ClientRow {
    /// Id: a hash of address, JA4 and host, as a decimal string.
    pub(crate) entity_id: String,
    /// Address.
    pub(crate) src_ip: String,
    /// JA4; empty without TLS.
    pub(crate) ja4: String,
    /// Host asked.
    pub(crate) host: String,
    /// Programs that are known to send this JA4, most likely first.
    pub(crate) identity: Vec<String>,
    /// Family that the User-Agent claims; empty without.
    pub(crate) ua_family: String,
    /// Country of the address, ISO 3166; empty where unknown.
    pub(crate) country: String,
    /// Autonomous system of the address; 0 where unknown.
    pub(crate) asn: u32,
    /// Its name; empty where unknown.
    pub(crate) as_name: String,
    /// Operator whose published crawler range holds the address; empty without.
    pub(crate) crawler: String,
    /// Requests in the hours that the window touches.
    pub(crate) requests: u64,
    /// Answers 400 and above among them.
    pub(crate) errors: u64,
    /// Response bodies, bytes.
    pub(crate) bytes: u64,
    /// First request in these hours, RFC 3339; null when they are gone from the store.
    #[schema(required, format = DateTime)]
    pub(crate) first_seen: Option<String>,
    /// Last request, RFC 3339.
    #[schema(required, format = DateTime)]
    pub(crate) last_seen: Option<String>,
    /// Evidence of the model that has most, bits; null when not scored. Clients are ranked by it.
    #[schema(required)]
    pub(crate) evidence_bits: Option<f64>,
    /// Score of that model, 0 to 1; null when not scored.
    #[schema(required)]
    pub(crate) score: Option<f64>,
    /// The strongest verdict of its models.
    pub(crate) verdict: ClientVerdict,
    /// Since when it is flagged without a quiet day, RFC 3339; null when it is not.
    #[schema(required, format = DateTime)]
    pub(crate) flagged_since: Option<String>,
    /// The analysts' label; null without.
    #[schema(required)]
    pub(crate) label: Option<Label>,
    /// Newest score of each model, most evidence first.
    pub(crate) models: Vec<ModelScore>,
    /// Reasons of the model with most evidence, strongest first.
    pub(crate) reasons: Vec<Reason>,
    /// The incident; null without.
    #[schema(required)]
    pub(crate) incident: Option<Incident>,
    /// All its requests here were recorded earlier and replayed.
    pub(crate) recorded: bool,
}

/// Order of the triage list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ClientSort {
    /// Most evidence first; clients that were not scored follow, most requests first.
    #[default]
    Evidence,
    /// Most requests first.
    Requests,
    /// Most answers 400 and above first.
    Errors,
    /// Last seen first.
    LastSeen,
    /// First seen last.
    FirstSeen,
}

/// Which clients.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ClientsParams {
    /// Begin of the window: RFC 3339, or relative as `now-24h`. Default `now-24h`.
    pub(crate) from: Option<String>,
    /// End of the window. Default `now`.
    pub(crate) to: Option<String>,
    /// Filter: clients with a request that passes it.
    pub(crate) q: Option<String>,
    /// Order.
    #[param(inline)]
    pub(crate) sort: Option<ClientSort>,
    /// Most rows, 1 to 500; default 100.
    #[param(minimum = 1, maximum = 500)]
    pub(crate) limit: Option<u32>,
    /// Where the last page ended.
    pub(crate) cursor: Option<String>,
}

/// The triage list.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Clients {
    /// What was asked for.
    pub(crate) window: Window,
    /// In the order asked for.
    pub(crate) clients: Vec<ClientRow>,
    /// For the next page; null on the last.
    #[schema(required)]
    pub(crate) next_cursor: Option<String>,
    /// How it came about.
    #[serde(flatten)]
    pub(crate) meta: Meta,
}

/// One client, and a window.
#[derive(Debug, Clone, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ClientParams {
    /// Address.
    pub(crate) src_ip: String,
    /// JA4; empty or left out for clients without TLS.
    pub(crate) ja4: Option<String>,
    /// Host asked.
    pub(crate) host: String,
    /// Begin of the window. Default `now-24h`.
    pub(crate) from: Option<String>,
    /// End of the window. Default `now`.
    pub(crate) to: Option<String>,
}

/// What a client declares, or what was observed, is compared in these dimensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum MatrixDimension {
    /// The User-Agent header itself.
    UserAgent,
    /// The TLS fingerprint.
    Ja4,
    /// Order and case of the header names.
    HeaderOrder,
    /// HTTP/2 settings and pseudo-header order.
    Http2,
    /// TCP options of the SYN.
    Tcp,
    /// The address, against published ranges of crawlers.
    Address,
}

/// Whether an observation fits the declaration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum MatrixVerdict {
    /// It fits.
    Agrees,
    /// It does not.
    Contradicts,
    /// The catalogue cannot say.
    Unknown,
}

/// One row of the identity matrix.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct MatrixCell {
    /// What is compared.
    pub(crate) dimension: MatrixDimension,
    /// What the client declares to be, as far as this dimension goes.
    pub(crate) declared: String,
    /// What was observed.
    pub(crate) observed: String,
    /// Whether it fits.
    pub(crate) verdict: MatrixVerdict,
    /// Evidence of a contradiction, bits; 0 otherwise.
    pub(crate) bits: f64,
    /// Line of the catalogue that says so, with how and when it was measured; empty without.
    pub(crate) source: String,
    /// Why, one sentence.
    pub(crate) why: String,
}

/// What the User-Agent claims.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Claims {
    /// browser, crawler, library, app or none.
    pub(crate) kind: String,
    /// Family, such as Chrome; empty without.
    pub(crate) family: String,
    /// Version; empty without.
    pub(crate) version: String,
    /// Operating system; empty without.
    pub(crate) os: String,
}

/// Declared against observed.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct Matrix {
    /// What the client claims to be.
    pub(crate) claims: Claims,
    /// One for each dimension.
    pub(crate) cells: Vec<MatrixCell>,
}

/// A value that the client showed, and how often.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Shown {
    /// The value, at most 2048 characters.
    pub(crate) value: String,
    /// The value is longer than shown.
    pub(crate) cut: bool,
    /// Requests with it.
    pub(crate) requests: u64,
    /// Of a header order its hash, a decimal string, by which `/group` knows it; null for other values.
    #[schema(required)]
    pub(crate) hash: Option<String>,
}

/// TCP facts of the SYN.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct TcpFacts {
    /// TTL or hop limit.
    pub(crate) ttl: u8,
    /// Window, bytes.
    pub(crate) window: u16,
    /// Maximum segment size, bytes; 0 without.
    pub(crate) mss: u16,
    /// Window scale, a power of two; 255 without.
    pub(crate) wscale: u8,
    /// Option numbers in order, comma between.
    pub(crate) options: String,
}

/// What the client showed in the window.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct ClientFacts {
    /// User-Agent headers, most frequent first, at most 16.
    pub(crate) user_agents: Vec<Shown>,
    /// Header names in order, most frequent first, at most 16.
    pub(crate) header_orders: Vec<Shown>,
    /// HTTP/2 fingerprints, most frequent first, at most 16.
    pub(crate) h2_fps: Vec<Shown>,
    /// HTTP versions.
    pub(crate) http_versions: Vec<Shown>,
    /// Methods.
    pub(crate) methods: Vec<Shown>,
    /// Statuses.
    pub(crate) statuses: Vec<Shown>,
    /// Most frequent paths with numbers and ids replaced, at most 16.
    pub(crate) paths: Vec<Shown>,
    /// How requests found their connection.
    pub(crate) matches: Vec<Shown>,
    /// Where request and connection disagree.
    pub(crate) contradictions: Vec<Shown>,
    /// JA4 without PSK and padding.
    pub(crate) ja4_norm: String,
    /// JA3 of a request; empty without.
    pub(crate) ja3: String,
    /// ALPN offered, comma between.
    pub(crate) alpn: String,
    /// Highest TLS version offered.
    pub(crate) tls_version: String,
    /// Server name of the ClientHello.
    pub(crate) sni: String,
    /// TCP facts; null when no SYN was seen.
    #[schema(required)]
    pub(crate) tcp: Option<TcpFacts>,
    /// Connections.
    pub(crate) connections: u64,
    /// Distinct paths.
    pub(crate) n_paths: u64,
}

/// A number of the client against its segment.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct FeatureNumber {
    /// Feature.
    pub(crate) feature: String,
    /// What it is called in a sentence.
    pub(crate) title: String,
    /// Unit; empty for counts and shares.
    pub(crate) unit: String,
    /// Value of the client; null when it is missing.
    #[schema(required)]
    pub(crate) value: Option<f64>,
    /// Median of the segment in the same cycle; null when unknown.
    #[schema(required)]
    pub(crate) median: Option<f64>,
    /// Share of the segment at or below the value, percent; null when unknown.
    #[schema(required)]
    pub(crate) percentile: Option<f64>,
}

/// The numbers of one model.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct Numbers {
    /// `segment/window`.
    pub(crate) model_name: String,
    /// Clients of the segment that the medians are of.
    pub(crate) population: u64,
    /// In the order of the feature list.
    pub(crate) features: Vec<FeatureNumber>,
}

/// A step of the score waterfall.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct WaterfallStep {
    /// Voice.
    pub(crate) voice: String,
    /// Feature; `~rest` holds what is not listed.
    pub(crate) feature: String,
    /// The reason as a sentence.
    pub(crate) text: String,
    /// What it adds, bits; may be negative.
    pub(crate) bits: f64,
    /// Sum so far, bits.
    pub(crate) sum: f64,
}

/// How the score of one model comes about: steps add up to `total`.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct Waterfall {
    /// `segment/window`.
    pub(crate) model_name: String,
    /// Strongest first, `~rest` last.
    pub(crate) steps: Vec<WaterfallStep>,
    /// `evidence_bits`.
    pub(crate) total: f64,
}

/// Days on which the address was flagged, over 7 days at most.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct Recurrence {
    /// Days.
    pub(crate) days_flagged: u32,
    /// Clients with this address that were flagged.
    pub(crate) clients_flagged: u64,
    /// First time, RFC 3339.
    #[schema(format = DateTime)]
    pub(crate) first_flagged_at: String,
    /// Last time, RFC 3339.
    #[schema(format = DateTime)]
    pub(crate) last_flagged_at: String,
    /// Highest score.
    pub(crate) score_max: f64,
}

/// The page of one client.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct ClientPage {
    /// What was asked for.
    pub(crate) window: Window,
    /// As in the triage list.
    pub(crate) client: ClientRow,
    /// What it showed; null when it made no request in the window.
    #[schema(required)]
    pub(crate) facts: Option<ClientFacts>,
    /// Declared against observed; null when it made no request in the window.
    #[schema(required)]
    pub(crate) matrix: Option<Matrix>,
    /// The numbers against the median, by model, most evidence first.
    pub(crate) numbers: Vec<Numbers>,
    /// How the scores come about, by model, most evidence first.
    pub(crate) waterfalls: Vec<Waterfall>,
    /// Labels and undos, newest first.
    pub(crate) labels: Vec<LabelEntry>,
    /// Days on which its address was flagged; null when it never was.
    #[schema(required)]
    pub(crate) recurrence: Option<Recurrence>,
    /// Other clients with this address in the window, most requests first, at most 20.
    pub(crate) siblings: Vec<ClientKey>,
    /// How it came about.
    #[serde(flatten)]
    pub(crate) meta: Meta,
}

/// One client, a window and a step.
#[derive(Debug, Clone, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct TimelineParams {
    /// Address.
    pub(crate) src_ip: String,
    /// JA4; empty or left out for clients without TLS.
    pub(crate) ja4: Option<String>,
    /// Host asked.
    pub(crate) host: String,
    /// Begin of the window. Default `now-24h`.
    pub(crate) from: Option<String>,
    /// End of the window. Default `now`.
    pub(crate) to: Option<String>,
    /// Length of a step, seconds.
    #[param(minimum = 1, maximum = 86400)]
    pub(crate) step: Option<u32>,
}

/// What a client did in one step.
#[derive(Debug, Clone, Default, Serialize, ToSchema)]
pub(crate) struct TimelinePoint {
    /// Start of the step, RFC 3339.
    #[schema(format = DateTime)]
    pub(crate) t: String,
    /// Requests.
    pub(crate) requests: u64,
    /// Answers 400 and above among them.
    pub(crate) errors: u64,
    /// Response bodies, bytes.
    pub(crate) bytes: u64,
}

/// What happened to a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum TimelineEventKind {
    /// The detector flagged it.
    Detection,
    /// An analyst labelled it or took a label back.
    Label,
}

/// An event on the timeline.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct TimelineEvent {
    /// When, RFC 3339.
    #[schema(format = DateTime)]
    pub(crate) t: String,
    /// What.
    pub(crate) kind: TimelineEventKind,
    /// One line.
    pub(crate) text: String,
}

/// A client over time.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Timeline {
    /// What was asked for.
    pub(crate) window: Window,
    /// Length of a step, seconds.
    pub(crate) step_s: u32,
    /// Oldest first; steps without requests are there with zeros.
    pub(crate) points: Vec<TimelinePoint>,
    /// Oldest first, at most 200.
    pub(crate) events: Vec<TimelineEvent>,
    /// How it came about.
    #[serde(flatten)]
    pub(crate) meta: Meta,
}

/// One client, a window and a page.
#[derive(Debug, Clone, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ClientRequestsParams {
    /// Address.
    pub(crate) src_ip: String,
    /// JA4; empty or left out for clients without TLS.
    pub(crate) ja4: Option<String>,
    /// Host asked.
    pub(crate) host: String,
    /// Begin of the window. Default `now-24h`.
    pub(crate) from: Option<String>,
    /// End of the window. Default `now`.
    pub(crate) to: Option<String>,
    /// Filter beside it.
    pub(crate) q: Option<String>,
    /// Most rows, 1 to 1000; default 100.
    #[param(minimum = 1, maximum = 1000)]
    pub(crate) limit: Option<u32>,
    /// Where the last page ended.
    pub(crate) cursor: Option<String>,
}

/// A list of requests, newest first.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Requests {
    /// What was asked for.
    pub(crate) window: Window,
    /// Newest first.
    pub(crate) requests: Vec<RequestRow>,
    /// For the next page; null on the last.
    #[schema(required)]
    pub(crate) next_cursor: Option<String>,
    /// How it came about.
    #[serde(flatten)]
    pub(crate) meta: Meta,
}

/// One score of a client.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct ScorePoint {
    /// End of the window scored, RFC 3339.
    #[schema(format = DateTime)]
    pub(crate) window_end: String,
    /// `segment/window`.
    pub(crate) model_name: String,
    /// Version of the model.
    pub(crate) model_version: u32,
    /// Requests in the window.
    pub(crate) requests: u64,
    /// Combined score, 0 to 1.
    pub(crate) score: f64,
    /// The same, bits.
    pub(crate) evidence_bits: f64,
    /// What threshold and budget made of it.
    pub(crate) verdict: ClientVerdict,
    /// Every voice.
    pub(crate) voices: Vec<Voice>,
}

/// Scores of a client over time.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Scores {
    /// What was asked for.
    pub(crate) window: Window,
    /// Newest first.
    pub(crate) scores: Vec<ScorePoint>,
    /// How it came about.
    #[serde(flatten)]
    pub(crate) meta: Meta,
}
