//! Plans, applies and reports migrations.
//!
//! ```text
//! files ──parse──> migrations ──minus what schema_steps records──> plan ──under the lock──> statements, each recorded
//! ```
//!
//! Invariant: a step is recorded as done only after its statement returned, and every statement may run twice, so that a
//! process that is killed anywhere is continued by the next. Migrations only go forward.

use crate::lock::{CREATE_LOCK, Lock, LockError, Timing};
use crate::migration::{Migration, MigrationKind, Step};
use crate::names::quoted;
use crate::rebuild::{self, RebuildError};
use crate::retention::{self, RetentionDays, RetentionError};
use crate::store::{StatementError, Store};

const CREATE_STEPS: &str = "CREATE TABLE IF NOT EXISTS {processing}.schema_steps{on_cluster}
(
    version UInt32 COMMENT 'number of the migration',
    step_idx UInt32 COMMENT 'position of the step in it, from 0',
    at DateTime64(6, 'UTC') DEFAULT now64(6) COMMENT 'when, UTC',
    state Enum8('started' = 1, 'done' = 2) COMMENT 'started: the statement may have run; done: it returned',
    migration String COMMENT 'name of the migration',
    step String COMMENT 'name of the step',
    n_steps UInt32 COMMENT 'steps of the migration',
    checksum String COMMENT 'SHA-256 of the migration',
    min_writer String COMMENT 'oldest writer that may write after it',
    owner String COMMENT 'process that ran it'
)
ENGINE = {replicated}MergeTree
ORDER BY (version, step_idx, at)
COMMENT 'what was applied, step by step'";

/// What is still to be done, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The steps.
    pub steps: Vec<PlannedStep>,
    /// Tables whose rows are kept for another time than set.
    pub retention: Vec<retention::Change>,
}

/// One step of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedStep {
    /// Migration, `0003_logs`.
    pub migration: String,
    /// Name of the step.
    pub step: String,
    /// It was begun before and not finished.
    pub resumed: bool,
    /// The statements.
    pub statements: Vec<String>,
}

/// What a store records about migrations.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Status {
    /// Each migration that has steps recorded, oldest first.
    pub migrations: Vec<RecordedMigration>,
}

/// One migration as the store records it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedMigration {
    /// Number.
    pub version: u32,
    /// Name.
    pub name: String,
    /// Checksum.
    pub checksum: String,
    /// Oldest writer that may write after it.
    pub min_writer: String,
    /// Positions of the steps that are done.
    pub steps_done: Vec<u32>,
    /// Positions of the steps that were begun and not finished.
    pub steps_open: Vec<u32>,
    /// Steps that it has.
    pub n_steps: u32,
    /// Time of the last record, UTC.
    pub last_at: String,
}

impl RecordedMigration {
    /// All steps are done.
    pub fn is_complete(&self) -> bool {
        self.steps_done.len() == self.n_steps as usize
    }
}

/// Why the records do not fit the files.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// A migration was changed after it was applied.
    #[error(
        "migration {label} was applied with checksum {recorded:.12} and is {ours:.12} in this build: an applied migration must not be edited; add a new one"
    )]
    ChecksumChanged {
        /// The migration.
        label: String,
        /// As recorded.
        recorded: String,
        /// As in this build.
        ours: String,
    },
    /// The store was migrated by a newer build, which this one may not write to.
    #[error(
        "the store has migration {label}, which needs writer {min_writer} or later, and this is {ours}: update this program"
    )]
    WriterTooOld {
        /// The migration.
        label: String,
        /// Oldest writer allowed.
        min_writer: String,
        /// This build's version.
        ours: String,
    },
    /// A statement failed.
    #[error(transparent)]
    Statement(#[from] StatementError),
    /// The retention settings are wrong.
    #[error(transparent)]
    Retention(#[from] RetentionError),
}

/// Why applying stopped.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The records do not fit.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The lock was not had.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// A step failed.
    #[error(
        "step {step} of migration {migration} failed; mend the cause and apply again: it goes on from there"
    )]
    Step {
        /// The migration.
        migration: String,
        /// The step.
        step: String,
        /// Why.
        #[source]
        source: StatementError,
    },
    /// A rebuild failed.
    #[error("rebuild {migration} failed; the table is as it was")]
    Rebuild {
        /// The migration.
        migration: String,
        /// Why.
        #[source]
        source: RebuildError,
    },
    /// A statement around the steps failed.
    #[error(transparent)]
    Statement(#[from] StatementError),
    /// Retention could not be set.
    #[error(transparent)]
    Retention(#[from] RetentionError),
}

impl ApplyError {
    /// Whether applying again cannot help: this build, the store's records or a setting must change first.
    pub const fn is_final(&self) -> bool {
        matches!(
            self,
            Self::Plan(
                PlanError::ChecksumChanged { .. }
                    | PlanError::WriterTooOld { .. }
                    | PlanError::Retention(RetentionError::UnknownSetting { .. })
            ) | Self::Retention(RetentionError::UnknownSetting { .. })
        )
    }
}

/// What `apply` did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Applied {
    /// Steps that ran, `0003_logs/http_logs`.
    pub steps: Vec<String>,
    /// Tables whose retention was changed.
    pub retention: Vec<retention::Change>,
}

/// What the store records.
///
/// # Errors
/// If a query fails.
pub async fn status(store: &Store) -> Result<Status, StatementError> {
    if !has_records(store).await? {
        return Ok(Status::default());
    }
    let rows = store
        .rows(
            "SELECT version, any(migration), argMax(checksum, at), argMax(min_writer, at), argMax(n_steps, at), toString(max(at)),
                 arrayStringConcat(arrayMap(i -> toString(i), arraySort(groupUniqArrayIf(step_idx, state = 'done'))), ','),
                 arrayStringConcat(arrayMap(i -> toString(i), arraySort(groupUniqArrayIf(step_idx, state = 'started'))), ',')
             FROM {processing}.schema_steps
             GROUP BY version
             ORDER BY version",
            &[],
        )
        .await?;
    Ok(Status {
        migrations: rows.iter().filter_map(|row| recorded(row)).collect(),
    })
}

fn recorded(row: &[String]) -> Option<RecordedMigration> {
    let [
        version,
        name,
        checksum,
        min_writer,
        n_steps,
        last_at,
        done,
        started,
    ] = row
    else {
        return None;
    };
    let numbers =
        |list: &str| -> Vec<u32> { list.split(',').filter_map(|number| number.parse().ok()).collect() };
    let steps_done = numbers(done);
    Some(RecordedMigration {
        version: version.parse().ok()?,
        name: name.clone(),
        checksum: checksum.clone(),
        min_writer: min_writer.clone(),
        steps_open: numbers(started)
            .into_iter()
            .filter(|idx| !steps_done.contains(idx))
            .collect(),
        steps_done,
        n_steps: n_steps.parse().ok()?,
        last_at: last_at.clone(),
    })
}

async fn has_records(store: &Store) -> Result<bool, StatementError> {
    let found = store
        .value(
            "SELECT count() FROM system.tables WHERE database = {database:String} AND name = 'schema_steps'",
            &[("database", store.names().processing())],
        )
        .await?;
    Ok(found.is_some_and(|n| n != "0"))
}

/// Says whether this build may write to the store, which a writer asks before its first batch.
///
/// # Errors
/// If the store was migrated beyond what this build may write, or a query fails.
pub async fn check_writer(store: &Store) -> Result<(), PlanError> {
    check_status(&status(store).await?)
}

fn check_status(status: &Status) -> Result<(), PlanError> {
    let ours = env!("CARGO_PKG_VERSION");
    for recorded in &status.migrations {
        if version_key(ours) < version_key(&recorded.min_writer) {
            return Err(PlanError::WriterTooOld {
                label: format!("{:04}_{}", recorded.version, recorded.name),
                min_writer: recorded.min_writer.clone(),
                ours: ours.to_owned(),
            });
        }
    }
    Ok(())
}

/// Orders `major.minor.patch`; what is not a number counts as 0.
fn version_key(version: &str) -> [u64; 3] {
    let mut parts = version.split(['.', '-']).map(|part| part.parse().unwrap_or(0));
    [0; 3].map(|_: u64| parts.next().unwrap_or(0))
}

/// What `apply` would do.
///
/// # Errors
/// If an applied migration was changed, the store is newer than this build allows, or a query fails.
pub async fn plan(
    store: &Store,
    migrations: &[Migration],
    retention: &RetentionDays,
) -> Result<Plan, PlanError> {
    let status = status(store).await?;
    check_status(&status)?;
    let mut steps = Vec::new();
    for migration in migrations {
        let recorded = status
            .migrations
            .iter()
            .find(|recorded| recorded.version == migration.version);
        check_checksum(migration, recorded)?;
        for (step_idx, step) in migration.steps.iter().enumerate() {
            let is = |list: &[u32]| list.iter().any(|idx| *idx as usize == step_idx);
            if recorded.is_some_and(|recorded| is(&recorded.steps_done)) {
                continue;
            }
            steps.push(PlannedStep {
                migration: migration.label(),
                step: step.name.clone(),
                resumed: recorded.is_some_and(|recorded| is(&recorded.steps_open)),
                statements: step.statements(store.names()),
            });
        }
    }
    let retention = retention::changes(store, migrations, retention).await?;
    Ok(Plan { steps, retention })
}

fn check_checksum(migration: &Migration, recorded: Option<&RecordedMigration>) -> Result<(), PlanError> {
    match recorded {
        Some(recorded) if recorded.checksum != migration.checksum => Err(PlanError::ChecksumChanged {
            label: migration.label(),
            recorded: recorded.checksum.clone(),
            ours: migration.checksum.clone(),
        }),
        _ => Ok(()),
    }
}

/// Brings the store to these migrations and this retention. Does nothing, not even take the lock, where nothing is to do.
///
/// # Errors
/// If the plan cannot be made, the lock is held elsewhere or a statement fails; applying again goes on from there.
pub async fn apply(
    store: &Store,
    migrations: &[Migration],
    retention: &RetentionDays,
) -> Result<Applied, ApplyError> {
    apply_timed(store, migrations, retention, Timing::default()).await
}

/// [`apply`] with other times of the lock.
///
/// # Errors
/// As [`apply`].
pub async fn apply_timed(
    store: &Store,
    migrations: &[Migration],
    retention: &RetentionDays,
    timing: Timing,
) -> Result<Applied, ApplyError> {
    let before = plan(store, migrations, retention).await?;
    if before.steps.is_empty() && before.retention.is_empty() {
        return Ok(Applied::default());
    }
    store
        .execute("CREATE DATABASE IF NOT EXISTS {processing}{on_cluster}")
        .await?;
    store.execute(CREATE_STEPS).await?;
    store.execute(CREATE_LOCK).await?;
    let owner = owner();
    let lock = Lock::acquire(store, &owner, timing).await?;
    let applied = apply_locked(store, migrations, retention, &owner).await;
    let released = lock.release().await;
    let applied = applied?;
    released?;
    Ok(applied)
}

/// Process and moment: a process that comes back after a crash is another owner.
fn owner() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let since_epoch = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    format!(
        "{}/{}/{}",
        host.trim(),
        std::process::id(),
        since_epoch.as_nanos()
    )
}

async fn apply_locked(
    store: &Store,
    migrations: &[Migration],
    retention: &RetentionDays,
    owner: &str,
) -> Result<Applied, ApplyError> {
    // Planned again: another process may have applied while this one waited.
    let status = status(store).await?;
    check_status(&status)?;
    let mut applied = Applied::default();
    for migration in migrations {
        let recorded = status
            .migrations
            .iter()
            .find(|recorded| recorded.version == migration.version);
        check_checksum(migration, recorded)?;
        if recorded.is_some_and(RecordedMigration::is_complete) {
            continue;
        }
        let done = |idx: usize| {
            recorded.is_some_and(|recorded| recorded.steps_done.iter().any(|known| *known as usize == idx))
        };
        for (step_idx, step) in migration.steps.iter().enumerate().filter(|(idx, _)| !done(*idx)) {
            record(store, migration, step_idx, "started", owner).await?;
            match migration.kind {
                MigrationKind::Forward => run_step(store, migration, step).await?,
                MigrationKind::Rebuild => {
                    rebuild::run(store, migration.version, step)
                        .await
                        .map_err(|source| ApplyError::Rebuild {
                            migration: migration.label(),
                            source,
                        })?;
                }
            }
            record(store, migration, step_idx, "done", owner).await?;
            applied.steps.push(format!("{}/{}", migration.label(), step.name));
        }
    }
    applied.retention = retention::reconcile(store, migrations, retention).await?;
    Ok(applied)
}

async fn run_step(store: &Store, migration: &Migration, step: &Step) -> Result<(), ApplyError> {
    for statement in step.statements(store.names()) {
        store
            .execute(&statement)
            .await
            .map_err(|source| ApplyError::Step {
                migration: migration.label(),
                step: step.name.clone(),
                source,
            })?;
    }
    Ok(())
}

async fn record(
    store: &Store,
    migration: &Migration,
    step_idx: usize,
    state: &str,
    owner: &str,
) -> Result<(), StatementError> {
    let step = &migration.steps[step_idx];
    store
        .execute(&format!(
            "INSERT INTO {{processing}}.schema_steps (version, step_idx, state, migration, step, n_steps, checksum, min_writer, owner)
             VALUES ({}, {step_idx}, '{state}', {}, {}, {}, {}, {}, {})",
            migration.version,
            quoted(&migration.name),
            quoted(&step.name),
            migration.steps.len(),
            quoted(&migration.checksum),
            quoted(&migration.min_writer),
            quoted(owner),
        ))
        .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_by_number() {
        assert!(version_key("0.10.0") > version_key("0.9.9"));
        assert!(version_key("1.0.0") > version_key("0.99.0"));
        assert_eq!(version_key("0.1.0-rc1")[..2], [0, 1]);
    }

    #[test]
    fn a_newer_store_refuses_this_writer() {
        let recorded = RecordedMigration {
            version: 9,
            name: "later".to_owned(),
            checksum: String::new(),
            min_writer: "99.0.0".to_owned(),
            steps_done: vec![0],
            steps_open: vec![],
            n_steps: 1,
            last_at: String::new(),
        };
        let error = check_status(&Status {
            migrations: vec![recorded],
        })
        .unwrap_err();
        assert!(error.to_string().contains("update this program"), "{error}");
    }
}
