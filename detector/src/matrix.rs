//! `ja4-detector forest`: fits a forest on a matrix in a file and writes the scores, for comparison with other implementations.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, bail};
use detector_forest::{ForestParams, Rows, Sampling};
use linfa::DatasetBase;
use linfa::traits::Fit as _;
use ndarray::{Array1, Array2, Ix2, OwnedRepr};
use ndarray_npy::{NpzReader, ReadNpyExt as _, ReadableElement};

/// Fits an isolation forest on a matrix and writes one score for each row.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The rows: an .npz file whose array X is [rows × features], or an .npy file that is.
    data: PathBuf,
    /// The seed; two seeds share nothing.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Trees in the forest.
    #[arg(long, default_value_t = 100)]
    trees: usize,
    /// Rows drawn for each tree.
    #[arg(long, default_value_t = 256)]
    samples: usize,
    /// Threads to fit and score with; changes no score.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Draw rows by content instead of by position: costs a pass, and the order of the rows does not matter.
    #[arg(long)]
    any_order: bool,
    /// Fit and score so often, and print the best time of each.
    #[arg(long, default_value_t = 1)]
    repeat: usize,
    /// Where to write the scores (.npy, double precision, in [0, 1], higher is stranger).
    #[arg(long)]
    scores: Option<PathBuf>,
}

/// Runs the command; prints one line of JSON with the shape and the times.
///
/// # Errors
/// When the file cannot be read as a matrix, a parameter is out of range, or the scores cannot be written.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let matrix = read(&args.data).with_context(|| format!("failed to read {}", args.data.display()))?;
    match matrix {
        Matrix::F32(rows) => fit_and_score(args, rows),
        Matrix::F64(rows) => fit_and_score(args, rows),
    }
}

fn fit_and_score<F>(args: &Args, rows: Array2<F>) -> anyhow::Result<()>
where
    F: detector_forest::Value,
{
    let (n_rows, n_features) = rows.dim();
    let params = ForestParams::new(args.seed)
        .n_trees(args.trees)
        .subsample_size(args.samples)
        .n_threads(args.threads)
        .sampling(if args.any_order {
            Sampling::Content
        } else {
            Sampling::Position
        });
    let dataset: DatasetBase<ndarray::ArrayBase<OwnedRepr<F>, Ix2>, ()> = DatasetBase::new(rows, ());
    let (mut fit_s, mut score_s) = (f64::INFINITY, f64::INFINITY);
    let mut scores = Vec::new();
    for _ in 0..args.repeat.max(1) {
        let started = Instant::now();
        let forest = params.fit(&dataset)?;
        fit_s = fit_s.min(started.elapsed().as_secs_f64());
        let started = Instant::now();
        scores = forest.score(Rows::from(&dataset.records))?;
        score_s = score_s.min(started.elapsed().as_secs_f64());
    }
    if let Some(path) = &args.scores {
        ndarray_npy::write_npy(path, &Array1::from(scores))
            .with_context(|| format!("failed to write {}", path.display()))?;
    }
    let line = serde_json::json!({
        "rows": n_rows, "features": n_features, "trees": args.trees, "samples": args.samples,
        "seed": args.seed, "threads": args.threads, "fit_s": fit_s, "score_s": score_s,
    });
    #[expect(clippy::print_stdout, reason = "the command's answer")]
    {
        println!("{line}");
    }
    Ok(())
}

enum Matrix {
    F32(Array2<f32>),
    F64(Array2<f64>),
}

fn read(path: &Path) -> anyhow::Result<Matrix> {
    if let Some(matrix) = read_as::<f64>(path)? {
        return Ok(Matrix::F64(matrix));
    }
    if let Some(matrix) = read_as::<f32>(path)? {
        return Ok(Matrix::F32(matrix));
    }
    // What is exact in single precision stays there; wider integers become doubles.
    macro_rules! integers {
        ($($integer:ty => $variant:ident $float:ty),*) => {$(
            if let Some(matrix) = read_as::<$integer>(path)? {
                #[allow(clippy::cast_lossless, reason = "one macro for all widths")]
                return Ok(Matrix::$variant(matrix.mapv(|value| value as $float)));
            }
        )*};
    }
    integers!(u8 => F32 f32, i8 => F32 f32, i16 => F32 f32, u16 => F32 f32,
              i32 => F64 f64, u32 => F64 f64, i64 => F64 f64, u64 => F64 f64);
    bail!("its elements are neither integers nor floats: save it as numpy float64")
}

/// Reads the matrix if its elements are of this type; `None` if they are of another.
fn read_as<T: ReadableElement>(path: &Path) -> anyhow::Result<Option<Array2<T>>> {
    let file = File::open(path).context("cannot open it")?;
    if path.extension().is_some_and(|extension| extension == "npy") {
        return match Array2::<T>::read_npy(file) {
            Ok(matrix) => Ok(Some(matrix)),
            Err(ndarray_npy::ReadNpyError::WrongDescriptor(_)) => Ok(None),
            Err(error) => Err(error.into()),
        };
    }
    let mut archive = NpzReader::new(file).context("it is no .npz archive")?;
    match archive.by_name::<OwnedRepr<T>, Ix2>("X") {
        Ok(matrix) => Ok(Some(matrix)),
        Err(ndarray_npy::ReadNpzError::Npy(ndarray_npy::ReadNpyError::WrongDescriptor(_))) => Ok(None),
        Err(error) => Err(anyhow::Error::new(error).context("it has no matrix X")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray_npy::NpzWriter;

    fn args(data: PathBuf, scores: PathBuf) -> Args {
        Args {
            data,
            seed: 3,
            trees: 20,
            samples: 64,
            threads: 2,
            any_order: false,
            repeat: 1,
            scores: Some(scores),
        }
    }

    #[test]
    fn a_matrix_of_any_number_type_gives_the_same_scores() {
        let folder = tempfile::tempdir().unwrap();
        let bytes = Array2::from_shape_fn((300, 4), |(i, j)| u8::try_from(i * (j + 3) % 90).unwrap());
        let out = folder.path().join("scores.npy");
        let mut all = Vec::new();
        for name in ["u8.npz", "i16.npz", "f64.npz", "f32.npy"] {
            let path = folder.path().join(name);
            if name == "f32.npy" {
                ndarray_npy::write_npy(&path, &bytes.mapv(f32::from)).unwrap();
            } else {
                let mut archive = NpzWriter::new_compressed(File::create(&path).unwrap());
                match name {
                    "u8.npz" => archive.add_array("X", &bytes).unwrap(),
                    "i16.npz" => archive.add_array("X", &bytes.mapv(i16::from)).unwrap(),
                    _ => archive.add_array("X", &bytes.mapv(f64::from)).unwrap(),
                }
                archive.finish().unwrap();
            }
            run(&args(path, out.clone())).unwrap();
            let scores: Array1<f64> = ndarray_npy::read_npy(&out).unwrap();
            assert_eq!(scores.len(), 300);
            all.push(scores);
        }
        assert!(all.iter().all(|scores| *scores == all[0]));
    }

    #[test]
    fn what_is_no_matrix_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("other.npz");
        let mut archive = NpzWriter::new(File::create(&path).unwrap());
        archive.add_array("Y", &Array2::<f64>::zeros((2, 2))).unwrap();
        archive.finish().unwrap();
        let said = |path: PathBuf| format!("{:#}", run(&args(path.clone(), path)).unwrap_err());
        assert!(said(path).contains("it has no matrix X"));
        assert!(said(folder.path().join("absent.npz")).contains("cannot open it"));
    }
}
