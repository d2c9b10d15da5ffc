//! A model of one segment and window: what is usual, how strange a client is by two voices, and why; and its saved form.
//!
//! The forest and the robust z of directed features are calibrated on a reference: raw scores of rows by a model that was not
//! fitted on them. Of many rows half are the reference; of few each is, by models of the others, and the model that is kept is
//! fitted on all. The same raw score has the same p-value in every cycle. A voice's part of the evidence is
//! `max(0, bits - 1) / 2`: nothing below the median, and half because the two voices see the same rows and agree more often
//! than independent ones would. The memory is a few benign rows of this and earlier trainings; the gate asks a new model what
//! it would say of them.

use detector_forest::{ForestParams, Sampling, Tail, Training, split_bits};
use ja4_reasons::{FEATURE_SET, FEATURES, Reason, voice};
use ndarray::ArrayView2;

use crate::features::{N_BASES, N_FEATURES};
use crate::scaler::{HostMedians, RobustZ, Row, Scaler};
use crate::stats::{LEVELS, mix};

/// Rows that are scored together: 86 kB.
const BLOCK: usize = 256;
/// Rows from which on half are enough for a reference.
const MANY: usize = 2048;
/// Parts that fewer rows are cut into: each is scored by a model of the others.
const FOLDS: usize = 5;
/// Rows of the memory: 70 kB.
const MEMORY_ROWS: usize = 192;
/// Part of the evidence of each statistical voice.
const WEIGHT: f32 = 0.5;

/// What is kept of a row for the gate.
#[derive(Debug, Clone, PartialEq)]
pub struct MemoryRow {
    values: Vec<f32>,
    bases: [f32; N_BASES],
}

/// Which model, made when and of what.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Identity {
    /// `segment/window`.
    pub name: String,
    /// From 1; 0 for a draft that is not saved.
    pub version: u32,
    /// Start of the training window, seconds since the epoch.
    pub from_s: i64,
    /// End of the training window.
    pub to_s: i64,
    /// When it was trained.
    pub trained_s: i64,
    /// Rows that it was fitted on.
    pub n_rows: u64,
    /// Rows that were left out.
    pub n_excluded: u64,
    /// Clients that there were to choose from.
    pub n_seen: u64,
    /// Seed of the fit.
    pub seed: u64,
}

/// A fitted model.
#[derive(Debug)]
pub struct Model {
    /// Which it is.
    pub identity: Identity,
    usual: Usual,
    references: [Vec<f32>; 2],
    tails: [Tail; 2],
    /// Evidence of the reference rows, ascending.
    pub evidence: Vec<f32>,
    memory: Vec<MemoryRow>,
}

/// What the statistical voices say of one row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spoken {
    /// Forest: raw score, p-value, part of the evidence in bits.
    pub forest: (f32, f32, f32),
    /// Robust z: mean of the three largest distances, p-value, part of the evidence in bits.
    pub robust_z: (f32, f32, f32),
    /// Which features the robust z means.
    pub top: RobustZ,
}

impl Spoken {
    /// Evidence of both, bits.
    pub fn bits(&self) -> f32 {
        self.forest.2 + self.robust_z.2
    }
}

/// Why a model cannot be made, used or read.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The forest.
    #[error("the forest cannot be fitted")]
    Fit(#[from] detector_forest::FitError),
    /// Scoring.
    #[error("rows cannot be scored")]
    Score(#[from] detector_forest::ScoreError),
    /// The forest's bytes.
    #[error("the saved forest cannot be read")]
    Forest(#[from] detector_forest::LoadError),
    /// The features changed.
    #[error("the saved model has other features")]
    Features(#[from] detector_forest::FeatureMismatch),
    /// Ours.
    #[error("the saved model {0}: train it again or roll back to another version")]
    Damaged(&'static str),
}

impl Model {
    /// Fits a model on rows in a random order. `before` hands on its memory.
    ///
    /// # Errors
    /// If the forest refuses, which a matrix of our own making does not cause.
    ///
    /// # Panics
    /// Never: the matrix has a place for every feature of every row.
    pub fn fit(
        identity: Identity,
        rows: &[Row<'_>],
        n_threads: usize,
        before: Option<&Self>,
    ) -> Result<Self, ModelError> {
        // The store answers in no order.
        let params = ForestParams::new(identity.seed)
            .n_threads(n_threads.max(1))
            .sampling(Sampling::Content);
        let mut said = Vec::with_capacity(rows.len());
        let usual = if rows.len() >= MANY {
            let usual = Usual::fit(&chosen(rows, |number| number % 2 == 0), &params, &identity)?;
            usual.raw(&reference(rows), |raw, top| said.push((raw, top)))?;
            usual
        } else {
            for fold in 0..FOLDS {
                let others = chosen(rows, |number| number % FOLDS != fold);
                let unseen = chosen(rows, |number| number % FOLDS == fold);
                Usual::fit(&others, &params, &identity)?.raw(&unseen, |raw, top| said.push((raw, top)))?;
            }
            Usual::fit(rows, &params, &identity)?
        };
        let mut model = Self {
            memory: remember(before, &reference(rows), identity.seed),
            identity: Identity {
                n_rows: usual.scaler.n_rows as u64,
                ..identity
            },
            usual,
            references: [Vec::new(), Vec::new()],
            tails: [Tail::default(), Tail::default()],
            evidence: Vec::new(),
        };
        let forest = said.iter().map(|(raw, _)| *raw).collect();
        let robust = said.iter().map(|(_, top)| top.mean).collect();
        model.calibrate([forest, robust]);
        model.evidence = said
            .iter()
            .map(|(raw, top)| model.spoken(*raw, *top).bits())
            .collect();
        model.evidence.sort_unstable_by(f32::total_cmp);
        Ok(model)
    }

    fn calibrate(&mut self, mut references: [Vec<f32>; 2]) {
        for reference in &mut references {
            reference.sort_unstable_by(f32::total_cmp);
        }
        self.tails =
            [0, 1].map(|voice| Tail::new(references[voice].iter().map(|raw| scale(voice, *raw)).collect()));
        self.references = references;
    }

    /// What is usual of every feature.
    pub fn scaler(&self) -> &Scaler {
        &self.usual.scaler
    }

    /// Rows of the reference sample.
    pub fn n_reference(&self) -> usize {
        self.references[0].len()
    }

    /// Number of threads for scoring.
    pub fn set_threads(&mut self, n_threads: usize) {
        self.usual.forest.set_threads(n_threads);
    }

    /// What the voices say of these rows, in their order.
    ///
    /// # Errors
    /// If the forest was made of other features, which reading it checks.
    pub fn score(&self, rows: &[Row<'_>]) -> Result<Vec<Spoken>, ModelError> {
        let mut spoken = Vec::with_capacity(rows.len());
        self.usual
            .raw(rows, |raw, top| spoken.push(self.spoken(raw, top)))?;
        Ok(spoken)
    }

    fn spoken(&self, raw: f32, top: RobustZ) -> Spoken {
        let said = [(0, raw), (1, top.mean)].map(|(voice, raw)| {
            let on_scale = f64::from(scale(voice, raw));
            let tail = &self.tails[voice];
            #[expect(clippy::cast_possible_truncation, reason = "bits and shares")]
            let (p, bits) = (tail.p_value(on_scale) as f32, tail.bits(on_scale) as f32);
            (raw, p, (bits - 1.0).max(0.0) * WEIGHT)
        });
        Spoken {
            forest: said[0],
            robust_z: said[1],
            top,
        }
    }

    /// How many of these rows have an evidence of at least `threshold` bits.
    ///
    /// # Errors
    /// As [`Self::score`].
    pub fn n_alerts(&self, rows: &[Row<'_>], threshold: f32) -> Result<usize, ModelError> {
        let spoken = self.score(rows)?;
        Ok(spoken.iter().filter(|spoken| spoken.bits() >= threshold).count())
    }

    /// How many rows of the reference have: what models say that were not fitted on them.
    pub fn n_alerts_of_reference(&self, threshold: f32) -> usize {
        self.evidence.len() - self.evidence.partition_point(|bits| *bits < threshold)
    }

    /// Benign rows of this and earlier trainings.
    pub fn memory(&self) -> Vec<Row<'_>> {
        self.memory
            .iter()
            .map(|row| Row {
                values: &row.values,
                bases: &row.bases,
                host: "",
            })
            .collect()
    }

    /// What the forest credits each feature with, in levels of depth, and how far each is out, in spreads.
    ///
    /// # Errors
    /// As [`Self::score`].
    pub fn attributions(&self, row: &Row<'_>) -> Result<(Vec<f64>, Vec<f32>), ModelError> {
        let mut seen = vec![0.0; N_FEATURES];
        self.usual.scaler.write(row, &mut seen);
        let levels = self
            .usual
            .forest
            .forest()
            .explainer()
            .explain(&seen)?
            .attributions;
        let distances = seen
            .iter()
            .enumerate()
            .map(|(idx, value)| self.usual.scaler.z(idx, *value))
            .collect();
        Ok((levels, distances))
    }

    /// Explains rows.
    pub fn explainer(&self) -> Explainer<'_> {
        Explainer {
            model: self,
            forest: self.usual.forest.forest().explainer(),
            seen: vec![0.0; N_FEATURES],
        }
    }
}

/// What is usual among rows: centres and spreads, and a forest.
#[derive(Debug)]
struct Usual {
    scaler: Scaler,
    forest: detector_forest::Model,
}

impl Usual {
    fn fit(rows: &[Row<'_>], params: &ForestParams, identity: &Identity) -> Result<Self, ModelError> {
        let scaler = Scaler::fit(rows);
        let matrix = seen(&scaler, rows);
        let view = ArrayView2::from_shape((rows.len(), N_FEATURES), &matrix)
            .expect("the matrix has a place for every feature of every row");
        let training = Training {
            features: FEATURES.iter().map(|feature| feature.name.to_owned()).collect(),
            from_s: identity.from_s,
            to_s: identity.to_s,
            ..Training::default()
        };
        let forest = detector_forest::Model::fit(view, params, training)?;
        Ok(Self { scaler, forest })
    }

    /// Calls `each` with the forest's score and the robust z of every row, in their order.
    fn raw(&self, rows: &[Row<'_>], mut each: impl FnMut(f32, RobustZ)) -> Result<(), ModelError> {
        for block in rows.chunks(BLOCK * 8) {
            let matrix = seen(&self.scaler, block);
            let view = ArrayView2::from_shape((block.len(), N_FEATURES), &matrix)
                .expect("the matrix has a place for every feature of every row");
            let scores = self.forest.forest().score(view)?;
            for (score, row) in scores.into_iter().zip(matrix.chunks_exact(N_FEATURES)) {
                #[expect(clippy::cast_possible_truncation, reason = "between 0 and 1")]
                each(score as f32, self.scaler.robust_z(row));
            }
        }
        Ok(())
    }
}

/// The rows that a model of these is calibrated on.
pub fn reference<'a>(rows: &[Row<'a>]) -> Vec<Row<'a>> {
    let is_half = rows.len() >= MANY;
    chosen(rows, |number| !is_half || number % 2 == 1)
}

/// The rows whose number is wanted.
fn chosen<'a>(rows: &[Row<'a>], is_wanted: impl Fn(usize) -> bool) -> Vec<Row<'a>> {
    let numbered = rows.iter().enumerate();
    numbered
        .filter(|(number, _)| is_wanted(*number))
        .map(|(_, row)| *row)
        .collect()
}

/// The scale on which a voice's tail grows: distances grow without limit, their logarithm does not.
fn scale(voice: usize, raw: f32) -> f32 {
    if voice == 1 { raw.ln_1p() } else { raw }
}

fn seen(scaler: &Scaler, rows: &[Row<'_>]) -> Vec<f32> {
    let mut matrix = vec![0.0; rows.len() * N_FEATURES];
    for (row, out) in rows.iter().zip(matrix.chunks_exact_mut(N_FEATURES)) {
        scaler.write(row, out);
    }
    matrix
}

/// Half of what was remembered and half of the new rows, chosen by hash.
fn remember(before: Option<&Model>, reference: &[Row<'_>], seed: u64) -> Vec<MemoryRow> {
    let mut memory: Vec<MemoryRow> = Vec::with_capacity(MEMORY_ROWS);
    if let Some(before) = before {
        let n = before.memory.len();
        let mut order: Vec<usize> = (0..n).collect();
        order.sort_unstable_by_key(|idx| mix(seed, *idx as u64));
        memory.extend(
            order
                .into_iter()
                .take(MEMORY_ROWS / 2)
                .map(|idx| before.memory[idx].clone()),
        );
    }
    // They come in a random order already.
    let n_new = MEMORY_ROWS - memory.len();
    memory.extend(reference.iter().take(n_new).map(|row| MemoryRow {
        values: row.values.to_vec(),
        bases: *row.bases,
    }));
    memory
}

/// Explains rows of one model.
#[derive(Debug)]
pub struct Explainer<'a> {
    model: &'a Model,
    forest: detector_forest::Explainer<'a>,
    seen: Vec<f32>,
}

impl Explainer<'_> {
    /// Reasons of both voices, each voice's adding up to its part of the evidence. `spoken` is what the same model said of the row.
    ///
    /// # Panics
    /// Never: what the forest cannot explain it could not score.
    pub fn reasons(&mut self, row: &Row<'_>, spoken: &Spoken) -> Vec<Reason> {
        self.model.usual.scaler.write(row, &mut self.seen);
        let mut reasons = Vec::new();
        if spoken.forest.2 > 0.0 {
            let explanation = self
                .forest
                .explain(&self.seen)
                .expect("the forest has scored this row");
            self.push(
                &mut reasons,
                voice::FOREST,
                spoken.forest.2,
                &explanation.attributions,
                row,
            );
        }
        if spoken.robust_z.2 > 0.0 {
            let mut distances = vec![0.0; N_FEATURES];
            spoken
                .top
                .top
                .iter()
                .for_each(|(idx, z)| distances[*idx] = f64::from(*z));
            self.push(&mut reasons, voice::ROBUST_Z, spoken.robust_z.2, &distances, row);
        }
        reasons
    }

    fn push(&self, reasons: &mut Vec<Reason>, voice: &str, bits: f32, attributions: &[f64], row: &Row<'_>) {
        for share in split_bits(f64::from(bits), attributions) {
            #[expect(clippy::cast_possible_truncation, reason = "bits")]
            let bits = share.bits as f32;
            reasons.push(match share.feature {
                Some(idx) => self.reason(voice, idx, bits, row),
                None => Reason::of_feature(voice, ja4_reasons::REST, bits),
            });
        }
    }

    fn reason(&self, voice: &str, idx: usize, bits: f32, row: &Row<'_>) -> Reason {
        let scaler = &self.model.usual.scaler;
        let (median, source) = scaler.shown_median(idx, row.host);
        Reason {
            value: f64::from(row.values[idx]),
            median: f64::from(median),
            percentile: scaler.percentile(idx, row.values[idx]),
            source,
            ..Reason::of_feature(voice, FEATURES[idx].name, bits)
        }
    }
}

/// Version of the encoding below.
pub const FORMAT: u16 = 1;
const MAGIC: &[u8; 4] = b"JA4D";

impl Model {
    /// The saved form.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Writer(MAGIC.to_vec());
        out.0.extend_from_slice(&FORMAT.to_le_bytes());
        out.text(FEATURE_SET);
        let identity = &self.identity;
        out.text(&identity.name);
        out.number(u64::from(identity.version));
        for seconds in [identity.from_s, identity.to_s, identity.trained_s] {
            out.number(seconds.cast_unsigned());
        }
        for number in [
            identity.n_rows,
            identity.n_excluded,
            identity.n_seen,
            identity.seed,
        ] {
            out.number(number);
        }
        let scaler = &self.usual.scaler;
        out.number(scaler.n_rows as u64);
        for values in [&scaler.median, &scaler.center, &scaler.spread, &scaler.quantiles] {
            out.floats(values);
        }
        out.number(scaler.hosts.len() as u64);
        for host in &scaler.hosts {
            out.text(&host.host);
            out.number(host.n_rows as u64);
            out.floats(&host.median);
        }
        for values in [&self.references[0], &self.references[1], &self.evidence] {
            out.floats(values);
        }
        out.number(self.memory.len() as u64);
        for row in &self.memory {
            out.floats(&row.values);
            out.floats(&row.bases);
        }
        let forest = self.usual.forest.to_bytes();
        out.number(forest.len() as u64);
        out.0.extend_from_slice(&forest);
        out.0
    }

    /// Reads the saved form.
    ///
    /// # Errors
    /// If the bytes are damaged, of another version or of other features.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ModelError> {
        let mut reader = Reader(bytes);
        if reader.take(4)? != MAGIC {
            return Err(ModelError::Damaged("is none of the detector"));
        }
        if reader.take(2)? != FORMAT.to_le_bytes() {
            return Err(ModelError::Damaged("has another format"));
        }
        if reader.text()? != FEATURE_SET {
            return Err(ModelError::Damaged("has another list of features"));
        }
        let mut identity = Identity {
            name: reader.text()?,
            ..Identity::default()
        };
        identity.version =
            u32::try_from(reader.number()?).map_err(|_| ModelError::Damaged("has an impossible version"))?;
        for place in [&mut identity.from_s, &mut identity.to_s, &mut identity.trained_s] {
            *place = reader.number()?.cast_signed();
        }
        for place in [
            &mut identity.n_rows,
            &mut identity.n_excluded,
            &mut identity.n_seen,
            &mut identity.seed,
        ] {
            *place = reader.number()?;
        }
        let n_rows = reader.count()?;
        let [median, center, spread] = [
            reader.floats_of(N_FEATURES)?,
            reader.floats_of(N_FEATURES)?,
            reader.floats_of(N_FEATURES)?,
        ];
        let quantiles = reader.floats_of(N_FEATURES * LEVELS.len())?;
        let mut hosts = Vec::new();
        for _ in 0..reader.count()? {
            hosts.push(HostMedians {
                host: reader.text()?,
                n_rows: reader.count()?,
                median: reader.floats_of(N_FEATURES)?,
            });
        }
        let scaler = Scaler {
            median,
            center,
            spread,
            quantiles,
            hosts,
            n_rows,
        };
        let references = [reader.floats()?, reader.floats()?];
        let evidence = reader.floats()?;
        let mut memory = Vec::new();
        for _ in 0..reader.count()? {
            let values = reader.floats_of(N_FEATURES)?;
            let bases = reader
                .floats_of(N_BASES)?
                .try_into()
                .map_err(|_| ModelError::Damaged("is cut"))?;
            memory.push(MemoryRow { values, bases });
        }
        let n_bytes = reader.count()?;
        let forest = detector_forest::Model::from_bytes(reader.take(n_bytes)?)?;
        let names: Vec<&str> = FEATURES.iter().map(|feature| feature.name).collect();
        forest.check_features(&names)?;
        let mut model = Self {
            identity,
            usual: Usual { scaler, forest },
            references: [Vec::new(), Vec::new()],
            tails: [Tail::default(), Tail::default()],
            evidence,
            memory,
        };
        model.calibrate(references);
        Ok(model)
    }
}

struct Writer(Vec<u8>);

impl Writer {
    fn number(&mut self, number: u64) {
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.0.extend_from_slice(text.as_bytes());
    }

    fn floats(&mut self, values: &[f32]) {
        self.number(values.len() as u64);
        self.0.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, n_bytes: usize) -> Result<&'a [u8], ModelError> {
        let (taken, rest) = self
            .0
            .split_at_checked(n_bytes)
            .ok_or(ModelError::Damaged("is cut"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn number(&mut self) -> Result<u64, ModelError> {
        let bytes = self
            .take(8)?
            .try_into()
            .map_err(|_| ModelError::Damaged("is cut"))?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// A number of things, each of which takes at least a byte of what is left.
    fn count(&mut self) -> Result<usize, ModelError> {
        let n = self.number()?;
        usize::try_from(n)
            .ok()
            .filter(|n| *n <= self.0.len() || *n < 1 << 24)
            .ok_or(ModelError::Damaged("has an impossible length"))
    }

    fn text(&mut self) -> Result<String, ModelError> {
        let n_bytes = self.count()?;
        String::from_utf8(self.take(n_bytes)?.to_vec())
            .map_err(|_| ModelError::Damaged("has a text that is none"))
    }

    fn floats(&mut self) -> Result<Vec<f32>, ModelError> {
        let n = self.count()?;
        let bytes = self.take(
            n.checked_mul(4)
                .ok_or(ModelError::Damaged("has an impossible length"))?,
        )?;
        Ok(bytes
            .chunks_exact(4)
            .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
            .collect())
    }

    fn floats_of(&mut self, n: usize) -> Result<Vec<f32>, ModelError> {
        let values = self.floats()?;
        if values.len() == n {
            Ok(values)
        } else {
            Err(ModelError::Damaged("has another number of features"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Clients of one kind: every feature around 20 of its own width, one in ten missing.
    fn population(n: u64, seed: u64) -> Vec<Vec<f32>> {
        let draw = |at: u64| {
            let sum: f64 = (0..4)
                .map(|k| (mix(seed, at * 4 + k) >> 11) as f64 / (1_u64 << 53) as f64)
                .sum();
            #[expect(clippy::cast_possible_truncation, reason = "about 20")]
            let value = (20.0 + (sum - 2.0) * (1 + at % 7) as f64) as f32;
            if mix(seed, at).is_multiple_of(10) {
                f32::NAN
            } else {
                value
            }
        };
        let row = |row: u64| (0..N_FEATURES as u64).map(|idx| draw(row * 1000 + idx)).collect();
        (0..n).map(row).collect()
    }

    fn rows<'a>(values: &'a [Vec<f32>], bases: &'a [f32; N_BASES]) -> Vec<Row<'a>> {
        let row = |values: &'a Vec<f32>| Row {
            values,
            bases,
            host: "h",
        };
        values.iter().map(row).collect()
    }

    #[test]
    fn p_values_of_new_clients_are_what_they_say_whether_few_or_many_are_the_reference() {
        let bases = [30.0; N_BASES];
        let new = population(1500, 99);
        for (n, n_reference, n_fit) in [(300, 300, 300), (3000, 1500, 1500)] {
            // Of each share, over both voices and some populations.
            let mut found = [0.0; 3];
            for seed in 0..6 {
                let known = population(n, seed);
                let model = Model::fit(Identity::default(), &rows(&known, &bases), 1, None).unwrap();
                assert_eq!((model.n_reference(), model.identity.n_rows), (n_reference, n_fit));
                let spoken = model.score(&rows(&new, &bases)).unwrap();
                for (share, found) in [0.5, 0.1, 0.02].into_iter().zip(&mut found) {
                    let of_forest = spoken.iter().filter(|said| said.forest.1 <= share).count();
                    let of_distance = spoken.iter().filter(|said| said.robust_z.1 <= share).count();
                    *found += (of_forest + of_distance) as f32 / (2.0 * 6.0 * 1500.0);
                }
            }
            for (share, found) in [0.5, 0.1, 0.02].into_iter().zip(found) {
                assert!(found > share * 0.7 && found < share * 1.4, "{n}: {share} {found}");
            }
        }
    }

    #[test]
    fn a_saved_model_says_the_same() {
        let bases = [30.0; N_BASES];
        let known = population(150, 1);
        let identity = Identity {
            name: "all/1h".into(),
            version: 3,
            ..Identity::default()
        };
        let model = Model::fit(identity, &rows(&known, &bases), 1, None).unwrap();
        let read = Model::from_bytes(&model.to_bytes()).unwrap();
        let new = population(20, 2);
        assert_eq!(
            model.score(&rows(&new, &bases)).unwrap(),
            read.score(&rows(&new, &bases)).unwrap()
        );
        assert_eq!(read.n_alerts_of_reference(3.0), model.n_alerts_of_reference(3.0));
        let mut cut = model.to_bytes();
        cut.truncate(cut.len() / 2);
        assert!(Model::from_bytes(&cut).is_err());
    }

    #[test]
    fn nobody_and_one_are_no_panic() {
        let bases = [30.0; N_BASES];
        for n in [0, 1, 2] {
            let known = population(n, 1);
            let model = Model::fit(Identity::default(), &rows(&known, &bases), 1, None).unwrap();
            let spoken = model.score(&rows(&population(3, 2), &bases)).unwrap();
            assert!(spoken.iter().all(|said| said.bits() < 12.0), "{spoken:?}");
        }
    }
}
