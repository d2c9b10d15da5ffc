//! What the tests of the receiver share: peers that speak bytes, waiting with a deadline, the log.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "each test file uses its part, and fails by panicking"
)]

pub mod pki;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use ja4_emit::{EmitConfig, Emitter};
use ja4_model::frame::Hello;
use ja4_model::{BootId, Confirm, Confirmed, ConnUid, Event, EventId, Head};
use ja4_transport::{
    DropReason, Input, ListenerConfig, Receiver, ReceiverConfig, RefuseReason, Role, SocketKind,
};
use rustix::net::{self, AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketType};

/// This host, as receiver and producers have it in their settings.
pub const NODE: &str = "web-1";

/// Longer than anything here takes, also on a machine that does much else.
pub const DEADLINE: Duration = Duration::from_mins(1);

/// Looks until `found` gives something.
#[track_caller]
pub fn wait_for<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(value) = found() {
            return value;
        }
        assert!(Instant::now() < deadline, "not within {DEADLINE:?}: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

pub fn stream(dir: &Path) -> ListenerConfig {
    ListenerConfig::new(dir.join("s.sock"), SocketKind::Stream, Role::Network, &["sensor"])
}

pub fn seqpacket(dir: &Path) -> ListenerConfig {
    ListenerConfig::new(
        dir.join("p.sock"),
        SocketKind::Seqpacket,
        Role::Network,
        &["sensor"],
    )
}

pub fn listener(dir: &Path, kind: SocketKind) -> ListenerConfig {
    match kind {
        SocketKind::Stream => stream(dir),
        SocketKind::Seqpacket => seqpacket(dir),
    }
}

pub fn config(listeners: Vec<ListenerConfig>) -> ReceiverConfig {
    ReceiverConfig::new(NODE, listeners, Arc::new(|_, _, _| 0))
}

pub fn start(listeners: Vec<ListenerConfig>) -> Receiver {
    collect_log();
    Receiver::start(config(listeners)).unwrap()
}

pub fn emitter(path: &Path, kind: SocketKind, boot: u64) -> Emitter {
    Emitter::start(emit_config(path, kind, boot)).unwrap()
}

pub fn emit_config(path: &Path, kind: SocketKind, boot: u64) -> EmitConfig {
    let kind = match kind {
        SocketKind::Stream => ja4_emit::SocketKind::Stream,
        SocketKind::Seqpacket => ja4_emit::SocketKind::Seqpacket,
    };
    EmitConfig::new(path, kind, "sensor", NODE, BootId(boot))
}

/// An event that says which one it is.
pub fn event(n: u64) -> Event<'static> {
    Event::Confirm(Confirm {
        conn_uid: ConnUid(n.into()),
        confirmed: Confirmed::Acked,
    })
}

/// Reads what [`event`] made.
pub fn number_of(json: &[u8]) -> u64 {
    match ja4_model::decode::event(json).unwrap().1 {
        Event::Confirm(confirm) => u64::try_from(confirm.conn_uid.0).unwrap(),
        other => panic!("not sent by these tests: {other:?}"),
    }
}

pub fn hello(source: &str, node: &str, boot: u64) -> Vec<u8> {
    let mut out = Vec::new();
    Hello {
        versions: vec![1],
        source: source.into(),
        node: node.into(),
        boot: BootId(boot),
    }
    .write_json(&mut out);
    out
}

/// The frame of event number `seq` of process `boot`.
pub fn frame(boot: u64, seq: u64) -> Vec<u8> {
    let id = EventId {
        boot: BootId(boot),
        seq,
    };
    let mut out = Vec::new();
    event(seq).write_json(&Head::new("sensor".into(), NODE.into(), id, 1), &mut out);
    out
}

pub fn lines(frames: impl IntoIterator<Item = Vec<u8>>) -> Vec<u8> {
    frames
        .into_iter()
        .flat_map(|mut frame| {
            frame.push(b'\n');
            frame
        })
        .collect()
}

/// A peer that sends what it is told to.
pub struct Raw {
    pub fd: OwnedFd,
    pub kind: SocketKind,
}

impl Raw {
    pub fn connect(path: &Path, kind: SocketKind) -> Self {
        Self::try_connect(path, kind).unwrap()
    }

    pub fn try_connect(path: &Path, kind: SocketKind) -> rustix::io::Result<Self> {
        let socket_type = match kind {
            SocketKind::Stream => SocketType::STREAM,
            SocketKind::Seqpacket => SocketType::SEQPACKET,
        };
        let fd = net::socket(AddressFamily::UNIX, socket_type, None)?;
        net::connect(&fd, &SocketAddrUnix::new(path)?)?;
        Ok(Self { fd, kind })
    }

    /// All of the bytes on STREAM, one packet on SEQPACKET. False if the receiver has closed.
    pub fn send(&self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            match net::send(&self.fd, bytes, SendFlags::NOSIGNAL) {
                Ok(n) => bytes = &bytes[n..],
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return false,
            }
        }
        true
    }

    /// A frame: with a line end on STREAM.
    pub fn send_frame(&self, frame: &[u8]) -> bool {
        match self.kind {
            SocketKind::Stream => self.send(&lines([frame.to_vec()])),
            SocketKind::Seqpacket => self.send(frame),
        }
    }

    /// Waits until the receiver has closed, and gives what it said before.
    #[track_caller]
    pub fn read_to_end(&self) -> Vec<u8> {
        let mut said = Vec::new();
        wait_for("the receiver closes the connection", || {
            let mut buffer = [0; 4096];
            match net::recv(&self.fd, &mut buffer, RecvFlags::DONTWAIT) {
                Ok((0, _)) | Err(rustix::io::Errno::CONNRESET | rustix::io::Errno::PIPE) => Some(()),
                Ok((n, _)) => {
                    said.extend_from_slice(&buffer[..n]);
                    None
                }
                Err(_) => None,
            }
        });
        said
    }

    /// What has come until now.
    pub fn read_now(&self) -> Vec<u8> {
        let mut said = Vec::new();
        let mut buffer = [0; 4096];
        while let Ok((n, _)) = net::recv(&self.fd, &mut buffer, RecvFlags::DONTWAIT)
            && n > 0
        {
            said.extend_from_slice(&buffer[..n]);
        }
        said
    }
}

impl AsFd for Raw {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Takes inputs until `n` frames have come, and acknowledges them.
#[track_caller]
pub fn take_frames(receiver: &Receiver, n: usize) -> Vec<(BootId, u64)> {
    let mut taken = Vec::new();
    wait_for("the events arrive", || {
        if let Some(Input::Batch(batch)) = receiver.next(Duration::from_millis(50)) {
            for frame in batch.frames() {
                taken.push((frame.id.boot, frame.id.seq));
                receiver.ack(batch.peer.origin, frame.id.seq + 1);
            }
        }
        (taken.len() >= n).then_some(())
    });
    taken
}

/// A new producer is served: what the tests of hostile peers end with.
#[track_caller]
pub fn serves(receiver: &Receiver, path: &Path, kind: SocketKind) {
    let boot = ja4_emit::random_boot().unwrap();
    let emitter = emitter(path, kind, boot.0);
    for n in 0..10 {
        emitter.send(1, &event(n));
    }
    let mut seen = 0;
    wait_for("a good producer is served", || {
        if let Some(Input::Batch(batch)) = receiver.next(Duration::from_millis(50))
            && batch.peer.boot == boot
        {
            for frame in batch.frames() {
                if frame.kind == ja4_model::EventKind::Confirm {
                    assert_eq!(number_of(frame.bytes), seen);
                    seen += 1;
                }
            }
            receiver.ack(batch.peer.origin, seen);
        }
        (seen == 10).then_some(())
    });
    let report = emitter.stop(DEADLINE);
    assert_eq!(
        (report.unacknowledged, report.counters.dropped_total()),
        (0, 0),
        "{report:?}"
    );
}

pub fn refused(receiver: &Receiver, reason: RefuseReason) -> u64 {
    let counters = receiver.counters();
    let all = counters.listeners.iter().flat_map(|listener| &listener.refused);
    all.filter(|(of, _)| *of == reason).map(|(_, n)| n).sum()
}

pub fn dropped(receiver: &Receiver, reason: DropReason) -> u64 {
    let counters = receiver.counters();
    let all = counters.identities.iter().flat_map(|identity| &identity.dropped);
    all.filter(|(of, _)| *of == reason).map(|(_, n)| n).sum()
}

/// `received = passed + dropped + pending` for everybody.
#[track_caller]
pub fn assert_balanced(receiver: &Receiver) {
    for identity in receiver.counters().identities {
        assert_eq!(
            identity.received,
            identity.passed + identity.dropped_total() + identity.pending,
            "{identity:?}"
        );
    }
}

static LOG: Mutex<Vec<u8>> = Mutex::new(Vec::new());

struct LogWriter;

impl io::Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut log = LOG.lock().unwrap_or_else(PoisonError::into_inner);
        log.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

pub fn collect_log() {
    static ONCE: OnceLock<()> = OnceLock::new();
    ONCE.get_or_init(|| {
        tracing_subscriber::fmt()
            .with_ansi(false)
            .with_writer(|| LogWriter)
            .init();
    });
}

/// Lines about sockets of this folder.
pub fn log_of(dir: &Path) -> Vec<String> {
    let log = LOG.lock().unwrap_or_else(PoisonError::into_inner);
    let text = String::from_utf8_lossy(&log).into_owned();
    let dir = dir.display().to_string();
    text.lines()
        .filter(|line| line.contains(&dir))
        .map(str::to_owned)
        .collect()
}

/// CPU time of this process's receiver threads, seconds.
pub fn receiver_cpu_seconds() -> f64 {
    let ticks = rustix::param::clock_ticks_per_second();
    let mut total = 0.0;
    for task in std::fs::read_dir("/proc/self/task").unwrap().flatten() {
        let stat = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
        let Some((name, rest)) = stat.split_once(") ") else {
            continue;
        };
        if name.ends_with("(receiver") {
            let fields: Vec<&str> = rest.split(' ').collect();
            let ticks_used: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
            total += ticks_used as f64 / ticks as f64;
        }
    }
    total
}

/// Memory of this process that no file backs, bytes.
pub fn anonymous_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

/// Runs a test of this executable as a process of its own; the variable says what it is to do.
pub fn this_test_as_a_process(test: &str, variable: &str, value: &Path) -> std::process::Command {
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(variable, value)
        .stdout(std::process::Stdio::null());
    command
}

/// A process that is killed when the test is done with it, also by failing.
pub struct Process(std::process::Child);

impl Process {
    pub fn start(command: &mut std::process::Command) -> Self {
        Self(command.spawn().unwrap())
    }

    pub fn is_running(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.0.kill().unwrap_or(());
        drop(self.0.wait());
    }
}

/// Tells the other threads of a test that it is over, also when it fails: they must not be waited for in vain.
pub struct Over<'a>(pub &'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Whether a variable makes this test a helper process, and of what.
pub fn helper_of(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable).map(PathBuf::from)
}
