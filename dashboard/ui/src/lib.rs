//! The built pages, in the program itself: a route for each file, and the first page for every address of the application.
//!
//! Embedded and compressed in every build: a program does not depend on where its pages were built. Files below `/assets/` have
//! a hash of their contents in their names and are kept by browsers for ever; everything else is asked for again. Without
//! built pages there is a stub that says how to build them, so that nothing else needs Node.

use axum::Router;
use axum::extract::Request;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse as _, Response};
use memory_serve::CacheControl;

/// True if the program was built without pages.
pub const IS_STUB: bool = matches!(env!("JA4_UI_IS_STUB").as_bytes(), b"1");

/// Folder of files with a hash in their names.
const HASHED: &str = "/assets/";

/// Routes of all files, and the first page for every other address. Call it once: it keeps what it makes for ever.
pub fn router() -> Router {
    files()
        .index_file(Some("/index.html"))
        .fallback(Some("/index.html"))
        .fallback_status(StatusCode::OK)
        .html_cache_control(CacheControl::NoCache)
        .cache_control(CacheControl::NoCache)
        .into_router()
        .layer(from_fn(keep_hashed))
}

/// Lets browsers keep what never changes, and answers 404 for a hashed file of another build, not the first page.
async fn keep_hashed(request: Request, next: Next) -> Response {
    let is_hashed = request.uri().path().starts_with(HASHED);
    let mut response = next.run(request).await;
    if !is_hashed {
        return response;
    }
    let is_page = response
        .headers()
        .get(CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"text/html"));
    if is_page {
        return StatusCode::NOT_FOUND.into_response();
    }
    response.headers_mut().insert(
        CACHE_CONTROL,
        HeaderValue::from_static("public, max-age=31536000, immutable"),
    );
    response
}

#[expect(
    unused_qualifications,
    reason = "the macro's list of files spells the type in full"
)]
fn files() -> memory_serve::MemoryServe {
    memory_serve::load!()
}
