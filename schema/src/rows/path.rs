//! What a path says of its request: its shape without numbers and ids, and bits for what it asks for.
//!
//! Both are facts for features and facets, not verdicts; a test lists what each bit means.

/// `path_flags`, as the column's comment numbers them.
pub(super) mod flag {
    pub(in crate::rows) const STATIC: u16 = 1;
    pub(in crate::rows) const FAVICON: u16 = 1 << 1;
    pub(in crate::rows) const ROBOTS: u16 = 1 << 2;
    pub(in crate::rows) const LOGIN: u16 = 1 << 3;
    pub(in crate::rows) const ADMIN: u16 = 1 << 4;
    pub(in crate::rows) const DOT_FILE: u16 = 1 << 5;
    pub(in crate::rows) const SUSPICIOUS: u16 = 1 << 6;
    pub(in crate::rows) const API: u16 = 1 << 7;
}

/// Most bytes of a path and of a query that are looked at: attacks put their token early, and a URI of 64 KiB must not
/// cost more than a usual one by much.
const MAX_SCANNED: usize = 1024;
/// Longest template: more would make every long path a dictionary entry of its own.
const MAX_TEMPLATE: usize = 128;
/// Most segments of a template; a deeper path ends in `…`.
const MAX_SEGMENTS: usize = 8;

const STATIC_ENDINGS: [&[u8]; 19] = [
    b"js", b"css", b"png", b"jpg", b"jpeg", b"gif", b"svg", b"ico", b"webp", b"avif", b"woff", b"woff2",
    b"ttf", b"map", b"mp4", b"webm", b"wasm", b"mp3", b"mjs",
];
const LOGIN_SEGMENTS: [&[u8]; 11] = [
    b"login",
    b"signin",
    b"sign-in",
    b"logon",
    b"wp-login.php",
    b"auth",
    b"oauth",
    b"password",
    b"register",
    b"signup",
    b"session",
];
const ADMIN_SEGMENTS: [&[u8]; 12] = [
    b"admin",
    b"administrator",
    b"wp-admin",
    b"phpmyadmin",
    b"console",
    b"actuator",
    b"manager",
    b"cpanel",
    b"jenkins",
    b"solr",
    b"server-status",
    b"admin.php",
];
const API_SEGMENTS: [&[u8]; 6] = [b"api", b"graphql", b"v1", b"v2", b"rest", b"rpc"];
/// Tokens of path traversal, injection and well-known scans, by their first byte.
const SUSPICIOUS_TOKENS: [&[u8]; 20] = [
    b"../",
    b"..%2f",
    b"%2e%2e",
    b"%00",
    b"%27",
    b"<script",
    b"%3cscript",
    b"${jndi",
    b"%24%7bjndi",
    b"union+select",
    b"union%20select",
    b"etc/passwd",
    b"cgi-bin",
    b"eval(",
    b"eval-stdin",
    b"wp-config",
    b"xmlrpc.php",
    b"shell",
    b"phpunit",
    b"base64_decode",
];

/// Bits for what path and query ask for.
pub(super) fn path_flags(path: &[u8], query: &[u8]) -> u16 {
    let path = &path[..path.len().min(MAX_SCANNED)];
    let query = &query[..query.len().min(MAX_SCANNED)];
    let mut flags = match path {
        b"/favicon.ico" => flag::FAVICON,
        b"/robots.txt" => flag::ROBOTS,
        _ if path.starts_with(b"/sitemap") && path.ends_with(b".xml") => flag::ROBOTS,
        _ => 0,
    };
    let mut last_segment: &[u8] = b"";
    for segment in path
        .split(|byte| *byte == b'/')
        .filter(|segment| !segment.is_empty())
    {
        flags |= segment_flags(segment);
        last_segment = segment;
    }
    let ending = last_segment.rsplit(|byte| *byte == b'.').next().unwrap_or(b"");
    if ending.len() < last_segment.len() && is_one_of(ending, &STATIC_ENDINGS) {
        flags |= flag::STATIC;
    }
    if has_suspicious_token(path) || has_suspicious_token(query) {
        flags |= flag::SUSPICIOUS;
    }
    flags
}

fn segment_flags(segment: &[u8]) -> u16 {
    match segment[0] {
        b'.' if segment != b"." && segment != b".." && !segment.eq_ignore_ascii_case(b".well-known") => {
            flag::DOT_FILE
        }
        _ if is_one_of(segment, &LOGIN_SEGMENTS) => flag::LOGIN,
        _ if is_one_of(segment, &ADMIN_SEGMENTS) => flag::ADMIN,
        _ if is_one_of(segment, &API_SEGMENTS) => flag::API,
        _ => 0,
    }
}

fn is_one_of(text: &[u8], known: &[&[u8]]) -> bool {
    known
        .iter()
        .any(|name| text.len() == name.len() && text.eq_ignore_ascii_case(name))
}

fn has_suspicious_token(text: &[u8]) -> bool {
    text.iter().enumerate().any(|(idx, byte)| {
        // Only these bytes begin a token.
        matches!(
            byte.to_ascii_lowercase(),
            b'.' | b'%' | b'<' | b'$' | b'u' | b'e' | b'c' | b'w' | b'x' | b's' | b'p' | b'b'
        ) && SUSPICIOUS_TOKENS.iter().any(|token| {
            text.get(idx..idx + token.len())
                .is_some_and(|found| found.eq_ignore_ascii_case(token))
        })
    })
}

/// Writes `path` into `out` with numbers and ids replaced by `*`: `/item/*` for `/item/7`.
pub(super) fn write_template(path: &[u8], out: &mut Vec<u8>) {
    out.clear();
    for (idx, segment) in path.split(|byte| *byte == b'/').enumerate() {
        if idx > MAX_SEGMENTS || out.len() + segment.len() > MAX_TEMPLATE {
            out.extend_from_slice("/…".as_bytes());
            return;
        }
        if idx > 0 {
            out.push(b'/');
        }
        if is_id(segment) {
            out.push(b'*');
        } else {
            out.extend_from_slice(segment);
        }
    }
}

/// Digits only, or at least eight bytes with two digits and no other sign than `-` and `_`: ids, hashes, UUIDs.
fn is_id(segment: &[u8]) -> bool {
    if segment.is_empty() {
        return false;
    }
    let n_digits = segment.iter().filter(|byte| byte.is_ascii_digit()).count();
    if n_digits == segment.len() {
        return true;
    }
    segment.len() >= 8
        && n_digits >= 2
        && n_digits * 5 >= segment.len()
        && segment
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

/// Parameters and bytes of a query. `_cid` is not counted: test clients put the id of their connection there, and what
/// is made of the counts must not see who is one.
pub(super) fn count_query(query: &[u8]) -> (usize, usize) {
    if query.is_empty() {
        return (0, 0);
    }
    let pairs = query.split(|byte| *byte == b'&');
    let counted = pairs.filter(|pair| !pair.starts_with(b"_cid="));
    let (n, bytes) = counted.fold((0, 0), |(n, bytes), pair| (n + 1, bytes + pair.len()));
    (n, bytes + n.saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_of_a_test_clients_connection_is_not_counted() {
        for (query, expected) in [
            ("", (0, 0)),
            ("a", (1, 1)),
            ("a=1&b=2", (2, 7)),
            ("_cid=12ab", (0, 0)),
            ("a=1&_cid=12ab", (1, 3)),
            ("_cid=12ab&a=1&b", (2, 5)),
            ("x_cid=1", (1, 7)),
        ] {
            assert_eq!(count_query(query.as_bytes()), expected, "{query}");
        }
    }

    #[track_caller]
    fn check(uri: &str, expected: u16) {
        let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
        assert_eq!(path_flags(path.as_bytes(), query.as_bytes()), expected, "{uri}");
    }

    #[test]
    fn flags_say_what_is_asked_for() {
        check("/", 0);
        check("/catalog/7", 0);
        check("/static/app.JS", flag::STATIC);
        check("/favicon.ico", flag::FAVICON | flag::STATIC);
        check("/robots.txt", flag::ROBOTS);
        check("/sitemap-1.xml", flag::ROBOTS);
        check("/account/Login", flag::LOGIN);
        check("/wp-admin/x", flag::ADMIN);
        check("/.env", flag::DOT_FILE);
        check("/.well-known/acme", 0);
        check("/a/../../etc/passwd", flag::SUSPICIOUS);
        check("/search?q=1+UNION+SELECT+2", flag::SUSPICIOUS);
        check("/api/v2/items", flag::API);
    }

    #[test]
    fn template_replaces_numbers_and_ids() {
        for (path, expected) in [
            ("/item/7", "/item/*"),
            ("/u/3f2504e0-4f89-11d3-9a0c-0305e82c3301/edit", "/u/*/edit"),
            ("/catalog/red-shoes", "/catalog/red-shoes"),
            ("/a/b/c/d/e/f/g/h/i/j", "/a/b/c/d/e/f/g/h/…"),
            ("", ""),
        ] {
            let mut out = Vec::new();
            write_template(path.as_bytes(), &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }
}
