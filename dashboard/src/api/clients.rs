//! Routes of the triage list and of one client.

use axum::Json;
use axum::extract::State;

use crate::api::extract::Params;
use crate::api::types::{
    ClientPage, ClientParams, ClientRequestsParams, Clients, ClientsParams, Problem, Requests, Scores,
    Timeline, TimelineParams,
};
use crate::auth::User;
use crate::error::ApiError;
use crate::pages::client::OneClient;
use crate::pages::{self, Scope, bounded};
use crate::state::App;

/// The triage list: one row is one client with all its models and windows.
#[utoipa::path(
    get,
    path = "/clients",
    tag = "clients",
    params(ClientsParams),
    responses((status = 200, body = Clients), (status = "default", description = "a problem", body = Problem, content_type = "application/problem+json"))
)]
pub(crate) async fn clients(
    State(app): State<App>,
    user: User,
    Params(params): Params<ClientsParams>,
) -> Result<Json<Clients>, ApiError> {
    let q = params.q.as_deref();
    let scope = Scope::parse(params.from.as_deref(), params.to.as_deref(), q)?;
    let limit = bounded("limit", params.limit, 100, 500)?;
    app.queue.query(&user, "clients", q);
    let sort = params.sort.unwrap_or_default();
    pages::triage::page(
        &app.reader,
        app.recorded(),
        &scope,
        sort,
        limit,
        params.cursor.as_deref(),
    )
    .await
    .map(Json)
}

/// The page of one client.
#[utoipa::path(
    get,
    path = "/client",
    tag = "clients",
    params(ClientParams),
    responses((status = 200, body = ClientPage), (status = "default", description = "a problem", body = Problem, content_type = "application/problem+json"))
)]
pub(crate) async fn client(
    State(app): State<App>,
    _user: User,
    Params(params): Params<ClientParams>,
) -> Result<Json<ClientPage>, ApiError> {
    let one = one(&params)?;
    pages::client::page(&app.reader, app.recorded(), &one)
        .await
        .map(Json)
}

fn one(params: &ClientParams) -> Result<OneClient, ApiError> {
    OneClient::parse(
        &params.src_ip,
        params.ja4.as_deref(),
        &params.host,
        params.from.as_deref(),
        params.to.as_deref(),
    )
}

/// One client over time.
#[utoipa::path(
    get,
    path = "/client/timeline",
    tag = "clients",
    params(TimelineParams),
    responses((status = 200, body = Timeline), (status = "default", description = "a problem", body = Problem, content_type = "application/problem+json"))
)]
pub(crate) async fn client_timeline(
    State(app): State<App>,
    _user: User,
    Params(params): Params<TimelineParams>,
) -> Result<Json<Timeline>, ApiError> {
    let one = OneClient::parse(
        &params.src_ip,
        params.ja4.as_deref(),
        &params.host,
        params.from.as_deref(),
        params.to.as_deref(),
    )?;
    pages::client::timeline(&app.reader, &one, params.step)
        .await
        .map(Json)
}

/// The requests of one client.
#[utoipa::path(
    get,
    path = "/client/requests",
    tag = "clients",
    params(ClientRequestsParams),
    responses((status = 200, body = Requests), (status = "default", description = "a problem", body = Problem, content_type = "application/problem+json"))
)]
pub(crate) async fn client_requests(
    State(app): State<App>,
    _user: User,
    Params(params): Params<ClientRequestsParams>,
) -> Result<Json<Requests>, ApiError> {
    let one = OneClient::parse(
        &params.src_ip,
        params.ja4.as_deref(),
        &params.host,
        params.from.as_deref(),
        params.to.as_deref(),
    )?;
    let limit = bounded("limit", params.limit, 100, 1000)?;
    let scope = one.scope(params.q.as_deref())?;
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

/// The scores of one client over time.
#[utoipa::path(
    get,
    path = "/client/scores",
    tag = "clients",
    params(ClientParams),
    responses((status = 200, body = Scores), (status = "default", description = "a problem", body = Problem, content_type = "application/problem+json"))
)]
pub(crate) async fn client_scores(
    State(app): State<App>,
    _user: User,
    Params(params): Params<ClientParams>,
) -> Result<Json<Scores>, ApiError> {
    pages::client::scores(&app.reader, &one(&params)?).await.map(Json)
}

/// Why the client has its score now, in the detector's own words.
#[utoipa::path(
    get,
    path = "/client/why",
    tag = "clients",
    params(ClientParams),
    responses((status = 200, body = Object), (status = "default", description = "a problem", body = Problem, content_type = "application/problem+json"))
)]
pub(crate) async fn client_why(
    State(app): State<App>,
    _user: User,
    Params(params): Params<ClientParams>,
) -> Result<Json<serde_json::Value>, ApiError> {
    let one = one(&params)?;
    let detector = app.detector.as_ref().ok_or_else(|| {
        ApiError::not_found("no detector is known here").with_remedy("set detector_url of the dashboard")
    })?;
    detector.why(&one.key).await.map(Json)
}
