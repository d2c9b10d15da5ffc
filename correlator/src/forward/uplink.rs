//! The thread that speaks to the correlator: segments in order, acknowledgements back, again after each break.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use ja4_common::Shutdown;
use ja4_common::exit;
use ja4_spool::SegmentId;
use ja4_transport::remote::proto::{
    Batch, ClientFrame, ClientFrameKind, Facts, HOP_VERSION, Hello, Leave, Part, Producer, ServerFrameKind,
};
use ja4_transport::remote::{Credentials, Link, LinkConfig, LinkError};

use super::facts::FactsMaker;
use super::open::OpenConnections;
use super::outbox::{Outbox, Outgoing};
use super::segment::{self, ForwardMeta, ProducerName};

/// First pause between two tries; it doubles up to the configured one.
const RETRY_MIN: Duration = Duration::from_millis(50);

/// A connection that lasted this long starts the pauses from the beginning.
const LASTED: Duration = Duration::from_secs(5);

/// The same trouble is said again so often.
const SAY_AGAIN: Duration = Duration::from_mins(1);

/// Bytes of a message of announced connections; the last one may go over it by an event.
const ANNOUNCE_BYTES: usize = 32 << 10;

/// How the link is, for metrics and facts.
#[derive(Debug, Clone, Default)]
pub(crate) struct LinkState {
    pub(crate) connected: bool,
    pub(crate) connects: u64,
    /// Tries and streams that failed, by reason.
    pub(crate) failures: BTreeMap<&'static str, u64>,
    pub(crate) bytes_sent: u64,
    pub(crate) announced: u64,
    pub(crate) reloads: u64,
}

/// What the uplink works with.
#[derive(Debug)]
pub(crate) struct Uplink {
    pub(crate) link: LinkConfig,
    pub(crate) node: String,
    /// In place of the producers' own.
    pub(crate) source: Option<String>,
    pub(crate) window: usize,
    pub(crate) retry_max: Duration,
    pub(crate) reload_interval: Duration,
    pub(crate) facts_interval: Duration,
    pub(crate) outbox: Outbox,
    pub(crate) open: Arc<Mutex<OpenConnections>>,
    pub(crate) state: Arc<Mutex<LinkState>>,
    pub(crate) facts: FactsMaker,
    pub(crate) shutdown: Shutdown,
}

/// How a session ended.
enum Ended {
    /// All is settled and nothing follows.
    Finished,
    /// Credentials have changed.
    Reload(Box<Credentials>),
    /// The correlator ended the stream, in order or not.
    Broken(LinkError),
    /// It ended the stream in order.
    Closed,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Uplink {
    /// Runs until all is settled after the outbox was closed, or `give_up` says that time is over.
    pub(crate) async fn run(self, mut credentials: Credentials, give_up: impl Fn() -> bool) {
        let mut pause = RETRY_MIN;
        let mut said: Option<(String, Instant)> = None;
        // The process of the correlator that knows our open connections.
        let mut known_boot = None;
        let mut was_connected = false;
        while !self.outbox.is_finished() && !give_up() {
            if let Some(fresh) = self.reloaded(&credentials) {
                credentials = fresh;
            }
            let began = Instant::now();
            let ended = match Link::open(&self.link, &credentials).await {
                Ok(link) => {
                    self.session(link, &credentials, &mut known_boot, &mut said, &give_up)
                        .await
                }
                // What is in the spool is safe there: the end does not wait for a correlator that is away.
                Err(_) if self.outbox.is_closed() => return,
                Err(error) => Ended::Broken(error),
            };
            was_connected |= std::mem::take(&mut lock(&self.state).connected);
            self.outbox.none_is_sent();
            match ended {
                Ended::Finished => return,
                Ended::Reload(fresh) => {
                    tracing::info!("certificate, trust bundle or token were replaced: connecting again");
                    lock(&self.state).reloads += 1;
                    credentials = *fresh;
                    continue;
                }
                Ended::Closed => {
                    tracing::debug!("the correlator ended the stream, connecting again");
                    self.count("closed");
                }
                Ended::Broken(error) => {
                    self.count(reason_of(&error));
                    self.say(&error, &mut said, was_connected);
                }
            }
            if began.elapsed() >= LASTED {
                pause = RETRY_MIN;
            }
            self.wait(spread(pause)).await;
            pause = (pause * 2).min(self.retry_max);
        }
    }

    /// Waits, but not longer than until a shutdown is asked for and its time is over.
    async fn wait(&self, pause: Duration) {
        let pause = if self.shutdown.is_requested() {
            pause.min(RETRY_MIN)
        } else {
            pause
        };
        tokio::time::sleep(pause).await;
    }

    fn reloaded(&self, credentials: &Credentials) -> Option<Credentials> {
        match credentials.reloaded() {
            Ok(fresh) => fresh,
            Err(error) => {
                tracing::debug!(
                    "credentials are not taken up, those from before stay: {}",
                    exit::chain(&error)
                );
                self.count("credentials");
                None
            }
        }
    }

    fn count(&self, reason: &'static str) {
        *lock(&self.state).failures.entry(reason).or_insert(0) += 1;
    }

    /// Says why there is no connection and what mends it: once for each reason, then now and again.
    fn say(&self, error: &LinkError, said: &mut Option<(String, Instant)>, was_connected: bool) {
        let line = exit::chain(error);
        let is_news = said
            .as_ref()
            .is_none_or(|(before, at)| *before != line || at.elapsed() >= SAY_AGAIN);
        if !is_news {
            return;
        }
        *said = Some((line.clone(), Instant::now()));
        let remedy = if error.is_refusal() {
            "see that certificate, trust bundle, token and node name are of one pipeline; they are read again at each try"
        } else {
            "see that it runs and can be reached, or set forward.address"
        };
        let state = if was_connected {
            "is away"
        } else {
            "cannot be reached"
        };
        tracing::warn!(
            "correlator {} {state}, events wait in the spool; {remedy}: {line}",
            self.link.address
        );
    }

    async fn session(
        &self,
        link: Link,
        credentials: &Credentials,
        known_boot: &mut Option<u64>,
        said: &mut Option<(String, Instant)>,
        give_up: &impl Fn() -> bool,
    ) -> Ended {
        let mut session = Session {
            uplink: self,
            link,
            slots: BTreeMap::new(),
            next_slot: 0,
            outgoing: VecDeque::new(),
            sent: VecDeque::new(),
            window: 0,
            waiting: None,
            batches_sent: 0,
            batches_taken: 0,
            to_announce: Vec::new(),
        };
        match session.converse(credentials, known_boot, said, give_up).await {
            Ok(ended) => ended,
            Err(error) => Ended::Broken(error),
        }
    }
}

/// A producer process on a stream.
#[derive(Debug)]
struct Slot {
    number: u32,
    /// Below this everything is settled; none until the correlator has said so.
    settled: Option<u64>,
}

/// A segment that is on its way.
#[derive(Debug)]
struct Sent {
    id: SegmentId,
    meta: Arc<ForwardMeta>,
    bytes: usize,
    /// The correlator has taken all of it when it has taken so many batches.
    batches: u64,
}

/// One stream.
struct Session<'u> {
    uplink: &'u Uplink,
    link: Link,
    slots: BTreeMap<ProducerName, Slot>,
    next_slot: u32,
    outgoing: VecDeque<ClientFrame>,
    sent: VecDeque<Sent>,
    /// Bytes of the segments in `sent`.
    window: usize,
    /// A segment whose producers are not all known to the correlator yet.
    waiting: Option<Outgoing>,
    batches_sent: u64,
    batches_taken: u64,
    /// Connections to be told again, when their producers are known.
    to_announce: Vec<(ProducerName, Bytes, Option<Bytes>)>,
}

impl Session<'_> {
    async fn converse(
        &mut self,
        credentials: &Credentials,
        known_boot: &mut Option<u64>,
        said: &mut Option<(String, Instant)>,
        give_up: &impl Fn() -> bool,
    ) -> Result<Ended, LinkError> {
        let up = self.uplink;
        self.outgoing.push_back(
            ClientFrameKind::Hello(Hello {
                version: HOP_VERSION,
                node: up.node.clone(),
                software: concat!("ja4-correlator ", env!("CARGO_PKG_VERSION")).to_owned(),
            })
            .into(),
        );
        let mut facts = tokio::time::interval(up.facts_interval);
        let mut looks = tokio::time::interval(up.reload_interval);
        let mut ends = tokio::time::interval(Duration::from_millis(100));
        for interval in [&mut facts, &mut looks, &mut ends] {
            interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        }
        let mut is_welcome = false;
        let greeted_until = tokio::time::Instant::now() + up.link.connect_timeout;
        loop {
            if is_welcome {
                self.go_on();
            }
            if up.outbox.is_finished() && self.outgoing.is_empty() {
                return Ok(Ended::Finished);
            }
            let frames = self.link.frames.clone();
            tokio::select! {
                reply = self.link.reply() => {
                    let Some(reply) = reply? else { return Ok(Ended::Closed) };
                    match reply.frame {
                        Some(ServerFrameKind::Welcome(welcome)) => {
                            is_welcome = true;
                            let knows_us = known_boot.replace(welcome.boot) == Some(welcome.boot);
                            self.begin(knows_us);
                            let mut state = lock(&up.state);
                            state.connected = true;
                            state.connects += 1;
                            drop(state);
                            if said.take().is_some() {
                                tracing::info!("correlator {} takes events", up.link.address);
                            }
                        }
                        Some(ServerFrameKind::Ack(ack)) => {
                            self.batches_taken = self.batches_taken.max(ack.batches);
                            for settled in ack.settled {
                                self.settle(settled.slot, settled.next);
                            }
                            self.finish_segments();
                        }
                        // A kind that a later version has.
                        None => {}
                    }
                }
                permit = frames.reserve(), if !self.outgoing.is_empty() => {
                    let Ok(permit) = permit else { return Ok(Ended::Closed) };
                    if let Some(frame) = self.outgoing.pop_front() {
                        permit.send(frame);
                    }
                }
                () = up.outbox.changed() => {}
                _ = facts.tick(), if is_welcome => {
                    let json = up.facts.make(&up.outbox, &lock(&up.open), &lock(&up.state));
                    self.outgoing.push_back(ClientFrameKind::Facts(Facts { json: json.into() }).into());
                }
                _ = looks.tick() => {
                    if let Some(fresh) = up.reloaded(credentials) {
                        return Ok(Ended::Reload(Box::new(fresh)));
                    }
                }
                _ = ends.tick() => {
                    if give_up() {
                        return Ok(Ended::Closed);
                    }
                }
                () = tokio::time::sleep_until(greeted_until), if !is_welcome => return Err(LinkError::Timeout),
            }
        }
    }

    /// After the welcome: announces what waits and, to a correlator that does not know us, what is open.
    fn begin(&mut self, knows_us: bool) {
        // What is in the table is sealed: it waits in the outbox, or was acknowledged by a correlator before. So the table is
        // held while the outbox is asked.
        let open = lock(&self.uplink.open);
        let waiting = self.uplink.outbox.waiting();
        let first = |producer: &ProducerName| waiting.get(producer).map_or(u64::MAX, |(first, _)| *first);
        let to_announce = if knows_us {
            Vec::new()
        } else {
            open.to_announce(first)
        };
        drop(open);
        for (producer, (_, role)) in &waiting {
            self.announce_producer(producer, *role);
        }
        self.to_announce = to_announce;
        let producers: std::collections::BTreeSet<_> = self
            .to_announce
            .iter()
            .map(|(producer, _, _)| producer.clone())
            .collect();
        for producer in producers {
            self.announce_producer(&producer, ja4_transport::remote::proto::ROLE_NETWORK);
        }
    }

    fn announce_producer(&mut self, producer: &ProducerName, role: u32) {
        if self.slots.contains_key(producer) {
            return;
        }
        let number = self.next_slot;
        self.next_slot += 1;
        self.outgoing.push_back(
            ClientFrameKind::Producer(Producer {
                slot: number,
                source: self
                    .uplink
                    .source
                    .clone()
                    .unwrap_or_else(|| producer.source.clone()),
                boot: producer.boot,
                role,
            })
            .into(),
        );
        let slot = Slot {
            number,
            settled: None,
        };
        self.slots.insert(producer.clone(), slot);
    }

    fn settle(&mut self, number: u32, next: u64) {
        if let Some(slot) = self.slots.values_mut().find(|slot| slot.number == number) {
            slot.settled = Some(slot.settled.map_or(next, |before| before.max(next)));
        }
    }

    fn settled(&self, producer: &ProducerName) -> Option<u64> {
        self.slots.get(producer)?.settled
    }

    /// Queues what may be sent now.
    fn go_on(&mut self) {
        if !self.announce_open() {
            return;
        }
        while self.outgoing.is_empty() && (self.window < self.uplink.window || self.sent.is_empty()) {
            let Some(segment) = self.waiting.take().or_else(|| self.uplink.outbox.next()) else {
                break;
            };
            for producer in &segment.meta.producers {
                self.announce_producer(&producer.name(), producer.role);
            }
            let mut producers = segment.meta.producers.iter();
            if producers.any(|producer| self.settled(&producer.name()).is_none()) {
                self.waiting = Some(segment);
                return;
            }
            self.queue_segment(segment);
            self.finish_segments();
        }
    }

    /// Tells open connections again, once their producers are known; false while they are not.
    fn announce_open(&mut self) -> bool {
        if self.to_announce.is_empty() {
            return true;
        }
        if self
            .to_announce
            .iter()
            .any(|(producer, _, _)| self.settled(producer).is_none())
        {
            return false;
        }
        let told = std::mem::take(&mut self.to_announce);
        lock(&self.uplink.state).announced += told.len() as u64;
        tracing::info!("{} open connections are told to the correlator again", told.len());
        let mut batch = Batch::default();
        let mut length = 0;
        for (producer, hello, confirm) in told {
            let Some(slot) = self.slots.get(&producer) else {
                continue;
            };
            for envelopes in std::iter::once(hello).chain(confirm) {
                length += envelopes.len();
                batch.parts.push(Part {
                    slot: slot.number,
                    envelopes,
                });
            }
            if length >= ANNOUNCE_BYTES {
                length = 0;
                self.outgoing
                    .push_back(ClientFrameKind::Announce(std::mem::take(&mut batch)).into());
            }
        }
        if !batch.parts.is_empty() {
            self.outgoing.push_back(ClientFrameKind::Announce(batch).into());
        }
        true
    }

    fn queue_segment(&mut self, segment: Outgoing) {
        let bytes = segment.payload.len();
        let messages = match segment::messages(segment.payload) {
            Ok(messages) => messages,
            Err(error) => {
                // Its checksum was right: a version that is not ours wrote it. Its producers' later numbers pass it over.
                tracing::error!(
                    "segment {} of the spool cannot be sent, it is left out: {error}",
                    segment.id
                );
                Vec::new()
            }
        };
        // Number on the stream and first unsettled number of each producer of the segment.
        let slots: Vec<(u32, u64)> = segment
            .meta
            .producers
            .iter()
            .map(|producer| {
                let slot = self.slots.get(&producer.name());
                slot.map_or((0, 0), |slot| (slot.number, slot.settled.unwrap_or(0)))
            })
            .collect();
        for message in messages {
            let part = |part: Part| {
                let idx = usize::try_from(part.slot).unwrap_or(usize::MAX);
                let ((number, base), producer) = slots.get(idx).zip(segment.meta.producers.get(idx))?;
                let envelopes = if *base > producer.first {
                    segment::from_number(&part.envelopes, *base)
                } else {
                    part.envelopes
                };
                let part = Part {
                    slot: *number,
                    envelopes,
                };
                (!part.envelopes.is_empty()).then_some(part)
            };
            let parts: Vec<Part> = message.parts.into_iter().filter_map(part).collect();
            if !parts.is_empty() {
                self.batches_sent += 1;
                self.outgoing
                    .push_back(ClientFrameKind::Batch(Batch { parts }).into());
            }
        }
        lock(&self.uplink.state).bytes_sent += bytes as u64;
        self.window += bytes;
        self.sent.push_back(Sent {
            id: segment.id,
            meta: segment.meta,
            bytes,
            batches: self.batches_sent,
        });
    }

    /// Removes the segments of which everything is settled, in order, and lets go of producers that have left.
    fn finish_segments(&mut self) {
        let mut any = false;
        while let Some(first) = self.sent.front() {
            let is_settled = first.meta.producers.iter().all(|producer| {
                producer.events == 0
                    || self
                        .settled(&producer.name())
                        .is_some_and(|settled| settled >= producer.upto)
            });
            // A status is not numbered: it is there when its batch was taken.
            let is_taken = self.batches_taken >= first.batches || !first.meta.has_statuses();
            let is_dropped = !self.uplink.outbox.holds(first.id);
            if !(is_settled && is_taken || is_dropped) {
                break;
            }
            self.window -= first.bytes;
            self.uplink.outbox.done(first.id);
            self.sent.pop_front();
            any = true;
        }
        if any && self.sent.is_empty() && self.waiting.is_none() {
            self.let_go();
        }
    }

    /// Producers without a connection here and without anything that waits are not spoken of any more.
    fn let_go(&mut self) {
        let waiting = self.uplink.outbox.waiting();
        let outbox = &self.uplink.outbox;
        let gone: Vec<ProducerName> = self
            .slots
            .keys()
            .filter(|producer| !outbox.is_connected(producer) && !waiting.contains_key(producer))
            .cloned()
            .collect();
        for producer in gone {
            if let Some(slot) = self.slots.remove(&producer) {
                self.outgoing
                    .push_back(ClientFrameKind::Leave(Leave { slot: slot.number }).into());
            }
        }
    }
}

fn reason_of(error: &LinkError) -> &'static str {
    match error {
        LinkError::Address(_) => "address",
        LinkError::Connect(_) => "connect",
        LinkError::Timeout => "timeout",
        LinkError::Handshake(_) => "handshake",
        LinkError::Http(_) => "broken",
        LinkError::Alert(_) => "refused",
        error if error.is_refusal() => "refused",
        LinkError::Ended(_) => "ended",
    }
}

/// A pause between a half and one and a half of it, so that nodes do not come again together.
fn spread(pause: Duration) -> Duration {
    let random = getrandom::u32().unwrap_or(u32::MAX / 2);
    pause.mul_f64(0.5 + f64::from(random) / f64::from(u32::MAX))
}
