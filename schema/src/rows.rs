//! Builders of the blocks that the correlator writes, one for each table of what happened, and the rows that the detector writes.
//!
//! Input: records of [`ja4_model`], borrowed. Output: Native blocks for [`crate::native::Block::insert_sql`]. Times become
//! microseconds, absent numbers the value that the column's comment names. Nothing fails: what a record may hold, a row can.

pub mod detection;
mod facts;
mod http_logs;
mod join_corrections;
mod path;
mod quarantine;
mod source_status;
mod tls_logs;

pub use http_logs::HttpLogsBlock;
pub use join_corrections::JoinCorrectionsBlock;
pub use quarantine::{QuarantineBlock, QuarantinedRow};
pub use source_status::{SourceStatusBlock, SourceStatusRow};
pub use tls_logs::TlsLogsBlock;
