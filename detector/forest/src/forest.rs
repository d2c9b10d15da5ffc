//! The forest: fit, path lengths, scores. Scores are in `[0, 1]`, higher is stranger, .5 means "no opinion".
//!
//! score = 2^(-mean path length / c(n)), where the path length of a row in a tree is the number of cuts to its leaf
//! plus c(rows in the leaf), and c(n) is the mean path length of an unsuccessful search in a binary search tree of
//! n rows (Liu, Ting, Zhou: Isolation Forest, ICDM 2008). Rows are scored 16 at a time: each step of all 16 is a
//! compare and an add without a branch, and a leaf is a loop to itself, so all walks have the same length.

use linfa::DatasetBase;
use linfa::traits::{Fit, PredictInplace};
use ndarray::{Array1, ArrayBase, Data, Ix2};

use crate::params::{MAX_FEATURES, Missing, ParamsError, ValidForestParams};
use crate::rng::Rng;
use crate::robust::TopMean;
use crate::rows::{LANES, Rows, Value};
use crate::sample::samples;
use crate::tree::{Node, SMALL_TREE, Tree, grow};

/// Rows that a thread scores before it goes to the next tree: they and one tree stay in the first-level cache.
const BLOCK_ROWS: usize = 128;

/// A fitted isolation forest. Plain data: clone it, compare it, share it between threads.
#[derive(Debug, Clone, PartialEq)]
pub struct Forest {
    pub(crate) n_features: usize,
    /// Rows that a tree was grown from: the parameter, or fewer if there were fewer.
    pub(crate) sample_size: usize,
    pub(crate) missing: Vec<Missing>,
    pub(crate) trees: Vec<Tree>,
    /// Path length at each leaf (0 elsewhere), tree by tree.
    paths: Vec<Vec<f32>>,
    pub(crate) n_threads: usize,
}

/// What one pass over rows gives.
pub(crate) struct Walked {
    pub(crate) path_lengths: Vec<f64>,
    /// Empty if the voice was not asked.
    pub(crate) top_means: Vec<f64>,
}

/// Why a forest could not be fitted.
#[derive(Debug, thiserror::Error)]
pub enum FitError {
    /// A parameter out of range.
    #[error(transparent)]
    Params(#[from] ParamsError),
    /// Too many columns.
    #[error("{0} features are more than a forest holds: give it at most {MAX_FEATURES}")]
    Features(usize),
    /// Too many rows.
    #[error("{0} rows are more than a forest counts: give it at most 4294967295")]
    Rows(usize),
    /// The policies do not match the matrix.
    #[error("{given} missing-value policies for {n_features} features: give one for each, or none")]
    Policies {
        /// How many were given.
        given: usize,
        /// How many columns the matrix has.
        n_features: usize,
    },
    /// The names do not match the matrix.
    #[error("{given} feature names for {n_features} features: give one for each")]
    Names {
        /// How many were given.
        given: usize,
        /// How many columns the matrix has.
        n_features: usize,
    },
    /// A name that does not fit into the saved form.
    #[error("the feature name `{0}` is longer than 255 bytes: shorten it")]
    LongName(String),
    /// A value is missing where that is an error.
    #[error(transparent)]
    Score(#[from] ScoreError),
    /// From linfa itself.
    #[error(transparent)]
    Linfa(#[from] linfa::Error),
}

/// Why rows could not be scored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScoreError {
    /// Another number of columns.
    #[error("rows have {given} features and the forest {expected}: read the same features it was fitted on")]
    Features {
        /// What the rows have.
        given: usize,
        /// What the forest was fitted on.
        expected: usize,
    },
    /// NaN in a feature whose policy refuses it.
    #[error("feature {feature} is missing in row {row}: fill it, or choose another policy for it")]
    Missing {
        /// Which row.
        row: usize,
        /// Which column.
        feature: usize,
    },
}

/// c(n): the mean path length in a random tree of `n` rows.
pub fn average_path_length(n: usize) -> f64 {
    const EULER: f64 = 0.577_215_664_901_532_9;
    match n {
        0 | 1 => 0.0,
        2 => 1.0,
        _ => {
            let n = n as f64;
            2.0 * ((n - 1.0).ln() + EULER) - 2.0 * (n - 1.0) / n
        }
    }
}

impl<F: Value, D: Data<Elem = F>, T> Fit<ArrayBase<D, Ix2>, T, FitError> for ValidForestParams {
    type Object = Forest;

    /// Grows the trees. No score is computed here.
    fn fit(&self, dataset: &DatasetBase<ArrayBase<D, Ix2>, T>) -> Result<Forest, FitError> {
        Ok(fit(Rows::from(&dataset.records), self, 0)?.0)
    }
}

impl<F: Value, D: Data<Elem = F>> PredictInplace<ArrayBase<D, Ix2>, Array1<f64>> for Forest {
    /// Scores rows; see [`Forest::score`] for the form that does not panic.
    ///
    /// # Panics
    /// When the rows have another number of features, or lack a value that must not be missing.
    fn predict_inplace<'a>(&'a self, x: &'a ArrayBase<D, Ix2>, y: &mut Array1<f64>) {
        match self.score(x) {
            Ok(scores) => y.assign(&Array1::from(scores)),
            Err(error) => panic!("{error}"),
        }
    }

    fn default_target(&self, x: &ArrayBase<D, Ix2>) -> Array1<f64> {
        Array1::zeros(x.nrows())
    }
}

/// Fits, and draws `n_reference` rows by the same order for whoever wants a reference sample.
pub(crate) fn fit(
    rows: Rows<'_>,
    params: &ValidForestParams,
    n_reference: usize,
) -> Result<(Forest, Vec<u32>), FitError> {
    let n_features = rows.n_features();
    if n_features > MAX_FEATURES {
        return Err(FitError::Features(n_features));
    }
    if u32::try_from(rows.n_rows()).is_err() {
        return Err(FitError::Rows(rows.n_rows()));
    }
    let given = params.missing.len();
    if given != 0 && given != n_features {
        return Err(FitError::Policies { given, n_features });
    }
    check_refused(&rows, &params.missing)?;
    let samples = samples(&rows, params, n_reference);
    let sample_size = params.subsample_size.min(rows.n_rows());
    let cells = rows.cells();
    let mut trees = Vec::new();
    if sample_size > 0 {
        trees = vec![Tree::default(); params.n_trees];
        let jobs: Vec<_> = trees.iter_mut().zip(samples.trees).enumerate().collect();
        let grow_one = |(number, (tree, sample)): (usize, (&mut Tree, Vec<u32>))| {
            let rng = Rng::new(params.seed, GROWTH_STREAM + number as u64);
            *tree = grow(cells, n_features, &params.missing, sample, rng);
        };
        in_parallel(jobs, params.n_threads, grow_one);
    }
    let forest = Forest::from_trees(
        n_features,
        sample_size,
        params.missing.clone(),
        trees,
        params.n_threads,
    );
    Ok((forest, samples.reference))
}

/// Streams of growth are apart from those of drawing, so that the two are independent.
const GROWTH_STREAM: u64 = 1 << 41;

/// Runs the jobs on up to `n_threads` threads. Each job has its own place for the result, so that the number of
/// threads changes nothing.
fn in_parallel<T: Send>(jobs: Vec<T>, n_threads: usize, work: impl Fn(T) + Sync) {
    let n_threads = n_threads.min(jobs.len()).max(1);
    if n_threads == 1 {
        jobs.into_iter().for_each(work);
        return;
    }
    let queue = std::sync::Mutex::new(jobs.into_iter());
    let take = || queue.lock().ok().and_then(|mut jobs| jobs.next());
    let drain = || {
        while let Some(job) = take() {
            work(job);
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..n_threads {
            scope.spawn(drain);
        }
        drain();
    });
}

fn check_refused(rows: &Rows<'_>, missing: &[Missing]) -> Result<(), ScoreError> {
    for (feature, policy) in missing.iter().enumerate() {
        if *policy == Missing::Refuse
            && let Some(row) = (0..rows.n_rows()).find(|&row| rows.value(row, feature).is_nan())
        {
            return Err(ScoreError::Missing { row, feature });
        }
    }
    Ok(())
}

impl Forest {
    pub(crate) fn from_trees(
        n_features: usize,
        sample_size: usize,
        missing: Vec<Missing>,
        trees: Vec<Tree>,
        n_threads: usize,
    ) -> Self {
        let levels = path_lengths_of_counts(sample_size);
        let paths = trees.iter().map(|tree| leaf_paths(tree, &levels)).collect();
        Self {
            n_features,
            sample_size,
            missing,
            trees,
            paths,
            n_threads,
        }
    }

    /// The number of features that it was fitted on.
    pub fn n_features(&self) -> usize {
        self.n_features
    }

    /// The number of trees; 0 if there was no row to grow from.
    pub fn n_trees(&self) -> usize {
        self.trees.len()
    }

    /// Rows that each tree was grown from.
    pub fn sample_size(&self) -> usize {
        self.sample_size
    }

    /// With this many threads for scoring; changes no bit of the scores.
    #[must_use]
    pub fn with_threads(mut self, n_threads: usize) -> Self {
        self.n_threads = n_threads.max(1);
        self
    }

    /// The score of every row, in order, each in `[0, 1]`: near 1 is strange, well below .5 is ordinary.
    /// A forest fitted on no row or on one has no opinion: .5 for all.
    ///
    /// # Errors
    /// When the number of features differs, or a value is missing whose policy is [`Missing::Refuse`].
    pub fn score<'a>(&self, rows: impl Into<Rows<'a>>) -> Result<Vec<f64>, ScoreError> {
        let mut scores = self.path_lengths(rows)?;
        for score in &mut scores {
            *score = self.score_of_path(*score);
        }
        Ok(scores)
    }

    /// The mean path length of every row over the trees.
    ///
    /// # Errors
    /// As [`Forest::score`].
    pub fn path_lengths<'a>(&self, rows: impl Into<Rows<'a>>) -> Result<Vec<f64>, ScoreError> {
        Ok(self.walk_rows(&rows.into(), None)?.path_lengths)
    }

    /// The score of a mean path length.
    pub fn score_of_path(&self, path_length: f64) -> f64 {
        let normal = average_path_length(self.sample_size);
        if normal > 0.0 {
            (-path_length / normal).exp2()
        } else {
            0.5
        }
    }

    /// Path lengths of all rows and, in the same pass over memory, the raw scores of the other voice if it is given.
    pub(crate) fn walk_rows(
        &self,
        rows: &Rows<'_>,
        top_mean: Option<&TopMean>,
    ) -> Result<Walked, ScoreError> {
        if rows.n_features() != self.n_features {
            return Err(ScoreError::Features {
                given: rows.n_features(),
                expected: self.n_features,
            });
        }
        check_refused(rows, &self.missing)?;
        let mut walked = Walked {
            path_lengths: vec![0.0; rows.n_rows()],
            top_means: vec![0.0; if top_mean.is_some() { rows.n_rows() } else { 0 }],
        };
        // Pieces of work are whole blocks: large enough to be worth a lock, small enough to share out evenly.
        let piece = BLOCK_ROWS * 8;
        let mut top_means = walked.top_means.chunks_mut(piece);
        let jobs: Vec<_> = walked
            .path_lengths
            .chunks_mut(piece)
            .enumerate()
            .map(|(number, lengths)| (number * piece, lengths, top_means.next().unwrap_or_default()))
            .collect();
        in_parallel(jobs, self.n_threads, |(first, lengths, top_means)| {
            self.score_piece(rows, first, lengths, top_mean.zip(Some(top_means)));
        });
        Ok(walked)
    }

    fn score_piece(
        &self,
        rows: &Rows<'_>,
        first: usize,
        lengths: &mut [f64],
        mut other: Option<(&TopMean, &mut [f64])>,
    ) {
        let stride = (self.n_features.max(1) * LANES).next_power_of_two().max(64);
        let used = self.n_features * LANES;
        let mut cells = vec![0.0_f32; stride * (BLOCK_ROWS / LANES)];
        let mut row_values = Vec::new();
        for (block, lengths) in lengths.chunks_mut(BLOCK_ROWS).enumerate() {
            let offset = block * BLOCK_ROWS;
            let mut nan_lanes = [0_u16; BLOCK_ROWS / LANES];
            for (group, nan_lanes) in nan_lanes
                .iter_mut()
                .enumerate()
                .take(lengths.len().div_ceil(LANES))
            {
                let at = offset + group * LANES;
                let count = LANES.min(lengths.len() - group * LANES);
                let cells = &mut cells[group * stride..group * stride + used];
                *nan_lanes = rows.copy_lanes(first + at, count, cells);
                if *nan_lanes != 0 {
                    *nan_lanes = self.fill_lanes(cells, *nan_lanes);
                }
                if let Some((top_mean, out)) = &mut other {
                    top_mean.of_lanes(cells, &mut out[at..at + count]);
                }
            }
            self.walk_block(&cells, stride, lengths);
            let n_trees = self.trees.len().max(1) as f64;
            for length in lengths.iter_mut() {
                *length /= n_trees;
            }
            for (lane, length) in lengths.iter_mut().enumerate() {
                if nan_lanes[lane / LANES] >> (lane % LANES) & 1 == 1 {
                    rows.copy_row(first + offset + lane, &self.missing, &mut row_values);
                    *length = self.path_length_of_row(&row_values);
                }
            }
        }
    }

    /// Fills missing values in a group of lanes by policy; returns the lanes that still miss one.
    fn fill_lanes(&self, cells: &mut [f32], nan_lanes: u16) -> u16 {
        if self.missing.is_empty() {
            return nan_lanes;
        }
        let mut left = 0;
        for (cells, missing) in cells.chunks_exact_mut(LANES).zip(&self.missing) {
            for (lane, cell) in cells.iter_mut().enumerate() {
                *cell = missing.fill(*cell);
                left |= u16::from(cell.is_nan()) << lane;
            }
        }
        left & nan_lanes
    }

    /// Adds the path lengths of all trees to `lengths`.
    fn walk_block(&self, cells: &[f32], stride: usize, lengths: &mut [f64]) {
        lengths.fill(0.0);
        for (tree, paths) in self.trees.iter().zip(&self.paths) {
            for (lengths, cells) in lengths.chunks_mut(LANES).zip(cells.chunks_exact(stride)) {
                let mut idx = [0_u32; LANES];
                walk(&tree.nodes, cells, tree.depth, &mut idx);
                for (length, &idx) in lengths.iter_mut().zip(&idx) {
                    *length += f64::from(paths[idx as usize]);
                }
            }
        }
    }

    /// The mean path length of one row, filled by policy. What is still missing goes both ways, weighted by the
    /// share of the sample.
    pub(crate) fn path_length_of_row(&self, row: &[f32]) -> f64 {
        let total: f64 = self
            .trees
            .iter()
            .zip(&self.paths)
            .map(|(tree, paths)| {
                let mut length = 0.0;
                let mut open = vec![(0_usize, 1.0_f64)];
                while let Some((idx, weight)) = open.pop() {
                    if tree.is_leaf(idx) {
                        length += weight * f64::from(paths[idx]);
                        continue;
                    }
                    let node = tree.nodes[idx];
                    let value = row[node.feature()];
                    if value.is_nan() {
                        let share = f64::from(tree.counts[node.left()]) / f64::from(tree.counts[idx]);
                        open.push((node.left(), weight * share));
                        open.push((node.left() + 1, weight * (1.0 - share)));
                    } else {
                        open.push((node.left() + usize::from(value > node.cut), weight));
                    }
                }
                length
            })
            .sum();
        total / self.trees.len().max(1) as f64
    }
}

/// Sixteen walks from the root, side by side.
fn walk(nodes: &[Node], cells: &[f32], depth: u32, idx: &mut [u32; LANES]) {
    if let Ok(nodes) = <&[Node; SMALL_TREE]>::try_from(nodes) {
        for _ in 0..depth {
            for lane in 0..LANES {
                let node = nodes[idx[lane] as usize & (SMALL_TREE - 1)];
                let value = cells[usize::from(node.lanes_at) + lane];
                idx[lane] = u32::from(node.left) + u32::from(value > node.cut);
            }
        }
        return;
    }
    for _ in 0..depth {
        for lane in 0..LANES {
            let node = nodes[idx[lane] as usize];
            let value = cells[usize::from(node.lanes_at) + lane];
            idx[lane] = u32::from(node.left) + u32::from(value > node.cut);
        }
    }
}

/// c(n) for every count up to the sample size.
pub(crate) fn path_lengths_of_counts(sample_size: usize) -> Vec<f64> {
    (0..=sample_size).map(average_path_length).collect()
}

fn leaf_paths(tree: &Tree, levels: &[f64]) -> Vec<f32> {
    let mut paths = vec![0.0; tree.nodes.len()];
    let mut depths = vec![0_u32; tree.counts.len()];
    // Children come after their parent, so one pass from the root knows every depth.
    for idx in 0..tree.counts.len() {
        if tree.is_leaf(idx) {
            #[expect(clippy::cast_possible_truncation, reason = "a table in single precision")]
            let path = (f64::from(depths[idx]) + levels[usize::from(tree.counts[idx])]) as f32;
            paths[idx] = path;
        } else {
            let left = tree.nodes[idx].left();
            depths[left] = depths[idx] + 1;
            depths[left + 1] = depths[idx] + 1;
        }
    }
    paths
}
