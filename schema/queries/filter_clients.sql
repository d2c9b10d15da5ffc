-- Clients with a request of a window that passes a filter: a part of other queries.
-- for: dashboard
SELECT entity_id
FROM {logs}.http_logs
WHERE _partition_id >= toString(toYYYYMMDD({from:DateTime('UTC')} - INTERVAL 1 DAY)) AND _partition_id <= toString(toYYYYMMDD({to:DateTime('UTC')} + INTERVAL 1 DAY))
    AND ts >= {from:DateTime('UTC')} AND ts < {to:DateTime('UTC')}
    AND host != 'ja4-probe.invalid' AND ({filter})
GROUP BY entity_id
LIMIT 5000000
