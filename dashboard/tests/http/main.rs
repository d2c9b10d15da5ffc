//! The dashboard over HTTP, on a real store: empty, full, hostile, and gone.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::format_push_string,
    reason = "a test fails by panicking and says what it skips"
)]

mod acts;
mod auth;
mod away;
mod command_line;
mod hostile;
mod pages;
mod routes;
#[path = "../common/mod.rs"]
mod support;
