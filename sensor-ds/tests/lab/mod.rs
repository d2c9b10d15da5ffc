//! Two network namespaces with a cable between them, a sensor, a receiver for its events, and clients.
//!
//! ```text
//!  outside: clients ── far ═══════ near ── inside: TLS server, sensor ── UNIX socket ── receiver (here)
//! ```
#![allow(dead_code, reason = "each test file uses its own part")]

pub(crate) mod receiver;
pub(crate) mod sensor;
pub(crate) mod server;

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// How long anything may take that must come: a busy machine with two cores is slow, not wrong. Starts of more
/// than half a minute were seen on one.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// Asks again until there is an answer.
#[track_caller]
pub(crate) fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < until, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A namespace lives as long as the process in it, which ends when its standard input does.
struct Holder {
    child: Child,
    _stdin: ChildStdin,
}

impl Holder {
    fn start(command: &mut Command) -> Result<Self, String> {
        let mut child = command
            .args(["sh", "-c", "echo up; exec cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{command:?}: {error}"))?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let stdin = child.stdin.take().unwrap();
        if line == "up\n" {
            return Ok(Self { child, _stdin: stdin });
        }
        drop(stdin);
        let output = child.wait_with_output().unwrap();
        Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// Which end of the cable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// Where the server and the sensor are.
    Inside,
    /// Where the clients are.
    Outside,
    /// Behind the inside, as a pod on a node.
    Pod,
}

/// The two namespaces. Gone when dropped.
pub(crate) struct Lab {
    inside: Holder,
    outside: Holder,
    pod: Option<Holder>,
    in_user_namespace: bool,
}

impl Lab {
    /// The namespaces with the cable; `None`, with the reason on standard output, where they cannot be made.
    pub(crate) fn new() -> Option<Self> {
        let lab = match Self::unshare() {
            Ok(lab) => lab,
            Err(reason) => {
                println!("skipped: no network namespace can be made here: {reason}");
                return None;
            }
        };
        if let Err(reason) = lab.try_ip(Place::Inside, "link add near type veth peer name far") {
            println!("skipped: no cable can be made here: {reason}");
            return None;
        }
        lab.ip(Place::Inside, "link delete near");
        for place in [Place::Inside, Place::Outside] {
            lab.ip(place, "link set lo up");
        }
        lab.plug();
        Some(lab)
    }

    /// False, with the reason on standard output, where the kernel gives no IPv6 addresses.
    pub(crate) fn has_ipv6(&self) -> bool {
        let has = self
            .ip(Place::Inside, "-6 address show dev near")
            .contains("fd09::1");
        if !has {
            println!("left out: IPv6, which is switched off here");
        }
        has
    }

    /// Adds a namespace behind the inside, joined by `pod0` there and `eth0` in it: `10.10.0.1` and `10.10.0.2`.
    pub(crate) fn add_pod(&mut self) {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.inside.child.id().to_string()]);
        if self.in_user_namespace {
            command.args(["--user", "--preserve-credentials"]);
        } else {
            command.arg("--net");
        }
        let pod = Holder::start(command.args(["unshare", "--net"])).unwrap();
        let pid = pod.child.id();
        self.pod = Some(pod);
        self.ip(
            Place::Inside,
            &format!("link add pod0 type veth peer name eth0 netns {pid}"),
        );
        for (place, device, host) in [(Place::Inside, "pod0", 1), (Place::Pod, "eth0", 2)] {
            self.ip(place, &format!("address add 10.10.0.{host}/24 dev {device}"));
            self.ip(place, &format!("link set {device} up"));
        }
    }

    fn unshare() -> Result<Self, String> {
        let is_root = rustix::process::geteuid().is_root();
        let plain = || Holder::start(Command::new("unshare").arg("--net"));
        let mapped = || Holder::start(Command::new("unshare").args(["--map-root-user", "--net"]));
        let (inside, in_user_namespace) = match is_root.then(plain) {
            Some(Ok(inside)) => (inside, false),
            _ => (mapped()?, true),
        };
        let pid = inside.child.id().to_string();
        let mut command = Command::new("nsenter");
        command.args(["--target", &pid]);
        if in_user_namespace {
            command.args(["--user", "--preserve-credentials"]);
        } else {
            command.arg("--net");
        }
        let outside = Holder::start(command.args(["unshare", "--net"]))?;
        Ok(Self {
            inside,
            outside,
            pod: None,
            in_user_namespace,
        })
    }

    /// Lays the cable and gives both ends their addresses: `10.9.0.1` and `fd09::1` inside, `10.9.0.2` and
    /// `fd09::2` outside.
    pub(crate) fn plug(&self) {
        let outside = self.outside.child.id();
        self.ip(
            Place::Inside,
            &format!("link add near type veth peer name far netns {outside}"),
        );
        self.address(Place::Inside, "near", 0);
        self.address(Place::Outside, "far", 0);
    }

    /// Adds VLAN `id` on both ends, with addresses in network `10.9.ID.0` and `fd09:ID::`. False, with the
    /// reason on standard output, where the kernel has no VLAN devices.
    pub(crate) fn add_vlan(&self, id: u8) -> bool {
        for (place, device) in [(Place::Inside, "near"), (Place::Outside, "far")] {
            let arguments = format!("link add link {device} name {device}.{id} type vlan id {id}");
            if let Err(reason) = self.try_ip(place, &arguments) {
                println!("left out: real clients on a VLAN, as this kernel makes no VLAN device: {reason}");
                return false;
            }
            self.address(place, &format!("{device}.{id}"), id);
        }
        true
    }

    fn address(&self, place: Place, device: &str, network: u8) {
        let host = if place == Place::Inside { 1 } else { 2 };
        let v6 = if network == 0 {
            String::new()
        } else {
            format!(":{network}")
        };
        self.ip(
            place,
            &format!("address add 10.9.{network}.{host}/24 dev {device}"),
        );
        // Fails where IPv6 is switched off; `has_ipv6` tells.
        let _added = self.try_ip(
            place,
            &format!("address add fd09{v6}::{host}/64 dev {device} nodad"),
        );
        self.ip(place, &format!("link set {device} up"));
    }

    /// A process in a namespace, which `ip` takes for it.
    pub(crate) fn pid(&self, place: Place) -> u32 {
        self.holder(place).child.id()
    }

    fn holder(&self, place: Place) -> &Holder {
        match place {
            Place::Inside => &self.inside,
            Place::Outside => &self.outside,
            Place::Pod => self.pod.as_ref().expect("the pod was added"),
        }
    }

    /// `ip` with arguments separated by spaces.
    #[track_caller]
    pub(crate) fn ip(&self, place: Place, arguments: &str) -> String {
        self.try_ip(place, arguments)
            .unwrap_or_else(|reason| panic!("ip {arguments}: {reason}"))
    }

    fn try_ip(&self, place: Place, arguments: &str) -> Result<String, String> {
        let output = self
            .command(place, "ip")
            .args(arguments.split(' '))
            .output()
            .unwrap();
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
    }

    /// Frames that a device has sent and received.
    pub(crate) fn n_frames(&self, place: Place, device: &str) -> u64 {
        let text = self.ip(place, &format!("-j -s link show dev {device}"));
        let shown: serde_json::Value = serde_json::from_str(&text).unwrap();
        let stats = &shown[0]["stats64"];
        stats["rx"]["packets"].as_u64().unwrap() + stats["tx"]["packets"].as_u64().unwrap()
    }

    /// A command that runs in a namespace.
    pub(crate) fn command(&self, place: Place, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.pid(place).to_string(), "--net"]);
        if self.in_user_namespace {
            command.args(["--user", "--preserve-credentials"]);
        }
        command.arg("--").arg(program.as_ref());
        command
    }

    /// Sends frames from outside, byte for byte, by a packet socket.
    pub(crate) fn inject(&self, frames: &[Vec<u8>]) {
        const SEND: &str = "import socket, sys\n\
            s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)\n\
            s.bind(('far', 0))\n\
            for line in sys.stdin: s.send(bytes.fromhex(line))\n";
        let mut child = self
            .command(Place::Outside, "python3")
            .args(["-c", SEND])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        for frame in frames {
            writeln!(stdin, "{}", ja4_model::connection::Hex(frame)).unwrap();
        }
        drop(stdin);
        assert!(child.wait().unwrap().success());
    }
}

/// Standard output of a command that must have ended well.
#[track_caller]
pub(crate) fn check(output: &Output, what: &str) -> String {
    assert!(
        output.status.success(),
        "{what}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}
