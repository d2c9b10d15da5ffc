//! The HTTP interface under `/api/v1`: thin handlers, and the document that describes them.

mod audit;
mod auth;
mod clients;
mod export;
mod extract;
mod fields;
mod group;
mod labels;
mod overview;
mod requests;
mod rules;
mod status;
mod truth;
pub(crate) mod types;

use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::state::App;

/// What the interface is.
#[derive(Debug, OpenApi)]
#[openapi(
    info(
        title = "ja4-platform dashboard",
        description = "Read by session cookie. Every request that is not GET carries the header `x-csrf-token` of GET /api/v1/auth/me. Errors are application/problem+json.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    tags(
        (name = "auth", description = "Log in and out"),
        (name = "pages", description = "What pages show at first sight"),
        (name = "clients", description = "Clients and groups of clients"),
        (name = "requests", description = "Requests"),
        (name = "filter", description = "Help for the search bar"),
        (name = "acts", description = "What analysts do"),
        (name = "export", description = "Files")
    )
)]
struct Document;

/// All routes.
pub(crate) fn router() -> OpenApiRouter<App> {
    let routes = OpenApiRouter::new()
        .routes(routes!(auth::login))
        .routes(routes!(auth::link))
        .routes(routes!(auth::logout))
        .routes(routes!(auth::password))
        .routes(routes!(auth::me))
        .routes(routes!(status::status))
        .routes(routes!(overview::overview))
        .routes(routes!(overview::histogram))
        .routes(routes!(overview::facets))
        .routes(routes!(clients::clients))
        .routes(routes!(clients::client))
        .routes(routes!(clients::client_timeline))
        .routes(routes!(clients::client_requests))
        .routes(routes!(clients::client_scores))
        .routes(routes!(clients::client_why))
        .routes(routes!(group::group))
        .routes(routes!(requests::requests))
        .routes(routes!(requests::request))
        .routes(routes!(fields::fields))
        .routes(routes!(fields::values))
        .routes(routes!(labels::labels, labels::label))
        .routes(routes!(labels::undo))
        .routes(routes!(export::export_clients))
        .routes(routes!(export::export_requests))
        .routes(routes!(rules::rules))
        .routes(routes!(audit::audit))
        .routes(routes!(truth::truth));
    OpenApiRouter::with_openapi(Document::openapi()).nest("/api/v1", routes)
}

/// The document, as JSON with a line end.
///
/// # Errors
/// Never, unless a type cannot be written as JSON.
pub(crate) fn document() -> Result<String, serde_json::Error> {
    router().into_openapi().to_pretty_json().map(|json| json + "\n")
}
