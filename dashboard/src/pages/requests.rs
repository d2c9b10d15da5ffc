//! Lists of requests, page by page, and one request in full.

use serde_json::Value;

use crate::api::types::{Recorded, RequestColumn, RequestDetail, RequestRow, Requests};
use crate::error::ApiError;
use crate::filter::fields::{CONN_BITS, HEADER_BITS, PATH_BITS, TLS_BITS};
use crate::pages::Scope;
use crate::pages::triage::{is_recorded, mapped};
use crate::store::read::{Ask, Reader, Tally};
use crate::store::rows::{ColumnRow, RequestRowRow, plain_ip};
use crate::window::parse_rfc3339;

/// Where a page ended: the last request's time and identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cursor {
    ts_us: i64,
    boot: u64,
    seq: u64,
}

impl Cursor {
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let cursor = Self {
            ts_us: parts.next()?.parse().ok()?,
            boot: parts.next()?.parse().ok()?,
            seq: parts.next()?.parse().ok()?,
        };
        parts.next().is_none().then_some(cursor)
    }

    fn text(self) -> String {
        format!("{}-{}-{}", self.ts_us, self.boot, self.seq)
    }
}

/// A page of the list.
pub(crate) async fn page(
    reader: &Reader,
    recorded: Option<&Recorded>,
    scope: &Scope,
    limit: u64,
    cursor: Option<&str>,
) -> Result<Requests, ApiError> {
    let cursor = match cursor {
        None => Cursor {
            ts_us: scope.span.to * 1_000_000,
            boot: 0,
            seq: 0,
        },
        Some(text) => Cursor::parse(text).ok_or_else(|| {
            ApiError::bad_parameter("cursor is not one of ours: take next_cursor of the page before")
        })?,
    };
    let mut tally = Tally::new();
    let ask = Ask::new("requests")
        .during(scope.span)
        .with("before_us", cursor.ts_us)
        .with("before_boot", cursor.boot)
        .with("before_seq", cursor.seq)
        // One more tells whether there is another page.
        .with("limit", limit + 1)
        .filter(&scope.filter.compile());
    let mut rows: Vec<RequestRowRow> = tally.take(reader.rows(ask).await?);
    let has_more = rows.len() as u64 > limit;
    rows.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    let next_cursor = rows
        .last()
        .filter(|_| has_more)
        .and_then(|row| {
            Some(Cursor {
                ts_us: parse_rfc3339(&row.at)?,
                boot: row.id_boot,
                seq: row.id_seq,
            })
        })
        .map(Cursor::text);
    Ok(Requests {
        window: scope.span.window(),
        requests: rows.into_iter().map(|row| request(row, recorded)).collect(),
        next_cursor,
        meta: tally.meta(),
    })
}

fn request(row: RequestRowRow, recorded: Option<&Recorded>) -> RequestRow {
    RequestRow {
        recorded: is_recorded(recorded, &row.at),
        ts: row.at,
        src_ip: row.ip,
        src_port: row.port,
        ja4: row.client_ja4,
        host: row.asked_host,
        method: row.verb,
        path: row.asked_path,
        query: row.asked_query,
        status: row.answer,
        bytes_sent: row.n_bytes,
        duration_us: row.took_us,
        user_agent: row.agent,
        ua_family: row.family,
        country: row.from_country,
        asn: row.from_asn,
        r#match: row.found,
        boot: row.id_boot.to_string(),
        seq: row.id_seq.to_string(),
        cut: row.cut,
    }
}

/// Which request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RequestKey<'a> {
    pub(crate) ts: &'a str,
    pub(crate) src_ip: &'a str,
    pub(crate) boot: &'a str,
    pub(crate) seq: &'a str,
}

/// Every column of one request. `columns` are those of the store, with their comments.
pub(crate) async fn detail(
    reader: &Reader,
    recorded: Option<&Recorded>,
    columns: &[ColumnRow],
    key: RequestKey<'_>,
) -> Result<RequestDetail, ApiError> {
    let ts_us =
        parse_rfc3339(key.ts).ok_or_else(|| ApiError::bad_parameter("ts is not a time as in the list"))?;
    key.src_ip
        .parse::<std::net::IpAddr>()
        .map_err(|_| ApiError::bad_parameter("src_ip is not an address"))?;
    for (name, text) in [("boot", key.boot), ("seq", key.seq)] {
        text.parse::<u64>()
            .map_err(|_| ApiError::bad_parameter(format!("{name} is not a number as in the list")))?;
    }
    let mut tally = Tally::new();
    let ask = Ask::new("request")
        .with(
            "ts",
            format!(
                "{}.{:06}",
                ts_us.div_euclid(1_000_000),
                ts_us.rem_euclid(1_000_000)
            ),
        )
        .with("src_ip", mapped(key.src_ip))
        .with("boot", key.boot)
        .with("seq", key.seq);
    let mut found: serde_json::Map<String, Value> = reader
        .rows(ask)
        .await
        .map(|answer| tally.take(answer))?
        .pop()
        .ok_or_else(|| {
            ApiError::not_found("there is no such request, or it is older than the store keeps")
        })?;
    // A number of 128 bits has no JSON form that everybody reads; its digits are beside it.
    if let Some(hex) = found.remove("conn_uid_hex") {
        found.insert("conn_uid".to_owned(), hex);
    }
    let mut shown: Vec<RequestColumn> = columns
        .iter()
        .filter_map(|column| Some(shown_column(column, found.remove(&column.name)?)))
        .collect();
    // Columns that the store has since we looked.
    shown.extend(found.into_iter().map(|(name, value)| {
        shown_column(
            &ColumnRow {
                name,
                comment: String::new(),
            },
            value,
        )
    }));
    Ok(RequestDetail {
        columns: shown,
        recorded: is_recorded(recorded, key.ts),
        meta: tally.meta(),
    })
}

fn shown_column(column: &ColumnRow, value: Value) -> RequestColumn {
    let bits: &[(&str, u8)] = match column.name.as_str() {
        "header_flags" => HEADER_BITS,
        "path_flags" => PATH_BITS,
        "tls_flags" => TLS_BITS,
        "conn_flags" => CONN_BITS,
        _ => &[],
    };
    let set = value.as_u64().unwrap_or(0);
    RequestColumn {
        flags: bits
            .iter()
            .filter(|(_, bit)| set >> bit & 1 == 1)
            .map(|(name, _)| (*name).to_owned())
            .collect(),
        value: plain(value),
        name: column.name.clone(),
        comment: column.comment.clone(),
    }
}

/// Addresses as people write them, and numbers that JavaScript would round as text.
fn plain(value: Value) -> Value {
    const EXACT_IN_JAVASCRIPT: u64 = 1 << 53;
    match value {
        Value::String(text) if text.starts_with("::ffff:") => Value::String(plain_ip(&text)),
        Value::Number(number) if number.as_u64().is_some_and(|n| n > EXACT_IN_JAVASCRIPT) => {
            Value::String(number.to_string())
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_survive_the_round_trip_and_nonsense_is_refused() {
        let cursor = Cursor {
            ts_us: 5,
            boot: u64::MAX,
            seq: 7,
        };
        assert_eq!(Cursor::parse(&cursor.text()), Some(cursor));
        for text in ["", "1-2", "1-2-3-4", "a-b-c", "1-2--3"] {
            assert_eq!(Cursor::parse(text), None, "{text}");
        }
    }

    #[test]
    fn numbers_that_javascript_would_round_are_text() {
        assert_eq!(plain(Value::from(u64::MAX)), Value::from("18446744073709551615"));
        assert_eq!(plain(Value::from(5)), Value::from(5));
        assert_eq!(plain(Value::from("::ffff:10.0.0.1")), Value::from("10.0.0.1"));
    }

    #[test]
    fn flags_have_names() {
        let column = ColumnRow {
            name: "tls_flags".to_owned(),
            comment: String::new(),
        };
        assert_eq!(
            shown_column(&column, Value::from(0b10_0001)).flags,
            ["resumed", "sni"]
        );
    }
}
