//! Hash index from keys that live elsewhere to slot numbers: 8 bytes an entry, no key stored twice.
//!
//! The entry keeps 32 bits of the hash, so that growing touches no key and most misses no slot.

use hashbrown::HashTable;

#[derive(Clone, Copy, Debug)]
struct Entry {
    hash: u32,
    value: u32,
}

/// Map from a hash to a number; the caller compares keys.
#[derive(Debug, Default)]
pub(crate) struct Index {
    table: HashTable<Entry>,
}

/// The table takes its tag from the upper and its bucket from the lower bits.
fn spread(hash: u32) -> u64 {
    u64::from(hash) << 32 | u64::from(hash)
}

/// The 32 bits that are kept of a hash.
fn fold(hash: u64) -> u32 {
    let mixed = (hash ^ hash >> 32) & u64::from(u32::MAX);
    u32::try_from(mixed).expect("masked to 32 bits")
}

impl Index {
    /// Bytes that one entry costs on average: 9 at a load between 7/16 and 7/8.
    pub(crate) const ENTRY_BYTES: usize = 14;

    pub(crate) fn find(&self, hash: u64, mut eq: impl FnMut(u32) -> bool) -> Option<u32> {
        let hash = fold(hash);
        self.table
            .find(spread(hash), |e| e.hash == hash && eq(e.value))
            .map(|e| e.value)
    }

    /// Gives the entry of an equal key another number, or adds one.
    pub(crate) fn put(&mut self, hash: u64, value: u32, mut eq: impl FnMut(u32) -> bool) {
        let hash = fold(hash);
        if let Some(entry) = self
            .table
            .find_mut(spread(hash), |e| e.hash == hash && eq(e.value))
        {
            entry.value = value;
        } else {
            self.table
                .insert_unique(spread(hash), Entry { hash, value }, |e| spread(e.hash));
        }
    }

    /// Takes out the entry of an equal key; its number.
    pub(crate) fn remove(&mut self, hash: u64, mut eq: impl FnMut(u32) -> bool) -> Option<u32> {
        let hash = fold(hash);
        let entry = self
            .table
            .find_entry(spread(hash), |e| e.hash == hash && eq(e.value))
            .ok()?;
        Some(entry.remove().0.value)
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_survive_growth_and_removal() {
        let mut index = Index::default();
        let hash = |n: u32| u64::from(n).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        for n in 0..10_000 {
            index.put(hash(n), n, |v| v == n);
        }
        for n in (0..10_000).step_by(2) {
            assert_eq!(index.remove(hash(n), |v| v == n), Some(n));
        }
        for n in 0..10_000 {
            assert_eq!(index.find(hash(n), |v| v == n), (n % 2 == 1).then_some(n));
        }
        assert_eq!(index.len(), 5_000);
    }

    #[test]
    fn equal_hashes_are_told_apart_by_their_keys() {
        let mut index = Index::default();
        index.put(7, 1, |v| v == 1);
        index.put(7, 2, |v| v == 2);
        assert_eq!(index.find(7, |v| v == 2), Some(2));
        assert_eq!(index.remove(7, |v| v == 1), Some(1));
        assert_eq!(index.find(7, |v| v == 1), None);
    }
}
