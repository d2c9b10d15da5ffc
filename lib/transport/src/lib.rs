//! The receiver's side of the event sockets: who may speak, how much, and what is settled.
//!
//! ```text
//! UNIX sockets ──epoll thread: credentials, greeting, quotas, split, stamp──> fair queues ──next()──> consumer
//!      ^──────────────────── welcome, ack (only the newest) ────────────────────────────── ack() ──┘
//! ```
//!
//! Read [`Receiver`] and [`Input`] first. What the rest relies on: a frame that `next` hands out comes
//! from a peer whose user may use that socket, carries the name and the process id that the peer greeted
//! with, and has a number; `received = passed + dropped + pending` for every identity at any moment.
//!
//! An *identity* is (listener, source, node, user): quotas and queues are per identity, so that one
//! noisy source cannot starve another. An *origin* is (source, node, boot), one producer process:
//! numbers, gaps and acknowledgements are per origin.
//!
//! Deliberately absent: decoding of events (the consumer wants to own what it decodes), disks, clocks
//! other than the one that is handed in. Streams of nodes are taken by [`remote`], into the same queues.

mod batch;
mod bind;
mod complaints;
mod config;
mod counters;
mod credentials;
mod peek;
mod quota;
mod receiver;
pub mod remote;
mod server;
mod splitter;
mod state;
mod window;

pub use batch::{Batch, Frame, Input, OriginId, Peer};
pub use config::{Clock, ListenerConfig, NextUnsettled, Quotas, ReceiverConfig, Role, SocketKind};
pub use counters::{Counters, DropReason, IdentityCounters, ListenerCounters, OriginCounters, RefuseReason};

pub use receiver::{Acker, Receiver, StartError, Waker};
pub use splitter::{Piece, Splitter};
pub use window::AckWindow;
