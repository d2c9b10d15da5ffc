//! The ways by which a client's packets reach a web server in a cluster: on each, whether a request finds its connection, whether
//! the true client is found, and how many rows one connection makes. What is seen must be what `docs/kubernetes-paths.md` says.
//!
//! Real clients (curl, outside the cluster and in pods), real translation by kube-proxy and the CNI's hostPort, `HAProxy` as a TCP
//! ingress, and the demo's site as the server that ends TLS.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use futures_util::future::try_join_all;
use ja4_e2e::store::{Store, count};
use ja4_e2e::{Case, ContainerProcess, Need, manifests, pipeline, wait};
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Service};
use serde_json::{Value, json};

/// Connections on each path; each carries two requests.
const CONNECTIONS: usize = 500;
/// Least share of requests that find their connection.
const JOINED_MIN: f64 = 0.999;
/// Rows of hellos are held for two seconds, then travel in batches.
const QUIET: Duration = Duration::from_secs(6);
/// The client outside: the network of the control plane.
const OUTSIDE: &str = "10.77.0.1";
const NODE1: &str = "10.77.0.11";
const NODE2: &str = "10.77.0.12";
/// Where the server's pods are.
const SERVER_NODE: &str = "node1";
const HOST_PORT: u16 = 18443;
/// `HAProxy` on the host's network: TLS passed on; the same behind PROXY headers of version 2 and 1.
const INGRESS: [(u16, &str); 3] = [(28443, ""), (28444, "send-proxy-v2"), (28445, "send-proxy")];

/// Who sends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum From {
    Outside,
    Pod(&'static str),
}

/// Where events are joined.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Placement {
    /// On each node, by a correlator of its own.
    Node,
    /// By one correlator that all nodes send to.
    Cluster,
}

impl Placement {
    /// As in the document's marks and in server names.
    fn name(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Cluster => "cluster",
        }
    }
}

/// One path.
struct Path {
    /// Server name of its requests, by which its rows are found.
    name: String,
    what: &'static str,
    from: From,
    address: String,
    port: u16,
}

/// What was seen on a path.
#[derive(Debug, Default)]
struct Seen {
    requests: u64,
    joined: u64,
    /// Why others were not.
    reasons: Vec<String>,
    /// Connections that got requests of another, or lost some of their own.
    wrong: u64,
    clients: Vec<String>,
    tls_rows: u64,
}

#[test]
fn every_path_joins_and_finds_its_client_as_the_document_says() {
    let need = Need::nodes(2).with_node_access();
    ja4_e2e::test(
        "every_path_joins_and_finds_its_client_as_the_document_says",
        need,
        async |case| {
            let store = Store::start(&case, SERVER_NODE).await?;
            pipeline::redaction_key(&case).await?;
            for image in ["ja4-sensor", "ja4-correlator"] {
                case.image(image)?;
            }
            case.apply_manifest(&with_the_client_outside(manifests::SENSOR_NODE), |_| {})
                .await?;
            case.daemon_set_ready("sensor").await?;
            servers(&case).await?;
            let on_nodes = measure(&case, &store, Placement::Node).await?;

            // The same name: it is replaced, and nobody listens on the sockets meanwhile.
            pipeline::correlator(&case, SERVER_NODE).await?;
            case.apply_manifest(&with_the_client_outside(manifests::SENSOR), |_| {})
                .await?;
            case.daemon_set_ready("sensor").await?;
            let in_cluster = measure(&case, &store, Placement::Cluster).await?;

            let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/kubernetes-paths.md");
            let document =
                std::fs::read_to_string(&path).context("could not read docs/kubernetes-paths.md")?;
            let mut whole = document.clone();
            for (placement, table) in [(Placement::Node, &on_nodes), (Placement::Cluster, &in_cluster)] {
                let mark = format!("<!-- seen: {} -->\n", placement.name());
                let (start, rest) = whole
                    .split_once(&mark)
                    .with_context(|| format!("the document has no {mark}"))?;
                let (_, end) = rest.split_once("<!-- end -->").context("the table has no end")?;
                whole = format!("{start}{mark}{table}<!-- end -->{end}");
            }
            if std::env::var_os("E2E_WRITE").is_some() {
                return std::fs::write(&path, whole).context("could not write docs/kubernetes-paths.md");
            }
            ensure!(
                whole == document,
                "docs/kubernetes-paths.md says something else; E2E_WRITE=1 writes what was seen:\n{on_nodes}\n{in_cluster}"
            );
            Ok(())
        },
    );
}

/// Sends on every path and describes what the store got of it, as a table.
#[expect(
    clippy::print_stdout,
    reason = "what was seen is of use when the table is not what it was"
)]
async fn measure(case: &Case, store: &Store, placement: Placement) -> anyhow::Result<String> {
    let paths = paths(case, placement).await?;
    for path in &paths {
        visit(case, path).await?;
    }
    let suffix = format!(".{}.test", placement.name());
    let wanted = (paths.len() * CONNECTIONS * 2) as u64;
    let n_requests =
        format!("SELECT count() AS n FROM ja4_logs.http_logs WHERE position(host, '{suffix}') > 0");
    store
        .rows_until(
            "every request is in the store",
            Duration::from_mins(1),
            &n_requests,
            |rows| rows.first().is_some_and(|row| count(&row["n"]) >= wanted),
        )
        .await?;
    // One for each connection, or two where two correlators see it: whether more would come is known when none comes for a while.
    let n_hellos = format!("SELECT count() AS n FROM ja4_logs.tls_logs WHERE endsWith(sni, '{suffix}')");
    let mut last = (0, Instant::now());
    wait::until("hellos have come to rest", Duration::from_mins(1), async || {
        let n = count(&store.rows(&n_hellos)?[0]["n"]);
        if n != last.0 {
            last = (n, Instant::now());
        }
        Ok((last.1.elapsed() > QUIET).then_some(()))
    })
    .await?;
    let seen = seen(store)?;
    let mut table = String::from(
        "| path | requests joined | the true client | `tls_logs` rows for each connection |\n|---|---|---|---|\n",
    );
    for path in &paths {
        let seen = seen
            .get(&path.name)
            .with_context(|| format!("nothing was seen of {}", path.name))?;
        println!("{}: {seen:?}", path.name);
        if seen.joined < seen.requests {
            println!("{}", unjoined(store, &path.name)?);
        }
        ensure!(
            seen.wrong == 0,
            "{}: {} connections are mixed up",
            path.name,
            seen.wrong
        );
        ensure!(
            seen.requests == (CONNECTIONS * 2) as u64,
            "{}: {} requests are stored of {}",
            path.name,
            seen.requests,
            CONNECTIONS * 2
        );
        let _written = writeln!(table, "{}", row(case, path, seen).await?);
    }
    Ok(table)
}

/// Own networks without the test's client, whose address is beside the nodes'.
fn with_the_client_outside(manifest: &str) -> String {
    let own = "own: [10.244.0.0/16, 10.96.0.0/16, 10.77.0.11/32, 10.77.0.12/32]";
    manifest.replace("own: [10.0.0.0/8]", own)
}

async fn row(case: &Case, path: &Path, seen: &Seen) -> anyhow::Result<String> {
    #[expect(clippy::cast_precision_loss, reason = "a share of some thousand")]
    let share = seen.joined as f64 / seen.requests as f64;
    let joined = if share >= JOINED_MIN {
        "≥ 99.9 %".to_owned()
    } else if seen.joined == 0 {
        format!("none: `{}`", seen.reasons.join("`, `"))
    } else {
        format!("{:.1} %, else `{}`", share * 100.0, seen.reasons.join("`, `"))
    };
    let client = match path.from {
        From::Outside => OUTSIDE.to_owned(),
        From::Pod(name) => address_of(&case.pod_ready(name).await?)?,
    };
    let others: Vec<&String> = seen
        .clients
        .iter()
        .filter(|address| **address != client)
        .collect();
    let found = match (others.is_empty(), seen.clients.contains(&client)) {
        (true, _) => "found".to_owned(),
        (false, false) => format!("not found, {} stands for it", stands_for(&others)),
        (false, true) => format!(
            "found where its node's word comes before the request is answered, else {} stands for it",
            stands_for(&others)
        ),
    };
    #[expect(clippy::cast_precision_loss, reason = "a share of some thousand")]
    let rows = seen.tls_rows as f64 / CONNECTIONS as f64;
    Ok(format!("| {} | {joined} | {found} | {rows:.0} |", path.what))
}

/// Addresses of pods differ from run to run.
fn stands_for(clients: &[&String]) -> String {
    let name = |address: &&String| match address.as_str() {
        NODE1 => "the server's node".to_owned(),
        NODE2 => "the other node".to_owned(),
        address if address.starts_with("10.244.") => "an address of the pods' network".to_owned(),
        address => address.to_owned(),
    };
    clients.iter().map(name).collect::<Vec<_>>().join(" or ")
}

// ---- what is asked ----

async fn paths(case: &Case, placement: Placement) -> anyhow::Result<Vec<Path>> {
    let port = async |name: &str| -> anyhow::Result<(String, u16)> {
        let service = case.api::<Service>().get(name).await?;
        let spec = service.spec.context("a Service has a spec")?;
        let port = spec
            .ports
            .and_then(|ports| ports.into_iter().next())
            .context("a Service has a port")?;
        let node_port = u16::try_from(port.node_port.unwrap_or(port.port)).context("a port has 16 bits")?;
        Ok((spec.cluster_ip.unwrap_or_default(), node_port))
    };
    let (_, local) = port("local").await?;
    let (_, cluster) = port("cluster").await?;
    let (inside, inside_port) = port("inside").await?;
    let named = |name: &str| format!("{name}.{}.test", placement.name());
    let outside = |name, what, address: &str, port| Path {
        name: named(name),
        what,
        from: From::Outside,
        address: address.to_owned(),
        port,
    };
    let from_pod = |name, what, pod| Path {
        name: named(name),
        what,
        from: From::Pod(pod),
        address: inside.clone(),
        port: inside_port,
    };
    let [plain, v2, v1] = INGRESS.map(|(port, _)| port);
    Ok(vec![
        outside("hostport", "hostPort", NODE1, HOST_PORT),
        outside("local", "NodePort, `externalTrafficPolicy: Local`", NODE1, local),
        outside(
            "cluster-same",
            "NodePort, `Cluster`, the server on the node that is asked",
            NODE1,
            cluster,
        ),
        outside(
            "cluster-other",
            "NodePort, `Cluster`, the server on another node",
            NODE2,
            cluster,
        ),
        from_pod(
            "inside-same",
            "ClusterIP, from a pod on the server's node",
            "client1",
        ),
        from_pod("inside-other", "ClusterIP, from a pod on another node", "client2"),
        outside(
            "ingress-same",
            "host-network ingress that passes TLS on, on the server's node",
            NODE1,
            plain,
        ),
        outside(
            "ingress-other",
            "host-network ingress that passes TLS on, on another node",
            NODE2,
            plain,
        ),
        outside(
            "proxy-v2-same",
            "the same with PROXY protocol v2, on the server's node",
            NODE1,
            v2,
        ),
        outside(
            "proxy-v2-other",
            "the same with PROXY protocol v2, on another node",
            NODE2,
            v2,
        ),
        outside(
            "proxy-v1-other",
            "the same with PROXY protocol v1, on another node",
            NODE2,
            v1,
        ),
    ])
}

/// Opens the connections of a path, each for two requests.
async fn visit(case: &Case, path: &Path) -> anyhow::Result<()> {
    let mut config = String::new();
    for number in 0..CONNECTIONS {
        for header in ["X-Part: first", "Connection: close"] {
            let Path {
                name, address, port, ..
            } = path;
            let _written = write!(
                config,
                "url = \"https://{name}:{port}/health?_cid={name}-{number}\"\nresolve = \"{name}:{port}:{address}\"\n\
                 header = \"{header}\"\noutput = \"/dev/null\"\nwrite-out = \"%{{http_code}}\\n\"\n\
                 insecure\nhttp1.1\nsilent\nshow-error\nmax-time = 20\nnext\n"
            );
        }
    }
    let file = case
        .nodes()
        .state()
        .join(format!("{}-{}.curl", case.namespace, path.name));
    std::fs::write(&file, config.trim_end_matches("next\n"))
        .context("could not write what curl is to ask")?;
    let file = file.to_str().context("the state folder's path is UTF-8")?;
    let curl = ["curl", "--config", file];
    let answers = match path.from {
        From::Outside => case.nodes().ctl(&[&["in-net", "--"], &curl[..]].concat())?,
        From::Pod(name) => network_of(case, name).await?.run_in_network(&curl)?,
    };
    let n_good = answers.lines().filter(|line| *line == "200").count();
    ensure!(
        n_good == CONNECTIONS * 2,
        "{}: {n_good} answers are 200:\n{answers:.300}",
        path.name
    );
    Ok(())
}

async fn network_of(case: &Case, pod: &str) -> anyhow::Result<ContainerProcess> {
    case.nodes().process(&case.pod_ready(pod).await?, pod)
}

// ---- what is there ----

async fn servers(case: &Case) -> anyhow::Result<()> {
    let site = case.image("ja4-demo")?;
    for (name, proxied) in [("origin", false), ("origin-proxied", true)] {
        let config = json!({
            "listen": "0.0.0.0:8443", "proxy_protocol": proxied, "source": "demo",
            // The receiver takes events of its own node only; a pod's host name is the pod's.
            "node": SERVER_NODE,
            "socket": "/var/run/ja4/http.socket", "socket_kind": "stream",
        });
        case.apply::<ConfigMap>(
            json!({"metadata": {"name": name}, "data": {"demo.yaml": config.to_string()}}),
        )
        .await?;
        case.apply::<Deployment>(server(case, name, &site)).await?;
    }
    for (name, kind, policy) in [
        ("local", "NodePort", Some("Local")),
        ("cluster", "NodePort", Some("Cluster")),
        ("inside", "ClusterIP", None),
    ] {
        let ports = json!([{"port": 443, "targetPort": 8443}]);
        let mut spec = json!({"type": kind, "selector": {"app": "origin"}, "ports": ports});
        if let Some(policy) = policy {
            spec["externalTrafficPolicy"] = json!(policy);
        }
        case.apply::<Service>(json!({"metadata": {"name": name}, "spec": spec}))
            .await?;
    }
    let ports = json!([{"port": 443, "targetPort": 8443}]);
    let spec = json!({"selector": {"app": "origin-proxied"}, "ports": ports});
    case.apply::<Service>(json!({"metadata": {"name": "proxied"}, "spec": spec}))
        .await?;
    ingress(case).await?;
    for (name, node) in [("client1", "node1"), ("client2", "node2")] {
        case.apply::<Pod>(json!({"metadata": {"name": name}, "spec": {
            "nodeName": node,
            "terminationGracePeriodSeconds": 1,
            "containers": [{"name": name, "image": "localhost/e2e-tool:1", "imagePullPolicy": "Never", "args": ["pause"]}],
        }}))
        .await?;
    }
    try_join_all(["origin", "origin-proxied"].map(|name| case.deployment_available(name))).await?;
    try_join_all(["client1", "client2"].map(|name| case.pod_ready(name))).await?;
    case.daemon_set_ready("ingress").await.map(drop)
}

fn server(case: &Case, name: &str, image: &str) -> Value {
    let mut port = json!({"containerPort": 8443});
    if name == "origin" {
        port["hostPort"] = json!(HOST_PORT);
    }
    json!({
        "metadata": {"name": name},
        "spec": {
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {
                    "nodeSelector": {"kubernetes.io/hostname": SERVER_NODE},
                    "automountServiceAccountToken": false,
                    "terminationGracePeriodSeconds": 5,
                    "securityContext": {"runAsNonRoot": true, "runAsUser": 65532, "runAsGroup": 65532},
                    "containers": [{
                        "name": "site",
                        "image": image,
                        "imagePullPolicy": "Never",
                        "args": ["origin", "--config", "/etc/ja4/demo.yaml"],
                        "ports": [port],
                        // Listening is enough: with PROXY protocol a bare connection is an error that is counted.
                        "readinessProbe": {"tcpSocket": {"port": 8443}, "periodSeconds": 1},
                        "volumeMounts": [
                            {"name": "config", "mountPath": "/etc/ja4", "readOnly": true},
                            // The folder, never the socket: a new socket is another file.
                            {"name": "sockets", "mountPath": "/var/run/ja4"},
                        ],
                    }],
                    "volumes": [
                        {"name": "config", "configMap": {"name": name}},
                        {"name": "sockets", "hostPath": {"path": format!("/var/run/ja4/{}/demo", case.namespace)}},
                    ],
                },
            },
        },
    })
}

/// `HAProxy` on each node's own network, which passes TCP on.
async fn ingress(case: &Case) -> anyhow::Result<()> {
    let haproxy = case.nodes().program("haproxy")?;
    case.nodes().ctl(&["image", "localhost/haproxy:1", &haproxy])?;
    let mut config = "global\n  maxconn 2000\ndefaults\n  mode tcp\n  timeout connect 5s\n  timeout client 30s\n  timeout server 30s\n".to_owned();
    for (port, header) in INGRESS {
        let service = if header.is_empty() { "inside" } else { "proxied" };
        let address = case.service_address(service).await?;
        let _written = write!(
            config,
            "listen l{port}\n  bind :{port}\n  server origin {address}:443 {header}\n"
        );
    }
    case.apply::<ConfigMap>(json!({"metadata": {"name": "ingress"}, "data": {"haproxy.cfg": config}}))
        .await?;
    case.apply::<DaemonSet>(json!({
        "metadata": {"name": "ingress"},
        "spec": {
            "selector": {"matchLabels": {"app": "ingress"}},
            "template": {
                "metadata": {"labels": {"app": "ingress"}},
                "spec": {
                    "hostNetwork": true,
                    "automountServiceAccountToken": false,
                    "terminationGracePeriodSeconds": 1,
                    "containers": [{
                        "name": "haproxy",
                        "image": "localhost/haproxy:1",
                        "imagePullPolicy": "Never",
                        "args": ["-db", "-f", "/etc/haproxy/haproxy.cfg"],
                        "readinessProbe": {"tcpSocket": {"host": "127.0.0.1", "port": INGRESS[0].0}, "periodSeconds": 1},
                        "volumeMounts": [{"name": "config", "mountPath": "/etc/haproxy", "readOnly": true}],
                    }],
                    "volumes": [{"name": "config", "configMap": {"name": "ingress"}}],
                },
            },
        },
    }))
    .await
    .map(drop)
}

// ---- what the store got ----

fn seen(store: &Store) -> anyhow::Result<BTreeMap<String, Seen>> {
    let mut paths = BTreeMap::<String, Seen>::new();
    let requests = store.rows(
        "SELECT splitByChar(':', host)[1] AS name, count() AS requests,
             countIf(match IN ('exact', 'asof')) AS joined,
             groupUniqArrayIf(match_reason, match_reason != '') AS reasons,
             uniqExact((extractURLParameter(concat('?', query), '_cid'), conn_uid)) AS pairs,
             uniqExact(extractURLParameter(concat('?', query), '_cid')) AS ids, uniqExact(conn_uid) AS conns,
             arraySort(groupUniqArray(replaceOne(toString(src_ip), '::ffff:', ''))) AS clients
         FROM ja4_logs.http_logs GROUP BY host",
    )?;
    for row in requests {
        let list = |name: &str| -> Vec<String> {
            let items = row[name].as_array().into_iter().flatten();
            items.filter_map(Value::as_str).map(str::to_owned).collect()
        };
        let of = |name: &str| count(&row[name]);
        let seen = Seen {
            requests: of("requests"),
            joined: of("joined"),
            reasons: list("reasons"),
            // Unjoined requests have no connection to mix up.
            wrong: if of("joined") == of("requests") {
                of("pairs").abs_diff(of("ids")) + of("ids").abs_diff(of("conns"))
            } else {
                0
            },
            clients: list("clients"),
            tls_rows: 0,
        };
        paths.insert(row["name"].as_str().unwrap_or_default().to_owned(), seen);
    }
    for row in
        store.rows("SELECT sni, count() AS n FROM ja4_logs.tls_logs WHERE hello_index = 0 GROUP BY sni")?
    {
        if let Some(seen) = row["sni"].as_str().and_then(|name| paths.get_mut(name)) {
            seen.tls_rows = count(&row["n"]);
        }
    }
    Ok(paths)
}

/// What is known of requests without a connection, and of hellos from the same port.
fn unjoined(store: &Store, name: &str) -> anyhow::Result<String> {
    let requests = store.rows(&format!(
        "SELECT ts, recv_ts, src_port, match_reason, query FROM ja4_logs.http_logs
         WHERE match = 'none' AND startsWith(host, '{name}') ORDER BY ts LIMIT 6"
    ))?;
    let mut text = String::new();
    for request in requests {
        let port = count(&request["src_port"]);
        let hellos = store.rows(&format!(
            "SELECT ts, recv_ts, node, toString(src_ip) AS ip, src_port, views, confirmed, conn_flags FROM ja4_logs.tls_logs
             WHERE src_port = {port} OR arrayExists(view -> position(view, ':{port}>') > 0, views) ORDER BY ts LIMIT 6"
        ))?;
        let _written = writeln!(text, "  {request}");
        for hello in hellos {
            let _written = writeln!(text, "    {hello}");
        }
    }
    Ok(text)
}

fn address_of(pod: &Pod) -> anyhow::Result<String> {
    let address = pod.status.as_ref().and_then(|status| status.pod_ip.clone());
    address.context("a ready pod has an address")
}
