//! `ja4 doctor`: what this machine can do, and the command that mends what it cannot.
//!
//! Each check looks at one thing and returns a [`Finding`]; the exit status is 1 when something needed is missing.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::capture::{self, CaptureRight};
use crate::programs::Programs;
use crate::up;

/// The engine's package version, as in `scripts/fetch-libchdb`.
const ENGINE_VERSION: &str = "26.7.3-stable.1";
/// SHA-256 of that package's `libchdb.so`.
const ENGINE_SHA256: &str = "36ad4e999882821ef13cf2d0f52c93f48e6ee1b4498b35a201c23ce4b8d15bf5";
/// What fetches it, in a checkout.
const FETCH_ENGINE: &str = "scripts/fetch-libchdb";
/// The store keeps its cap of 1 GiB and the other processes a few hundred MiB.
const MEMORY_MIN_BYTES: u64 = 2 << 30;
/// A day of a small site, with room for merges.
const DISK_MIN_BYTES: u64 = 2 << 30;
/// Below this a busy store is full within days.
const DISK_GOOD_BYTES: u64 = 10 << 30;
/// `TPACKET_V3` came with Linux 3.2 (packet(7)).
const KERNEL_MIN: (u32, u32) = (3, 2);
/// Sockets of producers, parts of the store and connections of readers fit into it.
const OPEN_FILES_MIN: u64 = 1024;
/// An event of 128 KiB must fit into a socket's send buffer; the kernel's own default is 208 KiB.
const SEND_BUFFER_MIN_BYTES: u64 = 208 * 1024;

/// Where to look.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The folder that `ja4 up` will use.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// The address and first port that `ja4 up` will use.
    #[arg(long, value_name = "ADDR", default_value_t = up::default_listen())]
    listen: SocketAddr,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Fine,
    /// Works, with less than it could.
    Weak,
    Missing,
}

/// What one check found.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Finding {
    name: &'static str,
    verdict: Verdict,
    found: String,
    /// The command that mends it; empty when there is nothing to mend.
    mend: String,
}

impl Finding {
    fn fine(name: &'static str, found: impl Into<String>) -> Self {
        Self {
            name,
            verdict: Verdict::Fine,
            found: found.into(),
            mend: String::new(),
        }
    }

    fn weak(name: &'static str, found: impl Into<String>, mend: impl Into<String>) -> Self {
        Self {
            name,
            verdict: Verdict::Weak,
            found: found.into(),
            mend: mend.into(),
        }
    }

    fn missing(name: &'static str, found: impl Into<String>, mend: impl Into<String>) -> Self {
        Self {
            name,
            verdict: Verdict::Missing,
            found: found.into(),
            mend: mend.into(),
        }
    }

    fn line(&self) -> String {
        let verdict = match self.verdict {
            Verdict::Fine => "ok",
            Verdict::Weak => "weak",
            Verdict::Missing => "MISSING",
        };
        let mend = if self.mend.is_empty() {
            String::new()
        } else {
            format!("\n{:<21}mend: {}", "", self.mend)
        };
        format!("{verdict:<8} {:<11} {}{mend}", self.name, self.found)
    }
}

/// Prints every finding; `Ok(false)` when something needed is missing.
///
/// # Errors
/// When there is no folder for data to look at.
pub(crate) fn run(options: &Options) -> anyhow::Result<bool> {
    let data = up::data_folder(options.data.as_deref())?;
    let programs = Programs::from_environment(std::env::var_os("PATH").as_deref())?;
    let mut findings = check_programs(&programs);
    findings.push(check_browser(&programs));
    findings.push(check_capture(&programs));
    findings.push(check_engine());
    findings.extend(check_ports(options.listen));
    findings.push(check_disk(&data));
    findings.push(check_memory(&read("/proc/meminfo")));
    findings.push(check_kernel(
        &read("/proc/sys/kernel/osrelease"),
        Path::new("/proc/net/packet").exists(),
    ));
    findings.push(check_open_files(
        rustix::process::getrlimit(rustix::process::Resource::Nofile).current,
    ));
    findings.push(check_send_buffer(&read("/proc/sys/net/core/wmem_max")));
    for finding in &findings {
        println!("{}", finding.line());
    }
    Ok(findings.iter().all(|finding| finding.verdict != Verdict::Missing))
}

/// What cannot be read is empty, and the check that reads it says so.
fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

fn check_programs(programs: &Programs) -> Vec<Finding> {
    let find = |name: &'static str| match programs.find(name) {
        Ok(path) => Finding::fine("program", path.display().to_string()),
        Err(_) => Finding::missing(
            "program",
            format!("{name} is neither beside ja4 nor on PATH"),
            "make build",
        ),
    };
    up::PROGRAMS.iter().map(|name| find(name)).collect()
}

/// The demo's people browse with it; everything else works without.
fn check_browser(programs: &Programs) -> Finding {
    match programs.find("chromium") {
        Ok(path) => Finding::fine("browser", path.display().to_string()),
        Err(_) => Finding::weak(
            "browser",
            "chromium is not here: the demo's people are recorded ones only",
            "apt-get install -y --no-install-recommends chromium",
        ),
    }
}

fn check_capture(programs: &Programs) -> Finding {
    let Ok(sensor) = programs.find("ja4-sensor") else {
        return Finding::missing("capture", "there is no ja4-sensor to look at", "make build");
    };
    match capture::right(&sensor) {
        CaptureRight::Process => Finding::fine("capture", "this user may capture packets"),
        CaptureRight::File => Finding::fine("capture", format!("{} has cap_net_raw", sensor.display())),
        CaptureRight::None { mend } => Finding::missing(
            "capture",
            "this user may not capture packets (recorded captures still work)",
            mend,
        ),
    }
}

/// Where `scripts/fetch-libchdb` puts the engine, or where `CHDB_LIB` says it is.
fn engine_path(variable: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    if let Some(library) = variable("CHDB_LIB") {
        return Some(library);
    }
    let cache = variable("XDG_CACHE_HOME").or_else(|| Some(variable("HOME")?.join(".cache")))?;
    Some(
        cache
            .join("ja4-platform/libchdb")
            .join(ENGINE_VERSION)
            .join("libchdb.so"),
    )
}

fn check_engine() -> Finding {
    let Some(path) = engine_path(|name| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    }) else {
        return Finding::missing(
            "engine",
            "neither CHDB_LIB, XDG_CACHE_HOME nor HOME says where it is",
            FETCH_ENGINE,
        );
    };
    match sha256(&path) {
        Ok(found) if found == ENGINE_SHA256 => Finding::fine("engine", format!("libchdb {ENGINE_VERSION}")),
        Ok(_) => Finding::missing(
            "engine",
            format!(
                "{} is not libchdb {ENGINE_VERSION}: its checksum differs",
                path.display()
            ),
            format!("rm {} && {FETCH_ENGINE}", path.display()),
        ),
        Err(error) => Finding::missing("engine", format!("{}: {error}", path.display()), FETCH_ENGINE),
    }
}

/// Hexadecimal SHA-256 of a file, read in pieces: the engine has 566 MB.
fn sha256(path: &Path) -> std::io::Result<String> {
    use sha2::Digest as _;
    use std::fmt::Write as _;
    use std::io::Read as _;
    let mut file = std::fs::File::open(path)?;
    let mut digest = sha2::Sha256::new();
    let mut piece = vec![0; 1 << 20];
    loop {
        match file.read(&mut piece)? {
            0 => break,
            n => digest.update(&piece[..n]),
        }
    }
    let mut hex = String::new();
    for byte in digest.finalize() {
        write!(hex, "{byte:02x}").expect("writing to a String does not fail");
    }
    Ok(hex)
}

fn check_ports(listen: SocketAddr) -> Vec<Finding> {
    let ports = match up::ports(listen) {
        Ok(ports) => ports,
        Err(error) => {
            return vec![Finding::missing(
                "ports",
                error.to_string(),
                "ja4 up --listen 127.0.0.1:8000",
            )];
        }
    };
    let taken: Vec<_> = ports
        .iter()
        .filter(|(addr, _)| std::net::TcpListener::bind(addr).is_err())
        .collect();
    if taken.is_empty() {
        return vec![Finding::fine(
            "ports",
            format!("all {} from {listen} on are free", ports.len()),
        )];
    }
    let finding = |(addr, process): &&(SocketAddr, up::Process)| {
        Finding::missing(
            "ports",
            format!("{addr}, which {} needs, cannot be listened on", process.name()),
            format!(
                "ss -ltnp 'sport = :{}'  (or: ja4 up --listen {}:PORT)",
                addr.port(),
                addr.ip()
            ),
        )
    };
    taken.iter().map(finding).collect()
}

fn check_disk(data: &Path) -> Finding {
    // The folder need not exist yet: its nearest ancestor lies on the same disk.
    let Some(existing) = data.ancestors().find(|path| path.exists()) else {
        return Finding::missing(
            "disk",
            format!("no part of {} exists", data.display()),
            format!("mkdir -p {}", data.display()),
        );
    };
    match rustix::fs::statvfs(existing) {
        Ok(stat) => disk_finding(existing, stat.f_bavail.saturating_mul(stat.f_frsize)),
        Err(error) => Finding::missing(
            "disk",
            format!("could not look at {}: {error}", existing.display()),
            "df -h",
        ),
    }
}

fn disk_finding(path: &Path, free_bytes: u64) -> Finding {
    let found = format!("{} free under {}", gib(free_bytes), path.display());
    if free_bytes < DISK_MIN_BYTES {
        Finding::missing(
            "disk",
            format!("{found}, {} is the least", gib(DISK_MIN_BYTES)),
            "free some, or ja4 up --data DIR on another disk",
        )
    } else if free_bytes < DISK_GOOD_BYTES {
        Finding::weak(
            "disk",
            found,
            "watch it: df -h, or ja4 up --data DIR on another disk",
        )
    } else {
        Finding::fine("disk", found)
    }
}

fn check_memory(meminfo: &str) -> Finding {
    let available = meminfo.lines().find_map(|line| {
        let kib = line
            .strip_prefix("MemAvailable:")?
            .trim()
            .strip_suffix("kB")?
            .trim();
        Some(kib.parse::<u64>().ok()? * 1024)
    });
    match available {
        None => Finding::weak(
            "memory",
            "/proc/meminfo does not say how much is available",
            "free -h",
        ),
        Some(bytes) if bytes < MEMORY_MIN_BYTES => Finding::weak(
            "memory",
            format!("{} available, the store alone may take 1 GiB", gib(bytes)),
            "end something, or add memory: free -h",
        ),
        Some(bytes) => Finding::fine("memory", format!("{} available", gib(bytes))),
    }
}

fn check_kernel(release: &str, has_packet_sockets: bool) -> Finding {
    let release = release.trim();
    let mut numbers = release
        .split(['.', '-'])
        .map_while(|part| part.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if version < KERNEL_MIN {
        let found = format!(
            "Linux {release} has no TPACKET_V3, {}.{} is the least",
            KERNEL_MIN.0, KERNEL_MIN.1
        );
        return Finding::missing("kernel", found, "upgrade the kernel");
    }
    if !has_packet_sockets {
        return Finding::missing(
            "kernel",
            format!("Linux {release} without packet sockets"),
            "sudo modprobe af_packet",
        );
    }
    Finding::fine("kernel", format!("Linux {release} with TPACKET_V3"))
}

fn check_open_files(limit: Option<u64>) -> Finding {
    match limit {
        Some(n) if n < OPEN_FILES_MIN => Finding::missing(
            "limits",
            format!("{n} open files allowed, {OPEN_FILES_MIN} is the least"),
            format!("ulimit -n {OPEN_FILES_MIN}"),
        ),
        Some(n) => Finding::fine("limits", format!("{n} open files allowed")),
        None => Finding::fine("limits", "any number of open files allowed"),
    }
}

fn check_send_buffer(wmem_max: &str) -> Finding {
    match wmem_max.trim().parse::<u64>() {
        Ok(bytes) if bytes >= SEND_BUFFER_MIN_BYTES => {
            Finding::fine("limits", format!("send buffers up to {bytes} bytes"))
        }
        Ok(bytes) => Finding::missing(
            "limits",
            format!("send buffers up to {bytes} bytes; an event of 128 KiB would not fit"),
            format!("sudo sysctl -w net.core.wmem_max={SEND_BUFFER_MIN_BYTES}"),
        ),
        Err(_) => Finding::weak(
            "limits",
            "the kernel does not say how large send buffers may be",
            "sysctl net.core.wmem_max",
        ),
    }
}

fn gib(bytes: u64) -> String {
    format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(finding: &Finding, verdict: Verdict, part: &str) {
        assert_eq!(finding.verdict, verdict, "{finding:?}");
        assert!(finding.line().contains(part), "{}", finding.line());
        assert_eq!(
            finding.mend.is_empty(),
            verdict == Verdict::Fine,
            "what is not fine has a command: {finding:?}"
        );
    }

    #[test]
    fn an_old_kernel_is_missing_a_ring() {
        check(
            &check_kernel("2.6.32-754.el6\n", true),
            Verdict::Missing,
            "no TPACKET_V3",
        );
        check(&check_kernel("3.2.0", true), Verdict::Fine, "TPACKET_V3");
        check(&check_kernel("6.1.0-18-amd64\n", true), Verdict::Fine, "6.1.0");
        check(
            &check_kernel("6.1.0", false),
            Verdict::Missing,
            "modprobe af_packet",
        );
    }

    #[test]
    fn the_engine_is_looked_for_where_it_is_fetched_to() {
        let path = |known: &[(&str, &str)]| {
            engine_path(|name| {
                known
                    .iter()
                    .find(|(key, _)| *key == name)
                    .map(|(_, value)| PathBuf::from(value))
            })
        };
        let cached = "ja4-platform/libchdb/26.7.3-stable.1/libchdb.so";
        assert_eq!(path(&[("HOME", "/h")]), Some(Path::new("/h/.cache").join(cached)));
        assert_eq!(
            path(&[("HOME", "/h"), ("XDG_CACHE_HOME", "/c")]),
            Some(Path::new("/c").join(cached))
        );
        assert_eq!(
            path(&[("CHDB_LIB", "/l.so"), ("HOME", "/h")]),
            Some(PathBuf::from("/l.so"))
        );
        assert_eq!(path(&[]), None);
        let script =
            std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/fetch-libchdb"))
                .unwrap();
        assert!(
            script.contains(&format!("VERSION={ENGINE_VERSION}\n")),
            "the script and doctor name one version"
        );
    }

    #[test]
    fn a_checksum_is_that_of_the_whole_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "abc").unwrap();
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sha256(file.path()).unwrap(), expected);
    }

    #[test]
    fn a_small_disk_is_weak_and_a_full_one_missing() {
        check(
            &disk_finding(Path::new("/x"), 1 << 30),
            Verdict::Missing,
            "1.0 GiB free under /x",
        );
        check(
            &disk_finding(Path::new("/x"), 5 << 30),
            Verdict::Weak,
            "--data DIR",
        );
        check(
            &disk_finding(Path::new("/x"), 50 << 30),
            Verdict::Fine,
            "50.0 GiB",
        );
    }

    #[test]
    fn limits_name_the_command_that_raises_them() {
        check(&check_open_files(Some(256)), Verdict::Missing, "ulimit -n 1024");
        check(&check_open_files(None), Verdict::Fine, "any number");
        check(
            &check_send_buffer("65536\n"),
            Verdict::Missing,
            "sysctl -w net.core.wmem_max=212992",
        );
        check(&check_send_buffer("212992\n"), Verdict::Fine, "212992");
        check(&check_send_buffer(""), Verdict::Weak, "sysctl");
    }

    #[test]
    fn little_memory_is_weak() {
        check(
            &check_memory("MemTotal: 1 kB\nMemAvailable:   524288 kB\n"),
            Verdict::Weak,
            "0.5 GiB",
        );
        check(
            &check_memory("MemAvailable: 8388608 kB\n"),
            Verdict::Fine,
            "8.0 GiB",
        );
        check(&check_memory(""), Verdict::Weak, "free -h");
    }

    #[test]
    fn a_taken_port_is_named_with_who_needs_it() {
        // A block of ports of which one is taken: the base is where the store's port lands on the taken one.
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let listen = SocketAddr::from(([127, 0, 0, 1], port - 123));
        let findings = check_ports(listen);
        let expected = format!("127.0.0.1:{port}, which ja4-clickhouse needs");
        assert!(
            findings.iter().any(|finding| finding.line().contains(&expected)),
            "{findings:?}"
        );
    }
}
