//! The connections and the indexes that lead to them: by client endpoint, uid, random and binding.
//!
//! ```text
//! endpoint --> link --> link --> …        a link is (connection, number of its view), packed in 32 bits;
//!               |        |                views of all servers on one client endpoint form one chain
//!              Conn     Conn
//! ```
//!
//! Each connection is in one of four lists, which are both the order of eviction and, for the closed
//! ones, the order of expiry. Nothing here decides a join; see `resolve`.

use ahash::RandomState;
use hashbrown::HashMap;

use crate::address::{Endpoint, Pair, Transport};
use crate::index::Index;
use crate::input::{Alpn, Confirmed, ConnUid, HelloFacts};
use crate::limits::{BINDINGS_MAX, GENERATIONS_MAX, ON_ENDPOINT_MAX, UNCONFIRMED_MAX, VIEWS_MAX};
use crate::slab::{Handle, List, NIL, Slab};
use crate::streams::StreamId;

/// A close that was not seen.
pub(crate) const NEVER: i64 = i64::MAX;

/// `first_hello` of a plain connection.
const NO_HELLO: u8 = u8::MAX;

const VIEW_BITS: u32 = 4;
const _: () = assert!(VIEWS_MAX <= 1 << VIEW_BITS, "the number of a view fits its bits");

/// What of a hello is compared with requests, zero for absent.
#[derive(Clone, Copy, Debug, Default)]
struct PackedFacts {
    ja4_hash: u64,
    sni_hash: u64,
    alpn: Alpn,
    ech: bool,
}

#[derive(Clone, Copy, Debug)]
struct View {
    pair: Pair,
    /// Next link on the same client endpoint.
    next: u32,
}

/// What few connections have.
#[derive(Debug, Default)]
struct Extra {
    views: Vec<View>,
    aliases: Vec<ConnUid>,
    bindings: Vec<(StreamId, u64)>,
}

/// Which list a connection is in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum ListKind {
    /// Unconfirmed, not closed; least recently used first.
    Fresh,
    /// Unconfirmed, closed; first to expire first.
    FreshClosed,
    /// Confirmed, closed or replaced; first to expire first.
    Closed,
    /// Confirmed, not closed; least recently used first.
    Open,
}

/// Whether a client random identifies the connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum RandomUse {
    Absent,
    Unique,
    /// Another connection has the same one, or had it while this one was here.
    Shared,
}

/// A connection, known under one or more address pairs.
#[derive(Debug)]
pub(crate) struct Conn<C> {
    pub(crate) uid: ConnUid,
    pub(crate) payload: C,
    /// First seen: the SYN, else the hello.
    pub(crate) open_ns: i64,
    /// Time of the first hello; of the opening if plain.
    pub(crate) begin_ns: i64,
    /// Last close that was seen, or [`NEVER`].
    pub(crate) close_ns: i64,
    expires_mono: u64,
    facts: PackedFacts,
    /// First pending row of its hellos, see `rows`.
    pub(crate) rows: u32,
    pub(crate) node: u32,
    pub(crate) n_requests: u32,
    weight: u32,
    /// Views, aliases, bindings and waiting rows.
    extra_bytes: u32,
    view: View,
    random: [u8; 32],
    random_use: RandomUse,
    pub(crate) transport: Transport,
    pub(crate) confirmed: Confirmed,
    list: ListKind,
    first_hello: u8,
    /// Bit per `hello_index` that was seen.
    hellos_seen: u8,
    binding: Option<(StreamId, u64)>,
    extra: Option<Box<Extra>>,
}

/// How a connection begins.
#[derive(Debug)]
pub(crate) struct NewConn<C> {
    pub(crate) uid: ConnUid,
    pub(crate) node: u32,
    pub(crate) transport: Transport,
    pub(crate) pair: Pair,
    pub(crate) open_ns: i64,
    pub(crate) begin_ns: i64,
    pub(crate) confirmed: Confirmed,
    pub(crate) weight: u32,
    pub(crate) payload: C,
}

impl<C> Conn<C> {
    /// False for a plain connection.
    pub(crate) fn has_hello(&self) -> bool {
        self.first_hello != NO_HELLO
    }

    /// True unless a lone packet is all there is.
    pub(crate) fn is_confirmed(&self) -> bool {
        self.confirmed > Confirmed::None
    }

    /// True if the hello of this index was seen before; notes it.
    pub(crate) fn note_hello(&mut self, index: u8) -> bool {
        let bit = 1 << index;
        let seen = self.hellos_seen & bit != 0;
        self.hellos_seen |= bit;
        seen
    }

    /// True if a hello of this index is to stand for the connection.
    pub(crate) fn is_earlier_hello(&self, index: u8) -> bool {
        index < self.first_hello
    }

    pub(crate) fn pair(&self) -> Pair {
        self.view.pair
    }

    fn views(&self) -> impl Iterator<Item = &View> {
        std::iter::once(&self.view).chain(self.extra.iter().flat_map(|extra| &extra.views))
    }

    /// All address pairs; the first is the outermost view.
    pub(crate) fn pairs(&self) -> impl Iterator<Item = Pair> {
        self.views().map(|view| view.pair)
    }

    fn view(&self, number: u32) -> &View {
        match (number, &self.extra) {
            (n, Some(extra)) if n > 0 => &extra.views[n as usize - 1],
            _ => &self.view,
        }
    }

    fn view_mut(&mut self, number: u32) -> &mut View {
        match (number, &mut self.extra) {
            (n, Some(extra)) if n > 0 => &mut extra.views[n as usize - 1],
            _ => &mut self.view,
        }
    }

    fn n_views(&self) -> usize {
        1 + self.extra.as_ref().map_or(0, |extra| extra.views.len())
    }

    fn bindings(&self) -> impl Iterator<Item = (StreamId, u64)> {
        self.binding
            .into_iter()
            .chain(self.extra.iter().flat_map(|extra| extra.bindings.iter().copied()))
    }

    /// The server's id that it is bound to in this producer process.
    pub(crate) fn bound_to(&self, stream: StreamId) -> Option<u64> {
        self.bindings()
            .find(|(bound, _)| *bound == stream)
            .map(|(_, conn_id)| conn_id)
    }

    /// No other connection has its random.
    pub(crate) fn random_is_unique(&self) -> bool {
        self.random_use == RandomUse::Unique
    }

    /// The random identifies it and it is confirmed.
    pub(crate) fn random_proves(&self) -> bool {
        self.random_is_unique() && self.is_confirmed()
    }

    pub(crate) fn facts(&self) -> HelloFacts {
        let some = |hash: u64| (hash != 0).then_some(hash);
        HelloFacts {
            ja4_hash: some(self.facts.ja4_hash),
            sni_hash: some(self.facts.sni_hash),
            ech: self.facts.ech,
            alpn: self.facts.alpn,
        }
    }
}

/// Where a producer's connection id leads.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Binding {
    stream: StreamId,
    conn_id: u64,
    /// The peer that the producer saw, so that a reused id is not mistaken for the old connection.
    pub(crate) peer: Endpoint,
    pub(crate) conn: u32,
}

/// Results of adding a view or a binding that has no room.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Refused;

/// All connections.
#[derive(Debug)]
pub(crate) struct Connections<C> {
    hasher: RandomState,
    slab: Slab<Conn<C>>,
    by_endpoint: Index,
    by_uid: Index,
    /// Randoms that only one connection has.
    by_random: Index,
    /// Randoms that several connections have, and how many.
    shared_randoms: HashMap<[u8; 32], usize, RandomState>,
    by_binding: Index,
    bindings: Slab<Binding>,
    /// Ids under which other nodes know a merged connection.
    aliases: HashMap<ConnUid, u32, RandomState>,
    lists: [List; 4],
    retention_ns: u64,
    bytes: usize,
    fresh_bytes: usize,
}

const fn link(idx: u32, view: u32) -> u32 {
    idx << VIEW_BITS | view
}

const fn parts(link: u32) -> (u32, u32) {
    (link >> VIEW_BITS, link & ((1 << VIEW_BITS) - 1))
}

impl<C> Connections<C> {
    /// Bytes that a connection costs without payload, extra views and bindings.
    const BASE_BYTES: usize = Slab::<Conn<C>>::SLOT_BYTES + 3 * Index::ENTRY_BYTES;
    /// Bytes of one extra view or alias, with its index entry and the growth of its vector.
    const VIEW_BYTES: usize = 2 * size_of::<View>() + Index::ENTRY_BYTES;
    /// Bytes of one binding.
    const BINDING_BYTES: usize = Slab::<Binding>::SLOT_BYTES + Index::ENTRY_BYTES + 32;

    pub(crate) fn new(hasher: RandomState, retention_ns: u64) -> Self {
        Self {
            aliases: HashMap::with_hasher(hasher.clone()),
            shared_randoms: HashMap::with_hasher(hasher.clone()),
            hasher,
            slab: Slab::new(),
            by_endpoint: Index::default(),
            by_uid: Index::default(),
            by_random: Index::default(),
            by_binding: Index::default(),
            bindings: Slab::new(),
            lists: [List::EMPTY; 4],
            retention_ns,
            bytes: 0,
            fresh_bytes: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.slab.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn get(&self, idx: u32) -> &Conn<C> {
        self.slab.get(idx)
    }

    pub(crate) fn get_mut(&mut self, idx: u32) -> &mut Conn<C> {
        self.slab.get_mut(idx)
    }

    pub(crate) fn handle(&self, idx: u32) -> Handle {
        self.slab.handle(idx)
    }

    pub(crate) fn live(&self, handle: Handle) -> Option<u32> {
        self.slab.live(handle)
    }

    // ---- lookups

    pub(crate) fn find_uid(&self, uid: ConnUid) -> Option<u32> {
        let own = self
            .by_uid
            .find(self.hasher.hash_one(uid), |idx| self.slab.get(idx).uid == uid);
        own.or_else(|| {
            if self.aliases.is_empty() {
                None
            } else {
                self.aliases.get(&uid).copied()
            }
        })
    }

    pub(crate) fn find_random(&self, random: &[u8; 32]) -> Option<u32> {
        self.by_random.find(self.hasher.hash_one(random), |idx| {
            self.slab.get(idx).random == *random
        })
    }

    pub(crate) fn find_binding(&self, stream: StreamId, conn_id: u64) -> Option<Binding> {
        self.binding_slot(stream, conn_id)
            .map(|at| *self.bindings.get(at))
    }

    fn binding_slot(&self, stream: StreamId, conn_id: u64) -> Option<u32> {
        self.by_binding
            .find(self.hasher.hash_one((stream, conn_id)), |at| {
                let binding = self.bindings.get(at);
                binding.stream == stream && binding.conn_id == conn_id
            })
    }

    fn endpoint_hash(&self, transport: Transport, client: Endpoint) -> u64 {
        self.hasher.hash_one((
            u128::from_ne_bytes(client.ip),
            u32::from(client.port) << 1 | transport as u32,
        ))
    }

    fn head(&self, transport: Transport, client: Endpoint) -> Option<u32> {
        let hash = self.endpoint_hash(transport, client);
        self.by_endpoint
            .find(hash, |head| self.is_on(head, transport, client))
    }

    fn is_on(&self, at: u32, transport: Transport, client: Endpoint) -> bool {
        let (idx, view) = parts(at);
        let conn = self.slab.get(idx);
        conn.transport == transport && conn.view(view).pair.client == client
    }

    /// Connections on a client endpoint with the server endpoint of the view in question, in no
    /// particular order; a connection comes once for each of its views there. At most
    /// [`ON_ENDPOINT_MAX`] + 1 of them.
    pub(crate) fn on_endpoint(
        &self,
        transport: Transport,
        client: Endpoint,
    ) -> impl Iterator<Item = (u32, Endpoint)> + '_ {
        let head = if client.is_usable() {
            self.head(transport, client)
        } else {
            None
        };
        std::iter::successors(head, |at| {
            let (idx, view) = parts(*at);
            let next = self.slab.get(idx).view(view).next;
            (next != NIL).then_some(next)
        })
        .map(|at| {
            let (idx, view) = parts(at);
            (idx, self.slab.get(idx).view(view).pair.server)
        })
    }

    // ---- changes

    /// Adds a connection without hello; it must be new under its uid.
    pub(crate) fn insert(&mut self, new: NewConn<C>, now_mono: u64) -> u32 {
        let uid = new.uid;
        let (transport, pair) = (new.transport, new.pair);
        let conn = Conn {
            uid,
            payload: new.payload,
            open_ns: new.open_ns,
            begin_ns: new.begin_ns,
            close_ns: NEVER,
            expires_mono: now_mono,
            facts: PackedFacts::default(),
            rows: NIL,
            node: new.node,
            n_requests: 0,
            weight: new.weight,
            extra_bytes: 0,
            view: View { pair, next: NIL },
            random: [0; 32],
            random_use: RandomUse::Absent,
            transport,
            confirmed: new.confirmed,
            list: ListKind::Fresh,
            first_hello: NO_HELLO,
            hellos_seen: 0,
            binding: None,
            extra: None,
        };
        let list = if conn.is_confirmed() {
            ListKind::Open
        } else {
            ListKind::Fresh
        };
        let idx = self.slab.insert(conn).idx;
        self.enter(idx, list, now_mono);
        self.by_uid.put(self.hasher.hash_one(uid), idx, |_| false);
        self.link_view(idx, 0);
        idx
    }

    fn link_view(&mut self, idx: u32, number: u32) {
        let conn = self.slab.get(idx);
        let (transport, client) = (conn.transport, conn.view(number).pair.client);
        if !client.is_usable() {
            return;
        }
        let next = self.head(transport, client).unwrap_or(NIL);
        self.slab.get_mut(idx).view_mut(number).next = next;
        let hash = self.endpoint_hash(transport, client);
        self.by_endpoint.put(hash, link(idx, number), |head| head == next);
    }

    fn unlink_view(&mut self, idx: u32, number: u32) {
        let conn = self.slab.get(idx);
        let (transport, client) = (conn.transport, conn.view(number).pair.client);
        let (gone, after) = (link(idx, number), conn.view(number).next);
        if !client.is_usable() {
            return;
        }
        let hash = self.endpoint_hash(transport, client);
        let Some(head) = self.head(transport, client) else {
            return;
        };
        if head == gone {
            if after == NIL {
                self.by_endpoint.remove(hash, |value| value == gone);
            } else {
                self.by_endpoint.put(hash, after, |value| value == gone);
            }
            return;
        }
        let mut at = head;
        while at != NIL {
            let (idx, view) = parts(at);
            let next = self.slab.get(idx).view(view).next;
            if next == gone {
                self.slab.get_mut(idx).view_mut(view).next = after;
                return;
            }
            at = next;
        }
    }

    /// Makes the connection known under another pair. Nothing happens if it is already.
    pub(crate) fn add_view(&mut self, idx: u32, pair: Pair) -> Result<(), Refused> {
        let conn = self.slab.get_mut(idx);
        if conn.pairs().any(|known| known == pair) {
            return Ok(());
        }
        let number = conn.n_views();
        if number >= VIEWS_MAX {
            return Err(Refused);
        }
        conn.extra
            .get_or_insert_default()
            .views
            .push(View { pair, next: NIL });
        self.charge(idx, Self::VIEW_BYTES);
        self.link_view(idx, u32::try_from(number).expect("fewer than VIEWS_MAX"));
        Ok(())
    }

    /// Makes a known pair the outermost view.
    pub(crate) fn make_outermost(&mut self, idx: u32, pair: Pair) {
        let Some(number) = self.slab.get(idx).pairs().position(|known| known == pair) else {
            return;
        };
        if number == 0 {
            return;
        }
        let number = u32::try_from(number).expect("fewer than VIEWS_MAX");
        self.unlink_view(idx, 0);
        self.unlink_view(idx, number);
        let conn = self.slab.get_mut(idx);
        let first = conn.view.pair;
        conn.view_mut(number).pair = first;
        conn.view.pair = pair;
        conn.view.next = NIL;
        conn.view_mut(number).next = NIL;
        self.link_view(idx, 0);
        self.link_view(idx, number);
    }

    /// Makes the connection known under the id that another node gave it.
    pub(crate) fn add_alias(&mut self, idx: u32, uid: ConnUid) {
        let conn = self.slab.get_mut(idx);
        conn.extra.get_or_insert_default().aliases.push(uid);
        self.aliases.insert(uid, idx);
        self.charge(idx, Self::VIEW_BYTES);
    }

    /// Number of ids that other nodes gave it.
    pub(crate) fn n_aliases(&self, idx: u32) -> usize {
        self.slab
            .get(idx)
            .extra
            .as_ref()
            .map_or(0, |extra| extra.aliases.len())
    }

    /// Lets this hello stand for the connection.
    pub(crate) fn set_hello(
        &mut self,
        idx: u32,
        index: u8,
        ts_ns: i64,
        facts: HelloFacts,
        payload: C,
        weight: u32,
    ) {
        let conn = self.slab.get_mut(idx);
        conn.first_hello = index;
        conn.begin_ns = ts_ns;
        conn.payload = payload;
        conn.facts = PackedFacts {
            ja4_hash: facts.ja4_hash.unwrap_or(0),
            sni_hash: facts.sni_hash.unwrap_or(0),
            alpn: facts.alpn,
            ech: facts.ech,
        };
        let before = conn.weight;
        conn.weight = weight;
        self.adjust(idx, weight, before);
    }

    /// Gives the connection a random if it has none. Shared with another connection, it proves neither.
    pub(crate) fn set_random(&mut self, idx: u32, random: [u8; 32]) {
        if self.slab.get(idx).random_use != RandomUse::Absent {
            return;
        }
        let hash = self.hasher.hash_one(random);
        let random_use = if let Some(sharers) = self.shared_randoms.get_mut(&random) {
            *sharers += 1;
            RandomUse::Shared
        } else if let Some(other) = self.find_random(&random) {
            self.slab.get_mut(other).random_use = RandomUse::Shared;
            self.by_random.remove(hash, |value| value == other);
            self.shared_randoms.insert(random, 2);
            RandomUse::Shared
        } else {
            self.by_random.put(hash, idx, |_| false);
            RandomUse::Unique
        };
        let conn = self.slab.get_mut(idx);
        conn.random = random;
        conn.random_use = random_use;
    }

    /// Binds a producer's connection id. An older binding of the same id is replaced: ids come back.
    pub(crate) fn bind(
        &mut self,
        idx: u32,
        stream: StreamId,
        conn_id: u64,
        peer: Endpoint,
    ) -> Result<(), Refused> {
        if self.slab.get(idx).bindings().count() >= BINDINGS_MAX {
            return Err(Refused);
        }
        if let Some(at) = self.binding_slot(stream, conn_id) {
            let old = *self.bindings.get(at);
            self.unbind(stream, conn_id);
            let conn = self.slab.get_mut(old.conn);
            if conn.binding == Some((stream, conn_id)) {
                conn.binding = None;
            } else if let Some(extra) = &mut conn.extra {
                extra.bindings.retain(|bound| *bound != (stream, conn_id));
            }
            self.refund(old.conn, Self::BINDING_BYTES);
        }
        let at = self
            .bindings
            .insert(Binding {
                stream,
                conn_id,
                peer,
                conn: idx,
            })
            .idx;
        self.by_binding
            .put(self.hasher.hash_one((stream, conn_id)), at, |_| false);
        let conn = self.slab.get_mut(idx);
        if conn.binding.is_none() {
            conn.binding = Some((stream, conn_id));
        } else {
            conn.extra
                .get_or_insert_default()
                .bindings
                .push((stream, conn_id));
        }
        self.charge(idx, Self::BINDING_BYTES);
        Ok(())
    }

    fn unbind(&mut self, stream: StreamId, conn_id: u64) {
        let hash = self.hasher.hash_one((stream, conn_id));
        let bindings = &self.bindings;
        let at = self.by_binding.remove(hash, |at| {
            let binding = bindings.get(at);
            binding.stream == stream && binding.conn_id == conn_id
        });
        if let Some(at) = at {
            self.bindings.remove(at);
        }
    }

    /// Raises the confirmation; true if it rose from nothing.
    pub(crate) fn confirm(&mut self, idx: u32, level: Confirmed, now_mono: u64) -> bool {
        let conn = self.slab.get_mut(idx);
        let was = conn.is_confirmed();
        conn.confirmed = conn.confirmed.max(level);
        if was || !conn.is_confirmed() {
            return false;
        }
        let closed = conn.list == ListKind::FreshClosed;
        self.relist(
            idx,
            if closed { ListKind::Closed } else { ListKind::Open },
            now_mono,
        );
        true
    }

    /// Notes an end. Of several the latest counts, so that the order in which two sensors report does not matter.
    pub(crate) fn close(&mut self, idx: u32, ts_ns: i64, now_mono: u64) {
        let conn = self.slab.get_mut(idx);
        conn.close_ns = if conn.close_ns == NEVER {
            ts_ns
        } else {
            conn.close_ns.max(ts_ns)
        };
        self.retire(idx, now_mono);
    }

    /// Puts a connection that is over, or replaced, among those that expire.
    fn retire(&mut self, idx: u32, now_mono: u64) {
        match self.slab.get(idx).list {
            ListKind::Fresh => self.relist(idx, ListKind::FreshClosed, now_mono),
            ListKind::Open => self.relist(idx, ListKind::Closed, now_mono),
            ListKind::FreshClosed | ListKind::Closed => {}
        }
    }

    /// Retires what a confirmed newer connection with the same two endpoints replaces: others by
    /// this one, or this one by another.
    pub(crate) fn retire_replaced(&mut self, idx: u32, now_mono: u64) {
        let conn = self.slab.get(idx);
        let (open, confirmed, transport) = (conn.open_ns, conn.is_confirmed(), conn.transport);
        let mut over: [u32; ON_ENDPOINT_MAX] = [NIL; ON_ENDPOINT_MAX];
        let mut n_over = 0;
        let mut note = |idx: u32| {
            if n_over < over.len() {
                over[n_over] = idx;
                n_over += 1;
            }
        };
        for pair in conn.pairs() {
            for (other_idx, server) in self.on_endpoint(transport, pair.client) {
                let other = self.slab.get(other_idx);
                if server != pair.server || other_idx == idx {
                    continue;
                }
                if confirmed && open > other.open_ns {
                    note(other_idx);
                } else if other.is_confirmed() && other.open_ns > open {
                    note(idx);
                }
            }
        }
        for &idx in over.iter().take_while(|idx| **idx != NIL) {
            self.retire(idx, now_mono);
        }
    }

    /// A request was joined to it: it is the most recently used. One that only seemed replaced, because a
    /// clock jumped, begins its retention again.
    pub(crate) fn touch(&mut self, idx: u32, now_mono: u64) {
        let conn = self.slab.get(idx);
        let list = conn.list;
        let over = conn.close_ns != NEVER;
        match list {
            ListKind::FreshClosed | ListKind::Closed if over => {}
            // Often it is the newest already; then there is nothing to move.
            _ if self.lists[list as usize].is_last(idx)
                && matches!(list, ListKind::Fresh | ListKind::Open) => {}
            _ => self.relist(idx, list, now_mono),
        }
    }

    // ---- lists, bytes, removal

    fn enter(&mut self, idx: u32, list: ListKind, now_mono: u64) {
        self.slab.push_back(&mut self.lists[list as usize], idx);
        let retention = self.retention_ns;
        let conn = self.slab.get_mut(idx);
        conn.list = list;
        conn.expires_mono = now_mono.saturating_add(retention);
        let bytes = self.cost(idx);
        self.bytes += bytes;
        if matches!(list, ListKind::Fresh | ListKind::FreshClosed) {
            self.fresh_bytes += bytes;
        }
    }

    fn leave(&mut self, idx: u32) {
        let bytes = self.cost(idx);
        let list = self.slab.get(idx).list;
        self.slab.unlink(&mut self.lists[list as usize], idx);
        self.bytes -= bytes;
        if matches!(list, ListKind::Fresh | ListKind::FreshClosed) {
            self.fresh_bytes -= bytes;
        }
    }

    fn relist(&mut self, idx: u32, list: ListKind, now_mono: u64) {
        self.leave(idx);
        self.enter(idx, list, now_mono);
    }

    fn cost(&self, idx: u32) -> usize {
        let conn = self.slab.get(idx);
        Self::BASE_BYTES + conn.weight as usize + conn.extra_bytes as usize
    }

    /// Counts bytes that hang on the connection.
    pub(crate) fn charge(&mut self, idx: u32, bytes: usize) {
        let conn = self.slab.get_mut(idx);
        let before = conn.extra_bytes;
        conn.extra_bytes = before.saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
        let after = conn.extra_bytes;
        self.adjust(idx, after, before);
    }

    /// Takes back what was charged.
    pub(crate) fn refund(&mut self, idx: u32, bytes: usize) {
        let conn = self.slab.get_mut(idx);
        let before = conn.extra_bytes;
        conn.extra_bytes = before.saturating_sub(u32::try_from(bytes).unwrap_or(u32::MAX));
        let after = conn.extra_bytes;
        self.adjust(idx, after, before);
    }

    fn adjust(&mut self, idx: u32, after: u32, before: u32) {
        let fresh = matches!(self.slab.get(idx).list, ListKind::Fresh | ListKind::FreshClosed);
        self.bytes = self.bytes + after as usize - before as usize;
        if fresh {
            self.fresh_bytes = self.fresh_bytes + after as usize - before as usize;
        }
    }

    /// When the next closed connection expires.
    pub(crate) fn next_expiry(&self) -> Option<u64> {
        let first = |list: ListKind| {
            let head = self.lists[list as usize].head;
            (head != NIL).then(|| self.slab.get(head).expires_mono)
        };
        match (first(ListKind::Closed), first(ListKind::FreshClosed)) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// A connection whose retention is over.
    pub(crate) fn expired(&self, now_mono: u64) -> Option<u32> {
        [ListKind::Closed, ListKind::FreshClosed]
            .into_iter()
            .find_map(|list| {
                let head = self.lists[list as usize].head;
                (head != NIL && self.slab.get(head).expires_mono <= now_mono).then_some(head)
            })
    }

    /// What to forget when there is no room. Unconfirmed ones go first while they hold an eighth of the
    /// cap: a flood of forged hellos displaces no more than that of what is confirmed, and a new
    /// connection has its chance to be confirmed when all else is full.
    pub(crate) fn victim(&self, bytes_max: usize) -> Option<u32> {
        let fresh = [
            ListKind::FreshClosed,
            ListKind::Fresh,
            ListKind::Closed,
            ListKind::Open,
        ];
        let known = [
            ListKind::FreshClosed,
            ListKind::Closed,
            ListKind::Open,
            ListKind::Fresh,
        ];
        let order = if self.fresh_bytes > bytes_max / 8 {
            fresh
        } else {
            known
        };
        order
            .into_iter()
            .map(|list| self.lists[list as usize].head)
            .find(|head| *head != NIL)
    }

    /// What to forget because too much is on one of the endpoints of this connection: the oldest of
    /// those with the same two endpoints, else the oldest of all on the client's.
    pub(crate) fn surplus(&self, idx: u32) -> Option<u32> {
        let conn = self.slab.get(idx);
        conn.pairs()
            .find_map(|pair| self.surplus_on(conn.transport, pair))
    }

    fn surplus_on(&self, transport: Transport, pair: Pair) -> Option<u32> {
        let age = |idx: u32| (self.slab.get(idx).open_ns, self.slab.get(idx).uid);
        let is_confirmed = |idx: u32| self.slab.get(idx).is_confirmed();
        let all = || self.on_endpoint(transport, pair.client);
        let same = |confirmed: bool| {
            all().filter(move |(idx, server)| *server == pair.server && is_confirmed(*idx) == confirmed)
        };
        all().nth(1)?;
        if same(false).count() > UNCONFIRMED_MAX {
            return same(false).map(|(idx, _)| idx).min_by_key(|idx| age(*idx));
        }
        if same(true).count() > GENERATIONS_MAX {
            return same(true).map(|(idx, _)| idx).min_by_key(|idx| age(*idx));
        }
        if all().count() > ON_ENDPOINT_MAX {
            return all()
                .map(|(idx, _)| idx)
                .min_by_key(|idx| (is_confirmed(*idx), age(*idx)));
        }
        None
    }

    fn release_random(&mut self, idx: u32) {
        let conn = self.slab.get(idx);
        match conn.random_use {
            RandomUse::Absent => {}
            RandomUse::Unique => {
                let hash = self.hasher.hash_one(conn.random);
                self.by_random.remove(hash, |value| value == idx);
            }
            RandomUse::Shared => {
                if let Some(sharers) = self.shared_randoms.get_mut(&conn.random) {
                    *sharers -= 1;
                    if *sharers == 0 {
                        self.shared_randoms.remove(&conn.random);
                    }
                }
            }
        }
    }

    /// Forgets a connection and everything that leads to it.
    pub(crate) fn remove(&mut self, idx: u32) -> Option<Conn<C>> {
        self.leave(idx);
        let n_views = u32::try_from(self.slab.get(idx).n_views()).expect("at most VIEWS_MAX");
        for number in 0..n_views {
            self.unlink_view(idx, number);
        }
        self.release_random(idx);
        let conn = self.slab.get(idx);
        let uid_hash = self.hasher.hash_one(conn.uid);
        self.by_uid.remove(uid_hash, |value| value == idx);
        let conn = self.slab.remove(idx)?;
        for (stream, conn_id) in conn.bindings() {
            self.unbind(stream, conn_id);
        }
        for alias in conn.extra.iter().flat_map(|extra| &extra.aliases) {
            self.aliases.remove(alias);
        }
        Some(conn)
    }
}
