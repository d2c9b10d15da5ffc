//! HPACK decoding (RFC 7541) that keeps order, repetition and the bytes of names and values.
//!
//! Own, because the crates that are alive keep their decoder private or hand out a header map, which loses
//! the order. Input is hostile: the dynamic table never exceeds the size that we announced, and a block
//! yields at most `MAX_FIELDS` fields and `MAX_BLOCK_BYTES` decoded bytes.

use std::collections::VecDeque;

use super::huffman;

/// Size of the dynamic table that a peer may use: the default of RFC 9113, which the server does not change.
pub const MAX_TABLE_BYTES: usize = 4096;
/// Overhead of a table entry, RFC 7541 section 4.1.
const ENTRY_OVERHEAD: usize = 32;
/// Most fields of a block. The server refuses header lists over 32 KiB, where a field counts at least 32.
pub const MAX_FIELDS: usize = 1024;
/// Most decoded bytes of a block. A reference of one byte may stand for an entry of 4 KiB, so the limit must
/// be on what comes out: the server's own limit and the largest single field beyond it.
pub const MAX_BLOCK_BYTES: usize = 64 << 10;

/// One header, as sent.
pub type Field = (Vec<u8>, Vec<u8>);

/// Why a block cannot be decoded. The connection is lost then, as the table is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum HpackError {
    /// The block ends inside a field.
    Short,
    /// A number over 32 bits, or an index of nothing.
    Number,
    /// Not a valid Huffman text.
    Huffman,
    /// The table is to become larger than announced, or in the middle of a block.
    TableSize,
    /// More than `MAX_FIELDS` or `MAX_BLOCK_BYTES`.
    TooMuch,
}

/// The state of one direction of a connection.
#[derive(Debug)]
pub struct Decoder {
    table: VecDeque<Field>,
    table_bytes: usize,
    max_bytes: usize,
}

impl Default for Decoder {
    fn default() -> Self {
        Self {
            table: VecDeque::new(),
            table_bytes: 0,
            max_bytes: MAX_TABLE_BYTES,
        }
    }
}

impl Decoder {
    /// Decodes a whole header block.
    ///
    /// # Errors
    /// The block is not valid or too large; the decoder must not be used any more.
    pub fn decode(&mut self, block: &[u8]) -> Result<Vec<Field>, HpackError> {
        let mut reader = Reader { rest: block };
        let mut fields = Vec::new();
        let mut n_bytes = 0;
        while let Some(&first) = reader.rest.first() {
            let field = if first & 0x80 != 0 {
                self.entry(reader.number(7)?)?
            } else if first & 0x40 != 0 {
                let field = self.literal(&mut reader, 6)?;
                self.insert(field.clone());
                field
            } else if first & 0x20 != 0 {
                if !fields.is_empty() {
                    return Err(HpackError::TableSize);
                }
                self.resize(reader.number(5)?)?;
                continue;
            } else {
                self.literal(&mut reader, 4)?
            };
            n_bytes += field.0.len() + field.1.len();
            if fields.len() == MAX_FIELDS || n_bytes > MAX_BLOCK_BYTES {
                return Err(HpackError::TooMuch);
            }
            fields.push(field);
        }
        Ok(fields)
    }

    /// Bytes that the dynamic table counts, never above [`MAX_TABLE_BYTES`].
    pub fn table_bytes(&self) -> usize {
        self.table_bytes
    }

    fn literal(&self, reader: &mut Reader<'_>, prefix_bits: u8) -> Result<Field, HpackError> {
        let name = match reader.number(prefix_bits)? {
            0 => reader.text()?,
            index => self.entry(index)?.0,
        };
        Ok((name, reader.text()?))
    }

    fn entry(&self, index: usize) -> Result<Field, HpackError> {
        let index = index.checked_sub(1).ok_or(HpackError::Number)?;
        if let Some((name, value)) = STATIC_TABLE.get(index) {
            return Ok((name.as_bytes().to_vec(), value.as_bytes().to_vec()));
        }
        let entry = self.table.get(index - STATIC_TABLE.len());
        entry.cloned().ok_or(HpackError::Number)
    }

    fn insert(&mut self, field: Field) {
        let size = entry_bytes(&field);
        self.evict(self.max_bytes.saturating_sub(size));
        if size <= self.max_bytes {
            self.table_bytes += size;
            self.table.push_front(field);
        }
    }

    fn resize(&mut self, max_bytes: usize) -> Result<(), HpackError> {
        if max_bytes > MAX_TABLE_BYTES {
            return Err(HpackError::TableSize);
        }
        self.max_bytes = max_bytes;
        self.evict(max_bytes);
        Ok(())
    }

    fn evict(&mut self, down_to: usize) {
        while self.table_bytes > down_to {
            let Some(oldest) = self.table.pop_back() else {
                break;
            };
            self.table_bytes -= entry_bytes(&oldest);
        }
    }
}

fn entry_bytes((name, value): &Field) -> usize {
    name.len() + value.len() + ENTRY_OVERHEAD
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl Reader<'_> {
    fn byte(&mut self) -> Result<u8, HpackError> {
        let (first, rest) = self.rest.split_first().ok_or(HpackError::Short)?;
        self.rest = rest;
        Ok(*first)
    }

    /// A number with a prefix (section 5.1), of at most 32 bits.
    fn number(&mut self, prefix_bits: u8) -> Result<usize, HpackError> {
        let mask = (1_u16 << prefix_bits) - 1;
        let prefix = u64::from(u16::from(self.byte()?) & mask);
        if prefix < u64::from(mask) {
            return usize::try_from(prefix).map_err(|_| HpackError::Number);
        }
        let mut value = prefix;
        for shift in [0, 7, 14, 21, 28] {
            let byte = self.byte()?;
            value += u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return u32::try_from(value)
                    .map_err(|_| HpackError::Number)
                    .and_then(|value| usize::try_from(value).map_err(|_| HpackError::Number));
            }
        }
        Err(HpackError::Number)
    }

    fn text(&mut self) -> Result<Vec<u8>, HpackError> {
        let is_huffman = self.rest.first().ok_or(HpackError::Short)? & 0x80 != 0;
        let len = self.number(7)?;
        let (bytes, rest) = self.rest.split_at_checked(len).ok_or(HpackError::Short)?;
        self.rest = rest;
        if !is_huffman {
            return Ok(bytes.to_vec());
        }
        let mut text = Vec::with_capacity(bytes.len() * 2);
        huffman::decode(bytes, MAX_BLOCK_BYTES, &mut text).ok_or(HpackError::Huffman)?;
        Ok(text)
    }
}

/// RFC 7541, appendix A.
#[rustfmt::skip]
const STATIC_TABLE: [(&str, &str); 61] = [
    (":authority", ""), (":method", "GET"), (":method", "POST"), (":path", "/"), (":path", "/index.html"),
    (":scheme", "http"), (":scheme", "https"), (":status", "200"), (":status", "204"), (":status", "206"),
    (":status", "304"), (":status", "400"), (":status", "404"), (":status", "500"), ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"), ("accept-language", ""), ("accept-ranges", ""), ("accept", ""),
    ("access-control-allow-origin", ""), ("age", ""), ("allow", ""), ("authorization", ""),
    ("cache-control", ""), ("content-disposition", ""), ("content-encoding", ""), ("content-language", ""),
    ("content-length", ""), ("content-location", ""), ("content-range", ""), ("content-type", ""),
    ("cookie", ""), ("date", ""), ("etag", ""), ("expect", ""), ("expires", ""), ("from", ""), ("host", ""),
    ("if-match", ""), ("if-modified-since", ""), ("if-none-match", ""), ("if-range", ""),
    ("if-unmodified-since", ""), ("last-modified", ""), ("link", ""), ("location", ""), ("max-forwards", ""),
    ("proxy-authenticate", ""), ("proxy-authorization", ""), ("range", ""), ("referer", ""), ("refresh", ""),
    ("retry-after", ""), ("server", ""), ("set-cookie", ""), ("strict-transport-security", ""),
    ("transfer-encoding", ""), ("user-agent", ""), ("vary", ""), ("via", ""), ("www-authenticate", ""),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(fields: &[Field]) -> Vec<String> {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        fields
            .iter()
            .map(|(n, v)| format!("{}: {}", text(n), text(v)))
            .collect()
    }

    // RFC 7541, appendix C.4: three requests on one connection, with Huffman texts.
    #[test]
    fn requests_of_the_rfc() {
        let mut decoder = Decoder::default();
        let first = [
            0x82, 0x86, 0x84, 0x41, 0x8c, 0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4,
            0xff,
        ];
        let second = [
            0x82, 0x86, 0x84, 0xbe, 0x58, 0x86, 0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf,
        ];
        let third = [
            0x82, 0x87, 0x85, 0xbf, 0x40, 0x88, 0x25, 0xa8, 0x49, 0xe9, 0x5b, 0xa9, 0x7d, 0x7f, 0x89, 0x25,
            0xa8, 0x49, 0xe9, 0x5b, 0xb8, 0xe8, 0xb4, 0xbf,
        ];
        let head = ":method: GET";
        assert_eq!(
            texts(&decoder.decode(&first).unwrap()),
            [head, ":scheme: http", ":path: /", ":authority: www.example.com"]
        );
        assert_eq!(
            texts(&decoder.decode(&second).unwrap())[3..],
            [":authority: www.example.com", "cache-control: no-cache"]
        );
        assert_eq!(
            texts(&decoder.decode(&third).unwrap())[1..],
            [
                ":scheme: https",
                ":path: /index.html",
                ":authority: www.example.com",
                "custom-key: custom-value"
            ]
        );
        assert_eq!(decoder.table_bytes(), 164);
    }

    #[test]
    fn a_bomb_of_references_is_refused() {
        let mut decoder = Decoder::default();
        let mut block = vec![0x40, 1, b'x', 0x7f, 0xe0, 0x1e];
        block.extend(vec![b'v'; 0x7f + 0x60 + (0x1e << 7)]);
        decoder.decode(&block).unwrap();
        assert_eq!(decoder.decode(&[0xbe; 20]), Err(HpackError::TooMuch));
    }

    #[test]
    fn a_larger_table_than_announced_is_refused() {
        assert_eq!(
            Decoder::default().decode(&[0x3f, 0xe2, 0x1f]),
            Err(HpackError::TableSize)
        );
    }
}
