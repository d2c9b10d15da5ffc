//! Routes of requests: the list, and one in full.

use axum::Json;
use axum::extract::State;

use crate::api::extract::Params;
use crate::api::types::{Problem, RequestDetail, RequestParams, Requests, RequestsParams};
use crate::auth::User;
use crate::error::ApiError;
use crate::pages::requests::RequestKey;
use crate::pages::{self, Scope, bounded};
use crate::state::App;

/// Requests, newest first.
#[utoipa::path(
    get,
    path = "/requests",
    tag = "requests",
    params(RequestsParams),
    responses((status = 200, body = Requests), (status = "default", description = "a problem", body = Problem, content_type = "application/problem+json"))
)]
pub(crate) async fn requests(
    State(app): State<App>,
    user: User,
    Params(params): Params<RequestsParams>,
) -> Result<Json<Requests>, ApiError> {
    let q = params.q.as_deref();
    let scope = Scope::parse(params.from.as_deref(), params.to.as_deref(), q)?;
    let limit = bounded("limit", params.limit, 100, 1000)?;
    app.queue.query(&user, "requests", q);
    pages::requests::page(
        &app.reader,
        app.recorded(),
        &scope,
        limit,
        params.cursor.as_deref(),
    )
    .await
    .map(Json)
}

/// Every column of one request.
#[utoipa::path(
    get,
    path = "/request",
    tag = "requests",
    params(RequestParams),
    responses((status = 200, body = RequestDetail), (status = "default", description = "a problem", body = Problem, content_type = "application/problem+json"))
)]
pub(crate) async fn request(
    State(app): State<App>,
    _user: User,
    Params(params): Params<RequestParams>,
) -> Result<Json<RequestDetail>, ApiError> {
    let key = RequestKey {
        ts: &params.ts,
        src_ip: &params.src_ip,
        boot: &params.boot,
        seq: &params.seq,
    };
    pages::requests::detail(&app.reader, app.recorded(), app.columns().await?, key)
        .await
        .map(Json)
}
