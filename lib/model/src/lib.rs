//! The records that cross a process border: events of the sensor and of HTTP sources, the joined
//! record, and their encodings.
//!
//! ```text
//! producer --write_json--> bytes --(socket, spool, gRPC)--> decode --> Event
//! ```
//!
//! Read [`Event`] and [`Request`] first. Encoding is hand-written and needs only `std`, so that a
//! producer (a sensor, a web server's module) pulls in nothing; decoding is behind the feature `serde`.
//!
//! Invariants: a text is bytes, UTF-8 in JSON where it is UTF-8 and `{"b64": "…"}` where not; an
//! address is 16 bytes, IPv4 as `::ffff:a.b.c.d`, without zone; a time is nanoseconds since the epoch.
//! Deliberately absent: sockets, files, clocks, ClickHouse. Version 1 of the wire: unknown fields
//! are ignored when read; a `v` other than 1 is refused.

pub mod address;
pub mod connection;
#[cfg(feature = "serde")]
pub mod decode;
pub mod envelope;
pub mod event;
pub mod frame;
pub mod id;
pub mod joined;
pub mod json;
pub mod limits;
pub mod request;
pub mod status;
pub mod text;

pub use address::{CanonicalAddr, Endpoint, Pair};
pub use connection::{
    ClientHello, Close, CloseReason, Confirm, Confirmed, ConnFacts, ConnFlags, Direction, Encap, Open,
    TcpFacts, TlsFacts, Transport,
};
pub use event::{Event, EventKind, Head, IdKind, TsKind};
pub use id::{BootId, ConnUid, EventId};
pub use joined::{Correction, JoinedRequest, Match, NoneReason, TlsRecord};
pub use request::{HeadersForm, Request, RequestEnd, Tier};
pub use status::Status;
pub use text::Text;

/// Nanoseconds since the Unix epoch.
pub type WallNs = i64;
