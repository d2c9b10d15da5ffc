-- What rules would have hit in a window: requests and clients that pass a filter.
-- for: dashboard
SELECT count() AS n_requests, uniqExact(entity_id) AS n_clients
FROM {logs}.http_logs
WHERE _partition_id >= toString(toYYYYMMDD({from:DateTime('UTC')} - INTERVAL 1 DAY)) AND _partition_id <= toString(toYYYYMMDD({to:DateTime('UTC')} + INTERVAL 1 DAY))
    AND ts >= {from:DateTime('UTC')} AND ts < {to:DateTime('UTC')}
    AND host != 'ja4-probe.invalid' AND ({filter})
LIMIT 1
