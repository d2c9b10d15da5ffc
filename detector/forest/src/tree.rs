//! One isolation tree: random cuts of a small sample until rows stand alone.
//!
//! A node draws a feature among those that still vary in it and a cut between its smallest and largest value; values
//! up to the cut go left. A feature that is constant in a node is constant below it too and is not drawn again there:
//! without that, columns with few distinct values end branches early and the ranking of the rarest rows is lost.
//! The tree depends on the set of its rows, not on their order, as long as no value is missing.

use crate::params::Missing;
use crate::rng::Rng;
use crate::rows::{Cells, LANES};

/// Eight bytes: what scoring reads. A leaf points to itself with a cut that nothing exceeds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Node {
    /// Values above it go right; `+inf` in a leaf.
    pub(crate) cut: f32,
    /// The feature times 16: where its lanes start in a block.
    pub(crate) lanes_at: u16,
    /// The left child; the right one is next to it. A leaf's own number in a leaf.
    pub(crate) left: u16,
}

impl Node {
    pub(crate) fn leaf(idx: usize) -> Self {
        Self {
            cut: f32::INFINITY,
            lanes_at: 0,
            left: to_u16(idx),
        }
    }

    pub(crate) fn split(feature: usize, cut: f32, left: usize) -> Self {
        Self {
            cut,
            lanes_at: to_u16(feature * LANES),
            left: to_u16(left),
        }
    }

    pub(crate) fn feature(self) -> usize {
        usize::from(self.lanes_at) / LANES
    }

    pub(crate) fn left(self) -> usize {
        usize::from(self.left)
    }
}

fn to_u16(value: usize) -> u16 {
    u16::try_from(value).expect("sample sizes and features are limited so that positions fit")
}

/// Nodes of a tree of up to 256 rows: 511, and one to make the length a power of two.
pub(crate) const SMALL_TREE: usize = 512;

/// The nodes of a tree, root first, with the number of sampled rows that reached each.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Tree {
    /// Filled up with leaves that nothing leads to, to [`SMALL_TREE`] or more.
    pub(crate) nodes: Vec<Node>,
    /// One for each node that is in use.
    pub(crate) counts: Vec<u16>,
    /// The most cuts from the root to a leaf.
    pub(crate) depth: u32,
}

impl Tree {
    pub(crate) fn is_leaf(&self, idx: usize) -> bool {
        self.nodes[idx].left() == idx
    }

    /// Fills up the nodes, so that scoring of a usual tree needs no check of positions.
    pub(crate) fn pad(&mut self) {
        self.nodes.resize(self.nodes.len().max(SMALL_TREE), Node::leaf(0));
    }
}

/// The deepest a tree of `n` rows may be: `ceil(log2(n))`, where rows that stand alone are expected.
pub(crate) fn depth_limit(n: usize) -> u32 {
    n.max(2).next_power_of_two().ilog2()
}

struct Builder<'a> {
    cells: Cells<'a>,
    missing: &'a [Missing],
    rng: Rng,
    limit: u32,
    tree: Tree,
    features: Vec<u16>,
    /// Room for the values of a node, and for the rows that go right.
    values: Vec<f32>,
    right: Vec<u32>,
}

/// What a node cuts.
struct Range {
    feature: usize,
    low: f32,
    high: f32,
}

/// Grows the tree of these rows.
pub(crate) fn grow<'a>(
    cells: Cells<'a>,
    n_features: usize,
    missing: &'a [Missing],
    mut sample: Vec<u32>,
    rng: Rng,
) -> Tree {
    let n = sample.len();
    let mut tree = Tree {
        nodes: Vec::with_capacity((2 * n).max(SMALL_TREE)),
        counts: Vec::with_capacity(2 * n),
        depth: 0,
    };
    tree.nodes.push(Node::leaf(0));
    tree.counts.push(to_u16(n));
    let mut builder = Builder {
        cells,
        missing,
        rng,
        limit: depth_limit(n),
        tree,
        features: (0..n_features).map(to_u16).collect(),
        values: vec![0.0; n],
        right: vec![0; n],
    };
    builder.split(0, 0, 0, &mut sample);
    builder.tree.pad();
    builder.tree
}

impl Builder<'_> {
    /// Cuts node `idx`, which holds `sample`; the first `n_constant` entries of `features` are known to be constant.
    fn split(&mut self, idx: usize, depth: u32, mut n_constant: usize, sample: &mut [u32]) {
        if sample.len() < 2 || depth == self.limit {
            return;
        }
        let Some(range) = self.draw_feature(&mut n_constant, sample) else {
            return;
        };
        let cut = draw_cut(&mut self.rng, range.low, range.high);
        let n_left = self.partition(sample, cut);
        let left = self.tree.counts.len();
        let n_right = sample.len() - n_left;
        self.tree.nodes[idx] = Node::split(range.feature, cut, left);
        self.tree.nodes.extend([Node::leaf(left), Node::leaf(left + 1)]);
        self.tree.counts.extend([to_u16(n_left), to_u16(n_right)]);
        self.tree.depth = self.tree.depth.max(depth + 1);
        let (left_rows, right_rows) = sample.split_at_mut(n_left);
        self.split(left, depth + 1, n_constant, left_rows);
        self.split(left + 1, depth + 1, n_constant, right_rows);
    }

    /// Draws a feature that varies in the sample, with its range; its values stay in `values`.
    fn draw_feature(&mut self, n_constant: &mut usize, sample: &[u32]) -> Option<Range> {
        while *n_constant < self.features.len() {
            let at = *n_constant + self.rng.below(self.features.len() - *n_constant);
            let feature = usize::from(self.features[at]);
            let values = &mut self.values[..sample.len()];
            self.cells.gather(feature, sample, values);
            if let Some(missing) = self.missing.get(feature) {
                for value in values.iter_mut() {
                    *value = missing.fill(*value);
                }
            }
            let (mut low, mut high) = (f32::INFINITY, f32::NEG_INFINITY);
            for &value in values.iter() {
                // A comparison with NaN is false: missing values do not count.
                low = if value < low { value } else { low };
                high = if value > high { value } else { high };
            }
            if low < high {
                return Some(Range { feature, low, high });
            }
            self.features.swap(at, *n_constant);
            *n_constant += 1;
        }
        None
    }

    /// Puts the rows of the left side first and returns how many they are. A row that lacks the value goes to a side
    /// by chance, with the odds of the rows that have it.
    fn partition(&mut self, sample: &mut [u32], cut: f32) -> usize {
        let n = sample.len();
        let (values, right) = (&self.values[..n], &mut self.right[..n]);
        let n_missing = values.iter().filter(|value| value.is_nan()).count();
        let n_left_present = if n_missing == 0 {
            0
        } else {
            values.iter().filter(|&&value| value <= cut).count()
        };
        let (mut n_left, mut n_right) = (0, 0);
        for position in 0..n {
            let (value, row) = (values[position], sample[position]);
            let goes_left = if value.is_nan() {
                self.rng.below(n - n_missing) < n_left_present
            } else {
                value <= cut
            };
            // Both are written and one is kept: which side a row takes cannot be predicted.
            sample[n_left] = row;
            right[n_right] = row;
            n_left += usize::from(goes_left);
            n_right += usize::from(!goes_left);
        }
        sample[n_left..].copy_from_slice(&right[..n_right]);
        n_left
    }
}

/// A cut in `[low, high)`, so that both sides get a row.
fn draw_cut(rng: &mut Rng, low: f32, high: f32) -> f32 {
    let (wide_low, wide_high) = (f64::from(low), f64::from(high));
    #[expect(clippy::cast_possible_truncation, reason = "between two f32")]
    let cut = (wide_low + rng.unit() * (wide_high - wide_low)) as f32;
    if cut < high { cut.max(low) } else { low }
}
