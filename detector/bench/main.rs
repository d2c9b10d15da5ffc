//! `detector-bench`: makes clients and scores them without a store, for measurements; `compare.py` runs it beside Python.
//!
//! `make` writes the rows as the store would answer them, and the same numbers and texts for Python. `score` reads them as a
//! stream and does all of a cycle but the store's work: features, context, training, groups, consistency, verdicts, reasons,
//! encoding. It prints processor time by stage and the largest resident memory as one JSON line.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use detector::assess::{Explanations, Models, Policy, assess};
use detector::config::DetectorConfig;
use detector::consistency::Consistency;
use detector::features::columns::{Decoder, encode};
use detector::features::context::{self, Outside};
use detector::features::{ClientRow, N_FEATURES, Raw};
use detector::groups::Groups;
use detector::labels::Verdicts;
use detector::model::{Identity, Model};
use detector::population::Population;
use detector::segments::{Segment, Window};
use detector::state::State;
use detector::stats::mix;
use detector::training::{Candidate, select};

#[derive(Debug, Parser)]
#[command(name = "detector-bench", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Writes rows.bin, numbers.npy and texts.tsv into a folder.
    Make {
        /// Folder, which must exist.
        folder: PathBuf,
        /// Clients.
        #[arg(long, default_value_t = 50_000)]
        clients: u64,
    },
    /// Scores what `make` wrote.
    Score {
        /// The folder.
        folder: PathBuf,
        /// Clients that are explained feature by feature, strangest first.
        #[arg(long, default_value_t = DetectorConfig::default().explain_max)]
        explained: usize,
    },
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Make { folder, clients } => make(&folder, clients),
        Command::Score { folder, explained } => score(&folder, explained),
    }
}

const CHROME: &str =
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0 Safari/537.36";
const ORDER: &str = "sec-ch-ua-platform,user-agent,sec-ch-ua,sec-ch-ua-mobile,accept,sec-fetch-site,sec-fetch-mode,sec-fetch-dest,referer,accept-encoding,accept-language,cookie,priority";

/// A number from 0 to 1 that depends on client and place.
fn unit(client: u64, place: u64) -> f32 {
    (mix(client, place) >> 40) as f32 / (1_u32 << 24) as f32
}

/// Heavy-tailed, around `scale`.
fn heavy(client: u64, place: u64, scale: f32) -> f32 {
    let normal: f32 = (0..6).map(|n| unit(client, place * 97 + n)).sum::<f32>() - 3.0;
    (scale * (normal * 1.3).exp()).ceil()
}

fn client(number: u64) -> ClientRow<'static> {
    let u = |place| unit(number, place);
    let requests = heavy(number, 1, 12.0).max(1.0);
    let part = |place, share: f32| (requests * share * u(place)).floor();
    let v4 = 0x0a00_0000_u32 + u32::try_from(number % 3_000_000).unwrap_or(0) * 7;
    let agent = CHROME.replace("156", &(120 + mix(number, 5) % 40).to_string());
    let kind = mix(number, 6) % 20;
    let ja4 = if kind < 16 {
        "t13d1517h2_8daaf6152771_cb7bf5808d99".to_owned()
    } else {
        format!("t13d{}h2_8daaf6152771_{:012x}", 1500 + kind, kind)
    };
    let gap = heavy(number, 2, 900_000.0);
    let raw = Raw {
        requests,
        span_s: 60.0 + u(3) * 3500.0,
        active_minutes: (requests / 3.0).ceil().min(60.0),
        night_requests: 0.0,
        s3xx: part(4, 0.2),
        s304: part(5, 0.1),
        s4xx: part(6, 0.08),
        s404: part(7, 0.05),
        s40x: part(8, 0.02),
        s5xx: part(9, 0.01),
        n_statuses: 1.0 + (u(10) * 4.0).floor(),
        n_unended: 0.0,
        n_get: requests - part(11, 0.1),
        n_post: part(11, 0.1),
        n_head: 0.0,
        n_options: part(12, 0.02),
        bytes: requests * heavy(number, 13, 4000.0),
        bytes_p50: heavy(number, 14, 3000.0),
        bytes_p95: heavy(number, 15, 20_000.0),
        n_static: part(16, 0.9),
        n_favicon: part(17, 0.05),
        n_robots: 0.0,
        n_login: part(18, 0.05),
        n_admin: 0.0,
        n_dotfile: if number.is_multiple_of(997) { 30.0 } else { 0.0 },
        n_suspicious: 0.0,
        n_api: part(19, 0.3),
        params: part(20, 1.0),
        uri_max: heavy(number, 21, 40.0),
        depth_mean: 1.0 + u(22) * 3.0,
        no_referer: part(23, 0.4),
        no_language: 0.0,
        no_encoding: 0.0,
        no_sec_fetch: part(24, 0.1),
        n_client_hints: requests,
        n_cookie: part(25, 1.0),
        header_count_mean: 10.0 + u(26) * 4.0,
        n_headers: requests,
        n_header_orders: 1.0 + (u(27) * 4.0).floor(),
        n_user_agents: 1.0,
        n_h2: requests,
        n_h2_fps: 1.0,
        n_resumed: part(28, 0.6),
        n_pq: requests,
        n_sni: requests,
        n_joined: requests,
        n_conns: (requests / 8.0).ceil(),
        n_sessions: 1.0,
        n_contradicting: 0.0,
        n_wire: requests,
        one_hello_bytes: 1700.0 + (u(29) * 200.0).floor(),
        one_ttl: if u(30) < 0.5 { 57.0 } else { 115.0 },
        one_window: 64_240.0,
        one_mss: 1460.0,
        one_wscale: 7.0,
        syn_to_hello_p50_us: heavy(number, 31, 20_000.0),
        n_events: requests.min(512.0),
        gap_p50_us: if requests > 1.0 { gap } else { f32::NAN },
        gap_p95_us: if requests > 1.0 { gap * 6.0 } else { f32::NAN },
        gap_mean_us: if requests > 1.0 { gap * 1.8 } else { f32::NAN },
        gap_sd_us: if requests > 1.0 {
            gap * (0.5 + 2.0 * u(32))
        } else {
            f32::NAN
        },
        gap_lag1: u(33) - 0.5,
        gap_fast_share: u(34) * 0.6,
        max_per_minute: (requests / 2.0).ceil(),
        n_paths: (requests * (0.3 + 0.5 * u(35))).ceil(),
        path_entropy: requests.log2() * u(36),
        transition_entropy: requests.log2() * u(37),
    };
    ClientRow {
        src_ip: std::net::Ipv4Addr::from(v4).to_ipv6_mapped().octets(),
        ja4_norm: ja4.clone().into(),
        ja4: ja4.into(),
        host: format!("shop{}.example", mix(number, 8) % 20).into(),
        entity: mix(number, 9),
        last_us: 1,
        header_flags_or: 0b1010_1111_1111 | 1 << 24,
        header_flags_and: 0b1010_1110_0111 | 1 << 24,
        header_order_hash: 1 + mix(number, 10) % 5,
        raw,
        alpn: "h2,http/1.1".into(),
        tls_version: "1.3".into(),
        h2_fp: "1:65536;2:0;4:6291456;6:262144|15663105|0|m,a,s,p".into(),
        tcp_options: "2,4,8,1,3".into(),
        navigation_order: "".into(),
        user_agents: vec![agent.into()],
        http_versions: vec!["2".into()],
        header_orders: vec![ORDER.into()],
    }
}

fn make(folder: &Path, clients: u64) -> anyhow::Result<()> {
    let rows = || (0..clients).map(client);
    std::fs::write(folder.join("rows.bin"), encode(rows())).context("failed to write rows.bin")?;
    let numbers: Vec<f32> = rows().flat_map(|row| row.raw.values()).collect();
    let n_columns = Raw::default().values().len();
    let matrix = ndarray::Array2::from_shape_vec((numbers.len() / n_columns, n_columns), numbers)?;
    let file = File::create(folder.join("numbers.npy")).context("failed to write numbers.npy")?;
    ndarray_npy::WriteNpyExt::write_npy(&matrix, file)?;
    let mut texts =
        std::io::BufWriter::new(File::create(folder.join("texts.tsv")).context("failed to write texts.tsv")?);
    for row in rows() {
        let address = std::net::Ipv6Addr::from(row.src_ip);
        writeln!(
            texts,
            "{address}\t{}\t{}\t{}\t{}\t{}",
            row.ja4, row.host, row.header_order_hash, row.h2_fp, row.tcp_options
        )?;
    }
    texts.flush()?;
    Ok(())
}

fn cpu_us() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    u64::try_from(time.tv_sec * 1_000_000 + time.tv_nsec / 1000).unwrap_or(0)
}

struct Stages {
    last: u64,
    named: Vec<(&'static str, u64)>,
}

impl Stages {
    fn done(&mut self, name: &'static str) {
        let now = cpu_us();
        self.named.push((name, now - self.last));
        self.last = now;
    }
}

#[expect(clippy::print_stdout, reason = "the result")]
fn score(folder: &Path, explained: usize) -> anyhow::Result<()> {
    let mut stages = Stages {
        last: 0,
        named: Vec::new(),
    };
    stages.done("start");
    let mut consistency = Consistency::default();
    let mut population = Population::new(Window::Hour);
    let mut decoder = Decoder::default();
    let mut file = File::open(folder.join("rows.bin")).context("failed to read rows.bin; run make first")?;
    let mut piece = vec![0; 1 << 16];
    loop {
        let n = file.read(&mut piece)?;
        if n == 0 {
            break;
        }
        decoder.feed(&piece[..n], |row| population.push(row, &mut consistency))?;
    }
    decoder.finish()?;
    population.end_shard();
    stages.done("read, features, consistency");
    context::fill(&mut population, &Outside::default(), 0);
    stages.done("context");
    let config = DetectorConfig {
        explain_max: explained,
        ..DetectorConfig::default()
    };
    let model = train(&population, &config)?;
    stages.done("train");
    let flagged = vec![false; population.n()];
    let groups = Groups::measure(&population, Some(model.scaler()), &flagged);
    stages.done("groups");
    let mut models = Models::default();
    models.saved.insert(Segment::All, (&model, State::Armed));
    let chosen: Vec<usize> = (0..population.n()).collect();
    let policy: Policy = config.policy();
    let verdicts = Verdicts::default();
    let assessed = assess(
        &population,
        &chosen,
        &models,
        &groups,
        &verdicts,
        &policy,
        population.n(),
    )?;
    stages.done("score, verdicts");
    let mut n_bytes = 0;
    let mut block = Vec::new();
    let mut explanations = Explanations::new(&population, &models, &groups, &verdicts);
    for row in &assessed.rows {
        detector::cycle::encode_score(&population, row, &mut explanations, 0, &mut block);
        if block.len() > 1 << 20 {
            n_bytes += block.len();
            block.clear();
        }
    }
    n_bytes += block.len();
    stages.done("reasons, encode");
    let saved = model.to_bytes();
    stages.done("save the model");
    let status = std::fs::read_to_string("/proc/self/status").context("failed to read /proc/self/status")?;
    let peak_kb: u64 = status
        .lines()
        .find_map(|line| {
            line.strip_prefix("VmHWM:")?
                .trim()
                .strip_suffix(" kB")?
                .trim()
                .parse()
                .ok()
        })
        .context("no VmHWM")?;
    let total: u64 = stages.named.iter().map(|(_, us)| us).sum();
    let named: serde_json::Map<String, serde_json::Value> = stages
        .named
        .iter()
        .map(|(name, us)| ((*name).to_owned(), serde_json::json!(*us as f64 / 1000.0)))
        .collect();
    println!(
        "{}",
        serde_json::json!({
            "clients": population.n(), "features": N_FEATURES, "cpu_ms": total as f64 / 1000.0, "stages_ms": named,
            "peak_mb": peak_kb as f64 / 1024.0, "model_bytes": saved.len(), "encoded_bytes": n_bytes,
            "explained": assessed.rows.iter().filter(|row| row.is_explained).count(),
            "flagged": assessed.rows.iter().filter(|row| row.outcome != detector::assess::Outcome::Normal).count(),
        })
    );
    Ok(())
}

fn train(population: &Population, config: &DetectorConfig) -> anyhow::Result<Model> {
    let ready: Vec<usize> = (0..population.n())
        .filter(|idx| population.clients[*idx].requests >= 5)
        .collect();
    let candidates: Vec<Candidate> = ready
        .iter()
        .map(|idx| {
            let client = &population.clients[*idx];
            Candidate {
                entity: client.entity,
                pair: client.entity,
                is_bad: false,
                is_good: false,
                flagged_us: None,
            }
        })
        .collect();
    let selection = select(&candidates, &config.limits(), 1);
    let rows: Vec<_> = selection
        .kept
        .iter()
        .map(|idx| population.row(ready[*idx]))
        .collect();
    Ok(Model::fit(
        Identity {
            name: "all/1h".to_owned(),
            version: 1,
            seed: 1,
            ..Identity::default()
        },
        &rows,
        1,
        None,
    )?)
}
