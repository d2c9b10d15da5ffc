//! One child process: started so that it ends with us, watched, ended by signal, and reaped only after its CPU time was read.
//!
//! The child is started through ourselves (`ja4 run-child`), because asking the kernel to end it with its parent
//! must happen in the child before it becomes its program, and doing that between fork and exec needs unsafe code.

use std::ffi::{OsStr, OsString};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};

use super::output::Output;
use super::proc;

/// A started process.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    pid: Pid,
    /// Highest anonymous memory seen.
    pub(crate) anon_bytes_max: u64,
}

/// How a process ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) cpu_time: Duration,
}

impl Running {
    /// Starts `program`, its output prefixed with `label`.
    ///
    /// # Errors
    /// When this binary cannot be found or started again.
    pub(crate) fn start(
        program: &Path,
        args: &[OsString],
        label: &'static str,
        output: &Output,
    ) -> anyhow::Result<Self> {
        let ja4 = std::env::current_exe().context("could not find this binary")?;
        let mut child = Command::new(ja4)
            .arg("run-child")
            .arg(std::process::id().to_string())
            .arg(program)
            .args(args)
            // Its own group: ctrl-C reaches us alone, and we stop the children in order.
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("could not start {}", program.display()))?;
        if let Some(stdout) = child.stdout.take() {
            output.copy_lines(label, stdout);
        }
        if let Some(stderr) = child.stderr.take() {
            output.copy_lines(label, stderr);
        }
        let pid = Pid::from_child(&child);
        Ok(Self {
            child,
            pid,
            anon_bytes_max: 0,
        })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Looks at its memory.
    pub(crate) fn sample(&mut self) {
        let anon_bytes = proc::anon_bytes(self.pid()).unwrap_or(0);
        self.anon_bytes_max = self.anon_bytes_max.max(anon_bytes);
    }

    /// How it ended, `None` while it runs.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub(crate) fn poll_ended(&mut self) -> anyhow::Result<Option<Ended>> {
        // Look without reaping: the CPU time is gone from /proc once the zombie is.
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        if rustix::process::waitid(WaitId::Pid(self.pid), options)
            .context("could not look at a child")?
            .is_none()
        {
            return Ok(None);
        }
        let cpu_time = proc::cpu_time(self.pid()).unwrap_or_default();
        let status = self.child.wait().context("could not reap a child")?;
        Ok(Some(Ended { status, cpu_time }))
    }

    /// Sends a signal; it may have ended already.
    pub(crate) fn signal(&self, signal: Signal) {
        rustix::process::kill_process(self.pid, signal).ok();
    }
}

/// `exit status 1`, `signal 9`.
pub(crate) fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => format!("{status}"),
    }
}

/// `ja4 run-child PARENT PROGRAM ARGS…`: becomes the program, to be ended when the parent ends.
///
/// # Errors
/// Always, if it returns: the parent is gone, or the program cannot be started.
pub(crate) fn become_program(parent: u32, program: &OsStr, args: &[OsString]) -> anyhow::Result<()> {
    // Kept across exec, but not into a binary with file capabilities: `ja4 up` also ends leftovers by pid file.
    rustix::process::set_parent_process_death_signal(Some(Signal::TERM))
        .context("could not ask to be ended with the parent")?;
    let now = rustix::process::getppid().map_or(0, |pid| pid.as_raw_nonzero().get().unsigned_abs());
    if now != parent {
        bail!(
            "the parent {parent} ended before {} was started",
            Path::new(program).display()
        );
    }
    Err(anyhow::Error::new(Command::new(program).args(args).exec())
        .context(format!("could not start {}", Path::new(program).display())))
}
