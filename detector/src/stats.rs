//! Small arithmetic: scores from bits, quantiles and percentiles, hashes that are the same everywhere. Pure.

/// Combined score, 0 to 1, of bits of evidence.
pub fn score_of_bits(bits: f32) -> f32 {
    1.0 - (-bits).exp2()
}

/// Levels of the quantile tables, per cent.
pub const LEVELS: [f32; 21] = [
    0.0, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 90.0, 95.0, 97.5, 99.0,
    99.5, 99.9, 100.0,
];

/// The quantiles of sorted values at [`LEVELS`]; all NaN without values.
pub fn quantiles(sorted: &[f32]) -> [f32; LEVELS.len()] {
    LEVELS.map(|level| quantile(sorted, level / 100.0))
}

/// One quantile of sorted values, `share` from 0 to 1, interpolated; NaN without values.
pub fn quantile(sorted: &[f32], share: f32) -> f32 {
    let Some(last) = sorted.len().checked_sub(1) else {
        return f32::NAN;
    };
    let at = f64::from(share.clamp(0.0, 1.0)) * last as f64;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a position in the slice"
    )]
    let below = at.floor() as usize;
    let above = (below + 1).min(last);
    #[expect(clippy::cast_possible_truncation, reason = "between 0 and 1")]
    let part = (at - below as f64) as f32;
    sorted[below] + (sorted[above] - sorted[below]) * part
}

/// Percentile of a value by a table of [`quantiles`]; NaN for a missing value or an empty table. Of a run of equal
/// quantiles the middle counts.
pub fn percentile(table: &[f32], value: f32) -> f32 {
    if value.is_nan() || table.len() != LEVELS.len() || table[0].is_nan() {
        return f32::NAN;
    }
    let below = table.partition_point(|level| *level < value);
    let above = table.partition_point(|level| *level <= value);
    if above > below {
        return f32::midpoint(LEVELS[below], LEVELS[above - 1]);
    }
    match below {
        0 => 0.0,
        n if n == LEVELS.len() => 100.0,
        n => {
            let part = (value - table[n - 1]) / (table[n] - table[n - 1]);
            LEVELS[n - 1] + (LEVELS[n] - LEVELS[n - 1]) * part
        }
    }
}

/// A number of 64 bits whose every bit depends on all of both: the finaliser of splitmix64.
pub const fn mix(a: u64, b: u64) -> u64 {
    let mut z = a ^ b.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// FNV-1a of a text, the same on every machine: seeds and ids are made of it.
pub fn text_hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
#[allow(clippy::float_cmp, reason = "exact by construction")]
mod tests {
    use super::*;

    #[test]
    fn percentiles_agree_with_the_values() {
        let sorted: Vec<f32> = (0_u16..=1000).map(f32::from).collect();
        let table = quantiles(&sorted);
        for value in [0.0_f32, 1.0, 333.0, 500.0, 998.0, 1000.0] {
            assert!((percentile(&table, value) - value / 10.0).abs() < 0.2, "{value}");
        }
        assert_eq!(percentile(&table, -1.0), 0.0);
        assert_eq!(percentile(&table, 2000.0), 100.0);
        assert!(percentile(&quantiles(&[]), 1.0).is_nan());
    }

    #[test]
    fn a_run_of_equal_values_has_its_middle() {
        let mut sorted = vec![0.0_f32; 900];
        sorted.extend((1_u16..=100).map(f32::from));
        let table = quantiles(&sorted);
        assert!(percentile(&table, 0.0) < 50.0 && percentile(&table, 50.0) > 90.0);
    }
}
