//! The recorded "yesterday" of the demo: unpacked, moved to end now, and remembered, so that it is replayed once.
//!
//! It goes through the real path: a sensor reads its packets and a replay sends its requests. Everything that happened
//! in it lies before the moment of the start; see `testdata/demo/README.md` for how it was made.

use std::io::Read as _;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};

use super::layout::{Layout, write_private};

const PACKETS: &[u8] = include_bytes!("../../../testdata/demo/yesterday.pcap.br");
const REQUESTS: &[u8] = include_bytes!("../../../testdata/demo/yesterday.jsonl.br");
const TRUTH: &[u8] = include_bytes!("../../../testdata/demo/yesterday.truth.json.br");

/// The site's host and port in the recording: the live one has its own port.
const RECORDED_HOST: &str = "demo.test:8443";
/// Unpacked it is some 30 MB; what is far larger is another file.
const UNPACKED_MAX_BYTES: u64 = 1 << 30;
/// The end of the recording lies so long before the start: its last visits are over when the live ones begin.
const BEFORE_NOW: Duration = Duration::from_secs(5);
/// Replayed longer ago than this, it is out of the detector's day and is replayed again.
const FRESH_FOR: Duration = Duration::from_hours(12);

/// The recording in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Yesterday {
    pub(crate) pcap: PathBuf,
    pub(crate) http: PathBuf,
    /// Added to every time of it.
    pub(crate) offset_ns: i64,
    pub(crate) span: Span,
    /// It lies in the store already, from an earlier run on this folder.
    pub(crate) is_stored: bool,
}

/// What pages and the summary say of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Span {
    /// Nanoseconds since the epoch of its first request.
    pub(crate) from_ns: i64,
    /// Nanoseconds since the epoch of its end.
    pub(crate) to_ns: i64,
    /// One line.
    pub(crate) what: String,
}

/// Unpacks the recording, or finds that an earlier run has stored it.
///
/// # Errors
/// When the data folder cannot be written.
pub(crate) fn prepare(layout: &Layout, now: SystemTime) -> anyhow::Result<Yesterday> {
    let now_ns = nanos(now)?;
    let (pcap, http) = layout.yesterday();
    if let Some(span) = stored(layout)
        && now_ns.saturating_sub(span.to_ns) < i64::try_from(FRESH_FOR.as_nanos()).unwrap_or(i64::MAX)
        && span.to_ns <= now_ns
    {
        return Ok(Yesterday {
            pcap,
            http,
            offset_ns: 0,
            span,
            is_stored: true,
        });
    }
    let packets = unpack(PACKETS)?;
    let host = format!("demo.test:{}", layout.demo_https().port());
    let requests = String::from_utf8(unpack(REQUESTS)?)
        .context("the recorded requests are no text")?
        .replace(RECORDED_HOST, &host);
    let times = times(&packets, &requests)?;
    let before = i64::try_from(BEFORE_NOW.as_nanos()).unwrap_or(i64::MAX);
    let offset_ns = now_ns - before - times.1;
    write_private(&pcap, &packets)?;
    write_private(&http, requests.as_bytes())?;
    write_private(&layout.yesterday_truth(), &unpack(TRUTH)?)?;
    let span = Span {
        from_ns: times.0 + offset_ns,
        to_ns: times.1 + offset_ns,
        what: "recorded visits of real clients, replayed; people, apps and machines, no bots".to_owned(),
    };
    Ok(Yesterday {
        pcap,
        http,
        offset_ns,
        span,
        is_stored: false,
    })
}

/// Remembers that it is stored.
///
/// # Errors
/// When the data folder cannot be written.
pub(crate) fn remember(layout: &Layout, span: &Span) -> anyhow::Result<()> {
    let text = serde_json::to_vec(span).context("a span is plain data")?;
    write_private(&layout.yesterday_marker(), &text)
}

/// Anything but a marker of ours counts as none: then it is replayed again.
fn stored(layout: &Layout) -> Option<Span> {
    serde_json::from_slice(&std::fs::read(layout.yesterday_marker()).ok()?).ok()
}

fn nanos(time: SystemTime) -> anyhow::Result<i64> {
    let since = time
        .duration_since(SystemTime::UNIX_EPOCH)
        .context("the clock is before 1970")?;
    i64::try_from(since.as_nanos()).context("the clock is beyond the year 2262")
}

fn unpack(compressed: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    brotli_decompressor::Decompressor::new(compressed, 1 << 16)
        .take(UNPACKED_MAX_BYTES)
        .read_to_end(&mut bytes)
        .context("the recording in this binary is damaged")?;
    Ok(bytes)
}

/// First request and last of everything, nanoseconds as recorded. Both files are in the order of time.
fn times(packets: &[u8], requests: &str) -> anyhow::Result<(i64, i64)> {
    let time_of = |line: Option<&str>| -> anyhow::Result<i64> {
        let event: serde_json::Value = serde_json::from_str(line.context("the recording has no request")?)
            .context("a recorded request is no JSON")?;
        event["ts_ns"].as_i64().context("a recorded request has no time")
    };
    let (first, last) = (
        time_of(requests.lines().next())?,
        time_of(requests.lines().next_back())?,
    );
    ensure!(first <= last, "the recording is not in the order of time");
    Ok((first, last.max(last_packet_ns(packets))))
}

/// Of a little-endian pcap in nanoseconds, as our recorder writes it; 0 without packets.
fn last_packet_ns(file: &[u8]) -> i64 {
    let word = |at: usize| -> Option<u32> {
        let bytes = file.get(at..at + 4)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?))
    };
    let (mut at, mut last) = (24, 0);
    while let (Some(seconds), Some(nanos), Some(len)) = (word(at), word(at + 4), word(at + 8)) {
        last = i64::from(seconds) * 1_000_000_000 + i64::from(nanos);
        at += 16 + len as usize;
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(dir: &std::path::Path) -> Layout {
        Layout::prepare(dir, std::net::SocketAddr::from(([127, 0, 0, 1], 9000))).unwrap()
    }

    #[test]
    fn yesterday_ends_before_now_and_lies_within_a_day() {
        let dir = tempfile::tempdir().unwrap();
        let layout = layout(dir.path());
        let now = SystemTime::now();
        let yesterday = prepare(&layout, now).unwrap();
        let now_ns = nanos(now).unwrap();
        assert_eq!(yesterday.span.to_ns, now_ns - 5_000_000_000);
        let length = yesterday.span.to_ns - yesterday.span.from_ns;
        assert!(
            (3_600_000_000_000..82_800_000_000_000).contains(&length),
            "{length} ns"
        );
        let text = std::fs::read_to_string(&yesterday.http).unwrap();
        assert!(text.contains("demo.test:9443") && !text.contains("demo.test:8443"));
        let times: Vec<i64> = text
            .lines()
            .map(|line| {
                serde_json::from_str::<serde_json::Value>(line).unwrap()["ts_ns"]
                    .as_i64()
                    .unwrap()
            })
            .collect();
        assert!(times.is_sorted());
    }

    #[test]
    fn yesterday_has_enough_clients_to_learn_from() {
        let text = String::from_utf8(unpack(REQUESTS).unwrap()).unwrap();
        let mut requests = std::collections::BTreeMap::new();
        for line in text.lines() {
            let event: serde_json::Value = serde_json::from_str(line).unwrap();
            if event["event"] == "request" {
                *requests
                    .entry(event["client_ip"].as_str().unwrap().to_owned())
                    .or_insert(0_u32) += 1;
            }
        }
        let n_with_five = requests.values().filter(|n| **n >= 5).count();
        assert!(n_with_five >= 200, "{n_with_five} addresses with five requests");
        let size = PACKETS.len() + REQUESTS.len() + TRUTH.len();
        assert!(size <= 4 << 20, "{size} bytes in the repository");
    }

    #[test]
    fn what_is_stored_is_not_replayed_again_until_it_is_old() {
        let dir = tempfile::tempdir().unwrap();
        let layout = layout(dir.path());
        let now = SystemTime::now();
        let first = prepare(&layout, now).unwrap();
        assert!(!first.is_stored);
        remember(&layout, &first.span).unwrap();
        let again = prepare(&layout, now + Duration::from_mins(1)).unwrap();
        assert_eq!((again.is_stored, &again.span), (true, &first.span));
        assert!(
            !prepare(&layout, now + Duration::from_hours(13))
                .unwrap()
                .is_stored
        );
        std::fs::write(layout.yesterday_marker(), "{").unwrap();
        assert!(!prepare(&layout, now).unwrap().is_stored);
    }
}
