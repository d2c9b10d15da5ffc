//! Why the store does not do what it was asked, as far as it decides what a person should do.

use std::error::Error;

use crate::exit::causes;

/// A kind of trouble. Its name is the reason that a condition of the pipeline gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// It does not answer.
    Away,
    /// It answers, and its certificate is not believed.
    Tls,
    /// It does not know us.
    Credentials,
    /// We may not.
    Rights,
    /// Database, table or column is not there.
    Schema,
    /// Its disk is full.
    Space,
    /// It takes no rows at all.
    ReadOnly,
    /// It has too much to do, or still has our own insert of before a restart in hand.
    Busy,
    /// Something else.
    Other,
}

impl Trouble {
    /// Its name where programs read it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Away => "Unreachable",
            Self::Tls => "TlsFailed",
            Self::Credentials => "WrongPassword",
            Self::Rights => "NotAllowed",
            Self::Schema => "SchemaMissing",
            Self::Space => "DiskFull",
            Self::ReadOnly => "ReadOnly",
            Self::Busy => "Busy",
            Self::Other => "StoreFailed",
        }
    }

    /// What the client or the store said.
    pub fn of(error: &clickhouse::error::Error) -> Self {
        match error {
            clickhouse::error::Error::BadResponse(answer) => {
                error_code(answer).map_or(Self::Other, Self::of_code)
            }
            clickhouse::error::Error::Network(_) if is_about_tls(error) => Self::Tls,
            clickhouse::error::Error::Network(_) | clickhouse::error::Error::TimedOut => Self::Away,
            _ => Self::Other,
        }
    }

    /// The same of an error that has such a one among its causes.
    pub fn within(error: &(dyn Error + 'static)) -> Option<Self> {
        causes(error).find_map(|error| error.downcast_ref().map(Self::of))
    }

    /// By the number of the store's error. Source: `ErrorCodes.cpp` of ClickHouse.
    pub const fn of_code(code: u32) -> Self {
        match code {
            192..=194 | 516 => Self::Credentials,
            164 | 497 => Self::Rights,
            16 | 60 | 81 => Self::Schema,
            242 => Self::ReadOnly,
            243 => Self::Space,
            159 | 202 | 241 | 252 => Self::Busy,
            _ => Self::Other,
        }
    }
}

/// A handshake fails as an error of the connection, with the TLS library's inside one of the standard library's, or two.
fn is_about_tls(error: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.is::<rustls::Error>() {
            return true;
        }
        // The source of such an error is the one behind the error inside.
        let inside = error
            .downcast_ref::<std::io::Error>()
            .and_then(std::io::Error::get_ref);
        cause = match inside {
            Some(inside) => Some(inside),
            None => error.source(),
        };
    }
    false
}

/// The number in `Code: 117. DB::Exception: …`.
pub fn error_code(answer: &str) -> Option<u32> {
    let (_, after) = answer.split_once("Code: ")?;
    let end = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
    after[..end].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_decides_wherever_it_is_among_the_causes() {
        #[derive(Debug, thiserror::Error)]
        #[error("a step failed")]
        struct Step(#[source] clickhouse::error::Error);
        let said = |text: &str| Step(clickhouse::error::Error::BadResponse(text.to_owned()));
        let trouble = |text: &str| Trouble::within(&said(text));
        assert_eq!(
            trouble("Code: 243. DB::Exception: no space"),
            Some(Trouble::Space)
        );
        assert_eq!(trouble("Code: 516. DB::Exception: x"), Some(Trouble::Credentials));
        assert_eq!(trouble("bad gateway"), Some(Trouble::Other));
        assert_eq!(Trouble::within(&std::io::Error::other("x")), None);
    }
}
