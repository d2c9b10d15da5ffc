//! SIGTERM and SIGINT as a request to end, for threads, pollers and tasks alike.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// Two signals closer than this are one wish: `timeout` and some supervisors signal a process and then its group.
const ONE_WISH: Duration = Duration::from_millis(500);

/// A request to end that all parts of a process share. A second signal, half a second later or more, ends the
/// process at once.
#[derive(Debug, Clone)]
pub struct Shutdown(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    requested: AtomicBool,
    gate: Mutex<()>,
    changed: Condvar,
    /// Becomes readable and stays so when the request is made.
    event: OwnedFd,
    task: tokio::sync::watch::Sender<bool>,
}

impl Shutdown {
    /// A request that only [`Shutdown::request`] makes: for tests and for parts of a process.
    ///
    /// # Errors
    /// If the kernel gives no event descriptor.
    pub fn manual() -> std::io::Result<Self> {
        let event = rustix::event::eventfd(
            0,
            rustix::event::EventfdFlags::CLOEXEC | rustix::event::EventfdFlags::NONBLOCK,
        )?;
        Ok(Self(Arc::new(Inner {
            requested: AtomicBool::new(false),
            gate: Mutex::new(()),
            changed: Condvar::new(),
            event,
            task: tokio::sync::watch::Sender::new(false),
        })))
    }

    /// Turns SIGTERM and SIGINT of this process into the request.
    ///
    /// # Errors
    /// If the signals cannot be caught.
    pub fn install() -> std::io::Result<Self> {
        let shutdown = Self::manual()?;
        let mut signals = Signals::new([SIGTERM, SIGINT])?;
        let requested = shutdown.clone();
        std::thread::Builder::new()
            .name("signals".into())
            .spawn(move || {
                let mut last: Option<Instant> = None;
                for signal in signals.forever() {
                    let now = Instant::now();
                    if last.replace(now).is_some_and(|last| now < last + ONE_WISH) {
                        continue;
                    }
                    if requested.is_requested() {
                        tracing::warn!("second signal {signal}: ending at once");
                        std::process::exit(i32::from(crate::exit::FAILED));
                    }
                    requested.request();
                    tracing::info!("signal {signal}: ending in order");
                }
            })?;
        Ok(shutdown)
    }

    /// Makes the request. Idempotent.
    ///
    /// # Panics
    /// Never: an event descriptor takes its first count.
    pub fn request(&self) {
        let _gate = self.0.gate.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.0.requested.swap(true, Ordering::SeqCst) {
            rustix::io::write(&self.0.event, &1_u64.to_ne_bytes())
                .expect("an event descriptor takes its first count");
            self.0.changed.notify_all();
            self.0.task.send_replace(true);
        }
    }

    /// True once the request is made.
    pub fn is_requested(&self) -> bool {
        self.0.requested.load(Ordering::SeqCst)
    }

    /// Sleeps for `duration` or until the request is made; true if it is made.
    pub fn wait_for(&self, duration: Duration) -> bool {
        let deadline = Instant::now() + duration;
        let mut gate = self.0.gate.lock().unwrap_or_else(PoisonError::into_inner);
        while !self.is_requested() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            gate = self
                .0
                .changed
                .wait_timeout(gate, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        true
    }

    /// A descriptor that is readable once the request is made; nobody reads it.
    pub fn event_fd(&self) -> BorrowedFd<'_> {
        self.0.event.as_fd()
    }

    /// Completes once the request is made.
    pub async fn requested(&self) {
        let mut receiver = self.0.task.subscribe();
        // The sender lives in `self`, so that the wait ends only with the request.
        let _made = receiver.wait_for(|requested| *requested).await.is_ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_wakes_every_kind_of_waiter() {
        let shutdown = Shutdown::manual().unwrap();
        assert!(!shutdown.wait_for(Duration::from_millis(1)));
        let waiter = std::thread::spawn({
            let shutdown = shutdown.clone();
            move || shutdown.wait_for(Duration::from_mins(1))
        });
        shutdown.request();
        shutdown.request();
        assert!(waiter.join().unwrap());
        let mut polled = [rustix::event::PollFd::from_borrowed_fd(
            shutdown.event_fd(),
            rustix::event::PollFlags::IN,
        )];
        assert_eq!(rustix::event::poll(&mut polled, None).unwrap(), 1);
        tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap()
            .block_on(shutdown.requested());
    }
}
