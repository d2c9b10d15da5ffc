//! The page of what several clients share: a JA4, a host, a network prefix, a header order, a User-Agent.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{ClientRow, Facet, HistogramPoint, Meta, Reason, TrafficTotals, Window};

/// What a group shares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum GroupKind {
    /// A JA4.
    Ja4,
    /// A host asked.
    Host,
    /// A network: /24 for IPv4, /64 for IPv6; any length may be asked for.
    Prefix,
    /// A header order, by its hash.
    HeaderOrder,
    /// A User-Agent.
    UserAgent,
}

/// Which group.
#[derive(Debug, Clone, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct GroupParams {
    /// What the group shares.
    #[param(inline)]
    pub(crate) kind: GroupKind,
    /// The value: a JA4, host, network, hash of a header order (decimal) or User-Agent.
    pub(crate) value: String,
    /// Begin of the window. Default `now-24h`.
    pub(crate) from: Option<String>,
    /// End of the window. Default `now`.
    pub(crate) to: Option<String>,
    /// Filter beside it.
    pub(crate) q: Option<String>,
}

/// One score of a group.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct GroupScore {
    /// End of the window scored, RFC 3339.
    #[schema(format = DateTime)]
    pub(crate) window_end: String,
    /// `segment/window`.
    pub(crate) model_name: String,
    /// Clients in the group.
    pub(crate) clients: u32,
    /// Requests of the group.
    pub(crate) requests: u64,
    /// Combined score, 0 to 1.
    pub(crate) score: f64,
    /// Strongest first.
    pub(crate) reasons: Vec<Reason>,
}

/// When a value was first and last seen on a host.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct SeenOnHost {
    /// Host.
    pub(crate) host: String,
    /// First request, RFC 3339; kept for 400 days.
    #[schema(format = DateTime)]
    pub(crate) first_seen: String,
    /// Last request, RFC 3339.
    #[schema(format = DateTime)]
    pub(crate) last_seen: String,
    /// Requests.
    pub(crate) requests: u64,
}

/// The page of a group.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct GroupPage {
    /// What was asked for.
    pub(crate) window: Window,
    /// What the group shares.
    pub(crate) kind: GroupKind,
    /// The value.
    pub(crate) value: String,
    /// The value in full, where `value` is a hash (the header names); else the same, at most 2048 characters.
    pub(crate) shown: String,
    /// A filter that gives the same requests.
    pub(crate) filter: String,
    /// What is known of the value: programs with this JA4, owner of the network.
    pub(crate) identity: Vec<String>,
    /// Totals.
    pub(crate) totals: TrafficTotals,
    /// Length of a step, seconds.
    pub(crate) step_s: u32,
    /// Requests by step, oldest first.
    pub(crate) points: Vec<HistogramPoint>,
    /// Scores of the group, newest first, at most 100.
    pub(crate) scores: Vec<GroupScore>,
    /// When it was first seen, by host, at most 100; empty where that is not kept.
    pub(crate) seen: Vec<SeenOnHost>,
    /// Its clients in triage order, at most 100.
    pub(crate) clients: Vec<ClientRow>,
    /// Most frequent values within it.
    pub(crate) facets: Vec<Facet>,
    /// How it came about.
    #[serde(flatten)]
    pub(crate) meta: Meta,
}
