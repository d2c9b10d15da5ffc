//! `ja4-sensor fingerprint`: one line for each ClientHello of capture files, in capture order.

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use ja4_model::{BootId, Event, EventId, Head, Text, json};
use sensor_flow::{Counters, FlowEvent, FlowSettings, FlowTable, Frame, FrameDrop, HelloEvent, Loss};

use super::OFFLINE_SEED;
use crate::capture::offline::{Next, OfflineCapture, OpenError};
use crate::convert::Converter;
use crate::pipeline::Pipeline;

/// Form of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// The `client_hello` event as JSON, with `file` and `frame`.
    Jsonl,
    /// file, frame, client address and port, server address and port, JA4, JA3, normal form, SNI, ALPN
    /// (comma-separated), highest version; separated by tabs.
    Tsv,
}

/// Arguments of the command.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Capture files, pcap or pcapng.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Form of a line.
    #[arg(long, value_enum, default_value_t = Format::Jsonl)]
    format: Format,
}

/// What can end the command early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FingerprintError {
    /// The output cannot be written.
    #[error("cannot write to standard output")]
    Write(#[from] std::io::Error),
    /// The only file could not be read.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Some files could not be read; they have been named already.
    #[error("{n_unreadable} of {n_files} files could not be read")]
    Unreadable { n_unreadable: usize, n_files: usize },
}

/// Runs the command. `warn` takes one line for each file that is damaged or cannot be read.
pub(crate) fn run(
    args: &Args,
    stdout: &mut dyn Write,
    warn: &mut dyn FnMut(&str),
) -> Result<(), FingerprintError> {
    let mut writer = LineWriter::new(args.format, BufWriter::new(stdout));
    let mut n_unreadable = 0;
    for file in &args.files {
        match read_file(file, &mut writer, warn) {
            Ok(()) => {}
            // One file: its error is the last word. Several: go on with the others.
            Err(ReadError::Open(error)) if args.files.len() == 1 => return Err(error.into()),
            Err(ReadError::Open(error)) => {
                n_unreadable += 1;
                warn(&error.to_string());
            }
            Err(ReadError::Write(error)) => return Err(error.into()),
        }
    }
    writer.out.flush()?;
    if n_unreadable > 0 {
        return Err(FingerprintError::Unreadable {
            n_unreadable,
            n_files: args.files.len(),
        });
    }
    Ok(())
}

enum ReadError {
    Open(OpenError),
    Write(std::io::Error),
}

impl From<OpenError> for ReadError {
    fn from(error: OpenError) -> Self {
        Self::Open(error)
    }
}

impl From<std::io::Error> for ReadError {
    fn from(error: std::io::Error) -> Self {
        Self::Write(error)
    }
}

fn read_file<W: Write>(
    file: &Path,
    writer: &mut LineWriter<W>,
    warn: &mut dyn FnMut(&str),
) -> Result<(), ReadError> {
    let mut capture = OfflineCapture::open(file)?;
    let mut pipeline = Pipeline::new(FlowTable::new(FlowSettings::default(), OFFLINE_SEED), None);
    let mut number = 0;
    loop {
        match capture.next()? {
            Next::Packet(packet) => {
                number += 1;
                let frame = Frame {
                    link: packet.link,
                    interface: 0,
                    number,
                    bytes: packet.bytes,
                };
                pipeline.feed(packet.at, &frame);
            }
            Next::End => break,
            Next::Damaged(reason) => {
                warn(&format!(
                    "{} is damaged after frame {number}, the rest is left out: {reason}",
                    file.display()
                ));
                break;
            }
        }
        while let Some(event) = pipeline.poll_event() {
            if let FlowEvent::Hello(at, hello) = &event {
                writer.write(file, *at, hello)?;
            }
        }
    }
    let counters = pipeline.table().counters();
    if counters.frames_cut > 0 {
        warn(&format!(
            "{}: {} TCP frames were cut short when captured; raise the snapshot length",
            file.display(),
            counters.frames_cut
        ));
    }
    if let Some(damage) = damage_of(counters) {
        warn(&format!("{}: left out {damage}", file.display()));
    }
    Ok(())
}

/// Frames and hellos that could not be read, by reason; `None` without any.
fn damage_of(counters: &Counters) -> Option<String> {
    const FRAMES: [FrameDrop; 7] = [
        FrameDrop::LinkUnsupported,
        FrameDrop::LinkTruncated,
        FrameDrop::LinkMalformed,
        FrameDrop::IpTruncated,
        FrameDrop::IpMalformed,
        FrameDrop::TcpTruncated,
        FrameDrop::TcpMalformed,
    ];
    const HELLOS: [Loss; 2] = [Loss::MalformedHello, Loss::HelloTooLong];
    let by_reason = |counts: Vec<(&str, u64)>, what: &str| {
        let found: Vec<String> = counts
            .iter()
            .filter(|(_, n)| *n > 0)
            .map(|(name, n)| format!("{n} {name}"))
            .collect();
        (!found.is_empty()).then(|| format!("{what}: {}", found.join(", ")))
    };
    let frames = FRAMES.map(|reason| (reason.name(), counters.dropped(reason)));
    let hellos = HELLOS.map(|reason| (reason.name(), counters.lost(reason)));
    let parts: Vec<String> = [
        by_reason(frames.to_vec(), "frames"),
        by_reason(hellos.to_vec(), "hellos"),
    ]
    .into_iter()
    .flatten()
    .collect();
    (!parts.is_empty()).then(|| parts.join("; "))
}

/// Writes hellos as lines.
struct LineWriter<W> {
    format: Format,
    out: W,
    converter: Converter,
    seq: u64,
    line: Vec<u8>,
}

impl<W: Write> LineWriter<W> {
    fn new(format: Format, out: W) -> Self {
        let converter = Converter {
            boot: BootId(0),
            own_networks: sensor_flow::OwnNetworks::default(),
            offset_ns: 0,
        };
        Self {
            format,
            out,
            converter,
            seq: 0,
            line: Vec::new(),
        }
    }

    fn write(&mut self, file: &Path, at: i64, hello: &HelloEvent) -> std::io::Result<()> {
        let flow_event = FlowEvent::Hello(at, Box::new(hello.clone()));
        let (ts_ns, event) = self.converter.convert(&flow_event);
        self.line.clear();
        match self.format {
            Format::Jsonl => {
                let id = EventId {
                    boot: BootId(0),
                    seq: self.seq,
                };
                let head = Head::new(Text::from("sensor"), Text::from("offline"), id, ts_ns);
                event.write_json(&head, &mut self.line);
                append_position(&mut self.line, file, hello.frame);
            }
            Format::Tsv => write_tsv(&mut self.line, file, hello.frame, &event),
        }
        self.seq += 1;
        self.line.push(b'\n');
        self.out.write_all(&self.line)
    }
}

/// Adds `file` and `frame` to the JSON object at the end of `line`.
fn append_position(line: &mut Vec<u8>, file: &Path, frame: u64) {
    let closing = line.pop();
    debug_assert_eq!(closing, Some(b'}'), "an event is one JSON object");
    line.extend_from_slice(b",\"file\":");
    json::write_text(line, file.as_os_str().as_encoded_bytes());
    line.extend_from_slice(b",\"frame\":");
    json::write_int(line, frame.into());
    line.push(b'}');
}

fn write_tsv(line: &mut Vec<u8>, file: &Path, frame: u64, event: &Event<'_>) {
    let Event::ClientHello(hello) = event else { return };
    let pair = &hello.conn.pair;
    let alpn: Vec<String> = hello.tls.alpn.iter().map(printable).collect();
    let columns = [
        printable(&Text::from(file.as_os_str().as_encoded_bytes())),
        frame.to_string(),
        pair.client.ip.to_string(),
        pair.client.port.to_string(),
        pair.server.ip.to_string(),
        pair.server.port.to_string(),
        printable(&hello.tls.ja4),
        printable(&hello.tls.ja3),
        printable(&hello.tls.ja4_norm),
        printable(&hello.sni),
        alpn.join(","),
        printable(&hello.tls.tls_version),
    ];
    line.extend_from_slice(columns.join("\t").as_bytes());
}

/// Text without tabs, line ends and other control characters: it comes from the client.
fn printable(text: &Text<'_>) -> String {
    text.to_str_lossy()
        .chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}
