//! Route of what users did.

use axum::Json;
use axum::extract::State;

use crate::api::extract::Params;
use crate::api::types::{Audit, AuditEntry, AuditParams, Problem};
use crate::auth::Admin;
use crate::error::ApiError;
use crate::pages::{LAST_WEEK, bounded};
use crate::state::App;
use crate::store::read::{Ask, Tally};
use crate::store::rows::AuditRow;
use crate::window::{Span, now_s};

/// What users did. For administrators.
#[utoipa::path(
    get,
    path = "/audit",
    tag = "acts",
    params(AuditParams),
    responses((status = 200, body = Audit), (status = "default", description = "a problem", body = Problem, content_type = "application/problem+json"))
)]
pub(crate) async fn audit(
    State(app): State<App>,
    _admin: Admin,
    Params(params): Params<AuditParams>,
) -> Result<Json<Audit>, ApiError> {
    let span = Span::parse(params.from.as_deref(), params.to.as_deref(), LAST_WEEK, now_s())?;
    let limit = bounded("limit", params.limit, 200, 1000)?;
    let mut tally = Tally::new();
    let rows: Vec<AuditRow> = tally.take_list(
        app.reader
            .rows(Ask::new("audit").during(span).limit(limit))
            .await?,
    );
    Ok(Json(Audit {
        entries: rows
            .into_iter()
            .map(|row| AuditEntry {
                at: row.at,
                user: row.user_name,
                act: row.act,
                object: row.object,
                // Written by us, but a row may come from elsewhere.
                detail: serde_json::from_str(&row.detail).unwrap_or(serde_json::Value::String(row.detail)),
                remote_ip: row.remote_ip,
            })
            .collect(),
        meta: tally.meta(),
    }))
}
