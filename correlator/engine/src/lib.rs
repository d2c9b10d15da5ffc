//! Joins HTTP requests with the TLS connections that they came on, as a pure state machine.
//!
//! ```text
//! open, client_hello, confirm, close --> +--------+ --> TlsRow      one for each ClientHello
//! request, end                       --> | Engine | --> Joined      one for each request, exactly
//! time                               --> +--------+ --> Correction  a connection that came too late
//! ```
//!
//! Read [`Engine`] and [`RequestInput`] first; [`Match`] says what a join means. The engine is generic over two
//! payloads that it never looks into: `C` of a connection (cheap to clone, such as an `Arc`) and `R` of
//! a request. Everything a caller puts in comes out again exactly once, as an output or as a drop with a
//! reason, so that the caller can acknowledge it: `received = passed + dropped + pending`, see [`Flow`].
//!
//! How a request finds its connection, best first:
//! 1. a unique, confirmed `client_random` of a connection that is known under the request's addresses;
//! 2. a binding: an earlier request of the same producer with the same `conn_id` was joined for sure;
//! 3. the newest confirmed connection on the client's endpoint that was open at the time of the
//!    request, within the tolerance of the clocks (ASOF join), wire addresses before PROXY addresses;
//! 4. a `client_random` whose addresses nothing else claims;
//! 5. a connection that nothing confirmed, if none of the above is there.
//!
//! 1 and 2 decide at arrival. The others decide `orphan_wait` after arrival, because an event that is still under
//! way may change them: this is what makes the answer independent of the order of arrival within
//! `orphan_wait`, and what makes a stalled input unable to freeze the other.
//!
//! Invariants: only a confirmed connection replaces another on its addresses; idle time ends nothing,
//! memory pressure does; every table, queue and loop has a limit in [`limits`]. All state hangs on
//! the client's endpoint, except the two indexes by `conn_uid` and by `conn_id`, so that engines can
//! be partitioned by it.
//!
//! Deliberately absent: sockets, files, clocks, randomness, async. Time comes in as [`Now`], the seed of
//! the hashes as [`Seed`]; no output depends on a hash.
#![warn(clippy::disallowed_methods, reason = "pure: time and bytes are arguments")]

pub mod limits;

mod address;
mod connections;
mod corrections;
mod counters;
mod early;
mod engine;
mod index;
mod input;
mod none_reason;
mod output;
mod pending;
mod resolve;
mod rows;
mod settings;
mod slab;
mod streams;

pub use address::{Endpoint, Pair, Transport};
pub use counters::{Counters, Flow, JoinCounts, Memory};
pub use engine::Engine;
pub use input::{
    Alpn, CloseReason, Confirmed, ConnUid, ConnectionEvent, ConnectionInput, Gap, Hello, HelloFacts,
    HttpVersion, Now, Opened, RequestEnd, RequestFacts, RequestInput, Scheme,
};
pub use output::{
    ConnRef, Contradictions, Correction, DropReason, Joined, KeySource, Match, NoneReason, Output, TlsRow,
};
pub use settings::{Seed, ServerSide, Settings};
