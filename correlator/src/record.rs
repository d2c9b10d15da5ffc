//! `ja4-correlator record`: writes every event that comes in, with its arrival, into two files that `replay` reads.
//!
//! The first line is a status of the correlator itself at its start: what a replay answers about connections from
//! before depends on when it began.
//!
//! Secrets are replaced before they reach the disk, as in everything that is written. What cannot be decoded cannot
//! be searched for secrets: it is left out here, and counted where the join refuses it.

use std::path::Path;

use ja4_common::ledger::Stage;
use ja4_model::{Event, EventId, Head, Status, WallNs, decode};
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
    /// Makes both files; neither may be there. `started_ns` is when the join began.
    ///
    /// # Errors
    /// If one is there or cannot be made.
    pub(crate) fn start(
        tls: &Path,
        http: &Path,
        redactor: Redactor,
        started_ns: WallNs,
    ) -> std::io::Result<Self> {
        let start = |path: &Path, name| {
            let target = Target::Recording {
                path: path.to_owned(),
                name,
            };
            Lines::start(&target)
        };
        let mut recorder = Self {
            tls: start(tls, "recording.tls")?,
            http: start(http, "recording.http")?,
            redactor,
        };
        let mut head = Head::new("ja4-correlator".into(), "".into(), EventId::default(), started_ns);
        head.recv_ns = Some(started_ns);
        let status = Event::Status(Status {
            next_seq: 0,
            dropped: Vec::new(),
            last: false,
        });
        recorder.tls.push(|out| status.write_json(&head, out));
        Ok(recorder)
    }

    /// Notes an event that the join takes at `taken_ns`. That, not when the receiver read it, is its arrival in the
    /// recording: on a busy machine a deadline may have passed between the two, and the replay must find it passed.
    pub(crate) fn event(
        &mut self,
        producer: &KnownProducer,
        role: Role,
        frame: &ja4_transport::Frame<'_>,
        taken_ns: WallNs,
    ) {
        let Ok((mut head, mut event)) = decode::event(frame.bytes) else {
            return;
        };
        producer.stamp(&mut head);
        head.seq = frame.id.seq;
        head.id_kind = frame.id_kind;
        head.recv_ns = Some(taken_ns);
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
