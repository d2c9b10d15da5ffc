//! Runs one statement on a session of its own; everything here blocks and runs on the pool of statements.
//!
//! The order for every statement: open a session, ask the engine's parser what the text is, decide whether the
//! class of client may run it (`access`), set database and settings, run. Nothing is reused after an error.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use crate::access::{self, Context, Rules};
use crate::credentials::Class;
use crate::engine::Engine;
use crate::errors::{AfterInsert, Exception, after_insert, code};
use crate::ffi::{Connection, Output, Parameters, QueryClass, Stats};
use crate::http::body::Chunk;
use crate::http::formats::{Streaming, streaming};
use crate::http::row_binary;
use crate::statement::{InsertSource, Kind, Statement};

/// An answer that is made whole may have one row for so many bytes of its limit: constants in a row weigh nothing in
/// the engine's count of bytes, only its text does.
const RESULT_ROW_BYTES: u64 = 64;

/// A statement that waits for its turn.
#[derive(Debug, Clone)]
pub struct Job {
    /// Whose it is.
    pub class: Class,
    /// Tag in `system.processes`.
    pub tag: String,
    /// The statement.
    pub statement: Statement,
    /// Database of the session.
    pub database: Option<String>,
    /// Settings, in order.
    pub settings: Vec<(String, String)>,
    /// Values of placeholders.
    pub parameters: Parameters,
    /// The request may not change anything (GET).
    pub readonly: bool,
}

/// What all statements share.
#[derive(Debug)]
pub struct Executor {
    engine: Arc<Engine>,
    rules: BTreeMap<Class, Rules>,
    /// Names of databases, for `access`; None after a statement that may have changed them.
    databases: Mutex<Option<Arc<BTreeSet<String>>>>,
    result_max_bytes: u64,
}

/// What the pump hands to an insert.
#[derive(Debug)]
pub enum Piece {
    /// Bytes of data.
    Data(Bytes),
    /// The data is complete. A channel that closes before this one cancels the insert.
    End,
}

/// Why an insert was not acknowledged.
#[derive(Debug)]
pub struct InsertFailure {
    /// For the client.
    pub exception: Exception,
    /// What it means for the data.
    pub after: AfterInsert,
}

impl From<Exception> for InsertFailure {
    /// Errors of the façade itself come before the engine sees data.
    fn from(exception: Exception) -> Self {
        Self {
            exception,
            after: AfterInsert::BeforeCommit,
        }
    }
}

#[expect(clippy::needless_pass_by_value, reason = "used by name in map_err")]
fn engine_error(text: String) -> Exception {
    Exception::from_engine(&text)
}

/// Quotes a name.
fn backticks(name: &str) -> String {
    format!("`{}`", name.replace('\\', "\\\\").replace('`', "\\`"))
}

/// Quotes a string.
fn quotes(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// Setting names are words; anything else would be SQL of the client's in our SET.
fn is_setting_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 200
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'.')
}

impl Executor {
    /// Statements of `engine` under `rules`.
    pub fn new(engine: Arc<Engine>, rules: BTreeMap<Class, Rules>, result_max_bytes: u64) -> Self {
        Self {
            engine,
            rules,
            databases: Mutex::new(None),
            result_max_bytes,
        }
    }

    /// The engine.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    fn forget_databases(&self) {
        *self.databases.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn databases(&self, session: &mut Connection) -> Result<Arc<BTreeSet<String>>, Exception> {
        let known = self
            .databases
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if let Some(known) = known {
            return Ok(known);
        }
        let names = session
            .query(
                b"SELECT name FROM system.databases",
                "TSVRaw",
                &Parameters::default(),
            )
            .map_err(engine_error)?;
        let names = String::from_utf8_lossy(names.as_ref())
            .lines()
            .map(str::to_owned)
            .collect();
        let names = Arc::new(names);
        *self.databases.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&names));
        Ok(names)
    }

    /// Opens a session and makes it ready for the statement; refuses what the class may not run.
    fn session(&self, job: &Job, extra: &[(&str, String)]) -> Result<Connection, Exception> {
        let asked = job
            .settings
            .iter()
            .rev()
            .find(|(name, _)| name == "readonly")
            .map(|(_, value)| value.as_str());
        let reads = matches!(job.statement.kind, Kind::Select | Kind::Inspect) || job.readonly;
        let mut arguments: Vec<(&str, String)> = extra.to_vec();
        if reads && asked.is_none_or(|value| value == "0") {
            // The engine itself then refuses to write, whatever the texts above made of the statement.
            arguments.push(("readonly", "2".to_owned()));
        }
        let mut session = self
            .engine
            .session(&job.tag, &arguments)
            .ok_or_else(|| Exception::new(code::LOGICAL_ERROR, "the engine gave no session"))?;
        self.admit(job, &mut session)?;
        if let Some(database) = &job.database {
            let sql = format!("USE {}", backticks(database));
            session
                .query(sql.as_bytes(), "Null", &Parameters::default())
                .map_err(engine_error)?;
        }
        let (last, first): (Vec<_>, Vec<_>) = job.settings.iter().partition(|(name, _)| name == "readonly");
        for settings in [first, last] {
            set(&mut session, &settings)?;
        }
        Ok(session)
    }

    fn admit(&self, job: &Job, session: &mut Connection) -> Result<(), Exception> {
        let insert = job.statement.insert.as_ref();
        let takes_data = insert.is_some_and(|insert| insert.source != InsertSource::Query);
        let analysis = if takes_data {
            // The engine's parser takes an INSERT with its FORMAT only.
            let whole = [&job.statement.sql[..], b" FORMAT Null"].concat();
            session.classify(&whole)
        } else {
            session.classify(&job.statement.sql)
        }
        .map_err(engine_error)?;
        if analysis.n_statements > 1 {
            return Err(Exception::new(
                code::SYNTAX_ERROR,
                "multi-statements are not allowed",
            ));
        }
        if job.class == Class::Migrator {
            return Ok(());
        }
        if analysis.class == QueryClass::Unknown {
            // Not parsed: the engine is asked to run it only for its error text, without the right to do anything.
            return Err(self.syntax_error(job));
        }
        let databases = self.databases(session)?;
        let identifiers = job
            .parameters
            .0
            .iter()
            .map(|(name, value)| (name.clone(), String::from_utf8_lossy(value).into_owned()))
            .collect();
        let context = Context {
            database: job.database.as_deref(),
            databases: &databases,
            identifiers: &identifiers,
            class: analysis.class,
        };
        let no_rules = Rules::default();
        let rules = self.rules.get(&job.class).unwrap_or(&no_rules);
        access::authorise(job.class, rules, &job.statement, context)
            .map_err(|refusal| Exception::new(code::ACCESS_DENIED, refusal))
    }

    /// The engine's words on a text that it cannot parse: EXPLAIN AST parses and runs nothing.
    fn syntax_error(&self, job: &Job) -> Exception {
        let fallback = || Exception::new(code::SYNTAX_ERROR, "syntax error");
        let Some(mut session) = self.engine.session(&job.tag, &[("readonly", "2".to_owned())]) else {
            return fallback();
        };
        let explain = [b"EXPLAIN AST ", &job.statement.sql[..]].concat();
        match session.query(&explain, "Null", &Parameters::default()) {
            Err(error) => engine_error(error),
            Ok(_) => fallback(),
        }
    }

    /// Runs a statement to its end; the whole output in `format`.
    ///
    /// The engine makes such an output in memory that no limit of a statement counts. So its rows and their bytes
    /// in the engine are limited before, where a client may ask for less but not for more, and the text after.
    ///
    /// # Errors
    /// As told by the engine, or refused before.
    pub fn whole(&self, job: &Job, format: &str) -> Result<Output, Exception> {
        let bytes_max = self.result_max_bytes;
        let limits = [
            ("max_result_bytes", bytes_max),
            ("max_result_rows", bytes_max / RESULT_ROW_BYTES),
        ];
        let mut job = Cow::Borrowed(job);
        let mut extra = Vec::new();
        if job.statement.kind == Kind::Select {
            job.to_mut().settings.retain(|(name, value)| {
                match limits.iter().find(|(limit, _)| limit == name) {
                    Some((_, maximum)) => value
                        .parse::<u64>()
                        .is_ok_and(|asked| asked > 0 && asked < *maximum),
                    None => true,
                }
            });
            extra.extend(limits.map(|(name, maximum)| (name, maximum.to_string())));
        }
        let mut session = self.session(&job, &extra)?;
        let outcome = session
            .query(&job.statement.sql, format, &job.parameters)
            .map_err(engine_error);
        if job.statement.kind != Kind::Select {
            self.forget_databases();
        }
        let output = outcome?;
        let n_bytes = output.as_ref().len() as u64;
        if n_bytes > bytes_max {
            return Err(Exception::new(
                code::TOO_MANY_ROWS_OR_BYTES,
                format_args!(
                    "Limit for result exceeded, max bytes: {bytes_max}, current bytes: {n_bytes}: \
                     ask in a format that is streamed, such as JSONEachRow, or raise http.result_max"
                ),
            ));
        }
        Ok(output)
    }

    /// Runs a SELECT and sends its output in chunks. The first word is the head: whether it began well. An error
    /// after that is the last chunk, marked as an exception.
    ///
    /// # Errors
    /// What the client was told, for the counters; [`code::ABORTED`] when it went away.
    pub fn stream(&self, job: &Job, format: &str, sink: StreamSink<'_>) -> Result<(), Exception> {
        let StreamSink {
            head,
            chunks,
            exception_tag,
        } = sink;
        let gone = || Exception::new(code::ABORTED, "the client went away");
        let refuse = |head: oneshot::Sender<_>, exception: Exception| {
            // The receiver is gone only when the client is.
            let _gone = head.send(Err(exception.clone()));
            Err(exception)
        };
        let mut session = match self.session(job, &[]) {
            Ok(session) => session,
            Err(exception) => return refuse(head, exception),
        };
        let mut stream = match session.stream(&job.statement.sql, format, &job.parameters) {
            Ok(stream) => stream,
            Err(error) => return refuse(head, engine_error(error)),
        };
        let first = match stream.fetch() {
            Ok(first) => first,
            Err(error) => return refuse(head, engine_error(error)),
        };
        head.send(Ok(())).map_err(|_| gone())?;
        let repeats_header = streaming(format) == Streaming::DropRepeatedHeader;
        // Waits as long as the client takes; one that takes nothing loses its connection (`http::stall`), and with
        // it this channel.
        let send = |chunk| chunks.blocking_send(chunk).map_err(|_| gone());
        let mut next = Ok(first);
        let mut is_first = true;
        loop {
            match next {
                Ok(None) => return send(Chunk::End),
                Ok(Some(output)) => {
                    let mut bytes = Bytes::from_owner(output);
                    if repeats_header && !is_first {
                        let Some(header) = row_binary::header_length(&bytes) else {
                            // Better no end than an answer with a header among its rows.
                            return Err(Exception::new(code::LOGICAL_ERROR, "a chunk without its header"));
                        };
                        bytes = bytes.slice(header..);
                    }
                    is_first = false;
                    if !bytes.is_empty() {
                        send(Chunk::Data(bytes))?;
                    }
                }
                Err(error) => {
                    let exception = engine_error(error);
                    let text = exception.body(self.engine.version());
                    send(Chunk::Data(mid_stream_exception(&text, exception_tag)))?;
                    send(Chunk::End)?;
                    return Err(exception);
                }
            }
            next = stream.fetch();
        }
    }

    /// Runs an INSERT on the pieces that come.
    ///
    /// # Errors
    /// Says what the failure means for the data.
    pub fn insert(
        &self,
        job: &Job,
        format: &str,
        data: &mut mpsc::Receiver<Piece>,
    ) -> Result<Stats, InsertFailure> {
        let mut session = self.session(job, &[])?;
        let mut stream = session
            .insert(&job.statement.sql, format, &job.parameters)
            .map_err(engine_error)?;
        let failed = |error: String| {
            let exception = engine_error(error);
            let after = after_insert(exception.code);
            InsertFailure { exception, after }
        };
        loop {
            match data.blocking_recv() {
                Some(Piece::Data(bytes)) => stream.append(&bytes).map_err(failed)?,
                Some(Piece::End) => return stream.done().map_err(failed),
                None => {
                    return Err(Exception::new(
                        code::ABORTED,
                        "the client ended its request before the data was complete",
                    )
                    .into());
                }
            }
        }
    }

    /// Cancels the statement with this tag, if it runs.
    pub fn kill(&self, tag: &str) {
        let Some(mut session) = self.engine.session("kill", &[]) else {
            return;
        };
        let sql = format!("KILL QUERY WHERE Settings['log_comment'] = {} ASYNC", quotes(tag));
        if let Err(error) = session.query(sql.as_bytes(), "Null", &Parameters::default()) {
            tracing::warn!("cannot cancel statement {tag}: {error}");
        }
    }

    /// Reloads all dictionaries.
    ///
    /// # Errors
    /// As told by the engine.
    pub fn reload_dictionaries(&self) -> Result<(), Exception> {
        let mut session = self
            .engine
            .session("reload", &[])
            .ok_or_else(|| Exception::new(code::LOGICAL_ERROR, "the engine gave no session"))?;
        session
            .query(b"SYSTEM RELOAD DICTIONARIES", "Null", &Parameters::default())
            .map_err(engine_error)?;
        Ok(())
    }
}

/// Where a streamed SELECT goes.
#[derive(Debug)]
pub struct StreamSink<'a> {
    /// Told once: it began well, or the error.
    pub head: oneshot::Sender<Result<(), Exception>>,
    /// The chunks.
    pub chunks: mpsc::Sender<Chunk>,
    /// Marks an exception that comes after the head was sent.
    pub exception_tag: &'a str,
}

fn set(session: &mut Connection, settings: &[&(String, String)]) -> Result<(), Exception> {
    if settings.is_empty() {
        return Ok(());
    }
    let mut sql = String::from("SET ");
    for (n, (name, value)) in settings.iter().enumerate() {
        if !is_setting_name(name) {
            let message = format!("unknown setting {}", quotes(name));
            return Err(Exception::new((115, "UNKNOWN_SETTING"), message));
        }
        if n > 0 {
            sql.push_str(", ");
        }
        sql.push_str(name);
        sql.push_str(" = ");
        sql.push_str(&quotes(value));
    }
    session
        .query(sql.as_bytes(), "Null", &Parameters::default())
        .map(drop)
        .map_err(engine_error)
}

/// An exception inside a body that began well, as ClickHouse marks it since 25.11.
fn mid_stream_exception(text: &str, tag: &str) -> Bytes {
    let message = format!("{}\n", text.trim_end());
    let length = message.len();
    format!("\r\n__exception__\r\n{tag}\r\n{message}{length} {tag}\r\n__exception__\r\n").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_strings_are_quoted() {
        assert_eq!(backticks(r"a`b\"), r"`a\`b\\`");
        assert_eq!(quotes(r"a'b\"), r"'a\'b\\'");
        assert!(!is_setting_name("a=1, b"));
    }
}
