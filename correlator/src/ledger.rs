//! The correlator's part of the ledger, from its counters.

use std::collections::BTreeMap;

use ja4_common::ledger::{Ledger, Stage};
use serde_json::{Value, json};

use crate::core::Core;
use crate::totals::Flow;
use crate::writer::Writer;

/// All stages and facts as of now. `receiver_drops` is what the sockets dropped, by source and reason.
pub(crate) fn ledger(
    core: &Core,
    writer: &Writer,
    receiver_drops: &ReceiverDrops,
    durability: &str,
) -> Ledger {
    let mut stages = input_stages(core, receiver_drops);
    let (unsealed_requests, unsealed_hellos) = writer.unsealed();
    stages.push(requests_stage(core, unsealed_requests));
    stages.push(connections_stage(core));
    stages.extend(store_stages(core, writer));
    stages.extend(writer.line_stages());
    let totals = &core.totals;
    let mut facts: BTreeMap<String, Value> = BTreeMap::new();
    facts.insert(
        "requests".into(),
        json!(totals.joined.total().saturating_sub(unsealed_requests)),
    );
    facts.insert(
        "hellos".into(),
        json!(totals.hellos.saturating_sub(unsealed_hellos)),
    );
    facts.insert("joined".into(), json!(totals.joined));
    facts.insert("clamped".into(), json!(totals.clamped));
    facts.insert("durability".into(), json!(durability));
    facts.insert("sources".into(), Value::Array(sources(core)));
    let clients = core.clients();
    facts.insert("clients".into(), json!(clients.n));
    facts.insert("clients_are_estimated".into(), json!(clients.is_estimate));
    let memory = core.memory();
    facts.insert("announced".into(), json!(core.announced()));
    facts.insert("connections_held".into(), json!(memory.connections));
    if let Some(outbox) = writer.outbox() {
        let (segments, bytes) = outbox.backlog();
        let damaged = outbox.damaged();
        facts.insert(
            "spool".into(),
            json!({ "segments": segments, "bytes": bytes, "damaged": damaged }),
        );
    }
    Ledger { stages, facts }
}

/// What the sockets dropped before the core saw it: source, reason, count.
pub(crate) type ReceiverDrops = BTreeMap<String, BTreeMap<String, u64>>;

fn input_stages(core: &Core, receiver_drops: &ReceiverDrops) -> Vec<Stage> {
    let mut names: Vec<&String> = core
        .totals
        .input
        .keys()
        .chain(core.arrivals_by_source().keys())
        .collect();
    names.extend(receiver_drops.keys());
    names.sort_unstable();
    names.dedup();
    names
        .into_iter()
        .map(|source| input_stage(core, source, receiver_drops.get(source)))
        .collect()
}

fn input_stage(core: &Core, source: &str, receiver_drops: Option<&BTreeMap<String, u64>>) -> Stage {
    let settled = core.totals.input.get(source).cloned().unwrap_or_default();
    let before = core.before().input.get(source).map_or(0, |flow| flow.passed);
    let arrivals = core.arrivals_by_source().get(source).copied().unwrap_or_default();
    let mut stage = Stage::new(format!("correlator.input.{source}"));
    stage.received = before + arrivals.new + arrivals.duplicates + arrivals.too_far;
    stage.passed = settled.passed.saturating_sub(settled.dropped_total());
    stage.pending = arrivals.new.saturating_sub(settled.passed.saturating_sub(before));
    stage.drop_for("duplicate", arrivals.duplicates);
    stage.drop_for("number_too_far", arrivals.too_far);
    for (reason, n) in &settled.dropped {
        stage.drop_for(reason, *n);
    }
    for (reason, n) in receiver_drops.into_iter().flatten() {
        stage.received += n;
        stage.drop_for(reason, *n);
    }
    stage
}

fn requests_stage(core: &Core, unsealed: u64) -> Stage {
    let flow = &core.counters().requests;
    let before = &core.before().requests;
    let mut stage = Stage::new("correlator.requests");
    stage.received = before.passed + before.dropped_total() + flow.received;
    stage.passed = core.totals.requests.passed.saturating_sub(unsealed);
    stage.pending = flow.pending + unsealed;
    add_drops(&mut stage, &core.totals.requests);
    stage
}

fn connections_stage(core: &Core) -> Stage {
    let flow = &core.counters().connections;
    let before = &core.before().connections;
    let mut stage = Stage::new("correlator.connections");
    stage.received = before.passed + before.dropped_total() + flow.received;
    let totals = core.totals_now();
    stage.passed = totals.connections.passed;
    stage.pending = flow.pending;
    add_drops(&mut stage, &totals.connections);
    stage
}

fn store_stages(core: &Core, writer: &Writer) -> Vec<Stage> {
    let Some(outbox) = writer.outbox() else {
        return Vec::new();
    };
    let tables = outbox.tables();
    let stage = |(table, sealed): (&String, &Flow)| {
        let counts = tables.get(table).cloned().unwrap_or_default();
        let mut stage = Stage::new(format!("store.{table}"));
        stage.received = sealed.passed;
        stage.pending = counts.pending;
        stage.passed = writer.inserted_before(table) + counts.inserted;
        add_drops(&mut stage, sealed);
        for (reason, n) in counts.dropped {
            stage.drop_for(reason, n);
        }
        stage
    };
    core.totals.tables.iter().map(stage).collect()
}

fn add_drops(stage: &mut Stage, flow: &Flow) {
    for (reason, n) in &flow.dropped {
        stage.drop_for(reason, *n);
    }
}

/// Each producer process: `next_seq = received + dropped + lost`, as of its last status.
fn sources(core: &Core) -> Vec<Value> {
    core.settlement()
        .iter()
        .map(|producer| {
            json!({
                "source": producer.key.source.to_str_lossy(),
                "node": producer.key.node.to_str_lossy(),
                "boot": producer.key.boot.to_string(),
                "next_seq": producer.next_seq,
                "received": producer.received(),
                "settled": producer.settled(),
                "dropped": producer.dropped,
                "lost": producer.lost(),
                "duplicates": producer.duplicates,
            })
        })
        .collect()
}
