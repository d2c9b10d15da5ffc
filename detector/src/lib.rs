//! The detector: who is a bot, why, since when.
//!
//! ```text
//! feature views ──store──> Population ──Model, Groups, consistency──> Assessment ──labels, state, budget──> rows ──store──> tables
//! ```
//!
//! One cycle reads each window once, scores who was active since the last cycle, and writes what it made of it. Read
//! [`population::Population`] and [`model::Model`] first; [`features`] is what a vector holds. Everything but `store`, `cycle`
//! and `serve` is pure: time, rows and seeds are arguments. Invariants: evidence of a row is the sum of its reasons'
//! contributions; a cycle that is repeated writes the same rows under the same tokens. Deliberately absent: blocking anything.

pub mod assess;
pub mod budget;
pub mod config;
pub mod consistency;
pub mod cycle;
pub mod features;
pub mod groups;
pub mod labels;
pub mod metrics;
pub mod model;
pub mod population;
pub mod scaler;
pub mod segments;
pub mod serve;
pub mod state;
pub mod stats;
pub mod tables;
pub mod time;
pub mod training;
pub mod why;
