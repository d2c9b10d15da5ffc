//! gRPC between nodes and the correlator: the listener with mutual TLS or tokens, and a node's side of it.
//!
//! ```text
//! node: spool ──Link──▶ TLS ─▶ who? ─▶ hello ─▶ producers, batches ─▶ the receiver's fair queues ──next()──▶ consumer
//!         ▲                                                                                                    │
//!         └───────────── ack: first number of each producer that is not settled ◀────────────── ack() ─────────┘
//! ```
//!
//! Read [`RemoteConfig`] and [`Link`] first. What the rest relies on: an event of a stream carries the node that the
//! peer's certificate names, and a source that its token or role allows; events of one producer process come in the
//! order of their numbers, and one that comes again is dropped as a duplicate, here or by the consumer's marks.
//!
//! The events' producers stay what they are on a socket: (source, node, boot) with numbers of their own. The hop has
//! no numbers of its own, so that "exactly once" is one rule for sockets and streams.

use std::sync::{Mutex, MutexGuard, PoisonError};

mod certificate;
mod client;
mod config;
mod hub;
pub mod proto;
mod server;
mod stream;
mod tls;
mod tokens;

pub use certificate::{CertifiedPeer, NameError, PeerRole, certified_peer};
pub use client::{CredentialFiles, Credentials, Link, LinkConfig, LinkError};
pub use config::{Admission, RemoteConfig, Report, TokenSource};
pub use hub::NodeFacts;
pub use tls::{CertificateFiles, TlsError};

pub(crate) use hub::{Hub, is_remote};
pub(crate) use server::{Remote, Surroundings};

/// What a thread that panicked has left is whole: every change is one statement.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
