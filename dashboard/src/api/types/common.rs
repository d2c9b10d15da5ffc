//! What many answers share: the window, what was cut, the problem document, a client's key.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// Why an answer is not whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum TruncatedBy {
    /// More rows match than are shown; for lists with a cursor the rest is on the next page.
    Rows,
    /// The query ran out of time: what was read until then is shown.
    Time,
    /// The query may not read more rows of the store: what was read until then is shown.
    RowsRead,
    /// The query may not read more bytes of the store: what was read until then is shown.
    BytesRead,
}

/// What was cut, and at which limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Truncated {
    /// What ran out.
    pub(crate) by: TruncatedBy,
    /// The limit: rows, milliseconds, rows read or bytes read.
    pub(crate) limit: u64,
}

/// How an answer came about.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Meta {
    /// What was cut; null when the answer is whole.
    #[schema(required)]
    pub(crate) truncated: Option<Truncated>,
    /// Time in the store, milliseconds.
    pub(crate) took_ms: u32,
    /// When the store was asked, RFC 3339.
    #[schema(format = DateTime)]
    pub(crate) as_of: String,
}

/// The window that was asked for, resolved: `from` is in it, `to` is not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Window {
    /// Begin, RFC 3339.
    #[schema(format = DateTime)]
    pub(crate) from: String,
    /// End, RFC 3339.
    #[schema(format = DateTime)]
    pub(crate) to: String,
}

/// Window and filter, which every page has.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct WindowParams {
    /// Begin of the window: RFC 3339, or relative as `now-24h` (units s, m, h, d). Default `now-24h`.
    pub(crate) from: Option<String>,
    /// End of the window, as `from`. Default `now`.
    pub(crate) to: Option<String>,
    /// Filter, see GET /api/v1/fields. Default: everything.
    pub(crate) q: Option<String>,
}

/// A client: who asks which host with which fingerprint.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ClientKey {
    /// Address.
    pub(crate) src_ip: String,
    /// JA4; empty without TLS.
    pub(crate) ja4: String,
    /// Host asked.
    pub(crate) host: String,
}

/// What went wrong, as `application/problem+json` (RFC 9457).
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Problem {
    /// Always `about:blank`: `code` says what it is.
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
    /// HTTP status in words.
    pub(crate) title: String,
    /// HTTP status.
    pub(crate) status: u16,
    /// What it is, for programs.
    pub(crate) code: ProblemCode,
    /// What it is, where, and what to do: one line for people.
    pub(crate) detail: String,
    /// Where in the filter; null unless `code` is `bad_filter`.
    #[schema(required)]
    pub(crate) position: Option<Position>,
    /// What to do about it, where that is known beyond `detail`; for a filter what to write instead.
    #[schema(required)]
    pub(crate) remedy: Option<String>,
    /// Id of the request, as in the log and the header `x-request-id`.
    pub(crate) request_id: String,
}

/// Kinds of problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ProblemCode {
    /// A parameter or the body is missing, unknown or out of range.
    BadParameter,
    /// The filter cannot be read; `position` says where.
    BadFilter,
    /// No session, or it ended: log in.
    NotLoggedIn,
    /// Name and password do not belong together, or the link is used up or too old.
    BadCredentials,
    /// The role does not allow it.
    Forbidden,
    /// The request does not come from our own page, or without its CSRF token.
    CrossSite,
    /// No such thing.
    NotFound,
    /// It changed meanwhile.
    Conflict,
    /// The body is too long.
    TooLarge,
    /// Too many attempts: wait, `Retry-After` says how long.
    TooManyAttempts,
    /// The store does not answer.
    StoreUnreachable,
    /// The store has too much to do just now.
    StoreBusy,
    /// The store has no tables of ours, or older ones.
    StoreNotMigrated,
    /// The detector does not answer.
    DetectorUnreachable,
    /// The query needs more memory or time than it may have: ask for less.
    QueryTooLarge,
    /// The dashboard took too long.
    Timeout,
    /// A fault of the dashboard; the log has it under `request_id`.
    Internal,
}

/// A place in a text, in characters (Unicode scalar values) from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Position {
    /// First character; the length of the text when something is missing at its end.
    pub(crate) offset: usize,
    /// Characters; 0 when something is missing there.
    pub(crate) length: usize,
}
