//! Configuration of `ja4-sensor run`: one documented struct, and what is checked of it.

use std::path::PathBuf;
use std::time::Duration;

use ja4_common::config::ProcessConfig;
use ja4_common::units::{Bytes, Span};
use sensor_flow::{FlowSettings, InvalidNetwork, MergeSettings, OwnNetworks};
use serde::{Deserialize, Serialize};

use crate::capture::links::AUTO;

/// The whole configuration.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct SensorConfig {
    /// Logs, admin address, ledger file.
    pub(crate) process: ProcessConfig,
    /// Where frames come from.
    pub(crate) capture: CaptureConfig,
    /// Budgets and timeouts of connections.
    pub(crate) flow: FlowConfig,
    /// Networks for the direction of a connection.
    pub(crate) networks: NetworksConfig,
    /// Where events go.
    pub(crate) output: OutputConfig,
}

/// Where frames come from: interfaces, or a file.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct CaptureConfig {
    /// Interfaces to capture on, such as `[eth0]`. `auto` stands for all physical ones and the host's ends of pods'
    /// interfaces, as they come and go. Default: none.
    pub(crate) interfaces: Vec<String>,
    /// A pcap or pcapng file to read instead; the process ends after it. Default: none.
    pub(crate) file: Option<PathBuf>,
    /// How fast a file is read. Default `recorded`.
    pub(crate) pace: Pace,
    /// Nanoseconds added to every time of a file. Default 0.
    pub(crate) offset_ns: i64,
    /// Moves a file's first packet to now; `offset_ns` is then added to that. Default false.
    pub(crate) shift_to_now: bool,
    /// Size of the kernel's ring of each interface. It lies beside the process's own memory. Raising it
    /// rides out longer bursts. Default 32MiB.
    pub(crate) buffer: Bytes,
    /// The same for each interface that `auto` found beside hardware: a node may have two hundred pods. Default 2MiB.
    pub(crate) pod_buffer: Bytes,
    /// Bytes captured of each frame. A hello with all its bytes must fit; offloads join segments up to 64
    /// KiB. Lowering it copies less on links with much bulk traffic. Default 262144.
    pub(crate) snaplen: Bytes,
    /// Capture frames that are not addressed to this host. Default true.
    pub(crate) promiscuous: bool,
    /// Filter in the kernel, in the language of `pcap-filter(7)`. What it drops is never seen: it must
    /// keep both directions of a connection. Default: none.
    pub(crate) filter: String,
    /// Longest time that frames wait in a block of the ring that is not full. Raising it saves CPU time and
    /// delays events. Default 50ms.
    pub(crate) block_timeout: Span,
}

/// How fast a file is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Pace {
    /// As it was recorded.
    Recorded,
    /// As fast as it goes.
    Unpaced,
}

impl Default for CaptureConfig {
    fn default() -> Self {
        Self {
            interfaces: Vec::new(),
            file: None,
            pace: Pace::Recorded,
            offset_ns: 0,
            shift_to_now: false,
            buffer: Bytes::mib(32),
            pod_buffer: Bytes::mib(2),
            snaplen: Bytes(262_144),
            promiscuous: true,
            filter: String::new(),
            block_timeout: Span::millis(50),
        }
    }
}

/// Budgets and timeouts of connections; the defaults need about 28 MiB in all when they are spent.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct FlowConfig {
    /// Most connections between SYN and confirmed hello, about 350 bytes each. Default 24576.
    pub(crate) opening_max: u32,
    /// Memory for parts of hellos. Default 4MiB.
    pub(crate) reassembly: Bytes,
    /// Most connections followed after their hello, 32 bytes each. Default 458752.
    pub(crate) tracked_max: u32,
    /// How long a SYN waits for the end of the handshake. Default 30s.
    pub(crate) handshake_timeout: Span,
    /// How long an open connection may be silent before its hello. Default 1m.
    pub(crate) hello_timeout: Span,
    /// How long a hello is kept in full to be confirmed. Default 10s.
    pub(crate) settle_timeout: Span,
    /// How long a followed connection may be silent; at most 90 days. Default 1h.
    pub(crate) idle_timeout: Span,
    /// Server ports that speak HTTP without TLS; each connection to them gives an `open` event. Default: none.
    pub(crate) plain_http_ports: Vec<u16>,
    /// Whether VLAN ids tell connections apart. Set to false where the two directions of one connection
    /// carry different tags. Default true.
    pub(crate) key_on_vlan: bool,
}

impl Default for FlowConfig {
    fn default() -> Self {
        let flow = FlowSettings::default();
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Self {
            opening_max: count(flow.n_opening_max),
            reassembly: Bytes(flow.reassembly_bytes_max as u64),
            tracked_max: count(flow.n_tracked_max),
            handshake_timeout: Span(flow.handshake_timeout),
            hello_timeout: Span(flow.hello_timeout),
            settle_timeout: Span(flow.settle_timeout),
            idle_timeout: Span(flow.idle_timeout),
            plain_http_ports: flow.plain_ports,
            key_on_vlan: flow.key_on_vlan,
        }
    }
}

/// Networks for the direction of a connection.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct NetworksConfig {
    /// Networks of our own servers and clients, such as `[10.0.0.0/8, 2001:db8::/32]`. A connection is
    /// `egress` if only its client is own, `internal` if both ends are, else `ingress`. Default: none.
    pub(crate) own: Vec<String>,
    /// Whether connections from own networks to others are reported: what our own programs fetch elsewhere. Default false.
    pub(crate) egress: bool,
}

/// Where events go.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct OutputConfig {
    /// The receiver's stream socket. Default /var/run/logcorr/network.socket.
    pub(crate) socket: PathBuf,
    /// Host name in events, the one that the receiver expects. Default: the system's.
    pub(crate) node: Option<String>,
    /// Memory for events that are not acknowledged yet; over it the oldest are dropped and counted.
    /// Default 8MiB.
    pub(crate) buffer: Bytes,
    /// How long the end waits for the receiver's acknowledgement. Default 5s.
    pub(crate) drain_timeout: Span,
}

impl Default for OutputConfig {
    fn default() -> Self {
        Self {
            socket: PathBuf::from("/var/run/logcorr/network.socket"),
            node: None,
            buffer: Bytes::mib(8),
            drain_timeout: Span::seconds(5),
        }
    }
}

/// Why a configuration makes no sense.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InvalidConfig {
    /// Neither interface nor file.
    #[error("nothing to capture: set capture.interfaces to a list such as [eth0], or capture.file")]
    NoInput,
    /// Both.
    #[error("both capture.interfaces and capture.file are set; give one of them")]
    TwoInputs,
    /// A network that is none.
    #[error("networks.own")]
    Network(#[from] InvalidNetwork),
    /// A number out of its range.
    #[error("{key} is {value}, allowed is {allowed}")]
    Range {
        key: &'static str,
        value: u64,
        allowed: &'static str,
    },
}

/// A configuration that makes sense.
#[derive(Debug, Clone)]
pub(crate) struct SensorSettings {
    pub(crate) input: Input,
    pub(crate) flow: FlowSettings,
    pub(crate) output: OutputConfig,
}

/// Where frames come from.
#[derive(Debug, Clone)]
pub(crate) enum Input {
    /// Live.
    Interfaces(LiveSettings),
    /// Recorded.
    File {
        path: PathBuf,
        pace: Pace,
        offset_ns: i64,
        shift_to_now: bool,
    },
}

/// How to capture.
#[derive(Debug, Clone)]
pub(crate) struct LiveSettings {
    /// Those that were named.
    pub(crate) interfaces: Vec<String>,
    /// Whether those that are found are captured on as well.
    pub(crate) is_auto: bool,
    /// Bytes of the ring of one interface.
    pub(crate) buffer_bytes: i32,
    /// The same for a pod's.
    pub(crate) pod_buffer_bytes: i32,
    pub(crate) snaplen_bytes: i32,
    pub(crate) promiscuous: bool,
    pub(crate) filter: Option<String>,
    pub(crate) block_timeout_ms: i32,
}

impl LiveSettings {
    /// How views are merged: none where there is one interface. Two interfaces hand over frames of one moment with a
    /// difference of up to two block times.
    pub(crate) fn merge(&self) -> Option<MergeSettings> {
        let block_timeout_ms = u64::try_from(self.block_timeout_ms).unwrap_or(0);
        (self.is_auto || self.interfaces.len() > 1 || self.interfaces.iter().any(|name| name == "any")).then(
            || MergeSettings {
                wait: Duration::from_millis(2 * block_timeout_ms + 100),
                ..MergeSettings::default()
            },
        )
    }
}

impl SensorConfig {
    /// Checks the configuration.
    pub(crate) fn validate(&self) -> Result<SensorSettings, InvalidConfig> {
        let own = self
            .networks
            .own
            .iter()
            .map(|text| text.parse())
            .collect::<Result<Vec<_>, _>>()?;
        Ok(SensorSettings {
            input: self.capture.validate()?,
            flow: FlowSettings {
                own: OwnNetworks(own),
                egress: self.networks.egress,
                ..self.flow.validate()?
            },
            output: self.output.clone(),
        })
    }
}

impl CaptureConfig {
    fn validate(&self) -> Result<Input, InvalidConfig> {
        match (&self.file, self.interfaces.is_empty()) {
            (None, true) => Err(InvalidConfig::NoInput),
            (Some(_), false) => Err(InvalidConfig::TwoInputs),
            (Some(path), true) => Ok(Input::File {
                path: path.clone(),
                pace: self.pace,
                offset_ns: self.offset_ns,
                shift_to_now: self.shift_to_now,
            }),
            (None, false) if self.interfaces.len() > usize::from(FlowSettings::INTERFACES_MAX) => {
                Err(InvalidConfig::Range {
                    key: "the number of capture.interfaces",
                    value: self.interfaces.len() as u64,
                    allowed: "1 to 255",
                })
            }
            (None, false) => Ok(Input::Interfaces(LiveSettings {
                interfaces: self
                    .interfaces
                    .iter()
                    .filter(|name| *name != AUTO)
                    .cloned()
                    .collect(),
                is_auto: self.interfaces.iter().any(|name| name == AUTO),
                // libpcap takes a C int; below a mebibyte the ring cannot hold two blocks.
                buffer_bytes: in_range("capture.buffer", self.buffer.0, 1 << 20, 1 << 30, "1MiB to 1GiB")?,
                pod_buffer_bytes: in_range(
                    "capture.pod_buffer",
                    self.pod_buffer.0,
                    1 << 20,
                    1 << 30,
                    "1MiB to 1GiB",
                )?,
                // The smallest holds headers, tags and a hello of TLS 1.2.
                snaplen_bytes: in_range("capture.snaplen", self.snaplen.0, 1024, 262_144, "1024 to 262144")?,
                promiscuous: self.promiscuous,
                filter: Some(self.filter.clone()).filter(|filter| !filter.is_empty()),
                block_timeout_ms: in_range(
                    "capture.block_timeout in milliseconds",
                    millis(self.block_timeout.0),
                    1,
                    1000,
                    "1ms to 1s",
                )?,
            })),
        }
    }
}

impl FlowConfig {
    fn validate(&self) -> Result<FlowSettings, InvalidConfig> {
        let count = |key, n: u32| in_range(key, u64::from(n), 16, 1 << 24, "16 to 16777216");
        let idle_s = self.idle_timeout.0.as_secs();
        if !(1..=90 * 86_400).contains(&idle_s) {
            return Err(InvalidConfig::Range {
                key: "flow.idle_timeout in seconds",
                value: idle_s,
                allowed: "1s to 90d",
            });
        }
        Ok(FlowSettings {
            n_opening_max: as_usize(count("flow.opening_max", self.opening_max)?),
            // Less than one longest hello would refuse hellos that are allowed.
            reassembly_bytes_max: as_usize(in_range(
                "flow.reassembly",
                self.reassembly.0,
                128 << 10,
                1 << 30,
                "128KiB to 1GiB",
            )?),
            n_tracked_max: as_usize(count("flow.tracked_max", self.tracked_max)?),
            handshake_timeout: self.handshake_timeout.0,
            hello_timeout: self.hello_timeout.0,
            settle_timeout: self.settle_timeout.0,
            idle_timeout: self.idle_timeout.0,
            plain_ports: self.plain_http_ports.clone(),
            key_on_vlan: self.key_on_vlan,
            ..FlowSettings::default()
        })
    }
}

fn in_range(
    key: &'static str,
    value: u64,
    min: i32,
    max: i32,
    allowed: &'static str,
) -> Result<i32, InvalidConfig> {
    let checked = i32::try_from(value)
        .ok()
        .filter(|value| (min..=max).contains(value));
    checked.ok_or(InvalidConfig::Range { key, value, allowed })
}

fn as_usize(value: i32) -> usize {
    usize::try_from(value).expect("checked to be positive")
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn parse(text: &str) -> SensorConfig {
        ja4_common::config::parse(text, Path::new("sensor.yaml")).unwrap()
    }

    #[track_caller]
    fn check_refused(text: &str, expected: &str) {
        let error = ja4_common::exit::chain(&parse(text).validate().unwrap_err());
        assert!(error.contains(expected), "{error}");
    }

    #[test]
    fn the_sample_is_valid_and_holds_the_defaults() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/samples/sensor.yaml");
        let sample: SensorConfig = ja4_common::config::load(&path).unwrap();
        sample.validate().unwrap();
        let mut defaults = SensorConfig {
            process: sample.process.clone(),
            ..SensorConfig::default()
        };
        defaults.capture.interfaces.clone_from(&sample.capture.interfaces);
        defaults.networks = sample.networks.clone();
        defaults
            .flow
            .plain_http_ports
            .clone_from(&sample.flow.plain_http_ports);
        let print = |config: &SensorConfig| ja4_common::config::print(config).unwrap();
        assert_eq!(print(&sample), print(&defaults));
    }

    #[test]
    fn what_makes_no_sense_names_key_and_remedy() {
        check_refused("", "set capture.interfaces to a list such as [eth0]");
        check_refused("capture: {interfaces: [lo], file: x.pcap}", "give one of them");
        check_refused(
            "capture: {interfaces: [lo], buffer: 1KiB}",
            "capture.buffer is 1024, allowed is 1MiB to 1GiB",
        );
        check_refused("capture: {interfaces: [lo], snaplen: 1GiB}", "capture.snaplen");
        check_refused(
            "capture: {interfaces: [lo], block_timeout: 1h}",
            "capture.block_timeout",
        );
        check_refused(
            "capture: {interfaces: [lo]}\nflow: {tracked_max: 0}",
            "flow.tracked_max",
        );
        check_refused(
            "capture: {interfaces: [lo]}\nflow: {idle_timeout: 100d}",
            "flow.idle_timeout in seconds is 8640000, allowed is 1s to 90d",
        );
        check_refused(
            "capture: {interfaces: [lo]}\nnetworks: {own: [localhost]}",
            "networks.own: \"localhost\"",
        );
    }

    #[test]
    fn an_unknown_key_names_the_nearest() {
        let error =
            ja4_common::config::parse::<SensorConfig>("capture: {interface: [lo]}", Path::new("sensor.yaml"));
        assert!(
            error
                .unwrap_err()
                .to_string()
                .contains("did you mean \"interfaces\"?")
        );
    }
}
