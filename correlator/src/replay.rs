//! `ja4-correlator replay`: events from files, time from the events, joined records on stdout. Deterministic.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::Path;

use hashbrown::HashMap;

use correlator_engine::Now;
use ja4_common::exit::Failure;
use ja4_model::event::{EventKind, IdKind};
use ja4_model::{BootId, Correction, Head, JoinedRequest, Status, Text, TlsRecord, WallNs, decode, limits};

use crate::config::CorrelatorConfig;
use crate::core::{Core, Incoming, KnownProducer, Rows};
use crate::payload::{Origin, RequestCell};
use crate::redact::Redactor;
use crate::settlement::Producer;

/// Key of the keyed hashes in a replay: its output is for comparing, and must not depend on an installation.
const REPLAY_KEY: &[u8] = b"ja4-correlator replay";

/// How a request begins as our own writer writes it; others are found by reading the head alone.
const REQUEST_START: &[u8] = b"{\"v\":1,\"event\":\"request\",";

/// One file of events, one JSON object a line.
pub(crate) struct Lines<R> {
    name: String,
    reader: R,
    line: Vec<u8>,
    number: u64,
    /// Names of the producer of the line that waits.
    source: Vec<u8>,
    node: Vec<u8>,
    /// Arrival and head of the line that waits.
    next: Option<Line>,
    /// The producer of the line before: mostly it is the same.
    last: Option<KnownProducer>,
}

struct Line {
    /// The request that the line is: reading its head alone would cost half as much again.
    request: Option<RequestCell>,
    arrival_ns: WallNs,
    kind: EventKind,
    boot: BootId,
    seq: u64,
    id_kind: IdKind,
}

/// Producers by source, node and boot.
type Producers = HashMap<(Vec<u8>, Vec<u8>, BootId), KnownProducer, ahash::RandomState>;

/// Joined records, and events that were settled at once.
struct Records<W> {
    out: W,
    scratch: Vec<u8>,
    settled: Vec<Origin>,
    failed: Option<std::io::Error>,
}

impl<W: Write> Records<W> {
    fn line(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        self.scratch.clear();
        write(&mut self.scratch);
        self.scratch.push(b'\n');
        if let (Err(error), None) = (self.out.write_all(&self.scratch), &self.failed) {
            self.failed = Some(error);
        }
    }
}

impl<W: Write> Rows for Records<W> {
    fn request(&mut self, row: &JoinedRequest<'_>) {
        self.line(|out| row.write_json(out));
    }
    fn hello(&mut self, _row: &TlsRecord<'_>) {}
    fn correction(&mut self, row: &Correction<'_>) {
        self.line(|out| row.write_json(out));
    }
    fn status(&mut self, _head: &Head<'_>, _status: &Status<'_>, _producer: &Producer) {}
    fn settle(&mut self, origin: Origin) {
        self.settled.push(origin);
    }
}

/// Replays both files to stdout, the counters to stderr.
pub(crate) fn replay(tls: &Path, http: &Path, config: &CorrelatorConfig) -> Result<(), Failure> {
    let files = [open(tls)?, open(http)?];
    let out = BufWriter::with_capacity(1 << 18, std::io::stdout().lock());
    if let Some(core) = replay_lines(files, out, config)? {
        print_counters(&core).map_err(Failure::failed)?;
    }
    Ok(())
}

fn open(path: &Path) -> Result<Lines<BufReader<File>>, Failure> {
    let name = path.display().to_string();
    let file =
        File::open(path).map_err(|error| Failure::wrong_use(format!("{name}: cannot be read: {error}")))?;
    Ok(Lines::new(name, BufReader::with_capacity(1 << 18, file)))
}

/// Replays two inputs, merged by arrival; an equal arrival takes the first. The core as it is at the end, nothing
/// if there were no events.
pub(crate) fn replay_lines<R: BufRead, W: Write>(
    mut files: [Lines<R>; 2],
    out: W,
    config: &CorrelatorConfig,
) -> Result<Option<Core>, Failure> {
    for file in &mut files {
        file.advance()?;
    }
    let Some(first) = next_file(&files) else {
        return Ok(None);
    };
    let start_ns = files[first].next.as_ref().map_or(0, |line| line.arrival_ns);
    let redactor = Redactor::configured(REPLAY_KEY, &config.redaction);
    let mut core = Core::new(
        config.join.settings(),
        [1, 2, 3, 4],
        at(start_ns, start_ns),
        redactor,
        Default::default(),
    );
    let mut records = Records {
        out,
        scratch: Vec::new(),
        settled: Vec::new(),
        failed: None,
    };
    let mut producers = Producers::default();
    let mut last_ns = start_ns;
    while let Some(file) = next_file(&files) {
        let lines = &mut files[file];
        let Some(line) = lines.next.take() else { break };
        // Arrival never goes back: what was recorded earlier in a file arrived earlier.
        last_ns = last_ns.max(line.arrival_ns);
        let now = at(start_ns, last_ns);
        let_time_pass(&mut core, now, &mut records);
        let producer = lines.producer(line.boot, &mut core, &mut producers);
        let event = Incoming {
            json: &lines.line,
            kind: line.kind,
            seq: line.seq,
            id_kind: line.id_kind,
            recv_ns: last_ns,
        };
        core.handle_read(now, &producer, event, line.request, &mut records);
        lines.last = Some(producer);
        settle(&mut core, &mut records);
        lines.advance()?;
    }
    let end = core.next_deadline().unwrap_or(0);
    let now = at(start_ns, last_ns);
    let_time_pass(
        &mut core,
        Now {
            mono_ns: now.mono_ns.max(end),
            ..now
        },
        &mut records,
    );
    core.handle_shutdown(now, &mut records);
    settle(&mut core, &mut records);
    let flushed = records.out.flush();
    match records.failed.map_or(flushed, Err) {
        // `replay | head` has seen enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(Some(core)),
        result => result.map(|()| Some(core)).map_err(Failure::failed),
    }
}

fn at(start_ns: WallNs, now_ns: WallNs) -> Now {
    Now {
        mono_ns: u64::try_from(now_ns.saturating_sub(start_ns)).unwrap_or(0),
        wall_ns: now_ns,
    }
}

/// Every deadline before `now` fires at its own time, whatever lies between two events.
fn let_time_pass<W: Write>(core: &mut Core, now: Now, records: &mut Records<W>) {
    if now.mono_ns < core.quiet_until() {
        return;
    }
    while let Some(deadline) = core.next_deadline().filter(|deadline| *deadline <= now.mono_ns) {
        let back = i64::try_from(now.mono_ns - deadline).unwrap_or(i64::MAX);
        let then = Now {
            mono_ns: deadline,
            wall_ns: now.wall_ns.saturating_sub(back),
        };
        core.handle_timeout(then, records);
        if core.next_deadline() == Some(deadline) {
            break;
        }
    }
    settle(core, records);
}

fn settle<W>(core: &mut Core, records: &mut Records<W>) {
    let settled = std::mem::take(&mut records.settled);
    core.count_settled(&settled);
    core.settlement_mut().settle_all(&settled);
    records.settled = settled;
    records.settled.clear();
}

fn print_counters(core: &Core) -> std::io::Result<()> {
    let writer = crate::writer::Writer::lines_only(Vec::new());
    let ledger = crate::ledger::ledger(core, &writer, &crate::ledger::ReceiverDrops::new(), "none");
    let mut err = std::io::stderr().lock();
    serde_json::to_writer(&mut err, &ledger)?;
    err.write_all(b"\n")
}

/// The file whose next line arrived first; the first file on a tie.
fn next_file<R>(files: &[Lines<R>; 2]) -> Option<usize> {
    let arrival = |file: &Lines<R>| file.next.as_ref().map(|line| line.arrival_ns);
    match (arrival(&files[0]), arrival(&files[1])) {
        (Some(tls), Some(http)) => Some(usize::from(http < tls)),
        (Some(_), None) => Some(0),
        (None, Some(_)) => Some(1),
        (None, None) => None,
    }
}

impl<R: BufRead> Lines<R> {
    /// Events from `reader`; `name` is said with lines that are no events.
    pub(crate) fn new(name: String, reader: R) -> Self {
        Self {
            name,
            reader,
            line: Vec::new(),
            number: 0,
            source: Vec::new(),
            node: Vec::new(),
            next: None,
            last: None,
        }
    }

    /// The producer of the line that was read last.
    fn producer(&mut self, boot: BootId, core: &mut Core, producers: &mut Producers) -> KnownProducer {
        let (source, node) = (or(&self.source, b"replay"), or(&self.node, b"replay"));
        if let Some(last) = self.last.take()
            && last.is(source, node, boot)
        {
            return last;
        }
        producers
            .entry((source.to_vec(), node.to_vec(), boot))
            .or_insert_with(|| core.opened(source, node, boot))
            .clone()
    }

    fn wait_with_request(&mut self, cell: RequestCell) {
        let head = &cell.borrow_dependent().head;
        set(&mut self.source, &head.source);
        set(&mut self.node, &head.node);
        // One without a number of its own says so, with zeros.
        let counted = head.id_kind == IdKind::Producer || head.boot != BootId(0);
        self.next = Some(Line {
            arrival_ns: head.recv_ns.unwrap_or(head.ts_ns),
            kind: EventKind::Request,
            boot: head.boot,
            seq: if counted { head.seq } else { self.number - 1 },
            id_kind: if counted {
                IdKind::Producer
            } else {
                IdKind::Receiver
            },
            request: Some(cell),
        });
    }

    /// Reads up to the next line that is an event; others are named on stderr and left out.
    #[expect(
        clippy::print_stderr,
        reason = "the contract of `replay`: records on stdout, the rest on stderr"
    )]
    fn advance(&mut self) -> Result<(), Failure> {
        loop {
            self.line.clear();
            let n = self
                .reader
                .read_until(b'\n', &mut self.line)
                .map_err(|error| Failure::failed(format!("{}: {error}", self.name)))?;
            if n == 0 {
                self.next = None;
                return Ok(());
            }
            self.number += 1;
            while self.line.last().is_some_and(u8::is_ascii_whitespace) {
                self.line.pop();
            }
            if self.line.is_empty() {
                continue;
            }
            if self.line.starts_with(REQUEST_START)
                && let Ok(cell) = RequestCell::read(&self.line)
            {
                self.wait_with_request(cell);
                return Ok(());
            }
            match decode::brief(&self.line) {
                Ok(brief) => {
                    let number = self.number - 1;
                    let counted = brief.id.is_some() || brief.kind == EventKind::Status;
                    set(&mut self.source, &brief.source);
                    set(&mut self.node, &brief.node);
                    self.next = Some(Line {
                        request: None,
                        arrival_ns: brief.recv_ns.unwrap_or(brief.ts_ns),
                        kind: brief.kind,
                        boot: brief.id.map_or(BootId(0), |id| id.boot),
                        seq: brief.id.map_or(number, |id| id.seq),
                        id_kind: if counted {
                            IdKind::Producer
                        } else {
                            IdKind::Receiver
                        },
                    });
                    return Ok(());
                }
                Err(error) => eprintln!("{}:{}: left out: {error}", self.name, self.number),
            }
            if self.line.capacity() > 2 * limits::MAX_MESSAGE_BYTES {
                self.line = Vec::new();
            }
        }
    }
}

fn set(name: &mut Vec<u8>, text: &Text<'_>) {
    name.clear();
    name.extend_from_slice(text.as_bytes());
}

fn or<'a>(bytes: &'a [u8], default: &'static [u8]) -> &'a [u8] {
    if bytes.is_empty() { default } else { bytes }
}
