//! A producer's side of the event sockets: number, keep, send, count, and never block the caller.
//!
//! ```text
//! any thread: send ──encode──> ring (8 MiB) ──writer thread, many events a write──> UNIX socket
//!                                ^ kept until acknowledged (STREAM)  <── welcome, ack ──┘
//! ```
//!
//! Read [`Emitter`] and [`Counters`] first. What the rest relies on: every event takes one number,
//! and every number ends as acknowledged (STREAM) or sent (SEQPACKET), as dropped by a named reason,
//! or is still pending; the sum is always `next_seq`.
//!
//! Made for other people's servers: `std` and two small crates, one thread, no signal handlers, no
//! SIGPIPE, no allocation that a receiver or an event can grow beyond the configured budget.
//! Deliberately absent: redaction and cutting (the producer knows its fields), decoding, logging.

mod config;
mod counters;
mod emitter;
mod ring;
mod signals;
mod socket;
mod writer;

pub use config::{EmitConfig, SocketKind};
pub use counters::{Counters, DropReason, StopReport};
pub use emitter::{Emitter, SendOutcome, Stamp, StartError};

use ja4_model::BootId;

/// A random id for this process.
///
/// # Errors
/// The kernel's random source is not available.
pub fn random_boot() -> std::io::Result<BootId> {
    let mut bytes = [0; 8];
    let mut filled = 0;
    while filled < bytes.len() {
        filled += rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty())?;
    }
    Ok(BootId(u64::from_ne_bytes(bytes)))
}
