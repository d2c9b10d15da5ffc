//! What /proc says of this machine and of a process: CPU seconds and anonymous memory.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;

/// Between two looks at the memory; the store's grows by some megabytes in this time.
const SAMPLE: Duration = Duration::from_millis(50);

/// Of `/proc/PID/stat`, on every Linux of our processors.
const TICKS_PER_S: f64 = 100.0;

/// One line: processor, cores, memory, kernel.
///
/// # Errors
/// When /proc cannot be read.
pub(crate) fn describe() -> anyhow::Result<String> {
    let read = |path: &str| fs::read_to_string(path).with_context(|| format!("could not read {path}"));
    let field = |text: &str, name: &str| {
        text.lines()
            .find_map(|line| {
                let (key, value) = line.split_once(':')?;
                (key.trim() == name).then(|| value.trim().to_owned())
            })
            .unwrap_or_else(|| "unknown".to_owned())
    };
    let cores = std::thread::available_parallelism().context("could not count the cores")?;
    Ok(format!(
        "{}, {cores} cores, memory {}, Linux {}, load {}",
        field(&read("/proc/cpuinfo")?, "model name"),
        field(&read("/proc/meminfo")?, "MemTotal"),
        read("/proc/sys/kernel/osrelease")?.trim(),
        read("/proc/loadavg")?.split(' ').next().unwrap_or_default()
    ))
}

/// Watches a process; its memory is looked at until this is dropped.
#[derive(Debug)]
pub(crate) struct Watch {
    pid: u32,
    peak_kb: Arc<AtomicU64>,
    /// The peak since [`Watch::mark`].
    marked_kb: Arc<AtomicU64>,
    ending: Arc<AtomicBool>,
}

impl Watch {
    pub(crate) fn start(pid: u32) -> Self {
        let peak_kb = Arc::new(AtomicU64::new(0));
        let marked_kb = Arc::new(AtomicU64::new(0));
        let marked = Arc::clone(&marked_kb);
        let ending = Arc::new(AtomicBool::new(false));
        let (peak, stop) = (Arc::clone(&peak_kb), Arc::clone(&ending));
        std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                // At the end the process is gone.
                if let Ok(kb) = anonymous_kb(pid) {
                    peak.fetch_max(kb, Ordering::Relaxed);
                    marked.fetch_max(kb, Ordering::Relaxed);
                }
                std::thread::sleep(SAMPLE);
            }
        });
        Self {
            pid,
            peak_kb,
            marked_kb,
            ending,
        }
    }

    /// CPU seconds of the process so far.
    pub(crate) fn cpu_s(&self) -> anyhow::Result<f64> {
        let path = format!("/proc/{}/stat", self.pid);
        let text = fs::read_to_string(&path).with_context(|| format!("could not read {path}"))?;
        // The name, in parentheses, may hold spaces; user and system time are the 12th and 13th after it.
        let after = text.rsplit_once(')').context("no name in the stat file")?.1;
        let ticks: Vec<f64> = after
            .split_whitespace()
            .skip(11)
            .take(2)
            .map(|n| n.parse().context("no number in the stat file"))
            .collect::<anyhow::Result<_>>()?;
        Ok(ticks.iter().sum::<f64>() / TICKS_PER_S)
    }

    /// Anonymous memory now, megabytes.
    pub(crate) fn anonymous_mb(&self) -> anyhow::Result<f64> {
        Ok(anonymous_kb(self.pid)? as f64 / 1000.0)
    }

    /// Begins a peak of its own.
    pub(crate) fn mark(&self) {
        self.marked_kb.store(0, Ordering::Relaxed);
    }

    /// Highest since [`Watch::mark`], megabytes.
    pub(crate) fn marked_peak_mb(&self) -> f64 {
        self.marked_kb.load(Ordering::Relaxed) as f64 / 1000.0
    }

    /// Highest since the start, megabytes.
    pub(crate) fn peak_mb(&self) -> f64 {
        self.peak_kb.load(Ordering::Relaxed) as f64 / 1000.0
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::Relaxed);
    }
}

fn anonymous_kb(pid: u32) -> anyhow::Result<u64> {
    let path = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&path).with_context(|| format!("could not read {path}"))?;
    text.lines()
        .find_map(|line| {
            line.strip_prefix("RssAnon:")?
                .trim()
                .strip_suffix(" kB")?
                .parse()
                .ok()
        })
        .context("the status file has no RssAnon")
}
