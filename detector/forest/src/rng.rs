//! A small counted random generator, and the hash that gives every tree its own.
//!
//! `SplitMix64` (Steele, Lea, Flood 2014). A tree's generator starts at a hash of (seed, tree), so that the trees of
//! seed s and of seed s + 1 have nothing in common; `seed + tree` would make them share all but one.

/// The 64-bit finaliser of `SplitMix64` (David Stafford's variant 13): every input bit moves every output bit.
pub(crate) const fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// One step of the hash over a row's content: multiply to 128 bits and fold.
pub(crate) fn fold(state: u64, word: u64) -> u64 {
    let product = u128::from(state ^ word) * 0x9e37_79b9_7f4a_7c15;
    #[expect(clippy::cast_possible_truncation, reason = "both halves are used")]
    let folded = (product >> 64) as u64 ^ product as u64;
    folded
}

/// Deterministic random numbers: the same start gives the same sequence on every machine.
#[derive(Debug, Clone)]
pub(crate) struct Rng {
    state: u64,
}

impl Rng {
    /// The generator of one purpose (a tree, the reference sample) under a seed.
    pub(crate) const fn new(seed: u64, stream: u64) -> Self {
        let state = mix(mix(seed ^ 0x6a09_e667_f3bc_c909).wrapping_add(mix(stream ^ 0xbb67_ae85_84ca_a73b)));
        Self { state }
    }

    pub(crate) const fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.state)
    }

    /// A whole number in `0..bound` (Lemire 2019, without the rejection: the bias is below 2^-32 for our bounds).
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        let wide = u128::from(self.next()) * bound as u128;
        usize::try_from(wide >> 64).expect("a number below a usize is a usize")
    }

    /// A number in `[0, 1)` with 53 random bits.
    pub(crate) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::Rng;

    #[test]
    fn neighbouring_seeds_and_streams_share_no_number() {
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..40 {
            for stream in 0..40 {
                let mut rng = Rng::new(seed, stream);
                for _ in 0..8 {
                    assert!(seen.insert(rng.next()), "seed {seed} stream {stream}");
                }
            }
        }
    }

    #[test]
    fn numbers_below_a_bound_are_even() {
        let mut rng = Rng::new(7, 7);
        let mut counts = [0_u32; 6];
        for _ in 0..60_000 {
            counts[rng.below(6)] += 1;
        }
        assert!(counts.iter().all(|&n| (9_600..10_400).contains(&n)), "{counts:?}");
    }
}
