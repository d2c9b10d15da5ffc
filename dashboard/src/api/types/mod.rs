//! Every type that crosses the HTTP interface, one file for each page of the web application.
//!
//! Times are RFC 3339 in UTC. Numbers beyond 2^53 (`entity_id`, `boot`, `seq`) are decimal strings. Addresses are
//! text, IPv4 without the `::ffff:` of the store.

mod auth;
mod clients;
mod common;
mod filter;
mod group;
mod labels;
mod overview;
mod requests;
mod rules;
mod status;

pub(crate) use auth::*;
pub(crate) use clients::*;
pub(crate) use common::*;
pub(crate) use filter::*;
pub(crate) use group::*;
pub(crate) use labels::*;
pub(crate) use overview::*;
pub(crate) use requests::*;
pub(crate) use rules::*;
pub(crate) use status::*;
