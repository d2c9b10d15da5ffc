//! A borrowed matrix of rows, in either width of float and any layout, read block by block.
//!
//! Everything inside works on `f32`, as scikit-learn's forest does. Infinite values, and those that do not fit into
//! `f32`, become the largest finite ones; NaN means "missing" and stays.

use ndarray::{Array2, ArrayBase, ArrayView2, Data, Ix2};

use crate::params::Missing;

/// How many rows are scored side by side.
pub(crate) const LANES: usize = 16;

/// A matrix `[n_rows × n_features]` that is only read. Made from `&Array2<f32>`, `&Array2<f64>` or their views.
#[derive(Debug, Clone, Copy)]
pub enum Rows<'a> {
    /// Single precision: used as it is.
    F32(ArrayView2<'a, f32>),
    /// Double precision: narrowed block by block, never copied as a whole.
    F64(ArrayView2<'a, f64>),
}

/// A float that [`Rows`] can hold; `f32` and `f64`.
pub trait Value: Copy + std::fmt::Debug + 'static {
    /// Wraps a view.
    fn rows(view: ArrayView2<'_, Self>) -> Rows<'_>;
}

impl Value for f32 {
    fn rows(view: ArrayView2<'_, Self>) -> Rows<'_> {
        Rows::F32(view)
    }
}

impl Value for f64 {
    fn rows(view: ArrayView2<'_, Self>) -> Rows<'_> {
        Rows::F64(view)
    }
}

impl<'a, F: Value, D: Data<Elem = F>> From<&'a ArrayBase<D, Ix2>> for Rows<'a> {
    fn from(array: &'a ArrayBase<D, Ix2>) -> Self {
        F::rows(array.view())
    }
}

impl<'a, F: Value> From<ArrayView2<'a, F>> for Rows<'a> {
    fn from(view: ArrayView2<'a, F>) -> Self {
        F::rows(view)
    }
}

fn narrow(value: f64) -> f32 {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the model works in single precision"
    )]
    let value = value as f32;
    value.clamp(f32::MIN, f32::MAX)
}

impl Rows<'_> {
    /// The number of rows.
    pub fn n_rows(&self) -> usize {
        match self {
            Self::F32(view) => view.nrows(),
            Self::F64(view) => view.nrows(),
        }
    }

    /// The number of features (columns).
    pub fn n_features(&self) -> usize {
        match self {
            Self::F32(view) => view.ncols(),
            Self::F64(view) => view.ncols(),
        }
    }

    /// One value, narrowed.
    ///
    /// # Panics
    /// When the row or the feature does not exist.
    pub fn value(&self, row: usize, feature: usize) -> f32 {
        match self {
            Self::F32(view) => view[[row, feature]].clamp(f32::MIN, f32::MAX),
            Self::F64(view) => narrow(view[[row, feature]]),
        }
    }

    /// A copy of these rows, with missing values filled where the policy says so.
    pub(crate) fn select(&self, rows: &[u32], missing: &[Missing]) -> Array2<f32> {
        let mut sample = Array2::zeros((rows.len(), self.n_features()));
        let mut values = Vec::new();
        for (mut line, &row) in sample.rows_mut().into_iter().zip(rows) {
            self.copy_row(row as usize, missing, &mut values);
            line.assign(&ndarray::ArrayView1::from(&values));
        }
        sample
    }

    /// Copies one row, with missing values filled where the policy says so.
    pub(crate) fn copy_row(&self, row: usize, missing: &[Missing], out: &mut Vec<f32>) {
        out.clear();
        match self {
            Self::F32(view) => out.extend(view.row(row).iter().map(|v| v.clamp(f32::MIN, f32::MAX))),
            Self::F64(view) => out.extend(view.row(row).iter().map(|&v| narrow(v))),
        }
        for (value, missing) in out.iter_mut().zip(missing) {
            *value = missing.fill(*value);
        }
    }

    /// Copies `count <= 16` rows from `first` into `out[feature * 16 + lane]`; returns one bit for each lane that has
    /// a NaN. Lanes beyond `count` keep what they held.
    pub(crate) fn copy_lanes(&self, first: usize, count: usize, out: &mut [f32]) -> u16 {
        match self {
            Self::F32(view) => lanes(view, first, count, out, |v| v.clamp(f32::MIN, f32::MAX)),
            Self::F64(view) => lanes(view, first, count, out, narrow),
        }
    }
}

/// The matrix as one slice with two steps, where its layout allows: what growing and hashing read one value at a time.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Cells<'a> {
    F32(Strided<'a, f32>),
    F64(Strided<'a, f64>),
    Any(Rows<'a>),
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Strided<'a, F> {
    values: &'a [F],
    row_step: usize,
    feature_step: usize,
}

impl Rows<'_> {
    pub(crate) fn cells(&self) -> Cells<'_> {
        match self {
            Self::F32(view) => {
                strided(view).map_or_else(|| Cells::Any(Rows::F32(view.reborrow())), Cells::F32)
            }
            Self::F64(view) => {
                strided(view).map_or_else(|| Cells::Any(Rows::F64(view.reborrow())), Cells::F64)
            }
        }
    }
}

fn strided<'a, F>(view: &'a ArrayView2<'_, F>) -> Option<Strided<'a, F>> {
    let (n_rows, n_features) = view.dim();
    // Rows one after the other, or columns one after the other.
    let by_rows = view.as_slice().map(|values| (values, n_features, 1));
    let columns = view.as_slice_memory_order().map(|values| (values, 1, n_rows));
    let (values, row_step, feature_step) = by_rows.or_else(|| columns.filter(|_| view.strides()[0] == 1))?;
    Some(Strided {
        values,
        row_step,
        feature_step,
    })
}

impl<F: Copy> Strided<'_, F> {
    fn at(&self, row: usize, feature: usize) -> F {
        self.values[row * self.row_step + feature * self.feature_step]
    }
}

impl<F: Copy> Strided<'_, F> {
    fn fold_rows(&self, keys: &mut [u64], n_features: usize, step: impl Fn(u64, usize, F) -> u64) {
        if self.feature_step == 1 {
            for (key, row) in keys
                .iter_mut()
                .zip(self.values.chunks_exact(self.row_step.max(1)))
            {
                for (feature, &value) in row.iter().enumerate().take(n_features) {
                    *key = step(*key, feature, value);
                }
            }
            return;
        }
        // Columns: a block of keys stays in the cache while its columns pass.
        for (block, keys) in keys.chunks_mut(2_048).enumerate() {
            for feature in 0..n_features {
                let first = block * 2_048 + feature * self.feature_step;
                for (key, &value) in keys.iter_mut().zip(&self.values[first..]) {
                    *key = step(*key, feature, value);
                }
            }
        }
    }
}

impl Cells<'_> {
    /// Reads one feature of these rows into `out`, which is as long.
    pub(crate) fn gather(&self, feature: usize, rows: &[u32], out: &mut [f32]) {
        match self {
            Self::F32(cells) => {
                for (out, &row) in out.iter_mut().zip(rows) {
                    *out = cells.at(row as usize, feature).clamp(f32::MIN, f32::MAX);
                }
            }
            Self::F64(cells) => {
                for (out, &row) in out.iter_mut().zip(rows) {
                    *out = narrow(cells.at(row as usize, feature));
                }
            }
            Self::Any(matrix) => {
                for (out, &row) in out.iter_mut().zip(rows) {
                    *out = matrix.value(row as usize, feature);
                }
            }
        }
    }

    /// Folds the first features of each row into its key, in the order that suits the layout.
    pub(crate) fn fold_rows(
        &self,
        keys: &mut [u64],
        n_features: usize,
        step: impl Fn(u64, usize, f32) -> u64,
    ) {
        match self {
            Self::F32(cells) => cells.fold_rows(keys, n_features, |key, feature, value| {
                step(key, feature, value.clamp(f32::MIN, f32::MAX))
            }),
            Self::F64(cells) => cells.fold_rows(keys, n_features, |key, feature, value| {
                step(key, feature, narrow(value))
            }),
            Self::Any(matrix) => {
                for (row, key) in keys.iter_mut().enumerate() {
                    for feature in 0..n_features {
                        *key = step(*key, feature, matrix.value(row, feature));
                    }
                }
            }
        }
    }
}

fn lanes<F: Copy>(
    view: &ArrayView2<'_, F>,
    first: usize,
    count: usize,
    out: &mut [f32],
    to_f32: impl Fn(F) -> f32 + Copy,
) -> u16 {
    let mut nan_lanes = 0_u16;
    let by_rows = view.strides()[1] == 1;
    if by_rows {
        for lane in 0..count {
            let row = view.row(first + lane);
            let Some(row) = row.as_slice() else { continue };
            let mut has_nan = false;
            for (cell, &value) in out[lane..].iter_mut().step_by(LANES).zip(row) {
                let value = to_f32(value);
                has_nan |= value.is_nan();
                *cell = value;
            }
            nan_lanes |= u16::from(has_nan) << lane;
        }
        return nan_lanes;
    }
    for (cells, column) in out.chunks_exact_mut(LANES).zip(view.columns()) {
        for (lane, cell) in cells.iter_mut().enumerate().take(count) {
            let value = to_f32(column[first + lane]);
            nan_lanes |= u16::from(value.is_nan()) << lane;
            *cell = value;
        }
    }
    nan_lanes
}
