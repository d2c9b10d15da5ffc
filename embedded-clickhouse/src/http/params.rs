//! What a request asks for: its URL, headers and form fields.
//!
//! Pure. Everything in the URL that is no parameter of the interface is a setting of the engine, as on a server.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::HeaderMap;

use crate::credentials::Claim;
use crate::errors::{Exception, code};
use crate::ffi::Parameters;

/// Most pairs in one URL or form: the engine has 1 400 settings, a query some parameters.
const MAX_PAIRS: usize = 2_000;

/// The parameters of a request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Request {
    /// SQL in the URL or form.
    pub query: Option<Vec<u8>>,
    /// Session's database.
    pub database: Option<String>,
    /// Output format where the statement names none.
    pub default_format: Option<String>,
    /// Settings for this statement, in order.
    pub settings: Vec<(String, String)>,
    /// Values of placeholders.
    pub parameters: Parameters,
    /// The body is in ClickHouse's compressed framing.
    pub decompress: bool,
    /// The answer shall be in ClickHouse's compressed framing.
    pub compress: bool,
    /// The client's name for the statement.
    pub query_id: Option<String>,
}

fn bad(message: impl std::fmt::Display) -> Exception {
    Exception::new(code::BAD_ARGUMENTS, message)
}

/// Decodes `%xx` and `+`.
fn percent_decode(text: &str) -> Result<Vec<u8>, Exception> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'+' => out.push(b' '),
            b'%' => {
                let digit = |b: Option<u8>| b.and_then(|b| char::from(b).to_digit(16));
                let (high, low) = (digit(bytes.next()), digit(bytes.next()));
                let (Some(high), Some(low)) = (high, low) else {
                    return Err(bad("the URL holds a % that two hexadecimal digits do not follow"));
                };
                out.push(u8::try_from(high * 16 + low).expect("two hexadecimal digits"));
            }
            _ => out.push(byte),
        }
    }
    Ok(out)
}

fn text(bytes: Vec<u8>, name: &str) -> Result<String, Exception> {
    String::from_utf8(bytes).map_err(|_| bad(format_args!("{name} is not UTF-8")))
}

impl Request {
    /// Reads the URL's query part and the headers.
    ///
    /// # Errors
    /// For what cannot be read and for parameters of the interface that this store does not offer.
    pub fn parse(url_query: &str, headers: &HeaderMap) -> Result<Self, Exception> {
        let mut request = Self::default();
        let header = |name: &str| {
            headers
                .get(name)
                .and_then(|value| value.to_str().ok())
                .map(str::to_owned)
        };
        request.database = header("x-clickhouse-database");
        request.default_format = header("x-clickhouse-format");
        for (n, pair) in url_query.split('&').filter(|pair| !pair.is_empty()).enumerate() {
            if n == MAX_PAIRS {
                return Err(bad(format_args!("more than {MAX_PAIRS} parameters in the URL")));
            }
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = text(percent_decode(name)?, "a parameter's name")?;
            request.add(name, percent_decode(value)?)?;
        }
        Ok(request)
    }

    /// Takes one parameter of the URL or form.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub fn add(&mut self, name: String, value: Vec<u8>) -> Result<(), Exception> {
        if let Some(parameter) = name.strip_prefix("param_") {
            self.parameters.0.push((parameter.to_owned(), value));
            return Ok(());
        }
        match name.as_str() {
            "query" => self.query = Some(value),
            "database" => self.database = Some(text(value, &name)?).filter(|d| !d.is_empty()),
            "default_format" => self.default_format = Some(text(value, &name)?),
            "decompress" => self.decompress = flag(&value),
            "compress" => self.compress = flag(&value),
            "query_id" => self.query_id = Some(text(value, &name)?),
            // Names of the interface that need nothing done: answers are never held back or compressed by HTTP.
            "buffer_size"
            | "wait_end_of_query"
            | "enable_http_compression"
            | "http_zlib_compression_level"
            | "send_progress_in_http_headers"
            | "http_headers_progress_interval_ms"
            | "client_protocol_version"
            | "quota_key"
            | "stacktrace" => {}
            "user" | "password" => {
                return Err(bad(
                    "credentials in the URL end up in logs: send X-ClickHouse-Key, basic or bearer authorization",
                ));
            }
            "session_id" | "session_timeout" | "session_check" | "session_timezone"
                if name != "session_timezone" =>
            {
                return Err(Exception::new(
                    code::SUPPORT_IS_DISABLED,
                    "sessions are not supported by the embedded store: send settings with each request",
                ));
            }
            "role" => {
                return Err(Exception::new(
                    code::UNKNOWN_ROLE,
                    "the embedded store has no roles, but one token per class of client",
                ));
            }
            _ => {
                let value = text(value, &name)?;
                self.settings.push((name, value));
            }
        }
        Ok(())
    }

    /// Value of a setting, the last one when it is named twice.
    pub fn setting(&self, name: &str) -> Option<&str> {
        self.settings
            .iter()
            .rev()
            .find(|(n, _)| n == name)
            .map(|(_, value)| value.as_str())
    }
}

fn flag(value: &[u8]) -> bool {
    !matches!(value, b"" | b"0" | b"false")
}

/// Who the client says it is: bearer, basic, or `X-ClickHouse-Key` with or without `X-ClickHouse-User`.
pub fn claim(headers: &HeaderMap) -> Option<Claim> {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(key) = header("x-clickhouse-key") {
        let user = header("x-clickhouse-user")
            .filter(|u| !u.is_empty())
            .map(str::to_owned);
        return Some(Claim {
            user,
            token: key.to_owned(),
        });
    }
    let (scheme, value) = header("authorization")?.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(Claim {
            user: None,
            token: value.trim().to_owned(),
        });
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(STANDARD.decode(value.trim()).ok()?).ok()?;
    let (user, token) = decoded.split_once(':')?;
    Some(Claim {
        user: Some(user.to_owned()),
        token: token.to_owned(),
    })
}

/// The boundary of a multipart form, None for other bodies.
pub fn multipart_boundary(headers: &HeaderMap) -> Option<String> {
    let value = headers.get("content-type")?.to_str().ok()?;
    let (kind, rest) = value.split_once(';')?;
    if !kind.trim().eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    let boundary = rest.split(';').find_map(|part| {
        let (name, value) = part.split_once('=')?;
        name.trim()
            .eq_ignore_ascii_case("boundary")
            .then(|| value.trim().trim_matches('"').to_owned())
    })?;
    (!boundary.is_empty()).then_some(boundary)
}

/// Takes a multipart form apart: name and value of each field.
///
/// # Errors
/// For a form that is not well formed, and for files (external tables), which are not offered.
pub fn multipart_fields(body: &[u8], boundary: &str) -> Result<Vec<(String, Vec<u8>)>, Exception> {
    let delimiter = format!("--{boundary}");
    let mut fields = Vec::new();
    let mut rest = body
        .strip_prefix(delimiter.as_bytes())
        .ok_or_else(|| bad("the form does not begin with its boundary"))?;
    loop {
        if rest.starts_with(b"--") {
            return Ok(fields);
        }
        if fields.len() == MAX_PAIRS {
            return Err(bad(format_args!("more than {MAX_PAIRS} fields in the form")));
        }
        rest = rest
            .strip_prefix(b"\r\n")
            .ok_or_else(|| bad("a boundary of the form is not followed by a line end"))?;
        let head_end =
            find(rest, b"\r\n\r\n").ok_or_else(|| bad("a field of the form has no end of its head"))?;
        let name = field_name(&rest[..head_end])?;
        let value = &rest[head_end + 4..];
        let closing = format!("\r\n{delimiter}");
        let value_end = find(value, closing.as_bytes())
            .ok_or_else(|| bad("the form ends before its closing boundary"))?;
        fields.push((name, value[..value_end].to_vec()));
        rest = &value[value_end + closing.len()..];
    }
}

fn field_name(head: &[u8]) -> Result<String, Exception> {
    let head = std::str::from_utf8(head).map_err(|_| bad("the head of a form's field is not UTF-8"))?;
    let disposition = head
        .split("\r\n")
        .find_map(|line| {
            line.split_once(':')
                .filter(|(n, _)| n.eq_ignore_ascii_case("content-disposition"))
        })
        .map(|(_, value)| value)
        .ok_or_else(|| bad("a field of the form has no Content-Disposition"))?;
    let mut name = None;
    for part in disposition.split(';') {
        match part.trim().split_once('=') {
            Some(("name", value)) => name = Some(value.trim_matches('"').to_owned()),
            Some(("filename" | "filename*", _)) => {
                return Err(Exception::new(
                    code::SUPPORT_IS_DISABLED,
                    "external tables in forms are not supported",
                ));
            }
            _ => {}
        }
    }
    name.ok_or_else(|| bad("a field of the form has no name"))
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(query: &str) -> Result<Request, Exception> {
        Request::parse(query, &HeaderMap::new())
    }

    #[test]
    fn unknown_names_are_settings_and_the_rest_has_its_place() {
        let request = parse(
            "query=SELECT+1%2B1&database=d&max_threads=2&param_x=a%09b&decompress=1&default_format=JSON",
        )
        .unwrap();
        assert_eq!(request.query.as_deref(), Some(&b"SELECT 1+1"[..]));
        assert_eq!(request.database.as_deref(), Some("d"));
        assert_eq!(request.settings, [("max_threads".to_owned(), "2".to_owned())]);
        assert_eq!(request.parameters.0, [("x".to_owned(), b"a\tb".to_vec())]);
        assert!(request.decompress);
        assert_eq!(request.default_format.as_deref(), Some("JSON"));
    }

    #[test]
    fn broken_escapes_sessions_and_secrets_in_the_url_are_refused() {
        for query in [
            "query=%4",
            "query=%zz",
            "session_id=x",
            "role=x",
            "password=x",
            "a=%ff",
        ] {
            assert!(parse(query).is_err(), "{query}");
        }
    }

    #[test]
    fn claims_come_from_three_kinds_of_headers() {
        let with = |pairs: &[(&'static str, &str)]| {
            claim(
                &pairs
                    .iter()
                    .map(|(n, v)| (n.parse().unwrap(), v.parse().unwrap()))
                    .collect::<HeaderMap>(),
            )
        };
        let expected = |user: Option<&str>| {
            Some(Claim {
                user: user.map(str::to_owned),
                token: "t".to_owned(),
            })
        };
        assert_eq!(with(&[("authorization", "Bearer t")]), expected(None));
        assert_eq!(
            with(&[("authorization", "Basic d3JpdGVyOnQ=")]),
            expected(Some("writer"))
        );
        assert_eq!(with(&[("x-clickhouse-key", "t")]), expected(None));
        assert_eq!(
            with(&[("x-clickhouse-user", "writer"), ("x-clickhouse-key", "t")]),
            expected(Some("writer"))
        );
        assert_eq!(with(&[("authorization", "Basic !!!")]), None);
        assert_eq!(with(&[]), None);
    }

    #[test]
    fn form_fields_are_read_with_blank_lines_inside() {
        let body = b"--b\r\nContent-Disposition: form-data; name=\"query\"\r\n\r\nSELECT\r\n\r\n1\r\n--b\r\ncontent-disposition: form-data; name=\"param_x\"\r\n\r\n\r\n--b--\r\n";
        let fields = multipart_fields(body, "b").unwrap();
        assert_eq!(
            fields,
            [
                ("query".to_owned(), b"SELECT\r\n\r\n1".to_vec()),
                ("param_x".to_owned(), Vec::new())
            ]
        );
    }

    #[test]
    fn damaged_forms_are_refused() {
        let whole = b"--b\r\nContent-Disposition: form-data; name=\"query\"\r\n\r\nSELECT 1\r\n--b--";
        for cut in 0..whole.len() {
            assert!(multipart_fields(&whole[..cut], "b").is_err(), "cut at {cut}");
        }
        let file = b"--b\r\nContent-Disposition: form-data; name=\"t\"; filename=\"x\"\r\n\r\n1\r\n--b--";
        assert_eq!(multipart_fields(file, "b").unwrap_err().code, 344);
    }
}
