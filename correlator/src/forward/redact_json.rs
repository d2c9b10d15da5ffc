//! Redacts a request that is passed on: only its headers and query are written anew, every other field, also one that
//! this version does not know, stays as it came.

use std::borrow::Cow;
use std::fmt;

use ja4_model::Request;
use ja4_model::json::{Object, write_list, write_text};
use ja4_model::limits::MAX_MESSAGE_BYTES;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::redact::Redactor;

/// The fields of an object in their order, with their values as they came.
struct Fields<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
                let mut fields = Vec::with_capacity(40);
                while let Some(name) = map.next_key::<Name<'de>>()? {
                    fields.push((name.0, map.next_value()?));
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(Read)
    }
}

/// A name, borrowed where it has no escapes.
#[derive(serde::Deserialize)]
#[serde(transparent)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

/// The request's bytes with its secrets replaced; nothing if it has none. `request` was read from `json` and is
/// redacted too.
///
/// # Errors
/// A reason to count it under: it cannot be written anew.
pub(super) fn redact(
    redactor: &Redactor,
    request: &mut Request<'_>,
    json: &[u8],
) -> Result<Option<Vec<u8>>, &'static str> {
    let (headers, query) = (request.headers.clone(), request.query.clone());
    redactor.redact(request);
    if request.headers == headers && request.query == query {
        return Ok(None);
    }
    let fields: Fields<'_> = serde_json::from_slice(json).map_err(|_| "malformed")?;
    let mut out = Vec::with_capacity(json.len() + 64);
    let mut object = Object::open(&mut out);
    for (name, value) in fields.0 {
        match &*name {
            "headers" => write_list(object.key("headers"), &request.headers, |out, (name, value)| {
                out.push(b'[');
                write_text(out, name.as_bytes());
                out.push(b',');
                write_text(out, value.as_bytes());
                out.push(b']');
            }),
            "query" => object.text("query", &request.query),
            name => object.key(name).extend_from_slice(value.get().as_bytes()),
        }
    }
    object.close();
    // Short secrets grow to hashes; what a receiver would refuse is counted here.
    if out.len() > MAX_MESSAGE_BYTES {
        return Err("too_long");
    }
    Ok(Some(out))
}

#[cfg(test)]
mod tests {
    use ja4_model::{Event, decode};

    use super::*;

    fn redacted(json: &str) -> Option<String> {
        let redactor = Redactor::new(&[7; 32], &["token".into()], &["sid".into()]);
        let (_, event) = decode::event(json.as_bytes()).unwrap();
        let Event::Request(mut request) = event else {
            panic!("{json}")
        };
        let out = redact(&redactor, &mut request, json.as_bytes()).unwrap();
        out.map(|out| String::from_utf8(out).unwrap())
    }

    #[test]
    fn only_secrets_change_and_unknown_fields_stay() {
        let json = r#"{"v":1,"event":"request","later":{"a":[1, 2]},"ts_ns":"5","client_ip":"1.2.3.4","client_port":5,"server_ip":"1.2.3.5","server_port":443,"query":"token=x&q=1","headers":[["Cookie","sid=1; a=\"2\""],["X","\u0001"]],"path":"/ü"}"#;
        let out = redacted(json).unwrap();
        assert!(!out.contains("sid=1") && !out.contains("token=x"), "{out}");
        for part in [
            r#""later":{"a":[1, 2]}"#,
            r#""ts_ns":"5""#,
            r#"&q=1""#,
            r#"["X","\u0001"]"#,
            "/ü",
        ] {
            assert!(out.contains(part), "{part}: {out}");
        }
        let (_, event) = decode::event(out.as_bytes()).unwrap();
        assert!(matches!(event, Event::Request(request) if request.headers.len() == 2));
        assert_eq!(
            redacted(&out),
            None,
            "the second of our processes changes nothing"
        );
    }
}
