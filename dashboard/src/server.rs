//! Listens, puts routes and layers together, and ends in order.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::middleware::from_fn_with_state;
use axum::routing::any;
use http::HeaderMap;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use ja4_common::Shutdown;
use ja4_common::ip_filter::IpFilter;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tower::ServiceExt as _;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;

use crate::api;
use crate::auth::{Remote, guard};
use crate::error::ApiError;
use crate::layers;
use crate::state::App;

/// Longest time for a request's head to arrive, and for an idle connection to stay.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// How long running answers get at the end.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest head of a request, bytes: a filter has at most 4096 characters of up to twelve bytes each.
const MAX_HEAD_BYTES: usize = 128 * 1024;

/// Everything that is answered.
pub(crate) fn router(app: &App) -> Router {
    let (routes, _document) = api::router().split_for_parts();
    let interface = routes
        .route("/api", any(no_such_route))
        .route("/api/{*rest}", any(no_such_route))
        .layer(from_fn_with_state(app.clone(), guard))
        .layer(DefaultBodyLimit::max(app.config.limits.body.as_usize()))
        .with_state(app.clone());
    Router::new()
        .merge(interface)
        .merge(dashboard_ui::router())
        .layer(CompressionLayer::new())
        .layer(CatchPanicLayer::custom(layers::panicked))
        .layer(from_fn_with_state(app.clone(), layers::around))
}

async fn no_such_route() -> ApiError {
    ApiError::not_found("there is no such route: `ja4-dashboard openapi` prints all")
}

/// Answers until the request to end, then lets running answers finish.
pub(crate) async fn serve(listener: TcpListener, app: App, shutdown: Shutdown) {
    let router = router(&app);
    let places = Arc::new(Semaphore::new(app.config.limits.connections));
    let trusted = Arc::new(app.config.trusted_proxies.clone());
    let graceful = GracefulShutdown::new();
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD_BYTES);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(u32::try_from(MAX_HEAD_BYTES).unwrap_or(u32::MAX))
        .keep_alive_interval(HEAD_TIMEOUT)
        .max_concurrent_streams(64);
    loop {
        let accepted = tokio::select! {
            () = shutdown.requested() => break,
            accepted = accept(&listener, &places) => accepted,
        };
        let Some((stream, peer, place)) = accepted else {
            continue;
        };
        let service = {
            let (router, trusted) = (router.clone(), Arc::clone(&trusted));
            hyper::service::service_fn(move |request: hyper::Request<Incoming>| {
                let mut request: Request = request.map(axum::body::Body::new);
                let remote = remote(peer, request.headers(), &trusted);
                request.extensions_mut().insert(Remote(remote));
                router.clone().oneshot(request)
            })
        };
        let connection = builder
            .serve_connection(TokioIo::new(stream), service)
            .into_owned();
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!("a connection ended: {error}");
            }
            drop(place);
        });
    }
    drop(listener);
    if tokio::time::timeout(DRAIN_TIMEOUT, graceful.shutdown())
        .await
        .is_err()
    {
        tracing::warn!("some answers were not finished in {} s", DRAIN_TIMEOUT.as_secs());
    }
}

async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> Option<(tokio::net::TcpStream, IpAddr, tokio::sync::OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, peer)) => {
            // Small answers must not wait for the acknowledgement of those before.
            stream.set_nodelay(true).ok();
            Some((stream, peer.ip().to_canonical(), place))
        }
        Err(error) => {
            tracing::debug!("a connection was not accepted: {error}");
            // Out of descriptors: others must close theirs first.
            tokio::time::sleep(Duration::from_millis(100)).await;
            None
        }
    }
}

/// Whom a request comes from: the peer, or whom a proxy of ours names. The last address that is no proxy of ours counts;
/// what stands before it anybody may have written.
fn remote(peer: IpAddr, headers: &HeaderMap, trusted: &IpFilter) -> IpAddr {
    let mut remote = peer;
    if !trusted.contains(peer) {
        return remote;
    }
    let named: Vec<&str> = headers
        .get_all("x-forwarded-for")
        .iter()
        .filter_map(|header| header.to_str().ok())
        .flat_map(|header| header.split(','))
        .map(str::trim)
        .collect();
    for text in named.into_iter().rev() {
        let Ok(ip) = text.parse::<IpAddr>() else { break };
        remote = ip.to_canonical();
        if !trusted.contains(remote) {
            break;
        }
    }
    remote
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[track_caller]
    fn check(peer: &str, forwarded: &'static str, expected: &str) {
        let trusted = IpFilter(vec!["10.0.0.0/8".parse().unwrap()]);
        let mut headers = HeaderMap::new();
        headers.insert("x-forwarded-for", HeaderValue::from_static(forwarded));
        let remote = remote(peer.parse().unwrap(), &headers, &trusted);
        assert_eq!(remote, expected.parse::<IpAddr>().unwrap(), "{peer} {forwarded}");
    }

    #[test]
    fn only_our_own_proxies_are_believed() {
        check("192.0.2.1", "198.51.100.1", "192.0.2.1");
        check("10.0.0.1", "198.51.100.1", "198.51.100.1");
        check("10.0.0.1", "1.1.1.1, 198.51.100.1, 10.0.0.2", "198.51.100.1");
        check("10.0.0.1", "nonsense", "10.0.0.1");
        check("10.0.0.1", "198.51.100.1, nonsense", "10.0.0.1");
    }
}
