//! One connection from its first byte to its last: HTTP/1 by our own parser, HTTP/2 by `h2` under an observer.

use std::fmt::Write as _;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::server::SendResponse;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::time::timeout;

use super::Shared;
use super::report::{Begun, Connection, Place, now_ns};
use super::site::Answer;
use crate::observe::http1::{Decoder, Event, Http1Error};
use crate::observe::http2::{Http2Error, Observer};
use crate::observe::{RequestHead, http1};

/// Largest body that is kept: a form or a small JSON. The rest of a longer one is refused.
const MAX_BODY_BYTES: usize = 64 << 10;
/// Bytes read at once.
const READ_BYTES: usize = 16 << 10;
/// Streams of one connection at once: RFC 9113 recommends at least 100.
const MAX_STREAMS: u32 = 128;
/// Longest wait for a client to take an answer.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// Serves HTTP/1 until the client or a limit ends it; returns why, for the counters.
pub(super) async fn http1<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    connection: &Connection,
    shared: &Shared,
) -> &'static str {
    let mut decoder = Decoder::default();
    let mut index = 0;
    loop {
        let began = match await_request(&mut stream, &mut decoder, shared).await {
            Ok(began) => began,
            Err(reason) => return reason,
        };
        let deadline = tokio::time::Instant::now() + shared.config.request_timeout.0;
        let head = match next_event(&mut stream, &mut decoder, deadline).await {
            Ok(Event::Head(head)) => head,
            Ok(_) => return "malformed_head",
            Err(failure) => return refuse(&mut stream, failure).await,
        };
        let pending = shared.requests.begin();
        let place = Place {
            ts_ns: began.0,
            began: began.1,
            index,
            stream: None,
        };
        index += 1;
        let begun = shared.reporter.begin(connection, place, &head);
        if expects_continue(&head) && stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.is_err() {
            shared.reporter.end(begun, None, 0);
            pending.fail("client_gone");
            return "client_gone";
        }
        let body = match read_body(&mut stream, &mut decoder, deadline).await {
            Ok(body) => body,
            Err(failure) => {
                let status = failure.status();
                let reason = refuse(&mut stream, failure).await;
                shared.reporter.end(begun, status, 0);
                pending.fail(reason);
                return reason;
            }
        };
        let keep = keeps_alive(&head) && !shared.shutdown.is_requested();
        let answer = shared.site.answer(&head, &body, shared.new_session());
        let is_head = head.method == b"HEAD";
        let (bytes, n_sent) = response(&answer, is_head, keep);
        let written = timeout(WRITE_TIMEOUT, async {
            stream.write_all(&bytes).await?;
            stream.flush().await
        });
        if matches!(written.await, Ok(Ok(()))) {
            shared.reporter.end(begun, Some(answer.status), n_sent);
            pending.pass();
        } else {
            shared.reporter.end(begun, Some(answer.status), 0);
            pending.fail("client_gone");
            return "client_gone";
        }
        if !keep {
            close(&mut stream).await;
            return "closed";
        }
    }
}

/// Waits for the first byte of a request, and returns when it came.
async fn await_request<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    decoder: &mut Decoder,
    shared: &Shared,
) -> Result<(i64, Instant), &'static str> {
    let mut buffer = vec![0; READ_BYTES];
    while decoder.is_idle() {
        let read = tokio::select! {
            read = timeout(shared.config.idle_timeout.0, stream.read(&mut buffer)) => read,
            () = shared.shutdown.requested() => {
                close(stream).await;
                return Err("stopped");
            }
        };
        match read {
            Ok(Ok(0)) => {
                close(stream).await;
                return Err("closed");
            }
            Ok(Ok(n)) => {
                // Blank lines only: dropped here, so that they cannot add up.
                if decoder.buffered() > READ_BYTES {
                    return Err("malformed_head");
                }
                decoder.feed(&buffer[..n]);
            }
            // Many clients end without TLS's farewell; between requests that loses nothing.
            Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => return Err("closed"),
            Ok(Err(_)) => return Err("client_gone"),
            Err(_) => {
                close(stream).await;
                return Err("idle");
            }
        }
    }
    Ok((now_ns(), Instant::now()))
}

#[derive(Debug, Clone, Copy)]
enum Failure {
    Decode(Http1Error),
    Timeout,
    Gone,
    BodyTooLarge,
}

impl Failure {
    const fn status(self) -> Option<u16> {
        match self {
            Self::Decode(Http1Error::HeadTooLarge) => Some(431),
            Self::Decode(_) => Some(400),
            Self::Timeout => Some(408),
            Self::BodyTooLarge => Some(413),
            Self::Gone => None,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Decode(error) => error.name(),
            Self::Timeout => "request_timeout",
            Self::BodyTooLarge => "body_too_large",
            Self::Gone => "client_gone",
        }
    }
}

async fn next_event<S: AsyncRead + Unpin>(
    stream: &mut S,
    decoder: &mut Decoder,
    deadline: tokio::time::Instant,
) -> Result<Event, Failure> {
    let mut buffer = vec![0; READ_BYTES];
    loop {
        if let Some(event) = decoder.poll().map_err(Failure::Decode)? {
            return Ok(event);
        }
        match tokio::time::timeout_at(deadline, stream.read(&mut buffer)).await {
            Ok(Ok(0) | Err(_)) => return Err(Failure::Gone),
            Ok(Ok(n)) => decoder.feed(&buffer[..n]),
            Err(_) => return Err(Failure::Timeout),
        }
    }
}

async fn read_body<S: AsyncRead + Unpin>(
    stream: &mut S,
    decoder: &mut Decoder,
    deadline: tokio::time::Instant,
) -> Result<Vec<u8>, Failure> {
    let mut body = Vec::new();
    loop {
        match next_event(stream, decoder, deadline).await? {
            Event::Body(part) if body.len() + part.len() > MAX_BODY_BYTES => {
                return Err(Failure::BodyTooLarge);
            }
            Event::Body(part) => body.extend(part),
            Event::End => return Ok(body),
            Event::Head(_) => return Err(Failure::Decode(Http1Error::Malformed)),
        }
    }
}

/// Says why, if it can be said, and ends.
async fn refuse<S: AsyncWrite + Unpin>(stream: &mut S, failure: Failure) -> &'static str {
    if let Some(status) = failure.status() {
        let (bytes, _) = response(&Answer::plain(status, failure.name()), false, false);
        // The client may be gone or not read: the connection ends either way.
        if matches!(
            timeout(Duration::from_secs(1), stream.write_all(&bytes)).await,
            Ok(Ok(()))
        ) {
            close(stream).await;
        }
    }
    failure.name()
}

async fn close<S: AsyncWrite + Unpin>(stream: &mut S) {
    // A client that is gone needs no farewell.
    let _farewell = timeout(Duration::from_secs(1), stream.shutdown()).await.is_ok();
}

fn expects_continue(head: &RequestHead) -> bool {
    head.header("expect")
        .is_some_and(|value| value.eq_ignore_ascii_case(b"100-continue"))
}

fn keeps_alive(head: &RequestHead) -> bool {
    let says = |word: &str| {
        head.headers
            .iter()
            .filter(|(name, _)| name.eq_ignore_ascii_case(b"connection"))
            .flat_map(|(_, value)| value.split(|b| *b == b','))
            .any(|token| token.trim_ascii().eq_ignore_ascii_case(word.as_bytes()))
    };
    if head.version == "1.0" {
        says("keep-alive")
    } else {
        !says("close")
    }
}

/// The bytes of an answer, and how many of them are the body.
fn response(answer: &Answer, is_head: bool, keep: bool) -> (Vec<u8>, u64) {
    let reason = http::StatusCode::from_u16(answer.status)
        .ok()
        .and_then(|status| status.canonical_reason())
        .unwrap_or("Unknown");
    let mut text = format!("HTTP/1.1 {} {reason}\r\nserver: ja4-demo\r\n", answer.status);
    for (name, value) in &answer.headers {
        write!(text, "{name}: {value}\r\n").expect("writing to a String does not fail");
    }
    if !matches!(answer.status, 204 | 304) {
        write!(text, "content-length: {}\r\n", answer.body.len()).expect("writing to a String does not fail");
    }
    text += if keep {
        "connection: keep-alive\r\n\r\n"
    } else {
        "connection: close\r\n\r\n"
    };
    let mut bytes = text.into_bytes();
    if is_head {
        return (bytes, 0);
    }
    bytes.extend_from_slice(&answer.body);
    (bytes, answer.body.len() as u64)
}

/// Hands every byte of the client to the observer before the server sees it.
struct Tap<S> {
    stream: S,
    observer: Arc<Mutex<Observer>>,
    failed: Arc<Mutex<Option<Http2Error>>>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Tap<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        let mut observer = self.observer.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = observer.feed(now_ns(), &buf.filled()[before..]) {
            *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            return Poll::Ready(Err(io::Error::other(error.name())));
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Tap<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Serves HTTP/2 until the client or a limit ends it; returns why, for the counters.
pub(super) async fn http2<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    connection: &Arc<Connection>,
    shared: &Arc<Shared>,
) -> &'static str {
    let observer = Arc::new(Mutex::new(Observer::default()));
    let failed = Arc::new(Mutex::new(None));
    let tap = Tap {
        stream,
        observer: Arc::clone(&observer),
        failed: Arc::clone(&failed),
    };
    let handshake = h2::server::Builder::new()
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(u32::try_from(http1::MAX_HEAD_BYTES).unwrap_or(u32::MAX))
        .max_send_buffer_size(256 << 10)
        .handshake::<_, Bytes>(tap);
    let reason = match timeout(shared.config.request_timeout.0, handshake).await {
        Ok(Ok(h2)) => accept_streams(h2, &observer, connection, shared).await,
        Ok(Err(_)) => "h2_protocol",
        Err(_) => "request_timeout",
    };
    let failed = *failed.lock().unwrap_or_else(PoisonError::into_inner);
    failed.map_or(reason, Http2Error::name)
}

async fn accept_streams<S: AsyncRead + AsyncWrite + Unpin>(
    mut h2: h2::server::Connection<Tap<S>, Bytes>,
    observer: &Mutex<Observer>,
    connection: &Arc<Connection>,
    shared: &Arc<Shared>,
) -> &'static str {
    let mut stopping = false;
    loop {
        let accepted = tokio::select! {
            accepted = h2.accept() => accepted,
            () = shared.shutdown.requested(), if !stopping => {
                h2.graceful_shutdown();
                stopping = true;
                continue;
            }
            () = tokio::time::sleep(shared.config.idle_timeout.0) => {
                if stopping || !h2.has_streams() {
                    h2.abrupt_shutdown(h2::Reason::NO_ERROR);
                    // The farewell goes out as far as the client takes it.
                    let farewell = std::future::poll_fn(|cx| h2.poll_closed(cx));
                    let _farewell = timeout(Duration::from_secs(1), farewell).await.is_ok();
                    return "idle";
                }
                continue;
            }
        };
        let (request, respond) = match accepted {
            None => return if stopping { "stopped" } else { "closed" },
            Some(Err(error)) => return end_of(&error),
            Some(Ok(accepted)) => accepted,
        };
        let stream = respond.stream_id().as_u32();
        let observed = observer
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take(stream);
        let Some(observed) = observed else {
            // Both read the same bytes, so this would be a difference between the two parsers.
            shared.requests.begin().fail("h2_unobserved");
            return "h2_unobserved";
        };
        let place = Place {
            ts_ns: observed.ts_ns,
            began: Instant::now(),
            index: observed.index,
            stream: Some(stream),
        };
        let (connection, shared) = (Arc::clone(connection), Arc::clone(shared));
        let begun = shared.reporter.begin(&connection, place, &observed.head);
        tokio::spawn(async move {
            answer_stream(&shared, begun, &observed.head, request.into_body(), respond).await;
        });
    }
}

fn end_of(error: &h2::Error) -> &'static str {
    match error.get_io().map(io::Error::kind) {
        // Without TLS's farewell, as on HTTP/1; streams under way count for themselves.
        Some(io::ErrorKind::UnexpectedEof) => "closed",
        Some(_) => "client_gone",
        None => "h2_protocol",
    }
}

async fn answer_stream(
    shared: &Shared,
    begun: Begun,
    head: &RequestHead,
    mut body: h2::RecvStream,
    mut respond: SendResponse<Bytes>,
) {
    let pending = shared.requests.begin();
    let answer = match timeout(shared.config.request_timeout.0, collect(&mut body)).await {
        Ok(Ok(Some(body))) => shared.site.answer(head, &body, shared.new_session()),
        Ok(Ok(None)) => Answer::plain(413, "body_too_large"),
        Ok(Err(_)) => {
            shared.reporter.end(begun, None, 0);
            return pending.fail("client_gone");
        }
        Err(_) => Answer::plain(408, "request_timeout"),
    };
    let status = answer.status;
    let sent = timeout(WRITE_TIMEOUT, send(&mut respond, head, answer)).await;
    if let Ok(Ok(n_sent)) = sent {
        shared.reporter.end(begun, Some(status), n_sent);
        pending.pass();
    } else {
        respond.send_reset(h2::Reason::CANCEL);
        shared.reporter.end(begun, Some(status), 0);
        pending.fail("client_gone");
    }
}

/// The whole body, or nothing if it is too large.
async fn collect(body: &mut h2::RecvStream) -> Result<Option<Vec<u8>>, h2::Error> {
    let mut whole = Vec::new();
    while let Some(part) = body.data().await {
        let part = part?;
        if whole.len() + part.len() > MAX_BODY_BYTES {
            return Ok(None);
        }
        whole.extend_from_slice(&part);
        body.flow_control().release_capacity(part.len())?;
    }
    Ok(Some(whole))
}

async fn send(
    respond: &mut SendResponse<Bytes>,
    head: &RequestHead,
    answer: Answer,
) -> Result<u64, h2::Error> {
    let mut response = http::Response::builder()
        .status(answer.status)
        .header("server", "ja4-demo");
    for (name, value) in &answer.headers {
        response = response.header(*name, value);
    }
    if !matches!(answer.status, 204 | 304) {
        response = response.header("content-length", answer.body.len());
    }
    let response = response
        .body(())
        .expect("the site's statuses and headers are valid");
    let is_empty = answer.body.is_empty() || head.method == b"HEAD";
    let mut stream = respond.send_response(response, is_empty)?;
    if is_empty {
        return Ok(0);
    }
    let n_bytes = answer.body.len() as u64;
    let mut rest = Bytes::from(answer.body);
    while !rest.is_empty() {
        stream.reserve_capacity(rest.len());
        let granted = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await;
        let granted = granted.unwrap_or_else(|| Err(h2::Reason::CANCEL.into()))?;
        let part = rest.split_to(granted.min(rest.len()));
        stream.send_data(part, rest.is_empty())?;
    }
    Ok(n_bytes)
}
