//! The first page: traffic, joins, clients by verdict, what is new.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{Meta, Window};

/// Traffic of one step.
#[derive(Debug, Clone, Default, Serialize, ToSchema)]
pub(crate) struct TrafficPoint {
    /// Start of the step, RFC 3339.
    #[schema(format = DateTime)]
    pub(crate) t: String,
    /// Requests.
    pub(crate) requests: u64,
    /// Answers 200 to 299.
    pub(crate) s2xx: u64,
    /// Answers 300 to 399.
    pub(crate) s3xx: u64,
    /// Answers 400 to 499.
    pub(crate) s4xx: u64,
    /// Answers 500 and above.
    pub(crate) s5xx: u64,
    /// Response bodies, bytes.
    pub(crate) bytes: u64,
    /// Requests over https: those that a join is expected for.
    pub(crate) secure: u64,
    /// Requests joined with a connection.
    pub(crate) joined: u64,
    /// Requests over HTTP/2 or 3.
    pub(crate) h2: u64,
}

/// The window's traffic in all.
#[derive(Debug, Clone, Default, Serialize, ToSchema)]
pub(crate) struct TrafficTotals {
    /// Requests.
    pub(crate) requests: u64,
    /// Answers 400 and above.
    pub(crate) errors: u64,
    /// Response bodies, bytes.
    pub(crate) bytes: u64,
    /// Clients; counted to within 2 %.
    pub(crate) clients: u64,
}

/// Requests without a connection, by reason; and how the others found theirs.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct JoinReason {
    /// exact, asof, ambiguous or none.
    pub(crate) r#match: String,
    /// Why there is no connection; empty for a match.
    pub(crate) reason: String,
    /// Requests.
    pub(crate) requests: u64,
}

/// Events of one producer that never arrived.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Loss {
    /// Kind of producer.
    pub(crate) source: String,
    /// Host of the producer.
    pub(crate) node: String,
    /// Why: a reason that the producer gave, or `lost` for gaps that none explains.
    pub(crate) reason: String,
    /// Events, since the producer started.
    pub(crate) events: u64,
}

/// How well requests find their connections, and what got lost before.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Joins {
    /// Requests over https.
    pub(crate) secure: u64,
    /// Of these, joined.
    pub(crate) joined: u64,
    /// Share joined, 0 to 1; null without requests over https.
    #[schema(required)]
    pub(crate) rate: Option<f64>,
    /// By outcome and reason, most frequent first.
    pub(crate) reasons: Vec<JoinReason>,
    /// Events that never arrived, by producer and reason, most first.
    pub(crate) loss: Vec<Loss>,
}

/// Clients of the window by what is known of them.
#[derive(Debug, Clone, Default, Serialize, ToSchema)]
pub(crate) struct ClientCounts {
    /// All; counted to within 2 %.
    pub(crate) total: u64,
    /// Scored by the detector.
    pub(crate) scored: u64,
    /// Above a threshold, alerts included.
    pub(crate) flagged: u64,
    /// Let through by the budget.
    pub(crate) alert: u64,
    /// Labelled bot.
    pub(crate) bot: u64,
    /// Labelled legitimate.
    pub(crate) legitimate: u64,
    /// Labelled verified crawler.
    pub(crate) verified_crawler: u64,
    /// Labelled unsure.
    pub(crate) unsure: u64,
}

/// A value that was never seen on its host before this window.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Novelty {
    /// ja4, `user_agent`, asn or `header_order`.
    pub(crate) kind: String,
    /// Host on which it is new.
    pub(crate) host: String,
    /// The value, at most 512 characters.
    pub(crate) value: String,
    /// First request with it, RFC 3339.
    #[schema(format = DateTime)]
    pub(crate) first_seen: String,
    /// Requests with it.
    pub(crate) requests: u64,
}

/// One value of a facet.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct FacetValue {
    /// The value, as the filter language takes it.
    pub(crate) value: String,
    /// What it stands for, such as the programs with this JA4 or the name of a network; null when nothing is known.
    #[schema(required)]
    pub(crate) name: Option<String>,
    /// Requests.
    pub(crate) requests: u64,
    /// Answers 400 and above among them.
    pub(crate) errors: u64,
    /// Client addresses; counted to within 2 %.
    pub(crate) clients: u64,
}

/// Most frequent values of one field.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Facet {
    /// Field of the filter language.
    pub(crate) field: String,
    /// Most frequent first.
    pub(crate) values: Vec<FacetValue>,
    /// There are more values than these.
    pub(crate) more: bool,
}

/// The first page.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Overview {
    /// What was asked for.
    pub(crate) window: Window,
    /// Length of a step, seconds.
    pub(crate) step_s: u32,
    /// Traffic by step, oldest first; steps without requests are there with zeros.
    pub(crate) series: Vec<TrafficPoint>,
    /// The same in all.
    pub(crate) totals: TrafficTotals,
    /// Joins and losses.
    pub(crate) joins: Joins,
    /// Clients.
    pub(crate) clients: ClientCounts,
    /// What is new, most requests first; null while the detector learns (then all is new).
    #[schema(required)]
    pub(crate) novelties: Option<Vec<Novelty>>,
    /// Most frequent values.
    pub(crate) facets: Vec<Facet>,
    /// How it came about.
    #[serde(flatten)]
    pub(crate) meta: Meta,
}

/// Window, filter and step.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct HistogramParams {
    /// Begin of the window: RFC 3339, or relative as `now-24h`. Default `now-24h`.
    pub(crate) from: Option<String>,
    /// End of the window. Default `now`.
    pub(crate) to: Option<String>,
    /// Filter.
    pub(crate) q: Option<String>,
    /// Length of a step, seconds, 1 to 86400; default: one that gives 60 to 180 steps. Raised when it would give more
    /// than 2000.
    #[param(minimum = 1, maximum = 86400)]
    pub(crate) step: Option<u32>,
}

/// Requests of one step that pass the filter.
#[derive(Debug, Clone, Default, Serialize, ToSchema)]
pub(crate) struct HistogramPoint {
    /// Start of the step, RFC 3339.
    #[schema(format = DateTime)]
    pub(crate) t: String,
    /// Requests.
    pub(crate) requests: u64,
    /// Answers 400 and above among them.
    pub(crate) errors: u64,
}

/// Requests by step.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Histogram {
    /// What was asked for.
    pub(crate) window: Window,
    /// Length of a step, seconds.
    pub(crate) step_s: u32,
    /// Oldest first; steps without requests are there with zeros.
    pub(crate) points: Vec<HistogramPoint>,
    /// Requests in all.
    pub(crate) total: u64,
    /// How it came about.
    #[serde(flatten)]
    pub(crate) meta: Meta,
}

/// Facets of the window.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Facets {
    /// What was asked for.
    pub(crate) window: Window,
    /// By field.
    pub(crate) facets: Vec<Facet>,
    /// How it came about.
    #[serde(flatten)]
    pub(crate) meta: Meta,
}
