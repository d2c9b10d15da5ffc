-- Traffic by step of the requests that pass a filter.
-- for: dashboard
SELECT intDiv(toUnixTimestamp(ts), {step_s:UInt32}) * {step_s:UInt32} AS bucket,
    count() AS n_requests, countIf(status BETWEEN 200 AND 299) AS n_2xx, countIf(status BETWEEN 300 AND 399) AS n_3xx,
    countIf(status BETWEEN 400 AND 499) AS n_4xx, countIf(status >= 500) AS n_5xx,
    sum(bytes_sent) AS n_bytes, countIf(match != 'none') AS n_joined, countIf(scheme = 'https') AS n_secure, countIf(http_version IN ('2', '3')) AS n_h2
FROM {logs}.http_logs
WHERE _partition_id >= toString(toYYYYMMDD({from:DateTime('UTC')} - INTERVAL 1 DAY)) AND _partition_id <= toString(toYYYYMMDD({to:DateTime('UTC')} + INTERVAL 1 DAY))
    AND ts >= {from:DateTime('UTC')} AND ts < {to:DateTime('UTC')}
    AND host != 'ja4-probe.invalid' AND ({filter})
GROUP BY bucket
ORDER BY bucket
LIMIT 10000
