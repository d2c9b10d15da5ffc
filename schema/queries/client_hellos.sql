-- One client's hellos in a window.
-- for: dashboard
SELECT ts, src_port, dst_ip, dst_port, ja4, ja4_norm, ja4_r, ja3, sni, alpn, tls_version, confirmed, conn_uid_hex, hello_bytes, tls_flags, conn_flags, tcp_ttl, tcp_options
FROM {logs}.tls_logs
WHERE _partition_id >= toString(toYYYYMMDD({from:DateTime('UTC')} - INTERVAL 1 DAY)) AND _partition_id <= toString(toYYYYMMDD({to:DateTime('UTC')} + INTERVAL 1 DAY)) AND ts >= {from:DateTime('UTC')} AND ts < {to:DateTime('UTC')}
    AND src_ip = {src_ip:IPv6} AND sni != 'ja4-probe.invalid'
ORDER BY ts DESC
LIMIT {limit:UInt32}
