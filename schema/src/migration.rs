//! Reads migration files: numbered, in steps of one statement, with placeholders for databases and cluster mode.
//!
//! A file begins with `-- kind:` and `-- min_writer:`. Comments above a statement carry its directives:
//!
//! ```text
//! -- key: which query the sorting key serves, and why it is this one
//! -- sharding: cityHash64(src_ip)                    (cluster mode: the Distributed table in front of the local one)
//! -- retention: http_logs_days 30 toDateTime(recv_ts) (setting, default in days, time that it counts from)
//! -- step: http_logs
//! CREATE TABLE IF NOT EXISTS {logs}.http_logs{local}{on_cluster} …;
//! ```
//!
//! Invariant: the checksum covers statements and directives that change what is made, neither comments nor white space nor
//! retention, so that a comment can be mended and a setting changed without a new migration.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};

use crate::names::Names;

/// How a migration is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MigrationKind {
    /// Each step is idempotent and is skipped once it is recorded as done.
    Forward,
    /// Copies a table into another shape and swaps the two: what ALTER cannot do. See [`crate::rebuild`].
    Rebuild,
}

/// One migration file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Migration {
    /// Number in the file's name, from 1 without gaps.
    pub version: u32,
    /// Rest of the file's name.
    pub name: String,
    /// First line: what it is for.
    pub purpose: String,
    /// How it is run.
    pub kind: MigrationKind,
    /// Oldest writer that may write to the schema after it, `major.minor.patch`.
    pub min_writer: String,
    /// The steps, in order.
    pub steps: Vec<Step>,
    /// SHA-256 of what it makes, hexadecimal.
    pub checksum: String,
}

/// One statement of a migration, with placeholders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Name, unique in the migration: for most the object that it makes.
    pub name: String,
    /// The statement.
    pub sql: String,
    /// The query that the table's sorting key serves.
    pub key: Option<String>,
    /// Sharding expression of the Distributed table in cluster mode.
    pub sharding: Option<String>,
    /// How long rows are kept.
    pub retention: Option<RetentionRule>,
}

/// How long a table keeps its rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetentionRule {
    /// Name of the setting.
    pub setting: String,
    /// Days if the setting is absent.
    pub default_days: u32,
    /// Expression of the time that it counts from.
    pub since: String,
    /// Database placeholder and table, `{logs}.http_logs`.
    pub table: String,
}

/// Why a migration file cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("migration {file}: {problem}")]
pub struct InvalidMigration {
    /// File name.
    pub file: String,
    /// What is wrong with it.
    pub problem: String,
}

/// The migrations that this build brings, oldest first.
///
/// # Errors
/// If a file is malformed or numbers have gaps, which a test excludes for those that are compiled in.
pub fn parse_all<'f>(
    files: impl IntoIterator<Item = (&'f str, &'f str)>,
) -> Result<Vec<Migration>, InvalidMigration> {
    let mut migrations = Vec::new();
    for (file, text) in files {
        let migration = Migration::parse(file, text)?;
        let expected = u32::try_from(migrations.len())
            .unwrap_or(u32::MAX)
            .saturating_add(1);
        if migration.version != expected {
            return Err(invalid(
                file,
                format!("its number should be {expected:04}: numbers have no gaps"),
            ));
        }
        migrations.push(migration);
    }
    Ok(migrations)
}

fn invalid(file: &str, problem: impl Into<String>) -> InvalidMigration {
    InvalidMigration {
        file: file.to_owned(),
        problem: problem.into(),
    }
}

impl Migration {
    /// Reads `file`, named `NNNN_name.sql`.
    ///
    /// # Errors
    /// If the name, a directive or a statement is malformed.
    pub fn parse(file: &str, text: &str) -> Result<Self, InvalidMigration> {
        let (version, name) = file
            .strip_suffix(".sql")
            .and_then(|stem| stem.split_once('_'))
            .and_then(|(number, name)| Some((number.parse().ok()?, name)))
            .ok_or_else(|| invalid(file, "the name must be NNNN_name.sql"))?;
        let mut kind = None;
        let mut min_writer = None;
        let mut steps: Vec<Step> = Vec::new();
        let mut pending = PendingStep::default();
        for line in text.lines() {
            if !pending.sql.is_empty() || !line.starts_with("--") {
                if pending.sql.is_empty() && line.trim().is_empty() {
                    continue;
                }
                pending.sql.push_str(line);
                pending.sql.push('\n');
                if line.trim_end().ends_with(';') {
                    let step = std::mem::take(&mut pending).finish(file)?;
                    if steps.iter().any(|known| known.name == step.name) {
                        return Err(invalid(file, format!("step {} is there twice", step.name)));
                    }
                    steps.push(step);
                }
                continue;
            }
            let comment = line.trim_start_matches('-');
            match comment.trim_start().split_once(": ") {
                Some(("kind", "forward")) => kind = Some(MigrationKind::Forward),
                Some(("kind", "rebuild")) => kind = Some(MigrationKind::Rebuild),
                Some(("min_writer", value)) => min_writer = Some(value.trim().to_owned()),
                Some((directive @ ("key" | "sharding" | "retention" | "step"), value)) => {
                    pending.set(directive, value);
                }
                _ => pending.continue_key(comment),
            }
        }
        if !pending.sql.is_empty() {
            return Err(invalid(file, "the last statement has no semicolon at its end"));
        }
        let kind =
            kind.ok_or_else(|| invalid(file, "`-- kind: forward` or `-- kind: rebuild` is missing"))?;
        let min_writer = min_writer.ok_or_else(|| invalid(file, "`-- min_writer: x.y.z` is missing"))?;
        let purpose = text
            .lines()
            .next()
            .unwrap_or("")
            .trim_start_matches('-')
            .trim()
            .to_owned();
        let checksum = checksum(kind, &min_writer, &steps);
        Ok(Self {
            version,
            name: name.to_owned(),
            purpose,
            kind,
            min_writer,
            steps,
            checksum,
        })
    }

    /// File name without ending: `0003_logs`.
    pub fn label(&self) -> String {
        format!("{:04}_{}", self.version, self.name)
    }
}

#[derive(Default)]
struct PendingStep {
    name: Option<String>,
    sql: String,
    key: Option<String>,
    in_key: bool,
    sharding: Option<String>,
    retention: Option<String>,
}

impl PendingStep {
    fn set(&mut self, directive: &str, value: &str) {
        let value = value.trim().to_owned();
        self.in_key = directive == "key";
        match directive {
            "key" => self.key = Some(value),
            "sharding" => self.sharding = Some(value),
            "retention" => self.retention = Some(value),
            _ => self.name = Some(value),
        }
    }

    /// A comment that goes on below `-- key:` is part of it.
    fn continue_key(&mut self, comment: &str) {
        if let (true, Some(key)) = (self.in_key, &mut self.key) {
            key.push(' ');
            key.push_str(comment.trim());
        }
    }

    fn finish(self, file: &str) -> Result<Step, InvalidMigration> {
        let name = self
            .name
            .ok_or_else(|| invalid(file, "a statement has no `-- step: name` above it"))?;
        let sql = self.sql.trim_end().trim_end_matches(';').trim_end().to_owned();
        let retention = match &self.retention {
            None => None,
            Some(rule) => Some(parse_retention(rule, &sql).ok_or_else(|| {
                invalid(
                    file,
                    format!("step {name}: retention must be `setting days expression` above a CREATE TABLE"),
                )
            })?),
        };
        Ok(Step {
            name,
            sql,
            key: self.key,
            sharding: self.sharding,
            retention,
        })
    }
}

fn parse_retention(rule: &str, sql: &str) -> Option<RetentionRule> {
    let mut words = rule.splitn(3, ' ');
    let (setting, days, since) = (words.next()?, words.next()?, words.next()?);
    Some(RetentionRule {
        setting: setting.to_owned(),
        default_days: days.parse().ok()?,
        since: since.to_owned(),
        table: created_table(sql)?.to_owned(),
    })
}

/// `{logs}.http_logs` of `CREATE TABLE IF NOT EXISTS {logs}.http_logs{local}…`.
fn created_table(sql: &str) -> Option<&str> {
    let rest = sql.strip_prefix("CREATE TABLE IF NOT EXISTS ")?;
    let end = rest.find("{local}")?;
    Some(&rest[..end])
}

impl Step {
    /// The statements that the step runs against these databases: one, or two in cluster mode where the local table has a
    /// Distributed one in front: it is created after the local one, and altered with it.
    ///
    /// # Panics
    /// Never: what a table's name is was checked when the file was read.
    pub fn statements(&self, names: &Names) -> Vec<String> {
        let mut statements = vec![names.expand(&self.sql)];
        if let (Some(cluster), Some(sharding), Some(table)) =
            (names.cluster(), &self.sharding, created_table(&self.sql))
        {
            let table = names.expand(table);
            let (database, name) = table
                .split_once('.')
                .expect("a created table is written with its database");
            statements.push(format!(
                "CREATE TABLE IF NOT EXISTS {table} ON CLUSTER `{cluster}` AS {table}_local\n\
                 ENGINE = Distributed('{cluster}', '{database}', '{name}_local', {sharding})"
            ));
        }
        if names.cluster().is_some() && self.sql.starts_with("ALTER TABLE ") {
            // The table in front holds no rows: the same change is only its columns.
            statements.push(names.expand(&self.sql.replacen("{local}", "", 1)));
        }
        statements
    }
}

fn checksum(kind: MigrationKind, min_writer: &str, steps: &[Step]) -> String {
    let mut hash = Sha256::new();
    let mut feed = |text: &str| {
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(text.as_bytes());
    };
    feed(match kind {
        MigrationKind::Forward => "forward",
        MigrationKind::Rebuild => "rebuild",
    });
    feed(min_writer);
    for step in steps {
        feed(&step.name);
        feed(step.sharding.as_deref().unwrap_or(""));
        feed(&normalised(&step.sql));
    }
    let mut digits = String::new();
    for byte in hash.finalize() {
        write!(digits, "{byte:02x}").expect("writing to a String does not fail");
    }
    digits
}

/// The statement without comments and with single spaces, texts in quotes untouched.
pub fn normalised(sql: &str) -> String {
    let mut out = String::new();
    let mut chars = sql.chars().peekable();
    let mut quote = None;
    while let Some(c) = chars.next() {
        if let Some(open) = quote {
            out.push(c);
            if c == '\\' {
                out.extend(chars.next());
            } else if c == open {
                quote = None;
            }
        } else if c == '-' && chars.peek() == Some(&'-') {
            for skipped in chars.by_ref() {
                if skipped == '\n' {
                    break;
                }
            }
            push_space(&mut out);
        } else if c.is_whitespace() {
            push_space(&mut out);
        } else {
            if matches!(c, '\'' | '`' | '"') {
                quote = Some(c);
            }
            out.push(c);
        }
    }
    out.trim_end().to_owned()
}

fn push_space(out: &mut String) {
    if !out.is_empty() && !out.ends_with(' ') {
        out.push(' ');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "-- What it is for.\n-- kind: forward\n-- min_writer: 0.1.0\n\n-- key: a client's week,\n--      and its day.\n-- sharding: cityHash64(a)\n-- retention: t_days 7 toDateTime(at)\n-- step: t\nCREATE TABLE IF NOT EXISTS {logs}.t{local}{on_cluster} (a UInt8 COMMENT 'x; y') -- note\nENGINE = {replicated}MergeTree ORDER BY a;\n";

    #[test]
    fn directives_belong_to_the_statement_below() {
        let migration = Migration::parse("0001_t.sql", FILE).unwrap();
        assert_eq!((migration.version, migration.name.as_str()), (1, "t"));
        assert_eq!(migration.purpose, "What it is for.");
        let step = &migration.steps[0];
        assert_eq!(step.key.as_deref(), Some("a client's week, and its day."));
        let rule = step.retention.as_ref().unwrap();
        assert_eq!(
            (rule.setting.as_str(), rule.default_days, rule.table.as_str()),
            ("t_days", 7, "{logs}.t")
        );
    }

    #[test]
    fn checksum_ignores_comments_and_spaces_but_not_statements() {
        let sum = |text: &str| Migration::parse("0001_t.sql", text).unwrap().checksum;
        assert_eq!(
            sum(FILE),
            sum(&FILE
                .replace(" -- note\n", "\n   ")
                .replace("its day", "its month"))
        );
        assert_eq!(sum(FILE), sum(&FILE.replace("t_days 7", "t_days 9")));
        assert_ne!(sum(FILE), sum(&FILE.replace("'x; y'", "'x;  y'")));
        assert_ne!(sum(FILE), sum(&FILE.replace("ORDER BY a", "ORDER BY tuple()")));
        assert_ne!(sum(FILE), sum(&FILE.replace("cityHash64(a)", "rand()")));
    }

    #[test]
    fn malformed_files_say_what_is_wrong() {
        for (file, text, problem) in [
            ("1.sql", FILE, "the name must be NNNN_name.sql"),
            (
                "0001_t.sql",
                "-- x\nSELECT 1;\n",
                "a statement has no `-- step: name` above it",
            ),
            (
                "0001_t.sql",
                "-- x\n-- step: a\nSELECT 1\n",
                "the last statement has no semicolon at its end",
            ),
            (
                "0001_t.sql",
                "-- x\n-- step: a\nSELECT 1;\n",
                "`-- kind: forward` or `-- kind: rebuild` is missing",
            ),
        ] {
            assert_eq!(Migration::parse(file, text).unwrap_err().problem, problem);
        }
        assert!(parse_all([("0002_t.sql", FILE)]).is_err());
    }
}
