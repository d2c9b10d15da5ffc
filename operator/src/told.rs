//! What correlators say of themselves and of their nodes: asked again and again, kept for a while.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::conditions::Told;
use crate::world::Key;

/// An answer that is older says nothing any more.
const HOLDS: Duration = Duration::from_secs(45);

/// The last answers.
#[derive(Debug, Default)]
pub(crate) struct Reports(Mutex<BTreeMap<Key, (Instant, Told)>>);

impl Reports {
    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<Key, (Instant, Told)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a correlator said, unless that is long ago.
    pub(crate) fn told(&self, key: &Key) -> Option<Told> {
        let reports = self.lock();
        let (at, told) = reports.get(key)?;
        (at.elapsed() < HOLDS).then(|| told.clone())
    }

    /// Keeps an answer. True if it says something else than the one before.
    pub(crate) fn keep(&self, key: &Key, told: Told) -> bool {
        let before = self.told(key);
        let is_new = before.as_ref() != Some(&told);
        self.lock().insert(key.clone(), (Instant::now(), told));
        is_new
    }

    /// Forgets a pipeline.
    pub(crate) fn forget(&self, key: &Key) {
        self.lock().remove(key);
    }
}
