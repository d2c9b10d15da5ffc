//! The filter language by example and at random.

use ja4_schema::queries::{FILTER, Query};
use proptest::prelude::*;

use super::ast::{Part, Pattern, Test};
use super::fields::{FIELDS, Target, Unit};
use super::{Expr, Filter, MAX_CHARS, MAX_DEPTH, MAX_TERMS, fields, written};

#[track_caller]
fn check(text: &str, sql: &str, params: &[&str]) {
    let compiled = Filter::parse(text)
        .unwrap_or_else(|error| panic!("{text}: {error:?}"))
        .compile();
    let values: Vec<&str> = compiled.params.iter().map(|(_, value)| value.as_str()).collect();
    assert_eq!(
        (compiled.sql.as_str(), values.as_slice()),
        (sql, params),
        "{text}"
    );
}

#[track_caller]
fn refused(text: &str, offset: usize, length: usize, message: &str, remedy: &str) {
    let error = Filter::parse(text).expect_err(text);
    assert!(error.message.contains(message), "{text}: {error:?}");
    assert!(error.remedy.contains(remedy), "{text}: {error:?}");
    assert_eq!(
        (error.offset, error.length),
        (offset, length),
        "{text}: {error:?}"
    );
}

#[test]
fn nothing_passes_everything() {
    check("", "1", &[]);
    check("  \t ", "1", &[]);
    assert!(Filter::parse(" ").unwrap().is_empty());
}

#[test]
fn values_become_parameters() {
    check("host:shop.example", "host = {f0:String}", &["shop.example"]);
    check("host:\"a b\"", "host = {f0:String}", &["a b"]);
    check(
        "path:'; DROP",
        "(path = {f0:String} AND (user_agent ILIKE {f1:String} OR lower(path) LIKE {f1:String} OR host ILIKE {f1:String}))",
        &["';", "%drop%"],
    );
    check("DOMAIN:x", "host = {f0:String}", &["x"]);
    refused("path:/a(b", 7, 1, "never closed", "");
}

#[test]
fn stars_are_any_characters_and_the_signs_of_like_are_not() {
    const BEGINS: &str = "lower(left(path, length({f0:String}))) = {f0:String}";
    check("path:/WP-*", BEGINS, &["/wp-"]);
    check("path:100%_*", BEGINS, &["100%_"]);
    check("path:*100%_*", "lower(path) LIKE {f0:String}", &["%100\\%\\_%"]);
    // Case beyond ASCII is folded by ILIKE alone; a column with a dictionary needs no help.
    check("path:/É*", "path ILIKE {f0:String}", &["/É%"]);
    check("ua:Mozilla*", "user_agent ILIKE {f0:String}", &["mozilla%"]);
    check("path:\"*\"", "path = {f0:String}", &["*"]);
    check("path:a\\*b", "path = {f0:String}", &["a*b"]);
    check(
        "ua:*\"Windows NT\"*",
        "user_agent ILIKE {f0:String}",
        &["%windows nt%"],
    );
    check("path:a**b", "lower(path) LIKE {f0:String}", &["a%b"]);
}

#[test]
fn anything_and_nothing() {
    check("referer:\"\"", "referer = ''", &[]);
    check("referer:*", "referer != ''", &[]);
    check("asn:\"\"", "asn = 0", &[]);
    check("peer_ip:*", "peer_ip != toIPv6('::')", &[]);
    check("match:*", "1", &[]);
}

#[test]
fn numbers_compare() {
    check("status:404", "status = {f0:UInt64}", &["404"]);
    check("status:>=400", "(status >= {f0:UInt64})", &["400"]);
    check("status:>400", "(status >= {f0:UInt64})", &["401"]);
    check("status:<400", "(status <= {f0:UInt64})", &["399"]);
    check(
        "status:400..499",
        "(status >= {f0:UInt64} AND status <= {f1:UInt64})",
        &["400", "499"],
    );
    check("status:..499", "(status <= {f0:UInt64})", &["499"]);
    check(
        "status:4xx",
        "(status >= {f0:UInt64} AND status <= {f1:UInt64})",
        &["400", "499"],
    );
    check("bytes:>1k", "(bytes_sent >= {f0:UInt64})", &["1001"]);
    check("duration:>=1.5s", "(duration_us >= {f0:UInt64})", &["1500000"]);
    check("duration:20", "duration_us = {f0:UInt64}", &["20000"]);
    check("status:<0", "(status <= {f0:Float64})", &["-1"]);
}

#[test]
fn addresses_and_networks_are_ranges() {
    check("src_ip:192.0.2.7", "src_ip = {f0:IPv6}", &["::ffff:192.0.2.7"]);
    check(
        "ip:10.0.0.0/8",
        "(src_ip >= {f0:IPv6} AND src_ip <= {f1:IPv6})",
        &["::ffff:10.0.0.0", "::ffff:10.255.255.255"],
    );
    check(
        "src_ip:10.1.2.3/8",
        "(src_ip >= {f0:IPv6} AND src_ip <= {f1:IPv6})",
        &["::ffff:10.0.0.0", "::ffff:10.255.255.255"],
    );
    check(
        "src_ip:2001:db8::/32",
        "(src_ip >= {f0:IPv6} AND src_ip <= {f1:IPv6})",
        &["2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff"],
    );
    check("src_ip:::1", "src_ip = {f0:IPv6}", &["::1"]);
    check(
        "src_ip:0.0.0.0/0",
        "(src_ip >= {f0:IPv6} AND src_ip <= {f1:IPv6})",
        &["::ffff:0.0.0.0", "::ffff:255.255.255.255"],
    );
}

#[test]
fn lists_are_one_in() {
    check("ja4:(a OR b)", "(ja4 IN ({f0:String}, {f1:String}))", &["a", "b"]);
    check(
        "ja4:(a b c*)",
        "(ja4 IN ({f0:String}, {f1:String}) OR ja4 ILIKE {f2:String})",
        &["a", "b", "c%"],
    );
    check("ja4:(a)", "ja4 = {f0:String}", &["a"]);
    check(
        "status:(404 OR 5xx)",
        "(status = {f0:UInt64} OR (status >= {f1:UInt64} AND status <= {f2:UInt64}))",
        &["404", "500", "599"],
    );
    check(
        "src_ip:(192.0.2.7 OR 10.0.0.0/8)",
        "(src_ip IN ({f0:IPv6}) OR (src_ip >= {f1:IPv6} AND src_ip <= {f2:IPv6}))",
        &["::ffff:192.0.2.7", "::ffff:10.0.0.0", "::ffff:10.255.255.255"],
    );
}

#[test]
fn choices_and_flags_are_checked() {
    check("match:none", "match = {f0:String}", &["none"]);
    check("match:NONE", "match = {f0:String}", &["none"]);
    check("-has_header:cookie", "NOT (bitTest(header_flags, 3))", &[]);
    check("path_class:dotfile", "bitTest(path_flags, 5)", &[]);
    refused(
        "match:maybe",
        6,
        5,
        "match is never that",
        "exact, asof, ambiguous, none",
    );
}

#[test]
fn terms_are_joined_as_they_are_read() {
    check(
        "status:1 host:a OR host:b",
        "((status = {f0:UInt64} AND host = {f1:String}) OR host = {f2:String})",
        &["1", "a", "b"],
    );
    check(
        "status:1 AND (host:a OR host:b)",
        "(status = {f0:UInt64} AND (host = {f1:String} OR host = {f2:String}))",
        &["1", "a", "b"],
    );
    check("NOT host:a", "NOT (host = {f0:String})", &["a"]);
    check("NOT -host:a", "NOT (NOT (host = {f0:String}))", &["a"]);
    check(
        "-(host:a host:b)",
        "NOT ((host = {f0:String} AND host = {f1:String}))",
        &["a", "b"],
    );
    check(
        "ORANGE",
        "(user_agent ILIKE {f0:String} OR lower(path) LIKE {f0:String} OR host ILIKE {f0:String})",
        &["%orange%"],
    );
}

#[test]
fn ids_are_compared_to_the_last_digit() {
    check(
        "header_order_hash:18446744073709551615",
        "header_order_hash = {f0:UInt64}",
        &["18446744073709551615"],
    );
    refused("boot:-1", 5, 2, "whole number", "boot:0");
    refused("seq:18446744073709551616", 4, 20, "whole number", "seq:0");
}

#[test]
fn clients_pass_with_a_request_that_does() {
    let direct = Filter::parse("host:a label:bot").unwrap().compile_for_clients();
    assert!(direct.sql.starts_with("(host = {f0:String}"), "{}", direct.sql);
    let by_requests = Filter::parse("status:404").unwrap().compile_for_clients();
    assert!(
        by_requests.sql.starts_with("entity_id GLOBAL IN (SELECT"),
        "{}",
        by_requests.sql
    );
    assert!(by_requests.sql.contains("status = {f0:UInt64}") && !by_requests.sql.contains("{filter}"));
}

#[test]
fn what_is_known_of_clients_is_a_set_of_them() {
    let compiled = Filter::parse("label:bot").unwrap().compile();
    assert!(
        compiled.sql.starts_with("entity_id GLOBAL IN (SELECT"),
        "{}",
        compiled.sql
    );
    assert!(
        compiled.sql.contains("soc_labels") && compiled.sql.contains("label = {f0:String}"),
        "{}",
        compiled.sql
    );
    let none = Filter::parse("label:none").unwrap().compile();
    assert!(
        none.sql.starts_with("entity_id GLOBAL NOT IN (SELECT") && none.params.is_empty(),
        "{}",
        none.sql
    );
    let flagged = Filter::parse("verdict:flagged").unwrap().compile();
    assert!(
        flagged.sql.contains("verdict IN ('flagged', 'alert')"),
        "{}",
        flagged.sql
    );
    let both = Filter::parse("label:(none OR bot)").unwrap().compile();
    assert!(
        both.sql.contains("NOT IN") && both.sql.contains(" OR entity_id GLOBAL IN"),
        "{}",
        both.sql
    );
    assert!(
        Filter::parse("evidence:>=12.5")
            .unwrap()
            .compile()
            .sql
            .contains("evidence >= {f0:Float64}")
    );
}

#[test]
fn errors_point_at_the_character_and_say_what_to_write() {
    refused("statsu:404", 0, 6, "no field \"statsu\"", "did you mean status?");
    refused("a http://x", 2, 4, "no field \"http\"", "quotes");
    refused("é statsu:404", 2, 6, "no field", "status");
    refused("host:\"abc", 5, 4, "never closed", "close it");
    refused("status:abc", 7, 3, "takes a number", "status:>=5");
    refused("status:1e3", 7, 3, "takes a number", "");
    refused("status:", 7, 0, "value is missing", "status:*");
    refused("status: 404", 7, 0, "value is missing", "");
    refused("(host:a", 0, 1, "never closed", "close it");
    refused("host:a)", 6, 1, "without its (", "quotes");
    refused("host:a AND", 10, 0, "term is missing", "");
    refused("host:a OR OR host:b", 10, 2, "nothing before it", "");
    refused("AND", 0, 3, "nothing before it", "");
    refused("NOT", 3, 0, "term is missing", "");
    refused("()", 1, 0, "term is missing", "( )");
    refused("ja4:()", 5, 0, "value is missing", "( )");
    refused("ja4:(a", 4, 1, "never closed", "");
    refused("ja4:(a AND b)", 7, 1, "OR between", "ja4:a AND ja4:b");
    refused("ja4:(a OR )", 10, 0, "value is missing", "OR");
    refused(
        "src_ip:10.0.*",
        7,
        6,
        "address or a network",
        "src_ip:10.0.0.0/16",
    );
    refused("src_ip:10.0.0.0/33", 7, 11, "address or a network", "");
    refused("*", 0, 1, "nothing in it", "");
    refused("\"\"", 0, 2, "nothing in it", "");
    refused("a\\", 1, 1, "backslash", "\\\\");
}

#[test]
fn length_terms_and_depth_have_limits() {
    refused(&"a".repeat(MAX_CHARS + 3), MAX_CHARS, 3, "characters", "at most");
    let error = Filter::parse(&"a ".repeat(MAX_TERMS + 1)).unwrap_err();
    assert!(error.message.contains("terms"), "{error:?}");
    assert!(Filter::parse(&"a ".repeat(MAX_TERMS)).is_ok());
    let deep = |n: usize| format!("{}a{}", "(".repeat(n), ")".repeat(n));
    assert!(Filter::parse(&deep(MAX_DEPTH)).is_ok());
    assert!(
        Filter::parse(&deep(MAX_DEPTH + 1))
            .unwrap_err()
            .message
            .contains("nested")
    );
    assert!(Filter::parse(&format!("{}a", "-".repeat(4000))).is_err());
}

#[test]
fn a_written_value_reads_as_itself() {
    for value in [
        "plain",
        "a b",
        "*",
        "-x",
        "AND",
        ">5",
        "a\"b\\c",
        "a..b",
        "é\u{202e}",
        "t13d1516h2_8daaf6152771_e5627efa2ab1",
        "/p?q=1",
    ] {
        let filter = Filter::parse(&format!("path:{}", written(value))).unwrap();
        let compiled = filter.compile();
        assert_eq!(compiled.params[0].1, value);
        assert_eq!(compiled.sql, "path = {f0:String}", "{value}");
    }
}

#[test]
fn the_dictionary_is_sound() {
    let mut names: Vec<&str> = FIELDS
        .iter()
        .flat_map(|f| std::iter::once(f.name).chain(f.aliases.iter().copied()))
        .collect();
    let n = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), n, "a name means two fields");
    for field in FIELDS {
        let parsed =
            Filter::parse(field.example).unwrap_or_else(|error| panic!("{}: {error:?}", field.example));
        assert!(
            field.example.trim_start_matches('-').starts_with(field.name),
            "{}",
            field.name
        );
        assert!(!parsed.is_empty());
        if let Target::Clients { query, column, .. } = field.target {
            let query = Query::named(query).unwrap_or_else(|| panic!("{}: no query {query}", field.name));
            assert_eq!(query.body().matches(FILTER).count(), 1, "{}", query.name);
            assert!(
                query.body().contains(column),
                "{}: no column {column}",
                query.name
            );
        }
    }
}

#[test]
fn a_filter_knows_which_columns_it_needs() {
    let needs_only = |text: &str, columns: &[&str]| Filter::parse(text).unwrap().needs_only(columns);
    assert!(needs_only("", &[]));
    assert!(needs_only("host:a OR -host:b", &["host"]));
    assert!(needs_only("host:a label:bot", &["host"]));
    assert!(!needs_only("host:a status:404", &["host"]));
    assert!(!needs_only("word", &["host"]));
}

fn literal() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z0-9./:_-]{1,12}",
        "\\PC{1,12}",
        Just("AND".to_owned()),
        Just("\"\\*%_'".to_owned()),
        Just("a b".to_owned()),
    ]
}

fn pattern() -> impl Strategy<Value = Pattern> {
    (
        proptest::collection::vec(literal(), 1..3),
        any::<bool>(),
        any::<bool>(),
    )
        .prop_map(|(texts, before, after)| {
            let mut parts = Vec::new();
            if before {
                parts.push(Part::Any);
            }
            for (i, text) in texts.into_iter().enumerate() {
                if i > 0 {
                    parts.push(Part::Any);
                }
                parts.push(Part::Literal(text));
            }
            if after {
                parts.push(Part::Any);
            }
            Pattern(parts)
        })
}

fn term() -> impl Strategy<Value = Expr> {
    let field = |name: &str| fields::named(name).unwrap();
    prop_oneof![
        pattern().prop_map(Expr::Text),
        pattern().prop_map(move |p| Expr::Field(field("path"), Test::Like(p))),
        (0_u32..1000, 0_u32..1000).prop_map(move |(lo, n)| Expr::Field(
            field("status"),
            Test::Numbers {
                lo: Some(f64::from(lo)),
                hi: Some(f64::from(lo + n))
            }
        )),
        (0_usize..4).prop_map(move |i| Expr::Field(field("match"), Test::Choice(i))),
        (any::<u128>(), 0_u32..=128).prop_map(move |(bits, host_bits)| {
            let mask = u128::MAX.checked_shl(host_bits).unwrap_or(0);
            Expr::Field(
                field("src_ip"),
                Test::Network {
                    first: (bits & mask).into(),
                    last: (bits | !mask).into(),
                },
            )
        }),
        proptest::collection::vec(literal(), 2..4).prop_map(move |texts| Expr::Field(
            field("ja4"),
            Test::AnyOf(
                texts
                    .into_iter()
                    .map(|t| Test::Like(Pattern(vec![Part::Literal(t)])))
                    .collect()
            )
        )),
    ]
}

fn expr() -> impl Strategy<Value = Expr> {
    term().prop_recursive(4, 24, 3, |inner| {
        prop_oneof![
            inner.clone().prop_map(|e| Expr::Not(Box::new(e))),
            proptest::collection::vec(inner.clone(), 2..4).prop_map(Expr::And),
            proptest::collection::vec(inner, 2..4).prop_map(Expr::Or),
        ]
    })
}

/// The SQL without what the dictionary put there: nothing of the text may be left.
fn holds_only_known_words(sql: &str) -> bool {
    let allowed = |word: &str| {
        word.is_empty()
            || word.bytes().all(|b| b.is_ascii_digit())
            || (word.starts_with('f') && word[1..].bytes().all(|b| b.is_ascii_digit()))
            || matches!(
                word,
                "AND"
                    | "OR"
                    | "NOT"
                    | "IN"
                    | "ILIKE"
                    | "LIKE"
                    | "lower"
                    | "left"
                    | "length"
                    | "String"
                    | "UInt64"
                    | "Float64"
                    | "IPv6"
                    | "bitTest"
                    | "toIPv6"
            )
            || FIELDS
                .iter()
                .any(|f| matches!(f.target, Target::Column(column) if column == word))
    };
    sql.split(|c: char| !c.is_alphanumeric() && c != '_').all(allowed)
}

proptest! {
    #[test]
    fn prop_any_text_is_read_or_refused_at_a_character_of_it(text in "\\PC{0,80}|[a-z_:()\"*\\\\ .<>=0-9-]{0,80}") {
        match Filter::parse(&text) {
            Ok(filter) => {
                let compiled = filter.compile();
                prop_assert_eq!(compiled.sql.matches('(').count(), compiled.sql.matches(')').count());
            }
            Err(error) => {
                let n = text.chars().count();
                prop_assert!(error.offset + error.length <= n, "{:?}", error);
                prop_assert!(!error.message.is_empty() && !error.remedy.is_empty() || error.message.contains("number"));
            }
        }
    }

    #[test]
    fn prop_what_is_printed_reads_as_the_same_filter(expr in expr()) {
        let filter = Filter::of(expr);
        let text = filter.print();
        prop_assume!(text.chars().count() <= MAX_CHARS);
        let again = Filter::parse(&text).map_err(|e| TestCaseError::fail(format!("{text}: {e:?}")))?;
        prop_assert_eq!(again.compile(), filter.compile(), "{}", text);
    }

    #[test]
    fn prop_values_never_reach_the_sql(expr in expr()) {
        let sql = Filter::of(expr).compile().sql;
        prop_assert!(holds_only_known_words(&sql), "{}", sql);
    }

    #[test]
    fn prop_a_written_value_reads_as_itself(value in "\\PC{1,40}") {
        let filter = Filter::parse(&format!("path:{}", written(&value))).map_err(|e| TestCaseError::fail(format!("{e:?}")))?;
        prop_assert_eq!(&filter.compile().params[0].1, &value);
    }

    #[test]
    fn prop_numbers_survive(n in 0_u32.., unit in prop_oneof![Just(Unit::Count), Just(Unit::Bytes), Just(Unit::Real)]) {
        prop_assert_eq!(unit.parse(&n.to_string()), Some(f64::from(n)));
    }
}
