//! Route of a demo's truth card.

use axum::Json;
use axum::extract::State;

use crate::api::types::Problem;
use crate::auth::User;
use crate::error::ApiError;
use crate::state::App;

/// Longest truth card: a demo has a hundred clients.
const MAX_TRUTH_BYTES: u64 = 4 << 20;

/// What was which in a demo, once it is known.
#[utoipa::path(
    get,
    path = "/truth",
    tag = "pages",
    responses((status = 200, body = Object), (status = "default", description = "a problem", body = Problem, content_type = "application/problem+json"))
)]
pub(crate) async fn truth(State(app): State<App>, _user: User) -> Result<Json<serde_json::Value>, ApiError> {
    let Some(path) = app.config.truth_file.clone() else {
        return Err(ApiError::not_found(
            "this pipeline knows no truth: only a demo does",
        ));
    };
    let read = tokio::task::spawn_blocking(move || {
        if std::fs::metadata(&path)?.len() > MAX_TRUTH_BYTES {
            return Err(std::io::Error::other("it is too long"));
        }
        std::fs::read(&path)
    })
    .await
    .map_err(|error| ApiError::internal(format!("truth: {error}")))?;
    match read {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map(Json)
            .map_err(|error| ApiError::internal(format!("the truth file is no JSON: {error}"))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(ApiError::not_found(
            "the truth is not known yet: the demo writes it as it goes",
        )),
        Err(error) => Err(ApiError::internal(format!(
            "the truth file cannot be read: {error}"
        ))),
    }
}
