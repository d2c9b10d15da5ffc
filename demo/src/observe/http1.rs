//! Decodes the requests of an HTTP/1 connection: heads with order, case and repetition, and where bodies end.
//!
//! Bytes come in by [`Decoder::feed`], events go out by [`Decoder::poll`]; pipelined requests follow each other.
//! Ambiguous framing (both lengths, two different ones) is an error: a server that guesses can be desynchronised.

use ja4_model::limits::MAX_HEADERS;

use super::RequestHead;

/// Longest head: what common servers accept at least (Apache 8 KiB a line, nginx 32 KiB in all).
pub const MAX_HEAD_BYTES: usize = 32 << 10;
/// Longest line of a chunk's size with its extensions, and of a trailer. Real ones have some ten bytes.
const MAX_LINE_BYTES: usize = 4 << 10;
/// Most bytes of trailers of one body.
const MAX_TRAILER_BYTES: usize = 8 << 10;

/// What a connection's bytes mean, in order.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// A request begins.
    Head(Box<RequestHead>),
    /// Part of its body.
    Body(Vec<u8>),
    /// Its last byte was read.
    End,
}

/// Why the connection cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Http1Error {
    /// Not a request.
    Malformed,
    /// More than [`MAX_HEAD_BYTES`] or [`MAX_HEADERS`].
    HeadTooLarge,
    /// Lengths that contradict each other or are none.
    Framing,
}

impl Http1Error {
    /// The name in counters.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Malformed => "malformed_head",
            Self::HeadTooLarge => "head_too_large",
            Self::Framing => "ambiguous_framing",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Head,
    /// Bytes left.
    Length(u64),
    ChunkSize,
    /// Bytes left of the chunk.
    Chunk(u64),
    /// The line end after a chunk.
    ChunkEnd,
    /// Bytes of trailers so far.
    Trailers(usize),
    End,
    Failed(Http1Error),
}

/// The client's side of one connection. Holds at most what was fed and not polled yet.
#[derive(Debug)]
pub struct Decoder {
    buffer: Vec<u8>,
    at: usize,
    state: State,
}

impl Default for Decoder {
    fn default() -> Self {
        Self {
            buffer: Vec::new(),
            at: 0,
            state: State::Head,
        }
    }
}

impl Decoder {
    /// Adds bytes. Poll until there is nothing before feeding more: the buffer is then at most one head long.
    pub fn feed(&mut self, bytes: &[u8]) {
        if self.at > 0 {
            self.buffer.drain(..self.at);
            self.at = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// True before the first byte of a request.
    pub fn is_idle(&self) -> bool {
        self.state == State::Head && self.rest().iter().all(|byte| matches!(byte, b'\r' | b'\n'))
    }

    /// Bytes that are kept until more come.
    pub fn buffered(&self) -> usize {
        self.rest().len()
    }

    /// The next event, `None` if more bytes are needed.
    ///
    /// # Errors
    /// The connection cannot go on; the same error comes again from then on.
    pub fn poll(&mut self) -> Result<Option<Event>, Http1Error> {
        // Each turn takes bytes or changes to a state that returns.
        loop {
            match self.step() {
                Ok(Step::Emit(event)) => return Ok(Some(event)),
                Ok(Step::Again) => {}
                Ok(Step::More) => return Ok(None),
                Err(error) => {
                    self.state = State::Failed(error);
                    return Err(error);
                }
            }
        }
    }

    fn rest(&self) -> &[u8] {
        &self.buffer[self.at..]
    }

    fn step(&mut self) -> Result<Step, Http1Error> {
        match self.state {
            State::Head => self.head(),
            State::Length(0) | State::End => {
                self.state = State::Head;
                Ok(Step::Emit(Event::End))
            }
            State::Length(left) => Ok(self.body(left, State::Length)),
            State::Chunk(0) => {
                self.state = State::ChunkEnd;
                Ok(Step::Again)
            }
            State::Chunk(left) => Ok(self.body(left, State::Chunk)),
            State::ChunkEnd => match self.rest() {
                [b'\r', b'\n', ..] => {
                    self.at += 2;
                    self.state = State::ChunkSize;
                    Ok(Step::Again)
                }
                [] | [b'\r'] => Ok(Step::More),
                _ => Err(Http1Error::Framing),
            },
            State::ChunkSize => self.chunk_size(),
            State::Trailers(n_bytes) => self.trailer(n_bytes),
            State::Failed(error) => Err(error),
        }
    }

    fn head(&mut self) -> Result<Step, Http1Error> {
        while let [b'\r' | b'\n', ..] = self.rest() {
            self.at += 1;
        }
        if self.rest().is_empty() {
            return Ok(Step::More);
        }
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut request = httparse::Request::new(&mut headers);
        let len = match request.parse(&self.buffer[self.at..]) {
            Ok(httparse::Status::Complete(len)) if len <= MAX_HEAD_BYTES => len,
            Ok(httparse::Status::Partial) if self.rest().len() <= MAX_HEAD_BYTES => return Ok(Step::More),
            Ok(_) | Err(httparse::Error::TooManyHeaders) => return Err(Http1Error::HeadTooLarge),
            Err(_) => return Err(Http1Error::Malformed),
        };
        let head = RequestHead {
            method: request.method.unwrap_or_default().into(),
            target: request.path.unwrap_or_default().into(),
            version: if request.version == Some(0) { "1.0" } else { "1.1" },
            headers: request
                .headers
                .iter()
                .map(|header| (header.name.into(), header.value.to_vec()))
                .collect(),
            ..RequestHead::default()
        };
        self.at += len;
        self.state = body_framing(&head)?;
        Ok(Step::Emit(Event::Head(Box::new(head))))
    }

    fn body(&mut self, left: u64, state: impl FnOnce(u64) -> State) -> Step {
        let rest = self.rest();
        if rest.is_empty() {
            return Step::More;
        }
        let len = usize::try_from(left).map_or(rest.len(), |left| left.min(rest.len()));
        let part = rest[..len].to_vec();
        self.at += len;
        self.state = state(left - len as u64);
        Step::Emit(Event::Body(part))
    }

    fn chunk_size(&mut self) -> Result<Step, Http1Error> {
        match httparse::parse_chunk_size(self.rest()) {
            Ok(httparse::Status::Complete((len, size))) => {
                self.at += len;
                self.state = if size == 0 {
                    State::Trailers(0)
                } else {
                    State::Chunk(size)
                };
                Ok(Step::Again)
            }
            Ok(httparse::Status::Partial) if self.rest().len() <= MAX_LINE_BYTES => Ok(Step::More),
            _ => Err(Http1Error::Framing),
        }
    }

    fn trailer(&mut self, n_bytes: usize) -> Result<Step, Http1Error> {
        let rest = self.rest();
        let Some(end) = rest.iter().position(|byte| *byte == b'\n') else {
            return if rest.len() > MAX_LINE_BYTES {
                Err(Http1Error::Framing)
            } else {
                Ok(Step::More)
            };
        };
        let is_last = matches!(rest[..end], [] | [b'\r']);
        self.at += end + 1;
        let n_bytes = n_bytes + end + 1;
        if n_bytes > MAX_TRAILER_BYTES {
            return Err(Http1Error::Framing);
        }
        self.state = if is_last {
            State::End
        } else {
            State::Trailers(n_bytes)
        };
        Ok(Step::Again)
    }
}

enum Step {
    Emit(Event),
    Again,
    More,
}

/// How the body is framed, RFC 9112 section 6.3.
fn body_framing(head: &RequestHead) -> Result<State, Http1Error> {
    let values = |name: &'static str| {
        head.headers
            .iter()
            .filter(move |(known, _)| known.eq_ignore_ascii_case(name.as_bytes()))
            .map(|(_, value)| value.trim_ascii())
    };
    let mut codings = values("transfer-encoding");
    let mut lengths = values("content-length");
    match (codings.next(), lengths.next()) {
        (None, None) => Ok(State::Length(0)),
        (Some(coding), None)
            if coding.eq_ignore_ascii_case(b"chunked")
                && codings.next().is_none()
                && head.version == "1.1" =>
        {
            Ok(State::ChunkSize)
        }
        (None, Some(length)) if lengths.all(|other| other == length) => {
            decimal(length).map(State::Length).ok_or(Http1Error::Framing)
        }
        _ => Err(Http1Error::Framing),
    }
}

fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(bytes: &[u8], step: usize) -> Result<Vec<Event>, Http1Error> {
        let mut decoder = Decoder::default();
        let mut events: Vec<Event> = Vec::new();
        for part in bytes.chunks(step) {
            decoder.feed(part);
            while let Some(event) = decoder.poll()? {
                match (events.last_mut(), event) {
                    (Some(Event::Body(whole)), Event::Body(part)) => whole.extend(part),
                    (_, event) => events.push(event),
                }
            }
        }
        Ok(events)
    }

    const PIPELINED: &[u8] =
        b"POST /a?x=1 HTTP/1.1\r\nhOst: h\r\nX-Dup: 1\r\nTransfer-Encoding: chunked\r\nx-dup: 2\r\n\r\n\
        3;ext=1\r\nabc\r\n2\r\nde\r\n0\r\nTrailer: GET / HTTP/1.1\r\n\r\n\
        PUT /b HTTP/1.1\r\nContent-Length: 20\r\n\r\nGET /not HTTP/1.1\r\n\r\
        GET /c HTTP/1.0\r\n\r\n";

    #[test]
    fn bodies_do_not_desynchronise_pipelined_heads() {
        let whole = events(PIPELINED, PIPELINED.len()).unwrap();
        let targets: Vec<_> = whole
            .iter()
            .filter_map(|event| match event {
                Event::Head(head) => Some(head.target.as_slice()),
                _ => None,
            })
            .collect();
        assert_eq!(targets, [&b"/a?x=1"[..], b"/b", b"/c"]);
        assert_eq!(whole[1], Event::Body(b"abcde".to_vec()));
        for step in 1..40 {
            assert_eq!(events(PIPELINED, step).unwrap(), whole, "{step}");
        }
    }

    #[test]
    fn order_case_and_repetition_are_kept() {
        let Event::Head(head) = &events(PIPELINED, 7).unwrap()[0] else {
            panic!("a head comes first");
        };
        let names: Vec<_> = head
            .headers
            .iter()
            .map(|(name, _)| std::str::from_utf8(name).unwrap())
            .collect();
        assert_eq!(names, ["hOst", "X-Dup", "Transfer-Encoding", "x-dup"]);
        assert_eq!(head.path_and_query(), (&b"/a"[..], &b"x=1"[..]));
    }

    #[track_caller]
    fn check(bytes: &[u8], expected: Http1Error) {
        assert_eq!(events(bytes, 100), Err(expected));
    }

    #[test]
    fn ambiguous_framing_is_refused() {
        check(
            b"GET / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            Http1Error::Framing,
        );
        check(
            b"GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            Http1Error::Framing,
        );
        check(
            b"GET / HTTP/1.1\r\nContent-Length: +1\r\n\r\n",
            Http1Error::Framing,
        );
        check(
            b"GET / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            Http1Error::Framing,
        );
    }

    #[test]
    fn what_is_no_request_or_too_large_is_refused() {
        check(
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
            Http1Error::Malformed,
        );
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(MAX_HEADERS + 1));
        check(many.as_bytes(), Http1Error::HeadTooLarge);
        let long = format!("GET / HTTP/1.1\r\na: {}", "b".repeat(MAX_HEAD_BYTES));
        check(long.as_bytes(), Http1Error::HeadTooLarge);
    }

    #[test]
    fn absolute_targets_have_a_path() {
        let head = RequestHead {
            target: b"http://h/p?q".to_vec(),
            ..RequestHead::default()
        };
        assert_eq!(head.path_and_query(), (&b"/p"[..], &b"q"[..]));
    }
}
