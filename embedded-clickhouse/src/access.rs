//! Who may run what: decides on a statement before the engine sees it.
//!
//! Pure. The engine has one user, so the four tokens are told apart here. A class may read and insert by patterns
//! of `database.table`; everything that is neither a read nor an insert needs the migrator. Tables are found in the
//! tokens of the statement: every `a.b` whose `a` is an existing database counts as a table, and the session's
//! database must be readable as a whole, so that unqualified names need no resolving. Where this refuses too much
//! (an alias called like a database), the message says which name was meant. What reaches outside (`file`, `url`,
//! `remote`) the engine's grants refuse as well.

use std::collections::{BTreeMap, BTreeSet};

use crate::credentials::Class;
use crate::ffi::QueryClass;
use crate::lexer::{Lexer, TokenKind};
use crate::statement::{InsertSource, Kind, Statement, TableName};

/// `database.table` with `*` for any run of characters in either half.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    database: String,
    table: String,
}

impl std::str::FromStr for Pattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('.') {
            Some((database, table)) if !database.is_empty() && !table.is_empty() => Ok(Self {
                database: database.to_owned(),
                table: table.to_owned(),
            }),
            _ => Err(format!(
                "{text:?} is not a pattern such as ja4_logs.* or ja4_processing.soc_*"
            )),
        }
    }
}

impl Pattern {
    fn matches(&self, database: &str, table: &str) -> bool {
        glob(&self.database, database) && glob(&self.table, table)
    }

    fn matches_whole(&self, database: &str) -> bool {
        glob(&self.database, database) && self.table == "*"
    }
}

/// `*` stands for any run of characters; everything else for itself. Quadratic at worst, on names of some bytes.
fn glob(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((head, rest)) => text.strip_prefix(head).is_some_and(|tail| {
            tail.char_indices()
                .map(|(i, _)| i)
                .chain([tail.len()])
                .any(|i| glob(rest, &tail[i..]))
        }),
    }
}

/// What one class may do. The migrator has no rules: it may do what the engine grants.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rules {
    /// Tables that may be read.
    pub read: Vec<Pattern>,
    /// Tables that may be inserted into.
    pub insert: Vec<Pattern>,
}

/// What a request asks for, beside its statement.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// Database of the session; None for the engine's default, which is empty.
    pub database: Option<&'a str>,
    /// Databases that exist.
    pub databases: &'a BTreeSet<String>,
    /// Values of `{name:Identifier}` placeholders by name.
    pub identifiers: &'a BTreeMap<String, String>,
    /// What the engine's parser says the statement is.
    pub class: QueryClass,
}

/// Table functions that read other tables or files by name, or run programs. The engine's grants refuse most of
/// them too; `merge`, `loop` and the index readers they do not.
const REFUSED_FUNCTIONS: &[&str] = &[
    "azureBlobStorage",
    "azureBlobStorageCluster",
    "arrowFlight",
    "cluster",
    "clusterAllReplicas",
    "deltaLake",
    "executable",
    "file",
    "fileCluster",
    "gcs",
    "hdfs",
    "hdfsCluster",
    "hudi",
    "iceberg",
    "input",
    "jdbc",
    "loop",
    "merge",
    "mergeTreeAnalyzeIndexes",
    "mergeTreeIndex",
    "mergeTreeProjection",
    "mergeTreeTextIndex",
    "mongodb",
    "mysql",
    "odbc",
    "paimon",
    "postgresql",
    "prometheusQuery",
    "prometheusQueryRange",
    "python",
    "redis",
    "remote",
    "remoteSecure",
    "s3",
    "s3Cluster",
    "sqlite",
    "timeSeriesData",
    "timeSeriesMetrics",
    "timeSeriesSelector",
    "timeSeriesTags",
    "url",
    "urlCluster",
    "ytsaurus",
];

/// Databases that everyone may ask, with the tables in them that name no one's queries.
const PUBLIC_SYSTEM_TABLES: &[&str] = &[
    "asynchronous_metrics",
    "build_options",
    "columns",
    "contributors",
    "data_type_families",
    "databases",
    "dictionaries",
    "disks",
    "events",
    "formats",
    "functions",
    "keywords",
    "licenses",
    "merges",
    "metrics",
    "mutations",
    "numbers",
    "numbers_mt",
    "one",
    "parts",
    "parts_columns",
    "server_settings",
    "settings",
    "table_engines",
    "table_functions",
    "tables",
    "time_zones",
    "view_refreshes",
    "zeros",
    "zeros_mt",
];

/// Decides whether a class may run a statement.
///
/// # Errors
/// One line that says what was refused and which token may do it.
pub fn authorise(
    class: Class,
    rules: &Rules,
    statement: &Statement,
    context: Context<'_>,
) -> Result<(), String> {
    if class == Class::Migrator {
        return Ok(());
    }
    let name = class.name();
    let reads =
        matches!(statement.kind, Kind::Select | Kind::Inspect) && context.class == QueryClass::ReadOnly;
    let inserts = statement.kind == Kind::Insert && context.class == QueryClass::Mutating;
    if !reads && !inserts {
        return Err(format!(
            "the {name} token may only read and insert; this statement needs the migrator token"
        ));
    }
    if let Some(database) = context.database
        && database != "default"
        && !rules.read.iter().any(|pattern| pattern.matches_whole(database))
    {
        return Err(format!(
            "the {name} token may not use database {database}: leave database= out and write database.table"
        ));
    }
    let mut target = None;
    if let Some(insert) = &statement.insert {
        let Some(table) = &insert.target else {
            return Err(format!("the {name} token may insert into tables only"));
        };
        let resolved = resolve(table, context)?;
        if !rules
            .insert
            .iter()
            .any(|pattern| pattern.matches(&resolved.0, &resolved.1))
        {
            return Err(format!(
                "the {name} token may not insert into {}.{}",
                resolved.0, resolved.1
            ));
        }
        if insert.source != InsertSource::Query {
            return Ok(());
        }
        target = Some(resolved);
    }
    let mentions = mentions(&statement.sql, context);
    if let Some(function) = mentions.functions.first() {
        return Err(format!(
            "the {name} token may not use the table function {function}"
        ));
    }
    let readable = |(database, table): &(String, String)| {
        let system = database == "system" || database.eq_ignore_ascii_case("information_schema");
        let public = database.eq_ignore_ascii_case("information_schema")
            || PUBLIC_SYSTEM_TABLES.contains(&table.as_str());
        (system && public) || rules.read.iter().any(|pattern| pattern.matches(database, table))
    };
    match mentions
        .tables
        .iter()
        .find(|table| Some(*table) != target.as_ref() && !readable(table))
    {
        Some((database, table)) => Err(format!("the {name} token may not read {database}.{table}")),
        None => Ok(()),
    }
}

fn resolve(table: &TableName, context: Context<'_>) -> Result<(String, String), String> {
    match (&table.database, context.database) {
        (Some(database), _) => Ok((database.clone(), table.table.clone())),
        (None, Some(database)) => Ok((database.to_owned(), table.table.clone())),
        (None, None) => Err(format!(
            "table {} needs its database: write database.{}",
            table.table, table.table
        )),
    }
}

/// What a statement names.
#[derive(Debug, Default, PartialEq, Eq)]
struct Mentions {
    /// `database.table`, whatever it is used for.
    tables: BTreeSet<(String, String)>,
    /// Refused table functions.
    functions: Vec<String>,
}

/// A token with its name, placeholders of type Identifier replaced by their values.
enum Piece {
    Name(String),
    Text(String),
    Punctuation(u8),
    Other,
}

fn mentions(sql: &[u8], context: Context<'_>) -> Mentions {
    let pieces = pieces(sql, context.identifiers);
    let mut found = Mentions::default();
    let mut mention = |database: &str, table: &str| {
        if context.databases.contains(database) {
            found.tables.insert((database.to_owned(), table.to_owned()));
        }
    };
    for (i, piece) in pieces.iter().enumerate() {
        let next = pieces.get(i + 1);
        match (piece, next, pieces.get(i + 2)) {
            (Piece::Name(database), Some(Piece::Punctuation(b'.')), Some(Piece::Name(table))) => {
                mention(database, table);
            }
            // dictGet('database.dictionary', …), joinGet, dictionary('…').
            (
                Piece::Name(function),
                Some(Piece::Punctuation(b'(')),
                Some(Piece::Text(name) | Piece::Name(name)),
            ) if names_a_table(function) => {
                if let Some((database, table)) = name.split_once('.') {
                    mention(database, table);
                }
            }
            _ => {}
        }
    }
    for pair in pieces.windows(2) {
        if let [Piece::Name(function), Piece::Punctuation(b'(')] = pair
            && REFUSED_FUNCTIONS
                .iter()
                .any(|refused| function.eq_ignore_ascii_case(refused))
        {
            found.functions.push(function.clone());
        }
    }
    found
}

fn names_a_table(function: &str) -> bool {
    let function = function.to_ascii_lowercase();
    function.starts_with("dict") || function.starts_with("joinget")
}

fn pieces(sql: &[u8], identifiers: &BTreeMap<String, String>) -> Vec<Piece> {
    let tokens: Vec<_> = Lexer::new(sql).collect();
    let mut pieces = Vec::with_capacity(tokens.len());
    let mut i = 0;
    while let Some(token) = tokens.get(i) {
        // `{name:Identifier}` is five tokens.
        if token.is_punctuation(b'{')
            && tokens.get(i + 2).is_some_and(|t| t.is_punctuation(b':'))
            && tokens.get(i + 3).is_some_and(|t| t.is_word(sql, "Identifier"))
            && let Some(value) = tokens
                .get(i + 1)
                .and_then(|t| t.name(sql))
                .and_then(|n| identifiers.get(&n))
        {
            for (n, half) in value.splitn(2, '.').enumerate() {
                if n > 0 {
                    pieces.push(Piece::Punctuation(b'.'));
                }
                pieces.push(Piece::Name(half.to_owned()));
            }
            i += 5;
            continue;
        }
        pieces.push(match token.kind {
            TokenKind::Word | TokenKind::QuotedName => token.name(sql).map_or(Piece::Other, Piece::Name),
            TokenKind::Text => token.name(sql).map_or(Piece::Other, Piece::Text),
            TokenKind::Punctuation(byte) => Piece::Punctuation(byte),
            TokenKind::Number | TokenKind::Unterminated => Piece::Other,
        });
        i += 1;
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statement::split;

    fn rules(read: &[&str], insert: &[&str]) -> Rules {
        let parse = |list: &[&str]| list.iter().map(|p| p.parse().unwrap()).collect();
        Rules {
            read: parse(read),
            insert: parse(insert),
        }
    }

    #[track_caller]
    fn check(class: Class, rules: &Rules, engine: QueryClass, sql: &str, expected: Result<(), &str>) {
        let databases: BTreeSet<String> = ["logs", "processing", "system", "default"]
            .map(str::to_owned)
            .into();
        let identifiers = BTreeMap::from([("d".to_owned(), "processing".to_owned())]);
        let context = Context {
            database: None,
            databases: &databases,
            identifiers: &identifiers,
            class: engine,
        };
        let statement = split(sql.as_bytes(), true).unwrap();
        let found = authorise(class, rules, &statement, context);
        match (found, expected) {
            (Ok(()), Ok(())) => {}
            (Err(found), Err(expected)) => assert!(found.contains(expected), "{sql}: {found}"),
            (found, expected) => panic!("{sql}: {found:?}, expected {expected:?}"),
        }
    }

    fn writer(engine: QueryClass, sql: &str, expected: Result<(), &str>) {
        check(
            Class::Writer,
            &rules(&["logs.*", "processing.schema_*"], &["logs.*"]),
            engine,
            sql,
            expected,
        );
    }

    #[test]
    fn writer_inserts_and_reads_its_own_database_only() {
        use QueryClass::{Mutating, ReadOnly};
        writer(Mutating, "INSERT INTO logs.t FORMAT Native", Ok(()));
        writer(
            Mutating,
            "INSERT INTO processing.t FORMAT Native",
            Err("may not insert into processing.t"),
        );
        writer(
            Mutating,
            "INSERT INTO `processing` . \"t\" VALUES",
            Err("may not insert into processing.t"),
        );
        writer(Mutating, "INSERT INTO t VALUES", Err("needs its database"));
        writer(
            Mutating,
            "INSERT INTO FUNCTION file('x') SELECT 1",
            Err("tables only"),
        );
        writer(
            Mutating,
            "INSERT INTO logs.t SELECT * FROM processing.x",
            Err("may not read processing.x"),
        );
        writer(Mutating, "INSERT INTO logs.t SELECT * FROM logs.u", Ok(()));
        writer(ReadOnly, "SELECT count() FROM logs.t", Ok(()));
        writer(ReadOnly, "SELECT version FROM processing.schema_steps", Ok(()));
        writer(
            ReadOnly,
            "SELECT * FROM processing.scores",
            Err("may not read processing.scores"),
        );
        writer(
            ReadOnly,
            "SELECT * FROM logs.t WHERE x IN (SELECT y FROM `processing`.`z`)",
            Err("processing.z"),
        );
        writer(
            ReadOnly,
            "SELECT dictGet('processing.d', 'a', 1)",
            Err("processing.d"),
        );
        writer(
            ReadOnly,
            "SELECT * FROM {d:Identifier}.scores",
            Err("processing.scores"),
        );
        writer(
            ReadOnly,
            "DESCRIBE TABLE processing.scores",
            Err("processing.scores"),
        );
        writer(
            ReadOnly,
            "SELECT * FROM merge('processing', '.*')",
            Err("table function merge"),
        );
        writer(
            ReadOnly,
            "SELECT * FROM system.processes",
            Err("system.processes"),
        );
        writer(ReadOnly, "SELECT * FROM system.tables", Ok(()));
        writer(ReadOnly, "SELECT 'processing.scores'", Ok(()));
    }

    #[test]
    fn only_the_migrator_defines_and_controls() {
        for class in [Class::Writer, Class::Detector, Class::Dashboard] {
            let rules = rules(&["*.*"], &["*.*"]);
            check(
                class,
                &rules,
                QueryClass::Mutating,
                "CREATE TABLE logs.x (a Int8) ENGINE = Null",
                Err("migrator"),
            );
            check(
                class,
                &rules,
                QueryClass::Mutating,
                "ALTER TABLE logs.x DELETE WHERE 1",
                Err("migrator"),
            );
            check(
                class,
                &rules,
                QueryClass::Control,
                "SYSTEM RELOAD DICTIONARIES",
                Err("migrator"),
            );
            check(
                class,
                &rules,
                QueryClass::Control,
                "KILL QUERY WHERE 1",
                Err("migrator"),
            );
            // The engine's parser disagrees with ours: refused.
            check(class, &rules, QueryClass::Mutating, "SELECT 1", Err("migrator"));
        }
        check(
            Class::Migrator,
            &Rules::default(),
            QueryClass::Mutating,
            "DROP TABLE logs.x",
            Ok(()),
        );
    }

    #[test]
    fn dashboard_inserts_what_analysts_do_only() {
        let rules = rules(&["logs.*", "processing.*"], &["processing.soc_*"]);
        let insert = QueryClass::Mutating;
        check(
            Class::Dashboard,
            &rules,
            insert,
            "INSERT INTO processing.soc_labels VALUES",
            Ok(()),
        );
        check(
            Class::Dashboard,
            &rules,
            insert,
            "INSERT INTO processing.ml_scores VALUES",
            Err("ml_scores"),
        );
        check(
            Class::Dashboard,
            &rules,
            insert,
            "INSERT INTO logs.http_logs VALUES",
            Err("http_logs"),
        );
    }

    #[test]
    fn session_database_must_be_readable_as_a_whole() {
        let databases = BTreeSet::from(["processing".to_owned()]);
        let identifiers = BTreeMap::new();
        let context = Context {
            database: Some("processing"),
            databases: &databases,
            identifiers: &identifiers,
            class: QueryClass::ReadOnly,
        };
        let statement = split(b"SELECT * FROM scores", true).unwrap();
        let partly = rules(&["processing.schema_*"], &[]);
        assert!(
            authorise(Class::Writer, &partly, &statement, context)
                .unwrap_err()
                .contains("database processing")
        );
        assert_eq!(
            authorise(Class::Writer, &rules(&["processing.*"], &[]), &statement, context),
            Ok(())
        );
    }

    #[test]
    fn star_stands_for_any_run() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("a*c", "abbc", true),
            ("a*c", "abb", false),
            ("soc_*", "soc_", true),
            ("a", "ab", false),
            ("*x*", "éxé", true),
        ] {
            assert_eq!(glob(pattern, text), expected, "{pattern} {text}");
        }
    }
}
