//! The receiving end of the sensor's socket: keeps what comes and acknowledges it, or does neither.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use serde_json::Value;

/// How it treats its peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    /// Welcomes, reads, acknowledges every line.
    Kind,
    /// Welcomes and never reads again.
    Deaf,
    /// Welcomes and reads, acknowledges nothing.
    Mute,
}

/// An event with the time at which it came, nanoseconds since the epoch.
#[derive(Debug, Clone)]
pub(crate) struct Received {
    pub(crate) at_ns: i64,
    pub(crate) event: Value,
}

/// A listening socket. Dropping it closes the socket and its connections.
pub(crate) struct Receiver {
    received: Arc<Mutex<Vec<Received>>>,
    connections: Arc<Mutex<Vec<UnixStream>>>,
    is_over: Arc<AtomicBool>,
    path: std::path::PathBuf,
}

impl Receiver {
    pub(crate) fn listen(path: &Path, manner: Manner) -> Self {
        let listener = UnixListener::bind(path).unwrap();
        let receiver = Self {
            received: Arc::default(),
            connections: Arc::default(),
            is_over: Arc::default(),
            path: path.to_owned(),
        };
        let (received, connections) = (Arc::clone(&receiver.received), Arc::clone(&receiver.connections));
        let is_over = Arc::clone(&receiver.is_over);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                if is_over.load(Ordering::SeqCst) {
                    return;
                }
                connections.lock().unwrap().push(stream.try_clone().unwrap());
                let received = Arc::clone(&received);
                std::thread::spawn(move || serve(stream, manner, &received));
            }
        });
        receiver
    }

    /// Events without status, in the order of their coming.
    pub(crate) fn events(&self) -> Vec<Received> {
        let all = self.received.lock().unwrap();
        all.iter()
            .filter(|received| received.event["event"] != "status")
            .cloned()
            .collect()
    }

    /// Events of one kind.
    pub(crate) fn of_kind(&self, kind: &str) -> Vec<Received> {
        let mut events = self.events();
        events.retain(|received| received.event["event"] == kind);
        events
    }

    /// The last status.
    pub(crate) fn status(&self) -> Option<Value> {
        let all = self.received.lock().unwrap();
        all.iter()
            .rev()
            .find(|received| received.event["event"] == "status")
            .map(|received| received.event.clone())
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        // Wakes the listener's thread, which then ends and closes the socket.
        drop(UnixStream::connect(&self.path));
        std::fs::remove_file(&self.path).unwrap();
        for connection in self.connections.lock().unwrap().drain(..) {
            // The peer may have closed it first.
            drop(connection.shutdown(std::net::Shutdown::Both));
        }
    }
}

fn serve(stream: UnixStream, manner: Manner, received: &Mutex<Vec<Received>>) {
    let mut replies = stream.try_clone().unwrap();
    let mut lines = BufReader::new(stream).lines();
    let Some(Ok(hello)) = lines.next() else { return };
    let hello: Value = serde_json::from_str(&hello).unwrap();
    assert_eq!(hello["event"], "hello");
    // Numbers belong to a process: what an earlier connection of the same one brought need not come again.
    let boot = hello["boot"].clone();
    let settled = |received: &Mutex<Vec<Received>>| {
        let all = received.lock().unwrap();
        let numbers = all
            .iter()
            .filter(|known| known.event["boot"] == boot && known.event["event"] != "status");
        numbers
            .filter_map(|known| known.event["seq"].as_u64())
            .max()
            .map_or(0, |seq| seq + 1)
    };
    if writeln!(replies, "{{\"welcome\":1,\"ack\":{}}}", settled(received)).is_err() {
        return;
    }
    if manner == Manner::Deaf {
        // The connection stays open: its other handle is kept by the receiver.
        return;
    }
    for line in lines {
        let Ok(line) = line else { return };
        let at = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let event: Value = serde_json::from_str(&line).unwrap();
        let seq = event["seq"].as_u64();
        let is_status = event["event"] == "status";
        received.lock().unwrap().push(Received {
            at_ns: i64::try_from(at.as_nanos()).unwrap(),
            event,
        });
        if let Some(seq) = seq
            && manner == Manner::Kind
            && !is_status
            && writeln!(replies, "{{\"ack\":{}}}", seq + 1).is_err()
        {
            return;
        }
    }
}
