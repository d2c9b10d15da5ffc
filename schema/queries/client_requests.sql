-- One client's requests in a window: its timeline.
-- for: dashboard
SELECT ts, src_ip, src_port, ja4, host, method, path, query, status, bytes_sent, duration_us, user_agent, ua_family, country, asn, match, boot, seq
FROM {logs}.http_logs
WHERE _partition_id >= toString(toYYYYMMDD({from:DateTime('UTC')} - INTERVAL 1 DAY)) AND _partition_id <= toString(toYYYYMMDD({to:DateTime('UTC')} + INTERVAL 1 DAY))
    AND ts >= {from:DateTime('UTC')} AND ts < {to:DateTime('UTC')}
    AND host != 'ja4-probe.invalid'
    AND src_ip = {src_ip:IPv6}
    AND ({ja4:String} = '' OR ja4 = {ja4:String})
ORDER BY ts DESC
LIMIT {limit:UInt32}
