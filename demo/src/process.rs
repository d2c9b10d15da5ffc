//! What the three commands share around their work: log, signals, admin endpoint, ledger file.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use ja4_common::admin::{Admin, Server};
use ja4_common::config::ProcessConfig;
use ja4_common::ledger::{self, Ledger, LedgerFile};
use ja4_common::{Shutdown, logging};

/// Between two writes of the ledger file.
const LEDGER_INTERVAL: Duration = Duration::from_secs(1);

/// The shell around one command.
#[derive(Debug)]
pub struct Process {
    /// SIGTERM and SIGINT.
    pub shutdown: Shutdown,
    /// Health, metrics, ledger.
    pub admin: Arc<Admin>,
    config: ProcessConfig,
}

impl Process {
    /// Starts log, signals and the admin endpoint.
    ///
    /// # Errors
    /// A level that is none, an address that is taken.
    pub fn start(
        config: &ProcessConfig,
        shutdown: Shutdown,
        conditions: &[&'static str],
        ledger: impl Fn() -> Ledger + Send + Sync + Clone + 'static,
    ) -> anyhow::Result<Self> {
        let registry = prometheus::Registry::new();
        registry
            .register(Box::new(StageMetrics::new(Box::new(ledger.clone()))?))
            .context("cannot register metrics")?;
        let admin = Admin::new(registry, conditions, ledger);
        if let Some(listen) = &config.admin {
            Server::start(listen, Arc::clone(&admin))?;
        }
        Ok(Self {
            shutdown,
            admin,
            config: config.clone(),
        })
    }

    /// Writes the ledger each second until `work` ends, and once more after it.
    ///
    /// # Errors
    /// The last ledger cannot be written.
    pub async fn run(&self, work: impl Future<Output = ()>) -> anyhow::Result<()> {
        tokio::pin!(work);
        let mut file = self.config.ledger_file.clone().map(LedgerFile::new);
        loop {
            tokio::select! {
                () = &mut work => break,
                () = tokio::time::sleep(LEDGER_INTERVAL) => {
                    if let Some(file) = &mut file {
                        file.refresh(&self.admin.ledger());
                    }
                }
            }
        }
        self.write_ledger()
    }

    fn write_ledger(&self) -> anyhow::Result<()> {
        let Some(path) = &self.config.ledger_file else {
            return Ok(());
        };
        ledger::write_file(path, &self.admin.ledger())
            .with_context(|| format!("cannot write the ledger {}", path.display()))
    }
}

/// Starts the log and catches signals.
///
/// # Errors
/// A level that is none, or signals that cannot be caught.
pub fn prepare(config: &ProcessConfig) -> anyhow::Result<Shutdown> {
    logging::init(&config.log)?;
    Shutdown::install().context("cannot catch signals")
}

/// Allows as many descriptors as the system lets this process have.
pub fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let wanted = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, wanted) {
        tracing::warn!("only {:?} descriptors: {error}", limit.current);
    }
}

/// The system's host name.
pub fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// The ledger's stages as counters, read when somebody asks.
struct StageMetrics {
    ledger: Box<dyn Fn() -> Ledger + Send + Sync>,
    items: prometheus::IntGaugeVec,
}

impl StageMetrics {
    fn new(ledger: Box<dyn Fn() -> Ledger + Send + Sync>) -> anyhow::Result<Self> {
        let opts = prometheus::Opts::new(
            "demo_stage_items",
            "items of each stage: received = passed + dropped by reason + pending",
        );
        let items = prometheus::IntGaugeVec::new(opts, &["stage", "what", "reason"])
            .context("cannot make metrics")?;
        Ok(Self { ledger, items })
    }
}

impl prometheus::core::Collector for StageMetrics {
    fn desc(&self) -> Vec<&prometheus::core::Desc> {
        self.items.desc()
    }

    fn collect(&self) -> Vec<prometheus::proto::MetricFamily> {
        let set = |labels: &[&str], n: u64| {
            self.items
                .with_label_values(labels)
                .set(i64::try_from(n).unwrap_or(i64::MAX));
        };
        for stage in (self.ledger)().stages {
            set(&[&stage.name, "received", ""], stage.received);
            set(&[&stage.name, "passed", ""], stage.passed);
            set(&[&stage.name, "pending", ""], stage.pending);
            for (reason, n) in &stage.dropped {
                set(&[&stage.name, "dropped", reason], *n);
            }
        }
        self.items.collect()
    }
}
