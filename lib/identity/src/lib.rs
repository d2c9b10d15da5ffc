//! Who a client says it is, against what it shows: User-Agent, JA4, header order, HTTP/2, TCP and address.
//!
//! ```text
//! User-Agent --agent--> Claims --.
//! JA4, headers, HTTP/2, TCP, IP --+--compare--> Matrix of cells: agrees, contradicts (bits), unknown
//! testdata/identities --Catalogue-'
//! ```
//!
//! Read [`Catalogue`] and [`Matrix`] first. The data is embedded: the catalogue of fingerprints (`testdata/identities`,
//! measured by `scripts/catalogue/run`), rules for User-Agents, patterns and networks of crawlers (`data/`, made by
//! `scripts/catalogue/rules`). No population is needed, so this evidence is there from the first request on.
//!
//! What is not in the catalogue is [`Verdict::Unknown`] and never evidence by itself. Deliberately absent: DNS. A crawler
//! that can be checked by its reverse name only stays unknown, with the suffix named.
#![warn(clippy::disallowed_methods, reason = "pure: time and bytes are arguments")]

mod agent;
mod catalogue;
mod compare;
mod crawlers;
mod table;
pub mod weights;

pub use agent::{Claims, Engine, Kind};
pub use catalogue::{Basis, Catalogue, Line};
pub use compare::{Cell, Dimension, Matrix, Observation, Tcp, Verdict};
pub use crawlers::CrawlerNetwork;
pub use table::LoadError;
