-- The last hellos.
-- for: dashboard
SELECT ts, src_ip, src_port, dst_ip, dst_port, ja4, ja3, sni, alpn, tls_version, confirmed, conn_uid_hex
FROM {logs}.tls_logs
WHERE recv_ts > now() - toIntervalSecond({seconds:UInt32}) AND ts > now() - toIntervalSecond({seconds:UInt32} + 86400)
    AND sni != 'ja4-probe.invalid'
ORDER BY ts DESC
LIMIT {limit:UInt32}
