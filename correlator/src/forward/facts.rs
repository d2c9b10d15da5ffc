//! What a node says of itself: its spool, its drops, its link, and the sensor beside it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ja4_common::admin::AdminListen;
use ja4_common::probe;
use serde_json::{Value, json};

use super::open::OpenConnections;
use super::outbox::Outbox;
use super::uplink::LinkState;

/// Longest wait for the sensor.
const PATIENCE: Duration = Duration::from_secs(1);

/// Longest facts; without the sensor's they are shorter.
const MAX_FACTS: usize = 60 << 10;

/// Drops of the sockets, by source and reason.
pub(crate) type Drops = BTreeMap<String, BTreeMap<String, u64>>;

/// Makes facts.
#[derive(Debug, Clone)]
pub(crate) struct FactsMaker {
    pub(crate) node: String,
    pub(crate) sensor: Option<Arc<Sensor>>,
    /// What the sockets have dropped, brought up to date by the reading thread.
    pub(crate) drops: Arc<Mutex<Drops>>,
}

impl FactsMaker {
    /// All of it, as one JSON object.
    pub(crate) fn make(&self, outbox: &Outbox, open: &OpenConnections, link: &LinkState) -> Vec<u8> {
        let backlog = outbox.backlog();
        let totals = outbox.totals();
        let mut drops = self.drops.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for (source, flow) in totals.input.iter().chain(&totals.spool) {
            for (reason, n) in &flow.dropped {
                *drops
                    .entry(source.clone())
                    .or_default()
                    .entry(reason.clone())
                    .or_insert(0) += n;
            }
        }
        let mut facts = json!({
            "node": self.node,
            "version": env!("CARGO_PKG_VERSION"),
            "spool": {
                "segments": backlog.segments,
                "bytes": backlog.bytes,
                "max_bytes": backlog.max_bytes,
                "oldest_age_ms": backlog.oldest_age_ns / 1_000_000,
                "damaged": backlog.damaged,
                "pending": backlog.pending,
            },
            "drops": drops,
            "link": {
                "connects": link.connects,
                "failures": link.failures,
                "bytes_sent": link.bytes_sent,
                "reloads": link.reloads,
            },
            "open_connections": { "held": open.len(), "bytes": open.bytes(), "evicted": open.evicted },
            "sensor": self.sensor.as_ref().map(|sensor| sensor.facts()),
        });
        let bytes = facts.to_string().into_bytes();
        if bytes.len() <= MAX_FACTS {
            return bytes;
        }
        facts["sensor"] = json!({ "too_long": true });
        facts.to_string().into_bytes()
    }
}

/// The sensor's admin endpoint, asked from a thread of its own.
#[derive(Debug)]
pub(crate) struct Sensor {
    admin: AdminListen,
    last: Mutex<Option<(Instant, Value)>>,
}

impl Sensor {
    /// Begins to ask.
    ///
    /// # Errors
    /// If there is no thread.
    pub(crate) fn start(admin: AdminListen, interval: Duration) -> std::io::Result<Arc<Self>> {
        let sensor = Arc::new(Self {
            admin,
            last: Mutex::new(None),
        });
        let asking = Arc::downgrade(&sensor);
        std::thread::Builder::new().name("sensor".into()).spawn(move || {
            while let Some(sensor) = asking.upgrade() {
                if let Some(facts) = sensor.ask() {
                    *sensor.last.lock().unwrap_or_else(PoisonError::into_inner) =
                        Some((Instant::now(), facts));
                }
                drop(sensor);
                std::thread::sleep(interval);
            }
        })?;
        Ok(sensor)
    }

    fn ask(&self) -> Option<Value> {
        let mut ledger: Value = serde_json::from_str(&self.get("/ledger")?).ok()?;
        let metrics = self.get("/metrics")?;
        let interfaces: BTreeMap<&str, bool> = metrics.lines().filter_map(interface).collect();
        ledger["interfaces"] = json!(interfaces);
        Some(ledger)
    }

    /// The sensor's ledger and interfaces with their age; nothing but that it is away if it never answered.
    fn facts(&self) -> Value {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match &*last {
            None => json!({ "answers": false }),
            Some((at, facts)) => {
                let mut facts = facts.clone();
                facts["age_ms"] = json!(u64::try_from(at.elapsed().as_millis()).unwrap_or(u64::MAX));
                facts
            }
        }
    }

    /// The sensor's metrics; nothing if it does not answer.
    pub(crate) fn metrics(&self) -> Option<String> {
        self.get("/metrics")
    }

    fn get(&self, path: &str) -> Option<String> {
        let answer = probe::ask(&self.admin, path, PATIENCE).ok()?;
        (answer.status == 200).then_some(answer.body)
    }
}

/// `sensor_interface_up{interface="eth0"} 1`.
fn interface(line: &str) -> Option<(&str, bool)> {
    let rest = line.strip_prefix("sensor_interface_up{interface=\"")?;
    let (name, value) = rest.split_once("\"} ")?;
    Some((name, value == "1"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_are_found_among_the_metrics() {
        assert_eq!(
            interface("sensor_interface_up{interface=\"eth0\"} 1"),
            Some(("eth0", true))
        );
        assert_eq!(
            interface("sensor_interface_up{interface=\"veth1\"} 0"),
            Some(("veth1", false))
        );
        assert_eq!(interface("sensor_frames_total{outcome=\"tcp\"} 1"), None);
    }
}
