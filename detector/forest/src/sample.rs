//! Which rows each tree gets: drawn without replacement, by rank in an order that does not depend on the input's.
//!
//! The canonical order sorts rows by a 64-bit hash of their values (as `f32`), so equal rows are neighbours and
//! interchangeable. Only the drawn ranks are looked up: rows are counted into buckets by the top bits of the hash,
//! and only the buckets that hold a drawn rank are sorted. Two different rows of equal hash (once in 10^8 fits of a
//! million rows) would be ordered by position.

use crate::params::{Missing, Sampling, ValidForestParams};
use crate::rng::{Rng, fold, mix};
use crate::rows::{Cells, Rows};

/// Stream numbers below this are trees; the reference sample has one of its own above.
pub(crate) const REFERENCE_STREAM: u64 = 1 << 40;

/// Rows of up to so many features are hashed whole. Wider ones are first ordered by one feature, because reading memory
/// is what a pass over a large matrix costs; ties look at the others.
const NARROW: usize = 4;

/// Draws `count` different numbers below `n`, in random order.
pub(crate) fn draw(rng: &mut Rng, n: usize, count: usize) -> Vec<usize> {
    if count >= n {
        return (0..n).collect();
    }
    // Floyd's algorithm; a sorted vector would be quadratic, so membership is a small open table.
    let mask = (count * 4).next_power_of_two() - 1;
    let mut table = vec![usize::MAX; mask + 1];
    let mut insert = |value: usize| {
        #[expect(clippy::cast_possible_truncation, reason = "masked")]
        let mut slot = mix(value as u64) as usize & mask;
        loop {
            if table[slot] == value {
                return false;
            }
            if table[slot] == usize::MAX {
                table[slot] = value;
                return true;
            }
            slot = (slot + 1) & mask;
        }
    };
    let mut drawn = Vec::with_capacity(count);
    for last in n - count..n {
        let candidate = rng.below(last + 1);
        let value = if insert(candidate) {
            candidate
        } else {
            insert(last);
            last
        };
        drawn.push(value);
    }
    drawn
}

/// The rows of every tree and of one more sample of `n_reference` rows, as row numbers.
pub(crate) struct Samples {
    pub(crate) trees: Vec<Vec<u32>>,
    pub(crate) reference: Vec<u32>,
}

pub(crate) fn samples(rows: &Rows<'_>, params: &ValidForestParams, n_reference: usize) -> Samples {
    let n = rows.n_rows();
    let ranks = |stream: u64, count: usize| draw(&mut Rng::new(params.seed, stream), n, count);
    let mut trees: Vec<Vec<usize>> = (0..params.n_trees)
        .map(|tree| ranks(tree as u64, params.subsample_size))
        .collect();
    trees.push(ranks(REFERENCE_STREAM, n_reference));
    let mut resolved = match params.sampling {
        Sampling::Position => trees
            .into_iter()
            .map(|ranks| ranks.into_iter().map(to_u32).collect())
            .collect(),
        Sampling::Content => resolve(rows, &params.missing, &trees),
    };
    let reference = resolved.pop().unwrap_or_else(Vec::new);
    Samples {
        trees: resolved,
        reference,
    }
}

fn to_u32(row: usize) -> u32 {
    u32::try_from(row).expect("the number of rows was checked in fit")
}

/// Turns ranks in the canonical order into row numbers.
fn resolve(rows: &Rows<'_>, missing: &[Missing], wanted: &[Vec<usize>]) -> Vec<Vec<u32>> {
    let n = rows.n_rows();
    if n == 0 {
        return wanted.iter().map(|_| Vec::new()).collect();
    }
    let n_features = rows.n_features();
    let cells = rows.cells();
    let bits = n.ilog2().saturating_sub(2).clamp(1, 18);
    let mut n_key_features = if n_features <= NARROW { n_features } else { 1 };
    let mut keys = hash_rows(&cells, missing, n, n_key_features);
    let mut starts = bucket_starts(&keys, bits);
    if n_key_features < n_features && is_crowded(&starts, n) {
        n_key_features = n_features;
        keys = hash_rows(&cells, missing, n, n_key_features);
        starts = bucket_starts(&keys, bits);
    }
    // Which buckets hold a wanted rank: mark the ranks, then ask for each bucket's span.
    let mut is_wanted = Bits::new(n);
    for &rank in wanted.iter().flatten() {
        is_wanted.set(rank);
    }
    let mut is_kept = Bits::new(n);
    // Rows of buckets that nobody asks for all go to place 0: chance decides, and no branch can be predicted.
    let mut cursor = vec![0_u32; starts.len() - 1];
    let mut next = 1;
    for (bucket, span) in starts.windows(2).enumerate() {
        let (start, end) = (span[0] as usize, span[1] as usize);
        if is_wanted.any(start, end) {
            (start..end).for_each(|rank| is_kept.set(rank));
            cursor[bucket] = next;
            next += span[1] - span[0];
        }
    }
    let mut order = vec![0_u32; next as usize];
    for (row, &key) in (0_u32..).zip(&keys) {
        let at = &mut cursor[bucket_of(key, bits)];
        order[*at as usize] = row;
        *at += u32::from(*at != 0);
    }
    let order = &mut order[1..];
    let key_of = |row: u32| keys[row as usize];
    for bucket in order
        .chunk_by_mut(|left, right| bucket_of(key_of(*left), bits) == bucket_of(key_of(*right), bits))
        .filter(|bucket| bucket.len() > 1)
    {
        bucket.sort_unstable_by_key(|row| key_of(*row));
        if n_key_features < n_features {
            for ties in bucket.chunk_by_mut(|left, right| key_of(*left) == key_of(*right)) {
                if ties.len() > 1 {
                    ties.sort_by_cached_key(|&row| hash_row(rows, missing, row as usize));
                }
            }
        }
    }
    let position = is_kept.positions();
    wanted
        .iter()
        .map(|ranks| ranks.iter().map(|&rank| order[position(rank)]).collect())
        .collect()
}

/// A set of ranks.
struct Bits {
    words: Vec<u64>,
}

impl Bits {
    fn new(n: usize) -> Self {
        Self {
            words: vec![0; n.div_ceil(64)],
        }
    }

    fn set(&mut self, bit: usize) {
        self.words[bit / 64] |= 1 << (bit % 64);
    }

    /// Whether a bit in `from..to` is set.
    fn any(&self, from: usize, to: usize) -> bool {
        if from >= to {
            return false;
        }
        let (first, last) = (from / 64, (to - 1) / 64);
        (first..=last).any(|word| {
            let mut value = self.words[word];
            if word == first {
                value &= u64::MAX << (from % 64);
            }
            if word == last {
                value &= u64::MAX >> (63 - (to - 1) % 64);
            }
            value != 0
        })
    }

    /// A function from a bit that is set to how many are set before it.
    fn positions(&self) -> impl Fn(usize) -> usize {
        let before: Vec<usize> = self
            .words
            .iter()
            .scan(0, |sum, word| {
                let before = *sum;
                *sum += word.count_ones() as usize;
                Some(before)
            })
            .collect();
        move |bit| {
            let below = self.words[bit / 64] & !(u64::MAX << (bit % 64));
            before[bit / 64] + below.count_ones() as usize
        }
    }
}

/// The bits of a value, the same for equal ones: one zero, one NaN.
fn canonical(value: f32) -> u64 {
    if value.is_nan() {
        return 0x7fc0_0000;
    }
    u64::from((value + 0.0).to_bits())
}

fn hash_row(rows: &Rows<'_>, missing: &[Missing], row: usize) -> u64 {
    (0..rows.n_features()).fold(1, |state, feature| {
        let fill = missing.get(feature).copied().unwrap_or_default();
        fold(state, canonical(fill.fill(rows.value(row, feature))))
    })
}

/// The bucket of a key: its top bits.
fn bucket_of(key: u64, bits: u32) -> usize {
    #[expect(clippy::cast_possible_truncation, reason = "at most 18 bits are left")]
    let bucket = (key >> (64 - bits)) as usize;
    bucket
}

/// Where each bucket starts in the canonical order, and the end of the last.
fn bucket_starts(keys: &[u64], bits: u32) -> Vec<u32> {
    let mut starts = vec![0_u32; (1 << bits) + 1];
    for &key in keys {
        starts[bucket_of(key, bits) + 1] += 1;
    }
    for bucket in 1..starts.len() {
        starts[bucket] += starts[bucket - 1];
    }
    starts
}

/// Whether the few features of a key leave so many ties that whole rows should be hashed at once. A bucket of
/// different keys holds four to eight rows.
fn is_crowded(starts: &[u32], n: usize) -> bool {
    let n_in_large: u32 = starts
        .windows(2)
        .map(|span| span[1] - span[0])
        .filter(|&size| size > 32)
        .sum();
    n_in_large as usize > n / 16
}

/// Hashes the first features of all rows.
fn hash_rows(cells: &Cells<'_>, missing: &[Missing], n: usize, n_features: usize) -> Vec<u64> {
    let mut keys = vec![0_u64; n];
    let columns: Vec<(u64, Missing)> = (0..n_features)
        .map(|feature| {
            (
                mix(feature as u64),
                missing.get(feature).copied().unwrap_or_default(),
            )
        })
        .collect();
    cells.fold_rows(&mut keys, n_features, |key, feature, value| {
        let (salt, fill) = columns[feature];
        fold(key ^ salt, canonical(fill.fill(value)))
    });
    keys
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Array2;

    #[test]
    fn a_draw_has_no_number_twice_and_every_number_is_as_likely() {
        let mut counts = [0_u32; 40];
        for stream in 0..4_000 {
            let mut drawn = draw(&mut Rng::new(1, stream), 40, 10);
            for &value in &drawn {
                counts[value] += 1;
            }
            drawn.sort_unstable();
            drawn.dedup();
            assert_eq!(drawn.len(), 10);
        }
        assert!(counts.iter().all(|&n| (850..1_150).contains(&n)), "{counts:?}");
    }

    #[test]
    fn ranks_give_the_same_contents_whatever_the_order_of_rows() {
        // Few distinct values, so that ties are everywhere; 11 features, so that a key is not the whole row.
        let rows = Array2::from_shape_fn((3_000, 11), |(i, j)| {
            f32::from(u8::try_from((i * (j + 3)) % 5).unwrap())
        });
        let reversed = rows.slice(ndarray::s![..;-1, ..]).to_owned();
        let wanted: Vec<Vec<usize>> = (0..20).map(|s| draw(&mut Rng::new(5, s), 3_000, 64)).collect();
        let contents = |matrix: &Array2<f32>| -> Vec<Vec<Vec<u32>>> {
            resolve(&Rows::from(matrix), &[], &wanted)
                .iter()
                .map(|sample| {
                    sample
                        .iter()
                        .map(|&row| matrix.row(row as usize).iter().map(|v| v.to_bits()).collect())
                        .collect()
                })
                .collect()
        };
        assert_eq!(contents(&rows), contents(&reversed));
    }

    #[test]
    fn every_rank_is_one_row() {
        let rows = Array2::from_shape_fn((777, 2), |(i, j)| {
            f32::from(u16::try_from(i / 3 * (j + 1)).unwrap())
        });
        let mut order = resolve(&Rows::from(&rows), &[], &[(0..777).collect()]).remove(0);
        order.sort_unstable();
        assert_eq!(order, (0..777).collect::<Vec<u32>>());
    }
}
