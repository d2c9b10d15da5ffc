-- Requests of a window that pass a filter, newest first, as a file has them.
-- for: dashboard
SELECT ts, src_ip, src_port, ja4, host, method, path, query, status, bytes_sent, duration_us, user_agent, ua_family, referer, country, asn, http_version,
    toString(match) AS found, h2_fp, header_order, event_id
FROM {logs}.http_logs
WHERE _partition_id >= toString(toYYYYMMDD({from:DateTime('UTC')} - INTERVAL 1 DAY)) AND _partition_id <= toString(toYYYYMMDD({to:DateTime('UTC')} + INTERVAL 1 DAY))
    AND ts >= {from:DateTime('UTC')} AND ts < {to:DateTime('UTC')}
    AND host != 'ja4-probe.invalid' AND ({filter})
ORDER BY ts DESC, boot DESC, seq DESC
LIMIT {limit:UInt32}
