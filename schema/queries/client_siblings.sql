-- Other clients with one address in whole hours.
-- for: dashboard
SELECT ja4, host, sum(requests) AS n_requests
FROM {processing}.agg_host_ip_ja4_1h
WHERE src_ip = {src_ip:IPv6} AND hour >= toStartOfHour({from:DateTime('UTC')}) AND hour < {to:DateTime('UTC')}
GROUP BY ja4, host
ORDER BY n_requests DESC, ja4, host
LIMIT {limit:UInt32}
