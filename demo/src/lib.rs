//! A real HTTPS site, real clients for it, and the replay of its recorded requests.
//!
//! ```text
//! clients --TLS--> origin --requests--> http.socket
//! recorded requests --replay----------> http.stream
//! all of it --record--> testdata/demo
//! ```
//!
//! Read [`origin::Origin`] and [`observe::RequestHead`] first. The origin is an HTTP source like any other: it
//! emits what a client sent, in the client's order and case. Deliberately absent: anything that knows of
//! scores, of the store or of the sensor.

pub mod clients;
pub mod observe;
pub mod origin;
pub mod process;
pub mod record;
pub mod replay;
