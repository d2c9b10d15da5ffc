//! `ja4` as a script meets it: exit statuses and the one line that says what is wrong.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::net::TcpListener;
use std::process::{Command, Output};

fn ja4(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ja4"))
        .args(args)
        .output()
        .unwrap()
}

#[track_caller]
fn check(args: &[&str], status: i32, part: &str) {
    let out = ja4(args);
    let text = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(status), "ja4 {args:?}: {text}");
    assert!(text.contains(part), "ja4 {args:?} does not say {part:?}: {text}");
}

/// A port with the block above it free: the store's port is 123 above the base.
fn base_of(store_port: u16) -> String {
    format!("127.0.0.1:{}", store_port - 123)
}

#[test]
fn wrong_use_is_exit_status_2() {
    check(&["up", "--bogus"], 2, "--bogus");
    check(&["up"], 2, "--demo");
    check(&["up", "--demo", "--interface", "lo"], 2, "cannot be used with");
    check(&["up", "--demo", "--for", "soon"], 2, "--for");
    check(&["up", "--interface", "lo", "--demo-bots", "3"], 2, "--demo-bots");
    check(&["up", "--demo", "--http", "x.jsonl"], 2, "--http");
    check(&["up", "--pcap", "/nonexistent/x.pcap"], 2, "/nonexistent/x.pcap");
    check(
        &["up", "--demo", "--summary", "/nonexistent/dir/s.json"],
        2,
        "/nonexistent/dir",
    );
    check(
        &["schema", "status", "--url", "127.0.0.1:8123"],
        2,
        "http://127.0.0.1:8123",
    );
}

#[test]
fn help_and_version_are_exit_status_0() {
    check(&["--version"], 0, env!("CARGO_PKG_VERSION"));
    check(&["up", "--help"], 0, "--summary");
    check(&["doctor", "--help"], 0, "--listen");
}

#[test]
fn a_second_instance_on_one_folder_is_refused() {
    let data = tempfile::tempdir().unwrap();
    let run = data.path().join("run");
    std::fs::create_dir(&run).unwrap();
    let first = std::fs::File::create(run.join("lock")).unwrap();
    first.lock().unwrap();
    let data = data.path().to_str().unwrap();
    check(&["up", "--demo", "--data", data], 1, "another `ja4 up` runs on");
}

#[test]
fn a_store_that_is_not_there_is_a_failure_that_names_it() {
    let addr = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    check(
        &["schema", "status", "--url", &format!("http://{addr}")],
        1,
        "ja4: statement",
    );
}

#[test]
fn a_child_ends_with_the_process_that_started_it() {
    // A shell that starts `run-child` under its own id, says the child's id, and is killed.
    let script = format!(
        "\"{}\" run-child $$ /bin/sleep 600 & echo $!; wait",
        env!("CARGO_BIN_EXE_ja4")
    );
    let mut shell = Command::new("sh")
        .args(["-c", &script])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let stdout = shell.stdout.as_mut().unwrap();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut line).unwrap();
    let pid: u32 = line.trim().parse().unwrap();
    let program = || std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    wait_until("the child became its program", || program() == "sleep\n");
    shell.kill().unwrap();
    shell.wait().unwrap();
    wait_until("the child ended", || program() != "sleep\n");
}

#[test]
fn doctor_names_a_taken_port_and_exits_with_1() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    check(
        &["doctor", "--listen", &base_of(port)],
        1,
        &format!("127.0.0.1:{port}, which ja4-clickhouse needs"),
    );
}

/// Waits for a condition, never a fixed time; the limit is what a loaded machine may need.
#[track_caller]
fn wait_until(what: &str, condition: impl Fn() -> bool) {
    for _ in 0..500 {
        if condition() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    panic!("after 10 s still not: {what}");
}
