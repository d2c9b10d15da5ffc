//! The writer's thread: connects, greets, writes many events at once, reads acknowledgements.
//!
//! It waits in `poll` for the socket, for its eventfd and for the next deadline, never elsewhere.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use ja4_model::frame::{Hello, Reply};
use ja4_model::limits::{MAX_MESSAGE_BYTES, WIRE_VERSION};
use ja4_model::{Event, EventId, Head, Status, Text};
use rustix::event::{PollFd, PollFlags, poll};

use crate::config::{EmitConfig, SocketKind};
use crate::counters::DropReason;
use crate::emitter::{Shared, State, Wake};
use crate::ring::{AckBeyond, Ring};
use crate::socket::{self, Io};

/// Events of one write. 64 messages of 1 KiB per write cost a tenth of single ones; more gains nothing.
pub(crate) const WRITE_BYTES: usize = 64 << 10;

/// Pause before the first and before a late attempt to connect.
const BACKOFF_MIN: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// Longest wait for the receiver's welcome.
const WELCOME_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest reply line: `{"welcome":1,"ack":18446744073709551615}` has 40 bytes.
const MAX_REPLY_BYTES: usize = 128;

/// Replies are read at most so often per wake-up, so that a chatty receiver cannot hold the writer.
const MAX_READS: usize = 16;

pub(crate) struct Writer {
    shared: Arc<Shared>,
    config: EmitConfig,
    conn: Option<Conn>,
    retry_at: Instant,
    backoff: Duration,
    status_at: Instant,
    /// Bytes to write: the greeting, events, a status.
    out: Vec<u8>,
    /// SEQPACKET: where each packet in `out` ends, with its line end; the flag says that it is an event.
    packets: std::collections::VecDeque<(usize, bool)>,
    written: usize,
    ends: Vec<usize>,
    last_status: bool,
}

struct Conn {
    socket: OwnedFd,
    since: Instant,
    /// STREAM: the welcome has come. SEQPACKET: always.
    open: bool,
    /// Part of a reply line.
    reply: Vec<u8>,
    /// No event is taken before, so that more of them share a write.
    flush_at: Instant,
}

impl Writer {
    pub(crate) fn new(shared: Arc<Shared>, config: EmitConfig) -> Self {
        let now = Instant::now();
        Self {
            status_at: now + config.status_interval,
            shared,
            config,
            conn: None,
            retry_at: now,
            backoff: BACKOFF_MIN,
            out: Vec::new(),
            packets: std::collections::VecDeque::new(),
            written: 0,
            ends: Vec::new(),
            last_status: false,
        }
    }

    /// Runs until the stop is done or its deadline has passed.
    pub(crate) fn run(&mut self) {
        loop {
            let now = Instant::now();
            let stop_at = self.shared.lock().stop_at;
            if stop_at.is_some_and(|at| now >= at) {
                break;
            }
            if self.conn.is_none() && now >= self.retry_at {
                self.connect(now);
            }
            let step = self.step(now, stop_at.is_some());
            match step {
                Ok(Wait::Done) => break,
                Ok(Wait::Until { at, writable }) => {
                    self.wait(now, stop_at.map_or(at, |stop| at.min(stop)), writable);
                }
                Err(error) => self.disconnect(now, &error),
            }
        }
        self.give_up();
    }

    fn connect(&mut self, now: Instant) {
        match socket::connect(&self.config) {
            Ok(socket) => {
                let open = self.config.kind == SocketKind::Seqpacket;
                self.conn = Some(Conn {
                    socket,
                    since: now,
                    open,
                    reply: Vec::new(),
                    flush_at: now,
                });
                let mut state = self.shared.lock();
                state.connects += 1;
                state.ring.connected = open;
                drop(state);
                self.greet();
            }
            Err(error) => self.disconnect(now, &error),
        }
    }

    /// Puts the greeting before whatever a lost SEQPACKET connection has left.
    fn greet(&mut self) {
        let mut hello = Vec::new();
        Hello {
            versions: vec![WIRE_VERSION],
            source: Text::from(self.config.source.as_str()),
            node: Text::from(self.config.node.as_str()),
            boot: self.config.boot,
        }
        .write_json(&mut hello);
        hello.push(b'\n');
        let rest = self.out.split_off(self.written);
        for packet in &mut self.packets {
            packet.0 = packet.0 - self.written + hello.len();
        }
        self.packets.push_front((hello.len(), false));
        self.out = hello;
        self.out.extend(rest);
        self.written = 0;
    }

    /// Leaves the connection and plans the next attempt.
    fn disconnect(&mut self, now: Instant, error: &io::Error) {
        let lasted = self
            .conn
            .take()
            .is_some_and(|conn| conn.open && now - conn.since > BACKOFF_MAX);
        if lasted {
            self.backoff = BACKOFF_MIN;
        }
        self.retry_at = now + self.backoff;
        self.backoff = (self.backoff * 2).min(BACKOFF_MAX);
        if self.config.kind == SocketKind::Stream {
            // Everything that was taken is still in the ring.
            self.out.clear();
            self.packets.clear();
            self.written = 0;
        } else {
            self.drop_packets_that_are_no_events();
        }
        let mut state = self.shared.lock();
        state.ring.connected = false;
        state.last_error = error.to_string();
        if error.kind() == io::ErrorKind::InvalidData {
            state.protocol_errors += 1;
        }
    }

    /// A greeting or a status of an old connection must not be sent on the next one.
    fn drop_packets_that_are_no_events(&mut self) {
        let (mut out, mut packets) = (Vec::new(), std::collections::VecDeque::new());
        let mut start = self.written;
        for &(end, is_event) in &self.packets {
            if is_event {
                out.extend_from_slice(&self.out[start..end]);
                packets.push_back((out.len(), true));
            }
            start = end;
        }
        (self.out, self.packets, self.written) = (out, packets, 0);
    }

    /// Does what can be done without waiting and says what to wait for.
    fn step(&mut self, now: Instant, stopping: bool) -> io::Result<Wait> {
        let Some(conn) = &mut self.conn else {
            let mut state = self.shared.lock();
            state.wake = Wake::Never;
            if stopping && state.ring.pending() == 0 {
                return Ok(Wait::Done);
            }
            return Ok(Wait::until(self.retry_at));
        };
        read_replies(conn, &self.shared, self.config.kind)?;
        loop {
            if !self.write_out()? {
                return Ok(Wait::Until {
                    at: self.status_at.max(now + BACKOFF_MAX),
                    writable: true,
                });
            }
            let conn = self.conn.as_mut().expect("write_out keeps the connection");
            if !conn.open {
                if now - conn.since > WELCOME_TIMEOUT {
                    return Err(io::Error::new(
                        io::ErrorKind::TimedOut,
                        format!("no welcome from {} within 5 s", self.config.path.display()),
                    ));
                }
                return Ok(Wait::until(conn.since + WELCOME_TIMEOUT));
            }
            let status_due = now >= self.status_at;
            let mut state = self.shared.lock();
            let unsent = state.ring.unsent_bytes();
            let flush = now >= conn.flush_at || unsent >= WRITE_BYTES || stopping;
            if unsent > 0 && flush {
                self.ends.clear();
                state.ring.take(&mut self.out, &mut self.ends, WRITE_BYTES);
                if self.config.kind == SocketKind::Seqpacket {
                    self.packets.extend(self.ends.iter().map(|&end| (end, true)));
                }
                conn.flush_at = now + self.config.flush_interval;
                if unsent < WRITE_BYTES || !status_due {
                    continue;
                }
            }
            let last = stopping && unsent == 0 && !self.last_status;
            if status_due || last {
                state.ring.shrink();
                let head = StatusHead {
                    next_seq: state.ring.position(),
                    last,
                };
                let dropped = state
                    .ring
                    .dropped
                    .iter()
                    .map(|(reason, n)| (Text::from(reason.name()), n))
                    .collect();
                drop(state);
                self.push_status(&head, dropped);
                self.status_at = now + self.config.status_interval;
                self.last_status |= last;
                continue;
            }
            if stopping {
                let settled = self.config.kind == SocketKind::Seqpacket || state.ring.pending() == 0;
                if settled && unsent == 0 {
                    return Ok(Wait::Done);
                }
                state.wake = Wake::Never;
                return Ok(Wait::until(now + BACKOFF_MAX));
            }
            // Quiet for a whole interval: the next event wakes us. Otherwise only a full buffer does.
            let (wake, at) = if unsent == 0 && now >= conn.flush_at {
                (Wake::Any, self.status_at)
            } else {
                (Wake::Full, self.status_at.min(conn.flush_at))
            };
            state.wake = wake;
            return Ok(Wait::until(at));
        }
    }

    fn push_status(&mut self, status: &StatusHead, dropped: Vec<(Text<'static>, u64)>) {
        let id = EventId {
            boot: self.config.boot,
            seq: status.next_seq,
        };
        let event = Event::Status(Status {
            next_seq: status.next_seq,
            dropped,
            last: status.last,
        });
        let source = Text::from(self.config.source.as_str());
        let node = Text::from(self.config.node.as_str());
        event.write_json(&Head::new(source, node, id, wall_ns()), &mut self.out);
        self.out.push(b'\n');
        self.packets.push_back((self.out.len(), false));
    }

    /// Writes `out`; true when all of it is written.
    fn write_out(&mut self) -> io::Result<bool> {
        let Some(conn) = &self.conn else { return Ok(true) };
        match self.config.kind {
            SocketKind::Stream => {
                while self.written < self.out.len() {
                    match socket::send(&conn.socket, &self.out[self.written..]) {
                        Io::Done(n) => self.written += n,
                        Io::WouldBlock => return Ok(false),
                        Io::TooLarge => {
                            return Err(io::Error::other("the kernel refused a write as too large"));
                        }
                        Io::Failed(error) => return Err(error),
                    }
                }
            }
            SocketKind::Seqpacket => {
                let (mut sent, mut refused) = (0_u64, 0_u64);
                let mut result = Ok(true);
                while let Some(&(end, is_event)) = self.packets.front() {
                    match socket::send(&conn.socket, &self.out[self.written..end - 1]) {
                        Io::Done(_) => sent += u64::from(is_event),
                        Io::TooLarge => refused += u64::from(is_event),
                        Io::WouldBlock => {
                            result = Ok(false);
                            break;
                        }
                        Io::Failed(error) => {
                            result = Err(error);
                            break;
                        }
                    }
                    self.written = end;
                    self.packets.pop_front();
                }
                if sent + refused > 0 {
                    let mut state = self.shared.lock();
                    (0..sent).for_each(|_| state.ring.packet_sent());
                    (0..refused).for_each(|_| state.ring.packet_dropped(DropReason::Refused));
                }
                if !matches!(result, Ok(true)) {
                    return result;
                }
            }
        }
        self.out.clear();
        if self.out.capacity() > 2 * WRITE_BYTES + MAX_MESSAGE_BYTES {
            self.out.shrink_to(WRITE_BYTES);
        }
        self.packets.clear();
        self.written = 0;
        Ok(true)
    }

    fn wait(&self, now: Instant, until: Instant, writable: bool) {
        // A millisecond more than needed never hurts; a zero here would spin.
        let timeout = (until.max(now) - now).max(Duration::from_micros(50));
        let timeout = rustix::event::Timespec {
            tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(timeout.subsec_nanos()),
        };
        let mut fds = Vec::with_capacity(2);
        fds.push(PollFd::new(&self.shared.eventfd, PollFlags::IN));
        if let Some(conn) = &self.conn {
            let out = if writable {
                PollFlags::OUT
            } else {
                PollFlags::empty()
            };
            fds.push(PollFd::from_borrowed_fd(conn.socket.as_fd(), PollFlags::IN | out));
        }
        // The only errors are EINTR and lack of memory; the loop looks at everything again.
        let ready = poll(&mut fds, Some(&timeout)).unwrap_or(0);
        if ready > 0 && fds[0].revents().contains(PollFlags::IN) {
            let mut count = [0; 8];
            // Empty already: another reader there is not, so this only resets the counter.
            rustix::io::read(&self.shared.eventfd, &mut count).unwrap_or(0);
        }
    }

    /// The deadline has passed or everything is settled: counts what is left.
    fn give_up(&mut self) {
        let mut state = self.shared.lock();
        for _ in self.packets.iter().filter(|(_, is_event)| *is_event) {
            state.ring.packet_dropped(DropReason::Stopped);
        }
        // On STREAM the ring has what was taken; it stays pending and is reported.
        state.ring.drop_unsent(DropReason::Stopped);
        state.ring.connected = false;
        let head = StatusHead {
            next_seq: state.ring.next_seq(),
            last: true,
        };
        let dropped = state
            .ring
            .dropped
            .iter()
            .map(|(reason, n)| (Text::from(reason.name()), n))
            .collect();
        drop(state);
        let mid_frame = self.config.kind == SocketKind::Stream && self.written < self.out.len();
        let open = self.conn.as_ref().is_some_and(|conn| conn.open);
        if !self.last_status && open && !mid_frame {
            self.out.clear();
            self.packets.clear();
            self.written = 0;
            self.push_status(&head, dropped);
            // Best effort: the deadline is over.
            drop(self.write_out());
        }
        self.conn = None;
    }
}

struct StatusHead {
    next_seq: u64,
    last: bool,
}

enum Wait {
    Until { at: Instant, writable: bool },
    Done,
}

impl Wait {
    fn until(at: Instant) -> Self {
        Self::Until { at, writable: false }
    }
}

/// Reads what the receiver said; an end or nonsense is an error.
fn read_replies(conn: &mut Conn, shared: &Shared, kind: SocketKind) -> io::Result<()> {
    let mut buffer = [0; 1024];
    let mut newest = None;
    for _ in 0..MAX_READS {
        match socket::recv(&conn.socket, &mut buffer) {
            Io::Done(0) => {
                settle(newest, shared)?;
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            Io::Done(_) if kind == SocketKind::Seqpacket => {}
            Io::Done(n) => {
                for line in buffer[..n].split_inclusive(|&byte| byte == b'\n') {
                    conn.reply.extend_from_slice(line);
                    if conn.reply.len() > MAX_REPLY_BYTES {
                        return Err(invalid("a reply is longer than 128 bytes"));
                    }
                    if !line.ends_with(b"\n") {
                        continue;
                    }
                    let reply = Reply::parse(&conn.reply).ok_or_else(|| invalid("a reply is malformed"))?;
                    conn.reply.clear();
                    match (reply, conn.open) {
                        (Reply::Welcome { ack }, false) => {
                            conn.open = true;
                            shared.lock().welcome(ack).map_err(|AckBeyond| beyond())?;
                        }
                        (Reply::Ack { ack }, true) => newest = newest.max(Some(ack)),
                        (Reply::Welcome { .. }, true) => return Err(invalid("a second welcome")),
                        (Reply::Ack { .. }, false) => {
                            return Err(invalid("an acknowledgement before the welcome"));
                        }
                    }
                }
            }
            Io::WouldBlock | Io::TooLarge => break,
            Io::Failed(error) => {
                settle(newest, shared)?;
                return Err(error);
            }
        }
    }
    settle(newest, shared)
}

fn settle(newest: Option<u64>, shared: &Shared) -> io::Result<()> {
    match newest {
        Some(ack) => shared.lock().ring.ack(ack).map_err(|AckBeyond| beyond()),
        None => Ok(()),
    }
}

impl State {
    fn welcome(&mut self, ack: u64) -> Result<(), AckBeyond> {
        Ring::welcome(&mut self.ring, ack)?;
        self.ring.connected = true;
        Ok(())
    }
}

fn invalid(text: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("receiver broke the protocol: {text}"),
    )
}

fn beyond() -> io::Error {
    invalid("an acknowledgement of an event that was not sent")
}

/// Nanoseconds since the epoch; 0 for a clock before it.
fn wall_ns() -> i64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
}
