//! The ClickHouse schema: migrations and queries as SQL files, what applies and verifies them, and encoders for the rows
//! that the correlator writes.
//!
//! ```text
//! migrations/*.sql ──apply──> tables, materialized views, views        ja4_model records ──rows──> Native blocks
//! queries/*.sql    ──queries──> what dashboard, detector and ledger ask
//! ```
//!
//! Read [`apply::apply`] and [`rows::HttpLogsBlock`] first. Invariants: database names are placeholders everywhere;
//! migrations only go forward; a block is one insert. Deliberately absent: batching, spooling and retries, which are the
//! correlator's.

pub mod apply;
pub mod doc;
pub mod drift;
mod files;
pub mod lock;
pub mod migration;
pub mod names;
pub mod native;
pub mod queries;
pub mod rebuild;
pub mod retention;
pub mod rows;
pub mod store;
pub mod synthetic;
pub mod verify;

pub use apply::{Applied, ApplyError, Plan, PlanError, Status, apply, check_writer, plan, status};
pub use migration::{InvalidMigration, Migration};
pub use names::{InvalidName, Names};
pub use retention::RetentionDays;
pub use store::{StatementError, Store};
pub use verify::{Verified, VerifyError, drift, probe, verify};

/// The migrations of this build, oldest first.
///
/// # Panics
/// Never: a test parses the compiled-in files.
pub fn migrations() -> Vec<Migration> {
    migration::parse_all(files::MIGRATIONS.iter().copied()).expect("a test parses the compiled-in migrations")
}
