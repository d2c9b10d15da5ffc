//! libchdb behind the ClickHouse HTTP interface: the store of a laptop, of CI and of small installs.
//!
//! ```text
//! HTTP ─▶ http::server ─▶ http::service ─▶ execute (blocking pool) ─▶ ffi ─▶ libchdb
//!                            │ statement, access: what it is, who may      │
//!                            └ errors: status, and whether to end ◀────────┘
//! before each boot: repair        at boot: engine_config, credentials
//! ```
//!
//! Read [`http::service::Service`] and [`execute::Executor`] first. `repair` and `errors::after_insert` are what
//! makes a batch that is sent again until it is acknowledged appear exactly once. The crate is the inside of the
//! binary `ja4-clickhouse`; others meet it over HTTP.

pub mod access;
pub mod config;
pub mod credentials;
pub mod engine;
pub mod engine_config;
pub mod errors;
pub mod execute;
pub mod ffi;
pub mod http;
pub mod lexer;
pub mod metrics;
pub mod repair;
pub mod run;
pub mod statement;
