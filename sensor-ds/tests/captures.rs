//! The project's own captures: recorded clients, one wire shape of a hello each, and faults. Right values come
//! from a second implementation (`testdata/pcap/ja4.py`); snapshots hold every line and every message.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking and says why it skips"
)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/pcap")
}

fn fingerprint(file: &str, folder: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ja4-sensor"));
    // Lines hold the name as given.
    command.args(["fingerprint", file]).current_dir(folder);
    command.output().unwrap()
}

fn events(file: &str) -> Vec<Value> {
    let output = fingerprint(file, &folder());
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Rows of a list by file, without the file.
fn rows(list: &str) -> BTreeMap<String, Vec<String>> {
    let text = std::fs::read_to_string(folder().join(list)).unwrap();
    let mut by_file: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in text.lines().skip(1) {
        let (file, row) = line.split_once('\t').unwrap();
        by_file.entry(file.to_owned()).or_default().push(row.to_owned());
    }
    by_file
}

/// The fields of an event, separated by tabs.
fn row(event: &Value, fields: &[&str]) -> String {
    let text = |field: &&str| match &event[field] {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    fields.iter().map(text).collect::<Vec<_>>().join("\t")
}

#[test]
fn made_captures_give_the_hellos_that_they_were_made_of() {
    let expected = rows("made.tsv");
    let mut n_hellos = 0;
    for entry in std::fs::read_dir(folder()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if !name.contains(".pcap") || name.starts_with("real_") {
            continue;
        }
        let got: Vec<String> = events(&name)
            .iter()
            .map(|event| row(event, &["frame", "ja4", "ja3", "hello_bytes"]))
            .collect();
        assert_eq!(got, expected.get(&name).cloned().unwrap_or_default(), "{name}");
        n_hellos += got.len();
    }
    assert_eq!(n_hellos, expected.values().map(Vec::len).sum::<usize>());
    println!("{n_hellos} hellos in made captures right");
}

#[test]
fn recorded_captures_give_the_hellos_that_the_server_received() {
    let expected = rows("real.tsv");
    assert!(expected.len() >= 7);
    for (name, mut rows) in expected {
        let mut got: Vec<String> = events(&name)
            .iter()
            .map(|event| row(event, &["ja4", "ja3", "hello_bytes"]))
            .collect();
        got.sort();
        rows.sort();
        assert_eq!(got, rows, "{name}");
    }
}

#[test]
fn every_line_and_message_is_as_before() {
    insta::glob!("../../testdata/pcap", "*.pcap*", |path| {
        let name = path.file_name().unwrap().to_str().unwrap();
        let output = fingerprint(name, path.parent().unwrap());
        let text = format!(
            "{}{}exit {}\n",
            String::from_utf8(output.stdout).unwrap(),
            String::from_utf8(output.stderr).unwrap(),
            output.status.code().unwrap()
        );
        insta::assert_snapshot!(text);
    });
}

#[test]
fn the_recording_of_the_demo_gives_the_same_lines() {
    let demo = folder().join("../demo");
    let output = fingerprint("demo.pcap", &demo);
    assert!(output.status.success());
    insta::assert_snapshot!(String::from_utf8(output.stdout).unwrap());
}

#[test]
fn the_script_makes_the_captures_that_lie_here() {
    let made = Command::new("python3")
        .arg(folder().join("make.py"))
        .arg("--check")
        .output();
    let Ok(made) = made else {
        println!("skipped: python3 is not installed");
        return;
    };
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}
