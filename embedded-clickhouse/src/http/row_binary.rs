//! The header of `RowBinaryWithNamesAndTypes`, which the engine repeats with every chunk of a streamed answer.
//!
//! Pure. Header: LEB128 number of columns, then as many names and as many types, each a LEB128 length and bytes.

/// Length of the header in bytes; None when the bytes do not hold a whole one.
pub fn header_length(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    let n_columns = leb128(bytes, &mut at)?;
    // Two strings a column, at least one byte each.
    let n_strings = n_columns.checked_mul(2).filter(|&n| n <= bytes.len())?;
    for _ in 0..n_strings {
        let length = leb128(bytes, &mut at)?;
        at = at.checked_add(length).filter(|&end| end <= bytes.len())?;
    }
    Some(at)
}

fn leb128(bytes: &[u8], at: &mut usize) -> Option<usize> {
    let mut value: usize = 0;
    for shift in (0..usize::BITS).step_by(7) {
        let byte = *bytes.get(*at)?;
        *at += 1;
        let part = usize::from(byte & 0x7f);
        value |= part
            .checked_shl(shift)
            .filter(|shifted| shifted >> shift == part)?;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_ends_where_rows_begin() {
        let header = b"\x02\x01a\x01b\x06UInt32\x06String";
        let chunk = [&header[..], b"rows"].concat();
        assert_eq!(header_length(&chunk), Some(header.len()));
        for cut in 0..header.len() {
            assert_eq!(header_length(&header[..cut]), None, "cut at {cut}");
        }
    }

    #[test]
    fn absurd_numbers_are_no_header() {
        assert_eq!(header_length(&[0xff; 20]), None);
        assert_eq!(header_length(b"\xff\xff\xff\xff\x0f"), None);
        assert_eq!(
            header_length(b"\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"),
            None
        );
    }
}
