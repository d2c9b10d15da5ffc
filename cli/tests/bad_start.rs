//! What every binary says when it cannot start: one line that names the thing, the place and the remedy.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

/// A binary and how it is started with a configuration.
struct Program {
    name: &'static str,
    command: &'static str,
    sample: &'static str,
    /// A key of the sample, and how somebody in a hurry writes it.
    misspelt: (&'static str, &'static str),
}

const PROGRAMS: [Program; 4] = [
    Program {
        name: "ja4-clickhouse",
        command: "run",
        sample: "clickhouse.yaml",
        misspelt: ("statement_threads", "statement_thread"),
    },
    Program {
        name: "ja4-correlator",
        command: "run",
        sample: "correlator.yaml",
        misspelt: ("orphan_wait", "orfan_wait"),
    },
    Program {
        name: "ja4-sensor",
        command: "run",
        sample: "sensor.yaml",
        misspelt: ("snaplen", "snap_length"),
    },
    Program {
        name: "ja4-demo",
        command: "origin",
        sample: "demo.yaml",
        misspelt: ("socket_kind", "socket_kint"),
    },
];

impl Program {
    fn run(&self, config: &Path) -> Output {
        let path = Path::new(env!("CARGO_BIN_EXE_ja4")).with_file_name(self.name);
        Command::new(&path)
            .arg(self.command)
            .arg("--config")
            .arg(config)
            .output()
            .unwrap_or_else(|error| panic!("{}: {error}: cargo build --workspace", path.display()))
    }

    /// Runs it and checks its exit status, and that its last line has all parts and only log lines before it.
    #[track_caller]
    fn check(&self, config: &Path, status: i32, parts: &[&str]) {
        let out = self.run(config);
        let text = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(status), "{}: {text}", self.name);
        let last = text.lines().last().unwrap_or_default();
        for part in parts {
            assert!(last.contains(part), "{} does not say {part:?}: {text}", self.name);
        }
        assert!(!text.contains("panicked"), "{text}");
    }
}

fn sample(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../docs/samples")
        .join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn write(folder: &TempDir, text: &str) -> PathBuf {
    let path = folder.path().join("config.yaml");
    std::fs::write(&path, text).unwrap();
    path
}

#[test]
fn an_unknown_key_is_named_with_its_place_and_the_nearest() {
    for program in PROGRAMS {
        let (key, misspelt) = program.misspelt;
        let text = sample(program.sample);
        let with_error = text.replacen(&format!("{key}:"), &format!("{misspelt}:"), 1);
        assert_ne!(text, with_error, "{} has {key}", program.sample);
        let folder = tempfile::tempdir().unwrap();
        let path = write(&folder, &with_error);
        let line = with_error
            .lines()
            .position(|line| line.contains(misspelt))
            .unwrap()
            + 1;
        program.check(
            &path,
            2,
            &[misspelt, key, path.to_str().unwrap(), &format!("line {line}")],
        );
    }
}

#[test]
fn a_configuration_that_is_not_there_is_named() {
    for program in PROGRAMS {
        program.check(Path::new("/nonexistent/x.yaml"), 2, &["/nonexistent/x.yaml"]);
    }
}

#[test]
fn an_admin_port_in_use_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap();
    for program in PROGRAMS {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().display();
        let rest = match program.name {
            "ja4-clickhouse" => format!("data: {dir}/store\nlisten: 127.0.0.1:0\n"),
            "ja4-correlator" => format!(
                "sources: [{{path: {dir}/n.socket, kind: stream, role: network}}]\n\
                 spool: {{dir: {dir}/spool}}\nredaction: {{key_file: {dir}/key}}\n\
                 store: {{connection: {{url: 'http://127.0.0.1:1'}}}}\n"
            ),
            "ja4-sensor" => format!("capture: {{interfaces: [lo]}}\noutput: {{socket: {dir}/n.socket}}\n"),
            _ => format!("listen: 127.0.0.1:0\nsocket: {dir}/h.socket\n"),
        };
        let path = write(&folder, &format!("process: {{admin: '{addr}'}}\n{rest}"));
        program.check(&path, 1, &[&addr.to_string(), "in use", "process.admin"]);
    }
}

#[test]
fn a_service_port_in_use_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap();
    for program in &PROGRAMS {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().display();
        let text = match program.name {
            "ja4-clickhouse" => format!("data: {dir}/store\nlisten: {addr}\n"),
            "ja4-demo" => format!("listen: {addr}\nsocket: {dir}/h.socket\n"),
            _ => continue,
        };
        let path = write(&folder, &text);
        program.check(&path, 1, &[&addr.to_string(), "in use", "listen"]);
    }
}
