//! Holds the connections that are being set up: by key, and in the order in which they are let go.

use hashbrown::HashTable;

use crate::connection::Flow;
use crate::event::TimeNs;
use crate::key::FlowKey;

/// Position of a connection in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FlowIdx(u32);

/// What a connection waits for. Each class is a queue, oldest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Class {
    /// Not proven, nothing kept: perhaps forged.
    Unproven = 0,
    /// Not proven, with parts of a hello.
    UnprovenPartial = 1,
    /// Proven, silent so far.
    Silent = 2,
    /// Proven, with parts of a hello.
    Partial = 3,
    /// Reported, to be confirmed.
    Settling = 4,
}

impl Class {
    pub(crate) const ALL: [Self; 5] = [
        Self::Unproven,
        Self::UnprovenPartial,
        Self::Silent,
        Self::Partial,
        Self::Settling,
    ];
    /// Who goes first when connections are too many.
    pub(crate) const EVICTION_ORDER: [Self; 5] = [
        Self::Unproven,
        Self::UnprovenPartial,
        Self::Settling,
        Self::Silent,
        Self::Partial,
    ];
}

/// Place of a connection in the queue of its class.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Links {
    prev: Option<FlowIdx>,
    next: Option<FlowIdx>,
    class: Class,
    since: TimeNs,
}

impl Links {
    pub(crate) const fn new(class: Class, now: TimeNs) -> Self {
        Self {
            prev: None,
            next: None,
            class,
            since: now,
        }
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Queue {
    head: Option<FlowIdx>,
    tail: Option<FlowIdx>,
}

/// The connections that are being set up.
#[derive(Debug)]
pub(crate) struct FlowStore {
    flows: Vec<Option<Flow>>,
    free: Vec<FlowIdx>,
    /// Newest connection of each key.
    index: HashTable<FlowIdx>,
    queues: [Queue; Class::ALL.len()],
    n_max: usize,
}

impl FlowStore {
    pub(crate) fn new(n_max: usize) -> Self {
        Self {
            flows: Vec::new(),
            free: Vec::new(),
            index: HashTable::new(),
            queues: [Queue::default(); Class::ALL.len()],
            // Positions are 32 bits.
            n_max: n_max.clamp(1, 1 << 31),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.flows.len() - self.free.len()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.len() >= self.n_max
    }

    #[inline]
    pub(crate) fn get(&self, idx: FlowIdx) -> &Flow {
        self.flows[idx.0 as usize]
            .as_ref()
            .expect("an index lives as long as its flow")
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, idx: FlowIdx) -> &mut Flow {
        self.flows[idx.0 as usize]
            .as_mut()
            .expect("an index lives as long as its flow")
    }

    /// The newest connection with this key.
    #[inline]
    pub(crate) fn find(&self, hash: u64, key: &FlowKey) -> Option<FlowIdx> {
        if self.index.is_empty() {
            return None;
        }
        self.index
            .find(hash, |&idx| {
                let flow = self.get(idx);
                flow.hash == hash && flow.key == *key
            })
            .copied()
    }

    /// Connections with the key of the one at `idx`, from that one to older ones.
    pub(crate) fn chain(&self, idx: FlowIdx) -> impl Iterator<Item = FlowIdx> + '_ {
        std::iter::successors(Some(idx), |&idx| self.get(idx).older)
    }

    /// Adds a connection as the newest of its key. The store must not be full.
    pub(crate) fn insert(&mut self, mut flow: Flow) -> FlowIdx {
        let newest = self.find(flow.hash, &flow.key);
        flow.older = newest;
        let (hash, class) = (flow.hash, flow.links.class);
        let idx = if let Some(idx) = self.free.pop() {
            self.flows[idx.0 as usize] = Some(flow);
            idx
        } else {
            let idx = FlowIdx(u32::try_from(self.flows.len()).expect("n_max fits 32 bits"));
            self.flows.push(Some(flow));
            idx
        };
        if let Some(old) = newest {
            let slot = self
                .index
                .find_mut(hash, |&known| known == old)
                .expect("the newest is in the index");
            *slot = idx;
        } else {
            let flows = &self.flows;
            self.index.insert_unique(hash, idx, |idx| {
                flows[idx.0 as usize].as_ref().map_or(0, |flow| flow.hash)
            });
        }
        self.push_back(idx, class);
        idx
    }

    /// Takes a connection out.
    pub(crate) fn remove(&mut self, idx: FlowIdx) -> Flow {
        self.unlink(idx);
        let (hash, older) = (self.get(idx).hash, self.get(idx).older);
        if let Ok(mut entry) = self.index.find_entry(hash, |&known| known == idx) {
            match older {
                Some(older) => *entry.get_mut() = older,
                None => drop(entry.remove()),
            }
        } else {
            self.unchain(idx, older);
        }
        self.free.push(idx);
        self.flows[idx.0 as usize]
            .take()
            .expect("an index lives as long as its flow")
    }

    /// Takes a connection that is not the newest of its key out of the chain.
    fn unchain(&mut self, idx: FlowIdx, older: Option<FlowIdx>) {
        let (hash, key) = (self.get(idx).hash, self.get(idx).key);
        let newest = self
            .find(hash, &key)
            .expect("an older connection has a newer one");
        let before = self
            .chain(newest)
            .find(|&at| self.get(at).older == Some(idx))
            .expect("the chain holds every older one");
        self.get_mut(before).older = older;
    }

    /// Moves a connection to the end of a class.
    pub(crate) fn reclass(&mut self, idx: FlowIdx, class: Class, now: TimeNs) {
        if self.get(idx).links.class == class {
            return;
        }
        self.unlink(idx);
        self.get_mut(idx).links = Links::new(class, now);
        self.push_back(idx, class);
    }

    /// All connections.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Flow> {
        self.flows.iter().flatten()
    }

    /// Lets every connection wait from `now` on; the order stays.
    pub(crate) fn restart_waits(&mut self, now: TimeNs) {
        for flow in self.flows.iter_mut().flatten() {
            flow.links.since = now;
        }
    }

    /// The connection that waits longest in a class, and since when.
    pub(crate) fn oldest(&self, class: Class) -> Option<(FlowIdx, TimeNs)> {
        self.queues[class as usize]
            .head
            .map(|idx| (idx, self.get(idx).links.since))
    }

    fn push_back(&mut self, idx: FlowIdx, class: Class) {
        let tail = self.queues[class as usize].tail.replace(idx);
        self.get_mut(idx).links.prev = tail;
        match tail {
            Some(tail) => self.get_mut(tail).links.next = Some(idx),
            None => self.queues[class as usize].head = Some(idx),
        }
    }

    fn unlink(&mut self, idx: FlowIdx) {
        let Links {
            prev, next, class, ..
        } = self.get(idx).links;
        match prev {
            Some(prev) => self.get_mut(prev).links.next = next,
            None => self.queues[class as usize].head = next,
        }
        match next {
            Some(next) => self.get_mut(next).links.prev = prev,
            None => self.queues[class as usize].tail = prev,
        }
    }
}
