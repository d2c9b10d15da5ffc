//! The epoll thread: accepts, checks, reads, splits, and writes acknowledgements.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ja4_model::decode::DecodeError;
use ja4_model::frame::Reply;
use ja4_model::limits::MAX_MESSAGE_BYTES;
use ja4_model::{BootId, WallNs, decode};
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use rustix::net::{self, RecvFlags, SendFlags, Shutdown, SocketFlags};

use crate::batch::{Input, Peer};
use crate::bind::Bound;
use crate::complaints::Complaints;
use crate::config::{ReceiverConfig, SocketKind};
use crate::counters::{DropReason, RefuseReason};
use crate::credentials::{self, Credentials};
use crate::peek::Claims;
use crate::receiver::{Shared, shutdown_wait};
use crate::remote::is_remote;
use crate::splitter::{Piece, Splitter};
use crate::state::{Candidate, Dropped, Readiness, Source, Staged};

/// The wake-up descriptor's number; listeners follow, then connections.
const WAKE: u64 = 0;

/// Bytes of one read of a STREAM connection: batches of this size cost little per event, and turns stay short.
const READ_BYTES: usize = 64 << 10;

/// Packets of one turn of a SEQPACKET connection.
const PACKETS_PER_TURN: usize = 64;

/// Room for one packet: a byte more than the longest message shows that one is longer.
const PACKET_BYTES: usize = MAX_MESSAGE_BYTES + 1;

/// Bytes of one turn of a SEQPACKET connection: there is always room for one more packet.
const TURN_BYTES: usize = 2 * PACKET_BYTES;

/// Longest greeting: two names of 253 bytes, each byte escaped to six, and a list of versions.
const MAX_GREETING_BYTES: usize = 8 << 10;

/// Connections accepted in one turn.
const ACCEPTS_PER_TURN: usize = 64;

/// Pause of accepting when the process is out of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

enum Stage {
    /// No greeting yet.
    Greeting,
    /// Greeted.
    Speaking {
        identity: usize,
        peer: Arc<Peer>,
        claims: Claims,
    },
}

struct Conn {
    fd: OwnedFd,
    listener: usize,
    kind: SocketKind,
    peer: Credentials,
    stage: Stage,
    splitter: Splitter,
    /// Memory of the unfinished line that the identity was told of.
    half_bytes: usize,
    /// Bytes of replies that the peer has not taken yet; at most one reply.
    out: Vec<u8>,
    /// The newest acknowledgement, if it waits for `out`.
    ack: Option<u64>,
    /// The peer takes no replies any more; what it has sent is still read.
    deaf: bool,
    reads: bool,
    writes: bool,
}

impl Conn {
    fn is_greeting(&self) -> bool {
        matches!(self.stage, Stage::Greeting)
    }

    /// It is in the epoll set. One that waits for nothing is not: a hang-up would be reported for ever.
    fn is_watched(&self) -> bool {
        self.reads || self.writes
    }
}

struct Listening {
    /// Nothing once reading has stopped.
    bound: Option<Bound>,
    complaints: Complaints,
    accepts: bool,
}

/// What the first frame of a connection was.
enum First {
    /// A greeting, or nothing that lets the connection live.
    Settled,
    /// An event of a producer that does not greet, which is let in.
    Event,
}

pub(crate) struct Server {
    config: ReceiverConfig,
    listeners: Vec<Listening>,
    shared: Arc<Shared>,
    epoll: OwnedFd,
    conns: HashMap<u64, Conn>,
    next_conn: u64,
    /// Greetings are due in order: the wait is the same for all.
    greetings: VecDeque<(Instant, u64)>,
    /// Connections that may be read again at a time.
    paused: BinaryHeap<Reverse<(Instant, u64)>>,
    accept_again: Option<Instant>,
    per_uid: HashMap<(usize, u32), usize>,
    buffer: Vec<u8>,
    /// Nothing new is accepted, STREAM is not read, SEQPACKET is read to its end.
    stopping: bool,
    /// The consumer knows that all is read.
    stopped: bool,
}

impl Server {
    pub(crate) fn new(config: ReceiverConfig, bound: Vec<Bound>, shared: Arc<Shared>) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(
            &epoll,
            shared.event(),
            epoll::EventData::new_u64(WAKE),
            epoll::EventFlags::IN,
        )?;
        for (number, bound) in (1..).zip(&bound) {
            epoll::add(
                &epoll,
                &bound.socket,
                epoll::EventData::new_u64(number),
                epoll::EventFlags::IN,
            )?;
        }
        let next_conn = bound.len() as u64 + 1;
        let listeners = bound
            .into_iter()
            .map(|bound| Listening {
                bound: Some(bound),
                complaints: Complaints::default(),
                accepts: true,
            })
            .collect();
        Ok(Self {
            config,
            listeners,
            shared,
            epoll,
            conns: HashMap::new(),
            next_conn,
            greetings: VecDeque::new(),
            paused: BinaryHeap::new(),
            accept_again: None,
            per_uid: HashMap::new(),
            buffer: vec![0; TURN_BYTES],
            stopping: false,
            stopped: false,
        })
    }

    pub(crate) fn run(mut self) {
        let mut events = [MaybeUninit::<epoll::Event>::uninit(); 256];
        loop {
            let ready: Vec<u64> = match epoll::wait(&self.epoll, &mut events, self.timeout().as_ref()) {
                Ok((ready, _)) => ready.iter().map(|event| event.data.u64()).collect(),
                Err(Errno::INTR) => Vec::new(),
                Err(error) => {
                    tracing::error!("the receiver cannot wait for its sockets: {error}");
                    return;
                }
            };
            let n_listeners = self.listeners.len() as u64;
            for token in ready {
                match token {
                    WAKE => self.drain_wake(),
                    listener if listener <= n_listeners => self.accept(index(listener - 1)),
                    conn => self.serve(conn),
                }
            }
            self.tend();
            let (stop, end) = {
                let state = self.shared.lock();
                (state.stop_reading, state.shutdown)
            };
            if stop && !self.stopping {
                self.stop_reading();
            }
            self.note_drained();
            if end {
                self.write_last();
                return;
            }
        }
    }

    fn timeout(&self) -> Option<Timespec> {
        let greeting = self.greetings.front().map(|(at, _)| *at);
        let paused = self.paused.peek().map(|Reverse((at, _))| *at);
        let next = [greeting, paused, self.accept_again]
            .into_iter()
            .flatten()
            .min()?;
        let left = next.saturating_duration_since(Instant::now());
        Some(Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(left.subsec_nanos()),
        })
    }

    fn drain_wake(&self) {
        let mut count = [0; 8];
        // EAGAIN: somebody else's wake-up was drained with this one.
        rustix::io::read(self.shared.event(), &mut count).unwrap_or(0);
    }

    /// Timers, connections with room again, acknowledgements.
    fn tend(&mut self) {
        let now = Instant::now();
        while self.greetings.front().is_some_and(|(at, _)| *at <= now) {
            let Some((_, id)) = self.greetings.pop_front() else {
                break;
            };
            if self.conns.get(&id).is_some_and(Conn::is_greeting) {
                self.refuse(id, RefuseReason::GreetingTimeout, "did not greet in time");
            }
        }
        while self.paused.peek().is_some_and(|Reverse((at, _))| *at <= now) {
            let Some(Reverse((_, id))) = self.paused.pop() else {
                break;
            };
            self.set_interest(id, Some(true), None);
        }
        if self.accept_again.is_some_and(|at| at <= now) {
            self.accept_again = None;
            self.set_accepting(true);
        }
        let (resumable, acks) = {
            let mut state = self.shared.lock();
            (state.take_resumable(), state.take_acks())
        };
        for id in resumable {
            if is_remote(id) {
                self.shared.hub().resume(id);
            } else {
                self.set_interest(id, Some(true), None);
            }
        }
        for (id, ack) in acks {
            if is_remote(id) {
                self.shared.hub().ack(id, ack);
            } else {
                self.acknowledge(id, ack);
            }
        }
    }

    fn set_accepting(&mut self, accepts: bool) {
        for (number, listening) in (1..).zip(&mut self.listeners) {
            if listening.accepts != accepts {
                listening.accepts = accepts;
                let flags = if accepts {
                    epoll::EventFlags::IN
                } else {
                    epoll::EventFlags::empty()
                };
                let data = epoll::EventData::new_u64(number);
                let Some(bound) = &listening.bound else { continue };
                if let Err(error) = epoll::modify(&self.epoll, &bound.socket, data, flags) {
                    tracing::error!("the receiver cannot change what it waits for: {error}");
                }
            }
        }
    }

    fn accept(&mut self, listener: usize) {
        for _ in 0..ACCEPTS_PER_TURN {
            if !self.accept_one(listener) {
                return;
            }
        }
    }

    /// False if there is nothing more to accept now.
    fn accept_one(&mut self, listener: usize) -> bool {
        let Some(bound) = &self.listeners[listener].bound else {
            return false;
        };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        match net::accept_with(&bound.socket, flags) {
            Ok(fd) => {
                self.accepted(listener, fd);
                true
            }
            Err(Errno::INTR | Errno::CONNABORTED) => true,
            // EINVAL: it was shut down and its backlog is empty.
            Err(Errno::AGAIN | Errno::INVAL) => false,
            Err(error) => {
                // Out of descriptors or memory: others must close theirs first.
                self.shared.lock().accept_paused(listener);
                let path = &self.config.listeners[listener].path;
                let complaints = &mut self.listeners[listener].complaints;
                complaints.accept_paused(path, error, Instant::now());
                self.set_accepting(false);
                self.accept_again = Some(Instant::now() + ACCEPT_PAUSE);
                false
            }
        }
    }

    fn accepted(&mut self, listener: usize, fd: OwnedFd) {
        self.shared.lock().accepted(listener);
        let config = &self.config.listeners[listener];
        let credentials = credentials::of_peer(&fd);
        let peer = *credentials.as_ref().unwrap_or(&Credentials {
            uid: u32::MAX,
            gid: u32::MAX,
            pid: 0,
        });
        let allowed = if config.uids.is_empty() && config.gids.is_empty() {
            peer.uid == rustix::process::geteuid().as_raw()
        } else {
            config.uids.contains(&peer.uid) || config.gids.contains(&peer.gid)
        };
        let of_user = self.per_uid.get(&(listener, peer.uid)).copied().unwrap_or(0);
        let full =
            self.conns.len() >= self.config.max_connections || of_user >= config.quotas.connections_per_uid;
        let refusal = match (credentials.is_ok() && allowed, full) {
            (false, _) => Some((RefuseReason::Peer, "may not use this socket")),
            (true, true) => Some((RefuseReason::Connections, "is one connection too many")),
            (true, false) => None,
        };
        if let Some((reason, why)) = refusal {
            let mut state = self.shared.lock();
            state.refused(listener, reason);
            state.closed(listener);
            drop(state);
            self.say(listener, peer, reason, why);
            return;
        }
        let id = self.next_conn;
        let flags = epoll::EventFlags::IN | epoll::EventFlags::RDHUP;
        if let Err(error) = epoll::add(&self.epoll, &fd, epoll::EventData::new_u64(id), flags) {
            tracing::warn!("a connection cannot be watched and is closed: {error}");
            self.shared.lock().closed(listener);
            return;
        }
        self.next_conn += 1;
        *self.per_uid.entry((listener, peer.uid)).or_insert(0) += 1;
        // Who need not greet may stay silent until it has something to say.
        if config.default_source.is_none() {
            self.greetings
                .push_back((Instant::now() + self.config.greeting_timeout, id));
        }
        self.conns.insert(
            id,
            Conn {
                fd,
                listener,
                kind: config.kind,
                peer,
                stage: Stage::Greeting,
                splitter: Splitter::default(),
                half_bytes: 0,
                out: Vec::new(),
                ack: None,
                deaf: false,
                reads: true,
                writes: false,
            },
        );
    }

    /// One line about a refused peer.
    fn say(&mut self, listener: usize, peer: Credentials, reason: RefuseReason, why: &str) {
        let path = &self.config.listeners[listener].path;
        let complaints = &mut self.listeners[listener].complaints;
        complaints.refused(path, (peer.uid, peer.pid), reason, why, Instant::now());
    }

    /// A line for each reason that frames of one turn were dropped for.
    fn say_dropped(&mut self, id: u64, dropped: Dropped) {
        let Some(conn) = self.conns.get(&id) else { return };
        let Stage::Speaking { peer, .. } = &conn.stage else {
            return;
        };
        for reason in dropped.reasons() {
            // After a reconnect that is the rule, and nothing is lost.
            if reason != DropReason::Duplicate {
                let path = &self.config.listeners[conn.listener].path;
                let complaints = &mut self.listeners[conn.listener].complaints;
                complaints.dropped(path, &peer.source, conn.peer.pid, reason, Instant::now());
            }
        }
    }

    fn refuse(&mut self, id: u64, reason: RefuseReason, why: &str) {
        if let Some(conn) = self.conns.get(&id) {
            let (listener, peer) = (conn.listener, conn.peer);
            self.shared.lock().refused(listener, reason);
            self.say(listener, peer, reason, why);
        }
        self.close(id);
    }

    fn close(&mut self, id: u64) {
        let Some(conn) = self.conns.remove(&id) else {
            return;
        };
        let of_user = (conn.listener, conn.peer.uid);
        if let Some(n) = self.per_uid.get_mut(&of_user) {
            *n -= 1;
            if *n == 0 {
                self.per_uid.remove(&of_user);
            }
        }
        let mut state = self.shared.lock();
        state.closed(conn.listener);
        let waits = match &conn.stage {
            Stage::Speaking { identity, peer, .. } => {
                state.half_frame(*identity, conn.half_bytes, 0);
                state.left(*identity, peer, conn.splitter.is_mid_line())
            }
            Stage::Greeting => false,
        };
        drop(state);
        if waits {
            self.shared.notify();
        }
        // Closing the descriptor takes it out of the epoll set.
    }

    fn serve(&mut self, id: u64) {
        let Some(conn) = self.conns.get(&id) else { return };
        if conn.writes {
            self.write_out(id);
        }
        let Some(conn) = self.conns.get(&id) else { return };
        if conn.reads {
            match conn.kind {
                SocketKind::Stream => self.read_stream(id),
                SocketKind::Seqpacket => self.read_packets(id),
            }
        }
    }

    /// False if the connection must wait.
    fn may_read(&mut self, id: u64) -> bool {
        let Some(conn) = self.conns.get(&id) else {
            return false;
        };
        let Stage::Speaking { identity, .. } = conn.stage else {
            return true;
        };
        if !self.waits(conn.kind) {
            return true;
        }
        let readiness = self
            .shared
            .lock()
            .may_read(identity, id, conn.kind, Instant::now());
        match readiness {
            Readiness::Now => return true,
            Readiness::WhenTaken => {}
            Readiness::At(at) => self.paused.push(Reverse((at, id))),
        }
        self.set_interest(id, Some(false), None);
        false
    }

    /// True where what is over a limit is left in the kernel. A SEQPACKET producer must not be held up
    /// by us; once it has been cut off, what it had sent can wait for the consumer.
    fn waits(&self, kind: SocketKind) -> bool {
        kind == SocketKind::Stream || self.stopping
    }

    fn read_stream(&mut self, id: u64) {
        if !self.may_read(id) {
            return;
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        let read = self.conns.get(&id).map(|conn| {
            // Of a peer that has not greeted it is not known yet whether there is room for its events.
            let length = if conn.is_greeting() {
                MAX_GREETING_BYTES
            } else {
                READ_BYTES
            };
            rustix::io::read(&conn.fd, &mut buffer[..length])
        });
        match read {
            Some(Ok(n)) if n > 0 => self.take_bytes(id, &buffer[..n]),
            Some(Err(Errno::AGAIN | Errno::INTR)) | None => {}
            Some(Ok(_) | Err(_)) => self.close(id),
        }
        self.buffer = buffer;
    }

    fn take_bytes(&mut self, id: u64, mut input: &[u8]) {
        let recv_ns = (self.config.clock)();
        let n_read = input.len();
        let mut first = None;
        if self.conns.get(&id).is_some_and(Conn::is_greeting) {
            let Some(line) = self.take_first_line(id, &mut input) else {
                return;
            };
            match self.greet(id, &line) {
                First::Settled => {}
                First::Event => first = Some(line),
            }
        }
        let waits = self.waits(SocketKind::Stream);
        let Some(conn) = self.conns.get_mut(&id) else {
            return;
        };
        let Stage::Speaking {
            identity,
            peer,
            claims,
        } = &conn.stage
        else {
            return;
        };
        let source = Source {
            peer,
            identity: *identity,
            claims,
            kind: conn.kind,
            waits,
        };
        let now = Instant::now();
        let mut staged = Staged::with_capacity(input.len());
        let mut state = self.shared.lock();
        state.charge(*identity, n_read);
        if let Some(line) = first {
            state.stage(&source, &line, recv_ns, now, &mut staged);
        }
        while let Some(piece) = conn.splitter.next(&mut input, MAX_MESSAGE_BYTES) {
            match piece {
                Piece::Frame(frame) => state.stage(&source, frame, recv_ns, now, &mut staged),
                Piece::TooLong => state.too_long(*identity, &mut staged),
            }
        }
        conn.splitter.rest();
        let half_bytes = conn.splitter.buffered();
        let fits = state.half_frame(*identity, conn.half_bytes, half_bytes);
        conn.half_bytes = half_bytes;
        let dropped = staged.take_drops();
        let waiting = state.queue_staged(source.peer, source.identity, staged);
        drop(state);
        if waiting {
            self.shared.notify();
        }
        self.say_dropped(id, dropped);
        if !fits {
            let why = "has begun a line that no memory is left for";
            self.refuse(id, RefuseReason::HalfFrames, why);
        }
    }

    /// The first line, once it is whole; one that is too long is no greeting either.
    fn take_first_line(&mut self, id: u64, input: &mut &[u8]) -> Option<Vec<u8>> {
        let conn = self.conns.get_mut(&id)?;
        // Where producers need not greet, it may be an event.
        let limit = match self.config.listeners[conn.listener].default_source {
            Some(_) => MAX_MESSAGE_BYTES,
            None => MAX_GREETING_BYTES,
        };
        match conn.splitter.next(input, limit)? {
            Piece::Frame(line) => Some(line.to_vec()),
            Piece::TooLong => Some(Vec::new()),
        }
    }

    /// Reads what is there, up to the packets and bytes of one turn.
    fn read_packets(&mut self, id: u64) {
        if !self.may_read(id) {
            return;
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        let (mut packets, mut filled, mut ended) = (Vec::with_capacity(PACKETS_PER_TURN), 0, false);
        // Of a peer that has not greeted it is not known yet whether there is room for its events.
        let is_greeting = self.conns.get(&id).is_some_and(Conn::is_greeting);
        let most = if is_greeting { 1 } else { PACKETS_PER_TURN };
        while let Some(conn) = self.conns.get(&id)
            && packets.len() < most
            && buffer.len() - filled >= PACKET_BYTES
        {
            match net::recv(&conn.fd, &mut buffer[filled..][..PACKET_BYTES], RecvFlags::TRUNC) {
                Ok((n, length)) if length > 0 => {
                    packets.push((filled, n, length));
                    filled += n;
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Ok(_) | Err(_) => {
                    ended = true;
                    break;
                }
            }
        }
        if !packets.is_empty() {
            let recv_ns = (self.config.clock)();
            let packets = packets.iter().map(|&(start, n, length)| Packet {
                bytes: &buffer[start..start + n],
                whole: n == length,
            });
            self.take_packets(id, packets, recv_ns);
        }
        self.buffer = buffer;
        if ended {
            self.close(id);
        }
    }

    fn take_packets<'b>(&mut self, id: u64, mut packets: impl Iterator<Item = Packet<'b>>, recv_ns: WallNs) {
        let mut first = None;
        if self.conns.get(&id).is_some_and(Conn::is_greeting)
            && let Some(packet) = packets.next()
        {
            match self.greet(id, packet.frame().unwrap_or_default()) {
                First::Settled => {}
                First::Event => first = Some(packet),
            }
        }
        let waits = self.waits(SocketKind::Seqpacket);
        let Some(conn) = self.conns.get(&id) else { return };
        let Stage::Speaking {
            identity,
            peer,
            claims,
        } = &conn.stage
        else {
            return;
        };
        let source = Source {
            peer,
            identity: *identity,
            claims,
            kind: conn.kind,
            waits,
        };
        let now = Instant::now();
        let mut staged = Staged::with_capacity(0);
        let mut state = self.shared.lock();
        for packet in first.into_iter().chain(packets) {
            match packet.frame() {
                Some(frame) => state.stage(&source, frame, recv_ns, now, &mut staged),
                None => state.too_long(*identity, &mut staged),
            }
            state.charge(*identity, packet.bytes.len());
        }
        let dropped = staged.take_drops();
        let waiting = state.queue_staged(source.peer, source.identity, staged);
        drop(state);
        if waiting {
            self.shared.notify();
        }
        self.say_dropped(id, dropped);
    }

    fn greet(&mut self, id: u64, line: &[u8]) -> First {
        let Some(conn) = self.conns.get(&id) else {
            return First::Settled;
        };
        let listener = &self.config.listeners[conn.listener];
        let hello = match decode::hello(line) {
            Ok(hello) => hello,
            Err(error) => {
                let (is_greeting, reason) = match &error {
                    DecodeError::Version(_) => (true, RefuseReason::Version),
                    DecodeError::Missing(_) => (true, RefuseReason::Greeting),
                    _ => (false, RefuseReason::Greeting),
                };
                if !is_greeting && let Some(source) = listener.default_source.clone() {
                    let node = self.config.node.clone();
                    self.admit(id, &source, &node, BootId(random_boot()));
                    return First::Event;
                }
                let why = format!("did not greet as a producer must ({error})");
                self.refuse(id, reason, &why);
                return First::Settled;
            }
        };
        let (source, node) = (
            hello.source.to_str_lossy().into_owned(),
            hello.node.to_str_lossy().into_owned(),
        );
        let boot = hello.boot;
        let allowed = &listener.sources;
        if !allowed.is_empty() && !allowed.contains(&source) {
            let why = format!(
                "calls itself {source:?}, this socket takes {}",
                allowed.join(", ")
            );
            self.refuse(id, RefuseReason::Source, &why);
        } else if node != self.config.node {
            let why = format!("calls its host {node:?}, this one is {:?}", self.config.node);
            self.refuse(id, RefuseReason::Node, &why);
        } else {
            self.admit(id, &source, &node, boot);
        }
        First::Settled
    }

    fn admit(&mut self, id: u64, source: &str, node: &str, boot: BootId) {
        let next_unsettled = (self.config.next_unsettled)(source, node, boot);
        let Some(conn) = self.conns.get(&id) else { return };
        let candidate = Candidate {
            conn: id,
            listener: conn.listener,
            source,
            node,
            boot,
            next_unsettled,
            uid: conn.peer.uid,
            gid: conn.peer.gid,
            pid: conn.peer.pid,
            is_last: self.stopping,
            role: self.config.listeners[conn.listener].role,
        };
        let admitted =
            self.shared
                .lock()
                .admit(&candidate, &self.config.listeners[conn.listener], Instant::now());
        let admission = match admitted {
            Ok(admission) => admission,
            Err(reason) => {
                self.refuse(id, reason, &format!("is not admitted: {}", reason.name()));
                return;
            }
        };
        if let Some(older) = admission.replaces {
            if is_remote(older) {
                self.shared.hub().end(older, "its producer speaks on a socket");
            } else {
                self.close(older);
            }
        }
        let Some(conn) = self.conns.get_mut(&id) else {
            return;
        };
        let claims = Claims::new(source.as_bytes(), node.as_bytes(), boot);
        let kind = conn.kind;
        let peer = Arc::clone(&admission.peer);
        conn.stage = Stage::Speaking {
            identity: admission.identity,
            peer: Arc::clone(&peer),
            claims,
        };
        let waits = self
            .shared
            .lock()
            .enqueue(admission.identity, Input::Opened(peer));
        if waits {
            self.shared.notify();
        }
        if kind == SocketKind::Stream {
            self.reply(id, Reply::Welcome { ack: admission.ack });
        }
    }

    fn acknowledge(&mut self, id: u64, ack: u64) {
        let Some(conn) = self.conns.get_mut(&id) else {
            return;
        };
        if conn.kind != SocketKind::Stream || conn.deaf {
            return;
        }
        if conn.out.is_empty() {
            self.reply(id, Reply::Ack { ack });
        } else {
            conn.ack = Some(ack);
        }
    }

    fn reply(&mut self, id: u64, reply: Reply) {
        let Some(conn) = self.conns.get_mut(&id) else {
            return;
        };
        if conn.deaf {
            return;
        }
        reply.write_json(&mut conn.out);
        conn.out.push(b'\n');
        self.write_out(id);
    }

    /// Writes what waits; of acknowledgements only the newest waits, so a peer that never reads costs nothing.
    fn write_out(&mut self, id: u64) {
        loop {
            let Some(conn) = self.conns.get_mut(&id) else {
                return;
            };
            if conn.out.is_empty() {
                let Some(ack) = conn.ack.take() else { break };
                Reply::Ack { ack }.write_json(&mut conn.out);
                conn.out.push(b'\n');
            }
            match net::send(&conn.fd, &conn.out, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
                Ok(n) => {
                    conn.out.drain(..n);
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    self.set_interest(id, None, Some(true));
                    return;
                }
                Err(_) => {
                    // It has closed; what it had sent before is still to be read, and then its end is seen.
                    conn.deaf = true;
                    conn.ack = None;
                    conn.out = Vec::new();
                    break;
                }
            }
        }
        self.set_interest(id, None, Some(false));
    }

    fn set_interest(&mut self, id: u64, reads: Option<bool>, writes: Option<bool>) {
        let stopping = self.stopping;
        let Some(conn) = self.conns.get_mut(&id) else {
            return;
        };
        let may_read = !stopping || conn.kind == SocketKind::Seqpacket;
        let (reads, writes) = (
            reads.unwrap_or(conn.reads) && may_read,
            writes.unwrap_or(conn.writes),
        );
        if (reads, writes) == (conn.reads, conn.writes) {
            return;
        }
        let was_watched = conn.is_watched();
        (conn.reads, conn.writes) = (reads, writes);
        let mut flags = epoll::EventFlags::empty();
        if reads {
            flags |= epoll::EventFlags::IN | epoll::EventFlags::RDHUP;
        }
        if writes {
            flags |= epoll::EventFlags::OUT;
        }
        let data = epoll::EventData::new_u64(id);
        let changed = match (was_watched, conn.is_watched()) {
            (true, true) => epoll::modify(&self.epoll, &conn.fd, data, flags),
            (true, false) => epoll::delete(&self.epoll, &conn.fd),
            (false, _) => epoll::add(&self.epoll, &conn.fd, data, flags),
        };
        if let Err(error) = changed {
            tracing::error!("the receiver cannot change what it waits for: {error}");
            self.close(id);
        }
    }

    /// No connection and no read any more, but for what SEQPACKET peers have sent until now: it is cut
    /// off there, so that their later events stay with them, and read to its end as the consumer takes it.
    fn stop_reading(&mut self) {
        self.accept_again = None;
        for listener in 0..self.listeners.len() {
            let Some(bound) = &self.listeners[listener].bound else {
                continue;
            };
            // From here on the kernel refuses to connect, so that the backlog has an end.
            if self.config.listeners[listener].kind == SocketKind::Seqpacket
                && net::shutdown(&bound.socket, Shutdown::Read).is_ok()
            {
                while self.accept_one(listener) {}
            }
            self.listeners[listener].bound = None;
        }
        self.accept_again = None;
        self.stopping = true;
        let mut ids: Vec<u64> = self.conns.keys().copied().collect();
        ids.sort_unstable();
        for id in ids {
            let Some(conn) = self.conns.get(&id) else { continue };
            if conn.kind == SocketKind::Stream {
                self.set_interest(id, Some(false), None);
            } else if net::shutdown(&conn.fd, Shutdown::Read).is_err() {
                self.close(id);
            }
        }
    }

    /// Tells the consumer, once, that nothing more comes.
    fn note_drained(&mut self) {
        let drains = |conn: &Conn| conn.kind == SocketKind::Seqpacket;
        if self.stopping && !self.stopped && !self.conns.values().any(drains) {
            self.stopped = true;
            self.shared.lock().reading_stopped = true;
            self.shared.notify();
        }
    }

    fn write_last(&mut self) {
        let deadline = Instant::now() + shutdown_wait();
        self.tend();
        while Instant::now() < deadline {
            let mut waiting: Vec<u64> = self
                .conns
                .iter()
                .filter(|(_, conn)| !conn.out.is_empty())
                .map(|(id, _)| *id)
                .collect();
            if waiting.is_empty() {
                return;
            }
            waiting.sort_unstable();
            for id in waiting {
                self.write_out(id);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// A packet, or the beginning of one that is too long.
struct Packet<'a> {
    bytes: &'a [u8],
    whole: bool,
}

impl<'a> Packet<'a> {
    /// What it holds without a line end; nothing if it was cut.
    fn frame(&self) -> Option<&'a [u8]> {
        self.whole
            .then(|| self.bytes.strip_suffix(b"\n").unwrap_or(self.bytes))
    }
}

fn index(number: u64) -> usize {
    usize::try_from(number).expect("there are as many listeners as configured")
}

fn random_boot() -> u64 {
    let mut bytes = [0; 8];
    match getrandom::fill(&mut bytes) {
        Ok(()) => u64::from_ne_bytes(bytes),
        // Only uniqueness is needed: the clock has it.
        Err(_) => std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(1, |since| u64::try_from(since.as_nanos()).unwrap_or(1)),
    }
}
