//! Starts processes in order, keeps them running, and stops them in reverse order.
//!
//! Everything happens in the caller's thread, which must be the main one: the kernel ends the children when the
//! *thread* that started them ends. [`Supervisor::pump`] is one step and is called a few times a second.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use ja4_common::ledger::{Ledger, read_file};
use rustix::process::Signal;

use super::child::{self, Ended, Running};
use super::layout::Process;
use super::ledger::{self, ProcessRecord, ProcessUsage};
use super::output::Output;
use super::{probe, proc};

/// The first wait before a process is started again; each further one in a row doubles it.
const BACKOFF_MIN: Duration = Duration::from_millis(500);
/// No longer: what made it fail (a full disk, say) may be mended at any time.
const BACKOFF_MAX: Duration = Duration::from_secs(15);
/// A process that ran this long was well: its next end starts again from the shortest wait.
const WELL_AFTER: Duration = Duration::from_secs(30);
/// Between two steps.
const STEP: Duration = Duration::from_millis(100);
/// Between two looks at memory and ledgers.
const SAMPLE_EVERY: Duration = Duration::from_secs(1);
/// Exit status of every binary here for wrong use or configuration: starting it again changes nothing.
const EXIT_USAGE: i32 = 2;

/// What to start and how to know it.
#[derive(Debug, Clone)]
pub(crate) struct Spec {
    pub(crate) process: Process,
    pub(crate) program: PathBuf,
    pub(crate) args: Vec<OsString>,
    /// Its admin endpoint.
    pub(crate) admin: SocketAddr,
    /// Where it writes its ledger every second and at its end.
    pub(crate) ledger_file: PathBuf,
    /// Where its process id is kept, for a later run that finds it left over.
    pub(crate) pid_file: PathBuf,
    /// The first start must be ready by then.
    pub(crate) ready_within: Duration,
    /// It must have drained by then.
    pub(crate) stop_within: Duration,
    /// It ends by itself with status 0 when its input is read.
    pub(crate) may_finish: bool,
}

#[derive(Debug)]
enum State {
    Running {
        running: Running,
        since: Instant,
        is_ready: bool,
    },
    /// Ended by accident; starts again at the given time.
    Waiting { until: Instant },
    /// Ended because it was told to or had finished.
    Stopped,
}

#[derive(Debug)]
struct Managed {
    spec: Spec,
    state: State,
    record: ProcessRecord,
    /// For a process whose counts outlive it: what it said when this run began.
    base: Ledger,
    /// The last answer of the present incarnation.
    polled: Option<Ledger>,
    n_failures_in_a_row: u32,
    is_stopping: bool,
}

/// The processes of one pipeline, in the order of their start.
#[derive(Debug)]
pub(crate) struct Supervisor {
    managed: Vec<Managed>,
    output: Output,
    last_sample: Option<Instant>,
    /// What went wrong and must show in the exit status.
    problems: Vec<String>,
}

impl Supervisor {
    pub(crate) fn new(output: Output) -> Self {
        Self {
            managed: Vec::new(),
            output,
            last_sample: None,
            problems: Vec::new(),
        }
    }

    /// Starts a process and waits until it is ready; `false` when `should_stop` said so before.
    ///
    /// # Errors
    /// When it cannot be started, refuses its configuration, or is not ready in time.
    pub(crate) fn start(&mut self, spec: Spec, should_stop: &dyn Fn() -> bool) -> anyhow::Result<bool> {
        let (name, admin, ready_within) = (spec.process.name(), spec.admin, spec.ready_within);
        let deadline = Instant::now() + ready_within;
        let running = launch(&spec, &self.output)?;
        let usage = ProcessUsage {
            name: name.to_owned(),
            ..ProcessUsage::default()
        };
        self.managed.push(Managed {
            spec,
            state: State::Running {
                running,
                since: Instant::now(),
                is_ready: false,
            },
            record: ProcessRecord {
                ledger: Ledger::default(),
                usage,
            },
            base: Ledger::default(),
            polled: None,
            n_failures_in_a_row: 0,
            is_stopping: false,
        });
        let idx = self.managed.len() - 1;
        loop {
            self.pump()?;
            if self.managed[idx].is_ready() || matches!(self.managed[idx].state, State::Stopped) {
                return Ok(true);
            }
            if should_stop() {
                return Ok(false);
            }
            if Instant::now() > deadline {
                bail!(
                    "{name} was not ready after {} s ({admin}/readyz); its own lines say why",
                    ready_within.as_secs()
                );
            }
        }
    }

    /// One step: sees who ended, starts again who must, samples once a second; then waits a moment.
    ///
    /// # Errors
    /// When a process refuses its configuration or cannot be started.
    pub(crate) fn pump(&mut self) -> anyhow::Result<()> {
        std::thread::sleep(STEP);
        let now = Instant::now();
        let is_sample_due = self
            .last_sample
            .is_none_or(|last| now.duration_since(last) >= SAMPLE_EVERY);
        if is_sample_due {
            self.last_sample = Some(now);
        }
        for managed in &mut self.managed {
            managed.step(now, is_sample_due, &self.output, &mut self.problems)?;
        }
        Ok(())
    }

    /// Stops processes from the last started down to `keep`, which stays, each when the ones after it are gone.
    ///
    /// # Errors
    /// As [`Supervisor::pump`].
    pub(crate) fn stop_down_to(&mut self, keep: Option<Process>) -> anyhow::Result<()> {
        for idx in (0..self.managed.len()).rev() {
            if keep == Some(self.managed[idx].spec.process) {
                return Ok(());
            }
            self.stop_one(idx)?;
        }
        Ok(())
    }

    fn stop_one(&mut self, idx: usize) -> anyhow::Result<()> {
        let managed = &mut self.managed[idx];
        managed.is_stopping = true;
        if let State::Running { running, .. } = &mut managed.state {
            running.sample();
            running.signal(Signal::TERM);
        } else {
            managed.state = State::Stopped;
        }
        let started = Instant::now();
        let mut is_killed = false;
        loop {
            self.pump()?;
            let managed = &self.managed[idx];
            let State::Running { running, .. } = &managed.state else {
                return Ok(());
            };
            if !is_killed && started.elapsed() > managed.spec.stop_within {
                running.signal(Signal::KILL);
                let line = format!(
                    "{} did not stop within {} s and was killed",
                    managed.spec.process.name(),
                    started.elapsed().as_secs()
                );
                self.output.line("ja4", &line);
                self.problems.push(line);
                is_killed = true;
            }
        }
    }

    /// Waits until a process that may just be starting again is ready.
    ///
    /// # Errors
    /// When it is not in the time that its first start has; as [`Supervisor::pump`].
    pub(crate) fn wait_ready(&mut self, process: Process) -> anyhow::Result<()> {
        let started = Instant::now();
        while let Some(managed) = self.find(process)
            && !managed.is_ready()
        {
            if started.elapsed() > managed.spec.ready_within {
                bail!(
                    "{} did not come back within {} s; its own lines say why",
                    process.name(),
                    started.elapsed().as_secs()
                );
            }
            self.pump()?;
        }
        Ok(())
    }

    /// Takes what a process says now as where this run's counts begin, if its counts outlive it.
    ///
    /// # Errors
    /// When it does not answer.
    pub(crate) fn begin_counting(&mut self, process: Process) -> anyhow::Result<Ledger> {
        let managed = self
            .managed
            .iter_mut()
            .find(|managed| managed.spec.process == process)
            .with_context(|| format!("{} was not started", process.name()))?;
        let ledger = probe::ledger(managed.spec.admin)?;
        if managed.keeps_counts() {
            managed.base.clone_from(&ledger);
        }
        Ok(ledger)
    }

    /// What a process says now, or said when it last answered.
    ///
    /// # Errors
    /// When it never answered.
    pub(crate) fn ask_ledger(&self, process: Process) -> anyhow::Result<Ledger> {
        let managed = self
            .find(process)
            .with_context(|| format!("{} was not started", process.name()))?;
        probe::ledger(managed.spec.admin).or_else(|error| managed.polled.clone().ok_or(error))
    }

    fn find(&self, process: Process) -> Option<&Managed> {
        self.managed
            .iter()
            .find(|managed| managed.spec.process == process)
    }

    /// Whether a process finished by itself.
    pub(crate) fn has_finished(&self, process: Process) -> bool {
        self.find(process)
            .is_some_and(|managed| matches!(managed.state, State::Stopped))
    }

    /// The ledger of a process up to now, all incarnations.
    pub(crate) fn ledger(&self, process: Process) -> Ledger {
        let Some(managed) = self.find(process) else {
            return Ledger::default();
        };
        match &managed.polled {
            Some(polled) if managed.keeps_counts() => ledger::since(polled, &managed.base),
            polled => {
                let mut ledger = managed.record.ledger.clone();
                if let Some(polled) = polled {
                    ledger::add_incarnation(&mut ledger, polled);
                }
                ledger
            }
        }
    }

    /// The records of all processes, to be called when they are stopped.
    pub(crate) fn records(&self) -> Vec<ProcessRecord> {
        self.managed
            .iter()
            .map(|managed| managed.record.clone())
            .collect()
    }

    /// What went wrong so far.
    pub(crate) fn problems(&self) -> &[String] {
        &self.problems
    }
}

impl Managed {
    /// The correlator's counts are sealed with its batches and taken up by its next incarnation: its last word is
    /// the sum of all. What a crash takes from its memory was never counted and never acknowledged.
    fn keeps_counts(&self) -> bool {
        self.spec.process == Process::Correlator
    }

    fn is_ready(&self) -> bool {
        matches!(self.state, State::Running { is_ready: true, .. })
    }

    fn step(
        &mut self,
        now: Instant,
        is_sample_due: bool,
        output: &Output,
        problems: &mut Vec<String>,
    ) -> anyhow::Result<()> {
        match &mut self.state {
            State::Running {
                running,
                since,
                is_ready,
            } => {
                if let Some(ended) = running.poll_ended()? {
                    let ran_for = since.elapsed();
                    let anon_bytes_max = running.anon_bytes_max;
                    return self.on_end(ended, ran_for, anon_bytes_max, now, output, problems);
                }
                if !*is_ready && probe::is_ready(self.spec.admin) {
                    *is_ready = true;
                    output.line("ja4", &format!("{} is ready", self.spec.process.name()));
                }
                if is_sample_due {
                    running.sample();
                    // A process that starts or stops does not answer; it is asked again a second later.
                    if let Ok(ledger) = probe::ledger(self.spec.admin) {
                        self.polled = Some(ledger);
                    }
                }
            }
            State::Waiting { until } if now >= *until => {
                self.record.usage.restarts += 1;
                let running = launch(&self.spec, output)?;
                self.state = State::Running {
                    running,
                    since: now,
                    is_ready: false,
                };
            }
            State::Waiting { .. } | State::Stopped => {}
        }
        Ok(())
    }

    /// Books the incarnation that ended, and decides what follows.
    fn on_end(
        &mut self,
        ended: Ended,
        ran_for: Duration,
        anon_bytes_max: u64,
        now: Instant,
        output: &Output,
        problems: &mut Vec<String>,
    ) -> anyhow::Result<()> {
        let usage = &mut self.record.usage;
        usage.cpu_seconds += ended.cpu_time.as_secs_f64();
        usage.anon_bytes_max = usage.anon_bytes_max.max(anon_bytes_max);
        let how = child::describe(ended.status);
        let is_clean = ended.status.success();
        self.book_ledger(is_clean);
        remove(&self.spec.pid_file)?;
        if self.is_stopping || (self.spec.may_finish && is_clean) {
            if !is_clean {
                problems.push(format!(
                    "{} ended with {how} while stopping",
                    self.spec.process.name()
                ));
                output.line(
                    "ja4",
                    &format!("{} ended with {how} while stopping", self.spec.process.name()),
                );
            }
            self.state = State::Stopped;
            return Ok(());
        }
        if ended.status.code() == Some(EXIT_USAGE) {
            bail!(
                "{} refused its configuration; its own line above says why",
                self.spec.process.name()
            );
        }
        if ran_for >= WELL_AFTER {
            self.n_failures_in_a_row = 0;
        }
        let wait = BACKOFF_MIN
            .saturating_mul(1 << self.n_failures_in_a_row.min(8))
            .min(BACKOFF_MAX);
        self.n_failures_in_a_row += 1;
        self.state = State::Waiting { until: now + wait };
        let line = format!(
            "{} ended with {how}; it starts again in {:.1} s",
            self.spec.process.name(),
            wait.as_secs_f64()
        );
        output.line("ja4", &line);
        Ok(())
    }

    /// Takes the later of the ledger file and the last answer as this incarnation's last word.
    fn book_ledger(&mut self, is_clean: bool) {
        let polled = self.polled.take();
        // A process killed before its first second wrote none.
        let written = read_file(&self.spec.ledger_file).ok();
        let last = match (written, polled) {
            (Some(written), Some(polled)) if ledger::progress(&polled) > ledger::progress(&written) => {
                Some(polled)
            }
            (Some(written), _) => Some(written),
            (None, polled) => polled,
        };
        if let Some(last) = last.as_ref().filter(|_| self.keeps_counts()) {
            self.record.ledger = ledger::since(last, &self.base);
        } else if let Some(mut last) = last {
            if !is_clean {
                ledger::book_killed(&mut last);
            }
            ledger::add_incarnation(&mut self.record.ledger, &last);
        }
    }
}

/// Starts the program with a fresh ledger file and its process id on disk.
fn launch(spec: &Spec, output: &Output) -> anyhow::Result<Running> {
    remove(&spec.ledger_file)?;
    let running = Running::start(&spec.program, &spec.args, spec.process.label(), output)?;
    std::fs::write(&spec.pid_file, running.pid().to_string())
        .with_context(|| format!("could not write {}", spec.pid_file.display()))?;
    Ok(running)
}

/// Ends a process that an earlier run on this folder left behind (its `ja4 up` was killed), before its ports are
/// asked for; says whether there was one.
///
/// # Errors
/// When it is there and cannot be ended.
pub(crate) fn end_leftover(spec: &Spec, output: &Output) -> anyhow::Result<bool> {
    let Ok(text) = std::fs::read_to_string(&spec.pid_file) else {
        return Ok(false);
    };
    let is_ours = |pid: u32| {
        let program = spec.program.file_name().map(std::ffi::OsStr::to_string_lossy);
        proc::program_name(pid).as_deref() == program.as_deref()
    };
    let Ok(pid) = text.trim().parse::<u32>() else {
        return remove(&spec.pid_file).map(|()| false);
    };
    let Some(target) = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw) else {
        return remove(&spec.pid_file).map(|()| false);
    };
    let left = is_ours(pid);
    if left {
        output.line(
            "ja4",
            &format!(
                "ending {} (pid {pid}), left over from an earlier run",
                spec.process.name()
            ),
        );
        let started = Instant::now();
        rustix::process::kill_process(target, Signal::TERM).ok();
        while is_ours(pid) {
            std::thread::sleep(STEP);
            if started.elapsed() > spec.stop_within {
                rustix::process::kill_process(target, Signal::KILL)
                    .with_context(|| format!("could not end {} (pid {pid})", spec.process.name()))?;
                std::thread::sleep(STEP);
                break;
            }
        }
    }
    remove(&spec.pid_file)?;
    Ok(left)
}

fn remove(path: &Path) -> anyhow::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("could not remove {}", path.display()))
        }
        _ => Ok(()),
    }
}
