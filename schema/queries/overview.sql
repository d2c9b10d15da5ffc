-- Traffic by step, whole minutes, of the hosts that pass a filter.
-- for: dashboard
SELECT toUnixTimestamp(toStartOfInterval(minute, toIntervalSecond({step_s:UInt32}))) AS bucket,
    sum(requests) AS n_requests, sum(s2xx) AS n_2xx, sum(s3xx) AS n_3xx, sum(s4xx) AS n_4xx, sum(s5xx) AS n_5xx,
    sum(bytes) AS n_bytes, sum(joined) AS n_joined, sum(secure) AS n_secure, sum(h2) AS n_h2
FROM {processing}.agg_traffic_1m
WHERE minute >= {from:DateTime('UTC')} AND minute < {to:DateTime('UTC')} AND host != 'ja4-probe.invalid' AND ({filter})
GROUP BY bucket
ORDER BY bucket
LIMIT 10000
