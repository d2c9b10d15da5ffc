//! What every request passes, pages and interface alike: id, host check, time limit, headers that keep browsers safe,
//! problem documents, metrics.

use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, RETRY_AFTER,
    STRICT_TRANSPORT_SECURITY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use http::{HeaderName, HeaderValue};

use crate::api::types::ProblemCode;
use crate::error::ApiError;
use crate::state::App;

/// Only our own files; nothing inline, no frames, no other hosts.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; connect-src 'self'; manifest-src 'self'; worker-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'";

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Headers of every answer.
const ALWAYS: [(HeaderName, &str); 7] = [
    (CONTENT_SECURITY_POLICY, POLICY),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (X_FRAME_OPTIONS, "DENY"),
    (REFERRER_POLICY, "no-referrer"),
    (
        HeaderName::from_static("cross-origin-opener-policy"),
        "same-origin",
    ),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        "same-origin",
    ),
    (
        HeaderName::from_static("permissions-policy"),
        "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    ),
];

/// The outermost layer.
pub(crate) async fn around(State(app): State<App>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let request_id = uuid::Uuid::new_v4().simple().to_string();
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or_else(|| "page".to_owned(), |path| path.as_str().to_owned());
    // Routes are ours; everything else is a page or none.
    let route = if route.starts_with("/api/") {
        route
    } else {
        "page".to_owned()
    };
    let method = method_label(request.method());
    let is_interface = request.uri().path().starts_with("/api/");
    let mut response = match app.origins.check_host(
        request.headers(),
        request.uri().authority().map(http::uri::Authority::as_str),
    ) {
        Err(error) => error.into_response(),
        Ok(()) => tokio::time::timeout(app.config.limits.answer_time.0, next.run(request))
            .await
            .unwrap_or_else(|_| {
                ApiError::new(ProblemCode::Timeout, "the answer took too long")
                    .with_remedy("ask for a shorter window or a narrower filter")
                    .into_response()
            }),
    };
    finish(&app, &mut response, &request_id, &route, is_interface);
    let status = response.status();
    app.metrics
        .requests
        .with_label_values(&[method, route.as_str(), status_label(status)])
        .inc();
    app.metrics
        .request_seconds
        .with_label_values(&[route.as_str()])
        .observe(started.elapsed().as_secs_f64());
    tracing::debug!(request.id = %request_id, "{method} {route} {}", status.as_u16());
    response
}

fn finish(app: &App, response: &mut Response, request_id: &str, route: &str, is_interface: bool) {
    if let Some(error) = response.extensions_mut().remove::<ApiError>() {
        say(&error, request_id, route);
        let body = serde_json::to_vec(&error.problem(request_id)).unwrap_or_default();
        let status = error.status();
        *response = (status, body).into_response();
        response
            .headers_mut()
            .insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = error.retry_after_s {
            response
                .headers_mut()
                .insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
    }
    let headers = response.headers_mut();
    for (name, value) in ALWAYS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if let Ok(id) = HeaderValue::from_str(request_id) {
        headers.insert(REQUEST_ID, id);
    }
    if app.config.is_https() {
        headers.insert(
            STRICT_TRANSPORT_SECURITY,
            HeaderValue::from_static("max-age=31536000"),
        );
    }
    if is_interface {
        // What a user may see is nobody else's, nor the next user's of this browser.
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
}

fn say(error: &ApiError, request_id: &str, route: &str) {
    let Some(log) = &error.log else { return };
    match error.code {
        ProblemCode::Internal => tracing::error!(request.id = request_id, "{route}: {log}"),
        // Each page asks every few seconds; the probe says it once.
        ProblemCode::StoreUnreachable => tracing::debug!(request.id = request_id, "{route}: {log}"),
        _ => tracing::warn!(request.id = request_id, "{route}: {log}"),
    }
}

fn method_label(method: &http::Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        _ => "other",
    }
}

fn status_label(status: http::StatusCode) -> &'static str {
    match status.as_u16() {
        200..=299 => "2xx",
        300..=399 => "3xx",
        400..=499 => "4xx",
        _ => "5xx",
    }
}

/// A panic in a handler is a fault of ours, not the end of the connection.
#[expect(clippy::needless_pass_by_value, reason = "the layer hands it over")]
pub(crate) fn panicked(payload: Box<dyn std::any::Any + Send + 'static>) -> Response {
    let what = payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_default();
    ApiError::internal(format!("a handler panicked: {what}")).into_response()
}
