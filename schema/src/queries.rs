//! The queries of the dashboard, the detector and the ledger: files of `queries/`, by name.
//!
//! Each has a comment that says what it answers and for whom, parameters `{name:Type}`, and a LIMIT. Rust code names a file
//! and its parameters and holds no SQL of its own. Where a query has `{filter}`, an expression over its columns goes in,
//! made by whoever asks from names of columns and parameters alone, never from values.

use crate::files;
use crate::names::Names;

/// Where an expression goes in.
pub const FILTER: &str = "{filter}";

/// One query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Query {
    /// File name without ending.
    pub name: &'static str,
    /// The file.
    text: &'static str,
}

impl Query {
    /// The query of `queries/<name>.sql`.
    pub fn named(name: &str) -> Option<Self> {
        all().find(|query| query.name == name)
    }

    /// What it answers: the file's first line.
    pub fn purpose(&self) -> &'static str {
        self.text
            .lines()
            .next()
            .map_or("", |line| line.trim_start_matches("-- "))
    }

    /// Who asks it: the file's second line.
    pub fn reader(&self) -> &'static str {
        self.text
            .lines()
            .nth(1)
            .map_or("", |line| line.trim_start_matches("-- for: "))
    }

    /// The file, placeholders of databases included.
    pub fn text(&self) -> &'static str {
        self.text
    }

    /// The file without the comments at its top, on one line less: to be put into another statement.
    pub fn body(&self) -> &'static str {
        let mut rest = self.text;
        while let Some((comment, after)) = rest.split_once('\n')
            && comment.starts_with("--")
        {
            rest = after;
        }
        rest.trim_end()
    }

    /// The statement against these databases; parameters stay, and everything passes where an expression may stand.
    pub fn sql(&self, names: &Names) -> String {
        self.sql_where(names, "1")
    }

    /// The same with this expression where the file has [`FILTER`].
    pub fn sql_where(&self, names: &Names, expression: &str) -> String {
        names.expand(&self.text.replace(FILTER, expression))
    }

    /// Names and types of its parameters, each once, in order of appearance.
    pub fn params(&self) -> Vec<(&'static str, &'static str)> {
        let mut params = Vec::new();
        let mut rest = self.text;
        while let Some((_, after)) = rest.split_once('{') {
            let Some((inside, after)) = after.split_once('}') else {
                break;
            };
            if let Some(param) = inside.split_once(':')
                && !params.contains(&param)
            {
                params.push(param);
            }
            rest = after;
        }
        params
    }
}

/// All queries, by name.
pub fn all() -> impl Iterator<Item = Query> {
    files::QUERIES.iter().map(|(file, text)| Query {
        name: file.trim_end_matches(".sql"),
        text,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_found_once_and_placeholders_are_not_parameters() {
        let query = Query::named("overview").unwrap();
        let names: Vec<&str> = query.params().iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["step_s", "from", "to"]);
    }

    #[test]
    fn an_expression_goes_where_the_file_says() {
        let query = Query {
            name: "x",
            text: "-- X.\n-- for: dashboard\nSELECT a FROM {logs}.t WHERE {filter} AND b = {b:String}\nLIMIT 1\n",
        };
        assert_eq!(
            query.body(),
            "SELECT a FROM {logs}.t WHERE {filter} AND b = {b:String}\nLIMIT 1"
        );
        let names = Names::new("l", "p").unwrap();
        assert!(query.sql(&names).contains("FROM l.t WHERE 1 AND b"));
        assert!(
            query
                .sql_where(&names, "c IN (SELECT c FROM {processing}.u)")
                .contains("IN (SELECT c FROM p.u) AND b")
        );
        assert_eq!(query.params(), [("b", "String")]);
    }

    #[test]
    fn every_query_says_what_for_whom_and_how_much() {
        for query in all() {
            assert!(query.purpose().len() > 10, "{}: no purpose", query.name);
            assert!(query.text().contains("\n-- for: "), "{}: no reader", query.name);
            assert!(query.text().contains("\nLIMIT "), "{}: no limit", query.name);
        }
    }
}
