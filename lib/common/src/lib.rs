//! The shell kit: what every process needs around its core.
//!
//! Read [`config::load`] and [`admin::Admin`] first. A process starts like this:
//!
//! ```text
//! config::load → logging::init → Shutdown::install → Admin::new + admin::Server::start → work → ledger::write_file
//! ```
//!
//! Deliberately absent: anything about events, packets or Kubernetes.

pub mod admin;
pub mod clickhouse;
pub mod config;
pub mod exit;
pub mod ip_filter;
pub mod job;
pub mod ledger;
pub mod logging;
pub mod probe;
pub mod secret;
pub mod shutdown;
pub mod units;

pub use shutdown::Shutdown;
