//! Log lines about peers: one a minute for each socket and reason, with the remedy, however many there are.

use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::counters::{DropReason, RefuseReason};

/// A hostile peer must not fill the log.
const SAY_EVERY: Duration = Duration::from_mins(1);

/// Most characters of a text that a peer had a part in.
const DETAIL_CHARS: usize = 200;

/// What a line is about.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Cause {
    /// A connection was closed.
    Refused(RefuseReason),
    /// A frame was dropped.
    Dropped(DropReason),
    /// No connection can be accepted.
    AcceptPaused,
    /// Files were not taken up.
    NotReloaded,
}

/// When each cause was last said, and how often it was not said since.
#[derive(Debug, Default)]
pub(crate) struct Complaints(HashMap<Cause, (Instant, u64)>);

impl Complaints {
    /// How many were left unsaid since the last line, if it is time for one.
    fn due(&mut self, cause: Cause, now: Instant) -> Option<u64> {
        match self.0.get_mut(&cause) {
            Some((at, unsaid)) if now.duration_since(*at) < SAY_EVERY => {
                *unsaid += 1;
                None
            }
            Some((at, unsaid)) => {
                *at = now;
                Some(std::mem::take(unsaid))
            }
            None => {
                self.0.insert(cause, (now, 0));
                Some(0)
            }
        }
    }

    /// Says that a peer was refused.
    pub(crate) fn refused(
        &mut self,
        path: &Path,
        (uid, pid): (u32, i32),
        reason: RefuseReason,
        detail: &str,
        now: Instant,
    ) {
        let Some(unsaid) = self.due(Cause::Refused(reason), now) else {
            return;
        };
        tracing::warn!(
            "socket {path:?}: refused a peer (user {uid}, process {pid}, reason {}): it {}: {}{}",
            reason.name(),
            shown(detail),
            refusal_remedy(reason),
            more(unsaid)
        );
    }

    /// Says that a frame was dropped.
    pub(crate) fn dropped(&mut self, path: &Path, source: &str, pid: i32, reason: DropReason, now: Instant) {
        let Some(unsaid) = self.due(Cause::Dropped(reason), now) else {
            return;
        };
        tracing::warn!(
            "socket {path:?}: dropped an event of {} (process {pid}, reason {}): {}{}",
            shown(source),
            reason.name(),
            drop_remedy(reason),
            more(unsaid)
        );
    }

    /// Says that a node or source was refused.
    pub(crate) fn refused_remote(
        &mut self,
        listener: &str,
        peer: &str,
        reason: RefuseReason,
        detail: &str,
        now: Instant,
    ) {
        let Some(unsaid) = self.due(Cause::Refused(reason), now) else {
            return;
        };
        tracing::warn!(
            "{listener}: refused {} (reason {}): it {}: {}{}",
            shown(peer),
            reason.name(),
            shown(detail),
            refusal_remedy(reason),
            more(unsaid)
        );
    }

    /// Says that an event of a node or source was dropped.
    pub(crate) fn dropped_remote(&mut self, listener: &str, peer: &str, reason: DropReason, now: Instant) {
        let Some(unsaid) = self.due(Cause::Dropped(reason), now) else {
            return;
        };
        tracing::warn!(
            "{listener}: dropped an event of {} (reason {}): {}{}",
            shown(peer),
            reason.name(),
            drop_remedy(reason),
            more(unsaid)
        );
    }

    /// Says that changed files cannot be used, and that what was read before stays.
    pub(crate) fn not_reloaded(&mut self, listener: &str, error: &str, now: Instant) {
        if let Some(unsaid) = self.due(Cause::NotReloaded, now) {
            tracing::error!(
                "{listener}: certificate, trust bundle or tokens are not taken up, those from before stay: {}{}",
                shown(error),
                more(unsaid)
            );
        }
    }

    /// Says that accepting pauses.
    pub(crate) fn accept_paused(&mut self, path: &Path, error: rustix::io::Errno, now: Instant) {
        if let Some(unsaid) = self.due(Cause::AcceptPaused, now) {
            tracing::warn!(
                "socket {path:?}: accepting pauses: {error}: raise the limit of open files or end what holds them{}",
                more(unsaid)
            );
        }
    }
}

/// One line, of bounded length, whatever a peer put into it.
fn shown(text: &str) -> String {
    let mut chars = text.chars();
    let mut shown: String = chars
        .by_ref()
        .take(DETAIL_CHARS)
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect();
    if chars.next().is_some() {
        shown.push('…');
    }
    shown
}

fn more(unsaid: u64) -> String {
    match unsaid {
        0 => "; further ones this minute are only counted".to_owned(),
        n => format!("; {n} more since the last such line"),
    }
}

const fn refusal_remedy(reason: RefuseReason) -> &'static str {
    match reason {
        RefuseReason::Peer => "add its user to the socket's uids or its group to gids",
        RefuseReason::Connections => "end what holds them or raise connections_per_uid or max_connections",
        RefuseReason::GreetingTimeout => "see what connects here without speaking",
        RefuseReason::Greeting => "send the greeting first, as lib/emit does, or set a default source",
        RefuseReason::Version => "update the older of the two",
        RefuseReason::Source => "add it to the sources that the socket takes, or use its own socket",
        RefuseReason::Node => "give both the same host name in their settings",
        RefuseReason::Origins => "end what makes up names, or raise max_identities or max_origins",
        RefuseReason::Boots => "see why it starts so often, or raise boots_per_hour",
        RefuseReason::BootTaken => "a boot id must be random for each process",
        RefuseReason::QueueFull => "see why the consumer does not take events, or raise queue_bytes",
        RefuseReason::HalfFrames => "see who begins lines and does not end them, or raise queue_bytes",
        RefuseReason::Handshake => "see what connects here without TLS 1.3",
        RefuseReason::NoCertificate => "give it a certificate of this pipeline",
        RefuseReason::CertificateExpired => "renew it, and see that its process reads the new file",
        RefuseReason::CertificateUntrusted => "renew it under an issuer of the bundle, or add its issuer",
        RefuseReason::CertificateName => "issue one with the URI ja4://PIPELINE/ROLE/NODE",
        RefuseReason::CertificateRole => "use a certificate of the role that is needed",
        RefuseReason::Token => "give it the token of its source",
        RefuseReason::Protocol => "update the older of the two, or see what speaks here",
        RefuseReason::Idle => "see why it has stopped, or what holds streams open",
    }
}

const fn drop_remedy(reason: DropReason) -> &'static str {
    match reason {
        DropReason::TooLong => "its producer must cut events to 131072 bytes",
        DropReason::Malformed => "it must be one JSON object with v, event and, if it counts, boot and seq",
        DropReason::Version => "update the older of the two",
        DropReason::UnknownKind => "update the receiver, or correct the event's name",
        DropReason::Role => "send this kind to the socket of its role",
        DropReason::Claim => "source, node and boot must be those of the greeting",
        DropReason::Duplicate => "it was sent again after a reconnect, nothing is lost",
        DropReason::Quota => "raise the socket's events_per_second or bytes_per_second",
        DropReason::QueueFull => "see why the consumer is slow, raise queue_bytes, or use a STREAM socket",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_is_said_once_a_minute_and_the_rest_is_counted() {
        let start = Instant::now();
        let mut complaints = Complaints::default();
        let cause = Cause::Dropped(DropReason::Malformed);
        assert_eq!(complaints.due(cause, start), Some(0));
        assert_eq!(complaints.due(cause, start), None);
        assert_eq!(complaints.due(Cause::Dropped(DropReason::Role), start), Some(0));
        assert_eq!(complaints.due(cause, start + SAY_EVERY / 2), None);
        assert_eq!(complaints.due(cause, start + SAY_EVERY), Some(2));
    }

    #[test]
    fn what_a_peer_says_cannot_break_or_flood_a_line() {
        let text = shown(&format!("a\nb{}", "x".repeat(100_000)));
        assert!(text.starts_with("a\u{fffd}b") && text.chars().count() == DETAIL_CHARS + 1);
    }
}
