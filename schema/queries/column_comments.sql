-- Columns of a request with their comments, in order.
-- for: dashboard
SELECT name, comment
FROM system.columns
WHERE database = '{logs}' AND table = 'http_logs'
ORDER BY position
LIMIT 500
