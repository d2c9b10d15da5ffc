//! Cuts a filter into words. A word is a run of plain and quoted pieces: `*"Windows NT"*`.

use crate::filter::ast::{FilterError, Part, Pattern};

/// Reads characters one after the other; the parser says what it expects.
#[derive(Debug)]
pub(crate) struct Lexer {
    chars: Vec<char>,
    /// The next character.
    at: usize,
}

/// A word with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Word {
    /// What it says.
    pub(crate) pattern: Pattern,
    /// The word as typed, if no part of it is quoted or escaped.
    pub(crate) bare: Option<String>,
    /// First character.
    pub(crate) offset: usize,
    /// Characters.
    pub(crate) length: usize,
}

impl Lexer {
    pub(crate) fn new(text: &str) -> Self {
        Self {
            chars: text.chars().collect(),
            at: 0,
        }
    }

    /// Place of the next character.
    pub(crate) fn offset(&self) -> usize {
        self.at
    }

    /// Characters in all.
    pub(crate) fn len(&self) -> usize {
        self.chars.len()
    }

    pub(crate) fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    fn peek_at(&self, ahead: usize) -> Option<char> {
        self.chars.get(self.at + ahead).copied()
    }

    /// True if the next character begins a word or a group.
    pub(crate) fn is_at_operand(&self) -> bool {
        self.peek().is_some_and(|c| !c.is_whitespace() && c != ')')
    }

    pub(crate) fn skip_spaces(&mut self) {
        while self.peek().is_some_and(char::is_whitespace) {
            self.at += 1;
        }
    }

    /// Takes this character if it is the next.
    pub(crate) fn take(&mut self, wanted: char) -> bool {
        let is_next = self.peek() == Some(wanted);
        self.at += usize::from(is_next);
        is_next
    }

    /// Takes this keyword if it is the next word.
    pub(crate) fn take_keyword(&mut self, keyword: &str) -> bool {
        let n = keyword.chars().count();
        let is_next = keyword
            .chars()
            .enumerate()
            .all(|(i, c)| self.peek_at(i) == Some(c))
            && self
                .peek_at(n)
                .is_none_or(|c| c.is_whitespace() || matches!(c, '(' | ')'));
        if is_next {
            self.at += n;
        }
        is_next
    }

    /// Goes back by some characters that were taken.
    pub(crate) fn back(&mut self, n: usize) {
        self.at -= n;
    }

    /// Takes `name:` if it is the next: the name, its place is where the lexer was.
    pub(crate) fn take_field(&mut self) -> Option<String> {
        let name: String = self.chars[self.at..]
            .iter()
            .take_while(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'))
            .collect();
        let n = name.len();
        if n == 0 || !name.starts_with(|c: char| c.is_ascii_alphabetic()) || self.peek_at(n) != Some(':') {
            return None;
        }
        self.at += n + 1;
        Some(name)
    }

    /// Takes a word, which may be empty.
    pub(crate) fn word(&mut self) -> Result<Word, FilterError> {
        let offset = self.at;
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut is_bare = true;
        while let Some(c) = self.peek() {
            match c {
                '(' | ')' => break,
                c if c.is_whitespace() => break,
                '"' => {
                    is_bare = false;
                    self.quoted(&mut literal)?;
                }
                '*' => {
                    self.at += 1;
                    push_literal(&mut parts, &mut literal);
                    if parts.last() != Some(&Part::Any) {
                        parts.push(Part::Any);
                    }
                }
                '\\' => {
                    is_bare = false;
                    let Some(next) = self.peek_at(1) else {
                        return Err(FilterError {
                            offset: self.at,
                            length: 1,
                            message: "a backslash with nothing after it".to_owned(),
                            remedy: "write \\\\ for a backslash".to_owned(),
                        });
                    };
                    literal.push(next);
                    self.at += 2;
                }
                c => {
                    literal.push(c);
                    self.at += 1;
                }
            }
        }
        push_literal(&mut parts, &mut literal);
        Ok(Word {
            pattern: Pattern(parts),
            bare: is_bare.then(|| self.chars[offset..self.at].iter().collect()),
            offset,
            length: self.at - offset,
        })
    }

    /// Takes a quoted piece, into `literal`.
    fn quoted(&mut self, literal: &mut String) -> Result<(), FilterError> {
        let opened = self.at;
        self.at += 1;
        loop {
            match self.peek() {
                None => {
                    return Err(FilterError {
                        offset: opened,
                        length: self.at - opened,
                        message: "a quote that is never closed".to_owned(),
                        remedy: "close it with \", or write \\\" for a quote".to_owned(),
                    });
                }
                Some('"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some('\\') if matches!(self.peek_at(1), Some('"' | '\\')) => {
                    literal.extend(self.peek_at(1));
                    self.at += 2;
                }
                Some(c) => {
                    literal.push(c);
                    self.at += 1;
                }
            }
        }
    }
}

fn push_literal(parts: &mut Vec<Part>, literal: &mut String) {
    if !literal.is_empty() {
        parts.push(Part::Literal(std::mem::take(literal)));
    }
}
