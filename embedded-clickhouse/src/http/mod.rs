//! The ClickHouse HTTP interface: from a request's bytes to a statement, and from its output to an answer.

pub mod body;
pub mod certificate;
pub mod formats;
pub mod frames;
pub mod params;
pub mod row_binary;
pub mod server;
pub mod service;
pub mod stall;
