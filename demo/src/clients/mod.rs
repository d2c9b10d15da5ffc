//! Clients of several kinds and TLS stacks, each from an address of its own.
//!
//! People browse with Chromium ([`people`]); apps read the API with our own client, rustls ([`apps`]); services and
//! bots are the system's programs ([`tools`]): curl and openssl (OpenSSL), wget and gnutls-cli (`GnuTLS`), node,
//! python. Who is there is decided by [`cast`] from a seed; [`truth`] writes down who was what. Every request but
//! the browser's carries the id of its connection in the query key `_cid`, so that a join can be checked.

pub mod apps;
mod cast;
mod cdp;
mod chromium;
mod people;
pub mod programs;
mod proxy;
pub mod session;
pub mod tools;
mod truth;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use ja4_common::Shutdown;
use ja4_common::config::ProcessConfig;
use ja4_common::ledger::Ledger;
use ja4_common::units::Span;
use serde::{Deserialize, Serialize};

use cast::Cast;
pub(crate) use cast::NAT;
use chromium::Browser;
use programs::{Program, Programs};
use proxy::{Proxy, Way};
use tools::Kind;

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
    /// People, who browse with Chromium; none where it is not installed. Raising it makes more visits, as far as
    /// `open_pages` lets. Default 64.
    pub humans: u32,
    /// How many of them share one address. Default 12.
    pub behind_nat: u32,
    /// Apps that read the API with our own client. Default 10.
    pub apps: u32,
    /// Bots. Default 6.
    pub bots: Option<u32>,
    /// Percent of people, apps and machines who were not there in the recorded yesterday; raising it leaves fewer who
    /// come back to the address that they had. Default 50.
    pub newcomers: u32,
    /// Decides who does what. Default 1.
    pub seed: Option<u64>,
    /// Mean time of a person on a page. Default 10s.
    pub think_time: Span,
    /// Mean time between two visits of a person or app, and longest before the first. Default 2m.
    pub visit_gap: Span,
    /// Pages open at once. Each takes some 40 MiB of memory; raising it makes people wait less. Default 16.
    pub open_pages: u32,
    /// Time between two runs of a bot, of some ten requests each. Default 2s.
    pub bot_pause: Span,
    /// Health checks, feed readers and the like run too. Default true.
    pub services: bool,
    /// Time between two runs of monitoring; a health check runs twice as often, others less. Default 30s.
    pub service_pause: Span,
    /// Source port of the health check, the same each time; 0 takes any. Below what the kernel gives out. Default 20443.
    pub health_port: u16,
    /// Port of the proxies that give people their addresses; 0 takes free ones. Default 0.
    pub proxy_port: u16,
    /// Where it is written who was what. Default: nowhere.
    pub truth_file: Option<PathBuf>,
    /// Ends by itself after this. Default: never.
    pub duration: Option<Span>,
}

impl Default for ClientsConfig {
    fn default() -> Self {
        Self {
            process: ProcessConfig::default(),
            server: SocketAddr::from(([127, 0, 0, 1], 8443)),
            server_name: "demo.test".to_owned(),
            humans: 64,
            behind_nat: 12,
            apps: 10,
            bots: None,
            newcomers: 50,
            seed: None,
            think_time: Span::seconds(10),
            visit_gap: Span::seconds(120),
            open_pages: 16,
            bot_pause: Span::seconds(2),
            services: true,
            service_pause: Span::seconds(30),
            health_port: 20_443,
            proxy_port: 0,
            truth_file: None,
            duration: None,
        }
    }
}

/// Bots without a setting.
const DEFAULT_BOTS: u32 = 6;

impl ClientsConfig {
    /// Who is to be cast, with so many people.
    fn counts(&self, people: u32) -> cast::Counts {
        cast::Counts {
            people,
            behind_nat: self.behind_nat,
            apps: self.apps,
            services: self.services,
            bots: self.bots.unwrap_or(DEFAULT_BOTS),
            newcomers: self.newcomers,
        }
    }
}

/// Every address of the clients of a configuration, with all programs here.
#[cfg(test)]
pub(crate) fn addresses_of_cast(config: &ClientsConfig) -> std::collections::BTreeSet<Ipv4Addr> {
    let cast = Cast::of(config.seed.unwrap_or(1), config.counts(config.humans));
    let people = cast.people.iter().map(|person| person.address);
    let apps = cast.apps.iter().map(|app| app.address);
    let tools = cast.services.iter().chain(&cast.bots).map(|tool| tool.address);
    people.chain(apps).chain(tools).collect()
}

/// What all clients share.
#[derive(Debug)]
pub struct Shared {
    pub(crate) config: ClientsConfig,
    pub(crate) requests: Counts,
    pages: Counts,
    pub(crate) shutdown: Shutdown,
    boot: u64,
    next_connection: AtomicU64,
}

impl Shared {
    /// Requests sent by programs, and pages opened in the browser: answered, failed by reason, under way.
    pub fn ledger(&self) -> Ledger {
        let connections = self.next_connection.load(Ordering::Relaxed);
        Ledger {
            stages: vec![self.requests.stage(), self.pages.stage()],
            facts: BTreeMap::from([("client_connections".to_owned(), connections.into())]),
        }
    }

    /// Id of the next connection: unlike those of all other processes.
    pub(crate) fn next_cid(&self) -> String {
        let n = self.next_connection.fetch_add(1, Ordering::Relaxed);
        format!("{:016x}{n:x}", self.boot)
    }

    /// Counts one page of the browser.
    pub(crate) async fn page(
        &self,
        load: impl Future<Output = Result<(), &'static str>>,
    ) -> Result<(), &'static str> {
        let pending = self.pages.begin();
        let result = tokio::select! {
            result = load => result,
            () = self.shutdown.requested() => Err("stopped"),
        };
        match result {
            Ok(()) => pending.pass(),
            Err(reason) => pending.fail(reason),
        }
        result
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

    /// From 0 to 1, without 1.
    pub(crate) fn share(&mut self) -> f64 {
        f64::from(self.below(1 << 20)) / f64::from(1 << 20)
    }

    /// A time on a page: a quarter of `mean` at least, few much longer than it, five times it at most.
    pub(crate) fn reading(&mut self, mean: Duration) -> Duration {
        let tail = -(1.0 - self.share()).ln();
        mean.mul_f64((0.25 + 0.75 * tail).min(5.0))
    }

    /// In an order of its own.
    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for n in (1..items.len()).rev() {
            let other = self.below(u32::try_from(n + 1).unwrap_or(1)) as usize;
            items.swap(n, other);
        }
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
            config.humans.max(config.apps).max(config.bots.unwrap_or(0)) <= MAX_CLIENTS,
            "humans, apps and bots must be at most {MAX_CLIENTS} each"
        );
        ensure!(
            config.newcomers <= 100,
            "newcomers is {} percent; set it to 100 at most",
            config.newcomers
        );
        let boot = ja4_emit::random_boot().context("cannot get random numbers")?;
        Ok(Self {
            shared: Arc::new(Shared {
                config,
                requests: Counts::new("clients.requests"),
                pages: Counts::new("clients.pages"),
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
        let programs = Arc::new(Programs::find());
        let n_people = if programs.has(Program::Chromium) {
            config.humans
        } else {
            0
        };
        let cast = Cast::of(seed, config.counts(n_people));
        let mut tasks = tokio::task::JoinSet::new();
        for part in &cast.apps {
            let app = apps::App::new(part, Rng::new(seed, u64::from(part.number) | 1 << 42));
            tasks.spawn(app.live(Arc::clone(&shared)));
        }
        for job in tools::jobs(&cast, config, &programs) {
            tasks.spawn(tools::repeat(
                job,
                Arc::clone(&programs),
                Arc::clone(&shared),
                seed,
            ));
        }
        spawn_browsing(&mut tasks, &cast, &programs, &shared, seed).await;
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

/// People, the bot with a browser, the browser itself, and the truth, which waits for what the browser says of itself.
async fn spawn_browsing(
    tasks: &mut tokio::task::JoinSet<()>,
    cast: &Cast,
    programs: &Arc<Programs>,
    shared: &Arc<Shared>,
    seed: u64,
) {
    let mut proxies = BTreeMap::new();
    if programs.has(Program::Chromium) {
        for address in cast.browser_addresses() {
            match Proxy::start(address, shared.config.proxy_port, Way::Connect, shared).await {
                Ok(proxy) => {
                    proxies.insert(address, Arc::new(proxy));
                }
                Err(error) => tracing::error!("who is at {address} does not browse: {error:#}"),
            }
        }
    }
    let (publish, browser) = tokio::sync::watch::channel(None);
    let places = Arc::new(tokio::sync::Semaphore::new(
        shared.config.open_pages.max(1) as usize
    ));
    for part in &cast.people {
        let Some(proxy) = proxies.get(&part.address) else {
            continue;
        };
        let rng = Rng::new(seed, u64::from(part.number));
        let person = people::Person::new(part.clone(), Arc::clone(proxy), rng);
        tasks.spawn(person.live(Arc::clone(shared), browser.clone(), Arc::clone(&places)));
    }
    for bot in cast.bots.iter().filter(|bot| bot.kind == Kind::BrowserBot) {
        let Some(proxy) = proxies.get(&bot.address) else {
            continue;
        };
        let rng = Rng::new(seed, u64::from(bot.number) | 1 << 40);
        let bot = people::browser_bot(
            bot.number,
            Arc::clone(proxy),
            Arc::clone(shared),
            browser.clone(),
            rng,
        );
        tasks.spawn(bot);
    }
    let (cast, programs, shared) = (cast.clone(), Arc::clone(programs), Arc::clone(shared));
    tasks.spawn(async move { keep_browser(&cast, proxies, &programs, &shared, &publish).await });
}

/// Starts the browser when there is somebody to use it, again when it is gone, and writes the truth.
async fn keep_browser(
    cast: &Cast,
    proxies: BTreeMap<Ipv4Addr, Arc<Proxy>>,
    programs: &Programs,
    shared: &Shared,
    publish: &tokio::sync::watch::Sender<Option<Arc<Browser>>>,
) {
    if proxies.is_empty() {
        truth::write(shared, cast, programs, None);
        return;
    }
    loop {
        match Browser::start(programs, shared).await {
            Ok(browser) => {
                let browser = Arc::new(browser);
                truth::write(shared, cast, programs, Some(&browser));
                publish.send_replace(Some(Arc::clone(&browser)));
                while !browser.is_gone() {
                    if shared.pause(Duration::from_millis(500)).await {
                        return;
                    }
                }
                publish.send_replace(None);
                tracing::warn!("the browser of the people ended; it starts again");
            }
            Err(error) => {
                tracing::warn!("people wait for their browser: {error:#}");
                truth::write(shared, cast, programs, None);
            }
        }
        if shared.pause(Duration::from_secs(5)).await {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_lies_around_its_mean() {
        let mut rng = Rng::new(1, 2);
        let mean = Duration::from_secs(2);
        assert!((0..1000).all(|_| (mean / 2..=mean * 3 / 2).contains(&rng.around(mean))));
    }

    #[test]
    fn people_read_for_the_mean_time_and_never_for_none() {
        let mut rng = Rng::new(1, 3);
        let mean = Duration::from_secs(12);
        let times: Vec<_> = (0..10_000).map(|_| rng.reading(mean)).collect();
        let average = times.iter().sum::<Duration>().as_secs_f64() / 10_000.0;
        assert!((11.0..13.0).contains(&average), "{average}");
        assert!(times.iter().all(|time| (mean / 4..=mean * 5).contains(time)));
    }
}
