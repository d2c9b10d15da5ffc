//! `ja4-correlator replay`: events from files, time from the events, joined records on stdout. Deterministic.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::Path;

use correlator_engine::Now;
use ja4_common::exit::Failure;
use ja4_model::event::{EventKind, IdKind};
use ja4_model::{BootId, Correction, Head, JoinedRequest, Status, TlsRecord, WallNs, decode, limits};

use crate::config::CorrelatorConfig;
use crate::core::{Core, Incoming, KnownProducer, Rows};
use crate::payload::Origin;
use crate::redact::Redactor;
use crate::settlement::Producer;

/// Key of the keyed hashes in a replay: its output is for comparing, and must not depend on an installation.
const REPLAY_KEY: &[u8] = b"ja4-correlator replay";

/// One file of events, one JSON object a line.
struct Lines {
    name: String,
    reader: BufReader<File>,
    line: Vec<u8>,
    number: u64,
    /// Arrival and head of the line that waits.
    next: Option<Line>,
}

struct Line {
    arrival_ns: WallNs,
    kind: EventKind,
    source: Vec<u8>,
    node: Vec<u8>,
    boot: BootId,
    seq: u64,
    id_kind: IdKind,
}

/// Joined records on stdout, events that were settled at once.
struct Records {
    out: BufWriter<std::io::StdoutLock<'static>>,
    scratch: Vec<u8>,
    settled: Vec<Origin>,
    failed: Option<std::io::Error>,
}

impl Records {
    fn line(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        self.scratch.clear();
        write(&mut self.scratch);
        self.scratch.push(b'\n');
        if let (Err(error), None) = (self.out.write_all(&self.scratch), &self.failed) {
            self.failed = Some(error);
        }
    }
}

impl Rows for Records {
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

/// Replays both files, merged by arrival; an equal arrival takes the connection first.
pub(crate) fn replay(tls: &Path, http: &Path, config: &CorrelatorConfig) -> Result<(), Failure> {
    let redactor = Redactor::new(
        REPLAY_KEY,
        &config.redaction.query_keys,
        &config.redaction.session_cookies,
    );
    let mut files = [Lines::open(tls)?, Lines::open(http)?];
    let mut core: Option<Core> = None;
    let mut records = Records {
        out: BufWriter::with_capacity(1 << 18, std::io::stdout().lock()),
        scratch: Vec::new(),
        settled: Vec::new(),
        failed: None,
    };
    let mut producers: Vec<KnownProducer> = Vec::new();
    let mut start_ns = 0;
    let mut last_ns = i64::MIN;
    let mut redactor = Some(redactor);
    while let Some(file) = next_file(&files) {
        let lines = &mut files[file];
        let Some(line) = lines.next.take() else { break };
        // Arrival never goes back: what was recorded earlier in a file arrived earlier.
        last_ns = last_ns.max(line.arrival_ns);
        if core.is_none() {
            start_ns = last_ns;
            let now = Now {
                mono_ns: 0,
                wall_ns: last_ns,
            };
            let redactor = redactor.take().expect("the core is made once");
            core = Some(Core::new(
                config.join.settings(),
                [1, 2, 3, 4],
                now,
                redactor,
                Default::default(),
            ));
        }
        let core = core.as_mut().expect("it was made just now");
        let now = at(start_ns, last_ns);
        let_time_pass(core, now, &mut records);
        let producer = if let Some(known) = producers
            .iter()
            .find(|known| known.is(&line.source, &line.node, line.boot))
        {
            known.clone()
        } else {
            let new = core.opened(&line.source, &line.node, line.boot);
            producers.push(new.clone());
            new
        };
        let json = lines.line.as_slice();
        let event = Incoming {
            json,
            kind: line.kind,
            seq: line.seq,
            id_kind: line.id_kind,
            recv_ns: last_ns,
        };
        core.handle(now, &producer, event, &mut records);
        settle(core, &mut records);
        lines.advance()?;
    }
    if let Some(core) = &mut core {
        let end = core.next_deadline().map_or(0, |deadline| deadline);
        let now = at(start_ns, last_ns);
        let_time_pass(
            core,
            Now {
                mono_ns: now.mono_ns.max(end),
                ..now
            },
            &mut records,
        );
        core.handle_shutdown(now, &mut records);
        settle(core, &mut records);
        print_counters(core).map_err(Failure::failed)?;
    }
    let flushed = records.out.flush();
    match records.failed.map_or(flushed, Err) {
        // `replay | head` has seen enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        result => result.map_err(Failure::failed),
    }
}

fn at(start_ns: WallNs, now_ns: WallNs) -> Now {
    Now {
        mono_ns: u64::try_from(now_ns.saturating_sub(start_ns)).unwrap_or(0),
        wall_ns: now_ns,
    }
}

/// Every deadline before `now` fires at its own time, whatever lies between two events.
fn let_time_pass(core: &mut Core, now: Now, records: &mut Records) {
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

fn settle(core: &mut Core, records: &mut Records) {
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
fn next_file(files: &[Lines; 2]) -> Option<usize> {
    let arrival = |file: &Lines| file.next.as_ref().map(|line| line.arrival_ns);
    match (arrival(&files[0]), arrival(&files[1])) {
        (Some(tls), Some(http)) => Some(usize::from(http < tls)),
        (Some(_), None) => Some(0),
        (None, Some(_)) => Some(1),
        (None, None) => None,
    }
}

impl Lines {
    fn open(path: &Path) -> Result<Self, Failure> {
        let name = path.display().to_string();
        let file = File::open(path)
            .map_err(|error| Failure::wrong_use(format!("{name}: cannot be read: {error}")))?;
        let mut lines = Self {
            name,
            reader: BufReader::with_capacity(1 << 18, file),
            line: Vec::new(),
            number: 0,
            next: None,
        };
        lines.advance()?;
        Ok(lines)
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
            match decode::brief(&self.line) {
                Ok(brief) => {
                    let number = self.number - 1;
                    let counted = brief.id.is_some() || brief.kind == EventKind::Status;
                    self.next = Some(Line {
                        arrival_ns: brief.recv_ns.unwrap_or(brief.ts_ns),
                        kind: brief.kind,
                        source: or(brief.source.as_bytes(), b"replay"),
                        node: or(brief.node.as_bytes(), b"replay"),
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

fn or(bytes: &[u8], default: &[u8]) -> Vec<u8> {
    if bytes.is_empty() {
        default.to_vec()
    } else {
        bytes.to_vec()
    }
}
