//! Requests: few columns in a list, all of them on a click.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// One request in a list.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct RequestRow {
    /// Start, RFC 3339 with microseconds.
    #[schema(format = DateTime)]
    pub(crate) ts: String,
    /// Client address.
    pub(crate) src_ip: String,
    /// Client port.
    pub(crate) src_port: u16,
    /// JA4; empty without TLS.
    pub(crate) ja4: String,
    /// Host asked.
    pub(crate) host: String,
    /// Method.
    pub(crate) method: String,
    /// Path.
    pub(crate) path: String,
    /// Query string, secrets redacted.
    pub(crate) query: String,
    /// Status; 0 when the end was not seen.
    pub(crate) status: u16,
    /// Response body, bytes.
    pub(crate) bytes_sent: u64,
    /// Start to end, microseconds.
    pub(crate) duration_us: u32,
    /// User-Agent.
    pub(crate) user_agent: String,
    /// Family that it claims.
    pub(crate) ua_family: String,
    /// Country of the address.
    pub(crate) country: String,
    /// Autonomous system of the address.
    pub(crate) asn: u32,
    /// How the connection was found: exact, asof, ambiguous, none.
    pub(crate) r#match: String,
    /// First half of the event's identity, decimal.
    pub(crate) boot: String,
    /// Second half, decimal.
    pub(crate) seq: String,
    /// Fields that are longer than shown here; each is shown to 512 characters.
    pub(crate) cut: Vec<String>,
    /// It was recorded earlier and replayed.
    pub(crate) recorded: bool,
}

/// Which requests.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct RequestsParams {
    /// Begin of the window. Default `now-24h`.
    pub(crate) from: Option<String>,
    /// End of the window. Default `now`.
    pub(crate) to: Option<String>,
    /// Filter.
    pub(crate) q: Option<String>,
    /// Most rows, 1 to 1000; default 100.
    #[param(minimum = 1, maximum = 1000)]
    pub(crate) limit: Option<u32>,
    /// Where the last page ended.
    pub(crate) cursor: Option<String>,
}

/// Which request.
#[derive(Debug, Clone, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct RequestParams {
    /// Start, RFC 3339 with microseconds, as in the list.
    pub(crate) ts: String,
    /// Client address.
    pub(crate) src_ip: String,
    /// First half of the event's identity.
    pub(crate) boot: String,
    /// Second half.
    pub(crate) seq: String,
}

/// One column of a request.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct RequestColumn {
    /// Name in the store.
    pub(crate) name: String,
    /// Text, number, true or false, or an object of texts (`headers`).
    #[schema(value_type = Object)]
    pub(crate) value: serde_json::Value,
    /// What the column is, with its unit.
    pub(crate) comment: String,
    /// The set bits by name, for columns of flags.
    pub(crate) flags: Vec<String>,
}

/// Every column of one request.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct RequestDetail {
    /// In the order of the store.
    pub(crate) columns: Vec<RequestColumn>,
    /// It was recorded earlier and replayed.
    pub(crate) recorded: bool,
    /// How it came about.
    #[serde(flatten)]
    pub(crate) meta: super::Meta,
}

/// Form of an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ExportFormat {
    /// Comma-separated, with a header line; values that a spreadsheet would take for a formula begin with `'`.
    Csv,
    /// One JSON object a line, values as they are.
    Ndjson,
}

/// What to export.
#[derive(Debug, Clone, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ExportParams {
    /// Form.
    #[param(inline)]
    pub(crate) format: ExportFormat,
    /// Begin of the window. Default `now-24h`.
    pub(crate) from: Option<String>,
    /// End of the window. Default `now`.
    pub(crate) to: Option<String>,
    /// Filter.
    pub(crate) q: Option<String>,
    /// Order; for clients only.
    #[param(inline)]
    pub(crate) sort: Option<super::ClientSort>,
}
