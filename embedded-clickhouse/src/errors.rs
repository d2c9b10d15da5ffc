//! Error codes of ClickHouse: reading them from the engine's text, their HTTP status, and what an error of an
//! INSERT says about its data.
//!
//! Pure. Codes: ClickHouse `src/Common/ErrorCodes.cpp`; statuses: `src/Server/HTTP/exceptionCodeToHTTPStatus.cpp`.

/// An error as it goes to a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exception {
    /// ClickHouse's number.
    pub code: u32,
    /// Whole text, beginning with `Code: N. DB::Exception: `.
    pub text: String,
}

/// Codes that the façade itself raises, with ClickHouse's names.
pub mod code {
    /// `BAD_ARGUMENTS`
    pub const BAD_ARGUMENTS: (u32, &str) = (36, "BAD_ARGUMENTS");
    /// `SUPPORT_IS_DISABLED`
    pub const SUPPORT_IS_DISABLED: (u32, &str) = (344, "SUPPORT_IS_DISABLED");
    /// `SYNTAX_ERROR`
    pub const SYNTAX_ERROR: (u32, &str) = (62, "SYNTAX_ERROR");
    /// `TIMEOUT_EXCEEDED`
    pub const TIMEOUT_EXCEEDED: (u32, &str) = (159, "TIMEOUT_EXCEEDED");
    /// `READONLY`
    pub const READONLY: (u32, &str) = (164, "READONLY");
    /// `TOO_MANY_SIMULTANEOUS_QUERIES`
    pub const TOO_MANY_SIMULTANEOUS_QUERIES: (u32, &str) = (202, "TOO_MANY_SIMULTANEOUS_QUERIES");
    /// `SOCKET_TIMEOUT`
    pub const SOCKET_TIMEOUT: (u32, &str) = (209, "SOCKET_TIMEOUT");
    /// `NETWORK_ERROR`
    pub const NETWORK_ERROR: (u32, &str) = (210, "NETWORK_ERROR");
    /// `NOT_ENOUGH_SPACE`
    pub const NOT_ENOUGH_SPACE: (u32, &str) = (243, "NOT_ENOUGH_SPACE");
    /// `CANNOT_DECOMPRESS`
    pub const CANNOT_DECOMPRESS: (u32, &str) = (271, "CANNOT_DECOMPRESS");
    /// `ACCESS_DENIED`
    pub const ACCESS_DENIED: (u32, &str) = (497, "ACCESS_DENIED");
    /// `UNKNOWN_ROLE`
    pub const UNKNOWN_ROLE: (u32, &str) = (511, "UNKNOWN_ROLE");
    /// `AUTHENTICATION_FAILED`
    pub const AUTHENTICATION_FAILED: (u32, &str) = (516, "AUTHENTICATION_FAILED");
    /// `ABORTED`
    pub const ABORTED: (u32, &str) = (236, "ABORTED");
    /// `CHECKSUM_DOESNT_MATCH`
    pub const CHECKSUM_DOESNT_MATCH: (u32, &str) = (40, "CHECKSUM_DOESNT_MATCH");
    /// `HTTP_LENGTH_REQUIRED`; here: a request that HTTP itself or its limits refuse
    pub const TOO_LARGE_ARRAY_SIZE: (u32, &str) = (128, "TOO_LARGE_ARRAY_SIZE");
    /// `TOO_MANY_ROWS_OR_BYTES`
    pub const TOO_MANY_ROWS_OR_BYTES: (u32, &str) = (396, "TOO_MANY_ROWS_OR_BYTES");
    /// `QUERY_IS_TOO_LARGE`
    pub const QUERY_IS_TOO_LARGE: (u32, &str) = (223, "QUERY_IS_TOO_LARGE");
    /// `LOGICAL_ERROR`
    pub const LOGICAL_ERROR: (u32, &str) = (49, "LOGICAL_ERROR");
}

/// The engine raises this where its own C++ library failed: among others every error of a file system call.
const STD_EXCEPTION: u32 = 1001;

impl Exception {
    /// An error of the façade itself.
    pub fn new((code, name): (u32, &'static str), message: impl std::fmt::Display) -> Self {
        Self {
            code,
            text: format!("Code: {code}. DB::Exception: {message}. ({name})"),
        }
    }

    /// An error that the engine told. A text without a code counts as [`STD_EXCEPTION`]: unknown.
    pub fn from_engine(text: &str) -> Self {
        match parse_code(text) {
            Some(code) => Self {
                code,
                text: text.trim_end().to_owned(),
            },
            None => Self {
                code: STD_EXCEPTION,
                text: format!(
                    "Code: {STD_EXCEPTION}. DB::Exception: {}. (STD_EXCEPTION)",
                    text.trim_end()
                ),
            },
        }
    }

    /// HTTP status as a server answers.
    pub fn status(&self) -> u16 {
        match self.code {
            62 | 36 | 26 | 27 | 33 | 38 | 41 | 43 | 53 | 69 | 70 | 117 | 130 | 131 | 456 | 457 | 6 | 72 => {
                400
            }
            60 | 81 | 47 | 46 | 115 | 16 | 73 | 114 | 511 => 404,
            516 | 497 => 403,
            159 | 209 => 408,
            223 | 128 => 413,
            344 => 501,
            202 => 503,
            243 => 507,
            _ => 500,
        }
    }

    /// The body of an error answer: the text with the engine's version, as a server ends it.
    pub fn body(&self, version: &str) -> String {
        if self.text.contains(" (version ") {
            format!("{}\n", self.text)
        } else {
            format!("{} (version {version} (official build))\n", self.text)
        }
    }
}

/// Reads `Code: N` at the start of an engine's text.
fn parse_code(text: &str) -> Option<u32> {
    let rest = text.trim_start().strip_prefix("Code: ")?;
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest[..digits].parse().ok()
}

/// What an error of an INSERT says about the engine's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterInsert {
    /// It comes before any commit: answer it, nothing else.
    BeforeCommit,
    /// It usually comes before a commit, but code that runs in a commit can raise it too: look whether a
    /// deduplication record without its part is left (`repair::orphans`), and only then end the process.
    Look,
    /// It may have reached a commit: a record of the block may be logged without its part, and a re-send to this
    /// process would be taken for a duplicate and lost. Answer, then end the process so that the repair runs.
    MayHaveCommitted,
}

/// Judges the error code of a failed INSERT.
///
/// The first list holds parsing, type, schema and limit errors: they arise while blocks are read, converted and
/// checked, before a part is committed. The second holds memory and cancellation, which the commit path can meet
/// as well. Everything else, first of all I/O, may have reached a commit.
pub fn after_insert(code: u32) -> AfterInsert {
    match code {
        // Parsing.
        6 | 25 | 26 | 27 | 28 | 32 | 33 | 34 | 38 | 41 | 62 | 72 | 73 | 117 | 125 | 131 | 321 | 441 | 467 | 475 | 488 | 636
        // Types, conversion, arithmetic of expressions.
        | 36 | 42 | 43 | 44 | 50 | 53 | 69 | 70 | 128 | 130 | 153 | 170 | 190 | 349 | 377 | 386 | 395 | 407 | 469 | 676 | 691
        // Schema and settings.
        | 8 | 9 | 10 | 16 | 20 | 35 | 46 | 47 | 48 | 51 | 60 | 80 | 81 | 114 | 115 | 122 | 184 | 218 | 352 | 452 | 497
        // Limits, deliberate refusals, and space that was asked for before a byte was written.
        | 158 | 160 | 161 | 164 | 191 | 200 | 201 | 202 | 203 | 220 | 223 | 243 | 244 | 252 | 307 | 308 | 396 | 397 | 398 | 604
        // Decompression and framing of the client's bytes.
        | 40 | 271 => AfterInsert::BeforeCommit,
        // Memory limit, timeout, cancelled, aborted, disconnected client.
        159 | 241 | 394 | 236 | 209 | 210 => AfterInsert::Look,
        _ => AfterInsert::MayHaveCommitted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_is_read_from_the_engine_text() {
        let exception = Exception::from_engine("Code: 60. DB::Exception: Unknown table x. (UNKNOWN_TABLE)\n");
        assert_eq!((exception.code, exception.status()), (60, 404));
        assert_eq!(Exception::from_engine("boom").code, STD_EXCEPTION);
        assert_eq!(
            Exception::from_engine("Code: 99999999999999. x").code,
            STD_EXCEPTION
        );
    }

    #[test]
    fn version_is_added_once() {
        let exception = Exception::from_engine("Code: 47. DB::Exception: x. (UNKNOWN_IDENTIFIER)");
        assert!(
            exception
                .body("26.7.2.1")
                .ends_with("(UNKNOWN_IDENTIFIER) (version 26.7.2.1 (official build))\n")
        );
        let exception =
            Exception::from_engine("Code: 504. DB::Exception: x (version 26.7.2.1). (FILE_ALREADY_EXISTS)");
        assert_eq!(exception.body("26.7.2.1").matches("version").count(), 1);
    }

    #[test]
    fn io_errors_end_the_process_and_bad_data_does_not() {
        for io in [74, 75, 76, 103, 425, 481, STD_EXCEPTION, 1000, 1002, 49, 424, 0] {
            assert_eq!(after_insert(io), AfterInsert::MayHaveCommitted, "{io}");
        }
        for client in [27, 33, 117, 53, 16, 60, 115, 252, 241] {
            assert_ne!(after_insert(client), AfterInsert::MayHaveCommitted, "{client}");
        }
    }
}
