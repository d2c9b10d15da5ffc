//! Words to expressions, by recursive descent. Each error says where and what to write instead.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::filter::ast::{Expr, FilterError, Part, Test};
use crate::filter::fields::{self, FieldDef, Kind, Unit};
use crate::filter::lexer::{Lexer, Word};
use crate::filter::{MAX_CHARS, MAX_DEPTH, MAX_TERMS};

/// Reads a filter; `None` is the empty one.
pub(crate) fn parse(text: &str) -> Result<Option<Expr>, FilterError> {
    let mut parser = Parser {
        lexer: Lexer::new(text),
        depth: 0,
        n_terms: 0,
    };
    let n_chars = parser.lexer.len();
    if n_chars > MAX_CHARS {
        return Err(FilterError {
            offset: MAX_CHARS,
            length: n_chars - MAX_CHARS,
            message: format!("a filter of {n_chars} characters"),
            remedy: format!("at most {MAX_CHARS} are read"),
        });
    }
    parser.lexer.skip_spaces();
    if parser.lexer.peek().is_none() {
        return Ok(None);
    }
    let expr = parser.either()?;
    if parser.lexer.peek() == Some(')') {
        return Err(FilterError {
            offset: parser.lexer.offset(),
            length: 1,
            message: "a ) without its (".to_owned(),
            remedy: "take it out, or put it in quotes".to_owned(),
        });
    }
    Ok(Some(expr))
}

struct Parser {
    lexer: Lexer,
    depth: usize,
    n_terms: usize,
}

impl Parser {
    /// `a OR b`.
    fn either(&mut self) -> Result<Expr, FilterError> {
        let mut parts = vec![self.both()?];
        loop {
            self.lexer.skip_spaces();
            if !self.lexer.take_keyword("OR") {
                break;
            }
            parts.push(self.both()?);
        }
        Ok(one_or(parts, Expr::Or))
    }

    /// `a AND b`, `a b`.
    fn both(&mut self) -> Result<Expr, FilterError> {
        let mut parts = vec![self.operand()?];
        loop {
            self.lexer.skip_spaces();
            let said = self.lexer.take_keyword("AND");
            if !said && (!self.lexer.is_at_operand() || self.is_at_or()) {
                break;
            }
            parts.push(self.operand()?);
        }
        Ok(one_or(parts, Expr::And))
    }

    fn is_at_or(&mut self) -> bool {
        let is_or = self.lexer.take_keyword("OR");
        if is_or {
            self.lexer.back(2);
        }
        is_or
    }

    /// `NOT a`, `-a`, `(a)`, a term.
    fn operand(&mut self) -> Result<Expr, FilterError> {
        self.lexer.skip_spaces();
        let offset = self.lexer.offset();
        for keyword in ["AND", "OR"] {
            if self.lexer.take_keyword(keyword) {
                return Err(FilterError {
                    offset,
                    length: keyword.len(),
                    message: format!("{keyword} with nothing before it"),
                    remedy: format!("write a term before it, or \"{keyword}\" to search for the word"),
                });
            }
        }
        if self.lexer.take_keyword("NOT") || self.lexer.take('-') {
            return self.nested(offset, |parser| Ok(Expr::Not(Box::new(parser.operand()?))));
        }
        if self.lexer.take('(') {
            let inner = self.nested(offset, |parser| {
                parser.lexer.skip_spaces();
                if parser.lexer.peek() == Some(')') {
                    return Err(missing(
                        parser.lexer.offset(),
                        "a term",
                        "there is nothing in ( )",
                    ));
                }
                parser.either()
            })?;
            self.lexer.skip_spaces();
            if !self.lexer.take(')') {
                return Err(FilterError {
                    offset,
                    length: 1,
                    message: "a ( that is never closed".to_owned(),
                    remedy: "close it with ), or put it in quotes".to_owned(),
                });
            }
            return Ok(inner);
        }
        if !self.lexer.is_at_operand() {
            return Err(missing(
                self.lexer.offset(),
                "a term",
                "something like status:404 or a word is expected here",
            ));
        }
        self.term()
    }

    /// `field:…` or free text.
    fn term(&mut self) -> Result<Expr, FilterError> {
        let offset = self.lexer.offset();
        let Some(name) = self.lexer.take_field() else {
            let word = self.lexer.word()?;
            self.count(&word)?;
            if word.pattern.0.iter().all(|part| *part == Part::Any) {
                return Err(FilterError {
                    offset: word.offset,
                    length: word.length,
                    message: "a text to search for with nothing in it".to_owned(),
                    remedy: "leave it out, or write some letters".to_owned(),
                });
            }
            return Ok(Expr::Text(word.pattern));
        };
        let field = fields::named(&name).ok_or_else(|| unknown_field(offset, &name))?;
        if self.lexer.peek() == Some('(') {
            return Ok(Expr::Field(field, self.list(field)?));
        }
        let word = self.value(field)?;
        Ok(Expr::Field(field, test(field, &word)?))
    }

    /// `(a OR b)` after a field.
    fn list(&mut self, field: &'static FieldDef) -> Result<Test, FilterError> {
        let opened = self.lexer.offset();
        self.lexer.take('(');
        let mut tests = Vec::new();
        loop {
            self.lexer.skip_spaces();
            if self.lexer.take(')') {
                break;
            }
            if self.lexer.peek().is_none() {
                return Err(FilterError {
                    offset: opened,
                    length: 1,
                    message: "a ( that is never closed".to_owned(),
                    remedy: "close it with )".to_owned(),
                });
            }
            let at = self.lexer.offset();
            if self.lexer.peek() == Some('(')
                || self.lexer.take_keyword("AND")
                || self.lexer.take_keyword("NOT")
            {
                return Err(FilterError {
                    offset: at,
                    length: 1,
                    message: "a list of values holds values with OR between them only".to_owned(),
                    remedy: format!("write {0}:a AND {0}:b outside of the list", field.name),
                });
            }
            if self.lexer.take_keyword("OR") && !tests.is_empty() {
                self.lexer.skip_spaces();
                if !self.lexer.is_at_operand() {
                    return Err(missing(
                        self.lexer.offset(),
                        "a value",
                        "OR needs a value after it",
                    ));
                }
            }
            let word = self.value(field)?;
            tests.push(test(field, &word)?);
        }
        match tests.len() {
            0 => Err(missing(opened + 1, "a value", "there is nothing in ( )")),
            1 => Ok(tests.remove(0)),
            _ => Ok(Test::AnyOf(tests)),
        }
    }

    fn value(&mut self, field: &FieldDef) -> Result<Word, FilterError> {
        let word = self.lexer.word()?;
        self.count(&word)?;
        if word.length == 0 {
            return Err(missing(
                word.offset,
                "a value",
                &format!("write {}, or {}:* for any value", field.example, field.name),
            ));
        }
        Ok(word)
    }

    fn count(&mut self, word: &Word) -> Result<(), FilterError> {
        self.n_terms += 1;
        if self.n_terms > MAX_TERMS {
            return Err(FilterError {
                offset: word.offset,
                length: word.length,
                message: format!("more than {MAX_TERMS} terms"),
                remedy: "use a network or * instead of so many values".to_owned(),
            });
        }
        Ok(())
    }

    fn nested<T>(
        &mut self,
        offset: usize,
        inner: impl FnOnce(&mut Self) -> Result<T, FilterError>,
    ) -> Result<T, FilterError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(FilterError {
                offset,
                length: 1,
                message: format!("nested deeper than {MAX_DEPTH}"),
                remedy: "take parentheses out".to_owned(),
            });
        }
        let result = inner(self);
        self.depth -= 1;
        result
    }
}

fn one_or(mut parts: Vec<Expr>, many: impl FnOnce(Vec<Expr>) -> Expr) -> Expr {
    if parts.len() == 1 {
        parts.remove(0)
    } else {
        many(parts)
    }
}

fn missing(offset: usize, what: &str, remedy: &str) -> FilterError {
    FilterError {
        offset,
        length: 0,
        message: format!("{what} is missing"),
        remedy: remedy.to_owned(),
    }
}

fn unknown_field(offset: usize, name: &str) -> FilterError {
    let nearest = fields::nearest(name);
    FilterError {
        offset,
        length: name.len(),
        message: format!("there is no field {name:?}"),
        remedy: nearest.map_or_else(
            || format!("write \"{name}:…\" in quotes to search for the text"),
            |nearest| format!("did you mean {nearest}? For text write it in quotes"),
        ),
    }
}

/// What a word means for a field.
fn test(field: &FieldDef, word: &Word) -> Result<Test, FilterError> {
    if word.pattern.0 == [Part::Any] {
        return Ok(Test::Present);
    }
    if word.pattern.0.is_empty() {
        return Ok(Test::Absent);
    }
    let wrong = |message: String, remedy: String| FilterError {
        offset: word.offset,
        length: word.length,
        message,
        remedy,
    };
    match field.kind {
        Kind::Text => Ok(Test::Like(word.pattern.clone())),
        Kind::Choice(_) | Kind::Bits(_) => {
            let text = word.pattern.literal().unwrap_or_default();
            field
                .choices()
                .position(|choice| choice.eq_ignore_ascii_case(text))
                .map(Test::Choice)
                .ok_or_else(|| {
                    wrong(
                        format!("{} is never that", field.name),
                        format!("it is one of {}", field.choices().collect::<Vec<_>>().join(", ")),
                    )
                })
        }
        Kind::Address => {
            let text = word.pattern.literal().unwrap_or_default();
            network(text).ok_or_else(|| {
                wrong(
                    format!("{} takes an address or a network", field.name),
                    wildcard_network(word.bare.as_deref()).map_or_else(
                        || format!("as in {}", field.example),
                        |net| format!("write {}:{net}", field.name),
                    ),
                )
            })
        }
        Kind::Id => {
            let text = word.pattern.literal().unwrap_or_default();
            let is_digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
            text.parse()
                .ok()
                .filter(|_| is_digits)
                .map(Test::Id)
                .ok_or_else(|| {
                    wrong(
                        format!("{} takes a whole number", field.name),
                        format!("as in {}", field.example),
                    )
                })
        }
        Kind::Number(unit) => {
            let bare = word
                .bare
                .as_deref()
                .or_else(|| word.pattern.literal())
                .unwrap_or_default();
            numbers(bare, unit).ok_or_else(|| {
                wrong(
                    format!("{} takes a number", field.name),
                    format!("as in {0}:5, {0}:>=5, {0}:5..9{1}", field.name, unit.hint()),
                )
            })
        }
    }
}

/// `10.0.*` as the network that it means.
fn wildcard_network(text: Option<&str>) -> Option<String> {
    let octets: Vec<u8> = text?
        .strip_suffix('*')?
        .trim_end_matches('.')
        .split('.')
        .map(|octet| octet.parse().ok())
        .collect::<Option<_>>()?;
    if octets.is_empty() || octets.len() > 3 {
        return None;
    }
    let mut address = [0; 4];
    address[..octets.len()].copy_from_slice(&octets);
    Some(format!("{}/{}", Ipv4Addr::from(address), octets.len() * 8))
}

fn network(text: &str) -> Option<Test> {
    let (address, prefix_len) = match text.split_once('/') {
        Some((address, len)) => (address, Some(len.parse::<u32>().ok()?)),
        None => (text, None),
    };
    let (bits, longest) = match address.parse::<IpAddr>().ok()? {
        IpAddr::V4(v4) => (v4.to_ipv6_mapped().to_bits(), 32),
        IpAddr::V6(v6) => (v6.to_bits(), 128),
    };
    let prefix_len = prefix_len.unwrap_or(longest);
    if prefix_len > longest {
        return None;
    }
    let host_bits = longest - prefix_len;
    let mask = u128::MAX.checked_shl(host_bits).unwrap_or(0);
    Some(Test::Network {
        first: Ipv6Addr::from_bits(bits & mask),
        last: Ipv6Addr::from_bits(bits | !mask),
    })
}

/// `5`, `>=5`, `5..9`, `4xx`.
fn numbers(text: &str, unit: Unit) -> Option<Test> {
    let number = |text: &str| unit.parse(text);
    if let Some(text) = text.strip_prefix(">=") {
        return Some(Test::Numbers {
            lo: Some(number(text)?),
            hi: None,
        });
    }
    if let Some(text) = text.strip_prefix("<=") {
        return Some(Test::Numbers {
            lo: None,
            hi: Some(number(text)?),
        });
    }
    if let Some(text) = text.strip_prefix('>') {
        return Some(Test::Numbers {
            lo: Some(unit.above(number(text)?)),
            hi: None,
        });
    }
    if let Some(text) = text.strip_prefix('<') {
        return Some(Test::Numbers {
            lo: None,
            hi: Some(unit.below(number(text)?)),
        });
    }
    if let Some((lo, hi)) = text.split_once("..") {
        let bound = |text: &str| match text {
            "" => Some(None),
            text => number(text).map(Some),
        };
        let (lo, hi) = (bound(lo)?, bound(hi)?);
        return (lo.is_some() || hi.is_some()).then_some(Test::Numbers { lo, hi });
    }
    if unit == Unit::Status
        && let Some(class) = text.strip_suffix("xx")
        && let Ok(class @ 1..=5) = class.parse::<u8>()
    {
        let lo = f64::from(class) * 100.0;
        return Some(Test::Numbers {
            lo: Some(lo),
            hi: Some(lo + 99.0),
        });
    }
    let value = number(text)?;
    Some(Test::Numbers {
        lo: Some(value),
        hi: Some(value),
    })
}
