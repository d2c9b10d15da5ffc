//! `ja4 up`: the whole pipeline on this machine, from start to a checked ledger.
//!
//! ```text
//! store ▶ migrations ▶ correlator ▶ (the demo's yesterday) ▶ detector ▶ dashboard ▶ sensor ▶ (site ▶ clients)
//! run until ctrl-C, the end of --for, or the end of the recorded input
//! clients, site, sensor, dashboard, detector, correlator ▶ ask the store what it has ▶ store      in reverse
//! ledgers of all incarnations + the store's counts ▶ summary ▶ equations     account
//! ```
//!
//! The processes are in [`config`], their life in [`supervise`], the accounts in [`ledger`], which is pure.

mod child;
mod config;
mod detection;
mod layout;
mod ledger;
mod output;
mod probe;
mod proc;
mod recording;
mod store;
mod supervise;
mod yesterday;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, bail};
use ja4_common::Shutdown;
use ja4_common::ledger::Stage;

pub(crate) use child::become_program;
use layout::Layout;
pub(crate) use layout::{Process, ports};
use ledger::{Joined, StoreCounts, Summary};
use output::Output;
use store::StoreAccess;
use supervise::{Spec, Supervisor};
use yesterday::Yesterday;

use crate::WrongUse;
use crate::capture::{self, CaptureRight};
use crate::programs::Programs;

/// The binaries that a pipeline is made of.
pub(crate) const PROGRAMS: [&str; 6] = [
    "ja4-clickhouse",
    "ja4-correlator",
    "ja4-sensor",
    "ja4-detector",
    "ja4-dashboard",
    "ja4-demo",
];

/// How long what an earlier run left in the spool may take to reach the store before this run begins.
const SPOOL_EMPTY_WITHIN: Duration = Duration::from_secs(20);

/// How long the demo's yesterday may take to be read and stored; it takes a few seconds.
const YESTERDAY_WITHIN: Duration = Duration::from_mins(2);

/// How long the system may take to release the ports of a process of an earlier run that was ended.
const PORTS_RELEASED_WITHIN: Duration = Duration::from_secs(10);

/// Between two cycles of the detector: a demo should show something within a minute.
const CYCLE_DEMO: Duration = Duration::from_secs(15);
const CYCLE: Duration = Duration::from_mins(5);

/// What to run and for how long.
#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("input").required(true).args(["demo", "interface", "pcap"])))]
pub(crate) struct Options {
    /// A real HTTPS site on loopback with real clients of several TLS stacks.
    #[arg(long)]
    demo: bool,
    /// How many demo clients browse at the same time.
    #[arg(long, value_name = "N", conflicts_with_all = ["interface", "pcap"])]
    demo_bots: Option<u32>,
    /// Makes the demo's clients repeat what they did under the same number.
    #[arg(long, value_name = "N", conflicts_with_all = ["interface", "pcap"])]
    seed: Option<u64>,
    /// Begin the demo with an empty store instead of a recorded yesterday: what a first minute looks like.
    #[arg(long, conflicts_with_all = ["interface", "pcap"])]
    no_yesterday: bool,
    /// Time between two cycles of the detector [default: 15s with --demo, else 5m].
    #[arg(long, value_name = "DURATION", value_parser = parse_cycle)]
    cycle: Option<Duration>,
    /// Capture on this interface; your web server writes its requests to the sockets named at start.
    #[arg(long, value_name = "IF")]
    interface: Option<String>,
    /// Read packets from this file instead of an interface.
    #[arg(long, value_name = "FILE")]
    pcap: Option<PathBuf>,
    /// Read requests from this file, one JSON event a line.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["demo", "interface"])]
    http: Option<PathBuf>,
    /// Folder of everything that is kept [default: ~/.local/share/ja4-platform].
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Address and first port of the block that all processes listen on.
    #[arg(long, value_name = "ADDR:PORT", default_value_t = default_listen())]
    listen: SocketAddr,
    /// End by itself after this long, for example 90s or 5m; counted from when everything is ready.
    #[arg(long = "for", value_name = "DURATION", value_parser = humantime::parse_duration)]
    run_for: Option<Duration>,
    /// Write the ledger here as JSON at the end.
    #[arg(long, value_name = "FILE")]
    summary: Option<PathBuf>,
}

fn parse_cycle(text: &str) -> Result<Duration, String> {
    let cycle = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if cycle.as_secs() == 0 {
        return Err("a cycle takes a second at least".to_owned());
    }
    Ok(cycle)
}

/// Loopback, so that nothing is open to the network unless asked for.
pub(crate) fn default_listen() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], layout::BASE_PORT))
}

/// The folder for data: as given, else `$XDG_DATA_HOME/ja4-platform`, else `~/.local/share/ja4-platform`.
///
/// # Errors
/// When none is given and there is no home.
pub(crate) fn data_folder(given: Option<&Path>) -> anyhow::Result<PathBuf> {
    if let Some(given) = given {
        return Ok(given.to_owned());
    }
    let variable = |name: &str| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let base = variable("XDG_DATA_HOME").or_else(|| Some(variable("HOME")?.join(".local/share")));
    let base = base.ok_or_else(|| {
        WrongUse("neither XDG_DATA_HOME nor HOME is set; name a folder with --data".to_owned())
    })?;
    Ok(base.join("ja4-platform"))
}

/// Runs the pipeline; `Ok(false)` when the ledger does not balance or a process did not end well.
///
/// # Errors
/// When the pipeline cannot be started or its accounts cannot be taken.
pub(crate) fn run(options: &Options) -> anyhow::Result<bool> {
    check_files(options)?;
    let layout = Layout::prepare(&data_folder(options.data.as_deref())?, options.listen)?;
    let _lock = layout.lock()?;
    let output = Output::new();
    let programs = Programs::from_environment(std::env::var_os("PATH").as_deref())?;
    let plan = Plan {
        input: choose_input(options, &layout, &programs.find("ja4-sensor")?, &output)?,
        yesterday: if options.demo && !options.no_yesterday {
            Some(yesterday::prepare(&layout, SystemTime::now())?)
        } else {
            None
        },
        cycle: options
            .cycle
            .unwrap_or(if options.demo { CYCLE_DEMO } else { CYCLE }),
    };
    let specs = config::write(&layout, &programs, &plan)?;
    // As when stopping: who writes ends before whom it writes to.
    let mut patience = Duration::ZERO;
    for spec in specs.iter().rev() {
        if supervise::end_leftover(spec, &output)? {
            patience = PORTS_RELEASED_WITHIN;
        }
    }
    for (addr, process) in ports(options.listen)? {
        if specs.iter().any(|spec| spec.process == process) {
            layout::await_free(addr, process.name(), patience)?;
        }
    }
    let mut pipeline = Pipeline {
        shutdown: Shutdown::install().context("could not register for signals")?,
        supervisor: Supervisor::new(output.clone()),
        store: None,
        output,
    };
    let result = pipeline.run(specs, &layout, &plan, options.run_for);
    pipeline.output.end_live();
    let truths = if options.demo {
        vec![layout.truth(), layout.yesterday_truth()]
    } else {
        Vec::new()
    };
    let counts = pipeline.stop(result.is_ok(), &truths);
    result?;
    pipeline.account(&counts?, options.summary.as_deref())
}

/// What a pipeline is made of.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) input: Input,
    /// What goes through the pipeline before.
    pub(crate) yesterday: Option<Yesterday>,
    /// Between two cycles of the detector.
    pub(crate) cycle: Duration,
}

/// Where packets and requests come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Input {
    /// The demo's site and clients on loopback.
    Demo { n_bots: Option<u32>, seed: Option<u64> },
    /// An interface of this machine.
    Interface(String),
    /// A recording, moved by `offset_ns` to begin now.
    Recording {
        pcap: PathBuf,
        http: Option<PathBuf>,
        offset_ns: i64,
        /// It stands in for live input: the pipeline goes on when it is read, so that one can look at the rows.
        stays: bool,
    },
}

/// A file that is not there is wrong use, said before anything is started.
fn check_files(options: &Options) -> anyhow::Result<()> {
    for (flag, path) in [("--pcap", &options.pcap), ("--http", &options.http)] {
        if let Some(path) = path
            && let Err(error) = std::fs::File::open(path)
        {
            return Err(WrongUse(format!("{flag} {}: {error}", path.display())).into());
        }
    }
    let folder = options
        .summary
        .as_deref()
        .map(|path| path.parent().filter(|dir| !dir.as_os_str().is_empty()));
    if let Some(Some(folder)) = folder
        && !folder.is_dir()
    {
        return Err(WrongUse(format!(
            "--summary: the folder {} does not exist",
            folder.display()
        ))
        .into());
    }
    Ok(())
}

/// As asked; without the right to capture, the recording that comes with us takes the place of live input.
fn choose_input(options: &Options, layout: &Layout, sensor: &Path, output: &Output) -> anyhow::Result<Input> {
    if let Some(pcap) = &options.pcap {
        return record_input(pcap.clone(), options.http.clone(), false);
    }
    if let CaptureRight::None { mend } = capture::right(sensor) {
        output.line("ja4", &format!("this user may not capture packets; type: {mend}"));
        output.line("ja4", "going on with a recorded capture");
        let (packets, requests) = layout.recording();
        recording::unpack(&packets, &requests)?;
        return record_input(packets, Some(requests), true);
    }
    Ok(match &options.interface {
        Some(interface) => Input::Interface(interface.clone()),
        None => Input::Demo {
            n_bots: options.demo_bots,
            seed: options.seed,
        },
    })
}

fn record_input(pcap: PathBuf, http: Option<PathBuf>, stays: bool) -> anyhow::Result<Input> {
    let offset_ns = recording::offset_to_now_ns(&pcap, http.as_deref(), SystemTime::now())?
        .ok_or_else(|| WrongUse(format!("{} has no packet", pcap.display())))?;
    Ok(Input::Recording {
        pcap,
        http,
        offset_ns,
        stays,
    })
}

/// Everything of a running pipeline.
struct Pipeline {
    shutdown: Shutdown,
    supervisor: Supervisor,
    /// Present once the store runs: its tokens are made by its first start.
    store: Option<StoreAccess>,
    output: Output,
}

impl Pipeline {
    /// From the first start to the moment when it should end.
    fn run(
        &mut self,
        specs: Vec<Spec>,
        layout: &Layout,
        plan: &Plan,
        run_for: Option<Duration>,
    ) -> anyhow::Result<()> {
        let input = &plan.input;
        let shutdown = self.shutdown.clone();
        for spec in specs {
            let process = spec.process;
            if !self.supervisor.start(spec, &|| shutdown.is_requested())? {
                return Ok(());
            }
            if process == Process::Store {
                let store = StoreAccess::new(config::connect(layout)?)?;
                let n_steps = store.migrate()?;
                self.store = Some(store);
                self.output.line(
                    "ja4",
                    &format!("the store's schema is in place ({n_steps} steps applied)"),
                );
            }
            if process == Process::Correlator {
                self.begin_counting()?;
            }
            if let Some(past) = &plan.yesterday {
                match process {
                    // Requests come when every connection is known: what was read of hours in moments has no order.
                    Process::PastSensor => self.wait_finished(Process::PastSensor)?,
                    Process::PastReplay => self.finish_yesterday(layout, past)?,
                    _ => {}
                }
            }
        }
        self.say_where(layout, input);
        let started = Instant::now();
        let mut last_line = started;
        let mut has_said = false;
        while !self.shutdown.is_requested() {
            self.supervisor.pump()?;
            let now = Instant::now();
            if now.duration_since(last_line) >= Duration::from_secs(1) {
                last_line = now;
                self.output.live(&self.status_line(now.duration_since(started)));
            }
            if run_for.is_some_and(|run_for| now.duration_since(started) >= run_for) {
                break;
            }
            if self.input_is_read(input) {
                if !matches!(input, Input::Recording { stays: true, .. }) {
                    break;
                }
                if !has_said {
                    has_said = true;
                    self.output.line(
                        "ja4",
                        "the recording is read; the store goes on answering until ctrl-C",
                    );
                }
            }
        }
        Ok(())
    }

    /// Fixes where this run's counts begin, for the correlator and for the store at the same point: an earlier run
    /// that was killed left batches in the spool, which are on their way now.
    fn begin_counting(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + SPOOL_EMPTY_WITHIN;
        loop {
            let before = self.supervisor.begin_counting(Process::Correlator)?;
            if let Some(store) = &mut self.store {
                store.begin_counting()?;
            }
            let after = self.supervisor.begin_counting(Process::Correlator)?;
            let (passed_before, _) = ledger::store_rows(&before);
            let (passed, n_pending) = ledger::store_rows(&after);
            if (passed == passed_before && n_pending == 0) || self.shutdown.is_requested() {
                return Ok(());
            }
            if Instant::now() > deadline {
                self.output.line(
                    "ja4",
                    &format!("{n_pending} rows of an earlier run are still on their way to the store; they are counted with this run's"),
                );
                return Ok(());
            }
            self.supervisor.pump()?;
        }
    }

    /// Waits until a part of the recorded yesterday has ended by itself.
    fn wait_finished(&mut self, process: Process) -> anyhow::Result<()> {
        let started = Instant::now();
        while !self.supervisor.has_finished(process) && !self.shutdown.is_requested() {
            self.supervisor.pump()?;
            if started.elapsed() > YESTERDAY_WITHIN {
                bail!(
                    "{} did not end within {} s; its lines and the correlator's say why, or start with --no-yesterday",
                    process.name(),
                    YESTERDAY_WITHIN.as_secs()
                );
            }
        }
        Ok(())
    }

    /// Waits until the demo's yesterday is in the store: the detector begins with all of it.
    fn finish_yesterday(&mut self, layout: &Layout, past: &Yesterday) -> anyhow::Result<()> {
        let started = Instant::now();
        self.wait_finished(Process::PastReplay)?;
        // Every event is acknowledged, so its row is sealed; it is in the store when nothing is pending.
        while ledger::store_rows(&self.supervisor.ask_ledger(Process::Correlator)?).1 > 0 {
            if self.shutdown.is_requested() || started.elapsed() > YESTERDAY_WITHIN {
                return Ok(());
            }
            self.supervisor.pump()?;
        }
        if !self.shutdown.is_requested() {
            yesterday::remember(layout, &past.span)?;
            self.output.line("ja4", "yesterday, as recorded, is in the store");
        }
        Ok(())
    }

    /// A recording ends when both its readers have finished.
    fn input_is_read(&self, input: &Input) -> bool {
        let Input::Recording { http, .. } = input else {
            return false;
        };
        self.supervisor.has_finished(Process::Sensor)
            && (http.is_none() || self.supervisor.has_finished(Process::Replay))
    }

    fn say_where(&self, layout: &Layout, input: &Input) {
        let lines = match input {
            Input::Demo { .. } => vec![format!("the demo's site is https://{}/", layout.demo_https())],
            Input::Interface(name) => vec![
                format!("capturing on {name}"),
                format!(
                    "your web server writes its requests to {}",
                    layout.http_socket().display()
                ),
            ],
            Input::Recording { pcap, offset_ns, .. } => {
                vec![format!(
                    "reading {}, moved by {offset_ns} ns to begin now",
                    pcap.display()
                )]
            }
        };
        for line in lines {
            self.output.line("ja4", &line);
        }
        self.output.line(
            "ja4",
            &format!(
                "everything is running; the store answers on http://{}/ (ctrl-C stops)",
                layout.store_http()
            ),
        );
        // The dashboard writes it before it is ready, for this user only.
        let pages = match std::fs::read_to_string(layout.login_link()) {
            Ok(link) => format!("open the dashboard, this link works once: {}", link.trim()),
            Err(_) => format!("the dashboard is on http://{}/", layout.dashboard_http()),
        };
        self.output.line("ja4", &pages);
    }

    /// One line that a person can read: clients, hellos, requests, join rate, loss.
    fn status_line(&self, elapsed: Duration) -> String {
        let correlator = self.supervisor.ledger(Process::Correlator);
        let sensor = self.supervisor.ledger(Process::Sensor);
        let joined = Joined::read(&correlator);
        let n_lost: u64 = sensor
            .stages
            .iter()
            .chain(&correlator.stages)
            .map(Stage::dropped_total)
            .sum();
        let n_requests = correlator
            .stages
            .iter()
            .find(|stage| stage.name == "correlator.requests");
        let n_requests = n_requests.map_or(0, |stage| stage.received);
        let rate = if joined.total() == 0 {
            "-".to_owned()
        } else {
            format!(
                "{:.2} %",
                100.0 * (joined.exact + joined.asof) as f64 / joined.total() as f64
            )
        };
        format!(
            "{:>5} s  clients {:>5}  hellos {:>7}  requests {:>8}  joined {rate:>8}  lost {n_lost}",
            elapsed.as_secs(),
            ledger::number(&correlator, "clients"),
            ledger::number(&correlator, "hellos"),
            n_requests,
        )
    }

    /// Stops everything in reverse order; between the last writer and the store, asks the store what it has.
    fn stop(&mut self, is_well: bool, truths: &[PathBuf]) -> anyhow::Result<StoreCounts> {
        self.output.line("ja4", "stopping in order");
        let drained = self
            .supervisor
            .stop_down_to(Some(Process::Store))
            .and_then(|()| self.supervisor.wait_ready(Process::Store));
        let counts = match drained {
            Ok(()) => match &self.store {
                Some(store) if is_well => store
                    .counts()
                    .and_then(|counts| with_detection(counts, store, truths)),
                _ => Err(anyhow::anyhow!("the pipeline ended before it was complete")),
            },
            Err(error) => Err(error),
        };
        self.supervisor.stop_down_to(None)?;
        counts
    }

    /// Makes the summary, checks every equation, and says how it went.
    fn account(&self, counts: &StoreCounts, summary_file: Option<&Path>) -> anyhow::Result<bool> {
        let records = self.supervisor.records();
        let summary = ledger::summarise(&records, counts);
        for line in describe(&summary).into_iter().chain(describe_detection(&summary)) {
            self.output.line("ja4", &line);
        }
        if let Some(path) = summary_file {
            let mut text = serde_json::to_vec_pretty(&summary).context("the summary is plain data")?;
            text.push(b'\n');
            std::fs::write(path, text).with_context(|| format!("could not write {}", path.display()))?;
        }
        let mut problems = ledger::imbalances(&summary, &records, counts);
        problems.extend_from_slice(self.supervisor.problems());
        for problem in &problems {
            self.output.line("ja4", &format!("PROBLEM: {problem}"));
        }
        let is_balanced = problems.is_empty();
        if is_balanced {
            self.output.line(
                "ja4",
                "the ledger balances: every event is stored once or counted by reason",
            );
        }
        Ok(is_balanced)
    }
}

/// Adds what the detector did and, where there is one, the truth.
fn with_detection(
    counts: StoreCounts,
    store: &StoreAccess,
    truths: &[PathBuf],
) -> anyhow::Result<StoreCounts> {
    let (detection, clients) = store.detection()?;
    let mut cards = Vec::new();
    for path in truths {
        // Without the browser's first start, or without a yesterday, there is none.
        let Ok(text) = std::fs::read(path) else { continue };
        let card: detection::Card =
            serde_json::from_slice(&text).with_context(|| format!("{} is no truth card", path.display()))?;
        cards.push(card);
    }
    let truth = (!cards.is_empty()).then(|| detection::compare(&clients, &cards));
    Ok(StoreCounts {
        detection: Some(detection),
        truth,
        ..counts
    })
}

/// What was found, for people: bots with their places, and where the ranking was wrong.
fn describe_detection(summary: &Summary) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(found) = &summary.detection {
        lines.push(format!(
            "detector: {}, {} cycles, {} clients scored and {} flagged by the last, {} new incidents",
            found.state, found.cycles, found.scored, found.flagged, found.incidents
        ));
    }
    if let Some(truth) = &summary.truth {
        for bot in &truth.bots {
            let place = bot
                .rank
                .map_or_else(|| "not scored".to_owned(), |rank| format!("place {rank}"));
            let why = bot
                .reasons
                .first()
                .map_or("no reason", |why| why.sentence.as_str());
            lines.push(format!("truth: {} is {}, {place}: {why}", bot.name, bot.kind));
        }
        lines.extend(truth.errors.iter().map(|error| format!("truth: wrong: {error}")));
    }
    lines
}

/// The ledger for people, one line a stage.
fn describe(summary: &Summary) -> Vec<String> {
    let stage_line = |stage: &Stage| {
        let dropped: Vec<String> = stage
            .dropped
            .iter()
            .map(|(reason, n)| format!(" + {n} {reason}"))
            .collect();
        let pending = if stage.pending > 0 {
            format!(" + {} pending", stage.pending)
        } else {
            String::new()
        };
        format!(
            "{:<28} {:>9} received = {} passed{}{pending}",
            stage.name,
            stage.received,
            stage.passed,
            dropped.concat()
        )
    };
    let process_line = |process: &ledger::ProcessUsage| {
        format!(
            "{:<28} {:>9.1} CPU s, {} MiB anonymous at most, {} restarts",
            process.name,
            process.cpu_seconds,
            process.anon_bytes_max >> 20,
            process.restarts
        )
    };
    summary
        .stages
        .iter()
        .map(stage_line)
        .chain(summary.processes.iter().map(process_line))
        .collect()
}
