-- Every aggregate against its recomputation from the raw rows of a window of whole hours: no row of the answer may differ in its two numbers.
-- for: ledger
WITH raw AS
(
    SELECT count() AS n, countIf(status >= 400) AS e, sum(bytes_sent) AS b, countIf(match != 'none') AS j
    FROM {logs}.http_logs
    WHERE _partition_id >= toString(toYYYYMMDD({from:DateTime('UTC')} - INTERVAL 1 DAY)) AND _partition_id <= toString(toYYYYMMDD({to:DateTime('UTC')} + INTERVAL 1 DAY))
    AND ts >= {from:DateTime('UTC')} AND ts < {to:DateTime('UTC')}
    AND host != 'ja4-probe.invalid'
)
SELECT what, counted, expected FROM
(
SELECT 'agg_host_ip_ja4_1h.requests' AS what, toUInt64((SELECT sum(requests) FROM {processing}.agg_host_ip_ja4_1h WHERE hour >= {from:DateTime('UTC')} AND hour < {to:DateTime('UTC')})) AS counted, toUInt64((SELECT n FROM raw)) AS expected
UNION ALL SELECT 'agg_host_ip_ja4_1h.bytes', toUInt64((SELECT sum(bytes) FROM {processing}.agg_host_ip_ja4_1h WHERE hour >= {from:DateTime('UTC')} AND hour < {to:DateTime('UTC')})), toUInt64((SELECT b FROM raw))
UNION ALL SELECT 'agg_header_fingerprint_1h.requests', toUInt64((SELECT sum(requests) FROM {processing}.agg_header_fingerprint_1h WHERE hour >= {from:DateTime('UTC')} AND hour < {to:DateTime('UTC')})), toUInt64((SELECT n FROM raw))
UNION ALL SELECT 'agg_header_fingerprint_1h.errors', toUInt64((SELECT sum(errors) FROM {processing}.agg_header_fingerprint_1h WHERE hour >= {from:DateTime('UTC')} AND hour < {to:DateTime('UTC')})), toUInt64((SELECT e FROM raw))
UNION ALL SELECT 'agg_traffic_1m.requests', toUInt64((SELECT sum(requests) FROM {processing}.agg_traffic_1m WHERE minute >= {from:DateTime('UTC')} AND minute < {to:DateTime('UTC')})), toUInt64((SELECT n FROM raw))
UNION ALL SELECT 'agg_traffic_1m.joined', toUInt64((SELECT sum(joined) FROM {processing}.agg_traffic_1m WHERE minute >= {from:DateTime('UTC')} AND minute < {to:DateTime('UTC')})), toUInt64((SELECT j FROM raw))
UNION ALL SELECT 'agg_baseline_hour_of_week.n_requests', toUInt64((SELECT sum(n_requests) FROM {processing}.agg_baseline_hour_of_week WHERE hour >= {from:DateTime('UTC')} AND hour < {to:DateTime('UTC')})), toUInt64((SELECT n FROM raw))
UNION ALL SELECT concat('agg_facet_1h.', dim), toUInt64(sum(requests)), toUInt64((SELECT n FROM raw)) FROM {processing}.agg_facet_1h WHERE hour >= {from:DateTime('UTC')} AND hour < {to:DateTime('UTC')} GROUP BY dim
UNION ALL SELECT concat('first_seen.', kind), toUInt64(sum(requests)), toUInt64((SELECT count() FROM {logs}.http_logs WHERE host != 'ja4-probe.invalid')) FROM {processing}.first_seen GROUP BY kind
)
ORDER BY what
LIMIT 100
