//! `ja4 up`: the whole pipeline on this machine, from start to a checked ledger.
//!
//! ```text
//! store ▶ migrations ▶ correlator ▶ sensor ▶ (demo site ▶ demo clients)      start, each when the last is ready
//! run until ctrl-C, the end of --for, or the end of the recorded input
//! clients, site, sensor, correlator ▶ ask the store what it has ▶ store      stop, in reverse
//! ledgers of all incarnations + the store's counts ▶ summary ▶ equations     account
//! ```
//!
//! The processes are in [`config`], their life in [`supervise`], the accounts in [`ledger`], which is pure.

mod child;
mod config;
mod layout;
mod ledger;
mod output;
mod probe;
mod proc;
mod recording;
mod store;
mod supervise;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context as _;
use ja4_common::Shutdown;
use ja4_common::ledger::Stage;

pub(crate) use child::become_program;
use layout::Layout;
pub(crate) use layout::{Process, ports};
use ledger::{Joined, StoreCounts, Summary};
use output::Output;
use store::StoreAccess;
use supervise::{Spec, Supervisor};

use crate::WrongUse;
use crate::capture::{self, CaptureRight};
use crate::programs::Programs;

/// The binaries that a pipeline is made of.
pub(crate) const PROGRAMS: [&str; 4] = ["ja4-clickhouse", "ja4-correlator", "ja4-sensor", "ja4-demo"];

/// How long what an earlier run left in the spool may take to reach the store before this run begins.
const SPOOL_EMPTY_WITHIN: Duration = Duration::from_secs(20);

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
    let input = choose_input(options, &layout, &programs.find("ja4-sensor")?, &output)?;
    let specs = config::write(&layout, &programs, &input)?;
    // As when stopping: who writes ends before whom it writes to.
    for spec in specs.iter().rev() {
        supervise::end_leftover(spec, &output)?;
    }
    for (addr, process) in ports(options.listen)? {
        if specs.iter().any(|spec| spec.process == process) {
            layout::require_free(addr, process.name())?;
        }
    }
    let mut pipeline = Pipeline {
        shutdown: Shutdown::install().context("could not register for signals")?,
        supervisor: Supervisor::new(output.clone()),
        store: None,
        output,
    };
    let result = pipeline.run(specs, &layout, &input, options.run_for);
    pipeline.output.end_live();
    let counts = pipeline.stop(result.is_ok());
    result?;
    pipeline.account(&counts?, options.summary.as_deref())
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
        input: &Input,
        run_for: Option<Duration>,
    ) -> anyhow::Result<()> {
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
    fn stop(&mut self, is_well: bool) -> anyhow::Result<StoreCounts> {
        self.output.line("ja4", "stopping in order");
        let drained = self
            .supervisor
            .stop_down_to(Some(Process::Store))
            .and_then(|()| self.supervisor.wait_ready(Process::Store));
        let counts = match drained {
            Ok(()) => match &self.store {
                Some(store) if is_well => store.counts(),
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
        for line in describe(&summary) {
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
