//! Feeds frames to the flow table and keeps its timers running.

use sensor_flow::{FlowEvent, FlowTable, Frame, TimeNs};

/// Timers are looked at once in this many packets: they are seconds long, packets are microseconds apart.
const PACKETS_PER_TIMER_CHECK: u32 = 64;

/// A flow table with its timers.
#[derive(Debug)]
pub(crate) struct Pipeline {
    table: FlowTable,
    until_check: u32,
}

impl Pipeline {
    pub(crate) const fn new(table: FlowTable) -> Self {
        Self {
            table,
            until_check: PACKETS_PER_TIMER_CHECK,
        }
    }

    pub(crate) const fn table(&self) -> &FlowTable {
        &self.table
    }

    /// Takes in one frame.
    #[inline]
    pub(crate) fn feed(&mut self, at: TimeNs, frame: &Frame<'_>) {
        self.table.handle_packet(at, frame);
        self.until_check -= 1;
        if self.until_check == 0 {
            self.until_check = PACKETS_PER_TIMER_CHECK;
            self.run_timers(at);
        }
    }

    /// Lets go of what is over by `now`.
    pub(crate) fn run_timers(&mut self, now: TimeNs) {
        if self.table.next_deadline().is_some_and(|deadline| deadline <= now) {
            self.table.handle_timeout(now);
        }
    }

    /// The next event.
    #[inline]
    pub(crate) fn poll_event(&mut self) -> Option<FlowEvent> {
        self.table.poll_event()
    }
}
