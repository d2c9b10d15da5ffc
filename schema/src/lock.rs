//! The lock under which migrations run: a lease in a table, which works on the embedded engine and on a real server.
//!
//! ClickHouse has no compare-and-swap, so each process first appends its claim, then reads all live claims, and holds the
//! lock only if its own is the only one; else it withdraws and tries again after a pause of random length. Two cannot hold it at once:
//! each reads after its own claim is there, so of two that overlap at least the later one sees the other. Leases are
//! judged by the server's clock alone. A holder that dies leaves its lease to run out ([`Timing::lease`]).

use std::time::{Duration, Instant};

use crate::store::{StatementError, Store};

/// Times of the lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// How long a claim holds without renewal; it is renewed at a third of that, so that two renewals may fail.
    pub lease: Duration,
    /// How long to wait for another holder.
    pub patience: Duration,
}

impl Default for Timing {
    /// A lease long against a pause of the process and short against a person who waits; patience for several leases.
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(15),
            patience: Duration::from_mins(1),
        }
    }
}

/// First pause after a claim that met another; it grows by as much up to ten times.
const PAUSE: Duration = Duration::from_millis(40);

/// Why the lock was not had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process holds it all the time.
    #[error(
        "the schema lock is held by {holder}; wait for it, or if that process is gone for its lease of {lease:?}"
    )]
    Held {
        /// Owner of the lease.
        holder: String,
        /// How long a lease holds.
        lease: Duration,
    },
    /// A statement failed.
    #[error(transparent)]
    Statement(#[from] StatementError),
}

/// The held lock. Renewed by a task of its own until it is released.
#[derive(Debug)]
pub struct Lock {
    store: Store,
    owner: String,
    renewal: tokio::task::JoinHandle<()>,
}

/// Makes the lock's table where it is not there yet.
pub(crate) const CREATE_LOCK: &str = "CREATE TABLE IF NOT EXISTS {processing}.schema_lock{on_cluster}
(
    at DateTime64(6, 'UTC') DEFAULT now64(6) COMMENT 'when the claim was made, renewed or withdrawn, UTC',
    owner String COMMENT 'process that claims the lock',
    counter UInt64 COMMENT 'number of the claim of that process: the highest counts',
    lease_ms UInt32 COMMENT 'how long it holds from then, milliseconds; 0 withdraws it'
)
ENGINE = {replicated}MergeTree
ORDER BY at
TTL toDateTime(at) + toIntervalDay(1)
COMMENT 'claims on the lock under which migrations run'";

impl Lock {
    /// Waits for the lock, at most for the patience.
    ///
    /// # Errors
    /// If another process holds it all that time, or a statement fails.
    pub async fn acquire(store: &Store, owner: &str, timing: Timing) -> Result<Self, LockError> {
        let Timing { lease, patience } = timing;
        let started = Instant::now();
        let mut counter = 0_u64;
        loop {
            counter += 1;
            claim(store, owner, counter, lease).await?;
            let others = live_claims(store, owner).await?;
            let Some(holder) = others.into_iter().next() else {
                let renewal = tokio::spawn(renew(store.clone(), owner.to_owned(), counter, lease));
                return Ok(Self {
                    store: store.clone(),
                    owner: owner.to_owned(),
                    renewal,
                });
            };
            counter += 1;
            claim(store, owner, counter, Duration::ZERO).await?;
            if started.elapsed() >= patience {
                return Err(LockError::Held { holder, lease });
            }
            tokio::time::sleep(PAUSE * random_factor(counter)).await;
        }
    }

    /// Gives the lock back.
    ///
    /// # Errors
    /// If the statement fails; the lease then runs out by itself.
    pub async fn release(self) -> Result<(), StatementError> {
        self.renewal.abort();
        // Above every renewal: those count up by one from the claim.
        claim(&self.store, &self.owner, u64::MAX, Duration::ZERO).await
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        self.renewal.abort();
    }
}

/// 1 to 10, different from process to process and from try to try.
fn random_factor(counter: u64) -> u32 {
    use std::hash::{BuildHasher, RandomState};
    u32::try_from(RandomState::new().hash_one(counter) % 10).expect("below ten") + 1
}

async fn renew(store: Store, owner: String, mut counter: u64, lease: Duration) {
    loop {
        tokio::time::sleep(lease / 3).await;
        counter += 1;
        // One that fails is made good by the next, within the lease; a server that is away fails the statement at hand too.
        claim(&store, &owner, counter, lease).await.ok();
    }
}

async fn claim(store: &Store, owner: &str, counter: u64, lease: Duration) -> Result<(), StatementError> {
    let owner = crate::names::quoted(owner);
    let lease_ms = lease.as_millis();
    store
        .execute(&format!(
            "INSERT INTO {{processing}}.schema_lock (owner, counter, lease_ms) VALUES ({owner}, {counter}, {lease_ms})"
        ))
        .await
}

async fn live_claims(store: &Store, owner: &str) -> Result<Vec<String>, StatementError> {
    let rows = store
        .rows(
            "SELECT owner FROM
             (
                 SELECT owner, argMax(at + toIntervalMillisecond(lease_ms), counter) AS ends_at
                 FROM {processing}.schema_lock
                 WHERE at > now64(6) - INTERVAL 1 HOUR
                 GROUP BY owner
             )
             WHERE ends_at > now64(6) AND owner != {me:String}
             ORDER BY owner
             LIMIT 100",
            &[("me", owner)],
        )
        .await?;
    Ok(rows.into_iter().flatten().collect())
}
