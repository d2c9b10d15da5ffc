-- The last requests: sixteen columns, the rest on a click (request.sql).
-- for: dashboard
SELECT ts, src_ip, src_port, ja4, host, method, path, query, status, bytes_sent, duration_us, user_agent, ua_family, country, asn, match, boot, seq
FROM {logs}.http_logs
WHERE recv_ts > now() - toIntervalSecond({seconds:UInt32}) AND ts > now() - toIntervalSecond({seconds:UInt32} + 86400)
    AND host != 'ja4-probe.invalid'
ORDER BY ts DESC
LIMIT {limit:UInt32}
