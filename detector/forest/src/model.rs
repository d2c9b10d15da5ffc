//! A model: a forest and a robust z voice over named features, calibrated on a reference sample of its training rows.
//!
//! Fit it once, score every row with [`Model::evaluate`], explain the few that matter with [`Reasoner::reasons`], keep it
//! as bytes ([`Model::to_bytes`]). A row's evidence is the sum of the bits of its voices; reasons add up to it.

use linfa::ParamGuard as _;

use crate::evidence::split_bits;
use crate::explain::Explainer;
use crate::forest::{FitError, Forest, ScoreError, fit};
use crate::params::ForestParams;
use crate::robust::{FeatureTable, TopMean};
use crate::rows::Rows;
use crate::tail::Tail;

/// What a model was trained on; kept in its bytes.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Training {
    /// The name of every column, in order; at most 255 bytes each.
    pub features: Vec<String>,
    /// Start of the training window, seconds since the epoch.
    pub from_s: i64,
    /// End of the training window, seconds since the epoch.
    pub to_s: i64,
    /// Rows that it was fitted on; set by [`Model::fit`].
    pub n_rows: u64,
    /// The seed; set by [`Model::fit`].
    pub seed: u64,
}

/// A fitted and calibrated model.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    pub(crate) training: Training,
    pub(crate) forest: Forest,
    pub(crate) tables: Vec<FeatureTable>,
    pub(crate) top_mean: TopMean,
    /// Reference scores: forest, robust z (as ln(1 + z)), and the sum of both voices' bits.
    pub(crate) forest_tail: Tail,
    pub(crate) robust_tail: Tail,
    pub(crate) sum_tail: Tail,
    pub(crate) threshold_bits: Option<f64>,
}

/// A statistical voice of this model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Voice {
    /// The isolation forest.
    Forest,
    /// The mean of the three largest robust z.
    RobustZ,
}

impl Voice {
    /// Its name in stored reasons.
    pub fn name(self) -> &'static str {
        match self {
            Self::Forest => "forest",
            Self::RobustZ => "robust_z",
        }
    }
}

/// What one voice says of one row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Said {
    /// The raw score: `[0, 1]` of the forest, the mean of three z of the other.
    pub raw: f64,
    /// (r + .5) / (n + 1) against the reference sample.
    pub p: f64,
    /// Bits of evidence; see [`Tail::bits`].
    pub bits: f64,
}

/// What the model says of one row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Evidence {
    /// The forest.
    pub forest: Said,
    /// The robust z.
    pub robust_z: Said,
    /// The sum of the voices' bits: what rows are ranked by.
    pub bits: f64,
    /// The p-value of the sum, against the same sum over the reference sample: calibrated although the voices agree
    /// more often than independent ones would.
    pub p: f64,
}

impl Evidence {
    /// 1 - p: in `(0, 1)`, higher is stranger.
    pub fn score(&self) -> f64 {
        1.0 - self.p
    }
}

/// One line of an explanation, for a person.
#[derive(Debug, Clone, PartialEq)]
pub struct Reason {
    /// Who says so.
    pub voice: Voice,
    /// The column; `None` holds bits that no feature can be given.
    pub feature: Option<usize>,
    /// The row's value of it; NaN if missing or without a feature.
    pub value: f32,
    /// The median of the reference sample; NaN without one.
    pub median: f32,
    /// Where the value lies in the reference sample, `(0, 1)`; NaN if missing or without a feature.
    pub percentile: f64,
    /// Bits of evidence. Over all reasons of a row they add up to [`Evidence::bits`].
    pub bits: f64,
}

/// Rows in the reference sample, unless fewer were given: tails down to 1 in 8 000 have a rank.
pub const REFERENCE_ROWS: usize = 4_096;

impl Model {
    /// Fits a model on `rows`, whose columns `training.features` names.
    ///
    /// # Errors
    /// When a parameter is out of range, names and columns differ in number, or the matrix is too large.
    pub fn fit<'a>(
        rows: impl Into<Rows<'a>>,
        params: &ForestParams,
        training: Training,
    ) -> Result<Self, FitError> {
        let rows = rows.into();
        let params = params.check_ref()?;
        let n_features = rows.n_features();
        if training.features.len() != n_features {
            return Err(FitError::Names {
                given: training.features.len(),
                n_features,
            });
        }
        if let Some(name) = training.features.iter().find(|name| name.len() > 255) {
            return Err(FitError::LongName(name.clone()));
        }
        let (forest, mut reference) = fit(rows, params, REFERENCE_ROWS)?;
        // In the order of memory: what is made of the sample does not depend on its order.
        reference.sort_unstable();
        let sample = rows.select(&reference, &params.missing);
        let mut column = Vec::new();
        let tables: Vec<FeatureTable> = (0..n_features)
            .map(|feature| {
                column.clear();
                column.extend(sample.column(feature).iter());
                FeatureTable::of(&mut column)
            })
            .collect();
        let mut model = Self {
            training: Training {
                n_rows: rows.n_rows() as u64,
                seed: params.seed,
                ..training
            },
            forest,
            top_mean: TopMean::new(&tables),
            tables,
            forest_tail: Tail::default(),
            robust_tail: Tail::default(),
            sum_tail: Tail::default(),
            threshold_bits: None,
        };
        let raw = model.raw(&Rows::from(&sample))?;
        model.forest_tail = Tail::new(raw.iter().map(|raw| narrow(raw.0)).collect());
        model.robust_tail = Tail::new(raw.iter().map(|raw| narrow(raw.1.ln_1p())).collect());
        let sums = raw.iter().map(|&raw| narrow(model.evidence(raw).bits)).collect();
        model.sum_tail = Tail::new(sums);
        Ok(model)
    }

    /// What it was trained on.
    pub fn training(&self) -> &Training {
        &self.training
    }

    /// The forest, for its raw scores and attributions.
    pub fn forest(&self) -> &Forest {
        &self.forest
    }

    /// Median, scale and quantiles of every feature.
    pub fn tables(&self) -> &[FeatureTable] {
        &self.tables
    }

    /// The bits above which the caller flags a row, if it has set any.
    pub fn threshold_bits(&self) -> Option<f64> {
        self.threshold_bits
    }

    /// Sets the threshold that is kept with the model.
    pub fn set_threshold_bits(&mut self, bits: Option<f64>) {
        self.threshold_bits = bits;
    }

    /// With this many threads for scoring; changes no bit of the result.
    pub fn set_threads(&mut self, n_threads: usize) {
        self.forest.n_threads = n_threads.max(1);
    }

    /// Checks that these are the features, in the order, that the model was trained on.
    ///
    /// # Errors
    /// Names the first difference.
    pub fn check_features<S: AsRef<str>>(&self, names: &[S]) -> Result<(), FeatureMismatch> {
        let trained = &self.training.features;
        for (position, (given, expected)) in names.iter().zip(trained).enumerate() {
            if given.as_ref() != expected {
                return Err(FeatureMismatch::Name {
                    position,
                    given: given.as_ref().to_owned(),
                    expected: expected.clone(),
                });
            }
        }
        if names.len() > trained.len() {
            let given = names[trained.len()].as_ref().to_owned();
            return Err(FeatureMismatch::More { given });
        }
        if let Some(expected) = trained.get(names.len()) {
            return Err(FeatureMismatch::Fewer {
                expected: expected.clone(),
            });
        }
        Ok(())
    }

    /// What each row's voices say, in the order of the rows.
    ///
    /// # Errors
    /// When the number of features differs, or a value is missing whose policy is [`crate::Missing::Refuse`].
    pub fn evaluate<'a>(&self, rows: impl Into<Rows<'a>>) -> Result<Vec<Evidence>, ScoreError> {
        Ok(self
            .raw(&rows.into())?
            .into_iter()
            .map(|raw| self.evidence(raw))
            .collect())
    }

    /// Raw scores of both voices.
    fn raw(&self, rows: &Rows<'_>) -> Result<Vec<(f64, f64)>, ScoreError> {
        let walked = self.forest.walk_rows(rows, Some(&self.top_mean))?;
        let scores = walked
            .path_lengths
            .into_iter()
            .map(|length| self.forest.score_of_path(length));
        Ok(scores.zip(walked.top_means).collect())
    }

    fn evidence(&self, (forest, robust_z): (f64, f64)) -> Evidence {
        let forest = said(&self.forest_tail, forest, forest);
        let robust_z = said(&self.robust_tail, robust_z, robust_z.ln_1p());
        let bits = forest.bits + robust_z.bits;
        Evidence {
            forest,
            robust_z,
            bits,
            p: self.sum_tail.p_value(bits),
        }
    }

    /// Explains rows one by one; keep it to explain many.
    pub fn reasoner(&self) -> Reasoner<'_> {
        Reasoner {
            model: self,
            explainer: self.forest.explainer(),
        }
    }
}

/// A raw score is kept in single precision in the reference sample.
fn narrow(value: f64) -> f32 {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "reference scores are kept in single precision"
    )]
    let value = value as f32;
    value
}

fn said(tail: &Tail, raw: f64, on_scale: f64) -> Said {
    // Compared in the precision of the reference, so that a training row finds itself there.
    let on_scale = f64::from(narrow(on_scale));
    let (p, bits) = tail.place(on_scale);
    Said { raw, p, bits }
}

/// A model with the tables that explanations need.
#[derive(Debug)]
pub struct Reasoner<'a> {
    model: &'a Model,
    explainer: Explainer<'a>,
}

impl Reasoner<'_> {
    /// The reasons for a row's evidence, largest first; they add up to its bits, and those of one voice to the bits
    /// of that voice.
    ///
    /// # Errors
    /// As [`Model::evaluate`].
    pub fn reasons(&self, row: &[f32], evidence: &Evidence) -> Result<Vec<Reason>, ScoreError> {
        let model = self.model;
        let explanation = self.explainer.explain(row)?;
        let robust: Vec<f64> = model
            .tables
            .iter()
            .zip(row)
            .map(|(table, &value)| table.robust_z(value).abs())
            .collect();
        let mut reasons = Vec::new();
        for (voice, bits, attributions) in [
            (Voice::Forest, evidence.forest.bits, &explanation.attributions),
            (Voice::RobustZ, evidence.robust_z.bits, &top_only(&robust)),
        ] {
            for share in split_bits(bits, attributions) {
                reasons.push(self.reason(voice, share.feature, share.bits, row));
            }
        }
        reasons.sort_by(|left, right| right.bits.total_cmp(&left.bits));
        Ok(reasons)
    }

    fn reason(&self, voice: Voice, feature: Option<usize>, bits: f64, row: &[f32]) -> Reason {
        let table = feature.map(|feature| &self.model.tables[feature]);
        let value = feature.map_or(f32::NAN, |feature| row[feature]);
        Reason {
            voice,
            feature,
            value,
            median: table.and_then(FeatureTable::median).unwrap_or(f32::NAN),
            percentile: table
                .and_then(|table| table.percentile(value))
                .unwrap_or(f64::NAN),
            bits,
        }
    }
}

/// Only the three largest count in the voice, so only they get its bits.
fn top_only(values: &[f64]) -> Vec<f64> {
    let mut sorted: Vec<f64> = values.to_vec();
    sorted.sort_unstable_by(|left, right| right.total_cmp(left));
    let least = sorted.get(crate::robust::TOP - 1).copied().unwrap_or(0.0);
    values
        .iter()
        .map(|&value| if value >= least { value } else { 0.0 })
        .collect()
}

/// The rows to score do not have the features of the model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FeatureMismatch {
    /// Another name at a position.
    #[error(
        "feature {position} is `{given}` and the model was trained on `{expected}` there: train it again"
    )]
    Name {
        /// Counted from 0.
        position: usize,
        /// What was given.
        given: String,
        /// What the model has.
        expected: String,
    },
    /// One too many.
    #[error("feature `{given}` is unknown to the model: train it again")]
    More {
        /// The first that is too many.
        given: String,
    },
    /// One too few.
    #[error("feature `{expected}` of the model is not given: read it, or train the model again")]
    Fewer {
        /// The first that is absent.
        expected: String,
    },
}
