//! What `bench/compare.py` runs: times, scores of many seeds, evidence and reasons of the forest on a matrix in a file.
#![allow(
    clippy::cast_possible_truncation,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a measuring program reads files and clocks"
)]

use std::error::Error;
use std::fs::File;
use std::time::Instant;

use detector_forest::{Forest, ForestParams, Model, Rows, Sampling, Training};
use linfa::traits::Fit as _;
use linfa::{DatasetBase, ParamGuard as _};
use ndarray::{Array2, Ix2, OwnedRepr};
use ndarray_npy::{NpzReader, ReadNpyExt as _};
use rustix::time::{ClockId, clock_gettime};

const USAGE: &str = "usage: forest-bench time DATA THREADS REPEATS position|content
       forest-bench scores DATA OUT.npy FIRST_SEED STEP COUNT TREES
       forest-bench evidence DATA OUT.npy SEED
       forest-bench reasons DATA ROWS.npy OUT.npy SEED
       forest-bench attributions DATA ROWS.npy OUT.npy SEED TREES
       forest-bench json DATA OUT.json SEED
       forest-bench job DATA
DATA is an .npz with X in double precision";

type Answer<T> = Result<T, Box<dyn Error>>;

fn main() -> Answer<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["time", data, threads, repeats, sampling] => time(
            read(data)?,
            threads.parse()?,
            repeats.parse()?,
            sampling == "position",
        ),
        ["scores", data, out, first, step, count, trees] => {
            let seeds = Seeds {
                first: first.parse()?,
                step: step.parse()?,
                count: count.parse()?,
            };
            scores(read(data)?, out, &seeds, trees.parse()?)
        }
        ["evidence", data, out, seed] => evidence(&read(data)?, out, seed.parse()?),
        ["reasons", data, rows, out, seed] => reasons(&read(data)?, &read_rows(rows)?, out, seed.parse()?),
        ["attributions", data, rows, out, seed, trees] => {
            let params = ForestParams::new(seed.parse()?).n_trees(trees.parse()?);
            attributions(read(data)?, &read_rows(rows)?, out, &params)
        }
        ["job", data] => job(&read(data)?),
        ["json", data, out, seed] => {
            let forest = fit(read(data)?, &ForestParams::new(seed.parse()?))?.0;
            Ok(std::fs::write(out, forest.to_json())?)
        }
        _ => Err(USAGE.into()),
    }
}

fn read(path: &str) -> Answer<Array2<f64>> {
    Ok(NpzReader::new(File::open(path)?)?.by_name::<OwnedRepr<f64>, Ix2>("X")?)
}

fn read_rows(path: &str) -> Answer<Array2<f64>> {
    Ok(Array2::<f64>::read_npy(File::open(path)?)?)
}

type Data = DatasetBase<Array2<f64>, ()>;

fn fit(rows: Array2<f64>, params: &ForestParams) -> Answer<(Forest, Data)> {
    let data: Data = DatasetBase::new(rows, ());
    Ok((params.check_ref()?.fit(&data)?, data))
}

/// CPU seconds of this process so far, all threads.
fn cpu() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

/// The least wall and CPU seconds of some runs.
struct Best {
    wall: f64,
    cpu: f64,
}

fn best<T>(repeats: usize, mut work: impl FnMut() -> Answer<T>) -> Answer<(Best, T)> {
    let mut best = Best {
        wall: f64::INFINITY,
        cpu: f64::INFINITY,
    };
    let mut result = None;
    for _ in 0..repeats.max(1) {
        let (started, before) = (Instant::now(), cpu());
        result = Some(work()?);
        best.cpu = best.cpu.min(cpu() - before);
        best.wall = best.wall.min(started.elapsed().as_secs_f64());
    }
    Ok((best, result.ok_or("no run")?))
}

/// Peak memory of this process, MiB.
fn peak_mib() -> Answer<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .ok_or("no VmHWM in /proc/self/status")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
}

fn time(rows: Array2<f64>, threads: usize, repeats: usize, by_position: bool) -> Answer<()> {
    let before = peak_mib()?;
    let sampling = if by_position {
        Sampling::Position
    } else {
        Sampling::Content
    };
    let data: Data = DatasetBase::new(rows, ());
    let params = ForestParams::new(1)
        .n_threads(threads)
        .sampling(sampling)
        .check()?;
    let (fitting, forest) = best(repeats, || Ok(params.fit(&data)?))?;
    let (scoring, _) = best(repeats, || Ok(forest.score(Rows::from(&data.records))?))?;
    println!(
        "{{\"fit_wall\":{},\"fit_cpu\":{},\"score_wall\":{},\"score_cpu\":{},\"memory_mib\":{}}}",
        fitting.wall,
        fitting.cpu,
        scoring.wall,
        scoring.cpu,
        peak_mib()? - before
    );
    Ok(())
}

struct Seeds {
    first: u64,
    step: u64,
    count: u64,
}

/// One row of scores for each seed.
fn scores(rows: Array2<f64>, out: &str, seeds: &Seeds, trees: usize) -> Answer<()> {
    let data: Data = DatasetBase::new(rows, ());
    let mut all = Vec::new();
    for number in 0..seeds.count {
        let params = ForestParams::new(seeds.first + number * seeds.step).n_trees(trees);
        all.extend(params.check()?.fit(&data)?.score(Rows::from(&data.records))?);
    }
    let shape = (usize::try_from(seeds.count)?, data.records.nrows());
    ndarray_npy::write_npy(out, &Array2::from_shape_vec(shape, all)?)?;
    Ok(())
}

fn model(rows: &Array2<f64>, seed: u64) -> Answer<Model> {
    let training = Training {
        features: (0..rows.ncols()).map(|column| format!("f{column}")).collect(),
        ..Training::default()
    };
    Ok(Model::fit(rows, &ForestParams::new(seed), training)?)
}

/// What a cycle does with a matrix: fit and calibrate both voices, evaluate every row, explain the first hundred.
fn job(rows: &Array2<f64>) -> Answer<()> {
    let (fitting, model) = best(5, || model(rows, 1))?;
    let (evaluating, evidence) = best(5, || Ok(model.evaluate(rows)?))?;
    let reasoner = model.reasoner();
    let (explaining, ()) = best(5, || {
        for (row, evidence) in evidence.iter().enumerate().take(100) {
            let values: Vec<f32> = rows.row(row).iter().map(|&value| value as f32).collect();
            reasoner.reasons(&values, evidence)?;
        }
        Ok(())
    })?;
    println!(
        "{{\"fit_cpu\":{},\"evaluate_cpu\":{},\"explain_100_cpu\":{},\"model_bytes\":{}}}",
        fitting.cpu,
        evaluating.cpu,
        explaining.cpu,
        model.to_bytes().len()
    );
    Ok(())
}

/// For each row: forest raw, p, bits; robust z raw, p, bits; evidence in bits and its p.
fn evidence(rows: &Array2<f64>, out: &str, seed: u64) -> Answer<()> {
    let model = model(rows, seed)?;
    let (timing, evidence) = best(1, || Ok(model.evaluate(rows)?))?;
    let mut table = Array2::<f64>::zeros((rows.nrows(), 8));
    for (mut line, e) in table.rows_mut().into_iter().zip(&evidence) {
        let values = [
            e.forest.raw,
            e.forest.p,
            e.forest.bits,
            e.robust_z.raw,
            e.robust_z.p,
            e.robust_z.bits,
            e.bits,
            e.p,
        ];
        line.assign(&ndarray::aview1(&values));
    }
    ndarray_npy::write_npy(out, &table)?;
    println!(
        "{{\"evaluate_cpu\":{},\"model_bytes\":{}}}",
        timing.cpu,
        model.to_bytes().len()
    );
    Ok(())
}

/// For each row of ROWS its contributions in bits, one column for each feature, both voices together.
fn reasons(rows: &Array2<f64>, explained: &Array2<f64>, out: &str, seed: u64) -> Answer<()> {
    let model = model(rows, seed)?;
    let evidence = model.evaluate(explained)?;
    let reasoner = model.reasoner();
    let mut table = Array2::<f64>::zeros(explained.dim());
    let narrow: Array2<f32> = explained.mapv(|value| value as f32);
    let (timing, ()) = best(3, || {
        table.fill(0.0);
        for (row, evidence) in evidence.iter().enumerate() {
            let values = narrow.row(row).to_vec();
            for reason in reasoner.reasons(&values, evidence)? {
                if let Some(feature) = reason.feature {
                    table[[row, feature]] += reason.bits;
                }
            }
        }
        Ok(())
    })?;
    ndarray_npy::write_npy(out, &table)?;
    println!(
        "{{\"us_per_row\":{}}}",
        timing.cpu * 1e6 / explained.nrows().max(1) as f64
    );
    Ok(())
}

/// For each row of ROWS the forest's attributions alone.
fn attributions(rows: Array2<f64>, explained: &Array2<f64>, out: &str, params: &ForestParams) -> Answer<()> {
    let forest = fit(rows, params)?.0;
    let explainer = forest.explainer();
    let mut table = Array2::<f64>::zeros(explained.dim());
    let narrow: Array2<f32> = explained.mapv(|value| value as f32);
    let (timing, ()) = best(3, || {
        for (row, mut line) in table.rows_mut().into_iter().enumerate() {
            let explanation = explainer.explain(&narrow.row(row).to_vec())?;
            line.assign(&ndarray::ArrayView1::from(&explanation.attributions));
        }
        Ok(())
    })?;
    ndarray_npy::write_npy(out, &table)?;
    println!(
        "{{\"us_per_row\":{}}}",
        timing.cpu * 1e6 / explained.nrows().max(1) as f64
    );
    Ok(())
}
