//! What the hop from a node to the correlator keeps when its parts die: a producer sends at a steady rate and counts, and in the end
//! what it sent is in the store once, or counted as dropped by a reason.

use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, ensure};
use ja4_e2e::pipeline::{self, Authority, Store, count, manifests};
use ja4_e2e::{Case, Need, wait};
use ja4_emit::{EmitConfig, Emitter, SocketKind};
use ja4_model::{Event, Request};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Service;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

/// Events a second.
const RATE: u64 = 2000;
/// How long the correlator is away.
const AWAY: Duration = Duration::from_mins(1);
/// Between two kills of the forwarder, and how many.
const KILL_EVERY: Duration = Duration::from_secs(10);
const KILLS: usize = 6;
/// The node whose forwarder is treated badly; the store and the correlator are on the other.
const NODE: &str = "node1";
const OTHER: &str = "node2";

#[test]
fn what_a_node_took_is_stored_once_whatever_dies() {
    let need = Need::nodes(2).with_node_access();
    ja4_e2e::test("faults", need, async |case| {
        let lab = Lab::start(&case).await?;
        the_correlator_is_away(&lab)
            .await
            .context("the correlator is away")?;
        the_forwarder_is_killed(&lab)
            .await
            .context("the forwarder is killed")?;
        certificates_are_replaced(&lab)
            .await
            .context("certificates are replaced")?;
        the_spool_overflows(&lab).await.context("the spool overflows")
    });
}

/// A pipeline whose events all nodes send to one correlator.
struct Lab<'a> {
    case: &'a Case,
    store: Store<'a>,
    /// Whose certificates are believed; a test may replace it.
    authority: RefCell<Rc<Authority>>,
}

impl<'a> Lab<'a> {
    async fn start(case: &'a Case) -> anyhow::Result<Self> {
        let store = Store::start(case, OTHER).await?;
        pipeline::redaction_key(case).await?;
        case.image("ja4-sensor")?;
        let authority = pipeline::correlator(case, OTHER).await?;
        sensors(case, "256MiB").await?;
        Ok(Self {
            case,
            store,
            authority: RefCell::new(Rc::new(authority)),
        })
    }

    /// A producer on the node that sends at [`RATE`] until it is told to stop.
    fn producer(&self) -> anyhow::Result<Producer> {
        let pid = self.case.nodes().first_process(NODE)?;
        let socket = format!(
            "/proc/{pid}/root/run/ja4/{}/demo/http.socket",
            self.case.namespace
        );
        let boot = ja4_emit::random_boot().context("no random numbers")?;
        let emitter = Emitter::start(EmitConfig {
            // What a restart of the forwarder takes must fit: the hop is what is tested.
            buffer_bytes: 256 << 20,
            ..EmitConfig::new(PathBuf::from(socket), SocketKind::Stream, "load", NODE, boot)
        })
        .context("the producer does not start")?;
        let emitter = Arc::new(emitter);
        let stop = Arc::new(AtomicBool::new(false));
        let thread = {
            let (emitter, stop) = (Arc::clone(&emitter), Arc::clone(&stop));
            std::thread::spawn(move || send(&emitter, &stop))
        };
        Ok(Producer {
            emitter,
            stop,
            thread: Some(thread),
            boot: boot.0,
        })
    }

    /// Fails unless the store has all that a producer sent less what was dropped, and nothing twice. Of the dropped, `unsure` had been
    /// sent when they were dropped: they may be there.
    fn accounts(&self, producer: &Producer, dropped: u64, unsure: u64) -> anyhow::Result<()> {
        let rows = self.store.rows(&format!(
            "SELECT count() AS n, uniqExact(seq) AS distinct FROM ja4_logs.http_logs WHERE boot = {}",
            producer.boot
        ))?;
        let row = rows.first().context("a count has a row")?;
        let sent = producer.emitter.counters().next_seq;
        let wanted = sent.saturating_sub(dropped + unsure);
        ensure!(
            (wanted..=wanted + unsure).contains(&count(&row["n"])) && row["n"] == row["distinct"],
            "{sent} sent, {dropped} dropped and {unsure} perhaps, stored: {row}"
        );
        Ok(())
    }

    /// Waits until everything that a producer sent is stored once.
    async fn all_is_stored(&self, producer: &Producer) -> anyhow::Result<()> {
        let asked = async || self.accounts(producer, 0, 0).map(Some);
        wait::until("all that was sent is stored once", Duration::from_secs(90), asked).await
    }

    async fn scale_correlator(&self, replicas: u32) -> anyhow::Result<()> {
        let patch = json!({"spec": {"replicas": replicas}});
        self.case
            .api::<Deployment>()
            .patch("correlator", &PatchParams::default(), &Patch::Merge(patch))
            .await?;
        self.case.deployment_available("correlator").await.map(drop)
    }

    /// `/report`, asked with a certificate of `authority` and the role that `uri` says; what curl says if it is refused.
    async fn report(&self, authority: &Authority, uri: &str) -> anyhow::Result<Value> {
        let (certificate, key) = authority.client(uri)?;
        let folder = self
            .case
            .nodes()
            .state()
            .join(format!("{}-reader", self.case.namespace));
        std::fs::create_dir_all(&folder)?;
        for (name, text) in [("tls.crt", &certificate), ("tls.key", &key)] {
            std::fs::write(folder.join(name), text)?;
        }
        let service = self.case.api::<Service>().get("correlator").await?;
        let address = service
            .spec
            .and_then(|spec| spec.cluster_ip)
            .context("the Service has an address")?;
        let file = |name: &str| folder.join(name).display().to_string();
        let (certificate, key) = (file("tls.crt"), file("tls.key"));
        let url = format!("https://{address}:9443/report");
        let curl = [
            "curl",
            "-sSk",
            "--fail-with-body",
            "--http2",
            "--max-time",
            "10",
            "--cert",
            &certificate,
        ];
        let answer = self
            .case
            .nodes()
            .run(NODE, &[&curl[..], &["--key", &key, &url]].concat())?;
        serde_json::from_str(&answer).with_context(|| format!("the report is {answer}"))
    }
}

async fn sensors(case: &Case, spool: &str) -> anyhow::Result<()> {
    // The producer is a process of this machine, which is root.
    let manifest = manifests::SENSOR
        .replace("uids: [65532]", "uids: [65532, 0]")
        .replace("max_bytes: 256MiB", &format!("max_bytes: {spool}"));
    case.apply_manifest(&manifest, |object| {
        // Another configuration makes other pods.
        if object["kind"] == "DaemonSet" {
            object["spec"]["template"]["metadata"]["annotations"] = json!({"spool": spool});
        }
    })
    .await?;
    case.daemon_set_ready("sensor").await.map(drop)
}

struct Producer {
    emitter: Arc<Emitter>,
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
    boot: u64,
}

impl Producer {
    /// Sends no more, and waits until all is acknowledged.
    async fn finish(&mut self) -> anyhow::Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            ensure!(thread.join().is_ok(), "the producer's thread panicked");
        }
        wait::until("all is acknowledged", Duration::from_secs(90), async || {
            let counters = self.emitter.counters();
            ensure!(
                counters.dropped_total() == 0,
                "the producer dropped {:?}",
                counters.dropped
            );
            ensure!(
                counters.pending == 0,
                "{} are pending: {}",
                counters.pending,
                counters.last_error
            );
            Ok(Some(()))
        })
        .await
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn send(emitter: &Emitter, stop: &AtomicBool) {
    let started = Instant::now();
    let mut n_sent = 0_u64;
    while !stop.load(Ordering::Relaxed) {
        let due = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX) * RATE / 1000;
        while n_sent < due {
            let request = Request {
                method: "GET".into(),
                scheme: "http".into(),
                host: "load.test".into(),
                path: "/health".into(),
                http_version: "1.1".into(),
                status: Some(200),
                ..Request::default()
            };
            emitter.send(now_ns(), &Event::Request(Box::new(request)));
            n_sent += 1;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn now_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since
        .ok()
        .and_then(|since| i64::try_from(since.as_nanos()).ok())
        .unwrap_or(0)
}

async fn the_correlator_is_away(lab: &Lab<'_>) -> anyhow::Result<()> {
    let mut producer = lab.producer()?;
    tokio::time::sleep(Duration::from_secs(5)).await;
    lab.scale_correlator(0).await?;
    tokio::time::sleep(AWAY).await;
    lab.scale_correlator(1).await?;
    tokio::time::sleep(Duration::from_secs(5)).await;
    producer.finish().await?;
    lab.all_is_stored(&producer).await
}

async fn the_forwarder_is_killed(lab: &Lab<'_>) -> anyhow::Result<()> {
    let mut producer = lab.producer()?;
    for _ in 0..KILLS {
        tokio::time::sleep(KILL_EVERY).await;
        let pod = forwarder(lab.case).await?;
        lab.case.nodes().process(&pod, "forward")?.kill()?;
    }
    producer.finish().await?;
    lab.all_is_stored(&producer).await
}

/// The pod on the node, with its forwarder running.
async fn forwarder(case: &Case) -> anyhow::Result<k8s_openapi::api::core::v1::Pod> {
    wait::until("the forwarder runs", Duration::from_mins(1), async || {
        let pods = case.pods("app=sensor").await?;
        let here = pods
            .into_iter()
            .find(|pod| pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()) == Some(NODE));
        let runs = here.filter(|pod| case.nodes().process(pod, "forward").is_ok());
        Ok(runs)
    })
    .await
}

async fn certificates_are_replaced(lab: &Lab<'_>) -> anyhow::Result<()> {
    const READER: &str = "ja4://demo/reader/test";
    let before = restarts(lab.case).await?;
    let mut producer = lab.producer()?;
    let old = Rc::clone(&lab.authority.borrow());
    lab.report(&old, READER).await.context("before")?;
    let new = Rc::new(Authority::new()?);
    let both = format!("{}{}", old.pem, new.pem);
    // Believe both; show the new; believe the new alone.
    pipeline::certificates(lab.case, &old, &both).await?;
    wait::until(
        "the new authority is believed",
        Duration::from_mins(2),
        async || Ok(lab.report(&new, READER).await.ok()),
    )
    .await?;
    pipeline::certificates(lab.case, &new, &both).await?;
    tokio::time::sleep(Duration::from_secs(10)).await;
    pipeline::certificates(lab.case, &new, &new.pem).await?;
    wait::until(
        "the old authority is refused",
        Duration::from_mins(2),
        async || Ok(lab.report(&old, READER).await.is_err().then_some(())),
    )
    .await?;
    for uri in ["ja4://demo/forward/node1", "ja4://other/reader/x"] {
        ensure!(lab.report(&new, uri).await.is_err(), "{uri} may read the report");
    }
    lab.report(&new, READER).await.context("afterwards")?;
    lab.authority.replace(Rc::clone(&new));
    tokio::time::sleep(Duration::from_secs(5)).await;
    producer.finish().await?;
    lab.all_is_stored(&producer).await?;
    let after = restarts(lab.case).await?;
    ensure!(before == after, "pods were restarted: {before:?}, {after:?}");
    Ok(())
}

/// Identity and restarts of each pod of the path.
async fn restarts(case: &Case) -> anyhow::Result<Vec<(String, i32)>> {
    let mut found = Vec::new();
    for selector in ["app=sensor", "app=correlator"] {
        for pod in case.pods(selector).await? {
            let statuses = pod
                .status
                .as_ref()
                .and_then(|status| status.container_statuses.as_ref());
            let n = statuses
                .into_iter()
                .flatten()
                .map(|status| status.restart_count)
                .sum();
            found.push((pod.metadata.uid.clone().unwrap_or_default(), n));
        }
    }
    Ok(found)
}

async fn the_spool_overflows(lab: &Lab<'_>) -> anyhow::Result<()> {
    sensors(lab.case, "4MiB").await?;
    let mut producer = lab.producer()?;
    tokio::time::sleep(Duration::from_secs(5)).await;
    lab.scale_correlator(0).await?;
    tokio::time::sleep(Duration::from_secs(20)).await;
    lab.scale_correlator(1).await?;
    tokio::time::sleep(Duration::from_secs(5)).await;
    producer.finish().await?;
    // The report's facts are some seconds old.
    let authority = Rc::clone(&lab.authority.borrow());
    let what = "sent = stored + dropped as the report says";
    wait::until(what, Duration::from_mins(1), async || {
        let report = lab.report(&authority, "ja4://demo/reader/test").await?;
        let (dropped, unsure) = (drops(&report, "spool_full"), drops(&report, "spool_full_sent"));
        ensure!(dropped > 0, "nothing was dropped");
        lab.accounts(&producer, dropped, unsure).map(Some)
    })
    .await?;
    // Oldest first: what came before the correlator went and after it was back is all there, a hole is between.
    let rows = lab.store.rows(&format!(
        "SELECT min(seq) AS first, max(seq) AS last, count() AS n FROM ja4_logs.http_logs WHERE boot = {}",
        producer.boot
    ))?;
    ensure!(count(&rows[0]["first"]) == 0, "the first event is gone: {rows:?}");
    Ok(())
}

/// Events that nodes have dropped for a reason, as the report says.
fn drops(report: &Value, reason: &str) -> u64 {
    let nodes = report["nodes"].as_array().into_iter().flatten();
    let sources = nodes
        .filter_map(|node| node["facts"]["drops"].as_object())
        .flatten();
    sources
        .map(|(_, reasons)| reasons.get(reason).map_or(0, count))
        .sum()
}
