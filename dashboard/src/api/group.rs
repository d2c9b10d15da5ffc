//! Route of what several clients share.

use axum::Json;
use axum::extract::State;

use crate::api::extract::Params;
use crate::api::types::{GroupPage, GroupParams, Problem};
use crate::auth::User;
use crate::error::ApiError;
use crate::pages::{self, Scope};
use crate::state::App;

/// The page of a JA4, host, network, header order or User-Agent.
#[utoipa::path(
    get,
    path = "/group",
    tag = "clients",
    params(GroupParams),
    responses((status = 200, body = GroupPage), (status = "default", description = "a problem", body = Problem, content_type = "application/problem+json"))
)]
pub(crate) async fn group(
    State(app): State<App>,
    user: User,
    Params(params): Params<GroupParams>,
) -> Result<Json<GroupPage>, ApiError> {
    let q = params.q.as_deref();
    let scope = Scope::parse(params.from.as_deref(), params.to.as_deref(), q)?;
    app.queue.query(&user, "group", q);
    pages::group::page(&app.reader, app.recorded(), &scope, params.kind, &params.value)
        .await
        .map(Json)
}
