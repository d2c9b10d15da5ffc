-- Paths that few clients ask for, host by host.
-- for: detector
SELECT host, toUInt32(cityHash64(path)) AS path_id, uniq(src_ip) AS n_clients, count() AS n_requests
FROM {logs}.http_logs
WHERE recv_ts >= {from:DateTime('UTC')} - INTERVAL 1 DAY AND recv_ts < {to:DateTime('UTC')} + INTERVAL 1 DAY
    AND ts >= {from:DateTime('UTC')} AND ts < {to:DateTime('UTC')}
    AND host != 'ja4-probe.invalid'
GROUP BY host, path
HAVING n_clients < 3
ORDER BY n_requests DESC
LIMIT {limit:UInt32}
