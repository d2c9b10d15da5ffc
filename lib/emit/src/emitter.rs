//! The handle that producers hold: encodes outside the lock, numbers and keeps inside it.

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ja4_model::limits::{MAX_MESSAGE_BYTES, MAX_NAME_BYTES};
use ja4_model::{BootId, Confirm, Confirmed, ConnUid, Event, EventId, EventKind, Head, Text, TsKind, WallNs};
use rustix::event::EventfdFlags;

use crate::config::EmitConfig;
use crate::counters::{Counters, DropReason, StopReport};
use crate::ring::Ring;
use crate::writer::{WRITE_BYTES, Writer};
use crate::{signals, socket};

/// Least buffer that is accepted: the longest message and its bookkeeping.
const MIN_BUFFER_BYTES: usize = MAX_MESSAGE_BYTES + 64;

/// A thread's scratch buffer above this is given back: most events have 1 to 8 KiB.
const KEEP_SCRATCH_BYTES: usize = 64 << 10;

/// Why an emitter could not start.
#[derive(Debug)]
pub enum StartError {
    /// A setting is out of its range; the text names it.
    Config(String),
    /// The kernel refused the thread or its eventfd.
    Io(io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(text) => f.write_str(text),
            Self::Io(_) => f.write_str("cannot start the emitter's thread"),
        }
    }
}

impl std::error::Error for StartError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Config(_) => None,
            Self::Io(error) => Some(error),
        }
    }
}

/// When and how an event was measured.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Stamp {
    /// When the thing happened, nanoseconds since the epoch; of a request, always its start.
    pub ts_ns: WallNs,
    /// How `ts_ns` came about.
    pub ts_kind: TsKind,
    /// Resolution of `ts_ns`, nanoseconds, at least 1.
    pub ts_resolution_ns: u64,
    /// 1, or the share of connections that the producer passes on.
    pub sample_rate: f64,
}

impl Stamp {
    /// Measured at the start with nanoseconds, not sampled.
    pub const fn at(ts_ns: WallNs) -> Self {
        Self {
            ts_ns,
            ts_kind: TsKind::Start,
            ts_resolution_ns: 1,
            sample_rate: 1.0,
        }
    }
}

/// What became of an event that was given to `send`. It took the number `seq` either way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SendOutcome {
    /// It will be sent unless it gets too old.
    Queued {
        /// Its number.
        seq: u64,
    },
    /// It was counted and dropped.
    Dropped {
        /// Its number.
        seq: u64,
        /// Why.
        reason: DropReason,
    },
}

impl SendOutcome {
    /// The event's number; an `end` event names its request by it.
    pub const fn seq(self) -> u64 {
        match self {
            Self::Queued { seq } | Self::Dropped { seq, .. } => seq,
        }
    }
}

/// Who wakes the writer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wake {
    /// The next event: the writer sleeps.
    Any,
    /// An event that fills a write: the writer lingers for more.
    Full,
    /// Nobody: the writer is awake or waits for the socket.
    Never,
}

/// What `send` and the writer share.
pub(crate) struct State {
    pub(crate) ring: Ring,
    pub(crate) wake: Wake,
    /// Set by `stop`: when the writer must be gone.
    pub(crate) stop_at: Option<Instant>,
    pub(crate) connects: u64,
    pub(crate) protocol_errors: u64,
    pub(crate) last_error: String,
}

pub(crate) struct Shared {
    state: Mutex<State>,
    pub(crate) eventfd: OwnedFd,
}

impl Shared {
    /// The state; what a panic left is still consistent enough to count and stop.
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) {
        // It can only fail when the counter is full, and then the writer is awake anyway.
        rustix::io::write(&self.eventfd, &1_u64.to_ne_bytes()).unwrap_or(0);
    }
}

/// A producer's connection to the receiver. Shared by all threads of the process that send.
///
/// Start it after the last `fork`: a child has no writer thread. [`Emitter::stop`] drains; dropping
/// it stops at once.
pub struct Emitter {
    shared: Arc<Shared>,
    source: String,
    node: String,
    boot: BootId,
    /// Length of the head up to the number, without the kind's name.
    prefix_len: usize,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl fmt::Debug for Emitter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Emitter")
            .field("source", &self.source)
            .field("node", &self.node)
            .field("boot", &self.boot)
            .finish_non_exhaustive()
    }
}

impl Emitter {
    /// Starts the writer's thread. It does not wait for a receiver: events are kept until there is one.
    ///
    /// # Errors
    /// A setting out of range, or no thread or descriptor to be had.
    pub fn start(config: EmitConfig) -> Result<Self, StartError> {
        check(&config)?;
        let eventfd = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|e| StartError::Io(e.into()))?;
        let state = State {
            ring: Ring::new(config.kind, config.buffer_bytes),
            wake: Wake::Never,
            stop_at: None,
            connects: 0,
            protocol_errors: 0,
            last_error: String::new(),
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            eventfd,
        });
        let (source, node, boot) = (config.source.clone(), config.node.clone(), config.boot);
        let mut writer = Writer::new(Arc::clone(&shared), config);
        let thread = std::thread::Builder::new()
            .name("ja4-emit".to_owned())
            .spawn(move || {
                signals::block_all();
                writer.run();
            })
            .map_err(StartError::Io)?;
        Ok(Self {
            prefix_len: prefix_len(&source, &node, boot),
            shared,
            source,
            node,
            boot,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Sends an event that happened at `ts_ns` (nanoseconds since the epoch). Never waits for the
    /// receiver, the kernel or a disk; it may wait for another thread's copy of one event.
    pub fn send(&self, ts_ns: WallNs, event: &Event<'_>) -> SendOutcome {
        self.send_stamped(Stamp::at(ts_ns), event)
    }

    /// Sends an event with all that is known of its time; otherwise as [`Emitter::send`].
    pub fn send_stamped(&self, stamp: Stamp, event: &Event<'_>) -> SendOutcome {
        thread_local! {
            static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
        }
        if matches!(event, Event::Status(_)) {
            return self.refuse(DropReason::ForeignStatus);
        }
        SCRATCH.with_borrow_mut(|scratch| {
            scratch.clear();
            let head = Head {
                ts_kind: stamp.ts_kind,
                ts_resolution_ns: stamp.ts_resolution_ns,
                sample_rate: stamp.sample_rate,
                ..self.head(stamp.ts_ns)
            };
            event.write_json(&head, scratch);
            let outcome = self.queue(event.kind(), scratch);
            if scratch.capacity() > KEEP_SCRATCH_BYTES {
                *scratch = Vec::new();
            }
            outcome
        })
    }

    /// Counts now.
    pub fn counters(&self) -> Counters {
        let state = self.shared.lock();
        Counters {
            next_seq: state.ring.next_seq(),
            sent: state.ring.sent,
            resent: state.ring.resent,
            acked: state.ring.acked,
            dropped: state.ring.dropped.iter().collect(),
            pending: state.ring.pending(),
            buffered_bytes: state.ring.used_bytes(),
            connected: state.ring.connected,
            connects: state.connects,
            protocol_errors: state.protocol_errors,
            last_error: state.last_error.clone(),
        }
    }

    /// Sends what is left and a last status, and waits for the acknowledgements, all within `deadline`.
    /// Events given to `send` from now on are dropped. A second call just reports.
    pub fn stop(&self, deadline: Duration) -> StopReport {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            let now = Instant::now();
            self.shared.lock().stop_at = Some(now.checked_add(deadline).unwrap_or(now));
            self.shared.wake();
            if thread.join().is_err() {
                self.shared.lock().last_error = String::from("the writer's thread panicked");
            }
        }
        // Its own statement: a guard in the expression below would still be held when the counters lock.
        let unacknowledged = self.shared.lock().ring.in_flight();
        StopReport {
            unacknowledged,
            counters: self.counters(),
        }
    }

    fn head(&self, ts_ns: WallNs) -> Head<'_> {
        let id = EventId {
            boot: self.boot,
            seq: 0,
        };
        Head::new(
            Text::from(self.source.as_str()),
            Text::from(self.node.as_str()),
            id,
            ts_ns,
        )
    }

    /// Queues the JSON of an event that was written with the number 0.
    fn queue(&self, kind: EventKind, json: &[u8]) -> SendOutcome {
        // The longest number has 20 digits, one of which is there.
        if json.len() + 19 > MAX_MESSAGE_BYTES {
            return self.refuse(DropReason::Oversize);
        }
        let split = self.prefix_len + kind.name().len();
        let (before, after) = (&json[..split], &json[split + 1..]);
        debug_assert!(before.ends_with(b",\"seq\":") && json[split] == b'0' && after.starts_with(b","));
        let mut state = self.shared.lock();
        if state.stop_at.is_some() {
            let seq = state.ring.refuse(DropReason::Stopped);
            return SendOutcome::Dropped {
                seq,
                reason: DropReason::Stopped,
            };
        }
        let outcome = match state.ring.push(before, after) {
            Ok(seq) => SendOutcome::Queued { seq },
            Err((seq, reason)) => SendOutcome::Dropped { seq, reason },
        };
        let wake = match state.wake {
            Wake::Any => true,
            Wake::Full => state.ring.unsent_bytes() >= WRITE_BYTES,
            Wake::Never => false,
        };
        if wake {
            state.wake = Wake::Never;
        }
        drop(state);
        if wake {
            self.shared.wake();
        }
        outcome
    }

    fn refuse(&self, reason: DropReason) -> SendOutcome {
        let seq = self.shared.lock().ring.refuse(reason);
        SendOutcome::Dropped { seq, reason }
    }
}

impl Drop for Emitter {
    fn drop(&mut self) {
        self.stop(Duration::ZERO);
    }
}

fn check(config: &EmitConfig) -> Result<(), StartError> {
    socket::address(&config.path).map_err(|error| StartError::Config(error.to_string()))?;
    for (name, value) in [("source", &config.source), ("node", &config.node)] {
        if value.is_empty() || value.len() > MAX_NAME_BYTES {
            return Err(StartError::Config(format!(
                "{name} has {} bytes, 1 to {MAX_NAME_BYTES} are allowed",
                value.len()
            )));
        }
    }
    if config.buffer_bytes < MIN_BUFFER_BYTES {
        return Err(StartError::Config(format!(
            "buffer_bytes is {}, at least {MIN_BUFFER_BYTES} are needed for the longest event",
            config.buffer_bytes
        )));
    }
    if config.status_interval.is_zero() {
        return Err(StartError::Config(
            "status_interval is 0, at least 1 ms is needed".to_owned(),
        ));
    }
    Ok(())
}

/// Measures the head on an event of its own: everything before the number is the same for all events
/// but the kind's name.
fn prefix_len(source: &str, node: &str, boot: BootId) -> usize {
    let head = Head::new(Text::from(source), Text::from(node), EventId { boot, seq: 0 }, 0);
    let probe = Event::Confirm(Confirm {
        conn_uid: ConnUid::default(),
        confirmed: Confirmed::None,
    });
    let mut json = Vec::new();
    probe.write_json(&head, &mut json);
    // Quotes inside strings are escaped, so these bytes are the field and nothing else.
    let mark = b",\"seq\":";
    let at = json.windows(mark.len()).position(|window| window == mark);
    at.expect("the head of a counted event has a number") + mark.len() - probe.kind().name().len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_is_found_behind_hostile_names() {
        let (source, node) = ("a\",\"seq\":0,", "\u{1}\\n\",\"seq\":");
        let len = prefix_len(source, node, BootId(1)) + "confirm".len();
        let head = Head::new(Text::from(source), Text::from(node), EventId::default(), 0);
        let mut json = Vec::new();
        Event::Confirm(Confirm {
            conn_uid: ConnUid::default(),
            confirmed: Confirmed::None,
        })
        .write_json(&head, &mut json);
        assert!(json[..len].ends_with(b",\"seq\":"));
        assert!(json[len..].starts_with(b"0,\"ts_ns\":0,"));
    }

    #[test]
    fn settings_out_of_range_are_named() {
        type Spoil = fn(&mut EmitConfig);
        let good = EmitConfig::new("/tmp/x.sock", crate::SocketKind::Stream, "s", "n", BootId(1));
        let cases: [(&str, Spoil); 5] = [
            ("source", |c| c.source.clear()),
            ("node", |c| c.node = "x".repeat(254)),
            ("buffer_bytes", |c| c.buffer_bytes = 1000),
            ("socket path", |c| c.path = "x".repeat(200).into()),
            ("status_interval", |c| c.status_interval = Duration::ZERO),
        ];
        for (name, spoil) in cases {
            let mut config = good.clone();
            spoil(&mut config);
            let error = Emitter::start(config).unwrap_err().to_string();
            assert!(error.starts_with(name), "{error}");
        }
    }
}
