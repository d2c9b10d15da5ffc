//! Sends recorded requests again, moved in time and at their own pace.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use ja4_common::Shutdown;
use ja4_common::config::ProcessConfig;
use ja4_common::ledger::{Ledger, Stage};
use ja4_common::units::Span;
use ja4_emit::{EmitConfig, Emitter, SocketKind, Stamp};
use ja4_model::limits::MAX_MESSAGE_BYTES;
use ja4_model::{Event, decode};
use serde::{Deserialize, Serialize};

use crate::origin::counts::Counts;
use crate::origin::report::now_ns;

/// Requests whose end may still come. A request is answered within a minute; more than this many in a minute
/// are no recording of the demo.
const MAX_OPEN: usize = 65_536;
/// A recording waits for its receiver: it reads on while so much is not acknowledged at most. The buffer holds four times that.
const MAX_UNACKNOWLEDGED_BYTES: usize = 2 << 20;
/// Longest single sleep, so that a request to end is seen.
const MAX_SLEEP: Duration = Duration::from_millis(200);
/// Between two looks at the buffer.
const ROOM_STEP: Duration = Duration::from_millis(5);

/// Configuration of `ja4-demo replay`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ReplayConfig {
    /// Logs, admin address, ledger file.
    pub process: ProcessConfig,
    /// Recorded events, one JSON object a line.
    pub file: PathBuf,
    /// Nanoseconds added to every time. Default 0.
    pub offset_ns: i64,
    /// The receiver's socket (STREAM). Default `/var/run/logcorr/http.stream`.
    pub socket: PathBuf,
    /// Kind of producer in events. Default `demo`.
    pub source: String,
    /// Host name in events. Default: the system's.
    pub node: Option<String>,
    /// Longest wait for acknowledgements at the end. Default 10s.
    pub drain_timeout: Span,
}

impl Default for ReplayConfig {
    fn default() -> Self {
        Self {
            process: ProcessConfig::default(),
            file: PathBuf::from("requests.jsonl"),
            offset_ns: 0,
            socket: "/var/run/logcorr/http.stream".into(),
            source: "demo".to_owned(),
            node: None,
            drain_timeout: Span::seconds(10),
        }
    }
}

/// A replay that has its file and its socket.
#[derive(Debug)]
pub struct Replay {
    config: ReplayConfig,
    lines: BufReader<std::fs::File>,
    shared: Arc<Shared>,
}

/// What the ledger reads while a replay runs.
#[derive(Debug)]
pub struct Shared {
    emitter: Emitter,
    lines: Counts,
}

impl Shared {
    /// Lines read, and events sent.
    pub fn ledger(&self) -> Ledger {
        let counters = self.emitter.counters();
        let mut events = Stage {
            received: counters.next_seq,
            passed: counters.acked,
            pending: counters.pending,
            ..Stage::new("demo.events")
        };
        for (reason, n) in &counters.dropped {
            events.drop_for(reason.name(), *n);
        }
        Ledger {
            stages: vec![self.lines.stage(), events],
            facts: BTreeMap::new(),
        }
    }
}

impl Replay {
    /// Opens the file; the emitter connects when the receiver is there.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn open(config: ReplayConfig, node: String) -> anyhow::Result<Self> {
        let file = std::fs::File::open(&config.file)
            .with_context(|| format!("cannot read {}", config.file.display()))?;
        let boot = ja4_emit::random_boot().context("cannot get random numbers")?;
        let emitter = Emitter::start(EmitConfig::new(
            &config.socket,
            SocketKind::Stream,
            &config.source,
            node,
            boot,
        ))?;
        Ok(Self {
            config,
            lines: BufReader::new(file),
            shared: Arc::new(Shared {
                emitter,
                lines: Counts::new("demo.replay"),
            }),
        })
    }

    /// For the ledger.
    pub fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    /// Sends all, each event when its moved time has come, and waits for the acknowledgements. Blocks.
    ///
    /// # Errors
    /// The file cannot be read to its end.
    pub fn run(mut self, shutdown: &Shutdown) -> anyhow::Result<()> {
        let shared = Arc::clone(&self.shared);
        // Numbers of requests in the recording, and here.
        let mut open = BTreeMap::new();
        let mut line = Vec::new();
        while !shutdown.is_requested() {
            line.clear();
            let limit = MAX_MESSAGE_BYTES as u64 + 2;
            let n = (&mut self.lines).take(limit).read_until(b'\n', &mut line);
            if n.with_context(|| format!("cannot read {}", self.config.file.display()))? == 0 {
                break;
            }
            let pending = shared.lines.begin();
            let (head, mut event) = match decode::event(line.trim_ascii_end()) {
                Ok(decoded) => decoded,
                Err(error) => {
                    pending.fail(error.reason());
                    continue;
                }
            };
            let ts_ns = head.ts_ns.saturating_add(self.config.offset_ns);
            if !sleep_until(ts_ns, shutdown) || !wait_for_room(&shared.emitter, shutdown) {
                pending.fail("stopped");
                break;
            }
            match &mut event {
                Event::Request(_) => {}
                Event::End(end) => {
                    let Some(seq) = open.remove(&(head.boot, end.request_seq)) else {
                        pending.fail("end_without_request");
                        continue;
                    };
                    end.request_seq = seq;
                }
                _ => {
                    pending.fail("not_a_request");
                    continue;
                }
            }
            let stamp = Stamp {
                ts_ns,
                ts_kind: head.ts_kind,
                ts_resolution_ns: head.ts_resolution_ns,
                sample_rate: head.sample_rate,
            };
            let seq = shared.emitter.send_stamped(stamp, &event).seq();
            if matches!(&event, Event::Request(request) if request.end_follows) {
                if open.len() == MAX_OPEN {
                    open.pop_first();
                }
                open.insert((head.boot, head.seq), seq);
            }
            pending.pass();
        }
        let report = shared.emitter.stop(self.config.drain_timeout.0);
        anyhow::ensure!(
            report.unacknowledged == 0 || shutdown.is_requested(),
            "{} events were not acknowledged within drain_timeout; is the receiver of {} running?",
            report.unacknowledged,
            self.config.socket.display()
        );
        Ok(())
    }
}

/// False if the process is to end before.
fn wait_for_room(emitter: &Emitter, shutdown: &Shutdown) -> bool {
    while emitter.counters().buffered_bytes > MAX_UNACKNOWLEDGED_BYTES {
        if shutdown.wait_for(ROOM_STEP) {
            return false;
        }
    }
    true
}

/// False if the process is to end before.
fn sleep_until(ts_ns: i64, shutdown: &Shutdown) -> bool {
    loop {
        let left = u64::try_from(ts_ns.saturating_sub(now_ns())).unwrap_or(0);
        if left == 0 {
            return true;
        }
        if shutdown.wait_for(Duration::from_nanos(left).min(MAX_SLEEP)) {
            return false;
        }
    }
}
