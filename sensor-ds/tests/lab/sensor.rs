//! A running `ja4-sensor run`, its files and what it says of itself.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use serde_json::Value;

use super::eventually;

/// The binary under test.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_ja4-sensor");

/// A sensor process. Killed when dropped.
pub(crate) struct Sensor {
    child: Child,
    dir: PathBuf,
}

impl Sensor {
    /// Starts it with `config` (YAML without `process` and `output.socket`) and waits until it captures.
    pub(crate) fn start(command: Command, dir: &Path, config: &str) -> Self {
        let sensor = Self::spawn(command, dir, config);
        eventually("sensor captures", || {
            sensor.log().contains("capturing on").then_some(())
        });
        sensor
    }

    /// Starts it. `command` runs the binary, where it should run.
    pub(crate) fn spawn(mut command: Command, dir: &Path, config: &str) -> Self {
        let path = dir.join("sensor.yaml");
        let (socket, admin, ledger) = (
            socket_path(dir),
            dir.join("admin.socket"),
            dir.join("ledger.json"),
        );
        let output = format!(
            "process: {{admin: \"unix:{}\", ledger_file: {}}}\noutput: {{socket: {}, buffer: 1MiB, drain_timeout: 2s}}\n{config}",
            admin.display(),
            ledger.display(),
            socket.display()
        );
        std::fs::write(&path, output).unwrap();
        let log = std::fs::File::create(dir.join("sensor.log")).unwrap();
        let child = command
            .args(["run", "--config"])
            .arg(&path)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        Self {
            child,
            dir: dir.to_owned(),
        }
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("sensor.log")).unwrap()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        rustix::process::kill_process(self.pid(), signal).unwrap();
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// The ledger as the admin endpoint answers.
    pub(crate) fn ledger(&self) -> Value {
        let answer = self.get("/ledger").expect("the admin endpoint answers");
        serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap()
    }

    /// The ledger as it lies on the disk.
    pub(crate) fn ledger_on_disk(&self) -> Value {
        self.try_ledger_on_disk().expect("the ledger was written")
    }

    /// The same; `None` before the first one is written.
    pub(crate) fn try_ledger_on_disk(&self) -> Option<Value> {
        let text = std::fs::read_to_string(self.dir.join("ledger.json")).ok()?;
        Some(serde_json::from_str(&text).unwrap())
    }

    pub(crate) fn get(&self, path: &str) -> Option<String> {
        let mut stream = UnixStream::connect(self.dir.join("admin.socket")).ok()?;
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        )
        .ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer)
    }

    /// `Name: value` lines of `/proc/PID/task/*/status`, one answer for each thread.
    pub(crate) fn status_of_threads(&self, name: &str) -> Vec<String> {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        let read = |task: std::fs::DirEntry| {
            let text = std::fs::read_to_string(task.path().join("status")).unwrap();
            let line = text
                .lines()
                .find_map(|line| line.strip_prefix(&format!("{name}:")).map(str::trim));
            line.unwrap().to_owned()
        };
        tasks.map(|task| read(task.unwrap())).collect()
    }

    /// Anonymous memory in bytes.
    pub(crate) fn anon_bytes(&self) -> u64 {
        let text = self.status_of_threads("RssAnon").remove(0);
        1024 * text.trim_end_matches(" kB").parse::<u64>().unwrap()
    }

    /// CPU time so far, in ticks of 10 ms.
    pub(crate) fn cpu_ticks(&self) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let fields: Vec<&str> = text.rsplit_once(')').unwrap().1.split(' ').collect();
        fields[12].parse::<u64>().unwrap() + fields[13].parse::<u64>().unwrap()
    }

    /// Asks it to end and waits; returns its status and how long it took.
    pub(crate) fn stop(&mut self) -> (ExitStatus, Duration) {
        let started = Instant::now();
        self.signal(Signal::TERM);
        let status = self.wait();
        (status, started.elapsed())
    }

    pub(crate) fn wait(&mut self) -> ExitStatus {
        eventually("sensor ends", || self.child.try_wait().unwrap())
    }
}

impl Drop for Sensor {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("sensor said:\n{}", self.log());
        }
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Where the sensor looks for its receiver.
pub(crate) fn socket_path(dir: &Path) -> PathBuf {
    dir.join("network.socket")
}

/// The named stage of a ledger; its equation must hold.
#[track_caller]
pub(crate) fn stage(ledger: &Value, name: &str) -> ja4_common::ledger::Stage {
    let ledger: ja4_common::ledger::Ledger = serde_json::from_value(ledger.clone()).unwrap();
    assert_eq!(ledger.imbalances(), [], "{ledger:?}");
    ledger
        .stages
        .into_iter()
        .find(|stage| stage.name == name)
        .unwrap()
}
