//! Splits a byte stream into lines, within a limit, and finds its feet again after garbage.
//!
//! Pure. What is between two line ends is a frame; an empty one (also `\r` alone) is skipped; a longer one
//! than the limit is reported once, and the splitter goes on behind the next line end.

use memchr::memchr;

/// What a [`Splitter`] finds.
#[derive(PartialEq, Eq, Debug)]
pub enum Piece<'a> {
    /// A line without its end.
    Frame(&'a [u8]),
    /// A line over the limit, said when the limit is passed.
    TooLong,
}

/// Keeps the part of a line whose end has not come.
#[derive(Debug, Default)]
pub struct Splitter {
    partial: Vec<u8>,
    /// `partial` was handed out as a frame and is to be emptied.
    handed_out: bool,
    /// Inside a line that is over the limit.
    skipping: bool,
}

impl Splitter {
    /// The next piece of `input`, which moves past what was used; `None` if all of it was used.
    /// `limit` is the most bytes of a line without its end.
    pub fn next<'a, 'i: 'a>(&'a mut self, input: &mut &'i [u8], limit: usize) -> Option<Piece<'a>> {
        if self.handed_out {
            self.handed_out = false;
            self.partial.clear();
        }
        loop {
            let Some(end) = memchr(b'\n', input) else {
                let rest = std::mem::take(input);
                if self.skipping || rest.is_empty() {
                    return None;
                }
                if self.partial.len() + rest.len() > limit {
                    self.skipping = true;
                    self.partial = Vec::new();
                    return Some(Piece::TooLong);
                }
                self.partial.extend_from_slice(rest);
                return None;
            };
            let line = &input[..end];
            *input = &input[end + 1..];
            if self.skipping {
                self.skipping = false;
            } else if self.partial.len() + line.len() > limit {
                self.partial = Vec::new();
                return Some(Piece::TooLong);
            } else if self.partial.is_empty() {
                let line = trimmed(line);
                if !line.is_empty() {
                    return Some(Piece::Frame(line));
                }
            } else {
                self.partial.extend_from_slice(line);
                if trimmed(&self.partial).is_empty() {
                    self.partial.clear();
                } else {
                    self.handed_out = true;
                    return Some(Piece::Frame(trimmed(&self.partial)));
                }
            }
        }
    }

    /// Gives memory back between lines; a connection that idles there costs nothing.
    pub fn rest(&mut self) {
        if self.handed_out || self.partial.is_empty() {
            self.handed_out = false;
            self.partial = Vec::new();
        }
    }

    /// True if a line has begun and not ended.
    pub fn is_mid_line(&self) -> bool {
        self.skipping || !(self.handed_out || self.partial.is_empty())
    }

    /// Memory in use, bytes.
    pub fn buffered(&self) -> usize {
        self.partial.capacity()
    }
}

fn trimmed(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(chunks: &[&[u8]], limit: usize) -> Vec<String> {
        let mut splitter = Splitter::default();
        let mut found = Vec::new();
        for chunk in chunks {
            let mut input = *chunk;
            while let Some(piece) = splitter.next(&mut input, limit) {
                found.push(match piece {
                    Piece::Frame(line) => String::from_utf8_lossy(line).into_owned(),
                    Piece::TooLong => "TOO LONG".to_owned(),
                });
            }
        }
        found
    }

    #[test]
    fn lines_are_found_wherever_the_reads_end() {
        assert_eq!(
            split(&[b"a\nb", b"c\n\nd\r\n", b"\r", b"\n", b"e"], 9),
            ["a", "bc", "d"]
        );
    }

    #[test]
    fn a_long_line_is_said_once_and_the_next_one_is_read() {
        assert_eq!(split(&[b"12345\nok\n"], 4), ["TOO LONG", "ok"]);
        assert_eq!(split(&[b"123", b"45", b"678", b"9\nok\n"], 4), ["TOO LONG", "ok"]);
        assert_eq!(split(&[b"1234\n"], 4), ["1234"]);
    }

    #[test]
    fn a_rest_keeps_the_line_that_has_begun() {
        let mut splitter = Splitter::default();
        let mut input: &[u8] = b"ab";
        assert_eq!(splitter.next(&mut input, 9), None);
        splitter.rest();
        assert!(splitter.is_mid_line());
        let mut input: &[u8] = b"c\n";
        assert_eq!(splitter.next(&mut input, 9), Some(Piece::Frame(b"abc")));
        splitter.rest();
        assert_eq!((splitter.is_mid_line(), splitter.buffered()), (false, 0));
    }
}
