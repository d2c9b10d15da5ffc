//! Names and values of the sensor's metrics, and its ledger.

use std::collections::BTreeMap;

use ja4_common::ledger::{Ledger, Stage};
use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};
use sensor_flow::{Counters, FrameDrop, Loss, MergeCounters};

use crate::capture::live::KernelCounts;

/// Frames by what became of them; `outcome` is `tracked`, `untracked` or the reason.
const FRAMES: &str = "sensor_frames_total";
/// Bytes captured.
const FRAME_BYTES: &str = "sensor_frame_bytes_total";
/// Frames that the kernel or the interface dropped before us; `by` is `kernel` or `interface`.
const FRAMES_DROPPED: &str = "sensor_frames_dropped_total";
/// TCP frames whose end was not captured: the snapshot length is too short.
const FRAMES_CUT: &str = "sensor_frames_cut_total";
/// Hellos reported.
const HELLOS: &str = "sensor_hellos_total";
/// Hellos that were a further view of another, by what became of them: `outcome` is `merged`, `late` (merged after the
/// other went out), `refused` (the random of another, but no view of it) or `hurried` (went out early for lack of room).
const VIEWS: &str = "sensor_views_total";
/// Connections and parts of them let go without a report, by `reason`.
const LOSSES: &str = "sensor_connections_lost_total";
/// Events by what became of them; `outcome` is `acked` or the reason for dropping.
const EVENTS: &str = "sensor_events_total";
/// Events not acknowledged yet.
const EVENTS_PENDING: &str = "sensor_events_pending";
/// Connections by how far they came: `step` is `opened`, `reported` or `closed`.
const CONNECTIONS_TOTAL: &str = "sensor_connections_total";
/// Connections by `state`: `opening`, `tracked`.
const CONNECTIONS: &str = "sensor_connections";
/// Memory for parts of hellos.
const REASSEMBLY_BYTES: &str = "sensor_reassembly_bytes";
/// 1 while the interface is captured on, 0 while it is away; by `interface`.
const INTERFACE_UP: &str = "sensor_interface_up";
/// 1 while the receiver listens.
const CONNECTED: &str = "sensor_receiver_connected";

/// Frames that are none of ours; nothing is lost with them.
const NOT_OURS: [FrameDrop; 3] = [FrameDrop::NotIp, FrameDrop::NotTcp, FrameDrop::OtherView];

/// What the capture loop knows at one moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Totals {
    pub(crate) kernel: KernelCounts,
    pub(crate) flow: Counters,
    pub(crate) merge: MergeCounters,
    pub(crate) n_opening: usize,
    pub(crate) n_tracked: usize,
    pub(crate) reassembly_bytes: usize,
    /// What was added to the times of a file.
    pub(crate) offset_ns: Option<i64>,
}

impl Totals {
    /// The stages of this process.
    pub(crate) fn ledger(&self, emitted: &ja4_emit::Counters) -> Ledger {
        let mut frames = Stage::new("sensor.frames");
        frames.received = self.flow.frames + self.kernel.dropped + self.kernel.interface_dropped;
        frames.drop_for("kernel", self.kernel.dropped);
        frames.drop_for("interface", self.kernel.interface_dropped);
        let mut n_unreadable = 0;
        for reason in FrameDrop::ALL.iter().filter(|reason| !NOT_OURS.contains(reason)) {
            n_unreadable += self.flow.dropped(*reason);
            frames.drop_for(reason.name(), self.flow.dropped(*reason));
        }
        frames.passed = self.flow.frames - n_unreadable;
        let mut events = Stage::new("sensor.events");
        events.received = emitted.next_seq;
        events.passed = emitted.acked;
        events.pending = emitted.pending;
        for (reason, n) in &emitted.dropped {
            events.drop_for(reason.name(), *n);
        }
        let mut facts: BTreeMap<String, serde_json::Value> = [
            ("packets".to_owned(), frames.received.into()),
            ("hellos".to_owned(), (self.flow.hellos - self.merge.merged).into()),
        ]
        .into();
        if let Some(offset_ns) = self.offset_ns {
            facts.insert("time_offset_ns".to_owned(), offset_ns.into());
        }
        Ledger {
            stages: vec![frames, events],
            facts,
        }
    }
}

/// The registered metrics.
#[derive(Debug)]
pub(crate) struct Metrics {
    frames: IntCounterVec,
    frame_bytes: IntCounter,
    frames_dropped: IntCounterVec,
    frames_cut: IntCounter,
    hellos: IntCounter,
    views: IntCounterVec,
    losses: IntCounterVec,
    events: IntCounterVec,
    events_pending: IntGauge,
    connections_total: IntCounterVec,
    connections: prometheus::IntGaugeVec,
    reassembly_bytes: IntGauge,
    connected: IntGauge,
    interface_up: prometheus::IntGaugeVec,
}

impl Metrics {
    /// Registers all metrics.
    pub(crate) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let counters = |name: &str, help: &str, label: &str| -> Result<IntCounterVec, prometheus::Error> {
            let counters = IntCounterVec::new(Opts::new(name, help), &[label])?;
            registry.register(Box::new(counters.clone()))?;
            Ok(counters)
        };
        let counter = |name: &str, help: &str| -> Result<IntCounter, prometheus::Error> {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok(counter)
        };
        let gauge = |name: &str, help: &str| -> Result<IntGauge, prometheus::Error> {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok(gauge)
        };
        let connections =
            prometheus::IntGaugeVec::new(Opts::new(CONNECTIONS, "connections held, by state"), &["state"])?;
        registry.register(Box::new(connections.clone()))?;
        let interface_up = prometheus::IntGaugeVec::new(
            Opts::new(INTERFACE_UP, "1 while the interface is captured on"),
            &["interface"],
        )?;
        registry.register(Box::new(interface_up.clone()))?;
        Ok(Self {
            frames: counters(FRAMES, "frames by what became of them", "outcome")?,
            frame_bytes: counter(FRAME_BYTES, "bytes captured")?,
            frames_dropped: counters(FRAMES_DROPPED, "frames dropped before the sensor saw them", "by")?,
            frames_cut: counter(FRAMES_CUT, "TCP frames whose end was not captured")?,
            hellos: counter(HELLOS, "TLS ClientHellos reported")?,
            views: counters(
                VIEWS,
                "hellos that another view of the same connection showed as well",
                "outcome",
            )?,
            losses: counters(LOSSES, "connections let go without a report, by reason", "reason")?,
            events: counters(EVENTS, "events by what became of them", "outcome")?,
            events_pending: gauge(EVENTS_PENDING, "events not acknowledged yet")?,
            connections_total: counters(
                CONNECTIONS_TOTAL,
                "connections for which state was opened, that were reported, whose end was reported",
                "step",
            )?,
            connections,
            reassembly_bytes: gauge(REASSEMBLY_BYTES, "memory for parts of hellos")?,
            connected: gauge(CONNECTED, "1 while the receiver listens")?,
            interface_up,
        })
    }

    /// Whether an interface is captured on.
    pub(crate) fn set_interface(&self, name: &str, is_up: bool) {
        self.interface_up.with_label_values(&[name]).set(i64::from(is_up));
    }

    /// An interface that is gone has no value.
    pub(crate) fn forget_interface(&self, name: &str) {
        let _was_known = self.interface_up.remove_label_values(&[name]);
    }

    /// Brings all metrics up to date.
    pub(crate) fn update(&self, totals: &Totals, emitted: &ja4_emit::Counters) {
        let flow = &totals.flow;
        advance(&self.frames.with_label_values(&["tracked"]), flow.frames_tracked);
        advance(
            &self.frames.with_label_values(&["untracked"]),
            flow.frames_untracked,
        );
        for reason in FrameDrop::ALL {
            advance(
                &self.frames.with_label_values(&[reason.name()]),
                flow.dropped(*reason),
            );
        }
        advance(&self.frame_bytes, flow.frame_bytes);
        advance(
            &self.frames_dropped.with_label_values(&["kernel"]),
            totals.kernel.dropped,
        );
        advance(
            &self.frames_dropped.with_label_values(&["interface"]),
            totals.kernel.interface_dropped,
        );
        advance(&self.frames_cut, flow.frames_cut);
        advance(&self.hellos, flow.hellos);
        for (outcome, total) in [
            ("merged", totals.merge.merged),
            ("late", totals.merge.late),
            ("refused", totals.merge.refused),
            ("hurried", totals.merge.hurried),
        ] {
            advance(&self.views.with_label_values(&[outcome]), total);
        }
        for (step, total) in [
            ("opened", flow.opened),
            ("reported", flow.reported),
            ("closed", flow.closed),
        ] {
            advance(&self.connections_total.with_label_values(&[step]), total);
        }
        for reason in Loss::ALL {
            advance(
                &self.losses.with_label_values(&[reason.name()]),
                flow.lost(*reason),
            );
        }
        advance(&self.events.with_label_values(&["acked"]), emitted.acked);
        for (reason, n) in &emitted.dropped {
            advance(&self.events.with_label_values(&[reason.name()]), *n);
        }
        self.events_pending.set(signed(emitted.pending));
        self.connections
            .with_label_values(&["opening"])
            .set(signed(totals.n_opening as u64));
        self.connections
            .with_label_values(&["tracked"])
            .set(signed(totals.n_tracked as u64));
        self.reassembly_bytes.set(signed(totals.reassembly_bytes as u64));
        self.connected.set(i64::from(emitted.connected));
    }
}

/// Moves a counter on to a total that only grows.
fn advance(counter: &IntCounter, total: u64) {
    counter.inc_by(total.saturating_sub(counter.get()));
}

fn signed(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}
