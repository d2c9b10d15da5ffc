//! Numbered storage in chunks: no copying when it grows, and intrusive lists through its slots.

/// Slots per chunk. A chunk of connections is some 60 KiB: large enough to be rare, small enough not to matter.
const CHUNK: usize = 256;

/// No slot.
pub(crate) const NIL: u32 = u32::MAX;

#[derive(Debug)]
struct Slot<T> {
    /// Counts reuse, so that a stale [`Handle`] finds nothing.
    version: u32,
    /// Neighbours in the list that the slot is in; `next` chains free slots.
    prev: u32,
    next: u32,
    value: Option<T>,
}

/// A slot and the version in which it was meant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Handle {
    pub(crate) idx: u32,
    version: u32,
}

/// Numbered values.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    chunks: Vec<Vec<Slot<T>>>,
    free: u32,
    len: usize,
}

/// First and last slot of a list that runs through a [`Slab`]. A slot is in at most one list.
#[derive(Clone, Copy, Debug)]
pub(crate) struct List {
    pub(crate) head: u32,
    tail: u32,
}

impl List {
    pub(crate) const EMPTY: Self = Self { head: NIL, tail: NIL };

    pub(crate) const fn is_last(self, idx: u32) -> bool {
        self.tail == idx
    }
}

impl<T> Slab<T> {
    /// Bytes of one slot.
    pub(crate) const SLOT_BYTES: usize = size_of::<Slot<T>>();

    pub(crate) const fn new() -> Self {
        Self {
            chunks: Vec::new(),
            free: NIL,
            len: 0,
        }
    }

    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    fn slot(&self, idx: u32) -> &Slot<T> {
        &self.chunks[idx as usize / CHUNK][idx as usize % CHUNK]
    }

    fn slot_mut(&mut self, idx: u32) -> &mut Slot<T> {
        &mut self.chunks[idx as usize / CHUNK][idx as usize % CHUNK]
    }

    /// # Panics
    /// If there are 2^32 values; caps in bytes keep every user of it far below.
    pub(crate) fn insert(&mut self, value: T) -> Handle {
        if self.free == NIL {
            self.grow();
        }
        let idx = self.free;
        let slot = self.slot_mut(idx);
        slot.value = Some(value);
        let (version, next) = (slot.version, slot.next);
        slot.prev = NIL;
        slot.next = NIL;
        self.free = next;
        self.len += 1;
        Handle { idx, version }
    }

    /// Adds a chunk of free slots, lowest number first.
    fn grow(&mut self) {
        let number = |at: usize| u32::try_from(at).expect("caps keep the number of slots below 2^32");
        let base = number(self.chunks.len() * CHUNK);
        let end = number((self.chunks.len() + 1) * CHUNK);
        let next = (base + 1..end).chain([NIL]);
        let chunk = next
            .map(|next| Slot {
                version: 0,
                prev: NIL,
                next,
                value: None,
            })
            .collect();
        self.chunks.push(chunk);
        self.free = base;
    }

    /// Takes the value out. It must not be in a list.
    pub(crate) fn remove(&mut self, idx: u32) -> Option<T> {
        let free = self.free;
        let slot = self.slot_mut(idx);
        let value = slot.value.take()?;
        slot.version = slot.version.wrapping_add(1);
        slot.next = free;
        self.free = idx;
        self.len -= 1;
        Some(value)
    }

    pub(crate) fn handle(&self, idx: u32) -> Handle {
        Handle {
            idx,
            version: self.slot(idx).version,
        }
    }

    /// The slot's number, if the value that the handle was made for is still there.
    pub(crate) fn live(&self, handle: Handle) -> Option<u32> {
        let slot = self.slot(handle.idx);
        (slot.version == handle.version && slot.value.is_some()).then_some(handle.idx)
    }

    /// # Panics
    /// If the slot is empty: numbers are kept only as long as their value.
    pub(crate) fn get(&self, idx: u32) -> &T {
        self.slot(idx)
            .value
            .as_ref()
            .expect("numbers are kept only as long as their value")
    }

    /// # Panics
    /// As [`Slab::get`].
    pub(crate) fn get_mut(&mut self, idx: u32) -> &mut T {
        self.slot_mut(idx)
            .value
            .as_mut()
            .expect("numbers are kept only as long as their value")
    }

    /// Appends a slot that is in no list.
    pub(crate) fn push_back(&mut self, list: &mut List, idx: u32) {
        let tail = list.tail;
        let slot = self.slot_mut(idx);
        slot.prev = tail;
        slot.next = NIL;
        if tail == NIL {
            list.head = idx;
        } else {
            self.slot_mut(tail).next = idx;
        }
        list.tail = idx;
    }

    /// Takes a slot out of the list that it is in.
    pub(crate) fn unlink(&mut self, list: &mut List, idx: u32) {
        let slot = self.slot_mut(idx);
        let (prev, next) = (slot.prev, slot.next);
        slot.prev = NIL;
        slot.next = NIL;
        if prev == NIL {
            list.head = next;
        } else {
            self.slot_mut(prev).next = next;
        }
        if next == NIL {
            list.tail = prev;
        } else {
            self.slot_mut(next).prev = prev;
        }
    }

    /// The slot after `idx` in its list.
    #[cfg(test)]
    fn next(&self, idx: u32) -> u32 {
        self.slot(idx).next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(slab: &Slab<u32>, list: List) -> Vec<u32> {
        let mut found = Vec::new();
        let mut idx = list.head;
        while idx != NIL {
            found.push(*slab.get(idx));
            idx = slab.next(idx);
        }
        found
    }

    #[test]
    fn lists_keep_order_through_removal_at_both_ends_and_in_the_middle() {
        let mut slab = Slab::new();
        let mut list = List::EMPTY;
        let slots: Vec<u32> = (0..1_000).map(|n| slab.insert(n).idx).collect();
        for &idx in &slots {
            slab.push_back(&mut list, idx);
        }
        for n in [0_u32, 500, 999] {
            slab.unlink(&mut list, slots[n as usize]);
            assert_eq!(slab.remove(slots[n as usize]), Some(n));
        }
        let expected: Vec<u32> = (0..1_000).filter(|n| ![0, 500, 999].contains(n)).collect();
        assert_eq!(order(&slab, list), expected);
        assert_eq!(slab.len(), 997);
    }

    #[test]
    fn stale_handle_finds_nothing_after_reuse() {
        let mut slab = Slab::new();
        let old = slab.insert(1);
        assert_eq!(slab.live(old), Some(old.idx));
        slab.remove(old.idx);
        assert_eq!(slab.live(old), None);
        let new = slab.insert(2);
        assert_eq!(new.idx, old.idx);
        assert_eq!(slab.live(old), None);
        assert_eq!(slab.handle(new.idx), new);
    }
}
