-- Scores with reasons: what each voice said, in which segment, and the structured reasons that a sentence is made of later.
-- The columns that change type were never written before this.
-- kind: forward
-- min_writer: 0.1.0

-- step: ml_detected_anomalies_reasons
ALTER TABLE {processing}.ml_detected_anomalies{local}{on_cluster} MODIFY COLUMN reasons Array(Tuple(voice LowCardinality(String), feature LowCardinality(String), value Float64, median Float64, percentile Float32, contribution Float32, declared String, observed String, source String)) COMMENT 'why, strongest first. voice: forest, robust_z, consistency or group; value and median (of the segment) in the feature''s unit, NaN where there is none; percentile of the segment, 0 to 100; contribution in bits, adds up to evidence_bits over all reasons of the row, the reason of feature ~rest included; declared, observed, source: what a contradiction is between, and the line of the catalogue that says so';

-- step: ml_detection_events_reasons
ALTER TABLE {processing}.ml_detection_events{local}{on_cluster} MODIFY COLUMN reasons Array(Tuple(voice LowCardinality(String), feature LowCardinality(String), value Float64, median Float64, percentile Float32, contribution Float32, declared String, observed String, source String)) COMMENT 'why, strongest first. voice: forest, robust_z, consistency or group; value and median (of the segment) in the feature''s unit, NaN where there is none; percentile of the segment, 0 to 100; contribution in bits, adds up to evidence_bits over all reasons of the row, the reason of feature ~rest included; declared, observed, source: what a contradiction is between, and the line of the catalogue that says so';

-- step: ml_all_scores_reasons
ALTER TABLE {processing}.ml_all_scores{local}{on_cluster} MODIFY COLUMN reasons Array(Tuple(voice LowCardinality(String), feature LowCardinality(String), value Float64, median Float64, percentile Float32, contribution Float32, declared String, observed String, source String)) COMMENT 'why, strongest first. voice: forest, robust_z, consistency or group; value and median (of the segment) in the feature''s unit, NaN where there is none; percentile of the segment, 0 to 100; contribution in bits, adds up to evidence_bits over all reasons of the row, the reason of feature ~rest included; declared, observed, source: what a contradiction is between, and the line of the catalogue that says so';

-- step: ml_group_scores_reasons
ALTER TABLE {processing}.ml_group_scores{local}{on_cluster} MODIFY COLUMN reasons Array(Tuple(voice LowCardinality(String), feature LowCardinality(String), value Float64, median Float64, percentile Float32, contribution Float32, declared String, observed String, source String)) COMMENT 'why, strongest first. voice: forest, robust_z, consistency or group; value and median (of the segment) in the feature''s unit, NaN where there is none; percentile of the segment, 0 to 100; contribution in bits, adds up to evidence_bits over all reasons of the row, the reason of feature ~rest included; declared, observed, source: what a contradiction is between, and the line of the catalogue that says so';

-- step: ml_all_scores_voices
ALTER TABLE {processing}.ml_all_scores{local}{on_cluster} MODIFY COLUMN voices Array(Tuple(voice LowCardinality(String), raw Float32, p_value Float32, contribution Float32)) COMMENT 'every voice: its raw score, its p-value, and its part of evidence_bits';

-- step: ml_detected_anomalies_voices
ALTER TABLE {processing}.ml_detected_anomalies{local}{on_cluster} ADD COLUMN IF NOT EXISTS voices Array(Tuple(voice LowCardinality(String), raw Float32, p_value Float32, contribution Float32)) COMMENT 'every voice: its raw score, its p-value, and its part of evidence_bits' AFTER severity;

-- step: ml_detection_events_voices
ALTER TABLE {processing}.ml_detection_events{local}{on_cluster} ADD COLUMN IF NOT EXISTS voices Array(Tuple(voice LowCardinality(String), raw Float32, p_value Float32, contribution Float32)) COMMENT 'every voice: its raw score, its p-value, and its part of evidence_bits' AFTER severity;

-- step: ml_detected_anomalies_segment
ALTER TABLE {processing}.ml_detected_anomalies{local}{on_cluster} ADD COLUMN IF NOT EXISTS segment LowCardinality(String) COMMENT 'population that the client was compared with: browser, api, declared_bot, no_tls, or all where that is too small' AFTER model_version;

-- step: ml_detected_anomalies_evidence_bits
ALTER TABLE {processing}.ml_detected_anomalies{local}{on_cluster} ADD COLUMN IF NOT EXISTS evidence_bits Float32 COMMENT 'combined score before it is squeezed into 0 to 1: the sum of the reasons'' contributions, bits; clients are ranked by it' AFTER score;

-- step: ml_detection_events_segment
ALTER TABLE {processing}.ml_detection_events{local}{on_cluster} ADD COLUMN IF NOT EXISTS segment LowCardinality(String) COMMENT 'population that the client was compared with: browser, api, declared_bot, no_tls, or all where that is too small' AFTER model_version;

-- step: ml_detection_events_evidence_bits
ALTER TABLE {processing}.ml_detection_events{local}{on_cluster} ADD COLUMN IF NOT EXISTS evidence_bits Float32 COMMENT 'combined score before it is squeezed into 0 to 1: the sum of the reasons'' contributions, bits; clients are ranked by it' AFTER score;

-- step: ml_all_scores_segment
ALTER TABLE {processing}.ml_all_scores{local}{on_cluster} ADD COLUMN IF NOT EXISTS segment LowCardinality(String) COMMENT 'population that the client was compared with: browser, api, declared_bot, no_tls, or all where that is too small' AFTER model_version;

-- step: ml_all_scores_evidence_bits
ALTER TABLE {processing}.ml_all_scores{local}{on_cluster} ADD COLUMN IF NOT EXISTS evidence_bits Float32 COMMENT 'combined score before it is squeezed into 0 to 1: the sum of the reasons'' contributions, bits; clients are ranked by it' AFTER score;

-- step: ml_detected_anomalies_incident_id
ALTER TABLE {processing}.ml_detected_anomalies{local}{on_cluster} ADD COLUMN IF NOT EXISTS incident_id UUID COMMENT 'incident that its alert opened or joined; zero without' AFTER campaign_id;

-- step: ml_all_scores_model_state
ALTER TABLE {processing}.ml_all_scores{local}{on_cluster} ADD COLUMN IF NOT EXISTS model_state LowCardinality(String) COMMENT 'learning, provisional or armed: of the model at this cycle' AFTER model_version;

-- step: ml_detected_anomalies_model_state
ALTER TABLE {processing}.ml_detected_anomalies{local}{on_cluster} ADD COLUMN IF NOT EXISTS model_state LowCardinality(String) COMMENT 'learning, provisional or armed: of the model at this cycle' AFTER model_version;

-- step: ml_cycles_state
ALTER TABLE {processing}.ml_cycles{local}{on_cluster} ADD COLUMN IF NOT EXISTS state LowCardinality(String) COMMENT 'learning, provisional or armed: of the models that scored anybody: each window as far as its least advanced segment, the whole as far as its most advanced window' AFTER alerts;

-- step: ml_cycles_model_states
ALTER TABLE {processing}.ml_cycles{local}{on_cluster} ADD COLUMN IF NOT EXISTS model_states Map(LowCardinality(String), LowCardinality(String)) COMMENT 'the same by model' AFTER alerts;

-- step: ml_cycles_progress
ALTER TABLE {processing}.ml_cycles{local}{on_cluster} ADD COLUMN IF NOT EXISTS progress Map(LowCardinality(String), Float64) COMMENT 'what the state machine counts: entities_ready, entities_needed, minutes_seen, minutes_needed' AFTER alerts;

-- step: ml_cycles_budget
ALTER TABLE {processing}.ml_cycles{local}{on_cluster} ADD COLUMN IF NOT EXISTS budget UInt32 COMMENT 'new incidents that may be opened a day' AFTER alerts;

-- step: ml_cycles_budget_used
ALTER TABLE {processing}.ml_cycles{local}{on_cluster} ADD COLUMN IF NOT EXISTS budget_used UInt32 COMMENT 'new incidents of the last 24 hours, this cycle included' AFTER alerts;

-- step: ml_cycles_suppressed
ALTER TABLE {processing}.ml_cycles{local}{on_cluster} ADD COLUMN IF NOT EXISTS suppressed UInt64 COMMENT 'clients above the threshold that the budget did not let through' AFTER alerts;

-- step: ml_cycles_suppressed_by_label
ALTER TABLE {processing}.ml_cycles{local}{on_cluster} ADD COLUMN IF NOT EXISTS suppressed_by_label UInt64 COMMENT 'clients above the threshold that a label, a list or a published crawler address holds for harmless' AFTER alerts;

-- step: ml_cycles_cpu_ms
ALTER TABLE {processing}.ml_cycles{local}{on_cluster} ADD COLUMN IF NOT EXISTS cpu_ms UInt32 COMMENT 'processor time of the cycle in the detector, milliseconds' AFTER alerts;

-- step: ml_cycles_labels_seen
ALTER TABLE {processing}.ml_cycles{local}{on_cluster} ADD COLUMN IF NOT EXISTS labels_seen UInt64 COMMENT 'version of the newest analyst label that this cycle knew, microseconds since the epoch; 0 for none' AFTER alerts;

-- step: ml_cycles_thresholds
ALTER TABLE {processing}.ml_cycles{local}{on_cluster} MODIFY COLUMN thresholds Map(LowCardinality(String), Float32) COMMENT 'threshold by model, bits of evidence';

-- step: ml_detected_anomalies_threshold
ALTER TABLE {processing}.ml_detected_anomalies{local}{on_cluster} MODIFY COLUMN threshold Float32 COMMENT 'threshold of that cycle, bits of evidence' CODEC(ZSTD(1));

-- step: ml_models_n_excluded
ALTER TABLE {processing}.ml_models{local}{on_cluster} ADD COLUMN IF NOT EXISTS n_excluded UInt64 COMMENT 'clients left out of the training set because they were flagged or labelled' AFTER n_rows;

-- step: ml_models_metrics
ALTER TABLE {processing}.ml_models{local}{on_cluster} ADD COLUMN IF NOT EXISTS metrics Map(LowCardinality(String), Float64) COMMENT 'what the gate measured: alert_rate_held_back, alert_rate_before, and more' AFTER n_excluded;

-- step: soc_labels_label
ALTER TABLE {processing}.soc_labels{local}{on_cluster} MODIFY COLUMN label LowCardinality(String) COMMENT 'bot, legitimate, verified_crawler, unsure';

-- step: soc_audit_act
ALTER TABLE {processing}.soc_audit{local}{on_cluster} MODIFY COLUMN act LowCardinality(String) COMMENT 'what: login, login_failed, logout, label, label_undo, export, rules, password, query';

-- step: view_detected_anomalies
CREATE OR REPLACE VIEW {processing}.view_detected_anomalies{on_cluster} AS
SELECT src_ip, ja4, host, model_name, entity_id, detected_at, first_detected_at, cycles_flagged, model_version, model_state, segment,
    window_start, window_end, score, evidence_bits, threshold, severity, state, requests, campaign_id, incident_id, voices, reasons
FROM {processing}.ml_detected_anomalies
WHERE (entity_id, model_name, version) IN
(
    SELECT entity_id, model_name, max(version)
    FROM {processing}.ml_detected_anomalies
    WHERE host != 'ja4-probe.invalid'
    GROUP BY entity_id, model_name
    ORDER BY argMax(evidence_bits, version) DESC, argMax(detected_at, version) DESC
    LIMIT {n:UInt32}
)
LIMIT 1 BY entity_id, model_name
COMMENT 'current state of the n flagged clients and models with the most evidence, once however many days they span';

-- As in 0007, with what the comparison of declared and observed needs: up to four of what a client may show several of.
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
    n_headers, n_wire, user_agents, http_versions, header_orders, one_navigation_order,
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
        countIf(headers_form != 'none') AS n_headers,
        countIf(effective_source = 'wire') AS n_wire,
        groupUniqArray(4)(user_agent) AS user_agents,
        groupUniqArray(4)(http_version) AS http_versions,
        groupUniqArray(4)(header_order) AS header_orders,
        anyIf(header_order, bitTest(header_flags, 10)) AS one_navigation_order,
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
COMMENT 'what each client did from `from` to `to`, one row per (src_ip, ja4, host) with cityHash64(src_ip) modulo `shards` equal to `shard`. Times in microseconds (_us) or seconds (_s), sizes in bytes; n_x counts requests with x, or distinct x; one_x is the x of any request; one_navigation_order is the header order of a request with Upgrade-Insecure-Requests; user_agents, http_versions and header_orders hold up to four; gaps and entropies are of the first 512 requests. max_requests_per_sec is deprecated, always 0 and never a feature';

-- step: view_ai_features_1h
CREATE OR REPLACE VIEW {processing}.view_ai_features_1h{on_cluster} AS
SELECT * FROM {processing}.view_ai_features(from = now() - INTERVAL 1 HOUR, to = now(), shards = 1, shard = 0)
COMMENT 'view_ai_features of the hour that ends now';

-- step: view_ai_features_24h
CREATE OR REPLACE VIEW {processing}.view_ai_features_24h{on_cluster} AS
SELECT * FROM {processing}.view_ai_features(from = now() - INTERVAL 24 HOUR, to = now(), shards = {shards:UInt8}, shard = {shard:UInt8})
COMMENT 'view_ai_features of the 24 hours that end now, in shards: unsharded it needs more than 500 MB';
