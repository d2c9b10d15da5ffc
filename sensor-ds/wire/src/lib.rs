//! Reads protocol values and fingerprints out of byte slices: link layer, IP, TCP, TLS ClientHello, JA4 and JA3.
//!
//! ```text
//! frame --link--> ethertype + bytes --ip--> addresses + bytes --tcp--> segment --proxy, tls--> ClientHello --> fingerprints
//! ```
//!
//! Every parser takes a slice and returns values that borrow from it. Answers are *done*, *need more*
//! (only where bytes of a stream may still come) or an error that names the reason; damage that can be
//! read past is a flag. Nothing here panics, allocates by an attacker's number or reads outside a slice.
//!
//! Read [`ip::IpPacket`] and [`tls::ClientHello`] first. Deliberately absent: state between packets
//! (see `sensor-flow`), reassembly of IP fragments, tunnels, QUIC and DTLS. Registered numbers are
//! newtypes over the integer (see [`registry`]), so that unknown values survive.
#![warn(clippy::disallowed_methods, reason = "pure: time and bytes are arguments")]
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

pub mod fingerprint;
pub mod ip;
pub mod link;
pub mod proxy;
mod reader;
pub mod registry;
pub mod tcp;
pub mod tls;

pub use fingerprint::Fingerprints;
pub use ip::{IpPacket, ParseIpError};
pub use link::{LinkFrame, ParseLinkError};
pub use tcp::{ParseTcpError, TcpSegment};
pub use tls::ClientHello;
