//! Splits SQL into tokens as ClickHouse's lexer does: names, quoted names, strings, numbers, punctuation.
//!
//! Input is bytes (a statement may carry data after it); output is a list of tokens with their byte ranges and
//! the depth of brackets around them. Comments and white space are skipped. An unterminated quote or comment ends
//! the list with [`TokenKind::Unterminated`]: more bytes may complete it. Never panics, linear in its input.

use std::ops::Range;

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenKind {
    /// Bare word: keyword, name, function.
    Word,
    /// Name in backticks or double quotes.
    QuotedName,
    /// String in single quotes or heredoc.
    Text,
    /// Number.
    Number,
    /// One byte of punctuation.
    Punctuation(u8),
    /// A quote, heredoc or comment that the input does not end.
    Unterminated,
}

/// A token of a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// What it is.
    pub kind: TokenKind,
    /// Where it stands, in bytes.
    pub range: Range<usize>,
    /// Brackets open around it; an opening and its closing bracket have the depth outside.
    pub depth: u32,
}

impl Token {
    /// True for this bare word in any case.
    pub fn is_word(&self, sql: &[u8], word: &str) -> bool {
        self.kind == TokenKind::Word && sql[self.range.clone()].eq_ignore_ascii_case(word.as_bytes())
    }

    /// True for this byte of punctuation.
    pub fn is_punctuation(&self, byte: u8) -> bool {
        self.kind == TokenKind::Punctuation(byte)
    }

    /// The name that a bare or quoted name stands for; for a string its content. None for other tokens.
    pub fn name(&self, sql: &[u8]) -> Option<String> {
        let raw = &sql[self.range.clone()];
        match self.kind {
            TokenKind::Word => Some(String::from_utf8_lossy(raw).into_owned()),
            TokenKind::Text if raw.first() == Some(&b'$') => {
                let tag = raw[1..].iter().position(|&b| b == b'$')? + 2;
                raw.get(tag..raw.len() - tag)
                    .map(|inner| String::from_utf8_lossy(inner).into_owned())
            }
            TokenKind::QuotedName | TokenKind::Text => raw
                .get(1..raw.len() - 1)
                .map(|inner| String::from_utf8_lossy(&unescape(inner, raw[0])).into_owned()),
            TokenKind::Number | TokenKind::Punctuation(_) | TokenKind::Unterminated => None,
        }
    }
}

/// Resolves backslashes and doubled quotes inside a quoted token.
fn unescape(inner: &[u8], quote: u8) -> Vec<u8> {
    let mut out = Vec::with_capacity(inner.len());
    let mut bytes = inner.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        if byte == quote && bytes.peek() == Some(&quote) {
            bytes.next();
            out.push(quote);
        } else if byte == b'\\' {
            match bytes.next() {
                Some(b'n') => out.push(b'\n'),
                Some(b't') => out.push(b'\t'),
                Some(b'r') => out.push(b'\r'),
                Some(b'0') => out.push(0),
                Some(b'b') => out.push(8),
                Some(b'f') => out.push(12),
                Some(b'a') => out.push(7),
                Some(b'v') => out.push(11),
                Some(b'x') => {
                    let high = bytes.next().and_then(hex_digit);
                    let low = bytes.next().and_then(hex_digit);
                    if let (Some(high), Some(low)) = (high, low) {
                        out.push(high * 16 + low);
                    }
                }
                Some(other) => out.push(other),
                None => {}
            }
        } else {
            out.push(byte);
        }
    }
    out
}

fn hex_digit(byte: u8) -> Option<u8> {
    char::from(byte)
        .to_digit(16)
        .and_then(|digit| u8::try_from(digit).ok())
}

/// Reads tokens one after the other, so that a caller can stop where data begins.
#[derive(Debug, Clone)]
pub struct Lexer<'a> {
    sql: &'a [u8],
    at: usize,
    depth: u32,
    done: bool,
}

impl<'a> Lexer<'a> {
    /// Starts at the first byte.
    pub fn new(sql: &'a [u8]) -> Self {
        Self {
            sql,
            at: 0,
            depth: 0,
            done: false,
        }
    }

    fn peek(&self, offset: usize) -> Option<u8> {
        self.sql.get(self.at + offset).copied()
    }

    /// End of the comment that starts here: None when there is none, `Err` when it does not end.
    fn comment_end(&self) -> Option<Result<usize, ()>> {
        let rest = &self.sql[self.at..];
        let line = rest.starts_with(b"--") || rest.starts_with(b"#!") || rest.starts_with(b"# ");
        if line {
            let end = rest
                .iter()
                .position(|&b| b == b'\n')
                .map_or(rest.len(), |i| i + 1);
            return Some(Ok(self.at + end));
        }
        if rest.starts_with(b"/*") {
            let end = rest[2..].windows(2).position(|pair| pair == b"*/");
            return Some(end.map(|i| self.at + i + 4).ok_or(()));
        }
        None
    }

    /// End of a quoted token whose opening quote stands here.
    fn quoted_end(&self, quote: u8) -> Option<usize> {
        let mut i = self.at + 1;
        while let Some(&byte) = self.sql.get(i) {
            if byte == b'\\' {
                i += 2;
            } else if byte == quote {
                if self.sql.get(i + 1) == Some(&quote) {
                    i += 2;
                } else {
                    return Some(i + 1);
                }
            } else {
                i += 1;
            }
        }
        None
    }

    /// End of a heredoc (`$tag$ … $tag$`): None when there is none here, `Err` when it does not end.
    fn heredoc_end(&self) -> Option<Result<usize, ()>> {
        let rest = &self.sql[self.at..];
        let tag_end = rest[1..].iter().position(|&b| !is_word_byte(b))? + 1;
        if rest[tag_end] != b'$' {
            return None;
        }
        let tag = &rest[..=tag_end];
        let body = &rest[tag.len()..];
        let end = body.windows(tag.len()).position(|window| window == tag);
        Some(end.map(|i| self.at + tag.len() * 2 + i).ok_or(()))
    }

    fn token(&mut self, kind: TokenKind, end: usize, depth: u32) -> Token {
        let range = self.at..end;
        self.at = end;
        Token { kind, range, depth }
    }

    fn unterminated(&mut self) -> Token {
        self.done = true;
        self.token(TokenKind::Unterminated, self.sql.len(), self.depth)
    }
}

fn is_word_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

impl Iterator for Lexer<'_> {
    type Item = Token;

    fn next(&mut self) -> Option<Token> {
        if self.done {
            return None;
        }
        loop {
            let byte = self.peek(0)?;
            if byte.is_ascii_whitespace() || byte == 0x0b || byte == 0 {
                self.at += 1;
                continue;
            }
            match self.comment_end() {
                Some(Ok(end)) => self.at = end,
                Some(Err(())) => return Some(self.unterminated()),
                None => break,
            }
        }
        let byte = self.peek(0)?;
        let depth = self.depth;
        let token = match byte {
            b'\'' | b'`' | b'"' => {
                let kind = if byte == b'\'' {
                    TokenKind::Text
                } else {
                    TokenKind::QuotedName
                };
                match self.quoted_end(byte) {
                    Some(end) => self.token(kind, end, depth),
                    None => self.unterminated(),
                }
            }
            b'$' => match self.heredoc_end() {
                Some(Ok(end)) => self.token(TokenKind::Text, end, depth),
                Some(Err(())) => self.unterminated(),
                None => self.token(TokenKind::Punctuation(b'$'), self.at + 1, depth),
            },
            b'(' | b'[' | b'{' => {
                self.depth = depth.saturating_add(1);
                self.token(TokenKind::Punctuation(byte), self.at + 1, depth)
            }
            b')' | b']' | b'}' => {
                self.depth = depth.saturating_sub(1);
                let depth = self.depth;
                self.token(TokenKind::Punctuation(byte), self.at + 1, depth)
            }
            _ if is_word_byte(byte) => {
                let rest = &self.sql[self.at..];
                let length = rest.iter().position(|&b| !is_word_byte(b)).unwrap_or(rest.len());
                let kind = if byte.is_ascii_digit() {
                    TokenKind::Number
                } else {
                    TokenKind::Word
                };
                self.token(kind, self.at + length, depth)
            }
            _ => self.token(TokenKind::Punctuation(byte), self.at + 1, depth),
        };
        Some(token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(sql: &str, expected: &[&str]) {
        let found: Vec<&str> = Lexer::new(sql.as_bytes()).map(|t| &sql[t.range]).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn comments_and_quotes_hide_their_content() {
        check(
            "SELECT 'FORMAT; x' -- FORMAT\n, `a;b` /* ; */ FROM t",
            &["SELECT", "'FORMAT; x'", ",", "`a;b`", "FROM", "t"],
        );
    }

    #[test]
    fn doubled_and_escaped_quotes_stay_inside() {
        check(r"'it''s' 'a\'b' x", &["'it''s'", r"'a\'b'", "x"]);
    }

    #[test]
    fn heredoc_is_one_string() {
        check("$x$ ' ; $x$ y", &["$x$ ' ; $x$", "y"]);
        let sql = b"$x$ab$x$";
        assert_eq!(
            Lexer::new(sql).next().and_then(|t| t.name(sql)),
            Some("ab".to_owned())
        );
    }

    #[test]
    fn quoted_name_is_unescaped() {
        let sql = br"`a\`b``c\x41`";
        assert_eq!(
            Lexer::new(sql).next().and_then(|t| t.name(sql)),
            Some("a`b`cA".to_owned())
        );
    }

    #[test]
    fn unterminated_quote_ends_the_list() {
        let kinds: Vec<TokenKind> = Lexer::new(b"SELECT 'abc").map(|t| t.kind).collect();
        assert_eq!(kinds, [TokenKind::Word, TokenKind::Unterminated]);
        let kinds: Vec<TokenKind> = Lexer::new(b"/* abc").map(|t| t.kind).collect();
        assert_eq!(kinds, [TokenKind::Unterminated]);
    }

    #[test]
    fn depth_counts_open_brackets() {
        let sql = b"a(b[c])d";
        let depths: Vec<u32> = Lexer::new(sql).map(|t| t.depth).collect();
        assert_eq!(depths, [0, 0, 1, 1, 2, 1, 0, 0]);
    }
}
