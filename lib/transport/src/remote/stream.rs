//! One stream of a node or source: hello, producers, batches in; acknowledgements out.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ja4_model::envelope::Envelope;
use ja4_model::limits::MAX_NAME_BYTES;
use ja4_model::{BootId, WallNs};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use super::certificate::CertifiedPeer;
use super::hub::StreamHandle;
use super::proto::{
    Ack, Batch, ClientFrame, ClientFrameKind, HOP_VERSION, Hello, Producer, ROLE_HTTP, ROLE_NETWORK,
    ServerFrame, ServerFrameKind, Settled, Welcome,
};
use super::server::{Conn, Context, Phase, Speaker};
use crate::batch::{Input, Peer};
use crate::config::{Role, SocketKind};
use crate::counters::{DropReason, RefuseReason};
use crate::state::{Candidate, Readiness, Staged};

/// Replies that wait for a peer that does not read; of acknowledgements only the newest of each producer waits behind them.
const REPLIES: usize = 4;

/// Acknowledgements of one stream are at least this apart: many small frames cost both sides more than they say.
const ACK_PAUSE: Duration = Duration::from_millis(5);

/// Longest time for the last reply to be taken.
const LAST_REPLY: Duration = Duration::from_secs(1);

/// An arrival at the node is believed if it is at most this old: longer than any spool holds. A batch that spans a
/// hundred daily partitions is refused by the store as a whole.
const ARRIVAL_AGE_NS: WallNs = 7 * 24 * 3600 * 1_000_000_000;

/// And at most this far ahead: clocks of nodes differ.
const ARRIVAL_AHEAD_NS: WallNs = 60 * 1_000_000_000;

/// Longest facts of a node, bytes: a hundred interfaces.
const MAX_FACTS_BYTES: usize = 64 << 10;

/// All producers of streams are "users" of their own beside those of sockets.
const REMOTE_UID: u32 = u32::MAX - 1;

/// What the answer of a stream is made of.
pub(crate) type Replies = ReceiverStream<Result<ServerFrame, Status>>;

/// Why a stream is refused.
struct Refusal {
    reason: RefuseReason,
    why: String,
    code: Code,
}

fn refusal(reason: RefuseReason, code: Code, why: impl Into<String>) -> Refusal {
    Refusal {
        reason,
        why: why.into(),
        code,
    }
}

/// How a stream ended without a fault.
enum Ended {
    /// The peer is gone, or said its last.
    ByPeer,
    /// We end it.
    ByUs(&'static str),
}

/// Starts the task of a stream; what it answers comes out of the result.
pub(crate) fn begin(conn: Arc<Conn>, speaker: Speaker, frames: Streaming<ClientFrame>) -> Replies {
    let (replies, answer) = mpsc::channel(REPLIES);
    tokio::spawn(async move {
        let active = conn.enter();
        let ended = converse(&conn, &speaker, frames, &replies).await;
        let last = match ended {
            Ok(Ended::ByPeer) => None,
            Ok(Ended::ByUs(why)) => Some(Status::unavailable(format!("the stream ends: {why}"))),
            Err(refusal) => {
                let peer = format!("{speaker} at {}", conn.address);
                conn.context.refuse(&peer, refusal.reason, &refusal.why);
                Some(Status::new(refusal.code, format!("refused: {}", refusal.why)))
            }
        };
        if let Some(status) = last {
            // Who does not read it sees the end of the connection.
            let _taken = tokio::time::timeout(LAST_REPLY, replies.send(Err(status))).await;
        }
        drop(active);
    });
    ReceiverStream::new(answer)
}

/// A stream that has greeted.
struct Stream<'c> {
    context: &'c Context,
    speaker: &'c Speaker,
    node: String,
    identity: usize,
    handle: Arc<StreamHandle>,
    /// Number of the stream, for waiting in the queue.
    number: u64,
    producers: BTreeMap<u32, Arc<Peer>>,
    batches: AtomicU64,
}

async fn converse(
    conn: &Arc<Conn>,
    speaker: &Speaker,
    mut frames: Streaming<ClientFrame>,
    replies: &mpsc::Sender<Result<ServerFrame, Status>>,
) -> Result<Ended, Refusal> {
    let context = &*conn.context;
    let first = tokio::time::timeout(context.config.greeting_timeout, frames.message()).await;
    let hello = match first {
        Err(_) => {
            let why = "opened a stream and did not greet in time";
            return Err(refusal(
                RefuseReason::GreetingTimeout,
                Code::DeadlineExceeded,
                why,
            ));
        }
        Ok(Ok(Some(ClientFrame {
            frame: Some(ClientFrameKind::Hello(hello)),
        }))) => hello,
        Ok(Ok(Some(_))) => {
            let why = "did not greet as a node must";
            return Err(refusal(RefuseReason::Greeting, Code::InvalidArgument, why));
        }
        Ok(Ok(None)) => return Ok(Ended::ByPeer),
        Ok(Err(status)) => return broken(&status),
    };
    let identity = greet(context, speaker, &hello)?;
    let handle = Arc::new(StreamHandle::default());
    let hub = context.shared.hub();
    let mut stream = Stream {
        context,
        speaker,
        node: hello.node,
        identity,
        number: hub.add(&handle, 0),
        handle,
        producers: BTreeMap::new(),
        batches: AtomicU64::new(0),
    };
    let is_node = matches!(speaker, Speaker::Node(_));
    if is_node {
        let software: String = hello
            .software
            .chars()
            .filter(|c| !c.is_control())
            .take(100)
            .collect();
        hub.opened(&stream.node, &software);
    }
    let welcome = ServerFrameKind::Welcome(Welcome {
        version: HOP_VERSION,
        boot: context.config.boot,
    });
    // Its failure is the end of the stream, which reading sees too.
    let _sent = replies.send(Ok(welcome.into())).await;
    let handle = Arc::clone(&stream.handle);
    let ended = stream.read_and_write(conn, frames, replies, &handle).await;
    stream.leave_all();
    if is_node {
        hub.closed(&stream.node);
    }
    hub.remove(stream.number);
    if let Ok(Ended::ByUs(_)) = &ended {
        let acks = stream.handle.take_acks();
        let last = replies.send(Ok(stream.ack(acks)));
        let _taken = tokio::time::timeout(LAST_REPLY, last).await;
    }
    ended
}

/// A stream that broke: the peer's fault if it cannot be read, else it is just gone.
fn broken(status: &Status) -> Result<Ended, Refusal> {
    match status.code() {
        Code::Internal
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::InvalidArgument
        | Code::ResourceExhausted
            if !status.message().contains("h2 protocol error") =>
        {
            let why = format!("sent what is no frame ({})", status.message());
            Err(refusal(RefuseReason::Protocol, Code::InvalidArgument, why))
        }
        _ => Ok(Ended::ByPeer),
    }
}

/// Checks the greeting; the number of the identity.
fn greet(context: &Context, speaker: &Speaker, hello: &Hello) -> Result<usize, Refusal> {
    if hello.version == 0 {
        let why = format!("speaks version 0 of the hop, this is {HOP_VERSION}");
        return Err(refusal(RefuseReason::Version, Code::FailedPrecondition, why));
    }
    if !is_name(&hello.node) {
        let why = "names no host that can be one";
        return Err(refusal(RefuseReason::Node, Code::InvalidArgument, why));
    }
    let (name, node) = match speaker {
        Speaker::Node(peer) => {
            check_node(peer, &hello.node)?;
            ("forward", hello.node.as_str())
        }
        // Pods of one source share its limits: their names cost nothing.
        Speaker::Source { name } => (name.as_str(), "*"),
    };
    let config = &context.config;
    context
        .shared
        .lock()
        .identity_of(
            (context.listener, REMOTE_UID),
            (name, node),
            &config.quotas,
            config.max_identities,
            Instant::now(),
        )
        .map_err(|reason| refusal(reason, Code::ResourceExhausted, "is one identity too many"))
}

fn check_node(peer: &CertifiedPeer, node: &str) -> Result<(), Refusal> {
    if peer.may_be(node) {
        return Ok(());
    }
    let certified = peer.node.as_deref().unwrap_or("*");
    let why = format!("calls its host {node:?}, its certificate is for {certified:?}");
    Err(refusal(RefuseReason::Node, Code::PermissionDenied, why))
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= MAX_NAME_BYTES && !name.chars().any(char::is_control)
}

/// Why streams end when the process does.
const STOPPING: &str = "the correlator stops";

/// Waits until the listener is so far.
pub(crate) async fn reaches(phase: &mut watch::Receiver<Phase>, least: Phase) {
    // An error means that the receiver is gone, which is an end too.
    let _reached = phase.wait_for(|phase| *phase >= least).await.is_ok();
}

/// Waits until the connection or the stream is told to end; why.
async fn told_to_end(end: &mut watch::Receiver<Option<&'static str>>, handle: &StreamHandle) -> &'static str {
    const WHY: &str = "it was asked to";
    tokio::select! {
        why = async { end.wait_for(Option::is_some).await.ok().and_then(|why| *why) } => why.unwrap_or(WHY),
        () = handle.end.notified() => handle.ended_for().unwrap_or(WHY),
    }
}

impl Stream<'_> {
    async fn read_and_write(
        &mut self,
        conn: &Conn,
        frames: Streaming<ClientFrame>,
        replies: &mpsc::Sender<Result<ServerFrame, Status>>,
        handle: &StreamHandle,
    ) -> Result<Ended, Refusal> {
        let batches = std::mem::take(&mut self.batches);
        let write = async {
            let mut said = 0;
            loop {
                handle.to_write.notified().await;
                // First the place, then what goes there: a stream that ends here loses no acknowledgement.
                let Ok(place) = replies.reserve().await else {
                    return;
                };
                let acks = handle.take_acks();
                let n_batches = batches.load(Ordering::Relaxed);
                if acks.is_empty() && n_batches == said {
                    continue;
                }
                said = n_batches;
                place.send(Ok(ack_frame(acks, n_batches)));
                tokio::time::sleep(ACK_PAUSE).await;
            }
        };
        let ended = tokio::select! {
            ended = self.read(conn, frames, &batches) => ended,
            () = write => Ok(Ended::ByPeer),
        };
        self.batches = batches;
        ended
    }

    fn ack(&self, acks: BTreeMap<u32, u64>) -> ServerFrame {
        ack_frame(acks, self.batches.load(Ordering::Relaxed))
    }

    async fn read(
        &mut self,
        conn: &Conn,
        mut frames: Streaming<ClientFrame>,
        batches: &AtomicU64,
    ) -> Result<Ended, Refusal> {
        let mut draining = self.context.phase.clone();
        let mut ending = self.context.phase.clone();
        let mut end = conn.end.subscribe();
        let handle = Arc::clone(&self.handle);
        let mut is_reading = true;
        loop {
            let idle = self.context.config.idle_timeout;
            let next = async {
                if is_reading {
                    tokio::time::timeout(idle, frames.message()).await
                } else {
                    // What is unread stays with the node.
                    std::future::pending().await
                }
            };
            let frame = tokio::select! {
                biased;
                () = reaches(&mut ending, Phase::End) => return Ok(Ended::ByUs(STOPPING)),
                why = told_to_end(&mut end, &handle) => return Ok(Ended::ByUs(why)),
                () = reaches(&mut draining, Phase::Drain), if is_reading => {
                    is_reading = false;
                    continue;
                }
                frame = next => frame,
            };
            let frame = match frame {
                Err(_) => {
                    let why = "said nothing for too long";
                    return Err(refusal(RefuseReason::Idle, Code::DeadlineExceeded, why));
                }
                Ok(Err(status)) => return broken(&status),
                Ok(Ok(None)) => return Ok(Ended::ByPeer),
                Ok(Ok(Some(frame))) => frame,
            };
            // A wait for room must not keep the stream from ending.
            tokio::select! {
                taken = self.take(frame, batches) => taken?,
                () = reaches(&mut ending, Phase::End) => return Ok(Ended::ByUs(STOPPING)),
                why = told_to_end(&mut end, &handle) => return Ok(Ended::ByUs(why)),
            }
        }
    }

    async fn take(&mut self, frame: ClientFrame, batches: &AtomicU64) -> Result<(), Refusal> {
        match frame.frame {
            Some(ClientFrameKind::Batch(batch)) => {
                self.take_batch(batch, false).await?;
                batches.fetch_add(1, Ordering::Relaxed);
                self.handle.to_write.notify_one();
            }
            Some(ClientFrameKind::Announce(batch)) => self.take_batch(batch, true).await?,
            Some(ClientFrameKind::Producer(producer)) => self.announce(&producer)?,
            Some(ClientFrameKind::Leave(leave)) => {
                if let Some(peer) = self.producers.remove(&leave.slot) {
                    self.leave(&peer);
                }
            }
            Some(ClientFrameKind::Facts(facts)) => self.note_facts(facts.json),
            Some(ClientFrameKind::Hello(_)) => {
                let why = "greeted twice";
                return Err(refusal(RefuseReason::Protocol, Code::InvalidArgument, why));
            }
            // A kind that a later version has.
            None => {}
        }
        Ok(())
    }

    /// Facts are of nodes; longer ones than there can be are left out.
    fn note_facts(&self, json: bytes::Bytes) {
        if matches!(self.speaker, Speaker::Node(_)) && json.len() <= MAX_FACTS_BYTES {
            self.context.shared.hub().note_facts(&self.node, json);
        }
    }

    fn announce(&mut self, producer: &Producer) -> Result<(), Refusal> {
        let config = &self.context.config;
        if self.producers.contains_key(&producer.slot) || self.producers.len() >= config.max_producers {
            let why = format!("announces producer {} again, or too many", producer.slot);
            return Err(refusal(RefuseReason::Protocol, Code::ResourceExhausted, why));
        }
        let role = match producer.role {
            ROLE_NETWORK => Role::Network,
            ROLE_HTTP => Role::Http,
            role => {
                let why = format!("announces a producer of the unknown role {role}");
                return Err(refusal(RefuseReason::Version, Code::FailedPrecondition, why));
            }
        };
        if let Speaker::Source { name } = self.speaker
            && (role != Role::Http || producer.source != *name)
        {
            let why = format!(
                "speaks as {:?}, its token is for requests of {name:?}",
                producer.source
            );
            return Err(refusal(RefuseReason::Source, Code::PermissionDenied, why));
        }
        if !is_name(&producer.source) {
            let why = "announces a producer without a name that can be one";
            return Err(refusal(RefuseReason::Source, Code::InvalidArgument, why));
        }
        let boot = BootId(producer.boot);
        let next_unsettled = (self.context.next_unsettled)(&producer.source, &self.node, boot);
        let hub = self.context.shared.hub();
        let number = hub.add(&self.handle, producer.slot);
        let candidate = Candidate {
            conn: number,
            listener: self.context.listener,
            source: &producer.source,
            node: &self.node,
            boot,
            next_unsettled,
            uid: REMOTE_UID,
            gid: 0,
            pid: 0,
            is_last: false,
            role,
        };
        let mut state = self.context.shared.lock();
        let admitted = state.admit_to(self.identity, &candidate, SocketKind::Stream, Instant::now());
        let admission = match admitted {
            Ok(admission) => admission,
            Err(reason) => {
                drop(state);
                hub.remove(number);
                let why = format!("announces a producer that is not admitted: {}", reason.name());
                return Err(refusal(reason, Code::ResourceExhausted, why));
            }
        };
        let waits = state.enqueue(self.identity, Input::Opened(Arc::clone(&admission.peer)));
        drop(state);
        if waits {
            self.context.shared.notify();
        }
        if let Some(older) = admission.replaces {
            hub.end(older, "its producer speaks on a newer stream");
        }
        self.handle.note_ack(producer.slot, admission.ack);
        self.producers.insert(producer.slot, admission.peer);
        Ok(())
    }

    async fn take_batch(&self, batch: Batch, announced: bool) -> Result<(), Refusal> {
        for part in batch.parts {
            let Some(peer) = self.producers.get(&part.slot) else {
                let why = format!(
                    "sends events of producer {}, which it has not announced",
                    part.slot
                );
                return Err(refusal(RefuseReason::Protocol, Code::InvalidArgument, why));
            };
            self.wait_for_room().await;
            self.stage(peer, &part.envelopes, announced);
        }
        Ok(())
    }

    /// Waits until the queue has room and the rate allows more.
    async fn wait_for_room(&self) {
        loop {
            let now = Instant::now();
            let readiness =
                self.context
                    .shared
                    .lock()
                    .may_read(self.identity, self.number, SocketKind::Stream, now);
            match readiness {
                Readiness::Now => return,
                Readiness::WhenTaken => self.handle.room.notified().await,
                Readiness::At(at) => tokio::time::sleep(at.saturating_duration_since(now)).await,
            }
        }
    }

    fn stage(&self, peer: &Arc<Peer>, envelopes: &[u8], announced: bool) {
        let arrived = (self.context.clock)();
        let may_know_arrival = matches!(self.speaker, Speaker::Node(_));
        let mut staged = Staged::with_capacity(envelopes.len());
        staged.announced = announced;
        let mut rest = envelopes;
        let mut state = self.context.shared.lock();
        state.charge(self.identity, envelopes.len());
        while !rest.is_empty() {
            let Ok((envelope, after)) = Envelope::read(rest) else {
                // Where one cannot be read, where the next begins is not known.
                state.malformed(self.identity, &mut staged);
                break;
            };
            let recv_ns = if may_know_arrival {
                let (from, to) = (
                    arrived.saturating_sub(ARRIVAL_AGE_NS),
                    arrived.saturating_add(ARRIVAL_AHEAD_NS),
                );
                envelope.key.recv_ns.clamp(from, to)
            } else {
                arrived
            };
            state.stage_envelope(peer, self.identity, &envelope, recv_ns, &mut staged);
            rest = after;
        }
        let dropped = staged.take_drops();
        let waiting = state.queue_staged(peer, self.identity, staged);
        drop(state);
        if waiting {
            self.context.shared.notify();
        }
        for reason in dropped.reasons() {
            // After a reconnect that is the rule, and nothing is lost.
            if reason != DropReason::Duplicate {
                self.context
                    .say_dropped(&format!("{} of {}", peer.source, self.speaker), reason);
            }
        }
    }

    fn leave(&self, peer: &Arc<Peer>) {
        let waits = self.context.shared.lock().left(self.identity, peer, false);
        self.context.shared.hub().remove(peer.conn);
        if waits {
            self.context.shared.notify();
        }
    }

    fn leave_all(&mut self) {
        for peer in std::mem::take(&mut self.producers).into_values() {
            self.leave(&peer);
        }
        self.context
            .shared
            .lock()
            .waits_no_more(self.identity, self.number);
    }
}

fn ack_frame(acks: BTreeMap<u32, u64>, batches: u64) -> ServerFrame {
    let settled = acks
        .into_iter()
        .map(|(slot, next)| Settled { slot, next })
        .collect();
    ServerFrameKind::Ack(Ack { settled, batches }).into()
}
