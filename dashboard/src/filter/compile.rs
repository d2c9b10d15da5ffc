//! Expressions to SQL: columns from the dictionary, values as parameters.

use std::fmt::Write as _;

use ja4_schema::queries::Query;

use crate::filter::ast::{Expr, Part, Pattern, Test};
use crate::filter::fields::{FieldDef, Kind, Target};

/// A WHERE expression and its parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Compiled {
    /// The expression; `1` when everything passes.
    pub(crate) sql: String,
    /// Names and values of its parameters.
    pub(crate) params: Vec<(String, String)>,
}

/// Columns that free text is searched in.
const TEXT_COLUMNS: [&str; 3] = ["user_agent", "path", "host"];

/// Columns whose every value is looked at, where the others have a dictionary. `lower(…) LIKE` takes a quarter less time on
/// them than `ILIKE`, which folds Unicode: for a pattern in ASCII both say the same. How a text begins takes less still.
const PLAIN_COLUMNS: [&str; 3] = ["path", "query", "referer"];

pub(crate) fn compile(expr: Option<&Expr>) -> Compiled {
    let mut out = Compiled {
        sql: String::new(),
        params: Vec::new(),
    };
    match expr {
        Some(expr) => write_expr(&mut out, expr),
        None => out.sql.push('1'),
    }
    out
}

impl Expr {
    pub(crate) fn needs_clients(&self) -> bool {
        match self {
            Self::And(parts) | Self::Or(parts) => parts.iter().any(Self::needs_clients),
            Self::Not(inner) => inner.needs_clients(),
            Self::Field(field, _) => matches!(field.target, Target::Clients { .. }),
            Self::Text(_) => false,
        }
    }

    pub(crate) fn needs_only(&self, columns: &[&str]) -> bool {
        match self {
            Self::And(parts) | Self::Or(parts) => parts.iter().all(|part| part.needs_only(columns)),
            Self::Not(inner) => inner.needs_only(columns),
            Self::Field(field, _) => match field.target {
                Target::Column(column) => columns.contains(&column),
                Target::Clients { .. } => true,
            },
            Self::Text(_) => TEXT_COLUMNS.iter().all(|column| columns.contains(column)),
        }
    }
}

impl Compiled {
    /// Clients with a request that passes: an expression over `entity_id`, where only clients are known.
    #[must_use]
    pub(crate) fn of_clients(self) -> Self {
        let mut out = Self {
            sql: "entity_id GLOBAL IN (".to_owned(),
            params: self.params,
        };
        write_set(&mut out, "filter_clients", |out| out.push(&self.sql));
        out.push(")");
        out
    }

    /// A parameter of this type with this value, as a placeholder.
    fn param(&mut self, kind: &str, value: impl Into<String>) -> String {
        let name = format!("f{}", self.params.len());
        let placeholder = format!("{{{name}:{kind}}}");
        self.params.push((name, value.into()));
        placeholder
    }

    fn push(&mut self, text: &str) {
        self.sql.push_str(text);
    }
}

fn write_expr(out: &mut Compiled, expr: &Expr) {
    match expr {
        Expr::And(parts) => write_joined(out, parts, " AND "),
        Expr::Or(parts) => write_joined(out, parts, " OR "),
        Expr::Not(inner) => {
            out.push("NOT (");
            write_expr(out, inner);
            out.push(")");
        }
        Expr::Field(field, test) => match field.target {
            Target::Column(column) => write_test(out, field, column, test),
            Target::Clients { query, column, none } => write_clients(out, field, (query, column, none), test),
        },
        Expr::Text(pattern) => {
            // One parameter for all three columns.
            let like = like(&around(pattern));
            let is_ascii = like.is_ascii();
            let value = out.param("String", like.to_ascii_lowercase());
            let columns = TEXT_COLUMNS.map(|column| is_like(column, &value, is_ascii));
            out.push(&format!("({})", columns.join(" OR ")));
        }
    }
}

fn write_joined(out: &mut Compiled, parts: &[Expr], between: &str) {
    out.push("(");
    for (i, part) in parts.iter().enumerate() {
        if i > 0 {
            out.push(between);
        }
        write_expr(out, part);
    }
    out.push(")");
}

/// Clients with a property: `entity_id GLOBAL IN (…)`.
fn write_clients(
    out: &mut Compiled,
    field: &FieldDef,
    (query, column, none): (&str, &str, Option<&str>),
    test: &Test,
) {
    let is_none = |test: &Test| match test {
        Test::Choice(idx) => none.is_some() && field.choices().nth(*idx) == none,
        Test::Absent => true,
        _ => false,
    };
    match test {
        Test::AnyOf(tests) => {
            out.push("(");
            for (i, test) in tests.iter().enumerate() {
                if i > 0 {
                    out.push(" OR ");
                }
                write_clients(out, field, (query, column, none), test);
            }
            out.push(")");
        }
        test if is_none(test) => {
            out.push("entity_id GLOBAL NOT IN (");
            write_set(out, query, |out| out.push("1"));
            out.push(")");
        }
        test => {
            out.push("entity_id GLOBAL IN (");
            write_set(out, query, |out| match test {
                Test::Present => out.push("1"),
                // An alert is flagged too.
                Test::Choice(idx) if field.choices().nth(*idx) == Some("flagged") => {
                    out.push("verdict IN ('flagged', 'alert')");
                }
                test => write_test(out, field, column, test),
            });
            out.push(")");
        }
    }
}

/// The query that gives the clients, with the expression in its place.
fn write_set(out: &mut Compiled, query: &str, expression: impl FnOnce(&mut Compiled)) {
    let query = Query::named(query).expect("a test names the query of every field");
    let (before, after) = query
        .body()
        .split_once(ja4_schema::queries::FILTER)
        .expect("a test finds the placeholder in the query of every field");
    out.push(before);
    expression(out);
    out.push(after);
}

fn write_test(out: &mut Compiled, field: &FieldDef, column: &str, test: &Test) {
    let is_text = matches!(field.kind, Kind::Text);
    match test {
        Test::AnyOf(tests) => write_any_of(out, field, column, tests),
        Test::Present | Test::Absent => {
            let is_present = *test == Test::Present;
            let sql = match field.kind {
                Kind::Text => format!("{column} {} ''", if is_present { "!=" } else { "=" }),
                Kind::Number(_) | Kind::Id | Kind::Bits(_) => {
                    format!("{column} {} 0", if is_present { "!=" } else { "=" })
                }
                Kind::Address => format!("{column} {} toIPv6('::')", if is_present { "!=" } else { "=" }),
                // Every row has one of the choices.
                Kind::Choice(_) => if is_present { "1" } else { "0" }.to_owned(),
            };
            out.push(&sql);
        }
        Test::Like(pattern) => {
            debug_assert!(is_text, "only texts are like something");
            if let Some(text) = pattern.literal() {
                let value = out.param("String", text);
                let _written = write!(out.sql, "{column} = {value}");
            } else if let Some(start) = pattern.start().filter(|start| start.is_ascii())
                && PLAIN_COLUMNS.contains(&column)
            {
                let value = out.param("String", start.to_ascii_lowercase());
                let _written = write!(out.sql, "lower(left({column}, length({value}))) = {value}");
            } else {
                let like = like(pattern);
                let is_ascii = like.is_ascii();
                let value = out.param("String", like.to_ascii_lowercase());
                out.push(&is_like(column, &value, is_ascii));
            }
        }
        Test::Numbers { lo, hi } => {
            let (lo, hi) = (lo.map(decimal), hi.map(decimal));
            let kind = if lo.iter().chain(&hi).any(|n| n.contains(['.', '-'])) {
                "Float64"
            } else {
                "UInt64"
            };
            match (lo, hi) {
                (Some(lo), Some(hi)) if lo == hi => {
                    let value = out.param(kind, lo);
                    let _written = write!(out.sql, "{column} = {value}");
                }
                (lo, hi) => {
                    out.push("(");
                    if let Some(lo) = &lo {
                        let value = out.param(kind, lo);
                        let _written = write!(out.sql, "{column} >= {value}");
                    }
                    if lo.is_some() && hi.is_some() {
                        out.push(" AND ");
                    }
                    if let Some(hi) = hi {
                        let value = out.param(kind, hi);
                        let _written = write!(out.sql, "{column} <= {value}");
                    }
                    out.push(")");
                }
            }
        }
        Test::Id(id) => {
            let value = out.param("UInt64", id.to_string());
            let _written = write!(out.sql, "{column} = {value}");
        }
        Test::Network { first, last } => {
            let lo = out.param("IPv6", address(*first));
            if first == last {
                let _written = write!(out.sql, "{column} = {lo}");
            } else {
                let hi = out.param("IPv6", address(*last));
                let _written = write!(out.sql, "({column} >= {lo} AND {column} <= {hi})");
            }
        }
        Test::Choice(idx) => {
            if let Kind::Bits(bits) = field.kind {
                let bit = bits.get(*idx).map_or(0, |(_, bit)| *bit);
                let _written = write!(out.sql, "bitTest({column}, {bit})");
            } else {
                let value = out.param("String", field.choices().nth(*idx).unwrap_or_default());
                let _written = write!(out.sql, "{column} = {value}");
            }
        }
    }
}

/// Whole texts and lone addresses go into one IN, which an index serves; the rest is joined by OR.
fn write_any_of(out: &mut Compiled, field: &FieldDef, column: &str, tests: &[Test]) {
    let mut whole = Vec::new();
    let mut rest = Vec::new();
    for test in tests {
        match test {
            Test::Like(pattern) if pattern.literal().is_some() => {
                whole.push(("String", pattern.literal().unwrap_or_default().to_owned()));
            }
            Test::Network { first, last } if first == last => whole.push(("IPv6", address(*first))),
            other => rest.push(other),
        }
    }
    out.push("(");
    if !whole.is_empty() {
        let values: Vec<String> = whole
            .into_iter()
            .map(|(kind, value)| out.param(kind, value))
            .collect();
        let _written = write!(out.sql, "{column} IN ({})", values.join(", "));
        if !rest.is_empty() {
            out.push(" OR ");
        }
    }
    for (i, test) in rest.into_iter().enumerate() {
        if i > 0 {
            out.push(" OR ");
        }
        write_test(out, field, column, test);
    }
    out.push(")");
}

/// With any characters on both sides.
fn around(pattern: &Pattern) -> Pattern {
    let mut parts = pattern.0.clone();
    if parts.first() != Some(&Part::Any) {
        parts.insert(0, Part::Any);
    }
    if parts.last() != Some(&Part::Any) {
        parts.push(Part::Any);
    }
    Pattern(parts)
}

/// A column against a pattern whose ASCII letters are small, whatever the case of the column's.
fn is_like(column: &str, value: &str, is_ascii: bool) -> String {
    if is_ascii && PLAIN_COLUMNS.contains(&column) {
        format!("lower({column}) LIKE {value}")
    } else {
        format!("{column} ILIKE {value}")
    }
}

/// The pattern as LIKE has it.
fn like(pattern: &Pattern) -> String {
    let mut out = String::new();
    for part in &pattern.0 {
        match part {
            Part::Any => out.push('%'),
            Part::Literal(text) => {
                for c in text.chars() {
                    if matches!(c, '%' | '_' | '\\') {
                        out.push('\\');
                    }
                    out.push(c);
                }
            }
        }
    }
    out
}

fn decimal(number: f64) -> String {
    if number.fract() == 0.0 {
        format!("{number:.0}")
    } else {
        format!("{number}")
    }
}

fn address(ip: std::net::Ipv6Addr) -> String {
    ip.to_string()
}
