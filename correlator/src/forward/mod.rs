//! `mode: forward`: a node's sockets in, a correlator elsewhere out, a spool on disk between them.
//!
//! ```text
//! sockets ─▶ receiver ─▶ Forwarder: known? redact, open connections ─▶ segment (fsync) ─▶ Uplink ═gRPC═▶ correlator
//!    ▲                                                       │                             │
//!    └────────────────────── ack ◀───────────────────────────┘        removed when settled ◀┘
//! ```
//!
//! What the rest relies on: an event is acknowledged to its producer when its segment is on disk, and its segment is
//! removed when the correlator has settled all of it. Producers keep their names and numbers over the hop.

mod facts;
mod open;
mod outbox;
mod redact_json;
mod segment;
mod uplink;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use correlator_engine::Now;
use ja4_common::Shutdown;
use ja4_common::admin::{self, Admin};
use ja4_common::exit::{self, Failure};
use ja4_common::ledger::{self as ledger_file, Ledger, Stage};
use ja4_model::envelope::{Envelope, Key};
use ja4_model::{Event, EventKind, Pair, decode};
use ja4_transport::remote::{CertificateFiles, CredentialFiles, LinkConfig};
use ja4_transport::{Batch as Frames, Frame, Input, OriginId, Peer, Receiver};

use self::facts::{FactsMaker, Sensor};
use self::open::{OpenConnections, OpenNote};
pub(crate) use self::outbox::Backlog;
use self::outbox::{Outbox, OutboxError};
use self::segment::{Bundle, Closed, ForwardMeta, ProducerName};
pub(crate) use self::uplink::LinkState;
use self::uplink::Uplink;
use crate::clock;
use crate::config::{CorrelatorConfig, Durability, ForwardSection};
use crate::metrics::ForwardMetrics;
use crate::payload::Origin;
use crate::redact::{self, Redactor};
use crate::run::{self, Unsettled};
use crate::settlement::{Arrival, ProducerKey, Settlement};

/// Longest sleep of the loop.
const TICK: Duration = Duration::from_millis(50);

/// How often ledger and gauges are brought up to date.
const PUBLISH_EVERY: Duration = Duration::from_millis(250);

/// Pause between tries to seal while the spool's disk is full or broken.
const RESEAL_PAUSE_NS: u64 = 1_000_000_000;

/// While nothing can be sealed this is said again so often.
const SAY_AGAIN_NS: u64 = 30_000_000_000;

/// How often the batch limit a bundle may outgrow while nothing can be sealed, before it is dropped and counted.
const UNSEALED_FACTOR: usize = 16;

/// With more segments than this in the spool the correlator lags behind or is away.
const LAGGING_SEGMENTS: usize = 100;

/// Then a bundle of fewer bytes is sealed at this age: a file takes a block of the disk however small it is. Producers
/// keep 8 MiB meanwhile.
const SMALL_BUNDLE_BYTES: usize = 64 << 10;
const LAGGING_AGE: Duration = Duration::from_secs(1);

/// Runs until SIGTERM or SIGINT.
pub(crate) fn run(config: &CorrelatorConfig) -> Result<(), Failure> {
    ja4_common::logging::init(&config.process.log).map_err(Failure::wrong_use)?;
    let section = check(config)?;
    let shutdown = Shutdown::install().map_err(Failure::failed)?;
    let registry = prometheus::Registry::new();
    let metrics = ForwardMetrics::register(&registry).map_err(Failure::failed)?;
    let latest = Arc::new(Mutex::new(Ledger::default()));
    let shown = Arc::clone(&latest);
    let admin = Admin::new(registry, &["sources"], move || {
        shown.lock().unwrap_or_else(PoisonError::into_inner).clone()
    });
    let sensor = section
        .sensor_admin
        .clone()
        .map(|admin| Sensor::start(admin, section.facts_interval.0))
        .transpose()
        .map_err(Failure::failed)?;
    if let Some(sensor) = sensor.clone() {
        admin.add_metrics(move || sensor.metrics());
    }
    if let Some(listen) = &config.process.admin {
        admin::Server::start(listen, Arc::clone(&admin)).map_err(Failure::failed)?;
    }
    let mut forwarder = Forwarder::start(config, section, sensor, &shutdown, metrics, latest)?;
    if let Some(path) = &config.process.ledger_file {
        admin::write_ledger_each_second(path.clone(), Arc::clone(&admin), shutdown.clone())
            .map_err(Failure::failed)?;
    }
    forwarder.publish();
    admin.set_ready("sources");
    tracing::info!("forwarding events to {}", section.address);
    while !shutdown.is_requested() && forwarder.receiver.is_running() {
        forwarder.turn();
    }
    let is_deaf = !shutdown.is_requested();
    forwarder.stop(config.drain_timeout.0);
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

/// What cannot go together is refused at the start.
fn check(config: &CorrelatorConfig) -> Result<&ForwardSection, Failure> {
    let Some(section) = &config.forward else {
        return Err(Failure::wrong_use("mode: forward needs the section forward"));
    };
    if config.spool.durability != Durability::Spool {
        return Err(Failure::wrong_use("mode: forward needs spool.durability: spool"));
    }
    if config.remote.is_some() || config.ingest.is_some() {
        return Err(Failure::wrong_use(
            "mode: forward has no listeners: take remote and ingest out",
        ));
    }
    if section.certificate.is_some() != section.key.is_some() {
        return Err(Failure::wrong_use(
            "forward.certificate and forward.key go together",
        ));
    }
    if section.token_file.is_some() && section.source.is_none() {
        return Err(Failure::wrong_use(
            "forward.token_file needs forward.source, the name that the token is for",
        ));
    }
    Ok(section)
}

fn credential_files(section: &ForwardSection) -> CredentialFiles {
    let own = section.certificate.clone().zip(section.key.clone());
    CredentialFiles {
        trust: section.trust.clone(),
        // A token says all: a listener that takes tokens asks for no certificate.
        own: own
            .filter(|_| section.token_file.is_none())
            .map(|(certificate, key)| CertificateFiles { certificate, key }),
        token: section.token_file.clone(),
    }
}

/// A producer process that is connected.
#[derive(Debug, Clone)]
struct Known {
    slot: u32,
    key: ProducerKey,
    name: ProducerName,
    peer: Arc<Peer>,
}

/// A bundle that could not be sealed yet.
#[derive(Debug)]
struct Stuck {
    closed: Closed,
    retry_mono_ns: u64,
    notes: Vec<OpenNote>,
}

/// The thread that reads the sockets.
struct Forwarder {
    settlement: Settlement,
    redactor: Redactor,
    receiver: Receiver,
    producers: HashMap<OriginId, Known>,
    origins: HashMap<u32, OriginId>,
    unsettled: Unsettled,
    bundle: Bundle,
    stuck: Option<Stuck>,
    said_stuck: Option<u64>,
    outbox: Outbox,
    open: Arc<Mutex<OpenConnections>>,
    /// What the bundle will change in it, once that is on disk.
    notes: Vec<OpenNote>,
    link: Arc<Mutex<LinkState>>,
    socket_drops: Arc<Mutex<facts::Drops>>,
    /// Events of this process that were refused or came again, by source and reason.
    refused: BTreeMap<String, BTreeMap<&'static str, u64>>,
    uplink: Option<JoinHandle<()>>,
    give_up: Arc<Mutex<Option<Instant>>>,
    batch_bytes: usize,
    batch_age: Duration,
    /// Many segments wait.
    lags: bool,
    metrics: ForwardMetrics,
    latest: Arc<Mutex<Ledger>>,
    published: Instant,
}

impl Forwarder {
    fn start(
        config: &CorrelatorConfig,
        section: &ForwardSection,
        sensor: Option<Arc<Sensor>>,
        shutdown: &Shutdown,
        metrics: ForwardMetrics,
        latest: Arc<Mutex<Ledger>>,
    ) -> Result<Self, Failure> {
        let key = redact::load_or_make_key(&config.redaction.key_file).map_err(Failure::failed)?;
        let redactor = Redactor::configured(&key, &config.redaction);
        let files = credential_files(section);
        let credentials = files.load().map_err(Failure::failed)?;
        let spool = run::open_spool(config, "segments")?;
        let (outbox, before) = Outbox::open(spool);
        let mut settlement = Settlement::default();
        settlement.restore(&before.marks);
        let unsettled: Unsettled = Arc::default();
        run::publish_unsettled(&mut settlement, &unsettled, None, &HashMap::new());
        let node = run::node_name(config);
        let receiver = run::start_receiver(config, &unsettled, Vec::new())?;
        let open = Arc::new(Mutex::new(OpenConnections::new(
            section.reannounce_memory.as_usize(),
        )));
        let link = Arc::<Mutex<LinkState>>::default();
        let socket_drops = Arc::<Mutex<facts::Drops>>::default();
        let give_up = Arc::<Mutex<Option<Instant>>>::default();
        let uplink = Uplink {
            link: LinkConfig {
                address: section.address.clone(),
                server_name: section.server_name.clone(),
                connect_timeout: section.connect_timeout.0,
            },
            node: node.clone(),
            source: section.source.clone(),
            window: section.window.as_usize(),
            retry_max: section.retry_max.0,
            reload_interval: section.reload_interval.0.max(Duration::from_millis(10)),
            facts_interval: section.facts_interval.0.max(Duration::from_millis(10)),
            outbox: outbox.clone(),
            open: Arc::clone(&open),
            state: Arc::clone(&link),
            facts: FactsMaker {
                node,
                sensor,
                drops: Arc::clone(&socket_drops),
            },
            shutdown: shutdown.clone(),
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(Failure::failed)?;
        let until = Arc::clone(&give_up);
        let is_over = move || {
            let until = until.lock().unwrap_or_else(PoisonError::into_inner);
            until.is_some_and(|until| Instant::now() >= until)
        };
        let uplink = std::thread::Builder::new()
            .name("uplink".into())
            .spawn(move || runtime.block_on(uplink.run(credentials, is_over)))
            .map_err(Failure::failed)?;
        Ok(Self {
            settlement,
            redactor,
            receiver,
            producers: HashMap::new(),
            origins: HashMap::new(),
            unsettled,
            bundle: Bundle::default(),
            notes: Vec::new(),
            stuck: None,
            said_stuck: None,
            outbox,
            open,
            link,
            socket_drops,
            refused: BTreeMap::new(),
            uplink: Some(uplink),
            give_up,
            batch_bytes: section.batch_bytes.as_usize().clamp(1, 8 << 20),
            batch_age: section.batch_age.0,
            lags: false,
            metrics,
            latest,
            published: Instant::now(),
        })
    }

    fn turn(&mut self) {
        if let Some(input) = self.receiver.next(self.wait()) {
            self.take(input);
        }
        let now = clock::now();
        if self.is_due(now.mono_ns) {
            self.seal(now);
        }
        self.shed();
        if self.published.elapsed() >= PUBLISH_EVERY {
            self.published = Instant::now();
            self.publish();
        }
    }

    fn wait(&self) -> Duration {
        let due = match (&self.stuck, self.bundle.opened_mono_ns) {
            (Some(stuck), _) => stuck.retry_mono_ns,
            (None, Some(opened)) => opened.saturating_add(nanos(self.age())),
            (None, None) => return TICK,
        };
        let left = Duration::from_nanos(due.saturating_sub(clock::mono_ns()));
        left.clamp(Duration::from_millis(1), TICK)
    }

    /// Age at which the bundle is sealed: while many segments wait, small ones would only fill the folder.
    fn age(&self) -> Duration {
        if self.lags && self.bundle.bytes() < SMALL_BUNDLE_BYTES {
            self.batch_age.max(LAGGING_AGE)
        } else {
            self.batch_age
        }
    }

    fn is_due(&self, mono_ns: u64) -> bool {
        if let Some(stuck) = &self.stuck {
            return mono_ns >= stuck.retry_mono_ns;
        }
        let opened = self.bundle.opened_mono_ns;
        opened.is_some_and(|opened| mono_ns.saturating_sub(opened) >= nanos(self.age()))
            || self.bundle.bytes() >= self.batch_bytes
    }

    fn take(&mut self, input: Input) {
        match input {
            Input::Opened(peer) => {
                let key = ProducerKey {
                    source: peer.source.to_string().into(),
                    node: peer.node.to_string().into(),
                    boot: peer.boot,
                };
                let name = ProducerName {
                    source: peer.source.to_string(),
                    boot: peer.boot.0,
                };
                let slot = self.settlement.connected(key.clone());
                self.outbox.opened(name.clone());
                self.origins.insert(slot, peer.origin);
                self.producers.insert(
                    peer.origin,
                    Known {
                        slot,
                        key,
                        name,
                        peer,
                    },
                );
            }
            Input::Batch(frames) => self.take_frames(&frames),
            Input::Closed(peer) => {
                let Some(known) = self.producers.get(&peer.origin).cloned() else {
                    return;
                };
                self.outbox.closed(&known.name);
                if self.settlement.disconnected(known.slot) {
                    self.origins.remove(&known.slot);
                    self.producers.remove(&peer.origin);
                }
            }
        }
    }

    fn take_frames(&mut self, frames: &Frames) {
        let Some(known) = self.producers.get(&frames.peer.origin).cloned() else {
            return;
        };
        let now = clock::now();
        for frame in frames.frames() {
            if let Err(reason) = self.take_frame(&known, &frame, now) {
                *self
                    .refused
                    .entry(known.name.source.clone())
                    .or_default()
                    .entry(reason)
                    .or_insert(0) += 1;
            }
        }
    }

    /// Puts an event into the bundle; else why not.
    fn take_frame(&mut self, known: &Known, frame: &Frame<'_>, now: Now) -> Result<(), &'static str> {
        let mut key = Key {
            kind: frame.kind,
            id_kind: frame.id_kind,
            id: frame.id,
            ts_ns: frame.recv_ns,
            recv_ns: frame.recv_ns,
            pair: Pair::default(),
        };
        if frame.kind == EventKind::Status {
            self.push(known, key, frame.bytes, now);
            return Ok(());
        }
        let origin = Origin {
            boot: known.slot,
            seq: frame.id.seq,
        };
        match self.settlement.arrive(origin, frame.recv_ns) {
            Arrival::New { .. } => {}
            Arrival::Duplicate => return Err("duplicate"),
            Arrival::TooFar => return Err("number_too_far"),
        }
        // What cannot be read cannot be searched for secrets, and would be refused by the join as well.
        let refuse = |forwarder: &mut Self, reason: &'static str| {
            forwarder.settlement.settle(origin);
            Err(reason)
        };
        let (head, mut event) = match decode::event(frame.bytes) {
            Ok(read) => read,
            Err(error) => return refuse(self, error.reason()),
        };
        if event.kind() != frame.kind {
            return refuse(self, "unknown_kind");
        }
        key.ts_ns = head.ts_ns;
        let mut redacted = None;
        match &mut event {
            Event::Request(request) => {
                key.pair = request.pair;
                match redact_json::redact(&self.redactor, request, frame.bytes) {
                    Ok(json) => redacted = json,
                    Err(reason) => return refuse(self, reason),
                }
            }
            Event::ClientHello(hello) => key.pair = hello.conn.pair,
            Event::Open(open) => key.pair = open.conn.pair,
            _ => {}
        }
        let json = redacted.as_deref().unwrap_or(frame.bytes);
        if !matches!(event, Event::Request(_) | Event::End(_)) {
            let envelope = || {
                let mut bytes = Vec::new();
                Envelope { key, json }.write(&mut bytes);
                Bytes::from(bytes)
            };
            self.notes
                .extend(OpenNote::of(&known.name, frame.id.seq, &event, envelope));
        }
        self.push(known, key, json, now);
        Ok(())
    }

    fn push(&mut self, known: &Known, key: Key, json: &[u8], now: Now) {
        let envelope = Envelope { key, json };
        self.bundle
            .push(known.slot, &known.key, known.peer.role, &envelope, now.mono_ns);
    }

    fn seal(&mut self, now: Now) {
        if let Some(stuck) = self.stuck.take()
            && !self.seal_closed(stuck.closed, stuck.notes, now)
        {
            return;
        }
        if !self.bundle.is_empty() {
            let closed = self.bundle.close();
            let notes = std::mem::take(&mut self.notes);
            self.seal_closed(closed, notes, now);
        }
    }

    /// True if it is on disk; else it is kept as stuck.
    fn seal_closed(&mut self, closed: Closed, notes: Vec<OpenNote>, now: Now) -> bool {
        let meta = ForwardMeta {
            marks: self.settlement.marks_after(&closed.origins),
            totals: segment::ForwardTotals::default(),
            producers: closed.producers.clone(),
            sealed_ns: now.wall_ns,
        };
        for (source, reasons) in std::mem::take(&mut self.refused) {
            for (reason, n) in reasons {
                self.outbox.count_dropped(&source, reason, n);
            }
        }
        match self.outbox.seal(meta, &closed.payload) {
            Ok(()) => {
                self.lags = self.outbox.n_segments() > LAGGING_SEGMENTS;
                if self.said_stuck.take().is_some() {
                    tracing::info!("the spool takes batches again");
                }
                self.open
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .take_in(notes);
                self.settlement.settle_all(&closed.origins);
                self.tell();
                true
            }
            Err(error) => {
                self.say_stuck(now.mono_ns, &error);
                self.stuck = Some(Stuck {
                    closed,
                    notes,
                    retry_mono_ns: now.mono_ns.saturating_add(RESEAL_PAUSE_NS),
                });
                false
            }
        }
    }

    /// Acknowledges what is safe.
    fn tell(&mut self) {
        run::publish_unsettled(
            &mut self.settlement,
            &self.unsettled,
            Some(&self.receiver),
            &self.origins,
        );
    }

    fn say_stuck(&mut self, mono_ns: u64, error: &OutboxError) {
        let is_news = self
            .said_stuck
            .is_none_or(|said| mono_ns.saturating_sub(said) >= SAY_AGAIN_NS);
        if is_news {
            self.said_stuck = Some(mono_ns);
            tracing::error!(
                "a batch cannot be sealed, it waits in memory and nothing of it is acknowledged; \
                 free space where spool.dir is, or set another folder: {}",
                exit::chain(error)
            );
        }
    }

    /// While nothing can be sealed memory must not grow without end: the newest events are dropped and counted.
    fn shed(&mut self) {
        if self.stuck.is_none() || self.bundle.bytes() < UNSEALED_FACTOR.saturating_mul(self.batch_bytes) {
            return;
        }
        let events = self.bundle.events_by_source();
        let closed = self.bundle.close();
        self.notes.clear();
        for (source, n) in &events {
            self.outbox.count_dropped(source, "no_space", *n);
        }
        self.settlement.settle_all(&closed.origins);
        self.tell();
        tracing::error!(
            "{} events are dropped and counted: nothing can be sealed and memory is full",
            closed.origins.len()
        );
    }

    fn publish(&mut self) {
        let drops = run::receiver_drops(&self.receiver);
        self.socket_drops
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone_from(&drops);
        let ledger = self.ledger(&drops);
        let link = self.link.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        self.metrics
            .follow(&ledger, &self.outbox.backlog(), &link, (open.len(), open.evicted));
        drop(open);
        *self.latest.lock().unwrap_or_else(PoisonError::into_inner) = ledger;
    }

    /// Two stages for each source: what came in, and what is in the spool.
    fn ledger(&self, socket_drops: &facts::Drops) -> Ledger {
        let totals = self.outbox.totals();
        let backlog = self.outbox.backlog();
        let mut in_memory = self.bundle.events_by_source();
        for producer in self.stuck.iter().flat_map(|stuck| &stuck.closed.producers) {
            *in_memory.entry(producer.source.clone()).or_insert(0) += producer.events;
        }
        let mut sources: Vec<&String> = totals.input.keys().chain(totals.spool.keys()).collect();
        sources.extend(
            socket_drops
                .keys()
                .chain(in_memory.keys())
                .chain(self.refused.keys()),
        );
        sources.sort_unstable();
        sources.dedup();
        let mut ledger = Ledger::default();
        for source in sources {
            let sealed = totals.input.get(source).map_or(0, |flow| flow.passed);
            let mut input = Stage::new(format!("forward.input.{source}"));
            input.passed = sealed;
            input.pending = in_memory.get(source).copied().unwrap_or(0);
            let dropped = totals.input.get(source).map(|flow| &flow.dropped);
            for (reason, n) in dropped.into_iter().chain(socket_drops.get(source)).flatten() {
                input.drop_for(reason.clone(), *n);
            }
            for (reason, n) in self.refused.get(source).into_iter().flatten() {
                input.drop_for(*reason, *n);
            }
            input.received = input.passed + input.pending + input.dropped_total();
            let mut spool = Stage::new(format!("forward.spool.{source}"));
            spool.received = sealed;
            spool.pending = backlog.pending.get(source).copied().unwrap_or(0);
            for (reason, n) in totals
                .spool
                .get(source)
                .map(|flow| &flow.dropped)
                .into_iter()
                .flatten()
            {
                spool.drop_for(reason.clone(), *n);
            }
            spool.passed = sealed
                .saturating_sub(spool.pending)
                .saturating_sub(spool.dropped_total());
            ledger.stages.extend([input, spool]);
        }
        let link = self.link.lock().unwrap_or_else(PoisonError::into_inner).clone();
        ledger.facts.insert(
            "spool".to_owned(),
            serde_json::json!({
                "segments": backlog.segments,
                "bytes": backlog.bytes,
                "max_bytes": backlog.max_bytes,
                "damaged": backlog.damaged,
                "oldest_age_ms": backlog.oldest_age_ns / 1_000_000,
            }),
        );
        ledger.facts.insert(
            "link".to_owned(),
            serde_json::json!({
                "connected": link.connected,
                "connects": link.connects,
                "failures": link.failures,
                "announced": link.announced,
                "reloads": link.reloads,
            }),
        );
        let sources = self.settlement.iter().map(|producer| {
            serde_json::json!({
                "source": producer.key.source.to_str_lossy(),
                "boot": producer.key.boot.to_string(),
                "received": producer.received(),
                "settled": producer.settled(),
                "duplicates": producer.duplicates,
            })
        });
        ledger.facts.insert("sources".to_owned(), sources.collect());
        ledger
    }

    /// Reads what is there, seals, sends, closes.
    fn stop(mut self, timeout: Duration) {
        let deadline = Instant::now() + timeout;
        *self.give_up.lock().unwrap_or_else(PoisonError::into_inner) = Some(deadline);
        self.receiver.stop_reading();
        loop {
            match self.receiver.next(TICK) {
                Some(input) => self.take(input),
                None if self.receiver.reading_has_stopped() || Instant::now() >= deadline => break,
                None => {}
            }
        }
        self.seal(clock::now());
        if self.stuck.is_some() {
            tracing::error!("the last batch could not be kept: its producers will send its events again");
        }
        self.outbox.close();
        if let Some(uplink) = self.uplink.take()
            && uplink.join().is_err()
        {
            tracing::error!("the thread that speaks to the correlator ended badly");
        }
        let backlog = self.outbox.backlog();
        if backlog.segments > 0 {
            tracing::warn!(
                "the correlator has not settled {} segments: they stay in the spool for the next start",
                backlog.segments
            );
        }
        self.tell();
        self.publish();
        self.receiver.shutdown();
        tracing::info!("stopped");
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
