//! Which processes a pipeline has, and the configuration file of each: written here, read and checked by the process.
//!
//! Files are for this user only and name secrets by path. Values not written here are each process's own defaults.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use ja4_common::clickhouse::StoreConfig;
use ja4_schema::Store;
use serde_json::{Value, json};

use super::layout::{Layout, Process, write_private};
use super::supervise::Spec;
use super::yesterday::Yesterday;
use super::{Input, Plan};
use crate::programs::Programs;

/// The engine's first start makes its tables of its own; with a large store it also reads every part's names.
const STORE_READY_WITHIN: Duration = Duration::from_mins(2);
/// Opening sockets and reading a spool takes moments.
const READY_WITHIN: Duration = Duration::from_secs(30);
/// Each process's own drain is shorter than this; what is longer hangs.
const STOP_WITHIN: Duration = Duration::from_secs(30);

/// Writes every configuration and returns what to start, in order.
///
/// # Errors
/// When a binary is missing or a file cannot be written.
pub(crate) fn write(layout: &Layout, programs: &Programs, plan: &Plan) -> anyhow::Result<Vec<Spec>> {
    let mut specs = Vec::new();
    for (process, config) in processes(layout, plan) {
        specs.push(spec(layout, programs, process, &config)?);
    }
    Ok(specs)
}

/// Each process with its configuration, in the order of their start.
fn processes(layout: &Layout, plan: &Plan) -> Vec<(Process, Value)> {
    let input = &plan.input;
    let mut all = vec![
        (Process::Store, store(layout)),
        (Process::Correlator, correlator(layout, input)),
    ];
    if let Some(past) = plan.yesterday.as_ref().filter(|past| !past.is_stored) {
        let capture = json!({ "file": past.pcap, "offset_ns": past.offset_ns, "pace": "unpaced" });
        all.push((
            Process::PastSensor,
            sensor(layout, &capture, &demo_networks(layout)),
        ));
        all.push((Process::PastReplay, replay(layout, &past.http, past.offset_ns)));
    }
    all.push((Process::Detector, detector(layout, plan.cycle)));
    all.push((Process::Dashboard, dashboard(layout, plan)));
    let (capture, own) = match input {
        Input::Demo { .. } => (
            // What the demo's browser says to its proxies is the same hello once more, from the wrong address.
            json!({ "interfaces": ["lo"], "filter": format!("not tcp port {}", layout.demo_proxy_port()) }),
            demo_networks(layout),
        ),
        Input::Interface(interface) => (json!({ "interfaces": [interface] }), Vec::new()),
        Input::Recording { pcap, offset_ns, .. } => (
            json!({ "file": pcap, "offset_ns": offset_ns, "pace": "unpaced" }),
            Vec::new(),
        ),
    };
    all.push((Process::Sensor, sensor(layout, &capture, &own)));
    match input {
        Input::Demo { n_bots, seed } => {
            all.push((Process::Origin, origin(layout)));
            all.push((Process::Clients, clients(layout, *n_bots, *seed)));
        }
        Input::Recording {
            http: Some(http),
            offset_ns,
            ..
        } => all.push((Process::Replay, replay(layout, http, *offset_ns))),
        Input::Interface(_) | Input::Recording { http: None, .. } => {}
    }
    all
}

/// A client of the store that may migrate and read.
///
/// # Errors
/// As [`crate::schema::connect`]; the store must have made its tokens.
pub(crate) fn connect(layout: &Layout) -> anyhow::Result<Store> {
    crate::schema::connect(&store_as(layout, "migrator"), None)
}

/// The store as one class of client sees it.
fn store_as(layout: &Layout, class: &str) -> StoreConfig {
    StoreConfig {
        url: format!("http://{}", layout.store_http()),
        user: class.to_owned(),
        token_file: Some(layout.token(class)),
        ..StoreConfig::default()
    }
}

/// Writes the file of one process and says how to start it.
fn spec(layout: &Layout, programs: &Programs, process: Process, config: &Value) -> anyhow::Result<Spec> {
    let (program, command) = match process {
        Process::Store => ("ja4-clickhouse", "run"),
        Process::Correlator => ("ja4-correlator", "run"),
        Process::Sensor | Process::PastSensor => ("ja4-sensor", "run"),
        Process::Replay | Process::PastReplay => ("ja4-demo", "replay"),
        Process::Detector => ("ja4-detector", "serve"),
        Process::Dashboard => ("ja4-dashboard", "run"),
        Process::Origin => ("ja4-demo", "origin"),
        Process::Clients => ("ja4-demo", "clients"),
    };
    let mut config = config.clone();
    config["process"] = json!({
        "admin": layout.admin(process).to_string(),
        "ledger_file": layout.ledger_file(process.name()),
    });
    let path = layout.config(process.name());
    let text = serde_saphyr::to_string(&config).context("a configuration of plain values has a YAML form")?;
    write_private(
        &path,
        format!("# Written by ja4 up at each start.\n{text}").as_bytes(),
    )?;
    Ok(Spec {
        process,
        program: programs.find(program)?,
        args: [command, "--config"]
            .into_iter()
            .map(OsString::from)
            .chain([path.into_os_string()])
            .collect(),
        admin: layout.admin(process),
        ledger_file: layout.ledger_file(process.name()),
        pid_file: layout.pid_file(process.name()),
        ready_within: if process == Process::Store {
            STORE_READY_WITHIN
        } else {
            READY_WITHIN
        },
        stop_within: STOP_WITHIN,
        may_finish: matches!(process, Process::Replay | Process::PastReplay)
            || !config["capture"]["file"].is_null(),
    })
}

fn store(layout: &Layout) -> Value {
    json!({ "listen": layout.store_http().to_string(), "data": layout.store_data() })
}

fn correlator(layout: &Layout, input: &Input) -> Value {
    let server_side = match input {
        // Site and sensor see the same socket: no address translation stands between them.
        Input::Demo { .. } => "strict",
        Input::Interface(_) | Input::Recording { .. } => "ignore",
    };
    json!({
        "join": { "server_side": server_side },
        "sources": [
            { "path": layout.network_socket(), "kind": "stream", "role": "network" },
            { "path": layout.http_socket(), "kind": "seqpacket", "role": "http" },
            { "path": layout.http_stream(), "kind": "stream", "role": "http" },
        ],
        "redaction": { "key_file": layout.redaction_key() },
        "store": { "connection": store_as(layout, "writer") },
        "spool": { "dir": layout.spool() },
    })
}

fn sensor(layout: &Layout, capture: &Value, own: &[String]) -> Value {
    // On one machine what its own programs fetch is part of the picture.
    json!({ "capture": capture, "networks": { "own": own, "egress": true }, "output": { "socket": layout.network_socket() } })
}

/// The server's address alone is own, so that clients on loopback count as coming from outside.
fn demo_networks(layout: &Layout) -> Vec<String> {
    vec![layout.demo_https().ip().to_string()]
}

fn detector(layout: &Layout, cycle: Duration) -> Value {
    json!({ "store": store_as(layout, "detector"), "interval": format!("{}s", cycle.as_secs()) })
}

fn dashboard(layout: &Layout, plan: &Plan) -> Value {
    let recorded = |past: &Yesterday| json!({ "from": rfc3339(past.span.from_ns), "to": rfc3339(past.span.to_ns), "what": past.span.what });
    let truth_file = matches!(plan.input, Input::Demo { .. }).then(|| layout.truth());
    json!({
        "listen": layout.dashboard_http().to_string(),
        "store": store_as(layout, "dashboard"),
        "data": layout.dashboard_data(),
        "local_admin_link_file": layout.login_link(),
        "detector_url": format!("http://{}", layout.admin(Process::Detector)),
        "recorded": plan.yesterday.as_ref().map(recorded),
        "truth_file": truth_file,
    })
}

fn rfc3339(ns: i64) -> String {
    let since = Duration::from_nanos(u64::try_from(ns).unwrap_or(0));
    humantime::format_rfc3339_seconds(std::time::UNIX_EPOCH + since).to_string()
}

fn origin(layout: &Layout) -> Value {
    json!({
        "listen": layout.demo_https().to_string(),
        "data": layout.site_data(),
        "socket": layout.http_socket(),
        "socket_kind": "seqpacket",
    })
}

fn clients(layout: &Layout, n_bots: Option<u32>, seed: Option<u64>) -> Value {
    json!({
        "server": layout.demo_https().to_string(),
        "bots": n_bots,
        "seed": seed,
        "proxy_port": layout.demo_proxy_port(),
        "truth_file": layout.truth(),
    })
}

fn replay(layout: &Layout, http: &Path, offset_ns: i64) -> Value {
    json!({ "file": http, "offset_ns": offset_ns, "socket": layout.http_stream() })
}
