-- How the requests that pass a filter found their connection, and why not.
-- for: dashboard
SELECT toString(match) AS found, match_reason AS why, count() AS n_requests
FROM {logs}.http_logs
WHERE _partition_id >= toString(toYYYYMMDD({from:DateTime('UTC')} - INTERVAL 1 DAY)) AND _partition_id <= toString(toYYYYMMDD({to:DateTime('UTC')} + INTERVAL 1 DAY))
    AND ts >= {from:DateTime('UTC')} AND ts < {to:DateTime('UTC')}
    AND host != 'ja4-probe.invalid' AND ({filter})
GROUP BY found, why
ORDER BY n_requests DESC
LIMIT 50
