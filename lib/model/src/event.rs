//! What every event carries, and the closed set of kinds.

use crate::WallNs;
use crate::connection::{ClientHello, Close, Confirm, Open};
use crate::id::{BootId, EventId};
use crate::json::Object;
use crate::limits::WIRE_VERSION;
use crate::request::{Request, RequestEnd};
use crate::status::Status;
use crate::text::Text;

/// Kind of an event; the field `event` on the wire.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum EventKind {
    /// A plain-HTTP connection opened (sensor).
    Open = 1,
    /// A TLS ClientHello is complete (sensor).
    ClientHello = 2,
    /// The connection's confirmation rose (sensor).
    Confirm = 3,
    /// A connection ended or is no longer tracked (sensor).
    Close = 4,
    /// A request (HTTP source).
    Request = 5,
    /// The end of a request (HTTP source).
    End = 6,
    /// Counters of the producer (any).
    Status = 7,
}

impl EventKind {
    /// All kinds.
    pub const ALL: [Self; 7] = [
        Self::Open,
        Self::ClientHello,
        Self::Confirm,
        Self::Close,
        Self::Request,
        Self::End,
        Self::Status,
    ];

    /// The name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::ClientHello => "client_hello",
            Self::Confirm => "confirm",
            Self::Close => "close",
            Self::Request => "request",
            Self::End => "end",
            Self::Status => "status",
        }
    }

    /// The kind of a wire name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// The kind of its number in an envelope.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == number)
    }
}

/// How `ts_ns` came about.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum TsKind {
    /// Measured when the thing happened.
    #[default]
    Start,
    /// End minus duration: sources that log when a request ends.
    Derived,
}

impl TsKind {
    /// The name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Derived => "derived",
        }
    }
}

/// Who counted the event.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum IdKind {
    /// The producer itself: gaps show loss.
    #[default]
    Producer,
    /// The receiver, for producers that cannot count.
    Receiver,
}

impl IdKind {
    /// The name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Producer => "producer",
            Self::Receiver => "receiver",
        }
    }
}

/// What every event carries.
#[derive(Clone, PartialEq, Debug)]
pub struct Head<'a> {
    /// Kind of producer, such as `sensor`, `apache`; stamped by the receiver.
    pub source: Text<'a>,
    /// Host name of the producer; stamped by the receiver.
    pub node: Text<'a>,
    /// Producer process.
    pub boot: BootId,
    /// Number of the event in its process, from 0. A status has none of its own and repeats `next_seq`.
    pub seq: u64,
    /// Who counted.
    pub id_kind: IdKind,
    /// When the thing happened, nanoseconds since the epoch.
    pub ts_ns: WallNs,
    /// How `ts_ns` came about.
    pub ts_kind: TsKind,
    /// Resolution of `ts_ns`, nanoseconds, at least 1.
    pub ts_resolution_ns: u64,
    /// Arrival, stamped by the receiver; absent before that.
    pub recv_ns: Option<WallNs>,
    /// 1, or the share of connections that the producer passes on.
    pub sample_rate: f64,
}

impl<'a> Head<'a> {
    /// A head as a producer starts it: measured at `ts_ns`, not sampled.
    pub fn new(source: Text<'a>, node: Text<'a>, id: EventId, ts_ns: WallNs) -> Self {
        Self {
            source,
            node,
            boot: id.boot,
            seq: id.seq,
            id_kind: IdKind::Producer,
            ts_ns,
            ts_kind: TsKind::Start,
            ts_resolution_ns: 1,
            recv_ns: None,
            sample_rate: 1.0,
        }
    }

    /// The event's identity.
    pub const fn id(&self) -> EventId {
        EventId {
            boot: self.boot,
            seq: self.seq,
        }
    }

    /// Detaches the head from the message that it was read from.
    pub fn into_owned(self) -> Head<'static> {
        Head {
            source: self.source.into_owned(),
            node: self.node.into_owned(),
            boot: self.boot,
            seq: self.seq,
            id_kind: self.id_kind,
            ts_ns: self.ts_ns,
            ts_kind: self.ts_kind,
            ts_resolution_ns: self.ts_resolution_ns,
            recv_ns: self.recv_ns,
            sample_rate: self.sample_rate,
        }
    }

    /// Writes the fields; `v` and `event` come first, so that a reader finds the kind at once.
    pub fn write_fields(&self, kind: EventKind, object: &mut Object<'_>) {
        object.num("v", WIRE_VERSION);
        object.str("event", kind.name());
        object.text("source", &self.source);
        object.text("node", &self.node);
        object.display("boot", self.boot);
        if kind != EventKind::Status {
            object.num("seq", self.seq);
        }
        if self.id_kind != IdKind::Producer {
            object.str("id_kind", self.id_kind.name());
        }
        object.num("ts_ns", self.ts_ns);
        if self.ts_kind != TsKind::Start {
            object.str("ts_kind", self.ts_kind.name());
        }
        if self.ts_resolution_ns != 1 {
            object.num("ts_resolution_ns", self.ts_resolution_ns);
        }
        object.num_opt("recv_ns", self.recv_ns);
        if (self.sample_rate - 1.0).abs() > f64::EPSILON {
            object.float("sample_rate", self.sample_rate);
        }
    }
}

/// An event's body, by kind.
#[derive(Clone, PartialEq, Debug)]
pub enum Event<'a> {
    /// See [`Open`].
    Open(Open<'a>),
    /// See [`ClientHello`].
    ClientHello(Box<ClientHello<'a>>),
    /// See [`Confirm`].
    Confirm(Confirm),
    /// See [`Close`].
    Close(Close),
    /// See [`Request`].
    Request(Box<Request<'a>>),
    /// See [`RequestEnd`].
    End(RequestEnd),
    /// See [`Status`].
    Status(Status<'a>),
}

impl Event<'_> {
    /// The kind.
    pub const fn kind(&self) -> EventKind {
        match self {
            Self::Open(_) => EventKind::Open,
            Self::ClientHello(_) => EventKind::ClientHello,
            Self::Confirm(_) => EventKind::Confirm,
            Self::Close(_) => EventKind::Close,
            Self::Request(_) => EventKind::Request,
            Self::End(_) => EventKind::End,
            Self::Status(_) => EventKind::Status,
        }
    }

    /// Writes the event as one JSON object, without a line end.
    pub fn write_json(&self, head: &Head<'_>, out: &mut Vec<u8>) {
        let mut object = Object::open(out);
        head.write_fields(self.kind(), &mut object);
        match self {
            Self::Open(open) => open.write_fields(&mut object),
            Self::ClientHello(hello) => hello.write_fields(&mut object),
            Self::Confirm(confirm) => confirm.write_fields(&mut object),
            Self::Close(close) => close.write_fields(&mut object),
            Self::Request(request) => request.write_fields(&mut object),
            Self::End(end) => end.write_fields(&mut object),
            Self::Status(status) => status.write_fields(&mut object),
        }
        object.close();
    }
}
