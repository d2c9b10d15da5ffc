-- Requests of a window with three filters: text in the user agent, status class, start of the path.
-- for: dashboard
SELECT ts, src_ip, src_port, ja4, host, method, path, query, status, bytes_sent, duration_us, user_agent, ua_family, country, asn, match, boot, seq
FROM {logs}.http_logs
WHERE _partition_id >= toString(toYYYYMMDD({from:DateTime('UTC')} - INTERVAL 1 DAY)) AND _partition_id <= toString(toYYYYMMDD({to:DateTime('UTC')} + INTERVAL 1 DAY))
    AND ts >= {from:DateTime('UTC')} AND ts < {to:DateTime('UTC')}
    AND host != 'ja4-probe.invalid'
    AND user_agent ILIKE {user_agent:String}
    AND intDiv(status, 100) = {status_class:UInt8}
    AND startsWith(path, {path:String})
ORDER BY ts DESC
LIMIT {limit:UInt32}
