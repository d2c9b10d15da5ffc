//! Merges the views of one connection: the same hello seen on several interfaces under several addresses.
//!
//! ```text
//! veth   10.244.1.7:40112 > 10.96.0.10:443 ─┐
//! bridge 10.244.1.7:40112 > 10.244.2.3:8443 ─┼─ same client random, same index ─▶ one hello, two `views`
//! NIC    10.77.0.11:61200 > 10.244.2.3:8443 ─┘
//! ```
//!
//! Behind address translation and proxies that pass TLS on, every view is a connection of its own to the flow table. Here a
//! hello waits a moment for its likes. The one captured first is the outermost: nearer to the client a packet is
//! seen earlier, and all interfaces of a host share one clock. It lends its number and addresses to the connection;
//! the events of the others are folded into its events or left out.
//!
//! Invariant: every connection that is told of is told of under one number, first by its hello. Held hellos, live groups and
//! folded connections each have a limit; beyond it the oldest goes on without waiting.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use ahash::RandomState;

use crate::event::{CloseReason, Confirmed, ConnId, FlowEvent, HelloEvent, Pair, TimeNs};
use crate::settings::Seed;

/// Most address pairs of one connection. One hello to a service was seen six times: veth, bridge and NIC on two nodes.
pub const VIEWS_MAX: usize = 8;

/// How long after its first view a hello may still turn up on another interface: a retransmission of a lost segment
/// behind a proxy takes this long.
const WINDOW_NS: TimeNs = 2_000_000_000;

/// A clock that lies so far behind what it showed was set back: waiting for it to catch up would hold events for as long.
const STEP_BACK_NS: TimeNs = 1_000_000_000;

/// Limits of the merger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MergeSettings {
    /// How long a hello waits for its other views. It must be longer than the difference with which two interfaces
    /// hand over frames of one moment. Raising it delays every event of a connection.
    pub wait: Duration,
    /// Most hellos whose other views are looked for, about 250 bytes each and another 2 KiB while they wait. A node
    /// with 4 000 new connections a second has 8 000.
    pub n_groups_max: usize,
    /// Most connections that are remembered as views of others, about 20 bytes each; those that are forgotten give
    /// a `close` of their own.
    pub n_folded_max: usize,
}

impl Default for MergeSettings {
    /// 200 ms, 8 192 hellos and 524 288 connections.
    fn default() -> Self {
        Self {
            wait: Duration::from_millis(200),
            n_groups_max: 8 * 1024,
            n_folded_max: 512 * 1024,
        }
    }
}

/// What became of hellos; the numbers only grow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MergeCounters {
    /// Hellos that were a further view of another.
    pub merged: u64,
    /// Those of them that came after the hello had gone out: it was told of again, with the view.
    pub late: u64,
    /// Hellos with the random of another that cannot be a view of it: a client that repeats its random.
    pub refused: u64,
    /// Hellos that went out before their time for lack of room.
    pub hurried: u64,
    /// Connections that were forgotten to be views of others, for lack of room.
    pub forgotten: u64,
}

/// What is the same in all views of a hello.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct HelloKey {
    random: [u8; 32],
    index: u8,
}

/// One view.
#[derive(Debug, Clone, Copy)]
struct View {
    conn: ConnId,
    pair: Pair,
    interface: u16,
    at: TimeNs,
    /// Its end, if that was seen while the hello waited.
    end: Option<End>,
}

/// The end of a view.
#[derive(Debug, Clone, Copy)]
struct End {
    at: TimeNs,
    pair: Option<Pair>,
    reason: CloseReason,
    confirmed: Confirmed,
}

/// A hello and its views.
#[derive(Debug)]
struct Group {
    /// Until it goes out; afterwards empty.
    held: Option<(TimeNs, Box<HelloEvent>)>,
    /// The number under which it is told of.
    conn: ConnId,
    /// When the first view was captured.
    since: TimeNs,
    /// What was told or is held.
    confirmed: Confirmed,
    views: Vec<View>,
}

/// Merges views. Hand it every event of the table, in order.
#[derive(Debug)]
pub struct ViewMerger {
    settings: MergeSettings,
    groups: HashMap<HelloKey, Group, RandomState>,
    /// Groups in order of their first view, with the time at which that was handed in.
    order: VecDeque<(TimeNs, HelloKey)>,
    /// Those of them that are held, a suffix of the same order.
    waiting: VecDeque<(TimeNs, HelloKey)>,
    /// The group of a connection, while it lives.
    group_of: HashMap<ConnId, HelloKey, RandomState>,
    /// The connection that another is a view of, until its end.
    folded: HashMap<ConnId, ConnId, RandomState>,
    events: VecDeque<FlowEvent>,
    counters: MergeCounters,
}

impl ViewMerger {
    /// A merger that holds nothing.
    pub fn new(settings: MergeSettings, seed: Seed) -> Self {
        let [k0, k1, k2, k3] = seed.0;
        let hasher = RandomState::with_seeds(k0, k1, k2, k3);
        Self {
            settings,
            groups: HashMap::with_hasher(hasher.clone()),
            order: VecDeque::new(),
            waiting: VecDeque::new(),
            group_of: HashMap::with_hasher(hasher.clone()),
            folded: HashMap::with_hasher(hasher),
            events: VecDeque::new(),
            counters: MergeCounters::default(),
        }
    }

    /// What became of hellos so far.
    pub const fn counters(&self) -> &MergeCounters {
        &self.counters
    }

    /// Hellos that wait for their other views.
    pub fn n_held(&self) -> usize {
        self.waiting.len()
    }

    /// Connections that are remembered as views of others.
    pub fn n_folded(&self) -> usize {
        self.folded.len()
    }

    /// The next event, oldest first.
    #[inline]
    pub fn poll_event(&mut self) -> Option<FlowEvent> {
        self.events.pop_front()
    }

    /// Takes in an event of the flow table.
    pub fn handle_event(&mut self, event: FlowEvent) {
        match event {
            FlowEvent::Open(..) => self.events.push_back(event),
            FlowEvent::Hello(at, hello) => self.on_hello(at, hello),
            FlowEvent::Confirm { at, conn, confirmed } => self.on_confirm(at, conn, confirmed),
            FlowEvent::Close {
                at,
                conn,
                pair,
                reason,
                confirmed,
            } => {
                let end = End {
                    at,
                    pair,
                    reason,
                    confirmed,
                };
                self.on_close(conn, end);
            }
        }
    }

    /// When [`Self::handle_timeout`] has something to do.
    pub fn next_deadline(&self) -> Option<TimeNs> {
        let held = self
            .waiting
            .front()
            .map(|(at, _)| at.saturating_add(self.wait_ns()));
        let over = self.order.front().map(|(at, _)| at.saturating_add(WINDOW_NS));
        held.into_iter().chain(over).min()
    }

    /// Lets out what has waited long enough by `now`, and forgets groups whose time is over.
    pub fn handle_timeout(&mut self, now: TimeNs) {
        let is_over = |at: TimeNs, wait: TimeNs| {
            at.saturating_add(wait) <= now || at.saturating_sub(now) > STEP_BACK_NS
        };
        let wait = self.wait_ns();
        while self.waiting.front().is_some_and(|(at, _)| is_over(*at, wait)) {
            self.release_first();
        }
        while self.order.front().is_some_and(|(at, _)| is_over(*at, WINDOW_NS)) {
            self.forget_first();
        }
    }

    /// Lets out all that waits: nothing more will come.
    pub fn flush(&mut self) {
        while !self.waiting.is_empty() {
            self.release_first();
        }
    }

    fn wait_ns(&self) -> TimeNs {
        TimeNs::try_from(self.settings.wait.as_nanos()).unwrap_or(TimeNs::MAX)
    }

    // ---- hellos ----

    fn on_hello(&mut self, at: TimeNs, hello: Box<HelloEvent>) {
        let key = HelloKey {
            random: hello.hello.random,
            index: hello.hello_index,
        };
        let view = View {
            conn: hello.conn.conn,
            pair: hello.conn.pair,
            interface: hello.conn.interface,
            at,
            end: None,
        };
        let Some(group) = self.groups.get_mut(&key) else {
            self.hold(at, key, view, hello);
            return;
        };
        if !group.admits(&view) {
            self.counters.refused += 1;
            self.events.push_back(FlowEvent::Hello(at, hello));
            return;
        }
        self.counters.merged += 1;
        self.group_of.insert(view.conn, key);
        group.views.push(view);
        group.confirmed = group.confirmed.max(hello.conn.confirmed);
        match &mut group.held {
            Some((first_at, first)) => {
                // Only the view behind a load balancer has its header.
                let proxy_client = first.proxy_client.or(hello.proxy_client);
                if at < *first_at {
                    (*first_at, *first) = (at, hello);
                    group.conn = view.conn;
                }
                first.proxy_client = proxy_client;
            }
            None => self.tell_again(at, &key, hello),
        }
    }

    fn hold(&mut self, at: TimeNs, key: HelloKey, view: View, hello: Box<HelloEvent>) {
        while self.groups.len() >= self.settings.n_groups_max.max(1) {
            self.counters.hurried += u64::from(self.waiting.len() == self.order.len());
            self.forget_first();
        }
        let group = Group {
            conn: view.conn,
            since: at,
            confirmed: hello.conn.confirmed,
            held: Some((at, hello)),
            views: vec![view],
        };
        self.group_of.insert(view.conn, key);
        self.groups.insert(key, group);
        self.order.push_back((at, key));
        self.waiting.push_back((at, key));
    }

    /// A view that came too late for its hello: who keeps the connection learns of it by the hello once more.
    fn tell_again(&mut self, at: TimeNs, key: &HelloKey, mut hello: Box<HelloEvent>) {
        self.counters.late += 1;
        let Some(group) = self.groups.get(key) else { return };
        let conn = group.conn;
        let seen_as = hello.conn.conn;
        let outer = group
            .views
            .iter()
            .find(|view| view.conn == conn)
            .unwrap_or(&group.views[0]);
        hello.conn.pair = outer.pair;
        hello.conn.views = group.pairs_beside(&outer.pair);
        hello.conn.conn = conn;
        hello.conn.confirmed = group.confirmed;
        self.fold(seen_as, conn);
        self.events.push_back(FlowEvent::Hello(at, hello));
    }

    fn release_first(&mut self) {
        if let Some((_, key)) = self.waiting.pop_front() {
            self.release(&key);
        }
    }

    /// Lets a hello out with all its views so far.
    fn release(&mut self, key: &HelloKey) {
        let Some(group) = self.groups.get_mut(key) else {
            return;
        };
        let Some((at, mut hello)) = group.held.take() else {
            return;
        };
        // The second hello of a connection goes under the number that its first had.
        let conn = self.folded.get(&group.conn).copied().unwrap_or(group.conn);
        group.conn = conn;
        hello.conn.views = group.pairs_beside(&hello.conn.pair);
        hello.conn.conn = conn;
        hello.conn.confirmed = group.confirmed;
        let views = group.views.clone();
        self.events.push_back(FlowEvent::Hello(at, hello));
        for view in views {
            match view.end {
                None => self.fold(view.conn, conn),
                Some(end) if view.conn == conn => self.close(conn, end),
                Some(_) => drop(self.folded.remove(&view.conn)),
            }
        }
    }

    fn close(&mut self, conn: ConnId, end: End) {
        let End {
            at,
            pair,
            reason,
            confirmed,
        } = end;
        self.events.push_back(FlowEvent::Close {
            at,
            conn,
            pair,
            reason,
            confirmed,
        });
    }

    fn fold(&mut self, conn: ConnId, into: ConnId) {
        if conn == into {
            return;
        }
        if self.folded.len() >= self.settings.n_folded_max {
            // Numbers rise, so that an old one is most likely over; which one does not matter for who reads the events.
            if let Some(any) = self.folded.keys().next().copied() {
                self.folded.remove(&any);
                self.counters.forgotten += 1;
            }
        }
        self.folded.insert(conn, into);
    }

    /// Forgets the oldest group; its hello goes out if it still waits.
    fn forget_first(&mut self) {
        let Some((_, key)) = self.order.pop_front() else {
            return;
        };
        if self.waiting.front().is_some_and(|(_, first)| *first == key) {
            self.release_first();
        }
        let Some(group) = self.groups.remove(&key) else {
            return;
        };
        for view in group.views {
            if self.group_of.get(&view.conn) == Some(&key) {
                self.group_of.remove(&view.conn);
            }
        }
    }

    // ---- what follows a hello ----

    fn on_confirm(&mut self, at: TimeNs, conn: ConnId, confirmed: Confirmed) {
        let Some(group) = self.group_of.get(&conn).and_then(|key| self.groups.get_mut(key)) else {
            // Another view said so before, or says it as well.
            if !self.folded.contains_key(&conn) {
                self.events.push_back(FlowEvent::Confirm { at, conn, confirmed });
            }
            return;
        };
        if confirmed <= group.confirmed {
            return;
        }
        group.confirmed = confirmed;
        if group.held.is_none() {
            let conn = group.conn;
            self.events.push_back(FlowEvent::Confirm { at, conn, confirmed });
        }
    }

    fn on_close(&mut self, conn: ConnId, end: End) {
        let group = self.group_of.get(&conn).and_then(|key| self.groups.get_mut(key));
        // An end does not cut the wait short: the outermost view may not have been read yet.
        if let Some(group) = group.filter(|group| group.held.is_some()) {
            if let Some(view) = group.views.iter_mut().find(|view| view.conn == conn) {
                view.end = Some(end);
            }
        } else if self.folded.remove(&conn).is_none() {
            self.close(conn, end);
        }
    }
}

impl Group {
    /// True if the hello can be a further view. Two connections of one interface to one server are two connections: a
    /// client that repeats its random.
    fn admits(&self, view: &View) -> bool {
        let is_apart = |known: &View| {
            known.conn != view.conn
                && (known.interface != view.interface || known.pair.server != view.pair.server)
        };
        self.views.len() < VIEWS_MAX
            && view.at.saturating_sub(self.since).saturating_abs() <= WINDOW_NS
            && self.views.iter().all(is_apart)
    }

    /// Address pairs of all views but one, in the order in which they were captured.
    fn pairs_beside(&self, outer: &Pair) -> Vec<Pair> {
        let mut views: Vec<&View> = self.views.iter().collect();
        views.sort_by_key(|view| view.at);
        let mut pairs: Vec<Pair> = Vec::new();
        for view in views {
            if view.pair != *outer && !pairs.contains(&view.pair) {
                pairs.push(view.pair);
            }
        }
        pairs
    }
}
