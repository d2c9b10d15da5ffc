//! A producer's own counters, every 5 seconds and at stop: they make loss at the tail visible.

use crate::json::Object;
use crate::text::Text;

/// Counters of one producer process. A status takes no sequence number of its own.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Status<'a> {
    /// The number that the next event will have: `next_seq = received + dropped + lost`.
    pub next_seq: u64,
    /// Events that the producer dropped, by reason, since it started.
    pub dropped: Vec<(Text<'a>, u64)>,
    /// The producer is ending: no event follows.
    pub last: bool,
}

impl Status<'_> {
    /// Writes the fields into an open object.
    pub fn write_fields(&self, object: &mut Object<'_>) {
        object.num("next_seq", self.next_seq);
        let mut dropped = Object::open(object.key("dropped"));
        for (reason, n) in &self.dropped {
            dropped.num(&reason.to_str_lossy(), *n);
        }
        dropped.close();
        object.flag("last", self.last);
    }
}
