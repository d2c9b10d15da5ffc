//! What analysts decide: labels with a note, undo, and the record of every act.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{ClientKey, Meta};

/// An analyst's verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum LabelKind {
    /// A bot.
    Bot,
    /// A person or a program that may do this.
    Legitimate,
    /// A crawler that is what it says.
    VerifiedCrawler,
    /// Looked at, not decided.
    Unsure,
}

/// A label for clients.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LabelRequest {
    /// 1 to 500 clients.
    #[schema(min_items = 1, max_items = 500)]
    pub(crate) clients: Vec<ClientKey>,
    /// The verdict.
    pub(crate) label: LabelKind,
    /// Why, at most 2000 characters; may be empty.
    #[serde(default)]
    pub(crate) note: String,
    /// Until when it holds, RFC 3339; left out or null for ever.
    #[serde(default)]
    #[schema(format = DateTime)]
    pub(crate) expires_at: Option<String>,
}

/// What an act did.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct LabelAct {
    /// The act, for undo.
    pub(crate) act_id: String,
    /// Clients changed.
    pub(crate) changed: u64,
    /// Clients that somebody labelled again since and that an undo therefore left alone.
    pub(crate) left_alone: Vec<ClientKey>,
    /// When, RFC 3339: a cycle that began later knows it.
    #[schema(format = DateTime)]
    pub(crate) at: String,
}

/// The act to take back.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct UndoRequest {
    /// The act.
    pub(crate) act_id: String,
}

/// One act on one client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct LabelEntry {
    /// The act.
    pub(crate) act_id: String,
    /// When, RFC 3339.
    #[schema(format = DateTime)]
    pub(crate) at: String,
    /// The client.
    pub(crate) client: ClientKey,
    /// The label since then; null when it was taken back.
    #[schema(required)]
    pub(crate) label: Option<LabelKind>,
    /// The label before; null when there was none.
    #[schema(required)]
    pub(crate) before: Option<LabelKind>,
    /// Why.
    pub(crate) note: String,
    /// Who.
    pub(crate) author: String,
    /// Until when it holds, RFC 3339; null for ever.
    #[schema(required, format = DateTime)]
    pub(crate) expires_at: Option<String>,
    /// The act that this one takes back; null when it takes back none.
    #[schema(required)]
    pub(crate) undoes: Option<String>,
    /// A later act took this one back.
    pub(crate) undone: bool,
    /// Model whose verdict was judged; empty when the client was not scored.
    pub(crate) model_name: String,
    /// Version of that model; 0 without.
    pub(crate) model_version: u32,
}

/// Which acts.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct LabelsParams {
    /// Begin of the window. Default `now-7d`.
    pub(crate) from: Option<String>,
    /// End of the window. Default `now`.
    pub(crate) to: Option<String>,
    /// Most entries, 1 to 1000; default 200.
    #[param(minimum = 1, maximum = 1000)]
    pub(crate) limit: Option<u32>,
}

/// What analysts decided.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Labels {
    /// Newest first.
    pub(crate) labels: Vec<LabelEntry>,
    /// How it came about.
    #[serde(flatten)]
    pub(crate) meta: Meta,
}

/// Which part of the audit.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct AuditParams {
    /// Begin of the window. Default `now-7d`.
    pub(crate) from: Option<String>,
    /// End of the window. Default `now`.
    pub(crate) to: Option<String>,
    /// Most entries, 1 to 1000; default 200.
    #[param(minimum = 1, maximum = 1000)]
    pub(crate) limit: Option<u32>,
}

/// One act of a user.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct AuditEntry {
    /// When, RFC 3339.
    #[schema(format = DateTime)]
    pub(crate) at: String,
    /// Who.
    pub(crate) user: String,
    /// What: login, `login_failed`, logout, label, `label_undo`, export, rules, password, query.
    pub(crate) act: String,
    /// On what.
    pub(crate) object: String,
    /// The rest.
    #[schema(value_type = Object)]
    pub(crate) detail: serde_json::Value,
    /// From where.
    pub(crate) remote_ip: String,
}

/// What users did.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Audit {
    /// Newest first.
    pub(crate) entries: Vec<AuditEntry>,
    /// How it came about.
    #[serde(flatten)]
    pub(crate) meta: Meta,
}
