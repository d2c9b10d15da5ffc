//! Connections after their hello: 32 bytes each with the table's own share, so that hundreds of thousands of
//! long connections can be followed to their end.
//!
//! The key is not kept: 56 bits of a keyed hash stand for it. Some two of half a million connections share them
//! with a chance of one in seven hundred thousand, and nobody can aim for it without the seed.

use sensor_wire::tcp::SeqNum;

use crate::event::{Confirmed, ConnId};
use crate::key::{Side, Views};
use crate::numbers::Numbers;

/// Connections looked at to find the one to evict: the oldest of 16 is older than 94 % of all.
const EVICTION_SAMPLE: usize = 16;

/// A followed connection. Bytes without alignment: padding would cost a sixth of the table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tracked {
    /// The upper 56 bits.
    hash: [u8; 7],
    conn: [u8; 6],
    next: [[u8; 4]; 2],
    /// Seconds since the table's first packet, modulo 2^24 (194 days).
    last_seen_s: [u8; 3],
    bits: u8,
    views: [u8; 2],
}

/// Bytes of a connection in its slot.
const SLOT_BYTES: usize = 27;

/// The table keeps a tag of one byte beside each slot and fills seven slots of eight.
const _: () = assert!(
    size_of::<Tracked>() == SLOT_BYTES && (SLOT_BYTES + 1) * 8 <= 32 * 7,
    "the budget counts 32 bytes a connection, all told"
);

/// Bits 0–1: side known; 2–3: FIN seen; 4: client is the high side; 5–6: confirmation.
const KNOWN: u8 = 1;
const FIN: u8 = 1 << 2;
const CLIENT_HIGH: u8 = 1 << 4;
const ACKED: u8 = 1 << 5;
const FOLLOWED: u8 = 1 << 6;

impl Tracked {
    pub(crate) fn new(hash: u64, conn: ConnId, views: Views, client: Side, confirmed: Confirmed) -> Self {
        let [hash @ .., _] = hash.to_be_bytes();
        let [_, _, conn @ ..] = conn.0.to_be_bytes();
        let mut tracked = Self {
            hash,
            conn,
            next: [[0; 4]; 2],
            last_seen_s: [0; 3],
            bits: if client == Side::High { CLIENT_HIGH } else { 0 },
            views: views.to_bytes(),
        };
        tracked.set_confirmed(confirmed);
        tracked
    }

    fn from_bytes(bytes: &[u8; SLOT_BYTES]) -> Self {
        fn part<const N: usize>(bytes: &[u8; SLOT_BYTES], at: usize) -> [u8; N] {
            let mut part = [0; N];
            part.copy_from_slice(&bytes[at..at + N]);
            part
        }
        Self {
            hash: part(bytes, 0),
            conn: part(bytes, 7),
            next: [part(bytes, 13), part(bytes, 17)],
            last_seen_s: part(bytes, 21),
            bits: bytes[24],
            views: part(bytes, 25),
        }
    }

    fn to_bytes(self) -> [u8; SLOT_BYTES] {
        let mut bytes = [0; SLOT_BYTES];
        bytes[..7].copy_from_slice(&self.hash);
        bytes[7..13].copy_from_slice(&self.conn);
        bytes[13..17].copy_from_slice(&self.next[0]);
        bytes[17..21].copy_from_slice(&self.next[1]);
        bytes[21..24].copy_from_slice(&self.last_seen_s);
        bytes[24] = self.bits;
        bytes[25..].copy_from_slice(&self.views);
        bytes
    }

    /// The hash with its lowest byte zero.
    const fn hash(&self) -> u64 {
        let mut bytes = [0; 8];
        let (high, _) = bytes.split_at_mut(7);
        high.copy_from_slice(&self.hash);
        u64::from_be_bytes(bytes)
    }

    /// 48 bits: a million connections a second for nine years.
    pub(crate) const fn conn(&self) -> ConnId {
        let mut bytes = [0; 8];
        let (_, low) = bytes.split_at_mut(2);
        low.copy_from_slice(&self.conn);
        ConnId(u64::from_be_bytes(bytes))
    }

    pub(crate) const fn views(&self) -> Views {
        Views::from_bytes(self.views)
    }

    pub(crate) const fn set_views(&mut self, views: Views) {
        self.views = views.to_bytes();
    }

    pub(crate) const fn client(&self) -> Side {
        if self.bits & CLIENT_HIGH == 0 {
            Side::Low
        } else {
            Side::High
        }
    }

    pub(crate) const fn confirmed(&self) -> Confirmed {
        match (self.bits & FOLLOWED, self.bits & ACKED) {
            (0, 0) => Confirmed::None,
            (0, _) => Confirmed::Acked,
            _ => Confirmed::Followed,
        }
    }

    pub(crate) const fn set_confirmed(&mut self, confirmed: Confirmed) {
        self.bits |= match confirmed {
            Confirmed::None => 0,
            Confirmed::Acked => ACKED,
            Confirmed::Followed => ACKED | FOLLOWED,
        };
    }

    pub(crate) fn numbers(&self) -> Numbers {
        let bit = |base: u8, idx: u8| self.bits & base << idx != 0;
        Numbers {
            next: self.next.map(|number| SeqNum(u32::from_ne_bytes(number))),
            known: [bit(KNOWN, 0), bit(KNOWN, 1)],
            fin: [bit(FIN, 0), bit(FIN, 1)],
        }
    }

    pub(crate) fn set_numbers(&mut self, numbers: &Numbers) {
        self.next = numbers.next.map(|number| number.0.to_ne_bytes());
        self.bits &= !((KNOWN * 3) | (FIN * 3));
        for idx in 0..2 {
            self.bits |= ((u8::from(numbers.known[idx]) * KNOWN) | (u8::from(numbers.fin[idx]) * FIN)) << idx;
        }
    }

    pub(crate) const fn touch(&mut self, now_s: u32) {
        let [_, seconds @ ..] = now_s.to_be_bytes();
        self.last_seen_s = seconds;
    }

    /// Seconds since the last packet. The sweep lets nobody get older than half of what 24 bits hold.
    const fn age_s(&self, now_s: u32) -> u32 {
        let [a, b, c] = self.last_seen_s;
        now_s.wrapping_sub(u32::from_be_bytes([0, a, b, c])) & 0x00ff_ffff
    }
}

/// Place of a connection; good until the next removal or insertion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slot(usize);

/// All followed connections: open addressing with linear probing, and removal that closes the gap.
///
/// A table that marks what was removed must grow or be built anew once marks fill it, and a general one then
/// doubles: twice the budget, for nothing. This one keeps its size whatever comes and goes.
pub(crate) struct TrackedTable {
    /// 0 is free; else the top bit and seven bits of the hash.
    tags: Vec<u8>,
    /// [`SLOT_BYTES`] for each tag. A flat run of zero bytes at first, which the kernel gives only where they
    /// are written; larger elements would all be written at the start.
    slots: Vec<u8>,
    len: usize,
    n_max: usize,
    /// Next slot for eviction and for the sweep.
    hand: usize,
}

impl std::fmt::Debug for TrackedTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TrackedTable")
            .field("len", &self.len)
            .field("n_max", &self.n_max)
            .finish_non_exhaustive()
    }
}

impl TrackedTable {
    /// A table of at most `n_max` connections. Its memory is reserved at once and used as it fills.
    pub(crate) fn new(n_max: usize) -> Self {
        // One slot stays free whatever comes, so that every search ends.
        let n_slots = (n_max.saturating_mul(8) / 7).max(n_max.saturating_add(1));
        Self {
            tags: vec![0; n_slots],
            slots: vec![0; n_slots * SLOT_BYTES],
            len: 0,
            n_max,
            hand: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    #[inline]
    pub(crate) fn find(&self, hash: u64) -> Option<(Slot, Tracked)> {
        let tag = tag_of(hash);
        let mut at = self.home(hash);
        loop {
            match self.tags[at] {
                0 => return None,
                known if known == tag => {
                    let tracked = self.get(at);
                    if tracked.hash() == hash & HASH_MASK {
                        return Some((Slot(at), tracked));
                    }
                }
                _ => {}
            }
            at = self.after(at);
        }
    }

    /// Writes a connection back to its slot.
    #[inline]
    pub(crate) fn put(&mut self, slot: Slot, tracked: &Tracked) {
        self.set(slot.0, tracked);
    }

    pub(crate) fn remove(&mut self, hash: u64) -> Option<Tracked> {
        let (slot, _) = self.find(hash)?;
        Some(self.remove_at(slot.0))
    }

    /// Adds a connection whose hash is not in the table; returns the one that had to go.
    pub(crate) fn insert(&mut self, tracked: &Tracked, now_s: u32) -> Option<Tracked> {
        let evicted = if self.len >= self.n_max {
            self.evict(now_s)
        } else {
            None
        };
        if self.len >= self.n_max {
            return Some(*tracked);
        }
        let hash = tracked.hash();
        let mut at = self.home(hash);
        while self.tags[at] != 0 {
            at = self.after(at);
        }
        self.tags[at] = tag_of(hash);
        self.set(at, tracked);
        self.len += 1;
        evicted
    }

    #[inline]
    fn get(&self, at: usize) -> Tracked {
        Tracked::from_bytes(&self.slots.as_chunks().0[at])
    }

    #[inline]
    fn set(&mut self, at: usize, tracked: &Tracked) {
        self.slots.as_chunks_mut().0[at] = tracked.to_bytes();
    }

    /// Where a search for a hash begins.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the product's upper half is below the number of slots"
    )]
    fn home(&self, hash: u64) -> usize {
        ((u128::from(hash & HASH_MASK) * self.tags.len() as u128) >> 64) as usize
    }

    fn after(&self, at: usize) -> usize {
        if at + 1 == self.tags.len() { 0 } else { at + 1 }
    }

    /// Slots from one to another, going round.
    fn distance(&self, from: usize, to: usize) -> usize {
        if to >= from {
            to - from
        } else {
            to + self.tags.len() - from
        }
    }

    /// Takes a connection out and moves those behind it up, as far as their searches allow.
    fn remove_at(&mut self, at: usize) -> Tracked {
        let gone = self.get(at);
        let (mut hole, mut next) = (at, self.after(at));
        while self.tags[next] != 0 {
            let moved = self.get(next);
            let home = self.home(moved.hash());
            if self.distance(home, next) >= self.distance(hole, next) {
                self.tags[hole] = self.tags[next];
                self.set(hole, &moved);
                hole = next;
            }
            next = self.after(next);
        }
        self.tags[hole] = 0;
        self.len -= 1;
        gone
    }

    /// Removes the least recently seen of a sample, rather one that nothing confirmed: a flood of forged hellos
    /// must not drive out real connections.
    fn evict(&mut self, now_s: u32) -> Option<Tracked> {
        let mut first: Option<(bool, u32, usize)> = None;
        let mut n_seen = 0;
        for _ in 0..self.tags.len() {
            self.hand = self.after(self.hand);
            if self.tags[self.hand] == 0 {
                continue;
            }
            let tracked = self.get(self.hand);
            let is_unsure = tracked.confirmed() == Confirmed::None;
            let candidate = (is_unsure, tracked.age_s(now_s), self.hand);
            first = Some(first.map_or(candidate, |known| known.max(candidate)));
            n_seen += 1;
            if n_seen == EVICTION_SAMPLE {
                break;
            }
        }
        first.map(|(_, _, at)| self.remove_at(at))
    }

    /// Looks at up to `n_slots` and removes one connection that was silent for more than `idle_s`. Takes
    /// what it looked at off `n_slots`; `None` once none are left.
    pub(crate) fn sweep(&mut self, now_s: u32, idle_s: u32, n_slots: &mut usize) -> Option<Tracked> {
        while *n_slots > 0 {
            *n_slots -= 1;
            let at = self.hand;
            if self.tags[at] != 0 && self.get(at).age_s(now_s) > idle_s {
                // The hand stays: the next one may have moved up to this slot.
                return Some(self.remove_at(at));
            }
            self.hand = self.after(at);
        }
        None
    }

    /// Counts all as seen in second 0.
    pub(crate) fn touch_all(&mut self) {
        for at in 0..self.tags.len() {
            if self.tags[at] != 0 {
                let mut tracked = self.get(at);
                tracked.touch(0);
                self.set(at, &tracked);
            }
        }
    }

    /// Slots to look at each second so that the whole table is seen in `seconds`.
    pub(crate) fn sweep_share(&self, seconds: usize) -> usize {
        self.tags.len() / seconds.max(1) + 1
    }
}

/// The bits of a hash that are kept.
const HASH_MASK: u64 = !0xff;

/// Where a search begins is in the upper bits of the hash; this is of the lowest that are kept.
fn tag_of(hash: u64) -> u8 {
    let [.., low, _] = hash.to_be_bytes();
    low | 0x80
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tracked(hash: u64, seen_s: u32) -> Tracked {
        let views = Views::from_bytes([1, 9]);
        let mut tracked = Tracked::new(hash, ConnId(hash >> 16), views, Side::High, Confirmed::Acked);
        tracked.touch(seen_s);
        tracked
    }

    #[test]
    fn all_fields_survive_packing() {
        let mut entry = tracked(7, 1);
        let numbers = Numbers {
            next: [SeqNum(5), SeqNum(u32::MAX)],
            known: [true, false],
            fin: [false, true],
        };
        entry.set_numbers(&numbers);
        assert_eq!(entry.numbers(), numbers);
        assert_eq!(
            (entry.client(), entry.confirmed(), entry.views()),
            (Side::High, Confirmed::Acked, Views::from_bytes([1, 9]))
        );
        entry.set_confirmed(Confirmed::Followed);
        entry.set_numbers(&Numbers::default());
        assert_eq!(
            (entry.numbers(), entry.confirmed()),
            (Numbers::default(), Confirmed::Followed)
        );
    }

    /// A small generator, so that the test needs no dependency: `SplitMix64`.
    fn random(state: &mut u64) -> u64 {
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = *state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    #[test]
    fn prop_the_table_holds_what_a_map_would() {
        let mut state = 1;
        for n_max in [1, 2, 16, 97] {
            let mut table = TrackedTable::new(n_max);
            let mut model = std::collections::BTreeMap::new();
            for step in 0..20_000_u32 {
                // Few distinct upper bits: long runs of occupied slots, also round the end.
                let hash = ((random(&mut state) % 16) << 60) | ((random(&mut state) % 64) << 8);
                match random(&mut state) % 4 {
                    0 => assert_eq!(
                        table.remove(hash).map(|gone| gone.conn().0),
                        model.remove(&hash),
                        "{hash:x}"
                    ),
                    1 if step % 7 == 0 => {
                        let mut n_slots = 40;
                        while let Some(gone) = table.sweep(1, 0, &mut n_slots) {
                            assert_eq!(model.remove(&gone.hash()), Some(gone.conn().0));
                        }
                    }
                    _ if table.find(hash).is_none() => {
                        let mut entry = tracked(hash, step % 2);
                        entry.set_confirmed(Confirmed::Followed);
                        if let Some(gone) = table.insert(&entry, 1) {
                            assert_eq!(model.remove(&gone.hash()), Some(gone.conn().0));
                        }
                        model.insert(hash, entry.conn().0);
                    }
                    _ => {}
                }
                assert_eq!(table.len(), model.len());
                assert!(table.len() <= n_max);
                for (hash, conn) in &model {
                    let (_, found) = table.find(*hash).unwrap();
                    assert_eq!((found.hash(), found.conn().0), (*hash, *conn));
                }
            }
        }
    }

    #[test]
    fn large_numbers_survive_packing_and_seconds_go_round() {
        let conn = ConnId((1 << 48) - 1);
        let views = Views::from_bytes([255, 254]);
        let mut entry = Tracked::new(u64::MAX, conn, views, Side::Low, Confirmed::None);
        assert_eq!(
            (entry.hash(), entry.conn(), entry.views()),
            (HASH_MASK, conn, views)
        );
        entry.touch((1 << 24) - 10);
        assert_eq!(entry.age_s((1 << 24) + 5), 15);
        assert_eq!(entry.age_s((1 << 24) - 10), 0);
    }

    #[test]
    fn a_full_table_lets_an_old_connection_go() {
        let mut table = TrackedTable::new(8);
        for hash in 0..8 {
            assert!(
                table
                    .insert(
                        &tracked(hash << 57 | hash << 8, u32::try_from(hash).unwrap() + 10),
                        20
                    )
                    .is_none()
            );
        }
        let evicted = table.insert(&tracked(99 << 8, 50), 50).unwrap();
        assert_eq!(evicted.age_s(50), 40);
        assert_eq!(table.len(), 8);
        assert!(table.find(99 << 8).is_some());
    }

    #[test]
    fn the_sweep_removes_only_what_is_old() {
        let mut table = TrackedTable::new(64);
        for hash in 0..40_u64 {
            table.insert(&tracked(hash << 8, u32::try_from(hash).unwrap()), 40);
        }
        let mut n_slots = table.sweep_share(1);
        let mut n_removed = 0;
        while let Some(old) = table.sweep(40, 20, &mut n_slots) {
            assert!(old.age_s(40) > 20);
            n_removed += 1;
        }
        assert_eq!((n_removed, table.len()), (20, 20));
    }
}
