//! How an output format can be streamed, and its content type.
//!
//! Pure. The engine ends each streamed chunk (about 65 000 rows) as a document of its own, so that only formats
//! without head and foot can be put together again.

/// How chunks of a format become one answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Streaming {
    /// One after the other.
    Concatenate,
    /// One after the other, without the header of every chunk but the first.
    DropRepeatedHeader,
    /// Not at all: the answer must be made whole.
    Whole,
}

/// Says how to stream a format.
pub fn streaming(format: &str) -> Streaming {
    match format.to_ascii_lowercase().as_str() {
        "rowbinary"
        | "native"
        | "jsoneachrow"
        | "jsonlines"
        | "ndjson"
        | "jsoncompacteachrow"
        | "jsonstringseachrow"
        | "jsoncompactstringseachrow"
        | "tabseparated"
        | "tsv"
        | "tabseparatedraw"
        | "tsvraw"
        | "raw"
        | "csv"
        | "lineasstring"
        | "rawblob"
        | "null" => Streaming::Concatenate,
        "rowbinarywithnamesandtypes" => Streaming::DropRepeatedHeader,
        _ => Streaming::Whole,
    }
}

/// Content type as a server names it.
pub fn content_type(format: &str) -> &'static str {
    let format = format.to_ascii_lowercase();
    match format.as_str() {
        "json" | "jsoncompact" | "jsonstrings" | "jsoncolumns" | "jsoncolumnswithmetadata" => {
            "application/json; charset=UTF-8"
        }
        "jsoneachrow" | "jsonlines" | "ndjson" | "jsoncompacteachrow" | "jsonstringseachrow" => {
            "application/x-ndjson; charset=UTF-8"
        }
        "csv" | "csvwithnames" | "csvwithnamesandtypes" => "text/csv; charset=UTF-8; header=absent",
        "rowbinary"
        | "rowbinarywithnames"
        | "rowbinarywithnamesandtypes"
        | "native"
        | "parquet"
        | "arrow"
        | "arrowstream" => "application/octet-stream",
        _ if format.starts_with("tabseparated") || format.starts_with("tsv") => {
            "text/tab-separated-values; charset=UTF-8"
        }
        _ => "text/plain; charset=UTF-8",
    }
}
