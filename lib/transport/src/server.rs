//! The epoll thread: accepts, checks, reads, splits, and writes acknowledgements.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ja4_model::frame::Reply;
use ja4_model::limits::MAX_MESSAGE_BYTES;
use ja4_model::{BootId, decode};
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use rustix::net::{self, RecvFlags, SendFlags, SocketFlags};

use crate::batch::{Input, Peer};
use crate::bind::Bound;
use crate::config::{ReceiverConfig, SocketKind};
use crate::counters::RefuseReason;
use crate::peek::Claims;
use crate::receiver::{Shared, shutdown_wait};
use crate::splitter::{Piece, Splitter};
use crate::state::{Candidate, Readiness, Source, Staged};

/// The wake-up descriptor's number; listeners follow, then connections.
const WAKE: u64 = 0;

/// Bytes of one read of a STREAM connection: batches of this size cost little per event, and turns stay short.
const READ_BYTES: usize = 64 << 10;

/// Packets of one turn of a SEQPACKET connection.
const PACKETS_PER_TURN: usize = 64;

/// Connections accepted in one turn.
const ACCEPTS_PER_TURN: usize = 64;

/// Pause of accepting when the process is out of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// At most one line a minute about refused peers of one listener: a hostile one must not fill the log.
const SAY_EVERY: Duration = Duration::from_mins(1);

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
    uid: u32,
    gid: u32,
    pid: i32,
    stage: Stage,
    splitter: Splitter,
    /// Bytes of replies that the peer has not taken yet; at most one reply.
    out: Vec<u8>,
    /// The newest acknowledgement, if it waits for `out`.
    ack: Option<u64>,
    reads: bool,
    writes: bool,
}

struct Listening {
    bound: Bound,
    said: Option<Instant>,
    accepts: bool,
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
    stopping: bool,
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
                bound,
                said: None,
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
            buffer: vec![0; MAX_MESSAGE_BYTES + 1],
            stopping: false,
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
            if self
                .conns
                .get(&id)
                .is_some_and(|conn| matches!(conn.stage, Stage::Greeting))
            {
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
            self.set_interest(id, Some(true), None);
        }
        for (id, ack) in acks {
            self.acknowledge(id, ack);
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
                if let Err(error) = epoll::modify(&self.epoll, &listening.bound.socket, data, flags) {
                    tracing::error!("the receiver cannot change what it waits for: {error}");
                }
            }
        }
    }

    fn accept(&mut self, listener: usize) {
        for _ in 0..ACCEPTS_PER_TURN {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            match net::accept_with(&self.listeners[listener].bound.socket, flags) {
                Ok(fd) => self.accepted(listener, fd),
                Err(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => return,
                Err(error) => {
                    // Out of descriptors or memory: others must close theirs first.
                    self.shared.lock().accept_paused(listener);
                    tracing::warn!(
                        "socket {:?}: accepting pauses: {error}",
                        self.config.listeners[listener].path
                    );
                    self.set_accepting(false);
                    self.accept_again = Some(Instant::now() + ACCEPT_PAUSE);
                    return;
                }
            }
        }
    }

    fn accepted(&mut self, listener: usize, fd: OwnedFd) {
        self.shared.lock().accepted(listener);
        let config = &self.config.listeners[listener];
        let credentials = net::sockopt::socket_peercred(&fd);
        let (uid, gid, pid) = match &credentials {
            Ok(peer) => (
                peer.uid.as_raw(),
                peer.gid.as_raw(),
                peer.pid.as_raw_nonzero().get(),
            ),
            Err(_) => (u32::MAX, u32::MAX, 0),
        };
        let allowed = if config.uids.is_empty() && config.gids.is_empty() {
            uid == rustix::process::geteuid().as_raw()
        } else {
            config.uids.contains(&uid) || config.gids.contains(&gid)
        };
        let of_user = self.per_uid.get(&(listener, uid)).copied().unwrap_or(0);
        let full =
            self.conns.len() >= self.config.max_connections || of_user >= config.quotas.connections_per_uid;
        let refusal = match (credentials.is_ok() && allowed, full) {
            (false, _) => Some((
                RefuseReason::Peer,
                "may not use this socket: add its user to uids or its group to gids",
            )),
            (true, true) => Some((RefuseReason::Connections, "has too many connections")),
            (true, false) => None,
        };
        if let Some((reason, why)) = refusal {
            let mut state = self.shared.lock();
            state.refused(listener, reason);
            state.closed(listener);
            drop(state);
            self.say(listener, uid, pid, why);
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
        *self.per_uid.entry((listener, uid)).or_insert(0) += 1;
        self.greetings
            .push_back((Instant::now() + self.config.greeting_timeout, id));
        let kind = config.kind;
        let default = config.default_source.clone();
        self.conns.insert(
            id,
            Conn {
                fd,
                listener,
                kind,
                uid,
                gid,
                pid,
                stage: Stage::Greeting,
                splitter: Splitter::default(),
                out: Vec::new(),
                ack: None,
                reads: true,
                writes: false,
            },
        );
        if let Some(source) = default {
            let boot = BootId(random_boot());
            let node = self.config.node.clone();
            self.admit(id, &source, &node, boot);
        }
    }

    /// One line about a refused peer, at most one a minute for each socket.
    fn say(&mut self, listener: usize, uid: u32, pid: i32, why: &str) {
        let now = Instant::now();
        let listening = &mut self.listeners[listener];
        if listening
            .said
            .is_none_or(|at| now.duration_since(at) >= SAY_EVERY)
        {
            listening.said = Some(now);
            let path = &self.config.listeners[listener].path;
            tracing::warn!(
                "socket {path:?}: refused a peer (user {uid}, process {pid}): it {why}; further ones this minute are only counted"
            );
        }
    }

    fn refuse(&mut self, id: u64, reason: RefuseReason, why: &str) {
        if let Some(conn) = self.conns.get(&id) {
            let (listener, uid, pid) = (conn.listener, conn.uid, conn.pid);
            self.shared.lock().refused(listener, reason);
            self.say(listener, uid, pid, why);
        }
        self.close(id);
    }

    fn close(&mut self, id: u64) {
        let Some(conn) = self.conns.remove(&id) else {
            return;
        };
        if let Some(n) = self.per_uid.get_mut(&(conn.listener, conn.uid)) {
            *n -= 1;
            if *n == 0 {
                self.per_uid.remove(&(conn.listener, conn.uid));
            }
        }
        let mut state = self.shared.lock();
        state.closed(conn.listener);
        let waits = match &conn.stage {
            Stage::Speaking { identity, peer, .. } => {
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
                SocketKind::Seqpacket => {
                    self.read_packets(id, PACKETS_PER_TURN);
                }
            }
        }
    }

    /// False if the connection must wait.
    fn may_read(&mut self, id: u64) -> bool {
        let Some(Conn {
            stage: Stage::Speaking { identity, .. },
            kind: SocketKind::Stream,
            ..
        }) = self.conns.get(&id)
        else {
            return true;
        };
        let identity = *identity;
        let readiness = self.shared.lock().may_read(identity, id, Instant::now());
        match readiness {
            Readiness::Now => return true,
            Readiness::WhenTaken => {}
            Readiness::At(at) => self.paused.push(Reverse((at, id))),
        }
        self.set_interest(id, Some(false), None);
        false
    }

    fn read_stream(&mut self, id: u64) {
        if !self.may_read(id) {
            return;
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        let read = self
            .conns
            .get(&id)
            .map(|conn| rustix::io::read(&conn.fd, &mut buffer[..READ_BYTES]));
        match read {
            Some(Ok(n)) if n > 0 => self.take_bytes(id, &buffer[..n]),
            Some(Err(Errno::AGAIN | Errno::INTR)) | None => {}
            Some(Ok(_) | Err(_)) => self.close(id),
        }
        self.buffer = buffer;
    }

    fn take_bytes(&mut self, id: u64, mut input: &[u8]) {
        let recv_ns = (self.config.clock)();
        if self
            .conns
            .get(&id)
            .is_some_and(|conn| matches!(conn.stage, Stage::Greeting))
        {
            let Some(line) = self.take_greeting(id, &mut input) else {
                return;
            };
            self.greet(id, &line);
        }
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
        };
        let now = Instant::now();
        let mut staged = Staged::with_capacity(input.len());
        let mut state = self.shared.lock();
        while let Some(piece) = conn.splitter.next(&mut input, MAX_MESSAGE_BYTES) {
            match piece {
                Piece::Frame(frame) => state.stage(&source, frame, recv_ns, now, &mut staged),
                Piece::TooLong => state.too_long(*identity),
            }
        }
        let waits = state.queue_staged(&source, staged);
        drop(state);
        conn.splitter.rest();
        if waits {
            self.shared.notify();
        }
    }

    /// The line of the greeting, once it is whole; one that is too long is no greeting either.
    fn take_greeting(&mut self, id: u64, input: &mut &[u8]) -> Option<Vec<u8>> {
        match self.conns.get_mut(&id)?.splitter.next(input, MAX_MESSAGE_BYTES)? {
            Piece::Frame(line) => Some(line.to_vec()),
            Piece::TooLong => Some(Vec::new()),
        }
    }

    /// Reads up to `limit` packets; true if the kernel may hold more.
    fn read_packets(&mut self, id: u64, limit: usize) -> bool {
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut more = true;
        for _ in 0..limit {
            let Some(conn) = self.conns.get(&id) else { break };
            match net::recv(&conn.fd, &mut buffer[..], RecvFlags::TRUNC) {
                Ok((n, _)) if n > 0 => self.take_packet(id, &buffer[..n]),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    more = false;
                    break;
                }
                Ok(_) | Err(_) => {
                    self.close(id);
                    more = false;
                    break;
                }
            }
        }
        self.buffer = buffer;
        more
    }

    fn take_packet(&mut self, id: u64, packet: &[u8]) {
        let recv_ns = (self.config.clock)();
        let frame = packet.strip_suffix(b"\n").unwrap_or(packet);
        let Some(conn) = self.conns.get(&id) else { return };
        let Stage::Speaking {
            identity,
            peer,
            claims,
        } = &conn.stage
        else {
            self.greet(id, frame);
            return;
        };
        let source = Source {
            peer,
            identity: *identity,
            claims,
            kind: conn.kind,
        };
        let mut staged = Staged::with_capacity(frame.len());
        let mut state = self.shared.lock();
        state.stage(&source, frame, recv_ns, Instant::now(), &mut staged);
        let waits = state.queue_staged(&source, staged);
        drop(state);
        if waits {
            self.shared.notify();
        }
    }

    fn greet(&mut self, id: u64, line: &[u8]) {
        let hello = match decode::hello(line) {
            Ok(hello) => hello,
            Err(error) => {
                self.refuse(
                    id,
                    RefuseReason::Greeting,
                    &format!("did not greet as a producer must ({error})"),
                );
                return;
            }
        };
        let (source, node) = (
            hello.source.to_str_lossy().into_owned(),
            hello.node.to_str_lossy().into_owned(),
        );
        let boot = hello.boot;
        let Some(conn) = self.conns.get(&id) else { return };
        let allowed = &self.config.listeners[conn.listener].sources;
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
            uid: conn.uid,
            gid: conn.gid,
            pid: conn.pid,
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
            self.close(older);
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
        if conn.kind != SocketKind::Stream {
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
                    self.close(id);
                    return;
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
        let new_reads = reads.unwrap_or(conn.reads) && !stopping;
        let new_writes = writes.unwrap_or(conn.writes);
        if (new_reads, new_writes) == (conn.reads, conn.writes) {
            return;
        }
        (conn.reads, conn.writes) = (new_reads, new_writes);
        let mut flags = epoll::EventFlags::empty();
        if new_reads {
            flags |= epoll::EventFlags::IN | epoll::EventFlags::RDHUP;
        }
        if new_writes {
            flags |= epoll::EventFlags::OUT;
        }
        if let Err(error) = epoll::modify(&self.epoll, &conn.fd, epoll::EventData::new_u64(id), flags) {
            tracing::error!("the receiver cannot change what it waits for: {error}");
            self.close(id);
        }
    }

    /// No accept, no read any more; what SEQPACKET peers have sent is read to its end.
    fn stop_reading(&mut self) {
        self.set_accepting(false);
        self.accept_again = None;
        let mut ids: Vec<u64> = self.conns.keys().copied().collect();
        ids.sort_unstable();
        for id in &ids {
            if self
                .conns
                .get(id)
                .is_some_and(|conn| conn.kind == SocketKind::Seqpacket)
            {
                // What a peer goes on sending meanwhile must not keep us: a kernel queue holds at most 4096 packets.
                self.read_packets(*id, 4096);
            }
        }
        self.stopping = true;
        for id in ids {
            self.set_interest(id, Some(false), None);
        }
        self.shared.lock().reading_stopped = true;
        self.shared.notify();
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
