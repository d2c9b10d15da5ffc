//! Which clients a model learns from. Pure.
//!
//! Left out: who is labelled a bot or on a deny list, and who was flagged lately, unless an analyst said that it is benign;
//! the flagged only up to a tenth of the rows (beyond it the oldest flags are forgotten: a model that has learnt to call a
//! tenth of a site strange must be able to learn better). A pair of JA4 and network is capped, so that one campaign cannot
//! become the norm (but never so far that less than half of the rows are left: where one network is most of a site, it is the
//! site); a JA4 alone never is, because a popular browser is one.

use std::collections::BTreeMap;

use crate::stats::mix;

/// What is known of a client before training.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// The client.
    pub entity: u64,
    /// Number of its (JA4, network) pair.
    pub pair: u64,
    /// Labelled `bot` or on a deny list.
    pub is_bad: bool,
    /// Labelled `legitimate` or `verified_crawler`: stays in whatever was flagged.
    pub is_good: bool,
    /// When it was last flagged, microseconds since the epoch; None when not within the expiry.
    pub flagged_us: Option<i64>,
}

/// Limits of the selection.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// Largest share of rows left out because they were flagged.
    pub flagged_share: f64,
    /// Largest share of rows of one (JA4, network) pair.
    pub pair_share: f64,
    /// Fewest rows of a pair that are kept whatever the share.
    pub pair_min: usize,
    /// Most rows to train on; the rest is left out by hash.
    pub rows: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            flagged_share: 0.1,
            pair_share: 0.01,
            pair_min: 5,
            rows: 8192,
        }
    }
}

/// The outcome: positions of candidates.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Selection {
    /// Rows to learn from, in a random order.
    pub kept: Vec<usize>,
    /// Clients left out because they were flagged or labelled.
    pub n_excluded: usize,
    /// Clients left out by the cap on pairs.
    pub n_capped: usize,
}

/// Selects. The same candidates in any order and the same seed give the same rows.
pub fn select(candidates: &[Candidate], limits: &Limits, seed: u64) -> Selection {
    let mut selection = Selection::default();
    let mut order: Vec<usize> = (0..candidates.len()).collect();
    order.sort_unstable_by_key(|&idx| (mix(seed, candidates[idx].entity), candidates[idx].entity));
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share of a length"
    )]
    let flagged_max = (candidates.len() as f64 * limits.flagged_share).floor() as usize;
    let mut flagged: Vec<usize> = order
        .iter()
        .copied()
        .filter(|&idx| {
            let c = &candidates[idx];
            c.flagged_us.is_some() && !c.is_bad && !c.is_good
        })
        .collect();
    flagged.sort_by_key(|&idx| std::cmp::Reverse(candidates[idx].flagged_us));
    flagged.truncate(flagged_max);
    flagged.sort_unstable();
    let is_out = |idx: usize| candidates[idx].is_bad || flagged.binary_search(&idx).is_ok();
    let n_left = (0..candidates.len()).filter(|&idx| !is_out(idx)).count();
    selection.n_excluded = candidates.len() - n_left;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share of a length"
    )]
    let mut pair_max = ((n_left as f64 * limits.pair_share).ceil() as usize).max(limits.pair_min);
    let mut sizes = BTreeMap::<u64, usize>::new();
    for idx in (0..candidates.len()).filter(|&idx| !is_out(idx)) {
        *sizes.entry(candidates[idx].pair).or_default() += 1;
    }
    // Where one network is most of a site, it is the site: the cap never takes more than half.
    while sizes.values().map(|n| (*n).min(pair_max)).sum::<usize>() * 2 < n_left {
        pair_max *= 2;
    }
    let mut pairs = BTreeMap::<u64, usize>::new();
    selection.kept = order
        .into_iter()
        .filter(|&idx| {
            if is_out(idx) {
                return false;
            }
            let n = pairs.entry(candidates[idx].pair).or_default();
            *n += 1;
            if *n > pair_max {
                selection.n_capped += 1;
            }
            *n <= pair_max
        })
        .take(limits.rows)
        .collect();
    selection
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(entity: u64) -> Candidate {
        Candidate {
            entity,
            pair: entity,
            is_bad: false,
            is_good: false,
            flagged_us: None,
        }
    }

    fn has(selection: &Selection, idx: usize) -> bool {
        selection.kept.contains(&idx)
    }

    #[test]
    fn nothing_is_lost_nor_taken_twice_and_the_order_is_random() {
        let candidates: Vec<_> = (0..1000).map(client).collect();
        let mut kept = select(&candidates, &Limits::default(), 1).kept;
        assert!(!kept.is_sorted());
        kept.sort_unstable();
        assert_eq!(kept, (0..1000).collect::<Vec<_>>());
    }

    #[test]
    fn at_most_a_tenth_is_left_out_and_the_oldest_flags_go_first() {
        let mut candidates: Vec<_> = (0..100).map(client).collect();
        for (age, candidate) in candidates.iter_mut().take(30).enumerate() {
            candidate.flagged_us = Some(1000 - i64::try_from(age).unwrap());
        }
        let selection = select(&candidates, &Limits::default(), 1);
        assert_eq!(selection.n_excluded, 10);
        assert!((0..10).all(|idx| !has(&selection, idx)) && (10..30).all(|idx| has(&selection, idx)));
    }

    #[test]
    fn bots_stay_out_and_a_benign_verdict_brings_back() {
        let mut candidates: Vec<_> = (0..100).map(client).collect();
        candidates[0].is_bad = true;
        candidates[1].flagged_us = Some(5);
        candidates[2].flagged_us = Some(5);
        candidates[2].is_good = true;
        let selection = select(&candidates, &Limits::default(), 1);
        assert!(!has(&selection, 0) && !has(&selection, 1) && has(&selection, 2));
    }

    #[test]
    fn pairs_are_capped_and_a_popular_fingerprint_is_not() {
        let mut candidates: Vec<_> = (0..1000).map(client).collect();
        // A campaign: 300 clients of one fingerprint in one network.
        for candidate in candidates.iter_mut().take(300) {
            candidate.pair = 7_000_000;
        }
        let selection = select(&candidates, &Limits::default(), 1);
        assert_eq!((0..300).filter(|&idx| has(&selection, idx)).count(), 10);
        assert_eq!(selection.n_capped, 290);
        assert!((300..1000).all(|idx| has(&selection, idx)));
    }

    #[test]
    fn a_site_of_one_network_is_still_learnt_from() {
        let mut candidates: Vec<_> = (0..300).map(client).collect();
        for candidate in &mut candidates {
            candidate.pair = 1;
        }
        let selection = select(&candidates, &Limits::default(), 1);
        assert!(selection.kept.len() >= 150, "{}", selection.n_capped);
    }

    #[test]
    fn the_order_of_rows_does_not_matter() {
        let candidates: Vec<_> = (0..500).map(client).collect();
        let mut turned = candidates.clone();
        turned.reverse();
        let entities = |candidates: &[Candidate], selection: &Selection| -> Vec<u64> {
            selection.kept.iter().map(|&idx| candidates[idx].entity).collect()
        };
        let limits = Limits::default();
        assert_eq!(
            entities(&candidates, &select(&candidates, &limits, 9)),
            entities(&turned, &select(&turned, &limits, 9))
        );
    }

    #[test]
    fn nobody_is_no_panic() {
        assert_eq!(select(&[], &Limits::default(), 1), Selection::default());
    }
}
