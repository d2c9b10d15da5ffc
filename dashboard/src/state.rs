//! What handlers share.

use std::ops::Deref;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Mutex, OnceCell};

use crate::api::types::{Recorded, Status};
use crate::audit::AuditQueue;
use crate::auth::origin::Origins;
use crate::auth::passwords::Passwords;
use crate::auth::sessions::Sessions;
use crate::auth::throttle::Throttle;
use crate::config::DashboardConfig;
use crate::detector::Detector;
use crate::error::ApiError;
use crate::metrics::Metrics;
use crate::pages;
use crate::store::read::{Ask, Reader};
use crate::store::rows::{ColumnRow, UserRow};
use crate::store::write::Writer;

/// Age until which the strip is not asked for again: every open page asks for it.
const STATUS_AGE: Duration = Duration::from_secs(1);

/// The process, as handlers see it.
#[derive(Debug, Clone)]
pub(crate) struct App(Arc<Parts>);

/// Its parts.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) config: DashboardConfig,
    pub(crate) reader: Reader,
    pub(crate) detector: Option<Detector>,
    pub(crate) writer: Writer,
    pub(crate) queue: AuditQueue,
    pub(crate) sessions: Sessions,
    pub(crate) passwords: Passwords,
    pub(crate) throttle: Throttle,
    pub(crate) origins: Origins,
    pub(crate) metrics: Metrics,
    pub(crate) cache: Cache,
}

/// What is not asked for each time.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    status: Mutex<Option<(Instant, Status)>>,
    columns: OnceCell<Vec<ColumnRow>>,
}

impl Deref for App {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

impl App {
    /// Puts the parts together.
    pub(crate) fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }

    /// The span that was recorded.
    pub(crate) fn recorded(&self) -> Option<&Recorded> {
        self.config.recorded.as_ref()
    }

    /// The strip, at most a second old.
    pub(crate) async fn status(&self) -> Status {
        let mut cached = self.cache.status.lock().await;
        if let Some((at, status)) = &*cached
            && at.elapsed() < STATUS_AGE
        {
            return status.clone();
        }
        let has_truth = self.config.truth_file.as_ref().is_some_and(|path| path.exists());
        let status = pages::status::page(&self.reader, self.recorded(), has_truth).await;
        *cached = Some((Instant::now(), status.clone()));
        status
    }

    /// Columns of a request with their comments, asked for once.
    pub(crate) async fn columns(&self) -> Result<&[ColumnRow], ApiError> {
        let columns = self
            .cache
            .columns
            .get_or_try_init(|| async {
                Ok::<_, ApiError>(self.reader.rows(Ask::new("column_comments")).await?.rows)
            })
            .await?;
        Ok(columns)
    }

    /// A user, if there is one of this name.
    pub(crate) async fn user(&self, name: &str) -> Result<Option<UserRow>, ApiError> {
        Ok(self
            .reader
            .rows(Ask::new("user").with("user_name", name))
            .await?
            .first())
    }
}
