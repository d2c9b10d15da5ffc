//! Writes records as JSON lines to a file or to stdout, from a queue of its own that drops the newest when full.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use ja4_common::ledger::Stage;

/// Chunks in the queue; with [`CHUNK_BYTES`] this is 16 MiB at most.
const QUEUE_CHUNKS: usize = 256;
/// Bytes after which a chunk is handed to the writer.
const CHUNK_BYTES: usize = 64 * 1024;

/// Where lines go.
#[derive(Debug, Clone)]
pub(crate) enum Target {
    /// A file, appended to.
    File(PathBuf),
    /// A file that must not be there yet, and the name of its stage in the ledger.
    Recording { path: PathBuf, name: &'static str },
    /// Standard output.
    Stdout,
}

/// A sink of lines.
#[derive(Debug)]
pub(crate) struct Lines {
    chunk: Vec<u8>,
    rows_in_chunk: u64,
    queue: Option<SyncSender<(Vec<u8>, u64)>>,
    writer: Option<JoinHandle<()>>,
    counts: Arc<LineCounts>,
    name: &'static str,
}

/// Counts of a sink of lines: `received = written + dropped + pending`.
#[derive(Debug, Default)]
pub(crate) struct LineCounts {
    pub(crate) received: AtomicU64,
    pub(crate) written: AtomicU64,
    /// The queue was full.
    pub(crate) overflow: AtomicU64,
    /// Writing failed.
    pub(crate) failed: AtomicU64,
}

impl Lines {
    /// Opens the target and starts its writer.
    ///
    /// # Errors
    /// If the file cannot be opened or no thread be started.
    pub(crate) fn start(target: &Target) -> std::io::Result<Self> {
        let mut options = std::fs::OpenOptions::new();
        let out: Box<dyn Write + Send> = match target {
            // What clients did is nobody else's business.
            Target::File(path) => Box::new(options.create(true).append(true).mode(0o600).open(path)?),
            Target::Recording { path, .. } => {
                Box::new(options.create_new(true).write(true).mode(0o600).open(path)?)
            }
            Target::Stdout => Box::new(std::io::stdout()),
        };
        let name = match target {
            Target::File(_) => "file.records",
            Target::Recording { name, .. } => name,
            Target::Stdout => "stdout.records",
        };
        let (queue, chunks) = sync_channel(QUEUE_CHUNKS);
        let counts = Arc::new(LineCounts::default());
        let shared = Arc::clone(&counts);
        let writer = std::thread::Builder::new()
            .name("lines".into())
            .spawn(move || write_all(out, &chunks, &shared))?;
        Ok(Self {
            chunk: Vec::with_capacity(CHUNK_BYTES),
            rows_in_chunk: 0,
            queue: Some(queue),
            writer: Some(writer),
            counts,
            name,
        })
    }

    /// Appends one record; `write` gives its JSON without a line end.
    pub(crate) fn push(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.chunk);
        self.chunk.push(b'\n');
        self.rows_in_chunk += 1;
        self.counts.received.fetch_add(1, Ordering::Relaxed);
        if self.chunk.len() >= CHUNK_BYTES {
            self.flush();
        }
    }

    /// Hands what is collected to the writer.
    pub(crate) fn flush(&mut self) {
        if self.chunk.is_empty() {
            return;
        }
        let chunk = std::mem::replace(&mut self.chunk, Vec::with_capacity(CHUNK_BYTES));
        let rows = std::mem::take(&mut self.rows_in_chunk);
        if let Some(queue) = &self.queue
            && let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) = queue.try_send((chunk, rows))
        {
            self.counts.overflow.fetch_add(rows, Ordering::Relaxed);
        }
    }

    /// The sink as a stage of the ledger.
    pub(crate) fn stage(&self) -> Stage {
        let counts = &self.counts;
        let mut stage = Stage::new(self.name);
        // What came later is read first, so that a row under way is never counted out before in.
        stage.drop_for("queue_full", counts.overflow.load(Ordering::Acquire));
        stage.drop_for("write_failed", counts.failed.load(Ordering::Acquire));
        stage.passed = counts.written.load(Ordering::Acquire);
        stage.received = counts.received.load(Ordering::Acquire);
        stage.pending = stage
            .received
            .saturating_sub(stage.passed + stage.dropped_total());
        stage
    }

    /// Writes all that is queued and ends the writer; the last counts.
    pub(crate) fn stop(mut self) -> Stage {
        self.flush();
        drop(self.queue.take());
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!("writer of lines ended badly");
        }
        self.stage()
    }
}

fn write_all(mut out: Box<dyn Write + Send>, chunks: &Receiver<(Vec<u8>, u64)>, counts: &LineCounts) {
    let mut said = false;
    for (chunk, rows) in chunks {
        match out.write_all(&chunk).and_then(|()| out.flush()) {
            Ok(()) => {
                counts.written.fetch_add(rows, Ordering::Relaxed);
            }
            Err(error) => {
                counts.failed.fetch_add(rows, Ordering::Relaxed);
                if !std::mem::replace(&mut said, true) {
                    tracing::error!("records cannot be written, they are counted as dropped: {error}");
                }
            }
        }
    }
}
