//! Connections after their hello: 32 bytes each, so that hundreds of thousands of long connections can be
//! followed to their end.
//!
//! The key is not kept: a keyed 64-bit hash of it stands for it. Two of half a million connections share
//! one with a chance of one in a hundred million, and nobody can aim for it without the seed.

use hashbrown::HashTable;
use sensor_wire::tcp::SeqNum;

use crate::event::{Confirmed, ConnId};
use crate::key::Side;
use crate::numbers::Numbers;

/// Buckets looked at to find the one to evict: the oldest of 16 is older than 94 % of all.
const EVICTION_SAMPLE: usize = 16;

/// A followed connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tracked {
    hash: u64,
    conn: u64,
    next: [u32; 2],
    /// Seconds since the table's first packet.
    last_seen_s: u32,
    interface: u16,
    bits: u16,
}

const _: () = assert!(
    size_of::<Tracked>() == 32,
    "the budget counts 32 bytes a connection"
);

/// Bits 0–1: side known; 2–3: FIN seen; 4: client is the high side; 5–6: confirmation.
const KNOWN: u16 = 1;
const FIN: u16 = 1 << 2;
const CLIENT_HIGH: u16 = 1 << 4;
const ACKED: u16 = 1 << 5;
const FOLLOWED: u16 = 1 << 6;

impl Tracked {
    pub(crate) fn new(hash: u64, conn: ConnId, interface: u16, client: Side, confirmed: Confirmed) -> Self {
        let mut tracked = Self {
            hash,
            conn: conn.0,
            next: [0; 2],
            last_seen_s: 0,
            interface,
            bits: 0,
        };
        if client == Side::High {
            tracked.bits |= CLIENT_HIGH;
        }
        tracked.set_confirmed(confirmed);
        tracked
    }

    pub(crate) const fn conn(&self) -> ConnId {
        ConnId(self.conn)
    }

    pub(crate) const fn interface(&self) -> u16 {
        self.interface
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
        let bit = |base: u16, idx: u16| self.bits & base << idx != 0;
        Numbers {
            next: self.next.map(SeqNum),
            known: [bit(KNOWN, 0), bit(KNOWN, 1)],
            fin: [bit(FIN, 0), bit(FIN, 1)],
        }
    }

    pub(crate) fn set_numbers(&mut self, numbers: &Numbers) {
        self.next = numbers.next.map(|number| number.0);
        self.bits &= !((KNOWN * 3) | (FIN * 3));
        for idx in 0..2 {
            self.bits |=
                ((u16::from(numbers.known[idx]) * KNOWN) | (u16::from(numbers.fin[idx]) * FIN)) << idx;
        }
    }

    pub(crate) const fn touch(&mut self, now_s: u32) {
        self.last_seen_s = now_s;
    }
}

/// All followed connections.
#[derive(Debug)]
pub(crate) struct TrackedTable {
    table: HashTable<Tracked>,
    n_max: usize,
    /// Next bucket for eviction and for the sweep.
    hand: usize,
}

impl TrackedTable {
    /// A table of at most `n_max` connections. Its memory is reserved at once and used as it fills.
    pub(crate) fn new(n_max: usize) -> Self {
        Self {
            table: HashTable::with_capacity(n_max),
            n_max,
            hand: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    #[inline]
    pub(crate) fn find(&mut self, hash: u64) -> Option<&mut Tracked> {
        self.table.find_mut(hash, |tracked| tracked.hash == hash)
    }

    pub(crate) fn remove(&mut self, hash: u64) -> Option<Tracked> {
        let entry = self.table.find_entry(hash, |tracked| tracked.hash == hash).ok()?;
        Some(entry.remove().0)
    }

    /// Adds a connection whose hash is not in the table; returns the one that had to go.
    pub(crate) fn insert(&mut self, tracked: Tracked) -> Option<Tracked> {
        let evicted = if self.table.len() >= self.n_max {
            self.evict()
        } else {
            None
        };
        if self.table.len() < self.n_max {
            self.table
                .insert_unique(tracked.hash, tracked, |tracked| tracked.hash);
        } else {
            return Some(tracked);
        }
        evicted
    }

    /// Removes the least recently seen of a sample of buckets.
    fn evict(&mut self) -> Option<Tracked> {
        let n_buckets = self.table.num_buckets();
        let mut oldest: Option<(u32, usize)> = None;
        let mut n_seen = 0;
        for _ in 0..n_buckets {
            self.hand = (self.hand + 1) % n_buckets;
            let Some(tracked) = self.table.get_bucket(self.hand) else {
                continue;
            };
            let candidate = (tracked.last_seen_s, self.hand);
            oldest = Some(oldest.map_or(candidate, |known| known.min(candidate)));
            n_seen += 1;
            if n_seen == EVICTION_SAMPLE {
                break;
            }
        }
        let (_, bucket) = oldest?;
        Some(self.table.get_bucket_entry(bucket).ok()?.remove().0)
    }

    /// Looks at a share of the table and removes one connection not seen since `before_s`. Returns it
    /// and the number of buckets that the call used up; `None` once `n_buckets` are done.
    pub(crate) fn sweep(&mut self, before_s: u32, n_buckets: &mut usize) -> Option<Tracked> {
        let n_all = self.table.num_buckets().max(1);
        while *n_buckets > 0 {
            *n_buckets -= 1;
            self.hand = (self.hand + 1) % n_all;
            if self
                .table
                .get_bucket(self.hand)
                .is_some_and(|tracked| tracked.last_seen_s < before_s)
            {
                return Some(self.table.get_bucket_entry(self.hand).ok()?.remove().0);
            }
        }
        None
    }

    /// Buckets to look at each second so that the whole table is seen in `seconds`.
    pub(crate) fn sweep_share(&self, seconds: usize) -> usize {
        self.table.num_buckets() / seconds.max(1) + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tracked(hash: u64, seen_s: u32) -> Tracked {
        let mut tracked = Tracked::new(hash, ConnId(hash), 1, Side::High, Confirmed::Acked);
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
            (entry.client(), entry.confirmed(), entry.interface()),
            (Side::High, Confirmed::Acked, 1)
        );
        entry.set_confirmed(Confirmed::Followed);
        entry.set_numbers(&Numbers::default());
        assert_eq!(
            (entry.numbers(), entry.confirmed()),
            (Numbers::default(), Confirmed::Followed)
        );
    }

    #[test]
    fn a_full_table_lets_an_old_connection_go() {
        let mut table = TrackedTable::new(8);
        for hash in 0..8 {
            assert!(
                table
                    .insert(tracked(hash << 57 | hash, u32::try_from(hash).unwrap() + 10))
                    .is_none()
            );
        }
        let evicted = table.insert(tracked(99, 50)).unwrap();
        assert_eq!(evicted.last_seen_s, 10);
        assert_eq!(table.len(), 8);
        assert!(table.find(99).is_some());
    }

    #[test]
    fn the_sweep_removes_only_what_is_old() {
        let mut table = TrackedTable::new(64);
        for hash in 0..40_u64 {
            table.insert(tracked(hash, u32::try_from(hash).unwrap()));
        }
        let mut n_buckets = table.sweep_share(1);
        let mut n_removed = 0;
        while let Some(old) = table.sweep(20, &mut n_buckets) {
            assert!(old.last_seen_s < 20);
            n_removed += 1;
        }
        assert_eq!((n_removed, table.len()), (20, 20));
    }
}
