//! Parameters and bodies, with our own problem when they cannot be read.

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use http::request::Parts;
use serde::de::DeserializeOwned;

use crate::api::types::ProblemCode;
use crate::error::ApiError;

/// Query parameters; an unknown one is refused.
pub(crate) struct Params<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Params<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        Query::<T>::try_from_uri(&parts.uri)
            .map(|Query(params)| Self(params))
            .map_err(|rejection| ApiError::bad_parameter(lower_first(&rejection.body_text())))
    }
}

/// A JSON body; an unknown key is refused.
pub(crate) struct JsonBody<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for JsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        match Json::<T>::from_request(request, state).await {
            Ok(Json(body)) => Ok(Self(body)),
            Err(rejection) => {
                let code = match rejection.status() {
                    http::StatusCode::PAYLOAD_TOO_LARGE => ProblemCode::TooLarge,
                    _ => ProblemCode::BadParameter,
                };
                let detail = match &rejection {
                    JsonRejection::MissingJsonContentType(_) => {
                        "the body must be JSON: send content-type application/json".to_owned()
                    }
                    other => lower_first(&other.body_text()),
                };
                Err(ApiError::new(code, detail))
            }
        }
    }
}

fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    chars
        .next()
        .map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect())
}
