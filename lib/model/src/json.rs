//! Writes JSON by hand: objects of known fields into a byte buffer, with `std` alone.

use std::io::Write as _;

use crate::text::Text;

/// An open JSON object. Fields are written in call order; absent options are left out.
#[derive(Debug)]
pub struct Object<'a> {
    out: &'a mut Vec<u8>,
    first: bool,
}

impl<'a> Object<'a> {
    /// Opens an object at the end of `out`.
    pub fn open(out: &'a mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { out, first: true }
    }

    /// Closes the object.
    pub fn close(self) {
        self.out.push(b'}');
    }

    /// Writes the name of the next field and hands out the buffer for its value.
    pub fn key(&mut self, name: &str) -> &mut Vec<u8> {
        if !self.first {
            self.out.push(b',');
        }
        self.first = false;
        write_str(self.out, name);
        self.out.push(b':');
        self.out
    }

    /// A text.
    pub fn text(&mut self, name: &str, value: &Text<'_>) {
        write_text(self.key(name), value.as_bytes());
    }

    /// A text, left out if it is empty.
    pub fn text_if(&mut self, name: &str, value: &Text<'_>) {
        if !value.is_empty() {
            self.text(name, value);
        }
    }

    /// A UTF-8 string.
    pub fn str(&mut self, name: &str, value: &str) {
        write_str(self.key(name), value);
    }

    /// Anything whose `Display` is valid inside a JSON string without escapes (ids, addresses).
    pub fn display(&mut self, name: &str, value: impl std::fmt::Display) {
        let out = self.key(name);
        out.push(b'"');
        write_display(out, value);
        out.push(b'"');
    }

    /// A whole number.
    pub fn num(&mut self, name: &str, value: impl Into<i128>) {
        write_int(self.key(name), value.into());
    }

    /// A whole number, left out if absent.
    pub fn num_opt(&mut self, name: &str, value: Option<impl Into<i128>>) {
        if let Some(value) = value {
            self.num(name, value);
        }
    }

    /// A finite floating-point number.
    pub fn float(&mut self, name: &str, value: f64) {
        let out = self.key(name);
        if value.is_finite() {
            write_display(out, value);
        } else {
            out.extend_from_slice(b"null");
        }
    }

    /// A truth value, left out if false: every flag of the wire defaults to false.
    pub fn flag(&mut self, name: &str, value: bool) {
        if value {
            self.key(name).extend_from_slice(b"true");
        }
    }

    /// A list of texts, left out if empty.
    pub fn texts<'t>(&mut self, name: &str, values: impl IntoIterator<Item = &'t Text<'t>>) {
        let mut values = values.into_iter().peekable();
        if values.peek().is_some() {
            write_list(self.key(name), values, |out, text| {
                write_text(out, text.as_bytes());
            });
        }
    }
}

/// Writes `[…]` with `write_item` for each item.
pub fn write_list<T>(
    out: &mut Vec<u8>,
    items: impl IntoIterator<Item = T>,
    mut write_item: impl FnMut(&mut Vec<u8>, T),
) {
    out.push(b'[');
    for (idx, item) in items.into_iter().enumerate() {
        if idx > 0 {
            out.push(b',');
        }
        write_item(out, item);
    }
    out.push(b']');
}

/// Writes bytes as a JSON string if they are UTF-8, else as `{"b64":"…"}` (RFC 4648 with padding).
pub fn write_text(out: &mut Vec<u8>, bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        write_str(out, text);
    } else {
        out.extend_from_slice(b"{\"b64\":\"");
        write_base64(out, bytes);
        out.extend_from_slice(b"\"}");
    }
}

/// Writes a JSON string (RFC 8259 section 7): quotes, backslash and control characters escaped.
pub fn write_str(out: &mut Vec<u8>, text: &str) {
    out.reserve(text.len() + 2);
    out.push(b'"');
    let mut rest = text.as_bytes();
    loop {
        let (plain, special) = rest.split_at(plain_bytes(rest));
        out.extend_from_slice(plain);
        let Some((&byte, after)) = special.split_first() else {
            break;
        };
        rest = after;
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            _ => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                out.extend_from_slice(b"\\u00");
                out.push(HEX[usize::from(byte >> 4)]);
                out.push(HEX[usize::from(byte & 15)]);
            }
        }
    }
    out.push(b'"');
}

/// How many of the first bytes need no escape. Sixteen at a time, so that the compiler compares them at once:
/// byte by byte it was a third of the cost of writing a record.
fn plain_bytes(bytes: &[u8]) -> usize {
    const AT_ONCE: usize = 16;
    let special = |byte: u8| byte < 0x20 || byte == b'"' || byte == b'\\';
    let mut n = 0;
    for chunk in bytes.chunks_exact(AT_ONCE) {
        if chunk.iter().fold(false, |any, &byte| any | special(byte)) {
            break;
        }
        n += AT_ONCE;
    }
    let rest = bytes[n..].iter();
    n + rest.take_while(|&&byte| !special(byte)).count()
}

/// Writes a whole number.
pub fn write_int(out: &mut Vec<u8>, value: i128) {
    match (u64::try_from(value), i64::try_from(value)) {
        (Ok(small), _) => write_u64(out, small),
        (_, Ok(negative)) => {
            out.push(b'-');
            write_u64(out, negative.unsigned_abs());
        }
        _ => write_display(out, value),
    }
}

fn write_u64(out: &mut Vec<u8>, mut value: u64) {
    // 20 digits hold u64::MAX.
    let mut digits = [0_u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + u8::try_from(value % 10).expect("a remainder of ten is a digit");
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

fn write_display(out: &mut Vec<u8>, value: impl std::fmt::Display) {
    write!(out, "{value}").expect("writing to a Vec does not fail");
}

fn write_base64(out: &mut Vec<u8>, bytes: &[u8]) {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for chunk in bytes.chunks(3) {
        let word = chunk
            .iter()
            .fold(0_u32, |word, &byte| word << 8 | u32::from(byte))
            << (8 * (3 - chunk.len()));
        for position in 0..4 {
            let symbol = (word >> (18 - 6 * position)) & 63;
            out.push(if position <= chunk.len() {
                ALPHABET[symbol as usize]
            } else {
                b'='
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(bytes: &[u8], expected: &str) {
        let mut out = Vec::new();
        write_text(&mut out, bytes);
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn text_is_escaped_or_encoded() {
        check(b"plain", r#""plain""#);
        check(b"a\"b\\c\n\x01\x1f", r#""a\"b\\c\n\u0001\u001f""#);
        check("é".as_bytes(), "\"é\"");
        check(b"0123456789abcdef\"", r#""0123456789abcdef\"""#);
        check(
            b"0123456\\89abcdef0123456789abcdef",
            r#""0123456\\89abcdef0123456789abcdef""#,
        );
        check(&[0xff], r#"{"b64":"/w=="}"#);
        check(&[0xff, 0xfe], r#"{"b64":"//4="}"#);
        check(&[0xff, 0xfe, 0xfd], r#"{"b64":"//79"}"#);
    }

    #[test]
    fn numbers_reach_their_bounds() {
        for value in [0, 7, -1, i128::from(u64::MAX), i128::from(i64::MIN), i128::MAX] {
            let mut out = Vec::new();
            write_int(&mut out, value);
            assert_eq!(String::from_utf8(out).unwrap(), value.to_string());
        }
    }
}
