//! The generated tables are well-formed: sorted, dated, sourced, and every name in them leads somewhere.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use ja4_identity::{Basis, Catalogue, weights};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Comment, column names, lines.
fn read(path: &str) -> (String, Vec<String>, Vec<Vec<String>>) {
    let text = std::fs::read_to_string(root().join(path)).unwrap();
    let mut lines = text.lines();
    let comment = lines.next().unwrap().to_owned();
    assert!(
        comment.starts_with("# ") && comment.contains("made by scripts/catalogue/"),
        "{path}"
    );
    let split = |line: &str| line.split('\t').map(str::to_owned).collect::<Vec<_>>();
    let names = split(lines.next().unwrap());
    (comment, names, lines.map(split).collect())
}

fn is_date(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() == 10
        && text.starts_with("20")
        && bytes.iter().enumerate().all(|(i, b)| {
            if i == 4 || i == 7 {
                *b == b'-'
            } else {
                b.is_ascii_digit()
            }
        })
}

#[test]
fn tables_are_sorted_and_rectangular() {
    for path in [
        "testdata/identities/clients.tsv",
        "testdata/identities/tls.tsv",
        "testdata/identities/http2.tsv",
        "testdata/identities/headers.tsv",
        "lib/identity/data/crawlers.tsv",
        "lib/identity/data/crawler_ranges.tsv",
        "lib/identity/data/crawler_patterns.tsv",
    ] {
        let (_, names, lines) = read(path);
        assert!(lines.len() > 10, "{path}");
        assert!(lines.is_sorted(), "{path} is not sorted");
        let distinct: BTreeSet<_> = lines.iter().collect();
        assert_eq!(distinct.len(), lines.len(), "{path} repeats a line");
        for line in &lines {
            assert_eq!(line.len(), names.len(), "{path}: {line:?}");
        }
    }
}

#[test]
fn every_client_is_dated_sourced_and_used() {
    let (_, _, lines) = read("testdata/identities/clients.tsv");
    let mut used = BTreeSet::new();
    for table in ["tls", "http2", "headers"] {
        for line in read(&format!("testdata/identities/{table}.tsv")).2 {
            used.extend(line.last().unwrap().split(',').map(str::to_owned));
        }
    }
    let ids: BTreeSet<String> = lines.iter().map(|line| line[0].clone()).collect();
    assert_eq!(ids.len(), lines.len(), "an id is used twice");
    assert_eq!(ids, used, "clients without values, or values without clients");
    for line in Catalogue::embedded().lines() {
        assert!(is_date(line.date), "{}: {}", line.id, line.date);
        assert!(
            !line.source.is_empty() && !line.client.is_empty() && !line.stack.is_empty(),
            "{}",
            line.id
        );
        assert!(
            line.version.starts_with(|c: char| c.is_ascii_digit()),
            "{}: {}",
            line.id,
            line.version
        );
        assert!(["browser", "library", "tool"].contains(&line.kind), "{}", line.id);
        // A copy says what it was copied by, and none passes as the client itself.
        let is_copy = line.source.contains("curl_cffi");
        assert_eq!(line.basis == Basis::Impersonation, is_copy, "{}", line.id);
        assert_eq!(
            line.basis == Basis::Signature,
            line.source.contains("signatures/"),
            "{}",
            line.id
        );
    }
}

#[test]
fn fingerprints_have_the_form_of_the_sensor() {
    let is_ja4 = |text: &str| {
        let parts: Vec<&str> = text.split('_').collect();
        let is_hash = |part: &str| part.len() == 12 && part.bytes().all(|b| b.is_ascii_hexdigit());
        parts.len() == 3
            && parts[0].len() == 10
            && parts[0].starts_with("t1")
            && is_hash(parts[1])
            && is_hash(parts[2])
    };
    for line in read("testdata/identities/tls.tsv").2 {
        assert!(is_ja4(&line[0]) && is_ja4(&line[1]), "{line:?}");
        // Nothing of the normal form depends on the session, so ciphers and version stay.
        assert_eq!(
            (&line[0][..6], &line[0][10..23]),
            (&line[1][..6], &line[1][10..23]),
            "{line:?}"
        );
    }
    for line in read("testdata/identities/http2.tsv").2 {
        assert_eq!(line[0].split('|').count(), 4, "{line:?}");
    }
    for line in read("testdata/identities/headers.tsv").2 {
        assert!(["1", "2"].contains(&line[0].as_str()), "{line:?}");
        let is_named = |name: &str| {
            name.bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        };
        assert!(line[2].split(',').all(is_named), "{line:?}");
    }
}

#[test]
fn copies_and_signatures_of_one_browser_version_agree() {
    let catalogue = Catalogue::embedded();
    let norms = |id: &str| -> BTreeSet<String> {
        let lines = read("testdata/identities/tls.tsv").2;
        let of = lines
            .iter()
            .filter(|line| line[4].split(',').any(|found| found == id));
        of.map(|line| line[1].clone()).collect()
    };
    let mut n_compared = 0;
    for signature in catalogue
        .lines()
        .iter()
        .filter(|line| line.basis == Basis::Signature)
    {
        let version = signature.claims.engine_version;
        let same = catalogue.lines().iter().filter(|line| {
            line.basis == Basis::Impersonation
                && line.claims.engine_version == version
                && line.client == signature.client
        });
        for copy in same {
            assert_eq!(
                norms(copy.id),
                norms(signature.id),
                "{} and {}",
                copy.id,
                signature.id
            );
            n_compared += 1;
        }
    }
    assert!(n_compared >= 15, "{n_compared}");
}

#[test]
fn networks_carry_their_day() {
    for line in read("lib/identity/data/crawler_ranges.tsv").2 {
        assert!(is_date(&line[3]), "{line:?}");
    }
}

#[test]
fn the_documentation_has_every_weight() {
    let text = std::fs::read_to_string(root().join("docs/libraries/identity.md")).unwrap();
    for weight in weights::ALL {
        let row = format!("| {} | {} |", weight.name, weight.bits);
        assert!(
            text.contains(&row),
            "docs/libraries/identity.md lacks the row: {row} {} |",
            weight.because
        );
        assert!(weight.bits > 0.0 && weight.bits <= weights::CAP_BITS);
        assert!(
            weight.bits < weights::FLOOR_BITS || weight.name == weights::CRAWLER_OUTSIDE.name,
            "{}",
            weight.name
        );
    }
    for (name, bits) in [
        ("cap", weights::CAP_BITS),
        ("floor", weights::FLOOR_BITS),
        ("transport cap", weights::TRANSPORT_CAP_BITS),
    ] {
        assert!(text.contains(&format!("| {name} | {bits} |")), "{name}");
    }
}
