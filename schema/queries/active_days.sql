-- Days on which each client address was seen, over a window of at most 7 days.
-- for: detector
SELECT src_ip, uniqExact(toDate(hour)) AS days_seen, sum(requests) AS n_requests
FROM {processing}.agg_host_ip_ja4_1h
WHERE hour >= {from:DateTime('UTC')} AND hour < {to:DateTime('UTC')}
GROUP BY src_ip
ORDER BY days_seen DESC, n_requests DESC
LIMIT {limit:UInt32}
