-- Rows that the store refused lately.
-- for: dashboard
SELECT recv_ts, table_name, batch, row_idx, boot, seq, reason, row_json
FROM {logs}.quarantine
WHERE recv_ts >= {from:DateTime('UTC')} AND recv_ts < {to:DateTime('UTC')}
ORDER BY recv_ts DESC
LIMIT {limit:UInt32}
