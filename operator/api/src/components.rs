//! The parts of a pipeline that run: sensor, correlator, detectors, dashboard.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::scalars::{
    Annotations, HostName, Interface, Labels, Network, ObjectName, Resources, Schedule, SecretKey, Size,
    Toleration,
};

/// Where pods may run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Placing {
    /// Labels that a node must have; none for every node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_selector: Option<Labels>,
    /// Taints that the pods may run on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub tolerations: Option<Vec<Toleration>>,
    /// Name of a priority class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority_class_name: Option<ObjectName>,
}

/// Captures TLS handshakes on every node that it is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!('auto' in self.interfaces) || self.interfaces.size() == 1")
        .message("interfaces: auto already means physical ones and those of pods; name either auto or the interfaces"),
)]
pub struct Sensor {
    /// True to have no sensor for now. Default: false.
    #[serde(default)]
    pub suspend: bool,
    /// How the sensor gets the one right that it needs. Default: `NetRaw`.
    #[serde(default)]
    pub profile: SensorProfile,
    /// Interfaces to capture on. Default: `auto`, which is physical ones and those of pods.
    #[serde(default = "auto")]
    #[schemars(length(min = 1, max = 16))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub interfaces: Vec<Interface>,
    /// A pcap-filter(7) expression; it must keep both directions of a connection. Default: everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub filter: Option<String>,
    /// Networks that are ours, from which the direction of a connection follows. Default: none, all is from outside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = Rule::new("self.all(network, isCIDR(network))")
        .message("ownNetworks: one is no network; write it as 10.0.0.0/8 or fd00::/8"))]
    pub own_networks: Option<Vec<Network>>,
    /// Also report what programs in our own networks fetch elsewhere. Default: false.
    #[serde(default)]
    pub egress: bool,
    /// Ports of servers that speak HTTP without TLS. Default: 80.
    #[serde(default = "plain_http_ports")]
    #[schemars(length(max = 16), inner(range(min = 1, max = 65535)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub plain_http_ports: Vec<u16>,
    /// The kernel's ring of each physical interface. Default: 32Mi. Raising it survives longer bursts.
    #[serde(default = "buffer")]
    #[x_kube(validation = Rule::new("quantity(self).compareTo(quantity('1Mi')) >= 0 && quantity(self).compareTo(quantity('1Gi')) <= 0")
        .message("buffer: between 1Mi and 1Gi"))]
    pub buffer: Size,
    /// The ring of each interface of a pod. Default: 2Mi.
    #[serde(default = "pod_buffer")]
    #[x_kube(validation = Rule::new("quantity(self).compareTo(quantity('256Ki')) >= 0 && quantity(self).compareTo(quantity('256Mi')) <= 0")
        .message("podBuffer: between 256Ki and 256Mi"))]
    pub pod_buffer: Size,
    /// Disk on each node for events while the correlator is away. Default: 256Mi. Over it the oldest are dropped and counted.
    #[serde(default = "spool")]
    #[x_kube(validation = Rule::new("quantity(self).compareTo(quantity('4Mi')) >= 0")
        .message("spool: 4Mi at least"))]
    pub spool: Size,
    /// Port on each node with the metrics of sensor and forwarder; another pipeline on the same nodes needs another. Default: 9102.
    #[serde(default = "metrics_port")]
    #[schemars(range(min = 1024, max = 65535))]
    pub metrics_port: u16,
    /// Which nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placing: Option<Placing>,
    /// Processor and memory of the container that captures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// Processor and memory of the container that forwards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forward_resources: Option<Resources>,
}

impl Default for Sensor {
    fn default() -> Self {
        Self {
            suspend: false,
            profile: SensorProfile::default(),
            interfaces: auto(),
            filter: None,
            own_networks: None,
            egress: false,
            plain_http_ports: plain_http_ports(),
            buffer: buffer(),
            pod_buffer: pod_buffer(),
            spool: spool(),
            metrics_port: metrics_port(),
            placing: None,
            resources: None,
            forward_resources: None,
        }
    }
}

/// How the sensor gets the right to capture.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SensorProfile {
    /// User 0 in the container, every capability dropped but `NET_RAW`, no way to more.
    #[default]
    NetRaw,
    /// User 65532 and a file capability; needs `allowPrivilegeEscalation`.
    FileCap,
}

/// Joins requests with connections and writes the rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.placement == oldSelf.placement")
        .message("correlator.placement cannot change: what waits in the spools would stay behind; make another pipeline and delete this one"),
)]
pub struct Correlator {
    /// True to have no correlator for now: nodes spool. Default: false.
    #[serde(default)]
    pub suspend: bool,
    /// Where the join happens. Default: `Central`.
    #[serde(default)]
    pub placement: Placement,
    /// Memory for open connections. Default: 512Mi.
    #[serde(default = "connection_memory")]
    pub connection_memory: Size,
    /// Memory for requests that wait for their connection. Default: 128Mi.
    #[serde(default = "pending_memory")]
    pub pending_memory: Size,
    /// Batches that wait for the store.
    #[serde(default = "correlator_spool")]
    pub spool: Volume,
    /// Which nodes; only with placement `Central`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placing: Option<Placing>,
    /// Processor and memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
}

impl Default for Correlator {
    fn default() -> Self {
        Self {
            suspend: false,
            placement: Placement::default(),
            connection_memory: connection_memory(),
            pending_memory: pending_memory(),
            spool: correlator_spool(),
            placing: None,
            resources: None,
        }
    }
}

/// Where requests and connections are joined.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Placement {
    /// In one correlator for all nodes.
    #[default]
    Central,
    /// On each node: right where TLS ends on the node that the client's packets reach.
    Node,
}

/// A disk that outlasts its pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("quantity(self.size).compareTo(quantity('64Mi')) >= 0")
        .message("size: 64Mi at least"),
    validation = Rule::new("quantity(self.size).compareTo(quantity(oldSelf.size)) >= 0")
        .message("size: a volume cannot shrink; make another pipeline with a smaller one and move the data"),
    validation = Rule::new("has(self.storageClassName) == has(oldSelf.storageClassName) && (!has(self.storageClassName) || self.storageClassName == oldSelf.storageClassName)")
        .message("storageClassName cannot change: the volume exists; make another pipeline and move the data"),
)]
pub struct Volume {
    /// How large.
    pub size: Size,
    /// Class of the volume; without it the cluster's default class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_class_name: Option<ObjectName>,
}

/// Scores clients again and again. What it finds out it keeps in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Detector {
    /// Name, which appears in that of its Jobs.
    #[schemars(
        length(min = 1, max = 16),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
    )]
    pub name: String,
    /// True to run no cycles for now. Default: false.
    #[serde(default)]
    pub suspend: bool,
    /// When cycles begin, in UTC. Default: every five minutes.
    #[serde(default = "schedule")]
    pub schedule: Schedule,
    /// Score the last 24 hours beside the last hour. Default: true.
    #[serde(default = "yes")]
    pub multiwindow: bool,
    /// New incidents a day, at most: a ceiling, never a quota. Default: 20.
    #[serde(default = "alert_budget")]
    #[schemars(range(min = 0, max = 100_000))]
    pub alert_budget_per_day: u32,
    /// Most clients of a window that are explained. Default: 50000.
    #[serde(default = "explain_max")]
    #[schemars(range(min = 0, max = 10_000_000))]
    pub explain_max: u32,
    /// Which nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placing: Option<Placing>,
    /// Processor and memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
}

impl Default for Detector {
    fn default() -> Self {
        Self {
            name: "main".to_owned(),
            suspend: false,
            schedule: schedule(),
            multiwindow: true,
            alert_budget_per_day: alert_budget(),
            explain_max: explain_max(),
            placing: None,
            resources: None,
        }
    }
}

/// The analyst's pages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!(has(self.ingress) && has(self.httpRoute))")
        .message("dashboard: name either ingress or httpRoute, not both"),
)]
pub struct Dashboard {
    /// False for a pipeline without pages. Default: true.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// True to stop it for now. Default: false.
    #[serde(default)]
    pub suspend: bool,
    /// How people reach it by an Ingress. Without ingress and httpRoute it listens inside its pod only, for `kubectl port-forward`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress: Option<DashboardIngress>,
    /// How people reach it by a Gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_route: Option<DashboardRoute>,
    /// Networks of the proxies in front, whose X-Forwarded-For is believed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    #[x_kube(validation = Rule::new("self.all(network, isCIDR(network))")
        .message("trustedProxies: one is no network; write it as 10.0.0.0/8 or fd00::/8"))]
    pub trusted_proxies: Option<Vec<Network>>,
    /// Which nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placing: Option<Placing>,
    /// Processor and memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
}

impl Default for Dashboard {
    fn default() -> Self {
        Self {
            enabled: true,
            suspend: false,
            ingress: None,
            http_route: None,
            trusted_proxies: None,
            placing: None,
            resources: None,
        }
    }
}

/// An Ingress in front of the dashboard. It must end TLS: the pages' cookies are for https only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct DashboardIngress {
    /// Name that people type.
    pub host: HostName,
    /// Class of the Ingress; without it the cluster's default class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class_name: Option<ObjectName>,
    /// Secret with the certificate for the name; without it the controller's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls_secret_name: Option<ObjectName>,
    /// Annotations for the controller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<Annotations>,
}

/// An `HTTPRoute` of the Gateway API in front of the dashboard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct DashboardRoute {
    /// Name that people type.
    pub host: HostName,
    /// The Gateway's name.
    pub gateway: ObjectName,
    /// The Gateway's namespace; without it the pipeline's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 63),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
    )]
    pub gateway_namespace: Option<String>,
    /// The Gateway's listener; without it every one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub section_name: Option<ObjectName>,
}

/// Where requests come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Sources {
    /// Users (uid) of web servers that may write to the sockets of their node. Default: 33, 48, 101, 65532, which are those of the
    /// usual images of Apache, nginx and distroless programs.
    #[serde(default = "web_server_uids")]
    #[schemars(length(min = 1, max = 32), inner(range(min = 0, max = 4_294_967_294_u32)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub web_server_uids: Vec<u32>,
    /// Web servers that may not mount a folder of their node: each has a name and a token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub ingest: Option<Vec<IngestSource>>,
}

impl Default for Sources {
    fn default() -> Self {
        Self {
            web_server_uids: web_server_uids(),
            ingest: None,
        }
    }
}

/// A web server that sends its requests over TLS with a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IngestSource {
    /// Name of the source, which its rows carry.
    #[schemars(
        length(min = 1, max = 32),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
    )]
    pub name: String,
    /// Its token, 32 characters or more.
    pub token: SecretKey,
}

pub(crate) fn yes() -> bool {
    true
}

fn auto() -> Vec<Interface> {
    vec![Interface::from("auto")]
}

fn plain_http_ports() -> Vec<u16> {
    vec![80]
}

fn buffer() -> Size {
    Size::from("32Mi")
}

fn pod_buffer() -> Size {
    Size::from("2Mi")
}

fn spool() -> Size {
    Size::from("256Mi")
}

fn metrics_port() -> u16 {
    9102
}

fn connection_memory() -> Size {
    Size::from("512Mi")
}

fn pending_memory() -> Size {
    Size::from("128Mi")
}

fn correlator_spool() -> Volume {
    Volume {
        size: Size::from("2Gi"),
        storage_class_name: None,
    }
}

fn schedule() -> Schedule {
    Schedule::from("*/5 * * * *")
}

fn alert_budget() -> u32 {
    20
}

fn explain_max() -> u32 {
    50_000
}

fn web_server_uids() -> Vec<u32> {
    vec![33, 48, 101, 65532]
}
