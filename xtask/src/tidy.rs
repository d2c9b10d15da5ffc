//! The rules of the project that no compiler checks: walls between crates, purity, headers, links, names that must not leak.
//!
//! Each rule is a function from what is in the checkout to findings, one line each: the place, what is wrong, the remedy.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};
use serde_json::Value;

use crate::cargo;

/// What each crate may import from the workspace. A crate that is not here is a finding: it needs a decision.
const WALLS: &[(&str, &[&str])] = &[
    ("ja4-model", &[]),
    ("ja4-common", &[]),
    ("ja4-emit", &["ja4-model"]),
    ("ja4-transport", &["ja4-model", "ja4-common"]),
    ("ja4-spool", &[]),
    ("ja4-identity", &[]),
    ("ja4-reasons", &[]),
    ("ja4-schema", &["ja4-model", "ja4-common"]),
    ("sensor-wire", &[]),
    ("sensor-flow", &["sensor-wire"]),
    (
        "sensor-ds",
        &[
            "sensor-wire",
            "sensor-flow",
            "ja4-model",
            "ja4-emit",
            "ja4-common",
        ],
    ),
    ("correlator-engine", &[]),
    (
        "correlator",
        &[
            "correlator-engine",
            "ja4-model",
            "ja4-common",
            "ja4-transport",
            "ja4-spool",
            "ja4-schema",
            "ja4-identity",
        ],
    ),
    ("detector-forest", &[]),
    (
        "detector",
        &[
            "detector-forest",
            "ja4-reasons",
            "ja4-identity",
            "ja4-model",
            "ja4-common",
            "ja4-schema",
        ],
    ),
    ("dashboard-ui", &[]),
    (
        "dashboard",
        &[
            "dashboard-ui",
            "ja4-reasons",
            "ja4-identity",
            "ja4-common",
            "ja4-schema",
        ],
    ),
    ("embedded-clickhouse", &["ja4-common"]),
    ("demo", &["ja4-model", "ja4-emit", "ja4-common"]),
    ("cli", &["ja4-common", "ja4-reasons", "ja4-schema"]),
    ("operator-api", &[]),
    ("operator-manifests", &["operator-api"]),
    ("operator", &["operator-api", "operator-manifests", "ja4-common"]),
    (
        "ja4-e2e",
        &["ja4-model", "ja4-schema", "operator-api", "operator-manifests"],
    ),
    ("xtask", &[]),
];

/// Processes: nobody imports them, not even in tests.
const SHELLS: &[&str] = &[
    "sensor-ds",
    "correlator",
    "detector",
    "dashboard",
    "embedded-clickhouse",
    "demo",
    "cli",
    "operator",
    "xtask",
];

/// Crates without sockets, files, environment, clock, randomness or async.
const PURE: &[&str] = &[
    "sensor-wire",
    "sensor-flow",
    "correlator-engine",
    "detector-forest",
    "ja4-identity",
    "ja4-reasons",
    "operator-api",
    "operator-manifests",
];

/// Crates that a producer links into somebody's server: the standard library and the data model only.
const SMALL: &[&str] = &["ja4-emit"];

/// What may not be in the normal dependency tree of a pure crate, however deep. `libc` and `getrandom` are not
/// listed: hash tables link them; that a pure crate seeds its own is what its lints on std and review are for.
const IMPURE: &[&str] = &[
    "tokio",
    "mio",
    "async-std",
    "smol",
    "futures-executor",
    "hyper",
    "reqwest",
    "ureq",
    "tonic",
    "kube",
    "pcap",
    "socket2",
    "rustix",
    "nix",
    "rand",
    "tempfile",
    "clickhouse",
    "signal-hook",
];

/// What a pure crate may link after all, because nothing of it is called: linfa, whose traits the forest
/// implements, shuffles data sets with rand; kube without its client is the derive of the custom resource.
const LINKED_UNCALLED: &[(&str, &str)] = &[
    ("detector-forest", "rand"),
    ("operator-api", "kube"),
    ("operator-manifests", "kube"),
];

/// What may not be in the tree of a small crate.
const HEAVY: &[&str] = &[
    "tokio",
    "mio",
    "hyper",
    "serde",
    "serde_json",
    "tracing",
    "pcap",
    "clickhouse",
];

/// Runs every rule over the tracked files.
///
/// # Errors
/// When git or cargo cannot be asked, or a tracked file cannot be read.
pub(crate) fn findings(root: &Path) -> anyhow::Result<Vec<String>> {
    let files = tracked_files(root)?;
    let mut texts = BTreeMap::new();
    for path in files {
        // A file deleted but not yet committed is no finding; a binary one (a capture) has no text.
        let Ok(bytes) = std::fs::read(root.join(&path)) else {
            continue;
        };
        if let Ok(text) = String::from_utf8(bytes) {
            texts.insert(path, text);
        }
    }
    let metadata = cargo::metadata(root)?;
    let mut findings = Vec::new();
    findings.extend(texts.iter().filter_map(|(path, text)| check_header(path, text)));
    findings.extend(
        texts
            .iter()
            .filter_map(|(path, text)| check_manifest(path, text))
            .flatten(),
    );
    findings.extend(check_walls(&metadata));
    findings.extend(check_unused(root, &metadata, &texts));
    for name in PURE {
        let banned: Vec<&str> = IMPURE
            .iter()
            .copied()
            .filter(|banned| !LINKED_UNCALLED.contains(&(*name, *banned)))
            .collect();
        findings.extend(check_tree(name, "pure", &banned, &normal_tree(root, name)?));
    }
    for name in SMALL {
        findings.extend(check_tree(name, "small", HEAVY, &normal_tree(root, name)?));
    }
    let forbidden = forbidden_words();
    findings.extend(
        texts
            .iter()
            .flat_map(|(path, text)| check_words(path, text, &forbidden)),
    );
    findings.extend(
        texts
            .iter()
            .filter(|(path, _)| path.ends_with("Cargo.lock"))
            .flat_map(check_cargo_lock),
    );
    findings.extend(
        texts
            .iter()
            .filter(|(path, _)| has_extension(path, "md"))
            .flat_map(|(path, text)| check_links(root, path, text)),
    );
    findings.extend(check_process_documents(root));
    Ok(findings)
}

/// Files of the checkout that git does not ignore, relative to it.
///
/// # Errors
/// When git fails.
pub(crate) fn tracked_files(root: &Path) -> anyhow::Result<BTreeSet<PathBuf>> {
    // Files that git does not know yet are checked too: they are about to be committed.
    let out = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root)
        .output()
        .context("could not start git")?;
    if !out.status.success() {
        bail!(
            "git ls-files ended with {}: {}",
            out.status,
            String::from_utf8_lossy(&out.stderr).trim()
        );
    }
    let names = String::from_utf8(out.stdout).context("a tracked file's name is not UTF-8")?;
    Ok(names.split_terminator('\0').map(PathBuf::from).collect())
}

fn has_extension(path: &Path, extension: &str) -> bool {
    path.extension().is_some_and(|found| found == extension)
}

/// A source file says on its first line what it is for; a script on its second.
fn check_header(path: &Path, text: &str) -> Option<String> {
    let mut lines = text.lines();
    let first = lines.next().unwrap_or_default();
    if has_extension(path, "rs") {
        let purpose = first.strip_prefix("//! ").unwrap_or_default().trim();
        if purpose.len() > 15 {
            return None;
        }
        return Some(format!(
            "{}:1: the first line must be `//!` and say what the file is for",
            path.display()
        ));
    }
    // Generated declarations have a header of their own.
    let comment = match path.extension().and_then(|extension| extension.to_str()) {
        Some("ts" | "tsx" | "mjs") if !path.to_string_lossy().ends_with(".d.ts") => Some("// "),
        Some("css") => Some("/* "),
        Some("go") => Some("// "),
        Some("sh" | "env") if !first.starts_with("#!/") => Some("# "),
        Some("sql") => Some("-- "),
        Some("py") if !first.starts_with("#!/") && !first.starts_with("\"\"\"") => Some("# "),
        _ => None,
    };
    if let Some(comment) = comment
        && first
            .strip_prefix(comment)
            .is_none_or(|purpose| purpose.trim().len() < 10)
    {
        return Some(format!(
            "{}:1: the first line must be `{comment}` and say what the file is for",
            path.display()
        ));
    }
    let is_script = first.starts_with("#!/");
    let second = lines.next().unwrap_or_default();
    (is_script && !second.starts_with("# ")).then(|| {
        format!(
            "{}:2: a script's second line must be a comment that says what it is for",
            path.display()
        )
    })
}

/// A crate takes versions and lints from the workspace's one table.
fn check_manifest(path: &Path, text: &str) -> Option<Vec<String>> {
    if path.file_name()? != "Cargo.toml" || path.parent()?.as_os_str().is_empty() {
        return None;
    }
    let mut findings = Vec::new();
    let mut section = "";
    let mut has_lints = false;
    for (idx, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.starts_with('[') {
            section = line.trim_matches(['[', ']']);
        } else if section.ends_with("dependencies") && line.contains('=') && !line.starts_with('#') {
            if !line.replace(' ', "").contains("workspace=true") {
                findings.push(format!(
                    "{}:{}: `{line}` must take its version from the root manifest (`.workspace = true`)",
                    path.display(),
                    idx + 1
                ));
            }
        } else if section == "lints" {
            has_lints |= line.replace(' ', "") == "workspace=true";
        }
    }
    if !has_lints {
        findings.push(format!("{}: add `[lints] workspace = true`", path.display()));
    }
    Some(findings)
}

fn packages(metadata: &Value) -> impl Iterator<Item = (&str, &Value)> {
    let packages = metadata["packages"].as_array().map_or(&[][..], Vec::as_slice);
    packages
        .iter()
        .filter_map(|package| Some((package["name"].as_str()?, package)))
}

fn dependencies(package: &Value) -> impl Iterator<Item = &Value> {
    package["dependencies"]
        .as_array()
        .map_or(&[][..], Vec::as_slice)
        .iter()
}

/// Crates import from the workspace only what the table allows; tests may use any library of it.
fn check_walls(metadata: &Value) -> Vec<String> {
    let ours: BTreeSet<&str> = packages(metadata).map(|(name, _)| name).collect();
    let mut findings = Vec::new();
    for (name, package) in packages(metadata) {
        let Some((_, allowed)) = WALLS.iter().find(|(wall, _)| *wall == name) else {
            findings.push(format!(
                "{name}: not in the table of walls in xtask/src/tidy.rs; decide what it may import"
            ));
            continue;
        };
        for dependency in dependencies(package) {
            let target = dependency["name"].as_str().unwrap_or_default();
            if !ours.contains(target) {
                continue;
            }
            let is_dev = dependency["kind"] == "dev";
            let is_allowed = if is_dev {
                !SHELLS.contains(&target)
            } else {
                allowed.contains(&target)
            };
            if !is_allowed {
                findings.push(format!(
                    "{name}: must not import {target}; parts meet through the model, transport, schema and ClickHouse"
                ));
            }
        }
    }
    findings
}

/// Every dependency of a manifest is named somewhere in that crate's sources.
fn check_unused(root: &Path, metadata: &Value, texts: &BTreeMap<PathBuf, String>) -> Vec<String> {
    let mut findings = Vec::new();
    let nested: Vec<PathBuf> = packages(metadata)
        .filter_map(|(_, package)| manifest_dir(root, package))
        .collect();
    for (name, package) in packages(metadata) {
        let Some(dir) = manifest_dir(root, package) else {
            continue;
        };
        let is_own = |path: &Path| {
            path.starts_with(&dir)
                && !nested
                    .iter()
                    .any(|other| *other != dir && other.starts_with(&dir) && path.starts_with(other))
        };
        for dependency in dependencies(package) {
            let Some(dependency) = dependency["rename"]
                .as_str()
                .or_else(|| dependency["name"].as_str())
            else {
                continue;
            };
            // The one crate here whose library is not named as its package.
            let word = if dependency == "md-5" {
                "md5".to_owned()
            } else {
                dependency.replace('-', "_")
            };
            let is_named = texts
                .iter()
                .filter(|(path, _)| has_extension(path, "rs") && is_own(path))
                .any(|(_, text)| contains_word(text, &word));
            if !is_named {
                findings.push(format!(
                    "{name}: does not use its dependency {dependency}; remove it from its manifest"
                ));
            }
        }
    }
    findings
}

fn manifest_dir(root: &Path, package: &Value) -> Option<PathBuf> {
    let manifest = Path::new(package["manifest_path"].as_str()?);
    Some(manifest.parent()?.strip_prefix(root).ok()?.to_owned())
}

fn contains_word(text: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word).any(|(start, _)| {
        let before = text[..start].chars().next_back();
        let after = text[start + word.len()..].chars().next();
        !before.is_some_and(is_part) && !after.is_some_and(is_part)
    })
}

/// The crates that `name` links, itself first.
fn normal_tree(root: &Path, name: &str) -> anyhow::Result<String> {
    cargo::output(
        root,
        &[
            "tree", "--locked", "-p", name, "-e", "normal", "--prefix", "none", "--format", "{p}",
        ],
    )
}

fn check_tree(name: &str, kind: &str, banned: &[&str], tree: &str) -> Vec<String> {
    let linked: BTreeSet<&str> = tree
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    let found = banned.iter().filter(|banned| linked.contains(**banned));
    found
        .map(|banned| format!("{name}: is a {kind} crate and must not link {banned} (cargo tree -p {name})"))
        .collect()
}

/// Words that must not be in a tracked file, each with the reason. Hosts of package registries that this
/// machine is set up for are among them: a file that names one would break everywhere else.
fn forbidden_words() -> Vec<(String, &'static str)> {
    const HOST: &str = "a package registry's host: use the ordinary client by package name";
    // In two halves each, so that this file passes its own rule.
    let halves: [(&str, &str, &'static str); 9] = [
        ("registry.npm", "js.org", HOST),
        ("static.crates", ".io", HOST),
        ("index.crates", ".io", HOST),
        ("files.python", "hosted.org", HOST),
        ("pypi", ".org", HOST),
        ("proxy.golang", ".org", HOST),
        ("repo.maven.apache", ".org", HOST),
        ("deb.debian", ".org", HOST),
        (
            "/work",
            "/",
            "a path of one workplace: use one relative to the checkout",
        ),
    ];
    let mut words: Vec<_> = halves
        .iter()
        .map(|(a, b, reason)| (format!("{a}{b}"), *reason))
        .collect();
    let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    for file in [
        ".cargo/config.toml",
        ".npmrc",
        ".config/pip/pip.conf",
        ".pip/pip.conf",
    ] {
        // None of these need exist; what they name is this machine's own business.
        let text = std::fs::read_to_string(home.join(file)).unwrap_or_default();
        words.extend(
            hosts(&text)
                .filter(|host| !host.ends_with("github.com"))
                .map(|host| (host, HOST)),
        );
    }
    words
}

/// The hosts of the URLs in a text.
fn hosts(text: &str) -> impl Iterator<Item = String> {
    text.split("://").skip(1).filter_map(|rest| {
        let authority = rest.split(['/', '"', '\'', '\n', ' ']).next()?;
        let host = authority.rsplit('@').next()?.split(':').next()?;
        host.contains('.').then(|| host.to_owned())
    })
}

fn check_words(path: &Path, text: &str, forbidden: &[(String, &'static str)]) -> Vec<String> {
    let mut findings = Vec::new();
    for (word, reason) in forbidden {
        for (idx, line) in text.lines().enumerate() {
            if is_named(line, word) {
                findings.push(format!(
                    "{}:{}: names `{word}`, {reason}",
                    path.display(),
                    idx + 1
                ));
            }
        }
    }
    findings
}

/// A path counts only at its beginning: `docs/work/` is no workplace.
fn is_named(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(start, _)| {
        let before = line[..start].chars().next_back();
        !word.starts_with('/') || !before.is_some_and(|c| c.is_alphanumeric() || "._-/}".contains(c))
    })
}

/// The lock file names the default registry and checksums, never where a file was downloaded from.
fn check_cargo_lock((path, text): (&PathBuf, &String)) -> Vec<String> {
    const DEFAULT: &str = concat!(
        "source = \"registry+https://github.com/rust-lang/crates",
        ".io-index\""
    );
    let lines = text.lines().enumerate();
    lines
        .filter(|(_, line)| line.starts_with("source = ") && *line != DEFAULT)
        .map(|(idx, line)| {
            format!(
                "{}:{}: {line} is not the default registry",
                path.display(),
                idx + 1
            )
        })
        .collect()
}

/// Relative links of a Markdown file lead to something in the checkout.
fn check_links(root: &Path, path: &Path, text: &str) -> Vec<String> {
    let mut findings = Vec::new();
    let dir = root.join(path).parent().map(Path::to_owned).unwrap_or_default();
    for (idx, line) in text.lines().enumerate() {
        for target in line.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = target.split('#').next().unwrap_or_default();
            let is_elsewhere = file.is_empty() || file.contains("://") || file.starts_with("mailto:");
            if !is_elsewhere && !dir.join(file).exists() {
                findings.push(format!(
                    "{}:{}: the link to {target} leads nowhere",
                    path.display(),
                    idx + 1
                ));
            }
        }
    }
    findings
}

/// Every process has its page and, unless it has no configuration file, its sample.
fn check_process_documents(root: &Path) -> Vec<String> {
    const PROCESSES: &[(&str, &[&str])] = &[
        (
            "sensor-ds",
            &["docs/services/sensor-ds.md", "docs/samples/sensor.yaml"],
        ),
        (
            "correlator",
            &[
                "docs/services/correlator.md",
                "docs/samples/correlator.yaml",
                "docs/samples/correlator-forward.yaml",
                "docs/samples/correlator-cluster.yaml",
            ],
        ),
        (
            "embedded-clickhouse",
            &[
                "docs/services/embedded-clickhouse.md",
                "docs/samples/clickhouse.yaml",
            ],
        ),
        ("demo", &["docs/services/demo.md"]),
        ("cli", &["docs/services/cli.md"]),
        ("operator", &["docs/operator.md", "docs/install.md"]),
    ];
    let mut findings = Vec::new();
    for (process, documents) in PROCESSES {
        for document in *documents {
            if !root.join(document).exists() {
                findings.push(format!("{process}: has no {document}"));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn header(path: &str, text: &str, is_fine: bool) {
        assert_eq!(
            check_header(Path::new(path), text).is_none(),
            is_fine,
            "{path}: {text:?}"
        );
    }

    #[test]
    fn a_source_file_must_say_what_it_is_for() {
        header("a.rs", "//! Groups packets into bidirectional flows.\n", true);
        header("a.rs", "//! (skeleton)\n", false);
        header("run", "#!/bin/sh\nset -eu\n", false);
        header("run", "#!/bin/sh\n# Runs the thing.\n", true);
        header("a.md", "anything", true);
    }

    #[test]
    fn a_source_file_without_a_header_is_a_finding() {
        header("a.rs", "use std::io;\n", false);
    }

    #[test]
    fn a_version_outside_the_root_table_is_a_finding() {
        let text = "[dependencies]\nserde = \"1\"\nlibc.workspace = true\n[lints]\nworkspace = true\n";
        let findings = check_manifest(Path::new("a/Cargo.toml"), text).unwrap();
        assert_eq!(findings.len(), 1);
        assert!(findings[0].starts_with("a/Cargo.toml:2:"), "{findings:?}");
        assert!(
            check_manifest(Path::new("Cargo.toml"), text).is_none(),
            "the root has the table"
        );
    }

    #[test]
    fn a_manifest_without_the_lints_is_a_finding() {
        let findings = check_manifest(Path::new("a/Cargo.toml"), "[dependencies]\n").unwrap();
        assert_eq!(findings, ["a/Cargo.toml: add `[lints] workspace = true`"]);
    }

    fn package(name: &str, kind: &str, dependencies: &[(&str, Option<&str>)]) -> Value {
        let dependencies: Vec<Value> = dependencies
            .iter()
            .map(|(name, kind)| serde_json::json!({"name": name, "kind": kind}))
            .collect();
        serde_json::json!({"name": name, "targets": [{"kind": [kind]}], "dependencies": dependencies})
    }

    #[test]
    fn a_shell_that_imports_a_shell_is_a_finding_even_in_its_tests() {
        let metadata = serde_json::json!({"packages": [
            package("correlator", "bin", &[("ja4-model", None), ("tokio", None)]),
            package("ja4-model", "lib", &[]),
            package("demo", "bin", &[("correlator", Some("dev")), ("ja4-model", Some("dev"))]),
            package("cli", "bin", &[("ja4-model", None)]),
        ]});
        let findings = check_walls(&metadata);
        assert_eq!(findings.len(), 2, "{findings:?}");
        assert!(findings[0].starts_with("demo: must not import correlator"));
        assert!(findings[1].starts_with("cli: must not import ja4-model"));
    }

    #[test]
    fn a_crate_unknown_to_the_table_is_a_finding() {
        let metadata = serde_json::json!({"packages": [package("newcomer", "lib", &[])]});
        assert_eq!(check_walls(&metadata).len(), 1);
    }

    #[test]
    fn a_pure_crate_that_links_a_runtime_is_a_finding() {
        let findings = check_tree(
            "sensor-wire",
            "pure",
            IMPURE,
            "sensor-wire v0.1.0 (/x)\ntokio v1.0.0\nsha2 v1\n",
        );
        assert_eq!(findings.len(), 1);
        assert!(findings[0].contains("tokio"));
    }

    #[test]
    fn hosts_are_read_without_credentials_and_ports() {
        let found: Vec<_> =
            hosts("registry = \"sparse+https://user:secret@mirror.example.net:8443/index/\"").collect();
        assert_eq!(found, ["mirror.example.net"]);
    }

    #[test]
    fn a_workplace_path_counts_only_at_its_beginning() {
        let word = concat!("/work", "/");
        assert!(is_named(&format!("see {word}main"), word));
        assert!(!is_named(&format!("see docs{word}main"), word));
        assert!(is_named(
            concat!("get https://registry.npm", "js.org/x"),
            concat!("registry.npm", "js.org")
        ));
    }

    #[test]
    fn another_registry_in_the_lock_file_is_a_finding() {
        let text = concat!(
            "source = \"registry+https://github.com/rust-lang/crates",
            ".io-index\"\nsource = \"git+https://x\"\n"
        );
        let findings = check_cargo_lock((&PathBuf::from("Cargo.lock"), &text.to_owned()));
        assert_eq!(findings.len(), 1);
        assert!(findings[0].starts_with("Cargo.lock:2:"));
    }

    #[test]
    fn a_link_that_leads_nowhere_is_a_finding() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("there.md"), "x").unwrap();
        let text = "[a](there.md#top) [b](gone.md) [c](https://example.com) [d](#here)";
        let findings = check_links(dir.path(), Path::new("README.md"), text);
        assert_eq!(findings.len(), 1);
        assert!(findings[0].contains("gone.md"));
    }

    #[test]
    fn an_unused_dependency_is_a_finding_and_nested_crates_do_not_count() {
        let metadata = serde_json::json!({"packages": [
            {"name": "outer", "manifest_path": "/x/outer/Cargo.toml", "targets": [],
             "dependencies": [{"name": "used-crate"}, {"name": "idle-crate"}]},
            {"name": "inner", "manifest_path": "/x/outer/inner/Cargo.toml", "targets": [], "dependencies": []},
        ]});
        let texts = BTreeMap::from([
            (
                PathBuf::from("outer/src/main.rs"),
                "use used_crate::thing;".to_owned(),
            ),
            (
                PathBuf::from("outer/inner/src/lib.rs"),
                "use idle_crate::thing;".to_owned(),
            ),
        ]);
        let findings = check_unused(Path::new("/x"), &metadata, &texts);
        assert_eq!(findings.len(), 1);
        assert!(findings[0].contains("idle-crate"));
    }
}
