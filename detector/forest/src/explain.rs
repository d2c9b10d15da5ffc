//! Why a row has its score: the surprise of each cut on its way, credited to the cut's feature.
//!
//! A cut that leaves `n_child` of `n_parent` sampled rows with the row is worth c(parent) - c(child) - 1 levels of
//! depth, where c(n) is the mean path length among n rows and grows with the logarithm of n: the smaller the share
//! that went the row's way, the more. Summed along the path, these are exactly c(sample) minus the row's path length:
//! the depth gap, which is what the score is made of.

use crate::forest::{Forest, ScoreError, average_path_length, path_lengths_of_counts};
use crate::params::Missing;

/// What the forest says of one row, with its reasons.
#[derive(Debug, Clone, PartialEq)]
pub struct Explanation {
    /// c(sample size) minus the mean path length, in levels; above 0 is stranger than the mean.
    pub depth_gap: f64,
    /// One number for each feature, in levels; they add up to `depth_gap`. Negative: speaks for an ordinary row.
    pub attributions: Vec<f64>,
}

impl Forest {
    /// Explains rows one by one; keep it to explain many.
    pub fn explainer(&self) -> Explainer<'_> {
        let levels = path_lengths_of_counts(self.sample_size);
        Explainer { forest: self, levels }
    }
}

/// A forest with the tables that explanations need.
#[derive(Debug)]
pub struct Explainer<'a> {
    forest: &'a Forest,
    levels: Vec<f64>,
}

impl Explainer<'_> {
    /// Explains one row.
    ///
    /// # Errors
    /// When the number of features differs, or a value is missing whose policy is [`Missing::Refuse`].
    pub fn explain(&self, row: &[f32]) -> Result<Explanation, ScoreError> {
        let forest = self.forest;
        if row.len() != forest.n_features {
            return Err(ScoreError::Features {
                given: row.len(),
                expected: forest.n_features,
            });
        }
        let mut filled = Vec::with_capacity(row.len());
        for (feature, &value) in row.iter().enumerate() {
            let policy = forest.missing.get(feature).copied().unwrap_or_default();
            if policy == Missing::Refuse && value.is_nan() {
                return Err(ScoreError::Missing { row: 0, feature });
            }
            filled.push(policy.fill(value.clamp(f32::MIN, f32::MAX)));
        }
        let mut attributions = vec![0.0; row.len()];
        let mut open = Vec::new();
        for tree in &forest.trees {
            open.push((0_usize, 1.0_f64));
            while let Some((mut idx, weight)) = open.pop() {
                let mut parent_level = self.levels[usize::from(tree.counts[idx])];
                while !tree.is_leaf(idx) {
                    let node = tree.nodes[idx];
                    let feature = node.feature();
                    let value = filled[feature];
                    if value.is_nan() {
                        let (left, right) = (node.left(), node.left() + 1);
                        let share = f64::from(tree.counts[left]) / f64::from(tree.counts[idx]);
                        for (child, share) in [(left, share), (right, 1.0 - share)] {
                            let level = self.levels[usize::from(tree.counts[child])];
                            attributions[feature] += weight * share * (parent_level - level - 1.0);
                            open.push((child, weight * share));
                        }
                        break;
                    }
                    idx = node.left() + usize::from(value > node.cut);
                    let level = self.levels[usize::from(tree.counts[idx])];
                    attributions[feature] += weight * (parent_level - level - 1.0);
                    parent_level = level;
                }
            }
        }
        let n_trees = forest.trees.len().max(1) as f64;
        for attribution in &mut attributions {
            *attribution /= n_trees;
        }
        let depth_gap = self.gap(&filled);
        Ok(Explanation {
            depth_gap,
            attributions,
        })
    }

    /// The depth gap by the way of scoring, not by adding up what it should equal.
    fn gap(&self, filled: &[f32]) -> f64 {
        if self.forest.trees.is_empty() {
            return 0.0;
        }
        average_path_length(self.forest.sample_size) - self.forest.path_length_of_row(filled)
    }
}
