//! Bad files and bad configurations: one clear line each, exit status 2, and what came before the damage is kept.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking and says why it skips"
)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

const BINARY: &str = env!("CARGO_BIN_EXE_ja4-sensor");

fn testdata(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../testdata")
        .join(name)
}

fn fingerprint(files: &[&Path]) -> Output {
    Command::new(BINARY)
        .arg("fingerprint")
        .args(files)
        .output()
        .unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Status 2 and one line that starts with the program's name.
#[track_caller]
fn check_refused(output: &Output, expected: &str) {
    let said = said(output);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(
        said.starts_with("ja4-sensor: ") && said.trim_end().lines().count() == 1,
        "{said}"
    );
    assert!(said.contains(expected), "{said}");
}

#[test]
fn files_that_cannot_be_read_are_named_with_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("missing.pcap");
    check_refused(
        &fingerprint(&[&missing]),
        &format!("cannot open {}: No such file", missing.display()),
    );
    check_refused(
        &fingerprint(&[dir.path()]),
        &format!("cannot open {}: is a directory", dir.path().display()),
    );
    let bench = Command::new(BINARY).arg("bench").arg(&missing).output().unwrap();
    check_refused(&bench, "cannot open");
}

#[test]
fn a_file_without_permission_is_named_with_the_reason() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("secret.pcap");
    std::fs::copy(testdata("pcap/ethernet.pcap"), &path).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o000)).unwrap();
    // Root may read everything, unless that right is taken away.
    let mut command = Command::new(BINARY);
    if rustix::process::geteuid().is_root() {
        command = Command::new("setpriv");
        command.args([
            "--bounding-set=-dac_override,-dac_read_search",
            "--inh-caps=-all",
            BINARY,
        ]);
    }
    let output = command.arg("fingerprint").arg(&path).output().unwrap();
    check_refused(
        &output,
        &format!("cannot open {}: Permission denied", path.display()),
    );
}

#[test]
fn one_bad_file_among_others_does_not_stop_them() {
    let (good, bad) = (
        testdata("pcap/ethernet.pcap"),
        testdata("pcap/fault_garbage.pcap"),
    );
    let output = fingerprint(&[&good, &bad, &good]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(
        String::from_utf8(output.stdout.clone()).unwrap().lines().count(),
        2
    );
    let said = said(&output);
    let lines: Vec<&str> = said.lines().collect();
    assert!(
        lines.len() == 2
            && lines[0].contains("fault_garbage.pcap: not a pcap or pcapng file")
            && lines[1].contains("1 of 3 files could not be read"),
        "{said}"
    );
}

#[test]
fn a_capture_is_read_from_standard_input() {
    let file = std::fs::File::open(testdata("pcap/ethernet.pcap")).unwrap();
    let output = Command::new(BINARY)
        .args(["fingerprint", "-"])
        .stdin(Stdio::from(file))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(String::from_utf8(output.stdout).unwrap().lines().count(), 1);
}

/// Lines with the name of the file taken out.
fn lines(output: &Output, path: &Path) -> Vec<String> {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    let name = path.display().to_string();
    text.lines().map(|line| line.replace(&name, "FILE")).collect()
}

/// The hellos of a file that is cut are the first of those of the whole file, and the cut is said in one line.
#[test]
fn a_cut_file_gives_what_came_before_the_cut() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cut.pcap");
    for name in ["pcap/real_ethernet.pcap", "pcap/two_interfaces.pcapng"] {
        let bytes = std::fs::read(testdata(name)).unwrap();
        std::fs::write(&path, &bytes).unwrap();
        let whole = lines(&fingerprint(&[&path]), &path);
        assert!(!whole.is_empty());
        let (mut n_cut_said, mut most) = (0, 0);
        for n in (0..bytes.len()).step_by(bytes.len() / 150) {
            std::fs::write(&path, &bytes[..n]).unwrap();
            let output = fingerprint(&[&path]);
            let said = said(&output);
            let got = lines(&output, &path);
            assert!(whole.starts_with(&got), "{name} cut at {n}");
            assert!(
                got.len() >= most,
                "{name} cut at {n}: a longer part holds no less"
            );
            most = got.len();
            assert!(said.lines().count() <= 1 && !said.contains("panicked"), "{said}");
            assert!(matches!(output.status.code(), Some(0 | 2)), "{:?}", output.status);
            n_cut_said += usize::from(!said.is_empty());
        }
        assert!(n_cut_said > 100, "{name}: {n_cut_said} cuts were said");
    }
}

/// Any bit of a file may be wrong: no crash, no endless output, at most two lines of complaint.
#[test]
fn flipped_bits_are_survived() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("flipped.pcap");
    for name in [
        "pcap/browser.pcap",
        "pcap/two_interfaces.pcapng",
        "pcap/sll2.pcap",
        "pcap/retried.pcap",
    ] {
        let bytes = std::fs::read(testdata(name)).unwrap();
        let n_bits = bytes.len() * 8;
        // A stride without a common factor with 8 comes to every bit position.
        for at in (0..n_bits).step_by(n_bits / 120 * 2 + 1) {
            let mut flipped = bytes.clone();
            flipped[at / 8] ^= 1 << (at % 8);
            std::fs::write(&path, &flipped).unwrap();
            let output = fingerprint(&[&path]);
            let said = said(&output);
            assert!(
                matches!(output.status.code(), Some(0 | 2)),
                "{name} bit {at}: {:?} {said}",
                output.status
            );
            assert!(said.lines().count() <= 2, "{name} bit {at}: {said}");
            assert!(lines(&output, &path).len() <= 3, "{name} bit {at}");
        }
    }
}

fn run(config: &str) -> Output {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sensor.yaml");
    std::fs::write(&path, config).unwrap();
    Command::new(BINARY)
        .args(["run", "--config"])
        .arg(&path)
        .output()
        .unwrap()
}

#[test]
fn bad_configurations_name_the_key_and_the_remedy() {
    for (config, expected) in [
        (
            "capturre: {}",
            "unknown key \"capturre\" (line 1, column 1), did you mean \"capture\"?",
        ),
        (
            "capture: {file: /nowhere/x.pcap}",
            "cannot open /nowhere/x.pcap: No such file",
        ),
        (
            "capture: {file: a, interfaces: [lo]}",
            "both capture.interfaces and capture.file are set",
        ),
        (
            "output: {buffer: lots}",
            "\"lots\" is not a size such as 65536, 64KiB or 8MiB at line 1",
        ),
        (
            "capture: {interfaces: [lo]}\nflow: {opening_max: 3}",
            "flow.opening_max is 3, allowed is 16 to",
        ),
        (
            "capture: {interfaces: [nothere0]}",
            "there is no interface \"nothere0\"",
        ),
    ] {
        check_refused(&run(config), expected);
    }
    let missing = Command::new(BINARY)
        .args(["run", "--config", "/nowhere/sensor.yaml"])
        .output()
        .unwrap();
    check_refused(&missing, "/nowhere/sensor.yaml");
}

#[test]
fn an_admin_port_in_use_is_one_line_with_the_remedy() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let file = testdata("pcap/ethernet.pcap");
    let output = run(&format!(
        "process: {{admin: \"{}\"}}\ncapture: {{file: {}}}\n",
        taken.local_addr().unwrap(),
        file.display()
    ));
    let said = said(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.lines().count() == 1 && said.contains("process.admin"),
        "{said}"
    );
}
