//! Where everything of one pipeline lies: its folder, its sockets and its ports.

use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

/// Ports are the base port plus an offset, so that one option moves them all. With the default base 8000 the
/// store has 8123 and the demo's site 8443, the numbers their users expect. The base itself is the dashboard's.
pub(crate) const BASE_PORT: u16 = 8000;
const STORE_HTTP: u16 = 123;
const DEMO_HTTPS: u16 = 443;
/// On each address of a person of the demo, not on the pipeline's own.
const DEMO_PROXY: u16 = 442;

/// `sockaddr_un` holds 108 bytes with the closing zero (unix(7)).
const SOCKET_PATH_MAX_BYTES: usize = 107;

/// Folders and addresses of one pipeline.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    data: PathBuf,
    base: SocketAddr,
}

impl Layout {
    /// Makes the folders, all for this user only.
    ///
    /// # Errors
    /// When a folder cannot be made, the path is too long for a socket, or the ports would pass 65535.
    pub(crate) fn prepare(data: &Path, base: SocketAddr) -> anyhow::Result<Self> {
        ports(base)?;
        make_dir(data)?;
        let data = data
            .canonicalize()
            .with_context(|| format!("could not resolve {}", data.display()))?;
        let layout = Self { data, base };
        for folder in ["config", "run", "store", "spool"] {
            make_dir(&layout.data.join(folder))?;
        }
        let socket = layout.network_socket();
        if socket.as_os_str().len() > SOCKET_PATH_MAX_BYTES {
            bail!(
                "{} is longer than the {SOCKET_PATH_MAX_BYTES} bytes a socket's path may have; choose a shorter folder with --data",
                socket.display()
            );
        }
        Ok(layout)
    }

    pub(crate) fn config(&self, process: &str) -> PathBuf {
        self.data.join("config").join(format!("{process}.yaml"))
    }

    /// The token of a class of client; the store makes it at its first start.
    pub(crate) fn token(&self, class: &str) -> PathBuf {
        self.store_data().join("tokens").join(class)
    }

    pub(crate) fn store_data(&self) -> PathBuf {
        self.data.join("store")
    }

    /// Key of the hashes that stand for secrets; the correlator makes it at its first start.
    pub(crate) fn redaction_key(&self) -> PathBuf {
        self.data.join("redaction.key")
    }

    /// The demo site's certificate.
    pub(crate) fn site_data(&self) -> PathBuf {
        self.data.join("site")
    }

    /// Where the recording that comes with us is unpacked: packets and requests.
    pub(crate) fn recording(&self) -> (PathBuf, PathBuf) {
        (
            self.data.join("recording.pcap"),
            self.data.join("recording.jsonl"),
        )
    }

    /// Where the demo's yesterday is unpacked: packets and requests.
    pub(crate) fn yesterday(&self) -> (PathBuf, PathBuf) {
        (
            self.data.join("yesterday.pcap"),
            self.data.join("yesterday.jsonl"),
        )
    }

    /// Who was what in it.
    pub(crate) fn yesterday_truth(&self) -> PathBuf {
        self.data.join("yesterday.truth.json")
    }

    /// Says that yesterday is in the store, and when it was.
    pub(crate) fn yesterday_marker(&self) -> PathBuf {
        self.data.join("yesterday.json")
    }

    /// Who is what among the demo's live clients. Only the dashboard and the summary read it.
    pub(crate) fn truth(&self) -> PathBuf {
        self.data.join("truth.json")
    }

    /// The dashboard's own folder.
    pub(crate) fn dashboard_data(&self) -> PathBuf {
        self.data.join("dashboard")
    }

    /// The one-time link of the local administrator, written by the dashboard.
    pub(crate) fn login_link(&self) -> PathBuf {
        self.data.join("run").join("login-link")
    }

    pub(crate) fn spool(&self) -> PathBuf {
        self.data.join("spool")
    }

    pub(crate) fn network_socket(&self) -> PathBuf {
        self.data.join("run").join("network.socket")
    }

    pub(crate) fn http_socket(&self) -> PathBuf {
        self.data.join("run").join("http.socket")
    }

    pub(crate) fn http_stream(&self) -> PathBuf {
        self.data.join("run").join("http.stream")
    }

    pub(crate) fn ledger_file(&self, process: &str) -> PathBuf {
        self.data.join("run").join(format!("{process}.ledger.json"))
    }

    pub(crate) fn pid_file(&self, process: &str) -> PathBuf {
        self.data.join("run").join(format!("{process}.pid"))
    }

    pub(crate) fn store_http(&self) -> SocketAddr {
        self.at(STORE_HTTP)
    }

    pub(crate) fn demo_https(&self) -> SocketAddr {
        self.at(DEMO_HTTPS)
    }

    /// Where the dashboard's pages are.
    pub(crate) const fn dashboard_http(&self) -> SocketAddr {
        self.base
    }

    /// Port of the proxies that give the demo's people their addresses.
    pub(crate) fn demo_proxy_port(&self) -> u16 {
        self.at(DEMO_PROXY).port()
    }

    /// The admin endpoint of a process.
    pub(crate) fn admin(&self, process: Process) -> SocketAddr {
        self.at(process.admin_offset())
    }

    fn at(&self, offset: u16) -> SocketAddr {
        above(self.base, offset).expect("the highest port was checked in prepare")
    }

    /// Takes the folder for this process until the returned file is dropped.
    ///
    /// # Errors
    /// When another `ja4 up` has it.
    pub(crate) fn lock(&self) -> anyhow::Result<std::fs::File> {
        let path = self.data.join("run").join("lock");
        let file = std::fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .mode(0o600)
            .open(&path)
            .with_context(|| format!("could not open {}", path.display()))?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(std::fs::TryLockError::WouldBlock) => bail!(
                "another `ja4 up` runs on {}; stop it or choose another folder with --data",
                self.data.display()
            ),
            Err(std::fs::TryLockError::Error(error)) => {
                Err(error).with_context(|| format!("could not lock {}", path.display()))
            }
        }
    }
}

/// The processes that `ja4 up` starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Process {
    Store,
    Correlator,
    /// Reads the packets of the demo's yesterday.
    PastSensor,
    /// Feeds the requests of the demo's yesterday.
    PastReplay,
    Detector,
    Dashboard,
    Sensor,
    /// Feeds recorded requests.
    Replay,
    Origin,
    Clients,
}

impl Process {
    /// In the order of their start.
    pub(crate) const ALL: [Self; 10] = [
        Self::Store,
        Self::Correlator,
        Self::PastSensor,
        Self::PastReplay,
        Self::Detector,
        Self::Dashboard,
        Self::Sensor,
        Self::Replay,
        Self::Origin,
        Self::Clients,
    ];

    /// The name in the summary, in messages and of its configuration file.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Store => "ja4-clickhouse",
            Self::Correlator => "ja4-correlator",
            Self::PastSensor => "ja4-sensor-yesterday",
            Self::PastReplay => "ja4-demo-yesterday",
            Self::Detector => "ja4-detector",
            Self::Dashboard => "ja4-dashboard",
            Self::Sensor => "ja4-sensor",
            Self::Replay => "ja4-demo-replay",
            Self::Origin => "ja4-demo-origin",
            Self::Clients => "ja4-demo-clients",
        }
    }

    /// In front of its lines.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Store => "store",
            Self::Correlator => "correlator",
            Self::PastSensor | Self::PastReplay => "yesterday",
            Self::Detector => "detector",
            Self::Dashboard => "dashboard",
            Self::Sensor => "sensor",
            Self::Replay => "replay",
            Self::Origin => "site",
            Self::Clients => "clients",
        }
    }

    /// Its admin endpoint, above the base port.
    const fn admin_offset(self) -> u16 {
        match self {
            Self::Store => 91,
            Self::Correlator => 92,
            Self::PastSensor => 98,
            Self::PastReplay => 99,
            Self::Detector => 80,
            Self::Dashboard => 97,
            Self::Sensor => 93,
            Self::Replay => 94,
            Self::Origin => 95,
            Self::Clients => 96,
        }
    }
}

/// Every address of the block that begins at `base`, with the process that needs it.
///
/// # Errors
/// When the block would pass the last port.
pub(crate) fn ports(base: SocketAddr) -> anyhow::Result<Vec<(SocketAddr, Process)>> {
    let admins = Process::ALL.map(|process| (process.admin_offset(), process));
    let offsets = admins.into_iter().chain([
        (0, Process::Dashboard),
        (STORE_HTTP, Process::Store),
        (DEMO_HTTPS, Process::Origin),
    ]);
    offsets
        .map(|(offset, process)| Ok((above(base, offset)?, process)))
        .collect()
}

fn above(base: SocketAddr, offset: u16) -> anyhow::Result<SocketAddr> {
    match base.port().checked_add(offset) {
        Some(port) => Ok(SocketAddr::new(base.ip(), port)),
        None => bail!(
            "--listen {base}: the port must be at most {}, the highest one used is {DEMO_HTTPS} above it",
            u16::MAX - DEMO_HTTPS
        ),
    }
}

/// Refuses a port that something else still listens on after `patience`: what an earlier run left may hold its port for
/// a moment after its end.
///
/// # Errors
/// When the address cannot be bound, with who needs it and what to do.
pub(crate) fn await_free(addr: SocketAddr, for_whom: &str, patience: Duration) -> anyhow::Result<()> {
    let deadline = Instant::now() + patience;
    loop {
        match require_free(addr, for_whom) {
            Err(_) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(50)),
            answer => return answer,
        }
    }
}

/// Refuses a port that something else listens on.
///
/// # Errors
/// When the address cannot be bound, with who needs it and what to do.
pub(crate) fn require_free(addr: SocketAddr, for_whom: &str) -> anyhow::Result<()> {
    match TcpListener::bind(addr) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => bail!(
            "port {addr}, which {for_whom} needs, is in use; stop what listens there (ss -ltnp 'sport = :{}') or move all ports with --listen {}:PORT",
            addr.port(),
            addr.ip()
        ),
        Err(error) => Err(error).with_context(|| {
            format!("{for_whom} could not listen on {addr}; choose another address with --listen")
        }),
    }
}

fn make_dir(path: &Path) -> anyhow::Result<()> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| {
            format!(
                "could not make the folder {}; choose another with --data",
                path.display()
            )
        })
}

/// Writes a file that only this user may read, whole or not at all.
///
/// # Errors
/// When the file cannot be written; a full disk is named as such by the system's own message.
pub(crate) fn write_private(path: &Path, text: &[u8]) -> anyhow::Result<()> {
    use std::io::Write as _;
    let partial = path.with_extension("partial");
    let write = || -> std::io::Result<()> {
        let mut file = std::fs::OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o600)
            .open(&partial)?;
        file.write_all(text)?;
        file.sync_all()?;
        std::fs::rename(&partial, path)
    };
    write().with_context(|| format!("could not write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    #[test]
    fn the_default_ports_are_the_ones_that_people_know() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::prepare(dir.path(), base(BASE_PORT)).unwrap();
        assert_eq!(layout.store_http().port(), 8123);
        assert_eq!(layout.demo_https().port(), 8443);
    }

    #[test]
    fn a_base_port_too_high_for_its_block_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let error = Layout::prepare(dir.path(), base(65_200)).unwrap_err();
        assert!(error.to_string().contains("must be at most 65092"), "{error}");
    }

    #[test]
    fn a_folder_too_deep_for_a_socket_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let error = Layout::prepare(&dir.path().join("d".repeat(100)), base(8000)).unwrap_err();
        assert!(
            error.to_string().contains("choose a shorter folder with --data"),
            "{error}"
        );
    }

    #[test]
    fn a_second_instance_on_one_folder_is_refused_until_the_first_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::prepare(dir.path(), base(8000)).unwrap();
        let first = layout.lock().unwrap();
        let error = layout.lock().unwrap_err();
        assert!(
            error.to_string().starts_with("another `ja4 up` runs on "),
            "{error}"
        );
        drop(first);
        layout.lock().unwrap();
    }

    #[test]
    fn a_port_in_use_is_named_with_the_remedy() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = taken.local_addr().unwrap();
        let error = require_free(addr, "ja4-clickhouse").unwrap_err().to_string();
        assert!(
            error.contains(&addr.to_string())
                && error.contains("ja4-clickhouse")
                && error.contains("--listen"),
            "{error}"
        );
        drop(taken);
        require_free(addr, "ja4-clickhouse").unwrap();
    }

    #[test]
    fn folders_and_secrets_are_for_this_user_only() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::prepare(&dir.path().join("data"), base(8000)).unwrap();
        write_private(&layout.config("ja4-sensor"), b"x").unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&layout.store_data()), 0o700);
        assert_eq!(mode(&layout.config("ja4-sensor")), 0o600);
    }
}
