-- Rows of each table that keeps every row sent to it.
-- for: ledger
SELECT table_name, n_rows FROM
(
SELECT 'http_logs' AS table_name, count() AS n_rows FROM {logs}.http_logs
UNION ALL SELECT 'tls_logs', count() FROM {logs}.tls_logs
UNION ALL SELECT 'join_corrections', count() FROM {logs}.join_corrections
UNION ALL SELECT 'quarantine', count() FROM {logs}.quarantine
)
ORDER BY table_name
LIMIT 10
