//! `ja4-correlator run`: sockets in, rows out, in one thread; the store is fed from another.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ja4_common::admin::{self, Admin};
use ja4_common::exit::Failure;
use ja4_common::ledger::Ledger;
use ja4_common::{Shutdown, ledger as ledger_file};
use ja4_model::BootId;
use ja4_spool::{Spool, SpoolConfig};
use ja4_transport::remote::RemoteConfig;
use ja4_transport::{Batch as Frames, Input, OriginId, Receiver, ReceiverConfig};

use crate::batch::{Batch, SegmentMeta};
use crate::clock;
use crate::config::{CorrelatorConfig, Durability};
use crate::core::{Core, Incoming, KnownProducer};
use crate::ledger::{self, ReceiverDrops};
use crate::metrics::Metrics;
use crate::outbox::Outbox;
use crate::record::Recorder;
use crate::redact::{self, Redactor};
use crate::report::Reporter;
use crate::settlement::{ProducerKey, Settlement};
use crate::sinks::clickhouse::{Sender, SenderParts};
use crate::sinks::lines::{Lines, Target};
use crate::writer::{BATCH_ROWS_MAX, SealPolicy, Writer};

/// Longest sleep of the loop: shutdown and completed batches are looked at this often.
const TICK: Duration = Duration::from_millis(50);

/// Most producer processes whose settled prefix is kept for their return. A hundred bytes each; those that the
/// settlement has forgotten go first when there are more.
const MAX_TOLD: usize = 1 << 16;

/// Most producer processes that are remembered where nodes forward: each settlement keeps about a hundred bytes of one.
const MAX_REMOTE_ORIGINS: usize = 1 << 14;

/// How often the ledger and the gauges are brought up to date.
const PUBLISH_EVERY: Duration = Duration::from_millis(250);

/// First number that is not settled, by (source, node, boot): what a producer that connects is told.
pub(crate) type Unsettled = Arc<Mutex<HashMap<(String, String, BootId), u64>>>;

/// Files of a recording.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Recording<'p> {
    /// Where events of sensors go.
    pub(crate) tls: &'p Path,
    /// Where events of HTTP sources go.
    pub(crate) http: &'p Path,
}

/// Runs until SIGTERM or SIGINT, and writes what comes in to a recording if one is asked for.
pub(crate) fn run(config: &CorrelatorConfig, recording: Option<Recording<'_>>) -> Result<(), Failure> {
    ja4_common::logging::init(&config.process.log).map_err(Failure::wrong_use)?;
    let shutdown = Shutdown::install().map_err(Failure::failed)?;
    let registry = prometheus::Registry::new();
    let metrics = Metrics::register(&registry).map_err(Failure::failed)?;
    let latest = Arc::new(Mutex::new(Ledger::default()));
    let shown = Arc::clone(&latest);
    let conditions: &[&'static str] = if config.store.disabled {
        &["sources"]
    } else {
        &["sources", "store"]
    };
    let admin = Admin::new(registry, conditions, move || {
        shown.lock().unwrap_or_else(PoisonError::into_inner).clone()
    });
    if let Some(listen) = &config.process.admin {
        admin::Server::start(listen, Arc::clone(&admin)).map_err(Failure::failed)?;
    }
    let report = Reporter::default();
    let mut process = Process::start(config, recording, &shutdown, &admin, &metrics, (latest, report))?;
    if let Some(path) = &config.process.ledger_file {
        admin::write_ledger_each_second(path.clone(), Arc::clone(&admin), shutdown.clone())
            .map_err(Failure::failed)?;
    }
    // Whoever waits for readiness then asks what was counted before.
    process.publish();
    admin.set_ready("sources");
    for address in process.receiver.remote_addresses() {
        tracing::info!("listening on {address}");
    }
    tracing::info!("joining requests with connections");
    while !shutdown.is_requested() && process.receiver.is_running() {
        process.turn();
    }
    let is_deaf = !shutdown.is_requested();
    process.stop(config);
    if let Some(path) = &config.process.ledger_file {
        ledger_file::write_file(path, &admin.ledger()).map_err(Failure::failed)?;
    }
    if is_deaf {
        return Err(Failure::failed(
            "nothing is read from the sockets any more; the line above says why, start it again",
        ));
    }
    Ok(())
}

/// Everything that runs.
struct Process {
    core: Core,
    writer: Writer,
    recorder: Option<Recorder>,
    receiver: Receiver,
    producers: HashMap<OriginId, KnownProducer>,
    /// The receiver's number of a producer, by the settlement's.
    origins: HashMap<u32, OriginId>,
    unsettled: Unsettled,
    sender: Option<JoinHandle<()>>,
    latest: Arc<Mutex<Ledger>>,
    report: Reporter,
    metrics: Metrics,
    durability: &'static str,
    published: Instant,
    next_tend: Instant,
}

impl Process {
    fn start(
        config: &CorrelatorConfig,
        recording: Option<Recording<'_>>,
        shutdown: &Shutdown,
        admin: &Arc<Admin>,
        metrics: &Metrics,
        (latest, report): (Arc<Mutex<Ledger>>, Reporter),
    ) -> Result<Self, Failure> {
        let key = redact::load_or_make_key(&config.redaction.key_file).map_err(Failure::failed)?;
        let redactor = Redactor::configured(&key, &config.redaction);
        let started = clock::now();
        let recorder = recording
            .map(|files| start_recorder(files, redactor.clone(), started.wall_ns))
            .transpose()?;
        let (outbox, before) = open_outbox(config)?;
        let lines = open_lines(config)?;
        let seed = random_seed()?;
        let before = before.unwrap_or_default();
        let mut core = Core::new(
            config.join.settings(),
            seed,
            started,
            redactor,
            (before.marks, before.totals),
        );
        let unsettled: Unsettled = Arc::default();
        publish_unsettled(core.settlement_mut(), &unsettled, None, &HashMap::new());
        let remotes = report.listeners(config)?;
        let receiver = start_receiver(config, &unsettled, remotes)?;
        let (writer, sender) = match outbox {
            None => (Writer::lines_only(lines), None),
            Some(outbox) => {
                let batch = Batch::new(&config.store.connection.logs_database);
                let policy = SealPolicy {
                    rows: config.spool.batch_rows.clamp(1, BATCH_ROWS_MAX),
                    bytes: config.spool.batch_bytes.as_usize().max(1),
                    age: config.spool.batch_age.0,
                    sealed_is_safe: config.spool.durability == Durability::Spool,
                };
                let token_prefix = format!("{:016x}{:016x}", seed[0], seed[1]);
                let waker = receiver.waker();
                let sender = SenderParts {
                    store: config.store.connection.clone(),
                    outbox: outbox.clone(),
                    admin: Arc::clone(admin),
                    metrics: metrics.clone(),
                    report: report.clone(),
                    shutdown: shutdown.clone(),
                    notify: Box::new(move || waker.wake()),
                };
                let sender = Sender::new(sender).map_err(Failure::wrong_use)?;
                (
                    Writer::to_store(batch, outbox, policy, token_prefix, lines, core.before()),
                    Some(spawn_sender(sender)?),
                )
            }
        };
        Ok(Self {
            core,
            writer,
            recorder,
            receiver,
            producers: HashMap::new(),
            origins: HashMap::new(),
            unsettled,
            sender,
            latest,
            report,
            metrics: metrics.clone(),
            durability: if config.store.disabled {
                "none"
            } else {
                config.spool.durability.name()
            },
            published: Instant::now(),
            next_tend: Instant::now(),
        })
    }

    /// Takes one input or waits a little, then lets time pass.
    fn turn(&mut self) {
        let input = self.receiver.next(self.wait());
        if let Some(input) = input {
            self.take(input);
        }
        let now = Instant::now();
        if now < self.next_tend {
            return;
        }
        // Under load many small batches come a millisecond: timers need not be looked at for each.
        self.next_tend = now + Duration::from_millis(1);
        let both = clock::now();
        self.core.handle_timeout(both, &mut self.writer);
        if self.writer.tend(both, &mut self.core) {
            publish_unsettled(
                self.core.settlement_mut(),
                &self.unsettled,
                Some(&self.receiver),
                &self.origins,
            );
        }
        if now.duration_since(self.published) >= PUBLISH_EVERY {
            self.published = now;
            self.writer.flush_lines();
            if let Some(recorder) = &mut self.recorder {
                recorder.flush();
            }
            self.publish();
        }
    }

    fn wait(&self) -> Duration {
        let next = [self.core.next_deadline(), self.writer.next_deadline()]
            .into_iter()
            .flatten()
            .min();
        let left = next.map(|at| Duration::from_nanos(at.saturating_sub(clock::mono_ns())));
        left.map_or(TICK, |left| left.clamp(Duration::from_millis(1), TICK))
    }

    fn take(&mut self, input: Input) {
        match input {
            Input::Opened(peer) => {
                let producer = self
                    .core
                    .opened(peer.source.as_bytes(), peer.node.as_bytes(), peer.boot);
                self.origins.insert(producer.slot(), peer.origin);
                self.producers.insert(peer.origin, producer);
            }
            Input::Batch(frames) => self.take_frames(&frames),
            Input::Closed(peer) => {
                let Some(producer) = self.producers.get(&peer.origin) else {
                    return;
                };
                tracing::debug!("{} of {} closed its connection", peer.source, producer.node());
                if self.core.closed(producer) {
                    self.origins.remove(&producer.slot());
                    self.producers.remove(&peer.origin);
                }
            }
        }
    }

    fn take_frames(&mut self, frames: &Frames) {
        let Some(producer) = self.producers.get(&frames.peer.origin) else {
            return;
        };
        let producer = producer.clone();
        let now = clock::now();
        for frame in frames.frames() {
            if frames.announced {
                let event = incoming(&frame);
                self.core
                    .handle_announced(now, &producer, event, &mut self.writer);
                continue;
            }
            if let Some(recorder) = &mut self.recorder {
                recorder.event(&producer, frames.peer.role, &frame, now.wall_ns);
            }
            self.core
                .handle(now, &producer, incoming(&frame), &mut self.writer);
        }
    }

    fn publish(&self) {
        let drops = receiver_drops(&self.receiver);
        let mut ledger = ledger::ledger(&self.core, &self.writer, &drops, self.durability);
        ledger
            .stages
            .extend(self.recorder.iter().flat_map(Recorder::stages));
        let memory = self.core.memory();
        self.metrics.connections.set(gauge(memory.connections));
        self.metrics.pending_requests.set(gauge(memory.pending_requests));
        if let Some(outbox) = self.writer.outbox() {
            let (segments, bytes) = outbox.backlog();
            self.metrics.spool_segments.set(gauge(segments));
            self.metrics
                .spool_bytes
                .set(i64::try_from(bytes).unwrap_or(i64::MAX));
        }
        self.metrics.follow(&ledger, &self.core.totals);
        let counters = self.receiver.counters();
        self.metrics.follow_listeners(&counters);
        self.report.publish(&ledger, &counters);
        *self.latest.lock().unwrap_or_else(PoisonError::into_inner) = ledger;
    }

    /// Reads what is there, gives out what waits, seals, sends, acknowledges, closes.
    fn stop(mut self, config: &CorrelatorConfig) {
        let deadline = Instant::now() + config.drain_timeout.0;
        self.receiver.stop_reading();
        loop {
            match self.receiver.next(TICK) {
                Some(input) => self.take(input),
                None if self.receiver.reading_has_stopped() || Instant::now() >= deadline => break,
                None => {}
            }
        }
        let now = clock::now();
        self.core.handle_shutdown(now, &mut self.writer);
        if !self.writer.finish(now, &mut self.core) {
            tracing::error!("the last batch could not be kept: its producers will send its events again");
        }
        if let Some(outbox) = self.writer.outbox() {
            outbox.close();
        }
        if let Some(sender) = self.sender.take() {
            while !sender.is_finished() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(10));
            }
            if sender.is_finished() && sender.join().is_err() {
                tracing::error!("the thread that speaks to the store ended badly");
            }
        }
        if let Some(outbox) = self.writer.outbox() {
            say_what_is_left(outbox);
        }
        self.writer.settle_completed(&mut self.core);
        publish_unsettled(
            self.core.settlement_mut(),
            &self.unsettled,
            Some(&self.receiver),
            &self.origins,
        );
        self.publish();
        self.writer.stop_lines();
        if let Some(recorder) = self.recorder.take() {
            recorder.stop();
        }
        self.receiver.shutdown();
        tracing::info!("stopped");
    }
}

/// At the end: what becomes of batches that the store has not taken.
fn say_what_is_left(outbox: &Outbox) {
    let (n_batches, _) = outbox.backlog();
    if n_batches == 0 {
        return;
    }
    if outbox.is_on_disk() {
        tracing::warn!(
            "the store has not taken {n_batches} batches: they stay in the spool for the next start"
        );
    } else {
        tracing::error!(
            "the store has not taken {n_batches} batches, and durability is memory: what acknowledged sockets \
             brought comes again, the rest is lost"
        );
    }
}

fn incoming<'f>(frame: &ja4_transport::Frame<'f>) -> Incoming<'f> {
    Incoming {
        json: frame.bytes,
        kind: frame.kind,
        seq: frame.id.seq,
        id_kind: frame.id_kind,
        recv_ns: frame.recv_ns,
    }
}

fn gauge(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

fn open_outbox(config: &CorrelatorConfig) -> Result<(Option<Outbox>, Option<SegmentMeta>), Failure> {
    if config.store.disabled {
        return Ok((None, None));
    }
    match config.spool.durability {
        Durability::Memory => Ok((Some(Outbox::in_memory(config.spool.max_bytes.0)), None)),
        Durability::Spool => {
            let spool = open_spool(config, "batches")?;
            let (outbox, last) = Outbox::on_disk(spool);
            Ok((Some(outbox), last))
        }
    }
}

/// Opens the spool's folder; what is left in it, said in `units`, is sent first.
pub(crate) fn open_spool(config: &CorrelatorConfig, units: &str) -> Result<Spool, Failure> {
    let spool_config = SpoolConfig {
        max_bytes: config.spool.max_bytes.0,
        fsync: true,
    };
    let spool = Spool::open(&config.spool.dir, spool_config).map_err(Failure::failed)?;
    let recovery = spool.recovery();
    if recovery.segments > 0 {
        tracing::info!(
            "{} {units} ({} bytes) are in the spool and are sent first",
            recovery.segments,
            recovery.bytes
        );
    }
    Ok(spool)
}

fn start_recorder(
    files: Recording<'_>,
    redactor: Redactor,
    started_ns: ja4_model::WallNs,
) -> Result<Recorder, Failure> {
    Recorder::start(files.tls, files.http, redactor, started_ns).map_err(|error| {
        Failure::failed(format!(
            "recording into {} and {} cannot begin, neither may be there and both folders must be writable: {error}",
            files.tls.display(),
            files.http.display()
        ))
    })
}

fn open_lines(config: &CorrelatorConfig) -> Result<Vec<Lines>, Failure> {
    let file = config.file.clone().map(Target::File);
    let stdout = config.stdout.then_some(Target::Stdout);
    file.into_iter()
        .chain(stdout)
        .map(|target| Lines::start(&target).map_err(Failure::failed))
        .collect()
}

fn random_seed() -> Result<[u64; 4], Failure> {
    let mut seed = [0; 4];
    for word in &mut seed {
        *word = getrandom::u64().map_err(|error| Failure::failed(error.to_string()))?;
    }
    Ok(seed)
}

/// Name of this host.
pub(crate) fn node_name(config: &CorrelatorConfig) -> String {
    config
        .node
        .clone()
        .unwrap_or_else(|| rustix::system::uname().nodename().to_string_lossy().into_owned())
}

pub(crate) fn start_receiver(
    config: &CorrelatorConfig,
    unsettled: &Unsettled,
    remotes: Vec<RemoteConfig>,
) -> Result<Receiver, Failure> {
    let listeners = config
        .sources
        .iter()
        .map(crate::config::SourceConfig::listener)
        .collect();
    let unsettled = Arc::clone(unsettled);
    let next_unsettled = Arc::new(move |source: &str, node: &str, boot: BootId| {
        let unsettled = unsettled.lock().unwrap_or_else(PoisonError::into_inner);
        unsettled
            .get(&(source.to_owned(), node.to_owned(), boot))
            .copied()
            .unwrap_or(0)
    });
    let mut receiver = ReceiverConfig::new(node_name(config), listeners, next_unsettled);
    if !remotes.is_empty() {
        // Every child of every web server of the cluster is one.
        receiver.max_origins = MAX_REMOTE_ORIGINS;
    }
    receiver.remotes = remotes;
    Receiver::start(receiver).map_err(Failure::failed)
}

fn spawn_sender(sender: Sender) -> Result<JoinHandle<()>, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::failed)?;
    std::thread::Builder::new()
        .name("store".into())
        .spawn(move || runtime.block_on(sender.run()))
        .map_err(Failure::failed)
}

/// Tells producers, connected or to come, up to where their events are safe.
pub(crate) fn publish_unsettled(
    settlement: &mut Settlement,
    unsettled: &Unsettled,
    receiver: Option<&Receiver>,
    origins: &HashMap<u32, OriginId>,
) {
    let mut table = unsettled.lock().unwrap_or_else(PoisonError::into_inner);
    if table.len() >= MAX_TOLD {
        table.retain(|(source, node, boot), _| {
            settlement.knows(&ProducerKey {
                source: source.clone().into(),
                node: node.clone().into(),
                boot: *boot,
            })
        });
    }
    for (slot, key, upto) in settlement.take_changed() {
        let (source, node) = (
            key.source.to_str_lossy().into_owned(),
            key.node.to_str_lossy().into_owned(),
        );
        table.insert((source, node, key.boot), upto);
        if let (Some(receiver), Some(origin)) = (receiver, origins.get(&slot)) {
            receiver.ack(*origin, upto);
        }
    }
}

/// What the sockets dropped, by source and reason.
pub(crate) fn receiver_drops(receiver: &Receiver) -> ReceiverDrops {
    let mut drops: ReceiverDrops = BTreeMap::new();
    for identity in receiver.counters().identities {
        let by_reason = drops.entry(identity.source.to_string()).or_default();
        for (reason, n) in identity.dropped {
            *by_reason.entry(reason.name().to_owned()).or_insert(0) += n;
        }
    }
    drops
}
