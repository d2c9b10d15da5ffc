-- What is read: each view is named by a file in queries/ or by another view. A day on both sides of recv_ts suffices to
-- skip partitions: ts is never more than a day from arrival.
-- kind: forward
-- min_writer: 0.1.0

-- The detector's input from raw rows: gaps, entropies and transitions need the rows themselves (a materialized view sees
-- one insert block only). Shards by address keep the memory of a day below 250 MB. Unconfirmed connections are left out: a
-- lone packet may be forged.
-- step: view_ai_features
CREATE OR REPLACE VIEW {processing}.view_ai_features{on_cluster} AS
SELECT
    src_ip, ja4, host, requests, first_ts, last_ts,
    dateDiff('second', first_ts, last_ts) AS span_s,
    least(dateDiff('second', {from:DateTime('UTC')}, {to:DateTime('UTC')}), dateDiff('second', first_ts, {to:DateTime('UTC')})) AS exposure_s,
    n_minutes AS active_minutes,
    night_requests,
    s3xx, s304, s4xx, s404, s40x, s5xx, n_statuses, n_unended,
    n_get, n_post, n_head, n_options,
    bytes, bytes_q[1] AS bytes_p50, bytes_q[2] AS bytes_p95,
    n_static, n_favicon, n_robots, n_login, n_admin, n_dotfile, n_suspicious, n_api,
    params, uri_max, depth_mean,
    no_referer, no_language, no_encoding, no_sec_fetch, n_client_hints, n_cookie, header_count_mean, header_flags_or, header_flags_and,
    n_header_orders, one_header_order_hash,
    n_user_agents, one_user_agent, one_ua_family, n_h2, one_h2_fp, n_h2_fps,
    n_resumed, n_early_data, n_ech, n_pq, n_sni, one_alpn, one_tls_version, one_ja4_norm, n_ja3, one_hello_bytes,
    one_ttl, one_window, one_mss, one_wscale, one_tcp_options, syn_to_hello_p50_us,
    n_conns, n_sessions, n_joined, n_ambiguous, n_contradicting, min_confirmed,
    one_country, one_asn,
    toUInt32(0) AS max_requests_per_sec, -- deprecated, always 0, never a feature
    length(times) AS n_events,
    if(n_events > 1, arraySlice(arrayDifference(times), 2), []) AS gaps_us,
    arrayReduce('quantiles(0.5, 0.95)', gaps_us) AS gap_q,
    gap_q[1] AS gap_p50_us,
    gap_q[2] AS gap_p95_us,
    arrayReduce('avg', gaps_us) AS gap_mean_us,
    arrayReduce('stddevPop', gaps_us) AS gap_sd_us,
    if(length(gaps_us) > 2, arrayReduce('corr', arrayPopBack(gaps_us), arrayPopFront(gaps_us)), 0) AS gap_lag1,
    if(n_events > 1, arrayCount(g -> g < 50000, gaps_us) / length(gaps_us), 0) AS gap_fast_share,
    arrayReduce('max', arrayReduce('sumMap', [arrayMap(t -> intDiv(t, 60000000), times)], [arrayMap(t -> toUInt32(1), times)]).2) AS max_per_minute,
    arrayReduce('uniqExact', paths) AS n_paths,
    arrayReduce('entropy', paths) AS path_entropy,
    if(n_events > 1, arrayReduce('entropy', arrayMap((a, b) -> bitXor(a * 3, b), arrayPopBack(paths), arrayPopFront(paths))), 0) AS transition_entropy
FROM
(
    SELECT
        src_ip, ja4, host,
        count() AS requests,
        min(ts) AS first_ts,
        max(ts) AS last_ts,
        uniqExact(toStartOfMinute(ts)) AS n_minutes,
        countIf(toHour(ts) < 6) AS night_requests,
        countIf(status BETWEEN 300 AND 399) AS s3xx,
        countIf(status = 304) AS s304,
        countIf(status BETWEEN 400 AND 499) AS s4xx,
        countIf(status = 404) AS s404,
        countIf(status IN (401, 403)) AS s40x,
        countIf(status >= 500) AS s5xx,
        uniq(status) AS n_statuses,
        countIf(status = 0) AS n_unended,
        countIf(method = 'GET') AS n_get,
        countIf(method = 'POST') AS n_post,
        countIf(method = 'HEAD') AS n_head,
        countIf(method = 'OPTIONS') AS n_options,
        sum(bytes_sent) AS bytes,
        quantiles(0.5, 0.95)(bytes_sent) AS bytes_q,
        countIf(bitTest(path_flags, 0)) AS n_static,
        countIf(bitTest(path_flags, 1)) AS n_favicon,
        countIf(bitTest(path_flags, 2)) AS n_robots,
        countIf(bitTest(path_flags, 3)) AS n_login,
        countIf(bitTest(path_flags, 4)) AS n_admin,
        countIf(bitTest(path_flags, 5)) AS n_dotfile,
        countIf(bitTest(path_flags, 6)) AS n_suspicious,
        countIf(bitTest(path_flags, 7)) AS n_api,
        sum(query_params) AS params,
        max(uri_bytes) AS uri_max,
        avg(path_depth) AS depth_mean,
        countIf(NOT bitTest(header_flags, 4)) AS no_referer,
        countIf(NOT bitTest(header_flags, 1)) AS no_language,
        countIf(NOT bitTest(header_flags, 2)) AS no_encoding,
        countIf(bitAnd(header_flags, 224) = 0) AS no_sec_fetch,
        countIf(bitTest(header_flags, 9)) AS n_client_hints,
        countIf(bitTest(header_flags, 3)) AS n_cookie,
        avg(header_count) AS header_count_mean,
        groupBitOr(header_flags) AS header_flags_or,
        groupBitAnd(header_flags) AS header_flags_and,
        uniq(header_order_hash) AS n_header_orders,
        any(header_order_hash) AS one_header_order_hash,
        uniq(user_agent) AS n_user_agents,
        any(user_agent) AS one_user_agent,
        any(ua_family) AS one_ua_family,
        countIf(http_version IN ('2', '3')) AS n_h2,
        any(h2_fp) AS one_h2_fp,
        uniq(h2_fp) AS n_h2_fps,
        countIf(bitTest(tls_flags, 0)) AS n_resumed,
        countIf(bitTest(tls_flags, 4)) AS n_early_data,
        countIf(bitTest(tls_flags, 1)) AS n_ech,
        countIf(bitTest(tls_flags, 3)) AS n_pq,
        countIf(bitTest(tls_flags, 5)) AS n_sni,
        any(alpn) AS one_alpn,
        any(tls_version) AS one_tls_version,
        any(ja4_norm) AS one_ja4_norm,
        uniq(ja3) AS n_ja3,
        any(hello_bytes) AS one_hello_bytes,
        any(tcp_ttl) AS one_ttl,
        any(tcp_window) AS one_window,
        any(tcp_mss) AS one_mss,
        any(tcp_wscale) AS one_wscale,
        any(tcp_options) AS one_tcp_options,
        quantile(0.5)(syn_to_hello_us) AS syn_to_hello_p50_us,
        uniq(conn_uid) AS n_conns,
        uniq(session_hash) AS n_sessions,
        countIf(match != 'none') AS n_joined,
        countIf(match = 'ambiguous') AS n_ambiguous,
        countIf(contradictions != '') AS n_contradicting,
        min(confirmed) AS min_confirmed,
        any(country) AS one_country,
        any(asn) AS one_asn,
        arraySort(x -> x.1, groupArray(512)((toUnixTimestamp64Micro(ts), toUInt32(cityHash64(path))))) AS events,
        events.1 AS times,
        events.2 AS paths
    FROM {logs}.http_logs
    WHERE ts >= {from:DateTime('UTC')} AND ts < {to:DateTime('UTC')}
        AND recv_ts >= {from:DateTime('UTC')} - INTERVAL 1 DAY AND recv_ts < {to:DateTime('UTC')} + INTERVAL 1 DAY
        AND cityHash64(src_ip) % {shards:UInt8} = {shard:UInt8}
        AND direction NOT IN ('egress', 'internal')
        AND (conn_uid = 0 OR confirmed != 'none')
        AND host != 'ja4-probe.invalid'
    GROUP BY src_ip, ja4, host
)
COMMENT 'what each client did from `from` to `to`, one row per (src_ip, ja4, host) with cityHash64(src_ip) modulo `shards` equal to `shard`. Times in microseconds (_us) or seconds (_s), sizes in bytes; n_x counts requests with x, or distinct x; one_x is the x of any request; gaps and entropies are of the first 512 requests. max_requests_per_sec is deprecated, always 0 and never a feature';

-- step: view_ai_features_1h
CREATE OR REPLACE VIEW {processing}.view_ai_features_1h{on_cluster} AS
SELECT * FROM {processing}.view_ai_features(from = now() - INTERVAL 1 HOUR, to = now(), shards = 1, shard = 0)
COMMENT 'view_ai_features of the hour that ends now';

-- step: view_ai_features_24h
CREATE OR REPLACE VIEW {processing}.view_ai_features_24h{on_cluster} AS
SELECT * FROM {processing}.view_ai_features(from = now() - INTERVAL 24 HOUR, to = now(), shards = {shards:UInt8}, shard = {shard:UInt8})
COMMENT 'view_ai_features of the 24 hours that end now, in shards: unsharded it needs more than 500 MB';

-- The keys first, from narrow columns, then the rows: sorting every flagged client with its reasons took 80 ms for 140 000.
-- step: view_detected_anomalies
CREATE OR REPLACE VIEW {processing}.view_detected_anomalies{on_cluster} AS
SELECT src_ip, ja4, host, model_name, entity_id, detected_at, first_detected_at, cycles_flagged, model_version,
    window_start, window_end, score, threshold, severity, state, requests, campaign_id, reasons
FROM {processing}.ml_detected_anomalies
WHERE (entity_id, model_name, version) IN
(
    SELECT entity_id, model_name, max(version)
    FROM {processing}.ml_detected_anomalies
    WHERE host != 'ja4-probe.invalid'
    GROUP BY entity_id, model_name
    ORDER BY argMax(score, version) DESC, argMax(detected_at, version) DESC
    LIMIT {n:UInt32}
)
LIMIT 1 BY entity_id, model_name
COMMENT 'current state of the n flagged clients and models with the highest scores, once however many days they span';

-- step: view_ip_recurrence
CREATE OR REPLACE VIEW {processing}.view_ip_recurrence{on_cluster} AS
SELECT src_ip,
    uniqExact(toDate(detected_at)) AS days_flagged,
    uniqExact(entity_id) AS entities_flagged,
    min(detected_at) AS first_flagged_at,
    max(detected_at) AS last_flagged_at,
    max(score) AS score_max
FROM {processing}.ml_detection_events
WHERE detected_at >= now() - INTERVAL 7 DAY AND host != 'ja4-probe.invalid'
GROUP BY src_ip
COMMENT 'days on which an address was flagged, over 7 days at most; ask for one address or for flagged ones';

-- step: view_dashboard_entities
CREATE OR REPLACE VIEW {processing}.view_dashboard_entities{on_cluster} AS
WITH
    -- A scalar, computed once for the two that ask for it.
    (
        SELECT groupArray(id) FROM
        (
            SELECT entity_id AS id
            FROM {processing}.agg_host_ip_ja4_1h
            WHERE hour >= {from:DateTime('UTC')} AND hour < {to:DateTime('UTC')}
            GROUP BY entity_id
            ORDER BY sum(requests) DESC, entity_id
            LIMIT {n:UInt32}
        )
    ) AS top,
    clients AS
    (
        SELECT entity_id AS id, any(src_ip) AS ip, any(ja4) AS client_ja4, any(host) AS client_host,
            sum(requests) AS n_requests, sum(s4xx) + sum(s5xx) AS n_errors, sum(bytes) AS n_bytes,
            min(first_ts) AS first_seen_at, max(last_ts) AS last_seen_at,
            any(any_country) AS country, any(any_asn) AS asn, any(any_ua_family) AS ua_family
        FROM {processing}.agg_host_ip_ja4_1h
        WHERE hour >= {from:DateTime('UTC')} AND hour < {to:DateTime('UTC')} AND entity_id IN (SELECT arrayJoin(top))
        GROUP BY entity_id
    ),
    -- As in view_detected_anomalies, but of these clients only.
    flagged AS
    (
        SELECT entity_id AS id, max(score) AS score_max, argMax(model_name, score) AS model, argMax(reasons, score) AS why
        FROM
        (
            SELECT entity_id, model_name, score, reasons
            FROM {processing}.ml_detected_anomalies
            WHERE host != 'ja4-probe.invalid' AND entity_id IN (SELECT arrayJoin(top))
            ORDER BY version DESC
            LIMIT 1 BY entity_id, model_name
        )
        GROUP BY entity_id
    )
SELECT clients.id AS entity_id, ip, client_ja4 AS ja4, client_host AS host, n_requests, n_errors, n_bytes, first_seen_at, last_seen_at,
    country, asn, dictGetOrDefault('{processing}.dict_asn', 'as_name', ip, '') AS as_name, ua_family,
    dictGetOrDefault('{processing}.dict_crawler_ranges', 'operator', ip, '') AS crawler,
    dictGetOrDefault('{processing}.dict_lists', 'action', tuple('ip', replaceOne(IPv6NumToString(ip), '::ffff:', '')), '') AS list_action,
    flagged.score_max AS score, flagged.model AS model_name, flagged.why AS reasons
FROM clients
LEFT JOIN flagged ON clients.id = flagged.id
ORDER BY n_requests DESC
COMMENT 'the n clients with most requests from `from` to `to` (whole hours): who they are, what they did, what the detector says';

-- step: view_dashboard_user_agents
CREATE OR REPLACE VIEW {processing}.view_dashboard_user_agents{on_cluster} AS
SELECT value AS user_agent, sum(requests) AS n_requests, sum(errors) AS n_errors, sum(bytes) AS n_bytes, uniqHLL12Merge(clients) AS n_clients
FROM {processing}.agg_facet_1h
WHERE dim = 'user_agent' AND hour >= {from:DateTime('UTC')} AND hour < {to:DateTime('UTC')}
GROUP BY value
COMMENT 'user agents from `from` to `to` (whole hours) with their requests, errors and clients';
