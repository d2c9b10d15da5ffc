//! Cuts rows out of a finished block, for bisecting a batch that the store refuses, and shows one row as JSON.
//!
//! The block may come from a spool segment that another process wrote, so nothing in it is trusted: lengths are checked
//! against the bytes at hand and nothing is reserved by a number that the block claims.

use std::ops::Range;

use ja4_model::json::{write_str, write_text};

use super::column::{LOW_HAS_ADDITIONAL_KEYS, LOW_KEYS_VERSION, LOW_NEEDS_UPDATE};
use super::{write_bytes, write_varint};

/// Most columns of a block: four times those of the widest table.
const MAX_COLUMNS: u64 = 400;

/// Why bytes are not a block that this crate wrote.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MalformedBlock {
    /// The bytes end inside a value.
    #[error("the block ends inside {0}")]
    Truncated(&'static str),
    /// A number is larger than the block allows.
    #[error("the block claims {0} that it cannot hold")]
    TooLarge(&'static str),
    /// A type that no builder writes.
    #[error("the block has a column of type {0}, which is never written")]
    UnknownType(String),
    /// The rows asked for are not there.
    #[error("rows {start} to {end} were asked of a block of {n_rows}")]
    NoSuchRows {
        /// First row.
        start: usize,
        /// Row after the last.
        end: usize,
        /// Rows of the block.
        n_rows: usize,
    },
    /// Bytes after the last column.
    #[error("{0} bytes follow the block")]
    TrailingBytes(usize),
}

const HEX: [char; 16] = [
    '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f',
];

/// Number of rows of a block.
///
/// # Errors
/// If the header is not one.
pub fn n_rows(block: &[u8]) -> Result<usize, MalformedBlock> {
    Ok(Header::read(&mut Reader(block))?.n_rows)
}

/// The rows in `range` as a block of their own.
///
/// # Errors
/// If the block is malformed or has no such rows.
pub fn cut(block: &[u8], range: Range<usize>) -> Result<Vec<u8>, MalformedBlock> {
    let mut reader = Reader(block);
    let header = Header::read(&mut reader)?;
    header.check(&range)?;
    let mut out = Vec::with_capacity(block.len());
    write_varint(&mut out, header.n_columns);
    write_varint(&mut out, range.len() as u64);
    for _ in 0..header.n_columns {
        let (name, type_name) = read_column_head(&mut reader)?;
        write_bytes(&mut out, name);
        write_bytes(&mut out, type_name);
        Values::read(&mut reader, type_name, header.n_rows)?.write_rows(&range, &mut out);
    }
    reader.finish()?;
    Ok(out)
}

/// One row as a JSON object, with the columns as keys. Times are microseconds since the epoch.
///
/// # Errors
/// If the block is malformed or has no such row.
pub fn row_json(block: &[u8], row_idx: usize) -> Result<Vec<u8>, MalformedBlock> {
    let mut reader = Reader(block);
    let header = Header::read(&mut reader)?;
    header.check(&(row_idx..row_idx.saturating_add(1)))?;
    let mut out = vec![b'{'];
    for column_idx in 0..header.n_columns {
        if column_idx > 0 {
            out.push(b',');
        }
        let (name, type_name) = read_column_head(&mut reader)?;
        write_text(&mut out, name);
        out.push(b':');
        Values::read(&mut reader, type_name, header.n_rows)?.write_json(row_idx, &mut out);
    }
    reader.finish()?;
    out.push(b'}');
    Ok(out)
}

struct Header {
    n_columns: u64,
    n_rows: usize,
}

impl Header {
    fn read(reader: &mut Reader<'_>) -> Result<Self, MalformedBlock> {
        let n_columns = reader.varint("the number of columns")?;
        let n_rows = reader.varint("the number of rows")?;
        if n_columns > MAX_COLUMNS {
            return Err(MalformedBlock::TooLarge("columns"));
        }
        // A row has at least one byte in each column.
        match usize::try_from(n_rows) {
            Ok(n_rows) if n_rows <= reader.0.len() => Ok(Self { n_columns, n_rows }),
            _ => Err(MalformedBlock::TooLarge("rows")),
        }
    }

    fn check(&self, range: &Range<usize>) -> Result<(), MalformedBlock> {
        if range.start < range.end && range.end <= self.n_rows {
            return Ok(());
        }
        Err(MalformedBlock::NoSuchRows {
            start: range.start,
            end: range.end,
            n_rows: self.n_rows,
        })
    }
}

fn read_column_head<'b>(reader: &mut Reader<'b>) -> Result<(&'b [u8], &'b [u8]), MalformedBlock> {
    Ok((reader.bytes("a column's name")?, reader.bytes("a column's type")?))
}

/// Values of one column, borrowed from the block.
enum Values<'b> {
    Fixed {
        kind: FixedKind,
        width: usize,
        bytes: &'b [u8],
    },
    Text(Vec<&'b [u8]>),
    Low {
        keys: Vec<&'b [u8]>,
        width: usize,
        indexes: &'b [u8],
    },
    List {
        ends: Vec<usize>,
        items: Box<Self>,
    },
    Map {
        ends: Vec<usize>,
        keys: Box<Self>,
        values: Box<Self>,
    },
}

/// How a value of fixed width is shown.
#[derive(Clone, Copy)]
enum FixedKind {
    Unsigned,
    Signed,
    Float,
    Address,
    Hex,
}

fn fixed_type(type_name: &str) -> Option<(FixedKind, usize)> {
    Some(match type_name {
        "UInt8" | "Bool" => (FixedKind::Unsigned, 1),
        "UInt16" => (FixedKind::Unsigned, 2),
        "UInt32" => (FixedKind::Unsigned, 4),
        "UInt64" => (FixedKind::Unsigned, 8),
        "UInt128" => (FixedKind::Hex, 16),
        "Int64" | "DateTime64(6, 'UTC')" => (FixedKind::Signed, 8),
        "Float32" => (FixedKind::Float, 4),
        "IPv6" => (FixedKind::Address, 16),
        "FixedString(32)" => (FixedKind::Hex, 32),
        name if name.starts_with("Enum8(") => (FixedKind::Signed, 1),
        _ => return None,
    })
}

impl<'b> Values<'b> {
    fn read(reader: &mut Reader<'b>, type_name: &[u8], n_rows: usize) -> Result<Self, MalformedBlock> {
        let type_name = String::from_utf8_lossy(type_name);
        match type_name.as_ref() {
            "String" => Self::read_texts(reader, n_rows),
            "LowCardinality(String)" => Self::read_low(reader, n_rows),
            "Array(String)" => {
                let ends = reader.ends(n_rows)?;
                let items = Self::read_texts(reader, ends.last().copied().unwrap_or(0))?;
                Ok(Self::List {
                    ends,
                    items: Box::new(items),
                })
            }
            "Map(String, String)" | "Map(String, UInt64)" => {
                let ends = reader.ends(n_rows)?;
                let n_pairs = ends.last().copied().unwrap_or(0);
                let keys = Self::read_texts(reader, n_pairs)?;
                let value_type = if type_name.ends_with("UInt64)") {
                    &b"UInt64"[..]
                } else {
                    b"String"
                };
                let values = Self::read(reader, value_type, n_pairs)?;
                Ok(Self::Map {
                    ends,
                    keys: Box::new(keys),
                    values: Box::new(values),
                })
            }
            name => {
                let (kind, width) =
                    fixed_type(name).ok_or_else(|| MalformedBlock::UnknownType(name.to_owned()))?;
                let n_bytes = n_rows
                    .checked_mul(width)
                    .ok_or(MalformedBlock::TooLarge("values"))?;
                Ok(Self::Fixed {
                    kind,
                    width,
                    bytes: reader.take(n_bytes, "values")?,
                })
            }
        }
    }

    fn read_texts(reader: &mut Reader<'b>, n_items: usize) -> Result<Self, MalformedBlock> {
        let mut texts = Vec::new();
        for _ in 0..n_items {
            texts.push(reader.bytes("a text")?);
        }
        Ok(Self::Text(texts))
    }

    fn read_low(reader: &mut Reader<'b>, n_rows: usize) -> Result<Self, MalformedBlock> {
        if n_rows == 0 {
            return Ok(Self::Low {
                keys: Vec::new(),
                width: 1,
                indexes: &[],
            });
        }
        if reader.word("a dictionary")? != LOW_KEYS_VERSION {
            return Err(MalformedBlock::TooLarge("a dictionary version"));
        }
        let flags = reader.word("a dictionary")?;
        let width = match flags ^ (LOW_HAS_ADDITIONAL_KEYS | LOW_NEEDS_UPDATE) {
            0 => 1,
            1 => 2,
            2 => 4,
            _ => return Err(MalformedBlock::TooLarge("dictionary flags")),
        };
        let n_keys = reader.word("a dictionary")?;
        let mut keys = Vec::new();
        for _ in 0..n_keys {
            keys.push(reader.bytes("a dictionary")?);
        }
        if reader.word("a dictionary")? != n_rows as u64 {
            return Err(MalformedBlock::TooLarge("dictionary rows"));
        }
        let n_bytes = n_rows
            .checked_mul(width)
            .ok_or(MalformedBlock::TooLarge("values"))?;
        let indexes = reader.take(n_bytes, "dictionary indexes")?;
        if indexes
            .chunks_exact(width)
            .any(|index| little_endian(index) >= u128::from(n_keys))
        {
            return Err(MalformedBlock::TooLarge("a dictionary index"));
        }
        Ok(Self::Low { keys, width, indexes })
    }

    fn write_rows(&self, range: &Range<usize>, out: &mut Vec<u8>) {
        match self {
            Self::Fixed { width, bytes, .. } => {
                out.extend_from_slice(&bytes[range.start * width..range.end * width]);
            }
            Self::Text(texts) => texts[range.clone()]
                .iter()
                .for_each(|text| write_bytes(out, text)),
            Self::Low { keys, width, indexes } => {
                let mut column = super::LowText::default();
                for index in indexes[range.start * width..range.end * width].chunks_exact(*width) {
                    column.push(keys[row_index(index)]);
                }
                super::Column::write_values(&column, out);
            }
            Self::List { ends, items } => items.write_rows(&write_ends(ends, range, out), out),
            Self::Map { ends, keys, values } => {
                let pairs = write_ends(ends, range, out);
                keys.write_rows(&pairs, out);
                values.write_rows(&pairs, out);
            }
        }
    }

    fn write_json(&self, row_idx: usize, out: &mut Vec<u8>) {
        match self {
            Self::Fixed { kind, width, bytes } => {
                write_fixed(*kind, &bytes[row_idx * width..(row_idx + 1) * width], out);
            }
            Self::Text(texts) => write_text(out, texts[row_idx]),
            Self::Low { keys, width, indexes } => {
                write_text(
                    out,
                    keys[row_index(&indexes[row_idx * width..(row_idx + 1) * width])],
                );
            }
            Self::List { ends, items } => {
                out.push(b'[');
                for (position, idx) in row_range(ends, row_idx).enumerate() {
                    if position > 0 {
                        out.push(b',');
                    }
                    items.write_json(idx, out);
                }
                out.push(b']');
            }
            // A list of pairs, not an object: headers repeat.
            Self::Map { ends, keys, values } => {
                out.push(b'[');
                for (position, idx) in row_range(ends, row_idx).enumerate() {
                    out.extend_from_slice(if position > 0 { b",[" } else { b"[" });
                    keys.write_json(idx, out);
                    out.push(b',');
                    values.write_json(idx, out);
                    out.push(b']');
                }
                out.push(b']');
            }
        }
    }
}

fn row_index(bytes: &[u8]) -> usize {
    usize::try_from(little_endian(bytes)).expect("indexes were checked against the dictionary")
}

fn row_range(ends: &[usize], row_idx: usize) -> Range<usize> {
    let start = if row_idx == 0 { 0 } else { ends[row_idx - 1] };
    start..ends[row_idx]
}

/// Writes the ends of the rows in `range`, counted from the range's first item, and returns the items.
fn write_ends(ends: &[usize], range: &Range<usize>, out: &mut Vec<u8>) -> Range<usize> {
    let first = if range.start == 0 {
        0
    } else {
        ends[range.start - 1]
    };
    for end in &ends[range.clone()] {
        out.extend_from_slice(&((end - first) as u64).to_le_bytes());
    }
    first..ends[range.end - 1]
}

fn little_endian(bytes: &[u8]) -> u128 {
    bytes
        .iter()
        .rev()
        .fold(0, |value, byte| value << 8 | u128::from(*byte))
}

fn write_fixed(kind: FixedKind, bytes: &[u8], out: &mut Vec<u8>) {
    match kind {
        FixedKind::Unsigned => out.extend_from_slice(little_endian(bytes).to_string().as_bytes()),
        FixedKind::Signed => {
            let shift = 128 - 8 * bytes.len();
            let value = (little_endian(bytes) << shift).cast_signed() >> shift;
            out.extend_from_slice(value.to_string().as_bytes());
        }
        FixedKind::Float => {
            let value = f32::from_le_bytes(bytes.try_into().expect("the type has four bytes"));
            let text = if value.is_finite() {
                value.to_string()
            } else {
                "null".to_owned()
            };
            out.extend_from_slice(text.as_bytes());
        }
        FixedKind::Address => {
            let octets: [u8; 16] = bytes.try_into().expect("the type has sixteen bytes");
            write_str(out, &ja4_model::CanonicalAddr(octets).to_string());
        }
        FixedKind::Hex => {
            let mut digits = String::new();
            // A number is little-endian, a text is not.
            let number = bytes.len() == 16;
            for idx in 0..bytes.len() {
                let byte = if number {
                    bytes[bytes.len() - 1 - idx]
                } else {
                    bytes[idx]
                };
                digits.push(HEX[usize::from(byte >> 4)]);
                digits.push(HEX[usize::from(byte & 15)]);
            }
            write_str(out, &digits);
        }
    }
}

struct Reader<'b>(&'b [u8]);

impl<'b> Reader<'b> {
    fn take(&mut self, n_bytes: usize, what: &'static str) -> Result<&'b [u8], MalformedBlock> {
        let (taken, rest) = self
            .0
            .split_at_checked(n_bytes)
            .ok_or(MalformedBlock::Truncated(what))?;
        self.0 = rest;
        Ok(taken)
    }

    fn varint(&mut self, what: &'static str) -> Result<u64, MalformedBlock> {
        let mut value = 0_u64;
        // Ten bytes of seven bits hold 64.
        for shift in (0..70).step_by(7) {
            let byte = self.take(1, what)?[0];
            value |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(MalformedBlock::TooLarge(what))
    }

    fn word(&mut self, what: &'static str) -> Result<u64, MalformedBlock> {
        let bytes = self.take(8, what)?;
        Ok(u64::from_le_bytes(
            bytes.try_into().expect("eight bytes were taken"),
        ))
    }

    fn bytes(&mut self, what: &'static str) -> Result<&'b [u8], MalformedBlock> {
        let n_bytes = usize::try_from(self.varint(what)?).map_err(|_| MalformedBlock::TooLarge(what))?;
        self.take(n_bytes, what)
    }

    /// Ends of `n_rows` lists: never falling, and no more items than bytes are left.
    fn ends(&mut self, n_rows: usize) -> Result<Vec<usize>, MalformedBlock> {
        let n_bytes = n_rows.checked_mul(8).ok_or(MalformedBlock::TooLarge("rows"))?;
        let bytes = self.take(n_bytes, "the ends of lists")?;
        let mut ends = Vec::with_capacity(n_rows);
        let mut last = 0;
        for word in bytes.chunks_exact(8) {
            let end = usize::try_from(little_endian(word)).map_err(|_| MalformedBlock::TooLarge("items"))?;
            if end < last || end > self.0.len() {
                return Err(MalformedBlock::TooLarge("items"));
            }
            last = end;
            ends.push(end);
        }
        Ok(ends)
    }

    fn finish(self) -> Result<(), MalformedBlock> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(MalformedBlock::TrailingBytes(self.0.len()))
        }
    }
}
