//! What the epoll thread and the consumer share: queues, identities, origins, under one short lock.
//!
//! The invariant, checked by the tests: for every identity `received = passed + dropped + pending`.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ja4_model::envelope::Envelope;
use ja4_model::limits::MAX_MESSAGE_BYTES;
use ja4_model::{BootId, EventKind, IdKind, WallNs};

use crate::batch::{Batch, FrameMeta, Input, OriginId, Peer};
use crate::config::{ListenerConfig, Quotas, ReceiverConfig, Role, SocketKind};
use crate::counters::{
    Counters, DropReason, Drops, IdentityCounters, ListenerCounters, OriginCounters, Refusals, RefuseReason,
};
use crate::peek::Claims;
use crate::quota::Bucket;

/// A batch grows up to this while it waits; larger ones gain nothing and make turns longer.
const BATCH_BYTES: usize = 64 << 10;

/// Lines that have begun and not ended may hold this many times the queue's limit: a hundred connections in
/// the middle of the longest event with the default of 4 MiB.
const HALF_FRAMES_FACTOR: usize = 4;

/// Notices of connections may go over the queue's limit up to this many times it, and at least this far.
const NOTICES_FACTOR: usize = 2;
const NOTICES_MIN_BYTES: usize = 64 << 10;

/// See [`crate::IdentityCounters`].
pub(crate) struct Identity {
    listener: usize,
    source: Arc<str>,
    node: Arc<str>,
    uid: u32,
    received: u64,
    passed: u64,
    pending: u64,
    bytes: u64,
    pauses: u64,
    unfinished: u64,
    drops: Drops,
    queue: VecDeque<Input>,
    queue_bytes: usize,
    queue_limit: usize,
    /// Memory of lines that have begun and not ended.
    half_bytes: usize,
    bytes_bucket: Bucket,
    events_bucket: Bucket,
    boots_bucket: Bucket,
    /// Connections that wait for room in the queue.
    waiting: Vec<u64>,
}

/// See [`crate::OriginCounters`].
struct Origin {
    key: (Arc<str>, Arc<str>, BootId),
    uid: u32,
    base: u64,
    received: u64,
    next_seq: u64,
    acked: u64,
    ack_is_dirty: bool,
    /// Connections now; on STREAM there is at most one.
    conns: Vec<u64>,
    /// Order of the last greeting, to forget the oldest first.
    greeted: u64,
}

#[derive(Default)]
struct Listener {
    accepted: u64,
    refusals: Refusals,
    open: u64,
    accept_paused: u64,
}

/// See the module.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a wish or a fact of its own, set and read apart"
)]
pub(crate) struct State {
    listeners: Vec<Listener>,
    identities: Vec<Identity>,
    /// Identities with something in their queue, in turn.
    turns: VecDeque<usize>,
    origins: HashMap<OriginId, Origin>,
    origin_of: HashMap<(Arc<str>, Arc<str>, BootId), OriginId>,
    next_origin: u64,
    n_greetings: u64,
    max_origins: usize,
    max_identities: usize,
    /// Of sockets.
    max_local_identities: usize,
    /// Listeners below this are sockets.
    n_local: usize,
    dirty_acks: Vec<OriginId>,
    /// Connections that may be read again.
    resumable: Vec<u64>,
    pub(crate) woken: bool,
    pub(crate) consumer_waits: bool,
    pub(crate) stop_reading: bool,
    pub(crate) reading_stopped: bool,
    pub(crate) shutdown: bool,
}

/// A greeting that was accepted.
pub(crate) struct Admission {
    pub(crate) identity: usize,
    pub(crate) peer: Arc<Peer>,
    pub(crate) ack: u64,
    /// An older STREAM connection of the same process, to be closed.
    pub(crate) replaces: Option<u64>,
}

/// A connection that greets.
pub(crate) struct Candidate<'a> {
    pub(crate) conn: u64,
    pub(crate) listener: usize,
    pub(crate) source: &'a str,
    pub(crate) node: &'a str,
    pub(crate) boot: BootId,
    pub(crate) next_unsettled: u64,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) pid: i32,
    /// Reading is being stopped: nobody comes after these, so their number has an end.
    pub(crate) is_last: bool,
    /// What it may send.
    pub(crate) role: Role,
}

/// Frames of one read, on their way into the queue.
pub(crate) struct Staged {
    bytes: Vec<u8>,
    frames: Vec<FrameMeta>,
    dropped: Dropped,
    /// They were settled before and are told again.
    pub(crate) announced: bool,
}

/// Reasons that frames of one turn were dropped for.
#[derive(Clone, Copy, Default)]
pub(crate) struct Dropped(u16);

impl Dropped {
    fn add(&mut self, reason: DropReason) {
        self.0 |= 1 << reason as u16;
    }

    pub(crate) fn reasons(self) -> impl Iterator<Item = DropReason> {
        let all = DropReason::ALL.iter().copied();
        all.filter(move |reason| self.0 & (1 << *reason as u16) != 0)
    }
}

impl Staged {
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        Self {
            bytes: Vec::with_capacity(bytes),
            frames: Vec::new(),
            dropped: Dropped::default(),
            announced: false,
        }
    }

    /// Why frames were dropped, each reason once.
    pub(crate) fn take_drops(&mut self) -> Dropped {
        std::mem::take(&mut self.dropped)
    }
}

/// The connection that a frame came on.
pub(crate) struct Source<'a> {
    pub(crate) peer: &'a Arc<Peer>,
    pub(crate) identity: usize,
    pub(crate) claims: &'a Claims,
    pub(crate) kind: SocketKind,
    /// What is over a limit waits in the kernel: nothing is dropped for it.
    pub(crate) waits: bool,
}

impl State {
    pub(crate) fn new(config: &ReceiverConfig) -> Self {
        let n_listeners = config.listeners.len() + config.remotes.len();
        let of_remotes = config.remotes.iter().map(|remote| remote.max_identities);
        Self {
            listeners: std::iter::repeat_with(Listener::default)
                .take(n_listeners)
                .collect(),
            identities: Vec::new(),
            turns: VecDeque::new(),
            origins: HashMap::new(),
            origin_of: HashMap::new(),
            next_origin: 0,
            n_greetings: 0,
            max_origins: config.max_origins,
            max_identities: config.max_identities + of_remotes.sum::<usize>(),
            max_local_identities: config.max_identities,
            n_local: config.listeners.len(),
            dirty_acks: Vec::new(),
            resumable: Vec::new(),
            woken: false,
            consumer_waits: false,
            stop_reading: false,
            reading_stopped: false,
            shutdown: false,
        }
    }

    pub(crate) fn accepted(&mut self, listener: usize) {
        self.listeners[listener].accepted += 1;
        self.listeners[listener].open += 1;
    }

    pub(crate) fn closed(&mut self, listener: usize) {
        self.listeners[listener].open -= 1;
    }

    pub(crate) fn refused(&mut self, listener: usize, reason: RefuseReason) {
        self.listeners[listener].refusals.add(reason);
    }

    pub(crate) fn accept_paused(&mut self, listener: usize) {
        self.listeners[listener].accept_paused += 1;
    }

    /// Admits a peer whose user and names are allowed.
    pub(crate) fn admit(
        &mut self,
        candidate: &Candidate<'_>,
        listener: &ListenerConfig,
        now: Instant,
    ) -> Result<Admission, RefuseReason> {
        let user = (candidate.listener, candidate.uid);
        let name = (candidate.source, candidate.node);
        // Half of them is enough for one user: where any source may greet, names cost nothing.
        let most = self.max_local_identities.div_ceil(2);
        let identity = self.identity_of(user, name, &listener.quotas, most, now)?;
        self.admit_to(identity, candidate, listener.kind, now)
    }

    /// Admits a producer process to an identity.
    pub(crate) fn admit_to(
        &mut self,
        identity: usize,
        candidate: &Candidate<'_>,
        kind: SocketKind,
        now: Instant,
    ) -> Result<Admission, RefuseReason> {
        let queue = &self.identities[identity];
        let notices_limit = queue
            .queue_limit
            .saturating_mul(NOTICES_FACTOR)
            .max(NOTICES_MIN_BYTES);
        if queue.queue_bytes >= notices_limit && !candidate.is_last {
            return Err(RefuseReason::QueueFull);
        }
        let share = |known: &Arc<str>, name: &str| {
            if **known == *name {
                Arc::clone(known)
            } else {
                name.into()
            }
        };
        let key = (
            share(&queue.source, candidate.source),
            share(&queue.node, candidate.node),
            candidate.boot,
        );
        let origin = match self.origin_of.get(&key) {
            Some(&origin) => origin,
            None => self.new_origin(key, candidate, identity, now)?,
        };
        self.n_greetings += 1;
        let state = self
            .origins
            .get_mut(&origin)
            .expect("an origin of the index is in the table");
        if state.uid != candidate.uid {
            return Err(RefuseReason::BootTaken);
        }
        state.greeted = self.n_greetings;
        state.acked = state.acked.max(candidate.next_unsettled);
        let replaces = (kind == SocketKind::Stream)
            .then(|| state.conns.first().copied())
            .flatten();
        state.conns.push(candidate.conn);
        let peer = Arc::new(Peer {
            origin,
            conn: candidate.conn,
            listener: candidate.listener,
            role: candidate.role,
            source: Arc::clone(&state.key.0),
            node: Arc::clone(&state.key.1),
            boot: candidate.boot,
            base: state.acked,
            uid: candidate.uid,
            gid: candidate.gid,
            pid: candidate.pid,
        });
        let ack = state.acked;
        Ok(Admission {
            identity,
            peer,
            ack,
            replaces,
        })
    }

    /// The identity that producers are admitted to: one queue and its limits. On a stream of a node it is one for all of its
    /// producers. `most` is how many one user may have on one listener.
    pub(crate) fn identity_of(
        &mut self,
        (listener, uid): (usize, u32),
        (source, node): (&str, &str),
        quotas: &Quotas,
        most: usize,
        now: Instant,
    ) -> Result<usize, RefuseReason> {
        let found = self.identities.iter().position(|identity| {
            identity.listener == listener
                && identity.uid == uid
                && *identity.source == *source
                && *identity.node == *node
        });
        if let Some(idx) = found {
            return Ok(idx);
        }
        let same_user = |identity: &&Identity| identity.listener == listener && identity.uid == uid;
        let of_user = self.identities.iter().filter(same_user).count();
        let is_local = |listener: usize| listener < self.n_local;
        let n_local = self
            .identities
            .iter()
            .filter(|identity| is_local(identity.listener))
            .count();
        let locals_full = is_local(listener) && n_local >= self.max_local_identities;
        if locals_full || self.identities.len() >= self.max_identities || of_user >= most {
            return Err(RefuseReason::Origins);
        }
        let second = Duration::from_secs(1);
        self.identities.push(Identity {
            listener,
            source: source.into(),
            node: node.into(),
            uid,
            received: 0,
            passed: 0,
            pending: 0,
            bytes: 0,
            pauses: 0,
            unfinished: 0,
            drops: Drops::default(),
            queue: VecDeque::new(),
            queue_bytes: 0,
            queue_limit: quotas.queue_bytes.max(1),
            half_bytes: 0,
            bytes_bucket: Bucket::new(quotas.bytes_per_second, second, now),
            events_bucket: Bucket::new(quotas.events_per_second, second, now),
            boots_bucket: Bucket::new(quotas.boots_per_hour, second * 3600, now),
            waiting: Vec::new(),
        });
        Ok(self.identities.len() - 1)
    }

    fn new_origin(
        &mut self,
        key: (Arc<str>, Arc<str>, BootId),
        candidate: &Candidate<'_>,
        identity: usize,
        now: Instant,
    ) -> Result<OriginId, RefuseReason> {
        let boots = &mut self.identities[identity].boots_bucket;
        if !boots.is_open(now) {
            return Err(RefuseReason::Boots);
        }
        boots.take(1);
        if self.origins.len() >= self.max_origins {
            self.forget_one_origin()?;
        }
        let origin = OriginId(self.next_origin);
        self.next_origin += 1;
        self.origin_of.insert(key.clone(), origin);
        self.origins.insert(
            origin,
            Origin {
                key,
                uid: candidate.uid,
                base: candidate.next_unsettled,
                received: 0,
                next_seq: candidate.next_unsettled,
                acked: candidate.next_unsettled,
                ack_is_dirty: false,
                conns: Vec::new(),
                greeted: 0,
            },
        );
        Ok(origin)
    }

    /// Forgets the process that greeted longest ago and is not connected. A linear search: it runs
    /// only when the table is full, at most as often as the boots quota lets new ones in.
    fn forget_one_origin(&mut self) -> Result<(), RefuseReason> {
        let oldest = self
            .origins
            .iter()
            .filter(|(_, origin)| origin.conns.is_empty())
            .min_by_key(|(_, origin)| origin.greeted)
            .map(|(&id, _)| id)
            .ok_or(RefuseReason::Origins)?;
        if let Some(origin) = self.origins.remove(&oldest) {
            self.origin_of.remove(&origin.key);
        }
        Ok(())
    }

    /// How long the connection must wait before it may be read: none, until the queue has room (it is
    /// noted and comes back by [`State::take_resumable`]), or a time.
    pub(crate) fn may_read(
        &mut self,
        identity: usize,
        conn: u64,
        kind: SocketKind,
        now: Instant,
    ) -> Readiness {
        let identity = &mut self.identities[identity];
        if identity.queue_bytes >= identity.queue_limit {
            identity.pauses += 1;
            identity.waiting.push(conn);
            return Readiness::WhenTaken;
        }
        // Of a SEQPACKET socket that is being drained only the rest is left; its rate does not matter any more.
        if kind == SocketKind::Seqpacket {
            return Readiness::Now;
        }
        for bucket in [&mut identity.bytes_bucket, &mut identity.events_bucket] {
            if !bucket.is_open(now) {
                identity.pauses += 1;
                return Readiness::At(now + bucket.wait());
            }
        }
        Readiness::Now
    }

    /// Charges bytes that were read to the identity's rate, whatever they hold.
    pub(crate) fn charge(&mut self, identity: usize, bytes: usize) {
        self.identities[identity].bytes_bucket.take(bytes as u64);
    }

    /// Looks at one frame; if it is good it is copied to `staged`.
    pub(crate) fn stage(
        &mut self,
        source: &Source<'_>,
        frame: &[u8],
        recv_ns: WallNs,
        now: Instant,
        staged: &mut Staged,
    ) {
        if let Err(reason) = self.try_stage(source, frame, recv_ns, now, staged) {
            self.identities[source.identity].drops.add(reason);
            staged.dropped.add(reason);
        }
    }

    fn try_stage(
        &mut self,
        source: &Source<'_>,
        frame: &[u8],
        recv_ns: WallNs,
        now: Instant,
        staged: &mut Staged,
    ) -> Result<(), DropReason> {
        let identity = &mut self.identities[source.identity];
        identity.received += 1;
        identity.bytes += frame.len() as u64;
        let in_rate =
            source.waits || identity.events_bucket.is_open(now) && identity.bytes_bucket.is_open(now);
        identity.events_bucket.take(1);
        if frame.len() > MAX_MESSAGE_BYTES {
            return Err(DropReason::TooLong);
        }
        let peeked = source.claims.peek(frame)?;
        let mut id_kind = IdKind::Producer;
        let mut seq = 0;
        if peeked.kind != EventKind::Status {
            let origin = self
                .origins
                .get_mut(&source.peer.origin)
                .expect("the origin of a connection is never forgotten");
            let number = peeked.seq.unwrap_or_else(|| {
                id_kind = IdKind::Receiver;
                origin.next_seq
            });
            if number < origin.next_seq && source.kind == SocketKind::Stream {
                return Err(DropReason::Duplicate);
            }
            origin.received += 1;
            origin.next_seq = origin.next_seq.max(number.saturating_add(1));
            seq = number;
        }
        if !source.peer.role.allows(peeked.kind) {
            return Err(DropReason::Role);
        }
        if !in_rate {
            return Err(DropReason::Quota);
        }
        if !source.waits && identity.queue_bytes + staged.bytes.len() >= identity.queue_limit {
            return Err(DropReason::QueueFull);
        }
        let start = staged.bytes.len();
        staged.bytes.extend_from_slice(frame);
        identity.pending += 1;
        staged.frames.push(FrameMeta {
            start: u32::try_from(start).expect("a read is smaller than 4 GiB"),
            len: u32::try_from(frame.len()).expect("a frame is within the message limit"),
            seq,
            recv_ns,
            kind: peeked.kind,
            id_kind,
        });
        Ok(())
    }

    /// Looks at one event of a node's stream, whose key was read already; if it is good it is copied to `staged`.
    pub(crate) fn stage_envelope(
        &mut self,
        peer: &Arc<Peer>,
        identity: usize,
        envelope: &Envelope<'_>,
        recv_ns: WallNs,
        staged: &mut Staged,
    ) {
        if let Err(reason) = self.try_stage_envelope(peer, identity, envelope, recv_ns, staged) {
            self.identities[identity].drops.add(reason);
            staged.dropped.add(reason);
        }
    }

    fn try_stage_envelope(
        &mut self,
        peer: &Arc<Peer>,
        identity: usize,
        envelope: &Envelope<'_>,
        recv_ns: WallNs,
        staged: &mut Staged,
    ) -> Result<(), DropReason> {
        let identity = &mut self.identities[identity];
        let key = &envelope.key;
        identity.received += 1;
        identity.bytes += envelope.json.len() as u64;
        identity.events_bucket.take(1);
        if key.id.boot != peer.boot {
            return Err(DropReason::Claim);
        }
        let may_be_told_again = matches!(
            key.kind,
            EventKind::ClientHello | EventKind::Open | EventKind::Confirm
        );
        if !peer.role.allows(key.kind) || staged.announced && !may_be_told_again {
            return Err(DropReason::Role);
        }
        if key.kind != EventKind::Status && !staged.announced {
            let origin = self
                .origins
                .get_mut(&peer.origin)
                .expect("the origin of a connection is never forgotten");
            if key.id.seq < origin.next_seq {
                return Err(DropReason::Duplicate);
            }
            origin.received += 1;
            origin.next_seq = key.id.seq.saturating_add(1);
        }
        let start = staged.bytes.len();
        staged.bytes.extend_from_slice(envelope.json);
        identity.pending += 1;
        staged.frames.push(FrameMeta {
            start: u32::try_from(start).expect("a part of a batch is smaller than 4 GiB"),
            len: u32::try_from(envelope.json.len()).expect("an envelope is within the message limit"),
            seq: key.id.seq,
            recv_ns,
            kind: key.kind,
            id_kind: key.id_kind,
        });
        Ok(())
    }

    /// Counts bytes in which no event can be found.
    pub(crate) fn malformed(&mut self, identity: usize, staged: &mut Staged) {
        self.identities[identity].received += 1;
        self.identities[identity].events_bucket.take(1);
        self.identities[identity].drops.add(DropReason::Malformed);
        staged.dropped.add(DropReason::Malformed);
    }

    /// A stream is gone and waits for room no more.
    pub(crate) fn waits_no_more(&mut self, identity: usize, conn: u64) {
        self.identities[identity]
            .waiting
            .retain(|&waiting| waiting != conn);
    }

    /// Counts a frame over the limit, which has no bytes any more.
    pub(crate) fn too_long(&mut self, identity: usize, staged: &mut Staged) {
        self.identities[identity].received += 1;
        self.identities[identity].events_bucket.take(1);
        self.identities[identity].drops.add(DropReason::TooLong);
        staged.dropped.add(DropReason::TooLong);
    }

    /// Notes how much memory the unfinished line of a connection holds now; false if that is too much.
    pub(crate) fn half_frame(&mut self, identity: usize, before: usize, after: usize) -> bool {
        let identity = &mut self.identities[identity];
        identity.half_bytes = identity.half_bytes + after - before;
        let limit = identity
            .queue_limit
            .max(MAX_MESSAGE_BYTES)
            .saturating_mul(HALF_FRAMES_FACTOR);
        after <= before || identity.half_bytes <= limit
    }

    /// Queues what was staged; true if the consumer waits for it.
    pub(crate) fn queue_staged(&mut self, peer: &Arc<Peer>, idx: usize, staged: Staged) -> bool {
        if staged.frames.is_empty() {
            return false;
        }
        let identity = &mut self.identities[idx];
        if let Some(Input::Batch(last)) = identity.queue.back_mut()
            && Arc::ptr_eq(&last.peer, peer)
            && last.announced == staged.announced
            && last.bytes.len() + staged.bytes.len() <= BATCH_BYTES
        {
            let before = last.cost();
            let offset = u32::try_from(last.bytes.len()).expect("a batch is smaller than 4 GiB");
            last.bytes.extend_from_slice(&staged.bytes);
            last.frames.extend(staged.frames.iter().map(|frame| FrameMeta {
                start: frame.start + offset,
                ..*frame
            }));
            identity.queue_bytes += last.cost() - before;
            return std::mem::take(&mut self.consumer_waits);
        }
        let mut batch = Batch {
            peer: Arc::clone(peer),
            announced: staged.announced,
            bytes: staged.bytes,
            frames: staged.frames,
        };
        // A read's buffer is made for a full read; what waits should not hold more than it needs.
        if batch.bytes.capacity() > 2 * batch.bytes.len() {
            batch.bytes.shrink_to_fit();
        }
        self.enqueue(idx, Input::Batch(batch))
    }

    /// Queues a notice; true if the consumer waits for it.
    pub(crate) fn enqueue(&mut self, idx: usize, input: Input) -> bool {
        let identity = &mut self.identities[idx];
        identity.queue_bytes += cost(&input);
        if identity.queue.is_empty() {
            self.turns.push_back(idx);
        }
        identity.queue.push_back(input);
        std::mem::take(&mut self.consumer_waits)
    }

    /// The next input in turn; the flag says that the epoll thread has something to do.
    pub(crate) fn pop(&mut self) -> Option<(Input, bool)> {
        let idx = self.turns.pop_front()?;
        let identity = &mut self.identities[idx];
        let input = identity
            .queue
            .pop_front()
            .expect("an identity in turn has something queued");
        if identity.queue.is_empty() {
            identity.queue.shrink_to(64);
        } else {
            self.turns.push_back(idx);
        }
        identity.queue_bytes -= cost(&input);
        if let Input::Batch(batch) = &input {
            let n = batch.frames.len() as u64;
            identity.passed += n;
            identity.pending -= n;
        }
        let mut resume = false;
        if !identity.waiting.is_empty() && identity.queue_bytes <= identity.queue_limit / 2 {
            self.resumable.append(&mut identity.waiting);
            resume = true;
        }
        Some((input, resume))
    }

    pub(crate) fn take_resumable(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.resumable)
    }

    /// Notes a cumulative acknowledgement; true if the epoll thread must be told.
    pub(crate) fn ack(&mut self, id: OriginId, ack: u64) -> bool {
        let Some(origin) = self.origins.get_mut(&id) else {
            return false;
        };
        if ack <= origin.acked {
            return false;
        }
        origin.acked = ack;
        if origin.conns.is_empty() || origin.ack_is_dirty {
            return false;
        }
        origin.ack_is_dirty = true;
        self.dirty_acks.push(id);
        self.dirty_acks.len() == 1
    }

    /// Connections and the acknowledgement that each should get.
    pub(crate) fn take_acks(&mut self) -> Vec<(u64, u64)> {
        let mut acks = Vec::new();
        for id in std::mem::take(&mut self.dirty_acks) {
            if let Some(origin) = self.origins.get_mut(&id) {
                origin.ack_is_dirty = false;
                acks.extend(origin.conns.iter().map(|&conn| (conn, origin.acked)));
            }
        }
        acks
    }

    /// A connection that had greeted ended; true if the consumer waits.
    pub(crate) fn left(&mut self, identity: usize, peer: &Arc<Peer>, mid_line: bool) -> bool {
        if let Some(origin) = self.origins.get_mut(&peer.origin) {
            origin.conns.retain(|&conn| conn != peer.conn);
        }
        let state = &mut self.identities[identity];
        state.unfinished += u64::from(mid_line);
        state.waiting.retain(|&conn| conn != peer.conn);
        self.enqueue(identity, Input::Closed(Arc::clone(peer)))
    }

    pub(crate) fn counters(&self, listeners: &[ListenerConfig]) -> Counters {
        let listeners = self
            .listeners
            .iter()
            .zip(listeners)
            .map(|(listener, config)| ListenerCounters {
                path: config.path.clone(),
                accepted: listener.accepted,
                refused: listener.refusals.list(),
                open: listener.open,
                accept_paused: listener.accept_paused,
            });
        let identities = self.identities.iter().map(|identity| IdentityCounters {
            listener: identity.listener,
            source: Arc::clone(&identity.source),
            node: Arc::clone(&identity.node),
            uid: identity.uid,
            received: identity.received,
            passed: identity.passed,
            dropped: identity.drops.list(),
            pending: identity.pending,
            bytes: identity.bytes,
            queue_bytes: identity.queue_bytes,
            pauses: identity.pauses,
            unfinished: identity.unfinished,
        });
        Counters {
            listeners: listeners.collect(),
            identities: identities.collect(),
        }
    }

    pub(crate) fn origins(&self) -> Vec<OriginCounters> {
        let mut origins: Vec<_> = self
            .origins
            .iter()
            .map(|(&id, origin)| OriginCounters {
                origin: id,
                source: Arc::clone(&origin.key.0),
                node: Arc::clone(&origin.key.1),
                boot: origin.key.2,
                base: origin.base,
                received: origin.received,
                next_seq: origin.next_seq,
                lost: (origin.next_seq - origin.base).saturating_sub(origin.received),
                acked: origin.acked,
                connections: u32::try_from(origin.conns.len()).unwrap_or(u32::MAX),
            })
            .collect();
        origins.sort_by_key(|origin| origin.origin);
        origins
    }
}

/// When a connection may be read.
pub(crate) enum Readiness {
    Now,
    WhenTaken,
    At(Instant),
}

fn cost(input: &Input) -> usize {
    match input {
        Input::Batch(batch) => batch.cost(),
        // The peer is shared; a notice is charged so that a flood of short connections is bounded too.
        Input::Opened(_) | Input::Closed(_) => size_of::<Input>() + size_of::<Peer>(),
    }
}
