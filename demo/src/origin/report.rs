//! Turns a head into the events of a request.

use std::time::{Instant, SystemTime};

use ja4_emit::Emitter;
use ja4_model::address::{Endpoint, Pair};
use ja4_model::request::{EffectiveSource, ServerTls};
use ja4_model::{Event, HeadersForm, Request, RequestEnd, Text};

use super::config::EmitMode;
use crate::observe::RequestHead;

/// What all requests of a connection share.
#[derive(Debug, Clone)]
pub struct Connection {
    /// The socket's ends.
    pub pair: Pair,
    /// The client that the load balancer's PROXY header names.
    pub proxy_client: Option<Endpoint>,
    /// The server's number of the connection.
    pub id: u64,
    /// TLS, unless plain.
    pub tls: Option<ServerTls<'static>>,
}

/// Where a request stands on its connection, and when it began.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// First byte of the head, nanoseconds since the epoch.
    pub ts_ns: i64,
    /// The same on the steady clock.
    pub began: Instant,
    /// From 0.
    pub index: u32,
    /// HTTP/2 stream.
    pub stream: Option<u32>,
}

/// Sends events as the configuration wants them.
#[derive(Debug)]
pub struct Reporter {
    emitter: Emitter,
    mode: EmitMode,
}

/// A request that has begun; [`Reporter::end`] takes it.
#[derive(Debug)]
pub struct Begun {
    place: Place,
    /// Number of the request's event, or the request itself if it is reported at its end.
    state: State,
}

#[derive(Debug)]
enum State {
    Sent(u64),
    Kept(Box<Request<'static>>),
}

impl Reporter {
    /// Reports through `emitter`.
    pub fn new(emitter: Emitter, mode: EmitMode) -> Self {
        Self { emitter, mode }
    }

    /// The emitter, for its counters and its end.
    pub fn emitter(&self) -> &Emitter {
        &self.emitter
    }

    /// A request's head was read.
    pub fn begin(&self, connection: &Connection, place: Place, head: &RequestHead) -> Begun {
        let mut request = request_of(connection, place, head);
        let state = match self.mode {
            EmitMode::AtEnd => State::Kept(Box::new(request)),
            EmitMode::StartAndEnd => {
                request.end_follows = true;
                let event = Event::Request(Box::new(request));
                State::Sent(self.emitter.send(place.ts_ns, &event).seq())
            }
        };
        Begun { place, state }
    }

    /// A request was answered, or its answer broke off: `status` is absent if none was sent.
    pub fn end(&self, begun: Begun, status: Option<u16>, bytes_sent: u64) {
        let duration_us = u64::try_from(begun.place.began.elapsed().as_micros()).ok();
        match begun.state {
            State::Sent(request_seq) => {
                let end = RequestEnd {
                    request_seq,
                    status,
                    bytes_sent: Some(bytes_sent),
                    duration_us,
                };
                self.emitter.send(now_ns(), &Event::End(end));
            }
            State::Kept(mut request) => {
                request.status = status;
                request.bytes_sent = Some(bytes_sent);
                request.duration_us = duration_us;
                self.emitter.send(begun.place.ts_ns, &Event::Request(request));
            }
        }
    }
}

fn request_of(connection: &Connection, place: Place, head: &RequestHead) -> Request<'static> {
    let (path, query) = head.path_and_query();
    let scheme = if connection.tls.is_some() { "https" } else { "http" };
    Request {
        pair: connection.pair,
        proxy_client: connection.proxy_client,
        effective_ip: connection.proxy_client.map(|client| client.ip),
        effective_source: match connection.proxy_client {
            Some(_) => EffectiveSource::ProxyProtocol,
            None => EffectiveSource::Wire,
        },
        conn_id: Text::from(connection.id.to_string()),
        req_index: Some(place.index),
        stream_id: place.stream.map(u64::from),
        method: Text::from(head.method.clone()),
        scheme: Text::from(scheme),
        host: Text::from(head.host().to_vec()),
        path: Text::from(path.to_vec()),
        query: Text::from(query.to_vec()),
        http_version: Text::from(head.version),
        headers: head
            .headers
            .iter()
            .map(|(name, value)| (Text::from(name.clone()), Text::from(value.clone())))
            .collect(),
        headers_form: HeadersForm::Ordered,
        headers_case: true,
        headers_dups: true,
        h2_fp: Text::from(head.h2_fp.clone()),
        tls: connection.tls.clone(),
        truncated: if head.is_cut {
            vec![Text::from("headers")]
        } else {
            Vec::new()
        },
        ..Request::default()
    }
}

/// Nanoseconds since the epoch.
pub fn now_ns() -> i64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .ok()
        .and_then(|since| i64::try_from(since.as_nanos()).ok())
        .unwrap_or(0)
}
