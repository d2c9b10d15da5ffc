//! From a raw score to a p-value and to bits of evidence, by a stored reference sample of raw scores.
//!
//! p = (r + .5) / (n + 1), where r of the n reference scores are at least as high: a score means the same in every
//! cycle that uses the same reference. Bits are -log2 p, made continuous so that rows can be ranked: between two
//! reference scores they are interpolated, and above the highest they grow on, as described at [`Tail::bits`].

/// How far bits may grow above what the reference sample can show.
pub const EXTRAPOLATION_BITS: f64 = 10.0;

/// A reference sample of raw scores.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Tail {
    /// Ascending.
    pub(crate) reference: Vec<f32>,
    /// Bits at each reference score; equal scores have the bits of the first of them.
    bits: Vec<f64>,
    /// Mean excess in the upper tail: the unit of growth above the highest score.
    unit: f64,
}

impl Tail {
    /// The tail of these raw scores; NaN is left out.
    pub fn new(mut reference: Vec<f32>) -> Self {
        reference.retain(|score| !score.is_nan());
        reference.sort_unstable_by(f32::total_cmp);
        let unit = upper_unit(&reference);
        let mut tail = Self {
            reference,
            bits: Vec::new(),
            unit,
        };
        let n = tail.reference.len();
        for at in 0..n {
            let is_equal = at > 0 && tail.reference[at].total_cmp(&tail.reference[at - 1]).is_eq();
            let bits = if is_equal {
                tail.bits[at - 1]
            } else {
                -tail.p_of_rank(n - at).log2()
            };
            tail.bits.push(bits);
        }
        tail
    }

    /// The number of reference scores.
    pub fn n(&self) -> usize {
        self.reference.len()
    }

    /// (r + .5) / (n + 1), in `(0, 1)`; .5 without a reference.
    pub fn p_value(&self, score: f64) -> f64 {
        self.p_of_rank(self.n() - self.n_below(score))
    }

    fn n_below(&self, score: f64) -> usize {
        self.reference.partition_point(|&r| f64::from(r) < score)
    }

    fn p_of_rank(&self, at_least: usize) -> f64 {
        (at_least as f64 + 0.5) / (self.reference.len() as f64 + 1.0)
    }

    /// Bits of evidence: never decreasing in the score, and at a reference score exactly -log2 of its p-value.
    /// Between two reference scores: on the straight line. Above the highest: an exponential tail with the mean
    /// excess of the upper twentieth of the reference as its unit, bent so that it approaches, and never exceeds,
    /// [`EXTRAPOLATION_BITS`] more than the highest reference score has. Below the lowest: that of the lowest.
    pub fn bits(&self, score: f64) -> f64 {
        self.place(score).1
    }

    /// The p-value and the bits of a score, with one search.
    pub(crate) fn place(&self, score: f64) -> (f64, f64) {
        let n = self.n();
        let (Some(&highest), Some(&least), Some(&most)) =
            (self.reference.last(), self.bits.first(), self.bits.last())
        else {
            return (self.p_of_rank(0), 1.0);
        };
        let highest = f64::from(highest);
        let at = self.n_below(score);
        let p = self.p_of_rank(n - at);
        if at == 0 {
            return (p, least);
        }
        if score >= highest {
            let beyond = (score - highest) / self.unit * std::f64::consts::LOG2_E;
            return (
                p,
                most + EXTRAPOLATION_BITS * (1.0 - (-beyond / EXTRAPOLATION_BITS).exp()),
            );
        }
        // reference[at - 1] < score <= reference[at]
        let (left, right) = (f64::from(self.reference[at - 1]), f64::from(self.reference[at]));
        let part = (score - left) / (right - left);
        (p, self.bits[at - 1] + part * (self.bits[at] - self.bits[at - 1]))
    }
}

/// Mean excess over the 95th percentile; never 0.
fn upper_unit(ascending: &[f32]) -> f64 {
    let Some(&highest) = ascending.last() else {
        return 1.0;
    };
    let from = ascending.len() * 19 / 20;
    let base = f64::from(ascending[from]);
    let upper = &ascending[from..];
    let excess = upper.iter().map(|&score| f64::from(score) - base).sum::<f64>() / upper.len() as f64;
    // A reference whose upper part is one value says nothing of the unit; a hundredth of the value is one.
    excess.max(0.01 * f64::from(highest).abs()).max(1e-6)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn p_is_rank_plus_a_half_over_n_plus_one() {
        let tail = Tail::new(vec![0.1, 0.2, 0.3, 0.4]);
        assert!((tail.p_value(0.35) - 1.5 / 5.0).abs() < 1e-12);
        assert!((tail.p_value(9.0) - 0.5 / 5.0).abs() < 1e-12);
        assert!((tail.p_value(0.0) - 4.5 / 5.0).abs() < 1e-12);
        assert!((Tail::default().p_value(1.0) - 0.5).abs() < 1e-12);
    }

    proptest! {
        #[test]
        fn bits_never_fall_and_agree_with_p_at_the_reference(
            reference in proptest::collection::vec(0.0_f32..1.0, 1..200),
            mut scores in proptest::collection::vec(-0.5_f64..40.0, 2..50),
        ) {
            let tail = Tail::new(reference.clone());
            scores.sort_unstable_by(f64::total_cmp);
            for pair in scores.windows(2) {
                prop_assert!(tail.bits(pair[0]) <= tail.bits(pair[1]));
            }
            for score in reference.into_iter().map(f64::from) {
                prop_assert!((tail.bits(score) + tail.p_value(score).log2()).abs() < 1e-9);
            }
            prop_assert!(tail.bits(1e300) <= -(0.5 / (tail.n() as f64 + 1.0)).log2() + EXTRAPOLATION_BITS);
        }
    }
}
