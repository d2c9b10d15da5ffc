//! Routes of the first page: overview, histogram, facets.

use axum::Json;
use axum::extract::State;

use crate::api::extract::Params;
use crate::api::types::{Facets, Histogram, HistogramParams, Overview, Problem, WindowParams};
use crate::auth::User;
use crate::error::ApiError;
use crate::pages::{self, Scope};
use crate::state::App;

/// The first page.
#[utoipa::path(
    get,
    path = "/overview",
    tag = "pages",
    params(WindowParams),
    responses((status = 200, body = Overview), (status = "default", description = "a problem", body = Problem, content_type = "application/problem+json"))
)]
pub(crate) async fn overview(
    State(app): State<App>,
    user: User,
    Params(params): Params<WindowParams>,
) -> Result<Json<Overview>, ApiError> {
    let q = params.q.as_deref();
    let scope = Scope::parse(params.from.as_deref(), params.to.as_deref(), q)?;
    app.queue.query(&user, "overview", q);
    let state = app.status().await.state;
    pages::overview::page(&app.reader, &scope, state).await.map(Json)
}

/// Requests by step.
#[utoipa::path(
    get,
    path = "/histogram",
    tag = "pages",
    params(HistogramParams),
    responses((status = 200, body = Histogram), (status = "default", description = "a problem", body = Problem, content_type = "application/problem+json"))
)]
pub(crate) async fn histogram(
    State(app): State<App>,
    _user: User,
    Params(params): Params<HistogramParams>,
) -> Result<Json<Histogram>, ApiError> {
    let scope = Scope::parse(params.from.as_deref(), params.to.as_deref(), params.q.as_deref())?;
    pages::traffic::histogram(&app.reader, &scope, params.step)
        .await
        .map(Json)
}

/// Most frequent values of every facet.
#[utoipa::path(
    get,
    path = "/facets",
    tag = "pages",
    params(WindowParams),
    responses((status = 200, body = Facets), (status = "default", description = "a problem", body = Problem, content_type = "application/problem+json"))
)]
pub(crate) async fn facets(
    State(app): State<App>,
    _user: User,
    Params(params): Params<WindowParams>,
) -> Result<Json<Facets>, ApiError> {
    let scope = Scope::parse(params.from.as_deref(), params.to.as_deref(), params.q.as_deref())?;
    pages::facets::page(&app.reader, &scope).await.map(Json)
}
