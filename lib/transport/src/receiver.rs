//! The consumer's handle: start, take inputs in turn, acknowledge, stop.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, eventfd};

use crate::batch::{Input, OriginId};
use crate::bind;
use crate::config::{ListenerConfig, ReceiverConfig, Role, SocketKind};
use crate::counters::{Counters, OriginCounters};
use crate::remote::{Hub, NodeFacts, Remote, RemoteConfig, Surroundings, TlsError};
use crate::server::Server;
use crate::state::State;

/// Longest wait for the last acknowledgements to be written at the end.
const SHUTDOWN_WAIT: Duration = Duration::from_secs(1);

/// Why a receiver cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A socket could not be made.
    #[error("socket {path:?}: cannot {step}: give the process the right to write there, or set another path")]
    Bind {
        /// The socket.
        path: PathBuf,
        /// What failed.
        step: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Something else than a socket is there.
    #[error("socket {0:?}: a file that is no socket has this name: remove it or set another path")]
    NotASocket(PathBuf),
    /// Another process serves it.
    #[error("socket {0:?}: another process serves it: stop that process or set another path")]
    InUse(PathBuf),
    /// A listener for nodes cannot be made.
    #[error("cannot listen on {listen}: end what listens there, or set another address")]
    Listen {
        /// The address.
        listen: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Certificate, trust bundle or tokens of a listener for nodes cannot be used.
    #[error("the listener for nodes cannot start")]
    Tls(#[source] TlsError),
    /// The kernel gives no epoll descriptor or thread.
    #[error("the receiver cannot start its thread")]
    System(#[source] io::Error),
}

/// What both threads share.
#[derive(Debug)]
pub(crate) struct Shared {
    state: Mutex<State>,
    arrived: Condvar,
    /// Wakes the epoll thread.
    event: OwnedFd,
    hub: Hub,
}

impl Shared {
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the consumer that something is queued.
    pub(crate) fn notify(&self) {
        self.arrived.notify_all();
    }

    /// Tells the epoll thread to look at the state.
    fn kick(&self) {
        // EAGAIN: the counter is full, so it will look anyway.
        rustix::io::write(&self.event, &1_u64.to_ne_bytes()).unwrap_or(0);
    }

    pub(crate) fn event(&self) -> &OwnedFd {
        &self.event
    }

    /// Streams of nodes.
    pub(crate) fn hub(&self) -> &Hub {
        &self.hub
    }
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").finish_non_exhaustive()
    }
}

/// A running receiver. Dropping it ends its thread and removes the sockets.
#[derive(Debug)]
pub struct Receiver {
    shared: Arc<Shared>,
    listeners: Vec<ListenerConfig>,
    remotes: Vec<Remote>,
    thread: Option<JoinHandle<()>>,
}

/// Acknowledges from anywhere.
#[derive(Debug, Clone)]
pub struct Acker(Arc<Shared>);

/// Makes [`Receiver::next`] return.
#[derive(Debug, Clone)]
pub struct Waker(Arc<Shared>);

impl Receiver {
    /// Binds the sockets and starts the thread.
    ///
    /// # Errors
    /// See [`StartError`].
    pub fn start(config: ReceiverConfig) -> Result<Self, StartError> {
        raise_descriptor_limit();
        let bound = config
            .listeners
            .iter()
            .map(bind::bind)
            .collect::<Result<Vec<_>, _>>()?;
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|errno| StartError::System(errno.into()))?;
        let shared = Arc::new(Shared {
            state: Mutex::new(State::new(&config)),
            arrived: Condvar::new(),
            event,
            hub: Hub::new(),
        });
        let mut listeners = config.listeners.clone();
        let remotes = start_remotes(&config, &shared)?;
        for remote in &remotes {
            // Only its name is looked at.
            let name = format!("tcp:{}", remote.address);
            listeners.push(ListenerConfig::new(name, SocketKind::Stream, Role::Network, &[]));
        }
        let server = Server::new(config, bound, Arc::clone(&shared)).map_err(StartError::System)?;
        let thread = std::thread::Builder::new()
            .name("receiver".into())
            .spawn(move || server.run())
            .map_err(StartError::System)?;
        Ok(Self {
            shared,
            listeners,
            remotes,
            thread: Some(thread),
        })
    }

    /// The next input, identities in turn; nothing after `timeout`, when woken, or when reading has
    /// stopped and all is taken.
    pub fn next(&self, timeout: Duration) -> Option<Input> {
        let deadline = Instant::now() + timeout;
        let mut state = self.shared.lock();
        loop {
            if let Some((input, resume)) = state.pop() {
                drop(state);
                if resume {
                    self.shared.kick();
                }
                return Some(input);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if std::mem::take(&mut state.woken) || state.reading_stopped || left.is_zero() {
                return None;
            }
            state.consumer_waits = true;
            state = self
                .shared
                .arrived
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Acknowledges the events below `ack` of a producer process. Cumulative; the newest wins; never blocks.
    pub fn ack(&self, origin: OriginId, ack: u64) {
        ack_shared(&self.shared, origin, ack);
    }

    /// A handle that acknowledges.
    pub fn acker(&self) -> Acker {
        Acker(Arc::clone(&self.shared))
    }

    /// A handle that wakes [`Receiver::next`].
    pub fn waker(&self) -> Waker {
        Waker(Arc::clone(&self.shared))
    }

    /// Where the listeners for nodes are; the real port where 0 was asked for.
    pub fn remote_addresses(&self) -> Vec<SocketAddr> {
        self.remotes.iter().map(|remote| remote.address).collect()
    }

    /// What each node has said of itself last.
    pub fn facts(&self) -> Vec<NodeFacts> {
        self.shared.hub().facts()
    }

    /// All counts.
    pub fn counters(&self) -> Counters {
        self.shared.lock().counters(&self.listeners)
    }

    /// The producer processes.
    pub fn origins(&self) -> Vec<OriginCounters> {
        self.shared.lock().origins()
    }

    /// Closes and removes the sockets and reads no more STREAM. SEQPACKET peers are cut off: what they
    /// send from now on fails there, what they had sent is read to its end as the consumer takes it.
    pub fn stop_reading(&self) {
        self.remotes.iter().for_each(Remote::stop_reading);
        self.shared.lock().stop_reading = true;
        self.shared.kick();
    }

    /// False once the thread has ended though nobody asked for it; its log line says why. Nothing
    /// arrives any more then.
    pub fn is_running(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }

    /// True once [`Receiver::stop_reading`] has taken effect: what is queued is all that comes.
    pub fn reading_has_stopped(&self) -> bool {
        self.shared.lock().reading_stopped
    }

    /// Writes the last acknowledgements and closes what is open.
    pub fn shutdown(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.shared.lock().shutdown = true;
        self.shared.kick();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the receiver's thread ended badly");
        }
        // After it has handed on the last acknowledgements.
        self.remotes.iter_mut().for_each(Remote::end);
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.end();
    }
}

impl Acker {
    /// As [`Receiver::ack`].
    pub fn ack(&self, origin: OriginId, ack: u64) {
        ack_shared(&self.0, origin, ack);
    }
}

impl Waker {
    /// Makes the current or the next call of [`Receiver::next`] return nothing.
    pub fn wake(&self) {
        self.0.lock().woken = true;
        self.0.notify();
    }
}

fn start_remotes(config: &ReceiverConfig, shared: &Arc<Shared>) -> Result<Vec<Remote>, StartError> {
    let start = |(idx, remote): (usize, &RemoteConfig)| {
        let around = Surroundings {
            shared: Arc::clone(shared),
            clock: Arc::clone(&config.clock),
            next_unsettled: Arc::clone(&config.next_unsettled),
            listener: config.listeners.len() + idx,
        };
        Remote::start(remote.clone(), around)
    };
    config.remotes.iter().enumerate().map(start).collect()
}

fn ack_shared(shared: &Shared, origin: OriginId, ack: u64) {
    let kick = shared.lock().ack(origin, ack);
    if kick {
        shared.kick();
    }
}

pub(crate) const fn shutdown_wait() -> Duration {
    SHUTDOWN_WAIT
}

/// Ten thousand idle peers need as many descriptors; the soft limit of most systems is 1024.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let raised = Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        };
        if let Err(error) = setrlimit(Resource::Nofile, raised) {
            tracing::warn!("the limit of open files stays at {:?}: {error}", limit.current);
        }
    }
}
