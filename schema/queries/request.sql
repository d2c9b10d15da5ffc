-- Every column of one request.
-- for: dashboard
SELECT *, event_id, conn_uid_hex, entity_id, src_prefix
FROM {logs}.http_logs
WHERE ts = {ts:DateTime64(6, 'UTC')} AND recv_ts >= {ts:DateTime64(6, 'UTC')} - INTERVAL 1 DAY AND recv_ts <= {ts:DateTime64(6, 'UTC')} + INTERVAL 1 DAY
    AND src_ip = {src_ip:IPv6} AND boot = {boot:UInt64} AND seq = {seq:UInt64}
LIMIT 1
