//! Feeds frames to the flow table, merges views where there are several interfaces, and keeps the timers running.

use sensor_flow::{FlowEvent, FlowTable, Frame, MergeCounters, TimeNs, ViewMerger};

/// Timers are looked at once in this many packets: they are seconds long, packets are microseconds apart.
const PACKETS_PER_TIMER_CHECK: u32 = 64;

/// A flow table with its timers, and what merges its events.
#[derive(Debug)]
pub(crate) struct Pipeline {
    table: FlowTable,
    /// None where frames come from one place: nothing is then held back.
    merger: Option<ViewMerger>,
    until_check: u32,
}

impl Pipeline {
    pub(crate) const fn new(table: FlowTable, merger: Option<ViewMerger>) -> Self {
        Self {
            table,
            merger,
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
        if let Some(merger) = &mut self.merger {
            merge(&mut self.table, merger);
            merger.handle_timeout(now);
        }
    }

    /// The next event.
    #[inline]
    pub(crate) fn poll_event(&mut self) -> Option<FlowEvent> {
        match &mut self.merger {
            None => self.table.poll_event(),
            Some(merger) => {
                merge(&mut self.table, merger);
                merger.poll_event()
            }
        }
    }

    /// When a held hello goes out, if one is held.
    pub(crate) fn next_release(&self) -> Option<TimeNs> {
        let merger = self.merger.as_ref().filter(|merger| merger.n_held() > 0)?;
        merger.next_deadline()
    }

    /// Lets out what is held: no more frames come.
    pub(crate) fn flush(&mut self) {
        if let Some(merger) = &mut self.merger {
            merge(&mut self.table, merger);
            merger.flush();
        }
    }

    /// What became of views.
    pub(crate) fn merge_counters(&self) -> MergeCounters {
        self.merger
            .as_ref()
            .map_or_else(MergeCounters::default, |merger| *merger.counters())
    }
}

fn merge(table: &mut FlowTable, merger: &mut ViewMerger) {
    while let Some(event) = table.poll_event() {
        merger.handle_event(event);
    }
}
