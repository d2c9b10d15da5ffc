//! Reads requests where their order, case and repetition are still there: in the bytes of the connection.
//!
//! [`http1::Decoder`] is also the server's own parser of HTTP/1; [`http2::Observer`] watches the bytes that an
//! HTTP/2 server reads. Pure: bytes come in, [`RequestHead`]s go out.

pub mod hpack;
pub mod http1;
pub mod http2;
mod huffman;

/// A request's head, as the client wrote it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RequestHead {
    /// Method.
    pub method: Vec<u8>,
    /// Request target (HTTP/1) or `:path`.
    pub target: Vec<u8>,
    /// `:authority`; empty on HTTP/1, where it is the header `Host`.
    pub authority: Vec<u8>,
    /// `:scheme`; empty on HTTP/1.
    pub scheme: Vec<u8>,
    /// `1.0`, `1.1` or `2`.
    pub version: &'static str,
    /// Names and values in the client's order, without pseudo-headers.
    pub headers: Vec<(Vec<u8>, Vec<u8>)>,
    /// More headers came than are kept.
    pub is_cut: bool,
    /// See [`http2::Observer`]; empty on HTTP/1.
    pub h2_fp: String,
}

impl RequestHead {
    /// First value of a header, by lower-case name.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name.as_bytes()))
            .map(|(_, value)| value.as_slice())
    }

    /// Host or `:authority`.
    pub fn host(&self) -> &[u8] {
        if self.authority.is_empty() {
            self.header("host").unwrap_or_default()
        } else {
            &self.authority
        }
    }

    /// Path and query of the target; the query without `?`.
    pub fn path_and_query(&self) -> (&[u8], &[u8]) {
        // An absolute target: the path begins after the authority.
        let target = match find(&self.target, b"://") {
            Some(at) if !self.target.starts_with(b"/") => {
                let rest = &self.target[at + 3..];
                rest.iter()
                    .position(|b| *b == b'/')
                    .map_or(&b"/"[..], |at| &rest[at..])
            }
            _ => self.target.as_slice(),
        };
        match target.iter().position(|b| *b == b'?') {
            Some(at) => (&target[..at], &target[at + 1..]),
            None => (target, &[]),
        }
    }
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}
