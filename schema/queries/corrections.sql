-- Joins that were corrected after their request was written.
-- for: dashboard
SELECT ts, recv_ts, boot, seq, src_ip, host, match, match_reason, delta_us, lower(hex(conn_uid)) AS conn_uid_digits, ja4, ja4_norm, ja3, sni
FROM {logs}.join_corrections
WHERE recv_ts >= {from:DateTime('UTC')} - INTERVAL 1 DAY AND recv_ts < {to:DateTime('UTC')} + INTERVAL 1 DAY AND ts >= {from:DateTime('UTC')} AND ts < {to:DateTime('UTC')}
    AND host != 'ja4-probe.invalid'
ORDER BY ts DESC
LIMIT {limit:UInt32}
