//! Where the receiver's threads and the streams of nodes meet: acknowledgements and wishes find their stream.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use tokio::sync::Notify;

use super::lock;

/// Numbers of remote connections have this bit; those of sockets never get there.
const REMOTE_BIT: u64 = 1 << 63;

/// True for the number of a remote stream or of a producer on one.
pub(crate) const fn is_remote(conn: u64) -> bool {
    conn & REMOTE_BIT != 0
}

/// One stream of a node.
#[derive(Debug, Default)]
pub(crate) struct StreamHandle {
    /// The newest acknowledgement for each producer that has not been written.
    acks: Mutex<BTreeMap<u32, u64>>,
    /// Something is to be written.
    pub(crate) to_write: Notify,
    /// There is room in the queue again.
    pub(crate) room: Notify,
    /// It is to end.
    pub(crate) end: Notify,
    ended_for: Mutex<Option<&'static str>>,
}

impl StreamHandle {
    /// Notes an acknowledgement to be written.
    pub(crate) fn note_ack(&self, slot: u32, next: u64) {
        let mut acks = lock(&self.acks);
        let noted = acks.entry(slot).or_insert(next);
        *noted = (*noted).max(next);
        drop(acks);
        self.to_write.notify_one();
    }

    /// What is to be written.
    pub(crate) fn take_acks(&self) -> BTreeMap<u32, u64> {
        std::mem::take(&mut *lock(&self.acks))
    }

    /// Asks the stream to end.
    pub(crate) fn end(&self, why: &'static str) {
        lock(&self.ended_for).get_or_insert(why);
        self.end.notify_one();
    }

    /// Why it was asked to end.
    pub(crate) fn ended_for(&self) -> Option<&'static str> {
        *lock(&self.ended_for)
    }
}

/// What a node has said of itself.
#[derive(Clone, Debug)]
pub struct NodeFacts {
    /// The host.
    pub node: String,
    /// When it was said.
    pub received: Instant,
    /// JSON, as it was sent.
    pub json: bytes::Bytes,
    /// A stream of the node is open.
    pub connected: bool,
    /// Name and version of the program.
    pub software: String,
}

/// Most nodes whose facts are kept; those that are not connected go first, the longest silent before.
const MAX_NODES: usize = 4096;

#[derive(Debug, Default)]
struct Table {
    /// Streams and the producers on them, by number.
    conns: BTreeMap<u64, (Arc<StreamHandle>, u32)>,
    /// Open streams by node.
    open: BTreeMap<String, u32>,
    facts: BTreeMap<String, NodeFacts>,
}

/// All streams.
#[derive(Debug)]
pub(crate) struct Hub {
    next: AtomicU64,
    table: Mutex<Table>,
}

impl Hub {
    pub(crate) fn new() -> Self {
        Self {
            next: AtomicU64::new(REMOTE_BIT),
            table: Mutex::default(),
        }
    }

    /// A number for a stream, or for a producer on it.
    pub(crate) fn add(&self, stream: &Arc<StreamHandle>, slot: u32) -> u64 {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        lock(&self.table).conns.insert(number, (Arc::clone(stream), slot));
        number
    }

    pub(crate) fn remove(&self, conn: u64) {
        lock(&self.table).conns.remove(&conn);
    }

    fn find(&self, conn: u64) -> Option<(Arc<StreamHandle>, u32)> {
        lock(&self.table).conns.get(&conn).cloned()
    }

    /// Hands an acknowledgement to the stream of a producer.
    pub(crate) fn ack(&self, conn: u64, next: u64) {
        if let Some((stream, slot)) = self.find(conn) {
            stream.note_ack(slot, next);
        }
    }

    /// Tells a stream that it may go on.
    pub(crate) fn resume(&self, conn: u64) {
        if let Some((stream, _)) = self.find(conn) {
            stream.room.notify_one();
        }
    }

    /// Ends the stream of a producer.
    pub(crate) fn end(&self, conn: u64, why: &'static str) {
        if let Some((stream, _)) = self.find(conn) {
            stream.end(why);
        }
    }

    /// A stream of a node has begun.
    pub(crate) fn opened(&self, node: &str, software: &str) {
        let mut table = lock(&self.table);
        *table.open.entry(node.to_owned()).or_insert(0) += 1;
        note_facts(&mut table, node, bytes::Bytes::new(), Some(software));
    }

    /// A stream of a node has ended.
    pub(crate) fn closed(&self, node: &str) {
        let mut table = lock(&self.table);
        if let Some(n) = table.open.get_mut(node) {
            *n -= 1;
            if *n == 0 {
                table.open.remove(node);
                if let Some(facts) = table.facts.get_mut(node) {
                    facts.connected = false;
                }
            }
        }
    }

    /// Notes what a node says of itself.
    pub(crate) fn note_facts(&self, node: &str, json: bytes::Bytes) {
        note_facts(&mut lock(&self.table), node, json, None);
    }

    /// What each node has said last.
    pub(crate) fn facts(&self) -> Vec<NodeFacts> {
        lock(&self.table).facts.values().cloned().collect()
    }
}

fn note_facts(table: &mut Table, node: &str, json: bytes::Bytes, software: Option<&str>) {
    if let Some(facts) = table.facts.get_mut(node) {
        facts.connected = true;
        if let Some(software) = software {
            software.clone_into(&mut facts.software);
        } else {
            facts.received = Instant::now();
            facts.json = json;
        }
        return;
    }
    if table.facts.len() >= MAX_NODES {
        let silent = table
            .facts
            .values()
            .filter(|facts| !facts.connected)
            .min_by_key(|facts| facts.received);
        let Some(silent) = silent.map(|facts| facts.node.clone()) else {
            return;
        };
        table.facts.remove(&silent);
    }
    let facts = NodeFacts {
        node: node.to_owned(),
        received: Instant::now(),
        json,
        connected: true,
        software: software.unwrap_or("").to_owned(),
    };
    table.facts.insert(node.to_owned(), facts);
}
