//! Answers one request: who it is, what it asks for, and the statement's output or error.
//!
//! ```text
//! route ─▶ token ─▶ URL, form, head of the body ─▶ statement ─▶ turn (semaphore) ─▶ execute (blocking) ─▶ answer
//! ```
//!
//! What the rest relies on: a statement whose client goes away is cancelled; an insert whose data is complete is
//! not; an insert that may have reached a commit and failed seals the service, so that no other insert is
//! acknowledged before the process has ended and its successor has repaired the logs.

use std::collections::{HashSet, VecDeque};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::header::{CONTENT_ENCODING, HeaderValue};
use hyper::{Method, Request as HttpRequest, Response, StatusCode};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::body::{AnswerBody, Chunk};
use super::formats::{Streaming, content_type, streaming};
use super::frames::{self, FrameDecoder, FrameError};
use super::params::{self, Request};
use crate::config::HttpSettings;
use crate::credentials::{Class, Credentials};
use crate::engine::engine_directory;
use crate::errors::{AfterInsert, Exception, code};
use crate::execute::{Executor, InsertFailure, Job, Piece, StreamSink};
use crate::ffi::Stats;
use crate::lexer::Lexer;
use crate::metrics::Metrics;
use crate::repair;
use crate::statement::{InsertSource, Kind, SplitError, Statement, split};

/// Pieces of insert data on their way to the engine; with pieces of at most 400 KiB this is 3 MiB an insert.
const INSERT_QUEUE: usize = 8;

/// Chunks of an answer on their way to the client, about 65 000 rows each.
const ANSWER_QUEUE: usize = 2;

/// What is still read and thrown away of an insert that was refused early, so that the client, which is busy
/// sending, gets to read why.
const DRAIN_MAX_BYTES: u64 = 64 << 20;

/// Time between two looks for records without a part; a commit takes some microseconds between the two steps.
const ORPHAN_LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// The answer to an insert that may have reached a commit is sent within this time; then the process ends.
const FATAL_ANSWER_TIME: Duration = Duration::from_millis(250);

/// Everything a request needs.
#[derive(Debug)]
pub struct Service {
    executor: Arc<Executor>,
    credentials: Credentials,
    settings: HttpSettings,
    data: PathBuf,
    disk_free_min_bytes: u64,
    /// Inserts are refused for want of space: its beginning and its end are logged, not each refusal.
    is_short_of_space: AtomicBool,
    metrics: Arc<Metrics>,
    /// Turns for statements, for all and for each class.
    all_turns: Arc<Semaphore>,
    class_turns: [Arc<Semaphore>; 4],
    /// Deduplication tokens of inserts that run: the same batch twice at once could be acknowledged for a commit
    /// that then fails.
    running_tokens: Mutex<HashSet<String>>,
    /// Set before the answer to an insert that may have reached a commit: no insert is acknowledged from then on.
    sealed: AtomicBool,
    fatal: mpsc::UnboundedSender<String>,
    n_statements: AtomicU64,
    boot: String,
}

/// What a service is made of.
#[derive(Debug)]
pub struct ServiceParts {
    /// Runs statements.
    pub executor: Arc<Executor>,
    /// The tokens.
    pub credentials: Credentials,
    /// Limits.
    pub settings: HttpSettings,
    /// The store's directory.
    pub data: PathBuf,
    /// Inserts are refused below this.
    pub disk_free_min_bytes: u64,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Told, with the reason, when the process must end for its data's sake.
    pub fatal: mpsc::UnboundedSender<String>,
}

/// Cancels a statement when its client goes away before the end.
#[derive(Debug)]
pub struct CancelGuard {
    service: Arc<Service>,
    tag: Option<String>,
}

impl CancelGuard {
    /// The statement has ended by itself.
    pub fn disarm(&mut self) {
        self.tag = None;
    }
}

impl Drop for CancelGuard {
    fn drop(&mut self) {
        let Some(tag) = self.tag.take() else { return };
        self.service.metrics.cancelled.inc();
        let executor = Arc::clone(&self.service.executor);
        // The runtime is there as long as bodies and handlers are.
        tokio::task::spawn_blocking(move || executor.kill(&tag));
    }
}

/// A place among the running statements.
#[derive(Debug)]
struct Turn {
    _all: OwnedSemaphorePermit,
    _class: OwnedSemaphorePermit,
}

/// Removes a deduplication token from the running ones.
#[derive(Debug)]
struct RunningToken {
    service: Arc<Service>,
    token: Option<String>,
}

impl Drop for RunningToken {
    fn drop(&mut self) {
        if let Some(token) = self.token.take() {
            self.service
                .running_tokens
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .remove(&token);
        }
    }
}

type Answer = Response<AnswerBody>;

impl Service {
    /// Puts a service together.
    pub fn new(parts: ServiceParts) -> Self {
        let n = parts.settings.statements_max;
        // A quarter is always left to the other classes: a dashboard that asks too much cannot stop the writer.
        let per_class = (n * 3).div_ceil(4);
        let mut boot = [0; 4];
        // Only a name in system.processes; zeros would do.
        let _named = getrandom::fill(&mut boot);
        Self {
            executor: parts.executor,
            credentials: parts.credentials,
            settings: parts.settings,
            data: parts.data,
            disk_free_min_bytes: parts.disk_free_min_bytes,
            is_short_of_space: AtomicBool::new(false),
            metrics: parts.metrics,
            all_turns: Arc::new(Semaphore::new(n)),
            class_turns: std::array::from_fn(|_| Arc::new(Semaphore::new(per_class))),
            running_tokens: Mutex::new(HashSet::new()),
            sealed: AtomicBool::new(false),
            fatal: parts.fatal,
            n_statements: AtomicU64::new(0),
            boot: format!("{:08x}", u32::from_le_bytes(boot)),
        }
    }

    /// Answers a request; never fails, errors are answers.
    pub async fn handle(self: Arc<Self>, request: HttpRequest<Incoming>) -> Answer {
        let path = request.uri().path();
        let has_query = request.uri().query().is_some_and(|query| !query.is_empty());
        match (request.method(), path) {
            (&Method::GET | &Method::HEAD, "/ping") => return plain(StatusCode::OK, "Ok.\n"),
            (&Method::GET | &Method::HEAD, "/") if !has_query => return plain(StatusCode::OK, "Ok.\n"),
            (&Method::GET | &Method::POST, "/") => {}
            (_, "/" | "/ping") => return plain(StatusCode::METHOD_NOT_ALLOWED, "send GET or POST\n"),
            _ => return plain(StatusCode::NOT_FOUND, "there is / for statements and /ping\n"),
        }
        match self.query(request).await {
            Ok(answer) => answer,
            Err(exception) => self.error(&exception),
        }
    }

    fn error(&self, exception: &Exception) -> Answer {
        let mut answer = Response::new(exception.body(self.executor.engine().version()).into());
        *answer.status_mut() =
            StatusCode::from_u16(exception.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = answer.headers_mut();
        headers.insert(
            "content-type",
            HeaderValue::from_static("text/plain; charset=UTF-8"),
        );
        headers.insert("x-clickhouse-exception-code", HeaderValue::from(exception.code));
        answer
    }

    fn authenticate(&self, request: &HttpRequest<Incoming>) -> Result<Class, Exception> {
        let claim = params::claim(request.headers());
        claim.and_then(|claim| self.credentials.check(&claim)).ok_or_else(|| {
            self.metrics.authentication_failed.inc();
            Exception::new(
                code::AUTHENTICATION_FAILED,
                "the token is missing or wrong: send one of DATA/tokens/{writer,detector,dashboard,migrator} as \
                 X-ClickHouse-Key or bearer authorization, and as user nothing or the name of its file",
            )
        })
    }

    /// Reads the request up to its statement, then runs it.
    async fn query(self: &Arc<Self>, http: HttpRequest<Incoming>) -> Result<Answer, Exception> {
        let class = self.authenticate(&http)?;
        let mut request = Request::parse(http.uri().query().unwrap_or_default(), http.headers())?;
        if let Some(encoding) = http.headers().get(CONTENT_ENCODING) {
            let encoding = String::from_utf8_lossy(encoding.as_bytes()).into_owned();
            return Err(Exception::new(
                code::SUPPORT_IS_DISABLED,
                format!("Content-Encoding {encoding} is not supported: send plain data or ?decompress=1"),
            ));
        }
        let boundary = params::multipart_boundary(http.headers());
        let readonly = http.method() == Method::GET;
        let mut body = BodyReader::new(http.into_body(), &request, &self.settings);
        if let Some(boundary) = boundary {
            let form = body.collect(self.settings.query_max_bytes).await?;
            for (name, value) in params::multipart_fields(&form, &boundary)? {
                request.add(name, value)?;
            }
        }
        let (statement, rest) = self.statement(&mut request, &mut body).await?;
        let job = Job {
            class,
            tag: format!(
                "{}-{}",
                self.boot,
                self.n_statements.fetch_add(1, Ordering::Relaxed)
            ),
            statement,
            database: request.database.take(),
            settings: std::mem::take(&mut request.settings),
            parameters: std::mem::take(&mut request.parameters),
            readonly,
        };
        self.run(job, request, body, rest).await
    }

    /// Finds the statement in URL and body. Returns it with the data that was read beyond it.
    async fn statement(
        &self,
        request: &mut Request,
        body: &mut BodyReader,
    ) -> Result<(Statement, Bytes), Exception> {
        let maximum = self.settings.query_max_bytes;
        if let Some(query) = request.query.take().filter(|query| !query.is_empty()) {
            if query.len() > maximum {
                return Err(too_long(maximum));
            }
            let statement = split(&query, true).map_err(split_error)?;
            if let Some(start) = statement.data_start {
                return Ok((statement, Bytes::copy_from_slice(&query[start..])));
            }
            let more = body.collect(maximum).await?;
            if more.iter().all(u8::is_ascii_whitespace) {
                return Ok((statement, Bytes::new()));
            }
            let whole = [&query[..], b"\n", &more[..]].concat();
            return Ok((split(&whole, true).map_err(split_error)?, Bytes::new()));
        }
        // The SQL is at the start of the body. Tried again each time the text has doubled, so that a client that
        // sends it byte by byte costs no more than twice its length.
        let mut text = BytesMut::new();
        let mut next_try = 0;
        loop {
            let complete = match body.next().await? {
                Some(bytes) => {
                    text.extend_from_slice(&bytes);
                    false
                }
                None => true,
            };
            if !complete && text.len() < next_try {
                continue;
            }
            next_try = (text.len() * 2).min(maximum);
            // An INSERT's data may be long; its head and every other statement may not.
            match split(
                &text[..text.len().min(maximum)],
                complete && text.len() <= maximum,
            ) {
                Ok(statement) => {
                    let rest = statement
                        .data_start
                        .map_or(Bytes::new(), |start| text.split_off(start).freeze());
                    return Ok((statement, rest));
                }
                Err(SplitError::Incomplete) if text.len() > maximum => return Err(too_long(maximum)),
                Err(SplitError::Incomplete) if !complete => {}
                Err(error) => return Err(split_error(error)),
            }
        }
    }

    async fn turn(&self, class: Class) -> Result<Turn, Exception> {
        let position = Class::ALL
            .iter()
            .position(|&c| c == class)
            .expect("ALL holds every class");
        let wait = async {
            let class = Arc::clone(&self.class_turns[position]).acquire_owned().await;
            let all = Arc::clone(&self.all_turns).acquire_owned().await;
            class.ok().zip(all.ok())
        };
        match tokio::time::timeout(self.settings.queue_timeout, wait).await {
            Ok(Some((class, all))) => Ok(Turn {
                _all: all,
                _class: class,
            }),
            _ => Err(Exception::new(
                code::TOO_MANY_SIMULTANEOUS_QUERIES,
                format!(
                    "no turn within {:?}: {} statements run at once",
                    self.settings.queue_timeout, self.settings.statements_max
                ),
            )),
        }
    }

    async fn run(
        self: &Arc<Self>,
        job: Job,
        request: Request,
        body: BodyReader,
        rest: Bytes,
    ) -> Result<Answer, Exception> {
        let default = request
            .default_format
            .clone()
            .unwrap_or_else(|| "TabSeparated".to_owned());
        let format = job.statement.format.clone().unwrap_or(default);
        let is_insert = job.statement.kind == Kind::Insert;
        if is_insert {
            self.metrics.insert_received();
            if let Err(exception) = self.may_insert() {
                self.metrics.insert_dropped(format!("code_{}", exception.code));
                let mut body = body;
                body.drain().await;
                return Err(exception);
            }
        }
        let turn = match self.turn(job.class).await {
            Ok(turn) => turn,
            Err(exception) => {
                if is_insert {
                    self.metrics.insert_dropped(format!("code_{}", exception.code));
                }
                return Err(exception);
            }
        };
        let started = Started::new(self, &job);
        match (&job.statement.insert, streaming(&format)) {
            (Some(insert), _) => match insert.source.clone() {
                InsertSource::Data { format } => {
                    self.insert_data(job, format, body, rest, turn, started).await
                }
                InsertSource::Query => self.insert_query(job, turn, started).await,
            },
            (None, Streaming::Concatenate | Streaming::DropRepeatedHeader)
                if job.statement.kind == Kind::Select =>
            {
                self.select(job, request, format, turn, started).await
            }
            _ => self.whole(job, request, format, turn, started).await,
        }
    }

    /// Refuses inserts that could only end badly.
    fn may_insert(&self) -> Result<(), Exception> {
        if self.sealed.load(Ordering::Acquire) {
            return Err(sealed());
        }
        let Ok(disk) = rustix::fs::statvfs(&self.data) else {
            return Ok(());
        };
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        self.metrics
            .disk_free
            .set(i64::try_from(free).unwrap_or(i64::MAX));
        let data = self.data.display();
        if free < self.disk_free_min_bytes {
            let minimum = self.disk_free_min_bytes;
            let why = format!(
                "{free} bytes are free at {data}, inserts need {minimum}: free space or lower disk_free_min"
            );
            if !self.is_short_of_space.swap(true, Ordering::Relaxed) {
                tracing::warn!("inserts are refused: {why}");
            }
            return Err(Exception::new(code::NOT_ENOUGH_SPACE, why));
        }
        if self.is_short_of_space.swap(false, Ordering::Relaxed) {
            tracing::info!("{free} bytes are free at {data}: inserts are taken again");
        }
        Ok(())
    }

    async fn whole(
        self: &Arc<Self>,
        job: Job,
        request: Request,
        format: String,
        turn: Turn,
        started: Started,
    ) -> Result<Answer, Exception> {
        let mut guard = self.guard(&job);
        let tag = job.tag.clone();
        let executor = Arc::clone(&self.executor);
        let asked = format.clone();
        let outcome = blocking(move || {
            let _turn = turn;
            let outcome = executor.whole(&job, &asked);
            started.finish(outcome.as_ref().err());
            outcome
        })
        .await;
        guard.disarm();
        let output = outcome?;
        let stats = output.stats();
        let mut bytes = Bytes::from_owner(output);
        if request.compress {
            bytes = frames::encode(&bytes);
        }
        let mut answer = Response::new(AnswerBody::from(bytes));
        self.describe(
            &mut answer,
            &format,
            request.query_id.as_deref().unwrap_or(&tag),
            Some(stats),
        );
        Ok(answer)
    }

    async fn select(
        self: &Arc<Self>,
        job: Job,
        request: Request,
        format: String,
        turn: Turn,
        started: Started,
    ) -> Result<Answer, Exception> {
        let mut guard = self.guard(&job);
        let tag = job.tag.clone();
        let (head_sender, head) = oneshot::channel();
        let (chunk_sender, chunks) = mpsc::channel(ANSWER_QUEUE);
        let executor = Arc::clone(&self.executor);
        let exception_tag = random_tag();
        let (asked, mark) = (format.clone(), exception_tag.clone());
        tokio::task::spawn_blocking(move || {
            let _turn = turn;
            let sink = StreamSink {
                head: head_sender,
                chunks: chunk_sender,
                exception_tag: &mark,
            };
            let outcome = executor.stream(&job, &asked, sink);
            started.finish(outcome.as_ref().err());
        });
        match head.await {
            Ok(Ok(())) => {}
            Ok(Err(exception)) => {
                guard.disarm();
                return Err(exception);
            }
            Err(_) => {
                guard.disarm();
                return Err(Exception::new(
                    code::LOGICAL_ERROR,
                    "the statement ended without an answer",
                ));
            }
        }
        let body = if request.compress {
            AnswerBody::Stream {
                chunks: compressed(chunks),
                guard,
            }
        } else {
            AnswerBody::Stream { chunks, guard }
        };
        let mut answer = Response::new(body);
        self.describe(
            &mut answer,
            &format,
            request.query_id.as_deref().unwrap_or(&tag),
            None,
        );
        if let Ok(value) = HeaderValue::from_str(&exception_tag) {
            answer.headers_mut().insert("x-clickhouse-exception-tag", value);
        }
        Ok(answer)
    }

    /// INSERT … SELECT.
    async fn insert_query(
        self: &Arc<Self>,
        job: Job,
        turn: Turn,
        started: Started,
    ) -> Result<Answer, Exception> {
        let token = self
            .claim_token(&job)
            .inspect_err(|e| self.metrics.insert_dropped(format!("code_{}", e.code)))?;
        let mut guard = self.guard(&job);
        let tag = job.tag.clone();
        let service = Arc::clone(self);
        let outcome = blocking(move || {
            let _turn = turn;
            let outcome = service
                .executor
                .whole(&job, "Null")
                .map(|output| output.stats())
                .map_err(|exception| {
                    let after = crate::errors::after_insert(exception.code);
                    InsertFailure { exception, after }
                });
            service.settle(outcome, started, token)
        })
        .await;
        guard.disarm();
        self.acknowledge(outcome, &tag)
    }

    /// INSERT with data: pumps the body into the engine.
    async fn insert_data(
        self: &Arc<Self>,
        job: Job,
        format: String,
        mut body: BodyReader,
        rest: Bytes,
        turn: Turn,
        started: Started,
    ) -> Result<Answer, Exception> {
        let token = match self.claim_token(&job) {
            Ok(token) => token,
            Err(exception) => {
                self.metrics.insert_dropped(format!("code_{}", exception.code));
                body.drain().await;
                return Err(exception);
            }
        };
        let tag = job.tag.clone();
        let (sender, mut data) = mpsc::channel(INSERT_QUEUE);
        let service = Arc::clone(self);
        let statement = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            let outcome = service.executor.insert(&job, &format, &mut data);
            drop(data);
            service.settle(outcome, started, token)
        });
        body.limit(self.settings.insert_max_bytes);
        let pumped = self.pump(&mut body, rest, sender).await;
        if matches!(pumped, Ok(Pumped::Refused)) {
            body.drain().await;
        }
        let outcome = statement
            .await
            .unwrap_or_else(|_| Err(Exception::new(code::LOGICAL_ERROR, "the insert panicked")));
        pumped?;
        self.acknowledge(outcome, &tag)
    }

    /// Moves the body to the engine. When this ends without [`Piece::End`], the engine inserts nothing.
    async fn pump(
        &self,
        body: &mut BodyReader,
        rest: Bytes,
        data: mpsc::Sender<Piece>,
    ) -> Result<Pumped, Exception> {
        let mut next = Some(rest);
        while let Some(bytes) = next {
            if !bytes.is_empty() {
                self.metrics.insert_bytes.inc_by(bytes.len() as u64);
                if data.send(Piece::Data(bytes)).await.is_err() {
                    return Ok(Pumped::Refused);
                }
            }
            next = body.next().await?;
        }
        // The insert may have failed meanwhile; its outcome says so.
        let _refused = data.send(Piece::End).await;
        Ok(Pumped::Complete)
    }

    /// Judges the end of an insert while still on the pool of statements: counts it, and seals the service when the
    /// failure may have reached a commit. The deduplication token is freed after that.
    fn settle(
        &self,
        outcome: Result<Stats, InsertFailure>,
        started: Started,
        token: RunningToken,
    ) -> Result<Stats, Exception> {
        let settled = match outcome {
            Ok(stats) if self.sealed.load(Ordering::Acquire) => {
                tracing::warn!(
                    "an insert of {} rows is not acknowledged: the process is ending",
                    stats.written_rows
                );
                Err(sealed())
            }
            Ok(stats) => Ok(stats),
            Err(InsertFailure { exception, after }) => {
                if self.may_have_committed(after) {
                    self.seal(&exception);
                }
                Err(exception)
            }
        };
        started.finish(settled.as_ref().err());
        match &settled {
            Ok(stats) => {
                self.metrics.rows_written.inc_by(stats.written_rows);
                self.metrics.insert_passed();
            }
            Err(exception) => self.metrics.insert_dropped(format!("code_{}", exception.code)),
        }
        drop(token);
        settled
    }

    fn may_have_committed(&self, after: AfterInsert) -> bool {
        match after {
            AfterInsert::BeforeCommit => false,
            AfterInsert::MayHaveCommitted => true,
            AfterInsert::Look => {
                let look = || repair::orphans(&engine_directory(&self.data));
                let Ok(first) = look() else { return true };
                if first.is_empty() {
                    return false;
                }
                std::thread::sleep(ORPHAN_LOOK_INTERVAL);
                look().map_or(true, |second| second.iter().any(|orphan| first.contains(orphan)))
            }
        }
    }

    fn seal(&self, exception: &Exception) {
        self.sealed.store(true, Ordering::Release);
        let reason = exception.text.lines().next().unwrap_or_default().to_owned();
        let fatal = self.fatal.clone();
        std::thread::spawn(move || {
            std::thread::sleep(FATAL_ANSWER_TIME);
            // The receiver is gone only when the process is ending anyway.
            let _ending = fatal.send(reason);
        });
    }

    /// Takes the insert's deduplication token; two inserts with the same one must not run at once.
    fn claim_token(self: &Arc<Self>, job: &Job) -> Result<RunningToken, Exception> {
        let token = deduplication_token(job);
        if let Some(token) = &token {
            let mut running = self.running_tokens.lock().unwrap_or_else(PoisonError::into_inner);
            if !running.insert(token.clone()) {
                return Err(Exception::new(
                    code::TOO_MANY_SIMULTANEOUS_QUERIES,
                    "an insert with the same insert_deduplication_token still runs: send it again later",
                ));
            }
        }
        Ok(RunningToken {
            service: Arc::clone(self),
            token,
        })
    }

    fn acknowledge(&self, outcome: Result<Stats, Exception>, tag: &str) -> Result<Answer, Exception> {
        let stats = outcome?;
        let mut answer = Response::new(AnswerBody::Whole(None));
        self.describe(&mut answer, "TabSeparated", tag, Some(stats));
        Ok(answer)
    }

    fn guard(self: &Arc<Self>, job: &Job) -> CancelGuard {
        CancelGuard {
            service: Arc::clone(self),
            tag: Some(job.tag.clone()),
        }
    }

    #[expect(clippy::unused_self, reason = "one of the methods that make an answer")]
    fn describe(&self, answer: &mut Answer, format: &str, query_id: &str, stats: Option<Stats>) {
        let headers = answer.headers_mut();
        headers.insert("content-type", HeaderValue::from_static(content_type(format)));
        headers.insert("x-clickhouse-timezone", HeaderValue::from_static("UTC"));
        for (name, value) in [
            ("x-clickhouse-format", format),
            ("x-clickhouse-query-id", query_id),
        ] {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(name, value);
            }
        }
        if let Some(stats) = stats {
            let summary = serde_json::json!({
                "read_rows": stats.read_rows.to_string(),
                "read_bytes": stats.read_bytes.to_string(),
                "written_rows": stats.written_rows.to_string(),
                "written_bytes": stats.written_bytes.to_string(),
            });
            if let Ok(value) = HeaderValue::from_str(&summary.to_string()) {
                headers.insert("x-clickhouse-summary", value);
            }
        }
    }
}

/// How the pump ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pumped {
    Complete,
    Refused,
}

/// Counts a statement while it runs and when it ends.
#[derive(Debug)]
struct Started {
    metrics: Arc<Metrics>,
    class: Class,
    kind: Kind,
    at: Instant,
}

impl Started {
    fn new(service: &Service, job: &Job) -> Self {
        service.metrics.running.inc();
        Self {
            metrics: Arc::clone(&service.metrics),
            class: job.class,
            kind: job.statement.kind,
            at: Instant::now(),
        }
    }

    fn finish(self, error: Option<&Exception>) {
        let outcome = error.map_or_else(|| "ok".to_owned(), |exception| format!("code_{}", exception.code));
        let kind = match self.kind {
            Kind::Select => "select",
            Kind::Insert => "insert",
            Kind::Inspect => "inspect",
            Kind::Define => "define",
            Kind::Control => "control",
        };
        self.metrics
            .statements
            .with_label_values(&[self.class.name(), kind, &outcome])
            .inc();
        self.metrics
            .statement_seconds
            .observe(self.at.elapsed().as_secs_f64());
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        self.metrics.running.dec();
    }
}

/// Reads a body with its limits and, where asked, decompresses it.
#[derive(Debug)]
struct BodyReader {
    incoming: Incoming,
    decoder: Option<FrameDecoder>,
    ready: VecDeque<Bytes>,
    read_timeout: Duration,
    n_bytes: u64,
    max_bytes: u64,
}

impl BodyReader {
    fn new(incoming: Incoming, request: &Request, settings: &HttpSettings) -> Self {
        Self {
            incoming,
            decoder: request.decompress.then(FrameDecoder::default),
            ready: VecDeque::new(),
            read_timeout: settings.read_timeout,
            n_bytes: 0,
            max_bytes: settings.insert_max_bytes,
        }
    }

    fn limit(&mut self, max_bytes: u64) {
        self.max_bytes = max_bytes;
    }

    /// The next bytes as the client means them; None at the end.
    async fn next(&mut self) -> Result<Option<Bytes>, Exception> {
        loop {
            if let Some(bytes) = self.ready.pop_front() {
                self.n_bytes += bytes.len() as u64;
                if self.n_bytes > self.max_bytes {
                    let message = format!(
                        "the body is longer than {} bytes: raise http.insert_max or send less",
                        self.max_bytes
                    );
                    return Err(Exception::new(code::TOO_LARGE_ARRAY_SIZE, message));
                }
                return Ok(Some(bytes));
            }
            let Some(raw) = self.raw().await? else {
                if let Some(decoder) = &self.decoder {
                    decoder.finish().map_err(frame_error)?;
                }
                return Ok(None);
            };
            match &mut self.decoder {
                Some(decoder) => self.ready.extend(decoder.push(&raw).map_err(frame_error)?),
                None => self.ready.push_back(raw),
            }
        }
    }

    async fn raw(&mut self) -> Result<Option<Bytes>, Exception> {
        loop {
            match tokio::time::timeout(self.read_timeout, self.incoming.frame()).await {
                Ok(Some(Ok(frame))) => {
                    if let Ok(bytes) = frame.into_data() {
                        return Ok(Some(bytes));
                    }
                }
                Ok(None) => return Ok(None),
                Ok(Some(Err(_))) => return Err(Exception::new(code::NETWORK_ERROR, "the body broke off")),
                Err(_) => {
                    let message = format!("no byte of the body came within {:?}", self.read_timeout);
                    return Err(Exception::new(code::SOCKET_TIMEOUT, message));
                }
            }
        }
    }

    /// The whole rest, at most `maximum` bytes.
    async fn collect(&mut self, maximum: usize) -> Result<Bytes, Exception> {
        let mut whole = BytesMut::new();
        while let Some(bytes) = self.next().await? {
            whole.extend_from_slice(&bytes);
            if whole.len() > maximum {
                return Err(too_long(maximum));
            }
        }
        Ok(whole.freeze())
    }

    /// Throws away what the client still sends, within [`DRAIN_MAX_BYTES`] and the read timeout.
    async fn drain(&mut self) {
        let mut n_bytes = 0;
        while let Ok(Some(bytes)) = self.raw().await {
            n_bytes += bytes.len() as u64;
            if n_bytes > DRAIN_MAX_BYTES {
                return;
            }
        }
    }
}

/// Compresses chunks on their way.
fn compressed(mut chunks: mpsc::Receiver<Chunk>) -> mpsc::Receiver<Chunk> {
    let (sender, receiver) = mpsc::channel(ANSWER_QUEUE);
    tokio::spawn(async move {
        while let Some(chunk) = chunks.recv().await {
            let chunk = match chunk {
                Chunk::Data(bytes) => Chunk::Data(frames::encode(&bytes)),
                Chunk::End => Chunk::End,
            };
            if sender.send(chunk).await.is_err() {
                return;
            }
        }
    });
    receiver
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Exception> + Send + 'static,
) -> Result<T, Exception> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|_| Err(Exception::new(code::LOGICAL_ERROR, "the statement panicked")))
}

/// The insert's deduplication token, from the settings or the statement itself.
fn deduplication_token(job: &Job) -> Option<String> {
    const NAME: &str = "insert_deduplication_token";
    let setting = job
        .settings
        .iter()
        .rev()
        .find(|(name, _)| name == NAME)
        .map(|(_, value)| value.clone());
    setting.filter(|token| !token.is_empty()).or_else(|| {
        let sql = &job.statement.sql;
        let tokens: Vec<_> = Lexer::new(sql).collect();
        let position = tokens.iter().position(|t| t.is_word(sql, NAME))?;
        let value = tokens
            .get(position + 2)
            .filter(|_| tokens[position + 1].is_punctuation(b'='))?;
        value.name(sql)
    })
}

fn random_tag() -> String {
    let mut bytes = [0; 8];
    // The tag keeps data from being mistaken for an exception; were there no randomness, the statement would still be right.
    let _random = getrandom::fill(&mut bytes);
    format!("{:016x}", u64::from_le_bytes(bytes))
}

fn sealed() -> Exception {
    Exception::new(
        code::ABORTED,
        "the store is restarting to repair its deduplication logs after an error in a commit: send the insert again",
    )
}

fn too_long(maximum: usize) -> Exception {
    Exception::new(
        code::QUERY_IS_TOO_LARGE,
        format!("the query is longer than {maximum} bytes: raise http.query_max or shorten it"),
    )
}

fn split_error(error: SplitError) -> Exception {
    match error {
        SplitError::LocalFile => Exception::new(code::ACCESS_DENIED, error),
        SplitError::Empty | SplitError::Incomplete | SplitError::Multiple => {
            Exception::new(code::SYNTAX_ERROR, error)
        }
    }
}

fn frame_error(error: FrameError) -> Exception {
    match error {
        FrameError::Checksum => Exception::new(code::CHECKSUM_DOESNT_MATCH, error),
        _ => Exception::new(code::CANNOT_DECOMPRESS, error),
    }
}

fn plain(status: StatusCode, text: &'static str) -> Answer {
    let mut answer = Response::new(AnswerBody::from(Bytes::from_static(text.as_bytes())));
    *answer.status_mut() = status;
    answer.headers_mut().insert(
        "content-type",
        HeaderValue::from_static("text/plain; charset=UTF-8"),
    );
    answer
}
