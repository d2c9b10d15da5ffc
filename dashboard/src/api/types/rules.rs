//! Rules for what stands in front: made from selected clients, with what they would have hit.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{ClientKey, Window};

/// Where the rules go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RulesFormat {
    /// A `map` block of nginx.
    NginxMap,
    /// A set of nftables.
    NftablesSet,
    /// A map file of `HAProxy`.
    HaproxyMap,
    /// Commands for `CrowdSec`.
    Crowdsec,
}

/// What of a client the rules match.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RulesMatch {
    /// The address, whatever it asks.
    #[default]
    Address,
    /// The address on this host; for nginx and `HAProxy`.
    AddressHost,
    /// The JA4, whoever has it; for nginx and `HAProxy` that know it. Hits everybody with the same program.
    Ja4,
}

/// Clients to make rules for.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RulesRequest {
    /// Where the rules go.
    pub(crate) format: RulesFormat,
    /// What they match. Default: the address.
    #[serde(default)]
    pub(crate) r#match: RulesMatch,
    /// 1 to 500 clients.
    #[schema(min_items = 1, max_items = 500)]
    pub(crate) clients: Vec<ClientKey>,
}

/// A client that no rule was made for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct SkippedClient {
    /// The client.
    pub(crate) client: ClientKey,
    /// Why.
    pub(crate) why: String,
}

/// What the rules would have hit.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct WouldHit {
    /// The last 24 hours.
    pub(crate) window: Window,
    /// Requests.
    pub(crate) requests: u64,
    /// Clients.
    pub(crate) clients: u64,
    /// Of these, labelled legitimate or verified crawler.
    pub(crate) legitimate_clients: u64,
    /// Some of these, at most 20.
    pub(crate) legitimate_examples: Vec<ClientKey>,
}

/// Rules to copy.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Rules {
    /// The text.
    pub(crate) text: String,
    /// A name for it as a file.
    pub(crate) filename: String,
    /// How to use it, one line.
    pub(crate) usage: String,
    /// Rules in it.
    pub(crate) n_rules: u64,
    /// Clients that no rule was made for.
    pub(crate) skipped: Vec<SkippedClient>,
    /// What it would have hit.
    pub(crate) would_hit: WouldHit,
}
