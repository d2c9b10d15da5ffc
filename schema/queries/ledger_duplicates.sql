-- Rows beyond one for each event, among requests that arrived since a time: 0 when every event is stored once.
-- for: ledger
SELECT count() - uniqExact(source, node, boot, seq) AS n_duplicates
FROM {logs}.http_logs
WHERE recv_ts >= {from:DateTime('UTC')}
LIMIT 1
