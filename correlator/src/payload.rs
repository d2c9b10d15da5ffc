//! What the engine carries for us: a request with the bytes it was read from, a connection.

use std::sync::Arc;

use ja4_model::{ClientHello, ConnFacts, Event, Head, Request, RequestEnd, decode};
use self_cell::self_cell;

/// Which event a payload came from, for its acknowledgement.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Origin {
    /// Producer process, as [`crate::settlement::Settlement`] numbers it.
    pub(crate) boot: u32,
    /// Number of the event in that process.
    pub(crate) seq: u64,
}

/// A request and its head, borrowed from the bytes beside them.
#[derive(Debug)]
pub(crate) struct Parsed<'a> {
    pub(crate) head: Head<'a>,
    pub(crate) request: Box<Request<'a>>,
}

self_cell!(
    /// A request that owns the bytes it borrows from: decoded once, without copies of its texts.
    pub(crate) struct RequestCell {
        owner: Box<[u8]>,
        #[covariant]
        dependent: Parsed,
    }
    impl {Debug}
);

impl RequestCell {
    /// Reads a request event.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, decode::DecodeError> {
        Self::try_new(bytes.into(), |bytes| match decode::event(bytes)? {
            (head, Event::Request(request)) => Ok(Parsed { head, request }),
            (_, other) => Err(decode::DecodeError::Kind(other.kind().name().to_owned())),
        })
    }

    /// Bytes that it occupies, roughly: the message, and for each header two texts of 24 bytes.
    pub(crate) fn weight(&self) -> u32 {
        let headers = self.borrow_dependent().request.headers.len();
        let bytes =
            self.borrow_owner().len() + headers * 48 + size_of::<Request<'_>>() + size_of::<Head<'_>>();
        u32::try_from(bytes).unwrap_or(u32::MAX)
    }
}

/// What the engine holds of an HTTP source's events.
#[derive(Debug)]
pub(crate) enum HttpPayload {
    /// A request, redacted.
    Request {
        cell: Box<RequestCell>,
        /// Keyed hash of its session; 0 if it has none.
        session: u64,
        origin: Origin,
    },
    /// The end of one.
    End(RequestEnd, Origin),
}

impl HttpPayload {
    pub(crate) const fn origin(&self) -> Origin {
        match self {
            Self::Request { origin, .. } | Self::End(_, origin) => *origin,
        }
    }
}

/// What the engine holds of a connection; shared by its requests.
#[derive(Debug)]
pub(crate) struct ConnPayload {
    pub(crate) origin: Origin,
    /// Told again by a node: its row was written before.
    pub(crate) announced: bool,
    pub(crate) head: Head<'static>,
    pub(crate) what: ConnKind,
}

/// The event that a connection is known by.
#[derive(Debug)]
pub(crate) enum ConnKind {
    /// TLS.
    Hello(Box<ClientHello<'static>>),
    /// Plain HTTP.
    Open(Box<ConnFacts<'static>>),
}

impl ConnPayload {
    pub(crate) fn hello(&self) -> Option<&ClientHello<'static>> {
        match &self.what {
            ConnKind::Hello(hello) => Some(hello),
            ConnKind::Open(_) => None,
        }
    }

    pub(crate) fn conn(&self) -> &ConnFacts<'static> {
        match &self.what {
            ConnKind::Hello(hello) => &hello.conn,
            ConnKind::Open(conn) => conn,
        }
    }

    /// Bytes that it occupies, roughly; the facts of the hello are shared and not counted.
    pub(crate) fn weight(&self) -> u32 {
        let inner = match &self.what {
            ConnKind::Hello(hello) => size_of::<ClientHello<'_>>() + hello.sni.as_bytes().len(),
            ConnKind::Open(_) => size_of::<ConnFacts<'_>>(),
        };
        u32::try_from(inner + size_of::<Self>() + 64).unwrap_or(u32::MAX)
    }
}

/// A shared connection.
pub(crate) type Conn = Arc<ConnPayload>;
