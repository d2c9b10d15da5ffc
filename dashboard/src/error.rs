//! What goes wrong in a handler, as one value that becomes a problem document.
//!
//! The answer is finished by the outermost layer ([`crate::layers`]), which knows the request's id: an error only
//! rides along in the response's extensions until then.

use axum::response::{IntoResponse, Response};
use http::StatusCode;

use crate::api::types::{Position, Problem, ProblemCode};

/// A problem: what, where, and what to do.
#[derive(Debug, Clone)]
pub(crate) struct ApiError {
    /// What it is.
    pub(crate) code: ProblemCode,
    /// One line for people.
    pub(crate) detail: String,
    /// Place in the filter.
    pub(crate) position: Option<Position>,
    /// What to write or do instead.
    pub(crate) remedy: Option<String>,
    /// Seconds to wait.
    pub(crate) retry_after_s: Option<u64>,
    /// What only the log may have.
    pub(crate) log: Option<String>,
}

impl ApiError {
    /// A problem without a place or a remedy of its own.
    pub(crate) fn new(code: ProblemCode, detail: impl Into<String>) -> Self {
        Self {
            code,
            detail: detail.into(),
            position: None,
            remedy: None,
            retry_after_s: None,
            log: None,
        }
    }

    /// A parameter that cannot be used.
    pub(crate) fn bad_parameter(detail: impl Into<String>) -> Self {
        Self::new(ProblemCode::BadParameter, detail)
    }

    /// No such thing.
    pub(crate) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(ProblemCode::NotFound, detail)
    }

    /// A fault of ours: the log gets what happened, the user does not.
    pub(crate) fn internal(log: impl Into<String>) -> Self {
        Self {
            log: Some(log.into()),
            ..Self::new(
                ProblemCode::Internal,
                "the dashboard failed; its log says why under the request's id",
            )
        }
    }

    /// With what to do about it.
    #[must_use]
    pub(crate) fn with_remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    /// With a wait.
    #[must_use]
    pub(crate) fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }

    /// HTTP status.
    pub(crate) fn status(&self) -> StatusCode {
        match self.code {
            ProblemCode::BadParameter | ProblemCode::BadFilter => StatusCode::BAD_REQUEST,
            ProblemCode::NotLoggedIn | ProblemCode::BadCredentials => StatusCode::UNAUTHORIZED,
            ProblemCode::Forbidden | ProblemCode::CrossSite => StatusCode::FORBIDDEN,
            ProblemCode::NotFound => StatusCode::NOT_FOUND,
            ProblemCode::Conflict => StatusCode::CONFLICT,
            ProblemCode::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            ProblemCode::TooManyAttempts => StatusCode::TOO_MANY_REQUESTS,
            ProblemCode::StoreUnreachable
            | ProblemCode::StoreBusy
            | ProblemCode::StoreNotMigrated
            | ProblemCode::DetectorUnreachable
            | ProblemCode::Timeout => StatusCode::SERVICE_UNAVAILABLE,
            ProblemCode::QueryTooLarge => StatusCode::UNPROCESSABLE_ENTITY,
            ProblemCode::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The problem document.
    pub(crate) fn problem(&self, request_id: &str) -> Problem {
        let status = self.status();
        Problem {
            kind: "about:blank",
            title: status.canonical_reason().unwrap_or("Error").to_owned(),
            status: status.as_u16(),
            code: self.code,
            detail: self.detail.clone(),
            position: self.position,
            remedy: self.remedy.clone(),
            request_id: request_id.to_owned(),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = self.status().into_response();
        response.extensions_mut().insert(self);
        response
    }
}
