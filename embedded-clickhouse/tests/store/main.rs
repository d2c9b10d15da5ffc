//! The store as a process, on the real engine. One binary, so that tests that mostly wait run beside each other.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking and says what it skips"
)]

mod clickhouse_crate;
mod common;
mod exactly_once;
mod interface;
mod tls;
