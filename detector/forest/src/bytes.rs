//! The saved form of a model: versioned, compact, checked. Reading never trusts a byte.
//!
//! ```text
//! "JA4M" | format u16 | algorithm u16 | checksum u64 of what follows
//! training: from i64, to i64, rows u64, seed u64, threshold f64 (NaN: none)
//! features: count, each name with its length; hash u64 of the names
//! missing policies: count, each a kind and a value
//! forest: sample size, trees; a tree in preorder: 0 = leaf, else feature + 1, cut f32, rows on the left
//! tables: one for each feature: rows present, then 109 quantiles f32 or none
//! tails: forest, robust z, sum: count, f32 ascending
//! ```
//! Numbers are little-endian; counts and features are LEB128. A leaf is not written where the reader knows that it
//! must be one (a single row, or the depth limit), and child counts follow from the parent's: a tree of 256 rows takes
//! about six bytes for each cut. The format number changes with the layout, the algorithm number with the meaning of a
//! score; a reader refuses what it does not know.

use crate::forest::Forest;
use crate::model::{Model, Training};
use crate::params::{MAX_FEATURES, MAX_SUBSAMPLE, MAX_TREES, Missing};
use crate::rng::fold;
use crate::robust::{FeatureTable, GRID, TopMean};
use crate::tail::Tail;
use crate::tree::{Node, Tree, depth_limit};

const MAGIC: &[u8; 4] = b"JA4M";
/// The layout of the bytes.
pub const FORMAT: u16 = 1;
/// The meaning of scores: forest of Liu, Ting, Zhou with cuts and generator as in this crate, robust z of three.
pub const ALGORITHM: u16 = 1;
/// Reference scores and name lengths are far below this; it bounds what a file can ask for.
const MAX_TAIL: usize = 1 << 16;

/// Why bytes are no model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// Something else altogether.
    #[error("these bytes are no saved model: they do not start with JA4M")]
    Magic,
    /// Another layout.
    #[error("the saved model has format {0} and this program reads {FORMAT}: train the model again")]
    Format(u16),
    /// Another meaning of scores.
    #[error("the saved model has algorithm {0} and this program has {ALGORITHM}: train the model again")]
    Algorithm(u16),
    /// Bits changed.
    #[error("the saved model is damaged: its checksum differs; load another version, or train it again")]
    Checksum,
    /// Too short.
    #[error("the saved model ends within {0}: load another version, or train it again")]
    Short(&'static str),
    /// A number that cannot be.
    #[error("the saved model has an impossible {0}: load another version, or train it again")]
    Invalid(&'static str),
}

/// A 64-bit hash of feature names and their order, to tell models apart at a glance.
pub fn feature_hash<S: AsRef<str>>(names: &[S]) -> u64 {
    names.iter().fold(names.len() as u64, |state, name| {
        hash_bytes(fold(state, name.as_ref().len() as u64), name.as_ref().as_bytes())
    })
}

fn hash_bytes(state: u64, bytes: &[u8]) -> u64 {
    bytes.chunks(8).fold(state, |state, chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        // A multiplication can lose a zero state; the length keeps it apart.
        fold(state.wrapping_add(chunk.len() as u64), u64::from_le_bytes(word)).wrapping_add(0x9e37_79b9)
    })
}

impl Model {
    /// The saved form.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut body = Vec::new();
        let training = &self.training;
        body.extend(training.from_s.to_le_bytes());
        body.extend(training.to_s.to_le_bytes());
        body.extend(training.n_rows.to_le_bytes());
        body.extend(training.seed.to_le_bytes());
        body.extend(self.threshold_bits.unwrap_or(f64::NAN).to_le_bytes());
        put_count(&mut body, training.features.len());
        for name in &training.features {
            put_count(&mut body, name.len());
            body.extend(name.as_bytes());
        }
        body.extend(feature_hash(&training.features).to_le_bytes());
        put_count(&mut body, self.forest.missing.len());
        for missing in &self.forest.missing {
            let (kind, value) = match missing {
                Missing::BothBranches => (0, 0.0),
                Missing::Fill(value) => (1, *value),
                Missing::Refuse => (2, 0.0),
            };
            body.push(kind);
            body.extend(value.to_le_bytes());
        }
        put_count(&mut body, self.forest.sample_size);
        put_count(&mut body, self.forest.trees.len());
        for tree in &self.forest.trees {
            put_tree(&mut body, tree, depth_limit(self.forest.sample_size));
        }
        for table in &self.tables {
            put_count(&mut body, table.n_present as usize);
            if table.n_present > 0 {
                put_floats(&mut body, &table.quantiles);
            }
        }
        for tail in [&self.forest_tail, &self.robust_tail, &self.sum_tail] {
            put_count(&mut body, tail.reference.len());
            put_floats(&mut body, &tail.reference);
        }
        let mut bytes = Vec::with_capacity(body.len() + 16);
        bytes.extend(MAGIC);
        bytes.extend(FORMAT.to_le_bytes());
        bytes.extend(ALGORITHM.to_le_bytes());
        bytes.extend(hash_bytes(1, &body).to_le_bytes());
        bytes.extend(body);
        bytes
    }

    /// Reads the saved form.
    ///
    /// # Errors
    /// When the bytes are no model, or of a format or an algorithm that this program does not know, or damaged.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, LoadError> {
        let mut header = Reader { bytes };
        if header.array::<4>("the header").ok().as_ref() != Some(MAGIC) {
            return Err(LoadError::Magic);
        }
        let format = u16::from_le_bytes(header.array("the header")?);
        if format != FORMAT {
            return Err(LoadError::Format(format));
        }
        let algorithm = u16::from_le_bytes(header.array("the header")?);
        if algorithm != ALGORITHM {
            return Err(LoadError::Algorithm(algorithm));
        }
        let checksum = u64::from_le_bytes(header.array("the header")?);
        if checksum != hash_bytes(1, header.bytes) {
            return Err(LoadError::Checksum);
        }
        read_body(header)
    }
}

/// Reads what follows the header.
fn read_body(mut reader: Reader<'_>) -> Result<Model, LoadError> {
    let from_s = i64::from_le_bytes(reader.array("the training window")?);
    let to_s = i64::from_le_bytes(reader.array("the training window")?);
    let n_rows = u64::from_le_bytes(reader.array("the number of rows")?);
    let seed = u64::from_le_bytes(reader.array("the seed")?);
    let threshold = f64::from_le_bytes(reader.array("the threshold")?);
    let n_features = reader.count("number of features", MAX_FEATURES)?;
    let mut features = Vec::new();
    for _ in 0..n_features {
        let length = reader.count("length of a name", 255)?;
        let name = str::from_utf8(reader.take(length, "a feature name")?)
            .map_err(|_| LoadError::Invalid("feature name"))?;
        features.push(name.to_owned());
    }
    if u64::from_le_bytes(reader.array("the hash of the features")?) != feature_hash(&features) {
        return Err(LoadError::Invalid("hash of the features"));
    }
    let n_policies = reader.count("number of policies", n_features)?;
    if n_policies != 0 && n_policies != n_features {
        return Err(LoadError::Invalid("number of policies"));
    }
    let mut missing = Vec::new();
    for _ in 0..n_policies {
        let [kind] = reader.array("a policy")?;
        let value = f32::from_le_bytes(reader.array("a policy")?);
        missing.push(match kind {
            0 => Missing::BothBranches,
            1 if value.is_finite() => Missing::Fill(value),
            2 => Missing::Refuse,
            _ => return Err(LoadError::Invalid("policy")),
        });
    }
    let sample_size = reader.count("sample size", MAX_SUBSAMPLE)?;
    let n_trees = reader.count("number of trees", MAX_TREES)?;
    if (n_trees == 0) != (sample_size == 0) {
        return Err(LoadError::Invalid("number of trees"));
    }
    let mut trees = Vec::new();
    for _ in 0..n_trees {
        trees.push(reader.tree(n_features, sample_size)?);
    }
    let mut tables = Vec::new();
    for _ in 0..n_features {
        let n_present = reader.count("number of values", MAX_TAIL)?;
        let length = if n_present > 0 { GRID.len() } else { 0 };
        let quantiles = reader.ascending(length, "a quantile table")?;
        tables.push(FeatureTable::from_quantiles(
            quantiles,
            u32::try_from(n_present).map_err(|_| LoadError::Invalid("number of values"))?,
        ));
    }
    let mut tails = [const { Vec::new() }; 3];
    for tail in &mut tails {
        let length = reader.count("number of reference scores", MAX_TAIL)?;
        *tail = reader.ascending(length, "the reference scores")?;
    }
    if !reader.bytes.is_empty() {
        return Err(LoadError::Invalid("length"));
    }
    let [forest_tail, robust_tail, sum_tail] = tails.map(Tail::new);
    Ok(Model {
        training: Training {
            features,
            from_s,
            to_s,
            n_rows,
            seed,
        },
        forest: Forest::from_trees(n_features, sample_size, missing, trees, 1),
        top_mean: TopMean::new(&tables),
        tables,
        forest_tail,
        robust_tail,
        sum_tail,
        threshold_bits: (!threshold.is_nan()).then_some(threshold),
    })
}

fn put_count(out: &mut Vec<u8>, mut value: usize) {
    loop {
        let low = u8::try_from(value & 0x7f).expect("seven bits fit into a byte");
        value >>= 7;
        if value == 0 {
            out.push(low);
            return;
        }
        out.push(low | 0x80);
    }
}

fn put_floats(out: &mut Vec<u8>, values: &[f32]) {
    out.extend(values.iter().flat_map(|value| value.to_le_bytes()));
}

fn put_tree(out: &mut Vec<u8>, tree: &Tree, limit: u32) {
    let mut open = vec![(0_usize, 0_u32)];
    while let Some((idx, depth)) = open.pop() {
        if tree.counts[idx] < 2 || depth == limit {
            continue;
        }
        if tree.is_leaf(idx) {
            put_count(out, 0);
            continue;
        }
        let node = tree.nodes[idx];
        put_count(out, node.feature() + 1);
        out.extend(node.cut.to_le_bytes());
        put_count(out, usize::from(tree.counts[node.left()]));
        open.push((node.left() + 1, depth + 1));
        open.push((node.left(), depth + 1));
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize, what: &'static str) -> Result<&'a [u8], LoadError> {
        let (taken, rest) = self
            .bytes
            .split_at_checked(length)
            .ok_or(LoadError::Short(what))?;
        self.bytes = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], LoadError> {
        self.take(N, what)?.try_into().map_err(|_| LoadError::Short(what))
    }

    /// A count of at most `limit`, which is below 2^28.
    fn count(&mut self, what: &'static str, limit: usize) -> Result<usize, LoadError> {
        let mut value = 0_usize;
        for shift in [0, 7, 14, 21] {
            let [byte] = self.array(what)?;
            value |= usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return if value <= limit {
                    Ok(value)
                } else {
                    Err(LoadError::Invalid(what))
                };
            }
        }
        Err(LoadError::Invalid(what))
    }

    fn ascending(&mut self, length: usize, what: &'static str) -> Result<Vec<f32>, LoadError> {
        let (words, _) = self.take(length * 4, what)?.as_chunks::<4>();
        let values: Vec<f32> = words.iter().map(|word| f32::from_le_bytes(*word)).collect();
        let is_fine = values.iter().all(|value| value.is_finite()) && values.is_sorted();
        is_fine.then_some(values).ok_or(LoadError::Invalid(what))
    }

    fn tree(&mut self, n_features: usize, sample_size: usize) -> Result<Tree, LoadError> {
        let limit = depth_limit(sample_size);
        let to_u16 = |value: usize| u16::try_from(value).map_err(|_| LoadError::Invalid("tree"));
        let mut tree = Tree {
            nodes: vec![Node::leaf(0)],
            counts: vec![to_u16(sample_size)?],
            depth: 0,
        };
        let mut open = vec![(0_usize, 0_u32)];
        while let Some((idx, depth)) = open.pop() {
            let n = usize::from(tree.counts[idx]);
            if n < 2 || depth == limit {
                continue;
            }
            let code = self.count("feature of a cut", n_features)?;
            if code == 0 {
                continue;
            }
            let cut = f32::from_le_bytes(self.array("a cut")?);
            let n_left = self.count("number of rows", n - 1)?;
            if !cut.is_finite() || n_left == 0 {
                return Err(LoadError::Invalid("cut"));
            }
            // Every cut has rows on both sides, so there are fewer than twice as many nodes as rows.
            let left = tree.nodes.len();
            tree.nodes[idx] = Node::split(code - 1, cut, left);
            tree.nodes.extend([Node::leaf(left), Node::leaf(left + 1)]);
            tree.counts.extend([to_u16(n_left)?, to_u16(n - n_left)?]);
            tree.depth = tree.depth.max(depth + 1);
            open.push((left + 1, depth + 1));
            open.push((left, depth + 1));
        }
        tree.pad();
        Ok(tree)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ForestParams, Rows};
    use ndarray::Array2;
    use proptest::prelude::*;

    fn model(n_rows: usize) -> Model {
        let rows = Array2::from_shape_fn((n_rows, 4), |(i, j)| ((i * 37 + j * 11) % (83 + j)) as f32);
        let features = ["requests", "paths", "errors", "gap"].map(String::from).to_vec();
        let training = Training {
            features,
            from_s: 1_700_000_000,
            to_s: 1_700_003_600,
            ..Training::default()
        };
        let params = ForestParams::new(5).n_trees(20).missing(vec![
            Missing::BothBranches,
            Missing::Fill(-1.0),
            Missing::Refuse,
            Missing::BothBranches,
        ]);
        let mut model = Model::fit(&rows, &params, training).unwrap();
        model.set_threshold_bits(Some(17.5));
        model
    }

    /// What a file with these contents and a right checksum says.
    fn load_body(body: &[u8]) -> Result<Model, LoadError> {
        read_body(Reader { bytes: body })
    }

    #[test]
    fn a_loaded_model_is_the_saved_one() {
        for n_rows in [0, 1, 2, 3, 100, 1_000] {
            let model = model(n_rows);
            assert_eq!(
                Model::from_bytes(&model.to_bytes()).unwrap(),
                model,
                "{n_rows} rows"
            );
        }
    }

    #[test]
    fn scores_survive_the_round_trip() {
        let model = model(500);
        let rows = Array2::from_shape_fn((300, 4), |(i, j)| ((i * 7 + j * 3) % 101) as f32);
        let loaded = Model::from_bytes(&model.to_bytes()).unwrap();
        assert_eq!(
            loaded.evaluate(Rows::from(&rows)),
            model.evaluate(Rows::from(&rows))
        );
    }

    #[test]
    fn another_format_or_algorithm_is_refused() {
        let mut bytes = model(10).to_bytes();
        bytes[4] = 9;
        assert_eq!(Model::from_bytes(&bytes), Err(LoadError::Format(9)));
        bytes[4] = 1;
        bytes[6] = 7;
        assert_eq!(Model::from_bytes(&bytes), Err(LoadError::Algorithm(7)));
        assert_eq!(Model::from_bytes(b"PK.."), Err(LoadError::Magic));
        assert_eq!(Model::from_bytes(b""), Err(LoadError::Magic));
    }

    #[test]
    fn every_flipped_bit_is_seen() {
        let bytes = model(60).to_bytes();
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << (at % 8);
            assert!(Model::from_bytes(&damaged).is_err(), "byte {at}");
        }
    }

    proptest! {
        #[test]
        fn prop_hostile_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            prop_assert!(Model::from_bytes(&bytes).is_err());
            prop_assert!(load_body(&bytes).is_err());
        }

        #[test]
        fn prop_a_hostile_body_with_a_right_checksum_never_panics(
            n_rows in 0_usize..80,
            edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
            cut in any::<prop::sample::Index>(),
        ) {
            let mut body = model(n_rows).to_bytes().split_off(16);
            for (at, byte) in edits {
                let at = at.index(body.len());
                body[at] = byte;
            }
            if cut.index(3) == 0 {
                body.truncate(cut.index(body.len()));
            }
            // What is accepted must also be usable.
            if let Ok(model) = load_body(&body) {
                let rows = Array2::from_elem((40, model.forest().n_features()), 3.5_f32);
                let evidence = model.evaluate(Rows::from(&rows)).unwrap();
                prop_assert!(evidence.iter().all(|e| e.bits.is_finite() && (0.0..=1.0).contains(&e.score())));
                let row = rows.row(0).to_vec();
                prop_assert!(model.reasoner().reasons(&row, &evidence[0]).is_ok());
            }
        }
    }
}
