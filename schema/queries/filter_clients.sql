-- Clients with a request of a window that passes a filter: a part of other queries.
-- for: dashboard
SELECT cityHash64(src_ip, ja4, host) AS entity_id
FROM {logs}.http_logs
WHERE recv_ts >= {from:DateTime('UTC')} - INTERVAL 1 DAY AND recv_ts < {to:DateTime('UTC')} + INTERVAL 1 DAY
    AND ts >= {from:DateTime('UTC')} AND ts < {to:DateTime('UTC')}
    AND host != 'ja4-probe.invalid' AND ({filter})
GROUP BY entity_id
LIMIT 5000000
