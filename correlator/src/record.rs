//! `ja4-correlator record`: writes every event that comes in, with its arrival, into two files that `replay` reads.
//!
//! Secrets are replaced before they reach the disk, as in everything that is written. What cannot be decoded cannot
//! be searched for secrets: it is left out here, and counted where the join refuses it.

use std::path::Path;

use ja4_common::ledger::Stage;
use ja4_model::{Event, decode};
use ja4_transport::Role;

use crate::core::KnownProducer;
use crate::redact::Redactor;
use crate::sinks::lines::{Lines, Target};

/// The two files, written from a thread each.
#[derive(Debug)]
pub(crate) struct Recorder {
    tls: Lines,
    http: Lines,
    redactor: Redactor,
}

impl Recorder {
    /// Makes both files; neither may be there.
    ///
    /// # Errors
    /// If one is there or cannot be made.
    pub(crate) fn start(tls: &Path, http: &Path, redactor: Redactor) -> std::io::Result<Self> {
        let start = |path: &Path, name| {
            let target = Target::Recording {
                path: path.to_owned(),
                name,
            };
            Lines::start(&target)
        };
        Ok(Self {
            tls: start(tls, "recording.tls")?,
            http: start(http, "recording.http")?,
            redactor,
        })
    }

    /// Notes an event as the receiver has stamped it.
    pub(crate) fn event(&mut self, producer: &KnownProducer, role: Role, frame: &ja4_transport::Frame<'_>) {
        let Ok((mut head, mut event)) = decode::event(frame.bytes) else {
            return;
        };
        producer.stamp(&mut head);
        head.seq = frame.id.seq;
        head.id_kind = frame.id_kind;
        head.recv_ns = Some(frame.recv_ns);
        if let Event::Request(request) = &mut event {
            self.redactor.redact(request);
        }
        let lines = match role {
            Role::Network => &mut self.tls,
            Role::Http => &mut self.http,
        };
        lines.push(|out| event.write_json(&head, out));
    }

    pub(crate) fn flush(&mut self) {
        self.tls.flush();
        self.http.flush();
    }

    /// Both files as stages of the ledger.
    pub(crate) fn stages(&self) -> [Stage; 2] {
        [self.tls.stage(), self.http.stage()]
    }

    /// Writes what is queued and says what became of it.
    pub(crate) fn stop(self) {
        for lines in [self.tls, self.http] {
            let stage = lines.stop();
            if stage.dropped_total() > 0 {
                tracing::error!(
                    "{} has {} of {} events, its replay will differ: the disk was too slow or full",
                    stage.name,
                    stage.passed,
                    stage.received
                );
            } else {
                tracing::info!("{} has all {} events", stage.name, stage.passed);
            }
        }
    }
}
