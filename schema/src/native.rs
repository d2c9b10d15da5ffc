//! Writes blocks in ClickHouse's Native format, column by column, and cuts a finished block apart again.
//!
//! ```text
//! block  = varint n_columns, varint n_rows, column…
//! column = varint-prefixed name, varint-prefixed type, values
//! ```
//!
//! Source: the Native format of the ClickHouse HTTP interface without a protocol revision. One block becomes one part for
//! each partition that it touches, which is what deduplication by token relies on.
//!
//! Read [`Block`] (a table's builder implements it) and [`slice::cut`] first. Deliberately absent: reading answers; the
//! `clickhouse` crate does that.

pub mod column;
pub mod slice;

pub use column::{Column, Fixed, LowText, PairCounts, Pairs, Text, Texts};
pub use slice::{MalformedBlock, cut, n_rows, row_json};

/// A block of rows of one table under construction.
pub trait Block {
    /// Table that it is for, without the database.
    const TABLE: &'static str;
    /// Name and type on the wire of each column, in order.
    const COLUMNS: &'static [(&'static str, &'static str)];

    /// Rows pushed since the last `finish`.
    fn n_rows(&self) -> usize;

    /// Bytes that `finish` will write, to within the header.
    fn approx_bytes(&self) -> usize;

    /// Appends the block to `out` and empties the builder, which keeps its memory for the next block.
    fn finish(&mut self, out: &mut Vec<u8>);

    /// The statement that takes the block as its body.
    fn insert_sql(logs: &str) -> String {
        insert_sql(logs, Self::TABLE, Self::COLUMNS.iter().map(|(name, _)| *name))
    }
}

/// `INSERT INTO logs.table (columns) FORMAT Native`.
pub fn insert_sql<'n>(database: &str, table: &str, columns: impl IntoIterator<Item = &'n str>) -> String {
    let mut sql = format!("INSERT INTO `{database}`.`{table}` (");
    for (idx, name) in columns.into_iter().enumerate() {
        if idx > 0 {
            sql.push_str(", ");
        }
        sql.push('`');
        sql.push_str(name);
        sql.push('`');
    }
    sql.push_str(") FORMAT Native");
    sql
}

/// Writes an unsigned LEB128 number.
pub(crate) fn write_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    #[expect(clippy::cast_possible_truncation, reason = "below 0x80 here")]
    out.push(value as u8);
}

/// Writes a length and the bytes.
pub(crate) fn write_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    write_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// The column's name of a field: without the mark of a raw identifier (`match` is a keyword).
pub(crate) const fn column_name(field: &'static str) -> &'static str {
    match field.as_bytes() {
        [b'r', b'#', ..] => field.split_at(2).1,
        _ => field,
    }
}

/// Declares a builder with one field for each column, and its [`Block`] implementation.
macro_rules! block {
    ($(#[$doc:meta])* $name:ident for $table:literal { $($field:ident: $kind:ty = $wire:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Default)]
        pub struct $name {
            rows: usize,
            $($field: $kind,)*
        }

        impl $name {
            /// An empty builder.
            pub fn new() -> Self {
                Self::default()
            }
        }

        impl $crate::native::Block for $name {
            const TABLE: &'static str = $table;
            const COLUMNS: &'static [(&'static str, &'static str)] = &[$(($crate::native::column_name(stringify!($field)), $wire),)*];

            fn n_rows(&self) -> usize {
                self.rows
            }

            fn approx_bytes(&self) -> usize {
                0 $(+ $crate::native::Column::approx_bytes(&self.$field))*
            }

            fn finish(&mut self, out: &mut Vec<u8>) {
                out.reserve(self.approx_bytes() + 64 * Self::COLUMNS.len());
                $crate::native::write_varint(out, Self::COLUMNS.len() as u64);
                $crate::native::write_varint(out, self.rows as u64);
                $(
                    debug_assert_eq!($crate::native::Column::n_rows(&self.$field), self.rows, stringify!($field));
                    $crate::native::write_bytes(out, $crate::native::column_name(stringify!($field)).as_bytes());
                    $crate::native::write_bytes(out, $wire.as_bytes());
                    $crate::native::Column::write_values(&self.$field, out);
                    $crate::native::Column::clear(&mut self.$field);
                )*
                self.rows = 0;
            }
        }
    };
}
pub(crate) use block;
