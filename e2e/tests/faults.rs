//! What the hop from a node to the correlator keeps when its parts die: a producer sends at a steady rate and counts, and in the end
//! what it sent is in the store once, or counted as dropped by a reason.

use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, ensure};
use ja4_e2e::store::{Store, count};
use ja4_e2e::{Authority, Case, Need, manifests, pipeline, wait};
use ja4_emit::{EmitConfig, Emitter, SocketKind};
use ja4_model::{Event, Request};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::ResourceExt as _;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

/// Events a second.
const RATE: u64 = 2000;
/// How long the correlator is away.
const AWAY: Duration = Duration::from_mins(1);
/// Between two kills of the forwarder, and how many.
const KILL_EVERY: Duration = Duration::from_secs(10);
const KILLS: usize = 6;
/// Who may read the report.
const READER: &str = "ja4://demo/reader/test";

/// Where a pipeline is; two of them run beside each other, each with a producer on a node of its own.
struct Place {
    /// The node whose forwarder is treated badly.
    node: &'static str,
    /// Where store and correlator are.
    other: &'static str,
    /// Of the forwarders, which are on their nodes' networks.
    admin_port: u16,
}

#[test]
fn what_a_node_took_while_the_correlator_was_away_is_stored_once_or_counted() {
    let need = Need::nodes(2).with_node_access();
    ja4_e2e::test("faults_away", need, async |case| {
        let place = Place {
            node: "node1",
            other: "node2",
            admin_port: 9102,
        };
        let lab = Lab::start(&case, place).await?;
        the_correlator_is_away(&lab)
            .await
            .context("the correlator is away")?;
        the_spool_overflows(&lab).await.context("the spool overflows")
    });
}

#[test]
fn what_a_node_took_is_stored_once_whatever_befalls_its_forwarder() {
    let need = Need::nodes(2).with_node_access();
    ja4_e2e::test("faults_forwarder", need, async |case| {
        let place = Place {
            node: "node2",
            other: "node1",
            admin_port: 9112,
        };
        let lab = Lab::start(&case, place).await?;
        the_forwarder_is_killed(&lab)
            .await
            .context("the forwarder is killed")?;
        certificates_are_replaced(&lab)
            .await
            .context("certificates are replaced")?;
        strangers_are_refused(&lab).await.context("strangers come")
    });
}

/// A pipeline whose events all nodes send to one correlator.
struct Lab<'a> {
    case: &'a Case,
    place: Place,
    store: Store,
    /// Whose certificates are believed; a test may replace it.
    authority: RefCell<Rc<Authority>>,
}

impl<'a> Lab<'a> {
    async fn start(case: &'a Case, place: Place) -> anyhow::Result<Self> {
        let store = Store::start(case, place.other).await?;
        pipeline::redaction_key(case).await?;
        case.image("ja4-sensor")?;
        let authority = pipeline::correlator(case, place.other).await?;
        let lab = Self {
            case,
            place,
            store,
            authority: RefCell::new(Rc::new(authority)),
        };
        lab.sensors("256MiB").await?;
        Ok(lab)
    }

    /// Sensor and forwarder on each node, whose spool may have so many bytes.
    async fn sensors(&self, spool: &str) -> anyhow::Result<()> {
        // The producer is a process of this machine, which is root.
        let manifest = manifests::SENSOR
            .replace("uids: [65532]", "uids: [65532, 0]")
            .replace("9102", &self.place.admin_port.to_string())
            .replace("max_bytes: 256MiB", &format!("max_bytes: {spool}"));
        self.case
            .apply_manifest(&manifest, |object| {
                // Another configuration makes other pods.
                if object["kind"] == "DaemonSet" {
                    object["spec"]["template"]["metadata"]["annotations"] = json!({"spool": spool});
                }
            })
            .await?;
        self.case.daemon_set_ready("sensor").await.map(drop)
    }

    /// A producer on the node that sends at [`RATE`] until it is told to stop.
    fn producer(&self) -> anyhow::Result<Producer> {
        let pid = self.case.nodes().first_process(self.place.node)?;
        let socket = format!(
            "/proc/{pid}/root/run/ja4/{}/demo/http.socket",
            self.case.namespace
        );
        let boot = ja4_emit::random_boot().context("no random numbers")?;
        let emitter = Emitter::start(EmitConfig {
            // What a restart of the forwarder takes must fit: the hop is what is tested.
            buffer_bytes: 256 << 20,
            ..EmitConfig::new(
                PathBuf::from(socket),
                SocketKind::Stream,
                "load",
                self.place.node,
                boot,
            )
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
        let file = |name: &str| folder.join(name).display().to_string();
        let answer = self
            .ask_report(&["--cert", &file("tls.crt"), "--key", &file("tls.key")])
            .await?;
        serde_json::from_str(&answer).with_context(|| format!("the report is {answer}"))
    }

    /// What curl gets of `/report` with these options.
    async fn ask_report(&self, options: &[&str]) -> anyhow::Result<String> {
        let address = self.case.service_address("correlator").await?;
        let url = format!("https://{address}:9443/report");
        let curl = ["curl", "-sSk", "--fail-with-body", "--http2", "--max-time", "10"];
        self.case
            .nodes()
            .run(self.place.node, &[&curl[..], options, &[&url]].concat())
    }

    /// The pod on the node, with its forwarder running.
    async fn forwarder(&self) -> anyhow::Result<Pod> {
        wait::until("the forwarder runs", Duration::from_mins(1), async || {
            let here = self.case.pods("app=sensor").await?.into_iter().find(|pod| {
                let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
                node == Some(self.place.node)
            });
            Ok(here.filter(|pod| self.case.nodes().process(pod, "forward").is_ok()))
        })
        .await
    }

    /// The logs of all containers of a name.
    async fn logs(&self, selector: &str, container: &str) -> anyhow::Result<Vec<String>> {
        let mut logs = Vec::new();
        for pod in self.case.pods(selector).await? {
            logs.push(self.case.log(&pod.name_any(), container).await?);
        }
        ensure!(!logs.is_empty(), "no pod has {selector}");
        Ok(logs)
    }

    /// Waits until every forwarder has taken up new credentials for the `n`th time.
    async fn forwarders_reloaded(&self, n: usize) -> anyhow::Result<()> {
        let what = format!("every forwarder took up new credentials, time {n}");
        wait::until(&what, Duration::from_mins(2), async || {
            let logs = self.logs("app=sensor", "forward").await?;
            let line = "certificate, trust bundle or token were replaced";
            Ok(logs
                .iter()
                .all(|log| log.matches(line).count() >= n)
                .then_some(()))
        })
        .await
    }
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
        let pod = lab.forwarder().await?;
        lab.case.nodes().process(&pod, "forward")?.kill()?;
    }
    producer.finish().await?;
    lab.all_is_stored(&producer).await
}

async fn certificates_are_replaced(lab: &Lab<'_>) -> anyhow::Result<()> {
    // A container's log begins anew when it is started again, which the kills have done; not from here on.
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
    lab.forwarders_reloaded(1).await?;
    pipeline::certificates(lab.case, &new, &both).await?;
    lab.forwarders_reloaded(2).await?;
    pipeline::certificates(lab.case, &new, &new.pem).await?;
    wait::until(
        "the old authority is refused",
        Duration::from_mins(2),
        async || Ok(lab.report(&old, READER).await.is_err().then_some(())),
    )
    .await?;
    lab.report(&new, READER).await.context("afterwards")?;
    lab.forwarders_reloaded(3).await?;
    lab.authority.replace(Rc::clone(&new));
    producer.finish().await?;
    lab.all_is_stored(&producer).await?;
    let after = restarts(lab.case).await?;
    ensure!(before == after, "pods were restarted: {before:?}, {after:?}");
    Ok(())
}

/// Forwarders whose certificates do not fit: each is told apart from the others in one line on both sides, while a good one sends.
async fn strangers_are_refused(lab: &Lab<'_>) -> anyhow::Result<()> {
    let before = restarts(lab.case).await?;
    let mut producer = lab.producer()?;
    let good = Rc::clone(&lab.authority.borrow());
    let forward = "ja4://demo/forward/*";
    let strangers = [
        ("certificate-role", good.client(READER)?),
        ("certificate-name", good.client("ja4://other/forward/*")?),
        ("node", good.client("ja4://demo/forward/elsewhere")?),
        ("certificate-expired", good.expired_client(forward)?),
        ("certificate-untrusted", Authority::new()?.client(forward)?),
    ];
    for (name, (certificate, key)) in &strangers {
        let name = format!("stranger-{name}");
        let data = json!({"tls.crt": certificate, "tls.key": key, "ca.crt": good.pem});
        lab.case
            .apply::<Secret>(json!({"metadata": {"name": name}, "stringData": data}))
            .await?;
        lab.case.apply::<Pod>(stranger(lab.case, &name)?).await?;
    }
    let without = lab.ask_report(&[]).await;
    ensure!(without.is_err(), "without a certificate: {without:?}");
    for uri in ["ja4://demo/forward/node1", "ja4://other/reader/x"] {
        ensure!(lab.report(&good, uri).await.is_err(), "{uri} may read the report");
    }
    let reasons = strangers
        .iter()
        .map(|(name, _)| name.replace('-', "_"))
        .chain(["no_certificate".to_owned()]);
    for reason in reasons {
        let words = format!("(reason {reason})");
        wait::until(
            &format!("the correlator says {words}"),
            Duration::from_mins(1),
            async || {
                let logs = lab.logs("app=correlator", "correlator").await?;
                let lines = logs[0].lines().filter(|line| line.contains(&words));
                // A line a minute at most, however often they come.
                Ok((1..=4).contains(&lines.count()).then_some(()))
            },
        )
        .await?;
    }
    for (name, _) in &strangers {
        wait::until(
            &format!("the forwarder with a wrong {name} says so"),
            Duration::from_mins(1),
            async || {
                let log = lab.case.log(&format!("stranger-{name}"), "forward").await?;
                let said = "events wait in the spool; see that certificate, trust bundle, token and node name are of one pipeline";
                let lines = log.lines().filter(|line| line.contains("events wait in the spool"));
                let lines: Vec<&str> = lines.collect();
                ensure!(
                    lines.iter().all(|line| line.contains(said)) && lines.len() <= 4,
                    "{lines:#?}"
                );
                Ok((!lines.is_empty()).then_some(()))
            },
        )
        .await?;
    }
    let report = lab.report(&good, READER).await?;
    let known = report["nodes"].as_array().map(Vec::len);
    ensure!(known == Some(2), "a stranger is among the nodes: {report}");
    producer.finish().await?;
    lab.all_is_stored(&producer).await?;
    let after = restarts(lab.case).await?;
    ensure!(before == after, "pods were restarted: {before:?}, {after:?}");
    Ok(())
}

/// A forwarder in a pod of its own, with the certificate that the Secret of its name has.
fn stranger(case: &Case, name: &str) -> anyhow::Result<Value> {
    let mount = |name: &str, path: &str| json!({"name": name, "mountPath": path});
    Ok(json!({
        "metadata": {"name": name},
        "spec": {
            "automountServiceAccountToken": false,
            "terminationGracePeriodSeconds": 1,
            "securityContext": {"runAsNonRoot": true, "runAsUser": 65532, "runAsGroup": 65532, "fsGroup": 65532},
            "containers": [{
                "name": "forward",
                "image": case.image("ja4-correlator")?,
                "imagePullPolicy": "IfNotPresent",
                "args": ["run", "--config", "/etc/ja4/config/forward.yaml"],
                "volumeMounts": [
                    mount("config", "/etc/ja4/config"),
                    mount("tls", "/etc/ja4/tls"),
                    mount("redaction", "/etc/ja4/redaction"),
                    mount("sockets", "/var/run/ja4"),
                    mount("spool", "/var/lib/ja4"),
                ],
            }],
            "volumes": [
                {"name": "config", "configMap": {"name": "sensor"}},
                {"name": "tls", "secret": {"secretName": name, "defaultMode": 0o440}},
                {"name": "redaction", "secret": {"secretName": "redaction-key", "defaultMode": 0o440}},
                {"name": "sockets", "emptyDir": {}},
                {"name": "spool", "emptyDir": {}},
            ],
        },
    }))
}

/// Identity and restarts of each pod of the path.
async fn restarts(case: &Case) -> anyhow::Result<Vec<(String, i32)>> {
    let mut found = Vec::new();
    for selector in ["app=sensor", "app=correlator"] {
        for pod in case.pods(selector).await? {
            let n = ja4_e2e::restarts(&pod);
            found.push((pod.metadata.uid.unwrap_or_default(), n));
        }
    }
    Ok(found)
}

async fn the_spool_overflows(lab: &Lab<'_>) -> anyhow::Result<()> {
    lab.sensors("4MiB").await?;
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
        let report = lab.report(&authority, READER).await?;
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
