//! Routes of what analysts decide.

use axum::Json;
use axum::extract::State;

use crate::api::extract::{JsonBody, Params};
use crate::api::types::{LabelAct, LabelRequest, Labels, LabelsParams, Problem, UndoRequest};
use crate::auth::{Analyst, User};
use crate::error::ApiError;
use crate::pages::{self, LAST_WEEK, bounded};
use crate::state::App;
use crate::store::write::Act;
use crate::window::{Span, now_s};

/// What analysts decided lately.
#[utoipa::path(
    get,
    path = "/labels",
    tag = "acts",
    params(LabelsParams),
    responses((status = 200, body = Labels), (status = "default", description = "a problem", body = Problem, content_type = "application/problem+json"))
)]
pub(crate) async fn labels(
    State(app): State<App>,
    _user: User,
    Params(params): Params<LabelsParams>,
) -> Result<Json<Labels>, ApiError> {
    let span = Span::parse(params.from.as_deref(), params.to.as_deref(), LAST_WEEK, now_s())?;
    let limit = bounded("limit", params.limit, 200, 1000)?;
    pages::labels::page(&app.reader, span, limit).await.map(Json)
}

/// Labels clients. For analysts.
#[utoipa::path(
    post,
    path = "/labels",
    tag = "acts",
    request_body = LabelRequest,
    responses((status = 200, body = LabelAct), (status = "default", description = "a problem", body = Problem, content_type = "application/problem+json"))
)]
pub(crate) async fn label(
    State(app): State<App>,
    Analyst(user): Analyst,
    JsonBody(body): JsonBody<LabelRequest>,
) -> Result<Json<LabelAct>, ApiError> {
    let act = pages::labels::set(&app.reader, &app.writer, &user.session.user, &body).await?;
    app.writer
        .audit(&Act {
            user: user.session.user.clone(),
            act: "label",
            object: act.act_id.clone(),
            detail: serde_json::json!({
                "label": body.label,
                "note": body.note.trim(),
                "expires_at": body.expires_at,
                "clients": act.changed,
                "first": body.clients.first(),
            }),
            remote: user.remote,
        })
        .await?;
    Ok(Json(act))
}

/// Takes an act back: each of its clients gets the label that it had before. For analysts.
#[utoipa::path(
    post,
    path = "/labels/undo",
    tag = "acts",
    request_body = UndoRequest,
    responses((status = 200, body = LabelAct), (status = "default", description = "a problem", body = Problem, content_type = "application/problem+json"))
)]
pub(crate) async fn undo(
    State(app): State<App>,
    Analyst(user): Analyst,
    JsonBody(body): JsonBody<UndoRequest>,
) -> Result<Json<LabelAct>, ApiError> {
    let act = pages::labels::undo(&app.reader, &app.writer, &user.session.user, &body.act_id).await?;
    app.writer
        .audit(&Act {
            user: user.session.user.clone(),
            act: "label_undo",
            object: act.act_id.clone(),
            detail: serde_json::json!({
                "undoes": body.act_id,
                "clients": act.changed,
                "left_alone": act.left_alone.len(),
            }),
            remote: user.remote,
        })
        .await?;
    Ok(Json(act))
}
