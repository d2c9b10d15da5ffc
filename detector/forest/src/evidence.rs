//! Voices put together: bits of evidence, split first among voices and then among features.
//!
//! The combined evidence is the sum of the voices' bits (Fisher's combination in the tail): what several voices find
//! strange outranks what one does, and every voice can only add. Because it is a sum, the split is exact: a voice's
//! contribution is its bits, a feature's contribution is its share of them.

/// One reason: bits that a voice gives because of a feature.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Share {
    /// The column; `None` holds what cannot be given to any feature.
    pub feature: Option<usize>,
    /// Bits, at least 0.
    pub bits: f64,
}

/// Splits a voice's bits among features in proportion to what speaks for strangeness (numbers above 0); what speaks
/// against it gets nothing. The shares add up to `bits`. Without any number above 0 all bits stay unassigned.
pub fn split_bits(bits: f64, attributions: &[f64]) -> Vec<Share> {
    let positive = |value: f64| if value.is_finite() { value.max(0.0) } else { 0.0 };
    let total: f64 = attributions.iter().map(|&value| positive(value)).sum();
    if total <= 0.0 {
        return vec![Share { feature: None, bits }];
    }
    attributions
        .iter()
        .enumerate()
        .filter(|&(_, &value)| positive(value) > 0.0)
        .map(|(feature, &value)| Share {
            feature: Some(feature),
            bits: bits * (positive(value) / total),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_speaks_against_gets_nothing() {
        let shares = split_bits(6.0, &[2.0, -5.0, 1.0]);
        assert_eq!(shares.len(), 2);
        assert_eq!((shares[0].feature, shares[0].bits), (Some(0), 4.0));
        assert_eq!((shares[1].feature, shares[1].bits), (Some(2), 2.0));
    }

    proptest! {
        #[test]
        fn shares_add_up(bits in 0.0_f64..60.0, attributions in proptest::collection::vec(-5.0_f64..5.0, 0..90)) {
            let sum: f64 = split_bits(bits, &attributions).iter().map(|share| share.bits).sum();
            prop_assert!((sum - bits).abs() < 1e-9);
        }
    }
}
