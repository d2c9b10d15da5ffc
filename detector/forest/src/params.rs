//! What a forest is fitted with: raw parameters, and the checked ones that fit.

use linfa::ParamGuard;

/// The largest sample of one tree. Node numbers are 16 bits wide.
pub const MAX_SUBSAMPLE: usize = 16_384;
/// The largest number of features. Positions in a block of 16 rows are 16 bits wide.
pub const MAX_FEATURES: usize = 4_096;
/// The largest number of trees: far beyond use, and a bound on what a hostile file can ask for.
pub const MAX_TREES: usize = 10_000;
/// The largest number of threads: beyond the cores of any machine it is a typing error.
pub const MAX_THREADS: usize = 256;

/// What a missing value (NaN) of one feature means.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Missing {
    /// It says nothing: the row goes down both branches, weighted by the share of the sample in each.
    #[default]
    BothBranches,
    /// It stands for this value, which must not be NaN (for example -1 for "never seen").
    Fill(f32),
    /// It is an error, which names the row and the feature.
    Refuse,
}

impl Missing {
    pub(crate) fn fill(self, value: f32) -> f32 {
        match self {
            Self::Fill(fill) if value.is_nan() => fill,
            _ => value,
        }
    }
}

/// Which rows a tree draws.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sampling {
    /// By position, as scikit-learn does: the model depends on the order of the rows.
    #[default]
    Position,
    /// By rank in the order of a hash of the row's content: the order of the rows does not matter. Costs one pass
    /// over the matrix.
    Content,
}

/// The raw parameters. `check` (or `fit`, which checks first) turns them into [`ValidForestParams`].
///
/// ```
/// use detector_forest::ForestParams;
/// use linfa::{DatasetBase, traits::{Fit, Predict}};
///
/// let rows = ndarray::Array2::from_shape_fn((500, 3), |(i, j)| ((i * (j + 7)) % 101) as f32);
/// let forest = ForestParams::new(42).n_trees(50).fit(&DatasetBase::from(rows.clone()))?;
/// let scores: ndarray::Array1<f64> = forest.predict(&rows);
/// assert!(scores.iter().all(|score| (0.0..=1.0).contains(score)));
/// # Ok::<(), detector_forest::FitError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct ForestParams(ValidForestParams);

/// Checked parameters: every number in range. Only [`ParamGuard::check`] makes them.
#[derive(Debug, Clone, PartialEq)]
pub struct ValidForestParams {
    pub(crate) n_trees: usize,
    pub(crate) subsample_size: usize,
    pub(crate) seed: u64,
    pub(crate) n_threads: usize,
    pub(crate) sampling: Sampling,
    pub(crate) missing: Vec<Missing>,
}

impl ForestParams {
    /// 100 trees of 256 rows, one thread, rows drawn by position, missing values down both branches.
    /// Two forests of different seeds share nothing.
    pub const fn new(seed: u64) -> Self {
        Self(ValidForestParams {
            n_trees: 100,
            subsample_size: 256,
            seed,
            n_threads: 1,
            sampling: Sampling::Position,
            missing: Vec::new(),
        })
    }

    /// With this many trees, 1 to [`MAX_TREES`]. More trees make scores steadier, not better in the mean.
    #[must_use]
    pub fn n_trees(mut self, n_trees: usize) -> Self {
        self.0.n_trees = n_trees;
        self
    }

    /// With this many rows for each tree, 1 to [`MAX_SUBSAMPLE`]; 256 is the paper's.
    #[must_use]
    pub fn subsample_size(mut self, subsample_size: usize) -> Self {
        self.0.subsample_size = subsample_size;
        self
    }

    /// With this many threads, 1 to [`MAX_THREADS`], to build and to score. Changes no bit of the result.
    #[must_use]
    pub fn n_threads(mut self, n_threads: usize) -> Self {
        self.0.n_threads = n_threads;
        self
    }

    /// With this choice of rows.
    #[must_use]
    pub fn sampling(mut self, sampling: Sampling) -> Self {
        self.0.sampling = sampling;
        self
    }

    /// With one policy for each feature; none given means [`Missing::BothBranches`] for all.
    #[must_use]
    pub fn missing(mut self, missing: Vec<Missing>) -> Self {
        self.0.missing = missing;
        self
    }
}

/// Why parameters cannot be used.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ParamsError {
    /// The number of trees.
    #[error("n_trees is {0}: set it from 1 to {MAX_TREES}")]
    Trees(usize),
    /// The sample of a tree.
    #[error("subsample_size is {0}: set it from 1 to {MAX_SUBSAMPLE}")]
    Subsample(usize),
    /// The number of threads.
    #[error("n_threads is {0}: set it from 1 to {MAX_THREADS}")]
    Threads(usize),
    /// A fill value that is itself missing or infinite.
    #[error(
        "the value that stands for a missing feature {0} is no finite number: give one, or choose both branches"
    )]
    Fill(usize),
}

impl ParamGuard for ForestParams {
    type Checked = ValidForestParams;
    type Error = ParamsError;

    fn check_ref(&self) -> Result<&Self::Checked, ParamsError> {
        let raw = &self.0;
        if !(1..=MAX_TREES).contains(&raw.n_trees) {
            return Err(ParamsError::Trees(raw.n_trees));
        }
        if !(1..=MAX_SUBSAMPLE).contains(&raw.subsample_size) {
            return Err(ParamsError::Subsample(raw.subsample_size));
        }
        if !(1..=MAX_THREADS).contains(&raw.n_threads) {
            return Err(ParamsError::Threads(raw.n_threads));
        }
        let is_bad = |missing: &Missing| matches!(missing, Missing::Fill(value) if !value.is_finite());
        if let Some(feature) = raw.missing.iter().position(is_bad) {
            return Err(ParamsError::Fill(feature));
        }
        Ok(raw)
    }

    fn check(self) -> Result<Self::Checked, ParamsError> {
        self.check_ref()?;
        Ok(self.0)
    }
}
