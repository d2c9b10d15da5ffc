//! Rows of hellos that wait for confirmation or for the same hello from another node.

use crate::slab::{List, NIL, Slab};

/// What a row waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum RowWait {
    /// The highest confirmation.
    Confirm,
    /// The same hello from another node.
    Merge,
}

/// A hello whose row waits.
#[derive(Debug)]
pub(crate) struct Row<C> {
    pub(crate) payload: C,
    pub(crate) conn: u32,
    pub(crate) hello_index: u8,
    pub(crate) repeats: u32,
    /// Bytes that its connection is charged.
    pub(crate) bytes: usize,
    pub(crate) wait: RowWait,
    pub(crate) due_mono: u64,
    /// Next row of the same connection.
    pub(crate) next: u32,
}

/// All waiting rows, in order of their deadlines.
#[derive(Debug)]
pub(crate) struct Rows<C> {
    slab: Slab<Row<C>>,
    lists: [List; 2],
}

impl<C> Rows<C> {
    /// Bytes that a row costs beside its payload.
    pub(crate) const BASE_BYTES: usize = Slab::<Row<C>>::SLOT_BYTES;

    pub(crate) fn new() -> Self {
        Self {
            slab: Slab::new(),
            lists: [List::EMPTY; 2],
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.slab.len()
    }

    pub(crate) fn get(&self, idx: u32) -> &Row<C> {
        self.slab.get(idx)
    }

    pub(crate) fn get_mut(&mut self, idx: u32) -> &mut Row<C> {
        self.slab.get_mut(idx)
    }

    pub(crate) fn insert(&mut self, row: Row<C>) -> u32 {
        let wait = row.wait;
        let idx = self.slab.insert(row).idx;
        self.slab.push_back(&mut self.lists[wait as usize], idx);
        idx
    }

    pub(crate) fn remove(&mut self, idx: u32) -> Option<Row<C>> {
        let wait = self.slab.get(idx).wait;
        self.slab.unlink(&mut self.lists[wait as usize], idx);
        self.slab.remove(idx)
    }

    /// The first of a list.
    pub(crate) fn first(&self, wait: RowWait) -> Option<u32> {
        let head = self.lists[wait as usize].head;
        (head != NIL).then_some(head)
    }
}
