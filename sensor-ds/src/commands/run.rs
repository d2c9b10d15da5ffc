//! `ja4-sensor run`: frames of interfaces or of a file in, events to the receiver's socket out.
//!
//! One thread reads and decides; the emitter's thread writes; the admin endpoint reads what the first
//! publishes twice a second. Order of the start: configuration, log, interfaces, rights given up, threads.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use ja4_common::admin::{self, Admin};
use ja4_common::exit::Failure;
use ja4_common::{Shutdown, config, ledger, logging};
use ja4_emit::{EmitConfig, Emitter, SocketKind};
use rustix::event::{PollFd, PollFlags, Timespec};
use sensor_flow::{FlowTable, Frame, Seed, TimeNs, ViewMerger};

use crate::capture::interfaces::Interfaces;
use crate::capture::live::{KernelCounts, LiveCapture};
use crate::capture::offline::{Next, OfflineCapture};
use crate::config::{Input, Pace, SensorConfig, SensorSettings};
use crate::convert::Converter;
use crate::metrics::{Metrics, Totals};
use crate::pipeline::Pipeline;
use crate::rights;

/// How often counts are published, and the longest sleep without frames.
const PUBLISH_INTERVAL: Duration = Duration::from_millis(500);

/// Turns in which the rings are emptied before the wall clock moves the timers; with more to read, the
/// times of frames move them.
const TURNS_PER_TICK_MAX: usize = 64;

/// How long frames that were captured before a stop request are still read: a full ring of the largest size
/// takes less.
const LAST_READ_MAX: Duration = Duration::from_secs(5);

/// Between two looks for the last block.
const LAST_READ_PAUSE: Duration = Duration::from_millis(5);

/// Least time between two looks for hellos that waited long enough for their other views.
const RELEASE_PAUSE: Duration = Duration::from_millis(10);

/// Packets of an unpaced file between two looks at the emitter's buffer: their events fit the half of it
/// that is left free.
const PACKETS_PER_BUFFER_CHECK: u64 = 256;

/// Arguments of the command.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Configuration file (YAML).
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Print the configuration with all defaults and end.
    #[arg(long)]
    print_config: bool,
}

/// Runs the command until its input ends or a signal comes.
pub(crate) fn run(args: &Args, stdout: &mut dyn std::io::Write) -> Result<(), Failure> {
    let sensor_config: SensorConfig = config::load(&args.config).map_err(Failure::wrong_use)?;
    let settings = sensor_config.validate().map_err(|source| {
        Failure::wrong_use(
            anyhow::Error::new(source).context(format!("configuration {}", args.config.display())),
        )
    })?;
    if args.print_config {
        let text = config::print(&sensor_config).map_err(Failure::failed)?;
        return stdout.write_all(text.as_bytes()).map_err(Failure::failed);
    }
    logging::init(&sensor_config.process.log).map_err(Failure::wrong_use)?;
    let source = Source::open(&settings.input)?;
    // An interface that goes away and comes back must be opened again; a file is open.
    let kept = match source {
        Source::Live(_) => rights::Kept::NetRaw,
        Source::File { .. } => rights::Kept::Nothing,
    };
    rights::keep_only(kept).map_err(Failure::failed)?;
    let sensor = Sensor::start(&sensor_config, settings).map_err(Failure::failed)?;
    sensor.run(source).map_err(Failure::failed)
}

/// Where frames come from, opened.
enum Source {
    Live(Box<Interfaces>),
    File {
        capture: Box<OfflineCapture>,
        path: PathBuf,
        pace: Pace,
        offset_ns: i64,
        shift_to_now: bool,
    },
}

impl Source {
    fn open(input: &Input) -> Result<Self, Failure> {
        match input {
            Input::Interfaces(live) => {
                let interfaces = Interfaces::open(live).map_err(Failure::wrong_use)?;
                Ok(Self::Live(Box::new(interfaces)))
            }
            Input::File {
                path,
                pace,
                offset_ns,
                shift_to_now,
            } => {
                let capture = OfflineCapture::open(path).map_err(Failure::wrong_use)?;
                Ok(Self::File {
                    capture: Box::new(capture),
                    path: path.clone(),
                    pace: *pace,
                    offset_ns: *offset_ns,
                    shift_to_now: *shift_to_now,
                })
            }
        }
    }
}

/// A running sensor.
struct Sensor {
    pipeline: Pipeline,
    converter: Converter,
    emitter: Arc<Emitter>,
    settings: SensorSettings,
    shutdown: Shutdown,
    totals: Arc<Mutex<Totals>>,
    metrics: Metrics,
    admin: Arc<Admin>,
    ledger_file: Option<PathBuf>,
    kernel: KernelCounts,
    /// When the last frame was captured.
    frame_at: TimeNs,
    published_at: Instant,
}

impl Sensor {
    fn start(sensor_config: &SensorConfig, settings: SensorSettings) -> anyhow::Result<Self> {
        let shutdown = Shutdown::install().context("cannot catch signals")?;
        let boot = ja4_emit::random_boot().context("cannot get random numbers")?;
        let node = settings.output.node.clone().unwrap_or_else(host_name);
        let emit_config = EmitConfig {
            buffer_bytes: settings.output.buffer.as_usize(),
            ..EmitConfig::new(&settings.output.socket, SocketKind::Stream, "sensor", node, boot)
        };
        let emitter = Arc::new(Emitter::start(emit_config)?);
        let totals = Arc::new(Mutex::new(Totals::default()));
        let registry = prometheus::Registry::new();
        let metrics = Metrics::register(&registry)?;
        let admin = {
            let (totals, emitter) = (Arc::clone(&totals), Arc::clone(&emitter));
            Admin::new(registry, &["capture", "receiver"], move || {
                let counters = emitter.counters();
                totals
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .ledger(&counters)
            })
        };
        if let Some(listen) = &sensor_config.process.admin {
            admin::Server::start(listen, Arc::clone(&admin))?;
        }
        let ledger_file = sensor_config.process.ledger_file.clone();
        if let Some(path) = &ledger_file {
            admin::write_ledger_each_second(path.clone(), Arc::clone(&admin), shutdown.clone())?;
        }
        let merge = match &settings.input {
            Input::Interfaces(live) => live.merge(),
            Input::File { .. } => None,
        };
        let merger = match merge {
            Some(merge) => Some(ViewMerger::new(merge, random_seed()?)),
            None => None,
        };
        let pipeline = Pipeline::new(FlowTable::new(settings.flow.clone(), random_seed()?), merger);
        let converter = Converter {
            boot,
            own_networks: settings.flow.own.clone(),
            offset_ns: 0,
        };
        Ok(Self {
            pipeline,
            converter,
            emitter,
            settings,
            shutdown,
            totals,
            metrics,
            admin,
            ledger_file,
            kernel: KernelCounts::default(),
            frame_at: TimeNs::MIN,
            published_at: Instant::now(),
        })
    }

    fn run(mut self, source: Source) -> anyhow::Result<()> {
        let result = match source {
            Source::Live(mut interfaces) => self.capture(&mut interfaces),
            Source::File {
                mut capture,
                path,
                pace,
                offset_ns,
                shift_to_now,
            } => {
                self.converter.offset_ns = offset_ns;
                self.read_file(&mut capture, &path, pace, shift_to_now)
            }
        };
        self.end()?;
        result
    }

    // ---- live ----

    fn capture(&mut self, interfaces: &mut Interfaces) -> anyhow::Result<()> {
        tracing::info!("capturing on {}", interfaces.names().join(", "));
        self.publish_live(interfaces);
        while !self.shutdown.is_requested() {
            if self.read_all(interfaces) == 0 {
                self.wait(interfaces)?;
                self.follow(interfaces);
            }
            let is_tick = self.published_at.elapsed() >= PUBLISH_INTERVAL;
            if is_tick || self.pipeline.next_release().is_some_and(|at| at <= wall_now()) {
                // While frames lie in a ring, time is theirs: what they continue must not be let go before.
                let is_drained = (0..TURNS_PER_TICK_MAX).any(|_| self.read_all(interfaces) == 0);
                if is_drained {
                    self.pipeline.run_timers(wall_now());
                    self.send_events();
                }
            }
            if is_tick {
                self.follow(interfaces);
                interfaces.all().iter_mut().for_each(LiveCapture::retry);
                self.publish_live(interfaces);
            }
        }
        self.read_last(interfaces);
        self.read_kernel_counts(interfaces);
        Ok(())
    }

    /// Opens interfaces that came and lets go of those that went.
    fn follow(&self, interfaces: &mut Interfaces) {
        match interfaces.follow() {
            Ok(change) => {
                for name in change.came {
                    tracing::info!("{name} came, it is captured on");
                }
                for name in change.went {
                    tracing::info!("{name} went");
                    self.metrics.forget_interface(&name);
                }
            }
            Err(error) => {
                tracing::warn!("{error:#}; interfaces that come are not seen until this works again");
            }
        }
    }

    /// Reads what was captured before a stop request. Later frames may come faster than they are read; the last
    /// ones before it lie in a block that the kernel hands over only when the block's time is up.
    fn read_last(&mut self, interfaces: &mut Interfaces) {
        let (asked_at, until) = (wall_now(), Instant::now() + LAST_READ_MAX);
        let settled_after = interfaces
            .all()
            .iter()
            .map(LiveCapture::block_is_handed_over_after)
            .max()
            .unwrap_or_default();
        let mut last_frame = Instant::now();
        while Instant::now() < until && last_frame.elapsed() < settled_after {
            if self.read_all(interfaces) == 0 {
                std::thread::sleep(LAST_READ_PAUSE);
            } else if self.frame_at >= asked_at {
                return;
            } else {
                last_frame = Instant::now();
            }
        }
    }

    /// One turn over all interfaces; returns the number of frames.
    fn read_all(&mut self, interfaces: &mut Interfaces) -> usize {
        let mut n_frames = 0;
        for capture in interfaces.all() {
            let (pipeline, frame_at) = (&mut self.pipeline, &mut self.frame_at);
            n_frames += capture.read(|at, frame| {
                pipeline.feed(at, frame);
                *frame_at = at;
            });
            self.send_events();
        }
        n_frames
    }

    /// Sleeps until a frame lies ready, a stop is asked for or counts are to be published.
    fn wait(&self, interfaces: &Interfaces) -> anyhow::Result<()> {
        let stop = self.shutdown.event_fd();
        let fds = interfaces.fds().chain([stop]);
        let mut fds: Vec<PollFd<'_>> = fds
            .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN))
            .collect();
        let mut left = PUBLISH_INTERVAL.saturating_sub(self.published_at.elapsed());
        if let Some(at) = self.pipeline.next_release() {
            let until = u64::try_from(at.saturating_sub(wall_now())).unwrap_or(0);
            // A release is not worth waking more often than this.
            left = left.min(Duration::from_nanos(until).max(RELEASE_PAUSE));
        }
        let timeout = Timespec {
            tv_sec: 0,
            tv_nsec: left.subsec_nanos().into(),
        };
        match rustix::event::poll(&mut fds, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error).context("cannot wait for frames"),
        }
    }

    /// Publishes counts and whether all interfaces are there.
    fn publish_live(&mut self, interfaces: &mut Interfaces) {
        self.read_kernel_counts(interfaces);
        let away = interfaces.away();
        if away.is_empty() {
            self.admin.set_ready("capture");
        } else {
            self.admin.set_unready("capture", away.join("; "));
        }
        for capture in interfaces.all() {
            self.metrics
                .set_interface(capture.name(), capture.away().is_none());
        }
        self.publish();
    }

    /// The one reader of the kernel's statistics.
    fn read_kernel_counts(&mut self, interfaces: &mut Interfaces) {
        let sum = interfaces.kernel_counts();
        let n_new = sum.dropped - self.kernel.dropped;
        if n_new > 0 {
            tracing::warn!(
                "the kernel dropped {n_new} frames: raise capture.buffer or narrow capture.filter"
            );
        }
        self.kernel = sum;
    }

    // ---- file ----

    fn read_file(
        &mut self,
        capture: &mut OfflineCapture,
        path: &Path,
        pace: Pace,
        shift_to_now: bool,
    ) -> anyhow::Result<()> {
        let (started, mut first_at, mut number) = (Instant::now(), None, 0);
        self.admin.set_ready("capture");
        while !self.shutdown.is_requested() {
            let packet = match capture.next()? {
                Next::Packet(packet) => packet,
                Next::End => break,
                Next::Damaged(reason) => {
                    tracing::warn!(
                        "{path:?} is damaged after frame {number}, the rest is left out: {reason}"
                    );
                    break;
                }
            };
            let first = *first_at.get_or_insert_with(|| {
                if shift_to_now {
                    let shift = wall_now().saturating_sub(packet.at);
                    self.converter.offset_ns = self.converter.offset_ns.saturating_add(shift);
                }
                packet.at
            });
            number += 1;
            match pace {
                Pace::Recorded => self.keep_pace(started, packet.at.saturating_sub(first)),
                Pace::Unpaced if number % PACKETS_PER_BUFFER_CHECK == 0 => self.wait_for_room(),
                Pace::Unpaced => {}
            }
            self.pipeline.feed(
                packet.at,
                &Frame {
                    link: packet.link,
                    interface: 0,
                    number,
                    bytes: packet.bytes,
                },
            );
            self.send_events();
            if self.published_at.elapsed() >= PUBLISH_INTERVAL {
                self.publish();
            }
        }
        tracing::info!("read {number} frames of {path:?}");
        Ok(())
    }

    /// Sleeps until `elapsed_ns` after the start; counts are published meanwhile.
    fn keep_pace(&mut self, started: Instant, elapsed_ns: TimeNs) {
        let due = started + Duration::from_nanos(u64::try_from(elapsed_ns).unwrap_or(0));
        loop {
            let left = due.saturating_duration_since(Instant::now());
            // Less than this is finer than a sleep.
            if left < Duration::from_millis(1) || self.shutdown.wait_for(left.min(PUBLISH_INTERVAL)) {
                return;
            }
            self.publish();
        }
    }

    /// An unpaced file is read no faster than the receiver takes its events: nothing is dropped.
    fn wait_for_room(&mut self) {
        let high = self.settings.output.buffer.as_usize() / 2;
        while self.emitter.counters().buffered_bytes > high
            && !self.shutdown.wait_for(Duration::from_millis(2))
        {
            if self.published_at.elapsed() >= PUBLISH_INTERVAL {
                self.publish();
            }
        }
    }

    // ---- both ----

    fn send_events(&mut self) {
        while let Some(flow_event) = self.pipeline.poll_event() {
            let (ts_ns, event) = self.converter.convert(&flow_event);
            // The emitter counts what it drops; the ledger and its status events say so.
            let _outcome = self.emitter.send(ts_ns, &event);
        }
    }

    fn publish(&mut self) {
        self.published_at = Instant::now();
        let table = self.pipeline.table();
        let totals = Totals {
            kernel: self.kernel,
            flow: table.counters().clone(),
            merge: self.pipeline.merge_counters(),
            n_opening: table.n_opening(),
            n_tracked: table.n_tracked(),
            reassembly_bytes: table.reassembly_bytes(),
            offset_ns: Some(self.converter.offset_ns).filter(|offset_ns| *offset_ns != 0),
        };
        let emitted = self.emitter.counters();
        self.metrics.update(&totals, &emitted);
        if emitted.connected {
            self.admin.set_ready("receiver");
        } else {
            self.admin
                .set_unready("receiver", format!("nobody listens: {}", emitted.last_error));
        }
        *self.totals.lock().unwrap_or_else(PoisonError::into_inner) = totals;
    }

    /// Waits for the receiver's acknowledgement and says what is left.
    fn end(&mut self) -> anyhow::Result<()> {
        self.pipeline.flush();
        self.send_events();
        let report = self.emitter.stop(self.settings.output.drain_timeout.0);
        if report.unacknowledged > 0 {
            tracing::warn!(
                "{} events were not acknowledged before the end",
                report.unacknowledged
            );
        }
        self.publish();
        let last = self.admin.ledger();
        tracing::info!(
            "ledger {}",
            serde_json::to_string(&last).context("cannot write the ledger")?
        );
        match &self.ledger_file {
            Some(path) => {
                ledger::write_file(path, &last).with_context(|| format!("cannot write {}", path.display()))
            }
            None => Ok(()),
        }
    }
}

fn wall_now() -> TimeNs {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    TimeNs::try_from(since.as_nanos()).unwrap_or(TimeNs::MAX)
}

fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Keys come from an attacker: the seed must not be guessable.
fn random_seed() -> anyhow::Result<Seed> {
    let mut words = [0; 4];
    for word in &mut words {
        *word = ja4_emit::random_boot().context("cannot get random numbers")?.0;
    }
    Ok(Seed(words))
}
