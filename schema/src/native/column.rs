//! Columns of a block: values of fixed width, texts, dictionaries of texts, lists and maps of texts.

use std::fmt;
use std::hash::{BuildHasher, Hasher};

use super::write_bytes;

/// A column that takes one value for each row.
pub trait Column {
    /// Values pushed since the last `clear`.
    fn n_rows(&self) -> usize;
    /// Bytes that `write_values` appends, or slightly more.
    fn approx_bytes(&self) -> usize;
    /// Appends the values in Native form.
    fn write_values(&self, out: &mut Vec<u8>);
    /// Forgets the values and keeps the memory.
    fn clear(&mut self);
}

/// A value with a fixed width in Native form, little-endian.
pub trait FixedValue {
    /// Bytes of one value.
    const WIDTH: usize;
    /// Appends the value.
    fn put(self, out: &mut Vec<u8>);
}

macro_rules! fixed_number {
    ($($number:ty),*) => {$(
        impl FixedValue for $number {
            const WIDTH: usize = size_of::<$number>();

            #[inline]
            fn put(self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }
        }
    )*};
}
fixed_number!(u8, u16, u32, u64, u128, i8, i64, f32);

impl<const N: usize> FixedValue for [u8; N] {
    const WIDTH: usize = N;

    #[inline]
    fn put(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self);
    }
}

/// Values of fixed width: numbers, times, enums, addresses (`IPv6` is its 16 bytes in network order).
pub struct Fixed<T> {
    bytes: Vec<u8>,
    value: std::marker::PhantomData<T>,
}

impl<T> Default for Fixed<T> {
    fn default() -> Self {
        Self {
            bytes: Vec::new(),
            value: std::marker::PhantomData,
        }
    }
}

impl<T> fmt::Debug for Fixed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fixed({} bytes)", self.bytes.len())
    }
}

impl<T: FixedValue> Fixed<T> {
    /// Appends a value.
    #[inline]
    pub fn push(&mut self, value: T) {
        value.put(&mut self.bytes);
    }
}

impl<T: FixedValue> Column for Fixed<T> {
    fn n_rows(&self) -> usize {
        self.bytes.len() / T::WIDTH
    }

    fn approx_bytes(&self) -> usize {
        self.bytes.len()
    }

    fn write_values(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.bytes);
    }

    fn clear(&mut self) {
        self.bytes.clear();
    }
}

/// `String`: bytes, whatever their encoding.
#[derive(Default)]
pub struct Text {
    rows: usize,
    bytes: Vec<u8>,
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Text({} rows, {} bytes)", self.rows, self.bytes.len())
    }
}

impl Text {
    /// Appends a value.
    #[inline]
    pub fn push(&mut self, value: &[u8]) {
        write_bytes(&mut self.bytes, value);
        self.rows += 1;
    }
}

impl Column for Text {
    fn n_rows(&self) -> usize {
        self.rows
    }

    fn approx_bytes(&self) -> usize {
        self.bytes.len()
    }

    fn write_values(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.bytes);
    }

    fn clear(&mut self) {
        self.rows = 0;
        self.bytes.clear();
    }
}

/// `LowCardinality(String)`: a dictionary of the block's distinct values and an index for each row.
///
/// Built here, where the value at hand is most often the one before it, so that the server neither hashes nor copies it.
pub struct LowText {
    hasher: ahash::RandomState,
    /// Open addressing: index into `ends` plus one, 0 for a free slot. A power of two long, at most half full.
    slots: Vec<u32>,
    hashes: Vec<u64>,
    /// End of each distinct value in `values`; the first is the empty text.
    ends: Vec<usize>,
    values: Vec<u8>,
    rows: Vec<u32>,
}

impl Default for LowText {
    fn default() -> Self {
        // Fixed seeds: equal rows make equal bytes. A batch holds at most 100 000 rows, so colliding keys cost time only.
        let hasher = ahash::RandomState::with_seeds(0x6a61_3464, 0x6963_7421, 0x7465_7874, 0x6c6f_7721);
        let mut column = Self {
            hasher,
            slots: Vec::new(),
            hashes: Vec::new(),
            ends: Vec::new(),
            values: Vec::new(),
            rows: Vec::new(),
        };
        column.clear();
        column
    }
}

impl fmt::Debug for LowText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "LowText({} rows, {} distinct)",
            self.rows.len(),
            self.ends.len()
        )
    }
}

impl LowText {
    /// Slots of an empty dictionary: a power of two.
    const MIN_SLOTS: usize = 64;

    fn value(&self, idx: usize) -> &[u8] {
        let start = if idx == 0 { 0 } else { self.ends[idx - 1] };
        &self.values[start..self.ends[idx]]
    }

    /// Appends a value.
    ///
    /// # Panics
    /// Beyond 4 294 967 295 rows in one block, which the sealing of batches at 100 000 rows excludes.
    #[inline]
    pub fn push(&mut self, value: &[u8]) {
        let idx = match self.rows.last() {
            Some(&last) if self.value(last as usize) == value => last,
            _ => self.find_or_add(value),
        };
        self.rows.push(idx);
    }

    fn find_or_add(&mut self, value: &[u8]) -> u32 {
        if value.is_empty() {
            return 0;
        }
        let mut hasher = self.hasher.build_hasher();
        hasher.write(value);
        let hash = hasher.finish();
        let mask = self.slots.len() - 1;
        #[expect(clippy::cast_possible_truncation, reason = "masked to the table's size")]
        let mut slot = hash as usize & mask;
        loop {
            match self.slots[slot] {
                0 => break,
                found => {
                    let idx = found as usize - 1;
                    if self.hashes[idx] == hash && self.value(idx) == value {
                        return found - 1;
                    }
                }
            }
            slot = (slot + 1) & mask;
        }
        let idx = u32::try_from(self.ends.len()).expect("a block has fewer than 2^32 rows");
        self.values.extend_from_slice(value);
        self.ends.push(self.values.len());
        self.hashes.push(hash);
        self.slots[slot] = idx + 1;
        if self.ends.len() * 2 > self.slots.len() {
            self.grow();
        }
        idx
    }

    fn grow(&mut self) {
        let n_slots = self.slots.len() * 2;
        self.slots.clear();
        self.slots.resize(n_slots, 0);
        for (idx, &hash) in self.hashes.iter().enumerate().skip(1) {
            #[expect(clippy::cast_possible_truncation, reason = "masked to the table's size")]
            let mut slot = hash as usize & (n_slots - 1);
            while self.slots[slot] != 0 {
                slot = (slot + 1) & (n_slots - 1);
            }
            self.slots[slot] = u32::try_from(idx + 1).expect("a block has fewer than 2^32 rows");
        }
    }

    fn index_width(&self) -> IndexWidth {
        match self.ends.len() {
            0..=0x100 => IndexWidth::One,
            0x101..=0x1_0000 => IndexWidth::Two,
            _ => IndexWidth::Four,
        }
    }
}

/// Width of the indexes of a dictionary column, bytes.
#[derive(Clone, Copy)]
enum IndexWidth {
    One,
    Two,
    Four,
}

/// Version of the serialization of shared dictionaries, and the flag "the dictionary follows in this block".
pub(super) const LOW_KEYS_VERSION: u64 = 1;
pub(super) const LOW_HAS_ADDITIONAL_KEYS: u64 = 1 << 9;
/// Flag "a new dictionary starts with this block".
pub(super) const LOW_NEEDS_UPDATE: u64 = 1 << 10;

impl Column for LowText {
    fn n_rows(&self) -> usize {
        self.rows.len()
    }

    fn approx_bytes(&self) -> usize {
        // Twice the indexes' least width, the values and a length byte for each.
        32 + self.values.len() + 2 * self.ends.len() + 2 * self.rows.len()
    }

    fn write_values(&self, out: &mut Vec<u8>) {
        if self.rows.is_empty() {
            return;
        }
        let width = self.index_width();
        out.extend_from_slice(&LOW_KEYS_VERSION.to_le_bytes());
        let width_code = match width {
            IndexWidth::One => 0,
            IndexWidth::Two => 1,
            IndexWidth::Four => 2,
        };
        out.extend_from_slice(&(LOW_HAS_ADDITIONAL_KEYS | LOW_NEEDS_UPDATE | width_code).to_le_bytes());
        out.extend_from_slice(&(self.ends.len() as u64).to_le_bytes());
        for idx in 0..self.ends.len() {
            write_bytes(out, self.value(idx));
        }
        out.extend_from_slice(&(self.rows.len() as u64).to_le_bytes());
        for &row in &self.rows {
            let bytes = row.to_le_bytes();
            match width {
                IndexWidth::One => out.push(bytes[0]),
                IndexWidth::Two => out.extend_from_slice(&bytes[..2]),
                IndexWidth::Four => out.extend_from_slice(&bytes),
            }
        }
    }

    fn clear(&mut self) {
        self.slots.clear();
        self.slots.resize(Self::MIN_SLOTS, 0);
        self.hashes.clear();
        self.hashes.push(0);
        self.ends.clear();
        self.ends.push(0);
        self.values.clear();
        self.rows.clear();
    }
}

/// `Array(String)`.
#[derive(Debug, Default)]
pub struct Texts {
    ends: Fixed<u64>,
    items: Text,
}

impl Texts {
    /// Appends one item of the row at hand.
    pub fn push_item(&mut self, item: &[u8]) {
        self.items.push(item);
    }

    /// Ends the row at hand.
    pub fn end_row(&mut self) {
        self.ends.push(self.items.n_rows() as u64);
    }
}

impl Column for Texts {
    fn n_rows(&self) -> usize {
        self.ends.n_rows()
    }

    fn approx_bytes(&self) -> usize {
        self.ends.approx_bytes() + self.items.approx_bytes()
    }

    fn write_values(&self, out: &mut Vec<u8>) {
        self.ends.write_values(out);
        self.items.write_values(out);
    }

    fn clear(&mut self) {
        self.ends.clear();
        self.items.clear();
    }
}

/// `Map(String, String)`.
#[derive(Debug, Default)]
pub struct Pairs {
    ends: Fixed<u64>,
    keys: Text,
    values: Text,
}

impl Pairs {
    /// Appends one pair of the row at hand.
    #[inline]
    pub fn push_pair(&mut self, key: &[u8], value: &[u8]) {
        self.keys.push(key);
        self.values.push(value);
    }

    /// Ends the row at hand.
    #[inline]
    pub fn end_row(&mut self) {
        self.ends.push(self.keys.n_rows() as u64);
    }
}

impl Column for Pairs {
    fn n_rows(&self) -> usize {
        self.ends.n_rows()
    }

    fn approx_bytes(&self) -> usize {
        self.ends.approx_bytes() + self.keys.approx_bytes() + self.values.approx_bytes()
    }

    fn write_values(&self, out: &mut Vec<u8>) {
        self.ends.write_values(out);
        self.keys.write_values(out);
        self.values.write_values(out);
    }

    fn clear(&mut self) {
        self.ends.clear();
        self.keys.clear();
        self.values.clear();
    }
}

/// `Map(String, UInt64)`.
#[derive(Debug, Default)]
pub struct PairCounts {
    ends: Fixed<u64>,
    keys: Text,
    values: Fixed<u64>,
}

impl PairCounts {
    /// Appends one pair of the row at hand.
    pub fn push_pair(&mut self, key: &[u8], value: u64) {
        self.keys.push(key);
        self.values.push(value);
    }

    /// Ends the row at hand.
    pub fn end_row(&mut self) {
        self.ends.push(self.keys.n_rows() as u64);
    }
}

impl Column for PairCounts {
    fn n_rows(&self) -> usize {
        self.ends.n_rows()
    }

    fn approx_bytes(&self) -> usize {
        self.ends.approx_bytes() + self.keys.approx_bytes() + self.values.approx_bytes()
    }

    fn write_values(&self, out: &mut Vec<u8>) {
        self.ends.write_values(out);
        self.keys.write_values(out);
        self.values.write_values(out);
    }

    fn clear(&mut self) {
        self.ends.clear();
        self.keys.clear();
        self.values.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::super::write_varint;
    use super::*;

    #[test]
    fn dictionary_keeps_each_value_once_and_the_order_of_rows() {
        let mut column = LowText::default();
        let mut expected = Vec::new();
        for row in 0..5_000_u32 {
            let value = format!("value-{}", row.wrapping_mul(2_654_435_761) % 700);
            column.push(value.as_bytes());
            expected.push(value);
        }
        assert_eq!(column.ends.len(), 701);
        for (row, value) in expected.iter().enumerate() {
            assert_eq!(column.value(column.rows[row] as usize), value.as_bytes());
        }
    }

    #[test]
    fn dictionary_is_empty_again_after_clear() {
        let mut column = LowText::default();
        column.push(b"a");
        column.clear();
        column.push(b"");
        column.push(b"b");
        assert_eq!(column.ends.len(), 2);
        assert_eq!(column.value(column.rows[1] as usize), b"b");
    }

    #[test]
    fn varints_are_leb128() {
        let mut out = Vec::new();
        for value in [0, 127, 128, 300, u64::MAX] {
            write_varint(&mut out, value);
        }
        assert_eq!(
            out,
            [
                0, 0x7f, 0x80, 1, 0xac, 2, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1
            ]
        );
    }
}
