//! Requests that went out without a connection, kept for a while in case it turns up.

use std::collections::VecDeque;

use ahash::RandomState;
use hashbrown::HashMap;

use crate::address::{Endpoint, Transport};
use crate::limits::ORPHANS_ON_ENDPOINT_MAX;
use crate::pending::RequestId;
use crate::resolve::Query;
use crate::slab::{Handle, Slab};

/// A request that went out as `none`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Orphan {
    pub(crate) query: Query,
    pub(crate) id: RequestId,
    proxy: Option<Endpoint>,
    until_mono: u64,
}

/// All of them, oldest first and by endpoint.
#[derive(Debug)]
pub(crate) struct Orphans {
    slab: Slab<Orphan>,
    order: VecDeque<Handle>,
    by_endpoint: HashMap<(Transport, Endpoint), VecDeque<Handle>, RandomState>,
    max: usize,
}

impl Orphans {
    pub(crate) fn new(hasher: RandomState, max: usize) -> Self {
        Self {
            slab: Slab::new(),
            order: VecDeque::new(),
            by_endpoint: HashMap::with_hasher(hasher),
            max,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.slab.len()
    }

    /// Remembers a request until then. The oldest go if there is no room.
    pub(crate) fn add(&mut self, query: Query, id: RequestId, proxy: Option<Endpoint>, until_mono: u64) {
        let keys = [Some(query.pair.client).filter(Endpoint::is_usable), proxy];
        if self.max == 0 || keys.iter().all(Option::is_none) {
            return;
        }
        while self.order.len() >= self.max {
            self.remove_oldest();
        }
        let handle = self.slab.insert(Orphan {
            query,
            id,
            proxy,
            until_mono,
        });
        self.order.push_back(handle);
        for key in keys.into_iter().flatten() {
            let on_endpoint = self.by_endpoint.entry((query.transport, key)).or_default();
            if on_endpoint.len() >= ORPHANS_ON_ENDPOINT_MAX {
                on_endpoint.pop_front();
            }
            on_endpoint.push_back(handle);
        }
    }

    /// Forgets those whose time is over.
    pub(crate) fn expire(&mut self, now_mono: u64) {
        while let Some(handle) = self.order.front() {
            let over = self
                .slab
                .live(*handle)
                .is_none_or(|idx| self.slab.get(idx).until_mono <= now_mono);
            if !over {
                break;
            }
            self.remove_oldest();
        }
    }

    fn remove_oldest(&mut self) {
        let Some(handle) = self.order.pop_front() else {
            return;
        };
        if self.slab.live(handle).is_some() {
            self.remove(handle);
        }
    }

    /// Those on an endpoint, oldest first; at most [`ORPHANS_ON_ENDPOINT_MAX`].
    pub(crate) fn on_endpoint(&self, transport: Transport, client: Endpoint) -> Vec<(Handle, Orphan)> {
        let handles = self.by_endpoint.get(&(transport, client)).into_iter().flatten();
        handles
            .filter_map(|handle| Some((*handle, *self.slab.get(self.slab.live(*handle)?))))
            .collect()
    }

    /// Forgets one. Its place in the order stays until it is the oldest.
    pub(crate) fn remove(&mut self, handle: Handle) {
        let Some(orphan) = self.slab.live(handle).and_then(|idx| self.slab.remove(idx)) else {
            return;
        };
        let keys = [Some(orphan.query.pair.client), orphan.proxy];
        for key in keys.into_iter().flatten() {
            let key = (orphan.query.transport, key);
            let Some(on_endpoint) = self.by_endpoint.get_mut(&key) else {
                continue;
            };
            on_endpoint.retain(|other| *other != handle);
            if on_endpoint.is_empty() {
                self.by_endpoint.remove(&key);
            }
        }
    }
}
