//! Clients of several TLS stacks, each from an address of its own, each connection with an id of its own.
//!
//! People browse with our own client (rustls); services and bots are the system's programs: curl and openssl
//! (OpenSSL), wget and gnutls-cli (`GnuTLS`), node, python. Every request carries the id of its connection in
//! the query key `_cid`, so that a join can be checked. Certificates are not checked: the site makes its own.

pub mod browser;
pub mod people;
pub mod programs;
pub mod tools;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use ja4_common::Shutdown;
use ja4_common::config::ProcessConfig;
use ja4_common::ledger::Ledger;
use ja4_common::units::Span;
use serde::{Deserialize, Serialize};

use crate::origin::counts::Counts;
use crate::origin::site::mix;

/// People and bots at most: an address pattern of ours has 65 536, a machine gives out long before.
const MAX_CLIENTS: u32 = 10_000;

/// Configuration of `ja4-demo clients`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClientsConfig {
    /// Logs, admin address, ledger file.
    pub process: ProcessConfig,
    /// The site, on loopback. Default `127.0.0.1:8443`.
    pub server: SocketAddr,
    /// Its name. Default `demo.test`.
    pub server_name: String,
    /// People. Raising it raises the requests: about two a second each. Default 40.
    pub humans: u32,
    /// How many of them share one address. Default 10.
    pub behind_nat: u32,
    /// Bots. Default 5.
    pub bots: Option<u32>,
    /// Decides who does what. Default 1.
    pub seed: Option<u64>,
    /// Mean time of a person on a page. Default 3s.
    pub think_time: Span,
    /// Time between two runs of a bot, of some ten requests each. Default 2s.
    pub bot_pause: Span,
    /// Health checks and the like run too. Default true.
    pub services: bool,
    /// Ends by itself after this. Default: never.
    pub duration: Option<Span>,
}

impl Default for ClientsConfig {
    fn default() -> Self {
        Self {
            process: ProcessConfig::default(),
            server: SocketAddr::from(([127, 0, 0, 1], 8443)),
            server_name: "demo.test".to_owned(),
            humans: 40,
            behind_nat: 10,
            bots: None,
            seed: None,
            think_time: Span::seconds(3),
            bot_pause: Span::seconds(2),
            services: true,
            duration: None,
        }
    }
}

/// Bots without a setting.
const DEFAULT_BOTS: u32 = 5;

/// What all clients share.
#[derive(Debug)]
pub struct Shared {
    pub(crate) config: ClientsConfig,
    pub(crate) requests: Counts,
    pub(crate) shutdown: Shutdown,
    boot: u64,
    next_connection: AtomicU64,
}

impl Shared {
    /// Requests sent: answered, failed by reason, under way.
    pub fn ledger(&self) -> Ledger {
        let connections = self.next_connection.load(Ordering::Relaxed);
        Ledger {
            stages: vec![self.requests.stage()],
            facts: BTreeMap::from([("client_connections".to_owned(), connections.into())]),
        }
    }

    /// Id of the next connection: unlike those of all other processes.
    pub(crate) fn next_cid(&self) -> String {
        let n = self.next_connection.fetch_add(1, Ordering::Relaxed);
        format!("{:016x}{n:x}", self.boot)
    }

    /// Sleeps; true if the process is to end.
    pub(crate) async fn pause(&self, duration: Duration) -> bool {
        tokio::select! {
            () = tokio::time::sleep(duration) => self.shutdown.is_requested(),
            () = self.shutdown.requested() => true,
        }
    }
}

/// Adds the id of a connection to a target.
pub(crate) fn with_cid(target: &str, cid: &str) -> String {
    let separator = if target.contains('?') { '&' } else { '?' };
    format!("{target}{separator}_cid={cid}")
}

/// Random numbers of a seed.
#[derive(Debug, Clone)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64, who: u64) -> Self {
        Self(mix(seed ^ mix(who)))
    }

    /// From 0 to `n - 1`; 0 for `n = 0`.
    pub(crate) fn below(&mut self, n: u32) -> u32 {
        self.0 = mix(self.0);
        u32::try_from(((self.0 >> 32) * u64::from(n)) >> 32).unwrap_or(0)
    }

    /// From a half to one and a half of `mean`.
    pub(crate) fn around(&mut self, mean: Duration) -> Duration {
        mean.mul_f64(0.5 + f64::from(self.below(1000)) / 1000.0)
    }
}

/// All clients of one configuration.
#[derive(Debug)]
pub struct Clients {
    shared: Arc<Shared>,
}

impl Clients {
    /// Checks the configuration.
    ///
    /// # Errors
    /// A server that is not on loopback, or too many clients.
    pub fn new(config: ClientsConfig, shutdown: Shutdown) -> anyhow::Result<Self> {
        ensure!(
            config.server.is_ipv4() && config.server.ip().is_loopback(),
            "server {} is not on 127.0.0.0/8, where clients have their addresses; start ja4-demo origin on 127.0.0.1",
            config.server
        );
        ensure!(
            config.humans.max(config.bots.unwrap_or(0)) <= MAX_CLIENTS,
            "humans and bots must be at most {MAX_CLIENTS} each"
        );
        let boot = ja4_emit::random_boot().context("cannot get random numbers")?;
        Ok(Self {
            shared: Arc::new(Shared {
                config,
                requests: Counts::new("clients.requests"),
                shutdown,
                boot: boot.0,
                next_connection: AtomicU64::new(0),
            }),
        })
    }

    /// For the ledger.
    pub fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    /// Runs all clients until the shutdown is requested or `duration` is over, and ends what they started.
    pub async fn run(self) {
        let shared = self.shared;
        let config = &shared.config;
        let seed = config.seed.unwrap_or(1);
        let stacks = browser::Stacks::new();
        let mut tasks = tokio::task::JoinSet::new();
        for n in 0..config.humans {
            let address = if n < config.behind_nat {
                Ipv4Addr::new(127, 20, 0, 1)
            } else {
                let [.., high, low] = n.to_be_bytes();
                Ipv4Addr::new(127, 10, high, low.wrapping_add(1))
            };
            let rng = Rng::new(seed, u64::from(n));
            let person = people::Person::new(n, IpAddr::V4(address), &stacks, rng);
            tasks.spawn(person.live(Arc::clone(&shared)));
        }
        let programs = Arc::new(programs::Programs::find());
        for job in tools::jobs(config, &programs) {
            tasks.spawn(tools::repeat(
                job,
                Arc::clone(&programs),
                Arc::clone(&shared),
                seed,
            ));
        }
        if let Some(duration) = config.duration
            && !shared.pause(duration.0).await
        {
            shared.shutdown.request();
        }
        while let Some(ended) = tasks.join_next().await {
            if let Err(error) = ended {
                tracing::error!("a client ended by a panic: {error}");
            }
        }
    }
}
