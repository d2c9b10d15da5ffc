//! The flow table: one frame in, events out.
//!
//! A frame is read down to its TCP segment, which belongs to a connection that is being set up, to a
//! tracked one, or opens a new one (a SYN; without a SYN only a segment that starts a ClientHello). Several
//! connections may share a key while it is undecided which is real: a SYN on the addresses of a live
//! connection is a candidate beside it until the three-way handshake is complete.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use ahash::RandomState;
use sensor_wire::fingerprint::{Carrier, Fingerprints};
use sensor_wire::ip::{self, IpPacket};
use sensor_wire::link::{self, VlanTags};
use sensor_wire::registry::{ExtensionType, IpProtocol, LinkType};
use sensor_wire::tcp::{self, SeqNum, SynOptions, TcpFlags, TcpSegment};
use sensor_wire::tls::{ClientHello, HelloScanner, NotHello, RECORD_HEADER_BYTES, Scan, collect_message};

use crate::assembly::Assembly;
use crate::connection::{Flow, Handshake, Reported, Search};
use crate::counters::{Counters, FrameDrop, Loss};
use crate::event::{
    CloseReason, Confirmed, ConnFacts, ConnId, Endpoint, FlowEvent, FlowFlags, HelloEvent, HelloFacts, Pair,
    SynFacts, TimeNs,
};
use crate::key::{FlowKey, Side, Views, encap_of};
use crate::numbers::{Numbers, WINDOW_BYTES};
use crate::settings::{FlowSettings, Seed};
use crate::store::{Class, FlowIdx, FlowStore, Links};
use crate::tracked::{Slot, Tracked, TrackedTable};

/// Most undecided connections on one key: the live one, a reuse of its port, and room for a forged SYN.
const GENERATIONS_MAX: usize = 4;

/// Most connections let go in one call of [`FlowTable::handle_timeout`], so that packets are not kept
/// waiting: the next deadline is then already over.
const EXPIRED_PER_CALL_MAX: usize = 256;

/// The table of tracked connections is seen once in this many seconds.
const SWEEP_ROUND_S: usize = 256;

const SECOND_NS: TimeNs = 1_000_000_000;

/// Times closer to the clock than this are packets out of order, as of several capture queues.
const STEP_BACK_NS: TimeNs = 60 * SECOND_NS;

/// So many calls in a row must lie far behind the clock to show that it was set back: one damaged time
/// stamp in a file must not, and the walk over all connections is paid for by as many packets.
const STEP_BACK_CALLS: u32 = 1024;

/// One captured frame.
#[derive(Debug, Clone, Copy)]
pub struct Frame<'a> {
    /// What the frame starts with.
    pub link: LinkType,
    /// Number of the interface that captured it.
    pub interface: u16,
    /// Number of the frame in its capture, from 1.
    pub number: u64,
    /// The bytes that were captured.
    pub bytes: &'a [u8],
}

/// When and where a segment was captured.
#[derive(Debug, Clone, Copy)]
struct Cause {
    now: TimeNs,
    interface: u16,
    frame: u64,
}

/// A whole hello among the bytes of a stream.
struct Found<'a> {
    /// The handshake message, taken out of its records.
    message: &'a [u8],
    /// Bytes of those records, up to the message's end.
    record_bytes: usize,
    /// Bytes of the stream up to there.
    stream_bytes: usize,
    /// Who a PROXY header says the client is.
    proxy_client: Option<SocketAddr>,
    /// Bytes behind it that are known without a gap.
    rest: &'a [u8],
}

/// A segment with its addresses.
#[derive(Debug, Clone, Copy)]
struct Arrival<'a> {
    cause: Cause,
    hash: u64,
    key: FlowKey,
    side: Side,
    ttl: u8,
    segment: TcpSegment<'a>,
}

/// Which connection a segment belongs to.
#[derive(Debug, Clone, Copy)]
enum Owner {
    Opening(FlowIdx),
    Tracked(Slot, Tracked),
}

impl Arrival<'_> {
    const fn flags(&self) -> TcpFlags {
        self.segment.flags
    }
}

/// Groups frames into connections. See the crate's documentation.
#[derive(Debug)]
pub struct FlowTable {
    settings: FlowSettings,
    hasher: RandomState,
    opening: FlowStore,
    tracked: TrackedTable,
    reassembly_bytes: usize,
    events: VecDeque<FlowEvent>,
    counters: Counters,
    /// Time of what is handed in now; events carry it.
    now: TimeNs,
    /// Latest time so far; timers follow it, so that packets out of order in time stop nothing.
    clock: TimeNs,
    /// Calls in a row whose time lay far behind the clock.
    n_behind: u32,
    started_at: Option<TimeNs>,
    next_sweep: TimeNs,
    /// Buckets of tracked connections that are still to be looked at in this second.
    sweep_left: usize,
    next_conn: u64,
}

impl FlowTable {
    /// An empty table.
    pub fn new(settings: FlowSettings, seed: Seed) -> Self {
        let [k0, k1, k2, k3] = seed.0;
        Self {
            hasher: RandomState::with_seeds(k0, k1, k2, k3),
            opening: FlowStore::new(settings.n_opening_max),
            tracked: TrackedTable::new(settings.n_tracked_max),
            settings,
            reassembly_bytes: 0,
            events: VecDeque::new(),
            counters: Counters::default(),
            now: TimeNs::MIN,
            clock: TimeNs::MIN,
            n_behind: 0,
            started_at: None,
            next_sweep: TimeNs::MAX,
            sweep_left: 0,
            next_conn: 0,
        }
    }

    /// What became of frames and connections so far.
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Connections that are being set up.
    pub fn n_opening(&self) -> usize {
        self.opening.len()
    }

    /// Connections followed after their hello.
    pub fn n_tracked(&self) -> usize {
        self.tracked.len()
    }

    /// Connections that are being set up and have not been reported.
    pub fn n_unreported(&self) -> usize {
        self.opening.iter().filter(|flow| flow.reported.is_none()).count()
    }

    /// Bytes held for parts of hellos.
    pub const fn reassembly_bytes(&self) -> usize {
        self.reassembly_bytes
    }

    /// The next event, oldest first. Take all of them after each call that hands something in.
    #[inline]
    pub fn poll_event(&mut self) -> Option<FlowEvent> {
        self.events.pop_front()
    }

    /// Takes in a frame captured at `now`.
    pub fn handle_packet(&mut self, now: TimeNs, frame: &Frame<'_>) {
        self.advance_clock(now);
        self.counters.frames += 1;
        self.counters.frame_bytes += frame.bytes.len() as u64;
        match self.read(now, frame) {
            Ok(arrival) => self.route(&arrival),
            Err(reason) => self.counters.drop_frame(reason),
        }
    }

    /// When [`Self::handle_timeout`] has something to do; `None` while the table is empty.
    pub fn next_deadline(&self) -> Option<TimeNs> {
        let opening = Class::ALL.into_iter().filter_map(|class| self.deadline(class));
        let sweep = (self.tracked.len() > 0).then_some(self.next_sweep);
        opening.chain(sweep).min()
    }

    /// Lets go of what has waited too long by `now`.
    pub fn handle_timeout(&mut self, now: TimeNs) {
        self.advance_clock(now);
        let mut n_left = EXPIRED_PER_CALL_MAX;
        for class in Class::ALL {
            let loss = match class {
                Class::Unproven | Class::UnprovenPartial => Loss::HandshakeTimeout,
                Class::Silent | Class::Partial | Class::Settling => Loss::HelloTimeout,
            };
            while n_left > 0
                && self
                    .deadline(class)
                    .is_some_and(|deadline| deadline <= self.clock)
            {
                let Some((idx, _)) = self.opening.oldest(class) else {
                    break;
                };
                self.let_go(idx, loss);
                n_left -= 1;
            }
        }
        self.sweep(n_left);
    }

    fn sweep(&mut self, mut n_left: usize) {
        if self.clock < self.next_sweep {
            return;
        }
        if self.sweep_left == 0 {
            self.sweep_left = self.tracked.sweep_share(SWEEP_ROUND_S);
        }
        let idle_s = u32::try_from(self.settings.idle_timeout.as_secs()).unwrap_or(u32::MAX);
        let idle_s = idle_s.min(FlowSettings::IDLE_TIMEOUT_MAX_S);
        let now_s = self.now_s();
        while n_left > 0 {
            let Some(old) = self.tracked.sweep(now_s, idle_s, &mut self.sweep_left) else {
                break;
            };
            self.close_tracked(&old, None, CloseReason::Idle);
            n_left -= 1;
        }
        if self.sweep_left == 0 {
            self.next_sweep = self.clock.saturating_add(SECOND_NS);
        }
    }

    fn advance_clock(&mut self, now: TimeNs) {
        if self.started_at.is_none() {
            self.started_at = Some(now);
            self.next_sweep = now.saturating_add(SECOND_NS);
        }
        self.now = now;
        if now >= self.clock.saturating_sub(STEP_BACK_NS) {
            self.n_behind = 0;
            self.clock = self.clock.max(now);
            return;
        }
        self.n_behind += 1;
        if self.n_behind >= STEP_BACK_CALLS {
            self.step_back(now);
        }
    }

    /// The clock was set back for good: without this no timer would run until it has caught up. All waits
    /// begin anew.
    fn step_back(&mut self, now: TimeNs) {
        self.n_behind = 0;
        self.clock = now;
        self.started_at = Some(now);
        self.next_sweep = now.saturating_add(SECOND_NS);
        self.opening.restart_waits(now);
        self.tracked.touch_all();
    }

    fn now_s(&self) -> u32 {
        let since = self.clock.saturating_sub(self.started_at.unwrap_or(self.clock));
        u32::try_from(since / SECOND_NS).unwrap_or(u32::MAX)
    }

    fn deadline(&self, class: Class) -> Option<TimeNs> {
        let wait = match class {
            Class::Unproven | Class::UnprovenPartial => self.settings.handshake_timeout,
            Class::Silent | Class::Partial => self.settings.hello_timeout,
            Class::Settling => self.settings.settle_timeout,
        };
        self.opening
            .oldest(class)
            .map(|(_, since)| since.saturating_add(as_ns(wait)))
    }

    // ---- from a frame to its connection ----

    #[inline]
    fn read<'a>(&mut self, now: TimeNs, frame: &Frame<'a>) -> Result<Arrival<'a>, FrameDrop> {
        let link_frame = link::parse_link(frame.link, frame.bytes)?;
        let packet: IpPacket<'a> = ip::parse_ip(link_frame.ethertype, link_frame.payload)?;
        if packet.is_fragment {
            return Err(FrameDrop::IpFragment);
        }
        if packet.protocol != IpProtocol::TCP {
            return Err(FrameDrop::NotTcp);
        }
        let segment = tcp::parse_tcp(packet.payload, packet.cut_bytes)?;
        self.counters.frames_cut += u64::from(packet.cut_bytes > 0);
        let vlan = if self.settings.key_on_vlan {
            link_frame.vlan
        } else {
            VlanTags::default()
        };
        let src = Endpoint {
            ip: packet.src,
            port: segment.src_port,
        };
        let dst = Endpoint {
            ip: packet.dst,
            port: segment.dst_port,
        };
        let (key, side) = FlowKey::of(src, dst, vlan);
        let hash = self.hasher.hash_one(key);
        let cause = Cause {
            now,
            interface: frame.interface,
            frame: frame.number,
        };
        Ok(Arrival {
            cause,
            hash,
            key,
            side,
            ttl: packet.ttl,
            segment,
        })
    }

    #[inline]
    fn route(&mut self, arrival: &Arrival<'_>) {
        let newest = self.opening.find(arrival.hash, &arrival.key);
        let tracked = self.tracked.find(arrival.hash);
        let flags = arrival.flags();
        if flags.has(TcpFlags::SYN) && !flags.has(TcpFlags::RST) {
            if flags.has(TcpFlags::ACK) {
                self.on_syn_ack(arrival, newest);
            } else {
                self.on_syn(arrival, newest, tracked.map(|(_, tracked)| tracked));
            }
            return;
        }
        if let Some(owner) = self.owner(arrival, newest, tracked) {
            let views = match &owner {
                Owner::Opening(idx) => self.opening.get(*idx).views,
                Owner::Tracked(_, tracked) => tracked.views(),
            };
            if !views.admits(arrival.side, arrival.cause.interface) {
                self.counters.drop_frame(FrameDrop::OtherView);
                return;
            }
            self.counters.frames_tracked += 1;
            match owner {
                Owner::Opening(idx) => {
                    let interface = arrival.cause.interface;
                    self.opening.get_mut(idx).views.see(arrival.side, interface);
                    self.on_segment(arrival, idx);
                }
                Owner::Tracked(slot, tracked) => self.on_tracked(arrival, slot, tracked),
            }
        } else if starts_hello(arrival.segment.payload) && !flags.has(TcpFlags::RST) {
            self.counters.frames_tracked += 1;
            let idx = self.open_midstream(arrival);
            self.on_segment(arrival, idx);
        } else {
            self.counters.frames_untracked += 1;
        }
    }

    /// Which of the connections on a key the segment belongs to: rather one that it continues exactly than
    /// one that it may belong to, and rather a proven one than one that may be forged.
    #[inline]
    fn owner(
        &self,
        arrival: &Arrival<'_>,
        newest: Option<FlowIdx>,
        tracked: Option<(Slot, Tracked)>,
    ) -> Option<Owner> {
        let rank = |numbers: &Numbers, is_proven: bool| {
            let fits = numbers.fits(arrival.side, &arrival.segment);
            fits.then(|| (numbers.continues(arrival.side, &arrival.segment), is_proven))
        };
        let tracked = tracked.and_then(|(slot, tracked)| {
            let rank = rank(&tracked.numbers(), tracked.confirmed() > Confirmed::None)?;
            Some((rank, Owner::Tracked(slot, tracked)))
        });
        let mut best = tracked;
        for idx in newest.into_iter().flat_map(|newest| self.opening.chain(newest)) {
            let flow = self.opening.get(idx);
            if let Some(rank) = rank(&flow.numbers, flow.is_proven())
                && best.is_none_or(|(known, _)| rank > known)
            {
                best = Some((rank, Owner::Opening(idx)));
            }
        }
        best.map(|(_, owner)| owner)
    }

    // ---- opening ----

    fn on_syn(&mut self, arrival: &Arrival<'_>, newest: Option<FlowIdx>, tracked: Option<Tracked>) {
        if tracked.is_some_and(|tracked| is_past_of(arrival, &tracked)) {
            self.counters.drop_frame(FrameDrop::OtherView);
            return;
        }
        let repeated = newest.and_then(|newest| {
            self.opening.chain(newest).find(|&idx| {
                let flow = self.opening.get(idx);
                flow.handshake.opener() == Some(arrival.side) && flow.isn == arrival.segment.seq
            })
        });
        if repeated.is_some_and(|idx| self.is_other_view(arrival, idx)) {
            self.counters.drop_frame(FrameDrop::OtherView);
            return;
        }
        self.counters.frames_tracked += 1;
        let idx = match repeated {
            Some(idx) => idx,
            None => self.open_by_syn(arrival, newest),
        };
        // TCP Fast Open (RFC 7413): a SYN may carry the hello.
        if !arrival.segment.payload.is_empty() {
            self.on_data(arrival, idx);
        }
    }

    /// True if the segments of this side are taken on another interface.
    fn is_other_view(&self, arrival: &Arrival<'_>, idx: FlowIdx) -> bool {
        let views = self.opening.get(idx).views;
        !views.admits(arrival.side, arrival.cause.interface)
    }

    fn open_by_syn(&mut self, arrival: &Arrival<'_>, newest: Option<FlowIdx>) -> FlowIdx {
        self.counters.syns += 1;
        self.counters.opened += 1;
        self.limit_generations(newest);
        let first = arrival.segment.seq.add(1);
        let mut numbers = Numbers::default();
        numbers.learn(arrival.side, first);
        let mut flow = self.new_flow(arrival, Handshake::Syn { opener: arrival.side }, numbers);
        flow.isn = arrival.segment.seq;
        flow.search[arrival.side.idx()] = Some(Box::new(Search::at(first)));
        flow.syn = Some(SynFacts {
            ttl: arrival.ttl,
            window: arrival.segment.window,
            options: SynOptions::parse(arrival.segment.options),
        });
        self.opening.insert(flow)
    }

    fn open_midstream(&mut self, arrival: &Arrival<'_>) -> FlowIdx {
        self.counters.opened += 1;
        self.limit_generations(self.opening.find(arrival.hash, &arrival.key));
        let mut flow = self.new_flow(arrival, Handshake::Midstream, Numbers::default());
        flow.search[arrival.side.idx()] = Some(Box::new(Search::at(arrival.segment.seq)));
        flow.flags.insert(FlowFlags::MIDSTREAM);
        self.opening.insert(flow)
    }

    /// A connection without anything known. Makes room for it first.
    fn new_flow(&mut self, arrival: &Arrival<'_>, handshake: Handshake, numbers: Numbers) -> Flow {
        if self.opening.is_full() {
            let class = Class::EVICTION_ORDER
                .into_iter()
                .find(|&class| self.opening.oldest(class).is_some());
            let oldest = class.and_then(|class| self.opening.oldest(class));
            let (idx, _) = oldest.expect("a full store has an oldest connection");
            self.let_go(idx, Loss::OpeningEvicted);
        }
        let mut views = Views::default();
        views.see(arrival.side, arrival.cause.interface);
        Flow {
            hash: arrival.hash,
            key: arrival.key,
            links: Links::new(Class::Unproven, self.clock),
            older: None,
            interface: arrival.cause.interface,
            views,
            handshake,
            numbers,
            isn: SeqNum(0),
            open_at: arrival.cause.now,
            syn: None,
            search: [None, None],
            flags: FlowFlags::default(),
            reported: None,
        }
    }

    /// Lets the oldest unproven connection of a key go when there are too many.
    fn limit_generations(&mut self, newest: Option<FlowIdx>) {
        let Some(newest) = newest else { return };
        if self.opening.chain(newest).count() < GENERATIONS_MAX {
            return;
        }
        let oldest = self
            .opening
            .chain(newest)
            .filter(|&idx| !self.opening.get(idx).is_proven())
            .last();
        if let Some(idx) = oldest.or_else(|| self.opening.chain(newest).last()) {
            self.let_go(idx, Loss::OpeningEvicted);
        }
    }

    fn on_syn_ack(&mut self, arrival: &Arrival<'_>, newest: Option<FlowIdx>) {
        let answered = newest.and_then(|newest| {
            self.opening.chain(newest).find(|&idx| {
                let flow = self.opening.get(idx);
                flow.handshake
                    == Handshake::Syn {
                        opener: arrival.side.other(),
                    }
                    && arrival.segment.ack.since(flow.isn.add(1)) >= 0
                    && arrival
                        .segment
                        .ack
                        .since(flow.numbers.next[arrival.side.other().idx()])
                        <= 0
            })
        });
        let Some(idx) = answered else {
            if newest.is_some_and(|idx| self.is_other_view(arrival, idx)) {
                self.counters.drop_frame(FrameDrop::OtherView);
            } else {
                self.counters.frames_untracked += 1;
            }
            return;
        };
        self.counters.frames_tracked += 1;
        let first = arrival.segment.seq.add(1);
        let flow = self.opening.get_mut(idx);
        flow.views.see(arrival.side, arrival.cause.interface);
        flow.handshake = Handshake::SynAck {
            opener: arrival.side.other(),
        };
        flow.numbers.learn(arrival.side, first);
        // The side that answered may still be the TLS client, as in active FTP.
        if flow.reported.is_none() {
            flow.search[arrival.side.idx()] = Some(Box::new(Search::at(first)));
        }
    }

    // ---- a segment of a connection that is being set up ----

    fn on_segment(&mut self, arrival: &Arrival<'_>, idx: FlowIdx) {
        if arrival.flags().has(TcpFlags::RST) {
            self.on_reset(arrival, idx);
            return;
        }
        self.finish_handshake(arrival, idx);
        let flow = self.opening.get_mut(idx);
        let is_plausible = flow.numbers.acks_recently(arrival.side, &arrival.segment);
        let observed = flow.numbers.observe(arrival.side, &arrival.segment);
        let is_over = flow.numbers.fin == [true, true];
        self.confirm(arrival, idx, observed.exact);
        if !arrival.segment.payload.is_empty() {
            // Who is off the path can guess a number near the start of the hello, not that and one near
            // the server's: its bytes must not become part of the hello.
            if !is_plausible {
                self.counters.lose(Loss::ForeignData);
            } else if !self.on_data(arrival, idx) {
                return;
            }
        }
        if is_over {
            self.close_opening(idx, arrival, CloseReason::Fin);
        } else {
            self.track_if_settled(idx);
        }
    }

    fn on_reset(&mut self, arrival: &Arrival<'_>, idx: FlowIdx) {
        let flow = self.opening.get(idx);
        let refuses_syn = flow.handshake
            == Handshake::Syn {
                opener: arrival.side.other(),
            }
            && arrival.flags().has(TcpFlags::ACK)
            && Some(arrival.segment.ack) == flow.numbers.expected(arrival.side.other());
        if refuses_syn || flow.numbers.is_valid_reset(arrival.side, &arrival.segment) {
            self.close_opening(idx, arrival, CloseReason::Rst);
        } else {
            self.counters.lose(Loss::RstIgnored);
        }
    }

    /// The opener's answer to the SYN-ACK proves that it receives what is sent to its address.
    fn finish_handshake(&mut self, arrival: &Arrival<'_>, idx: FlowIdx) {
        let flow = self.opening.get_mut(idx);
        let Handshake::SynAck { opener } = flow.handshake else {
            return;
        };
        let answers = arrival.side == opener
            && arrival.flags().has(TcpFlags::ACK)
            && flow.numbers.expected(opener.other()) == Some(arrival.segment.ack)
            && arrival.segment.seq.since(flow.isn.add(1)) >= 0;
        if !answers {
            return;
        }
        flow.handshake = Handshake::Established { opener };
        self.classify(idx);
        self.supersede(arrival, idx);
    }

    /// A proven connection ends all others on its key.
    fn supersede(&mut self, arrival: &Arrival<'_>, idx: FlowIdx) {
        let newest = self
            .opening
            .find(arrival.hash, &arrival.key)
            .expect("the connection itself is there");
        let rivals: Vec<FlowIdx> = self.opening.chain(newest).filter(|&other| other != idx).collect();
        for rival in rivals {
            let flow = self.remove(rival);
            match flow.reported {
                Some(reported) => self.close(&reported, Some(flow.key), CloseReason::Replaced),
                None => self.counters.lose(Loss::Superseded),
            }
        }
        if let Some(old) = self.tracked.remove(arrival.hash) {
            self.close_tracked(&old, Some(arrival.key), CloseReason::Replaced);
        }
    }

    fn confirm(&mut self, arrival: &Arrival<'_>, idx: FlowIdx, is_exact: bool) {
        let flow = self.opening.get_mut(idx);
        let Some(reported) = &mut flow.reported else {
            return;
        };
        let before = reported.confirmed;
        if arrival.side == reported.client {
            let continues = is_exact && !arrival.segment.payload.is_empty();
            if continues && before == Confirmed::Acked && arrival.segment.seq.since(reported.end) >= 0 {
                reported.confirmed = Confirmed::Followed;
            }
        } else if before == Confirmed::None && arrival.flags().has(TcpFlags::ACK) {
            let sent = flow.numbers.next[reported.client.idx()];
            let ack = arrival.segment.ack;
            if ack.since(reported.end) >= 0 && ack.since(sent) <= 0 {
                reported.confirmed = Confirmed::Acked;
            }
        }
        if reported.confirmed > before {
            let (conn, confirmed) = (reported.conn, reported.confirmed);
            let was_midstream = flow.handshake == Handshake::Midstream;
            self.events.push_back(FlowEvent::Confirm {
                at: arrival.cause.now,
                conn,
                confirmed,
            });
            if was_midstream && before == Confirmed::None {
                self.supersede(arrival, idx);
            }
        }
    }

    // ---- looking for the hello ----

    /// Takes in payload; false if the connection is gone.
    fn on_data(&mut self, arrival: &Arrival<'_>, idx: FlowIdx) -> bool {
        if self.is_plain(arrival, idx) {
            if self.is_left_out(arrival, idx) {
                self.let_go(idx, Loss::Egress);
                return false;
            }
            self.report_open(arrival, idx);
            return true;
        }
        let flow = self.opening.get_mut(idx);
        let Some(search) = &mut flow.search[arrival.side.idx()] else {
            return true;
        };
        let start = arrival
            .segment
            .seq
            .add(u32::from(arrival.flags().has(TcpFlags::SYN)));
        let ahead = start.since(search.base);
        let n_before = usize::try_from(ahead.saturating_neg()).unwrap_or(0);
        let Some(payload) = arrival
            .segment
            .payload
            .get(n_before..)
            .filter(|payload| !payload.is_empty())
        else {
            if flow.reported.is_none() {
                flow.flags.insert(FlowFlags::RETRANSMITTED);
            }
            return true;
        };
        let offset = usize::try_from(ahead).unwrap_or(0);
        if offset == 0 && search.assembly.is_none() {
            match search.scanner.advance(payload) {
                Scan::NeedMore => {}
                Scan::NotHello(reason) => return self.give_up(arrival, idx, loss_of(reason)),
                Scan::Complete {
                    preamble_bytes,
                    message_bytes,
                    stream_bytes,
                } => {
                    let found = Found {
                        message: &collect_message(&payload[preamble_bytes..], message_bytes),
                        record_bytes: stream_bytes - preamble_bytes,
                        stream_bytes,
                        proxy_client: search.scanner.proxy_client(),
                        rest: &payload[stream_bytes..],
                    };
                    return self.on_hello(arrival, idx, &found);
                }
            }
        }
        self.assemble(arrival, idx, offset, payload)
    }

    /// Keeps part of a hello and looks whether it is whole now.
    fn assemble(&mut self, arrival: &Arrival<'_>, idx: FlowIdx, offset: usize, payload: &[u8]) -> bool {
        let flow = self.opening.get_mut(idx);
        let memory_before = flow.memory_bytes();
        let Some(search) = &mut flow.search[arrival.side.idx()] else {
            return true;
        };
        let assembly = search.assembly.get_or_insert_with(Box::default);
        let inserted = assembly.insert(offset, payload);
        flow.flags.insert(inserted.flags);
        if inserted.refused {
            self.counters.lose(Loss::TooManyPieces);
        }
        let scan = search.scanner.advance(assembly.contiguous());
        let proxy_client = search.scanner.proxy_client();
        let assembly = match scan {
            Scan::Complete { .. } => search.assembly.take(),
            _ => None,
        };
        self.reassembly_bytes = self.reassembly_bytes + flow.memory_bytes() - memory_before;
        self.classify(idx);
        match (scan, assembly) {
            (
                Scan::Complete {
                    preamble_bytes,
                    message_bytes,
                    stream_bytes,
                },
                Some(assembly),
            ) => {
                let stream = assembly.contiguous();
                let found = Found {
                    message: &collect_message(&stream[preamble_bytes..], message_bytes),
                    record_bytes: stream_bytes - preamble_bytes,
                    stream_bytes,
                    proxy_client,
                    rest: &stream[stream_bytes..],
                };
                self.on_hello(arrival, idx, &found)
            }
            (Scan::NotHello(reason), _) => self.give_up(arrival, idx, loss_of(reason)),
            _ => self.keep_budget(idx),
        }
    }

    /// Lets the oldest parts of hellos go while they are over budget; false if `idx` was among them.
    fn keep_budget(&mut self, idx: FlowIdx) -> bool {
        let mut is_alive = true;
        while self.reassembly_bytes > self.settings.reassembly_bytes_max {
            let holders = [Class::UnprovenPartial, Class::Partial];
            let Some((oldest, _)) = holders.into_iter().find_map(|class| self.opening.oldest(class)) else {
                break;
            };
            is_alive &= oldest != idx;
            self.let_go(oldest, Loss::ReassemblyEvicted);
        }
        is_alive
    }

    /// This side sends no (further) hello; false if the connection is gone.
    fn give_up(&mut self, arrival: &Arrival<'_>, idx: FlowIdx, loss: Loss) -> bool {
        self.stop_search(idx, arrival.side);
        let flow = self.opening.get(idx);
        if flow.reported.is_some() {
            self.classify(idx);
            return true;
        }
        // The side that accepted the connection may speak first; the opener's hello may still come.
        if flow.is_searching() && flow.handshake.opener() != Some(arrival.side) {
            self.classify(idx);
            return true;
        }
        self.let_go(idx, loss);
        false
    }

    fn stop_search(&mut self, idx: FlowIdx, side: Side) {
        let search = self.opening.get_mut(idx).search[side.idx()].take();
        self.reassembly_bytes -= search.map_or(0, |search| search.memory_bytes());
    }

    /// A whole message; false if the connection is gone.
    fn on_hello(&mut self, arrival: &Arrival<'_>, idx: FlowIdx, found: &Found<'_>) -> bool {
        if self.opening.get(idx).reported.is_none() && self.is_left_out(arrival, idx) {
            self.let_go(idx, Loss::Egress);
            return false;
        }
        let flow = self.opening.get_mut(idx);
        let is_midstream = flow.handshake == Handshake::Midstream;
        let hello = match ClientHello::parse(found.message) {
            // Without a SYN, bytes of any stream may look like the start of a hello: be strict.
            Ok(hello) if !(is_midstream && hello.is_damaged) => hello,
            _ => return self.give_up(arrival, idx, Loss::MalformedHello),
        };
        if hello.is_damaged {
            flow.flags.insert(FlowFlags::DAMAGED);
        }
        if hello.has(ExtensionType::EARLY_DATA) {
            flow.flags.insert(FlowFlags::EARLY_DATA);
        }
        if found.record_bytes > found.message.len() + RECORD_HEADER_BYTES && flow.reported.is_none() {
            flow.flags.insert(FlowFlags::FRAGMENTED_RECORDS);
        }
        let base = flow.search[arrival.side.idx()]
            .as_ref()
            .map_or(SeqNum(0), |search| search.base);
        let end = base.add(u32::try_from(found.stream_bytes).unwrap_or(u32::MAX));
        let n_hellos = flow.reported.map_or(0, |reported| reported.n_hellos);
        let known = flow.reported.map(|reported| (reported.conn, reported.confirmed));
        let (conn, confirmed) = known.unwrap_or((ConnId(self.next_conn), Confirmed::None));
        self.next_conn += u64::from(known.is_none());
        self.counters.reported += u64::from(known.is_none());
        let reported = Reported {
            conn,
            client: arrival.side,
            end,
            confirmed,
            n_hellos: n_hellos + 1,
        };
        self.opening.get_mut(idx).reported = Some(reported);
        self.counters.hellos += 1;
        let event = HelloEvent {
            conn: self.facts(arrival, idx, &reported),
            hello_index: n_hellos,
            frame: arrival.cause.frame,
            hello: hello_facts(&hello),
            proxy_client: found.proxy_client,
        };
        self.events
            .push_back(FlowEvent::Hello(arrival.cause.now, Box::new(event)));
        self.look_for_second(arrival, idx, end, found.rest);
        true
    }

    /// After the first hello: the client may send another one if the server asks (RFC 8446 section 4.1.4).
    fn look_for_second(&mut self, arrival: &Arrival<'_>, idx: FlowIdx, end: SeqNum, rest: &[u8]) {
        self.stop_search(idx, arrival.side);
        self.stop_search(idx, arrival.side.other());
        let flow = self.opening.get_mut(idx);
        if flow.reported.is_some_and(|reported| reported.n_hellos == 1) {
            let mut scanner = HelloScanner::second();
            if !matches!(scanner.advance(rest), Scan::NotHello(_)) {
                let mut search = Search {
                    base: end,
                    scanner: HelloScanner::second(),
                    assembly: None,
                };
                if !rest.is_empty() {
                    let mut assembly = Box::<Assembly>::default();
                    assembly.insert(0, rest);
                    search.assembly = Some(assembly);
                }
                self.reassembly_bytes += search.memory_bytes();
                flow.search[arrival.side.idx()] = Some(Box::new(search));
            }
        }
        self.classify(idx);
    }

    /// True for a connection of our own to somebody else's server, where those are not wanted.
    fn is_left_out(&self, arrival: &Arrival<'_>, idx: FlowIdx) -> bool {
        let own = &self.settings.own;
        !self.settings.egress && {
            let pair = self.opening.get(idx).key.pair(arrival.side);
            own.contains(pair.client.ip) && !own.contains(pair.server.ip)
        }
    }

    // ---- plain HTTP ----

    fn is_plain(&self, arrival: &Arrival<'_>, idx: FlowIdx) -> bool {
        let flow = self.opening.get(idx);
        flow.reported.is_none()
            && flow.handshake.opener() == Some(arrival.side)
            && self.settings.plain_ports.contains(&arrival.segment.dst_port)
    }

    fn report_open(&mut self, arrival: &Arrival<'_>, idx: FlowIdx) {
        self.stop_search(idx, Side::Low);
        self.stop_search(idx, Side::High);
        let reported = Reported {
            conn: ConnId(self.next_conn),
            client: arrival.side,
            end: arrival.segment.end(),
            confirmed: Confirmed::None,
            n_hellos: 0,
        };
        self.next_conn += 1;
        self.counters.reported += 1;
        self.opening.get_mut(idx).reported = Some(reported);
        self.counters.opens += 1;
        let facts = self.facts(arrival, idx, &reported);
        self.events
            .push_back(FlowEvent::Open(arrival.cause.now, Box::new(facts)));
        self.classify(idx);
    }

    fn facts(&self, arrival: &Arrival<'_>, idx: FlowIdx, reported: &Reported) -> ConnFacts {
        let flow = self.opening.get(idx);
        // The SYN's facts are the client's only if the client sent it.
        let is_opener = flow.handshake.opener() == Some(reported.client);
        let elapsed_us = arrival.cause.now.saturating_sub(flow.open_at).max(0) / 1000;
        ConnFacts {
            conn: reported.conn,
            pair: flow.key.pair(reported.client),
            views: Vec::new(),
            encap: encap_of(flow.key.vlan()),
            interface: flow.interface,
            open_at: flow.handshake.opener().map(|_| flow.open_at),
            syn_to_hello_us: is_opener.then(|| u32::try_from(elapsed_us).unwrap_or(u32::MAX)),
            syn: flow.syn.filter(|_| is_opener),
            confirmed: reported.confirmed,
            flags: flow.flags,
        }
    }

    // ---- tracked connections ----

    /// Takes in a segment of a tracked connection.
    fn on_tracked(&mut self, arrival: &Arrival<'_>, slot: Slot, mut tracked: Tracked) {
        let now_s = self.now_s();
        let mut numbers = tracked.numbers();
        if arrival.flags().has(TcpFlags::RST) {
            if numbers.is_valid_reset(arrival.side, &arrival.segment) {
                self.end_tracked(arrival, CloseReason::Rst);
            } else {
                self.counters.lose(Loss::RstIgnored);
            }
            return;
        }
        let observed = numbers.observe(arrival.side, &arrival.segment);
        let before = tracked.confirmed();
        if before != Confirmed::Followed && observed.believed {
            let is_client = arrival.side == tracked.client();
            let acks_all = arrival.flags().has(TcpFlags::ACK)
                && numbers.expected(tracked.client()) == Some(arrival.segment.ack);
            match before {
                Confirmed::None if !is_client && acks_all => tracked.set_confirmed(Confirmed::Acked),
                Confirmed::Acked if is_client && observed.exact && !arrival.segment.payload.is_empty() => {
                    tracked.set_confirmed(Confirmed::Followed);
                }
                _ => {}
            }
        }
        tracked.set_numbers(&numbers);
        if observed.believed {
            tracked.touch(now_s);
            let mut views = tracked.views();
            views.see(arrival.side, arrival.cause.interface);
            tracked.set_views(views);
        }
        self.tracked.put(slot, &tracked);
        let (conn, confirmed) = (tracked.conn(), tracked.confirmed());
        if confirmed > before {
            self.events.push_back(FlowEvent::Confirm {
                at: arrival.cause.now,
                conn,
                confirmed,
            });
        }
        if numbers.fin == [true, true] {
            self.end_tracked(arrival, CloseReason::Fin);
        }
    }

    fn end_tracked(&mut self, arrival: &Arrival<'_>, reason: CloseReason) {
        if let Some(old) = self.tracked.remove(arrival.hash) {
            self.close_tracked(&old, Some(arrival.key), reason);
        }
    }

    fn close_tracked(&mut self, old: &Tracked, key: Option<FlowKey>, reason: CloseReason) {
        if reason == CloseReason::Evicted {
            self.counters.lose(Loss::TrackedEvicted);
        }
        self.counters.closed += 1;
        let pair: Option<Pair> = key.map(|key| key.pair(old.client()));
        let (conn, confirmed) = (old.conn(), old.confirmed());
        self.events.push_back(FlowEvent::Close {
            at: self.now,
            conn,
            pair,
            reason,
            confirmed,
        });
    }

    /// Moves a confirmed connection that can have no further hello to the tracked ones.
    fn track_if_settled(&mut self, idx: FlowIdx) {
        let flow = self.opening.get(idx);
        let is_settled = flow
            .reported
            .is_some_and(|reported| reported.confirmed == Confirmed::Followed);
        if is_settled && !flow.is_searching() {
            let flow = self.remove(idx);
            self.track(&flow);
        }
    }

    fn track(&mut self, flow: &Flow) {
        let Some(reported) = flow.reported else { return };
        let mut tracked = Tracked::new(
            flow.hash,
            reported.conn,
            flow.views,
            reported.client,
            reported.confirmed,
        );
        tracked.set_numbers(&flow.numbers);
        let now_s = self.now_s();
        tracked.touch(now_s);
        if let Some((_, old)) = self.tracked.find(flow.hash) {
            // Two connections on one key, none of which ended the other: the better confirmed one stays.
            if old.confirmed() > reported.confirmed {
                self.close(&reported, None, CloseReason::Evicted);
                return;
            }
            self.tracked.remove(flow.hash);
            self.close_tracked(&old, None, CloseReason::Evicted);
        }
        if let Some(evicted) = self.tracked.insert(&tracked, now_s) {
            self.close_tracked(&evicted, None, CloseReason::Evicted);
        }
    }

    // ---- ends ----

    /// Stops setting a connection up: a reported one is tracked from now on, another is forgotten.
    fn let_go(&mut self, idx: FlowIdx, loss: Loss) {
        let flow = self.remove(idx);
        if flow.reported.is_some() {
            self.track(&flow);
        } else {
            self.counters.lose(loss);
        }
    }

    fn close_opening(&mut self, idx: FlowIdx, arrival: &Arrival<'_>, reason: CloseReason) {
        let flow = self.remove(idx);
        match flow.reported {
            Some(reported) => self.close(&reported, Some(arrival.key), reason),
            None => self.counters.lose(Loss::ClosedBeforeHello),
        }
    }

    fn close(&mut self, reported: &Reported, key: Option<FlowKey>, reason: CloseReason) {
        self.counters.closed += 1;
        let pair = key.map(|key| key.pair(reported.client));
        let (conn, confirmed) = (reported.conn, reported.confirmed);
        self.events.push_back(FlowEvent::Close {
            at: self.now,
            conn,
            pair,
            reason,
            confirmed,
        });
    }

    fn remove(&mut self, idx: FlowIdx) -> Flow {
        let flow = self.opening.remove(idx);
        self.reassembly_bytes -= flow.memory_bytes();
        flow
    }

    /// Puts a connection into the queue that fits its state.
    fn classify(&mut self, idx: FlowIdx) {
        let flow = self.opening.get(idx);
        let holds_bytes = flow.memory_bytes() > 0;
        let class = match (flow.is_proven() || flow.reported.is_some(), holds_bytes) {
            (_, false) if flow.reported.is_some() => Class::Settling,
            (true, true) => Class::Partial,
            (true, false) => Class::Silent,
            (false, true) => Class::UnprovenPartial,
            (false, false) => Class::Unproven,
        };
        self.opening.reclass(idx, class, self.clock);
    }
}

/// True if this SYN is the tracked connection's own, on an interface whose ring is read later: it lies behind what its side has sent
/// since. A new connection on the same addresses has a number ahead of the old one's (RFC 6528).
fn is_past_of(arrival: &Arrival<'_>, tracked: &Tracked) -> bool {
    let behind = tracked
        .numbers()
        .expected(arrival.side)
        .map(|next| next.since(arrival.segment.seq));
    !tracked.views().admits(arrival.side, arrival.cause.interface)
        && behind.is_some_and(|behind| (1..=WINDOW_BYTES).contains(&behind))
}

/// True if a segment could be the start of a ClientHello of a connection whose SYN was not seen. Three
/// bytes are asked for: fewer start too many other things.
#[inline]
fn starts_hello(payload: &[u8]) -> bool {
    payload.len() >= 3
        && payload[0] == 22
        && !matches!(HelloScanner::default().advance(payload), Scan::NotHello(_))
}

fn loss_of(reason: NotHello) -> Loss {
    match reason {
        NotHello::OtherProtocol => Loss::NotTls,
        NotHello::BadRecord => Loss::BadRecord,
        NotHello::TooLong => Loss::HelloTooLong,
    }
}

fn hello_facts(hello: &ClientHello<'_>) -> HelloFacts {
    HelloFacts {
        fingerprints: Fingerprints::of(hello, Carrier::Tcp),
        sni: hello.server_name().map(Box::from),
        alpn: hello.alpn().take(HelloFacts::ALPN_MAX).map(Box::from).collect(),
        version: hello.version(),
        random: hello.random,
        message_bytes: u32::try_from(hello.message_bytes).unwrap_or(u32::MAX),
        ech: hello.has(ExtensionType::ENCRYPTED_CLIENT_HELLO),
        psk: hello.has(ExtensionType::PRE_SHARED_KEY),
        pq: hello.offers_post_quantum(),
    }
}

fn as_ns(duration: Duration) -> TimeNs {
    TimeNs::try_from(duration.as_nanos()).unwrap_or(TimeNs::MAX)
}
