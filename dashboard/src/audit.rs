//! Queries of users on their way to the audit: collected and written together, since a write for each costs more than the
//! query itself. Acts that change something do not come here; they wait until they are recorded.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::auth::User;
use crate::metrics::Metrics;
use crate::store::write::{Act, Writer};
use crate::window::now_us;

/// Most queries that wait; beyond it they are counted as dropped. A user makes a few a minute.
const MAX_WAITING: usize = 2000;
/// How often they are written.
pub(crate) const EVERY: Duration = Duration::from_secs(5);

/// Waiting queries with their times.
#[derive(Debug)]
pub(crate) struct AuditQueue {
    waiting: Mutex<Vec<(i64, Act)>>,
    metrics: Metrics,
}

impl AuditQueue {
    /// Nothing waits.
    pub(crate) fn new(metrics: Metrics) -> Self {
        Self {
            waiting: Mutex::default(),
            metrics,
        }
    }

    /// A user asked for something with a filter. Without one there is nothing to record: that is the page itself.
    pub(crate) fn query(&self, user: &User, page: &'static str, q: Option<&str>) {
        let Some(q) = q.filter(|q| !q.trim().is_empty()) else {
            return;
        };
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let detail = serde_json::json!({ "q": q });
        // Pages ask for several things with one filter, and again every few seconds.
        if waiting
            .iter()
            .any(|(_, act)| act.user == user.session.user && act.object == page && act.detail == detail)
        {
            return;
        }
        if waiting.len() >= MAX_WAITING {
            self.metrics.audit_dropped.inc();
            return;
        }
        waiting.push((
            now_us(),
            Act {
                user: user.session.user.clone(),
                act: "query",
                object: page.to_owned(),
                detail,
                remote: user.remote,
            },
        ));
    }

    /// Writes what waits. While the store is away it goes on waiting.
    pub(crate) async fn flush(&self, writer: &Writer) {
        let taken = std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        if taken.is_empty() {
            return;
        }
        let (at, acts): (Vec<i64>, Vec<Act>) = taken.into_iter().unzip();
        if let Err(error) = writer.audit_all(&acts, &at).await {
            tracing::debug!(
                "queries wait for the audit: {}",
                error.log.unwrap_or(error.detail)
            );
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            let newer = std::mem::take(&mut *waiting);
            *waiting = at.into_iter().zip(acts).chain(newer).collect();
            let too_many = waiting.len().saturating_sub(MAX_WAITING);
            waiting.drain(..too_many);
            self.metrics.audit_dropped.inc_by(too_many as u64);
        }
    }
}
