//! Route of the strip at the top of every page.

use axum::Json;
use axum::extract::State;

use crate::api::types::{Problem, Status};
use crate::auth::User;
use crate::error::ApiError;
use crate::state::App;

/// How the pipeline is; 200 even when the store is away.
#[utoipa::path(
    get,
    path = "/status",
    tag = "pages",
    responses((status = 200, body = Status), (status = "default", description = "a problem", body = Problem, content_type = "application/problem+json"))
)]
pub(crate) async fn status(State(app): State<App>, _user: User) -> Result<Json<Status>, ApiError> {
    Ok(Json(app.status().await))
}
