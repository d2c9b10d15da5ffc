//! Synthetic requests as statements: what measurements and tests fill a store with. Pure.

use crate::files;

/// Which of how many requests to make. The same number is the same request, whatever is made beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SyntheticRequests<'a> {
    /// Number of the first.
    pub first: u64,
    /// How many.
    pub rows: u64,
    /// How many there are in all, which are spread over `days`.
    pub total: u64,
    /// Days that all of them cover.
    pub days: u32,
    /// When they end, `YYYY-MM-DD hh:mm:ss` in UTC.
    pub end: &'a str,
}

impl SyntheticRequests<'_> {
    /// The statement that puts them into `{logs}.http_logs`.
    pub fn sql(&self) -> String {
        fill_in(
            files::GENERATE,
            &[
                ("first", &self.first.to_string()),
                ("rows", &self.rows.to_string()),
                ("total", &self.total.to_string()),
                ("days", &self.days.to_string()),
                ("end", &format!("'{}'", self.end)),
            ],
        )
    }
}

/// Replaces parameters `{name:Type}` of a statement by values, as an `INSERT … SELECT` cannot have them on every server. The
/// values are SQL and come from the program itself, never from outside.
pub fn fill_in(sql: &str, values: &[(&str, &str)]) -> String {
    values.iter().fold(sql.to_owned(), |sql, (name, value)| {
        let start = format!("{{{name}:");
        let mut out = String::with_capacity(sql.len());
        let mut rest = sql.as_str();
        while let Some((before, after)) = rest.split_once(&start) {
            let Some((_, behind)) = after.split_once('}') else {
                break;
            };
            out.push_str(before);
            out.push_str(value);
            rest = behind;
        }
        out + rest
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_replaced_wherever_they_stand_and_names_of_databases_are_not() {
        let sql = "SELECT {a:UInt8} + {b:UInt8} + {a:UInt64} FROM {logs}.t";
        assert_eq!(
            fill_in(sql, &[("a", "1"), ("b", "{a}")]),
            "SELECT 1 + {a} + 1 FROM {logs}.t"
        );
        assert_eq!(fill_in("{a:UInt8", &[("a", "1")]), "{a:UInt8");
    }

    #[test]
    fn the_statement_has_every_value() {
        let requests = SyntheticRequests {
            first: 7,
            rows: 8,
            total: 9,
            days: 1,
            end: "2026-01-01 00:00:00",
        };
        let sql = requests.sql();
        let code: String = sql.lines().filter(|line| !line.starts_with("--")).collect();
        assert!(!code.contains(":UInt") && !code.contains(":DateTime"), "{code}");
        assert!(code.contains("'2026-01-01 00:00:00'"));
    }
}
