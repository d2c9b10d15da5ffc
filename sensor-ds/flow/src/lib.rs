//! Groups frames into connections, finds the ClientHello of each and follows the connection to its end.
//!
//! ```text
//! frame ──wire──▶ segment ──▶ connection being set up ──hello, confirmed──▶ tracked connection ──▶ close
//!                              (full state, reassembly)                     (32 bytes)
//! ```
//!
//! Input: frames with a capture time (nanoseconds since the epoch). Output: [`FlowEvent`]s, taken with
//! [`FlowTable::poll_event`]. Time never comes from the clock and the hash seed is an argument, so
//! replaying a capture gives identical events.
//!
//! Invariant: every byte of state is paid for by one of three budgets in [`FlowSettings`]; what does not
//! fit is evicted, oldest and least certain first, and counted by reason in [`Counters`].
//!
//! What an attacker off the path cannot do: end or replace a confirmed connection. A RST counts only at
//! the exact expected sequence number, a SYN replaces only once the server answered it and the client
//! answered that, and numbers advance only by segments that continue them (see [`FlowTable`]).
//!
//! Read [`FlowTable`] and [`FlowEvent`] first; [`ViewMerger`] stands behind the table where there are several interfaces.
//! Deliberately absent: IP fragments, tunnels, QUIC, DTLS, and preambles before the hello.
#![warn(
    clippy::disallowed_methods,
    reason = "pure: time, bytes and seeds are arguments"
)]

mod assembly;
mod connection;
mod counters;
mod event;
mod key;
mod merge;
mod networks;
mod numbers;
mod settings;
mod store;
mod table;
mod tracked;

pub use counters::{Counters, FrameDrop, Loss};
pub use event::{
    CloseReason, Confirmed, ConnFacts, ConnId, Encap, Endpoint, FlowEvent, FlowFlags, HelloEvent, HelloFacts,
    Pair, SynFacts, TimeNs,
};
pub use merge::{MergeCounters, MergeSettings, VIEWS_MAX, ViewMerger};
pub use networks::{InvalidNetwork, Network, OwnNetworks};
pub use settings::{FlowSettings, Seed};
pub use table::{FlowTable, Frame};
