//! What a filter says, and how it is written down again.

use std::fmt;
use std::net::Ipv6Addr;

use crate::filter::fields::FieldDef;

/// A filter.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Expr {
    /// All must hold; at least one.
    And(Vec<Self>),
    /// One must hold; at least one.
    Or(Vec<Self>),
    /// It must not hold.
    Not(Box<Self>),
    /// A field has a value.
    Field(&'static FieldDef, Test),
    /// Text in User-Agent, path or host.
    Text(Pattern),
}

/// What a field's value must be.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Test {
    /// Something.
    Present,
    /// Nothing: the empty text or 0.
    Absent,
    /// This text, or one like it.
    Like(Pattern),
    /// From `lo` to `hi`, both inclusive.
    Numbers { lo: Option<f64>, hi: Option<f64> },
    /// Exactly this number.
    Id(u64),
    /// An address of this network.
    Network { first: Ipv6Addr, last: Ipv6Addr },
    /// One of the field's choices, by its place among them.
    Choice(usize),
    /// One of several; at least one.
    AnyOf(Vec<Self>),
}

/// A text with stars.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Pattern(pub(crate) Vec<Part>);

/// A piece of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Part {
    /// These characters.
    Literal(String),
    /// Any characters.
    Any,
}

impl Pattern {
    /// The text, if there is no star in it.
    pub(crate) fn literal(&self) -> Option<&str> {
        match self.0.as_slice() {
            [] => Some(""),
            [Part::Literal(text)] => Some(text),
            _ => None,
        }
    }

    /// The text that it begins with, if anything may follow.
    pub(crate) fn start(&self) -> Option<&str> {
        match self.0.as_slice() {
            [Part::Literal(text), Part::Any] => Some(text),
            _ => None,
        }
    }
}

/// Why a filter cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FilterError {
    /// First character, from 0.
    pub(crate) offset: usize,
    /// Characters; 0 when something is missing there.
    pub(crate) length: usize,
    /// What is wrong, one lower-case line.
    pub(crate) message: String,
    /// What to write instead, or what there is.
    pub(crate) remedy: String,
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::And(parts) => join(f, parts, " AND "),
            Self::Or(parts) => join(f, parts, " OR "),
            Self::Not(inner) => write!(f, "NOT {inner}"),
            Self::Field(field, test) => {
                write!(f, "{}:", field.name)?;
                write_test(f, field, test)
            }
            Self::Text(pattern) => write_pattern(f, pattern),
        }
    }
}

fn join(f: &mut fmt::Formatter<'_>, parts: &[Expr], between: &str) -> fmt::Result {
    f.write_str("(")?;
    for (i, part) in parts.iter().enumerate() {
        if i > 0 {
            f.write_str(between)?;
        }
        write!(f, "{part}")?;
    }
    f.write_str(")")
}

fn write_test(f: &mut fmt::Formatter<'_>, field: &FieldDef, test: &Test) -> fmt::Result {
    match test {
        Test::Present => f.write_str("*"),
        Test::Absent => f.write_str("\"\""),
        Test::Like(pattern) => write_pattern(f, pattern),
        Test::Numbers { lo, hi } if lo == hi => write!(f, "{}", lo.unwrap_or_default()),
        Test::Numbers { lo, hi } => {
            for (n, bound) in [lo, hi].into_iter().enumerate() {
                if n > 0 {
                    f.write_str("..")?;
                }
                if let Some(bound) = bound {
                    write!(f, "{bound}")?;
                }
            }
            Ok(())
        }
        Test::Id(id) => write!(f, "{id}"),
        Test::Network { first, last } => f.write_str(&network_text(*first, *last)),
        Test::Choice(idx) => f.write_str(field.choices().nth(*idx).unwrap_or_default()),
        Test::AnyOf(tests) => {
            f.write_str("(")?;
            for (i, test) in tests.iter().enumerate() {
                if i > 0 {
                    f.write_str(" OR ")?;
                }
                write_test(f, field, test)?;
            }
            f.write_str(")")
        }
    }
}

pub(crate) fn network_text(first: Ipv6Addr, last: Ipv6Addr) -> String {
    let prefix_len = (first.to_bits() ^ last.to_bits()).leading_zeros();
    match (first.to_ipv4_mapped(), prefix_len) {
        (Some(v4), 128) => v4.to_string(),
        (Some(v4), 96..) => format!("{v4}/{}", prefix_len - 96),
        (_, 128) => first.to_string(),
        _ => format!("{first}/{prefix_len}"),
    }
}

fn write_pattern(f: &mut fmt::Formatter<'_>, pattern: &Pattern) -> fmt::Result {
    if pattern.0.is_empty() {
        return f.write_str("\"\"");
    }
    for part in &pattern.0 {
        match part {
            Part::Literal(text) => f.write_str(&quoted(text))?,
            Part::Any => f.write_str("*")?,
        }
    }
    Ok(())
}

fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        if matches!(c, '"' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    out.push('"');
    out
}

/// A value as the language takes it: as it is where it can be, else quoted.
pub(crate) fn written(value: &str) -> String {
    let plain = !value.is_empty()
        && !matches!(value, "AND" | "OR" | "NOT")
        && !value.starts_with(['-', '<', '>', '='])
        && !value.contains("..")
        && value
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/' | ':' | '+' | ',' | '='));
    if plain { value.to_owned() } else { quoted(value) }
}
