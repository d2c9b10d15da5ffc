//! The strip at the top of every page: how the pipeline is.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How far a model is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ModelState {
    /// Too little seen yet: only consistency evidence counts.
    Learning,
    /// Ranks; the forest raises no alert.
    Provisional,
    /// Ranks and alerts.
    Armed,
}

/// How far the detector is: the least advanced of its models, or that it has not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum PipelineState {
    /// No cycle has run.
    Waiting,
    /// See [`ModelState::Learning`].
    Learning,
    /// See [`ModelState::Provisional`].
    Provisional,
    /// See [`ModelState::Armed`].
    Armed,
}

/// What must be seen before a model leaves `learning`.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct Progress {
    /// Clients with enough requests.
    pub(crate) entities_ready: f64,
    /// Clients that are needed.
    pub(crate) entities_needed: f64,
    /// Minutes of event time seen.
    pub(crate) minutes_seen: f64,
    /// Minutes that are needed.
    pub(crate) minutes_needed: f64,
}

/// The newest cycle of the detector.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Cycle {
    /// Start, RFC 3339.
    #[schema(format = DateTime)]
    pub(crate) started_at: String,
    /// Seconds since then.
    pub(crate) age_s: u64,
    /// End of the window scored, RFC 3339.
    #[schema(format = DateTime)]
    pub(crate) window_end: String,
    /// Length, milliseconds.
    pub(crate) duration_ms: u32,
    /// Clients in the window.
    pub(crate) entities: u64,
    /// Clients scored.
    pub(crate) scored: u64,
    /// Clients flagged.
    pub(crate) flagged: u64,
    /// Alerts that the budget let through.
    pub(crate) alerts: u64,
    /// Clients above the threshold that it did not.
    pub(crate) suppressed: u64,
    /// Newest label that this cycle knew, RFC 3339; null when it knew none.
    #[schema(required, format = DateTime)]
    pub(crate) labels_seen_at: Option<String>,
    /// Why it failed; null when it did not.
    #[schema(required)]
    pub(crate) error: Option<String>,
}

/// Whether the store answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum StoreState {
    /// It answers.
    Ok,
    /// It does not; pages show what they have and try again.
    Unreachable,
}

/// The store.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct StoreStatus {
    /// Whether it answers.
    pub(crate) state: StoreState,
    /// Why not; null when it does.
    #[schema(required)]
    pub(crate) detail: Option<String>,
}

/// A span whose rows were recorded earlier and replayed: pages mark them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Recorded {
    /// Begin, RFC 3339.
    #[schema(format = DateTime)]
    pub(crate) from: String,
    /// End, RFC 3339.
    #[schema(format = DateTime)]
    pub(crate) to: String,
    /// What the recording is, one line.
    pub(crate) what: String,
}

/// First and last request that the store has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct DataSpan {
    /// First request, RFC 3339.
    #[schema(format = DateTime)]
    pub(crate) first: String,
    /// Last request, RFC 3339.
    #[schema(format = DateTime)]
    pub(crate) last: String,
}

/// How the pipeline is. Answered with 200 even when the store is away.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Status {
    /// How far the detector is.
    pub(crate) state: PipelineState,
    /// The same by model.
    pub(crate) model_states: BTreeMap<String, ModelState>,
    /// What is still needed; null once it does not matter or before the first cycle.
    #[schema(required)]
    pub(crate) progress: Option<Progress>,
    /// Newest cycle; null before the first, or when the store is away.
    #[schema(required)]
    pub(crate) last_cycle: Option<Cycle>,
    /// The newest cycle is older than it should be.
    pub(crate) stale: bool,
    /// Seconds between the starts of the last cycles; null before the second.
    #[schema(required)]
    pub(crate) cycle_interval_s: Option<u64>,
    /// New incidents that may be opened a day.
    pub(crate) budget: u32,
    /// New incidents of the last 24 hours.
    pub(crate) budget_used: u32,
    /// The store.
    pub(crate) store: StoreStatus,
    /// What was recorded; null when nothing was.
    #[schema(required)]
    pub(crate) recorded: Option<Recorded>,
    /// First and last request by the hour; null when there is none.
    #[schema(required)]
    pub(crate) data: Option<DataSpan>,
    /// A truth card can be asked for at /api/v1/truth.
    pub(crate) has_truth: bool,
    /// Server time, RFC 3339.
    #[schema(format = DateTime)]
    pub(crate) now: String,
    /// Version of the dashboard.
    pub(crate) version: String,
}
