//! `ja4-sensor bench`: how many packets a CPU second reads from a file, beside the floor of reading alone.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use rustix::thread::ClockId;
use sensor_flow::{FlowEvent, FlowSettings, FlowTable, Frame};

use super::{OFFLINE_SEED, mix};
use crate::capture::offline::{Next, OfflineCapture};
use crate::pipeline::Pipeline;

/// Arguments of the command.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Capture file to read.
    #[arg(value_name = "FILE", required_unless_present_any = ["make_mix", "mix"])]
    file: Option<PathBuf>,
    /// Times the file is read; the best counts, as noise only ever slows down.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    loops: u32,
    /// Instead of measuring: make the mixed capture that figures are compared on, from the captures in
    /// CORPUS (`foxio/pcap`, `live/pcap`), and write it to OUT.
    #[arg(long, num_args = 2, value_names = ["CORPUS", "OUT"], conflicts_with = "file")]
    make_mix: Option<Vec<PathBuf>>,
    /// Instead of a FILE: read a mixed capture made of all captures in these folders. It is made in the
    /// system's folder for temporary files and removed; its checksum is printed.
    #[arg(long, num_args = 1.., value_name = "FOLDER", conflicts_with_all = ["file", "make_mix"])]
    mix: Option<Vec<PathBuf>>,
    /// With --make-mix and --mix: copies of the captures, each with other addresses.
    #[arg(long, default_value_t = 80, value_parser = clap::value_parser!(u32).range(1..=1000))]
    repetitions: u32,
}

/// Runs the command; the result is one JSON line.
pub(crate) fn run(args: &Args, stdout: &mut dyn Write) -> anyhow::Result<()> {
    if let Some([corpus, out]) = args.make_mix.as_deref() {
        let folders = [corpus.join("foxio/pcap"), corpus.join("live/pcap")];
        let made = mix::make(&folders, out, args.repetitions)?;
        writeln!(
            stdout,
            "{{\"file\":{:?},\"packets\":{},\"bytes\":{},\"sha256\":\"{}\"}}",
            out.display().to_string(),
            made.n_packets,
            made.n_bytes,
            made.sha256
        )?;
        return Ok(());
    }
    let Some(folders) = &args.mix else {
        let file = args.file.as_deref().context("no capture file given")?;
        return measure(file, args.loops, None, stdout);
    };
    let made =
        TemporaryFile(std::env::temp_dir().join(format!("ja4-sensor-mix-{}.pcap", std::process::id())));
    let sha256 = mix::make(folders, &made.0, args.repetitions)?.sha256;
    measure(&made.0, args.loops, Some(&sha256), stdout)
}

/// A file that goes when it is done with.
struct TemporaryFile(PathBuf);

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        // It may never have been made.
        drop(std::fs::remove_file(&self.0));
    }
}

fn measure(file: &Path, loops: u32, mix_sha256: Option<&str>, stdout: &mut dyn Write) -> anyhow::Result<()> {
    let mut best = Pass::default();
    let mut floor_s = f64::INFINITY;
    for _ in 0..loops {
        floor_s = floor_s.min(read_only(file)?);
        let pass = read_and_track(file)?;
        if best.cpu_s == 0.0 || pass.cpu_s < best.cpu_s {
            best = pass;
        }
    }
    let per_second = |n: u64, seconds: f64| {
        if seconds > 0.0 {
            (n as f64 / seconds).round()
        } else {
            0.0
        }
    };
    let mix = mix_sha256.map_or_else(String::new, |sha256| format!("\"mix_sha256\":\"{sha256}\","));
    writeln!(
        stdout,
        "{{{mix}\"packets\":{},\"bytes\":{},\"hellos\":{},\"cpu_seconds\":{:.4},\"packets_per_cpu_second\":{},\"bytes_per_cpu_second\":{},\"hellos_per_cpu_second\":{},\"floor_packets_per_cpu_second\":{},\"anon_bytes_max\":{}}}",
        best.n_packets,
        best.n_bytes,
        best.n_hellos,
        best.cpu_s,
        per_second(best.n_packets, best.cpu_s),
        per_second(best.n_bytes, best.cpu_s),
        per_second(best.n_hellos, best.cpu_s),
        per_second(best.n_packets, floor_s),
        best.anon_bytes_max,
    )?;
    Ok(())
}

#[derive(Debug, Default, Clone, Copy)]
struct Pass {
    cpu_s: f64,
    n_packets: u64,
    n_bytes: u64,
    n_hellos: u64,
    anon_bytes_max: u64,
}

fn read_and_track(file: &Path) -> anyhow::Result<Pass> {
    let mut capture = OfflineCapture::open(file)?;
    let started = cpu_seconds();
    let mut pipeline = Pipeline::new(FlowTable::new(FlowSettings::default(), OFFLINE_SEED), None);
    let mut pass = Pass::default();
    loop {
        let packet = match capture.next()? {
            Next::Packet(packet) => packet,
            Next::End => break,
            Next::Damaged(reason) => anyhow::bail!(
                "{} is damaged after packet {}: {reason}",
                file.display(),
                pass.n_packets
            ),
        };
        pass.n_packets += 1;
        let frame = Frame {
            link: packet.link,
            interface: 0,
            number: pass.n_packets,
            bytes: packet.bytes,
        };
        pipeline.feed(packet.at, &frame);
        while let Some(event) = pipeline.poll_event() {
            pass.n_hellos += u64::from(matches!(event, FlowEvent::Hello(..)));
        }
        // A look at the memory costs a system call and a page of text: once in half a million packets.
        if pass.n_packets % (1 << 19) == 0 {
            pass.anon_bytes_max = pass.anon_bytes_max.max(anon_bytes());
        }
    }
    pass.cpu_s = cpu_seconds() - started;
    pass.n_bytes = pipeline.table().counters().frame_bytes;
    pass.anon_bytes_max = pass.anon_bytes_max.max(anon_bytes());
    Ok(pass)
}

/// The floor: libpcap's own loop over the same file.
fn read_only(file: &Path) -> anyhow::Result<f64> {
    let mut capture = OfflineCapture::open(file)?;
    let started = cpu_seconds();
    let mut n_bytes = 0_usize;
    while let Next::Packet(packet) = capture.next()? {
        n_bytes += packet.bytes.len();
    }
    std::hint::black_box(n_bytes);
    Ok(cpu_seconds() - started)
}

/// CPU time of this thread.
fn cpu_seconds() -> f64 {
    let time = rustix::time::clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Anonymous resident memory of this process, from `/proc/self/status`; zero where that is missing.
pub(crate) fn anon_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kib = line
        .and_then(|rest| rest.trim().strip_suffix("kB"))
        .and_then(|number| number.trim().parse::<u64>().ok());
    kib.map_or(0, |kib| kib * 1024)
}
