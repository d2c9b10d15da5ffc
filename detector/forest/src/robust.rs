//! The second voice: how far the three most extreme features of a row are from the middle, in robust units.
//!
//! A forest hardly sees a row that is strange in one or two of many features, because few cuts fall on them. The mean
//! of the three largest |x - median| / scale does. The scale is a distance between quantiles, in units of the distance
//! of the quartiles; [`FeatureTable::scale`] says which. Also here: the quantile table of a feature, which gives percentiles.

use crate::rows::LANES;

/// The features whose robust z counts.
pub(crate) const TOP: usize = 3;
/// The largest robust z of one feature, so that one absurd value cannot overflow what is made of it.
pub const MAX_Z: f64 = 1e6;

/// The probabilities of the quantile table: every percent, and finer in both tails.
pub(crate) const GRID: [f64; 109] = grid();

const fn grid() -> [f64; 109] {
    let tail = [0.0005, 0.001, 0.002, 0.005];
    let mut grid = [0.0; 109];
    let mut at = 0;
    let mut percent = 0;
    while percent <= 100 {
        grid[at] = percent as f64 / 100.0;
        at += 1;
        let mut i = 0;
        while percent == 0 && i < 4 {
            grid[at] = tail[i];
            at += 1;
            i += 1;
        }
        let mut i = 0;
        while percent == 99 && i < 4 {
            grid[at] = 1.0 - tail[3 - i];
            at += 1;
            i += 1;
        }
        percent += 1;
    }
    grid
}

/// What the reference sample says of one feature.
#[derive(Debug, Clone, PartialEq)]
pub struct FeatureTable {
    /// Values at the probabilities of the grid, ascending; empty if the feature was missing in every row.
    pub(crate) quantiles: Vec<f32>,
    /// Rows of the reference sample in which it was present.
    pub(crate) n_present: u32,
    pub(crate) median: f32,
    pub(crate) scale: f64,
}

impl FeatureTable {
    /// The table of these values; NaN is left out.
    pub(crate) fn of(values: &mut Vec<f32>) -> Self {
        values.retain(|value| !value.is_nan());
        values.sort_unstable_by(f32::total_cmp);
        let quantiles = if values.is_empty() {
            Vec::new()
        } else {
            GRID.iter().map(|&p| quantile(values, p)).collect()
        };
        Self::from_quantiles(quantiles, u32::try_from(values.len()).unwrap_or(u32::MAX))
    }

    pub(crate) fn from_quantiles(quantiles: Vec<f32>, n_present: u32) -> Self {
        let mut table = Self {
            median: 0.0,
            scale: 1.0,
            quantiles,
            n_present,
        };
        if !table.quantiles.is_empty() {
            table.median = table.at(0.5);
            table.scale = table.robust_scale();
        }
        table
    }

    fn at(&self, p: f64) -> f32 {
        let position = GRID.iter().position(|&g| g >= p - 1e-9).unwrap_or(GRID.len() - 1);
        self.quantiles[position]
    }

    /// The distance between the 5th and the 95th percentile. If it is 0, that between the 1st and the 99th, then the
    /// whole range. Each is reduced to what the quartiles of a normal distribution of that width would be apart, so
    /// that a z counts quartile distances. If the feature never varied: the size of its value, at least 1, so that
    /// twice the value is one unit.
    ///
    /// Why not the quartiles themselves: over the labelled sets the sum of both voices then ranks worse (mean average
    /// precision .468 instead of .492, the forest alone has .493), because counts that are mostly zero get tiny units.
    /// The price: more than one row in twenty on one side moves the unit, so training rows are to be cleaned.
    fn robust_scale(&self) -> f64 {
        // Half-widths in standard deviations: quartiles .674, 5 % 1.645, 1 % 2.326, range of thousands 3.3.
        for (low, high, width) in [(0.05, 0.95, 1.645), (0.01, 0.99, 2.326), (0.0, 1.0, 3.3)] {
            let distance = f64::from(self.at(high)) - f64::from(self.at(low));
            if distance > 0.0 {
                return distance * 0.674 / width;
            }
        }
        f64::from(self.median).abs().max(1.0)
    }

    /// The median in the reference sample; `None` if the feature was always missing there.
    pub fn median(&self) -> Option<f32> {
        (!self.quantiles.is_empty()).then_some(self.median)
    }

    /// The unit of the robust z, above 0 in every case: the first of these distances that is not 0, reduced to the
    /// distance of the quartiles of a normal distribution of that width: 5th to 95th percentile, 1st to 99th, range.
    /// Without any, the size of the feature's only value, at least 1.
    pub fn scale(&self) -> f64 {
        self.scale
    }

    /// `(x - median) / scale`, within ±[`MAX_Z`]; 0 for a missing value or a feature without a reference.
    pub fn robust_z(&self, value: f32) -> f64 {
        if value.is_nan() || self.quantiles.is_empty() {
            return 0.0;
        }
        ((f64::from(value) - f64::from(self.median)) / self.scale).clamp(-MAX_Z, MAX_Z)
    }

    /// The share of the reference sample below the value, equal values counting half, in `(0, 1)`: never 0 or 1,
    /// because n rows cannot tell shares below .5 / (n + 1). `None` for a missing value or without a reference.
    pub fn percentile(&self, value: f32) -> Option<f64> {
        if value.is_nan() || self.quantiles.is_empty() {
            return None;
        }
        let below = self.quantiles.partition_point(|&q| q < value);
        let up_to = self.quantiles.partition_point(|&q| q <= value);
        let share = if below < up_to {
            f64::midpoint(GRID[below], GRID[up_to - 1])
        } else if below == 0 {
            0.0
        } else if below == self.quantiles.len() {
            1.0
        } else {
            let (low, high) = (
                f64::from(self.quantiles[below - 1]),
                f64::from(self.quantiles[below]),
            );
            let part = (f64::from(value) - low) / (high - low);
            GRID[below - 1] + part * (GRID[below] - GRID[below - 1])
        };
        let edge = 0.5 / (f64::from(self.n_present) + 1.0);
        Some(share.clamp(edge, 1.0 - edge))
    }
}

/// The value at probability `p` of ascending values, between neighbours where it falls between.
fn quantile(sorted: &[f32], p: f64) -> f32 {
    let position = p * (sorted.len() - 1) as f64;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "within the slice"
    )]
    let below = (position.floor() as usize).min(sorted.len() - 1);
    let above = (below + 1).min(sorted.len() - 1);
    let part = position - below as f64;
    let (low, high) = (f64::from(sorted[below]), f64::from(sorted[above]));
    #[expect(clippy::cast_possible_truncation, reason = "between two f32")]
    let value = (low + part * (high - low)) as f32;
    value
}

/// The mean of the three largest |z|, from medians and units side by side.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct TopMean {
    medians: Vec<f32>,
    per_unit: Vec<f32>,
}

impl TopMean {
    pub(crate) fn new(tables: &[FeatureTable]) -> Self {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "a ranking in single precision, as the forest's"
        )]
        let per_unit = |table: &FeatureTable| match table.median() {
            Some(_) => (1.0 / table.scale) as f32,
            None => 0.0,
        };
        Self {
            medians: tables.iter().map(|table| table.median).collect(),
            per_unit: tables.iter().map(per_unit).collect(),
        }
    }

    /// The voice's raw score of up to 16 rows, whose values stand in `cells[feature * 16 + lane]`; with fewer than
    /// three features, the mean of all of them. A missing value counts 0.
    pub(crate) fn of_lanes(&self, cells: &[f32], out: &mut [f64]) {
        let mut top = [[0.0_f32; LANES]; TOP];
        let (cells, _) = cells.as_chunks::<LANES>();
        for ((&median, &per_unit), values) in self.medians.iter().zip(&self.per_unit).zip(cells) {
            for (lane, &value) in values.iter().enumerate() {
                // NaN is greater than nothing: it falls through all three places and is gone.
                let mut z = (value - median).abs() * per_unit;
                for place in &mut top {
                    let held = place[lane];
                    let is_greater = z > held;
                    place[lane] = if is_greater { z } else { held };
                    z = if is_greater { held } else { z };
                }
            }
        }
        let count = self.medians.len().clamp(1, TOP) as f64;
        for (lane, out) in out.iter_mut().enumerate() {
            let sum: f64 = top.iter().map(|place| f64::from(place[lane]).min(MAX_Z)).sum();
            *out = sum / count;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(values: &[f32]) -> FeatureTable {
        FeatureTable::of(&mut values.to_vec())
    }

    #[test]
    fn the_grid_ascends_from_0_to_1() {
        assert!(GRID.windows(2).all(|pair| pair[0] < pair[1]), "{GRID:?}");
        assert_eq!(
            (GRID[0].to_bits(), GRID[108].to_bits()),
            (0.0_f64.to_bits(), 1.0_f64.to_bits())
        );
    }

    #[test]
    fn the_scale_of_a_normal_sample_is_the_distance_of_its_quartiles() {
        // Sums of twelve even numbers are close to a normal distribution of standard deviation 1.
        let mut rng = crate::rng::Rng::new(1, 1);
        #[expect(clippy::cast_possible_truncation, reason = "numbers from 0 to 12")]
        let values: Vec<f32> = (0..20_000)
            .map(|_| (0..12).map(|_| rng.unit()).sum::<f64>() as f32)
            .collect();
        let table = table(&values);
        assert!((table.scale() - 1.349).abs() < 0.03, "{}", table.scale());
        let z = table.robust_z(6.0 + 1.349);
        assert!((z - 1.0).abs() < 0.05, "{z}");
    }

    #[test]
    fn a_scale_is_never_0() {
        let mut mostly_zero = vec![0.0_f32; 1_000];
        mostly_zero[7] = 9.0;
        assert!(table(&mostly_zero).scale() > 0.0);
        assert!((table(&[5.0; 40]).scale() - 5.0).abs() < 1e-9);
        assert!((table(&[0.0; 40]).scale() - 1.0).abs() < 1e-9);
        assert!((table(&[]).scale() - 1.0).abs() < 1e-9);
    }

    #[test]
    fn percentiles_count_equal_values_half_and_never_reach_the_ends() {
        let table = table(&(0..1_000_u16).map(f32::from).collect::<Vec<_>>());
        let close = |value: f32, share: f64| {
            let got = table.percentile(value).unwrap();
            assert!((got - share).abs() < 1e-3, "{value}: {got}");
        };
        close(499.5, 0.5);
        close(990.0, 0.991);
        close(-1.0, 0.0005);
        close(2_000.0, 0.9995);
        assert_eq!(table.percentile(f32::NAN), None);
        let constant = FeatureTable::of(&mut vec![3.0; 9]);
        assert_eq!(constant.percentile(3.0), Some(0.5));
    }

    #[test]
    fn the_voice_is_the_mean_of_the_three_largest_and_a_missing_value_is_none_of_them() {
        let tables = vec![table(&(0..=100_u8).map(f32::from).collect::<Vec<_>>()); 5];
        let unit = tables[0].scale();
        let voice = |tables: &[FeatureTable], row: &[f32]| {
            let mut out = [0.0];
            let cells: Vec<f32> = row.iter().flat_map(|&value| [value; LANES]).collect();
            TopMean::new(tables).of_lanes(&cells, &mut out);
            out[0]
        };
        let z = voice(&tables, &[50.0, 100.0, 0.0, 200.0, f32::NAN]) * unit;
        assert!((z - (50.0 + 50.0 + 150.0) / 3.0).abs() < 1e-4, "{z}");
        let alone = voice(&tables[..1], &[100.0]) * unit;
        assert!((alone - 50.0).abs() < 1e-4, "{alone}");
    }
}
