//! What a person sees of a running pipeline: prefixed lines of every process, and one live line under them.

use std::io::{BufRead as _, BufReader, IsTerminal as _, Read, Write as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A longer line of a child is cut here: a log line is for reading, and a child must not fill our memory.
const LINE_MAX_BYTES: u64 = 16 * 1024;

/// The one writer to standard output; clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Output {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug)]
struct Inner {
    is_terminal: bool,
    /// What stands on the last line of the terminal, to be drawn again under each new line.
    live: String,
}

impl Output {
    /// Writes to standard output.
    pub(crate) fn new() -> Self {
        let is_terminal = std::io::stdout().is_terminal();
        let inner = Inner {
            is_terminal,
            live: String::new(),
        };
        Self {
            inner: Arc::new(Mutex::new(inner)),
        }
    }

    /// One line, with who says it in front.
    pub(crate) fn line(&self, who: &str, text: &str) {
        let inner = self.lock();
        let clear = if inner.is_terminal { "\r\x1b[2K" } else { "" };
        write(&format!("{clear}{who:<10} | {text}\n{}", inner.live));
    }

    /// Replaces the live line; where nothing can be replaced, writes one more.
    pub(crate) fn live(&self, text: &str) {
        let mut inner = self.lock();
        if inner.is_terminal {
            text.clone_into(&mut inner.live);
            write(&format!("\r\x1b[2K{text}"));
        } else {
            write(&format!("{text}\n"));
        }
    }

    /// Leaves the last live line standing and draws none any more.
    pub(crate) fn end_live(&self) {
        let mut inner = self.lock();
        if !std::mem::take(&mut inner.live).is_empty() {
            write("\n");
        }
    }

    /// Copies a child's stream, line by line, until it closes.
    pub(crate) fn copy_lines(&self, who: &'static str, stream: impl Read + Send + 'static) {
        let output = self.clone();
        std::thread::spawn(move || {
            let mut reader = BufReader::new(stream);
            let mut line = Vec::new();
            loop {
                line.clear();
                match reader.by_ref().take(LINE_MAX_BYTES).read_until(b'\n', &mut line) {
                    Ok(0) | Err(_) => break,
                    Ok(_) => output.line(who, String::from_utf8_lossy(&line).trim_end()),
                }
            }
        });
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic of another thread while it wrote a line does not make the next line wrong.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// When nobody reads any more (a closed pipe), the pipeline still runs: what it stores matters more.
fn write(text: &str) {
    let mut stdout = std::io::stdout().lock();
    stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
        .ok();
}
