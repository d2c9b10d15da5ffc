//! The filter language: one text in the search bar of every page, compiled to a WHERE expression with bound parameters.
//!
//! ```text
//! text ──lexer──> words ──parser──> Expr ──compile──> "(ja4 = {f0:String} AND …)" + [("f0", "t13d…")]
//! ```
//!
//! Pure: no store, no clock. Values never become part of the SQL text, only parameters do; names of columns come from
//! [`fields`] alone. Errors carry the character at which they are and what to write instead. Read [`Filter`] first.
//!
//! The language: `field:value`, `field:"exact text"`, `*` for any characters, `status:>=400`, `status:400..499`,
//! `src_ip:10.0.0.0/8`, `ja4:(a OR b)`, `field:*` for any value, `field:""` for none, `AND OR NOT ( )`, `-` for NOT,
//! nothing between terms for AND, and free text that is searched in User-Agent, path and host.

#![warn(
    clippy::disallowed_methods,
    reason = "pure: the text and the dictionary are all there is"
)]

mod ast;
mod compile;
pub(crate) mod fields;
mod lexer;
mod parser;
#[cfg(test)]
mod tests;

pub(crate) use ast::{Expr, FilterError, network_text, written};
pub(crate) use compile::Compiled;

/// Longest filter, characters: an address bar shows some hundred, lists of selected values take more.
pub(crate) const MAX_CHARS: usize = 4096;
/// Most terms, values of lists included: a page of selected clients is a hundred.
pub(crate) const MAX_TERMS: usize = 128;
/// Deepest nesting of parentheses and NOT: recursion ends here.
pub(crate) const MAX_DEPTH: usize = 32;

/// How filters are written, for people.
pub(crate) const SYNTAX: &[&str] = &[
    "field:value compares the whole value; field:\"a value\" too, with spaces and signs in it",
    "field:Mozilla* uses * for any characters, in upper or lower case; \\* is a star",
    "field:>=400, field:<400, field:400..499 compare numbers; status:4xx is a class",
    "src_ip:192.0.2.7, src_ip:192.0.2.0/24 take addresses and networks",
    "field:(a OR b) is one of several; field:* is any value, field:\"\" is none",
    "a b and a AND b need both; a OR b needs one; NOT a and -a exclude; ( ) group",
    "a word or \"some words\" alone are searched in User-Agent, path and host",
];

/// A filter that was read and understood.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Filter {
    expr: Option<Expr>,
}

impl Filter {
    /// Reads a filter; nothing, or only spaces, is the filter that everything passes.
    ///
    /// # Errors
    /// What is wrong, at which character, and what to write instead.
    pub(crate) fn parse(text: &str) -> Result<Self, FilterError> {
        parser::parse(text).map(|expr| Self { expr })
    }

    /// A filter of terms that all must hold.
    #[cfg(test)]
    pub(crate) fn of(expr: Expr) -> Self {
        Self { expr: Some(expr) }
    }

    /// Everything passes.
    pub(crate) fn is_empty(&self) -> bool {
        self.expr.is_none()
    }

    /// Both must hold.
    #[must_use]
    pub(crate) fn and(self, other: Self) -> Self {
        let expr = match (self.expr, other.expr) {
            (Some(a), Some(b)) => Some(Expr::And(vec![a, b])),
            (a, b) => a.or(b),
        };
        Self { expr }
    }

    /// True if the filter asks for nothing but these columns and what is known of clients.
    pub(crate) fn needs_only(&self, columns: &[&str]) -> bool {
        self.expr.as_ref().is_none_or(|expr| expr.needs_only(columns))
    }

    /// True if something that is known of clients is asked for.
    pub(crate) fn needs_clients(&self) -> bool {
        self.expr.as_ref().is_some_and(Expr::needs_clients)
    }

    /// The WHERE expression.
    pub(crate) fn compile(&self) -> Compiled {
        compile::compile(self.expr.as_ref())
    }

    /// The same where only clients are known, by address, JA4 and host: those with a request that passes.
    pub(crate) fn compile_for_clients(&self) -> Compiled {
        let compiled = self.compile();
        if self.needs_only(&["src_ip", "ja4", "host"]) {
            compiled
        } else {
            compiled.of_clients()
        }
    }

    /// The filter as text that reads as the same filter.
    #[cfg(test)]
    pub(crate) fn print(&self) -> String {
        self.expr.as_ref().map_or_else(String::new, ToString::to_string)
    }
}
