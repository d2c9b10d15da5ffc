//! What became of connections and requests, by reason.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use ja4_common::ledger::Stage;

/// A stage that many tasks count in.
#[derive(Debug)]
pub struct Counts(Mutex<Stage>);

impl Counts {
    /// Nothing yet.
    pub fn new(name: &str) -> Self {
        Self(Mutex::new(Stage::new(name)))
    }

    /// One came in; it is pending until the guard ends it. Dropping the guard counts it as `abandoned`.
    pub fn begin(&self) -> Pending<'_> {
        self.with(|stage| {
            stage.received += 1;
            stage.pending += 1;
        });
        Pending {
            counts: self,
            is_done: false,
        }
    }

    /// As of now.
    pub fn stage(&self) -> Stage {
        self.with(|stage| stage.clone())
    }

    /// Dropped ones by reason.
    pub fn dropped(&self) -> BTreeMap<String, u64> {
        self.with(|stage| stage.dropped.clone())
    }

    /// Adds what another program counted: `received` in all, of which `passed`; the rest for `reason`.
    pub fn add(&self, received: u64, passed: u64, reason: &str) {
        self.with(|stage| {
            let passed = passed.min(received);
            stage.received += received;
            stage.passed += passed;
            stage.drop_for(reason, received - passed);
        });
    }

    fn with<T>(&self, change: impl FnOnce(&mut Stage) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// One that is not done.
#[derive(Debug)]
pub struct Pending<'a> {
    counts: &'a Counts,
    is_done: bool,
}

impl Pending<'_> {
    /// It went well.
    pub fn pass(self) {
        self.end(None);
    }

    /// It failed for a reason.
    pub fn fail(self, reason: &str) {
        self.end(Some(reason));
    }

    fn end(mut self, reason: Option<&str>) {
        self.is_done = true;
        self.counts.with(|stage| {
            stage.pending -= 1;
            match reason {
                None => stage.passed += 1,
                Some(reason) => stage.drop_for(reason, 1),
            }
        });
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        if !self.is_done {
            self.counts.with(|stage| {
                stage.pending -= 1;
                stage.drop_for("abandoned", 1);
            });
        }
    }
}
