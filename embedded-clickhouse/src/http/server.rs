//! Accepts connections, with or without TLS, within a limit, until it is told to stop.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

use super::service::Service;
use super::stall::StallGuard;
use crate::config::HttpSettings;
use crate::metrics::Metrics;

/// Longest head of a request: an insert's URL names all its columns, some kilobytes. Also hyper's read buffer.
const HEAD_MAX_BYTES: usize = 256 << 10;

/// Time for a TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Pause after a failed accept: the reason is nearly always that descriptors have run out for a moment.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What the accept loop needs.
#[derive(Debug, Clone)]
pub struct Server {
    /// Answers requests.
    pub service: Arc<Service>,
    /// Limits.
    pub settings: HttpSettings,
    /// Counters.
    pub metrics: Arc<Metrics>,
}

impl Server {
    /// Serves until `stop` completes, then lets running requests end within the drain timeout.
    pub async fn serve(
        self,
        listener: TcpListener,
        tls: Option<TlsAcceptor>,
        stop: impl Future<Output = ()>,
    ) {
        let graceful = GracefulShutdown::new();
        let places = Arc::new(Semaphore::new(self.settings.connections_max));
        let mut stop = std::pin::pin!(stop);
        loop {
            let stream = tokio::select! {
                () = &mut stop => break,
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => stream,
                    Err(error) => {
                        tracing::warn!("cannot accept a connection: {error}");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                        continue;
                    }
                },
            };
            // Answers are whole when they are written; waiting for more only delays them.
            let _best_effort = stream.set_nodelay(true);
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                self.metrics.connections_refused.inc();
                tokio::spawn(refuse(stream));
                continue;
            };
            let stream = StallGuard::new(stream, self.settings.write_timeout);
            let server = self.clone();
            let watcher = graceful.watcher();
            let tls = tls.clone();
            tokio::spawn(async move {
                let _place = place;
                server.metrics.connections.inc();
                match tls {
                    None => server.connection(stream, watcher).await,
                    Some(tls) => {
                        // A failed handshake is the client's affair.
                        if let Ok(Ok(stream)) =
                            tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)).await
                        {
                            server.connection(stream, watcher).await;
                        }
                    }
                }
                server.metrics.connections.dec();
            });
        }
        drop(listener);
        if tokio::time::timeout(self.settings.drain_timeout, graceful.shutdown())
            .await
            .is_err()
        {
            tracing::warn!(
                "requests still ran after {:?} and are cut off",
                self.settings.drain_timeout
            );
        }
    }

    async fn connection(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        watcher: hyper_util::server::graceful::Watcher,
    ) {
        let service = Arc::clone(&self.service);
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.settings.idle_timeout)
            .max_buf_size(HEAD_MAX_BYTES)
            .serve_connection(
                TokioIo::new(stream),
                service_fn(move |request| {
                    let service = Arc::clone(&service);
                    async move { Ok::<_, Infallible>(service.handle(request).await) }
                }),
            );
        // Whatever ends a connection early is the client's affair and was answered where it could be.
        if let Err(error) = watcher.watch(connection).await {
            tracing::debug!("connection ended: {error}");
        }
    }
}

async fn refuse(mut stream: TcpStream) {
    const ANSWER: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 52\r\nConnection: close\r\n\r\ntoo many connections: see http.connections_max (503)\n";
    // The client may be gone; nothing depends on it.
    let _gone = tokio::time::timeout(HANDSHAKE_TIMEOUT, stream.write_all(ANSWER)).await;
}
