//! Rows as files: CSV with formulas neutralised, NDJSON with what cannot be seen escaped.
//!
//! Pure. A value of a CSV file is shown by programs that run formulas and believe control characters; one of an NDJSON
//! file is read by programs. So CSV changes values (and says how: a `'` in front, `\u{…}` for what cannot be seen), and
//! NDJSON never does: its escapes stand for exactly the value.
#![warn(clippy::disallowed_methods, reason = "pure: rows in, bytes out")]

use std::fmt::Write as _;

use serde_json::{Map, Value};

use crate::api::types::ExportFormat;

/// What a spreadsheet takes for the beginning of a formula, full-width forms included.
const FORMULA_SIGNS: [char; 10] = ['=', '+', '-', '@', '\t', '\r', '＝', '＋', '－', '＠'];

/// The line of names; nothing for NDJSON, whose lines have names of their own.
pub(crate) fn header(format: ExportFormat, columns: &[&str]) -> Vec<u8> {
    match format {
        ExportFormat::Csv => csv_line(columns.iter().map(|name| (*name).to_owned())),
        ExportFormat::Ndjson => Vec::new(),
    }
}

/// One row.
pub(crate) fn line(format: ExportFormat, columns: &[&str], row: &Map<String, Value>) -> Vec<u8> {
    match format {
        ExportFormat::Csv => csv_line(
            columns
                .iter()
                .map(|name| row.get(*name).map_or_else(String::new, csv_value)),
        ),
        ExportFormat::Ndjson => ndjson_line(columns, row),
    }
}

fn csv_value(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::Bool(truth) => truth.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => neutral(text),
        other => neutral(&other.to_string()),
    }
}

/// A text that no spreadsheet runs and no terminal obeys.
pub(crate) fn neutral(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 1);
    // A formula may hide behind quotes and spaces: some programs take those away first.
    let first = text
        .chars()
        .find(|c| !matches!(c, '"' | '\'') && (!c.is_whitespace() || matches!(c, '\t' | '\r')));
    if first.is_some_and(|first| FORMULA_SIGNS.contains(&first)) {
        out.push('\'');
    }
    for c in text.chars() {
        if is_unseen(c) {
            out.extend(c.escape_unicode());
        } else {
            out.push(c);
        }
    }
    out
}

/// Control characters, and what turns the direction of text or has no width.
fn is_unseen(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}')
        || ('\u{e0000}'..='\u{e007f}').contains(&c)
}

fn csv_line(values: impl Iterator<Item = String>) -> Vec<u8> {
    let mut writer = csv::WriterBuilder::new()
        .quote_style(csv::QuoteStyle::Always)
        .terminator(csv::Terminator::CRLF)
        .from_writer(Vec::new());
    // Writing to memory does not fail, and a line has as many fields as it has.
    let _written = writer.write_record(values.map(String::into_bytes));
    writer.into_inner().unwrap_or_default()
}

fn ndjson_line(columns: &[&str], row: &Map<String, Value>) -> Vec<u8> {
    let mut out = String::from("{");
    for (i, name) in columns.iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        let value = row.get(*name).unwrap_or(&Value::Null);
        out.push_str(&Value::from(*name).to_string());
        out.push(':');
        for c in value.to_string().chars() {
            if is_unseen(c) {
                // Only texts hold such characters, and there \u is the same.
                let mut units = [0; 2];
                for unit in c.encode_utf16(&mut units) {
                    write!(out, "\\u{unit:04x}").expect("writing to a String does not fail");
                }
            } else {
                out.push(c);
            }
        }
    }
    out.push_str("}\n");
    out.into_bytes()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn formulas_are_neutralised() {
        for text in [
            "=1+1", "+1", "-1", "@x", "\t=1", "\r=1", "\"=1", "' =1", "  =1", "\"\"\"+1", "＝1", "\n=1",
        ] {
            assert!(neutral(text).starts_with('\''), "{text:?}");
        }
        for text in ["", "a=1", "Mozilla/5.0 (X; =1)", "/a-b", "1.5"] {
            assert_eq!(neutral(text), text);
        }
    }

    #[test]
    fn what_cannot_be_seen_is_written_out() {
        assert_eq!(
            neutral("a\u{202e}b\0c\u{1b}[31m"),
            "a\\u{202e}b\\u{0}c\\u{1b}[31m"
        );
        let row = Map::from_iter([("a".to_owned(), Value::from("x\u{202e}\u{7f}\u{e0001}"))]);
        let line = String::from_utf8(line(ExportFormat::Ndjson, &["a"], &row)).unwrap();
        assert_eq!(line, "{\"a\":\"x\\u202e\\u007f\\udb40\\udc01\"}\n");
    }

    #[test]
    fn numbers_stay_numbers() {
        let row = Map::from_iter([("a".to_owned(), Value::from(-5)), ("b".to_owned(), Value::Null)]);
        assert_eq!(
            line(ExportFormat::Csv, &["a", "b", "c"], &row),
            b"\"-5\",\"\",\"\"\r\n"
        );
        assert_eq!(
            line(ExportFormat::Ndjson, &["a", "b"], &row),
            b"{\"a\":-5,\"b\":null}\n"
        );
    }

    proptest! {
        #[test]
        fn prop_a_csv_line_reads_as_one_record_that_runs_nothing(texts in proptest::collection::vec("\\PC{0,20}|[=+@\t\r\n\"', -]{0,8}", 1..4)) {
            let columns: Vec<String> = (0..texts.len()).map(|i| format!("c{i}")).collect();
            let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
            let row = columns.iter().zip(&texts).map(|(c, t)| ((*c).to_owned(), Value::from(t.as_str()))).collect();
            let line = line(ExportFormat::Csv, &columns, &row);
            let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(&line[..]);
            let records: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
            prop_assert_eq!(records.len(), 1);
            prop_assert_eq!(records[0].len(), texts.len());
            for field in &records[0] {
                let first = field.trim_start_matches(['"', ' ']).chars().next();
                prop_assert!(!first.is_some_and(|c| FORMULA_SIGNS.contains(&c)), "{}", field);
                prop_assert!(!field.chars().any(is_unseen));
            }
        }

        #[test]
        fn prop_an_ndjson_line_is_exactly_the_value(text in "\\PC{0,20}|[\u{0}-\u{1f}\u{202a}-\u{202e}\"\\\\]{0,8}") {
            let row = Map::from_iter([("a".to_owned(), Value::from(text.as_str()))]);
            let line = line(ExportFormat::Ndjson, &["a"], &row);
            prop_assert_eq!(line.split(|b| *b == b'\n').count(), 2);
            let read: Map<String, Value> = serde_json::from_slice(&line).unwrap();
            prop_assert_eq!(&read["a"], &Value::from(text.as_str()));
        }
    }
}
