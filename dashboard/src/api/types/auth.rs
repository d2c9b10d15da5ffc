//! Who is logged in.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What a user may do; each includes the ones before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Role {
    /// Reads and exports.
    Viewer,
    /// Labels, undoes, makes rules.
    Analyst,
    /// Sees the audit.
    Admin,
}

/// How the session began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum LoginKind {
    /// By name and password.
    Password,
    /// By the one-time link of the local administrator.
    Link,
}

/// The user of this session.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Me {
    /// Name.
    pub(crate) user: String,
    /// Role.
    pub(crate) role: Role,
    /// How the session began.
    pub(crate) via: LoginKind,
    /// To be sent as header `x-csrf-token` with every request that is not GET.
    pub(crate) csrf_token: String,
    /// When the session ends whatever happens, RFC 3339.
    #[schema(format = DateTime)]
    pub(crate) expires_at: String,
    /// The session ends after so many seconds without a request.
    pub(crate) idle_timeout_s: u64,
}

/// Name and password.
#[derive(Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LoginRequest {
    /// Name.
    pub(crate) user: String,
    /// Password.
    pub(crate) password: String,
}

/// The token of a one-time link: what follows `#token=` in it.
#[derive(Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LinkRequest {
    /// 64 hexadecimal digits.
    pub(crate) token: String,
}

/// A new password for the user of this session. Other sessions of the user end.
#[derive(Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PasswordRequest {
    /// The present one; not needed in a session that began by a link.
    pub(crate) current: Option<String>,
    /// 12 to 256 characters.
    pub(crate) new: String,
}
