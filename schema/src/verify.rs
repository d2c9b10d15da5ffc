//! Verifies the pipeline in the store: applies the migrations to a scratch pair of databases, compares the real ones with it,
//! puts marked rows in at the head and asserts the exact values that every materialized view and view makes of them.
//!
//! The scratch pair is dropped at the end, also after a failure. The probe goes through the real tables under the reserved
//! host, which every view leaves out.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use ja4_model::request::EffectiveSource;
use ja4_model::{
    BootId, ClientHello, Confirmed, ConnFacts, ConnFlags, ConnUid, Correction, Direction, Endpoint, EventId,
    Head, JoinedRequest, Match, NoneReason, Pair, Request, RequestEnd, Status, TcpFacts, TlsFacts, TlsRecord,
    Transport, WallNs,
};

use crate::apply::{ApplyError, apply};
use crate::drift::{Difference, first_difference, inventory};
use crate::migration::Migration;
use crate::names::{InvalidName, Names};
use crate::native::{Block, row_json};
use crate::retention::RetentionDays;
use crate::rows::{
    HttpLogsBlock, JoinCorrectionsBlock, QuarantineBlock, QuarantinedRow, SourceStatusBlock, SourceStatusRow,
    TlsLogsBlock,
};
use crate::store::{StatementError, Store};

/// Host of the probe: reserved names never resolve (RFC 2606), and every view leaves it out.
pub const PROBE_HOST: &str = "ja4-probe.invalid";

/// Why the schema does not do what it should.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The scratch databases could not be made.
    #[error("the scratch databases could not be made")]
    Scratch(#[from] ApplyError),
    /// The scratch databases cannot have such names.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// Something is not as the migrations make it.
    #[error("{0}; bring it back by hand, or by a migration if the difference is wanted")]
    Drift(Box<Difference>),
    /// A view makes something else of the marked rows.
    #[error("{what} should be {expected} and is {found}")]
    Wrong {
        /// Table or view and value.
        what: String,
        /// As computed by hand.
        expected: String,
        /// As found.
        found: String,
    },
    /// A statement failed.
    #[error(transparent)]
    Statement(#[from] StatementError),
}

/// What was verified.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Verified {
    /// Objects compared with the migrations.
    pub n_objects: usize,
    /// Values asserted in the scratch databases, by table or view.
    pub values: Vec<String>,
}

/// Names the first difference between the store and the migrations, if there is one.
///
/// # Errors
/// If the scratch databases cannot be made or a query fails.
pub async fn drift(store: &Store, migrations: &[Migration]) -> Result<Option<Difference>, VerifyError> {
    let scratch = make_scratch(store, migrations).await?;
    let compared = compare(store, &scratch).await;
    drop_scratch(&scratch).await?;
    Ok(compared?.1)
}

/// Verifies definitions and values; see the module.
///
/// # Errors
/// The first thing that is not as it should be.
pub async fn verify(store: &Store, migrations: &[Migration]) -> Result<Verified, VerifyError> {
    let scratch = make_scratch(store, migrations).await?;
    let verified = Box::pin(verify_in(store, &scratch)).await;
    let dropped = drop_scratch(&scratch).await;
    let verified = verified?;
    dropped?;
    probe(store).await?;
    Ok(verified)
}

async fn make_scratch(store: &Store, migrations: &[Migration]) -> Result<Store, VerifyError> {
    let names = scratch_names(store.names())?;
    let scratch = store.with_names(names);
    // What an earlier run left that was killed.
    drop_scratch(&scratch).await?;
    apply(&scratch, migrations, &RetentionDays::default()).await?;
    Ok(scratch)
}

/// The same cluster, other databases: names that no installation has by accident.
fn scratch_names(names: &Names) -> Result<Names, InvalidName> {
    let scratch = Names::new(
        &format!("{}_verify", names.logs()),
        &format!("{}_verify", names.processing()),
    )?;
    match names.cluster() {
        Some(cluster) => scratch.on_cluster(cluster),
        None => Ok(scratch),
    }
}

async fn drop_scratch(scratch: &Store) -> Result<(), StatementError> {
    // Tables of the first ask dictionaries of the second, so the first goes first.
    scratch
        .execute("DROP DATABASE IF EXISTS {logs}{on_cluster} SYNC")
        .await?;
    scratch
        .execute("DROP DATABASE IF EXISTS {processing}{on_cluster} SYNC")
        .await
}

async fn compare(store: &Store, scratch: &Store) -> Result<(usize, Option<Difference>), StatementError> {
    let expected = inventory(scratch).await?;
    let found = inventory(store).await?;
    Ok((expected.len(), first_difference(&expected, &found, store)))
}

async fn verify_in(store: &Store, scratch: &Store) -> Result<Verified, VerifyError> {
    let (n_objects, difference) = compare(store, scratch).await?;
    if let Some(difference) = difference {
        return Err(VerifyError::Drift(Box::new(difference)));
    }
    let marks = Marks::new(
        scratch
            .value("SELECT toString(toUnixTimestamp64Nano(now64(9)))", &[])
            .await?,
    );
    Box::pin(insert_marked(scratch, &marks)).await?;
    insert_detections(scratch).await?;
    let mut values = Vec::new();
    for (what, sql, expected) in expectations(&marks) {
        check(scratch, what, &sql, &expected).await?;
        values.push(what.to_owned());
    }
    Ok(Verified { n_objects, values })
}

async fn check(store: &Store, what: &str, sql: &str, expected: &str) -> Result<(), VerifyError> {
    let rows = store.rows(sql, &[]).await?;
    let found = rows
        .iter()
        .map(|row| row.join(" "))
        .collect::<Vec<_>>()
        .join("; ");
    if found == expected {
        return Ok(());
    }
    Err(VerifyError::Wrong {
        what: what.to_owned(),
        expected: expected.to_owned(),
        found,
    })
}

/// Times of the marked rows: four requests in one minute of the hour before the present one, so that no window cuts them.
struct Marks {
    start_ns: WallNs,
}

const SECOND_NS: WallNs = 1_000_000_000;
const HOUR_NS: WallNs = 3600 * SECOND_NS;

impl Marks {
    fn new(now_ns: Option<String>) -> Self {
        let now_ns: WallNs = now_ns.and_then(|ns| ns.parse().ok()).unwrap_or(0);
        // Minute 30 of the hour before.
        Self {
            start_ns: now_ns - now_ns.rem_euclid(HOUR_NS) - HOUR_NS / 2,
        }
    }

    fn hour(&self) -> String {
        format!(
            "toDateTime({}, 'UTC')",
            (self.start_ns - self.start_ns.rem_euclid(HOUR_NS)) / SECOND_NS
        )
    }

    fn hour_end(&self) -> String {
        format!(
            "toDateTime({}, 'UTC')",
            (self.start_ns - self.start_ns.rem_euclid(HOUR_NS) + HOUR_NS) / SECOND_NS
        )
    }
}

const BOOT: BootId = BootId(0x6a61_345f_7665_7269);
const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 7);
const HOST: &str = "verify.example";
const JA4: &str = "t13d1516h2_8daaf6152771_02713d6af862";
const ORDER: &str = "Host,User-Agent,Accept";

fn pair() -> Pair {
    let end = |ip, port| Endpoint::new(IpAddr::V4(ip).into(), port);
    Pair {
        client: end(CLIENT, 40_000),
        server: end(Ipv4Addr::new(192, 0, 2, 1), 443),
    }
}

fn marked_hello() -> ClientHello<'static> {
    ClientHello {
        conn: ConnFacts {
            conn_uid: ConnUid::new(BOOT, 1),
            transport: Transport::Tcp,
            pair: pair(),
            views: vec![pair()],
            encap: None,
            open_ts_ns: None,
            syn_to_hello_us: Some(700),
            tcp: Some(TcpFacts {
                ttl: 63,
                window: 64_240,
                mss: Some(1460),
                wscale: Some(7),
                options: vec![2, 4, 8, 1, 3],
                timestamps: true,
            }),
            direction: Direction::Ingress,
            confirmed: Confirmed::Followed,
            flags: ConnFlags::RETRANSMITTED,
        },
        hello_index: 0,
        tls: Arc::new(TlsFacts {
            ja4: JA4.into(),
            ja4_r: "t13d1516h2_002f,0035_0005,000a".into(),
            ja4_norm: JA4.into(),
            ja3: "cd08e31494f9531f560d64c695473da9".into(),
            ja3_raw: "771,4865".into(),
            alpn: vec!["h2".into(), "http/1.1".into()],
            tls_version: "1.3".into(),
            ech: false,
            psk: true,
            pq: true,
        }),
        sni: HOST.into(),
        client_random: [7; 32],
        hello_bytes: 517,
        proxy: None,
    }
}

fn marked_request(idx: u32, host: &'static str) -> Request<'static> {
    Request {
        pair: pair(),
        effective_source: EffectiveSource::Wire,
        conn_id: "c1".into(),
        req_index: Some(idx),
        method: if idx == 3 { "POST" } else { "GET" }.into(),
        scheme: "https".into(),
        host: host.into(),
        path: if idx == 3 { "/login" } else { "/static/app.js" }.into(),
        query: if idx == 0 { "a=1&b=2" } else { "" }.into(),
        http_version: "2".into(),
        headers: vec![
            ("Host".into(), host.into()),
            ("User-Agent".into(), "verify/1".into()),
            ("Accept".into(), "*/*".into()),
        ],
        headers_form: ja4_model::HeadersForm::Ordered,
        headers_case: true,
        ..Request::default()
    }
}

/// Four joined requests of one client, one without a connection, one of the probe's host.
fn marked_block(marks: &Marks, host: &'static str) -> (HttpLogsBlock, TlsLogsBlock) {
    let hello = marked_hello();
    let mut requests = HttpLogsBlock::new();
    for idx in 0..4_u32 {
        let request = marked_request(idx, host);
        let ts_ns = marks.start_ns + WallNs::from(idx) * SECOND_NS;
        let mut head = Head::new(
            "verify".into(),
            "verify-node".into(),
            EventId {
                boot: BOOT,
                seq: u64::from(idx),
            },
            ts_ns,
        );
        head.recv_ns = Some(ts_ns + SECOND_NS / 2);
        let end = RequestEnd {
            request_seq: u64::from(idx),
            status: Some(if idx == 3 { 403 } else { 200 }),
            bytes_sent: Some(100 * (u64::from(idx) + 1)),
            duration_us: Some(2_500),
        };
        let joined = idx != 2;
        requests.push(&JoinedRequest {
            head: &head,
            request: &request,
            end: Some(&end),
            hello: joined.then_some(&hello),
            conn: joined.then_some(&hello.conn),
            confirmed: if joined {
                Confirmed::Followed
            } else {
                Confirmed::None
            },
            verdict: if joined {
                Match::Exact
            } else {
                Match::None(NoneReason::NoConn)
            },
            delta_us: joined.then_some(1_000),
            conn_req_index: idx,
            contradictions: &[],
            derived: ja4_model::joined::Derived {
                ua_family: "Verify".into(),
                session_hash: 9,
                header_order: ORDER.into(),
                header_order_hash: 11,
            },
        });
    }
    let mut hellos = TlsLogsBlock::new();
    let mut head = Head::new(
        "sensor".into(),
        "verify-node".into(),
        EventId { boot: BOOT, seq: 1 },
        marks.start_ns,
    );
    head.recv_ns = Some(marks.start_ns + 1_000);
    let probe_hello = ClientHello {
        sni: host.into(),
        ..hello
    };
    hellos.push(&TlsRecord {
        head: &head,
        hello: &probe_hello,
        confirmed: Confirmed::Followed,
    });
    (requests, hellos)
}

async fn insert<B: Block>(store: &Store, block: &mut B) -> Result<Vec<u8>, StatementError> {
    let mut bytes = Vec::new();
    block.finish(&mut bytes);
    store
        .insert_block(&B::insert_sql(store.names().logs()), bytes.clone(), None)
        .await?;
    Ok(bytes)
}

async fn insert_marked(store: &Store, marks: &Marks) -> Result<(), VerifyError> {
    let (mut requests, mut hellos) = marked_block(marks, HOST);
    let block = insert(store, &mut requests).await?;
    insert(store, &mut hellos).await?;
    let (mut probes, mut probe_hellos) = marked_block(marks, PROBE_HOST);
    insert(store, &mut probes).await?;
    insert(store, &mut probe_hellos).await?;

    let hello = marked_hello();
    let mut corrections = JoinCorrectionsBlock::new();
    corrections.push(&Correction {
        request_id: EventId { boot: BOOT, seq: 2 },
        request_ts_ns: marks.start_ns + 2 * SECOND_NS,
        corrected_ns: marks.start_ns + 3 * SECOND_NS,
        src_ip: IpAddr::V4(CLIENT).into(),
        host: HOST.into(),
        conn_uid: hello.conn.conn_uid,
        verdict: Match::Asof,
        hello: Some(&hello),
    });
    insert(store, &mut corrections).await?;

    let mut head = Head::new(
        "verify".into(),
        "verify-node".into(),
        EventId { boot: BOOT, seq: 10 },
        marks.start_ns,
    );
    let mut statuses = SourceStatusBlock::new();
    for (next_seq, received) in [(5, 4), (10, 7)] {
        head.recv_ns = Some(marks.start_ns + WallNs::from(u32::try_from(next_seq).unwrap_or(0)) * SECOND_NS);
        let status = Status {
            next_seq,
            dropped: vec![("queue".into(), 2)],
            last: false,
        };
        statuses.push(&SourceStatusRow {
            head: &head,
            status: &status,
            received,
            lost: 1,
            duplicates: 3,
        });
    }
    insert(store, &mut statuses).await?;

    let json = row_json(&block, 3).map_err(|error| VerifyError::Wrong {
        what: "a row of the marked block as JSON".to_owned(),
        expected: "an object".to_owned(),
        found: error.to_string(),
    })?;
    let mut refused = QuarantineBlock::new();
    refused.push(&QuarantinedRow {
        refused_ns: marks.start_ns,
        table: "http_logs",
        batch: "verify",
        row_idx: 3,
        event_id: EventId { boot: BOOT, seq: 3 },
        reason: "only to verify",
        row_json: &json,
    });
    insert(store, &mut refused).await?;
    Ok(())
}

/// What the detector and an analyst would write: two detections on two days, of one client by one model.
async fn insert_detections(store: &Store) -> Result<(), StatementError> {
    let client = format!(
        "toIPv6('{CLIENT}') AS ip, '{JA4}' AS j, '{HOST}' AS h, cityHash64(ip, toLowCardinality(j), toLowCardinality(h)) AS id"
    );
    store
        .execute(&format!(
            "INSERT INTO {{processing}}.ml_detected_anomalies (src_ip, ja4, host, entity_id, model_name, version, detected_at, score, requests)
             WITH {client}
             SELECT ip, j, h, id, 'web/1h', number + 1, now64(6) - toIntervalDay(1 - number), 0.5 + number / 4, 4 FROM numbers(2)"
        ))
        .await?;
    store
        .execute(&format!(
            "INSERT INTO {{processing}}.ml_detection_events (src_ip, ja4, host, entity_id, model_name, detected_at, score)
             WITH {client}
             SELECT ip, j, h, id, 'web/1h', now64(6) - toIntervalDay(intDiv(number, 2)), 0.5 FROM numbers(4)"
        ))
        .await?;
    store
        .execute(&format!(
            "INSERT INTO {{processing}}.soc_lists (kind, value, version, action) VALUES ('ip', '{CLIENT}', 1, 'deny'), ('ip', '{CLIENT}', 2, 'watch')"
        ))
        .await?;
    store
        .execute(
            "INSERT INTO {processing}.ref_asn_ranges (prefix, asn, as_name, country) VALUES ('192.0.2.0/24', 64500, 'VERIFY-AS', 'ZZ')",
        )
        .await?;
    store
        .execute(
            "INSERT INTO {processing}.ref_crawler_ranges (prefix, operator, purpose) VALUES ('192.0.2.0/24', 'verify-bot', 'other')",
        )
        .await?;
    store
        .execute(&format!("INSERT INTO {{processing}}.ref_identities (ja4_norm, client, family) VALUES ('{JA4}', 'verify-client', 'none')"))
        .await?;
    for dictionary in ["dict_asn", "dict_crawler_ranges", "dict_identities", "dict_lists"] {
        store
            .execute(&format!("SYSTEM RELOAD DICTIONARY {{processing}}.{dictionary}"))
            .await?;
    }
    Ok(())
}

/// Table or view with what is asked, the question, and the answer as computed by hand from the marked rows.
fn expectations(marks: &Marks) -> Vec<(&'static str, String, String)> {
    let (hour, hour_end) = (marks.hour(), marks.hour_end());
    let client = format!("src_ip = toIPv6('{CLIENT}')");
    let window = format!("from = {hour}, to = {hour_end}");
    let micros = marks.start_ns / 1_000;
    let hour_of_week = "(toDayOfWeek(hour) - 1) * 24 + toHour(hour)";
    let owned = |what: &'static str, sql: String, expected: &str| (what, sql, expected.to_owned());
    vec![
        owned("http_logs", format!("SELECT count(), countIf(host = '{PROBE_HOST}'), sum(bytes_sent), sum(path_flags), sum(query_params), countIf(ja4 = '{JA4}'), any(headers['accept']), countIf(has(mapKeys(headers), 'host')) FROM {{logs}}.http_logs"), "8 4 2000 22 4 6 */* 0"),
        owned("http_logs (one row)", format!("SELECT toUnixTimestamp64Micro(ts) - {micros}, event_id, conn_uid_hex, match, match_reason, status, duration_us, delta_us, confirmed, direction, tls_flags, tcp_ttl, tcp_options, header_flags, path_template, toString(src_prefix), req_index FROM {{logs}}.http_logs WHERE host = '{HOST}' AND seq = 3"),
            "3000000 6a61345f76657269-3 6a61345f766572690000000000000001 exact  403 2500 1000 followed ingress 44 63 2,4,8,1,3 33554433 /login ::ffff:192.0.2.0 3"),
        owned("tls_logs", format!("SELECT count(), any(ja4_r), any(alpn), hex(any(client_random)), any(views), any(hello_bytes), any(tls_flags), any(conn_flags) FROM {{logs}}.tls_logs WHERE sni = '{HOST}'"),
            &format!("1 t13d1516h2_002f,0035_0005,000a h2,http/1.1 {} ['192.0.2.7:40000>192.0.2.1:443'] 517 44 1", "07".repeat(32))),
        owned("join_corrections", "SELECT count(), any(match), any(ja4), any(seq) FROM {logs}.join_corrections".to_owned(), &format!("1 asof {JA4} 2")),
        owned("source_status", "SELECT count(), sum(next_seq - received - arraySum(mapValues(dropped)) - lost) FROM {logs}.source_status FINAL".to_owned(), "1 0"),
        owned("quarantine", "SELECT count(), any(JSONExtractString(row_json, 'path')), any(JSONExtractUInt(row_json, 'status')) FROM {logs}.quarantine".to_owned(), "1 /login 403"),
        owned("agg_host_ip_ja4_1h", format!("SELECT count(), sum(requests), sum(bytes), max(bytes_max), sum(s4xx), sum(s40x), sum(n_post), sum(n_static), sum(n_probe), sum(params), sum(n_joined), sum(n_conns), sum(n_h2), bitCount(groupBitOr(minutes)), sum(no_referer), max(uri_max), any(any_ua_family), sum(depth) FROM {{processing}}.agg_host_ip_ja4_1h WHERE hour = {hour}"),
            "2 4 1000 400 1 1 1 3 1 2 3 1 4 1 4 21 Verify 7"),
        owned("agg_host_ip_ja4_1h (client)", format!("SELECT sum(requests), any(entity_id) = cityHash64(toIPv6('{CLIENT}'), toLowCardinality('{JA4}'), toLowCardinality('{HOST}')), toUnixTimestamp64Micro(max(last_ts)) - {micros} FROM {{processing}}.agg_host_ip_ja4_1h WHERE {client} AND ja4 = '{JA4}'"), "3 1 3000000"),
        owned("agg_header_fingerprint_1h", "SELECT count(), sum(requests), sum(errors), uniqHLL12Merge(clients), any(any_header_order), any(header_order_hash) FROM {processing}.agg_header_fingerprint_1h".to_owned(), &format!("2 4 1 1 {ORDER} 11")),
        owned("agg_traffic_1m", "SELECT sum(requests), sum(s2xx), sum(s4xx), sum(bytes), sum(joined), sum(secure), sum(h2), uniqExact(host) FROM {processing}.agg_traffic_1m".to_owned(), "4 3 1 1000 3 4 4 1"),
        owned("agg_facet_1h", "SELECT dim, value, sum(requests), sum(errors), uniqHLL12Merge(clients) FROM {processing}.agg_facet_1h WHERE dim IN ('method', 'status', 'match') GROUP BY dim, value ORDER BY dim, value".to_owned(),
            "match exact 3 1 1; match none 1 0 1; method GET 3 0 1; method POST 1 1 1; status 200 3 0 1; status 403 1 1 1"),
        owned("agg_facet_1h (facets)", "SELECT arrayStringConcat(arraySort(groupUniqArray(dim)), ','), sum(requests) FROM {processing}.agg_facet_1h".to_owned(), "asn,country,host,http_version,ja4,match,method,status,ua_family,user_agent 40"),
        owned("first_seen", format!("SELECT kind, any_value, sum(requests), toUnixTimestamp64Micro(min(first_ts)) - {micros} FROM {{processing}}.first_seen GROUP BY kind, any_value ORDER BY kind, any_value"),
            &format!("asn 0 4 0; header_order {ORDER} 4 0; ja4  1 2000000; ja4 {JA4} 3 0; user_agent verify/1 4 0")),
        owned("agg_baseline_hour_of_week", format!("SELECT sum(n_requests), sum(n_errors), sum(n_bytes), any(hour_of_week) = any({hour_of_week}) FROM {{processing}}.agg_baseline_hour_of_week"), "4 1 1000 1"),
        owned("view_ai_features", format!("SELECT requests, s4xx, n_post, n_static, n_login, bytes, n_joined, n_paths, max_per_minute, gap_p50_us, n_conns, one_ttl, active_minutes, max_requests_per_sec, span_s FROM {{processing}}.view_ai_features({window}, shards = 1, shard = 0) WHERE ja4 != ''"),
            "3 1 1 2 1 700 3 2 3 1500000 1 63 1 0 3"),
        owned("view_ai_features (rows)", format!("SELECT count(), sum(requests) FROM {{processing}}.view_ai_features({window}, shards = 1, shard = 0)"), "2 4"),
        owned("view_ai_features_1h", "SELECT countIf(host != 'verify.example'), max(requests) <= 3 FROM {processing}.view_ai_features_1h".to_owned(), "0 1"),
        owned("view_ai_features_24h", "SELECT sum(n), sum(r) FROM (SELECT count() AS n, sum(requests) AS r FROM {processing}.view_ai_features_24h(shards = 2, shard = 0) UNION ALL SELECT count(), sum(requests) FROM {processing}.view_ai_features_24h(shards = 2, shard = 1))".to_owned(), "2 4"),
        owned("view_detected_anomalies", "SELECT count(), round(any(score), 2), any(model_name) FROM {processing}.view_detected_anomalies(n = 10)".to_owned(), "1 0.75 web/1h"),
        owned("view_ip_recurrence", format!("SELECT days_flagged, entities_flagged FROM {{processing}}.view_ip_recurrence WHERE {client}"), "2 1"),
        owned("view_dashboard_entities", format!("SELECT ip, ja4, host, n_requests, n_errors, round(score, 2), model_name, as_name, crawler, list_action FROM {{processing}}.view_dashboard_entities({window}, n = 1)"),
            &format!("::ffff:{CLIENT} {JA4} {HOST} 3 1 0.75 web/1h VERIFY-AS verify-bot watch")),
        owned("view_dashboard_user_agents", format!("SELECT user_agent, n_requests, n_errors, n_clients FROM {{processing}}.view_dashboard_user_agents({window})"), "verify/1 4 1 1"),
        owned("dict_identities", format!("SELECT dictGet('{{processing}}.dict_identities', 'client', tuple('{JA4}'))"), "verify-client"),
    ]
}

/// Sends rows of the reserved host through the real tables and asserts that they arrive and that nothing counts them.
///
/// # Errors
/// If they do not arrive, or a table or view shows them.
pub async fn probe(store: &Store) -> Result<(), VerifyError> {
    let marks = Marks::new(
        store
            .value("SELECT toString(toUnixTimestamp64Nano(now64(9)))", &[])
            .await?,
    );
    let count = format!(
        "SELECT count() FROM {{logs}}.http_logs WHERE host = '{PROBE_HOST}' AND recv_ts > now() - INTERVAL 1 DAY"
    );
    let before: u64 = store
        .value(&count, &[])
        .await?
        .and_then(|n| n.parse().ok())
        .unwrap_or(0);
    let (mut requests, mut hellos) = marked_block(&marks, PROBE_HOST);
    insert(store, &mut requests).await?;
    insert(store, &mut hellos).await?;
    check(
        store,
        "rows of the probe in http_logs",
        &count,
        &(before + 4).to_string(),
    )
    .await?;
    for table in [
        "agg_host_ip_ja4_1h",
        "agg_header_fingerprint_1h",
        "agg_traffic_1m",
        "agg_baseline_hour_of_week",
        "first_seen",
    ] {
        check(
            store,
            table,
            &format!("SELECT count() FROM {{processing}}.{table} WHERE host = '{PROBE_HOST}'"),
            "0",
        )
        .await?;
    }
    check(
        store,
        "agg_facet_1h",
        &format!(
            "SELECT count() FROM {{processing}}.agg_facet_1h WHERE dim = 'host' AND value = '{PROBE_HOST}'"
        ),
        "0",
    )
    .await?;
    let window = format!("from = {}, to = {}", marks.hour(), marks.hour_end());
    let features = format!(
        "SELECT count() FROM {{processing}}.view_ai_features({window}, shards = 1, shard = 0) WHERE host = '{PROBE_HOST}'"
    );
    check(store, "view_ai_features", &features, "0").await
}
