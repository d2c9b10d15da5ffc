//! What a request's SQL is: its kind, its format, where data begins, and which tables it names.
//!
//! Pure. ClickHouse's own parser has the last word (`Connection::classify` in `service`); this module answers what
//! that parser does not: where the SQL of an INSERT ends and its data begins, which output format a trailing
//! `FORMAT` asks for, and what the access rules need. Where it is in doubt it says so and the caller refuses.

use crate::lexer::{Lexer, Token, TokenKind};

/// First keyword of a statement, as far as the façade treats statements differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// SELECT, WITH … SELECT, FROM … SELECT, or in brackets.
    Select,
    /// INSERT.
    Insert,
    /// SHOW, DESCRIBE, EXPLAIN, EXISTS, CHECK: reads only.
    Inspect,
    /// DELETE, UPDATE, ALTER, CREATE, DROP, RENAME, EXCHANGE, TRUNCATE, OPTIMIZE, ATTACH, DETACH, UNDROP.
    Define,
    /// SYSTEM, KILL, BACKUP, RESTORE, SET, USE and everything else.
    Control,
}

/// Where an INSERT takes its rows from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InsertSource {
    /// Data in this input format follows the SQL.
    Data {
        /// Name of the format as written; `Values` when none is named.
        format: String,
    },
    /// A query in the statement itself.
    Query,
}

/// A table as a statement names it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TableName {
    /// Database, None when the session's is meant.
    pub database: Option<String>,
    /// Table, view or dictionary.
    pub table: String,
}

/// An INSERT taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Insert {
    /// Target; None for a table function or what this module cannot read.
    pub target: Option<TableName>,
    /// Where the rows come from.
    pub source: InsertSource,
}

/// A statement taken apart. Byte ranges refer to the text that was parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// What it is.
    pub kind: Kind,
    /// Set for [`Kind::Insert`].
    pub insert: Option<Insert>,
    /// The SQL to run: without output format, data and closing semicolon.
    pub sql: Vec<u8>,
    /// Output format named by the statement.
    pub format: Option<String>,
    /// Offset of the first byte of data; None when the statement takes none.
    pub data_start: Option<usize>,
}

/// Why a text cannot be taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SplitError {
    /// Nothing but white space and comments.
    #[error("empty query")]
    Empty,
    /// A quote or comment does not end, or an INSERT's head is not complete: more bytes may complete it.
    #[error("the statement ends inside a quoted string, a comment or the head of an INSERT")]
    Incomplete,
    /// INTO OUTFILE and FROM INFILE would read and write the store's own files.
    #[error("INTO OUTFILE and FROM INFILE are not available over HTTP")]
    LocalFile,
    /// More than one statement.
    #[error("multi-statements are not allowed")]
    Multiple,
}

/// Takes a statement apart. `complete` says that no more bytes follow `text`.
///
/// # Errors
/// See [`SplitError`]; [`SplitError::Incomplete`] before `complete` means: ask again with more bytes.
pub fn split(text: &[u8], complete: bool) -> Result<Statement, SplitError> {
    let mut lexer = Lexer::new(text).peekable();
    let first = loop {
        match lexer.peek() {
            None => {
                return Err(if complete {
                    SplitError::Empty
                } else {
                    SplitError::Incomplete
                });
            }
            Some(token) if token.is_punctuation(b'(') || token.is_punctuation(b';') => {
                let bracket = token.is_punctuation(b'(');
                if !bracket {
                    lexer.next();
                    continue;
                }
                return split_query(text, Kind::Select, complete);
            }
            Some(token) => break token.clone(),
        }
    };
    if first.kind == TokenKind::Unterminated {
        return Err(SplitError::Incomplete);
    }
    match kind_of(text, &first) {
        Kind::Insert => split_insert(text, complete),
        kind => split_query(text, kind, complete),
    }
}

fn kind_of(text: &[u8], first: &Token) -> Kind {
    let word = String::from_utf8_lossy(&text[first.range.clone()]).to_ascii_uppercase();
    match word.as_str() {
        "SELECT" | "WITH" | "FROM" => Kind::Select,
        "INSERT" => Kind::Insert,
        "SHOW" | "DESCRIBE" | "DESC" | "EXPLAIN" | "EXISTS" | "CHECK" => Kind::Inspect,
        "DELETE" | "UPDATE" | "ALTER" | "CREATE" | "REPLACE" | "DROP" | "RENAME" | "EXCHANGE"
        | "TRUNCATE" | "OPTIMIZE" | "ATTACH" | "DETACH" | "UNDROP" => Kind::Define,
        _ => Kind::Control,
    }
}

/// Everything but INSERT: the text is the statement, with perhaps a FORMAT clause and a semicolon at its end.
fn split_query(text: &[u8], kind: Kind, complete: bool) -> Result<Statement, SplitError> {
    if !complete {
        return Err(SplitError::Incomplete);
    }
    let mut tokens: Vec<Token> = Lexer::new(text).collect();
    if tokens.last().is_some_and(|t| t.kind == TokenKind::Unterminated) {
        return Err(SplitError::Incomplete);
    }
    let leading = tokens.iter().take_while(|t| t.is_punctuation(b';')).count();
    tokens.drain(..leading);
    while tokens.last().is_some_and(|t| t.is_punctuation(b';')) {
        tokens.pop();
    }
    if tokens.iter().any(|t| t.is_punctuation(b';') && t.depth == 0) {
        return Err(SplitError::Multiple);
    }
    refuse_local_files(text, &tokens)?;
    let start = tokens.first().map_or(0, |t| t.range.start);
    let end = tokens.last().map_or(start, |t| t.range.end);
    let (sql, format) = match format_clause(text, &tokens) {
        Some((clause, name)) => {
            let mut sql = text[start..clause.start].to_vec();
            sql.extend_from_slice(&text[clause.end..end]);
            (sql, Some(name))
        }
        None => (text[start..end].to_vec(), None),
    };
    Ok(Statement {
        kind,
        insert: None,
        sql,
        format,
        data_start: None,
    })
}

/// Finds `FORMAT name` outside brackets, at the end or before SETTINGS. Returns its bytes and the name.
fn format_clause(text: &[u8], tokens: &[Token]) -> Option<(std::ops::Range<usize>, String)> {
    let position = tokens
        .iter()
        .rposition(|t| t.depth == 0 && t.is_word(text, "FORMAT"))?;
    let name = tokens
        .get(position + 1)
        .filter(|t| matches!(t.kind, TokenKind::Word | TokenKind::QuotedName))?;
    let ends = match tokens.get(position + 2) {
        None => true,
        Some(next) => next.is_word(text, "SETTINGS"),
    };
    // `SELECT 1 AS format FROM t`: the word must not be the first of its statement or follow AS or a dot.
    let before = position.checked_sub(1).map(|i| &tokens[i])?;
    if !ends || before.is_word(text, "AS") || before.is_punctuation(b'.') || before.is_punctuation(b',') {
        return None;
    }
    Some((tokens[position].range.start..name.range.end, name.name(text)?))
}

fn refuse_local_files(text: &[u8], tokens: &[Token]) -> Result<(), SplitError> {
    let reads_or_writes = tokens.windows(2).any(|pair| {
        (pair[0].is_word(text, "INTO") && pair[1].is_word(text, "OUTFILE"))
            || (pair[0].is_word(text, "FROM") && pair[1].is_word(text, "INFILE"))
    });
    if reads_or_writes {
        Err(SplitError::LocalFile)
    } else {
        Ok(())
    }
}

/// INSERT: reads tokens only up to where data begins, since what follows is not SQL.
fn split_insert(text: &[u8], complete: bool) -> Result<Statement, SplitError> {
    let mut head: Vec<Token> = Vec::new();
    for token in Lexer::new(text) {
        if token.kind == TokenKind::Unterminated {
            return Err(SplitError::Incomplete);
        }
        if token.is_punctuation(b';') && token.depth == 0 {
            if head.is_empty() {
                continue;
            }
            // A head without FORMAT and VALUES that a semicolon ends.
            return insert_without_format(text, &head, complete, Some(token.range.end));
        }
        let starts_query = token.is_word(text, "SELECT") || token.is_word(text, "WITH");
        let in_brackets_after_head = token.depth > 0 && head.last().is_some_and(|t| t.is_punctuation(b'('));
        if starts_query && (token.depth == 0 || in_brackets_after_head) && names_target(text, &head) {
            let mut statement = split_query(text, Kind::Insert, complete)?;
            let target = target(text, &head);
            statement.insert = Some(Insert {
                target,
                source: InsertSource::Query,
            });
            return Ok(statement);
        }
        if token.depth == 0 && names_target(text, &head) {
            let names_format =
                head.last().is_some_and(|t| t.is_word(text, "FORMAT")) && is_format_position(text, &head);
            if token.is_word(text, "VALUES") && !names_format {
                refuse_local_files(text, &head)?;
                return Ok(insert_with_data(
                    text,
                    &head,
                    "Values".to_owned(),
                    token.range.end,
                ));
            }
            if names_format {
                // The name is complete only when a byte follows it.
                if token.range.end == text.len() && !complete {
                    return Err(SplitError::Incomplete);
                }
                let Some(name) = token.name(text) else {
                    return Err(SplitError::Incomplete);
                };
                head.pop();
                refuse_local_files(text, &head)?;
                if name.eq_ignore_ascii_case("Values") {
                    return Ok(insert_with_data(
                        text,
                        &head,
                        "Values".to_owned(),
                        token.range.end,
                    ));
                }
                let Some(start) = after_format(text, token.range.end, complete) else {
                    return Err(SplitError::Incomplete);
                };
                return Ok(insert_with_data(text, &head, name, start));
            }
        }
        head.push(token);
    }
    if !complete {
        return Err(SplitError::Incomplete);
    }
    insert_without_format(text, &head, complete, None)
}

/// True when the words so far hold `INSERT INTO` and a name after it.
fn names_target(text: &[u8], head: &[Token]) -> bool {
    target_position(text, head).is_some_and(|position| head.len() > position)
}

/// A FORMAT after the target's name, not the target's own name.
fn is_format_position(text: &[u8], head: &[Token]) -> bool {
    target_position(text, head).is_some_and(|position| head.len() > position + 1)
}

/// Index of the target's first token.
fn target_position(text: &[u8], head: &[Token]) -> Option<usize> {
    let mut position = head.iter().position(|t| t.is_word(text, "INSERT"))? + 1;
    for optional in ["INTO", "TABLE"] {
        let named = head.get(position).is_some_and(|t| t.is_word(text, optional));
        // A table may itself be called `table`: then nothing that continues a name follows.
        let continues = head
            .get(position + 1)
            .is_some_and(|t| matches!(t.kind, TokenKind::Word | TokenKind::QuotedName));
        if named && (optional == "INTO" || continues) {
            position += 1;
        }
    }
    Some(position)
}

fn target(text: &[u8], head: &[Token]) -> Option<TableName> {
    let position = target_position(text, head)?;
    if head.get(position)?.is_word(text, "FUNCTION") {
        return None;
    }
    table_name(text, &head[position..])
}

/// Reads `name` or `database.name` at the start of the tokens.
pub fn table_name(text: &[u8], tokens: &[Token]) -> Option<TableName> {
    let is_name = |t: &&Token| matches!(t.kind, TokenKind::Word | TokenKind::QuotedName);
    let first = tokens.first().filter(is_name)?.name(text)?;
    if !tokens.get(1).is_some_and(|t| t.is_punctuation(b'.')) {
        return Some(TableName {
            database: None,
            table: first,
        });
    }
    let second = tokens.get(2).filter(is_name)?.name(text)?;
    Some(TableName {
        database: Some(first),
        table: second,
    })
}

/// First byte of data after a format's name: blanks, then at most one line end. None: more bytes are needed.
fn after_format(text: &[u8], name_end: usize, complete: bool) -> Option<usize> {
    let blanks = text[name_end..]
        .iter()
        .take_while(|&&b| b == b' ' || b == b'\t')
        .count();
    let at = name_end + blanks;
    match (text.get(at), text.get(at + 1)) {
        (Some(b'\n' | b';'), _) => Some(at + 1),
        (Some(b'\r'), Some(b'\n')) => Some(at + 2),
        (Some(b'\r'), None) | (None, _) if !complete => None,
        _ => Some(at),
    }
}

fn insert_with_data(text: &[u8], head: &[Token], format: String, data_start: usize) -> Statement {
    let start = head.first().map_or(0, |t| t.range.start);
    let end = head.last().map_or(start, |t| t.range.end);
    Statement {
        kind: Kind::Insert,
        insert: Some(Insert {
            target: target(text, head),
            source: InsertSource::Data { format },
        }),
        sql: text[start..end].to_vec(),
        format: None,
        data_start: Some(data_start),
    }
}

fn insert_without_format(
    text: &[u8],
    head: &[Token],
    complete: bool,
    data_start: Option<usize>,
) -> Result<Statement, SplitError> {
    if !complete && data_start.is_none() {
        return Err(SplitError::Incomplete);
    }
    refuse_local_files(text, head)?;
    Ok(insert_with_data(
        text,
        head,
        "Values".to_owned(),
        data_start.unwrap_or(text.len()),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sql(statement: &Statement) -> &str {
        std::str::from_utf8(&statement.sql).unwrap()
    }

    #[track_caller]
    fn query(text: &str, expected_sql: &str, expected_format: Option<&str>) {
        let statement = split(text.as_bytes(), true).unwrap();
        assert_eq!(
            (sql(&statement), statement.format.as_deref()),
            (expected_sql, expected_format)
        );
    }

    #[track_caller]
    fn insert(text: &str, expected_sql: &str, expected_format: &str, expected_data: &str) {
        let statement = split(text.as_bytes(), true).unwrap();
        let insert = statement.insert.clone().unwrap();
        assert_eq!(sql(&statement), expected_sql);
        assert_eq!(
            insert.source,
            InsertSource::Data {
                format: expected_format.to_owned()
            }
        );
        assert_eq!(&text[statement.data_start.unwrap()..], expected_data);
    }

    #[test]
    fn trailing_format_is_taken_off() {
        query("SELECT 1 FORMAT JSON", "SELECT 1 ", Some("JSON"));
        query("SELECT 1 FORMAT JSON ;\n", "SELECT 1 ", Some("JSON"));
        query(
            "SELECT 1 FORMAT JSON SETTINGS max_threads = 1",
            "SELECT 1  SETTINGS max_threads = 1",
            Some("JSON"),
        );
        query("SELECT 'FORMAT x'", "SELECT 'FORMAT x'", None);
        query("SELECT format FROM t", "SELECT format FROM t", None);
        query(
            "SELECT format('{}', x) FROM t",
            "SELECT format('{}', x) FROM t",
            None,
        );
        query("SELECT (SELECT 1 FORMAT x)", "SELECT (SELECT 1 FORMAT x)", None);
        query("-- c\nSELECT 1 -- FORMAT JSON", "SELECT 1", None);
    }

    #[test]
    fn several_statements_are_refused_and_a_last_semicolon_is_not() {
        assert_eq!(split(b"SELECT 1; SELECT 2", true), Err(SplitError::Multiple));
        query("SELECT 1;;", "SELECT 1", None);
        query("SELECT ';'", "SELECT ';'", None);
    }

    #[test]
    fn local_files_are_refused() {
        assert_eq!(
            split(b"SELECT 1 INTO OUTFILE '/tmp/x'", true),
            Err(SplitError::LocalFile)
        );
        assert_eq!(
            split(b"INSERT INTO t FROM INFILE 'x' FORMAT CSV", true),
            Err(SplitError::LocalFile)
        );
        assert_eq!(
            split(b"INSERT INTO t FROM /* */ INFILE 'x'", true),
            Err(SplitError::LocalFile)
        );
        assert_eq!(
            split(b"INSERT INTO t SELECT 1 INTO OUTFILE 'x'", true),
            Err(SplitError::LocalFile)
        );
    }

    #[test]
    fn data_begins_after_the_format_and_one_line_end() {
        insert("INSERT INTO t FORMAT CSV\n1,2\n", "INSERT INTO t", "CSV", "1,2\n");
        insert("INSERT INTO t FORMAT CSV\n\n1\n", "INSERT INTO t", "CSV", "\n1\n");
        insert(
            "INSERT INTO t FORMAT JSONEachRow {\"a\":1}",
            "INSERT INTO t",
            "JSONEachRow",
            "{\"a\":1}",
        );
        insert(
            "INSERT INTO `d`.`t`(`a`,`b`) SETTINGS x = 'FORMAT' FORMAT RowBinary",
            "INSERT INTO `d`.`t`(`a`,`b`) SETTINGS x = 'FORMAT'",
            "RowBinary",
            "",
        );
        insert(
            "INSERT INTO t VALUES (1), (2)",
            "INSERT INTO t",
            "Values",
            " (1), (2)",
        );
        insert(
            "INSERT INTO t (a) FORMAT Values (1)",
            "INSERT INTO t (a)",
            "Values",
            " (1)",
        );
        insert(
            "INSERT INTO format FORMAT CSV\n1",
            "INSERT INTO format",
            "CSV",
            "1",
        );
        insert("INSERT INTO t", "INSERT INTO t", "Values", "");
    }

    #[test]
    fn insert_select_is_a_query() {
        for text in [
            "INSERT INTO d.t SELECT 1",
            "INSERT INTO d.t (a) (SELECT 1)",
            "INSERT INTO d.t WITH 1 AS x SELECT x",
        ] {
            let statement = split(text.as_bytes(), true).unwrap();
            let insert = statement.insert.unwrap();
            assert_eq!(insert.source, InsertSource::Query, "{text}");
            assert_eq!(
                insert.target,
                Some(TableName {
                    database: Some("d".to_owned()),
                    table: "t".to_owned()
                })
            );
        }
    }

    #[test]
    fn target_is_read_through_quotes_and_keywords() {
        let target_of = |text: &str| split(text.as_bytes(), true).unwrap().insert.unwrap().target;
        let name = |database: Option<&str>, table: &str| {
            Some(TableName {
                database: database.map(str::to_owned),
                table: table.to_owned(),
            })
        };
        assert_eq!(target_of("INSERT INTO TABLE d.t VALUES"), name(Some("d"), "t"));
        assert_eq!(
            target_of("INSERT INTO \"a b\" . `c` VALUES"),
            name(Some("a b"), "c")
        );
        assert_eq!(target_of("INSERT t VALUES"), name(None, "t"));
        assert_eq!(target_of("INSERT INTO FUNCTION file('x') VALUES"), None);
    }

    #[test]
    fn head_of_an_insert_may_arrive_in_pieces() {
        let text = b"INSERT INTO d.t (a, b) FORMAT RowBinary\n\x0a\x0a\x00'";
        let whole = split(text, true).unwrap();
        for cut in 0..text.len() {
            match split(&text[..cut], false) {
                Err(SplitError::Incomplete) => {}
                Ok(statement) => {
                    assert_eq!(
                        (&statement.sql, statement.data_start),
                        (&whole.sql, whole.data_start),
                        "cut at {cut}"
                    );
                }
                Err(error) => panic!("cut at {cut}: {error}"),
            }
        }
    }
}
