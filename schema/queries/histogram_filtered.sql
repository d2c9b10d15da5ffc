-- Requests by step that pass a filter.
-- for: dashboard
SELECT intDiv(toUnixTimestamp(ts), {step_s:UInt32}) * {step_s:UInt32} AS bucket, count() AS n_requests, countIf(status >= 400) AS n_errors, sum(bytes_sent) AS n_bytes
FROM {logs}.http_logs
WHERE _partition_id >= toString(toYYYYMMDD({from:DateTime('UTC')} - INTERVAL 1 DAY)) AND _partition_id <= toString(toYYYYMMDD({to:DateTime('UTC')} + INTERVAL 1 DAY))
    AND ts >= {from:DateTime('UTC')} AND ts < {to:DateTime('UTC')}
    AND host != 'ja4-probe.invalid' AND ({filter})
GROUP BY bucket
ORDER BY bucket
LIMIT 10000
